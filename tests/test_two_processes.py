"""Several processes on one database or one modem: nobody locks anybody out, nobody sends twice.

Root, a person of the group and the service user share the database's folder; their commands are
real processes with real user ids. A second daemon gives way to the first. Commands at any instant
spoil nothing. And a service manager's watchdog ends a daemon that hangs, played here by the test.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise, permutations
from pathlib import Path
from typing import NamedTuple

import audit_rig
import kill_rig
import pytest
from pty_modem import TEXT, Fault, PtyModem, wait_until
from test_end_to_end import ANA, BEN, CHLOE, PROGRAM, ROOT, Box, Daemon

STRANGER = "+12135552399"
NO_TRACE = "Traceback"


# --- root, a person of the group, the service user


class Person(NamedTuple):
    """Who runs a command, as install.sh leaves them."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


BY_ROOT = Person("root", 0, 0)
SERVICE = Person("service", 54321, 54321)
MEMBER = Person("member", 54322, 54322, (54321,))
PEOPLE = (BY_ROOT, MEMBER, SERVICE)

SIMULATED = """\
[modem]
port = "sim:"
[pacing]
first_after_seconds = 0
interval_minutes = [0.001, 0.002]
skip_chance = [0, 0]
bubble_gap_seconds = [0, 0]
[business_hours]
opens = "00:00"
closes = "24:00"
[service]
poll_seconds = 0.1
[clock]
require_trust = false
"""

# Done with the plain sqlite3 module, as in the sqlite3 shell; then it waits to be killed.
BY_HAND = """\
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # what is not committed goes to the file all the same
connection.execute(sys.argv[2])
rows = connection.execute(sys.argv[3])
rows.fetchone()
print("amid", flush=True)
time.sleep(3600)
"""
MANY_ROWS = """\
WITH RECURSIVE place(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM place WHERE n < 500)
INSERT INTO scheduled_messages (phone_number, customer_name, message_content, scheduled_for,
status, campaign_name) SELECT '+12135552313', 'Nobody', 'never committed', '2099-01-01 00:00:00',
'scheduled', 'by hand' FROM place RETURNING id"""


class Shared:
    """A program that everybody may read, and a database's folder as the installer makes it."""

    def __init__(self, python: str, program: Path, top: Path) -> None:
        self._python = python
        self._program = program
        self._running: list[subprocess.Popen[str]] = []
        self.folder = top / "state"
        self.database = self.folder / "smsbox.db"
        self._config = top / "config.toml"
        self._config.write_text(SIMULATED)
        self._campaign = top / "campaign.csv"  # root's own: nobody else may read it
        self._campaign.write_text(f"phone_number,customer_name,message_content\n{ANA},Ana,Hi Ana\n")
        self._campaign.chmod(0o600)
        self._count = 0
        self.make_folder(0o2770)

    def make_folder(self, mode: int) -> None:
        """Make the folder anew, the service user's."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        os.chown(self.folder, SERVICE.uid, SERVICE.gid)
        self.folder.chmod(mode)

    def spawn(
        self, person: Person, words: list[str], umask: int, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [self._python, *words],
            user=person.uid, group=person.gid, extra_groups=person.groups, umask=umask,
            cwd="/", env={"PYTHONPATH": str(self._program), "LANG": "C.UTF-8"}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
        self._running.append(process)
        return process

    def words(self, *words: str) -> list[str]:
        return ["--config", str(self._config), "--database", str(self.database), *words]

    def begin(self, person: Person, *words: str, umask: int = 0o022) -> subprocess.Popen[str]:
        return self.spawn(person, ["-m", "smsbox", *self.words(*words)], umask)

    def begin_by_hand(self, person: Person, first: str, then: str) -> subprocess.Popen[str]:
        """Let somebody do SQL, and give them when they are amid it."""
        words = ["-c", BY_HAND, str(self.database), first, then]
        process = self.spawn(person, words, 0o077)
        assert process.stdout is not None
        assert process.stdout.readline() == "amid\n", process.communicate()[1]
        return process

    def die_at(self, person: Person, step: int, *words: str) -> str:
        """Let somebody die at a step of a command; the step's name, "": it has fewer."""
        words_of_rig = [str(self._program / "audit_rig.py"), str(step), *self.words(*words)]
        said, problems = (process := self.spawn(person, words_of_rig, 0o077)).communicate()
        if process.returncode == -signal.SIGKILL:
            return problems
        assert process.returncode == 0, said + problems
        return ""

    def call(self, person: Person, *words: str, umask: int = 0o022) -> str:
        """Run a command that must succeed."""
        return finish(self.begin(person, *words, umask=umask))

    def do(self, person: Person, command: str, umask: int) -> None:
        """Run one of the commands; before there is a database some of them have nothing to do."""
        words = {
            "schedule": ["schedule", str(self._file_for(person)), "--yes"],
            "cancel": ["cancel", "--all", "--yes"],
            "list": ["list"],
            "status": ["status"],
        }[command]
        allowed = {"schedule": (0,), "cancel": (0, 75), "list": (0,), "status": (2,)}[command]
        finish(self.begin(person, *words, umask=umask), *allowed)

    def _file_for(self, person: Person) -> Path:
        if person is BY_ROOT:
            return self._campaign
        path = self._campaign.with_name(f"{person.name}.csv")
        path.write_text(self._campaign.read_text())
        return path

    def write(self, *people: Person, umask: int = 0o077) -> None:
        """Let people write, all at once; what they wrote must be there."""
        began = {}
        for person in people:
            self._count += 1
            number = f"+1213555{4000 + self._count}"
            began[number] = self.begin(person, "optout", "add", number, umask=umask)
        for process in began.values():
            finish(process)
        assert set(began) <= {each[0] for each in self.sql("SELECT phone_number FROM opt_outs")}

    def drain(self, person: Person, umask: int = 0o007) -> None:
        """Be the daemon until nothing is left to do."""
        process = self.begin(person, "run", "--drain", umask=umask)
        said, journal = process.communicate(timeout=20)
        assert process.returncode == 0, said + journal

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        """Look as root, without becoming the owner of a file."""
        uri = f"file:{self.database}?mode=ro"
        os.setegid(SERVICE.gid)
        os.seteuid(SERVICE.uid)
        try:
            connection = sqlite3.connect(uri, uri=True, timeout=10)
            try:
                return connection.execute(statement).fetchall()
            finally:
                connection.close()
        finally:
            os.seteuid(0)
            os.setegid(0)

    def find_strange_files(self) -> list[str]:
        """Name the files that the group may not write or that have left the group."""
        found = []
        for path in self.folder.iterdir():
            seen = path.stat()
            shared = seen.st_mode & 0o660 == 0o660 or path.name.endswith("status.json")
            if seen.st_gid != SERVICE.gid or not shared:
                found.append(f"{path.name} {stat.filemode(seen.st_mode)} {seen.st_gid}")
        return found

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.communicate()


