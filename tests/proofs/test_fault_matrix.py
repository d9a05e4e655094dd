"""The fault matrix: each fault at each instant, the daemon's process, a modem behind a pseudo-tty.

A campaign of three messages meets one fault. Whatever it is: no segment is accepted twice, none is
lost, the daemon lives, and a message that is scheduled afterwards is sent. The cells mostly wait,
so they run side by side. tests/fault_matrix.md says what the program does in each; --long runs the
whole matrix and writes that file anew.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import smsbox
from rig.paths import ROOT
from rig.process import LiveBox
from rig.pty_modem import PDU, PROFILES, TEXT, Fault, PtyModem, wait_until

TABLE = ROOT / "tests" / "fault_matrix.md"
AT_ONCE = 16  # cells
ANA, BEN, CHLOE, DAN = (f"+1213555231{digit}" for digit in range(3, 7))
CAMPAIGN = (
    (ANA, "Two segments: " + "this sentence goes on and on, " * 6),
    (BEN, "One bubble [BUBBLE] and another"),
    (CHLOE, "Only a few words"),
)
SETTLED_WITHIN_S, NEXT_WITHIN_S = 100.0, 60.0
SETTINGS: dict[str, dict[str, Any]] = {
    "modem": {"send_timeout_seconds": 1},
    "service": {"poll_seconds": 0.3, "retry_minutes": [0.02, 0.03, 0.05]},
}

# --- the instants

OPENING, SETTING_UP = "while opening", "in the initialisation"
BEFORE_PROMPT, AFTER_PROMPT = "before the prompt", "after the prompt"
NOT_TAKEN, TAKEN = "after Ctrl-Z, not accepted", "accepted, before +CMGS"
IN_LINE, BETWEEN, IDLE = "inside the +CMGS line", "between two segments", "idle"

# Which step of the conversation the fault meets: the second segment of the first message.
STEPS: dict[str, Fault | None] = {
    OPENING: Fault("AT"),
    SETTING_UP: Fault(r"AT\+CMGF=0"),
    BEFORE_PROMPT: Fault(r"AT\+CMGS=\d+", skip=1),
    AFTER_PROMPT: Fault(PDU, skip=1),
    NOT_TAKEN: Fault(TEXT, skip=1),
    TAKEN: Fault(TEXT, skip=1),
    IN_LINE: Fault(TEXT, skip=1),
    BETWEEN: Fault(TEXT),
    IDLE: None,  # the test lets it happen
}
INSTANTS = tuple(STEPS)
# Text and Ctrl-Z are one write: a modem that fails in between looks like one that fails after it.
MAY_HAVE_BEEN_SENT = frozenset({AFTER_PROMPT, NOT_TAKEN, TAKEN, IN_LINE})
WITHIN_LINE, AFTER_ALL = 5, 999  # where the answer is cut: b"\r\n+CM", behind its end

# --- the faults


class Kind(NamedTuple):
    """A fault of the matrix."""

    name: str
    at: Callable[[Fault, str], Fault]  # the step, the instant -> the step gone wrong
    stray: bytes = b""  # what is said at an instant at which nothing was asked
    befalls: tuple[str, float] = ("", 0.0)
    instants: tuple[str, ...] = INSTANTS  # the possible ones


def says(name: str, words: bytes, *instants: str) -> Kind:
    """In place of an answer come other words."""

    def at(step: Fault, instant: str) -> Fault:
        if instant == BETWEEN:
            return replace(step, after=words)
        if instant == IN_LINE:
            return replace(step, says=b"\r\n+CM" + words)
        return replace(step, says=words, obeys=instant == TAKEN)

    return Kind(name, at, stray=words, instants=instants or INSTANTS)


def adds(name: str, words: bytes, *instants: str) -> Kind:
    """The answer comes, and other words with it."""

    def at(step: Fault, instant: str) -> Fault:
        if instant == BETWEEN:
            return replace(step, after=words)
        if instant == IN_LINE:
            return replace(step, cut=WITHIN_LINE, amid=words)
        if instant == NOT_TAKEN:  # then a pause, then the answer
            return replace(step, before=words, cut=len(words), amid=b"\r\n")
        return replace(step, before=words)

    return Kind(name, at, stray=words, instants=instants or INSTANTS)


def befalls(name: str, does: str, for_s: float = 0.0, **more: bytes) -> Kind:
    """Something happens to the modem itself; more: what it says instead of an answer."""

    def at(step: Fault, instant: str) -> Fault:
        step = replace(step, does=does, for_s=for_s)
        if instant == IN_LINE:
            return replace(step, cut=WITHIN_LINE)
        if instant == BETWEEN:
            return replace(step, cut=AFTER_ALL)
        if does == "hang":
            return replace(step, first=instant != TAKEN)
        if instant == TAKEN:
            return replace(step, says=more.get("taken"))
        if instant in (AFTER_PROMPT, NOT_TAKEN):
            refusal = more.get("refusal")
            return replace(step, obeys=refusal is None and does in LASTING, says=refusal)
        return replace(step, obeys=does in LASTING)

    return Kind(name, at, befalls=(does, for_s))


def prompts(name: str, **how: float | bytes) -> Kind:
    """Only the prompt is odd."""

    def at(step: Fault, instant: str) -> Fault:
        return replace(step, **how)  # type: ignore[arg-type] # as the table gives them

    return Kind(name, at, instants=(BEFORE_PROMPT,))


LASTING = ("echo", "slow", "fill", "deregister", "eject")  # it still does what it is told
NOTICES = b"\r\nRING\r\n\r\n^RSSI: 17\r\n\r\n+CREG: 1\r\n\r\nUNDER-VOLTAGE WARNNING\r\n"
STALE = b"\r\n+CSQ: 5,99\r\n\r\nOK\r\n"  # the answer to a command of before
NOISE = bytes((7 * place * place + 3 * place) % 256 for place in range(200)).replace(b">", b"")
SLOWEST = ("registration lost", "CMS 38 transient, long", "prompt late")  # half a minute's wait
# The network says these of a text that it did not take, and of nothing else.
REFUSALS_AT = (BEFORE_PROMPT, AFTER_PROMPT, NOT_TAKEN)
ANSWERED = (OPENING, SETTING_UP, BEFORE_PROMPT, AFTER_PROMPT, NOT_TAKEN, TAKEN)

KINDS = (
    befalls("registration lost", "deregister", 3.0, taken=b"\r\n+CMS ERROR: 332\r\n",
            refusal=b"\r\n+CMS ERROR: 331\r\n"),
    prompts("prompt late", delay_s=11.0),
    prompts("prompt without space", says=b"\r\n>"),
    says("no answer", b"", *ANSWERED),
    says("truncated line", b"\r\nO", *ANSWERED, IN_LINE, BETWEEN, IDLE),
    befalls("hang", "hang", 4.0),
    befalls("SIM out", "eject", 3.0, taken=b"\r\n+CMS ERROR: 332\r\n",
            refusal=b"\r\n+CMS ERROR: 310\r\n"),
    befalls("unplug and replug", "unplug", 1.0),
    befalls("reboot", "reboot", 1.0),
    befalls("slow bytes", "slow"),
    befalls("echo on", "echo"),
    befalls("memory full", "fill"),
    says("ERROR", b"\r\nERROR\r\n", *ANSWERED, BETWEEN, IDLE),
    says("CMS 322 memory full", b"\r\n+CMS ERROR: 322\r\n", SETTING_UP, *REFUSALS_AT),
    says("CMS 41 transient, quick", b"\r\n+CMS ERROR: 41\r\n", *REFUSALS_AT),
    says("CMS 38 transient, long", b"\r\n+CMS ERROR: 38\r\n", *REFUSALS_AT),
    says("CMS 1 recipient", b"\r\n+CMS ERROR: 1\r\n", *REFUSALS_AT),
    says("CMS 8 account", b"\r\n+CMS ERROR: 8\r\n", *REFUSALS_AT),
    says("CMS 500 modem", b"\r\n+CMS ERROR: 500\r\n", SETTING_UP, *REFUSALS_AT),
    says("CMS 304 our bug", b"\r\n+CMS ERROR: 304\r\n", *REFUSALS_AT),
    says("CMS 332 unknown", b"\r\n+CMS ERROR: 332\r\n", AFTER_PROMPT, NOT_TAKEN, TAKEN),
    says("CME 100", b"\r\n+CME ERROR: 100\r\n", SETTING_UP, *REFUSALS_AT, TAKEN),
    says("garbage", NOISE),
    adds("URC flood", NOTICES * 60),
    adds("RING", b"\r\nRING\r\n"),
    adds("answer to an earlier command", STALE, OPENING, SETTING_UP, BEFORE_PROMPT, AFTER_PROMPT,
         NOT_TAKEN, TAKEN, BETWEEN, IDLE),
)  # fmt: skip


class Cell(NamedTuple):
    """One fault at one instant."""

    kind: Kind
    instant: str

    @property
    def name(self) -> str:
        return f"{self.kind.name}: {self.instant}"


def choose_three(place: int, kind: Kind) -> set[str]:
    """Choose the instants of the short set: other ones for each fault."""
    count = len(kind.instants)
    return {kind.instants[(place + third * count // 3) % count] for third in range(3)}


CELLS = tuple(Cell(kind, instant) for kind in KINDS for instant in kind.instants)
SHORT = frozenset(
    (kind.name, instant)
    for place, kind in enumerate(KINDS)
    for instant in choose_three(place, kind)
)


# --- a cell


class Seen(NamedTuple):
    """What came of a cell."""

    does: str  # for the table
    problems: tuple[str, ...]
    journal: str


class Run:
    """A box that meets one fault."""

    def __init__(self, cell: Cell, box: LiveBox) -> None:
        self._cell = cell
        self._box = box
        self._problems: list[str] = []
        self._texts: dict[int, tuple[str, list[str]]] = {}  # row -> number, its segments' texts
        self._pauses: list[str] = []

    def run(self) -> Seen:
        rows = [self._insert(number, text) for number, text in CAMPAIGN]
        step = STEPS[self._cell.instant]
        if step is not None:
            self._box.modem.misbehave(self._cell.kind.at(step, self._cell.instant))
        daemon = self._box.start()
        self._await(lambda: self._are_settled(rows), "the campaign ends", SETTLED_WITHIN_S)
        if step is None:
            self._box.modem.befall(*self._cell.kind.befalls)
            self._box.modem.say(self._cell.kind.stray)
        elif not self._pauses and not self._box.modem.met():
            self._problems.append("the fault was never met")
        does = self._describe(rows)
        after = self._insert(DAN, "After all that")
        self._await(lambda: self._are_settled([after]), "the next message ends", NEXT_WITHIN_S)
        if self._box.row(after)[0] != "sent":
            self._problems.append(f"the next message is not sent: {self._box.row(after)}")
        if self._cell.kind.befalls[0] == "fill":
            self._await(lambda: not self._box.modem.stored(), "the memory is emptied", 20.0)
        self._check_segments([*rows, after])
        if daemon.process.poll() is not None:
            self._problems.append(f"the daemon ended with {daemon.process.returncode}")
        elif daemon.stop() != 0:
            self._problems.append(f"the daemon ended badly: {daemon.process.returncode}")
        if "Traceback" in daemon.journal():
            self._problems.append("there is a traceback in the journal")
        return Seen(does, tuple(self._problems), daemon.journal())

    def _insert(self, number: str, text: str) -> int:
        row = self._box.insert(number, text)
        segments = [
            smsbox.decode_tpdu(pdu, "out").text or ""
            for bubble in smsbox.split_bubbles(text)
            for pdu, _ in smsbox.encode_submit(bubble, number)
        ]
        self._texts[row] = (number, segments)
        return row

    def _await(self, happens: Callable[[], object], what: str, within_s: float) -> None:
        try:
            wait_until(happens, within_s, every_s=0.1)
        except AssertionError:
            self._problems.append(f"it never happens that {what}")

    def _are_settled(self, rows: list[int]) -> bool:
        """Tell whether nothing more is to come; a pause is ended once the fault has passed."""
        if all(self._box.row(row)[0] != "scheduled" for row in rows):
            return True
        told = self._box.sql("SELECT value FROM state WHERE key = 'paused_because'")
        if told and told[0][0]:
            self._pauses.append(told[0][0])
            time.sleep(self._cell.kind.befalls[1])
            self._box.modem.behave()
            self._box.call("resume")
        return False

    def _describe(self, rows: list[int]) -> str:
        came = [self._describe_row(row) for row in rows]
        others = sorted(set(came[1:]))
        words = came[0] if others == ["sent"] else f"{came[0]}; the others: {', '.join(others)}"
        return "".join(f"paused: {pause}; resumed: " for pause in self._pauses) + words

    def _describe_row(self, row: int) -> str:
        status, words = self._box.row(row)
        held, attempts = self._box.sql(
            "SELECT held_because, attempts FROM scheduled_messages WHERE id = ?", row
        )[0]
        if held:
            self._problems.append(f"held: {held}")
        if self._is_unconfirmed(row):
            return "unconfirmed"
        if status == "failed":
            return f"failed: {words}"
        return f"{status} on attempt {attempts + 1}" if attempts else str(status)

    def _is_unconfirmed(self, row: int) -> bool:
        return "unconfirmed" in self._box.bubbles(row)

    def _check_segments(self, rows: list[int]) -> None:
        taken = Counter(
            (tpdu.number, tpdu.text or "")
            for tpdu in (smsbox.decode_tpdu(each.pdu, "out") for each in self._box.modem.accepted())
        )
        for segment, count in taken.items():
            if count > 1:
                self._problems.append(f"accepted {count} times: {segment}")
        for row in rows:
            status, words = self._box.row(row)
            number, segments = self._texts[row]
            lost = [text for text in segments if not taken[number, text]]
            unconfirmed = self._is_unconfirmed(row)
            if status == "sent" and lost:
                self._problems.append(f"sent, but {len(lost)} segments never arrived")
            if status == "scheduled" or (status == "failed" and not words):
                self._problems.append(f"left {status} without a reason")
            if unconfirmed and self._cell.instant not in MAY_HAVE_BEEN_SENT:
                self._problems.append(f"unconfirmed without need: {words}")
            if status == "failed" and not unconfirmed and not lost:
                self._problems.append(f"failed, but all of it arrived: {words}")


class Workshop:
    """Runs cells side by side, a modem's process for each worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = threading.local()
        self._modems: list[PtyModem] = []
        self._empty = folder / "empty.db"
        self._lock = threading.Lock()

    def run(self, cells: list[Cell]) -> dict[str, Seen]:
        with PtyModem(self._folder) as modem:
            box = LiveBox(self._folder, modem)
            box.lay_down()
            shutil.copyfile(box.database, self._empty)
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                seen = pool.map(self._run, cells)
                return {cell.name: came for cell, came in zip(cells, seen, strict=True)}
        finally:
            for modem in self._modems:
                modem.stop()

    def _run(self, cell: Cell) -> Seen:
        box = LiveBox(self._make_folder(cell.name), self._take_modem())
        shutil.copyfile(self._empty, box.database)
        box.settle(**SETTINGS)
        try:
            return Run(cell, box).run()
        except Exception as error:  # the other cells go on
            journal = "".join(each.journal() for each in box.daemons)
            return Seen("-", (f"{type(error).__name__}: {error}",), journal)
        finally:
            box.close()

    def _make_folder(self, name: str) -> Path:
        folder = self._folder / "".join(each if each.isalnum() else "-" for each in name)
        folder.mkdir()
        return folder

    def _take_modem(self) -> PtyModem:
        modem: PtyModem | None = getattr(self._own, "modem", None)
        if modem is None:
            with self._lock:
                folder = self._folder / f"modem{len(self._modems)}"
                folder.mkdir()
                modem = self._own.modem = PtyModem(folder)
                self._modems.append(modem)
            modem.__enter__()
        modem.begin_anew()
        return modem


