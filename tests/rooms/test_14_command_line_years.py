"""Years: what is long done is blanked, the file stays small, everything can be taken along."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rig.desk import Keyboard, Operator
from rig.people import ANA, BEN
from rig.person import everything, lay_person
from smsbox import Database


def make_old(operator: Operator) -> None:
    for table, column in (
        ("scheduled_messages", "sent_at"), ("messages", "created_at"), ("inbound", "received_at"),
        ("inbound_parts", "received_at"), ("opt_outs", "at"),
    ):  # fmt: skip
        operator.sql(f"UPDATE {table} SET {column} = '2022-01-01 10:00:00' WHERE {column} <> ''")
    operator.sql("UPDATE inbound SET read_at = '2022-01-02 10:00:00'")


def test_forget_blanks_what_is_old_and_done_and_keeps_counts_numbers_and_opt_outs(
    operator: Operator,
) -> None:
    row = lay_person(operator)
    make_old(operator)
    old_plan = operator.insert(
        phone_number=BEN, message_content="held plan", scheduled_for="2022-01-01 10:00:00"
    )
    counts = operator.sql("SELECT status, count(*) FROM scheduled_messages GROUP BY status")
    words = ("forget", "--older-than", "2y")
    asked = operator.run(*words, terminal=Keyboard("no\n"))
    assert (asked.status, "1 message, 1 incoming text of before" in asked.err) == (1, True)
    assert "secret" in str(everything(operator))
    assert operator.run(*words, terminal=Keyboard("YES\n")).status == 0
    assert [each for each in everything(operator) if "secret" in str(each).lower()] == []
    assert b"secret" not in operator.database.read_bytes()
    assert operator.row(row, "phone_number, status, customer_name") == (ANA, "sent", "")
    assert operator.row(old_plan, "message_content") == ("held plan",)
    assert operator.sql("SELECT status, count(*) FROM scheduled_messages GROUP BY status") == counts
    assert operator.sql("SELECT phone_number FROM opt_outs") == [(ANA,)]
    purged = operator.sql("SELECT detail FROM events WHERE event = 'purged'")
    assert len(purged) == 1
    assert str(purged[0]).endswith("1 rows',)")
    assert operator.sql("SELECT 1 FROM events WHERE event = 'edited' AND actor <> 'sql'") == []
    assert "Nothing to blank" in operator.run(*words, "--yes").out


def test_forget_leaves_what_is_younger_and_a_reply_that_nobody_has_read(operator: Operator) -> None:
    lay_person(operator)
    operator.run("forget", "--older-than", "90y", "--yes")
    assert "secret words" in str(everything(operator))
    make_old(operator)
    operator.sql("UPDATE inbound SET read_at = NULL")
    operator.run("forget", "--older-than", "90d", "--yes")
    assert operator.sql("SELECT body FROM inbound") == [("secret reply",)]
    assert operator.sql("SELECT body FROM messages WHERE body <> ''") == []


@pytest.mark.parametrize("span", ["2", "y", "0d", "-2y", "2w", "200y", "9999y"])
def test_span_that_is_none_is_refused_with_an_example(operator: Operator, span: str) -> None:
    assert "90d, 6m or 2y" in operator.sentence("forget", f"--older-than={span}", "--yes", status=2)


def test_forget_wants_a_number_or_an_age_and_not_both(operator: Operator) -> None:
    for words in ((), (ANA, "--older-than", "2y")):
        assert "say whom" in operator.sentence("forget", *words, "--yes", status=2)


def test_blanked_row_is_not_tried_again(operator: Operator) -> None:
    row = operator.insert(status="failed", scheduled_for="2022-01-01 10:00:00")
    operator.run("forget", "--older-than", "2y", "--yes")
    assert operator.run("retry", str(row), "--yes").status != 0
    assert operator.row(row, "status") == ("failed",)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as source:
        return list(csv.DictReader(source))


def test_export_reads_well_in_a_spreadsheet(operator: Operator, tmp_path: Path) -> None:
    row = lay_person(operator)
    operator.insert(phone_number=BEN, customer_name="=1+1", campaign_name="other")
    folder = tmp_path / "out"
    assert "Wrote" in operator.run("export", str(folder)).out
    rows = read_csv(folder / "scheduled_messages.csv")
    assert [each["phone_number"] for each in rows] == ["'" + ANA, "'" + BEN]
    assert rows[1]["customer_name"] == "'=1+1"
    assert rows[0]["sent_at (UTC)"] == "2025-11-09 18:00:00"
    assert (folder / "scheduled_messages.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    assert [each["message_reference"] for each in read_csv(folder / "segments.csv")] == ["77"]
    assert read_csv(folder / "inbound.csv")[0]["body"] == "secret reply"
    assert read_csv(folder / "opt_outs.csv")[0]["words"] == "secret reply"
    assert str(row) in {each["scheduled_message_id"] for each in read_csv(folder / "events.csv")}
    assert "not empty" in operator.sentence("export", str(folder), status=2)


def test_export_takes_one_campaign_alone(operator: Operator, tmp_path: Path) -> None:
    lay_person(operator)
    other = operator.insert(phone_number=BEN, campaign_name="other")
    folder = tmp_path / "out"
    assert operator.run("export", str(folder), "--campaign", "other").status == 0
    assert [each["id"] for each in read_csv(folder / "scheduled_messages.csv")] == [str(other)]
    assert read_csv(folder / "inbound.csv") == read_csv(folder / "segments.csv") == []
    events = read_csv(folder / "events.csv")
    assert {each["scheduled_message_id"] for each in events} == {str(other)}
    assert "the campaigns are" in operator.sentence(
        "export", str(tmp_path / "none"), "--campaign", "no", status=2
    )


def test_free_space_is_given_back_bit_by_bit_until_little_is_left(tmp_path: Path) -> None:
    path = tmp_path / "box.db"
    database = Database.create_or_open(str(path))
    with database.transaction():
        for number in range(500):
            database.insert("INSERT INTO state VALUES (?, ?)", str(number), "x" * 3000)
    assert not database.give_space_back()
    database.change("DELETE FROM state")
    database.truncate_log()
    before = path.stat().st_size
    steps = 0
    while database.give_space_back():
        steps += 1
    database.truncate_log()
    assert steps > 3
    assert path.stat().st_size < before / 3
    database.close()
