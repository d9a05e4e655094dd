"""Several processes on one database or one modem: nobody locks anybody out, nobody sends twice.

Root, a person of the group and the service user share the database's folder; their commands are
real processes with real user ids. A second daemon gives way to the first. Commands at any instant
spoil nothing. And a service manager's watchdog ends a daemon that hangs, played here by the test.
"""

from __future__ import annotations

import itertools
import json
import os
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
from datetime import datetime, timedelta, timezone
from itertools import pairwise, permutations
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import pytest

from rig import audit_rig, kill_rig
from rig.paths import PROGRAM
from rig.people import ANA, BEN, CHLOE
from rig.process import Daemon, LiveBox
from rig.pty_modem import TEXT, Fault, wait_until

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
[recipient_hours]
enabled = false
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
        self.status = self.folder / "smsbox.db.status.json"
        self._config = top / "config.toml"
        self._config.write_text(SIMULATED)
        self._campaign = top / "campaign.csv"
        self.anywhere = top / "anywhere"  # where everybody may write
        self.anywhere.mkdir()
        self.anywhere.chmod(0o777)
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
        assert process.returncode in (0, 2), said + problems  # 2: no daemon runs
        return ""

    def call(self, person: Person, *words: str, umask: int = 0o022) -> str:
        """Run a command that must succeed."""
        return finish(self.begin(person, *words, umask=umask))

    def leave(self, person: Person, text: str, umask: int = 0o022) -> None:
        """Leave a message to the daemon that is not there: the command says that it waits."""
        finish(self.begin(person, "send", ANA, text, umask=umask), 75)

    def do(self, person: Person, command: str, umask: int) -> None:
        """Run one of the commands; before there is a database some of them have nothing to do."""
        words = {
            "schedule": ["schedule", str(self._write_campaign(person)), "--yes", "--again",
                         "--campaign", str(self._count)],
            "cancel": ["cancel", "--all", "--yes"],
            "list": ["list"],
            "status": ["status"],
        }[command]  # fmt: skip
        allowed = {"schedule": (0,), "cancel": (0, 1, 75), "list": (0,), "status": (2,)}[command]
        finish(self.begin(person, *words, umask=umask), *allowed)

    def _write_campaign(self, person: Person) -> Path:
        """Write a message that was never scheduled before; only that person may read it."""
        self._count += 1
        text = f"phone_number,customer_name,message_content\n{ANA},Ana,Hi {self._count}\n"
        self._campaign.write_text(text)
        os.chown(self._campaign, person.uid, person.gid)
        self._campaign.chmod(0o600)
        return self._campaign

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

    def await_served(self) -> None:
        """Wait until a daemon has its modem."""
        wait_until(self.is_ready)

    def is_ready(self) -> bool:
        """Read what the daemon wrote down of itself."""
        return self.status.exists() and json.loads(self.status.read_text())["modem"] == "ready"

    def statuses(self) -> list[object]:
        return [each[0] for each in self.sql("SELECT status FROM scheduled_messages")]

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
        """Name what the group may not use as it must, and what has left the group."""
        found = []
        for path in self.folder.rglob("*"):
            seen = path.stat()
            needed = 0o770 if path.is_dir() else 0o660
            shared = seen.st_mode & needed == needed or path == self.status
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
    shutil.copy(audit_rig.__file__, top)
    shutil.copytree(Path(serial.__file__).parent, top / "serial")
    lay_down_program(python, top)
    yield python, top
    shutil.rmtree(top)


def lay_down_program(python: str, folder: Path) -> None:
    """Copy and compile the program, as the installer does: then a command takes no time."""
    shutil.copy(PROGRAM, folder)
    subprocess.run([python, "-m", "compileall", "-q", str(folder)], check=True)


@pytest.fixture
def box(live: LiveBox) -> LiveBox:
    (live.folder / "other").mkdir()
    return live


