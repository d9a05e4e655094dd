"""Service: the daemon at its four edges, played with a clock of its own and a scripted port.

Behind the port stands the simulated modem. Of the texts that it is given some are answered by the
script of the test instead; store, pace, driver and coding are the real ones.
"""

from __future__ import annotations

import os
import random
import socket
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import smsbox
from smsbox import Fault, LampState, Ready, find_lamps

UTC = timezone.utc
ANA, BEN, CHLOE = "+12135552313", "+12135552314", "+12135552315"
LONG = "This is a sentence that goes on. " * 12  # three segments
SILENCE = b""


class Play:
    """A Clock that waits for nobody, and lets things happen at their times."""

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.stopped = False
        self.end_s = 0.0
        self.acts: list[tuple[float, Callable[[], object]]] = []
        self.adoptions: list[tuple[float, datetime | None]] = []  # when, and what was adopted
        self._s = 1000.0
        self._turns = 0

    def now(self) -> datetime:
        since, adopted = self.adoptions[-1] if self.adoptions else (0.0, None)
        if adopted is not None:
            return adopted + timedelta(seconds=self._s - since)
        return self.start + timedelta(seconds=self._s - 1000)

    def monotonic(self) -> float:
        return self._s

    def adopt(self, at: datetime | None) -> None:
        self.adoptions.append((self._s, at))

    def step(self, seconds: float) -> None:
        """Set the system's clock, as NTP or a person does it."""
        self.start += timedelta(seconds=seconds)

    def until(
        self, deadline: float, port: smsbox.Port | None = None, *, interruptible: bool = True
    ) -> bool:
        if interruptible and self.stopped:
            raise smsbox.StopRequested
        self._turns += 1
        assert self._turns < 3000, "the daemon turns without waiting"
        if isinstance(port, Far) and (port.said or port.gone):
            return True
        if deadline <= self._s:
            return False
        self._turns = 0
        acts = [each for each in self.acts if each[0] <= deadline]
        self._s = min([deadline, *(at for at, _ in acts)])
        for act in [each for each in acts if each[0] <= self._s]:
            self.acts.remove(act)
            act[1]()
        if interruptible and self._s >= self.end_s:
            self.stopped = True
        return False


class Far:
    """A Port with the simulated modem behind it, which is put out of the way by a script."""

    name = "scripted"

    def __init__(self, play: Play) -> None:
        self.arrived: list[tuple[datetime, str, str]] = []
        self.arrived_s: list[float] = []  # the same on the clock that never jumps
        self.modem = smsbox.SimulatedModem(self._arrive)
        self.script: deque[bytes | Callable[[], object] | None] = deque()  # one entry a text
        self.prompts: deque[bytes] = deque()  # in the place of the prompt
        self.answers: dict[bytes, bytes] = {}  # to a command
        self.tellers: dict[bytes, Callable[[], bytes]] = {}  # answers made when they are asked for
        self.heard: list[bytes] = []
        self.said = b""
        self.gone = False
        self.opened = 0
        self._play = play
        self._ends = socket.socketpair()

    def _arrive(self, tpdu: smsbox.Tpdu) -> None:
        self.arrived.append((self._play.now(), tpdu.number, tpdu.text or ""))
        self.arrived_s.append(self._play.monotonic())

    def open(self, name: str, baud: int) -> Far:
        self.opened += 1
        if self.gone:
            raise smsbox.PortLost("no modem is plugged in")
        return self

    def fileno(self) -> int:
        return self._ends[0].fileno()

    def read(self) -> bytes:
        if self.gone:
            raise smsbox.PortLost("scripted is gone")
        said, self.said = self.said, b""
        return said

    def write(self, data: bytes) -> None:
        if self.gone:
            raise smsbox.PortLost("scripted is gone")
        self.heard.append(data)
        if data.startswith(b"AT+CMGS") and self.prompts:
            self.said += self.prompts.popleft()
        elif data.endswith(b"\x1a"):
            self._take_text(data)
        elif data in self.tellers:
            self.said += self.tellers[data]()
        else:
            self.said += self.answers.get(data, b"") or self.modem.feed(data)

    def _take_text(self, data: bytes) -> None:
        act = self.script.popleft() if self.script else None
        if isinstance(act, bytes):
            self.modem.feed(b"\x1b")
            self.said += act
            return
        self.said += self.modem.feed(data)
        if act is not None:
            act()

    def close(self) -> None:
        pass


