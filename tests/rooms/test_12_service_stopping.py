"""Stop means stop: what a person's words do, what the box answers, what the operator may undo."""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter, deque
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import smsbox
from rig.desk import LOGIN, Desk, Operator
from rig.people import ANA, BEN, CHLOE
from rig.played import SILENCE, PlayedBox, at, close
from rig.tpdus import encode_deliver
from smsbox import Request, read_reply, segment_text, write_answer

GONE = write_answer(Request.STOP, "en", "", "")
HELP = write_answer(Request.HELP, "en", "", "")
CODE_40404, NAMES = "05810404F4", {"ACME": "07D0C161B308"}  # addresses, TS 23.040 9.1.2.5


def reply(box: PlayedBox, text: str, number: str = ANA, in_s: float = 0) -> None:
    """Let somebody write to the box."""

    def arrive() -> None:
        named = number in NAMES  # the box writes to no name, so it can't encode one
        pdu = encode_deliver(text, "40404" if named else number, box.play.now())
        pdu = pdu.replace(CODE_40404, NAMES[number]) if named else pdu
        box.far.said += box.far.modem.receive(pdu)

    box.after(in_s, arrive)


def expect(box: PlayedBox, *numbers: str) -> None:
    """Let somebody be one who is to get something in a month: strangers are not answered."""
    for number in numbers:
        box.insert(number, "in a month", in_s=30 * 86_400, campaign_name="winter")


def answers(box: PlayedBox) -> list[tuple[str, str]]:
    return box.sql("SELECT kind, status FROM messages WHERE kind IS NOT NULL ORDER BY id")


def opt_outs(box: PlayedBox) -> list[tuple[str, str, str, str]]:
    return box.sql("SELECT phone_number, words, tier, campaign FROM opt_outs ORDER BY phone_number")


def number_of(place: int) -> str:
    return f"+1310{2340000 + place}"


# --- what a stop does


@pytest.mark.parametrize(
    ("words", "tier"), [("Stop", "keyword"), ("Take me off your list", "words")]
)
def test_stop_is_kept_with_its_words_tier_and_the_campaign_it_came_after(
    box: PlayedBox, words: str, tier: str
) -> None:
    box.insert(ANA, "first", campaign_name="spring")
    box.insert(ANA, "second", in_s=300, campaign_name="fall")
    later = box.insert(ANA, "third", in_s=7200, campaign_name="winter")
    reply(box, words, in_s=330)
    box.serve(600)
    assert opt_outs(box) == [(ANA, words, tier, "fall")]
    assert box.row(later) == ("cancelled", "the recipient said stop")
    assert box.texts() == ["first", "second", GONE]
    assert box.sql("SELECT actor, detail FROM events WHERE event = 'opted out'") == [
        ("daemon", f"{ANA}: {tier}")
    ]


def test_stop_between_bubbles_ends_the_message_and_is_confirmed_in_segments_and_all(
    box: PlayedBox,
) -> None:
    box.tables = {"pacing": {"bubble_gap_seconds": [60, 60]}}
    row = box.insert(ANA, "one [BUBBLE] two")
    reply(box, "STOP", in_s=20)
    box.serve(drain=True)
    assert box.texts() == ["one", GONE]
    assert box.bubbles(row) == ["sent", "cancelled"]
    assert opt_outs(box) == [(ANA, "STOP", "keyword", "fall")]
    assert box.sql(
        "SELECT m.kind, m.status, g.status, g.message_reference, m.scheduled_message_id FROM"
        " messages m JOIN segments g ON g.message_id = m.id WHERE m.kind IS NOT NULL"
    ) == [("confirmation", "sent", "sent", 2, None)]


def test_stop_then_start_opens_the_way_again_and_takes_back_what_was_not_confirmed_yet(
    box: PlayedBox,
) -> None:
    expect(box, ANA)
    reply(box, "STOP", in_s=10)
    reply(box, "START", in_s=40)
    box.serve(60)
    assert (opt_outs(box), answers(box)) == ([], [("confirmation", "sent")])
    box.insert(ANA, "again")
    box.serve(60)
    assert box.texts() == [GONE, "again"]
    for text in ("STOP", "START"):  # both at once: the confirmation would be wrong by then
        reply(box, text, in_s=5)
    box.serve(60)
    assert box.texts() == [GONE, "again"]
    assert answers(box)[-1] == ("confirmation", "cancelled")
    assert [each[0] for each in box.sql("SELECT event FROM events WHERE detail LIKE '+%'")] == [
        "opted out", "opt-out removed"
    ] * 2  # fmt: skip


