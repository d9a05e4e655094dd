"""The operator's desk: commands in this process, in processes of their own, on a terminal."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import pwd
import select
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import smsbox
from rig.pace import LOS_ANGELES
from rig.paths import PROGRAM
from rig.people import ANA

UTC = timezone.utc
LOGIN = pwd.getpwuid(os.getuid()).pw_name
DAY = (datetime.now(LOS_ANGELES) + timedelta(days=3)).date()
TEN = f"{DAY} 10:00"  # a time to come, well inside the business hours
HEADER = "phone_number,customer_name,message_content\n"
AS_INSTALLED = "import sys, smsbox; sys.exit(smsbox.main())"
QUESTION = "Type YES to confirm:"
PATIENCE_S = 30  # of a test with a process; no test waits that long unless it fails
THEIRS_OFF = "[recipient_hours]\nenabled = false\n"
ALWAYS = '[business_hours]\nopens = "00:00"\ncloses = "24:00"\n' + THEIRS_OFF


def many(count: int, name: str = "Name", first: int = 2000) -> str:
    """Write a campaign to numbers of its own: the same text is not sent twice to anybody."""
    return HEADER + "".join(f"213555{first + i},{name} {i},Hello {i}\n" for i in range(count))


def texts(*pairs: tuple[str, str]) -> str:
    return HEADER + "".join(f"{number},Name,{text}\n" for number, text in pairs)


def local(text: str) -> datetime:
    """Read what the operator wrote, in the sender's zone."""
    return datetime.fromisoformat(text).replace(tzinfo=LOS_ANGELES)


def utc(text: str) -> datetime:
    """Read a time of the database."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)


def json_utc(text: str) -> datetime:
    """Read a time of --json: RFC 3339 in UTC, and nothing else."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


