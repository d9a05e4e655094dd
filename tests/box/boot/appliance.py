"""The box of the boot test: an installed machine with its modem, and what an operator does."""

from __future__ import annotations

import fcntl
import json
import lzma
import os
import re
import shutil
import sqlite3
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from box.boot.machine import PORT, Machine
from rig.paths import ROOT
from rig.pty_modem import PtyModem, wait_until

SOURCES = ("smsbox.py", "smsbox.service", "config.example.toml", "install.sh", "README.md")
SOURCE = "/home/pi/smsbox"
NEWER = "99.0.0"

Saw = Callable[[str], None]

# A campaign in seconds, at any hour; everything else is as a fresh box has it.
SETTINGS: dict[str, dict[str, Any]] = {
    "modem": {"port": PORT, "send_timeout_seconds": 20},
    "pacing": {
        "first_after_seconds": 0.2,
        "interval_minutes": [0.005, 0.01],
        "skip_chance": [0, 0],
        "bubble_gap_seconds": [0.05, 0.1],
    },
    "business_hours": {"opens": "00:00", "closes": "24:00", "timezone": "UTC"},
    "recipient_hours": {"enabled": False},
    "service": {"poll_seconds": 0.2},
}


class Installed(NamedTuple):
    """What install.sh has made of a fresh system, in words and numbers."""

    root: Path
    dry_run: str
    said: str
    image_s: float  # 0: the image was there
    took_s: float
    booted_s: float
    state: str  # of the service, right behind it
    packages: list[str]  # the new ones
    megabytes: float


def lay_sources(machine: Machine) -> None:
    """Put the project's folder into the user's home."""
    folder = machine.root / SOURCE.lstrip("/")
    folder.mkdir(exist_ok=True)
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)


def lay_version_1(machine: Machine) -> None:
    """Put version 1's folder into the user's home."""
    folder, kept = machine.root / SOURCE.lstrip("/"), ROOT / "tests/box/version1"
    shutil.copytree(kept, folder)
    (folder / "smsbox.py").write_bytes(lzma.decompress((kept / "smsbox.py.xz").read_bytes()))


def measure(machine: Machine) -> float:
    """Measure what lies on the card, in megabytes: without apt's own caches and the journal."""
    caches = ("/var/cache/apt", "/var/lib/apt", "/var/log", "/home")
    said = machine.run("du", "-xsk", *(f"--exclude={each}" for each in caches), "/", status=None)
    return int(said.split()[-2]) / 1024


def render(settings: dict[str, dict[str, Any]]) -> str:
    """Render settings as TOML."""
    lines = []
    for name, keys in settings.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    return "\n".join(lines) + "\n"


def is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


