"""Store: the schema, the operator's SQL, the audit, and the guarded steps of a message's way."""

from __future__ import annotations

import os
import pwd
import sqlite3
import stat
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import smsbox
from smsbox import Database, MessageId, PhoneNumber, RowFilter, RowStatus, StoreError

UTC = timezone.utc
ANA, BEN = PhoneNumber("+12135552313"), PhoneNumber("+12135552314")
FIVE = "one [BUBBLE] two [BUBBLE] three [BUBBLE] four [BUBBLE] five"
NO_TIME = "scheduled_for is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS"


class Hand:
    """The operator with the sqlite3 shell: a connection of its own, autocommit, no pragmas."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)

    def sql(self, statement: str, *values: object) -> list[Any]:
        return self.connection.execute(statement, values).fetchall()

    def insert(self, text: str = "Hi", due: str = "2025-11-09 18:00:00", **more: object) -> int:
        """Insert a row as the guide does, with its six columns only."""
        row = {
            "phone_number": ANA, "customer_name": "Ana", "message_content": text,
            "scheduled_for": due, "status": "scheduled", "campaign_name": "fall", **more,
        }  # fmt: skip
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        statement = f"INSERT INTO scheduled_messages ({names}) VALUES ({marks}) RETURNING id"
        return int(self.sql(statement, *row.values())[0][0])

    def row(self, row_id: int, columns: str = "status, error_message") -> Any:
        return self.sql(f"SELECT {columns} FROM scheduled_messages WHERE id = ?", row_id)[0]

    def update(self, row_id: int, assignments: str) -> None:
        self.sql(f"UPDATE scheduled_messages SET {assignments} WHERE id = ?", row_id)

    def bubbles(self, row_id: int, column: str = "status") -> list[str]:
        found = self.sql(
            f"SELECT {column} FROM messages WHERE scheduled_message_id = ? ORDER BY bubble", row_id
        )
        return [each[0] for each in found]

    def events(self, row_id: int) -> list[tuple[str, str]]:
        return self.sql(
            "SELECT actor, event FROM events WHERE scheduled_message_id = ? ORDER BY id", row_id
        )

    def last_detail(self, row_id: int) -> str:
        (detail,) = self.sql(
            "SELECT detail FROM events WHERE scheduled_message_id = ? ORDER BY id DESC LIMIT 1",
            row_id,
        )[0]
        return str(detail)


class Way:
    """A message's way through the store, as the daemon goes it."""

    def __init__(self, database: Database, now: datetime) -> None:
        self.database = database
        self.queue, self.sending = database.queue, database.sending
        self.now = now

    def read(self, row_id: int) -> smsbox.StoredRow:
        row = self.queue.row(MessageId(row_id))
        assert row is not None
        return row

    def claim(self, row_id: int) -> bool:
        row = self.read(row_id)
        return self.sending.claim(row, ANA, smsbox.split_bubbles(row.message_content), self.now)

    def bubble(self, row_id: int) -> smsbox.Bubble:
        bubble = self.sending.next_bubble(MessageId(row_id))
        assert bubble is not None
        return bubble

    def begin(self, row_id: int, sequence: int = 1, total: int = 1) -> smsbox.Segment:
        segment = smsbox.Segment(self.bubble(row_id), sequence, total)
        assert self.sending.begin_segment(segment, self.now)
        return segment

    def send(self, row_id: int, sequence: int = 1, total: int = 1) -> None:
        self.end(self.begin(row_id, sequence, total))

    def end(
        self, segment: smsbox.Segment, status: str = "sent", words: str = "", reference: int = 7
    ) -> None:
        """End a segment as sent, failed or unconfirmed."""
        kind = smsbox.BubbleStatus(status)
        given = reference if status == "sent" else None
        self.sending.end_segment(segment, kind, self.now, reference=given, words=words)

    def fail(self, row_id: MessageId, words: str) -> None:
        with self.database.transaction():
            self.queue.end(row_id, RowStatus.FAILED, words, self.now)


@pytest.fixture
def hand(database: Database) -> Iterator[Hand]:
    opened = Hand(database.path)
    yield opened
    opened.connection.close()


@pytest.fixture
def way(database: Database, now: datetime) -> Way:
    return Way(database, now)


# --- the file