@pytest.fixture(scope="module")
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Seen]:
    """What came of each cell that is asked for."""
    asked = {
        item.callspec.id
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and hasattr(item, "callspec")
        and item.get_closest_marker("skip") is None
    }
    cells = [cell for cell in CELLS if cell.name in asked]
    cells.sort(key=lambda cell: cell.kind.name not in SLOWEST)
    return Workshop(tmp_path_factory.mktemp("matrix")).run(cells)


def as_parameter(cell: Cell) -> Any:
    is_short = (cell.kind.name, cell.instant) in SHORT
    return pytest.param(cell, id=cell.name, marks=() if is_short else pytest.mark.long)


@pytest.mark.parametrize("cell", [as_parameter(cell) for cell in CELLS])
def test_fault_sends_nothing_twice_loses_nothing_and_ends_nothing(
    cell: Cell, seen: dict[str, Seen]
) -> None:
    came = seen[cell.name]
    assert not came.problems, "\n".join((*came.problems, came.does, came.journal))


# --- the table


def render_table(does: dict[str, str]) -> str:
    """Give the matrix as a table: a line a fault, a column an instant."""
    lines = [
        "# What smsbox does when the modem fails",
        "",
        "A campaign of three messages meets one fault, at the second segment of its first message"
        " or while",
        "the modem is attached; the cell says what becomes of that message. In every cell nothing"
        " is sent",
        "twice, nothing is lost, and the next message is sent. `-`: can not happen. Written by"
        " `tests/run --long`.",
        "",
        "| fault | " + " | ".join(INSTANTS) + " |",
        "|---" * (len(INSTANTS) + 1) + "|",
    ]
    for kind in KINDS:
        row = [does.get(Cell(kind, instant).name, "-") for instant in INSTANTS]
        lines.append("| " + " | ".join([kind.name, *row]) + " |")
    return "\n".join(lines) + "\n"


