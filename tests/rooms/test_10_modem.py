"""Modem: the conversation, over a real serial port class, with a modem behind a pseudo-terminal."""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smsbox
from rig.played import Far, Play
from rig.pty_modem import TEXT, Fault, PtyModem, wait_until
from rig.tpdus import encode_deliver
from smsbox import RefusalClass

TO = "+12135552313"
TIOCGEXCL = 0x80045440  # linux/tty_ioctl: is the terminal exclusive?
NOON = datetime(2025, 11, 9, 18, tzinfo=timezone.utc)
CMGS = r"AT\+CMGS=\d+"


class Hurried:
    """The real Clock with shorter seconds: the driver's time-outs cost less of ours."""

    def __init__(self, rate: float) -> None:
        self._waiting = smsbox.Waiting()
        self._rate = rate

    def now(self) -> datetime:
        return self._waiting.now()

    def monotonic(self) -> float:
        return self._waiting.monotonic() * self._rate

    def adopt(self, at: datetime | None) -> None:
        raise AssertionError("the driver sets no clock")

    def until(
        self, deadline: float, port: smsbox.Port | None = None, *, interruptible: bool = True
    ) -> bool:
        return self._waiting.until(deadline / self._rate, port, interruptible=interruptible)


class Bench:
    """A modem on a pseudo-terminal and the driver's end of it."""

    def __init__(self, far: PtyModem) -> None:
        self.far = far
        self.port = smsbox.SerialPort(str(far.path), 115200)

    def modem(self, rate: float = 1, **settings: object) -> smsbox.Modem:
        """Give a driver that has not said anything yet; rate: its seconds in one of ours."""
        config = smsbox.parse_config({"modem": settings})
        clock = smsbox.Waiting() if rate == 1 else Hurried(rate)
        return smsbox.Modem(self.port, clock, config.modem)

    def attached(self, rate: float = 5, **settings: object) -> smsbox.Modem:
        modem = self.modem(rate, **settings)
        modem.attach()
        return modem

    def submit(self, modem: smsbox.Modem, text: str = "Hello") -> list[int]:
        return [modem.submit(pdu, octets) for pdu, octets in smsbox.encode_submit(text, TO)]

    def texts(self) -> list[str]:
        return [each.text for each in self.far.texts()]

    def count(self, line: str) -> int:
        return sum(each.line.startswith(line) for each in self.far.heard())

    def await_bytes(self) -> None:
        assert smsbox.Waiting().until(time.monotonic() + 5, self.port)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PtyModem]:
    with PtyModem(tmp_path_factory.mktemp("modem")) as made:
        yield made


@pytest.fixture
def start(far: PtyModem) -> Iterator[Callable[..., Bench]]:
    """Plug in a fresh modem, as PtyModem takes it."""
    benches: list[Bench] = []

    def begin(pin: str = "", deaf_to_ate0: bool = False) -> Bench:
        far.begin_anew(pin=pin, deaf_to_ate0=deaf_to_ate0)
        benches.append(Bench(far))
        return benches[-1]

    yield begin
    for bench in benches:
        bench.port.close()


@pytest.fixture
def bench(start: Callable[..., Bench]) -> Bench:
    return start()


# --- attaching


def test_attach_brings_the_modem_into_a_known_state_and_learns_who_it_is(bench: Bench) -> None:
    modem = bench.attached()
    heard = [each.line for each in bench.far.heard()]
    for line in ("ATE0", "AT+CMEE=1", "AT+CMGF=0", "AT+CNMI=2,1,0,2,0"):
        assert line in heard
    assert not [line for line in heard if "&W" in line or "&F" in line]  # the profile is not ours
    assert modem.delivery_reports
    modem.check_network()
    assert modem.identity == smsbox.Identity(
        "SIMULATED SIM7600", "867584030000017", "8901260000000000017", "Simulated"
    )
    assert modem.signal_dbm == -71


def test_attach_leaves_a_prompt_that_somebody_else_left_behind(bench: Bench) -> None:
    bench.port.write(b"AT+CMGS=20\r")
    bench.await_bytes()
    bench.port.write(b"0011000B912131")  # half a text
    modem = bench.attached()
    assert bench.far.accepted() == []
    assert bench.submit(modem) == [1]


def test_attach_waits_for_a_modem_that_still_starts(bench: Bench) -> None:
    bench.far.misbehave(Fault("AT", times=3, obeys=False, says=b""))
    bench.attached(rate=10)
    assert bench.count("AT") > 3


def test_attach_to_a_silent_modem_gives_up(bench: Bench) -> None:
    bench.far.misbehave(Fault("AT.*", times=0, obeys=False, says=b""))
    with pytest.raises(smsbox.PortLost, match="silent"):
        bench.attached(rate=20)


def test_attach_does_without_what_a_modem_does_not_know(bench: Bench) -> None:
    bench.far.misbehave(
        *(
            Fault(line, times=0, obeys=False, says=b"\r\nERROR\r\n")
            for line in ("ATS0=0", r"AT\+C(LIP|MMS|NMI|CID|GMM|MEE|OPS|FUN)\b.*", r"AT\+ICCID")
        )
    )
    modem = bench.attached()
    assert not modem.delivery_reports
    assert modem.identity.model == "SIMULATED"
    assert bench.submit(modem) == [1]


def test_attach_tries_the_next_way_of_notices_where_one_is_refused(bench: Bench) -> None:
    bench.far.misbehave(Fault(r"AT\+CNMI=2.*", times=0, obeys=False, says=b"\r\nERROR\r\n"))
    assert bench.attached().delivery_reports
    assert bench.count("AT+CNMI=1,1,0,2,0") == 1


def test_unsolicited_lines_are_never_taken_for_answers(bench: Bench) -> None:
    noise = (
        b'\r\nRING\r\n\r\n+CREG: 1\r\n\r\n^RSSI: 17\r\n\r\n+CMTI: "SM",3\r\n'
        b"\r\nUNDER-VOLTAGE WARNNING\r\n\r\n+CUSD: 0\r\n"
    )
    bench.far.misbehave(Fault("AT.*", times=0, before=noise, inside=noise, after=noise))
    modem = bench.attached()
    modem.check_network()
    assert modem.identity == smsbox.Identity(
        "SIMULATED SIM7600", "867584030000017", "8901260000000000017", "Simulated"
    )
    assert modem.signal_dbm == -71
    assert modem.command("AT+CSCA?", "+CSCA:") == ['+CSCA: "+12063130004",145']
    bench.far.misbehave(Fault(TEXT, times=0, before=noise, after=noise))
    assert bench.submit(modem) == [1]
    assert modem.take_notices() == smsbox.Notices(
        False, frozenset({"SM"}), sim_gone=False, weak_power=True
    )


