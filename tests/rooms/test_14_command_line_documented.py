"""README names every field of --json and every column of the database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import smsbox
from rig.desk import HEADER, Operator
from rig.paths import PROGRAM
from rig.people import ANA

README = (PROGRAM.parent / "README.md").read_text()
NAMED = set(re.findall(r"`([a-z_]+)`", README))
PER_COLUMN = {"columns", "quotas_met", "not_taken"}  # keys: the file's fields, settings, words


@pytest.fixture
def box(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Operator:
    return Operator(tmp_path, capsys, monkeypatch)


def find_keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            if key not in PER_COLUMN:
                yield from find_keys(each)
    elif isinstance(value, list):
        for each in value:
            yield from find_keys(each)


def test_every_column_of_the_schema_stands_in_the_readme(box: Operator) -> None:
    box.lay_down()
    tables = ("campaigns", "scheduled_messages", "messages", "segments", "inbound", "opt_outs",
              "events")  # fmt: skip
    columns = {name for table in tables for _, name, *_ in box.sql(f"PRAGMA table_info({table})")}
    assert len(columns) > 50
    assert columns - NAMED == set()


def test_every_json_field_stands_in_the_readme(box: Operator, tmp_path: Path) -> None:
    box.lay_down()
    row = box.insert(error_message="CMS 1", until="2099-01-01 00:00:00")
    box.insert_bubble(row, "sent", "sent")
    box.reply("perhaps")
    box.sql("INSERT INTO opt_outs (phone_number) VALUES ('+12135552399')")
    box.sql("INSERT INTO opt_outs (phone_number, words) VALUES (?, 'stop')", ANA)
    box.sql(
        "INSERT INTO messages (kind, phone_number, body, created_at)"
        " VALUES ('help', ?, 'Hi', datetime('now'))", ANA,
    )  # fmt: skip
    csv = tmp_path / "new.csv"
    csv.write_text(HEADER + "2135552301,Ann,Hi\n2135552302,Bob,Ho\n213,Cy,Hi\n2135552399,Di,Hi\n")
    asked = (
        "status", "check", "list", f"show {row}", f"why {row}", "inbox", "optout list", "report",
        "report fall", f"schedule {csv} --dry-run --skip-invalid",
    )  # fmt: skip
    for words in asked:
        told = box.run(*words.split(), "--json").out
        keys = set(find_keys(json.loads(told)))
        assert keys, words
        assert keys - NAMED == set(), words


def test_times_of_json_name_their_zone(box: Operator) -> None:
    box.lay_down()
    row = box.insert(until="2099-01-01 00:00:00")
    box.reply("hello")
    told = "".join(
        box.run(*words.split(), "--json").out
        for words in ("status", "list", f"show {row}", "inbox", "report", "report fall")
    )
    assert re.search(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"', told)
    assert not re.search(r'"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"', told)


def test_completion_knows_all_commands_and_their_options() -> None:
    script = smsbox.render_completion()
    for name in smsbox.COMMANDS:
        assert f"            {name}) words=" in script
    assert "--dry-run" in script
