"""Stop means stop, the whole way: the daemon's process, a database on disk, a pseudo-terminal.

What counts is what the network took after a person's words lay in the modem's memory.
"""

from __future__ import annotations

import json
import random
import re
import time
from bisect import bisect
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

import smsbox
from rig.people import ANA, BEN, CHLOE, LONG
from rig.process import LiveBox
from rig.pty_modem import TEXT, Fault, PtyModem, wait_until
from rig.tpdus import report

DAN = "+12135552316"
GONE = "Done: you are off our list and will not hear from us again."
HELP = "Reply STOP and you will not hear from us again."
STOPPED = "the recipient said stop"
# Its SIM does not list what came at first: until it does, nothing may be sent.
BUSY_SIM = Fault(r"AT\+CMGL=4", times=2, obeys=False, says=b"\r\n+CMS ERROR: 314\r\n")
DELIVERED, UNKNOWN_THERE, TOO_OLD = 0x00, 0x49, 0x46  # TP-Status, TS 23.040 9.2.3.15


@pytest.fixture
def box(live: LiveBox) -> LiveBox:
    smsbox.Database.create_or_open(str(live.database)).close()
    return live


def in_days(days: float) -> datetime:
    return datetime.now(smsbox.UTC) + timedelta(days=days)


def opted_out(box: LiveBox) -> dict[str, str]:
    """Give number -> tier of those who said stop."""
    return dict(box.sql("SELECT phone_number, tier FROM opt_outs"))


def confirmations(box: LiveBox) -> list[str]:
    found = box.sql("SELECT status FROM messages WHERE kind = 'confirmation' ORDER BY id")
    return [each[0] for each in found]


def await_reply(box: LiveBox, words: str) -> None:
    """Wait until somebody's words are in the database."""
    wait_until(lambda: box.sql("SELECT 1 FROM inbound WHERE body = ?", words))


# --- what came while the box could not hear


@pytest.mark.parametrize(("ago_s", "answers"), [(200, [GONE]), (400, [])])
def test_stop_that_came_while_the_box_was_off_is_obeyed_first_and_answered_if_it_is_new(
    box: LiveBox, ago_s: float, answers: list[str]
) -> None:
    due = [box.insert(ANA, "One [BUBBLE] two"), box.insert(ANA, "Three")]
    later = box.insert(ANA, "Four", in_days(30), campaign_name="another")
    others = box.insert(BEN, "This one goes")
    box.modem.receive("STOP", ANA, ago_s=ago_s, notice="")
    box.modem.misbehave(BUSY_SIM)
    box.drain()
    box.drain()  # nothing comes of it later either
    assert [text for number, text in box.texts() if number == ANA] == answers
    assert [text for number, text in box.texts() if number == BEN] == ["This one goes"]
    assert [box.row(row) for row in (*due, later)] == [("cancelled", STOPPED)] * 3
    assert box.row(others) == ("sent", "")
    assert opted_out(box) == {ANA: "keyword"}
    assert box.modem.stored() == 0


def test_stop_that_comes_while_the_modem_is_unplugged_is_obeyed_before_the_next_text(
    box: LiveBox,
) -> None:
    daemon = box.start()
    box.await_idle()
    box.modem.unplug()
    box.modem.misbehave(BUSY_SIM)
    row = box.insert(ANA, "Not to be sent")
    box.modem.receive("please stop texting me", ANA, notice="")
    box.modem.replug()
    wait_until(box.texts)
    assert daemon.stop() == 0
    assert box.texts() == [(ANA, GONE)]
    assert box.row(row) == ("cancelled", STOPPED)
    assert opted_out(box) == {ANA: "words"}


# --- in whatever form the network gives the sender's number