def test_new_database_is_durable_small_paged_and_shared_with_its_group(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    kept = os.umask(0o077)
    try:
        database = Database.create_or_open(str(tmp_path / "new" / "box.db"))
    finally:
        os.umask(kept)
    asked = ("journal_mode", "synchronous", "page_size", "foreign_keys")
    assert [database.one(f"PRAGMA {name}")[0] for name in asked] == ["wal", 2, 1024, 1]
    database.state.set_key("paused_because", "a word")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
    assert modes.pop("box.db") == modes.pop("box.db-wal") == 0o660
    database.close()


@pytest.mark.parametrize("opens", [Database.create_or_open, Database.open_to_read])
def test_newer_schema_is_refused_and_left_alone(
    tmp_path: Path, opens: Callable[[str], Database]
) -> None:
    path = tmp_path / "box.db"
    Database.create_or_open(str(path)).close()
    hand = Hand(str(path))
    hand.sql(f"PRAGMA user_version = {smsbox.SCHEMA_VERSION + 1}")
    hand.connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer smsbox"):
        opens(str(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all " * 100, b"SQLite format 3\0" * 100])
def test_file_that_is_no_database_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "box.db").write_bytes(content)
    for opens in (Database.create_or_open, Database.open_to_read):
        with pytest.raises(StoreError, match=r"no smsbox database|damaged") as told:
            opens(str(tmp_path / "box.db")).one("SELECT * FROM scheduled_messages")
        assert str(tmp_path / "box.db") in str(told.value)


def test_reading_writes_not_a_byte(tmp_path: Path) -> None:
    path = str(tmp_path / "box.db")
    with pytest.raises(StoreError):
        Database.open_to_read(path)
    Database.create_or_open(path).close()
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    reading = Database.open_to_read(path)
    assert reading.queue.next_row() is None
    with pytest.raises(StoreError):
        reading.state.set_key("paused_because", "a word")
    reading.close()
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_database_that_another_writes_is_busy_in_words(database: Database, hand: Hand) -> None:
    database.all("PRAGMA busy_timeout = 0")
    hand.sql("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="busy: try again") as told:
        database.state.set_key("paused_because", "a word")
    assert told.value.exit_status == 75
    hand.sql("COMMIT")


def test_transaction_that_breaks_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction():
        database.state.set(paused_because="half a thought")
        _ = 1 // 0
    assert database.state.get("paused_because") == ""
    with database.transaction():  # the lock is free again
        database.state.set_key("paused_because", "a word")
    assert database.state.get("paused_because") == "a word"


# --- what the schema refuses and mends


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE scheduled_messages SET status = 'Sent'",
        "UPDATE scheduled_messages SET status = NULL",
        "UPDATE scheduled_messages SET anyway = 2",
        "UPDATE messages SET status = 'done'",
        "UPDATE segments SET status = 'queued'",
        "INSERT INTO segments (message_id, sequence, total, status, submitted_at)"
        " VALUES (1, 1, 1, 'sent', '')",
        "UPDATE events SET actor = 'nobody'",
        "DELETE FROM events",
    ],
)
def test_schema_refuses_what_no_row_may_be(way: Way, hand: Hand, statement: str) -> None:
    row_id = hand.insert()
    way.claim(row_id)
    way.send(row_id)
    before = hand.events(row_id), hand.row(row_id), hand.bubbles(row_id)
    with pytest.raises(sqlite3.IntegrityError):
        hand.sql(statement)
    assert (hand.events(row_id), hand.row(row_id), hand.bubbles(row_id)) == before


TIMES = [
    ("2025-11-09 18:00:00", "2025-11-09 18:00:00"),
    ("2025-11-09T18:00:00Z", "2025-11-09 18:00:00"),
    ("2025-11-09 10:00-08:00", "2025-11-09 18:00:00"),
    ("2025-11-09 18:00:00.75", "2025-11-09 18:00:00"),
    ("2025-11-09 18:00", "2025-11-09 18:00:00"),
    ("2025-11-09", "2025-11-09 00:00:00"),
    (2460989.25, "2025-11-09 18:00:00"),
]


@pytest.mark.parametrize(("written", "kept"), TIMES)
def test_time_that_sqlite_knows_is_normalised(hand: Hand, written: Any, kept: str) -> None:
    inserted = hand.insert(due=written)
    assert hand.row(inserted, "scheduled_for") == (kept,)
    updated = hand.insert(due="2030-01-01 00:00:00")
    hand.sql("UPDATE scheduled_messages SET scheduled_for = ? WHERE id = ?", written, updated)
    assert hand.row(updated, "scheduled_for") == (kept,)
    assert hand.events(updated) == [("sql", "added"), ("sql", "moved")]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.datetimes(datetime(2020, 1, 2), datetime(2099, 12, 30)),
    st.integers(-14 * 60, 14 * 60),
)
def test_time_of_any_zone_is_normalised_to_utc(hand: Hand, wall: datetime, minutes: int) -> None:
    wall = wall.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
    row_id = hand.insert(due=wall.isoformat())
    (kept,) = hand.row(row_id, "scheduled_for")
    assert kept == f"{wall.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