def test_machine_that_says_start_and_stop_by_turns_is_answered_a_few_times_a_day(
    box: PlayedBox,
) -> None:
    box.tables["service"] = {"poll_seconds": 1}
    expect(box, ANA)
    for turn in range(40):
        reply(box, "START" if turn % 2 else "STOP", in_s=30 * turn)
    box.serve(1300)
    assert box.texts() == [GONE] * 3
    box.tables["service"] = {"poll_seconds": 60}
    reply(box, "STOP", in_s=86_400)
    box.serve(86_500)
    assert box.texts() == [GONE] * 4


def test_start_does_not_lift_a_keyword_that_was_followed_by_a_persons_own_words(
    box: PlayedBox,
) -> None:
    expect(box, ANA)
    for place, text in enumerate(("STOP", "never text me again", "START")):
        reply(box, text, in_s=10 * place)
    box.serve(60)
    assert opt_outs(box) == [(ANA, "never text me again", "words", "")]
    assert box.texts() == [GONE]


@pytest.mark.parametrize("way", ["sql", "retry", "release", "send"])
def test_every_way_into_the_queue_meets_the_opt_out_again_at_the_claim(
    box: PlayedBox, way: str
) -> None:
    stopped = box.insert(ANA, "no", status="failed" if way == "retry" else "scheduled",
                         held_because="odd" if way == "release" else None)  # fmt: skip
    box.sql("INSERT INTO opt_outs (phone_number) VALUES (?)", ANA)
    now, ids = box.play.now(), [smsbox.MessageId(stopped)]
    if way == "retry":
        assert box.database.queue.retry(ids, False, now, "ana")
    elif way == "release":
        assert box.database.queue.release(ids, now, "ana")
    elif way == "send":
        box.database.queue.add_row(ANA, "no", True, now, "ana")
    box.serve(300)
    assert box.texts() == []
    assert box.sql("SELECT DISTINCT status, error_message FROM scheduled_messages") == [
        ("cancelled", "the recipient said stop")
    ]


def test_opt_out_written_by_hand_stops_the_bubbles_that_are_left_too(box: PlayedBox) -> None:
    box.tables = {"pacing": {"bubble_gap_seconds": [60, 60]}}
    begun, later = box.insert(ANA, "one [BUBBLE] two"), box.insert(ANA, "three", 900)
    box.after(30, lambda: box.sql("INSERT INTO opt_outs (phone_number) VALUES (?)", ANA))
    box.serve(drain=True)
    assert box.texts() == ["one"]
    words = "1 of 2 bubbles were sent: the recipient said stop"
    assert box.row(begun) == ("cancelled", words)
    assert box.bubbles(begun) == ["sent", "cancelled"]
    assert box.row(later) == ("cancelled", "the recipient said stop")
    assert box.events(begun)[-1] == "sql cancelled"


def test_draining_daemon_stays_until_the_stop_is_confirmed(box: PlayedBox) -> None:
    row = box.insert(ANA, "hello", 30)
    box.far.script.append(b"\r\n+CMS ERROR: 42\r\n")  # congestion: tried again a minute later
    reply(box, "STOP", in_s=10)
    box.serve(drain=True)
    assert box.row(row)[0] == "cancelled"
    assert box.texts() == [GONE]
    assert answers(box) == [("confirmation", "sent")]


# --- the confirmation


@pytest.mark.parametrize(
    ("words", "language"),
    [("STOP", "en"), ("no me escriban más", "es"), ("ARRÊT", "fr"), ("BAJA", "es")],
)
def test_confirmation_speaks_the_language_of_the_words_and_names_who_writes(
    box: PlayedBox, words: str, language: str
) -> None:
    box.tables = {"replies": {"sender_name": "Acme"}}
    expect(box, ANA)
    reply(box, words)
    box.serve()
    assert box.texts() == [write_answer(Request.STOP, language, "Acme", "")]
    assert box.texts()[0].startswith("Acme: ")


@pytest.mark.parametrize("language", ["en", "es", "fr"])
def test_another_box_reads_no_stop_in_what_this_one_answers(language: str) -> None:
    for name, contact in (("", ""), ("Acme", "acme.example")):
        assert read_reply(write_answer(Request.STOP, language, name, "")) is Request.NOTHING
        helping = write_answer(Request.HELP, language, name, contact)
        assert read_reply(helping) is not Request.STOP
        assert "STOP" in helping or "BAJA" in helping
        assert segment_text(helping).encoding.value == "gsm7"


def test_answer_is_one_segment_whatever_the_settings_say(box: PlayedBox) -> None:
    box.tables = {"replies": {"sender_name": "商店 " * 30, "help_contact": "x" * 200}}
    expect(box, ANA, BEN)
    reply(box, "STOP")
    reply(box, "HELP", BEN)
    box.serve()
    assert sorted(box.texts()) == sorted([GONE, HELP])


