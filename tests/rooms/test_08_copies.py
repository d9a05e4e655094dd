"""Copies: backup, move, restore and the daily copies; no text of an old queue goes out twice.

Commands and daemon are real processes, looked at from the outside; what the daemon does over days
is played at its edges.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

import smsbox
from rig.desk import Terminal
from rig.neighbors import NOBODY, find_python_for_all
from rig.people import ANA, BEN, CAMPAIGN, CHLOE, LONG
from rig.played import PlayedBox, at, close
from rig.process import LiveBox, write_csv
from rig.pty_modem import PtyModem, wait_until

UTC = timezone.utc
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
MOVED = "moved"
RESTORED = "restored from a copy of "
DISK = smsbox.Fault.DISK.value
PAGE = 1024
TABLES = ("scheduled_messages", "messages", "segments", "inbound", "opt_outs", "campaigns")


def from_now(span: timedelta) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + span


def to_text(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"


def look(path: Path, statement: str, *given: object) -> list[Any]:
    """Ask any database file, as the sqlite3 shell does."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            return connection.execute(statement, given).fetchall()
    finally:
        connection.close()


def is_sound(path: Path) -> bool:
    try:
        return look(path, "PRAGMA quick_check") == [("ok",)]
    except sqlite3.DatabaseError:
        return False


def find_state(path: Path, key: str) -> str:
    """Give a word of the table state; "" if it is not there."""
    found = look(path, "SELECT value FROM state WHERE key = ?", key)
    return str(found[0][0]) if found else ""


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files with their bytes, but for what comes and goes with an open database."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm", ".lock"))
    }


def read_tables(path: Path) -> dict[str, list[Any]]:
    return {name: look(path, f"SELECT * FROM {name} ORDER BY 1") for name in TABLES}


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def run_forked(
    words: list[str], first: Callable[[], object] = lambda: None
) -> subprocess.CompletedProcess[str]:
    """Run smsbox in a process of its own that starts at once, being forked from this one."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with warnings.catch_warnings():  # threads that other tests have left are no harm
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process == 0:
            be_smsbox(words, (out.fileno(), err.fileno()), first)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, status, out.read(), err.read())


def be_smsbox(words: list[str], ends: tuple[int, int], first: Callable[[], object]) -> NoReturn:
    status = 99
    try:
        signal.alarm(30)
        for end, number in zip((os.open(os.devnull, os.O_RDONLY), *ends), range(3), strict=True):
            os.dup2(end, number)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 (for its life)
            for number, mode in enumerate(("r", "w", "w"))
        )
        first()
        status = smsbox.main(words)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


STEPS = ("rename", "replace", "unlink", "remove", "link", "fsync", "chmod", "fchmod")


def die_before(step: int) -> None:
    """Let this process die before its n-th step on files: so far a crash may have come."""
    left = step

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def go(*given: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **named)

        return go

    for name in STEPS:
        setattr(os, name, wrap(getattr(os, name)))


class Place(LiveBox):
    """A box with a database, and the person who copies it."""

    def __init__(self, folder: Path, fresh: bool = False) -> None:
        folder.mkdir()
        super().__init__(folder, PtyModem(folder))
        self.away = folder.with_name(f"{folder.name}-away")  # where copies are kept
        self.away.mkdir()
        if not fresh:
            smsbox.Database.create_or_open(str(self.database)).close()

    def spawn(self, *words: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """Start a command anew, as a person does."""
        how = {"capture_output": True, "stdin": subprocess.DEVNULL, **how}
        return subprocess.run(self.command(*words), text=True, timeout=30, **how)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail, but in words."""
        done = run_forked(self.command(*words)[2:])
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def call(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = self.run(*words)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def refusal(self, *words: str) -> str:
        """Run a command that refuses in one sentence."""
        done = self.run(*words)
        assert done.returncode not in (0, 130), done
        assert not done.stdout, done.stdout
        (sentence,) = done.stderr.splitlines()
        assert sentence.startswith("smsbox: ")
        assert sentence.endswith(".")
        return sentence

    def put(self, number: str, due: timedelta, text: str = "Hi", **more: object) -> int:
        """Insert a row that is older than any copy of it."""
        created = to_text(from_now(-2 * DAY))
        return self.insert(number, text, from_now(due), created_at=created, **more)

    def fill(self, count: int, text: str = "Hi") -> None:
        """Insert rows that are due in a month."""
        connection = sqlite3.connect(self.database)
        with connection:
            connection.executemany(
                "INSERT INTO scheduled_messages (phone_number, customer_name, message_content,"
                " scheduled_for, created_at) VALUES (?, 'Somebody', ?, ?, ?)",
                [
                    (
                        f"+1310{2340000 + n}",
                        text,
                        *map(to_text, map(from_now, (30 * DAY, -2 * DAY))),
                    )
                    for n in range(count)
                ],
            )
        connection.close()

    def copy(self, age: timedelta = timedelta(), name: str = "copy.db") -> Path:
        """Make a copy; an older one has its time put back by hand."""
        path = self.away / name
        self.call("backup", str(path))
        if age:
            put_back(path, from_now(-age))
        return path

    def begin(self, row_id: int, segment: str, status: str = "scheduled") -> None:
        """Write down that the first of two bubbles of a row went out."""
        for bubble, state in ((1, "sent"), (2, "queued")):
            message = self.sql(
                "INSERT INTO messages (scheduled_message_id, phone_number, bubble, body, status,"
                " created_at) VALUES (?, ?, ?, 'Hi', ?, datetime('now')) RETURNING id",
                row_id, ANA, bubble, state,
            )[0][0]  # fmt: skip
            if bubble == 1:
                self.sql(
                    "INSERT INTO segments (message_id, sequence, total, status, submitted_at)"
                    " VALUES (?, 1, 1, ?, datetime('now'))",
                    message, segment,
                )  # fmt: skip
        self.sql("UPDATE scheduled_messages SET status = ? WHERE id = ?", status, row_id)

    def held(self) -> list[int]:
        """Give the rows that a restore has held."""
        found = self.sql(
            "SELECT id FROM scheduled_messages WHERE status = 'scheduled'"
            " AND held_because LIKE ? ORDER BY id",
            RESTORED + "%",
        )
        return [each[0] for each in found]

    def statuses(self) -> list[str]:
        found = self.sql("SELECT status FROM scheduled_messages ORDER BY id")
        return [each[0] for each in found]

    def opt_outs(self) -> list[str]:
        return [each[0] for each in self.sql("SELECT phone_number FROM opt_outs ORDER BY 1")]

    def replaced(self) -> list[Path]:
        """Give the databases that were kept aside."""
        found = sorted(self.folder.glob(f"{self.database.name}.replaced-*"))
        return [each for each in found if not each.name.endswith(("-wal", "-shm"))]

    def status(self) -> Any:
        return json.loads(self.run("status", "--json").stdout)


def put_back(copy: Path, time: datetime) -> None:
    """Let a copy say that it was made at another time."""
    look(copy, "UPDATE state SET value = ? WHERE key = 'copied_at'", to_text(time))


def damage_middle(path: Path) -> None:
    """Overwrite pages amid the audit; whoever does not look there does not notice."""
    data, rng = bytearray(path.read_bytes()), random.Random(5)
    pages = [
        begin
        for begin in range(0, len(data), PAGE)
        if data[begin : begin + PAGE].count(b"scheduled for 2") > 5
    ]
    assert len(pages) > 8
    for begin in pages[len(pages) // 3 : -(len(pages) // 3)]:
        data[begin : begin + PAGE] = rng.randbytes(PAGE)
    path.write_bytes(data)
    assert not is_sound(path)


def damage_header(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(random.Random(5).randbytes(100) + data[100:])


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // PAGE * PAGE)


def empty(path: Path) -> None:
    os.truncate(path, 0)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "garbage in the middle": damage_middle,
    "garbage in the header": damage_header,
    "cut in half": cut_in_half,
    "zero bytes": empty,
    "missing": Path.unlink,
}


def leave_log(path: Path, statement: str) -> None:
    """Change a database as a process that dies before its log is moved into the file."""
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "c.execute('PRAGMA wal_autocheckpoint = 0'); c.execute(sys.argv[2]); c.commit();"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path), statement], check=True)
    assert path.with_name(path.name + "-wal").stat().st_size > 0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "box")
    yield made
    made.close()