def test_registration_told_unasked_is_not_the_answer(bench: Bench) -> None:
    bench.far.register(False)
    modem = bench.attached()
    bench.far.misbehave(
        Fault(r"AT\+C\w*REG\?", times=0, before=b"\r\n+CREG: 1\r\n", after=b"\r\n+CEREG: 5\r\n")
    )
    with pytest.raises(smsbox.NotReady):
        modem.check_network()


def test_echo_that_can_not_be_switched_off_is_tolerated(start: Callable[..., Bench]) -> None:
    bench = start(deaf_to_ate0=True)
    modem = bench.attached()
    assert modem.identity.model == "SIMULATED SIM7600"
    assert bench.submit(modem, "x" * 400) == [1, 2, 3]
    assert bench.texts() == ["x" * 400]
    bench.far.receive("Yes")
    bench.await_bytes()
    (stored,) = modem.read_memory("SM").whole
    assert smsbox.decode_tpdu(stored.pdu, "in").text == "Yes"


# --- SIM and network


def test_pin_is_given_once_and_never_shown(
    start: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bench = start(pin="9876", deaf_to_ate0=True)
    modem = bench.attached(sim_pin="9876")
    assert bench.count("AT+CPIN=") == 1
    modem.check_network()
    modem.attach()
    assert bench.count("AT+CPIN=") == 1
    assert "9876" not in caplog.text


def test_wrong_pin_is_never_tried_again(start: Callable[..., Bench]) -> None:
    bench = start(pin="9876")
    modem = bench.modem(rate=5, sim_pin="1111")
    for _ in range(2):
        with pytest.raises(smsbox.NotReady) as refused:
            modem.attach()
        assert refused.value.fault is smsbox.Fault.SIM
    assert modem.pin_was_refused
    with pytest.raises(smsbox.NotReady):
        bench.modem(rate=5, sim_pin="1111").attach(may_try_pin=False)
    assert bench.count("AT+CPIN=") == 1


def test_locked_sim_without_a_pin_in_the_config_is_left_alone(start: Callable[..., Bench]) -> None:
    bench = start(pin="9876")
    with pytest.raises(smsbox.NotReady, match="sim_pin"):
        bench.attached()
    assert bench.count("AT+CPIN=") == 0


def test_pin_whose_answer_is_lost_is_not_given_a_second_time(start: Callable[..., Bench]) -> None:
    bench = start(pin="9876")
    bench.far.misbehave(Fault(r"AT\+CPIN=.*", obeys=False, says=b""))
    modem = bench.modem(rate=40, sim_pin="1111")
    for _ in range(2):
        with pytest.raises(smsbox.ModemError):
            modem.attach()
    assert bench.count("AT+CPIN=") == 1


def says_of_its_sim(bench: Bench, state: str) -> None:
    """Let the modem say a state of +CPIN, or an error in its place."""
    is_error = "ERROR" in state
    answer = f"\r\n{state}\r\n" if is_error else f"\r\n+CPIN: {state}\r\n\r\nOK\r\n"
    bench.far.misbehave(Fault(r"AT\+CPIN\?", times=0, says=answer.encode()))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("SIM PUK", "PUK"), ("+CME ERROR: 12", "PUK"), ("+CMS ERROR: 316", "PUK"),
        ("PH-SIM PIN", "another SIM"), ("PH-FSIM PIN", "another SIM"),
        ("PH-FSIM PUK", "another SIM"), ("+CME ERROR: 5", "another SIM"),
        ("+CMS ERROR: 312", "another SIM"), ("PH-NET PIN", "another operator"),
        ("PH-NET PUK", "another operator"), ("PH-NETSUB PIN", "another operator"),
        ("PH-SP PIN", "another operator"), ("PH-SP PUK", "another operator"),
        ("PH-CORP PIN", "another operator"), ("PH-NS PIN", "another operator"),
        ("+CME ERROR: 40", "another operator"), ("+CME ERROR: 44", "another operator"),
        ("+CME ERROR: network personalization PIN required", "another operator"),
    ],
)  # fmt: skip
def test_sim_or_modem_that_is_locked_for_good_is_left_alone_and_named_at_once(
    bench: Bench, state: str, words: str
) -> None:
    says_of_its_sim(bench, state)
    with pytest.raises(smsbox.NotReady, match=words) as locked:
        bench.attached(sim_pin="9876")
    assert locked.value.fault is smsbox.Fault.SIM
    assert (bench.count("AT+CPIN="), bench.count("AT+CPIN?")) == (0, 1)


@pytest.mark.parametrize(
    "state", ["SIM PIN2", "SIM PUK2", "+CME ERROR: 17", "+CME ERROR: 18", "+CMS ERROR: 317"]
)
def test_sim_that_wants_its_second_pin_sends(bench: Bench, state: str) -> None:
    # TS 27.007 8.3: whoever is asked for PIN2 is not kept from anything else.
    says_of_its_sim(bench, state)
    modem = bench.attached(sim_pin="9876")
    modem.check_network()
    assert bench.count("AT+CPIN=") == 0
    assert bench.submit(modem) == [1]


@pytest.mark.parametrize("state", ["SIM BUSY", "NOT READY", "+CME ERROR: 14", "+CMS ERROR: 314"])
def test_busy_sim_is_waited_for(bench: Bench, state: str) -> None:
    answer = f"\r\n{state}\r\n" if "ERROR" in state else f"\r\n+CPIN: {state}\r\n\r\nOK\r\n"
    bench.far.misbehave(Fault(r"AT\+CPIN\?", times=3, says=answer.encode()))
    bench.attached(rate=40)
    assert bench.count("AT+CPIN?") == 4


def test_sim_that_fails_just_after_the_start_is_asked_again(bench: Bench) -> None:
    bench.far.misbehave(Fault(r"AT\+CPIN\?", times=2, says=b"\r\n+CME ERROR: 14\r\n"))
    bench.attached(rate=20)
    assert bench.count("AT+CPIN?") == 3


@pytest.mark.parametrize(
    "says", [b"+CPIN:READY", b'+CPIN: "READY"', b"+CPIN: READY\r\n\r\n+CPIN: READY"]
)
def test_ready_is_known_in_the_spellings_of_the_field(bench: Bench, says: bytes) -> None:
    answer = b"\r\n" + says + b"\r\n\r\nOK\r\n"
    bench.far.misbehave(Fault(r"AT\+CPIN\?", times=0, says=answer))
    bench.attached()


def test_absent_sim_is_named(bench: Bench) -> None:
    bench.far.misbehave(Fault(r"AT\+CPIN\?", times=0, says=b"\r\n+CME ERROR: 10\r\n"))
    with pytest.raises(smsbox.NotReady, match="SIM") as absent:
        bench.attached(rate=50)
    assert absent.value.fault is smsbox.Fault.SIM


