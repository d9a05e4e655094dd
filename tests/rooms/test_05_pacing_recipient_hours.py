"""The recipient's hours: where an area code may lie, the plan, the daemon, the words about it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smsbox
from rig.desk import DAY, Desk, Operator
from rig.pace import la, make_hours, make_pace
from rig.played import PlayedBox

UTC = timezone.utc
CONFIG = smsbox.parse_config({})
PACE, HOURS, THEIRS = CONFIG.pacing, CONFIG.business_hours, CONFIG.recipient_hours
LEAST = timedelta(minutes=4)
NEW_YORK, HONOLULU, CHICAGO = "+12125552313", "+18085552313", "+13125552313"
LOS_ANGELES, BERLIN = "+12135552313", "+493012345678"
FOUR_ZONES = (NEW_YORK, HONOLULU, "+13035552313", LOS_ANGELES)


def may_write_to(
    at: datetime,
    hours: smsbox.BusinessHours,
    theirs: smsbox.RecipientHours | None,
    number: str,
) -> bool:
    """Tell it by the very window that the plan and the daemon's gate go by."""
    window = smsbox.common_window(at, smsbox.hours_of(number, "", hours, theirs))
    return window is not None and window[0] <= at < window[1]


def zones(number: str, said: str = "") -> set[str]:
    return {zone.key for zone in smsbox.recipient_zones(number, said)}


def is_awake(at: datetime, number: str, said: str = "") -> bool:
    """Tell from the wall clocks alone."""
    walls = [at.astimezone(ZoneInfo(name)) for name in zones(number, said)]
    return all(8 <= wall.hour < 21 for wall in walls)


def make_message(row: int, number: str, said: str = "") -> smsbox.Message:
    return smsbox.Message(
        row, smsbox.PhoneNumber(number), f"Name {row}", f"Hi {row}", "test", str(row), 1, 1,
        smsbox.Encoding.GSM7, said,
    )  # fmt: skip


def plan(
    numbers: Sequence[str],
    start: datetime,
    seed: int = 1,
    hours: smsbox.BusinessHours = HOURS,
    theirs: smsbox.RecipientHours = THEIRS,
) -> list[smsbox.ScheduledMessage]:
    messages = [make_message(row, number) for row, number in enumerate(numbers, 2)]
    return smsbox.plan(messages, start, random.Random(seed), PACE, hours, None, theirs)


# --- the table


@pytest.mark.parametrize(
    ("area", "names"),
    [
        ("212", "America/New_York"), ("213", "America/Los_Angeles"), ("310", "America/Los_Angeles"),
        ("808", "Pacific/Honolulu"), ("907", "America/Anchorage America/Adak"),
        ("787", "America/Puerto_Rico"), ("604", "America/Vancouver"), ("671", "Pacific/Guam"),
        ("709", "America/St_Johns America/Halifax"), ("915", "America/Denver"),
        ("541", "America/Los_Angeles America/Denver"), ("689", "America/New_York"),
        ("458", "America/Los_Angeles America/Denver"),
        ("850", "America/New_York America/Chicago"), ("448", "America/New_York America/Chicago"),
        ("812", "America/New_York America/Chicago"), ("602", "America/Phoenix"),
        ("928", "America/Phoenix America/Denver"), ("876", "America/Jamaica"),
        ("250", "America/Vancouver America/Edmonton America/Fort_Nelson"),
    ],
)  # fmt: skip
def test_area_code_names_every_zone_in_which_it_may_lie(area: str, names: str) -> None:
    assert zones(f"+1{area}5552313") == set(names.split())


def test_every_zone_of_the_table_is_one_and_every_code_a_code() -> None:
    codes: set[str] = set()
    for name, area_codes in smsbox._AREA_CODES.items():
        assert smsbox.find_zone(name).key == name
        listed = area_codes.split()
        assert listed == sorted(set(listed))
        codes.update(listed)
    assert all(len(code) == 3 and code[0] in "23456789" and code[1] != "9" for code in codes)
    assert 430 < len(codes) < 470
    assert not codes & {"800", "822", "833", "844", "855", "866", "877", "888", "900"}