@pytest.fixture
def shared(readable: tuple[str, Path]) -> Iterator[Shared]:
    top = Path(tempfile.mkdtemp(prefix="smsbox-shared-"))
    top.chmod(0o755)
    made = Shared(*readable, top)
    yield made
    made.close()
    shutil.rmtree(top)


ORDERS = list(permutations(PEOPLE))
COMMANDS = ("schedule", "list", "cancel", "status")
LONG = pytest.mark.long
TURNS = [
    pytest.param(
        order, command,
        id="-".join([command, *(each.name for each in order)]),
        marks=[LONG] if (first + second) % 4 else []  # each order once,
    )
    for first, order in enumerate(ORDERS)
    for second, command in enumerate(COMMANDS)
]  # fmt: skip


def name_of(person: Person) -> str:
    return person.name


def longer(*values: object) -> list[Any]:
    """Mark values that belong to the whole of a proof."""
    return [pytest.param(value, marks=LONG) for value in values]


@pytest.mark.parametrize(("order", "command"), TURNS)
def test_nobody_locks_the_others_out_in_whatever_order_they_come(
    shared: Shared, order: tuple[Person, ...], command: str
) -> None:
    for person in order:
        shared.do(person, command, umask=0o077)
        others = [other for other in PEOPLE if other is not person]
        if shared.database.exists():
            shared.write(*others)
        else:
            shared.write(others[0])
            shared.write(others[1])
    assert shared.find_strange_files() == []


def test_all_may_be_the_first_at_the_same_instant(shared: Shared) -> None:
    for _ in range(6):
        shared.make_folder(0o2770)
        shared.write(*PEOPLE, umask=0o077)
        shared.write(*PEOPLE, umask=0o022)
    assert shared.find_strange_files() == []


@pytest.mark.parametrize("umask", [0o077, pytest.param(0o022, marks=LONG)], ids=oct)
@pytest.mark.parametrize("first", [MEMBER, *longer(SERVICE, BY_ROOT)], ids=name_of)
def test_everybody_may_be_the_daemon_after_everybody_else(
    shared: Shared, first: Person, umask: int
) -> None:
    order = [first, *(other for other in PEOPLE if other is not first)]
    for person in order:
        shared.leave(person, f"From {person.name}", umask)
        shared.drain(person, umask)
    assert shared.statuses() == ["sent"] * 3
    assert shared.find_strange_files() == []


@pytest.mark.parametrize("umask", [0o077, *longer(0o022)], ids=oct)
def test_database_that_anybody_has_restored_is_everybodys(shared: Shared, umask: int) -> None:
    for person in PEOPLE:
        shared.make_folder(0o2770)
        shared.write(SERVICE)
        copy = str(shared.anywhere / f"{person.name}.db")
        shared.call(person, "backup", copy, umask=umask)
        shared.call(person, "restore", copy, "--yes", umask=umask)
        shared.write(*[other for other in PEOPLE if other is not person])
        assert shared.find_strange_files() == []


@pytest.mark.parametrize("mode", [0o2770, 0o755, 0o700], ids=oct)
@pytest.mark.parametrize("umask", [0o077, *longer(0o022, 0o000)], ids=oct)
def test_service_user_writes_after_root_was_the_first(
    shared: Shared, umask: int, mode: int
) -> None:
    shared.make_folder(mode)
    shared.do(BY_ROOT, "schedule", umask)
    shared.write(SERVICE)
    shared.write(BY_ROOT, umask=umask)
    shared.write(SERVICE)
    assert {path.stat().st_uid for path in shared.folder.iterdir()} == {SERVICE.uid}


@LONG
def test_daemon_goes_on_while_root_and_a_member_change_things_beside_it(shared: Shared) -> None:
    shared.write(SERVICE)
    daemon = shared.begin(SERVICE, "run", umask=0o007)
    shared.await_served()
    for person in (BY_ROOT, MEMBER, BY_ROOT):
        said = shared.call(person, "send", ANA, f"From {person.name}", umask=0o077)
        assert "is sent" in said
        shared.write(person)
    daemon.send_signal(signal.SIGTERM)
    finish(daemon)
    assert shared.find_strange_files() == []