def test_what_a_modem_says_of_its_sim_can_not_forge_a_line(bench: Bench) -> None:
    says = b"\r\n+CPIN: ODD\x1b[2J\x85<0>forged\r\n\r\nOK\r\n"
    bench.far.misbehave(Fault(r"AT\+CPIN\?", times=0, says=says))
    with pytest.raises(smsbox.NotReady) as odd:
        bench.attached(rate=50)
    assert str(odd.value).isprintable()


def test_modem_without_registration_is_not_ready(bench: Bench) -> None:
    bench.far.register(False)
    modem = bench.attached()
    with pytest.raises(smsbox.NotReady) as lacking:
        modem.check_network()
    assert lacking.value.fault is smsbox.Fault.NO_NETWORK
    bench.far.register(True)
    modem.check_network()


@pytest.mark.parametrize(
    ("line", "state", "is_ready"),
    [("CREG", 1, True), ("CREG", 5, True), ("CREG", 6, True), ("CEREG", 7, True),
     ("CGREG", 10, True), ("CREG", 0, False), ("CREG", 3, False), ("CEREG", 8, False),
     ("CREG", 11, False)],
)  # fmt: skip
def test_registration_on_any_network_counts(
    bench: Bench, line: str, state: int, is_ready: bool
) -> None:
    bench.far.register(False)
    modem = bench.attached()
    answer = f"\r\n+{line}: 0,{state}\r\n\r\nOK\r\n".encode()
    bench.far.misbehave(Fault(rf"AT\+{line}\?", says=answer))
    if is_ready:
        modem.check_network()
    else:
        with pytest.raises(smsbox.NotReady):
            modem.check_network()


@pytest.mark.parametrize(
    ("state", "words"), [(2, "antenna"), (3, "denies"), (8, "emergency"), (11, "emergency")]
)
def test_missing_registration_names_who_can_do_something(
    bench: Bench, state: int, words: str
) -> None:
    modem = bench.attached()
    for name in ("CREG", "CEREG", "CGREG"):
        answer = f"\r\n+{name}: 0,{state}\r\n\r\nOK\r\n".encode()
        bench.far.misbehave(Fault(rf"AT\+{name}\?", says=answer))
    with pytest.raises(smsbox.NotReady, match=words) as lacking:
        modem.check_network()
    assert lacking.value.fault is smsbox.Fault.NO_NETWORK


@pytest.mark.parametrize(
    ("said", "iccid"),
    [
        ("+CCID: 898600B511223344556", "898600B511223344556"),
        ("+CCID: 89012608812345678F0A", "89012608812345678F0A"),
        ("8901260882281234567f", "8901260882281234567"),
        ('+CCID: "8901260882281234567"', "8901260882281234567"),
        ("+CCID: abcdef", ""),
    ],
)
def test_iccid_may_hold_letters_and_is_filled_up_with_f(
    bench: Bench, said: str, iccid: str
) -> None:
    bench.far.misbehave(Fault(r"AT\+CCID", says=f"\r\n{said}\r\n\r\nOK\r\n".encode()))
    bench.far.misbehave(Fault(r"AT.*CCID.*", times=0, says=b"\r\nERROR\r\n"))
    assert bench.attached().identity.iccid == iccid


def to_ucs2(text: str) -> str:
    return text.encode("utf-16-be").hex().upper()


@pytest.mark.parametrize("obeys", [True, False])
def test_names_in_ucs2_are_read_and_written(bench: Bench, obeys: bool) -> None:
    """Whether the modem can be told to say them plainly, or keeps to hex for ever."""
    answer = b'\r\n+CSCS: "UCS2"\r\n\r\nOK\r\n'
    bench.far.misbehave(Fault(r"AT\+CSCS\?", times=1 if obeys else 0, says=answer))
    for command, told in (
        ("COPS", f'0,0,"{to_ucs2("Télé")}",7'),
        ("CSCA", f'"{to_ucs2("+1206")}",145'),
    ):
        says = f"\r\n+{command}: {told}\r\n\r\nOK\r\n".encode()
        if command == "CSCA" or not obeys:
            bench.far.misbehave(Fault(rf"AT\+{command}\?", times=0, says=says))
    modem = bench.attached(smsc="+1206")
    modem.check_network()
    assert modem.service_centre == "+1206"
    assert modem.identity.operator == ("Simulated" if obeys else "Télé")
    assert bench.count('AT+CSCS="GSM"') == 1
    assert bench.count(f'AT+CSCA="{"+1206" if obeys else to_ucs2("+1206")}"') == 1


# --- USSD

PACKED = "CF2135487D2E4131DCCD25A381E02E"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ('+CUSD: 0,"Balance 12.50",15', "Balance 12.50"),
        ('+CUSD: 0, "Balance 12.50", 15', "Balance 12.50"),
        ('+CUSD: 2,"Balance 12.50"', "Balance 12.50"),
        ('+CUSD: 1,"Balance\n1-Data\r\n2-Minutes",15', "Balance\n1-Data\n2-Minutes"),
        (f'+CUSD: 0,"{PACKED}",15', "OCTATOK 187.24 p."),
        (f'+CUSD: 0,"{to_ucs2("2 €")}",72', "2 €"),
        (f'+CUSD: 0,"{to_ucs2("Баланс 5")}",15', "Баланс 5"),
        ('+CUSD: 0,"Balance 12.50",72', "Balance 12.50"),
        (f'+CUSD: 0,"{b"Balance 12.50".hex()}",68', "Balance 12.50"),
        ('+CUSD: 0,"20251130",15', "20251130"),
    ],
)
def test_ussd_answer_is_read_in_whatever_form_it_comes(
    bench: Bench, said: str, answer: str
) -> None:
    modem = bench.attached(rate=1)
    bench.far.misbehave(Fault(r"AT\+CUSD=.*", says=f"\r\nOK\r\n\r\n{said}\r\n".encode()))
    assert smsbox.read_ussd(*modem.ask_balance("*100#")) == answer


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("\r\nOK\r\n\r\n+CUSD: 4\r\n", "does not support"),
        ("\r\nOK\r\n\r\n+CUSD: 5\r\n", "in time"),
        ("\r\n+CUSD: 2\r\n\r\nOK\r\n", "ended"),
        ("\r\n+CME ERROR: 4\r\n", "CME 4 operation not supported"),
    ],
)
def test_ussd_that_is_refused_is_not_waited_for(bench: Bench, says: str, words: str) -> None:
    modem = bench.attached(rate=1)
    bench.far.misbehave(Fault(r"AT\+CUSD=.*", says=says.encode()))
    begun = time.monotonic()
    with pytest.raises(smsbox.Refused, match=words):
        modem.ask_balance("*100#")
    assert time.monotonic() - begun < 2