def test_unknown_area_code_may_be_anywhere_from_coast_to_coast() -> None:
    names = {"New_York", "Chicago", "Denver", "Phoenix", "Los_Angeles"}
    assert zones("+12015552313") == {"America/New_York"}
    assert zones("+16005552313") == zones("+19995552313") == {f"America/{each}" for each in names}


def test_row_s_own_zone_goes_before_the_area_code_and_abroad_none_is_known() -> None:
    assert zones(NEW_YORK, "Pacific/Honolulu") == {"Pacific/Honolulu"}
    assert zones(BERLIN) == set()
    assert zones(BERLIN, "Europe/Berlin") == {"Europe/Berlin"}
    for wrong in ("EST", "Eastern", "America/Now_York", "America", "../etc/x", "a/\x00"):
        with pytest.raises(ValueError, match="America/New_York"):
            smsbox.recipient_zones(NEW_YORK, wrong)


# --- who may be written to when


def test_every_zone_of_the_recipient_must_be_open_besides_the_sender() -> None:
    split = "+15415552313"  # Pacific, and an hour later Mountain
    late = la("2025-11-10T19:59")
    assert may_write_to(late, HOURS, THEIRS, LOS_ANGELES)
    assert may_write_to(late, HOURS, THEIRS, split)
    for walls, open_ in ((("20:00", "20:59"), False), (("08:00", "08:59"), True)):
        for wall in walls:
            at = la(f"2025-11-10T{wall}")
            whole_day = make_hours(0, 1440)
            assert may_write_to(at, whole_day, THEIRS, split) is open_
            assert not may_write_to(at, HOURS, THEIRS, split)
    nine = la("2025-11-10T09:00")
    assert not may_write_to(nine, HOURS, THEIRS, HONOLULU)
    off = replace(THEIRS, enabled=False)
    assert may_write_to(nine, HOURS, off, HONOLULU)


def test_strict_hours_are_ten_to_five_on_workdays_and_not_on_closed_days() -> None:
    strict = replace(THEIRS, strict=True)
    hours = make_hours(closed_on=[date(2025, 11, 11)])
    for wall, open_ in (
        ("2025-11-10T09:00", True), ("2025-11-10T13:59", True), ("2025-11-10T14:00", False),
        ("2025-11-09T12:00", False), ("2025-11-11T12:00", False), ("2025-11-12T12:00", True),
    ):  # fmt: skip
        assert may_write_to(la(wall), hours, strict, NEW_YORK) is open_, wall


# --- the plan


def test_recipients_whose_hours_exclude_nothing_change_nothing_of_the_plan() -> None:
    start = la("2025-11-10T10:00")
    numbers = [LOS_ANGELES, "+16025552313", BERLIN] * 100
    off = replace(THEIRS, enabled=False)
    assert plan(numbers, start) == plan(numbers, start, theirs=off)
    assert plan(numbers, start) == plan(numbers, start, hours=HOURS, theirs=off)


def test_slot_goes_to_the_first_row_whose_recipient_is_awake() -> None:
    planned = plan([NEW_YORK, LOS_ANGELES, NEW_YORK, HONOLULU], la("2025-11-10T18:30"))
    assert [each.message.row for each in planned] == [3, 5, 2, 4]
    assert planned[0].scheduled_for == la("2025-11-10T18:31")
    assert not planned[1].opens_day  # it took the slot of the one who slept
    assert (planned[2].scheduled_for, planned[2].opens_day) == (la("2025-11-11T09:00"), True)
    assert planned[3].scheduled_for >= la("2025-11-11T09:04")


def test_slot_that_suits_nobody_moves_to_the_first_instant_that_suits_somebody() -> None:
    [first, second] = plan([HONOLULU] * 2, la("2025-11-10T09:00"))
    assert (first.scheduled_for, first.opens_day) == (la("2025-11-10T10:00"), True)
    assert second.scheduled_for - first.scheduled_for >= LEAST


