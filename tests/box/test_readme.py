"""What the README shows works as it stands there."""

from __future__ import annotations

import ast
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import smsbox
from rig.paths import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = [
    re.sub(r" > .*", "", found[1]).strip()
    for line in README.splitlines()
    if (found := re.match(r" +(?:sudo |ssh \S+ )?(smsbox [a-z].*)", line))
]
SOURCE = ast.parse((ROOT / "smsbox.py").read_text())


def section(title: str) -> str:
    """What stands below a heading of the README."""
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL
    )
    assert found, title
    return found[1]


def table_rows(text: str) -> list[list[str]]:
    """The cells of a text's tables, their headings left out."""
    rows = [row for row in text.splitlines() if row.lstrip().startswith("|")]
    return [
        [cell.strip() for cell in row.strip().strip("|").split("|")]
        for row, ahead in zip(rows, [*rows[1:], ""], strict=True)
        if "---" not in row and "---" not in ahead
    ]


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) > 35


def test_no_code_amid_the_words_is_broken_over_two_lines() -> None:
    words = re.sub(r"^ *```.*?^ *```", "", README, flags=re.MULTILINE | re.DOTALL)
    assert [line for line in words.splitlines() if line.count("`") % 2] == []


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_shown_is_one_that_exists(line: str) -> None:
    args = smsbox.parse_arguments(shlex.split(line, comments=True)[1:])
    assert callable(getattr(smsbox, f"cmd_{args.command}"))


def test_every_command_named_amid_the_words_is_one_that_exists() -> None:
    named = set(re.findall(r"`(smsbox [a-z][^`]*)`", README))
    assert len(named) > 10
    for words in named:
        _, command, *rest = shlex.split(words)
        assert command in smsbox.COMMANDS, words
        shown = smsbox.build_command_parser(command).format_help()
        assert all(word.split("=")[0] in shown for word in rest if word.startswith("--")), words


def test_every_setting_named_is_in_the_table_of_settings() -> None:
    known = {each.name for section in smsbox.SECTIONS.values() for each in fields(section)}
    rows = re.findall(r"^\| `\[.*?\|.*", README.split("## Settings")[1], re.MULTILINE)
    assert len(rows) == 9
    sections = {name for row in rows for name in re.findall(r"`\[(\w+)\]`", row)}
    assert sections == set(smsbox.SECTIONS)
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    named |= {"max_messages_per_day", "max_segments_per_day", "max_recipients_per_month"}
    assert named <= known
    assert len(named) > 15


def test_lamps_are_wired_as_the_example_file_says() -> None:
    lamps = fields(smsbox.LampSettings)
    pins = {each.name: each.metadata["example"] for each in lamps if each.metadata["example"]}
    drawn = dict(re.findall(r"\(BCM (\d+)\) .*\b(ready|sending|fault)\b", README))
    assert {name: int(pin) for pin, name in drawn.items()} == pins


def _say_pattern(pattern: str) -> str:
    """Put a picture of ten places a second into words."""
    flashes = re.findall("#+", pattern)
    if not flashes or len(pattern) == 1:
        return "lit" if flashes else "dark"
    if len(flashes[0]) * 2 == len(pattern):
        return "even blinking"
    kind = {1: "blip", 2: "flash"}.get(len(flashes[0]), "long flash")
    if len(flashes) == 1:
        return f"one {kind} in {len(pattern) // 10} s"
    count = "two" if kind == "blip" else str(len(flashes))
    return f"{count} {'blips' if kind == 'blip' else 'flashes'} in {len(pattern) // 10} s"


@pytest.mark.parametrize("lamp", ["green", "red"])
def test_lamps_are_described_as_they_blink(lamp: str) -> None:
    patterns = smsbox._READY_PATTERNS if lamp == "green" else smsbox._FAULT_PATTERNS
    known = {state.value: _say_pattern(pattern) for state, pattern in patterns.items()}
    table = re.search(rf"^\| {lamp} lamp .*?\n\n", README, re.MULTILINE | re.DOTALL)
    assert table
    told = {words: seen for seen, words, _ in table_rows(table[0])}
    if lamp == "green":
        assert told.pop("a segment is with the modem") == "lit"
        assert told.pop("") == "dark"
    assert told == known


