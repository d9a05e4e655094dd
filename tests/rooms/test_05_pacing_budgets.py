"""Budgets of the SIM's plan: messages and segments a day, recipients a plan month."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import smsbox
from rig.desk import DAY, HEADER, Desk, Operator, many
from rig.pace import LOS_ANGELES, la, make_pace
from rig.played import PlayedBox
from rig.tpdus import encode_deliver

UTC = timezone.utc
HOURS = smsbox.parse_config({}).business_hours
START = la("2025-11-09 10:00")
LONG = "Long " * 40  # two segments
ANA, BEN, CLEO = "+12135551234", "+13105559876", "+14155552671"
Share = smsbox.Share


def make_budgets(**keys: object) -> smsbox.Budgets:
    return smsbox.Budgets(make_pace(**keys), LOS_ANGELES)


def local_day(moment: datetime) -> date:
    return moment.astimezone(LOS_ANGELES).date()


def month_of(day: date, starts_on: int) -> tuple[int, int]:
    """Number a plan month by counting, not by the calendar's functions."""
    months = day.year * 12 + day.month - (day.day < starts_on)
    return divmod(months, 12)


# --- the ledger


def test_limits_of_nothing_leave_room_for_everything() -> None:
    budgets = make_budgets()
    for _ in range(500):
        budgets.spend(START, Share(ANA, 9))
    assert not budgets.pace.is_limited
    assert budgets.find_room(START, Share(BEN, 255)) == START


def test_day_is_the_sender_s_and_begins_anew_at_its_midnight() -> None:
    budgets = make_budgets(max_messages_per_day=1)
    budgets.spend(la("2025-11-09 00:00"), Share(ANA, 1))
    late = la("2025-11-09 23:59")
    assert budgets.find_limit(late, Share(BEN, 1)) == ("max_messages_per_day", la("2025-11-10"))
    assert budgets.find_limit(la("2025-11-10 00:00"), Share(BEN, 1)) is None
    assert budgets.find_limit(la("2025-11-08 23:59"), Share(BEN, 1)) is None


def test_message_waits_for_a_day_that_has_room_for_all_its_segments() -> None:
    budgets = make_budgets(max_segments_per_day=10)
    budgets.spend(START, Share(ANA, 8))
    budgets.spend(START, Share(BEN, 1, messages=0))
    assert budgets.find_room(START, Share(CLEO, 1)) == START
    assert budgets.find_room(START, Share(CLEO, 2)) == la("2025-11-10")
    assert budgets.find_room(START, Share(CLEO, 200)) == la("2025-11-10")  # ends, though it is more
    assert budgets.met == {"max_segments_per_day": [date(2025, 11, 9)]}


@pytest.mark.parametrize(
    ("starts_on", "today", "anew"),
    [
        (1, "2025-11-30 10:00", "2025-12-01"),
        (1, "2025-12-31 10:00", "2026-01-01"),
        (15, "2025-11-14 10:00", "2025-11-15"),
        (15, "2025-11-15 10:00", "2025-12-15"),
        (28, "2026-01-31 10:00", "2026-02-28"),
        (28, "2026-02-27 10:00", "2026-02-28"),
    ],
)
def test_plan_month_begins_on_its_day(starts_on: int, today: str, anew: str) -> None:
    budgets = make_budgets(max_recipients_per_month=2, plan_month_starts_on=starts_on)
    for number in (ANA, BEN, ANA):
        budgets.spend(la(today), Share(number, 1))
    assert budgets.find_limit(la(today), Share(BEN, 1)) is None
    assert budgets.find_room(la(today), Share(CLEO, 1)) == la(anew)


# --- the plan


limits = st.fixed_dictionaries(
    {
        "max_messages_per_day": st.integers(0, 5),
        "max_segments_per_day": st.integers(3, 9) | st.just(0),
        "max_recipients_per_month": st.integers(0, 6),
        "plan_month_starts_on": st.integers(1, 28),
    }
)
recipients = st.lists(st.tuples(st.integers(2000, 2009), st.integers(1, 3)), max_size=25)


