"""What the program must reach, measured with whole processes and printed as one table.

    .venv/bin/python tests/bench.py                 everything, about six minutes
    .venv/bin/python tests/bench.py dry-run help    the rows whose name begins so
    .venv/bin/python tests/bench.py --list          the rows

It is no test of pytest: a bound that is missed on a busy machine says nothing. The exit status is
1 if one is missed. Times are medians of several runs. The modem behind the daemon is a process of
its own at the far end of a pseudo-terminal; it answers at once and notes what it heard when.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import pty
import py_compile
import re
import resource
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NewType

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import smsbox  # noqa: E402 (found by the path above)
from rig.played import PlayedBox  # noqa: E402
from rig.pty_modem import Fault, PtyModem, wait_until  # noqa: E402

Seconds = NewType("Seconds", float)

PYTHON = sys.executable
# The program's own way of working, not the developer's: PYTHONUNBUFFERED alone doubles a preview.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
SCRIPT = ROOT / "smsbox.py"
LAUNCHER = "import sys; sys.path.insert(0, {!r}); import smsbox; sys.exit(smsbox.main())"
MANY = 1_000_000  # rows of the big database
WIDE_OPEN = """
[modem]
port = "{port}"
[pacing]
first_after_seconds = 0
interval_minutes = [0.0001, 0.0002]
skip_chance = [0, 0]
bubble_gap_seconds = [0, 0]
[business_hours]
opens = "00:00"
closes = "24:00"
[recipient_hours]
enabled = false
[service]
poll_seconds = {poll_s}
[clock]
require_trust = false
"""


class Row(NamedTuple):
    """One line of the table."""

    name: str
    what: str
    bound: float
    unit: str
    at_least: bool = False

    def is_met(self, measured: float) -> bool:
        return measured >= self.bound if self.at_least else measured <= self.bound


ROWS = (
    Row("dry-run-10k", "schedule --dry-run --json, 10,000 rows", 1.5, "s"),
    Row("dry-run-100k", "the same, 100,000 rows", 8.0, "s"),
    Row("dry-run-memory", "peak memory of that", 300.0, "MB"),
    Row("dry-run-growth", "ten times the rows take so many times as long", 11.0, "x"),
    Row("storing", "storing 10,000 rows adds", 1.0, "s"),
    Row("help-module", "--help, byte-compiled module", 100.0, "ms"),
    Row("help-script", "--help, bare script", 250.0, "ms"),
    Row("status-million", "status, 1,000,000 rows", 250.0, "ms"),
    Row("status-waiting", "status, 1,000,000 rows of which 2,000 wait", 250.0, "ms"),
    Row("poll-million", "processor time of a poll, 1,000,000 rows", 2.0, "ms"),
    Row("poll-paused", "the same, 500,000 of them in a paused campaign", 2.0, "ms"),
    Row("trace-functions", "functions from a row's being due to sent", 110.0, ""),
    Row("trace-statements", "SQL statements of that, triggers left out", 30.0, ""),
    Row("trace-idle", "SQL statements of an idle turn", 12.0, ""),
    Row("segment-fsyncs", "fsyncs of a segment", 3.0, ""),
    Row("segment-bytes", "bytes written for a segment", 17.5, "KiB"),
    Row("segment-overhead", "driver and store, without the modem's own time", 3.0, "ms"),
    Row("segment-rate", "segments a second, modem without latency", 150.0, "/s", at_least=True),
    Row("lateness", "a due row begins late by (p99)", 50.0, "ms"),
    Row("idle-processor", "idle: processor time a minute", 0.02, "s"),
    Row("idle-wakeups", "idle: wake-ups a minute", 70.0, ""),
    Row("idle-memory", "idle: resident memory", 30.0, "MB"),
    Row("idle-bytes", "idle: bytes written to files in a minute", 0.0, "B"),
    Row("power-on", "ready so long after a modem that has started", 3.0, "s"),
    Row("replug", "from the replug to the next accepted segment", 10.0, "s"),
)
Measured = dict[str, float]


# --- whole processes


def as_module(folder: Path) -> list[str]:
    """The command as the installed launcher runs it: a compiled module, imported."""
    return [PYTHON, "-c", LAUNCHER.format(str(folder))]


def compiled_module(folder: Path) -> list[str]:
    """Put a copy of the program there and compile it."""
    py_compile.compile(str(shutil.copy(SCRIPT, folder / "smsbox.py")), doraise=True)
    return as_module(folder)


class Spent(NamedTuple):
    """What a finished process took."""

    wall_s: float
    peak_mb: float
    status: int
    words: str  # what it said on stderr


def run(command: Sequence[str]) -> Spent:
    """Run a command to its end; wait4(2) gives its own peak memory, unlike RUSAGE_CHILDREN."""
    null = subprocess.DEVNULL
    with tempfile.TemporaryFile() as said:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdin=null, stdout=null, stderr=said, env=ENVIRONMENT)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        words = said.read().decode()
    return Spent(wall_s, usage.ru_maxrss / 1024, process.returncode, words)


def median_s(command: Sequence[str], runs: int, statuses: Sequence[int] = (0,)) -> float:
    """The median wall time of several runs, after one that warms the caches."""
    taken = []
    for _ in range(runs + 1):
        spent = run(command)
        if spent.status not in statuses:
            raise SystemExit(f"exit status {spent.status}: {spent.words}")
        taken.append(spent.wall_s)
    return statistics.median(taken[1:])


# --- the campaign: 450 characters in 3 bubbles, one text in four UCS-2


def bubbles_of(place: int) -> str:
    """Write a text of 450 characters in 3 bubbles."""
    words = f"Hello {place:06d}, this is the text that you asked us for. "
    body = (words * 4)[:144]
    if place % 4 == 3:
        body = body[:-6] + "Grüße✓"
    return smsbox.BUBBLE_MARK.join([body, body[:145], body])[:450]


def number_of(place: int) -> str:
    """A number that may be dialled, each place its own."""
    area, rest = divmod(place, 7_000_000)
    return f"+1{212 + area}{200 + rest // 10_000}{rest % 10_000:04d}"


def write_campaign(path: Path, rows: int) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["phone_number", "customer_name", "message_content"])
        for place in range(rows):
            writer.writerow([number_of(place), f"Name {place}", bubbles_of(place)])
    return path


def measure_schedule(folder: Path, runs: int) -> Measured:
    """Preview 10,000 and 100,000 rows, and store 10,000."""
    command = compiled_module(folder)
    small = write_campaign(folder / "small.csv", 10_000)
    large = write_campaign(folder / "large.csv", 100_000)
    options = ["--json", "--seed", "1"]

    def schedule(file: Path, database: str, *more: str) -> list[str]:
        where = ["--database", str(folder / database)]
        return [*command, *where, "schedule", str(file), *options, *more]

    small_s = median_s(schedule(small, "none.db", "--dry-run"), runs)
    spent = [run(schedule(large, "none.db", "--dry-run")) for _ in range(3)]
    large_s = statistics.median(each.wall_s for each in spent)
    stored = []
    for place in range(runs):
        done = run(schedule(small, f"stored-{place}.db", "--yes"))
        if done.status:
            raise SystemExit(f"the campaign was not stored: {done.words}")
        stored.append(done.wall_s)
    start_s = median_s([*command, "--version"], runs)
    return {
        "dry-run-10k": small_s,
        "dry-run-100k": large_s,
        "dry-run-memory": max(each.peak_mb for each in spent),
        "dry-run-growth": (large_s - start_s) / (small_s - start_s),
        "storing": statistics.median(stored) - small_s,
    }


def measure_help(folder: Path, runs: int) -> Measured:
    """The first answer: as installed, and as a script that Python compiles each time."""
    module = compiled_module(folder)
    return {
        "help-module": 1000 * median_s([*module, "--help"], 4 * runs),
        "help-script": 1000 * median_s([PYTHON, str(SCRIPT), "--help"], 4 * runs),
    }


# --- a database of a million rows

_FILL = f"""
CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (
    SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY - 1}) SELECT i FROM n;