def test_stop_from_each_form_of_a_number_is_its_person_s_through_the_modem(box: LiveBox) -> None:
    """One person a form; of each the neighbor's row goes, and two of one tail are both kept."""
    senders: dict[str, str] = {}
    for place, mark in enumerate(("+1", "", "1", "001", "0111")):
        senders[f"+1310234{1000 + place}"] = f"{mark}310234{1000 + place}"
    for place, mark in enumerate(("+44", "44", "0044", "01144", "0", "")):
        senders[f"+4477009{20000 + place}"] = f"{mark}77009{20000 + place}"
    strangers = {"+14155552671": "4155552671", "+36201234567": "06201234567"}
    twins = ["+447700930000", "+617700930000"]
    mine = [box.insert(number, "not to be sent", campaign_name=number) for number in senders]
    both = [box.insert(number, "not to be sent", campaign_name="twins") for number in twins]
    others = [box.insert(f"+1310234{2000 + place}", "Hi") for place in range(3)]
    for sender in (*senders.values(), *strangers.values(), "7700930000"):
        box.modem.receive("STOP", sender)
    box.drain()
    assert [box.row(row) for row in mine] == [("cancelled", STOPPED)] * len(mine)
    assert [box.row(row)[0] for row in both] == ["scheduled"] * 2
    assert [box.row(row)[0] for row in others] == ["sent"] * 3
    assert opted_out(box) == dict.fromkeys([*senders, *strangers.values()], "keyword")
    later = [box.insert(number, "not to be sent", campaign_name="late") for number in strangers]
    later += [box.insert(number, "not to be sent", campaign_name="late") for number in twins]
    box.drain()
    box.drain()
    assert [box.row(row)[0] for row in later] == ["cancelled"] * 2 + ["scheduled"] * 2
    assert Counter(box.texts()) == Counter(
        [(number, GONE) for number in senders]
        + [(f"+1310234{2000 + place}", "Hi") for place in range(3)]
    )


# --- amid a long text


def test_stop_amid_a_long_text_lets_it_end_whole_and_nothing_follows(box: LiveBox) -> None:
    box.modem.misbehave(Fault(TEXT, times=3, delay_s=0.3))  # the rest follows soon
    row = box.insert(ANA, f"{LONG}[BUBBLE]and more")
    later = box.insert(ANA, "Another day", in_days(2))
    daemon = box.start("--drain")
    wait_until(box.modem.accepted)
    box.modem.receive("Stop", ANA)
    assert daemon.wait() == 0
    assert box.texts() == [(ANA, LONG.strip()), (ANA, GONE)]  # no phone shows half a text
    assert len(box.modem.accepted()) == 4
    assert box.row(row)[0] == "cancelled"
    assert "1 of 2 bubbles were sent" in box.row(row)[1]
    assert box.bubbles(row) == ["sent", "cancelled"]
    assert box.row(later) == ("cancelled", STOPPED)
    assert confirmations(box) == ["sent"]


@pytest.mark.parametrize("way", ["kill", "refusal"])
def test_long_text_that_was_cut_off_is_not_taken_up_again_after_a_stop(
    box: LiveBox, way: str
) -> None:
    killed = way == "kill"
    box.modem.misbehave(
        Fault(TEXT, skip=1, obeys=False, says=b"" if killed else b"\r\n+CMS ERROR: 42\r\n")
    )
    row = box.insert(ANA, LONG)
    daemon = box.start()
    if killed:
        statuses = "SELECT status FROM segments ORDER BY sequence"
        wait_until(lambda: box.sql(statuses) == [("sent",), ("sending",)])
        wait_until(box.modem.met)  # else the next life's text would meet the fault
        daemon.kill()
    else:
        wait_until(lambda: "CMS 42" in box.row(row)[1])
    box.modem.receive("Stop", ANA)
    if killed:
        daemon = box.start()
    wait_until(lambda: confirmations(box) == ["sent"])
    for _ in range(2):  # by hand it is set back, and meets the opt-out again
        box.sql(
            "UPDATE scheduled_messages SET status = 'scheduled', scheduled_for = datetime('now')"
        )
        wait_until(lambda: box.row(row)[0] != "scheduled")
    assert daemon.stop() == 0
    heads = [(each.number, each.whole) for each in box.modem.texts()]
    assert heads == [(ANA, False), (ANA, True)]
    assert [text for _, text in box.texts()] == [GONE]
    assert box.row(row)[0] in ("cancelled", "failed")
    assert box.bubbles(row)[0] in ("cancelled", "unconfirmed")


# --- stop, then start


