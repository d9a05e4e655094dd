"""What an operator does on a bad day, as the terminal shows it; tests/golden has the stories."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest
from pty_modem import wait_until
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
