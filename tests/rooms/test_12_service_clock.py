"""Clock: nothing is sent on a wrong one, whoever set it wrong, and no step of it makes a burst.

Most tests play the service at its edges with a clock of its own, whose wall time can be stepped and
whose seconds never jump; the last ones look at the daemon's process and the commands from outside.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import smsbox
from rig.people import ANA, BEN, CHLOE
from rig.played import PlayedBox, at
from rig.process import LiveBox
from rig.pty_modem import wait_until
from rig.tpdus import encode_deliver
from smsbox import Fault

UTC = timezone.utc
MINUTE, HOUR, DAY, YEAR = 60.0, 3600.0, 86_400.0, 365 * 86_400.0
LEAST_S = 4 * MINUTE - 1  # between two messages; in the database seconds are whole
NOT_WATCHED = "not watched: require_trust is false"


# --- what the tests say and look at


def say_clock_is_right(box: PlayedBox) -> None:
    """The operator's word, with the command that they type."""
    args = smsbox.parse_arguments(["resume", "--clock-is-right"])
    config = smsbox.parse_config(box.tables)
    assert smsbox.cmd_resume(smsbox.Context(args, config, Path(box.path), box.play.now())) == 0


def boot_anew(monkeypatch: pytest.MonkeyPatch, name: str = "another boot") -> None:
    monkeypatch.setattr(smsbox, "read_boot_id", lambda: name)


def clock_words(box: PlayedBox) -> str:
    return str(box.published[-1]["clock"])


def is_trusted(box: PlayedBox) -> bool:
    return not clock_words(box).startswith("not trusted")


def note_at(box: PlayedBox, in_s: float, into: list[Any], what: Callable[[], object]) -> None:
    box.after(in_s, lambda: into.append(what()))


def campaign(box: PlayedBox, count: int, every_s: float = 300, first_s: float = 60) -> list[int]:
    return [
        box.insert(f"+1213555{2000 + n}", f"text {n}", in_s=first_s + every_s * n)
        for n in range(count)
    ]


def rows(box: PlayedBox) -> list[Any]:
    """Everything that may be said of a row, to see that nothing was done to it."""
    found = box.sql("SELECT * FROM scheduled_messages ORDER BY id")
    return [*found, *box.sql("SELECT * FROM events ORDER BY id")]


def gaps(box: PlayedBox) -> list[float]:
    """Real seconds between two messages, whatever the wall clock said."""
    return [after - before for before, after in pairwise(box.far.arrived_s)]


def expect_pace(box: PlayedBox, texts: int) -> None:
    assert box.texts() == [f"text {n}" for n in range(texts)]
    assert all(gap >= LEAST_S for gap in gaps(box)), gaps(box)


def clock_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and "clock" in record.getMessage()
    ]


def step_sizes(caplog: pytest.LogCaptureFixture) -> list[int]:
    """The steps that the journal tells of, in seconds."""
    found = (re.search(r"[+-]\d+(?= s\b)", words) for words in clock_warnings(caplog))
    return [int(each[0]) for each in found if each]


# --- who vouches


def make_mark(folder: Path, monkeypatch: pytest.MonkeyPatch, age_s: float | None) -> None:
    mark = folder / "synchronized"
    monkeypatch.setattr(smsbox, "_TIMESYNC_MARK", mark)
    if age_s is not None:
        mark.touch()
        os.utime(mark, (time.time() - age_s,) * 2)


def make_kernel_say(
    monkeypatch: pytest.MonkeyPatch, max_error_us: int, unsynced: bool = False
) -> None:
    """Stand for adjtimex(2): the error, and whether STA_UNSYNC is set."""

    class Libc:
        @staticmethod
        def adjtimex(timex: Any) -> int:
            timex[3], timex[5], timex[11] = max_error_us, 0x2040 if unsynced else 0x2001, 10_000
            return 5 if unsynced else 0

    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: Libc)


def make_battery_clock(folder: Path, monkeypatch: pytest.MonkeyPatch, present: bool) -> None:
    rtc = folder / "rtc0"
    monkeypatch.setattr(smsbox, "_RTC", rtc)
    if present:
        rtc.mkdir()


