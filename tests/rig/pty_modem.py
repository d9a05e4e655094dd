"""A modem for tests: bytes at the far end of a pseudo-terminal, in a process of its own.

It outlives the program that talks to it, as a real one does. What the network took and what the
modem heard stands in a file that is only added to, so that the truth does not depend on anybody's
memory. The plain answers are those of smsbox.SimulatedModem; a Fault says where it behaves worse.

    with PtyModem(tmp_path) as modem:
        modem.misbehave(Fault(TEXT, says=b""))      # takes a text and falls silent
        ... a program talks to modem.path ...
        modem.texts()                               # what arrived on the other side

PROFILES are the same modem with the words, the start and the oddities of real devices.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
import tty
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[place]) for place in (2, 1)]

import smsbox
from rig.tpdus import encode_deliver

TEXT = "TEXT"  # the moment at which a modem has a whole text: Ctrl-Z was heard
PDU = "PDU"  # the moment of the first byte behind the prompt
SENDER = "+12135552399"
_OK = b"\r\nOK\r\n"
_BOOT = "RDY|+CFUN: 1|+CPIN: READY|SMS Ready"
_PLACES = 50  # for texts, on the SIM
_CUT_S = 0.1


@dataclass(frozen=True, slots=True)
class Fault:
    """What the modem does otherwise when it hears a command, at a text's first byte, or at Ctrl-Z.

    does: what befalls the modem itself, for_s seconds long: "hang" (hears and says nothing, then
    all of it), "reboot", "unplug" (and back), "deregister", "eject" (the SIM), or for good: "echo",
    "slow" (a byte every 10 ms), "fill" (its memory, with texts that came in).
    """

    on: str  # a regular expression for the whole command; PDU, TEXT
    times: int = 1  # how often; 0: always
    skip: int = 0  # how many it lets pass first
    obeys: bool = True  # False: it does not do what it was told; at TEXT nothing is taken
    says: bytes | None = None  # in place of the answer; b"": nothing; None: the answer
    before: bytes = b""  # said before the answer
    inside: bytes = b""  # said between the information response and the final result code
    after: bytes = b""  # said right behind the answer
    delay_s: float = 0.0  # the answer comes so much later; the next ones queue behind it
    byte_s: float = 0.0  # each byte of the answer takes so long
    hangs_up: bool = False  # the port is gone before the answer
    does: str = ""
    for_s: float = 0.0
    cut: int = 0  # so many bytes of the answer come before what it does
    amid: bytes = b""  # said at the cut
    first: bool = False  # it does it before it has heard the command; then it hears it anew


class Profile(NamedTuple):
    """How a real device differs from the plain modem."""

    answers: dict[str, str]  # command -> information response; "ERROR", "+CM...": the final one
    boot: str = ""  # what it says when it starts, a line each
    ready: str = ""  # what it says once it can do texts, ready_s after its start
    ready_s: float = 0.0
    refuses: tuple[tuple[str, str], ...] = ()  # pattern of a command -> final result code, always
    refuses_early: tuple[tuple[str, str], ...] = ()  # the same, until it is ready
    deaf_to: int = 0  # so many commands after the start only teach it the baud rate
    chatter: str = ""  # said before every third answer
    words: bool = False  # its errors are words, whatever +CMEE says


PROFILES: dict[str, Profile] = {
    "plain": Profile({}),
    "SIM7600": Profile(
        {
            "AT+CGMI": "SIMCOM INCORPORATED",
            "AT+CGMM": "SIMCOM_SIM7600G-H",
            "AT+CGMR": "+CGMR: LE20B04SIM7600G22",
            "AT+CGSN": "868822040012346",
            "AT+CCID": "ERROR",
            "AT+ICCID": "+ICCID: 89012608822812345676",
            "AT+CEREG?": "+CEREG: 0,1",
            "AT+COPS?": '+COPS: 0,0,"T-Mobile",7',
        },
        boot="RDY|+CPIN: READY",
        ready="SMS DONE|PB DONE",
        ready_s=0.3,
        words=True,
    ),
    "EC25": Profile(
        {
            "AT+CGMI": "Quectel",
            "AT+CGMM": "EC25",
            "AT+CGMR": "EC25AFFAR07A14M4G",
            "AT+CGSN": "861107030123454",
            "AT+CCID": "+CCID: 89014103271234567893",
            "AT+QCCID": "+QCCID: 89014103271234567893",
            "AT+COPS?": '+COPS: 0,0,"AT&T",7',
        },
        boot="RDY|+CFUN: 1|+CPIN: READY|+QUSIM: 1",
        ready="+QIND: SMS DONE|+QIND: PB DONE",
        ready_s=0.3,
        chatter='+QIND: "csq",21,99',
    ),
    "A7670": Profile(
        {
            "AT+CGMI": "INCORPORATED",
            "AT+CGMM": "A7670SA-LASE",
            "AT+CGMR": "+CGMR: A131B01A7670M7",
            "AT+CGSN": "862205059123458",
            "AT+CCID": "ERROR",
            "AT+ICCID": "+ICCID: 8931080019123456789F",
            "AT+COPS?": '+COPS: 0,2,"310260",7',
        },
        boot="*ATREADY: 1|+CPIN: READY|*ISIMAID: 1",
        ready="SMS DONE|PB DONE",
        ready_s=3.0,
        refuses_early=((r"AT\+CMGF=.*", "ERROR"), (r"AT\+C(PMS|MGL|SCA).*", "+CMS ERROR: 515")),
    ),
    "SIM800": Profile(
        {
            "AT+CGMI": "SIMCOM_Ltd",
            "AT+CGMM": "SIMCOM_SIM800C",
            "AT+CGMR": "Revision:1418B05SIM800C24",
            "AT+CGSN": "867856034567891",
            "AT+CCID": "8901260882281234567f",
            "AT+ICCID": "+ICCID: 8901260882281234567f",
            "AT+CREG?": "+CREG: 0,5",
            "AT+CEREG?": "ERROR",
            "AT+CGREG?": "+CGREG: 0,2",
            "AT+COPS?": '+COPS: 0,0,"T-Mobile USA"',
            "AT+CSQ": "+CSQ: 17,0",
        },
        boot="RDY|+CFUN: 1|+CPIN: READY",
        ready="Call Ready|SMS Ready",
        ready_s=0.5,
        refuses=((r"AT\+CNMI=2.*", "+CMS ERROR: 303"),),
        deaf_to=3,
        chatter="UNDER-VOLTAGE WARNNING",
    ),
    "E3372": Profile(
        {
            "AT+CGMI": "huawei",
            "AT+CGMM": "E3372",
            "AT+CGMR": "21.180.01.00.00",
            "AT+CGSN": "861821030123452",
            "AT+CCID": "COMMAND NOT SUPPORT",
            "AT+ICCID": "COMMAND NOT SUPPORT",
            "AT+QCCID": "COMMAND NOT SUPPORT",
            "AT^ICCID?": "^ICCID: 98101408221834567892",
            "AT+COPS?": '+COPS: 0,0,"Verizon",7',
        },
        boot="^SIMST: 1|^SRVST: 2",
        refuses=(
            (r"AT\+CMMS=.*", "+CMS ERROR: 500"),
            (r"AT\^CURC=.*|AT\+CLIP=.*", "COMMAND NOT SUPPORT"),
        ),
        chatter='^RSSI: 17|^HCSQ: "LTE",46,41,96,18',
    ),
}


class Taken(NamedTuple):
    """An SMS-SUBMIT that the network took, with the time of day of its Ctrl-Z."""

    at: float
    pdu: str


class Heard(NamedTuple):
    """A command that the modem heard."""

    at: float
    line: str


class Stored(NamedTuple):
    """A TPDU that came into the modem's memory."""

    at: float
    pdu: str
    notice: str  # "": it was not told