@pytest.mark.parametrize(
    "written", ["tomorrow", "", "18:00", "11/09/2025 10:00", "2025-13-01 10:00", "1970-01-01", None]
)
def test_what_is_no_time_is_refused_with_a_sentence(hand: Hand, written: Any) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=NO_TIME):
        hand.insert(due=written)
    row_id = hand.insert()
    with pytest.raises(sqlite3.IntegrityError, match=NO_TIME):
        hand.sql("UPDATE scheduled_messages SET scheduled_for = ?", written)
    assert hand.row(row_id, "scheduled_for") == ("2025-11-09 18:00:00",)


@pytest.mark.parametrize(("written", "kept"), TIMES[1:3])
def test_sent_at_of_a_hand_is_normalised_too(way: Way, hand: Hand, written: Any, kept: str) -> None:
    row_id = hand.insert()
    hand.sql(
        "UPDATE scheduled_messages SET status = 'sent', sent_at = ? WHERE id = ?", written, row_id
    )
    assert hand.row(row_id, "sent_at") == (kept,)
    assert way.read(row_id).sent_at is not None


# --- the operator's SQL


def test_row_with_hand_made_columns_only_is_the_next_and_goes_its_way(way: Way, hand: Hand) -> None:
    row_id = hand.insert("A test [BUBBLE] in two")
    row = way.queue.next_row()
    assert row is not None
    assert (row.id, row.held_because, row.anyway, row.attempts) == (row_id, "", False, 0)
    assert way.claim(row_id)
    way.send(row_id)
    assert hand.row(row_id) == ("scheduled", None)
    way.send(row_id)
    assert hand.row(row_id, "status, sent_at") == ("sent", "2025-11-09 18:00:00")
    assert hand.bubbles(row_id, "body") == ["A test", "in two"]
    assert hand.events(row_id) == [("sql", "added"), ("daemon", "sent")]


def test_cancelling_all_by_sql_touches_only_what_is_scheduled(way: Way, hand: Hand) -> None:
    sent, waits, other = hand.insert(), hand.insert(), hand.insert(campaign_name="spring")
    way.claim(sent)
    way.send(sent)
    hand.sql("UPDATE scheduled_messages SET status = 'cancelled' WHERE status = 'scheduled'")
    assert [hand.row(each)[0] for each in (sent, waits, other)] == ["sent", *["cancelled"] * 2]
    assert way.queue.next_row() is None
    assert hand.events(waits) == [("sql", "added"), ("sql", "cancelled")]
    assert way.queue.is_drained()


def test_pushing_back_by_sql_moves_every_row_and_says_so(way: Way, hand: Hand) -> None:
    row_id = hand.insert()
    hand.sql(
        "UPDATE scheduled_messages SET scheduled_for = datetime(scheduled_for, '+30 minutes')"
        " WHERE status = 'scheduled'"
    )
    assert way.read(row_id).scheduled_for == datetime(2025, 11, 9, 18, 30, tzinfo=UTC)
    assert hand.events(row_id)[-1] == ("sql", "moved")
    assert hand.last_detail(row_id) == "from 2025-11-09 18:00:00 to 2025-11-09 18:30:00"


