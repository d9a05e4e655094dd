"""Every refusal in one list: what was typed, the one sentence, the exit status."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import smsbox
from rig.desk import Operator
from rig.paths import GOLDEN

REFUSALS = GOLDEN / "refusals.txt"
ROWS = "phone_number,customer_name,message_content\n2135552313,Ana,Hi\n"
TYPED = """
frobnicate
stauts
list --campaigns
schedule
schedule none.csv
schedule empty.csv
schedule odd.csv
schedule good.csv --start yesterday
schedule good.csv --start "2024-01-01 10:00"
schedule good.csv --until "2024-01-01 10:00"
schedule good.csv --limit 0
schedule good.csv --template none.txt
schedule good.csv --html page.html
schedule good.csv --row 3
list --status asleep
show 99
why nobody
edit 1
edit 2 --text Hello
edit 1 --text " "
cancel
cancel 99
cancel 2
reschedule 1 --by soon
reschedule 1 --at "2024-01-01 10:00"
retry 1
release 1
pause --campaign winter
pause --until yesterday
send nobody Hi
send +12135552313 ""
inbox --odd
inbox --follow
optout add
optout add nobody
optout remove +12135552399 --reason none
optout add none.csv
optout import none.csv
report winter
report --html page.html
forget +12135559999
forget --older-than ever
export .
backup good.csv
restore none.db
restore good.csv
check --lamps
check --ussd hello
run
"""


def test_every_refusal_is_one_sentence_with_its_mend(
    operator: Operator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.csv").write_text(ROWS)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "odd.csv").write_text(ROWS + "12,Ben,\n")
    operator.insert()
    operator.insert(status="sent", sent_at="2025-11-09 18:00:00")
    lock = smsbox.take_lock(smsbox.lock_path(operator.database))  # as if smsbox ran
    assert lock is not None
    told = []
    for line in TYPED.strip().splitlines():
        before = operator.sql("SELECT * FROM scheduled_messages")
        done = operator.run(*shlex.split(line))
        assert operator.sql("SELECT * FROM scheduled_messages") == before, line
        said = [each for each in (done.err + done.out).splitlines() if each.strip()]
        told.append(f"$ smsbox {line}\n" + "\n".join(said) + f"\n[{done.status}]\n")
        assert done.status in (1, 2, 65, 75, 78), (line, done)
        assert "Traceback" not in done.err
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", "YYYY-MM-DD HH:MM", "\n".join(told))
    text = re.sub(r"pid \d+", "pid N", text.replace(str(tmp_path), "FOLDER"))
    # Each Python's own words.
    text = re.sub(r"invalid choice: .*: (smsbox \w+ --help)", r"invalid choice ...: \1", text)
    if request.config.getoption("--golden"):
        REFUSALS.write_text(text, encoding="utf-8")
    assert text == REFUSALS.read_text(encoding="utf-8")
