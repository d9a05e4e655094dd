"""A box played in one process: a clock of its own, a scripted port, and a judgement at the end.

Behind the port stands the simulated modem. Of the texts that it is given some are answered by the
script of the test instead; store, pace, driver and coding are the real ones.
"""

from __future__ import annotations

import random
import socket
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import smsbox
from smsbox import LampState

UTC = timezone.utc
SILENCE = b""


class Play:
    """A Clock that waits for nobody, and lets things happen at their times."""

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.stopped = False
        self.end_s = 0.0
        self.acts: list[tuple[float, Callable[[], object]]] = []
        self._s = 1000.0
        self._turns = 0

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self._s - 1000)

    def monotonic(self) -> float:
        return self._s

    def step(self, seconds: float) -> None:
        """Set the system's clock, as NTP or a person does it."""
        self.start += timedelta(seconds=seconds)

    def pass_by(self, seconds: float) -> None:
        """Let time pass in which nobody waits: something takes long."""
        self._s += seconds

    def until(
        self, deadline: float, port: smsbox.Port | None = None, *, interruptible: bool = True
    ) -> bool:
        if interruptible and self.stopped:
            raise smsbox.StopRequested
        self._turns += 1
        assert self._turns < 3000, "the daemon turns without waiting"
        if isinstance(port, Far) and (port.said or port.gone):
            return True
        if deadline <= self._s:
            return False
        self._turns = 0
        acts = [each for each in self.acts if each[0] <= deadline]
        self._s = min([deadline, *(at for at, _ in acts)])
        for act in [each for each in acts if each[0] <= self._s]:
            self.acts.remove(act)
            act[1]()
        if interruptible and self._s >= self.end_s:
            self.stopped = True
        return False


class Far:
    """A Port with the simulated modem behind it, which is put out of the way by a script."""

    name = "scripted"

    def __init__(self, play: Play) -> None:
        self.arrived: list[tuple[datetime, str, str]] = []
        self.arrived_s: list[float] = []  # the same on the clock that never jumps
        self.modem = smsbox.SimulatedModem(self._arrive)
        self.script: deque[bytes | Callable[[], object] | None] = deque()  # one entry a text
        self.prompts: deque[bytes] = deque()  # in the place of the prompt
        self.answers: dict[bytes, bytes] = {}  # to a command
        self.tellers: dict[bytes, Callable[[], bytes]] = {}  # answers made when they are asked for
        self.heard: list[bytes] = []
        self.said = b""
        self.gone = False
        self.opened = 0
        self._play = play
        self._ends = socket.socketpair()

    def _arrive(self, tpdu: smsbox.Tpdu) -> None:
        self.arrived.append((self._play.now(), tpdu.number, tpdu.text or ""))
        self.arrived_s.append(self._play.monotonic())

    def open(self, name: str, baud: int) -> Far:
        self.opened += 1
        if self.gone:
            raise smsbox.PortLost("no modem is plugged in")
        return self

    def fileno(self) -> int:
        return self._ends[0].fileno()

    def read(self) -> bytes:
        if self.gone:
            raise smsbox.PortLost("scripted is gone")
        said, self.said = self.said, b""
        return said

    def write(self, data: bytes) -> None:
        if self.gone:
            raise smsbox.PortLost("scripted is gone")
        self.heard.append(data)
        if data.startswith(b"AT+CMGS") and self.prompts:
            self.said += self.prompts.popleft()
        elif data.endswith(b"\x1a"):
            self._take_text(data)
        elif data in self.tellers:
            self.said += self.tellers[data]()
        else:
            self.said += self.answers.get(data, b"") or self.modem.feed(data)

    def _take_text(self, data: bytes) -> None:
        act = self.script.popleft() if self.script else None
        if isinstance(act, bytes):
            self.modem.feed(b"\x1b")
            self.said += act
            return
        self.said += self.modem.feed(data)
        if act is not None:
            act()

    def close(self) -> None:
        pass


class Manager:
    """A Notifier that keeps what it hears."""

    pet_every_s: float | None = None

    def __init__(self) -> None:
        self.heard: list[str] = []

    def notify(self, message: str) -> None:
        self.heard.append(message)

    def pet(self) -> None:
        self.heard.append("WATCHDOG=1")


class Wall:
    """Lamps that keep what they were told to show."""

    def __init__(self) -> None:
        self.shown: list[LampState] = []

    def show(self, state: LampState) -> None:
        self.shown.append(state)

    def drive(self, monotonic: float) -> float | None:
        return None


