"""Delivery: what the network says became of a text; consent; all that is known of a person."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

import smsbox
from rig.desk import Keyboard, Operator
from rig.people import ANA, BEN, LONG
from rig.person import everything, lay_person, lay_sent
from rig.played import PlayedBox
from rig.tpdus import report
from smsbox import Delivery

GONE = 0x49
NOT_DELIVERED = "not delivered: the service centre does not know it (49)"


def told(box: PlayedBox, number: str, reference: int, status: int, ago_s: float = 60) -> None:
    """A report lies in the storage, of a segment that was handed over so long ago."""
    stored = box.far.modem.stored
    at = box.play.now() - timedelta(seconds=ago_s)
    stored[max(stored, default=-1) + 1] = report(number, reference, status, at)


def segments(box: PlayedBox, row: int, columns: str) -> list[Any]:
    found = box.sql(
        f"SELECT {columns} FROM segments g JOIN messages m ON m.id = g.message_id"
        " WHERE m.scheduled_message_id = ? ORDER BY m.bubble, g.sequence", row,
    )  # fmt: skip
    return [each[0] if len(each) == 1 else each for each in found]


# --- what the network says


@pytest.mark.parametrize(
    ("status", "delivery", "words"),
    [(0x00, "delivered", ""), (0x01, "unknown", "can't be confirmed"), (0x02, "unknown", "later"),
     (0x20, "trying", "congestion"), (0x21, "trying", "busy"), (0x3F, "trying", "rejected"),
     (0x41, "failed", "incompatible"), (0x46, "expired", "validity"), (0x49, "failed", "know"),
     (0x60, "failed", "congestion"), (0x62, "failed", "no response"), (0xFF, "failed", "rejected")],
)  # fmt: skip
def test_status_of_a_report_is_read_in_words(status: int, delivery: str, words: str) -> None:
    read, said = smsbox.read_delivery(status)
    assert (read.value, words in said) == (delivery, True)


def test_only_what_the_network_calls_over_is_over() -> None:
    kinds = {status: smsbox.read_delivery(status)[0] for status in range(256)}
    assert [status for status, kind in kinds.items() if kind is Delivery.DELIVERED] == [0]
    assert {kinds[status] for status in range(0x20, 0x40)} == {Delivery.TRYING}
    assert {kinds[status] for status in range(0x47, 0x80)} == {Delivery.FAILED}


def test_text_is_delivered_once_each_segment_is_also_over_a_restart(box: PlayedBox) -> None:
    row = box.insert(ANA, LONG)
    box.serve(60)
    told(box, ANA, 1, 0)
    told(box, ANA, 3, 0)
    box.serve(30)
    assert segments(box, row, "g.delivered_at IS NOT NULL") == [1, 0, 1]
    assert box.row(row, "status, delivery") == ("sent", None)
    told(box, ANA, 2, 0, 90)
    box.serve(30)
    assert segments(box, row, "g.delivery, g.error_message") == [("delivered", None)] * 3
    assert box.sql("SELECT delivered_at IS NOT NULL FROM messages") == [(1,)]
    assert box.row(row, "status, delivery, error_message") == ("sent", "delivered", None)
    assert box.database.reports.count_by_status()["delivered"] == 1


def test_text_of_which_a_segment_is_not_delivered_stays_sent_with_the_network_s_words(
    box: PlayedBox,
) -> None:
    row = box.insert(ANA, f"Hi [BUBBLE] {LONG}")
    box.serve(60)
    told(box, ANA, 3, GONE)
    told(box, ANA, 1, 0)
    box.serve(30)
    assert box.row(row, "status, delivery, error_message") == (
        "sent", "failed", f"bubble 2, segment 2: {NOT_DELIVERED}",
    )  # fmt: skip
    assert box.events(row)[-1] == "daemon not delivered"
    assert box.database.reports.count_by_status()["undelivered"] == 1


def test_report_that_comes_before_the_last_bubble_counts_when_the_row_is_sent(
    box: PlayedBox,
) -> None:
    box.tables = {"pacing": {"bubble_gap_seconds": [60, 60]}}
    row = box.insert(ANA, "one [BUBBLE] two")
    box.after(20, lambda: told(box, ANA, 1, 0x46, 10))
    box.after(21, lambda: setattr(box.far, "said", b'\r\n+CDSI: "SM",0\r\n'))
    box.serve(200)
    assert box.row(row, "status, delivery") == ("sent", "expired")


@pytest.mark.parametrize(
    ("order", "delivery"),
    [((0x21,), None), ((0x21, 0), "delivered"), ((GONE, 0), "delivered"), ((0, GONE), "delivered"),
     ((GONE, 0x21), "failed"), ((0, 0), "delivered"), ((0x46, 0x46), "expired"), ((1,), None),
     ((1, GONE), "failed")],
)  # fmt: skip
def test_late_and_repeated_reports_change_only_what_they_may(
    box: PlayedBox, order: tuple[int, ...], delivery: str | None
) -> None:
    row = box.insert(ANA, "Hi")
    box.serve(60)
    for place, status in enumerate(order):
        told(box, ANA, 1, status, 60 + place)
        box.serve(30)
    assert box.row(row, "delivery") == (delivery,)
    failed = delivery in ("failed", "expired")
    assert (box.row(row)[1] is not None) == failed
    assert box.events(row).count("daemon not delivered") == (GONE in order[:1] or failed)


def test_still_trying_is_told_of_the_segment_alone(box: PlayedBox) -> None:
    row = box.insert(ANA, "Hi")
    box.serve(60)
    told(box, ANA, 1, 0x21)
    box.serve(30)
    assert segments(box, row, "g.delivery, g.error_message") == [
        ("trying", "the phone is busy (21)")
    ]
    assert box.row(row) == ("sent", None)


def test_report_is_matched_by_recipient_reference_and_time(box: PlayedBox) -> None:
    first = box.insert(ANA, "first")
    box.serve(60)
    sent_at = box.play.now()
    box.far.modem.reference = 0  # 256 segments later
    second = box.insert(ANA, "second", in_s=86_400)
    box.tables = {"service": {"poll_seconds": 60}}
    box.serve(87_000)
    assert box.row(second)[0] == "sent"
    told(box, BEN, 1, 0)
    told(box, ANA, 2, 0)
    for again_s in (0, 1):  # the second is a repetition
        told(box, ANA, 1, 0, (box.play.now() - sent_at).total_seconds() + again_s)
        box.serve(30)
    assert [box.row(row, "delivery")[0] for row in (first, second)] == ["delivered", None]


def test_report_before_its_segment_is_known_to_be_sent_is_matched_later(box: PlayedBox) -> None:
    row = box.insert(ANA, "Hi", in_s=60)
    told(box, ANA, 1, 0, -60)
    box.serve(30)
    assert box.sql("SELECT segment_id FROM reports") == [(None,)]
    box.serve(400)
    assert box.row(row, "delivery") == ("delivered",)


def test_report_that_comes_by_itself_is_stored_then_acknowledged(box: PlayedBox) -> None:
    stored: list[int] = []
    row = box.insert(ANA, "Hi")
    box.serve(60)

    def hear() -> bytes:
        stored.append(box.sql("SELECT count(*) FROM reports")[0][0])
        return b"\r\nOK\r\n"

    box.far.tellers[b"AT+CNMA\r"] = hear
    pdu = report(ANA, 1, 0, box.play.now())
    says = f"\r\n+CDS: {len(pdu) // 2 - 1}\r\n{pdu}\r\n".encode()
    box.after(10, lambda: setattr(box.far, "said", says[:9]))  # cut on its way
    box.after(11, lambda: setattr(box.far, "said", says[9:]))
    box.serve(60)
    assert (stored, box.row(row, "delivery")) == ([1], ("delivered",))


def test_modem_that_stores_no_reports_is_asked_to_hand_them_over(box: PlayedBox) -> None:
    for setting in (b"2,1,0,2,0", b"1,1,0,2,0"):
        box.far.answers[b"AT+CNMI=" + setting + b"\r"] = b"\r\n+CMS ERROR: 303\r\n"
    box.serve(10)
    assert b"AT+CNMI=2,1,0,1,0\r" in box.far.heard
    assert box.published[-1]["delivery_reports"] is True


@pytest.mark.parametrize("memory", ["SR", "ME"])
def test_report_that_is_told_of_in_another_memory_is_read_there(
    box: PlayedBox, memory: str
) -> None:
    row = box.insert(ANA, "Hi")
    box.serve(60)
    pdu = report(ANA, 1, 0, box.play.now())
    kept = {"SM": {}, memory: {4: pdu}}

    def choose(name: str) -> bytes:
        box.far.modem.stored = kept[name]
        return b"\r\n+CPMS: 1,50,0,50,0,50\r\n\r\nOK\r\n"

    for name in kept:
        box.far.tellers[f'AT+CPMS="{name}"\r'.encode()] = lambda name=name: choose(name)  # type: ignore[misc]
    box.after(10, lambda: setattr(box.far, "said", f'\r\n+CDSI: "{memory}",4\r\n'.encode()))
    box.serve(30)
    assert (box.row(row, "delivery"), kept[memory]) == (("delivered",), {})


# --- what the commands say of it


def test_list_and_status_tell_sent_from_delivered_and_from_not_delivered(
    operator: Operator,
) -> None:
    for delivery in (None, "delivered", "failed", "expired"):
        lay_sent(operator, delivery)
    *lines, zone = operator.run("list").out.splitlines()
    assert zone.startswith("Times are those of ")
    for line, words in zip(lines, ("sent", "delivered", "undelivered", "expired"), strict=True):
        assert f" {words} " in line
    told_values = operator.run("list", "--json").value
    assert [each["delivery"] for each in told_values] == ["", "delivered", "failed", "expired"]
    assert "1 of the sent are delivered, 2 will never be" in operator.run("status").out


def test_show_tells_of_each_segment_what_became_of_it(operator: Operator) -> None:
    row = lay_sent(operator, "failed", f"bubble 1, segment 1: {NOT_DELIVERED}")
    operator.sql("UPDATE segments SET delivery = 'failed', error_message = 'not there (49)'")
    shown = operator.run("show", str(row)).out
    assert "reference 77, not delivered: not there (49)" in shown
    value = operator.run("show", str(row), "--json").value
    assert value["bubbles"][0]["segments"][0]["delivery"] == "failed"


# --- consent


@pytest.mark.parametrize(
    ("written", "read"),
    [("", ""), ("2025-01-02", "2025-01-02"), ("1/2/2025", "2025-01-02"),
     ("12/31/2024 11:05 pm", "2024-12-31 23:05:00"), ("1/2/2025 12:00 AM", "2025-01-02 00:00:00"),
     ("2025-01-02T03:04:05Z", "2025-01-02 03:04:05+00:00"),
     ("2025-01-02 03:04", "2025-01-02 03:04:00")],
)  # fmt: skip
def test_time_of_consent_is_read_as_iso_or_as_americans_write_it(written: str, read: str) -> None:
    assert smsbox.parse_consent_time(written) == read


@pytest.mark.parametrize("written", ["yes", "13/1/2025", "2/30/2025", "2025-13-01", "1/2/25",
                                     "1/2/2025 13:00 PM", "2025"])  # fmt: skip
def test_time_of_consent_that_is_none_is_refused_with_its_mend(
    operator: Operator, written: str
) -> None:
    file = write(operator, f"phone_number,customer_name,message_content,consent_at\n"
                           f"2135552313,Ana,Hi,{written}\n")  # fmt: skip
    done = operator.run("schedule", file, "--dry-run")
    assert done.status == 65
    assert "write YYYY-MM-DD or M/D/YYYY" in done.err


def write(operator: Operator, text: str) -> str:
    path = operator.database.with_name("c.csv")
    path.write_text(text)
    return str(path)


def test_consent_is_kept_with_its_source(operator: Operator) -> None:
    header = "phone_number,customer_name,message_content,consent_at,consent_source\n"
    rows = "2135552313,Ana,Hi,1/2/2025,shop\n2135552314,Ben,Hi,,web\n"
    assert operator.run("schedule", write(operator, header + rows), "--yes").status == 0
    assert operator.sql("SELECT consent_at, consent_source FROM scheduled_messages") == [
        ("2025-01-02", "shop"), ("", "web"),
    ]  # fmt: skip


def test_preview_warns_of_first_messages_without_sender_or_way_to_stop(operator: Operator) -> None:
    operator.config.write_text(
        operator.config.read_text() + '[replies]\nsender_name = "Café Sol"\n'
    )
    operator.insert(phone_number=BEN, status="sent", sent_at="2025-01-01 00:00:00")
    file = write(operator, "phone_number,customer_name,message_content\n"
                           f"{ANA},Ana,Cafe Sol: hello\n{BEN},Ben,Hello\n{ANA},Ana,Again\n"
                           "2135552317,Cy,Hi! Text STOP to end\n"
                           "2135552318,Di,Café Sol. Envíe ALTO para no recibir\n"
                           "2135552319,Eve,CAFÉ SOL: répondez ARRÊT\n")  # fmt: skip
    out = operator.run("schedule", file, "--dry-run").out
    warned = " ".join(out.split())
    assert "no way to stop is named in 1 first message to a number: row 2" in warned
    assert 'the sender "Café Sol" is not named in 1 first message to a number: row 5' in warned
    assert warned.count("first message") == 2


# --- all that is known of a person


def test_show_of_a_number_is_everything_that_is_known_of_it(operator: Operator) -> None:
    lay_person(operator)
    other = operator.insert(phone_number=BEN, message_content="not hers")
    out = operator.run("show", ANA).out
    for words in ("consent 2025-01-02 shop", "secret words", "reference 77", "secret reply",
                  "secret goodbye", "gets nothing any more", "sql: added"):  # fmt: skip
        assert words in out
    assert "not hers" not in out
    value = operator.run("show", ANA, "--json").value
    assert value["own_texts"][0]["kind"] == "confirmation"
    assert value["replies"][0]["body"] == value["opt_out"]["words"] == "secret reply"
    assert operator.run("show", str(other), "--json").value["own_texts"] == []


def test_forgotten_person_leaves_counts_times_and_the_opt_out(operator: Operator) -> None:
    row = lay_person(operator)
    due = operator.insert(message_content="secret plan", customer_name="Secret")
    kept = operator.insert(phone_number=BEN, message_content="Ben's")
    assert operator.run("forget", ANA, terminal=Keyboard("no\n")).status == 1
    assert "secret" in str(everything(operator))
    assert operator.run("forget", "(213) 555-2313", "--yes").status == 0
    assert [row for row in everything(operator) if "secret" in str(row).lower()] == []
    assert b"secret plan" not in operator.database.read_bytes()
    assert b"secret reply" not in operator.database.read_bytes()
    assert operator.row(row, "status, sent_at, delivery") == (
        "sent", "2025-11-09 18:00:00", "delivered",
    )  # fmt: skip
    assert operator.row(due, "status") == ("cancelled",)
    assert operator.row(kept, "message_content, status") == ("Ben's", "scheduled")
    assert operator.sql("SELECT phone_number, at FROM opt_outs") == [(ANA, "2025-11-09 18:00:00")]
    assert len(operator.run("inbox", "--json").value) == 1
    assert operator.sql("SELECT detail FROM events WHERE event = 'forgotten'") == [(ANA,)]


def test_nobody_is_forgotten_while_a_message_to_them_is_under_way(operator: Operator) -> None:
    row = operator.insert(message_content="one [BUBBLE] two")
    operator.insert_bubble(row, "sent", "sent")
    operator.insert_bubble(row, "queued", "", bubble=2)
    assert "under way" in operator.sentence("forget", ANA, "--yes", status=75)
    assert operator.row(row, "message_content, status") == ("one [BUBBLE] two", "scheduled")


def test_forgetting_an_unknown_number_says_so(operator: Operator) -> None:
    assert "nothing is known" in operator.sentence("forget", BEN, "--yes", status=2)
    assert "12" in operator.sentence("forget", "12", "--yes", status=2)
    assert json.dumps(operator.statuses()) == "[]"
