"""AT: bytes -> lines and prompts; what a line means."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smsbox
from smsbox import LineParser, RefusalClass

# What modems really say, and what no modem should.
WORDS = [
    b"\r", b"\n", b"\r\n", b"\r\r\n", b"> ", b">", b"\0", b"\xff", b"\x1a", b"\x1b", b" ",
    b"OK", b"ERROR", b"+CMGS: 12", b"+CMS ERROR: 38", b"RDY", b"AT+CSQ", b"+CSQ: 21,99",
    b'+CUSD: 1,"', b'",15',
]  # fmt: skip
CONVERSATION = st.lists(st.sampled_from(WORDS) | st.binary(max_size=8), max_size=40).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


# --- lines


@given(CONVERSATION, st.lists(st.integers(0, 10_000), max_size=30))
@settings(max_examples=300)
def test_lines_are_the_same_however_the_bytes_are_cut(data: bytes, places: list[int]) -> None:
    whole, sliced, single = LineParser(), LineParser(), LineParser()
    expected = whole.feed(data)
    bytes_apart = [data[place : place + 1] for place in range(len(data))]
    assert [line for part in cut(data, places) for line in sliced.feed(part)] == expected
    assert [line for part in bytes_apart for line in single.feed(part)] == expected
    prompt = whole.take_prompt()
    assert sliced.take_prompt() is prompt
    assert single.take_prompt() is prompt
    assert whole.feed(b"\r\n") == sliced.feed(b"\r\n") == single.feed(b"\r\n")


@given(st.lists(st.binary(max_size=200), max_size=20))
@settings(max_examples=300)
def test_no_bytes_at_all_are_an_error(parts: list[bytes]) -> None:
    parser = LineParser()
    for part in parts:
        for line in parser.feed(part):
            assert line == line.strip() != ""
            assert "\r" not in line
            assert "\n" not in line
            smsbox.parse_final(line)
            smsbox.parse_registration(line)
            smsbox.parse_fields(line)
            smsbox.is_unsolicited(line)
            smsbox.is_reboot(line)
        parser.take_prompt()


@given(st.text())
@settings(max_examples=300)
def test_no_line_at_all_is_an_error(line: str) -> None:
    smsbox.parse_final(line)
    smsbox.parse_final(f"+CMS ERROR:{line}")
    smsbox.parse_registration(line)
    smsbox.parse_registration(f"+CREG: 0,{line}")
    smsbox.parse_registration(f"+CREG: {line}")


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"\r\nOK\r\n", ["OK"]),
        (b"\r\r\n+CSQ: 21,99\r\r\n\r\nOK\r\n", ["+CSQ: 21,99", "OK"]),
        (b"AT\r\r\nOK\r\n", ["AT", "OK"]),
        (b"OK\rERROR\n", ["OK", "ERROR"]),
        (b"\0\0OK\r\n", ["OK"]),
        (b"\r\n  \r\n", []),
        (b"OK", []),
        (b"\r\n> ", []),
        (b"\xff\xfe\r\nRDY\r\n", ["\xff\xfe", "RDY"]),
    ],
)
def test_bytes_become_lines(data: bytes, lines: list[str]) -> None:
    assert LineParser().feed(data) == lines


def test_endless_line_is_kept_short() -> None:
    parser = LineParser()
    for _ in range(100):
        assert parser.feed(b"x" * 4096) == []
    (line,) = parser.feed(b"\r\n")
    assert len(line) <= 4096
    assert parser.feed(b"OK\r\n") == ["OK"]


def test_overlong_line_is_the_same_however_it_is_cut() -> None:
    data = b"a" * 5000 + b"b" * 5000 + b"\r\nOK\r\n"
    sliced = LineParser()
    lines = [line for part in cut(data, [100, 4000, 9000]) for line in sliced.feed(part)]
    assert lines == LineParser().feed(data)


def test_longest_listing_of_a_text_stays_whole() -> None:
    pdu = "07912160130300F4" + "00" * 175  # a service centre and the longest TPDU, in hex
    assert LineParser().feed(f"+CMGL: 1,0,,175\r\n{pdu}\r\n".encode())[1] == pdu


def test_time_grows_with_the_bytes_and_not_faster() -> None:
    def seconds(count: int) -> float:
        parser = LineParser()
        data = b"x" * 97 + b"\r\n"
        begun = time.process_time()
        for _ in range(count):
            for place in range(0, len(data), 10):
                parser.feed(data[place : place + 10])
        return time.process_time() - begun

    few = min(seconds(500) for _ in range(3))
    many = min(seconds(5000) for _ in range(3))
    assert many < 25 * few


def test_time_grows_with_one_endless_line_and_not_faster() -> None:
    def seconds(count: int) -> float:
        parser = LineParser()
        begun = time.process_time()
        for _ in range(count):
            parser.feed(b"x")
        return time.process_time() - begun

    few = min(seconds(4_000) for _ in range(2))
    many = min(seconds(20_000) for _ in range(2))
    assert many < 20 * few


# --- a USSD text of several lines

MENU = b'+CUSD: 1,"Balance 5.00\n1-Data\r\n2-Minutes",15\r\n'


def test_lines_of_a_ussd_text_are_one_line() -> None:
    (line,) = LineParser().feed(MENU)
    assert line == '+CUSD: 1,"Balance 5.00\n1-Data\n2-Minutes",15'


def test_what_comes_amid_a_ussd_text_is_no_part_of_it() -> None:
    said = MENU.replace(b"\n1-", b"\n^RSSI: 17\r\nOK\r\n1-")
    assert LineParser().feed(said) == [
        "^RSSI: 17", "OK", '+CUSD: 1,"Balance 5.00\n1-Data\n2-Minutes",15',
    ]  # fmt: skip


def test_ussd_text_that_never_ends_swallows_no_more_than_a_few_lines() -> None:
    parser = LineParser()
    lines = parser.feed(b'+CUSD: 1,"Balance\r\n' + b"+CSQ: 1\r\n" * 50)
    assert len(lines) == 50 - 39 + 1
    assert parser.feed(b"OK\r\n") == ["OK"]


# --- the prompt


@pytest.mark.parametrize("said", [b"\r\n> ", b"\r\n>", b"> ", b">", b"\r\nRING\r\n\r\n> "])
def test_prompt_is_known_with_and_without_its_space(said: bytes) -> None:
    parser = LineParser()
    parser.feed(said)
    assert parser.take_prompt()
    assert not parser.take_prompt()
    assert parser.feed(b"\r\n+CMGS: 1\r\n") == ["+CMGS: 1"]


def test_space_that_comes_behind_the_prompt_does_no_harm() -> None:
    parser = LineParser()
    parser.feed(b"\r\n>")
    assert parser.take_prompt()
    assert parser.feed(b" \r\n+CMGS: 1\r\n") == ["+CMGS: 1"]


@pytest.mark.parametrize("said", [b"", b"\r\nOK\r\n", b"> \r\n", b"a > ", b">>", b"> 07"])
def test_other_bytes_are_no_prompt(said: bytes) -> None:
    parser = LineParser()
    parser.feed(said)
    assert not parser.take_prompt()


# --- final result codes


@pytest.mark.parametrize(
    ("line", "words", "refusal"),
    [
        ("+CMS ERROR: 38", "CMS 38 network out of order", RefusalClass.NETWORK),
        ("+CMS ERROR:38", "CMS 38 network out of order", RefusalClass.NETWORK),
        ("+CMS ERROR: 1", "CMS 1 unassigned number", RefusalClass.RECIPIENT),
        ("+CMS ERROR: 8", "CMS 8 operator determined barring", RefusalClass.ACCOUNT),
        ("+CMS ERROR: 27", "CMS 27 destination out of service", RefusalClass.RECIPIENT),
        ("+CMS ERROR: 41", "CMS 41 temporary failure", RefusalClass.TRANSIENT),
        ("+CMS ERROR: 42", "CMS 42 congestion", RefusalClass.TRANSIENT),
        ("+CMS ERROR: 50", "CMS 50 requested facility not subscribed", RefusalClass.ACCOUNT),
        ("+CMS ERROR: 96", "CMS 96 invalid mandatory information", RefusalClass.OURS),
        ("+CMS ERROR: 300", "CMS 300 modem failure", RefusalClass.MODEM),
        ("+CMS ERROR: 304", "CMS 304 invalid PDU parameter", RefusalClass.OURS),
        ("+CMS ERROR: 310", "CMS 310 no SIM", RefusalClass.SIM),
        ("+CMS ERROR: 330", "CMS 330 service centre address unknown", RefusalClass.ACCOUNT),
        ("+CMS ERROR: 331", "CMS 331 no network service", RefusalClass.NETWORK),
        ("+CMS ERROR: 332", "CMS 332 network time-out", RefusalClass.UNKNOWN),
        ("+CMS ERROR: 500", "CMS 500 unknown error", RefusalClass.MODEM),
        ("+CMS ERROR: 9999", "CMS 9999 unknown code", RefusalClass.MODEM),
        ("+CMS ERROR: Unknown error", "CMS 500 unknown error", RefusalClass.MODEM),
        ("+CMS ERROR: network out of order", "CMS 38 network out of order", RefusalClass.NETWORK),
        ("+CMS ERROR: SIM failure", "CMS 313 SIM failure", RefusalClass.SIM),
        (
            "+CMS ERROR: SMSC address unknown",
            "CMS 330 service centre address unknown",
            RefusalClass.ACCOUNT,
        ),
        ("+CMS ERROR: (U)SIM PIN required", "CMS 311 SIM PIN needed", RefusalClass.SIM),
        ("+CMS ERROR: USIM busy", "CMS 314 SIM busy", RefusalClass.TRANSIENT),
        ("+CMS ERROR: Network timeout", "CMS 332 network time-out", RefusalClass.UNKNOWN),
        ("+CMS ERROR: ME failure", "CMS 300 modem failure", RefusalClass.MODEM),
        (
            "+CMS ERROR: Protocol error, unspecified",
            "CMS 111 protocol error",
            RefusalClass.RECIPIENT,
        ),
        ("+CMS ERROR: what?", "CMS what?", RefusalClass.MODEM),
        ("+CMS ERROR:", "CMS error without a code", RefusalClass.MODEM),
        ("+CMS ERROR", "CMS error without a code", RefusalClass.MODEM),
        ("+CME ERROR: 10", "CME 10 no SIM", RefusalClass.SIM),
        ("+CME ERROR: 14", "CME 14 SIM busy", RefusalClass.TRANSIENT),
        ("+CME ERROR: 30", "CME 30 no network service", RefusalClass.NETWORK),
        ("+CME ERROR: SIM failure", "CME 13 SIM failure", RefusalClass.SIM),
        ("ERROR", "ERROR", RefusalClass.MODEM),
        ("ABORTED", "ABORTED", RefusalClass.MODEM),
        ("COMMAND NOT SUPPORT", "COMMAND NOT SUPPORT", RefusalClass.MODEM),
        ("TOO MANY PARAMETERS", "TOO MANY PARAMETERS", RefusalClass.MODEM),
    ],
)
def test_refusal_keeps_its_number_and_gets_its_words(
    line: str, words: str, refusal: RefusalClass
) -> None:
    final = smsbox.parse_final(line)
    assert final is not None
    assert final[:3] == (False, words, refusal)
    number = words.partition(" ")[2].partition(" ")[0]
    assert final.code == (f"{words[:3]} {number}" if number.isdigit() else "")


@pytest.mark.parametrize("kind", ["CMS", "CME"])
def test_refusal_in_words_is_the_refusal_of_their_number(kind: str) -> None:
    """Both our words and the standard's, in capitals and without their punctuation."""
    table = smsbox._CMS_CODES if kind == "CMS" else smsbox._CME_CODES
    for number, ours, theirs, refusal in smsbox._list_codes(table):
        for words in (ours, theirs.upper(), theirs.replace("SIM", "(U)SIM")):
            final = smsbox.parse_final(f"+{kind} ERROR: {words}")
            assert final is not None
            assert final.refusal is refusal, (number, words)
            assert final.code.startswith(kind)