def test_sim_without_a_service_centre_is_the_account_s_fault(bench: Bench) -> None:
    bench.far.misbehave(Fault(r"AT\+CSCA\?", says=b'\r\n+CSCA: "",129\r\n\r\nOK\r\n'))
    with pytest.raises(smsbox.NotReady) as lacking:
        bench.attached()
    assert lacking.value.fault is smsbox.Fault.ACCOUNT


def test_service_centre_of_the_config_is_set(bench: Bench) -> None:
    bench.attached(smsc="+12063130004")
    assert bench.count('AT+CSCA="+12063130004"') == 1


# --- one command


@pytest.mark.parametrize("delay_s", [0.5, 0.7, 1.0, 1.4])
def test_late_answer_of_a_timed_out_command_is_not_taken_for_the_next(
    bench: Bench, delay_s: float
) -> None:
    modem = bench.attached()
    bench.far.misbehave(Fault(r"AT\+CSQ", delay_s=delay_s / 5))
    with pytest.raises(smsbox.NoAnswer):
        modem.command("AT+CSQ", "+CSQ:", timeout_s=0.1)
    bench.far.misbehave(Fault(r"AT\+CNMI=.*", obeys=False, says=b"\r\n+CME ERROR: 3\r\n"))
    with pytest.raises(smsbox.Refused, match="CME 3"):
        modem.command("AT+CNMI=2,1,0,2,0")
    assert modem.command("AT+CSCA?", "+CSCA:") == ['+CSCA: "+12063130004",145']
    assert bench.submit(modem) == [1]


def test_late_error_of_a_timed_out_command_refuses_nothing_else(bench: Bench) -> None:
    modem = bench.attached()
    bench.far.misbehave(Fault(r"AT\+CSQ", delay_s=0.1, says=b"\r\n+CME ERROR: 100\r\n"))
    with pytest.raises(smsbox.NoAnswer):
        modem.command("AT+CSQ", "+CSQ:", timeout_s=0.2)
    assert bench.submit(modem) == [1]


def test_what_lies_unread_before_a_command_is_drained(bench: Bench) -> None:
    modem = bench.attached()
    bench.far.say(b"\r\n+CSQ: 1,99\r\n\r\nOK\r\n")
    bench.await_bytes()
    assert modem.command("AT+CSQ", "+CSQ:") == ["+CSQ: 21,99"]


def test_babbling_modem_does_not_lengthen_a_command(bench: Bench) -> None:
    modem = bench.modem()
    babble = b"\r\nRING\r\n" * 40
    bench.far.misbehave(Fault(r"AT\+CSQ", obeys=False, says=babble, byte_s=0.005))
    begun = time.monotonic()
    with pytest.raises(smsbox.NoAnswer):
        modem.command("AT+CSQ", "+CSQ:", timeout_s=0.3)
    assert 0.29 < time.monotonic() - begun < 0.8


def test_answer_that_comes_byte_by_byte_is_one_answer(bench: Bench) -> None:
    modem = bench.attached()
    bench.far.misbehave(Fault(r"AT\+CSQ", byte_s=0.01))
    assert modem.command("AT+CSQ", "+CSQ:") == ["+CSQ: 21,99"]


def test_modem_that_starts_anew_is_noticed(bench: Bench) -> None:
    modem = bench.attached()
    bench.far.reboot()
    bench.await_bytes()
    modem.listen()
    assert modem.take_notices().restarted
    assert not modem.take_notices().restarted


# --- handing over


def test_submit_gives_the_reference_that_the_modem_gave(bench: Bench) -> None:
    modem = bench.attached()
    assert bench.submit(modem, "Hi") == [1]
    assert bench.submit(modem, "Grüße 🎉 " * 20) == [2, 3, 4]
    assert bench.texts() == ["Hi", "Grüße 🎉 " * 20]


def test_there_is_no_pause_between_segments(bench: Bench) -> None:
    modem = bench.modem()
    begun = time.monotonic()
    assert len(bench.submit(modem, "x" * 153 * 30)) == 30
    assert time.monotonic() - begun < 1.5


@pytest.mark.parametrize(
    "fault",
    [
        Fault(CMGS, says=b"\r\n>"),
        Fault(CMGS, says=b">"),
        Fault(CMGS, delay_s=0.4),
        Fault(CMGS, byte_s=0.05),
        Fault(CMGS, before=b"\r\nRING\r\n\r\n+CREG: 1\r\n"),
        Fault(CMGS, before=b"\r\nOVER-VOLTAGE WARNNING\r\n"),
        Fault(TEXT, before=b"\r\nRING\r\n", after=b'\r\n+CMTI: "SM",1\r\n'),
        Fault(TEXT, byte_s=0.01),
        Fault(TEXT, delay_s=0.4),
        Fault(TEXT, says=b"\r\n+CMGS:1\r\n\r\nOK\r\n"),
        Fault(TEXT, says=b"\r\n\r\n+CMGS: 1\r\nOK\r\n"),
        Fault(TEXT, says=b'\r\n+CMGS: 1,"26/03/06,19:42:00-32"\r\n\r\nOK\r\n'),
        Fault(TEXT, says=b"\r\n+CMGS: 1\r\n\r\nRING\r\n\r\nOK\r\n"),
    ],
)
def test_slow_noisy_and_odd_hand_overs_are_understood(bench: Bench, fault: Fault) -> None:
    modem = bench.attached()
    bench.far.misbehave(fault)
    assert bench.submit(modem, "One") == [1]
    assert bench.submit(modem, "Two") == [2]
    assert bench.texts() == ["One", "Two"]


def test_late_reference_of_another_text_before_the_prompt_is_not_taken(bench: Bench) -> None:
    modem = bench.attached()
    bench.far.misbehave(Fault(CMGS, before=b"\r\n+CMGS: 99\r\n\r\nOK\r\n"))
    assert bench.submit(modem) == [1]


def test_missing_prompt_is_no_answer_and_nothing_is_handed_over(bench: Bench) -> None:
    modem = bench.attached(rate=20)
    bench.far.misbehave(Fault(CMGS, obeys=False, says=b""))
    with pytest.raises(smsbox.NoAnswer):
        bench.submit(modem)
    assert bench.far.accepted() == []
    assert bench.submit(modem, "Again") == [1]
    assert bench.texts() == ["Again"]
    assert not [each for each in bench.far.heard() if not each.line.startswith("AT")]


def test_prompt_that_comes_too_late_takes_nothing(bench: Bench) -> None:
    modem = bench.attached(rate=20)
    bench.far.misbehave(Fault(CMGS, delay_s=0.55))
    with pytest.raises(smsbox.NoAnswer):
        bench.submit(modem)
    assert bench.submit(modem, "Again") == [1]
    assert bench.texts() == ["Again"]
    assert not [each for each in bench.far.heard() if not each.line.startswith("AT")]


