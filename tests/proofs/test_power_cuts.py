"""A month with a power cut a day: real store, driver and scheduler, a modem in software, a clock
that waits for nobody.

In half of the cuts the modem loses its power with the box: what it had, and the network had not yet
taken, is lost with it. In the others it lives on, and hands over what it had.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise

import pytest

import smsbox
from rig.played import (
    Far,
    Play,
    PlayedBox,
    find_problems,
    number_of,
    replace_modem,
    segments_of,
    write_text,
)


class Cut(BaseException):
    """The power is gone."""


class Mains(Far):
    """A modem beside the box: the power of the box, or of both, may go at an edge."""

    def __init__(self, play: Play) -> None:
        super().__init__(play)
        self.cut_at = ""  # the next edge of that name
        self.loses_power = False  # with the box, at that edge
        self.lost: list[str] = []  # texts that it had and the network never took

    def reach(self, edge: str) -> None:
        if edge == self.cut_at:
            self.cut_at = ""
            raise Cut

    def write(self, data: bytes) -> None:
        if not data.endswith(b"\x1a"):
            super().write(data)
            return
        self.reach("before text")
        if self.cut_at == "half of text":
            self.modem.feed(data[: len(data) // 2])
        self.reach("half of text")
        if self.cut_at == "text with the modem":
            self._hold(data)
        self.reach("text with the modem")
        super().write(data)
        self.reach("text with the network")

    def _hold(self, data: bytes) -> None:
        """The modem has the text, and the network not yet, when the power of the box goes."""
        if self.loses_power:
            self.lost.append(smsbox.decode_tpdu(data[:-1].decode(), "out").text or "")
            self.modem.reference += 1  # a SIM counts what its modem begins
        else:
            self.modem.feed(data)

    def come_back(self) -> None:
        """What was said meanwhile nobody heard; a modem that lost its power has started anew."""
        self.said = b""
        if self.loses_power:
            fresh = smsbox.SimulatedModem(self._arrive)
            fresh.reference = self.modem.reference
            self.modem = fresh


EDGES = (
    "now", "before text", "half of text", "text with the modem", "text with the network",
    "before COMMIT", "after COMMIT",
)  # fmt: skip


class Month:
    """A box that loses its power at a random instant of each day."""

    def __init__(
        self, box: PlayedBox, seed: int, monkeypatch: pytest.MonkeyPatch, edges: tuple[str, ...]
    ) -> None:
        self.cuts = 0
        self._box = box
        self._edges = edges
        self._rng = random.Random(seed)
        self.far = Mains(box.play)
        replace_modem(box, self.far)
        change = smsbox.Database.change

        def changing(database: smsbox.Database, sql: str, *given: object, **named: object) -> int:
            if sql == "COMMIT":
                self.far.reach("before COMMIT")
            done = change(database, sql, *given, **named)
            if sql == "COMMIT":
                self.far.reach("after COMMIT")
            return done

        monkeypatch.setattr(smsbox.Database, "change", changing)
        monkeypatch.setattr(smsbox, "_WATCH_S", {True: 600.0, False: 3600.0})

    def live(self, days: int) -> None:
        for day in range(days):
            act = partial(self._cut, day % 2 == 0)
            self._box.after(day * 86_400 + self._rng.uniform(0, 39_000), act)
        while True:
            try:
                self._box.play.end_s = self._box.play.monotonic() + (days + 30) * 86_400
                self._serve()
                return
            except Cut:
                self.cuts += 1
            self._box.database.close()
            down_s = min(self._rng.lognormvariate(5, 2), 30_000.0)
            self._box.play._s += down_s
            self.far.come_back()
            self._box.database = smsbox.Database.create_or_open(self._box.path)

    def _cut(self, both: bool) -> None:
        self.far.cut_at = self._rng.choice(self._edges)
        self.far.loses_power = both
        self.far.reach("now")

    def _serve(self) -> None:
        around = smsbox.Surroundings(
            self._box.play, self.far.open, self._box.manager, None, lambda status: None,
            lambda: "the test",
        )  # fmt: skip
        config = smsbox.parse_config({**self._box.tables, "modem": {"port": "sim:"}})
        config = replace(config, service=replace(config.service, poll_seconds=3600.0))
        rng = random.Random(self._rng.random())
        smsbox.Service(config, self._box.database, around, rng).run(drain=True)


LOST_WITH_THE_MODEM = ("text with the modem",)


@pytest.mark.parametrize("edges", [EDGES, LOST_WITH_THE_MODEM], ids=["anywhere", "amid a text"])
@pytest.mark.parametrize(
    ("interval", "many"), [((45, 75), 330), pytest.param((4, 7), 3000, marks=pytest.mark.long)]
)
def test_month_with_a_power_cut_a_day_sends_all_once_in_the_hours_and_the_pace(
    box: PlayedBox,
    interval: tuple[int, int],
    many: int,
    edges: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box.tables = {
        "pacing": {"interval_minutes": list(interval), "skip_chance": [0, 0]},
    }
    month = Month(box, 8, monkeypatch, edges)
    plan_rows(box, many)
    month.live(30)
    arrived = month.far.arrived
    taken = [text for _, _, text in arrived]
    assert month.cuts >= 25  # in some nights none is met
    problems = find_problems(box, taken, may_be_held=True)
    assert not problems, problems
    assert not find_false_words(box, taken)
    assert month.far.lost
    assert not set(month.far.lost) & set(taken)  # nobody but a person sends them again
    zone = smsbox.parse_config({}).business_hours.timezone
    assert all(9 <= at.astimezone(zone).hour < 20 for at, _, _ in arrived)
    firsts = [at for at, number, text in arrived if is_first(number, text)]
    gaps = [later - earlier for earlier, later in pairwise(firsts)]
    # What is late by less than late_after_minutes goes at once, the next when it was planned.
    assert min(gaps) >= timedelta(minutes=interval[0] - 2, seconds=-2), min(gaps)
    statuses = Counter(box.sql("SELECT status, held_because IS NOT NULL FROM scheduled_messages"))
    others = {key: count for key, count in statuses.items() if key != ("sent", 0)}
    assert sum(others.values()) <= month.cuts, statuses
    print(f"\na month: cuts={month.cuts} lost with the modem={len(month.far.lost)} {statuses}")


def test_rig_would_see_a_daemon_that_believes_that_the_modem_sent_what_it_had(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def believe(
        service: smsbox.Outcomes, segment: smsbox.Segment, words: str, *, at_start: bool = False
    ) -> None:
        now = service._clock.now()
        service._database.sending.end_segment(segment, smsbox.BubbleStatus.SENT, now)

    monkeypatch.setattr(smsbox.Outcomes, "give_up", believe)
    box.tables = {"pacing": {"interval_minutes": [45, 75], "skip_chance": [0, 0]}}
    month = Month(box, 8, monkeypatch, LOST_WITH_THE_MODEM)
    plan_rows(box, 22)
    month.live(2)
    taken = [text for _, _, text in month.far.arrived]
    false = find_false_words(box, taken)
    assert {each.split()[0] for each in false} == {"segment", "bubble", "row"}
    assert find_problems(box, taken, may_be_held=True)


def find_false_words(box: PlayedBox, taken: Sequence[str]) -> list[str]:
    """Return what is called sent of which the network did not take every segment."""
    network = set(taken)
    false = []
    for row, number, content, status in box.sql(
        "SELECT id, phone_number, message_content, status FROM scheduled_messages"
    ):
        if status == "sent" and not network.issuperset(segments_of(number, content)):
            false.append(f"row {row}")
    for bubble, number, body, status in box.sql(
        "SELECT id, phone_number, body, status FROM messages"
    ):
        texts = segments_of(number, body)
        if status == "sent" and not network.issuperset(texts):
            false.append(f"bubble {bubble}")
        told = box.sql(
            "SELECT sequence FROM segments WHERE status = 'sent' AND message_id = ?", bubble
        )
        false += [f"segment {bubble}.{n}" for (n,) in told if texts[n - 1] not in network]
    return false


def plan_rows(box: PlayedBox, many: int) -> None:
    config = smsbox.parse_config(box.tables)
    lines = ["phone_number,customer_name,message_content\n"]
    lines += [f"{number_of(place)},Name,{write_text(place)}\n" for place in range(many)]
    reading = smsbox.read_campaign(lines, smsbox.ReadingOrder("month"))
    planned = smsbox.plan(
        reading.messages, box.play.now(), random.Random(5), config.pacing, config.business_hours
    )
    assert len(planned) == many
    with box.database.transaction():
        box.database.queue.add_campaign(planned, 5, box.play.now(), "test")


def is_first(number: str, text: str) -> bool:
    return ".000" in text
