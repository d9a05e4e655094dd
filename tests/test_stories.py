"""What an operator does on a bad day, as the terminal shows it; tests/golden has the stories."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest

from rig.pty_modem import TEXT, Fault, wait_until
from test_changed_plans import Story, story, texts  # noqa: F401 (one is the fixture)
from test_end_to_end import ANA, BEN

CLEO = "+14155552671"


def test_story_of_everything_stopped_at_once(
    story: Story,  # noqa: F811
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
    story: Story,  # noqa: F811
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
    story.tell("release", ANA)
    story.tell("release", ANA)
    box.modem.receive("yes this is spam, I will report you", ANA)
    wait_until(lambda: bool(box.sql("SELECT 1 FROM scheduled_messages WHERE held_because <> ''")))
    story.tell("optout", "add", ANA, "--reason", "they are cross")
    story.tell("list")
    assert story.arrived() == []
    assert box.row(1) == ("cancelled", "the recipient said stop")
    story.compare("held", request)


def test_story_of_the_operator_s_phone(
    story: Story,  # noqa: F811
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
    wait_until(lambda: len(story.arrived()) == 4)
    story.tell("status")
    box.modem.receive("RESUME", phone)  # that is done at the box alone
    box.modem.receive("STATUS", BEN)  # and nobody else is told
    wait_until(lambda: box.sql("SELECT count(*) FROM inbound") == [(4,)])
    assert box.sql("SELECT value FROM state WHERE key = 'paused_because'") == [
        ("paused by a text of the operator",)
    ]
    told = story.arrived()
    assert [number for number, _ in told] == [phone, ANA, phone, phone]
    assert told[0][1].startswith("smsbox: it paused itself: refused: CMS 50 ")
    assert told[2][1] == "smsbox: running, 1 sent in 24 h, 0 wait, signal -71 dBm"
    assert told[3][1].startswith("smsbox: paused: paused by a text of the operator, 1 sent")
    assert all(len(text) <= 160 for _, text in told)
    story.compare("phone", request)


def test_story_of_a_campaign_that_is_over_told_and_blanked(
    story: Story,  # noqa: F811
    request: pytest.FixtureRequest,
) -> None:
    box = story.box
    (box.folder / "fall.csv").write_text(texts((ANA, "=1+1 Hello"), (BEN, "Hello")))
    box.call("schedule", str(box.folder / "fall.csv"), "--yes")
    box.drain()
    story.tell("list", "--campaigns")
    story.tell("report", "--campaign", "fall")
    story.tell("report", "--campaign", "winter")
    story.tell("export", str(box.folder / "all"))
    story.tell("export", str(box.folder / "all"))
    messages = (box.folder / "all" / "messages.csv").read_text("utf-8-sig")
    assert "'=1+1 Hello" in messages
    assert "'+12135552313" in messages
    box.sql("UPDATE scheduled_messages SET sent_at = datetime('now', '-3 years'),"
            " created_at = datetime('now', '-3 years')")  # fmt: skip
    story.tell("purge", "--older-than", "2y", answer="YES")
    assert box.sql("SELECT message_content, status FROM scheduled_messages") == [("", "sent")] * 2
    story.tell("purge", "--older-than", "2y")
    story.compare("years", request)
