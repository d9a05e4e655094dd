"""What the tests share: settings, a store on disk, seeded chance, and the boxes of tests/rig."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

pytest.register_assert_rewrite("rig")
# A busy machine is no failure; speed is shown by tests/bench.py.
settings.register_profile("smsbox", deadline=None)
settings.load_profile("smsbox")

import smsbox  # noqa: E402 (found by the path above)
from rig.desk import Desk, Operator  # noqa: E402
from rig.played import PlayedBox, close  # noqa: E402
from rig.process import LiveBox  # noqa: E402
from rig.pty_modem import PtyModem  # noqa: E402
from rig.story import Story  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the whole of the proofs")
    parser.addoption("--golden", action="store_true", help="write the golden files anew")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    for item in items:
        if "long" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="runs with --long"))


@pytest.fixture
def rng() -> random.Random:
    return random.Random(1)


@pytest.fixture
def config() -> smsbox.Config:
    """The defaults."""
    return smsbox.parse_config({})


@pytest.fixture
def hours(config: smsbox.Config) -> smsbox.BusinessHours:
    return config.business_hours


@pytest.fixture
def database(tmp_path: Path) -> Iterator[smsbox.Database]:
    """A fresh database on disk."""
    opened = smsbox.Database.create_or_open(str(tmp_path / "smsbox.db"))
    yield opened
    opened.close()


@pytest.fixture
def now() -> datetime:
    """A Sunday morning in Los Angeles, in the business hours: 10:00 PST."""
    return datetime(2025, 11, 9, 18, 0, tzinfo=timezone.utc)


# --- the boxes


@pytest.fixture
def box(tmp_path: Path, now: datetime) -> Iterator[PlayedBox]:
    """A box that is played in this process."""
    made = PlayedBox(tmp_path, now)
    yield made
    close(made)


@pytest.fixture
def operator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Operator:
    """The operator before a database, without a daemon; the commands run in this process."""
    monkeypatch.delenv("SMSBOX_CONFIG", raising=False)
    monkeypatch.delenv("SUDO_USER", raising=False)
    made = Operator(tmp_path, capsys, monkeypatch)
    made.lay_down()
    return made


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """The operator before an empty folder; the commands are processes."""
    folder = tmp_path / "desk"
    folder.mkdir()
    opened = Desk(folder)
    yield opened
    opened.close()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveBox]:
    """A box with a modem behind a pseudo-terminal; its daemon is a process."""
    with PtyModem(tmp_path) as modem:
        made = LiveBox(tmp_path, modem)
        yield made
        made.close()


@pytest.fixture
def story(live: LiveBox) -> Story:
    """What the operator of a real box does and reads."""
    return Story(live)
