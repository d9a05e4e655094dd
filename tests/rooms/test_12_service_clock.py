"""Clock: nothing is sent on a wrong one, whoever set it wrong, and no step of it makes a burst.

Most tests play the service at its edges with a clock of its own, whose wall time can be stepped and
whose seconds never jump; the last ones look at the daemon's process and the commands from outside.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smsbox
from rig.people import ANA, BEN, CHLOE
from rig.played import PlayedBox, at
from rig.process import LiveBox, write_csv
from rig.pty_modem import PtyModem, wait_until
from rig.tpdus import encode_deliver
from smsbox import Fault

UTC = timezone.utc
CCLK = b"AT+CCLK?\r"
ERROR = b"\r\nERROR\r\n"
PACIFIC = -32  # quarter hours east of UTC
MINUTE, HOUR, DAY, YEAR = 60.0, 3600.0, 86_400.0, 365 * 86_400.0
LEAST_S = 4 * MINUTE - 1  # between two messages; in the database seconds are whole
NOT_WATCHED = "not watched: require_trust is false"


# --- what the tests say and look at


def write_time(utc: datetime, quarters: int = PACIFIC) -> str:
    """The line of a modem that knows the network's time."""
    local = utc + timedelta(minutes=15 * quarters)
    return f'+CCLK: "{local:%y/%m/%d,%H:%M:%S}{quarters:+03}"'


def inform(line: str) -> bytes:
    return f"\r\n{line}\r\n\r\nOK\r\n".encode()


def let_network_say(
    box: PlayedBox, truth: datetime, write: Callable[[datetime], str] = write_time
) -> None:
    """From now on the modem tells the time as it goes on from the truth of this moment."""
    begun = box.play.monotonic()

    def tell() -> bytes:
        return inform(write(truth + timedelta(seconds=box.play.monotonic() - begun)))

    box.far.tellers[CCLK] = tell


def let_network_be_silent(box: PlayedBox) -> None:
    box.far.tellers[CCLK] = lambda: ERROR


def say_clock_is_right(box: PlayedBox) -> None:
    """The operator's word, with the command that they type."""
    args = smsbox.build_parser().parse_args(["resume", "--clock-is-right"])
    config = smsbox.parse_config(box.tables)
    assert smsbox.cmd_resume(smsbox.Desktop(args, config, Path(box.path), box.play.now())) == 0


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


# --- what the modem says of the time


@pytest.mark.parametrize(
    ("line", "readings"),
    [
        ("26/11/24,15:30:00-32", ["2026-11-24 23:30:00", "2026-11-24 15:30:00"]),
        ("26/11/24,15:30:00+08", ["2026-11-24 13:30:00", "2026-11-24 15:30:00"]),
        ("26/11/24,15:30:00+22", ["2026-11-24 10:00:00", "2026-11-24 15:30:00"]),
        ("26/11/24,15:30:00+00", ["2026-11-24 15:30:00"]),
        ("26/11/24,15:30:00-00", ["2026-11-24 15:30:00"]),
        ("26/11/24,20:00:00-32", ["2026-11-25 04:00:00", "2026-11-24 20:00:00"]),
        ("28/02/29,23:59:59+56", ["2028-02-29 09:59:59", "2028-02-29 23:59:59"]),
        ("26/11/24,15:30:00-56", ["2026-11-25 05:30:00", "2026-11-24 15:30:00"]),
        ("25/06/01,00:00:00+00", ["2025-06-01 00:00:00"]),
        ("79/06/01,00:00:00+00", ["2079-06-01 00:00:00"]),
    ],
)
def test_network_time_is_read_as_local_time_first_and_then_as_utc(
    line: str, readings: list[str]
) -> None:
    found = smsbox.parse_network_time(f'+CCLK: "{line}"')
    assert isinstance(found, tuple)
    assert [f"{each:%Y-%m-%d %H:%M:%S}" for each in found] == readings
    assert all(each.utcoffset() == timedelta(0) for each in found)


