"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import smsbox

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.strip() for line in README.splitlines() if re.match(r" +smsbox [a-z]", line)
]  # fmt: skip


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_shown_is_one_that_exists(line: str) -> None:
    args = smsbox.build_parser().parse_args(shlex.split(line, comments=True)[1:])
    assert callable(args.run)


def test_every_command_named_amid_the_words_is_one_that_exists() -> None:
    named = set(re.findall(r"`(smsbox [a-z][^`]*)`", README))
    assert len(named) > 10
    commands = smsbox.build_parser().commands
    for words in named:
        _, command, *rest = shlex.split(words)
        shown = commands[command].format_help()
        assert all(word.split("=")[0] in shown for word in rest if word.startswith("--")), words


def test_every_setting_named_is_in_the_table_of_settings() -> None:
    known = {setting.key for setting in smsbox.SETTINGS}
    rows = re.findall(r"^\| `\[.*?\|.*", README.split("## Settings")[1], re.MULTILINE)
    assert len(rows) == 9
    sections = {name for row in rows for name in re.findall(r"`\[(\w+)\]`", row)}
    assert sections == {setting.section for setting in smsbox.SETTINGS}
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    named |= {"max_messages_per_day", "max_segments_per_day", "max_recipients_per_month"}
    assert named <= known
    assert len(named) > 15


def test_lamps_are_wired_as_the_example_file_says() -> None:
    pins = {setting.key: setting.example for setting in smsbox.SETTINGS
            if setting.section == "lamps" and setting.example}  # fmt: skip
    drawn = dict(re.findall(r"BCM (\d+) .*\b(ready|sending|fault)\b", README))
    assert {name: int(pin) for pin, name in drawn.items()} == pins


def test_every_file_of_the_tree_that_is_named_is_there() -> None:
    named = set(
        re.findall(r"`((?:tests/|\./)?[\w/]+(?:\.py|\.md|\.sh|\.toml)|tests/\w+/?\w*)`", README)
    )
    ours = {name for name in named if not name.startswith("/")} - {"config.toml"}
    assert len(ours) > 6
    assert all((ROOT / name).exists() for name in ours), ours


def test_every_option_in_the_table_belongs_to_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        smsbox.build_parser().parse_args(["schedule", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
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


class LiveBox:
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
            ["sqlite3", str(self.database), statement], capture_output=True, text=True
        )
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
def live(tmp_path: Path) -> Iterator[LiveBox]:
    box = LiveBox(tmp_path)
    box.await_answer("SELECT count(*) FROM scheduled_messages", "0")
    yield box
    box.process.send_signal(signal.SIGTERM)
    assert box.process.wait(timeout=20) == 0
    assert box.process.stdout is not None
    box.process.stdout.close()


def test_the_readme_s_sql_shows_the_queue(live: LiveBox) -> None:
    first, second = live.insert("spring"), live.insert("fall", "+1 hours")
    assert [line.split("|")[0] for line in live.typed("the queue").splitlines()] == [second, first]
    assert live.typed("how many of each") == "scheduled|2"
    minutes = float(
        live.typed("the next ten, with the minutes until they go").splitlines()[0].split("|")[3]
    )
    assert 59 <= minutes <= 60


def test_the_daemon_obeys_the_readme_s_sql(live: LiveBox) -> None:
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


def test_a_failed_row_is_tried_again_by_the_readme_s_sql(live: LiveBox) -> None:
    failed = live.insert("fall", "+1 second")
    live.sql(f"UPDATE scheduled_messages SET phone_number = 'nobody' WHERE id = {failed}")
    live.await_answer(f"SELECT status FROM scheduled_messages WHERE id = {failed}", "failed")
    reason = live.sql(f"SELECT error_message FROM scheduled_messages WHERE id = {failed}")
    assert "letters are no part of a phone number" in reason
    live.sql(f"UPDATE scheduled_messages SET phone_number = '+12135552309' WHERE id = {failed}")
    live.typed("try a failed one again", failed_id=f"id = {failed}")
    live.await_answer(f"SELECT status FROM scheduled_messages WHERE id = {failed}", "sent")


def test_the_connection_of_a_shell_does_not_stop_the_daemon(live: LiveBox) -> None:
    """A write that an operator leaves open is waited for, not lost."""
    row = live.insert("fall", "+1 second")
    other = sqlite3.connect(live.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    time.sleep(1.5)
    other.execute("COMMIT")
    other.close()
    live.await_answer(f"SELECT status FROM scheduled_messages WHERE id = {row}", "sent")
