"""Power cuts and failing disks, played in one process: real store, driver and scheduler, a modem
in software, a clock that waits for nobody.

Torn writes, disks that are full or fail, and a month with a power cut a day.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from test_service import Box, Far, Play

import smsbox

UTC = timezone.utc
CRSM = b"AT+CRSM=176,28483,0,0,2\r"
REFUSAL = b"\r\n+CME ERROR: 4\r\n"
KINDS = pytest.mark.parametrize("readable", [True, False], ids=["readable", "unreadable"])


class Cut(BaseException):
    """The power is gone."""


def replace_modem(box: Box, far: Far) -> None:
    for end in box.far._ends:
        end.close()
    box.far = far


def close(box: Box) -> None:
    replace_modem(box, box.far)
    box.hand.close()
    box.database.close()


@pytest.fixture
def box(tmp_path: Path, now: datetime) -> Iterator[Box]:
    made = Box(tmp_path, now)
    yield made
    close(made)


def write_text(place: int) -> str:
    """Three segments and a short bubble; no two segments are alike."""
    words = " ".join(f"{place}.{word:03}" for word in range(55))
    return f"{words} [BUBBLE] The end of {place}"


def number_of(place: int) -> str:
    return f"+1310{2340000 + place}"


def segments_of(number: str, text: str) -> list[str]:
    pdus = [
        pdu
        for bubble in smsbox.split_bubbles(text)
        for pdu, _ in smsbox.encode_submit(bubble, number)
    ]
    return [smsbox.decode_tpdu(pdu, "out").text or "" for pdu in pdus]


def find_problems(box: Box, taken: Sequence[str], may_be_held: bool = False) -> list[str]:
    """Judge by what the modem took: nothing twice, nothing lost without a word."""
    counts = Counter(taken)
    problems = [f"taken {count} times: {text[:20]}" for text, count in counts.items() if count > 1]
    rows = box.sql(
        "SELECT id, phone_number, message_content, status, coalesce(error_message, ''),"
        " coalesce(held_because, '') FROM scheduled_messages"
    )
    for row, number, text, status, words, held in rows:
        segments = segments_of(number, text)
        missing = sum(not counts[segment] for segment in segments)
        found = box.sql(
            "SELECT g.status FROM segments g JOIN messages m ON m.id = g.message_id"
            " WHERE m.scheduled_message_id = ? ORDER BY m.bubble, g.sequence", row,
        )  # fmt: skip
        told = [each[0] for each in found]
        named = status == "failed" and "unconfirmed" in told and "may have been sent" in words
        explained = named or (may_be_held and held.startswith("cut in half"))
        if (status != "sent" and not explained) or (status == "sent" and missing):
            problems.append(f"row {row}: {status}, {missing} missing: {words}{held}")
        for segment, word in zip(segments, told, strict=False):
            if word == "sent" and not counts[segment]:
                problems.append(f"row {row}: called sent, never taken")
        for segment in segments[len(told) :]:
            if counts[segment]:
                problems.append(f"row {row}: taken, not written down")
    return problems


# --- torn writes


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


def record_moments(
    folder: Path, now: datetime, readable: bool, monkeypatch: pytest.MonkeyPatch
) -> list[Moment]:
    made = Box(folder, now)
    far = Watched(made.play, made.path)
    replace_modem(made, far)
    if not readable:
        far.answers[CRSM] = REFUSAL
    for place in range(3):
        made.insert(number_of(place), write_text(place), in_s=300 * place)
    change = smsbox.Database.change

    def watched(database: smsbox.Database, sql: str, given: Sequence[object] = ()) -> int:
        done = change(database, sql, given)
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


def open_torn(folder: Path, moment: Moment, log: bytes, readable: bool) -> list[str]:
    """Go on with a torn database and the modem that lived on; what is wrong afterwards."""
    folder.mkdir()
    (folder / "smsbox.db").write_bytes(moment.database)
    (folder / "smsbox.db-wal").write_bytes(log)
    made = Box(folder, moment.at + timedelta(seconds=60))
    made.far.modem.reference = len(moment.taken)
    if not readable:
        made.far.answers[CRSM] = REFUSAL
    try:
        made.serve(drain=True)
        return find_problems(made, [*moment.taken, *made.texts()])
    finally:
        close(made)
        shutil.rmtree(folder)


@KINDS
@pytest.mark.parametrize("count", [40, pytest.param(1500, marks=pytest.mark.long)])
def test_database_torn_behind_the_last_ctrl_z_sends_nothing_twice_and_opens(
    tmp_path: Path, now: datetime, readable: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = record_moments(tmp_path, now, readable, monkeypatch)
    assert len(moments) == 12
    assert all(each.durable < len(each.log) for each in moments)
    rng = random.Random(count)
    for place in range(count):
        moment = moments[place % len(moments)]
        log = tear(moment, rng, moment.durable)
        problems = open_torn(tmp_path / f"torn{place}", moment, log, readable)
        assert not problems, (place, len(moment.taken), problems)


def test_log_that_lost_the_commit_before_ctrl_z_would_send_twice(
    tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is why that commit is durable before the modem acts: the rig would see it."""
    moment = record_moments(tmp_path, now, False, monkeypatch)[4]
    log = moment.log[: moment.synced_before]
    problems = open_torn(tmp_path / "torn", moment, log, False)
    assert any("taken 2 times" in each for each in problems)


