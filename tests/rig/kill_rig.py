"""Kills the real daemon before, amid and after each step of a send; the product has no hook.

It is `smsbox` with its store and its port wrapped: the process kills itself at a step.

    python tests/rig/kill_rig.py "half of text" 2 --config ... run --drain  # dies in the second
    python tests/rig/kill_rig.py "hang after text" 1 --config ... run  # hangs there forever instead
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import smsbox

SENDING = (
    "before claim", "before COMMIT of claim", "after claim",
    "before begin_segment", "before COMMIT of begin_segment", "after begin_segment",
    "before CMGS", "half of CMGS", "after CMGS", "after prompt",
    "before text", "half of text", "all but Ctrl-Z of text", "after text", "after answer",
    "before sent", "before COMMIT of sent", "after sent",
)  # fmt: skip
# While a segment that was with the modem is called unconfirmed, after the start.
GIVEN_UP = (
    "before recover", "after recover",
    "before unconfirmed", "before COMMIT of unconfirmed", "after unconfirmed",
)  # fmt: skip


class _Reaper:
    def __init__(self, step: str, occurrence: int) -> None:
        self._step = step.removeprefix("hang ")
        self._hangs = step != self._step
        self._left = occurrence
        self._within = ""  # the wrapped method that runs

    def reach(self, step: str) -> None:
        if self._is_due(step):
            self._strike()

    def _strike(self) -> None:
        while self._hangs:
            time.sleep(3600)
        os.kill(os.getpid(), signal.SIGKILL)

    def _is_due(self, step: str) -> bool:
        self._left -= step == self._step
        return step == self._step and self._left == 0

    def wrap_method(self, owner: type, name: str) -> None:
        real = getattr(owner, name)

        def method(*given: Any, **named: Any) -> Any:
            step = name
            if name == "end_segment":  # by what came of it
                step = given[2].value
            self.reach(f"before {step}")
            outer, self._within = self._within, step
            try:
                done = real(*given, **named)
            finally:
                self._within = outer
            self.reach(f"after {step}")
            return done

        _put(owner, name, method)

    def wrap_commit(self) -> None:
        real = smsbox.Database.change

        def change(database: smsbox.Database, sql: str, *given: Any, **named: Any) -> int:
            if sql == "COMMIT":
                self.reach(f"before COMMIT of {self._within}")
            return real(database, sql, *given, **named)

        _put(smsbox.Database, "change", change)

    def wrap_port(self) -> None:
        write, read = smsbox.SerialPort.write, smsbox.SerialPort.read

        def writing(port: smsbox.SerialPort, data: bytes) -> None:
            name = "CMGS" if data.startswith(b"AT+CMGS") else ""
            name = "text" if data.endswith(b"\x1a") else name
            self.reach(f"before {name}")
            for share, end in (("half", len(data) // 2), ("all but Ctrl-Z", len(data) - 1)):
                if self._is_due(f"{share} of {name}"):
                    write(port, data[:end])
                    self._strike()
            write(port, data)
            self.reach(f"after {name}")

        def reading(port: smsbox.SerialPort) -> bytes:
            data = read(port)
            if b"\n> " in data:
                self.reach("after prompt")
            if b"+CMGS:" in data:
                self.reach("after answer")
            return data

        _put(smsbox.SerialPort, "write", writing)
        _put(smsbox.SerialPort, "read", reading)


def _put(owner: type, name: str, wrapped: Callable[..., Any]) -> None:
    setattr(owner, name, wrapped)


def _run_and_die(step: str, occurrence: int, words: list[str]) -> int:
    reaper = _Reaper(step, occurrence)
    for name in ("claim", "begin_segment", "end_segment", "recover"):
        reaper.wrap_method(smsbox.Sending, name)
    reaper.wrap_commit()
    reaper.wrap_port()
    return smsbox.main(words)


if __name__ == "__main__":
    sys.exit(_run_and_die(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
