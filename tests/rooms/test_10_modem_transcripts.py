r"""Transcripts: what real devices say, played to the driver over a scripted port and a fake clock.

A transcript is text: `# ` a remark, `> ` what the modem hears, `< ` what it then says, `~ ` seconds
that pass before it goes on. What stands before the first `> ` it says when the port is opened. Line
ends are written out (\r\n); a command that stands there more often gets its answers in that order,
the last for ever; {PDU} is any text with its Ctrl-Z; to what does not stand there it says OK.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

import smsbox
from rig.paths import ROOT

FOLDER = ROOT / "tests" / "transcripts"
TO = "+12135552313"


class Transcript:
    """The answers of a transcript, by command."""

    def __init__(self, name: str) -> None:
        self.opening: list[tuple[float, bytes]] = []
        self.answers: dict[str, list[list[tuple[float, bytes]]]] = {}
        said, wait_s = self.opening, 0.0
        for line in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
            mark, rest = line[:2], line[2:]
            assert mark in ("# ", "> ", "< ", "~ ", "#", ""), line
            if mark == "> ":
                said = []
                self.answers.setdefault(rest, []).append(said)
            elif mark == "~ ":
                wait_s = float(rest)
            elif mark == "< ":
                said.append(
                    (wait_s, rest.encode("latin-1").decode("unicode_escape").encode("latin-1"))
                )
                wait_s = 0.0

    def answer(self, command: str) -> list[tuple[float, bytes]]:
        """Give (seconds, bytes) of what is said to a command."""
        answers = self.answers.get(command)
        if answers is None:
            return [(0.0, b"\r\nOK\r\n")]
        return answers.pop(0) if len(answers) > 1 else answers[0]


class FakeClock:
    """Time that passes only when it is waited for."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 3, 6, 18, tzinfo=timezone.utc) + timedelta(seconds=self.at)

    def monotonic(self) -> float:
        return self.at

    def until(
        self, deadline: float, port: smsbox.Port | None = None, *, interruptible: bool = True
    ) -> bool:
        assert port is None or isinstance(port, ScriptedPort)
        comes_at = port.comes_at() if port is not None else None
        if comes_at is not None and comes_at <= deadline:
            self.at = max(self.at, comes_at)
            return True
        self.at = max(self.at, deadline)
        return False


class ScriptedPort:
    """A Port at whose other end a transcript answers."""

    name = "transcript"

    def __init__(self, clock: FakeClock, transcript: Transcript) -> None:
        self.heard: list[str] = []
        self._clock = clock
        self._transcript = transcript
        self._said: list[tuple[float, bytes]] = []
        self._rest = b""
        self._say(transcript.opening)

    def comes_at(self) -> float | None:
        return self._said[0][0] if self._said else None

    def fileno(self) -> int:
        raise AssertionError("a scripted port is not selected on")

    def read(self) -> bytes:
        data = b""
        while self._said and self._said[0][0] <= self._clock.at:
            data += self._said.pop(0)[1]
        return data

    def write(self, data: bytes) -> None:
        self._rest += data.replace(b"\x1b", b"")
        while end := next((byte for byte in self._rest if byte in b"\r\x1a"), None):
            unit, _, self._rest = self._rest.partition(bytes([end]))
            command = "{PDU}" if end == 0x1A else unit.decode("ascii")
            if command:
                self.heard.append(command)
                self._say(self._transcript.answer(command))

    def close(self) -> None:
        pass

    def _say(self, said: list[tuple[float, bytes]]) -> None:
        at = max(self._clock.at, self._said[-1][0] if self._said else 0.0)
        for wait_s, data in said:
            at += wait_s
            self._said.append((at, data))


class Play:
    """A driver that talks to a transcript."""

    def __init__(self, name: str, **settings: object) -> None:
        self.clock = FakeClock()
        self.script = Transcript(name)
        self.port = ScriptedPort(self.clock, self.script)
        config = smsbox.parse_config({"modem": settings})
        self.modem = smsbox.Modem(self.port, self.clock, config.modem)

    def attach(self) -> smsbox.Modem:
        self.modem.attach()
        self.modem.check_network()
        return self.modem

    def submit(self) -> int:
        ((pdu, octets),) = smsbox.encode_submit("Hello", TO)
        return self.modem.submit(pdu, octets)


def test_sim7600_is_known_and_its_errors_in_words_have_their_class() -> None:
    play = Play("sim7600g-h")
    modem = play.attach()
    assert modem.identity == smsbox.Identity(
        "SIMCOM INCORPORATED SIMCOM_SIM7600G-H", "868822040012346", "89012608822812345676",
        "T-Mobile",
    )  # fmt: skip
    assert play.submit() == 43
    with pytest.raises(smsbox.Refused, match="network out of order") as refused:
        play.submit()
    assert refused.value.refusal is smsbox.RefusalClass.NETWORK


def test_sim7600_that_says_unknown_error_in_words_is_not_taken_for_sent() -> None:
    play = Play("sim7600g-h-no-sgs")
    play.attach()
    with pytest.raises((smsbox.Refused, smsbox.OutcomeUnknown), match=r"(?i)unknown error"):
        play.submit()