def test_confirmation_goes_at_once_at_night_while_paused_and_amid_a_campaign(
    box: PlayedBox,
) -> None:
    box.play.start = at(3)
    box.database.state.set_key("paused_because", "paused by ana")
    row = box.insert(BEN, "in the morning")
    expect(box, ANA)
    reply(box, "STOP", in_s=60)
    box.serve(120)
    ((when, number, text),) = box.far.arrived
    assert (number, text) == (ANA, GONE)
    assert when - at(3) <= timedelta(seconds=61)
    assert box.row(row)[0] == "scheduled"


def test_confirmation_does_not_count_as_a_message_of_the_pace(box: PlayedBox) -> None:
    box.insert(BEN, "one")
    second = box.insert(CHLOE, "two", in_s=300)
    expect(box, ANA)
    reply(box, "STOP", in_s=295)
    box.serve(drain=True)
    assert box.texts() == ["one", GONE, "two"]
    assert box.row(second, "sent_at") == ("2025-11-09 18:05:00",)


@pytest.mark.parametrize(("age_min", "count"), [(4, 1), (6, 0)])
@pytest.mark.parametrize("words", ["Stop", "Help"])
def test_text_that_the_box_could_not_hear_for_long_is_obeyed_and_not_answered(
    box: PlayedBox, words: str, age_min: int, count: int
) -> None:
    """The box was off; who wrote in the evening is not answered when it comes back at night."""
    sent_at = box.play.now() - timedelta(minutes=age_min)
    expect(box, ANA)
    box.far.said += box.far.modem.receive(encode_deliver(words, ANA, sent_at))
    box.serve(600)
    assert len(answers(box)) == len(box.texts()) == count
    assert len(opt_outs(box)) == (words == "Stop")


def test_second_stop_gets_no_second_confirmation(box: PlayedBox) -> None:
    expect(box, ANA)
    for place in range(5):
        reply(box, "STOP", in_s=30 * place)
    reply(box, "and don't text me again", in_s=200)
    box.serve(600)
    assert box.texts() == [GONE]
    assert len(box.sql("SELECT id FROM inbound")) == 6


@pytest.mark.parametrize("sender", ["40404", "ACME", "1234567"])
@pytest.mark.parametrize("words", ["STOP", "HELP"])
def test_short_codes_and_names_are_never_answered(box: PlayedBox, sender: str, words: str) -> None:
    reply(box, words, sender)
    box.serve()
    assert len(box.sql("SELECT id FROM inbound")) == 1
    assert (box.texts(), answers(box)) == ([], [])


def test_confirmation_waits_for_the_clock_and_is_dropped_after_five_minutes(box: PlayedBox) -> None:
    box.evidence = ""
    expect(box, ANA, BEN)
    reply(box, "STOP")
    reply(box, "STOP", BEN, in_s=400)
    box.after(500, lambda: setattr(box, "evidence", "the network"))
    box.serve(900)
    assert [each[1] for each in box.far.arrived] == [BEN]
    assert answers(box) == [("confirmation", "cancelled"), ("confirmation", "sent")]
    assert len(opt_outs(box)) == 2


def test_confirmation_is_not_sent_on_a_clock_that_was_set_since(box: PlayedBox) -> None:
    box.evidence = ""
    expect(box, ANA)
    reply(box, "STOP")
    box.after(30, lambda: box.play.step(-86_400))
    box.after(31, lambda: setattr(box, "evidence", "the network"))
    box.serve(300)
    assert (box.texts(), answers(box)) == ([], [("confirmation", "cancelled")])


def test_confirmation_is_not_sent_while_the_account_is_refused(box: PlayedBox) -> None:
    box.far.script.append(b"\r\n+CMS ERROR: 8\r\n")
    box.insert(BEN, "Hi")
    expect(box, ANA)
    reply(box, "STOP", in_s=20)
    box.serve(100)
    assert box.database.state.get("account_refused")
    assert (box.texts(), answers(box)) == ([], [("confirmation", "queued")])
    box.serve(400)
    assert (box.texts(), answers(box)) == ([], [("confirmation", "cancelled")])


def test_restored_copy_does_not_confirm_what_may_have_been_confirmed_since(box: PlayedBox) -> None:
    box.evidence = ""
    expect(box, ANA)
    reply(box, "STOP")
    box.serve(60)
    smsbox.Restoring(box.database, None).prepare(box.play.now(), "ana", True)
    box.evidence = "the network"
    box.serve(60)
    assert (box.texts(), answers(box)) == ([], [("confirmation", "cancelled")])