class Manager:
    """A Notifier that keeps what it hears."""

    pet_every_s: float | None = None

    def __init__(self) -> None:
        self.heard: list[str] = []

    def notify(self, message: str) -> None:
        self.heard.append(message)

    def pet(self) -> None:
        self.heard.append("WATCHDOG=1")


class Wall:
    """Lamps that keep what they were told to show."""

    def __init__(self) -> None:
        self.shown: list[LampState] = []

    def show(self, state: LampState) -> None:
        self.shown.append(state)

    def drive(self, monotonic: float) -> float | None:
        return None


class Box:
    """A database, a clock, a modem; serve() is one life of the daemon."""

    def __init__(self, folder: Path, start: datetime) -> None:
        self.path = str(folder / "smsbox.db")
        self.play = Play(start)
        self.far = Far(self.play)
        self.wall, self.manager = Wall(), Manager()
        self.published: list[Mapping[str, object]] = []
        self.evidence = "the test"
        self.find_evidence: Callable[[], str] = lambda: self.evidence
        self.tables: dict[str, dict[str, Any]] = {}
        self.database = smsbox.Database.create_or_open(self.path)
        self.desk = smsbox.Desk(self.database)
        self.hand = sqlite3.connect(self.path, isolation_level=None)

    def sql(self, statement: str, *values: object) -> list[Any]:
        return self.hand.execute(statement, values).fetchall()

    def insert(self, number: str, text: str, in_s: float = 0, **more: object) -> int:
        due = self.play.now() + timedelta(seconds=in_s)
        row = {
            "phone_number": number, "customer_name": "Name", "message_content": text,
            "scheduled_for": f"{due:%Y-%m-%d %H:%M:%S}", "status": "scheduled",
            "campaign_name": "fall", **more,
        }  # fmt: skip
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        statement = f"INSERT INTO scheduled_messages ({names}) VALUES ({marks}) RETURNING id"
        return int(self.sql(statement, *row.values())[0][0])

    def serve(self, for_s: float = 120, drain: bool = False) -> None:
        """Live for a while, then hear a stop; or until nothing is left, at most a day."""
        modem = {"port": "sim:", **self.tables.get("modem", {})}
        config = smsbox.parse_config({**self.tables, "modem": modem})
        around = smsbox.Surroundings(
            self.play, self.far.open, self.manager, self.wall, self.published.append,
            self.find_evidence,
        )  # fmt: skip
        self.play.stopped = False
        self.play.end_s = self.play.monotonic() + (86_400 if drain else for_s)
        service = smsbox.Service(config, self.database, around, random.Random(4))
        if drain:
            service.run(drain=True)
        else:
            with pytest.raises(smsbox.StopRequested):
                service.run(drain=False)

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        self.play.acts.append((self.play.monotonic() + seconds, act))

    def texts(self) -> list[str]:
        return [text for _, _, text in self.far.arrived]

    def row(self, row_id: int, columns: str = "status, error_message") -> Any:
        return self.sql(f"SELECT {columns} FROM scheduled_messages WHERE id = ?", row_id)[0]

    def bubbles(self, row_id: int) -> list[str]:
        found = self.sql(
            "SELECT status FROM messages WHERE scheduled_message_id = ? ORDER BY bubble", row_id
        )
        return [each[0] for each in found]

    def events(self, row_id: int) -> list[str]:
        found = self.sql(
            "SELECT actor || ' ' || event FROM events WHERE scheduled_message_id = ? ORDER BY id",
            row_id,
        )
        return [each[0] for each in found]


@pytest.fixture
def box(tmp_path: Path, now: datetime) -> Iterator[Box]:
    made = Box(tmp_path, now)
    yield made
    made.hand.close()
    made.database.close()
    for end in made.far._ends:
        end.close()


def at(hour: int, minute: int = 0, day: int = 9) -> datetime:
    """A wall time of Los Angeles in November 2025, after the clock went back."""
    return datetime(2025, 11, day, hour, minute, tzinfo=UTC) + timedelta(hours=8)


# --- what is due