def test_settings_shown_are_taken() -> None:
    shown = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert shown
    for text in shown:
        smsbox.parse_config(smsbox.parse_toml(text, Path("README.md")))


JSON_KEYS = {  # derived: no column is called so
    "expected_at", "left_out", "quotas_met", "duration_hours", "own_texts", "opt_out", "opted_out",
    "opted_out_at", "replied_at", "still_to_go", "not_taken",
}  # fmt: skip


def test_every_word_with_an_underscore_is_the_program_s(database: smsbox.Database) -> None:
    """A setting, a column of CSV, database or JSON: nothing that is called otherwise."""
    known = {each.name for section in smsbox.SECTIONS.values() for each in fields(section)} | set(
        smsbox.FIELD_NAMES
    )
    with sqlite3.connect(database.path) as shell:
        tables = [name for (name,) in shell.execute("SELECT name FROM sqlite_schema")]
        columns = [shell.execute(f"SELECT * FROM {table} LIMIT 0").description for table in tables
                   if not table.startswith("sqlite_") and _is_table(shell, table)]  # fmt: skip
    shell.close()
    known |= {*tables, *(name for row in columns for name, *_ in row)}
    known |= JSON_KEYS
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)(?: = [^`]*|=[^`]*)?`", README))
    assert len(named) > 20
    assert named <= known, named - known


# Some rows of the shop's list can't be taken: the answer says so, and how to leave them out.
FIRST_LOOK = "schedule shopify.csv --template fall.txt --dry-run"


def _is_table(shell: sqlite3.Connection, name: str) -> bool:
    found = shell.execute("SELECT type FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    return bool(found[0] == "table")


def test_every_file_that_is_named_is_there(tmp_path: Path) -> None:
    """In the tree, in the package, or named by what makes it."""
    subprocess.run(["sh", ROOT / "install.sh", "--build"], cwd=tmp_path, check=True)
    [package] = tmp_path.glob("*.deb")
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)
    named = set(re.findall(
        r"(?:tests|/etc|/usr|/var)(?:/[\w.-]+)+|\b[\w.]+\.(?:py|sh|toml|md|service)\b",
        re.sub(r"`[^`]*\.local/[^`]*`", "", README),
    ))  # fmt: skip
    assert len(named) > 12
    makers = ("install.sh", "smsbox.service", "config.example.toml")
    texts = "".join((ROOT / name).read_text() for name in makers)
    for name in sorted(named):
        if name.startswith("/"):
            assert (tmp_path / name[1:]).exists() or Path(name).name in texts, name
        else:
            assert (ROOT / name).exists() or name == "config.toml", name


def test_symptoms_are_in_the_program_s_own_words() -> None:
    said = " ".join(
        node.value for node in ast.walk(SOURCE)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )  # fmt: skip
    rows = table_rows(section("When something is wrong"))
    symptoms = [each for row in rows for each in re.findall(r"`([^`]+)`", row[0])]
    assert len(symptoms) > 20
    assert [each for each in symptoms if each not in said] == []


def test_lines_of_the_journal_are_those_that_are_written() -> None:
    calls = [node.args for node in ast.walk(SOURCE) if isinstance(node, ast.Call)
             and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "logging"
             and node.func.attr in ("log", "info", "warning", "error")]  # fmt: skip
    forms = [each.value for args in calls for each in args[:2]
             if isinstance(each, ast.Constant) and isinstance(each.value, str)]  # fmt: skip
    patterns = [re.sub(r"%[+.\d]*[sdf]", ".*", re.escape(form).replace("\\%", "%").replace(
        "\\.", ".")) for form in forms]  # fmt: skip
    block = re.search(r"```text\n(.*?)```", section("Is it working?"), re.DOTALL)
    assert block
    lines = block[1].splitlines()
    assert len(lines) > 4
    long = [each for each in patterns if len(each) > 10]
    unknown = [line for line in lines if not any(re.fullmatch(each, line) for each in long)]
    assert unknown == []


def find_columns(header: list[str]) -> dict[str, int]:
    return smsbox.find_columns(smsbox.Sheet(",", 1, header, []), {})[0]


def test_every_column_that_the_readme_names_for_a_csv_is_read() -> None:
    rows = dict(
        row[:2] for row in table_rows(section("The spreadsheet, and how it gets onto the box"))
    )
    header = re.findall(r"`([A-Z]\w+)`", rows["column names"])
    assert len(header) >= 5
    for name in header:
        assert find_columns([name]), name
    more = re.findall(r"`([a-z_]+)`", rows["more columns"])
    assert len(more) >= 5
    assert find_columns(["First Name", *more]).keys() - {"customer_name"} == {*more}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "mac-roman"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_every_kind_of_csv_that_the_readme_names_is_taken(
    tmp_path: Path, encoding: str, delimiter: str
) -> None:
    rows = [["Mobile", "Name", "Text"], ["(213) 555-2301", "Ana Ortiz", "Ça va"]]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    (tmp_path / "campaign.csv").write_bytes(text.encode(encoding))
    run = _smsbox(tmp_path, "--database new.db schedule campaign.csv --dry-run")
    assert run.returncode == 0, run.stderr
    assert "> Ça va" in run.stdout
    assert ("WARNING" in run.stderr) == (encoding in ("cp1252", "mac-roman"))


@pytest.mark.parametrize(
    "line", re.findall(r"`smsbox (schedule [^`]*)`", section("From your shop's system"))
)
def test_export_of_each_system_that_the_readme_names_is_planned_by_its_command(
    tmp_path: Path, line: str
) -> None:
    for name in (line.split()[1], "fall.txt"):
        (tmp_path / name).write_bytes((ROOT / "tests" / "exports" / name).read_bytes())
    run = _smsbox(tmp_path, f"--database new.db {line} --dry-run")
    assert run.returncode == 0, run.stderr
    assert "Columns:   phone = " in run.stdout


def _smsbox(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "smsbox.py"), *shlex.split(line)],
        cwd=folder, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_every_option_in_the_table_belongs_to_schedule() -> None:
    known = set(re.findall(r"--[a-z-]+", smsbox.build_command_parser("schedule").format_help()))
    table = re.findall(r"^\| `--.*?\|", README, re.MULTILINE)
    shown = {option for row in table for option in re.findall(r"--[a-z-]+", row)}
    assert len(shown) >= 10
    assert shown <= known


def test_the_example_csv_is_planned_and_nothing_is_written(tmp_path: Path) -> None:
    block = re.search(r"```csv\n(.*?)```", README, re.DOTALL)
    assert block
    (tmp_path / "campaign.csv").write_text(block[1])
    run = subprocess.run(
        [sys.executable, str(ROOT / "smsbox.py"), "--database", "new.db",
         "schedule", "campaign.csv", "--dry-run", "--seed", "1"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "[2/2] Ben Cole" in run.stdout
    assert "  > Pick it up until 8 PM." in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["campaign.csv"]


def test_every_exit_status_named_is_the_program_s() -> None:
    errors = (
        smsbox.SmsboxError, smsbox.UsageError, smsbox.CampaignError, smsbox.StoreError,
        smsbox.ConfigError,
    )  # fmt: skip
    told = README.split("Exit statuses:")[1]
    for error in errors:
        assert re.search(rf"\b{error.exit_status}\b", told)


def test_the_demo_runs_on_the_bare_interpreter_and_ends_well() -> None:
    run = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "smsbox.py"), "demo"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Sent: 5 of 5 messages." in run.stdout
    for text in ("Shall we keep them for you?", "Votre commande est prête 🎉", "See you!"):
        assert text in run.stdout


# --- the SQL, in the sqlite3 shell, on the database of a running daemon


class ReadmeBox:
    """A daemon on a simulated modem; sql() is what an operator types."""

    def __init__(self, folder: Path) -> None:
        block = re.search(r"```sql\n(.*?)```", README, re.DOTALL)
        assert block
        titles = re.findall(r"^-- (.+)\n((?:(?!--).*\n)+)", block[1], re.MULTILINE)
        self.statements: dict[str, str] = dict(titles)
        self.database = folder / "smsbox.db"
        (folder / "config.toml").write_text(
            '[modem]\nport = "sim:"\n[business_hours]\nopens = "00:00"\ncloses = "24:00"\n'
            "[recipient_hours]\nenabled = false\n"
            "[service]\npoll_seconds = 0.1\n[clock]\nrequire_trust = false\n"
            "[pacing]\nbubble_gap_seconds = [0, 0.1]\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "smsbox.py"), "--config", str(folder / "config.toml"),
             "--database", str(self.database), "run"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.await_answer("SELECT 1", "1")

    def sql(self, statement: str) -> str:
        run = subprocess.run(
            ["sqlite3", "-cmd", ".timeout 10000", str(self.database), statement],
            capture_output=True, text=True,
        )  # fmt: skip
        assert not run.stderr or "no such table" in run.stderr or "locked" in run.stderr
        return run.stdout.strip()

    def typed(self, title: str, **changes: str) -> str:
        """Type a statement of the README, with other values in it."""
        statement = self.statements[title]
        known = {"id": "id = 12", "failed_id": "id = 15", "wait": "+2 minutes"}
        for name, new in changes.items():
            old = known.get(name, name)
            assert old in statement
            statement = statement.replace(old, new)
        return self.sql(statement)

    def await_answer(self, question: str, answer: str, within_s: float = 20) -> None:
        end = time.monotonic() + within_s
        while not self.database.exists() or self.sql(question) != answer:
            assert time.monotonic() < end, f"{question} never gave {answer}"

    def insert(self, campaign: str, after: str = "+2 hours") -> str:
        return self.sql(
            "INSERT INTO scheduled_messages (phone_number, customer_name, message_content,"
            " scheduled_for, status, campaign_name) VALUES ('+12135552309', 'Ana', 'Hi',"
            f" datetime('now', '{after}'), 'scheduled', '{campaign}'); SELECT last_insert_rowid();"
        )


@pytest.fixture
def live(tmp_path: Path) -> Iterator[ReadmeBox]:
    box = ReadmeBox(tmp_path)
    box.await_answer("SELECT count(*) FROM scheduled_messages", "0")
    yield box
    box.process.send_signal(signal.SIGTERM)
    assert box.process.wait(timeout=20) == 0
    assert box.process.stdout is not None
    box.process.stdout.close()


def test_the_readme_s_sql_shows_the_queue(live: ReadmeBox) -> None:
    first, second = live.insert("spring"), live.insert("fall", "+1 hours")
    assert [line.split("|")[0] for line in live.typed("the queue").splitlines()] == [second, first]
    assert live.typed("how many of each") == "scheduled|2"
    minutes = float(
        live.typed("the next ten, with the minutes until they go").splitlines()[0].split("|")[3]
    )
    assert 59 <= minutes <= 60


def test_the_daemon_obeys_the_readme_s_sql(live: ReadmeBox) -> None:
    kept, gone, other = live.insert("fall"), live.insert("fall"), live.insert("spring")
    live.typed("cancel one", id=f"id = {gone}")
    live.typed("cancel a campaign")
    before = live.sql(f"SELECT scheduled_for FROM scheduled_messages WHERE id = {kept}")
    live.typed("push everything back by 30 minutes")
    after = live.sql(f"SELECT scheduled_for FROM scheduled_messages WHERE id = {kept}")
    assert live.sql(f"SELECT datetime('{before}', '+30 minutes') = '{after}'") == "1"
    live.typed("a test, two minutes from now", wait="+1 second")
    test = live.sql("SELECT max(id) FROM scheduled_messages")
    live.await_answer(f"SELECT status FROM scheduled_messages WHERE id = {test}", "sent")
    assert live.sql("SELECT group_concat(body, '/') FROM messages") == "A test/in two bubbles"
    assert live.typed("how many of each") == "cancelled|2\nscheduled|1\nsent|1"
    words = {"scheduled_message_id = 15": f"scheduled_message_id = {other}"}
    told = [line.split("|")[1:3] for line in live.typed("what happened to it, and who did it",
                                                        **words).splitlines()]  # fmt: skip
    assert told == [["sql", "added"], ["sql", "cancelled"]]


def test_a_failed_row_is_tried_again_by_the_readme_s_sql(live: ReadmeBox) -> None:
    failed = live.insert("fall", "+1 second")
    live.sql(f"UPDATE scheduled_messages SET phone_number = 'nobody' WHERE id = {failed}")
    live.await_answer(f"SELECT status FROM scheduled_messages WHERE id = {failed}", "failed")
    reason = live.sql(f"SELECT error_message FROM scheduled_messages WHERE id = {failed}")
    assert "letters are no part of a phone number" in reason
    live.sql(f"UPDATE scheduled_messages SET phone_number = '+12135552309' WHERE id = {failed}")
    live.typed("try a failed one again", failed_id=f"id = {failed}")
    live.await_answer(f"SELECT status FROM scheduled_messages WHERE id = {failed}", "sent")


@pytest.mark.parametrize("number", range(README.count("\n-- ")))
def test_every_statement_runs_on_a_fresh_database(database: smsbox.Database, number: int) -> None:
    block = re.search(r"```sql\n(.*?)```", README, re.DOTALL)
    assert block
    statement = re.split(r"^-- .*\n", block[1], flags=re.MULTILINE)[1:][number]
    with sqlite3.connect(database.path) as shell:
        shell.execute(statement)
    shell.close()


# What the README shows and a running box on one computer can't do as it stands.
_APART = ("check --lamps", "backup -", "backup copy.db", "restore")


def test_the_commands_of_the_readme_do_what_they_say_one_after_another(
    live: ReadmeBox, tmp_path: Path
) -> None:
    given = "--config config.toml --database smsbox.db"
    example = re.search(r"```csv\n(.*?)```", README, re.DOTALL)
    assert example
    (tmp_path / "campaign.csv").write_text(example[1])
    (tmp_path / "stopped.csv").write_text("phone_number\n+12135552399\n")
    for name in ("shopify.csv", "fall.txt"):
        (tmp_path / name).write_bytes((ROOT / "tests" / "exports" / name).read_bytes())
    for campaign in ["spring"] * 11 + ["fall"] * 5:
        live.insert(campaign)
    live.sql("UPDATE scheduled_messages SET phone_number = '+12135552377' WHERE id = 13")
    live.sql("UPDATE scheduled_messages SET status = 'failed', error_message = 'no' WHERE id = 15")
    live.sql("UPDATE scheduled_messages SET held_because = 'a trial' WHERE id = 16")
    end = time.monotonic() + 20
    while "ok       modem      ready" not in _smsbox(tmp_path, f"{given} status").stdout:
        assert time.monotonic() < end
    may_say_one = ("status", "check", "check --config")
    for line in COMMANDS:
        said = line.split("#")[0].removeprefix("smsbox ").strip()
        if said.startswith(_APART):
            continue
        yes = " --yes" if said.startswith(("cancel", "forget", "schedule")) else ""
        yes = "" if "--dry-run" in said or "--try" in said else yes
        run = _smsbox(tmp_path, f"{given} {said}{yes}")
        allowed = (0, 1) if said in may_say_one else (0, 65) if said == FIRST_LOOK else (0,)
        assert run.returncode in allowed, (said, run)
    states = "SELECT group_concat(status, ' ') FROM scheduled_messages WHERE id IN (12, 13, 14, 16)"
    assert live.sql(states) == "cancelled scheduled scheduled scheduled"


def test_the_connection_of_a_shell_does_not_stop_the_daemon(live: ReadmeBox) -> None:
    """A write that an operator leaves open is waited for, not lost."""
    row = live.insert("fall", "+1 second")
    other = sqlite3.connect(live.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    time.sleep(1.5)
    other.execute("COMMIT")
    other.close()
    live.await_answer(f"SELECT status FROM scheduled_messages WHERE id = {row}", "sent")
