"""Pacing: the times that people type, and that smsbox shows; the zones' nights included."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import smsbox
from rig.pace import LOS_ANGELES, la

UTC = timezone.utc
NOW = la("2025-11-08T09:30:30")  # a Saturday
NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def parse(text: str, now: datetime = NOW, needs_hour: bool = True) -> datetime:
    return smsbox.parse_local_time(text, LOS_ANGELES, now, needs_hour)


def refusal(text: str, now: datetime = NOW) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse(text, now)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("2025-11-10 10:00", "2025-11-10 18:00:00"),
        ("2025-07-01 10:00", "2025-07-01 17:00:00"),
        ("2025-07-01T10:00", "2025-07-01 17:00:00"),
        ("2025-07-01 9:05", "2025-07-01 16:05:00"),
        ("  2025-07-01 10:00 ", "2025-07-01 17:00:00"),
        ("2025-07-01 00:00", "2025-07-01 07:00:00"),
        ("2025-07-01 23:59", "2025-07-02 06:59:00"),
        ("2025-03-09 01:59", "2025-03-09 09:59:00"),
        ("2025-03-09 03:00", "2025-03-09 10:00:00"),
        ("2025-11-02 00:59", "2025-11-02 07:59:00"),
        ("2025-11-02 01:00", "2025-11-02 08:00:00"),
        ("2025-11-02 01:59", "2025-11-02 08:59:00"),
        ("2025-11-02 02:00", "2025-11-02 10:00:00"),
        ("2028-02-29 10:00", "2028-02-29 18:00:00"),
        ("11/30 10:00 AM", "2025-11-30 18:00:00"),
        ("11/30 12:00 am", "2025-11-30 08:00:00"),
        ("11/30 12:05 p.m.", "2025-11-30 20:05:00"),
        ("11/30 6pm", "2025-12-01 02:00:00"),
        ("11/30 18:00", "2025-12-01 02:00:00"),
        ("11/30/2026 10:00", "2026-11-30 18:00:00"),
        ("Sun 11/30 10:00 AM", "2025-11-30 18:00:00"),
        ("Sunday, 11/30 10:00 AM PST", "2025-11-30 18:00:00"),
        ("1/2 10:00", "2026-01-02 18:00:00"),
        ("11/1 10:00", "2025-11-01 17:00:00"),  # a week ago, not next year
        ("2025-11-02 01:30 PDT", "2025-11-02 08:30:00"),
        ("2025-11-02 01:30 pst", "2025-11-02 09:30:00"),  # the second of the two
        ("18:00", "2025-11-09 02:00:00"),
        ("9:30", "2025-11-08 17:30:00"),
        ("today 6 PM", "2025-11-09 02:00:00"),
        ("tomorrow 10:00", "2025-11-09 18:00:00"),
        ("fri 18:00", "2025-11-15 02:00:00"),
        ("Friday 18:00", "2025-11-15 02:00:00"),
        ("sat 18:00", "2025-11-09 02:00:00"),
        ("sat 9:00", "2025-11-15 17:00:00"),  # that has passed today
        ("thurs 9:00", "2025-11-13 17:00:00"),
    ],
)
def test_local_time_is_read_as_wall_time_and_the_repeated_hour_is_the_first(
    written: str, utc: str
) -> None:
    at = parse(written)
    assert at.utcoffset() == timedelta(0)
    assert smsbox.to_database_time(at) == utc


@pytest.mark.parametrize("written", ["2025-03-09 02:00", "2025-03-09 02:30", "2025-03-09 02:59"])
def test_local_time_in_the_missing_hour_is_an_error(written: str) -> None:
    assert "does not exist" in refusal(written)


@pytest.mark.parametrize("written", ["today 2:30", "2:30", "sun 2:30 AM", "3/9 2:30", "03/09 2 am"])
def test_what_falls_into_the_missing_hour_is_an_error_however_it_is_written(written: str) -> None:
    assert "does not exist" in refusal(written, la("2025-03-09T01:30"))


@pytest.mark.parametrize(
    "written",
    ["", "now", "2025-11-10", "tomorrow", "fri", "11/30", "2025-11-10 10", "fri 6", "10",
     "2025-11-10 24:00", "2025-11-10 10:60", "0:30 AM", "13:00 PM", "2025-02-29 10:00",
     "2/29 10:00", "2025-13-01 10:00", "13/1 10:00", "30.11. 10:00", "2025-11-10 10:00Z",
     "2025-11-10 10:00+01:00", "2025-W46-1 10:00", "２０２５-11-10 10:00", "2025-11-10\n10:00",
     "0000-01-01 00:00", "9999-12-31 23:59", "fri18:00", "next fri 10:00", "in 2 hours"],
)  # fmt: skip
def test_what_is_no_local_time_is_an_error_that_shows_the_forms(written: str) -> None:
    forms = '"2025-11-30 10:00", "11/30 10:00 AM", "tomorrow 10:00" or "fri 18:00"'
    assert refusal(written) == f'"{written}" is not a time: write it like {forms}'


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("Mon 11/30 10:00 AM", "that day is a Sunday"),
        ("2025-11-10 10:00 PDT", "it is PST there then"),
        ("2025-11-10 10:00 EST", "it is PST there then"),
        ("1999-11-10 10:00", "outside the years 2020 to 2099"),
        ("1/1/2100 10:00", "outside the years 2020 to 2099"),
    ],
)
def test_a_time_that_contradicts_itself_is_refused_with_the_reason(
    written: str, words: str
) -> None:
    assert words in refusal(written)


@pytest.mark.parametrize(
    ("written", "utc"),
    [("fri", "2025-11-14 08:00:00"), ("tomorrow", "2025-11-09 08:00:00"),
     ("sat", "2025-11-15 08:00:00"), ("2025-11-30", "2025-11-30 08:00:00"),
     ("11/30", "2025-11-30 08:00:00")],
)  # fmt: skip
def test_a_day_alone_is_its_first_minute_where_a_day_is_enough(written: str, utc: str) -> None:
    assert smsbox.to_database_time(parse(written, needs_hour=False)) == utc


# --- what is shown is read as it was meant

# Of these zones the abbreviations are letters, and the clock goes back and forth in both halves of
# the year, at night and at midnight.
LETTERED = st.sampled_from(
    ["America/Los_Angeles", "America/New_York", "Europe/Berlin", "Australia/Sydney", "UTC",
     "Africa/Cairo", "America/Havana", "America/Halifax"]
).map(ZoneInfo)  # fmt: skip
NIGHTS = [la("2025-03-09T00:00"), la("2025-11-02T00:00"), la("2028-02-29T00:00"),
          la("2025-12-31T22:00"), la("2027-03-28T00:00")]  # fmt: skip
MINUTES = st.one_of(
    st.integers(0, 70 * 365 * 1440).map(lambda minutes: datetime(2025, 1, 1, tzinfo=UTC)
                                        + timedelta(minutes=minutes)),
    st.builds(lambda night, minutes: night + timedelta(minutes=minutes),
              st.sampled_from(NIGHTS), st.integers(-300, 1700)),
)  # fmt: skip
SHOWN: dict[str, Callable[[datetime], str]] = {
    "with a year": lambda local: f"{local:%Y-%m-%d %H:%M}",
    "as a row": smsbox.show_time,
    "as a sentence": lambda local: f"{local:%a %m/%d} {local.hour % 12 or 12}:{local:%M %p}",
    "as a banner": lambda local: f"{local:%m/%d/%Y %I:%M:%S %p}",
    "as a page": lambda local: f"{local:%m/%d/%Y %I:%M %p}",
}


def read_again(local: datetime, shown: str, now: datetime) -> datetime:
    zone = local.tzinfo
    assert isinstance(zone, ZoneInfo)
    return smsbox.parse_local_time(shown, zone, now)


@pytest.mark.parametrize("form", SHOWN)
@given(MINUTES, LETTERED, st.integers(-30, 333))
@example(datetime(2028, 12, 14, 18, tzinfo=UTC), LOS_ANGELES, 333)
@example(datetime(2025, 11, 2, 9, 30, tzinfo=UTC), LOS_ANGELES, 0)
def test_every_time_that_is_shown_with_its_zone_is_read_back(
    form: str, at: datetime, zone: ZoneInfo, days_ahead: int
) -> None:
    local, now = at.astimezone(zone), at - timedelta(days=days_ahead)
    assume(2020 <= local.year <= 2099)
    assert read_again(local, f"{SHOWN[form](local)} {local:%Z}", now) == at


@pytest.mark.parametrize("form", SHOWN)
@given(MINUTES, LETTERED)
def test_every_time_that_is_shown_without_its_zone_is_read_back_but_for_the_repeated_hour(
    form: str, at: datetime, zone: ZoneInfo
) -> None:
    local = at.astimezone(zone)
    assume(2020 <= local.year <= 2099)
    first = local.replace(fold=0).astimezone(UTC)
    assert read_again(local, SHOWN[form](local), at) == first


@given(
    st.dates(date(2024, 1, 1), date(2032, 12, 31)), st.dates(date(2024, 1, 1), date(2032, 12, 31))
)
@example(date(2028, 1, 15), date(2028, 12, 14))  # 334 days ahead, and 32 ago: a leap year
def test_a_day_without_a_year_is_a_day_near_now_in_every_year(today: date, other: date) -> None:
    assume((other.month, other.day) != (2, 29))
    now = datetime.combine(today, time(12), LOS_ANGELES).astimezone(UTC)
    day = parse(f"{other:%m/%d} 12:00", now).astimezone(LOS_ANGELES).date()
    assert (day.month, day.day) == (other.month, other.day)
    assert -32 < (day - today).days < 335


# --- what people type

DAYS = st.sampled_from(
    ["", "today", "tomorrow", "fri", "Sunday", "sat", "11/30", "2/29", "11/02", "3/9", "Sun 11/2",
     "Mon, 11/30", "11/30/2025", "2025-11-02", "2025-03-09", "13/13", "2025-02-30", "0/0",
     "yesterday"]
)  # fmt: skip
HOURS = st.sampled_from(
    ["", "10:00", "2:30", "1:30", "18:00", "24:00", "0:00", "23:59:59", "6 pm", "6pm", "12 a.m.",
     "12:00 PM", "13 pm", "6", "9:5", "10:00:61", "noon"]
)  # fmt: skip
TAILS = st.sampled_from(["", " PST", " PDT", " pst", " EST", " Z", "Z", "+01:00", " sharp", " AM"])
TYPED = st.builds(lambda day, hour, tail: f"{day} {hour}{tail}".strip(), DAYS, HOURS, TAILS)
ANY_TEXT = st.one_of(
    st.text(),
    TYPED,
    st.from_regex(r"\d{4}-\d\d-\d\d[ T]\d{1,2}:\d\d(:\d\d)?", fullmatch=True),
    st.from_regex(
        r"[0-9]{1,2}/[0-9]{1,2}(/[0-9]{4})? [0-9]{1,2}(:[0-9]{2})?( ?[ap]m)?", fullmatch=True
    ),
)
ZONES = st.sampled_from(
    ["America/Los_Angeles", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "UTC",
     "America/Santiago", "Africa/Cairo", "America/Havana", "Asia/Kathmandu", "Pacific/Apia"]
).map(ZoneInfo)  # fmt: skip


@given(ANY_TEXT, ZONES, MINUTES, st.booleans())
@example("2/29 10:00", LOS_ANGELES, NOW, False)
@example("9999-12-31 23:59", LOS_ANGELES, NOW, False)
@example("tomorrow", LOS_ANGELES, datetime(2099, 12, 31, 20, tzinfo=UTC), False)
def test_what_is_typed_is_a_time_of_the_asked_day_or_one_sentence(
    text: str, zone: ZoneInfo, now: datetime, needs_hour: bool
) -> None:
    try:
        at = smsbox.parse_local_time(text, zone, now, needs_hour)
    except ValueError as error:
        sentence = str(error).replace(text, "", 1)
        assert sentence
        assert "\n" not in sentence
        assert not sentence.endswith(".")  # it stands within another
        return
    assert at.utcoffset() == timedelta(0)
    local, today = at.astimezone(zone), now.astimezone(zone).date()
    if found := re.search(r"(\d+)-(\d+)-(\d+)", text):
        assert local.date() == date(*map(int, found.groups()))
    elif found := re.search(r"(\d+)/(\d+)(?:/(\d{4}))?", text):
        assert (local.month, local.day) == (int(found[1]), int(found[2]))
        assert local.year == int(found[3] or local.year)
    elif found := re.match(r"\s*([A-Za-z]{3})", text):
        word = found[1].capitalize()
        offsets = {"Tod": [0], "Tom": [1]}.get(word, list(range(8)))
        assert (local.date() - today).days in offsets
        assert word in ("Tod", "Tom", NAMES[local.weekday()])
    else:
        assert local.date() == today


@pytest.mark.parametrize("night", [la("2025-03-09T00:00"), la("2025-11-02T00:00"),
                                   la("2025-11-09T00:00")])  # fmt: skip
@given(st.integers(-180, 1680), st.integers(0, 59), st.integers(0, 6), st.times())
@example(90, 0, 6, time(1, 29))
@example(-1, 59, 6, time(0, 0))
@example(0, 0, 6, time(0, 0))
def test_a_weekday_around_midnight_and_on_the_clock_s_nights_is_the_next_one_to_come(
    night: datetime, minutes: int, seconds: int, weekday: int, wall: time
) -> None:
    now = night + timedelta(minutes=minutes, seconds=seconds)
    here = now.astimezone(LOS_ANGELES)
    try:
        at = parse(f"{NAMES[weekday]} {wall:%H:%M}", now)
    except ValueError as error:
        assert "does not exist" in str(error)
        return
    local = at.astimezone(LOS_ANGELES)
    assert (local.weekday(), local.hour, local.minute) == (weekday, wall.hour, wall.minute)
    assert local.replace(tzinfo=None) > here.replace(tzinfo=None)
    assert (local.date() - here.date()).days <= 7
    assert at > now or here.fold  # in the repeated hour the first is meant, and it may be over


@given(
    st.sampled_from(NIGHTS),
    st.integers(-180, 1680),
    st.sampled_from([("today", 0), ("tomorrow", 1)]),
)
def test_today_and_tomorrow_are_days_of_the_calendar_not_spans_of_hours(
    night: datetime, minutes: int, word: tuple[str, int]
) -> None:
    now = night + timedelta(minutes=minutes)
    at = parse(f"{word[0]} 12:00", now).astimezone(LOS_ANGELES)
    assert at.date() == now.astimezone(LOS_ANGELES).date() + timedelta(days=word[1])
    assert (at.hour, at.minute) == (12, 0)