def check(keys: dict[str, int], sent: Sequence[tuple[datetime, str, int]]) -> None:
    """Count by hand what each day and each plan month carries."""
    messages = Counter(local_day(when) for when, _, _ in sent)
    segments: Counter[date] = Counter()
    numbers: dict[tuple[int, int], set[str]] = {}
    for when, number, count in sent:
        segments[local_day(when)] += count
        month = month_of(local_day(when), keys["plan_month_starts_on"])
        numbers.setdefault(month, set()).add(number)
    for key, most in (
        ("max_messages_per_day", max(messages.values(), default=0)),
        ("max_segments_per_day", max(segments.values(), default=0)),
        ("max_recipients_per_month", max(map(len, numbers.values()), default=0)),
    ):
        assert keys[key] == 0 or most <= keys[key], key


@given(keys=limits, people=recipients, seed=st.integers(0, 9))
@example(
    keys={"max_messages_per_day": 2, "max_segments_per_day": 0, "max_recipients_per_month": 0,
          "plan_month_starts_on": 1},
    people=[(2000 + each, 1) for each in range(9)], seed=1,
)  # fmt: skip
def test_plan_keeps_every_budget_its_order_and_its_intervals(
    keys: dict[str, int], people: list[tuple[int, int]], seed: int
) -> None:
    messages = [
        smsbox.Message(row, smsbox.PhoneNumber(f"+1213555{line}"), "Ana", "Hi", "test", str(row),
                       1, segments, smsbox.Encoding.GSM7)
        for row, (line, segments) in enumerate(people, 2)
    ]  # fmt: skip
    planned = smsbox.plan(messages, START, random.Random(seed), make_pace(**keys), HOURS)
    rows = [each.message.row for each in planned]
    assert sorted(rows) == [each.row for each in messages]
    if not keys["max_segments_per_day"]:  # for a larger one the day may have no room
        assert rows == sorted(rows) or keys["max_recipients_per_month"]
    check(keys, [(each.scheduled_for, each.message.phone_number, each.message.segments)
                 for each in planned])  # fmt: skip
    for before, after in pairwise(each.scheduled_for for each in planned):
        assert after - before >= timedelta(minutes=4)
    assert all(smsbox.is_open(each.scheduled_for, HOURS) for each in planned)


@given(keys=limits, people=recipients, gaps=st.lists(st.integers(0, 500), min_size=25, max_size=25))
def test_late_queue_goes_within_every_budget(
    keys: dict[str, int], people: list[tuple[int, int]], gaps: list[int]
) -> None:
    times, moment = [], START - timedelta(hours=5)
    for gap, _ in zip(gaps, people, strict=False):
        moment += timedelta(minutes=gap)
        times.append(moment)
    pace = make_pace(**keys)
    budgets = smsbox.Budgets(pace, LOS_ANGELES)
    shares = [Share(f"+1213555{line}", segments) for line, segments in people]
    before = [(START - timedelta(hours=1), "+12135552000", 2)]  # sent already
    for when, number, segments in before:
        budgets.spend(when, Share(number, segments))
    waiting = [
        smsbox.Candidate((HOURS,), share, at, at, 300.0)
        for at, share in zip(times, shares, strict=True)
    ]
    late_after = timedelta(minutes=2)
    new = smsbox.project(waiting, START, before[0][0], pace, late_after, budgets)
    sent = [(when, *share[:2]) for when, share in zip(new, shares, strict=True) if when]
    assert len(sent) == len(people)
    check(keys, before + sent)
    assert all(when >= at for (when, _, _), at in zip(sent, times, strict=True))
    assert all(smsbox.is_open(when, HOURS) for when, _, _ in sent)
    in_order = sorted(when for when, _, _ in sent)
    assert all(b - a >= timedelta(minutes=4) for a, b in pairwise(in_order))