def test_ec25_is_known_through_its_indications() -> None:
    play = Play("ec25-af")
    modem = play.attach()
    assert modem.identity == smsbox.Identity(
        "Quectel EC25", "861107030123454", "89014103271234567893", "AT&T"
    )
    assert modem.signal_dbm == -71
    assert play.submit() == 7


def test_a7670_is_waited_for_until_it_does_pdu_mode() -> None:
    play = Play("a7670sa")
    modem = play.attach()
    assert play.port.heard.count("AT+CMGF=0") == 4
    assert modem.identity.iccid == "8931080019123456789"
    assert play.submit() == 1


def test_sim800_learns_the_baud_rate_and_has_another_way_of_notices() -> None:
    play = Play("sim800c")
    modem = play.attach()
    assert modem.identity.iccid == "8901260882281234567"
    assert modem.delivery_reports
    assert play.port.heard.count("AT+CNMI=1,1,0,2,0") == 1
    assert modem.take_notices().weak_power
    assert play.submit() == 12


def test_sim800_that_loses_its_power_after_the_hand_over_may_have_sent() -> None:
    play = Play("sim800l-brown-out")
    play.attach()
    with pytest.raises(smsbox.OutcomeUnknown):
        play.submit()


def test_sim800_that_loses_its_power_before_the_prompt_has_sent_nothing() -> None:
    play = Play("sim800l-brown-out-at-prompt")
    play.attach()
    with pytest.raises((smsbox.NoAnswer, smsbox.Refused)):
        play.submit()
    assert "{PDU}" not in play.port.heard


@pytest.mark.parametrize("words", ["RDY", "NORMAL POWER DOWN", "*ATREADY: 1", "QCRDY"])
def test_start_of_a_modem_is_noticed_between_command_and_answer(words: str) -> None:
    play = Play("ec25-af")
    modem = play.attach()
    modem.take_notices()
    play.script.answers["AT+CSQ"] = [
        [(0.0, f"\r\n{words}\r\n\r\n+CSQ: 9,99\r\n\r\nOK\r\n".encode())]
    ]
    assert modem.command("AT+CSQ", "+CSQ:") == ["+CSQ: 9,99"]
    assert modem.take_notices().restarted


def test_e3372_does_without_what_it_does_not_support() -> None:
    play = Play("e3372")
    modem = play.attach()
    assert modem.identity.model == "huawei E3372"
    assert modem.identity.iccid == "98101408221834567892"
    assert play.submit() == 200


def test_wavecom_that_leaves_out_the_ok_after_cpin_is_ready() -> None:
    play = Play("wavecom-fastrack")
    play.attach()
    assert play.submit() == 3


def test_motorola_registration_with_leading_zeros_is_understood() -> None:
    modem = Play("motorola-g24").attach()
    assert modem.registration == "at home"


def test_quoted_ready_is_ready() -> None:
    assert Play("zte-mf190").attach().identity.model == "ZTE INCORPORATED MF190"


def test_line_ends_with_two_carriage_returns_and_no_space_after_the_colon_are_read() -> None:
    play = Play("sim900-odd-line-ends")
    modem = play.attach()
    assert modem.signal_dbm == -69
    assert play.submit() == 9


def test_answer_glued_to_a_notice_is_both() -> None:
    play = Play("huawei-e173-glued")
    modem = play.attach()
    assert modem.signal_dbm == -81
    assert play.submit() == 77
    assert modem.take_notices().memories == {"SM"}


def test_error_without_a_code_after_the_hand_over_may_hide_a_sent_text() -> None:
    play = Play("sim7000-no-code")
    play.attach()
    with pytest.raises(smsbox.OutcomeUnknown):
        play.submit()


def test_ok_of_an_earlier_command_before_the_reference_is_not_the_result() -> None:
    play = Play("ec25-late-ok")
    play.attach()
    assert play.submit() == 8


def test_sim_that_fails_at_first_is_waited_for() -> None:
    play = Play("sim7600-sim-wakes-up")
    play.attach()
    assert play.port.heard.count("AT+CPIN?") >= 4


@pytest.mark.parametrize(
    ("name", "words"),
    [("ec25-denied", "denies"), ("ec25-searching", "not registered")],
)
def test_modem_without_network_says_why(name: str, words: str) -> None:
    with pytest.raises(smsbox.NotReady, match=words) as lacking:
        Play(name).attach()
    assert lacking.value.fault is smsbox.Fault.NO_NETWORK


def test_registration_for_sms_only_is_good() -> None:
    assert Play("sim7600-sms-only").attach().registration == "for SMS only"


def test_sim_taken_out_is_noticed() -> None:
    play = Play("ec25-sim-out")
    modem = play.modem
    modem.attach()
    assert modem.command("AT+CSQ", "+CSQ:") == ["+CSQ: 21,99"]
    assert modem.take_notices().sim_gone
    with pytest.raises(smsbox.NotReady) as gone:
        modem.check_network()
    assert gone.value.fault is smsbox.Fault.SIM