# --- somebody is killed amid it

AMID = {
    "reading": ("BEGIN", "SELECT * FROM sqlite_master"),
    "writing": ("BEGIN IMMEDIATE", MANY_ROWS),
}


@pytest.mark.parametrize("dies", [MEMBER, *longer(BY_ROOT)], ids=name_of)
@pytest.mark.parametrize("amid", ["writing", *longer("reading")])
def test_death_amid_a_transaction_leaves_a_database_that_all_can_write(
    shared: Shared, amid: str, dies: Person
) -> None:
    """The log and the memory beside the database stay behind, in the name of who died."""
    shared.leave(MEMBER, "Before", umask=0o077)
    shared.begin_by_hand(dies, *AMID[amid]).kill()
    assert shared.database.with_name("smsbox.db-wal").exists()
    shared.write(SERVICE)
    shared.begin_by_hand(dies, *AMID[amid]).kill()
    shared.drain(SERVICE)
    shared.write(MEMBER, BY_ROOT)
    assert shared.statuses() == ["sent"]
    assert shared.sql("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("amid", ["writing", *longer("reading")])
def test_death_amid_a_transaction_does_not_hold_up_the_running_daemon(
    shared: Shared, amid: str
) -> None:
    shared.write(MEMBER)
    shared.begin(SERVICE, "run", umask=0o007)
    shared.await_served()
    shared.begin_by_hand(MEMBER, *AMID[amid]).kill()
    assert "is sent" in shared.call(BY_ROOT, "send", ANA, "After", umask=0o077)
    assert shared.statuses() == ["sent"]
    assert shared.sql("PRAGMA integrity_check") == [("ok",)]


def test_daemon_waits_for_a_person_amid_a_change_and_sends_once_they_are_killed(
    shared: Shared,
) -> None:
    shared.leave(SERVICE, "Hi Ana")
    person = shared.begin_by_hand(MEMBER, *AMID["writing"])
    daemon = shared.begin(SERVICE, "run", "--drain", umask=0o007)
    change = shared.begin(SERVICE, "optout", "add", STRANGER)
    with pytest.raises(subprocess.TimeoutExpired):
        change.wait(0.5)
    assert daemon.poll() is None
    person.kill()
    finish(change)
    finish(daemon)
    assert shared.statuses() == ["sent"]


def die_at_every_step(
    shared: Shared, person: Person, words: list[str],
    prepare: Callable[[], object], check: Callable[[], object],
) -> list[str]:  # fmt: skip
    """Kill a command at each of its steps, and look after each whether others can go on."""
    steps: list[str] = []
    while True:
        prepare()
        reached = shared.die_at(person, len(steps) + 1, *words)
        if not reached:
            return steps
        steps.append(reached)
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"{person.name} died before: {reached}") from error


@pytest.mark.parametrize("person", [MEMBER, *longer(BY_ROOT)], ids=name_of)
def test_death_at_any_step_of_the_first_command_locks_nobody_out(
    shared: Shared, person: Person
) -> None:
    other = SERVICE if person is MEMBER else MEMBER
    words = ["optout", "add", STRANGER]
    steps = die_at_every_step(
        shared, person, words, lambda: shared.make_folder(0o2770), lambda: shared.write(other)
    )
    assert {"SQL BEGIN", "SQL CREATE", "SQL COMMIT"} <= set(steps)


