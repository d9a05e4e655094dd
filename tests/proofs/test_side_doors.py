"""Side doors: what a member of the group smsbox, or a stranger, makes root or the box do.

Each attack was seen to work on version 1. Those that take other people run as root alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import smsbox
from rig.neighbors import ALICE, MALLORY, SECRET, SERVICE, Shared, be, lay_journal, made_shared
from rig.people import ANA, BEN, CHLOE
from rig.played import PlayedBox

CSV = "phone_number,customer_name,message_content\n2135552301,Ana,Hi\n555,Ben,Hi\n"


@pytest.fixture
def shared() -> Iterator[Shared]:
    with made_shared() as made:
        yield made


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# --- root's own files are not shown to the group


def lay_backups(shared: Shared) -> Path:
    folder = shared.state / "backups"
    with be(ALICE):
        folder.mkdir(0o770)
    return folder


def link_to_secret(shared: Shared) -> Path:
    copy = lay_backups(shared) / "smsbox-2026-11-28.db"
    with be(ALICE):
        copy.symlink_to(shared.secret)
    return copy


def link_to_folder_of_secret(shared: Shared) -> Path:
    (shared.roots / "smsbox-2026-11-28.db").write_text(SECRET)
    with be(ALICE):
        (shared.state / "backups").symlink_to(shared.roots)
    return shared.state / "backups" / "smsbox-2026-11-28.db"


def other_name_of_secret(shared: Shared) -> Path:
    """As where the kernel does not protect hard links."""
    copy = lay_backups(shared) / "smsbox-2026-11-28.db"
    os.link(shared.secret, copy)
    return copy


def secret_named_by_mistake(shared: Shared) -> Path:
    return shared.secret


THIEF = """
import os, sys
near, stolen = sys.argv[1:]
print("ready", flush=True)
while not os.path.exists(stolen):
    try:
        os.link(near, stolen)
    except OSError:
        pass
"""


@pytest.mark.parametrize(
    "lay",
    [link_to_secret, link_to_folder_of_secret, other_name_of_secret, secret_named_by_mistake],
)
def test_restore_as_root_shows_no_file_of_root_s(
    shared: Shared, lay: Callable[[Shared], Path]
) -> None:
    named, stolen = lay(shared), shared.state / "stolen"
    near = shared.state / "box.db.part"  # what takes the database's place
    thief = subprocess.Popen(
        [shared.python, "-c", THIEF, near, stolen], stdout=subprocess.PIPE, cwd=shared.base,
        user=ALICE, group=ALICE, extra_groups=[SERVICE],
    )  # fmt: skip
    assert thief.stdout is not None
    with thief:
        thief.stdout.readline()
        for _ in range(4):
            status, _ = shared.run("restore", str(named), "--yes")
            assert status != 0
        thief.kill()
    with be(ALICE), suppress(OSError):
        assert SECRET not in stolen.read_text()
        pytest.fail("alice has got hold of the file")
    assert not near.exists()


def test_copy_on_its_way_back_is_the_group_s_only_when_it_was_looked_at(shared: Shared) -> None:
    copy = shared.roots / "copy.db"
    shared.smsbox("backup", str(copy))
    assert (copy.stat().st_uid, mode_of(copy)) == (0, 0o600)
    shared.smsbox("restore", str(copy), "--yes")
    assert (shared.database.stat().st_uid, mode_of(shared.database)) == (SERVICE, 0o660)
    shared.smsbox("pause", by=ALICE)


def test_copies_are_made_and_looked_at_where_nobody_else_can_move_them(shared: Shared) -> None:
    """What SQLite opens by name in the group's folder could be a link by then, or another file."""
    opened = shared.base / "opened"
    opened.touch()
    opened.chmod(0o666)
    copy = shared.roots / "copy.db"
    shared.smsbox("backup", str(copy))
    hook = shared.program.read_text().replace(
        "        connection = sqlite3.connect(uri, uri=True,",
        f"        print(uri, file=open({str(opened)!r}, 'a'))\n"
        "        connection = sqlite3.connect(uri, uri=True,",
    )
    assert hook != shared.program.read_text()
    shared.program.write_text(hook)
    shared.smsbox("backup", str(shared.roots / "again.db"))
    shared.smsbox("restore", str(copy), "--yes")
    places = {line.partition("?")[0] for line in opened.read_text().split()}
    written = [place for place in places if not place.endswith(shared.database.name)]
    assert written
    for place in written:
        assert Path(place.removeprefix("file://")).parent.parent == Path("/var/tmp")
    assert all(not Path(place.removeprefix("file://")).parent.exists() for place in written)


