"""Alerts: the box tells the operator's phone what needs a person, and obeys two words of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

import smsbox
from rig.people import ANA, BEN
from rig.played import PlayedBox
from rig.tpdus import deliver

OPERATOR = "+12135550100"


@pytest.fixture
def box(box: PlayedBox) -> PlayedBox:
    box.tables["alerts"] = {"operator": OPERATOR}
    return box


def comes(box: PlayedBox, text: str, sender: str) -> None:
    box.far.modem.stored[len(box.far.modem.stored)] = deliver(text, sender, box.play.now())


def own(box: PlayedBox) -> list[tuple[str, str, str]]:
    return box.sql("SELECT kind, phone_number, status FROM messages WHERE kind IS NOT NULL")


def test_box_that_paused_itself_tells_the_operator_once_until_the_cause_has_gone(
    box: PlayedBox,
) -> None:
    box.database.state.set(paused_because="ten refusals in a row", paused_by="box")
    box.serve()
    box.serve()
    assert own(box) == [("alert", OPERATOR, "sent")]
    assert box.texts() == ["smsbox: it paused itself: ten refusals in a row. See smsbox status"]
    box.database.state.set_key("paused_because", "")
    box.serve()
    box.database.state.set(paused_because="it broke again", paused_by="box")
    box.serve()
    assert len(own(box)) == 2


def test_no_more_than_five_alerts_a_day(box: PlayedBox) -> None:
    for number in range(7):
        box.database.state.set(paused_because=f"cause {number}", paused_by="box")
        box.serve(30)
        box.database.state.set_key("paused_because", "")
        box.serve(30)
    assert len(own(box)) == 5


def test_what_stops_the_box_is_told_though_other_alerts_were_many(box: PlayedBox) -> None:
    box.insert(ANA, "Hi", in_s=7200)
    for minute in range(6):
        comes(box, f"who is this? {minute}", ANA)
        box.serve(30)
        box.play.pass_by(60)
        comes(box, "START", ANA)
        box.serve(30)
    assert len(own(box)) == 4
    box.database.state.set(paused_because="refused: CMS 8", paused_by="box")
    box.serve(30)
    assert len(own(box)) == 5
    assert "it paused itself" in box.texts()[-1]


def test_campaign_that_paused_itself_is_told(box: PlayedBox) -> None:
    box.insert(ANA, "Hi", in_s=7200, campaign_name="fall")
    box.sql("INSERT OR REPLACE INTO campaigns (name, created_at, paused_because, paused_by)"
            " VALUES ('fall', '', '5 of 100 said stop', 'box')")  # fmt: skip
    box.serve(60)
    assert [text for text in box.texts() if "said stop" in text]


def test_pause_that_a_person_asked_for_or_a_stop_of_the_operator_brings_no_alert(
    box: PlayedBox,
) -> None:
    box.database.state.set_key("paused_because", "paused by ana")
    box.serve()
    assert own(box) == []
    box.database.opt_outs.add(OPERATOR, "Stop", box.play.now(), "daemon")
    box.database.state.set(paused_because="ten refusals in a row", paused_by="box")
    box.serve()
    assert own(box) == []


def test_operators_pause_pauses_the_box_and_is_answered(box: PlayedBox) -> None:
    row = box.insert(ANA, "Hi", in_s=300)
    comes(box, "pause ", OPERATOR)
    box.serve(600)
    assert box.row(row)[0] == "scheduled"
    answer, alert = box.texts()
    assert answer.startswith("smsbox: paused: paused by a text of the operator, 0 sent in 24 h, 1 ")
    assert alert == "smsbox: a text from this number has paused it; smsbox resume goes on"
    assert own(box) == [("answer", OPERATOR, "sent"), ("alert", OPERATOR, "sent")]
    assert box.database.state.get("paused_by") == "phone"


def test_status_from_any_other_number_is_a_reply_like_any_other(box: PlayedBox) -> None:
    comes(box, "STATUS", BEN)
    comes(box, "PAUSE", BEN)
    box.serve()
    assert own(box) == []
    assert box.database.state.get("paused_because") == ""


def test_two_machines_do_not_talk_for_ever(box: PlayedBox) -> None:
    for number in range(25):
        box.far.modem.stored[number] = deliver("STATUS", OPERATOR, box.play.now())
        box.serve(70)
    assert 1 < len(own(box)) <= 20


def test_what_is_told_fits_one_segment_whatever_the_reason_says() -> None:
    told = (
        "smsbox: it paused itself: " + smsbox.shorten("é€[x] \x1b" * 50, 90) + ". See smsbox status"
    )
    assert smsbox.segment_text(told).encoding is smsbox.Encoding.GSM7
    assert len(smsbox.segment_text(told).units) == 1


@pytest.mark.parametrize("number", ["2135550100", "+0", "+1 213 555 0100", 5])
def test_operator_is_a_whole_number_with_its_country(number: object) -> None:
    with pytest.raises(smsbox.ConfigError, match="country"):
        smsbox.parse_config({"alerts": {"operator": number}})


def test_finished_campaign_is_told_with_its_counts(box: PlayedBox) -> None:
    box.insert(ANA, "Hi")
    box.insert(BEN, "later", in_s=400)
    box.serve(200)
    assert own(box) == []
    box.serve(900)
    box.serve(900)
    assert box.texts()[-1] == "smsbox: fall is done: 2 sent, 0 failed"
    assert own(box) == [("alert", OPERATOR, "sent")]


def test_held_doubtful_reply_is_told_once(box: PlayedBox) -> None:
    box.insert(ANA, "Hi", in_s=3000)
    comes(box, "is this spam?", ANA)
    box.serve()
    box.serve()
    assert box.texts() == ["smsbox: a reply may mean stop; its messages are held. See smsbox inbox"]


def test_hour_without_sending_is_told_as_soon_as_there_is_a_modem_again(box: PlayedBox) -> None:
    box.insert(ANA, "Hi", in_s=-3700)
    box.serve()
    assert box.texts()[0].startswith("smsbox: nothing was sent for an hour")


def test_half_an_hour_without_sending_is_not_told(box: PlayedBox) -> None:
    box.insert(ANA, "Hi", in_s=-1800)
    box.serve()
    assert box.texts() == ["Hi", "smsbox: fall is done: 1 sent, 0 failed"]


def test_clock_that_nobody_vouches_for_is_told_after_an_hour_and_nothing_else_is_sent(
    box: PlayedBox,
) -> None:
    box.evidence = ""
    row = box.insert(ANA, "no")
    box.database.sending.add_answer("confirmation", BEN, "no", box.play.now())
    box.serve(3500)
    assert box.texts() == []
    box.serve(3700)  # another life: it waits an hour anew
    assert box.texts() == [
        "smsbox: the clock is not trusted for an hour and nothing is sent. See smsbox status"
    ]
    assert [number for _, number, _ in box.far.arrived] == [OPERATOR]
    box.serve(9000)
    assert len(box.texts()) == 1
    assert box.row(row)[0] == "scheduled"


def test_end_of_a_campaign_is_not_told_at_night(box: PlayedBox) -> None:
    box.tables["business_hours"] = {"opens": "00:00", "closes": "24:00"}
    box.tables["recipient_hours"] = {"enabled": False}
    box.play.step(12 * 3600)  # 10 PM
    box.insert(ANA, "Hi", in_s=60)
    box.serve(9 * 3600)
    assert box.texts() == ["Hi"]
    box.serve(2 * 3600)
    assert box.texts() == ["Hi", "smsbox: fall is done: 1 sent, 0 failed"]


def test_alert_waits_for_the_network_and_is_sent_once(box: PlayedBox) -> None:
    box.serve(30)
    box.database.state.set(paused_because="ten refusals in a row", paused_by="box")
    box.after(1, lambda: box.far.script.append(b"\r\n+CMS ERROR: 42\r\n"))
    box.after(20, lambda: setattr(box.far, "gone", True))
    box.after(3600, lambda: setattr(box.far, "gone", False))
    box.far.script.append(b"\r\n+CMS ERROR: 42\r\n")
    box.serve(2 * 3600)
    assert box.texts() == ["smsbox: it paused itself: ten refusals in a row. See smsbox status"]


def test_account_that_refuses_is_tried_with_one_alert_and_not_hammered(box: PlayedBox) -> None:
    row = box.insert(ANA, "Hi")
    box.far.script.extend([b"\r\n+CMS ERROR: 50\r\n"] * 50)
    box.serve(3600)
    assert len(box.far.script) == 48  # the campaign's text, and one alert that says so
    assert own(box) == [("alert", OPERATOR, "failed")]
    assert box.row(row)[0] == "scheduled"
    box.database.state.set(**dict.fromkeys(("paused_because", "account_refused"), ""))
    box.serve(3600)
    # The hour in which nothing was sent is told too; refused, it pauses nothing, and the row goes.
    assert len(box.far.script) == 45


@pytest.mark.parametrize("code", [42, 500])
def test_alert_that_is_refused_again_and_again_is_given_up(box: PlayedBox, code: int) -> None:
    box.database.state.set(paused_because="ten refusals in a row", paused_by="box")
    box.far.script.extend([b"\r\n+CMS ERROR: %d\r\n" % code] * 50)
    box.serve(7200)
    assert len(box.far.script) == 45
    assert own(box) == [("alert", OPERATOR, "failed")]
    box.far.script.clear()
    box.database.state.set_key("paused_because", "")
    box.serve(60)
    box.database.state.set(paused_because="it broke again", paused_by="box")
    box.serve(60)
    assert len(box.texts()) == 1


def test_pause_by_text_amid_a_pause_with_an_end_has_none(box: PlayedBox) -> None:
    box.tables = {"alerts": {"operator": BEN}}
    box.insert(ANA, "no", in_s=60)
    until = box.play.now() + timedelta(hours=1)
    box.database.state.pause("", "a walk", smsbox.PausedBy.OPERATOR, box.play.now(), until)
    box.after(600, lambda: comes(box, "PAUSE", BEN))
    box.serve(7200)
    assert "no" not in box.texts()