class Finished(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The one sentence that tells what is wrong."""
        [sentence] = [line for line in self.err.splitlines() if line.startswith("smsbox:")]
        assert len(sentence) > 30
        assert sentence.endswith(".")
        return sentence


class Keyboard(io.StringIO):
    """A terminal of this process on which somebody types; what happens meanwhile happens first."""

    def __init__(self, typed: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__(typed)
        self._meanwhile = meanwhile

    def isatty(self) -> bool:
        return True

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        self._meanwhile()
        return super().readline()


class Operator:
    """A folder with a config and a database; the operator's commands run in this process."""

    def __init__(
        self, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
    ) -> None:
        self.database = folder / "box.db"
        self.config = folder / "box.toml"
        self.config.write_text(ALWAYS)
        self._capsys = capsys
        self._patch = patch

    def words(self, *words: str) -> list[str]:
        return ["--config", str(self.config), "--database", str(self.database), *words]

    def run(self, *words: str, terminal: io.StringIO | None = None) -> Finished:
        """Run a command here. What it does not catch would be a traceback: it fails the test."""
        self._patch.setattr(sys, "stdin", terminal or io.StringIO())
        self._capsys.readouterr()
        try:
            status = smsbox.main(self.words(*words))
        except SystemExit as end:
            status = int(end.code or 0)
        return Finished(status, *self._capsys.readouterr())

    def sentence(self, *words: str, status: int) -> str:
        """Run a command that answers with one sentence of a problem."""
        done = self.run(*words)
        assert (done.status, done.out) == (status, ""), done
        (sentence,) = done.err.splitlines()
        assert sentence.startswith("smsbox: ")
        assert sentence.endswith(".")
        return sentence

    def lay_down(self) -> None:
        smsbox.Database.create_or_open(str(self.database)).close()

    def sql(self, statement: str, *values: object) -> list[Any]:
        connection = sqlite3.connect(self.database, isolation_level=None)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def insert(self, in_min: float = 60, **more: object) -> int:
        due = datetime.now(UTC) + timedelta(minutes=in_min)
        row = {
            "phone_number": ANA, "customer_name": "Ana", "message_content": "Hi",
            "scheduled_for": f"{due:%Y-%m-%d %H:%M:%S}", "status": "scheduled",
            "campaign_name": "fall", **more,
        }  # fmt: skip
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        statement = f"INSERT INTO scheduled_messages ({names}) VALUES ({marks}) RETURNING id"
        return int(self.sql(statement, *row.values())[0][0])

    def insert_bubble(self, row_id: int, status: str, segment: str, bubble: int = 1) -> None:
        (message,) = self.sql(
            "INSERT INTO messages (scheduled_message_id, phone_number, bubble, body, status,"
            " created_at) VALUES (?, ?, ?, 'Hi', ?, datetime('now')) RETURNING id",
            row_id, ANA, bubble, status,
        )[0]  # fmt: skip
        if segment:
            self.sql(
                "INSERT INTO segments (message_id, sequence, total, status, message_reference,"
                " submitted_at) VALUES (?, 1, 1, ?, 77, datetime('now'))",
                message, segment,
            )  # fmt: skip

    def row(self, row_id: int, columns: str = "status") -> Any:
        return self.sql(f"SELECT {columns} FROM scheduled_messages WHERE id = ?", row_id)[0]

    def due(self, row_id: int) -> datetime:
        return smsbox.from_database_time(self.row(row_id, "scheduled_for")[0])

    def statuses(self) -> list[str]:
        return [each[0] for each in self.sql("SELECT status FROM scheduled_messages ORDER BY id")]

    def reply(self, body: str | None, request: str = "nothing") -> None:
        self.sql(
            "INSERT INTO inbound (received_at, sent_at, sender, body, tpdu, request)"
            " VALUES ('2025-11-09 18:00:00', ?, ?, ?, '', ?)",
            str(body), ANA, body, request,
        )  # fmt: skip


class Terminal:
    """A command on a pseudo-terminal that is its controlling terminal."""

    def __init__(
        self, words: list[str], folder: Path, environment: Mapping[str, str], piped: bytes | None
    ) -> None:
        self._desk, screen = pty.openpty()

        def take_terminal() -> None:
            fcntl.ioctl(1, termios.TIOCSCTTY, 0)

        self._process = subprocess.Popen(
            words,
            cwd=folder,
            env=environment,
            stdin=screen if piped is None else subprocess.PIPE,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(screen)
        if piped is not None:
            assert self._process.stdin
            self._process.stdin.write(piped)
            self._process.stdin.close()
        self.shown = ""
        self._read_up_to = 0

    def wait_for(self, text: str) -> str:
        """Read until a text is shown; return what was shown up to it since the last one."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.shown[self._read_up_to :]:
            assert self._read(deadline), f"{text!r} never came:\n{self.shown}"
        begin = self._read_up_to
        self._read_up_to = self.shown.index(text, begin) + len(text)
        return self.shown[begin : self._read_up_to]

    def type(self, text: str) -> None:
        """Type as a person does, who is slower than a command that has asked begins to read: an
        interrupt just before its read() is seen by Python with the next key."""
        stat = Path(f"/proc/{self._process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] == "R":
            time.sleep(0.001)
        os.write(self._desk, text.encode())

    def end(self) -> int:
        """Read to the end; return the exit status."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        status = self._process.wait(PATIENCE_S)
        assert "Traceback" not in self.shown, self.shown
        return status

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._desk)

    def _read(self, deadline: float) -> bool:
        left_s = max(0.0, deadline - time.monotonic())
        assert select.select([self._desk], [], [], left_s)[0], f"nothing more came:\n{self.shown}"
        try:
            octets = os.read(self._desk, 65536)
        except OSError:  # Linux: the other side is closed
            return False
        self.shown += octets.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(octets)


class Desk:
    """A folder with a config, a database to be, and the operator who sits before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "box.db"
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(PROGRAM.parent),
        }
        self._terminals: list[Terminal] = []
        self.write("box.toml", "")

    def write(self, name: str, content: str | bytes) -> str:
        octets = content if isinstance(content, bytes) else content.encode()
        (self.folder / name).write_bytes(octets)
        return name

    def configure(self, toml: str) -> None:
        self.write("box.toml", toml)

    def words(self, *words: str) -> list[str]:
        # As a module, like the installed box: Python compiles it once, not in each test. Its hints
        # name it as it is typed there, too: smsbox.
        return [sys.executable, "-c", AS_INSTALLED, "--config", "box.toml", "--database", "box.db",
                *words]  # fmt: skip

    def run(self, words: list[str], piped: bytes = b"", **environment: str) -> Finished:
        done = subprocess.run(
            words,
            cwd=self.folder,
            env={**self.environment, **environment},
            input=piped,
            capture_output=True,
            timeout=PATIENCE_S,
        )
        finished = Finished(
            done.returncode,
            done.stdout.decode("utf-8", "surrogateescape"),
            done.stderr.decode("utf-8", "surrogateescape"),
        )
        assert "Traceback" not in finished.out + finished.err, finished.err
        return finished

    def schedule(self, *words: str, piped: bytes = b"", **environment: str) -> Finished:
        return self.run(self.words("schedule", *words), piped, **environment)

    def terminal(self, *words: str, piped: bytes | None = None) -> Terminal:
        terminal = Terminal(self.words("schedule", *words), self.folder, self.environment, piped)
        self._terminals.append(terminal)
        return terminal

    def close(self) -> None:
        for terminal in self._terminals:
            terminal.close()

    def snapshot(self) -> dict[str, tuple[int, int, bytes]]:
        """Path -> mode, time of the last change, content of all that is in the folder."""
        return {
            str(path.relative_to(self.folder)): (
                path.stat().st_mode,
                path.stat().st_mtime_ns if path.is_file() else 0,
                path.read_bytes() if path.is_file() else b"",
            )
            for path in self.folder.rglob("*")
        }

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.database, isolation_level=None)

    def rows(self, column: str = "scheduled_for") -> list[Any]:
        """Return a column of the queue, in its order."""
        connection = self.connect()
        try:
            sql = f"SELECT {column} FROM scheduled_messages ORDER BY scheduled_for, id"
            return [row[0] for row in connection.execute(sql)]
        finally:
            connection.close()

    def execute(self, sql: str) -> None:
        """Change the database by hand."""
        connection = self.connect()
        try:
            connection.execute(sql)
        finally:
            connection.close()