@pytest.mark.parametrize(
    ("change", "event", "detail"),
    [
        ("status = 'cancelled'", "cancelled", "was scheduled"),
        ("status = 'failed', error_message = 'by hand'", "failed", "was scheduled by hand"),
        ("held_because = 'wait for Ana'", "held", "wait for Ana"),
        ("message_content = 'New'", "edited", "new text"),
        ("phone_number = '+12135550199'", "edited", "new number"),
        ("anyway = 1", "edited", "anyway"),
    ],
)
def test_every_change_by_sql_is_audited_and_touches_the_row(
    hand: Hand, change: str, event: str, detail: str
) -> None:
    row_id = hand.insert(updated_at="2025-01-01 00:00:00")
    hand.update(row_id, change)
    assert hand.events(row_id) == [("sql", "added"), ("sql", event)]
    assert hand.last_detail(row_id) == detail
    assert hand.row(row_id, "updated_at > '2025-01-01 00:00:00'") == (1,)


def test_deleting_and_releasing_by_sql_are_audited(hand: Hand) -> None:
    row_id = hand.insert(held_because="x")
    hand.update(row_id, "held_because = NULL")
    hand.sql("DELETE FROM scheduled_messages")
    assert hand.events(row_id) == [("sql", "added"), ("sql", "released"), ("sql", "deleted")]


def test_audit_names_who_did_it(way: Way, hand: Hand) -> None:
    login = pwd.getpwuid(os.getuid()).pw_name
    row_id = way.queue.add_row(ANA, "Hi", False, way.now, login)
    way.database.queue.cancel([row_id], way.now, login)
    hand.update(row_id, "status = 'scheduled'")
    way.queue.hold(row_id, smsbox.HeldCode.LATE, "it expired", way.now)
    hand.update(row_id, "held_because = NULL")
    way.fail(row_id, "no such number")
    assert hand.events(row_id) == [
        (login, "added"), (login, "cancelled"), ("sql", "scheduled"), ("daemon", "held"),
        ("sql", "released"), ("daemon", "failed"),
    ]  # fmt: skip
    assert hand.row(row_id, "actor") == (None,)
    assert {at for (at,) in hand.sql("SELECT at FROM events WHERE actor = 'daemon'")} == {
        "2025-11-09 18:00:00"
    }


# --- the guarded steps


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE scheduled_messages SET status = 'cancelled'",
        "UPDATE scheduled_messages SET held_because = 'wait'",
        "UPDATE scheduled_messages SET scheduled_for = '2026-01-01'",
        "UPDATE scheduled_messages SET message_content = 'Another text'",
        "UPDATE scheduled_messages SET phone_number = '+12135552399'",
        "DELETE FROM scheduled_messages",
    ],
)
def test_claim_of_a_row_that_changed_since_it_was_read_is_lost(
    way: Way, hand: Hand, meanwhile: str
) -> None:
    row_id = hand.insert()
    row = way.read(row_id)
    hand.sql(meanwhile)
    assert not way.sending.claim(row, ANA, ["Hi"], way.now)
    assert hand.bubbles(row_id) == []


def test_row_of_who_said_stop_is_not_claimed(way: Way, hand: Hand) -> None:
    row_id = hand.insert(phone_number="(213) 555-2313")
    hand.sql("INSERT INTO opt_outs (phone_number, at) VALUES (?, '2025-11-01 10:00:00')", ANA)
    assert not way.claim(row_id)
    assert hand.bubbles(row_id) == []


def test_row_cancelled_after_two_of_five_bubbles_says_so(way: Way, hand: Hand) -> None:
    row_id = hand.insert(FIVE)
    way.claim(row_id)
    way.send(row_id)
    way.send(row_id)
    third = way.bubble(row_id)
    hand.update(row_id, "status = 'cancelled'")
    assert hand.row(row_id) == ("cancelled", "2 of 5 bubbles were sent")
    assert hand.bubbles(row_id) == ["sent"] * 2 + ["cancelled"] * 3
    assert not way.sending.begin_segment(smsbox.Segment(third, 1, 1), way.now)
    assert hand.bubbles(row_id) == ["sent"] * 2 + ["cancelled"] * 3
    assert way.sending.next_bubble(MessageId(row_id)) is None


