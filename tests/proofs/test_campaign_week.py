"""The whole box for days of a campaign, in seconds: the real scheduler, store and driver, a
simulated modem, and a clock that skips the waits."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest

import smsbox

UTC = timezone.utc


class FastBox:
    """One database, one modem, and a clock that can be stopped and started like a Pi."""

    def __init__(self, path: Path, config: smsbox.Config, start: datetime) -> None:
        self.path = path
        service = replace(config.service, poll_seconds=3600.0)  # nothing is changed by hand
        self.config = replace(config, service=service)
        self.clock = smsbox.FastClock(smsbox.Waiting(), start, lambda wait_s, at: 0.0)
        self.arrived: list[tuple[datetime, smsbox.Tpdu]] = []

    def schedule(self, count: int, seed: int) -> list[smsbox.ScheduledMessage]:
        rows = "".join(
            f'+1213555{2000 + i},Name {i},"Hello {i} [BUBBLE] the second bubble of {i}"\n'
            for i in range(count)
        )
        text = "phone_number,customer_name,message_content\n" + rows
        reading = smsbox.read_campaign(text.splitlines(True), smsbox.ReadingOrder("week"))
        planned = smsbox.plan(
            reading.messages, self.clock.now(), random.Random(seed), self.config.pacing,
            self.config.business_hours,
        )  # fmt: skip
        database = smsbox.Database.create_or_open(str(self.path))
        with database.transaction():
            database.queue.add_campaign(planned, seed, self.clock.now(), "test")
        database.close()
        return planned

    def serve(self) -> None:
        database = smsbox.Database.create_or_open(str(self.path))
        around = smsbox.Surroundings(
            self.clock,
            lambda name, baud: smsbox.SocketPort("sim:", smsbox.open_simulated_port(self._arrive)),
            smsbox.SystemdNotifier({}), None, lambda status: None, lambda: "the test",
        )  # fmt: skip
        smsbox.Service(self.config, database, around, random.Random(3)).run(drain=True)
        database.close()

    def _arrive(self, tpdu: smsbox.Tpdu) -> None:
        self.arrived.append((self.clock.now(), tpdu))


def assert_every_text_came_once_in_order_and_in_hours(box: FastBox, count: int) -> None:
    texts = [tpdu.text for _, tpdu in box.arrived]
    expected = [text for i in range(count) for text in (f"Hello {i}", f"the second bubble of {i}")]
    assert texts == expected
    for at, _ in box.arrived:
        local = at.astimezone(box.config.business_hours.timezone)
        assert 9 <= local.hour < 20
    firsts = [at for at, tpdu in box.arrived if str(tpdu.text).startswith("Hello")]
    for earlier, later in pairwise(firsts):
        assert later - earlier >= timedelta(minutes=4) - timedelta(seconds=2)


def test_three_days_go_as_planned_over_the_night_the_clock_changes(
    tmp_path: Path, config: smsbox.Config
) -> None:
    start = datetime(2025, 10, 31, 20, 0, tzinfo=UTC)  # 1 PM; on November 2 the clock goes back
    box = FastBox(tmp_path / "smsbox.db", config, start)
    planned = box.schedule(250, seed=5)
    box.serve()
    assert_every_text_came_once_in_order_and_in_hours(box, 250)
    firsts = [at for at, tpdu in box.arrived if str(tpdu.text).startswith("Hello")]
    for at, each in zip(firsts, planned, strict=True):
        assert timedelta() <= at - each.scheduled_for < timedelta(seconds=3)


@pytest.mark.long
def test_a_month_goes_as_planned(tmp_path: Path, config: smsbox.Config) -> None:
    box = FastBox(tmp_path / "smsbox.db", config, datetime(2025, 10, 20, 17, 0, tzinfo=UTC))
    box.schedule(2600, seed=6)
    box.serve()
    assert_every_text_came_once_in_order_and_in_hours(box, 2600)


def test_a_queue_that_was_late_for_a_day_is_paced_anew_without_a_burst(
    tmp_path: Path, config: smsbox.Config
) -> None:
    box = FastBox(tmp_path / "smsbox.db", config, datetime(2025, 11, 10, 17, 0, tzinfo=UTC))
    box.schedule(60, seed=7)
    box.clock = smsbox.FastClock(
        smsbox.Waiting(), datetime(2025, 11, 11, 19, 0, tzinfo=UTC), lambda wait_s, at: 0.0
    )
    box.serve()
    assert_every_text_came_once_in_order_and_in_hours(box, 60)
