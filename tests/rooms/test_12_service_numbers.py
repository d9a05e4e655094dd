"""A text in whatever form its sender's number comes: it is its person's, and nobody else's."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

import smsbox
from rig.desk import Operator, texts
from rig.people import ANA, BEN
from rig.played import PlayedBox
from rig.tpdus import deliver, report
from smsbox import Request, write_answer

GONE = write_answer(Request.STOP, "en", "", "")
UK, AUSTRALIAN, HUNGARIAN = "+447700900123", "+61412345678", "+36201234567"
SAME_TAIL = "+617700900123"  # another country's, of the same significant digits as the British one
FORMS = [
    *((ANA, form) for form in (ANA, "2135552313", "12135552313", "0012135552313",
                               "01112135552313")),
    *((UK, form) for form in (UK, "447700900123", "00447700900123", "011447700900123",
                              "07700900123", "7700900123")),
    *((AUSTRALIAN, form) for form in ("0412345678", "412345678", "0061412345678")),
    *((HUNGARIAN, form) for form in ("06201234567", "201234567", "0036201234567")),
    ("+79161234567", "89161234567"),
    ("+393351234567", "3351234567"),
]  # fmt: skip


WHOLE = [(person, form) for person, form in FORMS if form.startswith(("00", "011"))]


@pytest.fixture
def shop(box: PlayedBox, operator: Operator, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """The operator of the played box, whose commands are told its time."""
    operator.database = Path(box.path)
    monkeypatch.setattr(smsbox.Waiting, "now", lambda _: box.play.now())
    box.tables = {"recipient_hours": {"enabled": False}}
    return operator


def come(box: PlayedBox, text: str, sender: str, in_s: float = 0) -> None:
    def arrive() -> None:
        box.far.said += box.far.modem.receive(deliver(text, sender, box.play.now()))

    box.after(in_s, arrive)


def sent_to(box: PlayedBox, number: str) -> list[str]:
    return [text for _, to, text in box.far.arrived if to == number]


# --- one fits


@pytest.mark.parametrize(("person", "form"), FORMS)
def test_stop_in_any_form_cancels_that_persons_rows_and_nobody_else_s(
    box: PlayedBox, person: str, form: str
) -> None:
    mine = [box.insert(person, f"mine {place}", in_s=600 * place, campaign_name=f"c {place}")
            for place in (1, 2)]  # fmt: skip
    near = f"{person[:-1]}{(int(person[-1]) + 1) % 10}"
    others = [box.insert(number, "theirs", in_s=700 + 400 * place)
              for place, number in enumerate((near, BEN))]  # fmt: skip
    come(box, "STOP", form)
    box.serve(3000)
    assert [box.row(each) for each in mine] == [("cancelled", "the recipient said stop")] * 2
    assert [box.row(each)[0] for each in others] == ["sent", "sent"]
    assert box.sql("SELECT sender, request FROM inbound") == [(person, "stop")]
    assert box.sql("SELECT phone_number, tier FROM opt_outs") == [(person, "keyword")]
    assert sent_to(box, person) == [GONE]  # answered under the number that is theirs


@pytest.mark.parametrize(("person", "form"), FORMS[1::3])
def test_start_in_any_form_lifts_it_again(box: PlayedBox, person: str, form: str) -> None:
    box.insert(person, "in a month", in_s=30 * 86_400)
    come(box, "STOP", person)
    come(box, "START", form, in_s=30)
    box.serve(60)
    row = box.insert(person, "again", in_s=60)
    box.serve(300)
    assert box.sql("SELECT * FROM opt_outs") == []
    assert box.row(row)[0] == "sent"


@pytest.mark.parametrize("sender", ["name:0AD04F29", "72345", "5552313"])
def test_short_codes_and_names_that_end_like_somebody_are_nobody(
    box: PlayedBox, sender: str
) -> None:
    row = box.insert(ANA, "Hi", in_s=60)
    come(box, "STOP", sender)
    box.serve(600)
    assert box.row(row)[0] == "sent"
    assert box.texts() == ["Hi"]


@pytest.mark.parametrize("form", ["12135552313", "2135552313", "0012135552313"])
def test_delivery_report_in_any_form_is_the_recipient_s(box: PlayedBox, form: str) -> None:
    row, other = box.insert(ANA, "Hi"), box.insert(BEN, "Hi", in_s=400)
    box.serve(600)
    ((reference,),) = box.sql(
        "SELECT message_reference FROM segments g JOIN messages m ON m.id = g.message_id"
        " WHERE m.scheduled_message_id = ?", row,
    )  # fmt: skip
    at = box.play.now() - timedelta(seconds=600)
    box.far.said += box.far.modem.receive(report(form, reference, 0, at))
    box.serve(60)
    assert box.row(row, "delivery") == ("delivered",)
    assert box.row(other, "delivery") == (None,)


# --- several fit


def test_stop_that_may_be_several_people_s_shuts_all_of_them_and_nothing_is_sent(
    box: PlayedBox, shop: Operator
) -> None:
    rows = [box.insert(number, "Hi", in_s=60) for number in (UK, SAME_TAIL)]
    other = box.insert(BEN, "Hello", in_s=400)
    come(box, "STOP", "7700900123")
    box.serve(2 * 3600)
    later = box.insert(SAME_TAIL, "by SQL", campaign_name="another")
    box.serve(2 * 3600)
    assert box.texts() == ["Hello"]
    assert [box.row(each)[0] for each in (*rows, later, other)] == ["scheduled"] * 3 + ["sent"]
    assert box.sql("SELECT sender, request FROM inbound") == [("7700900123", "perhaps stop")]
    assert box.sql("SELECT * FROM opt_outs") == []
    assert shop.run("status", "--json").value["counts"]["doubtful"] > 0
    assert shop.run("optout", "add", UK).status == 0
    assert shop.run("release", SAME_TAIL, "--yes").status in (0, 1)
    box.serve(3600)
    assert sent_to(box, UK) == []
    assert sent_to(box, SAME_TAIL) == ["Hi", "by SQL"]


@pytest.mark.parametrize("way", ["release", "START"])
def test_word_about_one_of_several_frees_the_others_of_nothing(
    box: PlayedBox, shop: Operator, way: str
) -> None:
    """It was not the one; so it may have been the other, who said stop."""
    for number in (UK, SAME_TAIL):
        box.insert(number, "Hi", in_s=60)
    come(box, "STOP", "7700900123")
    box.serve(3600)
    if way == "release":
        assert shop.run("release", SAME_TAIL).status == 0
    else:
        come(box, "START", SAME_TAIL)
    box.serve(3600)
    assert sent_to(box, SAME_TAIL) == ["Hi"]
    assert sent_to(box, UK) == []


def test_stop_of_several_is_that_of_the_one_who_has_exactly_this_number(box: PlayedBox) -> None:
    mine, other = box.insert(UK, "Hi", in_s=60), box.insert(SAME_TAIL, "Hello", in_s=60)
    come(box, "STOP", UK)
    box.serve(3600)
    assert (box.row(mine)[0], box.row(other)[0]) == ("cancelled", "sent")


# --- nobody fits


@pytest.mark.parametrize(("person", "form"), FORMS)
def test_stop_of_a_stranger_is_kept_and_a_row_planned_later_is_not_sent(
    box: PlayedBox, shop: Operator, person: str, form: str
) -> None:
    come(box, "STOP", form)
    box.serve(60)
    assert box.texts() == []
    file = shop.config.parent / "new.csv"
    file.write_text(texts((person, "from a file"), (BEN, "to Ben")))
    assert "the recipient said stop" in shop.run("schedule", str(file), "--yes").out
    rows = [box.insert(person, "by SQL", in_s=60), box.insert(person, "[BUBBLE] more", in_s=600)]
    assert shop.run("send", person, "by hand").status == 75
    box.serve(7200)
    assert box.texts() == ["to Ben"]
    assert [box.row(each) for each in rows] == [("cancelled", "the recipient said stop")] * 2


@pytest.mark.parametrize(("person", "form"), WHOLE)
def test_stop_kept_in_another_whole_form_is_lifted_by_their_start(
    box: PlayedBox, person: str, form: str
) -> None:
    come(box, "STOP", form)
    come(box, "START", person, in_s=30)
    box.serve(60)
    assert box.sql("SELECT * FROM opt_outs") == []


@pytest.mark.parametrize(("person", "form"), FORMS[1::3])
def test_stop_kept_in_another_form_is_lifted_by_the_operator(
    box: PlayedBox, shop: Operator, person: str, form: str
) -> None:
    come(box, "STOP", form)
    box.serve(60)
    done = shop.run("optout", "remove", person, "--they-asked", "--reason", "phoned us")
    assert done.status == 0, done
    assert box.sql("SELECT * FROM opt_outs") == []


def test_show_tells_that_a_person_said_stop_in_another_form(box: PlayedBox, shop: Operator) -> None:
    come(box, "STOP", "2135552313")
    box.serve(60)
    box.insert(ANA, "Hi", in_s=3600)
    told = shop.run("list", ANA, "--json").value
    assert told["opt_out"]
    assert [each["body"] for each in told["replies"]] == ["STOP"]


# --- what the inbox says to type works


@pytest.mark.parametrize(
    ("rows", "sender"),
    [([ANA], ANA), ([ANA], "2135552313"), ([], "2135552313"), ([], "07700900123"), ([], UK),
     ([UK], "07700900123"), ([UK, SAME_TAIL], "7700900123"), ([], "7700900123")],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["release", "optout add"])
def test_what_the_inbox_says_to_type_settles_the_reply(
    box: PlayedBox, shop: Operator, rows: list[str], sender: str, verb: str
) -> None:
    for number in rows:
        box.insert(number, "Hi", in_s=3600)
    come(box, "is this spam?" if len(rows) < 2 else "STOP", sender)
    box.serve(60)
    told = re.sub(r"\s+", " ", shop.run("inbox").out)
    commands = re.findall(rf"smsbox ({verb} \S+)", told)
    assert commands
    for command in commands:
        done = shop.run(*command.rstrip(",.").split(), "--yes") if verb == "release" else shop.run(
            *command.rstrip(",.").split())  # fmt: skip
        assert done.status == 0, done
    assert box.sql("SELECT settled_at IS NULL FROM inbound") == [(0,)]