INSERT INTO campaigns (name, created_at) VALUES ('past', '2026-01-01 00:00:00'),
    ('coming', '2026-01-01 00:00:00');
INSERT INTO scheduled_messages (phone_number, customer_name, message_content, scheduled_for,
    campaign_name, created_at, updated_at, actor, gap_s, skip_s, status, sent_at)
SELECT '+1' || (2132000000 + i), 'Name ' || i, printf('%.450c', 'x'),
    datetime('now', '+1 day', iif(i % 2, i || ' seconds', '-' || (i + 86400) || ' seconds')),
    iif(i % 2, 'coming', 'past'), '2026-01-01 00:00:00', '2026-01-01 00:00:00', 'bench', 300, 0,
    iif(i % 2, 'scheduled', iif(i % 20, 'sent', 'cancelled')),
    iif(i % 2 = 0 AND i % 20, datetime('now', '-' || i || ' seconds'), NULL)
FROM n;
INSERT INTO messages (scheduled_message_id, phone_number, bubble, body, status, created_at,
    sent_at)
SELECT s.id, s.phone_number, b.i + 1, printf('%.150c', 'x'), 'sent', s.sent_at, s.sent_at
FROM scheduled_messages s, (SELECT i FROM n LIMIT 2) b WHERE s.status = 'sent';
INSERT INTO segments (message_id, sequence, total, status, message_reference, submitted_at,
    answered_at)