class Appliance(Machine):
    """An installed machine with a modem, and what its operator does with it."""

    def __init__(self, root: Path, modem: PtyModem) -> None:
        super().__init__(root, modem.path)
        self.modem = modem

    def cut_power(self) -> None:
        super().cut_power()
        self.let_go_of_port()

    def let_go_of_port(self) -> None:
        """Take back TIOCEXCL after a kill: a real port forgets it at the last close, and this one
        is held open by the modem's process."""
        port = os.open(self.modem.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        fcntl.ioctl(port, termios.TIOCNXCL)
        os.close(port)

    def settle(self, **sections: dict[str, Any]) -> None:
        """Write the config: the fast settings, with others on top."""
        names = [*SETTINGS, *(name for name in sections if name not in SETTINGS)]
        tables = {name: {**SETTINGS.get(name, {}), **sections.get(name, {})} for name in names}
        self.write("/etc/smsbox/config.toml", render(tables))

    def drop_in(self, text: str) -> None:
        """Change the unit as `systemctl edit` does it."""
        self.write("/etc/systemd/system/smsbox.service.d/boot-test.conf", f"[Service]\n{text}\n")
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "restart", "smsbox")

    def lay_newer(self, does: str = "") -> None:
        """Lay a newer version into the user's folder; what else it does when it is the daemon."""
        program = self.root / SOURCE.lstrip("/") / "smsbox.py"
        newer, changed = re.subn(
            r'(?m)^VERSION = ".*"', f'VERSION = "{NEWER}"', program.read_text()
        )
        begin = '    """Be the daemon."""\n'
        assert changed == newer.count(begin) == 1
        program.write_text(newer.replace(begin, begin + does))

    def install(self, *words: str, status: int = 0) -> str:
        """Run install.sh as the user of the box."""
        return self.run("sudo", "sh", f"{SOURCE}/install.sh", *words, user="pi", status=status)

    def cut_power_amid_install(self, happens: Callable[[], bool]) -> int:
        """Run install.sh, and cut the power as soon as something has happened; how many texts had
        arrived by then."""
        (self.root / "var/log/dpkg.log").unlink()
        command = ("sudo", "sh", f"{SOURCE}/install.sh")
        at_work = threading.Thread(
            target=lambda: self.run(*command, user="pi", status=None), daemon=True
        )
        at_work.start()
        wait_until(happens, 60, 0.001)
        self.cut_power()
        at_work.join(30)
        return len(self.texts())

    def has_dpkg_said(self, words: str) -> bool:
        """True once the log of dpkg has these words."""
        log = self.root / "var/log/dpkg.log"
        return log.exists() and words in log.read_text()

    def purge(self, answer: str) -> str:
        """Run install.sh --purge on a terminal, and answer its question."""
        command = f"sudo sh {SOURCE}/install.sh --purge"
        return self.run(
            "script", "--quiet", "--command", command, "/dev/null",
            user="pi", status=None, stdin=f"{answer}\n",
        )  # fmt: skip

    def copies(self) -> set[str]:
        """Give the places of all SQLite databases on the box but that of the one in use."""
        files = [path for path in (self.root / "var").rglob("*") if path.is_file()]
        found = {str(path.relative_to(self.root)) for path in files if is_database(path)}
        return found - {"var/lib/smsbox/smsbox.db"}

    def smsbox(self, *words: str, user: str = "pi", status: int | None = 0) -> str:
        return self.run("smsbox", *words, user=user, status=status)

    def write_campaign(self, count: int, name: str) -> list[tuple[str, str]]:
        """Write a CSV into the operator's home; what has to arrive of it."""
        rows = [(f"+1213555{2300 + place}", f"{name} {place} of {count}") for place in range(count)]
        lines = ["phone_number,customer_name,message_content"]
        lines += [f"{number},Somebody,{text}" for number, text in rows]
        self.write(f"/home/pi/{name}.csv", "\n".join(lines) + "\n")
        return rows

    def schedule(self, count: int, *words: str, name: str = "boot") -> list[tuple[str, str]]:
        """Schedule a campaign as the operator, without sudo; what has to arrive."""
        rows = self.write_campaign(count, name)
        self.smsbox("schedule", f"/home/pi/{name}.csv", "--yes", *words)
        return rows

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.smsbox("status", "--json", status=None)))

    def journal(self, *words: str) -> str:
        """Give the unit's journal of this boot, without times."""
        said = self.run(
            "journalctl", "--unit=smsbox", "--boot", "--output=cat", "--no-pager", "--quiet", *words
        )  # fmt: skip
        return said.strip()

    def show(self, name: str) -> str:
        """Give a property of the unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", "smsbox").strip()

    def is_active(self) -> bool:
        return self.show("ActiveState") == "active"

    def await_ready(self) -> None:
        """Wait until the service runs and its modem is ready."""
        wait_until(self.is_active, 20)
        wait_until(lambda: self.status().get("modem") == "ready", 20, 0.1)

    def sql(self, statement: str) -> list[Any]:
        """Ask its database, from outside it."""
        connection = sqlite3.connect(self.root / "var/lib/smsbox/smsbox.db", timeout=10)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def count_rows(self) -> dict[str, int]:
        """Count the rows by their status."""
        return dict(self.sql("SELECT status, COUNT(*) FROM scheduled_messages GROUP BY status"))

    def texts(self) -> list[tuple[str, str]]:
        """Give (number, text) of what the recipients' phones show."""
        return [(each.number, each.text) for each in self.modem.texts()]

    def await_count(self, count: int) -> None:
        """Wait until so many texts have arrived."""
        wait_until(lambda: len(self.texts()) >= count, 30)

    def await_texts(self, expected: list[tuple[str, str]]) -> None:
        """Wait for the texts: each once, in order, and nothing behind them."""
        self.await_count(len(expected))
        self.stays(expected)

    def stays(self, expected: list[tuple[str, str]], for_s: float = 1.0) -> None:
        """Look for a while whether anything else arrives; an interval is at most 0.6 s."""
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            assert self.texts() == expected
            time.sleep(0.05)