def test_only_what_was_made_for_a_copy_is_swept_away() -> None:
    names = ("smsbox-", ".smsbox-scratch-", ".smsbox-scratch-")
    made = [Path(tempfile.mkdtemp("", name, "/var/tmp")) for name in names]
    persons, killed, strange = made
    for path in (persons / "scratch.db", killed / "scratch.db-wal", strange / "diary"):
        path.touch()
    for folder in made:
        os.utime(folder, (0, 0))
    try:
        with smsbox.scratch_database() as path:
            path.touch()
            assert path.parent.stat().st_mode & 0o777 == 0o700
        assert not path.parent.exists()
        assert (persons / "scratch.db").exists()
        assert (strange / "diary").exists()
        assert not killed.exists()
    finally:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("mode", [0o4777, 0o2777, 0o666])
def test_page_takes_over_no_rights_of_somebody_else_s_file(shared: Shared, mode: int) -> None:
    meeting = shared.base / "meeting"  # like /tmp
    meeting.mkdir()
    meeting.chmod(0o1777)
    page, own = meeting / "plan.html", meeting / "own.html"
    people = shared.base / "people.csv"
    people.write_text(CSV.partition("555,")[0])
    with be(MALLORY):
        page.touch()
        page.chmod(mode)
    shared.run("schedule", str(people), "--dry-run", "--html", str(page))
    assert (page.stat().st_uid, mode_of(page)) == (MALLORY, mode)  # the service may not take it
    assert not page.with_name("plan.html.part").exists()
    shared.database.rename(shared.database.with_name("hidden"))  # then root stays root
    shared.smsbox("schedule", str(people), "--dry-run", "--html", str(page))
    assert (page.stat().st_uid, mode_of(page)) == (0, 0o600)
    shared.smsbox("schedule", str(people), "--dry-run", "--html", str(own))
    own.chmod(0o644)
    shared.smsbox("schedule", str(people), "--dry-run", "--html", str(own))
    assert mode_of(own) == 0o644  # for a web server


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
def test_pipe_beside_the_database_holds_nobody_up(shared: Shared, suffix: str) -> None:
    pipe = shared.database.with_name(shared.database.name + suffix)
    with be(ALICE):
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe, 0o666)
    for words in ("status", "pause", "list"):
        status, said = shared.run(words)
        assert status != 0
        assert f"{pipe} is no file: remove it" in said


@pytest.mark.parametrize("what", ["a file", "a pipe", "by a link", "by another name"])
def test_journal_that_names_another_file_is_refused(shared: Shared, what: str) -> None:
    """SQLite deletes the file that a journal of several databases names, or waits at a pipe."""
    theirs = shared.base / "theirs"  # no member gets in
    theirs.mkdir(0o700)
    os.chown(theirs, SERVICE, SERVICE)
    target = theirs / "target"
    with be(SERVICE):
        os.mkfifo(target) if what == "a pipe" else target.write_text(SECRET)
    with be(ALICE):
        journal = lay_journal(shared.database, str(target))
        if what == "by a link":
            journal.rename(shared.state / "elsewhere")
            journal.symlink_to(shared.state / "elsewhere")
        elif what == "by another name":
            os.link(journal, shared.state / "elsewhere")
    for words, by in ((["pause"], 0), (["pause"], SERVICE), (["list"], 0)):
        status, said = shared.run(*words, by=by)
        assert (status, target.exists()) == (75, True), said
        assert str(journal) in said
    if what == "a file":
        assert f"{journal} is none of smsbox's: remove it" in said
        other = shared.roots / "link.db"  # SQLite would look beside what is meant
        other.symlink_to(shared.database)
        shared.database = other
        for command in ("list", "pause", "run"):
            assert f"{other} is a link: name the database itself" in shared.run(command)[1]
        assert target.exists()


def test_journal_of_a_power_cut_is_rolled_back(shared: Shared) -> None:
    with be(SERVICE):
        journal = lay_journal(shared.database)
    status, said = shared.run("list")
    assert (status, "damaged" in said) == (75, False)  # who only looks can't roll it back
    assert "Paused" in shared.smsbox("pause")
    assert not journal.exists()