class Arrived(NamedTuple):
    """A text as the recipient's phone shows it; the time is that of its first segment."""

    at: float
    number: str
    text: str
    whole: bool  # False: segments are missing at its end


def rejoin(taken: Iterable[Taken]) -> list[Arrived]:
    """Put segments together as a phone does; AssertionError for one that is out of its place."""
    arrived: list[Arrived] = []
    expected: tuple[int, int, int] | None = None
    for at, pdu in taken:
        tpdu = smsbox.decode_tpdu(pdu, "out")
        text = tpdu.text or ""
        if tpdu.concatenation is None or tpdu.concatenation[2] == 1:
            arrived.append(Arrived(at, tpdu.number, text, tpdu.concatenation is None))
        else:
            assert tpdu.concatenation == expected, "a segment repeated, missing or out of order"
            first = arrived.pop()
            assert first.number == tpdu.number
            whole = tpdu.concatenation[1] == tpdu.concatenation[2]
            arrived.append(first._replace(text=first.text + text, whole=whole))
        expected = None
        if tpdu.concatenation is not None:
            reference, total, sequence = tpdu.concatenation
            expected = reference, total, sequence + 1
    return arrived


def wait_until(happens: Callable[[], object], within_s: float = 10.0, every_s: float = 0.02) -> Any:
    """Poll until something truthy comes, and give it; AssertionError when it never does."""
    end = time.monotonic() + within_s
    while True:
        found = happens()
        if found:
            return found
        assert time.monotonic() < end, f"it did not happen within {within_s:g} s"
        time.sleep(every_s)


