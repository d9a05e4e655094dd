"""Kills a command before its n-th step on the database; the product has no hook.

A step is a file in the database's folder that is opened, moved or changed, a lock that is taken, or
an SQL statement of another sort than the one before. A command with fewer steps ends as it does.

    python tests/rig/audit_rig.py 7 --database ... optout add ...     # dies before the seventh
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import smsbox

_OF_FILES = (
    *("open", "sqlite3.connect", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.rename"),
    "os.remove",
)


class _Reaper:
    def __init__(self, occurrence: int, folder: str) -> None:
        self._left = occurrence
        self._folder = folder
        self._last = ""

    def hear(self, event: str, given: tuple[Any, ...]) -> None:
        of_descriptor = event in ("fcntl.flock", "os.chmod") and isinstance(given[0], int)
        if of_descriptor or (event in _OF_FILES and self._folder in str(given[0])):
            self._reach(f"{event} {given[0]}")

    def wrap_connect(self) -> None:
        real = sqlite3.connect

        def connect(*given: Any, **named: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = real(*given, **named)
            self._reach("sqlite3 has connected")
            connection.set_trace_callback(self._hear_sql)
            return connection

        sqlite3.connect = connect  # type: ignore[assignment]

    def _hear_sql(self, statement: str) -> None:
        step = f"SQL {statement.split(maxsplit=1)[0]}"
        if step not in (self._last, "SQL --"):  # a trigger's work and a comment are no steps
            self._reach(step)

    def _reach(self, step: str) -> None:
        self._last = step
        self._left -= 1
        if self._left == 0:
            os.write(2, step.encode())
            os.kill(os.getpid(), signal.SIGKILL)


def _run_and_die(occurrence: int, words: list[str]) -> int:
    database = words[words.index("--database") + 1]
    reaper = _Reaper(occurrence, os.path.dirname(database))
    reaper.wrap_connect()
    sys.addaudithook(reaper.hear)
    return smsbox.main(words)


if __name__ == "__main__":
    sys.exit(_run_and_die(int(sys.argv[1]), sys.argv[2:]))
