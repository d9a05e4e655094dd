"""Coding: text -> segments -> SMS-SUBMIT; SMS-DELIVER and SMS-STATUS-REPORT -> values.

The vectors are derived from 3GPP TS 23.040 (clause 9.2) and TS 23.038, field by field; those under
"other people's vectors" are messages from the test suites of the projects they name. Two other
libraries serve as a second opinion: smspdudecoder (it reads) and python-gsmmodem (it writes).
"""

from __future__ import annotations

import dataclasses
import importlib
import string
import warnings
from datetime import datetime, timedelta, timezone
from io import StringIO
from time import process_time
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smsbox

Direction = Literal["in", "out"]

# TS 23.038 6.2.1: the place of a character is its code. 0x1B is no character but the escape.
ALPHABET = (
    "@£$¥èéùìòÇ\nØø\rÅå"
    "\u0394_\u03a6\u0393\u039b\u03a9\u03a0\u03a8\u03a3\u0398\u039e\x1bÆæßÉ"
    " !\"#¤%&'()*+,-./"
    "0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNO"
    "PQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmno"
    "pqrstuvwxyzäöñüà"
)
ESCAPE = 0x1B
CHARACTERS = ALPHABET.replace("\x1b", "")

# TS 23.038 6.2.1.1, without the page break.
EXTENSION = dict(
    zip("^{}\\[~]|€", (0x14, 0x28, 0x29, 0x2F, 0x3C, 0x3D, 0x3E, 0x40, 0x65), strict=True)
)

ZHE = "\u0436"  # one UCS-2 unit, 0436
SMILE = "\U0001f600"  # two, D83D DE00

TO = "+12135550123"
TO_ADDRESS = (
    "0B"  # 11 digits
    "91"  # international, ISDN
    "2131550521F3"  # 1 2, 1 3, 5 5, 5 0, 1 2, 3 F: swapped
)
STOP = (
    "04"  # TP-UDL, septets
    "53EA130A"  # S 53, T 54, O 4F, P 50: 53|(54<<7), 54>>1|(4F<<6), 4F>>2|(50<<5), 50>>3
)
STOP_UCS2 = (
    "08"  # TP-UDL, octets
    "00530054004F0050"
)
NOON = (
    "421180210000"  # 2024-11-08 12:00:00
    "00"  # +0 quarters of an hour
)

SECOND_OPINION = settings(max_examples=100, deadline=None)
THOROUGH = settings(max_examples=200, deadline=None)