def test_view_in_the_place_of_a_pragma_holds_nobody_up(shared: Shared) -> None:
    connection = sqlite3.connect(shared.database)
    with connection:
        connection.execute("""CREATE VIEW pragma_user_version AS WITH RECURSIVE n(i) AS
            (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS user_version FROM n""")
    connection.close()
    shared.smsbox("list", by=ALICE)
    shared.smsbox("pause")
    _, said = shared.run("check")
    assert "pragma_user_version in it is not smsbox's own" in said


def test_command_that_a_member_makes_endless_hears_ctrl_c(shared: Shared) -> None:
    connection = sqlite3.connect(shared.database)
    with connection:
        connection.executescript("""ALTER TABLE opt_outs RENAME TO hidden;
            CREATE VIEW opt_outs AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
            SELECT h.* FROM hidden h, n WHERE n.i < 0""")
    connection.close()
    with shared.start("optout", "list") as process:
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail("it does not hear Ctrl-C")


def test_file_named_like_a_number_swallows_no_stop(shared: Shared) -> None:
    (shared.base / "+12135558888").write_text("phone_number\n2135557777\n")
    shared.smsbox("optout", "add", "+12135558888")
    assert shared.look("SELECT phone_number FROM opt_outs") == [("+12135558888",)]


def test_line_feed_of_others_makes_no_line_of_its_own(shared: Shared) -> None:
    forged = "warning  disk       make room"
    connection = sqlite3.connect(shared.database)
    with connection:
        connection.execute(
            "INSERT INTO opt_outs (phone_number, at, words, reason) VALUES (?, ?, ?, '')",
            (ANA, "2026-01-01 00:00:00", f"STOP\n{forged}"),
        )
        connection.execute(
            "INSERT INTO campaigns (name, created_at, paused_because, paused_by)"
            " VALUES (?, '', 'by ana', 'operator')",
            (f"spring\n{forged}",),
        )
    connection.close()
    for words in (["optout", "list"], ["show", ANA], ["status"], ["why", ANA], ["report"],
                  ["report", f"spring\n{forged}"], ["resume"]):  # fmt: skip
        _, said = shared.run(*words)
        assert not [line for line in said.splitlines() if line.startswith(forged)]
    people = shared.base / "people.csv"
    people.write_text(CSV.partition("555,")[0])
    status, said = shared.run("schedule", str(people), "--campaign", f"a\n{forged}", "--dry-run")
    assert status == 65
    assert not [line for line in said.splitlines() if line.startswith(forged)]


def test_line_feed_in_a_number_or_a_sender_makes_no_line_of_its_own(shared: Shared) -> None:
    """Gateways sell free names of senders, in which a line feed is a character like others."""
    forged = "warning  disk       make room"
    number = f"Shop\n{forged}"
    connection = sqlite3.connect(shared.database)
    with connection:
        connection.execute(
            "INSERT INTO opt_outs (phone_number, at, words, reason)"
            " VALUES (?, '2026-01-01 00:00:00', 'STOP', '')",
            (number,),
        )
        for request in ("stop", "perhaps stop", "nothing"):
            connection.execute(
                "INSERT INTO inbound (received_at, sender, body, tpdu, request)"
                " VALUES ('2026-01-01 00:00:00', ?, 'no more', '', ?)",
                (number, request),
            )
        connection.executemany(
            "INSERT INTO scheduled_messages (phone_number, customer_name, message_content,"
            " scheduled_for, status, consent_source, error_message)"
            " VALUES (?, ?, 'Hi', '2026-01-01 00:00:00', ?, ?, ?)",
            [(number, number, status, number, number) for status in ("scheduled", "failed")],
        )
    connection.close()
    shown = ("optout list", "inbox", "list", "show 1", "show 2", "why 1", "status", "check")
    done = ("retry 2 --yes", "release 1 --yes", "edit 1 --text Ho", "reschedule 1 --by +1h --yes",
            "cancel 1 --yes", "retry 1 --yes")  # fmt: skip
    for words in (*shown, *done, *shown):
        _, said = shared.run(*words.split())
        assert [line for line in said.splitlines() if line.startswith(forged)] == [], words
        assert words in done or words in ("status", "check") or forged in said, words