def test_row_is_sent_on_its_second_bubble_by_bubble_with_the_gap(box: Box) -> None:
    row_id = box.insert(ANA, "one [BUBBLE] two [BUBBLE][BUBBLE] three", in_s=33)
    box.serve(drain=True)
    times = [time for time, _, _ in box.far.arrived]
    assert box.texts() == ["one", "two", "three"]
    assert times[0] == at(10) + timedelta(seconds=33)
    assert all(2 <= (b - a).total_seconds() <= 6 for a, b in pairwise(times))
    assert box.row(row_id, "status, sent_at") == ("sent", f"{times[-1]:%Y-%m-%d %H:%M:%S}")
    assert box.events(row_id) == ["sql added", "daemon sent"]


def test_row_inserted_while_the_daemon_lives_is_found_within_its_poll(box: Box) -> None:
    box.after(47, lambda: box.insert(ANA, "Hi"))
    box.serve()
    assert box.far.arrived[0][0] <= at(10) + timedelta(seconds=47 + 10)


@pytest.mark.parametrize(
    ("now", "opens"),
    [(at(3), at(9)), (at(20), at(9, day=10)), (at(23, 59), at(9, day=10)), (at(8, 59), at(9))],
)
def test_row_due_outside_the_hours_goes_at_the_next_opening_with_an_event(
    box: Box, now: datetime, opens: datetime
) -> None:
    box.play.start = now
    box.tables = {"service": {"poll_seconds": 60}}
    row_id = box.insert(ANA, "Not at night")
    box.serve(drain=True)
    assert [time for time, _, _ in box.far.arrived] == [opens]
    assert box.events(row_id) == ["sql added", "daemon moved", "daemon sent"]


def test_closing_time_between_two_bubbles_leaves_the_rest_for_the_next_opening(box: Box) -> None:
    box.play.start = at(19, 59)
    box.tables = {"pacing": {"bubble_gap_seconds": [40, 40]}, "service": {"poll_seconds": 60}}
    box.insert(ANA, "one [BUBBLE] two [BUBBLE] three")
    box.serve(drain=True)
    assert box.texts() == ["one", "two", "three"]
    times = [time for time, _, _ in box.far.arrived]
    assert times[1] - times[0] == timedelta(seconds=40)
    assert times[2] == at(9, day=10)


def test_late_rows_are_paced_anew_in_their_order_without_a_burst(box: Box) -> None:
    late = [box.insert(f"+1213555{2000 + n}", f"text {n}", in_s=-3600 + 60 * n) for n in range(8)]
    box.serve(drain=True)
    assert box.texts() == [f"text {n}" for n in range(8)]
    times = [time for time, _, _ in box.far.arrived]
    gaps = [(b - a).total_seconds() for a, b in pairwise(times)]
    assert all(239 <= gap <= (7 + 15) * 60 + 1 for gap in gaps), gaps
    assert box.events(late[0])[:2] == ["sql added", "daemon moved"]


def test_rows_late_after_closing_are_paced_from_the_opening(box: Box) -> None:
    box.play.start = at(21)
    box.tables = {"service": {"poll_seconds": 60}}
    for n in range(3):
        box.insert(ANA, f"text {n}", in_s=-5000 + n)
    box.serve(drain=True)
    times = [time for time, _, _ in box.far.arrived]
    assert times[0] == at(9, day=10)
    assert all((b - a).total_seconds() >= 239 for a, b in pairwise(times))


def test_row_that_is_only_a_little_late_goes_at_once(box: Box) -> None:
    row_id = box.insert(ANA, "Hi", in_s=-119)
    box.serve(drain=True)
    assert box.far.arrived[0][0] - at(10) < timedelta(seconds=2)  # the attaching takes a moment
    assert box.events(row_id) == ["sql added", "daemon sent"]


@pytest.mark.parametrize(
    ("more", "late_s", "sent"),
    [
        ({"held_because": "wait"}, 0, False),
        ({"anyway": 1}, 0, True),
        ({}, 8 * 86_400, False),
        ({}, 6 * 86_400, True),
    ],
)
def test_held_and_expired_rows_wait_for_a_person(
    box: Box, more: dict[str, object], late_s: float, sent: bool
) -> None:
    row_id = box.insert(ANA, "Hi", in_s=-late_s, **more)
    box.serve(drain=True)
    assert box.texts() == (["Hi"] if sent else [])
    assert box.row(row_id, "status, held_because IS NULL") == (
        ("sent", 1) if sent else ("scheduled", 0)
    )


