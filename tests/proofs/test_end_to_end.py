"""The whole way: commands, database, the daemon's process, a pseudo-terminal, the recipients.

Each test starts real processes and looks at them from the outside only: at what the network took,
at the database with plain sqlite3, at exit statuses, at the service manager's socket.
"""

from __future__ import annotations

import csv
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest

from rig.paths import PROGRAM
from rig.people import ANA, BEN, CAMPAIGN, CHLOE, LONG
from rig.process import LiveBox, write_csv
from rig.pty_modem import TEXT, Fault, PtyModem, wait_until

UTC = timezone.utc


@pytest.fixture(scope="module", autouse=True)
def demo() -> Iterator[subprocess.Popen[str]]:
    """The demo takes most of a minute: it plays while the other tests run."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(PROGRAM), "demo"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def box(live: LiveBox) -> LiveBox:
    """Return the real box; no other stands here."""
    return live


def read_bubbles(path: Path) -> list[tuple[str, str]]:
    """Read (number, bubble) out of a CSV, with nothing of smsbox."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            (row["phone_number"], bubble.strip())
            for row in csv.DictReader(file)
            for bubble in row["message_content"].split("[BUBBLE]")
            if bubble.strip()
        ]


def to_time(text: str, form: str = "%Y-%m-%d %H:%M:%S") -> float:
    return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()


# --- a campaign


def test_texts_that_arrive_are_the_bubbles_of_the_csv_in_order_with_the_intervals_kept(
    box: LiveBox,
) -> None:
    box.settle(pacing={"first_after_seconds": 3})  # the daemon is up before the first
    path = box.folder / "autumn.csv"
    write_csv(path, CAMPAIGN)
    box.call("schedule", str(path), "--yes", "--seed", "3")
    planned = {
        number: to_time(at)
        for number, at in box.sql("SELECT phone_number, scheduled_for FROM scheduled_messages")
    }
    times = list(planned.values())
    assert len(times) == len(CAMPAIGN)
    # In the database seconds are whole: an interval may have lost or won one.
    assert all(0.6 - 1 < after - before < 1.2 + 1 for before, after in pairwise(times))

    box.drain()

    assert box.texts() == read_bubbles(path)
    started: dict[str, float] = {}
    for each in box.modem.texts():
        started.setdefault(each.number, each.at)
    late = [started[number] - at for number, at in planned.items()]
    assert all(0 <= each < 0.5 for each in late), late


def test_database_tells_at_the_end_what_became_of_each_message(box: LiveBox) -> None:
    path = box.folder / "autumn.csv"
    write_csv(path, CAMPAIGN[:3])
    began = datetime.now(UTC).replace(microsecond=0)
    box.call("schedule", str(path), "--yes")
    box.drain()
    rows = box.sql(
        "SELECT status, sent_at, error_message, campaign_name, campaign_message_id"
        " FROM scheduled_messages ORDER BY id"
    )
    assert [(row[0], *row[2:]) for row in rows] == [
        ("sent", None, "autumn", str(place)) for place in (2, 3, 4)
    ]
    assert all(to_time(row[1]) >= began.timestamp() for row in rows)
    bubbles = box.sql(
        "SELECT phone_number, bubble, body, status, sent_at FROM messages ORDER BY id"
    )
    assert [(row[0], row[2]) for row in bubbles] == read_bubbles(path)
    assert [row[1] for row in bubbles] == [1, 2, 3, 1, 1]
    assert all(row[3] == "sent" and row[4] for row in bubbles)
    segments = box.sql(
        "SELECT sequence, status, message_reference, submitted_at FROM segments ORDER BY id"
    )
    assert [row[0] for row in segments] == [1, 1, 1, 1, 2, 3, 1]
    assert [row[2] for row in segments] == [1, 2, 3, 4, 5, 6, 7]  # as the modem counted them
    assert all(row[1] == "sent" and row[3] for row in segments)