@LONG
@pytest.mark.parametrize("command", ["list", "status", "run --drain", "backup", "restore --yes"])
def test_death_at_any_step_of_a_later_command_leaves_a_box_that_does_all_its_work(
    shared: Shared, command: str
) -> None:
    copy, backups = shared.anywhere / "copy.db", shared.folder / "backups"
    shared.write(SERVICE)
    shared.call(MEMBER, "backup", str(copy))
    copy.chmod(0o644)
    words = {
        "backup": ["backup", str(shared.anywhere / "another.db")],
        "restore --yes": ["restore", str(copy), "--yes"],
    }.get(command, command.split())

    def prepare() -> None:
        for path in (shared.folder / "smsbox.db.lock", shared.anywhere / "another.db"):
            path.unlink(missing_ok=True)
        shutil.rmtree(backups, ignore_errors=True)
        shared.leave(SERVICE, "Hi Ana")

    def work() -> None:
        shared.status.unlink(missing_ok=True)
        shared.drain(SERVICE)
        assert shared.is_ready()
        assert list(backups.glob("*.db"))
        if words[0] == "restore":
            for kept in shared.folder.glob("*.replaced-*"):
                kept.unlink()
            shared.call(SERVICE, "restore", str(copy), "--yes")

    steps = die_at_every_step(shared, MEMBER, words, prepare, work)
    assert "SQL SELECT" in steps
    shared.write(SERVICE, MEMBER)
    assert shared.sql("PRAGMA integrity_check") == [("ok",)]


# --- a second daemon


def test_second_daemon_names_the_first_and_leaves_it_alone(box: LiveBox) -> None:
    other = LiveBox(box.folder / "other", box.modem)  # another database, the same modem
    other.daemons = box.daemons
    box.lay_down()
    other.lay_down()
    waits = other.insert(CHLOE, "Not while the other has the modem")
    first = box.start()
    box.await_idle()
    heard = len(box.modem.heard())
    at_database, at_modem = box.start("--drain"), other.start()
    assert at_database.wait() == 75
    assert at_database.journal() == (
        f"smsbox: another smsbox (pid {first.process.pid}) already serves {box.database}: stop that"
        " one first.\n"
    )
    said = f"modem: {box.modem.path} is in use by another program"
    wait_until(lambda: said in at_modem.journal())
    assert NO_TRACE not in at_modem.journal()
    assert len(box.modem.heard()) == heard

    row_id = box.insert(ANA, "From the first")
    wait_until(lambda: box.row(row_id)[0] == "sent")
    assert box.texts() == [(ANA, "From the first")]
    assert first.stop() == 0
    assert NO_TRACE not in first.journal()
    wait_until(lambda: other.row(waits)[0] == "sent")  # now it may
    assert at_modem.stop() == 0
    assert other.row(waits) == ("sent", "")


def test_member_who_starts_a_second_daemon_is_told_of_the_service(shared: Shared) -> None:
    shared.write(MEMBER)
    first = shared.begin(SERVICE, "run", umask=0o007)
    shared.await_served()
    for second in [shared.begin(person, "run", umask=0o077) for person in PEOPLE]:
        problems = second.communicate(timeout=20)[1]
        assert (second.returncode, problems) == (
            75,
            f"smsbox: another smsbox (pid {first.pid}) already serves {shared.database}:"
            " stop that one first.\n",
        )
    assert "is sent" in shared.call(SERVICE, "send", ANA, "It goes on")


# --- commands at any instant

MODEM_TAKES_S = 0.12
REFUSED = b"\r\n+CMS ERROR: 1\r\n"  # for good: the message fails, and can be tried again


class Said(NamedTuple):
    """What a command answered, and when it had ended."""

    words: tuple[str, ...]
    status: int
    out: str
    problems: str
    ended_at: float