def library(name: str) -> Any:
    """A library that only tests use; only the tests that need it fail where it is absent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own text, where Python compiles it anew
        return importlib.import_module(name)


def decoded_or_refused(pdu: str, direction: Direction) -> Any:
    """The value of a TPDU, None for a ValueError; any other error is a failure."""
    try:
        return smsbox.decode_tpdu(pdu, direction)
    except ValueError:
        return None


def submit_hex(text: str, to: str = TO, **options: Any) -> str:
    """The one SMS-SUBMIT of a text that fits into one."""
    [(pdu, octets)] = smsbox.encode_submit(text, to, **options)
    service_centre_octets = 1 + int(pdu[:2], 16)
    assert octets == len(pdu) // 2 - service_centre_octets
    return pdu


def deliver_hex(
    user_data: str = STOP,
    *,
    smsc: str = "00",
    first_octet: str = "04",  # SMS-DELIVER, no more messages wait
    sender: str = TO_ADDRESS,
    dcs: str = "00",
    time: str = NOON,
) -> str:
    """An SMS-DELIVER; `user_data` begins with the TP-UDL."""
    return smsc + first_octet + sender + "00" + dcs + time + user_data


def report_hex(optional: str = "", *, status: str = "00", first_octet: str = "06") -> str:
    """An SMS-STATUS-REPORT for reference 0x2A, discharged seven seconds after it was sent."""
    return "00" + first_octet + "2A" + TO_ADDRESS + NOON + "42118021007000" + status + optional


@dataclasses.dataclass(frozen=True)
class SubmitFields:
    """What stands in an SMS-SUBMIT, read here without the code under test."""

    first_octet: int
    reference: int
    address: bytes
    dcs: int
    udl: int
    user_data: bytes

    @property
    def header(self) -> bytes:
        return self.user_data[: self.user_data[0] + 1] if self.first_octet & 0x40 else b""

    @property
    def units(self) -> list[int]:
        """The septets or the 16-bit units after the header."""
        body = self.user_data[len(self.header) :]
        if self.dcs == 0x08:
            return [int.from_bytes(body[i : i + 2], "big") for i in range(0, len(body), 2)]
        header_septets = -(-len(self.header) * 8 // 7)
        fill_bits = header_septets * 7 - len(self.header) * 8
        bits = int.from_bytes(body, "little") >> fill_bits
        return [bits >> 7 * i & 0x7F for i in range(self.udl - header_septets)]


def read_submit(pdu: str) -> SubmitFields:
    assert pdu == pdu.upper()
    octets = bytes.fromhex(pdu)
    octets = octets[1 + octets[0] :]
    first_octet, reference, digits = octets[:3]
    assert first_octet & 0x03 == 0x01
    end = 4 + (digits + 1) // 2
    pid, dcs = octets[end : end + 2]
    assert pid == 0
    rest = octets[end + 2 + {0x00: 0, 0x10: 1}[first_octet & 0x18] :]
    return SubmitFields(first_octet, reference, octets[3:end], dcs, rest[0], rest[1:])


# SMS-SUBMIT, literally -----------------------------------------------------------------------


def test_hellohello_is_the_textbook_submit() -> None:
    expected = (
        "00"  # no service centre: the modem takes the SIM's
        "11"  # SMS-SUBMIT, TP-VP present and relative
        "00"  # TP-MR
        "0B91"  # TP-DA: 11 digits, international
        "6407281553F8"  # 46 70 82 51 35 8F, swapped
        "00"  # TP-PID
        "00"  # TP-DCS: GSM 7-bit default alphabet
        "AA"  # TP-VP: 170 - 166 = 4 days
        "0A"  # TP-UDL: 10 septets
        "E8329BFD4697D9EC37"
    )
    # 1 + 1 + 8 + 1 + 1 + 1 + 1 + 9 octets without the service centre's
    four_days = 4 * 24 * 60
    encoded = smsbox.encode_submit("hellohello", "+46708251358", validity_minutes=four_days)
    assert encoded == [(expected, 23)]


def test_submit_without_validity_has_no_validity_period() -> None:
    expected = (
        "00"
        "01"  # SMS-SUBMIT, TP-VPF 00
        "2A"  # TP-MR
        f"{TO_ADDRESS}"
        "0000"
        f"{STOP}"
    )
    assert smsbox.encode_submit("STOP", TO, reference=42) == [(expected, 17)]


def test_status_report_is_requested_by_bit_five() -> None:
    assert submit_hex("STOP", status_report=True) == f"002100{TO_ADDRESS}0000{STOP}"


def test_status_report_and_validity_stand_side_by_side() -> None:
    pdu = submit_hex("STOP", status_report=True, validity_minutes=5)
    assert pdu == f"003100{TO_ADDRESS}000000{STOP}"


def test_status_report_is_requested_of_every_segment() -> None:
    segments = smsbox.encode_submit("a" * 400, TO, status_report=True)
    assert [read_submit(pdu).first_octet for pdu, _ in segments] == [0x61, 0x61, 0x61]


def test_service_centre_stands_before_the_tpdu_and_is_not_counted() -> None:
    expected = (
        "07"  # octets that follow: the type of address and 6 of digits
        "91"
        "2131550501F0"  # 12 13 55 50 10 0F
        f"0100{TO_ADDRESS}0000{STOP}"
    )
    assert smsbox.encode_submit("STOP", TO, smsc="+12135550100") == [(expected, 17)]


def test_national_service_centre_has_its_own_type_of_address() -> None:
    expected = (
        "04"  # the type of address and 3 octets of digits
        "81"
        "2143F5"  # 12 34 5F
        f"0100{TO_ADDRESS}0000{STOP}"
    )
    assert smsbox.encode_submit("STOP", TO, smsc="12345") == [(expected, 17)]


@pytest.mark.parametrize(
    ("number", "address"),
    [
        pytest.param("0801234", "0781801032F4", id="odd: 08 01 23 4F"),
        pytest.param("08012345", "088180103254", id="even: 08 01 23 45"),
        pytest.param("112", "038111F2", id="short code: 11 2F"),
        pytest.param("+4670", "04916407", id="even, international: 46 70"),
        pytest.param("0", "0181F0", id="one digit: 0F"),
        pytest.param("12345678901234567890", "148121436587092143658709", id="twenty digits"),
    ],
)
def test_number_is_swapped_semi_octets_and_their_count(number: str, address: str) -> None:
    assert submit_hex("STOP", number) == f"000100{address}0000{STOP}"


def test_euro_sign_is_an_escape_pair() -> None:
    # 1B, 65: 1B|(65<<7) = 9B, 65>>1 = 32; two septets
    assert submit_hex("€") == f"000100{TO_ADDRESS}0000029B32"


def test_text_outside_the_alphabet_is_ucs2() -> None:
    expected = (
        f"000100{TO_ADDRESS}00"
        "08"  # TP-DCS: UCS-2
        "06"  # TP-UDL: octets
        "2713"  # check mark
        "0020"
        "0041"
    )
    assert submit_hex("\u2713 A") == expected


def test_character_beyond_the_basic_plane_is_a_surrogate_pair() -> None:
    assert submit_hex(SMILE) == f"000100{TO_ADDRESS}000804D83DDE00"


def test_all_127_characters_have_the_code_of_their_place() -> None:
    assert len(CHARACTERS) == 127
    for code, character in enumerate(ALPHABET):
        if code != ESCAPE:
            assert submit_hex(character) == f"000100{TO_ADDRESS}000001{code:02X}", character


def test_all_127_characters_fit_one_segment() -> None:
    # 127 septets, 889 bits, 112 octets: the codes 00 01 02 ... 7F without 1B, packed. A run of
    # eight codes makes seven octets: 80 80 60 40 28 18 0E is 00 to 07.
    packed = (
        "8080604028180E888462C168381E90886442A9582E988C86D3F17C40"
        "21D18854329D5029D58AD572BD6031D98C56B3DD7039DD8ED7F3FD80"
        "41E19058341E9149E592D9743EA151E9945AB55EB159ED96DBF57EC1"
        "61F1985C369FD169F59ADD76BFE171F99C5EB7DFF179FD9EDFF7FF01"
    )
    pdu = submit_hex(CHARACTERS)
    assert pdu == f"000100{TO_ADDRESS}00007F{packed}"
    assert smsbox.decode_tpdu(pdu, "out").text == CHARACTERS


@pytest.mark.parametrize(("character", "code"), EXTENSION.items(), ids=repr)
def test_extension_character_is_the_escape_and_its_code(character: str, code: int) -> None:
    packed = f"{ESCAPE | (code << 7 & 0xFF):02X}{code >> 1:02X}"
    assert submit_hex(character) == f"000100{TO_ADDRESS}000002{packed}"


@pytest.mark.parametrize(
    "character",
    [
        pytest.param("\u00e7", id="small c with cedilla: the alphabet has the capital"),
        pytest.param("`", id="grave accent"),
        pytest.param("\t", id="tab"),
        pytest.param("\u2019", id="curly apostrophe"),
        pytest.param("\u2013", id="en dash"),
        pytest.param("\u00a0", id="no-break space"),
        pytest.param("\u0391", id="Greek Alpha, which only looks like A"),
        pytest.param("\u2126", id="Ohm sign, which only looks like Omega"),
        pytest.param("e\u0301", id="e and a combining accent"),
        pytest.param("\x1b", id="the escape itself"),
        pytest.param("\x00", id="NUL"),
    ],
)
def test_one_character_outside_makes_the_whole_text_ucs2(character: str) -> None:
    text = "a" + character
    assert smsbox.segment_text(text).encoding == "ucs2"
    assert read_submit(submit_hex(text)).user_data == text.encode("utf-16-be")


# Segments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoding", "units"),
    [
        ("a", "gsm7", (1,)),
        ("a" * 160, "gsm7", (160,)),
        ("a" * 161, "gsm7", (153, 8)),
        ("a" * 306, "gsm7", (153, 153)),
        ("a" * 307, "gsm7", (153, 153, 1)),
        ("€" * 80, "gsm7", (160,)),
        ("a" * 158 + "€", "gsm7", (160,)),
        ("a" * 159 + "€", "gsm7", (153, 8)),
        ("a" * 151 + "€" + "a" * 10, "gsm7", (153, 10)),
        ("a" * 152 + "€" + "a" * 10, "gsm7", (152, 12)),
        ("a" * 153 + "€" + "a" * 10, "gsm7", (153, 12)),
        ("€" * 153, "gsm7", (152, 152, 2)),  # 76 pairs a segment, one septet left over
        (ZHE, "ucs2", (1,)),
        (ZHE * 70, "ucs2", (70,)),
        (ZHE * 71, "ucs2", (67, 4)),
        (ZHE * 134, "ucs2", (67, 67)),
        (ZHE * 135, "ucs2", (67, 67, 1)),
        (ZHE + "€" * 69, "ucs2", (70,)),  # one unit each outside the default alphabet
        (SMILE * 35, "ucs2", (70,)),
        (SMILE * 36, "ucs2", (66, 6)),  # 33 pairs a segment, one unit left over
        (ZHE * 68 + SMILE, "ucs2", (70,)),
        (ZHE * 69 + SMILE, "ucs2", (67, 4)),
        (ZHE * 65 + SMILE + ZHE * 5, "ucs2", (67, 5)),
        (ZHE * 66 + SMILE + ZHE * 5, "ucs2", (66, 7)),
        (ZHE * 67 + SMILE + ZHE * 5, "ucs2", (67, 7)),
    ],
    ids=lambda x: f"{len(x)} characters" if isinstance(x, str) and len(x) > 4 else None,
)
def test_segments_are_as_long_as_they_can_be(
    text: str, encoding: str, units: tuple[int, ...]
) -> None:
    segmentation = smsbox.segment_text(text)
    assert segmentation.encoding == encoding
    assert segmentation.encoding.value == encoding
    assert segmentation.units == units
    assert len(smsbox.encode_submit(text, TO)) == len(units)


def test_septets_after_the_header_begin_at_a_septet_boundary() -> None:
    # The header takes 6 octets, 48 bits; the next septet boundary is at 49: one fill bit.
    first = (
        "00"
        "41"  # SMS-SUBMIT, TP-UDHI
        "2A"  # TP-MR, the same in every segment
        f"{TO_ADDRESS}0000"
        "A0"  # TP-UDL: 7 septets of header and fill, 153 of text
        "05"  # octets of header that follow
        "00"  # concatenated short messages, 8-bit reference
        "03"  # of three octets
        "2A"  # reference
        "02"  # segments in all
        "01"  # this one
        "C2"  # fill bit 0, then 'a' 61: 61<<1
    ) + "E170381C0E87C3" * 19  # 8 septets in 7 octets, each shifted by the fill bit
    second = (
        f"00412A{TO_ADDRESS}0000"
        "0F"  # 7 + 8 septets
        "0500032A0202"
        "C2E170381C0E8701"  # the last octet holds the top bit of the eighth 'a'
    )
    # 1 + 1 + 8 + 1 + 1 + 1 octets up to TP-UDL, then 140 and 14 of user data
    assert smsbox.encode_submit("a" * 161, TO, reference=42) == [(first, 153), (second, 27)]


def test_escape_pair_at_the_boundary_moves_to_the_next_segment() -> None:
    first = (
        f"00412A{TO_ADDRESS}0000"
        "9F"  # 7 + 152 septets: the 153rd would have been a lone escape
        "0500032A0201"
        "C2" + "E170381C0E87C3" * 18 + "E170381C0E87"
        "01"  # the top bit of the 152nd 'a'; no room is needed for more
    )
    second = (
        f"00412A{TO_ADDRESS}0000"
        "10"  # 7 + 9 septets
        "0500032A0202"
        "36"  # fill bit, 1B<<1
        "E5"  # 65 and the lowest bit of 'a'
        "70381C0E87C3"
    )
    segments = smsbox.encode_submit("a" * 152 + "€" + "a" * 7, TO, reference=42)
    assert [pdu for pdu, _ in segments] == [first, second]


def test_surrogate_pair_at_the_boundary_moves_to_the_next_segment() -> None:
    first = (
        f"00412A{TO_ADDRESS}0008"
        "8A"  # 6 octets of header, 66 units: the 67th would have been a lone surrogate
        "0500032A0201" + "0436" * 66
    )
    second = (
        f"00412A{TO_ADDRESS}0008"
        "14"  # 6 + 2 * 7 octets; sixteen-bit units need no fill bits
        "0500032A0202"
        "D83DDE00" + "0436" * 5
    )
    segments = smsbox.encode_submit(ZHE * 66 + SMILE + ZHE * 5, TO, reference=42)
    assert [pdu for pdu, _ in segments] == [first, second]


def test_seven_septets_do_not_read_back_as_eight() -> None:
    # 49 bits leave 7 spare ones in 7 octets: TP-UDL alone says that they are no '@'.
    pdu = submit_hex("1234567")
    assert pdu == f"000100{TO_ADDRESS}00000731D98C56B3DD00"
    assert smsbox.decode_tpdu(pdu, "out").text == "1234567"


@pytest.mark.parametrize(("character", "room"), [("a", 153), (ZHE, 67)])
def test_255_segments_are_the_most(character: str, room: int) -> None:
    segments = smsbox.encode_submit(character * room * 255, TO)
    assert len(segments) == 255
    assert read_submit(segments[-1][0]).header == bytes([5, 0, 3, 0, 255, 255])
    with pytest.raises(ValueError):
        smsbox.encode_submit(character * (room * 255 + 1), TO)


# Validity period ------------------------------------------------------------------------------

HOUR = 60
DAY = 24 * HOUR
WEEK = 7 * DAY


@pytest.mark.parametrize(
    ("minutes", "tp_vp"),
    [
        # 0 to 143: (TP-VP + 1) * 5 minutes
        (1, 0),
        (5, 0),
        (6, 1),
        (10, 1),
        (11, 2),
        (12 * HOUR - 5, 142),
        (12 * HOUR - 4, 143),
        (12 * HOUR, 143),
        # 144 to 167: 12 hours + (TP-VP - 143) * 30 minutes
        (12 * HOUR + 1, 144),
        (12 * HOUR + 30, 144),
        (12 * HOUR + 31, 145),
        (23 * HOUR + 30, 166),
        (23 * HOUR + 31, 167),
        (24 * HOUR, 167),
        # 168 to 196: (TP-VP - 166) days
        (24 * HOUR + 1, 168),
        (2 * DAY, 168),
        (2 * DAY + 1, 169),
        (3 * DAY, 169),
        (30 * DAY, 196),
        # 197 to 255: (TP-VP - 192) weeks
        (30 * DAY + 1, 197),
        (5 * WEEK, 197),
        (5 * WEEK + 1, 198),
        (62 * WEEK, 254),
        (62 * WEEK + 1, 255),
        (63 * WEEK, 255),
    ],
)
def test_validity_rounds_up_to_the_next_step(minutes: int, tp_vp: int) -> None:
    pdu = submit_hex("STOP", validity_minutes=minutes)
    assert pdu == f"001100{TO_ADDRESS}0000{tp_vp:02X}{STOP}"


@pytest.mark.parametrize("minutes", [0, -1, -5, 63 * WEEK + 1, 1000 * WEEK])
def test_validity_that_no_step_reaches_is_refused(minutes: int) -> None:
    with pytest.raises(ValueError):
        smsbox.encode_submit("STOP", TO, validity_minutes=minutes)


@THOROUGH
@given(st.integers(1, 63 * WEEK))
def test_validity_is_the_shortest_step_that_is_long_enough(minutes: int) -> None:
    def lasts(tp_vp: int) -> int:
        if tp_vp <= 143:
            return (tp_vp + 1) * 5
        if tp_vp <= 167:
            return 12 * HOUR + (tp_vp - 143) * 30
        return (tp_vp - 166) * DAY if tp_vp <= 196 else (tp_vp - 192) * WEEK

    pdu = submit_hex("STOP", validity_minutes=minutes)
    tp_vp = int(pdu[len(f"001100{TO_ADDRESS}0000") :][:2], 16)
    assert lasts(tp_vp) >= minutes
    assert tp_vp == 0 or lasts(tp_vp - 1) < minutes


# What can't be sent ---------------------------------------------------------------------------

BAD_NUMBERS = [
    pytest.param("", id="empty"),
    pytest.param("+", id="a plus alone"),
    pytest.param("abc", id="letters"),
    pytest.param("+1213555O123", id="the letter O"),
    pytest.param("++12135550123", id="two pluses"),
    pytest.param("1213+5550123", id="a plus within"),
    pytest.param("12135550123+", id="a plus behind"),
    pytest.param("-12135550123", id="a minus"),
    pytest.param("1_213_555", id="what int() takes for a number"),
    pytest.param("+\u0661\u0662\u0663\u0664\u0665", id="Arabic-Indic digits"),
    pytest.param("12\u00b2\u00b3", id="superscript digits"),
    pytest.param("+12135550123\n", id="a line end"),
]


@pytest.mark.parametrize("number", BAD_NUMBERS)
def test_bad_number_is_refused(number: str) -> None:
    with pytest.raises(ValueError):
        smsbox.encode_submit("STOP", number)


@pytest.mark.parametrize("number", [x for x in BAD_NUMBERS if x.id != "empty"])
def test_bad_service_centre_is_refused(number: str) -> None:
    with pytest.raises(ValueError):
        smsbox.encode_submit("STOP", TO, smsc=number)


@pytest.mark.parametrize("number", ["1" * 21, "+" + "1" * 21])
def test_number_longer_than_its_field_is_refused(number: str) -> None:
    # TS 23.040 9.1.2.5: the address field is 12 octets at most, so 20 digits.
    with pytest.raises(ValueError):
        smsbox.encode_submit("STOP", number)


@pytest.mark.parametrize("text", ["\ud83d", "a\ude00", "\ude00\ud83d", "\ud83d" * 100])
def test_lone_surrogate_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        smsbox.encode_submit(text, TO)


# SMS-DELIVER ----------------------------------------------------------------------------------


def test_deliver_is_read_field_by_field() -> None:
    pdu = (
        "07"  # the service centre: 7 octets
        "91"
        "2131550501F0"  # +12135550100
        "04"  # SMS-DELIVER, no more messages wait
        f"{TO_ADDRESS}"  # TP-OA
        "00"  # TP-PID
        "00"  # TP-DCS
        "42118041950023"  # TP-SCTS: 24-11-08 14:59:00, 32 quarters
        f"{STOP}"
    )
    message = smsbox.decode_tpdu(pdu, "in")
    assert message.kind == "DELIVER"
    assert message.smsc == "+12135550100"
    assert message.number == TO
    assert message.text == "STOP"
    assert message.sent_at == datetime(2024, 11, 8, 6, 59, tzinfo=timezone.utc)
    assert message.concatenation is None


def test_deliver_has_nothing_of_a_status_report() -> None:
    message = smsbox.decode_tpdu(deliver_hex(), "in")
    assert message.discharged_at is None
    assert message.reference is None
    assert message.status is None


def test_value_is_frozen() -> None:
    message = smsbox.decode_tpdu(deliver_hex(), "in")
    attribute = "text"
    assert dataclasses.is_dataclass(message)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(message, attribute, "START")


def test_absent_service_centre_is_not_a_number() -> None:
    assert not smsbox.decode_tpdu(deliver_hex(smsc="00"), "in").smsc


def test_national_service_centre_has_no_plus() -> None:
    assert smsbox.decode_tpdu(deliver_hex(smsc="04812143F5"), "in").smsc == "12345"


def test_lower_case_hexadecimal_is_read_too() -> None:
    assert smsbox.decode_tpdu(deliver_hex().lower(), "in").text == "STOP"


@pytest.mark.parametrize(
    ("address", "number"),
    [
        pytest.param("0781801032F4", "0801234", id="unknown type, odd"),
        pytest.param("0491" + "6407", "+4670", id="international, even"),
        pytest.param("07A1801032F4", "0801234", id="national"),
        pytest.param("05B12143F5", "12345", id="network specific"),
        pytest.param("0485" + "8100", "1800", id="a plan that is reserved"),
        # TS 23.040 9.1.2.3: A is '*', B is '#'; * 1, 0 0, # F, swapped
        pytest.param("05811A00FB", "*100#", id="star and hash"),
        # 7 characters, 49 bits: 13 semi-octets; what is left of the seventh octet is no '@'.
        # B 42, i 69, s 73, t 74, r 72, o 6F, 7 37
        pytest.param("0DD0C2F49C2E7FDF00", "Bistro7", id="alphanumeric, seven"),
        # 8 characters, 56 bits: 14 semi-octets, every bit of 7 octets taken
        pytest.param("0ED04669D0397C26A7", "FRANCOIS", id="alphanumeric, eight"),
        # the escape within a name: 1B 65 is the euro sign
        pytest.param("04D0" + "9B32", "€", id="alphanumeric, extension"),
    ],
)
def test_sender_is_read_by_its_type_of_address(address: str, number: str) -> None:
    message = smsbox.decode_tpdu(deliver_hex(sender=address), "in")
    assert message.number == number
    assert message.text == "STOP"


@pytest.mark.parametrize("address", ["0080", "0091", "00D0"])
def test_sender_without_digits_is_no_number_and_the_text_stays(address: str) -> None:
    message = smsbox.decode_tpdu(deliver_hex(sender=address), "in")
    assert not message.number
    assert message.text == "STOP"


@pytest.mark.parametrize(
    ("time", "instant"),
    [
        # Each octet is two swapped digits; bit 3 of the zone's octet is its sign.
        pytest.param("42118041950023", "2024-11-08T14:59:00+08:00", id="32 quarters east"),
        pytest.param("4211804195002B", "2024-11-08T14:59:00-08:00", id="32 quarters west"),
        pytest.param("42118041950022", "2024-11-08T14:59:00+05:30", id="India, 22"),
        pytest.param("42118041950032", "2024-11-08T14:59:00+05:45", id="Nepal, 23"),
        pytest.param("42118041950049", "2024-11-08T14:59:00-03:30", id="Newfoundland, 14 west"),
        pytest.param("42118041950040", "2024-11-08T14:59:00+01:00", id="4: no tens"),
        pytest.param("42118041950048", "2024-11-08T14:59:00-01:00", id="4 west: no tens"),
        pytest.param("42118041950065", "2024-11-08T14:59:00+14:00", id="56: Kiritimati"),
        pytest.param("42118041950008", "2024-11-08T14:59:00+00:00", id="minus nought"),
        pytest.param("42219200000000", "2024-12-29T00:00:00+00:00", id="midnight"),
        pytest.param("42209232959500", "2024-02-29T23:59:59+00:00", id="leap day"),
        pytest.param("00101000000000", "2000-01-01T00:00:00+00:00", id="the year 00"),
        # TS 23.040 9.2.3.11: a digit that is none is taken for 0
        pytest.param("42118041953F00", "2024-11-08T14:59:03+00:00", id="seconds F3"),
    ],
)
def test_sent_at_is_an_aware_time(time: str, instant: str) -> None:
    sent_at = smsbox.decode_tpdu(deliver_hex(time=time), "in").sent_at
    assert sent_at is not None
    assert sent_at.utcoffset() is not None
    assert sent_at == datetime.fromisoformat(instant)


def test_message_without_text_is_empty_and_not_none() -> None:
    assert smsbox.decode_tpdu(deliver_hex("00"), "in").text == ""


def test_reserved_message_type_is_read_as_deliver() -> None:
    # TS 23.040 9.2.3.1
    message = smsbox.decode_tpdu(deliver_hex(first_octet="07"), "in")
    assert (message.kind, message.number, message.text) == ("DELIVER", TO, "STOP")


@pytest.mark.parametrize("first_octet", ["00", "04", "08", "24", "84", "AC"])
def test_other_bits_in_the_first_octet_of_a_deliver_change_nothing(first_octet: str) -> None:
    # more messages wait, loop prevention, status report indication, reply path
    assert smsbox.decode_tpdu(deliver_hex(first_octet=first_octet), "in").text == "STOP"


@pytest.mark.parametrize(
    "dcs",
    [
        *("00", "01", "02", "03"),  # 00xx, no class: bits 1 and 0 have no meaning
        *("10", "11", "12", "13"),  # class 0 to 3
        *("0C", "1C"),  # alphabet 11 is reserved, and so the default
        *("40", "50", "51", "52", "53"),  # 01xx: deleted once read, else as 00xx
        *("80", "84", "88", "90", "A0", "B0", "BF"),  # reserved groups
        *("C0", "C1", "C8", "CB"),  # 1100: a message waits, the text may be discarded
        *("D0", "D3", "D8", "DB"),  # 1101: it is kept
        *("F0", "F1", "F2", "F3"),  # 1111, bit 2 is 0
    ],
)
def test_data_coding_scheme_of_the_default_alphabet(dcs: str) -> None:
    # TS 23.038 clause 4: any reserved coding is taken for the default alphabet.
    assert smsbox.decode_tpdu(deliver_hex(STOP, dcs=dcs), "in").text == "STOP"


@pytest.mark.parametrize(
    "dcs",
    [
        *("08", "09", "18", "19", "1A", "1B"),  # 00xx, alphabet 10
        *("48", "58", "5B"),  # 01xx, alphabet 10
        *("E0", "E3", "E8", "EB"),  # 1110: a message waits, UCS-2
    ],
)
def test_data_coding_scheme_of_ucs2(dcs: str) -> None:
    assert smsbox.decode_tpdu(deliver_hex(STOP_UCS2, dcs=dcs), "in").text == "STOP"


@pytest.mark.parametrize(
    "dcs",
    [
        *("04", "14", "15", "16", "17"),  # 00xx, alphabet 01
        *("44", "54"),  # 01xx, alphabet 01
        *("F4", "F5", "F6", "F7"),  # 1111, bit 2 is 1
    ],
)
def test_eight_bit_data_has_no_text(dcs: str) -> None:
    message = smsbox.decode_tpdu(deliver_hex("0453544F50", dcs=dcs), "in")
    assert (message.kind, message.number, message.text) == ("DELIVER", TO, None)


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        # TS 23.038 6.2.1.1: 1B 61, a code that the table leaves empty, is that of the main table.
        pytest.param("02" + "9B30", "a", id="no such extension"),
        # 1B 1B is kept for a further table: a space.
        pytest.param("02" + "9B0D", " ", id="two escapes"),
    ],
)
def test_unknown_escape_pair_reads_as_the_standard_says(packed: str, text: str) -> None:
    assert smsbox.decode_tpdu(deliver_hex(packed), "in").text == text


def test_halves_of_a_surrogate_pair_meet_again_when_joined() -> None:
    # Phones cut pairs between segments.
    halves = ("0A0500032A0201" + "0041D83D", "0A0500032A0202" + "DE000042")
    pdus = [deliver_hex(half, dcs="08", first_octet="44") for half in halves]
    text = "".join(smsbox.decode_tpdu(pdu, "in").text or "" for pdu in pdus)
    assert text.encode("utf-16", "surrogatepass").decode("utf-16") == f"A{SMILE}B"


# User data header -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user_data", "dcs", "concatenation"),
    [
        # UDL, header length; element 00 of 3 octets: reference 2A, 3 in all, this is 2; the text.
        # 6 octets of header and one fill bit are 7 septets, the text 4: 53EA130A, shifted by one.
        pytest.param("0B0500032A0302A6D42714", "00", (0x2A, 3, 2), id="eight bits"),
        # Element 08 of 4 octets. 7 octets of header are 8 septets: no fill.
        pytest.param("0C06080412340302" + "53EA130A", "00", (0x1234, 3, 2), id="sixteen bits"),
        pytest.param("0E050003FFFFFF" + STOP_UCS2[2:], "08", (255, 255, 255), id="255 of 255"),
        pytest.param("0F06080400000101" + STOP_UCS2[2:], "08", (0, 1, 1), id="1 of 1"),
        # Element 05, two ports. 12 octets of header and 2 fill bits are 14 septets.
        pytest.param(
            "120B05040B8423F000032A02014CA94F28", "00", (0x2A, 2, 1), id="behind a port address"
        ),
        pytest.param(
            "120B00032A020105040B8423F04CA94F28", "00", (0x2A, 2, 1), id="before a port address"
        ),
        # TS 23.040 9.2.3.24: of two that exclude each other the last counts.
        pytest.param("120B00032A02010804123403024CA94F28", "00", (0x1234, 3, 2), id="both"),
        # TS 23.040 9.2.3.24.1: the element is ignored.
        pytest.param("0B0500032A0001A6D42714", "00", None, id="1 of 0"),
        pytest.param("0B0500032A0200A6D42714", "00", None, id="0 of 2"),
        pytest.param("0B0500032A0203A6D42714", "00", None, id="3 of 2"),
    ],
)
def test_concatenation_is_read_from_the_header(
    user_data: str, dcs: str, concatenation: tuple[int, int, int] | None
) -> None:
    message = smsbox.decode_tpdu(deliver_hex(user_data, dcs=dcs, first_octet="44"), "in")
    assert message.concatenation == concatenation
    assert message.text == "STOP"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("0500042A0201", id="an element longer than the header"),
        pytest.param("0500022A0201", id="an octet too many"),
        pytest.param("0570032A0201", id="an element nobody knows"),
        pytest.param("0508032A0201", id="sixteen bits in three octets"),
    ],
)
def test_unusable_header_gives_no_concatenation(header: str) -> None:
    # TS 23.040 9.2.3.24: a header that does not come out even is ignored, the text is not.
    message = decoded_or_refused(deliver_hex("0B" + header + "A6D42714", first_octet="44"), "in")
    assert message is None or (message.concatenation, message.text) == (None, "STOP")


def test_eight_bit_data_keeps_its_concatenation() -> None:
    user_data = "0A0500032A020153544F50"
    message = smsbox.decode_tpdu(deliver_hex(user_data, dcs="04", first_octet="44"), "in")
    assert (message.text, message.concatenation) == (None, (0x2A, 2, 1))


# SMS-STATUS-REPORT ----------------------------------------------------------------------------


def test_status_report_is_read_field_by_field() -> None:
    pdu = (
        "00"
        "06"  # SMS-STATUS-REPORT, no more messages wait
        "2A"  # TP-MR
        f"{TO_ADDRESS}"  # TP-RA: the recipient of what was submitted
        "4211804195002B"  # TP-SCTS: 24-11-08 14:59:00, 32 quarters west
        "4211804195702B"  # TP-DT: seven seconds later
        "00"  # TP-ST: delivered
    )
    report = smsbox.decode_tpdu(pdu, "in")
    assert report.kind == "STATUS-REPORT"
    assert report.reference == 42
    assert report.number == TO
    assert report.sent_at == datetime(2024, 11, 8, 22, 59, 0, tzinfo=timezone.utc)
    assert report.discharged_at == datetime(2024, 11, 8, 22, 59, 7, tzinfo=timezone.utc)
    assert report.discharged_at is not None
    assert report.discharged_at.utcoffset() is not None
    assert report.status == 0
    assert report.text is None


@pytest.mark.parametrize(
    "optional",
    [
        pytest.param("", id="none"),
        pytest.param("00", id="TP-PI that announces nothing"),
        pytest.param("0100", id="TP-PID"),
        pytest.param("0200", id="TP-DCS"),
        pytest.param("030000", id="TP-PID and TP-DCS"),
        pytest.param(f"04{STOP}", id="TP-UD"),
        pytest.param(f"070000{STOP}", id="all"),
        pytest.param(f"070008{STOP_UCS2}", id="all, UCS-2"),
        pytest.param("8000", id="a second TP-PI"),
    ],
)
def test_optional_parameters_of_a_status_report_change_nothing(optional: str) -> None:
    report = smsbox.decode_tpdu(report_hex(optional), "in")
    assert (report.kind, report.number, report.text) == ("STATUS-REPORT", TO, None)
    assert (report.reference, report.status) == (42, 0)
    assert report.sent_at == datetime(2024, 11, 8, 12, 0, 0, tzinfo=timezone.utc)
    assert report.discharged_at == datetime(2024, 11, 8, 12, 0, 7, tzinfo=timezone.utc)


@pytest.mark.parametrize("status", [0x00, 0x01, 0x02, 0x20, 0x30, 0x40, 0x46, 0x60, 0x7F, 0xFF])
def test_status_is_handed_on_as_it_came(status: int) -> None:
    assert smsbox.decode_tpdu(report_hex(status=f"{status:02X}"), "in").status == status


@pytest.mark.parametrize("first_octet", ["02", "06", "0A", "26", "46"])
def test_other_bits_in_the_first_octet_of_a_report_change_nothing(first_octet: str) -> None:
    # more messages wait, loop prevention, result of an SMS-COMMAND, user data header (absent)
    report = smsbox.decode_tpdu(report_hex(first_octet=first_octet), "in")
    assert (report.kind, report.reference, report.status) == ("STATUS-REPORT", 42, 0)


# SMS-SUBMIT, read back ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first_octet", "validity"),
    [
        pytest.param("01", "", id="absent"),
        pytest.param("11", "AA", id="relative"),
        pytest.param("09", "01AA0000000000", id="enhanced"),
        pytest.param("19", "4211804195002B", id="absolute"),
        pytest.param("A5", "", id="status report, reply path, reject duplicates"),
    ],
)
def test_submit_is_read_whatever_its_validity_period(first_octet: str, validity: str) -> None:
    pdu = f"0791 2131550501F0 {first_octet} 2A {TO_ADDRESS} 00 00 {validity} {STOP}"
    message = smsbox.decode_tpdu(pdu.replace(" ", ""), "out")
    assert (message.kind, message.smsc, message.number) == ("SUBMIT", "+12135550100", TO)
    assert (message.reference, message.text) == (42, "STOP")
    assert message.concatenation is None


def test_submit_has_no_times_and_no_status() -> None:
    message = smsbox.decode_tpdu(submit_hex("STOP"), "out")
    assert (message.sent_at, message.discharged_at, message.status) == (None, None, None)


# Broken TPDUs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize(
    "pdu",
    [
        pytest.param("", id="nothing"),
        pytest.param("0", id="half an octet"),
        pytest.param("00", id="no TPDU"),
        pytest.param("07", id="a service centre that is missing"),
        pytest.param("0791213155", id="a service centre that is cut off"),
        pytest.param("STOP", id="letters"),
        pytest.param("0x0401", id="a prefix"),
        pytest.param("\u0660\u0661", id="Arabic-Indic digits"),
        pytest.param("00" * 300, id="noughts"),
        pytest.param("FF" * 300, id="ones"),
    ],
)
def test_what_is_no_tpdu_is_refused(pdu: str, direction: Direction) -> None:
    with pytest.raises(ValueError):
        smsbox.decode_tpdu(pdu, direction)


@pytest.mark.parametrize(
    ("user_data", "dcs", "first_octet", "text"),
    [
        pytest.param("0553EA130A", "00", "04", "STOP", id="septets missing"),
        pytest.param("0A00530054004F0050", "08", "04", "STOP", id="units missing"),
        pytest.param("0900530054004F005000", "08", "04", "STOP", id="half a unit"),
        pytest.param("0553544F50", "04", "04", None, id="octets missing"),
        pytest.param("FF53EA130A", "00", "04", "STOP", id="most of it missing"),
        pytest.param("0253EA130A", "00", "04", "ST", id="longer than it says"),
        pytest.param("0453EA130A", "80", "04", "STOP", id="a coding that is reserved"),
        pytest.param("0453EA130A", "00", "44", "STOP", id="header announced, text there"),
        pytest.param("00", "00", "44", "", id="header announced, nothing there"),
        pytest.param("080A0003", "04", "44", None, id="header cut off"),
        pytest.param("060F00032A0201", "04", "44", None, id="header longer than the user data"),
        pytest.param("0B0500032A0203A6D42714", "00", "44", "STOP", id="part 3 of 2"),
        pytest.param("", "00", "04", None, id="no length"),
    ],
)
def test_user_data_is_read_as_far_as_it_came_and_its_damage_told(
    user_data: str, dcs: str, first_octet: str, text: str | None
) -> None:
    pdu = deliver_hex(user_data, dcs=dcs, first_octet=first_octet)
    message = smsbox.decode_tpdu(pdu, "in")
    assert (message.number, message.text) == (TO, text)
    assert message.damage


@pytest.mark.parametrize("filler", ["00" * 20, "FF" * 20])
def test_what_a_modem_fills_up_with_is_no_damage(filler: str) -> None:
    message = smsbox.decode_tpdu(deliver_hex() + filler, "in")
    assert (message.text, message.damage) == ("STOP", "")


@pytest.mark.parametrize(
    "time", ["125264710A4A00", "00000000000000", "42310041950000", "421180", "42204292959500"]
)
def test_time_that_is_none_is_left_out_and_the_text_stays(time: str) -> None:
    user_data = STOP if len(time) == 14 else ""
    message = smsbox.decode_tpdu(deliver_hex(user_data, time=time), "in")
    assert (message.number, message.sent_at) == (TO, None)
    assert message.text == ("STOP" if user_data else None)


def test_report_with_broken_times_is_a_report() -> None:
    pdu = f"00062A{TO_ADDRESS}" + "125264710A4A00" + "00000000000000" + "00"
    report = smsbox.decode_tpdu(pdu, "in")
    assert (report.kind, report.number, report.reference) == ("STATUS-REPORT", TO, 42)
    assert (report.sent_at, report.discharged_at, report.status) == (None, None, 0)


def test_report_that_is_cut_short_says_nothing_of_its_delivery() -> None:
    report = smsbox.decode_tpdu(f"00062A{TO_ADDRESS}4211804195", "in")
    assert (report.number, report.reference, report.status) == (TO, 42, None)
    assert smsbox.read_delivery(report.status)[0] is smsbox.Delivery.UNKNOWN


@given(
    field=st.sampled_from(["first_octet", "pid", "dcs", "time", "length", "user_data"]),
    octets=st.binary(max_size=12),
    ucs2=st.booleans(),
    end=st.integers(0, 400),
)
def test_whatever_field_is_damaged_the_sender_is_kept(
    field: str, octets: bytes, ucs2: bool, end: int
) -> None:
    """Each field but the address and what leads to it, broken in any way, then cut behind it."""
    fields = {
        "first_octet": "04", "sender": TO_ADDRESS, "pid": "00", "dcs": "08" if ucs2 else "00",
        "time": "4211804195002B", "length": "08" if ucs2 else "04",
        "user_data": (STOP_UCS2 if ucs2 else STOP)[2:],
    }  # fmt: skip
    is_one_octet = field in ("first_octet", "pid", "dcs", "length")
    fields[field] = (octets[:1] or b"\x45").hex() if is_one_octet else octets.hex()
    address_ends = 4 + len(TO_ADDRESS)
    pdu = ("00" + "".join(fields.values()))[: max(address_ends, end)]
    assert smsbox.decode_tpdu(pdu, "in").number == TO


MMS_HEAD = "4F062A" + b"application/vnd.wap.mms-message\0".hex() + "8C8298" + b"814@m\0".hex()


@pytest.mark.parametrize(
    ("sender", "number"),
    [
        (b"\x18\x80+12135550123/TYPE=PLMN\0", "+12135550123"),
        (b"\x1f\x18\x80+12135550123/TYPE=PLMN\0", "+12135550123"),
        (b"\x1b\x80\x19\xea+12135550123/TYPE=PLMN\0", "+12135550123"),
        (b"\x0e\x80+12135550123\0", "+12135550123"),
        (b"\x0d\x802135550123\0", "2135550123"),
        (b"\x08\x80a@b.c\0", "a@b.c"),
        (b"\x18\x80+12135550123/type=PLMN\0", "+12135550123"),
        (b"\x18\x80tel:+12135550123\0", "+12135550123"),
        (b"\x1c\x80+1 213 555 0123/TYPE=PLMN\0", "+12135550123"),
        (b"\x1c\x80+1-(213)555.0123/TYPE=PLMN\0", "+12135550123"),
        (b"\x1c\x80<+12135550123/TYPE=PLMN>\0", "+12135550123"),
        (b"\x1e\x80Ana <+12135550123/TYPE=PLMN>\0", "+12135550123"),
        (b'\x1f\x24\x80\x1a\xea"Jos\xc3\xa9 2" <2135550123>\0', "2135550123"),
        (b"\x1e\x80+12135550123@vzwpix.com\0", "+12135550123"),
        (b"\x10\x802135550123@mms.example\0", "2135550123"),
        (b'\x1e\x80"+12135552302" <+12135550123>\0', "+12135550123"),
        (b"\x10\x80/TYPE=PLMN\0", "4545"),
        (b"\x18\x80192.168.100.100/TYPE=IPv4\0", "192.168.100.100"),
        (b"\x18\x80ana19801231@example.com\0", "ana19801231@example.com"),
        (b"\x08\x80Jos\xc3\xa9\0", "José"),
        (b"\x08\x8054321/TYPE=PLMN\0", "54321"),
        (b"\x01\x81", "4545"),  # the service centre is to fill it in
        (b"\x0e\x80+12135", "4545"),  # cut short: it may be anybody
    ],
)
def test_mms_notification_names_the_person_in_its_from_field(sender: bytes, number: str) -> None:
    data = bytes.fromhex(MMS_HEAD) + b"\x8d\x92\x89" + sender
    header = bytes.fromhex("0605040B8423F0")
    user_data = bytes([len(header) + len(data)]) + header + data
    pdu = deliver_hex(user_data.hex(), dcs="04", first_octet="44", sender="04815454")
    message = smsbox.decode_tpdu(pdu, "in")
    assert (message.text, message.number) == (None, "4545")
    assert smsbox.read_mms_sender(message) == number


def test_mms_notification_of_several_parts_is_read_when_it_is_joined() -> None:
    data = bytes.fromhex(MMS_HEAD) + b"\x89\x18\x80+12135550123/TYPE=PLMN\0"
    parts = []
    for place, part in enumerate((data[:60], data[60:]), 1):
        header = bytes.fromhex(f"0B05040B8423F00003A702{place:02}")
        user_data = bytes([len(header) + len(part)]) + header + part
        pdu = deliver_hex(user_data.hex(), dcs="04", first_octet="44", sender="04815454")
        parts.append(smsbox.decode_tpdu(pdu, "in"))
    assert smsbox.read_mms_sender(smsbox.join_parts(parts)) == "+12135550123"


@pytest.mark.parametrize(
    "filling", [b"\x8c\x82\x89\x01\x80!!", b"\x8c\x82", b"\x89\x01\x80" + b"1 " * 40]
)
def test_mms_notification_of_255_parts_is_read_in_no_time(filling: bytes) -> None:
    data = (bytes.fromhex(MMS_HEAD) + filling * 20_000)[:34_000]
    message = smsbox.decode_tpdu(deliver_hex("0453544F50", dcs="04"), "in")
    started = process_time()
    smsbox.read_mms_sender(dataclasses.replace(message, data=data))
    assert process_time() - started < 0.3


def test_long_text_of_which_a_part_is_no_text_is_not_whole() -> None:
    parts = []
    for place, coding in enumerate(("08", "04", "08"), 1):
        user_data = f"0A050003A703{place:02X}00480069"
        pdu = deliver_hex(user_data, dcs=coding, first_octet="44")
        parts.append(smsbox.decode_tpdu(pdu, "in"))
    whole = smsbox.join_parts(parts)
    assert (whole.text, whole.damage) == ("Hi[…]Hi", "a part of it can't be read")


def test_other_eight_bit_data_announces_no_mms() -> None:
    message = smsbox.decode_tpdu(deliver_hex("0453544F50", dcs="04"), "in")
    assert smsbox.read_mms_sender(message) is None


def test_tpdu_of_the_other_direction_is_refused() -> None:
    # Bits 01 are SMS-SUBMIT-REPORT on the way in, 00 and 10 SMS-DELIVER-REPORT and SMS-COMMAND
    # on the way out.
    with pytest.raises(ValueError):
        smsbox.decode_tpdu(submit_hex("STOP"), "in")
    with pytest.raises(ValueError):
        smsbox.decode_tpdu(deliver_hex(), "out")
    with pytest.raises(ValueError):
        smsbox.decode_tpdu(report_hex(), "out")


# Other people's vectors -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Sent:
    """A text and the SMS-SUBMITs that another project's tests expect of it."""

    source: str
    text: str
    to: str
    segments: tuple[str, ...]
    smsc: str | None = None
    status_report: bool = False
    validity_minutes: int | None = None
    reference: int = 0


