"""What an operator does and reads on a real box, and the golden file that has it."""

from __future__ import annotations

import os
import re
import shlex

import pytest

from rig.desk import AS_INSTALLED, QUESTION, Terminal
from rig.paths import GOLDEN, PROGRAM
from rig.process import LiveBox


class Story:
    """A box with a real daemon and a modem, and what the operator typed and read."""

    def __init__(self, box: LiveBox) -> None:
        self.box = box
        self.lines: list[str] = []

    def tell(self, *words: str, answer: str = "") -> str:
        """Type a command on a terminal, and perhaps an answer to its question."""
        python, _, *rest = self.box.command(*words)
        environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(PROGRAM.parent)}
        command = [python, "-c", AS_INSTALLED, *rest]  # its hints name it smsbox
        terminal = Terminal(command, self.box.folder, environment, None)
        try:
            if answer:
                terminal.wait_for(QUESTION)
                terminal.type(f"{answer}\n")
            status = terminal.end()
        finally:
            terminal.close()
        self.lines += [f"$ smsbox {shlex.join(words)}", terminal.shown.rstrip(), f"[{status}]", ""]
        return terminal.shown

    def arrived(self) -> list[tuple[str, str]]:
        return [(each.number, each.text) for each in self.box.modem.texts()]

    def compare(self, name: str, request: pytest.FixtureRequest) -> None:
        told = "\n".join(self.lines).replace(f"{self.box.folder}/", "")
        for pattern, mask in (
            (r"\n {11}(?=\S)", " "),  # wrapped, as long as its times are
            (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d\d/\d\d \d+:\d\d [AP]M", "Day MM/DD HH:MM XM"),
            (r"\d\d/\d\d/\d{4}( \d\d:\d\d(:\d\d)? [AP]M P[SD]T)", "MM/DD/YYYY HH:MM"),
            (r"\d\d/\d\d \d\d:\d\d [AP]M( \(P[SD]T\)|)", "MM/DD HH:MM XM"),
            (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (\d\d/\d\d|MM/DD)", "Day MM/DD"),
            (r"\d{4}-\d\d-\d\d", "YYYY-MM-DD"),
            (r"\d+ s: from", "N s: from"),
            (r"on \d days? \(.*\)", "on N days"),
            (r"\(pid \d+\)|paused by \w+", "..."),
            (r"[^\n]*\x1b\[K", ""),  # progress, drawn over
            (r"Wrote \d+ rows", "Wrote N rows"),
            (r"(?m)^ok +copies .*", "ok       copies     ..."),
            (r"\(PDT\)", "(PST)"),
            (r"Seed: +\d+", "Seed:      N"),
            (r"\d\d/\d\d/\d{4} \d\d:\d\d [AP]M", "MM/DD/YYYY HH:MM"),
        ):
            told = re.sub(pattern, mask, told)
        golden = GOLDEN / f"{name}.txt"
        if request.config.getoption("--golden"):
            golden.parent.mkdir(exist_ok=True)
            golden.write_text(told, encoding="utf-8")
        assert told == golden.read_text(encoding="utf-8")