def test_start_opens_the_way_for_new_rows_and_revives_none(box: LiveBox) -> None:
    old = box.insert(ANA, "Old", in_days(1))
    daemon = box.start()
    box.modem.receive("STOP", ANA, ago_s=9)  # the same twice in one second is one text
    wait_until(lambda: confirmations(box) == ["sent"])
    box.modem.receive("stop!!", ANA)  # she is off already: nothing changes
    await_reply(box, "stop!!")
    box.modem.receive("START", ANA)
    wait_until(lambda: opted_out(box) == {})
    box.sql("UPDATE scheduled_messages SET scheduled_for = datetime('now') WHERE id = ?", old)
    new = box.insert(ANA, "New")
    wait_until(lambda: box.row(new)[0] == "sent")
    assert box.row(old) == ("cancelled", STOPPED)
    last = box.insert(ANA, "The last", in_days(1))
    box.modem.receive("STOP", ANA)
    wait_until(lambda: confirmations(box) == ["sent", "sent"])
    assert daemon.stop() == 0
    assert box.texts() == [(ANA, GONE), (ANA, "New"), (ANA, GONE)]
    assert box.row(last) == ("cancelled", STOPPED)
    assert opted_out(box) == {ANA: "keyword"}
    changes = box.sql("SELECT event FROM events WHERE detail LIKE ? ORDER BY id", f"{ANA}%")
    assert [each[0] for each in changes] == ["opted out", "opt-out removed", "opted out"]


# --- a storm

WORDS = {
    "stop": ["STOP", "Stop", "unsubscribe", "Take me off your list", "Stop texting me!!", "stop "],
    "nothing": ["Ok, see you at 5", "Thanks 👍", "Who is this for?", "Can't wait"],
    "help": ["HELP", "Help", "info"],
    "perhaps stop": ["I will report this", "is this spam?", "How did you get this number"],
}
CAMPAIGNS = 25  # so many that none of them has five who said stop, which would pause it


def lay_down_storm(box: LiveBox, kinds: dict[str, str], last_s: float) -> None:
    """Schedule a text to each number, spread over so many seconds."""
    begins = datetime.now(smsbox.UTC) + timedelta(seconds=2)
    rows = [
        [number, f"{begins + timedelta(seconds=last_s * place / len(kinds)):%Y-%m-%d %H:%M:%S}",
         f"street {place % CAMPAIGNS}"]
        for place, number in enumerate(kinds)
    ]  # fmt: skip
    box.sql(
        "INSERT INTO scheduled_messages (phone_number, customer_name, message_content,"
        " scheduled_for, campaign_name) SELECT value ->> 0, 'Somebody', 'Hello', value ->> 1,"
        " value ->> 2 FROM json_each(?)", json.dumps(rows),
    )  # fmt: skip


def let_them_write(box: LiveBox, said: dict[str, str], last_s: float) -> None:
    """A third comes in one burst, which the memory can't hold; of the rest some are not told."""
    begin = time.monotonic()
    burst = len(said) // 3
    for place, (number, words) in enumerate(said.items()):
        at = begin + last_s * (0.3 if place < burst else place / len(said))
        time.sleep(max(0.0, at - time.monotonic()))
        box.modem.receive(words, number, notice="" if place % 7 == 2 else "+CMTI")
        if place % 10 == 0:  # the service centre has missed that it was taken
            box.modem.store(box.modem.came()[-1].pdu)


