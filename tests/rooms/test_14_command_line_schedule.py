"""`smsbox schedule` as an operator meets it: whole processes, real files, a real terminal."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
import unicodedata
from collections.abc import Iterable
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

import smsbox
from rig.desk import (
    DAY,
    HEADER,
    PATIENCE_S,
    QUESTION,
    TEN,
    Desk,
    Keyboard,
    Operator,
    Terminal,
    json_utc,
    local,
    many,
    utc,
)
from rig.pace import LOS_ANGELES
from rig.paths import PROGRAM

UTC = timezone.utc
THREE = (
    HEADER
    + "2135551234,Ana Torres,Hi Ana [BUBBLE] see you at five\n"
    + "(310) 555-9876,Ben Cole,Hi Ben\n"
    + "+1 415 555 2671,Cleo Díaz,Hi Cleo\n"
)


def columns(line: str) -> int:
    """Count the columns that a line takes on a terminal."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in line)
    return len(line) + wide - sum(map(bool, map(unicodedata.combining, line)))


def message_lines(out: str) -> list[str]:
    return re.findall(r"^\[\d+/\d+\].*$", out, re.MULTILINE)


# --- the preview ------------------------------------------------------------------------------


def test_dry_run_shows_a_banner_a_line_a_message_and_the_totals(desk: Desk) -> None:
    desk.write("spring.csv", THREE)
    shown = desk.schedule("spring.csv", "--dry-run", "--start", TEN, "--seed", "3")
    assert shown.status == 0
    assert shown.err == ""
    for words in (
        rf"{DAY:%m/%d/%Y} 10:00:00 AM P[SD]T",
        r"4-7 min",
        r"15-20 ?%.*10-15 min",
        r"9:00.* to 20:00.* America/Los_Angeles .*\d\d/\d\d \d\d:\d\d [AP]M now",
        r"[Dd]ry run:? +yes",
        r"Seed: +3\b",
        r"\bspring\b",
    ):
        assert re.search(words, shown.out), words
    lines = message_lines(shown.out)
    assert re.fullmatch(
        r"\[1/3\] +Ana Torres +\| \+12135551234 +\| " + f"{DAY:%m/%d}" + r" 10:01 AM"
        r" \| \+1m +\| 2 bubbles", lines[0]
    )  # fmt: skip
    assert [re.split(r" *\| *", line)[0].split(None, 1)[1] for line in lines] == [
        "Ana Torres", "Ben Cole", "Cleo Díaz",
    ]  # fmt: skip
    assert lines[1].endswith("| 1 bubble")
    totals = shown.out.split("Cleo Díaz", 1)[1]
    assert re.search(rf"{DAY:%m/%d} 10:01 AM to {DAY:%m/%d} 10:\d\d AM", totals)
    assert re.search(rf"3 on 1 day .*{DAY:%m/%d}: 3", totals)
    assert re.search(r"Segments: +4\b", totals)


def test_preview_and_json_tell_the_same_plan(desk: Desk) -> None:
    desk.write("c.csv", many(60))
    words = ("c.csv", "--dry-run", "--start", TEN, "--seed", "8")
    planned = desk.schedule(*words, "--json").value["messages"]
    expected = []
    for place, each in enumerate(planned, 1):
        if each["skip_s"]:
            expected.append(f"[SKIP] Adding extra {round(each['skip_s'] / 60)} min delay")
        at = json_utc(each["scheduled_for"]).astimezone(LOS_ANGELES)
        wait = round((each["gap_s"] + each["skip_s"]) / 60)
        expected.append(f"[{place}/60] {at:%m/%d %I:%M %p} +{wait}m")
    assert sum(line.startswith("[SKIP]") for line in expected) > 3
    shown = re.findall(r"^\[(?:SKIP|\d+/).*$", desk.schedule(*words).out, re.MULTILINE)
    got = []
    for line in shown:
        parts = [part.strip() for part in line.split("|")]
        got.append(line if len(parts) == 1 else f"{parts[0].split()[0]} {parts[2]} {parts[3]}")
    assert got == expected


def test_first_longest_and_first_ucs2_text_are_shown_in_full(desk: Desk) -> None:
    longest = "word " * 25 + "end"
    desk.write(
        "c.csv",
        HEADER + "2135551234,Ana,First text[BUBBLE]its second bubble\n"
        f"2135551235,Ben,{longest}\n"
        "2135551237,Dan,“not shown”\n",
    )
    out = desk.schedule("c.csv", "--dry-run", "--start", TEN).out
    for text in ("First text", "its second bubble"):
        assert re.search(rf"^  > {re.escape(text)}$", out, re.MULTILINE), text
    assert f" > {longest}" in re.sub(r"\s+", " ", out)  # wrapped, and whole
    assert "[BUBBLE]" not in out
    assert "“not shown”" not in out
    desk.write(
        "d.csv", HEADER + '2135551234,Ana,First\n2135551236,Cleo,"Prête — à bientôt\nCleo"\n'
    )
    assert "  > Prête — à bientôt\n    Cleo\n" in desk.schedule("d.csv", "--dry-run").out


def test_each_text_that_needs_ucs2_is_named_with_its_characters_and_their_replacement(
    desk: Desk,
) -> None:
    desk.write(
        "c.csv",
        HEADER + "2135551234,Ana,plain\n2135551235,Ben,“Hi”\n"
        "2135551236,Cleo,wait… a\u00a0moment – or two — it’s ‘fine’\n2135551237,Dan,жук\n",
    )
    out = desk.schedule("c.csv", "--dry-run", "--start", TEN).out
    told = re.sub(r"\s+", " ", out[out.index("UCS-2:") :])
    assert "3 texts" in told
    for row in "345":
        assert re.search(rf"\brows? [\d, ]*\b{row}\b", told)
    for character, mend in (
        ("201C", '"'), ("201D", '"'), ("2026", "..."), ("00A0", "space"), ("2013", "-"),
        ("2014", "-"),
    ):  # fmt: skip
        assert re.search(rf"U\+{character} \([^)]*{re.escape(mend)}[^)]*\)", told), character
    assert re.search(r"and \d+ other characters", told)
    desk.write("d.csv", HEADER + "2135551237,Dan,‘жук’\n")
    told = re.sub(r"\s+", " ", desk.schedule("d.csv", "--dry-run").out)
    assert "1 text needs it" in told
    for character in ("2019", "2018"):
        assert f"U+{character} (write ' instead)" in told
    assert re.search(r"ж U\+0436(?! \()", told)


def test_preview_fits_eighty_columns(desk: Desk) -> None:
    bubbles = "[BUBBLE]".join("abcdefghijkl")
    desk.write(
        "c.csv",
        HEADER + f"2135551234,{'Wolfgang ' * 8},{bubbles}\n"
        f"+447911123456,陳大文陳大文陳大文陳大文陳大文陳大文,{bubbles}\n"
        + "".join(f"310555{2000 + i},Name {i},a ‘b’ “c” … – — ж\n" for i in range(130)),
    )
    done = desk.schedule("c.csv", "--dry-run", "--start", TEN, "--seed", "1")
    assert len(message_lines(done.out)) == 132
    plan = done.out.split("\nTo schedule")[0]
    wide = [line for line in plan.splitlines() if columns(line) > 80]
    assert wide == []