@pytest.mark.parametrize(
    ("answer", "status", "times"),
    [
        (b"\r\n+CMS ERROR: 8\r\n", "failed", 0),  # it says nothing of the box
        (b"\r\n+CMS ERROR: 1\r\n", "failed", 0),
        (b"\r\n+CMS ERROR: 42\r\n", "sent", 1),
        (b"\r\n+CMS ERROR: 331\r\n", "sent", 1),
        (SILENCE, "unconfirmed", 0),
    ],
)
def test_refused_confirmation_is_tried_again_only_where_that_helps(
    box: PlayedBox, answer: bytes, status: str, times: int
) -> None:
    box.far.script.append(answer)
    expect(box, ANA)
    reply(box, "STOP")
    box.serve(280)
    assert (box.texts(), answers(box)) == ([GONE] * times, [("confirmation", status)])
    assert all(when >= at(10) + timedelta(seconds=30) for when, _, _ in box.far.arrived)
    assert box.wall.shown[-1].fault is not smsbox.Fault.DISK


def test_confirmation_that_a_crash_interrupted_is_unconfirmed_and_never_sent_again(
    box: PlayedBox,
) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    box.far.script.append(die)
    expect(box, ANA)
    reply(box, "STOP")
    with pytest.raises(KeyboardInterrupt):
        box.serve()
    assert answers(box) == [("confirmation", "sending")]
    box.far.said = b""
    box.sql("UPDATE inbound SET read_at = received_at")
    box.serve(600)
    assert (box.texts(), answers(box)) == ([GONE], [("confirmation", "unconfirmed")])
    assert box.wall.shown[-1].fault is smsbox.Fault.NONE  # there is nothing to be done about it


# --- help, and machines


def test_help_is_answered_once_a_day_and_not_after_a_stop(box: PlayedBox) -> None:
    box.tables = {"replies": {"sender_name": "Acme", "help_contact": "acme.example"}}
    expect(box, ANA, BEN)
    for hour in (0, 1, 5, 25):
        reply(box, "HELP", in_s=3600 * hour)
    reply(box, "STOP", BEN)
    reply(box, "help", BEN, in_s=60)
    box.serve(26 * 3600)
    helping = write_answer(Request.HELP, "en", "Acme", "acme.example")
    assert Counter((number, text) for _, number, text in box.far.arrived) == {
        (ANA, helping): 2, (BEN, write_answer(Request.STOP, "en", "Acme", "")): 1
    }  # fmt: skip


def test_help_that_waits_is_not_sent_to_who_said_stop_meanwhile(box: PlayedBox) -> None:
    expect(box, ANA)
    reply(box, "HELP", in_s=5)
    reply(box, "STOP", in_s=5)
    box.serve()
    assert box.texts() == [GONE]
    assert answers(box) == [("help", "cancelled"), ("confirmation", "sent")]


@pytest.mark.parametrize("words", ["STOP", "HELP", "Unsubscribe me", "INFO", "I am driving."])
def test_machine_that_answers_each_text_gets_one_answer_a_day(box: PlayedBox, words: str) -> None:
    box.far.script = deque([lambda: reply(box, words)] * 100)
    box.insert(ANA, "Hello")
    box.serve(3600)
    assert box.texts()[0] == "Hello"
    assert len(box.texts()) == (1 if words == "I am driving." else 2)


@pytest.mark.parametrize("first", ["STOP", "HELP", "Is this spam?", "START", "no more texts"])
def test_two_boxes_fall_silent_when_they_answer_each_other(
    tmp_path: Path, now: datetime, first: str
) -> None:
    boxes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        boxes.append(PlayedBox(tmp_path / name, now))
    numbers = (BEN, ANA)  # of the first and the second
    expect(boxes[0], ANA)
    expect(boxes[1], BEN)
    reply(boxes[0], first, ANA)
    said = []
    for turn in range(12):
        this, other, me = boxes[turn % 2], boxes[1 - turn % 2], numbers[turn % 2]
        before = len(this.texts())
        this.serve(60)
        fresh = this.texts()[before:]
        said += fresh
        for text in fresh:
            reply(other, text, me)
    for each in boxes:
        close(each)
    assert len(said) <= 1
    assert bool(said) is (first in ("STOP", "HELP", "no more texts"))