@pytest.mark.parametrize(("late_s", "texts"), [(0, ["Now"]), (600, [])])
def test_operator_s_word_opens_the_night_unless_it_is_late(
    box: Box, late_s: float, texts: list[str]
) -> None:
    box.play.start = at(3)
    row_id = box.insert(ANA, "Now", in_s=-late_s, anyway=1)
    box.serve(drain=True)
    assert box.texts() == texts
    assert box.row(row_id, "held_because IS NULL") == (int(bool(texts)),)


@pytest.mark.parametrize("spelling", [ANA, "(213) 555-2313"])
def test_opted_out_number_gets_nothing(box: Box, spelling: str) -> None:
    row_id = box.insert(spelling, "Hi", in_s=30)
    box.sql("INSERT INTO opt_outs (phone_number, at) VALUES (?, '2025-11-01')", ANA)
    box.serve(drain=True)
    assert box.texts() == []
    assert box.row(row_id) == ("cancelled", "the recipient said stop")


@pytest.mark.parametrize("spelling", [ANA, "(213) 555-2313"])
def test_stop_between_two_bubbles_stops_the_second(box: Box, spelling: str) -> None:
    box.tables = {"pacing": {"bubble_gap_seconds": [60, 60]}}
    row_id = box.insert(spelling, "one [BUBBLE] two")
    pdu = smsbox.encode_deliver("Stop", ANA, at(10))

    def receive() -> None:
        box.far.said += box.far.modem.receive(pdu)

    box.after(20, receive)
    box.serve(drain=True)
    assert box.texts()[0] == "one"
    assert "two" not in box.texts()
    assert box.row(row_id)[0] == "cancelled"
    assert box.far.modem.stored == {}
    assert box.sql("SELECT sender, body, request FROM inbound") == [(ANA, "Stop", "stop")]


@pytest.mark.parametrize(
    ("number", "text"), [("nobody", "Hi"), (ANA, " [BUBBLE] "), (ANA, "x" * 40_000)]
)
def test_hand_made_row_that_can_not_be_sent_fails_in_words_and_alone(
    box: Box, number: str, text: str
) -> None:
    bad, good = box.insert(number, text), box.insert(BEN, "Hi")
    box.serve(drain=True)
    status, words = box.row(bad)
    assert status == "failed"
    assert words
    assert box.row(good)[0] == "sent"


# --- pause


def test_pause_lets_the_message_in_hand_finish_and_nothing_else_begin(box: Box) -> None:
    first, second = box.insert(ANA, "one [BUBBLE] two"), box.insert(BEN, "three", in_s=30)
    box.after(1, lambda: box.desk.set_state("paused_because", "paused by ana"))
    box.serve(100)
    assert box.texts() == ["one", "two"]
    assert (box.row(first)[0], box.row(second)[0]) == ("sent", "scheduled")
    box.desk.set_state("paused_because", "")
    box.serve(drain=True)
    assert box.texts() == ["one", "two", "three"]


def test_pause_now_stops_before_the_next_segment(box: Box) -> None:
    row_id = box.insert(ANA, LONG)

    def pause_now() -> None:
        for key in ("paused_because", "paused_now"):
            box.desk.set_state(key, "1")

    box.far.script.append(pause_now)
    box.serve()
    assert len(box.far.modem.accepted) == 1
    assert box.row(row_id)[0] == "scheduled"
    for key in ("paused_because", "paused_now"):
        box.desk.set_state(key, "")
    box.serve(drain=True)
    assert len(box.far.modem.accepted) == 3
    assert "".join(box.texts()) == LONG.strip()


def test_paused_campaign_waits_while_another_goes(box: Box) -> None:
    box.desk.pause_campaign("fall", "paused by ana", at(10))
    box.insert(ANA, "fall")
    box.insert(BEN, "spring", campaign_name="spring")
    box.serve(100)
    assert box.texts() == ["spring"]


PAUSES: dict[str, Callable[[Box], object]] = {
    "box": lambda box: box.desk.set_state("paused_because", "paused by ana"),
    "campaign": lambda box: box.desk.pause_campaign("fall", "paused by ana", at(10)),
}