# Rudyard Kipling, If; TP-MR was 0 there, here it equals the concatenation reference 0x88.
KIPLING = (
    "Or walk with Kings - nor lose the common touch, if neither foes nor loving friends can hurt "
    "you, If all men count with you, but none too much; If you can fill the unforgiving minute "
    "With sixty seconds' worth of distance run, Yours is the Earth and everything thats in it, "
    "And - which is more - you will be a Man, my son"
)
RUSSIAN = "\u0420\u0443\u0441\u0441\u043a\u0438\u0439"

SENT = [
    Sent(
        "python-messaging",
        "hola",
        "+34616585119",
        ("07914346466554F601000B914316565811F9000004E8373B0C",),
        smsc="+34646456456",
    ),
    Sent(
        "python-messaging",
        "hey yo",
        "+34654123456",
        ("0021000B914356143254F6000006E8721E947F03",),
        status_report=True,
    ),
    Sent(
        "python-messaging",
        "B\u00c4R\u00c7A \u00e4\u00f1@",
        "+34654123456",
        ("0001000B914356143254F6000009C2AD341104EDFB00",),
    ),
    Sent(
        "python-messaging",
        RUSSIAN,
        "655345678",
        ("001100098156355476F80008AA0E0420044304410441043A04380439",),
        validity_minutes=4 * DAY,
    ),
    Sent(
        "python-messaging",
        KIPLING,
        "655345678",
        (
            (
                "005188098156355476F80000AAA00500038803019E72D03DCC5E83EE693A1AB44CBBCF73500BE47E"
                "CB41ECF7BC0CA2A3CBA0F1BBDD7EBB41F4777D8C6681D26690BB9CA6A3CB7290F95D9E83DC6F3988"
                "FDB6A7DD6790599E2EBBC973D038EC06A1EB723A28FFAEB340493328CC6683DA653768FCAEBBE9A0"
                "7B9A8E06E5DF7516485CA783DC6F7719447FBF41EDFA18BD0325CDA0FCBB0E1A87DD"
            ),
            (
                "005188098156355476F80000AAA005000388030240E6349B0DA2A3CBA0BADBFC969FD3F6B4FB0C6A"
                "A7DD757A19744DD3D1A0791A4FCF83E6E5F1DB4D9E9F40F7B79C8E06BDCD20727A4E0FBBC76590BC"
                "EE6681B2EFBA7C0E4ACF41747419540CCBE96850D84D0695ED65799E8E4EBBCF203A3A4C9F83D26E"
                "509ACE0205DD64500B7447A7C768507A0E6ABFE565500B947FD741F7349B0D129741"
            ),
            "005188098156355476F80000AA14050003880303C2A066D8CD02B5F3A0F9DB0D",
        ),
        validity_minutes=4 * DAY,
        reference=0x88,
    ),
    Sent(
        "ModemManager",
        "Hi there...Tue 17th Jan 2012 05:30.18 pm (GMT+1) " + "\u0394" * 5,
        "+15555551234",
        (
            (
                "07919130079229F011000B915155551532F400000036C834888E2ECBCB2E978B5A2F8362373A1AA4"
                "0CBB4132584C0682D57433982B8603C1DB20D4B1495DC552200804028100"
            ),
        ),
        smsc="+19037029920",
        validity_minutes=5,
    ),
    Sent(
        "ModemManager",
        "This is really cool " + "\u0394" * 5,  # the 25th septet has an octet to itself
        "+15556661234",
        ("0001000B915155661632F400001954747A0E4ACF41F27298CDCE83C6EF371B0481402010",),
    ),
    Sent(
        "oFono",
        "This is testing !",
        "+358478400241",
        ("079153485002020911000C915348870420140000A71154747A0E4ACF41F4F29C9E769F4121",),
        smsc="+358405202090",
        validity_minutes=24 * HOUR,
    ),
    Sent(
        "python-gsmmodem",
        "\u4e16\u754c\u60a8\u597d\uff01",
        "+123456789",
        ("07914400000000F01100099121436587F90008F40A4E16754C60A8597DFF01",),
        smsc="+44000000000",
        validity_minutes=52 * WEEK,
    ),
]