def test_a_long_campaign_fits_eighty_columns_too(desk: Desk) -> None:
    desk.configure("[pacing]\ninterval_minutes = [240, 300]\n")
    desk.write("c.csv", many(70))
    out = desk.schedule("c.csv", "--dry-run", "--start", TEN).out
    assert len(message_lines(out)) == 70
    assert [line for line in out.split("\nTo schedule")[0].splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("number", ["+447911123456", "+4915112345678", "+971412345678901"])
def test_a_foreign_number_is_shown_whole(desk: Desk, number: str) -> None:
    desk.write("c.csv", HEADER + f"{number},Jo,Hello\n")
    [line] = message_lines(desk.schedule("c.csv", "--dry-run", "--start", TEN).out)
    assert re.search(rf"\| {re.escape(number)} +\|", line)
    assert columns(line) <= 80


def test_message_moved_to_an_opening_begins_at_nine_and_shows_no_skip(desk: Desk) -> None:
    desk.write("c.csv", many(4))
    out = desk.schedule("c.csv", "--dry-run", "--start", f"{DAY} 19:53", "--seed", "5").out
    lines = message_lines(out)
    opening = f"{DAY + timedelta(days=1):%m/%d} 09:00 AM"
    assert sum(opening in line for line in lines) == 1
    place = next(i for i, line in enumerate(out.splitlines()) if opening in line)
    assert not out.splitlines()[place - 1].startswith("[SKIP]")


def test_price_is_shown_once_it_is_known(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    assert "USD" not in desk.schedule("c.csv", "--dry-run").out
    desk.configure('[cost]\nprice_per_segment = 0.25\ncurrency = "EUR"\n')
    assert re.search(r"Segments: +4\b.*1\.00 EUR", desk.schedule("c.csv", "--dry-run").out)


def test_long_lines_of_the_banner_are_wrapped(desk: Desk) -> None:
    unused = [f"Column number {i}" for i in range(12)]
    header = HEADER.strip() + "," + ",".join(unused) + ",Status of the row in the old system\n"
    rows = "2135551234,Ana,Hi" + "," * 13 + "SUG\n2135551235,Ben,Hi" + "," * 13 + "x" * 60 + "\n"
    desk.write("c.csv", header + rows)
    out = desk.schedule("c.csv", "--dry-run", "--campaign", "A campaign " * 9).out
    banner, command = re.split(r"To schedule\s+this", out)
    assert all(columns(line) < 80 for line in banner.splitlines())
    assert f"--campaign '{'A campaign ' * 9}'" in command  # the line to copy is left whole


def test_what_matters_stands_on_the_last_screen_of_a_small_terminal(desk: Desk) -> None:
    text = "Hi there! We open at nine. Reply STOP to end. [BUBBLE] See you!"
    desk.write("gone.csv", "phone\n2135552000\n2135552001\n")
    assert desk.run(desk.words("optout", "add", "gone.csv")).status == 0
    good = "".join(f"213555{2000 + i},Name {i},{text}\n" for i in range(300))
    bad = "12,Bad,Hi\n" * 12 + "2135559990,Worse,\n"
    desk.write("c.csv", HEADER + good + bad + good[: good.index("\n") + 1])
    words = desk.words("schedule", "c.csv", "--dry-run", "--skip-invalid", "--start", TEN)
    sized = f"stty rows 24 cols 80; exec {shlex.join(words)}"
    terminal = Terminal(["sh", "-c", sized], desk.folder, desk.environment, None)
    assert terminal.end() == 0
    terminal.close()
    rows = [line[at : at + 80] for line in terminal.shown.splitlines()
            for at in range(0, max(1, len(line)), 80)]  # fmt: skip
    # The prompt takes the last row; a line that is wrapped goes on at the 12th column.
    screen = "\n".join(rows[-23:]).replace(f"\n{' ' * 11}", " ")
    for words_shown in (
        "First text (row 4, Name 2, 2 segments):\n  > Hi there! We", "  > See you!",
        "Left out:  2 rows, the recipient said stop: rows 2, 3\n",
        "Left out:  1 row, same number as another row: row 315\n",
        "Rejected:  12 rows", '"phone_number"', '"message_content"',
        "Duration:  ", "Messages:  298 on ", "Segments:  596", "To schedule exactly this:\n",
    ):  # fmt: skip
        assert words_shown in screen, screen
    assert "schedule c.csv --start" in screen.replace("\n", "")


def test_left_out_rows_are_summed_by_kind(desk: Desk) -> None:
    desk.write("c.csv", many(3))
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    rows = many(6).splitlines(keepends=True)
    desk.write("c.csv", "".join([*rows, *rows[4:6]]))
    shown = desk.schedule("c.csv", "--dry-run").out
    assert re.findall(r"(?m)^Left out: +(.*)$", shown) == [
        "3 rows, already scheduled or sent in c: rows 2, 3, 4",
        "2 rows, same number as another row: rows 8, 9",
    ]  # fmt: skip
    assert [each["reason"] for each in desk.schedule("c.csv", "--dry-run", "--json").value[
        "left_out"]][3:] == ["same number as row 5", "same number as row 6"]  # fmt: skip


def test_columns_that_nothing_reads_are_named(desk: Desk) -> None:
    desk.write("c.csv", "Phone Number,Name,Message,Shoe size\n2135551234,Ana,Hi,38\n")
    assert "Shoe size" in desk.schedule("c.csv", "--dry-run").out


def test_texts_that_bend_the_line_are_shown_as_they_are_written_not_as_they_steer(
    desk: Desk,
) -> None:
    desk.write("c.csv", HEADER + "2135551234,A\u202eB,hi \u202etxt “x”\n")
    out = desk.schedule("c.csv", "--dry-run").out
    assert "\u202e" not in out
    assert "\\u202e" in out


# --- --json -----------------------------------------------------------------------------------

MESSAGE_KEYS = [
    "row", "campaign_message_id", "phone_number", "customer_name", "scheduled_for", "gap_s",
    "skip_s", "bubbles", "segments", "encoding", "timezone",
]  # fmt: skip
OBJECT_KEYS = [
    "campaign", "seed", "start", "timezone", "columns", "messages", "rejected", "left_out",
    "segments", "first", "last", "duration_hours", "until", "quotas_met",
    "not_taken", "consent", "warnings",
]  # fmt: skip


def test_json_is_the_whole_plan_and_nothing_else(desk: Desk) -> None:
    desk.write(
        "spring.csv",
        "id,phone_number,customer_name,message_content\n"
        "A-7,2135551234,Ana Torres,Hi Ana [BUBBLE] see you\n"
        f",3105559876,Ben Cole,{'x' * 161}“\n"
        "A-9,(213) 555-1234,Ana Torres,Hi Ana [BUBBLE] see you\n",
    )
    shown = desk.schedule("spring.csv", "--dry-run", "--json", "--start", TEN, "--seed", "3")
    assert (shown.status, shown.err) == (0, "")
    plan = shown.value
    assert list(plan) == OBJECT_KEYS
    assert [list(message) for message in plan["messages"]] == [MESSAGE_KEYS] * 2
    start = local(TEN).astimezone(UTC)
    ana, ben = plan["messages"]
    assert plan | {"messages": [], "left_out": [], "last": "", "duration_hours": 0} == {
        "campaign": "spring", "seed": 3, "start": f"{start:%Y-%m-%dT%H:%M:%SZ}",
        "timezone": "America/Los_Angeles", "messages": [], "rejected": [], "left_out": [],
        "segments": 5, "first": f"{start + timedelta(seconds=60):%Y-%m-%dT%H:%M:%SZ}", "last": "",
        "duration_hours": 0, "until": None, "quotas_met": {}, "not_taken": {}, "consent": [],
        "warnings": [],
        "columns": {name: name for name in ("id", *HEADER.strip().split(","))},
    }  # fmt: skip
    assert ana == {
        "row": 2, "campaign_message_id": "A-7", "phone_number": "+12135551234",
        "customer_name": "Ana Torres", "scheduled_for": plan["first"], "gap_s": 60, "skip_s": 0,
        "bubbles": 2, "segments": 2, "encoding": "gsm7",
        "timezone": "America/Los_Angeles",
    }  # fmt: skip
    assert (ben["row"], ben["campaign_message_id"]) == (3, "3")
    assert (ben["bubbles"], ben["segments"], ben["encoding"]) == (1, 3, "ucs2")
    assert plan["last"] == ben["scheduled_for"]
    [left_out] = plan["left_out"]
    assert list(left_out) == ["row", "phone_number", "reason"]
    assert (left_out["row"], left_out["phone_number"]) == (4, "+12135551234")
    assert "row 2" in left_out["reason"]
    hours = (json_utc(plan["last"]) - json_utc(plan["first"])).total_seconds() / 3600
    assert plan["duration_hours"] == pytest.approx(hours, abs=0.01)


def test_json_of_a_refused_file_names_the_rejected_rows(desk: Desk) -> None:
    desk.write("c.csv", HEADER + "2135551234,Ana,Hi\n555-1234,Ben,Hi\n2135551235,Cleo,Hi�\n")
    refused = desk.schedule("c.csv", "--dry-run", "--json")
    assert refused.status == 65
    assert list(refused.value) == OBJECT_KEYS
    rejected = refused.value["rejected"]
    assert [list(each) for each in rejected] == [["row", "column", "problem"]] * 2
    assert [(each["row"], each["column"]) for each in rejected] == [
        (3, "phone_number"), (4, "message_content"),
    ]  # fmt: skip
    taken = desk.schedule("c.csv", "--dry-run", "--json", "--skip-invalid")
    assert taken.status == 0
    assert [each["row"] for each in taken.value["messages"]] == [2]
    assert taken.value["rejected"] == rejected


def test_json_of_nothing_new_has_no_first_and_no_last(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    plan = desk.schedule("c.csv", "--dry-run", "--json").value
    assert list(plan) == OBJECT_KEYS
    assert (plan["messages"], plan["first"], plan["last"]) == ([], None, None)
    assert [each["row"] for each in plan["left_out"]] == [2, 3, 4]


def test_json_stays_one_object_when_the_plan_is_stored(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    stored = desk.schedule("c.csv", "--yes", "--json", "--start", TEN)
    assert stored.status == 0
    times = [json_utc(each["scheduled_for"]) for each in stored.value["messages"]]
    assert [utc(at) for at in desk.rows()] == times


def test_json_of_nothing_new_stays_one_object_when_it_is_stored(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    assert desk.schedule("c.csv", "--yes").status == 0
    again = desk.schedule("c.csv", "--yes", "--json")
    assert again.status == 0
    assert again.value["messages"] == []
    assert "Nothing to schedule" in again.err


def test_json_asks_on_the_terminal_and_not_on_stdout(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    words = desk.words("schedule", "c.csv", "--json")
    terminal = Terminal(["sh", "-c", f"{shlex.join(words)} > plan.json"], desk.folder,
                        desk.environment, None)  # fmt: skip
    terminal.wait_for(QUESTION)
    terminal.type("NO\n")
    assert terminal.end() == 1
    terminal.close()
    assert len(json.loads((desk.folder / "plan.json").read_text())["messages"]) == 3


def test_json_prints_no_second_plan_when_the_queue_changed(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    desk.write("d.csv", many(2))
    words = desk.words("schedule", "c.csv", "--json")
    terminal = Terminal(["sh", "-c", f"{shlex.join(words)} > plan.json"], desk.folder,
                        desk.environment, None)  # fmt: skip
    terminal.wait_for(QUESTION)
    assert desk.schedule("d.csv", "--yes").status == 0
    terminal.type("YES\n")
    assert terminal.end() == 75
    terminal.close()
    assert len(json.loads((desk.folder / "plan.json").read_text())["messages"]) == 3
    assert len(desk.rows()) == 2


def test_same_seed_and_start_give_the_same_plan_and_another_seed_another(desk: Desk) -> None:
    desk.write("c.csv", many(20))

    def planned(seed: str) -> Any:
        words = ("c.csv", "--dry-run", "--json", "--start", TEN, "--seed", seed)
        return desk.schedule(*words).value["messages"]

    assert planned("1") == planned("1")
    assert planned("1") != planned("2")


def test_without_a_seed_each_plan_has_its_own_and_says_it(desk: Desk) -> None:
    desk.write("c.csv", many(20))
    first = desk.schedule("c.csv", "--dry-run", "--json", "--start", TEN).value
    again = desk.schedule(
        "c.csv", "--dry-run", "--json", "--start", TEN, "--seed", str(first["seed"])
    ).value
    assert again == first


# --- a dry run leaves nothing behind ------------------------------------------------------------


def test_dry_run_writes_nothing_at_all(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    before = desk.snapshot()
    assert desk.schedule("c.csv", "--dry-run").status == 0
    assert desk.schedule("c.csv", "--dry-run", "--json").status == 0
    words = [sys.executable, str(PROGRAM), "--config", "box.toml", "schedule", "c.csv"]
    assert desk.run([*words, "--dry-run"], XDG_DATA_HOME=str(desk.folder / "share")).status == 0
    assert desk.snapshot() == before


def test_own_database_of_a_person_is_made_with_its_folder_and_no_other_folder(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    before = desk.snapshot()
    named = [sys.executable, str(PROGRAM), "--database", str(desk.folder / "mistyped" / "a.db")]
    for words in (["pause"], ["status"], ["check"], ["schedule", "c.csv", "--yes"], ["run"]):
        told = desk.run([*named, *words])
        assert told.status
        assert "mistyped is no folder; make it first" in told.out + told.err
    assert desk.snapshot() == before
    own, home = [sys.executable, str(PROGRAM)], str(desk.folder / "a" / "b")
    for word in ("pause", "resume"):  # root, too, may look at it again
        assert desk.run([*own, word], XDG_DATA_HOME=home).status == 0
    assert (desk.folder / "a" / "b" / "smsbox" / "smsbox.db").exists()
    assert (desk.folder / "a").stat().st_mode & 0o777 == 0o700


def test_dry_run_leaves_an_existing_database_byte_for_byte(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    desk.write("d.csv", many(3))
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    before = desk.snapshot()
    shown = desk.schedule("d.csv", "--dry-run", "--json")
    assert json_utc(shown.value["first"]) > utc(desk.rows()[-1])
    assert desk.snapshot() == before


def test_dry_run_leaves_a_database_alone_that_another_holds_open(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    desk.write("d.csv", many(3))
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    other = desk.connect()
    moved = "UPDATE scheduled_messages SET scheduled_for = datetime(scheduled_for, '+1 hour')"
    try:
        other.execute(moved)  # stands in the write-ahead log only
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE scheduled_messages SET customer_name = 'not committed'")
        before = desk.snapshot()
        shown = desk.schedule("d.csv", "--dry-run", "--json")
        after = desk.snapshot()
        other.execute("ROLLBACK")
    finally:
        other.close()
    assert shown.status == 0, shown.err
    last = utc(desk.rows()[-1])
    assert last > local(TEN) + timedelta(hours=1)
    assert timedelta(minutes=4) <= json_utc(shown.value["first"]) - last <= timedelta(minutes=22)
    # The index in shared memory holds the readers' marks: SQLite keeps it even for a reader.
    assert after.keys() == before.keys()
    for name in before.keys() - {"box.db-shm"}:
        assert after[name] == before[name], name


def test_dry_run_of_a_refused_file_writes_nothing(desk: Desk) -> None:
    desk.write("c.csv", HEADER + "12,Ana,Hi\n")
    before = desk.snapshot()
    assert desk.schedule("c.csv", "--dry-run").status == 65
    assert desk.snapshot() == before


# --- storing ------------------------------------------------------------------------------------


def test_stored_rows_are_the_plan(desk: Desk) -> None:
    desk.write("spring.csv", THREE)
    words = ("spring.csv", "--start", TEN, "--seed", "4")
    plan = desk.schedule(*words, "--dry-run", "--json").value
    stored = desk.schedule(*words, "--yes")
    assert stored.status == 0
    assert "3 messages" in stored.out
    for key in ("phone_number", "customer_name", "campaign_message_id"):
        assert desk.rows(key) == [each[key] for each in plan["messages"]]
    times = [json_utc(each["scheduled_for"]) for each in plan["messages"]]
    assert [utc(at) for at in desk.rows()] == times
    assert desk.rows("status") == ["scheduled"] * 3
    assert desk.rows("campaign_name") == ["spring"] * 3
    assert desk.rows("message_content")[0] == "Hi Ana [BUBBLE] see you at five"


def printed_command(out: str) -> list[str]:
    """Give the words of the command that a dry run ends with."""
    lines = [line.strip() for line in out.splitlines()]
    [line] = [line for line in lines if line.startswith("smsbox ") and " schedule " in line]
    return [sys.executable, "-m", "smsbox", *shlex.split(line)[1:]]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["a b.csv"], id="a file with a space"),
        pytest.param(["a b.csv", "--campaign", "Fall; rm -rf"], id="a campaign's name"),
        pytest.param(["a b.csv", "--campaign=-10 %"], id="a name with a dash in front"),
        pytest.param(["a b.csv", "--limit", "2"], id="a limit"),
        pytest.param(["a b.csv", "--template", "it's.txt"], id="a template"),
        pytest.param(["a b.csv", "--map", "customer_name=Shop"], id="a map"),
        pytest.param(["bad.csv", "--skip-invalid"], id="bad rows left out"),
        pytest.param(["./-x.csv"], id="a file with a dash in front"),
    ],
)
def test_command_at_the_end_of_a_dry_run_stores_the_same_plan(desk: Desk, words: list[str]) -> None:
    good = "mobile,name,message,Shop\n" + "".join(
        f"213555{2000 + i},Name {i},Hello {i},Shop {i}\n" for i in range(4)
    )
    desk.write("a b.csv", good)
    desk.write("-x.csv", good)
    desk.write("bad.csv", good + "12,Bad,Hi,x\n")
    desk.write("it's.txt", "Dear {name}, {message}")
    words = [*words, "--dry-run", "--start", TEN]
    shown = desk.schedule(*words)
    assert shown.status == 0, shown.err
    stored = desk.run([*printed_command(shown.out), "--yes"])
    assert stored.status == 0, stored.err
    # The preview in lines is the plan of --json, as another test shows.
    planned = [[part.strip() for part in line.split("|")] for line in message_lines(shown.out)]
    assert len(planned) == (2 if "--limit" in words else 4)
    assert [utc(at).astimezone(LOS_ANGELES).strftime("%m/%d %I:%M %p") for at in desk.rows()] == [
        parts[2] for parts in planned
    ]
    assert desk.rows("customer_name") == [parts[0].split(None, 1)[1] for parts in planned]
    [campaign] = set(desk.rows("campaign_name"))
    assert re.search(rf"^Campaign: +{re.escape(campaign)} ", shown.out, re.MULTILINE)
    if "--template" in words:
        assert desk.rows("message_content")[1] == "Dear Name 1, Hello 1"


def test_command_of_a_long_plan_stores_it(desk: Desk) -> None:
    desk.configure("[pacing]\ninterval_minutes = [9000, 10000]\n")
    desk.write("c.csv", many(12))
    shown = desk.schedule("c.csv", "--dry-run", "--start", TEN)
    assert desk.run([*printed_command(shown.out), "--yes"]).status == 0
    assert len(desk.rows()) == 12


def test_without_a_start_the_command_names_the_seed_and_the_same_gaps_count_from_yes(
    desk: Desk,
) -> None:
    desk.configure(
        '[business_hours]\nopens = "00:00"\ncloses = "24:00"\n[recipient_hours]\nenabled = false\n'
    )
    desk.write("c.csv", many(8))
    shown = desk.schedule("c.csv", "--dry-run")
    command = printed_command(shown.out)
    assert "--start" not in command
    assert re.search(r"same gaps .*from the moment of YES", shown.out)
    seed = command[command.index("--seed") + 1]
    plan = desk.schedule("c.csv", "--dry-run", "--json", "--seed", seed).value["messages"]
    began = datetime.now(UTC)
    assert desk.run([*command, "--yes"]).status == 0
    times = [utc(at) for at in desk.rows()]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    planned = [json_utc(each["scheduled_for"]) for each in plan]
    assert gaps == [later - earlier for earlier, later in pairwise(planned)]
    assert timedelta(seconds=60) <= times[0] - began < timedelta(seconds=75)


def test_command_of_a_relative_start_and_end_names_their_days(desk: Desk) -> None:
    desk.write("c.csv", many(2))
    words = ("c.csv", "--start", "tomorrow 10:00", "--until", "tomorrow 19:00")
    command = printed_command(desk.schedule(*words, "--dry-run").out)
    tomorrow = f"{datetime.now(LOS_ANGELES) + timedelta(days=1):%Y-%m-%d}"
    assert f"{tomorrow} 10:00" in command  # it may be typed another day
    assert f"{tomorrow} 19:00" in command


@pytest.mark.parametrize(("minutes", "anew"), [(10, False), (20, True)])
def test_plan_that_was_shown_counts_from_a_yes_within_a_quarter_of_an_hour(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, minutes: int, anew: bool
) -> None:
    noon = local(f"{DAY} 12:00").astimezone(UTC)
    clock = [noon]
    monkeypatch.setattr(smsbox.Waiting, "now", lambda self: clock[0])
    file = operator.database.with_name("c.csv")
    file.write_text(THREE)
    yes = noon + timedelta(minutes=minutes)
    typed = Keyboard("YES\nno\n", lambda: clock.__setitem__(0, yes))
    done = operator.run("schedule", str(file), "--seed", "1", terminal=typed)
    assert (done.status, "This is the plan now" in done.err) == (int(anew), anew)
    stored = [at for (at,) in operator.sql("SELECT scheduled_for FROM scheduled_messages")]
    if anew:
        assert (stored, done.out.count("[3/3]")) == ([], 2)
        return
    assert utc(stored[0]) == yes + timedelta(seconds=60)
    first, last = (f"{utc(at).astimezone(LOS_ANGELES):%m/%d %I:%M %p}" for at in
                   (stored[0], stored[-1]))  # fmt: skip
    assert f"Scheduled 3 messages: first {first}, last {last} (" in done.out
    shown = [line.split("|")[3].strip() for line in message_lines(done.out)]
    gaps = [round((utc(b) - utc(a)).total_seconds() / 60) for a, b in pairwise(stored)]
    assert [f"+{gap}m" for gap in gaps] == shown[1:]


def test_plan_behind_messages_that_are_overdue_moves_with_them(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing changed: what nobody sends meanwhile goes later, and so does what is behind it."""
    noon = local(f"{DAY} 12:00").astimezone(UTC)
    clock = [noon]
    monkeypatch.setattr(smsbox.Waiting, "now", lambda self: clock[0])
    file = operator.database.with_name("c.csv")
    file.write_text(THREE)
    assert operator.run("schedule", str(file), "--yes", "--seed", "1").status == 0
    clock[0] = noon + timedelta(hours=1)
    typed = Keyboard("YES\n", lambda: clock.__setitem__(0, clock[0] + timedelta(minutes=12)))
    again = operator.run(
        "schedule", str(file), "--again", "--campaign", "2", "--seed", "1", terminal=typed
    )
    assert again.status == 0
    assert "This is the plan now" not in again.err
    stored = operator.sql("SELECT scheduled_for FROM scheduled_messages ORDER BY id")
    assert len(stored) == 6
    assert utc(stored[3][0]) > clock[0]


def test_without_a_terminal_yes_is_needed(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    before = desk.snapshot()
    refused = desk.schedule("c.csv", "--start", TEN, piped=b"YES\n")
    assert refused.status == 2
    assert "--yes" in refused.sentence
    assert desk.snapshot() == before


def test_same_command_twice_sends_nothing_twice(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    words = ("c.csv", "--yes", "--start", TEN, "--seed", "1")
    assert desk.schedule(*words).status == 0
    desk.execute("UPDATE scheduled_messages SET status = 'sent' WHERE id = 1")
    stored = desk.rows("id")
    for again in (words, ("c.csv", "--yes")):
        second = desk.schedule(*again)
        assert second.status == 0, second.err
        assert "3 rows, already scheduled or sent in c: rows 2, 3, 4\n" in second.out
        assert "--campaign 'c 2'" in second.out
    assert desk.rows("id") == stored


def test_a_row_added_to_the_file_is_the_only_one_stored(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    desk.write("c.csv", THREE + "2135558888,Dora,Hi Dora\n")
    assert desk.schedule("c.csv", "--yes").status == 0
    assert desk.rows("customer_name")[3:] == ["Dora"]


def test_a_cancelled_row_may_be_scheduled_again(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    desk.execute("UPDATE scheduled_messages SET status = 'cancelled' WHERE id = 2")
    assert desk.schedule("c.csv", "--yes").status == 0
    assert desk.rows("customer_name").count("Ben Cole") == 2
    assert len(desk.rows()) == 4


def test_who_said_stop_is_left_out_and_said(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    assert desk.schedule("c.csv", "--yes", "--limit", "1", "--start", TEN).status == 0
    desk.execute(
        "INSERT INTO opt_outs (phone_number, at, words, reason)"
        " VALUES ('+13105559876', '2025-01-01 00:00:00', 'stop', '')"
    )
    stored = desk.schedule("c.csv", "--yes")
    assert stored.status == 0
    assert "Left out:  1 row, the recipient said stop: row 3\n" in stored.out
    assert desk.rows("phone_number") == ["+12135551234", "+14155552671"]


# --- the queue ----------------------------------------------------------------------------------


def test_campaigns_queue_behind_each_other(desk: Desk) -> None:
    for place, name in enumerate(("a", "b", "c"), 2):
        desk.write(f"{name}.csv", many(4, name.upper(), first=1000 * place))
    assert desk.schedule("a.csv", "--yes", "--start", TEN).status == 0
    assert desk.schedule("b.csv", "--yes").status == 0
    assert desk.schedule("c.csv", "--yes").status == 0
    assert desk.rows("campaign_name") == ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    times = [utc(at) for at in desk.rows()]
    for earlier, later in pairwise(times):
        assert timedelta(minutes=4) <= later - earlier <= timedelta(minutes=22)


def test_a_campaign_before_the_queue_is_taken_where_it_fits(desk: Desk) -> None:
    desk.write("a.csv", many(4))
    desk.write("b.csv", many(4, first=3000))
    assert desk.schedule("a.csv", "--yes", "--start", f"{DAY} 15:00").status == 0
    assert desk.schedule("b.csv", "--yes", "--start", TEN).status == 0
    assert desk.rows("campaign_name") == ["b"] * 4 + ["a"] * 4


@pytest.mark.parametrize("start", ["10:03", "09:50"])
def test_start_in_a_busy_time_is_refused_with_a_free_time_that_is_accepted(
    desk: Desk, start: str
) -> None:
    desk.write("a.csv", many(8))
    desk.write("b.csv", many(5, first=3000))
    assert desk.schedule("a.csv", "--yes", "--start", TEN).status == 0
    words = ("b.csv", "--start")
    refused = desk.schedule(*words, f"{DAY} {start}", "--yes")
    assert refused.status == 75
    told = re.search(r'--start "([^"]+)"', refused.sentence)
    assert told
    accepted = desk.schedule(*words, told[1], "--yes")
    assert accepted.status == 0, accepted.err
    assert desk.rows("campaign_name") == ["a"] * 8 + ["b"] * 5
    times = [utc(at) for at in desk.rows()]
    assert timedelta(minutes=4) <= times[8] - times[7] <= timedelta(minutes=8)


def test_free_time_after_a_queue_that_ends_in_the_evening_is_the_next_opening(
    desk: Desk,
) -> None:
    desk.configure("[pacing]\nskip_chance = [0, 0]\ninterval_minutes = [5, 5]\n")
    desk.write("a.csv", many(4))
    desk.write("b.csv", many(2, first=3000))
    assert desk.schedule("a.csv", "--yes", "--start", f"{DAY} 19:43").status == 0
    refused = desk.schedule("b.csv", "--yes", "--start", f"{DAY} 19:45")
    assert refused.status == 75
    free = f"{DAY + timedelta(days=1)} 09:00"
    assert free in refused.sentence
    assert desk.schedule("b.csv", "--yes", "--start", free).status == 0


def next_autumn_night() -> date:
    """Give the next Sunday on which the clock in Los Angeles is put back."""
    day = datetime.now(LOS_ANGELES).date() + timedelta(days=2)
    while True:
        noon, midnight = (datetime(day.year, day.month, day.day, hour, tzinfo=LOS_ANGELES)
                          for hour in (12, 0))  # fmt: skip
        before, after = midnight.utcoffset(), noon.utcoffset()
        assert before is not None
        assert after is not None
        if after < before:
            return day
        day += timedelta(days=1)


def test_free_time_in_the_hour_that_comes_twice_is_accepted(desk: Desk) -> None:
    desk.configure(
        "[pacing]\nskip_chance = [0, 0]\ninterval_minutes = [5, 5]\n"
        '[business_hours]\nopens = "00:00"\ncloses = "24:00"\n[recipient_hours]\nenabled = false\n'
    )
    desk.write("a.csv", many(8))
    desk.write("b.csv", many(8, first=3000))
    night = next_autumn_night()
    assert desk.schedule("a.csv", "--yes", "--start", f"{night} 01:20").status == 0
    refused = desk.schedule("b.csv", "--yes", "--start", f"{night} 01:30")
    assert refused.status == 75
    told = re.search(r'--start "([^"]+)"', refused.sentence)
    assert told
    accepted = desk.schedule("b.csv", "--yes", "--start", told[1])
    assert accepted.status == 0, accepted.err
    assert desk.rows("campaign_name") == ["a"] * 8 + ["b"] * 8


def test_held_rows_do_not_hold_up_a_new_campaign(desk: Desk) -> None:
    desk.write("a.csv", many(2))
    desk.write("b.csv", many(2, first=3000))
    assert desk.schedule("a.csv", "--yes", "--start", TEN).status == 0
    desk.execute("UPDATE scheduled_messages SET held_because = 'wait'")
    first = desk.schedule("b.csv", "--dry-run", "--json").value["first"]
    assert json_utc(first) < local(TEN)


# --- --start ------------------------------------------------------------------------------------


def test_past_start_is_a_warning_in_a_dry_run_and_refused_when_storing(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    before = desk.snapshot()
    shown = desk.schedule("c.csv", "--dry-run", "--json", "--start", "2025-03-10 10:00")
    assert shown.status == 0
    assert re.search(r"(?i)warning.*past", shown.err)
    assert shown.value["first"] == "2025-03-10T17:01:00Z"
    refused = desk.schedule("c.csv", "--yes", "--start", "2025-03-10 10:00")
    assert refused.status == 2
    assert "past" in refused.sentence
    preview = desk.schedule("c.csv", "--dry-run", "--start", "2025-03-10 10:00")
    command = re.split(r"To schedule\s+this", preview.out)[1]
    assert "--seed" in command
    assert "--start" not in command  # it would be refused
    assert desk.snapshot() == before


@pytest.mark.parametrize(
    "start",
    ["tomorrow", "2026-13-01 10:00", "10", "fri 6", ""],
)
def test_start_that_is_no_time_is_a_usage_error(desk: Desk, start: str) -> None:
    desk.write("c.csv", THREE)
    refused = desk.schedule("c.csv", "--dry-run", "--start", start)
    assert refused.status == 2
    assert '"2025-11-30 10:00"' in refused.sentence


@pytest.mark.parametrize("start", ["9999-12-31 12:00", "9999-12-31 23:59"])
def test_start_at_the_end_of_all_time_is_a_usage_error(desk: Desk, start: str) -> None:
    desk.write("c.csv", many(300))
    refused = desk.schedule("c.csv", "--dry-run", "--start", start)
    assert refused.status == 2
    assert "--start" in refused.sentence


def test_start_in_the_missing_hour_is_an_error_and_in_the_repeated_hour_the_first(
    desk: Desk,
) -> None:
    desk.configure(
        '[business_hours]\nopens = "00:00"\ncloses = "24:00"\n[recipient_hours]\nenabled = false\n'
    )
    desk.write("c.csv", THREE)
    refused = desk.schedule("c.csv", "--dry-run", "--start", "2025-03-09 02:30")
    assert refused.status == 2
    assert "02:30" in refused.sentence
    shown = desk.schedule("c.csv", "--dry-run", "--json", "--start", "2025-11-02 01:30")
    assert shown.value["first"] == "2025-11-02T08:31:00Z"


def test_start_is_meant_in_the_sender_s_zone(desk: Desk) -> None:
    desk.configure(
        '[business_hours]\ntimezone = "Europe/Berlin"\n[recipient_hours]\nenabled = false\n'
    )
    desk.write("c.csv", THREE)
    shown = desk.schedule("c.csv", "--dry-run", "--json", "--start", "2025-07-01 10:00")
    assert shown.value["timezone"] == "Europe/Berlin"
    assert (shown.value["start"], shown.value["first"]) == (
        "2025-07-01T08:00:00Z", "2025-07-01T08:01:00Z",
    )  # fmt: skip


def test_more_than_sixty_days_is_a_warning(desk: Desk) -> None:
    desk.configure("[pacing]\ninterval_minutes = [9000, 10000]\n")
    desk.write("c.csv", many(12))
    shown = desk.schedule("c.csv", "--dry-run", "--start", TEN)
    assert shown.status == 0
    assert re.search(r"Warning: +the plan runs until .*, longer than 60\s+days", shown.out)
    assert "longer than" not in desk.schedule("c.csv", "--dry-run", "--limit", "5").out


# --- what the operator asks for -----------------------------------------------------------------


def test_campaign_names_the_messages_of_a_file_without_that_column(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    plan = desk.schedule("c.csv", "--dry-run", "--json", "--campaign", "Fall").value
    assert plan["campaign"] == "Fall"


def test_campaign_picks_the_rows_of_a_file_with_that_column(desk: Desk) -> None:
    desk.write(
        "c.csv",
        "Campaign Name,Phone,Name,Message\nMay,2135551234,Ana,Hi\nJune,2135551235,Ben,Hi\n"
        "May,2135551236,Cleo,Hi\n",
    )
    plan = desk.schedule("c.csv", "--dry-run", "--json", "--campaign", "May").value
    assert [each["row"] for each in plan["messages"]] == [2, 4]
    shown = desk.schedule("c.csv", "--dry-run", "--campaign", "May").out
    assert re.search(r"1 row .*June", shown)
    refused = desk.schedule("c.csv", "--dry-run", "--campaign", "may")
    assert refused.status == 65
    assert "May" in refused.sentence
    assert "June" in refused.sentence


def test_only_rows_with_status_sug_are_taken(desk: Desk) -> None:
    desk.write(
        "c.csv",
        "phone_number,customer_name,message_content,Status\n2135551234,Ana,Hi,SUG\n"
        "2135551235,Ben,Hi,SENT\n2135551236,Cleo,Hi,\n",
    )
    shown = desk.schedule("c.csv", "--dry-run")
    assert len(message_lines(shown.out)) == 1
    assert "SENT" in shown.out
    desk.write(
        "d.csv",
        "phone_number,customer_name,message_content,status\n2135551235,Ben,Hi,DONE\n",
    )
    refused = desk.schedule("d.csv", "--dry-run")
    assert refused.status == 65
    assert "DONE" in refused.sentence
    assert "SUG" in refused.sentence


def test_limit_takes_the_first_and_the_next_command_the_rest(desk: Desk) -> None:
    desk.write("c.csv", many(5))
    assert desk.schedule("c.csv", "--yes", "--start", TEN, "--limit", "2").status == 0
    assert desk.rows("customer_name") == ["Name 0", "Name 1"]
    assert desk.schedule("c.csv", "--yes", "--limit", "2").status == 0
    assert desk.rows("customer_name") == ["Name 0", "Name 1", "Name 2", "Name 3"]


@pytest.mark.parametrize("limit", ["0", "-1", "x"])
def test_limit_that_is_no_whole_number_is_a_usage_error(desk: Desk, limit: str) -> None:
    desk.write("c.csv", many(5))
    refused = desk.schedule("c.csv", "--dry-run", f"--limit={limit}")
    assert refused.status == 2
    assert "--limit" in refused.err


def test_template_is_filled_from_the_columns(desk: Desk) -> None:
    desk.write("c.csv", "Mobile,First Name,Amount due\n2135551234,Ana,$5\n2135551235,Ben,$7\n")
    desk.write("t.txt", "\ufeffHi {first name} [BUBBLE]\r\n{amount_due}, please\r\n")
    assert desk.schedule("c.csv", "--template", "t.txt", "--yes", "--start", TEN).status == 0
    first = desk.rows("message_content")[0]
    bubbles = [bubble.strip() for bubble in first.split("[BUBBLE]")]
    assert bubbles == ["Hi Ana", "$5, please"]


def test_template_with_an_unknown_field_names_it(desk: Desk) -> None:
    desk.write("c.csv", "Mobile,First Name\n2135551234,Ana\n")
    desk.write("t.txt", "Hi {surname}")
    refused = desk.schedule("c.csv", "--template", "t.txt", "--dry-run")
    assert refused.status == 65
    assert "{surname}" in refused.err
    assert "First Name" in refused.err


def test_template_with_an_empty_cell_is_a_problem_of_that_row(desk: Desk) -> None:
    desk.write("c.csv", "Mobile,First Name,Shop\n2135551234,Ana,\n2135551235,Ben,Bon\n")
    desk.write("t.txt", "Hi {First Name} of {Shop}")
    refused = desk.schedule("c.csv", "--template", "t.txt", "--dry-run")
    assert refused.status == 65
    assert re.search(r"(?m)^row 2\b.*Shop", refused.err)
    assert not re.search(r"(?m)^row 3\b", refused.err)


@pytest.mark.parametrize(
    ("template", "status"),
    [(b"Caf\xe9 \x81 {name}", 65), (b"", 65), (None, 65), (b"Hi {name", 65), (b"[BUBBLE]", 65)],
    ids=["no text", "empty", "missing", "lone brace", "no words"],
)
def test_template_that_is_no_template_is_refused_in_words(
    desk: Desk, template: bytes | None, status: int
) -> None:
    desk.write("c.csv", "Mobile,Name\n2135551234,Ana\n")
    if template is not None:
        desk.write("t.txt", template)
    refused = desk.schedule("c.csv", "--template", "t.txt", "--dry-run")
    assert refused.status == status
    assert refused.sentence


def test_map_says_which_column_a_field_is(desk: Desk) -> None:
    desk.write("c.csv", "Home phone,Cell phone,Who,What\n2135551234,3105551234,Ana,Hi\n")
    refused = desk.schedule("c.csv", "--dry-run")
    assert refused.status == 65
    for word in ("Home phone", "Cell phone", "--map"):
        assert word in refused.sentence
    shown = desk.schedule(
        "c.csv", "--dry-run", "--json", "--map", "phone_number=cell PHONE",
        "--map", "customer_name=Who", "--map", "message_content=What",
    )  # fmt: skip
    assert shown.value["messages"][0]["phone_number"] == "+13105551234"


@pytest.mark.parametrize("pair", ["nonsense", "=x", "phone_number=", "phone_number=Nope", "f=Who"])
def test_map_that_maps_nothing_is_refused_in_words(desk: Desk, pair: str) -> None:
    desk.write("c.csv", "Phone,Who,Message\n2135551234,Ana,Hi\n")
    refused = desk.schedule("c.csv", "--dry-run", "--map", pair)
    assert refused.status in (2, 65)
    assert pair in refused.err or "FIELD=COLUMN" in refused.err


# --- bad rows -----------------------------------------------------------------------------------

BAD = (
    HEADER
    + "2135551234,Ana,Hi\n"
    + "\n"
    + "2.13555E+09,Ben,Hi\n"
    + "2135551235,Cleo,Caf� au lait\n"
    + "555-1234,Dan,\n"
)


def test_all_problems_are_told_at_once_with_row_column_value_and_mend(desk: Desk) -> None:
    desk.write("c.csv", BAD)
    refused = desk.schedule("c.csv", "--dry-run")
    assert refused.status == 65
    assert refused.out == ""
    for words in (
        r'^row 4, "phone_number" .*2\.13555E\+09.*Text',
        r'^row 5, "message_content" .*type them again',
        r'^row 6, "phone_number" .*555-1234.*',
        r'^row 6, "message_content".*',
    ):
        assert re.search(words, refused.err, re.MULTILINE), refused.err
    assert "3 rows" in refused.sentence
    assert "--skip-invalid" in refused.sentence


def test_first_answer_to_a_shop_s_list_shows_all_that_has_to_be_decided(desk: Desk) -> None:
    """Who is left out and why, the texts, the bad rows; its command is the right one."""
    desk.write("shop.csv", "First Name,Phone,Accepts SMS Marketing\nAna,2135551234,yes\n"
               "Ben,3105559876,no\nCleo,555-12,yes\n")  # fmt: skip
    desk.write("t.txt", "Hi {First Name}, 20% off. Reply STOP to end\n")
    before = desk.snapshot()
    asked = desk.schedule("shop.csv", "--template", "t.txt", "--dry-run")
    assert (asked.status, desk.snapshot()) == (65, before)
    assert '1 row, said no to texts ("Accepts SMS Marketing" no): row 3' in asked.out
    assert "> Hi Ana, 20% off. Reply STOP to end\n" in asked.out
    assert "row 4, \"Phone\" '555-12'" in asked.err
    command = printed_command(asked.out)
    assert "--skip-invalid" in command
    assert desk.run([*command, "--yes"]).status == 0
    assert len(desk.rows()) == 1


def test_problems_are_summed_by_kind_the_most_frequent_first(desk: Desk) -> None:
    bad = "".join(f"{12 + i},Bad {i},Hi\n" for i in range(11))
    desk.write("c.csv", f"{HEADER}2135551234,Ana,\n{bad}")
    *problems, sentence = desk.schedule("c.csv", "--dry-run").err.splitlines()
    assert len(problems) == 2
    told = r'11 rows\W+rows 3, 4, 5, 6, 7.*, \.\.\., "phone_number" \'12\': 2 digits'
    assert re.match(told, problems[0])
    assert problems[1].startswith('row 2, "message_content": ')
    assert "12 rows" in sentence


def test_one_bad_row_refuses_the_file_and_leaves_nothing(desk: Desk) -> None:
    desk.write("c.csv", BAD)
    before = desk.snapshot()
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 65
    assert desk.snapshot() == before


def test_skip_invalid_goes_on_with_the_good_rows(desk: Desk) -> None:
    desk.write("c.csv", BAD)
    stored = desk.schedule("c.csv", "--yes", "--start", TEN, "--skip-invalid")
    assert stored.status == 0
    assert desk.rows("customer_name") == ["Ana"]
    assert re.findall(r'Rejected: .*?"(\w+)"', stored.out) == [
        "phone_number", "message_content", "phone_number", "message_content",
    ]  # fmt: skip


def test_skip_invalid_with_no_good_row_is_refused(desk: Desk) -> None:
    desk.write("c.csv", HEADER + "12,Ana,Hi\n")
    before = desk.snapshot()
    refused = desk.schedule("c.csv", "--yes", "--skip-invalid")
    assert refused.status == 65
    assert desk.snapshot() == before


def read_rejects(desk: Desk) -> tuple[list[str], list[dict[str, str]]]:
    octets = (desk.folder / "bad.csv").read_bytes()
    assert octets.startswith(b"\xef\xbb\xbf")  # without it Excel takes UTF-8 for something else
    reader = csv.DictReader(io.StringIO(octets.decode("utf-8-sig"), newline=""), strict=True)
    rows = list(reader)
    return list(reader.fieldnames or []), rows


def test_rejects_are_a_csv_with_the_reasons_that_can_be_mended_and_scheduled(desk: Desk) -> None:
    desk.write("c.csv", BAD)
    refused = desk.schedule("c.csv", "--yes", "--rejects", "bad.csv")
    assert refused.status == 65
    assert not desk.database.exists()
    header, rows = read_rejects(desk)
    assert header[:3] == ["phone_number", "customer_name", "message_content"]
    assert "reason" in header
    assert [row["customer_name"] for row in rows] == ["Ben", "Cleo", "Dan"]
    assert "Text" in rows[0]["reason"]
    assert "phone_number" in rows[2]["reason"]
    assert "message_content" in rows[2]["reason"]
    for row, number in zip(rows, ("2135551111", "2135551112", "2135551113"), strict=True):
        row.update(phone_number=number, message_content=f"Hi {row['customer_name']}")
    mended = io.StringIO()
    writer = csv.DictWriter(mended, header)
    writer.writeheader()
    writer.writerows(rows)
    desk.write("mended.csv", mended.getvalue())
    assert desk.schedule("mended.csv", "--yes", "--start", TEN).status == 0
    assert desk.rows("message_content") == ["Hi Ben", "Hi Cleo", "Hi Dan"]


def test_rejects_hold_no_formula(desk: Desk) -> None:
    formula = '=HYPERLINK("http://x","y")'
    quoted = formula.replace('"', '""')
    desk.write("c.csv", HEADER + f'12,"{quoted}",Hi\n13,@SUM(A1),+1+2\n14,-1-2,Hi\n')
    assert desk.schedule("c.csv", "--yes", "--rejects", "bad.csv").status == 65
    header, rows = read_rejects(desk)
    for row in rows:
        for cell in (*header, *row.values()):
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert rows[0]["customer_name"].endswith(formula)


def test_rejected_texts_that_begin_like_a_formula_come_back_unchanged(desk: Desk) -> None:
    texts = ["=5 for 4 today", "+1 free", "-10 % for you", "@ana says hi"]
    rows = "".join(f"{i},Name {i},{text}\n" for i, text in enumerate(texts))
    desk.write("c.csv", HEADER + rows)
    assert desk.schedule("c.csv", "--yes", "--rejects", "bad.csv").status == 65
    mended = (desk.folder / "bad.csv").read_text(encoding="utf-8-sig")
    for i in range(len(texts)):
        mended = mended.replace(f"\n{i},", f"\n213555200{i},")
    desk.write("mended.csv", mended)
    assert desk.schedule("mended.csv", "--yes", "--start", TEN).status == 0
    assert desk.rows("message_content") == texts


@pytest.mark.parametrize("words", [[], ["--skip-invalid"]])
def test_dry_run_only_says_what_it_would_write_to_rejects(desk: Desk, words: list[str]) -> None:
    desk.write("c.csv", THREE + "12,Dan,Hi\n")
    before = desk.snapshot()
    done = desk.schedule("c.csv", "--dry-run", "--rejects", "bad.csv", *words)
    assert "1 row would be written to bad.csv" in done.err
    assert desk.snapshot() == before


def test_existing_file_is_not_overwritten_with_rejects(desk: Desk) -> None:
    desk.write("c.csv", BAD)
    desk.write("mine.csv", "mine")
    before = desk.snapshot()
    for words in (("--yes",), ("--yes", "--skip-invalid")):
        refused = desk.schedule("c.csv", "--rejects", "mine.csv", *words)
        assert refused.status == 2
        assert "mine.csv" in refused.sentence
        assert desk.snapshot() == before


def test_rejects_that_cannot_be_written_stop_before_anything_is_stored(desk: Desk) -> None:
    desk.write("c.csv", BAD)
    before = desk.snapshot()
    refused = desk.schedule("c.csv", "--yes", "--skip-invalid", "--rejects", "no/such/folder.csv")
    assert refused.status == 2
    assert refused.sentence
    assert desk.snapshot() == before


def test_no_rejects_are_written_where_no_row_is_bad(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    assert desk.schedule("c.csv", "--yes", "--start", TEN, "--rejects", "bad.csv").status == 0
    assert not (desk.folder / "bad.csv").exists()


# --- files of all sorts -------------------------------------------------------------------------

ACCENTS = "phone_number,customer_name,message_content\n2135551234,Zoë,Café à 5 €\n"


@pytest.mark.parametrize(
    ("octets", "loud"),
    [
        pytest.param(ACCENTS.encode(), False, id="UTF-8"),
        pytest.param(ACCENTS.encode("utf-8-sig"), False, id="UTF-8 with BOM"),
        pytest.param(ACCENTS.encode("utf-16"), False, id="UTF-16 with BOM"),
        pytest.param(b"\xfe\xff" + ACCENTS.encode("utf-16-be"), False, id="UTF-16 BE with BOM"),
        pytest.param(ACCENTS.encode("utf-16-le"), False, id="UTF-16 LE"),
        pytest.param(ACCENTS.encode("utf-16-be"), False, id="UTF-16 BE"),
        pytest.param(ACCENTS.encode("cp1252"), True, id="Windows-1252"),
        pytest.param(ACCENTS.replace(",", ";").encode(), False, id="semicolons"),
        pytest.param(ACCENTS.replace(",", "\t").encode("utf-16"), False, id="Excel's Unicode text"),
        pytest.param(("sep=;\r\n" + ACCENTS.replace(",", ";")).encode(), False, id="sep="),
        pytest.param(ACCENTS.replace("\n", "\r\n").encode() + b"\r\n\r\n", False, id="CRLF"),
        pytest.param(ACCENTS.replace("\n", "\r").encode(), False, id="CR"),
        pytest.param(ACCENTS.rstrip().encode(), False, id="no line end"),
    ],
)
def test_spreadsheets_csv_in_any_form_is_read(desk: Desk, octets: bytes, loud: bool) -> None:
    desk.write("c.csv", octets)
    stored = desk.schedule("c.csv", "--yes", "--start", TEN)
    assert stored.status == 0, stored.err
    assert desk.rows("message_content") == ["Café à 5 €"]
    assert desk.rows("customer_name") == ["Zoë"]
    assert ("WARNING" in stored.err) == loud
    assert ("Windows-1252" in stored.err) == loud


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        pytest.param(b"PK\x03\x04\x14\x00\x06\x00", "save as CSV UTF-8", id="xlsx"),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "save as CSV UTF-8", id="xls"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "CSV UTF-8", id="png"),
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"\n\n\n", "", id="blank"),
        pytest.param(HEADER.encode(), "no row", id="header alone"),
        pytest.param(b"a,b,c\n1,2,3\n", "phone_number", id="no such columns"),
        pytest.param(b"\xff\xfe\x00", "CSV UTF-8", id="half a character"),
        pytest.param(HEADER.encode() + b"2135551234,A\x81,Hi\n", "CSV UTF-8", id="no encoding"),
        pytest.param(HEADER.encode() + b'2135551234,A,"Hi\n2135551235,B,Hi\n', "line 2",
                     id="unterminated quote"),
        pytest.param(HEADER.encode() + b'2135551234,A,"Hi" x\n', "line 2", id="broken quote"),
    ],
)  # fmt: skip
def test_what_is_no_campaign_is_refused_in_one_sentence_and_leaves_nothing(
    desk: Desk, octets: bytes, words: str
) -> None:
    desk.write("c.csv", octets)
    before = desk.snapshot()
    refused = desk.schedule("c.csv", "--yes", "--start", TEN, "--rejects", "bad.csv")
    assert refused.status == 65
    assert refused.out == ""
    assert words in refused.sentence
    assert desk.snapshot() == before


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_file_that_is_not_there_is_refused_in_one_sentence(desk: Desk, name: str) -> None:
    before = desk.snapshot()
    refused = desk.schedule(name, "--yes")
    assert refused.status == 65
    assert "can't be read" in refused.sentence
    assert desk.snapshot() == before


def test_stdin_is_a_campaign_too(desk: Desk) -> None:
    shown = desk.schedule("-", "--dry-run", "--json", piped=THREE.encode("utf-16"))
    assert [each["row"] for each in shown.value["messages"]] == [2, 3, 4]
    assert desk.schedule("-", "--yes", "--start", TEN, piped=THREE.encode()).status == 0
    assert len(desk.rows()) == 3


def test_file_whose_name_is_no_utf8_is_scheduled_under_a_name_of_its_own(desk: Desk) -> None:
    name = os.fsdecode(b"caf\xe9.csv")
    desk.write(name, THREE)
    shown = desk.schedule(name, "--dry-run", "--campaign", "Café")
    assert shown.status == 0, shown.err
    plan = desk.schedule(name, "--yes", "--campaign", "Café", "--start", TEN)
    assert plan.status == 0, plan.err
    assert set(desk.rows("campaign_name")) == {"Café"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminal_that_knows_few_characters_still_gets_its_plan(desk: Desk, encoding: str) -> None:
    desk.write("c.csv", HEADER + "2135551234,Zoë 陳 👍 and a long name indeed,Hi “Zoë” ж\n")
    shown = desk.schedule("c.csv", "--dry-run", PYTHONIOENCODING=encoding)
    assert shown.status == 0, shown.err
    assert len(message_lines(shown.out)) == 1


# --- escapes ------------------------------------------------------------------------------------

ESC = "\x1b[2J"


def escaping_files() -> Iterable[tuple[str, str]]:
    yield "name", HEADER + f"2135551234,A{ESC}B,Hi\n"
    yield "text", HEADER + f"2135551234,A,Hi{ESC}\n"
    yield "number", HEADER + f"{ESC}2135551234,A,Hi\n"
    yield "lost letters", HEADER + "2135551234,A,\u202eHi??\n"
    yield "unused column", f"phone,name,text,x{ESC}\n2135551234,A,Hi,x\n"
    yield "no phone column", f"x{ESC},name,text\n2135551234,A,Hi\n"
    yield "two phone columns", f"mobile phone{ESC},cell phone{ESC},name,text\n1,2,A,Hi\n"
    yield "status", f"phone,name,text,status\n2135551234,A,Hi,x{ESC}\n"
    yield "campaign", f"phone,name,text,campaign_name\n2135551234,A,Hi,x{ESC}\n"
    yield "phone column", f"phone{ESC},name,text\n12,A,Hi\n"
    yield "too many cells", f"phone,name,text\n2135551234,A,Hi,{ESC}\n"
    yield "broken quote", f'phone,name,text\n2135551234,A,"Hi"{ESC}\n'
    yield "bent campaign", "phone,name,text,campaign_name\n2135551234,A,Hi,x\u202ey\n" * 2


@pytest.mark.parametrize(
    "content", [pytest.param(content, id=name) for name, content in escaping_files()]
)
def test_escapes_in_a_file_never_reach_the_terminal(desk: Desk, content: str) -> None:
    desk.write("c.csv", content)
    for words in (("--dry-run",), ("--yes", "--skip-invalid")):
        done = desk.schedule("c.csv", *words)
        assert done.status in (0, 65)
        for steering in ("\x1b", "\u202e"):
            assert steering not in done.out + done.err


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([f"no{ESC}.csv"], id="file"),
        pytest.param(["c.csv", "--template", f"no{ESC}"], id="template's name"),
        pytest.param(["c.csv", "--template", "t.txt"], id="template's field"),
        pytest.param(["c.csv", "--map", f"phone_number=x{ESC}"], id="map's column"),
        pytest.param(["c.csv", "--map", f"x{ESC}=phone"], id="map's field"),
        pytest.param(["c.csv", "--map", "phone_number=nope"], id="columns"),
        pytest.param(["c.csv", "--campaign", f"x{ESC}"], id="campaign"),
        pytest.param(["c.csv", "--start", f"x{ESC}"], id="start"),
        pytest.param([f"c{ESC}.csv"], id="campaign of the file's name"),
        pytest.param(["bad.csv", "--template", "empty.txt"], id="empty cell of a template"),
    ],
)
def test_escapes_in_names_never_reach_the_terminal(desk: Desk, words: list[str]) -> None:
    desk.write("c.csv", f"phone,name,text,x{ESC}\n2135551234,A,Hi,\n")
    desk.write(f"c{ESC}.csv", THREE)
    desk.write("bad.csv", f"phone,name,x{ESC}\n2135551234,A,\n")
    desk.write("t.txt", f"Hi {{na{ESC}me}}")
    desk.write("empty.txt", f"Hi {{x{ESC}}}")
    done = desk.schedule(*words, "--dry-run")
    assert "\x1b" not in done.out + done.err


# --- config and database ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[pacing]\nintervall_minutes = [4, 7]\n", ("intervall_minutes", "interval_minutes")),
        ("[pacing]\ninterval_minutes = 5\n", ("interval_minutes",)),
        ('[business_hours]\ntimezone = "Mars"\n', ("timezone", "Mars")),
        ("[pacing\n", ("TOML", "box.toml")),
        ("pacing = 3\n", ("pacing",)),
    ],
)
def test_bad_config_is_refused_in_one_sentence(
    desk: Desk, toml: str, words: tuple[str, ...]
) -> None:
    desk.write("c.csv", THREE)
    desk.configure(toml)
    before = desk.snapshot()
    refused = desk.schedule("c.csv", "--yes")
    assert refused.status == 78
    for word in words:
        assert word in refused.sentence
    assert desk.snapshot() == before


def test_config_that_is_named_and_missing_is_an_error(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    (desk.folder / "box.toml").unlink()
    refused = desk.schedule("c.csv", "--dry-run")
    assert refused.status == 78
    assert "box.toml" in refused.sentence


def test_config_that_is_no_text_is_an_error(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    desk.write("box.toml", b"\xff\xfe\x00\x81")
    assert desk.schedule("c.csv", "--dry-run").status == 78


def test_config_is_found_in_the_environment_and_names_the_database(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    desk.configure('[service]\ndatabase = "other.db"\n[pacing]\nfirst_after_seconds = 90\n')
    words = [sys.executable, str(PROGRAM), "schedule", "c.csv", "--start", TEN, "--yes"]
    assert desk.run(words, SMSBOX_CONFIG="box.toml").status == 0
    desk.database = desk.folder / "other.db"
    assert utc(desk.rows()[0]) == local(TEN) + timedelta(seconds=90)


@pytest.mark.parametrize("last", ["--dry-run", "--yes"])
def test_database_that_is_none_is_refused_in_one_sentence(desk: Desk, last: str) -> None:
    desk.write("c.csv", THREE)
    desk.write("box.db", "this is a letter to my aunt, not a database\n" * 100)
    before = desk.snapshot()
    refused = desk.schedule("c.csv", last)
    assert refused.status == 75
    assert "box.db" in refused.sentence
    assert desk.snapshot() == before


@pytest.mark.parametrize("last", ["--dry-run", "--yes"])
def test_database_of_a_newer_program_is_refused(desk: Desk, last: str) -> None:
    desk.write("c.csv", THREE)
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    desk.execute("PRAGMA user_version = 999")
    desk.write("d.csv", many(2))
    refused = desk.schedule("d.csv", last)
    assert refused.status == 75
    assert "newer" in refused.sentence
    assert len(desk.rows()) == 3


def test_empty_file_in_the_database_s_place_is_a_new_database_in_the_dry_run_too(
    desk: Desk,
) -> None:
    desk.write("c.csv", THREE)
    desk.write("box.db", b"")
    before = desk.snapshot()
    shown = desk.schedule("c.csv", "--dry-run", "--start", TEN)
    assert desk.snapshot() == before
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    assert shown.status == 0, shown.err


@pytest.mark.parametrize(
    "words",
    [
        ["schedule"], ["schedule", "a.csv", "b.csv"], ["schedule", "a.csv", "--nonsense"],
        ["schedule", "a.csv", "--seed", "x"], ["schedule", "a.csv", "--start"], ["nonsense"], [],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_status_two(desk: Desk, words: list[str]) -> None:
    refused = desk.run(desk.words(*words))
    assert refused.status == 2
    assert refused.sentence.endswith(" --help shows how.")
    assert (refused.out, len(refused.err.splitlines())) == ("", 1)


def test_help_names_every_option(desk: Desk) -> None:
    shown = desk.schedule("--help")
    assert shown.status == 0
    for option in (
        "--dry-run", "--start", "--until", "--again", "--try", "--row",
        "--simplify", "--campaign", "--limit", "--seed", "--yes", "--only", "--html", "--anyway",
        "--skip-invalid", "--rejects", "--template", "--map", "--json",
    ):  # fmt: skip
        assert option in shown.out


def test_a_reader_that_leaves_early_ends_the_preview_quietly(desk: Desk) -> None:
    desk.write("c.csv", many(3000))
    command = shlex.join(desk.words("schedule", "c.csv", "--dry-run")) + " | head -1"
    done = desk.run(["sh", "-c", command])
    assert done.status == 0
    assert done.err == ""
    assert len(done.out.splitlines()) == 1


# --- the word YES -------------------------------------------------------------------------------


def test_yes_on_the_terminal_stores_the_plan(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    terminal = desk.terminal("c.csv", "--start", TEN)
    shown = terminal.wait_for(QUESTION)
    assert len(message_lines(shown)) == 3
    assert "3 messages" in shown
    assert not desk.database.exists()
    terminal.type("YES\n")
    assert terminal.end() == 0
    assert len(desk.rows()) == 3


@pytest.mark.parametrize("answer", ["yes\n", "NO\n", "\n", "YESS\n", "\x04"])
def test_anything_but_yes_stores_nothing(desk: Desk, answer: str) -> None:
    desk.write("c.csv", THREE)
    before = desk.snapshot()
    terminal = desk.terminal("c.csv", "--start", TEN)
    terminal.wait_for(QUESTION)
    terminal.type(answer)
    assert terminal.end() == 1
    assert "nothing was changed" in terminal.shown
    assert desk.snapshot() == before


def test_interrupting_the_question_stores_nothing(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    before = desk.snapshot()
    terminal = desk.terminal("c.csv", "--start", TEN)
    terminal.wait_for(QUESTION)
    terminal.type("\x03")
    assert terminal.end() == 130
    assert desk.snapshot() == before


def test_campaign_from_stdin_asks_on_the_terminal(desk: Desk) -> None:
    terminal = desk.terminal("-", "--start", TEN, piped=THREE.encode())
    shown = terminal.wait_for(QUESTION)
    assert len(message_lines(shown)) == 3
    terminal.type("YES\n")
    assert terminal.end() == 0
    assert len(desk.rows()) == 3


def test_campaign_from_stdin_does_not_take_its_own_last_line_for_a_yes(desk: Desk) -> None:
    terminal = desk.terminal("-", "--start", TEN, piped=(THREE + "\nYES\n").encode())
    assert terminal.end() == 65
    assert not desk.database.exists()
    terminal = desk.terminal("-", "--start", TEN, piped=THREE.encode())
    terminal.wait_for(QUESTION)
    terminal.type("no\n")
    assert terminal.end() == 1
    assert not desk.database.exists()


def test_campaign_from_stdin_without_a_terminal_needs_yes(desk: Desk) -> None:
    done = subprocess.run(
        desk.words("schedule", "-", "--start", TEN),
        cwd=desk.folder,
        env=desk.environment,
        input=THREE.encode(),
        capture_output=True,
        start_new_session=True,  # no controlling terminal
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    assert b"--yes" in done.stderr
    assert b"Traceback" not in done.stderr
    assert not desk.database.exists()


def test_queue_that_changed_before_yes_shows_the_new_plan_and_asks_again(desk: Desk) -> None:
    desk.write("a.csv", many(2, "A"))
    desk.write("b.csv", many(2, "B", first=3000))
    assert desk.schedule("a.csv", "--yes", "--start", TEN).status == 0
    terminal = desk.terminal("b.csv", "--seed", "1")
    first_plan = message_lines(terminal.wait_for(QUESTION))
    desk.execute(
        "UPDATE scheduled_messages SET scheduled_for = datetime(scheduled_for, '+2 hours')"
    )
    terminal.type("YES\n")
    shown = terminal.wait_for(QUESTION)
    assert "changed" in shown
    second_plan = message_lines(shown)
    assert len(second_plan) == 2
    assert second_plan != first_plan
    assert desk.rows("campaign_name") == ["a", "a"]
    terminal.type("YES\n")
    assert terminal.end() == 0
    assert desk.rows("campaign_name") == ["a", "a", "b", "b"]
    at = utc(desk.rows()[2]).astimezone(LOS_ANGELES)
    assert f"{at:%m/%d %I:%M %p}" in second_plan[0]


def test_new_plan_may_be_refused_as_well(desk: Desk) -> None:
    desk.write("a.csv", many(2, "A"))
    desk.write("b.csv", many(2, "B", first=3000))
    assert desk.schedule("a.csv", "--yes", "--start", TEN).status == 0
    terminal = desk.terminal("b.csv")
    terminal.wait_for(QUESTION)
    assert desk.schedule("a.csv", "--yes", "--campaign", "other", "--again").status == 0
    terminal.type("YES\n")
    terminal.wait_for(QUESTION)
    terminal.type("NO\n")
    assert terminal.end() == 1
    assert desk.rows("campaign_name") == ["a", "a", "other", "other"]


def test_campaign_stored_by_another_before_yes_leaves_nothing_to_store(desk: Desk) -> None:
    desk.write("c.csv", THREE)
    terminal = desk.terminal("c.csv")
    terminal.wait_for(QUESTION)
    assert desk.schedule("c.csv", "--yes", "--start", TEN).status == 0
    terminal.type("YES\n")
    assert terminal.end() == 0
    assert "already" in terminal.shown
    assert len(desk.rows()) == 3


def test_start_that_became_busy_before_yes_is_refused_with_the_free_time(desk: Desk) -> None:
    desk.write("a.csv", many(3, "A"))
    desk.write("b.csv", many(3, "B", first=3000))
    terminal = desk.terminal("b.csv", "--start", TEN)
    terminal.wait_for(QUESTION)
    assert desk.schedule("a.csv", "--yes", "--start", TEN).status == 0
    terminal.type("YES\n")
    assert terminal.end() == 75
    assert re.search(r'--start "[^"]+"', terminal.shown)
    assert desk.rows("campaign_name") == ["a"] * 3


def test_who_says_stop_before_yes_is_left_out_of_the_new_plan(desk: Desk) -> None:
    desk.write("a.csv", many(1, "A"))
    desk.write("c.csv", THREE)
    assert desk.schedule("a.csv", "--yes", "--start", f"{DAY} 15:00").status == 0
    terminal = desk.terminal("c.csv", "--start", TEN)
    terminal.wait_for(QUESTION)
    desk.execute(
        "INSERT INTO opt_outs (phone_number, at, words, reason)"
        " VALUES ('+13105559876', '2025-01-01 00:00:00', 'stop', '')"
    )
    terminal.type("YES\n")
    assert len(message_lines(terminal.wait_for(QUESTION))) == 2
    terminal.type("YES\n")
    assert terminal.end() == 0
    assert "+13105559876" not in desk.rows("phone_number")


def test_queue_that_changed_under_yes_given_in_advance_is_status_75(desk: Desk) -> None:
    desk.write("a.csv", many(2, "A"))
    desk.write("b.csv", many(2, "B", first=3000))
    assert desk.schedule("a.csv", "--yes", "--start", TEN).status == 0
    other = desk.connect()
    try:
        other.execute("BEGIN IMMEDIATE")  # what is planned can't be stored before we let it
        terminal = desk.terminal("b.csv", "--yes")
        terminal.wait_for("Segments:")
        other.execute(
            "UPDATE scheduled_messages SET scheduled_for = datetime(scheduled_for, '+2 hours')"
        )
        other.execute("COMMIT")
    finally:
        other.close()
    assert terminal.end() == 75
    assert re.search(r"(?m)^smsbox: .*changed.*\.$", terminal.shown)
    assert desk.rows("campaign_name") == ["a", "a"]


@pytest.mark.parametrize("paused", [False, True])
def test_campaign_behind_rows_that_do_not_go_by_themselves_is_stored(
    desk: Desk, paused: bool
) -> None:
    first, second = (desk.write(f"{name}.csv", many(2, name)) for name in ("first", "second"))
    assert desk.schedule(first, "--yes").status == 0
    if paused:
        assert desk.run(desk.words("pause")).status == 0
    else:
        desk.execute("UPDATE scheduled_messages SET timezone = 'Nowhere' WHERE id = 2")
    assert desk.schedule(second, "--again", "--yes").status == 0
