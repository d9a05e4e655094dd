"""Service: the daemon at its four edges, played with a clock of its own and a scripted port."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

import smsbox
from rig.people import ANA, BEN, LONG
from rig.played import SILENCE, PlayedBox, at
from rig.tpdus import encode_deliver
from smsbox import Fault, LampState, Ready, find_lamps

UTC = timezone.utc


# --- what is due


def test_row_is_sent_on_its_second_bubble_by_bubble_with_the_gap(box: PlayedBox) -> None:
    row_id = box.insert(ANA, "one [BUBBLE] two [BUBBLE][BUBBLE] three", in_s=33)
    box.serve(drain=True)
    times = [time for time, _, _ in box.far.arrived]
    assert box.texts() == ["one", "two", "three"]
    assert times[0] == at(10) + timedelta(seconds=33)
    assert all(2 <= (b - a).total_seconds() <= 6 for a, b in pairwise(times))
    assert box.row(row_id, "status, sent_at") == ("sent", f"{times[-1]:%Y-%m-%d %H:%M:%S}")
    assert box.events(row_id) == ["sql added", "daemon sent"]


def test_each_long_text_has_a_concatenation_reference_of_its_own(box: PlayedBox) -> None:
    box.insert(ANA, f"{'one ' * 50} [BUBBLE] {'two ' * 50}")
    box.serve(drain=True)
    found = [smsbox.decode_tpdu(each, "out").concatenation for each in box.far.modem.accepted]
    parts = [each for each in found if each]
    assert [place for _, *place in parts] == [[2, 1], [2, 2]] * 2
    first, same, second, same_again = (reference for reference, *_ in parts)
    assert first == same != second == same_again


def test_row_inserted_while_the_daemon_lives_is_found_within_its_poll(box: PlayedBox) -> None:
    box.after(47, lambda: box.insert(ANA, "Hi"))
    box.serve()
    assert box.far.arrived[0][0] <= at(10) + timedelta(seconds=47 + 10)


@pytest.mark.parametrize(
    ("now", "opens"),
    [(at(3), at(9)), (at(20), at(9, day=10)), (at(23, 59), at(9, day=10)), (at(8, 59), at(9))],
)
def test_row_due_outside_the_hours_goes_at_the_next_opening_with_an_event(
    box: PlayedBox, now: datetime, opens: datetime
) -> None:
    box.play.start = now
    box.tables = {"service": {"poll_seconds": 60}}
    row_id = box.insert(ANA, "Not at night")
    box.serve(drain=True)
    assert [time for time, _, _ in box.far.arrived] == [opens]
    assert box.events(row_id) == ["sql added", "daemon sent"]  # its time stays as it was planned


def test_closing_time_between_two_bubbles_leaves_the_rest_for_the_next_opening(
    box: PlayedBox,
) -> None:
    box.play.start = at(19, 59)
    box.tables = {"pacing": {"bubble_gap_seconds": [40, 40]}, "service": {"poll_seconds": 60}}
    box.insert(ANA, "one [BUBBLE] two [BUBBLE] three")
    box.serve(drain=True)
    assert box.texts() == ["one", "two", "three"]
    times = [time for time, _, _ in box.far.arrived]
    assert times[1] - times[0] == timedelta(seconds=40)
    assert times[2] == at(9, day=10)


def test_late_rows_go_in_their_order_each_at_its_own_gap(box: PlayedBox) -> None:
    late = [box.insert(f"+1213555{2000 + n}", f"text {n}", in_s=-3600 + 60 * n) for n in range(8)]
    box.serve(drain=True)
    assert box.texts() == [f"text {n}" for n in range(8)]
    times = [time for time, _, _ in box.far.arrived]
    gaps = [(b - a).total_seconds() for a, b in pairwise(times)]
    pace = smsbox.parse_config({}).pacing
    own = [smsbox.draw_gap(random.Random(row_id), pace).span for row_id in late]
    assert all(0 <= gap - each.total_seconds() < 2 for gap, each in zip(gaps, own[1:], strict=True))
    assert box.events(late[0]) == ["sql added", "daemon sent"]


def test_rows_late_after_closing_are_paced_from_the_opening(box: PlayedBox) -> None:
    box.play.start = at(21)
    box.tables = {"service": {"poll_seconds": 60}}
    for n in range(3):
        box.insert(ANA, f"text {n}", in_s=-5000 + n)
    box.serve(drain=True)
    times = [time for time, _, _ in box.far.arrived]
    assert times[0] == at(9, day=10)
    assert all((b - a).total_seconds() >= 239 for a, b in pairwise(times))


def test_row_that_is_only_a_little_late_goes_at_once(box: PlayedBox) -> None:
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
    box: PlayedBox, more: dict[str, object], late_s: float, sent: bool
) -> None:
    row_id = box.insert(ANA, "Hi", in_s=-late_s, **more)
    box.serve(drain=True)
    assert box.texts() == (["Hi"] if sent else [])
    assert box.row(row_id, "status, held_because IS NULL") == (
        ("sent", 1) if sent else ("scheduled", 0)
    )


@pytest.mark.parametrize(
    ("number", "late_s", "goes_at"),
    [
        ("+33612345678", 0, at(3)),  # of no zone that is known
        ("+33612345678", 600, at(9)),  # it was meant for then, not for later
        (ANA, 0, at(9)),  # asleep
    ],
)
def test_operator_s_word_opens_the_night_unless_it_is_late(
    box: PlayedBox, number: str, late_s: float, goes_at: datetime
) -> None:
    box.play.start = at(3)
    box.insert(number, "Now", in_s=-late_s, anyway=1)
    box.serve(drain=True)
    ((when, _, _),) = box.far.arrived
    assert timedelta() <= when - goes_at < timedelta(seconds=2)


@pytest.mark.parametrize(
    "spelling",
    [ANA, "(213) 555-2313", "+1 213 555 2313", "+1 (213) 555-2313", "+1.213.555.2313",
     "\t2135552313"],
)  # fmt: skip
def test_opted_out_number_gets_nothing(box: PlayedBox, spelling: str) -> None:
    row_id = box.insert(spelling, "Hi", in_s=30)
    box.sql("INSERT INTO opt_outs (phone_number, at) VALUES (?, '2025-11-01')", ANA)
    box.serve(drain=True)
    assert box.texts() == []
    assert box.row(row_id) == ("cancelled", "the recipient said stop")


@pytest.mark.parametrize("spelling", [ANA, "(213) 555-2313"])
def test_stop_between_two_bubbles_stops_the_second(box: PlayedBox, spelling: str) -> None:
    box.tables = {"pacing": {"bubble_gap_seconds": [60, 60]}}
    row_id = box.insert(spelling, "one [BUBBLE] two")
    pdu = encode_deliver("Stop", ANA, at(10))

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
    box: PlayedBox, number: str, text: str
) -> None:
    bad, good = box.insert(number, text), box.insert(BEN, "Hi")
    box.serve(drain=True)
    status, words = box.row(bad)
    assert status == "failed"
    assert words
    assert box.row(good)[0] == "sent"


# --- pause


def test_pause_lets_the_message_in_hand_finish_and_nothing_else_begin(box: PlayedBox) -> None:
    first, second = box.insert(ANA, "one [BUBBLE] two"), box.insert(BEN, "three", in_s=30)
    box.after(1, lambda: box.database.state.set_key("paused_because", "paused by ana"))
    box.serve(100)
    assert box.texts() == ["one", "two"]
    assert (box.row(first)[0], box.row(second)[0]) == ("sent", "scheduled")
    box.database.state.set_key("paused_because", "")
    box.serve(drain=True)
    assert box.texts() == ["one", "two", "three"]


def test_pause_now_stops_before_the_next_segment(box: PlayedBox) -> None:
    row_id = box.insert(ANA, LONG)

    def pause_now() -> None:
        for key in ("paused_because", "paused_now"):
            box.database.state.set_key(key, "1")

    box.far.script.append(pause_now)
    box.serve()
    assert len(box.far.modem.accepted) == 1
    assert box.row(row_id)[0] == "scheduled"
    for key in ("paused_because", "paused_now"):
        box.database.state.set_key(key, "")
    box.serve(drain=True)
    assert len(box.far.modem.accepted) == 3
    assert "".join(box.texts()) == LONG.strip()


def test_paused_campaign_waits_while_another_goes(box: PlayedBox) -> None:
    box.database.state.pause("fall", "paused by ana", smsbox.PausedBy.OPERATOR, at(10))
    box.insert(ANA, "fall")
    box.insert(BEN, "spring", campaign_name="spring")
    box.serve(100)
    assert box.texts() == ["spring"]


PAUSES: dict[str, Callable[[PlayedBox], object]] = {
    "box": lambda box: box.database.state.set_key("paused_because", "paused by ana"),
    "campaign": lambda box: box.database.state.pause(
        "fall", "paused by ana", smsbox.PausedBy.OPERATOR, at(10)
    ),
}


@pytest.mark.parametrize("which", PAUSES)
@pytest.mark.parametrize("away_s", [30, 1200])
def test_message_whose_first_segment_was_not_handed_over_has_not_begun(
    box: PlayedBox, which: str, away_s: float
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


def test_passing_refusal_is_tried_again_after_the_minutes_of_the_config(box: PlayedBox) -> None:
    row_id = box.insert(ANA, "Hi")
    tries: list[datetime] = []
    box.tables = {"service": {"retry_minutes": [1, 5, 15]}}
    for _ in range(3):
        box.far.script.append(cms(42))
    box.after(10, lambda: tries.append(smsbox.from_database_time(box.row(row_id, "retry_at")[0])))
    box.serve(drain=True)
    assert tries == [at(10, 1)]
    assert box.far.arrived[0][0] == at(10, 1 + 5 + 15)
    assert box.row(row_id) == ("sent", None)


@pytest.mark.parametrize(("anyway", "again"), [(0, at(9, day=10)), (1, at(20, 2))])
def test_next_try_is_in_the_hours_unless_the_operator_said_otherwise(
    box: PlayedBox, anyway: int, again: datetime
) -> None:
    box.play.start = at(19, 57)
    box.tables = {"service": {"poll_seconds": 60, "retry_minutes": [5]}}
    box.insert(ANA, "Hi", anyway=anyway)
    box.far.script.append(cms(42))
    box.serve(drain=True)
    assert timedelta() <= box.far.arrived[0][0] - again < timedelta(seconds=2)


def test_refusal_that_does_not_pass_fails_the_message_after_the_last_try(box: PlayedBox) -> None:
    row_id = box.insert(ANA, "one [BUBBLE] two")
    box.far.script.extend([None, *[cms(42)] * 4])
    box.serve(drain=True)
    assert box.row(row_id) == ("failed", "CMS 42 congestion")
    assert box.bubbles(row_id) == ["sent", "failed"]
    assert box.texts() == ["one"]


def test_network_that_is_away_burns_no_attempt(box: PlayedBox) -> None:
    row_id = box.insert(ANA, "Hi")
    box.far.script.extend([cms(38)] * 4)
    box.serve(20)
    assert box.row(row_id, "status, attempts, error_message") == ("scheduled", 0, None)
    assert box.wall.shown[-1].fault is Fault.NO_NETWORK
    box.serve(drain=True)
    assert box.row(row_id, "status, attempts") == ("sent", 0)


def test_refusal_of_the_account_pauses_the_box_and_burns_no_row(box: PlayedBox) -> None:
    first, second = box.insert(ANA, "one"), box.insert(BEN, "two", in_s=60)
    box.far.script.append(cms(10))
    box.serve(200)
    assert box.texts() == []
    assert [box.row(each) for each in (first, second)] == [("scheduled", None)] * 2
    assert "call barred" in box.database.state.get("paused_because")
    assert box.wall.shown[-1] == LampState(Ready.RESTING, Fault.ACCOUNT)
    assert ("daemon", "paused") in box.sql("SELECT actor, event FROM events")


def test_refused_recipient_fails_that_message_only(box: PlayedBox) -> None:
    refused, good = box.insert(ANA, "one [BUBBLE] two"), box.insert(BEN, "three")
    box.far.script.append(cms(1))
    box.serve(drain=True)
    assert box.row(refused) == ("failed", "CMS 1 unassigned number")
    assert box.bubbles(refused) == ["failed", "cancelled"]
    assert box.row(good)[0] == "sent"
    assert box.database.state.get("paused_because") == ""


@pytest.mark.parametrize(("between", "paused"), [(False, True), (True, False)])
def test_three_recipients_refused_in_a_row_pause_the_box_and_three_apart_do_not(
    box: PlayedBox, between: bool, paused: bool
) -> None:
    for n in range(3):
        box.insert(f"+1213555{2300 + n}", "refused", in_s=n)
        box.far.script.append(cms(1))
        if between:
            box.insert(BEN, "good", in_s=n)
            box.far.script.append(None)
    box.serve(3600)
    assert bool(box.database.state.get("paused_because")) is paused


def test_unwell_modem_is_attached_again_before_the_next_try(box: PlayedBox) -> None:
    row_id = box.insert(ANA, "Hi")
    box.far.script.append(cms(500))
    box.serve(drain=True)
    assert box.row(row_id, "status, attempts") == ("sent", 1)
    assert box.far.arrived[0][0] >= at(10, 1)
    assert box.far.heard.count(b"AT+CMGF=0\r") == 2


@pytest.mark.parametrize("says", [SILENCE, cms(332), b"\r\nERROR\r\n", "gone"])
def test_unknown_outcome_is_unconfirmed_and_never_sent_again(
    box: PlayedBox, says: bytes | str
) -> None:
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


def test_stop_is_heard_between_two_segments_and_the_rest_goes_on(box: PlayedBox) -> None:
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


def fill_disk(box: PlayedBox, when: str) -> None:
    """From now on an UPDATE of segments needs more room than there is."""
    box.database.change(
        f"CREATE TEMP TRIGGER grow AFTER UPDATE ON segments WHEN {when} BEGIN"
        " INSERT INTO state VALUES ('ballast', zeroblob(2000000)); END"
    )
    pages = box.database.one("PRAGMA page_count")[0]
    assert box.database.one(f"PRAGMA max_page_count = {pages + 200}")[0] == pages + 200


def make_room(box: PlayedBox) -> None:
    box.database.change("DROP TRIGGER temp.grow")
    box.database.one("PRAGMA max_page_count = 1000000")


def test_sent_segment_that_a_full_disk_can_not_record_is_owed_and_not_sent_again(
    box: PlayedBox,
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


def test_segment_owed_at_the_end_of_the_daemon_is_unconfirmed_in_its_next_life(
    box: PlayedBox,
) -> None:
    row_id = box.insert(ANA, "one [BUBBLE] two")
    fill_disk(box, "NEW.status = 'sent'")
    box.serve(100)
    make_room(box)
    box.serve(drain=True)
    assert box.texts() == ["one"]
    assert box.bubbles(row_id) == ["unconfirmed", "cancelled"]


@pytest.mark.parametrize(("away_min", "held"), [(50, False), (70, True)])
def test_message_cut_in_half_for_an_hour_waits_for_a_person(
    box: PlayedBox, away_min: float, held: bool
) -> None:
    row_id = box.insert(ANA, "one [BUBBLE] two")
    box.after(1, lambda: setattr(box.far, "gone", True))
    box.after(60 * away_min, lambda: setattr(box.far, "gone", False))
    box.serve(drain=True)
    assert box.texts() == (["one"] if held else ["one", "two"])
    assert (box.row(row_id, "held_because")[0] or "").startswith("cut in half" if held else "")
    assert box.row(row_id)[0] == ("scheduled" if held else "sent")


def test_nothing_is_handed_over_that_can_not_be_written_down_before(box: PlayedBox) -> None:
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
        "link_fault": Fault.NONE, "link_ready": True, "has_room": True, "account_refused": False,
        "trusted": True,
        "awaits_person": False, "resting": False, "under_way": False,
    }  # fmt: skip
    assert find_lamps(**{**well, **given}) == (ready, fault)


def test_sending_lamp_is_lit_while_the_modem_has_a_segment_and_only_then(box: PlayedBox) -> None:
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
    box: PlayedBox, command: bytes, answer: bytes, fault: Fault
) -> None:
    row_id = box.insert(ANA, "Hi")
    box.far.answers[command] = answer
    box.serve(60)
    assert box.wall.shown[-1] == LampState(Ready.STARTING, fault)
    assert box.row(row_id) == ("scheduled", None)
    box.far.answers.clear()
    box.serve(drain=True)
    assert box.row(row_id)[0] == "sent"


def test_absent_modem_is_looked_for_again_and_again(box: PlayedBox) -> None:
    box.insert(ANA, "Hi", in_s=600)
    box.far.gone = True
    box.serve(60)
    assert 10 <= box.far.opened <= 60
    assert box.wall.shown[-1] == LampState(Ready.STARTING, Fault.NO_MODEM)
    assert box.published[-1]["modem"] == "no modem is plugged in (sim:)"


def test_nothing_is_sent_until_the_clock_is_trusted(box: PlayedBox) -> None:
    box.insert(ANA, "Hi")
    box.evidence = ""
    box.serve(90)
    assert box.texts() == []
    assert box.wall.shown[-1].fault is Fault.CLOCK
    assert str(box.published[-1]["clock"]).startswith("not trusted")
    box.evidence = "systemd-timesyncd"
    box.serve(drain=True)
    assert box.texts() == ["Hi"]
    assert box.published[-1]["clock"] == "systemd-timesyncd"


def test_trust_lasts_for_the_boot_and_no_longer(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.serve(30)
    box.evidence = ""
    box.insert(ANA, "one")
    box.serve(60)
    assert box.texts() == ["one"]
    monkeypatch.setattr(smsbox, "read_boot_id", lambda: "another boot")
    box.insert(ANA, "two")
    box.serve(60)
    assert box.texts() == ["one"]


def test_status_tells_what_the_daemon_does(box: PlayedBox) -> None:
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


def test_error_of_smsbox_itself_holds_the_row_in_hand_and_the_others_go(box: PlayedBox) -> None:
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
def test_start_lifts_only_a_stop_by_keyword(
    box: PlayedBox, words: str, may_come_back: bool
) -> None:
    if words:
        box.far.modem.receive(encode_deliver(words, ANA, box.play.now()))
        box.serve(60)
    else:
        box.sql("INSERT INTO opt_outs (phone_number) VALUES (?)", ANA)
    box.far.modem.receive(encode_deliver("START", ANA, box.play.now()))
    box.serve(60)
    assert bool(box.sql("SELECT * FROM opt_outs")) is not may_come_back
    assert box.sql("SELECT request FROM inbound")[-1:] == [("start",)]


# --- what a hunt for broken promises has found


def test_message_by_the_operator_s_word_goes_to_its_last_bubble_at_night(box: PlayedBox) -> None:
    box.play.start = at(20, 30)
    box.tables = {"pacing": {"bubble_gap_seconds": [30, 30]}}
    text = " [BUBBLE] ".join(f"part {place}" for place in range(10))  # longer than it is late after
    box.insert(ANA, text, at_once=1, anyway=1, timezone="America/Los_Angeles", campaign_name="")
    box.tables["recipient_hours"] = {"enabled": False}
    box.serve(600)
    assert len(box.texts()) == 10


def test_row_over_which_a_gate_stumbles_is_held_and_the_others_go(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [box.insert(f"+1213555231{n}", f"text {n}", in_s=-600 + n) for n in range(3)]
    real = smsbox.gap_of

    def stumble(row: smsbox.StoredRow, pace: smsbox.Pace) -> smsbox.Gap:
        if row.id == ids[1]:
            raise TypeError("a slip")
        return real(row, pace)

    monkeypatch.setattr(smsbox, "gap_of", stumble)
    box.serve(3600)
    assert box.texts() == ["text 0", "text 2"]
    assert box.row(ids[1], "status, held_code") == ("scheduled", "error")


def test_segment_over_whose_answer_smsbox_stumbles_is_never_sent_again(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    row_id = box.insert(ANA, "one [BUBBLE] two")
    real = smsbox.Conversation.submit

    def stumble(modem: smsbox.Conversation, pdu: str, octets: int) -> int:
        monkeypatch.setattr(smsbox.Conversation, "submit", real)
        real(modem, pdu, octets)
        raise KeyError("a slip")

    monkeypatch.setattr(smsbox.Conversation, "submit", stumble)
    box.serve(60)
    assert box.row(row_id)[0] == "failed"
    assert "may have been sent" in box.row(row_id)[1]
    box.sql("UPDATE scheduled_messages SET status = 'scheduled', held_because = NULL")
    box.serve(600)
    assert box.texts() == ["one"]


def test_word_of_a_pause_that_was_ended_by_hand_stops_nothing(box: PlayedBox) -> None:
    box.database.state.set(paused_because="x", paused_by="operator", paused_now="1")
    box.insert(ANA, "Hi")
    box.serve(30)
    assert box.texts() == []
    box.sql("DELETE FROM state WHERE key = 'paused_because'")
    box.serve(30)
    assert box.texts() == ["Hi"]


def test_other_sim_between_two_bubbles_sends_no_more(box: PlayedBox) -> None:
    box.tables = {"pacing": {"bubble_gap_seconds": [60, 60]}}
    box.insert(ANA, "one [BUBBLE] two [BUBBLE] three")
    box.insert(BEN, "other")

    def change_sim() -> None:
        box.far.answers[b"AT+CCID\r"] = b"\r\n+CCID: 8901260000000000099\r\n\r\nOK\r\n"
        box.far.said += b"\r\n+CPIN: NOT READY\r\n"

    box.far.script.append(lambda: box.after(5, change_sim))
    box.serve(1200)
    assert "another SIM" in box.database.state.get("paused_because")
    assert box.texts() == ["one"]


def test_many_due_rows_whose_gates_are_all_shut_are_not_looked_through_each_turn(
    box: PlayedBox,
) -> None:
    for place in range(150):
        box.insert(f"+1213555{3000 + place}", "Hi", in_s=-600, timezone="Asia/Tokyo")
    seen: list[str] = []
    box.database._connection.set_trace_callback(seen.append)
    box.serve(60)
    after = seen[[place for place, each in enumerate(seen) if "LIMIT 500" in each][-1] :]
    turns = sum(each.startswith("PRAGMA data_version") for each in after)
    assert turns >= 4
    assert len(after) / turns < 12
    awake = box.insert(ANA, "awake")
    box.serve(20)
    assert box.row(awake, "status") == ("sent",)


@pytest.mark.parametrize(("column", "value"), [("gap_s", "abc"), ("gap_s", 1e300), ("skip_s", -1)])
def test_gap_that_is_none_is_refused(box: PlayedBox, column: str, value: object) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        box.insert(ANA, "Hi", 0, **{column: value})


def test_status_knows_process_and_clock_before_the_modem_takes_its_time(box: PlayedBox) -> None:
    box.far.gone = True
    box.serve(10)
    first = box.published[0]
    assert (first["pid"], first["clock"]) == (os.getpid(), "the test")
    assert first["modem"] == "starting"


def test_message_that_is_begun_goes_on_though_the_day_has_no_room_for_another(
    box: PlayedBox,
) -> None:
    box.tables = {"pacing": {"max_messages_per_day": 1, "bubble_gap_seconds": [10, 10]}}
    box.insert(ANA, "one [BUBBLE] two")
    box.insert(BEN, "other", in_s=600)
    box.serve(1200)
    assert box.texts() == ["one", "two"]