def read_table(text: str) -> Iterator[tuple[str, str]]:
    """Give (cell, what the program does) of a table."""
    for line in text.splitlines():
        cells = [each.strip() for each in line.strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == len(INSTANTS) + 1:
            for instant, does in zip(INSTANTS, cells[1:], strict=True):
                yield f"{cells[0]}: {instant}", does


def test_table_says_what_the_program_does(seen: dict[str, Seen]) -> None:
    does = {name: came.does for name, came in seen.items()}
    if len(does) == len(CELLS):
        TABLE.write_text(render_table(does), encoding="utf-8")
    written = dict(read_table(TABLE.read_text(encoding="utf-8")))
    other = {name: f"{written.get(name)} -> {now}" for name, now in does.items()
             if written.get(name) != now}  # fmt: skip
    assert not other, "run tests/run --long to write the table anew"


def test_short_set_meets_every_instant_and_every_fault() -> None:
    assert {instant for _, instant in SHORT} == set(INSTANTS)
    assert {name for name, _ in SHORT} == {kind.name for kind in KINDS}


# --- the profiles


def send_over(profile: str, folder: Path) -> tuple[list[object], list[tuple[str, str]]]:
    """Send the campaign over a modem; what its rows say, and what arrived."""
    folder.mkdir()
    with PtyModem(folder, profile=profile) as modem:
        box = LiveBox(folder, modem)
        box.lay_down()
        rows = [box.insert(number, text) for number, text in CAMPAIGN]
        box.drain()
        return [box.row(row) for row in rows], box.texts()


def test_campaign_arrives_over_each_device(tmp_path: Path) -> None:
    arrives = [
        (number, bubble) for number, text in CAMPAIGN for bubble in smsbox.split_bubbles(text)
    ]
    names = [name for name in PROFILES if name != "plain"]
    with ThreadPoolExecutor(len(names)) as pool:
        came = list(pool.map(lambda name: send_over(name, tmp_path / name), names))
    for name, (rows, texts) in zip(names, came, strict=True):
        assert rows == [("sent", "")] * len(CAMPAIGN), name
        assert texts == arrives, name


def send_before_and_after_a_reboot(profile: str, folder: Path) -> list[tuple[str, str]]:
    """Let a modem start anew between two messages; what arrived."""
    folder.mkdir()
    with PtyModem(folder, profile=profile) as modem:
        box = LiveBox(folder, modem)
        box.lay_down()
        box.insert(ANA, "Before")
        daemon = box.start()
        try:
            wait_until(box.texts, 20.0)
            modem.befall("reboot", 1.0)
            box.insert(BEN, "After")
            wait_until(lambda: len(box.texts()) == 2, 40.0)
            assert daemon.stop() == 0
        finally:
            daemon.process.kill()
            daemon.process.wait()
        return box.texts()


@pytest.mark.long
def test_each_device_that_starts_anew_is_used_again(tmp_path: Path) -> None:
    names = [name for name in PROFILES if name != "plain"]
    with ThreadPoolExecutor(len(names)) as pool:
        came = list(
            pool.map(lambda name: send_before_and_after_a_reboot(name, tmp_path / name), names)
        )
    for name, texts in zip(names, came, strict=True):
        assert texts == [(ANA, "Before"), (BEN, "After")], name