@pytest.mark.parametrize("sent", SENT, ids=lambda x: f"{x.source}: {x.text[:12]!a}")
def test_submit_is_what_other_projects_expect(sent: Sent) -> None:
    segments = smsbox.encode_submit(
        sent.text,
        sent.to,
        smsc=sent.smsc,
        status_report=sent.status_report,
        validity_minutes=sent.validity_minutes,
        reference=sent.reference,
    )
    assert tuple(pdu for pdu, _ in segments) == sent.segments


@pytest.mark.parametrize("sent", SENT, ids=lambda x: f"{x.source}: {x.text[:12]!a}")
def test_submit_of_other_projects_reads_back(sent: Sent) -> None:
    messages = [smsbox.decode_tpdu(pdu, "out") for pdu in sent.segments]
    assert "".join(message.text or "" for message in messages) == sent.text
    assert {message.number for message in messages} == {sent.to}
    assert {message.smsc or None for message in messages} == {sent.smsc}


@dataclasses.dataclass(frozen=True)
class Received:
    """A TPDU and what another project's tests read in it."""

    source: str
    pdu: str
    number: str
    text: str | None
    sent_at: str | None = None
    smsc: str | None = None
    kind: str = "DELIVER"
    direction: Direction = "in"
    concatenation: tuple[int, int, int] | None = None
    discharged_at: str | None = None
    reference: int | None = None
    status: int | None = None