class Crowd:
    """People who run commands in their own processes while the daemon sends."""

    def __init__(self, box: LiveBox, program: Path, rows: int) -> None:
        self.box = box
        self._rows = rows
        for place in range(rows):
            box.insert(number_of(place), write_text(place))
        self.said: list[Said] = []
        self._over = Event()
        self._program = program

    def call(self, *words: str) -> Said:
        command = self.box.command(*words)
        done = subprocess.run(
            [command[0], "-m", "smsbox", *command[2:]], cwd=self._program,
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=150,
        )  # fmt: skip
        said = Said(words, done.returncode, done.stdout, done.stderr, time.time())
        self.said.append(said)
        return said

    def look(self, turn: int) -> None:
        place = turn % self._rows
        row_id = str(place + 1)
        for words in (
            ["list", "--json"], ["status", "--json"], ["inbox", "--json"], ["show", row_id],
            ["why", row_id], ["list", "--next", "3"], ["show", "--json", number_of(place)],
        ):  # fmt: skip
            self.call(*words)

    def change(self, turn: int) -> None:
        self.call("cancel", self._find_row(turn % 3))
        self.call("reschedule", self._find_row(0), "--by", f"+{turn % 2 + 1}s")
        self.call("cancel", self._find_row((turn + 1) % 3))
        self.call("reschedule", self._find_row(5), "--by", "+1s")
        self.call("cancel", self._find_row((turn + 2) % 3))
        self.call("optout", "add", STRANGER)
        self.call("optout", "remove", STRANGER, "--reason", "asked for it")

    def interrupt(self, turn: int) -> None:
        self._over.wait(0.3)
        self.call("pause", *(["--now"] if turn % 2 else []))
        self.call("resume")
        for found in self.box.sql("SELECT id FROM scheduled_messages WHERE status = 'failed'"):
            self.call("retry", str(found[0]))

    def send(self, turn: int) -> None:
        place = self._rows + turn
        self.call("send", number_of(place), write_text(place))

    def _scheduled(self) -> list[str]:
        found = self.box.sql(
            "SELECT id FROM scheduled_messages WHERE status = 'scheduled' AND id <= ?"
            " ORDER BY scheduled_for, id",
            self._rows,
        )
        return [str(each[0]) for each in found]

    def _find_row(self, place: int) -> str:
        """Find the row that comes next, or after so many others: the daemon will soon have it."""
        found = self._scheduled()
        return found[min(place, len(found) - 1)] if found else str(self._rows)

    def work(self) -> None:
        """Let all of them work until the daemon is through, a turn at the least."""

        def take_turns(job: Callable[[int], None]) -> None:
            for turn in itertools.count():
                job(turn)
                if self._over.is_set():
                    return

        jobs = (self.look, self.change, self.interrupt, self.send)
        with ThreadPoolExecutor(len(jobs)) as pool:
            working = [pool.submit(take_turns, job) for job in jobs]
            while self._scheduled() and not any(each.done() for each in working):
                time.sleep(0.1)
            self._over.set()
            for each in working:
                each.result()

    def find_problems(self) -> list[str]:
        """Hold what the commands said, the database and the modem against each other."""
        found = [f"{each}" for each in self.said if not is_sensible(each)]
        journey = Counter(each.text for each in self.box.modem.texts())
        found += [f"{text} was sent {count} times" for text, count in journey.items() if count > 1]
        for row_id, number in self.box.sql("SELECT id, phone_number FROM scheduled_messages"):
            found += self._judge(row_id, number)
        return found

    def _judge(self, row_id: int, number: str) -> Iterator[str]:
        taken = [each for each in self.box.modem.texts() if each.number == number]
        status, words = self.box.row(row_id)
        bubbles = write_bubbles(int(number[-3:]))
        many, all_of_it = len(taken), len(bubbles)
        if [each.text for each in taken] != bubbles[:many]:
            yield f"row {row_id}: {taken}"
        told = f"{many} of {all_of_it} bubbles were sent" if many else ""
        fits = {
            "sent": many == all_of_it,
            "cancelled": many < all_of_it and words == told,
            "failed": many < all_of_it,
        }
        if not fits.get(status):
            yield f"row {row_id} is {status}: {words!r}, {many} bubbles were taken"
        for each in self.said:
            # One that had failed by then is settled, and may be tried again.
            is_cancelled = each.words == ("cancel", str(row_id)) and "Cancelled" in each.out
            if is_cancelled and each.status == 0:
                if status != "cancelled":
                    yield f"row {row_id} was cancelled and is {status}"
                if late := [text for text in taken if text.at > each.ended_at]:
                    yield f"row {row_id} was cancelled at {each.ended_at}: {late}"


