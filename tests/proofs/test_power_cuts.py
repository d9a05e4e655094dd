"""A month with a power cut a day: real store, driver and scheduler, a modem in software on the same
mains, a clock that waits for nobody."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

import smsbox
from rig.played import (
    CRSM,
    KINDS,
    REFUSAL,
    Far,
    Play,
    PlayedBox,
    find_problems,
    number_of,
    replace_modem,
    write_text,
)


class Cut(BaseException):
    """The power is gone."""


class Mains(Far):
    """A modem on the same mains as the box: the power may go at an edge."""

    def __init__(self, play: Play) -> None:
        super().__init__(play)
        self.cut_at = ""  # the next edge of that name

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
        super().write(data)
        self.reach("after text")

    def come_back(self) -> None:
        """The modem has started anew; the SIM remembers."""
        fresh = smsbox.SimulatedModem(self._arrive)
        fresh.reference = self.modem.reference
        self.modem, self.said = fresh, b""


EDGES = ("now", "before text", "half of text", "after text", "before COMMIT", "after COMMIT")


class Month:
    """A box that loses its power at a random instant of each day."""

    def __init__(
        self, box: PlayedBox, readable: bool, seed: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.cuts = 0
        self._box = box
        self._rng = random.Random(seed)
        self.far = Mains(box.play)
        replace_modem(box, self.far)
        if not readable:
            self.far.answers[CRSM] = REFUSAL
        change = smsbox.Database.change

        def changing(database: smsbox.Database, sql: str, *given: object, **named: object) -> int:
            if sql == "COMMIT":
                self.far.reach("before COMMIT")
            done = change(database, sql, *given, **named)
            if sql == "COMMIT":
                self.far.reach("after COMMIT")
            return done

        monkeypatch.setattr(smsbox.Database, "change", changing)
        monkeypatch.setattr(smsbox, "read_power_mark", lambda port: f"boot {self.cuts}")
        monkeypatch.setattr(smsbox, "_WATCH_S", {True: 600.0, False: 3600.0})

    def live(self, days: int) -> None:
        for day in range(days):
            self._box.after(day * 86_400 + self._rng.uniform(0, 39_000), self._cut)
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

    def _cut(self) -> None:
        self.far.cut_at = self._rng.choice(EDGES)
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


@KINDS
@pytest.mark.parametrize(
    ("interval", "many"), [((45, 75), 330), pytest.param((4, 7), 3000, marks=pytest.mark.long)]
)
def test_month_with_a_power_cut_a_day_sends_all_once_in_the_hours_and_the_pace(
    box: PlayedBox,
    readable: bool,
    interval: tuple[int, int],
    many: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box.tables = {
        "pacing": {"interval_minutes": list(interval), "skip_chance": [0, 0]},
    }
    month = Month(box, readable, 8, monkeypatch)
    plan_rows(box, many)
    month.live(30)
    arrived = month.far.arrived
    assert month.cuts >= 25  # in some nights none is met
    problems = find_problems(box, [text for _, _, text in arrived], may_be_held=True)
    assert not problems, problems
    zone = smsbox.parse_config({}).business_hours.timezone
    assert all(9 <= at.astimezone(zone).hour < 20 for at, _, _ in arrived)
    firsts = [at for at, number, text in arrived if is_first(number, text)]
    gaps = [later - earlier for earlier, later in pairwise(firsts)]
    # What is late by less than late_after_minutes goes at once, the next when it was planned.
    assert min(gaps) >= timedelta(minutes=interval[0] - 2, seconds=-2), min(gaps)
    statuses = Counter(box.sql("SELECT status, held_because IS NOT NULL FROM scheduled_messages"))
    others = {key: count for key, count in statuses.items() if key != ("sent", 0)}
    assert sum(others.values()) <= month.cuts, statuses
    print(f"\na month, {'readable' if readable else 'unreadable'}: cuts={month.cuts} {statuses}")


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