@pytest.mark.parametrize("which", PAUSES)
@pytest.mark.parametrize("away_s", [30, 1200])
def test_message_whose_first_segment_was_not_handed_over_has_not_begun(
    box: Box, which: str, away_s: float
) -> None:
    """The modem asks for no text and goes away; before it comes back the operator pauses."""
    row_id = box.insert(ANA, "one [BUBBLE] two")
    box.far.prompts.append(SILENCE)

    def go() -> None:
        box.far.gone = True

    def come_back() -> None:
        box.far.gone = False

    box.after(5, go)
    box.after(20, lambda: PAUSES[which](box))
    box.after(20 + away_s, come_back)
    box.serve(20 + away_s + 300)
    assert box.texts() == []
    assert box.row(row_id)[0] == "scheduled"


# --- what a refusal means


def cms(code: int) -> bytes:
    return f"\r\n+CMS ERROR: {code}\r\n".encode()


def test_passing_refusal_is_tried_again_after_the_minutes_of_the_config(box: Box) -> None:
    row_id = box.insert(ANA, "Hi")
    tries: list[datetime] = []
    box.tables = {"service": {"retry_minutes": [1, 5, 15]}}
    for _ in range(3):
        box.far.script.append(cms(42))
    box.after(
        10, lambda: tries.append(smsbox.from_database_time(box.row(row_id, "scheduled_for")[0]))
    )
    box.serve(drain=True)
    assert tries == [at(10, 1)]
    assert box.far.arrived[0][0] == at(10, 1 + 5 + 15)
    assert box.row(row_id) == ("sent", None)


@pytest.mark.parametrize(("anyway", "again"), [(0, at(9, day=10)), (1, at(20, 2))])
def test_next_try_is_in_the_hours_unless_the_operator_said_otherwise(
    box: Box, anyway: int, again: datetime
) -> None:
    box.play.start = at(19, 57)
    box.tables = {"service": {"poll_seconds": 60, "retry_minutes": [5]}}
    box.insert(ANA, "Hi", anyway=anyway)
    box.far.script.append(cms(42))
    box.serve(drain=True)
    assert timedelta() <= box.far.arrived[0][0] - again < timedelta(seconds=2)


def test_refusal_that_does_not_pass_fails_the_message_after_the_last_try(box: Box) -> None:
    row_id = box.insert(ANA, "one [BUBBLE] two")
    box.far.script.extend([None, *[cms(42)] * 4])
    box.serve(drain=True)
    assert box.row(row_id) == ("failed", "CMS 42 congestion")
    assert box.bubbles(row_id) == ["sent", "failed"]
    assert box.texts() == ["one"]


def test_network_that_is_away_burns_no_attempt(box: Box) -> None:
    row_id = box.insert(ANA, "Hi")
    box.far.script.extend([cms(38)] * 4)
    box.serve(20)
    assert box.row(row_id, "status, attempts, error_message") == ("scheduled", 0, None)
    assert box.wall.shown[-1].fault is Fault.NO_NETWORK
    box.serve(drain=True)
    assert box.row(row_id, "status, attempts") == ("sent", 0)


def test_refusal_of_the_account_pauses_the_box_and_burns_no_row(box: Box) -> None:
    first, second = box.insert(ANA, "one"), box.insert(BEN, "two", in_s=60)
    box.far.script.append(cms(10))
    box.serve(200)
    assert box.texts() == []
    assert [box.row(each) for each in (first, second)] == [("scheduled", None)] * 2
    assert "call barred" in box.desk.get_state("paused_because")
    assert box.wall.shown[-1] == LampState(Ready.RESTING, Fault.ACCOUNT)
    assert ("daemon", "paused") in box.sql("SELECT actor, event FROM events")


def test_refused_recipient_fails_that_message_only(box: Box) -> None:
    refused, good = box.insert(ANA, "one [BUBBLE] two"), box.insert(BEN, "three")
    box.far.script.append(cms(1))
    box.serve(drain=True)
    assert box.row(refused) == ("failed", "CMS 1 unassigned number")
    assert box.bubbles(refused) == ["failed", "cancelled"]
    assert box.row(good)[0] == "sent"
    assert box.desk.get_state("paused_because") == ""


