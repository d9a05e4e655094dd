"""Pacing: business hours, intervals and skips; the plan, and when what waits will really go."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import smsbox
from rig.pace import LOS_ANGELES, la, make_hours, make_pace

UTC = timezone.utc
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
FORWARD = date(2025, 3, 9)  # the night that loses 2:00 to 3:00
BACK = date(2025, 11, 2)  # the night that has 1:00 to 2:00 twice
PACE = smsbox.parse_config({}).pacing
HOURS = smsbox.parse_config({}).business_hours


ALWAYS = make_hours(0, 24 * 60)


def make_messages(count: int) -> list[smsbox.Message]:
    return [
        smsbox.Message(
            row=row,
            phone_number=smsbox.PhoneNumber(f"+1213555{row:04}"),
            customer_name=f"Name {row}",
            message_content="Hi",
            campaign_name="test",
            campaign_message_id=str(row),
            bubbles=1,
            segments=1,
            encoding=smsbox.Encoding.GSM7,
        )
        for row in range(2, count + 2)
    ]


def plan(
    count: int,
    start: datetime,
    *,
    seed: int = 1,
    pace: smsbox.Pace = PACE,
    hours: smsbox.BusinessHours = HOURS,
    after: datetime | None = None,
) -> list[smsbox.ScheduledMessage]:
    messages = make_messages(count)
    return smsbox.plan(messages, start, random.Random(seed), pace, hours, after)


def times_of(planned: Sequence[smsbox.ScheduledMessage]) -> list[datetime]:
    return [each.scheduled_for for each in planned]


def is_in_hours(at: datetime, hours: smsbox.BusinessHours) -> bool:
    """Tell from the wall clock alone whether a message may begin."""
    wall = at.astimezone(hours.timezone)
    return (
        hours.opens <= wall.hour * 60 + wall.minute < hours.closes
        and wall.weekday() in hours.days
        and wall.date() not in hours.closed_on
    )


# --- the hours ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wall", "is_open"),
    [("08:59:59", False), ("09:00:00", True), ("12:00:00", True), ("19:59:59", True),
     ("20:00:00", False), ("23:59:59", False), ("00:00:00", False)],
)  # fmt: skip
@pytest.mark.parametrize("day", ["2025-03-09", "2025-07-01", "2025-11-02", "2025-12-31"])
def test_box_is_open_from_nine_to_before_twenty_on_the_wall_clock(
    day: str, wall: str, is_open: bool
) -> None:
    at = la(f"{day}T{wall}")
    assert smsbox.is_open(at, HOURS) is is_open
    assert (smsbox.next_open(at, HOURS) == at) is is_open


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        (FORWARD - timedelta(days=1), "2025-03-08 17:00", "2025-03-09 04:00"),
        (FORWARD, "2025-03-09 16:00", "2025-03-10 03:00"),
        (BACK - timedelta(days=1), "2025-11-01 16:00", "2025-11-02 03:00"),
        (BACK, "2025-11-02 17:00", "2025-11-03 04:00"),
    ],
)
def test_window_is_nine_to_twenty_on_the_days_around_the_clock_change(
    day: date, opens: str, closes: str
) -> None:
    expected = tuple(datetime.fromisoformat(at).replace(tzinfo=UTC) for at in (opens, closes))
    assert smsbox.opening_window(day, HOURS) == expected


@pytest.mark.parametrize(
    ("day", "hours"), [(FORWARD, 23), (BACK, 25), (date(2025, 7, 1), 24), (date(2025, 12, 31), 24)]
)
def test_whole_day_is_as_long_as_the_day_is(day: date, hours: int) -> None:
    window = smsbox.opening_window(day, ALWAYS)
    assert window
    assert window[1] - window[0] == timedelta(hours=hours)
    assert window[0].astimezone(LOS_ANGELES).replace(tzinfo=None) == datetime(
        day.year, day.month, day.day
    )
    following = smsbox.opening_window(day + timedelta(days=1), ALWAYS)
    assert following
    assert following[0] == window[1]


@pytest.mark.parametrize(
    ("opens", "closes"),
    [("00:00", "02:30"), ("01:00", "02:01"), ("02:00", "02:30"), ("02:10", "02:50"),
     ("02:30", "04:00"), ("00:30", "03:00"), ("03:00", "03:30")],
)  # fmt: skip
def test_no_instant_outside_the_hours_is_open_in_the_night_that_loses_an_hour(
    opens: str, closes: str
) -> None:
    check_night(FORWARD, opens, closes)


@pytest.mark.parametrize(
    ("opens", "closes"),
    [("00:00", "01:30"), ("01:00", "02:00"), ("01:15", "01:45"), ("01:30", "03:00"),
     ("00:30", "01:01"), ("01:59", "02:00"), ("00:00", "24:00")],
)  # fmt: skip
def test_no_instant_outside_the_hours_is_open_in_the_night_that_has_an_hour_twice(
    opens: str, closes: str
) -> None:
    check_night(BACK, opens, closes)


def check_night(night: date, opens: str, closes: str) -> None:
    table = {"opens": opens, "closes": closes}
    hours = smsbox.parse_config({"business_hours": table}).business_hours
    at = datetime(night.year, night.month, night.day, tzinfo=LOS_ANGELES).astimezone(UTC)
    for _ in range(60 * 24):
        if smsbox.is_open(at, hours):
            assert is_in_hours(at, hours), at.astimezone(LOS_ANGELES)
        following = smsbox.next_open(at, hours)
        assert following >= at
        assert is_in_hours(following, hours), at.astimezone(LOS_ANGELES)
        at += MINUTE


def test_closed_days_have_no_window() -> None:
    hours = make_hours(days=[0, 1, 2, 3, 4], closed_on=[date(2025, 11, 27)])
    assert smsbox.opening_window(date(2025, 11, 8), hours) is None  # a Saturday
    assert smsbox.opening_window(date(2025, 11, 27), hours) is None  # Thanksgiving
    assert smsbox.opening_window(date(2025, 11, 28), hours)


def test_hours_that_never_open_are_a_config_error() -> None:
    mondays = [date(2025, 11, 10) + timedelta(weeks=week) for week in range(560)]
    with pytest.raises(smsbox.ConfigError, match="business_hours"):
        smsbox.next_open(la("2025-11-09T10:00"), make_hours(days=[0], closed_on=mondays))


# --- the plan -----------------------------------------------------------------------------------


def test_no_messages_have_no_plan() -> None:
    assert plan(0, la("2025-11-10T10:00")) == []


def test_plan_keeps_the_messages_and_their_order() -> None:
    messages = make_messages(50)
    planned = smsbox.plan(messages, la("2025-11-10T19:00"), random.Random(1), PACE, HOURS)
    assert [each.message for each in planned] == messages
    times = times_of(planned)
    assert times == sorted(set(times))


def test_first_goes_first_after_seconds_after_the_start() -> None:
    start = la("2025-11-10T10:00")
    [first] = plan(1, start)
    assert first.scheduled_for == start + 60 * SECOND
    assert (first.gap_s, first.skip_s, first.opens_day) == (60, 0, False)
    [first] = plan(1, start, pace=make_pace(first_after_seconds=0))
    assert first.scheduled_for == start
    [first] = plan(1, start, pace=make_pace(first_after_seconds=3600))
    assert first.scheduled_for == start + timedelta(hours=1)


def test_gaps_and_skips_are_the_guide_s_over_many_messages() -> None:
    planned = plan(20_000, la("2025-11-10T10:00"), hours=ALWAYS)[1:]
    gaps = [each.gap_s for each in planned]
    skips = [each.skip_s for each in planned if each.skip_s]
    assert 240 <= min(gaps) < 243
    assert 417 < max(gaps) <= 420
    assert 0.15 <= len(skips) / len(planned) <= 0.20
    assert 600 <= min(skips) < 605
    assert 895 < max(skips) <= 900
    for drawn, low, high in ((gaps, 240, 420), (skips, 600, 900)):
        for quarter in range(4):  # drawn evenly: each quarter of the span has its share
            begin = low + quarter * (high - low) / 4
            share = sum(begin <= each < begin + (high - low) / 4 for each in drawn) / len(drawn)
            assert 0.22 < share < 0.28


def test_skips_come_one_by_one_and_not_in_a_pattern() -> None:
    planned = plan(5_000, la("2025-11-10T10:00"), hours=ALWAYS)
    skipped = [bool(each.skip_s) for each in planned]
    after_a_skip = [later for earlier, later in pairwise(skipped) if earlier]
    assert 0.12 < sum(after_a_skip) / len(after_a_skip) < 0.23


def test_time_between_two_messages_is_gap_and_skip() -> None:
    planned = plan(500, la("2025-11-10T10:00"), hours=ALWAYS)
    for earlier, later in pairwise(planned):
        between = (later.scheduled_for - earlier.scheduled_for).total_seconds()
        assert between == later.gap_s + later.skip_s
        assert not later.opens_day


def test_skip_chance_of_nought_and_one_are_never_and_always() -> None:
    never = plan(300, la("2025-11-10T10:00"), pace=make_pace(skip_chance=[0, 0]))
    assert all(each.skip_s == 0 for each in never)
    always = plan(300, la("2025-11-10T10:00"), pace=make_pace(skip_chance=[1, 1]))
    assert all(600 <= each.skip_s <= 900 for each in always[1:])


def test_fractions_of_a_minute_make_a_fast_plan() -> None:
    pace = make_pace(interval_minutes=[0.01, 0.02], skip_chance=[0, 0], first_after_seconds=0.5)
    start = la("2025-11-10T10:00")
    planned = plan(100, start, pace=pace)
    assert timedelta(seconds=55) <= planned[-1].scheduled_for - start <= timedelta(seconds=121)


def test_times_are_whole_seconds_in_utc() -> None:
    start = la("2025-11-10T10:00:00.75")
    for pace in (PACE, make_pace(interval_minutes=[4.001, 4.002], first_after_seconds=0.3)):
        for at in times_of(plan(50, start, pace=pace)):
            assert at.microsecond == 0
            assert at.utcoffset() == timedelta(0)


def test_same_seed_gives_the_same_plan_to_the_second_and_another_seed_another() -> None:
    start = la("2025-11-10T10:00")
    assert plan(200, start, seed=5) == plan(200, start, seed=5)
    assert times_of(plan(200, start, seed=5)) != times_of(plan(200, start, seed=6))


def test_longer_file_begins_with_the_plan_of_the_shorter_one() -> None:
    start = la("2025-11-10T10:00")
    assert times_of(plan(200, start))[:50] == times_of(plan(50, start))


@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("2025-11-10T08:58:59", "2025-11-10T09:00:00"),
        ("2025-11-10T08:59:00", "2025-11-10T09:00:00"),
        ("2025-11-10T08:59:30", "2025-11-10T09:00:30"),
        ("2025-11-10T00:00:00", "2025-11-10T09:00:00"),
        ("2025-11-10T19:58:59", "2025-11-10T19:59:59"),
        ("2025-11-10T19:59:00", "2025-11-11T09:00:00"),
        ("2025-11-10T20:00:00", "2025-11-11T09:00:00"),
        ("2025-11-10T23:59:59", "2025-11-11T09:00:00"),
        ("2025-12-31T22:00:00", "2026-01-01T09:00:00"),
        ("2025-03-08T20:00:00", "2025-03-09T09:00:00"),
        ("2025-03-09T01:30:00", "2025-03-09T09:00:00"),
        ("2025-11-01T20:00:00", "2025-11-02T09:00:00"),
        ("2025-11-02T01:30:00", "2025-11-02T09:00:00"),
    ],
)
def test_first_message_outside_the_hours_goes_at_exactly_nine(start: str, first: str) -> None:
    [planned] = plan(1, la(start))
    assert planned.scheduled_for == la(first)
    assert planned.opens_day is (first.endswith("09:00:00") and start != "2025-11-10T08:59:00")


@pytest.mark.parametrize("start", ["2025-03-07T10:00", "2025-10-31T10:00", "2025-07-01T10:00"])
def test_days_begin_at_exactly_nine_and_end_before_twenty_over_the_clock_change(
    start: str,
) -> None:
    for seed in range(5):
        planned = plan(400, la(start), seed=seed)
        by_day: dict[date, list[datetime]] = {}
        for at in times_of(planned):
            wall = at.astimezone(LOS_ANGELES)
            by_day.setdefault(wall.date(), []).append(wall)
        days = sorted(by_day)
        assert len(days) > 3
        assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(days))
        for day in days:
            first, last = by_day[day][0], by_day[day][-1]
            assert last.hour < 20
            if day != days[0]:
                assert (first.hour, first.minute, first.second) == (9, 0, 0)


def test_only_what_falls_outside_the_hours_is_moved_and_its_gap_is_left_behind() -> None:
    planned = plan(600, la("2025-10-30T10:00"))
    for earlier, later in pairwise(planned):
        drawn = timedelta(seconds=later.gap_s + later.skip_s)
        meant = earlier.scheduled_for + drawn
        assert later.opens_day is not is_in_hours(meant, HOURS)
        if later.opens_day:
            wall = later.scheduled_for.astimezone(LOS_ANGELES)
            assert f"{wall:%H:%M:%S}" == "09:00:00"
            assert wall.date() == earlier.scheduled_for.astimezone(LOS_ANGELES).date() + timedelta(
                days=1
            )
        else:
            assert later.scheduled_for == meant
    assert sum(each.opens_day for each in planned) > 4


def test_whole_day_plan_goes_on_through_midnight_and_both_clock_changes() -> None:
    for start in ("2025-03-08T22:00", "2025-11-01T22:00"):
        planned = plan(100, la(start), hours=ALWAYS)
        assert not any(each.opens_day for each in planned)
        assert planned[-1].scheduled_for - la(start) > timedelta(hours=8)
        gaps = [later - earlier for earlier, later in pairwise(times_of(planned))]
        assert all(240 * SECOND <= gap <= 1320 * SECOND for gap in gaps)


def test_closed_days_are_passed_over() -> None:
    hours = make_hours(days=[0, 1, 2, 3, 4], closed_on=[date(2025, 11, 10)])
    [first, second] = plan(2, la("2025-11-07T19:58"), hours=hours)
    assert first.scheduled_for == la("2025-11-07T19:59")
    assert second.scheduled_for == la("2025-11-11T09:00")  # Saturday, Sunday, the holiday
    assert second.opens_day


def test_hours_are_those_of_the_sender_s_zone() -> None:
    hours = make_hours(zone="Europe/Berlin")
    [first] = plan(1, datetime(2025, 7, 1, 3, 0, tzinfo=UTC), hours=hours)
    assert first.scheduled_for == datetime(2025, 7, 1, 7, 0, tzinfo=UTC)


def test_behind_a_queue_the_first_waits_an_interval_too() -> None:
    after = la("2025-11-10T12:00")
    firsts = [plan(1, la("2025-11-10T10:00"), seed=seed, after=after)[0] for seed in range(300)]
    for first in firsts:
        assert first.scheduled_for == after + (first.gap_s + first.skip_s) * SECOND
        assert 240 <= first.gap_s <= 420
    assert 0.08 < sum(bool(first.skip_s) for first in firsts) / len(firsts) < 0.27


def test_behind_a_queue_that_ends_in_the_evening_the_first_opens_the_next_day() -> None:
    [first] = plan(1, la("2025-11-10T10:00"), after=la("2025-11-10T19:58"))
    assert first.scheduled_for == la("2025-11-11T09:00")
    assert first.opens_day


# --- any plan at all ----------------------------------------------------------------------------

ZONES = st.sampled_from(
    ["America/Los_Angeles", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "UTC",
     "America/Santiago", "Africa/Cairo", "America/Havana", "Asia/Kathmandu", "Pacific/Apia"]
)  # fmt: skip
DAYS = st.frozensets(st.integers(0, 6), min_size=1)
SPANS = st.tuples(st.integers(0, 1439), st.integers(1, 1440)).filter(lambda span: span[0] < span[1])
ANY_HOURS = st.builds(
    lambda span, days, closed_on, zone: make_hours(span[0], span[1], days, closed_on, zone),
    SPANS,
    DAYS,
    st.frozensets(st.dates(date(2025, 1, 1), date(2026, 12, 31)), max_size=5),
    ZONES,
)
# Any time of two years, the nights of the clock changes among them more often.
STARTS = st.one_of(
    st.datetimes(datetime(2025, 1, 1), datetime(2026, 12, 31)),
    st.builds(
        lambda night, minutes: night + timedelta(minutes=minutes),
        st.sampled_from([datetime(2025, 3, 9), datetime(2025, 11, 2), datetime(2026, 3, 8),
                         datetime(2026, 11, 1), datetime(2025, 3, 30), datetime(2025, 10, 26)]),
        st.integers(-600, 1200),
    ),
).map(lambda at: at.replace(tzinfo=UTC))  # fmt: skip
PACES = st.builds(
    lambda first, interval, chance, skip: make_pace(
        first_after_seconds=first,
        interval_minutes=sorted(interval),
        skip_chance=[0, chance],
        skip_minutes=sorted(skip),
    ),
    st.floats(0, 7200),
    st.tuples(st.floats(0, 600), st.floats(0, 600)),
    st.floats(0, 1),
    st.tuples(st.floats(0, 60), st.floats(0, 60)),
)


@given(STARTS, ANY_HOURS, PACES, st.integers(), st.booleans())
@example(la("2025-03-09T00:00"), make_hours(0, 150), make_pace(interval_minutes=[7, 7]), 1, False)
@example(la("2025-11-02T00:00"), make_hours(75, 180), make_pace(interval_minutes=[7, 7]), 1, False)
def test_every_planned_time_is_inside_the_hours(
    start: datetime, hours: smsbox.BusinessHours, pace: smsbox.Pace, seed: int, queued: bool
) -> None:
    planned = plan(25, start, seed=seed, pace=pace, hours=hours, after=start if queued else None)
    at = start
    for each in planned:
        assert is_in_hours(each.scheduled_for, hours), each.scheduled_for.astimezone(hours.timezone)
        assert each.scheduled_for >= at - SECOND
        at = each.scheduled_for
    low, high = (minutes * 60 for minutes in pace.interval_minutes)
    for each in planned if queued else planned[1:]:
        assert low <= each.gap_s <= high
        assert each.skip_s == 0 or (
            pace.skip_minutes[0] * 60 <= each.skip_s <= pace.skip_minutes[1] * 60
        )


@given(STARTS, st.integers())
def test_plan_in_the_usual_hours_keeps_its_intervals(start: datetime, seed: int) -> None:
    for earlier, later in pairwise(times_of(plan(120, start, seed=seed))):
        assert is_in_hours(later, HOURS)
        assert later - earlier >= 240 * SECOND


@given(STARTS, ANY_HOURS)
def test_next_opening_is_the_first_minute_inside_the_hours(
    start: datetime, hours: smsbox.BusinessHours
) -> None:
    assume(hours.closes - hours.opens >= 180)
    following = smsbox.next_open(start, hours)
    assert is_in_hours(following, hours)
    if following == start:
        return
    # On the nights of a clock change the box may stay shut a little longer, never shorter.
    wall = following.astimezone(hours.timezone)
    around = (start, start - timedelta(days=1), following + timedelta(days=1))
    changes = {at.astimezone(hours.timezone).utcoffset() for at in (following, *around)}
    assume(len(changes) == 1)
    assert (wall.hour * 60 + wall.minute, wall.second) == (hours.opens, 0)
    at = start
    while at < following:
        assert not is_in_hours(at, hours), at.astimezone(hours.timezone)
        at += 10 * MINUTE


# --- when what waits will really go -------------------------------------------------------------


def project(
    times: Sequence[datetime],
    now: datetime,
    last: datetime | None = None,
    *,
    gaps_s: Sequence[float] = (),
    hours: smsbox.BusinessHours = HOURS,
) -> list[datetime]:
    waiting = [
        smsbox.Candidate((hours,), smsbox.Share(f"+1213555{place:04}", 1), at, at, gap_s)
        for place, (at, gap_s) in enumerate(zip(times, gaps_s or [300.0] * len(times), strict=True))
    ]
    budgets = smsbox.Budgets(PACE, hours.timezone)
    found = smsbox.project(waiting, now, last, PACE, 2 * MINUTE, budgets)
    return [at for at in found if at is not None]


def test_nothing_late_goes_at_its_time() -> None:
    times = times_of(plan(100, la("2025-11-10T10:00")))
    assert project(times, times[0]) == times
    assert project(times, times[0] - timedelta(hours=3)) == times
    assert project([], times[0]) == []


def test_late_rows_go_each_at_its_own_gap_and_the_rest_at_its_time() -> None:
    times = [la(f"2025-11-10T{wall}") for wall in ("10:00", "10:05", "10:10", "15:00", "15:05")]
    noon = la("2025-11-10T12:00")
    gaps_s = [300.0, 250.0, 1300.0, 250.0, 250.0]
    assert project(times, noon, gaps_s=gaps_s) == [
        noon,
        noon + 250 * SECOND,
        noon + 1550 * SECOND,
        *times[3:],
    ]


def test_backlog_pushes_what_follows_only_as_far_as_needed() -> None:
    planned = times_of(plan(60, la("2025-11-10T09:00"), pace=make_pace(interval_minutes=[20, 20])))
    late_at = planned[10] + MINUTE
    moved = project(planned, late_at, gaps_s=[600.0] * 60)
    kept = next(place for place in range(60) if moved[place] == planned[place])
    assert 0 < kept < 60
    assert moved[kept:] == planned[kept:]
    for place in range(kept):
        assert moved[place] > planned[place]
    for earlier, later in pairwise(moved[: kept + 1]):
        assert later - earlier >= 240 * SECOND


def test_days_of_downtime_make_no_burst() -> None:
    planned = plan(300, la("2025-11-03T09:00"))
    gaps_s = [each.gap_s + each.skip_s for each in planned]
    moved = project(times_of(planned), la("2025-11-08T22:00"), gaps_s=gaps_s)
    assert len(moved) == 300
    assert moved[0] == la("2025-11-09T09:00")
    for (earlier, later), gap_s in zip(pairwise(moved), gaps_s[1:], strict=True):
        assert (later - earlier).total_seconds() >= gap_s
    assert all(is_in_hours(at, HOURS) for at in moved)


@pytest.mark.parametrize(
    ("now", "first"),
    [
        ("2025-03-08T21:00", "2025-03-09T09:00"),
        ("2025-11-01T21:00", "2025-11-02T09:00"),
        ("2025-11-02T01:30", "2025-11-02T09:00"),
    ],
)
def test_backlog_begins_now_or_at_the_next_opening(now: str, first: str) -> None:
    times = [la("2025-03-01T10:00"), la("2025-03-01T10:05")]
    assert project(times, la(now))[0] == la(first)


def test_row_that_is_late_waits_its_own_gap_behind_the_one_begun_last() -> None:
    now = la("2025-11-10T12:00")
    late = [la("2025-11-10T10:00")]
    assert project(late, now, now - MINUTE, gaps_s=[900.0]) == [now + 14 * MINUTE]
    assert project([now], now, now - 3 * MINUTE, gaps_s=[900.0]) == [now + MINUTE]


@given(
    st.lists(STARTS, min_size=1, max_size=12).map(sorted),
    STARTS,
    ANY_HOURS,
    st.lists(st.floats(240, 1320), min_size=12, max_size=12),
)
def test_no_row_goes_before_its_own_time_out_of_order_or_near_another(
    times: list[datetime], now: datetime, hours: smsbox.BusinessHours, gaps_s: list[float]
) -> None:
    moved = project(times, now, hours=hours, gaps_s=gaps_s[: len(times)])
    assert moved == sorted(moved)
    assert all(at >= max(was, now) for was, at in zip(times, moved, strict=True))
    assert all(is_in_hours(at, hours) for at in moved)
    for place, (earlier, later) in enumerate(pairwise(moved), 1):
        assert later - earlier >= 240 * SECOND
        if later - times[place] > 2 * MINUTE:
            assert (later - earlier).total_seconds() >= gaps_s[place] - 1e-3


def test_settings_of_the_pace_reach_the_plan() -> None:
    table: Mapping[str, object] = {"pacing": {"interval_minutes": [1, 2], "skip_chance": [0, 0]}}
    pace = smsbox.parse_config(table).pacing
    times = times_of(plan(100, la("2025-11-10T10:00"), pace=pace))
    assert all(60 * SECOND <= later - earlier <= 120 * SECOND for earlier, later in pairwise(times))