@pytest.mark.parametrize("words", ["restore X --yes", "schedule X --yes", "--config X status"])
def test_no_pipe_of_others_holds_root_up(shared: Shared, words: str) -> None:
    pipe = shared.state / "pipe"
    with be(ALICE):
        os.mkfifo(pipe, 0o666)
    status, said = shared.run(*words.replace("X", str(pipe)).split())
    assert status != 0
    assert str(pipe) in said


# --- what root makes lands where root said, or nowhere


WRITERS = {
    "backup": "backup X",
    "plan": "schedule good.csv --dry-run --html X",
    "rejects": "schedule bad.csv --skip-invalid --yes --rejects X",
}


@pytest.mark.parametrize("command", WRITERS)
def test_nothing_of_root_s_lands_behind_a_link_of_others(shared: Shared, command: str) -> None:
    """sudo takes any line it can read of a file in its drop-in folder."""
    for name, text in (("bad.csv", CSV), ("good.csv", CSV.replace("555,Ben,Hi\n", ""))):
        (shared.base / name).write_text(text)
    drop_in = shared.roots / "sudoers.d"
    drop_in.mkdir()
    if command == "plan":  # with a database root is somebody else by then
        for each in shared.state.glob("box.db*"):
            each.unlink()
    with be(ALICE):
        (shared.state / "backups").symlink_to(drop_in)
        (shared.state / "plain").symlink_to(drop_in / "made")
    for target in (shared.state / "backups" / "before-the-sale", shared.state / "plain"):
        status, said = shared.run(*WRITERS[command].replace("X", str(target)).split())
        assert list(drop_in.iterdir()) == [], said
        assert status != 0
        assert "link" in said or "exists" in said


def test_what_root_makes_in_the_state_folder_is_its_owner_s(shared: Shared) -> None:
    lay_backups(shared)
    copy = shared.state / "before-the-sale"
    shared.smsbox("backup", str(copy))
    assert (copy.stat().st_uid, mode_of(copy)) == (SERVICE, 0o600)


def test_links_of_root_s_own_and_of_one_s_own_are_followed(shared: Shared) -> None:
    (shared.base / "kept").symlink_to(shared.roots)
    shared.smsbox("backup", str(shared.base / "kept" / "copy.db"))
    assert (shared.roots / "copy.db").exists()
    mine = shared.base / "alice"
    mine.mkdir()
    os.chown(mine, ALICE, ALICE)
    with be(ALICE):
        (mine / "real.csv").write_text(CSV.replace("555,Ben,Hi\n", ""))
        (mine / "list.csv").symlink_to("real.csv")
    shared.smsbox("schedule", str(mine / "list.csv"), "--dry-run", by=ALICE)
    status, said = shared.run("schedule", str(mine / "list.csv"), "--dry-run")
    assert (status, "list.csv is a link" in said) == (65, True)


def test_rejects_are_for_their_owner_alone(shared: Shared) -> None:
    mine = shared.base / "alice"
    mine.mkdir()
    os.chown(mine, ALICE, ALICE)
    with be(ALICE):
        (mine / "bad.csv").write_text(CSV)
    bad, out = str(mine / "bad.csv"), mine / "out.csv"
    shared.run("schedule", bad, "--yes", "--skip-invalid", "--rejects", str(out), by=ALICE)
    assert (out.stat().st_uid, mode_of(out)) == (ALICE, 0o600)


def test_export_goes_into_a_folder_of_one_s_own_alone(shared: Shared) -> None:
    theirs = shared.base / "theirs"
    theirs.mkdir()
    os.chown(theirs, MALLORY, MALLORY)
    theirs.chmod(0o777)
    status, said = shared.run("export", str(theirs), by=ALICE)
    assert (status != 0, list(theirs.iterdir())) == (True, []), said
    shared.smsbox("export", str(theirs / "new"), by=ALICE)
    assert mode_of(theirs / "new") == 0o700
    assert {mode_of(each) for each in (theirs / "new").iterdir()} == {0o600}


# --- the lock, the reserve, the status


def test_lock_of_the_daemon_writes_into_no_other_file(shared: Shared) -> None:
    mine = shared.state / "mine"
    with be(SERVICE):
        mine.write_text(SECRET)
        mine.chmod(0o600)
    with be(ALICE):
        shared.database.with_name("box.db.lock").unlink(missing_ok=True)
        shared.database.with_name("box.db.lock").symlink_to(mine)
    copy = shared.roots / "copy.db"
    shared.smsbox("backup", str(copy))
    status, said = shared.run("restore", str(copy), "--yes")
    assert mine.read_text() == SECRET, said
    assert (status != 0, "box.db.lock" in said) == (True, True)


