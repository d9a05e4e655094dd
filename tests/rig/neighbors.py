"""A box on a machine with other people: the service's user, an operator in its group, a stranger.

They are numbers without a name; root alone can be them.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from rig.paths import PROGRAM

NOBODY = 65534  # a user that every system has
SERVICE, ALICE, MALLORY = 64001, 64002, 64003  # alice is in the service's group
SECRET = "4711 is what root alone knows"


def find_python_for_all() -> str:
    """Find an interpreter that another user can read: root's own may lie in root's home."""
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    test = "import sqlite3, sys; sys.exit(sys.version_info < (3, 11))"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with suppress(OSError):
            if not subprocess.run(
                [python, "-c", test], user=NOBODY, stderr=subprocess.DEVNULL
            ).returncode:
                return python
    pytest.skip("no interpreter here is for every user")


class Shared:
    """A state folder of the service's that alice may write, and a folder of root's beside it."""

    def __init__(self, base: Path) -> None:
        self.python = find_python_for_all()
        self.base, self.state, self.roots = base, base / "state", base / "root"
        self.database = self.state / "box.db"
        self.program = base / "smsbox.py"
        self.config = base / "config.toml"
        base.chmod(0o755)
        shutil.copy(PROGRAM, self.program)
        self.program.chmod(0o644)
        self.config.write_text("[recipient_hours]\nenabled = false\n")
        self.roots.mkdir(0o700)
        self.secret = self.roots / "secret"
        self.secret.write_text(SECRET + "\n" * 3_000_000)
        self.secret.chmod(0o600)
        self.state.mkdir()
        os.chown(self.state, SERVICE, SERVICE)
        self.state.chmod(0o2770)
        self.smsbox("pause", by=SERVICE)  # makes the database
        self.smsbox("resume", by=SERVICE)

    def start(self, *words: str, by: int = 0, **environment: str) -> subprocess.Popen[str]:
        """Start a command of smsbox as somebody."""
        told = ["--config", str(self.config), "--database", str(self.database), *words]
        who: dict[str, Any] = {"user": by, "group": by, "extra_groups": [SERVICE]} if by else {}
        return subprocess.Popen(
            [self.python, "-I", str(self.program), *told],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=self.base, umask=0o022, env={"PATH": os.environ["PATH"], **environment}, **who,
        )  # fmt: skip

    def run(self, *words: str, by: int = 0, **environment: str) -> tuple[int, str]:
        """Run a command of smsbox as somebody; return its status and what it said."""
        with self.start(*words, by=by, **environment) as process:
            try:
                out, err = process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                pytest.fail(f"smsbox {words[0]} hangs")
        assert "Traceback" not in err, err
        return process.returncode, out + err

    def smsbox(self, *words: str, by: int = 0) -> str:
        """Run a command that does what it is told."""
        status, said = self.run(*words, by=by)
        assert status == 0, said
        return said

    def look(self, query: str) -> list[Any]:
        """Ask the database, as the sqlite3 shell does."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


@contextmanager
def be(user: int) -> Iterator[None]:
    """Be somebody of the service's group for a while."""
    groups = os.getgroups()
    os.setgroups([SERVICE] if user != MALLORY else [])
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@contextmanager
def made_shared() -> Iterator[Shared]:
    """Lay such a box down where everybody gets to: pytest's own folder is shut to others."""
    find_python_for_all()
    base = Path(tempfile.mkdtemp())
    try:
        yield Shared(base)
    finally:
        shutil.rmtree(base)


def lay_journal(database: Path, named: str = "") -> Path:
    """Lay down a hot journal that undoes nothing; of several databases where it names a file."""
    content = database.read_bytes()
    size = int.from_bytes(content[16:18], "big")
    mark, numbers = bytes.fromhex("d9d505f920a163d7"), (0, 0, len(content) // size, 512, size)
    head = mark + b"".join(number.to_bytes(4, "big") for number in numbers)
    octets = head.ljust(512, b"\0")
    if named:
        of_locks = (0x40000000 // size + 1).to_bytes(4, "big")
        counts = len(named).to_bytes(4, "big") + sum(named.encode()).to_bytes(4, "big")
        octets += of_locks + named.encode() + counts + mark
    database.with_name(database.name + "-wal").unlink(missing_ok=True)
    journal = database.with_name(database.name + "-journal")
    journal.write_bytes(octets)
    journal.chmod(0o666)
    return journal