def number_of(place: int) -> str:
    return f"+12135554{place:03}"


def write_bubbles(place: int) -> list[str]:
    return [f"{place:03} one", f"{place:03} two"][: 1 + (place % 3 == 1)]


def write_text(place: int) -> str:
    return " [BUBBLE] ".join(write_bubbles(place))


def is_sensible(said: Said) -> bool:
    """Tell whether a command did its work, or said in words why not."""
    not_done = {"cancel": (0, 1), "reschedule": (0, 1), "retry": (0, 1), "send": (0, 1)}
    attention = {"status": (0, 1), "optout": (0, 2)}  # removed twice: a usage error
    allowed = {**not_done, **attention}.get(said.words[0], (0,))
    refusal = said.status == 0 or bool(said.problems or said.words[0] == "status")
    if said.status == 0 and "--json" in said.words:
        json.loads(said.out)
    return said.status in allowed and refusal and NO_TRACE not in said.problems


@pytest.mark.parametrize("rows", [20, *longer(150)])
def test_commands_at_any_instant_leave_nothing_sent_twice_and_nothing_lost(
    box: LiveBox, rows: int
) -> None:
    program = box.folder / "program"
    program.mkdir()
    lay_down_program(sys.executable, program)
    box.settle(pacing={"interval_minutes": [0, 0], "bubble_gap_seconds": [0, 0]})
    box.modem.misbehave(
        Fault(TEXT, skip=3, obeys=False, says=REFUSED),
        Fault(TEXT, skip=6, obeys=False, says=REFUSED),
        Fault(TEXT, times=0, delay_s=MODEM_TAKES_S),
    )
    box.lay_down()
    crowd = Crowd(box, program, rows)
    daemon = box.start()
    box.modem.receive("Thanks, see you", number_of(1))
    try:
        wait_until(lambda: box.row(1)[0] == "sent")
    except AssertionError as error:
        raise AssertionError(daemon.journal()) from error
    crowd.work()
    crowd.call("resume")
    wait_until(lambda: (0,) in box.sql(
        "SELECT count(*) FROM scheduled_messages WHERE status = 'scheduled'"), 30)  # fmt: skip
    assert daemon.stop() == 0
    assert NO_TRACE not in daemon.journal()
    assert crowd.find_problems() == []
    assert box.sql("PRAGMA integrity_check") == [("ok",)]
    assert box.sql("PRAGMA foreign_key_check") == []
    done = Counter((each.words[0], each.status) for each in crowd.said)
    for command in ("cancel", "reschedule", "retry", "send"):
        assert done[command, 0], done  # none of them was only refused


# --- the watchdog

WATCHDOG_S = 0.6