def test_row_cancelled_between_two_segments_of_a_bubble_sends_no_more(way: Way, hand: Hand) -> None:
    row_id = hand.insert("Long [BUBBLE] last")
    way.claim(row_id)
    way.send(row_id, 1, 2)
    bubble = way.bubble(row_id)
    hand.update(row_id, "status = 'cancelled'")
    assert not way.sending.begin_segment(smsbox.Segment(bubble, 2, 2), way.now)
    assert hand.sql("SELECT sequence, status FROM segments") == [(1, "sent")]


def test_row_cancelled_by_sql_while_the_modem_has_its_segment_stays_cancelled(
    way: Way, hand: Hand
) -> None:
    row_id = hand.insert("One [BUBBLE] two")
    way.claim(row_id)
    bubble = way.begin(row_id)
    hand.update(row_id, "status = 'cancelled'")
    way.end(bubble)
    assert hand.row(row_id) == ("cancelled", "1 of 2 bubbles were sent")
    assert hand.bubbles(row_id) == ["sent", "cancelled"]


def test_command_does_not_cancel_what_is_with_the_modem(way: Way, hand: Hand) -> None:
    row_id, free = MessageId(hand.insert("One [BUBBLE] two")), MessageId(hand.insert())
    way.claim(row_id)
    bubble = way.begin(row_id)
    assert way.database.queue.cancel([row_id, free], way.now, "ana") == [free]
    assert hand.row(row_id) == ("scheduled", None)
    way.end(bubble)
    assert way.database.queue.cancel([row_id, free], way.now, "ana") == [row_id]


@pytest.mark.parametrize("status", ["sent", "cancelled", "failed"])
def test_row_that_is_done_is_not_moved_held_cancelled_or_failed(
    way: Way, hand: Hand, status: str
) -> None:
    row_id = MessageId(hand.insert(status=status))
    row = way.read(row_id)
    later = way.now + timedelta(days=1)
    way.queue.reschedule_many([(row_id, later)], way.now, "ana")
    way.queue.postpone(row, later, "busy", way.now)
    way.queue.hold(row_id, smsbox.HeldCode.LATE, "x", way.now)
    way.fail(row_id, "x")
    assert way.database.queue.cancel([row_id], way.now, "ana") == []
    assert way.database.queue.release([row_id], way.now, "ana") == 0
    assert way.read(row_id) == row
    assert hand.events(row_id) == [("sql", "added")]


def test_unconfirmed_row_set_back_by_sql_fails_again_with_an_event(way: Way, hand: Hand) -> None:
    row_id = hand.insert(FIVE)
    way.claim(row_id)
    way.send(row_id)
    way.end(way.begin(row_id), "unconfirmed", "the modem gave no result")
    states = ["sent", "unconfirmed", *["cancelled"] * 3]
    assert hand.bubbles(row_id) == states
    assert "may have been sent: bubble 2 of 5" in hand.row(row_id)[1]
    hand.update(row_id, "status = 'scheduled', error_message = NULL")
    assert not way.claim(row_id)
    status, words = hand.row(row_id)
    assert status == "failed"
    assert "may have been sent" in words
    assert "--even-if-it-may-repeat" in words
    assert hand.bubbles(row_id) == states
    assert hand.events(row_id)[-2:] == [("sql", "scheduled"), ("daemon", "failed")]
    assert "may have been sent" in hand.last_detail(row_id)


def test_unconfirmed_row_is_retried_on_the_operator_s_word_alone(way: Way, hand: Hand) -> None:
    row_id = MessageId(hand.insert("One [BUBBLE] two"))
    way.claim(row_id)
    way.send(row_id)
    way.end(way.begin(row_id), "unconfirmed", "silence")
    assert way.database.queue.retry([row_id], False, way.now, "ana") == []
    assert hand.row(row_id)[0] == "failed"
    assert way.database.queue.retry([row_id], True, way.now, "ana") == [row_id]
    assert way.claim(row_id)
    assert way.bubble(row_id).body == "two"
    way.send(row_id)
    assert hand.row(row_id) == ("sent", None)