SELECT id, 1, 1, 'sent', id % 256, sent_at, sent_at FROM messages;
"""


def fill(path: Path) -> None:
    """Lay down a million rows: half of them sent or cancelled, with bubbles and segments, half
    still to be sent."""
    import sqlite3

    smsbox.Database.create_or_open(str(path)).close()
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA journal_mode = OFF; PRAGMA cache_size = -1000000;")
    connection.executescript("PRAGMA synchronous = OFF; BEGIN;" + _FILL + "COMMIT;")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def measure_million(folder: Path, runs: int) -> Measured:
    """Ask for the status of a large database, and poll it."""
    command = compiled_module(folder)
    database = folder / "million.db"
    fill(database)
    measured: Measured = {}
    with Modem(folder) as modem:
        config = write_config(folder, modem.port, poll_s=0.05)
        with daemon(command, config, database) as process:
            modem.await_attached()
            await_copy(folder)  # the day's copy of a gigabyte is no part of a poll
            time.sleep(2)
            status = [*command, "--config", str(config), "--database", str(database), "status"]
            measured["status-million"] = 1000 * median_s(status, 2 * runs, (0, 1, 2))
            measured["poll-million"] = measure_poll_ms(process.pid)
            pause = [*command, "--database", str(database), "pause", "--campaign", "coming"]
            run(pause)
            time.sleep(1)
            measured["poll-paused"] = measure_poll_ms(process.pid)
        leave_waiting(database, 2000)
        measured["status-waiting"] = 1000 * median_s(status, 2 * runs, (0, 1, 2))
    return measured


def leave_waiting(database: Path, rows: int) -> None:
    """Let so many rows wait; the others were sent long ago, and no campaign is paused."""
    import sqlite3

    connection = sqlite3.connect(database)
    connection.executescript(
        f"""PRAGMA recursive_triggers = OFF; BEGIN;
        UPDATE campaigns SET paused_because = NULL;
        UPDATE scheduled_messages SET status = 'sent',
            sent_at = datetime('now', '-2 days', '-' || id || ' seconds')
        WHERE status = 'scheduled' AND id NOT IN
            (SELECT id FROM scheduled_messages WHERE status = 'scheduled' LIMIT {rows});
        COMMIT; ANALYZE"""
    )
    connection.close()


def await_copy(folder: Path, within_s: float = 300) -> None:
    end = time.monotonic() + within_s
    while not any((folder / "backups").glob("*.db")):
        if time.monotonic() > end:
            raise SystemExit("the day's copy was waited for in vain")
        time.sleep(0.5)


def measure_poll_ms(pid: int, seconds: float = 5.0) -> float:
    """Processor time of one poll: of a daemon that does nothing but poll, twenty times a second."""
    polls, spent_s = count_switches(pid), processor_s(pid)
    time.sleep(seconds)
    return 1000 * (processor_s(pid) - spent_s) / max(1, count_switches(pid) - polls)


# --- one message, as a reader of the file would follow it


class Trace:
    """The program's own functions and SQL statements in one turn, or as far as `sent` is stored."""

    def __init__(self) -> None:
        self.functions: set[str] = set()
        self.statements: list[str] = []
        self.is_on = False
        self._in_modem = 0  # the far end has its own functions

    def watch(self, frame: FrameType, event: str, _argument: object) -> None:
        """Note a function's call; for sys.setprofile."""
        name = frame.f_code.co_qualname
        if frame.f_code.co_filename != smsbox.__file__ or event not in ("call", "return"):
            return
        if name == "SimulatedModem.feed":
            self._in_modem += 1 if event == "call" else -1
        elif event == "return" and name == "Sending.end_segment":
            self.is_on = False
        elif self.is_on and event == "call" and not self._in_modem and "<" not in name:
            self.functions.add(name)

    def note(self, statement: str) -> None:
        """Note a statement; a trigger's is told by the text of the one that fired it."""
        again = statement in self.statements[-1:] and not statement.startswith("SELECT")
        if self.is_on and not again:
            self.statements.append(statement)