NIGHTS = st.sampled_from(["2025-03-07T12:00", "2025-10-31T12:00"]).map(la)
NUMBERS = st.sampled_from(
    [NEW_YORK, HONOLULU, CHICAGO, LOS_ANGELES, BERLIN, "+17095552313", "+19075552313",
     "+16025552313", "+18505552313", "+15415552313", "+19995552313", "+16715552313"]
)  # fmt: skip
SPANS = st.tuples(st.integers(0, 12), st.integers(13, 24)).map(
    lambda span: make_hours(span[0] * 60, span[1] * 60)
)


@given(NIGHTS, st.integers(0, 60 * 60), st.lists(NUMBERS, min_size=1, max_size=80), SPANS,
       st.integers())  # fmt: skip
def test_every_planned_instant_lies_inside_everyone_s_hours_on_both_nights_of_the_clock_change(
    night: datetime, minutes: int, numbers: list[str], hours: smsbox.BusinessHours, seed: int
) -> None:
    numbers = [
        number
        for number in numbers
        if smsbox.common_window(night, smsbox.hours_of(number, "", hours, THEIRS))
    ]
    planned = plan(numbers, night + timedelta(minutes=minutes), seed, hours)
    assert sorted(each.message.row for each in planned) == list(range(2, len(numbers) + 2))
    for each in planned:
        assert is_awake(each.scheduled_for, each.message.phone_number)
        wall = each.scheduled_for.astimezone(hours.timezone)
        assert hours.opens <= wall.hour * 60 + wall.minute < hours.closes
    for earlier, later in pairwise(planned):
        assert later.scheduled_for - earlier.scheduled_for >= LEAST


def project(
    rows: Sequence[tuple[datetime, str]], now: datetime, hours: smsbox.BusinessHours = HOURS
) -> list[datetime]:
    waiting = [
        smsbox.Candidate(
            smsbox.hours_of(number, "", hours, THEIRS),
            smsbox.Share(number, 1), at, at, 300.0,
        )
        for at, number in rows
    ]  # fmt: skip
    budgets = smsbox.Budgets(PACE, hours.timezone)
    found = smsbox.project(waiting, now, None, PACE, timedelta(minutes=2), budgets)
    return [at for at in found if at is not None]


@given(NIGHTS, st.lists(st.tuples(st.integers(0, 4000), NUMBERS), max_size=60))
def test_queue_goes_inside_everyone_s_hours_and_nothing_is_pulled_forward(
    night: datetime, rows: list[tuple[int, str]]
) -> None:
    queue = [(night + timedelta(minutes=minutes), number) for minutes, number in sorted(rows)]
    now = night + timedelta(hours=5)
    moved = project(queue, now, make_hours(0, 1440))
    for (was, number), at in zip(queue, moved, strict=True):
        assert at >= max(was, now)
        assert is_awake(at, number)
    for earlier, later in pairwise(sorted(moved)):
        assert later - earlier >= LEAST


def test_row_that_sleeps_goes_at_its_opening_and_those_in_their_hours_at_their_times() -> None:
    walls = ("10:00", "18:30", "18:40", "19:00")
    times = [la(f"2025-11-10T{wall}") for wall in walls]
    numbers = (LOS_ANGELES, NEW_YORK, HONOLULU, HONOLULU)
    moved = project(list(zip(times, numbers, strict=True)), times[0])
    assert moved == [times[0], la("2025-11-11T09:00"), times[2], times[3]]


# --- the campaign and its preview


def test_zone_that_is_none_lets_the_area_code_decide_and_is_counted(desk: Desk) -> None:
    desk.write(
        "c.csv",
        "phone_number,customer_name,message_content,tz\n2135552313,Ana,Hi,Pacific/Honolulu\n"
        "2135552314,Ben,Hi,PST\n",
    )
    shown = desk.schedule("c.csv", "--dry-run")
    assert shown.status == 0
    assert 'no zone in 1 row ("PST" 1): the area code decides' in shown.out


def test_recipient_whom_no_hour_suits_is_a_problem_with_its_row(desk: Desk) -> None:
    desk.configure('[business_hours]\nopens = "18:30"\ncloses = "19:30"\n')
    desk.write(
        "c.csv",
        "phone_number,customer_name,message_content\n2135552313,Ana,Hi\n2125552314,Ben,Hi\n",
    )
    refused = desk.schedule("c.csv", "--dry-run")
    assert refused.status == 65
    assert 'row 3, "phone_number"' in refused.err
    assert "America/New_York" in refused.err
    shown = desk.schedule("c.csv", "--dry-run", "--skip-invalid", "--json")
    assert [each["row"] for each in shown.value["messages"]] == [2]


