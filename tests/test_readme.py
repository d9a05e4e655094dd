"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
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