@pytest.mark.parametrize(
    ("age_s", "vouches"),
    [
        (0, True),
        (44 * MINUTE, True),
        (46 * MINUTE, False),  # it is touched each half hour or so while the Internet is there
        (9 * HOUR, False),
        (-30, True),
        (-2 * MINUTE, False),  # the clock went back since: what it marks is another clock
        (-YEAR, False),
        (None, False),
    ],
)
def test_mark_of_timesyncd_counts_only_while_it_is_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: float | None, vouches: bool
) -> None:
    make_mark(tmp_path, monkeypatch, age_s)
    make_kernel_say(monkeypatch, 16_000_000)
    make_battery_clock(tmp_path, monkeypatch, False)
    assert bool(smsbox.find_time_evidence(["ntp"])) is vouches


@pytest.mark.parametrize(
    ("max_error_us", "unsynced", "vouches"),
    [(500, False, True), (15_999_999, False, True), (16_000_000, False, False), (500, True, False)],
)
def test_kernel_counts_while_it_is_synchronized_and_its_error_below_16_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_error_us: int, unsynced: bool,
    vouches: bool,
) -> None:  # fmt: skip
    make_mark(tmp_path, monkeypatch, None)
    make_kernel_say(monkeypatch, max_error_us, unsynced)
    make_battery_clock(tmp_path, monkeypatch, False)
    assert bool(smsbox.find_time_evidence(["ntp"])) is vouches


SOURCES = ("ntp", "rtc")
FLAGS = [False, True]


@pytest.mark.parametrize(
    "listed", [each for n in range(3) for each in itertools.combinations(SOURCES, n)]
)
@pytest.mark.parametrize(("mark", "kernel", "rtc"), list(itertools.product(FLAGS, repeat=3)))
def test_source_counts_only_where_it_is_listed_and_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    listed: Sequence[str], mark: bool, kernel: bool, rtc: bool,
) -> None:  # fmt: skip
    make_mark(tmp_path, monkeypatch, 60 if mark else None)
    make_kernel_say(monkeypatch, 900 if kernel else 16_000_000)
    make_battery_clock(tmp_path, monkeypatch, rtc)
    expected = ("ntp" in listed and (mark or kernel)) or ("rtc" in listed and rtc)
    assert bool(smsbox.find_time_evidence(listed)) is expected


@pytest.mark.parametrize("listed", FLAGS, ids=["unlisted", "listed"])
@pytest.mark.parametrize("true", FLAGS, ids=["false", "true"])
@pytest.mark.parametrize("source", SOURCES)
def test_box_sends_only_where_a_listed_source_vouches(
    box: PlayedBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    source: str, true: bool, listed: bool,
) -> None:  # fmt: skip
    sources = [source] if listed else [each for each in SOURCES if each != source]
    box.tables = {"clock": {"sources": sources}}
    make_mark(tmp_path, monkeypatch, None)
    make_kernel_say(monkeypatch, 900 if true and source == "ntp" else 16_000_000)
    make_battery_clock(tmp_path, monkeypatch, true and source == "rtc")
    box.find_evidence = lambda: smsbox.find_time_evidence(sources)
    play_tomorrow(box)
    box.insert(ANA, "Hi", in_s=120)
    box.serve(900)
    assert box.texts() == (["Hi"] if true and listed else [])
    assert is_trusted(box) is (true and listed)