RECEIVED = [
    Received(
        "oFono",
        "07911326040000F0040B911346610089F60000208062917314480CC8F71D14969741F977FD07",
        "+31641600986",
        "How are you?",
        "2002-08-26T19:37:41-01:00",
        "+31624000000",
    ),
    Received(
        "oFono, seven characters of alphanumeric sender",
        "0791447758100650040DD0F334FC1CA6970100008080312170224008D4F29CDE0EA7D9",
        "sipgate",
        "Testmail",
        "2008-08-13T12:07:22+01:00",
        "+447785016005",
    ),
    Received(
        "oFono, five elements of text formatting",
        "0041000B915121551532F40000631A0A031906200A032104100A032705040A032E05080A043807002B8ACD29"
        "A85D9ECFC3E7F21C340EBB41E3B79B1E4EBB41697A989D1EB340E2379BCC02B1C3F27399059AB7C36C3628EC"
        "2683C66FF65B5E2683E8653C1D",
        "+15125551234",
        "EMS messages can contain italic, bold, large, small and colored text",
        kind="SUBMIT",
        direction="out",
        reference=0,
    ),
    Received(
        "ModemManager, extension characters",
        "07912104442961F4040B916171957291F80000112082110505"
        "0A6AC8B2BC7C9A83C220F6DB7D2ECB41EDF27C1E3E97411BDE06754FD3D1A0F9BB5D0695F1F4B29B5C2683C6"
        "E8B03C3CA697E5F34D6AE303D1D1F2F7DD0D4ABB59A0797D8C0685E7A00028EC26832A960B28EC2683BE6050"
        "780EBA97D96C17",
        "+16175927198",
        "Here's a longer message [{with some extended characters}] thrown in, such as "
        "\u00a3 and \u03a9\u03a0\u03a8 and \u00a7\u00bf as well.",
        "2011-02-28T11:50:50-05:00",
        "+12404492164",
    ),
    Received(
        "ModemManager, eleven characters of alphanumeric sender",
        "07919730071111F10414D04937BD2C7797E9D3E614000811309291024061080442043504410442",
        "InternetSMS",
        "\u0442\u0435\u0441\u0442",
        "2011-03-29T19:20:04+04:00",
        "+79037011111",
    ),
    Received(
        "ModemManager, eight bits",
        "07912143658709F1040B918100551512F20004111010214365000AE8329BFD4697D9EC37DE",
        "+18005551212",
        None,
        "2011-01-01T12:34:56+00:00",
        "+12345678901",
    ),
    Received(
        "ModemManager, TP-DCS F1 and 160 septets",
        "07913306091093F0040485810000F111604231805180A0"
        "49B7F90D9A1AA5A01668F8769BD3E4B29B9E2EB359A03FC85D06A9C3ED707A0EA2CBC3EE79BB4CA7CBCBA056"
        "43617DA7C76990FD4D979741EE77DD5E0ED741ED371D442E83E0E1F9BC0CD281E677D9B84C06C1DF7539E85C"
        "9097E520FB9B2E2F83C6EF369C5E064D8D52D0BC2E07DDEF77D7DC2C7799E5A0771D040FCB41F402BB0047BF"
        "DD6550B80ECAD966",
        "1800",
        "Info SFR - Confidentiel, \u00e0 ne jamais transmettre -\r\n"
        "Voici votre nouveau mot de passe : sw2ced pour g\u00e9rer "
        "votre compte SFR sur www.sfr.fr ou par t\u00e9l\u00e9phone au 963",
        "2011-06-24T13:08:15+02:00",
        "+33609001390",
    ),
    Received(
        "ModemManager, 16-bit reference",
        "07911356131313F64004850120390011609232239180A006080400100201D7327BFD6EB340E2321BF46E83EA"
        "7790F59D1E97DBE1341B442F83C465763D3DA797E56537C81D0ECB41AB59CC1693C16031D96C064241E56568"
        "38AF03A96230982A269BCD462917C8FA4E8FCBED709A0D7ABBE9F6B0FB5C7683D27350984D4FABC9A0B33C4C"
        "4FCF5D20EBFB2D079DCB62793DBD06D9C36E50FB2D4E97D9A0B49B5E96BBCB",
        "1002",
        "Welkom, bel om uw Voicemail te beluisteren naar +31612001233 (PrePay: *100*1233#). "
        "Voicemail ontvangen is altijd gratis. Voor gebruik van mobiel interne",
        "2011-06-29T23:32:19+02:00",
        "+31653131316",
        concatenation=(0x0010, 2, 1),
    ),
    Received(
        "ModemManager, the second of two",
        "07912160130320F6440B916171056429F5000021405291651569320500034C0202E9E8301D44479741F0B09C"
        "3E0785E56590BCCC0ED3CB6410FD0D7ABBCBA0B0FB4D4797E52E10",
        "+16175046925",
        "that the parts are related to one another. ",
        "2012-04-25T19:56:51-04:00",
        "+12063130026",
        concatenation=(0x4C, 2, 2),
    ),
    Received(
        "ModemManager, status report",
        "07914356060013F1065A098136397339F7219011700463802190117004638030",
        "639337937",
        None,
        "2012-09-11T07:40:36+02:00",
        "+34656000311",
        kind="STATUS-REPORT",
        discharged_at="2012-09-11T07:40:36+02:00",
        reference=0x5A,
        status=0x30,
    ),
    Received(
        "python-messaging, the euro sign behind a header",
        "07919471227210244405852122F039F101506271217180A005000319020198E9B2B82C0759DFE4B0F9ED2EB7"
        "967537B9CC02B5D37450122D2FCB41EE303DFD7687D96537881A96A7CD6F383DFD7683F46134BBEC064DD365"
        "50DA0D22A7CBF3721BE42CD3F5A0198B56036DCA20B8FC0D6A0A4170767D0EAAE540433A082E7F83A6E5F93C"
        "FD76BB40D7B2DB0D9AA6CB2072BA3C2F83926EF31BE44E8FD17450BB8C9683CA",
        "12220",
        "Lieber Vodafone-Kunde, mit Ihrer nationalen Tarifoption zahlen Sie in diesem Netz "
        "3,45 \u20ac pro MB plus 59 Ct pro Session. Wenn Sie diese Info nicht mehr e",
        "2010-05-26T17:12:17+02:00",
        "+491722270142",
        concatenation=(25, 2, 1),
    ),
    Received(
        "python-messaging, status report",
        "07914306073011F006270B913426565711F7012081111345400120811174054043",
        "+43626575117",
        None,
        "2010-02-18T11:31:54+01:00",
        "+34607003110",
        kind="STATUS-REPORT",
        discharged_at="2010-02-18T11:47:50+01:00",
        reference=0x27,
        status=0x43,
    ),
    Received(
        "python-gsmmodem, extension characters",
        "06917228195339040B917228214365F70000313062315352800A800D8A5E98D337A910",
        "+27821234567",
        "@{t\u00e9st}!",
        "2013-03-26T13:35:25+02:00",
        "+2782913593",
    ),
    Received(
        "python-gsmmodem, absolute validity",
        "0019000B917228001011F100003170013193008017D474BB3CA787DB70903DCC4E93D3F43C885E9ED301",
        "+27820001111",
        "Timestamp validity test",
        kind="SUBMIT",
        direction="out",
        reference=0,
    ),
    Received(
        "python-gsmmodem, status report",
        "0006D60B911326880736F4111011719551401110117195714000",
        "+31628870634",
        None,
        "2011-01-11T17:59:15+01:00",
        kind="STATUS-REPORT",
        discharged_at="2011-01-11T17:59:17+01:00",
        reference=214,
        status=0,
    ),
]


