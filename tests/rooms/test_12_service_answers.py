"""The box's own answers: to people it knows, few a day, and no trouble of theirs is the box's."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import smsbox
from rig.desk import Operator
from rig.people import ANA, BEN
from rig.played import PlayedBox, at
from rig.tpdus import deliver
from smsbox import Fault, Request, write_answer

GONE = write_answer(Request.STOP, "en", "", "")
PHONE = "+12135550100"
DAY_S = 86_400
ALWAYS: dict[str, dict[str, Any]] = {
    "business_hours": {"opens": "00:00", "closes": "24:00"},
    "recipient_hours": {"enabled": False},
}


def come(box: PlayedBox, text: str, sender: str, in_s: float = 0, ago_s: float = 0) -> None:
    def arrive() -> None:
        sent_at = box.play.now() - timedelta(seconds=ago_s)
        box.far.said += box.far.modem.receive(deliver(text, sender, sent_at))

    box.after(in_s, arrive)


def expect(box: PlayedBox, *numbers: str) -> None:
    """Let somebody be one who is to get something."""
    for number in numbers:
        box.insert(number, "in a month", in_s=30 * DAY_S, campaign_name="winter")


def number_of(place: int) -> str:
    return f"+1310{2340000 + place}"


def spell(name: str) -> str:
    """An alphanumeric address: seven bits a letter, type of number 5, TS 23.040 9.1.2.5."""
    bits = sum(ord(letter) << (7 * place) for place, letter in enumerate(name))
    octets = bits.to_bytes((len(name) * 7 + 7) // 8, "little")
    return f"name:{(len(name) * 7 + 3) // 4:02X}D0{octets.hex().upper()}"


def own(box: PlayedBox) -> list[tuple[str, str, str]]:
    return box.sql("SELECT kind, phone_number, status FROM messages WHERE kind IS NOT NULL"
                   " ORDER BY id")  # fmt: skip


# --- whom


def test_strangers_are_obeyed_and_never_answered(box: PlayedBox) -> None:
    for place in range(120):
        come(box, "STOP" if place % 2 else "HELP", f"+88216550{place:04}", in_s=place)
    box.insert(ANA, "Hi", in_s=60)
    box.serve(600)
    assert box.texts() == ["Hi"]
    assert own(box) == []
    assert box.sql("SELECT count(*) FROM opt_outs") == [(60,)]


@pytest.mark.parametrize("state", ["scheduled", "sent", "held"])
def test_who_got_or_is_to_get_something_is_answered(box: PlayedBox, state: str) -> None:
    more = {"sent_at": "2025-11-08 18:00:00"} if state == "sent" else {}
    held = {"held_because": "x"} if state == "held" else {}
    status = "scheduled" if state == "held" else state
    box.insert(ANA, "Hi", in_s=DAY_S, status=status, **more, **held)
    come(box, "STOP", ANA)
    box.serve(60)
    assert box.texts() == [GONE]


def test_who_was_only_to_get_what_was_cancelled_before_it_began_is_a_stranger(
    box: PlayedBox,
) -> None:
    box.insert(ANA, "Hi", status="cancelled")
    come(box, "STOP", ANA)
    box.serve(60)
    assert box.texts() == []
    assert box.sql("SELECT phone_number FROM opt_outs") == [(ANA,)]


# --- how many


def test_thirty_a_day_in_all_are_the_most_and_it_is_told_once(box: PlayedBox) -> None:
    box.tables = {"alerts": {"operator": PHONE}, "service": {"poll_seconds": 60}}
    people = [number_of(place) for place in range(60)]
    expect(box, *people)
    for place, number in enumerate(people):
        come(box, ("STOP", "HELP")[place % 2], number, in_s=20 * place)
    box.serve(3 * 3600)
    answers = [each for each in own(box) if each[0] != "alert"]
    assert len(answers) == 30
    assert {each[1] for each in answers} == set(people[:30])
    alerts = [text for _, number, text in box.far.arrived if number == PHONE]
    assert [each for each in alerts if "answers in a day" in each] == alerts
    assert len(alerts) == 1
    assert box.sql("SELECT count(*) FROM opt_outs") == [(30,)]  # all are obeyed
    come(box, "STOP", people[31], in_s=DAY_S)  # and the next day there is room again
    box.serve(DAY_S + 60)
    assert len([each for each in own(box) if each[0] != "alert"]) == 31


# --- what a refused one does


@pytest.mark.parametrize("code", [1, 8, 10, 21, 28, 29, 38, 50, 69, 500])
def test_refused_answers_pause_nothing_and_the_campaign_goes_on(box: PlayedBox, code: int) -> None:
    box.tables = ALWAYS
    people = [number_of(place) for place in range(6)]
    expect(box, *people)
    for place, number in enumerate(people):
        come(box, "HELP", number, in_s=5 * place)
    refusal = b"\r\n+CMS ERROR: %d\r\n" % code

    def refuse() -> None:
        box.far.script.extend([refusal] * 6)

    box.after(1, refuse)
    box.after(900, box.far.script.clear)
    rows = [box.insert(BEN, f"Hi {place}", in_s=1000 + 500 * place) for place in range(3)]
    box.serve(7200)
    assert box.database.state.get("paused_because") == ""
    assert not box.database.state.get("account_refused")
    assert [box.row(each)[0] for each in rows] == ["sent"] * 3


def test_refused_answer_does_not_count_in_the_streak_of_recipients(box: PlayedBox) -> None:
    """Two recipients that are not reached, an answer between them, then one that is."""
    box.tables = ALWAYS
    expect(box, BEN)
    refusal = b"\r\n+CMS ERROR: 28\r\n"
    rows = [box.insert(number_of(place), "Hi", in_s=600 * place) for place in range(3)]
    come(box, "HELP", BEN, in_s=900)
    box.far.script.extend([refusal, refusal, refusal])
    box.serve(3600)
    assert [box.row(each)[0] for each in rows] == ["failed", "failed", "sent"]
    assert box.database.state.get("paused_because") == ""


# --- the plan of the SIM


def test_answers_take_nothing_of_the_campaign_s_quota(box: PlayedBox) -> None:
    box.tables = {**ALWAYS, "pacing": {"max_segments_per_day": 20, "max_messages_per_day": 20}}
    people = [number_of(place) for place in range(10)]
    expect(box, *people)
    for place, number in enumerate(people):
        come(box, "STOP", number, in_s=10 * place)
    rows = [box.insert(number_of(100 + place), "Hi", in_s=600 + 400 * place) for place in range(15)]
    box.serve(3 * 3600)
    assert box.texts().count(GONE) == 10
    assert [box.row(each)[0] for each in rows] == ["sent"] * 15


def test_answers_do_not_pass_the_plan_of_the_sim(box: PlayedBox) -> None:
    box.tables = {**ALWAYS, "pacing": {"max_segments_per_day": 3, "max_messages_per_day": 3}}
    people = [number_of(place) for place in range(6)]
    expect(box, *people)
    for place, number in enumerate(people):
        come(box, "STOP", number, in_s=10 * place)
    box.serve(600)
    assert box.texts() == [GONE] * 3
    assert box.sql("SELECT count(*) FROM opt_outs") == [(6,)]


# --- the operator's phone


def test_pause_by_phone_that_lay_in_the_service_centre_pauses_nothing(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    box.tables = {"alerts": {"operator": PHONE}}
    row = box.insert(ANA, "Hi", in_s=60)
    come(box, "PAUSE", PHONE, ago_s=2 * DAY_S)
    box.serve(600)
    assert box.row(row)[0] == "sent"
    assert box.database.state.get("paused_because") == ""
    assert "PAUSE of the operator's phone was sent over 5 minutes ago" in caplog.text


def test_row_that_was_made_by_hand_for_a_name_lets_nothing_be_answered_to_it(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    box.insert("SHOPPING", "Hi", in_s=7000)
    row = box.insert(ANA, "Hi", in_s=60)
    come(box, "HELP", spell("SHOPPING"))
    box.serve(600)
    assert box.sql("SELECT body, request FROM inbound") == [("HELP", "help")]
    assert box.sql("SELECT count(*) FROM messages WHERE kind IS NOT NULL") == [(0,)]
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []
    assert box.row(row)[0] == "sent"


def test_pause_by_phone_is_answered_though_the_cap_of_status_is_met_and_told_once(
    box: PlayedBox,
) -> None:
    box.tables = {"alerts": {"operator": PHONE}}
    row = box.insert(ANA, "Hi", in_s=7000)
    for place in range(25):
        come(box, "STATUS", PHONE, in_s=61 * place)
    for place in range(4):
        come(box, "PAUSE", PHONE, in_s=2000 + 100 * place)
    box.serve(DAY_S // 3)
    told = [text for _, _, text in box.far.arrived]
    assert len([each for each in told if each.startswith("smsbox: running")]) == 20
    assert len([each for each in told if each.startswith("smsbox: paused: ")]) == 1
    assert len([each for each in told if "has paused it" in each]) == 1
    assert box.row(row)[0] == "scheduled"
    assert box.database.state.get("paused_by") == "phone"
    assert box.sql("SELECT count(*) FROM events WHERE event = 'paused'") == [(4,)]


def test_pause_by_phone_does_not_take_the_reason_of_a_pause_of_the_box(box: PlayedBox) -> None:
    box.tables = {"alerts": {"operator": PHONE}}
    box.database.state.pause("", "refused", smsbox.PausedBy.BOX, box.play.now())
    come(box, "PAUSE", PHONE, in_s=60)
    box.serve(600)
    assert (box.database.state.get("paused_because"), box.database.state.get("paused_by")) == (
        "refused", "box"
    )  # fmt: skip


def test_operator_s_own_stop_ends_alerts_and_status_says_so(
    box: PlayedBox, operator: Operator
) -> None:
    operator.database = Path(box.path)
    operator.config.write_text(operator.config.read_text() + f'[alerts]\noperator = "{PHONE}"\n')
    before = operator.run("status", "--json").value["facts"]
    assert "alerts" not in {each["name"] for each in before}
    box.tables = {"alerts": {"operator": PHONE}}
    come(box, "STOP", PHONE)
    box.serve(60)
    facts = {each["name"]: each for each in operator.run("status", "--json").value["facts"]}
    assert facts["alerts"]["level"] == "warning"


def test_name_that_spells_the_operator_s_number_is_not_obeyed(box: PlayedBox) -> None:
    box.tables = {"alerts": {"operator": "+12135552300"}}
    row = box.insert(ANA, "Hi", in_s=60)
    for spelled in ("12135552300", ANA[1:], ANA[2:]):
        come(box, "PAUSE", spell(spelled))
        come(box, "STOP", spell(spelled))
    box.serve(600)
    assert box.sql("SELECT phone_number FROM opt_outs WHERE phone_number LIKE '+%'") == []
    assert box.row(row)[0] == "sent"
    assert box.database.state.get("paused_because") == ""


def test_answer_at_night_stays_as_quick_as_by_day(box: PlayedBox) -> None:
    box.play.start = at(3)
    expect(box, ANA)
    come(box, "STOP", ANA)
    box.serve(60)
    assert box.texts() == [GONE]
    assert box.wall.shown[-1].fault in (Fault.NONE, Fault.ATTENTION)
