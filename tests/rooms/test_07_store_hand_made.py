"""What an operator does by hand: SQL that the database takes or refuses, commands that say why."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import smsbox
from rig.pace import LOS_ANGELES

UTC = timezone.utc
ROW = {
    "phone_number": "+12135552301",
    "customer_name": "Ana",
    "message_content": "Hi",
    "scheduled_for": "2025-11-09 18:00:00",
    "status": "scheduled",
    "campaign_name": "spring",
}


def add_row(database: smsbox.Database, **values: object) -> int:
    """Insert a row with the columns that the guide names, as the sqlite3 shell does."""
    row = {**ROW, **values}
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    return database.insert(
        f"INSERT INTO scheduled_messages ({names}) VALUES ({marks})", *row.values()
    )


def stored(database: smsbox.Database, column: str, row_id: int) -> object:
    return database.one(f"SELECT {column} FROM scheduled_messages WHERE id = ?", row_id)[0]


# --- times by SQL -------------------------------------------------------------------------------

NO_TIMES = ["2026-02-30 10:00:00", "2026-02-31", "2025-02-29T10:00Z", "2026-13-01 10:00:00",
            "2019-12-31 23:59:59", "2100-01-01 00:00:00", "9999-12-31 10:00:00", "10:00",
            "tomorrow", ""]  # fmt: skip


@pytest.mark.parametrize("written", NO_TIMES)
def test_time_that_is_in_no_calendar_or_far_away_is_refused(
    database: smsbox.Database, written: str
) -> None:
    with pytest.raises(smsbox.StoreError, match="scheduled_for is not a time of 2020 to 2099"):
        add_row(database, scheduled_for=written)
    row_id = add_row(database)
    with pytest.raises(smsbox.StoreError, match="write UTC as YYYY-MM-DD HH:MM:SS"):
        database.change("UPDATE scheduled_messages SET scheduled_for = ?", written)
    assert stored(database, "scheduled_for", row_id) == ROW["scheduled_for"]


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("2028-02-29", "2028-02-29 00:00:00"),
        ("2026-03-01 24:00:00", "2026-03-02 00:00:00"),
        ("2026-02-28T23:00:00-05:00", "2026-03-01 04:00:00"),
        ("2020-01-01 00:00:00", "2020-01-01 00:00:00"),
        ("2099-12-31 23:59:59", "2099-12-31 23:59:59"),
    ],
)
def test_time_in_another_form_of_sqlite_is_made_the_same(
    database: smsbox.Database, written: str, normal: str
) -> None:
    assert stored(database, "scheduled_for", add_row(database, scheduled_for=written)) == normal


@pytest.mark.parametrize("written", ["yesterday", "2026-02-30 10:00:00", "10:00"])
def test_sent_at_that_is_no_time_is_refused(database: smsbox.Database, written: str) -> None:
    row_id = add_row(database)
    with pytest.raises(smsbox.StoreError, match="sent_at is not a time of 2020 to 2099"):
        database.change("UPDATE scheduled_messages SET sent_at = ?", written)
    assert stored(database, "sent_at", row_id) is None


def test_row_whose_time_no_longer_is_one_stops_no_other(
    database: smsbox.Database, now: datetime
) -> None:
    broken, good = add_row(database), add_row(database, phone_number="+12135552302")
    database.change("DROP TRIGGER scheduled_for_checked_update")
    database.change("DROP TRIGGER scheduled_for_normal_update")
    database.change("DROP TRIGGER sent_at_checked_update")
    database.change("DROP TRIGGER sent_at_normal_update")
    database.change("PRAGMA ignore_check_constraints = ON")
    database.change(
        "UPDATE scheduled_messages SET scheduled_for = '2026-02-30 10:00:00', sent_at = 'x'"
        " WHERE id = ?", broken,
    )  # fmt: skip
    queue = database.queue
    rows = {row.id: row for row in queue.rows(smsbox.RowFilter())}
    assert len(rows) == len(queue.waiting()) == 2
    assert queue.last_scheduled() is not None
    row = rows[smsbox.MessageId(broken)]
    assert row.scheduled_for < now - timedelta(days=365)  # so the daemon holds it as expired
    queue.hold(row.id, smsbox.HeldCode.LATE, "it expired", now)
    following = queue.next_row()
    assert following is not None
    assert following.id == good


def test_octets_that_are_no_text_stop_no_other_row(database: smsbox.Database) -> None:
    database.insert(
        "INSERT INTO scheduled_messages (phone_number, message_content, scheduled_for)"
        " VALUES ('+12135552301', CAST(x'4869ff' AS TEXT), '2025-11-09 18:00:00')"
    )  # fmt: skip
    add_row(database)
    rows = database.queue.rows(smsbox.RowFilter())
    assert [row.message_content for row in rows] == ["Hi\ufffd", "Hi"]


@pytest.mark.parametrize(
    "column", ["phone_number", "customer_name", "message_content", "scheduled_for",
               "campaign_name", "error_message", "held_because"],
)  # fmt: skip
def test_blob_in_a_column_of_text_is_refused(database: smsbox.Database, column: str) -> None:
    with pytest.raises(smsbox.StoreError, match="no blob: CAST it AS TEXT"):
        add_row(database, **{column: str(ROW.get(column, "x")).encode()})


# --- opt-outs by SQL ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    ["(213) 555-2301", "213-555-2301", "+1 213 555 2301", "+0213555230", "+1213555",
     "+1234567890123456", "+1213555230x", ""],
)  # fmt: skip
def test_opt_out_in_another_spelling_is_refused_and_not_ignored(
    database: smsbox.Database, number: str
) -> None:
    with pytest.raises(smsbox.StoreError, match=r"phone_number is \+ and 8 to 15 digits"):
        database.change("INSERT INTO opt_outs (phone_number) VALUES (?)", number)
    assert database.opt_outs.numbers() == frozenset()


def test_opt_out_by_hand_needs_its_number_alone(database: smsbox.Database) -> None:
    database.change("INSERT INTO opt_outs (phone_number) VALUES ('+12135552301')")
    assert database.opt_outs.at("+12135552301")


@pytest.mark.parametrize(
    "sender",
    ["72345", "ALERTS", "0012135552301", "447700900123", "2135552301", "12135552301",
     "07700900123", "8123456789"],
)  # fmt: skip
def test_stop_of_a_sender_in_another_form_is_kept_as_the_network_gave_it(
    database: smsbox.Database, now: datetime, sender: str
) -> None:
    assert database.opt_outs.add(sender, "STOP", now, "daemon") == 0
    assert database.opt_outs.numbers() == frozenset([sender])


@pytest.mark.parametrize("sender", ["", "*123#", "+12"])
def test_stop_of_a_sender_that_nobody_can_write_to_does_no_harm(
    database: smsbox.Database, now: datetime, sender: str
) -> None:
    assert database.opt_outs.add(sender, "STOP", now, "daemon") == 0
    assert database.opt_outs.numbers() == frozenset()


# --- files that are not ours --------------------------------------------------------------------


@pytest.mark.parametrize("open_it", [smsbox.Database.create_or_open, smsbox.Database.open_to_read])
def test_another_program_s_database_is_refused_and_left_as_it_is(
    tmp_path: Path, open_it: Callable[[str], smsbox.Database]
) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE recipes (name TEXT)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(smsbox.StoreError, match="no smsbox database"):
        open_it(str(path))
    assert path.read_bytes() == before


# --- commands -----------------------------------------------------------------------------------


@dataclass
class Shell:
    """Commands on one database, in this process."""

    path: Path
    capsys: pytest.CaptureFixture[str]
    out: str = ""
    err: str = ""

    def run(self, *words: str) -> int:
        try:
            return smsbox.main(["--database", str(self.path), *words])
        finally:
            self.out, self.err = self.capsys.readouterr()


@pytest.fixture
def shell(
    tmp_path: Path,
    database: smsbox.Database,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Shell:
    config = tmp_path / "box.toml"
    config.write_text("")
    monkeypatch.setenv("SMSBOX_CONFIG", str(config))
    return Shell(Path(database.path), capsys)


def in_days(days: float) -> str:
    return smsbox.to_database_time(datetime.now(UTC) + timedelta(days=days))


def test_show_of_a_message_tells_consent_replies_and_opt_out(
    shell: Shell, database: smsbox.Database, now: datetime
) -> None:
    row_id = add_row(database, phone_number="(213) 555-2301", consent_at="2025-01-02",
                     consent_source="shop form")  # fmt: skip
    inbox = database.inbox
    for number, body in (("+12135552301", "Stop it"), ("+12135552302", "not hers")):
        inbox.add(body, number, body, now, smsbox.Request.STOP, now)
    database.opt_outs.add("+12135552301", "Stop it", now, "daemon")
    assert shell.run("show", str(row_id)) == 0
    assert "consent 2025-01-02 shop form" in shell.out
    assert "11/09 10:00 AM  +12135552301 Ana  [stop]: Stop it" in shell.out
    assert "nothing any more since 11/09 10:00 AM: Stop it" in shell.out
    assert "not hers" not in shell.out
    assert shell.run("show", str(row_id), "--json") == 0
    told = json.loads(shell.out)
    assert (told["consent_at"], told["consent_source"]) == ("2025-01-02", "shop form")
    assert [reply["body"] for reply in told["replies"]] == ["Stop it"]
    assert told["opt_out"]["words"] == "Stop it"


def test_show_of_a_number_that_only_said_stop_works(
    shell: Shell, database: smsbox.Database, now: datetime
) -> None:
    database.opt_outs.add("+12135552301", "", now, "daemon", "by the operator")
    assert shell.run("show", "213-555-2301") == 0
    assert "by the operator" in shell.out
    assert shell.run("show", "213-555-2301", "--json") == 0
    told = json.loads(shell.out)
    assert told["phone_number"] == told["opt_out"]["phone_number"] == "+12135552301"
    assert shell.run("show", "213-555-2302") == 2
    assert "there is no message to +12135552302" in shell.err


@pytest.mark.parametrize("text", ["Hi (BUBBLE) there", "Hi [BUBBLE1] there", "[BUBBLE]"])
def test_send_refuses_a_near_miss_of_the_mark_like_schedule_does(shell: Shell, text: str) -> None:
    assert shell.run("send", "213-555-2301", text, "--anyway") == 2
    with pytest.raises(ValueError, match=r"\S") as wrong:
        smsbox.check_text(text)
    assert str(wrong.value) in shell.err


def test_status_names_failed_rows_and_what_to_do(shell: Shell, database: smsbox.Database) -> None:
    add_row(database, status="failed")
    shell.run("status")
    assert "warning  failed     1 message: smsbox list --status failed, then retry" in shell.out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["cancel", "213-555-2301"], "None of 2 messages is scheduled: 2 sent."),
        (["cancel", "--campaign", "spring"], "None of 2 messages is scheduled: 2 sent."),
        (["cancel", "--all"], "None of 3 messages is scheduled: 2 sent, 1 failed."),
        (["reschedule", "--campaign", "spring", "--by", "1h"],
         "None of 2 messages is scheduled: 2 sent."),
        (["retry", "213-555-2301"], "None of 2 messages is failed: 2 sent."),
        (["release", "--campaign", "spring"], "None of 2 messages is held: 2 sent."),
        (["release", "1"], "Message 1 is sent, not held."),
        (["cancel", "1"], "Message 1 is sent, not scheduled."),
    ],
)  # fmt: skip
def test_command_none_of_whose_rows_fits_says_why(
    shell: Shell, database: smsbox.Database, words: list[str], why: str
) -> None:
    add_row(database, status="sent")
    add_row(database, status="sent", message_content="Ho")
    add_row(database, status="failed", campaign_name="", phone_number="+12135552302")
    assert shell.run(*words) == 1
    assert why in shell.err.splitlines()


def test_cancel_without_any_message_says_so(shell: Shell) -> None:
    assert shell.run("cancel", "--all") == 1
    assert shell.err == "There is no message.\n"


def test_held_row_is_cancelled_and_released_by_its_state(
    shell: Shell, database: smsbox.Database
) -> None:
    row_id = add_row(database, scheduled_for=in_days(2), held_because="it expired")
    assert shell.run("release", str(row_id)) == 0
    assert shell.run("release", str(row_id)) == 1
    assert f"Message {row_id} is scheduled, not held." in shell.err
    add_row(database, held_because="it expired")
    assert shell.run("cancel", "--campaign", "spring", "--yes") == 0
    assert "Cancelled 2 messages." in shell.out


def test_reschedule_by_a_negative_span_needs_no_equals_sign(
    shell: Shell, database: smsbox.Database
) -> None:
    row_id = add_row(database, scheduled_for="2099-03-01 12:00:00")
    assert shell.run("reschedule", str(row_id), "--by", "-30m") == 0
    assert stored(database, "scheduled_for", row_id) == "2099-03-01 11:30:00"
    assert " 2099." in shell.out


def test_reschedule_shows_the_year_only_when_it_is_a_far_one(
    shell: Shell, database: smsbox.Database
) -> None:
    row_id = add_row(database, scheduled_for=in_days(2))
    assert shell.run("reschedule", str(row_id), "--by", "1d") == 0
    assert shell.out.splitlines()[0].endswith("M.")
    assert shell.run("reschedule", str(row_id), "--by", "900d") == 0
    far = datetime.now(UTC) + timedelta(days=903)
    assert str(far.astimezone(LOS_ANGELES).year) in shell.out


@pytest.mark.parametrize(("by", "status"), [("99999d", 2), ("-99999d", 2), ("999999d", 2)])
def test_reschedule_out_of_all_time_is_refused_in_one_sentence(
    shell: Shell, database: smsbox.Database, by: str, status: int
) -> None:
    row_id = add_row(database, scheduled_for="2099-12-31 23:59:59")
    assert shell.run("reschedule", str(row_id), "--by", by) == status
    assert len(shell.err.splitlines()) == 1
    assert stored(database, "scheduled_for", row_id) == "2099-12-31 23:59:59"