def storm(box: LiveBox, replies_s: float, campaign_s: float) -> None:
    rng = random.Random(4)
    kinds = ["stop"] * 70 + ["nothing"] * 80 + ["help"] * 20 + ["perhaps stop"] * 30
    numbers = [f"+1310{2340000 + place}" for place in range(len(kinds))]
    rng.shuffle(kinds)
    kind_of = dict(zip(numbers, kinds, strict=True))
    said = {number: rng.choice(WORDS[kind]) for number, kind in kind_of.items()}
    said = dict(rng.sample(sorted(said.items()), len(said)))
    box.settle(pacing={"interval_minutes": [0.0002, 0.0004]})  # nearer than the rows
    lay_down_storm(box, kind_of, campaign_s)
    daemon = box.start()
    box.await_idle()
    let_them_write(box, said, replies_s)

    left = (
        "SELECT count(*) FROM scheduled_messages WHERE status = 'scheduled' AND phone_number NOT IN"
        " (SELECT sender FROM inbound WHERE request = 'perhaps stop')"
    )
    answers = "SELECT count(*) FROM messages WHERE kind IS NOT NULL AND status = 'queued'"
    wait_until(lambda: box.sql("SELECT count(*) FROM inbound") == [(200,)], 30)
    wait_until(lambda: box.sql(left) == [(0,)], 30)
    wait_until(lambda: box.sql(answers) == [(0,)], 30)
    assert daemon.stop() == 0

    assert sorted(box.sql("SELECT sender, body FROM inbound")) == sorted(said.items())
    assert box.modem.stored() == 0
    assert max_stored(box.modem) == 50  # the storm did fill it
    stops = {number for number, kind in kind_of.items() if kind == "stop"}
    assert set(opted_out(box)) == stops
    texts: dict[str, list[str]] = {number: [] for number in numbers}
    for number, text in box.texts():
        texts[number].append(text)
    rows = dict(box.sql("SELECT phone_number, status FROM scheduled_messages"))
    for number, kind in kind_of.items():
        if kind == "stop":
            assert texts[number] in ([], [GONE], ["Hello"], ["Hello", GONE])
            assert rows[number] == ("sent" if "Hello" in texts[number] else "cancelled")
        elif kind == "perhaps stop":
            assert (texts[number], rows[number]) in (([], "scheduled"), (["Hello"], "sent"))
        else:
            assert rows[number] == "sent"
            assert texts[number].count("Hello") == 1
            assert set(texts[number]) <= ({"Hello", HELP} if kind == "help" else {"Hello"})
            assert len(texts[number]) <= 2
    # Thirty answers a day are the most, whoever asks.
    assert sum(text != "Hello" for each in texts.values() for text in each) == 30
    assert_nobody_is_written_to_after_a_stop(box.modem, stops)
    began = {number for number in stops if "Hello" in texts[number]}
    assert 0 < len(began) < len(stops)  # some had their text before they wrote


def max_stored(modem: PtyModem) -> int:
    """Give the most TPDUs that lay in the memory at a time."""
    came = [(each.at, 1) for each in modem.came()]
    went = [(each.at, -1) for each in modem.heard() if each.line.startswith("AT+CMGD=")]
    count = highest = 0
    for _, change in sorted(came + went):
        count += change
        highest = max(highest, count)
    return highest


def assert_nobody_is_written_to_after_a_stop(modem: PtyModem, stops: set[str]) -> None:
    """From the first listing that holds it on; and a listing comes before the next text but one."""
    listings = [each.at for each in modem.heard() if each.line == "AT+CMGL=4"]
    taken = [(each.at, smsbox.decode_tpdu(each.pdu, "out")) for each in modem.accepted()]
    taken_at = [at for at, _ in taken]
    read_at: dict[str, float] = {}
    for came_at, pdu, notice in modem.came():
        listed_at = listings[bisect(listings, came_at)]
        read_at.setdefault(smsbox.decode_tpdu(pdu, "in").number, listed_at)
        if notice:
            assert bisect(taken_at, listed_at) - bisect(taken_at, came_at) <= 1
    for at, tpdu in taken:
        assert tpdu.number not in stops or at < read_at[tpdu.number] or tpdu.text == GONE


def test_storm_of_replies_amid_a_campaign_loses_none_and_every_stop_is_obeyed(box: LiveBox) -> None:
    storm(box, 4, 6)


@pytest.mark.long
def test_storm_of_200_replies_in_a_minute_amid_a_campaign_of_a_minute(box: LiveBox) -> None:
    storm(box, 60, 75)


# --- machines


AUTOREPLIES = {  # what a machine says to each text, one after the other, and what it gets in all
    "nobody reads this": (["This is an automated message, reply HELP for help"], []),
    "out of office": (["Thank you for your message. We are out of the office."], []),
    "unsubscribed": (["You have been unsubscribed"], []),
    "way out": (["STOP to opt out, HELP for help"], []),
    "way back": (
        ["You have been unsubscribed and get no more messages. Reply START to resubscribe."],
        [GONE],
    ),
    "another box, stopped": ([GONE], []),
    "another box, asked for help": ([HELP], []),
    "help": (["HELP"], [HELP]),
    "help, then stop": (["HELP", "STOP"], [HELP, GONE]),
    "all in turn": (["HELP", "STOP", "START", "HELP", "STOP"], [HELP, GONE]),
}