def test_storm_of_200_replies_in_a_minute_while_sending_loses_none(box: PlayedBox) -> None:
    def take_four_seconds() -> None:
        end = box.play.monotonic() + 4
        while box.play.monotonic() < end:  # others write meanwhile
            box.play.until(end, interruptible=False)

    box.tables = {"pacing": {"bubble_gap_seconds": [20, 20]}}
    box.far.script = deque([take_four_seconds] * 1000)
    box.insert(CHLOE, "one [BUBBLE] two [BUBBLE] three")
    stops = [number_of(place) for place in range(0, 200, 2)]
    others = [number_of(place) for place in range(1, 200, 2)]
    for place, number in enumerate(sorted(stops + others)):
        box.insert(number, "campaign", in_s=3600 + 300 * place)
        reply(box, "STOP" if number in stops else "Thanks!", number, in_s=5 + place * 0.3)
    box.serve(1800)
    assert len(box.sql("SELECT id FROM inbound")) == 200
    assert box.far.modem.stored == {}
    assert [each[0] for each in opt_outs(box)] == stops
    assert box.texts()[:1] == ["one"]
    assert [text for text in box.texts() if text != GONE] == ["one", "two", "three"]
    confirmed = Counter(number for _, number, text in box.far.arrived if text == GONE)
    assert set(confirmed) <= set(stops)
    assert set(confirmed.values()) == {1}
    assert answers(box) == [("confirmation", "sent")] * 30  # of a day, whoever asks
    assert len(confirmed) == 30
    last = max(when for when, _, text in box.far.arrived if text == GONE)
    assert last <= box.play.start + timedelta(seconds=65 + 300 + 4)
    left = box.sql("SELECT status, count(*) FROM scheduled_messages GROUP BY 1 ORDER BY 1")
    assert left == [("cancelled", 100), ("scheduled", 100), ("sent", 1)]


# --- other replies


def test_plain_reply_says_what_it_answers_and_holds_nothing_by_default(box: PlayedBox) -> None:
    first = box.insert(ANA, "one")
    later = box.insert(ANA, "two", in_s=7200)
    reply(box, "See you then", in_s=60)
    reply(box, "STOP", BEN, in_s=60)
    box.serve(120)
    assert box.sql("SELECT body, answers FROM inbound ORDER BY sender") == [
        ("See you then", first), ("STOP", None)
    ]  # fmt: skip
    assert box.row(later, "status, held_because") == ("scheduled", None)


def test_hold_on_reply_holds_the_remaining_rows_of_who_answered_and_nobody_elses(
    box: PlayedBox,
) -> None:
    box.tables = {"replies": {"hold_on_reply": True}}
    box.insert(ANA, "one")
    later, bens = box.insert(ANA, "two", in_s=7200), box.insert(BEN, "three", in_s=7200)
    reply(box, "See you then", in_s=60)
    reply(box, "HELP", BEN, in_s=60)
    box.serve(120)
    rows = {row.id: row for row in box.database.queue.rows(smsbox.RowFilter(status="scheduled"))}
    assert rows[smsbox.MessageId(later)].doubtful_at
    assert not rows[smsbox.MessageId(bens)].doubtful_at


def test_doubtful_reply_holds_and_is_neither_confirmed_nor_an_opt_out(box: PlayedBox) -> None:
    later = box.insert(ANA, "two", in_s=7200)
    reply(box, "I will report this")
    box.serve(120)
    (row,) = box.database.queue.rows(smsbox.RowFilter(ids=(later,)))
    assert (row.held_because, row.doubtful_at != "") == ("", True)
    assert (box.texts(), opt_outs(box)) == ([], [])
    assert box.wall.shown[-1].fault is smsbox.Fault.ATTENTION


# --- a campaign that many stop


def lay_down_sent(box: PlayedBox, count: int, campaign: str = "fall") -> None:
    for place in range(count):
        sent = f"{box.play.now() - timedelta(minutes=count - place):%Y-%m-%d %H:%M:%S}"
        box.insert(number_of(place), "Hi", status="sent", sent_at=sent, campaign_name=campaign)


def why_paused(box: PlayedBox) -> dict[str, str]:
    return box.database.state.paused_campaigns()


@pytest.mark.parametrize(
    ("sent", "stops", "paused"),
    [(100, 5, False), (100, 6, True), (99, 5, True), (10, 4, False), (5, 5, True)],
)
def test_campaign_pauses_over_one_in_twenty_and_at_least_five(
    box: PlayedBox, caplog: pytest.LogCaptureFixture, sent: int, stops: int, paused: bool
) -> None:
    lay_down_sent(box, sent)
    waiting = box.insert(ANA, "next", in_s=300)
    for place in range(stops):
        reply(box, "STOP", number_of(place), in_s=10 * place)
    with caplog.at_level(logging.WARNING):
        box.serve(600)
    lines = [each.getMessage() for each in caplog.records if "campaign" in each.getMessage()]
    if paused:
        because = f"{stops} of its last {sent} recipients said stop"
        assert why_paused(box) == {"fall": because}
        assert lines == [f"paused campaign fall: {because}; see to it, then smsbox resume"
                         " --campaign"]  # fmt: skip
        assert box.sql("SELECT actor, detail FROM events WHERE event = 'paused'") == [
            ("daemon", f"fall: {because}")
        ]
        assert box.row(waiting)[0] == "scheduled"
    else:
        assert (why_paused(box), lines) == ({}, [])
        assert box.row(waiting)[0] == "sent"