# --- a disk that is full or fails

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

            def wrapped(database: smsbox.Database, sql: str, *given: object) -> object:
                if self.fails and sql.startswith(beginnings):
                    self.failures += 1
                    with smsbox._sqlite_words(database.path):
                        raise sqlite3.OperationalError(words)
                return real(database, sql, *given)

            monkeypatch.setattr(smsbox.Database, name, wrapped)

        for name in ("change", "change_many", "insert", "all", "one"):
            wrap(name)


@pytest.fixture(params=[(word, step) for word in WORDS for step in STATEMENTS], ids="-".join)
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Disk:
    word, step = request.param
    return Disk(monkeypatch, WORDS[word], STATEMENTS[step])


def fails(box: Box, disk: Disk, from_s: float, to_s: float) -> None:
    box.after(from_s, lambda: setattr(disk, "fails", True))
    box.after(to_s, lambda: setattr(disk, "fails", False))


def shown(box: Box) -> str:
    """What the red lamp shows last."""
    return box.wall.shown[-1].fault.value


def assert_sent_once(box: Box, rows: Sequence[int]) -> None:
    assert not find_problems(box, box.texts())
    assert [box.row(row)[0] for row in rows] == ["sent"] * len(rows)


def test_nothing_is_claimed_or_sent_while_the_disk_fails_and_it_recovers_by_itself(
    box: Box, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    row = box.insert(number_of(0), write_text(0), in_s=60)
    fails(box, disk, 30, 400)
    seen: list[object] = []

    def look() -> None:
        claimed = box.sql("SELECT count(*) FROM messages")[0][0]
        seen.append((claimed, len(box.texts()), box.row(row)[0], shown(box)))

    box.after(390, look)
    box.serve(drain=True)
    assert disk.failures
    assert seen == [(0, 0, "scheduled", "database or disk")]
    assert sum("smsbox.db: " in each.message for each in caplog.records) == 1  # told once
    assert_sent_once(box, [row])
    assert shown(box) == "none"


@pytest.mark.xfail(strict=True, reason="only the lamp says it: the status file keeps the old fault")
def test_status_says_that_the_disk_fails(box: Box, disk: Disk) -> None:
    box.insert(number_of(0), write_text(0), in_s=60)
    fails(box, disk, 30, 400)
    box.serve(390)
    assert box.published[-1]["fault"] == "database or disk"


@pytest.mark.xfail(strict=True, reason="the daemon ends: a dark lamp, and nothing in the status")
def test_start_with_a_disk_that_fails_waits_for_it(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, WORDS["full"], STATEMENTS["change"])
    row = box.insert(number_of(0), write_text(0))
    fails(box, disk, 0, 60)
    disk.fails = True
    box.serve(drain=True)
    assert_sent_once(box, [row])


@pytest.mark.xfail(strict=True, reason="what an attachment had still to do is forgotten")
def test_sim_that_was_changed_while_the_disk_failed_still_pauses_the_box(
    box: Box, disk: Disk
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
    assert "another SIM" in (box.desk.get_state("paused_because") or "")


@pytest.mark.xfail(strict=True, reason="nobody reads the port while the disk fails")
@pytest.mark.parametrize("statements", ["BEGIN", "SELECT"])
def test_daemon_does_not_spin_while_the_disk_fails_and_the_modem_speaks(
    box: Box, statements: str, monkeypatch: pytest.MonkeyPatch
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
    box: Box, disk: Disk, segment: int
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


@KINDS
def test_restart_while_a_sent_segment_is_owed_to_the_disk_sends_nothing_twice(
    box: Box, disk: Disk, readable: bool
) -> None:
    if not readable:
        box.far.answers[CRSM] = REFUSAL
    rows = [box.insert(number_of(place), write_text(place), 300 * place) for place in range(2)]
    box.far.script.extend([None, lambda: setattr(disk, "fails", True)])
    box.serve(100)
    disk.fails = False
    box.serve(drain=True)
    assert not find_problems(box, box.texts())
    assert [box.row(row)[0] for row in rows] == ["sent" if readable else "failed", "sent"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("texts_before", [0, 1, 2, 3, 4])
def test_disk_that_is_really_full_sends_nothing_twice_and_loses_nothing(
    small_disk: Path, now: datetime, texts_before: int
) -> None:
    made = Box(small_disk, now)
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


# --- a month with a power cut a day


class Mains(Far):
    """A modem on the same mains as the box: the power may go at an edge."""

    def __init__(self, play: Play) -> None:
        super().__init__(play)
        self.cut_at = ""  # the next edge of that name

    def reach(self, edge: str) -> None:
        if edge == self.cut_at:
            self.cut_at = ""
            raise Cut

    def write(self, data: bytes) -> None:
        if not data.endswith(b"\x1a"):
            super().write(data)
            return
        self.reach("before text")
        if self.cut_at == "half of text":
            self.modem.feed(data[: len(data) // 2])
        self.reach("half of text")
        super().write(data)
        self.reach("after text")

    def come_back(self) -> None:
        """The modem has started anew; the SIM remembers."""
        fresh = smsbox.SimulatedModem(self._arrive)
        fresh.reference = self.modem.reference
        self.modem, self.said = fresh, b""


EDGES = ("now", "before text", "half of text", "after text", "before COMMIT", "after COMMIT")


class Month:
    """A box that loses its power at a random instant of each day."""

    def __init__(
        self, box: Box, readable: bool, seed: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.cuts = 0
        self._box = box
        self._rng = random.Random(seed)
        self.far = Mains(box.play)
        replace_modem(box, self.far)
        if not readable:
            self.far.answers[CRSM] = REFUSAL
        change = smsbox.Database.change

        def changing(database: smsbox.Database, sql: str, given: Sequence[object] = ()) -> int:
            if sql == "COMMIT":
                self.far.reach("before COMMIT")
            done = change(database, sql, given)
            if sql == "COMMIT":
                self.far.reach("after COMMIT")
            return done

        monkeypatch.setattr(smsbox.Database, "change", changing)
        monkeypatch.setattr(smsbox, "read_power_mark", lambda port: f"boot {self.cuts}")
        monkeypatch.setattr(smsbox, "_WATCH_S", {True: 600.0, False: 3600.0})

    def live(self, days: int) -> None:
        for day in range(days):
            self._box.after(day * 86_400 + self._rng.uniform(0, 39_000), self._cut)
        while True:
            try:
                self._box.play.end_s = self._box.play.monotonic() + (days + 30) * 86_400
                self._serve()
                return
            except Cut:
                self.cuts += 1
            self._box.database.close()
            down_s = min(self._rng.lognormvariate(5, 2), 30_000.0)
            self._box.play._s += down_s
            self.far.come_back()
            self._box.database = smsbox.Database.create_or_open(self._box.path)

    def _cut(self) -> None:
        self.far.cut_at = self._rng.choice(EDGES)
        self.far.reach("now")

    def _serve(self) -> None:
        around = smsbox.Surroundings(
            self._box.play, self.far.open, self._box.manager, None, lambda status: None,
            lambda: "the test",
        )  # fmt: skip
        config = smsbox.parse_config({**self._box.tables, "modem": {"port": "sim:"}})
        config = config._replace(service=config.service._replace(poll_seconds=3600.0))
        rng = random.Random(self._rng.random())
        smsbox.Service(config, self._box.database, around, rng).run(drain=True)


@KINDS
@pytest.mark.parametrize(
    ("interval", "many"), [((45, 75), 330), pytest.param((4, 7), 3000, marks=pytest.mark.long)]
)
def test_month_with_a_power_cut_a_day_sends_all_once_in_the_hours_and_the_pace(
    box: Box, readable: bool, interval: tuple[int, int], many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.tables = {
        "pacing": {"interval_minutes": list(interval), "skip_chance": [0, 0]},
    }
    month = Month(box, readable, 8, monkeypatch)
    plan_rows(box, many)
    month.live(30)
    arrived = month.far.arrived
    assert month.cuts >= 25  # in some nights none is met
    problems = find_problems(box, [text for _, _, text in arrived], may_be_held=True)
    assert not problems, problems
    zone = smsbox.parse_config({}).business_hours.timezone
    assert all(9 <= at.astimezone(zone).hour < 20 for at, _, _ in arrived)
    firsts = [at for at, number, text in arrived if is_first(number, text)]
    gaps = [later - earlier for earlier, later in pairwise(firsts)]
    # A message that is late by less than late_after_minutes goes at once, the next one when planned.
    assert min(gaps) >= timedelta(minutes=interval[0] - 2, seconds=-2), min(gaps)
    statuses = Counter(box.sql("SELECT status, held_because IS NOT NULL FROM scheduled_messages"))
    others = {key: count for key, count in statuses.items() if key != ("sent", 0)}
    assert sum(others.values()) <= month.cuts, statuses
    print(f"\na month, {'readable' if readable else 'unreadable'}: cuts={month.cuts} {statuses}")


def plan_rows(box: Box, many: int) -> None:
    config = smsbox.parse_config(box.tables)
    lines = ["phone_number,customer_name,message_content\n"]
    lines += [f"{number_of(place)},Name,{write_text(place)}\n" for place in range(many)]
    reading = smsbox.read_campaign(lines, smsbox.ReadingOrder("month"), smsbox.segment_text)
    planned = smsbox.plan(
        reading.messages, box.play.now(), random.Random(5), config.pacing, config.business_hours
    )
    assert len(planned) == many
    with box.database.transaction():
        smsbox.Store(box.database).add_campaign(planned, 5, box.play.now(), "test")


def is_first(number: str, text: str) -> bool:
    return ".000" in text