def play_tomorrow(box: PlayedBox) -> None:
    """Behind what the database writes down by itself, which goes by the real clock."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    box.play.start = tomorrow.replace(hour=19, minute=0, second=0, microsecond=0)


@pytest.mark.parametrize(("behind_s", "trusted"), [(-30, True), (30, False), (9 * HOUR, False)])
def test_battery_clock_counts_only_behind_the_last_event(
    box: PlayedBox, behind_s: float, trusted: bool
) -> None:
    """One whose battery is empty, or that nobody has ever set, is behind what was written down."""
    play_tomorrow(box)
    box.evidence = smsbox.BATTERY_CLOCK
    latest = box.play.now() + timedelta(seconds=behind_s)
    box.sql("INSERT INTO events (signed, at, actor, event) VALUES (1, ?, 'ana', 'paused')",
            f"{latest:%Y-%m-%d %H:%M:%S}")  # fmt: skip
    box.insert(ANA, "Hi")
    box.serve(20)
    assert is_trusted(box) is trusted
    assert box.texts() == (["Hi"] if trusted else [])
    if not trusted:
        assert f"the battery clock says {box.play.now():%Y-%m-%d} 19:00" in clock_words(box)
        say_clock_is_right(box)
        box.serve(20)
        assert box.texts() == ["Hi"]


# --- nothing happens while nobody does


def test_nothing_is_sent_held_moved_or_expired_while_the_time_is_not_trusted(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.insert(CHLOE, "one [BUBBLE] two")
    box.far.script.append(lambda: setattr(box.play, "stopped", True))
    box.serve(60)
    assert box.texts() == ["one"]
    boot_anew(monkeypatch)
    box.evidence = ""
    box.play.step(2 * HOUR)  # the Pi was off; now a half message is late
    box.insert(ANA, "expired", in_s=-8 * DAY)
    box.insert(ANA, "late", in_s=-HOUR)
    box.insert(ANA, "by the operator's word", in_s=-HOUR, anyway=1)
    box.insert(BEN, "now")
    box.insert(BEN, "at night", in_s=11 * HOUR)
    before = rows(box)
    box.tables = {"service": {"poll_seconds": 60}}
    box.serve(14 * HOUR)
    assert box.texts() == ["one"]
    assert rows(box) == before
    assert not is_trusted(box)


def test_box_without_internet_shows_the_clock_lamp_and_tells_the_mend(box: PlayedBox) -> None:
    box.tables = {"clock": {"sources": ["ntp"]}}
    box.evidence = ""
    box.insert(ANA, "Hi")
    box.serve(HOUR)
    assert box.texts() == []
    assert box.wall.shown[-1].fault is Fault.CLOCK
    assert box.published[-1]["fault"] == Fault.CLOCK.value
    assert not is_trusted(box)
    assert "Internet" in clock_words(box)
    assert "resume --clock-is-right" in clock_words(box)


def test_replies_are_heard_while_the_time_is_not_trusted(box: PlayedBox) -> None:
    box.evidence = ""
    row_id = box.insert(ANA, "Hi", in_s=HOUR)
    box.far.modem.receive(encode_deliver("STOP", ANA, at(10)))
    box.serve(120)
    assert box.row(row_id) == ("cancelled", "the recipient said stop")


def test_trust_lasts_for_the_boot_over_a_restart_of_the_daemon(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.serve(30)
    assert box.database.state.get("trusted_boot") == smsbox.read_boot_id()
    box.evidence = ""
    box.insert(ANA, "one", in_s=60)
    box.serve(120)
    assert box.texts() == ["one"]
    boot_anew(monkeypatch)
    box.insert(ANA, "two", in_s=60)
    box.serve(HOUR)
    assert box.texts() == ["one"]


def test_operator_s_word_counts_for_this_boot_and_no_other(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.evidence = ""
    box.insert(ANA, "one", in_s=60)
    box.after(20, lambda: say_clock_is_right(box))
    box.serve(120)
    assert box.texts() == ["one"]
    box.insert(ANA, "two", in_s=240)
    box.serve(300)
    assert box.texts() == ["one", "two"]
    boot_anew(monkeypatch)
    box.insert(ANA, "three", in_s=60)
    box.serve(HOUR)
    assert box.texts() == ["one", "two"]
    assert not is_trusted(box)


@pytest.mark.parametrize("hours_until", [1, 5, 10])
def test_evening_that_a_saved_clock_pretends_at_night_sends_nothing(
    box: PlayedBox, hours_until: float
) -> None:
    """The Pi was off from 19:40 to 03:10; its clock goes on at 19:40 as if nothing had been."""
    box.play.start = at(19, 40)
    box.tables = {"service": {"poll_seconds": 60}}
    box.evidence = ""
    campaign(box, 3)
    before = rows(box)
    seen: list[Any] = []

    def learn() -> None:
        seen.append(rows(box) == before)
        box.evidence = "systemd-timesyncd"
        box.play.step(7.5 * HOUR)

    box.after(hours_until * HOUR, learn)
    box.serve((hours_until + 12) * HOUR)
    assert seen == [True]
    expect_pace(box, 3)
    really = [at(3, 10, day=10) + timedelta(seconds=each - 1000) for each in box.far.arrived_s]
    learned = at(3, 10, day=10) + timedelta(hours=hours_until)
    opens = max(at(9, day=10), learned)
    assert timedelta(0) <= really[0] - opens < timedelta(minutes=1.1)
    assert really[-1] < at(20, day=10)


# --- a message that was sent in the future


def insert_sent(box: PlayedBox, in_s: float) -> None:
    sent_at = box.play.now() + timedelta(seconds=in_s)
    box.insert(BEN, "before", in_s=-HOUR, status="sent", sent_at=f"{sent_at:%Y-%m-%d %H:%M:%S}")


@pytest.mark.parametrize(("in_min", "trusted"), [(-5, True), (4, True), (6, False), (90, False)])
def test_message_sent_in_the_future_takes_the_trust(
    box: PlayedBox, in_min: float, trusted: bool
) -> None:
    insert_sent(box, in_min * MINUTE)
    box.insert(ANA, "Hi", in_s=40)
    box.serve(55)
    assert is_trusted(box) is trusted
    assert box.texts() == (["Hi"] if trusted else [])
    if not trusted:
        assert box.wall.shown[-1].fault is Fault.CLOCK
        assert "sent" in clock_words(box)
        assert re.search(r"\d{1,2}:\d\d", clock_words(box))


def test_message_sent_in_the_future_takes_the_trust_until_that_time_has_passed(
    box: PlayedBox,
) -> None:
    insert_sent(box, 30 * MINUTE)
    box.insert(ANA, "text 0", in_s=60)
    box.insert(BEN, "text 1", in_s=65)
    box.serve(2 * HOUR)
    assert is_trusted(box)
    assert box.far.arrived_s[0] >= 1000 + 25 * MINUTE  # then it is no more than five minutes off
    expect_pace(box, 2)


def test_operator_s_word_ends_the_doubt_of_a_message_sent_in_the_future(box: PlayedBox) -> None:
    insert_sent(box, DAY)
    box.insert(ANA, "Hi", in_s=30 * MINUTE)
    told: list[Any] = []
    note_at(box, 50, told, lambda: is_trusted(box))
    box.after(60, lambda: say_clock_is_right(box))
    box.serve(2 * HOUR)
    assert told == [False]
    assert box.texts() == ["Hi"]
    assert is_trusted(box)


# --- a step


STEPS = pytest.mark.parametrize(
    "step_s", [HOUR, -HOUR, 4.9 * MINUTE, YEAR, -YEAR], ids=lambda each: f"{each:+.0f}s"
)


def step_just_after(box: PlayedBox, texts: int, step_s: float, evidence: str | None = None) -> None:
    """Let the wall clock be stepped a second after so many texts went."""

    def step() -> None:
        box.play.step(step_s)
        box.evidence = box.evidence if evidence is None else evidence

    box.far.script.extend([None] * (texts - 1))
    box.far.script.append(lambda: box.after(1, step))


@STEPS
def test_step_of_a_clock_that_is_vouched_for_makes_no_burst(
    box: PlayedBox, step_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    ids = campaign(box, 4)
    step_just_after(box, 2, step_s)
    box.serve(2.5 * HOUR)
    held = box.sql("SELECT count(*) FROM scheduled_messages WHERE held_because IS NOT NULL")
    assert held == [(0,)]
    if step_s == -YEAR:  # what was sent lies in the future now: that is another gate
        assert box.texts() == ["text 0", "text 1"]
        assert not is_trusted(box)
    else:
        expect_pace(box, 4)
        assert all(box.row(each)[0] == "sent" for each in ids)
    assert step_sizes(caplog) == [round(step_s)], clock_warnings(caplog)


@pytest.mark.parametrize("step_s", [HOUR, -HOUR, 10, -10, 3])
def test_step_is_told_once_with_its_size(
    box: PlayedBox, step_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    box.after(100, lambda: box.play.step(step_s))
    box.serve(HOUR)
    assert step_sizes(caplog) == [step_s], clock_warnings(caplog)


@pytest.mark.parametrize("steps_s", [(140, 140), (200, 90), (100, 100, 90), (-100, 290)])
def test_steps_that_follow_each_other_make_no_burst(
    box: PlayedBox, steps_s: tuple[float, ...]
) -> None:
    campaign(box, 5)

    def step() -> None:
        for place, step_s in enumerate(steps_s):
            box.after(1 + 20 * place, lambda by_s=step_s: box.play.step(by_s))  # type: ignore[misc]

    box.far.script.extend([None, step])
    box.serve(2 * HOUR)
    expect_pace(box, 5)


@pytest.mark.parametrize("step_s", [5 * MINUTE, HOUR / 2, 2 * HOUR, YEAR, -HOUR])
def test_step_between_two_bubbles_lets_the_message_end_and_the_next_one_wait(
    box: PlayedBox, step_s: float
) -> None:
    box.tables = {"pacing": {"bubble_gap_seconds": [60, 60]}}
    row_id = box.insert(ANA, "one [BUBBLE] two", in_s=30)
    box.insert(BEN, "three", in_s=330)
    step_just_after(box, 1, step_s)
    box.serve(3 * HOUR)
    assert box.row(row_id, "status, held_because") == ("sent", None)
    assert box.texts() == ["one", "two", "three"]
    first, rest, following = box.far.arrived_s
    assert 59 <= rest - first <= 75
    assert following - first >= LEAST_S


def test_step_over_closing_time_leaves_the_rest_for_the_next_opening(box: PlayedBox) -> None:
    box.play.start = at(19, 30)
    box.tables = {"service": {"poll_seconds": 60}}
    campaign(box, 4)
    step_just_after(box, 2, HOUR)
    box.serve(15 * HOUR)
    expect_pace(box, 4)
    third = at(20, 30) + timedelta(seconds=box.far.arrived_s[2] - 1000)
    assert third == at(9, day=10)


@pytest.mark.parametrize("evidence_after_s", [0.5, 15, 100])
@pytest.mark.parametrize("mend", ["evidence", "the word"])
def test_evidence_that_comes_after_the_step_makes_no_burst(
    box: PlayedBox, mend: str, evidence_after_s: float
) -> None:
    """The clock is set first, and the mark that says so is touched a little later."""
    lose_evidence_for("the past", box)
    campaign(box, 5)

    def vouch() -> None:
        if mend == "evidence":
            box.evidence = "systemd-timesyncd"
        else:
            say_clock_is_right(box)

    def step() -> None:
        box.play.step(4.9 * MINUTE)
        box.after(evidence_after_s, vouch)

    box.far.script.extend([None, lambda: box.after(1, step)])
    box.serve(2 * HOUR)
    expect_pace(box, 5)


def test_step_of_a_second_changes_nothing(box: PlayedBox, caplog: pytest.LogCaptureFixture) -> None:
    box.evidence = "the test"
    ids = campaign(box, 4)
    planned = [box.row(each, "scheduled_for") for each in ids]
    step_just_after(box, 2, 1, evidence="")
    box.serve(2 * HOUR)
    assert clock_warnings(caplog) == []
    expect_pace(box, 4)
    assert [box.row(each, "scheduled_for") for each in ids] == planned
    assert all(box.events(each) == ["sql added", "daemon sent"] for each in ids)


def test_small_steps_far_apart_are_no_step(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(20):
        box.after(60 * (n + 1), lambda: box.play.step(0.5))
    box.serve(HOUR)
    assert clock_warnings(caplog) == []


def lose_evidence_for(how: str, box: PlayedBox) -> None:
    """Bring the box to a trust that nobody renews."""
    if how == "the past":
        box.serve(30)
    box.evidence = ""
    if how == "the operator's word":
        box.after(5, lambda: say_clock_is_right(box))


NOBODY = pytest.mark.parametrize("how", ["the past", "the operator's word"])


@NOBODY
@STEPS
def test_step_that_nobody_vouches_for_takes_the_trust(
    box: PlayedBox, how: str, step_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    lose_evidence_for(how, box)
    campaign(box, 4)
    soon_after: list[Any] = []

    def step() -> None:
        box.play.step(step_s)
        note_at(box, 30, soon_after, lambda: rows(box))

    box.far.script.extend([None, lambda: box.after(1, step)])
    box.serve(2 * HOUR)
    assert box.texts() == ["text 0", "text 1"]
    assert not is_trusted(box)
    assert rows(box) == soon_after[0]  # nothing is held, moved or expired
    assert box.sql("SELECT id FROM scheduled_messages WHERE held_because IS NOT NULL") == []
    assert box.wall.shown[-1].fault is Fault.CLOCK
    assert step_sizes(caplog) == [round(step_s)]


@pytest.mark.parametrize("step_s", [HOUR, YEAR])
def test_step_without_evidence_touches_no_row_of_a_box_that_was_vouched_for(
    box: PlayedBox, step_s: float
) -> None:
    campaign(box, 4)
    step_just_after(box, 2, step_s, evidence="")
    before: list[Any] = []
    box.after(60 + 300 - 10, lambda: before.extend(box.sql(
        "SELECT id, status, scheduled_for, held_because FROM scheduled_messages WHERE id > 2"
    )))  # fmt: skip
    box.serve(3 * HOUR)
    assert box.texts() == ["text 0", "text 1"]
    after = box.sql(
        "SELECT id, status, scheduled_for, held_because FROM scheduled_messages WHERE id > 2"
    )
    assert after == before != []
    assert not is_trusted(box)


@NOBODY
@pytest.mark.parametrize("mend", ["evidence", "the word anew"])
def test_trust_comes_back_after_a_step_with_evidence_or_the_word_anew(
    box: PlayedBox, how: str, mend: str
) -> None:
    lose_evidence_for(how, box)
    campaign(box, 4)
    step_just_after(box, 2, HOUR)

    def vouch() -> None:
        assert not is_trusted(box)
        if mend == "evidence":
            box.evidence = "systemd-timesyncd"
        else:
            say_clock_is_right(box)

    box.after(HOUR / 2, vouch)
    box.serve(2 * HOUR)
    expect_pace(box, 4)
    assert box.far.arrived_s[2] >= 1000 + HOUR / 2
    assert is_trusted(box)


def test_trust_that_a_step_took_does_not_come_back_with_the_next_life(box: PlayedBox) -> None:
    lose_evidence_for("the past", box)
    box.after(60, lambda: box.play.step(HOUR))
    box.serve(120)
    assert not is_trusted(box)
    box.insert(ANA, "Hi", in_s=60)
    box.serve(HOUR)
    assert box.texts() == []
    assert not is_trusted(box)


def test_message_between_its_bubbles_is_not_held_for_a_step_that_nobody_vouches_for(
    box: PlayedBox,
) -> None:
    lose_evidence_for("the past", box)
    box.tables = {"pacing": {"bubble_gap_seconds": [60, 60]}}
    row_id = box.insert(ANA, "one [BUBBLE] two", in_s=30)
    step_just_after(box, 1, YEAR)
    box.serve(2 * HOUR)
    assert box.texts() == ["one"]
    assert box.row(row_id, "status, held_because") == ("scheduled", None)


# --- a clock that is not watched


@pytest.fixture
def unwatched(box: PlayedBox) -> PlayedBox:
    box.tables = {"clock": {"require_trust": False}}
    box.evidence = ""
    return box


@pytest.mark.parametrize("trouble", ["nobody", "the future", "a step"])
def test_gate_that_is_off_stays_open_whatever_happens(unwatched: PlayedBox, trouble: str) -> None:
    box = unwatched
    if trouble == "the future":
        insert_sent(box, DAY)
    elif trouble == "a step":
        box.after(60, lambda: box.play.step(HOUR))
    box.insert(ANA, "Hi", in_s=180)
    box.serve(HOUR)
    assert box.texts() == ["Hi"]
    assert clock_words(box) == NOT_WATCHED
    assert box.wall.shown[-1].fault is Fault.NONE


@pytest.mark.parametrize("step_s", [HOUR, -HOUR, 4.9 * MINUTE, YEAR])
def test_step_of_an_unwatched_clock_makes_no_burst(
    unwatched: PlayedBox, step_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    campaign(unwatched, 4)
    step_just_after(unwatched, 2, step_s)
    unwatched.serve(2.5 * HOUR)
    expect_pace(unwatched, 4)
    assert step_sizes(caplog) == [round(step_s)]


# --- other hours in the config


def insert_at(box: PlayedBox, due: datetime, text: str) -> int:
    return box.insert(ANA, text, scheduled_for=f"{due:%Y-%m-%d %H:%M:%S}")


def plan_of(box: PlayedBox) -> list[datetime]:
    found = box.sql("SELECT scheduled_for FROM scheduled_messages ORDER BY id")
    return [smsbox.from_database_time(each[0]) for each in found]


AFTERNOON = (at(11), at(12, 30), at(13), at(15), at(18, 30))


def plan_afternoon(box: PlayedBox) -> None:
    for n, due in enumerate(AFTERNOON):
        insert_at(box, due, f"text {n}")


@pytest.mark.parametrize(
    ("changed", "zone", "inside"),
    [
        ({"closes": "12:45"}, "America/Los_Angeles", (9.0, 12.75)),
        ({"opens": "12:00"}, "America/Los_Angeles", (12.0, 20.0)),
        ({"timezone": "America/New_York"}, "America/New_York", (9.0, 20.0)),
        ({"timezone": "Europe/London"}, "Europe/London", (9.0, 20.0)),
        ({"days": ["mon"]}, "America/Los_Angeles", (9.0, 20.0)),
    ],
)
def test_rows_outside_the_new_hours_keep_their_times_and_go_inside_them(
    box: PlayedBox, changed: dict[str, str], zone: str, inside: tuple[float, float]
) -> None:
    plan_afternoon(box)
    box.serve(30)
    box.tables = {"business_hours": changed, "service": {"poll_seconds": 60}}
    box.serve(60)
    assert tuple(plan_of(box)) == AFTERNOON  # only the operator's word changes a time
    box.serve(8 * DAY)
    assert box.texts() == [f"text {n}" for n in range(5)]
    times = [when for when, _, _ in box.far.arrived]
    there = [each.astimezone(ZoneInfo(zone)) for each in times]
    assert all(inside[0] <= each.hour + each.minute / 60 < inside[1] for each in there), there
    assert all((b - a).total_seconds() >= LEAST_S for a, b in pairwise(times))


def test_rows_inside_the_new_hours_keep_their_times(box: PlayedBox) -> None:
    plan_afternoon(box)
    box.serve(30)
    box.tables = {"business_hours": {"closes": "19:00", "opens": "09:30"}}
    box.serve(60)
    assert tuple(plan_of(box)) == AFTERNOON


def test_row_by_the_operator_s_word_stays_outside_the_new_hours(box: PlayedBox) -> None:
    row_id = box.insert(ANA, "Now", in_s=5 * HOUR, anyway=1)
    planned = box.row(row_id, "scheduled_for")
    box.serve(30)
    box.tables = {"business_hours": {"closes": "12:00"}}
    box.serve(60)
    assert box.row(row_id, "scheduled_for") == planned


# --- real processes


def read_status_lines(box: LiveBox) -> str:
    """What the operator reads, however well the box is."""
    command = box.command("status")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    return done.stdout


def test_operator_s_word_lets_the_daemon_send_in_this_boot(live: LiveBox) -> None:
    box = live
    box.settle(clock={"require_trust": True, "sources": ["rtc"]})
    box.lay_down()
    first = box.insert(ANA, "one")
    box.sql(
        "INSERT INTO events (signed, at, actor, event)"
        " VALUES (1, datetime('now', '+2 hours'), 'x', 'x')"
    )
    daemon = box.start()
    box.await_idle()
    told = read_status_lines(box)
    assert "not trusted" in told
    assert "resume --clock-is-right" in told
    assert "not trusted" in box.call("why", str(first)).stdout
    assert box.texts() == []  # the commands took longer than three polls
    box.call("resume", "--clock-is-right")
    wait_until(lambda: box.texts() == [(ANA, "one")])
    assert daemon.stop() == 0
    box.insert(BEN, "two")
    box.start()
    wait_until(lambda: box.texts() == [(ANA, "one"), (BEN, "two")])
    assert "not trusted" not in read_status_lines(box)