def test_machines_that_answer_each_of_our_texts_soon_get_no_more(box: LiveBox) -> None:
    box.settle(pacing={"bubble_gap_seconds": [0, 0]})
    machines = {f"+1310234{place:04}": name for place, name in enumerate(AUTOREPLIES)}
    for number, name in machines.items():
        box.insert(number, "Hello", campaign_name=name)
    daemon = box.start()
    wait_until(box.texts)
    turns: Counter[str] = Counter()
    answered, quiet_since = 0, time.monotonic()
    while time.monotonic() < quiet_since + 1.5:
        fresh = box.texts()[answered:]
        for number, _ in fresh:
            words, _ = AUTOREPLIES[machines[number]]
            said = words[turns[number] % len(words)]
            turns[number] += 1  # another second each: the same twice in one would be one text
            box.modem.receive(said, number, ago_s=100 - turns[number])
        answered += len(fresh)
        assert answered < 60, "they go on and on"
        quiet_since = time.monotonic() if fresh else quiet_since
        time.sleep(0.02)
    assert daemon.stop() == 0
    got: dict[str, list[str]] = {name: [] for name in AUTOREPLIES}
    for number, text in box.texts():
        got[machines[number]].append(text)
    assert got == {name: ["Hello", *answers] for name, (_, answers) in AUTOREPLIES.items()}


# --- what the network says became of it


def lay_down_report(number: str, reference: int, status: int) -> str:
    return report(number, reference, status, datetime.now(smsbox.UTC))


def tell(box: LiveBox, way: str, pdu: str) -> None:
    """Let a status report come: into the memory with its notice, or by itself."""
    if way == "+CDSI":
        box.modem.store(pdu, way)
    else:
        box.modem.say(f"\r\n+CDS: {len(pdu) // 2 - 1}\r\n{pdu}\r\n".encode())


def count_reports(box: LiveBox) -> int:
    return int(box.sql("SELECT count(*) FROM reports")[0][0])


def delivered(box: LiveBox, row: int) -> list[Any]:
    """Give of each segment whether it is delivered, and of each bubble."""
    segments = box.sql(
        "SELECT g.delivered_at IS NOT NULL FROM segments g JOIN messages m ON m.id = g.message_id"
        " WHERE m.scheduled_message_id = ? ORDER BY m.bubble, g.sequence", row,
    )  # fmt: skip
    bubbles = box.sql(
        "SELECT delivered_at IS NOT NULL FROM messages WHERE scheduled_message_id = ?"
        " ORDER BY bubble", row,
    )  # fmt: skip
    return [[each[0] for each in segments], [each[0] for each in bubbles]]


def outcome(box: LiveBox, row: int) -> str | None:
    found = box.sql("SELECT delivery FROM scheduled_messages WHERE id = ?", row)
    return None if found[0][0] is None else str(found[0][0])