REFUSALS = [
    ("+CMS ERROR: 38", RefusalClass.NETWORK),
    ("+CMS ERROR: 331", RefusalClass.NETWORK),
    ("+CMS ERROR: 42", RefusalClass.TRANSIENT),
    ("+CMS ERROR: 1", RefusalClass.RECIPIENT),
    ("+CMS ERROR: 8", RefusalClass.ACCOUNT),
    ("+CMS ERROR: 330", RefusalClass.ACCOUNT),
    ("+CMS ERROR: 304", RefusalClass.OURS),
    ("+CMS ERROR: 300", RefusalClass.MODEM),
    ("+CMS ERROR: network out of order", RefusalClass.NETWORK),
    ("+CMS ERROR: SMSC address unknown", RefusalClass.ACCOUNT),
    ("+CMS ERROR: ME failure", RefusalClass.MODEM),
    ("+CMS ERROR: (U)SIM not inserted", RefusalClass.SIM),
]


@pytest.mark.parametrize(("line", "refusal"), [*REFUSALS, ("ERROR", RefusalClass.MODEM)])
def test_refusal_at_the_prompt_has_its_class_and_nothing_is_handed_over(
    bench: Bench, line: str, refusal: RefusalClass
) -> None:
    modem = bench.attached()
    bench.far.misbehave(Fault(CMGS, obeys=False, says=f"\r\n{line}\r\n".encode()))
    with pytest.raises(smsbox.Refused) as refused:
        bench.submit(modem)
    assert refused.value.refusal is refusal
    assert bench.submit(modem, "Next") == [1]
    assert bench.texts() == ["Next"]


@pytest.mark.parametrize(("line", "refusal"), REFUSALS)
def test_refusal_after_ctrl_z_has_its_class(bench: Bench, line: str, refusal: RefusalClass) -> None:
    modem = bench.attached()
    bench.far.misbehave(Fault(TEXT, obeys=False, says=f"\r\n{line}\r\n".encode()))
    with pytest.raises(smsbox.Refused) as refused:
        bench.submit(modem)
    assert refused.value.refusal is refusal
    assert bench.submit(modem, "Next") == [1]


@pytest.mark.parametrize(
    "says",
    [
        b"\r\nERROR\r\n",
        b"\r\nABORTED\r\n",
        b"\r\nNO CARRIER\r\n",
        b"\r\nOK\r\n",
        b"\r\n+CMS ERROR\r\n",
        b"\r\n+CMS ERROR:\r\n",
        b"\r\n+CMS ERROR: 332\r\n",
        b"\r\n+CMS ERROR: 513\r\n",
        b"\r\n+CMS ERROR: network time-out\r\n",
        b"\r\n+CME ERROR: 31\r\n",
        b"\r\nRDY\r\n",
        b"\r\n*ATREADY: 1\r\n",
        b"\r\nNORMAL POWER DOWN\r\n",
    ],
)
def test_what_may_hide_a_sent_text_after_ctrl_z_is_unknown(bench: Bench, says: bytes) -> None:
    only_ok = says == b"\r\nOK\r\n"  # it is no result: three minutes are listened on
    modem = bench.attached(rate=40) if only_ok else bench.attached()
    bench.far.misbehave(Fault(TEXT, says=says))
    with pytest.raises(smsbox.OutcomeUnknown):
        bench.submit(modem)
    assert bench.submit(modem, "Next") == [2]


@pytest.mark.parametrize("code", [500, 512])
def test_error_of_any_kind_long_after_ctrl_z_is_unknown(bench: Bench, code: int) -> None:
    modem = bench.attached(rate=60)
    says = f"\r\n+CMS ERROR: {code}\r\n".encode()
    bench.far.misbehave(Fault(TEXT, says=says, delay_s=0.5))  # 30 of the driver's seconds
    with pytest.raises(smsbox.OutcomeUnknown):
        bench.submit(modem)


def test_silence_after_ctrl_z_is_unknown(bench: Bench) -> None:
    modem = bench.modem(send_timeout_seconds=1)
    bench.far.misbehave(Fault(TEXT, says=b""))
    begun = time.monotonic()
    with pytest.raises(smsbox.OutcomeUnknown):
        bench.submit(modem)
    assert 1.4 < time.monotonic() - begun < 2.5
    assert bench.submit(modem, "Next") == [2]
    assert bench.texts() == ["Hello", "Next"]


def test_result_in_the_time_listened_on_still_counts(bench: Bench) -> None:
    modem = bench.attached(send_timeout_seconds=1)
    bench.far.misbehave(Fault(TEXT, delay_s=0.24))
    assert bench.submit(modem) == [1]


def test_result_after_all_the_time_is_not_taken_for_the_next_text(bench: Bench) -> None:
    modem = bench.attached(send_timeout_seconds=1)
    bench.far.misbehave(Fault(TEXT, delay_s=0.36))
    with pytest.raises(smsbox.OutcomeUnknown):
        bench.submit(modem)
    assert bench.submit(modem, "Next") == [2]


def test_reference_without_its_ok_is_enough(bench: Bench) -> None:
    modem = bench.attached(rate=10)
    bench.far.misbehave(Fault(TEXT, says=b"\r\n+CMGS: 1\r\n"))
    assert bench.submit(modem) == [1]
    assert bench.submit(modem, "Next") == [2]


# --- what is stored


def test_stored_texts_are_told_listed_and_deleted(bench: Bench) -> None:
    modem = bench.attached()
    for text in ("Stop", "Grüße 🎉"):
        bench.far.receive(text, TO)
    wait_until(lambda: bench.port.fileno() and smsbox.Waiting().until(0, bench.port))
    modem.listen()
    assert modem.take_notices().memories == {"SM"}
    stored = modem.read_memory("SM").whole
    told = [smsbox.decode_tpdu(each.pdu, "in") for each in stored]
    assert [(each.kind, each.number, each.text) for each in told] == [
        ("DELIVER", TO, "Stop"), ("DELIVER", TO, "Grüße 🎉"),
    ]  # fmt: skip
    modem.delete_stored(stored[0])
    assert bench.far.stored() == 1
    assert [each.pdu for each in modem.read_memory("").whole] == [stored[1].pdu]
    modem.delete_stored(stored[1])
    assert bench.far.stored() == 0


SHORT = "00040B911346610089F6" + "0000" + "42118041950000" + "0453EA130A"  # 23 octets