@pytest.mark.parametrize("kind", ["CMS", "CME"])
def test_every_code_has_words_and_a_class(kind: str) -> None:
    for code in range(1000):
        final = smsbox.parse_final(f"+{kind} ERROR: {code}")
        assert final is not None
        assert not final.ok
        assert final.words.startswith(f"{kind} {code} ")


def test_ok_is_the_only_final_result_that_is_well() -> None:
    final = smsbox.parse_final("OK")
    assert final is not None
    assert final.ok


@pytest.mark.parametrize(
    "line",
    ["", "OKAY", "OK.", "+OK", "+CSQ: 21,99", "+CMGS: 12", "RDY", "ERRORS", "AT", "+CMS: 38", ">"],
)
def test_other_lines_are_no_final_result(line: str) -> None:
    assert smsbox.parse_final(line) is None


@pytest.mark.parametrize("says", ["+CMS ERROR: ", "+CME ERROR: ", "COMMAND NOT SUPPORT"])
def test_words_of_a_modem_can_not_forge_a_line(says: str) -> None:
    final = smsbox.parse_final(f"{says}a\x1b[2Jb\x9b\x85<0>c")
    assert final is not None
    assert final.words.isprintable()


# --- registration


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("+CREG: 0,1", 1),
        ("+CREG: 0,5", 5),
        ("+CREG:0,1", 1),
        ("+CREG: 000,001", 1),  # Motorola
        ('+CREG: 2,1,"1A2B","00C0FFEE",7', 1),
        ('+CEREG: 2,5,"1A2B","00C0FFEE",7', 5),
        ("+CGREG: 1,0", 0),
        ("+CREG: 0,11", 11),
    ],
)
def test_answers_tell_the_registration(line: str, state: int) -> None:
    assert smsbox.parse_registration(line) == state


