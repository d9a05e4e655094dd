"""The first line of status: how it is, and whether somebody is needed."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from rig.desk import THEIRS_OFF, UTC, Operator
from rig.pace import LOS_ANGELES
from rig.people import ANA, BEN, CHLOE

TOLD = {"pid": 4711, "modem": "ready", "modem_ready": True, "clock": "gps", "trusted": True}


@pytest.fixture
def box(operator: Operator) -> Iterator[Operator]:
    """The operator beside a daemon, as it looks from outside."""
    with operator.database.with_name("box.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tell(operator)
        yield operator


def tell(box: Operator, **words: object) -> None:
    box.database.with_name("box.db.status.json").write_text(json.dumps({**TOLD, **words}))


def answer(box: Operator, status: int) -> str:
    shown, told = box.run("status"), box.run("status", "--json")
    assert shown.status == told.status == status
    assert told.value["answer"] == shown.out.splitlines()[0]
    return str(told.value["answer"])


def stamp(at: datetime) -> str:
    local = at.astimezone(LOS_ANGELES)
    return f"{local:%a %m/%d} {local.hour % 12 or 12}:{local:%M %p}"


def test_sending(box: Operator) -> None:
    box.insert(status="sent", sent_at="2025-11-09 18:00:00")
    box.insert(phone_number=CHLOE, status="cancelled")
    last = box.due(box.insert(60, phone_number=BEN))
    said = f"Sending: fall, 1 of 2 sent, done about {stamp(last)}."
    assert answer(box, 0) == f"{said} Nothing needs you."
    last = box.due(box.insert(120, campaign_name="spring"))
    said = f"Sending: fall, 1 of 2 sent; spring, 0 of 1 sent, done about {stamp(last)}."
    assert answer(box, 0) == f"{said} Nothing needs you."


def test_sending_goes_on_when_the_hours_open(box: Operator) -> None:
    box.insert(-1)
    opens = (datetime.now(LOS_ANGELES) + timedelta(days=2)).replace(
        hour=9, minute=0, second=0, microsecond=0
    )
    day = f"{opens:%a}".lower()
    box.config.write_text(f'[business_hours]\ndays = ["{day}"]\n{THEIRS_OFF}')
    said = answer(box, 0)
    assert said.startswith(f"Sending: fall, 0 of 1 sent, goes on {stamp(opens)}, done about ")


def test_paused(box: Operator) -> None:
    box.insert()
    until = (datetime.now(LOS_ANGELES) + timedelta(days=2)).replace(hour=9, minute=0)
    box.run("pause", "--until", f"{until:%Y-%m-%d} 09:00")
    assert answer(box, 1).startswith(f"Paused until {stamp(until)}.")
    box.run("pause")
    assert answer(box, 1).startswith("Paused by ")
    box.run("resume")
    box.run("pause", "--campaign", "fall")
    assert re.match("Paused: fall|.*fall is paused", said := answer(box, 1))
    assert said.endswith(". 1 thing needs you.")


def test_nothing_is_scheduled(box: Operator) -> None:
    assert answer(box, 0) == "Nothing is scheduled. Nothing needs you."
    box.insert(status="sent", sent_at="2025-11-09 18:00:00")
    assert answer(box, 0) == "Nothing is scheduled. Nothing needs you."


def test_what_is_held_can_not_go(box: Operator) -> None:
    box.insert(held_because="they have replied")
    assert answer(box, 1) == "Nothing can go: 1 message held. 1 thing needs you."


def test_things_that_need_a_person_are_counted(box: Operator) -> None:
    box.insert()
    box.insert(phone_number=BEN, status="failed")
    box.reply(None)
    assert answer(box, 1).endswith(". 2 things need you.")


def test_not_running(operator: Operator) -> None:
    operator.insert()
    hint = "Start it with sudo systemctl start smsbox; smsbox check says more."
    assert answer(operator, 2) == f"Not sending: smsbox is not running. {hint}"


def test_not_sending_says_what_to_do(box: Operator) -> None:
    box.insert()
    tell(box, modem="no modem at /dev/ttyUSB2: plug it in", modem_ready=False)
    hint = "Plug it in; smsbox check says more."
    assert answer(box, 2) == f"Not sending: no modem at /dev/ttyUSB2. {hint}"


@pytest.mark.parametrize("harmless", ["reply", "copies", "clock"])
def test_no_person_is_called_for_what_can_wait(box: Operator, harmless: str) -> None:
    box.insert()
    if harmless == "reply":
        box.reply("Thanks", "nothing")
    elif harmless == "clock":
        box.config.write_text(f"{box.config.read_text()}[clock]\nrequire_trust = false\n")
        tell(box, trusted=False, clock="")
    assert answer(box, 0).endswith(". Nothing needs you.")


def test_late_row_is_a_row_that_still_goes(box: Operator) -> None:
    past = datetime.now(UTC) - timedelta(minutes=30)
    box.insert(phone_number=ANA, scheduled_for=f"{past:%Y-%m-%d %H:%M:%S}")
    assert answer(box, 0).startswith("Sending: fall, 0 of 1 sent, done about ")
