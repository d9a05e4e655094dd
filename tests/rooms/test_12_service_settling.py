"""Service: after a lost answer nobody knows, until it comes late or a delivery report tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

import smsbox
from rig.people import ANA, BEN, CHLOE, LONG
from rig.played import SILENCE, PlayedBox, segments_of
from rig.pty_modem import Taken, rejoin
from smsbox import Delivery, MessageId

NO_RESULT_S = 180  # the default send_timeout_seconds and half of it more
NO_RESULT = "the modem gave no result"
TEXT = f"{LONG} [BUBBLE] two"
PLACES = ("bubble 1 of 2, segment 1 of 3", "bubble 1 of 2, segment 2 of 3",
          "bubble 1 of 2, segment 3 of 3", "bubble 2 of 2, segment 1 of 1")  # fmt: skip


@pytest.fixture
def box(box: PlayedBox) -> Iterator[PlayedBox]:
    """A box that has sent one text before, and never asks the SIM what it counted."""
    box.insert(BEN, "before")
    box.serve(600)  # the pace of that one has passed
    yield box
    assert not [line for line in box.far.heard if line.startswith(b"AT+CRSM")]


def lose_answer(box: PlayedBox) -> None:
    """The network has the text, and its +CMGS never comes."""
    box.far.said = b""


def lose(box: PlayedBox, segment: int, act: Callable[[], object] | None = None) -> None:
    """Lose the answer to this segment, counted from 0, of those to come."""
    box.far.script.extend([None] * segment)
    box.far.script.append(act or (lambda: lose_answer(box)))


def say(box: PlayedBox, words: bytes) -> None:
    box.far.said += words


def lose_and_answer_late(
    box: PlayedBox, segment: int, before: Callable[[], object] = lambda: None
) -> None:
    """Let its answer come a second after its time; before: what happens half a second earlier."""

    def late() -> None:
        reference = box.far.modem.reference
        lose_answer(box)
        words = b"\r\n+CMGS: %d\r\n\r\nOK\r\n" % reference
        box.after(NO_RESULT_S + 0.5, before)
        box.after(NO_RESULT_S + 1, lambda: say(box, words))

    lose(box, segment, late)


def segments(box: PlayedBox, row_id: int, column: str = "status") -> list[object]:
    found = box.sql(
        f"SELECT g.{column} FROM segments g JOIN messages m ON m.id = g.message_id"
        " WHERE m.scheduled_message_id = ? ORDER BY m.bubble, g.sequence",
        row_id,
    )
    return [each[0] for each in found]


def retry(box: PlayedBox, row_id: int, anyway: bool = False) -> bool:
    done = box.database.queue.retry([MessageId(row_id)], anyway, box.play.now(), "ana")
    return done == [row_id]


def arrived(box: PlayedBox, number: str) -> list[tuple[str, bool]]:
    """What that phone shows, joined: each text, and whether it is whole."""
    taken = rejoin(Taken(0.0, pdu) for pdu in box.far.modem.accepted)
    return [(each.text, each.whole) for each in taken if each.number == number]


# --- nobody knows


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("segment", range(4))
def test_lost_answer_ends_the_message_at_once_and_it_waits_for_the_operator(
    box: PlayedBox, segment: int, taken: bool
) -> None:
    row, other = box.insert(ANA, TEXT), box.insert(BEN, "other", in_s=600)
    box.far.script.extend([None] * segment)
    box.far.script.append((lambda: lose_answer(box)) if taken else SILENCE)
    box.serve(NO_RESULT_S + 60)
    assert box.row(row) == ("failed", f"may have been sent: {PLACES[segment]}: {NO_RESULT}")
    assert segments(box, row) == ["sent"] * segment + ["unconfirmed"]
    second = "unconfirmed" if segment == 3 else "cancelled"
    assert box.bubbles(row) == ["sent" if segment == 3 else "unconfirmed", second]
    assert not retry(box, row)
    box.serve(86_400)
    assert box.row(row)[0] == "failed"
    assert box.row(other) == ("sent", None)
    assert box.texts() == ["before", *segments_of(ANA, TEXT)[: segment + taken], "other"]


def replug(box: PlayedBox) -> None:
    box.far.gone = True
    box.after(30, lambda: setattr(box.far, "gone", False))


def swap_sim(box: PlayedBox) -> None:
    box.far.answers[b"AT+CCID\r"] = b"\r\n+CCID: 8901260000000004242\r\n\r\nOK\r\n"
    replug(box)


def start_anew(box: PlayedBox) -> None:
    say(box, b"\r\nRDY\r\n")


BEFALLS = pytest.mark.parametrize("befalls", [replug, swap_sim, start_anew])


@BEFALLS
@pytest.mark.parametrize("taken", [True, False])
def test_modem_that_went_away_or_started_anew_with_a_segment_proves_nothing(
    box: PlayedBox, befalls: Callable[[PlayedBox], None], taken: bool
) -> None:
    row = box.insert(ANA, "one [BUBBLE] two")

    def act() -> None:
        lose_answer(box)
        if not taken:
            del box.far.arrived[1:]  # it was lost with the modem
        befalls(box)

    lose(box, 0, act)
    box.serve(3600)
    assert box.bubbles(row) == ["unconfirmed", "cancelled"]
    status, words = box.row(row)
    assert status == "failed"
    assert words.startswith("may have been sent: bubble 1 of 2, segment 1 of 1: ")
    assert box.texts() == ["before", "one"][: 1 + taken]


@pytest.mark.parametrize("word", [b"\r\n*ATREADY: 1\r\n", b"\r\nNORMAL POWER DOWN\r\n"])
def test_word_of_a_start_in_the_place_of_the_answer_proves_nothing(
    box: PlayedBox, word: bytes
) -> None:
    row = box.insert(ANA, "one")
    box.far.script.append(word)
    box.serve(600)
    assert box.row(row)[0] == "failed"
    assert segments(box, row) == ["unconfirmed"]
    assert box.texts() == ["before"]


def test_modem_that_blames_itself_in_time_is_tried_again(box: PlayedBox) -> None:
    row = box.insert(ANA, "one")
    box.far.script.append(b"\r\n+CMS ERROR: 500\r\n")
    box.serve(3600)
    assert box.row(row) == ("sent", None)
    assert box.texts() == ["before", "one"]


class Cut(BaseException):
    pass


@pytest.mark.parametrize("taken", [True, False])
def test_segment_with_the_modem_at_a_crash_is_unconfirmed_before_anything_else_is_sent(
    box: PlayedBox, taken: bool
) -> None:
    row, other = box.insert(ANA, "one [BUBBLE] two"), box.insert(BEN, "three", in_s=400)
    seen: list[tuple[list[object], str]] = []

    def cut() -> None:
        raise Cut

    def look() -> None:
        seen.append((segments(box, row), box.row(row)[0]))

    box.far.script.extend([cut, look])
    with pytest.raises(Cut):
        box.serve(120)
    box.far.said = b""
    if not taken:
        box.far.arrived.pop()
    assert segments(box, row) == ["sending"]
    box.serve(1200)
    assert seen == [(["unconfirmed"], "failed")]
    words = "bubble 1 of 2, segment 1 of 1: smsbox stopped while the modem had it"
    assert box.row(row) == ("failed", f"may have been sent: {words}")
    assert box.row(other)[0] == "sent"
    assert box.texts() == ["before", *["one"][:taken], "three"]
    assert not retry(box, row)


def test_text_of_the_box_itself_whose_answer_is_lost_is_not_sent_again(box: PlayedBox) -> None:
    with box.database.transaction():
        box.database.sending.add_answer("alert", ANA, "smsbox: look", box.play.now())
    lose(box, 0)
    box.serve(3600)
    assert box.sql("SELECT status FROM messages WHERE kind = 'alert'") == [("unconfirmed",)]
    assert box.texts() == ["before", "smsbox: look"]


# --- three in a row


def serve_losing(box: PlayedBox, *numbers: str) -> list[int]:
    rows = [box.insert(number, f"to {number}", 300 * n) for n, number in enumerate(numbers)]
    for _ in rows:
        lose(box, 0)
    box.serve(300 * len(rows))
    return rows


def test_three_recipients_in_a_row_whose_answers_are_lost_pause_the_box(box: PlayedBox) -> None:
    last = box.insert(BEN, "not while it is paused", in_s=1200)
    rows = serve_losing(box, ANA, BEN, CHLOE)
    because = box.database.state.get("paused_because") or ""
    assert because == f"3 recipients in a row were not reached, the last: {NO_RESULT}"
    assert [box.row(row)[0] for row in rows] == ["failed"] * 3
    box.serve(3600)
    assert box.row(last)[0] == "scheduled"
    assert len(box.texts()) == 1 + 3


def test_lost_answers_of_two_recipients_do_not_pause_the_box(box: PlayedBox) -> None:
    serve_losing(box, ANA, BEN, ANA, BEN)
    assert not box.database.state.get("paused_because")


def test_answer_in_between_ends_the_row_of_lost_ones(box: PlayedBox) -> None:
    serve_losing(box, ANA, BEN)
    box.insert(ANA, "answered")
    box.serve(60)
    serve_losing(box, CHLOE)
    assert not box.database.state.get("paused_because")


# --- its answer comes late


@pytest.mark.parametrize("segment", range(3))
def test_answer_that_comes_late_settles_its_segment_and_retry_goes_on_behind_it(
    box: PlayedBox, segment: int
) -> None:
    row = box.insert(ANA, TEXT)
    lose_and_answer_late(box, segment)
    box.serve(600)
    assert segments(box, row) == ["sent"] * (segment + 1)
    assert segments(box, row, "message_reference") == list(range(2, 3 + segment))
    assert None not in segments(box, row, "answered_at")
    whole = segment == 2  # of the first bubble
    assert box.bubbles(row) == ["sent" if whole else "failed", "cancelled"]
    words = f"{int(whole)} of 2 bubbles were sent: retry goes on behind them"
    assert box.row(row) == ("failed", words)
    box.serve(86_400)
    assert len(box.texts()) == 1 + segment + 1  # nothing goes on by itself
    assert retry(box, row)
    box.serve(600)
    assert box.row(row) == ("sent", None)
    assert box.bubbles(row) == ["sent", "sent"]
    assert box.texts() == ["before", *segments_of(ANA, TEXT)]
    assert arrived(box, ANA) == [(LONG.strip(), True), ("two", True)]


@pytest.mark.parametrize("text", ["one", LONG, TEXT])
def test_late_answer_to_the_last_segment_makes_the_message_sent(box: PlayedBox, text: str) -> None:
    row, count = box.insert(ANA, text), len(segments_of(ANA, text))
    seen: list[str] = []
    lose_and_answer_late(box, count - 1, lambda: seen.append(box.row(row)[0]))
    begun = box.play.now().replace(microsecond=0)
    box.serve(600)
    assert seen == ["failed"]
    assert box.row(row) == ("sent", None)
    assert set(segments(box, row)) == set(box.bubbles(row)) == {"sent"}
    assert box.sql("SELECT count(*) FROM messages WHERE error_message <> ''") == [(0,)]
    sent_at = smsbox.from_database_time(box.row(row, "sent_at")[0])
    assert sent_at - begun >= timedelta(seconds=NO_RESULT_S)  # when it was known
    assert not retry(box, row)
    assert box.texts() == ["before", *segments_of(ANA, text)]


def test_late_answer_is_heard_where_the_port_was_lost_and_opened_again(box: PlayedBox) -> None:
    row = box.insert(ANA, "one")

    def glitch() -> None:
        lose_answer(box)
        box.far.gone = True
        box.after(5, lambda: setattr(box.far, "gone", False))
        box.after(60, lambda: say(box, b"\r\n+CMGS: 2\r\n\r\nOK\r\n"))

    lose(box, 0, glitch)
    box.serve(600)
    assert box.row(row) == ("sent", None)
    assert box.texts() == ["before", "one"]


def test_late_answer_is_heard_amid_the_call_to_a_modem_that_is_still_busy(box: PlayedBox) -> None:
    """A modem that hands a text over answers no AT meanwhile; then it says all at once."""
    row, called = box.insert(ANA, "one"), []

    def answer() -> bytes:
        called.append(True)
        busy = len(called) < 3
        return b"" if busy else b"\r\n+CMGS: 2\r\n\r\nOK\r\n\r\nOK\r\n"

    def hang() -> None:
        lose_answer(box)
        box.far.tellers[b"AT\r"] = answer

    lose(box, 0, hang)
    box.after(600, box.far.tellers.clear)
    box.serve(900)
    assert len(called) >= 3
    assert box.row(row) == ("sent", None)


def test_late_answer_that_comes_in_two_pieces_is_heard(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A UART wakes the box at the first byte; the rest comes while it is at work."""
    row = box.insert(ANA, "one")
    pieces: list[bytes] = []
    real = box.far.read

    def read() -> bytes:
        return pieces.pop(0) if pieces else real()

    def begin() -> None:
        pieces.extend([b"\r\n+CM", b"", b"GS: 2\r\n\r\nOK\r\n"])
        say(box, b"\r\n")

    monkeypatch.setattr(box.far, "read", read)
    lose(box, 0)
    box.after(NO_RESULT_S + 60, begin)
    box.serve(600)
    assert box.row(row) == ("sent", None)