@pytest.mark.parametrize(
    "line",
    [
        '+CCLK: "26/11/24,15:30:00"',  # no zone
        '+CCLK: "26/11/24,15:30:0032"',  # no sign
        '+CCLK: "26/11/24,15:30:00+57"',
        '+CCLK: "26/11/24,15:30:00-57"',
        '+CCLK: "26/11/24,15:30:00+96"',
        '+CCLK: "26/11/24,15:30:00+100"',
        '+CCLK: "80/01/06,00:00:00+00"',  # where a modem without a network begins
        '+CCLK: "04/01/01,00:00:00+00"',
        '+CCLK: "00/01/01,00:00:00+00"',
        '+CCLK: "24/06/30,12:00:00-32"',
        '+CCLK: "26/13/24,15:30:00-32"',
        '+CCLK: "26/02/30,15:30:00-32"',
        '+CCLK: "26/00/00,00:00:00+00"',
        '+CCLK: "26/11/24,25:30:00-32"',
        '+CCLK: "26/11/24,15:60:00-32"',
        '+CCLK: "26/11/24"',
        '+CCLK: ""',
        "+CCLK:",
        "+CCLK: 1",
        "ERROR",
        "OK",
        "",
        "\x00\xff",
    ],
)
def test_network_time_that_can_not_be_one_gives_no_reading(line: str) -> None:
    assert smsbox.parse_network_time(line) == ()


@given(
    st.datetimes(datetime(2026, 1, 2), datetime(2079, 12, 30)), st.integers(-56, 56)
)  # a day from the first and the last year, where a zone may cross its end
def test_network_time_comes_back_as_it_was_written(naive: datetime, quarters: int) -> None:
    utc = naive.replace(microsecond=0, tzinfo=UTC)
    found = smsbox.parse_network_time(write_time(utc, quarters))
    assert found[0] == utc
    assert found[1:] == ((utc + timedelta(minutes=15 * quarters),) if quarters else ())


@given(
    st.one_of(
        st.text(),
        st.from_regex(r'\A\+CCLK: "\d{2}/\d{2}/\d{2},\d{2}:\d{2}:\d{2}[+-]\d{1,3}"\Z'),
        st.from_regex(r'\A\+CCLK: ?"?[0-9/,:+-]{0,24}"?\Z'),
    )
)
def test_network_time_reads_any_line_without_an_error(line: str) -> None:
    found = smsbox.parse_network_time(line)
    assert len(set(found)) == len(found) <= 2
    assert all(each.tzinfo is not None for each in found)


# --- who vouches


def make_mark(folder: Path, monkeypatch: pytest.MonkeyPatch, age_s: float | None) -> None:
    mark = folder / "synchronized"
    monkeypatch.setattr(smsbox, "_TIMESYNC_MARK", mark)
    if age_s is not None:
        mark.touch()
        os.utime(mark, (time.time() - age_s,) * 2)


def make_kernel_say(monkeypatch: pytest.MonkeyPatch, max_error_us: int) -> None:
    monkeypatch.setattr(smsbox, "_read_max_error_us", lambda: max_error_us)


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
    ("max_error_us", "vouches"), [(500, True), (15_999_999, True), (16_000_000, False)]
)
def test_kernel_counts_while_its_error_is_below_16_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_error_us: int, vouches: bool
) -> None:
    make_mark(tmp_path, monkeypatch, None)
    make_kernel_say(monkeypatch, max_error_us)
    make_battery_clock(tmp_path, monkeypatch, False)
    assert bool(smsbox.find_time_evidence(["ntp"])) is vouches


SOURCES = ("ntp", "rtc", "network")
FLAGS = [False, True]