@pytest.mark.parametrize("way", ["+CDSI", "+CDS"])
def test_reports_tell_of_each_segment_and_message_what_became_of_it(box: LiveBox, way: str) -> None:
    if way == "+CDS":  # a modem that stores none
        refusal = b"\r\n+CMS ERROR: 303\r\n"
        box.modem.misbehave(Fault(r"AT\+CNMI=[12],1,0,2,0", times=0, obeys=False, says=refusal))
    ana = box.insert(ANA, f"{LONG}[BUBBLE]See you")
    ben, chloe, dan = (box.insert(number, "Hello") for number in (BEN, CHLOE, DAN))
    daemon = box.start()
    wait_until(lambda: box.row(dan)[0] == "sent")
    pdus = [each.pdu for each in box.modem.accepted()]
    assert all(int(pdu[2 + 2 * int(pdu[:2], 16) :][:2], 16) & 0x20 for pdu in pdus)  # TP-SRR
    assert [smsbox.decode_tpdu(pdu, "out").number for pdu in pdus] == [ANA] * 4 + [BEN, CHLOE, DAN]

    lost = lay_down_report(BEN, 5, UNKNOWN_THERE)
    reports = [
        lay_down_report(ANA, 4, DELIVERED), lay_down_report(ANA, 2, DELIVERED),
        lay_down_report(ANA, 1, DELIVERED), lost, lay_down_report(CHLOE, 6, TOO_OLD),
        lay_down_report(DAN, 200, DELIVERED), lay_down_report("+12135552397", 7, DELIVERED),
    ]  # fmt: skip
    for pdu in [*reports, lost]:
        tell(box, way, pdu)
    wait_until(lambda: count_reports(box) == len(reports))
    wait_until(lambda: outcome(box, chloe) == "expired")
    assert delivered(box, ana) == [[1, 1, 0, 1], [0, 1]]
    assert [outcome(box, row) for row in (ana, ben, dan)] == [None, "failed", None]
    tell(box, way, lay_down_report(ANA, 3, DELIVERED))
    wait_until(lambda: outcome(box, ana) == "delivered")
    assert delivered(box, ana) == [[1, 1, 1, 1], [1, 1]]
    box.await_idle()
    assert_commands_tell_delivery(box, ana, ben)
    assert daemon.stop() == 0

    assert box.modem.stored() == 0
    assert count_reports(box) == len(reports) + 1  # the repeated one is one
    acknowledged = [each for each in box.modem.heard() if each.line == "AT+CNMA"]
    assert len(acknowledged) == (0 if way == "+CDSI" else len(reports) + 2)
    words = "bubble 1, segment 1: not delivered: the service centre does not know it (49)"
    assert [box.row(row) for row in (ana, ben, dan)] == [
        ("sent", ""),
        ("sent", words),
        ("sent", ""),
    ]
    assert box.row(chloe)[0] == "sent"
    assert "validity" in box.row(chloe)[1]
    events = box.sql("SELECT scheduled_message_id FROM events WHERE event = 'not delivered'")
    assert sorted(events) == [(ben,), (chloe,)]


def assert_commands_tell_delivery(box: LiveBox, ana: int, ben: int) -> None:
    told = [each["delivery"] for each in json.loads(box.call("list", "--json").stdout)]
    assert told == ["delivered", "failed", "expired", ""]
    lines = box.call("list").stdout.splitlines()
    shown = [re.search(r"M ([a-z]+) +by hand$", line) for line in lines]
    found = [each[1] for each in shown if each]
    assert found == ["delivered", "undelivered", "expired", "sent"]
    assert "1 of the sent are delivered, 2 will never be" in box.call("status").stdout
    assert "not delivered: the service centre does not know it" in box.call("show", BEN).stdout
    value = json.loads(box.call("show", str(ana), "--json").stdout)
    assert [
        [(each["message_reference"], each["delivery"]) for each in bubble["segments"]]
        for bubble in value["bubbles"]
    ] == [[(place, "delivered") for place in (1, 2, 3)], [(4, "delivered")]]
    assert "not delivered: the service centre" in box.call("show", str(ben)).stdout


def test_reports_that_come_while_the_box_is_off_and_after_it_complete_a_message(
    box: LiveBox,
) -> None:
    row = box.insert(ANA, LONG)
    box.drain()
    box.modem.store(lay_down_report(ANA, 3, DELIVERED), "")
    daemon = box.start()
    wait_until(lambda: delivered(box, row) == [[0, 0, 1], [0]])
    tell(box, "+CDS", lay_down_report(ANA, 1, DELIVERED))
    wait_until(lambda: delivered(box, row) == [[1, 0, 1], [0]])
    daemon.kill()
    box.modem.store(lay_down_report(ANA, 2, DELIVERED))
    box.drain()
    assert delivered(box, row) == [[1, 1, 1], [1]]
    assert outcome(box, row) == "delivered"
    assert box.modem.stored() == 0


def test_report_that_overtakes_the_modem_s_answer_to_its_own_segment_counts(box: LiveBox) -> None:
    box.modem.misbehave(Fault(TEXT, delay_s=0.5))
    row = box.insert(ANA, "Hello")
    box.start()
    wait_until(box.modem.accepted)
    assert box.row(row)[0] == "scheduled"
    tell(box, "+CDS", lay_down_report(ANA, 1, DELIVERED))
    wait_until(lambda: outcome(box, row) == "delivered")
    assert delivered(box, row) == [[1], [1]]
