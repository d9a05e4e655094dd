"""A box that goes through deaths of its daemon and its modem, and is judged afterwards.

The pseudo-terminal modem lives on while the daemon is dead; what it took is the truth.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import smsbox
from rig import kill_rig
from rig.kill_rig import GIVEN_UP, SENDING

AT_RANDOM = "at a random instant"
STOPPED, UNPLUGGED, REBOOTED = "SIGTERM", "modem unplugged", "modem rebooted"
BOTH_UNPLUGGED, BOTH_REBOOTED = "killed and modem unplugged", "killed and modem rebooted"
FROM_OUTSIDE = (AT_RANDOM, STOPPED, UNPLUGGED, REBOOTED, BOTH_UNPLUGGED, BOTH_REBOOTED)


class Death(NamedTuple):
    """Where and when a life of the daemon, or of its modem, ends."""

    step: str
    occurrence: int = 1
    after_s: float = 0.0  # from outside: so long after the start


class Ordeal:
    """A box that goes through deaths; afterwards it knows what was wrong and what was counted."""

    def __init__(self, box: Any) -> None:
        self.between_lives: Callable[[], object] = lambda: None
        self._box = box
        self._rows: dict[int, tuple[str, list[str]]] = {}  # row -> number, its segments' texts
        self._last = ""  # the death whose consequences are looked for
        self._seen = (0, 0)
        self.table: Counter[tuple[str, str]] = Counter()  # (step, column)
        self.problems: list[str] = []

    def go_through(self, deaths: list[Death]) -> None:
        self._insert()
        self._live(None)  # one segment is answered before the first death
        for death in deaths:
            for after_s in (death.after_s, death.after_s / 2, death.after_s / 4):
                while len(self._scheduled()) < 2:
                    self._insert()
                if self._live(death._replace(after_s=after_s)):
                    break
            self.between_lives()
        self._live(None)
        self._judge()

    def count(self, step: str, column: str, many: int = 1) -> None:
        self.table[step, column] += many

    def _insert(self) -> None:
        place = len(self._rows)
        number = f"+1213555{2000 + place}"
        words = " ".join(f"{place}.{word:03}" for word in range(55))  # three segments
        text = f"{words} [BUBBLE] The end of {place}"
        row = self._box.insert(number, text)
        bubbles = smsbox.split_bubbles(text)
        pdus = [pdu for bubble in bubbles for pdu, _ in smsbox.encode_submit(bubble, number)]
        self._rows[row] = number, [smsbox.decode_tpdu(pdu, "out").text or "" for pdu in pdus]

    def _scheduled(self) -> list[Any]:
        found: list[Any] = self._box.sql(
            "SELECT id FROM scheduled_messages WHERE status = 'scheduled'"
        )
        return found

    def _live(self, death: Death | None) -> bool:
        """Let the daemon live to its death, or until nothing is left to do; True: it came."""
        step, occurrence, after_s = death or Death("")
        if step in GIVEN_UP:
            time.sleep(0.4)  # the answer comes while nobody listens
        words = [step, str(occurrence), *self._box.command("run", "--drain")[2:]]
        with (self._box.folder / "daemon.txt").open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, kill_rig.__file__, *words], stdout=file, stderr=file
            )
        came = False
        if step in FROM_OUTSIDE:
            time.sleep(after_s)
            self._count_consequences()  # what it did so far belongs to the death before
            came = process.poll() is None
            self._last = step if came else self._last
            self._strike(step, process)
        try:
            status = process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.problems.append(f"it did not end after {self._last or 'the start'}, then {step}")
            return True
        came |= status == -signal.SIGKILL
        self._look(step, status, came)
        return came

    def _strike(self, step: str, process: subprocess.Popen[bytes]) -> None:
        if step in (UNPLUGGED, BOTH_UNPLUGGED):
            self._box.modem.befall("unplug", 0.5)
        elif step in (REBOOTED, BOTH_REBOOTED):
            self._box.modem.befall("reboot", 0.5)
        if step == STOPPED:
            process.send_signal(signal.SIGTERM)
        elif step not in (UNPLUGGED, REBOOTED):
            process.kill()

    def _look(self, step: str, status: int, came: bool) -> None:
        allowed = {STOPPED: (0, 130, -signal.SIGTERM)}.get(step, (0, -signal.SIGKILL))
        if status not in allowed:
            self.problems.append(f"{step or 'the last life'} ended with status {status}")
        self._count_consequences()
        if came:
            self.count(step, "kills")
            self._last = step

    def _count_consequences(self) -> None:
        duplicates = sum(count - 1 for count in self._taken().values())
        unconfirmed = self._box.sql("SELECT count(*) FROM segments WHERE status = 'unconfirmed'")
        seen = duplicates, unconfirmed[0][0]
        self.count(self._last, "duplicates", seen[0] - self._seen[0])
        self.count(self._last, "unconfirmed", seen[1] - self._seen[1])
        self._seen = seen

    def _tpdus(self) -> list[smsbox.Tpdu]:
        return [smsbox.decode_tpdu(each.pdu, "out") for each in self._box.modem.accepted()]

    def _taken(self) -> Counter[tuple[str, str]]:
        return Counter((tpdu.number, tpdu.text or "") for tpdu in self._tpdus())

    def _judge(self) -> None:
        """The modem's journal is the truth; the texts of all segments differ."""
        tpdus = self._tpdus()
        for row, (number, segments) in self._rows.items():
            mine = [tpdu for tpdu in tpdus if tpdu.number == number]
            order = [segments.index(tpdu.text or "") for tpdu in mine]
            if order != sorted(set(order)):
                self.problems.append(f"row {row}: segments taken as {order}")
            references = {tpdu.concatenation[0] for tpdu in mine if tpdu.concatenation}
            if len(references) > 1:
                self.problems.append(f"row {row}: torn apart by references {references}")
            self._judge_row(row, [place in order for place in range(len(segments))])

    def _judge_row(self, row: int, taken: list[bool]) -> None:
        status, words = self._box.row(row)
        found = self._box.sql(
            "SELECT g.status FROM segments g JOIN messages m ON m.id = g.message_id"
            " WHERE m.scheduled_message_id = ? ORDER BY m.bubble, g.sequence", row,
        )  # fmt: skip
        told = [each[0] for each in found] + [""] * (len(taken) - len(found))
        named = status == "failed" and "unconfirmed" in told and "may have been sent" in words
        if not (status == "sent" or named):
            self.problems.append(f"row {row} ends as {status}: {words}")
        if status == "sent" and (words or set(told) != {"sent"}):
            self.problems.append(f"row {row} is sent, yet its segments are {told}: {words!r}")
        for place, (was_taken, word) in enumerate(zip(taken, told, strict=True)):
            if was_taken != (word == "sent") and word != "unconfirmed":
                self.problems.append(f"row {row}, segment {place}: taken={was_taken}, told={word}")
        missing = taken.count(False)
        self.count(self._last, "losses", 0 if named else missing)
        self.count("any", "failed", status == "failed")


def render_table(table: Counter[tuple[str, str]]) -> str:
    """Return the deaths and their consequences, a line a step."""
    columns = ("kills", "duplicates", "losses", "unconfirmed")
    steps = [*SENDING, *GIVEN_UP, *FROM_OUTSIDE]
    lines = [f"{'step':<44}" + "".join(f"{each:>13}" for each in columns)]
    for step in [each for each in steps if table[each, "kills"]]:
        lines.append(f"{step:<44}" + "".join(f"{table[step, each]:>13}" for each in columns))
    whole = [sum(count for (_, name), count in table.items() if name == each) for each in columns]
    lines.append(f"{'all':<44}" + "".join(f"{each:>13}" for each in whole))
    return "\n".join(lines)
