"""A real box: the daemon's process, the commands', and a modem behind a pseudo-terminal."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rig.paths import PROGRAM
from rig.pty_modem import PtyModem, wait_until

UTC = timezone.utc
NEVER_S = 0.6  # how long we look for what must not happen

SETTINGS: dict[str, dict[str, Any]] = {
    "modem": {"send_timeout_seconds": 20},
    "pacing": {
        "first_after_seconds": 0,
        "interval_minutes": [0.01, 0.02],
        "skip_chance": [0, 0],
        "bubble_gap_seconds": [0.05, 0.1],
    },
    "business_hours": {"opens": "00:00", "closes": "24:00"},
    "recipient_hours": {"enabled": False},
    "service": {"poll_seconds": 0.2},
    "clock": {"require_trust": False},
}


class Daemon:
    """One process of `smsbox run`."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    def journal(self) -> str:
        return self._output.read_text()

    def wait(self, within_s: float = 20.0) -> int:
        return self.process.wait(within_s)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


class LiveBox:
    """A folder with a config and a database, a modem, and the commands over them."""

    def __init__(self, folder: Path, modem: PtyModem) -> None:
        self.folder = folder
        self.modem = modem
        self.database = folder / "box.db"
        self.config = folder / "config.toml"
        self.daemons: list[Daemon] = []
        self.settle()

    def settle(self, **sections: dict[str, Any]) -> None:
        """Write the config: the fast settings of these tests, with others on top."""
        tables = {name: {**keys, **sections.get(name, {})} for name, keys in SETTINGS.items()}
        tables["modem"] = {"port": str(self.modem.path), **tables["modem"]}
        lines = []
        for name, keys in tables.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
        self.config.write_text("\n".join(lines) + "\n")

    def command(self, *words: str) -> list[str]:
        return [
            sys.executable, str(PROGRAM), "--config", str(self.config),
            "--database", str(self.database), *words,
        ]  # fmt: skip

    def call(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words),
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def start(self, *words: str, notify: Path | None = None) -> Daemon:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM", "SMSBOX_CONFIG")
        }
        if notify is not None:
            environment["NOTIFY_SOCKET"] = str(notify)
        output = self.folder / f"daemon{len(self.daemons)}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                self.command("run", *words), stdout=file, stderr=file, env=environment
            )
        daemon = Daemon(process, output)
        self.daemons.append(daemon)
        return daemon

    def drain(self) -> None:
        """Serve until nothing is left to do."""
        daemon = self.start("--drain")
        assert daemon.wait() == 0, daemon.journal()

    def await_idle(self) -> None:
        """Wait until the modem is attached and nobody has talked to it for a while."""

        def is_quiet() -> bool:
            heard = self.modem.heard()
            return len(heard) > 5 and time.time() - heard[-1].at > 0.3

        wait_until(is_quiet)

    def sql(self, statement: str, *given: object) -> list[Any]:
        """Do what an operator does in the sqlite3 shell."""
        connection = sqlite3.connect(self.database, timeout=10)
        try:
            with connection:
                return connection.execute(statement, given).fetchall()
        finally:
            connection.close()

    def lay_down(self) -> None:
        """Make an empty database, with a command that changes nothing."""
        self.call("optout", "add", "+12135552399")

    def insert(self, number: str, text: str, due: datetime | None = None, **more: object) -> int:
        """Insert a row by hand, with the columns that a person knows."""
        values = {
            "phone_number": number,
            "customer_name": "Somebody",
            "message_content": text,
            "scheduled_for": f"{due or datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
            "status": "scheduled",
            "campaign_name": "by hand",
            **more,
        }
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        found = self.sql(
            f"INSERT INTO scheduled_messages ({names}) VALUES ({marks}) RETURNING id",
            *values.values(),
        )
        return int(found[0][0])

    def row(self, row_id: int) -> Any:
        """Return (status, error_message or "") of a row."""
        return self.sql(
            "SELECT status, coalesce(error_message, '') FROM scheduled_messages WHERE id = ?",
            row_id,
        )[0]

    def bubbles(self, row_id: int) -> list[str]:
        """Return the statuses of a row's bubbles."""
        found = self.sql(
            "SELECT status FROM messages WHERE scheduled_message_id = ? ORDER BY bubble", row_id
        )
        return [each[0] for each in found]

    def texts(self) -> list[tuple[str, str]]:
        """Return (number, text) of what arrived whole."""
        return [(each.number, each.text) for each in self.modem.texts() if each.whole]

    def stays(self, expected: list[tuple[str, str]]) -> None:
        """Look for a while whether anything else arrives."""
        end = time.monotonic() + NEVER_S
        while time.monotonic() < end:
            assert self.texts() == expected
            time.sleep(0.05)

    def close(self) -> None:
        """End the daemons that live."""
        for daemon in self.daemons:
            if daemon.process.poll() is None:
                daemon.kill()


def write_csv(path: Path, rows: list[tuple[str, str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("phone_number", "customer_name", "message_content"))
        writer.writerows(rows)
