"""The migration: a database of version 1 becomes today's in one transaction, with nothing lost."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import smsbox
from rig.paths import ROOT
from rig.played import PlayedBox
from rig.tpdus import deliver
from smsbox import Database, StoreError

WRITTEN = ROOT / "tests" / "databases"
HELD, UNCONFIRMED = "v1-held-reply", "v1-unconfirmed"
BOTH = pytest.mark.parametrize("name", [HELD, UNCONFIRMED])
GONE = {"segments": {"reference_before"}}  # columns that today's database no longer has
FREED = "nullif(nullif(held_because, 'their reply may mean stop'), 'they have replied')"


@pytest.fixture
def lay(tmp_path: Path) -> Callable[[str], Path]:
    """Lay down a database as version 1 wrote it; .sql files are its dumps."""

    def lay_down(name: str) -> Path:
        path = tmp_path / f"{name}.db"
        shell = sqlite3.connect(path, isolation_level=None)
        shell.execute("PRAGMA page_size = 1024")
        shell.execute("PRAGMA journal_mode = WAL")
        shell.executescript((WRITTEN / f"{name}.sql").read_text())
        shell.close()
        return path

    return lay_down


def ask(path: Path, sql: str) -> list[Any]:
    shell = sqlite3.connect(path)
    try:
        return shell.execute(sql).fetchall()
    finally:
        shell.close()


def shape(path: Path) -> dict[str, object]:
    """The columns of each table, in any order, and the text of each index and trigger."""
    found: dict[str, object] = {}
    for kind, name, sql in ask(path, "SELECT type, name, sql FROM sqlite_schema"):
        if name.startswith("sqlite_"):
            continue
        found[name] = re.sub(r"\s+", " ", sql)
        if kind == "table":
            columns = ask(path, f"SELECT * FROM pragma_table_info('{name}')")
            found[name] = {column[1:] for column in columns}
    return found


def content(path: Path, columns_of: Path) -> dict[str, list[Any]]:
    """All rows of all tables, in the columns that another database has, less those that go.

    What held a row for its recipient's reply is no reason of the row any more.
    """
    told = {}
    for (name,) in ask(columns_of, "SELECT name FROM sqlite_schema WHERE type = 'table'"):
        if name not in ("state", "sqlite_sequence"):
            columns = [each[1] for each in ask(columns_of, f"PRAGMA table_info({name})")]
            columns = [each for each in columns if each not in GONE.get(name, ())]
            columns = [FREED if each == "held_because" else each for each in columns]
            told[name] = ask(path, f"SELECT {', '.join(columns)} FROM {name} ORDER BY 1")
    return told


def migrate(path: Path) -> None:
    Database.create_or_open(str(path)).close()


@BOTH
def test_migrated_database_has_the_shape_of_a_new_one(
    lay: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    path, new = lay(name), tmp_path / "new.db"
    migrate(path)
    migrate(new)
    assert shape(path) == shape(new)
    assert ask(path, "PRAGMA user_version") == [(smsbox.SCHEMA_VERSION,)]
    assert ask(path, "PRAGMA foreign_key_check") == []
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]


@BOTH
def test_migration_loses_no_row_and_changes_no_column_of_before(
    lay: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    path = lay(name)
    before = tmp_path / "before.db"
    before.write_bytes(path.read_bytes())
    migrate(path)
    assert content(path, before) == content(before, before)
    migrate(path)  # a second time there is nothing to do
    assert content(path, before) == content(before, before)


REPLY = (
    "INSERT INTO inbound (received_at, sent_at, sender, body, tpdu, request, read_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
HELD_ONE, OTHER, THIRD = "+12135552407", "+12135552402", "+12135552403"


def take_over(path: Path, box: PlayedBox) -> None:
    """Let the played box go on with another database."""
    box.hand.close()
    box.database.close()
    box.database = Database.create_or_open(str(path))
    box.hand = sqlite3.connect(path, isolation_level=None)
    with box.database.transaction():
        for name in ("", "fall", "spring"):
            smsbox.resume(box.database, name, box.play.now(), "ana")


def store_reply(path: Path, minute: int, sender: str, body: str | None, request: str = "nothing",
                read: bool = False, tpdu: str = "") -> None:  # fmt: skip
    """Put a text into the inbox as version 1 stored it."""
    shell = sqlite3.connect(path, isolation_level=None)
    at = f"2025-11-09 18:{minute:02}:30"
    tpdu = tpdu or f"{minute:02}{sender[-2:]}"
    shell.execute(REPLY, (at, at, sender, body, tpdu, request, at if read else None))
    shell.close()


def doubtful(path: Path) -> list[Any]:
    """Whose replies wait for a person, and what they say."""
    return ask(path, "SELECT sender, body FROM inbound WHERE settled_at IS NULL AND"
                     " (request = 'perhaps stop' OR body IS NULL) ORDER BY id")  # fmt: skip


def test_row_that_version_1_held_for_a_reply_is_shut_by_it_until_it_is_settled(
    lay: Callable[[str], Path], box: PlayedBox
) -> None:
    path = lay(HELD)
    migrate(path)
    assert doubtful(path) == [(HELD_ONE, "is this spam?")]
    take_over(path, box)
    box.serve(4 * 3600)
    assert [each for each in box.far.arrived if each[1] == HELD_ONE] == []
    assert box.row(8, "status, held_because") == ("scheduled", None)
    with box.database.transaction():
        box.database.inbox.settle(HELD_ONE, box.play.now(), "ana")
    box.serve(4 * 3600)
    assert box.row(8)[0] == "sent"


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("reason", ["they have replied", "their reply may mean stop"])
def test_newest_reply_of_a_held_number_counts_as_doubtful_though_it_was_read(
    lay: Callable[[str], Path], reason: str, read: bool
) -> None:
    path = lay(HELD)
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("UPDATE scheduled_messages SET held_because = ? WHERE id = 8", (reason,))
    shell.close()
    store_reply(path, 40, HELD_ONE, "older", read=read)
    store_reply(path, 50, HELD_ONE, "newest", read=read)
    migrate(path)
    waiting = doubtful(path)
    assert (HELD_ONE, "newest") in waiting
    assert (HELD_ONE, "older") not in waiting
    assert ask(path, "SELECT held_because FROM scheduled_messages WHERE id = 8") == [(None,)]


def test_old_doubtful_replies_are_settled_only_where_they_were_read(
    lay: Callable[[str], Path],
) -> None:
    path = lay(HELD)
    store_reply(path, 40, OTHER, "why me", "perhaps stop", read=True)
    store_reply(path, 41, THIRD, "why me", "perhaps stop")
    store_reply(path, 42, "+12135552404", None, read=True)
    store_reply(path, 43, "+12135552405", None)
    migrate(path)
    assert [sender for sender, _ in doubtful(path)] == [HELD_ONE, THIRD, "+12135552405"]


STOPPED_LATER = [  # what version 1 stored of a sender, in order; and who is stopped by it
    ([("2135552402", "STOP", "stop")], [OTHER]),
    ([("0012135552402", "please take me off your list", "nothing")], [OTHER]),
    ([("12135552402", "STOP", "nothing"), (OTHER, "START", "start")], []),
    ([("12135552402", "STOP", "nothing"), ("2135552402", "START", "start")], []),
    ([(OTHER, "START", "start"), ("2135552402", "STOP", "stop")], [OTHER]),
    ([("2135552999", "STOP", "stop")], ["2135552999"]),
    ([("72345", "STOP", "stop")], ["72345"]),
    ([(OTHER, "Thanks!", "nothing")], []),
]


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize(("said", "stopped"), STOPPED_LATER)
def test_stored_texts_are_read_again_by_today_s_words_and_numbers(
    lay: Callable[[str], Path], box: PlayedBox, said: list[tuple[str, str, str]],
    stopped: list[str], read: bool,
) -> None:  # fmt: skip
    path = lay(HELD)
    known = {number for (number,) in ask(path, "SELECT phone_number FROM opt_outs")}
    for place, (sender, body, request) in enumerate(said):
        store_reply(path, 40 + place, sender, body, request, read)
    take_over(path, box)
    box.sql("UPDATE inbound_parts SET joined = 1")  # else the rest of that text is waited for
    row = box.insert(OTHER, "again", in_s=60, campaign_name="new")
    box.serve(3600)
    now = {number for (number,) in ask(path, "SELECT phone_number FROM opt_outs")}
    assert now - known == set(stopped)
    assert box.row(row)[0] == ("cancelled" if OTHER in stopped else "sent")
    assert [each for each in box.texts() if each.startswith("Done")] == []  # it is too long ago


def test_opt_out_that_was_removed_after_the_stop_stays_removed(
    lay: Callable[[str], Path], box: PlayedBox
) -> None:
    path = lay(HELD)
    store_reply(path, 40, OTHER, "STOP", "stop")
    store_reply(path, 45, THIRD, "STOP", "stop")
    shell = sqlite3.connect(path, isolation_level=None)
    for number, minute in ((OTHER, 50), (THIRD, 30)):  # the other one was removed before
        shell.execute("INSERT INTO events (at, actor, event, detail) VALUES (?, 'ana',"
                      " 'opt-out removed', ?)",
                      (f"2025-11-09 18:{minute}:00", f"{number}: phoned us"))  # fmt: skip
    shell.close()
    take_over(path, box)
    box.serve(60)
    numbers = {each[0] for each in box.sql("SELECT phone_number FROM opt_outs")}
    assert THIRD in numbers
    assert OTHER not in numbers


def test_text_that_version_1_could_not_read_is_read_now_and_obeyed(
    lay: Callable[[str], Path], box: PlayedBox
) -> None:
    path = lay(HELD)
    stop = deliver("STOP", OTHER[2:], datetime(2025, 11, 9, 18, 40, tzinfo=timezone.utc))
    store_reply(path, 40, "unknown", None, tpdu=stop)
    take_over(path, box)
    box.serve(60)
    assert (OTHER,) in box.sql("SELECT phone_number FROM opt_outs")
    assert box.sql("SELECT sender, body FROM inbound WHERE tpdu = ?", stop) == [(OTHER, "STOP")]


def test_stored_texts_are_read_again_once(lay: Callable[[str], Path], box: PlayedBox) -> None:
    path = lay(HELD)
    store_reply(path, 40, "2135552402", "STOP", "stop")
    take_over(path, box)
    box.serve(60)
    assert (OTHER,) in box.sql("SELECT phone_number FROM opt_outs")
    box.sql("DELETE FROM opt_outs WHERE phone_number = ?", OTHER)
    box.serve(60)
    assert (OTHER,) not in box.sql("SELECT phone_number FROM opt_outs")


def test_migration_knows_why_rows_are_held_and_who_paused(lay: Callable[[str], Path]) -> None:
    path = lay(HELD)
    migrate(path)
    held = "SELECT id, held_code FROM scheduled_messages WHERE held_because IS NOT NULL"
    assert ask(path, held) == [(16, "")]
    paused = "SELECT name, paused_by, paused_until FROM campaigns ORDER BY name"
    assert ask(path, paused) == [
        ("fall", "operator", "2025-11-11 18:00:00"),
        ("spring", None, None),
    ]
    assert ask(path, "SELECT * FROM state WHERE key LIKE 'paused_until %'") == []
    other = lay(UNCONFIRMED)
    migrate(other)
    assert ask(other, held) == [(3, "late"), (4, "restored")]
    assert ask(other, "SELECT value FROM state WHERE key = 'paused_by'") == [("box",)]


@BOTH
def test_migration_forgets_what_the_sim_was_asked_for(
    lay: Callable[[str], Path], name: str
) -> None:
    path = lay(name)
    asked = "SELECT count(*) FROM state WHERE key LIKE 'reference %' OR key = 'power_mark'"
    assert ask(path, asked) == [(2,)]
    migrate(path)
    assert ask(path, asked) == [(0,)]
    columns = ask(path, "SELECT name FROM pragma_table_info('segments')")
    assert ("reference_before",) not in columns


@BOTH
def test_migration_takes_first_plans_and_beginnings_from_what_happened(
    lay: Callable[[str], Path], name: str
) -> None:
    path = lay(name)
    migrate(path)
    planned = "SELECT count(*) FROM scheduled_messages s WHERE planned_for IS NOT substr((SELECT"
    planned += " detail FROM events WHERE scheduled_message_id = s.id AND event = 'added'), -19)"
    assert ask(path, planned) == [(0,)]
    begun = "SELECT count(*) FROM scheduled_messages s WHERE begun_at IS NOT (SELECT"
    begun += " min(submitted_at) FROM segments g JOIN messages m ON m.id = g.message_id"
    begun += " WHERE m.scheduled_message_id = s.id)"
    assert ask(path, begun) == [(0,)]
    assert ask(path, "SELECT count(begun_at) > 1 FROM scheduled_messages") == [(1,)]


# Migrates copies of a database, and dies before the first statement, before the second, and so on;
# what each death leaves stands in a folder of its own. Prints how many died.
_KILLER = """
import itertools, os, pathlib, shutil, signal, sys
sys.path.insert(0, {root!r})
import smsbox
before, folder = map(pathlib.Path, sys.argv[1:])
change = smsbox.Database.change
for occurrence in itertools.count(1):
    left, place = occurrence, folder / str(occurrence)
    place.mkdir()
    shutil.copy(before, place / "box.db")
    child = os.fork()
    if not child:
        def dying(database, sql, *given, **named):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(database, sql, *given, **named)
        smsbox.Database.change = dying
        smsbox.Database.create_or_open(str(place / "box.db")).close()
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
        print(occurrence - 1)
        break
