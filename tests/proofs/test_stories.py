"""What an operator does, on bad days too: commands on a terminal, the real daemon, a modem.

The transcripts stand in tests/golden, times and places written over.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

import pytest

from rig.desk import UTC, texts
from rig.people import ANA, BEN, CHLOE
from rig.pty_modem import TEXT, Fault, wait_until
from rig.story import Story

CLEO = "+14155552671"


def test_story_of_everything_stopped_at_once(
    story: Story,
    request: pytest.FixtureRequest,
) -> None:
    box = story.box
    box.settle(pacing={"bubble_gap_seconds": [3, 3]})
    people = [(ANA, "One [BUBBLE] two [BUBBLE] three"), (BEN, "Four"), (CLEO, "Five")]
    (box.folder / "fall.csv").write_text(texts(*people))
    box.call("schedule", str(box.folder / "fall.csv"), "--yes")
    box.sql("UPDATE scheduled_messages SET scheduled_for = datetime('now', '+2 hours')"
            " WHERE id > 1")  # fmt: skip
    daemon = box.start()
    wait_until(lambda: len(story.arrived()) == 1)
    began = time.monotonic()
    story.tell("pause", "--now")
    assert time.monotonic() - began < 2
    time.sleep(3.5)  # longer than the gap before the next bubble
    assert story.arrived() == [(ANA, "One")]
    story.tell("pause", "--until", "2024-12-27")
    later = datetime.now() + timedelta(days=20)
    story.tell("pause", "--until", f"{later:%Y-%m-%d} 09:00")
    assert daemon.stop() == 0
    box.start()  # the next morning: it is paused still
    box.await_idle()
    story.tell("resume")
    wait_until(lambda: len(story.arrived()) == 3)
    wait_until(lambda: box.row(1)[0] == "sent")
    story.tell("pause")
    story.tell("cancel", "--campaign", "fall", answer="no")
    story.tell("cancel", "--campaign", "fall", answer="YES")
    story.tell("cancel", "--campaign", "winter")
    assert [text for _, text in story.arrived()] == ["One", "two", "three"]
    assert box.sql("SELECT status FROM scheduled_messages ORDER BY id") == [
        ("sent",), ("cancelled",), ("cancelled",)
    ]  # fmt: skip
    story.compare("stopped", request)


def test_story_of_a_reply_that_may_mean_stop(
    story: Story,
    request: pytest.FixtureRequest,
) -> None:
    box = story.box
    (box.folder / "fall.csv").write_text(texts((ANA, "Hello"), (BEN, "Hello")))
    box.call("schedule", str(box.folder / "fall.csv"), "--yes")
    box.sql("UPDATE scheduled_messages SET scheduled_for = datetime('now', '+2 hours')")
    box.start()
    box.await_idle()
    box.modem.receive("is this spam?", ANA)
    wait_until(lambda: bool(box.sql("SELECT 1 FROM inbound")))
    story.tell("status")
    story.tell("list", "--held")
    story.tell("why", ANA)
    story.tell("inbox")
    story.tell("status")  # to read it settles nothing
    (box.folder / "winter.csv").write_text(texts((ANA, "Again"), (CLEO, "Hello")))
    story.tell("schedule", "winter.csv", "--dry-run", "--seed", "1")
    story.tell("send", ANA, "Did you mean it?", answer="no")
    story.tell("release", ANA)
    story.tell("release", ANA)
    box.modem.receive("yes this is spam, I will report you", ANA)
    wait_until(lambda: box.sql("SELECT count(*) FROM inbound") == [(2,)])
    story.tell("optout", "add", ANA, "--reason", "they are cross")
    story.tell("list")
    assert story.arrived() == []
    assert box.row(1) == ("cancelled", "the recipient said stop")
    story.compare("held", request)


def test_story_of_a_stop_that_may_be_that_of_two_people(
    story: Story, request: pytest.FixtureRequest
) -> None:
    box, number = story.box, "7700900123"
    people = [("+44" + number, "Hello"), ("+61" + number, "G'day"), (BEN, "Hi")]
    (box.folder / "fall.csv").write_text(texts(*people))
    box.call("schedule", str(box.folder / "fall.csv"), "--yes")
    box.sql("UPDATE scheduled_messages SET scheduled_for = datetime('now', '+3 seconds')")
    box.modem.receive("STOP", number)
    box.start()
    wait_until(lambda: box.row(3)[0] == "sent")
    wait_until(lambda: re.search("pace +open", box.call("why", "1").stdout) is not None)
    story.tell("status")
    story.tell("inbox")
    story.tell("why", "1")
    story.tell("list", "--held")
    (box.folder / "winter.csv").write_text(texts(("+61" + number, "Again"), (CLEO, "Hello")))
    story.tell("schedule", "winter.csv", "--dry-run", "--seed", "1")
    assert story.arrived() == [(BEN, "Hi")]
    story.tell("optout", "add", "+44" + number)
    wait_until(lambda: box.row(2)[0] == "sent")
    story.tell("status")
    story.tell("why", "2")
    story.tell("release", "+61" + number)
    story.tell("inbox")
    assert box.row(1)[0] == "cancelled"
    story.compare("two", request)


def test_story_of_a_stop_without_its_country_that_fits_nobody_yet(
    story: Story, request: pytest.FixtureRequest
) -> None:
    box = story.box
    box.lay_down()
    box.modem.receive("STOP", ANA[2:])
    box.start()
    wait_until(lambda: bool(box.sql("SELECT 1 FROM inbound")))
    box.await_idle()
    story.tell("status")
    story.tell("inbox")
    story.tell("optout", "list")
    (box.folder / "fall.csv").write_text(texts((ANA, "Hello"), (BEN, "Hello")))
    story.tell("schedule", "fall.csv", "--dry-run", "--seed", "1")
    story.tell("send", ANA, "Hello")
    row = box.insert(ANA, "by SQL", datetime.now(UTC) + timedelta(hours=2, seconds=20))
    story.tell("why", str(row))
    box.sql("UPDATE scheduled_messages SET scheduled_for = datetime('now')")
    wait_until(lambda: box.row(row)[0] != "scheduled")
    story.tell("list", ANA)
    assert story.arrived() == []
    assert box.row(row) == ("cancelled", "the recipient said stop")
    story.compare("nobody", request)


def test_story_of_the_operator_s_phone(
    story: Story,
    request: pytest.FixtureRequest,
) -> None:
    box, phone = story.box, "+12135550100"
    box.settle()
    box.config.write_text(box.config.read_text() + f'[alerts]\noperator = "{phone}"\n')
    box.lay_down()
    box.modem.misbehave(Fault(TEXT, says=b"\r\n+CMS ERROR: 50\r\n", obeys=False))  # no such service
    row_id = box.insert(ANA, "Hello")
    box.sql("UPDATE scheduled_messages SET campaign_name = ''")  # its end would be told by day only
    box.start()
    wait_until(lambda: len(story.arrived()) == 1)
    story.tell("status")
    story.tell("resume")
    wait_until(lambda: box.row(row_id)[0] == "sent")
    box.modem.receive("Status", phone)
    wait_until(lambda: len(story.arrived()) == 3)
    box.modem.receive("PAUSE", phone)
    wait_until(lambda: len(story.arrived()) == 5)
    story.tell("status")
    box.modem.receive("RESUME", phone)  # that is done at the box alone
    box.modem.receive("STATUS", BEN)  # and nobody else is told
    wait_until(lambda: box.sql("SELECT count(*) FROM inbound") == [(4,)])
    assert box.sql("SELECT value FROM state WHERE key = 'paused_because'") == [
        ("paused by a text of the operator",)
    ]
    told = story.arrived()
    assert [number for number, _ in told] == [phone, ANA, phone, phone, phone]
    assert told[0][1].startswith("smsbox: it paused itself: refused: CMS 50 ")
    assert told[2][1] == "smsbox: running, 1 sent in 24 h, 0 wait, signal -71 dBm"
    assert told[3][1].startswith("smsbox: paused: paused by a text of the operator, 1 sent")
    assert told[4][1] == "smsbox: a text from this number has paused it; smsbox resume goes on"
    assert all(len(text) <= 160 for _, text in told)
    story.compare("phone", request)


def test_story_of_a_campaign_that_is_over_told_and_blanked(
    story: Story,
    request: pytest.FixtureRequest,
) -> None:
    box = story.box
    (box.folder / "fall.csv").write_text(texts((ANA, "=1+1 Hello"), (BEN, "Hello")))
    box.call("schedule", str(box.folder / "fall.csv"), "--yes")
    box.drain()
    story.tell("report")
    story.tell("report", "fall")
    story.tell("report", "winter")
    story.tell("export", str(box.folder / "all"))
    story.tell("export", str(box.folder / "all"))
    messages = (box.folder / "all" / "messages.csv").read_text("utf-8-sig")
    assert "'=1+1 Hello" in messages
    assert "'+12135552313" in messages
    box.sql("UPDATE scheduled_messages SET sent_at = datetime('now', '-3 years'),"
            " created_at = datetime('now', '-3 years')")  # fmt: skip
    story.tell("forget", "--older-than", "2y", answer="YES")
    assert box.sql("SELECT message_content, status FROM scheduled_messages") == [("", "sent")] * 2
    story.tell("forget", "--older-than", "2y")
    story.compare("years", request)


def test_story_of_a_typo_noticed_after_two_of_four(
    story: Story, request: pytest.FixtureRequest
) -> None:
    box = story.box
    people = [ANA, BEN, CHLOE, "+12135552317"]
    (box.folder / "sale.csv").write_text(texts(*((each, "Slae today") for each in people)))
    box.call("schedule", str(box.folder / "sale.csv"), "--yes")
    box.sql("UPDATE scheduled_messages SET scheduled_for = datetime('now', '+2 hours')"
            " WHERE id > 2")  # fmt: skip
    box.start()
    wait_until(lambda: box.row(2)[0] == "sent")
    (box.folder / "sale.csv").write_text(texts(*((each, "Sale today") for each in people)))
    story.tell("schedule", "sale.csv")
    story.tell("edit", "3", "--text", "Sale today")
    story.tell("edit", "4", "--text", "Sale today, Dan [BUBBLE] See you")
    story.tell("edit", "1", "--text", "Sale")
    box.sql("UPDATE scheduled_messages SET scheduled_for = datetime('now') WHERE id > 2")
    wait_until(lambda: box.row(3)[0] == box.row(4)[0] == "sent")
    assert story.arrived() == [
        (ANA, "Slae today"), (BEN, "Slae today"), (CHLOE, "Sale today"),
        (people[3], "Sale today, Dan"), (people[3], "See you"),
    ]  # fmt: skip
    story.compare("typo", request)


def test_story_of_a_text_tried_on_the_own_phone(
    story: Story, request: pytest.FixtureRequest
) -> None:
    box, own = story.box, "+12135559999"
    (box.folder / "sale.csv").write_text(
        "phone_number,customer_name,code\n2135552313,Ana,A1\n2135552314,Ben,B2\n"
    )
    (box.folder / "sale.txt").write_text("Hi {customer_name} – hello [BUBBLE] Your code: {code}")
    box.lay_down()
    box.start()
    box.await_idle()
    words = ("schedule", "sale.csv", "--template", "sale.txt", "--try", own)
    assert "is sent" in story.tell(*words, "--row", "3", "--simplify")
    assert story.arrived() == [(own, "Hi Ben - hello"), (own, "Your code: B2")]
    assert box.sql("SELECT campaign_name FROM scheduled_messages") == [("(test)",)]
    assert box.sql("SELECT count(*) FROM campaigns") == [(0,)]
    story.tell("report")
    story.tell(*words, "--row", "7")
    box.call("optout", "add", own)
    assert "said stop" in story.tell(*words)
    box.call("optout", "remove", own, "--reason", "it is mine", "--they-asked")
    box.settle(business_hours={"opens": "00:00", "closes": "00:01"})
    assert "outside the business hours" in box.call(*words[:1], str(box.folder / "sale.csv"),
        "--template", str(box.folder / "sale.txt"), *words[4:], status=75).stderr  # fmt: skip
    assert len(story.arrived()) == 2
    story.compare("tried", request)


def test_story_of_a_campaign_that_ends_in_time(
    story: Story, request: pytest.FixtureRequest
) -> None:
    box = story.box
    for name, number in (("slow", ANA), ("sale", CHLOE)):
        (box.folder / f"{name}.csv").write_text(texts((number, name)))
    story.tell("schedule", "slow.csv", "--yes", "--seed", "1")
    box.settle(business_hours={"timezone": "UTC"})  # there each time comes, and comes once
    soon = datetime.now(UTC) + timedelta(seconds=4)
    box.call("schedule", str(box.folder / "sale.csv"), "--until", f"{soon:%Y-%m-%d %H:%M:%S}",
             "--yes")  # fmt: skip
    box.settle()
    wait_until(lambda: datetime.now(UTC) > soon + timedelta(seconds=1))
    box.drain()
    assert story.arrived() == [(ANA, "slow")]
    assert box.row(2) == ("cancelled", "too late")
    story.compare("first", request)