def test_campaign_arrives_through_echo_and_unsolicited_lines_everywhere(tmp_path: Path) -> None:
    noise = b"\r\n+CREG: 1\r\n\r\n^RSSI: 17\r\n\r\nRING\r\n"
    with PtyModem(tmp_path, deaf_to_ate0=True) as modem:
        modem.misbehave(
            Fault(r"AT.*", times=0, before=noise, inside=b"\r\nUNDER-VOLTAGE WARNNING\r\n"),
            Fault(TEXT, times=0, before=noise, after=noise),
        )
        box = LiveBox(tmp_path, modem)
        path = tmp_path / "noisy.csv"
        write_csv(path, CAMPAIGN[:2])
        box.call("schedule", str(path), "--yes")
        box.drain()
        assert box.texts() == read_bubbles(path)
        references = box.sql("SELECT message_reference FROM segments ORDER BY id")
        assert [each[0] for each in references] == [1, 2, 3, 4, 5, 6]


# --- the operator's SQL


def test_row_inserted_by_hand_is_sent_when_it_is_due(box: LiveBox) -> None:
    box.lay_down()
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    row_id = box.insert(ANA, "A test [BUBBLE] by hand", due)
    box.drain()
    assert box.texts() == [(ANA, "A test"), (ANA, "by hand")]
    assert 0 <= box.modem.accepted()[0].at - due.timestamp() < 0.5
    assert box.row(row_id) == ("sent", "")


def test_idle_daemon_wakes_for_a_due_row_and_not_for_its_poll(box: LiveBox) -> None:
    box.settle(service={"poll_seconds": 30})
    box.lay_down()
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    box.insert(ANA, "On the second", due)
    box.start()
    wait_until(box.texts)
    assert 0 <= box.modem.accepted()[0].at - due.timestamp() < 0.25


def test_cancelling_by_sql_between_two_bubbles_stops_the_second(box: LiveBox) -> None:
    box.settle(pacing={"bubble_gap_seconds": [1.5, 1.5]})
    box.lay_down()
    row_id = box.insert(ANA, "One [BUBBLE] two")
    daemon = box.start("--drain")
    wait_until(lambda: box.bubbles(row_id) == ["sent", "queued"])
    box.sql("UPDATE scheduled_messages SET status = 'cancelled' WHERE id = ?", row_id)
    assert daemon.wait() == 0
    assert box.texts() == [(ANA, "One")]
    assert box.row(row_id) == ("cancelled", "1 of 2 bubbles were sent")
    assert box.bubbles(row_id) == ["sent", "cancelled"]


def test_rows_due_outside_the_hours_wait_for_the_next_opening(box: LiveBox) -> None:
    opening = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0)
    opening += timedelta(days=3)
    box.settle(
        business_hours={
            "timezone": "UTC", "opens": "09:00", "closes": "20:00",
            "days": [f"{opening:%a}".lower()],
        }
    )  # fmt: skip
    box.lay_down()
    rows = box.insert(ANA, "Not at night"), box.insert(BEN, "Nor this one")
    planned = box.sql("SELECT scheduled_for FROM scheduled_messages")
    daemon = box.start()
    box.await_idle()
    box.stays([])
    listed = json.loads(box.call("list", "--json").stdout)
    first, second = (to_time(each["expected_at"], "%Y-%m-%dT%H:%M:%SZ") for each in listed)
    assert first == opening.timestamp()
    assert 0.5 <= second - first <= 2.2
    assert daemon.stop() == 0
    # Their times are the operator's: nobody moves them.
    assert box.sql("SELECT scheduled_for FROM scheduled_messages") == planned
    for row_id in rows:
        events = box.sql(
            "SELECT event, actor FROM events WHERE scheduled_message_id = ? ORDER BY id", row_id
        )
        assert events == [("added", "sql")]
        assert box.row(row_id)[0] == "scheduled"