# --- the daemon


def sent_days(box: PlayedBox) -> list[date]:
    return [local_day(when) for when, _, _ in box.far.arrived]


def test_daemon_sends_a_day_s_messages_and_the_rest_at_the_next_opening(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    box.tables["service"] = {"poll_seconds": 60}
    box.tables["pacing"] = {"max_messages_per_day": 2}
    for minute in range(5):
        box.insert(f"+1213555200{minute}", f"{minute}", 300 * minute)
    box.serve(for_s=4 * 3600)
    assert box.texts() == ["0", "1"]
    assert caplog.text.count("max_messages_per_day = 2 is met until Mon Nov 10") == 1
    box.serve(for_s=3 * 86_400)  # another life of the daemon
    assert box.texts() == ["0", "1", "2", "3", "4"]
    first = local_day(box.far.arrived[0][0])
    assert [(day - first).days for day in sent_days(box)] == [0, 0, 1, 1, 2]
    assert box.far.arrived[2][0].astimezone(LOS_ANGELES).hour == 9


def test_confirmation_of_a_stop_takes_nothing_from_the_quota_of_a_campaign(box: PlayedBox) -> None:
    box.tables["pacing"] = {"max_segments_per_day": 2}
    box.insert(ANA, "one")
    pdu = encode_deliver("Stop", ANA, box.play.now() + timedelta(seconds=60))

    def receive() -> None:
        box.far.said += box.far.modem.receive(pdu)

    box.after(60, receive)
    box.insert(BEN, "two", 300)
    box.serve(for_s=3600)
    assert box.texts()[0] == "one"
    assert box.texts()[2:] == ["two"]
    assert box.texts()[1].startswith("Done: you are off our list")
    box.serve(for_s=86_400)
    assert box.texts()[2:] == ["two"]


def test_message_larger_than_a_day_is_held_with_the_reason_and_blocks_nobody(
    box: PlayedBox,
) -> None:
    box.tables["pacing"] = {"max_segments_per_day": 1}
    large, small = box.insert(ANA, LONG), box.insert(BEN, "small", 300)
    box.serve(for_s=1000)
    assert box.texts() == ["small"]
    held = box.row(large, "status, held_because")
    assert held == ("scheduled", "it needs 2 segments and max_segments_per_day is 1: shorten it")
    assert box.row(small) == ("sent", None)


def test_new_recipients_wait_for_the_plan_month(box: PlayedBox) -> None:
    box.tables["service"] = {"poll_seconds": 60}
    box.tables["pacing"] = {"max_recipients_per_month": 1, "plan_month_starts_on": 12}
    box.insert(ANA, "first")
    box.insert(ANA, "second", 300)
    box.insert(BEN, "third", 600)
    box.serve(for_s=5 * 86_400)
    assert box.texts() == ["first", "second", "third"]
    assert sent_days(box)[2] == date(2025, 11, 12)


def test_operator_s_word_passes_the_hours_and_no_budget(box: PlayedBox) -> None:
    box.tables["service"] = {"poll_seconds": 60}
    box.tables["pacing"] = {"max_messages_per_day": 1}
    box.insert(ANA, "first")
    box.insert(BEN, "second", 60, anyway=1)
    box.serve(for_s=3600)
    assert box.texts() == ["first"]
    box.serve(for_s=86_400)
    assert box.texts() == ["first", "second"]
    assert sent_days(box)[1] - sent_days(box)[0] == timedelta(days=1)


def test_refused_segment_is_not_spent_and_an_unconfirmed_one_is(box: PlayedBox) -> None:
    def insert(status: str, number: str) -> None:
        row = box.insert(number, "x", status="failed")
        (message,) = box.sql(
            "INSERT INTO messages (scheduled_message_id, phone_number, body, created_at)"
            " VALUES (?, ?, 'x', datetime('now')) RETURNING id", row, number,
        )[0]  # fmt: skip
        box.sql(
            "INSERT INTO segments (message_id, sequence, total, status, submitted_at)"
            " VALUES (?, 1, 1, ?, ?)", message, status, f"{box.play.now():%Y-%m-%d %H:%M:%S}",
        )  # fmt: skip

    config = smsbox.parse_config({"pacing": {"max_messages_per_day": 2}})
    insert("failed", ANA)
    insert("unconfirmed", BEN)
    now = box.play.now()

    def find_quota() -> smsbox.Gate:
        budgets = smsbox.find_budgets(box.database, now, config)
        return smsbox.find_quota(CLEO, "Hi", lambda: budgets, now, config)

    assert not find_quota().shut
    insert("sent", CLEO)
    assert find_quota().shut == "max_messages_per_day = 2 is met"


# --- the preview and the commands


def test_preview_names_the_days_on_which_a_budget_is_met(desk: Desk) -> None:
    desk.configure("[pacing]\nmax_messages_per_day = 4\n")
    desk.write("c.csv", many(10))
    words = ("c.csv", "--dry-run", "--seed", "1", "--start", f"{DAY} 10:00")
    done = desk.schedule(*words)
    first, second, third = (f"{DAY + timedelta(days=each):%a %m/%d}" for each in range(3))
    assert f"Quota:     max_messages_per_day = 4 is met on {first}, {second}\n" in done.out
    assert f"({first}: 4, {second}: 4, {third}: 2)" in done.out
    plan: Any = desk.schedule(*words, "--json").value
    assert plan["quotas_met"] == {"max_messages_per_day": [f"{DAY}", f"{DAY + timedelta(days=1)}"]}


def test_another_campaign_s_day_is_spent_already(desk: Desk) -> None:
    desk.configure("[pacing]\nmax_messages_per_day = 4\n")
    desk.write("a.csv", many(3))
    desk.write("b.csv", many(3, "Other").replace("213555", "310555"))
    for name, start in (("a.csv", "10:00"), ("b.csv", "14:00")):
        words = (name, "--yes", "--seed", "1", "--start", f"{DAY} {start}")
        assert desk.schedule(*words).status == 0
    days = Counter(local_day(smsbox.from_database_time(each)) for each in desk.rows())
    assert days == {DAY: 4, DAY + timedelta(days=1): 2}


def test_row_larger_than_a_day_is_a_problem_of_the_file(desk: Desk) -> None:
    desk.configure("[pacing]\nmax_segments_per_day = 1\n")
    desk.write("c.csv", HEADER + f"2135551234,Ana,{LONG}\n3105559876,Ben,Hi\n")
    done = desk.schedule("c.csv", "--yes")
    assert done.status == 65
    assert "it needs 2 segments and max_segments_per_day is 1: shorten it" in done.err
    assert desk.schedule("c.csv", "--yes", "--skip-invalid").status == 0
    assert len(desk.rows()) == 1


def test_status_why_and_send_name_the_budget_that_is_met(operator: Operator) -> None:
    everything = operator.config.read_text()
    operator.config.write_text(f"{everything}\n[pacing]\nmax_messages_per_day = 1\n")
    waits = operator.insert()
    assert operator.run("why", str(waits)).out.count("ok       quota      open") == 1
    assert "quota" not in operator.run("status").out
    operator.insert_bubble(operator.insert(-60, status="sent"), "sent", "sent")
    met = "max_messages_per_day = 1 is met until "
    assert f"warning  quota      shut: {met}" in operator.run("why", str(waits)).out
    assert f"ok       quota      {met}" in operator.run("status").out
    assert met in operator.sentence("send", BEN, "Hello", status=75)
    assert len(operator.statuses()) == 2
    large = operator.config.with_name("large.toml")
    large.write_text(f"{everything}\n[pacing]\nmax_segments_per_day = 1\n")
    operator.config = Path(large)
    assert "max_segments_per_day is 1" in operator.sentence("send", BEN, LONG, status=2)
