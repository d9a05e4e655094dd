"""Simulated modem: bytes in, bytes out, as a modem in PDU mode answers."""

from __future__ import annotations

import threading
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

import smsbox
from rig.tpdus import encode_deliver
from smsbox import SimulatedModem

TO = "+12135552313"
OK = b"\r\nOK\r\n"
REFUSED = b"\r\n+CMS ERROR: 304\r\n"
((PDU, OCTETS),) = smsbox.encode_submit("Hello", TO)
DELIVER = encode_deliver("Stop", TO, datetime(2025, 11, 9, 18, tzinfo=timezone.utc))


@pytest.fixture
def far() -> SimulatedModem:
    """A modem whose echo is off."""
    modem = SimulatedModem()
    modem.feed(b"ATE0\r")
    return modem


def hand_over(modem: SimulatedModem, pdu: str, octets: int, end: bytes = b"\x1a") -> bytes:
    """Announce a text, see the prompt, give the text."""
    assert modem.feed(f"AT+CMGS={octets}\r".encode()) == b"\r\n> "
    return modem.feed(pdu.encode() + end)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("AT", ""),
        ("at", ""),
        ("AT+CMGF=0", ""),
        ("AT+ANYTHING=1", ""),
        ("AT+CPIN?", "+CPIN: READY"),
        ("AT+CREG?", "+CREG: 0,1"),
        ("at+csq", "+CSQ: 21,99"),
        ('AT+CPMS="SM"', "+CPMS: 0,50,0,50,0,50"),
        ("AT+CGMM", "SIM7600"),
    ],
)
def test_command_is_answered_with_its_line_and_ok(
    far: SimulatedModem, command: str, answer: str
) -> None:
    line = f"\r\n{answer}\r\n".encode() if answer else b""
    assert far.feed(command.encode() + b"\r") == line + OK


@pytest.mark.parametrize("noise", [b"", b"\r", b"\n", b"\x1b", b"garbage\r", b"  \r"])
def test_what_is_no_command_is_not_answered(far: SimulatedModem, noise: bytes) -> None:
    assert far.feed(noise) == b""
    assert far.feed(b"\rAT\r") == OK


def test_echo_comes_before_the_answer_until_it_is_switched_off() -> None:
    modem = SimulatedModem()
    assert modem.feed(b"AT\r") == b"AT\r" + OK
    assert modem.feed(b"ATE0\r").endswith(OK)
    assert modem.feed(b"AT\r") == OK
    modem.feed(b"ATE1\r")
    assert modem.feed(b"AT+CMGS=5\r") == b"AT+CMGS=5\r\r\n> "


def test_text_is_accepted_after_ctrl_z_alone_with_the_next_reference(far: SimulatedModem) -> None:
    assert far.feed(f"AT+CMGS={OCTETS}\r".encode()) == b"\r\n> "
    assert far.feed(PDU.encode()) == b""
    assert far.accepted == []
    assert far.feed(b"\x1a") == b"\r\n+CMGS: 1\r\n" + OK
    assert hand_over(far, PDU, OCTETS) == b"\r\n+CMGS: 2\r\n" + OK
    assert far.accepted == [PDU, PDU]


def test_reference_is_one_octet(far: SimulatedModem) -> None:
    answers = [hand_over(far, PDU, OCTETS) for _ in range(257)]
    assert answers[254:] == [f"\r\n+CMGS: {n}\r\n".encode() + OK for n in (255, 0, 1)]


def test_network_is_told_of_each_text_that_was_accepted() -> None:
    taken: list[smsbox.Tpdu] = []
    modem = SimulatedModem(taken.append)
    hand_over_echoing = modem.feed(f"AT+CMGS={OCTETS}\r".encode())
    assert hand_over_echoing.endswith(b"> ")
    modem.feed(PDU.encode() + b"\x1a")
    modem.feed(f"AT+CMGS={OCTETS + 1}\r".encode() + PDU.encode() + b"\x1a")
    assert [(each.number, each.text) for each in taken] == [(TO, "Hello")]