@pytest.mark.parametrize("by", ["command", "sql"])
def test_retry_goes_on_after_the_last_sent_segment(way: Way, hand: Hand, by: str) -> None:
    row_id = MessageId(hand.insert(FIVE))
    way.claim(row_id)
    way.send(row_id)
    way.send(row_id, 1, 3)
    way.queue.postpone(way.read(row_id), way.now, "CMS 42 congestion", way.now)
    assert hand.row(row_id, "attempts, error_message") == (1, "CMS 42 congestion")
    way.end(way.begin(row_id, 2, 3), "failed", "CMS 21 rejected")
    assert hand.bubbles(row_id) == ["sent", "failed", *["cancelled"] * 3]
    assert hand.row(row_id) == ("failed", "CMS 21 rejected")
    if by == "sql":
        hand.update(row_id, "status = 'scheduled', scheduled_for = datetime('now')")
    else:
        assert way.database.queue.retry([row_id], False, way.now, "ana") == [row_id]
    assert hand.row(row_id, "attempts") == (0,)
    assert way.claim(row_id)
    bubble = way.bubble(row_id)
    assert (bubble.number, set(way.sending.sent_sequences(bubble.id))) == (2, {1})
    way.send(row_id, 2, 3)
    assert hand.bubbles(row_id) == ["sent", "sending", *["queued"] * 3]
    way.send(row_id, 3, 3)
    assert hand.bubbles(row_id) == ["sent", "sent", *["queued"] * 3]


def test_sent_row_set_back_by_sql_is_not_sent_again(way: Way, hand: Hand) -> None:
    row_id = hand.insert()
    way.claim(row_id)
    way.send(row_id)
    hand.update(row_id, "status = 'scheduled'")
    assert not way.claim(row_id)
    assert hand.row(row_id, "status, sent_at") == ("sent", "2025-11-09 18:00:00")
    assert hand.bubbles(row_id) == ["sent"]


@pytest.mark.parametrize(("begun", "body"), [(True, "two"), (False, "mended")])
def test_text_edited_after_the_split_counts_only_while_nothing_was_sent(
    way: Way, hand: Hand, begun: bool, body: str
) -> None:
    row_id = hand.insert("one [BUBBLE] two")
    way.claim(row_id)
    if begun:
        way.send(row_id)
    hand.update(row_id, "message_content = 'mended'")
    assert hand.events(row_id)[-1] == ("sql", "edited")
    assert ("too late" in hand.last_detail(row_id)) is begun
    assert way.claim(row_id)
    assert way.bubble(row_id).body == body
    assert hand.bubbles(row_id, "body") == (["one", "two"] if begun else ["mended"])


def test_segment_that_was_not_handed_over_leaves_no_trace(way: Way, hand: Hand) -> None:
    row_id = MessageId(hand.insert())
    way.claim(row_id)
    way.sending.withdraw_segment(way.begin(row_id))
    assert hand.sql("SELECT * FROM segments") == []
    assert hand.bubbles(row_id) == ["queued"]
    assert not way.read(row_id).is_begun


def test_segment_with_the_modem_at_the_crash_is_found_and_never_begun_anew(
    way: Way, hand: Hand
) -> None:
    crashed, whole = hand.insert("one [BUBBLE] two"), hand.insert("one [BUBBLE] two")
    way.claim(crashed)
    way.begin(crashed)
    way.claim(whole)
    way.send(whole, 1, 2)
    (found,) = way.sending.recover()
    assert (found.bubble.row_id, found.sequence, found.total) == (crashed, 1, 1)
    assert hand.bubbles(crashed) == ["sending", "queued"]
    way.end(found, "unconfirmed", "segment 1 of 1: a crash")
    assert hand.bubbles(crashed) == ["unconfirmed", "cancelled"]
    assert hand.row(crashed)[0] == "failed"
    assert "may have been sent" in hand.row(crashed)[1]
    assert hand.bubbles(whole) == ["queued", "queued"]
    assert hand.row(whole)[0] == "scheduled"
    assert way.sending.recover() == []


# --- the questions