def finish(process: subprocess.Popen[str], *allowed: int) -> str:
    said, problems = process.communicate(timeout=20)
    assert process.returncode in (allowed or (0,)), said + problems
    assert NO_TRACE not in problems
    return said


def find_python() -> str:
    """Find an interpreter that a stranger may run; "" where we may not become a stranger."""
    for python in (sys.executable, "/usr/bin/python3"):
        with suppress(OSError, subprocess.SubprocessError):
            code = "import sqlite3, sys; sys.exit(sys.version_info < (3, 10))"
            done = subprocess.run(
                [python, "-c", code], user=MEMBER.uid, group=MEMBER.gid, extra_groups=[],
                cwd="/", env={}, capture_output=True,
            )  # fmt: skip
            if done.returncode == 0:
                return python
    return ""


@pytest.fixture(scope="module")
def readable() -> Iterator[tuple[str, Path]]:
    """An interpreter and a compiled copy of the program that every user may run."""
    if os.geteuid() != 0:
        pytest.skip("only root can become other users")
    python = find_python()
    if not python:
        pytest.skip("no Python here can be run by another user")
    import serial

    top = Path(tempfile.mkdtemp(prefix="smsbox-people-"))  # tmp_path is root's alone
    top.chmod(0o755)
    shutil.copy(PROGRAM, top)
    shutil.copy(audit_rig.__file__, top)
    shutil.copytree(Path(serial.__file__).parent, top / "serial")
    subprocess.run([python, "-m", "compileall", "-q", str(top)], check=True)
    yield python, top
    shutil.rmtree(top)


@pytest.fixture
def shared(readable: tuple[str, Path]) -> Iterator[Shared]:
    top = Path(tempfile.mkdtemp(prefix="smsbox-shared-"))
    top.chmod(0o755)
    made = Shared(*readable, top)
    yield made
    made.close()
    shutil.rmtree(top)


ORDERS = [
    pytest.param(order, id="-".join(each.name for each in order)) for order in permutations(PEOPLE)
]


@pytest.mark.parametrize("command", ["schedule", "cancel", "list", "status"])
@pytest.mark.parametrize("order", ORDERS)
def test_nobody_locks_the_others_out_in_whatever_order_they_come(
    shared: Shared, order: tuple[Person, ...], command: str
) -> None:
    for person in order:
        shared.do(person, command, umask=0o077)
        shared.write(*[other for other in PEOPLE if other is not person])
    assert shared.find_strange_files() == []