def test_root_does_not_work_by_name_in_a_folder_of_its_own_that_others_may_write(
    shared: Shared,
) -> None:
    copy = shared.roots / "copy.db"
    shared.smsbox("backup", str(copy))
    os.chown(shared.state, 0, SERVICE)
    shared.state.chmod(0o2770)
    with be(ALICE):
        shared.database.with_name("box.db.lock").unlink(missing_ok=True)
        shared.database.with_name("box.db.lock").symlink_to(shared.secret)
    status, said = shared.run("restore", str(copy), "--yes")
    assert shared.secret.read_text().startswith(SECRET)
    assert status != 0
    assert "others may write" in said
    (shared.state / "deeper").mkdir(0o700)
    shared.database = shared.state / "deeper" / "box.db"
    assert "others may write" in shared.run("pause")[1]
    shared.database = shared.state / "box.db"
    for words in (("status",), ("pause",), ("backup", str(shared.roots / "b.db"))):
        assert shared.run(*words)[0] != 0


def test_pipe_in_the_place_of_the_lock_or_the_status_holds_nobody_up(shared: Shared) -> None:
    for name in ("box.db.lock", "box.db.status.json"):
        with be(ALICE):
            (shared.state / name).unlink(missing_ok=True)
            os.mkfifo(shared.state / name, 0o666)
        for by in (0, ALICE):
            shared.run("status", by=by)


AS_SERVICE = """
import os, sys
sys.path.insert(0, sys.argv[1])
import smsbox
from datetime import datetime, timezone
from pathlib import Path
database = smsbox.Database.create_or_open(sys.argv[2])
"""


SPREAD = """
try:
    copies = smsbox.CopyFolders(Path(database.path), sys.argv[3])
    copies.spread(datetime.now(timezone.utc), lambda: None)
except (OSError, smsbox.StoreError):
    pass
"""


def be_service(shared: Shared, code: str, *words: Path) -> None:
    subprocess.run(
        [shared.python, "-c", AS_SERVICE + code, shared.base, shared.database, *words],
        check=True, timeout=20, user=SERVICE, group=SERVICE, extra_groups=[], cwd=shared.base,
    )  # fmt: skip


def test_no_file_of_the_service_s_own_is_spread_as_a_copy(shared: Shared) -> None:
    """The SIM's PIN comes to the service as a file that it alone can read."""
    stick, pin = shared.base / "stick", shared.base / "sim_pin"
    stick.mkdir()
    pin.write_text(SECRET)
    for path in (stick, pin):
        os.chown(path, SERVICE, SERVICE)
    pin.chmod(0o400)
    folder = lay_backups(shared)
    with be(ALICE):
        (folder / "smsbox-2026-01-01.db").symlink_to(pin)
    be_service(shared, SPREAD, stick)
    assert list(stick.iterdir()) == []
    with be(ALICE):  # whoever may write a folder may rename what is the service's there
        (folder / "smsbox-2026-01-01.db").unlink()
    key = shared.state / "box.db.key"
    with be(SERVICE):
        key.write_text(SECRET)
        key.chmod(0o600)
    with be(ALICE):
        key.rename(folder / "smsbox-2026-01-01.db")
    be_service(shared, SPREAD, stick)
    assert list(stick.iterdir()) == []


def test_copies_of_days_to_come_drive_no_real_one_away(shared: Shared) -> None:
    folder, stick = lay_backups(shared), shared.base / "stick"
    stick.mkdir()
    os.chown(stick, SERVICE, SERVICE)
    shared.smsbox("backup", str(shared.roots / "copy.db"))
    whole = (shared.roots / "copy.db").read_bytes()
    for at, octets in (("2026-01-01", b"junk"), ("2099-01-01", whole)):
        with be(ALICE):
            (folder / f"smsbox-{at}.db").write_bytes(octets)
    real = [stick / f"smsbox-2025-01-0{day}.db" for day in range(1, 8)]
    for path in real:
        path.write_bytes(whole)
        os.chown(path, SERVICE, SERVICE)
    be_service(shared, SPREAD, stick)
    assert sorted(stick.iterdir()) == real


