"""Service: what became of a segment whose answer was not seen, told by the SIM."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

import smsbox
from rig.people import ANA, BEN, LONG
from rig.played import CRSM, SILENCE, PlayedBox


@pytest.fixture
def box(box: PlayedBox) -> PlayedBox:
    """A box on whose SIM one segment was answered before."""
    box.insert(BEN, "before")
    box.serve(60)
    return box


def lose_answer(box: PlayedBox, sim_says: int | None = None) -> None:
    box.far.said = b""
    if sim_says is not None:
        told(box, sim_says)


def told(box: PlayedBox, reference: int) -> None:
    """The SIM says so from now on."""
    answer = f'\r\n+CRSM: 144,0,"{reference:02X}FF"\r\n\r\nOK\r\n'.encode()
    box.far.answers[CRSM] = answer


def segments(box: PlayedBox, row_id: int) -> list[str]:
    found = box.sql(
        "SELECT g.status FROM segments g JOIN messages m ON m.id = g.message_id"
        " WHERE m.scheduled_message_id = ? ORDER BY m.bubble, g.sequence",
        row_id,
    )
    return [each[0] for each in found]


def test_segment_that_the_sim_calls_handed_over_lets_its_message_go_on(box: PlayedBox) -> None:
    row = box.insert(ANA, f"{LONG} [BUBBLE] two")
    box.far.script.extend([None, lambda: lose_answer(box)])
    box.serve(600)
    assert segments(box, row) == ["sent", "unconfirmed", "sent", "sent"]
    assert len(box.far.arrived) == 1 + 4
    status, note = box.row(row)
    assert status == "sent"
    assert note.startswith("bubble 1, segment 2 of 3: the modem gave no result")
    assert "the SIM says it was handed over" in note


def test_segment_that_the_sim_calls_not_submitted_is_sent_after_ten_seconds(box: PlayedBox) -> None:
    row = box.insert(ANA, "one")
    box.far.script.append(SILENCE)
    box.serve(600)
    assert box.row(row) == ("sent", None)
    assert box.texts() == ["before", "one"]
    *_, first, second = (
        place for place, line in enumerate(box.far.heard) if line.endswith(b"\x1a")
    )  # fmt: skip
    assert box.far.heard[first:second].count(CRSM) >= 2


@pytest.mark.parametrize("moved_by", [2, 3, 255])
def test_reference_that_moved_otherwise_proves_nothing(box: PlayedBox, moved_by: int) -> None:
    row = box.insert(ANA, "one [BUBBLE] two")
    box.far.script.append(lambda: lose_answer(box, (1 + moved_by) % 256))
    box.serve(600)
    assert box.bubbles(row) == ["unconfirmed", "cancelled"]
    assert box.row(row)[0] == "failed"
    assert "may have been sent" in box.row(row)[1]


def test_modem_that_blames_itself_after_the_sim_has_counted_is_not_believed(box: PlayedBox) -> None:
    row = box.insert(ANA, "one [BUBBLE] two")

    def refuse() -> None:
        told(box, 2)
        box.far.said = b"\r\n+CMS ERROR: 500\r\n"

    box.far.script.append(refuse)
    box.serve(3600)
    assert box.bubbles(row) == ["unconfirmed", "cancelled"]
    status, words = box.row(row)
    assert status == "failed"
    assert "CMS 500 unknown error, yet the SIM has counted it" in words
    assert box.texts() == ["before", "one"]


def test_modem_that_blames_itself_is_tried_again_where_the_sim_has_not_counted(
    box: PlayedBox,
) -> None:
    row = box.insert(ANA, "one")
    box.far.script.append(b"\r\n+CMS ERROR: 500\r\n")
    box.serve(3600)
    assert box.row(row) == ("sent", None)
    assert box.texts() == ["before", "one"]


def test_reference_that_can_not_be_read_any_more_proves_nothing(box: PlayedBox) -> None:
    row = box.insert(ANA, "one")
    box.far.script.append(SILENCE)
    box.far.answers[CRSM] = b"\r\n+CME ERROR: 4\r\n"
    box.serve(600)
    assert box.row(row)[0] == "failed"
    assert box.texts() == ["before"]


@pytest.mark.parametrize(
    "word", [b"\r\nRDY\r\n", b"\r\n*ATREADY: 1\r\n", b"\r\nNORMAL POWER DOWN\r\n"]
)
def test_unchanged_reference_of_a_modem_that_started_anew_proves_nothing(
    box: PlayedBox, word: bytes
) -> None:
    row = box.insert(ANA, "one")
    box.far.script.append(word)
    box.serve(600)
    assert box.row(row)[0] == "failed"
    assert box.texts() == ["before"]


def test_unchanged_reference_of_a_modem_that_was_replugged_proves_nothing(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull() -> None:
        lose_answer(box)
        told(box, 1)
        box.far.gone = True
        monkeypatch.setattr(smsbox, "read_power_mark", lambda port: "another plugging")
        box.after(30, lambda: setattr(box.far, "gone", False))

    row = box.insert(ANA, "one")
    box.far.script.append(pull)
    box.serve(600)
    assert box.row(row)[0] == "failed"
    assert box.texts() == ["before", "one"]  # it was out: sent again it would have been twice


def test_port_that_comes_back_with_the_modem_powered_all_the_while_goes_on(box: PlayedBox) -> None:
    def glitch() -> None:
        lose_answer(box)
        box.far.gone = True
        box.after(5, lambda: setattr(box.far, "gone", False))

    row = box.insert(ANA, "one")
    box.far.script.append(glitch)
    box.serve(600)
    assert segments(box, row) == ["unconfirmed"]
    assert box.row(row)[0] == "sent"
    assert box.texts() == ["before", "one"]


def test_answer_that_comes_late_settles_it(box: PlayedBox) -> None:
    def late() -> None:
        lose_answer(box)
        box.after(181, lambda: setattr(box.far, "said", b"\r\n+CMGS: 2\r\n\r\nOK\r\n"))

    row = box.insert(ANA, "one")
    box.far.script.append(late)
    box.far.answers[CRSM] = b'\r\n+CRSM: 144,0,"01FF"\r\n\r\nOK\r\n'
    box.serve(600)
    assert segments(box, row) == ["sent"]
    assert box.row(row) == ("sent", None)


def test_file_that_did_not_follow_is_never_believed(tmp_path: Path, now: datetime) -> None:
    made = PlayedBox(tmp_path, now)
    told(made, 77)
    made.insert(BEN, "before")
    made.serve(60)
    row = made.insert(ANA, "one")
    made.far.script.append(lambda: lose_answer(made, 2))
    made.serve(600)
    assert made.row(row)[0] == "failed"
    made.hand.close()
    made.database.close()
    for end in made.far._ends:
        end.close()


def test_another_sim_proves_nothing(box: PlayedBox) -> None:
    def swap() -> None:
        lose_answer(box)
        box.far.gone = True
        box.far.answers[b"AT+CCID\r"] = b"\r\n+CCID: 8901260000000004242\r\n\r\nOK\r\n"
        box.database.state.set_key("reference 867584030000017 8901260000000004242", "follows")
        box.after(30, lambda: setattr(box.far, "gone", False))

    row = box.insert(ANA, "one [BUBBLE] two")
    box.far.script.append(swap)
    box.serve(600)
    assert box.row(row)[0] == "failed"


def report_delivered(box: PlayedBox) -> None:
    at, inbox = box.play.now(), smsbox.Inbox(box.database)
    inbox.add_report("hex", smsbox.Report(ANA, 2, smsbox.Delivery.DELIVERED, "", at, at), at)
    assert inbox.match_reports(at) == 1


def test_report_with_its_reference_settles_an_unconfirmed_segment(box: PlayedBox) -> None:
    row = box.insert(ANA, "one")
    box.far.script.append(lambda: lose_answer(box, 9))
    box.serve(600)
    assert box.row(row)[0] == "failed"
    report_delivered(box)
    assert segments(box, row) == ["sent"]
    assert box.bubbles(row) == ["sent"]
    assert box.row(row) == ("sent", None)


def test_report_of_one_bubble_does_not_call_the_rest_sent(box: PlayedBox) -> None:
    row = box.insert(ANA, "one [BUBBLE] two")
    box.far.script.append(lambda: lose_answer(box, 9))
    box.serve(600)
    report_delivered(box)
    assert box.bubbles(row) == ["sent", "cancelled"]
    assert box.row(row)[0] == "failed"
    assert "delivered after all" in box.row(row)[1]


def test_after_a_crash_the_sim_is_asked_before_anything_is_sent(box: PlayedBox) -> None:
    row, other = box.insert(ANA, "one [BUBBLE] two"), box.insert(BEN, "three", in_s=400)

    class Cut(BaseException):
        pass

    def cut() -> None:
        raise Cut

    box.far.script.append(cut)
    with pytest.raises(Cut):
        box.serve(120)
    box.far.said = b""
    assert segments(box, row) == ["sending"]
    begun = len(box.far.heard)
    box.serve(1200)
    after = box.far.heard[begun:]
    assert CRSM in after[: next(n for n, line in enumerate(after) if line.startswith(b"AT+CMGS"))]
    assert box.row(row)[0] == "sent"
    assert box.row(other)[0] == "sent"
    assert box.texts() == ["before", "one", "two", "three"]
    assert box.play.now() - box.far.arrived[2][0] > timedelta(seconds=1)
