"""Torn writes: the write-ahead log is cut or garbled where a power cut may have torn it.

What was synced before the last Ctrl-Z is whole; anything written later may be gone. The database is
opened, the modem has lived on, and nothing is sent twice.
"""

from __future__ import annotations

import random
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

import smsbox
from rig.played import (
    Far,
    Play,
    PlayedBox,
    close,
    find_problems,
    number_of,
    replace_modem,
    write_text,
)


class Moment(NamedTuple):
    """What would be found after a power cut between the Ctrl-Z of one segment and the next."""

    at: datetime
    database: bytes
    log: bytes  # the write-ahead log, up to the last commit before the next Ctrl-Z
    durable: int  # bytes of it that were synced before the Ctrl-Z
    synced_before: int  # the same for the commit before that one
    taken: tuple[str, ...]


class Watched(Far):
    """A modem that keeps a copy of the database at each Ctrl-Z."""

    def __init__(self, play: Play, path: str) -> None:
        super().__init__(play)
        self.moments: list[Moment] = []
        self._path = Path(path)
        self._open: tuple[int, int] | None = None  # of the moment that has begun
        self._commits = [0]

    def write(self, data: bytes) -> None:
        if data.endswith(b"\x1a"):
            self.end_moment()
            self._open = self._commits[-1], self._commits[-2]
        super().write(data)

    def note_commit(self) -> None:
        self._commits.append(Path(f"{self._path}-wal").stat().st_size)

    def end_moment(self) -> None:
        if self._open is not None:
            log = Path(f"{self._path}-wal").read_bytes()
            taken = tuple(text for _, _, text in self.arrived)
            self.moments.append(
                Moment(self._play.now(), self._path.read_bytes(), log, *self._open, taken)
            )


def record_moments(folder: Path, now: datetime, monkeypatch: pytest.MonkeyPatch) -> list[Moment]:
    made = PlayedBox(folder, now)
    made.serve(60)  # the day's copy is made, and will not cut the log in between
    far = Watched(made.play, made.path)
    replace_modem(made, far)
    for place in range(3):
        made.insert(number_of(place), write_text(place), in_s=300 * place)
    change = smsbox.Database.change

    def watched(database: smsbox.Database, sql: str, *given: object, **named: object) -> int:
        done = change(database, sql, *given, **named)
        if not database._connection.in_transaction:
            far.note_commit()
        return done

    with monkeypatch.context() as patch:
        patch.setattr(smsbox.Database, "change", watched)
        made.serve(drain=True)
    far.end_moment()
    close(made)
    return far.moments


def tear(moment: Moment, rng: random.Random, begin: int) -> bytes:
    """Cut the log somewhere behind `begin`, or fill it with what a card may show instead."""
    cut = rng.randint(begin, len(moment.log))
    lost = len(moment.log) - cut
    tail = rng.choice((b"", bytes(lost), rng.randbytes(lost), moment.log[cut:][::-1]))
    return moment.log[:cut] + tail


def open_torn(folder: Path, moment: Moment, log: bytes) -> list[str]:
    """Go on with a torn database and the modem that lived on; what is wrong afterwards."""
    folder.mkdir()
    (folder / "smsbox.db").write_bytes(moment.database)
    (folder / "smsbox.db-wal").write_bytes(log)
    made = PlayedBox(folder, moment.at + timedelta(seconds=60))
    made.far.modem.reference = len(moment.taken)
    try:
        made.serve(drain=True)
        return find_problems(made, [*moment.taken, *made.texts()])
    finally:
        close(made)
        shutil.rmtree(folder)


@pytest.mark.parametrize("count", [80, pytest.param(3000, marks=pytest.mark.long)])
def test_database_torn_behind_the_last_ctrl_z_sends_nothing_twice_and_opens(
    tmp_path: Path, now: datetime, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = record_moments(tmp_path, now, monkeypatch)
    assert len(moments) == 12
    assert all(each.durable < len(each.log) for each in moments)
    rng = random.Random(count)
    for place in range(count):
        moment = moments[place % len(moments)]
        log = tear(moment, rng, moment.durable)
        problems = open_torn(tmp_path / f"torn{place}", moment, log)
        assert not problems, (place, len(moment.taken), problems)


def test_log_that_lost_the_commit_before_ctrl_z_would_send_twice(
    tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is why that commit is durable before the modem acts: the rig would see it."""
    moment = record_moments(tmp_path, now, monkeypatch)[4]
    log = moment.log[: moment.synced_before]
    problems = open_torn(tmp_path / "torn", moment, log)
    assert any("taken 2 times" in each for each in problems)