ROWS = st.lists(
    st.tuples(
        st.sampled_from(list(RowStatus)), st.booleans(), st.sampled_from("abc"), st.integers(0, 9)
    ),
    max_size=12,
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ROWS, st.sets(st.sampled_from("abc")))
def test_next_row_is_the_first_that_is_free(
    way: Way, hand: Hand, rows: list[tuple[RowStatus, bool, str, int]], paused: set[str]
) -> None:
    hand.sql("DELETE FROM scheduled_messages")
    for name in "abc":
        if name in paused:
            way.database.state.pause(name, "a while", smsbox.PausedBy.OPERATOR, way.now)
        else:
            way.database.state.resume(name, way.now)
    free: list[tuple[str, int]] = []
    for status, held, campaign, minute in rows:
        due = f"2025-11-09 18:0{minute}:00"
        row_id = hand.insert(
            due=due, status=status.value, campaign_name=campaign, held_because="x" if held else None
        )
        if status is RowStatus.SCHEDULED and not held and campaign not in paused:
            free.append((due, row_id))
    row = way.queue.next_row()
    assert (row.id if row else None) == (min(free)[1] if free else None)
    assert [each.id for each in way.database.queue.waiting()] == [each for _, each in sorted(free)]
    assert way.queue.is_drained() is not bool(free)


def test_next_row_does_not_walk_through_a_paused_campaign(way: Way, hand: Hand) -> None:
    """A poll comes every ten seconds, and a paused campaign may be large."""
    way.database.state.pause("big", "a while", smsbox.PausedBy.OPERATOR, way.now)
    hand.sql(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)"
        " INSERT INTO scheduled_messages (phone_number, message_content, scheduled_for,"
        " campaign_name) SELECT '+12135552313', 'Hi', '2025-11-09 18:00:00', 'big' FROM n"
    )
    behind = hand.insert(due="2025-11-09 19:00:00", campaign_name="small")
    hundreds: list[None] = []
    way.database._connection.set_progress_handler(lambda: hundreds.append(None), 100)
    row = way.queue.next_row()
    way.database._connection.set_progress_handler(None, 0)
    assert row
    assert row.id == behind
    assert len(hundreds) < 20  # of the steps of SQLite's machine; one row takes about ten


def test_text_counts_as_delivered_once_all_its_segments_are(
    database: Database, way: Way, hand: Hand
) -> None:
    inbox = database.inbox

    def report(number: str, reference: int) -> int:
        told = smsbox.Report(number, reference, smsbox.Delivery.DELIVERED, "", way.now, way.now)
        assert inbox.add_report(f"{number} {reference}", told, way.now)
        return inbox.match_reports(way.now)

    row_id = hand.insert("long")
    way.claim(row_id)
    for sequence in (1, 2):
        way.end(way.begin(row_id, sequence, 2), reference=40 + sequence)
    assert report(BEN, 41) == report(ANA, 43) == 0
    assert report(ANA, 41) == 1
    assert hand.bubbles(row_id, "delivered_at") == [None]
    assert report(ANA, 42) == 1
    assert hand.bubbles(row_id, "delivered_at") == ["2025-11-09 18:00:00"]


@pytest.mark.parametrize("spelling", [ANA, "(213) 555-2313"])
def test_stop_cancels_every_row_of_a_number_however_it_is_written(
    database: Database, way: Way, hand: Hand, spelling: str
) -> None:
    row_id = hand.insert("one [BUBBLE] two", phone_number=spelling)
    other = hand.insert(phone_number=BEN)
    way.claim(row_id)
    way.send(row_id)
    with database.transaction():
        assert database.opt_outs.add(ANA, "Stop", way.now, "daemon") == 1
    assert hand.row(row_id)[0] == "cancelled"
    assert hand.bubbles(row_id) == ["sent", "cancelled"]
    assert hand.row(other)[0] == "scheduled"
    assert hand.events(row_id)[-1] == ("daemon", "cancelled")


def test_filters_admit_what_they_name_and_nothing_else(way: Way, hand: Hand) -> None:
    held = hand.insert("Hi Ana", held_because="x")
    failed = hand.insert("Hi Ben", phone_number=BEN, status="failed", campaign_name="spring")
    assert all(each.value in dict(way.database.reports.count_by_status()) for each in RowStatus)
    asked = {
        RowFilter(): [held, failed], RowFilter(held=True): [held],
        RowFilter(status="failed"): [failed], RowFilter(campaign="fall"): [held],
        RowFilter(number=BEN): [failed], RowFilter(find="hi BEN"): [failed],
        RowFilter(find="%"): [], RowFilter(ids=(failed, 99)): [failed],
        RowFilter(ids=()): [], RowFilter(unconfirmed=True): [],
    }  # fmt: skip
    assert {
        wanted: [row.id for row in way.database.queue.rows(wanted)] for wanted in asked
    } == asked