@pytest.mark.parametrize(
    "line",
    ["+CREG: 1", "+CREG: 5", '+CREG: 1,"1A2B","00C0"', '+CEREG: 5,"1A2B","00C0FFEE",7', "+CREG:"],
)
def test_unsolicited_registration_lines_are_no_answer(line: str) -> None:
    assert smsbox.parse_registration(line) is None


# --- lines that come unasked


@pytest.mark.parametrize(
    "line",
    [
        "RDY", "RING", "+CFUN: 1", "+CPIN: READY", "+CPIN: NOT READY", "Call Ready", "SMS Ready",
        "*ATREADY: 1", "SMS DONE", "PB DONE", "QCRDY", "^BOOT:1,2", "^RSSI: 17", "^HCSQ: 1",
        "^MODE: 5,4", "^SRVST: 2", "+QIND: SMS DONE", '*PSUTTZ: 2026,1,1,"+0",0', "+CTZV: +0",
        "DST: 0", "+CLIP: 1", '+CMTI: "SM",3', '+CDSI: "SR",1', "+CDS: 25", '+CUSD: 0,"x",15',
        "UNDER-VOLTAGE WARNNING", "OVER-VOLTAGE WARNNING", "UNDER-VOLTAGE POWER DOWN",
        "NORMAL POWER DOWN",
    ],
)  # fmt: skip
def test_lines_that_modems_say_by_themselves_are_known(line: str) -> None:
    assert smsbox.is_unsolicited(line)


@pytest.mark.parametrize(
    "line",
    ["SIMCOM INCORPORATED", "867584030000017", "+CSQ: 21,99", "+CMGL: 1,0,,22", "Quectel", "EC25"],
)
def test_answers_are_not_taken_for_unsolicited(line: str) -> None:
    assert not smsbox.is_unsolicited(line)


@pytest.mark.parametrize("line", ["RDY", "*ATREADY: 1", "QCRDY", "NORMAL POWER DOWN"])
def test_modem_that_starts_or_goes_off_says_so(line: str) -> None:
    assert smsbox.is_reboot(line)


@pytest.mark.parametrize(
    "line", ["RING", "SMS Ready", "+CPIN: READY", "UNDER-VOLTAGE WARNNING", "RDYX", "OK"]
)
def test_other_lines_are_no_restart(line: str) -> None:
    assert not smsbox.is_reboot(line)