def test_nothing_that_is_there_is_opened_to_the_group(shared: Shared) -> None:
    key = shared.state / "box.db.key"
    with be(SERVICE):
        key.write_text(SECRET)
        key.chmod(0o600)
    with be(ALICE):
        shared.database.with_name("box.db.reserve").unlink(missing_ok=True)
        key.rename(shared.state / "box.db.reserve")
    be_service(shared, "database.find_shortage()")
    assert mode_of(shared.state / "box.db.reserve") == 0o600


def test_reserve_writes_into_no_other_file(shared: Shared) -> None:
    mine = shared.state / "mine"
    with be(SERVICE):
        mine.write_text(SECRET)
    with be(ALICE):
        shared.database.with_name("box.db.reserve").unlink(missing_ok=True)
        shared.database.with_name("box.db.reserve").symlink_to(mine)
    be_service(shared, "database.find_shortage()")
    assert mine.read_text() == SECRET


# --- the audit


SLIPS = {
    "an event is replaced": "INSERT OR REPLACE INTO events (id, at, actor, event)"
    " VALUES (1, '2020-01-01 00:00:00', 'bob', 'x')",
    "an event is made up": "INSERT INTO events (at, actor, event)"
    " VALUES ('2020-01-01 00:00:00', 'bob', 'x')",
    "who said stop is renamed": f"UPDATE opt_outs SET phone_number = '{BEN}'",
    "a stop becomes one that START lifts": "UPDATE opt_outs SET tier = 'keyword'",
    "a row is replaced": "REPLACE INTO scheduled_messages (id, phone_number, message_content,"
    f" scheduled_for) VALUES (1, '{BEN}', 'x', '2035-01-01')",
    "a row becomes another": "UPDATE scheduled_messages SET id = 77 WHERE id = 1",
    "a row takes another's place": "UPDATE OR REPLACE scheduled_messages SET rowid = 2"
    " WHERE id = 1",
    "a change is signed as the daemon's": "UPDATE scheduled_messages SET status = 'cancelled',"
    " actor = 'daemon', updated_at = '2020-01-01 00:00:00' WHERE id = 1",
    "a row is signed as bob's": "INSERT INTO scheduled_messages (phone_number, message_content,"
    f" scheduled_for, actor, created_at) VALUES ('{BEN}', 'x', '2035-01-01', 'bob',"
    " '2020-01-01 00:00:00')",
    "a stop is signed as bob's": "INSERT INTO opt_outs (phone_number, at, actor)"
    f" VALUES ('{BEN}', '2020-01-01 00:00:00', 'bob')",
    "a stop is taken back as bob": "DELETE FROM opt_outs",
}


@pytest.mark.parametrize("slip", SLIPS)
def test_what_is_written_by_hand_is_refused_or_leaves_its_event(
    database: smsbox.Database, slip: str
) -> None:
    hand = sqlite3.connect(database.path, isolation_level=None)
    for number in (ANA, BEN):
        hand.execute(
            "INSERT INTO scheduled_messages (phone_number, message_content, scheduled_for)"
            " VALUES (?, 'Hi', '2035-01-01 18:00:00')",
            (number,),
        )
    hand.execute("INSERT INTO opt_outs (phone_number) VALUES (?)", (CHLOE,))
    tables = ("events", "opt_outs", "scheduled_messages")

    def read(table: str) -> list[tuple[object, ...]]:
        return hand.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()

    before = {table: read(table) for table in tables}
    since = hand.execute("SELECT datetime('now')").fetchone()[0]
    with suppress(sqlite3.IntegrityError):
        hand.execute(SLIPS[slip])
    events = read("events")
    assert events[: len(before["events"])] == before["events"]
    added = events[len(before["events"]) :]
    if not added:
        assert {table: read(table) for table in tables} == before
    assert {event[2] for event in added} <= {"sql"}
    assert all(str(event[1]) >= since for event in added)
    hand.close()


def test_author_is_believed_where_root_began_alone(shared: Shared) -> None:
    for by, behind, actor in (
        (ALICE, {"SUDO_USER": "root", "SUDO_UID": "0"}, str(ALICE)),
        (ALICE, {"SUDO_USER": "nobody"}, str(ALICE)),
        (0, {"SUDO_USER": "nobody", "SUDO_UID": "65534"}, "nobody"),
        (0, {"SUDO_USER": "nobody", "SUDO_UID": "1"}, "root"),
        (0, {"SUDO_USER": "nobody"}, "root"),
        (0, {}, "root"),
    ):
        shared.run("pause", by=by, **behind)
        found = shared.look("SELECT actor FROM events ORDER BY id DESC LIMIT 1")
        assert found == [(actor,)], (by, behind)
        shared.run("resume", by=by, **behind)


