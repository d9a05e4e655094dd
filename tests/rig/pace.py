"""Hours and paces of Los Angeles."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timezone
from zoneinfo import ZoneInfo

import smsbox

UTC = timezone.utc
LOS_ANGELES = ZoneInfo("America/Los_Angeles")


def la(text: str, fold: int = 0) -> datetime:
    """Read a wall time of Los Angeles; fold 1 is the second of two."""
    return datetime.fromisoformat(text).replace(tzinfo=LOS_ANGELES, fold=fold).astimezone(UTC)


def make_pace(**keys: object) -> smsbox.Pace:
    return smsbox.parse_config({"pacing": keys}).pacing


def make_hours(
    opens: int = 9 * 60,
    closes: int = 20 * 60,
    days: Iterable[int] = range(7),
    closed_on: Iterable[date] = (),
    zone: str = "America/Los_Angeles",
) -> smsbox.BusinessHours:
    return smsbox.BusinessHours(
        timezone=ZoneInfo(zone),
        opens=opens,
        closes=closes,
        days=frozenset(days),
        closed_on=frozenset(closed_on),
    )