class PtyModem:
    """The test's end: starts the modem's process, tells it how to behave, reads what it took."""

    def __init__(
        self, folder: Path, *, pin: str = "", registered: bool = True,
        deaf_to_ate0: bool = False, profile: str = "plain",
    ) -> None:  # fmt: skip
        self.path = folder / "ttyMODEM"  # a symlink: it stays the same when the modem is replugged
        self._journal = folder / "modem.jsonl"
        self._begins = 0  # where this modem's life begins in the journal
        self._process: subprocess.Popen[str] | None = None
        self._order = {
            "pin": pin, "registered": registered,
            "deaf_to_ate0": deaf_to_ate0, "profile": profile,
        }  # fmt: skip

    def __enter__(self) -> PtyModem:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self.path), str(self._journal), json.dumps(self._order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._await_word()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # --- what it is told

    def misbehave(self, *faults: Fault) -> None:
        """Add faults; of two that fit the older goes first."""
        for fault in faults:
            self._tell("misbehave", **asdict(fault))

    def behave(self) -> None:
        """Forget all faults."""
        self._tell("behave")

    def say(self, data: bytes) -> None:
        """Let it say something unasked, now."""
        self._tell("say", data=data)

    def receive(
        self, text: str, sender: str = SENDER, *, ago_s: float = 0.0, notice: str = "+CMTI"
    ) -> None:
        """Let a text arrive that the service centre has had for so long."""
        at = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(seconds=ago_s)
        self.store(encode_deliver(text, sender, at), notice)

    def store(self, pdu: str, notice: str = "+CMTI") -> None:
        """Let a TPDU arrive: stored in its memory once there is room, and told; "": not told."""
        self._tell("receive", pdu=pdu, notice=notice)

    def register(self, registered: bool) -> None:
        """Find or lose the network."""
        self._tell("register", registered=registered)

    def reboot(self) -> None:
        """Start anew with the port left open, as a brown-out does it."""
        self._tell("reboot")

    def unplug(self) -> None:
        """Take the port away."""
        self._tell("unplug")

    def replug(self) -> None:
        """Bring it back, under another number and the same name."""
        self._tell("replug")

    def befall(self, does: str, for_s: float = 0.0) -> None:
        """Let something befall it now, as a Fault's does."""
        self._tell("befall", does=does, for_s=for_s)

    def begin_anew(
        self, *, pin: str = "", registered: bool = True,
        deaf_to_ate0: bool = False, profile: str = "plain",
    ) -> None:  # fmt: skip
        """Become another modem on another port: cheaper than another process."""
        self._tell(
            "begin_anew", pin=pin, registered=registered,
            deaf_to_ate0=deaf_to_ate0, profile=profile,
        )  # fmt: skip
        self._begins = self._journal.stat().st_size

    def stop(self) -> None:
        """End the modem's process."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        self._process = None

    # --- what it knows

    def accepted(self) -> list[Taken]:
        """Return every SMS-SUBMIT that the network took, in order."""
        return [Taken(each["at"], each["took"]) for each in self._read() if "took" in each]

    def heard(self) -> list[Heard]:
        """Return every command that it heard, in order."""
        return [Heard(each["at"], each["heard"]) for each in self._read() if "heard" in each]

    def came(self) -> list[Stored]:
        """Return every TPDU that came into its memory, in order."""
        found = [each for each in self._read() if "stored" in each]
        return [Stored(each["at"], each["stored"], each["notice"]) for each in found]

    def texts(self) -> list[Arrived]:
        """Return what the recipients' phones show."""
        return rejoin(self.accepted())

    def met(self) -> int:
        """Count how often a fault was met."""
        return int(self._tell("count_met"))

    def stored(self) -> int:
        """Count the texts in its memory."""
        return int(self._tell("count"))

    def _read(self) -> list[dict[str, Any]]:
        lines = self._journal.read_bytes()[self._begins :].splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def _tell(self, what: str, **how: object) -> str:
        assert self._process is not None
        assert self._process.stdin is not None
        line = json.dumps({"what": what, **how}, default=lambda data: data.decode("latin-1"))
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._await_word()

    def _await_word(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        word = self._process.stdout.readline().strip()
        assert word, "the modem's process has died"
        return word


# --- the modem's process


class _Journal:
    """The file in which the truth stands; each line is written before anybody is answered."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def add(self, **what: str) -> None:
        os.write(self._file, (json.dumps({"at": time.time(), **what}) + "\n").encode())


class _Port:
    """The modem's end of the pseudo-terminal, with what is still to be said."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._count = itertools.count()
        self._queue: list[tuple[float, int, bytes]] = []
        self._busy_until = 0.0
        self.silent_until = 0.0
        self.end: int | None = None  # None: unplugged
        self._kept = -1

    def plug(self) -> None:
        if self.end is None:
            self.end, self._kept = pty.openpty()  # held open: a reader may come and go
            tty.setraw(self._kept)
            os.set_blocking(self.end, False)
            os.symlink(os.ttyname(self._kept), self._path + ".new")
            os.replace(self._path + ".new", self._path)

    def unplug(self) -> None:
        if self.end is not None:
            os.unlink(self._path)
            os.close(self._kept)
            os.close(self.end)
            self.end = None
            self._queue.clear()
            self._busy_until = 0.0

    def say(self, data: bytes) -> None:
        """Put bytes on the wire now, between whatever else is being said."""
        heapq.heappush(self._queue, (time.monotonic(), next(self._count), data))

    def answer(self, data: bytes, delay_s: float, byte_s: float) -> None:
        """Put an answer behind the answers before it."""
        at = max(time.monotonic(), self._busy_until) + delay_s
        for part in [data[place : place + 1] for place in range(len(data))] if byte_s else [data]:
            at += byte_s
            heapq.heappush(self._queue, (at, next(self._count), part))
        self._busy_until = at

    def forget(self) -> None:
        """Say nothing of what was still to be said, and hear nothing of what waits to be heard."""
        self._queue.clear()
        self._busy_until = self.silent_until = 0.0
        with suppress(BlockingIOError, OSError):
            while self.end is not None and os.read(self.end, 4096):
                pass

    def drive(self) -> float | None:
        """Write what is due; the seconds until the next is, None: nothing is waiting."""
        if time.monotonic() < self.silent_until:
            return self.silent_until - time.monotonic()
        while self._queue and self._queue[0][0] <= time.monotonic():
            data = heapq.heappop(self._queue)[2]
            if self.end is not None:
                with suppress(BlockingIOError):  # nobody reads: a real port loses it too
                    os.write(self.end, data)
        return max(0.0, self._queue[0][0] - time.monotonic()) if self._queue else None


class _Modem:
    """Cuts what it hears into commands and texts, and answers them, well or badly."""

    def __init__(self, port: _Port, journal: _Journal, order: dict[str, Any]) -> None:
        self._port = port
        self._journal = journal
        self.begin_anew(**order)

    def begin_anew(
        self, pin: str, registered: bool, deaf_to_ate0: bool, profile: str = "plain"
    ) -> None:
        self._core = smsbox.SimulatedModem()
        self._awaited: deque[tuple[str, str]] = deque()  # the network keeps what finds no room
        self._profile = PROFILES[profile]
        self._pin = pin
        self._locked = bool(pin)
        self._tries_left = 3
        self._registered = registered
        self._has_sim = True
        self._deaf_to_ate0 = deaf_to_ate0
        self._slow_s = 0.0
        self._faults: list[Fault] = []
        self._met: list[int] = []  # how often each fault's command was heard
        self._unit = bytearray()
        self._unheard = bytearray()
        self._at_prompt = False
        self._deaf_until = 0.0
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._port.unplug()
        self._port.silent_until = 0.0
        self._port.plug()
        self._power_on()

    # --- hearing

    def hear(self, data: bytes = b"") -> None:
        """Hear bytes, or what could not be heard before."""
        self._unheard += data
        while self._unheard and not self.is_deaf():
            byte = self._unheard.pop(0)
            self._unit.append(byte)
            ends = (0x1A, 0x1B) if self._at_prompt else (0x0D,)
            if byte in ends:
                unit = bytes(self._unit)
                self._unit.clear()
                if self._at_prompt and byte == 0x1A:
                    self._hear_text(unit)
                else:
                    self._hear_command(unit)
            elif self._at_prompt and len(self._unit) == 1:
                self._hear_first_byte()

    def is_deaf(self) -> bool:
        return time.monotonic() < self._deaf_until

    def drive(self) -> float | None:
        """Do what was put off; the seconds until there is something again."""
        self._later.sort(key=lambda each: each[0])
        while self._later and self._later[0][0] <= time.monotonic():
            self._later.pop(0)[1]()
        self.hear()
        times = [each[0] for each in self._later]
        times += [self._deaf_until] if self.is_deaf() else []
        waits = [max(0.0, at - time.monotonic()) for at in times]
        waits += [wait for wait in [self._port.drive()] if wait is not None]
        return min(waits, default=None)

    def _hear_command(self, unit: bytes) -> None:
        line = unit.replace(b"\x1b", b"").strip().decode("latin-1")
        if self._at_prompt:  # ESC: the prompt is left, nothing is sent
            self._at_prompt = False
            line = ""
        if line:
            self._journal.add(heard=line)
            if self._deaf_commands > 0:
                self._deaf_commands -= 1
                return
        fault = self._find_fault(line) if line else None
        if fault is not None and fault.first:
            self._put_off(unit, fault)
            return
        obeys = fault is None or fault.obeys
        answer = b""
        if obeys:
            own = self._answer_itself(line)
            answer = self._core.feed(unit) if own is None else own
            prompts = re.fullmatch(r"AT\+CMGS=\d+", line) is not None
            self._at_prompt = prompts and (own is None)
        if self._deaf_to_ate0:
            self._core.echo = True
        self._answer(answer, fault)
        self._take_what_is_awaited()

    def _hear_first_byte(self) -> None:
        fault = self._find_fault(PDU)
        if fault is None:
            return
        if fault.first:
            self._put_off(bytes(self._unit), fault)
            self._unit.clear()
            return
        if not fault.obeys:  # the prompt is left: what comes now is no text any more
            self._at_prompt = False
            self._core.feed(b"\x1b")
        self._answer(b"", fault)

    def _hear_text(self, unit: bytes) -> None:
        fault = self._find_fault(TEXT)
        if fault is not None and fault.first:
            self._put_off(unit, fault)
            return
        self._at_prompt = False
        echo = unit[:-1] if self._core.echo else b""
        refusal = self._refuse_text()
        if refusal or (fault is not None and not fault.obeys):
            self._core.feed(b"\x1b")
            answer = refusal
        else:
            count = len(self._core.accepted)
            answer = self._core.feed(unit)
            for pdu in self._core.accepted[count:]:
                self._journal.add(took=pdu)
        self._answer(echo + answer, fault)

    def _put_off(self, unit: bytes, fault: Fault) -> None:
        self._unheard[:0] = unit
        self.befall(fault.does, fault.for_s)

    # --- answering

    def _answer(self, answer: bytes, fault: Fault | None) -> None:
        self._answers += 1
        if self._profile.chatter and self._answers % 3 == 0 and not self._at_prompt:
            answer = _lines(self._profile.chatter) + answer
        if self._profile.words:
            answer = re.sub(rb"(\+CM[SE] ERROR: )(\d+)", _name_error, answer)
        if fault is None:
            self._port.answer(answer, 0.0, self._slow_s)
            return
        if fault.hangs_up:
            self.unplug()
            return
        said = answer if fault.says is None else fault.says
        if fault.inside and said.endswith(_OK):
            said = said.removesuffix(_OK) + fault.inside + _OK
        said = fault.before + said + fault.after
        byte_s = fault.byte_s or self._slow_s
        if not (fault.does or fault.amid):
            self._port.answer(said, fault.delay_s, byte_s)
            return
        if not fault.cut:
            self._go_on(fault, said)
            return
        # What came before the cut is read before the rest happens, and nothing is heard meanwhile.
        self._port.answer(said[: fault.cut], fault.delay_s, byte_s)
        self._deaf_until = time.monotonic() + _CUT_S
        self._after(_CUT_S, lambda: self._go_on(fault, said[fault.cut :]))

    def _go_on(self, fault: Fault, rest: bytes) -> None:
        if fault.does not in ("reboot", "unplug"):
            rest = fault.amid + rest
            if fault.does == "hang":
                self.befall("hang", fault.for_s)
        else:
            rest = b""
        self._port.answer(rest, 0.0, fault.byte_s or self._slow_s)
        if fault.does != "hang":
            self.befall(fault.does, fault.for_s)

    def befall(self, does: str, for_s: float) -> None:
        """What happens to it, and how it ends by itself."""
        if does == "hang":
            self._deaf_until = self._port.silent_until = time.monotonic() + for_s
        elif does == "reboot":
            self._port.forget()
            self._start_anew()
            self._deaf_until = time.monotonic() + for_s
            self._after(for_s, self._wake_up)
        elif does == "unplug":
            self.unplug()
            self._after(for_s, self.replug)
        elif does == "deregister":
            self._registered = False
            self._port.answer(b"\r\n+CREG: 2\r\n", 0.0, self._slow_s)
            self._after(for_s, self._find_network)
        elif does == "eject":
            self._has_sim = False
            self._port.answer(b"\r\n+CPIN: NOT INSERTED\r\n", 0.0, self._slow_s)
            self._after(for_s, self._insert_sim)
        elif does == "echo":
            self._core.echo = self._deaf_to_ate0 = True
        elif does == "slow":
            self._slow_s = 0.01
        elif does == "fill":
            at = datetime.now(timezone.utc).replace(microsecond=0)
            for place in range(_PLACES):
                pdu = encode_deliver(f"Thanks {place}", f"+121355524{place:02}", at)
                told = self._core.receive(pdu)
            self._port.answer(told + b'\r\n^SMMEMFULL: "SM"\r\n', 0.0, self._slow_s)

    def _after(self, delay_s: float, happens: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + delay_s, happens))

    def _wake_up(self) -> None:
        self._port.forget()
        self._unheard.clear()
        self._port.answer(_lines(self._profile.boot or _BOOT), 0.0, self._slow_s)
        self._power_on()

    def _find_network(self) -> None:
        self._registered = True
        self._port.answer(b"\r\n+CREG: 1\r\n", 0.0, self._slow_s)

    def _insert_sim(self) -> None:
        self._has_sim = True
        self._port.answer(b"\r\n+CPIN: READY\r\n", 0.0, self._slow_s)

    def _power_on(self) -> None:
        """Begin the profile's start: what it can not do yet, and what it says once it can."""
        self._answers = 0
        self._deaf_commands = self._profile.deaf_to
        self._ready_at = time.monotonic() + self._profile.ready_s
        if self._profile.ready:
            self._after(self._profile.ready_s, lambda: self._port.say(_lines(self._profile.ready)))

    def _find_fault(self, heard: str) -> Fault | None:
        for place, fault in enumerate(self._faults):
            if re.fullmatch(fault.on, heard):
                met = self._met[place]
                if fault.times == 0 or met < fault.skip + fault.times:
                    self._met[place] += 1
                    if met >= fault.skip:
                        return fault
        return None

    def _answer_itself(self, line: str) -> bytes | None:
        """What SimulatedModem does not know: another device, a locked SIM or none, no network."""
        found = re.fullmatch(r"AT(\+C(?:|E|G)REG)\?", line)
        if self._locked and line.startswith("AT+CPIN="):
            self._locked = line != f'AT+CPIN="{self._pin}"' or not self._tries_left
            self._tries_left -= self._locked and self._tries_left > 0
            return b"\r\n+CME ERROR: 16\r\n" if self._locked else _OK
        if not self._has_sim and line.startswith("AT+CMGS="):
            return b"\r\n+CMS ERROR: 310\r\n"
        if line == "AT+CPIN?" and not self._has_sim:
            return b"\r\n+CME ERROR: 10\r\n"
        if line == "AT+CPIN?" and self._locked:
            return _inform("+CPIN: SIM PIN" if self._tries_left else "+CPIN: SIM PUK")
        if found and (self._locked or not self._registered or not self._has_sim):
            return _inform(f"{found[1]}: 0,2")
        if line == "AT+CPMS?":
            used = f"{len(self._core.stored)},{_PLACES}"
            return _inform(f'+CPMS: "SM",{used},"SM",{used},"SM",{used}')
        return self._answer_as_profile(line)

    def _answer_as_profile(self, line: str) -> bytes | None:
        early = self._profile.refuses_early if time.monotonic() < self._ready_at else ()
        for pattern, final in (*early, *self._profile.refuses):
            if re.fullmatch(pattern, line):
                return f"\r\n{final}\r\n".encode()
        answer = self._profile.answers.get(line)
        if answer is None:
            return None
        is_final = answer in {"COMMAND NOT SUPPORT", "ERROR"}
        return f"\r\n{answer}\r\n".encode() if is_final else _inform(answer)

    def _refuse_text(self) -> bytes:
        """The network's own no, b"": it takes the text."""
        if not self._has_sim:
            return b"\r\n+CMS ERROR: 310\r\n"
        return b"" if self._registered else b"\r\n+CMS ERROR: 331\r\n"

    # --- what the test tells it

    def misbehave(self, **how: Any) -> None:
        for name in ("says", "before", "inside", "after", "amid"):
            how[name] = how[name].encode("latin-1") if how[name] is not None else None
        self._faults.append(Fault(**how))
        self._met.append(0)

    def behave(self) -> None:
        self._faults.clear()
        self._met.clear()

    def say(self, data: str) -> None:
        self._port.say(data.encode("latin-1"))

    def receive(self, pdu: str, notice: str) -> None:
        self._awaited.append((pdu, notice))
        self._take_what_is_awaited()
        if self._awaited:
            self._port.say(b'\r\n^SMMEMFULL: "SM"\r\n')

    def _take_what_is_awaited(self) -> None:
        while self._awaited and len(self._core.stored) < _PLACES:
            pdu, notice = self._awaited.popleft()
            told = self._core.receive(pdu)
            self._journal.add(stored=pdu, notice=notice)
            self._port.say(told.replace(b"+CMTI", notice.encode()) if notice else b"")

    def register(self, registered: bool) -> None:
        self._registered = registered

    def count_met(self) -> str:
        pairs = zip(self._faults, self._met, strict=True)
        return str(sum(max(0, met - fault.skip) for fault, met in pairs))

    def count(self) -> str:
        return str(len(self._core.stored))

    def reboot(self) -> None:
        self._start_anew()
        self._port.say(_lines(self._profile.boot or _BOOT))
        self._power_on()

    def unplug(self) -> None:
        self._start_anew()
        self._port.unplug()

    def replug(self) -> None:
        self._port.plug()

    def _start_anew(self) -> None:
        self._unit.clear()
        self._unheard.clear()
        self._at_prompt = False
        self._locked = bool(self._pin)
        fresh = smsbox.SimulatedModem()
        fresh.stored = self._core.stored
        fresh.reference = self._core.reference
        self._core = fresh


def _lines(words: str) -> bytes:
    return "".join(f"\r\n{each}\r\n" for each in words.split("|")).encode()


def _inform(response: str) -> bytes:
    return f"\r\n{response}\r\n".encode() + _OK


def _name_error(found: re.Match[bytes]) -> bytes:
    """Return an error as a modem with +CMEE=2 does: by its words."""
    table = smsbox.CMS_ERRORS if b"CMS" in found[1] else smsbox.CME_ERRORS
    return found[1] + table.get(int(found[2]), ("Unknown error",))[0].encode()


def _live(path: str, journal: str, order: dict[str, Any]) -> None:
    port = _Port(path)
    modem = _Modem(port, _Journal(journal), order)
    print("ready", flush=True)
    told = b""
    while True:
        wait = modem.drive()
        watched = [0] if port.end is None or modem.is_deaf() else [0, port.end]
        ready = select.select(watched, [], [], wait)[0]
        if port.end in ready and port.end is not None:
            modem.hear(os.read(port.end, 4096))
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:  # the test is over
                port.unplug()
                return
            *lines, told = (told + data).split(b"\n")
            for line in lines:
                how = json.loads(line)
                word = getattr(modem, how.pop("what"))(**how)
                print(word or "done", flush=True)


if __name__ == "__main__":
    _live(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