# --- the PIN


def lose_the_answer(box: PlayedBox) -> None:
    class Cut(BaseException):
        pass

    def cut() -> bytes:
        raise Cut

    box.tables["modem"] = {"sim_pin": "4711"}
    box.far.answers[b"AT+CPIN?\r"] = b"\r\n+CPIN: SIM PIN\r\n\r\nOK\r\n"
    box.far.answers[b"AT+CCID\r"] = b"\r\nERROR\r\n"
    box.far.tellers[b'AT+CPIN="4711"\r'] = cut
    with pytest.raises(Cut):
        box.serve(120)


def test_pin_is_not_found_from_what_the_group_reads(box: PlayedBox) -> None:
    lose_the_answer(box)
    words = {value for _, value in box.sql("SELECT key, value FROM state")}
    iccids = ("", *(word for word in words if word.isdigit()))
    guesses = (f"{iccid} {pin:04}" for iccid in iccids for pin in range(10_000))
    assert not {hashlib.sha256(each.encode()).hexdigest() for each in guesses} & words
    for path in Path(box.path).parent.glob("*"):
        if path.is_file() and b"4711" in path.read_bytes():
            pytest.fail(f"it stands in {path}")
    key = Path(f"{box.path}.key")
    assert (mode_of(key), len(key.read_bytes())) == (0o600, 32)


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_key_that_others_know_is_not_used(shared: Shared, mode: int) -> None:
    key = shared.state / "box.db.key"
    with be(ALICE):
        key.write_bytes(b"k" * 32)
        key.chmod(mode)
    be_service(shared, """
made = smsbox.read_key(Path(sys.argv[3]))
assert made != b"k" * 32
assert smsbox.read_key(Path(sys.argv[3])) == made
""", key)  # fmt: skip
    assert (key.stat().st_uid, mode_of(key)) == (SERVICE, 0o600)


# --- what leaves the box


@pytest.mark.parametrize(
    "cell", ["x;=cmd|'/c calc'!A1;", "\n=1", "\uff1d1", "  @SUM(A1)", "x,\t+1", "ok;\uff0b1"]
)
def test_no_cell_of_a_reply_is_a_formula_wherever_it_is_cut(cell: str) -> None:
    guarded = smsbox.spreadsheet_cell(cell)
    for mark in ";,\t\n":
        for piece in guarded.split(mark):
            assert piece.strip()[:1] not in tuple("=+-@\uff1d\uff0b\uff0d\uff20"), guarded
    assert smsbox._read_cell([guarded], 0) == cell.strip()


@pytest.mark.parametrize(
    "line",
    [
        '+CLIP: "+14085550177",145,"",,"",0',
        '+CUSD: 0,"Your number is 408 555-0177",15',
        '+CNUM: "","(408) 555 0177",129',
        "861075034560177",
        "+CCID: 89014103211118550177",
        'AT+CUSD=1,"*104*14085550177#",15',
        '+CSCA: "+14085550177",145',
    ],
)
def test_dialogue_shows_no_whole_number(line: str) -> None:
    shown = smsbox._mask_secrets(line)
    assert "...0177" in shown
    assert sum(each.isdigit() for each in shown.partition("...")[2][:6]) == 4
    assert "55" not in shown


def test_dialogue_still_shows_the_rest() -> None:
    for line in (
        '+CCLK: "25/11/09,10:00:00-32"',
        "+CSQ: 20,99",
        '+COPS: 0,2,"310260",7',
        "+CMGS: 7",
    ):
        assert smsbox._mask_secrets(line) == line


# --- what fills the card


def flood(
    database: smsbox.Database, count: int, at: datetime, text: str | None, first: int
) -> None:
    with database.transaction():
        for n in range(first, first + count):
            request = smsbox.Request.NOTHING if text else smsbox.Request.PERHAPS_STOP
            number = f"+1909{2000000 + n}"
            database.inbox.add(f"{n:08x}" * 40, number, text, at, request, at)


