"""Mistakes mended, texts tried, campaigns that end in time or go first: as the operator does it.

The stories at the end are whole: commands on a terminal, the real daemon, a pseudo-terminal modem.
Their transcripts stand in tests/golden/, times and places written over.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

import smsbox
import test_command_line
import test_end_to_end
import test_service
from played import close
from rig.pty_modem import PtyModem, wait_until
from test_schedule import DAY, HEADER, LOS_ANGELES, QUESTION, TEN, Desk, Terminal, local, many, utc
from test_schedule import desk as desk  # noqa: PLC0414 (the fixture)
from test_service import ANA, BEN, CHLOE, at

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def played(tmp_path: Path, now: datetime) -> Iterator[test_service.Box]:
    made = test_service.Box(tmp_path, now)
    yield made
    close(made)


@pytest.fixture
def box(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> test_command_line.Box:
    made = test_command_line.Box(tmp_path, capsys, monkeypatch)
    made.lay_down()
    return made


def texts(*pairs: tuple[str, str]) -> str:
    return HEADER + "".join(f"{number},Name,{text}\n" for number, text in pairs)


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
    assert re.findall(r"^\[LEFT OUT\] row (\d) .* in (\w+)$", shown.out, re.MULTILINE) == [
        ("2", "may"), ("4", "may"),
    ]  # fmt: skip
    assert [each["row"] for each in desk.schedule(*words, "--json").object["messages"]] == [3]
    again = desk.schedule(*words, "--again")
    assert "[LEFT OUT]" not in again.out
    assert "[3/3]" in again.out
    assert re.search(r"WARNING: 2 rows repeat a text", again.out)
    assert desk.schedule(*words, "--again", "--json").object["repeats"] == 2
    assert desk.schedule("may.csv", "--dry-run", "--json").object["messages"] == []


def test_another_text_to_a_number_of_the_campaign_is_refused_and_again_does_not_help(
    desk: Desk,
) -> None:
    desk.write("c.csv", texts((ANA, "Hi"), (BEN, "Hi"), (CHLOE, "Hi")))
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    desk.write("c.csv", texts((ANA, "Hi"), (BEN, "Hello"), (CHLOE, "Hi")))
    for more in ((), ("--again",), ("--dry-run",)):
        refused = desk.schedule("c.csv", "--yes", *more)
        assert (refused.status, refused.out) == (65, "")
        assert "smsbox schedule c.csv --replace" in refused.sentence
        assert "row 3" in refused.sentence
    assert desk.rows("message_content") == ["Hi"] * 3


def test_second_text_to_a_number_is_no_change_and_limit_goes_on(desk: Desk) -> None:
    desk.write("c.csv", texts((ANA, "One"), (ANA, "Two"), (BEN, "One")))
    assert desk.schedule("c.csv", "--yes", "--limit", "1", "--start", TEN).status == 0
    assert desk.schedule("c.csv", "--yes").status == 0
    assert desk.rows("message_content") == ["One", "Two", "One"]


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
    for word in ('"c"', "--replace", "--again"):
        assert word in refused.sentence
    assert len(desk.rows()) == 8
    assert desk.schedule("most.csv", "--dry-run", "--again").status == 0
    desk.execute("UPDATE scheduled_messages SET status = 'sent', sent_at = datetime('now')")
    assert desk.schedule("most.csv", "--dry-run").status == 0  # it runs no more


# --- new texts


def test_replace_gives_waiting_rows_their_new_texts_and_leaves_all_else(desk: Desk) -> None:
    desk.write("c.csv", many(5))
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    desk.execute("UPDATE scheduled_messages SET status = 'sent', sent_at = datetime('now')"
                 " WHERE id = 1")  # fmt: skip
    desk.execute("UPDATE scheduled_messages SET held_because = 'they have replied' WHERE id = 4")
    times = desk.rows()
    fixed = many(4).replace("Hello", "Hello again").replace("Hello again 2", "Hello 2")
    desk.write("fixed.csv", fixed + "2135557777,New,Hi\n")
    words = ("fixed.csv", "--campaign", "c", "--replace")
    plan = desk.schedule(*words, "--dry-run", "--json").object
    assert [each["id"] for each in plan["replaced"]] == [2, 4]
    assert [each["row"] for each in plan["skipped"]] == [2, 6]
    assert (plan["unchanged"], plan["not_named"]) == (1, 1)
    assert "again" not in "".join(desk.rows("message_content"))
    done = desk.schedule(*words, "--yes")
    assert done.status == 0, done.err
    assert done.out.count("[LEFT OUT]") == 2
    assert desk.rows("message_content") == [
        "Hello 0", "Hello again 1", "Hello 2", "Hello again 3", "Hello 4",
    ]  # fmt: skip
    assert desk.rows() == times
    assert desk.rows("coalesce(held_because, '')")[3] == "they have replied"
    assert "Nothing to replace" in desk.schedule(*words, "--yes").out


def test_replace_without_yes_or_without_a_running_campaign_changes_nothing(desk: Desk) -> None:
    desk.write("c.csv", many(2))
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    desk.write("c.csv", many(2).replace("Hello", "Hey"))
    terminal = desk.terminal("c.csv", "--replace")
    assert "Replace 2 texts." in terminal.wait_for(QUESTION)
    terminal.type("no\n")
    assert terminal.end() == 1
    refused = desk.schedule("c.csv", "--replace", "--campaign", "d", "--yes")
    assert refused.status == 65
    assert "campaigns that run are c" in refused.sentence
    assert desk.rows("message_content") == ["Hello 0", "Hello 1"]


def test_row_that_begins_before_yes_keeps_its_text(desk: Desk) -> None:
    desk.write("c.csv", many(2))
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    desk.write("c.csv", many(2).replace("Hello", "Hey"))
    terminal = desk.terminal("c.csv", "--replace")
    terminal.wait_for(QUESTION)
    desk.execute(
        "INSERT INTO messages (scheduled_message_id, phone_number, body, status,"
        " created_at) VALUES (1, '+12135552000', 'Hello 0', 'sending', datetime('now'))"
    )
    desk.execute("INSERT INTO segments (message_id, sequence, total, status, submitted_at)"
                 " VALUES (1, 1, 1, 'sending', datetime('now'))")  # fmt: skip
    terminal.type("YES\n")
    assert terminal.end() == 1
    assert "Message 1 was begun" in terminal.shown
    assert desk.rows("message_content") == ["Hello 0", "Hey 1"]


def test_options_that_mean_nothing_together_are_refused(desk: Desk) -> None:
    desk.write("c.csv", many(2))
    for words in (
        ("--replace", "--first"), ("--replace", "--until", TEN), ("--row", "2"), ("--anyway",),
        ("--try", ANA, "--again"), ("--try", ANA, "--replace"), ("--first", "--start", TEN),
    ):  # fmt: skip
        assert desk.schedule("c.csv", *words, "--yes").status == 2, words
    assert not desk.database.exists()


def test_edit_changes_one_text_with_an_event(box: test_command_line.Box) -> None:
    row_id = box.insert(held_because="they have replied")
    done = box.run("edit", ANA, "--text", "Hi Ana\r\n[BUBBLE] see you")
    assert done.status == 0, done.err
    assert "It is held still" in done.out
    assert box.row(row_id, "message_content") == ("Hi Ana\n[BUBBLE] see you",)
    [(actor, event, detail)] = box.sql(
        "SELECT actor, event, detail FROM events WHERE event = 'edited'"
    )
    assert (actor != "sql", event, "new text" in detail) == (True, "edited", True)


def test_edit_refuses_what_can_not_be_sent_or_changed(box: test_command_line.Box) -> None:
    row_id = box.insert()
    for text in ("", "Hi [BUBLE] you", "Hi\x07", "x" * 153 * 256):
        assert "the text" in box.sentence("edit", str(row_id), "--text", text, status=2)
    second = box.insert()
    done = box.run("edit", ANA, "--text", "Ho")
    assert done.status == 2
    assert f"{row_id:>6} " in done.out
    assert f"{second:>6} " in done.out
    box.insert_bubble(row_id, "sending", "sending")
    assert "being sent" in box.sentence("edit", str(row_id), "--text", "Ho", status=75)
    box.sql("UPDATE scheduled_messages SET status = 'sent' WHERE id = ?", second)
    assert "is sent" in box.sentence("edit", str(second), "--text", "Ho", status=75)
    assert "no message" in box.sentence("edit", "99", "--text", "Ho", status=2)
    assert {each[0] for each in box.sql("SELECT message_content FROM scheduled_messages")} == {"Hi"}


def test_text_edited_between_claim_and_first_segment_is_the_one_that_is_sent(
    played: test_service.Box,
) -> None:
    row_id = smsbox.MessageId(played.insert(ANA, "Old [BUBBLE] text"))
    now = played.play.now()
    store = smsbox.Store(played.database)
    row = store.row(row_id)
    assert row
    assert store.claim(row, smsbox.PhoneNumber(ANA), ("Old", "text"), now)
    bubble = store.next_bubble(row_id)
    assert bubble
    with played.database.transaction():
        assert played.desk.set_texts([(row_id, "New")], now, "ana") == [row_id]
    assert not store.begin_segment(bubble, 1, 1, None, now)
    played.serve(drain=True)
    assert played.texts() == ["New"]


# --- texts shown and simplified


def test_every_text_is_shown_on_request(desk: Desk) -> None:
    desk.write("c.csv", many(7))
    shown = desk.schedule("c.csv", "--dry-run", "--texts").out
    assert re.findall(r"^  > (.*)$", shown, re.MULTILINE) == [f"Hello {n}" for n in range(7)]
    assert desk.schedule("c.csv", "--dry-run").out.count("  > ") == 1


def test_simplify_stores_the_listed_equals_and_keeps_accents(desk: Desk) -> None:
    text = "“It’s” – café…" + "x" * 60
    desk.write("c.csv", texts((ANA, text), (BEN, "naïve – ñ")))
    bare = desk.schedule("c.csv", "--dry-run", "--start", TEN)
    assert re.search(r"^Segments:  3 \(2 with --simplify\)$", bare.out, re.MULTILINE)
    words = ("c.csv", "--simplify", "--start", TEN)
    plan = desk.schedule(*words, "--dry-run", "--json").object
    assert (plan["segments"], plan["segments_without_simplify"]) == (2, 3)
    done = desk.schedule(*words, "--yes")
    assert re.search(r"^Segments:  2 \(3 without --simplify\)$", done.out, re.MULTILINE)
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


def test_end_in_the_past_or_no_time_is_a_usage_error(desk: Desk) -> None:
    desk.write("c.csv", many(2))
    for until in ("2024-01-01 10:00", "Friday"):
        refused = desk.schedule("c.csv", "--dry-run", "--until", until)
        assert (refused.status, "--until" in refused.sentence) == (2, True)


def until(box: test_service.Box, in_s: float) -> str:
    return f"{box.play.now() + timedelta(seconds=in_s):%Y-%m-%d %H:%M:%S}"


def test_row_that_was_not_begun_by_its_end_is_cancelled_at_the_claim(
    played: test_service.Box,
) -> None:
    row_id = played.insert(ANA, "Sale", in_s=-90, until=until(played, -30))
    other = played.insert(BEN, "Hi", in_s=-80)
    played.serve(drain=True)
    assert played.texts() == ["Hi"]
    assert played.row(row_id) == ("cancelled", "too late")
    assert played.row(other)[0] == "sent"
    assert played.events(row_id)[-1] == "daemon cancelled"


def test_rows_that_pacing_anew_pushes_past_their_end_are_cancelled_and_take_no_place(
    played: test_service.Box,
) -> None:
    end = until(played, 1800)
    sale = [played.insert(f"+1213555{2000 + n}", f"Sale {n}", in_s=-7200 + 300 * n, until=end)
            for n in range(20)]  # fmt: skip
    other = played.insert(BEN, "Hi", in_s=3600, campaign_name="other")
    played.serve(drain=True)
    states = [played.row(each) for each in sale]
    sent = states.count(("sent", None))
    assert 2 <= sent < 10
    assert states[sent:] == [("cancelled", "too late")] * (20 - sent)
    assert all(f"{when:%Y-%m-%d %H:%M:%S}" <= end for when, _, text in played.far.arrived[:sent])
    assert played.row(other, "scheduled_for") == (until(played, 3600 - played.play.monotonic()
                                                       + 1000),)  # fmt: skip


@pytest.mark.parametrize(("gap_s", "closes", "sent"), [(40, "20:00", 2), (40, "10:00", 1)])
def test_message_in_hand_goes_to_its_end_and_one_put_off_does_not(
    played: test_service.Box, gap_s: int, closes: str, sent: int
) -> None:
    played.tables = {"pacing": {"bubble_gap_seconds": [gap_s, gap_s]},
                     "business_hours": {"opens": "09:00", "closes": closes},
                     "service": {"poll_seconds": 60}}  # fmt: skip
    played.play.start = at(9, 59) + timedelta(seconds=45)
    row_id = played.insert(ANA, "one [BUBBLE] two", until=until(played, 20))
    played.serve(drain=True)
    assert played.texts() == ["one", "two"][:sent]
    ended = ("cancelled", "1 of 2 bubbles were sent: too late")
    assert played.row(row_id) == (("sent", None) if sent == 2 else ended)


@pytest.mark.parametrize(("in_s", "minutes"), [(30, 5), (3599, 55), (90_000, 1440), (None, None)])
def test_validity_period_ends_with_the_row(
    played: test_service.Box, in_s: float | None, minutes: int | None
) -> None:
    end = None if in_s is None else until(played, in_s)
    row_id = played.insert(ANA, "Sale", until=end)
    played.serve(drain=True)
    [(bubble,)] = played.sql("SELECT id FROM messages WHERE scheduled_message_id = ?", row_id)
    ((pdu, _),) = smsbox.encode_submit(
        "Sale", ANA, status_report=True, reference=bubble, validity_minutes=minutes
    )
    assert pdu.encode() + b"\x1a" in played.far.heard


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
    box: test_command_line.Box,
) -> None:
    soon = f"{datetime.now(smsbox.UTC) + timedelta(minutes=90):%Y-%m-%d %H:%M:%S}"
    past = f"{datetime.now(smsbox.UTC) - timedelta(minutes=90):%Y-%m-%d %H:%M:%S}"
    waits = box.insert(60, until=soon)
    failed = box.insert(-200, until=past, status="failed")
    held = box.insert(-200, until=past, held_because="they have replied")
    for words in (("reschedule", str(waits), "--by", "+1h"), ("retry", str(failed)),
                  ("release", str(held))):  # fmt: skip
        done = box.run(*words)
        assert (done.status, "too late" in done.err) == (1, True), done
    assert box.statuses() == ["scheduled", "failed", "scheduled"]
    assert box.run("reschedule", str(waits), "--by", "+20m").status == 0
    box.sql("UPDATE scheduled_messages SET scheduled_for = '2099-01-01' WHERE id = ?", waits)
    assert box.row(waits, "status, error_message") == ("cancelled", "too late")
    assert "shut  until" in box.run("why", str(held)).out


# --- before everything else


def test_first_goes_before_all_that_is_scheduled_which_is_paced_anew_behind_it(
    desk: Desk,
) -> None:
    desk.configure('[business_hours]\nopens = "00:00"\ncloses = "24:00"\n'
                   "[recipient_hours]\nenabled = false\n")  # fmt: skip
    desk.write("a.csv", many(6))
    desk.write("p.csv", many(1, first=5000))
    desk.write("b.csv", many(4, first=3000))
    desk.write("now.csv", many(8, first=4000))
    assert desk.schedule("a.csv", "--yes").status == 0
    assert desk.schedule("b.csv", "--yes").status == 0
    assert desk.schedule("p.csv", "--yes").status == 0
    desk.execute("INSERT INTO campaigns (name, created_at, paused_because) VALUES ('p',"
                 " datetime('now'), 'paused by ana')"
                 " ON CONFLICT DO UPDATE SET paused_because = 'paused by ana'")  # fmt: skip
    desk.execute("UPDATE scheduled_messages SET held_because = 'x' WHERE id = 1")
    kept = "SELECT scheduled_for FROM scheduled_messages WHERE id IN (1, 11) ORDER BY id"
    before = desk.connect().execute(kept).fetchall()
    words = ("now.csv", "--first", "--seed", "3")
    plan = desk.schedule(*words, "--dry-run", "--json").object
    assert [each["campaign"] for each in plan["behind"]] == ["a", "b"]
    assert all(each["was"] < each["last"] for each in plan["behind"])
    done = desk.schedule(*words, "--yes")
    assert done.status == 0, done.err
    named = re.findall(r"^Behind it: (\w+) ends (.{14}), was (.{14})$", done.out, re.MULTILINE)
    assert [name for name, *_ in named] == ["a", "b"]
    free = [
        (name, utc(when))
        for name, when in desk.connect().execute(
            "SELECT campaign_name, scheduled_for FROM scheduled_messages"
            " WHERE id NOT IN (1, 11) ORDER BY scheduled_for"
        )
    ]
    assert [name for name, _ in free] == ["now"] * 8 + ["a"] * 5 + ["b"] * 4
    assert all(239 <= (b - a).total_seconds() <= 1321 for (_, a), (_, b) in pairwise(free))
    assert desk.connect().execute(kept).fetchall() == before
    for name, ends, _ in named:
        last = max(when for each, when in free if each == name).astimezone(LOS_ANGELES)
        assert abs((last - datetime.strptime(f"{last.year}/{ends}", "%Y/%m/%d %I:%M %p").replace(
            tzinfo=LOS_ANGELES)).total_seconds()) <= 60  # fmt: skip


def test_first_keeps_the_interval_to_the_last_message_and_names_what_will_be_too_late(
    desk: Desk,
) -> None:
    desk.configure('[business_hours]\nopens = "00:00"\ncloses = "24:00"\n'
                   "[recipient_hours]\nenabled = false\n")  # fmt: skip
    desk.write("a.csv", many(3))
    soon = f"{datetime.now(LOS_ANGELES) + timedelta(minutes=70):%Y-%m-%d %H:%M}"
    assert desk.schedule("a.csv", "--yes", "--until", soon, "--seed", "1").status == 0
    desk.execute("UPDATE scheduled_messages SET status = 'sent', sent_at = datetime('now')"
                 " WHERE id = 1")  # fmt: skip
    desk.write("now.csv", many(30, first=4000))
    plan = desk.schedule("now.csv", "--first", "--dry-run", "--json", "--seed", "1").object
    assert utc(plan["first"]) - datetime.now(smsbox.UTC) > timedelta(minutes=4, seconds=30)
    assert [(each["campaign"], each["too_late"]) for each in plan["behind"]] == [("a", 2)]
    done = desk.schedule("now.csv", "--first", "--yes", "--seed", "1")
    assert "2 messages of it will be too late" in " ".join(done.out.split())
    assert desk.rows("status").count("cancelled") == 2


# --- the stories, whole


class Story:
    """A box with a real daemon and a modem, and what the operator typed and read."""

    def __init__(self, box: test_end_to_end.Box) -> None:
        self.box = box
        self.lines: list[str] = []

    def tell(self, *words: str, answer: str = "") -> str:
        """Type a command on a terminal, and perhaps an answer to its question."""
        folder = self.box.folder
        terminal = Terminal(self.box.command(*words), folder, {**os.environ, "NO_COLOR": "1"}, None)
        try:
            if answer:
                terminal.wait_for(QUESTION)
                terminal.type(f"{answer}\n")
            status = terminal.end()
        finally:
            terminal.close()
        self.lines += [f"$ smsbox {shlex.join(words)}", terminal.shown.rstrip(), f"[{status}]", ""]
        return terminal.shown

    def arrived(self) -> list[tuple[str, str]]:
        return [(each.number, each.text) for each in self.box.modem.texts()]

    def compare(self, name: str, request: pytest.FixtureRequest) -> None:
        told = "\n".join(self.lines).replace(f"{self.box.folder}/", "")
        for pattern, mask in (
            (r"\d\d/\d\d/\d{4}( \d\d:\d\d(:\d\d)? [AP]M P[SD]T)", "MM/DD/YYYY HH:MM"),
            (r"\d\d/\d\d \d\d:\d\d [AP]M( \(P[SD]T\)|)", "MM/DD HH:MM XM"),
            (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (\d\d/\d\d|MM/DD)", "Day MM/DD"),
            (r"\d{4}-\d\d-\d\d", "YYYY-MM-DD"),
            (r"\d+ s: from", "N s: from"),
            (r"on \d days? \(.*\)", "on N days"),
            (r"\(pid \d+\)|paused by \w+", "..."),
            (r"[^\n]*\x1b\[K", ""),  # progress, drawn over
            (r"Wrote \d+ rows", "Wrote N rows"),
            (r"(?m)^copies .*", "copies   ..."),
            (r"\d\d/\d\d/\d{4} \d\d:\d\d [AP]M", "MM/DD/YYYY HH:MM"),
        ):
            told = re.sub(pattern, mask, told)
        golden = GOLDEN / f"{name}.txt"
        if request.config.getoption("--golden"):
            golden.parent.mkdir(exist_ok=True)
            golden.write_text(told, encoding="utf-8")
        assert told == golden.read_text(encoding="utf-8")


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    with PtyModem(tmp_path) as modem:
        box = test_end_to_end.Box(tmp_path, modem)
        yield Story(box)
        for daemon in box.daemons:
            if daemon.process.poll() is None:
                daemon.kill()


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
    story.tell("schedule", "sale.csv", "--replace", answer="YES")
    story.tell("schedule", "sale.csv", "--replace", answer="")
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
    story.tell("list", "--campaigns")
    story.tell(*words, "--row", "7")
    box.call("optout", "add", own)
    assert "said stop" in story.tell(*words)
    box.call("optout", "remove", own, "--reason", "it is mine", "--they-asked")
    box.settle(business_hours={"opens": "00:00", "closes": "00:01"})
    assert "outside the business hours" in box.call(*words[:1], str(box.folder / "sale.csv"),
        "--template", str(box.folder / "sale.txt"), *words[4:], status=75).stderr  # fmt: skip
    assert len(story.arrived()) == 2
    story.compare("tried", request)


def test_story_of_a_campaign_that_goes_first_and_one_that_ends_in_time(
    story: Story, request: pytest.FixtureRequest
) -> None:
    box = story.box
    for name, number in (("slow", ANA), ("news", BEN), ("sale", CHLOE)):
        (box.folder / f"{name}.csv").write_text(texts((number, name)))
    story.tell("schedule", "slow.csv", "--yes", "--seed", "1")
    story.tell("schedule", "news.csv", "--first", "--seed", "1", answer="YES")
    soon = datetime.now(LOS_ANGELES) + timedelta(seconds=4)
    box.call("schedule", str(box.folder / "sale.csv"), "--until", f"{soon:%Y-%m-%d %H:%M:%S}",
             "--yes")  # fmt: skip
    wait_until(lambda: datetime.now(LOS_ANGELES) > soon + timedelta(seconds=1))
    box.drain()
    assert story.arrived() == [(BEN, "news"), (ANA, "slow")]
    assert box.row(3) == ("cancelled", "too late")
    story.compare("first", request)