@pytest.mark.parametrize("received", RECEIVED, ids=lambda x: x.source)
def test_tpdu_reads_as_in_other_projects(received: Received) -> None:
    message = smsbox.decode_tpdu(received.pdu, received.direction)
    assert message.kind == received.kind
    assert (message.smsc or None) == received.smsc
    assert message.number == received.number
    assert message.text == received.text
    assert message.sent_at == instant_of(received.sent_at)
    assert message.discharged_at == instant_of(received.discharged_at)
    assert message.concatenation == received.concatenation
    assert message.reference == received.reference
    assert message.status == received.status


def instant_of(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


# Properties -----------------------------------------------------------------------------------


def runs_of(characters: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts of runs of one character: long enough to be cut, with what may not be cut anywhere."""
    run = st.tuples(characters, st.integers(1, 90)).map(lambda x: x[0] * x[1])
    return st.lists(run, min_size=1, max_size=12).map("".join)


gsm7_characters = st.sampled_from(CHARACTERS + "".join(EXTENSION) * 6)
ucs2_characters = st.sampled_from([ZHE, SMILE, "a", "€", "\U0001f44d\U0001f3fd", "\uffff"])
gsm7_texts = runs_of(gsm7_characters) | st.text(gsm7_characters, min_size=1, max_size=400)
ucs2_texts = (runs_of(ucs2_characters) | st.text(max_size=200)).map(lambda x: x + ZHE)
texts = st.one_of(gsm7_texts, ucs2_texts, st.text(min_size=1))
digits = st.text(string.digits, min_size=3, max_size=15)
numbers = digits | digits.map("+{}".format)
references = st.integers(0, 255)
directions: st.SearchStrategy[Direction] = st.sampled_from(["in", "out"])


@THOROUGH
@given(
    text=texts,
    to=numbers,
    smsc=st.none() | numbers,
    status_report=st.booleans(),
    validity_minutes=st.none() | st.integers(1, 63 * WEEK),
    reference=references,
)
def test_segments_rejoin_to_the_text(
    *,
    text: str,
    to: str,
    smsc: str | None,
    status_report: bool,
    validity_minutes: int | None,
    reference: int,
) -> None:
    segments = smsbox.encode_submit(
        text,
        to,
        smsc=smsc,
        status_report=status_report,
        validity_minutes=validity_minutes,
        reference=reference,
    )
    messages = [smsbox.decode_tpdu(pdu, "out") for pdu, _ in segments]
    assert "".join(message.text or "" for message in messages) == text
    for sequence, ((pdu, octets), message) in enumerate(zip(segments, messages, strict=True), 1):
        total = len(segments)
        concatenation = (reference, total, sequence) if total > 1 else None
        assert (message.kind, message.number, message.reference) == ("SUBMIT", to, reference)
        assert (message.smsc or None, message.concatenation) == (smsc, concatenation)
        assert octets == len(pdu) // 2 - 1 - int(pdu[:2], 16)
        assert bool(read_submit(pdu).first_octet & 0x20) == status_report


@THOROUGH
@given(texts, references)
def test_user_data_is_never_over_140_octets(text: str, reference: int) -> None:
    for pdu, _ in smsbox.encode_submit(text, TO, reference=reference):
        fields = read_submit(pdu)
        septets = fields.dcs == 0x00
        assert len(fields.user_data) <= 140
        assert len(fields.user_data) == (fields.udl * 7 + 7) // 8 if septets else fields.udl


@THOROUGH
@given(texts)
def test_units_are_those_that_are_sent(text: str) -> None:
    segmentation = smsbox.segment_text(text)
    segments = [read_submit(pdu) for pdu, _ in smsbox.encode_submit(text, TO)]
    assert tuple(len(fields.units) for fields in segments) == segmentation.units
    dcs = {"gsm7": 0x00, "ucs2": 0x08}[segmentation.encoding.value]
    assert {fields.dcs for fields in segments} == {dcs}


@THOROUGH
@given(texts)
def test_no_segment_has_room_for_what_follows(text: str) -> None:
    segmentation = smsbox.segment_text(text)
    if segmentation.encoding == "gsm7":
        alone, room = 160, 153
        weights = [1 if character in CHARACTERS else 2 for character in text]
    else:
        alone, room = 70, 67
        weights = [1 if character <= "\uffff" else 2 for character in text]
    assert segmentation.units == greedy(weights, sum(weights) if sum(weights) <= alone else room)


def greedy(weights: list[int], room: int) -> tuple[int, ...]:
    segments = [0]
    for weight in weights:
        if segments[-1] + weight > room:
            segments.append(0)
        segments[-1] += weight
    return tuple(segments)


@THOROUGH
@given(gsm7_texts)
def test_escape_pair_is_never_cut(text: str) -> None:
    assert smsbox.segment_text(text).encoding == "gsm7"
    for pdu, _ in smsbox.encode_submit(text, TO):
        septets = read_submit(pdu).units
        escapes = [i for i, septet in enumerate(septets) if septet == ESCAPE]
        assert all(septets[i + 1] in EXTENSION.values() for i in escapes)


@THOROUGH
@given(ucs2_texts)
def test_surrogate_pair_is_never_cut(text: str) -> None:
    assert smsbox.segment_text(text).encoding == "ucs2"
    for pdu, _ in smsbox.encode_submit(text, TO):
        fields = read_submit(pdu)
        fields.user_data[len(fields.header) :].decode("utf-16-be")  # strict


@THOROUGH
@given(gsm7_texts, references)
def test_fill_bits_and_spare_bits_are_nought(text: str, reference: int) -> None:
    for pdu, _ in smsbox.encode_submit(text, TO, reference=reference):
        fields = read_submit(pdu)
        bits = int.from_bytes(fields.user_data, "little")
        assert bits >> fields.udl * 7 == 0
        if fields.header:
            assert fields.header[:4] == bytes([5, 0, 3, reference])
            assert bits >> 48 & 1 == 0


@THOROUGH
@given(
    sent_at=st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)),
    quarters=st.integers(-79, 79),
)
def test_any_time_stamp_is_read(sent_at: datetime, quarters: int) -> None:
    zone = timezone(timedelta(minutes=15 * quarters))
    sent_at = sent_at.replace(microsecond=0, tzinfo=zone)
    tens, ones = divmod(abs(quarters), 10)
    stamp = "".join(x[1] + x[0] for x in sent_at.strftime("%y %m %d %H %M %S").split())
    stamp += f"{ones:X}{tens | (8 if quarters < 0 else 0):X}"
    assert smsbox.decode_tpdu(deliver_hex(time=stamp), "in").sent_at == sent_at


# Damage ---------------------------------------------------------------------------------------

# The last octet of each is one that must be there.
VALID: list[tuple[str, Direction]] = [
    *[(received.pdu, received.direction) for received in RECEIVED],
    *[(pdu, "out") for sent in SENT for pdu in sent.segments],
    (deliver_hex(), "in"),
    (deliver_hex("0C0608041234030253EA130A", first_octet="44"), "in"),
    (deliver_hex("120B05040B8423F000032A02014CA94F28", first_octet="44"), "in"),
    (report_hex(), "in"),
]
valid = st.sampled_from([*VALID, (report_hex(f"070000{STOP}"), "in")])


def is_sound(message: Any) -> bool:
    """Whether a value that came out of damage has at least the form of one."""
    assert message.kind in {"DELIVER", "SUBMIT", "STATUS-REPORT"}
    assert message.text is None or isinstance(message.text, str)
    assert message.number.encode("utf-8") is not None
    for time in (message.sent_at, message.discharged_at):
        assert time is None or time.astimezone(timezone.utc).utcoffset() == timedelta(0)
    if message.concatenation is not None:
        _, total, sequence = message.concatenation
        assert 1 <= sequence <= total
    return True


@THOROUGH
@given(st.binary(max_size=200), directions)
def test_random_octets_are_read_or_refused(octets: bytes, direction: Direction) -> None:
    message = decoded_or_refused(octets.hex().upper(), direction)
    assert message is None or is_sound(message)


@THOROUGH
@given(st.text(max_size=80), directions)
def test_random_characters_are_read_or_refused(characters: str, direction: Direction) -> None:
    message = decoded_or_refused(characters, direction)
    assert message is None or is_sound(message)


@THOROUGH
@given(
    first_octet=st.integers(0, 255),
    sender=st.binary(max_size=14),
    dcs=st.integers(0, 255),
    time=st.binary(min_size=7, max_size=7),
    user_data=st.binary(max_size=160),
)
def test_random_fields_are_read_or_refused(
    first_octet: int, sender: bytes, dcs: int, time: bytes, user_data: bytes
) -> None:
    well_dated = deliver_hex(
        user_data.hex(), first_octet=f"{first_octet & 0xFC:02X}", dcs=f"{dcs:02X}"
    )
    wild = deliver_hex(
        user_data.hex(),
        first_octet=f"{first_octet:02X}",
        sender=sender.hex(),
        dcs=f"{dcs:02X}",
        time=time.hex(),
    )
    for pdu in (well_dated, wild):
        message = decoded_or_refused(pdu, "in")
        assert message is None or is_sound(message)


@THOROUGH
@given(valid, st.data())
def test_flipped_bits_are_read_or_refused(tpdu: tuple[str, Direction], data: st.DataObject) -> None:
    pdu, direction = tpdu
    octets = bytearray.fromhex(pdu)
    flips = data.draw(st.lists(st.integers(0, len(octets) * 8 - 1), min_size=1, max_size=4))
    for bit in flips:
        octets[bit // 8] ^= 1 << bit % 8
    message = decoded_or_refused(octets.hex().upper(), direction)
    assert message is None or is_sound(message)


@THOROUGH
@given(valid, st.binary(min_size=1, max_size=40))
def test_octets_behind_the_end_are_read_or_refused(
    tpdu: tuple[str, Direction], more: bytes
) -> None:
    pdu, direction = tpdu
    message = decoded_or_refused(pdu + more.hex().upper(), direction)
    assert message is None or is_sound(message)


@THOROUGH
@given(valid, st.data())
def test_missing_middle_is_read_or_refused(
    tpdu: tuple[str, Direction], data: st.DataObject
) -> None:
    pdu, direction = tpdu
    begin = data.draw(st.integers(0, len(pdu) - 1))
    end = data.draw(st.integers(begin + 1, len(pdu)))
    message = decoded_or_refused(pdu[:begin] + pdu[end:], direction)
    assert message is None or is_sound(message)


@pytest.mark.parametrize(("pdu", "direction"), VALID, ids=lambda x: x[-12:])
def test_cut_tpdu_is_refused_or_keeps_its_number_wherever_it_is_cut(
    pdu: str, direction: Direction
) -> None:
    """What came in is read as far as it came: a cut behind the address loses nobody."""
    whole = smsbox.decode_tpdu(pdu, direction)
    is_refused = []
    for end in range(len(pdu)):
        try:
            assert smsbox.decode_tpdu(pdu[:end], direction).number == whole.number
            is_refused.append(False)
        except ValueError:
            is_refused.append(True)
    assert is_refused == sorted(is_refused, reverse=True)
    assert all(is_refused) is (direction == "out")


# A second opinion -----------------------------------------------------------------------------


@SECOND_OPINION
@given(
    # smspdudecoder counts an escape pair as one septet, and a reference of 0xB0 to 0xBF reads
    # to it like an escape.
    text=st.one_of(
        runs_of(st.sampled_from(CHARACTERS)), st.text(CHARACTERS, min_size=1), ucs2_texts
    ),
    to=digits.map("+{}".format),
    smsc=st.none() | digits.map("+{}".format),
    validity_minutes=st.none() | st.integers(1, 63 * WEEK),
    reference=st.integers(0, 0xAF),
)
def test_smspdudecoder_reads_what_is_submitted(
    text: str, to: str, smsc: str | None, validity_minutes: int | None, reference: int
) -> None:
    submit = library("smspdudecoder.fields").SMSSubmit
    segments = smsbox.encode_submit(
        text, to, smsc=smsc, validity_minutes=validity_minutes, reference=reference
    )
    read = [submit.decode(StringIO(pdu)) for pdu, _ in segments]
    assert "".join(fields["user_data"]["data"] for fields in read) == text
    for sequence, fields in enumerate(read, 1):
        assert fields["message-ref"] == reference
        assert fields["recipient"]["number"] == to[1:]
        assert fields["recipient"]["toa"] == {"ton": "international", "npi": "isdn"}
        assert fields["smsc"]["number"] == (smsc[1:] if smsc else None)
        assert fields["header"]["vpf"] == (0 if validity_minutes is None else 2)
        if len(read) > 1:
            [element] = fields["user_data"]["header"]["elements"]
            assert element["data"] == {
                "reference": reference,
                "parts_count": len(read),
                "part_number": sequence,
            }


@SECOND_OPINION
@given(
    text=st.text(CHARACTERS, min_size=1, max_size=150),
    number=digits.map("+{}".format),
    sent_at=st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 30)),
    quarters=st.integers(-48, 56),
)
def test_smspdudecoder_and_we_read_the_same_deliver(
    text: str, number: str, sent_at: datetime, quarters: int
) -> None:
    codecs = library("smspdudecoder.codecs")
    elements = library("smspdudecoder.elements")
    zone = timezone(timedelta(minutes=15 * quarters))
    sent_at = sent_at.replace(microsecond=0, tzinfo=zone)
    pdu = deliver_hex(
        f"{len(text):02X}" + codecs.GSM.encode(text),
        sender=f"{len(number) - 1:02X}91" + elements.Number.encode(number[1:]),
        time=elements.Date.encode(sent_at),
    )
    message = smsbox.decode_tpdu(pdu, "in")
    assert (message.number, message.text, message.sent_at) == (number, text, sent_at)
    theirs = library("smspdudecoder.easy").read_incoming_sms(pdu)
    assert (theirs["sender"], theirs["content"], theirs["date"]) == (number, text, sent_at)


@SECOND_OPINION
@given(
    # python-gsmmodem takes the section sign's code for a grave accent's and knows no surrogates.
    text=st.one_of(
        runs_of(gsm7_characters.filter(lambda x: x != "§")),
        runs_of(st.sampled_from([ZHE, "a", "\u4e16"])),
    ),
    to=digits.map("+{}".format),
    smsc=st.none() | digits.map("+{}".format),
    status_report=st.booleans(),
    validity=st.none()
    | st.sampled_from([5, 10, 12 * HOUR, 12 * HOUR + 30, 24 * HOUR, 2 * DAY, 30 * DAY, 5 * WEEK]),
    reference=references,
)
def test_python_gsmmodem_writes_the_same_submit(
    *,
    text: str,
    to: str,
    smsc: str | None,
    status_report: bool,
    validity: int | None,
    reference: int,
) -> None:
    theirs = library("gsmmodem.pdu").encodeSmsSubmitPdu(
        to,
        text,
        reference=reference,
        validity=None if validity is None else timedelta(minutes=validity),
        smsc=smsc,
        requestStatusReport=status_report,
    )
    ours = smsbox.encode_submit(
        text,
        to,
        smsc=smsc,
        status_report=status_report,
        validity_minutes=validity,
        reference=reference,
    )
    assert [pdu for pdu, _ in ours] == [str(pdu) for pdu in theirs]