@pytest.mark.parametrize(
    "listed", [each for n in range(4) for each in itertools.combinations(SOURCES, n)]
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
    if true and source == "network":
        let_network_say(box, box.play.now())
    box.find_evidence = lambda: smsbox.find_time_evidence(sources)
    box.insert(ANA, "Hi", in_s=120)
    box.serve(900)
    assert box.texts() == (["Hi"] if true and listed else [])
    assert is_trusted(box) is (true and listed)


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


# --- the network's time


OFF = pytest.mark.parametrize(
    "off_s", [0, 30, -3 * HOUR, 3 * HOUR, -5 * YEAR, 2 * YEAR], ids=lambda each: f"{each:+.0f}s"
)


def make_network_box(box: PlayedBox, off_s: float, sources: Sequence[str] = ("network",)) -> None:
    """A box without Internet: it is 10:00, and the system's clock is off by so much."""
    box.tables = {"clock": {"sources": list(sources)}}
    box.evidence = ""
    box.play.step(off_s)
    let_network_say(box, at(10))


def insert_at(box: PlayedBox, due: datetime, text: str) -> int:
    return box.insert(ANA, text, scheduled_for=f"{due:%Y-%m-%d %H:%M:%S}")


def reality(box: PlayedBox) -> list[datetime]:
    return [at(10) + timedelta(seconds=each - 1000) for each in box.far.arrived_s]


@OFF
def test_box_with_the_network_s_time_sends_at_the_right_hour(box: PlayedBox, off_s: float) -> None:
    make_network_box(box, off_s)
    ids = [insert_at(box, at(10, 5), "one"), insert_at(box, at(10, 12), "two")]
    box.serve(1200)
    assert box.texts() == ["one", "two"]
    for really, planned in zip(reality(box), (at(10, 5), at(10, 12)), strict=True):
        assert abs(really - planned) <= timedelta(seconds=3)
    told = [smsbox.from_database_time(box.row(each, "sent_at")[0]) for each in ids]
    assert all(abs(a - b) <= timedelta(seconds=4) for a, b in zip(told, reality(box), strict=True))
    assert clock_words(box) == "the network's time"
    assert box.wall.shown[-1].fault is Fault.NONE


@OFF
def test_hours_are_those_of_the_network_s_time(box: PlayedBox, off_s: float) -> None:
    make_network_box(box, off_s)
    let_network_say(box, at(3))
    box.tables["service"] = {"poll_seconds": 60}
    insert_at(box, at(2), "Not at night")
    box.serve(7 * HOUR)
    assert box.texts() == ["Not at night"]
    really = at(3) + timedelta(seconds=box.far.arrived_s[0] - 1000)
    assert abs(really - at(9)) <= timedelta(seconds=3)


@OFF
def test_status_tells_the_commands_how_to_find_the_network_s_time(
    box: PlayedBox, off_s: float
) -> None:
    make_network_box(box, off_s)
    box.serve(300)
    told: Any = box.published[-1]["network_time"]
    text, instant, boot = told
    assert boot == smsbox.read_boot_id()
    truth = at(10) + timedelta(seconds=float(instant) - 1000)
    assert abs(smsbox.from_database_time(text) - truth) <= timedelta(seconds=2)


def test_two_readings_that_agree_are_asked_for_and_lie_ten_seconds_apart(box: PlayedBox) -> None:
    make_network_box(box, -3 * HOUR)
    asked: list[float] = []
    tell = box.far.tellers[CCLK]

    def note_and_tell() -> bytes:
        asked.append(box.play.monotonic())
        return tell()

    box.far.tellers[CCLK] = note_and_tell
    box.serve(120)
    adopted = [(when, what) for when, what in box.play.adoptions if what is not None]
    assert adopted
    assert adopted[0][0] - asked[0] >= 10
    assert len([each for each in asked if each <= adopted[0][0]]) >= 2


def stand_still(box: PlayedBox) -> Callable[[], bytes]:
    return lambda: inform(write_time(at(10)))


def run_wild(box: PlayedBox) -> Callable[[], bytes]:
    told = itertools.count()
    return lambda: inform(
        write_time(
            at(10)
            + timedelta(seconds=box.play.monotonic() - 1000)
            + timedelta(seconds=4 * next(told))
        )
    )


def change_zone(box: PlayedBox) -> Callable[[], bytes]:
    zones = itertools.cycle([-32, -28])
    return lambda: inform(
        write_time(at(10) + timedelta(seconds=box.play.monotonic() - 1000), next(zones))
    )


def lose_zone(box: PlayedBox) -> Callable[[], bytes]:
    return lambda: inform(
        f'+CCLK: "{at(10) + timedelta(seconds=box.play.monotonic() - 1000):%y/%m/%d,%H:%M:%S}"'
    )


def begin_in(year: int) -> Callable[[PlayedBox], Callable[[], bytes]]:
    start = datetime(year, 1, 6, tzinfo=UTC)
    return lambda box: (
        lambda: inform(write_time(start + timedelta(seconds=box.play.monotonic()), 0))
    )


def say_once(box: PlayedBox) -> Callable[[], bytes]:
    answers = itertools.chain([inform(write_time(at(10)))], itertools.repeat(ERROR))
    return lambda: next(answers)


@pytest.mark.parametrize(
    "tell",
    [stand_still, run_wild, change_zone, lose_zone, begin_in(1980), begin_in(2004), say_once],
    ids=["stands", "runs wild", "changes its zone", "no zone", "1980", "2004", "once"],
)
def test_network_s_time_that_contradicts_itself_is_not_taken(
    box: PlayedBox, tell: Callable[[PlayedBox], Callable[[], bytes]]
) -> None:
    make_network_box(box, -3 * HOUR)
    box.far.tellers[CCLK] = tell(box)
    insert_at(box, at(7, 10), "one")
    box.serve(2 * HOUR)
    assert box.texts() == []
    assert not [what for _, what in box.play.adoptions if what is not None]
    assert not box.published[-1].get("network_time")
    assert not is_trusted(box)


def test_network_s_time_is_not_taken_while_another_source_vouches(box: PlayedBox) -> None:
    make_network_box(box, 0, ["ntp", "network"])
    box.evidence = "systemd-timesyncd"
    let_network_say(box, at(10, 2))
    box.insert(ANA, "one", in_s=300)
    box.serve(600)
    assert box.texts() == ["one"]
    assert not [what for _, what in box.play.adoptions if what is not None]
    assert not box.published[-1].get("network_time")
    assert clock_words(box) == "systemd-timesyncd"


@pytest.mark.parametrize("off_s", [-3 * HOUR, 3 * HOUR, -5 * YEAR, 2 * YEAR])
def test_system_s_clock_is_taken_again_when_another_source_vouches_for_it(
    box: PlayedBox, off_s: float
) -> None:
    make_network_box(box, off_s, ["ntp", "network"])
    planned = [at(10, 5 + 7 * n) for n in range(5)]
    for n, due in enumerate(planned):
        insert_at(box, due, f"text {n}")

    def synchronise() -> None:
        box.evidence = "systemd-timesyncd"
        box.play.step(-off_s)

    middle: list[Any] = []
    note_at(box, 300, middle, lambda: dict(box.published[-1]))
    box.after(15 * MINUTE, synchronise)
    box.serve(2 * HOUR)
    assert middle[0]["clock"] == "the network's time"
    assert box.play.adoptions[-1][1] is None
    assert not box.published[-1].get("network_time")
    assert clock_words(box) == "systemd-timesyncd"
    expect_pace(box, 5)
    # The clock that is right goes on where the network's was: the plan keeps its times or is paced
    # anew once, never an offset of the old clock later.
    assert reality(box)[-1] < at(10, 5) + timedelta(hours=2)
    assert box.play.now() - at(10) == timedelta(seconds=box.play.monotonic() - 1000)


def test_network_s_time_does_not_make_the_system_s_clock_trusted_in_the_next_life(
    box: PlayedBox,
) -> None:
    """What is known for this boot is what the network says, not what the system's clock shows."""
    make_network_box(box, 9 * HOUR)  # it is 10:00; the system says 19:00
    insert_at(box, at(19, 30), "at half past seven")
    box.serve(300)
    assert clock_words(box) == "the network's time"
    box.play.adopt(None)  # a new process knows nothing of it
    let_network_be_silent(box)
    box.serve(2 * HOUR)
    assert box.texts() == []
    assert not is_trusted(box)


def test_network_s_time_is_found_anew_by_the_next_life(box: PlayedBox) -> None:
    make_network_box(box, -5 * YEAR)
    box.serve(300)
    box.play.adopt(None)
    insert_at(box, at(10, 30), "one")
    box.serve(2 * HOUR)
    assert box.texts() == ["one"]
    assert abs(reality(box)[0] - at(10, 30)) <= timedelta(seconds=3)


def test_network_s_time_that_is_taken_just_after_a_message_went_makes_no_burst(
    box: PlayedBox,
) -> None:
    """The system's clock was 4.9 minutes slow; then somebody set it, and nobody vouched."""
    box.tables = {"clock": {"sources": ["network"]}}
    let_network_say(box, at(10) + timedelta(minutes=4.9))
    campaign(box, 5)

    def lose() -> None:
        box.evidence = ""
        box.play.step(-600)

    box.far.script.extend([None, lambda: box.after(1, lose)])
    box.serve(2 * HOUR)
    assert clock_words(box) == "the network's time"
    expect_pace(box, 5)


def test_network_s_time_is_looked_at_each_hour_after_it_was_taken(box: PlayedBox) -> None:
    """What the modem told at first may have been its own clock, before the network set it."""
    make_network_box(box, -3 * HOUR)
    box.after(30 * MINUTE, lambda: let_network_say(box, at(12)))
    asked: list[Any] = []
    note_at(box, 10 * MINUTE, asked, lambda: box.far.heard.count(CCLK))
    box.serve(3.5 * HOUR)
    assert box.far.heard.count(CCLK) >= asked[0] + 3
    network = at(12) + timedelta(hours=3)
    assert not is_trusted(box) or abs(box.play.now() - network) < timedelta(minutes=5)


def test_system_s_clock_that_is_stepped_under_the_network_s_time_changes_nothing(
    box: PlayedBox,
) -> None:
    make_network_box(box, -3 * HOUR)
    for n in range(4):
        insert_at(box, at(10, 5 + 7 * n), f"text {n}")
    box.after(8 * MINUTE, lambda: box.play.step(-YEAR))
    box.serve(HOUR)
    expect_pace(box, 4)
    assert abs(reality(box)[-1] - at(10, 26)) <= timedelta(seconds=4)


# --- the network's veto


def ahead(seconds: float) -> Callable[[datetime], str]:
    return lambda utc: write_time(utc + timedelta(seconds=seconds))


def write_utc_with_zone(utc: datetime) -> str:
    """Some modems tell UTC, and name the zone all the same."""
    return f'+CCLK: "{utc:%y/%m/%d,%H:%M:%S}-32"'


@pytest.mark.parametrize(
    ("write", "trusted"),
    [
        (write_time, True),
        (ahead(4 * MINUTE), True),
        (ahead(-4 * MINUTE), True),
        (ahead(6 * MINUTE), False),
        (ahead(-6 * MINUTE), False),
        (ahead(HOUR), False),
        (ahead(-7.5 * HOUR), False),
        (ahead(DAY), False),
        (ahead(YEAR), False),
        (write_utc_with_zone, True),
        (lambda utc: f'+CCLK: "{utc:%y/%m/%d,%H:%M:%S}"', True),
        (lambda utc: f'+CCLK: "80/01/06,{utc:%H:%M:%S}+00"', True),
        (lambda utc: f'+CCLK: "04/01/01,{utc:%H:%M:%S}+00"', True),
        (lambda utc: '+CCLK: "??/??/??"', True),
        (lambda utc: "+CME ERROR: 4", True),
    ],
    ids=[
        "agrees", "+4 min", "-4 min", "+6 min", "-6 min", "+1 h", "-7.5 h", "+1 day", "+1 year",
        "UTC", "no zone", "1980", "2004", "garbage", "an error",
    ],
)  # fmt: skip
@pytest.mark.parametrize("sources", [["ntp"], ["rtc", "network"]], ids=["ntp", "network"])
def test_network_that_tells_another_time_takes_the_trust(
    box: PlayedBox, sources: list[str], write: Callable[[datetime], str], trusted: bool
) -> None:
    box.tables = {"clock": {"sources": sources}}
    let_network_say(box, box.play.now(), write)
    box.insert(ANA, "Hi", in_s=120)
    box.serve(HOUR / 2)
    assert box.texts() == (["Hi"] if trusted else [])
    assert is_trusted(box) is trusted
    assert box.wall.shown[-1].fault is (Fault.NONE if trusted else Fault.CLOCK)


@pytest.mark.parametrize("off_min", [60, -90])
def test_status_names_the_network_s_and_the_system_s_time(box: PlayedBox, off_min: float) -> None:
    let_network_say(box, box.play.now(), ahead(off_min * MINUTE))
    box.serve(180)
    words = clock_words(box)
    assert words.startswith("not trusted")
    minutes = [60 * int(h) + int(m) for h, m in re.findall(r"(\d{1,2}):(\d\d)", words)]
    assert len(minutes) == 2, words
    assert abs(abs(minutes[1] - minutes[0]) - abs(off_min)) <= 1
    assert "resume --clock-is-right" in words


def test_modem_that_is_deaf_to_the_question_for_the_time_sends_all_the_same(box: PlayedBox) -> None:
    box.far.tellers[CCLK] = lambda: b""
    campaign(box, 3)
    box.serve(HOUR)
    assert box.texts() == ["text 0", "text 1", "text 2"]


def test_network_is_asked_once_an_attachment_and_then_every_hour(box: PlayedBox) -> None:
    let_network_say(box, box.play.now())
    box.tables = {"service": {"poll_seconds": 60}}
    box.serve(3.5 * HOUR)
    assert box.far.heard.count(CCLK) == 4
    box.far.heard.clear()
    box.after(60, lambda: setattr(box.far, "gone", True))
    box.after(120, lambda: setattr(box.far, "gone", False))
    box.serve(300)
    assert box.far.heard.count(CCLK) == 2


def test_one_look_alone_takes_no_trust(box: PlayedBox) -> None:
    off_s = itertools.chain([HOUR], itertools.repeat(0))
    let_network_say(
        box, box.play.now(), lambda utc: write_time(utc + timedelta(seconds=next(off_s)))
    )
    box.insert(ANA, "Hi", in_s=120)
    told: list[Any] = []
    for second in (60, 90, 120, 180):
        note_at(box, second, told, lambda: is_trusted(box))
    box.serve(300)
    assert told == [True] * 4
    assert box.texts() == ["Hi"]


def test_network_that_begins_to_contradict_takes_the_trust_within_the_hour(box: PlayedBox) -> None:
    let_network_say(box, box.play.now())
    box.tables = {"service": {"poll_seconds": 60}}
    box.after(10 * MINUTE, lambda: let_network_say(box, box.play.now() + timedelta(hours=1)))
    told: list[Any] = []
    note_at(box, 30 * MINUTE, told, lambda: is_trusted(box))
    box.insert(ANA, "Hi", in_s=65 * MINUTE)
    box.serve(3 * HOUR)
    assert told == [True]
    assert not is_trusted(box)
    assert box.texts() == []


def test_later_look_that_agrees_gives_the_trust_back(box: PlayedBox) -> None:
    start = box.play.now()
    let_network_say(box, start + timedelta(hours=1))
    box.insert(ANA, "Hi", in_s=150)
    told: list[Any] = []
    note_at(box, 120, told, lambda: is_trusted(box))
    box.after(200, lambda: let_network_say(box, box.play.now()))
    box.serve(2 * HOUR)
    assert told == [False]
    assert is_trusted(box)
    assert box.texts() == ["Hi"]


def test_veto_outlives_the_daemon(box: PlayedBox) -> None:
    let_network_say(box, box.play.now() + timedelta(hours=1))
    box.serve(180)
    assert not is_trusted(box)
    box.insert(ANA, "Hi", in_s=5)  # before the next life can have looked twice
    box.serve(HOUR / 2)
    assert box.texts() == []


def test_operator_s_word_overrules_the_network_for_this_boot(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    let_network_say(box, box.play.now() + timedelta(hours=1))
    box.insert(ANA, "one", in_s=400)
    told: list[Any] = []
    note_at(box, 200, told, lambda: is_trusted(box))
    box.after(210, lambda: say_clock_is_right(box))
    box.serve(3 * HOUR)
    assert told == [False]
    assert box.texts() == ["one"]
    assert is_trusted(box)
    assert len(clock_warnings(caplog)) == 1  # the doubt, before the word
    box.insert(ANA, "two", in_s=400)
    box.serve(HOUR)
    assert box.texts() == ["one", "two"]
    boot_anew(monkeypatch)
    box.insert(ANA, "three", in_s=400)
    box.serve(HOUR)
    assert box.texts() == ["one", "two"]
    assert not is_trusted(box)


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


@pytest.mark.parametrize("trouble", ["nobody", "the network", "the future", "a step"])
def test_gate_that_is_off_stays_open_whatever_happens(unwatched: PlayedBox, trouble: str) -> None:
    box = unwatched
    if trouble == "the network":
        let_network_say(box, box.play.now() + timedelta(hours=1))
    elif trouble == "the future":
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


# --- the clocks themselves


def test_real_clock_takes_a_time_and_goes_on_with_it() -> None:
    clock = smsbox.Waiting()
    far = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    before = clock.monotonic()
    clock.adopt(far)
    first = clock.now()
    clock.until(clock.monotonic() + 0.05)
    second = clock.now()
    passed = timedelta(seconds=clock.monotonic() - before)
    assert far <= first < second <= far + passed
    assert second - first >= timedelta(seconds=0.05)
    clock.adopt(far - timedelta(days=400))
    assert timedelta(0) <= clock.now() - (far - timedelta(days=400)) < timedelta(seconds=5)
    clock.adopt(None)
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_fast_clock_takes_a_time_and_goes_on_with_it() -> None:
    start = datetime(2026, 3, 6, tzinfo=UTC)
    clock = smsbox.FastClock(smsbox.Waiting(), start, lambda wait_s, at: 0.0)
    far = datetime(2031, 5, 6, tzinfo=UTC)
    clock.adopt(far)
    assert timedelta(0) <= clock.now() - far < timedelta(seconds=5)
    clock.until(clock.monotonic() + 1000)
    assert timedelta(seconds=1000) <= clock.now() - far < timedelta(seconds=1005)
    clock.adopt(None)
    passed = clock.now() - start
    assert timedelta(seconds=1000) <= passed < timedelta(seconds=1010)


# --- the commands use the daemon's time


class Served:
    """A box whose daemon is played by this process: it holds the lock and writes the status."""

    def __init__(self, box: LiveBox) -> None:
        self.box = box
        self.status = smsbox.status_path(box.database)
        self.lock = smsbox.take_lock(smsbox.lock_path(box.database))
        assert self.lock is not None

    def say(self, network_time: object) -> None:
        told = {"modem": "ready", "clock": "the network's time", "network_time": network_time}
        self.status.write_text(json.dumps(told))

    def dry_run_start(self) -> datetime:
        path = self.box.folder / "some.csv"
        write_csv(path, [(ANA, "Ana", "Hi")])
        told = self.box.call("schedule", str(path), "--dry-run", "--json").stdout
        return smsbox.from_database_time(json.loads(told)["start"])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    box = LiveBox(tmp_path, PtyModem(tmp_path))  # a modem that is never started
    box.settle(clock={"require_trust": True, "sources": ["network"]})
    smsbox.Database.create_or_open(str(box.database)).close()
    made = Served(box)
    yield made
    if made.lock is not None:
        os.close(made.lock)


def far_from_now(**ahead: float) -> datetime:
    return (datetime.now(UTC) + timedelta(**ahead)).replace(microsecond=0)


def as_network_time(utc: datetime, ago_s: float = 0.0, boot: str | None = None) -> list[object]:
    instant = time.monotonic() - ago_s
    told = utc - timedelta(seconds=ago_s)
    return [f"{told:%Y-%m-%d %H:%M:%S}", instant, boot or smsbox.read_boot_id()]


@pytest.mark.parametrize("ahead", [{"hours": -3.0}, {"days": 1000.0}])
def test_commands_use_the_network_s_time_while_the_daemon_does(
    served: Served, ahead: dict[str, float]
) -> None:
    truth = far_from_now(**ahead)
    served.say(as_network_time(truth, ago_s=20))
    assert abs(served.dry_run_start() - truth) < timedelta(seconds=15)


def test_commands_use_the_system_s_clock_when_the_daemon_is_gone(served: Served) -> None:
    served.say(as_network_time(far_from_now(hours=5)))
    assert served.lock is not None
    os.close(served.lock)
    served.lock = None
    assert abs(served.dry_run_start() - datetime.now(UTC)) < timedelta(seconds=15)


@pytest.mark.parametrize("told", [None, ["2031-01-01 00:00:00", 5.0, "another boot"]])
def test_commands_use_the_system_s_clock_where_no_time_of_this_boot_is_told(
    served: Served, told: object
) -> None:
    served.say(told)
    assert abs(served.dry_run_start() - datetime.now(UTC)) < timedelta(seconds=15)


def test_every_command_that_looks_at_the_time_uses_the_network_s(served: Served) -> None:
    box, truth = served.box, far_from_now(days=500)
    box.settle(
        clock={"require_trust": True, "sources": ["network"]},
        business_hours={"timezone": "UTC"},
    )
    row_id = box.insert(ANA, "Hi", truth + timedelta(minutes=10))
    late_id = box.insert(BEN, "Hi", truth - timedelta(minutes=10))
    served.say(as_network_time(truth))
    assert "10 min" in box.call("why", str(row_id)).stdout
    told = json.loads(box.call("list", "--next", "5", "--json").stdout)
    assert row_id in [each["id"] for each in told]
    box.call("reschedule", str(row_id), "--by", "+5m")
    box.call("reschedule", str(late_id), "--at", f"{truth + timedelta(hours=1):%Y-%m-%d %H:%M}")
    created = box.sql("SELECT at FROM events WHERE event IN ('moved', 'rescheduled')")
    assert created
    for (text,) in created:
        assert abs(smsbox.from_database_time(text) - truth) < timedelta(seconds=60)


def test_status_says_open_or_closed_by_the_network_s_time(served: Served) -> None:
    box = served.box
    night = far_from_now(days=2).replace(hour=3)
    noon = far_from_now(days=2).replace(hour=12)
    box.settle(business_hours={"timezone": "UTC", "opens": "09:00", "closes": "20:00"})
    said = []
    for truth in (night, noon):
        served.say(as_network_time(truth))
        told = json.loads(box.call("status", "--json").stdout)
        said.append(told["open"])
    assert said == [False, True]


def test_status_says_that_the_clock_is_not_watched(served: Served) -> None:
    served.box.settle(clock={"require_trust": False})
    served.status.write_text(json.dumps({"modem": "ready", "clock": NOT_WATCHED}))
    assert NOT_WATCHED in read_status_lines(served.box)


# --- real processes


@pytest.fixture(scope="module", autouse=True)
def far_away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBox]:
    """A box whose network is three years and five hours ahead; it lives while the others play."""
    folder = tmp_path_factory.mktemp("far")
    with PtyModem(folder) as modem:
        modem.tell_time(AHEAD_S, quarters=PACIFIC)
        box = LiveBox(folder, modem)
        box.settle(clock={"require_trust": True, "sources": ["network"]})
        box.lay_down()
        box.start()
        yield box
        box.close()


AHEAD_S = 3 * YEAR + 5 * HOUR


def read_status_lines(box: LiveBox) -> str:
    """What the operator reads, however well the box is."""
    command = box.command("status")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    return done.stdout


def test_operator_s_word_lets_the_daemon_send_in_this_boot(live: LiveBox) -> None:
    box = live
    box.settle(clock={"require_trust": True, "sources": ["network"]})
    box.lay_down()
    first = box.insert(ANA, "one")
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


def test_daemon_whose_system_clock_is_years_wrong_sends_at_the_network_s_hour(
    far_away: LiveBox,
) -> None:
    box = far_away

    def read_status() -> dict[str, Any]:
        path = smsbox.status_path(box.database)
        told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return told

    wait_until(lambda: read_status().get("network_time"), within_s=40)
    assert read_status()["clock"] == "the network's time"
    wall = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    network = wall + timedelta(seconds=AHEAD_S)
    row_id = box.insert(ANA, "In another year", network)
    late = box.insert(CHLOE, "By the system's clock", datetime.now(UTC) + timedelta(days=9))
    wait_until(box.texts)
    assert box.texts()[0] == (ANA, "In another year")
    assert abs(box.modem.accepted()[0].at - wall.timestamp()) < 2.5
    wait_until(lambda: box.row(row_id)[0] == "sent")
    sent_at = box.sql("SELECT sent_at FROM scheduled_messages WHERE id = ?", row_id)[0][0]
    assert abs(smsbox.from_database_time(sent_at) - network) < timedelta(seconds=4)
    told = box.call("why", str(late)).stdout
    assert "7 days late" in told or "held" in told  # years late by the network's time
    assert "the network's time" in read_status_lines(box)
    path = box.folder / "some.csv"
    write_csv(path, [(ANA, "Ana", "Hi")])
    start = json.loads(box.call("schedule", str(path), "--dry-run", "--json").stdout)["start"]
    ahead_s = (smsbox.from_database_time(start) - datetime.now(UTC)).total_seconds()
    assert abs(ahead_s - AHEAD_S) < 20
    assert box.daemons[-1].stop() == 0
    start = json.loads(box.call("schedule", str(path), "--dry-run", "--json").stdout)["start"]
    assert abs(smsbox.from_database_time(start) - datetime.now(UTC)) < timedelta(seconds=20)
