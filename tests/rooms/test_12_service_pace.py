"""Service: the pace is a gate at the moment of sending, whatever happens to box, modem and clock.

What the modem is asked to send is judged by the tests' own reading of the database at that instant,
on the clock that never jumps, and with hours of their own.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, time, timedelta, timezone
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smsbox
from rig.people import ANA
from rig.played import Far, PlayedBox, at, close, replace_modem
from smsbox import PausedBy

UTC = timezone.utc
MINUTE, HOUR, DAY = 60, 3600, 86_400
LOS_ANGELES = ZoneInfo("America/Los_Angeles")
ZONES = {
    "+1310": LOS_ANGELES,
    "+1212": ZoneInfo("America/New_York"),
    "+1808": ZoneInfo("Pacific/Honolulu"),
    "+4420": None,  # of no zone that is known
}
PASSING, NO_NETWORK = b"\r\n+CMS ERROR: 42\r\n", b"\r\n+CMS ERROR: 38\r\n"
LATE = timedelta(minutes=2)
DRAWN = smsbox.parse_config({}).pacing
ROW_COLUMNS = """id, phone_number, message_content, campaign_name, scheduled_for, status,
    held_because, retry_at, until, gap_s, skip_s, anyway, at_once"""


# --- a box that is watched


class Attempt(NamedTuple):
    """A first segment that the modem was asked to send, and all that stood in the database then."""

    row: int
    at_s: float  # on the clock that never jumps
    wall: datetime
    life: int
    rows: Mapping[int, Mapping[str, Any]]
    paused: frozenset[str]  # campaigns; "" is the box
    spent: Sequence[tuple[str, datetime, int]]  # by the others: number, when, segments


class Watched(Far):
    """A modem that tells the box of each text before it takes it, and refuses what it is told."""

    def __init__(self, box: PacedBox) -> None:
        super().__init__(box.play)
        self._box = box

    def write(self, data: bytes) -> None:
        if data.startswith(b"AT+CMGS") and not self.gone:
            self.script.clear()
            answer = self._box.watch()
            if answer == b"":
                self.gone = True  # in the very moment; it is put in again
                self._box.after(MINUTE, partial(self._box.set_modem, True))
            elif answer:
                self.script.append(answer)
        super().write(data)


class PacedBox(PlayedBox):
    """A played box that looks round seldom, and whose attempts are kept."""

    def __init__(self, folder: Path, tables: Mapping[str, Any]) -> None:
        super().__init__(folder, at(10))
        replace_modem(self, Watched(self))
        self.attempts: list[Attempt] = []
        self.refusals: dict[int, list[bytes]] = {}  # row -> one for an attempt; b"": it unplugs
        self.has_network = True
        self.lives = 0
        self.tables = {"modem": {"port": "sim:"}, **tables}
        config = smsbox.parse_config(self.tables)
        self.config = replace(config, service=replace(config.service, poll_seconds=600.0))
        self.database.change("PRAGMA synchronous = OFF")

    def serve(self, for_s: float = 120, drain: bool = False) -> None:
        self.lives += 1
        self.play.stopped = False
        self.play.end_s = self.play.monotonic() + for_s
        self.after(for_s, lambda: None)  # no sleep lasts longer
        around = smsbox.Surroundings(
            self.play, self.far.open, self.manager, self.wall, lambda status: None,
            self.find_evidence,
        )  # fmt: skip
        service = smsbox.Service(self.config, self.database, around, random.Random(4))
        with (
            mock.patch.dict(smsbox._WATCH_S, {True: 600.0, False: 600.0}),
            pytest.raises(smsbox.StopRequested),
        ):
            service.run(drain=drain)

    def rest(self, for_s: float) -> None:
        """Be switched off for a while."""
        end = self.play.monotonic() + for_s
        while self.play.monotonic() < end:
            self.play.until(end, interruptible=False)

    def look_at(self, when: datetime) -> None:
        """Let the daemon look then: of what changes under it, it learns when it polls."""
        self.after((when - self.play.now()).total_seconds(), lambda: None)

    def watch(self) -> bytes | None:
        """Keep an attempt; return how it is refused, None: it is not."""
        ((row_id, sequence),) = self.sql(
            "SELECT m.scheduled_message_id, g.sequence FROM segments g"
            " JOIN messages m ON m.id = g.message_id WHERE g.status = 'sending'"
        )
        if sequence > 1:
            return None
        self.attempts.append(
            Attempt(
                row_id, self.play.monotonic(), self.play.now(), self.lives, self.rows(),
                frozenset(self.paused()), self.spent(row_id),
            )
        )  # fmt: skip
        if not self.has_network:
            return NO_NETWORK
        left = self.refusals.get(row_id)
        return left.pop(0) if left else None

    def rows(self) -> dict[int, dict[str, Any]]:
        names = [each.strip() for each in ROW_COLUMNS.split(",")]
        found = self.sql(f"SELECT {ROW_COLUMNS} FROM scheduled_messages ORDER BY scheduled_for, id")
        return {cells[0]: dict(zip(names, cells, strict=True)) for cells in found}

    def paused(self) -> Iterator[str]:
        for (name,) in self.sql("SELECT name FROM campaigns WHERE paused_because IS NOT NULL"):
            yield name
        if self.sql("SELECT * FROM state WHERE key = 'paused_because'"):
            yield ""

    def spent(self, but: int) -> list[tuple[str, datetime, int]]:
        found = self.sql(
            "SELECT m.phone_number, min(g.submitted_at), count(*) FROM segments g"
            " JOIN messages m ON m.id = g.message_id WHERE m.scheduled_message_id <> ?"
            " GROUP BY m.scheduled_message_id",
            but,
        )
        return [(number, read_time(when), count) for number, when, count in found]

    # what a person does

    def pause(self, campaign: str, for_s: int | None) -> None:
        by, now = PausedBy.OPERATOR, self.play.now()
        until = now + timedelta(seconds=for_s) if for_s is not None else None
        with self.database.transaction():
            self.database.state.pause(campaign, "paused by ana", by, now, until)

    def resume(self, campaign: str) -> None:
        with self.database.transaction():
            smsbox.resume(self.database, campaign, self.play.now(), "ana")

    def set_modem(self, there: bool) -> None:
        self.far.gone = not there

    def set_network(self, there: bool) -> None:
        self.has_network = there


def read_time(stored: str) -> datetime:
    return datetime.fromisoformat(stored).replace(tzinfo=UTC)


@contextmanager
def paced_box(tables: Mapping[str, Any]) -> Iterator[PacedBox]:
    with tempfile.TemporaryDirectory() as folder:
        box = PacedBox(Path(folder), tables)
        try:
            yield box
        finally:
            close(box)


# --- what is right


def gap_of(row: Mapping[str, Any], pace: smsbox.Pace) -> float:
    if row["gap_s"] is None:
        return sum(smsbox.draw_gap(random.Random(row["id"]), pace))
    return float(row["gap_s"]) + float(row["skip_s"] or 0)


def is_late(row: Mapping[str, Any], wall: datetime) -> bool:
    return wall - read_time(row["scheduled_for"]) > LATE


def is_awake(row: Mapping[str, Any], wall: datetime, tables: Mapping[str, Any]) -> bool:
    """Both the sender and the recipient are, each in the own zone."""
    due = max(read_time(row["scheduled_for"]), read_time(row["retry_at"] or row["scheduled_for"]))
    ours = {} if row["anyway"] and wall - due <= LATE else {LOS_ANGELES: tables["business_hours"]}
    spans = [*ours.items()]
    theirs = tables.get("recipient_hours", {"enabled": True})
    zone = ZONES[row["phone_number"][:5]]
    if theirs["enabled"] and zone:
        spans.append((zone, {"opens": "08:00", "closes": "21:00"}))
    return all(
        time.fromisoformat(span["opens"])
        <= wall.astimezone(zone).time()
        < time.fromisoformat(span["closes"])
        for zone, span in spans
    )


def count_segments(row: Mapping[str, Any]) -> int:
    return 2 if len(row["message_content"]) > 160 else 1


def find_quota_met(row: Mapping[str, Any], attempt: Attempt, pacing: Mapping[str, Any]) -> str:
    """The name of a limit that has no room for a row at the instant of an attempt."""
    begins = pacing.get("plan_month_starts_on", 1)

    def day_of(when: datetime) -> str:
        return f"{when.astimezone(LOS_ANGELES):%Y-%m-%d}"

    def month_of(when: datetime) -> str:
        local = when.astimezone(LOS_ANGELES)
        return f"{(local - timedelta(days=begins - 1)).replace(day=1):%Y-%m}"

    today = [count for _, when, count in attempt.spent if day_of(when) == day_of(attempt.wall)]
    month = month_of(attempt.wall)
    known = {number for number, when, _ in attempt.spent if month_of(when) == month}
    used = {
        "max_messages_per_day": (len(today), 1),
        "max_segments_per_day": (sum(today), count_segments(row)),
        "max_recipients_per_month": (len(known), int(row["phone_number"] not in known)),
    }
    met = (name for name, (had, more) in used.items() if 0 < pacing.get(name, 0) < had + more)
    return next(met, "")


def find_shut(row: Mapping[str, Any], attempt: Attempt, tables: Mapping[str, Any]) -> str:
    """Why a row itself had to wait at the instant of an attempt; "": it had not."""
    wall = attempt.wall
    reasons = {
        "done": row["status"] != "scheduled",
        "held": row["held_because"] is not None,
        "paused": row["campaign_name"] in attempt.paused,
        "not due": read_time(row["scheduled_for"]) > wall,
        "refused": row["retry_at"] is not None and read_time(row["retry_at"]) > wall,
        "asleep": not is_awake(row, wall, tables),
        "quota": bool(find_quota_met(row, attempt, tables["pacing"])),
    }
    return next((name for name, holds in reasons.items() if holds), "")


def find_bursts(box: PacedBox) -> list[str]:
    """Who was begun too early behind another, and by how much."""
    least, problems = box.config.pacing.interval_minutes[0] * MINUTE, []
    for before, each in pairwise(box.attempts):
        row = each.rows[each.row]
        late = is_late(row, each.wall)
        wait_s = max(least, gap_of(row, box.config.pacing)) if late else least
        passed_s = each.at_s - before.at_s
        tolerance_s = 0.001 if each.life == before.life else 1.0  # begun_at has whole seconds
        if each.row != before.row and passed_s < wait_s - tolerance_s:
            problems.append(f"{each.row} {passed_s} s behind {before.row}, not {wait_s} {late=}")
    return problems


def find_untimely(box: PacedBox) -> list[str]:
    """Whose own gate was shut, or the box paused, when it was begun."""
    told = [(each, find_shut(each.rows[each.row], each, box.tables)) for each in box.attempts]
    return [
        f"{each.row} at {each.wall}: {shut or 'the box was paused'}"
        for each, shut in told
        if shut or "" in each.paused
    ]


def find_overtaken(box: PacedBox) -> list[str]:
    """Who was before another one in the queue and was passed though no gate of its own was shut."""
    problems = []
    for each in box.attempts:
        for row_id, row in each.rows.items():
            if row_id == each.row:
                break
            if not find_shut(row, each, box.tables):
                problems.append(f"{row_id} by {each.row} at {each.wall}")
    return problems


# --- any faults


class Message(NamedTuple):
    due_s: int
    area: str = "+1310"
    campaign: str = "fall"
    is_long: bool = False
    drawn: tuple[int, int] | None = None  # gap, skip; None: made by hand
    anyway: bool = False
    refusals: Sequence[bytes] = ()


class Trouble(NamedTuple):
    kind: str
    at_s: int
    for_s: int
    has_end: bool = False  # of a pause: it was given its end


def make_messages(
    refusals: st.SearchStrategy[Sequence[bytes]], anyway: st.SearchStrategy[bool]
) -> st.SearchStrategy[Message]:
    return st.builds(
        Message,
        due_s=st.integers(-600, 1200) | st.integers(-DAY, 2 * DAY),
        area=st.sampled_from(list(ZONES)),
        campaign=st.sampled_from(["fall", "spring", ""]),
        is_long=st.booleans(),
        drawn=st.none() | st.tuples(st.integers(240, 420), st.sampled_from([0, 0, 600, 900])),
        anyway=anyway,
        refusals=refusals,
    )


KINDS = ["outage", "no network", "pause", "pause fall", "pause spring", "step", "restart"]
TROUBLES = st.builds(
    Trouble,
    kind=st.sampled_from(KINDS),
    at_s=st.integers(0, 4 * HOUR) | st.integers(0, 30 * HOUR),
    for_s=st.integers(1, 20 * MINUTE) | st.integers(1, 5 * HOUR),
    has_end=st.booleans(),
)
HOURS = st.sampled_from([("10:00", "14:00"), ("15:00", "19:00"), ("07:00", "11:30")])
QUOTAS = st.sampled_from(
    [
        *[{}] * 3,
        {"max_messages_per_day": 3},
        {"max_segments_per_day": 4},
        {"max_recipients_per_month": 5, "plan_month_starts_on": 10},
    ]
)  # fmt: skip


def make_tables(
    span: tuple[str, str], quotas: Mapping[str, int], recipients: bool = True
) -> dict[str, Any]:
    return {
        "business_hours": {"opens": span[0], "closes": span[1]},
        "recipient_hours": {"enabled": recipients},
        "pacing": dict(quotas),
        "service": {"expire_after_days": 60},
    }


def lay_down(box: PacedBox, messages: Sequence[Message]) -> dict[int, str]:
    """Insert rows; return their IDs with their scheduled_for."""
    for place, each in enumerate(messages):
        text = f"{place} {'long ' * 40}" if each.is_long else f"text {place}"
        gap = dict(zip(("gap_s", "skip_s"), each.drawn, strict=True)) if each.drawn else {}
        row_id = box.insert(
            f"{each.area}234{5000 + place}", text, each.due_s, campaign_name=each.campaign,
            anyway=int(each.anyway), **gap,
        )  # fmt: skip
        box.refusals[row_id] = list(each.refusals)
    return {row_id: row["scheduled_for"] for row_id, row in box.rows().items()}


def arrange(box: PacedBox, troubles: Sequence[Trouble]) -> tuple[list[tuple[int, int]], int]:
    """Let troubles come in their time; return the restarts, and when the last trouble is over.

    Only within one life the pace is kept by the clock that never jumps: no restart comes within six
    hours of a step, and no more than three steps of an hour each.
    """
    steps = [each for each in troubles if each.kind == "step"][:3]
    restarts = {
        each.at_s: min(each.for_s, HOUR)
        for each in troubles
        if each.kind == "restart"
        and not any(step.at_s <= each.at_s + 2 * HOUR <= step.at_s + 8 * HOUR for step in steps)
    }
    for each in steps:
        step_s = each.for_s // 5 * (-1 if each.has_end else 1)
        box.after(each.at_s, partial(box.play.step, step_s))
    for each in troubles:
        kind, _, name = each.kind.partition(" ")
        end_s = each.at_s + each.for_s
        if kind == "outage":
            box.after(each.at_s, partial(box.set_modem, False))
            box.after(min(end_s, each.at_s + HOUR), partial(box.set_modem, True))
        elif kind == "no":
            box.after(each.at_s, partial(box.set_network, False))
            box.after(end_s, partial(box.set_network, True))
        elif kind == "pause":
            box.after(each.at_s, partial(box.pause, name, each.for_s if each.has_end else None))
            if not each.has_end:
                box.after(end_s, partial(box.resume, name))
    over_s = max((each.at_s + each.for_s for each in troubles), default=0)
    return sorted(restarts.items()), over_s + 6 * HOUR


def play_troubles(box: PacedBox, troubles: Sequence[Trouble]) -> None:
    restarts, end_s = arrange(box, troubles)
    began_s = box.play.monotonic()
    for at_s, off_s in restarts:
        if (left_s := began_s + at_s - box.play.monotonic()) > 0:
            box.serve(left_s)
            box.rest(off_s)
    box.serve(began_s + end_s - box.play.monotonic())


def finish(box: PacedBox) -> None:
    """Lift what is left of all troubles, and give the box its days, until nothing more can go."""
    box.far.gone, box.has_network = False, True
    for name in list(box.paused()):
        box.resume(name)
    for _ in range(14):
        if not find_starved(box):
            break
        box.serve(DAY)


def find_starved(box: PacedBox) -> list[str]:
    """Who was not sent though no rule explains it; who was sent twice or only in part."""
    now = Attempt(0, 0, box.play.now(), 0, box.rows(), frozenset(), box.spent(0))
    arrived = Counter(number for _, number, _ in box.far.arrived)
    problems = []
    for row_id, row in now.rows.items():
        is_sent = row["status"] == "sent"
        month = find_quota_met(row, now, box.tables["pacing"]) == "max_recipients_per_month"
        waits = row["status"] == "scheduled" and row["held_because"] is None and month
        if not (is_sent or waits) or arrived[row["phone_number"]] != is_sent * count_segments(row):
            problems.append(f"{row_id}: {row['status']} {row['held_because']}")
    return problems


def judge(
    span: tuple[str, str], quotas: Mapping[str, int], recipients: bool,
    messages: Sequence[Message], troubles: Sequence[Trouble],
) -> None:  # fmt: skip
    with paced_box(make_tables(span, quotas, recipients)) as box:
        planned = lay_down(box, messages)
        play_troubles(box, troubles)
        finish(box)
        assert find_bursts(box) == []
        assert find_untimely(box) == []
        assert find_overtaken(box) == []
        assert find_starved(box) == []
        assert {row_id: row["scheduled_for"] for row_id, row in box.rows().items()} == planned


ANY_MIX = given(
    span=HOURS,
    quotas=QUOTAS,
    recipients=st.booleans(),
    messages=st.lists(
        make_messages(
            st.lists(st.sampled_from([PASSING, b""]), max_size=3),
            st.sampled_from([False, False, True]),
        ),
        min_size=2,
        max_size=10,
    ),
    troubles=st.lists(TROUBLES, max_size=8),
)


@settings(max_examples=25)
@ANY_MIX
def test_pace_hours_and_order_hold_whatever_happens_and_nobody_starves(
    span: tuple[str, str], quotas: Mapping[str, int], recipients: bool,
    messages: Sequence[Message], troubles: Sequence[Trouble],
) -> None:  # fmt: skip
    judge(span, quotas, recipients, messages, troubles)


@pytest.mark.long
@settings(max_examples=2000)
@ANY_MIX
def test_pace_hours_and_order_hold_in_many_more_mixes(
    span: tuple[str, str], quotas: Mapping[str, int], recipients: bool,
    messages: Sequence[Message], troubles: Sequence[Trouble],
) -> None:  # fmt: skip
    judge(span, quotas, recipients, messages, troubles)


# --- what is foretold


class Waiting(NamedTuple):
    message: Message
    held: bool = False
    retry_in_s: int | None = None
    until_in_s: int | None = None


def lay_queue(box: PacedBox, waiting: Sequence[Waiting]) -> None:
    lay_down(box, [each.message for each in waiting])
    now = box.play.now()
    for row_id, each in enumerate(waiting, 2):
        if each.held:
            box.sql("UPDATE scheduled_messages SET held_because = 'wait' WHERE id = ?", row_id)
        for column, in_s in (("retry_at", each.retry_in_s), ("until", each.until_in_s)):
            if in_s is not None:
                when = f"{now + timedelta(seconds=in_s):%Y-%m-%d %H:%M:%S}"
                box.sql(f"UPDATE scheduled_messages SET {column} = ? WHERE id = ?", when, row_id)


def foretell_and_play(
    box: PacedBox,
    waiting: Sequence[Waiting],
    begun_ago_s: int,
    pauses: Mapping[str, int | None],
) -> tuple[dict[int, datetime], dict[int, datetime]]:
    """Return when each row was to go and when it went.

    That the end of a row has passed, the daemon sees when it polls: here it looks just then.
    """
    found: dict[smsbox.MessageId, datetime | None] = {}
    box.insert(
        "+13102340000", "before", -begun_ago_s, status="sent",
        begun_at=f"{at(10) + timedelta(seconds=MINUTE - begun_ago_s):%Y-%m-%d %H:%M:%S}",
    )  # fmt: skip

    def lay() -> None:
        now = box.play.now()
        lay_queue(box, waiting)
        for name, for_s in pauses.items():
            box.pause(name, for_s)
        for row in box.rows().values():
            if row["until"] and read_time(row["until"]) >= now:
                box.look_at(read_time(row["until"]) + timedelta(seconds=1))
        found.update(smsbox.project_queue(box.database, now, box.config))
        last = max([each for each in found.values() if each], default=now)
        box.play.end_s = box.play.monotonic() + (last - now).total_seconds() + HOUR

    box.after(MINUTE, lay)
    box.serve(DAY)
    went = {each.row: each.wall for each in box.attempts}
    assert len(went) == len(box.attempts)
    return {row_id: when for row_id, when in found.items() if when}, went


WAITING = st.builds(
    Waiting,
    message=make_messages(st.just(()), st.sampled_from([False, False, True])),
    held=st.sampled_from([False, False, False, False, True]),
    retry_in_s=st.sampled_from([None, None, None]) | st.integers(-HOUR, 3 * HOUR),
    until_in_s=st.sampled_from([None, None]) | st.integers(0, 2 * HOUR) | st.integers(0, 2 * DAY),
)
PAUSES = st.dictionaries(
    st.sampled_from(["fall", "spring", ""]),
    st.integers(1, 3 * HOUR) | st.integers(1, DAY) | st.none(),
    max_size=2,
)


def differ(expected: Mapping[int, datetime], went: Mapping[int, datetime]) -> list[str]:
    return [
        f"{row_id}: {expected.get(row_id)} {went.get(row_id)}"
        for row_id in sorted({*expected, *went})
        if row_id not in expected or row_id not in went
        or abs(expected[row_id] - went[row_id]) > timedelta(seconds=0.01)
    ]  # fmt: skip


@settings(max_examples=25)
@given(
    span=HOURS, quotas=QUOTAS, recipients=st.booleans(),
    waiting=st.lists(WAITING, min_size=1, max_size=10), begun_ago_s=st.integers(60, HOUR),
    pauses=PAUSES,
)  # fmt: skip
def test_queue_goes_as_it_was_foretold(
    span: tuple[str, str], quotas: Mapping[str, int], recipients: bool,
    waiting: Sequence[Waiting], begun_ago_s: int, pauses: Mapping[str, int | None],
) -> None:  # fmt: skip
    with paced_box(make_tables(span, quotas, recipients)) as box:
        expected, went = foretell_and_play(box, waiting, begun_ago_s, pauses)
        assert differ(expected, went) == []


# --- plain cases


def test_backlog_goes_at_its_own_gaps_once_a_network_that_refused_for_hours_works() -> None:
    gaps = [(240 + 30 * place, 600 * (place % 2)) for place in range(6)]
    with paced_box(make_tables(("10:00", "20:00"), {})) as box:
        rows = list(
            lay_down(box, [Message(300 * each, drawn=gap) for each, gap in enumerate(gaps)])
        )
        box.set_network(False)
        box.after(3 * HOUR, lambda: box.set_network(True))
        box.serve(6 * HOUR)
        refused = [each for each in box.attempts if each.wall <= at(13)]
        assert len(refused) > 40
        assert {each.row for each in refused} == {rows[0]}  # nobody overtakes it
        went = box.attempts[len(refused) :]
        assert [each.row for each in went] == rows
        assert [round(b.at_s - a.at_s) for a, b in pairwise(went)] == [sum(gap) for gap in gaps[1:]]
        assert find_bursts(box) == find_overtaken(box) == find_starved(box) == []


def test_refused_attempt_keeps_the_next_one_at_its_gap_and_not_its_own_again() -> None:
    with paced_box(make_tables(("10:00", "20:00"), {})) as box:
        first, second = lay_down(
            box,
            [
                Message(60, drawn=(300, 0), refusals=[PASSING]),
                Message(61, drawn=(300, 0)),
            ],
        )
        box.serve(HOUR)
        told = [(each.row, round(each.at_s - box.attempts[0].at_s)) for each in box.attempts]
    assert told == [(first, 0), (first, 60), (second, 60 + 300)]


@pytest.mark.parametrize("refusals", [[], [PASSING], [b""]])
def test_attempt_keeps_the_next_one_apart_after_a_restart_too(refusals: list[bytes]) -> None:
    with paced_box(make_tables(("10:00", "20:00"), {})) as box:
        messages = [Message(60, drawn=(300, 0), refusals=refusals), Message(60, drawn=(300, 600))]
        first, second = lay_down(box, messages)
        box.serve(80)
        box.sql("UPDATE scheduled_messages SET held_because = 'wait' WHERE id = ?", first)
        box.rest(20)
        box.serve(HOUR)
        times = {each.row: each.at_s for each in box.attempts}
        assert list(times) == [first, second]
        assert round(times[second] - times[first], 3) == 900


def test_five_go_at_once_and_keep_nobody_waiting() -> None:
    with paced_box(make_tables(("10:00", "20:00"), {})) as box:
        first, second = lay_down(box, [Message(60), Message(60 + 240)])
        once = [box.insert(f"+1310777000{n}", f"once {n}", 70, at_once=1) for n in range(5)]
        box.serve(HOUR)
        told = [(each.row, round(each.at_s - box.attempts[0].at_s)) for each in box.attempts]
    assert told == [(first, 0), *((row_id, 10) for row_id in once), (second, 240)]


@pytest.mark.parametrize("is_campaign_running", [True, False])
def test_sixth_and_seventh_within_the_hour_keep_the_pace(is_campaign_running: bool) -> None:
    with paced_box(make_tables(("10:00", "20:00"), {})) as box:
        lay_down(box, [Message(60)] if is_campaign_running else [])
        once = [box.insert(f"+1310777000{n}", f"once {n}", 60, at_once=1) for n in range(7)]
        box.serve(HOUR)
        went = [each for each in box.attempts if each.row in once]
        assert [each.row for each in went] == once
        gaps = [round(b.at_s - a.at_s) for a, b in pairwise(went)]
        sixth, seventh = (gap_of(went[n].rows[once[n]], box.config.pacing) for n in (5, 6))
        assert gaps == [0, 0, 0, 0, sixth if is_campaign_running else 0, seventh]


def test_restart_does_not_forget_who_went_at_once() -> None:
    with paced_box(make_tables(("10:00", "20:00"), {})) as box:
        once = [box.insert(f"+1310777000{n}", f"once {n}", 60, at_once=1) for n in range(4)]
        lay_down(box, [Message(300)])
        box.serve(310)
        more = [box.insert(f"+1310777100{n}", f"more {n}", 0, at_once=1) for n in range(2)]
        box.serve(60)
        assert [each.row for each in box.attempts if each.row in {*once, *more}] == [*once, more[0]]


# --- smallest cases of what was foretold wrongly


def play_as_foretold(waiting: Sequence[Waiting], **tables: Any) -> dict[int, datetime]:
    """Return when each went, which is when it was to go; row 2 is the first."""
    with paced_box({**make_tables(("10:00", "20:00"), {}), **tables}) as box:
        expected, went = foretell_and_play(box, waiting, 10 * MINUTE, {})
        assert differ(expected, went) == []
        return went


def test_operator_s_word_for_the_night_ends_while_the_pace_keeps_its_row() -> None:
    night = Message(11 * HOUR, "+4420", drawn=(300, 0), anyway=True)
    went = play_as_foretold([Waiting(night), Waiting(night)])
    assert went == {2: at(21, 1), 3: at(10, day=10)}


def test_row_whose_end_comes_before_its_turn_keeps_the_others_until_then() -> None:
    ends = Waiting(Message(-600, drawn=(400, 900)), until_in_s=660)
    went = play_as_foretold([ends, Waiting(Message(0, drawn=(300, 0)))])
    assert went == {3: at(10, 12) + timedelta(seconds=1)}


def test_row_sent_at_once_is_foretold_for_its_next_try() -> None:
    with paced_box(make_tables(("10:00", "20:00"), {})) as box:
        row_id = box.insert("+13107770000", "once", 0, at_once=1)
        box.refusals[row_id] = [PASSING]
        box.serve(30)
        told = smsbox.project_queue(box.database, box.play.now(), box.config)
        box.serve(HOUR)
        assert list(told.values()) == [read_time(f"{box.attempts[1].wall:%Y-%m-%d %H:%M:%S}")]


@pytest.mark.parametrize(("in_s", "limit", "times"), [
    (0, 0, [at(10, 1), at(10, 1), at(10, 6)]),
    (0, 2, [at(10, 1), at(10, 1), at(10, day=10)]),  # it takes its share of the day
    (10 * HOUR, 0, [at(10, 1), at(10, 6)]),  # held: it could not go within the hour
    (0, 1, [at(10, 1), at(10, day=10), at(10, day=11)]),
])  # fmt: skip
def test_row_sent_at_once_is_foretold_with_its_share(
    in_s: int, limit: int, times: list[datetime]
) -> None:
    with paced_box(make_tables(("10:00", "20:00"), {"max_messages_per_day": limit})) as box:
        box.insert("+13107770000", "once", MINUTE + in_s, at_once=1)
        found: dict[smsbox.MessageId, datetime | None] = {}

        def lay() -> None:
            lay_down(box, [Message(0, drawn=(300, 0)), Message(60, drawn=(300, 0))])
            found.update(smsbox.project_queue(box.database, box.play.now(), box.config))

        box.after(MINUTE, lay)
        box.serve(3 * DAY)
        went = {each.row: each.wall for each in box.attempts}
        assert {row_id: when for row_id, when in found.items() if when} == went
        assert sorted(went.values()) == times


def test_row_goes_on_its_second_behind_one_that_sleeps() -> None:
    with paced_box(make_tables(("09:00", "20:00"), {})) as box:
        box.play.start = at(9)
        _, awake = lay_down(box, [Message(0, "+1808"), Message(73)])
        box.serve(HOUR)
        assert [(each.row, each.wall) for each in box.attempts] == [
            (awake, at(9, 1) + timedelta(seconds=13))
        ]


@pytest.mark.parametrize("name", ["fall", ""])
def test_row_goes_on_the_second_at_which_its_pause_ends(name: str) -> None:
    with paced_box(make_tables(("10:00", "20:00"), {})) as box:
        (row_id,) = lay_down(box, [Message(0)])
        box.pause(name, 73)
        box.serve(HOUR)
        assert [(each.row, each.wall) for each in box.attempts] == [
            (row_id, at(10, 1) + timedelta(seconds=13))
        ]


def test_row_whose_end_has_passed_hides_nobody() -> None:
    messages = [Message(due_s) for due_s in (-1, 0, 0, -1)]
    waiting = [Waiting(each) for each in messages]
    waiting[0], waiting[3] = (
        Waiting(messages[0], retry_in_s=224),
        Waiting(messages[3], until_in_s=0),
    )
    with paced_box(make_tables(("10:00", "20:00"), {})) as box:
        expected, went = foretell_and_play(box, waiting, MINUTE, {})
        assert differ(expected, went) == []
        assert next(iter(went)) == 3


def test_further_rows_that_go_at_once_are_not_kept_back_by_five_that_sleep(
    box: PlayedBox,
) -> None:
    for place in range(5):
        box.insert(f"+1213555{3000 + place}", "asleep", at_once=1, timezone="Asia/Tokyo")
    for place in range(20):
        box.insert(f"+1213555{4000 + place}", "late", in_s=-3600)
    row_id = box.insert("+12135552313", "awake", at_once=1)
    box.serve(60)
    assert box.row(row_id, "status") == ("sent",)


def test_row_that_will_be_held_or_cancelled_is_expected_at_no_time(box: PlayedBox) -> None:
    ends = [
        box.insert("+12135552301", "expired", in_s=-8 * 86_400),
        box.insert("+12135552302", "at once", in_s=-7200, at_once=1),
        box.insert("+12135552303", "no zone", in_s=-60, timezone="Nowhere"),
        box.insert("+12135552304", "stopped", in_s=-60),
    ]
    goes = box.insert("+12135552305", "goes", in_s=-60)
    box.sql("INSERT INTO opt_outs (phone_number) VALUES ('+12135552304')")
    config = smsbox.parse_config({})
    found = smsbox.project_queue(box.database, box.play.now(), config)
    assert [found[smsbox.MessageId(each)] for each in ends] == [None] * 4
    assert found[smsbox.MessageId(goes)] == box.play.now()
    box.serve(600)
    assert box.texts() == ["goes"]


def test_numbers_of_one_message_wait_in_one_lane_for_the_recipients_of_a_month() -> None:
    pace = smsbox.parse_config({"pacing": {"max_recipients_per_month": 50}}).pacing
    hours = (smsbox.parse_config({}).business_hours,)
    budgets = smsbox.Budgets(pace, hours[0].timezone)
    numbers = [f"+1213555{3000 + place % 450}" for place in range(500)]  # 50 have two
    waiting = [smsbox.Candidate(hours, smsbox.Share(each, 1)) for each in numbers]
    now = datetime(2025, 11, 9, 18, tzinfo=UTC)
    assert len(smsbox._part_into_lanes(waiting, now, budgets)) == 1 + 50


def test_send_that_had_to_keep_the_pace_counts_for_it_over_a_restart(box: PlayedBox) -> None:
    rows = [
        box.insert(ANA, f"Hi {n}", at_once=1, campaign_name="") for n in range(7)
    ]  # five an hour go at once
    box.serve(60)
    sent = [row for row in rows if box.row(row)[0] == "sent"]
    assert len(sent) == 6  # the first that is paced has none before it
    box.serve(30)
    assert [row for row in rows if box.row(row)[0] == "sent"] == sent
    box.serve(600)
    assert box.row(rows[-1])[0] == "sent"
