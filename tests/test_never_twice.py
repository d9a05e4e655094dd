"""Never twice, never lost: the real daemon killed at random instants, the modem lives on."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pty_modem import TEXT, Fault, PtyModem
from test_end_to_end import Box

import smsbox

LONG = "This is a sentence that goes on. " * 12  # three segments
ROWS = 12


def queue(box: Box) -> dict[str, list[str]]:
    """Put messages of two bubbles into the queue: number -> the segments it should get."""
    wanted: dict[str, list[str]] = {}
    for n in range(ROWS):
        number, bubbles = f"+1213555{2400 + n}", (f"{n} {LONG}".strip(), f"and so on {n}")
        box.insert(number, " [BUBBLE] ".join(bubbles))
        wanted[number] = [
            smsbox.decode_tpdu(pdu, "out").text or ""
            for bubble in bubbles
            for pdu, _ in smsbox.encode_submit(bubble, number)
        ]
    return wanted


def run_with_kills(box: Box, kills: int, rng: random.Random) -> int:
    """Kill and start the daemon so often, then let it finish; give the kills that hit."""
    hits = 0
    for _ in range(kills):
        daemon = box.start("--drain")
        time.sleep(rng.uniform(0.25, 1.0))
        if daemon.process.poll() is None:
            daemon.process.send_signal(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            daemon.process.wait(30)
            hits += 1
    assert box.start("--drain").wait(180) == 0
    return hits


def judge(box: Box, wanted: dict[str, list[str]]) -> Counter[str]:
    """Compare what the network took with what was queued, segment by segment."""
    came: dict[str, Counter[str]] = {}
    for _, pdu in box.modem.accepted():
        tpdu = smsbox.decode_tpdu(pdu, "out")
        came.setdefault(tpdu.number, Counter())[tpdu.text or ""] += 1
    found: Counter[str] = Counter()
    for number, segments in wanted.items():
        got = came.get(number, Counter())
        status, because = box.sql(
            "SELECT status, coalesce(error_message, '') FROM scheduled_messages"
            " WHERE phone_number = ?",
            number,
        )[0]
        found["duplicates"] += sum(count - 1 for count in got.values())
        missing = [segment for segment in segments if not got[segment]]
        found[status] += 1
        if missing and not (status == "failed" and "may have been sent" in because):
            found["lost"] += len(missing)
    return found


def play(folder: Path, profile: str, rng: random.Random) -> Counter[str]:
    """One campaign through one modem, with ten kills on its way."""
    folder.mkdir()
    with PtyModem(folder, profile=profile) as modem:
        box = Box(folder, modem)
        box.lay_down()
        box.insert("+12135552301", "before")
        box.drain()  # one segment is answered before: the SIM's file is known, or not believed
        modem.misbehave(Fault(TEXT, times=0, delay_s=0.1))
        wanted = queue(box)
        hits = run_with_kills(box, 10, rng)
        found = judge(box, wanted)
        found["kills"] = hits
    return found


@pytest.mark.parametrize(
    "campaigns", [pytest.param(1, id="short"), pytest.param(15, id="whole", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("profile", ["EC25", "plain"])  # whose SIM's reference is readable, or not
def test_killed_daemon_sends_nothing_twice_and_loses_nothing(
    tmp_path: Path, profile: str, campaigns: int
) -> None:
    rng = random.Random(campaigns)
    with ThreadPoolExecutor(5) as pool:
        plays = [
            pool.submit(play, tmp_path / str(n), profile, random.Random(rng.random()))
            for n in range(campaigns)
        ]
        found = sum((each.result() for each in plays), Counter[str]())
    print(f"{profile}: {dict(found)}")
    assert found["kills"] >= 7 * campaigns
    assert found["duplicates"] == 0
    assert found["lost"] == 0
    assert found["sent"] + found["failed"] == ROWS * campaigns
    if profile == "EC25":
        assert found["failed"] == 0