class Supervisor:
    """Plays the service manager: hears the daemon, and ends one that falls silent."""

    def __init__(self, box: LiveBox) -> None:
        self._box = box
        self._path = box.folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._socket.settimeout(WATCHDOG_S)
        self.heard: list[tuple[float, str]] = []

    def start(self, *launcher: str, drain: bool = False) -> Daemon:
        """Start the daemon, or a launcher of it, with what the service manager tells it."""
        words = self._box.command("run", *(["--drain"] if drain else []))
        words[1:2] = launcher or words[1:2]
        # The shell becomes the daemon: so the pid is known before it starts.
        script = 'WATCHDOG_PID=$$ exec "$@"'
        output = self._box.folder / f"daemon{len(self._box.daemons)}.txt"
        told = {"NOTIFY_SOCKET": str(self._path), "WATCHDOG_USEC": f"{WATCHDOG_S * 1e6:.0f}"}
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["sh", "-c", script, "sh", *words], stdout=file, stderr=file,
                env={**os.environ, **told},
            )  # fmt: skip
        daemon = Daemon(process, output)
        self._box.daemons.append(daemon)
        return daemon

    def listen(self) -> str:
        """Give the next message; "" when none comes in the watchdog's time."""
        try:
            message = self._socket.recv(4096).decode()
        except TimeoutError:
            return ""
        self.heard.append((time.monotonic(), message))
        return message

    def await_ready(self) -> None:
        end = time.monotonic() + 10
        while "READY=1" not in self.listen():
            assert time.monotonic() < end

    def listen_until(self, happens: Callable[[], object]) -> list[float]:
        """Listen until something happens; give the pauses between signs of life meanwhile."""
        began = time.monotonic()
        while not happens():
            self.listen()
            assert time.monotonic() < began + 20
        pets = [at for at, message in self.heard if at >= began and "WATCHDOG=1" in message]
        return [after - before for before, after in pairwise([began, *pets])]

    def listen_to_the_end(self) -> None:
        """Listen until no sign of life has come for the watchdog's time."""
        last = time.monotonic()
        while time.monotonic() - last < WATCHDOG_S:
            if "WATCHDOG=1" in self.listen():
                last = time.monotonic()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def supervisor(box: LiveBox) -> Iterator[Supervisor]:
    made = Supervisor(box)
    yield made
    made.close()


def test_watchdog_is_petted_in_idle_hours_and_while_the_modem_takes_long(
    box: LiveBox, supervisor: Supervisor
) -> None:
    box.settle(service={"poll_seconds": 30})
    box.modem.misbehave(Fault(TEXT, delay_s=1.3))
    box.lay_down()
    row_id = box.insert(ANA, "Slowly", datetime.now(timezone.utc) + timedelta(seconds=5))
    daemon = supervisor.start()
    supervisor.await_ready()
    box.await_idle()
    idle = supervisor.listen_until(box.modem.accepted)
    waiting = supervisor.listen_until(lambda: box.row(row_id)[0] == "sent")
    assert daemon.stop() == 0
    assert len(idle) >= 3
    assert len(waiting) >= 5
    assert max(idle + waiting) < WATCHDOG_S


@pytest.mark.parametrize("profile", ["EC25", pytest.param("plain", marks=LONG)])
@pytest.mark.parametrize("step", ["before sent", pytest.param("after text", marks=LONG)])
def test_daemon_that_hangs_with_a_text_at_the_modem_is_ended_and_sends_it_once(
    box: LiveBox, supervisor: Supervisor, step: str, profile: str
) -> None:
    """It was taken, and nobody knows: it is not tried again."""
    box.modem.begin_anew(profile=profile)
    box.lay_down()
    box.insert(CHLOE, "The first")
    hung_with, after = box.insert(ANA, "Once"), box.insert(BEN, "The next")
    daemon = supervisor.start(kill_rig.__file__, f"hang {step}", "2")
    supervisor.await_ready()
    supervisor.listen_until(lambda: len(box.modem.accepted()) == 2)
    supervisor.listen_to_the_end()
    assert daemon.process.poll() is None
    daemon.process.send_signal(signal.SIGABRT)
    assert daemon.wait() == -signal.SIGABRT
    assert box.bubbles(hung_with) == ["sending"]

    again = supervisor.start(drain=True)
    supervisor.await_ready()
    assert again.wait() == 0, again.journal()
    assert box.texts() == [(CHLOE, "The first"), (ANA, "Once"), (BEN, "The next")]
    status, words = box.row(hung_with)
    assert status == "failed"
    assert "may have been sent" in words
    assert box.bubbles(hung_with) == ["unconfirmed"]
    assert box.row(after) == ("sent", "")