@pytest.mark.parametrize(("between", "paused"), [(False, True), (True, False)])
def test_three_recipients_refused_in_a_row_pause_the_box_and_three_apart_do_not(
    box: Box, between: bool, paused: bool
) -> None:
    for n in range(3):
        box.insert(f"+1213555{2300 + n}", "refused", in_s=n)
        box.far.script.append(cms(1))
        if between:
            box.insert(BEN, "good", in_s=n)
            box.far.script.append(None)
    box.serve(100)
    assert bool(box.desk.get_state("paused_because")) is paused


def test_unwell_modem_is_attached_again_before_the_next_try(box: Box) -> None:
    row_id = box.insert(ANA, "Hi")
    box.far.script.append(cms(500))
    box.serve(drain=True)
    assert box.row(row_id, "status, attempts") == ("sent", 1)
    assert box.far.arrived[0][0] >= at(10, 1)
    assert box.far.heard.count(b"AT+CMGF=0\r") == 2


@pytest.mark.parametrize("says", [SILENCE, cms(332), b"\r\nERROR\r\n", "gone"])
def test_unknown_outcome_is_unconfirmed_and_never_sent_again(box: Box, says: bytes | str) -> None:
    row_id, after = box.insert(ANA, "one [BUBBLE] two"), box.insert(BEN, "three", in_s=1)

    def go() -> None:
        box.far.gone, box.far.said = True, b""

    def come_back() -> None:
        box.far.gone = False

    box.far.script.append(says if isinstance(says, bytes) else go)
    box.after(300, come_back)
    box.serve(drain=True)
    assert box.bubbles(row_id) == ["unconfirmed", "cancelled"]
    assert box.row(row_id)[0] == "failed"
    assert "may have been sent: bubble 1 of 2" in box.row(row_id)[1]
    assert box.row(after)[0] == "sent"
    box.sql("UPDATE scheduled_messages SET status = 'scheduled', scheduled_for = datetime('now')")
    box.sql(
        "UPDATE scheduled_messages SET scheduled_for = ?", f"{box.play.now():%Y-%m-%d %H:%M:%S}"
    )
    box.serve(drain=True)
    assert (box.row(row_id)[0], box.row(after)[0]) == ("failed", "sent")
    assert "two" not in box.texts()
    assert box.texts().count("three") == 1
    assert box.wall.shown[-1].fault is Fault.ATTENTION


# --- stops and a disk that is full


def test_stop_is_heard_between_two_segments_and_the_rest_goes_on(box: Box) -> None:
    row_id = box.insert(ANA, LONG)

    def stop() -> None:
        box.play.stopped = True

    box.far.script.append(stop)
    box.serve()
    assert box.sql("SELECT sequence, status FROM segments") == [(1, "sent")]
    assert box.manager.heard[0] == "READY=1"
    assert box.manager.heard[-1] == "STOPPING=1"
    box.serve(drain=True)
    assert "".join(box.texts()) == LONG.strip()
    references = [smsbox.decode_tpdu(each, "out").concatenation for each in box.far.modem.accepted]
    assert len({each[0] for each in references if each}) == 1
    assert box.row(row_id)[0] == "sent"


def fill_disk(box: Box, when: str) -> None:
    """From now on an UPDATE of segments needs more room than there is."""
    box.database.change(
        f"CREATE TEMP TRIGGER grow AFTER UPDATE ON segments WHEN {when} BEGIN"
        " INSERT INTO state VALUES ('ballast', zeroblob(2000000)); END"
    )
    pages = box.database.one("PRAGMA page_count")[0]
    assert box.database.one(f"PRAGMA max_page_count = {pages + 200}")[0] == pages + 200


def make_room(box: Box) -> None:
    box.database.change("DROP TRIGGER temp.grow")
    box.database.one("PRAGMA max_page_count = 1000000")


def test_sent_segment_that_a_full_disk_can_not_record_is_owed_and_not_sent_again(
    box: Box,
) -> None:
    row_id = box.insert(ANA, "one [BUBBLE] two")
    fill_disk(box, "NEW.status = 'sent'")
    full: list[object] = []
    box.after(200, lambda: full.extend((box.texts(), box.bubbles(row_id), box.wall.shown[-1])))
    box.after(300, lambda: make_room(box))
    box.serve(drain=True)
    assert full == [["one"], ["sending", "queued"], LampState(Ready.RESTING, Fault.DISK)]
    assert box.texts() == ["one", "two"]
    assert box.row(row_id) == ("sent", None)
    assert box.bubbles(row_id) == ["sent", "sent"]