def test_only_the_last_hundred_recipients_count(box: PlayedBox) -> None:
    lay_down_sent(box, 110)
    for place in (0, 1, 2, 50, 51, 52, 53):  # three of them are long ago, and four are too few
        reply(box, "STOP", number_of(place))
    box.serve(120)
    assert why_paused(box) == {}


def test_opt_outs_by_hand_pause_the_campaign_before_its_next_message(box: PlayedBox) -> None:
    lay_down_sent(box, 10)
    waiting, other = box.insert(ANA, "no"), box.insert(BEN, "yes", in_s=10, campaign_name="spring")
    for place in range(5):
        box.sql("INSERT INTO opt_outs (phone_number) VALUES (?)", number_of(place))
    box.serve(600)
    assert list(why_paused(box)) == ["fall"]
    assert (box.row(waiting)[0], box.row(other)[0]) == ("scheduled", "sent")
    assert box.texts() == ["yes"]


def test_who_stops_between_two_bubbles_is_a_recipient_too(box: PlayedBox) -> None:
    box.tables = {"pacing": {"bubble_gap_seconds": [60, 60]}, "business_hours": {"closes": "24:00"}}
    for place in range(5):
        box.insert(number_of(place), f"one [BUBBLE] two {place}", in_s=300 * place)
        reply(box, "STOP", number_of(place), in_s=300 * place + 30)
    waiting = box.insert(ANA, "no", in_s=1500)
    box.serve(1700)
    assert why_paused(box) == {"fall": "5 of its last 5 recipients said stop"}
    assert box.row(waiting)[0] == "scheduled"


def test_resumed_campaign_goes_on_until_as_many_more_say_stop(
    box: PlayedBox, operator: Operator, tmp_path: Path
) -> None:
    box.play.start = datetime.now(tz=at(10).tzinfo)  # the command tells the time by the same clock
    operator.database = Path(box.path)
    box.tables = {"business_hours": {"opens": "00:00", "closes": "24:00"},
                  "recipient_hours": {"enabled": False}}  # fmt: skip
    lay_down_sent(box, 20)
    for place in range(5):
        reply(box, "STOP", number_of(place))
    box.serve(10)
    assert list(why_paused(box)) == ["fall"]
    box.play.step(60)
    box.sql("UPDATE opt_outs SET at = datetime(at, '-1 minute')")
    assert operator.run("resume", "--campaign", "fall").status == 0
    waiting = box.insert(ANA, "on we go")
    for place in range(5, 9):
        reply(box, "STOP", number_of(place), in_s=60)
    box.serve(120)
    assert box.row(waiting)[0] == "sent"
    assert why_paused(box) == {}
    reply(box, "STOP", number_of(9))
    box.serve(60)
    assert list(why_paused(box)) == ["fall"]


# --- the operator


@pytest.mark.parametrize("tier", ["keyword", "words"])
def test_who_said_stop_is_written_to_again_only_if_they_asked(
    operator: Operator, tier: str
) -> None:
    operator.sql("INSERT INTO opt_outs (phone_number, tier) VALUES (?, ?)", ANA, tier)
    words = ("optout", "remove", ANA, "--reason", "phoned us")
    assert "--they-asked" in operator.sentence(*words, status=2)
    assert operator.sql("SELECT tier FROM opt_outs") == [(tier,)]
    assert operator.run(*words, "--they-asked").status == 0
    assert operator.sql("SELECT * FROM opt_outs") == []
    assert operator.sql("SELECT actor, event, detail FROM events") == [
        ("sql", "opted out", f"{ANA}: {tier}"),
        (LOGIN, "opt-out removed", f"{ANA}: phoned us"),
    ]


def test_hand_made_removal_is_audited_too(operator: Operator) -> None:
    operator.run("optout", "add", ANA)
    operator.sql("DELETE FROM opt_outs")
    assert operator.sql("SELECT actor, event, detail FROM events") == [
        (LOGIN, "opted out", f"{ANA}: operator, by the operator"),
        ("sql", "opt-out removed", ANA),
    ]