THREE_ZONES = (
    f"phone_number,customer_name,message_content\n{NEW_YORK},Ana,Hi\n{LOS_ANGELES},Ben,Hi\n"
    f"{BERLIN},Cleo,Hi\n"
)


def test_preview_says_who_was_moved_behind_later_rows(desk: Desk) -> None:
    desk.write("c.csv", THREE_ZONES)
    shown = " ".join(desk.schedule("c.csv", "--dry-run", "--start", f"{DAY} 18:30").out.split())
    assert "Moved: 1 message behind later rows" in shown
    next_day = f"{DAY + timedelta(days=1):%m/%d}"
    assert f"row 2, {next_day} 12:00 PM America/New_York" in shown


def test_preview_says_whose_zone_is_unknown_and_names_each_zone_in_json(desk: Desk) -> None:
    desk.write("c.csv", THREE_ZONES)
    start = ("--start", f"{DAY} 18:30")
    shown = " ".join(desk.schedule("c.csv", "--dry-run", *start).out.split())
    assert "the zone of 1 number is not known" in shown
    told = desk.schedule("c.csv", "--dry-run", "--json", *start).value["messages"]
    assert [(each["row"], each["timezone"]) for each in told] == [
        (3, "America/Los_Angeles"), (4, ""), (2, "America/New_York"),
    ]  # fmt: skip


# --- the daemon


def arrivals(box: PlayedBox) -> list[tuple[datetime, str]]:
    return [(at, number) for at, number, _ in box.far.arrived]


def test_campaign_over_four_zones_is_planned_and_sent_inside_everyone_s_hours(
    box: PlayedBox,
) -> None:
    start = box.play.start = la("2025-11-01T16:30")  # the night that has an hour twice follows
    numbers = [f"{FOUR_ZONES[i % 4][:-4]}{3000 + i}" for i in range(120)]
    planned = plan(numbers, start)
    with box.database.transaction():
        box.database.queue.add_campaign(planned, 1, start, "test")
    box.serve(3 * 86_400)
    sent = arrivals(box)
    assert [number for _, number in sent] == [each.message.phone_number for each in planned]
    assert sorted(number for _, number in sent) == sorted(numbers)
    assert [number for _, number in sent] != numbers
    for (at, number), each in zip(sent, planned, strict=True):
        assert timedelta() <= at - each.scheduled_for < timedelta(seconds=30)
        assert is_awake(at, number)
        assert smsbox.is_open(at, HOURS)


@pytest.fixture
def evening(box: PlayedBox) -> PlayedBox:
    """Sunday, 18:30 in Los Angeles: 21:30 in New York, 16:30 in Honolulu."""
    box.play.start = la("2025-11-09T18:30")
    box.tables = {"service": {"poll_seconds": 60}}
    return box


def test_row_made_by_hand_waits_for_its_recipient_and_those_awake_go_on(evening: PlayedBox) -> None:
    asleep = evening.insert(NEW_YORK, "good morning")
    own_zone = evening.insert(LOS_ANGELES, "by its zone", timezone="America/New_York")
    evening.insert(HONOLULU, "good afternoon", 60)
    evening.serve(3600)
    assert evening.texts() == ["good afternoon"]
    assert evening.row(asleep, "status") == ("scheduled",)
    evening.serve(86_400)
    assert evening.texts() == ["good afternoon", "good morning", "by its zone"]
    times = [at for at, _, _ in evening.far.arrived]
    assert times[1] - la("2025-11-10T09:00") < timedelta(seconds=30)
    assert times[2] - times[1] >= LEAST - timedelta(seconds=5)
    assert evening.row(own_zone, "status") == ("sent",)


