"""Pauses: at once, with an end of their own, of a campaign or of the box; and who is held why."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest

import smsbox
from rig.desk import LOGIN, Operator
from rig.people import ANA, BEN
from rig.played import PlayedBox

HOUR = 3600
PAUSED_ITSELF = (
    "INSERT INTO state VALUES ('paused_because', 'refused: no credit'), ('paused_by', 'box')"
)


def pause(box: PlayedBox, for_s: float, because: str = "paused by ana until then") -> None:
    until = box.play.now() + timedelta(seconds=for_s)
    box.database.state.set(paused_because=because, paused_until=f"{until:%Y-%m-%d %H:%M:%S}")


def test_box_goes_on_by_itself_when_its_pause_ends_each_at_its_own_gap(box: PlayedBox) -> None:
    rows = [box.insert(f"+1213555230{each}", f"{each}", 300 * each) for each in range(3)]
    pause(box, 2 * HOUR)
    begun = box.play.now()
    box.serve(HOUR)
    assert box.texts() == []
    box.serve(2 * HOUR)  # another life of the daemon
    assert box.texts() == ["0", "1", "2"]
    sent = [when - begun for when, _, _ in box.far.arrived]
    assert timedelta(hours=2) <= sent[0] <= timedelta(hours=2, seconds=20)
    assert all(b - a >= timedelta(minutes=4) for a, b in pairwise(sent))
    assert box.events(rows[0]) == ["sql added", "daemon sent"]
    assert box.sql("SELECT actor, event FROM events WHERE scheduled_message_id IS NULL") == [
        ("daemon", "resumed")
    ]


def test_campaign_goes_on_by_itself_and_no_other_with_it(box: PlayedBox) -> None:
    box.insert(ANA, "fall")
    box.insert(BEN, "spring", campaign_name="spring")
    for name, until in (("fall", timedelta(hours=1)), ("spring", None)):
        end = box.play.now() + until if until else None
        by = smsbox.PausedBy.OPERATOR
        box.database.state.pause(name, "paused by ana", by, box.play.now(), end)
    box.serve(HOUR / 2)
    assert box.texts() == []
    box.serve(2 * HOUR)
    assert box.texts() == ["fall"]
    assert box.database.state.paused_campaigns() == {"spring": "paused by ana"}


@pytest.mark.parametrize("because", ["refused: no credit", "paused by a refusal"])
def test_box_that_stopped_for_a_reason_of_its_own_waits_for_a_person(
    box: PlayedBox, because: str
) -> None:
    box.insert(ANA, "no")
    pause(box, 60, because)
    box.database.state.set(paused_by="box")
    box.serve(HOUR)
    assert box.texts() == []
    assert box.database.state.get("paused_because") == because


def test_reason_of_the_box_itself_takes_the_end_from_a_pause(box: PlayedBox) -> None:
    pause(box, 60)
    with box.database.transaction():
        smsbox.pause_box(box.database, "another SIM is in", box.play)
    assert box.database.state.get("paused_until") == ""


def test_pause_does_not_end_while_the_clock_is_not_trusted(box: PlayedBox) -> None:
    box.insert(ANA, "no")
    pause(box, 60)
    box.evidence = ""
    box.serve(HOUR)
    assert box.database.state.get("paused_because") != ""
    assert box.texts() == []


# --- the command


def test_pause_says_what_was_sent_last_and_what_waits(operator: Operator) -> None:
    assert "Paused. Nothing was sent yet; 0 wait" in operator.run("pause").out
    row = operator.insert()
    operator.insert()
    for place, status in enumerate(("sent", "queued"), 1):
        operator.insert_bubble(row, status, "sent" if status == "sent" else "", place)
    operator.sql("UPDATE messages SET sent_at = '2025-11-09 22:02:00' WHERE bubble = 1")
    told = " ".join(operator.run("pause", "--now").out.split())
    assert told == (
        "Paused. Last sent: Ana, Sun 11/09 2:02 PM, bubble 1 of 2; 2 wait: smsbox resume goes on."
    )


def test_pause_with_an_end_is_told_everywhere_and_lifted_by_resume(operator: Operator) -> None:
    until = datetime.now() + timedelta(days=3)
    told = " ".join(operator.run("pause", "--until", f"{until:%Y-%m-%d}").out.split())
    assert told.startswith(f"Paused until {until:%a %m/%d} 12:00 AM. ")
    assert told.endswith("0 wait: it goes on by itself.")
    assert f"{LOGIN} until {until:%a %m/%d} 12:00 AM: smsbox resume" in operator.run("status").out
    operator.run("resume")
    assert operator.sql("SELECT key FROM state WHERE key LIKE 'paused%'") == []
    operator.insert()
    operator.run("pause", "--until", f"{until:%Y-%m-%d} 23:00", "--campaign", "fall")
    ((stored,),) = operator.sql("SELECT paused_until FROM campaigns WHERE name = 'fall'")
    assert smsbox.from_database_time(stored) > datetime.now(smsbox.UTC) + timedelta(days=2)
    operator.run("pause", "--campaign", "fall")  # without an end it has none any more
    assert operator.sql("SELECT paused_until FROM campaigns") == [(None,)]


def test_pause_refuses_an_end_that_makes_no_sense(operator: Operator) -> None:
    assert "has passed" in operator.sentence("pause", "--until", "2024-12-24", status=2)
    refused = operator.sentence("pause", "--until", "next week", status=2)
    assert '--until "next week" is not a time: write it like "2025-11-30 10:00"' in refused
    operator.sql(PAUSED_ITSELF)
    later = f"{datetime.now() + timedelta(days=3):%Y-%m-%d}"
    refused = operator.sentence("pause", "--until", later, status=75)
    assert "refused: no credit" in refused
    assert operator.run("pause").status == 0  # and by hand on top: it keeps the graver reason
    assert operator.sql("SELECT value FROM state WHERE key = 'paused_because'") == [
        ("refused: no credit",)
    ]


def test_campaign_is_paused_by_hand_though_the_box_has_paused_itself(operator: Operator) -> None:
    operator.insert()
    operator.sql(PAUSED_ITSELF)
    later = f"{datetime.now() + timedelta(days=3):%Y-%m-%d}"
    assert operator.run("pause", "--campaign", "fall", "--until", later).status == 0
    ((because,),) = operator.sql("SELECT paused_because FROM campaigns")
    assert because.startswith("paused by ")
    operator.sql("UPDATE campaigns SET paused_because = 'many said stop', paused_by = 'box'")
    refused = operator.sentence("pause", "--campaign", "fall", "--until", later, status=75)
    assert "many said stop" in refused


def test_status_counts_who_is_held_by_the_reason(operator: Operator) -> None:
    for because in ("they have replied", "late", "they have replied"):
        operator.insert(held_because=because)
    told = operator.run("status", "--json").value
    assert (told["counts"]["held"], told["level"]) == (3, "fault")
    held = [(each["level"], each["words"]) for each in told["facts"] if each["name"] == "held"]
    assert held == [
        ("warning", "2, they have replied: smsbox list --held"),
        ("warning", "1, late: smsbox list --held"),
    ]
    out = operator.run("status").out
    assert all(f"warning  held       {words}\n" in out for _, words in held)
