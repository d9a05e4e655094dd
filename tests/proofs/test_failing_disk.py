"""A disk that is full or fails: nothing is claimed or sent; what was sent is written down later."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest

import smsbox
from rig.played import PlayedBox, close, find_problems, number_of, write_text

WORDS = {"full": "database or disk is full", "failing": "disk I/O error"}
STATEMENTS = {"begin": "BEGIN", "change": "UPDATE|INSERT", "commit": "COMMIT"}


class Disk:
    """Lets statements of one sort fail for a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, words: str, statements: str) -> None:
        self.fails = False
        self.failures = 0
        beginnings = tuple(statements.split("|"))

        def wrap(name: str) -> None:
            real = getattr(smsbox.Database, name)

            def wrapped(
                database: smsbox.Database, sql: str, *given: object, **named: object
            ) -> object:
                if self.fails and sql.startswith(beginnings):
                    self.failures += 1
                    with smsbox._sqlite_words(database.path):
                        raise sqlite3.OperationalError(words)
                return real(database, sql, *given, **named)

            monkeypatch.setattr(smsbox.Database, name, wrapped)

        for name in ("change", "change_many", "insert", "all", "one"):
            wrap(name)


@pytest.fixture(params=[(word, step) for word in WORDS for step in STATEMENTS], ids="-".join)
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Disk:
    word, step = request.param
    return Disk(monkeypatch, WORDS[word], STATEMENTS[step])


def fails(box: PlayedBox, disk: Disk, from_s: float, to_s: float) -> None:
    box.after(from_s, lambda: setattr(disk, "fails", True))
    box.after(to_s, lambda: setattr(disk, "fails", False))


def shown(box: PlayedBox) -> str:
    """What the red lamp shows last."""
    return box.wall.shown[-1].fault.value


def assert_sent_once(box: PlayedBox, rows: Sequence[int]) -> None:
    assert not find_problems(box, box.texts())
    assert [box.row(row)[0] for row in rows] == ["sent"] * len(rows)


def test_nothing_is_claimed_or_sent_while_the_disk_fails_and_it_recovers_by_itself(
    box: PlayedBox, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    row = box.insert(number_of(0), write_text(0), in_s=60)
    fails(box, disk, 30, 400)
    seen: list[object] = []

    def look() -> None:
        claimed = box.sql("SELECT count(*) FROM messages")[0][0]
        seen.append((claimed, len(box.texts()), box.row(row)[0], shown(box)))

    box.after(390, look)
    box.serve(600)
    assert disk.failures
    assert seen == [(0, 0, "scheduled", "database or disk")]
    assert sum("smsbox.db: " in each.message for each in caplog.records) == 1  # told once
    assert_sent_once(box, [row])
    assert shown(box) == "none"


def test_status_says_that_the_disk_fails(box: PlayedBox, disk: Disk) -> None:
    box.insert(number_of(0), write_text(0), in_s=60)
    fails(box, disk, 30, 400)
    box.serve(390)
    assert box.published[-1]["fault"] == "database or disk"


def test_start_with_a_disk_that_fails_waits_for_it(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, WORDS["full"], STATEMENTS["change"])
    row = box.insert(number_of(0), write_text(0))
    fails(box, disk, 0, 60)
    disk.fails = True
    box.serve(drain=True)
    assert_sent_once(box, [row])


def test_sim_that_was_changed_while_the_disk_failed_still_pauses_the_box(
    box: PlayedBox, disk: Disk
) -> None:
    box.insert(number_of(0), "before")
    box.serve(60)
    box.far.answers[b"AT+CCID\r"] = b"\r\n+CCID: 8901260000000004242\r\n\r\nOK\r\n"
    box.insert(number_of(1), "not from another number", in_s=300)
    box.far.gone = True
    box.after(10, lambda: setattr(box.far, "gone", False))
    fails(box, disk, 5, 100)
    box.serve(600)
    assert box.texts() == ["before"]
    assert "another SIM" in (box.database.state.get("paused_because") or "")


@pytest.mark.parametrize("statements", ["BEGIN", "SELECT"])
def test_daemon_does_not_spin_while_the_disk_fails_and_the_modem_speaks(
    box: PlayedBox, statements: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, WORDS["failing"], statements)
    row = box.insert(number_of(0), write_text(0))
    box.far.script.append(lambda: setattr(disk, "fails", True))
    box.after(100, lambda: setattr(box.far, "said", b"\r\nRING\r\n"))
    box.after(200, lambda: setattr(disk, "fails", False))
    box.serve(drain=True)  # the clock of this play counts the turns
    assert_sent_once(box, [row])


@pytest.mark.parametrize("segment", [1, 2, 4])
def test_segment_that_was_sent_but_not_written_down_is_written_later_and_never_sent_again(
    box: PlayedBox, disk: Disk, segment: int
) -> None:
    rows = [box.insert(number_of(place), write_text(place), 300 * place) for place in range(2)]
    box.far.script.extend([None] * (segment - 1))
    box.far.script.append(lambda: setattr(disk, "fails", True))
    seen: list[tuple[int, str]] = []
    box.after(190, lambda: seen.append((len(box.texts()), shown(box))))
    box.after(200, lambda: setattr(disk, "fails", False))
    box.serve(drain=True)
    assert disk.failures
    assert seen == [(segment, "database or disk")]
    assert_sent_once(box, rows)


def test_restart_while_a_sent_segment_is_owed_to_the_disk_sends_nothing_twice(
    box: PlayedBox, disk: Disk
) -> None:
    rows = [box.insert(number_of(place), write_text(place), 300 * place) for place in range(2)]
    box.far.script.extend([None, lambda: setattr(disk, "fails", True)])
    box.serve(100)
    disk.fails = False
    box.serve(drain=True)
    assert not find_problems(box, box.texts())
    assert [box.row(row)[0] for row in rows] == ["failed", "sent"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of eight megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("texts_before", [0, 1, 2, 3, 4])
def test_disk_that_is_really_full_sends_nothing_twice_and_loses_nothing(
    small_disk: Path, now: datetime, texts_before: int
) -> None:
    made = PlayedBox(small_disk, now)
    ballast = small_disk / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    rows = [made.insert(number_of(place), write_text(place), 300 * place) for place in range(3)]
    if texts_before:
        made.far.script.extend([None] * (texts_before - 1))
        made.far.script.append(fill)
    else:
        fill()
    seen: list[tuple[int, str]] = []
    made.after(190, lambda: seen.append((len(made.texts()), shown(made))))
    made.after(200, ballast.unlink)
    made.serve(drain=True)
    ((sent_meanwhile, lamp),) = seen
    assert sent_meanwhile <= texts_before + 1  # what the log still had room for
    assert lamp == "database or disk"
    assert_sent_once(made, rows)
    close(made)