"""


@BOTH
def test_migration_that_is_killed_at_any_statement_is_all_or_nothing(
    lay: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    before, new, deaths = lay(name), tmp_path / "new.db", tmp_path / "deaths"
    migrate(new)
    deaths.mkdir()
    words = [sys.executable, "-c", _KILLER.format(root=str(ROOT)), str(before), str(deaths)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    killed = int(done.stdout)
    assert killed > 60
    old_shape, old_content = shape(before), content(before, before)
    for occurrence in range(1, killed + 1):
        path = deaths / str(occurrence) / "box.db"
        # The version is the last statement, and is not there without all the others.
        assert ask(path, "PRAGMA user_version") == [(1,)]
        assert shape(path) == old_shape
        assert content(path, before) == old_content
        if occurrence % 5 == 0:  # and the next start carries it through
            migrate(path)
            assert shape(path) == shape(new)
            assert content(path, before) == old_content


def test_two_processes_that_migrate_at_once_do_it_once(lay: Callable[[str], Path]) -> None:
    path = lay(HELD)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            migrate(path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == []
    assert ask(path, "PRAGMA user_version") == [(smsbox.SCHEMA_VERSION,)]


def test_disk_that_is_full_amid_a_migration_leaves_version_1(
    lay: Callable[[str], Path], tmp_path: Path
) -> None:
    path = lay(HELD)
    before = tmp_path / "before.db"
    before.write_bytes(path.read_bytes())
    full = (
        "import resource, signal, sys; sys.path.insert(0, sys.argv[1]); import smsbox;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384));"  # the log outgrows it
        "smsbox.Database.create_or_open(sys.argv[2])"
    )
    words = [sys.executable, "-c", full, str(ROOT), str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert re.search(r"StoreError: .*(disk is full|disk I/O error)", done.stderr), done.stderr
    assert content(path, before) == content(before, before)
    assert shape(path) == shape(before)
    migrate(path)
    assert content(path, before) == content(before, before)


def test_commands_that_only_read_say_what_brings_the_database_up_to_date(
    lay: Callable[[str], Path],
) -> None:
    path = lay(HELD)
    with pytest.raises(StoreError, match="sudo systemctl restart smsbox brings it up to date"):
        Database.open_to_read(str(path))
    assert ask(path, "PRAGMA user_version") == [(1,)]


def test_queue_of_version_1_is_sent_and_what_was_held_or_unsure_is_not(
    lay: Callable[[str], Path], box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lay(UNCONFIRMED)
    box.hand.close()
    box.database.close()
    box.database = Database.create_or_open(str(path))
    box.hand = sqlite3.connect(path, isolation_level=None)
    with box.database.transaction():
        smsbox.resume(box.database, "", box.play.now(), "ana")
    box.insert("+12135552399", "new", in_s=3600)
    box.serve(7200)
    assert box.texts() == ["new"]
    states = box.sql("SELECT id, status, held_code FROM scheduled_messages ORDER BY id")
    assert states == [
        (1, "failed", ""), (2, "failed", ""), (3, "scheduled", "late"),
        (4, "scheduled", "restored"), (5, "failed", ""), (6, "sent", ""),
    ]  # fmt: skip
    assert "may have been sent" in box.row(5)[1]


def test_message_of_version_1_that_went_on_behind_a_guess_waits_for_the_operator(
    lay: Callable[[str], Path], box: PlayedBox
) -> None:
    """Version 1 believed the SIM, and was stopped amid the rest of the message."""
    path = lay(UNCONFIRMED)
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute("UPDATE messages SET status = 'sending' WHERE status = 'unconfirmed'")
    shell.execute("UPDATE messages SET status = 'queued' WHERE status = 'cancelled'")
    ((row,),) = shell.execute(
        "UPDATE scheduled_messages SET status = 'scheduled', error_message = NULL, scheduled_for ="
        " '2025-11-09 18:30:00' WHERE id = (SELECT scheduled_message_id FROM messages"
        " WHERE status = 'sending') RETURNING id"
    ).fetchall()
    shell.close()
    box.hand.close()
    box.database.close()
    box.database = Database.create_or_open(str(path))
    box.hand = sqlite3.connect(path, isolation_level=None)
    with box.database.transaction():
        smsbox.resume(box.database, "", box.play.now(), "ana")
    box.serve(7200)
    assert box.texts() == []
    status, words = box.row(row)
    assert status == "failed"
    assert "may have been sent" in words