def serve_copies(database: smsbox.Database, at: datetime) -> None:
    class Still:
        def now(self) -> datetime:
            return at

        def monotonic(self) -> float:
            return 0.0

        def until(self, deadline: float, port: object = None) -> None:
            pass

    smsbox.Copies("", database, Still()).tend(True)  # type: ignore[arg-type]


def test_texts_of_strangers_end_by_age_and_by_number_and_those_of_recipients_stay(
    database: smsbox.Database, now: datetime
) -> None:
    database.queue.add_row(ANA, "Hi", False, now, "ana")
    with database.transaction():
        database.inbox.add("ab" * 20, ANA, "Thanks!", now, smsbox.Request.NOTHING, now)
    flood(database, 300, now, "spam", 0)
    later = now + timedelta(days=91)
    flood(database, 7000, later, "spam", 1000)
    serve_copies(database, later)
    senders = [each["sender"] for each in database.inbox.texts(unread=False)]
    assert senders[0] == ANA
    assert len(senders) <= 5001
    assert not {f"+1909{2000000 + n}" for n in range(300)} & set(senders)
    (told,) = database.all("SELECT actor, detail FROM events WHERE event = 'purged'")
    assert (told["actor"], "strangers" in told["detail"]) == ("daemon", True)
    assert senders[-1] == f"+1909{2000000 + 7999}"


def test_doubtful_text_of_a_stranger_shuts_their_gate_without_its_words(
    database: smsbox.Database, now: datetime
) -> None:
    flood(database, 2, now, None, 0)
    flood(database, 1, now + timedelta(minutes=1), None, 1)  # once more
    with database.transaction():
        database.inbox.add("cd" * 20, "T-Mobile", None, now, smsbox.Request.NOTHING, now)
    serve_copies(database, now + timedelta(days=91))
    assert database.inbox.doubtful_senders() == ["+19092000000", "+19092000001"]
    kept = database.all("SELECT body, tpdu FROM inbound")
    assert [tuple(each) for each in kept] == [("", "")] * 2
    size = database.count("events")
    serve_copies(database, now + timedelta(days=92))
    assert database.count("events") == size


def test_waiting_part_costs_no_more_with_40_000_than_with_300(
    database: smsbox.Database, now: datetime
) -> None:
    def cost() -> float:
        took = []
        for _ in range(5):
            began = time.perf_counter()
            database.inbox.find_long_texts(now - timedelta(days=1), now)
            took.append(time.perf_counter() - began)
        return min(took)

    def add(count: int, first: int) -> None:
        with database.transaction():
            for n in range(first, first + count):
                place = (n % 250, 2, 1)
                database.inbox.add_part(f"{n:08x}" * 40, f"+1909{2000000 + n}", now, place, now)

    add(300, 0)
    few = cost()
    add(40_000, 300)
    assert cost() < 5 * few + 0.002


def test_oldest_of_too_many_parts_are_read_as_far_as_they_came(
    database: smsbox.Database, now: datetime
) -> None:
    with database.transaction():
        for n in range(320):
            number = f"+1909{2000000 + n}"
            database.inbox.add_part(f"{n:08x}" * 40, number, now, (1, 2, 1), now)
    found = database.inbox.find_long_texts(now - timedelta(days=1), now)
    assert len(found) == 20
    assert all(is_given_up for is_given_up, _ in found)
    assert [part for _, text in found for part, *_ in text] == list(range(1, 21))


def test_stops_and_doubtful_texts_of_strangers_slow_no_row(
    database: smsbox.Database, now: datetime
) -> None:
    """In a national form each may be anybody's, until it is compared."""

    def cost() -> float:
        took = []
        for _ in range(5):
            began = time.perf_counter()
            assert len(database.queue.rows(smsbox.RowFilter())) == 100
            assert ANA not in smsbox.Numbers(database.opt_outs.numbers())
            took.append(time.perf_counter() - began)
        return min(took)

    with database.transaction():
        for n in range(100):
            database.queue.add_row(f"+1213555{n:04}", "Hi", False, now, "ana")
    few = cost()
    with database.transaction():
        for n in range(10_000):
            database.opt_outs.add(f"07{n:09}", "STOP", now, "daemon", tier="keyword")
            text = (f"{n:08x}" * 10, f"06{n:09}", None, now, smsbox.Request.PERHAPS_STOP, now)
            database.inbox.add(*text)
    assert cost() < 5 * few + 0.1