def test_anyway_passes_the_sender_s_hours_and_never_the_recipient_s(evening: PlayedBox) -> None:
    evening.play.start = la("2025-11-09T20:30")
    asleep = [evening.insert(NEW_YORK, f"asleep {i}", anyway=1) for i in range(3)]
    evening.insert(LOS_ANGELES, "awake", anyway=1)
    evening.serve(120)
    assert evening.texts() == ["awake"]
    row = evening.database.queue.row(smsbox.MessageId(asleep[0]))
    assert row
    gate = smsbox.find_hours(row.phone_number, "", True, evening.play.now(), CONFIG)
    assert "which --anyway does not pass" in gate.shut
    evening.serve(86_400)
    assert len(evening.texts()) == 4
    times = [at for at, _, _ in evening.far.arrived[1:]]
    assert times[0] - la("2025-11-10T09:00") < timedelta(seconds=30)  # late, they wait for both
    assert all(later - earlier >= LEAST for earlier, later in pairwise(times))


def test_recipient_hours_switched_off_hold_nobody_back(evening: PlayedBox) -> None:
    evening.tables |= {"recipient_hours": {"enabled": False}}
    evening.insert(NEW_YORK, "late", timezone="Nowhere")
    evening.serve(120)
    assert evening.texts() == ["late"]


def test_row_with_an_unknown_zone_or_with_no_common_hour_is_held_with_the_reason(
    evening: PlayedBox,
) -> None:
    evening.tables |= {"business_hours": {"opens": "18:00", "closes": "19:00"}}
    nowhere = evening.insert(LOS_ANGELES, "nowhere", timezone="Nowhere")
    never = evening.insert(NEW_YORK, "never")
    evening.insert(LOS_ANGELES, "awake", 300)
    evening.serve(900)
    assert evening.texts() == ["awake"]
    assert "no zone" in evening.row(nowhere, "held_because")[0]
    assert "no hour is open" in evening.row(never, "held_because")[0]


def test_passing_refusal_is_tried_again_in_the_recipient_s_hours(evening: PlayedBox) -> None:
    evening.play.start = la("2025-11-09T17:58")  # 20:58 in New York
    row = evening.insert(NEW_YORK, "hello")
    evening.far.script.extend([b"\r\n+CMS ERROR: 42\r\n"] * 2)
    evening.serve(600)
    assert evening.texts() == []
    evening.far.script.clear()
    evening.serve(86_400)
    assert evening.row(row, "status") == ("sent",)
    assert evening.far.arrived[0][0] - la("2025-11-10T09:00") < timedelta(seconds=30)


def test_other_recipient_hours_hold_the_rows_that_lie_outside_them(evening: PlayedBox) -> None:
    evening.play.start = la("2025-11-09T10:00")
    evening.serve(60)
    evening.insert(NEW_YORK, "hello", 7 * 3600)
    evening.tables |= {"recipient_hours": {"closes": "18:00"}}
    evening.serve(86_400)
    assert evening.far.arrived[0][0] - la("2025-11-10T09:00") < timedelta(seconds=30)


def test_send_and_why_name_the_recipient_s_hours_and_anyway_does_not_pass_them(
    operator: Operator,
) -> None:
    noon = datetime.now(ZoneInfo("America/Los_Angeles")).hour < 12
    span = ("20:00", "21:00") if noon else ("01:00", "02:00")
    operator.config.write_text(
        '[business_hours]\nopens = "00:00"\ncloses = "24:00"\n'
        f'[recipient_hours]\nopens = "{span[0]}"\ncloses = "{span[1]}"\n'
    )
    for words in ((), ("--anyway",)):
        told = operator.sentence("send", LOS_ANGELES, "Hi", *words, status=75)
        assert "outside the recipient's hours in America/Los_Angeles" in told
        assert ("which --anyway does not pass" in told) is bool(words)
        assert "add --anyway" not in told
    operator.insert(-1)
    assert "outside the recipient's hours" in operator.run("why", "1").out


def test_settings_of_the_recipient_s_hours_are_in_force() -> None:
    shown = smsbox.render_example_config().partition("[recipient_hours]")[2].partition("\n\n")[0]
    assert "not in force" not in shown
    assert make_pace().interval_minutes == (4, 7)
