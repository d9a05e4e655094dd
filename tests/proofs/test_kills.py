"""Never twice, never lost: the daemon's process and its modem die at every step of a send.

What the pseudo-terminal modem took is the truth. No segment is taken twice, none that was not taken
is called sent, and what is missing belongs to a message that is named "may have been sent": of each
death that is at most the one message whose segment was with the modem.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from rig.kill_rig import GIVEN_UP, SENDING
from rig.ordeal import (
    AT_RANDOM,
    BOTH_REBOOTED,
    BOTH_UNPLUGGED,
    REBOOTED,
    STOPPED,
    UNPLUGGED,
    Death,
    Ordeal,
    render_table,
)
from rig.process import LiveBox
from rig.pty_modem import TEXT, Fault, PtyModem

AT_ONCE = 16  # boxes; they mostly wait
MODEMS = ("EC25", "plain")  # profiles: one that starts slowly and chatters, one that does not
ANSWERS_AFTER_S = 0.25
SEGMENTS = 4  # of a message
NOTHING_WITH_THE_MODEM = (
    "before claim", "before COMMIT of claim", "after claim",
    "before begin_segment", "before COMMIT of begin_segment", "after sent",
)  # fmt: skip


class Campaign(NamedTuple):
    """Deaths of one sort with one kind of modem, over some boxes."""

    name: str
    profile: str  # of MODEMS
    deaths: tuple[list[Death], ...]  # a list a box


class Came(NamedTuple):
    """What came of a campaign."""

    table: Counter[tuple[str, str]]
    problems: list[str]


def draw_kills(rng: random.Random, count: int) -> list[list[Death]]:
    """Draw pieces of one or two kills: each step in turn, and as many at random instants."""

    def kill(step: str) -> Death:
        return Death(step, 1 if "claim" in step else rng.randint(1, SEGMENTS))

    pieces: list[list[Death]] = []
    left = count
    while left:
        turn = [[kill(step)] for step in SENDING]
        turn += [[kill("after text"), Death(then)] for then in GIVEN_UP]
        turn += [[Death(AT_RANDOM, after_s=rng.uniform(0.2, 5.0))] for _ in SENDING]
        for piece in rng.sample(turn, len(turn)):
            if len(piece) <= left:
                pieces.append(piece)
                left -= len(piece)
    return pieces


def draw_strikes(rng: random.Random, steps: tuple[str, ...], count: int) -> list[list[Death]]:
    """Draw deaths from outside, each at a random instant."""
    return [[Death(steps[n % len(steps)], after_s=rng.uniform(0.3, 5.0))] for n in range(count)]


def deal(pieces: list[list[Death]], boxes: int) -> tuple[list[Death], ...]:
    """Deal pieces out to boxes; a piece stays together."""
    return tuple([each for piece in pieces[box::boxes] for each in piece] for box in range(boxes))


def plan_campaigns(kills: int, others: int, boxes: int) -> list[Campaign]:
    """Plan so many kills and so many other deaths for each kind of modem."""
    rng = random.Random(4)
    sorts = (
        ("SIGTERM", (STOPPED,)),
        ("the modem", (UNPLUGGED, REBOOTED)),
        ("both", (BOTH_UNPLUGGED, BOTH_REBOOTED)),
    )
    planned = []
    for profile in MODEMS:
        pieces = draw_kills(rng, kills)
        planned.append(Campaign("kills", profile, deal(pieces, boxes)))
        for name, steps in sorts:
            pieces = draw_strikes(rng, steps, others)
            planned.append(Campaign(name, profile, deal(pieces, max(1, boxes // 3))))
    return planned


def run_campaigns(folder: Path, campaigns: list[Campaign]) -> dict[tuple[str, str], Came]:
    """Run all boxes of all campaigns side by side."""
    with PtyModem(folder) as modem:
        box = LiveBox(folder, modem)
        box.lay_down()
    came = {(each.name, each.profile): Came(Counter(), []) for each in campaigns}
    jobs = [(each, deaths) for each in campaigns for deaths in each.deaths]
    order = sorted(range(len(jobs)), key=lambda place: -len(jobs[place][1]))

    def run(place: int) -> None:
        campaign, deaths = jobs[place]
        ordeal = run_box(folder / f"box{place}", box.database, campaign.profile, deaths, place)
        mine = came[campaign.name, campaign.profile]
        mine.table.update(ordeal.table)
        mine.problems.extend(f"box{place}: {problem}" for problem in ordeal.problems)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(run, order))
    return came


def run_box(folder: Path, empty: Path, profile: str, deaths: list[Death], seed: int) -> Ordeal:
    folder.mkdir()
    with PtyModem(folder, profile=profile) as modem:
        modem.misbehave(Fault(TEXT, times=0, delay_s=ANSWERS_AFTER_S))
        box = LiveBox(folder, modem)
        shutil.copyfile(empty, box.database)
        ordeal = Ordeal(box)
        try:
            ordeal.go_through(deaths)
        except Exception as error:  # the other boxes go on
            ordeal.problems.append(f"{type(error).__name__}: {error}")
        journal = (folder / "daemon.txt").read_text()
        if "Traceback" in journal:
            ordeal.problems.append(journal[journal.index("Traceback") :][:3000])
        return ordeal


@pytest.fixture(scope="module")
def came(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Came]]:
    is_long = request.config.getoption("--long")
    campaigns = plan_campaigns(300, 40, 12) if is_long else plan_campaigns(10, 3, 3)
    came = run_campaigns(tmp_path_factory.mktemp("kills"), campaigns)
    for (name, profile), each in came.items():
        print(f"\n{name}, modem {profile}\n{render_table(each.table)}")
    yield came


KINDS = pytest.mark.parametrize("profile", MODEMS)


def sum_of(came: Came, column: str) -> int:
    return sum(count for (_, name), count in came.table.items() if name == column)


@KINDS
@pytest.mark.parametrize("name", ["kills", "SIGTERM", "the modem", "both"])
def test_nothing_is_sent_twice_and_nothing_is_lost_whoever_dies(
    came: dict[tuple[str, str], Came], name: str, profile: str
) -> None:
    mine = came[name, profile]
    assert not mine.problems, "\n".join((*mine.problems, render_table(mine.table)))
    assert sum_of(mine, "duplicates") == sum_of(mine, "losses") == 0
    assert sum_of(mine, "kills") > 0


@KINDS
def test_kill_leaves_at_most_the_segment_that_the_modem_had_unconfirmed(
    came: dict[tuple[str, str], Came], profile: str
) -> None:
    table = came["kills", profile].table
    for (step, column), count in table.items():
        if column == "unconfirmed":
            assert count <= table[step, "kills"], step


@KINDS
def test_message_fails_only_for_a_segment_that_the_modem_had(
    came: dict[tuple[str, str], Came], profile: str
) -> None:
    table = came["kills", profile].table
    assert table["any", "failed"] == sum_of(came["kills", profile], "unconfirmed") > 0
    for step in NOTHING_WITH_THE_MODEM:
        assert table[step, "unconfirmed"] == 0, step


@KINDS
def test_sigterm_leaves_nothing_unconfirmed(
    came: dict[tuple[str, str], Came], profile: str
) -> None:
    assert sum_of(came["SIGTERM", profile], "unconfirmed") == 0


def test_rig_would_see_a_daemon_that_sends_again(tmp_path: Path) -> None:
    """A daemon that forgets at its start what was with the modem sends it twice."""
    with PtyModem(tmp_path) as modem:
        modem.misbehave(Fault(TEXT, times=0, delay_s=ANSWERS_AFTER_S))
        box = LiveBox(tmp_path, modem)
        box.lay_down()
        ordeal = Ordeal(box)
        ordeal.between_lives = lambda: box.sql("DELETE FROM segments WHERE status = 'sending'")
        ordeal.go_through([Death("after text", 2)])
    assert ordeal.table["after text", "duplicates"] == 1
    assert any("segments taken as" in problem for problem in ordeal.problems)
