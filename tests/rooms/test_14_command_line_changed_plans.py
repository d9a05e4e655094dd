"""Mistakes mended, texts tried, campaigns that end in time: as the operator does it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest

import smsbox
from rig.desk import ALWAYS, DAY, HEADER, TEN, Desk, Operator, local, many, texts
from rig.people import ANA, BEN, CHLOE
from rig.played import PlayedBox, at

# --- the same text, another text, the same people


def test_same_text_is_left_out_in_any_campaign_for_thirty_days_unless_again(desk: Desk) -> None:
    desk.write("may.csv", texts((ANA, "Hi Ana"), (BEN, "Hi Ben"), (CHLOE, "Hi Chloe")))
    assert desk.schedule("may.csv", "--yes", "--start", TEN).status == 0
    desk.execute("UPDATE scheduled_messages SET status = 'sent',"
                 " sent_at = datetime('now', '-29 days') WHERE id = 1")  # fmt: skip
    desk.execute("UPDATE scheduled_messages SET status = 'sent',"
                 " sent_at = datetime('now', '-31 days') WHERE id = 2")  # fmt: skip
    words = ("may.csv", "--campaign", "june", "--dry-run")
    shown = desk.schedule(*words)
    assert shown.status == 0, shown.err
    assert "Left out:  2 rows, already scheduled or sent in may: rows 2, 4\n" in shown.out
    assert [each["row"] for each in desk.schedule(*words, "--json").value["messages"]] == [3]
    again = desk.schedule(*words, "--again")
    assert "Left out" not in again.out
    assert "[3/3]" in again.out
    assert "Warning:   2 rows repeat a text" in again.out
    assert desk.schedule("may.csv", "--dry-run", "--json").value["messages"] == []


def test_who_was_written_to_in_a_campaign_gets_no_other_text_of_it_and_again_does_not_help(
    desk: Desk,
) -> None:
    desk.write("c.csv", texts((ANA, "Hi"), (BEN, "Hi")))
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    desk.write("c.csv", texts((ANA, "Hi"), (BEN, "Hello")))
    for more in ((), ("--again",), ("--dry-run",)):
        done = desk.schedule("c.csv", "--yes", *more)
        assert done.status == 0, done.err
        assert "Left out:  2 rows, already scheduled or sent in c: rows 2, 3\n" in done.out
        assert done.out.splitlines()[-1].endswith("a name of its own: --campaign 'c 2'.")
    assert desk.rows("message_content") == ["Hi"] * 2
    desk.write("c.csv", texts((ANA, "Hi"), (BEN, "Hello"), (CHLOE, "Hello")))
    assert desk.schedule("c.csv", "--yes").status == 0
    assert desk.rows("message_content") == ["Hi", "Hi", "Hello"]
    assert desk.schedule("c.csv", "--yes", "--campaign", "c 2").status == 0
    assert desk.rows("campaign_name") == ["c"] * 3 + ["c 2"]


def test_typo_is_mended_by_cancelling_and_scheduling_the_file_anew(desk: Desk) -> None:
    desk.write("c.csv", texts((ANA, "Slae"), (BEN, "Slae"), (CHLOE, "Slae")))
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    desk.execute("UPDATE scheduled_messages SET status = 'sent' WHERE id = 1")
    assert desk.run(desk.words("cancel", "--campaign", "c", "--yes")).status == 0
    desk.write("c.csv", texts((ANA, "Sale"), (BEN, "Sale"), (CHLOE, "Sale")))
    assert desk.schedule("c.csv", "--yes", "--start", f"{DAY} 15:00").status == 0
    assert desk.rows("status") == ["sent", "cancelled", "cancelled", "scheduled", "scheduled"]
    assert desk.rows("phone_number")[3:] == [BEN, CHLOE]
    assert desk.rows("message_content")[3:] == ["Sale"] * 2


def test_limit_goes_on_with_who_was_not_written_to(desk: Desk) -> None:
    desk.write("c.csv", texts((ANA, "One"), (ANA, "Two"), (BEN, "One")))
    assert desk.schedule("c.csv", "--yes", "--limit", "1", "--start", TEN).status == 0
    assert desk.schedule("c.csv", "--yes", "--limit", "1").status == 0
    assert desk.rows("phone_number") == [ANA, BEN]


def test_text_that_was_sent_by_hand_or_tried_is_no_campaign_s(desk: Desk) -> None:
    desk.configure(ALWAYS)
    assert desk.run(desk.words("send", ANA, "Hi")).status == 75
    desk.execute("UPDATE scheduled_messages SET status = 'sent', sent_at = datetime('now')")
    desk.write("c.csv", texts((ANA, "Hi"), (BEN, "Hi")))
    assert len(desk.schedule("c.csv", "--dry-run", "--json").value["messages"]) == 2


def test_people_of_a_running_campaign_are_refused_in_another_unless_again(desk: Desk) -> None:
    desk.write("c.csv", many(8))
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    for name, known, new in (("half", 5, 5), ("few", 4, 0), ("most", 5, 4)):
        theirs = many(known, first=2001).replace("Hello", "New")
        desk.write(f"{name}.csv", theirs + many(new, first=4000).removeprefix(HEADER))
    assert desk.schedule("half.csv", "--dry-run").status == 0
    assert desk.schedule("few.csv", "--dry-run").status == 0
    refused = desk.schedule("most.csv", "--yes")
    assert refused.status == 65
    for word in ('"c"', "smsbox cancel", "--again"):
        assert word in refused.sentence
    assert len(desk.rows()) == 8
    assert desk.schedule("most.csv", "--dry-run", "--again").status == 0
    desk.execute("UPDATE scheduled_messages SET status = 'sent', sent_at = datetime('now')")
    assert desk.schedule("most.csv", "--dry-run").status == 65  # it was sent just now
    desk.execute("UPDATE scheduled_messages SET sent_at = datetime('now', '-8 days')")
    assert desk.schedule("most.csv", "--dry-run").status == 0


# --- new texts


def test_options_that_mean_nothing_together_are_refused(desk: Desk) -> None:
    desk.write("c.csv", many(2))
    for words in (
        ("--row", "2"), ("--anyway",), ("--try", ANA, "--again"), ("--try", ANA, "--until", TEN),
    ):  # fmt: skip
        assert desk.schedule("c.csv", *words, "--yes").status == 2, words
    assert not desk.database.exists()


def test_edit_changes_one_text_with_an_event(operator: Operator) -> None:
    row_id = operator.insert(held_because="they have replied")
    done = operator.run("edit", ANA, "--text", "Hi Ana\r\n[BUBBLE] see you")
    assert done.status == 0, done.err
    assert "It is held still" in done.out
    assert operator.row(row_id, "message_content") == ("Hi Ana\n[BUBBLE] see you",)
    [(actor, event, detail)] = operator.sql(
        "SELECT actor, event, detail FROM events WHERE event = 'edited'"
    )
    assert (actor != "sql", event, "new text" in detail) == (True, "edited", True)


def test_edit_refuses_what_can_not_be_sent_or_changed(operator: Operator) -> None:
    row_id = operator.insert()
    for text in ("", "Hi [BUBLE] you", "Hi\x07", "x" * 153 * 256):
        assert "the text" in operator.sentence("edit", str(row_id), "--text", text, status=2)
    second = operator.insert()
    done = operator.run("edit", ANA, "--text", "Ho")
    assert done.status == 2
    assert f"{row_id:>6} " in done.out
    assert f"{second:>6} " in done.out
    operator.insert_bubble(row_id, "sending", "sending")
    assert "being sent" in operator.sentence("edit", str(row_id), "--text", "Ho", status=75)
    operator.sql("UPDATE scheduled_messages SET status = 'sent' WHERE id = ?", second)
    assert "is sent" in operator.sentence("edit", str(second), "--text", "Ho", status=75)
    assert "no message" in operator.sentence("edit", "99", "--text", "Ho", status=2)
    found = operator.sql("SELECT message_content FROM scheduled_messages")
    assert {each[0] for each in found} == {"Hi"}


def test_text_edited_between_claim_and_first_segment_is_the_one_that_is_sent(
    box: PlayedBox,
) -> None:
    row_id = smsbox.MessageId(box.insert(ANA, "Old [BUBBLE] text"))
    now = box.play.now()
    row = box.database.queue.row(row_id)
    assert row
    assert box.database.sending.claim(row, smsbox.PhoneNumber(ANA), ("Old", "text"), now)
    bubble = box.database.sending.next_bubble(row_id)
    assert bubble
    with box.database.transaction():
        assert box.database.queue.set_texts([(row_id, "New")], now, "ana") == [row_id]
    assert not box.database.sending.begin_segment(smsbox.Segment(bubble, 1, 1), now)
    box.serve(drain=True)
    assert box.texts() == ["New"]


# --- texts simplified


def test_simplify_stores_the_listed_equals_and_keeps_accents(desk: Desk) -> None:
    text = "“It’s” – café…" + "x" * 60
    desk.write("c.csv", texts((ANA, text), (BEN, "naïve – ñ")))
    bare = desk.schedule("c.csv", "--dry-run", "--start", TEN)
    assert re.search(r"^Segments:  3 \(2 with --simplify\);", bare.out, re.MULTILINE)
    words = ("c.csv", "--simplify", "--start", TEN)
    assert desk.schedule(*words, "--dry-run", "--json").value["segments"] == 2
    done = desk.schedule(*words, "--yes")
    assert re.search(r"^Segments:  2 \(3 without --simplify\);", done.out, re.MULTILINE)
    assert desk.rows("message_content") == ['"It\'s" - café...' + "x" * 60, "naïve - ñ"]


def test_simplify_changes_what_is_listed_and_nothing_else() -> None:
    for char, plain in smsbox.GSM_REPLACEMENTS.items():
        assert smsbox.simplify_text(f"a{char}b") == f"a{plain}b"
    kept = "àéîõüçñßŠЖ漢🎉€[]{}\n\t'\"-"
    assert smsbox.simplify_text(kept) == kept


# --- an end


def test_plan_that_ends_later_is_refused_with_how_many_fit_and_so_many_do(desk: Desk) -> None:
    desk.write("c.csv", many(20))
    words = ("c.csv", "--start", TEN, "--until", f"{DAY} 10:45", "--yes")
    refused = desk.schedule(*words)
    assert (refused.status, refused.out) == (2, "")
    told = re.search(r"(\d+) of 20 messages fit.* (--limit \d+ --seed \d+)", refused.sentence)
    assert told
    assert not desk.database.exists()
    assert desk.schedule(*words, *told[2].split()).status == 0
    assert len(desk.rows()) == int(told[1]) > 0
    end = smsbox.to_database_time(local(f"{DAY} 10:45"))
    assert set(desk.rows("until")) == {end}


@pytest.mark.parametrize(
    ("toml", "until", "says"),
    [
        ("[pacing]\nmax_messages_per_day = 5", "20:00", "no max_messages_per_day (20 fit)"),
        ('[business_hours]\ncloses = "10:30"', "20:00",
         'opens = "8:00" and closes = "21:00" (20 fit)'),
        ("", "10:20", "no setting makes more of them fit"),
    ],
)  # fmt: skip
def test_refused_end_names_the_setting_that_makes_more_fit(
    desk: Desk, toml: str, until: str, says: str
) -> None:
    desk.write("c.csv", many(20))
    words = ("c.csv", "--start", TEN, "--seed", "1", "--until", f"{DAY} {until}", "--yes")
    desk.configure(f"{toml}\n")
    refused = desk.schedule(*words)
    assert refused.status == 2
    assert says in refused.sentence
    if "(20 fit)" in says:
        setting = says.removesuffix(" (20 fit)").replace(" and ", "\n")
        limit = setting.replace("no max_messages_per_day", "max_messages_per_day = 0")
        desk.configure(f"{toml.splitlines()[0]}\n{limit}\n")
        assert desk.schedule(*words).status == 0
        assert len(desk.rows()) == 20


def test_end_in_the_past_or_no_time_is_a_usage_error(desk: Desk) -> None:
    desk.write("c.csv", many(2))
    for until in ("2024-01-01 10:00", "Friday"):
        refused = desk.schedule("c.csv", "--dry-run", "--until", until)
        assert (refused.status, "--until" in refused.sentence) == (2, True)


def until(box: PlayedBox, in_s: float) -> str:
    return f"{box.play.now() + timedelta(seconds=in_s):%Y-%m-%d %H:%M:%S}"


def test_row_that_was_not_begun_by_its_end_is_cancelled_at_the_claim(
    box: PlayedBox,
) -> None:
    row_id = box.insert(ANA, "Sale", in_s=-90, until=until(box, -30))
    other = box.insert(BEN, "Hi", in_s=-80)
    box.serve(drain=True)
    assert box.texts() == ["Hi"]
    assert box.row(row_id) == ("cancelled", "too late")
    assert box.row(other)[0] == "sent"
    assert box.events(row_id)[-1] == "daemon cancelled"


def test_rows_that_pacing_anew_pushes_past_their_end_are_cancelled_and_take_no_place(
    box: PlayedBox,
) -> None:
    end = until(box, 1800)
    sale = [box.insert(f"+1213555{2000 + n}", f"Sale {n}", in_s=-7200 + 300 * n, until=end)
            for n in range(20)]  # fmt: skip
    other = box.insert(BEN, "Hi", in_s=3600, campaign_name="other")
    box.serve(drain=True)
    states = [box.row(each) for each in sale]
    sent = states.count(("sent", None))
    assert 2 <= sent < 10
    assert states[sent:] == [("cancelled", "too late")] * (20 - sent)
    assert all(f"{when:%Y-%m-%d %H:%M:%S}" <= end for when, _, text in box.far.arrived[:sent])
    assert box.row(other, "scheduled_for") == (until(box, 3600 - box.play.monotonic()
                                                       + 1000),)  # fmt: skip


@pytest.mark.parametrize(("gap_s", "closes", "sent"), [(40, "20:00", 2), (40, "10:00", 1)])
def test_message_in_hand_goes_to_its_end_and_one_put_off_does_not(
    box: PlayedBox, gap_s: int, closes: str, sent: int
) -> None:
    box.tables = {"pacing": {"bubble_gap_seconds": [gap_s, gap_s]},
                     "business_hours": {"opens": "09:00", "closes": closes},
                     "service": {"poll_seconds": 60}}  # fmt: skip
    box.play.start = at(9, 59) + timedelta(seconds=45)
    row_id = box.insert(ANA, "one [BUBBLE] two", until=until(box, 20))
    box.serve(drain=True)
    assert box.texts() == ["one", "two"][:sent]
    ended = ("cancelled", "1 of 2 bubbles were sent: too late")
    assert box.row(row_id) == (("sent", None) if sent == 2 else ended)


@pytest.mark.parametrize(("in_s", "minutes"), [(30, 5), (3599, 55), (90_000, 1440), (None, None)])
def test_validity_period_ends_with_the_row(
    box: PlayedBox, in_s: float | None, minutes: int | None
) -> None:
    end = None if in_s is None else until(box, in_s)
    row_id = box.insert(ANA, "Sale", until=end)
    box.serve(drain=True)
    [(bubble,)] = box.sql("SELECT id FROM messages WHERE scheduled_message_id = ?", row_id)
    ((pdu, _),) = smsbox.encode_submit(
        "Sale", ANA, status_report=True, reference=bubble, validity_minutes=minutes
    )
    assert pdu.encode() + b"\x1a" in box.far.heard


def test_validity_is_the_longest_step_that_ends_in_time() -> None:
    for minutes in (5, 6, 719, 720, 749, 750, 1439, 1440, 2879, 43_200, 50_399, 50_400, 700_000):
        within = smsbox.validity_within(minutes)
        assert within <= minutes
        (pdu,) = {smsbox.encode_submit("x", ANA, validity_minutes=each)[0][0]
                  for each in (within, within - 0.5)}  # fmt: skip
        following = next((each for each in range(within + 1, minutes + 1, 1)
                          if smsbox.validity_within(each) != within), None)  # fmt: skip
        assert following is None, pdu
    assert smsbox.validity_within(-1) == smsbox.validity_within(4.9) == 5


def test_nothing_is_moved_tried_again_or_released_past_its_end(
    operator: Operator,
) -> None:
    soon = f"{datetime.now(smsbox.UTC) + timedelta(minutes=90):%Y-%m-%d %H:%M:%S}"
    past = f"{datetime.now(smsbox.UTC) - timedelta(minutes=90):%Y-%m-%d %H:%M:%S}"
    waits = operator.insert(60, until=soon)
    failed = operator.insert(-200, until=past, status="failed")
    held = operator.insert(-200, until=past, held_because="they have replied")
    for words in (("reschedule", str(waits), "--by", "+1h"), ("retry", str(failed)),
                  ("release", str(held))):  # fmt: skip
        done = operator.run(*words)
        assert (done.status, "too late" in done.err) == (1, True), done
    assert operator.statuses() == ["scheduled", "failed", "scheduled"]
    assert operator.run("reschedule", str(waits), "--by", "+20m").status == 0
    operator.sql("UPDATE scheduled_messages SET scheduled_for = '2099-01-01' WHERE id = ?", waits)
    assert operator.row(waits, "status, error_message") == ("cancelled", "too late")
    out = operator.run("why", str(held)).out
    assert re.search(r"^warning +until +shut: too late", out, re.MULTILINE)