def measure_trace(folder: Path, _runs: int) -> Measured:
    """Follow a message of one segment through the daemon, and a turn in which nothing is due."""
    box = PlayedBox(folder, datetime(2025, 11, 9, 18, tzinfo=timezone.utc))
    box.insert("+12135552313", "Hi", in_s=30)
    traces: list[Trace] = []

    def note(statement: str) -> None:
        if traces:
            traces[-1].note(statement)

    box.database._connection.set_trace_callback(note)
    tick = smsbox.Service.tick

    def traced_tick(self: smsbox.Service) -> float:
        traces.append(trace := Trace())
        trace.is_on = True
        sys.setprofile(trace.watch)
        try:
            return tick(self)
        finally:
            sys.setprofile(None)
            trace.is_on = False

    smsbox.Service.tick = traced_tick  # type: ignore[method-assign]
    try:
        box.serve(60)
    finally:
        smsbox.Service.tick = tick  # type: ignore[method-assign]
    sent = max(traces[1:], key=lambda each: len(each.functions))
    if not box.texts():
        raise SystemExit("nothing was sent")
    return {
        "trace-functions": float(len(sent.functions)),
        "trace-statements": float(len(sent.statements)),
        "trace-idle": float(len(traces[-1].statements)),
    }


# --- the daemon and what the kernel knows of it


def write_config(folder: Path, port: str, poll_s: float = 10.0) -> Path:
    path = folder / "config.toml"
    path.write_text(WIDE_OPEN.format(port=port, poll_s=poll_s))
    return path


