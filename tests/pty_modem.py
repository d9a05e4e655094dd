"""A modem for tests: bytes at the far end of a pseudo-terminal, in a process of its own.

It outlives the program that talks to it, as a real one does. What the network took and what the
modem heard stands in a file that is only added to, so that the truth does not depend on anybody's
memory. The plain answers are those of smsbox.SimulatedModem; a Fault says where it behaves worse.

    with PtyModem(tmp_path) as modem:
        modem.misbehave(Fault(TEXT, says=b""))      # takes a text and falls silent
        ... a program talks to modem.path ...
        modem.texts()                               # what arrived on the other side
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
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import smsbox

TEXT = "TEXT"  # the moment at which a modem has a whole text: Ctrl-Z was heard
SENDER = "+12135552399"
_OK = b"\r\nOK\r\n"


@dataclass(frozen=True, slots=True)
class Fault:
    """What the modem does otherwise when it hears a command, or at Ctrl-Z."""

    on: str  # a regular expression for the whole command; TEXT: at Ctrl-Z
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


class Taken(NamedTuple):
    """An SMS-SUBMIT that the network took, with the time of day of its Ctrl-Z."""

    at: float
    pdu: str


class Heard(NamedTuple):
    """A command that the modem heard."""

    at: float
    line: str


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
        self, folder: Path, *, pin: str = "", registered: bool = True, deaf_to_ate0: bool = False
    ) -> None:
        self.path = folder / "ttyMODEM"  # a symlink: it stays the same when the modem is replugged
        self._journal = folder / "modem.jsonl"
        self._begins = 0  # where this modem's life begins in the journal
        self._process: subprocess.Popen[str] | None = None
        self._order = {"pin": pin, "registered": registered, "deaf_to_ate0": deaf_to_ate0}

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

    def receive(self, text: str, sender: str = SENDER) -> None:
        """Let a text arrive: stored in its memory, and told."""
        at = datetime.now(timezone.utc).replace(microsecond=0)
        self._tell("receive", pdu=smsbox.encode_deliver(text, sender, at))

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

    def begin_anew(
        self, *, pin: str = "", registered: bool = True, deaf_to_ate0: bool = False
    ) -> None:
        """Become another modem on another port: cheaper than another process."""
        self._tell("begin_anew", pin=pin, registered=registered, deaf_to_ate0=deaf_to_ate0)
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
        """Give every SMS-SUBMIT that the network took, in order."""
        return [Taken(each["at"], each["took"]) for each in self._read() if "took" in each]

    def heard(self) -> list[Heard]:
        """Give every command that it heard, in order."""
        return [Heard(each["at"], each["heard"]) for each in self._read() if "heard" in each]

    def texts(self) -> list[Arrived]:
        """Give what the recipients' phones show."""
        return rejoin(self.accepted())

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

    def drive(self) -> float | None:
        """Write what is due; the seconds until the next is, None: nothing is waiting."""
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

    def begin_anew(self, pin: str, registered: bool, deaf_to_ate0: bool) -> None:
        self._core = smsbox.SimulatedModem()
        self._pin = pin
        self._locked = bool(pin)
        self._tries_left = 3
        self._registered = registered
        self._deaf_to_ate0 = deaf_to_ate0
        self._faults: list[Fault] = []
        self._met: list[int] = []  # how often each fault's command was heard
        self._unit = bytearray()
        self._at_prompt = False
        self._port.unplug()
        self._port.plug()

    def hear(self, data: bytes) -> None:
        for byte in data:
            self._unit.append(byte)
            ends = (0x1A, 0x1B) if self._at_prompt else (0x0D,)
            if byte in ends:
                unit = bytes(self._unit)
                self._unit.clear()
                if self._at_prompt and byte == 0x1A:
                    self._hear_text(unit)
                else:
                    self._hear_command(unit)

    def _hear_command(self, unit: bytes) -> None:
        line = unit.replace(b"\x1b", b"").strip().decode("latin-1")
        if self._at_prompt:  # ESC: the prompt is left, nothing is sent
            self._at_prompt = False
            line = ""
        if line:
            self._journal.add(heard=line)
        fault = self._find_fault(line) if line else None
        obeys = fault is None or fault.obeys
        answer = b""
        if obeys:
            own = self._answer_itself(line)
            answer = self._core.feed(unit) if own is None else own
            self._at_prompt = bool(re.fullmatch(r"AT\+CMGS=\d+", line))
        if self._deaf_to_ate0:
            self._core.echo = True
        self._answer(answer, fault)

    def _hear_text(self, unit: bytes) -> None:
        self._at_prompt = False
        fault = self._find_fault(TEXT)
        echo = unit[:-1] if self._core.echo else b""
        if fault is None or fault.obeys:
            count = len(self._core.accepted)
            answer = self._core.feed(unit)
            for pdu in self._core.accepted[count:]:
                self._journal.add(took=pdu)
        else:
            answer = self._core.feed(b"\x1b")
        self._answer(echo + answer, fault)

    def _answer(self, answer: bytes, fault: Fault | None) -> None:
        if fault is None:
            self._port.answer(answer, 0.0, 0.0)
            return
        if fault.hangs_up:
            self.unplug()
            return
        said = answer if fault.says is None else fault.says
        if fault.inside and said.endswith(_OK):
            said = said.removesuffix(_OK) + fault.inside + _OK
        self._port.answer(fault.before + said + fault.after, fault.delay_s, fault.byte_s)

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
        """What SimulatedModem does not know: a locked SIM, and no network."""
        if self._locked and line == "AT+CPIN?":
            lacks = "SIM PIN" if self._tries_left else "SIM PUK"
            return f"\r\n+CPIN: {lacks}\r\n\r\nOK\r\n".encode()
        if self._locked and line.startswith("AT+CPIN="):
            self._locked = line != f'AT+CPIN="{self._pin}"' or not self._tries_left
            self._tries_left -= self._locked and self._tries_left > 0
            return b"\r\n+CME ERROR: 16\r\n" if self._locked else b"\r\nOK\r\n"
        found = re.fullmatch(r"AT(\+C(?:|E|G)REG)\?", line)
        if found and (self._locked or not self._registered):
            return f"\r\n{found[1]}: 0,2\r\n\r\nOK\r\n".encode()
        return None

    # --- what the test tells it

    def misbehave(self, **how: Any) -> None:
        for name in ("says", "before", "inside", "after"):
            how[name] = how[name].encode("latin-1") if how[name] is not None else None
        self._faults.append(Fault(**how))
        self._met.append(0)

    def behave(self) -> None:
        self._faults.clear()
        self._met.clear()

    def say(self, data: str) -> None:
        self._port.say(data.encode("latin-1"))

    def receive(self, pdu: str) -> None:
        self._port.say(self._core.receive(pdu))

    def register(self, registered: bool) -> None:
        self._registered = registered

    def count(self) -> str:
        return str(len(self._core.stored))

    def reboot(self) -> None:
        self._start_anew()
        self._port.say(b"\r\nRDY\r\n\r\n+CFUN: 1\r\n\r\n+CPIN: READY\r\n\r\nSMS Ready\r\n")

    def unplug(self) -> None:
        self._start_anew()
        self._port.unplug()

    def replug(self) -> None:
        self._port.plug()

    def _start_anew(self) -> None:
        self._unit.clear()
        self._at_prompt = False
        self._locked = bool(self._pin)
        fresh = smsbox.SimulatedModem()
        fresh.stored = self._core.stored
        fresh.reference = self._core.reference
        self._core = fresh


def _live(path: str, journal: str, order: dict[str, Any]) -> None:
    port = _Port(path)
    modem = _Modem(port, _Journal(journal), order)
    print("ready", flush=True)
    told = b""
    while True:
        watched = [0] if port.end is None else [0, port.end]
        ready = select.select(watched, [], [], port.drive())[0]
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