def lists(bench: Bench, *lines: str, counts: int = 0, places: str = "") -> smsbox.Contents:
    """What is read of a listing of these lines; counts: what +CPMS says; places: CMGR's error."""
    used = f"{counts},50"
    answer = f"\r\n+CPMS: {used},{used},{used}\r\n\r\nOK\r\n".encode()
    bench.far.misbehave(Fault(r'AT\+CPMS="SM"', says=answer))
    says = "".join(f"\r\n{line}" for line in lines) + "\r\n\r\nOK\r\n"
    bench.far.misbehave(Fault(r"AT\+CMGL=4", says=says.encode("latin-1")))
    if places:
        bench.far.misbehave(Fault(r"AT\+CMGR=.*", times=0, says=f"\r\n{places}\r\n".encode()))
    return bench.attached().read_memory("SM")


def test_line_between_a_listing_and_its_text_does_not_lose_the_text(bench: Bench) -> None:
    contents = lists(bench, "+CMGL: 3,1,,23", "", "RING", SHORT, counts=1)
    assert [(each.place, each.pdu) for each in contents.whole] == [(3, SHORT)]


@pytest.mark.parametrize(
    "states", [("0", "1", "2", "3"), ('"REC UNREAD"', '"REC READ"', '"STO SENT"', '"STO UNSENT"')]
)
def test_texts_that_were_sent_are_told_from_those_that_came(
    bench: Bench, states: tuple[str, ...]
) -> None:
    lines = [line for n, state in enumerate(states) for line in (f"+CMGL: {n},{state},,23", SHORT)]
    contents = lists(bench, *lines, counts=4)
    assert [each.is_received for each in contents.whole] == [True, True, False, False]


@pytest.mark.parametrize(
    "heading",
    ["+CMGL: 3", "+CMGL:", "+CMGL: \xb2,1,,23", "+CMGL: x,1", "+CMGL: 3,1,,22", "+CMGL: 3,1,,"],
)
@pytest.mark.parametrize("line", [SHORT, SHORT[:-2], "STOP", f"^FOO: 1\r\n{SHORT}"])
def test_what_a_listing_does_not_make_clear_is_read_singly(
    bench: Bench, heading: str, line: str
) -> None:
    for text in ("one", "two", "three", "four"):
        bench.far.receive(text, TO)
    contents = lists(bench, heading, line, "+CMGL: 0,1,,23", SHORT, counts=4)
    assert sorted(each.place for each in contents.whole) == [0, 1, 2, 3]
    assert contents.missing == 0


def test_line_that_no_place_owns_up_to_is_kept_and_not_called_whole(bench: Bench) -> None:
    contents = lists(bench, '+CMGL: 1,"REC UNREAD","+12135552313"', "STOP", counts=1)
    assert contents.whole == []
    assert [(each.place, each.pdu) for each in contents.fragments] == [(1, "STOP")]
    assert contents.missing == 1


TEXTS = ["Stop", "Stop", "Help", "Yes, at once", "Help", "No"]


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4),
    places=st.permutations(range(6)),
    harm=st.lists(
        st.tuples(
            st.sampled_from(["missing", "doubled", "foreign", "cut", "spliced", "swapped"]),
            st.integers(0, 12),
            st.integers(0, 30),
        ),
        max_size=4,
    ),
    ends=st.sampled_from(["OK", "OK", "+CMS ERROR: 320", "ERROR"]),
)
def test_whatever_befalls_a_listing_each_text_is_read_and_known_by_its_place(
    texts: list[str], places: list[int], harm: list[tuple[str, int, int]], ends: str
) -> None:
    """What is whole lies at its place just so: it may be deleted. Nothing is missing."""
    box = Far(Play(NOON))
    for n, (text, place) in enumerate(zip(texts, places, strict=False)):
        box.modem.stored[place] = encode_deliver(text, TO, NOON + timedelta(seconds=n))
    stored = dict(box.modem.stored)
    listed = [line for line in box.modem.feed(b"AT+CMGL=4\r").decode().split("\r\n") if line]
    lines = [line for line in listed if not line.startswith(("AT", "OK"))]
    for what, where, more in harm:
        at = where % max(1, len(lines))
        if what == "missing":
            del lines[at : at + 1 + more % 2]
        elif what == "doubled":
            lines[at:at] = lines[at : at + 1 + more % 2]
        elif what == "foreign":
            lines[at:at] = [["^FOO: 1", "00", "+CREG: 1", "NO DIALTONE"][more % 4]]
        elif what == "cut" and lines:
            lines[at] = lines[at][:more]
        elif what == "spliced" and len(lines) > at + 2:
            lines[at : at + 3] = [lines[at][:more] + lines[at + 2][more:]]
        elif what == "swapped" and len(lines) > at + 1:
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
    said = "".join(f"\r\n{line}" for line in [*lines, "", ends]) + "\r\n"
    box.answers[b"AT+CMGL=4\r"] = said.encode()
    modem = smsbox.Modem(box, box._play, smsbox.parse_config({}).modem)
    box._play.end_s = float("inf")
    try:
        contents = modem.read_memory("SM")
    finally:
        for end in box._ends:
            end.close()
    assert {each.place: each.pdu for each in contents.whole} == stored
    assert contents.missing == 0


def test_place_that_answers_an_error_three_times_is_set_aside(bench: Bench) -> None:
    bench.far.receive("Stop", TO)
    bench.far.misbehave(Fault(r"AT\+CMGR=7", times=0, says=b"\r\n+CMS ERROR: 320\r\n"))
    for command, says in (
        (r'AT\+CPMS="SM"', b"\r\n+CPMS: 2,50,2,50,2,50\r\n\r\nOK\r\n"),
        (r"AT\+CMGL=4", b"\r\n+CMS ERROR: 320\r\n"),
    ):
        bench.far.misbehave(Fault(command, times=0, says=says))
    modem = bench.attached()
    missing = [modem.read_memory("SM").missing for _ in range(4)]
    assert missing == [1, 1, 0, 0]
    assert modem.find_set_aside("SM") == {7}
    assert bench.count("AT+CMGR=7") == 3
    modem.attach()  # whoever starts anew may have mended it
    assert modem.find_set_aside("SM") == set()


def test_busy_sim_is_not_read_place_by_place(bench: Bench) -> None:
    with pytest.raises(smsbox.Refused):
        bench.far.misbehave(Fault(r"AT\+CMGL=4", says=b"\r\n+CMS ERROR: 314\r\n"))
        bench.attached().read_memory("SM")
    assert bench.count("AT+CMGR") == 0


# --- the way of notice