def test_held_rows_and_opted_out_numbers_get_nothing(box: LiveBox) -> None:
    box.call("optout", "add", ANA)
    stopped = box.insert(ANA, "Not to be sent")
    held = box.insert(BEN, "Held", held_because="asked for by the operator")
    sent = box.insert(CHLOE, "This one goes")
    box.drain()
    assert box.texts() == [(CHLOE, "This one goes")]
    assert box.row(stopped)[0] == "cancelled"
    assert "stop" in box.row(stopped)[1]
    assert box.row(held) == ("scheduled", "")
    assert box.row(sent) == ("sent", "")


def test_number_opted_out_in_another_spelling_of_the_row_gets_nothing(box: LiveBox) -> None:
    box.call("optout", "add", ANA)
    row_id = box.insert("(213) 555-2313", "Not to be sent")
    box.drain()
    assert box.texts() == []
    assert box.row(row_id)[0] == "cancelled"


def test_text_can_not_become_a_command(box: LiveBox) -> None:
    nasty = [
        'He said "AT+CMGD=1,4"\r\nAT+CFUN=0\r\nOK',
        "> AT+CMGS=1 +CMGS: 7",
        "Robert'); DROP TABLE scheduled_messages;--",
    ]
    path = box.folder / "nasty.csv"
    people = [f"+1213555233{digit}" for digit in range(len(nasty))]  # each gets one text of a file
    write_csv(path, [(number, "Ben", text) for number, text in zip(people, nasty, strict=True)])
    box.call("schedule", str(path), "--yes")
    wild = [
        (box.insert(ANA, text), text.replace("\r", "\n"))
        for text in ("bell\x1aAT+CMGD=1,4\rleft", "out\x1b\rATD5551234;\r", "\x1a")
    ]
    odd_number = box.insert("+12135552313\r\nAT+CMGD=1,4", "To nobody")
    box.insert(CHLOE, "The last")
    box.drain()

    arrived = box.texts()
    for number, text in zip(people, nasty, strict=True):
        assert (number, text.replace("\r\n", "\n")) in arrived
    assert (CHLOE, "The last") in arrived
    for row_id, text in wild:
        status, words = box.row(row_id)
        if status == "failed":
            assert words
        else:
            assert (status, (ANA, text.strip()) in arrived) == ("sent", True)
    assert box.row(odd_number)[0] == "failed"
    assert not [each for each in box.modem.heard() if "CMGD" in each.line or "ATD" in each.line]
    assert all("\x1a" not in each.line and "\x1b" not in each.line for each in box.modem.heard())


def test_csv_with_a_control_character_is_refused(box: LiveBox) -> None:
    path = box.folder / "control.csv"
    write_csv(path, [(ANA, "Ana", "Hi\x1aAna")])
    said = box.call("schedule", str(path), "--yes", status=65).stderr
    assert "row 2" in said
    assert "U+001A" in said
    assert not box.database.exists()


# --- stops, cuts, restarts


def test_sigterm_during_a_segment_ends_after_it_and_a_restart_sends_the_rest(box: LiveBox) -> None:
    box.modem.misbehave(Fault(TEXT, delay_s=1.0))
    box.lay_down()
    row_id = box.insert(ANA, f"{LONG}[BUBBLE]The end")
    daemon = box.start("--drain")
    wait_until(box.modem.accepted)
    assert daemon.stop() == 0
    assert len(box.modem.accepted()) == 1
    segments = box.sql("SELECT sequence, status, message_reference FROM segments")
    assert segments == [(1, "sent", 1)]
    assert box.row(row_id) == ("scheduled", "")

    box.drain()
    assert box.texts() == [(ANA, LONG.strip()), (ANA, "The end")]
    assert len(box.modem.accepted()) == 4
    assert box.row(row_id) == ("sent", "")