@pytest.mark.parametrize("umask", [0o077, 0o022])
@pytest.mark.parametrize("order", ORDERS)
def test_everybody_may_be_the_daemon_after_everybody_else(
    shared: Shared, order: tuple[Person, ...], umask: int
) -> None:
    for person in order:
        shared.do(person, "schedule", umask)
        shared.drain(person, umask)
    assert shared.sql("SELECT status FROM scheduled_messages") == [("sent",)] * 3
    assert shared.find_strange_files() == []


@pytest.mark.parametrize("mode", [0o2770, 0o2775, 0o700, 0o755])
@pytest.mark.parametrize("umask", [0o077, 0o027, 0o000])
def test_service_user_writes_after_root_was_the_first(
    shared: Shared, umask: int, mode: int
) -> None:
    shared.make_folder(mode)
    shared.do(BY_ROOT, "schedule", umask)
    shared.write(SERVICE)
    shared.write(BY_ROOT, umask=umask)
    shared.write(SERVICE)
    shared.drain(SERVICE)
    assert shared.sql("SELECT status FROM scheduled_messages") == [("sent",)]


def test_root_changes_beside_the_running_daemon_and_it_goes_on(shared: Shared) -> None:
    shared.do(SERVICE, "schedule", 0o007)
    daemon = shared.begin(SERVICE, "run", umask=0o007)
    wait_until(lambda: shared.sql("SELECT 1 FROM scheduled_messages WHERE status = 'sent'"))
    for person in (BY_ROOT, MEMBER, BY_ROOT):
        shared.do(person, "schedule", 0o077)
    wait_until(
        lambda: shared.sql("SELECT status FROM scheduled_messages") == [("sent",)] * 4
    )
    daemon.send_signal(signal.SIGTERM)
    finish(daemon)
    assert shared.find_strange_files() == []


# --- somebody is killed amid it

AMID = {
    "reading": ("BEGIN", "SELECT * FROM sqlite_master"),
    "writing": ("BEGIN IMMEDIATE", MANY_ROWS),
}


@pytest.mark.parametrize("dies", [MEMBER, BY_ROOT, SERVICE], ids=lambda each: each.name)
@pytest.mark.parametrize("served", [True, False], ids=["beside the daemon", "alone"])
@pytest.mark.parametrize("amid", AMID)
def test_death_amid_a_transaction_leaves_a_database_that_all_can_write(
    shared: Shared, amid: str, served: bool, dies: Person
) -> None:
    """Alone its log and the memory beside it stay behind, in the name of who died."""
    shared.do(MEMBER, "schedule", 0o077)
    daemon = shared.begin(SERVICE, "run", umask=0o007) if served else None
    if served:
        wait_until(lambda: shared.sql("SELECT 1 FROM scheduled_messages WHERE status = 'sent'"))
    shared.begin_by_hand(dies, *AMID[amid]).kill()
    shared.write(SERVICE)
    shared.write(MEMBER, BY_ROOT)
    shared.do(SERVICE, "schedule", 0o007)
    if daemon is None:
        shared.drain(SERVICE)
    wait_until(lambda: shared.sql("SELECT status FROM scheduled_messages") == [("sent",)] * 2)
    assert shared.sql("PRAGMA integrity_check") == [("ok",)]


def test_daemon_waits_for_a_person_amid_a_change_and_sends_once_they_are_killed(
    shared: Shared,
) -> None:
    shared.do(SERVICE, "schedule", 0o007)
    person = shared.begin_by_hand(MEMBER, *AMID["writing"])
    daemon = shared.begin(SERVICE, "run", "--drain", umask=0o007)
    change = shared.begin(SERVICE, "optout", "add", STRANGER)
    with pytest.raises(subprocess.TimeoutExpired):
        change.wait(0.5)
    assert daemon.poll() is None
    person.kill()
    finish(change)
    finish(daemon)
    assert shared.sql("SELECT status FROM scheduled_messages") == [("sent",)]


def die_at_every_step(shared: Shared, person: Person, prepare: Callable[[], object],
                      *words: str) -> list[str]:  # fmt: skip
    """Kill a command at each of its steps; the service user must be able to write after each."""
    steps = []
    for step in range(1, 60):
        prepare()
        reached = shared.die_at(person, step, *words)
        if not reached:
            return steps
        try:
            shared.write(SERVICE)
            shared.write(MEMBER)
        except AssertionError as error:
            raise AssertionError(f"{person.name} died before {reached}") from error
        steps.append(reached)
    raise AssertionError("it never ends")


@pytest.mark.parametrize("person", [MEMBER, BY_ROOT], ids=lambda each: each.name)
def test_death_at_any_step_of_the_first_command_locks_nobody_out(
    shared: Shared, person: Person
) -> None:
    steps = die_at_every_step(
        shared, person, lambda: shared.make_folder(0o2770), "optout", "add", STRANGER
    )
    assert {"SQL BEGIN", "SQL COMMIT"} < set(steps)