@pytest.mark.parametrize(
    ("known", "chosen"),
    [
        ("(0,1,2),(0,1,2,3),(0,2),(0,1,2),(0,1)", "2,1,0,2,0"),
        ("(0-2),(0-3),(0,2),(0,1),(0,1)", "2,1,0,1,0"),
        ("(1,2),(0,1),(0),(0),(1)", "2,1,0,0,1"),
        ("(0,3),(0-2),(0,2),(0),(0)", "3,1,0,0,0"),  # Motorola G20
        ("(0,3),(0,2),(0),(0,1),(1)", "3,2,0,1,1"),  # nRF9160
        ("(3),(3),(0),(2),(0)", "3,3,0,2,0"),
    ],
)
def test_way_of_notice_is_chosen_from_those_that_the_modem_knows(
    bench: Bench, known: str, chosen: str
) -> None:
    answer = f"\r\n+CNMI: {known}\r\n\r\nOK\r\n".encode()
    bench.far.misbehave(
        Fault(r"AT\+CNMI=\?", times=0, says=answer),
        Fault(rf"AT\+CNMI=(?!{chosen}$).*", times=0, says=b"\r\n+CMS ERROR: 303\r\n"),
    )
    modem = bench.attached()
    assert [each.line for each in bench.far.heard() if "+CNMI=" in each.line] == [
        "AT+CNMI=?", f"AT+CNMI={chosen}",
    ]  # fmt: skip
    assert modem.explain_silence() == ""
    assert modem.delivery_reports is (chosen[6] != "0")


@pytest.mark.parametrize("standing", ["ERROR", "+CNMI: 0,0,0,0,0", "+CNMI: 2,0,0,1,0"])
def test_modem_that_takes_no_way_of_notice_says_so(bench: Bench, standing: str) -> None:
    final = "" if standing == "ERROR" else "\r\n\r\nOK"
    bench.far.misbehave(
        Fault(r"AT\+CNMI\?", times=0, says=f"\r\n{standing}{final}\r\n".encode()),
        Fault(r"AT\+CNMI=.*", times=0, says=b"\r\nERROR\r\n"),
    )
    modem = bench.attached()
    assert "no way" in modem.explain_silence()
    assert modem.lacks_reports()


def test_modem_that_keeps_the_way_it_has_is_heard(bench: Bench) -> None:
    bench.far.misbehave(Fault(r"AT\+CNMI=.*", times=0, says=b"\r\nERROR\r\n"))
    assert bench.attached().explain_silence() == ""


# --- noise


def test_command_amid_noise_ends_and_keeps_little(bench: Bench) -> None:
    class Noise:
        name = "noise"

        def __init__(self) -> None:
            self.read_octets = 0

        def fileno(self) -> int:
            return bench.port.fileno()

        def read(self) -> bytes:
            self.read_octets += 4096
            return b"+CSQ: 1,2,34\r\n" * 292 + b"junk!\r\n\0"

        def write(self, data: bytes) -> None:
            pass

        def close(self) -> None:
            pass

    class Ready(smsbox.Waiting):
        def until(
            self, deadline: float, port: smsbox.Port | None = None, *, interruptible: bool = True
        ) -> bool:
            return port is not None or super().until(deadline, port, interruptible=interruptible)

    port = Noise()
    modem = smsbox.Modem(port, Ready(), smsbox.parse_config({}).modem)
    modem.listen()
    assert port.read_octets <= 65_536
    with pytest.raises(smsbox.PortLost, match="without end"):
        modem.command("AT+CSQ", "+CSQ:")
    assert port.read_octets < 1_200_000


@pytest.mark.parametrize(
    "said", ['+CMTI: "é",1', '+CMTI: "smé",1', "+CMTI: x", '+CDSI: "S",3', '+CMTI: "SM;",1']
)
def test_notice_of_no_known_memory_lets_all_be_read(bench: Bench, said: str) -> None:
    modem = bench.attached()
    bench.far.say(f"\r\n{said}\r\n".encode("latin-1"))
    bench.await_bytes()
    modem.listen()
    assert modem.take_notices() == smsbox.Notices(False, frozenset({""}))


@pytest.mark.parametrize("said", ["+CMTI: ,-1", '+CMTI: "",-1', '+CMTI: "ME",-1', "+CMTI: ,"])
def test_notice_of_a_text_stored_nowhere_is_known(bench: Bench, said: str) -> None:
    modem = bench.attached()
    bench.far.say(f"\r\n{said}\r\n".encode())
    bench.await_bytes()
    modem.listen()
    assert modem.take_notices().is_stored_nowhere


# --- the port


def test_port_that_goes_while_idle_is_lost(bench: Bench) -> None:
    modem = bench.attached()
    bench.far.unplug()
    with pytest.raises(smsbox.PortLost):
        modem.listen()
    with pytest.raises(smsbox.PortLost):
        modem.command("AT")
    bench.port.close()
    bench.port.close()


def test_port_that_goes_during_a_command_is_lost(bench: Bench) -> None:
    modem = bench.attached()
    bench.far.misbehave(Fault(r"AT\+CSQ", hangs_up=True))
    with pytest.raises(smsbox.PortLost):
        modem.command("AT+CSQ", "+CSQ:")


def test_port_that_goes_before_the_prompt_is_lost_and_nothing_is_handed_over(bench: Bench) -> None:
    modem = bench.attached()
    bench.far.misbehave(Fault(CMGS, hangs_up=True))
    with pytest.raises(smsbox.PortLost):
        bench.submit(modem)
    assert bench.far.accepted() == []


def test_port_that_goes_after_ctrl_z_leaves_the_outcome_unknown(bench: Bench) -> None:
    modem = bench.attached()
    bench.far.misbehave(Fault(TEXT, hangs_up=True))
    with pytest.raises(smsbox.OutcomeUnknown):
        bench.submit(modem)
    assert bench.texts() == ["Hello"]


def test_absent_port_is_lost_with_its_mend(tmp_path: Path) -> None:
    with pytest.raises(smsbox.PortLost, match="plugged in"):
        smsbox.SerialPort(str(tmp_path / "ttyUSB0"), 115200)


def test_pseudo_terminal_is_locked_but_never_made_exclusive(bench: Bench) -> None:
    other = os.open(bench.far.path, os.O_RDWR | os.O_NOCTTY)
    try:
        state = fcntl.ioctl(other, TIOCGEXCL, struct.pack("i", -1))
        assert struct.unpack("i", state) == (0,)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)
    with pytest.raises(smsbox.PortLost, match="in use"):
        smsbox.SerialPort(os.path.realpath(bench.far.path), 115200)


# --- the simulated modem


def test_simulated_modem_behind_a_socket_pair_is_talked_to_like_a_real_one() -> None:
    taken: list[smsbox.Tpdu] = []
    port = smsbox.SocketPort("sim:", smsbox.open_simulated_port(taken.append))
    modem = smsbox.Modem(port, Hurried(5), smsbox.parse_config({}).modem)
    modem.attach()
    modem.check_network()
    for pdu, octets in smsbox.encode_submit("Grüße 🎉 " * 20, TO):
        modem.submit(pdu, octets)
    port.close()
    assert [each.concatenation for each in taken] == [(0, 3, 1), (0, 3, 2), (0, 3, 3)]
    assert "".join(each.text or "" for each in taken) == "Grüße 🎉 " * 20