@pytest.mark.parametrize(
    ("pdu", "octets"),
    [(PDU, OCTETS + 1), (PDU, OCTETS - 1), (PDU[:-2], OCTETS), (PDU + "00", OCTETS), ("", 0),
     ("zz", 1), (DELIVER, len(DELIVER) // 2 - 1), (PDU[2:], OCTETS)],
)  # fmt: skip
def test_text_of_another_length_or_kind_is_refused_with_cms_304(
    far: SimulatedModem, pdu: str, octets: int
) -> None:
    assert hand_over(far, pdu, octets) == REFUSED
    assert far.accepted == []
    assert hand_over(far, PDU, OCTETS) == b"\r\n+CMGS: 1\r\n" + OK


def test_escape_leaves_the_prompt_and_sends_nothing(far: SimulatedModem) -> None:
    assert hand_over(far, PDU, OCTETS, end=b"\x1b") == OK
    assert far.accepted == []
    assert far.feed(b"AT\r") == OK
    assert hand_over(far, PDU, OCTETS) == b"\r\n+CMGS: 1\r\n" + OK


def test_command_at_a_prompt_is_text(far: SimulatedModem) -> None:
    assert hand_over(far, "AT\r", OCTETS) == REFUSED
    assert hand_over(far, PDU + "\r", OCTETS) == b"\r\n+CMGS: 1\r\n" + OK


def test_stored_texts_are_announced_listed_and_deleted(far: SimulatedModem) -> None:
    octets = len(DELIVER) // 2 - 1
    assert far.receive(DELIVER) == b'\r\n+CMTI: "SM",0\r\n'
    assert far.receive(DELIVER) == b'\r\n+CMTI: "SM",1\r\n'
    listed = "".join(f"\r\n+CMGL: {place},0,,{octets}\r\n{DELIVER}" for place in (0, 1))
    assert far.feed(b"AT+CMGL=4\r") == listed.encode() + b"\r\n" + OK
    assert far.feed(b'AT+CPMS="SM"\r').startswith(b"\r\n+CPMS: 2,")
    assert far.feed(b"AT+CMGD=0\r") == OK
    assert far.stored == {1: DELIVER}
    assert far.feed(b"AT+CMGD=0\r") == OK  # once more does no harm
    assert far.receive(DELIVER) == b'\r\n+CMTI: "SM",2\r\n'
    far.feed(b"AT+CMGD=1\rAT+CMGD=2\r")
    assert far.feed(b"AT+CMGL=4\r") == b"\r\n" + OK


@given(st.data())
def test_answers_do_not_depend_on_how_the_bytes_are_cut(data: st.DataObject) -> None:
    said = b"AT\rATE0\rAT+CSQ\r" + f"AT+CMGS={OCTETS}\r{PDU}\x1aAT+CMGL=4\r".encode()
    whole, cut = SimulatedModem(), SimulatedModem()
    answers = b""
    left = said
    while left:
        length = data.draw(st.integers(1, len(left)))
        answers += cut.feed(left[:length])
        left = left[length:]
    assert answers == whole.feed(said)
    assert b"+CMGS: 1" in answers


@given(st.binary(max_size=60))
def test_no_bytes_break_it_and_none_of_noise_is_sent(noise: bytes) -> None:
    modem = SimulatedModem()
    modem.feed(noise)
    modem.feed(b"\x1b\rATE0\r")
    assert modem.feed(b"AT\r").endswith(OK)
    assert modem.accepted == []


def test_texts_in_several_segments_come_out_as_they_were_given(far: SimulatedModem) -> None:
    text = "Grüße 🎉 " * 30
    for pdu, octets in smsbox.encode_submit(text, TO):
        assert b"+CMGS: " in hand_over(far, pdu, octets)
    taken = [smsbox.decode_tpdu(pdu, "out") for pdu in far.accepted]
    assert "".join(each.text or "" for each in taken) == text
    assert [each.concatenation and each.concatenation[1:] for each in taken] == [
        (len(taken), place) for place in range(1, len(taken) + 1)
    ]


def test_modem_behind_a_socket_ends_with_the_near_end() -> None:
    before = set(threading.enumerate())
    port = smsbox.SocketPort("sim:", smsbox.open_simulated_port())
    (modem,) = set(threading.enumerate()) - before
    port.write(b"ATE0\r")
    assert smsbox.Waiting().until(smsbox.Waiting().monotonic() + 10, port)
    assert port.read().endswith(OK)
    assert modem.is_alive()
    port.close()
    modem.join(10)
    assert not modem.is_alive()