def test_a_file_of_numbers_is_added_and_cancels_their_messages(
    operator: Operator, tmp_path: Path
) -> None:
    row = operator.insert()
    operator.run("optout", "add", BEN)
    file = tmp_path / "stopped.csv"
    file.write_text(f"name;Mobile\nAna;(213) 555-2313\nBen;'{BEN}\nAgain;12135552313\n")
    told = operator.run("optout", "add", str(file))
    assert told.out == "1 number added, 1 were on the list; 1 message cancelled.\n"
    assert operator.row(row, "status, error_message") == ("cancelled", "the recipient said stop")
    assert operator.sql("SELECT phone_number, tier, reason FROM opt_outs") == [
        (ANA, "import", "from stopped.csv"), (BEN, "operator", "by the operator")
    ]  # fmt: skip
    events = operator.sql("SELECT actor, detail FROM events WHERE event = 'opted out'")
    assert (LOGIN, f"{ANA}: import, from stopped.csv") in events


def test_bad_rows_of_a_file_of_numbers_are_named_and_nobody_else_waits_for_them(
    operator: Operator, tmp_path: Path
) -> None:
    file = tmp_path / "stopped.csv"
    file.write_text(f"phone\n{ANA}\n12345\n800-555-2313\n{BEN}\n")
    told = operator.run("optout", "add", str(file))
    assert told.status == 65
    *rows, last = told.err.splitlines()
    assert sorted(line.split(",")[0] for line in rows) == ["row 3", "row 4"]
    assert "2 rows" in last
    assert last.endswith("fix these rows and add the file again.")
    assert told.out.startswith("2 numbers added, 0 were on the list; ")
    assert operator.sql("SELECT phone_number FROM opt_outs") == [(ANA,), (BEN,)]


def test_list_of_who_said_stop_is_added_again_with_names_short_codes_and_national_numbers(
    operator: Operator, tmp_path: Path
) -> None:
    stopped = [(each,) for each in (ANA, "07700900123", "40404", "7700900123", "ACME", "@Shop, A")]
    for number in stopped:
        operator.sql("INSERT INTO opt_outs (phone_number, words) VALUES (?, 'Stop; =1')", *number)
    file = tmp_path / "list.csv"
    file.write_text(operator.run("optout", "list", "--csv").out)
    operator.sql("DELETE FROM opt_outs")
    told = operator.run("optout", "add", str(file))
    assert (told.status, told.err) == (0, "")
    assert told.out == "6 numbers added, 0 were on the list; 0 messages cancelled.\n"
    assert sorted(operator.sql("SELECT phone_number FROM opt_outs")) == sorted(stopped)


def test_export_of_the_stops_is_added_again_whole(operator: Operator, tmp_path: Path) -> None:
    stopped = [(ANA,), ("INFO1234567",), ("john1234567@gmail.com",), ("40404",)]
    for number in stopped:
        operator.sql("INSERT INTO opt_outs (phone_number, words) VALUES (?, 'Stop')", *number)
    assert operator.run("export", str(tmp_path / "x")).status == 0
    operator.sql("DELETE FROM opt_outs")
    assert operator.run("optout", "add", str(tmp_path / "x" / "opt_outs.csv")).status == 0
    assert sorted(operator.sql("SELECT phone_number FROM opt_outs")) == sorted(stopped)


def test_no_other_list_brings_names_for_numbers(operator: Operator, tmp_path: Path) -> None:
    """One with a column of that name, nor the own one where a spreadsheet has spoiled it."""
    file = tmp_path / "list.csv"
    for header in ("phone,name,tier", "phone_number,at,words,reason,tier,campaign"):
        cells = ("1.21356E+10", "213-555-2302 cell", "Bob 213-555-2303", "-", "+44", "123 456")
        rows = "\n".join(f"{cell}" + ",gold" * header.count(",") for cell in cells)
        file.write_text(f"{header}\n{rows}\ntel:+12135552313{',x' * header.count(',')}\n")
        told = operator.run("optout", "add", str(file))
        assert told.status == 65
        assert operator.sql("SELECT phone_number FROM opt_outs") == [(ANA,)]