def test_simulated_modem_refuses_what_is_no_submit() -> None:
    far = smsbox.SimulatedModem()
    ((pdu, octets),) = smsbox.encode_submit("Hello", TO)
    for announced, sent in ((octets + 1, pdu), (octets, pdu[:-2]), (octets, "zz"), (0, "")):
        assert far.feed(f"AT+CMGS={announced}\r".encode()).endswith(b"\r\n> ")
        assert b"+CMS ERROR: 304" in far.feed(sent.encode() + b"\x1a")
    far.feed(f"AT+CMGS={octets}\r".encode())
    assert b"+CMGS" not in far.feed(pdu.encode() + b"\x1b")
    assert far.accepted == []


# --- finding the port


class Sysfs:
    """/sys as the kernel lays it out for USB devices with serial ports."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.tty = root / "class" / "tty"
        self.tty.mkdir(parents=True)

    def plug(self, place: str, vendor: str, product: str, ports: dict[str, str]) -> None:
        """Add a device; ports: tty name -> bInterfaceNumber."""
        device = self._root / "devices" / "usb1" / place
        device.mkdir(parents=True)
        (device / "idVendor").write_text(vendor + "\n")
        (device / "idProduct").write_text(product + "\n")
        for name, number in ports.items():
            interface = device / f"{place}:1.{int(number, 16)}"
            interface.mkdir()
            (interface / "bInterfaceNumber").write_text(number + "\n")
            is_acm = name.startswith("ttyACM")  # it has no port device between
            parent = interface if is_acm else interface / name
            node = parent / "tty" / name
            node.mkdir(parents=True)
            (node / "device").symlink_to(parent)
            (self.tty / name).symlink_to(node)


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    made = Sysfs(tmp_path / "sys")
    for name in ("tty0", "ttyS0", "ttyAMA0", "ttyprintk"):
        (made.tty / name).mkdir()
    return made


FIVE_PORTS = {f"ttyUSB{place}": f"{place:02}" for place in range(5)}


@pytest.mark.parametrize(
    ("vendor", "product", "ports", "found"),
    [
        ("1e0e", "9001", FIVE_PORTS, "/dev/ttyUSB2"),  # SIM7600
        ("1e0e", "9011", {"ttyUSB0": "02", "ttyUSB1": "04", "ttyUSB2": "05"}, "/dev/ttyUSB1"),
        ("2c7c", "0125", FIVE_PORTS, "/dev/ttyUSB2"),  # EC25
        ("2c7c", "0296", FIVE_PORTS, "/dev/ttyUSB2"),  # BG96
        ("2c7c", "0125", {"ttyUSB4": "00", "ttyUSB7": "02"}, "/dev/ttyUSB7"),
        ("19d2", "0117", FIVE_PORTS, "/dev/ttyUSB2"),
        ("1546", "1102", {"ttyACM0": "00", "ttyACM1": "02"}, "/dev/ttyACM0"),
    ],
)
def test_known_modem_is_found_by_its_usb_identity(
    sysfs: Sysfs, vendor: str, product: str, ports: dict[str, str], found: str
) -> None:
    sysfs.plug("1-1", vendor, product, ports)
    assert smsbox.find_port("auto", sysfs.tty) == found


@pytest.mark.parametrize(
    ("vendor", "product", "name"),
    [("2341", "0043", "ttyACM0"), ("1a86", "7523", "ttyUSB0"), ("0403", "6001", "ttyUSB2")],
)
def test_unknown_device_is_never_taken(sysfs: Sysfs, vendor: str, product: str, name: str) -> None:
    sysfs.plug("1-1", vendor, product, {name: "00"})
    with pytest.raises(smsbox.PortLost) as lost:
        smsbox.find_port("auto", sysfs.tty)
    assert str(lost.value) == (
        f"/dev/{name} is there and not known: if it is the modem, put"
        f' port = "/dev/{name}" into [modem] of the config'
    )


def test_nothing_that_is_plugged_in_is_said_so(sysfs: Sysfs) -> None:
    with pytest.raises(smsbox.PortLost, match="no modem is plugged in that is known"):
        smsbox.find_port("auto", sysfs.tty)


def test_modem_is_found_beside_unknown_devices(sysfs: Sysfs) -> None:
    sysfs.plug("1-1", "2341", "0043", {"ttyACM0": "02"})
    sysfs.plug("1-2", "2c7c", "0125", {"ttyUSB0": "00", "ttyUSB1": "02"})
    assert smsbox.find_port("auto", sysfs.tty) == "/dev/ttyUSB1"


def test_two_modems_are_an_error_with_the_lines_for_the_config(sysfs: Sysfs) -> None:
    sysfs.plug("1-1", "1e0e", "9001", FIVE_PORTS)
    sysfs.plug("1-2", "2c7c", "0125", {"ttyUSB5": "00", "ttyUSB7": "02"})
    with pytest.raises(smsbox.PortLost) as both:
        smsbox.find_port("auto", sysfs.tty)
    assert str(both.value) == (
        'there are 2 modems: put port = "/dev/ttyUSB2" or port = "/dev/ttyUSB7" into [modem] of'
        " the config"
    )


def test_huawei_tells_its_port_by_the_interface_s_protocol(sysfs: Sysfs) -> None:
    sysfs.plug("1-1", "12d1", "1506", {"ttyUSB0": "00", "ttyUSB1": "01"})
    for name, protocol in (("1-1:1.0", "01"), ("1-1:1.1", "02")):
        folder = sysfs.tty.parent.parent / "devices" / "usb1" / "1-1" / name
        (folder / "bInterfaceProtocol").write_text(protocol + "\n")
    assert smsbox.find_port("auto", sysfs.tty) == "/dev/ttyUSB1"


def test_named_port_is_taken_at_its_word_while_it_is_there(sysfs: Sysfs, tmp_path: Path) -> None:
    port = tmp_path / "ttyMINE"
    port.touch()
    assert smsbox.find_port(str(port), sysfs.tty) == str(port)
    assert smsbox.find_port("socket://localhost:5000", sysfs.tty) == "socket://localhost:5000"
    port.unlink()
    with pytest.raises(smsbox.PortLost, match="ttyMINE is not there"):
        smsbox.find_port(str(port), sysfs.tty)
    sysfs.plug("1-1", "1e0e", "9001", FIVE_PORTS)  # another is never taken in its place
    with pytest.raises(smsbox.PortLost, match='another is there: port = "/dev/ttyUSB2"'):
        smsbox.find_port(str(port), sysfs.tty)
