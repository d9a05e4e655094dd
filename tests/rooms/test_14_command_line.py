"""Command line: what the operator types after a campaign is scheduled, and reads."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import sqlite3
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import smsbox
from rig.desk import LOGIN, THEIRS_OFF, Keyboard, Operator, json_utc
from rig.pace import LOS_ANGELES
from rig.paths import PROGRAM

UTC = timezone.utc
ANA, BEN = "+12135552313", "+12135552314"
ESCAPE = "\x1b[2J\x1b]0;owned\x07\u202e"
READING = ["status", "list", "report --campaign fall", "inbox", "show 1", "why 1", "optout list"]
CHANGING = ["cancel 1", "reschedule 1 --by +30m", "retry 1", "release 1", "resume", "cancel --all"]


@pytest.fixture
def box(operator: Operator) -> Operator:
    """Return the operator; no other box stands here."""
    return operator


@pytest.fixture
def served(box: Operator) -> Iterator[dict[str, object]]:
    """A daemon as it looks from outside: its lock, and the file in which it says how it is."""
    told: dict[str, object] = {"pid": 4711, "modem": "ready", "clock": "systemd-timesyncd",
                               "trusted": True, "modem_ready": True, "operator": "Testnet",
                               "signal_dbm": -71}  # fmt: skip
    with box.database.with_name("box.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        box.database.with_name("box.db.status.json").write_text(json.dumps(told))
        yield told


ZONE_NOTE = "Times are those of America/Los_Angeles (PST)."
if datetime.now(LOS_ANGELES).dst():
    ZONE_NOTE = ZONE_NOTE.replace("PST", "PDT")


def facts(box: Operator) -> dict[str, str]:
    """Return what status says: name -> words."""
    return {each["name"]: each["words"] for each in box.run("status", "--json").value["facts"]}


# --- no database, no daemon, nothing in it


PAUSE_FALL = (
    "INSERT INTO campaigns (name, created_at, paused_because) VALUES ('fall', '', 'paused by ana')"
)
REPLY = (
    "INSERT INTO inbound (received_at, sender, tpdu, body, request)"
    f" VALUES ('2025-11-09 18:00:00', '{ANA}', '', {{}}, '{{}}')"
)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("words", READING + CHANGING)
def test_missing_or_empty_database_is_met_with_a_friendly_sentence(
    box: Operator, words: str, empty: bool
) -> None:
    for path in box.database.parent.glob("box.db*"):
        path.unlink()
    if empty:
        box.database.touch()
    before = sorted(path.name for path in box.database.parent.iterdir())
    done = box.run(*words.split())
    expected = {"status": 2, "list": 0, "optout list": 0}.get(words, 75)
    assert done.status == expected
    said = done.out + done.err
    assert (len(said.splitlines()) == 1) == (words != "status")
    hint = {"status": "made by the first campaign", "optout list": "Nobody"}.get(words, "schedule")
    assert hint in said
    assert sorted(path.name for path in box.database.parent.iterdir()) == before


@pytest.mark.parametrize("words", ["list --json", "optout list --json"])
def test_missing_database_is_an_answer_for_a_script_too(box: Operator, words: str) -> None:
    box.database.unlink()
    assert box.run(*words.split()).value == []
    told = box.run("status", "--json").value
    assert (told["level"], told["counts"], told["campaigns"]) == ("fault", {}, [])
    assert (told["modem"], told["next"]) == (None, None)


@pytest.mark.parametrize("words", READING + CHANGING)
def test_file_that_is_no_database_is_a_sentence_and_75(box: Operator, words: str) -> None:
    for path in box.database.parent.glob("box.db*"):
        path.unlink()
    box.database.write_text("phone_number,customer_name\n" * 100)
    if words == "status":  # a fact of it, or a sentence
        done = box.run(words)
        assert (done.status in (2, 75), "--database" in done.out + done.err) == (True, True)
        return
    assert "--database" in box.sentence(*words.split(), status=75)


@pytest.mark.parametrize("path", ["/dev/null/box.db", "/proc/nowhere/box.db", "/" + "x" * 300])
@pytest.mark.parametrize("words", ["list", "status", "pause", "cancel 1"])
def test_database_that_can_not_be_is_a_sentence(box: Operator, path: str, words: str) -> None:
    box.database = Path(path)
    done = box.run(*words.split())
    assert done.status in (0, 2, 75)
    assert len((done.out + done.err).splitlines()) == 1 or words == "status"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("cancel 99", "no message 99"),
        ("show +12135550199", "555-01"),
        ("why +12135552399", "no message to +12135552399"),
        ("release --campaign spring", 'no campaign "spring": the campaigns are fall'),
        ("cancel", "say which"),
        ("cancel 1 --campaign fall", "not both"),
        ("retry Ana", '"Ana" is no ID and no phone number'),
        ("reschedule 1 --by soon", "write +30m"),
        ("reschedule 1 --by=-2h", "past"),
        ("reschedule 1 --at tomorrow", 'write it like "2025-11-30 10:00"'),
        ("pause --campaign spring", 'no campaign "spring"'),
        ("send 911 Hi", "911"),
        ("send +12135552313 [BUBBLE]", "no text"),
        ("optout add", "needs a phone number"),
        (f"optout remove {ANA}", "--reason"),
        (f"optout remove {ANA} --reason asked", "not on the list"),
    ],
)
def test_wrong_use_is_a_sentence_with_its_mend_and_changes_nothing(
    box: Operator, words: str, says: str
) -> None:
    box.insert()
    before = box.sql("SELECT * FROM scheduled_messages"), box.sql("SELECT * FROM events")
    assert says in box.sentence(*words.split(), status=2)
    assert (box.sql("SELECT * FROM scheduled_messages"), box.sql("SELECT * FROM events")) == before


@pytest.mark.parametrize(
    ("due", "span"), [("2027-01-01", "-999999d"), ("2090-01-01", "+99999d"), ("2099-12-31", "+1d")]
)
def test_span_beyond_all_time_is_a_usage_error(box: Operator, due: str, span: str) -> None:
    box.insert(scheduled_for=due)
    box.sentence("reschedule", "1", f"--by={span}", status=2)


@pytest.mark.parametrize(
    "odd",
    [
        {"sent_at": "2025-11-09T18:00:00Z", "status": "sent"},
        {"phone_number": ""},
        {"customer_name": 12},
        {"campaign_name": "\x00"},
        {"attempts": -5},
        {"campaign_message_id": 3.5},
        {"error_message": "line\nline", "status": "failed"},
    ],
)
def test_no_hand_made_row_ends_a_command_in_a_traceback(box: Operator, odd: dict[str, Any]) -> None:
    box.insert(**odd)
    for words in (*READING, "list --json", "list --csv", "show 1 --json", "status --json",
                  "cancel 1", "retry 1", "resume"):  # fmt: skip
        assert box.run(*words.split()).status in (0, 1, 2)


@pytest.mark.parametrize(
    "odd",
    [
        {"sent_at": "yesterday", "status": "sent"},
        {"phone_number": b"\xff\xfe"},
        {"message_content": b"\xff"},
        {"scheduled_for": "2026-02-30 10:00:00"},
    ],
)
def test_row_that_no_command_could_read_is_refused(box: Operator, odd: dict[str, Any]) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        box.insert(**odd)


def test_reader_that_is_full_ends_a_command_in_words(box: Operator) -> None:
    box.insert()
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), *box.words("list")],
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


# --- what may not steer the terminal


@pytest.mark.parametrize(
    "words",
    ["list", "list --csv", "list --json", "list --next 5", "report", "report --json",
     "report --csv", "show 1", "show 1 --json", "why 1", "status", "inbox", "optout list",
     "cancel 1", "retry 1",
     "show nobody\x1b[2J", "pause --campaign no\x1b[2J", "list --odd\x1b[2J"],
)  # fmt: skip
@pytest.mark.parametrize("state", ["scheduled", "failed"])
def test_escapes_of_any_text_never_reach_the_terminal(
    box: Operator, words: str, state: str
) -> None:
    box.insert(
        customer_name=ESCAPE, message_content=f"Hi{ESCAPE}", campaign_name=f"fall{ESCAPE}",
        error_message=f"no{ESCAPE}", held_because=f"odd{ESCAPE}", phone_number=f"1{ESCAPE}",
        status=state,
    )  # fmt: skip
    box.reply(f"stop{ESCAPE}")
    box.sql(
        "INSERT INTO opt_outs (phone_number, words, reason) VALUES (?, ?, ?)", ANA, ESCAPE, ESCAPE
    )
    box.sql(
        "INSERT INTO campaigns (name, created_at, paused_because) VALUES (?, '', ?)",
        f"fall{ESCAPE}",
        f"x{ESCAPE}",
    )
    done = box.run(*words.split())
    assert done.out + done.err
    assert not set("\x1b\x07\u202e") & set(done.out + done.err)


def test_reply_of_several_lines_can_not_forge_another_reply(box: Operator) -> None:
    box.reply("Hi\n11/09 10:00 AM  +12135552399  [stop]: forged")
    *lines, zone = box.run("inbox").out.splitlines()
    assert len([line for line in lines if not line.startswith(" ")]) == 1
    assert zone == ZONE_NOTE
    assert "forged" in "".join(lines)


# --- status, list, show, why


@pytest.mark.parametrize(
    ("prepare", "status"),
    [
        ("", 0),
        ("UPDATE scheduled_messages SET held_because = 'x'", 1),
        ("UPDATE scheduled_messages SET status = 'failed'", 1),
        ("UPDATE scheduled_messages SET status = 'failed', settled_at = '2025-11-09 18:00:00'", 0),
        (REPLY.format("NULL", "nothing"), 1),
        (REPLY.format("'Hm'", "perhaps stop"), 1),
        (REPLY.format("'Thanks'", "nothing"), 0),
        ("INSERT INTO state VALUES ('paused_because', 'paused by ana')", 1),
        (PAUSE_FALL, 1),
    ],
)  # fmt: skip
def test_status_tells_a_script_whether_a_person_is_needed(
    box: Operator, served: dict[str, object], prepare: str, status: int
) -> None:
    box.insert()
    box.sql(prepare)
    assert box.run("status").status == box.run("status", "--json").status == status


@pytest.mark.parametrize("modem", ["no modem is plugged in", None])
def test_status_without_a_modem_or_a_daemon_is_not_working(
    box: Operator, served: dict[str, object], modem: str | None
) -> None:
    path = box.database.with_name("box.db.status.json")
    told = {**served, "modem": modem, "modem_ready": False}
    path.write_text(json.dumps(told) if modem else "{")
    assert box.run("status").status == 2
    assert (modem or "starting") in box.run("status").out


def test_status_says_how_it_is_now(box: Operator, served: dict[str, object]) -> None:
    row_id = box.insert()
    just_ahead = datetime.now(UTC) + timedelta(seconds=30)  # of today, though midnight comes
    box.insert(status="sent", sent_at=f"{just_ahead:%Y-%m-%d %H:%M:%S}")
    box.insert(status="sent", sent_at="2025-01-01 00:00:00")
    out = box.run("status").out
    for words in ("pid 4711", "Testnet", "-71 dBm", "systemd-timesyncd", f"{row_id} Ana {ANA}",
                  "1 scheduled, 2 sent"):  # fmt: skip
        assert words in out
    told = box.run("status", "--json").value
    assert list(told) == ["answer", "level", "version", "modem", "clock", "fault", "counts",
                          "next", "campaigns", "facts"]  # fmt: skip
    assert told["answer"] == out.splitlines()[0]
    assert (told["level"], told["counts"]["sent"], told["fault"]) == ("ok", 2, None)
    assert (told["next"]["id"], told["modem"]) == (row_id, "ready")
    assert facts(box)["today"] == "1 sent"
    assert "pause" not in facts(box)


def test_status_without_a_daemon_says_what_to_do(box: Operator) -> None:
    done = box.run("status")
    assert (done.status, "systemctl start smsbox" in done.out) == (2, True)
    assert "not running" in facts(box)["service"]
    box.insert(-1)
    assert list(shut_gates(box.run("why", "1").out)) == ["service"]


def test_list_shows_the_rows_that_are_asked_for(box: Operator) -> None:
    late, soon = box.insert(90), box.insert(30, customer_name="Ben", phone_number=BEN)
    held = box.insert(120, held_because="odd reply", campaign_name="spring")
    failed = box.insert(status="failed", error_message="CMS 1 unassigned number")

    def listed(*words: str) -> list[int]:
        return [row["id"] for row in box.run("list", "--json", *words).value]

    assert listed() == [late, soon, held, failed]
    assert listed("--next", "2") == [soon, late]
    assert listed("--status", "failed") == [failed]
    assert listed("--campaign", "spring") == listed("--held") == [held]
    assert listed("--find", "ben") == listed("--find", BEN) == [soon]
    campaigns = box.run("report", "--json").value
    assert [each["name"] for each in campaigns] == ["fall", "spring"]
    assert box.run("list", "--find", "nobody").out == "No message is like that.\n"
    out = box.run("list").out
    assert "odd reply" in out
    assert "CMS 1 unassigned number" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_next_messages_are_those_that_will_go(box: Operator) -> None:
    box.insert(10, held_because="odd reply")
    late, soon = box.insert(90), box.insert(30)
    assert [row["id"] for row in box.run("list", "--next", "2", "--json").value] == [soon, late]


def test_list_for_a_script_and_a_spreadsheet_has_the_database_s_names(box: Operator) -> None:
    box.insert(customer_name="=1+1")
    (value,) = box.run("list", "--json").value
    (cells,) = csv.DictReader(io.StringIO(box.run("list", "--csv").out))
    assert value["customer_name"] == "=1+1"
    assert cells["customer_name"] == "'=1+1"
    assert list(value) == list(cells)
    assert cells["scheduled_for"] == box.row(1, "scheduled_for")[0]
    assert json_utc(value["scheduled_for"]) == box.due(1)
    assert (value["sent_at"], value["held_because"], value["status"]) == (None, None, "scheduled")


@pytest.mark.parametrize("name", ["1", ANA, "(213) 555-2313"])
def test_show_tells_everything_of_a_message(box: Operator, name: str) -> None:
    row_id = box.insert(message_content="one [BUBBLE] two\nlines")
    box.insert_bubble(row_id, "sent", "sent")
    box.insert_bubble(row_id, "queued", "", bubble=2)
    shown = box.run("show", name, "--json").value
    assert shown["id"] == row_id
    assert [each["status"] for each in shown["bubbles"]] == ["sent", "queued"]
    assert shown["bubbles"][0]["segments"][0]["message_reference"] == 77
    assert [(each["actor"], each["event"]) for each in shown["events"]] == [("sql", "added")]
    out = box.run("show", name).out
    for words in (
        "    lines",
        "bubble 2: queued",
        "segment 1/1: sent",
        "reference 77",
        "sql: adde",
    ):
        assert words in out


def test_show_of_a_number_shows_all_its_messages(box: Operator) -> None:
    ids = [box.insert(), box.insert()]
    assert [each["id"] for each in box.run("show", ANA, "--json").value] == ids


@pytest.mark.parametrize("words", ["show", "why", "cancel"])
def test_number_finds_a_hand_made_row_in_another_spelling(box: Operator, words: str) -> None:
    box.insert(phone_number="(213) 555-2313")
    assert box.run(words, ANA).status == 0


def shut_gates(out: str) -> dict[str, str]:
    lines = [line.split(None, 2) for line in out.splitlines()[1:]]
    gates = [line for line in lines if line[1] != "place"]
    assert all((level == "warning") == words.startswith("shut: ") for level, _, words in gates)
    return {name: words for level, name, words in gates if level == "warning"}


@pytest.mark.parametrize(
    ("prepare", "gate", "because"),
    [
        ("UPDATE scheduled_messages SET status = 'cancelled'", "status", "it is cancelled"),
        ("UPDATE scheduled_messages SET held_because = 'odd reply'", "held", "odd reply"),
        (f"INSERT INTO opt_outs (phone_number) VALUES ('{ANA}')", "opt-out", "said stop"),
        (PAUSE_FALL, "campaign", "ana"),
        ("INSERT INTO state VALUES ('paused_because', 'paused by ana')", "pause", "ana"),
        ("UPDATE scheduled_messages SET scheduled_for = '2098-01-01'", "time", "due"),
    ],
)
def test_why_names_the_gate_that_is_shut_and_only_that(
    box: Operator, served: dict[str, object], prepare: str, gate: str, because: str
) -> None:
    box.insert(-1, phone_number="213-555-2313")
    assert shut_gates(box.run("why", "1").out) == {}
    box.sql(prepare)
    shut = shut_gates(box.run("why", "1").out)
    assert list(shut) == [gate]
    assert because in shut[gate]
    told = box.run("why", "1", "--json").value
    assert all(list(each) == ["id", "level", "name", "words"] for each in told)
    warned = [each["name"] for each in told if each["level"] == "warning"]
    assert [name for name in warned if name != "place"] == [gate]


def test_why_names_the_hours_the_service_the_clock_and_the_modem(
    box: Operator, served: dict[str, object]
) -> None:
    box.insert(-1)
    tomorrow = f"{datetime.now() + timedelta(days=3):%a}".lower()
    box.config.write_text(f'[business_hours]\ndays = ["{tomorrow}"]\n')
    path = box.database.with_name("box.db.status.json")
    path.write_text(json.dumps({**served, "clock": "not trusted: wait", "trusted": False,
                                "modem": "no network", "modem_ready": False}))  # fmt: skip
    assert list(shut_gates(box.run("why", "1").out)) == ["hours", "clock", "modem"]
    unread = "it does not list what came in: nothing is sent until it does"
    path.write_text(json.dumps({**served, "incoming": unread}))
    assert list(shut_gates(box.run("why", "1").out)) == ["hours", "incoming"]
    path.unlink()
    assert shut_gates(box.run("why", "1").out)["modem"] == "shut: starting"


# --- cancel, reschedule, retry, release


def test_cancel_keeps_the_record_and_names_who_did_it(box: Operator) -> None:
    row_id, other = box.insert(), box.insert()
    done = box.run("cancel", str(row_id))
    assert (done.status, done.out) == (0, "Cancelled 1 message.\n")
    assert (box.row(row_id), box.row(other)) == (("cancelled",), ("scheduled",))
    events = box.sql("SELECT actor, event FROM events WHERE scheduled_message_id = 1")
    assert events == [("sql", "added"), (LOGIN, "cancelled")]


def test_cancel_refuses_what_is_done_or_being_sent_and_says_so(box: Operator) -> None:
    sent, sending = box.insert(status="sent"), box.insert()
    box.insert_bubble(sending, "sending", "sending")
    done = box.run("cancel", str(sent), str(sending))
    assert (done.status, done.out) == (1, "Cancelled 0 messages.\n")
    first, second = done.err.splitlines()
    assert first == f"Message {sent} is sent, not scheduled."
    assert "being sent right now" in second
    assert box.statuses() == ["sent", "scheduled"]


MANY = [
    (["cancel", "--all"], "scheduled", "cancelled", "Cancelled 2"),
    (["cancel", "--campaign", "fall"], "scheduled", "cancelled", "Cancelled 2"),
    (["cancel", ANA], "scheduled", "cancelled", "Cancelled 2"),
    (["reschedule", ANA, "--by", "+30m"], "scheduled", "scheduled", "Moved 2"),
    (["retry", "--campaign", "fall"], "failed", "scheduled", "2 messages will be tried"),
    (["release", "--campaign", "fall"], "scheduled", "scheduled", "Released 2"),
]


@pytest.mark.parametrize(("words", "before", "after", "says"), MANY)
def test_many_rows_are_changed_after_yes_alone(
    box: Operator, words: list[str], before: str, after: str, says: str
) -> None:
    for _ in range(2):
        box.insert(status=before, held_because="x" if words[0] == "release" else None)
    rows = box.sql("SELECT * FROM scheduled_messages")
    assert box.run(*words).status == 2  # no terminal
    for typed in ("no\n", "yes\n", ""):
        refused = box.run(*words, terminal=Keyboard(typed))
        assert (refused.status, "2 messages. Type YES" in refused.err) == (1, True)
    assert box.sql("SELECT * FROM scheduled_messages") == rows
    done = box.run(*words, terminal=Keyboard("YES\n"))
    assert (done.status, says in done.out) == (0, True)
    assert box.statuses() == [after] * 2
    assert box.sql("SELECT * FROM scheduled_messages") != rows


@pytest.mark.parametrize(("words", "before", "after", "says"), MANY)
def test_row_that_changed_before_yes_is_left_alone_and_not_counted(
    box: Operator, words: list[str], before: str, after: str, says: str
) -> None:
    for _ in range(3):
        box.insert(status=before, held_because="x" if words[0] == "release" else None)
    sent = "UPDATE scheduled_messages SET status = 'sent' WHERE id = 2"
    done = box.run(*words, terminal=Keyboard("YES\n", lambda: box.sql(sent)))
    assert box.statuses() == [after, "sent", after]
    assert says in done.out
    assert box.run("list", "--status", "sent", "--json").value[0]["id"] == 2


def test_interrupting_the_question_is_status_130_and_changes_nothing(box: Operator) -> None:
    box.insert()
    box.insert()

    def interrupt() -> None:
        raise KeyboardInterrupt

    assert box.run("cancel", "--all", terminal=Keyboard("YES\n", interrupt)).status == 130
    assert box.statuses() == ["scheduled"] * 2


@pytest.mark.parametrize(
    ("span", "seconds"), [("+30m", 1800), ("+2h", 7200), ("+1d", 86400), ("=-10m", -600)]
)
def test_reschedule_moves_by_a_span(box: Operator, span: str, seconds: int) -> None:
    row_id, done = box.insert(), box.insert(status="sent")
    was = box.due(row_id)
    by = [f"--by{span}"] if span.startswith("=") else ["--by", span]
    assert box.run("reschedule", str(row_id), *by).status == 0
    assert (box.due(row_id) - was).total_seconds() == seconds
    assert box.run("reschedule", str(done), *by).status == 1


def test_reschedule_moves_the_first_to_a_time_and_keeps_the_gaps(box: Operator) -> None:
    first, second = box.insert(60), box.insert(67)
    gap = box.due(second) - box.due(first)
    day = f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%d}"
    assert box.run("reschedule", ANA, "--at", f"{day} 10:00", "--yes").status == 0
    local = box.due(first).astimezone(smsbox.parse_config({}).business_hours.timezone)
    assert f"{local:%Y-%m-%d %H:%M:%S}" == f"{day} 10:00:00"
    assert box.due(second) - box.due(first) == gap


def test_retry_needs_a_word_for_what_may_have_been_sent(box: Operator) -> None:
    row_id, plain = box.insert(-90, status="failed"), box.insert(status="failed")
    box.insert_bubble(row_id, "unconfirmed", "unconfirmed")
    done = box.run("retry", str(row_id), str(plain))
    assert done.status == 1
    assert "--even-if-it-may-repeat" in done.err
    assert box.statuses() == ["failed", "scheduled"]
    assert box.run("retry", str(row_id), "--even-if-it-may-repeat").status == 0
    assert box.row(row_id) == ("scheduled",)
    assert abs(box.due(row_id) - datetime.now(UTC)) < timedelta(seconds=30)
    assert box.run("retry", str(plain)).status == 1  # no more failed


def test_failed_row_is_settled_by_cancel_and_needs_nobody_any_more(
    box: Operator, served: dict[str, object]
) -> None:
    row_id, unsure = box.insert(status="failed", error_message="CMS 1"), box.insert(status="failed")
    box.insert_bubble(unsure, "unconfirmed", "unconfirmed")
    assert box.run("status").status == 1
    counts = box.run("status", "--json").value["counts"]
    assert (counts["failed"], counts["unconfirmed"], counts["settled"]) == (1, 1, 0)
    assert box.run("cancel", str(row_id), str(unsure)).status == 0
    assert box.row(row_id, "status, error_message") == ("failed", "CMS 1")
    settled_at = box.run("list", "--json").value[0]["settled_at"]
    assert abs(json_utc(settled_at) - datetime.now(UTC)) < timedelta(seconds=30)
    assert box.sql("SELECT actor FROM events WHERE event = 'settled'") == [(LOGIN,)] * 2
    counts = box.run("status", "--json").value["counts"]
    assert (counts["failed"], counts["unconfirmed"], counts["settled"]) == (0, 0, 2)
    assert box.run("status").status == 0
    assert box.run("retry", str(row_id)).status == 0  # another thought
    assert box.row(row_id, "status, settled_at") == ("scheduled", None)


def test_cancel_of_a_campaign_settles_its_failed_rows_and_cancel_all_does_not(
    box: Operator,
) -> None:
    box.insert(status="failed")
    box.insert()
    assert box.run("cancel", "--all").out == "Cancelled 1 message.\n"
    assert box.row(1, "settled_at") == (None,)
    assert "1 failed message settled" in box.run("cancel", "--campaign", "fall").out
    assert box.row(1, "settled_at") != (None,)


def test_cancelled_row_goes_again_by_its_id_alone_and_never_beside_another(box: Operator) -> None:
    row_id = box.insert(status="cancelled")
    for words in (["--campaign", "fall"], [ANA]):
        assert box.run("retry", *words).status == 1
    assert box.row(row_id) == ("cancelled",)
    assert box.run("retry", str(row_id)).status == 0
    assert box.row(row_id) == ("scheduled",)
    other = box.insert(status="cancelled")
    assert "another message of its campaign" in box.run("retry", str(other)).err
    elsewhere = box.insert(status="cancelled", campaign_name="spring")
    assert box.run("retry", str(elsewhere)).status == 0
    assert [box.row(each) for each in (other, elsewhere)] == [("cancelled",), ("scheduled",)]


@pytest.mark.parametrize("in_min", [60, -60])
def test_what_was_cancelled_by_mistake_keeps_a_time_to_come(box: Operator, in_min: float) -> None:
    row_id = box.insert(in_min)
    due, before = box.due(row_id), datetime.now(timezone.utc).replace(microsecond=0)
    for verb in ("cancel", "retry"):
        assert box.run(verb, str(row_id)).status == 0
    assert box.due(row_id) == due if in_min > 0 else box.due(row_id) >= before


def test_reply_that_could_not_be_shown_is_still_unread(box: Operator) -> None:
    box.lay_down()
    box.reply("hello")
    command = [sys.executable, smsbox.__file__, *box.words("inbox")]
    # Buffered as ever: else each line would meet the full disk by itself.
    environment = {key: each for key, each in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert (done.returncode, "No space left" in done.stderr) == (1, True)
    assert box.sql("SELECT read_at FROM inbound") == [(None,)]


@pytest.mark.parametrize(
    "words", ["list 1 --held", "list 1 --csv", "list 1 --next 2", "optout list 213-555-2301"]
)
def test_option_that_would_be_passed_over_is_refused(box: Operator, words: str) -> None:
    box.insert()
    assert len(box.sentence(*words.split(), status=2)) > 40


@pytest.mark.parametrize("was", ["failed", "cancelled"])
def test_nothing_is_tried_again_for_who_said_stop(box: Operator, was: str) -> None:
    row_id = box.insert(status=was)
    box.run("optout", "add", ANA)
    done = box.run("retry", str(row_id))
    assert (done.status, "said stop" in done.err) == (1, True)
    assert box.row(row_id) == (was,)


def expected_times(box: Operator, ids: Sequence[int]) -> list[datetime]:
    rows: Any = box.run("list", "--json").value
    told = {row["id"]: row["expected_at"] for row in rows}
    return sorted(json_utc(told[row_id]) for row_id in ids)


@pytest.mark.parametrize("command", ["retry", "release"])
def test_late_rows_that_are_let_go_together_make_no_burst(box: Operator, command: str) -> None:
    state: dict[str, object] = {"status": "failed"}
    ids = [
        box.insert(-n, **(state if command == "retry" else {"held_because": "x"})) for n in range(4)
    ]
    assert box.run(command, "--campaign", "fall", "--yes").status == 0
    go = expected_times(box, ids)
    assert go[0] >= datetime.now(UTC) - timedelta(minutes=1)
    assert all(b - a >= timedelta(minutes=4) for a, b in pairwise(go))


def test_row_whose_turn_comes_after_its_end_is_told(box: Operator) -> None:
    end = f"{datetime.now(UTC) + timedelta(minutes=2):%Y-%m-%d %H:%M:%S}"
    first, second = box.insert(-60, anyway=1), box.insert(-59, until=end, anyway=1)
    rows: Any = box.run("list", "--json").value
    assert [row["expected_at"] is None for row in rows] == [False, True]
    assert "its turn comes after its end" in box.run("list").out
    told = box.run("why", str(second)).out
    late = "its turn comes after its end: it will be too late"
    assert told.splitlines()[0].endswith(f", place: {late}")
    assert told.splitlines()[-1].split(None, 2) == ["warning", "place", late]
    assert "too late" not in box.run("why", str(first)).out


def test_status_tells_when_the_next_message_will_really_go(box: Operator) -> None:
    box.insert(-60)
    told: Any = box.run("status", "--json").value
    now = datetime.now(UTC) - timedelta(minutes=1)
    assert json_utc(told["next"]["expected_at"]) >= now > json_utc(told["next"]["scheduled_for"])


def test_release_refuses_what_is_not_held(box: Operator) -> None:
    held, free = box.insert(held_because="x"), box.insert()
    was = box.due(held)
    done = box.run("release", str(held), str(free))
    assert (done.status, done.out) == (1, "Released 1 message.\n")
    assert done.err == f"Message {free} is scheduled, not held.\n"
    assert (box.row(held, "held_because"), box.due(held)) == ((None,), was)


# --- pause, resume, send


def test_pause_lasts_until_resume_which_says_what_was_and_what_will_be(box: Operator) -> None:
    box.insert(status="sent", sent_at="2025-11-09 18:00:00")
    late = [box.insert(-60 + n) for n in range(3)]
    assert "3 wait" in box.run("pause").out
    assert facts(box)["pause"] == f"paused by {LOGIN}: smsbox resume goes on"
    out = box.run("resume").out
    assert "1 message" in out
    assert "3 will be" in out
    assert "pause" not in facts(box)
    assert "3 late messages go first; fall is now done about " in out
    go = expected_times(box, late)
    assert all(b - a >= timedelta(minutes=4) for a, b in pairwise(go))
    assert go[0] >= datetime.now(UTC) - timedelta(seconds=30)
    events = box.sql("SELECT actor, event FROM events WHERE scheduled_message_id IS NULL")
    assert events == [(LOGIN, "paused"), (LOGIN, "resumed")]


def test_pause_of_a_campaign_is_lifted_by_its_own_resume_alone(box: Operator) -> None:
    box.insert()
    assert box.run("pause", "--campaign", "fall").status == 0
    assert "Still paused: fall" in box.run("resume").out
    (campaign,) = box.run("status", "--json").value["campaigns"]
    assert (campaign["name"], campaign["paused_because"]) == ("fall", f"paused by {LOGIN}")
    assert facts(box)["pause"].startswith("campaign fall: ")
    assert "Still" not in box.run("resume", "--campaign", "fall").out
    assert box.run("status", "--json").value["campaigns"][0]["paused_because"] is None


@pytest.mark.parametrize(("words", "now"), [(["pause", "--now"], "1"), (["pause"], "")])
def test_pause_now_is_another_pause(box: Operator, words: list[str], now: str) -> None:
    box.run("pause", "--now")
    box.run(*words)
    assert [each[0] for each in box.sql("SELECT value FROM state WHERE key = 'paused_now'")] == [
        *filter(None, [now])
    ]


def test_send_stores_a_row_that_is_due_now(box: Operator) -> None:
    done = box.run("send", "(213) 555-2313", " A test [BUBBLE] of two ")
    assert (done.status, "not running" in done.err) == (75, True)
    assert box.row(1, "phone_number, message_content, status, anyway") == (
        ANA, "A test [BUBBLE] of two", "scheduled", 0
    )  # fmt: skip
    assert abs(box.due(1) - datetime.now(UTC)) < timedelta(seconds=30)


def test_send_holds_to_the_hours_without_anyway_and_to_opt_outs_with_it(box: Operator) -> None:
    other = f"{datetime.now() + timedelta(days=3):%a}".lower()
    box.config.write_text(f'[business_hours]\ndays = ["{other}"]\n{THEIRS_OFF}')
    assert "--anyway" in box.sentence("send", ANA, "Hi", status=75)
    assert box.statuses() == []
    assert box.run("send", ANA, "Hi", "--anyway").status == 75  # it waits: nobody serves
    assert box.row(1, "anyway") == (1,)
    box.run("optout", "add", ANA)
    assert "said stop" in box.sentence("send", ANA, "Hi", "--anyway", status=75)
    assert box.statuses() == ["cancelled"]


@pytest.mark.parametrize(("became", "status"), [("sent", 0), ("failed", 1), ("cancelled", 1)])
def test_send_waits_for_what_the_daemon_makes_of_it(
    box: Operator, served: dict[str, object], became: str, status: int
) -> None:
    box.sql(
        "CREATE TRIGGER daemon AFTER INSERT ON scheduled_messages BEGIN UPDATE scheduled_messages"
        f" SET status = '{became}', error_message = 'so' WHERE id = NEW.id; END"
    )
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *box.words("send", ANA, "Hi")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == status
    assert f"Message 1 is {became}" in done.stdout + done.stderr


def test_send_reads_a_text_from_stdin(box: Operator) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *box.words("send", ANA, "-")],
        input="Hi Ana\r\n[BUBBLE] see you\n", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 75
    assert box.row(1, "message_content") == ("Hi Ana\n[BUBBLE] see you",)
    assert "the text is empty" in box.sentence("send", ANA, " ", status=2)


def test_send_for_a_script_is_one_object_and_the_words_stand_beside_it(box: Operator) -> None:
    done = box.run("send", ANA, "Hi", "--json")
    assert (done.status, done.value["id"], done.value["status"]) == (75, 1, "scheduled")
    assert "Message 1 waits" in done.err


# --- inbox, optout


def test_inbox_shows_each_reply_and_marks_it_as_read(box: Operator) -> None:
    assert box.run("inbox").out == "No replies.\n"
    box.reply("Stop", "stop")
    box.reply(None)
    out = box.run("inbox", "--unread").out
    assert out.splitlines() == [
        f"11/09 10:00 AM  {ANA}  [stop]: Stop", f"11/09 10:00 AM  {ANA}: (not readable) ",
        f"    smsbox release {ANA} lets their messages go, smsbox optout add {ANA} ends them.",
        ZONE_NOTE,
    ]  # fmt: skip
    assert box.run("inbox", "--unread", "--json").value == []
    assert [each["body"] for each in box.run("inbox", "--json").value] == ["Stop", None]


def test_opted_out_number_is_listed_until_it_is_removed_with_a_reason(box: Operator) -> None:
    row_id = box.insert()
    assert (
        "1 message cancelled" in box.run("optout", "add", "213 555 2313", "--reason", "phone").out
    )
    assert box.row(row_id, "status, error_message") == ("cancelled", "the recipient said stop")
    assert ANA in box.run("optout", "list").out
    (listed,) = box.run("optout", "list", "--json").value
    assert (listed["phone_number"], listed["reason"]) == (ANA, "phone")
    assert box.run("optout", "add", ANA).status == 0
    assert len(box.run("optout", "list", "--json").value) == 1
    assert box.run("optout", "remove", ANA, "--reason", "asked for it").status == 0
    assert box.run("optout", "list").out == "Nobody said stop.\n"
    assert box.row(row_id) == ("cancelled",)
    event = "SELECT actor, detail FROM events WHERE event = 'opt-out removed'"
    assert box.sql(event) == [(LOGIN, f"{ANA}: asked for it")]


def test_operator_s_word_on_the_clock_holds_for_this_boot(box: Operator) -> None:
    box.insert()
    box.run("resume", "--clock-is-right")
    assert box.sql("SELECT value FROM state WHERE key = 'trusted_boot'") == [
        (smsbox.read_boot_id(),)
    ]
    assert ("clock is right",) in box.sql("SELECT event FROM events")


# --- on a terminal


def on_terminal(box: Operator, *words: str, columns: int = 100, **environment: str) -> str:
    """Run a command on a terminal of that width; give what it shows."""
    desk_end, screen = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, smsbox.__file__, *box.words(*words)], stdin=screen, stdout=screen,
        stderr=screen, env={"PATH": os.environ["PATH"], **environment},
    )  # fmt: skip
    os.close(screen)
    shown = b""
    with suppress(OSError):  # Linux: the other side is closed
        while octets := os.read(desk_end, 65536):
            shown += octets
    os.close(desk_end)
    process.wait(20)
    return shown.decode().replace("\r\n", "\n")


def test_colours_are_only_for_a_terminal_and_never_with_no_color(box: Operator) -> None:
    box.insert(held_because="they have replied")
    box.insert(customer_name="Ana \x1b[31m")
    assert on_terminal(box, "list").count("\x1b[") == 2  # on and off, of the held one alone
    assert "\x1b[31m" in on_terminal(box, "status")
    assert "\x1b" not in on_terminal(box, "list", NO_COLOR="1")
    assert "\x1b" not in box.run("list").out


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_lines_fit_the_terminal(box: Operator, columns: int) -> None:
    box.insert(customer_name="Maximiliana Featherstonehaugh-Cholmondeley the elder" * 2)
    box.insert(held_because="because of " * 20)
    shown = on_terminal(box, "list", columns=columns, NO_COLOR="1").splitlines()
    assert len(shown) > 2
    assert all(len(line) < max(columns, 68) for line in shown)


# --- completion


def complete(*typed: str) -> set[str]:
    """Press TAB in a bash behind these words, the last of them begun."""
    script = smsbox.render_completion() + (
        'COMP_WORDS=(smsbox "$@"); COMP_CWORD=$#; _smsbox; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", *typed], capture_output=True, text=True, check=True,
        timeout=30,
    )  # fmt: skip
    assert done.stderr == ""
    return set(filter(None, done.stdout.splitlines()))


def test_tab_completes_commands_and_their_options() -> None:
    assert complete("re") == {"release", "report", "reschedule", "restore", "resume", "retry"}
    assert complete("schedule", "--dr") == {"--dry-run"}
    assert complete("--config", "box.toml", "schedule", "--dr") == {"--dry-run"}
    assert "--campaign" in complete("cancel", "--")
    assert complete("schedule", "x") == set()  # bash then completes the name of a file