def test_segment_that_the_modem_held_at_a_kill_is_unconfirmed_and_never_sent_again(
    box: LiveBox,
) -> None:
    box.modem.misbehave(Fault(TEXT, says=b""))
    box.lay_down()
    row_id = box.insert(ANA, "Once [BUBBLE] twice")
    daemon = box.start("--drain")
    wait_until(box.modem.accepted)
    daemon.kill()
    assert box.sql("SELECT status FROM segments") == [("sending",)]

    box.drain()
    assert box.bubbles(row_id) == ["unconfirmed", "cancelled"]
    assert box.sql("SELECT status FROM segments") == [("unconfirmed",)]
    status, words = box.row(row_id)
    assert status == "failed"
    assert "may have been sent" in words

    box.sql(
        "UPDATE scheduled_messages SET status = 'scheduled', scheduled_for = datetime('now')"
        " WHERE id = ?",
        row_id,
    )
    box.drain()
    assert box.row(row_id)[0] == "failed"
    assert box.texts() == [(ANA, "Once")]


def test_silence_after_ctrl_z_leaves_a_message_unconfirmed_and_the_next_one_goes(
    box: LiveBox,
) -> None:
    box.settle(modem={"send_timeout_seconds": 1})
    box.modem.misbehave(Fault(TEXT, says=b""))
    box.lay_down()
    silent = box.insert(ANA, "Nobody knows")
    after = box.insert(BEN, "The next")
    box.drain()
    assert box.bubbles(silent) == ["unconfirmed"]
    assert box.row(silent)[0] == "failed"
    assert box.row(after) == ("sent", "")
    assert box.texts() == [(ANA, "Nobody knows"), (BEN, "The next")]


def test_modem_pulled_at_ctrl_z_leaves_a_message_unconfirmed_and_the_next_one_goes(
    box: LiveBox,
) -> None:
    box.modem.misbehave(Fault(TEXT, hangs_up=True))
    box.lay_down()
    cut = box.insert(ANA, "Nobody knows")
    after = box.insert(BEN, "The next")
    daemon = box.start("--drain")
    wait_until(lambda: box.row(cut)[0] == "failed")
    box.modem.replug()
    assert daemon.wait() == 0
    assert box.bubbles(cut) == ["unconfirmed"]
    assert box.row(after) == ("sent", "")
    assert box.texts() == [(ANA, "Nobody knows"), (BEN, "The next")]


def test_unplugged_and_replugged_modem_goes_on(box: LiveBox) -> None:
    box.lay_down()
    box.insert(ANA, "Before")
    daemon = box.start()
    wait_until(box.texts)
    box.await_idle()
    box.modem.unplug()
    waits = box.insert(BEN, "After")
    box.stays([(ANA, "Before")])
    assert box.row(waits) == ("scheduled", "")
    box.modem.replug()
    wait_until(lambda: box.row(waits)[0] == "sent")
    assert box.texts() == [(ANA, "Before"), (BEN, "After")]
    assert daemon.stop() == 0


def test_modem_that_is_plugged_in_late_is_found(box: LiveBox) -> None:
    box.modem.unplug()
    box.lay_down()
    box.insert(ANA, "Here we are")
    daemon = box.start("--drain")
    wait_until(lambda: "modem" in daemon.journal())
    box.modem.replug()
    assert daemon.wait() == 0
    assert box.texts() == [(ANA, "Here we are")]


def test_no_row_is_burned_while_the_network_is_away(box: LiveBox) -> None:
    box.modem.register(False)
    box.lay_down()
    row_id = box.insert(ANA, "With a network")
    daemon = box.start("--drain")
    wait_until(lambda: [each for each in box.modem.heard() if "REG?" in each.line])
    box.stays([])
    assert box.row(row_id) == ("scheduled", "")
    box.modem.register(True)
    assert daemon.wait() == 0
    assert box.texts() == [(ANA, "With a network")]


def test_bubble_that_is_refused_for_good_fails_its_message_and_the_next_one_goes(
    box: LiveBox,
) -> None:
    box.modem.misbehave(Fault(TEXT, skip=1, obeys=False, says=b"\r\n+CMS ERROR: 1\r\n"))
    box.lay_down()
    refused = box.insert(ANA, "One [BUBBLE] two [BUBBLE] three")
    after = box.insert(BEN, "The next")
    box.drain()
    assert box.texts() == [(ANA, "One"), (BEN, "The next")]
    assert box.bubbles(refused) == ["sent", "failed", "cancelled"]
    assert box.row(refused)[0] == "failed"
    assert "CMS 1 unassigned number" in box.row(refused)[1]
    assert box.row(after) == ("sent", "")


