"""What the tests share: settings, a store on disk, seeded chance."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import smsbox  # noqa: E402 (found by the path above)

pytest.register_assert_rewrite("rig")


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