@pytest.fixture
def live(place: Place) -> Iterator[Place]:
    """A box with a modem."""
    with place.modem:
        yield place
        place.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Place]:
    """A fresh box with a modem, on which nothing has happened."""
    made = Place(tmp_path / "other", fresh=True)
    with made.modem:
        yield made
        made.close()


@pytest.fixture
def served(place: Place) -> Iterator[Place]:
    """A box with the lock that a daemon holds."""
    with place.database.with_name("box.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield place


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount devices of their own."""
    mounted: list[Path] = []

    def mount_one(options: str) -> Path:
        folder = tmp_path / f"device{len(mounted)}"
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
            pytest.skip("devices can only be mounted by root")
        mounted.append(folder)
        return folder

    yield mount_one
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def played(tmp_path: Path, now: datetime) -> Iterator[PlayedBox]:
    folder = tmp_path / "played"
    folder.mkdir()
    made = PlayedBox(folder, now)
    yield made
    close(made)


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


def own(played: PlayedBox) -> Path:
    return Path(played.path).parent / "backups"


# --- backup


def test_backup_is_one_whole_file_for_its_owner_alone(place: Place) -> None:
    place.fill(37)
    path, began = place.away / "copy.db", from_now(timedelta())
    done = place.spawn("backup", str(path), umask=0)
    assert (done.returncode, done.stderr) == (0, "")
    assert [each.name for each in place.away.iterdir()] == ["copy.db"]
    assert mode_of(path) == 0o600
    assert str(path) in done.stdout
    assert re.search(r"\b37\b", done.stdout)
    assert re.search(r"\d ?(bytes|[kKM]i?B)\b", done.stdout), done.stdout
    assert is_sound(path)
    assert look(path, "PRAGMA journal_mode") == [("delete",)]  # a stick may be read-only
    assert read_tables(path) == read_tables(place.database)
    assert to_text(began) <= find_state(path, "copied_at") <= to_text(datetime.now(UTC))
    assert find_state(place.database, "copied_at") == ""


def test_backup_into_an_empty_file_is_for_its_owner_alone_too(place: Place) -> None:
    """An empty file may be what a failure has left; whoever made it may have let others read it."""
    path = place.away / "copy.db"
    path.touch()
    path.chmod(0o666)
    place.call("backup", str(path))
    assert mode_of(path) == 0o600
    assert is_whole_copy(path)


def test_backup_into_an_empty_file_of_somebody_else_is_refused(place: Place) -> None:
    """It would be theirs to read, whatever its mode."""
    if os.geteuid() != 0:
        pytest.skip("only root may write into a file of somebody else")
    path = place.away / "copy.db"
    path.touch(0o600)
    os.chown(path, NOBODY, NOBODY)
    place.refusal("backup", str(path))
    assert path.read_bytes() == b""


def test_backup_while_the_daemon_sends_is_whole_and_holds_nothing_up(live: Place) -> None:
    live.fill(3000, "x" * 1500)
    rows = [live.insert(ANA, f"{n} one [BUBBLE] {n} two") for n in range(10)]
    daemon = live.start()
    wait_until(live.texts)
    copies: list[Path] = []
    while len(live.texts()) < 20:
        copies.append(live.copy(name=f"copy{len(copies)}.db"))
    wait_until(lambda: all(live.row(row)[0] == "sent" for row in rows))
    assert [text for _, text in live.texts()] == [
        f"{n} {w}" for n in range(10) for w in ("one", "two")
    ]
    daily = wait_until(lambda: list((live.folder / "backups").glob("smsbox-????-??-??.db")))
    assert daemon.stop() == 0
    assert f"{live.database}: " not in daemon.journal()  # as it says what SQLite refuses
    assert any(0 < count_sent(copy) < 10 for copy in copies)
    for copy in [*copies, *daily]:
        assert is_sound(copy)
        assert look(copy, "PRAGMA foreign_key_check") == []
        half = "SELECT count(*) FROM scheduled_messages s JOIN messages m"
        half += " ON m.scheduled_message_id = s.id WHERE s.status = 'sent' AND m.status <> 'sent'"
        assert look(copy, half) == [(0,)]


def count_sent(copy: Path) -> int:
    return int(look(copy, "SELECT count(*) FROM scheduled_messages WHERE status = 'sent'")[0][0])


def an_old_file(place: Place) -> Path:
    path = place.away / "old.db"
    path.write_text("the only copy of last year")
    return path


def a_link(place: Place) -> Path:
    path = place.away / "link.db"
    path.symlink_to(place.database)
    return path


def a_link_to_nothing(place: Place) -> Path:
    path = place.away / "link.db"
    path.symlink_to(place.away / "nothing.db")
    return path


TARGETS: dict[str, Callable[[Place], Path]] = {
    "a file that is there": an_old_file,
    "the database": lambda place: place.database,
    "the database by a link": a_link,
    "a link to nothing": a_link_to_nothing,
    "a folder": lambda place: place.away,
    "a folder that is missing": lambda place: place.away / "nowhere" / "copy.db",
    "below a file": lambda place: place.config / "copy.db",
    "where nobody may write": lambda place: Path("/proc/copy.db"),
}


@pytest.mark.parametrize("where", TARGETS)
def test_backup_is_refused_where_it_can_not_be_or_would_replace_something(
    place: Place, where: str
) -> None:
    place.put(ANA, HOUR)
    target = TARGETS[where](place)
    before = snapshot(place.folder.parent)
    said = place.refusal("backup", str(target))
    assert str(target) in said
    assert snapshot(place.folder.parent) == before
    assert find_state(place.database, "paused_because") == ""
    assert sorted(place.away.iterdir()) == sorted({target} & set(place.away.iterdir()))


def test_backup_onto_a_full_disk_leaves_no_half_file(
    place: Place, mount: Callable[[str], Path]
) -> None:
    place.fill(500, "x" * 500)
    folder = mount("size=64k")
    place.refusal("backup", str(folder / "copy.db"))
    assert list(folder.iterdir()) == []
    assert find_state(place.database, "paused_because") == ""


def test_backup_to_stdout_is_the_copy_and_nothing_else(place: Place) -> None:
    place.fill(300)
    words = place.command("backup", "-")
    done = subprocess.run(words, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout[:16] == b"SQLite format 3\0"
    path = place.away / "copy.db"
    path.write_bytes(done.stdout)
    assert is_sound(path)
    assert path.stat().st_size == look(path, "PRAGMA page_count")[0][0] * PAGE
    assert read_tables(path) == read_tables(place.database)
    assert find_state(path, "copied_at")
    assert sorted(each.name for each in place.folder.iterdir()) == ["box.db", "config.toml"]


def test_backup_to_a_terminal_is_refused(place: Place) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        place.command("backup", "-"), stdout=theirs, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, text=True, timeout=30,
    )  # fmt: skip
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)  # nothing came
    os.close(ours)
    os.close(theirs)
    assert done.returncode not in (0, 130)
    (sentence,) = done.stderr.splitlines()
    assert "terminal" in sentence


def test_backup_to_stdout_that_is_full_fails_in_words(place: Place) -> None:
    place.fill(300)
    with Path("/dev/full").open("wb") as full:
        done = place.spawn("backup", "-", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode not in (0, 130)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("target", ["copy.db", "-"])
def test_backup_without_a_database_is_refused_and_makes_none(other: Place, target: str) -> None:
    said = other.refusal("backup", target if target == "-" else str(other.away / target))
    assert "no database" in said
    assert not other.database.exists()
    assert list(other.away.iterdir()) == []


def test_backup_of_a_damaged_database_is_refused(place: Place) -> None:
    place.fill(400)
    damage_middle(place.database)
    assert "damaged" in place.refusal("backup", str(place.away / "copy.db"))
    assert list(place.away.iterdir()) == []


def kill_at_each_step(place: Place, *words: str) -> Iterator[int]:
    """Run a command that dies before its first step on files, its second, up to its end."""
    for step in range(1, 100):
        done = run_forked(place.command(*words)[2:], partial(die_before, step))
        if done.returncode == 0:
            return
        assert done.returncode == -signal.SIGKILL, done.stderr
        yield step


def is_whole_copy(copy: Path) -> bool:
    has_content = copy.exists() and copy.stat().st_size > 0
    return has_content and is_sound(copy) and bool(find_state(copy, "copied_at"))


def test_backup_that_is_killed_leaves_no_file_that_restore_would_take_for_whole(
    place: Place, other: Place
) -> None:
    place.fill(300)
    rows, path = read_tables(place.database), place.away / "copy.db"
    steps, half = 0, {b"never"}
    for _ in kill_at_each_step(place, "backup", str(path)):
        steps += 1
        if path.exists() and not (is_whole_copy(path) and read_tables(path) == rows):
            if path.read_bytes() not in half:
                assert "copy.db" in other.refusal("restore", str(path), "--yes")
            half.add(path.read_bytes())
        path.unlink(missing_ok=True)
        assert read_tables(place.database) == rows
    assert steps > 2
    assert is_whole_copy(path)
    assert read_tables(path) == rows
    assert sorted(snapshot(place.folder)) == ["box.db", "config.toml"]  # and no litter


# --- as root, over a database of the service's user


class Owned(Place):
    """A box with an interpreter of its own."""

    def __init__(self, folder: Path, python: str) -> None:
        super().__init__(folder)
        self._python = python

    def command(self, *words: str) -> list[str]:
        return [self._python, *super().command(*words)[1:]]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.spawn(*words)


@pytest.fixture
def owned() -> Iterator[Place]:
    """A box whose folder and database are those of a service user."""
    python = find_python_for_all()
    folder = Path(tempfile.mkdtemp())  # pytest's own folder is shut to others
    folder.chmod(0o755)
    made = Owned(folder / "box", python)
    made.put(ANA, -HOUR / 2)
    made.away.chmod(0o700)
    for path in (made.folder, made.database):
        os.chown(path, NOBODY, NOBODY)
    yield made
    shutil.rmtree(folder)


def test_backup_as_root_goes_into_root_s_own_folder(owned: Place) -> None:
    copy = owned.copy()
    assert (copy.stat().st_uid, mode_of(copy)) == (0, 0o600)
    assert is_sound(copy)
    assert {each.stat().st_uid for each in owned.folder.glob("box.db*")} == {NOBODY}


def test_backup_as_root_that_fails_leaves_no_half_file(
    owned: Place, mount: Callable[[str], Path]
) -> None:
    """By then root has become the owner of the database, who has no right in that folder."""
    owned.fill(500, "x" * 500)
    folder = mount("size=64k,mode=700")
    owned.refusal("backup", str(folder / "copy.db"))
    assert [each.stat().st_size for each in folder.iterdir()] == [0]
    damage_middle(owned.database)
    for _ in range(2):  # an empty file is in nobody's way
        said = owned.refusal("backup", str(owned.away / "copy.db"))
        assert "damaged" in said
    assert [each.stat().st_size for each in owned.away.iterdir()] == [0]


def test_restore_as_root_leaves_files_of_the_folder_s_owner(owned: Place) -> None:
    copy = owned.copy(HOUR)
    owned.call("restore", str(copy), "--yes")
    assert len(owned.held()) == 1
    found = list(owned.folder.glob("box.db*"))
    assert len(found) >= 2
    assert {(each.stat().st_uid, each.stat().st_gid) for each in found} == {(NOBODY, NOBODY)}
    assert mode_of(owned.database) == 0o660


# --- a move to another box


# --- restore: what is refused


def test_restore_is_refused_while_a_daemon_serves(served: Place) -> None:
    served.put(ANA, HOUR)
    copy = served.copy()
    before = snapshot(served.folder)
    said = served.refusal("restore", str(copy), "--yes")
    assert "sudo systemctl stop smsbox" in said
    assert snapshot(served.folder) == before


def a_campaign(place: Place) -> Path:
    write_csv(place.away / "copy.db", CAMPAIGN)
    return place.away / "copy.db"


def another_program_s(place: Place) -> Path:
    look(place.away / "copy.db", "CREATE TABLE bookmarks (url TEXT)")
    return place.away / "copy.db"


def a_damaged_one(damage: str) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        copy = place.copy()
        DAMAGES[damage](copy)
        return copy

    return make


def a_newer_one(place: Place) -> Path:
    copy = place.copy()
    look(copy, f"PRAGMA user_version = {smsbox.SCHEMA_VERSION + 1}")
    return copy


def one_from_the_future(place: Place) -> Path:
    copy = place.copy()
    put_back(copy, from_now(HOUR))
    return copy


def one_by_hand_from_the_future(place: Place) -> Path:
    place.insert(BEN, "Hi", status="sent", sent_at=to_text(from_now(DAY)))
    shutil.copyfile(place.database, place.away / "copy.db")
    return place.away / "copy.db"


UNFIT: dict[str, tuple[Callable[[Place], Path], str]] = {
    "a text file": (a_campaign, "no smsbox database"),
    "another program's database": (another_program_s, "no smsbox database"),
    "a folder": (lambda place: place.away, "away"),
    **{damage: (a_damaged_one(damage), "copy.db") for damage in DAMAGES},
    "a newer smsbox's": (a_newer_one, "newer"),
    "one from the future": (one_from_the_future, "clock"),
    "one by hand from the future": (one_by_hand_from_the_future, "clock"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_restore_refuses_what_is_no_fit_copy_and_touches_nothing(place: Place, what: str) -> None:
    place.fill(400)
    make, word = UNFIT[what]
    path = make(place)
    before = snapshot(place.folder.parent)
    said = place.refusal("restore", str(path), "--yes")
    assert word in said
    assert snapshot(place.folder.parent) == before
    assert place.replaced() == []


def test_restore_refuses_a_copy_by_hand_whose_last_changes_are_in_a_log(place: Place) -> None:
    place.put(ANA, DAY)
    copy = place.away / "copy.db"
    shutil.copyfile(place.database, copy)
    leave_log(copy, "UPDATE scheduled_messages SET status = 'sent'")
    assert "copy.db-wal" in place.refusal("restore", str(copy), "--yes")
    assert place.replaced() == []


def test_copy_with_times_that_are_none_is_met_in_words(place: Place) -> None:
    """By hand anything may be written into a row's created_at, and so into the audit."""
    place.insert(ANA, "Hi", from_now(DAY), created_at="yesterday")
    shutil.copyfile(place.database, place.away / "by hand.db")
    done = place.run("restore", str(place.away / "by hand.db"), "--yes")
    assert done.returncode == 0 or len(done.stderr.splitlines()) == 1


def test_restore_onto_a_full_disk_leaves_the_box_as_it_was(
    place: Place, mount: Callable[[str], Path]
) -> None:
    place.fill(500, "x" * 500)
    copy = place.copy()
    full = Place(mount("size=200k") / "box")
    full.put(ANA, DAY)
    before = snapshot(full.folder)
    full.refusal("restore", str(copy), "--yes")
    assert snapshot(full.folder) == before
    assert full.statuses() == ["scheduled"]


# --- restore: what is asked


def lay_queue(place: Place) -> None:
    """Lay down 23 rows: of a copy of an hour ago 7 were due since."""
    for n in range(7):
        place.put(ANA, -HOUR / 2, f"due {n}")
    for n in range(16):
        place.put(BEN, DAY, f"later {n}")


def test_restore_without_a_terminal_needs_yes(place: Place) -> None:
    lay_queue(place)
    copy = place.copy(HOUR)
    before = snapshot(place.folder)
    done = place.run("restore", str(copy))
    assert done.returncode not in (0, 130)
    assert "--yes" in done.stderr
    assert snapshot(place.folder) == before


@pytest.mark.parametrize(("typed", "status"), [("yes", 1), ("", 1), ("YES", 0)])
def test_restore_shows_what_it_will_do_and_asks_for_yes(
    place: Place, typed: str, status: int
) -> None:
    lay_queue(place)
    copy = place.copy(HOUR)
    copied_at = smsbox.from_database_time(find_state(copy, "copied_at"))
    before = snapshot(place.folder)
    database = place.database.read_bytes()
    terminal = Terminal(
        place.command("restore", str(copy)), place.folder, dict(os.environ), piped=None
    )
    shown = terminal.wait_for("Type YES to confirm: ")
    assert re.search(r"\b23\b", shown), shown
    assert re.search(r"\b7\b", shown), shown
    assert any(each in shown for each in times_of(copied_at)), shown
    assert place.database.read_bytes() == database
    assert place.replaced() == []
    terminal.type(f"{typed}\n")
    assert terminal.end() == status
    terminal.close()
    assert len(place.held()) == (7 if typed == "YES" else 0)
    if status:
        assert snapshot(place.folder) == before


def times_of(time: datetime) -> list[str]:
    """The ways in which smsbox writes a time."""
    local = time.astimezone(smsbox.parse_config({}).business_hours.timezone)
    return [smsbox.show_time(local), f"{local:%Y-%m-%d %H:%M}", f"{time:%Y-%m-%d %H:%M}"]


def test_daemon_and_restore_exclude_each_other_while_yes_is_awaited(live: Place) -> None:
    lay_queue(live)
    copy = live.copy(HOUR)
    terminal = Terminal(
        live.command("restore", str(copy)), live.folder, dict(os.environ), piped=None
    )
    terminal.wait_for("Type YES to confirm: ")
    daemon = live.start()
    status = live.database.with_name("box.db.status.json")
    wait_until(lambda: daemon.process.poll() is not None or status.exists())
    is_shut_out = daemon.process.poll() is not None
    terminal.type("YES\n")
    assert (terminal.end() == 0) is is_shut_out
    terminal.close()
    assert bool(live.held()) is is_shut_out
    assert bool(live.replaced()) is is_shut_out


# --- restore: what is held


def test_row_that_may_have_been_sent_since_the_copy_waits_for_a_person(live: Place) -> None:
    overdue = live.put(ANA, -HOUR - HOUR / 6, "overdue even then")
    since = live.put(BEN, -HOUR / 2, "due since")
    just = live.put(CHLOE, -2 * SECOND, "due just now")
    live.put(ANA, -HOUR / 2, "held before", held_because="asked")
    live.put(ANA, -2 * HOUR, "sent before", status="sent")
    copy = live.copy(HOUR)
    soon = live.put(ANA, 3 * SECOND)
    live.call("backup", str(live.away / "second.db"))
    put_back(live.away / "second.db", from_now(-HOUR))
    live.call("restore", str(live.away / "second.db"), "--yes")
    assert copy.exists()
    assert live.held() == [overdue, since, just]
    live.start()
    wait_until(lambda: live.row(soon)[0] == "sent")
    live.stays([(ANA, "Hi")])
    live.call("release", str(since), "--yes")
    live.call("cancel", str(just), "--yes")
    wait_until(lambda: live.row(since)[0] == "sent")
    assert live.texts() == [(ANA, "Hi"), (BEN, "due since")]
    assert live.held() == [overdue]
    assert live.row(just)[0] == "cancelled"


def test_held_row_says_when_its_copy_was_made(place: Place) -> None:
    row = place.put(ANA, -HOUR / 2)
    copy = place.copy(HOUR)
    copied_at = smsbox.from_database_time(find_state(copy, "copied_at"))
    place.call("restore", str(copy), "--yes")
    because = place.sql("SELECT held_because FROM scheduled_messages WHERE id = ?", row)[0][0]
    assert because.startswith(RESTORED)
    assert any(each in because for each in times_of(copied_at))
    assert because in place.call("why", str(row)).stdout
    assert "held" in [event for (event,) in place.sql("SELECT event FROM events")]


def test_rows_that_went_on_in_the_replaced_database_are_held_whenever_they_are_due(
    place: Place,
) -> None:
    rows = [place.put(ANA, DAY, "one [BUBBLE] two") for _ in range(7)]
    copy = place.copy()
    for row, status in zip(rows, ("sent", "failed", "cancelled"), strict=False):
        place.sql("UPDATE scheduled_messages SET status = ? WHERE id = ?", status, row)
    for row, segment in zip(rows[3:], ("sent", "sending", "unconfirmed"), strict=False):
        place.begin(row, segment)
    place.call("restore", str(copy), "--yes")
    assert place.held() == rows[:6]
    assert place.statuses() == ["scheduled"] * 7


def test_copy_restored_by_a_doubtful_clock_holds_what_was_due_once_the_time_is_known(
    played: PlayedBox,
) -> None:
    due, later = played.insert(ANA, "one", in_s=600), played.insert(BEN, "two", in_s=7200)
    smsbox.Restoring(played.database, None).prepare(played.play.now(), "ana", False)
    assert played.row(due, "held_because") == (None,)  # by a clock that lags it is yet to come
    played.play.step(3600)
    played.serve(60)
    assert "may have been sent since" in played.row(due, "held_because")[0]
    assert played.row(later, "status, held_because") == ("scheduled", None)
    assert played.texts() == []


def test_row_that_was_begun_in_the_copy_goes_on_only_by_a_person_s_word(place: Place) -> None:
    """Its second bubble may have gone out a moment after the copy was made."""
    begun = place.put(ANA, -HOUR - SECOND, "one [BUBBLE] two")
    place.begin(begun, "sent")
    copy = place.copy(HOUR)
    place.call("restore", str(copy), "--yes")
    assert place.held() == [begun]


def test_row_that_was_held_by_a_restore_is_held_by_the_next_one_too(place: Place) -> None:
    """The first knew that it was sent; of the database of before nothing is in place any more."""
    row, untouched = place.put(ANA, DAY), place.put(BEN, DAY)
    copy = place.copy()
    place.sql("UPDATE scheduled_messages SET status = 'sent' WHERE id = ?", row)
    place.call("restore", str(copy), "--yes")
    assert place.held() == [row]
    for kept in place.replaced():
        kept.rename(place.away / kept.name)
    place.call("restore", str(copy), "--yes")
    assert place.held() == [row]
    assert place.row(untouched)[0] == "scheduled"


def test_two_restores_within_a_second_keep_two_databases(place: Place) -> None:
    place.put(ANA, DAY)
    copy = place.copy()
    for _ in range(3):
        place.call("restore", str(copy), "--yes")
    assert len(place.replaced()) == 3
    assert all(map(is_sound, place.replaced()))


def test_row_that_was_made_while_the_copy_was_is_held_too(place: Place) -> None:
    """A long copy has what came into the database after it began."""
    row = place.insert(ANA, "Hi")
    copy = place.copy()
    put_back(copy, from_now(-10 * SECOND))
    place.call("restore", str(copy), "--yes")
    assert place.held() == [row]


def test_stop_that_came_after_the_copy_is_not_forgotten(place: Place) -> None:
    rows = [place.put(number, DAY) for number in (ANA, "(213) 555-2313", BEN)]
    place.call("optout", "add", CHLOE)
    copy = place.copy()
    place.call("optout", "add", ANA)
    assert look(copy, "SELECT phone_number FROM opt_outs") == [(CHLOE,)]
    place.call("restore", str(copy), "--yes")
    assert place.opt_outs() == [ANA, CHLOE]
    assert [place.row(row)[0] for row in rows] == ["cancelled", "cancelled", "scheduled"]


def test_stop_is_read_even_from_a_damaged_database(place: Place) -> None:
    place.fill(400)
    copy = place.copy()
    place.call("optout", "add", ANA)
    damage_middle(place.database)
    place.call("restore", str(copy), "--yes")
    assert place.opt_outs() == [ANA]


@pytest.mark.parametrize("with_log", [False, True])
def test_replaced_database_is_kept_and_can_be_opened(place: Place, with_log: bool) -> None:
    row = place.put(ANA, DAY)
    copy = place.copy()
    write = "UPDATE scheduled_messages SET customer_name = 'Only here'"
    if with_log:
        leave_log(place.database, write)
    else:
        place.sql(write)
    place.call("restore", str(copy), "--yes")
    (kept,) = place.replaced()
    names = "SELECT customer_name FROM scheduled_messages WHERE id = ?"
    assert look(kept, names, row) == [("Only here",)]
    assert place.sql(names, row) == [("Somebody",)]
    assert is_sound(place.database)
    assert mode_of(place.database) == 0o660
    assert copy.exists()


def test_shell_that_is_open_during_a_restore_keeps_the_old_one_and_spoils_nothing(
    place: Place,
) -> None:
    place.put(ANA, DAY)
    copy = place.copy()
    name = "UPDATE scheduled_messages SET customer_name = ?"
    shell = sqlite3.connect(place.database, isolation_level=None)
    shell.execute(name, ["Old"])
    place.call("restore", str(copy), "--yes")
    later = sqlite3.connect(place.database, isolation_level=None)
    later.execute(name, ["New"])
    shell.execute(name, ["Old still"])
    shell.close()
    later.close()
    names = "SELECT customer_name FROM scheduled_messages"
    assert place.sql(names) == [("New",)]
    assert look(place.replaced()[0], names) == [("Old still",)]
    assert is_sound(place.database)
    assert is_sound(place.replaced()[0])


@pytest.mark.parametrize("damage", DAMAGES)
def test_restore_works_whatever_is_in_the_database_s_place(place: Place, damage: str) -> None:
    place.fill(400)
    due, later = place.put(ANA, -HOUR / 2), place.put(BEN, DAY)
    copy = place.copy(HOUR)
    DAMAGES[damage](place.database)
    before = place.database.read_bytes() if place.database.exists() else None
    place.call("restore", str(copy), "--yes")
    assert is_sound(place.database)
    assert place.held() == [due]
    assert place.row(later)[0] == "scheduled"
    if before:
        assert before in [each.read_bytes() for each in place.replaced()]
    else:
        assert all(not each.stat().st_size for each in place.replaced())


def test_restored_database_does_not_take_the_log_of_the_damaged_one(place: Place) -> None:
    place.fill(300)
    copy = place.copy()
    leave_log(place.database, "UPDATE scheduled_messages SET customer_name = 'In the log'")
    damage_header(place.database)
    place.call("restore", str(copy), "--yes")
    assert is_sound(place.database)
    assert place.sql("SELECT DISTINCT customer_name FROM scheduled_messages") == [("Somebody",)]


def test_copy_made_by_hand_is_as_old_as_the_last_it_knows(place: Place) -> None:
    """It was made with cp: its last event is of two days ago."""
    due, sent = place.put(ANA, -HOUR / 2), place.put(BEN, -DAY, status="sent")
    place.sql(
        "UPDATE scheduled_messages SET sent_at = ? WHERE id = ?", to_text(from_now(-DAY)), sent
    )
    later = place.put(CHLOE, DAY)
    copy = place.away / "copy.db"
    shutil.copyfile(place.database, copy)
    assert not find_state(copy, "copied_at")
    place.call("restore", str(copy), "--yes")
    assert place.held() == [due]
    assert place.row(later) == ("scheduled", "")


def test_backup_and_restore_elsewhere_give_the_same_rows_texts_and_events(
    live: Place, other: Place
) -> None:
    csv = live.folder / "autumn.csv"
    write_csv(csv, [CAMPAIGN[0], (CHLOE, "Chloé Martin", LONG + " 🎉 [BUBBLE] two")])
    live.call("schedule", str(csv), "--yes")
    live.modem.receive("Stop", BEN)
    live.drain()
    live.insert("+442079460000", "Another day [BUBBLE] 🎉", from_now(DAY))
    words = live.command("backup", "-")
    (other.away / "copy.db").write_bytes(subprocess.run(words, capture_output=True).stdout)
    other.call("restore", str(other.away / "copy.db"), "--yes")
    assert other.held() == []
    assert read_tables(other.database) == read_tables(live.database)
    assert all(read_tables(live.database).values())  # none of them is empty
    events = "SELECT at, actor, scheduled_message_id, event, detail FROM events ORDER BY id"
    before = live.sql(events)
    assert other.sql(events)[: len(before)] == before


# --- a restore that is interrupted


class Interrupted(NamedTuple):
    """A box whose restore will hold a row that was due and one that the old database has sent."""

    place: Place
    held: list[int]
    before: Path  # its folder as it is before a restore

    def begin_anew(self) -> None:
        shutil.rmtree(self.place.folder)
        shutil.copytree(self.before, self.place.folder)


def make_interrupted(folder: Path, with_log: bool) -> Interrupted:
    place = Place(folder / "box")
    due, sent, later = (place.put(ANA, span) for span in (-HOUR / 2, DAY, DAY))
    place.copy(HOUR)
    place.sql("UPDATE scheduled_messages SET status = 'sent' WHERE id = ?", sent)
    place.sql("INSERT INTO opt_outs (phone_number) VALUES (?)", BEN)
    mark = f"UPDATE scheduled_messages SET customer_name = 'Old' WHERE id = {later}"
    if with_log:
        leave_log(place.database, mark)
    else:
        place.sql(mark)
    shutil.copytree(place.folder, folder / "before")
    return Interrupted(place, [due, sent], folder / "before")


def name_content(path: Path) -> str:
    """Tell which database a file holds, without touching it: "old", "new", "damaged" or "none"."""
    if not path.exists():
        return "none"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        for suffix in ("", "-wal"):
            if path.with_name(path.name + suffix).exists():
                shutil.copyfile(
                    path.with_name(path.name + suffix), copy.with_name(copy.name + suffix)
                )
        if not is_sound(copy):
            return "damaged"
        last = "SELECT customer_name FROM scheduled_messages ORDER BY id DESC LIMIT 1"
        name = {"Old": "old", "Somebody": "new"}
        return name.get(look(copy, last)[0][0], "damaged")


@pytest.mark.parametrize("with_log", [pytest.param(False, marks=pytest.mark.long), True])
def test_restore_that_is_killed_at_any_step_loses_no_database_and_succeeds_again(
    tmp_path: Path, with_log: bool
) -> None:
    interrupted = make_interrupted(tmp_path, with_log)
    place = interrupted.place
    words = ("restore", str(place.away / "copy.db"), "--yes")
    expected = (0, "new", interrupted.held, [BEN])
    steps, problems = 0, []
    for steps in kill_at_each_step(place, *words):
        found = name_content(place.database)
        kept = [name_content(each) for each in place.replaced()]
        assert found in ("old", "new", "none"), steps
        assert found == "old" or "old" in kept, (steps, found, kept)
        assert name_content(place.away / "copy.db") == "new"
        done = place.run(*words)
        came = (done.returncode, name_content(place.database), place.held(), place.opt_outs())
        if came != expected:
            problems.append((steps, found, *came, done.stderr))
        assert "old" in [name_content(each) for each in place.replaced()], steps
        interrupted.begin_anew()
    assert steps > 3
    assert not problems


# --- a daemon before a damaged database


def test_daemon_sends_nothing_from_a_damaged_database_until_a_copy_is_restored(live: Place) -> None:
    live.insert(ANA, "Not from here")
    live.fill(400)
    copy = live.copy()
    damage_middle(live.database)
    damaged = live.database.read_bytes()
    daemon = live.start()
    told = live.database.with_name("box.db.status.json")
    wait_until(lambda: told.exists() and json.loads(told.read_text()).get("fault") == DISK)
    live.stays([])
    assert daemon.process.poll() is None
    (line,) = [each for each in daemon.journal().splitlines() if "smsbox restore" in each]
    assert str(live.database) in line
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.journal()
    assert live.database.read_bytes() == damaged
    live.call("restore", str(copy), "--yes")
    live.insert(BEN, "Well again")
    live.start()
    wait_until(live.texts)
    live.stays([(BEN, "Well again")])


def test_damage_is_one_error_in_the_journal_and_shown_by_the_lamp(
    played: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(300):
        played.insert(BEN, "Hi", in_s=86_400 + n)
    played.insert(ANA, "Not from here")
    played.database.all("PRAGMA wal_checkpoint(TRUNCATE)")
    damage_middle(Path(played.path))
    played.database.close()
    played.database = smsbox.Database.create_or_open(played.path)  # without a page from before
    played.serve(3600)
    assert played.texts() == []
    errors = [each for each in caplog.records if each.levelname != "INFO"]
    assert [each.levelname for each in errors] == ["ERROR"]
    assert played.path in errors[0].getMessage()
    assert "smsbox restore" in errors[0].getMessage()
    assert played.wall.shown[-1].fault is smsbox.Fault.DISK
    assert played.published[-1]["fault"] == DISK
    assert names_in(own(played)) == []  # a damaged database is no copy


def test_daemon_exits_75_before_a_destroyed_header(live: Place) -> None:
    live.insert(ANA, "Not from here")
    damage_header(live.database)
    daemon = live.start()
    assert daemon.wait() == 75
    (sentence,) = daemon.journal().splitlines()
    assert str(live.database) in sentence
    assert live.texts() == []


# --- daily copies


def live_a_day(played: PlayedBox, text: str = "") -> None:
    """Let a day pass, with a change or without; each is a life of its own."""
    if text:
        played.insert(ANA, text)
    played.serve(1800)
    played.play.start += DAY - timedelta(seconds=1800)


def day(number: int) -> str:
    return f"smsbox-2025-11-{number:02}.db"


def test_daily_copy_is_whole_and_named_after_the_day_in_utc(played: PlayedBox) -> None:
    played.play.start = at(16, 30)  # on the 10th in UTC
    row = played.insert(ANA, "Hi")
    played.serve(1800)
    assert names_in(own(played)) == [day(10)]
    copy = own(played) / day(10)
    assert is_sound(copy)
    assert look(copy, "SELECT id FROM scheduled_messages") == [(row,)]
    assert find_state(copy, "copied_at").startswith("2025-11-10 ")
    assert find_state(Path(played.path), "copied_at") == ""
    assert mode_of(copy) & 0o007 == 0


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is made durable, and what gets which name."""
    noted: list[str] = []
    fsync, rename = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        noted.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def note_rename(name: str, to: str, **folders: int) -> None:
        noted.append(f"{name} becomes {to}")
        rename(name, to, **folders)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_rename)
    return noted


def test_copy_is_on_the_disk_before_it_has_its_name(
    database: smsbox.Database, now: datetime, tmp_path: Path, steps: list[str]
) -> None:
    copies = smsbox.CopyFolders(Path(database.path), "")
    assert copies.make(database, now, lambda: None)
    name = day(9)
    own_steps = [step for step in steps if "scratch" not in step]
    assert own_steps[:3] == [f"fsync {name}.part", f"{name}.part becomes {name}", "fsync backups"]


def test_copy_elsewhere_is_on_the_disk_before_it_has_its_name(
    database: smsbox.Database, now: datetime, tmp_path: Path, steps: list[str]
) -> None:
    (tmp_path / "stick").mkdir()
    copies = smsbox.CopyFolders(Path(database.path), str(tmp_path / "stick"))
    assert copies.make(database, now, lambda: None)
    steps.clear()
    copies.spread(now, lambda: None)
    name = day(9)
    assert steps[:3] == [f"fsync {name}.part", f"{name}.part becomes {name}", "fsync stick"]


def test_watchdog_is_petted_while_a_copy_is_looked_at_and_spread(
    database: smsbox.Database, now: datetime, tmp_path: Path
) -> None:
    (tmp_path / "stick").mkdir()
    copies = smsbox.CopyFolders(Path(database.path), str(tmp_path / "stick"))
    assert copies.make(database, now, lambda: None)
    with open(tmp_path / "backups" / day(9), "ab") as file:
        file.truncate(file.tell() + (8 << 20))
    beats: list[int] = []
    copies.spread(now, lambda: beats.append(1))
    assert len(beats) == 18  # nine megabytes, twice


def test_copy_that_claims_to_be_larger_than_the_disk_is_refused_at_once(
    database: smsbox.Database, now: datetime, tmp_path: Path
) -> None:
    (tmp_path / "stick").mkdir()
    copies = smsbox.CopyFolders(Path(database.path), str(tmp_path / "stick"))
    assert copies.make(database, now, lambda: None)
    os.truncate(tmp_path / "backups" / day(9), 4 << 40)  # all of it holes
    with pytest.raises(smsbox.StoreError, match=r"there is no room in .* to look at it"):
        copies.spread(now, lambda: None)
    assert list((tmp_path / "stick").iterdir()) == []


def test_day_has_one_copy_and_what_came_later_is_in_the_next(played: PlayedBox) -> None:
    played.tables = {"service": {"poll_seconds": 60}}
    played.insert(ANA, "one")
    played.serve(3600)
    first = (own(played) / day(9)).read_bytes()
    played.insert(ANA, "two")
    played.serve(3600)
    assert names_in(own(played)) == [day(9)]
    assert (own(played) / day(9)).read_bytes() == first
    played.serve(86_400)
    assert names_in(own(played)) == [day(9), day(10)]
    texts = look(own(played) / day(10), "SELECT message_content FROM scheduled_messages")
    assert texts == [("one",), ("two",)]


def test_seven_copies_are_kept_here_and_there_and_files_of_others_stay(
    played: PlayedBox, tmp_path: Path
) -> None:
    there = tmp_path / "stick"
    foreign = ("photo.jpg", "smsbox.db", "smsbox-2020-01-01.db.old", "my-smsbox-2020-01-01.db",
               "smsbox-2020-1-1.db", "smsbox-of-ana.db")  # fmt: skip
    there.mkdir()
    for name in foreign:
        (there / name).write_text(name)
    played.tables = {"service": {"backup_dir": str(there)}}
    for n in range(10):
        live_a_day(played, f"of day {n}")
    expected = [day(9 + n) for n in range(3, 10)]
    assert names_in(own(played)) == expected
    assert names_in(there) == sorted([*expected, *foreign])
    assert all((there / name).read_text() == name for name in foreign)
    assert is_sound(there / expected[-1])
    assert look(there / expected[-1], "SELECT count(*) FROM scheduled_messages") == [(10,)]


def test_day_without_a_change_has_no_copy_over_restarts_of_the_daemon_too(
    played: PlayedBox,
) -> None:
    live_a_day(played, "Hi")
    assert names_in(own(played)) == [day(9)]
    for _ in range(3):
        live_a_day(played)
    assert names_in(own(played)) == [day(9)]
    played.tables = {"service": {"poll_seconds": 60}}
    played.serve(2 * 86_400)
    assert names_in(own(played)) == [day(9)]
    live_a_day(played, "Hi again")
    assert names_in(own(played)) == [day(9), day(15)]


def test_no_copy_is_made_while_a_message_is_under_way(played: PlayedBox) -> None:
    """The day ends, in UTC, amid a message of many bubbles; before it nothing was copied."""
    played.play.start = at(15, 58)
    played.tables = {"pacing": {"bubble_gap_seconds": [60, 60]}}
    played.insert(ANA, " [BUBBLE] ".join(map(str, range(6))))
    seen: list[list[str]] = []
    played.far.script.extend([lambda: seen.append(names_in(own(played)))] * 6)
    played.serve(1800)
    assert len(played.texts()) == 6
    assert len({tuple(each) for each in seen}) == 1, seen
    assert names_in(own(played)) == sorted({*seen[0], day(10)})


def test_log_is_empty_after_the_daily_copy(played: PlayedBox) -> None:
    log = Path(f"{played.path}-wal")
    played.insert(ANA, "Hi")
    assert log.stat().st_size > 0
    played.serve(1800)
    assert names_in(own(played)) == [day(9)]
    assert not log.exists() or log.stat().st_size == 0


def test_reader_that_never_ends_does_not_hold_the_daemon_up(played: PlayedBox) -> None:
    """The log can't be emptied then; to wait for that is to send nothing meanwhile."""
    row = played.insert(ANA, "Hi", in_s=600)
    played.hand.execute("BEGIN")
    assert len(played.hand.execute("SELECT * FROM events").fetchall()) == 1
    began = time.monotonic()
    played.serve(3600)
    assert time.monotonic() - began < 10
    assert names_in(own(played)) == [day(9)]
    played.hand.execute("COMMIT")
    assert played.row(row)[0] == "sent"


def test_half_copy_of_a_crash_is_no_copy_and_does_not_stay(played: PlayedBox) -> None:
    own(played).mkdir()
    (own(played) / f"{day(9)}.part").write_text("half")
    played.insert(ANA, "Hi")
    played.serve(1800)
    assert day(9) in names_in(own(played))
    assert is_sound(own(played) / day(9))
    for n in range(3):
        live_a_day(played, f"of day {n}")
    assert all(smsbox_name(name) for name in names_in(own(played)))


def smsbox_name(name: str) -> bool:
    return re.fullmatch(r"smsbox-\d{4}-\d\d-\d\d\.db", name) is not None


def a_missing_folder(tmp_path: Path, _mount: Callable[[str], Path]) -> Path:
    return tmp_path / "stick"


def a_file(tmp_path: Path, _mount: Callable[[str], Path]) -> Path:
    (tmp_path / "stick").write_text("not a folder")
    return tmp_path / "stick"


BAD_FOLDERS: dict[str, Callable[[Path, Callable[[str], Path]], Path]] = {
    "missing": a_missing_folder,
    "a file": a_file,
    "read only": lambda _, mount: mount("ro"),
    "full": lambda _, mount: mount("size=16k"),
}


@pytest.mark.parametrize("trouble", BAD_FOLDERS)
def test_backup_dir_in_trouble_costs_one_warning_and_nothing_else(
    played: PlayedBox, tmp_path: Path, mount: Callable[[str], Path], trouble: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder = BAD_FOLDERS[trouble](tmp_path, mount)
    played.tables = {"service": {"backup_dir": str(folder)}}
    rows = [played.insert(ANA, "Hi", in_s=in_s) for in_s in (0, 1800, 4 * 3600)]
    played.serve(5 * 3600)
    assert [played.row(row)[0] for row in rows] == ["sent"] * 3
    assert names_in(own(played)) == [day(9)]
    warnings = [each for each in caplog.records if each.levelname in ("WARNING", "ERROR")]
    assert len(warnings) == 1, caplog.text
    assert str(folder) in warnings[0].getMessage()
    assert warnings[0].levelname == "WARNING"
    assert not folder.is_dir() or names_in(folder) == []


def test_backup_dir_that_comes_back_gets_its_copy_within_the_next_hours(
    played: PlayedBox, tmp_path: Path
) -> None:
    folder = tmp_path / "stick"
    played.tables = {"service": {"backup_dir": str(folder)}}
    played.insert(ANA, "Hi")
    seen: list[list[str]] = []
    played.after(600, folder.mkdir)
    played.after(3000, lambda: seen.append(names_in(folder)))
    played.serve(2.1 * 3600)
    assert seen == [[]]  # it is tried once an hour
    assert names_in(folder) == [day(9)]


def copies_fact(place: Place) -> tuple[str, str]:
    """Return the level and the words of what status says of the copies."""
    (fact,) = [each for each in place.status()["facts"] if each["name"] == "copies"]
    (line,) = [
        line for line in place.run("status").stdout.splitlines() if line.split()[1] == "copies"
    ]
    assert line == f"{fact['level']:<8} copies     {fact['words']}"
    return fact["level"], fact["words"]


def test_status_tells_of_no_copy_and_warns_of_none(place: Place) -> None:
    level, words = copies_fact(place)
    assert level == "ok"
    assert words.startswith("none yet")


WHERE = ("only beside", "on the same device", "on another device")


@pytest.mark.parametrize("where", WHERE)
def test_status_says_so_while_every_copy_is_on_the_database_s_own_device(
    place: Place, mount: Callable[[str], Path], where: str
) -> None:
    place.put(ANA, DAY)
    (place.folder / "backups").mkdir()
    name = f"smsbox-{datetime.now(UTC):%Y-%m-%d}.db"
    place.call("backup", str(place.folder / "backups" / name))
    if where != WHERE[0]:
        folder = mount("size=4m") if where == WHERE[2] else place.away
        place.settle(service={"backup_dir": str(folder)})
        place.call("backup", str(folder / name))
    level, words = copies_fact(place)
    assert level == "ok"
    assert words.startswith(f"the last of {name[7:-3]}")
    assert ("backup_dir" in words) is (where != WHERE[2])