@pytest.mark.parametrize("text", ["", f"{ANA}\n{BEN}\n", "phone\n", 'phone\n"2135552313\n'])
def test_a_file_without_a_column_of_numbers_is_bad_data(
    operator: Operator, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "stopped.csv"
    file.write_text(text)
    operator.sentence("optout", "add", str(file), status=65)
    operator.sentence("optout", "add", str(tmp_path / "absent.csv"), status=65)
    assert operator.sql("SELECT * FROM opt_outs") == []


def test_list_as_csv_is_safe_in_a_spreadsheet_and_can_be_added_again(
    operator: Operator, tmp_path: Path
) -> None:
    operator.sql(
        "INSERT INTO opt_outs (phone_number, at, words, tier, campaign)"
        " VALUES (?, '2025-11-09 18:00:00', ?, 'words', 'fall')",
        ANA, "=1+1\nstop, please",
    )  # fmt: skip
    listed = operator.run("optout", "list", "--csv").out
    head, row = csv.reader(io.StringIO(listed, newline=""))
    assert head == ["phone_number", "at", "words", "reason", "tier", "campaign"]
    assert row == [f"'{ANA}", "2025-11-09 18:00:00", "'=1+1\nstop, please", "", "words", "fall"]
    operator.sql("DELETE FROM opt_outs")
    file = tmp_path / "list.csv"
    file.write_bytes(listed.encode())
    assert operator.run("optout", "add", str(file)).status == 0
    assert operator.sql("SELECT phone_number, tier FROM opt_outs") == [(ANA, "import")]


def test_numbers_are_added_from_stdin(desk: Desk) -> None:
    words = desk.words("optout", "add", "-", "--reason", "list of 2024")
    told = desk.run(words, f"phone\n{ANA}\n".encode())
    assert (told.status, told.out[:16]) == (0, "1 number added, ")
    listed = desk.run(desk.words("optout", "list", "--json")).value
    assert [(each["phone_number"], each["reason"]) for each in listed] == [(ANA, "list of 2024")]


def test_list_from_stdin_is_stored_though_a_full_disk_lets_the_command_run_twice(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.lay_down()
    add, tries = smsbox.OptOuts.add, iter([True])

    def fill(self: smsbox.OptOuts, *given: Any) -> int:
        if next(tries, False):
            raise smsbox.DiskFull("full")
        return add(self, *given)

    monkeypatch.setattr(smsbox.OptOuts, "add", fill)
    monkeypatch.setattr(smsbox, "use_reserve", lambda _: True)
    stdin = io.TextIOWrapper(io.BytesIO(f"phone\n{ANA}\n".encode()))
    done = operator.run("optout", "add", "-", terminal=stdin)  # type: ignore[arg-type]
    assert (done.status, done.out[:16]) == (0, "1 number added, ")
    assert operator.sql("SELECT phone_number FROM opt_outs") == [(ANA,)]


@pytest.mark.parametrize("action", ["add", "remove"])
def test_add_and_remove_need_a_number(operator: Operator, action: str) -> None:
    assert "needs a phone number" in operator.sentence("optout", action, status=2)


def test_list_and_inbox_tell_tier_campaign_and_what_was_answered(operator: Operator) -> None:
    operator.sql(
        "INSERT INTO opt_outs (phone_number, at, words, tier, campaign)"
        " VALUES (?, '2025-11-09 18:00:00', 'Stop', 'keyword', 'fall')", ANA,
    )  # fmt: skip
    line, zone = operator.run("optout", "list").out.splitlines()
    assert line == f"{ANA}  11/09 10:00 AM  keyword, after fall: Stop"
    assert zone.startswith("Times are those of America/Los_Angeles (P")
    (told,) = operator.run("optout", "list", "--json").value
    assert (told["tier"], told["campaign"]) == ("keyword", "fall")
    assert told["at"] == "2025-11-09T18:00:00Z"
    operator.reply("Thanks!")
    operator.sql("UPDATE inbound SET answers = 7")
    assert "[answers message 7]: Thanks!" in operator.run("inbox").out
    assert operator.run("inbox", "--json").value[0]["answers"] == 7


def test_opt_out_outlives_its_campaign(box: PlayedBox) -> None:
    box.insert(ANA, "one")
    reply(box, "STOP", in_s=30)
    box.serve(60)
    for table in ("segments", "messages", "scheduled_messages", "campaigns", "inbound"):
        box.sql(f"DELETE FROM {table}")
    again = box.insert(ANA, "two")
    box.serve(60)
    assert box.row(again)[0] == "cancelled"
    assert "two" not in box.texts()


def test_preview_counts_who_is_left_out(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    lines = [f"{number},Name,Hi {number}" for number in (ANA, BEN, CHLOE)]
    file.write_text("\n".join(["phone_number,customer_name,message_content", *lines]))
    for number in (ANA, BEN):
        operator.run("optout", "add", number)
    out = operator.run("schedule", str(file), "--dry-run").out
    assert "Left out:  2 rows, the recipient said stop: rows 2, 3\n" in out
    operator.run("optout", "add", CHLOE)
    out = operator.run("schedule", str(file), "--yes").out
    assert "Nothing to schedule: 3 rows: the recipient said stop." in out
