"""The journal: the day in a few lines, and at -p warning only what needs a person."""

from __future__ import annotations

import logging

import pytest

from rig.people import ANA, BEN
from rig.played import PlayedBox
from rig.tpdus import encode_deliver

REFUSED_FOR_NOW, REFUSED_FOR_GOOD = b"\r\n+CMS ERROR: 42\r\n", b"\r\n+CMS ERROR: 1\r\n"


@pytest.fixture
def box(box: PlayedBox, caplog: pytest.LogCaptureFixture) -> PlayedBox:
    caplog.set_level(logging.INFO)
    return box


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= level]


def test_day_is_told_in_a_few_lines_and_needs_nobody(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    box.insert(ANA, "one [BUBBLE] two")
    box.insert(BEN, "three", 300)
    box.insert(BEN, "tomorrow", 86_400)
    pdu = encode_deliver("Thanks!", ANA, box.play.now())

    def reply() -> None:
        box.far.said += box.far.modem.receive(pdu)

    box.after(60, reply)
    box.serve(23 * 3600)
    told = lines(caplog)
    assert len(told) == 11  # start, modem 2, clock, 3 bubbles, reply, copy, the day's end, a stop
    (end,) = [each for each in told if each.startswith("the day's end")]
    assert end == (
        "the day's end: sent=2 failed=0 unconfirmed=0 replies=1 opt-outs=0; scheduled=1 held=0"
        " next=Mon Nov 10 10:00"
    )
    assert lines(caplog, logging.WARNING) == []
    assert ANA not in caplog.text
    assert "Thanks" not in caplog.text


def test_idle_week_is_a_line_a_day(box: PlayedBox, caplog: pytest.LogCaptureFixture) -> None:
    box.tables["service"] = {"poll_seconds": 60}
    box.serve(7 * 86_400)
    ends = [each for each in lines(caplog) if each.startswith("the day's end: sent=0")]
    assert len(ends) == 7
    assert len(lines(caplog)) < 7 + 8


def test_what_heals_by_itself_needs_nobody(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    box.insert(ANA, "one")
    box.far.script.append(REFUSED_FOR_NOW)
    box.after(120, lambda: setattr(box.far, "gone", True))
    box.after(200, lambda: setattr(box.far, "gone", False))
    box.serve(900)
    assert box.texts() == ["one"]
    assert any("congestion" in each for each in lines(caplog))
    assert lines(caplog, logging.WARNING) == []


def test_lasting_fault_of_the_modem_is_told_once_and_again_the_next_time(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    for hour in (1, 3):
        box.after(hour * 3600, lambda: setattr(box.far, "gone", True))
        box.after(hour * 3600 + 1800, lambda: setattr(box.far, "gone", False))
    box.serve(5 * 3600)
    warned = lines(caplog, logging.WARNING)
    assert warned == ["modem: for 5 minutes: no modem is plugged in (sim:)"] * 2


def test_message_that_failed_is_told_by_its_number_of_row(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    row = box.insert(ANA, "one")
    box.far.script.append(REFUSED_FOR_GOOD)
    box.serve(60)
    (warned,) = lines(caplog, logging.WARNING)
    assert warned.startswith(f"failed message={row}: CMS 1 ")


def test_sim_that_needs_a_person_is_told_at_once(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    box.far.answers[b"AT+CPIN?\r"] = b"\r\n+CPIN: SIM PUK\r\n\r\nOK\r\n"
    box.serve(60)
    (warned,) = lines(caplog, logging.WARNING)
    assert "PUK" in warned


def test_day_that_the_clock_left_out_is_told_once(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    box.tables["service"] = {"poll_seconds": 60}
    box.after(3600, lambda: box.play.step(2 * 86_400))
    box.after(7200, lambda: box.play.step(-2 * 86_400))
    box.serve(11 * 3600)
    ends = [each for each in lines(caplog) if each.startswith("the day's end")]
    assert len(ends) == 2  # of the day that was jumped out of, and of the one that came back


def test_time_that_is_not_known_is_told_at_once_and_as_a_warning_when_it_lasts(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    box.evidence = ""
    box.serve(240)
    (told,) = [each for each in lines(caplog) if "clock" in each]
    assert told == "the clock is not trusted yet: nobody vouches for it; nothing is sent before"
    assert lines(caplog, logging.WARNING) == []
    box.serve(3600)
    warned = ["the clock is not trusted: nobody vouches for it; see smsbox status"]
    assert lines(caplog, logging.WARNING) == warned