def test_segment_owed_at_the_end_of_the_daemon_is_unconfirmed_in_its_next_life(box: Box) -> None:
    row_id = box.insert(ANA, "one [BUBBLE] two")
    fill_disk(box, "NEW.status = 'sent'")
    box.serve(100)
    make_room(box)
    box.serve(drain=True)
    assert box.texts() == ["one"]
    assert box.bubbles(row_id) == ["unconfirmed", "cancelled"]


@pytest.mark.parametrize(("away_min", "held"), [(50, False), (70, True)])
def test_message_cut_in_half_for_an_hour_waits_for_a_person(
    box: Box, away_min: float, held: bool
) -> None:
    row_id = box.insert(ANA, "one [BUBBLE] two")
    box.after(1, lambda: setattr(box.far, "gone", True))
    box.after(60 * away_min, lambda: setattr(box.far, "gone", False))
    box.serve(drain=True)
    assert box.texts() == (["one"] if held else ["one", "two"])
    assert (box.row(row_id, "held_because")[0] or "").startswith("cut in half" if held else "")
    assert box.row(row_id)[0] == ("scheduled" if held else "sent")


def test_nothing_is_handed_over_that_can_not_be_written_down_before(box: Box) -> None:
    row_id = box.insert(ANA, "Hi")
    box.database.change(
        "CREATE TEMP TRIGGER grow AFTER INSERT ON segments BEGIN"
        " INSERT INTO state VALUES ('ballast', zeroblob(2000000)); END"
    )
    pages = box.database.one("PRAGMA page_count")[0]
    box.database.one(f"PRAGMA max_page_count = {pages + 200}")
    box.serve(100)
    assert box.texts() == []
    assert box.wall.shown[-1].fault is Fault.DISK
    make_room(box)
    box.serve(drain=True)
    assert box.texts() == ["Hi"]
    assert box.row(row_id)[0] == "sent"


# --- the face


@pytest.mark.parametrize(
    ("given", "ready", "fault"),
    [
        ({}, Ready.IDLE, Fault.NONE),
        ({"under_way": True}, Ready.UNDER_WAY, Fault.NONE),
        ({"under_way": True, "resting": True}, Ready.RESTING, Fault.NONE),
        ({"link_ready": False}, Ready.STARTING, Fault.NONE),
        ({"under_way": True, "link_ready": False}, Ready.STARTING, Fault.NONE),
        ({"awaits_person": True}, Ready.IDLE, Fault.ATTENTION),
        ({"awaits_person": True, "trusted": False}, Ready.IDLE, Fault.CLOCK),
        ({"account_refused": True, "trusted": False}, Ready.IDLE, Fault.ACCOUNT),
        *(
            ({"link_fault": fault, "account_refused": True, "trusted": False}, Ready.IDLE, fault)
            for fault in (Fault.NO_MODEM, Fault.SIM, Fault.NO_NETWORK)
        ),
    ],
)
def test_lamps_show_the_first_that_holds(given: dict[str, Any], ready: Ready, fault: Fault) -> None:
    well: dict[str, Any] = {
        "link_fault": Fault.NONE, "link_ready": True, "account_refused": False, "trusted": True,
        "awaits_person": False, "resting": False, "under_way": False,
    }  # fmt: skip
    assert find_lamps(**{**well, **given}) == (ready, fault)


def test_sending_lamp_is_lit_while_the_modem_has_a_segment_and_only_then(box: Box) -> None:
    lit: list[bool] = []
    box.insert(ANA, "one [BUBBLE] two")
    box.far.script.extend([lambda: lit.append(box.wall.shown[-1].sending)] * 2)
    box.serve()
    assert lit == [True, True]
    assert not box.wall.shown[-1].sending
    assert [each.sending for each in box.wall.shown].count(True) == 2


