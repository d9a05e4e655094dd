"""What is typed and told: help, slips of the finger, hints, times for scripts."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

import smsbox
from rig.desk import ALWAYS, AS_INSTALLED, Operator, many
from rig.paths import PROGRAM
from rig.people import ANA, BEN
from rig.person import lay_person

EVERY = pytest.mark.parametrize("name", smsbox.COMMANDS)


@EVERY
def test_help_of_each_command_has_two_examples_that_can_be_typed(
    operator: Operator, name: str
) -> None:
    shown = operator.run(name, "--help")
    assert (shown.status, shown.err) == (0, "")
    examples = shown.out.split("\nexamples:\n")[1].splitlines()
    assert len(examples) == 2
    for example in examples:
        typed = example.removeprefix(f"  smsbox {name}")
        assert typed != example
        smsbox.parse_arguments([name, *shlex.split(re.split(" [<>] ", typed)[0])])


@EVERY
def test_each_command_is_told_by_help_and_has_its_function(operator: Operator, name: str) -> None:
    assert re.search(rf"^  {name} +\w", operator.run("--help").out, re.MULTILINE)
    assert callable(getattr(smsbox, f"cmd_{name}"))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("stauts", "status"), ("shedule x.csv", "schedule"), ("resched 1", "reschedule"),
        ("schedule x.csv --dryrun", "--dry-run"), ("schedule x.csv --dry", "--dry-run"),
        ("list --campain x", "--campaign"), ("status --jsn", "--json"),
        ("retry 1 --even-if-it-repeats", "--even-if-it-may-repeat"),
    ],
)  # fmt: skip
def test_slip_of_the_finger_gets_the_nearest(operator: Operator, typed: str, meant: str) -> None:
    command = f" {typed.split(maxsplit=1)[0]}" if meant.startswith("--") else ""
    sentence = operator.sentence(*typed.split(), status=2)
    assert sentence.endswith(f"(did you mean {meant}?): smsbox{command} --help shows how.")


def test_global_option_behind_the_command_is_told_its_place(operator: Operator) -> None:
    assert "--database goes before the command" in operator.sentence(
        "status", "--database", "x.db", status=2
    )


def run_as(words: list[str], operator: Operator, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *words, *operator.words(*command)], capture_output=True, text=True,
        cwd=PROGRAM.parent, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_hints_name_the_program_as_it_was_started(operator: Operator) -> None:
    operator.insert(held_because="they have replied")
    for words, program in (
        (["smsbox.py"], "python3 smsbox.py"),
        ([str(PROGRAM)], f"python3 {PROGRAM}"),
        (["-c", AS_INSTALLED], "smsbox"),
    ):
        status, listed = (run_as(words, operator, each) for each in ("status", "list"))
        assert f"{program} check says more" in status
        assert f"{program} list --held" in status
        assert f"{program} release ID" in listed
        assert ("systemctl" in status) == (program == "smsbox")
        assert program == "smsbox" or f"{program} run" in status
        assert f"usage: {program} list" in run_as(words, operator, "list", "--help")


def test_no_hint_names_the_service_manager_where_it_does_not_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = PROGRAM.read_text()
    hints = set(re.findall(r"(?:sudo )?(?:system|journal)ctl [a-z -]+ smsbox", source))
    assert len(hints) > 3
    monkeypatch.setattr(sys, "argv", ["smsbox.py"])
    assert [hint for hint in hints if "ctl" in smsbox.name_program(hint)] == []


# --- times for a script


def find_strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from find_strings(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from find_strings(each, key)
    elif isinstance(value, str):
        yield key, value


def test_times_of_json_are_rfc_3339_everywhere(operator: Operator) -> None:
    row_id = lay_person(operator)
    later = f"{datetime.now(smsbox.UTC) + timedelta(days=30):%Y-%m-%d %H:%M:%S}"
    operator.insert(phone_number=BEN, until=later)
    operator.insert(phone_number=BEN, status="failed", settled_at="2025-11-09 18:00:00")
    operator.sql("INSERT INTO campaigns (name, created_at) VALUES ('fall', '2025-11-09 17:00:00')")
    operator.run("pause", "--until", "tomorrow 10:00")
    plan = operator.database.with_name("new.csv")
    plan.write_text(many(2))
    seen = set()
    words = f"schedule {plan} --dry-run --start 2098-05-01T11:00 --until 2098-06-01T10:00"
    for typed in (
        "list", f"list {ANA}", f"show {row_id}", f"why {BEN}", "status", "inbox", "optout list",
        "report", "report fall", f"send {BEN} Hi", words,
    ):  # fmt: skip
        done = operator.run(*typed.split(), "--json")
        for key, text in find_strings(done.value):
            assert not re.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?", text), (typed, key)
            if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text):
                seen.add(key)
    assert seen >= {
        "created_at", "scheduled_for", "expected_at", "sent_at", "settled_at", "until", "at",
        "received_at", "submitted_at", "first", "last", "next", "ends", "start",
    }  # fmt: skip


def test_times_of_csv_are_those_of_the_database(operator: Operator) -> None:
    row_id = lay_person(operator)
    for words in ("list --csv", "report --csv --campaign fall", "optout list --csv"):
        out = operator.run(*words.split()).out
        assert "2025-11-09 18:00:00" in out
        assert "T18:00" not in out
    assert operator.row(row_id, "sent_at")[0] in operator.run("list", "--csv").out


@pytest.mark.parametrize(
    "typed", ["{:%m/%d %I:%M %p}", "{:%a %m/%d %I:%M %p}", "{:%m/%d %I:%M %p %Z}", "{:%a %H:%M}"]
)
def test_time_that_is_shown_can_be_typed(operator: Operator, typed: str) -> None:
    operator.config.write_text(ALWAYS)
    row_id = operator.insert()
    zone = smsbox.parse_config({}).business_hours.timezone
    at = (datetime.now(zone) + timedelta(days=3)).replace(second=0, microsecond=0)
    assert operator.run("reschedule", str(row_id), "--at", typed.format(at)).status == 0
    assert operator.due(row_id) == at
