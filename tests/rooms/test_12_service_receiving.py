"""Receiving: what comes in is safe before it is deleted, and read before anything is sent."""

from __future__ import annotations

import json
import logging
import random
import sqlite3
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smsbox
from rig.people import ANA, BEN
from rig.played import PlayedBox, close
from rig.tpdus import deliver, report

NOON = datetime(2025, 11, 9, 17, 59, tzinfo=timezone.utc)
NAME = "name:0DD0F334FC1CA69701"  # sipgate
REFUSED = b"\r\n+CMS ERROR: 314\r\n"


def arrive(box: PlayedBox, pdu: str) -> None:
    """Let a text come in with its notice."""
    box.far.said += box.far.modem.receive(pdu)


def bodies(box: PlayedBox) -> list[Any]:
    return [each[0] for each in box.sql("SELECT body FROM inbound ORDER BY id")]


def cli(box: PlayedBox, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, smsbox.__file__, "--database", box.path, *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


# --- before anything is sent


def test_stop_that_came_while_the_box_was_off_is_read_before_the_first_send(box: PlayedBox) -> None:
    row = box.insert(ANA, "Hi")
    box.far.modem.stored[0] = deliver("Stop", ANA, NOON)
    box.serve()
    assert "Hi" not in box.texts()
    assert box.row(row) == ("cancelled", "the recipient said stop")


def test_stop_without_a_notice_is_read_before_the_first_send_after_a_restart_of_the_modem(
    box: PlayedBox,
) -> None:
    def restart() -> None:
        box.far.modem.stored[7] = deliver("Stop", ANA, NOON)
        box.far.said += b"\r\nRDY\r\n"

    row = box.insert(ANA, "Hi", in_s=31)
    box.after(30.5, restart)
    box.serve()
    assert "Hi" not in box.texts()
    assert box.row(row)[0] == "cancelled"


def test_nothing_is_sent_until_the_storage_was_read_once(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    box.insert(ANA, "Hi")
    box.far.answers[b"AT+CMGL=4\r"] = REFUSED
    box.after(60, box.far.answers.clear)
    box.serve(59)
    assert box.texts() == []
    assert "does not list what came in" in str(box.published[-1]["warnings"])
    assert len([each for each in caplog.messages if "does not list" in each]) == 1
    box.serve(30)
    assert box.texts() == ["Hi"]
    assert box.published[-1]["warnings"] == []


def test_every_memory_that_the_modem_has_is_read(box: PlayedBox) -> None:
    memories = {"SM": {0: deliver("one", ANA, NOON)}, "ME": {0: deliver("two", BEN, NOON)}}
    chosen = ["SM"]

    def choose(name: str) -> bytes:
        chosen[0] = name
        box.far.modem.stored = memories[name]
        return b"\r\n+CPMS: 1,50,1,50,1,50\r\n\r\nOK\r\n"

    box.far.answers[b"AT+CPMS=?\r"] = b'\r\n+CPMS: ("SM","ME","MT"),("SM"),("SM")\r\n\r\nOK\r\n'
    box.far.tellers[b'AT+CPMS="SM"\r'] = lambda: choose("SM")
    box.far.tellers[b'AT+CPMS="ME"\r'] = lambda: choose("ME")
    box.serve(10)
    assert bodies(box) == ["one", "two"]
    assert memories == {"SM": {}, "ME": {}}


def test_full_storage_is_emptied_within_a_minute_of_being_noticed(box: PlayedBox) -> None:
    def fill() -> None:
        box.far.modem.stored = {n: deliver(f"text {n}", ANA, NOON) for n in range(50)}
        box.far.answers[b"AT+CPMS?\r"] = b'\r\n+CPMS: "ME",0,50,"ME",0,50,"SM",50,50\r\n\r\nOK\r\n'

    box.insert(BEN, "later", in_s=3000)  # watched closely
    box.after(20, fill)
    box.serve(100)
    assert len(bodies(box)) == 50
    assert box.far.modem.stored == {}


# --- kept before it is deleted, once


def test_text_is_in_the_database_before_it_is_deleted(box: PlayedBox) -> None:
    seen: list[int] = []

    def delete() -> bytes:
        seen.append(len(bodies(box)))
        box.far.modem.stored.clear()
        return b"\r\nOK\r\n"

    box.far.tellers[b"AT+CMGD=0\r"] = delete
    box.far.modem.stored[0] = deliver("Hello", ANA, NOON)
    box.serve(10)
    assert seen == [1]


def test_text_that_the_sim_will_not_delete_is_taken_in_once(box: PlayedBox) -> None:
    box.far.answers[b"AT+CMGD=0\r"] = b"\r\nERROR\r\n"
    box.far.modem.stored[0] = deliver("Hello", ANA, NOON)
    box.serve(1000)
    box.serve(10)
    assert bodies(box) == ["Hello"]


def test_same_sender_time_and_text_by_another_service_centre_is_one(box: PlayedBox) -> None:
    box.far.modem.stored = {
        0: deliver("Hello", ANA, NOON),
        1: deliver("Hello", ANA, NOON, smsc="07912160130300F4"),
        2: deliver("Hello", ANA, NOON + timedelta(seconds=1)),
        3: deliver("Hello", BEN, NOON),
    }
    box.serve(10)
    assert bodies(box) == ["Hello"] * 3


def test_flash_text_that_comes_by_itself_is_stored_then_acknowledged(box: PlayedBox) -> None:
    stored_at_acknowledgement: list[int] = []

    def hear() -> bytes:
        stored_at_acknowledgement.append(len(bodies(box)))
        return b"\r\nOK\r\n"

    pdu = deliver("Stop", ANA, NOON, coding="18")
    box.far.tellers[b"AT+CNMA\r"] = hear
    row = box.insert(ANA, "Hi", in_s=60)
    heading = f"\r\n+CMT: ,{len(pdu) // 2 - 1}\r\n"
    box.after(20, lambda: setattr(box.far, "said", f"{heading}{pdu}\r\n".encode()))
    box.serve()
    assert (bodies(box), stored_at_acknowledgement) == (["Stop"], [1])
    assert box.row(row)[0] == "cancelled"


def test_text_that_comes_by_itself_amid_a_listing_is_no_part_of_it(box: PlayedBox) -> None:
    own, listed = deliver("by itself", ANA, NOON), deliver("listed", BEN, NOON)
    says = f"\r\n+CMGL: 3,0,,9\r\n+CMT: ,{len(own) // 2 - 1}\r\n{own}\r\n{listed}\r\n\r\nOK\r\n"
    box.far.tellers[b"AT+CMGL=4\r"] = lambda: box.far.tellers.clear() or says.encode()  # type: ignore[func-returns-value]
    box.serve(30)
    assert sorted(bodies(box)) == ["by itself", "listed"]


def test_text_that_can_not_be_read_is_kept_as_hex_and_told_once(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    box.far.answers[b"AT+CMGD=0\r"] = b"\r\nERROR\r\n"
    box.far.modem.stored[0] = "00FFFF"
    box.serve(1000)
    assert box.sql("SELECT sender, body, tpdu FROM inbound") == [("unknown", None, "00FFFF")]
    warned = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len([each for each in warned if "can't be read" in each.getMessage()]) == 1
    assert "1 unread" in cli(box, "status").stdout  # it may be anybody's stop
    assert "(not readable) 00FFFF" in cli(box, "inbox").stdout
    assert "unread" not in cli(box, "status").stdout


# --- long texts

LONG = ["Please, I said it before \ud83d", "\ude4f and I say it again: ", "do not write to me."]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_long_text_is_read_as_one_whatever_the_order_and_over_a_restart(
    box: PlayedBox, order: tuple[int, int, int]
) -> None:
    row = box.insert(ANA, "Hi", in_s=3600)
    for place in order[:2]:
        arrive(box, deliver(LONG[place - 1], ANA, NOON, (9, 3, place)))
    box.serve(30)
    assert (bodies(box), box.far.modem.stored, box.row(row)[0]) == ([], {}, "scheduled")
    last = deliver(LONG[order[2] - 1], ANA, NOON, (9, 3, order[2]))
    box.far.modem.stored = {0: last, 1: last}
    box.serve(30)
    box.far.modem.stored = {0: last}
    box.serve(30)
    whole = "Please, I said it before \U0001f64f and I say it again: do not write to me."
    assert bodies(box) == [whole]
    assert box.row(row)[0] == "cancelled"


def test_two_long_texts_of_two_senders_with_one_reference_are_two(box: PlayedBox) -> None:
    for place, words in ((1, "one "), (2, "two")):
        for sender in (ANA, BEN):
            arrive(box, deliver(f"{sender[-1]} {words}", sender, NOON, (9, 2, place)))
    box.serve(30)
    assert sorted(bodies(box)) == ["3 one 3 two", "4 one 4 two"]


def test_long_text_that_stays_cut_is_shown_after_a_day_as_far_as_it_came(box: PlayedBox) -> None:
    box.tables = {"service": {"poll_seconds": 60}}
    box.far.modem.stored = {0: deliver("It begins ", ANA, NOON, (9, 4, 1)),
                            1: deliver(" and ends", ANA, NOON, (9, 4, 4))}  # fmt: skip
    box.serve(86_000)
    assert bodies(box) == []
    box.serve(1000)
    assert bodies(box) == ["It begins […] and ends"]
    box.serve(90_000)
    assert len(bodies(box)) == 1


def test_long_text_that_lost_its_end_is_not_lost_to_the_next_one_of_its_reference(
    box: PlayedBox,
) -> None:
    box.tables = {"service": {"poll_seconds": 60}}
    elsewhere = "0791447779078404"  # the same part by another service centre
    parts = ("A lost end: ", 1, "00"), ("Next ", 1, "00"), ("Next ", 1, elsewhere), ("end", 2, "00")
    for words, place, centre in parts:
        sent_at = NOON + timedelta(minutes=len(words))
        arrive(box, deliver(words, ANA, sent_at, (9, 2, place), smsc=centre))
    box.serve(600)
    assert bodies(box) == ["Next end"]
    box.serve(90_000)
    assert bodies(box) == ["Next end", "A lost end: […]"]


@pytest.mark.parametrize(("words", "status"), [("STOP", "cancelled"), ("stop by", "scheduled")])
def test_part_that_is_a_stop_by_itself_acts_before_the_rest_comes(
    box: PlayedBox, words: str, status: str
) -> None:
    row = box.insert(ANA, "Hi", in_s=3600)
    arrive(box, deliver(words, ANA, NOON, (9, 2, 1)))
    box.serve(30)
    assert box.row(row)[0] == status


WEEKEND = "Thanks so much, it was lovely, and I will come again with my sister on the week", "end"


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize("later_s", [0, 50])
def test_part_of_a_harmless_text_that_is_a_stop_word_by_chance_stops_nobody(
    box: PlayedBox, order: tuple[int, int], later_s: int
) -> None:
    row = box.insert(ANA, "Hi", in_s=3600)
    for place in order:
        sent_at = NOON + timedelta(seconds=later_s * place)
        arrive(box, deliver(WEEKEND[place - 1], ANA, sent_at, (9, 2, place)))
        box.serve(600)
    box.serve(7200)
    assert bodies(box) == ["".join(WEEKEND)]
    assert box.row(row)[0] == "sent"


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_text_that_begins_with_a_part_that_is_a_stop_word_is_read_as_a_whole_where_it_is_here(
    box: PlayedBox, order: tuple[int, int]
) -> None:
    row = box.insert(ANA, "Hi", in_s=3600)
    for place in order:
        words = ("Stop", " by my house, I have made a cake")[place - 1]
        arrive(box, deliver(words, ANA, NOON, (9, 2, place)))
    box.serve(7200)
    assert box.row(row)[0] == ("cancelled" if order == (1, 2) else "sent")


def test_first_part_that_is_a_stop_waits_for_no_rest_of_an_older_text(box: PlayedBox) -> None:
    row = box.insert(ANA, "Hi", in_s=3600)
    arrive(box, deliver(" by my house, I have made a cake", ANA, NOON, (9, 2, 2)))
    box.serve(600)
    arrive(box, deliver("Stop", ANA, NOON + timedelta(minutes=9), (9, 2, 1)))
    box.serve(20)
    assert box.row(row)[0] == "cancelled"


def test_last_part_that_is_a_stop_shuts_the_gate_and_counts_when_the_rest_never_comes(
    box: PlayedBox,
) -> None:
    row = box.insert(ANA, "Hi", in_s=3600)
    arrive(box, deliver("STOP", ANA, NOON, (9, 2, 2)))
    box.serve(80_000)
    assert box.row(row)[0] == "scheduled"
    box.serve(10_000)
    assert box.row(row)[0] == "cancelled"


# --- the inbox


def test_texts_of_names_and_short_codes_are_notices_and_shown_apart(box: PlayedBox) -> None:
    box.far.modem.stored = {
        0: deliver("Your bill is ready", NAME, NOON), 1: deliver("Grüße 🎉", ANA, NOON),
        2: deliver("Data used up", "12345", NOON),
    }  # fmt: skip
    box.serve(10)
    assert json.loads(cli(box, "status", "--json").stdout)["counts"]["unread"] == 3
    out = cli(box, "inbox").stdout.splitlines()
    assert [line.split("  ")[1] for line in out if "  " in line] == [
        f"{ANA}: Grüße 🎉", "sipgate: Your bill is ready", "12345: Data used up",
    ]  # fmt: skip
    assert out[1].startswith("Notices")
    assert json.loads(cli(box, "inbox", "--unread", "--json").stdout) == []
    told = json.loads(cli(box, "inbox", "--json").stdout)
    assert [each["notice"] for each in told] == [True, False, True]
    assert box.sql("SELECT phone_number FROM opt_outs") == []


# --- whatever the modem hands over

WHOLE = st.sampled_from([
    deliver("Hello", ANA, NOON), deliver("Stop", NAME, NOON), deliver("one", BEN, NOON, (7, 2, 1)),
    deliver("two", BEN, NOON, (7, 2, 2)), report(ANA, 4, 0, NOON), report(BEN, 4, 0x46, NOON),
    "07911326040000F0040B911346610089F60000208062917314480CC8F71D14969741F977FD07",
    "07912143658709F1040B918100551512F20004111010214365000AE8329BFD4697D9EC37DE",
])  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A TPDU with octets changed, then cut or lengthened."""
    octets = bytearray(bytes.fromhex(draw(WHOLE)))
    for _ in range(draw(st.integers(0, 4))):
        octets[draw(st.integers(0, len(octets) - 1))] = draw(st.integers(0, 255))
    octets = octets[: draw(st.integers(1, len(octets)))] if draw(st.booleans()) else octets
    return (bytes(octets) + draw(st.binary(max_size=12))).hex().upper()


@settings(max_examples=60, deadline=None)
@given(pdus=st.lists(damaged(), min_size=1, max_size=12, unique=True), seed=st.integers(0, 9))
def test_no_damaged_tpdu_ends_the_daemon_or_is_lost(pdus: list[str], seed: int) -> None:
    random.Random(seed).shuffle(pdus)
    with tempfile.TemporaryDirectory() as folder:
        box = PlayedBox(Path(folder), datetime(2025, 11, 9, 18, tzinfo=timezone.utc))
        try:
            box.far.modem.stored = dict(enumerate(pdus))
            row = box.insert("+13105550199", "Hi")
            box.serve(20)
            assert box.far.modem.stored == {}
            assert box.row(row)[0] == "sent"
            assert [pdu for pdu in pdus if not is_kept(box.hand, pdu)] == []
        finally:
            close(box)


def is_kept(hand: sqlite3.Connection, pdu: str) -> bool:
    """As it is, or as an equal text: same sender, time and words."""
    tables = ("inbound", "inbound_parts", "reports")
    found = " UNION ALL ".join(f"SELECT tpdu FROM {table}" for table in tables)
    kept = [line for (tpdu,) in hand.execute(found) for line in tpdu.split("\n")]
    if pdu in kept:
        return True
    lost = smsbox.decode_tpdu(pdu, "in")
    same = (lost.kind, lost.number, lost.sent_at, lost.text)
    for each in kept:
        try:
            told = smsbox.decode_tpdu(each, "in")
        except ValueError:
            continue
        if (told.kind, told.number, told.sent_at, told.text) == same:
            return True
    return False


# --- nothing that comes in stops the box

ANGRY = "STOP" + "\U0001f621" * 40  # a phone cuts it after 67 units, in the middle of a face


def cut(text: str, sender: str, reference: int = 7) -> list[str]:
    """The parts as a phone cuts them: 67 units each, through a surrogate pair where it falls so."""
    octets = text.encode("utf-16-be", "surrogatepass")
    halves = [octets[at : at + 134] for at in range(0, len(octets), 134)]
    texts = [each.decode("utf-16-be", "surrogatepass") for each in halves]
    return [
        deliver(each, sender, NOON, (reference, len(texts), place))
        for place, each in enumerate(texts, 1)
    ]


def test_stop_cut_in_half_a_character_is_obeyed_confirmed_and_stops_nobody_else(
    box: PlayedBox,
) -> None:
    first, second = cut(ANGRY, ANA)
    row, other = box.insert(ANA, "Hi Ana", in_s=60), box.insert(BEN, "Hi Ben", in_s=400)
    box.play.start = NOON
    box.after(10, lambda: arrive(box, first))
    box.after(20, lambda: arrive(box, second))
    box.serve(drain=True)
    assert box.row(row) == ("cancelled", "the recipient said stop")
    assert box.row(other)[0] == "sent"
    assert box.sql("SELECT tier FROM opt_outs") == [("keyword",)]
    assert bodies(box) == [ANGRY]
    confirmations = [number for _, number, _ in box.far.arrived if number == ANA]
    assert len(confirmations) == 1


def test_first_half_of_a_stop_is_enough(box: PlayedBox) -> None:
    row = box.insert(ANA, "Hi", in_s=60)
    box.play.start = NOON
    box.after(10, lambda: arrive(box, cut(ANGRY, ANA)[0]))
    box.serve(300)
    assert box.row(row)[0] == "cancelled"
    assert "�" in box.sql("SELECT words FROM opt_outs")[0][0]


def test_start_lifts_a_stop_that_was_cut_in_half(box: PlayedBox) -> None:
    box.far.modem.stored = dict(enumerate([*cut(ANGRY, ANA), deliver("START", ANA, NOON)]))
    box.serve()
    assert box.sql("SELECT * FROM opt_outs") == []


@pytest.mark.parametrize(
    "broken", ["read_reply", "Inbox.find_long_texts", "Inbox.add", "OptOuts.add"]
)
def test_error_of_our_own_while_reading_a_text_is_kept_said_once_and_gone_past(
    box: PlayedBox, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poison = deliver("Stop, poison", ANA, NOON)
    parts = cut("poison " * 20, ANA)
    *part, name = broken.split(".")
    owner = getattr(smsbox, part[0]) if part else smsbox
    real = getattr(owner, name)

    def fail(*given: Any, **named: Any) -> Any:
        if "poison" in str(given) or (name == "find_long_texts" and not box.sql(
            "SELECT 1 FROM inbound WHERE sender = ?", ANA
        )):  # fmt: skip
            raise RuntimeError("a bug")
        return real(*given, **named)

    monkeypatch.setattr(owner, name, fail)
    pdus = parts if name == "find_long_texts" else [poison]
    box.far.modem.stored = dict(enumerate([*pdus, deliver("Stop", BEN, NOON)]))
    mine, ben, chloe = (
        box.insert(each, "Hi", in_s=60 + 300 * place)
        for place, each in enumerate((ANA, BEN, "+12135552315"))
    )
    box.serve(3000)
    assert box.row(ben)[0] == "cancelled"
    assert box.row(chloe)[0] == "sent"
    assert box.row(mine, "status, held_because") == ("scheduled", None)
    assert box.database.queue.rows(smsbox.RowFilter(ids=(mine,)))[0].doubtful_at
    assert box.far.modem.stored == {}
    kept = box.sql("SELECT sender, body FROM inbound WHERE body IS NULL")
    assert (ANA, None) in kept
    errors = [each for each in caplog.records if "error of smsbox itself" in each.getMessage()]
    assert len([each for each in errors if each.exc_info]) == 1


def test_text_that_the_database_refuses_in_every_form_stays_with_the_modem(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    box.sql(
        "CREATE TRIGGER never BEFORE INSERT ON inbound WHEN NEW.tpdu LIKE '%0050006F%'"
        " BEGIN SELECT raise(ABORT, 'no'); END"
    )
    poison = deliver("Poison", ANA, NOON)
    box.far.modem.stored = {0: poison, 1: deliver("Stop", BEN, NOON)}
    ben, chloe = box.insert(BEN, "Hi", in_s=60), box.insert("+12135552315", "Hi", in_s=400)
    box.serve(3000)
    assert (box.row(ben)[0], box.row(chloe)[0]) == ("cancelled", "sent")
    assert box.far.modem.stored == {0: poison}
    assert len([each for each in caplog.messages if "stays where the modem has it" in each]) == 1


def test_error_that_repeats_is_a_fault_of_lamp_status_and_alert(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    box.tables["alerts"] = {"operator": "+12135550100"}
    box.after(30, lambda: monkeypatch.setattr(smsbox.Intake, "take_in", fail))
    box.serve(600)
    assert box.wall.shown[-1] == smsbox.LampState(smsbox.Ready.RESTING, smsbox.Fault.PROGRAM)
    told = box.published[-1]
    assert told["fault"] == "an error of smsbox itself"
    assert "RuntimeError: a bug" in smsbox.explain_fault(told)
    assert box.texts() == ["smsbox: an error of smsbox itself stops the sending. See smsbox status"]
    assert len([each for each in caplog.records if each.exc_info]) == 1
    monkeypatch.undo()
    box.serve(60)
    assert box.wall.shown[-1].fault is smsbox.Fault.NONE
    assert smsbox.explain_fault(box.published[-1]) == ""


def mutate(pdu: str, rng: random.Random) -> str:
    """A TPDU with a few octets changed, taken out, doubled, or cut off."""
    octets = bytearray.fromhex(pdu)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(octets)) if octets else 0
        match rng.randrange(5):
            case 0 if octets:
                octets[at] ^= 1 << rng.randrange(8)
            case 1 if octets:
                octets[at] = rng.randrange(256)
            case 2:
                del octets[at : at + rng.randint(1, 3)]
            case 3:
                octets[at:at] = rng.randbytes(rng.randint(1, 3))
            case _:
                del octets[at:]
    return octets.hex().upper()


FACES = "STOP \U0001f621\U0001f468\u200d\U0001f469 \ud83d\udd95 no más ﷽ ÄÖ\x00\x1b[2J{}€"


@pytest.mark.parametrize("texts", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_thousands_of_mutated_and_split_texts_go_through_the_intake(
    box: PlayedBox, caplog: pytest.LogCaptureFixture, texts: int
) -> None:
    """No TPDU jams the way in: each is stored or known, and no error of our own is logged."""
    caplog.set_level(logging.ERROR)
    rng = random.Random(12)
    config = smsbox.parse_config({})
    around = smsbox.Surroundings(
        box.play, box.far.open, box.manager, None, box.published.append, lambda: "test"
    )  # fmt: skip
    link = smsbox.Link(config.modem, around, box.database)
    intake = smsbox.Intake(config, box.database, box.play, link)
    box.database.change("PRAGMA synchronous = OFF")  # of thousands of commits
    whole = [deliver(FACES, ANA, NOON), report(ANA, 9, 0x46, NOON), "07911326040000F0" + deliver(
        "Stop", NAME, NOON, coding="00")[2:]]  # fmt: skip
    fed = 0
    while fed < texts:
        text = "".join(rng.choices(FACES, k=rng.randint(1, 150)))
        pdus = [*whole, *cut(text, f"+1213555{rng.randint(2000, 2009)}", rng.randrange(256))]
        pdus += [mutate(rng.choice(pdus), rng) for _ in range(60)]
        for pdu in pdus:
            assert intake._take_in_tpdu(pdu), pdu
        fed += len(pdus)
        # Parts whose rest never comes are given up after a day.
        box.database.change("UPDATE inbound_parts SET joined = 1")
    intake._read_long_texts(box.play.now() + timedelta(days=3))
    assert [each.getMessage() for each in caplog.records] == []


# --- a modem that does not hand over what it has


def say(words: str) -> bytes:
    return f"\r\n{words}\r\n\r\nOK\r\n".encode()


def counts(box: PlayedBox) -> list[str]:
    """Why texts wait, as told at the end; and the gate's words are a warning as well."""
    told = box.published[-1]
    assert not told["incoming"] or str(told["incoming"]) in str(told["warnings"])
    return [str(told["incoming"]), *map(str, told["warnings"])]  # type: ignore[call-overload]


class Withholding:
    """Holds back, in one way or several, what lies in the box's modem."""

    def __init__(self, box: PlayedBox, *ways: str) -> None:
        self._box, self.ways = box, set(ways)
        self._far = box.far
        for place in range(52):
            command = f"AT+CMGR={place}\r".encode()
            self._far.tellers[command] = lambda place=place: self._read(place)  # type: ignore[misc]
        self._far.tellers[b"AT+CMGL=4\r"] = self._list
        self._far.tellers[b"AT+CPMS?\r"] = lambda: say(f"+CPMS: {','.join([self._count()] * 3)}")
        self._far.tellers[b'AT+CPMS="SM"\r'] = lambda: say(f"+CPMS: {self._count()[5:]},0,9")

    def _count(self) -> str:
        more = 1 if "phantom" in self.ways else 0
        return f'"SM",{len(self._far.modem.stored) + more},50'

    def _list(self) -> bytes:
        if "list: busy" in self.ways:
            return REFUSED
        listed = self._far.modem.feed(b"AT+CMGL=4\r")
        lines = [line for line in listed.decode("latin-1").split("\r\n") if line]
        if "list: nothing" in self.ways:
            lines = ["OK"]
        if "list: error" in self.ways:
            lines = [*lines[:-1], "+CMS ERROR: 320"]
        if "list: never ends" in self.ways:
            lines = lines[:-1]
        if "list: no heading" in self.ways:
            lines = lines[1:]
        if "list: no text" in self.ways and len(lines) > 1:
            lines = [lines[0], *lines[2:]]
        if "list: doubled" in self.ways:
            lines = [*lines[:2], *lines]
        if "list: foreign" in self.ways:
            lines = [*lines[:1], "^FOO: 7", "07911326040000F0", *lines[1:]]
        if "list: cut" in self.ways and len(lines) > 1:
            lines[1] = lines[1][:-9]
        if "list: letters" in self.ways and len(lines) > 1:
            lines = ['+CMGL: 3,"REC UNREAD","+12135552313"', "Stop", "OK"]
        return "".join(f"\r\n{line}\r\n" for line in lines).encode("latin-1")

    def _read(self, place: int) -> bytes:
        if place in self._far.modem.stored:
            if "place: error" in self.ways:
                return b"\r\n+CMS ERROR: 320\r\n"
            if "place: garbled" in self.ways:
                return say("+CMGR: 1,,24\r\nZZTOP")
            if "place: nothing" in self.ways:
                return b"\r\n+CMS ERROR: 321\r\n"
        return self._far.modem.feed(f"AT+CMGR={place}\r".encode())


LISTS = [
    "nothing", "error", "never ends", "no heading", "no text", "doubled", "foreign", "cut",
    "letters",
]  # fmt: skip
READ_SINGLY = [f"list: {each}" for each in LISTS]


@settings(max_examples=50, deadline=None)
@given(
    listing=st.sampled_from(["", *READ_SINGLY, "list: busy"]),
    place=st.sampled_from(["", "place: error", "place: garbled", "place: nothing"]),
    notice=st.sampled_from(["+CMTI", ",-1", "none"]),
    at_s=st.integers(0, 700),
    mended_s=st.none() | st.integers(700, 1500),
    phantom=st.booleans(),
)
def test_whatever_a_modem_holds_back_a_stop_is_heard_or_the_box_says_that_it_is_not(
    listing: str, place: str, notice: str, at_s: int, mended_s: int | None, phantom: bool
) -> None:
    """After the STOP lies on the SIM nothing goes to that person, unless its place was set aside
    and told; and who else waits goes on once the modem is well."""
    with tempfile.TemporaryDirectory() as folder:
        box = PlayedBox(Path(folder), NOON)
        box.tables = {"service": {"poll_seconds": 30}}
        modem = Withholding(box)
        try:
            for n in range(6):
                box.insert(ANA, f"to Ana {n}", in_s=240 * n)
            ben = box.insert(BEN, "to Ben", in_s=1440)
            before: list[str] = []

            def stop() -> None:
                before.extend(box.texts())
                modem.ways |= {listing, place, "phantom" if phantom else ""}
                box.far.modem.stored[3] = deliver("Stop", ANA, NOON + timedelta(hours=1))
                told = {
                    "+CMTI": b'\r\n+CMTI: "SM",3\r\n',
                    ",-1": b"\r\n+CMTI: ,-1\r\n",
                    "none": b"",
                }
                box.far.said += told[notice]

            box.after(at_s, stop)
            if mended_s is not None:
                box.after(mended_s, modem.ways.clear)
            box.serve(2000)
            told = counts(box)
            aside = ["can't read place 3 of SM" in str(each["warnings"]) for each in box.published]
            is_set_aside = any(aside)
            if not is_set_aside:
                to_ana = [text for text in box.texts() if text.startswith("to Ana")]
                assert to_ana == [text for text in before if text.startswith("to Ana")]
            is_heard = bool(box.sql("SELECT 1 FROM opt_outs"))
            assert is_heard or is_set_aside or told[0]
            if mended_s is not None and notice != ",-1":
                assert is_heard
                assert told[0] == ""
                assert box.row(ben)[0] == "sent"
        finally:
            close(box)


@pytest.mark.parametrize("listing", READ_SINGLY)
def test_stop_that_the_list_garbles_is_read_at_its_place_and_deleted(
    box: PlayedBox, listing: str
) -> None:
    Withholding(box, listing)
    box.far.modem.stored = {3: deliver("Stop", ANA, NOON), 4: deliver("Yes please", BEN, NOON)}
    rows = box.insert(ANA, "Hi"), box.insert(BEN, "Hi")
    box.serve(600)
    assert [box.row(row)[0] for row in rows] == ["cancelled", "sent"]
    assert box.far.modem.stored == {}
    assert counts(box) == [""]


def test_place_that_stays_broken_is_told_and_stops_nobody(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    Withholding(box, "list: error", "place: error")
    box.far.modem.stored = {3: deliver("Hello", ANA, NOON)}
    row = box.insert(BEN, "Hi")
    box.serve(1200)
    assert box.row(row)[0] == "sent"
    assert counts(box) == ["", "it can't read place 3 of SM: what lies there is left alone"]
    assert len([each for each in caplog.messages if "can't read place" in each]) == 1
    assert 3 in box.far.modem.stored


def test_line_that_is_no_text_is_kept_as_it_is_and_stays_with_the_modem(box: PlayedBox) -> None:
    Withholding(box, "list: letters", "place: garbled")
    box.far.modem.stored = {3: deliver("Hello", ANA, NOON)}
    box.serve(1200)
    assert box.sql("SELECT sender, body, tpdu FROM inbound ORDER BY id") == [
        ("unknown", None, "Stop"), ("unknown", None, "ZZTOP"),
    ]  # fmt: skip
    assert 3 in box.far.modem.stored


def test_while_more_is_counted_than_was_read_only_what_a_person_sends_anyway_goes(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    Withholding(box, "phantom")
    box.tables["alerts"] = {"operator": "+12135550100"}
    box.far.modem.stored = {0: deliver("Help", ANA, NOON)}
    box.play.start = NOON
    campaign, once = box.insert(ANA, "campaign"), box.insert(ANA, "once", at_once=1)
    anyway = box.insert(BEN, "anyway", at_once=1, anyway=1)
    box.serve(900)
    assert [box.row(row)[0] for row in (campaign, once, anyway)] == ["scheduled"] * 2 + ["sent"]
    assert len([text for text in box.texts() if text.startswith("The operator")]) <= 1
    assert len(box.texts()) == 2  # and the answer to the help
    told = counts(box)[0]
    assert "counts 1 more in SM than it hands over" in told
    assert len([each for each in caplog.messages if "does not list" in each]) == 1
    turn = smsbox.Turn(NOON, {}, {}, None, None, None, 5, None, "", "", told)
    for each, is_open in ((campaign, False), (once, False), (anyway, True)):
        row = box.database.queue.row(smsbox.MessageId(each))
        shut = [gate.shut for gate in smsbox.find_box_gates(turn, row) if gate.shut]
        assert shut == ([] if is_open else [told])
    assert box.wall.shown[-1].fault is smsbox.Fault.ATTENTION


def test_drain_ends_when_what_came_in_can_not_be_read(box: PlayedBox) -> None:
    Withholding(box, "phantom")
    box.insert(ANA, "campaign")
    box.serve(drain=True)
    assert box.texts() == []
    assert box.play.monotonic() < 1000 + 1200


def test_texts_once_sent_are_removed_when_they_fill_the_memory_and_told_once(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    sent = "0011000B912131552503F1000006C83428E80E03"
    places = dict.fromkeys(range(1, 50), sent)
    places[50] = deliver("Stop", ANA, NOON)
    states = dict.fromkeys(range(1, 50), 3)

    def delete(place: int) -> bytes:
        places.pop(place, None)
        return b"\r\nOK\r\n"

    def lists() -> bytes:
        lines = [
            f"\r\n+CMGL: {place},{states.get(place, 0)},,{len(pdu) // 2 - 1}\r\n{pdu}"
            for place, pdu in places.items()
        ]
        return "".join([*lines, "\r\n\r\nOK\r\n"]).encode()

    box.far.tellers[b"AT+CMGL=4\r"] = lists
    box.far.tellers[b"AT+CPMS?\r"] = lambda: say(
        f'+CPMS: "SM",{len(places)},50,"SM",{len(places)},50,"SM",{len(places)},50'
    )
    box.far.tellers[b'AT+CPMS="SM"\r'] = lambda: say(f"+CPMS: {len(places)},50")
    for place in range(1, 51):
        box.far.tellers[f"AT+CMGD={place}\r".encode()] = partial(delete, place)
    row = box.insert(BEN, "Hi", in_s=900)
    box.serve(300)
    assert len(places) == 49  # there is room: what was sent is somebody's, and stays
    places[50] = places[1]
    states[50] = 3
    box.serve(900)
    assert places == {}
    assert len([each for each in caplog.messages if "full of texts once sent" in each]) == 1
    assert box.row(row)[0] == "sent"
    assert counts(box) == [""]


def test_memory_that_stays_full_lets_nothing_go(box: PlayedBox) -> None:
    box.far.answers[b"AT+CPMS?\r"] = say('+CPMS: "SM",1,1,"SM",1,1,"SM",1,1')
    box.far.answers[b'AT+CPMS="SM"\r'] = say("+CPMS: 1,1")
    box.far.answers[b"AT+CMGD=0\r"] = b"\r\nERROR\r\n"
    box.far.modem.stored = {0: deliver("Hello", BEN, NOON)}
    row = box.insert(ANA, "Hi")
    box.serve(900)
    assert box.row(row)[0] == "scheduled"
    assert "full" in counts(box)[0]


def test_text_that_has_no_place_is_asked_for_directly_and_waited_for(box: PlayedBox) -> None:
    row = box.insert(ANA, "Hi", in_s=60)
    told: list[str] = []
    pdu = deliver("Stop", ANA, NOON)
    box.after(20, lambda: setattr(box.far, "said", b"\r\n+CMTI: ,-1\r\n"))
    box.after(590, lambda: told.extend([*counts(box), box.row(row)[0]]))
    box.after(600, lambda: setattr(box.far, "said", f"\r\n+CMT: ,24\r\n{pdu}\r\n".encode()))
    box.serve(1200)
    assert told[-1] == "scheduled"
    assert "has no place for" in told[0]
    ways = [line for line in box.far.heard if line.startswith(b"AT+CNMI=")]
    assert ways[-2:] == [b"AT+CNMI=?\r", b"AT+CNMI=2,2,0,2,0\r"]
    assert box.row(row)[0] == "cancelled"
    assert counts(box) == [""]


def test_reports_that_have_no_memory_are_handed_over(box: PlayedBox) -> None:
    box.far.answers[b"AT+CPMS=?\r"] = say('+CPMS: ("SM","SR"),("SM"),("SM")')
    box.far.answers[b'AT+CPMS="SR"\r'] = say("+CPMS: 0,0,3,23,3,23")
    box.serve(60)
    assert b"AT+CNMI=2,1,0,1,0\r" in box.far.heard
    assert box.published[-1]["delivery_reports"] is True
    assert counts(box) == [""]


def test_modem_that_can_not_tell_of_texts_sends_no_campaign(box: PlayedBox) -> None:
    for n in range(4):
        for way in range(1, 4):
            for kind in range(3):
                box.far.answers[f"AT+CNMI={n},{way},0,{kind},0\r".encode()] = b"\r\nERROR\r\n"
    box.far.answers[b"AT+CNMI?\r"] = say("+CNMI: 0,0,0,0,0")
    row = box.insert(ANA, "Hi")
    box.serve(900)
    assert box.row(row)[0] == "scheduled"
    assert "no way of telling" in counts(box)[0]


# --- what is not whole


@pytest.mark.parametrize(
    ("tail", "status"),
    [
        ("0853544F50", "held"),  # more announced than came: what is missing may mean stop
        ("0453EA130A", "cancelled"),
        ("0853EA130A", "cancelled"),
        ("03C8F71D", "scheduled"),  # whole, and harmless
        ("", "held"),
    ],
)
def test_text_that_is_not_whole_holds_its_sender_unless_it_says_stop(
    box: PlayedBox, tail: str, status: str
) -> None:
    row = box.insert(ANA, "Hi", in_s=3600)
    head = deliver("", ANA, NOON, coding="00")[:-2]
    box.far.modem.stored[0] = head + tail
    box.serve(60)
    waits = box.sql("SELECT id FROM inbound WHERE settled_at IS NULL AND request = 'perhaps stop'")
    assert ("held" if waits else box.row(row)[0]) == status
    assert box.sql("SELECT sender FROM inbound") == [(ANA,)]


@pytest.mark.parametrize("coding", ["04", "20"])
def test_long_text_of_which_a_part_can_not_be_read_holds_its_sender(
    box: PlayedBox, coding: str
) -> None:
    row = box.insert(ANA, "Hi", in_s=3600)
    arrive(box, deliver("Hello there, I wanted to ", ANA, NOON, (9, 2, 1)))
    arrive(box, deliver("please stop texting me", ANA, NOON, (9, 2, 2), coding=coding))
    box.serve(7200)
    assert box.row(row)[0] == "scheduled"
    assert box.sql("SELECT request FROM inbound") == [("perhaps stop",)]


def push(sender: str, place: int) -> str:
    """A part of two of a notification of an MMS; the second holds where it is kept."""
    data = b"\x4f\x06\x2aapplication/vnd.wap.mms-message\0\x8c\x82\x981\0\x8d\x92"
    data += b"\x89\x18\x80" + f"{sender}/TYPE=PLMN\0".encode() + b"\x83http://mmsc/" + b"A" * 80
    half = bytes([5, 0, 3, 9, 2, place]) + (data[:100], data[100:])[place - 1]
    head = deliver("", "4545", NOON, coding="04").replace("0004", "0044", 1)[:-2]
    return f"{head}{len(half):02X}{half.hex()}"


def test_first_part_of_an_mms_shuts_the_gate_of_who_sent_it(box: PlayedBox) -> None:
    row = box.insert(ANA, "Hi", in_s=600)
    arrive(box, push(ANA, 1))
    box.serve(7200)
    assert box.row(row)[0] == "scheduled"
    assert box.sql("SELECT sender, request FROM inbound") == [(ANA, "perhaps stop")]
    arrive(box, push(ANA, 2))
    box.serve(90_000)
    assert box.sql("SELECT sender, request FROM inbound") == [(ANA, "perhaps stop")]
    assert box.sql("SELECT count(*) FROM inbound_parts WHERE joined = 0") == [(0,)]


def test_mms_counts_as_unreadable_and_is_called_by_its_name(box: PlayedBox) -> None:
    push = "4F062A" + b"application/vnd.wap.mms-message\0".hex() + "8C829831008D92"
    push += "8918" + "80" + f"{ANA}/TYPE=PLMN\0".encode().hex()
    data = "0605040B8423F0" + push
    row = box.insert(ANA, "Hi", in_s=3600)
    head = deliver("", "4545", NOON, coding="04").replace("0004", "0044", 1)[:-2]
    box.far.modem.stored[0] = f"{head}{len(data) // 2:02X}{data}"
    box.serve(60)
    assert box.sql("SELECT request FROM inbound") == [("perhaps stop",)]
    assert box.row(row)[0] == "scheduled"
    ((sender, body),) = box.sql("SELECT sender, body FROM inbound")
    assert sender == ANA
    assert "MMS" in body


@pytest.mark.parametrize("stamp", ["99999999999999", "07101000000000", "00000000000000"])
def test_report_whose_time_is_no_time_is_matched_by_its_arrival(box: PlayedBox, stamp: str) -> None:
    row = box.insert(ANA, "Hi")
    box.serve(60)
    whole = report(ANA, 1, 0, box.play.now())
    box.far.said += f"\r\n+CDS: 25\r\n{whole[:-30]}{stamp}{stamp}00\r\n".encode()
    box.serve(60)
    assert box.sql("SELECT count(*) FROM messages WHERE delivered_at IS NOT NULL") == [(1,)], row


def test_stop_with_a_broken_time_is_heard_each_time_and_kept_once_while_it_stays(
    box: PlayedBox,
) -> None:
    broken = deliver("Stop", ANA, NOON).replace(deliver("", ANA, NOON)[24:38], "125264710A4A00")
    assert smsbox.decode_tpdu(broken, "in").sent_at is None
    box.far.answers[b"AT+CMGD=0\r"] = b"\r\nERROR\r\n"
    box.far.modem.stored[0] = broken
    box.serve(900)
    assert bodies(box) == ["Stop"]
    box.far.modem.stored = {0: deliver("Start", ANA, box.play.now())}
    box.far.answers.clear()
    box.serve(60)
    assert box.sql("SELECT * FROM opt_outs") == []
    box.far.modem.stored = {0: broken}
    box.serve(900)
    assert box.sql("SELECT phone_number FROM opt_outs") == [(ANA,)]


@pytest.mark.parametrize("order", ["A1 B1 A2 B2", "A1 B2 B1 A2", "B2 A1 A2 B1", "A2 B2 B1 A1"])
@pytest.mark.parametrize("apart_s", [0.0, 30.0])
def test_two_long_texts_of_one_reference_are_told_apart_by_their_stamps(
    box: PlayedBox, order: str, apart_s: float
) -> None:
    """Whether they lie in one listing or come one by one."""
    stamps = {"A": NOON, "B": NOON + timedelta(seconds=50)}
    for n, each in enumerate(order.split()):
        sent_at = stamps[each[0]] + timedelta(seconds=int(each[1]))
        pdu = deliver(f"{each} ", ANA, sent_at, (9, 2, int(each[1])))
        box.after(10 + apart_s * n, lambda pdu=pdu: arrive(box, pdu))  # type: ignore[misc]
    box.serve(1200)
    assert sorted(bodies(box)) == ["A1 A2 ", "B1 B2 "]


@given(
    st.permutations([(text, place) for text in range(3) for place in (1, 2, 3)]),
    st.lists(st.integers(0, 4), min_size=9, max_size=9),
)
def test_parts_nearest_in_time_are_chosen_in_any_order(
    order: list[tuple[int, int]], late_s: list[int]
) -> None:
    parts = []
    for (text, place), late in zip(order, late_s, strict=True):
        sent_at = NOON + timedelta(seconds=60 * text + late)
        parts.append(smsbox.decode_tpdu(deliver(str(text), ANA, sent_at, (9, 3, place)), "in"))
    while parts:
        chosen = [parts[place] for place in smsbox.choose_parts(parts)]
        assert len({part.text for part in chosen}) == 1
        parts = [part for part in parts if part not in chosen]


# --- what texts alone make of a stop


@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_start_that_was_sent_before_the_stop_lifts_nothing(
    box: PlayedBox, places: tuple[int, int]
) -> None:
    """A modem hands out its places in any order, and a service centre its texts."""
    row = box.insert(ANA, "Hi", in_s=600)
    stop, start = places
    box.far.modem.stored[start] = deliver("START", ANA, NOON - timedelta(minutes=2))
    box.far.modem.stored[stop] = deliver("STOP", ANA, NOON - timedelta(minutes=1))
    box.serve(1200)
    assert box.row(row) == ("cancelled", "the recipient said stop")
    assert box.sql("SELECT phone_number FROM opt_outs") == [(ANA,)]


@pytest.mark.parametrize("ahead", [timedelta(hours=20), timedelta(days=2)])
def test_start_lifts_no_later_stop_while_the_clock_is_behind(
    box: PlayedBox, ahead: timedelta
) -> None:
    row = box.insert(ANA, "Hi", in_s=600)
    box.far.modem.stored[0] = deliver("STOP", ANA, NOON + ahead)
    box.far.modem.stored[1] = deliver("START", ANA, NOON + ahead - timedelta(minutes=5))
    box.far.modem.stored[2] = deliver("START", BEN, NOON + ahead)
    box.serve(1200)
    assert box.row(row) == ("cancelled", "the recipient said stop")
    assert box.sql("SELECT phone_number FROM opt_outs") == [(ANA,)]
    waits = "SELECT sender FROM inbound WHERE request = 'perhaps stop' AND settled_at IS NULL"
    assert box.sql(waits) == ([(BEN,)] if ahead > timedelta(days=1) else [])


@pytest.mark.parametrize(
    ("stopped", "started", "is_lifted"),
    [
        ("2135552313", "2135552313", True),
        ("2135552313", ANA, True),
        ("2135552313", "12135552313", True),
        (ANA, "2135552313", True),
        ("07700900123", "07700900123", True),
        ("00447700900123", "+447700900123", True),
        ("2135552313", "+442135552313", False),  # of another country, which ends alike
        ("01143215678", "+43215678", False),  # Buenos Aires
        ("2135552313", "+492135552313", False),
        ("07700900123", "+447700900123", False),
        ("7700900123", "07700900123", False),
    ],
)
def test_start_lifts_a_stop_of_nobody_known_in_a_form_that_can_only_be_its_own(
    box: PlayedBox, stopped: str, started: str, is_lifted: bool
) -> None:
    arrive(box, deliver("STOP", stopped, NOON))
    arrive(box, deliver("START", started, NOON + timedelta(minutes=1)))
    box.serve(60)
    assert box.sql("SELECT phone_number FROM opt_outs") == ([] if is_lifted else [(stopped,)])


def test_stop_counts_again_after_a_start_though_the_service_centre_gives_always_one_time(
    box: PlayedBox,
) -> None:
    box.insert(ANA, "Hi", in_s=7200)
    long_ago = NOON - timedelta(days=400)
    for words, is_stopped in (("STOP", True), ("START", False), ("STOP", True), ("STOP", True)):
        arrive(box, deliver(words, ANA, long_ago))
        box.serve(60)
        assert (box.sql("SELECT phone_number FROM opt_outs") == [(ANA,)]) is is_stopped
    assert bodies(box) == ["STOP", "START", "STOP"]


def test_no_counts_again_after_a_start_though_the_service_centre_gives_always_one_time(
    box: PlayedBox,
) -> None:
    row = box.insert(ANA, "Hi", in_s=7200)
    for words in ("No thanks", "START", "No thanks"):
        arrive(box, deliver(words, ANA, NOON - timedelta(days=400)))
        box.serve(60)
    box.serve(7200)
    assert box.row(row)[0] == "scheduled"


def test_start_after_a_second_stop_of_the_same_time_waits_for_a_person(box: PlayedBox) -> None:
    box.insert(ANA, "Hi", in_s=7200)
    for words in ("STOP", "START", "STOP", "Start please"):
        arrive(box, deliver(words, ANA, NOON - timedelta(days=400)))
        box.serve(60)
    assert box.sql("SELECT phone_number FROM opt_outs") == [(ANA,)]
    asked = box.sql("SELECT request FROM inbound ORDER BY id")
    assert [each for (each,) in asked] == ["stop", "start", "stop", "perhaps stop"]


def test_stop_by_another_service_centre_waits_after_optout_remove_as_well(box: PlayedBox) -> None:
    old = NOON - timedelta(days=400)
    arrive(box, deliver("STOP", ANA, old))
    box.serve(60)
    assert cli(box, "optout", "remove", ANA, "--reason", "asked", "--they-asked").returncode == 0
    row = box.insert(ANA, "Hi", in_s=60)
    arrive(box, deliver("STOP", ANA, old, smsc="07912160130300F4"))
    box.serve(1200)
    assert (box.row(row)[0], box.sql("SELECT * FROM opt_outs")) == ("scheduled", [])


@pytest.mark.parametrize("texts", [("Please st", "op texting me"), ("I have told you.\n", "STOP")])
def test_stop_whose_parts_came_days_apart_by_our_clock_is_whole(
    box: PlayedBox, texts: tuple[str, str]
) -> None:
    row = box.insert(ANA, "Hi", in_s=5 * 86_400)
    sent_at = NOON
    for place, words in enumerate(texts, 1):
        arrive(box, deliver(words, ANA, sent_at + timedelta(seconds=place), (7, 2, place)))
        box.serve(20)
        box.play.pass_by(3 * 86_400)
    assert bodies(box) == ["".join(texts)]
    assert box.row(row)[0] == "cancelled"


def test_stale_half_of_a_text_tears_no_stop(box: PlayedBox) -> None:
    row = box.insert(ANA, "Hi", in_s=3 * 86_400)
    arrive(box, deliver("see you at five, thanks", ANA, NOON, (9, 2, 2)))
    box.serve(60)
    box.play.pass_by(25 * 3600)
    for place, words in ((1, "Please take me off "), (2, "your list, I never asked")):
        arrive(box, deliver(words, ANA, box.play.now(), (9, 2, place)))
    box.serve(60)
    assert box.row(row)[0] == "cancelled"
    assert bodies(box) == [
        "[…]see you at five, thanks", "Please take me off your list, I never asked"
    ]  # fmt: skip


@pytest.mark.parametrize("has_started", [False, True])
def test_stop_that_the_modem_hands_out_again_waits_once_for_a_person_after_optout_remove(
    box: PlayedBox, has_started: bool
) -> None:
    old = NOON - timedelta(days=400)
    for words in ("STOP", "START", "STOP") if has_started else ("STOP",):
        arrive(box, deliver(words, ANA, old))
        box.serve(60)
    assert cli(box, "optout", "remove", ANA, "--reason", "asked", "--they-asked").returncode == 0
    row = box.insert(ANA, "Hi", in_s=60)
    box.far.answers[b"AT+CMGD=0\r"] = b"\r\nERROR\r\n"
    box.far.modem.stored = {0: deliver("STOP", ANA, old)}
    box.serve(1200)
    assert (box.row(row)[0], box.sql("SELECT * FROM opt_outs")) == ("scheduled", [])
    with box.database.transaction():  # as release does
        assert box.database.inbox.settle(ANA, box.play.now(), "ana")
    box.serve(1200)
    assert box.row(row)[0] == "sent"


def test_stop_that_the_modem_hands_out_again_after_a_start_counts_no_more(box: PlayedBox) -> None:
    stop = deliver("STOP", ANA, NOON - timedelta(minutes=2))
    for pdu in (stop, deliver("START", ANA, NOON - timedelta(minutes=1)), stop):
        arrive(box, pdu)
        box.serve(60)
    row = box.insert(ANA, "Hi")
    box.serve(60)
    assert box.row(row)[0] == "sent"


def test_start_that_is_cut_lifts_nothing(box: PlayedBox) -> None:
    box.insert(ANA, "Hi", in_s=600)
    arrive(box, deliver("Start", ANA, NOON - timedelta(minutes=5), (7, 2, 1)))
    box.serve(60)
    arrive(box, deliver("STOP", ANA, NOON))
    box.serve(90_000)
    assert box.sql("SELECT phone_number FROM opt_outs") == [(ANA,)]
    assert "start" not in [request for (request,) in box.sql("SELECT request FROM inbound")]


def test_start_of_whom_nobody_knows_lifts_the_stop_of_none(box: PlayedBox) -> None:
    people = ("+447700900123", "+17700900123")
    for number in people:
        box.insert(number, "Hi", in_s=600)
        arrive(box, deliver("STOP", number, NOON))
    box.serve(60)
    arrive(box, deliver("START", "7700900123", NOON + timedelta(minutes=2)))
    box.serve(60)
    assert box.sql("SELECT phone_number FROM opt_outs ORDER BY 1") == [(n,) for n in sorted(people)]


def test_who_wrote_half_a_long_text_is_written_to_when_the_rest_is_there(box: PlayedBox) -> None:
    ana, ben = box.insert(ANA, "Hi Ana"), box.insert(BEN, "Hi Ben")
    arrive(box, deliver("Please stop texting me, take me off your li", ANA, NOON, (7, 2, 1)))
    box.serve(3600)
    assert (box.row(ana)[0], box.row(ben)[0]) == ("scheduled", "sent")
    said = cli(box, "inbox").stdout
    assert "[perhaps stop]: (1 of 2 parts) Please stop texting me, take me off your li\n" in said
    [told] = json.loads(cli(box, "inbox", "--json").stdout)
    assert (told["id"], told["sender"], told["request"]) == (None, ANA, "perhaps stop")
    assert "1 recipient wrote what may mean stop" in cli(box, "status").stdout
    arrive(box, deliver("st. I am happy!", ANA, NOON, (7, 2, 2)))
    box.serve(60)
    assert box.row(ana)[0] == "cancelled"


def test_person_may_let_go_who_wrote_half_a_long_text(box: PlayedBox) -> None:
    ana = box.insert(ANA, "Hi Ana")
    arrive(box, deliver("Yes! I would love to come, and", ANA, NOON, (7, 2, 1)))
    box.serve(600)
    assert box.row(ana)[0] == "scheduled"
    with box.database.transaction():  # as release does
        assert smsbox.settle_replies(box.database, ANA, box.play.now(), "ana") == 1
    box.serve(600)
    assert box.row(ana)[0] == "sent"
    assert box.sql("SELECT sender, settled_by IS NOT NULL FROM inbound") == [(ANA, 1)]


def test_half_a_long_text_of_whom_no_row_waits_is_settled_as_well(box: PlayedBox) -> None:
    box.insert(ANA, "Hi Ana")
    box.serve(600)
    arrive(box, deliver("Take me off", ANA, NOON, (7, 3, 1)))
    arrive(box, deliver("of yours", ANA, NOON, (7, 3, 3)))
    box.serve(60)
    said = cli(box, "release", ANA)
    assert said.returncode == 0
    assert "(2 of 3 parts) Take me off […] of yours" in said.stdout
    assert "1 reply settled." in said.stdout
    assert "may mean stop" not in cli(box, "status").stdout


def test_parts_that_come_again_and_again_shut_a_number_for_a_day_at_the_most(
    box: PlayedBox,
) -> None:
    box.tables = {"service": {"poll_seconds": 60}}
    box.insert(ANA, "Hi Ana")
    for _ in range(3):
        arrive(box, deliver(f"part {box.play.now()}", ANA, box.play.now(), (7, 2, 1)))
        box.serve(23 * 3600)
    waits = "SELECT count(*) FROM inbound_parts WHERE joined = 0"
    assert box.sql(waits) == [(1,)]
    assert box.sql("SELECT count(*) FROM inbound") == [(2,)]


def test_strangers_parts_keep_no_long_text_waiting_and_fill_no_screen(box: PlayedBox) -> None:
    box.insert(ANA, "Hi Ana")
    arrive(box, deliver("Could you please take me o", ANA, NOON, (7, 2, 1)))
    box.serve(60)
    with box.database.transaction():
        for n in range(310):
            sender = f"+1909{2000000 + n}"
            pdu = deliver("Half a te", sender, NOON, (1, 2, 1))
            box.database.inbox.add_part(pdu, sender, NOON, (1, 2, 1), box.play.now())
    assert "310 long texts of strangers" in (said := cli(box, "inbox").stdout)
    assert "+1909" not in said
    arrive(box, deliver("ff your list", ANA, NOON, (7, 2, 2)))
    box.serve(60)
    assert box.sql("SELECT phone_number FROM opt_outs") == [(ANA,)]
    arrive(box, deliver("One", "+19093000000", NOON, (1, 2, 1)))
    box.serve(60)
    assert box.sql("SELECT count(*) FROM inbound_parts WHERE joined = 0") == [(300,)]


def test_doubtful_texts_of_thousands_of_strangers_cost_a_look_nothing(box: PlayedBox) -> None:
    box.insert(ANA, "Hi")
    database = box.database
    database.change_many(
        "INSERT INTO inbound (received_at, sent_at, sender, body, tpdu, request)"
        " VALUES ('2025-11-09 17:00:00', '', ?, 'who is this', ?, 'perhaps stop')",
        [(f"+1909{n:07}", f"{n}") for n in range(6000)],
    )
    database.change_many(
        "INSERT INTO messages (created_at, phone_number, kind, bubble, body, status)"
        " VALUES ('2025-11-09 17:00:00', ?, 'help', 1, 'Help', 'sent')",
        [(f"+1310{n:07}",) for n in range(300)],
    )
    looks: list[str] = []
    database._connection.set_trace_callback(looks.append)
    assert database.reports.count_doubtful() == 0
    database._connection.set_trace_callback(None)
    assert len(looks) <= 3


def test_stop_of_who_wrote_hundreds_of_doubtful_texts_settles_them_at_one_look(
    box: PlayedBox,
) -> None:
    box.insert(ANA, "Hi", in_s=600)
    database, now = box.database, box.play.now()
    for n in range(300):
        words, doubtful = f"who is this {n}", smsbox.Request.PERHAPS_STOP
        database.inbox.add(f"{n}", ANA, words, now, doubtful, now)
    database.sending.add_answer("help", BEN, "Help", now)
    looks: list[str] = []
    database._connection.set_trace_callback(looks.append)
    with database.transaction():
        assert database.inbox.settle(ANA, now, "STOP") == 300
    database._connection.set_trace_callback(None)
    assert len([each for each in looks if each.startswith(("SELECT", "UPDATE inbound"))]) <= 10
    assert database.inbox.find_people("12135552314") == [BEN]


def test_full_disk_lets_a_stop_in_past_what_stands_before_it(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = box.insert(ANA, "Hi", in_s=600)
    add, is_full = smsbox.Inbox.add, [True]

    def fill(self: smsbox.Inbox, *given: Any) -> bool:
        if is_full[0]:
            raise smsbox.DiskFull("full")
        return add(self, *given)

    def use(path: str) -> bool:
        is_full[0] = False
        return True

    monkeypatch.setattr(smsbox.Inbox, "add", fill)
    monkeypatch.setattr(smsbox, "use_reserve", use)
    box.far.modem.stored[0] = deliver("Hello", BEN, NOON)
    box.far.modem.stored[1] = deliver("STOP", ANA, NOON)
    box.serve(60)
    assert box.row(row)[0] == "cancelled"


def test_older_start_lifts_no_stop_of_a_part_and_settles_no_newer_doubt(box: PlayedBox) -> None:
    ana, ben = box.insert(ANA, "Hi", in_s=600), box.insert(BEN, "Hi", in_s=600)
    box.far.modem.stored[0] = deliver("STOP", ANA, NOON - timedelta(minutes=1), (9, 2, 1))
    box.far.modem.stored[1] = deliver("START", ANA, NOON - timedelta(minutes=20))
    box.far.modem.stored[2] = deliver("why do you text me?", BEN, NOON - timedelta(minutes=9))
    box.far.modem.stored[3] = deliver("START", BEN, NOON - timedelta(minutes=10))
    box.serve(1200)
    assert box.sql("SELECT phone_number FROM opt_outs") == [(ANA,)]
    assert (box.row(ana)[0], box.row(ben)[0]) == ("cancelled", "scheduled")