@contextmanager
def daemon(
    command: Sequence[str], config: Path, database: Path, *before: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon while the block lasts. before: what it runs under, like strace."""
    files = ["--config", str(config), "--database", str(database)]
    with (config.parent / "journal").open("ab") as journal:
        process = subprocess.Popen(
            [*before, *command, *files, "run"],
            stdout=journal,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):  # strace ends and leaves the daemon behind
                    os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(10)


def processor_s(pid: int) -> float:
    """The time a process was on a processor, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def count_switches(pid: int) -> int:
    """How often a process gave its processor up to wait: one wake-up each."""
    return int(read_key(Path(f"/proc/{pid}/status"), "voluntary_ctxt_switches"))


def read_key(path: Path, key: str) -> str:
    found = re.search(rf"^{key}:\s*(\d+)", path.read_text(), re.MULTILINE)
    if not found:
        raise SystemExit(f"{path} does not tell {key}")
    return found[1]


# --- the modem


class Modem:
    """A modem in a process of its own; no latency, or a known one before each answer."""

    def __init__(self, folder: Path, latency_ms: float = 0.0) -> None:
        self._log = folder / "modem.log"
        self._log.unlink(missing_ok=True)
        self._latency = str(latency_ms)
        self._process: subprocess.Popen[str] | None = None
        self.port = ""

    def __enter__(self) -> Modem:
        self._process = subprocess.Popen(
            [PYTHON, __file__, "--be-modem", str(self._log), self._latency],
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert self._process.stdout is not None
        self.port = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def times(self, kind: str) -> list[float]:
        """When it heard AT+CMGS ('order'), had a whole text ('text'), was attached ('attached')."""
        return [at for heard, at, _ in self._notes() if heard == kind]

    def own_time_s(self) -> float:
        """What it spent on answers around texts itself."""
        return sum(spent_s for heard, _, spent_s in self._notes() if heard != "attached")

    def _notes(self) -> list[tuple[str, float, float]]:
        if not self._log.exists():
            return []
        lines = self._log.read_text().splitlines(keepends=True)
        whole = (line.split() for line in lines if line.endswith("\n"))
        return [(heard, float(at), float(spent_s)) for heard, at, spent_s in whole]

    def await_attached(self) -> None:
        self.await_times("attached", 1)

    def await_times(self, kind: str, count: int, within_s: float = 120) -> list[float]:
        end = time.monotonic() + within_s
        while len(found := self.times(kind)) < count:
            if time.monotonic() > end:
                raise SystemExit(f"the modem waited in vain for {kind}: {len(found)} of {count}")
            time.sleep(0.05)
        return found


def be_modem(log: str, latency_ms: float) -> None:
    """Answer on a new pseudo-terminal until killed; the two steps of a text without a detour."""
    master, slave = pty.openpty()
    tty.setraw(slave)  # held open, so that the program may come and go
    print(os.ttyname(slave), flush=True)
    notes = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    core = smsbox.SimulatedModem()
    reference, heard = 0, b""
    while True:
        heard += os.read(master, 65536)
        at, begun = time.time(), time.perf_counter()
        note = ""
        if heard.endswith(b"\x1a"):
            reference = (reference + 1) % 256
            answer = b"\r\n+CMGS: %d\r\n\r\nOK\r\n" % reference
            note = f"text {at:.6f}"
        elif heard.startswith(b"AT+CMGS=") and heard.endswith(b"\r"):
            answer = b"\r\n> "
            note = f"order {at:.6f}"
        elif heard.endswith((b"\r", b"\x1b")):
            answer = core.feed(heard)
            note = f"attached {at:.6f}" if heard.startswith(b"AT+COPS?") else ""
        else:
            continue
        heard = b""
        if latency_ms:
            select.select([], [], [], latency_ms / 1000)
        os.write(master, answer)
        if note:  # after the answer: noting is no part of its time
            os.write(notes, f"{note} {time.perf_counter() - begun:.6f}\n".encode())


# --- segments


def queue(database: Path, rows: int, first_at: datetime, apart_s: float, text: str) -> None:
    """Put rows into the queue by hand."""
    opened = smsbox.Database.create_or_open(str(database))
    with opened.transaction():
        opened.change_many(
            "INSERT INTO scheduled_messages (phone_number, customer_name, message_content,"
            " scheduled_for, status, campaign_name) VALUES (?, '', ?, ?, 'scheduled', 'bench')",
            [
                (
                    number_of(place),
                    text or bubbles_of(place),
                    smsbox.to_database_time(first_at + timedelta(seconds=place * apart_s)),
                )
                for place in range(rows)
            ],
        )
    opened.close()


def count_segments(texts: int) -> int:
    total = 0
    for place in range(texts):
        for bubble in smsbox.split_bubbles(bubbles_of(place)):
            total += len(smsbox.segment_text(bubble).units)
    return total


def start_soon(seconds: float = 3) -> datetime:
    """A whole second a little ahead: by then the daemon has attached, and the rows are due."""
    return datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=seconds)


def measure_segments(folder: Path, runs: int) -> Measured:
    """Send campaigns of 3 bubbles through modems with and without latency of their own."""
    command = compiled_module(folder)
    rates, overheads = [], []
    for place in range(runs):
        rates.append(send(folder, command, f"fast-{place}.db", 150, 0.0)[0])
        overheads.append(send(folder, command, f"slow-{place}.db", 20, 25.0)[1])
    measured = {
        "segment-rate": statistics.median(rates),
        "segment-overhead": statistics.median(overheads),
    }
    if shutil.which("strace"):
        measured |= trace_segments(folder, command)
    return measured


def send(
    folder: Path, command: Sequence[str], name: str, rows: int, latency_ms: float, *before: str
) -> tuple[float, float]:
    """Send rows that are all due: segments a second; milliseconds each beside the modem's own."""
    database, segments = folder / name, count_segments(rows)
    with Modem(folder, latency_ms) as modem:
        queue(database, rows, start_soon(), 0, "")
        config = write_config(folder, modem.port)
        with daemon(command, config, database, *before):
            orders = modem.await_times("order", 1)
            texts = modem.await_times("text", segments)
            took_s = texts[-1] - orders[0]
            time.sleep(0.3)  # the last commit
    return segments / took_s, 1000 * (took_s - modem.own_time_s()) / segments


_TRACED = "trace=fsync,fdatasync,write,pwrite64,pwritev,writev,sendto"
_WRITE = re.compile(r"(?:pwrite64|pwritev|write|writev)\(\d+<([^>]*)>.*= (\d+)$")


def trace_segments(folder: Path, command: Sequence[str]) -> Measured:
    """Count what the database's files cost: the daemon's whole life, over its segments."""
    rows = 100
    trace = folder / "segments.trace"
    send(folder, command, "traced.db", rows, 0.0, *strace(trace, _TRACED))
    calls = trace.read_text()
    segments = count_segments(rows)
    fsyncs = len(re.findall(r"(?:fsync|fdatasync)\(", calls))
    written = sum(size for path, size in find_writes(calls) if "traced.db" in path)
    return {"segment-fsyncs": fsyncs / segments, "segment-bytes": written / segments / 1024}


def strace(output: Path, what: str) -> list[str]:
    return ["strace", "-f", "-qq", "-y", "-s", "0", "-e", what, "-o", str(output)]


def find_writes(calls: str) -> Iterator[tuple[str, int]]:
    """Give file and size of each write in a trace."""
    for line in calls.splitlines():
        match = re.search(_WRITE, line)
        if match:
            yield match[1], int(match[2])


def measure_lateness(folder: Path, runs: int) -> Measured:
    """Rows one second apart, idle in between: how late the modem hears of each."""
    command = compiled_module(folder)
    database, rows = folder / "late.db", 20 + 4 * runs
    with Modem(folder) as modem:
        first_at = start_soon(4)
        queue(database, rows, first_at, 1, "One segment.")
        config = write_config(folder, modem.port)
        with daemon(command, config, database):
            orders = modem.await_times("order", rows)
    late_ms = sorted(
        1000 * (heard - first_at.timestamp() - place) for place, heard in enumerate(orders)
    )
    return {"lateness": late_ms[min(rows - 1, int(0.99 * rows))]}


# --- idle


def measure_idle(folder: Path, _runs: int) -> Measured:
    """A minute of waiting for a message that is due tomorrow. Two daemons side by side: one is
    left in peace, the other's system calls are counted."""
    command = compiled_module(folder)
    counted, trace = folder / "counted", folder / "idle.trace"
    counted.mkdir()
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    with Modem(folder) as modem, Modem(counted) as second:
        for place in (folder, counted):
            queue(place / "idle.db", 5, tomorrow, 300, "")
        under = strace(trace, "trace=desc,network") if shutil.which("strace") else ["env"]
        first_config = write_config(folder, modem.port)
        second_config = write_config(counted, second.port)
        with (
            daemon(command, first_config, folder / "idle.db") as quiet,
            daemon(command, second_config, counted / "idle.db", *under),
        ):
            modem.await_attached()
            second.await_attached()
            time.sleep(5)
            spent_s, wakeups = processor_s(quiet.pid), count_switches(quiet.pid)
            seen = len(trace.read_text()) if trace.exists() else 0
            time.sleep(60)
            measured = {
                "idle-processor": processor_s(quiet.pid) - spent_s,
                "idle-wakeups": float(count_switches(quiet.pid) - wakeups),
                "idle-memory": int(read_key(Path(f"/proc/{quiet.pid}/status"), "VmRSS")) / 1024,
            }
            if trace.exists():
                calls = trace.read_text()[seen:]
                waits = re.findall(r"(?:select|pselect6|poll|ppoll|epoll_wait)\(.* = ", calls)
                measured["idle-wakeups"] = max(measured["idle-wakeups"], float(len(waits)))
                files = (size for path, size in find_writes(calls) if "/dev/" not in path)
                measured["idle-bytes"] = float(sum(files))
    return measured


# --- a modem that comes


def measure_recovery(folder: Path, _runs: int) -> Measured:
    """From the modem's own readiness to the daemon's; from a replug to the next segment."""
    command = compiled_module(folder)
    database = folder / "recovery.db"
    told = database.with_name(database.name + ".status.json")

    def is_ready() -> bool:
        return told.exists() and json.loads(told.read_text())["modem"] == "ready"

    with PtyModem(folder) as modem:
        modem.misbehave(Fault("AT.*", times=0, obeys=False, says=b""))
        queue(database, 1, datetime.now(timezone.utc) + timedelta(days=1), 0, "Hi")
        with daemon(command, write_config(folder, str(modem.path)), database):
            time.sleep(10)  # as long as a modem takes from power-on to its first answer
            modem.behave()
            modem.say(b"\r\nRDY\r\n\r\n+CPIN: READY\r\n\r\nSMS Ready\r\n")
            begun = time.monotonic()
            wait_until(is_ready, 30)
            measured = {"power-on": time.monotonic() - begun}
            modem.unplug()
            time.sleep(8)
            queue(database, 1, datetime.now(timezone.utc), 0, "Hi")
            modem.replug()
            begun = time.monotonic()
            wait_until(modem.accepted, 30)
            measured["replug"] = time.monotonic() - begun
    return measured


# --- the table

MEASURES: tuple[tuple[Callable[[Path, int], Measured], Sequence[str]], ...] = (
    (measure_schedule, ("dry-run", "storing")),
    (measure_help, ("help",)),
    (measure_million, ("status", "poll")),
    (measure_trace, ("trace",)),
    (measure_segments, ("segment",)),
    (measure_lateness, ("lateness",)),
    (measure_idle, ("idle",)),
    (measure_recovery, ("power-on", "replug")),
)


def print_table(rows: Sequence[Row], measured: Mapping[str, float]) -> bool:
    """Print the rows that were measured; True if all bounds are met."""
    print(f"{'row':<17} {'what':<49} {'bound':>12} {'measured':>12}  ok")
    met = True
    for row in rows:
        sign = ">=" if row.at_least else "<="
        bound = f"{sign} {row.bound:g} {row.unit}".strip()
        if row.name in measured:
            value = measured[row.name]
            met &= row.is_met(value)
            shown, ok = f"{value:.3g} {row.unit}".strip(), "yes" if row.is_met(value) else "NO"
            if value >= 100:
                shown = f"{value:.0f} {row.unit}".strip()
        else:
            shown, ok = "needs strace", "-"
        print(f"{row.name:<17} {row.what:<49} {bound:>12} {shown:>12}  {ok}")
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what the program must reach.")
    parser.add_argument("names", nargs="*", metavar="ROW", help="rows whose names begin so")
    parser.add_argument("--runs", type=int, default=5, help="runs of each measurement (default 5)")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--json", action="store_true", help="print the numbers for a script")
    parser.add_argument("--be-modem", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.be_modem:
        be_modem(args.be_modem[0], float(args.be_modem[1]))
    wanted = [row for row in ROWS if not args.names or row.name.startswith(tuple(args.names))]
    if args.list or not wanted:
        print("\n".join(row.name for row in ROWS))
        return 0 if args.list else 2
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    measured: Measured = {}
    for measure, prefixes in MEASURES:
        if any(row.name.startswith(tuple(prefixes)) for row in wanted):
            with tempfile.TemporaryDirectory(prefix="smsbox-bench-") as folder:
                measured |= measure(Path(folder), args.runs)
    print(f"load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} processors", file=sys.stderr)
    if args.json:
        print(json.dumps({row.name: measured.get(row.name) for row in wanted}, indent=1))
        return 0
    return 0 if print_table(wanted, measured) else 1


if __name__ == "__main__":
    sys.exit(main())