def test_stop_that_arrives_between_two_bubbles_stops_the_second(box: LiveBox) -> None:
    box.settle(pacing={"bubble_gap_seconds": [2, 2]})
    box.lay_down()
    row_id = box.insert(ANA, "One [BUBBLE] two")
    later = box.insert(ANA, "Another day", datetime.now(UTC) + timedelta(days=2))
    daemon = box.start("--drain")
    wait_until(lambda: box.bubbles(row_id) == ["sent", "queued"])
    box.modem.receive("Stop", ANA)
    assert daemon.wait() == 0
    confirmation = "Done: you are off our list and will not hear from us again."
    assert box.texts() == [(ANA, "One"), (ANA, confirmation)]
    words = "1 of 2 bubbles were sent: the recipient said stop"
    assert box.row(row_id) == ("cancelled", words)
    assert box.bubbles(row_id) == ["sent", "cancelled"]
    assert box.row(later)[0] == "cancelled"
    assert ANA in [each[0] for each in box.sql("SELECT phone_number FROM opt_outs")]
    assert box.sql("SELECT sender, body FROM inbound") == [(ANA, "Stop")]
    assert box.modem.stored() == 0


def test_pause_lasts_over_a_restart_until_resume(box: LiveBox) -> None:
    box.settle(pacing={"first_after_seconds": 2})
    path = box.folder / "paused.csv"
    write_csv(path, CAMPAIGN[:2])
    box.call("schedule", str(path), "--yes")
    daemon = box.start()
    box.call("pause")
    box.await_idle()
    box.stays([])
    assert daemon.stop() == 0
    assert box.start("--drain").wait() == 0  # nothing can go without a person
    box.stays([])
    said = box.call("resume").stdout
    assert "2 will be" in said
    box.drain()
    assert box.texts() == read_bubbles(path)


def test_second_daemon_on_the_same_database_exits_75(box: LiveBox) -> None:
    box.lay_down()
    first = box.start()
    box.await_idle()
    count = len(box.modem.heard())
    second = box.start("--drain")
    assert second.wait() == 75
    assert "Traceback" not in second.journal()
    assert len(box.modem.heard()) == count
    box.insert(ANA, "From the first")
    wait_until(box.texts)
    assert first.stop() == 0


def test_service_manager_hears_ready_status_and_stopping(box: LiveBox) -> None:
    path = box.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(10)
        box.lay_down()
        daemon = box.start(notify=path)
        heard = [manager.recv(4096).decode()]
        while not any("STATUS=" in each for each in heard):
            heard.append(manager.recv(4096).decode())
        box.await_idle()
        assert daemon.stop() == 0
        while not any("STOPPING=1" in each for each in heard):
            heard.append(manager.recv(4096).decode())
    assert "READY=1" in heard[0]
    assert "STOPPING=1" in heard[-1]


# --- the demo


def test_demo_runs_to_its_end_on_a_bare_interpreter_and_shows_each_text(
    demo: subprocess.Popen[str],
) -> None:
    said = demo.communicate(timeout=90)[0]
    assert demo.returncode == 0, said
    plan, _, arrivals = said.partition("On the other side")
    form = r"^\w{3} \d\d:\d\d [AP]M  \+\d+(?: \((\d)/\d\))?  (.*)$"
    whole = ""
    for part, text in re.findall(form, arrivals, re.MULTILINE):
        whole += text if part > "1" else f"\n{text}"  # the parts of a long one follow each other
    header = plan.index("phone_number,")
    rows = list(csv.DictReader(plan[header:].split("\n\n")[0].splitlines()))
    assert len(rows) >= 3
    for row in rows:
        for bubble in row["message_content"].split("[BUBBLE]"):
            assert bubble.strip() in whole.split("\n")
    assert f"Sent: {len(rows)} of {len(rows)}" in arrivals