def test_late_answer_of_before_is_not_taken_for_that_of_the_next_text_that_is_lost(
    box: PlayedBox,
) -> None:
    first, second = box.insert(ANA, "one"), box.insert(CHLOE, "two", in_s=600)
    lose(box, 0)
    box.far.script.append(SILENCE)
    words = b"\r\n+CMGS: 2\r\n\r\nOK\r\n\r\n> "
    box.after(590, lambda: box.far.prompts.append(words))
    box.serve(1800)
    assert box.texts() == ["before", "one"]
    assert segments(box, second) == ["unconfirmed"]
    assert box.row(second)[0] == "failed"
    assert box.row(first) == ("sent", None)


def test_late_answer_is_heard_where_the_disk_had_refused_to_call_it_unconfirmed(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, real = box.insert(ANA, "one"), smsbox.Database.change
    fails: list[bool] = []

    def change(database: smsbox.Database, sql: str, *given: object, **named: object) -> int:
        if fails:
            raise smsbox.StoreError("the disk is full")
        return real(database, sql, *given, **named)

    monkeypatch.setattr(smsbox.Database, "change", change)
    lose_and_answer_late(box, 0)
    box.after(100, lambda: fails.append(True))
    box.after(400, fails.clear)
    box.serve(900)
    assert box.row(row) == ("sent", None)


def test_late_answer_tells_what_was_reported_of_the_bubble_before(box: PlayedBox) -> None:
    row = box.insert(ANA, "one [BUBBLE] two")
    expired = Delivery.EXPIRED
    lose_and_answer_late(box, 1, lambda: report(box, reference=2, delivery=expired))
    box.serve(600)
    assert box.row(row, "status, delivery") == ("sent", "expired")


def test_late_answer_settles_what_the_box_itself_wrote(box: PlayedBox) -> None:
    with box.database.transaction():
        box.database.sending.add_answer("alert", ANA, "smsbox: look", box.play.now())
    lose_and_answer_late(box, 0)
    box.serve(600)
    assert box.sql("SELECT status FROM messages WHERE kind = 'alert'") == [("sent",)]


def test_late_answer_settles_only_the_last_that_was_lost_and_only_once(box: PlayedBox) -> None:
    first, last = serve_losing(box, ANA, CHLOE)
    say(box, b"\r\n+CMGS: 3\r\n\r\nOK\r\n")  # another life does not know whose it is
    box.serve(60)
    assert [box.row(row)[0] for row in (first, last)] == ["failed", "failed"]
    second = box.insert(ANA, "one")
    lose(box, 0)
    box.after(300, lambda: say(box, b"\r\n+CMGS: 4\r\n\r\nOK\r\n"))
    box.after(400, lambda: say(box, b"\r\n+CMGS: 5\r\n\r\nOK\r\n"))
    box.serve(600)
    assert box.row(second) == ("sent", None)
    assert segments(box, second, "message_reference") == [4]
    assert [segments(box, row) for row in (first, last)] == [["unconfirmed"]] * 2


def test_reference_that_comes_unasked_settles_nothing_where_nothing_was_lost(
    box: PlayedBox,
) -> None:
    row = box.insert(ANA, "one [BUBBLE] two")
    box.far.script.append(b"\r\n+CMS ERROR: 1\r\n")
    box.after(60, lambda: say(box, b"\r\n+CMGS: 9\r\n\r\nOK\r\n"))
    box.serve(600)
    assert box.row(row)[0] == "failed"
    assert segments(box, row) == ["failed"]


def test_late_answer_after_the_operator_s_word_changes_nothing_more(box: PlayedBox) -> None:
    row = box.insert(ANA, "one")
    lose(box, 0)
    box.after(300, lambda: retry(box, row, anyway=True))
    box.after(500, lambda: say(box, b"\r\n+CMGS: 2\r\n\r\nOK\r\n"))
    box.serve(900)
    assert box.row(row) == ("sent", None)
    assert segments(box, row, "message_reference") == [3]
    assert box.texts() == ["before", "one", "one"]


# --- a delivery report tells


def report(
    box: PlayedBox, number: str = ANA, reference: int = 2, apart_s: float = 0,
    delivery: Delivery = Delivery.DELIVERED,
) -> bool:  # fmt: skip
    """A report comes of what was handed over so long before the last segment; was it matched?"""
    ((submitted,),) = box.sql("SELECT max(submitted_at) FROM segments")
    at = smsbox.from_database_time(submitted) - timedelta(seconds=apart_s)
    inbox, now = smsbox.Inbox(box.database), box.play.now()
    told = smsbox.Report(number, reference, delivery, "", at, now)
    inbox.add_report(f"{number} {apart_s}", told, now)
    return inbox.match_reports(now) == 1


@pytest.mark.parametrize("apart_s", [0, 600, -600])
@pytest.mark.parametrize("reference", [2, 77])  # nobody knows which it has
def test_report_from_that_time_settles_an_unconfirmed_segment(
    box: PlayedBox, apart_s: float, reference: int
) -> None:
    row = box.insert(ANA, "one")
    lose(box, 0)
    box.serve(600)
    assert box.row(row)[0] == "failed"
    assert report(box, apart_s=apart_s, reference=reference)
    assert segments(box, row) == box.bubbles(row) == ["sent"]
    assert segments(box, row, "message_reference") == [reference]
    assert box.row(row) == ("sent", None)
    assert box.row(row, "delivery") == ("delivered",)


@pytest.mark.parametrize("delivery", [each for each in Delivery if each != "delivered"])
def test_report_that_it_was_not_delivered_says_that_the_network_has_had_it(
    box: PlayedBox, delivery: Delivery
) -> None:
    row = box.insert(ANA, "one")
    lose(box, 0)
    box.serve(600)
    assert report(box, delivery=delivery)
    assert segments(box, row) == box.bubbles(row) == ["sent"]
    over = delivery in (Delivery.EXPIRED, Delivery.FAILED)
    assert box.row(row, "status, delivery") == ("sent", delivery.value if over else None)


def test_report_is_of_what_was_lost_now_though_a_text_of_yesterday_had_its_reference(
    box: PlayedBox,
) -> None:
    box.insert(ANA, "yesterday's")
    box.serve(60)
    box.far.modem.reference = 1  # 255 segments later, or a modem that gives all the same one
    row = box.insert(ANA, "one", in_s=86_400)
    lose(box, 0)
    box.serve(87_000)
    assert box.row(row)[0] == "failed"
    assert report(box, reference=2)
    assert box.row(row) == ("sent", None)


@pytest.mark.parametrize("apart_s", [1200, -1200, 86_400])
def test_report_of_another_time_settles_nothing(box: PlayedBox, apart_s: float) -> None:
    row = box.insert(ANA, "one")
    lose(box, 0)
    box.serve(600)
    assert not report(box, apart_s=apart_s)
    assert segments(box, row) == box.bubbles(row) == ["unconfirmed"]
    assert box.row(row)[0] == "failed"


def test_report_of_another_recipient_settles_nothing(box: PlayedBox) -> None:
    row = box.insert(ANA, "one")
    lose(box, 0)
    box.serve(600)
    assert not report(box, number=CHLOE)
    assert segments(box, row) == ["unconfirmed"]


def test_report_of_a_segment_that_was_answered_does_not_settle_the_one_behind_it(
    box: PlayedBox,
) -> None:
    row = box.insert(ANA, TEXT)
    lose(box, 1)
    box.serve(600)
    for _ in range(2):
        report(box, reference=2)
        assert segments(box, row) == ["sent", "unconfirmed"]
        assert box.row(row)[0] == "failed"
    assert report(box, reference=3, apart_s=1)
    assert segments(box, row) == ["sent", "sent"]


@pytest.mark.parametrize("crashed", [True, False])
@pytest.mark.parametrize("segment", range(3))
def test_report_lets_retry_go_on_behind_its_segment_in_any_life(
    box: PlayedBox, segment: int, crashed: bool
) -> None:
    row = box.insert(ANA, TEXT)

    def cut() -> None:
        raise Cut

    lose(box, segment, cut if crashed else None)
    if crashed:
        with pytest.raises(Cut):
            box.serve(600)
        box.far.said = b""
    box.serve(600)
    assert segments(box, row) == ["sent"] * segment + ["unconfirmed"]
    assert report(box, reference=2 + segment)
    assert segments(box, row) == ["sent"] * (segment + 1)
    words = f"{int(segment == 2)} of 2 bubbles were sent: retry goes on behind them"
    assert box.row(row) == ("failed", words)
    assert retry(box, row)
    box.serve(600)
    assert box.row(row) == ("sent", None)
    assert arrived(box, ANA) == [(LONG.strip(), True), ("two", True)]
    assert box.texts() == ["before", *segments_of(ANA, TEXT)]