class PlayedBox:
    """A database, a clock, a modem; serve() is one life of the daemon."""

    def __init__(self, folder: Path, start: datetime) -> None:
        self.path = str(folder / "smsbox.db")
        self.play = Play(start)
        self.far = Far(self.play)
        self.wall, self.manager = Wall(), Manager()
        self.published: list[Mapping[str, object]] = []
        self.evidence = "the test"
        self.find_evidence: Callable[[], str] = lambda: self.evidence
        self.tables: dict[str, dict[str, Any]] = {}
        self.database = smsbox.Database.create_or_open(self.path)
        self.hand = sqlite3.connect(self.path, isolation_level=None)

    def sql(self, statement: str, *values: object) -> list[Any]:
        return self.hand.execute(statement, values).fetchall()

    def insert(self, number: str, text: str, in_s: float = 0, **more: object) -> int:
        due = self.play.now() + timedelta(seconds=in_s)
        row = {
            "phone_number": number, "customer_name": "Name", "message_content": text,
            "scheduled_for": f"{due:%Y-%m-%d %H:%M:%S}", "status": "scheduled",
            "campaign_name": "fall", **more,
        }  # fmt: skip
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        statement = f"INSERT INTO scheduled_messages ({names}) VALUES ({marks}) RETURNING id"
        return int(self.sql(statement, *row.values())[0][0])

    def serve(self, for_s: float = 120, drain: bool = False) -> None:
        """Live for a while, then hear a stop; or until nothing is left, at most a day."""
        modem = {"port": "sim:", **self.tables.get("modem", {})}
        config = smsbox.parse_config({**self.tables, "modem": modem})
        around = smsbox.Surroundings(
            self.play, self.far.open, self.manager, self.wall, self.published.append,
            self.find_evidence,
        )  # fmt: skip
        self.play.stopped = False
        self.play.end_s = self.play.monotonic() + (86_400 if drain else for_s)
        service = smsbox.Service(config, self.database, around, random.Random(4))
        if drain:
            service.run(drain=True)
        else:
            with pytest.raises(smsbox.StopRequested):
                service.run(drain=False)

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        self.play.acts.append((self.play.monotonic() + seconds, act))

    def texts(self) -> list[str]:
        return [text for _, _, text in self.far.arrived]

    def row(self, row_id: int, columns: str = "status, error_message") -> Any:
        return self.sql(f"SELECT {columns} FROM scheduled_messages WHERE id = ?", row_id)[0]

    def bubbles(self, row_id: int) -> list[str]:
        found = self.sql(
            "SELECT status FROM messages WHERE scheduled_message_id = ? ORDER BY bubble", row_id
        )
        return [each[0] for each in found]

    def events(self, row_id: int) -> list[str]:
        found = self.sql(
            "SELECT actor || ' ' || event FROM events WHERE scheduled_message_id = ? ORDER BY id",
            row_id,
        )
        return [each[0] for each in found]


def at(hour: int, minute: int = 0, day: int = 9) -> datetime:
    """A wall time of Los Angeles in November 2025, after the clock went back."""
    return datetime(2025, 11, day, hour, minute, tzinfo=UTC) + timedelta(hours=8)


def replace_modem(box: PlayedBox, far: Far) -> None:
    for end in box.far._ends:
        end.close()
    box.far = far


def close(box: PlayedBox) -> None:
    replace_modem(box, box.far)
    box.hand.close()
    box.database.close()


def write_text(place: int) -> str:
    """Three segments and a short bubble; no two segments are alike."""
    words = " ".join(f"{place}.{word:03}" for word in range(55))
    return f"{words} [BUBBLE] The end of {place}"


def number_of(place: int) -> str:
    return f"+1310{2340000 + place}"


def segments_of(number: str, text: str) -> list[str]:
    pdus = [
        pdu
        for bubble in smsbox.split_bubbles(text)
        for pdu, _ in smsbox.encode_submit(bubble, number)
    ]
    return [smsbox.decode_tpdu(pdu, "out").text or "" for pdu in pdus]


def find_problems(box: PlayedBox, taken: Sequence[str], may_be_held: bool = False) -> list[str]:
    """Judge by what the modem took: nothing twice, nothing lost without a word."""
    counts = Counter(taken)
    problems = [f"taken {count} times: {text[:20]}" for text, count in counts.items() if count > 1]
    rows = box.sql(
        "SELECT id, phone_number, message_content, status, coalesce(error_message, ''),"
        " coalesce(held_because, '') FROM scheduled_messages"
    )
    for row, number, text, status, words, held in rows:
        segments = segments_of(number, text)
        missing = sum(not counts[segment] for segment in segments)
        found = box.sql(
            "SELECT g.status FROM segments g JOIN messages m ON m.id = g.message_id"
            " WHERE m.scheduled_message_id = ? ORDER BY m.bubble, g.sequence", row,
        )  # fmt: skip
        told = [each[0] for each in found]
        named = status == "failed" and "unconfirmed" in told and "may have been sent" in words
        explained = named or (may_be_held and held.startswith("cut in half"))
        if (status != "sent" and not explained) or (status == "sent" and missing):
            problems.append(f"row {row}: {status}, {missing} missing: {words}{held}")
        for segment, word in zip(segments, told, strict=False):
            if word == "sent" and not counts[segment]:
                problems.append(f"row {row}: called sent, never taken")
        for segment in segments[len(told) :]:
            if counts[segment]:
                problems.append(f"row {row}: taken, not written down")
    return problems