@pytest.mark.parametrize(
    ("command", "answer", "fault"),
    [
        (b"AT+CPIN?\r", b"\r\n+CPIN: SIM PUK\r\n\r\nOK\r\n", Fault.SIM),
        (b"AT+CPIN?\r", b"\r\n+CPIN: SIM PIN\r\n\r\nOK\r\n", Fault.SIM),
        (b"AT+CSCA?\r", b'\r\n+CSCA: "",129\r\n\r\nOK\r\n', Fault.ACCOUNT),
    ],
)
def test_modem_that_is_not_ready_shows_its_fault_and_burns_no_row(
    box: Box, command: bytes, answer: bytes, fault: Fault
) -> None:
    row_id = box.insert(ANA, "Hi")
    box.far.answers[command] = answer
    box.serve(60)
    assert box.wall.shown[-1] == LampState(Ready.STARTING, fault)
    assert box.row(row_id) == ("scheduled", None)
    box.far.answers.clear()
    box.serve(drain=True)
    assert box.row(row_id)[0] == "sent"


def test_absent_modem_is_looked_for_again_and_again(box: Box) -> None:
    box.insert(ANA, "Hi", in_s=600)
    box.far.gone = True
    box.serve(60)
    assert 10 <= box.far.opened <= 60
    assert box.wall.shown[-1] == LampState(Ready.STARTING, Fault.NO_MODEM)
    assert box.published[-1]["modem"] == "no modem is plugged in"


def test_nothing_is_sent_until_the_clock_is_trusted(box: Box) -> None:
    box.insert(ANA, "Hi")
    box.evidence = ""
    box.serve(90)
    assert box.texts() == []
    assert box.wall.shown[-1].fault is Fault.CLOCK
    assert str(box.published[-1]["clock"]).startswith("not trusted")
    box.evidence = "the battery clock"
    box.serve(drain=True)
    assert box.texts() == ["Hi"]
    assert box.published[-1]["clock"] == "the battery clock"


def test_trust_lasts_for_the_boot_and_no_longer(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.serve(30)
    box.evidence = ""
    box.insert(ANA, "one")
    box.serve(60)
    assert box.texts() == ["one"]
    monkeypatch.setattr(smsbox, "read_boot_id", lambda: "another boot")
    box.insert(ANA, "two")
    box.serve(60)
    assert box.texts() == ["one"]


def test_status_tells_what_the_daemon_does(box: Box) -> None:
    row_id = box.insert(ANA, "Hi", in_s=600)
    box.serve(60)
    told = box.published[-1]
    expected = {
        "pid": os.getpid(), "version": smsbox.VERSION, "modem": "ready",
        "model": "SIMULATED SIM7600", "operator": "Simulated", "signal_dbm": -71,
        "clock": "the test", "next_id": row_id, "next_at": "2025-11-09 18:10:00",
        "ready": Ready.UNDER_WAY.value, "fault": "none",
    }  # fmt: skip
    assert {name: told[name] for name in expected} == expected
    heard = [each for each in box.manager.heard if each.startswith("STATUS=")]
    assert "next 2025-11-09 18:10:00 UTC" in heard[-1]
    assert len(heard) == len(set(heard)) <= 3  # only what is new


def test_error_of_smsbox_itself_holds_the_row_in_hand_and_the_others_go(box: Box) -> None:
    bad, good = box.insert(ANA, "one [BUBBLE] two"), box.insert(BEN, "three", in_s=30)
    box.far.script.append(
        lambda: box.sql("UPDATE messages SET body = ? WHERE bubble = 2", "x" * 40_000)
    )
    box.serve(drain=True)
    status, because = box.row(bad, "status, held_because")
    assert status == "scheduled"
    assert "an error of smsbox" in because
    assert box.row(good)[0] == "sent"
    assert box.texts() == ["one", "three"]


# --- start


@pytest.mark.parametrize(
    ("words", "may_come_back"),
    [("STOP", True), ("Stop, please", True), ("please stop texting me", False), ("", False)],
)
def test_start_lifts_only_a_stop_by_keyword(box: Box, words: str, may_come_back: bool) -> None:
    if words:
        box.far.modem.receive(smsbox.encode_deliver(words, ANA, box.play.now()))
        box.serve(60)
    else:
        box.sql("INSERT INTO opt_outs (phone_number) VALUES (?)", ANA)
    box.far.modem.receive(smsbox.encode_deliver("START", ANA, box.play.now()))
    box.serve(60)
    assert bool(box.sql("SELECT * FROM opt_outs")) is not may_come_back
    assert box.sql("SELECT request FROM inbound")[-1:] == [("start",)]
