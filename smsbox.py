#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "pyserial>=3.5",
#     "gpiozero>=2.0.1",
#     "lgpio>=0.2.2",
#     "tomli>=2.0; python_version < '3.11'",
#     "tzdata",
# ]
# ///
"""smsbox: an opt-in SMS campaign, sent by a Raspberry Pi at the pace of a person.

A CSV goes in on one side; on the other side a GSM modem writes to one recipient after another,
4-7 minutes apart, in business hours only, over days, through power cuts. The rooms of this
file stand in the order of the data's journey:

     1 Terms            the words: constants, enums, values, errors, the four edges
     2 Settings         each setting declared once: default, check, meaning; the example file
     3 Coding           text -> segments -> SMS-SUBMIT; SMS-DELIVER and reports -> values
     4 Campaign         CSV rows -> messages; headers, phone numbers, templates, bubbles
     5 Pacing           business hours and intervals; the plan, and the plan made anew
     6 Replies          what an incoming text asks for
     7 Store            the database: schema, every SQL statement, allowed transitions
     8 Copies           daily copies, restoring one, and files that are whole or not there
     9 AT               bytes -> lines and prompts; what a line means
    10 Modem            the conversation: find, attach, submit, read what is stored
    11 Edges            waiting, serial port, clock trust, sd_notify, lamps, files, journal
    12 Service          recover, tick, send: the room that joins the others
    13 Simulated modem  a modem in software behind port = "sim:"
    14 Command line     the parser, one cmd_* per command, rendering, exit statuses

One type per station, one function per step, no way back:

    CSV line -4-> Message -5-> ScheduledMessage -7-> row 'scheduled'             smsbox schedule
    row -7-> StoredRow -4-> bubbles -3-> SMS-SUBMIT -10-> reference -7-> 'sent'  smsbox run
    TPDU -10-> -3-> reply or report -6-> request -7-> opt-out, cancelled rows, delivered_at
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import re
import stat
import sys
from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import Field, dataclass, field, fields, replace
from datetime import date, datetime, time, timedelta, timezone
from enum import Enum
from functools import cache, lru_cache, partial
from io import BufferedReader, BufferedWriter, BytesIO, TextIOWrapper
from itertools import groupby, pairwise
from operator import attrgetter
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    NewType,
    NoReturn,
    Protocol,
    TextIO,
    TypeAlias,
    TypeVar,
    cast,
    get_type_hints,
)

_T = TypeVar("_T")

# Patterns are strings: `re` compiles and keeps each when it is first used. Everything heavier
# (sqlite3, csv, random, zoneinfo, serial, gpiozero) is imported where it is
# used: `smsbox --help` answers at once, and a dry run or the demo needs no package at all.
if TYPE_CHECKING:
    import random
    import sqlite3
    from zoneinfo import ZoneInfo

    Zones = tuple[ZoneInfo, ...]  # where a recipient may be; (): nobody knows

VERSION = "2.0.0"

# === 1 Terms =====================================================================================
# The words of the program: constants with their units, enums whose values are the database's words,
# values that travel between rooms, errors named by what the caller does next, and the Protocols
# of the four edges (clock, port, lamps, notifier). It knows nothing: no room, no file, no clock.

UTC = timezone.utc
BUBBLE_MARK = "[BUBBLE]"
MAX_SEGMENTS = 255  # the total of a concatenated message is one octet, TS 23.040 9.2.3.24.1
DATABASE_TIME = "%Y-%m-%d %H:%M:%S"  # UTC, the form of SQLite's own datetime()
TEST_CAMPAIGN = "(test)"  # of rows that an operator tries on their own phone; no campaign at all

PhoneNumber = NewType("PhoneNumber", str)  # E.164: '+' and 8 to 15 digits
MessageId = NewType("MessageId", int)  # scheduled_messages.id
BubbleId = NewType("BubbleId", int)  # messages.id
MessageReference = NewType("MessageReference", int)  # TP-MR, 0..255


class RowStatus(str, Enum):
    """scheduled_messages.status: the operator's view of one message."""

    SCHEDULED = "scheduled"
    SENT = "sent"
    CANCELLED = "cancelled"
    FAILED = "failed"


class BubbleStatus(str, Enum):
    """messages.status and segments.status: how far one bubble or segment has come."""

    QUEUED = "queued"
    SENDING = "sending"  # durable before the modem gets the TPDU
    SENT = "sent"  # the service centre has accepted it
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNCONFIRMED = "unconfirmed"  # handed over, result never seen: nobody knows


class Encoding(str, Enum):
    """The alphabet of a text's user data, TS 23.038 section 4."""

    GSM7 = "gsm7"
    UCS2 = "ucs2"


class Request(str, Enum):
    """What an incoming text asks for."""

    STOP = "stop"
    HELP = "help"
    START = "start"
    PERHAPS_STOP = "perhaps stop"
    NOTHING = "nothing"


class HeldCode(str, Enum):
    """scheduled_messages.held_code: why the box holds a row; "" for one that was held by hand."""

    LATE = "late"
    CUT = "cut"  # a part was sent, the rest is late
    UNSENDABLE = "unsendable"  # no hour and no quota will ever suit it
    RESTORED = "restored"
    ERROR = "error"


class PausedBy(str, Enum):
    """Who paused the box or a campaign."""

    OPERATOR = "operator"
    PHONE = "phone"  # by a text of the operator's number
    BOX = "box"


class Delivery(str, Enum):
    """What the network says became of a segment that it accepted."""

    DELIVERED = "delivered"
    TRYING = "trying"  # not yet; it will try again
    FAILED = "failed"  # for good
    EXPIRED = "expired"  # for good: its time ran out
    UNKNOWN = "unknown"  # handed on, and more can't be learned


class RefusalClass(str, Enum):
    """Whom a refusal speaks about, and so what the service does with it."""

    TRANSIENT = "transient"  # try again after retry_minutes
    NETWORK = "network"  # no network: the queue waits, no attempt is counted
    RECIPIENT = "recipient"  # this message fails, the next one goes on
    ACCOUNT = "account"  # contract or service centre: the box pauses
    SIM = "SIM"  # it is out or locked: the queue waits, no attempt is counted
    MODEM = "modem"  # the modem is unwell: attach again, then try again
    OURS = "ours"  # we built something invalid: this message fails
    UNKNOWN = "unknown"  # may have been sent all the same


class Ready(Enum):
    """What the green lamp says."""

    STARTING = "starting"
    RESTING = "paused or outside the hours"
    UNDER_WAY = "a campaign is under way"
    IDLE = "well and idle"


class Fault(Enum):
    """What the red lamp says; the first that holds, in this order."""

    DISK = "database or disk"
    PROGRAM = "an error of smsbox itself"
    NO_MODEM = "no modem"
    SIM = "SIM"
    NO_NETWORK = "no network"
    ACCOUNT = "account or service centre refuses"
    CLOCK = "clock not trusted"
    ATTENTION = "something awaits a person"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class LampState:
    """What the three lamps show at one time."""

    ready: Ready = Ready.STARTING
    fault: Fault = Fault.NONE
    sending: bool = False


# --- values on the way out


@dataclass(frozen=True, slots=True)
class Message:
    """One row of a campaign: one recipient, one text (still with its [BUBBLE] marks)."""

    row: int  # as the spreadsheet counts, the header being row 1
    phone_number: PhoneNumber
    customer_name: str
    message_content: str
    campaign_name: str
    campaign_message_id: str  # the CSV's own id, else its row number
    bubbles: int
    segments: int
    encoding: Encoding  # ucs2 if any bubble needs it
    timezone: str = ""
    consent_at: str = ""
    consent_source: str = ""
    written: str = ""  # the text as it was before --simplify, where that changed it


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a row can't be taken: the spreadsheet row, column, value, and reason with its fix."""

    row: int
    column: str
    value: str
    problem: str


class Skipped(NamedTuple):
    """A good row that is left out on purpose, with the reason."""

    row: int
    phone_number: PhoneNumber
    reason: str


@dataclass(frozen=True, slots=True)
class ScheduledMessage:
    """A message with its place in the plan. Gap and skip are what was drawn before it, seconds."""

    message: Message
    scheduled_for: datetime
    gap_s: float
    skip_s: float
    opens_day: bool  # moved to an opening: nothing of gap and skip carried over


@dataclass(frozen=True, slots=True)
class Segmentation:
    """How a text is cut: units of each segment (septets or 16-bit units), header not counted."""

    encoding: Encoding
    units: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tpdu:
    """A decoded TPDU; what its kind does not have is None."""

    kind: str  # 'DELIVER', 'SUBMIT' or 'STATUS-REPORT'
    smsc: str | None
    number: str
    text: str | None  # None for 8-bit data and reports
    sent_at: datetime | None  # None as well where it is no time
    discharged_at: datetime | None
    reference: int | None  # TP-MR
    status: int | None  # TP-ST
    concatenation: tuple[int, int, int] | None  # reference, total, sequence
    data: bytes = b""  # 8-bit data
    damage: str = ""  # why this is not all of it; "": it is whole


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row of scheduled_messages as the rooms beyond the store see it."""

    id: MessageId
    phone_number: str
    customer_name: str
    message_content: str
    scheduled_for: datetime
    status: RowStatus
    campaign_name: str
    campaign_message_id: str
    sent_at: datetime | None
    error_message: str
    held_because: str
    anyway: bool
    attempts: int
    delivery: str  # '' while it is not known: a Delivery's word once it is sent
    timezone: str = ""
    until: datetime | None = None  # not sent after it
    held_code: str = ""  # a HeldCode's word
    gap_s: float | None = None  # drawn before it when it was planned; None: drawn from its id
    skip_s: float | None = None
    begun_at: datetime | None = None  # when its first segment was handed over last
    retry_at: datetime | None = None  # not tried again before
    at_once: bool = False  # of send and --try: it waits for no pace
    settled_at: datetime | None = None  # a failed one that a person has dealt with
    # What other tables say of it.
    said_stop_at: str = ""  # its number; "": it did not
    doubtful_at: str = ""  # its number's first reply that waits for a person; "": none
    last_segment_at: datetime | None = None  # when some of it went out, or may have, last

    @property
    def is_begun(self) -> bool:
        """True if some segment of it may have reached its recipient."""
        return self.last_segment_at is not None


@dataclass(frozen=True, slots=True)
class Bubble:
    """A row of messages: one bubble of one message."""

    id: BubbleId
    row_id: MessageId | None
    number: int  # 1..n
    phone_number: str
    body: str
    status: BubbleStatus
    error_message: str = ""
    total: int = 1  # bubbles of its message


class Segment(NamedTuple):
    """A segment of a bubble on its way to the modem."""

    bubble: Bubble
    sequence: int  # 1..total
    total: int


class Report(NamedTuple):
    """What a status report says of one segment."""

    number: str
    reference: int
    delivery: Delivery
    words: str
    sent_at: datetime  # when the service centre got the segment
    discharged_at: datetime


class StoredTpdu(NamedTuple):
    """A TPDU in the modem's or SIM's memory."""

    memory: str  # 'SM', 'ME', 'SR', ...
    place: int  # its <index> there
    pdu: str  # or whatever lines stand in its place
    is_received: bool = True  # False: it was sent, or is still to be sent
    is_whole: bool = True  # it has as many octets as its heading says


# --- errors, named by what the caller does next


class SmsboxError(Exception):
    """Something the operator is told in one sentence; exit_status is the command's."""

    exit_status = 1


class UsageError(SmsboxError):
    """The command was not given right."""

    exit_status = 2


class CampaignError(SmsboxError):
    """The campaign's data can't be taken; all problems at once."""

    exit_status = 65

    def __init__(self, sentence: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(sentence)
        self.problems = tuple(problems)


class StoreError(SmsboxError):
    """The database is busy, missing, damaged or full, or what is asked can't be done now."""

    exit_status = 75


class Busy(StoreError):
    """Another process has the database for too long."""


class DiskFull(StoreError):
    """There is no room for what has to be written."""


class Damaged(StoreError):
    """The database can't be read: nothing is sent from it."""


class NotADatabase(StoreError):
    """There is another kind of file in its place."""


class RowRefused(StoreError):
    """The database's own rules refuse what was to be written: trying again would not help."""


class ConfigError(SmsboxError):
    """The configuration can't be used; the sentence names the key and the fix."""

    exit_status = 78


class ModemError(SmsboxError):
    """The modem could not do it."""


class PortLost(ModemError):
    """The port is gone or can't be opened: reopen with back-off."""


class NoAnswer(ModemError):
    """Nothing, or nothing final, came in time: resynchronize. Nothing was handed over."""


class NotReady(ModemError):
    """SIM, PIN or registration: wait, burn no rows."""

    def __init__(self, fault: Fault, sentence: str) -> None:
        super().__init__(sentence)
        self.fault = fault


class Refused(ModemError):
    """The modem or the network said no, with a code where it gave one."""

    def __init__(self, refusal: RefusalClass, words: str, code: str = "") -> None:
        super().__init__(words)
        self.refusal = refusal
        self.code = code  # 'CMS 38'; "": it gave none


class OutcomeUnknown(ModemError):
    """The TPDU was written and no result came: it may have been sent."""


class StopRequested(BaseException):
    """A signal asked the program to end; raised at the wait point and nowhere else."""


# --- the four edges


class Port(Protocol):
    """A byte stream to a modem. All methods raise PortLost once it is gone."""

    name: str

    def fileno(self) -> int:
        """Return the descriptor that the wait point selects on."""

    def read(self) -> bytes:
        """Take what has arrived; b"" when there is nothing. Never blocks."""

    def write(self, data: bytes) -> None:
        """Hand all of data to the operating system."""

    def close(self) -> None:
        """Release the port; never raises."""


class Clock(Protocol):
    """The time, and the one place where the program waits."""

    def now(self) -> datetime:
        """Return the aware UTC time."""

    def monotonic(self) -> float:
        """Return seconds that never jump."""

    def until(
        self, deadline: float, port: Port | None = None, *, interruptible: bool = True
    ) -> bool:
        """Wait until the monotonic deadline, or until the port has bytes (then True).

        A stop signal raises StopRequested if the wait is interruptible.
        """


class Lamps(Protocol):
    """The box's face."""

    def show(self, state: LampState) -> None:
        """Change what the lamps say."""

    def drive(self, monotonic: float) -> float | None:
        """Set the lamps to their level at this time; the time of the next change, None: never."""


class Notifier(Protocol):
    """The service manager."""

    pet_every_s: float | None  # how often pet() is wanted; None: no watchdog

    def notify(self, message: str) -> None:
        """Send READY=1, STATUS=..., STOPPING=1."""

    def pet(self) -> None:
        """Send WATCHDOG=1."""


# --- words that several rooms use


def to_database_time(at: datetime) -> str:
    """Write an aware time in the database's form.

    >>> to_database_time(datetime(2025, 11, 9, 18, 0, tzinfo=UTC))
    '2025-11-09 18:00:00'
    """
    return at.astimezone(UTC).strftime(DATABASE_TIME)


def from_database_time(text: str) -> datetime:
    """Read a time in the database's form.

    >>> from_database_time("2025-11-09 18:00:00").isoformat()
    '2025-11-09T18:00:00+00:00'
    """
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@lru_cache(maxsize=1000)
def find_zone(name: str) -> ZoneInfo:
    """Find a zone by its name; ValueError for what is none, and for "EST", which has no summer.

    >>> find_zone("America/New_York").key
    'America/New_York'
    """
    from zoneinfo import ZoneInfo

    with suppress(LookupError, ValueError, OSError):
        if "/" in name or name == "UTC":
            return ZoneInfo(name)
    raise ValueError(f'"{name}" is no zone: write one like America/New_York')


def mask(number: str) -> str:
    """Hide a phone number for the journal: the last four digits are left.

    >>> mask("+14085551234")
    '...1234'
    """
    return f"...{number[-4:]}" if len(number) > 4 else number


def printable(text: str) -> str:
    """Show text that came from outside so that it can't steer a terminal or forge a log line.

    >>> printable("a\\x1b[2Jb\\nc")
    'a\\\\x1b[2Jb\\\\nc'
    """
    return re.sub(_UNPRINTABLE, lambda match: match[0].encode("unicode_escape").decode(), text)


# Controls, lone surrogates, and the marks that turn the direction of a line around.
_UNPRINTABLE = "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]"


def plural(count: int, noun: str) -> str:
    """Count a noun.

    >>> plural(1, "bubble"), plural(3, "bubble")
    ('1 bubble', '3 bubbles')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


# === 2 Settings ==================================================================================
# Each setting is declared once: its name and type, its default, how it is read, its meaning. The
# checks, the defaults and config.example.toml all come from there, so they can't drift apart.
# It does not know files or the command line: a parsed TOML table goes in, a Config comes out.

Reader = Callable[[object], Any]  # raises ValueError with what is wanted instead


# --- the readers


def _text(pattern: str = ".*", wanted: str = 'a text in quotes, like "abc"') -> Reader:
    def read(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(wanted)  # no line feed: some stand in the unit, one a line
        return value

    return read


def _number(low: float, high: float, wanted: str, kind: Any = (int, float)) -> Reader:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            raise ValueError(wanted)
        return float(value) if kind is not int else value

    return read


def _whole(low: int, high: int) -> Reader:
    return _number(low, high, f"a whole number from {low} to {high}", int)


def _list_of(read: Reader, wanted: str, shape: Callable[[Iterator[Any]], Any] = tuple) -> Reader:
    def read_all(value: object) -> Any:
        with suppress(ValueError):
            if isinstance(value, (list, tuple)):
                return shape(read(each) for each in value)
        raise ValueError(wanted)

    return read_all


def _span(high: float, what: str) -> Reader:
    wanted = f"two {what}, the smaller first, like [4, 7]"
    return _list_of(_number(0, high, wanted), wanted, _in_order)


def _read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _read_time_of_day(value: object) -> int:
    text = f"{value:%H:%M}" if isinstance(value, time) else str(value)
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)|24:00", text)
    if not match:
        raise ValueError('a time of day in quotes, "00:00" to "24:00"')
    return 1440 if match[1] is None else int(match[1]) * 60 + int(match[2])


DAY_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _read_day(value: object) -> int:
    numbers = {name[:length]: day for day, name in enumerate(DAY_NAMES) for length in (3, None)}
    if (day := numbers.get(str(value).lower())) is None:
        raise ValueError
    return day


def _read_date(value: object) -> date:
    return value if type(value) is date else date.fromisoformat(_text()(value))


def _read_zone(value: object) -> ZoneInfo:
    try:
        return find_zone(str(value))
    except ValueError as error:
        raise ValueError(
            'a zone by its city, like "America/Los_Angeles" (if so: sudo apt install tzdata)'
        ) from error


def _in_order(numbers: Iterator[float]) -> tuple[float, float]:
    low, top = numbers
    if low > top:
        raise ValueError
    return low, top


def _at_least_one(values: Iterator[Any]) -> tuple[Any, ...]:
    if found := tuple(values):
        return found
    raise ValueError


_DAYS = _list_of(
    _read_day, 'a list of days, like ["mon", "tue"]', lambda days: frozenset(_at_least_one(days))
)
_DATES = _list_of(_read_date, 'a list of dates, like ["2026-12-25"]', frozenset)
_TEXTS = _list_of(_text(), 'a list of texts, like ["one", "two"]')
_SECONDS = _number(0, 86_400, "a number of seconds, 0 or more")
_MINUTES = _number(0, 100_000, "a number of minutes, 0 or more")
_CAP = _whole(0, 1_000_000)
_PIN = _whole(0, 27)


def setting(default: object, read: Reader, help: str, example: object = None) -> Any:
    """Declare a setting of a section. default: in TOML's terms, None: absent, shown as example."""
    return field(metadata={"default": default, "read": read, "help": help, "example": example})


# --- the sections


@dataclass(frozen=True)
class ModemSettings:
    """How the modem is reached, and how long it may take."""

    port: str = setting(
        "auto",
        _text(),
        '"auto", a device like "/dev/ttyUSB2", "sim:" (a modem in'
        ' software), or "socket://host:port"',
    )
    baud: int = setting(115200, _whole(1200, 921_600), "bits a second, on a UART")
    sim_pin: str = setting(
        "",
        _text(r"(\d{4,8})?", '4 to 8 digits in quotes, like "1234"'),
        "the SIM's PIN, in quotes; empty: none",
    )
    smsc: str = setting("", _text(), 'service centre, like "+12063130004"; empty: the SIM\'s own')
    delivery_reports: bool = setting(True, _read_flag, "ask the network for delivery reports")
    send_timeout_seconds: float = setting(
        120,
        _number(1, 600, "a number of seconds from 1 to 600"),
        "how long a segment's result may take; half as long again is listened on",
    )
    power_key_gpio: int | None = setting(None, _PIN, "BCM pin of a HAT's power key", 4)


@dataclass(frozen=True)
class Pace:
    """The pace of a person."""

    first_after_seconds: float = setting(60, _SECONDS, "from the start to the first message")
    interval_minutes: tuple[float, float] = setting(
        [4, 7], _span(10_000, "numbers of minutes"), "between two messages, drawn evenly"
    )
    skip_chance: tuple[float, float] = setting(
        [0.15, 0.20],
        _span(1, "numbers from 0 to 1"),
        "chance of an extra pause, drawn for each message",
    )
    skip_minutes: tuple[float, float] = setting(
        [10, 15], _span(10_000, "numbers of minutes"), "length of the extra pause"
    )
    bubble_gap_seconds: tuple[float, float] = setting(
        [2, 6], _span(3_600, "numbers of seconds"), "between two bubbles of one message"
    )
    max_messages_per_day: int = setting(0, _CAP, "0: no limit")
    max_segments_per_day: int = setting(0, _CAP, "0: no limit")
    max_recipients_per_month: int = setting(0, _CAP, "0: no limit")
    plan_month_starts_on: int = setting(1, _whole(1, 28), "day on which the SIM's plan begins anew")

    @property
    def is_limited(self) -> bool:
        """True if the SIM's plan has a limit."""
        return bool(
            self.max_messages_per_day or self.max_segments_per_day or self.max_recipients_per_month
        )


@dataclass(frozen=True)
class BusinessHours:
    """When the sender writes: opens <= local time < closes, in minutes after local midnight.

    Monday is day 0.
    """

    timezone: ZoneInfo = setting("America/Los_Angeles", _read_zone, "the sender's zone")
    opens: int = setting("09:00", _read_time_of_day, "first minute of the day")
    closes: int = setting(
        "20:00", _read_time_of_day, 'nothing begins from then on; "24:00" is midnight'
    )
    days: frozenset[int] = setting([name[:3] for name in DAY_NAMES], _DAYS, "days of the week")
    closed_on: frozenset[date] = setting([], _DATES, 'holidays, like ["2026-12-25"]')


@dataclass(frozen=True)
class RecipientHours:
    """When a recipient may be written to, in the recipient's zone."""

    enabled: bool = setting(True, _read_flag, "keep to the recipient's hours too")
    opens: int = setting("08:00", _read_time_of_day, "in every zone where the recipient may be")
    closes: int = setting("21:00", _read_time_of_day, "in every zone where the recipient may be")
    strict: bool = setting(
        False, _read_flag, "Monday to Friday, 10 to 17, in every zone, and not on closed_on"
    )


@dataclass(frozen=True)
class ServiceSettings:
    """How the daemon works."""

    database: str = setting(
        "", _text(), "empty: /var/lib/smsbox/smsbox.db if that folder exists, else in your home"
    )
    poll_seconds: float = setting(
        10,
        _number(0.05, 60, "a number of seconds, 0.05 to 60"),
        "how often the daemon looks for changes made by hand",
    )
    late_after_minutes: float = setting(
        2, _MINUTES, "a row later than this keeps its own gap to the one before: no burst"
    )
    expire_after_days: float = setting(
        7, _number(0.01, 3650, "a number of days"), "a row later than this is held for you"
    )
    retry_minutes: tuple[float, ...] = setting(
        [1, 5, 15],
        _list_of(_number(0, 10_000, ""), "a list of minutes, like [1, 5, 15]"),
        "waits before a passing refusal is tried again",
    )
    backup_dir: str = setting(
        "", _text(), "a folder for daily copies elsewhere, like a USB stick's"
    )


@dataclass(frozen=True)
class ClockSettings:
    """Whose word on the time is taken."""

    require_trust: bool = setting(
        True, _read_flag, "send nothing until the time is known to be right"
    )
    sources: tuple[str, ...] = setting(
        ["ntp"],
        _list_of(
            _text("ntp|rtc"),
            'a list of "ntp" and "rtc"; "network" is gone: give the box the Internet, "ntp", or a'
            ' clock with a battery, "rtc"',
            _at_least_one,
        ),
        'who vouches for it: "ntp", "rtc" (a clock with a battery)',
    )


@dataclass(frozen=True)
class ReplySettings:
    """How replies are read and answered."""

    sender_name: str = setting("", _text(), "who writes, in confirmations")
    help_contact: str = setting("", _text(), "where help is to be had")
    stop_words: tuple[str, ...] = setting([], _TEXTS, "more words that mean stop")
    help_words: tuple[str, ...] = setting([], _TEXTS, "more words that mean help")
    start_words: tuple[str, ...] = setting([], _TEXTS, "more words that mean start")
    hold_on_reply: bool = setting(False, _read_flag, "hold somebody's rows once they answered")


@dataclass(frozen=True)
class AlertSettings:
    """Whom the box tells when it needs a person."""

    operator: str = setting(
        "",
        _text(r"|\+[1-9][0-9]{7,14}", "must be a number with + and its country, like +12135551234"),
        "your own number, for alerts",
    )


@dataclass(frozen=True)
class CostSettings:
    """What a segment costs."""

    price_per_segment: float = setting(
        0, _number(0, 1_000, "a price, 0 or more"), "for the preview; 0: not shown"
    )
    currency: str = setting("USD", _text(), "its currency")


@dataclass(frozen=True)
class LampSettings:
    """BCM pin numbers; None: no such lamp."""

    ready: int | None = setting(None, _PIN, "BCM pin of the green lamp", 17)
    sending: int | None = setting(None, _PIN, "BCM pin of the sending lamp", 27)
    fault: int | None = setting(None, _PIN, "BCM pin of the red lamp", 22)
    active_high: bool = setting(True, _read_flag, "false: the lamps light when the pin is low")


@dataclass(frozen=True)
class Config:
    """Every setting of the box."""

    modem: ModemSettings
    pacing: Pace
    business_hours: BusinessHours
    recipient_hours: RecipientHours
    service: ServiceSettings
    clock: ClockSettings
    replies: ReplySettings
    alerts: AlertSettings
    cost: CostSettings
    lamps: LampSettings


SECTIONS: Mapping[str, Any] = get_type_hints(Config)  # name -> class, in the file's order


# --- from TOML to a Config, and the example file


def parse_config(tables: Mapping[str, object]) -> Config:
    """Check a parsed TOML file against the settings; ConfigError names key and fix."""
    _refuse_unknown_keys(tables)
    sections = {}
    for name, section in SECTIONS.items():
        table: Any = tables.get(name, {})
        values = {each.name: _read_setting(name, each, table) for each in fields(section)}
        if values.get("opens", 0) >= values.get("closes", 1):
            raise ConfigError(f"[{name}] opens must come before closes")
        sections[name] = section(**values)
    return Config(**sections)


def _read_setting(section: str, setting: Field[Any], table: Mapping[str, object]) -> Any:
    default = setting.metadata["default"]
    value = table.get(setting.name, default)
    if value is None and default is None:
        return None
    try:
        return setting.metadata["read"](value)
    except ValueError as error:
        shown = "not one" if setting.name == "sim_pin" else _show_toml(value)
        raise ConfigError(f"[{section}] {setting.name} is {shown}: write {error}") from error


def _refuse_unknown_keys(tables: Mapping[str, object]) -> None:
    known = {name: [each.name for each in fields(section)] for name, section in SECTIONS.items()}
    for section, table in tables.items():
        if section not in known:
            homes = [name for name, keys in known.items() if section in keys]
            if homes:
                raise ConfigError(f"{section} stands before any section: put it below [{homes[0]}]")
            near = _find_nearest(section, known)
            raise ConfigError(
                f"there is no section [{section}] (did you mean [{near}]?): correct it"
            )
        if not isinstance(table, Mapping):
            raise ConfigError(f"{section} is a section: write [{section}] on a line of its own")
        for key in table:
            if key not in known[section]:
                near = _find_nearest(key, known[section])
                raise ConfigError(
                    f"[{section}] has no setting {key} (did you mean {near}?): correct it"
                )


def _find_nearest(word: str, known: Iterable[str]) -> str:
    import difflib

    return difflib.get_close_matches(word, list(known), 1, 0)[0]


def _show_toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def render_example_config() -> str:
    """Write config.example.toml: every setting with its default, unit and meaning."""
    lines = [
        "# smsbox settings. Every line is optional and shows its default.",
        "# After a change: sudo systemctl restart smsbox",
    ]
    for name, section in SECTIONS.items():
        lines += ["", f"[{name}]"]
        for each in fields(section):
            told = each.metadata
            absent = "# " if told["default"] is None else ""
            value = _show_toml(told["example"] if absent else told["default"])
            lines.append(f"{absent}{each.name} = {value}  # {told['help']}")
    return "\n".join(lines) + "\n"


# === 3 Coding ====================================================================================
# Text -> alphabet -> segments -> SMS-SUBMIT, and SMS-DELIVER and SMS-STATUS-REPORT -> values, octet
# by octet after 3GPP TS 23.038 (alphabets) and TS 23.040 (TPDUs). What is written is exactly what
# arrives: a character outside the GSM alphabet makes the bubble UCS-2, none is ever replaced.
# What came in is read field by field, as far as it can be read. It does not know the modem or the
# wire; a TPDU that names nobody is a ValueError and nothing else.

# TS 23.038 6.2.1: the place of a character is its code; 0x1B escapes to the extension table.
_DEFAULT_ALPHABET = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_ESCAPE = 0x1B
_EXTENSION = {  # TS 23.038 6.2.1.1
    0x0A: "\f", 0x14: "^", 0x28: "{", 0x29: "}", 0x2F: "\\",
    0x3C: "[", 0x3D: "~", 0x3E: "]", 0x40: "|", 0x65: "€",
}  # fmt: skip
_TO_SEPTETS = {ord(char): chr(code) for code, char in enumerate(_DEFAULT_ALPHABET)}
_TO_SEPTETS.pop(_ESCAPE)
_TO_SEPTETS |= {ord(char): f"\x1b{chr(code)}" for code, char in _EXTENSION.items()}
_GSM7_TEXT = "[" + re.escape("".join(map(chr, _TO_SEPTETS))) + "]*"
_EXTENDED = "[" + re.escape("".join(_EXTENSION.values())) + "]"

_GSM7_SINGLE, _GSM7_CONCATENATED = 160, 153  # septets
_UCS2_SINGLE, _UCS2_CONCATENATED = 70, 67  # 16-bit units
_CONCATENATION_8_BIT, _CONCATENATION_16_BIT = 0x00, 0x08  # information elements, 9.2.3.24
_DCS_UCS2 = 0x08
_INTERNATIONAL, _UNKNOWN_TYPE, _ALPHANUMERIC = 0x91, 0x81, 0x50  # type of address, 9.1.2.5
_ADDRESS_DIGITS = "0123456789*#abc"

# Typed on phones and by word processors, outside the GSM alphabet, with a plain equal inside it.
GSM_REPLACEMENTS: Mapping[str, str] = {
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u2032": "'", "`": "'", "\u00b4": "'",
    "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2033": '"', "\u00ab": '"', "\u00bb": '"',
    "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-",
    "\u2026": "...", "\u00a0": " ", "\u2007": " ", "\u2009": " ", "\u202f": " ", "\u2022": "*",
}  # fmt: skip


def simplify_text(text: str) -> str:
    """Put the plain equals of GSM_REPLACEMENTS in, and nothing else: an accent stays.

    >>> simplify_text("\\u201ccafé\\u201d\\u2026")
    '"café"...'
    """
    return text.translate({ord(char): plain for char, plain in GSM_REPLACEMENTS.items()})


def find_ucs2_characters(text: str) -> list[str]:
    """Return the characters, once each, that force a text into UCS-2.

    >>> find_ucs2_characters("It\\u2019s 5 €")
    ['’']
    """
    return [char for char in dict.fromkeys(text) if ord(char) not in _TO_SEPTETS]


def segment_text(text: str) -> Segmentation:
    """Cut a text greedily into segments: 160 or 153 septets, 70 or 67 16-bit units.

    An escape pair and a surrogate pair are never cut. The number of segments is not limited here.
    """
    if re.fullmatch(_GSM7_TEXT, text):
        septets = len(text) + len(re.findall(_EXTENDED, text))
        if septets <= _GSM7_SINGLE:
            return Segmentation(Encoding.GSM7, (septets,))
        return Segmentation(Encoding.GSM7, tuple(map(len, _cut_septets(text))))
    return Segmentation(Encoding.UCS2, tuple(len(octets) // 2 for octets in _cut_ucs2(text)))


def _cut_septets(text: str) -> list[bytes]:
    septets = text.translate(_TO_SEPTETS).encode("latin-1")
    sizes = _GSM7_SINGLE, _GSM7_CONCATENATED
    return _cut(septets, *sizes, lambda end: septets[end - 1] == _ESCAPE)


def _cut_ucs2(text: str) -> list[bytes]:
    octets = text.encode("utf-16-be", "surrogatepass")
    sizes = (
        2 * _UCS2_SINGLE,
        2 * _UCS2_CONCATENATED,
    )
    return _cut(octets, *sizes, lambda end: 0xDC <= octets[end] <= 0xDF, 2)


def _cut(
    units: bytes, single: int, each: int, splits_pair: Callable[[int], bool], half: int = 1
) -> list[bytes]:
    if len(units) <= single:
        return [units]
    ends = [0]
    while ends[-1] < len(units):
        end = min(ends[-1] + each, len(units))
        ends.append(end - half if end < len(units) and splits_pair(end) else end)
    return [units[start:end] for start, end in pairwise(ends)]


def encode_submit(
    text: str,
    to: str,
    *,
    smsc: str | None = None,
    status_report: bool = False,
    validity_minutes: float | None = None,
    reference: int = 0,
) -> list[tuple[str, int]]:
    """Build the SMS-SUBMITs of a text, TS 23.040 9.2.2.2: one (hex, octets) a segment.

    hex begins with the service-centre part, octets counts the TPDU without it, as AT+CMGS wants.
    reference (0..255) is TP-MR and the concatenation reference. validity_minutes is rounded up to
    the next step of TP-VP; None: no TP-VP. ValueError past 255 segments or for what can't be sent.
    """
    segmentation = segment_text(text)
    total = len(segmentation.units)
    if total > MAX_SEGMENTS:
        raise ValueError(f"the text needs {total} segments, {MAX_SEGMENTS} is the most")
    if not 0 <= reference <= 255:
        raise ValueError(f"reference {reference} is outside 0..255")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("the text holds half a surrogate pair")
    ucs2 = segmentation.encoding is Encoding.UCS2
    validity = b"" if validity_minutes is None else bytes([_encode_validity(validity_minutes)])
    first_octet = 0x01 | (0x10 if validity else 0) | (0x20 if status_report else 0)
    first_octet |= 0x40 if total > 1 else 0
    head = bytes([first_octet, reference]) + _encode_address(to)
    head += bytes([0x00, _DCS_UCS2 if ucs2 else 0x00]) + validity
    centre = _encode_service_centre(smsc)
    pdus = []
    for sequence, part in enumerate(_cut_ucs2(text) if ucs2 else _cut_septets(text), 1):
        header = b"" if total == 1 else bytes([5, 0, 3, reference, total, sequence])
        data, length = _encode_user_data(part, header, ucs2)
        tpdu = head + bytes([length]) + data
        pdus.append(((centre + tpdu).hex().upper(), len(tpdu)))
    return pdus


def _encode_user_data(part: bytes, header: bytes, ucs2: bool) -> tuple[bytes, int]:
    """Join header and text; the length counts octets for UCS-2, septets for GSM 7-bit."""
    if ucs2:
        return header + part, len(header) + len(part)
    filled = -(-len(header) * 8 // 7)  # septets the header takes, with its fill bits
    packed = _pack_septets(part, shift=filled * 7 - len(header) * 8)
    return header + packed, filled + len(part)


def _pack_septets(septets: bytes, shift: int = 0) -> bytes:
    """Pack septets, TS 23.038 6.1.2.1.1, after `shift` fill bits."""
    number = 0
    for place, septet in enumerate(septets):
        number |= septet << (7 * place)
    return (number << shift).to_bytes((7 * len(septets) + shift + 7) // 8, "little")


def _unpack_septets(octets: bytes, count: int, shift: int = 0) -> bytes:
    if count < 0 or (count * 7 + shift + 7) // 8 > len(octets):
        raise ValueError("user data ends before its length")
    number = int.from_bytes(octets, "little") >> shift
    return bytes(number >> (7 * place) & 0x7F for place in range(count))


# The relative TP-VP in minutes, TS 23.040 9.2.3.12.1: the place of a step is its value.
_VALIDITY_STEPS: tuple[int, ...] = (
    *range(5, 721, 5), *range(750, 1441, 30), *range(2880, 43201, 1440),
    *range(50400, 635041, 10080),
)  # fmt: skip


def _encode_validity(minutes: float) -> int:
    """Round up to a step of the relative TP-VP."""
    if minutes <= 0:
        raise ValueError("the validity period must be more than 0 minutes")
    if minutes > _VALIDITY_STEPS[-1]:
        raise ValueError("the validity period can't exceed 63 weeks")
    return bisect_left(_VALIDITY_STEPS, minutes)


def validity_within(minutes: float) -> int:
    """Return the longest validity period that ends within so many minutes; 5 is the shortest.

    >>> validity_within(59), validity_within(1500), validity_within(-3)
    (55, 1440, 5)
    """
    return _VALIDITY_STEPS[max(0, bisect_right(_VALIDITY_STEPS, minutes) - 1)]


def _encode_address(number: str) -> bytes:
    """Write a destination address, TS 23.040 9.1.2.5: its length counts semi-octets."""
    digits = number.removeprefix("+")
    if not re.fullmatch(r"[0-9*#]{1,20}", digits):
        raise ValueError(f'"{printable(number)}" is not a phone number')
    return bytes([len(digits)]) + _encode_digits(number, digits)


def _encode_service_centre(smsc: str | None) -> bytes:
    """Write the service-centre part: its length counts octets; 00: the SIM's own."""
    if not smsc:
        return b"\x00"
    digits = smsc.removeprefix("+")
    if not re.fullmatch(r"[0-9]{1,20}", digits):
        raise ValueError(f'"{printable(smsc)}" is not the number of a service centre')
    address = _encode_digits(smsc, digits)
    return bytes([len(address)]) + address


def _encode_digits(number: str, digits: str) -> bytes:
    kind = _INTERNATIONAL if number.startswith("+") else _UNKNOWN_TYPE
    codes = [_ADDRESS_DIGITS.index(digit) for digit in digits] + [0xF] * (len(digits) % 2)
    pairs = zip(codes[0::2], codes[1::2], strict=True)
    return bytes([kind, *(low | high << 4 for low, high in pairs)])


# --- decoding


class _Octets:
    """A cursor over a TPDU that turns every overrun into a ValueError."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._octets):
            raise ValueError("the TPDU is cut short")
        return self.take_up_to(count)

    def take_up_to(self, count: int) -> bytes:
        """Take as many as there are."""
        taken = self._octets[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def one(self) -> int:
        return self.take(1)[0]

    def rest(self) -> bytes:
        return self._octets[self._at :]


def decode_tpdu(hex: str, direction: str) -> Tpdu:
    """Read a TPDU with its service-centre part, TS 23.040 9.2.2.

    direction "in": SMS-DELIVER and SMS-STATUS-REPORT, read field by field: what is broken or
    missing is None, `damage` says why the text is not whole, and ValueError means that nobody can
    tell whom it is from. "out": SMS-SUBMIT; ValueError if anything in it is broken.
    """
    if direction not in ("in", "out"):
        raise ValueError('direction is "in" or "out"')
    if direction == "out":
        octets = _Octets(bytes.fromhex(hex))
        smsc = _decode_service_centre(octets.take(octets.one()))
        return _decode_submit(octets.one(), smsc, octets)
    readable = re.match("(?:[0-9A-Fa-f]{2})*", hex)
    octets = _Octets(bytes.fromhex(readable[0] if readable else ""))
    with_centre = octets.take(octets.one())
    return _decode_incoming(_decode_service_centre(with_centre), octets.rest())


def _decode_incoming(smsc: str | None, tpdu: bytes) -> Tpdu:
    """Read it as what its first octet says; where that gives no address, as the other kind."""
    kind = tpdu[0] & 0x03 if tpdu else 0x01
    if kind == 0x01:  # what was sent has the same bits, and its address where a report has it
        return _decode_deliver(smsc, _Octets(tpdu), True)
    ways = [_decode_deliver, _decode_status_report]  # 0x03 is received as 0x00, 9.2.3.1
    if kind == 0x02:
        ways.reverse()
    for decode in ways:
        with suppress(ValueError):
            return decode(smsc, _Octets(tpdu), True)
    return ways[0](smsc, _Octets(tpdu), False)


def _decode_service_centre(address: bytes) -> str | None:
    with suppress(ValueError):
        return _decode_digits(address[0], address[1:], None) if address else None
    return None


def clean_text(text: str) -> str:
    """Return a decoded text that can be stored: half a surrogate pair becomes U+FFFD.

    Phones cut a pair between two segments, and a segment may be all that ever comes.

    >>> clean_text("STOP \\ud83d")
    'STOP \ufffd'
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def join_parts(parts: Sequence[Tpdu]) -> Tpdu:
    """Return the long text of its parts, in any order, as one SMS-DELIVER; cleaned.

    Of a sequence that came twice the later one counts, and "[…]" stands for what did not come or
    can't be read; where nothing can, it is data.
    """
    came = {part.concatenation[2]: part for part in parts if part.concatenation}
    first = came[min(came)]
    total = first.concatenation[1] if first.concatenation else 0
    read = {place: part.text for place, part in came.items() if part.text is not None}
    texts = [
        read.get(place, "[…]" if place in came or place - 1 in {0, *came} else "")
        for place in range(1, total + 1)
    ]
    text = clean_text("".join(texts)) if read else None
    data = b"".join(came[place].data for place in sorted(came))
    damages = [each.damage for each in came.values() if each.damage]
    damages += ["a part of it is missing"] if len(came) < total else []
    damages += ["a part of it can't be read"] if len(read) < len(came) else []
    return replace(
        first, text=text, data=data, damage=damages[0] if damages else "", concatenation=None
    )


def choose_parts(parts: Sequence[Tpdu]) -> list[int]:
    """Return the places of those parts, one of each sequence, that are most likely of one text.

    The service centre stamps the parts of a text one soon after the other; of a part that came
    twice the later one is taken. A part whose time is broken is as near as can be.
    """
    by_sequence: dict[int, list[int]] = {}
    for place, part in enumerate(parts):
        if part.concatenation:
            by_sequence.setdefault(part.concatenation[2], []).append(place)
    groups = [by_sequence[sequence][-_MOST_ALIKE:] for sequence in sorted(by_sequence)]
    best: tuple[float, list[int]] = float("inf"), []
    for anchor in reversed(min(groups, key=len, default=[])):
        chosen = [min(reversed(group), key=partial(_apart_s, parts, anchor)) for group in groups]
        spread_s = span_of_parts([parts[place] for place in chosen])
        if spread_s < best[0]:
            best = spread_s, chosen
    return best[1]


_MOST_ALIKE = 20  # of one sequence are looked at


def _apart_s(parts: Sequence[Tpdu], one: int, other: int) -> float:
    return span_of_parts((parts[one], parts[other]))


def span_of_parts(parts: Iterable[Tpdu]) -> float:
    """Return the seconds between the first and the last of some parts."""
    times = [part.sent_at for part in parts if part.sent_at]
    return (max(times) - min(times)).total_seconds() if times else 0.0


# Of an MMS notification (WAP-230 8.2.4, OMA-TS-MMS_ENC): the push and its content type; the From
# field with the address as text, its character set before it where one is named; the number in an
# address, with separators, a name before it, a type or a gateway's domain behind it.
_MMS_PUSH = rb"(?s).\x06.{1,3}(?:application/vnd\.wap\.mms-message\0|\xbe)"
_MMS_TYPE = b"\x8c\x82"  # it is a notification; its other fields are behind it
_MMS_HEADERS = 1000  # octets of it that are looked at
_MMS_FROM = (
    rb"(?s)\x89(?:[\x01-\x1e]|\x1f.)\x80"
    rb"(?:[\x01-\x1e][\x80-\xff]{1,2}\x7f?)?([^\0-\x1f\x7f]{1,300})\0"
)
_MMS_NUMBER = r"(?ai)(?:^|[<:\"\s])(\+?[(]?\d[\d .()-]{6,30})(?=$|[@>;\"]|/(?!type=ipv))"


def read_mms_sender(text: Tpdu) -> str | None:
    """Return who sent the MMS that a text announces, as the notification says, else as the text's
    own sender; None: it announces none."""
    if not re.match(_MMS_PUSH, text.data):
        return None
    headers = text.data.partition(_MMS_TYPE)[2][:_MMS_HEADERS]
    field = re.search(_MMS_FROM, headers)
    if not field:
        return text.number
    address = field[1].decode("utf-8", "replace")
    number = re.search(_MMS_NUMBER, address.rpartition("<")[2])  # behind the name, if it has one
    if number:
        return re.sub("[^+0-9]", "", number[1])
    return re.sub("(?i)/type=.*", "", address) or text.number


def _decode_deliver(smsc: str | None, octets: _Octets, is_strict: bool) -> Tpdu:
    first_octet = octets.one()
    number = _decode_address(octets, is_strict)
    octets.take_up_to(1)  # TP-PID
    coding = octets.take_up_to(1)
    sent_at = _decode_timestamp(octets.take_up_to(7))
    user = _decode_user_data(octets, coding[0] if coding else None, bool(first_octet & 0x40))
    return Tpdu(
        "DELIVER", smsc, number, user.text, sent_at, None, None, None, user.concatenation,
        user.data, user.damage,
    )  # fmt: skip


def _decode_status_report(smsc: str | None, octets: _Octets, is_strict: bool) -> Tpdu:
    octets.one()
    reference = octets.one()
    number = _decode_address(octets, is_strict)
    sent_at = _decode_timestamp(octets.take_up_to(7))
    discharged_at = _decode_timestamp(octets.take_up_to(7))
    status = octets.take_up_to(1)
    return Tpdu(
        "STATUS-REPORT", smsc, number, None, sent_at, discharged_at, reference,
        status[0] if status else None, None,
    )  # fmt: skip


_DELIVERY_WORDS = {  # TP-ST, TS 23.040 9.2.3.15, without its two bits for "trying" and "gave up"
    0x00: "congestion",
    0x01: "the phone is busy",
    0x02: "no response from the phone",
    0x03: "service rejected",
    0x04: "quality of service not available",
    0x05: "error in the phone",
    0x40: "remote procedure error",
    0x41: "incompatible destination",
    0x42: "connection rejected by the phone",
    0x43: "not obtainable",
    0x44: "quality of service not available",
    0x45: "no interworking available",
    0x46: "its validity period expired",
    0x47: "deleted by its sender",
    0x48: "deleted by the service centre",
    0x49: "the service centre does not know it",
}


def read_delivery(status: int | None) -> tuple[Delivery, str]:
    """Read TP-ST, TS 23.040 9.2.3.15: what became of a segment, and the network's words.

    >>> read_delivery(0x46)
    (<Delivery.EXPIRED: 'expired'>, 'its validity period expired (46)')
    """
    if status is None:
        return Delivery.UNKNOWN, "the report is cut short"
    if status == 0:
        return Delivery.DELIVERED, ""
    kind = status >> 5  # 0: done, 1: still trying, 2: for good, 3: gave up; above: reserved
    if kind == 0:
        words = {1: "handed on, its delivery can't be confirmed", 2: "replaced by a later text"}
        return Delivery.UNKNOWN, f"{words.get(status, 'done')} ({status:02X})"
    key = (status & 0x1F | (0x40 if kind == 2 else 0)) if kind <= 3 else 0x03
    said = f"{_DELIVERY_WORDS.get(key, 'service rejected')} ({status:02X})"
    if kind == 1:
        return Delivery.TRYING, said
    return Delivery.EXPIRED if status == 0x46 else Delivery.FAILED, said


def _decode_submit(first_octet: int, smsc: str | None, octets: _Octets) -> Tpdu:
    if first_octet & 0x03 != 0x01:
        raise ValueError("this is not an SMS-SUBMIT")
    reference = octets.one()
    number = _decode_address(octets, True)
    octets.one()  # TP-PID
    coding = octets.one()
    octets.take((0, 7, 1, 7)[first_octet >> 3 & 0x03])  # TP-VP by its format, 9.2.3.3
    user = _decode_user_data(octets, coding, bool(first_octet & 0x40))
    if user.damage:
        raise ValueError(user.damage)
    return Tpdu("SUBMIT", smsc, number, user.text, None, None, reference, None, user.concatenation)


def _decode_address(octets: _Octets, is_strict: bool) -> str:
    """Read an address; is_strict: only of a type that has its highest bit set, 9.1.2.5."""
    length = octets.one()
    if length > 20:
        raise ValueError("an address has at most 20 digits")
    kind = octets.one()
    number = _decode_digits(kind, octets.take((length + 1) // 2), length)
    if not (kind & 0x80 if is_strict else number):
        raise ValueError("this is no address")
    return number


def _decode_digits(kind: int, octets: bytes, length: int | None) -> str:
    """Read an address's value; length in semi-octets, None: as many as there are.

    A filler ends the digits, wherever it stands. A name that looks like a number stands in quotes.
    """
    if kind & 0x70 == _ALPHANUMERIC:
        semi_octets = 2 * len(octets) if length is None else length
        name = _decode_septets(_unpack_septets(octets, semi_octets * 4 // 7))
        # A name of digits is nobody's number: gateways sell free names.
        return f'"{name}"' if re.fullmatch(r"[+\d ().-]{7,}", name) else name
    codes = [code for octet in octets for code in (octet & 0x0F, octet >> 4)][:length]
    digits = codes[: codes.index(0xF)] if 0xF in codes else codes
    number = "".join(_ADDRESS_DIGITS[digit] for digit in digits)
    return "+" + number if number and kind & 0x70 == 0x10 else number


def _decode_timestamp(octets: bytes) -> datetime | None:
    """Read TP-SCTS or TP-DT, 9.2.3.11: swapped digits; the zone in signed quarters of an hour.

    None: it is no time. What is no digit is to be taken for 0.
    """
    if len(octets) < 7:
        return None
    sign = -1 if octets[6] & 0x08 else 1
    year, month, day, hour, minute, second, quarters = (
        sum(digit * ten for digit, ten in ((octet & 0x0F, 10), (octet >> 4, 1)) if digit < 10)
        for octet in (*octets[:6], octets[6] & ~0x08)
    )
    offset = timezone(timedelta(minutes=15 * sign * quarters))
    with suppress(ValueError):
        return datetime(2000 + year, month, day, hour, minute, second, tzinfo=offset)
    return None


class _UserData(NamedTuple):
    """What TP-UD holds, 9.2.3.24."""

    text: str | None  # None: 8-bit data
    data: bytes  # then these
    concatenation: tuple[int, int, int] | None
    damage: str  # why this is not all of it


def _decode_user_data(octets: _Octets, coding: int | None, has_header: bool) -> _UserData:
    """Read as much as there is: of a length or a header that can't be right, and half a character,
    the text is kept and the damage told."""
    if coding is None or not octets.rest():
        return _UserData(None, b"", None, "it is cut short")
    length, data, damage = octets.one(), octets.rest(), ""
    alphabet = _find_alphabet(coding)
    announced = -(-length * 7 // 8) if alphabet == "gsm7" else length
    if announced > len(data):
        damage = "it is cut short"
    elif data[announced:].strip(b"\0\xff"):  # some modems fill up
        damage = "it is longer than it says"
    elif coding >> 4 in _RESERVED_CODINGS:
        damage = "its coding is unknown"
    data = data[:announced]
    header_octets, concatenation = 0, None
    if has_header:
        header_octets = 1 + data[0] if data else 1
        is_even = header_octets <= len(data)
        if is_even:
            concatenation, is_even = _find_concatenation(data[1:header_octets])
        else:
            header_octets = 0
        damage = damage if is_even else "its header is broken"
    if alphabet == "gsm7":
        filled = -(-header_octets * 8 // 7)
        count = min(length, len(data) * 8 // 7) - filled
        shift = filled * 7 - header_octets * 8
        septets = _unpack_septets(data[header_octets:], count, shift) if count > 0 else b""
        return _UserData(_decode_septets(septets), b"", concatenation, damage)
    data = data[header_octets:]
    if alphabet != "ucs2":
        return _UserData(None, data, concatenation, damage)
    if len(data) % 2:
        data, damage = data[:-1], damage or "its last character is cut in half"
    # Phones cut a surrogate pair between two segments: the halves meet again when joined.
    return _UserData(data.decode("utf-16-be", "surrogatepass"), b"", concatenation, damage)


_RESERVED_CODINGS = range(0x8, 0xC)  # coding groups, TS 23.038 section 4


def _find_alphabet(coding: int) -> str:
    """Return the alphabet of a data coding scheme, TS 23.038 section 4: gsm7, ucs2, 8bit."""
    group = coding >> 4
    if group <= 0x7:
        if coding & 0x20:
            return "8bit"  # compressed: nobody can read it
        return ("gsm7", "8bit", "ucs2", "gsm7")[coding >> 2 & 0x03]
    if group == 0xE:
        return "ucs2"
    return "8bit" if group == 0xF and coding & 0x04 else "gsm7"


def _find_concatenation(header: bytes) -> tuple[tuple[int, int, int] | None, bool]:
    """Find a concatenation element, 9.2.3.24.1 and .8; False if the header makes no sense."""
    elements = _Octets(header)
    found, makes_sense = None, True
    try:
        while elements.rest():
            identifier = elements.one()
            value = elements.take(elements.one())
            if (identifier, len(value)) in ((_CONCATENATION_8_BIT, 3), (_CONCATENATION_16_BIT, 4)):
                reference, total, sequence = int.from_bytes(value[:-2], "big"), *value[-2:]
                if 1 <= sequence <= total:
                    found = (reference, total, sequence)
                else:
                    makes_sense = False
    except ValueError:  # an element that overruns the header is ignored, 9.2.3.24
        makes_sense = False
    return found, makes_sense


def _decode_septets(septets: bytes) -> str:
    """Read septets. An unknown extension shows the default alphabet's character, 6.2.1.1."""
    text = []
    codes = iter(septets)
    for code in codes:
        if code != _ESCAPE:
            text.append(_DEFAULT_ALPHABET[code])
            continue
        extended = next(codes, _ESCAPE)
        if extended == _ESCAPE:
            text.append(" ")
        else:
            text.append(_EXTENSION.get(extended, _DEFAULT_ALPHABET[extended]))
    return "".join(text)


def read_ussd(text: str, coding: str | None) -> str:
    """Read a USSD text, which may come as hex of any alphabet, whatever its coding says.

    >>> read_ussd("004F004B", "15"), read_ussd("4F4B21", "68"), read_ussd("20042024", None)
    ('OK', 'OK!', '20042024')
    """
    octets = bytes.fromhex(text) if re.fullmatch("(?:[0-9A-Fa-f]{2})+", text) else b""
    if len(octets) % 2 == 0 and coding and _find_alphabet(int(coding) & 0xFF) == "ucs2":
        return octets.decode("utf-16-be", "replace") or text
    if text.isdigit() and not re.fullmatch(_LATIN_UCS2, text):
        return text
    packed = _unpack_septets(octets, len(octets) * 8 // 7)
    readings = (
        octets.decode("latin-1"),
        octets.decode("utf-16-be", "replace"),
        _decode_septets(packed).rstrip("\r@"),  # filled up
    )
    return next((each for each in readings if re.fullmatch(_PLAUSIBLE, each)), text)


_PLAUSIBLE = r"[\n\r -~£¥§¿À-ɏ\u0370-\u03ff\u0400-\u04ff€]+"  # Latin, Greek, Cyrillic
_LATIN_UCS2 = "(?:00[2-7][0-9A-Fa-f])+"


# === 4 Campaign ==================================================================================
# From the cells of a CSV to Messages: encodings, title rows, columns, consent, phone numbers,
# templates, bubbles, repeats. A row that can't be taken becomes a Problem that names the
# spreadsheet row, the column, the value and the fix; one that is left out says why; what the file
# leaves open is asked all at once. Nothing is guessed, nothing is dropped in silence.
# It does not know files, the time, hours or SQL.


@dataclass(frozen=True, slots=True)
class ReadingOrder:
    """What the operator said about a CSV."""

    default_campaign: str  # the file's stem
    campaign: str | None = None  # --campaign
    template: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)  # --map: field -> header, "": none
    only: Sequence[tuple[str, str]] = ()  # --only: header, value
    max_segments: int = 0  # of one message; 0: no limit
    # ValueError says why somebody with this number and zone can never be written to.
    check_reachable: Callable[[PhoneNumber, str], str] = lambda number, timezone: ""
    simplify: bool = False  # --simplify


@dataclass(slots=True)
class Reading:
    """What a CSV gave."""

    messages: list[Message] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    rejected: list[tuple[int, list[str]]] = field(default_factory=list)  # row, its cells
    skipped: list[Skipped] = field(default_factory=list)
    left_out: list[tuple[int, list[str]]] = field(default_factory=list)  # row, its cells
    header: list[str] = field(default_factory=list)
    columns: Mapping[str, int] = field(default_factory=dict)  # field -> place in the header
    passed_over: Mapping[str, list[int]] = field(default_factory=dict)  # field -> others as likely
    consent: list[int] = field(default_factory=list)  # the columns that tell who agreed to texts
    unused: list[str] = field(default_factory=list)  # headers that nothing reads
    not_taken: Counter[str] = field(default_factory=Counter)  # 'status "sent"' -> rows
    notes: list[str] = field(default_factory=list)  # what the operator may not have meant


def detect_encoding(data: bytes) -> str:
    """Return the encoding of a spreadsheet's CSV; CampaignError for a file that is no CSV.

    'cp1252' and 'mac-roman' are for what is neither UTF-8 nor UTF-16: the caller says so loudly.
    """
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise CampaignError(
            "this is a workbook or a document (.xlsx, .docx), no CSV and no plain text: open it and"
            " save as CSV UTF-8, or a text as plain text"
        )
    if data.startswith(b"{\\rtf"):
        raise CampaignError("this is rich text (.rtf): save it as plain text (.txt)")
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise CampaignError("this is UTF-32: save the spreadsheet as CSV UTF-8")
    head = data[:2000]
    encodings = ["utf-8-sig", *_order_old_encodings(data)]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif head[1::2].count(0) > len(head) // 4:
        encodings = ["utf-16-le"]
    elif head[0::2].count(0) > len(head) // 4:
        encodings = ["utf-16-be"]
    elif b"\0" in data:
        raise CampaignError("this file is not text: save the spreadsheet as CSV UTF-8")
    for encoding in encodings:
        with suppress(UnicodeDecodeError):
            data.decode(encoding)
            return encoding
    raise CampaignError(
        "this is neither UTF-8, UTF-16, Windows-1252 nor Mac Roman: save the spreadsheet as CSV"
        " UTF-8"
    )


# Where letters and marks beyond ASCII stand in what people write: José, ÉLAN, it’s, D’Angelo, “a”.
_LOWER, _UPPER = "ß-öø-ÿœšž", "À-ÖØ-ÞŒŠŽŸ"
_SOUND = (
    rf"(?<=[a-zA-Z{_LOWER}{_UPPER}])[{_LOWER}](?![A-Z{_UPPER}])"
    rf"|(?<![a-z{_LOWER}])[{_LOWER}](?=[a-z{_LOWER}])"
    rf"|(?<![a-z{_LOWER}])[{_UPPER}](?=[a-zA-Z{_LOWER}{_UPPER}])|(?<=[A-Z{_UPPER}]{{2}})[{_UPPER}]"
    r"|(?<=\w)’(?=(?:s|t|d|m|ll|re|ve)\b)|(?<=\b[DLONMdlonm])’(?=\w)"
    r"|(?<!\w)[“„‘¿¡«](?=\w)|(?<=[\w.,!?])[”“»](?!\w)|(?<= )[–—](?= )"
    r"|(?<=\w)…(?!\w)|[€£](?=\d)|(?<=\d)[€£°]|(?<=\d )[€£]"
)


def _order_old_encodings(data: bytes) -> list[str]:
    """Return the encodings of before UTF-8 that may be meant, the likelier first.

    A Mac's is meant where more of its letters stand where letters belong, or as many and the lines
    end in CR.
    """
    sound = Counter[str]()
    for piece in re.findall(rb"[ -~]{0,3}[\x80-\xff][ -~\x80-\xff]{0,200}", data)[:1_000]:
        for name in ("cp1252", "mac-roman"):
            sound[name] += len("".join(re.findall(_SOUND, piece.decode(name, "replace"))))
    mac, windows = sound["mac-roman"], sound["cp1252"]
    if mac > windows or (mac == windows > 0 and b"\r" in data and b"\n" not in data):
        return ["mac-roman"]
    return ["cp1252"]


# --- the sheet: delimiter, records, title rows, header


class Sheet(NamedTuple):
    """A CSV as a spreadsheet shows it: the row of its header, and the rows below."""

    delimiter: str
    header_row: int
    header: list[str]
    rows: list[tuple[int, list[str]]]

    def column(self, place: int) -> Iterator[str]:
        """Yield the cells of a column that are not empty."""
        return filter(None, (_read_cell(cells, place) for _, cells in self.rows))


def read_sheet(lines: Iterable[str], named: Iterable[str] = ()) -> Sheet:
    """Read a CSV's lines; named are headers that the operator spoke of. CampaignError: a quote.

    The header is the first row that names a phone, or one of those; what stands above it has fewer
    cells, and is a title.
    """
    source = iter(lines)
    delimiter, taken = find_delimiter(source)
    records = list(read_records(source, delimiter, taken))
    wanted, most = {plain_name(name) for name in named if name}, 0
    for at, (row, cells) in enumerate(records[:20]):
        filled = [cell for cell in cells if cell.strip()]
        speaks = any(
            rank_name("phone_number", each) or plain_name(each) in wanted for each in filled
        )
        is_whole = len(filled) > min(1, max(len(each) for _, each in records) - 1)
        if speaks and is_whole and len(filled) > most and not any(map(_is_number, filled)):
            return Sheet(delimiter, row, cells, records[at + 1 :])
        most = max(most, len(filled))
    row, cells = records[0] if records else (1, [])
    return Sheet(delimiter, row, cells, records[1:])


def find_delimiter(lines: Iterator[str]) -> tuple[str, list[str]]:
    """Read the delimiter off the header; give it, and the lines that were taken for it.

    That is the first line that has one and names a phone, else the first that has one.
    """
    taken: list[str] = []
    found = ""
    for line in lines:
        if not taken and (told := re.fullmatch(r"sep=(.)\s*", line)):
            return told[1], []  # Excel's own line; it does not count as a row
        taken.append(line)
        plain = re.sub(r'"[^"]*"', "", line)
        mark = max(",;\t", key=plain.count)
        if mark in plain:
            found = found or mark
            names = line[:10_000].split(mark)
            if any(rank_name("phone_number", name.strip().strip('"')) for name in names):
                return mark, taken
        if len(taken) == 20:
            break
    return found or ",", taken


def read_records(
    lines: Iterator[str], delimiter: str, taken: list[str]
) -> Iterator[tuple[int, list[str]]]:
    """Cut a CSV's lines into records, each with its spreadsheet row, the first line being row 1.

    Strict: a quote that is never closed is a CampaignError with its line, never a cell that
    swallows rows.
    """
    import csv
    from itertools import chain

    reader = csv.reader(chain(taken, lines), delimiter=delimiter, strict=True)
    skipped_lines = 0 if taken else 1
    row = 0
    while True:
        line = reader.line_num + 1 + skipped_lines
        try:
            record = next(reader, None)
        except csv.Error as error:
            where = f"line {line} (spreadsheet row {row + 1})"
            if "larger" in str(error):
                raise CampaignError(
                    f"{where}: a cell of more than 131,072 characters begins there: shorten it,"
                    ' or end the quote (") before it'
                ) from error
            raise CampaignError(
                f'{where}: a quote (") opens there and is not closed where its cell ends: close'
                f" it, or write a quote inside a text twice ({error})"
            ) from error
        if record is None:
            return
        row += 1
        if any(cell and not cell.isspace() for cell in record):
            yield row, record


# --- columns: what their headers read like, in English, Spanish, French and German


def _any_of(words: str) -> str:
    """Make a pattern of alternatives, spaces between them and _ for the space inside one."""
    return f"(?:{'|'.join(words.split()).replace('_', ' ')})"


_MOBILE = _any_of("""mobiles? cell cellphone cellular handy handynummer mobil mobiltelefon
    mobilnummer mobilfunk mobilfunknummer movil celular portable gsm msisdn""")
_PHONE = _any_of("""phones? telephone tel phonenumber phoneno telefon telefonnummer rufnummer
    telefonos?""")
_NUMBER = rf"(?: ?(?:{_PHONE}|numbers?|no|nr|num|value|1))*"
_NOT_A_PHONE = _any_of(r"""fax pager isdn telex tty tdd carrier type label verified valid status
    country code ext extension apps? os device date time at notes? emergency assistants? spouse
    parents? guardian opt optin optout opted consent calls? count id e_?mail url model clicks?
    orders? radio callback name messages? preference staff owner rep provider network plan""")
_ELSEWHERE = _any_of(r"""home work business office company main other car day night landline
    festnetz fixe fijo billing shipping default_address secondary alternate privat geschaftlich
    [2-9]""")
_NO_PERSON = _any_of("""last family sur company business user file campaign list store shop middle
    nick preferred phonetic prefix suffix organization account owner product domain event group
    brand firma card bank pet spouse parent staff service tag segment city country host plan
    location source title""")
# Field -> patterns of its header, the best first, each for the whole of words_of() it. A mobile
# phone goes before any other, one at home or at work after all.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "phone_number": (
        rf"(?:{_any_of('my your the customer client contact sms texts? texting numero n de')} |"
        rf"{_PHONE} )*{_MOBILE}{_NUMBER}|(?:sms|text|texting) ?(?:{_PHONE} ?)?(?:number|no|phone)",
        rf".*\b{_MOBILE}\b.*",
        rf"{_PHONE}{_NUMBER}|(?:contact |phone )?number|(?:phone|contact)no|recipient(?: phone)?|to"
        rf"|(?:numero|n)(?: de)? {_PHONE}",
        rf".*\b{_PHONE}\d?\b.*",
    ),
    "customer_name": (
        _any_of("""(full_|complete_|display_)?name fullname customer(_full)?(_name)? contact(_name)?
            client(_name)? guest(_name)? member(_name)? patient(_name)? recipient_name cliente
            nombre(_completo|_del_cliente|_y_apellidos?)? nom(_complet|_du_client)? kunde kundin
            kundenname vollstandiger_name vor_und_nachname ansprechpartner"""),
        _any_of(r"""(.*_)?(first|given)_?name forename fname f_name vorname rufname prenom
            primer_nombre nombre_de_pila"""),
        rf"(?!.*\b{_NO_PERSON}\b).*\bname\b.*",
    ),
    "last_name": (
        _any_of(r"""(.*_)?(last|family)_?name surname lname l_name nachname familienname zuname
            apellidos? nom_de_famille"""),
        "nom|name",
    ),
    "message_content": (
        _any_of("""messages?(_text|_body|_content)? texts?(_message|_body)? body content msg
            sms(_text|_message|_body)? mensaje(_de_texto)? texto(_del_mensaje)? nachricht
            nachrichtentext sms_nachricht texte(_du_message)?"""),
    ),
    "campaign_name": ("campaign",),
    "status": ("status",),
    "id": (_any_of("campaign_message_id message_id row_id"),),
    "timezone": (_any_of("time_?zone(_name)? tz zeitzone fuseau_horaire zona_horaria"),),
    "consent": (),
    "consent_at": (_any_of("consent(ed)?_(date|at) opt_?in_(at|date)"),),
    "consent_source": (_any_of("consent_source opt_?in_source"),),
}  # fmt: skip
FIELD_NAMES = tuple(_NAMES)  # what --map takes
_FIRST_NAME = _NAMES["customer_name"][1]


@lru_cache(maxsize=4096)
def words_of(name: str) -> str:
    """Write a header as plain words: no accents, no capitals, no marks.

    >>> words_of("email1MarketingPreference"), words_of("OK to text?"), words_of("Téléphone")
    ('email1 marketing preference', 'ok to text', 'telephone')
    """
    import unicodedata

    name = re.sub(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name[:200])
    letters = re.sub("[\u0300-\u036f'’]", "", unicodedata.normalize("NFKD", name.casefold()))
    letters = re.sub(r"\bsms(?=[a-z])|(?<=[a-z])sms\b", " sms ", letters)  # "SMSOPTIN"
    return " ".join(re.findall(r"[^\W_]+", letters))


def plain_name(name: str) -> str:
    """Write a header so that its spellings are alike: "Phone Number", "phone_number"."""
    return words_of(name).replace(" ", "")


@lru_cache(maxsize=4096)
def rank_name(field_name: str, header: str) -> int:
    """Return how well a header reads as a field's: 1 is its exact name, 0 not at all."""
    words = words_of(header)
    if header.strip().casefold() == field_name:
        return 1
    if plain_name(header) == plain_name(field_name) and field_name != "phone_number":
        return 2
    if field_name == "phone_number" and re.search(rf"\b{_NOT_A_PHONE}\b", words):
        return 0
    for rank, pattern in enumerate(_NAMES[field_name], 2):
        if re.fullmatch(pattern, words) or re.fullmatch(pattern, plain_name(header)):
            is_last = field_name == "phone_number" and rank > 3
            return 9 if is_last and re.search(rf"\b{_ELSEWHERE}\b", words) else rank
    return 0


def find_columns(
    sheet: Sheet, said: Mapping[str, str], with_text: bool = True
) -> tuple[dict[str, int], dict[str, list[int]], list[int]]:
    """Find the column of each field, the others that were as likely, and the consent columns.

    What was said, then the best name, of equals the leftmost that has any cell.
    """
    for name in said:
        if name not in FIELD_NAMES:
            raise CampaignError(
                f"--map {name}={said[name]}: there is no field {name};"
                f" fields are {', '.join(FIELD_NAMES)}"
            )
    header = sheet.header
    found = {
        name: _find_said(f"--map {name}", column, header) if column else -1
        for name, column in said.items()
    }
    names = [name for name in FIELD_NAMES if name != "consent" and name not in found]
    exact = {i for i, each in enumerate(header) if any(rank_name(n, each) == 1 for n in names)}
    consent = [
        i
        for i, each in enumerate(header)
        if i not in exact | {*found.values()} and is_consent(each, sheet.column(i))
    ]
    if "consent" in found:
        consent = [i for i in (found.pop("consent"),) if i >= 0]
    passed_over: dict[str, list[int]] = {}
    for name in names:
        ranks = {
            i: rank
            for i in range(len(header))
            if i not in consent and i not in found.values()
            if (rank := _rank_column(name, sheet, i, found))
        }
        ranks = {i: rank for i, rank in ranks.items() if any(sheet.column(i))} or ranks
        best = [i for i, rank in ranks.items() if rank == min(ranks.values())]
        if best and (with_text or name != "message_content"):
            found[name], passed_over[name] = best[0], best[1:]
    return {name: i for name, i in found.items() if i >= 0}, passed_over, consent


def _rank_column(name: str, sheet: Sheet, place: int, found: Mapping[str, int]) -> int:
    """Return how well a column fits a field, by its name, its neighbors and its cells."""
    header = sheet.header[place]
    rank, words = rank_name(name, header), words_of(header)
    if name == "phone_number" and words == "sms":  # so Brevo calls the number
        return 2 if any(map(_is_number, sheet.column(place))) else 0
    if rank < 2:
        return rank
    if name == "message_content" and any(sheet.column(place)):
        return 0 if all(map(_is_no_text, sheet.column(place))) else rank
    if name == "consent_at" and not all(map(_is_consent_time, sheet.column(place))):
        return 0
    if name == "customer_name" and words in ("name", "nom"):  # beside "Vorname", "Prénom": the last
        return 0 if {words_of(each) for each in sheet.header} & {"vorname", "prenom"} else rank
    if name == "last_name":
        first = found.get("customer_name", -1)
        is_first = first >= 0 and _is_first_name(sheet.header[first])
        return rank if is_first or (first >= 0 and words_of(sheet.header[first]) == "nombre") else 0
    return rank


def _is_first_name(header: str) -> bool:
    return bool(re.fullmatch(_FIRST_NAME, words_of(header)))


def _is_number(cell: str) -> bool:
    with suppress(ValueError):
        return bool(parse_phone_number(cell))
    return False


def _is_consent_time(cell: str) -> bool:
    with suppress(ValueError):
        return bool(parse_consent_time(cell))
    return False


def _is_no_text(cell: str) -> bool:
    """True of yes and no, numbers and dates."""
    is_number = re.fullmatch(rf"[\d\s.,:+()$€£%/-]*|{_DATE}", cell[:_SHOWN])
    return bool(is_number) or read_consent(cell, False) is not None


def _find_said(option: str, name: str, header: Sequence[str]) -> int:
    """Return the place of a column that an option names, by its header or its letter."""
    exact = [i for i, each in enumerate(header) if each.strip() == name.strip()]
    alike = [i for i, each in enumerate(header) if plain_name(each) == plain_name(name)]
    by_letter = [i for i in range(len(header)) if column_letter(i) == name and not alike]
    for matches in (exact, alike, by_letter):
        if len(matches) == 1:
            return matches[0]
    shown = ", ".join(f'{column_letter(i)} "{each}"' for i, each in enumerate(header))
    raise CampaignError(
        f"{option}={name}: {len(alike) or 'no'} columns have that name;"
        f" the columns are {shown}: name one by its letter"
    )


def column_letter(index: int) -> str:
    """Return a column's letter in a spreadsheet: 'A' of 0, 'AA' of 26."""
    letters = ""
    while index >= 0:
        letters = chr(65 + index % 26) + letters
        index = index // 26 - 1
    return letters


# --- consent: which columns tell who agreed to texts, and what their cells say

_BY_TEXT = _any_of("""sms mms texts? texting text_?messages? mensajes?(_de_texto)? textnachrichten
    tcpa""")
_ELSEHOW = _any_of(r"""e_?mails?\d* mail mailing correo courriel whats_?app push notifications?
    notificaciones benachrichtigung(en)? postal direct viber messenger newsletter apps? calls?
    fax""")
_AGREES = _any_of(r"""consent\w* accept\w* opt(ed)?_?in opt(ed)? subscri\w+ permission\w* ok(ay)?
    agree\w* allow\w* authori[sz]\w* receives? einwilligung zustimmung einverstanden erlaubt
    erlaubnis abonniert abonnement acepta\w* autori[sz]\w* permiso permite suscri\w* accord
    inscrit\w* recevoir recibir erhalten""")
_REFUSES = _any_of(r"""opt(ed)?_?out unsub\w* do_?not dont dnc dnt stop\w* block\w* black_?list\w*
    suppress\w* declin\w* refus\w* abgemeldet abmeldung widerruf\w* desinscri\w* desabonn\w* baja
    keine? pas_de no_(sms|texts?|marketing|contact)""")
_ABOUT = _any_of("""date time timestamp at on since source ip method url page keyword campaign id by
    reason type datum fecha quelle fuente number phone count level language""")
_FILLERS = _any_of("""customer client contact contacted marketing status preferences? to for yes no
    y n the of has is me us we can may you list promotional promotions? offers? communications?
    messages? gdpr dsgvo rgpd club alerts? updates? in out from send wants? disturb de a o given
    kunde cliente werbung publicidad enabled member calls? at on date time timestamp am
    fecha datum""")
_DATE = (
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[ T,].{0,30})?"
    r"|(?i:[a-z]{3,9}\.? \d{1,2},? \d{4}|\d{1,2}\.? [a-z]{3,9}\.? \d{4})(?:[ ,].{0,20})?"
)
_ADDRESS = r"\d{1,3}(?:\.\d{1,3}){3}|(?i:[\da-f]{0,4}(?::[\da-f]{0,4}){3,7})"
_SOURCES = _any_of(r"""form web website site checkout import\w* api pos pop_?up store footer
    sign_?up keyword facebook instagram landing page manual\w* upload list verbal paper in_person
    kiosk app online formular formulario formulaire laden tienda magasin https?""")
_IN = _any_of("""subscribe(d|r) opt(ed)?_?in in consent(ed|_given)? agreed? accept(ed|s)?
    allow(ed)? granted given confirmed active enabled approved permitted authori[sz]ed ok(ay)?
    suscrit[oa] acept(a|o|ado|ada) inscrite? abonnee? accepte angemeldet abonniert zugestimmt
    eingewilligt einverstanden erlaubt""")
# What a cell says, as words_of() writes it. In a column of who opted out the plain yes and no turn
# around; the others speak for themselves.
_YES = _any_of("""y yes(_please)? yep yeah t true 1(_0)? on x s si oui o ja j v vrai wahr verdadero
    checked""")
_NO = _any_of("""n no(_thanks|_thank_you|_gracias)? nope f false 0(_0)? off nein(_danke)? faux falso
    non(_merci)? falsch unchecked""")
_SAYS_IN = rf"(?:(?:single|double|confirmed|explicit|express|written|actively) )*{_IN}"
_SAYS_OUT = rf"(?:never|not|non?|un|nicht|pas|ne|de|dis) ?(?:yet )?{_IN}|" + _any_of(
    """opt(ed)?_?out out stop(ped)? revoked withdrawn declined denied refused? rejected blocked
    blacklisted disabled inactive suppressed cleaned removed redacted archived never baja
    rechazad[oa] denegad[oa] dado_de_baja refusee? abgelehnt abgemeldet widerrufen desabonnee?
    desinscrite? unsubscribe do_not_(text|contact|sms|send)"""
)
_SAYS_NOTHING = _any_of("""null none n_a na nan unknown undefined unset pending
    not_(set|asked|provided|specified) unbekannt inconnue? desconocid[oa] keine_angabe""")


class Answer(Enum):
    """What the cells of a row say of consent; the value is said of one that is left out."""

    YES = "agreed to texts"
    NO = "said no to texts"
    BLANK = "not asked"


@lru_cache(maxsize=4096)
def read_consent(cell: str, is_out: bool) -> Answer | None:
    """Read a cell of a consent column, a yes to an opt-out being a no; None: neither yes nor no.

    >>> [read_consent(cell, False).name for cell in ("Sí", "NEVER_SUBSCRIBED", "n/a")]
    ['YES', 'NO', 'BLANK']
    """
    if len(cell) > 60:
        return None
    words = words_of(re.sub("[✓✔☑✅]", " x ", re.sub("[✗✘☒❌☐]", " no ", cell)))
    if re.fullmatch(r"[\s–—_./?*-]*", cell) or re.fullmatch(_SAYS_NOTHING, words):
        return Answer.BLANK
    if re.fullmatch(_SAYS_OUT, words) or re.fullmatch(_YES if is_out else _NO, words):
        return Answer.NO
    if re.fullmatch(_SAYS_IN, words) or re.fullmatch(_NO if is_out else _YES, words):
        return Answer.YES
    return Answer.NO if is_out and re.fullmatch(_DATE, cell) else None


def is_opt_out(header: str) -> bool:
    """True of a column that tells who does not want texts."""
    words = words_of(header)
    is_both = re.search(r"\bopt(?:ed)? ?in\b", words)
    return not is_both and bool(re.search(rf"\b{_REFUSES}\b", words))


def is_consent(header: str, column: Iterable[str]) -> bool:
    """True of a column that tells who agreed to texts; its name says so, or name and cells do.

    A name that speaks of texts and of agreeing does, unless the cells are dates, IP addresses or
    sources; one that says only half of it does if all its cells are yes or no, and one that names
    texts and something else if they are "subscribed" and the like.
    """
    words, is_out = words_of(header), is_opt_out(header)
    by_text = re.search(rf"\b{_BY_TEXT}\b", words)
    speaks = is_out or re.search(rf"\b{_AGREES}\b", words)
    if re.search(rf"\b{_ELSEHOW}\b", words) and not by_text and words != "do not call":
        return False
    if not (speaks or by_text):
        return False
    cells = {*column}
    answers = {read_consent(cell, is_out) for cell in cells}
    is_told = bool(answers & {Answer.YES, Answer.NO})
    if speaks and (by_text or re.search(rf"\b(?:{_MOBILE}|phone)\b", words)):
        is_about = re.search(rf"\b{_ABOUT}\b", words) or cells
        return is_told or not (is_about and all(map(_is_about_consent, cells)))
    rest = re.sub(rf"\b(?:{_AGREES}|{_REFUSES}|{_BY_TEXT}|{_FILLERS})\b", "", words).split()
    by_itself = by_text and all(
        read_consent(each, True) is read_consent(each, False) for each in cells
    )
    return is_told and None not in answers and bool(not rest or by_itself)


def _is_about_consent(cell: str) -> bool:
    """True of what tells when or how somebody agreed, and not whether."""
    if re.fullmatch(f"{_DATE}|{_ADDRESS}", cell[:_SHOWN]):
        return True
    words = words_of(cell)
    return bool(re.search(rf"\b{_SOURCES}\b", words)) and not re.search(
        rf"\b(?:not?|never|{_REFUSES}|out)\b", words
    )


def judge_consent(
    header: Sequence[str], places: Sequence[int], cells: Sequence[str]
) -> tuple[Answer, str]:
    """Return what a row says of consent, and the cell that says it: any no wins, then any yes."""
    said: dict[Answer, str] = {}
    for place in places:
        cell, is_out = _read_cell(cells, place), is_opt_out(header[place])
        answer = read_consent(cell, is_out)
        if answer is Answer.NO or not is_out:
            told = f'"{header[place]}" {cell[:_SHOWN] or "is empty"}'
            said.setdefault(answer or Answer.YES, printable(told))
    for answer in (Answer.NO, Answer.YES, Answer.BLANK):
        if answer in said:
            return answer, said[answer]
    return Answer.YES, ""


# --- phone numbers

_NANP = r"\+?1?([2-9]\d\d)(\d{3})(\d{4})"
_TOLL_FREE = frozenset(("800", "822", "833", "844", "855", "866", "877", "888"))
_COUNTRY_CODE = r"7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|\d{3}"
# Countries whose numbers begin with 0 after the code: Italy, Ivory Coast, Burkina Faso, Benin,
# Gabon, Congo, San Marino. In all others the 0 is dialed only inside the country.
_KEEPS_0 = ("39", "225", "226", "229", "241", "242", "378")
_INVISIBLE = "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
_LONGEST_NUMBER = 80  # characters of a cell, two numbers in it and all
_PREFIX = r"(?i)^(?:tel|phone|mobile|cell|p|m|c|sms|whatsapp|text|t)\s*:\s*"


def parse_phone_number(text: str) -> PhoneNumber:
    """Read a phone number as people write it; ValueError gives the reason and the fix.

    Ten digits, or 1 and ten, are North American (NANP); all others must begin with +.

    >>> parse_phone_number("(213) 555-1234"), parse_phone_number("'2135551234.0")
    ('+12135551234', '+12135551234')
    """
    import unicodedata

    plain = re.fullmatch(r"(?:\+?1)?([2-9]\d\d)(\d{3})(\d{4})", text) if text.isascii() else None
    if plain:  # most are written like this, and then there is nothing odd to look for
        _check_nanp(*plain.groups())
        return PhoneNumber(f"+1{''.join(plain.groups())}")
    number = unicodedata.normalize("NFKC", re.sub(_INVISIBLE, "", text[:1000])).strip()
    if len(number) > _LONGEST_NUMBER:
        raise ValueError("this is too long for a phone number: write its digits alone")
    if as_text := re.fullmatch(r'=\s*"(.*)"', number):  # so programs make Excel keep the digits
        number = as_text[1].strip()
    number = number.lstrip("'").strip()
    number = re.sub(_PREFIX, "", number)
    number = re.sub(r"[‐-―−]", "-", number)
    number = re.sub(r"^(\+?\d{10,15})\.0+$", r"\1", number)  # Excel's 2135551234.0
    number = re.sub(r"^\(\s*(\+\d{1,4})\s*\)", r"\1 ", number)  # (+44) 7700 900123
    if not number:
        raise ValueError("no phone number: fill it in or delete the row")
    _refuse_odd_forms(number)
    digits = re.sub(r"[^0-9]", "", number)
    if number.startswith("+") and not digits.startswith("1"):
        return _parse_foreign(number, digits)
    if number.startswith(("00", "011")):
        raise ValueError("begins with a dialing prefix: write + and the country code instead")
    match = re.fullmatch(_NANP, digits) if len(digits) in (10, 11) else None
    if not match or (number.startswith("+") and len(digits) != 11):
        raise ValueError(_explain_length(digits))
    _check_nanp(match[1], match[2], match[3])
    return PhoneNumber(f"+1{match[1]}{match[2]}{match[3]}")


def _refuse_odd_forms(number: str) -> None:
    if re.fullmatch(r"[+-]?\d+([.,]\d+)?E\+?\d+", number, re.IGNORECASE):
        raise ValueError("Excel has rounded this number: format the column as Text, type it again")
    if re.search(r"(?i)\d\s*[,;]?\s*(ext\.?|extension|x|#)\s*\.?:?\s*\d+$|;ext=", number):
        raise ValueError("an extension can't get an SMS: write a mobile number without it")
    if re.search(r"\d.*([,;:/|&\n]|\s(or|and|y|ou|oder)\s).*\d", number) and (
        len(re.findall(r"\d", number)) > 11
    ):
        raise ValueError("two numbers in one cell: keep one")
    if re.search(r"\d\D*\+", number):
        raise ValueError("two numbers in one cell, or a + inside: keep one number, + first")
    if re.search(r"\(0\)", number):
        raise ValueError("(0) is dialed only inside the country: leave it out")
    if re.search(r"[^\W\d_]", number):
        raise ValueError("letters are no part of a phone number: write its digits")
    if not re.fullmatch(r"\+?[0-9()\-. /\u00a0]+", number):
        raise ValueError("this is not a phone number: write its digits, like +1 213 555 1234")
    if re.search(r"\d\s*/\s*\d", number) and len(re.findall(r"\d", number)) < 10:
        raise ValueError("this is not a phone number: write its digits, like +1 213 555 1234")


def _parse_foreign(number: str, digits: str) -> PhoneNumber:
    # Grouped like a North American number that lacks its 1.
    if re.fullmatch(r"\+\W*\d{3}\W+\d{3}\W+\d{4}", number) and re.fullmatch(_NANP, digits):
        raise ValueError(f"write +1 before it, or, if it is another country's, +{digits}")
    code = re.match(_COUNTRY_CODE, digits)
    if code and digits[code.end() :].startswith("0") and code[0] not in _KEEPS_0:
        raise ValueError(f"the 0 after +{code[0]} is dialed only inside the country: leave it out")
    if re.fullmatch(r"78\d{10}", digits):
        raise ValueError("the 8 after +7 is dialed only inside the country: leave it out")
    if not 8 <= len(digits) <= 15 or digits.startswith("0"):
        raise ValueError("after + come a country code and a number, 8 to 15 digits in all")
    return PhoneNumber("+" + digits)


def _explain_length(digits: str) -> str:
    if len(digits) in (10, 11):
        return "not a North American number: write + and the country code if it is another's"
    if len(digits) > 13:
        return "two numbers in one cell: keep one"
    return (
        f"{len(digits)} digits: a North American number has 10;"
        " write any other with + and its country code"
    )


def _check_nanp(area: str, exchange: str, line: str) -> None:
    if area in _TOLL_FREE:
        raise ValueError("a toll-free number is no person's phone: write a mobile number")
    if area == "900":
        raise ValueError("a premium-rate number is no person's phone: write a mobile number")
    if area[1:] == "11" or area[1] == "9":
        raise ValueError(f"there is no area code {area}: check the number")
    if exchange[0] in "01" or exchange[1:] == "11":
        raise ValueError(f"{exchange} after the area code is not possible: check the number")
    if exchange == "555" and line.startswith("01"):
        raise ValueError("555-01xx is kept for films: write the real number")


def parse_stored_number(text: str) -> PhoneNumber:
    """Read the number of a stored row: E.164 as it stands, else as people write it; ValueError."""
    return PhoneNumber(text) if re.fullmatch(r"\+[1-9]\d{7,14}", text) else parse_phone_number(text)


# Country codes (ITU-T E.164): of one digit, of two, the others of three.
_COUNTRY_CODE = (
    "1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    "|(2[1-689]|3[578]|42|5[09]|6[7-9]|8[035789]|9[679])[0-9]"
)
_TRUNKS = ("06", "01", "0", "80", "8", "")
_DIALING = (("+", True), ("00", True), ("011", True), *((each, False) for each in _TRUNKS))


@lru_cache(maxsize=4096)
def _read_significant(text: str) -> tuple[tuple[str, bool], ...]:
    """Return the ways to read a number: its significant digits, True if they are international."""
    plain = re.sub(r"[ ().\-]", "", text).replace("+00", "00", 1)
    if not re.fullmatch(r"\+?[0-9]{7,20}", plain, re.ASCII):
        return ()  # a short code, a name
    ways = [(plain[len(mark) :], whole) for mark, whole in _DIALING if plain.startswith(mark)]
    return tuple(ways[:1] if plain.startswith("+") else ways)


def is_same_number(one: str, other: str) -> bool:
    """True if two numbers may be one, in whatever form a network gives them.

    Compared by significant digits, those after + 00 011 or a trunk prefix; two international ones
    are compared whole, else one may lack the country code. Short codes and names fit nobody.

    >>> is_same_number("+12135552301", "2135552301"), is_same_number("+447700900123", "07700900123")
    (True, True)
    >>> is_same_number("+12135552301", "+442135552301"), is_same_number("+12135552301", "5552301")
    (False, False)
    """
    if one == other:
        return True
    if one[-2:] != other[-2:]:  # behind which a separator may stand
        return False
    for digits, is_whole in _read_significant(one):
        for others, is_other_whole in _read_significant(other):
            if digits == others and len(digits) >= 8:
                return True
            if is_whole and is_other_whole:
                continue
            long, short, short_is_whole = (
                (digits, others, is_other_whole)
                if len(digits) > len(others)
                else (others, digits, is_whole)
            )
            lacks = long[: -len(short)]
            if (
                len(short) >= 8
                and not short_is_whole
                and long.endswith(short)
                and re.fullmatch(_COUNTRY_CODE, lacks)
            ):
                return True
    return False


def _tail(number: str) -> str:
    return re.sub(r"\D", "", number)[-8:]


class Numbers:
    """A set of phone numbers in any form: a number is in it if it may be one of them."""

    def __init__(self, numbers: Iterable[str] = ()) -> None:
        self._exact = frozenset(numbers)
        self._by_tail: dict[str, list[str]] = {}  # numbers that may be the same end alike
        for each in self._exact:
            self._by_tail.setdefault(_tail(each), []).append(each)

    def __contains__(self, number: object) -> bool:
        """True if a number in E.164 is one of them."""
        alike = self._by_tail.get(_tail(str(number)), ())
        return any(is_same_number(each, str(number)) for each in alike)


def is_phone_number(text: str) -> bool:
    """True if a sender may be a person's phone; short codes and names are none."""
    return bool(_read_significant(text))


def normalize_number(text: str) -> str:
    """Return the number of a stored row or a sender in E.164; what is none, as it stands."""
    try:
        return parse_stored_number(text)
    except ValueError:
        return text


# --- texts

_NEXT = "[\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"  # 80..BF of UTF-8, read as Windows-1252
_GARBLED = (  # what UTF-8's Latin, punctuation and emoji look like; of other scripts two letters,
    # since one is honest too: "CAFÉ”", or a French "été »"
    f"[Â-Å]{_NEXT}|â€|[âï]{_NEXT}{{2}}|ð{_NEXT}{{2}}|(?:[Æ-ß]{_NEXT}|[à-ï]{_NEXT}{{2}}){{2}}"
)
_LOST = (  # "Really??" is what people write; ? amid a word, or ?? where a word was, is not
    r"(?P<question>(?<=[^\W\d_])\?(?=[^\W\d_])|^\?\?+$|(?<=\s)\?\?+(?=\s[a-z]))"
    f"|(?P<replacement>\ufffd)|(?P<mojibake>{_GARBLED})"
)
# Every pattern is linear: what may repeat is bounded, or begins where the one before has ended.
_WEB_ADDRESS = r"(?i)(?<![\w-])(?:https?://|www\.|[\w-]+\.[a-z]{2,20}(?:/|\?[^\s=]{1,100}=))\S*"
_CONTROL = "[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]"
_BUBBLE_WORD = r"bub+(?:les?|els?)\s{0,9}\d{0,9}"
_NEAR_MARK = (
    rf"(?i)(?<![\[({{<【［])[\[({{<【［]+\s{{0,9}}/?\s{{0,9}}{_BUBBLE_WORD}\s{{0,9}}[\])}}>】］]+"
    rf"|\[\s{{0,9}}{_BUBBLE_WORD}\b|\b{_BUBBLE_WORD}\s{{0,9}}\]"
)
_PLACE = r"\{\{|\}\}|\{([^{}\n]*)\}|[{}]"
# What programs leave in a text: the placeholders of others, a formula's error, a web page's signs.
_FIELD_WORDS = (
    r"(?:(?:the |your |my )?(?:first|last|full|given|family|middle|nick|customer|client|contact"
    r"|user|recipient|company|business|shop|store|brand|product|sender|agent)?[ _-]?(?:name|names)"
    r"|[fl]name|customer|client|(?:your |my )?(?:company|business|shop|store)|recipient|phone"
    r"(?:[ _-]?number)?|mobile|e-?mail(?:[ _-]?address)?|(?:short |your |insert )?(?:link|url)"
    r"|insert [a-z ]{1,30}|date|time|day|amount|address|city|location|discount|(?:coupon|promo"
    r"|discount)?[ _-]?code|prenom|prénom|nom|nombre|apellidos?|vorname|nachname|kunde|cliente"
    r"|order[ _-]?(?:number|id|no))"
)
_PLACEHOLDER = (
    r"\{\{?\s{0,9}[%#$!/]?\s{0,9}(?!\w\|\w\})[^\W\d][^{}\n]{0,80}\}\}?|\{[%#][^{}\n]{1,80}\}"
    r"|\*\|[^|*\n]{1,60}\|\*|(?<![\d%])%[^\W\d]\w{0,40}(?:\.\w{1,40})?%(?!\w)"
    r"|%%[^\W\d][\w .]{0,40}%%|<<[^<>\n]{1,60}>>"
    rf"|(?i:(?:\[|<|«)\s{{0,3}}(?=\w){_FIELD_WORDS}\s{{0,3}}(?:\]|>|»))"
)
_FAILED_FORMULA = (
    r"#(?:N/?[AD]\b|NV\b|BEZUG!|WERT!|ZAHL!|VALEUR!|NOM\?|NOMBRE\?|NOMBRE!|NAME\?|¡[A-Z]{2,9}!|REF!"
    r"|VALUE!|DIV/0!|NULL!|NUM!|ERROR!|SPILL!|CALC!|FIELD!|BLOCKED!|CONNECT!|UNKNOWN!"
    r"|GETTING_DATA)|(?<!#)#{5,}"
)
_WEB_PAGE = (
    r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|amp|lt|gt|quot|apos|nbsp|copy|reg|trade|euro|pound|cent"
    r"|hellip|[lr][sd]quo|[sb]dquo|[nm]dash|bull|middot|iexcl|iquest|szlig|[aeiouyncAEIOUYNC]"
    r"(?:acute|grave|uml|tilde|circ|cedil|ring|slash|lig));|<br ?/?>"
    r"|</?(?:p|div|span|strong|em)(?: [^<>\n]{0,200})?>"
)
_LEFTOVERS: Mapping[str, str] = {
    _PLACEHOLDER: "is a placeholder that nothing fills: write {First Name} in a --template",
    _FAILED_FORMULA: "is what a formula leaves where it fails: correct it in the spreadsheet",
    _WEB_PAGE: "is a sign of a web page: write the character itself",
    r"\\r\\n|\\[nr]|\\t(?![a-z])": "is no line break on a phone: write a real one, or a space",
}


def split_bubbles(message_content: str) -> tuple[str, ...]:
    """Cut a text at its [BUBBLE] marks; white space around a bubble goes, empty ones drop.

    >>> split_bubbles("Hi Ana [BUBBLE][BUBBLE] see you at 5 ")
    ('Hi Ana', 'see you at 5')
    """
    stripped = (bubble.strip() for bubble in message_content.split(BUBBLE_MARK))
    return tuple(bubble for bubble in stripped if bubble)


def unify_line_breaks(text: str) -> str:
    """Write CR LF and CR as LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_letters(text: str) -> str:
    """Return a text or a name as it is; ValueError says what is wrong in it, and the fix.

    That is what was lost on the way, and what a program has left.
    """
    lost = re.search(_LOST, text) if "?" in text or not text.isascii() else None
    if lost and (lost := re.search(_LOST, re.sub(_WEB_ADDRESS, "", text))):
        around = lost.string[max(0, lost.start() - 8) : lost.end() + 8].strip()
        what = "letters were lost" if lost["mojibake"] is None else "letters were garbled"
        raise ValueError(f'{what} at "{around}": type them again and save as CSV UTF-8')
    if control := re.search(_CONTROL, text):
        code = f"U+{ord(control[0]):04X}"
        raise ValueError(f"holds the control character {code}: delete it (a line break is fine)")
    for pattern, words in _LEFTOVERS.items() if re.search(r"[{*%<«\[#&\\]", text) else ():
        for left in re.finditer(pattern, text):
            if not re.fullmatch(rf"(?i)[\[({{<«]+\s*/?\s*{_BUBBLE_WORD}\s*[\])}}>»]+", left[0]):
                raise ValueError(f'"{left[0]}" {words}')
    return text


def check_text(text: str) -> str:
    """Return a message's text as it is; ValueError says what is wrong with it, and the fix."""
    check_letters(text)
    rest = text.replace(BUBBLE_MARK, "")
    if not rest.strip():
        raise ValueError("no text: fill it in or delete the row")
    if "bub" in text.casefold():
        for mark in re.finditer(_NEAR_MARK, text):
            if mark[0] != BUBBLE_MARK:
                raise ValueError(f"{mark[0]} is not the mark between bubbles: write {BUBBLE_MARK}")
    return text


def _check_campaign_name(name: str) -> str:
    if name == TEST_CAMPAIGN:
        raise ValueError("that is the name of what --try sends: choose another")
    if "\n" in name:
        raise ValueError("has a line break: take it out")
    return check_letters(name)


def fill_template(template: str, lookup: Callable[[str], str]) -> str:
    """Put values in for {field}; {{ and }} are braces. lookup raises ValueError."""

    def put(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        if match[1] is None:
            raise ValueError(
                f"a lone {match[0]}: a field has one on each side, like {{customer_name}}; what is"
                " no field is written twice"
            )
        return lookup(match[1])

    return re.sub(_PLACE, put, template)


_US_TIME = r"(\d{1,2})/(\d{1,2})/(\d{4})(?:,? +(\d{1,2}):(\d\d)(?::(\d\d))?(?: *([AaPp])[Mm])?)?"


def parse_consent_time(text: str) -> str:
    """Read ISO, or M/D/YYYY with or without a time; give ISO, without a zone as it was. "" stays.

    >>> parse_consent_time("1/2/2025 3:04 PM"), parse_consent_time("2025-01-02T15:04:00Z")
    ('2025-01-02 15:04:00', '2025-01-02 15:04:00+00:00')
    """
    if not text:
        return ""
    with suppress(ValueError):
        if found := re.fullmatch(_US_TIME, text):
            month, day, year, hour, minute, second = (int(each or 0) for each in found.groups()[:6])
            if found[7]:
                hour = hour % 12 + (12 if found[7] in "Pp" else 0) if 1 <= hour <= 12 else 99
            at = datetime(year, month, day, hour, minute, second)
            return f"{at:%Y-%m-%d %H:%M:%S}" if found[4] else f"{at:%Y-%m-%d}"
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return date.fromisoformat(text).isoformat()
        return datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text)).isoformat(" ")
    raise ValueError("no time: write YYYY-MM-DD or M/D/YYYY")


# --- the reading itself

_SHOWN = 200  # characters of a cell that are told
_NAMED = 5  # values that are named in a sentence
_SWALLOWED = (
    "a quote opened above this line swallows it, a row: close it in its own cell; if it is text,"
    " begin the line with a word"
)
# What stands where a name is missing: nothing of a program, and what a till writes of a card.
_NO_VALUE = r"(?i)(?:null|undefined|nan|n/?a|-+|\(blank\)|\[?no name\]?)"
_NOBODY = (
    r"(?i)(?:(?:visa|mastercard|master card|amex|american express|discover|debit|prepaid|gift) )?"
    r"card ?(?:holder|member)|valued customer|guest|walk-?in"
)


def read_campaign(lines: Iterable[str], order: ReadingOrder) -> Reading:
    """Turn a CSV's lines into Messages and Problems, in file order.

    CampaignError is for the file as a whole: no such column, a broken quote, no row taken, and
    all that the operator has to decide first, at once, each with the option that decides it.
    """
    sheet = read_sheet(lines, [*order.columns.values(), *(name for name, _ in order.only)])
    columns, passed_over, consent = find_columns(sheet, order.columns, order.template is None)
    header = [name.strip() for name in sheet.header]
    reading = Reading(header=header, columns=columns, passed_over=passed_over, consent=consent)
    asked = _ask_columns(header, columns, order)
    template = _Template(order.template, header, columns)
    asked += [template.fault] if template.fault else []
    if "phone_number" not in columns:
        raise CampaignError("; ".join(asked))
    used = {*columns.values(), *consent, *template.places.values()}
    reading.unused = [name for i, name in enumerate(header) if name and i not in used]
    reader = _RowReader(sheet, order, reading, template)
    asked += [*reader.ask_status(), *reader.ask_consent()]
    reader.is_ready = not asked
    for row, cells in sheet.rows:
        reader.read(row, cells)
    if asked:
        raise CampaignError("; ".join([*asked, *_ask_problems(reading)]))
    if not reading.messages and not reading.problems and not reading.skipped:
        found = "; ".join(
            f"{plural(n, 'row')} with {what}" for what, n in reading.not_taken.items()
        )
        raise CampaignError(f"no row was taken: {found or 'there is none below the header'}")
    reading.notes += reader.list_notes()
    return reading


def _ask_columns(
    header: Sequence[str], columns: Mapping[str, int], order: ReadingOrder
) -> list[str]:
    """Ask for the columns that are missing."""
    asked = []
    missing = [name for name in ("phone_number", "customer_name") if name not in columns]
    if order.columns.get("customer_name") == "":
        missing = [name for name in missing if name != "customer_name"]
    if not any(header):
        return ["the file is empty: export it once more, or name another one"]
    if "phone_number" in missing and any(map(_is_number, header)):
        return [
            "the first row is a customer and no row of column names: put one above it, like"
            " phone_number,customer_name,message_content"
        ]
    if missing:
        shown = ", ".join(f'"{name}"' for name in header)
        nobody = ", or --map customer_name= for none" if "customer_name" in missing else ""
        asked.append(
            f"no column is the {' or the '.join(missing)}; the columns are {shown}:"
            f" rename one, or say which with --map {missing[0]}=COLUMN{nobody}"
        )
    if order.template is None and "message_content" not in columns:
        first = next(filter(_is_first_name, header), "")
        asked.append(
            "no column is the message_content: write the text into a file, like"
            f' "Hi {{{first or "customer_name"}|there}}! ... Reply STOP to opt out", and add'
            " --template text.txt, or say which column with --map message_content=COLUMN"
        )
    return asked


def _ask_problems(reading: Reading) -> Iterator[str]:
    """Ask what becomes of the rows that can't be taken, by kind."""
    if reading.problems:
        kinds = Counter(
            re.sub(r'"[^"]*"', "...", each.problem.partition(":")[0]) for each in reading.problems
        )
        words = ", ".join(f"{words}: {n:,}" for words, n in kinds.most_common(_NAMED))
        words += ", ..." if len(kinds) > _NAMED else ""
        count = plural(len(reading.rejected), "row")
        yield f"{count} can't be taken ({words}): leave them out with --skip-invalid"


def _count_values(values: Counter[str]) -> str:
    shown = [f'"{printable(each[:30])}" {n:,}' for each, n in values.most_common(_NAMED)]
    return ", ".join(shown) + (", ..." if len(values) > _NAMED else "")


def _say_only(name: str, value: str) -> str:
    """Write an option as a shell, PowerShell and cmd take it."""
    words = printable(f"{name}={value}")
    return f"--only {words}" if re.fullmatch(r"[\w=@+:,./-]+", words) else f'--only "{words}"'


class _Template:
    """The text for all, its {fields} filled from a row."""

    def __init__(self, text: str | None, header: Sequence[str], columns: Mapping[str, int]) -> None:
        self._text, self._header, self._columns = text or "", header, columns
        self.places: dict[str, int] = {}  # {field} -> its column; -1: the name, first and last
        self.fault = ""  # why no row can fill it
        try:
            fill_template(self._text, self._find_place)
            check_text(unify_line_breaks(fill_template(text or "x", lambda _: "x")))
        except ValueError as error:
            self.fault = f"the template: {error}"

    def _find_place(self, said: str) -> str:
        """Find the column of a {field}, or of a {field|fallback}."""
        name, plain = said.partition("|")[0], [plain_name(each) for each in self._header]
        known = [place for each, place in self._columns.items() if rank_name(each, name)]
        firsts = [i for i, each in enumerate(self._header) if _is_first_name(each)]
        if plain_name(name) and plain.count(plain_name(name)) == 1:
            self.places[said] = plain.index(plain_name(name))
        elif firsts and _is_first_name(name):
            self.places[said] = firsts[0]
        elif plain_name(name) == "customername" or self._columns.get("customer_name") in known:
            self.places[said] = -1
        elif known:
            self.places[said] = known[0]
        else:
            raise ValueError(
                f"{{{name}}} is no column: they are {', '.join(self._header)};"
                " {customer_name} always works"
            )
        return ""

    def fill(self, cells: Sequence[str], customer_name: str) -> str:
        """Return the text for a row; ValueError names the cell that is empty."""

        def look_up(said: str) -> str:
            name, _, fallback = said.partition("|")
            place = self.places[said]
            value = customer_name if place < 0 else _read_cell(cells, place)
            is_name = place in (-1, self._columns.get("customer_name"))
            if re.fullmatch(_NO_VALUE, value) or (
                fallback and is_name and re.fullmatch(_NOBODY, customer_name)
            ):
                value = ""
            if not value and not fallback:
                column = "customer_name" if place < 0 else self._header[place]
                raise ValueError(
                    f'the cell "{column}" for {{{name}}} is empty: write {{{name}|there}}'
                )
            return value or fallback

        return fill_template(self._text, look_up)


class _RowReader:
    """Reads one row after another; knows whose numbers it has seen and who said no."""

    def __init__(
        self, sheet: Sheet, order: ReadingOrder, into: Reading, template: _Template
    ) -> None:
        self._sheet, self._order, self._into, self._template = sheet, order, into, template
        self.is_ready = True  # the texts can be made
        self._is_status_asked = False
        self._only: dict[int, list[str]] = {}  # place -> values, one of which is wanted
        for name, value in order.only:
            self._only.setdefault(_find_said("--only", name, into.header), []).append(value.strip())
        self._labels = self._find_labels()
        self._refused = self._find_refused()
        self._seen: dict[tuple[str, str], int] = {}  # campaign, number -> its row
        self._odd_zones: Counter[str] = Counter()
        self._nobodies: list[int] = []
        self._people: dict[tuple[str, str], dict[str, int]] = {}  # name, e-mail -> number -> row

    def _cell(self, cells: Sequence[str], field_name: str) -> str:
        place = self._into.columns.get(field_name, -1)
        return _read_cell(cells, place) if place >= 0 else ""

    def _find_refused(self) -> dict[str, tuple[Answer, str, int]]:
        """Return the numbers of which a row says no, or was not asked: it holds for the number."""
        refused: dict[str, tuple[Answer, str, int]] = {}
        for row, cells in self._sheet.rows:
            answer, evidence = judge_consent(self._into.header, self._into.consent, cells)
            if answer is not Answer.YES:
                with suppress(ValueError):
                    number = parse_phone_number(self._find_number(cells))
                    was = refused.get(number)
                    if was is None or (was[0] is Answer.BLANK and answer is Answer.NO):
                        refused[number] = (answer, evidence, row)
        return refused

    def ask_status(self) -> Iterator[str]:
        """Ask what a status column means of which no row is marked SUG."""
        place = self._into.columns.get("status", -1)
        values = Counter(_read_cell(cells, place) for _, cells in self._sheet.rows)
        if place >= 0 and place not in self._only and values and "SUG" not in values:
            self._is_status_asked, name = True, self._into.header[place]
            most = next((each for each, _ in values.most_common() if each), "")
            yield (
                f'of column {column_letter(place)} "{printable(name)}" only rows marked SUG are'
                f" taken, and none is ({_count_values(values)}): take others with"
                f" {_say_only(name, most)}, or all with --map status="
            )

    def ask_consent(self) -> Iterator[str]:
        """Ask what the cells of consent columns mean that say neither yes nor no."""
        for place in self._into.consent:
            name = self._into.header[place]
            unclear, agreed = Counter[str](), Counter[str]()
            for _, cells in self._sheet.rows:
                cell = _read_cell(cells, place)
                answer = read_consent(cell, is_opt_out(name))
                agreed[cell] += answer is Answer.YES
                unclear[cell] += answer is None and self._filter(cells) is None
            if (unclear := +unclear) and place not in self._only:
                example = (+agreed or unclear).most_common(1)[0][0]
                yield (
                    f'column {column_letter(place)} "{printable(name)}" tells who agreed to texts,'
                    f" and {_count_values(unclear)} says neither yes nor no: take one with"
                    f" {_say_only(name, example[:_SHOWN])}, or, if it tells something else, add"
                    " --map consent="
                )

    def list_notes(self) -> Iterator[str]:
        """Return what the operator may not have meant, of the whole file."""
        if (top := self._sheet.header_row) > 1:
            above = "row 1" if top == 2 else f"rows 1-{top - 1}"
            yield f"the header is row {top}: {above} above it skipped"
        if self._odd_zones:
            count = plural(self._odd_zones.total(), "row")
            yield f"no zone in {count} ({_count_values(self._odd_zones)}): the area code decides"
        if self._nobodies:
            yield (
                f"{plural(len(self._nobodies), 'row')} of a card or a till, no person (row"
                f" {self._nobodies[0]}): {{First Name|there}} in the template takes there for them"
            )
        several = [[*rows.values()] for rows in self._people.values() if len(rows) > 1]
        if several:
            rows = " and ".join(map(str, several[0]))
            yield (
                f"a name and e-mail stand with several numbers, each of which gets a text:"
                f" {plural(len(several), 'time')}, first in rows {rows}"
            )

    def read(self, row: int, cells: list[str]) -> None:
        """Read one record into messages, problems or skipped."""
        into = self._into
        if reason := self._filter(cells):
            into.not_taken[reason] += 1
            return
        problems: list[Problem] = []

        def take(name: str, value: str, read: Callable[[str], str]) -> str:
            try:
                return read(value)
            except ValueError as error:
                column = into.header[into.columns[name]] if name in into.columns else name
                problems.append(Problem(row, column, value[:_SHOWN], str(error)))
                return ""

        if spoilt := self._find_swallowed_row(cells) or self._find_extra_cell(cells):
            problems.append(Problem(row, *spoilt))
        elif skipped := self._find_refusal(row, cells):
            into.skipped.append(skipped)
            into.left_out.append((row, cells))
            return
        else:
            message = self._read_message(row, cells, take)
        if problems:
            into.problems += problems
            into.rejected.append((row, cells))
            return
        key = (message.campaign_name, message.phone_number)
        if (first := self._seen.setdefault(key, row)) != row:
            into.skipped.append(Skipped(row, message.phone_number, f"same number as row {first}"))
            into.left_out.append((row, cells))
            return
        into.messages.append(message)
        if re.fullmatch(_NOBODY, message.customer_name):
            self._nobodies.append(row)
        if message.customer_name and (email := self._find_email(cells)):
            person = (message.customer_name.casefold(), email.casefold())
            self._people.setdefault(person, {})[message.phone_number] = row

    def _filter(self, cells: Sequence[str]) -> str | None:
        """Return why the operator does not want a row, None if they do."""
        header, columns = self._into.header, self._into.columns
        for place, wanted in self._only.items():
            cell = _read_cell(cells, place)
            if cell.casefold() not in [value.casefold() for value in wanted]:
                shown = f'{printable(header[place])} "{printable(cell[:_SHOWN])}"'
                return f"{shown} (not {' or '.join(wanted)})"
        status = self._cell(cells, "status")
        is_said = self._is_status_asked or columns.get("status", -1) in (-1, *self._only)
        if not is_said and status != "SUG":
            named = printable(header[columns["status"]])
            return f'{named} "{printable(status[:_SHOWN])}" (only SUG is taken)'
        campaign = self._cell(cells, "campaign_name")
        if "campaign_name" in columns and self._order.campaign not in (None, campaign):
            return f'campaign_name "{printable(campaign[:_SHOWN])}"'
        return None

    def _find_refusal(self, row: int, cells: Sequence[str]) -> Skipped | None:
        """Return why a row's number said no, here or in another row; None if it did not."""
        written = self._find_number(cells)
        try:
            number = parse_phone_number(written)
        except ValueError:
            number = PhoneNumber(printable(written[:_SHOWN]))
        answer, evidence = judge_consent(self._into.header, self._into.consent, cells)
        if answer is Answer.YES:
            if number not in self._refused:
                return None
            answer, evidence, elsewhere = self._refused[number]
            return Skipped(row, number, f"{answer.value} in row {elsewhere} ({evidence})")
        return Skipped(row, number, f"{answer.value} ({evidence})")

    def _read_message(
        self, row: int, cells: Sequence[str],
        take: Callable[[str, str, Callable[[str], str]], str],
    ) -> Message:  # fmt: skip
        """Read a row's message, good or not: take() notes what a cell's reading complains of."""
        order = self._order
        both = [self._cell(cells, each) for each in ("customer_name", "last_name")]
        words = [
            word for each in both if not re.fullmatch(_NO_VALUE, each) for word in each.split()
        ]
        name = take("customer_name", " ".join(words), check_letters)
        campaign = self._cell(cells, "campaign_name") or order.campaign or order.default_campaign
        take("campaign_name", campaign, _check_campaign_name)
        written = self._find_number(cells) or self._cell(cells, "phone_number")
        number = PhoneNumber(take("phone_number", written, partial(self._parse_number, cells)))
        zone = self._cell(cells, "timezone")
        try:
            zone = zone and find_zone(zone).key
        except ValueError:
            self._odd_zones[zone[:_SHOWN]] += 1
            zone = ""
        if number:
            take("phone_number", number, lambda _: order.check_reachable(number, zone))
        text = self._cell(cells, "message_content")
        if order.template is not None and self.is_ready:
            text = take("template", "", lambda _: self._template.fill(cells, name))
        text = unify_line_breaks(text).strip()
        if self.is_ready and (text or not order.template):
            take("message_content", text, check_text)
        consent_at = take("consent_at", self._cell(cells, "consent_at"), parse_consent_time)
        taken = simplify_text(text) if order.simplify else text
        parts = [segment_text(bubble) for bubble in split_bubbles(taken)]
        take("message_content", taken[:40], lambda _: self._check_length(parts))
        return Message(
            row=row,
            phone_number=number,
            customer_name=name,
            message_content=taken,
            campaign_name=campaign,
            campaign_message_id=self._cell(cells, "id") or str(row),
            bubbles=len(parts),
            segments=sum(len(part.units) for part in parts),
            encoding=max((part.encoding for part in parts), default=Encoding.GSM7),
            timezone=zone,
            consent_at=consent_at,
            consent_source=self._cell(cells, "consent_source"),
            written=text if taken != text else "",
        )

    def _find_labels(self) -> list[tuple[int, int]]:
        """Find the columns of label and number where they are pairs: Google's "Phone 1 - Value"."""
        names = [words_of(name) for name in self._sheet.header]
        phone = names[self._into.columns["phone_number"]]
        kind = re.fullmatch(r"(.+) \d+ (value|valeur|valor|wert)", phone)
        pairs = [
            (label, value)
            for value, name in enumerate(names)
            for label, other in enumerate(names)
            if kind and re.fullmatch(rf"{kind[1]} \d+ {kind[2]}", name) and label != value
            if other.rpartition(" ")[0] == name.rpartition(" ")[0]
        ]
        cells = (words_of(cell) for label, _ in pairs for cell in self._sheet.column(label))
        return pairs if any(re.search(rf"\b{_MOBILE}\b", words) for words in cells) else []

    def _find_number(self, cells: Sequence[str]) -> str:
        """Return the cell of a row's number; of several with labels the mobile one."""
        phone = self._into.columns["phone_number"]
        for label, value in self._labels:
            words = words_of(_read_cell(cells, label))
            if re.search(rf"\b{_MOBILE}\b", words):
                return _read_cell(cells, value)
            if value == phone and re.search(rf"\b{_ELSEWHERE}\b", words):
                phone = len(cells)  # another phone is no mobile one
        return _read_cell(cells, phone)

    def _parse_number(self, cells: Sequence[str], written: str) -> PhoneNumber:
        if written and not self._find_number(cells):
            raise ValueError(
                "no phone number that is mobile by its label: correct the label or the row"
            )
        return parse_phone_number(written)

    def _find_email(self, cells: Sequence[str]) -> str:
        names = enumerate(self._into.header)
        places = [i for i, name in names if re.match(r"e ?mail|correo|courriel", words_of(name))]
        return next((each for i in places if "@" in (each := _read_cell(cells, i))), "")

    def _check_length(self, parts: Sequence[Segmentation]) -> str:
        for place, part in enumerate(parts, 1):
            if len(part.units) > MAX_SEGMENTS:
                raise ValueError(
                    f"bubble {place} needs {len(part.units)} segments, {MAX_SEGMENTS} is the"
                    f" most: put a {BUBBLE_MARK} into it"
                )
        segments = sum(len(part.units) for part in parts)
        if 0 < self._order.max_segments < segments:
            raise ValueError(explain_too_long(segments, self._order.max_segments))
        return ""

    def _find_extra_cell(self, cells: Sequence[str]) -> tuple[str, str, str] | None:
        extra = next(filter(None, cells[len(self._into.header) :]), "")
        column = self._into.header[self._into.columns.get("message_content", -1)]
        words = "more cells than the header has: quote the text"
        return (column, extra[:_SHOWN], words) if extra else None

    def _find_swallowed_row(self, cells: list[str]) -> tuple[str, str, str] | None:
        """Find a cell that a quote never closed has made of two rows: column, line, problem.

        Cut at a line break, what is above and the line below are both whole rows then.
        """
        mark, width = self._sheet.delimiter, len(self._into.header)
        for place, cell in enumerate(cells):
            lines = unify_line_breaks(cell).split("\n")
            above = place + 1  # cells down to the line break
            for at, line in enumerate(lines[1:], 1):
                above += lines[at - 1].count(mark)
                tail = cells[place + 1 :] if at == len(lines) - 1 else []
                if above == width and self._is_row([*line.split(mark), *tail]):
                    upper = "\n".join(lines[:at]).split(mark)
                    if self._is_row([*cells[:place], *upper]):
                        return self._into.header[min(place, width - 1)], line[:_SHOWN], _SWALLOWED
        return None

    def _is_row(self, cells: Sequence[str]) -> bool:
        is_whole = len(cells) == len(self._into.header)
        return is_whole and _is_number(self._cell(cells, "phone_number").strip('"'))


OPT_OUT_KEYS = ("phone_number", "at", "words", "reason", "tier", "campaign")


def read_numbers(
    lines: Iterable[str], said: Mapping[str, str]
) -> tuple[list[PhoneNumber], list[Problem]]:
    """Read the column of phone numbers of a CSV; CampaignError where there is none.

    Of smsbox's own list of opt-outs also names and short codes, which are nobody else's numbers.
    """
    sheet = read_sheet(lines, said.values())
    is_own = tuple(each.removesuffix(" (UTC)") for each in sheet.header) == OPT_OUT_KEYS
    place = find_columns(sheet, said)[0].get("phone_number")
    if place is None:
        raise CampaignError("no column is the phone_number: write that word above the numbers")
    numbers: list[PhoneNumber] = []
    problems: list[Problem] = []
    for row, cells in sheet.rows:
        cell = _read_cell(cells, place)
        try:
            numbers.append(parse_stored_number(cell))
        except ValueError as error:
            # A name, not a number with words beside it or one that a spreadsheet has rounded.
            is_number = re.search(r"\d[ .()-]+\d", cell) and len(re.findall(r"\d", cell)) > 6
            is_name = re.search("[A-Za-z]", cell) and not re.match(r"[\d.,]+E\+", cell)
            if is_own and ((is_name and not is_number) or re.fullmatch(r"(?a)\d{3,15}", cell)):
                numbers.append(PhoneNumber(cell))
                continue
            problems.append(Problem(row, sheet.header[place].strip(), cell[:_SHOWN], str(error)))
    return numbers, problems


def explain_too_long(segments: int, limit: int) -> str:
    """Return why a message that alone is more than a day's segments is never sent."""
    return f"it needs {segments} segments and max_segments_per_day is {limit}: shorten it"


def choose_new(
    messages: Iterable[Message],
    known: Iterable[tuple[str, str, str]],
    opted_out: Container[str],
    again: bool = False,
) -> tuple[list[Message], list[Skipped]]:
    """Part messages from those to who said stop or was written to in their campaign already.

    known: campaign, number and text of what waits, was sent or may have been; a row of no campaign
    counts for nothing. The same text is not sent in another campaign either, unless again says so.
    """
    written_to, campaigns = set[tuple[str, str]](), dict[tuple[str, str], set[str]]()
    for campaign, number, text in known:
        written_to.add((campaign, number))
        if campaign not in ("", TEST_CAMPAIGN):
            campaigns.setdefault((number, text), set()).add(campaign)
    kept: list[Message] = []
    left_out: list[Skipped] = []
    for each in messages:
        others = campaigns.get((each.phone_number, each.message_content), set())
        reason = ""
        if each.phone_number in opted_out:
            reason = "the recipient said stop"
        elif (each.campaign_name, each.phone_number) in written_to:
            reason = f"already scheduled or sent in {each.campaign_name}"
        elif others and not again:
            reason = f"already scheduled or sent in {min(others)}"
        if reason:
            left_out.append(Skipped(each.row, each.phone_number, reason))
        else:
            kept.append(each)
    return kept, left_out


def find_overlap(
    messages: Sequence[Message], known: Iterable[tuple[str, str, str]], running: frozenset[str]
) -> tuple[str, int, int]:
    """Return the other running campaign with more than half of the recipients: name, of them, all.

    The name is "" where there is none; a handful of people may be in two at a time.
    """
    own = {message.campaign_name for message in messages}
    numbers = {message.phone_number for message in messages}
    pairs = {(name, number) for name, number, _ in known if name in running - own}
    shared = Counter(name for name, number in pairs if number in numbers)
    name, count = max(shared.items(), key=lambda each: each[1], default=("", 0))
    mostly = count >= _HANDFUL and 2 * count > len(numbers)
    return (name if mostly else ""), count, len(numbers)


_HANDFUL = 5


# What a formula begins with: at the start of a cell, or where a spreadsheet may cut it. Tab and CR
# begin one too. A guard, "'", is guarded itself, so that reading takes back what was written.
_FORMULA = "'*[=+@\\-\uff0b\uff0d\uff1d\uff20]"
_CELL_START = r"((?:^|[;,\t\r\n])[^\S\t\r\n]*)"


def spreadsheet_cell(text: str) -> str:
    """Write a cell so that a spreadsheet takes it for text, never for a formula.

    >>> spreadsheet_cell("=1"), spreadsheet_cell("Hi; =1")
    ("'=1", "Hi; '=1")
    """
    return re.sub(rf"{_CELL_START}(?={_FORMULA})|^(?='*[\t\r])", r"\1'", text)


def _read_cell(cells: Sequence[str], index: int) -> str:
    """Read a cell, without the guard of spreadsheet_cell(); "" where there is none."""
    cell = cells[index].strip() if index < len(cells) else ""
    return re.sub(rf"{_CELL_START}'(?={_FORMULA})|^'(?='*[\t\r])", r"\1", cell).strip()


# === 5 Pacing ====================================================================================
# When each message goes: business hours on local dates (so both nights of the clock change are
# right), those of the recipient too, an interval drawn evenly, now and then a skip, quotas. On
# find_slots() stand plan(), which places a new campaign, and project(), which tells when what waits
# will really go. It does not know the clock or the database: times and the random source are
# arguments, and the same arguments give the same plan to the second.


# The zones in which a North American area code may lie; one that lies in several stands in each.
# After the timezone data of Google's libphonenumber 9.0.43 (November 2026, IANA names of 2026f) and
# the zones' own borders: an overlay lies where its elder does, Boise and Juneau are their
# neighbours', the Caribbean islands on Puerto Rico's time are one, and parts that keep another
# time are named (Labrador, the Magdalen Islands, Lloydminster, Phenix City in Alabama).
# fmt: off
_AREA_CODES: Mapping[str, str] = {
    "America/New_York": (
        "201 202 203 207 212 215 216 219 220 223 227 229 231 234 239 240 248 252 260 267 269 "
        "270 272 276 283 301 302 304 305 313 315 317 321 324 326 329 330 332 334 336 339 347 "
        "351 352 363 364 380 386 401 404 407 410 412 413 419 423 434 440 443 445 448 463 470 "
        "472 475 478 484 502 508 513 516 517 518 540 551 561 567 570 571 574 582 585 586 603 "
        "606 607 609 610 614 616 617 631 640 645 646 656 667 678 680 681 686 689 703 704 706 "
        "716 717 718 724 727 728 732 734 740 743 754 757 762 765 770 771 772 774 781 786 802 "
        "803 804 810 812 813 814 821 826 828 835 838 839 843 845 848 850 854 856 857 859 860 "
        "862 863 864 865 878 904 906 908 910 912 914 917 919 929 930 934 937 941 943 947 948 "
        "954 959 973 978 980 984 989"
    ),
    "America/Chicago": (
        "205 210 214 217 218 219 224 225 228 235 251 254 256 262 270 274 281 308 309 312 314 "
        "316 318 319 320 325 327 331 334 337 346 353 361 364 402 405 409 414 417 423 430 432 "
        "447 448 464 469 479 501 504 507 512 515 531 534 539 557 563 572 573 574 580 601 605 "
        "606 608 612 615 618 620 629 630 636 641 651 659 660 662 682 701 708 712 713 715 726 "
        "730 731 737 763 769 773 779 785 806 812 815 816 817 830 832 847 850 870 872 901 903 "
        "906 913 918 920 930 931 936 938 940 945 952 956 972 975 979 985"
    ),
    "America/Los_Angeles": (
        "206 208 209 213 253 279 310 323 341 350 360 369 408 415 424 425 442 458 503 509 510 "
        "530 541 559 562 564 619 626 628 650 657 661 669 702 707 714 725 738 747 760 775 805 "
        "818 820 831 840 858 909 916 925 949 951 971 986"
    ),
    "America/Toronto": (
        "226 249 263 273 289 343 354 365 367 382 416 418 437 438 450 468 514 519 548 579 581 "
        "613 647 683 705 742 753 807 819 867 873 905 942"
    ),
    "America/Denver": (
        "208 303 307 308 385 406 435 458 505 541 575 605 620 701 719 720 748 775 785 801 915 "
        "928 970 983 986"
    ),
    "America/Puerto_Rico": (
        "246 264 268 273 284 340 367 418 473 581 664 721 758 767 784 787 868 869 939"
    ),
    "America/Edmonton": "236 250 257 306 368 403 474 587 639 672 778 780 825 867",
    "America/Halifax": "273 367 418 428 506 581 709 782 879 902",
    "America/Winnipeg": "204 306 431 474 584 639 807 867",
    "America/Vancouver": "236 250 257 604 672 778",
    "America/Fort_Nelson": "236 250 257 672 778",
    "America/Phoenix": "480 520 602 623 928",
    "America/Regina": "306 474 639",
    "America/Santo_Domingo": "809 829 849",
    "America/Jamaica": "658 876",
    "America/St_Johns": "709 879",
    "America/Adak": "907",
    "America/Anchorage": "907",
    "America/Cayman": "345",
    "America/Grand_Turk": "649",
    "America/Nassau": "242",
    "America/Panama": "807",
    "America/Whitehorse": "867",
    "Atlantic/Bermuda": "441",
    "Pacific/Guam": "671",
    "Pacific/Honolulu": "808",
    "Pacific/Pago_Pago": "684",
    "Pacific/Saipan": "670",
}
# fmt: on
_CONTIGUOUS = "New_York Chicago Denver Phoenix Los_Angeles"  # of an area code that is not there


def recipient_zones(number: str, said: str = "") -> Zones:
    """Return the zones in which a recipient may be, all of which must be open; () if unknown.

    said is the row's own zone (ValueError where it is none); without it the area code tells.

    >>> [zone.key for zone in recipient_zones("+18505551234")]
    ['America/New_York', 'America/Chicago']
    """
    return _find_zones(number[:5], said)


@lru_cache(maxsize=1000)
def name_zones(zones: Zones) -> str:
    """Write the names of zones, with spaces between."""
    return " ".join(zone.key for zone in zones)


@lru_cache(maxsize=4096)
def _find_zones(prefix: str, said: str) -> Zones:
    if said:
        return (find_zone(said),)
    if not prefix.startswith("+1"):
        return ()
    names = [name for name, codes in _AREA_CODES.items() if prefix[2:] in codes.split()]
    return tuple(map(find_zone, names or [f"America/{name}" for name in _CONTIGUOUS.split()]))


class Gap(NamedTuple):
    """What was drawn before one message, in seconds."""

    gap_s: float
    skip_s: float

    @property
    def span(self) -> timedelta:
        """Return both together."""
        return timedelta(seconds=self.gap_s + self.skip_s)


@lru_cache(maxsize=4096)
def opening_window(day: date, hours: BusinessHours) -> tuple[datetime, datetime] | None:
    """Return the open span [opens, closes) of a local date in UTC; None on a closed day.

    In an hour that the clock repeats the later opening and the earlier closing count.
    """
    if day.weekday() not in hours.days or day in hours.closed_on:
        return None
    opens = _local_instant(day, hours.opens, hours.timezone, fold=1)
    closes = _local_instant(day, hours.closes, hours.timezone, fold=0)
    return (opens, closes) if opens < closes else None


def _local_instant(day: date, minutes: int, zone: ZoneInfo, fold: int) -> datetime:
    """Find a wall time's instant; one that the clock jumps over is the first one after it."""
    wall = datetime.combine(day, time()) + timedelta(minutes=minutes)
    while True:
        at = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if at.astimezone(zone).replace(tzinfo=None) == wall:
            return at
        wall += timedelta(minutes=1)


def window_at_or_after(at: datetime, hours: BusinessHours) -> tuple[datetime, datetime]:
    """Return the open span that holds the instant, else the next one; ConfigError if none comes."""
    day = at.astimezone(hours.timezone).date()
    for ahead in range(3700):
        window = opening_window(day + timedelta(days=ahead), hours)
        if window and at < window[1]:
            return window
    raise ConfigError("[business_hours] leaves no open day in the next ten years")


def is_open(at: datetime, hours: BusinessHours) -> bool:
    """True if a message may begin at this instant."""
    return window_at_or_after(at, hours)[0] <= at


def next_open(at: datetime, hours: BusinessHours) -> datetime:
    """Return the first instant from at on when a message may begin."""
    return max(at, window_at_or_after(at, hours)[0])


def draw_gap(rng: random.Random, pace: Pace) -> Gap:
    """Draw the interval before a message, and perhaps a skip on top of it."""
    gap_s = _draw_seconds(rng, pace.interval_minutes)
    chance = rng.uniform(*pace.skip_chance)
    skips = rng.random() < chance
    return Gap(gap_s, _draw_seconds(rng, pace.skip_minutes) if skips else 0)


def _draw_seconds(rng: random.Random, minutes: tuple[float, float]) -> float:
    """Draw evenly; in whole seconds, as the database keeps them, where the span has room."""
    low, high = minutes[0] * 60, minutes[1] * 60
    seconds = rng.uniform(low, high)
    whole = round(seconds)
    return whole if low <= whole <= high else seconds


def hours_of(
    number: str,
    said: str,
    hours: BusinessHours,
    theirs: RecipientHours | None,
    anyway: bool = False,
) -> tuple[BusinessHours, ...]:
    """Return all hours that must be open for a recipient; with anyway the sender's are left out.

    said is the row's own zone: ValueError where it is asked for and is none.
    """
    if theirs is None or not theirs.enabled:
        return () if anyway else (hours,)
    return _join_hours(recipient_zones(number, said), hours, theirs, anyway)


@lru_cache(maxsize=4096)
def _join_hours(
    zones: Zones, hours: BusinessHours, theirs: RecipientHours, anyway: bool
) -> tuple[BusinessHours, ...]:
    opens, closes, days, closed_on = theirs.opens, theirs.closes, range(7), frozenset[date]()
    if theirs.strict:
        opens, closes, days, closed_on = 10 * 60, 17 * 60, range(5), hours.closed_on
    return (() if anyway else (hours,)) + tuple(
        BusinessHours(zone, opens, closes, frozenset(days), closed_on) for zone in zones
    )


@lru_cache(maxsize=4096)
def common_window(
    at: datetime, all_hours: tuple[BusinessHours, ...]
) -> tuple[datetime, datetime] | None:
    """Return the open span common to all hours that holds the instant, else the next one.

    None where in a year there is no such instant.
    """
    last = at + timedelta(days=370)
    while at < last:
        windows = [window_at_or_after(at, each) for each in all_hours]
        opens = max((window[0] for window in windows), default=at)
        closes = min((window[1] for window in windows), default=last)
        if opens < closes:
            return opens, closes
        at = opens  # nothing is common before the last of them opens
    return None


def open_time(since: datetime, until: datetime, all_hours: tuple[BusinessHours, ...]) -> timedelta:
    """Return how long all hours were open between two times."""
    total, at = timedelta(), since
    while at < until and (window := common_window(at, all_hours)):
        total += max(min(until, window[1]) - max(at, window[0]), timedelta())
        at = window[1]
    return total


class Share(NamedTuple):
    """What a message takes of the budgets."""

    phone_number: str
    segments: int
    messages: int = 1  # 0: of a text of the box itself


class Budgets:
    """What the SIM's plan has room for: messages and segments a day, recipients a plan month.

    Days are the sender's; months begin on plan_month_starts_on. What was sent and what is planned
    is spent alike; a number that is written to in a month again is no further recipient.
    """

    def __init__(self, pace: Pace, zone: ZoneInfo) -> None:
        self.met: dict[str, list[date]] = {}  # limits that moved a message -> the days
        self.pace = pace
        self._zone = zone
        self._messages: Counter[date] = Counter()
        self._segments: Counter[date] = Counter()
        self._recipients: dict[date, set[str]] = {}

    def kind_of(self, share: Share, is_only: bool) -> tuple[object, ...]:
        """Return what of a message its room depends on; () where there are no limits.

        Of a number with one message it is the months in which it was written to, not the number.
        """
        pace, who = self.pace, share.phone_number if not is_only else ""
        if is_only and pace.max_recipients_per_month:
            months = [month for month, known in self._recipients.items()
                      if share.phone_number in known]  # fmt: skip
            who = " ".join(map(str, months))
        segments = share.segments if pace.max_segments_per_day else 0
        number = who if pace.max_recipients_per_month else ""
        return (segments, number) if pace.is_limited else ()

    def spend(self, at: datetime, share: Share) -> None:
        """Take a message's share of its day and its month."""
        if not self.pace.is_limited:
            return
        day = self._day(at)
        self._messages[day] += share.messages
        self._segments[day] += share.segments
        self._recipients.setdefault(self._month(day), set()).add(share.phone_number)

    def find_limit(self, at: datetime, share: Share) -> tuple[str, datetime] | None:
        """Return the setting that leaves a message no room at a time, and when there may be some.

        What alone is more than a day's segments is taken for a day's: it is refused elsewhere.
        """
        if not self.pace.is_limited:
            return None
        pace, day = self.pace, self._day(at)
        month = self._month(day)
        most, known = pace.max_recipients_per_month, self._recipients.get(month, set())
        if 0 < most <= len(known) and share.phone_number not in known:
            next_month = self._month(month + timedelta(days=31))
            return "max_recipients_per_month", self._midnight(next_month)
        most = pace.max_segments_per_day
        if 0 < pace.max_messages_per_day < self._messages[day] + share.messages:
            name = "max_messages_per_day"
        elif 0 < most < self._segments[day] + min(share.segments, most):
            name = "max_segments_per_day"
        else:
            return None
        return name, self._midnight(day + timedelta(days=1))

    def reopened(self, at: datetime, share: Share) -> datetime | None:
        """Return the beginning of a time's month if the one before had no room for a message."""
        begin = self._midnight(self._month(self._day(at)))
        return begin if self.find_limit(begin - timedelta(seconds=1), share) else None

    def find_room(self, at: datetime, share: Share) -> datetime:
        """Return the first time from one on that has room for a message; note what was met."""
        while limit := self.find_limit(at, share):
            days = self.met.setdefault(limit[0], [])
            if (day := self._day(at)) not in days:
                days.append(day)
            at = limit[1]
        return at

    def _day(self, at: datetime) -> date:
        return at.astimezone(self._zone).date()

    def _month(self, day: date) -> date:
        starts_on = self.pace.plan_month_starts_on
        in_month = day if day.day >= starts_on else day.replace(day=1) - timedelta(days=1)
        return in_month.replace(day=starts_on)

    def _midnight(self, day: date) -> datetime:
        return _local_instant(day, 0, self._zone, fold=0)


# --- the placement


_LATE = timedelta(seconds=1)  # behind its end, in whole seconds


class Candidate(NamedTuple):
    """A message that waits for its slot."""

    hours: tuple[BusinessHours, ...]  # all of which must be open
    share: Share
    ready_at: datetime | None = None  # not before; None: from the beginning
    due_at: datetime | None = None  # by the plan; it is late from then on
    span_s: float = 0.0  # its own gap and skip
    until: datetime | None = None  # not after
    apart: str = ""  # of one mark stand one behind the other, and pass those of another
    anyway: tuple[BusinessHours, ...] = ()  # in the place of hours until then
    anyway_until: datetime | None = None


class _Lane:
    """The places of messages that wait for the same hours and room, in their order."""

    def __init__(
        self, waiting: Sequence[Candidate], hours: tuple[BusinessHours, ...], at: datetime
    ) -> None:
        self.places: deque[int] = deque()
        self._waiting = waiting
        self._hours = hours
        self._find_window(at)

    @property
    def head(self) -> Candidate:
        """Return the first of them."""
        return self._waiting[self.places[0]]

    def next_open(self, at: datetime) -> datetime:
        """Return the first instant from at on at which these may be written to."""
        if not self._since <= at < self._window[1]:
            self._find_window(at)
        return max(at, self._window[0])

    def opens(self, at: datetime) -> datetime:
        """Return when the first of them may go, by its times and hours."""
        head = self.head
        at = at if head.ready_at is None else max(at, head.ready_at)
        if head.anyway_until and (window := common_window(at, head.anyway)):
            opens = max(at, window[0])
            if opens <= head.anyway_until:
                return opens
        return self.next_open(at)

    def ready(self, at: datetime, budgets: Budgets) -> datetime:
        """Return when the first of them may go, by all but the pace."""
        at = self.opens(at)
        while limit := budgets.find_limit(at, self.head.share):
            at = self.opens(limit[1])
        return at

    def _find_window(self, at: datetime) -> None:
        # Whom no hour suits waits for the sender's: such a message is refused or held elsewhere.
        self._since = at
        self._window = common_window(at, self._hours) or window_at_or_after(at, self._hours[0])


def find_slots(
    waiting: Sequence[Candidate],
    begin: datetime,
    soonest: Callable[[datetime], datetime],
    paced: Callable[[int, datetime, datetime], datetime],
    budgets: Budgets,
) -> Iterator[tuple[int, datetime]]:
    """Yield the place of each message and its time, in the order in which they go.

    The first in order whose hours are open and who has room goes next, and while the pace keeps it
    nobody overtakes it but who was before it and wakes up meanwhile. soonest(last) is the first
    time at which anybody may go behind the last one, or behind the beginning; paced(place, at,
    last) the time at which this one may.
    """
    lanes = _part_into_lanes(waiting, begin, budgets)  # in the order of their first
    has_ends = any(each.until for each in waiting)
    last = begin
    while lanes:
        at, lane = soonest(last), None
        if budgets.pace.is_limited:  # note which limits move whom
            first, place = min((each.opens(at), each.places[0]) for each in lanes)
            budgets.find_room(first, waiting[place].share)
        while lane is None:
            if has_ends and not (lanes := _drop_late(lanes, at)):
                return
            lane = next((each for each in lanes if each.ready(at, budgets) <= at), None)
            if lane is None:
                at = min(each.ready(at, budgets) for each in lanes)
            elif (slot := paced(lane.places[0], at, last)) > at:
                before = lanes[: lanes.index(lane)]
                wakes = [each.ready(at, budgets) for each in before]
                if lane.head.until is not None:  # those behind it wait for it until then
                    wakes.append(lane.head.until + _LATE)
                at, lane = min([slot, *wakes]), None
        budgets.spend(at, lane.head.share)
        last = at
        yield lane.places[0], at
        lane.places.popleft()
        lanes.remove(lane)
        if lane.places:
            insort(lanes, lane, key=lambda each: each.places[0])


def _drop_late(lanes: Iterable[_Lane], at: datetime) -> list[_Lane]:
    """Pass over those whose end has passed; return the lanes in which anybody is left."""
    kept = []
    for lane in lanes:
        while lane.places and (until := lane.head.until) and at - until >= _LATE:
            lane.places.popleft()
        kept += [lane] if lane.places else []
    return sorted(kept, key=lambda each: each.places[0])


def _part_into_lanes(
    waiting: Sequence[Candidate], begin: datetime, budgets: Budgets
) -> list[_Lane]:
    """Let those stand one behind the other for whom the same gates open at the same time."""
    lanes: dict[object, _Lane] = {}
    counts = Counter(each.share.phone_number for each in waiting)
    for place, each in enumerate(waiting):
        is_only = counts[each.share.phone_number] == 1
        key: object = (each.hours, each.apart, *budgets.kind_of(each.share, is_only))
        if key not in lanes:
            lanes[key] = _Lane(waiting, each.hours, begin)
        lanes[key].places.append(place)
    return list(lanes.values())


def plan(
    messages: Sequence[Message],
    start: datetime,
    rng: random.Random,
    pace: Pace,
    hours: BusinessHours,
    after: datetime | None = None,
    theirs: RecipientHours | None = None,
    budgets: Budgets | None = None,
) -> list[ScheduledMessage]:
    """Place messages first_after_seconds after the start, or an interval after `after`: the last
    message of the queue before them."""
    gap, meant = Gap(pace.first_after_seconds, 0), start

    def soonest(last: datetime) -> datetime:
        nonlocal gap, meant
        if planned or after is not None:
            gap = draw_gap(rng, pace)
        meant = last + gap.span
        return meant

    waiting = [
        Candidate(
            hours_of(each.phone_number, each.timezone, hours, theirs),
            Share(each.phone_number, each.segments),
        )
        for each in messages
    ]
    planned: list[ScheduledMessage] = []
    budgets = budgets or Budgets(pace, hours.timezone)
    begin = start if after is None else after
    for place, at in find_slots(waiting, begin, soonest, lambda place, at, last: at, budgets):
        moved = at > meant
        planned.append(
            ScheduledMessage(messages[place], at.replace(microsecond=0), *gap, opens_day=moved)
        )
    return planned


def project(
    waiting: Sequence[Candidate],
    now: datetime,
    last_begun: datetime | None,
    pace: Pace,
    late_after: timedelta,
    budgets: Budgets,
) -> list[datetime | None]:
    """Return when each message that waits will go if nothing stands still from now on; by place.

    They stand in the order of the queue. None: it will be too late for it by then.
    """
    least = timedelta(minutes=pace.interval_minutes[0])

    long_ago = now - timedelta(days=365)  # of a box that has sent nothing yet

    def soonest(last: datetime) -> datetime:
        return max(now, last + least)

    def paced(place: int, at: datetime, last: datetime) -> datetime:
        each = waiting[place]
        if each.due_at is None or at - each.due_at <= late_after:
            return at
        return max(at, last + max(least, timedelta(seconds=each.span_s)))

    found: list[datetime | None] = [None] * len(waiting)
    for place, at in find_slots(waiting, last_begun or long_ago, soonest, paced, budgets):
        found[place] = at
    return found


_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKDAY = r"(?:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:day)?"
_TYPED_TIME = (
    rf"(?i)(?:(?P<iso>\d{{4}}-\d\d-\d\d)|(?:(?P<named>{_WEEKDAY}),? +)?(?P<month>\d{{1,2}})/"
    rf"(?P<day>\d{{1,2}})(?:/(?P<year>\d{{4}}))?|(?P<word>today|tomorrow|{_WEEKDAY}))?"
    r"(?:(?:^|[T ] *)(?P<hour>\d{1,2})(?::(?P<minute>\d\d)(?::(?P<second>\d\d))?)?"
    r"(?: ?(?P<half>[ap])\.?m\.?)?)?(?: \(?(?P<zone>[A-Z]{2,5}|[+-]\d{2,4})\)?)?"
)


def _read_clock(match: re.Match[str]) -> time:
    """Return the time of day that was typed, midnight where none was; ValueError: there is none."""
    hour, minute, half = int(match["hour"] or 0), match["minute"], match["half"]
    if half:
        hour = hour % 12 + (12 if half in "Pp" else 0) if 1 <= hour <= 12 else 99
    elif match["hour"] and not minute:
        hour = 99  # "fri 6" may be morning or evening
    return time(hour, int(minute or 0), int(match["second"] or 0))


def _find_day(match: re.Match[str], today: datetime, clock: time) -> date:
    """Return the day that was typed, today where none was; ValueError: there is none."""
    if match["iso"]:
        return date.fromisoformat(match["iso"])
    if match["month"]:
        years = [int(match["year"])] if match["year"] else range(today.year - 1, today.year + 2)
        days = []
        for year in years:
            with suppress(ValueError):  # the 29th of February
                days.append(date(year, int(match["month"]), int(match["day"])))
        near = [d for d in days if match["year"] or -31 <= (d - today.date()).days < 335]
        named = (match["named"] or "")[:3].lower()
        fitting = [day for day in near if named in ("", _WEEKDAYS[day.weekday()])]
        if not near:
            raise ValueError("no such day")
        return (fitting or near)[0]
    word = (match["word"] or "today").lower()
    if word in ("today", "tomorrow"):
        return today.date() + timedelta(days=word == "tomorrow")
    ahead = (_WEEKDAYS.index(word[:3]) - today.weekday()) % 7
    has_passed = ahead == 0 and clock <= today.time()
    return today.date() + timedelta(days=7 if has_passed else ahead)


def parse_local_time(text: str, zone: ZoneInfo, now: datetime, needs_hour: bool = True) -> datetime:
    """Read a time as people type it and as smsbox shows it, as wall time of a zone.

    "2025-11-30 10:00", "11/30 10:00 AM", "Sun 11/30 10:00 AM", "tomorrow 10:00", "fri 18:00",
    "18:00". A day without a year is the one from a month ago to eleven months ahead, a weekday the
    next one to come. In the hour that the clock repeats in autumn the first one is meant, unless
    the zone (PST) says which. ValueError says what is no time.
    """
    forms = '"2025-11-30 10:00", "11/30 10:00 AM", "tomorrow 10:00" or "fri 18:00"'
    wrong = ValueError(f'"{text}" is not a time: write it like {forms}')
    match = re.fullmatch(_TYPED_TIME, re.sub(" +", " ", text.strip())) if text.isascii() else None
    if not match or not match[0] or (match["hour"] is None and needs_hour):
        raise wrong
    try:
        clock = _read_clock(match)
        wall = datetime.combine(_find_day(match, now.astimezone(zone), clock), clock)
        found = [wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
        at = found[0].astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise wrong from error
    if match["named"] and wall.weekday() != _WEEKDAYS.index(match["named"][:3].lower()):
        raise ValueError(f'"{text}": that day is a {wall:%A}')
    if not 2020 <= wall.year <= 2099:
        raise ValueError(f'"{text}" lies outside the years 2020 to 2099: name a nearer time')
    if at.astimezone(zone).replace(tzinfo=None) != wall:
        raise ValueError(f'"{text}" does not exist: the clock is put forward over it that night')
    if match["zone"]:
        named = [each for each in found if each.tzname() == match["zone"].upper()]
        if not named:
            raise ValueError(f'"{text}": it is {found[0].tzname()} there then')
        at = named[0].astimezone(UTC)
    return at


# === 6 Replies ===================================================================================
# What an incoming text asks for, in a person's own words: stop, help, start, perhaps stop, nothing.
# Case, accents, punctuation, emoji and invisible characters do not matter. When in doubt it says
# "perhaps stop", which holds that person's messages for the operator. It does not know SQL or the
# modem: a text goes in, a Request comes out. The tables come first: to teach it, add a line.

# The tables are patterns over what simplify_reply leaves: "Don't!" is "dont" there. No repeat
# stands in another that could share its characters: the time is linear in the text's length.
STOP_WORDS = {  # with the slips of a thumb; "stp" is none, it is French for please
    "en": r"s+ ?t+ ?o+ ?p+( ?all)?|stpo|sotp|tsop|[acdez]top|s[grfy]op|st[0i]p|sto[0l]p?|stahp"
    r"|stopt|stpp+|5top|stop(please|pl[sz]|now|it|texting(me)?|msg)|pleasestop|(stop){2,}|optmeout"
    r"|(remove|unsubscribe)me|un subscribe|unsub"
    r"|(u|un|ub)s[a-z]{1,4}(cr|r|c)[a-z]{1,2}b[eds]{0,2}|opt ?out|revoke",
    "es": r"alto|baja|parar|paren?|para|desuscribir(me)?|detener",
    "fr": r"arret(e[rz]?)?|desabonn(er?|ement|ez)|desinscri(re|ption)",
}
# Beside any other word these may be about anything: they count as the whole message only.
_WHOLE_STOP_WORDS = {"en": r"cancel|end|quit|rem?ove|rmeove|remvoe|reomve", "es": r"cancelar"}
# As the whole message perhaps a stop: a verb, a sigh, the instruction typed back.
_DOUBTFUL_WORDS = {
    "en": r"exit|leave|off|dont|do not|ugh+|((reply|text|send) )?stop ?(to|2) ?(opt ?out|\w+)",
    "es": r"salir|fin|(quit|elimin|borr)ar|quitarme|sa[cq]u?(ar|en?)"
    r"|((responda|envie) )?(stop|baja|alto) para( \w+){1,3}",
    "fr": r"sortir|retirer|supprimer|((repondez|envoyez) )?(stop|arret) pour( \w+){1,3}",
}
_NO_WORDS = {  # the answer to a question of ours; where we asked none, perhaps a stop
    "en": r"no (thank you|than[kx]s?|thx|ty|way|sir|maam)|(hell|absolutely) no|negative|never|but"
    r"|no+|nope+|nah+|n|not (for me|at this time)|(hard )?pass|(im|i am|we ?a?re) (good|all set)",
    "es": r"nel|nunca|no quiero|para nada|nein",
    "fr": r"non+|(plus )?jamais|pas du tout",
}
# A text of signs alone speaks as a word.
_SIGNS = str.maketrans({**dict.fromkeys("🛑⛔🚫✋🖐🔕📵😡🤬❌🙅", " exit "), "👎": " no ",
                        "🖕": " fuck you "})  # fmt: skip
# Perhaps a stop wherever it stands: letters of which nothing else here is read.
_OTHER_LETTERS = (
    r"停[止发發]|^停$|退[订訂]|取消|不要[再发發给給打联聯短]|^请?不要$|别[再发]|勿|拒|やめ|止め|いらな|解除|그만|중지|거부"
    r"|не пиш|отпи[сш]|отста|хватит|удали"
    r"|توقف|لغاء|لا ترسل|הסר|להסיר|रुक|बंद|मत भेज|đừng|dừng|\bhủy\b"
)
HELP_WORDS = {"en": r"help|info", "es": r"ayuda", "fr": r"aide"}
START_WORDS = {"en": r"start|unstop"}
_COURTESIES = {
    "en": r"please+|pl[sz]+|thanks?( you| u)?|thx|ty|kindly",
    "es": r"(por|x) ?fa(vor)?|(muchas )?gracias",
    "fr": r"s ?il (vous|te) plait|svp|stp|merci",
}
# Around a word they add nothing to it: "Hello, optout", "S T O P now".
_OPENINGS = (
    r"hi|hello|hey|there|guys|all|yo|nah|nope|ok(ay)?|sorry|look|listen|sir|maam|excuse me"
    r"|good (morning|afternoon|evening)|hola|oiga|buen[ao]s( dias| tardes| noches)?|bonjour|salut"
)
_CLOSINGS = (
    r"((from )?(right )?now( on)?|right away|again|asap|immediately|today|tonight|forever"
    r"|for (good|real|ever)|at once|ok(ay)?|sir|maam|bro|bruh|fam|dude|man|guys|any ?more|ever"
    r"|already|ya|ahora( mismo)?|i[nm]+ediat\w+|hoy|senor(a|ita)?|maintenant|tout de suite)"
)
_SMALL_WORDS = {  # enough of each language to tell it from the two others
    "en": r"the|you|your|my|this|to|off|from|texts?|texting|messages|dont|not|do|i|im|want|is|are"
    r"|and|for|we|at|with|hi|hello",
    "es": r"no|mas|ya|mi|de|la|numero|mensajes?|quiero|su|sus|dejen?|el|que|por|lista|escrib\w+"
    r"|los|las|para|con|y|en|hola|una?",
    "fr": r"je|ne|plus|pas|moi|mon|numero|de|la|liste|vous|votre|vos|veux|les|messages?|mecri\w+"
    r"|et|pour|des|du|une?|est|bonjour|avec|en",
}
_GROUPS = {  # the words that the capitals in the phrases stand for
    "STOP": r"(s+t+[ao]+h?p+|stpo|sotp|tsop|quit|cease|discontinue|halt|refrain from|desist)",
    "UNSUBSCRIBE": r"(un ?subscribe|unsub|unfollow|unsign|u[nb]?s[a-z]{1,4}(cr|r|c)[a-z]{1,2}be?)",
    "REMOVE": r"(r[em]{2,3}[ov]{1,2}e?|rem[eo]v|remvoe|rmv|delete|erase|drop|cut|kick|scrub|strike"
    r"|scratch|take|pull|unlist|get|keep|leave|exclude|block|cross)",
    "MINE": r"(me|us|our family|(my|our|this|her|his)( \w+)? (num\w*|nbr|no|phone|cell|name"
    r"|info\w*|contact))",
    "THE": r"(your|ur|this|the|any|all|that|these|whatever|future)",
    "CANCEL": r"(cancel([aeo]|ar|en)?|end|terminate|kill|suspend\w*|deten\w+|turn off|shut off)",
    "NOT": r"(do? ?nt|don t|do not|never|not|no longer)",
    "TEXTING": r"(te?xt|messag|mesag|msg|contact|writ|send|sms|email|spam|bother|bug|hara|hit)\w*",
    "TEXT": r"(te?xt|message|mesage|msg|contact|write|send|sms|email|bother|harass|bug)",
    "YOU": r"(you|u|ya|y ?all)",
    "NUMBER": r"(num\w*|nbr|no|phone|cell|name|info\w*|contacto?|nombre|datos|nom|\w*donnees)",
    "LIST": r"((?!wait|guest)\w+ )?(list[ae]?s?|records|rolls?|roster|files|(data)?base|s[iy]stema?"
    r"|contacts|phone|gro?upo?|chain|thread|tree)",
    "SMS": r"(te?xt|message|msg|sms|email|communication|mensaj|msj|publicidad|promo|pub)\w*",
    "NEWS": r"(alert|notif|remind|update|coupon|mailing|blast|bulletin|newsletter|aviso|recordatori"
    r"|anuncio|propaganda|informacion|rappel|infolettre|annonce|notice|deals|ads|offers)\w*",
    "ESCRIBIR": r"(escrib|mand|envi|molest|contact|text|acos|jod|llam|fastidi|ching)\w*",
    "ECRIRE": r"(ecri|envo[iy]|contact|harcel|texto|importun|derang|spam|sollicit|relanc|achal)\w*",
    "PLUS": r"(plus|pus?)",
    "QUIT": r"(opt ?out|cancel|end|unsubscribe|quit|stop|salir|cancelar|arreter)",
    "NEVER": r"(not?|ni|never|no longer|cannot|nunca|jam(as|ais)|nen?|n(est|ai)|pas|rien|nadie"
    r"|(ningun|aucun)\w*|(do|does|did|wo|would|could|is|are|was|has|have)nt)",
    "WANT": r"(need|want|wish|care|use|require|like|necesit|quier|dese|ocup|besoin|veu|souhait)\w*",
    # In front of a denial: what others do not do is a complaint.
    "OTHERS": r"(?<!you )(?<!u )(?<!they )(?<!guys )(?<!did )(?<!does )(?<!vous )(?<!tu )",
    "GONE": r"((dej|par|quit|borr)an( de| con| mi| el num| todavia| ustedes| tranq|$)|\w+aron\b)",
    "HOLDS": r"wont(?!( ever)? STOP TEXTING( me| us|$))",
    "TAKE": r"(remove|take|drop)",
    "GOOD": r"(good|ever|now|real|me|today|the (la|lo)\w+|god\w*|goodness|christ\w*)\b",
    # What is done to somebody, or with a list, other than to write.
    "AIMED": r"((harass|call|annoy|blow|gett|do|try|ask|reach|be|every|any|market|adverti|promot"
    r"|soliciti|pester|disturb)\w*|(?!mak|teas|tempt)\w+ing( \w+)? (me|us|my|our|this|these)\b)",
    "WRONG": r"(wr?[ou]+[nm]g|worng|wrog|rong)",
    "PRIOR": r"(previous|prior|former|different|another|new|otr[oa]|nuev[oa]|autre)",
    "PLACE": r"(dentist|gym|church|doctor|school|salon|dealer|parish|practice|bank|iglesia|escuela"
    r"|gimnasio|eglise|ecole|dentiste)\w*",
    "OTHER": r"(THING|\w*day|chat|gate|button)",
    "LAWYER": r"(lawyer|attorney|abogad[oa]|avocate?)s?",
    "SOMEBODY": r"(some(one|body)|person|persona|personne|(no|any) ?(one|body)|none|nadie)",
    "THEY": r"(s?he|they|dad|mom|elle|ella|(my|our|mi|mon|ma) \w+)",
    # Whatever else is wrong, canceled or no longer needed.
    "THING": r"((?<!in )orders?|appointment|appt|reservation|booking|table|apartment|plan|class"
    r"|course|delivery|receipt|size|address|amount|date|(?<!\d\wd )(?<!\dth )time|colou?r|items?"
    r"|bill|invoice|charge|fee|price|pedido|orden|cita|reserva|talla|direccion|fecha|factur[ae]"
    r"|color|precio|commande|rdv|rendez|taille|adresse|cours|colis|bat+er\w+|pila|carr?o?|coche"
    r"|voiture|bus|e ?mails?|correos?|courriels?)",
    # Whatever a denial of everyday life is about: "not sure yet", "I can't come", "no hay".
    "FINE": r"(sure|surs?|seguro|prob\w+|worr\w+|rush|hurry|idea|yet|un?till?|now|week\w*|\w+days?"
    r"|ready|late|able|feel\w*|well|bad|good|fun|can|cant|couldn?t?|make|made|f[io]u?nd|see|hear"
    r"|g[eo]t|gotten|rec(ei|ev|ib|u)\w*|arriv\w+|c[ao]me|work\w*|open\w*|forget|mind|miss|before"
    r"|after|while|but|than|if|ones?|\w*\d\w*|have|ha[sd]|eats?|drive|mean|think|underst\w+"
    r"|remember|much|too|love\w*|thank\w*|great|keep|better|best|right|fine|really|more|what|which"
    r"|where|when|way|wait|help|call|cost|fast|laugh\w*|believe|turn|going|coming|loading|running"
    r"|(not|isnt) (home|t?here)|se|s[ie]|pued[oe]|tengo|hay|tiene|qued[ao]|lleg\w+|bien|mal"
    r"|encuentr\w+|olvid\w+|dig[ao]s?|traj\w+|escribio|contesta|urgen\w+|nec\w+|pasa|preocup\w+|hoy"
    r"|aun|todavia|manana|antes|hasta|funciona\w*|voy|va|entend\w+|estoy|mas|era|fue|sais|peux"
    r"|souci|grave|possible|encore|dispo\w*|malade|viendr\w+|pret\w*|temps|press\w+|trouv\w+"
    r"|marche\w*|compris|tan|n?ai plus|\w+di|aujourdhui|soir|repon\w+|attend\w*|far|all"
    r"|falta|acuerd\w+|avis\w+|WANT|THING)",
    "SORE": r"(te?xts|te?xting|mess?ages|msgs|mensajes|textos|wtf|fuck\w*|shit\w*|mierda|merde"
    r"|blowing up|(this|este|ce) (num\w*|phone|cel\w*|line|tel\w*))",
    # What is told of a text beside a denial: that it has not come, or when it suits.
    "ABSENT": r"(g[eo]t\w*|rec\w+|seen?|saw|escribio|have|cant?|c[ao]me|forget|back|before|after"
    r"|until|till|when|while|later|yet|drive|lleg[oa]n?|encuentr\w+)",
    "LATER": r"(before|until|till?|after|at|on|when|while|during|in|today|tonight|yet|now|tomorrow"
    r"|the|a|my|your|about|if|antes|hasta|despues|ahora|hoy|a las?|el|la|los|las|un|una|dos|le|les"
    r"|dun|deux|ca|ce)\b",
}


def _phrases(table: str) -> str:
    """Make one pattern of a table: a line a phrase, capitals a group of words, # a comment."""
    lines = [line for line in table.strip().splitlines() if not line.startswith("#")]
    whole = r"\b(?:" + "|".join(lines) + r")\b"
    for name in reversed(_GROUPS):  # one may name those above it
        whole = _GROUPS[name].join(re.split(rf"(?<![A-Z]){name}(?![A-Z])", whole))
    return whole


# Taken out before phrases are looked for: a stop that is denied, a bus's or a shop's, and a wrong
# number that is the writer's own slip.
_NOT_MEANT = _phrases(r"""
OTHERS(NOT|cant|cannot|HOLDS)( ever)?( (want|need|going|asking)( \w+)? to)? STOP( \w+ing)?
(no|nunca) (me |nos )?(?!GONE)(dej|par|desu|borr|elimin|quit)\w+( de \w+)?
OTHERSn(e )?(me |nous )?(arret|desabon|desinscri|supprim|retir|stopp)\w+( surtout)? pas( de \w+)?
(i|we|s?he|husband|wife|rain) did not (want to )?(unsubscribe|opt ?out|STOP|TAKE MINE( off| from)*)
OTHERS(NOT) (want to )?(unsubscribe|opt ?out|TAKE MINE( off| from| THE LIST)*|cancel|delete)
(should|if) (i|we|he|she|they) STOP (?!getting|receiving|this|these|it|TEXTING|SMS)
(doctor|dr|nurse|wife|was|tell (him|her|them))( \w+){0,2} to STOP (?!this|these|it|TEXTING|SMS)
stop (?!TEXTING|AIMED)\w+ing
(deje|dejo) de (?!ESCRIBIR|estar|usar|vender)\w+r
(the|a|an|bus|pit|one|next|last|first|non|full|rest|truck|each|which|any|un|prochain) stop
((reply|te?xt|send|responda|envie|repondez)( with)? )?(stop|baja|arret) (to|2|para|pour) QUIT
you (have been|are now|were|have) (successfully )?(unsubscribed|opted out|removed)
stop (by|in(?! (the )?future)|at(?! (once|(this|my) NUMBER))|over|off|on(?! (my|this) NUMBER))
stop (for(?! GOOD)|and(?! (REMOVE|end|UNSUBSCRIBE|STOP|NOT)))
stop (sign|light|watch|near|(here|there)(?!$)|ou|chez|raining)
(i|we) (have|got|gave|called|texted|dialed|wrote|put|entered|typed)( YOU)? (the|a|my) wrong NUMBER
""")
_STOP_PHRASES = _phrases(r"""
# English: the word itself
^((no|yes|ok|okay|hi|hello|hey|sorry|just|reply|text|yo|i (already )?said) )*s+t+o+p+$
^stop(?! it| \w+ing)( \w+){1,3}$
^stop( (all|now|it|this|that|already|right|away|immediately|everything))+$
(please|pl[sz]|svp|favor) (just )?stop$
(told|asked|want|need|like) (YOU|this|it|that|all|these|those)( \w+)? to( just)? STOP
STOP( \w+){0,2} (TEXTING|SMS|NEWS)
STOP (calling|annoying|blowing|with) (me|my|up|this|these|the|us)
((to|i|and) UNSUBSCRIBE|UNSUBSCRIBE( me| us| my| from| this| now|$))
opt(ed|ing)?( me| us)? out
# English: other words
(?!drop|cut|kick|block|leave|cross)REMOVE MINE (off|out)( of)?( this( thing)?| here)?$
(?!get my \w+ from)REMOVE MINE (off?|odd|out|from)( of)?( THE)? (LIST|(\w+ )?(SMS|NEWS))
(remove|rmv|delete|erase|scratch|take (off|out)) (MINE|my)( from| off| out| now|$)
((like|want|wish|asked) (to )?be (removed|deleted|taken off)|off (your|ur|this) (?!phone)LIST)
(?<!you )(?<!u )NOT( ever)? ((call|or|and) )*TEXT( or \w+| to)* (me|us|this NUMBER)(?! LATER)
((rather|prefer) not|NOT wan\w+)( to)? (receive|get)( \w+){0,3} (SMS|NEWS|these( anymore)?$)
prefer not to (receive|get) these( any longer| going forward)$
(^enough( already)? (w|with|of)|(hart[oa]s?|tanne\w*|marre) de)( \w+){0,2} SMS
^(please |just |and |so )*(leave (me|us) (alone|be)|(lose|forget) (my|this) NUMBER)( \w+)?$
(^((fuck|f|piss|bugger) off|go away|get lost)$|never call( \w+)? again)
(no+|ni un|ningun) (more|mas)( of| de)?( \w+)? SMS
^(please )?no+ more( SMS)? (to|on) (me|us|this NUMBER)$
(never|NOT) want to hear from YOU( again|$)
(NOT|didnt)( \w+)? (want|wish|need|care|consent|agreed?)(?! to (miss|lose))( \w+){0,5} SMS
(?<!the )CANCEL( my| THE| el| los| estos| sus)* (subscription|SMS|alerts|notif\w*|reminders|avisos)
(revo[ckq]\w+|withdraw|NOT give( YOU)?|retir\w+)( my| mi| mon)? (consent|permission|autori)\w*
WRONG (NUMBER|person|guy|man|lady|woman|girl|dude|contact)
# Spanish
^((alto|parar|(ya )?paren?(le)?|par[ae]n?le)( ya)?|(alto|basta) (ya )?no( \w+)*)$
(no|nunca)( me| nos| m)? (vuelv\w+ a ESCRIBIR|(llam|busqu)en? (mas|nunca))
(no|nunca|ni) (me|nos|m) (escriba|contacte|moleste|text(ee|ie|e))[ns]?(?! LATER)
(no|nunca|ni) (me|nos|m) (mande|envie)[ns]?( ya)?( mas| nada| est[aeo]s?| sus| cosas| SMS| NEWS|$)
no (quiero|deseo|quisiera|me gusta) que (me|nos) (sig\w+ )?ESCRIBIR(?! LATER)
(dej[ae]n?|par[ae]n?(le)?|pararle|basta|cesen?|alto|estuvo)( ya)? (de|con|a)( \w+)? (ESCRIBIR|SMS)
no (quiero|kiero|deseo|queremos|necesito|acepto|autorizo)(?! perder)( \w+){0,3} (SMS|recibiendo)
^(ya )?(no mas|basta)( ya)?$
(dar|darme|darnos|dame|d[ae]n?me|doy|darse) de baja
^(quiero|pido|solicito|deseo) (la|mi|una) baja$
(quit|kit|saqu|borr|elimin|remuev|remov|retir)\w+ (mi|mis|este) NUMBER
(quit|sac|saqu|borr|elimin|remuev|remov|retir|sal)\w+ de(l| la| su| tu| esta| este| sus| tus) LIST
((quit|kit|borr|elimin)[ae]n?|(borr|elimin)ar)(me|nos)( (el|mi) NUMBER|(?! LATER))
(desu\w*scri\w+|(cancel|anul)\w+( mi| la| esta)? su\w*scripcion)
(numero|persona) (e[qk]u?ivocad|incorrect|errone)\w+
((se|te) e[qk]u?ivoc\w+|e[qk]u?ivocad[oa]) de (numero|persona)
# French
(?<!vous ne )(?<!tu ne )(m|me|nous) ?ECRIRE (PLUS|jamais|pas de SMS)
ne plus (me |nous |etre |m )?m?(ECRIRE|recevoir)
j?(veux|veut|souhaite|desire) (PLUS|pas)(?! (rater|manquer))( \w+){0,3} (SMS|m?ECRIRE)
^PLUS (de|aucun|jamais de) SMS
^(laiss|lach|fich|fout|criss)\w+ (moi|nous)( la)? (tranquilles?|paix|patience)( avec \w+ SMS)?$
(desabon\w+|desinscri\w+)
(retir|enlev|supprim|effac|ray|sort|vir|ot|radi)(e[zrs]?|ir|s) (moi(?! LATER)|(mon|mes|ce) NUMBER)
m?(retir|enlev|supprim|effac|ray|sort|vir|ot|radi)(er|ez|ir) de (votre|la|cette|vos|ta) LIST
((mauvaise?|faux|erreur de) (num\w*|personne|contact)|pas le bon num\w*)
d?(arret|cess)(e[rsz]?)?( de| d| tout| tous?| les| vos| ces| me| m| nous)* [md]?(ECRIRE|SMS)
""")
_DOUBTS = _phrases(r"""
# the word itself, or a sentence that does nothing but take away
(un|dis) ?(enrol|regist|join)\w*
(s+t+o+p+|stpo|sotp|tsop|stahp|opt ?out|revok\w+|UNSUBSCRIBE([ds]|ing)?|stopped (me|TEXTING))
(cease|discontinue|nomore|nomas|basta(?! con| para)|dej[ae]n? de)
(ca suffit|ya estuvo|(den?|dar)(me|se)? de baja|cess(er|ez)|desinscr\w+|desabon\w+|arretez( ca)?$)
^(STOP|CANCEL|REMOVE|(anul|resili)\w+)( (th[ei]se?|it|all|MINE|from|your|LIST|service|every\w+))*$
^(thats )?(enough|no more|\w+ it (out|off|up))( (already|of|with|th\w+|is|enough|SMS|nonsense))*$
# an accusation or a threat
(spam|scam|fraud|phish|harr?ass|harcel|estaf|arnaqu|acos[aoe]|denunc|denonc|violat|i?l?legal)\w*
(\w+ (my|our|mi|mon|the) LAWYER( general)?$|LAWYER (will|va|se va|vous|les)|in court|plainte)
((contact|appel|consult|call|hir)\w* (an?|une?) LAWYER|(cops|police|the law)$|to court|policia$)
(hear\w* from (my|our) LAWYER|LAWYER generals?|forward\w* (your|this|these|all) SMS to)
(^one star$|(leav|giv|left)\w* (you |u |a |guys )*(one|1) star)
^(one|1) more( \w+)? (and|or) (im|ill|i|you|we|my)\b
(call\w* the (cops|police)|llam\w+ a la policia|will be blocked)
(voy|vamos) a (demand|denunc|report|bloque)\w+(?! (la|el|los|las|una?) (?!num))
(los|las|te|je (vous|te)) bloqu(?!es\b)\w*(?! (la|el|los|las|una?) (?!num))
(PRIOR (owner|tenant|resident|renter)|(switched|left (that|your|the|this)) PLACE)
(go to|going to|have|found|got|see|tengo|voy a)( an?| una?)? PRIOR PLACE
(tcpa|fcc|ftc|cnil|dnc|do not call|lawsuit|una demanda|justice|\w*solicit\w*|vous signaler)
(ill|will|gonna|to|can|im|am|been|have|ive|^) (su(e|ing)|report|block)(ed|ing)?( YOU| th?is| it|$)
(^|youre |YOU are |now )(reported|block(ed|ing)|reporting)( YOU| this NUMBER| now| (as|and) \w+)*$
((los|las|les|te)( voy a)? |^)(demand|bloque|report)(ar|ad[oa]|o|ando)?$
# anger, or a complaint: too many, too often, at night
(leave (\w+|this NUMBER) (alone|be|out)( \w+){0,2}$|(lose|forget|rid of) (my|this) NUMBER)
(leave me (\w+ ){1,3}alone|give (it|me|us) a (rest|break)|turn (these|SMS) off|SMS go away)
(a la (verga|mierda|chingada)|vete (al|a la)|vayan(se)? a(l| la)|[sg]tfu?o?|(fich|fout)ez le camp)
^((f|bug|shut|get|buzz) (off|up|lost|a life)|go away+)$
(bugger off|kick rocks|^scram|take a hint|beat it|dont come back|quit (ask|begg|bugg|call)ing)
((fuck|screw|piss) (off|YOU)|(^|the )hell( no)?$|degage\w*|eat shit|en paz)
((fich|fout|lach)\w+ (moi|nous))
(laiss|oubl|effac|enlev|retir)\w+ (moi|nous)( tranquil\w*)?$
((too|so|trop de|demasiad[oa]s|tant[oa]s)( many| much)? (SMS|NEWS)|(SMS|TEXTING)( \w+){0,3} too \w+)
(w[ao]k|bother|annoy|blow)\w*( up)? (me|us|my)
(m(e )?(despiert|reveill|derang|enerv)|ya (me )?cansa)\w*
(sick|tired|fed up|over|hart[oa]s?|tanne\w*|marre|ras le bol|assez) (of|with|de|th\w+)
((please|just|said|told you) (quit|no( more)?)$|no molest\w+( (mas|ya))*$)
((marre|assez|hart[oa]|cansad[oa]|over this|old|these( a day)?)$|(its|son las) \d+ (am|in|de))
((YOU|they) keep|how many( more)? times|better to do)
\d(th|rd|nd) time (ive|im|i|you|yall|u|(ask|tell|request)\w+)
(cuantas veces|estas horas|cada rato)
TEXTING( me| people)? at \d\w*
^(\w+ ){0,3}(annoy|irritat|ridicul|relentless|pathetic|unbeliev|nuisance)\w*$
^(que (molest|fastidi|lata)\w*|(\w+ ){0,3}(penible|agac|chiant)\w*$)
# the wrong person: nobody of that name, another's number
^((\w+ ){0,3}(is|ha[vs]e?|got|ve|reached) (the )?)?wrong (?!OTHER\b)\w+( \w+)?$
(SOMEBODY (\w+ )?(by|called|named|here|aqui|ici|de ce|con ese)|\w+(one|body) elses?|heard of)
(another person|otra persona|aqui no \w+|not me$|who \w+ is$|(work|business) (phone|line|cell))
((got|had|have) this NUMBER|used to be \w+|changed( \w+)? numbers|(idk|know) any|im a different)
^(?=.*\b(her|his|him|s?he|their|ella|senora?|different)\b).*\b(number|phone|numero)( for \w+)?$
((equivoc|tromp|confund)\w+( de (numero|persona|personne))?$|fait\w*( une)? erreur)
(me confused|mixed me|YOU looking for|YOU are looking for|mauvais (contact|dest\w+))
# who are you, and why
(who (is|r|are|s|the)? ?(this|dis|YOU|hell)( and| how| why| again| is|$)|do i know YOU|who gave YOU)
(whos? (this|dis|authorized)|(how|where)d? ((did|do|d) )?YOU (get|have|find) (my|this))
(^(y )?quien (es|eres|habla|son|sos)\b|(qui (est ce|etes vous|es tu)|(cest|tes|vous etes) qui)$)
(quien|como|donde|comment|d?ou|qui)( \w+){0,4} (mi|mon|ce) (num\w*|tel\w*|message)
(why (\w+ )?(YOU|i) (\w+ )?(TEXTING|getting|on (this|your))|(por ?que|pourquoi) (me|vous|tu|je))
# dead, ill or moved
(THEY( has)? (passed( last \w+|$)|is gone)|passed (away|on)|live in (another|\w+ now))
(hospice|nursing home|dementia|memory care|a stroke|rip|(deceas|fallec|decede)\w*|nous a quitte\w*)
^(?!.*(phone|fono|portable|THING)\b)(\w+ )*(died|dead|murio|muert[oa]|morte?)( \w+){0,3}$
((have|i|we|s?he|they)( since)? |^)(moved|relocated)( (away|out|from|to (?!THE|a|my|\w+day))|$)
((jai|ai|on a|avons|avez) demenage( \w+){0,2}$|(me|nos) (mud|cambi|fui)\w+( (a (?!las)|de)|$))
# not wanted, or no longer needed, whoever says it
NEVER( \w+)? WANT(?! to (miss|be|get|lose))( \w+){0,3} (it(?! LATER)|these|your|SMS|NEWS|servic\w*)
NEVER( \w+){0,2} WANT( (any\w*|longer|more|from|YOU|it|em|th\w+|nada|rien|of|de|uste\w+|hear|to))*$
(no longer|ya no|plus)( \w+){0,2} (this|este|ce|cette|a ce)
THEY( \w+)? (no longer|ya no|n\w+( \w+)? plus|\w+nt( \w+){1,4} any(more| longer)$)
((NEVER|un)( \w+)? ?(int\w{0,3}rest|interes)\w*(?! (in|en) (the|an?|la|el|le)))
((found|hired) (some|an)\w+|(already|ya|deja)( les)? (unsub|opt|ask|told|dij)\w*|ya no (me|nos))
(no recibir( mas)?( \w+)? (SMS|NEWS)|plus (recevoir|avoir) (ca|SMS|de))
NEVER want to (hear any|be \w+ed)
NOT TEXT (me |us )?(any ?more|again)$
(no+|ni) (mas|more) (of (these|this|them|your)|please|pl[sz]|porfa|por favor)
((NOT|no) (have|got|tengo) (an?y? )?(kid|child|student|son|daughter|hij)\w*|sold (the|my|our) \w+)
(no need to (keep|send|text|write|call)|update your (records|list|files|data)|cant afford)
((eat|us)\w* up my (minutes|data)|(out of|off) my (inbox|phone|face)|out of the group)
(^count me out$|^can (u|you) not$|go to hell|^enough (w|with|of)\b)
remove( \w+){1,2} (numbers?|cells?|phones?)
how (do|can|to)( i)?( \w+)? (leave|get (off|out)|opt|quit|end|turn off) (this|these|it|that|of)
^off (the|your|this) LIST$
(NEVER|nobody)( \w+){0,2} (sign\w* (up|me)|ask|opt|agree|inscri|suscri|consent|g[ai]ve|pedi)\w*
((suis|est|va|\w*habit\w+) plus( \w+){0,3}$|plus (besoin|rien)( de \w+)?$|ya no (viv|trabaj)\w+)
# being removed, in the passive; wanting out
(id?|me|my|MINE|wish)( \w+){0,5} (be|get|been|being|NUMBER) (remov|delet|eras|taken|exclud)\w*
(off (of )?(this|your|ur) (?!phone)LIST|out of (your|this) \w+|(want|get me|count me) (off|out)$)
(like off|REMOVE me from this)
((remove|delete|erase) (MINE|this line)|(remove|take|drop) my (\w+ ){1,2}(off|from) (your|this))
(etre|me|de|mon|que me|mi) (retir|supprim|enlev|effac|borr|elimin)\w*
((quiero|deseo|como)( me)? (cancelo|sal(ir|irme|go))\b|cancel\w+ est[ao]s?|(sa[cq]|baj)\w+me( de|$))
# no messages, unless it tells what has not come, or when
^(?!.*\b(ABSENT)\b)(?=.*\b(NEVER|quit|chill)\b).*\b(TEXTING|SMS|consent\w*|(me|nos) ESCRIBIR)
""")
# A denial, or a word on our texts or a number, that no everyday matter explains: "I am not Bob".
_DENIAL = _phrases(r"^(?!not?$|.*\bFINE\b).*\b(NEVER|SORE)")
# A sentence about another matter, and not about the texts.
_OTHER_MATTER = _phrases(r"^(?!.*\b(te?xt\w*|mess?ag\w*|msgs?|sms|mensajes?|list[ae]?)\b).*\bTHING")
# The other half of a text that takes its stop back, or leaves the texts as they are.
_TAKEN_BACK = _phrases(r"""
(THING|only|instead|jk|kidding|lol|haha\w*|jaja\w*|mdr|love[sd]?|but (keep|do|still)|(or?|ou) \w+$)
(stop( it)? (youre|thats|its)|(too|trop) \w+$|(texts?|texting|messages?) (is|are|works?))
(solo|solamente|mejor|seulement|plutot|(ecrivez|texte[rz]?|textez) moi|just (text|send) me)
""")
_LAUGHTER = "[😂🤣😆😅😍😘]"
_MOST_LETTERS = 2_000  # of a text that is read: the watchdog waits for it
_SURE_WORDS = 30  # a longer text that speaks of stopping mostly speaks of something else
_SENTENCE_END = r"(?<=[.!?,;:…])(?=\s)|\n|\s[-–—]"
# Cyrillic and Greek letters that look, or in "стоп" and "στοπ" sound, like Latin ones.
_LOOK_ALIKES = str.maketrans("аеіјкморпѕстухвнαβεηικνοπρστυχø", "aeijkmoppsctyxbhabehiknoppstyxo")
# Small capitals, and the letters in circles, squares and flags that Unicode takes for pictures.
_FANCY_LETTERS = str.maketrans("ꜱᴛᴏᴘᴀᴇɪʟᴜɴʀᴄʙ", "stopaeilunrcb") | {
    first + place: chr(97 + place) for first in (0x1F150, 0x1F170, 0x1F1E6) for place in range(26)
}
# A phone's own last line is no part of what was said, nor is a name after a dash.
_SIGNATURE = (
    r"\n(?i:sent|get|enviado|envoy[eé]|obtener) (?i:from|desde|de|depuis|outlook)\b.{0,60}$"
    r"|\s[-–—~] ?[^\W\d_a-z]\w{0,20}\.?( [^\W\d_a-z]\w{0,20}\.?)?$"
)
# Whose number somebody writes beside a word: "Remove 213-555-2301", "take off no. 213-555-2301".
_PHONE_NUMBER = (
    r"(?i)(?:\b(?:the |my |this )?(?:number|num|no\.?|phone) ?)?"
    r"(?<!\d)(?:\+?1[ .-]?)?\(?[2-9]\d\d\)?[ .-]?[2-9]\d\d[ .-]?\d{4}(?!\d)"
)
# An iPhone's or Android's reaction quotes our own text, with its "Reply STOP".
_REACTION = (
    r"(?i)\W*(liked|disliked|loved|laughed at|emphasized|questioned|reacted \S+ to|to|removed an? "
    r"\w+ from|le gustó|le encantó|a aimé|a adoré)\W{1,3}[\"“«]"
)


# What asks for an answer; "Questions?" does not, nor does an address.
_QUESTION = (
    r"(?i)(?<!questions)(?<!preguntas)(?<!help) ?\?(?!\S)"
    r"|\b(reply|respond|answer|text|send|responda|conteste|env[ií]e|r[eé]pondez|envoyez)"
    r"( with| con| par)? [\"'“«]? ?(y|yes|ok|s[ií]|oui|c|confirm\w*|\d)\b"
)


def read_reply(
    text: str,
    stop_words: Iterable[str] = (),
    help_words: Iterable[str] = (),
    start_words: Iterable[str] = (),
    *,
    asked: bool = False,
) -> Request:
    """Read what a text asks for. The extra words add to the built-in ones.

    A bare no is an answer if our last text to the number asked something, else perhaps a stop.

    >>> read_reply("S T O P!!").value, read_reply("please stop texting me").value
    ('stop', 'stop')
    >>> read_reply("is this spam?").value, read_reply("stop by at 5").value
    ('perhaps stop', 'nothing')
    >>> read_reply("No thanks").value, read_reply("No thanks", asked=True).value
    ('perhaps stop', 'nothing')
    """
    if _is_too_long(text):
        return Request.PERHAPS_STOP
    if reaction := re.match(_REACTION, text):
        closing = {"“": "”", "«": "»"}.get(reaction[0][-1], '"')
        *quoted, behind = text[reaction.end() :].split(closing)
        signs = [char for char in reaction[0] if ord(char) in _SIGNS]
        text = "".join([*signs, behind if quoted else ""])
    read = partial(_read_words, words=(stop_words, help_words, start_words), asked=asked)
    request = read(text)
    if request in (Request.STOP, Request.PERHAPS_STOP):
        return request
    if re.search(_OTHER_LETTERS, text.casefold()):
        return Request.PERHAPS_STOP
    if request is not Request.NOTHING:
        is_crossed = text != text.translate(_SIGNS)  # "START ✋"
        return Request.PERHAPS_STOP if is_crossed else request
    again = read(_without_fillers(text))
    return Request.PERHAPS_STOP if again in (Request.STOP, Request.PERHAPS_STOP) else request


def _read_words(text: str, words: tuple[Iterable[str], ...], asked: bool) -> Request:
    stop_words, help_words, start_words = words
    if is_keyword_stop(text, stop_words):
        return Request.STOP
    unsigned = re.sub(_SIGNATURE, "", text)
    name = text[len(unsigned) :].strip(" \n-–—~")  # "Help - Not interested" is no name
    is_name = not name or read_reply(name) is Request.NOTHING
    alone = text if is_name else simplify_reply(text)
    if _is_made_of(START_WORDS, start_words, alone) and not re.search(_PHONE_NUMBER, text):
        return Request.START
    if _is_made_of(HELP_WORDS, help_words, alone):
        return Request.HELP
    if _is_made_of(_NO_WORDS, (), alone):
        return Request.NOTHING if asked else Request.PERHAPS_STOP
    if _is_made_of(_DOUBTFUL_WORDS, (), alone):
        return Request.PERHAPS_STOP
    said = _plain_sentences(text, re.sub(_PHONE_NUMBER, " ", text))
    named = _plain_sentences(re.sub(_PHONE_NUMBER, " this number ", text))
    if any(re.search(_STOP_PHRASES, each) for each in {**said, **named}):
        whole = simplify_reply(text)
        taken_back = re.search(_TAKEN_BACK, whole) or re.search(_LAUGHTER, text)
        sure = len(whole.split()) <= _SURE_WORDS and not taken_back
        return Request.STOP if sure else Request.PERHAPS_STOP
    doubts = _DOUBTS if "?" in text else f"{_DOUBTS}|{_DENIAL}"
    unwanted = (each for each in said if re.search(doubts, each))
    if any(not re.search(_OTHER_MATTER, each) for each in unwanted):
        return Request.PERHAPS_STOP
    return Request.NOTHING


def is_keyword_stop(text: str, stop_words: Iterable[str] = ()) -> bool:
    """Tell a stop by keyword, which START may undo, from one in a person's own words.

    >>> is_keyword_stop("Stop, please!"), is_keyword_stop("please stop texting me")
    (True, False)
    """
    return _is_made_of(STOP_WORDS, stop_words, text) or _is_made_of(
        _WHOLE_STOP_WORDS, (), text, with_courtesies=False
    )


_HARMLESS = (
    r"(ok(ay)?|k|yes|yep|yeah|sure|si|oui|ja|great|perfect|cool|got it|will do|see you"
    r"|thanks?( you)?|thx|ty|gracias|merci|danke|d accord|vale|\d{1,2}(\d\d)?([ap]m)?|[ap]m"
    r"|at|the|and|so|much|very|a|lot)"
)


def is_harmless(text: str) -> bool:
    """True if a reply is plainly harmless: yes, ok, thanks, a time, a thumb up.

    >>> is_harmless("Ok, thanks!"), is_harmless("👍"), is_harmless("why me?")
    (True, True, False)
    """
    plain = simplify_reply(text)
    return bool(re.fullmatch(rf"{_HARMLESS}( {_HARMLESS})*", plain)) or (
        not plain and bool(re.fullmatch(r"[\s👍👌🙏😀-😊❤️\U0001f3fb-\U0001f3ff\ufe0f!.]+", text))
    )


def language_of(text: str, otherwise: str = "en") -> str:
    """Return the language of a text's words: "en", "es" or "fr"; on a tie the other one given.

    For the answer to a request that is the language of our last text to the number.

    >>> language_of("STOP"), language_of("no me escriban más"), language_of("Stop merci")
    ('en', 'es', 'fr')
    >>> language_of("STOP", language_of("Hola Ana, mañana abrimos a las 9"))
    'es'
    """
    plain = simplify_reply(text)
    hits = {}
    for language in (otherwise, "en", "es", "fr"):
        tables = [_COURTESIES, _SMALL_WORDS]
        if language != "en":  # STOP and INFO are written in every language: they tell nothing
            tables += [STOP_WORDS, HELP_WORDS]
        known = "|".join(table[language] for table in tables)
        hits[language] = len(re.findall(rf"\b(?:{known})\b", plain))
    return max(hits, key=lambda language: hits[language])


# Another box must not read a confirmation as a stop, and one segment of 160 letters has to do.
_CONFIRMATIONS = {
    "en": "Done: you are off our list and will not hear from us again.",
    "es": "Hecho: le dimos de baja y ya no le llega nada nuestro.",
    "fr": "C'est fait : vous ne recevrez plus rien de notre part.",
}
_HELP = {
    "en": ("Help: ", "Reply STOP and you will not hear from us again."),
    "es": ("Ayuda: ", "Responda BAJA y ya no le llega nada nuestro."),
    "fr": ("Aide : ", "Répondez STOP et vous ne recevrez plus rien."),
}


def write_answer(to: Request, language: str, sender_name: str, help_contact: str) -> str:
    """Write what the box itself answers to a stop, or to a call for help.

    >>> write_answer(Request.HELP, "en", "Acme", "acme.example")
    'Acme: Help: acme.example. Reply STOP and you will not hear from us again.'
    """
    words = _CONFIRMATIONS[language]
    if to is Request.HELP:
        title, words = _HELP[language]
        words = f"{title}{help_contact}. {words}" if help_contact else words
    return f"{sender_name}: {words}" if sender_name else words


@lru_cache(maxsize=256)  # the words of the settings, and the text, again and again
def simplify_reply(text: str) -> str:
    """Fold case and accents; leave words of letters and digits, one space between them.

    >>> simplify_reply("  ¡ARRÊT, s'il vous plaît! 🙏")
    'arret sil vous plait'
    """
    import unicodedata

    # Letter by letter: a whole text of combining marks would take the square of its length to sort.
    text = text.replace("\u00b4", "'")  # "don´t": on many phones the nearest key
    text = re.sub(r" #(?!\w)", " number", text)  # "wrong #"
    text = text.translate(_FANCY_LETTERS)
    for _ in range(2):  # bold and circled letters know no case before they are taken apart
        text = "".join(unicodedata.normalize("NFKD", char.casefold()) for char in text)
    text = text.translate(_LOOK_ALIKES)
    hidden = {"Mn", "Me", "Cf"}  # accents, and what has no width: soft hyphens, joiners, directions
    seen = "".join(char for char in text if unicodedata.category(char) not in hidden)
    return " ".join(re.findall(r"[^\W_]+", re.sub(r"['’‘ʼ`]", "", seen)))


def asks_question(text: str) -> bool:
    """True if a text of our own asks for an answer.

    >>> asks_question("Can you come at 9?"), asks_question("Reply YES to confirm")
    (True, True)
    >>> asks_question("New hours. Questions? Call us: https://x.example/?a=1"), asks_question("")
    (False, False)
    """
    return bool(re.search(_QUESTION, text))


def names_way_to_stop(text: str) -> bool:
    """True if a text of our own says how to stop.

    >>> names_way_to_stop("Reply STOP to end"), names_way_to_stop("See you at the shop")
    (True, False)
    """
    words = "|".join([*STOP_WORDS.values(), *_WHOLE_STOP_WORDS.values(), "stop", "cancela"])
    return bool(re.search(rf"\b(?:{words})\b", simplify_reply(text)))


def _plain_sentences(*texts: str) -> dict[str, None]:
    """Return what each text says, whole and by sentences, without what is not meant."""
    parts = [part for each in texts for part in (each, *re.split(_SENTENCE_END, each))]
    plain = [re.sub(_NOT_MEANT, " ", simplify_reply(each)).strip() for each in parts]
    return dict.fromkeys([*plain, *map(_without_courtesies, plain)])


def _is_too_long(text: str) -> bool:
    """True if a text takes too long to read: one letter may be the words of a sentence."""
    import unicodedata

    most = _MOST_LETTERS
    return len(text) > most or most < sum(len(unicodedata.normalize("NFKD", c)) for c in text)


def _without_fillers(text: str) -> str:
    """Return the plain words of a text, signs as words, without what only stands around them."""
    plain = simplify_reply(text.translate(_SIGNS))
    polite = "|".join(_COURTESIES.values())
    begun = re.sub(rf"^((?:{_OPENINGS}|{polite}) )+", "", plain)
    bare = re.sub(rf"( (?:{_CLOSINGS}|{polite}))+$", "", begun)
    return f"{bare}?" if "?" in text else bare


def _is_made_of(
    table: Mapping[str, str], extra: Iterable[str], text: str, with_courtesies: bool = True
) -> bool:
    """Whether a text is one of the words, once or again and again, and nothing else."""
    forms = _plain_forms(text)
    if with_courtesies:
        forms = (*forms, *map(_without_courtesies, forms))
    added = sorted((re.escape(simplify_reply(word)) for word in extra), key=len, reverse=True)
    words = "|".join([*filter(None, added), *table.values()])
    return any(form and not re.sub(rf"\b(?:{words})\b", "", form).strip() for form in forms)


@lru_cache(maxsize=16)  # a text is compared with one table after the other
def _plain_forms(text: str) -> tuple[str, ...]:
    """Return a text in plain words, and so without its signature."""
    if not simplify_reply(text):
        text = text.translate(_SIGNS)
    text = re.sub(_PHONE_NUMBER, " ", text).strip()
    unsigned = re.sub(_SIGNATURE, "", text)
    forms = map(simplify_reply, [text, unsigned])
    return tuple(re.sub(r"\b(\w) (?=\w\b)", r"\1", each) for each in forms)  # s t o p


@lru_cache(maxsize=16)
def _without_courtesies(plain: str) -> str:
    polite = "|".join(_COURTESIES.values())
    return " ".join(re.sub(rf"\b(?:{polite})\b", "", plain).split())


# === 7 Store =====================================================================================
# The one SQLite file: schema, migrations, every SQL statement, the allowed transitions. An operator
# may change it by hand: triggers normalize times, keep the audit, and carry a cancelled or retried
# row to its bubbles. Every transition is a guarded UPDATE whose row count decides, since command
# line and daemon are two processes. It does not know the modem, the pace or the clock.

SCHEMA_VERSION = 2
RETRY_ANYWAY = "--even-if-it-may-repeat"

_BUSY_S = (
    30  # below the watchdog's time: a stuck writer elsewhere must not look like a hang of ours
)
_VACUUM_PAGES = 256  # a step of a quarter of a megabyte; less free space is left for new rows
_DAMAGED = (
    "it is damaged and nothing is sent from it: stop smsbox, then smsbox restore FILE with the"
    " newest copy (see the folder backups beside it)"
)
_NOT_OURS = "it is no smsbox database: name another with --database"

# --- the tables, in the order of the journey

_OPT_OUTS = """
CREATE TABLE opt_outs (
    phone_number TEXT PRIMARY KEY            -- or as the network gave it: a short code, a name
        CONSTRAINT "phone_number is + and 8 to 15 digits, like +12135551234"
        CHECK (phone_number GLOB '+[1-9]*' AND length(phone_number) BETWEEN 9 AND 16
                AND substr(phone_number, 2) NOT GLOB '*[^0-9]*'
            OR phone_number <> '' AND phone_number NOT GLOB '*[^0-9]*'
            OR phone_number GLOB '*[A-Za-z]*' AND phone_number NOT GLOB '+*'),
    at TEXT NOT NULL DEFAULT (datetime('now')),
    words TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    tier TEXT NOT NULL DEFAULT 'operator'    -- START lifts a keyword's, and no other
        CHECK (tier IN ('keyword', 'words', 'operator', 'import')),
    campaign TEXT NOT NULL DEFAULT '',       -- of the last message before it
    actor TEXT                               -- the writer's signature, moved to events at once
) WITHOUT ROWID;
"""
_TABLES = f"""
CREATE TABLE campaigns (
    name TEXT PRIMARY KEY,
    created_at TEXT NOT NULL,
    seed INTEGER,
    paused_because TEXT,
    paused_by TEXT,                          -- 'operator' or 'box'
    paused_until TEXT,                       -- NULL: until somebody resumes it
    resumed_at TEXT                          -- the end of its last pause
) WITHOUT ROWID;

CREATE TABLE scheduled_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    phone_number TEXT NOT NULL,
    customer_name TEXT NOT NULL DEFAULT '',
    message_content TEXT NOT NULL,
    scheduled_for TEXT NOT NULL,             -- UTC
    status TEXT NOT NULL DEFAULT 'scheduled'
        CHECK (status IN ('scheduled', 'sent', 'cancelled', 'failed')),
    campaign_message_id TEXT,
    campaign_name TEXT NOT NULL DEFAULT '',
    sent_at TEXT,
    error_message TEXT,
    created_at TEXT NOT NULL DEFAULT (datetime('now')),
    updated_at TEXT NOT NULL DEFAULT (datetime('now')),
    held_because TEXT,                       -- NULL: free to go
    anyway INTEGER NOT NULL DEFAULT 0 CHECK (anyway IN (0, 1)),
    attempts INTEGER NOT NULL DEFAULT 0      -- passing refusals so far
        CHECK (typeof(attempts) = 'integer'),
    delivery TEXT CHECK (delivery IN ('delivered', 'failed', 'expired')),  -- NULL: not known
    timezone TEXT NOT NULL DEFAULT '',
    until TEXT,                              -- UTC; not sent after it; NULL: no such end
    consent_at TEXT NOT NULL DEFAULT '',
    consent_source TEXT NOT NULL DEFAULT '',
    actor TEXT,                              -- the writer's signature, moved to events at once
    planned_for TEXT,                        -- scheduled_for of the first plan
    gap_s REAL CHECK (gap_s BETWEEN 0 AND 600000),  -- drawn before it; NULL: drawn from its id
    skip_s REAL CHECK (skip_s BETWEEN 0 AND 600000),
    begun_at TEXT,                           -- when its first segment was handed over
    retry_at TEXT,                           -- not tried again before, after a passing refusal
    at_once INTEGER NOT NULL DEFAULT 0 CHECK (at_once IN (0, 1)),  -- of send and --try
    held_code TEXT NOT NULL DEFAULT '',      -- why it is held, for programs; '': by hand
    settled_at TEXT,                         -- a failed one that a person has dealt with
    CONSTRAINT "a text is no blob: CAST it AS TEXT"
    CHECK ('blob' NOT IN (typeof(phone_number), typeof(customer_name), typeof(message_content),
        typeof(scheduled_for), typeof(campaign_message_id), typeof(campaign_name),
        typeof(error_message), typeof(held_because), typeof(timezone)))
);

CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,    -- its last eight bits are the concatenation reference
    scheduled_message_id INTEGER REFERENCES scheduled_messages (id),
    kind TEXT                                -- of a text of the box itself
        CHECK (kind IN ('confirmation', 'help', 'alert', 'answer')),
    phone_number TEXT NOT NULL,
    bubble INTEGER NOT NULL DEFAULT 1,
    body TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'queued' CHECK (status IN
        ('queued', 'sending', 'sent', 'failed', 'cancelled', 'unconfirmed')),
    created_at TEXT NOT NULL,
    sent_at TEXT,
    delivered_at TEXT,
    error_message TEXT
);

CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    message_id INTEGER NOT NULL REFERENCES messages (id),
    sequence INTEGER NOT NULL,
    total INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('sending', 'sent', 'failed', 'unconfirmed')),
    message_reference INTEGER,               -- TP-MR as the modem gave it
    submitted_at TEXT NOT NULL,
    answered_at TEXT,
    delivered_at TEXT,
    delivery TEXT,                           -- the last word of its status reports
    error_message TEXT,
    UNIQUE (message_id, sequence)
);

CREATE TABLE inbound (
    id INTEGER PRIMARY KEY,
    received_at TEXT NOT NULL,
    sent_at TEXT,
    sender TEXT NOT NULL,
    body TEXT,                               -- NULL: not readable
    tpdu TEXT NOT NULL,
    request TEXT NOT NULL,
    read_at TEXT,
    answers INTEGER,                         -- the row that a reply, no command, came after
    settled_at TEXT,                         -- a doubtful one that a person has dealt with
    settled_by TEXT
);

CREATE TABLE inbound_parts (                 -- of long texts
    id INTEGER PRIMARY KEY,
    received_at TEXT NOT NULL,
    sender TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    reference INTEGER NOT NULL,
    total INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    tpdu TEXT NOT NULL,
    joined INTEGER NOT NULL DEFAULT 0,       -- 1: its text stands in inbound
    UNIQUE (sender, sent_at, reference, total, sequence, tpdu)
);

CREATE TABLE reports (                       -- the network's status reports
    id INTEGER PRIMARY KEY,
    received_at TEXT NOT NULL,
    phone_number TEXT NOT NULL,
    message_reference INTEGER NOT NULL,
    delivery TEXT NOT NULL,
    words TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    discharged_at TEXT NOT NULL,
    tpdu TEXT NOT NULL UNIQUE,
    segment_id INTEGER REFERENCES segments (id) ON DELETE SET NULL
);

{_OPT_OUTS}
CREATE TABLE events (                        -- append-only
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    scheduled_message_id INTEGER,
    event TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    signed INTEGER NOT NULL DEFAULT 0        -- 1: by smsbox and its triggers, which alone write it
);

CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

_INDEXES = """
CREATE INDEX rows_due ON scheduled_messages (scheduled_for, id)
    WHERE status = 'scheduled' AND held_because IS NULL;
CREATE INDEX rows_due_by_campaign ON scheduled_messages (campaign_name, scheduled_for, id)
    WHERE status = 'scheduled' AND held_because IS NULL;
CREATE INDEX rows_by_status ON scheduled_messages (status, delivery);
CREATE INDEX rows_sent ON scheduled_messages (sent_at) WHERE status = 'sent';
CREATE INDEX rows_begun ON scheduled_messages (begun_at) WHERE begun_at IS NOT NULL;
CREATE INDEX rows_at_once ON scheduled_messages (scheduled_for, id)
    WHERE at_once = 1 AND status = 'scheduled' AND held_because IS NULL;
CREATE INDEX rows_by_number ON scheduled_messages (phone_number);
CREATE INDEX rows_by_campaign ON scheduled_messages (campaign_name, status);
CREATE INDEX rows_held ON scheduled_messages (held_because)
    WHERE status = 'scheduled' AND held_because IS NOT NULL;
CREATE INDEX bubbles_by_row ON messages (scheduled_message_id);
CREATE INDEX bubbles_open ON messages (scheduled_message_id)
    WHERE status IN ('queued', 'sending');
CREATE INDEX bubbles_unconfirmed ON messages (scheduled_message_id) WHERE status = 'unconfirmed';
CREATE INDEX answers_by_number ON messages (phone_number) WHERE kind IS NOT NULL;
CREATE INDEX segments_open ON segments (message_id) WHERE status = 'sending';
CREATE INDEX segments_by_reference ON segments (message_reference, submitted_at)
    WHERE message_reference IS NOT NULL;
CREATE UNIQUE INDEX inbound_once ON inbound (sender, sent_at, coalesce(body, tpdu))
    WHERE tpdu <> '';
CREATE INDEX inbound_unread ON inbound (id) WHERE read_at IS NULL;
CREATE INDEX inbound_doubtful ON inbound (sender)
    WHERE settled_at IS NULL AND (body IS NULL OR request = 'perhaps stop');
CREATE INDEX inbound_doubtful_tail ON inbound (substr(sender, -8))
    WHERE settled_at IS NULL AND (body IS NULL OR request = 'perhaps stop');
CREATE INDEX opt_outs_tail ON opt_outs (substr(phone_number, -8));
-- Numbers that may be the same end alike, in whatever form they came.
CREATE INDEX rows_by_tail ON scheduled_messages (substr(phone_number, -8));
CREATE INDEX parts_waiting ON inbound_parts (sender, reference, total) WHERE joined = 0;
CREATE INDEX parts_by_age ON inbound_parts (id) WHERE joined = 0;
CREATE INDEX parts_waiting_tail ON inbound_parts (substr(sender, -8)) WHERE joined = 0;
CREATE INDEX reports_unmatched ON reports (received_at) WHERE segment_id IS NULL;
CREATE INDEX reports_by_segment ON reports (segment_id);
CREATE INDEX events_by_row ON events (scheduled_message_id);
"""

# --- the triggers: what is written by hand is put in form, followed up and audited

# What SQLite understands as a time is kept in its own form. A day that is in no calendar passes
# datetime() of some SQLites: '+0 days' makes it a real one.
_TIME_TRIGGERS = "".join(
    f"""
CREATE TRIGGER {column}_checked_{name} BEFORE {event} ON scheduled_messages
WHEN {may_lack} (
    coalesce(datetime(NEW.{column}, '+0 days') NOT BETWEEN '2020' AND '2100', 1)
    OR NEW.{column} GLOB '????-??-??*'
    AND date(substr(NEW.{column}, 1, 10), '+0 days') IS NOT substr(NEW.{column}, 1, 10))
BEGIN SELECT raise(ABORT,
    '{column} is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS'); END;
CREATE TRIGGER {column}_normal_{name} AFTER {event} ON scheduled_messages
WHEN NEW.{column} IS NOT datetime(NEW.{column}, '+0 days')
BEGIN
    UPDATE scheduled_messages SET {column} = datetime(NEW.{column}, '+0 days') WHERE id = NEW.id;
END;
"""
    for column, may_lack in (
        ("scheduled_for", ""),
        ("sent_at", "NEW.sent_at IS NOT NULL AND"),
        ("until", "NEW.until IS NOT NULL AND"),
    )
    for name, event in (("insert", "INSERT"), ("update", f"UPDATE OF {column}"))
)
# Ten digits, 1 and ten, or + and all, however they are grouped: a hand-made row is found by its
# number too, and who said stop is known by it.
_DIGITS = "NEW.phone_number"
for _mark in " -().\t":
    _DIGITS = f"replace({_DIGITS}, '{_mark}', '')"
_NUMBER_TRIGGERS = "".join(
    f"""
CREATE TRIGGER number_normal_{name} AFTER {event} ON scheduled_messages
WHEN {_DIGITS} NOT GLOB '*[^0-9]*'
    AND (length({_DIGITS}) = 10 OR length({_DIGITS}) = 11 AND {_DIGITS} GLOB '1*')
    OR {_DIGITS} <> NEW.phone_number AND {_DIGITS} GLOB '+[1-9]*'
    AND substr({_DIGITS}, 2) NOT GLOB '*[^0-9]*' AND length({_DIGITS}) BETWEEN 9 AND 16
BEGIN
    UPDATE scheduled_messages
    SET phone_number = iif({_DIGITS} GLOB '+*', {_DIGITS}, '+1' || substr({_DIGITS}, -10))
    WHERE id = NEW.id;
END;
"""
    for name, event in (("insert", "INSERT"), ("update", "UPDATE OF phone_number"))
)
_FOLLOWING_TRIGGERS = """
CREATE TRIGGER first_plan AFTER INSERT ON scheduled_messages
WHEN NEW.planned_for IS NULL
BEGIN
    UPDATE scheduled_messages SET planned_for = datetime(NEW.scheduled_for, '+0 days')
    WHERE id = NEW.id;
END;
CREATE TRIGGER touched AFTER UPDATE OF phone_number, customer_name, message_content, scheduled_for,
    status, campaign_name, sent_at, error_message, held_because, anyway ON scheduled_messages
WHEN NEW.updated_at IS OLD.updated_at
BEGIN UPDATE scheduled_messages SET updated_at = datetime('now') WHERE id = NEW.id; END;
CREATE TRIGGER freed AFTER UPDATE OF held_because ON scheduled_messages
WHEN NEW.held_because IS NULL AND NEW.held_code <> ''
BEGIN UPDATE scheduled_messages SET held_code = '' WHERE id = NEW.id; END;

-- Whatever pushes a row past its end.
CREATE TRIGGER too_late AFTER UPDATE OF scheduled_for, until ON scheduled_messages
WHEN NEW.status = 'scheduled' AND datetime(NEW.scheduled_for) > datetime(NEW.until)
BEGIN
    UPDATE scheduled_messages SET status = 'cancelled', error_message = 'too late',
        updated_at = NEW.updated_at, actor = NEW.actor WHERE id = NEW.id;
END;
CREATE TRIGGER cancelled_bubbles AFTER UPDATE OF status ON scheduled_messages
WHEN NEW.status = 'cancelled' AND OLD.status <> 'cancelled'
BEGIN
    UPDATE messages SET status = 'cancelled'
    WHERE scheduled_message_id = NEW.id AND (status = 'queued' OR status = 'sending' AND NOT EXISTS
        (SELECT 1 FROM segments WHERE message_id = messages.id AND status = 'sending'));
    UPDATE scheduled_messages SET error_message = (
        SELECT sum(status IN ('sent', 'sending')) || ' of ' || count(*) || ' bubbles were sent'
            || iif(NEW.error_message IS OLD.error_message, '', ': ' || NEW.error_message)
        FROM messages WHERE scheduled_message_id = NEW.id)
    WHERE id = NEW.id AND EXISTS (SELECT 1 FROM messages
        WHERE scheduled_message_id = NEW.id AND status IN ('sent', 'sending'));
END;
CREATE TRIGGER retried_bubbles AFTER UPDATE OF status ON scheduled_messages
WHEN NEW.status = 'scheduled' AND OLD.status <> 'scheduled'
BEGIN
    UPDATE messages SET status = 'queued', error_message = NULL
    WHERE scheduled_message_id = NEW.id AND status IN ('failed', 'cancelled');
    UPDATE scheduled_messages SET attempts = 0, retry_at = NULL, settled_at = NULL
    WHERE id = NEW.id;
END;
-- What is not begun meets the opt-out when it is due.
CREATE TRIGGER opt_out_amid_message AFTER INSERT ON opt_outs
BEGIN
    UPDATE scheduled_messages SET status = 'cancelled', error_message = 'the recipient said stop'
    WHERE phone_number = NEW.phone_number AND status = 'scheduled' AND id IN
        (SELECT scheduled_message_id FROM messages WHERE status IN ('queued', 'sending'));
END;
"""
# A guard against slips: who may write the file may take it down. Our own statements sign with
# `actor`, see _sign(); what comes unsigned was written by hand, now, whatever it says of itself.
_SIGNED = "smsbox:"
_IS_SIGNED = f"NEW.actor GLOB '{_SIGNED}*'"
_WHO = f"iif({_IS_SIGNED}, substr(NEW.actor, {len(_SIGNED) + 1}), 'sql')"
_WAS_SIGNED, _WHO_WAS = _IS_SIGNED.replace("NEW", "OLD"), _WHO.replace("NEW", "OLD")
_AUDIT_TRIGGERS = f"""
CREATE TRIGGER events_signed BEFORE INSERT ON events
WHEN NEW.signed IS NOT 1 OR NEW.id > 0 AND EXISTS (SELECT 1 FROM events WHERE id = NEW.id)
BEGIN SELECT raise(ABORT, 'events is the audit: smsbox alone writes it'); END;
CREATE TRIGGER events_keep BEFORE UPDATE ON events
BEGIN SELECT raise(ABORT, 'events is the audit: it is only added to'); END;
CREATE TRIGGER events_stay BEFORE DELETE ON events
BEGIN SELECT raise(ABORT, 'events is the audit: it is only added to'); END;
CREATE TRIGGER row_replaced BEFORE INSERT ON scheduled_messages
WHEN NEW.id > 0 AND EXISTS (SELECT 1 FROM scheduled_messages WHERE id = NEW.id)
BEGIN SELECT raise(ABORT, 'there is a row with this id: UPDATE it, or leave the id out'); END;
CREATE TRIGGER row_renumbered BEFORE UPDATE ON scheduled_messages
WHEN NEW.id IS NOT OLD.id
BEGIN SELECT raise(ABORT, 'a row keeps its id'); END;
CREATE TRIGGER audited_insert AFTER INSERT ON scheduled_messages
BEGIN
    INSERT INTO events (signed, at, actor, scheduled_message_id, event, detail)
    VALUES (1, iif({_IS_SIGNED}, NEW.created_at, datetime('now')), {_WHO}, NEW.id, 'added',
            NEW.status || ' for ' || datetime(NEW.scheduled_for));
    UPDATE scheduled_messages SET actor = NULL WHERE id = NEW.id AND actor IS NOT NULL;
END;
CREATE TRIGGER audited_update AFTER UPDATE OF status, scheduled_for, message_content, held_because,
    phone_number, anyway ON scheduled_messages
WHEN NEW.status IS NOT OLD.status OR datetime(NEW.scheduled_for) IS NOT datetime(OLD.scheduled_for)
    OR NEW.message_content IS NOT OLD.message_content
        AND (NEW.message_content <> '' OR {_IS_SIGNED} IS NOT 1)  -- blanked: one event for all
    OR NEW.anyway IS NOT OLD.anyway OR NEW.held_because IS NOT OLD.held_because
    OR NEW.phone_number IS NOT OLD.phone_number
BEGIN
    INSERT INTO events (signed, at, actor, scheduled_message_id, event, detail)
    SELECT 1, iif({_IS_SIGNED}, NEW.updated_at, datetime('now')), {_WHO}, NEW.id,
        CASE WHEN NEW.status IS NOT OLD.status THEN NEW.status
            WHEN NEW.held_because IS NOT OLD.held_because
                THEN iif(NEW.held_because IS NULL, 'released', 'held')
            WHEN datetime(NEW.scheduled_for) IS NOT datetime(OLD.scheduled_for) THEN 'moved'
            ELSE 'edited' END,
        trim(iif(NEW.status IS NOT OLD.status, 'was ' || OLD.status || ' ', '')
            || iif(datetime(NEW.scheduled_for) IS NOT datetime(OLD.scheduled_for),
                'from ' || datetime(OLD.scheduled_for) || ' to ' || datetime(NEW.scheduled_for)
                || ' ', '')
            || iif(NEW.message_content IS NOT OLD.message_content, 'new text ' || iif(EXISTS (
                SELECT 1 FROM messages WHERE scheduled_message_id = NEW.id
                AND status <> 'queued'), '(too late: it was under way) ', ''), '')
            || iif(NEW.phone_number IS NOT OLD.phone_number, 'new number ', '')
            || iif(NEW.anyway IS NOT OLD.anyway, 'anyway ', '')
            || coalesce(NEW.held_because, '')
            || iif(NEW.status IN ('failed', 'cancelled'), coalesce(NEW.error_message, ''), ''));
END;
CREATE TRIGGER signature_moved AFTER UPDATE OF actor ON scheduled_messages
WHEN NEW.actor IS NOT NULL
BEGIN UPDATE scheduled_messages SET actor = NULL WHERE id = NEW.id; END;
CREATE TRIGGER audited_delete AFTER DELETE ON scheduled_messages
BEGIN
    INSERT INTO events (signed, at, actor, scheduled_message_id, event)
    VALUES (1, datetime('now'), 'sql', OLD.id, 'deleted');
END;
CREATE TRIGGER opt_out_audited AFTER INSERT ON opt_outs
BEGIN
    INSERT INTO events (signed, at, actor, event, detail)
    VALUES (1, iif({_IS_SIGNED}, NEW.at, datetime('now')), {_WHO}, 'opted out',
            NEW.phone_number || ': ' || NEW.tier || iif(NEW.reason = '', '', ', ' || NEW.reason));
    UPDATE opt_outs SET actor = NULL WHERE phone_number = NEW.phone_number AND actor IS NOT NULL;
END;
CREATE TRIGGER opt_out_removal_audited AFTER DELETE ON opt_outs
BEGIN
    INSERT INTO events (signed, at, actor, event, detail)
    VALUES (1, iif({_WAS_SIGNED}, OLD.at, datetime('now')), {_WHO_WAS}, 'opt-out removed',
            OLD.phone_number || iif({_WAS_SIGNED}, ': ' || OLD.reason, ''));
END;
CREATE TRIGGER opt_out_renumbered BEFORE UPDATE ON opt_outs
WHEN NEW.phone_number IS NOT OLD.phone_number
BEGIN SELECT raise(ABORT, 'who said stop stays: DELETE that number, INSERT the other'); END;
CREATE TRIGGER opt_out_changed AFTER UPDATE ON opt_outs
WHEN {_IS_SIGNED} IS NOT 1 AND (NEW.tier IS NOT OLD.tier OR NEW.at IS NOT OLD.at
    OR NEW.words IS NOT OLD.words AND NEW.words <> '')  -- blanked: one event for all
BEGIN
    INSERT INTO events (signed, at, actor, event, detail) VALUES (1, datetime('now'), 'sql',
            'opt-out changed', NEW.phone_number || ': ' || NEW.tier);
END;
CREATE TRIGGER opt_out_signed AFTER UPDATE OF tier ON opt_outs
WHEN NEW.actor IS NOT NULL
BEGIN UPDATE opt_outs SET actor = NULL WHERE phone_number = NEW.phone_number; END;
"""
_TRIGGERS = _TIME_TRIGGERS + _NUMBER_TRIGGERS + _FOLLOWING_TRIGGERS + _AUDIT_TRIGGERS

# --- migrations: indexes and triggers are made anew each time, tables are changed by these

_PAUSED_BY = "iif(paused_because LIKE 'paused by %', 'operator', 'box')"  # as version 1 said it
_HELD_CODES = f"""CASE WHEN held_because = 'their reply may mean stop'
        OR held_because = 'they have replied' THEN 'reply'
    WHEN held_because LIKE 'more than % late' OR held_because LIKE 'late, %'
        THEN '{HeldCode.LATE.value}'
    WHEN held_because LIKE 'cut in half: %' THEN '{HeldCode.CUT.value}'
    WHEN held_because LIKE 'restored from a copy of %' THEN '{HeldCode.RESTORED.value}'
    WHEN held_because LIKE 'an error of smsbox: %' THEN '{HeldCode.ERROR.value}'
    WHEN held_because LIKE 'no hour is open both here %' OR held_because LIKE '% is no zone: %'
        OR held_because LIKE 'it needs % segments and %' THEN '{HeldCode.UNSENDABLE.value}'
    ELSE '' END"""
_MIGRATIONS = {
    1: f"""
ALTER TABLE campaigns ADD COLUMN paused_by TEXT;
ALTER TABLE campaigns ADD COLUMN paused_until TEXT;
ALTER TABLE campaigns ADD COLUMN resumed_at TEXT;
UPDATE campaigns SET paused_by = iif(paused_because IS NULL, NULL, {_PAUSED_BY}),
    paused_until = (SELECT value FROM state WHERE key = 'paused_until ' || name),
    resumed_at = (SELECT value FROM state WHERE key = 'resumed ' || name);
INSERT OR IGNORE INTO state SELECT 'paused_by', iif(value LIKE 'paused by %', 'operator', 'box')
    FROM state WHERE key = 'paused_because';
DELETE FROM state WHERE key LIKE 'paused_until %' OR key LIKE 'resumed %'
    OR key LIKE 'reference %' OR key IN ('came', 'moved', 'moved_away', 'retired',
        'paused_before', 'restored_copy', 'power_mark', 'clock_veto', 'modem_imei',
        'refused_pin', 'tried_pin');  -- a PIN could be found from them
ALTER TABLE scheduled_messages ADD COLUMN planned_for TEXT;
ALTER TABLE scheduled_messages ADD COLUMN gap_s REAL CHECK (gap_s BETWEEN 0 AND 600000);
ALTER TABLE scheduled_messages ADD COLUMN skip_s REAL CHECK (skip_s BETWEEN 0 AND 600000);
ALTER TABLE scheduled_messages ADD COLUMN begun_at TEXT;
ALTER TABLE scheduled_messages ADD COLUMN retry_at TEXT;
ALTER TABLE scheduled_messages ADD COLUMN at_once INTEGER NOT NULL DEFAULT 0
    CHECK (at_once IN (0, 1));
ALTER TABLE scheduled_messages ADD COLUMN held_code TEXT NOT NULL DEFAULT '';
ALTER TABLE scheduled_messages ADD COLUMN settled_at TEXT;
UPDATE scheduled_messages AS s SET held_code = {_HELD_CODES},
    planned_for = coalesce((SELECT datetime(substr(detail, -19)) FROM events
        WHERE scheduled_message_id = s.id AND event = 'added' ORDER BY id LIMIT 1), scheduled_for),
    begun_at = (SELECT min(g.submitted_at) FROM messages m JOIN segments g ON g.message_id = m.id
        WHERE m.scheduled_message_id = s.id);
UPDATE messages SET status = 'unconfirmed', error_message = (SELECT error_message
        FROM segments WHERE message_id = messages.id AND status = 'unconfirmed' LIMIT 1)
    WHERE id IN (SELECT message_id FROM segments WHERE status = 'unconfirmed')
        AND scheduled_message_id IN (SELECT id FROM scheduled_messages WHERE status = 'scheduled');
ALTER TABLE segments DROP COLUMN reference_before;
ALTER TABLE events ADD COLUMN signed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE inbound ADD COLUMN settled_at TEXT;
ALTER TABLE inbound ADD COLUMN settled_by TEXT;
-- A reply that waits belongs to its number now: the rows are freed, the newest reply counts.
UPDATE inbound SET settled_at = read_at WHERE request = 'perhaps stop' OR body IS NULL;
UPDATE inbound SET request = 'perhaps stop', settled_at = NULL WHERE id IN
    (SELECT max(i.id) FROM inbound i JOIN scheduled_messages s ON s.phone_number = i.sender
    WHERE s.held_code = 'reply' AND s.status = 'scheduled' AND i.request <> 'stop'
    GROUP BY i.sender);
UPDATE scheduled_messages SET held_because = NULL, held_code = ''
    WHERE held_code = 'reply' AND status = 'scheduled';
ALTER TABLE opt_outs RENAME TO opt_outs_before;
{_OPT_OUTS}
INSERT INTO opt_outs SELECT * FROM opt_outs_before;
DROP TABLE opt_outs_before;
""",
}

# --- words of SQL that several statements use

# A reply that waits for a person: it belongs to the number, whatever form that came in.
_DOUBTFUL = f"settled_at IS NULL AND (body IS NULL OR request = '{Request.PERHAPS_STOP.value}')"
# What can't even be told whose it is may be anybody's stop.
_UNREAD = f"inbound WHERE read_at IS NULL AND (NOT ({_DOUBTFUL}) OR sender = 'unknown')"
_NAME_OF_SENDER = """(SELECT customer_name FROM scheduled_messages
    WHERE phone_number = sender AND customer_name <> '' ORDER BY id DESC LIMIT 1) AS customer_name
    """
_FROM_SENDER = """(:sender = '' OR substr(sender, -8) = substr(:sender, -8)
    AND same_number(sender, :sender))"""
# While the rest of a long text is waited for nobody knows what it says.
_PARTS_OF = """inbound_parts INDEXED BY parts_waiting_tail WHERE joined = 0
        AND substr(sender, -8) = substr({0}, -8) AND same_number(sender, {0})"""
_DOUBTFUL_AT = f"""coalesce((SELECT min(received_at) FROM inbound INDEXED BY inbound_doubtful_tail
        WHERE substr(sender, -8) = substr(s.phone_number, -8) AND {_DOUBTFUL}
            AND same_number(sender, s.phone_number)),
        (SELECT min(received_at) FROM {_PARTS_OF.format("s.phone_number")}))"""
_TOLD_BY_OTHERS = {  # tables, of a row
    "said_stop_at": """(SELECT min(at) FROM opt_outs INDEXED BY opt_outs_tail
        WHERE substr(phone_number, -8) = substr(s.phone_number, -8)
            AND same_number(phone_number, s.phone_number))""",
    "doubtful_at": _DOUBTFUL_AT,
    "last_segment_at": """(SELECT max(coalesce(g.answered_at, g.submitted_at)) FROM messages m
        JOIN segments g ON g.message_id = m.id
        WHERE m.scheduled_message_id = s.id AND g.status <> 'failed')""",
}
ROW_KEYS = tuple(each.name for each in fields(StoredRow) if each.name not in _TOLD_BY_OTHERS)
_ROW_COLUMNS = ", ".join(
    [
        *(f"s.{name}" for name in ROW_KEYS),
        *(f"{query} AS {name}" for name, query in _TOLD_BY_OTHERS.items()),
    ]
)
_BUBBLE_COLUMNS = """id, scheduled_message_id, bubble, phone_number, body, status,
    coalesce(error_message, ''), (SELECT count(*) FROM messages o
        WHERE o.scheduled_message_id = messages.scheduled_message_id)"""
_FREE = f"""s.status = 'scheduled' AND s.held_because IS NULL AND {_DOUBTFUL_AT} IS NULL
    AND s.campaign_name NOT IN (SELECT name FROM campaigns WHERE paused_because IS NOT NULL)"""
_PAUSED_FOR_GOOD = """(SELECT name FROM campaigns
    WHERE paused_because IS NOT NULL AND paused_until IS NULL)"""
# Campaign by campaign: a paused one may have half a million rows before all others.
_LIVE_CAMPAIGNS = """WITH RECURSIVE live (name) AS (
        SELECT min(campaign_name) FROM scheduled_messages INDEXED BY rows_due_by_campaign
        WHERE status = 'scheduled' AND held_because IS NULL
        UNION ALL SELECT (SELECT min(campaign_name)
            FROM scheduled_messages INDEXED BY rows_due_by_campaign WHERE campaign_name > live.name
            AND status = 'scheduled' AND held_because IS NULL)
        FROM live WHERE live.name IS NOT NULL)"""
_FIRST_ROWS = f"""{_LIVE_CAMPAIGNS}
    SELECT {_ROW_COLUMNS} FROM live CROSS JOIN scheduled_messages s ON s.id IN (
        SELECT id FROM scheduled_messages s INDEXED BY rows_due_by_campaign
        WHERE campaign_name = live.name AND status = 'scheduled' AND held_because IS NULL
            AND {_DOUBTFUL_AT} IS NULL
            AND scheduled_for <= :now AND (scheduled_for, id) > (:at, :id)
        ORDER BY scheduled_for, id LIMIT :most)
    WHERE live.name NOT IN (SELECT name FROM campaigns WHERE paused_because IS NOT NULL)
    ORDER BY s.scheduled_for, s.id LIMIT :most"""
_HELD = """scheduled_messages INDEXED BY rows_held
    WHERE status = 'scheduled' AND held_because IS NOT NULL"""
_UNSETTLED = "scheduled_messages s WHERE s.status = 'failed' AND s.settled_at IS NULL"
_MAY_BE_SENT = """EXISTS (SELECT 1 FROM messages INDEXED BY bubbles_unconfirmed
    WHERE scheduled_message_id = s.id AND status = 'unconfirmed')"""
_ANSWERS = """messages WHERE scheduled_message_id IS NULL AND status IN ('queued', 'sending')
    AND status = 'queued' AND kind IS NOT NULL"""
_IS_NEW = """(created_at BETWEEN :oldest AND :newest
    OR kind = 'alert' AND created_at BETWEEN datetime(:oldest, '-1 day') AND :newest)"""
# Begun: at least one segment may have reached its recipient.
_BEGUN = """EXISTS (SELECT 1 FROM messages m JOIN segments g ON g.message_id = m.id
    WHERE m.scheduled_message_id = s.id AND g.status <> 'failed')"""
# What the reports say of a row that is sent; the words of a segment that failed are the row's.
_FAILED_SEGMENT = """FROM messages m JOIN segments g ON g.message_id = m.id
    WHERE m.scheduled_message_id = s.id AND g.delivery IN ('failed', 'expired')
    ORDER BY m.bubble, g.sequence LIMIT 1"""
_ALL_DELIVERED = """NOT EXISTS (SELECT 1 FROM messages
    WHERE scheduled_message_id = s.id AND delivered_at IS NULL)"""
_FAILED_BEFORE = "coalesce(delivery, '') IN ('failed', 'expired')"  # the words are a report's then
_TELL_DELIVERY = f"""UPDATE scheduled_messages AS s SET
    delivery = coalesce((SELECT g.delivery {_FAILED_SEGMENT}),
        CASE WHEN {_ALL_DELIVERED} THEN 'delivered' END),
    error_message = coalesce((SELECT 'bubble ' || m.bubble || ', segment ' || g.sequence
            || ': not delivered: ' || g.error_message {_FAILED_SEGMENT}),
        CASE WHEN NOT {_ALL_DELIVERED} AND NOT {_FAILED_BEFORE} THEN error_message END),
    updated_at = :now, actor = '{_SIGNED}daemon'
    WHERE id = :id AND status = 'sent' AND EXISTS (SELECT 1 FROM messages m
        JOIN segments g ON g.message_id = m.id
        WHERE m.scheduled_message_id = s.id AND g.delivery IS NOT NULL)"""

# What no longer is a time counts as long past: the row is called expired and held, alone.
_LONG_PAST = datetime(2020, 1, 1, tzinfo=UTC)


def read_stored_time(stored: Any) -> datetime:
    """Read a time of the database; what is none counts as long past."""
    with suppress(ValueError, TypeError):
        return from_database_time(stored)
    return _LONG_PAST


_ROW_READERS: Mapping[str, Callable[[Any], object]] = {  # of what is no text
    "status": RowStatus,
    **dict.fromkeys(("anyway", "at_once"), bool),
    **dict.fromkeys(("gap_s", "skip_s"), lambda stored: stored),
    **dict.fromkeys(
        (
            "scheduled_for",
            "sent_at",
            "until",
            "begun_at",
            "retry_at",
            "settled_at",
            "last_segment_at",
        ),
        lambda stored: read_stored_time(stored) if stored else None,
    ),
}
_READERS = [
    (place, _ROW_READERS[each.name])
    for place, each in enumerate(fields(StoredRow))
    if each.name in _ROW_READERS
]


def _to_row(record: Sequence[Any]) -> StoredRow:
    cells: list[Any] = ["" if each is None else each for each in record]  # in the fields' order
    for place, read in _READERS:
        cells[place] = read(record[place])
    return StoredRow(*cells)


def _to_bubble(record: Sequence[Any]) -> Bubble:
    bubble_id, row_id, number, phone_number, body, status, error, total = record
    status = BubbleStatus(status)
    return Bubble(bubble_id, row_id, number, phone_number, body, status, error, total)


class RowFilter(NamedTuple):
    """Which rows a command speaks of; None: any."""

    ids: tuple[int, ...] | None = None
    status: str | None = None
    campaign: str | None = None
    number: str | None = None
    held: bool = False
    find: str | None = None
    unconfirmed: bool = False
    free: bool = False  # scheduled, and nobody holds it back

    def where(self) -> tuple[str, list[object]]:
        """Return the SQL condition and its parameters."""
        terms: list[str] = ["1"]
        given: list[object] = []
        named = {"status": self.status, "campaign_name": self.campaign, "phone_number": self.number}
        for column, value in named.items():
            if value is not None:
                terms.append(f"s.{column} = ?")
                given.append(value)
        if self.ids is not None:
            terms.append(f"s.id IN ({', '.join('?' * len(self.ids))})")
            given += self.ids
        if self.held:
            terms.append(f"""s.status = 'scheduled'
                AND (s.held_because IS NOT NULL OR {_DOUBTFUL_AT} IS NOT NULL)""")
        if self.free:
            terms.append(_FREE)
        if self.find is not None:
            columns = "s.customer_name || ' ' || s.phone_number || ' ' || s.message_content"
            terms.append(f"instr(lower({columns}), lower(?)) > 0")
            given.append(self.find)
        if self.unconfirmed:
            terms.append("""EXISTS (SELECT 1 FROM messages
                WHERE scheduled_message_id = s.id AND status = 'unconfirmed')""")
        return " AND ".join(terms), given


# --- the connection


class Database:
    """A connection: opening, transactions, one place where SQLite's errors get words.

    What can be asked and changed stands in its parts, each named after what it is about.
    """

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._file = _identify(path)
        self._reserve = _reserve_of(path)
        self.path = path
        self.queue = Queue(self)
        self.sending = Sending(self)
        self.inbox = Inbox(self)
        self.opt_outs = OptOuts(self)
        self.state = State(self)
        self.reports = Reports(self)

    @classmethod
    def create_or_open(cls, path: str) -> Database:
        """Open for reading and writing; lay down or migrate the schema."""
        new = not Path(path).exists() or not Path(path).stat().st_size
        if new:
            create_shared(Path(path))
        database = cls.open_bare(path)
        try:
            if new:
                database.all("PRAGMA page_size = 1024")
                database.all("PRAGMA auto_vacuum = INCREMENTAL")
            database._check_version()
            database._choose_log()
            database._choose_safety()
            database._migrate()
            if new:
                sync(Path(path).absolute().parent)
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def open_bare(cls, path: str) -> Database:
        """Open a file for reading and writing as it is, whatever it holds."""
        return cls(_connect(f"{Path(path).absolute().as_uri()}?mode=rwc", path), path)

    @classmethod
    def open_to_read(cls, path: str, *, of_any_version: bool = False) -> Database:
        """Open without writing a byte; StoreError if there is no such file."""
        # Without its write-ahead log nobody has the file open: immutable keeps SQLite from
        # laying one down for the sake of reading; but not from seeing what is half-way done.
        is_busy = any(Path(path + suffix).exists() for suffix in ("-wal", "-journal"))
        mode = "mode=ro" if is_busy else "mode=ro&immutable=1"
        database = cls(_connect(f"{Path(path).absolute().as_uri()}?{mode}", path), path)
        try:
            database.all("PRAGMA mmap_size = 268435456")
            if 0 < database._check_version() < SCHEMA_VERSION and not of_any_version:
                raise StoreError(
                    f"{path} is still as an older smsbox left it: sudo systemctl restart smsbox"
                    " brings it up to date"
                )
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def open_anew(self) -> None:
        """Take another connection to the same file: after an error this one can't be trusted."""
        if not Path(self.path).exists():
            raise StoreError(f"{self.path}: {_GONE}")
        connection = _connect(f"{Path(self.path).absolute().as_uri()}?mode=rw", self.path)
        self._connection.close()
        self._connection, self._file = connection, _identify(self.path)
        self._choose_safety()
        self.verify()

    def verify(self) -> None:
        """Let SQLite look through the whole file; StoreError if it is damaged."""
        if self.value("PRAGMA quick_check(1)") != "ok":
            raise Damaged(f"{self.path}: {_DAMAGED}")

    def find_strangers(self) -> list[str]:
        """Return the triggers and views that somebody else has laid: they act in our statements."""
        ours = re.findall(r"CREATE TRIGGER (\w+)", _TRIGGERS)
        laid = "SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view') ORDER BY name"
        return [name for name in self.column(laid) if name not in ours]

    # --- the disk

    def check_disk(self) -> None:
        """StoreError if what is written now may not be kept, whatever SQLite says of it.

        A file system that was forced to be read-only answers fsync well and keeps nothing; so does
        a file that was removed.
        """
        try:
            found, file = os.statvfs(self.path), os.stat(self.path)
        except FileNotFoundError as error:
            raise StoreError(f"{self.path}: {_GONE}") from error
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        if found.f_flag & os.ST_RDONLY:
            raise StoreError(f"{self.path}: {_READ_ONLY}")
        if (file.st_dev, file.st_ino) != self._file:
            raise StoreError(f"{self.path}: {_GONE}")

    def find_shortage(self) -> str:
        """Keep the room for what stops, really allocated; return why there is none, "" if it is."""
        with suppress(OSError):
            if self._reserve.stat().st_size == _RESERVE:
                return ""
        try:
            found = os.statvfs(self._reserve.parent)
            if found.f_bavail * found.f_frsize < 2 * _RESERVE:
                return f"{self.path}: {_NO_ROOM}"
            descriptor = open_shared(self._reserve)
            try:
                os.posix_fallocate(descriptor, 0, _RESERVE)
            finally:
                os.close(descriptor)
        except OSError as error:
            return f"{self._reserve}: {error.strerror}"
        return ""

    def copy_into(self, other: Database, beat: Callable[[], object]) -> None:
        """Copy every page into another database, online; beat is called every few megabytes."""

        def go_on(status: int, *_: int) -> None:
            beat()
            if status in (_SQLITE_BUSY, _SQLITE_LOCKED):  # backup() would try again without end
                raise Busy(f"{self.path}: it is busy: try again in a moment")

        with _sqlite_words(self.path):
            self._connection.backup(other._connection, pages=4096, progress=go_on, sleep=0)

    def give_space_back(self) -> bool:
        """Make the file smaller by what little is worth a write; True if there is more."""
        if self.value("PRAGMA freelist_count") < _VACUUM_PAGES:
            return False
        self.all(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        return True

    def truncate_log(self) -> None:
        """Move all of the write-ahead log into the file; not while somebody reads from it."""
        self.all("PRAGMA busy_timeout = 0")  # a shell that stays open must not hold us up
        try:
            self.all("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self.all(f"PRAGMA busy_timeout = {_BUSY_S * 1000}")

    # --- statements: values by place or by name; times are written in the database's form

    def all(self, sql: str, *given: object, **named: object) -> list[Any]:
        """Run one statement and return all its rows."""
        with _sqlite_words(self.path):
            return self._connection.execute(sql, named or given).fetchall()

    def one(self, sql: str, *given: object, **named: object) -> Any:
        """Run one statement and return its first row, or None."""
        with _sqlite_words(self.path):
            return self._connection.execute(sql, named or given).fetchone()

    def column(self, sql: str, *given: object, **named: object) -> list[Any]:
        """Run one statement and return the first cell of each row."""
        return [record[0] for record in self.all(sql, *given, **named)]

    def value(self, sql: str, *given: object, **named: object) -> Any:
        """Run one statement and return the first cell of its first row; None if there is none."""
        found = self.one(sql, *given, **named)
        return None if found is None else found[0]

    def has(self, rows: str, *given: object, **named: object) -> bool:
        """True if there is such a row: a table, and what stands behind WHERE."""
        return bool(self.one(f"SELECT 1 FROM {rows} LIMIT 1", *given, **named))

    def count(self, rows: str, *given: object, **named: object) -> int:
        """Count such rows: a table, and what stands behind WHERE."""
        return int(self.value(f"SELECT count(*) FROM {rows}", *given, **named))

    def stream(self, sql: str, *given: object) -> Iterator[Any]:
        """Run one statement and yield its rows one by one: a million need no memory."""
        with _sqlite_words(self.path):
            yield from self._connection.execute(sql, given)

    def change(self, sql: str, *given: object, **named: object) -> int:
        """Run one statement and return the number of rows it changed."""
        with _sqlite_words(self.path):
            return self._connection.execute(sql, named or given).rowcount

    def change_many(self, sql: str, given: Iterable[Sequence[object]]) -> None:
        """Run one statement for each set of values."""
        with _sqlite_words(self.path):
            self._connection.executemany(sql, given)

    def change_rows(
        self, change: str, which: str, now: datetime, actor: str = "daemon", **named: object
    ) -> int:
        """Change rows that are still scheduled, signed for the audit; return how many.

        Another process may have been faster: the count decides whether it was done.
        """
        sql = f"""UPDATE scheduled_messages AS s SET {change}, updated_at = :now, actor = :actor
            WHERE {which} AND status = 'scheduled'"""
        return self.change(sql, now=now, actor=_sign(actor), **named)

    def change_mark(self) -> tuple[int, int]:
        """Return what is another after any change of the database, by whomever."""
        return self.value("PRAGMA data_version"), self._connection.total_changes

    def insert(self, sql: str, *given: object, **named: object) -> int:
        """Run one INSERT and return the new row's id."""
        with _sqlite_words(self.path):
            return self._connection.execute(sql, named or given).lastrowid or 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Take the write lock at once; commit at the end, roll back on any exception."""
        self.change("BEGIN IMMEDIATE")
        try:
            yield
            self.change("COMMIT")
        except BaseException:
            with suppress(StoreError):
                if self._connection.in_transaction:
                    self.change("ROLLBACK")
            raise

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """Hold all that is read meanwhile to one instant."""
        self.change("BEGIN")
        try:
            yield
        finally:
            with suppress(StoreError):
                self.change("ROLLBACK")

    # --- the schema

    def require_schema(self) -> None:
        """Refuse a file that holds nothing yet."""
        if self._check_version() == 0:
            raise NotADatabase(f"{self.path}: {_NOT_OURS}")

    def _check_version(self) -> int:
        version, is_filled = self.value("PRAGMA main.user_version"), self.has("sqlite_master")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} was written by a newer smsbox (schema {version}, this one knows"
                f" {SCHEMA_VERSION}): install that version again"
            )
        if version == 0 and is_filled:
            raise NotADatabase(f"{self.path}: {_NOT_OURS}")
        return int(version)

    def _choose_safety(self) -> None:
        self.all("PRAGMA synchronous = FULL")
        self.all("PRAGMA foreign_keys = ON")
        self.all("PRAGMA journal_size_limit = 1048576")

    def _choose_log(self) -> None:
        """Choose WAL. SQLite does not wait for another process here, so wait by a transaction."""
        for _ in range(10):
            with suppress(StoreError):
                self.all("PRAGMA journal_mode = WAL")
                return
            with self.transaction():
                pass
        self.all("PRAGMA journal_mode = WAL")

    def _migrate(self) -> None:
        """Bring the schema to today's version in one transaction, whatever it was."""
        if self._check_version() == SCHEMA_VERSION:
            return
        self.all("PRAGMA secure_delete = ON")  # what is taken out leaves no trace in the file
        with self.transaction():
            version = self._check_version()
            if version == SCHEMA_VERSION:  # another process was faster
                return
            for kind, name in self.all(
                "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'index')"
                " AND sql IS NOT NULL"
            ):
                self.change(f"DROP {kind} {name}")
            tables = [_MIGRATIONS[each] for each in range(version, SCHEMA_VERSION) if version]
            script = "".join(tables or [_TABLES]) + _INDEXES + _TRIGGERS
            for statement in _split_statements(script):
                self.change(statement)
            self.change(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _sign(actor: str) -> str:
    """Sign a statement of smsbox's own for the audit."""
    return f"{_SIGNED}{actor}"


def _connect(uri: str, path: str) -> sqlite3.Connection:
    import sqlite3

    for suffix in ("", "-wal", "-shm", "-journal"):  # a pipe would be waited for without end
        with suppress(OSError):
            if not stat.S_ISREG(os.stat(path + suffix).st_mode):
                raise StoreError(f"{path}{suffix} is no file: remove it")
    _refuse_foreign_journal(f"{path}-journal")
    with _sqlite_words(path):
        connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None)
    connection.set_progress_handler(lambda: None, 1_000_000)  # where Ctrl-C is heard
    sqlite3.register_adapter(datetime, to_database_time)
    connection.row_factory = sqlite3.Row
    connection.create_function("same_number", 2, is_same_number, deterministic=True)
    # By hand a text may hold octets that are no UTF-8: they must not keep other rows from us.
    connection.text_factory = lambda octets: str(octets, "utf-8", "replace")
    return connection


def _refuse_foreign_journal(path: str) -> None:
    """StoreError if it ends like that of several attached databases, of which smsbox has none:
    SQLite would delete the file that it names."""
    try:
        with open(path, "rb", opener=door) as journal:
            size = os.fstat(journal.fileno()).st_size
            journal.seek(max(0, size - len(_JOURNAL_MARK)))
            end = journal.read(len(_JOURNAL_MARK))
    except FileNotFoundError:
        return
    except OSError as error:
        if isinstance(error, PermissionError) and os.geteuid():  # SQLite gets no further
            return
        raise StoreError(f"{path} can't be read: {error.strerror}") from error
    if end == _JOURNAL_MARK:
        raise StoreError(f"{path} is none of smsbox's: remove it")


_JOURNAL_MARK = bytes.fromhex("d9d505f920a163d7")  # at the head, and behind a name


def _identify(path: str) -> tuple[int, int]:
    """Return what tells a file from any other of that name; (0, 0): there is none."""
    with suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return 0, 0


def _reserve_of(path: str) -> Path:
    return Path(f"{path}.reserve")


def use_reserve(path: str) -> bool:
    """Free the room that is kept for what stops; True if there was any.

    Nothing is sent until there is room for it again.
    """
    try:
        _reserve_of(path).unlink()
    except OSError:
        return False
    return True


def create_shared(path: Path) -> None:
    """Make a file that its group may write: SQLite itself never does."""
    try:
        os.close(open_shared(path))
    except OSError as error:
        remedy = "use sudo, or join the group smsbox"
        raise StoreError(f"{path}: it can't be opened ({error.strerror}): {remedy}") from error


def _split_statements(script: str) -> Iterator[str]:
    import sqlite3

    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def _sqlite_words(path: str) -> Iterator[None]:
    import sqlite3

    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.DataError) as error:
        raise RowRefused(f"the database refuses: {error}") from error
    except (sqlite3.InterfaceError, sqlite3.ProgrammingError, OverflowError) as error:
        raise RowRefused(f"the database can't hold it: {error}") from error
    except sqlite3.Error as error:
        told = str(error)
        kind, remedy = next(
            (known for word, known in _ERRORS.items() if word in told), (StoreError, told)
        )
        raise kind(f"{path}: {remedy}") from error


_READ_ONLY = "the file system is read-only: the card may be worn out, copy it and use a new one"
_GONE = "the file is gone, or another one: put it back, or see smsbox restore"
_SQLITE_BUSY, _SQLITE_LOCKED = 5, 6  # its result codes
_RESERVE = 2 * 2**20  # bytes beside the database, given up for what stops
_NO_ROOM = "the disk is full: make room, nothing is lost"
_ERRORS: Mapping[str, tuple[type[StoreError], str]] = {  # by SQLite's own words
    "locked": (Busy, "it is busy: try again in a moment"),
    "unable to open": (StoreError, "it can't be opened: use sudo, or join the group smsbox"),
    "readonly": (StoreError, "it can't be written: use sudo, or join the group smsbox"),
    "full": (DiskFull, _NO_ROOM),
    "malformed": (Damaged, _DAMAGED),
    "not a database": (NotADatabase, _NOT_OURS),
    "no such table": (NotADatabase, _NOT_OURS),
}

# --- the queue: rows and what the operator's word does to them


class Queue:
    """The rows of scheduled_messages: how they come, wait and are changed."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add_campaign(
        self,
        planned: Sequence[ScheduledMessage],
        seed: int,
        now: datetime,
        actor: str,
        until: datetime | None = None,
    ) -> None:
        """Store a plan's rows and their campaigns; inside the caller's transaction."""
        names = sorted({each.message.campaign_name for each in planned})
        sql = (
            "INSERT INTO campaigns (name, created_at, seed) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        )
        self._db.change_many(sql, [(name, now, seed) for name in names])
        columns = """phone_number customer_name message_content campaign_message_id campaign_name
            timezone consent_at consent_source""".split()
        read_message = attrgetter(*columns)
        sql = f"""INSERT INTO scheduled_messages ({", ".join(columns)}, scheduled_for, planned_for,
            gap_s, skip_s, until, created_at, updated_at, actor) VALUES (?{", ?" * 15})"""
        rows = (
            (
                *read_message(each.message),
                each.scheduled_for,
                each.scheduled_for,
                each.gap_s,
                each.skip_s,
            )
            for each in planned
        )
        self._db.change_many(sql, ((*row, until, now, now, _sign(actor)) for row in rows))

    def add_row(
        self, number: str, text: str, anyway: bool, now: datetime, actor: str, campaign: str = ""
    ) -> MessageId:
        """Store one message that is due now and waits for no pace."""
        sql = """INSERT INTO scheduled_messages (phone_number, message_content, scheduled_for,
                created_at, updated_at, anyway, campaign_name, actor, at_once)
            VALUES (:number, :text, :now, :now, :now, :anyway, :campaign, :actor, 1)"""
        named = {"number": number, "text": text, "anyway": anyway, "campaign": campaign}
        return MessageId(self._db.insert(sql, now=now, actor=_sign(actor), **named))

    # questions

    def next_row(self, after: datetime | None = None) -> StoredRow | None:
        """Return the free row that comes first, due or not, or the first one due after a time."""
        since: tuple[object, int] = (after, sys.maxsize) if after else ("", 0)
        record = self._db.one(_FIRST_ROWS, now="9999", at=since[0], id=since[1], most=1)
        return _to_row(record) if record else None

    def row(self, row_id: MessageId) -> StoredRow | None:
        """Return one row."""
        sql = f"SELECT {_ROW_COLUMNS} FROM scheduled_messages s WHERE id = ?"
        record = self._db.one(sql, row_id)
        return _to_row(record) if record else None

    def rows(self, wanted: RowFilter, limit: int = -1, by_time: bool = False) -> list[StoredRow]:
        """Return the rows that a filter admits."""
        where, given = wanted.where()
        order = "s.scheduled_for, s.id" if by_time else "s.id"
        sql = f"""SELECT {_ROW_COLUMNS} FROM scheduled_messages s WHERE {where}
            ORDER BY {order} LIMIT {limit}"""
        return [_to_row(record) for record in self._db.all(sql, *given)]

    def waiting(self, most: int = -1) -> list[StoredRow]:
        """Return in their order the rows that go without a person, were they of a campaign that is
        paused for a time; only the first ones where there are more than `most`."""
        sql = f"""SELECT {_ROW_COLUMNS} FROM scheduled_messages s INDEXED BY rows_due
            WHERE s.status = 'scheduled' AND s.held_because IS NULL
                AND s.campaign_name NOT IN {_PAUSED_FOR_GOOD}
            ORDER BY s.scheduled_for, s.id LIMIT ?"""
        return [_to_row(record) for record in self._db.all(sql, most)]

    def due(self, now: datetime, after: StoredRow | None = None) -> list[StoredRow]:
        """Return the first free rows that are due, in their order, or those behind one of them."""
        at, row_id = (after.scheduled_for, after.id) if after else ("", 0)
        most = 500 if after else 10  # the first goes, as a rule
        found = self._db.all(_FIRST_ROWS, now=now, at=at, id=row_id, most=most)
        return [_to_row(record) for record in found]

    def due_at_once(self, now: datetime) -> list[StoredRow]:
        """Return the free rows that wait for no pace."""
        sql = f"""SELECT {_ROW_COLUMNS} FROM scheduled_messages s INDEXED BY rows_at_once
            WHERE {_FREE} AND s.at_once = 1 AND s.scheduled_for <= ?
            ORDER BY s.scheduled_for, s.id"""
        return [_to_row(record) for record in self._db.all(sql, now)]

    def cut_off(self) -> list[StoredRow]:
        """Return the free rows of which a part is out, the rest not."""
        sql = f"""SELECT {_ROW_COLUMNS} FROM scheduled_messages s WHERE {_FREE} AND s.id IN
                (SELECT scheduled_message_id FROM messages WHERE status IN ('queued', 'sending'))
            AND {_BEGUN} ORDER BY s.scheduled_for, s.id"""
        return [_to_row(record) for record in self._db.all(sql)]

    def last_begun(self) -> tuple[MessageId, datetime] | None:
        """Return which campaign message was begun last, and when."""
        sql = """SELECT id, begun_at FROM scheduled_messages INDEXED BY rows_begun
            WHERE begun_at IS NOT NULL AND at_once = 0 ORDER BY begun_at DESC LIMIT 1"""
        found = self._db.one(sql)
        return (MessageId(found[0]), read_stored_time(found[1])) if found else None

    def count_at_once(self, since: datetime) -> int:
        """Count the rows that waited for no pace and were begun since a time."""
        rows = "scheduled_messages INDEXED BY rows_begun WHERE begun_at > ? AND at_once = 1"
        return self._db.count(rows, since)

    def is_drained(self) -> bool:
        """True if no row can go without a person: what is left is held, its campaign paused, or a
        reply waits to be looked at."""
        sql = f"""{_LIVE_CAMPAIGNS} SELECT count(*) FROM live
            WHERE name IS NOT NULL AND name NOT IN {_PAUSED_FOR_GOOD}"""
        if not self._db.value(sql) or not self._db.has(f"inbound WHERE {_DOUBTFUL}"):
            return not self._db.value(sql)
        rows = f"""scheduled_messages s WHERE s.status = 'scheduled' AND s.held_because IS NULL
            AND s.campaign_name NOT IN {_PAUSED_FOR_GOOD} AND {_DOUBTFUL_AT} IS NULL"""
        return not self._db.has(rows)

    def last_scheduled(self) -> datetime | None:
        """Return the time of the last message in the queue, paused campaigns included."""
        sql = """SELECT max(scheduled_for) FROM scheduled_messages INDEXED BY rows_due
            WHERE status = 'scheduled' AND held_because IS NULL"""
        found = self._db.value(sql)
        return read_stored_time(found) if found else None

    def last_sent_at(self) -> datetime | None:
        """Return the time of the last message sent."""
        sql = """SELECT max(sent_at) FROM scheduled_messages INDEXED BY rows_sent
            WHERE status = 'sent'"""
        found = self._db.value(sql)
        return read_stored_time(found) if found else None

    def known_texts(
        self, campaigns: Iterable[str], since: datetime
    ) -> frozenset[tuple[str, str, str]]:
        """Return (campaign, number, text) of what is live, was sent or may have been sent.

        Of other campaigns than the named ones, since a time. What goes at once is no campaign's.
        """
        select = "SELECT campaign_name, phone_number, message_content FROM scheduled_messages s"
        sql = f"""{select} WHERE at_once = 0 AND (status = 'scheduled'
                OR status = 'sent' AND sent_at >= :since
                OR status = 'failed' AND updated_at >= :since AND {_BEGUN})"""
        known = self._db.all(sql, since=since)
        sql = f"""{select} WHERE campaign_name = ? AND at_once = 0
            AND (status IN ('scheduled', 'sent') OR {_BEGUN})"""
        known += [each for name in campaigns for each in self._db.all(sql, name)]
        return frozenset((name, number, text) for name, number, text in known)

    def running(self) -> frozenset[str]:
        """Return the names of the campaigns that have rows still scheduled."""
        sql = """SELECT DISTINCT campaign_name FROM scheduled_messages
            WHERE status = 'scheduled' AND campaign_name NOT IN ('', ?)"""
        return frozenset(self._db.column(sql, TEST_CAMPAIGN))

    def recent(self, since: datetime) -> frozenset[str]:
        """Return the names of the campaigns that sent something since a time."""
        sql = """SELECT DISTINCT campaign_name FROM scheduled_messages INDEXED BY rows_sent
            WHERE status = 'sent' AND sent_at >= ? AND campaign_name NOT IN ('', ?)"""
        return frozenset(self._db.column(sql, since, TEST_CAMPAIGN))

    def written_to(self) -> frozenset[str]:
        """Return the numbers to which a message was sent."""
        sql = "SELECT DISTINCT phone_number FROM scheduled_messages WHERE status = 'sent'"
        return frozenset(self._db.column(sql))

    def last_message_to(self, number: str) -> tuple[int | None, str, str]:
        """Return the row, its campaign and its text, of which a number got something last."""
        sql = f"""SELECT id, campaign_name, message_content FROM scheduled_messages s
            WHERE phone_number = ? AND (status = 'sent' OR {_BEGUN})
            ORDER BY coalesce(sent_at, updated_at) DESC, id DESC LIMIT 1"""
        row_id, campaign, text = self._db.one(sql, number) or (None, "", "")
        return row_id, campaign, text

    def consent(self, row_id: MessageId) -> tuple[str, str]:
        """Return when and how the recipient of a row asked to be written to, as the CSV says."""
        sql = "SELECT consent_at, consent_source FROM scheduled_messages WHERE id = ?"
        at, source = self._db.one(sql, row_id) or ("", "")
        return at, source

    # changes

    def has_other(self, row: StoredRow) -> bool:
        """True if its number has another row in its campaign that goes, went or may have gone."""
        rows = f"""scheduled_messages s WHERE phone_number = ? AND campaign_name = ? AND id <> ?
            AND (status IN ('scheduled', 'sent') OR {_BEGUN})"""
        return self._db.has(rows, row.phone_number, row.campaign_name, row.id)

    def reschedule_many(
        self, moves: Sequence[tuple[MessageId, datetime]], now: datetime, actor: str
    ) -> list[MessageId]:
        """Move rows that are still scheduled, return those; inside the caller's transaction."""

        def move(row_id: MessageId, to: datetime) -> int:
            return self._db.change_rows(
                "scheduled_for = :to", "id = :id", now, actor, id=row_id, to=to
            )

        return [row_id for row_id, to in moves if move(row_id, to)]

    def postpone(self, row: StoredRow, until: datetime, words: str, now: datetime) -> None:
        """Count a passing refusal and try the row again later; its place in the plan stays."""
        change = "retry_at = :until, attempts = attempts + 1, error_message = :words"
        self._db.change_rows(change, "id = :id", now, id=row.id, until=until, words=words)

    def hold(self, row_id: MessageId, code: HeldCode, because: str, now: datetime) -> None:
        """Keep a row back until a person releases or cancels it."""
        change = "held_because = :because, held_code = :code"
        self._db.change_rows(change, "id = :id", now, id=row_id, because=because, code=code.value)

    def release(self, ids: Sequence[MessageId], now: datetime, actor: str) -> int:
        """Let held rows go, now where their time has passed; inside the caller's transaction."""
        change = "held_because = NULL, scheduled_for = max(scheduled_for, :now)"
        which = "id = :id AND held_because IS NOT NULL"
        changed = (self._db.change_rows(change, which, now, actor, id=row_id) for row_id in ids)
        return sum(changed)

    def cancel(self, ids: Sequence[MessageId], now: datetime, actor: str) -> list[MessageId]:
        """Cancel rows that are scheduled and not with the modem now; return those cancelled.

        Inside the caller's transaction.
        """
        which = """id = :id AND NOT EXISTS (SELECT 1 FROM messages m JOIN segments g
            ON g.message_id = m.id WHERE m.scheduled_message_id = s.id AND g.status = 'sending')"""

        def cancelled(row_id: MessageId) -> int:
            return self._db.change_rows("status = 'cancelled'", which, now, actor, id=row_id)

        return [row_id for row_id in ids if cancelled(row_id)]

    def settle(self, ids: Sequence[MessageId], now: datetime, actor: str) -> int:
        """Be done with failed rows; their status and reason stay. Return how many were not yet.

        Inside the caller's transaction.
        """
        sql = """UPDATE scheduled_messages SET settled_at = ?
            WHERE id = ? AND status = 'failed' AND settled_at IS NULL"""
        done = [row_id for row_id in ids if self._db.change(sql, now, row_id)]
        sql = """INSERT INTO events (signed, at, actor, scheduled_message_id, event)
            VALUES (1, ?, ?, ?, 'settled')"""
        self._db.change_many(sql, [(now, actor, row_id) for row_id in done])
        return len(done)

    def cancel_number(self, number: str, because: str, now: datetime, actor: str) -> int:
        """Cancel all scheduled rows of a number; return how many."""
        change = "status = 'cancelled', error_message = :because"
        which = "phone_number = :number"
        return self._db.change_rows(change, which, now, actor, number=number, because=because)

    def retry(
        self, ids: Sequence[MessageId], even_if_it_may_repeat: bool, now: datetime, actor: str
    ) -> list[MessageId]:
        """Set failed or cancelled rows to scheduled, now where their time has passed; those that
        may have been sent only on the operator's word. Return which were set."""
        sql = """UPDATE scheduled_messages AS s SET status = 'scheduled',
                scheduled_for = max(scheduled_for, :now),
                error_message = NULL, held_because = NULL, updated_at = :now, actor = :actor
            WHERE id = :id AND status IN ('failed', 'cancelled')
                AND message_content <> '' -- blanked
                AND NOT EXISTS (SELECT 1 FROM messages
                WHERE scheduled_message_id = s.id AND status = 'unconfirmed')"""
        done = []
        with self._db.transaction():
            for row_id in ids:
                if even_if_it_may_repeat:
                    self._db.sending.withdraw_unconfirmed(row_id)
                if self._db.change(sql, now=now, actor=_sign(actor), id=row_id):
                    done.append(row_id)
        return done

    def set_texts(
        self, texts: Iterable[tuple[MessageId, str]], now: datetime, actor: str
    ) -> list[MessageId]:
        """Put another text into rows that are not begun, and return those that got it.

        Inside the caller's transaction. What they were split into goes: the claim splits them anew.
        """
        done = []
        which = f"id = :id AND NOT {_BEGUN}"
        for row_id, text in texts:
            named = {"id": row_id, "text": text}
            if self._db.change_rows("message_content = :text", which, now, actor, **named):
                self._db.sending.drop_bubbles(row_id)
                done.append(row_id)
        return done

    def end(self, row_id: MessageId, status: RowStatus, words: str, now: datetime) -> None:
        """End a row, with the reason; its remaining bubbles are cancelled. In a transaction."""
        sql = """UPDATE messages SET status = 'cancelled'
            WHERE scheduled_message_id = ? AND status = 'queued'"""
        self._db.change(sql, row_id)
        change = "status = :status, error_message = nullif(:words, '')"
        self._db.change_rows(change, "id = :id", now, id=row_id, status=status.value, words=words)


# --- on the way out: bubbles and segments, and the texts of the box itself


class Sending:
    """The tables messages and segments: each step of a hand-over is durable before the next."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def claim(
        self, row: StoredRow, number: PhoneNumber, bubbles: Sequence[str], now: datetime
    ) -> bool:
        """Split a due row into queued bubbles, if it is still what was read. In a transaction.

        A row that goes on after a crash or a retry keeps its bubbles. False: it changed meanwhile,
        by its recipient's stop perhaps, or a segment of it may have been sent already.
        """
        end = self._db.queue.end
        if self._db.queue.row(row.id) != row or row.said_stop_at:
            return False
        sql = "SELECT status FROM messages WHERE scheduled_message_id = ?"
        states = self._db.column(sql, row.id)
        if BubbleStatus.UNCONFIRMED.value in states:
            words = f"{self._unconfirmed_words(row.id)}; only retry {RETRY_ANYWAY} repeats it"
            end(row.id, RowStatus.FAILED, words, now)
            return False
        begun = bool(states) and row.is_begun
        if begun and self.next_bubble(row.id) is None:  # somebody reset a row that was sent
            end(row.id, RowStatus.SENT, row.error_message, now)
            return False
        if states and not begun:
            self.drop_bubbles(row.id)  # the text may have been corrected since
        if not begun:
            sql = """INSERT INTO messages (scheduled_message_id, phone_number, bubble, body,
                created_at) VALUES (?, ?, ?, ?, ?)"""
            placed = enumerate(bubbles, 1)
            cells = [(row.id, number, place, body, now) for place, body in placed]
            self._db.change_many(sql, cells)
        return True

    def next_bubble(self, row_id: MessageId) -> Bubble | None:
        """Return the first bubble of a row that is still to be sent."""
        sql = f"""SELECT {_BUBBLE_COLUMNS} FROM messages WHERE scheduled_message_id = ?
            AND status IN ('queued', 'sending') ORDER BY bubble LIMIT 1"""
        record = self._db.one(sql, row_id)
        return _to_bubble(record) if record else None

    def sent_sequences(self, bubble: BubbleId) -> frozenset[int]:
        """Return the segments of a bubble that the network has; of one it may not have told us."""
        sql = """SELECT sequence FROM segments WHERE message_id = ?
            AND status IN ('sent', 'unconfirmed')"""
        return frozenset(self._db.column(sql, bubble))

    def begin_segment(
        self, segment: Segment, now: datetime, begins: bool = False, at_once: bool = False
    ) -> bool:
        """Write down, before the modem acts, that a segment is about to be handed over.

        begins: its message begins with it, or goes on; at_once: with no regard to the pace, else it
        counts for the pace from now on. False: the bubble was cancelled meanwhile.
        """
        bubble, sequence, total = segment
        with self._db.transaction():
            sql = """UPDATE messages SET status = 'sending'
                WHERE id = ? AND status IN ('queued', 'sending')"""
            if not self._db.change(sql, bubble.id):
                return False
            sql = """INSERT INTO segments (message_id, sequence, total, status, submitted_at)
                VALUES (?, ?, ?, 'sending', ?) ON CONFLICT (message_id, sequence) DO UPDATE SET
                status = 'sending', submitted_at = excluded.submitted_at, error_message = NULL"""
            self._db.change(sql, bubble.id, sequence, total, now)
            if begins:
                sql = "UPDATE scheduled_messages SET begun_at = ?, at_once = ? WHERE id = ?"
                self._db.change(sql, now, at_once, bubble.row_id)
        return True

    def end_segment(
        self,
        segment: Segment,
        status: BubbleStatus,
        now: datetime,
        *,
        reference: int | None = None,
        words: str = "",
    ) -> None:
        """Write down what came of a segment: SENT, FAILED or UNCONFIRMED.

        SENT: with the last segment of the last bubble the row is sent too. Otherwise its bubble and
        its row end with the words.
        """
        bubble, sequence, total = segment
        sql = """UPDATE segments SET status = :status, message_reference = :reference,
                answered_at = iif(:status = 'sent', :now, NULL), error_message = nullif(:words, '')
            WHERE message_id = :bubble AND sequence = :sequence AND status = 'sending'"""
        named = {"bubble": bubble.id, "sequence": sequence, "status": status.value}
        with self._db.transaction():
            self._db.change(sql, now=now, words=words, reference=reference, **named)
            if status is not BubbleStatus.SENT:
                sql = "UPDATE messages SET status = ?, error_message = ? WHERE id = ?"
                self._db.change(sql, status.value, words, bubble.id)
                if bubble.row_id is not None:
                    if status is BubbleStatus.UNCONFIRMED:
                        place = f"bubble {bubble.number} of {bubble.total}"
                        words = f"may have been sent: {place}, {words}"
                    self._db.queue.end(bubble.row_id, RowStatus.FAILED, words, now)
            elif sequence == total:
                self._end_as_sent(bubble, now)

    def _end_as_sent(self, bubble: Bubble, now: datetime) -> None:
        sql = "UPDATE messages SET status = 'sent', sent_at = ? WHERE id = ?"
        self._db.change(sql, now, bubble.id)
        if bubble.row_id is not None and self.next_bubble(bubble.row_id) is None:
            change = "status = 'sent', sent_at = :now, error_message = NULL"
            self._db.change_rows(change, "id = :id", now, id=bubble.row_id)
            self._db.change(_TELL_DELIVERY, now=now, id=bubble.row_id)

    def withdraw_segment(self, segment: Segment) -> None:
        """Take back a segment that surely was not handed over."""
        with self._db.transaction():
            sql = """DELETE FROM segments
                WHERE message_id = ? AND sequence = ? AND status = 'sending'"""
            self._db.change(sql, segment.bubble.id, segment.sequence)
            sql = """UPDATE messages SET status = CASE WHEN kind IS NOT NULL OR (SELECT status FROM
                    scheduled_messages s WHERE s.id = scheduled_message_id) = 'scheduled'
                    THEN 'queued' ELSE 'cancelled' END WHERE id = ? AND status = 'sending'"""
            self._db.change(sql, segment.bubble.id)

    def recover(self) -> list[Segment]:
        """Return, after a start, the segments that were with the modem when smsbox stopped."""
        sql = """UPDATE messages SET status = 'queued'
            WHERE status IN ('queued', 'sending') AND status = 'sending' AND NOT EXISTS
                (SELECT 1 FROM segments WHERE message_id = messages.id AND status = 'sending')"""
        self._db.change(sql)
        sql = "SELECT message_id, sequence, total FROM segments WHERE status = 'sending'"
        return [Segment(self.bubble(each), *place) for each, *place in self._db.all(sql)]

    def bubble(self, bubble: BubbleId) -> Bubble:
        """Return one bubble."""
        sql = f"SELECT {_BUBBLE_COLUMNS} FROM messages WHERE id = ?"
        return _to_bubble(self._db.one(sql, bubble))

    def settle_late(self, segment: Segment, reference: int, now: datetime) -> None:
        """The answer to an unconfirmed segment came after all: it was sent."""
        sql = """UPDATE segments SET status = 'sent', message_reference = :reference,
                answered_at = :now, error_message = NULL
            WHERE message_id = :bubble AND sequence = :sequence AND status = 'unconfirmed'"""
        named = {"bubble": segment.bubble.id, "sequence": segment.sequence}
        with self._db.transaction():
            if self._db.change(sql, reference=reference, now=now, **named):
                self.settle(segment.bubble.id, now)
                self._db.change(_TELL_DELIVERY, now=now, id=segment.bubble.row_id)

    def settle(self, bubble: BubbleId, at: datetime | str) -> None:
        """An unconfirmed segment of a bubble was sent: so is its bubble, and its row, if nothing is
        missing; else the row stays failed, and retry goes on behind it. In a transaction."""
        sql = """UPDATE messages SET sent_at = ?, error_message = NULL, status = CASE WHEN
                (SELECT count(*) FROM segments WHERE message_id = messages.id AND status = 'sent')
                = (SELECT max(total) FROM segments WHERE message_id = messages.id)
                THEN 'sent' ELSE 'failed' END
            WHERE id = ? AND status = 'unconfirmed'"""
        if not self._db.change(sql, at, bubble):
            return
        sql = f"""UPDATE scheduled_messages AS s SET updated_at = :at, actor = '{_SIGNED}daemon',
                (status, sent_at, error_message) = (SELECT
                    iif(sum(status = 'sent') = count(*), 'sent', s.status),
                    iif(sum(status = 'sent') = count(*), :at, s.sent_at),
                    iif(sum(status = 'sent') = count(*), NULL, sum(status = 'sent') || ' of '
                        || count(*) || ' bubbles were sent: retry goes on behind them')
                FROM messages WHERE scheduled_message_id = s.id)
            WHERE status = 'failed' AND id = (SELECT scheduled_message_id FROM messages
                WHERE id = :bubble)"""
        self._db.change(sql, at=at, bubble=bubble)

    def withdraw_unconfirmed(self, row_id: MessageId) -> None:
        """Let what may have been sent be sent again: the operator said so. In a transaction."""
        sql = """UPDATE segments SET status = 'failed',
                error_message = 'may have been sent; sent again on the operator''s word'
            WHERE status = 'unconfirmed' AND message_id IN
                (SELECT id FROM messages WHERE scheduled_message_id = ?)"""
        self._db.change(sql, row_id)
        sql = """UPDATE messages SET status = 'failed'
            WHERE scheduled_message_id = ? AND status = 'unconfirmed'"""
        self._db.change(sql, row_id)

    def drop_bubbles(self, row_id: MessageId) -> None:
        """Forget what a row that is not begun was split into."""
        sql = """DELETE FROM segments WHERE message_id IN
            (SELECT id FROM messages WHERE scheduled_message_id = ?)"""
        self._db.change(sql, row_id)
        self._db.change("DELETE FROM messages WHERE scheduled_message_id = ?", row_id)

    def _unconfirmed_words(self, row_id: MessageId) -> str:
        sql = """SELECT 'may have been sent: bubble ' || bubble || ', '
                || coalesce(error_message, '') FROM messages
            WHERE scheduled_message_id = ? AND status = 'unconfirmed' ORDER BY bubble LIMIT 1"""
        return str(self._db.value(sql, row_id))

    # questions

    def bubbles(self, row_id: MessageId) -> list[Bubble]:
        """Return a row's bubbles."""
        sql = f"""SELECT {_BUBBLE_COLUMNS} FROM messages WHERE scheduled_message_id = ?
            ORDER BY bubble"""
        return [_to_bubble(record) for record in self._db.all(sql, row_id)]

    def segments(self, bubble: BubbleId) -> list[Any]:
        """Return a bubble's segments: sequence, total, status, message_reference, the times
        submitted_at, answered_at and delivered_at, delivery, error_message."""
        sql = """SELECT sequence, total, status, message_reference, submitted_at, answered_at,
                delivered_at, delivery, coalesce(error_message, '') AS error_message
            FROM segments WHERE message_id = ? ORDER BY sequence"""
        return self._db.all(sql, bubble)

    def is_under_way(self, number: str) -> bool:
        """True if a message to a number is begun and not done."""
        rows = f"""messages b WHERE phone_number = ? AND status IN ('queued', 'sending')
            AND (status = 'sending' OR EXISTS (SELECT 1 FROM scheduled_messages s
                WHERE s.id = b.scheduled_message_id AND {_BEGUN}))"""
        return self._db.has(rows, number)

    def spent(self, since: datetime) -> list[tuple[MessageId | None, datetime, str, int]]:
        """Return (row, time, number, segments) of what may have been sent since a time, by the
        hour; what the box itself wrote has no row."""
        sql = """SELECT m.scheduled_message_id, min(g.submitted_at), m.phone_number, count(*)
            FROM segments g JOIN messages m ON m.id = g.message_id
            WHERE g.status <> 'failed' AND g.submitted_at >= ?
            GROUP BY m.scheduled_message_id, m.phone_number, substr(g.submitted_at, 1, 13)
            ORDER BY 2"""
        found = self._db.all(sql, since)
        return [
            (row_id, read_stored_time(at), str(number), count)
            for row_id, at, number, count in found
        ]

    # the texts of the box itself

    def add_answer(self, kind: str, number: str, text: str, now: datetime) -> None:
        """Queue a text of the box itself; inside the caller's transaction."""
        sql = "INSERT INTO messages (kind, phone_number, body, created_at) VALUES (?, ?, ?, ?)"
        self._db.change(sql, kind, number, text, now)

    def next_answer(
        self, now: datetime, within: timedelta, only_alerts: bool = False
    ) -> Bubble | None:
        """Return the box's own text that is to be sent; what is no longer new is cancelled."""
        sql = f"""SELECT {_BUBBLE_COLUMNS}, {_IS_NEW} FROM {_ANSWERS}
            AND (kind = 'alert' OR NOT :only_alerts) ORDER BY id LIMIT 1"""
        span = {"oldest": now - within, "newest": now + within}
        record = self._db.one(sql, only_alerts=only_alerts, **span)
        if record is None:
            return None
        *bubble, is_new = record
        if is_new:
            return _to_bubble(bubble)
        sql = f"""UPDATE messages SET status = 'cancelled', error_message = 'too late'
            WHERE id IN (SELECT id FROM {_ANSWERS} AND NOT {_IS_NEW})"""
        self._db.change(sql, **span)
        return self.next_answer(now, within, only_alerts)

    def has_answer(self) -> bool:
        """True if a text of the box itself is queued."""
        return self._db.has(_ANSWERS)

    def count_answers(self, kind: str, since: datetime, number: str | None = None) -> int:
        """Count the texts of the box itself of a kind since a time, to one number or to all."""
        rows = """messages WHERE kind IS NOT NULL AND kind = ? AND status <> 'cancelled'
            AND created_at > ? AND phone_number = coalesce(?, phone_number)"""
        return self._db.count(rows, kind, since, number)

    def cancel_answers(self, number: str, kind: str | None = None) -> None:
        """Cancel what the box itself was about to write to a number."""
        sql = """UPDATE messages SET status = 'cancelled' WHERE phone_number = ?
            AND kind IS NOT NULL AND kind = coalesce(?, kind) AND status = 'queued'"""
        self._db.change(sql, number, kind)

    def own_bubbles(self, number: str) -> list[tuple[str, str, Bubble]]:
        """Return (kind, created_at, bubble) of what the box itself wrote to a number."""
        sql = f"""SELECT coalesce(kind, ''), created_at, {_BUBBLE_COLUMNS} FROM messages
            WHERE phone_number = ? AND scheduled_message_id IS NULL ORDER BY id"""
        found = self._db.all(sql, number)
        return [(kind, created_at, _to_bubble(cells)) for kind, created_at, *cells in found]


# --- what comes in: texts, parts of long ones, delivery reports, opt-outs

_NO_COMMAND = (Request.NOTHING, Request.PERHAPS_STOP)
_PARTS_WAITING = 300  # a text has 255 at most; of more the oldest are read as far as they came
_OLD_ONES_KEPT = 5000  # some megabytes
# Who neither got nor is to get anything; a number like one of theirs counts as known.
_OF_STRANGER = """NOT EXISTS (SELECT 1 FROM scheduled_messages INDEXED BY rows_by_tail
        WHERE substr(phone_number, -8) = substr(sender, -8))
    AND NOT EXISTS (SELECT 1 FROM messages INDEXED BY answers_by_number
        WHERE kind IS NOT NULL AND phone_number = sender)"""


class Inbox:
    """The tables inbound, inbound_parts and reports."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(
        self,
        tpdu: str,
        sender: str,
        body: str | None,
        sent_at: datetime | None,
        request: Request,
        now: datetime,
    ) -> bool:
        """Store an incoming text; False if it is here already. Inside a transaction."""
        answers = self._db.queue.last_message_to(sender)[0] if request in _NO_COMMAND else None
        sql = """INSERT INTO inbound (received_at, sent_at, sender, body, tpdu, request, answers)
            VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""
        cells = (now, sent_at or "", sender, body, tpdu, request.value, answers)
        return bool(self._db.change(sql, *cells))

    def texts(self, unread: bool, sender: str = "") -> list[Any]:
        """Return (id, received_at, sender, settled_at, their customer_name, body, request, read_at,
        answers, TPDU of what is not readable) of all or of one sender, oldest first."""
        sql = f"""SELECT id, received_at, sender, settled_at, {_NAME_OF_SENDER}, body, request,
                read_at, answers, CASE WHEN body IS NULL THEN tpdu END AS tpdu FROM inbound
            WHERE {_FROM_SENDER} AND (read_at IS NULL OR NOT :unread) ORDER BY id"""
        return self._db.all(sql, sender=sender, unread=unread)

    def waiting_parts(self, sender: str = "") -> list[Any]:
        """Return (sender, their customer_name, reference, total, sequence, id, received_at, tpdu)
        of the parts whose rest is waited for, one long text after the other."""
        return self._db.all(f"""SELECT sender, {_NAME_OF_SENDER}, reference, total, sequence, id,
                received_at, tpdu FROM inbound_parts INDEXED BY parts_waiting
            WHERE joined = 0 AND {_FROM_SENDER} ORDER BY sender, reference, total, sequence, id""",
                            sender=sender)  # fmt: skip

    def stored(self) -> list[Any]:
        """Return (id, received_at, sender, body, TPDU, read_at) of all that came in."""
        sql = "SELECT id, received_at, sender, body, tpdu, read_at FROM inbound ORDER BY id"
        return self._db.all(sql)

    def read_again(self, id_: int, sender: str, body: str | None, request: Request | None) -> None:
        """Write whose a text is, what it says, and what it asks for; None: as before."""
        sql = """UPDATE OR IGNORE inbound SET sender = ?, body = ?, request = coalesce(?, request)
            WHERE id = ?"""
        self._db.change(sql, sender, body, request.value if request else None, id_)

    def find_people(self, sender: str) -> list[str]:
        """Return the numbers that a sender may be, of those that got or are to get something."""
        if len(sender) < 8:
            return []
        rows = """SELECT DISTINCT phone_number FROM scheduled_messages
            INDEXED BY rows_by_tail WHERE substr(phone_number, -8) = substr(?, -8)
            AND (status <> 'cancelled' OR begun_at IS NOT NULL)"""
        found: list[str] = self._db.column(rows, sender)
        own = """SELECT DISTINCT phone_number FROM messages INDEXED BY answers_by_number
            WHERE kind IS NOT NULL AND substr(phone_number, -8) = substr(?, -8)"""
        found += [each for each in self._db.column(own, sender) if each not in found]
        exact = [each for each in found if each == sender]
        return exact or [each for each in found if is_same_number(sender, each)]

    def doubtful_senders(self) -> list[str]:
        """Return whose replies wait for a person, as they came where nobody is known by them."""
        sql = f"SELECT DISTINCT sender FROM inbound INDEXED BY inbound_doubtful WHERE {_DOUBTFUL}"
        return self._db.column(sql)

    def settle(self, number: str, now: datetime, by: str, is_theirs: bool = False) -> int:
        """Be done with a number's doubtful replies and let its rows go, at once where their time
        has passed; return how many replies. Inside the caller's transaction.

        A reply that may be of several people is settled by who is known to have written it
        (is_theirs); a word about another one leaves it to those that are left.
        """
        sql = f"""SELECT DISTINCT sender FROM inbound INDEXED BY inbound_doubtful_tail
            WHERE {_DOUBTFUL} AND substr(sender, -8) = substr(:number, -8)
                AND same_number(sender, :number)"""
        texts, settled = f"sender = :sender AND {_DOUBTFUL}", 0
        for sender in self._db.column(sql, number=number):
            people = self.find_people(sender)
            others = [each for each in people if each != number]
            is_alone = number in people or _complete_number(sender) == _complete_number(number)
            is_moved = not is_theirs and len(others) == 1
            if is_moved:
                change = f"""UPDATE OR IGNORE inbound SET sender = :other, sent_at = received_at
                    WHERE {texts}"""
                settled += self._db.change(change, sender=sender, other=others[0])
            if is_theirs or is_moved or (is_alone and not others):
                # What has not moved the other has said as well.
                change = f"UPDATE inbound SET settled_at = :now, settled_by = :by WHERE {texts}"
                settled += self._db.change(change, sender=sender, now=now, by=by)
        if settled:
            change = "scheduled_for = max(scheduled_for, :now)"
            which = "phone_number = :number AND held_because IS NULL"
            self._db.change_rows(change, which, now, by, number=number)
        return settled

    def mark_read(self, ids: Iterable[int], now: datetime) -> None:
        """Mark texts as read."""
        sql = "UPDATE inbound SET read_at = ? WHERE id = ? AND read_at IS NULL"
        self._db.change_many(sql, [(now, each) for each in ids])

    def find_last_time(self, sender: str, tpdu: str) -> datetime | None:
        """Return the time that a TPDU was given, if it came from its sender since the last START,
        and not long ago."""
        sql = """WITH theirs AS (SELECT id, sent_at, tpdu, request FROM inbound
                WHERE id > (SELECT max(id) FROM inbound) - 100 AND +sender = ?)
            SELECT sent_at FROM theirs WHERE tpdu = ?
                AND id >= (SELECT coalesce(max(id), 0) FROM theirs WHERE request = 'start')
            ORDER BY id DESC LIMIT 1"""
        found = self._db.value(sql, sender, tpdu)
        return read_stored_time(found) if found else None

    def has_start(self, sender: str, sent_at: datetime) -> bool:
        """True if a number said START at that time."""
        rows = f"""inbound WHERE tpdu <> '' AND sender = ? AND sent_at = ?
            AND request = '{Request.START.value}'"""
        return self._db.has(rows, sender, sent_at)

    def doubt_again(self, sender: str, sent_at: datetime, body: str | None) -> None:
        """Let a stop that came once more wait for a person, once; not one of before a START."""
        sql = f"""UPDATE inbound AS i SET request = '{Request.PERHAPS_STOP.value}'
            WHERE sender = ? AND sent_at = ? AND body IS ? AND request = '{Request.STOP.value}'
            AND settled_at IS NULL AND NOT EXISTS (SELECT 1 FROM inbound WHERE tpdu <> ''
                AND sender = i.sender AND sent_at > i.sent_at
                AND request = '{Request.START.value}')"""
        self._db.change(sql, sender, sent_at, body)

    # parts of long texts

    def add_part(
        self, tpdu: str, sender: str, sent_at: datetime, place: tuple[int, int, int], now: datetime
    ) -> bool:
        """Store a part of a long text, place: reference, total, sequence; False if it is here."""
        sql = """INSERT INTO inbound_parts (received_at, sender, sent_at, reference, total,
                sequence, tpdu) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""
        return bool(self._db.change(sql, now, sender, sent_at, *place, tpdu))

    def find_long_texts(
        self, since: datetime, now: datetime
    ) -> list[tuple[bool, list[tuple[int, str, str]]]]:
        """Return of each reference of which all sequences are there, or which is given up, whether
        it is given up, and (id, TPDU, received_at) of its parts.

        Given up is what began before since, or by a clock that was a day ahead; of too many the
        oldest, bit by bit: however many wait, it takes no longer.
        """
        waiting = "inbound_parts INDEXED BY parts_by_age WHERE joined = 0"
        sql = f"SELECT id FROM {waiting} ORDER BY id DESC LIMIT 1 OFFSET ?"
        too_old = self._db.value(sql, _PARTS_WAITING) or 0
        sql = f"""SELECT max(given_up), sender, reference, total FROM (
                SELECT min(received_at) NOT BETWEEN :since AND :ahead AS given_up, sender,
                    reference, total FROM {waiting} AND id > :too_old
                GROUP BY sender, reference, total
                HAVING given_up OR count(DISTINCT sequence) = total
                UNION ALL SELECT * FROM (SELECT 1, sender, reference, total FROM {waiting}
                    AND id <= :too_old ORDER BY id LIMIT 20))
            GROUP BY sender, reference, total"""
        ahead = now + timedelta(days=1)
        found = self._db.all(sql, too_old=too_old, since=since, ahead=ahead)
        return [(bool(up), self.parts_of(*key)) for up, *key in found]

    def parts_of(self, sender: str, reference: int, total: int) -> list[tuple[int, str, str]]:
        """Return (id, TPDU, received_at) of the newest parts of a reference that wait."""
        sql = """SELECT id, tpdu, received_at FROM (SELECT * FROM inbound_parts
                INDEXED BY parts_waiting WHERE joined = 0
                AND sender = ? AND reference = ? AND total = ? ORDER BY id DESC LIMIT ?)
            ORDER BY sequence, id"""
        return self._db.all(sql, sender, reference, total, _PARTS_WAITING)

    def find_last_stop(self, sender: str) -> datetime:
        """Return when the last stop of a number was sent, one of a part too."""
        which = "substr(sender, -8) = substr(:of, -8) AND same_number(sender, :of)"
        sql = f"""SELECT max(sent_at) FROM (SELECT sent_at FROM inbound WHERE {which} AND
                request IN ('{Request.STOP.value}', '{Request.PERHAPS_STOP.value}')
            UNION ALL SELECT sent_at FROM {_PARTS_OF.format(":of")})"""
        found = self._db.value(sql, of=sender)
        return read_stored_time(found) if found else datetime.min.replace(tzinfo=UTC)

    def mark_joined(self, parts: Iterable[int]) -> None:
        """The text of these parts stands in the inbox; they are kept to know a repetition."""
        sql = "UPDATE inbound_parts SET joined = 1 WHERE id = ?"
        self._db.change_many(sql, [(part,) for part in parts])

    def drop_old(self, before: datetime, now: datetime) -> int:
        """Drop what fills the card, of before a time or beyond the newest few thousand: texts of
        strangers, parts that were read, reports of nothing; return how many.

        What may mean stop still shuts the gate of its number, without its words. In a transaction.
        """
        named = {"before": before, "most": _OLD_ONES_KEPT, "now": now}
        strange, no_number = f"tpdu <> '' AND {_OF_STRANGER}", "sender GLOB '*[^+0-9]*'"
        dropped = 0
        for table, which, to_drop in (
            ("inbound", strange, f"NOT ({_DOUBTFUL}) OR {no_number}"),
            ("inbound_parts", "joined = 1", "1"),
            ("reports", "segment_id IS NULL", "1"),
        ):
            old = f"""{which} AND (received_at < :before OR id <= (SELECT id FROM {table}
                WHERE {which} ORDER BY id DESC LIMIT 1 OFFSET :most))"""
            dropped += self._db.change(f"DELETE FROM {table} WHERE {old} AND ({to_drop})", **named)
            if table == "inbound":
                blank = (
                    "body = '', tpdu = '', request = :doubtful, read_at = coalesce(read_at, :now)"
                )
                named_so = {**named, "doubtful": Request.PERHAPS_STOP.value}
                dropped += self._db.change(f"UPDATE inbound SET {blank} WHERE {old}", **named_so)
        sql = f"""DELETE FROM inbound AS i WHERE tpdu = '' AND {_DOUBTFUL} AND EXISTS (SELECT 1
            FROM inbound WHERE sender = i.sender AND id > i.id AND {_DOUBTFUL})"""
        return dropped + self._db.change(sql)

    # delivery reports

    def add_report(self, tpdu: str, report: Report, now: datetime) -> bool:
        """Store a status report; False if it is here already."""
        sql = """INSERT INTO reports (phone_number, message_reference, delivery, words, sent_at,
                discharged_at, received_at, tpdu) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT DO NOTHING"""
        number, reference, delivery, *rest = report
        return bool(self._db.change(sql, number, reference, delivery.value, *rest, now, tpdu))

    def match_reports(self, now: datetime) -> int:
        """Match the last reports of the last week that stand alone; return how many found their
        segment.

        A report may come before its segment is known to be handed over.
        """
        sql = """SELECT id, phone_number, message_reference, delivery, words, sent_at, discharged_at
            FROM (SELECT * FROM reports WHERE segment_id IS NULL AND received_at >= ?
                ORDER BY id DESC LIMIT 50) ORDER BY id"""
        found = self._db.all(sql, now - timedelta(days=7))
        with self._db.transaction():
            return sum(self._match(each, now) for each in found)

    def _match(self, stored: Sequence[Any], now: datetime) -> bool:
        """Find the segment with that recipient and reference, handed over at about that time.

        References come again after 256 segments; some modems give all the same one. Of a segment
        whose answer was lost nobody knows the reference: the recipient and a quarter of an hour say
        which it is.
        """
        report, number, reference, delivery, words, sent_at, discharged_at = stored
        sql = """SELECT g.id, g.message_id, m.scheduled_message_id,
                abs(julianday(g.submitted_at) - julianday(:at)) AS apart
            FROM segments g JOIN messages m ON m.id = g.message_id
            WHERE apart < 2 AND (g.status = 'sent' AND g.message_reference = :reference
                OR g.status = 'unconfirmed' AND apart < 0.01)
                AND (m.phone_number = :number OR same_number(m.phone_number, :number))
            ORDER BY apart >= 0.01, g.status, round(apart * 144), g.delivered_at IS NOT NULL,
                apart, g.id DESC"""
        found = self._db.one(sql, at=sent_at, number=number, reference=reference)
        if found is None:
            return False
        segment, bubble, row_id, _ = found
        self._db.change("UPDATE reports SET segment_id = ? WHERE id = ?", segment, report)
        # Whatever becomes of a text of which the service centre reports: the network has had it.
        sql = """UPDATE segments SET status = 'sent', message_reference = ?, error_message = NULL
            WHERE id = ? AND status = 'unconfirmed'"""
        if self._db.change(sql, reference, segment):
            self._db.sending.settle(BubbleId(bubble), sent_at)
        if delivery == Delivery.DELIVERED.value:
            self._mark_delivered(segment, bubble, discharged_at)
        else:
            self._mark_undelivered(segment, bubble, delivery, words, now)
        self._db.change(_TELL_DELIVERY, now=now, id=row_id)
        return True

    def _mark_delivered(self, segment: int, bubble: int, at: str) -> None:
        sql = """UPDATE segments SET delivered_at = ?, delivery = 'delivered', error_message = NULL
            WHERE id = ? AND delivered_at IS NULL"""
        self._db.change(sql, at, segment)
        sql = """UPDATE messages SET delivered_at = ?
            WHERE id = ? AND status = 'sent' AND NOT EXISTS (SELECT 1 FROM segments
                WHERE message_id = messages.id AND delivered_at IS NULL)"""
        self._db.change(sql, at, bubble)

    def _mark_undelivered(
        self, segment: int, bubble: int, delivery: str, words: str, now: datetime
    ) -> None:
        """A word that comes late changes nothing: neither a delivery nor a failure for good."""
        sql = """UPDATE segments SET delivery = ?,
                error_message = CASE WHEN status = 'sent' THEN ? ELSE error_message END
            WHERE id = ? AND coalesce(delivery, 'trying') IN ('trying', 'unknown')"""
        changed = self._db.change(sql, delivery, words, segment)
        if changed and delivery in (Delivery.FAILED.value, Delivery.EXPIRED.value):
            sql = """INSERT INTO events (signed, at, actor, scheduled_message_id, event, detail)
                SELECT 1, ?, 'daemon', scheduled_message_id, 'not delivered', ? FROM messages
                WHERE id = ?"""
            self._db.change(sql, now, words, bubble)


def _complete_number(form: str) -> str:
    """Return a number with its country code where its form has one or is North American."""
    dialed = re.fullmatch(r"(?a)(?:00|011(?=\d{11}))([1-9]\d{7,14})", form)
    try:
        return parse_stored_number(f"+{dialed[1]}" if dialed else form)
    except ValueError:
        return form


class OptOuts:
    """The table opt_outs: who said stop, by which words, and who may lift it."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(
        self,
        number: str,
        words: str,
        now: datetime,
        actor: str,
        reason: str = "",
        tier: str = "operator",
        campaign: str | None = None,
    ) -> int:
        """Suppress a number and cancel all its scheduled rows; return how many.

        Who is known stays as they are, unless START would have lifted it so far. A sender that
        nobody can write to is passed over.
        """
        if campaign is None:
            campaign = self._db.queue.last_message_to(number)[1]
        cancelled = self._db.queue.cancel_number(number, "the recipient said stop", now, actor)
        sql = """INSERT OR IGNORE INTO opt_outs (phone_number, at, words, reason, tier, campaign,
                actor) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (phone_number) DO UPDATE SET
                words = excluded.words, reason = excluded.reason, tier = excluded.tier,
                actor = excluded.actor
            WHERE tier = 'keyword' AND excluded.tier <> 'keyword'"""
        self._db.change(sql, number, now, words, reason, tier, campaign, _sign(actor))
        self._db.sending.cancel_answers(number, "help")
        self._db.inbox.settle(number, now, actor, is_theirs=tier == "operator")
        return cancelled

    def remove(
        self, number: str, now: datetime, actor: str, reason: str, only_keyword: bool = False
    ) -> bool:
        """Lift a suppression; False if there was none, or none of that kind.

        only_keyword: one by keyword alone, and in no form of the number that may be another's.
        """
        sql = """UPDATE opt_outs SET at = ?, actor = ?, reason = ?
            WHERE phone_number = ? AND (tier = 'keyword' OR NOT ?)"""
        signed = 0
        for form in self.forms(number, is_sure=only_keyword):
            if self._db.change(sql, now, _sign(actor), reason, form, only_keyword):
                signed += self._db.change("DELETE FROM opt_outs WHERE phone_number = ?", form)
        if signed:
            self._db.sending.cancel_answers(number, "confirmation")
        return bool(signed)

    def lifted(self) -> dict[str, str]:
        """Return when the opt-out of each number whose was ever removed was so last."""
        rows = "SELECT detail, at FROM events WHERE event = 'opt-out removed' ORDER BY id"
        return {detail.partition(":")[0]: at for detail, at in self._db.all(rows)}

    def at(self, number: str) -> str:
        """Return the time at which a number said stop, in whatever form; "" if it did not."""
        sql = """SELECT min(at) FROM opt_outs INDEXED BY opt_outs_tail
            WHERE substr(phone_number, -8) = substr(:number, -8)
                AND same_number(phone_number, :number)"""
        return self._db.value(sql, number=number) or ""

    def list(self, number: str | None = None) -> list[Any]:
        """Return phone_number, at, words, reason, tier, campaign of all, or of one number in
        whatever form it stands there."""
        sql = """SELECT phone_number, at, words, reason, tier, campaign FROM opt_outs
            WHERE :number IS NULL OR substr(phone_number, -8) = substr(:number, -8)
                AND same_number(phone_number, :number) ORDER BY at, phone_number"""
        return self._db.all(sql, number=number)

    def forms(self, number: str, is_sure: bool) -> Sequence[str]:
        """Return the forms in which a number said stop; is_sure: those that can only be its own."""
        forms = [each["phone_number"] for each in self.list(number)]
        whole = _complete_number(number)
        return [each for each in forms if not is_sure or _complete_number(each) == whole]

    def numbers(self) -> frozenset[str]:
        """Return all suppressed numbers."""
        return frozenset(self._db.column("SELECT phone_number FROM opt_outs"))

    def count_in(self, campaign: str) -> tuple[int, int]:
        """Count a campaign's last 100 recipients, and who of them said stop since it was resumed.

        Who said stop between two bubbles is one of them.
        """
        sql = f"""SELECT count(DISTINCT r.phone_number), count(DISTINCT o.phone_number) FROM
                (SELECT phone_number FROM scheduled_messages s WHERE campaign_name = :name
                AND (status = 'sent' OR status = 'cancelled' AND {_BEGUN})
                ORDER BY coalesce(sent_at, updated_at) DESC, id DESC LIMIT 100) r
            LEFT JOIN opt_outs o ON o.phone_number = r.phone_number AND o.at >
                coalesce((SELECT resumed_at FROM campaigns WHERE name = :name), '')"""
        recipients, stopped = self._db.one(sql, name=campaign)
        return recipients, stopped


# --- what the box remembers: words of its own, pauses, the audit


class Pause(NamedTuple):
    """The pause of the box or of a campaign; without a reason how the last one ended."""

    because: str = ""
    by: str = ""  # a PausedBy's word
    until: datetime | None = None
    resumed_at: datetime | None = None

    def has_ended(self, now: datetime) -> bool:
        """True if an end that the operator gave it has come."""
        given = self.because and self.until and self.by != PausedBy.BOX.value
        return bool(given) and now >= cast(datetime, self.until)


_NO_PAUSE = Pause()


class State:
    """The tables state, campaigns (their pauses) and events (what concerns no single row)."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self) -> dict[str, str]:
        """Return all words at once."""
        return dict(self._db.all("SELECT key, value FROM state"))

    def get(self, key: str) -> str:
        """Read a word that the box keeps over a reboot; "" if it has none."""
        return self._db.value("SELECT value FROM state WHERE key = ?", key) or ""

    def set(self, **words: object) -> None:
        """Keep words over a reboot; "" or None forgets one."""
        for key, value in words.items():
            self.set_key(key, value)

    def set_key(self, key: str, value: object) -> None:
        """Keep one word, whatever its key is called."""
        if value:
            self._db.change("INSERT OR REPLACE INTO state VALUES (?, ?)", key, value)
        else:
            self._db.change("DELETE FROM state WHERE key = ?", key)

    def add_event(self, event: str, detail: str, now: datetime, actor: str) -> None:
        """Write into the audit what concerns no single row."""
        sql = "INSERT INTO events (signed, at, actor, event, detail) VALUES (1, ?, ?, ?, ?)"
        self._db.change(sql, now, actor, event, detail)

    def last_event_at(self) -> datetime | None:
        """Return the latest time in the audit's last thousand lines."""
        sql = "SELECT max(at) FROM (SELECT at FROM events ORDER BY id DESC LIMIT 1000)"
        found = self._db.value(sql)
        return read_stored_time(found) if found else None

    # pauses; campaign "" is the box itself

    def pause(
        self,
        campaign: str,
        because: str,
        by: PausedBy,
        now: datetime,
        until: datetime | None = None,
    ) -> None:
        """Pause a campaign or the box; inside the caller's transaction."""
        if not campaign:
            self.set(paused_because=because, paused_by=by.value, paused_until=until)
            return
        sql = """INSERT INTO campaigns (name, created_at, paused_because, paused_by, paused_until)
            VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET paused_because =
                excluded.paused_because, paused_by = excluded.paused_by,
                paused_until = excluded.paused_until"""
        self._db.change(sql, campaign, now, because, by.value, until)

    def resume(self, campaign: str, now: datetime) -> None:
        """End the pause of a campaign or of the box; inside the caller's transaction."""
        if not campaign:
            self.set(paused_because="", paused_by="", paused_until="", resumed_at=now)
            return
        sql = """INSERT INTO campaigns (name, created_at, resumed_at) VALUES (:name, :now, :now)
            ON CONFLICT (name) DO UPDATE SET paused_because = NULL, paused_by = NULL,
                paused_until = NULL, resumed_at = :now"""
        self._db.change(sql, name=campaign, now=now)

    def paused_by_box(self, campaign: str = "") -> str:
        """Return why the box has paused itself, or a campaign; "" if it has not."""
        if campaign:
            sql = "SELECT paused_because FROM campaigns WHERE name = ? AND paused_by = 'box'"
            return self._db.value(sql, campaign) or ""
        return self.get("paused_because") if self.get("paused_by") == PausedBy.BOX.value else ""

    def paused_campaigns(self) -> dict[str, str]:
        """Return the paused campaigns with the reason."""
        sql = "SELECT name, paused_because FROM campaigns WHERE paused_because IS NOT NULL"
        return dict(self._db.all(sql))

    def pauses(self) -> dict[str, Pause]:
        """Return the pause of each campaign that has or had one; "" is the box itself."""
        sql = """SELECT name, paused_because, paused_by, paused_until, resumed_at FROM campaigns
            WHERE paused_because IS NOT NULL OR resumed_at IS NOT NULL UNION ALL
            SELECT '', max(iif(key = 'paused_because', value, NULL)),
                max(iif(key = 'paused_by', value, NULL)),
                max(iif(key = 'paused_until', value, NULL)),
                max(iif(key = 'resumed_at', value, NULL)) FROM state"""
        return {
            name: Pause(
                because or "",
                by or "",
                read_stored_time(until) if until else None,
                read_stored_time(resumed_at) if resumed_at else None,
            )
            for name, because, by, until, resumed_at in self._db.all(sql)
        }


# --- what is told: counts, courses, exports


class Course(NamedTuple):
    """One message of a campaign: what was planned, and what has become of it."""

    id: int
    campaign_message_id: str
    phone_number: str
    customer_name: str
    state: str  # status; held, unconfirmed; of what is sent also delivered, undelivered
    planned_for: datetime  # by the first plan
    scheduled_for: datetime  # by the plan as it is now
    settled_at: datetime | None  # sent, failed, cancelled; None: still to go
    segments: int  # that were or may have been sent
    reason: str
    replied_at: datetime | None
    opted_out_at: datetime | None


_COURSE = """
    SELECT s.id, coalesce(s.campaign_message_id, '') AS campaign_message_id, s.phone_number,
        s.customer_name,
        CASE WHEN EXISTS (SELECT 1 FROM messages WHERE scheduled_message_id = s.id
                AND status = 'unconfirmed') THEN 'unconfirmed'
            WHEN s.status = 'scheduled' AND s.held_because IS NOT NULL THEN 'held'
            WHEN s.status = 'sent' THEN iif(s.delivery IN ('failed', 'expired'), 'undelivered',
                coalesce(s.delivery, 'sent'))
            ELSE s.status END AS state,
        coalesce(s.planned_for, s.scheduled_for) AS planned_for, s.scheduled_for,
        CASE WHEN s.status <> 'scheduled' THEN coalesce(s.sent_at, (SELECT max(at) FROM events
            WHERE scheduled_message_id = s.id AND event = s.status), s.updated_at)
            END AS settled_at,
        (SELECT count(*) FROM messages m JOIN segments g ON g.message_id = m.id
            WHERE m.scheduled_message_id = s.id AND g.status <> 'failed') AS segments,
        coalesce(iif(s.status = 'scheduled', s.held_because, NULL), s.error_message, '') AS reason,
        r.at AS replied_at, o.at AS opted_out_at
    FROM scheduled_messages s
    LEFT JOIN (SELECT answers, min(received_at) AS at FROM inbound GROUP BY answers) r
        ON r.answers = s.id
    LEFT JOIN opt_outs o ON o.phone_number = s.phone_number AND o.campaign = s.campaign_name
    WHERE s.campaign_name = ? ORDER BY planned_for, s.id"""
_CAMPAIGNS = """
    SELECT n.name, coalesce(c.created_at, min(s.created_at)) AS created_at, count(s.id) AS planned,
        count(s.id) FILTER (WHERE s.status = 'scheduled') AS scheduled,
        count(s.id) FILTER (WHERE s.status = 'scheduled' AND s.held_because IS NOT NULL) AS held,
        count(s.id) FILTER (WHERE s.status = 'sent') AS sent,
        count(s.id) FILTER (WHERE s.status = 'failed') AS failed,
        count(s.id) FILTER (WHERE s.status = 'cancelled') AS cancelled,
        min(s.sent_at) FILTER (WHERE s.status = 'sent') AS first,
        max(s.sent_at) FILTER (WHERE s.status = 'sent') AS last,
        min(s.scheduled_for) FILTER (WHERE s.status = 'scheduled' AND s.held_because IS NULL)
            AS next,
        max(s.scheduled_for) FILTER (WHERE s.status = 'scheduled' AND s.held_because IS NULL)
            AS ends,
        c.paused_because
    FROM (SELECT name FROM campaigns UNION SELECT campaign_name FROM scheduled_messages) n
    LEFT JOIN scheduled_messages s ON s.campaign_name = n.name
    LEFT JOIN campaigns c ON c.name = n.name
    WHERE n.name = coalesce(:name, n.name) AND (:name IS NOT NULL OR n.name NOT IN ('', :test))
    GROUP BY n.name ORDER BY 2, 1"""
# What export writes of each table, and which rows belong to the campaign ?1.
_OF_CAMPAIGN = "(SELECT id FROM scheduled_messages WHERE campaign_name = ?1)"
_EXPORTED = {
    "campaigns": ("*", "name = ?1"),
    "scheduled_messages": ("*", "campaign_name = ?1"),
    "messages": ("*", f"scheduled_message_id IN {_OF_CAMPAIGN}"),
    "segments": (
        "*",
        f"message_id IN (SELECT id FROM messages WHERE scheduled_message_id IN {_OF_CAMPAIGN})",
    ),
    "inbound": (
        "id, received_at, sent_at, sender, body, request, read_at, answers, settled_at, settled_by",
        f"answers IN {_OF_CAMPAIGN}",
    ),
    "opt_outs": ("phone_number, at, words, reason, tier, campaign", "campaign = ?1"),
    "events": ("*", f"scheduled_message_id IN {_OF_CAMPAIGN}"),
}


class Reports:
    """What is told of it all; nothing is changed here."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def awaits_person(self) -> bool:
        """True if something held, unconfirmed, failed or unread waits for the operator."""
        kinds = (
            _UNSETTLED,
            _HELD,
            _UNREAD,
            "campaigns WHERE paused_because IS NOT NULL AND paused_by = 'box'",
        )
        each = " OR ".join(f"EXISTS (SELECT 1 FROM {rows})" for rows in kinds)
        sql = f"SELECT {each}, EXISTS (SELECT 1 FROM inbound WHERE {_DOUBTFUL})"
        awaits, may_be_doubtful = self._db.one(sql)
        return bool(awaits or (may_be_doubtful and self.has_doubtful()))

    def has_doubtful(self) -> bool:
        """True if a reply waits for a person, of somebody who got or is to get something."""
        return bool(self.count_doubtful())

    def count_doubtful(self, and_cut: bool = False) -> int:
        """Count the numbers whose reply waits for a person and who got or are to get something; and
        those of whose long text the rest is waited for."""
        sql = f"""SELECT DISTINCT sender FROM inbound INDEXED BY inbound_doubtful
            WHERE {_DOUBTFUL} AND NOT ({_OF_STRANGER})"""  # of strangers there may be thousands
        if and_cut:
            sql += " UNION SELECT sender FROM inbound_parts INDEXED BY parts_waiting"
            sql += " WHERE joined = 0"
        return sum(bool(self._db.inbox.find_people(each)) for each in self._db.column(sql))

    def count_by_status(self) -> dict[str, int]:
        """Count rows by status; of those that failed the unsettled ones, unconfirmed ones and
        settled ones apart. Also those held, and the replies unread and doubtful among them."""
        # The most are sent: to count all and take the others off is the quickest way.
        rows, others = "scheduled_messages", [each for each in RowStatus if each != RowStatus.SENT]
        each = ", ".join(
            f"(SELECT count(*) FROM {rows} WHERE status = '{status.value}')" for status in others
        )
        total, *found = self._db.one(f"SELECT (SELECT count(*) FROM {rows}), {each}")
        counts = {status.value: count for status, count in zip(others, found, strict=True)}
        counts["sent"] = total - sum(found)
        sql = f"""SELECT delivery, count(*) FROM {rows} WHERE status = 'sent'
            AND delivery IN ('delivered', 'failed', 'expired') GROUP BY delivery"""
        delivered = Counter(dict(self._db.all(sql)))
        counts["held"] = self._db.count(_HELD)
        counts["unconfirmed"] = self._db.count(f"{_UNSETTLED} AND {_MAY_BE_SENT}")
        unsettled = self._db.count(_UNSETTLED)
        counts["settled"] = counts["failed"] - unsettled
        counts["failed"] = unsettled - counts["unconfirmed"]
        counts["unread"] = self._db.count(_UNREAD)
        counts["doubtful"] = self.count_doubtful(and_cut=True)
        counts["delivered"] = delivered["delivered"]
        counts["undelivered"] = delivered["failed"] + delivered["expired"]
        return counts

    def count_by_status_of(self, campaign: str) -> dict[str, int]:
        """Count a campaign's rows by their status."""
        # One by one: to group half a million rows takes twice as long.
        rows = "scheduled_messages WHERE campaign_name = ? AND status = ?"
        return {status.value: self._db.count(rows, campaign, status.value) for status in RowStatus}

    def count_held(self) -> dict[str, int]:
        """Count the held rows by their reason, the most first."""
        sql = f"SELECT held_because, count(*) FROM {_HELD} GROUP BY 1 ORDER BY 2 DESC, 1"
        return dict(self._db.all(sql))

    def count_sent_since(self, at: datetime) -> int:
        """Count the messages sent since a time."""
        rows = "scheduled_messages INDEXED BY rows_sent WHERE status = 'sent' AND sent_at >= ?"
        return self._db.count(rows, at)

    def count_day(self, opens: datetime, closes: datetime) -> tuple[int, ...]:
        """Count the rows sent and failed, bubbles unconfirmed, replies and opt-outs of a span."""
        kinds = (
            "scheduled_messages INDEXED BY rows_sent WHERE status = 'sent' AND sent_at",
            "scheduled_messages WHERE status = 'failed' AND updated_at",
            "segments WHERE status = 'unconfirmed' AND submitted_at",
            "inbound WHERE received_at",
            "opt_outs WHERE at",
        )
        return tuple(self._db.count(f"{rows} BETWEEN ? AND ?", opens, closes) for rows in kinds)

    def last_bubble(self) -> tuple[str, datetime, int, int] | None:
        """Return the last bubble that was sent: to whom, when, its place and how many there are."""
        sql = """SELECT iif(s.customer_name = '', s.phone_number, s.customer_name), m.sent_at,
                m.bubble, (SELECT count(*) FROM messages WHERE scheduled_message_id = s.id)
            FROM messages m JOIN scheduled_messages s ON s.id = m.scheduled_message_id
            WHERE m.status = 'sent' ORDER BY m.id DESC LIMIT 1"""
        found = self._db.one(sql)
        return (str(found[0]), read_stored_time(found[1]), found[2], found[3]) if found else None

    def finished_since(self, at: datetime) -> list[str]:
        """Return the campaigns that sent something since a time and have nothing left to send."""
        sql = """SELECT DISTINCT campaign_name FROM scheduled_messages AS s INDEXED BY rows_sent
            WHERE status = 'sent' AND sent_at > ? AND campaign_name NOT IN ('', ?) AND NOT EXISTS
                (SELECT 1 FROM scheduled_messages WHERE campaign_name = s.campaign_name
                AND status = 'scheduled')"""
        return self._db.column(sql, at, TEST_CAMPAIGN)

    def campaign_names(self) -> list[str]:
        """Return the campaigns that have rows or were ever scheduled."""
        sql = """SELECT name FROM campaigns UNION SELECT DISTINCT campaign_name FROM
            scheduled_messages EXCEPT SELECT '' EXCEPT SELECT ? ORDER BY 1"""
        return self._db.column(sql, TEST_CAMPAIGN)

    def live_campaigns(self) -> list[str]:
        """Return the campaigns with rows that no person holds, paused ones included."""
        sql = f"{_LIVE_CAMPAIGNS} SELECT name FROM live WHERE name IS NOT NULL"
        return self._db.column(sql)

    def campaigns(self, name: str | None = None) -> list[Any]:
        """Return all campaigns, or one: name, created_at, planned, scheduled, of them held, sent,
        failed, cancelled, first and last sent, next and last to go (ends), paused_because."""
        return self._db.all(_CAMPAIGNS, name=name, test=TEST_CAMPAIGN)

    def course(self, campaign: str) -> list[Course]:
        """Return the plan and the course of each message of a campaign."""

        def read(record: sqlite3.Row) -> Course:
            cells = dict(zip(Course._fields, record, strict=True))
            for key, cell in cells.items():
                if cell and key.endswith(("_at", "_for")):
                    cells[key] = read_stored_time(cell)
            return Course(**cells)

        return [read(record) for record in self._db.all(_COURSE, campaign)]

    def texts(self, campaign: str) -> list[str]:
        """Return the first text of a campaign and its longest."""
        columns = "message_content FROM scheduled_messages WHERE campaign_name = :name"
        sql = f"""SELECT * FROM (SELECT {columns} ORDER BY id LIMIT 1) UNION
            SELECT * FROM (SELECT {columns} ORDER BY length(message_content) DESC, id LIMIT 1)"""
        return [text for text in self._db.column(sql, name=campaign) if text]

    def events(self, row_id: MessageId) -> list[Any]:
        """Return at, actor, event, detail of a row, oldest first."""
        sql = """SELECT at, actor, event, detail FROM events
            WHERE scheduled_message_id = ? ORDER BY id"""
        return self._db.all(sql, row_id)

    def export(self, table: str, campaign: str | None) -> Iterator[Sequence[Any]]:
        """Yield the column names of an exported table, then its rows in the order of their keys."""
        columns, where = _EXPORTED[table]
        if columns == "*":
            names = self._db.column("SELECT name FROM pragma_table_info(?)", table)
            own = "signed" if table == "events" else "actor"  # a signature on its way there
            names = [name for name in names if name != own]
            columns = ", ".join(names)
        yield columns.split(", ")
        only, given = ("", []) if campaign is None else (f"WHERE {where}", [campaign])
        yield from self._db.stream(f"SELECT {columns} FROM {table} {only} ORDER BY 1", *given)


EXPORTED_TABLES = tuple(_EXPORTED)


# --- what is forgotten: names and texts are blanked past recovery, counts and opt-outs stay

_BLANKS = {
    "messages": "body = ''",
    "scheduled_messages": "customer_name = '', message_content = '', consent_at = '',"
    " consent_source = '', updated_at = :now, actor = :actor",
    "inbound": "body = '', tpdu = ''",
    "inbound_parts": "tpdu = id, joined = 1",
    "opt_outs": "words = '', reason = iif(reason = '', 'said stop', reason)",
}
_OF_PERSON = {
    "messages": "phone_number = :value",
    "scheduled_messages": "phone_number = :value",
    "inbound": "sender = :value",
    "inbound_parts": "sender = :value",
    "opt_outs": "phone_number = :value",
}
_DONE_BEFORE = """status <> 'scheduled' AND coalesce(sent_at, scheduled_for) < :value
    AND NOT EXISTS (SELECT 1 FROM messages
        WHERE scheduled_message_id = scheduled_messages.id AND status = 'sending')"""
_OLDER = {
    "messages": f"""body <> '' AND created_at < :value AND status NOT IN ('queued', 'sending')
        AND (scheduled_message_id IS NULL
        OR scheduled_message_id IN (SELECT id FROM scheduled_messages WHERE {_DONE_BEFORE}))""",
    "scheduled_messages": f"""{_DONE_BEFORE}
        AND customer_name || message_content || consent_at || consent_source <> ''""",
    "inbound": "tpdu <> '' AND received_at < :value AND read_at IS NOT NULL",
    "inbound_parts": "tpdu <> id AND received_at < :value",
    "opt_outs": "words <> '' AND at < :value",
}


def forget(database: Database, number: str, now: datetime, actor: str) -> int:
    """Blank what is known of a person, cancel what is scheduled; return how many rows.

    Numbers, counts, statuses, times and the opt-out stay. Inside a transaction.
    """
    database.queue.cancel_number(number, "forgotten", now, actor)
    database.sending.cancel_answers(number)
    rows = _blank(database, _OF_PERSON, number, now, actor)["scheduled_messages"]
    database.state.add_event("forgotten", number, now, actor)
    return rows


def count_older(database: Database, than: datetime) -> dict[str, int]:
    """Count what purge() blanks, by table."""
    return {
        table: database.count(f"{table} WHERE {where}", value=than)
        for table, where in _OLDER.items()
    }


def purge(database: Database, than: datetime, now: datetime, actor: str) -> None:
    """Blank what is done and older than a time. Inside a transaction.

    What is scheduled, under way or unread stays; so do numbers, statuses, times and opt-outs.
    """
    blanked = _blank(database, _OLDER, than, now, actor)["scheduled_messages"]
    detail = f"older than {to_database_time(than)}: {blanked} rows"
    database.state.add_event("purged", detail, now, actor)


def _blank(
    database: Database, which: Mapping[str, str], value: object, now: datetime, actor: str
) -> dict[str, int]:
    """Blank names and texts past recovery; which says of each table whose, by :value."""
    database.change("PRAGMA secure_delete = ON")
    blanked = {}
    for table, where in which.items():
        sql = f"UPDATE {table} SET {_BLANKS[table]} WHERE {where}"
        blanked[table] = database.change(sql, value=value, now=now, actor=_sign(actor))
    return blanked


# === 8 Copies ====================================================================================
# Copies of the database: one a day, seven kept, one more in another folder; and a copy on its way
# back, of which what may have been sent since is held. A file is whole and durable or not there.
# It does not know the modem, the pace or the command line.

_COPY_NAMES = "smsbox-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9].db"
_COPIES_KEPT = 7
_RESTORED = "restored from a copy of"


@contextmanager
def scratch_database() -> Iterator[Path]:
    """Yield a name for a database in a folder that nobody else can look into or move: SQLite opens
    files by name, and where a group may write another file can come to have that name.
    """
    import tempfile
    import time

    place = Path("/var/tmp")  # on the disk: /tmp may be memory, and the service has little
    place = place if place.is_dir() else Path(tempfile.gettempdir())
    for old in place.glob(f"{_SCRATCH}*"):  # what killed ones have left
        with suppress(OSError):
            found = old.lstat()
            is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            if is_own and time.time() - found.st_mtime > 86_400:
                _remove_scratch(old)
    folder = Path(tempfile.mkdtemp("", _SCRATCH, place))
    try:
        yield folder / "scratch.db"
    finally:
        with suppress(OSError):
            _remove_scratch(folder)


def _remove_scratch(folder: Path) -> None:
    """Delete a folder with what SQLite makes in it; with anything else in it, it stays."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        (folder / f"scratch.db{suffix}").unlink(missing_ok=True)
    folder.rmdir()


_SCRATCH = ".smsbox-scratch-"  # as no person names a folder


@contextmanager
def copied_database(
    database: Database, now: datetime, beat: Callable[[], object] = lambda: None
) -> Iterator[BufferedReader]:
    """Yield the octets of an online copy: one file, verified, that knows when it was made.

    beat is called every few megabytes. OSError or StoreError: there is none.
    """
    with scratch_database() as path:
        copy = Database.open_bare(str(path))
        try:
            database.copy_into(copy, beat)
            copy.all("PRAGMA journal_mode = DELETE")  # all of it in one file
            copy.all("PRAGMA synchronous = OFF")
            copy.state.set(copied_at=now)
            copy.verify()
        finally:
            copy.close()
        with open(path, "rb") as octets:
            yield octets


def _pour(source: BufferedReader, target: BufferedWriter, beat: Callable[[], object]) -> None:
    """Copy all octets; beat is called every megabyte."""
    while octets := source.read(1 << 20):
        target.write(octets)
        beat()


@contextmanager
def verified_copy(
    source: BufferedReader, name: str, beat: Callable[[], object] = lambda: None
) -> Iterator[Path]:
    """Yield a copy's own copy, where nobody else gets at it; StoreError: it is damaged, or no
    database of ours. name: as the sentence calls it."""
    import shutil

    with scratch_database() as path:
        free = shutil.disk_usage(path.parent).free
        if os.fstat(source.fileno()).st_size > free:  # a file with holes may be of terabytes
            raise StoreError(f"{name}: there is no room in {path.parent.parent} to look at it")
        with open(path, "xb") as near:
            _pour(source, near, beat)
        try:
            opened = Database.open_to_read(str(path), of_any_version=True)
            try:
                opened.verify()
                opened.require_schema()
            finally:
                opened.close()
        except Damaged as error:
            raise StoreError(f"{name}: it is damaged: try an older copy") from error
        except NotADatabase as error:
            words = "it is no smsbox database: name a file that smsbox backup made"
            raise StoreError(f"{name}: {words}") from error
        except StoreError as error:
            words = str(error).removeprefix(str(path)).lstrip(": ")
            raise StoreError(f"{name}: {words}") from error
        yield path


class CopyFolders:
    """Where the daily copies lie: beside the database, and in another folder where one is set."""

    def __init__(self, database: Path, elsewhere: str) -> None:
        self._database = database
        self.beside = database.parent / "backups"
        self.elsewhere = Path(elsewhere) if elsewhere else None

    def newest(self, now: datetime) -> Path | None:
        """Return the last copy beside the database."""
        return max(self._list(self.beside, now), default=None)

    def is_elsewhere(self) -> bool:
        """True if there is a copy on another device than the database's own."""
        with suppress(OSError):
            if self.elsewhere is not None and any(self.elsewhere.glob(_COPY_NAMES)):
                return self.elsewhere.stat().st_dev != self._database.stat().st_dev
        return False

    def make(self, database: Database, now: datetime, beat: Callable[[], object]) -> bool:
        """Make the day's copy, unless it is there or nothing has changed since the last one."""
        path = self.beside / f"smsbox-{now:%Y-%m-%d}.db"
        if path.exists():
            return False
        database.truncate_log()
        # With an empty log the file is as old as its last change; a copy takes over that age.
        changed_ns = self._database.stat().st_mtime_ns
        newest, log = self.newest(now), self._database.with_name(self._database.name + "-wal")
        is_whole = not log.exists() or log.stat().st_size == 0
        if newest and is_whole and newest.stat().st_mtime_ns == changed_ns:
            return False
        if not self.beside.exists():
            self.beside.mkdir(0o770)
        whole = whole_file(path, 0o660, over=True)
        with copied_database(database, now, beat) as octets, whole as file:
            _pour(octets, file, beat)
        if is_whole:
            os.utime(path, ns=(changed_ns, changed_ns))
        self._keep_seven(self.beside, now)
        return True

    def spread(self, now: datetime, beat: Callable[[], object]) -> None:
        """Put the newest copy into the other folder, where it is not there yet."""
        newest, folder = self.newest(now), self.elsewhere
        if newest is None or folder is None or (folder / newest.name).exists():
            return
        if not folder.is_dir():
            raise StoreError(f"backup_dir {folder} is not there: is the stick plugged in?")
        # Whoever may write there may have laid another file of that name.
        whole = whole_file(folder / newest.name, 0o660, over=True)
        with (
            open(newest, "rb", opener=door) as copy,
            verified_copy(copy, str(newest), beat) as near,
            open(near, "rb") as octets,
            whole as part,
        ):
            _pour(octets, part, beat)
        self._keep_seven(folder, now)

    def _list(self, folder: Path, now: datetime) -> list[Path]:
        """Return a folder's copies, the oldest first; a day to come has none yet."""
        found = sorted(folder.glob(_COPY_NAMES))
        return [each for each in found if each.name <= f"smsbox-{now:%Y-%m-%d}.db"]

    def _keep_seven(self, folder: Path, now: datetime) -> None:
        for old in self._list(folder, now)[:-_COPIES_KEPT]:
            old.unlink()
        sync(folder)


# --- a copy on its way back


class Restoring:
    """A copy that takes the database's place: what may have been sent since it was made is held.

    present: the database that it replaces, if there is one that can be opened.
    """

    def __init__(self, copy: Database, present: Database | None) -> None:
        self.held = self.opted_out = 0
        self._copy = copy
        self._present = present

    def copied_at(self) -> str:
        """Return when the copy was made; of one that does not say it, the last that it knows."""
        sql = """SELECT coalesce(datetime(?), (SELECT max(datetime(at)) FROM (
            SELECT at FROM events UNION ALL SELECT sent_at FROM scheduled_messages
            UNION ALL SELECT created_at FROM scheduled_messages)), '')"""
        return str(self._copy.value(sql, self._copy.state.get("copied_at")))

    def prepare(self, now: datetime, actor: str, clock_is_sure: bool) -> None:
        """Hold, merge and write down where it comes from; inside the caller's transaction."""
        copied_at = self.copied_at()
        last_id = self._copy.value("SELECT coalesce(max(id), 0) FROM scheduled_messages")
        self.held = hold_restored(self._copy, copied_at, last_id, now, now, now, actor)
        self.held += self._hold_what_went_on(copied_at, now, actor)
        sql = """UPDATE messages SET status = 'cancelled' -- they may have been sent since
            WHERE scheduled_message_id IS NULL AND status = 'queued'"""
        self._copy.change(sql)
        known = self._copy.opt_outs.numbers()
        for number, at, words, reason, tier, campaign in self._ask_present(
            "SELECT phone_number, at, words, reason, tier, campaign FROM opt_outs"
        ):
            if number not in known:
                stopped_at = read_stored_time(at)
                rest = {"reason": reason, "tier": tier, "campaign": campaign}
                self._copy.opt_outs.add(number, words, stopped_at, actor, **rest)
                self.opted_out += 1
        # Who has said stop since waits for nothing.
        restored = f"{_HELD} AND held_code = '{HeldCode.RESTORED.value}'"
        self.held = min(self.held, self._copy.count(restored))
        unsure = json.dumps([last_id, to_database_time(now), copied_at])
        self._copy.state.set(copied_at="", restored_copy="" if clock_is_sure else unsure)
        self._copy.state.add_event("restored", f"from a copy of {copied_at}", now, actor)

    def _ask_present(self, sql: str) -> list[Any]:
        """Learn what can be learned from a database that may be damaged."""
        with suppress(StoreError):
            return self._present.all(sql) if self._present else []
        return []

    def _hold_what_went_on(self, copied_at: str, now: datetime, actor: str) -> int:
        """Hold what the present database has sent, begun, ended or held."""
        went_on = self._ask_present(
            """SELECT id, phone_number FROM scheduled_messages s
            WHERE status <> 'scheduled' OR held_because IS NOT NULL
                OR EXISTS (SELECT 1 FROM messages m JOIN segments g ON g.message_id = m.id
                WHERE m.scheduled_message_id = s.id AND g.status <> 'failed')"""
        )
        change = "held_because = :words, held_code = :code"
        which = "id = :id AND phone_number = :number AND held_because IS NULL"
        words = f"{_RESTORED} {copied_at}: it went on since"
        named = {"words": words, "code": HeldCode.RESTORED.value}
        held = (
            self._copy.change_rows(change, which, now, actor, id=row_id, number=number, **named)
            for row_id, number in went_on
        )
        return sum(held)


def hold_restored(
    database: Database,
    copied_at: str,
    last_id: int,
    due_until: datetime,
    released_since: datetime,
    now: datetime,
    actor: str,
) -> int:
    """Hold the rows of a restored copy that were due since; return how many may have been sent."""
    change = "held_because = :because, held_code = :code"
    which = """held_because IS NULL AND id <= :last_id AND scheduled_for <= :due_until
        AND NOT EXISTS (SELECT 1 FROM events WHERE scheduled_message_id = s.id
            AND event = 'released' AND at > :released_since)"""
    named = {"because": f"{_RESTORED} {copied_at}: may have been sent since", "last_id": last_id}
    named |= {"code": HeldCode.RESTORED.value, "due_until": due_until}
    return database.change_rows(change, which, now, actor, released_since=released_since, **named)


def hold_restored_late(database: Database, now: datetime) -> int:
    """Hold what was due of a copy restored on a doubtful clock, now that the time is known."""
    words = database.state.get("restored_copy")
    if not words:
        return 0
    last_id, restored_at, copied_at = json.loads(words)
    since = from_database_time(restored_at)
    held = hold_restored(database, copied_at, last_id, now, since, now, "daemon")
    database.state.set(restored_copy="")
    return held


def put_in_place(copy: Path, database: Path, now: datetime) -> Path | None:
    """Let a copy take the database's place in one step; the file of before is kept aside under
    the name that is given back. Neither is open any more.
    """
    import shutil

    name = f"{database.name}.replaced-{now:%Y%m%d-%H%M%S}"
    aside, place = database.with_name(name), 1
    while aside.exists():
        place += 1
        aside = database.with_name(f"{name}-{place}")
    log, shared = (database.with_name(database.name + suffix) for suffix in ("-wal", "-shm"))
    had_one = database.exists()
    with whole_file(database, 0o660, over=True) as file, open(copy, "rb") as octets:
        shutil.copyfileobj(octets, file)
        if log.exists():  # of a damaged database: the copy must not meet another file's log
            log.rename(aside.with_name(aside.name + "-wal"))
        shared.unlink(missing_ok=True)
        if had_one:
            os.link(database, aside)
    return aside if had_one else None


# === 9 AT ========================================================================================
# What a modem says, byte by byte: lines and prompts, final result codes, unsolicited result codes
# (URCs), and what a refusal means (+CMS: 3GPP TS 27.005 3.2.5, TS 24.011 annex E; +CME: TS 27.007
# 9.2). It does not know the serial port, the time, or what was asked; any bytes in any slices are
# understood or passed over, never an exception.

ESCAPE = b"\x1b"  # leaves a prompt without sending
CTRL_Z = b"\x1a"  # ends the TPDU: from here on it may be sent
_MAX_LINE = 2048  # octets; longer is noise


class LineParser:
    """Cuts a byte stream into lines; knows an unfinished line that is a prompt."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._heading = ""  # of a TPDU that comes unasked: on the next line
        self._menu: list[str] = []  # lines of a USSD text whose quotation marks are still open

    def feed(self, data: bytes) -> list[str]:
        """Take bytes as they came, give the lines they complete; empty lines are dropped.

        A TPDU that comes unasked and its heading are one line: it is no answer to anything. So are
        the lines of a USSD text.
        """
        self._rest += data
        *done, rest = re.split(rb"[\r\n]+", bytes(self._rest))
        self._rest = bytearray(rest[:_MAX_LINE])
        lines = (line[:_MAX_LINE].replace(b"\0", b"").decode("latin-1").strip() for line in done)
        return list(self._join(each for line in lines for each in _unglue(line) if each))

    def _join(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            if self._menu or re.fullmatch(_OPEN_MENU, line):
                yield from self._add_to_menu(line)
                continue
            heading, self._heading = self._heading, ""
            if heading and re.fullmatch("[0-9A-Fa-f]{2,}", line):
                yield f"{heading}\n{line}"
                continue
            if heading:
                yield heading
            if re.fullmatch(_HEADING, line):
                self._heading = line
            else:
                yield line

    def _add_to_menu(self, line: str) -> Iterator[str]:
        """Join a USSD text; what is known to be no part of it goes past, and one that never ends
        is given up."""
        if self._menu and (parse_final(line) or is_unsolicited(line)):
            yield line
            return
        self._menu.append(line)
        if re.fullmatch(_MENU_END, line) or len(self._menu) == _MOST_MENU_LINES:
            yield "\n".join(self._menu)
            self._menu.clear()

    def take_prompt(self) -> bool:
        """True if the modem asks for the TPDU ('> ', with or without the space)."""
        if bytes(self._rest).strip(b"\0 ") != b">":
            return False
        self._rest.clear()
        return True


def _unglue(line: str) -> list[str]:
    """Part an answer from a notice that follows it without a line end between them."""
    return [line] if line.startswith("AT") else re.split(_GLUED, line)


class Final(NamedTuple):
    """A final result code."""

    ok: bool
    words: str  # 'CMS 38 network out of order'
    refusal: RefusalClass
    code: str = ""  # 'CMS 38', also where the modem said it in words; "": it gave none


# Codes by whom they speak about; what the service does with each class it decides itself. Behind
# "=" the standard's words, where ours are others: modems say them instead of the number.
_CMS_CODES = """
RECIPIENT:
    1 unassigned number = unassigned (unallocated) number, 21 short message transfer
    rejected, 27 destination out of service, 28 unidentified subscriber, 30 unknown
    subscriber, 111 protocol error = protocol error unspecified, 127 interworking =
    interworking unspecified, 195 invalid address of the recipient = invalid SME address,
    196 recipient barred = destination SME barred, 211 the recipient's memory is full =
    memory capacity exceeded
ACCOUNT:
    8 operator determined barring, 10 call barred, 29 facility rejected, 50 requested
    facility not subscribed, 69 requested facility not implemented, 193 no service centre
    subscription = no SC subscription, 330 service centre address unknown = SMSC address
    unknown
NETWORK:
    17 network failure, 38 network out of order, 194 service centre system failure = SC
    system failure, 331 no network service
TRANSIENT:
    22 congestion, 41 temporary failure, 42 congestion, 47 resources unavailable = resources
    unavailable unspecified, 192 service centre busy = SC busy, 208 the SIM's message storage
    is full = SIM SMS storage full, 212 the SIM's toolkit is busy = SIM application toolkit
    busy, 256 temporarily not allowed, 314 SIM busy, 514 temporary failure, 515
    initialisation in progress, 522 temporarily not allowed
SIM:
    209 the SIM stores no messages = no SMS storage capability in SIM, 310 no SIM = SIM not
    inserted, 311 SIM PIN needed = SIM PIN required, 312 phone-to-SIM PIN needed = PH-SIM PIN
    required, 313 SIM failure, 315 wrong SIM = SIM wrong, 316 SIM PUK needed = SIM PUK
    required, 317 SIM PIN2 needed = SIM PIN2 required, 318 SIM PUK2 needed = SIM PUK2
    required
MODEM:
    210 error in the phone = error in MS, 213 SIM data download error, 255 unspecified error
    = unspecified error cause, 300 modem failure = ME failure, 301 the modem's message
    service is reserved = SMS service of ME reserved, 302 operation not allowed, 303
    operation not supported, 320 memory failure, 321 no such place in the memory = invalid
    memory index, 322 memory full, 340 no acknowledgement expected = no +CNMA
    acknowledgement expected, 500 unknown error, 512 the message could not be set up
OURS:
    81 invalid short message transfer reference = invalid short message transfer reference
    value, 95 semantically incorrect message = invalid message unspecified, 96 invalid
    mandatory information, 97 message type not implemented = message type non-existent or
    not implemented, 98 message not compatible with protocol state = message not compatible
    with short message protocol state, 99 information element not implemented = information
    element non-existent or not implemented, 128 telematic interworking not supported, 129
    short message type 0 not supported, 130 can't replace the message = cannot replace short
    message, 143 protocol identifier not supported = unspecified TP-PID error, 144 alphabet
    not supported = data coding scheme (alphabet) not supported, 145 message class not
    supported, 159 data coding scheme not supported = unspecified TP-DCS error, 160 command
    can't be done = command cannot be actioned, 161 command unsupported, 175 command not
    supported = unspecified TP-command error, 176 TPDU not supported, 198 validity period
    format not supported = TP-VPF not supported, 199 validity period not supported = TP-VP
    not supported, 304 invalid PDU parameter = invalid PDU mode parameter, 305 invalid text
    parameter = invalid text mode parameter, 517 not accepted by the modem
UNKNOWN:
    197 the service centre has this text already = SM rejected-duplicate SM, 332 network
    time-out, 513 no acknowledgement from the network
"""
_CME_CODES = """
ACCOUNT:
    103 illegal SIM = illegal MS, 106 illegal modem = illegal ME, 107 services not allowed =
    GPRS services not allowed, 111 this network is not allowed = PLMN not allowed, 112 this
    area is not allowed = location area not allowed, 113 roaming is not allowed here =
    roaming not allowed in this location area, 262 the SIM is blocked = SIM blocked
NETWORK:
    30 no network service, 32 emergency calls only = network not allowed - emergency calls
    only
TRANSIENT:
    14 SIM busy, 515 initialisation in progress
SIM:
    5 the modem is locked to a SIM = PH-SIM PIN required, 6 the modem is locked to its first
    SIM = PH-FSIM PIN required, 7 the modem is locked to its first SIM by a PUK = PH-FSIM PUK
    required, 10 no SIM = SIM not inserted, 11 SIM PIN needed = SIM PIN required, 12 SIM PUK
    needed = SIM PUK required, 13 SIM failure, 15 wrong SIM = SIM wrong, 16 incorrect
    password, 17 SIM PIN2 needed = SIM PIN2 required, 18 SIM PUK2 needed = SIM PUK2 required,
    40 network personalization PIN required, 41 network personalization PUK required, 42
    network subset personalization PIN required, 43 network subset personalization PUK
    required, 44 service provider personalization PIN required, 45 service provider
    personalization PUK required, 46 corporate personalization PIN required, 47 corporate
    personalization PUK required
MODEM:
    0 phone failure, 1 no connection to phone, 2 link reserved = phone-adaptor link reserved,
    3 operation not allowed, 4 operation not supported, 20 memory full, 21 invalid index, 22
    not found, 23 memory failure, 24 text string too long, 25 invalid characters in text
    string, 26 dial string too long, 27 invalid characters in dial string, 100 unknown error
    = unknown
UNKNOWN:
    31 network time-out
"""


def _read_codes(table: str) -> Mapping[int, tuple[str, RefusalClass]]:
    """Read a table of "CLASS: 38 words, 41 other words ..." into code -> words and class."""
    return {code: (ours, refusal) for code, ours, _, refusal in _list_codes(table)}


def _read_code_words(table: str) -> Mapping[str, int]:
    """Read the same table into words, ours and the standard's, -> code; the lowest of its words."""
    return {
        _plain_words(words): code
        for code, *both, _ in reversed([*_list_codes(table)])
        for words in both
    }


def _list_codes(table: str) -> Iterator[tuple[int, str, str, RefusalClass]]:
    for name, listed in re.findall(r"([A-Z]+):\n((?: .*\n)+)", table):
        for entry in " ".join(listed.split()).split(", "):
            code, words = entry.split(" ", 1)
            ours, _, theirs = words.partition(" = ")
            yield int(code), ours, theirs or ours, RefusalClass[name]


def _plain_words(words: str) -> str:
    """Return what stays of words however a modem spells them: (U)SIM is a SIM, time-out timeout."""
    return re.sub("[^a-z0-9]", "", words.casefold().replace("(u)sim", "sim").replace("usim", "sim"))


CMS_ERRORS, CME_ERRORS = _read_codes(_CMS_CODES), _read_codes(_CME_CODES)
_CMS_WORDS, _CME_WORDS = _read_code_words(_CMS_CODES), _read_code_words(_CME_CODES)
_PLAIN_ERRORS = ("ERROR", "ABORTED", "NO CARRIER", "COMMAND NOT SUPPORT", "TOO MANY PARAMETERS")

# Lines that come by themselves, also between a command and its answer.
_UNSOLICITED = (
    r"RDY|RING|Call Ready|SMS Ready|SMS DONE|PB DONE|QCRDY|\*ATREADY|\*PSUTTZ|DST:|NO CARRIER|"
    r"(NORMAL|UNDER-VOLTAGE|OVER-VOLTAGE) |"
    r"\^(BOOT|RSSI|HCSQ|MODE|SRVST|SIMST|STIN|NWTIME|DSFLOWRPT)|"
    r"\+(QIND|CMTI|CMT|CDS|CDSI|CUSD|CLIP|CTZV|CTZE|CGEV|CRING|CIEV|CFUN|CPIN|PBREADY|ZUSIMR|"
    r"SIMCARD|READY)\b"
)
# What it means to smsbox; ^BOOT is not here: E173 and its like say it all day long.
_REBOOT = r"RDY$|\*ATREADY|(NORMAL|UNDER-VOLTAGE|OVER-VOLTAGE) POWER DOWN|QCRDY|\+READY$"
_SIM_GONE = r"\+CPIN: ?NOT (INSERTED|READY)|\+SIMCARD: ?NOT AVAILABLE|\^SIMST: ?(0|255)\b"
_WEAK_POWER = r"(UNDER|OVER)-VOLTAGE WARNN?ING"  # the makers' spelling has two N
_HEADING = r"\+C(?:MT|DS): *(?:[^,]*,)? *\d+"  # of a text, of a report; TS 27.005 3.4.1
_OPEN_MENU = r'\+CUSD: ?\d, ?"[^"]*'  # TS 27.007 7.15
_MENU_END = r'[^"]*"(?:, ?\d*)?'
_MOST_MENU_LINES = 40
_GLUED = r"(?<=\S)(?=(?:\+CMTI|\+CDSI|\+CREG|\^RSSI|\^HCSQ|\^MODE): )"


def is_unsolicited(line: str) -> bool:
    """True if a line is one that modems say unasked."""
    return bool(re.match(_UNSOLICITED, line))


def is_reboot(line: str) -> bool:
    """True if a line says that the modem has just started or goes off."""
    return bool(re.match(_REBOOT, line))


def is_sim_gone(line: str) -> bool:
    """True if a line says that the SIM was taken out or is out of order."""
    return bool(re.match(_SIM_GONE, line))


def is_weak_power(line: str) -> bool:
    """True if a line complains of the supply voltage."""
    return bool(re.match(_WEAK_POWER, line))


def parse_final(line: str) -> Final | None:
    """Read a final result code; None for any other line.

    >>> parse_final("+CMS ERROR: 38").words
    'CMS 38 network out of order'
    """
    if line == "OK":
        return Final(True, "OK", RefusalClass.MODEM)
    match = re.fullmatch(r"\+(CM[SE]) ERROR:?\s*(.*)", line)
    if match:
        return _parse_error(match[1], match[2].strip())
    if line in _PLAIN_ERRORS or line.startswith("COMMAND NOT SUPPORT"):
        return Final(False, printable(line), RefusalClass.MODEM)
    return None


def _parse_error(kind: str, told: str) -> Final:
    table, known = (CMS_ERRORS, _CMS_WORDS) if kind == "CMS" else (CME_ERRORS, _CME_WORDS)
    number = known.get(_plain_words(told))  # some modems keep words whatever +CMEE says
    if re.fullmatch("[0-9]+", told):
        number = int(told[:9])
    if number is None:
        words = f"{kind} {printable(told) or 'error without a code'}"
        return Final(False, words, RefusalClass.MODEM)
    # Codes of the makers' own, from 500 on, differ from maker to maker: the modem is blamed.
    words, refusal = table.get(number, ("unknown code", RefusalClass.MODEM))
    return Final(False, f"{kind} {number} {words}", refusal, f"{kind} {number}")


def parse_fields(line: str) -> list[str]:
    """Return the fields of an information response, without quotes.

    >>> parse_fields('+CPMS: "SM",3,20')
    ['SM', '3', '20']
    """
    return [each.strip().strip('"') for each in line.partition(":")[2].split(",")]


def parse_registration(line: str) -> int | None:
    """Read <stat> of a +CREG?, +CEREG? or +CGREG? answer, TS 27.007 7.2; None for a URC.

    >>> parse_registration("+CREG: 0,1"), parse_registration("+CREG: 5")
    (1, None)
    """
    given = parse_fields(line)
    if len(given) < 2 or not re.fullmatch("[0-9]{1,3}", given[1]) or '"' in line.split(",")[1]:
        return None
    return int(given[1])


# === 10 Modem ====================================================================================
# The conversation with one modem: find its port, attach, is it ready, submit a segment, read and
# delete what is stored. One command at a time; a command names the prefix of its answer, and any
# other line is a notice, so that an answer is never taken from a stray line. It does not know SQL,
# campaigns or the pace; it waits through the clock it is given.

# USB identity -> the interface with the AT port, as in the udev rules of ModemManager 1.24 and the
# qcserial driver of Linux (Sierra); product None: any other of that maker.
_USB_AT_INTERFACE: Mapping[tuple[str, str | None], str] = {
    ("1e0e", "9001"): "02",  # SimCom SIM7600, SIM7100, SIM7000
    ("1e0e", "9205"): "02",  # SimCom SIM7070, SIM7080
    ("1e0e", "9206"): "02",
    ("1e0e", "9011"): "04",  # SimCom A7600, A7670
    ("2c7c", None): "02",  # Quectel EC25, EG25, EG91, BG96
    ("19d2", "0108"): "03",  # ZTE
    ("19d2", "0117"): "02",  # ZTE MF190
    ("1546", "1010"): "06",  # u-blox TOBY-L4
    ("1546", "1102"): "00",  # u-blox SARA-U2
    ("1546", "1107"): "00",  # u-blox TOBY-R2
    ("1546", "110a"): "00",  # u-blox LARA-R2
    ("1bc7", "0021"): "00",  # Telit HE910, UE910
    ("1bc7", "1003"): "00",  # Telit UC864
    ("1bc7", "1201"): "04",  # Telit LE910
    ("1199", None): "03",  # Sierra MC7304, MC7455
}
# Huawei tells its AT port by the interface's protocol, wherever that lies.
_HUAWEI, _HUAWEI_AT_PROTOCOLS = "12d1", ("02", "12", "52", "62")
_UARTS = ("/dev/serial0", "/dev/ttyAMA0", "/dev/ttyS0")
_REGISTERED = {  # <stat> of TS 27.007 7.2; 6 and 7 are all we want
    1: "at home", 5: "roaming", 6: "for SMS only", 7: "for SMS only, roaming",
    9: "at home, no fallback", 10: "roaming, no fallback",
}  # fmt: skip
_EMERGENCY_ONLY = (8, 11)  # the network lets the SIM in for nothing else
_ACCESS = {"0": "2G", "1": "2G", "2": "3G", "3": "2G", "4": "3G", "5": "3G", "6": "3G", "7": "LTE"}
BAUD_RATES = (115200, 9600, 57600, 38400, 19200, 460800, 230400, 921600)  # the likely ones first
_PROMPT_S = 10.0
_LATE_ERROR_S = 20.0
_ANY_LINE = "*"
_MOST_OCTETS = 1_000_000  # of an answer; more is noise
_OCTETS_A_TURN = 65_536  # that came unasked
_STOP_HEARD_S = 0.5
_MOST_PLACES = 255  # of a memory that does not tell how many it has
_TRIES_OF_A_PLACE = 3


class Quirk(NamedTuple):
    """What a family of modems, known by its +CGMI and +CGMM words, needs in its own way."""

    model: str  # a pattern
    set_up: tuple[str, ...] = ()
    restart: str = "AT+CFUN=1,1"
    note: str = ""  # what the operator should know


# What is not here every modem gets: each setting is tried, and what is refused is done without.
QUIRKS = (
    # E173, E3372: ^RSSI, ^HCSQ and ^MODE come several times a minute, between command and answer.
    Quirk("huawei", set_up=("AT^CURC=0",)),
    # SIM7600, A7670: after AT+CFUN=1,1 some firmware answers but never registers again.
    Quirk("SIM7[1568]|A76", restart="AT+CRESET"),
    # SIM7000, SIM7080: the maker says that they have no SMS function; some networks carry it.
    Quirk("SIM70", note="the maker promises no SMS on this model"),
)


def find_quirk(model: str) -> Quirk:
    """Return the quirk of a model; a plain one where there is none.

    >>> find_quirk("SIMCOM INCORPORATED SIMCOM_SIM7600G-H").restart
    'AT+CRESET'
    """
    plain = Quirk("")
    return next((each for each in QUIRKS if re.search(f"(?i){each.model}", model)), plain)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the modem and its SIM are; "" where it does not tell."""

    model: str = ""
    imei: str = ""
    iccid: str = ""
    operator: str = ""


def find_port(wanted: str, sys_tty: Path = Path("/sys/class/tty")) -> str:
    """Return the device of the modem; PortLost where there is none, or more than one.

    What is wanted by name is taken at its word while it is there. "auto" is the AT port of a known
    USB modem, else the UART of the Pi: an unknown device is never talked to, but named, with the
    line for the config.
    """
    if wanted != "auto" and (":" in wanted or os.path.exists(wanted)):
        return wanted
    known, _ = _find_adapters(sys_tty)
    lines = _write_lines(known)
    if wanted != "auto":
        there = f"; another is there: {lines}" if lines else ""
        raise PortLost(f"{wanted} is not there: is the modem plugged in and powered?{there}")
    if len(known) > 1:
        raise PortLost(f"there are {len(known)} modems: put {lines} into [modem] of the config")
    if known:
        return known[0]
    for uart in _UARTS:
        if Path(uart).exists() and sys_tty == Path("/sys/class/tty"):
            return uart
    nothing = "no modem is plugged in that is known: plug one in, or name its port in [modem]"
    raise PortLost(name_unknown(sys_tty) or nothing)


def name_unknown(sys_tty: Path = Path("/sys/class/tty")) -> str:
    """Return the unknown USB serial adapters, with the line for the config; "": none."""
    _, unknown = _find_adapters(sys_tty)
    if not unknown:
        return ""
    are = "is" if len(unknown) == 1 else "are"
    return (
        f"{' and '.join(unknown)} {are} there and not known: if it is the modem, put"
        f" {_write_lines(unknown)} into [modem] of the config"
    )


def _write_lines(names: Iterable[str]) -> str:
    return " or ".join(f'port = "{name_lastingly(name)}"' for name in names)


def _find_adapters(sys_tty: Path) -> tuple[list[str], list[str]]:
    """Return the AT ports of known USB modems, and a port of each other USB serial adapter."""
    known: dict[str, str] = {}
    others: dict[str, str] = {}
    for tty in sorted(sys_tty.glob("tty[UA][SC][BM]*")):
        interface = (tty / "device").resolve()
        folders = (interface, *interface.parents[:3])
        device = next(filter(_is_usb, folders), interface)
        others.setdefault(str(device), f"/dev/{tty.name}")
        for folder in filter(_is_at_interface, folders):
            known[str(folder.parent)] = f"/dev/{tty.name}"
    return sorted(known.values()), sorted(others[key] for key in others if key not in known)


def _is_usb(folder: Path) -> bool:
    return (folder / "idVendor").exists()


def _is_at_interface(folder: Path) -> bool:
    number = _read_word(folder / "bInterfaceNumber")
    vendor = _read_word(folder.parent / "idVendor")
    product = _read_word(folder.parent / "idProduct")
    if vendor == _HUAWEI:
        return _read_word(folder / "bInterfaceProtocol") in _HUAWEI_AT_PROTOCOLS
    known = _USB_AT_INTERFACE.get((vendor, product), _USB_AT_INTERFACE.get((vendor, None), "none"))
    return number == known


def is_uart(name: str) -> bool:
    """True if a port is a UART, whose baud rate matters; USB modems take any."""
    return bool(re.match(r"/dev/tty(S|AMA)\d", os.path.realpath(name)))


def name_lastingly(port: str, links: Path = Path("/dev/serial/by-path")) -> str:
    """Return the name of a device that stays when it is plugged in again; else its own."""
    with suppress(OSError):
        for link in sorted(links.iterdir()):
            if os.path.realpath(link) == os.path.realpath(port):
                return str(link)
    return port


def _read_word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


class Notices(NamedTuple):
    """What a modem said unasked."""

    restarted: bool
    memories: frozenset[str]  # where texts or reports have come in; "": it can't be told
    is_stored_nowhere: bool = False  # a text has come that the modem has no place for
    sim_gone: bool = False
    weak_power: bool = False
    tpdus: tuple[str, ...] = ()  # that came by themselves, stored nowhere


class Contents(NamedTuple):
    """What lies in a memory of the modem's."""

    whole: list[StoredTpdu]  # one a place
    fragments: list[StoredTpdu]  # what is not known to be all that lies at its place
    missing: int  # so many more it counts than were read or set aside
    used: int  # places that were taken
    places: int


class Conversation:
    """One command at a time over one open port, and the hand-over of a text.

    A command names the prefix of its answer; any other line is a notice, kept until it is asked
    for. After PortLost the conversation is thrown away.
    """

    def __init__(self, port: Port, clock: Clock, send_timeout_s: float, patience: int) -> None:
        self._port = port
        self._clock = clock
        self._send_timeout_s = send_timeout_s
        self._patience = patience  # how often a silent modem is called
        self._parser = LineParser()
        self._lines: deque[str] = deque()
        self._notices: deque[str] = deque(maxlen=1000)
        self._out_of_step = False  # a late answer may still come
        self._may_stop = True

    def command(
        self, text: str, prefix: str = "", timeout_s: float = 5.0, *, has_texts: bool = False
    ) -> list[str]:
        """Send a command and give the lines of its information response.

        prefix: how they begin; "*": any line that is not a known URC; "": there are none.
        has_texts: lines that begin otherwise may stand below them. Raises Refused, NoAnswer and
        PortLost.
        """
        if self._out_of_step:
            self.resynchronize()
        self.listen()
        self._write(text)
        answer: list[str] = []
        for line in self._read_lines(timeout_s):
            final = parse_final(line)
            if final and final.ok:
                return answer
            if final:
                raise Refused(final.refusal, final.words, final.code)
            if line == text:  # echo
                continue
            follows = has_texts and bool(answer) and not is_unsolicited(line)
            wanted = line.startswith(prefix) or (prefix == _ANY_LINE and _may_answer(text, line))
            if prefix and (wanted or follows):
                answer.append(line)
            else:
                self._note(line)
        self._out_of_step = True
        if answer:  # Wavecom: an answer whose OK never comes
            return answer
        raise NoAnswer(f"the modem does not answer {_mask_secrets(text)}")

    def ask(self, text: str, prefix: str = _ANY_LINE, timeout_s: float = 5.0) -> str:
        """Send a command that not every modem knows; the first line of its answer, else ""."""
        with suppress(Refused, NoAnswer):
            answer = self.command(text, prefix, timeout_s)
            return answer[0] if answer else ""
        return ""

    def listen(self) -> None:
        """Take in what the modem said unasked; never waits, and leaves what is too much."""
        left = _OCTETS_A_TURN
        while left > 0 and (count := self._read()):
            left -= count
        self._note_all_lines()
        self._parser.take_prompt()

    def take_notices(self) -> Notices:
        """Give, once, what the lines that came unasked mean."""
        lines = list(self._notices)
        self._notices.clear()  # but for take_late_reference
        self._notices.extend(line for line in lines if line.startswith("+CMGS:"))
        told = [line for line in lines if re.match(r"\+C(MT|DS)I:", line)]
        named = (re.match(r'\+C(?:MT|DS)I: *"([A-Z]{2})"', line) for line in told)
        direct = (re.match(rf"(?:{_HEADING})\n(.*)", line) for line in lines)
        return Notices(
            any(map(is_reboot, lines)),
            frozenset(each[1] if each else "" for each in named),
            any(re.match(_STORED_NOWHERE, line) for line in told),
            any(map(is_sim_gone, lines)),
            any(map(is_weak_power, lines)),
            tuple(each[1] for each in direct if each),
        )

    def _note(self, line: str) -> None:
        self._notices.append(line)

    def _write(self, text: str, end: bytes = b"\r") -> None:
        self._trace(">", [text])
        self._port.write(text.encode("ascii") + end)

    def _read(self) -> int:
        """Take in what has arrived; return how many octets."""
        data = self._port.read()
        lines = self._parser.feed(data)
        self._trace("<", lines)
        self._lines.extend(lines)
        return len(data)

    def _trace(self, way: str, lines: Iterable[str]) -> None:
        if logging.root.isEnabledFor(logging.DEBUG):
            for line in lines:
                logging.debug("AT%s %s", way, _mask_secrets(line))

    def _read_lines(self, timeout_s: float) -> Iterator[str]:
        """Return lines until the deadline, which incoming bytes do not extend."""
        deadline, left = self._clock.monotonic() + timeout_s, _MOST_OCTETS
        while True:
            while self._lines:
                yield self._lines.popleft()
            if not self._wait(deadline):
                return
            left -= self._read()
            if left < 0 and self._may_stop:
                raise PortLost(
                    "it talks without end: is this its AT port, and the baud rate right?"
                )

    def _wait(self, deadline: float) -> bool:
        """Wait for bytes; False if none come. A stop is heard, unless a text or a PIN is with the
        modem."""
        while True:
            now = self._clock.monotonic()
            if self._may_stop:
                self._clock.until(now)
            until = min(deadline, now + _STOP_HEARD_S)
            if self._clock.until(until, self._port, interruptible=False):
                return True
            if until >= deadline:
                return False

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Hear no stop meanwhile: what comes of it must be known."""
        self._may_stop = False
        try:
            yield
        finally:
            self._may_stop = True

    def _drain_until_quiet(self, quiet_s: float, at_most_s: float = 5.0) -> None:
        end = self._clock.monotonic() + at_most_s
        while self._clock.monotonic() < end:
            if not self._wait(self._clock.monotonic() + quiet_s):
                break
            self.listen()
        self.listen()

    def resynchronize(self) -> None:
        """Come into step again: leave a prompt, let late answers pass, see a fresh OK.

        A modem that stays silent is given up as PortLost: opening the port again may help.
        """
        for _ in range(self._patience):
            self._port.write(ESCAPE + b"\r")
            self._drain_until_quiet(0.3)
            self._write("AT")
            for line in self._read_lines(1.0):
                if line == "OK":
                    self._drain_until_quiet(0.1)
                    self._out_of_step = False
                    return
                self._note(line)  # it may be the late answer to a text
        raise PortLost("the modem is silent: is it powered, and is this its AT port?")

    def take_late_reference(self) -> int | None:
        """Return the message reference that came after its time, once."""
        for line in list(self._notices):
            if match := re.match(r"\+CMGS:\s*(\d+)", line):
                self._notices.remove(line)
                return int(match[1]) & 0xFF
        return None

    def await_notice(self, pattern: str, timeout_s: float) -> re.Match[str] | None:
        """Wait for a line that comes unasked; None if it does not."""
        deadline = self._clock.monotonic() + timeout_s
        while True:
            self.listen()
            for line in self._notices:
                if told := re.match(pattern, line):
                    return told
            if not self._clock.until(deadline, self._port):
                return None

    # --- a text

    def submit(self, pdu: str, octets: int) -> MessageReference:
        """Hand over one segment; the message reference that the modem gave it.

        NoAnswer, Refused and PortLost: it was surely not sent. OutcomeUnknown: it may have been.
        """
        with self.undisturbed():
            return self._submit(pdu, octets)

    def _submit(self, pdu: str, octets: int) -> MessageReference:
        if self._out_of_step:
            self.resynchronize()
        self.listen()
        self._write(f"AT+CMGS={octets}")
        self._await_prompt()
        try:
            self._write(pdu, CTRL_Z)
            return self._await_reference(pdu)
        except PortLost as lost:
            raise OutcomeUnknown(f"the port was lost after the hand-over ({lost})") from lost

    def _await_prompt(self) -> None:
        deadline = self._clock.monotonic() + _PROMPT_S
        while not self._parser.take_prompt():
            while self._lines:
                line = self._lines.popleft()
                if line == ">":  # something unasked followed at once
                    return self._note_all_lines()
                final = parse_final(line)
                if final and not final.ok:
                    raise Refused(final.refusal, final.words, final.code)
                if is_reboot(line):
                    self._out_of_step = True
                    raise NoAnswer("the modem started anew")
                if not line.startswith("AT+CMGS"):
                    self._note(line)
            if not self._clock.until(deadline, self._port, interruptible=False):
                self._port.write(ESCAPE)
                self._out_of_step = True
                raise NoAnswer("the modem does not ask for the text")
            self._read()
        return self._note_all_lines()

    def _note_all_lines(self) -> None:
        """What came before the prompt says nothing of the text that follows."""
        while self._lines:
            self._note(self._lines.popleft())

    def _await_reference(self, pdu: str) -> MessageReference:
        """Wait for +CMGS: after Ctrl-Z, and half as long again for a late one."""
        begun = self._clock.monotonic()
        for line in self._read_lines(self._send_timeout_s * 1.5):
            match = re.match(r"\+CMGS:\s*(\d+)", line)
            if match:
                self._await_ok()
                return MessageReference(int(match[1]) & 0xFF)
            final = parse_final(line)
            if final and not final.ok:  # an OK alone belongs to an earlier command
                self._judge_refusal(final, self._clock.monotonic() - begun)
            if is_reboot(line):
                self._note(line)
                self._out_of_step = True
                raise OutcomeUnknown("the modem started anew after the hand-over")
            if pdu not in line:  # echo
                self._note(line)
        self._out_of_step = True
        raise OutcomeUnknown("the modem gave no result")

    def _judge_refusal(self, final: Final, after_s: float) -> None:
        """After Ctrl-Z a time-out of the network, an error without a code of the network's, or one
        that comes late and blames the modem may all hide a sent text."""
        blamed = final.refusal is RefusalClass.MODEM
        not_of_the_network = blamed and not final.code.startswith("CMS")
        late = blamed and after_s > _LATE_ERROR_S
        if final.refusal is RefusalClass.UNKNOWN or not_of_the_network or late:
            raise OutcomeUnknown(f"the modem said {final.words} after the hand-over")
        raise Refused(final.refusal, final.words, final.code)

    def _await_ok(self) -> None:
        """The reference is the proof; an OK that never comes only costs a resynchronisation."""
        self._out_of_step = True
        with suppress(PortLost):  # the next command meets it again
            for line in self._read_lines(5.0):
                if line == "OK":
                    self._out_of_step = False
                    return
                self._note(line)


class Modem:
    """What smsbox wants of a modem: attach, look at the network, heal, read what is stored."""

    def __init__(
        self, port: Port, clock: Clock, settings: ModemSettings, patience: int = 10
    ) -> None:
        self.identity = Identity()
        self.signal_dbm: int | None = None
        self.registration = ""  # in words; "" while there is none
        self.access = ""  # 'LTE', '3G', '2G'
        self.service_centre = ""
        self.storage_full = False
        self.pin_was_refused = False
        self.delivery_reports = False  # whether the modem will tell of them
        self.tells_of_texts = False  # in whatever way
        self.stores_texts = True  # False: they are to come by themselves
        self.stores_reports = True
        self.closed: set[str] = set()  # memories in which texts came in, and that do not open
        self.is_awaited = False  # a text has come that it has no place for
        self._failures: Counter[tuple[str, int]] = Counter()  # of a memory's place, so far
        self._is_ucs2 = False  # what it says in quotation marks is hex
        self._clock = clock
        self._settings = settings
        self._talk = talk = Conversation(port, clock, settings.send_timeout_seconds, patience)
        # The conversation's own words, so that a caller needs to know only one of the two.
        self.command, self.ask, self.submit = talk.command, talk.ask, talk.submit
        self.listen, self.take_notices = talk.listen, talk.take_notices
        self.take_late_reference = talk.take_late_reference

    # --- attaching

    def attach(self, may_try_pin: bool = True) -> None:
        """Bring the modem into a known state; NotReady says what it lacks."""
        self.greet()
        self.unlock(lambda: may_try_pin)
        self.set_up()

    def greet(self) -> None:
        """Come into step and learn who it is; a locked SIM tells its ICCID on most modems."""
        self._talk.resynchronize()
        for text in ("ATE0", "ATV1", "AT+CMEE=1", "ATS0=0", "AT+CLIP=0", "AT+CMMS=0"):
            self.ask(text)
        told = (re.sub(r"^\+CGM[IM]:", "", self.ask(f"AT+CGM{part}")) for part in "IM")
        model = " ".join(filter(None, (each.strip(' "') for each in told)))
        self.identity = Identity(model=printable(model), imei=_digits(self.ask("AT+CGSN")))
        for text in find_quirk(model).set_up:
            self.ask(text)
        self._choose_letters()
        if parse_fields(self.ask("AT+CFUN?", "+CFUN:"))[:1] in (["0"], ["4"]):
            self.ask("AT+CFUN=1", timeout_s=15)
        self._read_iccid()

    def set_up(self) -> None:
        """Choose PDU mode and notices, once the SIM is unlocked."""
        self._set_pdu_mode()
        self._find_service_centre()
        self.stores_texts = self.stores_reports = True
        self.is_awaited = False
        self._failures.clear()
        self.closed.clear()
        self.choose_notices()
        if not self.identity.iccid:
            self._read_iccid()

    def _read_iccid(self) -> None:
        forms = ("AT+CCID", "AT+ICCID", "AT+QCCID", "AT^ICCID?")
        iccid = next((found for form in forms if (found := _find_iccid(self.ask(form)))), "")
        self.identity = replace(self.identity, iccid=iccid)

    def check_network(self) -> None:
        """Look for SIM, registration, signal and the way in; NotReady says what is lacking."""
        state = self._ask_sim()
        if state not in _SIM_WORKS and state != "ERROR":
            self._judge_sim(state)
            raise NotReady(Fault.SIM, f"the SIM does not answer any more ({state})")
        strength = parse_fields(self.ask("AT+CSQ", "+CSQ:"))[0]
        level = int(strength) if strength.isascii() and strength.isdigit() else 99
        self.signal_dbm = 2 * level - 113 if level <= 31 else None  # TS 27.007 8.5
        self._check_registration()
        if not self.identity.operator:
            cells = [*parse_fields(self.ask("AT+COPS?", "+COPS:", 10)), "", "", "", ""]
            operator = printable(self._read_name(cells[2]))
            self.identity = replace(self.identity, operator=operator)
            self.access = _ACCESS.get(cells[3], "")
        self._check_way_in()

    def _check_registration(self) -> None:
        states: dict[str, int] = {}
        for name in ("CREG", "CEREG", "CGREG"):
            with suppress(Refused):
                for line in self.command(f"AT+{name}?", f"+{name}:"):
                    state = parse_registration(line)
                    if state is not None:
                        states[name] = state
            if states.get(name) in _REGISTERED:
                self.registration = _REGISTERED[states[name]]
                return
        self.registration = ""
        self.identity = replace(self.identity, operator="")
        if any(state in _EMERGENCY_ONLY for state in states.values()):
            words = "the network lets this SIM make emergency calls only: ask its operator"
            raise NotReady(Fault.NO_NETWORK, words)
        if 3 in states.values():
            raise NotReady(Fault.NO_NETWORK, "the network denies this SIM: ask its operator")
        if states:
            raise NotReady(Fault.NO_NETWORK, "not registered: check antenna and coverage")

    def _check_way_in(self) -> None:
        """A modem that forgot its notices, or whose storage is full, takes in no STOP."""
        if not self._has_notices():
            self.choose_notices()
        used = parse_fields(self.ask("AT+CPMS?", "+CPMS:"))
        used = used[7:9] or used[1:3]  # the memory that new texts go to is the third
        self.storage_full = len(used) == 2 and used[0] == used[1] != "0"

    def _has_notices(self) -> bool:
        """True unless the modem says that it does not tell of texts."""
        told = parse_fields(self.ask("AT+CNMI?", "+CNMI:"))
        is_silent = len(told) > 1 and (told[1] == "0" or (told[0] == "0" and told[1] != "2"))
        self.tells_of_texts |= len(told) > 1 and not is_silent
        return not is_silent

    # --- healing

    def reset_radio(self) -> None:
        """Switch the radio off and on: the modem looks for a network afresh."""
        self.ask("AT+CFUN=4", timeout_s=15)
        self._clock.until(self._clock.monotonic() + 5)
        self.ask("AT+CFUN=1", timeout_s=15)

    def restart(self) -> None:
        """Let the modem start anew; its port goes and comes back."""
        self.ask(find_quirk(self.identity.model).restart)

    def ask_balance(self, code: str) -> tuple[str, str | None]:
        """Send a USSD code like '*100#' and give the network's answer with its coding; "": none.

        Refused: the modem or the network does not know such codes.
        """
        self.command(f'AT+CUSD=1,"{self._write_name(code)}",15', timeout_s=30)
        told = self._talk.await_notice(_USSD_END, 30)
        if told is None:
            return "", None
        if told["end"]:
            raise Refused(RefusalClass.NETWORK, _USSD_REFUSALS[told["end"]])
        return told["text"], told["coding"]

    def unlock(self, may_try: Callable[[], bool]) -> None:
        """Wait for the SIM; NotReady says what it lacks. may_try() is asked before its PIN is
        given."""
        for _ in range(15):  # a SIM that has just got power says "failure" or "busy" first
            state = self._ask_sim()
            if state in _SIM_WORKS:
                return
            if state == "SIM PIN":
                self._enter_pin(may_try)
                continue
            self._judge_sim(state)
            self._clock.until(self._clock.monotonic() + 2)
        raise NotReady(Fault.SIM, f"no usable SIM ({state}): push it in, contacts down")

    def _judge_sim(self, state: str) -> None:
        """NotReady for a state in which waiting does not help."""
        if state in ("SIM PUK", "BLOCKED"):
            raise NotReady(Fault.SIM, f"the SIM wants its PUK ({state}): unlock it in a phone")
        if state.startswith(("PH-SIM", "PH-FSIM")):
            words = f"the modem is locked to another SIM ({state}): have it unlocked"
            raise NotReady(Fault.SIM, words)
        if state.startswith("PH-"):
            words = f"the modem is locked to another operator ({state}): use a SIM of that operator"
            raise NotReady(Fault.SIM, f"{words}, or have it unlocked")

    def _ask_sim(self) -> str:
        """Return a state of +CPIN, TS 27.007 8.3, also where it came as an error."""
        try:
            answer = self.command("AT+CPIN?", "+CPIN:", 10)
        except Refused as refused:
            return _SIM_ERRORS.get(refused.code, str(refused))
        return printable(",".join(parse_fields(answer[0]))) if answer else "READY"

    def _enter_pin(self, may_try: Callable[[], bool]) -> None:
        if not self._settings.sim_pin:
            raise NotReady(Fault.SIM, "the SIM wants a PIN: put sim_pin into [modem]")
        if self.pin_was_refused or not may_try():
            raise NotReady(
                Fault.SIM,
                "the SIM refused this PIN, or its answer was lost: look at sim_pin, restart, then"
                " smsbox resume",
            )
        try:
            with self._talk.undisturbed():
                self.command(f'AT+CPIN="{self._settings.sim_pin}"', timeout_s=30)
        except (Refused, NoAnswer) as refused:
            self.pin_was_refused = True  # three wrong ones lock the SIM: never a second try
            raise NotReady(
                Fault.SIM, f"the SIM refused the PIN ({refused}): correct sim_pin, then restart"
            ) from refused

    def _set_pdu_mode(self) -> None:
        for _ in range(30):
            with suppress(Refused):
                self.command("AT+CMGF=0")
                return
            self._clock.until(self._clock.monotonic() + 1)  # A7670 while its SIM wakes up
        raise NotReady(Fault.NO_MODEM, "the modem refuses PDU mode (AT+CMGF=0)")

    def _choose_letters(self) -> None:
        """Let it say names in plain letters, TS 27.007 5.5."""
        if "UCS2" in self.ask("AT+CSCS?", "+CSCS:"):
            self.ask('AT+CSCS="GSM"')
            self._is_ucs2 = "UCS2" in self.ask("AT+CSCS?", "+CSCS:")

    def _read_name(self, said: str) -> str:
        """Read what stands in quotation marks; some modems keep to UCS-2 whatever they are told."""
        is_hex = re.fullmatch("(?:[0-9A-Fa-f]{4})+" if self._is_ucs2 else _PLAIN_UCS2, said)
        return bytes.fromhex(said).decode("utf-16-be", "replace") if is_hex else said

    def _write_name(self, text: str) -> str:
        return text.encode("utf-16-be").hex().upper() if self._is_ucs2 else text

    def _find_service_centre(self) -> None:
        if self._settings.smsc:
            self.ask(f'AT+CSCA="{self._write_name(self._settings.smsc)}"')
        centre = self.ask("AT+CSCA?", "+CSCA:")
        self.service_centre = printable(self._read_name(parse_fields(centre)[0]))
        if centre and not self.service_centre:
            raise NotReady(Fault.ACCOUNT, "the SIM knows no service centre: put smsc into [modem]")

    # --- the way in

    def choose_notices(self) -> None:
        """Ask to be told of what comes in, TS 27.005 3.4.1, by the first way that the modem takes.

        Stored first, then told (+CMTI, +CDSI) is the safest: only what comes by itself (+CMT, +CDS)
        needs an acknowledgement.
        """
        told = re.findall(r"\(([^()]*)\)", self.ask("AT+CNMI=?", "+CNMI:"))
        known = [_read_range(each) for each in told] if len(told) == 5 else None
        kinds = "210" if self.stores_reports else "10"
        kinds = kinds if self._settings.delivery_reports else "021"
        for setting in _list_notices(known, "132" if self.stores_texts else "213", kinds):
            _, way, _, kind, _ = setting
            if way == "2":
                self.ask("AT+CSMS=1")  # what is not acknowledged comes again
            with suppress(Refused):
                self.command(f"AT+CNMI={','.join(setting)}")
                self.tells_of_texts, self.delivery_reports = True, kind != "0"
                return
        self.tells_of_texts = self.delivery_reports = False
        self._has_notices()

    def list_memories(self) -> list[str]:
        """Return the memories in which something may be stored: first that of new texts."""
        used = parse_fields(self.ask("AT+CPMS?", "+CPMS:"))
        first = used[6] if len(used) > 6 and re.fullmatch("[A-Z]{2}", used[6]) else ""
        known = re.findall('"([A-Z]{2})"', self.ask("AT+CPMS=?", "+CPMS:").partition(")")[0])
        return [first, *(each for each in known if each in ("SM", "ME", "SR") and each != first)]

    def count_stored(self) -> list[str]:
        """Return how many places are taken in the memories that it has turned to."""
        return parse_fields(self.ask("AT+CPMS?", "+CPMS:"))[1::3]

    def choose_memory(self, memory: str) -> tuple[int | None, int | None]:
        """Turn to a memory; "": the one in use. Return how many of its places are taken, and how
        many it has; None where it does not tell. Refused: it has no such memory."""
        lines = self.command(f'AT+CPMS="{memory}"' if memory else "AT+CPMS?", "+CPMS:")
        fields = parse_fields(lines[0]) if lines else []
        numbers = [int(each) for each in fields if re.fullmatch("[0-9]{1,5}", each)]
        return (numbers[0], numbers[1]) if len(numbers) > 1 else (None, None)

    def read_memory(self, memory: str) -> Contents:
        """Read all that lies in a memory: by its list, and place by place what that does not give.

        Refused: it has no such memory, or can't list it now.
        """
        used, places = self.choose_memory(memory)
        if places == 0:
            return Contents([], [], 0, 0, 0)
        try:
            listed = self._list_stored(memory)
        except (Refused, NoAnswer) as error:
            if isinstance(error, Refused) and error.refusal is RefusalClass.TRANSIENT:
                raise
            listed = None
        entries = listed or []
        whole = {each.place: each for each in entries if each.is_whole}
        wanted = len(entries) if used is None else used
        fragments: list[StoredTpdu] = []
        if listed is None or len(whole) < max(wanted, len(entries)):
            whole, fragments = {}, entries  # of a list that does not add up nothing is believed
            self.ask("AT+CMGF=0")  # it may have forgotten
            is_blind = listed is None and used is None
            suspects = sorted({each.place for each in entries})
            for place in [*suspects, *range((places or _MOST_PLACES) + 1)]:
                aside = self.find_set_aside(memory)
                is_enough = len(whole.keys() | aside) >= wanted
                if is_enough and not is_blind and place not in suspects:
                    break
                if place in whole or place in aside:
                    continue
                if found := self._read_place(memory, place):
                    fragments += [] if found.is_whole else [found]
                    whole |= {place: found} if found.is_whole else {}
        for place in whole:
            self._failures.pop((memory, place), None)
        missing = wanted - len(whole.keys() | self.find_set_aside(memory))
        return Contents([*whole.values()], fragments, max(0, missing), used or 0, places or 0)

    def _list_stored(self, memory: str) -> list[StoredTpdu]:
        lines = self.command("AT+CMGL=4", "+CMGL:", 60, has_texts=True)
        return [
            _read_entry(memory, int(heading[0]), heading[1:], below)
            for heading, below in _part_entries(lines, "+CMGL:")
            if re.fullmatch("[0-9]{1,5}", heading[0])
        ]

    def _read_place(self, memory: str, place: int) -> StoredTpdu | None:
        """Read one place; None: nothing is there, or it answers with an error."""
        key = memory, place
        try:
            lines = self.command(f"AT+CMGR={place}", "+CMGR:", has_texts=True)
        except (Refused, NoAnswer) as error:
            if not (isinstance(error, Refused) and error.code in _NOTHING_THERE):
                self._failures[key] += 1
            return None
        for heading, below in _part_entries(lines, "+CMGR:"):
            if below:
                found = _read_entry(memory, place, heading, below)
                self._failures[key] += not found.is_whole
                return found
        return None

    def find_set_aside(self, memory: str) -> set[int]:
        """Return the places that could not be read so often that they are not tried again."""
        return {
            place
            for (name, place), count in self._failures.items()
            if name == memory and count >= _TRIES_OF_A_PLACE
        }

    def delete_stored(self, stored: StoredTpdu) -> None:
        """Delete a TPDU that is safe elsewhere, of the memory that was chosen."""
        self.ask(f"AT+CMGD={stored.place}")

    def let_texts_come_directly(self) -> None:
        """A text has come that the modem has no place for: the next ones it is to hand over."""
        self.is_awaited = True
        if self.stores_texts:
            self.stores_texts = False
            self.choose_notices()

    def let_reports_come_directly(self) -> None:
        """The memory of reports has no room."""
        if self.stores_reports:
            self.stores_reports = False
            self.choose_notices()

    def lacks_reports(self) -> bool:
        """True if delivery reports are wanted and can't come."""
        return self._settings.delivery_reports and not self.delivery_reports

    def explain_silence(self) -> str:
        """Return why it is not heard of what comes in; "": it is."""
        if self.is_awaited:
            return f"a text has come that it has no place for: {_WHAT_TO_DO}"
        if self.tells_of_texts:
            return ""
        return "it takes no way of telling that a text has come (AT+CNMI): nothing is sent with it"

    def acknowledge(self) -> None:
        """Tell the network that a TPDU which came by itself is safe; else it repeats it."""
        self.ask("AT+CNMA", "")


# --- what a modem says of itself and of what it stores

_SIM_WORKS = ("READY", "SIM PIN2", "SIM PUK2")  # a text needs no PIN2
_SIM_ERRORS = {  # the same states as errors, TS 27.007 9.2 and TS 27.005 3.2.5
    "CME 5": "PH-SIM PIN", "CME 6": "PH-FSIM PIN", "CME 7": "PH-FSIM PUK", "CME 11": "SIM PIN",
    "CME 12": "SIM PUK", "CME 17": "SIM PIN2", "CME 18": "SIM PUK2", "CME 40": "PH-NET PIN",
    "CME 41": "PH-NET PUK", "CME 42": "PH-NETSUB PIN", "CME 43": "PH-NETSUB PUK",
    "CME 44": "PH-SP PIN", "CME 45": "PH-SP PUK", "CME 46": "PH-CORP PIN", "CME 47": "PH-CORP PUK",
    "CMS 311": "SIM PIN", "CMS 312": "PH-SIM PIN", "CMS 316": "SIM PUK", "CMS 317": "SIM PIN2",
    "CMS 318": "SIM PUK2",
}  # fmt: skip
_NOTHING_THERE = ("CMS 321", "CME 21", "CME 22")
_WHAT_TO_DO = "nothing is sent meanwhile; start it anew, or empty its memory in a phone"
_STORED_NOWHERE = r'\+CMTI: *(?:"\w*")? *,? *(?:-|$)'
_PLAIN_UCS2 = "(?:00[2-7][0-9A-Fa-f])+"


def _read_range(listed: str) -> frozenset[str]:
    """Read the values of one digit that a test command lists.

    >>> sorted(_read_range("0-2,4"))
    ['0', '1', '2', '4']
    """
    found = re.findall("([0-9])(?: *- *([0-9]))?", listed)
    return frozenset(
        str(each) for first, last in found for each in range(int(first), int(last or first) + 1)
    )


def _list_notices(
    known: Sequence[frozenset[str]] | None, ways: str, kinds: str
) -> Iterator[tuple[str, str, str, str, str]]:
    """Return the settings of +CNMI that a modem may take, the best first; known: what it says that
    it knows, None where it does not say. Mode 3 is for a modem that has nothing else."""
    modes_known, ways_known, broadcasts, kinds_known, buffers = known or [frozenset("0123")] * 5
    least, buffer = min(broadcasts, default="0"), min(buffers, default="0")
    for way in (each for each in ways if each in ways_known):
        for modes in ("21", "3"):
            for kind in (each for each in kinds if each in kinds_known):
                for mode in (each for each in modes if each in modes_known):
                    yield mode, way, least, kind, buffer


def _part_entries(lines: Iterable[str], prefix: str) -> list[tuple[list[str], list[str]]]:
    """Part a listing into headings and the lines below each."""
    entries: list[tuple[list[str], list[str]]] = []
    for line in lines:
        if line.startswith(prefix):
            entries.append((parse_fields(line), []))
        elif entries:
            entries[-1][1].append(line)
    return entries


def _read_entry(
    memory: str, place: int, heading: Sequence[str], below: Sequence[str]
) -> StoredTpdu:
    """Read what stands at a place, TS 27.005 3.4.2: <stat>,[<alpha>],<length> and the TPDU.

    It is whole if there is one line of hex, as long as its heading says; else it is kept as it is.
    """
    state, length = [*heading, ""][0], heading[-1] if len(heading) > 1 else ""
    is_received = not re.fullmatch("[23]|STO .*", state)
    listed = [line for line in below if _is_hex(line)]
    if len(listed) == 1 and re.fullmatch("[0-9]{1,3}", length):
        octets, centre = len(listed[0]) // 2, 1 + int(listed[0][:2], 16)
        if int(length) in (octets - centre, octets):  # some count the service centre
            return StoredTpdu(memory, place, listed[0], is_received)
    return StoredTpdu(memory, place, "\n".join(below), is_received, is_whole=False)


def _may_answer(command: str, line: str) -> bool:
    """True if a line may answer a command whose answer has no fixed beginning."""
    if line[0] in "+^*":
        return line.startswith(command[2:].rstrip("?") + ":")
    return not is_unsolicited(line)


# Of +CUSD, TS 27.007 7.15: <m>, and the text with its coding where there is one.
_USSD_END = (
    r'(?s)\+CUSD: *(?:\d *, *"(?P<text>.*?)"?(?: *, *(?P<coding>\d{1,3})?)?|(?P<end>[2-5]))$'
)
_USSD_REFUSALS = {
    "2": "the network ended it without an answer",
    "3": "another program has answered",
    "4": "the network does not support such codes here",
    "5": "the network did not answer in time",
}


def _digits(line: str) -> str:
    found = re.findall(r"\d{14,22}", line)
    return found[0] if found else ""


def _find_iccid(line: str) -> str:
    """Find an ICCID; operators put letters into it, and cards fill it up with F.

    >>> _find_iccid("+CCID: 898600B511223344556F")
    '898600B511223344556'
    """
    found = re.findall("[0-9]{2}[0-9A-Fa-f]{12,20}", line)
    return str(found[0]).upper().rstrip("F") if found else ""


def _is_hex(line: str) -> bool:
    return bool(re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", line))


def _mask_secrets(line: str) -> str:
    """Hide a PIN, the TPDU of a text, and numbers, of phones, SIM and modem: the dialogue is for
    helpers' eyes too.

    >>> _mask_secrets('AT+CPIN="1234"'), _mask_secrets("0011000B91" * 3)
    ('AT+CPIN="****"', '<15 octets>')
    >>> _mask_secrets('+CLIP: "+14085550177",145')
    '+CLIP: "...0177",145'
    """
    masked = re.sub(r'(CPIN=")[^"]*', r"\1****", line)
    masked = re.sub(_TPDU, lambda tpdu: f"<{len(tpdu[0]) // 2} octets>", printable(masked))
    return re.sub(_LONG_NUMBER, lambda number: mask(re.sub(r"\D", "", number[0])), masked)


_TPDU = "(?:[0-9A-Fa-f]{2}){12,}"
_LONG_NUMBER = r"\+?\d(?:[ ().\-]{0,2}\d){6,}"


# === 11 Edges ====================================================================================
# Where the program touches the world: the one wait point (clock, one select, signals), the serial
# port, whether the clock can be trusted, the service manager, the lamps, files, the journal. What
# the rooms above wait for stands behind a Protocol of room 1. It does not know any other room.


class Waiting:
    """The Clock of the real world. until() is the only function of the program that blocks.

    It drives the lamps and pets the watchdog while it waits, but only before its caller's
    deadline: a loop that is stuck is neither shown as alive nor petted.
    """

    def __init__(self, lamps: Lamps | None = None, notifier: Notifier | None = None) -> None:
        self._lamps = lamps
        self._notifier = notifier
        self._petted = float("-inf")
        self._stopped = False
        self._wake_descriptor: int | None = None

    def catch_signals(self) -> None:
        """Let SIGTERM and SIGINT end the wait that runs, and raise StopRequested in it."""
        import signal

        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._wake_descriptor = reading
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopped = True

    def now(self) -> datetime:
        """Return the aware UTC time."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        from time import monotonic

        return monotonic()

    def until(
        self, deadline: float, port: Port | None = None, *, interruptible: bool = True
    ) -> bool:
        """Wait until the deadline, or until the port has bytes (then True)."""
        import select

        watched = [] if self._wake_descriptor is None else [self._wake_descriptor]
        if port is not None:
            watched.append(port.fileno())
        while True:
            if self._stopped and interruptible:
                raise StopRequested
            now = self.monotonic()
            wake_at = min(deadline, self._tend(now, deadline))
            ready = select.select(watched, [], [], max(0.0, wake_at - now))[0]
            if self._wake_descriptor in ready:
                with suppress(BlockingIOError):
                    os.read(self._wake_descriptor, 4096)
            if port is not None and watched[-1] in ready:
                return True
            if self._stopped and interruptible:
                raise StopRequested
            if self.monotonic() >= deadline:
                return False

    def _tend(self, now: float, deadline: float) -> float:
        """Drive lamps and watchdog; the time at which they want it again."""
        again = float("inf")
        if self._lamps is not None:
            again = self._lamps.drive(now) or again
        if self._notifier is not None and self._notifier.pet_every_s is not None:
            if now < deadline and now - self._petted >= self._notifier.pet_every_s:
                self._notifier.pet()
                self._petted = now
            again = min(again, self._petted + self._notifier.pet_every_s)
        return max(again, now + 0.01)


class FastClock:
    """A Clock for the demo: a conversation takes its real time, of the waits between messages
    only a little is waited and the rest is skipped. shorten(seconds, now) says how little."""

    def __init__(
        self, waiting: Waiting, start: datetime, shorten: Callable[[float, datetime], float]
    ) -> None:
        self._waiting = waiting
        self._skipped_s = 0.0
        self._start = start - timedelta(seconds=waiting.monotonic())
        self._shorten = shorten

    def now(self) -> datetime:
        """Return the time of the play."""
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Return the seconds of the play."""
        return self._waiting.monotonic() + self._skipped_s

    def until(
        self, deadline: float, port: Port | None = None, *, interruptible: bool = True
    ) -> bool:
        """Wait; an interruptible wait is shortened and the rest of it skipped."""
        real_deadline = deadline - self._skipped_s
        if not interruptible:
            return self._waiting.until(real_deadline, port, interruptible=False)
        left_s = max(0.0, deadline - self.monotonic())
        shortened = real_deadline - left_s + min(left_s, self._shorten(left_s, self.now()))
        heard = self._waiting.until(shortened, port)
        if not heard:
            self._skipped_s += max(0.0, real_deadline - shortened)
        return heard


# --- ports


class SerialPort:
    """A Port over pyserial. It is ours alone: flock keeps other smsboxes out, TIOCEXCL the rest."""

    def __init__(self, name: str, baud: int) -> None:
        import serial

        self.name = name
        try:
            self._serial = serial.serial_for_url(
                name, baudrate=baud, timeout=0, write_timeout=5, exclusive=True
            )
        except (serial.SerialException, OSError, ValueError) as error:
            raise PortLost(_explain_open(name, error)) from error
        self._losses = (serial.SerialException, OSError, TypeError, _termios_error())
        self._keep_others_out()

    def fileno(self) -> int:
        """Return the descriptor to select on."""
        try:
            return int(self._serial.fileno())
        except self._losses as error:
            raise PortLost(f"{self.name} is gone") from error

    def read(self) -> bytes:
        """Take what has arrived."""
        try:
            return bytes(self._serial.read(4096))
        except self._losses as error:
            # "returned no data" is what pyserial says of a pulled plug and of a second reader alike
            raise PortLost(f"{self.name} is gone, or somebody else reads it too") from error

    def write(self, data: bytes) -> None:
        """Hand data to the operating system; flush() is never used, it can hang for ever."""
        try:
            self._serial.write(data)
        except self._losses as error:
            raise PortLost(f"{self.name} is gone") from error

    def close(self) -> None:
        """Throw away what is unsent, so that closing can't hang, and release the port."""
        import fcntl
        import termios

        with suppress(*self._losses):
            termios.tcflush(self._serial.fileno(), termios.TCIOFLUSH)
            fcntl.ioctl(self._serial.fileno(), termios.TIOCNXCL)
        with suppress(*self._losses):
            self._serial.close()

    def _keep_others_out(self) -> None:
        import fcntl
        import termios

        if "://" in self.name or os.path.realpath(self.name).startswith("/dev/pts/"):
            return  # a network port has no lock; a pseudo-terminal's other side needs none
        with suppress(*self._losses):
            fcntl.ioctl(self._serial.fileno(), termios.TIOCEXCL)


def _termios_error() -> type[Exception]:
    import termios

    return termios.error


def _explain_open(name: str, error: Exception) -> str:

    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return f"{name} is not there: is the modem plugged in and powered?"
    if number in (errno.EAGAIN, errno.EBUSY):
        return f"{name} is in use by another program: sudo fuser -v {name} names it"
    if number in (errno.EACCES, errno.EPERM):
        return f"{name} may not be opened: use sudo, or join the group dialout"
    return f"{name} can't be opened: {error}"


class SocketPort:
    """A Port over a socket: the near end of the simulated modem."""

    def __init__(self, name: str, end: Any) -> None:
        self.name = name
        self._end = end
        end.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to select on."""
        return int(self._end.fileno())

    def read(self) -> bytes:
        """Take what has arrived."""
        try:
            data = bytes(self._end.recv(4096))
        except BlockingIOError:
            return b""
        except OSError as error:
            raise PortLost(f"{self.name} is gone") from error
        if not data:
            raise PortLost(f"{self.name} is gone")
        return data

    def write(self, data: bytes) -> None:
        """Hand data over."""
        try:
            self._end.sendall(data)
        except OSError as error:
            raise PortLost(f"{self.name} is gone") from error

    def close(self) -> None:
        """Close the near end; the modem's side ends with it."""
        self._end.close()


# --- the clock's trust

_TIMESYNC_MARK = Path("/run/systemd/timesync/synchronized")  # touched at each synchronisation
_RTC = Path("/sys/class/rtc/rtc0")
_SYNCED_BELOW_US = 16_000_000  # what systemd's timedated calls synchronised
_STA_UNSYNC = 0x40
_MARK_IS_FRESH = (-60.0, 45 * 60.0)  # s; timesyncd asks at least every 34 minutes
BATTERY_CLOCK = "the battery clock"


def find_time_evidence(sources: Sequence[str]) -> str:
    """Return who vouches for the system clock now; "" if nobody does.

    A Pi has no clock battery: after a power cut its clock is plausible and wrong by the outage.
    """
    if "ntp" in sources and _is_fresh(_TIMESYNC_MARK):
        return "systemd-timesyncd"
    if "ntp" in sources and _is_kernel_sure():
        return "the kernel's NTP state"
    if "rtc" in sources and _RTC.exists():
        return BATTERY_CLOCK
    return ""


def _is_fresh(mark: Path) -> bool:
    """True if the mark was touched lately by the very clock that it vouches for: one that
    somebody set by hand since then is not vouched for any more."""
    with suppress(OSError):
        age_s = datetime.now(UTC).timestamp() - mark.stat().st_mtime
        return _MARK_IS_FRESH[0] <= age_s <= _MARK_IS_FRESH[1]
    return False


def _is_kernel_sure() -> bool:
    """Ask adjtimex(2), struct timex of the machine's long integers."""
    import ctypes

    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return False
    timex = (ctypes.c_long * 64)()  # modes = 0: read only
    state = adjtimex(timex)
    max_error_us, status, tick_us = timex[3], timex[5], timex[11]
    is_plausible = state >= 0 and 9_000 <= tick_us <= 11_000  # the layout is as expected
    return is_plausible and not status & _STA_UNSYNC and max_error_us < _SYNCED_BELOW_US


def read_boot_id(source: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """Return a name for this boot of the Pi; "" where the system does not tell."""
    return source.read_text().strip() if source.exists() else ""


# --- the service manager


class SystemdNotifier:
    """sd_notify(3): datagrams to $NOTIFY_SOCKET; without one nothing is sent."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        microseconds = environment.get("WATCHDOG_USEC", "")
        self.pet_every_s = (
            int(microseconds) / 3_000_000 if self._address and microseconds.isdigit() else None
        )

    def notify(self, message: str) -> None:
        """Send one message; a manager that does not listen is no fault of ours."""
        import socket

        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.connect(self._address)
            end.sendall(message.encode())

    def pet(self) -> None:
        """Tell the watchdog that the loop lives."""
        self.notify("WATCHDOG=1")


# --- the lamps

LAMP_NAMES = ("ready", "sending", "fault")
# A lamp's pattern as it looks, ten places a second, over and over: # is lit.
_READY_PATTERNS: Mapping[Ready, str] = {
    Ready.STARTING: "#####.....",
    Ready.IDLE: "#.............................",
    Ready.UNDER_WAY: "#..#..........................",
    Ready.RESTING: "#...........................................................",
}
_FAULT_PATTERNS: Mapping[Fault, str] = {
    Fault.NO_MODEM: "##..##........................",
    Fault.SIM: "##..##..##....................",
    Fault.NO_NETWORK: "##..##..##..##................",
    Fault.DISK: "##..##..##..##..##............",
    Fault.PROGRAM: "##..##..##..##..##..##........",
    Fault.CLOCK: "########......................",
    Fault.ATTENTION: "#.............................",
    Fault.ACCOUNT: "#",
    Fault.NONE: ".",
}


class PatternLamps:
    """Lamps that blink in patterns; switch(name, lit) sets one of ready, sending, fault."""

    def __init__(self, names: frozenset[str], switch: Callable[[str, bool], None]) -> None:
        self._names = names
        self._switch = switch
        self._patterns: dict[str, str] = {}
        self._lit: dict[str, bool] = {}

    def show(self, state: LampState) -> None:
        """Change what the lamps say; with no sending lamp, ready is lit while sending."""
        is_lit_ready = state.sending and "sending" not in self._names
        self._patterns = {
            "ready": "#" if is_lit_ready else _READY_PATTERNS[state.ready],
            "sending": "#" if state.sending else ".",
            "fault": _FAULT_PATTERNS[state.fault],
        }
        self._set("sending", state.sending)  # a segment is handed over at once
        if is_lit_ready:
            self._set("ready", True)

    def drive(self, monotonic: float) -> float | None:
        """Set each lamp to its level now; the time of the next change."""
        place, changes = int(monotonic * 10 + 1e-6), []
        for name, pattern in self._patterns.items():
            start = place % len(pattern)
            to_come = pattern[start:] + pattern[:start]
            self._set(name, to_come[0] == "#")
            same = len(to_come) - len(to_come.lstrip(to_come[0]))
            if name in self._names and same < len(to_come):
                changes.append((place + same) / 10)
        return min(changes, default=None)

    def _set(self, name: str, lit: bool) -> None:
        if name in self._names and self._lit.get(name) is not lit:
            self._lit[name] = lit
            self._switch(name, lit)


def open_gpio_lamps(settings: LampSettings) -> PatternLamps | None:
    """Take the lamps' pins; None where there are no lamps. A box without its pins still sends."""
    try:
        return take_gpio_lamps(settings)
    except StoreError as error:
        logging.info("no lamps: %s", error)
    return None


def take_gpio_lamps(settings: LampSettings) -> PatternLamps | None:
    """Take the lamps' pins through gpiozero; None, and nothing imported, where there are none.

    StoreError names the pin that can't be had. gpiozero's own blink() is not used: it goes on in a
    thread of its own while the loop hangs.
    """
    leds: dict[str, Any] = {}
    for name in LAMP_NAMES:
        pin = getattr(settings, name)
        if pin is not None:
            with _pin_library(f"[lamps] {name} = {pin}"):
                import gpiozero

                leds[name] = gpiozero.LED(pin, active_high=settings.active_high)

    def switch(name: str, lit: bool) -> None:
        (leds[name].on if lit else leds[name].off)()

    return PatternLamps(frozenset(leds), switch) if leds else None


@contextmanager
def _pin_library(setting: str) -> Iterator[None]:
    """Whatever a pin library raises becomes a StoreError."""
    try:
        with _own_folder():
            yield
    except ModuleNotFoundError as error:
        remedy = "run install.sh again, which brings it"
        raise StoreError(f"{setting}: {error.name} is not installed: {remedy}") from error
    except Exception as error:
        raise StoreError(
            f"{setting}: the pin can't be used ({printable(str(error))}): is it a BCM number, free,"
            " and are you in the group gpio?"
        ) from error


@contextmanager
def _own_folder() -> Iterator[None]:
    """Let gpiozero begin with lgpio alone, which goes to a folder and lays a pipe there: to the
    unit's own, else to one that is for nobody else and goes at the end."""
    import tempfile

    os.environ.setdefault("GPIOZERO_PIN_FACTORY", "lgpio")  # else it tries a port of this machine
    if "LG_WD" in os.environ:
        yield
        return
    try:
        here = os.open(".", os.O_PATH)
    except OSError:  # it is closed to us
        here = os.open("/", os.O_PATH)
    try:
        with tempfile.TemporaryDirectory(prefix="smsbox-") as folder:
            os.environ["LG_WD"] = folder
            try:
                yield
            finally:
                del os.environ["LG_WD"]
                os.fchdir(here)
    finally:
        os.close(here)


def press_power_key(pin: int, clock: Clock) -> None:
    """Hold a HAT's power key for two seconds."""
    try:
        with _pin_library(f"[modem] power_key_gpio = {pin}"):
            import gpiozero

            with gpiozero.OutputDevice(pin) as key:
                key.on()
                clock.until(clock.monotonic() + 2.0, interruptible=False)
                key.off()
    except StoreError as error:
        logging.info("no power key: %s", error)


# --- the door: every file that a command reads or makes is opened here, but SQLite's own


def door(path: str, flags: int, mode: int = 0o600) -> int:
    """Open a file as open() does, whose opener this is: a regular one with one name.

    Links are followed on the way and to what is read, if they are root's or one's own; what is made
    is no link. As root, where others may write on the way, no link is, and the folder's owner
    opens it.
    """
    safely = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))
    with _held(path, to_read=not flags & os.O_CREAT) as (folder, name):
        descriptor = os.open(name, flags | safely, mode, dir_fd=folder)
    found = os.fstat(descriptor)
    if (stat.S_ISREG(found.st_mode) and found.st_nlink < 2) or path == os.devnull:
        return descriptor
    os.close(descriptor)
    words = "it has two names, copy it first" if stat.S_ISREG(found.st_mode) else "it is no file"
    raise OSError(errno.EINVAL, words, path)


def open_shared(path: Path) -> int:
    """Open a file for reading and writing, made where it is missing, that its group may write.

    One that is there keeps its rights: whoever may rename in the folder could name any file so.
    """
    try:
        descriptor = door(str(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o660)
    except FileExistsError:
        return door(str(path), os.O_RDWR | os.O_CREAT, 0o660)
    os.fchmod(descriptor, 0o660)
    return descriptor


def read_file(path: str | Path) -> bytes:
    """Return what stands in a file."""
    with open(path, "rb", opener=door) as file:
        is_larger = os.fstat(file.fileno()).st_size > _LARGEST  # it may be all hole
        if is_larger or len(octets := file.read(_LARGEST + 1)) > _LARGEST:  # or grow meanwhile
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return octets


_LARGEST = 2**28  # bytes: a list of a million people


@contextmanager
def whole_file(
    path: Path, mode: int = 0o600, *, over: bool = False, like: os.stat_result | None = None
) -> Iterator[BufferedWriter]:
    """Yield a file to be filled, which at the end is whole and durable; after an error it is gone.

    over: it is made beside the file whose place it takes, with the rights of that one (like) if
    that is the same person's. Else only an empty file, of a try that failed, may be there.
    OSError: it can't be made.
    """
    made = path.with_name(f"{path.name}.part") if over else path
    with _held(made) as (folder, name), suppress(FileNotFoundError):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if over or _is_left_over(found):
            os.unlink(name, dir_fd=folder)
    with open(made, "xb", opener=door) as file:
        try:
            yield file
            file.flush()
            if like is not None and like.st_uid == os.fstat(file.fileno()).st_uid:
                mode = like.st_mode & 0o666
            if mode != 0o600:
                with suppress(PermissionError):  # a stick may know no modes
                    os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            if over:
                with _held(made) as (folder, name):
                    to = path.name if folder is not None else path
                    os.replace(name, to, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException as error:
            if isinstance(error, OSError):
                error.filename = error.filename or str(path)
            with suppress(OSError):
                os.ftruncate(file.fileno(), 0)  # root may not unlink it any more
                os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())  # what is in the buffer
            with suppress(OSError), _held(made) as (folder, name):
                os.unlink(name, dir_fd=folder)
            raise
    with suppress(PermissionError), _held(path) as (folder, _):  # root may be somebody else by now
        if folder is not None:
            sync(".", folder)


def read_key(path: Path) -> bytes:
    """Return a random key that only its owner, who asks, can read; made where there is none."""
    try:
        with suppress(OSError), open(path, "rb", opener=door) as file:
            found, key = os.fstat(file.fileno()), file.read(33)
            if len(key) == 32 and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
                return key
        with whole_file(path, over=True) as file:
            file.write(key := os.urandom(32))
    except OSError as error:
        raise StoreError(f"{path} can't be used: {error.strerror}") from error
    return key


def _is_left_over(found: os.stat_result) -> bool:
    ours = hasattr(os, "geteuid") and found.st_uid == os.geteuid()
    return ours and stat.S_ISREG(found.st_mode) and not found.st_size


def make_folder(path: Path) -> None:
    """Make a folder for its owner alone, or take an empty one that is; OSError: it is none."""
    with _held(path) as (folder, name):
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
            raise OSError(errno.EPERM, "others may write into it, name a new one", str(path))


@contextmanager
def _held(path: str | Path, *, to_read: bool = False) -> Iterator[tuple[int | None, str]]:
    """Hold the folder of a path and yield its descriptor and the name there.

    Meanwhile root is that folder's owner, where others may write on the way.
    """
    if not hasattr(os, "O_PATH"):  # the box runs Linux; the one with the spreadsheet may not
        yield None, str(path)
        return
    groups, group, user = os.getgroups(), os.getegid(), os.geteuid()
    try:
        folder, name, owner = _walk(Path(path), to_read)
        try:
            if owner is not None:
                _become(owner, os.setegid, os.seteuid)
            yield folder, name
        finally:
            if owner is not None:
                os.seteuid(user)
                os.setegid(group)
                os.setgroups(groups)
            os.close(folder)
    except OSError as error:
        error.filename = str(path)
        raise


def _walk(path: Path, to_read: bool) -> tuple[int, str, os.stat_result | None]:
    """Go to a path folder by folder; return the last one's descriptor, the name there, and, as
    root, the last folder on the way that is somebody else's, or one of root's they may write."""
    ahead, links, is_root = deque(path.parts), 0, os.geteuid() == 0
    owner = None
    folder = os.open(ahead.popleft() if path.is_absolute() else ".", os.O_PATH | os.O_CLOEXEC)
    try:
        while True:
            here = os.fstat(folder)
            others_write = here.st_uid != 0 or bool(here.st_mode & 0o022)
            # What is root's in a folder like /tmp nobody else can move.
            is_safe = not others_write or (here.st_uid == 0 and here.st_mode & stat.S_ISVTX)
            if is_root and not is_safe and (here.st_uid != 0 or owner is None):
                owner = here
            name = ahead.popleft() if ahead else "."
            if not ahead and not to_read:
                return folder, name, owner
            step = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            found = os.fstat(step)
            if stat.S_ISLNK(found.st_mode):
                to, links = Path(os.readlink("", dir_fd=step)), links + 1
                os.close(step)
                laid_by_others = found.st_uid not in (0, os.geteuid())
                laid_by_others |= is_root and (owner is not None or others_write)
                if laid_by_others or links > _MOST_LINKS:
                    words = f"{name} is a link that somebody else may have laid: name what it means"
                    raise OSError(errno.ELOOP, words, str(path))
                ahead.extendleft(reversed(to.parts))
            elif ahead:
                os.close(folder)
                folder = step
            else:
                os.close(step)
                return folder, name, owner
    except BaseException:
        os.close(folder)
        raise


_MOST_LINKS = 40  # as the kernel has it


def _become(
    owner: os.stat_result, set_group: Callable[[int], None], set_user: Callable[[int], None]
) -> None:
    """As root, be the owner of a folder, with that person's own groups."""
    import pwd

    try:
        person = pwd.getpwuid(owner.st_uid)
        group, groups = person.pw_gid, os.getgrouplist(person.pw_name, person.pw_gid)
    except KeyError:
        group, groups = owner.st_gid, [owner.st_gid]
    os.setgroups(groups)
    set_group(group)
    set_user(owner.st_uid)


def become_owner(folder: Path) -> None:
    """As root, become for good the owner of the database's folder: SQLite opens files by name,
    and what root makes the daemon can't use. StoreError: it is root's and others may write it."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    while not folder.exists():
        folder = folder.parent
    try:
        held, _, owner = _walk(folder / "-", to_read=False)
        found = os.fstat(held)
        os.close(held)
    except OSError as error:
        raise StoreError(f"{folder} can't be used: {error.strerror}") from error
    if owner is not None and owner.st_uid != 0:
        _become(owner, os.setgid, os.setuid)
    elif owner is not None or found.st_mode & 0o022:
        raise StoreError(
            f"{folder} is root's and others may write on the way there: sudo chown it to the"
            " service's user"
        )


def sync(path: Path | str, folder: int | None = None) -> None:
    """Make a file's content, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- the journal, the status file, the lock


class JournalFormatter(logging.Formatter):
    """One line a fact. Under the journal a priority stands in front, the time does not."""

    _PRIORITIES: Mapping[int, int] = {
        logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3,
    }  # fmt: skip

    def __init__(self, for_journal: bool) -> None:
        super().__init__("%(message)s" if for_journal else "%(asctime)s %(message)s", "%H:%M:%S")
        self._for_journal = for_journal

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Write the message in one line: text from outside can't forge another."""
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; a traceback's lines keep the priority."""
        priority = f"<{self._PRIORITIES.get(record.levelno, 6)}>" if self._for_journal else ""
        return "\n".join(priority + printable(line) for line in super().format(record).split("\n"))


def start_journal(environment: Mapping[str, str], debug: bool) -> None:
    """Log to stdout, in the journal's form when it reads us."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JournalFormatter("JOURNAL_STREAM" in environment))
    logging.root.handlers = [handler]
    logging.raiseExceptions = False  # a reader that has gone gets no traceback
    logging.root.setLevel(logging.DEBUG if debug else logging.INFO)


class StatusFile:
    """What the daemon is doing now, for `smsbox status`; written only when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = ""

    def write(self, status: Mapping[str, object]) -> None:
        """Replace the file in one step; a full disk costs only the news."""
        text = json.dumps(status, sort_keys=True)
        if text == self._written:
            return
        fresh = self._path.with_suffix(".new")
        with suppress(OSError):
            fresh.unlink(missing_ok=True)  # of another user that died
            with open(fresh, "x", opener=door) as file:
                file.write(text)
                os.fchmod(file.fileno(), 0o644)
            fresh.replace(self._path)
            self._written = text


TAKERS: Mapping[str, str] = {  # what is known to take a modem's port, and the remedy
    "ModemManager": "it takes modems: unplug yours and plug it in again, and smsbox's udev rule"
    " keeps it off",
    "agetty": "the console is on the UART: sudo raspi-config nonint do_serial_cons 1, then reboot",
    "bearerbox": "it is Kannel's and takes modems: sudo systemctl disable --now kannel",
    "brltty": "it takes USB serial adapters: sudo apt remove brltty",
}
UDEV_DATA = Path("/run/udev/data")
TIME_SERVICES = frozenset({"systemd-timesyn", "chronyd", "ntpd"})  # as the kernel cuts their names


def read_processes(proc: Path = Path("/proc")) -> Iterator[tuple[str, list[str]]]:
    """Read the name and the words of each process, as far as they can be seen."""
    for folder in proc.glob("[0-9]*"):
        with suppress(OSError):
            name = (folder / "comm").read_bytes().decode(errors="replace").strip()
            with open(folder / "cmdline", "rb") as said:  # by its owner's will it has no end
                words = said.read(4096).decode(errors="replace").split("\0")
            yield name, words


def find_takers(port: str, proc: Path = Path("/proc"), udev: Path = UDEV_DATA) -> list[str]:
    """Return which of the takers run; a console counts only where it is on this very port, and
    ModemManager unless udev keeps it off."""
    tty = Path(os.path.realpath(port)).name
    found = {name for name, words in read_processes(proc) if name != "agetty" or tty in words}
    kept_off = {"ModemManager"} if _is_kept_off(port, udev) else set[str]()
    return sorted(found & TAKERS.keys() - kept_off)


def _is_kept_off(port: str, udev: Path) -> bool:
    """True if udev has marked a port as none of ModemManager's."""
    with suppress(OSError):
        device = os.stat(port).st_rdev
        mark = udev / f"c{os.major(device)}:{os.minor(device)}"
        return "E:ID_MM_PORT_IGNORE=1\n" in mark.read_text()
    return False


def read_undervoltage(
    mark: Path = Path("/sys/devices/platform/soc/soc:firmware/get_throttled"),
) -> bool | None:
    """True if the Pi has seen too low a voltage since it started; None where it is no Pi."""
    try:
        return bool(int(mark.read_text().strip(), 16) & 0x10001)  # bit 0: now, bit 16: since start
    except (OSError, ValueError):
        return None


class Space(NamedTuple):
    """The file system of a folder."""

    free_bytes: int
    read_only: bool


def read_space(folder: Path) -> Space:
    """Look at the file system that a folder lies in, or would lie in."""
    while not folder.exists():
        folder = folder.parent
    found = os.statvfs(folder)
    return Space(found.f_bavail * found.f_frsize, bool(found.f_flag & os.ST_RDONLY))


def give_memory_back() -> None:
    """Return to the system what reading the source took; a daemon keeps it for months else."""
    import ctypes

    with suppress(OSError, AttributeError):  # malloc_trim is glibc's own
        ctypes.CDLL(None).malloc_trim(0)


def read_status_file(path: Path) -> dict[str, Any]:
    """Read what the daemon wrote; {} if there is nothing."""
    try:
        found = json.loads(read_file(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def take_lock(path: Path) -> int | None:
    """Take a lock file for this process's life; None if another process has it."""
    import fcntl

    try:
        descriptor = open_shared(path)
    except OSError as error:
        raise StoreError(f"{path} can't be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    os.truncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def read_lock_holder(path: Path) -> str:
    """Return the process that has a lock file; "" where it can't be read."""
    with suppress(OSError), open(path, "rb", opener=door) as file:
        return printable(file.read(20).decode("ascii", "replace").strip())
    return ""


def is_locked(path: Path) -> bool:
    """True if a process holds a lock file, without changing anything."""
    import fcntl

    try:
        descriptor = door(str(path), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


# === 12 Service ==================================================================================
# The daemon: recover what a crash left, then tick for ever: tend the modem, take in what came,
# send what is due. Here the rooms are joined: the store says which row, the pace says whether now,
# coding cuts, the modem hands over, and every step is written down before the next. It does not
# know the command line, and prints nothing.

_WATCH_S = {True: 60.0, False: 600.0}  # how often signal and registration are looked at: busy, idle
_PARTS_WAIT = timedelta(days=1)  # how long the rest of a long text is waited for
_SWEEP_S = 300.0  # how often stored texts are looked for: notifications get lost
_CUT_AFTER = timedelta(hours=1)  # open hours; cut in half for longer it waits for a person
_AT_ONCE_AN_HOUR = 5  # of send and --try, further ones keep the pace
_LOOK_AGAIN = timedelta(minutes=10)  # where the gates of all due rows are shut
_MANY = 100  # due rows; fewer are looked through each time
_JUST_GONE = "another message has just gone"
_AT_ONCE_WITHIN = timedelta(hours=1)  # after it such a message waits for a person
_BACK_OFF_S = (1.0, 2.0, 5.0)
_FAILURES_TO_PAUSE = 3
_TROUBLES_TO_RESET = 3
_HEAL_AFTER_S = 600.0  # without a network: the radio is reset, then the modem, ever more rarely
_LASTING_S = 300.0  # a fault that lasts so long needs a person
_KEY_PAUSE_S = 60.0  # the power key is pressed once a minute at the most
_COPIES_EVERY_S = 3600.0
_STRANGERS_KEPT = timedelta(days=90)  # what came from who neither got nor is to get anything
_STEP_S = 2.0  # more than NTP slews between two looks
_CLOCK_ALERT_S = 3600.0
_CLOCK_TOLERANCE = timedelta(minutes=5)
_ANSWER_WITHIN = timedelta(minutes=5)
_ANSWER_TRIES = 4  # once a minute, after the first
# To one number; to the operator's.
_ANSWERS_A_DAY = {"help": 1, "confirmation": 3}
_ANSWERS_IN_ALL = 30  # of a day, to whomever
_ALERTS_A_DAY = 5
_ALERTS_KEPT = 1  # of them for what stops the box
_STANDSTILLS = frozenset({"paused", "error", "clock"})
_STATUS_A_DAY = 20
_STOPS_TO_PAUSE = 5  # and more than one in twenty
_PARTS_APART_S = 15.0  # of a long text, each from the next: the service centre's stamps
_PARTS_SETTLE = timedelta(minutes=4)  # what is further apart may be of two texts
_VAIN_SWEEPS, _VAIN_PAUSE_S = 3, 60.0
_LONGEST_VALID = timedelta(weeks=63)  # of a text that is on its way, TS 23.040 9.2.3.12.1
_WEAK_DBM = -107
_WEAK = "the signal is weak: move the antenna"
_FULL = "its storage is full: it is being emptied"
_NOT_READ = "what came in has not been read yet"
_NOT_LISTED = "it does not list what came in"
_NO_REPORTS = "it takes no way of telling what was delivered: no delivery is known"
_MMS = "(MMS: a picture or a long text, which can't be read here)"
_WEAK_POWER_WORDS = "it complains of its supply voltage: give it a supply of 2 A of its own"


class Surroundings(NamedTuple):
    """The edges that the service is given."""

    clock: Clock
    open_port: Callable[[str, int], Port]  # name, baud rate
    notifier: Notifier
    lamps: Lamps | None
    publish: Callable[[Mapping[str, object]], None]
    find_time_evidence: Callable[[], str]
    press_power_key: Callable[[int], None] = lambda pin: None


class LinkState(Enum):
    """How near the modem is to being of use."""

    ABSENT = "absent"  # no port is open
    OPEN = "open"  # it is not known who answers
    ATTACHED = "attached"  # the modem is set up, and its SIM unlocked
    READY = "ready"  # and it is in the network


class Link:
    """The modem as the service has it: absent -> open -> attached -> ready, and why not ready.

    A port that is lost leads back to absent, a SIM that is lacking to open, a network to attached.
    What does not come right by itself is healed in steps of growing force, with growing waits: the
    port is opened again, the radio goes off and on, the modem starts anew; on a UART other baud
    rates are tried, and then its power key is pressed.
    """

    def __init__(self, settings: ModemSettings, around: Surroundings, database: Database) -> None:
        self.state = LinkState.ABSENT
        self.modem: Modem | None = None  # unless it is absent
        self.port: Port | None = None  # to be listened on while waiting
        self.fault = Fault.NONE
        self.words = "starting"  # why it is not ready
        self.wake_at = 0.0  # when tend() wants to be called again, monotonic
        self.sweep_at = 0.0  # when what is stored is read again; 0: not since it was attached
        self.resets = 0  # how often the modem was healed by force
        self.troubles = 0  # refusals in a row that are the modem's own fault
        self.unread = ""  # why what came in may not be known; "": it is
        self.warnings: dict[str, str] = {}  # what the operator should know, told once; by its code
        self._settings = settings
        self._around = around
        self._clock = around.clock
        self._database = database
        self._name = ""  # of the port that was tried last
        self._tries = 0  # failures since it was last ready
        self._tell_at: float | None = None  # a person, monotonic; None: nothing lasts
        self._heal_at: float | None = None  # monotonic; None: it does not search for a network
        self._heals = 0  # of that search
        self._key_pressed_at = float("-inf")

    def is_ready(self) -> bool:
        """True if a segment may be handed over."""
        return self.state is LinkState.READY

    def tend(self, busy: bool) -> None:
        """Bring the modem nearer to ready, and watch it, when it is time to."""
        if self._clock.monotonic() < self.wake_at:
            return
        try:
            modem = self.modem or self._open()
            if self.state is LinkState.OPEN:
                self._attach(modem)
            modem.check_network()
        except NotReady as lacking:
            self._lack(lacking)
        except ModemError as error:
            self.lose(str(error))
        else:
            self._tries = self._heals = 0
            self._heal_at = None
            self._enter(LinkState.READY, Fault.NONE, "ready", _WATCH_S[busy])
            self._warn_of(modem)

    def lose(self, words: str) -> None:
        """Let the port go, and come back with back-off."""
        self.close()
        wait_s = _BACK_OFF_S[min(self._tries, len(_BACK_OFF_S) - 1)]
        self._tries += 1
        self._enter(LinkState.ABSENT, Fault.NO_MODEM, words, wait_s)

    def attach_again(self, words: str) -> None:
        """Bring the modem into a known state before the next segment."""
        logging.info("modem: %s: attaching again", words)
        self.state, self.words, self.wake_at = LinkState.OPEN, words, 0.0

    def count_modem_fault(self, words: str) -> None:
        """The modem refused for a reason of its own; the third time in a row it is reset."""
        self.troubles += 1
        self.attach_again(words)
        if self.troubles >= _TROUBLES_TO_RESET:
            self._reset(by_restart=self.troubles > _TROUBLES_TO_RESET)

    def wait_for(self, fault: Fault, words: str) -> None:
        """A text was refused for want of network or SIM: look again in a while."""
        if fault is Fault.SIM:  # the one that comes may be another
            self._enter(LinkState.OPEN, fault, words, 5.0)
        else:
            self._enter(LinkState.ATTACHED, fault, words, 30.0)

    def warn(self, code: str, words: str) -> None:
        """Keep a warning for the operator, log it once; "": it does not hold any more."""
        if words and self.warnings.get(code) != words:
            logging.warning("modem: %s", words)
        self.warnings.pop(code, None)
        if words:
            self.warnings[code] = words

    def tell_unread(self, words: str) -> None:
        """Keep why what came in may not be known."""
        self.unread = words
        self.warn("incoming", words)

    def close(self) -> None:
        """Release the port."""
        if self.port is not None:
            self.port.close()
        self.port = self.modem = None
        self.state = LinkState.ABSENT

    def _enter(self, state: LinkState, fault: Fault, words: str, wait_s: float) -> None:
        """Change the state, and look again in a while.

        A change is logged once, not once a minute: what may heal by itself needs nobody, what lasts
        needs a person.
        """
        now = self._clock.monotonic()
        if fault is Fault.NONE:
            self._tell_at = None
        elif self._name and self._name not in words:
            words = f"{words} ({self._name})"
            if fault is Fault.NO_MODEM and self._settings.port == "auto" and is_uart(self._name):
                words = "; ".join(filter(None, (words, name_unknown())))
        if words != self.words:
            level = logging.WARNING if fault in (Fault.SIM, Fault.ACCOUNT) else logging.INFO
            who = self.modem.identity.operator if self.modem and fault is Fault.NONE else ""
            logging.log(level, "modem: %s%s", words, f" operator={who}" if who else "")
        if fault is not Fault.NONE and self._tell_at is None:
            self._tell_at = now + _LASTING_S
        elif self._tell_at is not None and now >= self._tell_at:
            self._tell_at = float("inf")
            logging.warning("modem: for %d minutes: %s", _LASTING_S / 60, words)
        self.state, self.fault, self.words, self.wake_at = state, fault, words, now + wait_s

    def _open(self) -> Modem:
        self._name = ""
        self._name = find_port(self._settings.port)
        baud, patience = self._settings.baud, 10
        if is_uart(self._name) and self._tries:
            rates = [baud, *(rate for rate in BAUD_RATES if rate != baud)]
            baud, patience = rates[self._tries % len(rates)], 3
            if self._tries % len(rates) == 0:
                self._press_power_key()
        self.port = self._around.open_port(self._name, baud)
        self.modem = Modem(self.port, self._clock, self._settings, patience)
        self.state = LinkState.OPEN
        return self.modem

    def _press_power_key(self) -> None:
        """Switch a HAT on; the key is a toggle, so only after silence at all baud rates."""
        pin, now = self._settings.power_key_gpio, self._clock.monotonic()
        if pin is None or now - self._key_pressed_at < _KEY_PAUSE_S:
            return
        self._key_pressed_at = now
        self.resets += 1
        logging.info("modem: silent at all baud rates: pressing its power key gpio=%d", pin)
        self._around.press_power_key(pin)

    def _attach(self, modem: Modem) -> None:
        attach_guarded(modem, self._settings, self._database)
        self.sweep_at, self.unread = 0.0, _NOT_READ
        who = modem.identity
        self._notice_another_sim(who.iccid)
        self.state = LinkState.ATTACHED  # not before all of this is written down
        logging.info(
            "modem ready to talk port=%s model=%s imei=...%s iccid=...%s",
            self._name, who.model or "unknown", who.imei[-4:], who.iccid[-4:],
        )  # fmt: skip
        if note := find_quirk(who.model).note:
            logging.warning("modem: %s", note)

    def _notice_another_sim(self, iccid: str) -> None:
        """With messages waiting another SIM is another sender: the box pauses and asks."""
        known = self._database.state.get("iccid")
        if not iccid or iccid == known:
            return
        with self._database.transaction():
            self._database.state.set_key("iccid", iccid)
            if known and self._database.queue.last_scheduled():
                because = f"another SIM is in (...{iccid[-4:]}, it was ...{known[-4:]})"
                pause_box(self._database, f"{because}: resume if this is meant", self._clock)

    def _lack(self, lacking: NotReady) -> None:
        """Wait for what is lacking; a modem that finds no network for long is reset."""
        now, state = self._clock.monotonic(), LinkState.OPEN  # the SIM that comes may be another
        self._tries += 1
        if lacking.fault is Fault.NO_NETWORK:
            state = LinkState.ATTACHED
            if self._heal_at is None:
                self._heal_at = now + _HEAL_AFTER_S
        self._enter(state, lacking.fault, str(lacking), 2.0 if self._tries < 30 else 15.0)
        if state is LinkState.ATTACHED and self._heal_at is not None and now > self._heal_at:
            self._heals += 1
            self._heal_at = now + _HEAL_AFTER_S * 2**self._heals
            self._reset(by_restart=self._heals > 1)

    def _reset(self, *, by_restart: bool) -> None:
        assert self.modem is not None  # it has answered
        self.resets += 1
        logging.info("modem: %s resets=%d", "starting it anew" if by_restart else
                     "switching its radio off and on", self.resets)  # fmt: skip
        with suppress(ModemError):
            if not by_restart:
                self.modem.reset_radio()
                return
            self.modem.restart()
        self.lose("it starts anew")

    def _warn_of(self, modem: Modem) -> None:
        """Tell of a weak signal and a full storage."""
        signal, margin = modem.signal_dbm, 3 if "signal" in self.warnings else 0
        is_weak = signal is not None and signal <= _WEAK_DBM + margin
        self.warn("signal", _WEAK if is_weak else "")
        if modem.storage_full:
            self.warn("storage", _FULL)
            self.sweep_at = 0.0


def attach_guarded(modem: Modem, settings: ModemSettings, database: Database) -> None:
    """Attach; a PIN is given to a SIM once, and never again after a refusal.

    That it is given is written down before: a crash in between must not cost a second try unseen.
    """
    state, given = database.state, ""

    def may_try() -> bool:
        nonlocal given
        if given:  # the same attempt: the SIM is slow to say that it is ready
            return True
        pin = _disguise(settings.sim_pin, modem.identity.iccid, Path(database.path))
        if pin in (state.get("refused_pin"), state.get("tried_pin")):
            return False
        state.set_key("tried_pin", pin)
        given = pin
        return True

    modem.greet()
    try:
        modem.unlock(may_try)
    finally:
        if given and modem.pin_was_refused:
            state.set_key("refused_pin", given)
    if state.get("tried_pin"):
        state.set_key("tried_pin", "")
    modem.set_up()


def pause_box(database: Database, because: str, clock: Clock, *, account: bool = False) -> None:
    """Let the box pause itself and say why; inside the caller's transaction."""
    database.state.pause("", because, PausedBy.BOX, clock.now())
    if account:
        database.state.set(account_refused="1")
    database.state.add_event("paused", because, clock.now(), "daemon")
    logging.error("paused: %s; see to it, then smsbox resume", because)


def resume(database: Database, campaign: str, now: datetime, actor: str) -> None:
    """End the pause of a campaign, or of the box: ""; inside the caller's transaction."""
    database.state.resume(campaign, now)
    if not campaign:
        database.state.set(paused_now="", account_refused="", tried_pin="")
    database.state.add_event("resumed", campaign, now, actor)


def pause_unwanted_campaign(database: Database, campaign: str, now: datetime) -> bool:
    """Pause a campaign that many of its last recipients have stopped, and say why; True if it was.

    Inside the caller's transaction. Rows of no campaign are no campaign.
    """
    recipients, stopped = database.opt_outs.count_in(campaign)
    many = stopped >= _STOPS_TO_PAUSE and stopped * 20 > recipients
    if not campaign or not many or campaign in database.state.paused_campaigns():
        return False
    because = f"{stopped} of its last {recipients} recipients said stop"
    database.state.pause(campaign, because, PausedBy.BOX, now)
    database.state.add_event("paused", f"{campaign}: {because}", now, "daemon")
    logging.warning(
        "paused campaign %s: %s; see to it, then smsbox resume --campaign",
        printable(campaign), because,
    )  # fmt: skip
    return True


def _disguise(pin: str, iccid: str, database: Path) -> str:
    """Return what tells later which PIN was given to which SIM; the PIN can't be found from it,
    where the group reads it, without a key that only the database's owner can read."""
    import hashlib  # it takes megabytes

    owner = database.parent.stat().st_uid or database.stat().st_uid
    if owner != os.geteuid():
        raise NotReady(Fault.SIM, "the SIM wants its PIN, which only the service gives: start it")
    key = read_key(database.with_name(f"{database.name}.key"))
    return hashlib.pbkdf2_hmac("sha256", pin.encode(), key + iccid.encode(), 100_000).hex()


def count_share(number: str, text: str) -> Share:
    """Return what a stored row takes of the budgets."""
    bubbles = split_bubbles(unify_line_breaks(text))
    return Share(
        normalize_number(number), sum(len(segment_text(bubble).units) for bubble in bubbles)
    )


def list_spent(
    database: Database, now: datetime, with_own: bool = False
) -> Iterator[tuple[datetime, Share]]:
    """Return what was sent of the SIM's plan in the last two plan months, oldest first.

    A message that went on on another day counts as one, on its first. with_own: also what the box
    itself wrote, which is no campaign's: strangers could use up its quota.
    """
    known: set[MessageId | None] = {None}
    for row_id, at, number, segments in database.sending.spent(now - timedelta(days=63)):
        if row_id is not None or with_own:
            yield at, Share(number, segments, 0 if row_id in known else 1)
        known.add(row_id)


def find_budgets(database: Database, now: datetime, config: Config) -> Budgets:
    """Return the budgets with what was sent; what is only scheduled is not spent."""
    budgets = Budgets(config.pacing, config.business_hours.timezone)
    if config.pacing.is_limited:
        for at, share in list_spent(database, now):
            budgets.spend(at, share)
    return budgets


class Turn(NamedTuple):
    """What a turn reads, once: gates, lamps and alerts are functions of it."""

    now: datetime
    words: Mapping[str, str]  # what the box remembers: the table state
    pauses: Mapping[str, Pause]  # of the campaigns; "" is the box itself
    next_row: StoredRow | None  # the free row that comes first
    last_begun: MessageId | None  # the campaign message that was begun last
    waited: timedelta | None  # since then; None: none was begun yet
    at_once_left: int  # how many of send and --try may still go without the pace
    budgets: Callable[[], Budgets] | None  # with what was sent; None: there are no quotas
    doubt: str  # why the clock is not trusted; "": it is
    not_ready: str  # why the modem is not
    not_read: str  # why what came in is not read
    disk: str = ""  # why nothing can be written down


class Gate(NamedTuple):
    """What a message may have to wait for."""

    name: str
    shut: str = ""  # why; "": it is open
    until: datetime | None = None  # when it opens by itself, if that is known


class End(NamedTuple):
    """What a message comes to without being sent: cancelled, or held for a person."""

    words: str
    code: HeldCode | None = None  # None: it is cancelled


def find_gates(row: StoredRow, turn: Turn, config: Config) -> Iterator[Gate]:
    """Yield each gate of a message, open or shut: its own, then those of the box."""
    yield from find_row_gates(row, turn, config)
    yield from find_box_gates(turn, row)
    yield find_pace(row, turn, config)


def find_row_gates(row: StoredRow, turn: Turn, config: Config) -> Iterator[Gate]:
    """Yield the gates of the message itself: while one is shut others go past it."""
    now, due, retry_at = turn.now, row.scheduled_for, row.retry_at
    is_done = row.status is not RowStatus.SCHEDULED
    yield Gate("status", f"it is {row.status.value} {row.error_message}".strip() * is_done)
    yield Gate("held", row.held_because)
    waits_for = f"their reply of {row.doubtful_at[:10]} waits for you: smsbox inbox"
    yield Gate("reply", waits_for if row.doubtful_at else "")
    stopped = f"the recipient said stop on {row.said_stop_at[:10]}"
    yield Gate("opt-out", stopped if row.said_stop_at else "")
    pause = turn.pauses.get(row.campaign_name, _NO_PAUSE) if row.campaign_name else _NO_PAUSE
    yield Gate("campaign", pause.because, pause.until)
    yield Gate("time", "not due", due) if due > now else Gate("time")
    waits = retry_at is not None and retry_at > now
    yield Gate("retry", row.error_message or "refused", retry_at) if waits else Gate("retry")
    if row.until:
        is_late = now.replace(microsecond=0) > row.until
        yield Gate("until", "too late: its end has passed" if is_late else "")
    yield find_hours(row.phone_number, row.timezone, _passes_hours(row, now, config), now, config)
    budgets = None if is_done or row.is_begun else turn.budgets
    yield find_quota(row.phone_number, row.message_content, budgets, now, config)


def find_box_gates(turn: Turn, row: StoredRow | None = None) -> Iterator[Gate]:
    """Yield the gates of the box but its pace: while one is shut nobody goes.

    row: the message whose gates they are; what a person sends anyway need not be heard first.
    """
    pause = turn.pauses.get("", _NO_PAUSE)
    yield Gate("pause", pause.because, pause.until)
    yield Gate("clock", turn.doubt)
    yield Gate("modem", turn.not_ready)
    yield Gate("incoming", "" if row and _is_sent_anyway(row) else turn.not_read)
    yield Gate("disk", turn.disk)


def _is_sent_anyway(row: StoredRow) -> bool:
    return row.at_once and row.anyway


def find_pace(row: StoredRow, turn: Turn, config: Config) -> Gate:
    """Return the gate that keeps messages apart: by the least interval, a late one by its own gap.

    What is begun goes on without it, and so do some an hour of those sent by hand.
    """
    is_free = row.is_begun or turn.last_begun == row.id or (row.at_once and turn.at_once_left > 0)
    if turn.waited is None or is_free:
        return Gate("pace")
    wait = timedelta(minutes=config.pacing.interval_minutes[0])
    if turn.now - row.scheduled_for > timedelta(minutes=config.service.late_after_minutes):
        wait = max(wait, gap_of(row, config.pacing).span)
    left = wait - turn.waited
    return Gate("pace", _JUST_GONE, turn.now + left) if left > timedelta() else Gate("pace")


def gap_of(row: StoredRow, pace: Pace) -> Gap:
    """Return what was drawn before a row; of one made by hand it is drawn from its ID."""
    if row.gap_s is not None:
        return Gap(row.gap_s, row.skip_s or 0.0)
    import random  # it takes milliseconds

    return draw_gap(random.Random(row.id), pace)


def find_end(row: StoredRow, turn: Turn, config: Config) -> End | None:
    """Return what a due message comes to instead of being sent; None: it may go, or wait."""
    now = turn.now
    if row.said_stop_at:
        return End("the recipient said stop")
    if row.until and now.replace(microsecond=0) > row.until:
        return End("too late")
    hours = find_hours(row.phone_number, row.timezone, row.anyway, now, config)
    budgets = None if row.is_begun else turn.budgets
    quota = find_quota(row.phone_number, row.message_content, budgets, now, config)
    for gate in (hours, quota):
        if gate.shut and gate.until is None:  # it never opens by itself
            return End(gate.shut, HeldCode.UNSENDABLE)
    late, days = now - row.scheduled_for, config.service.expire_after_days
    if row.last_segment_at is not None:
        since = max(row.last_segment_at, row.scheduled_for)
        if open_time(since, now, _hours_of_row(row, now, config)) > _CUT_AFTER:
            return End("cut in half: a part was sent, the rest is late", HeldCode.CUT)
    elif row.at_once and late > _AT_ONCE_WITHIN:
        return End("it could not go within the hour", HeldCode.LATE)
    elif not quota.shut and late > (most := timedelta(days=days)):
        standing = now - _standing_since(row, turn)
        return End(f"more than {days:g} days late", HeldCode.LATE) if standing > most else None
    return None


def _standing_since(row: StoredRow, turn: Turn) -> datetime:
    """Return since when a late message waits for nothing but a box that stands still."""
    moments = [row.scheduled_for]
    for name in {"", row.campaign_name} & set(turn.pauses):
        moments.append(turn.pauses[name].resumed_at or row.scheduled_for)
    if turn.waited is not None:
        moments.append(turn.now - turn.waited)
    if turn.budgets is not None:
        share = count_share(row.phone_number, row.message_content)
        moments.append(turn.budgets().reopened(turn.now, share) or row.scheduled_for)
    return max(moments)


def find_hours(number: str, said: str, anyway: bool, now: datetime, config: Config) -> Gate:
    """Return the gate of the sender's hours, which anyway passes, and of the recipient's.

    It never opens where no hour is common to them, or where the zone that the row names is none.
    """
    number, ours = normalize_number(number), config.business_hours
    try:
        window = common_window(now, hours_of(number, said, ours, config.recipient_hours, anyway))
    except ValueError as error:
        return Gate("hours", str(error))
    if window is None:
        zones = name_zones(recipient_zones(number, said))
        return Gate("hours", f"no hour is open both here and in {zones}")
    if window[0] <= now:
        return Gate("hours")
    words = "outside the business hours"
    if anyway or is_open(now, ours):
        words = f"outside the recipient's hours in {name_zones(recipient_zones(number, said))}"
        words += ", which --anyway does not pass" if anyway else ""
    return Gate("hours", words, window[0])


def find_quota(
    number: str, text: str, budgets: Callable[[], Budgets] | None, now: datetime, config: Config
) -> Gate:
    """Return the gate of the budgets; it never opens for what is too long for a day's."""
    if budgets is None:
        return Gate("quota")
    share, most = count_share(number, text), config.pacing.max_segments_per_day
    if 0 < most < share.segments:
        return Gate("quota", explain_too_long(share.segments, most))
    if limit := budgets().find_limit(now, share):
        name, until = limit
        return Gate("quota", f"{name} = {getattr(config.pacing, name)} is met", until)
    return Gate("quota")


def _hours_of_row(row: StoredRow, now: datetime, config: Config) -> tuple[BusinessHours, ...]:
    """Return all hours that must be open for a row; ValueError where its zone is none."""
    number, passes = normalize_number(row.phone_number), _passes_hours(row, now, config)
    return hours_of(number, row.timezone, config.business_hours, config.recipient_hours, passes)


def _passes_hours(row: StoredRow, now: datetime, config: Config) -> bool:
    """True if the operator's word opens the sender's hours: it was meant for now, not for later."""
    due = max(row.scheduled_for, row.retry_at or row.scheduled_for)
    return row.anyway and now - due <= timedelta(minutes=config.service.late_after_minutes)


def project_queue(
    database: Database, now: datetime, config: Config, rows: Iterable[StoredRow] | None = None
) -> dict[MessageId, datetime | None]:
    """Return when each waiting row will really go, were nothing to stand still from now on.

    rows: only these, the first ones of the queue.

    None: it will be too late by then. Rows that wait for a person are not in it; with the box
    paused for good it is empty.
    """
    queue, pauses = database.queue, database.state.pauses()
    begun = queue.last_begun()
    last = min(begun[1], now) if begun else None
    budgets = find_budgets(database, now, config)
    box = pauses.get("", _NO_PAUSE)
    if box.because:
        if box.until is None:
            return {}
        now = max(now, box.until)
    resumed = {
        name: each._replace(resumed_at=now) if each.because else each
        for name, each in pauses.items()
    }
    left = _AT_ONCE_AN_HOUR - queue.count_at_once(now - timedelta(hours=1))
    turn = Turn(
        now, {}, resumed, None, None, now - last if last else None, left,
        (lambda: budgets) if config.pacing.is_limited else None, "", "", "",
    )  # fmt: skip
    found: dict[MessageId, datetime | None] = {}
    paced: list[StoredRow] = []
    candidates: list[Candidate] = []
    for row in queue.waiting() if rows is None else rows:
        if row.doubtful_at:
            continue
        if find_end(row, turn, config):  # it will be held, or cancelled
            found[row.id] = None
            continue
        each = _to_candidate(row, pauses.get(row.campaign_name, _NO_PAUSE), budgets, config)
        if not row.is_begun and not (row.at_once and left > 0):
            paced.append(row)
            candidates.append(each)
            continue
        left -= row.at_once
        ready = max(now, each.ready_at or now)
        opens = common_window(ready, _hours_of_row(row, ready, config))
        goes_at = max(ready, opens[0]) if opens else None
        if goes_at and not row.is_begun:
            is_late = goes_at - row.scheduled_for > _AT_ONCE_WITHIN
            if is_late or budgets.find_limit(goes_at, each.share):
                goes_at = None
            else:
                budgets.spend(goes_at, each.share)
        found[row.id] = goes_at
        last = now if row.is_begun and not row.at_once and goes_at == now else last
    late_after = timedelta(minutes=config.service.late_after_minutes)
    times = project(candidates, now, last, config.pacing, late_after, budgets)
    return found | {row.id: at for row, at in zip(paced, times, strict=True)}


def _to_candidate(row: StoredRow, pause: Pause, budgets: Budgets, config: Config) -> Candidate:
    share = Share(row.phone_number, 1)
    if config.pacing.is_limited:
        share = count_share(row.phone_number, row.message_content)
    own, ready_at = "", row.scheduled_for
    if row.campaign_name and pause.because and pause.until:
        own, ready_at = row.campaign_name, max(ready_at, pause.until)
    if row.retry_at and row.retry_at > ready_at:
        own, ready_at = str(row.id), row.retry_at
    span_s = gap_of(row, config.pacing).span.total_seconds()
    number, said, ours, theirs = (
        row.phone_number, row.timezone, config.business_hours, config.recipient_hours
    )  # fmt: skip
    waiting = Candidate(
        hours_of(number, said, ours, theirs), share, ready_at, row.scheduled_for, span_s, row.until,
        own,
    )  # fmt: skip
    if not row.anyway:
        return waiting
    due = max(row.scheduled_for, row.retry_at or row.scheduled_for)
    return waiting._replace(
        apart=str(row.id),
        anyway=hours_of(number, said, ours, theirs, anyway=True),
        anyway_until=due + timedelta(minutes=config.service.late_after_minutes),
    )


def is_believable(sent_at: datetime | None, now: datetime) -> bool:
    """True if a text may have been sent then: not a day after now; None: when it came."""
    return sent_at is None or sent_at - now <= timedelta(days=1)


class _Part(NamedTuple):
    """A stored part of a long text."""

    id: int
    pdu: str
    came_at: datetime
    tpdu: Tpdu


class LongTexts:
    """Puts the parts of long texts together; what stays cut for a day is given up."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def is_whole(self, sender: str, reference: int, total: int) -> bool:
        """True if all parts of a reference are here, and are surely of one text."""
        return self._is_sure(self._read_stored(self._inbox.parts_of(sender, reference, total)))

    def hand_over(self, take_in: Callable[[Tpdu, str], bool], now: datetime) -> None:
        """Hand over the texts that are whole, and as far as they came those that are given up.

        take_in: stores a text and its parts as they came; True if it has.
        """
        since = now - _PARTS_WAIT
        for is_given_up, stored in self._inbox.find_long_texts(since, now):
            parts = self._read_stored(stored)
            while self._is_sure(parts) and (joined := self._join(parts, False, take_in, now)):
                parts = [each for each in parts if each.id not in joined]
            old = [each for each in parts if not since < each.came_at <= now + _PARTS_WAIT]
            groups = [(parts, is_given_up)]
            if old:  # what came since is of another text
                groups = [(old, True), ([each for each in parts if each not in old], False)]
            for waiting, is_old in groups:
                while waiting and (joined := self._join(waiting, is_old, take_in, now)):
                    waiting[:] = [each for each in waiting if each.id not in joined]

    def _join(
        self,
        parts: Sequence[_Part],
        is_given_up: bool,
        take_in: Callable[[Tpdu, str], bool],
        now: datetime,
    ) -> set[int]:
        """Hand over a text of these parts; return those that it took, none: it still waits."""
        chosen = self._choose(parts)
        tpdus = [each.tpdu for each in chosen]
        is_cut = tpdus[0].concatenation is None or len(chosen) < tpdus[0].concatenation[1]
        settles = now - max(each.came_at for each in parts) < _PARTS_SETTLE
        if not is_given_up and (is_cut or (settles and self._may_be_of_two(chosen))):
            return set()
        if not take_in(join_parts(tpdus), "\n".join(each.pdu for each in chosen)):
            return set()
        # What is left over began another long text; of another service centre it is the same.
        taken = [replace(tpdu, smsc=None) for tpdu in tpdus]
        joined = {each.id for each in parts if replace(each.tpdu, smsc=None) in taken}
        self._inbox.mark_joined(joined)
        return joined

    def _read_stored(self, stored: Iterable[tuple[int, str, str]]) -> list[_Part]:
        return [
            _Part(part, pdu, read_stored_time(at), decode_tpdu(pdu, "in"))
            for part, pdu, at in stored
        ]

    def _choose(self, parts: Sequence[_Part]) -> list[_Part]:
        return [parts[place] for place in choose_parts([each.tpdu for each in parts])]

    def _is_sure(self, parts: Sequence[_Part]) -> bool:
        chosen = self._choose(parts)
        place = chosen[0].tpdu.concatenation if chosen else None
        return place is not None and len(chosen) == place[1] and not self._may_be_of_two(chosen)

    def _may_be_of_two(self, chosen: Sequence[_Part]) -> bool:
        return span_of_parts(each.tpdu for each in chosen) > _PARTS_APART_S * len(chosen)


class TextStorage:
    """Empties the modem's memories, and tells what they do not hand over.

    Nothing is deleted that was not stored octet by octet.
    """

    def __init__(self, link: Link, take_in: Callable[[str], bool]) -> None:
        self._link = link
        self._take_in = take_in  # True: it is in the database

    def empty_all(self, modem: Modem, told: frozenset[str]) -> str:
        """Read all memories; return why something may lie there unread, "": nothing does.

        told: those in which something has come in. The memory of new texts must not refuse.
        """
        first, *others = modem.list_memories()
        problems, aside = [], []
        for memory in [first, *sorted({*others, *told, *modem.closed} - {first, ""})]:
            try:
                problems.append(self._empty(modem, memory, memory == first))
                modem.closed.discard(memory)
            except Refused as refused:
                logging.debug("the modem refuses to list %s: %s", memory, refused)
                if memory == "SR":
                    modem.let_reports_come_directly()
                elif memory == first or memory in told or memory in modem.closed:
                    modem.closed.add(memory)
                    problems.append(f"{_NOT_LISTED} ({refused}): {_WHAT_TO_DO}")
            aside += [f"{place} of {memory}" for place in sorted(modem.find_set_aside(memory))]
        words = f"it can't read place {', '.join(aside)}: what lies there is left alone"
        self._link.warn("places", words if aside else "")
        self._link.warn("reports", _NO_REPORTS if modem.lacks_reports() else "")
        return next(filter(None, problems), "")

    def _empty(self, modem: Modem, memory: str, is_first: bool) -> str:
        """Take in what a memory holds; return why not all of it, or why no more comes into it."""
        contents = modem.read_memory(memory)
        if memory == "SR" and contents.places == 0:
            modem.let_reports_come_directly()
        self._take_in_whole(modem, [each for each in contents.whole if each.is_received])
        for each in contents.fragments:
            if each.is_received:
                for line in filter(None, each.pdu.split("\n")):
                    self._take_in(line)
        if contents.missing:
            more = f"{contents.missing} more in {memory or 'its memory'} than it hands over"
            return f"{_NOT_LISTED}, and counts {more}: {_WHAT_TO_DO}"
        if contents.used < contents.places or not contents.places:
            return ""
        sent = [each for each in contents.whole if not each.is_received]
        is_full = self._is_full(modem, memory)
        if is_full and sent:
            for each in sent:
                modem.delete_stored(each)
            is_full = self._is_full(modem, memory)
            logging.warning("modem: its memory %s was full of texts once sent: removed", memory)
        if not is_first:
            return ""
        modem.storage_full = is_full
        self._link.warn("storage", "")
        return f"its memory is full and does not get empty: {_WHAT_TO_DO}" if is_full else ""

    def _take_in_whole(self, modem: Modem, texts: Iterable[StoredTpdu]) -> None:
        full: DiskFull | None = None
        for each in texts:
            try:
                if self._take_in(each.pdu):
                    modem.delete_stored(each)  # it is in the database by now
            except DiskFull as error:  # a stop behind it has room of its own
                full = error
        if full is not None:
            raise full

    def _is_full(self, modem: Modem, memory: str) -> bool:
        used, places = modem.choose_memory(memory)
        return used is not None and used == places


class Intake:
    """Takes in what the network brings: reports and replies; stored first, then acted on."""

    def __init__(self, config: Config, database: Database, clock: Clock, link: Link) -> None:
        self._words = config.replies
        self._operator = config.alerts.operator
        self._zone = config.business_hours.timezone
        self._database = database
        self._clock = clock
        self._link = link
        self._storage = TextStorage(link, self._take_in_tpdu)
        self._long_texts = LongTexts(database.inbox)
        self._direct: deque[str] = deque()  # what came by itself and is not in the database yet
        self._set_aside: set[str] = set()  # what no attempt could store: it stays where it is
        self._unread = ""  # what the modem's memories do not hand over
        self._left_stored: list[str] = []  # what they counted when they had been read
        self._vain_sweeps = 0  # in a row: something stayed unread

    def take_in(self, modem: Modem) -> None:
        """Read what came unasked; empty the SIM's storage when told, and now and then."""
        modem.listen()
        notices = modem.take_notices()
        if notices.weak_power:
            self._link.warn("power", _WEAK_POWER_WORDS)
        self._direct.extend(notices.tpdus)
        if notices.restarted or notices.sim_gone:
            self._link.attach_again("it started anew" if notices.restarted else "the SIM is out")
            return
        while self._direct:
            self._take_in_tpdu(self._direct[0])
            self._direct.popleft()
            modem.is_awaited = False
            modem.acknowledge()
        if notices.is_stored_nowhere:
            modem.let_texts_come_directly()
        if notices.memories or self._clock.monotonic() >= self._link.sweep_at:
            self._sweep(modem, notices.memories)
        self._link.tell_unread(self._unread or modem.explain_silence())

    def hear_before_sending(self) -> bool:
        """Look for what has come unnoticed; True if all that came in is known."""
        modem = self._link.modem
        if modem is None:
            return False
        if modem.count_stored() != self._left_stored:
            self._link.sweep_at = 0.0
        self.take_in(modem)
        return self._link.is_ready() and not self._link.unread

    def _sweep(self, modem: Modem, told: frozenset[str]) -> None:
        """Read all that is stored anywhere; what fails half-way begins anew."""
        self._link.sweep_at, self._link.unread = 0.0, self._link.unread or _NOT_READ
        self._unread = self._storage.empty_all(modem, told)
        self._left_stored = modem.count_stored()
        self._read_long_texts(self._clock.now())
        self._database.inbox.match_reports(self._clock.now())
        self._vain_sweeps = self._vain_sweeps + 1 if self._unread else 0
        wait_s = _VAIN_PAUSE_S if self._vain_sweeps >= _VAIN_SWEEPS else 0.0
        self._link.sweep_at = self._clock.monotonic() + (wait_s if self._unread else _SWEEP_S)

    def _take_in_tpdu(self, pdu: str) -> bool:
        """Store what came and act on it; True if it is in the database."""
        return self._guard(pdu, lambda: self._read_tpdu(pdu))

    def _guard(self, pdu: str, read: Callable[[], None]) -> bool:
        """Let no text stop the box: what smsbox itself fails to read is kept as it came.

        What can't even be kept stays with the modem. The disk's and the modem's own errors are no
        fault of the text: it is tried again.
        """
        if pdu in self._set_aside:
            return False
        try:
            read()
        except RowRefused:
            return self._keep_after_error(pdu)
        except (StoreError, ModemError):
            raise
        except Exception:
            return self._keep_after_error(pdu)
        return True

    def _read_tpdu(self, pdu: str) -> None:
        now = self._clock.now()
        try:
            tpdu = decode_tpdu(pdu, "in")
        except ValueError as error:
            self._keep_unread(pdu, "unknown", str(error))
            return
        if tpdu.kind == "STATUS-REPORT":
            self._take_in_report(tpdu, pdu, now)
        elif tpdu.concatenation and tpdu.concatenation[1] > 1:
            self._take_in_part(tpdu, pdu, now)
        else:
            text = tpdu.text
            self._take_in_text(replace(tpdu, text=text and clean_text(text)), pdu, now)

    def _keep_unread(self, pdu: str, sender: str, why: str) -> None:
        """Store a text as it came: it may mean stop, and shuts the reply gate of its sender."""
        now, number = self._clock.now(), self._find_person(sender)[0]
        if self._database.inbox.add(pdu, number, None, None, Request.NOTHING, now):
            words = "a text came in that can't be read (%s): it is kept as it is, smsbox inbox"
            logging.warning(words, why)

    def _keep_after_error(self, pdu: str) -> bool:
        logging.exception("an error of smsbox itself while it read a text that came in")
        sender = "unknown"
        with suppress(ValueError):
            sender = decode_tpdu(pdu.partition("\n")[0], "in").number
        try:
            self._keep_unread(pdu, sender, "an error of smsbox itself")
        except RowRefused:
            logging.error("a text that came in can't be stored: it stays where the modem has it")
            self._set_aside.add(pdu)
            return False
        return True

    def _take_in_report(self, told: Tpdu, pdu: str, now: datetime) -> None:
        number, (delivery, words) = told.number, read_delivery(told.status)
        sent_at, discharged_at = (
            at if at and now - _LONGEST_VALID <= at <= now + timedelta(days=1) else now
            for at in (told.sent_at, told.discharged_at)
        )
        report = Report(number, told.reference or 0, delivery, words, sent_at, discharged_at)
        if self._database.inbox.add_report(pdu, report, now):
            known = self._database.inbox.match_reports(now) > 0
            logging.info("%s to=%s known=%s %s", delivery.value, mask(number), known, words)

    def _take_in_part(self, part: Tpdu, pdu: str, now: datetime) -> None:
        """Keep a part until its text is whole.

        A text that begins with a part that is a stop by itself acts at once, where its rest is not
        here; the end of one may be a stop word by chance.
        """
        (number, is_one), text = self._find_person(part.number), clean_text(part.text or "")
        concatenation = part.concatenation
        assert concatenation is not None
        reference, total, sequence = concatenation
        is_stop = is_one and sequence == 1 and is_keyword_stop(text, self._words.stop_words)
        if read_mms_sender(part) not in (None, part.number):  # it names who wrote, and is enough
            self._take_in_text(part, pdu, now)

        def store() -> bool:
            inbox = self._database.inbox
            with self._database.transaction():
                new = inbox.add_part(pdu, number, part.sent_at or now, concatenation, now)
                if new and is_stop and not self._long_texts.is_whole(number, reference, total):
                    self._act_on(Request.STOP, number, text, self._is_fresh(part, now), now)
            return new

        if self._insist(store) if is_stop else store():
            self._read_long_texts(now)

    def _insist(self, store: Callable[[], _T]) -> _T:
        """A full disk does not keep a stop out."""
        try:
            return store()
        except DiskFull:
            if not use_reserve(self._database.path):
                raise
            logging.warning("the disk is full: a stop has taken the room that was kept for it")
            return store()

    def _read_long_texts(self, now: datetime) -> None:
        def take_in(text: Tpdu, pdus: str) -> bool:
            return self._guard(pdus, lambda: self._take_in_text(text, pdus, now))

        self._long_texts.hand_over(take_in, now)

    def _take_in_text(self, text: Tpdu, pdu: str, now: datetime) -> None:
        words, body = self._words, text.text or ""
        sender, readable = text.number, text.text
        if (from_field := read_mms_sender(text)) is not None:
            sender, readable = from_field, _MMS
        number, is_one = self._find_person(sender)
        asked = _read_reply_of(self._database, number, body, words)
        is_whole = text.text is not None and not text.damage  # what is missing may mean stop
        sent_at = self._find_sent_at(text, number, asked, pdu, now)
        if asked in (Request.STOP, Request.START) and not is_one:
            asked = Request.PERHAPS_STOP  # whose it is only a person can tell
        elif asked is Request.START and not (is_whole and is_believable(text.sent_at, now)):
            asked = Request.PERHAPS_STOP  # it may be older than a stop
        elif asked is Request.START and sent_at < self._database.inbox.find_last_stop(number):
            # A modem hands out its places in any order; one time for all tells no order.
            knows_no_time = self._database.inbox.has_start(number, sent_at)
            asked = Request.PERHAPS_STOP if knows_no_time else Request.NOTHING
            logging.info("start from=%s was sent before the stop: it stays", mask(number))
        is_let_through = is_whole and (not words.hold_on_reply or is_harmless(body))
        if asked is Request.NOTHING and not is_let_through:
            asked = Request.PERHAPS_STOP

        def store() -> int | None:
            with self._database.transaction():
                if self._database.inbox.add(pdu, number, readable, sent_at, asked, now):
                    return self._act_on(asked, number, body, self._is_fresh(text, now), now)
                if asked is Request.STOP and not self._database.opt_outs.at(number):
                    self._database.inbox.doubt_again(number, sent_at, readable)
            return None

        touched = self._insist(store) if asked is Request.STOP else store()
        if touched is None:  # it was known
            return
        level = logging.WARNING if asked is Request.PERHAPS_STOP else logging.INFO
        logging.log(
            level, "reply from=%s asks=%s rows=%d", mask(number), asked.value.replace(" ", "-"),
            touched,
        )  # fmt: skip

    def _find_person(self, sender: str) -> tuple[str, bool]:
        """Return whose number a sender is, in the form of their rows, else as it came; False if it
        may be that of several people."""
        people = self._database.inbox.find_people(sender)
        return (people[0] if len(people) == 1 else sender), len(people) < 2

    def _find_sent_at(
        self, text: Tpdu, number: str, asked: Request, pdu: str, now: datetime
    ) -> datetime:
        """Return when a text was sent; where nobody can tell, when it came first.

        Nobody can where the number's START has the same time as its stop: some service centres give
        always one.
        """
        inbox, sent_at = self._database.inbox, text.sent_at
        if sent_at and is_believable(sent_at, now):
            may_stop = asked in (Request.STOP, Request.PERHAPS_STOP)
            if not (may_stop and inbox.has_start(number, sent_at)):
                return sent_at
        return inbox.find_last_time(number, pdu) or now

    def _is_fresh(self, text: Tpdu, now: datetime) -> bool:
        return text.sent_at is None or now - text.sent_at <= _ANSWER_WITHIN

    def _act_on(self, asked: Request, number: str, body: str, is_fresh: bool, now: datetime) -> int:
        """Do what a text asks for, inside a transaction; return how many rows it touched.

        What lay in the service centre while the box was off is not answered at some odd hour, and
        only who got or is to get something is: strangers could make it write to whom they like.
        """
        stopped = self._database.opt_outs.at(number)
        may_answer = is_fresh and number in self._database.inbox.find_people(number)
        may_answer &= is_phone_number(number)  # a row that was made by hand may have a name there
        touched = 0
        if is_same_number(number, self._operator) and body.strip().upper() in ("STATUS", "PAUSE"):
            self._obey(body.strip().upper(), is_fresh, now)
        elif asked is Request.STOP:
            is_keyword = is_keyword_stop(body, self._words.stop_words)
            tier = "keyword" if is_keyword else "words"
            touched = self._database.opt_outs.add(number, body, now, "daemon", tier=tier)
            if not stopped and may_answer:
                self._answer(asked, number, body, now)
            for *_, campaign in self._database.opt_outs.list(number):
                pause_unwanted_campaign(self._database, campaign, now)
        elif asked is Request.START:
            lifted = self._database.opt_outs.remove(
                number, now, "daemon", "START", only_keyword=True
            )
            touched = lifted + self._database.inbox.settle(number, now, "START")
        elif asked is Request.PERHAPS_STOP and self._database.opt_outs.forms(number, is_sure=True):
            # Who has stopped is asked nothing more.
            touched = self._database.inbox.settle(number, now, "STOP")
        elif asked is Request.HELP and not stopped and may_answer:
            self._answer(asked, number, body, now)
        return touched

    def _obey(self, order: str, is_fresh: bool, now: datetime) -> None:
        """Answer the operator's phone; two machines must not talk to each other for ever.

        Whoever forges that number can pause the box, and no more: it is told to the phone itself.
        """
        state, sending = self._database.state, self._database.sending
        if not is_fresh:
            logging.warning(
                "%s of the operator's phone was sent over 5 minutes ago: not obeyed", order
            )
            return
        may_answer = sending.count_answers("answer", now - timedelta(days=1)) < _STATUS_A_DAY
        if order == "PAUSE":
            last = state.get("pause_answered_at")
            may_answer &= not last or now - read_stored_time(last) > timedelta(minutes=10)
            pause = state.pauses().get("", _NO_PAUSE)
            if not state.paused_by_box():
                may_answer |= not pause.because or pause.by != PausedBy.PHONE.value
                state.pause("", "paused by a text of the operator", PausedBy.PHONE, now)
            state.add_event("paused", "by a text of the operator", now, "daemon")
            state.set(pause_answered_at=now if may_answer else last)
        if may_answer:
            modem = self._link.modem
            signal = modem.signal_dbm if modem else None
            told = describe_box(self._database, now.astimezone(self._zone), signal)
            sending.add_answer("answer", self._operator, told, now)

    def _answer(self, asked: Request, number: str, body: str, now: datetime) -> None:
        """Queue the box's own text, in the words' language; a machine at the other end that answers
        each text gets a few a day."""
        kind, day = "help" if asked is Request.HELP else "confirmation", now - timedelta(days=1)
        sending = self._database.sending
        already = sending.count_answers(kind, day, number)
        in_all = sending.count_answers("help", day) + sending.count_answers("confirmation", day)
        if already >= _ANSWERS_A_DAY[kind] or in_all >= _ANSWERS_IN_ALL:
            return
        name, contact = self._words.sender_name, self._words.help_contact
        *_, ours = self._database.queue.last_message_to(number)
        for told in ((name, contact), ("", contact), ("", "")):
            text = write_answer(asked, language_of(body, language_of(ours)), *told)
            if len(segment_text(text).units) == 1:
                break
        self._database.sending.add_answer(kind, number, text, now)


def _read_reply_of(database: Database, number: str, body: str, words: ReplySettings) -> Request:
    """Read a text in the light of our last one to its number: a no may be an answer to it."""
    *_, ours = database.queue.last_message_to(number)
    return read_reply(
        body, words.stop_words, words.help_words, words.start_words, asked=asks_question(ours)
    )


def read_texts(database: Database, unread: bool, sender: str = "") -> list[dict[str, Any]]:
    """Return what Inbox.texts() does, and behind it, as perhaps a stop, the long texts whose rest
    is waited for, as far as they came: these have no id."""
    found = [dict(each) for each in database.inbox.texts(unread, sender)]
    waiting = database.inbox.waiting_parts(sender)
    for (who, name, _, total), group in groupby(waiting, key=lambda each: (*each[:4],)):
        parts = list(group)
        words = [decode_tpdu(each["tpdu"], "in").text or "" for each in parts]
        came = len({each["sequence"] for each in parts})
        found.append({
            "id": None, "received_at": min(each["received_at"] for each in parts), "sender": who,
            "settled_at": None, "customer_name": name,
            "body": f"({came} of {total} parts) {clean_text(' […] '.join(words))}",
            "request": Request.PERHAPS_STOP.value, "read_at": None, "answers": None,
            "tpdu": "\n".join(each["tpdu"] for each in parts),
        })  # fmt: skip
    return found


def settle_replies(database: Database, number: str, now: datetime, by: str) -> int:
    """Be done with a number's replies, and wait no more for the rest of its long texts: what came
    is kept as it is. Return how many; inside a transaction."""
    inbox = database.inbox
    for text in read_texts(database, False, number):
        if text["id"] is None:
            doubtful = Request.PERHAPS_STOP
            inbox.add(text["tpdu"], text["sender"], text["body"], None, doubtful, now)
    inbox.mark_joined(each["id"] for each in inbox.waiting_parts(number))
    return inbox.settle(number, now, by)


def read_again(database: Database, words: ReplySettings, clock: Clock) -> None:
    """Read once more what an older version stored, by the rules and numbers of this one.

    A stop counts that was not seen then, unless START or optout remove came after it.
    """
    if database.state.get("replies_read_by"):
        return
    stops: dict[str, str] = {}
    with database.transaction():
        lifted = database.opt_outs.lifted()
        for text in database.inbox.stored():
            if text["id"] % 10 == 0:  # thousands take a Pi Zero minutes: the watchdog wants a sign
                clock.until(clock.monotonic() + 0.001)
            sender, body = text["sender"], text["body"]
            if body is None:
                with suppress(ValueError):
                    read = decode_tpdu(text["tpdu"].partition("\n")[0], "in")
                    sender, body = read.number, clean_text(read.text) if read.text else None
            people = database.inbox.find_people(sender)
            number = people[0] if len(people) == 1 else sender
            asked = Request.NOTHING
            if body is not None:
                asked = _read_reply_of(database, number, body, words)
            if asked is Request.STOP:
                if lifted.get(number, "") < text["received_at"]:
                    stops[number] = body or ""
            elif asked is Request.START:
                stops.pop(number, None)
            is_new = asked in (Request.STOP, Request.PERHAPS_STOP) and not text["read_at"]
            database.inbox.read_again(text["id"], number, body, asked if is_new else None)
        for number, body in stops.items():
            if not database.opt_outs.at(number):
                tier = "keyword" if is_keyword_stop(body, words.stop_words) else "words"
                database.opt_outs.add(number, body, clock.now(), "daemon", tier=tier)
        database.state.set(replies_read_by=VERSION)


def describe_box(database: Database, now: datetime, signal_dbm: int | None) -> str:
    """Return in one segment how the box is; times in the zone of now."""
    waiting = database.reports.count_by_status()["scheduled"]
    row = database.queue.next_row()
    paused = database.state.get("paused_because")
    said = [
        f"paused: {shorten(paused, 60)}" if paused else "running",
        f"{database.reports.count_sent_since(now - timedelta(days=1))} sent in 24 h",
        f"{waiting} wait",
        f"next {row.scheduled_for.astimezone(now.tzinfo):%a %H:%M}" if row and not paused else "",
        f"signal {signal_dbm} dBm" if signal_dbm is not None else "",
    ]
    return "smsbox: " + ", ".join(filter(None, said))


def shorten(text: str, length: int) -> str:
    """Make a text fit a part of one segment in the plainest letters."""
    plain = "".join(char if " " <= char <= "z" and char not in "[\\]^`" else "?" for char in text)
    return plain if len(plain) <= length else plain[: length - 3] + "..."


class Alerts:
    """Tells the operator's phone what needs a person: each kind once until its cause has gone."""

    def __init__(self, operator: str, hours: BusinessHours, database: Database) -> None:
        self._operator = operator
        self._hours = hours
        self._database = database

    def tend(self, turn: Turn, clock_waits_s: float, has_error: bool = False) -> None:
        """Queue what is new; more than a few a day wait for the next one."""
        now = turn.now
        if not self._operator or self._database.opt_outs.at(self._operator):
            return
        told = set(json.loads(turn.words.get("alerted") or "[]"))
        causes = dict(self._find_causes(turn))
        if clock_waits_s:  # what else there is can't be told by it
            causes = dict.fromkeys(told, "")
            if clock_waits_s >= _CLOCK_ALERT_S:
                words = "the clock is not trusted for an hour and nothing is sent"
                causes["clock"] = f"{words}. See smsbox status"
        if has_error:
            causes["error"] = "an error of smsbox itself stops the sending. See smsbox status"
        sent = self._database.sending.count_answers("alert", now - timedelta(days=1))
        left = _ALERTS_A_DAY - sent
        new = [key for key in causes if key not in told and causes[key]]
        new.sort(key=lambda key: key not in _STANDSTILLS)
        kept = 0 if _STANDSTILLS & {*new} else _ALERTS_KEPT
        new = new[: max(left - kept, 0)]
        if new or told - set(causes):
            with self._database.transaction():
                for key in new:
                    self._database.sending.add_answer(
                        "alert", self._operator, f"smsbox: {causes[key]}", now
                    )
                self._database.state.set_key(
                    "alerted", json.dumps(sorted(told & set(causes) | set(new)))
                )

    def _find_causes(self, turn: Turn) -> Iterator[tuple[str, str]]:
        """Return each cause that holds with its words; "" while it waits for the day."""
        now, pause = turn.now, turn.pauses.get("", _NO_PAUSE)
        if pause.because and pause.by == PausedBy.BOX.value:
            yield "paused", f"it paused itself: {shorten(pause.because, 90)}. See smsbox status"
        for name, each in turn.pauses.items():
            if name and each.because and each.by == PausedBy.BOX.value:
                why = f"{shorten(name, 40)}: {shorten(each.because, 60)}"
                yield f"paused {name}", f"campaign {why}. See smsbox status"
        if pause.because and pause.by == PausedBy.PHONE.value:
            yield "phone", "a text from this number has paused it; smsbox resume goes on"
        day, sending = now - timedelta(days=1), self._database.sending
        answers = sending.count_answers("help", day) + sending.count_answers("confirmation", day)
        if answers >= _ANSWERS_IN_ALL:
            yield "answers", f"{answers} answers in a day; no more are sent. See smsbox inbox"
        row = None if pause.because else turn.next_row
        if row and now - row.scheduled_for > timedelta(hours=1) and is_open(now, self._hours):
            yield "late", "nothing was sent for an hour, though messages were due. It goes on now"
        by_day = 8 <= now.astimezone(self._hours.timezone).hour < 21
        if self._database.reports.has_doubtful():
            words = "a reply may mean stop; its messages are held. See smsbox inbox"
            yield "held", words if by_day else ""
        for name in self._database.reports.finished_since(now - timedelta(days=1)):
            words = ""
            if by_day:
                rows = self._database.reports.count_by_status_of(name)
                words = f"{shorten(name, 60)} is done: {rows['sent']} sent, {rows['failed']} failed"
            yield f"done {name}", words


def describe_modem(modem: Modem | None, port: Port | None) -> dict[str, object]:
    """Return what is known of the modem, for the status file and the check; numbers masked."""
    if modem is None or port is None:
        return {}
    who = modem.identity
    return {
        "port": port.name,
        "model": who.model,
        "imei": mask(who.imei),
        "iccid": mask(who.iccid),
        "operator": who.operator,
        "access": modem.access,
        "registration": modem.registration,
        "signal_dbm": modem.signal_dbm,
        "service_centre": modem.service_centre,
        "storage_full": modem.storage_full,
        "delivery_reports": modem.delivery_reports,
    }


class Timekeeper:
    """Decides whether the time may be believed; nothing is sent, held or cancelled before it is.

    Trust lasts for the boot, since a clock that was right drifts by seconds: but not over a step
    for which nobody vouches, and not against our own past.
    """

    def __init__(self, config: Config, around: Surroundings, database: Database) -> None:
        self.trusted_by = ""  # in words; "" while the time is not trusted
        self.doubt = ""  # then why
        self._is_watched = config.clock.require_trust
        self._find_evidence = around.find_time_evidence
        self._clock = around.clock
        self._database = database
        self._boot = read_boot_id()
        self._vouched_by = ""
        self._waits_since: float | None = None
        self._is_person_told = False
        self._offset_s: float | None = None  # wall time minus monotonic time, as last seen

    def look(self) -> None:
        """Look at the clock, and ask who vouches for it."""
        is_stepped, before = self._is_stepped(), self.trusted_by
        if not self._is_watched:
            self.trusted_by = "not watched: require_trust is false"
            return
        if is_stepped:  # only who vouches for the clock as it is now is believed
            self._vouched_by = self._find_evidence()
            if not self._vouched_by:
                self._database.state.set(trusted_boot="", clock_word="")
        elif before:
            return
        told = self._is_word_of_boot("clock_word")
        self.doubt = "" if told else self._find_future()
        if not self._vouched_by:
            self._vouched_by = self._find_voucher(told)
        if not self._vouched_by:
            self.doubt = self.doubt or "nobody vouches for it"
        self.trusted_by = "" if self.doubt else self._vouched_by
        self._tell(before)

    def waits_s(self) -> float:
        """Return how long the time has not been trusted; 0 while it is."""
        return 0.0 if self._waits_since is None else self._clock.monotonic() - self._waits_since

    def _is_stepped(self) -> bool:
        """True if the clock was set since the last look."""
        began_s = self._clock.monotonic()
        offset_s = self._clock.now().timestamp() - began_s
        if self._clock.monotonic() - began_s > _STEP_S / 4:  # the processor was busy elsewhere
            return False
        stepped_s = 0.0 if self._offset_s is None else offset_s - self._offset_s
        self._offset_s = offset_s
        if abs(stepped_s) <= _STEP_S:
            return False
        logging.warning("the clock was set by %+.0f s", stepped_s)
        return True

    def _is_word_of_boot(self, key: str) -> bool:
        return bool(self._boot) and self._database.state.get(key) == self._boot

    def _find_voucher(self, told: bool) -> str:
        """Return who vouches for the clock: somebody now, or somebody before in this boot."""
        found, now = self._find_evidence(), self._clock.now()
        past = self._database.state.last_event_at() if found == BATTERY_CLOCK and not told else None
        if past is not None and now < past:
            found, said = "", f"the battery clock says {to_database_time(now)} UTC"
            self.doubt = f"{said}, and something was written down at {to_database_time(past)}"
        if not found and self._is_word_of_boot("trusted_boot"):
            return "the operator's word" if told else "this boot's past"
        if found and not self._is_word_of_boot("trusted_boot"):
            self._database.state.set_key("trusted_boot", self._boot)
        return found

    def _find_future(self) -> str:
        now, last = self._clock.now(), self._database.queue.last_sent_at()
        if last is None or last - now <= _CLOCK_TOLERANCE:
            return ""
        said = f"it says {to_database_time(now)} UTC"
        return f"{said}, and the last message was sent at {to_database_time(last)}"

    def _tell(self, before: str) -> None:
        """After a boot the time is not known for some seconds: only what lasts needs a person."""
        if self.trusted_by:
            if not before:
                logging.info("the clock is trusted by=%s", self.trusted_by)
            self._waits_since, self._is_person_told = None, False
        elif self._waits_since is None:
            self._waits_since = self._clock.monotonic()
            level, since = (logging.WARNING, "any more") if before else (logging.INFO, "yet")
            words = "the clock is not trusted %s: %s; nothing is sent before"
            logging.log(level, words, since, self.doubt)
        elif not self._is_person_told and self.waits_s() >= _LASTING_S:
            self._is_person_told = True
            logging.warning("the clock is not trusted: %s; see smsbox status", self.doubt)


class StatusReporter:
    """Tells lamps, service manager and status file how the box is; each only what is new."""

    def __init__(
        self, around: Surroundings, database: Database, link: Link, time: Timekeeper,
        hours: BusinessHours,
    ) -> None:  # fmt: skip
        self._around = around
        self._database = database
        self._link = link
        self._time = time
        self._hours = hours
        self._told = ""
        self._status: dict[str, object] = {}
        self._lamps = LampState()

    def show(self, turn: Turn, in_hand: bool) -> None:
        """Show the state of a turn."""
        row, pause = turn.next_row, turn.pauses.get("", _NO_PAUSE)
        by_itself = bool(pause.because) and pause.by == PausedBy.BOX.value
        ready, fault = find_lamps(
            link_fault=self._link.fault,
            link_ready=self._link.is_ready(),
            has_room=not turn.disk,
            account_refused="account_refused" in turn.words,
            trusted=bool(self._time.trusted_by),
            awaits_person=self._database.reports.awaits_person()
            or by_itself
            or "incoming" in self._link.warnings,
            resting=bool(pause.because) or not is_open(turn.now, self._hours),
            under_way=in_hand or row is not None,
        )
        self._light(LampState(ready, fault))
        status = {
            "pid": os.getpid(),
            "version": VERSION,
            "modem": self._link.words,
            "modem_ready": self._link.is_ready(),
            **describe_modem(self._link.modem, self._link.port),
            "resets": self._link.resets,
            "warnings": sorted(self._link.warnings.values()),
            "incoming": turn.not_read,
            "trusted": bool(self._time.trusted_by),
            "clock": self._time.trusted_by
            or f"not trusted: {self._time.doubt}: connect the Pi to the Internet, or look at the"
            " time (date) and say smsbox resume --clock-is-right",
            "next_id": row.id if row else None,
            "next_at": to_database_time(row.scheduled_for) if row else None,
            "ready": ready.value,
            "fault": fault.value,
            "fault_words": turn.disk,
        }
        self._status = status
        self._around.publish(status)
        words = f"{self._link.words}; {ready.value}"
        words += f"; next {status['next_at']} UTC" if row else "; nothing is scheduled"
        if words != self._told:
            self._told = words
            self._around.notifier.notify(f"STATUS={printable(words)}")

    def show_sending(self, sending: bool) -> None:
        """Light the sending lamp while a segment is with the modem."""
        self._light(replace(self._lamps, sending=sending))

    def show_fault(self, fault: Fault, words: str) -> None:
        """Show what ends every tick: no more can be told, and nothing is sent."""
        self._light(LampState(Ready.RESTING, fault))
        self._around.publish({**self._status, "fault": fault.value, "fault_words": words})

    def _light(self, state: LampState) -> None:
        self._lamps = state
        if self._around.lamps is not None:
            self._around.lamps.show(state)


class Diary:
    """Says at closing time in one line how the day was."""

    def __init__(self, hours: BusinessHours, database: Database) -> None:
        self._hours = hours
        self._database = database
        self._day: tuple[datetime, datetime] | None = None

    def tend(self, now: datetime) -> None:
        """Write the line of the day that has closed since the last look."""
        if self._day is None or now < self._day[0] - timedelta(days=1):  # the clock was set back
            self._day = window_at_or_after(now, self._hours)
        if now < self._day[1]:
            return
        day, counts = (
            self._database.reports.count_day(*self._day),
            self._database.reports.count_by_status(),
        )
        row = self._database.queue.next_row()
        after = (
            f"{row.scheduled_for.astimezone(self._hours.timezone):%a %b %d %H:%M}" if row else "-"
        )
        logging.info(
            "the day's end: sent=%d failed=%d unconfirmed=%d replies=%d opt-outs=%d; scheduled=%d"
            " held=%d next=%s", *day, counts["scheduled"], counts["held"], after,
        )  # fmt: skip
        self._day = window_at_or_after(now, self._hours)


class Copies:
    """Makes a copy of the database each day, and puts it into another folder too."""

    def __init__(self, elsewhere: str, database: Database, clock: Clock) -> None:
        self._database = database
        self._folders = CopyFolders(Path(database.path), elsewhere)
        self._clock = clock
        self._look_at = 0.0  # monotonic
        self._told = ""

    def tend(self, is_open: bool) -> None:
        """Make what is missing; what fails is told once and tried again in an hour.

        While the box is closed the database gives its free space back, bit by bit.
        """
        if self._clock.monotonic() < self._look_at:
            return
        self._look_at = self._clock.monotonic() + _COPIES_EVERY_S
        try:
            self._drop_old(now := self._clock.now())
            if self._folders.make(self._database, now, self._beat):
                logging.info("copied the database to %s", self._folders.newest(now))
            self._folders.spread(now, self._beat)
            while not is_open and self._database.give_space_back():
                self._beat()
        except (OSError, StoreError) as error:
            if str(error) != self._told:
                logging.warning("no copy of the database: %s", error)
            self._told = str(error)
        else:
            self._told = ""

    def _drop_old(self, now: datetime) -> None:
        with self._database.transaction():
            dropped = self._database.inbox.drop_old(now - _STRANGERS_KEPT, now)
            if dropped:
                what = f"{plural(dropped, 'text')} of strangers, and the like"
                self._database.state.add_event("purged", what, now, "daemon")
        if dropped:
            logging.info("dropped %s, old or too many", what)

    def _beat(self) -> None:
        """A long copy is progress: the watchdog may know, and a stop is heard."""
        self._clock.until(self._clock.monotonic() + 0.01)


def _place(segment: Segment) -> str:
    """Write a segment's name for the journal."""
    bubble = segment.bubble
    whose = f"message={bubble.row_id} bubble={bubble.number}/{bubble.total}"
    if bubble.row_id is None:
        whose = f"answer={bubble.id} to={mask(bubble.phone_number)}"
    return f"{whose} segment={segment.sequence}/{segment.total}"


# --- one message


class Meaning(NamedTuple):
    """What a class of refusals means for the message and for the box."""

    waits_for: Fault | None = None  # the message stays as it is, and the link waits
    is_pause: bool = False  # of the box, for a person
    is_counted: bool = True  # alike for three recipients in a row it speaks of the box
    is_tried_again: bool = False  # after the minutes of the config, and so often


_MEANINGS: Mapping[RefusalClass, Meaning] = {  # of any other the message fails
    RefusalClass.NETWORK: Meaning(waits_for=Fault.NO_NETWORK),
    RefusalClass.SIM: Meaning(waits_for=Fault.SIM),
    RefusalClass.ACCOUNT: Meaning(is_pause=True),
    RefusalClass.TRANSIENT: Meaning(is_counted=False, is_tried_again=True),
    RefusalClass.MODEM: Meaning(is_tried_again=True),
}
_FAILS = Meaning()


class Outcomes:
    """Writes down what came of each segment, and does what a refusal means.

    What the disk refuses stays unwritten: it is written down before anything else is done, and
    what was sent is never sent again.
    """

    def __init__(self, config: Config, database: Database, clock: Clock, link: Link) -> None:
        self.answer_at = 0.0  # monotonic, after a passing refusal of an answer
        self._retry_minutes = config.service.retry_minutes
        self._database = database
        self._clock = clock
        self._link = link
        self._unwritten: list[Callable[[], None]] = []
        self._lost: Segment | None = None  # the last one whose answer did not come
        self._refused: dict[str, RefusalClass] = {}  # number -> why, alike and in a row
        self._answer_tries = 0  # refusals of an answer so far

    def has_unwritten(self) -> bool:
        """True if something was done that is not written down yet."""
        return bool(self._unwritten)

    def write_down(self) -> None:
        """Write down what was done and could not be written down yet."""
        while self._unwritten:
            self._unwritten[0]()
            self._unwritten.pop(0)

    def _record(self, write: Callable[[], None]) -> None:
        """Write down what has happened; if the disk refuses, later, never by doing it again."""
        try:
            write()
        except StoreError:
            self._unwritten.append(write)
            raise

    def note_sent(self, segment: Segment, reference: int, lasted_s: float) -> None:
        """The network has a segment."""
        end = partial(self._database.sending.end_segment, segment, BubbleStatus.SENT)
        self._record(partial(end, self._clock.now(), reference=reference))
        logging.info("sent %s mr=%d in=%.1fs", _place(segment), reference, lasted_s)
        if segment.bubble.row_id is None:
            self._answer_tries = 0
        self._refused.clear()
        self._link.troubles = 0

    def withdraw(self, segment: Segment) -> None:
        """The modem does not have a segment, and the message goes on another time."""
        self._record(partial(self._database.sending.withdraw_segment, segment))

    # --- what a refusal means

    def note_refusal(self, row: StoredRow | None, segment: Segment, refused: Refused) -> None:
        """What may pass is tried again; what speaks of the box pauses it. row: None of its own.

        A text of its own says nothing of the box: its recipient may be anybody. It fails alone.
        """
        logging.info("refused %s: %s", _place(segment), refused)
        now, words, kind = self._clock.now(), str(refused), refused.refusal
        number, meaning = segment.bubble.phone_number, _MEANINGS.get(kind, _FAILS)
        withdraw = partial(self._database.sending.withdraw_segment, segment)
        end = partial(self._database.sending.end_segment, segment, BubbleStatus.FAILED)
        fail = partial(end, now, words=words)
        if meaning.waits_for:
            self._record(withdraw)
            self._link.wait_for(meaning.waits_for, words)
        elif row and (meaning.is_pause or (meaning.is_counted and self._is_third(number, kind))):
            self._record(withdraw)  # it stays scheduled: resume tries it first, and alone
            self._pause(self._explain_refusal(kind, words))
        elif meaning.is_tried_again and self._may_retry(row):
            self._record(withdraw)
            if row is not None:
                wait = timedelta(minutes=self._retry_minutes[row.attempts])
                self._database.queue.postpone(row, now + wait, words, now)
            else:
                self.answer_at = self._clock.monotonic() + 60.0
                self._answer_tries += 1
            if kind is RefusalClass.MODEM:
                self._link.count_modem_fault(words)
        else:
            self._record(fail)
            if row is None:
                self._answer_tries = 0
            logging.warning("failed message=%s: %s", row.id if row else "of the box itself", words)

    def _is_third(self, number: str, kind: RefusalClass) -> bool:
        """Count a refusal; the same for three recipients in a row speaks of the box."""
        alike = {each: why for each, why in self._refused.items() if why is kind}
        self._refused = {**alike, number: kind}
        if len(self._refused) < _FAILURES_TO_PAUSE:
            return False
        self._refused.clear()
        return True

    def _may_retry(self, row: StoredRow | None) -> bool:
        if row is None:
            return self._answer_tries < _ANSWER_TRIES
        return row.attempts < len(self._retry_minutes)

    def _explain_refusal(self, kind: RefusalClass, words: str) -> str:
        modem = self._link.modem
        if kind is not RefusalClass.ACCOUNT:
            return f"{_FAILURES_TO_PAUSE} recipients in a row were not reached, the last: {words}"
        if modem is not None and modem.access == "LTE" and "facility" in words:
            words += (
                f"; {modem.identity.operator or 'the operator'} may not carry SMS over LTE here"
            )
        return f"refused: {words}"

    def _pause(self, because: str) -> None:
        with self._database.transaction():
            pause_box(self._database, because, self._clock, account=True)

    # --- after a lost answer nobody knows

    def note_lost_answer(self, segment: Segment, words: str, modem: Modem) -> None:
        """A segment was handed over, and what came of it was not heard."""
        before, self._lost = self._lost, segment
        late = modem.take_late_reference()  # it came before this text: of the one before
        self.give_up(segment, words)
        if before is not None and late is not None:
            self._settle_late(before, late)

    def give_up(self, segment: Segment, words: str, *, at_start: bool = False) -> None:
        """Nobody knows whether a segment was sent: it is never sent again by itself."""
        end = partial(self._database.sending.end_segment, segment, BubbleStatus.UNCONFIRMED)
        said = f"segment {segment.sequence} of {segment.total}: {words}"
        write = partial(end, self._clock.now(), words=said)
        if at_start:
            write()  # a start that the disk refuses begins anew
        else:
            self._record(write)
        logging.warning("unconfirmed %s: %s", _place(segment), words)
        number, is_row = segment.bubble.phone_number, segment.bubble.row_id is not None
        if is_row and self._is_third(number, RefusalClass.UNKNOWN):
            self._pause(self._explain_refusal(RefusalClass.UNKNOWN, words))

    def hear_late_answer(self, modem: Modem) -> None:
        """A reference that comes after its time settles the segment that was given up last."""
        reference = modem.take_late_reference()
        if reference is not None and self._lost is not None:
            segment, self._lost = self._lost, None
            self._settle_late(segment, reference)

    def _settle_late(self, segment: Segment, reference: int) -> None:
        settle = self._database.sending.settle_late
        self._record(partial(settle, segment, reference, self._clock.now()))
        logging.info("settled %s: its answer came late mr=%d", _place(segment), reference)


class Sender:
    """Sends one message at a time, from its first bubble to its last."""

    def __init__(
        self, config: Config, database: Database, clock: Clock, rng: random.Random, link: Link,
        reporter: StatusReporter, look: Callable[[], Turn], hear: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.outcomes = Outcomes(config, database, clock, link)
        self.in_hand: MessageId | None = None  # the row whose bubbles are going out
        self._config = config
        self._database = database
        self._clock = clock
        self._rng = rng
        self._link = link
        self._reporter = reporter
        self._look = look  # lets everything else go on
        self._hear = hear  # what has come unnoticed; True if all that came in is known
        self._last_begun: tuple[MessageId | None, float] | None = None  # row; when, monotonic
        self._budgets: tuple[date, Budgets] | None = None  # of this day, until something is sent
        self._all_shut: tuple[tuple[int, int], datetime, datetime] | None = None  # mark, from, to
        self._told_wait: tuple[MessageId, str] | None = None  # the first due row, and why it waits

    def send_next(self, turn: Turn) -> float:
        """Send the first message whose gates are all open; when to look again, monotonic."""
        monotonic = self._clock.monotonic()
        if self.answer_next(turn):
            return self._clock.monotonic()
        again = turn.now + timedelta(seconds=self._config.service.poll_seconds)
        ends = (each.until for each in turn.pauses.values() if each.because and each.until)
        again = min([again, *(at for at in ends if at > turn.now)])
        if turn.next_row is not None:
            if turn.next_row.scheduled_for > turn.now:
                again = min(again, turn.next_row.scheduled_for)
            elif not any(gate.shut for gate in find_box_gates(turn._replace(not_read=""))):
                opens = self._send_first_due(turn)
                if opens is None:
                    return self._clock.monotonic()
                again = min(again, opens)
        return monotonic + (again - turn.now).total_seconds()

    def _send_first_due(self, turn: Turn) -> datetime | None:
        """Send, hold or cancel the first due message that may be; else return when one may."""
        mark = self._database.change_mark()
        if self._all_shut and self._all_shut[0] == mark:
            _, since, opens = self._all_shut
            if since <= turn.now < opens:
                return opens
        self._all_shut, looked, opens = None, 0, turn.now + _LOOK_AGAIN
        first: tuple[MessageId, str] | None = None
        for looked, row in enumerate(self._list_due(turn), 1):
            self.in_hand = row.id  # what fails by it holds it, and not all the others
            if end := find_end(row, turn, self._config):
                self._end(row, end, turn.now)
                return None
            shut = [gate for gate in find_row_gates(row, turn, self._config) if gate.shut]
            pace = find_pace(row, turn, self._config)
            if not shut and not pace.shut:
                self._send(row, turn)
                return None
            gates = shut or [pace]
            if looked == 1:
                first = row.id, self._explain_wait(gates[0]) if shut else ""
            opens = min([opens, max((gate.until for gate in gates if gate.until), default=opens)])
            if not shut:  # nobody overtakes it
                break
        else:
            if coming := self._database.queue.next_row(turn.now):
                opens = min(opens, coming.scheduled_for)
            if looked > _MANY:  # they are not looked through again before something has changed
                self._all_shut = mark, turn.now, opens
        self.in_hand = None
        if first and first[1] and first != self._told_wait:
            logging.info("message=%d waits: %s", *first)
        self._told_wait = first
        return opens

    def _explain_wait(self, gate: Gate) -> str:
        zone = self._config.business_hours.timezone
        until = f" until {gate.until.astimezone(zone):%a %b %d %H:%M}" if gate.until else ""
        return gate.shut + until

    def _list_due(self, turn: Turn) -> Iterator[StoredRow]:
        """Yield what is cut off, then what goes at once, then the others in their order."""
        queue = self._database.queue
        at_once = queue.due_at_once(turn.now) if turn.at_once_left > 0 else []
        if turn.not_read:
            yield from filter(_is_sent_anyway, at_once)
            return
        yield from queue.cut_off()
        yield from at_once
        page = queue.due(turn.now)
        while page:
            yield from page
            self._clock.until(self._clock.monotonic() + 0.001)  # many are progress: a stop is heard
            page = queue.due(turn.now, page[-1])

    def _end(self, row: StoredRow, end: End, now: datetime) -> None:
        if end.code is None:
            with self._database.transaction():
                self._database.queue.end(row.id, RowStatus.CANCELLED, end.words, now)
        else:
            self._database.queue.hold(row.id, end.code, end.words, now)
        done = "held" if end.code else "cancelled"
        logging.warning("%s message=%d: %s", done, row.id, end.words)

    def _send(self, row: StoredRow, turn: Turn) -> None:
        """Send one message, bubble by bubble; what stops it half-way goes on in a later turn."""
        if not (self._hear() or _is_sent_anyway(row)) or not self._claim(row, turn):
            return
        self.in_hand, begins = row.id, True
        row = replace(row, at_once=row.at_once and turn.at_once_left > 0)  # a further one is paced
        while bubble := self._database.sending.next_bubble(row.id):
            pdus = self._encode(bubble, row.until)
            done = self._database.sending.sent_sequences(bubble.id) if row.is_begun else ()
            for sequence, (pdu, octets) in enumerate(pdus, 1):
                if sequence in done:
                    continue
                self._clock.until(self._clock.monotonic())  # a stop is heard between segments
                state = self._database.state
                if state.get("paused_now") and state.get("paused_because"):
                    return
                segment = Segment(bubble, sequence, len(pdus))
                if not self._hand_over(row, segment, pdu, octets, begins):
                    return
                begins = False
            if bubble.number == bubble.total or not self._may_go_on(row):
                return

    def _claim(self, row: StoredRow, turn: Turn) -> bool:
        """Split a row into bubbles; a hand-made row that can't be sent fails with the reason."""
        now, bubbles = turn.now, split_bubbles(unify_line_breaks(row.message_content))
        try:
            number = parse_stored_number(row.phone_number)
            if not bubbles:
                raise ValueError("the text is empty")
            for bubble in bubbles:
                encode_submit(bubble, number)
        except ValueError as error:
            with self._database.transaction():
                self._database.queue.end(row.id, RowStatus.FAILED, str(error), now)
            logging.warning("failed message=%d: %s", row.id, error)
            return False
        with self._database.transaction():
            if pause_unwanted_campaign(self._database, row.campaign_name, now):
                return False
            if self._database.opt_outs.at(number):  # the row may have it in another form
                stopped = "the recipient said stop"
                self._database.queue.end(row.id, RowStatus.CANCELLED, stopped, now)
                return False
            claimed = self._database.sending.claim(row, number, bubbles, now)
        if not claimed:
            logging.info("message=%d is not sent: see smsbox why %d", row.id, row.id)
        return claimed

    def _may_go_on(self, begun: StoredRow) -> bool:
        """Let everything else go on between two bubbles; True if the message's gates are open."""
        gap_s = self._rng.uniform(*self._config.pacing.bubble_gap_seconds)
        end, poll_s = self._clock.monotonic() + gap_s, self._config.service.poll_seconds
        while True:
            turn = self._look()
            if self.answer_next(turn):
                continue
            self._reporter.show(turn, in_hand=True)
            if (monotonic := self._clock.monotonic()) >= end:
                break
            self._clock.until(min(end, monotonic + poll_s, self._link.wake_at), self._link.port)
        is_all_heard = self._hear()
        row = self._database.queue.row(begun.id)
        if row is None or turn.doubt or turn.not_ready:
            return False
        if not (is_all_heard or _is_sent_anyway(row)):
            return False
        if turn.pauses.get("", _NO_PAUSE).by == PausedBy.BOX.value:  # of another SIM, perhaps
            return False
        # A part of it went out just now, whatever the clock was set to meanwhile.
        row = replace(row, last_segment_at=turn.now, until=None, retry_at=None)
        if row.scheduled_for == begun.scheduled_for:
            row = replace(row, scheduled_for=turn.now)
        if ends := find_end(row, turn, self._config):
            self._end(row, ends, turn.now)
            return False
        shut = [gate for gate in find_row_gates(row, turn, self._config) if gate.shut]
        if shut and row.status is RowStatus.SCHEDULED:
            logging.info("message=%d goes on later: %s", row.id, shut[0].shut)
        return not shut

    def _encode(self, bubble: Bubble, until: datetime | None) -> list[tuple[str, int]]:
        modem, validity = self._link.modem, None
        if until:
            validity = validity_within((until - self._clock.now()).total_seconds() / 60)
        return encode_submit(
            bubble.body,
            bubble.phone_number,
            status_report=modem is not None and modem.delivery_reports,
            validity_minutes=validity,
            # The same after a crash, another one for the next bubble.
            reference=bubble.id & 0xFF,
        )

    def answer_next(self, turn: Turn, only_alerts: bool = False) -> bool:
        """Send a text of the box itself, whatever the pace, the hours, or the number's opt-out."""
        if turn.not_ready or turn.disk or self._clock.monotonic() < self.outcomes.answer_at:
            return False
        only_alerts |= bool(turn.doubt)
        answer = self._database.sending.next_answer(turn.now, _ANSWER_WITHIN, only_alerts)
        if answer is None:
            return False
        is_alert = answer.phone_number == self._config.alerts.operator
        if "account_refused" in turn.words and not is_alert:  # that alone is told, once
            return False
        if not is_alert and self._is_plan_spent(answer, turn.now):
            return False
        ((pdu, octets),) = self._encode(answer, None)
        self._hand_over(None, Segment(answer, 1, 1), pdu, octets, begins=False)
        return True

    def _is_plan_spent(self, answer: Bubble, now: datetime) -> bool:
        """True if one more segment of the box's own passes the SIM's plan."""
        pacing = self._config.pacing
        if not pacing.is_limited:
            return False
        budgets = Budgets(pacing, self._config.business_hours.timezone)
        for at, share in list_spent(self._database, now, with_own=True):
            budgets.spend(at, share)
        return bool(budgets.find_limit(now, Share(answer.phone_number, 1)))

    def _hand_over(
        self, row: StoredRow | None, segment: Segment, pdu: str, octets: int, begins: bool
    ) -> bool:
        """Hand one segment to the modem and write down what came of it; True if it was sent.

        begins: a message begins with it, or goes on; if it keeps the pace, that counts from now on.
        """
        modem, sending, begun_s = self._link.modem, self._database.sending, self._clock.monotonic()
        self._database.check_disk()
        at_once = row is not None and row.at_once
        if modem is None or not sending.begin_segment(segment, self._clock.now(), begins, at_once):
            return False
        self._budgets = None
        if row is not None and begins and not row.at_once:
            self._last_begun = row.id, begun_s
        self._reporter.show_sending(True)
        try:
            reference = modem.submit(pdu, octets)
        except OutcomeUnknown as unknown:
            self.outcomes.note_lost_answer(segment, str(unknown), modem)
            return False
        except Refused as refused:
            self.outcomes.note_refusal(row, segment, refused)
            return False
        except ModemError:
            self.outcomes.withdraw(segment)
            raise
        finally:
            self._reporter.show_sending(False)
        self.outcomes.note_sent(segment, reference, self._clock.monotonic() - begun_s)
        return True

    def find_last_begun(self, now: datetime, is_trusted: bool) -> tuple[MessageId | None, float]:
        """Return the campaign message begun last, and how long ago in seconds.

        Within one life the pace is kept by the clock that never jumps.
        """
        monotonic = self._clock.monotonic()
        if self._last_begun is None:
            if not is_trusted:
                return None, 0.0
            found = self._database.queue.last_begun()
            passed_s = max(0.0, (now - found[1]).total_seconds()) if found else 0.0
            self._last_begun = found[0] if found else None, monotonic - passed_s
        return self._last_begun[0], monotonic - self._last_begun[1]

    def find_budgets(self, now: datetime) -> Budgets:
        """Return the budgets with what was sent, read anew after each segment and each day."""
        day = now.astimezone(self._config.business_hours.timezone).date()
        if self._budgets is None or self._budgets[0] != day:
            self._budgets = day, find_budgets(self._database, now, self._config)
        return self._budgets[1]


# --- the loop


class Service:
    """The daemon's loop over one database and one modem."""

    def __init__(
        self, config: Config, database: Database, around: Surroundings, rng: random.Random
    ) -> None:
        self._config = config
        self._database = database
        self._around = around
        self._clock = around.clock
        self._link = Link(config.modem, around, database)
        self._intake = Intake(config, database, around.clock, self._link)
        self._time = Timekeeper(config, around, database)
        self._alerts = Alerts(config.alerts.operator, config.business_hours, database)
        self._copies = Copies(config.service.backup_dir, database, around.clock)
        self._reporter = StatusReporter(
            around, database, self._link, self._time, config.business_hours
        )
        self._diary = Diary(config.business_hours, database)
        self._sender = Sender(
            config, database, around.clock, rng, self._link, self._reporter, self._look,
            self._intake.hear_before_sending,
        )  # fmt: skip
        self._next_row: StoredRow | None = None  # of the last turn
        self._disk_words = ""
        self._shortage = ""  # of room on the disk, in the last turn
        self._must_open_anew = False  # the database, after an error of the disk
        self._stuck_since_s: float | None = None  # monotonic; what the box itself can't fix
        self._error_words = ""  # of an error of smsbox itself, while each tick ends with one
        self._errors = 0  # of them in a row
        self._is_shown = False
        self._is_recovered = False  # what a crash left is found before anything else is done

    def run(self, drain: bool) -> str:
        """Serve until StopRequested; with drain until no row can go without a person.

        Return "", or with drain why the box itself can't send what waits.
        """
        self._around.notifier.notify("READY=1")
        try:
            while True:
                wake_at = self._guarded_tick()
                if drain and (why := self._find_drain_end()) is not None:
                    return why
                try:
                    self._clock.until(wake_at, self._link.port)
                except PortLost as lost:
                    self._link.lose(str(lost))
        finally:
            self._around.notifier.notify("STOPPING=1")
            self._link.close()

    def tick(self) -> float:
        """Do what is to be done now; give the monotonic time of the next tick."""
        turn = self._look()
        wake_at = self._sender.send_next(turn)
        is_open_now = is_open(self._clock.now(), self._config.business_hours)
        if self._time.trusted_by:
            self._diary.tend(self._clock.now())
            self._copies.tend(is_open_now)
        is_done = wake_at <= self._clock.monotonic()  # something was
        self._reporter.show(self._read_turn() if is_done else turn, in_hand=False)
        return min(wake_at, self._link.wake_at)

    def _look(self) -> Turn:
        """Tend everything but the sending, and read what it depends on."""
        if self._link.modem is not None:  # before all that a failing disk may end: what is unread
            self._link.modem.listen()  # would end every wait at once
        if self._must_open_anew:
            self._database.open_anew()
            self._must_open_anew = False
        self._database.check_disk()
        if not self._is_recovered:
            self._recover()
        self._sender.outcomes.write_down()
        if self._errors > 1:
            self._tell_of_error()
        self._time.look()
        if not self._is_shown:  # who it is and what it knows, before the modem takes its time
            self._reporter.show(self._read_turn(), in_hand=False)
            self._is_shown = True
        row, hour = self._next_row, timedelta(hours=1)
        is_soon = row is not None and row.scheduled_for - self._clock.now() < hour
        self._link.tend(is_soon)
        if self._link.modem is not None and self._link.is_ready():
            self._sender.outcomes.hear_late_answer(self._link.modem)
            self._intake.take_in(self._link.modem)
        turn = self._read_turn()
        if not turn.doubt and self._end_what_has_passed(turn):
            turn = self._read_turn()
        if self._link.is_ready():
            self._alerts.tend(turn, self._time.waits_s())
        return turn

    def _read_turn(self) -> Turn:
        now, queue = self._clock.now(), self._database.queue
        shortage = self._database.find_shortage()
        if shortage and not self._shortage:
            logging.error("%s; nothing is sent meanwhile", shortage)
        self._shortage = shortage
        last, waited_s = self._sender.find_last_begun(now, bool(self._time.trusted_by))
        self._next_row = queue.next_row()
        return Turn(
            now,
            self._database.state.all(),
            self._database.state.pauses(),
            self._next_row,
            last,
            timedelta(seconds=waited_s) if last is not None else None,
            _AT_ONCE_AN_HOUR - queue.count_at_once(now - timedelta(hours=1)),
            partial(self._sender.find_budgets, now) if self._config.pacing.is_limited else None,
            "" if self._time.trusted_by else self._time.doubt,
            "" if self._link.is_ready() else self._link.words,
            self._find_unread(),
            self._shortage,
        )

    def _find_unread(self) -> str:
        """Return why a STOP may lie where nobody has read it; without a modem nothing is sent."""
        return self._link.unread if self._link.is_ready() else ""

    def _end_what_has_passed(self, turn: Turn) -> bool:
        """End the pauses whose end has come, hold what a restored copy may have sent; True if any.

        A copy may have been restored while nobody vouched for the clock: now it is known what was
        due.
        """
        held = hold_restored_late(self._database, turn.now) if "restored_copy" in turn.words else 0
        if held:
            logging.warning("held %s of the restored copy", plural(held, "message"))
        ended = [name for name, pause in turn.pauses.items() if pause.has_ended(turn.now)]
        for name in ended:
            with self._database.transaction():
                resume(self._database, name, turn.now, "daemon")
            logging.info("resumed: the end of the pause has come campaign=%s", name or "all")
        return bool(held or ended)

    def _guarded_tick(self) -> float:
        again = self._clock.monotonic() + self._config.service.poll_seconds
        try:
            again = self.tick()
            self._disk_words = self._error_words = ""
            self._errors = 0
        except StoreError as error:
            if str(error) != self._disk_words:
                logging.error("%s", error)
            self._disk_words = str(error)
            self._must_open_anew |= not isinstance(error, (Busy, DiskFull, RowRefused))
        except (PortLost, NoAnswer) as error:
            self._link.lose(str(error))
            again = self._link.wake_at
        except Exception as error:  # one row must not stop all the others
            self._note_own_error(f"{type(error).__name__}: {error}")
        self._sender.in_hand = None
        if self._disk_words:
            self._reporter.show_fault(Fault.DISK, self._disk_words)
        elif self._errors > 1:
            self._reporter.show_fault(Fault.PROGRAM, self._error_words)
        return again

    def _note_own_error(self, words: str) -> None:
        """Log an error of smsbox itself once while it repeats, and hold the row in hand."""
        if words != self._error_words:
            logging.exception("an error of smsbox itself row=%s", self._sender.in_hand)
        self._error_words = words
        self._errors += 1
        with suppress(StoreError):
            if (row_id := self._sender.in_hand) is not None:
                because, now = "an error of smsbox: see the journal", self._clock.now()
                self._database.queue.hold(row_id, HeldCode.ERROR, because, now)
            if not self._sender.outcomes.has_unwritten():  # what is known is not given up
                self._give_up_open("an error of smsbox while the modem had it")

    def _tell_of_error(self) -> None:
        """Alert the operator's phone before the step that fails is tried again."""
        if self._link.is_ready():
            turn = self._read_turn()
            self._alerts.tend(turn, self._time.waits_s(), has_error=True)
            self._sender.answer_next(turn, only_alerts=True)

    def _give_up_open(self, words: str) -> None:
        for segment in self._database.sending.recover():
            self._sender.outcomes.give_up(segment, words, at_start=True)

    def _find_drain_end(self) -> str | None:
        """Return why draining ends: "" if nothing can go without a person; None: it goes on."""
        stuck = self._disk_words or self._shortage or self._find_unread()
        if not stuck:
            self._stuck_since_s = None
        elif self._stuck_since_s is None:
            self._stuck_since_s = self._clock.monotonic()
        elif self._clock.monotonic() - self._stuck_since_s >= _LASTING_S:
            return stuck
        with suppress(StoreError):
            answers = bool(self._time.trusted_by) and self._database.sending.has_answer()
            if answers or self._sender.outcomes.has_unwritten() or not self._is_recovered:
                return None
            box = self._database.state.pauses().get("", _NO_PAUSE)
            if self._database.queue.is_drained() or (box.because and box.until is None):
                logging.info("nothing is left that can go without a person")
                return ""
        return None

    def _recover(self) -> None:
        self._database.verify()
        counts = self._database.reports.count_by_status()
        logging.info(
            "smsbox %s starts database=%s scheduled=%d held=%d",
            VERSION, self._database.path, counts["scheduled"], counts["held"],
        )  # fmt: skip
        self._give_up_open("smsbox stopped while the modem had it")
        self._next_row = self._database.queue.next_row()
        read_again(self._database, self._config.replies, self._clock)
        self._is_recovered = True


def find_lamps(
    *, link_fault: Fault, link_ready: bool, has_room: bool, account_refused: bool, trusted: bool,
    awaits_person: bool, resting: bool, under_way: bool,
) -> tuple[Ready, Fault]:  # fmt: skip
    """Choose the patterns of the green and the red lamp; the first fault that holds is shown."""
    if resting:
        ready = Ready.RESTING
    elif not link_ready:
        ready = Ready.STARTING
    else:
        ready = Ready.UNDER_WAY if under_way else Ready.IDLE
    if not has_room:
        return ready, Fault.DISK
    if link_fault is not Fault.NONE:
        return ready, link_fault
    if account_refused:
        return ready, Fault.ACCOUNT
    if not trusted:
        return ready, Fault.CLOCK
    return ready, Fault.ATTENTION if awaits_person else Fault.NONE


# === 13 Simulated modem ==========================================================================
# A GSM modem in software: bytes in, bytes out, as a SIM7600 answers in PDU mode. It stands behind
# port = "sim:" for the first try and the demo, and the tests put it behind a pseudo-terminal. It is
# the outside world: it knows the wire and the coding of texts, and nothing of the program.


class SimulatedModem:
    """The state of one modem. feed() takes what the program wrote, gives what the modem says."""

    def __init__(self, on_accept: Callable[[Tpdu], None] | None = None) -> None:
        self.accepted: list[str] = []  # every SMS-SUBMIT that the network took, in order
        self.reference = 0  # the last TP-MR that was given out
        self.stored: dict[int, str] = {}  # SMS-DELIVERs on the SIM
        self.echo = True
        self._on_accept = on_accept
        self._line = bytearray()
        self._octets: int | None = None  # at a prompt: what AT+CMGS announced
        self._answers: Mapping[str, str] = {
            "AT+CGMI": "SIMULATED",
            "AT+CGMM": "SIM7600",
            "AT+CGSN": "867584030000017",
            "AT+CCID": "+CCID: 8901260000000000017",
            "AT+CFUN?": "+CFUN: 1",
            "AT+CPIN?": "+CPIN: READY",
            "AT+CREG?": "+CREG: 0,1",
            "AT+CEREG?": "+CEREG: 0,1",
            "AT+CGREG?": "+CGREG: 0,1",
            "AT+COPS?": '+COPS: 0,0,"Simulated",7',
            "AT+CSQ": "+CSQ: 21,99",
            "AT+CSCA?": '+CSCA: "+12063130004",145',
            "AT+CNMI?": "+CNMI: 2,1,0,2,0",
        }

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the program; give the modem's bytes."""
        said = bytearray()
        for byte in data:
            if self._octets is not None:
                said += self._take_text(byte)
            elif byte == 0x0D:
                line = self._line.decode("latin-1").strip()
                self._line.clear()
                said += (line + "\r").encode("latin-1") if self.echo and line else b""
                said += self._execute(line) if line else b""
            elif byte != 0x1B:
                self._line.append(byte)
        return bytes(said)

    def receive(self, pdu: str) -> bytes:
        """Let an SMS-DELIVER arrive; give the modem's notice of it."""
        index = max(self.stored, default=-1) + 1
        self.stored[index] = pdu
        return f'\r\n+CMTI: "SM",{index}\r\n'.encode()

    def _take_text(self, byte: int) -> bytes:
        if byte == 0x1B:  # ESC: nothing is sent
            self._line.clear()
            self._octets = None
            return b"\r\nOK\r\n"
        if byte != 0x1A:
            self._line.append(byte)
            return b""
        pdu = self._line.decode("latin-1").strip()
        announced, self._octets = self._octets, None
        self._line.clear()
        return self._accept(pdu, announced or 0)

    def _accept(self, pdu: str, announced: int) -> bytes:
        try:
            tpdu = decode_tpdu(pdu, "out")
            centre = int(pdu[:2], 16) + 1
        except ValueError:
            return b"\r\n+CMS ERROR: 304\r\n"
        if len(pdu) // 2 - centre != announced:
            return b"\r\n+CMS ERROR: 304\r\n"
        self.accepted.append(pdu)
        self.reference = (self.reference + 1) % 256
        if self._on_accept is not None:
            self._on_accept(tpdu)
        return f"\r\n+CMGS: {self.reference}\r\n\r\nOK\r\n".encode()

    def _execute(self, line: str) -> bytes:
        command = line.upper()
        if match := re.fullmatch(r"AT\+CMGS=(\d+)", command):
            self._octets = int(match[1])
            return b"\r\n> "
        if command in ("ATE0", "ATE1"):
            self.echo = command == "ATE1"
        elif match := re.fullmatch(r"AT\+CMGD=(\d+)", command):
            self.stored.pop(int(match[1]), None)
        elif command == "AT+CMGL=4":
            listed = "".join(
                f"\r\n+CMGL: {index},0,,{_count_octets(pdu)}\r\n{pdu}"
                for index, pdu in sorted(self.stored.items())
            )
            return f"{listed}\r\n\r\nOK\r\n".encode()
        elif match := re.fullmatch(r"AT\+CMGR=(\d+)", command):
            pdu = self.stored.get(int(match[1]))
            if pdu is None:
                return b"\r\n+CMS ERROR: 321\r\n"
            return f"\r\n+CMGR: 0,,{_count_octets(pdu)}\r\n{pdu}\r\n\r\nOK\r\n".encode()
        elif re.fullmatch(r'AT\+CPMS="\w\w"', command):
            return f"\r\n+CPMS: {len(self.stored)},50,0,50,0,50\r\n\r\nOK\r\n".encode()
        elif command == "AT+CPMS?":
            used = f'"SM",{len(self.stored)},50'
            return f"\r\n+CPMS: {used},{used},{used}\r\n\r\nOK\r\n".encode()
        elif command.startswith("AT+CUSD=1"):
            return b'\r\nOK\r\n\r\n+CUSD: 0,"Your balance is 12.50 USD",15\r\n'
        elif command in self._answers:
            return f"\r\n{self._answers[command]}\r\n\r\nOK\r\n".encode()
        elif not command.startswith("AT"):
            return b""
        return b"\r\nOK\r\n"


def _count_octets(pdu: str) -> int:
    """Return what a heading says of a TPDU: its octets without the service centre's."""
    without = len(pdu) // 2 - 1 - int(pdu[:2] or "0", 16)
    return without if without > 0 else len(pdu) // 2


def open_simulated_port(on_accept: Callable[[Tpdu], None] | None = None) -> Any:
    """Start a simulated modem on the far end of a socket pair; give the near end.

    The modem lives in a thread of its own, as the outside world does, and ends with the near end.
    """
    import socket
    import threading

    near, far = socket.socketpair()
    modem = SimulatedModem(on_accept)

    def live() -> None:
        with far, suppress(OSError):
            while data := far.recv(4096):
                far.sendall(modem.feed(data))

    threading.Thread(target=live, name="simulated modem", daemon=True).start()
    return near


# === 14 Command line =============================================================================
# What the operator types and reads. It begins with its story: main, the table of commands; then
# what every command needs, facts, rows, the plan, the operator's word, pages, copies, the daemon.
# It may use every room, but no AT bytes and no SQL text stand here. Answers go to stdout, problems
# to stderr in one sentence that says what to do; never a traceback. Success is said after the
# commit.

DEFAULT_CONFIG = Path("/etc/smsbox/config.toml")
STATE_FOLDER = Path("/var/lib/smsbox")
INSTALLED = Path("/usr/bin/smsbox")
EXAMPLE = Path("/usr/share/doc/smsbox/config.example.toml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that can't show it gets an escape
            stream.reconfigure(errors="backslashreplace")
    umask = os.umask(0o007)  # what SQLite makes beside the database is the group's too, at once
    try:
        args = parse_arguments(sys.argv[1:] if argv is None else argv)
        config = load_config(args.config) if args.command != "demo" else parse_config({})
        database = find_database(args.database, config)
        status = _run(Context(args, config, database, Waiting().now()))
        sys.stdout.flush()
        return status
    except SmsboxError as error:
        complain(f"smsbox: {error}.")
        return error.exit_status
    except (KeyboardInterrupt, StopRequested):
        complain("smsbox: interrupted.")
        return 130
    except OSError as error:  # `smsbox list | head`, or a full disk behind `>`
        if not isinstance(error, BrokenPipeError):
            complain(f"smsbox: {error.filename or 'the answer'} can't be used: {error.strerror}.")
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        os.umask(umask)


def _run(context: Context) -> int:
    """Run a command; on a full disk one that stops something has the room kept for it."""
    args = context.args
    run = cast("Callable[[Context], int]", globals()[f"cmd_{args.command}"])
    try:
        return run(context)
    except DiskFull:
        adds = args.command == "optout" and args.action == "add"
        if not adds and args.command not in ("pause", "cancel"):
            raise
        if use_reserve(str(context.database_path)):
            args.yes = True  # it was asked before it wrote
            with suppress(DiskFull):
                status = run(context)
                complain(f"smsbox: {_NO_ROOM}; this has taken the room kept for what stops.")
                return status
    raise StoreError(
        "nothing was stored, the disk is full: make room; sudo systemctl stop smsbox stops all"
        " sending meanwhile"
    )


# --- what may be typed: argument types, then the commands as a table

Argument: TypeAlias = "tuple[tuple[str, ...], dict[str, Any]]"


def opt(*names: str, **more: Any) -> Argument:
    """Declare one argument as argparse takes it; an option without more to it is a flag."""
    if names[0].startswith("-") and not more.keys() & {"metavar", "type", "choices", "nargs"}:
        more.setdefault("action", "store_true")
    return names, more


def matching(pattern: str, words: str, read: Callable[..., Any] = str) -> Callable[[str], Any]:
    """Return an argument's type: what does not match is refused in words."""

    def parse(text: str) -> Any:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(words)
        return read(text)

    return parse


def _to_age(text: str) -> timedelta:
    return timedelta(days=int(text[:-1]) * {"d": 1, "m": 31, "y": 366}[text[-1]])


_COUNT = matching("0{0,9}[1-9][0-9]{0,8}", "write a whole number from 1 on", int)
_PLAY_SECONDS = matching(r"(?!0+(\.0+)?$)[0-9]{1,3}(\.[0-9]+)?", "write seconds, like 6", float)
_AGE = matching(
    "[1-9][0-9]{0,3}[dm]|[1-9][0-9]?y", "write days, months or years, like 90d, 6m or 2y", _to_age
)
_USSD = matching("[0-9*#]{2,40}", "write digits, * and #, like *100#")
_FIELD = matching(r"(?s)[^=]+=.*", "write FIELD=COLUMN")
_COLUMN = matching(r"(?s)[^=]+=.*", "write COLUMN=VALUE")

YES = opt("--yes", help="do not ask for YES")
JSON = opt("--json", help="for a script")
CSV = opt("--csv", help="for a spreadsheet")
CAMPAIGN = opt("--campaign", metavar="NAME", help="only this campaign")
ID = opt("id", metavar="ID", help="ID or phone number")
IDS = opt("ids", nargs="*", metavar="ID", help="IDs or phone numbers")
HTML = opt("--html", metavar="FILE", help="a page to print or to send; -: to stdout")
ANYWAY = opt("--anyway", help="outside the business hours too")
UNTIL = opt("--until", metavar="TIME", help="cancel what is not sent by then")


class Command(NamedTuple):
    """A command: what it is for, two examples, its arguments; a list of some is a choice."""

    words: str
    examples: tuple[str, str]
    arguments: tuple[Argument | list[Argument], ...]


def _define(words: str, first: str, second: str, *arguments: Argument | list[Argument]) -> Command:
    """Declare a command."""
    return Command(words, (first, second), arguments)


COMMANDS: Mapping[str, Command] = {  # each is run by cmd_NAME
    "schedule": _define(
        "plan a CSV's campaign, show it, store it",
        "schedule people.csv --dry-run",
        'schedule people.csv --template text.txt --start "tomorrow 10:00"',
        opt("file", metavar="FILE.csv", help="the campaign; -: from stdin"),
        opt("--dry-run", help="show the plan, store nothing"),
        [
            opt("--start", metavar="TIME", help='like "2025-11-09 10:00" (default: now)'),
            opt("--try", dest="try_number", metavar="NUMBER", help="send one row, to your phone"),
        ],
        UNTIL,
        opt("--campaign", metavar="NAME", help="take the rows of that campaign_name, or name it"),
        opt("--template", metavar="FILE", help="the text, with {column} fields"),
        opt("--map", action="append", default=[], type=_FIELD, metavar="FIELD=COLUMN",
            help="say which column a field is; FIELD= means none"),
        opt("--only", action="append", default=[], type=_COLUMN, metavar="COLUMN=VALUE",
            help="take only the rows with that value"),
        opt("--limit", type=_COUNT, metavar="N", help="only the first N messages"),
        opt("--seed", type=int, metavar="N", help="the same seed gives the same plan"),
        opt("--skip-invalid", help="leave bad rows out and go on"),
        opt("--rejects", metavar="FILE", help="write bad rows there as CSV, with the reason"),
        opt("--simplify", help="write quotes, dashes, dots that need UCS-2 plainly"),
        opt("--again", help="also the same text again, also people of a running campaign"),
        opt("--row", type=_COUNT, metavar="N", help="--try: this row (default: the first)"),
        opt("--anyway", help="--try: outside the business hours too"),
        YES, JSON, HTML,
    ),
    "list": _define(
        "list messages; with IDs or numbers, all that is known of them",
        "list --next 5", "list 213-555-2301",
        IDS, opt("--status", choices=[each.value for each in RowStatus]), CAMPAIGN,
        opt("--held", help="only those that wait for you"),
        opt("--find", metavar="TEXT", help="in name, number or text"),
        opt("--next", type=_COUNT, metavar="N", help="the next N to be sent"),
        [JSON, CSV],
    ),
    "show": _define("all that is known of a message or a number (like list ID)",
                    "show 41", "show 213-555-2301", ID, JSON),
    "why": _define("what holds a message back, gate by gate", "why 41", "why 213-555-2301 --json",
                   ID, JSON),
    "cancel": _define(
        "cancel messages; the records stay. A failed one is done with",
        "cancel 41 42", "cancel --campaign spring",
        IDS, CAMPAIGN, opt("--all", help="everything scheduled"), YES,
    ),
    "reschedule": _define(
        "move messages", "reschedule 41 --by +30m", 'reschedule --campaign spring --at "fri 10:00"',
        IDS, CAMPAIGN,
        [opt("--by", metavar="+30m", help="by a span: s, m, h, d"),
         opt("--at", metavar="TIME", help="the first of them at a time")], YES,
    ),
    "retry": _define(
        "try failed messages again, or a cancelled one by its ID",
        "retry 41", "retry --campaign spring",
        IDS, CAMPAIGN, opt(RETRY_ANYWAY, help="also those that may have been sent"), YES,
    ),
    "release": _define("let held messages go", "release 41", "release --campaign spring",
                       IDS, CAMPAIGN, YES),
    "edit": _define(
        "give one message that is not begun another text",
        'edit 41 --text "We open at 9."', 'edit 213-555-2301 --text "Hi Ana! [BUBBLE] See you."',
        ID, opt("--text", required=True, metavar="TEXT", help="the new text, with its marks"),
    ),
    "pause": _define(
        "pause sending; the message in hand is finished",
        "pause --until fri", "pause --campaign spring",
        opt("--now", help="stop before the next segment"),
        opt("--until", metavar="TIME", help="go on by itself then"), CAMPAIGN,
    ),
    "resume": _define(
        "go on; what is late goes first, at its own pace", "resume", "resume --campaign spring",
        CAMPAIGN, opt("--clock-is-right", help="your word for this boot"),
    ),
    "send": _define(
        "send one message now, e.g. a test", 'send 213-555-2301 "We are ready."',
        "send 213-555-2301 - < text.txt",
        opt("number", metavar="NUMBER"), opt("text", metavar="TEXT", help="-: from stdin"),
        ANYWAY, JSON,
    ),
    "status": _define("how it is now (exit 0 well, 1 needs you, 2 not working)",
                      "status", "status --json", JSON),
    "check": _define(
        "modem, SIM, network, clock, disk: ok, warning or fault", "check", 'check --ussd "*100#"',
        opt("--config", dest="only_config", help="only the config"),
        opt("--at", help="show the dialogue with the modem"),
        opt("--ussd", type=_USSD, metavar="CODE", help="ask the network, e.g. *100# for a balance"),
        opt("--lamps", type=_PLAY_SECONDS, nargs="?", const=6.0, metavar="SECONDS",
            help="play what the lamps can say, each for 6 seconds"), JSON,
    ),
    "inbox": _define("replies; marks them as read", "inbox", "inbox --unread --json",
                     opt("--unread", help="only what was not shown before"), JSON),
    "optout": _define(
        "who said stop: list, add, remove",
        "optout add 213-555-2301",
        'optout remove 213-555-2301 --reason "asked in the shop" --they-asked',
        opt("action", choices=("list", "add", "remove")),
        opt("number", nargs="?", metavar="NUMBER", help="add: or FILE.csv; -: from stdin"),
        opt("--reason", metavar="WHY", help="why; remove needs it"),
        opt("--they-asked", help="remove: they themselves asked to be written to again"),
        [JSON, CSV],
    ),
    "report": _define(
        "what has become of the campaigns, or of one", "report", "report spring --html spring.html",
        opt("name", nargs="?", metavar="NAME", help="a campaign (default: all)"), CAMPAIGN,
        [JSON, CSV, HTML],
    ),
    "export": _define("write everything as CSV files",
                      "export everything", "export spring --campaign spring",
                      opt("folder", metavar="FOLDER", help="a new one"), CAMPAIGN),
    "backup": _define(
        "copy the database, also while smsbox runs",
        "backup /media/stick/smsbox.db", "backup - > copy.db",
        opt("file", metavar="FILE", help="-: to stdout, e.g. through ssh"),
    ),
    "restore": _define("put a copy back; what may have been sent since is held",
                       "restore copy.db", "restore copy.db --yes",
                       opt("file", metavar="FILE"), YES),
    "forget": _define(
        "erase a person's name and texts, or all that is long done; counts and opt-outs stay",
        "forget 213-555-2301", "forget --older-than 2y",
        opt("number", nargs="?", metavar="NUMBER"),
        opt("--older-than", type=_AGE, metavar="2y", help="d, m or y: days, months, years"), YES,
    ),
    "run": _define("be the daemon", "run", "run --drain",
                   opt("--drain", help="end once nothing is left that can go")),
    "demo": _define("the whole way in a minute, without hardware", "demo", "demo --seed 7",
                    opt("--seed", type=int, default=7, metavar="N", help="another example")),
}  # fmt: skip
_GLOBAL = (
    opt("--config", metavar="FILE", help=f"settings (default: {DEFAULT_CONFIG})"),
    opt("--database", metavar="FILE", help="the SQLite database"),
    opt("-v", "--verbose", help="show the modem's dialogue"),
)


class _Parser(argparse.ArgumentParser):
    def __init__(self, name: str, words: str, epilog: str) -> None:
        """Make a parser; its help fits the terminal. argparse's own way to that imports a lot."""
        try:
            width = os.get_terminal_size().columns
        except OSError:
            width = 80
        name = f"{find_program()} {name}".rstrip()
        style = partial(argparse.RawDescriptionHelpFormatter, width=max(40, width - 2))
        super().__init__(name, description=words, epilog=epilog, allow_abbrev=False,
                         formatter_class=cast(Any, style))  # fmt: skip

    def error(self, message: str) -> NoReturn:
        """Refuse what was typed in one sentence."""
        message = re.sub("^argument ", "", message)
        complain(f"smsbox: {message}: {self.prog} --help shows how.")
        sys.exit(UsageError.exit_status)


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read what was typed: global options, the command, its own arguments."""
    top = build_parser()
    args = top.parse_args(words)
    if args.command is None:
        top.error("say which command")
    if args.command not in COMMANDS:
        top.error(f'there is no command "{args.command}"{_guess(args.command, COMMANDS)}')
    parser = build_command_parser(args.command)
    args, extra = parser.parse_known_args(args.words, args)
    if extra and extra[0].startswith("-"):
        if any(extra[0].partition("=")[0] in names for names, _ in _GLOBAL):
            parser.error(f"{extra[0]} goes before the command")
        known = re.findall(r"--[a-z-]+", parser.format_usage())
        parser.error(f"there is no option {extra[0]}{_guess(extra[0], known)}")
    elif extra:
        word, quote = extra[0], "quote what belongs together"
        if word[:1] in ("–", "—"):
            parser.error(f"{word} begins with a long dash: type --{word.lstrip('–—')}")
        quote = "type straight quotes" if re.search("[“”„‘’]", " ".join(words)) else quote
        parser.error(f'"{word}" is one word too many; {quote}')
    return args


def _guess(typed: str, known: Iterable[str]) -> str:
    """Return the nearest to a slip of the finger, in words; "" if there is none."""
    from difflib import get_close_matches

    plain = {each.lstrip("-"): each for each in known}
    slip = typed.lstrip("-")
    near = [each for each in plain if slip and each.startswith(slip)]
    near += get_close_matches(slip, plain, 1, cutoff=0.6)
    return f" (did you mean {plain[near[0]]}?)" if near else ""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of what stands before a command's own arguments."""
    commands = "\n".join(f"  {name:<11} {each.words}" for name, each in COMMANDS.items())
    parser = _Parser(
        "",
        "Opt-in SMS campaigns at the pace of a person.",
        f"commands ({find_program()} COMMAND --help shows its options):\n{commands}\n\n"
        "Exit: 0 done, 1 failed, 2 usage, 65 bad campaign data, 75 busy or not now,\n"
        "78 bad config, 130 interrupted.",
    )
    for names, more in _GLOBAL:
        parser.add_argument(*names, **more)
    parser.add_argument("--version", action="version", version=f"smsbox {VERSION}")
    parser.add_argument("command", nargs="?", metavar="COMMAND")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help=argparse.SUPPRESS)
    return parser


def build_command_parser(name: str) -> argparse.ArgumentParser:
    """Build the parser of one command's arguments."""
    row = COMMANDS[name]
    examples = "\n".join(f"  {find_program()} {each}" for each in row.examples)
    parser = _Parser(name, row.words, f"examples:\n{examples}")
    for each in row.arguments:
        group = parser.add_mutually_exclusive_group() if isinstance(each, list) else parser
        for names, more in each if isinstance(each, list) else [each]:
            group.add_argument(*names, **more)
    parser._negative_number_matcher = re.compile(r"-\d+")  # --by -30m: a value, no option
    return parser


_COMPLETION = """# bash completion of smsbox
_smsbox() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words="{commands}" each
    for each in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$each" in
{options}
        esac
    done
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}}
complete -o default -F _smsbox smsbox
"""


def render_completion() -> str:
    """Return the completion of commands and options for bash."""
    options = []
    for name in COMMANDS:
        usage = build_command_parser(name).format_usage()
        words = sorted({"--help", *re.findall(r"--[a-z-]+", usage)})
        options.append(f'            {name}) words="{" ".join(words)}"; break ;;')
    return _COMPLETION.format(commands=" ".join(COMMANDS), options="\n".join(options))


_MAN = r""".TH SMSBOX 1 2026-11-30 "smsbox {version}"
.SH NAME
smsbox \- opt\-in SMS campaigns at the pace of a person
.SH SYNOPSIS
.B smsbox
{options}
.I COMMAND
.RI [ ARGUMENT ...]
.SH DESCRIPTION
A CSV goes in; a GSM modem writes to one recipient after another,
minutes apart, in business hours only, over days.
The service
.B smsbox.service
sends; the commands below plan, look and change.
All of them are explained in /usr/share/doc/smsbox/README.md.
.SH COMMANDS
{commands}
.SH EXIT STATUS
0 done, 1 failed, 2 usage, 65 bad campaign data, 75 busy or not now,
78 bad config, 130 interrupted.
.br
.BR status " and " check :
0 well, 1 needs you, 2 not working.
.SH FILES
.TP
.I /etc/smsbox/config.toml
the settings; every setting with its default:
.I /usr/share/doc/smsbox/config.example.toml
.TP
.I /etc/smsbox/sim.pin
the SIM's PIN, of root alone
.TP
.I /var/lib/smsbox
the database and its daily copies
.TP
.I /run/smsbox/status.json
what the service says of itself
.SH SEE ALSO
.BR journalctl (1),
.BR sqlite3 (1)
"""


def render_man() -> str:
    """Return the man page of all commands, in roff."""
    options = "\n".join(f"[{_name_argument(*each)}]" for each in _GLOBAL)
    lines = []
    for name, row in COMMANDS.items():
        lines += [f".SS {name}", _to_roff(f"{row.words}.")]
        for each in row.arguments:
            for names, more in each if isinstance(each, list) else [each]:
                words = more.get("help") or " or ".join(more.get("choices", ["see above"]))
                lines += [".TP", _name_argument(names, more), _to_roff(words)]
        lines += [".PP", "Examples:", ".RS", ".nf"]
        lines += [*(_to_roff(f"smsbox {each}") for each in row.examples), ".fi", ".RE"]
    return _MAN.format(version=VERSION, options=options, commands="\n".join(lines))


def _name_argument(names: Sequence[str], more: Mapping[str, Any]) -> str:
    """Return an argument as the man page has it: options in bold, the value in italics."""
    takes_value = more.get("action", "append") == "append"
    value = str(more.get("metavar") or names[0].strip("-").upper())
    options = [rf"\fB{_to_roff(name)}\fR" for name in names if name.startswith("-")]
    value = rf"\fI{_to_roff(value)}\fR" if takes_value else ""
    return " ".join(filter(None, (", ".join(options), value)))


def _to_roff(text: str) -> str:
    """Write a paragraph, or a line, in roff's way, in short lines."""
    import textwrap

    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    lines = textwrap.wrap(escaped, 78, break_long_words=False, break_on_hyphens=False)
    return "\n".join(re.sub("^([.'])", r"\\&\1", line) for line in lines)


_UDEV_HEAD = """\
# Part of smsbox; replaced at an upgrade. Rules of your own: /etc/udev/rules.d/71-smsbox-local.rules
# /dev/smsbox-modem is the port that takes AT commands, whatever its ttyUSB number is.
# ModemManager runs as root and opens every port it takes for a modem. It leaves these alone, and
# keeps all others: those of Huawei too, which are the Internet's as often as ours.
ACTION=="remove", GOTO="smsbox_end"
"""


# The SIM's PIN goes over the port: the group dialout, in which every Pi's first user is, is out.
_OWN = 'OWNER="smsbox", MODE="0600"'


def render_udev_rule() -> str:
    """Return the rules that give known modems their name and keep all others off them.

    Their file sorts after 60-serial.rules, which finds the interface number, and before
    80-mm-candidate.rules, with which ModemManager picks its modems.
    """
    lines = [_UDEV_HEAD]
    for (vendor, product), interface in _USB_AT_INTERFACE.items():
        device = f'ATTR{{idVendor}}=="{vendor}", ATTR{{idProduct}}=="{product or "*"}"'
        port = f'SUBSYSTEM=="tty", SUBSYSTEMS=="usb", {device.replace("ATTR{", "ATTRS{")}'
        usb = f'SUBSYSTEM=="usb", ENV{{DEVTYPE}}=="usb_device", {device}'
        lines += [
            f'{usb}, ENV{{ID_MM_DEVICE_IGNORE}}="1"\n{port}, ENV{{ID_MM_PORT_IGNORE}}="1", {_OWN}',
            f'{port}, ENV{{ID_USB_INTERFACE_NUM}}=="{interface}", SYMLINK+="smsbox-modem"\n',
        ]
    return "\n".join([*lines, 'LABEL="smsbox_end"\n'])


def render_drop_in(config: Config) -> str:
    """Return what the unit has to know of the settings: where else the service writes, and how
    long a stop waits for the segment that is with the modem, where that is over 4 minutes."""
    folders = [config.service.backup_dir, str(find_database(None, config).parent)]
    lines = ["# Written from the settings; `smsbox check` tells when they have changed."]
    stop_s = round(config.modem.send_timeout_seconds * 1.5 + 60)
    lines += [f"TimeoutStopSec={stop_s}"] if stop_s > 240 else []
    for folder in folders:
        if folder.startswith("/") and folder != str(STATE_FOLDER):
            # The minus: a stick that is not plugged in does not stop the service.
            escaped = re.sub(r'(["\\])', r"\\\1", folder.replace("%", "%%"))
            lines.append(f'ReadWritePaths="-{escaped}"')
    return "\n".join([lines[0], "[Service]", *lines[1:], ""])


# --- what every command needs: its arguments, the settings, where the database is


@dataclass(frozen=True, slots=True)
class Context:
    """What every command needs: its arguments, the settings, where the database is."""

    args: argparse.Namespace
    config: Config
    database_path: Path
    now: datetime

    def has_database(self) -> bool:
        """True if there is a database; an empty file is none."""
        path, folder = self.database_path, self.database_path.parent
        is_named = bool(self.args.database or self.config.service.database)
        try:
            if not folder.is_dir() and (is_named or folder.exists()):
                raise StoreError(
                    f"{path} can't be: {folder} is no folder; make it first, or correct the name"
                )
            if path.is_symlink():  # what lies beside it would be looked for in two places
                raise StoreError(f"{path} is a link: name the database itself")
            return path.exists() and path.stat().st_size > 0
        except OSError as error:
            raise StoreError(f"{path} can't be read: {error.strerror}") from error

    def read(self) -> Database:
        """Open the database to look at it."""
        if not self.has_database():
            raise StoreError(
                f"there is no database yet at {self.database_path}: schedule a campaign first"
            )
        become_owner(self.database_path.parent)
        return Database.open_to_read(str(self.database_path))

    def write(self) -> Database:
        """Open the database to change it; it is made when it is missing."""
        self.take_folder()
        return Database.create_or_open(str(self.database_path))

    def take_folder(self) -> None:
        """Become the owner of the database's folder; make it, if nobody has named another."""
        self.has_database()  # a path that can't be is told in words
        become_owner(self.database_path.parent)
        kept = os.umask(0o077)
        try:
            self.database_path.parent.mkdir(parents=True, exist_ok=True)
        finally:
            os.umask(kept)

    def change(self) -> Database:
        """Open a database that must be there to change it."""
        self.read().close()
        return self.write()

    def local(self, at: datetime) -> datetime:
        """Turn a time into the sender's wall time."""
        return at.astimezone(self.config.business_hours.timezone)

    def show(self, at: datetime | str) -> str:
        """Write a time, also one of the database, as a row shows it: '11/08 02:59 PM'."""
        local = self.local(read_stored_time(at) if isinstance(at, str) else at)
        return f"{local:%m/%d}{self._show_year(local)} {local:%I:%M %p}"

    def stamp(self, at: datetime) -> str:
        """Write a time as a sentence says it: 'Sat 11/08 2:59 PM'."""
        local = self.local(at)
        day = f"{local:%a %m/%d}{self._show_year(local)}"
        return f"{day} {local.hour % 12 or 12}:{local:%M %p}"

    def _show_year(self, at: datetime) -> str:
        """Write a year that nobody would think of: that of a time more than half a year ahead."""
        return f"/{at.year}" if at - self.now > timedelta(days=180) else ""

    def zone_name(self) -> str:
        """Return the zone of all times: 'America/Los_Angeles (PST)'."""
        return f"{self.config.business_hours.timezone.key} ({self.local(self.now):%Z})"

    def zone_note(self) -> str:
        """Return the zone of all times of an answer."""
        return f"Times are those of {self.zone_name()}."

    def parse_time(self, option: str, said: str | None, needs_hour: bool = True) -> datetime | None:
        """Read a time that was typed after an option; UsageError for what is none."""
        if said is None:
            return None
        try:
            return parse_local_time(said, self.config.business_hours.timezone, self.now, needs_hour)
        except ValueError as error:
            raise UsageError(f"{option} {error}") from error

    def is_served(self) -> bool:
        """True if a daemon works on this database."""
        return is_locked(lock_path(self.database_path))

    def read_service(self) -> dict[str, Any]:
        """Return what the daemon says of itself; {} without one."""
        if not self.is_served():
            return {}
        return {"modem": "starting", **read_status_file(status_path(self.database_path))}


def lock_path(database: Path) -> Path:
    """Return the file whose lock the daemon holds."""
    return database.with_name(database.name + ".lock")


def status_path(database: Path) -> Path:
    """Return the file in which the daemon says what it does; on the box it lies in memory."""
    if database.parent == STATE_FOLDER:
        return Path("/run/smsbox/status.json")
    return database.with_name(database.name + ".status.json")


def find_actor() -> str:
    """Return the person who types: the one behind sudo, where root began, else the login name."""
    import pwd

    behind, user = os.environ.get("SUDO_USER", ""), _STARTED_BY
    with suppress(KeyError):
        if user == 0 and str(pwd.getpwnam(behind).pw_uid) == os.environ.get("SUDO_UID"):
            return behind
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


_STARTED_BY = os.getuid() if hasattr(os, "getuid") else 0  # before root becomes somebody else


def find_config(said: str | None) -> Path:
    """Return the config's path: --config, $SMSBOX_CONFIG, else the appliance's."""
    return Path(said or os.environ.get("SMSBOX_CONFIG") or DEFAULT_CONFIG)


def read_change_time(path: Path) -> float:
    """Return when a file was last changed, in seconds since 1970; 0 if there is none to see."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def load_config(said: str | None) -> Config:
    """Read the settings; a file that is named or exists and can't be read is a ConfigError."""
    named = said or os.environ.get("SMSBOX_CONFIG")
    path = find_config(said)
    try:
        text = read_file(path).decode()
    except FileNotFoundError as error:
        if named:
            raise ConfigError(f"there is no config at {path}: correct the path") from error
        return parse_config(_read_credentials())
    except OSError as error:
        remedy = "use sudo, or join the group smsbox"
        raise ConfigError(
            f"the config {path} can't be read ({error.strerror}): {remedy}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the config {path} is not UTF-8: save it as UTF-8") from error
    tables, credentials = parse_toml(text, path), _read_credentials()
    if credentials and isinstance(modem := tables.setdefault("modem", {}), dict):
        tables["modem"] = modem if modem.get("sim_pin") else {**modem, **credentials["modem"]}
    return parse_config(tables)


def _read_credentials() -> dict[str, Any]:
    """Read a SIM's PIN that no group member may read: root can, and the unit's LoadCredential=."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder, "sim_pin") if folder else DEFAULT_CONFIG.with_name("sim.pin")
    try:
        pin = read_file(path).decode().strip()
    except (OSError, UnicodeDecodeError):
        return {}
    return {"modem": {"sim_pin": pin}} if pin else {}


def parse_toml(text: str, path: Path) -> dict[str, Any]:
    """Parse TOML with the standard library, or with tomli before Python 3.11."""
    from importlib import import_module

    try:
        tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ModuleNotFoundError as error:
        raise ConfigError("this Python can't read TOML: install tomli") from error
    try:
        return cast("dict[str, Any]", tomllib.loads(text))
    except ValueError as error:
        raise ConfigError(
            f"the config {path} is no valid TOML: {error}; a time, a name or a number with + stands"
            ' between straight quotes, like "09:00"'
        ) from error


def find_database(said: str | None, config: Config) -> Path:
    """Return the database: --database, the config's, the appliance's, else the person's own."""
    if said or config.service.database:
        return Path(said or config.service.database).absolute()
    try:
        appliance = STATE_FOLDER.is_dir()
    except OSError:
        appliance = True
    if appliance:
        return STATE_FOLDER / "smsbox.db"
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(home) / "smsbox" / "smsbox.db"


# --- small rendering


_COLORS = {"good": "32", "warning": "33", "fault": "31"}  # ECMA-48, SGR
# What stands for the service manager's commands where smsbox is not installed.
_BY_HAND = {
    "sudo systemctl start smsbox": "smsbox run",
    "sudo systemctl restart smsbox": "end it with Ctrl-C and start it again",
    "sudo systemctl stop smsbox": "end it with Ctrl-C",
    "sudo systemctl disable --now smsbox": "end it with Ctrl-C",
    "journalctl -u smsbox": "smsbox run",
}


def find_program() -> str:
    """Return the command as it is typed here: smsbox where it is installed."""
    import shlex

    typed = Path(sys.argv[0])
    is_installed = Path(__file__).absolute().is_relative_to("/usr")
    return (
        "smsbox"
        if is_installed or typed.name != "smsbox.py"
        else f"python3 {shlex.quote(str(typed))}"
    )


def name_program(text: str) -> str:
    """Return a sentence whose hints call the program the way it was started."""
    if (program := find_program()) == "smsbox":
        return text
    for command, by_hand in _BY_HAND.items():
        text = text.replace(command, by_hand)
    return re.sub(rf"\bsmsbox (?=(?:{'|'.join(COMMANDS)})\b)", lambda _: f"{program} ", text)


def color(text: str, mood: str) -> str:
    """Color a line on a terminal, unless NO_COLOR is set. mood: good, warning, fault or ''."""
    if mood and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        return f"\x1b[{_COLORS[mood]}m{text}\x1b[0m"
    return text


def say(text: str = "", mood: str = "") -> None:
    """Answer the operator in our own words."""
    print(color(_plain_lines(name_program(text)), mood))


def show_line(text: str, mood: str = "") -> None:
    """Show what may hold text from outside: it can't steer the terminal."""
    print(color(_plain_lines(text), mood))


def _plain_lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def find_width() -> int:
    """Return how many columns a line may have: the terminal's, 79 where there is none."""
    columns = 0  # a serial console knows no size
    with suppress(OSError, ValueError):
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    return max(40, min(columns - 1, 119)) if columns else 79


def say_wrapped(text: str) -> None:
    """Answer in lines that fit the terminal."""
    import textwrap

    text = printable(name_program(text))
    print(textwrap.fill(text, find_width(), subsequent_indent=" " * 11, break_on_hyphens=False))


def complain(text: str) -> None:
    """Tell the operator of a problem, in one line."""
    print(printable(name_program(text)), file=sys.stderr)


def fit(text: str, width: int) -> str:
    """Cut or pad a text to a width, wide characters counting two.

    >>> fit("Andrew Torres", 8), fit("Ana", 5)
    ('Andrew …', 'Ana  ')
    """
    import unicodedata

    def wide(char: str) -> int:
        if unicodedata.combining(char):
            return 0
        return 2 if unicodedata.east_asian_width(char) in "WF" else 1

    text = printable(text)
    total = sum(map(wide, text))
    if total <= width:
        return text + " " * (width - total)
    kept, room = "", width - 1
    for char in text:
        if wide(char) > room:
            break
        kept += char
        room -= wide(char)
    return kept + "…" + " " * room


def show_time(at: datetime) -> str:
    """Write a local time as the plan does: '11/08 02:59 PM'."""
    return f"{at:%m/%d %I:%M %p}"


def show_clock(minutes: int) -> str:
    """Write a time of day, given in minutes after midnight."""
    return f"{minutes // 60}:{minutes % 60:02}"


def show_span(span: tuple[float, float]) -> str:
    """Write a span of numbers: '4-7'."""
    return f"{span[0]:g}-{span[1]:g}"


def name_campaign(name: str) -> str:
    """Return a campaign as a sentence has it."""
    return printable(name) or "what has no campaign"


def show_wait(seconds: float) -> str:
    """Write a duration roughly: '3 days 4 h', '2 h 5 min', '40 s'."""
    minutes = round(abs(seconds) / 60)
    days, hours = minutes // 1440, minutes % 1440 // 60
    if days:
        return f"{plural(days, 'day')} {hours} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{abs(seconds):.0f} s"


def ask_yes(question: str, yes: bool, from_terminal: bool = False) -> bool:
    """Ask for the word YES on a terminal; UsageError where there is none and --yes is not given."""
    if yes:
        return True
    source: TextIO = sys.stdin
    if from_terminal:
        with suppress(OSError):
            source = open("/dev/tty", encoding="utf-8")  # noqa: SIM115 (as long as the command)
    if not source.isatty():
        raise UsageError("there is no terminal to ask for YES on: add --yes")
    sys.stdout.flush()
    print(f"{question} Type YES to confirm: ", end="", file=sys.stderr, flush=True)
    if source.readline().strip() == "YES":
        return True
    complain("Not confirmed: nothing was changed. Only YES in capital letters confirms.")
    return False


# --- facts: how it is, one list and one renderer for status, check and why


class Fact(NamedTuple):
    """One line about the box; a warning or a fault says what to do, behind a colon."""

    level: str  # 'ok', 'warning' or 'fault'
    name: str
    words: str


_LEVELS = ("ok", "warning", "fault")  # in the order of the exit status


def judge(holds: object, name: str, words: str, remedy: str, level: str = "fault") -> Fact:
    """Make a fact of what should hold, with what to do where it does not."""
    return Fact("ok", name, words) if holds else Fact(level, name, f"{words}: {remedy}")


def show_facts(facts: Iterable[Fact]) -> None:
    """Print facts, a line each: LEVEL NAME WORDS."""
    for fact in facts:
        words = printable(fact.words)  # a name in it may hold a line feed
        say(f"{fact.level:<8} {fact.name:<10} {words}", fact.level.replace("ok", "good"))


def _find_worst(facts: Iterable[Fact]) -> int:
    return max((_LEVELS.index(fact.level) for fact in facts), default=0)


def _to_values(facts: Iterable[Fact]) -> list[dict[str, Any]]:
    return [{**fact._asdict(), "words": name_program(fact.words)} for fact in facts]


class Health(NamedTuple):
    """What status says, as text or as JSON."""

    answer: str  # how it is, in one line
    level: str
    version: str
    modem: str | None  # None: no daemon
    clock: str | None
    fault: str | None
    counts: Mapping[str, int]
    next: Mapping[str, Any] | None
    campaigns: Sequence[Mapping[str, Any]]  # those with something to go
    facts: Sequence[Fact]


def cmd_status(context: Context) -> int:
    """Print how it is now; 0 well, 1 needs you, 2 not working."""
    health = read_health(context)
    if context.args.json:
        named = {"answer": name_program(health.answer), "facts": _to_values(health.facts)}
        named |= {"fault": name_program(health.fault)} if health.fault else {}
        say_json(health._asdict() | named)
    else:
        say(printable(health.answer), health.level.replace("ok", "good"))
        show_facts(health.facts)
    return _LEVELS.index(health.level)


def read_health(context: Context) -> Health:
    """Read how it is: the daemon's word, then the queue's."""
    told = context.read_service()
    facts = [*_tell_service(context, told, "fault")]
    course, counts, values, campaigns = "", dict[str, int](), None, list[dict[str, Any]]()
    try:
        if context.has_database():
            database = context.read()
            counts, held = database.reports.count_by_status(), database.reports.count_held()
            turn, forecast = _read_turn(context, database, told), read_forecast(context, database)
            campaigns = _read_campaigns(database, forecast)
            values = _row_values(turn.next_row, forecast.times) if turn.next_row else None
            facts += _tell_queue(context, database, turn, forecast)
            facts += _tell_waiting(counts, held)
            course = _tell_pause(context, turn) or _tell_course(
                context, counts, campaigns, forecast
            )
            database.close()
        else:
            words = f"{context.database_path} is made by the first campaign"
            facts.append(Fact("ok", "database", words))
    except StoreError as error:
        facts.append(Fact("fault", "database", str(error)))
    level = _LEVELS[_find_worst(facts)]
    first = next((fact for fact in facts if fact.level == "fault"), None)
    fault = first.words if first else None
    clock = str(told["clock"]) if "clock" in told else None
    stops = fault and fault.removeprefix(f"{context.database_path}: ")
    if first and first.name == "clock":
        stops = f"the clock is {stops}"
    answer = _answer(course or "Nothing is scheduled.", facts, stops)
    return Health(
        answer, level, VERSION, str(told["modem"]) if told else None, clock, fault, counts, values,
        campaigns, facts,
    )  # fmt: skip


def _answer(course: str, facts: Iterable[Fact], fault: str | None) -> str:
    """Return how it is in one line: what stands in the way, or what goes and who has to act."""
    if fault:
        what, _, remedy = fault.partition(": ")
        remedy = f"{remedy[:1].upper()}{remedy[1:]}; " if remedy else ""
        return f"Not sending: {what}. {remedy}smsbox check says more."
    needs = sum(fact.level == "warning" for fact in facts)
    need = f"{plural(needs, 'thing')} {'needs' if needs == 1 else 'need'} you"
    return f"{course} {need if needs else 'Nothing needs you'}."


def _tell_pause(context: Context, turn: Turn) -> str:
    pause = turn.pauses.get("", _NO_PAUSE)
    if pause.because and pause.until:
        return f"Paused until {context.stamp(pause.until)}."
    if pause.because and pause.by == PausedBy.BOX.value:
        return f"Paused: {pause.because}."
    return f"{pause.because[0].upper()}{pause.because[1:]}." if pause.because else ""


def _tell_course(
    context: Context,
    counts: Mapping[str, int],
    campaigns: Sequence[Mapping[str, Any]],
    forecast: Forecast,
) -> str:
    """Return in a sentence what goes, how much of it went, and when it is done; "" if nothing."""
    times = [at for at in forecast.times.values() if at]
    if not times:
        shut = sum(bool(row.doubtful_at) for row in forecast.rows)
        late = counts["scheduled"] - counts["held"] - shut
        paused = ", ".join(each["name"] for each in campaigns if each["paused_because"])
        words = [f"{plural(counts['held'], 'message')} held"] if counts["held"] else []
        words += [f"{plural(shut, 'message')} behind a reply that waits for you"] if shut else []
        words += [f"{plural(late, 'message')} of a paused campaign or too late"] if late > 0 else []
        words = [f"{paused} is paused"] if paused else words
        return f"Nothing can go: {', '.join(words)}." if words else ""
    names = [
        f"{name_campaign(each['name'])}, {each['sent']:,} of"
        f" {each['planned'] - each['cancelled']:,} sent"
        for each in campaigns
        if each["ends"]
    ]
    opens = next_open(context.now, context.config.business_hours)
    goes_on = f", goes on {context.stamp(opens)}" if opens > context.now else ""
    done = f"done about {context.stamp(max(times))}"
    if not forecast.is_whole:
        done = f"done in more than {plural((max(times) - context.now).days, 'day')}"
    return f"Sending: {'; '.join(names)}{goes_on}, {done}."


def _read_campaigns(database: Database, forecast: Forecast) -> list[dict[str, Any]]:
    """Return the campaigns with something to go: their counts, when they are done."""
    pauses = database.state.paused_campaigns()
    found = []
    for name in database.reports.live_campaigns():
        counts = database.reports.count_by_status_of(name)
        ends = {"ends": forecast.ends.get(name), "paused_because": pauses.get(name)}
        found.append({"name": name, "planned": sum(counts.values()), **counts, **ends})
    return found


def _tell_service(context: Context, told: Mapping[str, Any], stopped: str) -> Iterator[Fact]:
    """Tell what the daemon says of itself, its modem and its clock; stopped: the level then."""
    yield judge(told, "service", f"running (pid {told.get('pid', '?')})" if told else
                "smsbox is not running", "start it with sudo systemctl start smsbox",
                stopped)  # fmt: skip
    if told:
        signal = told.get("signal_dbm")
        state = [str(told["modem"]), str(told.get("operator") or "")]
        state += [f"signal {signal} dBm"] if signal is not None else []
        level = "ok" if told.get("modem_ready") else "fault"
        yield Fact(level, "modem", ", ".join(filter(None, state)))
        for warning in told.get("warnings", ()):
            yield Fact("warning", "modem", str(warning))
        if fault := explain_fault(told):
            yield Fact("fault", "sending", fault)
    yield _judge_clock(context, told)
    path = Path(told.get("config", ""))
    changed_at = read_change_time(path) if told.get("config") else 0
    if changed_at and changed_at != told["config_changed_at"]:
        words = f"{path} has changed since smsbox read it: sudo systemctl restart smsbox"
        yield Fact("warning", "config", words)


def _judge_clock(context: Context, told: Mapping[str, Any]) -> Fact:
    if not context.config.clock.require_trust:
        return Fact("ok", "clock", "not watched: require_trust is false")
    if told.get("clock") and not told.get("trusted"):
        return Fact("fault", "clock", str(told["clock"]))
    trusted = str(told.get("clock", "")) or find_time_evidence(context.config.clock.sources)
    with suppress(StoreError):
        if not trusted and context.has_database():
            is_said = context.read().state.get("clock_word") == read_boot_id()
            trusted = "the operator's word" if is_said else ""
    remedy = "connect the Pi to the Internet once, or smsbox resume --clock-is-right"
    return judge(trusted, "clock", f"right by {trusted}" if trusted else "not trusted", remedy)


def _tell_queue(
    context: Context, database: Database, turn: Turn, forecast: Forecast
) -> Iterator[Fact]:
    """Tell of disk, hours, pauses, the next message, quota, what will be too late, copies."""
    if disk := _find_disk_fault(database):
        yield Fact("fault", "disk", disk)
    operator = context.config.alerts.operator
    if operator and database.opt_outs.at(operator):
        words = f"your own number said stop and gets none: smsbox optout remove {operator}"
        yield Fact("warning", "alerts", f"{words} --reason WHY --they-asked")
    opens = next_open(context.now, context.config.business_hours)
    shut = f"closed until {context.stamp(opens)}" if opens > context.now else "open"
    yield Fact("ok", "hours", f"{shut}; all times are those of {context.zone_name()}")
    for name, pause in turn.pauses.items():
        if pause.because:
            of = f"campaign {name}: " if name else ""
            until = f" until {context.stamp(pause.until)}" if pause.until else ""
            words = f"{of}{pause.because}{until}: {_resume_of(name)} goes on"
            yield Fact("warning", "pause", words)
    if row := turn.next_row:
        at = forecast.times.get(row.id)
        when = f"expected {context.stamp(at)}" if at else f"due {context.stamp(row.scheduled_for)}"
        yield Fact("ok", "next", f"{row.id} {row.customer_name} {row.phone_number}, {when}")
        text = (row.phone_number, row.message_content)
        quota = find_quota(*text, turn.budgets, context.now, context.config)
        if quota.shut:
            yield Fact("ok", "quota", _tell_gate(context, quota))
    total = len(forecast.times)
    if late := sum(at is None for at in forecast.times.values()):

        def count(config: Config) -> int:
            times = project_queue(database, context.now, config, forecast.rows)
            return sum(at is not None for at in times.values())

        words = describe_remedies(context.config, count, total - late, total)
        yield Fact("warning", "too late", f"{late:,} of {plural(total, 'message')} that wait come"
                   f" after their end, {total - late:,} fit: {words}")  # fmt: skip
    midnight = context.local(context.now).replace(hour=0, minute=0, second=0, microsecond=0)
    yield Fact("ok", "today", f"{database.reports.count_sent_since(midnight):,} sent")
    copies = CopyFolders(context.database_path, context.config.service.backup_dir)
    newest = copies.newest(context.now)
    words = f"the last of {newest.stem.removeprefix('smsbox-')}" if newest else "none yet"
    if newest and not copies.is_elsewhere():
        words += "; all are on the database's own device, a USB stick as backup_dir is safer"
    yield Fact("ok", "copies", words)


_NEEDS = {  # what counts of the queue a person has to see to: of what, what it is, what to do
    "failed": (
        "message",
        "",
        "smsbox list --status failed, then retry, or cancel to be done with it",
    ),
    "unconfirmed": (
        "message",
        " may have been sent, nobody knows",
        f"smsbox list --status failed, then retry {RETRY_ANYWAY}, or cancel to be done with it",
    ),
    "doubtful": ("recipient", " wrote what may mean stop", "smsbox inbox"),
}


def _tell_waiting(counts: Mapping[str, int], held: Mapping[str, int]) -> Iterator[Fact]:
    """Tell the counts of the queue, and what waits for a person."""
    keys = ("scheduled", "sent", "failed", "cancelled")
    settled = f", {counts['settled']:,} failed and settled" if counts["settled"] else ""
    yield Fact("ok", "queue", ", ".join(f"{counts[key]:,} {key}" for key in keys) + settled)
    if counts["delivered"] or counts["undelivered"]:
        never = f"{counts['undelivered']:,} will never be"
        yield Fact("ok", "delivery", f"{counts['delivered']:,} of the sent are delivered, {never}")
    for because, count in held.items():
        yield Fact("warning", "held", f"{count:,}, {because}: smsbox list --held")
    for key, (noun, words, remedy) in _NEEDS.items():
        if counts[key]:
            yield Fact("warning", key, f"{plural(counts[key], noun)}{words}: {remedy}")
    if counts["unread"]:
        yield Fact("ok", "replies", f"{counts['unread']:,} unread: smsbox inbox")


def explain_fault(told: Mapping[str, Any]) -> str:
    """Return what stops the running daemon altogether, with what to do; "" if nothing does."""
    words = str(told.get("fault_words", ""))
    if told.get("fault") == Fault.PROGRAM.value:
        return (
            f"an error of smsbox itself ({words}): nothing is sent; sudo systemctl restart smsbox,"
            " and if it comes back, report what journalctl -u smsbox says"
        )
    return words


# --- facts of one message: why it waits


def cmd_why(context: Context) -> int:
    """Print each gate that a message must pass, open or shut, and its place in the queue."""
    database, told = context.read(), context.read_service()
    found = _find_named(database, context.args.id)
    turn = _read_turn(context, database, told)
    expected = project_queue(database, context.now, context.config)
    values = []
    for row in found:
        place = _tell_place(context, row, turn, expected)
        facts = [*_tell_gates(context, row, turn, bool(told)), *place]
        values += [{"id": row.id, **each} for each in _to_values(facts)]
        if not context.args.json:
            where = "".join(f", place: {fact.words}" for fact in place)
            say(f"Message {row.id} to {printable(row.phone_number)}, {row.status.value}{where}")
            show_facts(facts)
    if context.args.json:
        say_json(values)
    return 0


def _tell_gates(context: Context, row: StoredRow, turn: Turn, is_served: bool) -> Iterator[Fact]:
    off = "" if is_served else "smsbox is not running: start it with sudo systemctl start smsbox"
    for gate in [*find_gates(row, turn, context.config), Gate("service", off)]:
        shut = f"shut: {_tell_gate(context, gate)}"
        yield Fact("warning", gate.name, shut) if gate.shut else Fact("ok", gate.name, "open")


def _tell_place(
    context: Context, row: StoredRow, turn: Turn, expected: Mapping[MessageId, datetime | None]
) -> list[Fact]:
    """Tell how many messages go before a waiting row, and when its turn comes."""
    if row.id not in expected:
        return []
    if at := expected[row.id]:
        before = sum(each is not None and each < at for each in expected.values())
        go = "goes" if before == 1 else "go"
        first = f"{plural(before, 'message')} {go} first, " if before else ""
        return [Fact("ok", "place", f"{first}expected {context.show(at)}")]
    words = "its turn comes after its end: it will be too late"
    if end := find_end(row, turn, context.config):
        words = f"it will be {'held' if end.code else 'cancelled'}: {end.words}"
    return [Fact("warning", "place", words)]


def _tell_gate(context: Context, gate: Gate) -> str:
    if gate.until is None:
        return gate.shut
    wait = show_wait((gate.until - context.now).total_seconds())
    return f"{gate.shut} until {context.show(gate.until)}, in {wait}"


def _read_turn(context: Context, database: Database, told: Mapping[str, Any]) -> Turn:
    """Read what the daemon reads, its own part from what it has published."""
    queue, state, config = database.queue, database.state, context.config
    last = queue.last_begun()
    budgets = cache(partial(find_budgets, database, context.now, config))
    trusted = told.get("trusted", True) or not config.clock.require_trust
    is_ready = told.get("modem_ready", not told)
    return Turn(
        context.now,
        state.all(),
        state.pauses(),
        queue.next_row(),
        last[0] if last else None,
        max(context.now - last[1], timedelta()) if last else None,
        _AT_ONCE_AN_HOUR - queue.count_at_once(context.now - timedelta(hours=1)),
        budgets if config.pacing.is_limited else None,
        "" if trusted else str(told.get("clock", "")),
        "" if is_ready else str(told.get("modem", "no modem yet")),
        str(told.get("incoming", "")),
        explain_fault(told) or _find_disk_fault(database),
    )


def _find_disk_fault(database: Database) -> str:
    try:
        database.check_disk()
    except StoreError as error:
        return str(error)
    return ""


# --- facts of the machine: check


def cmd_check(context: Context) -> int:
    """Look at all that smsbox needs, with the daemon running or without; 0 ok, 1, 2 fault."""
    args, told = context.args, context.read_service()
    if told and (args.at or args.ussd or args.lamps):
        has = "lamps" if args.lamps else "modem"
        raise StoreError(
            f"smsbox is running and has the {has}: sudo systemctl stop smsbox, then check again"
        )
    if args.lamps:
        return _play_lamps(context)
    if args.at:
        start_journal({}, debug=True)
    path = find_config(args.config)
    words = f"{path} can be used" if path.exists() else "none: the defaults are used"
    facts = [Fact("ok", "config", words)]
    if not args.only_config:
        # The modem first: opening the database gives up what root may see and open.
        modem = [*(_tell_modem(told) if told else _ask_modem(context))]
        facts += [*_tell_service(context, told, "warning"), *_tell_machine(context), *modem]
    if args.json:
        say_json(_to_values(facts))
    else:
        show_facts(facts)
    return _find_worst(facts)


def _play_lamps(context: Context) -> int:
    """Show each pattern for a while, with its name: which lamp is it, and do all of them light?"""
    lamps = take_gpio_lamps(context.config.lamps)
    if lamps is None:
        raise UsageError("no lamps are configured: put their BCM pins under [lamps] in the config")
    clock = Waiting(lamps)
    clock.catch_signals()
    pins = context.config.lamps
    sending = "ready" if pins.sending is None else "sending"
    shows = [("ready", each.value, LampState(each)) for each in Ready]
    shows += [(sending, "a segment is with the modem", LampState(Ready.UNDER_WAY, sending=True))]
    shows += [("fault", fault.value, LampState(Ready.IDLE, fault)) for fault in Fault]
    for name, words, state in shows[:-1]:  # the last fault is none
        if getattr(pins, name) is not None:
            say(f"{name:<8} pin {getattr(pins, name):<3} {words}")
            sys.stdout.flush()
            lamps.show(state)
            clock.until(clock.monotonic() + context.args.lamps)
    return 0


def _tell_machine(context: Context) -> Iterator[Fact]:
    """Tell of the database, the disk, the power, who else wants the modem, the lamps."""
    path = context.database_path
    words, level, is_there = f"{path} is made by the first campaign", "ok", False
    try:
        is_there = context.has_database()
    except StoreError as error:
        words, level = str(error), "fault"
    if is_there:
        may_write = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        yield judge(may_write or os.geteuid() == 0, "database", str(path),
                    "you may not write it: use sudo, or join the group smsbox")  # fmt: skip
        with closing(context.read()) as database:
            if paused := database.state.get("paused_because"):
                yield Fact("warning", "pause", f"{paused}: smsbox resume goes on")
            if strangers := ", ".join(database.find_strangers()):
                words = f"{strangers} in it is not smsbox's own and acts in what it does: ask who"
                words += " laid it, and drop it by sqlite3 -safe"
                yield Fact("warning", "database", words)
    else:
        yield Fact(level, "database", words)
    space = read_space(path.parent)
    if space.read_only:
        words = "read-only: the card may be worn out, copy it and use a new one"
        yield Fact("fault", "disk", words)
    else:
        free = f"{space.free_bytes / 1e6:,.0f} MB free"
        yield judge(space.free_bytes > 100e6, "disk", free, "make room", "warning")
    if (low := read_undervoltage()) is not None:
        words = "too low a voltage was seen" if low else "good"
        remedy = "use the official power supply and a short cable"
        yield judge(not low, "power", words, remedy, "warning")
    yield from _tell_others(context.config.modem.port)
    yield from _tell_time(context.config)
    if not context.args.config:
        yield from _tell_unit(context.config)
    with suppress(OSError):
        yield from _tell_settings(find_config(context.args.config).read_text())
    lamps = context.config.lamps
    pins = [pin for name in LAMP_NAMES if (pin := getattr(lamps, name)) is not None]
    yield Fact("ok", "lamps", f"on pins {', '.join(map(str, pins))}" if pins else "none configured")


def _tell_others(port: str) -> Iterator[Fact]:
    """Tell who else wants the modem's port, and what else is called smsbox."""
    with suppress(PortLost):
        port = find_port(port)
    takers = find_takers(port)
    for name in takers:
        yield Fact("warning", "others", f"{name} is running; {TAKERS[name]}")
    if is_uart(port) and "agetty" not in takers and has_console():
        yield Fact("warning", "others", f"the kernel's console; {TAKERS['agetty']}")
    for other in find_namesakes():
        words = f"{other} is another program of this name; where it answers, type {INSTALLED}"
        yield Fact("warning", "others", words)


DROP_IN = Path("/etc/systemd/system/smsbox.service.d/install.conf")


def _tell_unit(config: Config, drop_in: Path = DROP_IN) -> Iterator[Fact]:
    """Tell that the unit does not know of the settings as they are now."""
    with suppress(OSError):
        if drop_in.read_text() != render_drop_in(config):
            words = "it knows other folders or times than the settings: sudo sh install.sh"
            yield Fact("warning", "unit", words)


def _tell_time(config: Config) -> Iterator[Fact]:
    """Tell of a clock that nobody sets, and of a time zone unlike the settings'."""
    clock, zone = config.clock, config.business_hours.timezone.key
    if clock.require_trust and clock.sources == ("ntp",) and not find_time_evidence(clock.sources):
        running = {name for name, _ in read_processes()} & TIME_SERVICES
        if not running:
            words = "nobody sets it: sudo timedatectl set-ntp true, or first sudo apt install"
            words += " systemd-timesyncd"
            yield Fact("warning", "clock", words)
    if unlike := find_unlike_zone(zone):
        words = f"the hours are those of {zone}, this machine's zone is {unlike}"
        remedy = f"correct timezone in the config, or sudo timedatectl set-timezone {zone}"
        yield Fact("warning", "zone", f"{words}: {remedy}")


def _tell_settings(text: str) -> Iterator[Fact]:
    """Return the settings that a config does not mention, as an upgrade brings them."""
    missing = find_missing_settings(text)
    if len(missing) > 8:
        words = f"{len(missing)} are not in the config: all stand in {EXAMPLE}"
        yield Fact("ok", "settings", words)
    elif missing:
        words = f"not in the config, at their defaults: {', '.join(missing)}; see {EXAMPLE}"
        yield Fact("ok", "settings", words)


def find_missing_settings(text: str) -> list[str]:
    """Return the settings that stand nowhere in a config, behind a comment sign neither."""
    section, there = "", set()
    for line in text.splitlines():
        if match := re.match(r"\s*(\[\w+\])|[#\s]*(\w+)\s*=", line):
            section = match[1] or section
            there.add(f"{section} {match[2]}")
    every = [f"[{name}] {each.name}" for name, table in SECTIONS.items() for each in fields(table)]
    return [name for name in every if name not in there]


def has_console(cmdline: Path = Path("/proc/cmdline")) -> bool:
    """True if the kernel was told to write its console to a serial port."""
    with suppress(OSError):
        return bool(re.search(r"\bconsole=(serial|ttyAMA|ttyS)\d", cmdline.read_text()))
    return False


def find_namesakes(
    folders: Iterable[str] = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin"),
) -> list[Path]:
    """Return the programs that a shell of root's finds before the installed smsbox."""
    there = [Path(folder, "smsbox") for folder in folders if INSTALLED.exists()]
    return [path for path in there if path.exists() and not path.samefile(INSTALLED)]


def find_unlike_zone(
    zone: str, local: Path = Path("/etc/localtime"), zones: Path = Path("/usr/share/zoneinfo")
) -> str:
    """Return the machine's zone if it is another; "" if not, or if nobody has set it (UTC)."""
    with suppress(OSError):
        if local.read_bytes() not in ((zones / zone).read_bytes(), (zones / "UTC").read_bytes()):
            return os.path.realpath(local).partition("zoneinfo/")[2] or "another one"
    return ""


def _tell_modem(told: Mapping[str, Any]) -> Iterator[Fact]:
    """Tell what is known of a modem: by the status file, or by having asked it."""
    if told.get("resets"):
        yield Fact("warning", "resets", f"the modem was reset {plural(told['resets'], 'time')}")
    if not told.get("port"):
        return
    yield Fact("ok", "port", str(told["port"]))
    yield Fact("ok", "modem", f"{told['model'] or 'unknown model'}, IMEI {told['imei']}")
    if note := find_quirk(str(told["model"])).note:
        yield Fact("warning", "modem", note)
    iccid, centre, signal = told["iccid"], told["service_centre"], told["signal_dbm"]
    if iccid or told.get("modem_ready", True):  # else the modem's own line says what it wants
        words = f"ICCID {iccid or 'not told'}"
        yield judge(iccid, "SIM", words, "push it in, contacts down", "warning")
    where = " ".join(filter(None, (told["operator"], told["access"], told["registration"])))
    remedy = "check antenna, coverage and contract"
    yield judge(told["registration"], "network", where or "not registered", remedy)
    words = f"{signal} dBm" if signal is not None else "not told"
    is_strong = signal is not None and signal > -107
    yield judge(is_strong, "signal", words, "move the antenna", "warning")
    yield judge(centre, "centre", centre or "not told", "put smsc into [modem]", "warning")
    full = bool(told["storage_full"])
    remedy = "no reply comes in until smsbox has emptied it"
    yield judge(not full, "storage", "full" if full else "has room", remedy, "warning")


def _ask_modem(context: Context) -> Iterator[Fact]:
    """Talk to the modem, as nobody else does."""
    settings, port, state = context.config.modem, None, None
    try:
        port = open_port(find_port(settings.port), settings.baud)
        modem = Modem(port, Waiting(), settings)
        if context.has_database():
            with suppress(StoreError):  # on a card that turned read-only the PIN is not tried
                state = context.write()
        if state:
            attach_guarded(modem, settings, state)
        else:
            modem.attach(may_try_pin=False)
        modem.check_network()
        yield from _tell_modem(describe_modem(modem, port))
        if context.args.ussd:
            words, balance = "the network does not answer", ""
            try:
                told = read_ussd(*modem.ask_balance(context.args.ussd))
                balance = " / ".join(map(printable, told.splitlines()))
            except Refused as refused:
                words = str(refused)
            remedy = "it may know another code, or none over LTE"
            yield judge(balance, "balance", balance or words, remedy, "warning")
    except ModemError as error:
        is_silent = settings.port == "auto" and port is not None and is_uart(port.name)
        unknown = name_unknown() if is_silent else ""
        yield Fact("fault", "modem", "; ".join(filter(None, (str(error), unknown))))
    finally:
        if port is not None:
            port.close()


# --- rows: one writer for all that is listed


def write_rows(
    rows: Iterable[_T],
    form: str,
    keys: Sequence[str],
    to_values: Callable[[_T], Sequence[Any]],
    to_line: Callable[[_T], str],
    out: TextIO | None = None,
    mood: Callable[[_T], str] = lambda _: "",
) -> int:
    """Write rows as 'text' (a line each), 'json' (a list) or 'csv' (for a spreadsheet): count."""
    import csv

    out, count = out or sys.stdout, 0
    writer = csv.writer(out)
    if form == "csv":
        writer.writerow(keys)
    for count, row in enumerate(rows, 1):
        if form == "json":
            values = _with_json_times(dict(zip(keys, to_values(row), strict=True)))
            out.write(f"{'[' if count == 1 else ','}\n{json.dumps(values)}")
        elif form == "csv":
            writer.writerow(map(_csv_cell, to_values(row)))
        else:
            show_line(to_line(row), mood(row))
    if form == "json":
        out.write("\n]\n" if count else "[]\n")
    return count


def _form_of(args: argparse.Namespace) -> str:
    return "json" if args.json else "csv" if getattr(args, "csv", False) else "text"


def _csv_cell(cell: object) -> str:
    """Write a cell that steers neither a spreadsheet nor a terminal."""
    text = (
        to_database_time(cell) if isinstance(cell, datetime) else "" if cell is None else str(cell)
    )
    return "\n".join(map(printable, spreadsheet_cell(text).split("\n")))


def say_json(value: object) -> None:
    """Answer in JSON, times as RFC 3339 in UTC."""
    print(json.dumps(_with_json_times(value), indent=1))


def to_json_time(at: datetime | str | None) -> str | None:
    """Write a time, also one of the database, as RFC 3339 in UTC: '2025-11-09T18:00:00Z'."""
    text = to_database_time(at) if isinstance(at, datetime) else at
    return f"{text[:10]}T{text[11:]}Z" if text else None


def _with_json_times(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _with_json_times(each, name) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_json_times(each, key) for each in value]
    is_stored = isinstance(value, str) and _is_time(key) and re.fullmatch(_STORED_TIME, value)
    return to_json_time(value) if is_stored or isinstance(value, datetime) else value


_STORED_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def _is_time(column: str) -> bool:
    """True if a column holds times in UTC; consent_at is as the CSV had it."""
    return column in ("at", "until") or (
        column.endswith(("_at", "_for")) and column != "consent_at"
    )


def cmd_list(context: Context) -> int:
    """List rows; of IDs or numbers show all that is known."""
    args = context.args
    if args.ids:
        chosen = (args.status, args.campaign, args.held, args.find, args.next, args.csv)
        if any(chosen):
            raise UsageError("with IDs list shows all that is known: leave the other options out")
        return _show(context, args.ids)
    form = _form_of(args)
    database = context.read() if context.has_database() else None
    wanted = RowFilter(status=args.status, campaign=args.campaign, held=args.held, find=args.find,
                       free=args.next is not None)  # fmt: skip
    rows, times = list[StoredRow](), dict[MessageId, datetime | None]()
    if database:
        _check_campaign(database, args.campaign)
        rows = database.queue.rows(wanted, -1 if args.next is None else args.next, bool(args.next))
        times = dict(read_forecast(context, database).times)
    elif form == "text":
        say("Nothing is scheduled yet: smsbox schedule FILE.csv")
        return 0
    width = max((len(row.customer_name) for row in rows), default=0)

    def to_line(row: StoredRow) -> str:
        is_too_late = row.id in times and times[row.id] is None
        return _row_line(context, row, times.get(row.id), is_too_late, width)

    moods = {"failed": "fault", "held": "warning"}
    write_rows(rows, form, [*ROW_KEYS, "expected_at"],
               lambda row: list(_row_values(row, times).values()), to_line,
               mood=lambda row: moods.get(_state_of(row), ""))  # fmt: skip
    if form == "text":
        say(context.zone_note() if rows else "No message is like that.")
        if any(_state_of(row) == "held" for row in rows):
            say_wrapped("smsbox release ID lets a held one go, smsbox cancel ID ends it; smsbox why"
                        " ID says more.")  # fmt: skip
    return 0


class Forecast(NamedTuple):
    """When waiting rows will really go; None: too late by then."""

    rows: Sequence[StoredRow]
    times: Mapping[MessageId, datetime | None]
    ends: Mapping[str, datetime]  # campaign -> when it is done
    is_whole: bool  # else it is told of the first rows alone


_MOST_EXPECTED = 2000  # rows of which it is told when they go


def read_forecast(context: Context, database: Database) -> Forecast:
    """Tell when the waiting rows will go; where there are many, the first ones."""
    rows = database.queue.waiting(_MOST_EXPECTED + 1)
    is_whole, rows = len(rows) <= _MOST_EXPECTED, rows[:_MOST_EXPECTED]
    times = project_queue(database, context.now, context.config, rows)
    ends: dict[str, datetime] = {}
    for row in rows:
        if at := times.get(row.id):
            ends[row.campaign_name] = max(at, ends.get(row.campaign_name, at))
    return Forecast(rows, times, ends, is_whole)


def _row_values(row: StoredRow, times: Mapping[MessageId, datetime | None]) -> dict[str, Any]:
    """Return a row with the database's names, and when it will really go."""
    values = {name: getattr(row, name) for name in ROW_KEYS}
    emptied = {"error_message", "held_because", "campaign_message_id"}
    values |= {name: values[name] or None for name in emptied & values.keys()}
    return {**values, "status": row.status.value, "expected_at": times.get(row.id)}


def _state_of(row: StoredRow) -> str:
    if (row.held_because or row.doubtful_at) and row.status is RowStatus.SCHEDULED:
        return "held"
    return {"failed": "undelivered"}.get(row.delivery, row.delivery) or row.status.value


def _row_line(
    context: Context, row: StoredRow, expected: datetime | None = None, is_too_late: bool = False,
    name_width: int | None = None,
) -> str:  # fmt: skip
    """Write a row in a line, and below it why it waits or what became of it."""
    import textwrap

    state = _state_of(row)
    at = row.sent_at if row.status is RowStatus.SENT and row.sent_at else row.scheduled_for
    width = max(5, min(find_width() - 61, name_width or len(row.customer_name)))
    line = (
        f"{row.id:>6} {fit(row.customer_name, width)} {fit(row.phone_number, 13)}"
        f" {context.show(at)} {state:<9} {fit(row.campaign_name, 12).rstrip()}"
    )
    replied = "their reply waits for you: smsbox inbox shows it" if row.doubtful_at else ""
    why = row.held_because or replied if state == "held" else row.error_message
    if expected and expected - row.scheduled_for > timedelta(minutes=1):
        why = f"expected {context.show(expected)}{': ' if why else ''}{why}"
    elif is_too_late and row.until:
        why = f"its turn comes after its end, {context.show(row.until)}: it will be too late"
    lines = textwrap.wrap(printable(why), find_width(), initial_indent=" " * 7,
                          subsequent_indent=" " * 7)  # fmt: skip
    return "\n".join([line.rstrip(), *lines])


def cmd_show(context: Context) -> int:
    """Show all that is known of a message, or of each message to a number."""
    return _show(context, [context.args.id])


def _show(context: Context, names: Sequence[str]) -> int:
    database, found = context.read(), list[dict[str, Any]]()
    times = project_queue(database, context.now, context.config)
    for name in names:
        wanted = _parse_name(name)
        rows = database.queue.rows(wanted)
        number = wanted.number or (normalize_number(rows[0].phone_number) if rows else "")
        person = _read_person(database, number)
        if not any(person.values()):
            rows = _find_named(database, name)  # it says so if there is none
        values = [{**_read_message(database, row, times), **person} for row in rows]
        found += values or [{"phone_number": number, **person}]
        if not context.args.json:
            for row, each in zip(rows, values, strict=True):
                _print_message(context, row, each)
            _print_person(context, number, person)
    if context.args.json:
        say_json(found[0] if len(found) == 1 else found)
    else:
        say(context.zone_note())
    return 0


def _to_dicts(records: Iterable[Any]) -> list[dict[str, Any]]:
    return [dict(record) for record in records]


def _read_person(database: Database, number: str) -> dict[str, Any]:
    stopped = _to_dicts(database.opt_outs.list(number))
    own = [
        {"kind": kind, "created_at": at, "body": bubble.body, "status": bubble.status.value,
         "segments": _to_dicts(database.sending.segments(bubble.id))}
        for kind, at, bubble in database.sending.own_bubbles(number)
    ]  # fmt: skip
    return {
        "own_texts": own,
        "replies": read_texts(database, unread=False, sender=number),
        "opt_out": stopped[0] if stopped else None,
    }


def _read_message(
    database: Database, row: StoredRow, times: Mapping[MessageId, datetime | None]
) -> dict[str, Any]:
    bubbles = [
        {"bubble": bubble.number, "body": bubble.body, "status": bubble.status.value,
         "segments": _to_dicts(database.sending.segments(bubble.id))}
        for bubble in database.sending.bubbles(row.id)
    ]  # fmt: skip
    consent_at, consent_source = database.queue.consent(row.id)
    return {
        **_row_values(row, times), "consent_at": consent_at, "consent_source": consent_source,
        "bubbles": bubbles, "events": _to_dicts(database.reports.events(row.id)),
    }  # fmt: skip


def _print_message(context: Context, row: StoredRow, values: Mapping[str, Any]) -> None:
    show_line(_row_line(context, row))
    for line in row.message_content.split("\n"):
        show_line(f"    {line}")
    if consent := f"{values['consent_at']} {values['consent_source']}".strip():
        show_line(f"  consent {printable(consent)}")
    for bubble in values["bubbles"]:
        show_line(f"  bubble {bubble['bubble']}: {bubble['status']}")
        for segment in bubble["segments"]:
            show_line(f"    segment {printable(_describe_segment(context, segment))}")
    for event in values["events"]:
        detail = re.sub(_STORED_TIME, lambda match: context.show(match[0]), event["detail"])
        words = f"{event['actor']}: {event['event']} {detail}"
        show_line(f"  {context.show(event['at'])}  {printable(words)}".rstrip())


def _describe_segment(context: Context, segment: Mapping[str, Any]) -> str:
    words = f"{segment['sequence']}/{segment['total']}: {segment['status']}"
    words += f" {context.show(segment['answered_at'] or segment['submitted_at'])}"
    if segment["message_reference"] is not None:
        words += f", reference {segment['message_reference']}"
    if segment["delivered_at"]:
        words += f", delivered {context.show(segment['delivered_at'])}"
    elif segment["delivery"]:
        words += {"trying": ", not delivered yet", "failed": ", not delivered"}.get(
            segment["delivery"], f", {segment['delivery']}"
        )
    return words + (f": {segment['error_message']}" if segment["error_message"] else "")


def _print_person(context: Context, number: str, person: Mapping[str, Any]) -> None:
    for own in person["own_texts"]:
        at = context.show(own["created_at"])
        show_line(f"{at}  the box itself, {own['kind']}: {own['status']}")
        show_line(f"    {own['body']}".replace("\n", "\n    "))
    for text in person["replies"]:
        show_line(_reply_line(context, text))
    if stopped := person["opt_out"]:
        said = stopped["reason"] or stopped["words"] or "by hand"
        since = f"gets nothing any more since {context.show(stopped['at'])}"
        show_line(printable(f"{number} {since}: {said}"))


def cmd_inbox(context: Context) -> int:
    """Show what came in, and mark it as read."""
    database = context.change()
    texts = [
        # A notice: its sender is no number to which one could write.
        {**text, "notice": text["sender"] != "unknown" and not is_phone_number(text["sender"])}
        for text in read_texts(database, context.args.unread)
    ]
    # A stranger's long text is shown when it is whole, or given up: they may be hundreds.
    strange = [
        text for text in texts
        if text["id"] is None and not database.inbox.find_people(text["sender"])
    ]  # fmt: skip
    texts = [text for text in texts if text not in strange]
    if context.args.json:
        say_json(texts)
    elif not texts and not strange:
        say("No replies.")
    else:
        if strange:
            say(f"{plural(len(strange), 'long text')} of strangers: the rest is waited for.")
        for text in texts:
            if not text["notice"]:
                show_line(_reply_line(context, text))
                people = database.inbox.find_people(text["sender"]) or [text["sender"]]
                for number in people if is_doubtful(text) else ():
                    whose = f"if it was {number}: " if len(people) > 1 else ""
                    say(f"    {whose}smsbox release {number} lets their messages go, smsbox optout"
                        f" add {number} ends them.")  # fmt: skip
        if notices := [text for text in texts if text["notice"]]:
            say("Notices, of short codes and names:")
            for text in notices:
                show_line(_reply_line(context, text))
        say(context.zone_note())
    sys.stdout.flush()  # what could not be shown is not read
    database.inbox.mark_read([text["id"] for text in texts if text["id"]], context.now)
    return 0


def is_doubtful(text: Mapping[str, Any]) -> bool:
    """True if a text that came in waits for a person: it may mean stop."""
    may_be = text["body"] is None or text["request"] == Request.PERHAPS_STOP.value
    return may_be and text["settled_at"] is None


def _reply_line(context: Context, text: Mapping[str, Any]) -> str:
    asks = "" if text["request"] == "nothing" else f"  [{text['request']}]"
    if text["answers"] and not asks:
        asks = f"  [answers message {text['answers']}]"
    body = f"(not readable) {text['tpdu']}" if text["body"] is None else text["body"]
    who = printable(f"{text['sender']} {text['customer_name'] or ''}".rstrip())
    return f"{context.show(text['received_at'])}  {who}{asks}: {body}".replace("\n", "\n    ")


def cmd_optout(context: Context) -> int:
    """List the suppressed numbers, add one or a file of them, lift one."""
    args = context.args
    if args.action == "list" and args.number:
        raise UsageError(f"optout list shows all: smsbox show {args.number} shows one")
    if args.action == "list":
        found = context.read().opt_outs.list() if context.has_database() else []

        def to_line(each: Any) -> str:
            after = f", after {each['campaign']}" if each["campaign"] else ""
            about = f"{each['tier']}{after}: {each['reason'] or each['words']}"
            return printable(f"{each['phone_number']}  {context.show(each['at'])}  {about}")

        write_rows(found, _form_of(args), OPT_OUT_KEYS, tuple, to_line)
        if _form_of(args) == "text":
            say(context.zone_note() if found else "Nobody said stop.")
        return 0
    if not args.number:
        raise UsageError(f"optout {args.action} needs a phone number")
    return (_add_opt_outs if args.action == "add" else _remove_opt_out)(context)


def _add_opt_outs(context: Context) -> int:
    """Suppress a number, or all that a file holds; its bad rows are told and do not stop it."""
    args, actor = context.args, find_actor()
    is_file = args.number == "-" or args.number.lower().endswith((".csv", ".txt"))
    if not re.fullmatch(r"[-+(). \d]+", args.number):  # what looks like a number is never a file
        is_file |= Path(args.number).exists()
    name = "stdin" if args.number == "-" else args.number
    numbers, problems = list[PhoneNumber](), list[Problem]()
    if is_file:
        if not hasattr(args, "octets"):  # a full disk lets the command run twice
            args.octets = _read_bytes(args.number)
        numbers, problems = read_numbers(_open_text(args.octets, name), {})
    else:
        numbers = [_parse_sender(context, args.number)]
    if not numbers:
        _print_problems(problems)
        raise CampaignError(f"there is no number in {name}")
    reason = args.reason or (f"from {Path(name).name}" if is_file else "by the operator")
    database = context.write()
    known = {each["phone_number"]: each for each in database.opt_outs.list()}
    tier = "import" if is_file else "operator"
    with database.transaction():
        cancelled = sum(
            database.opt_outs.add(number, "", context.now, actor, reason, tier)
            for number in _show_progress(dict.fromkeys(numbers), "opt-outs")
        )
    done = f"{plural(cancelled, 'message')} cancelled"
    old = known.keys() & numbers
    if is_file:
        say(
            f"{plural(len({*numbers} - old), 'number')} added,"
            f" {len(old):,} were on the list; {done}."
        )
    else:
        say(f"{numbers[0]} gets nothing any more; {done}.")
    if args.reason and not is_file and old and known[numbers[0]]["tier"] != "keyword":
        at = context.show(known[numbers[0]]["at"])
        say(
            f"It was on the list since {at}; the reason of then stays:"
            f" {known[numbers[0]]['reason']}"
        )
    _print_problems(problems)
    if problems:
        raise CampaignError(
            f"{plural(len(problems), 'row')} of {name} could not be read, and nobody was"
            " added for them: fix these rows and add the file again"
        )
    return 0


def _parse_sender(context: Context, said: str) -> PhoneNumber:
    """Read a number that was typed, also in the form in which a text came from it."""
    try:
        return parse_phone_number(said)
    except ValueError:
        known = context.has_database() and is_phone_number(said)
        if known and context.read().inbox.texts(unread=False, sender=said):
            return PhoneNumber(said)
    return parse_number(said)


def _remove_opt_out(context: Context) -> int:
    args, number = context.args, _parse_sender(context, context.args.number)
    database = context.change()
    if not args.reason:
        raise UsageError("optout remove needs --reason: say why they may be written to again")
    with database.transaction():
        for stopped in database.opt_outs.list(number):
            if stopped["tier"] in ("keyword", "words") and not args.they_asked:
                raise UsageError(
                    f"{number} said stop: only if they themselves have asked to be written to"
                    " again add --they-asked"
                )
        if not database.opt_outs.remove(number, context.now, find_actor(), args.reason):
            raise UsageError(f"{number} is not on the list: smsbox optout list shows it")
    say(f"{number} may be written to again; what was cancelled stays cancelled.")
    return 0


_CAMPAIGN_KEYS = (
    "name", "created_at", "planned", "scheduled", "held", "sent", "failed", "cancelled", "first",
    "last", "next", "ends", "paused_because",
)  # fmt: skip


def cmd_report(context: Context) -> int:
    """Report all campaigns, or one: the totals, each message for a spreadsheet, or a page."""
    args = context.args
    if args.name and args.campaign:
        raise UsageError("name the campaign once")
    name = args.name or args.campaign
    if args.html and not name:
        raise UsageError("a page is of one campaign: smsbox report NAME --html FILE")
    _check_page_file(args.html)
    database = context.read()
    _check_campaign(database, name)
    forecast = read_forecast(context, database)
    if not name:
        found = [_fill_campaign(each, forecast) for each in database.reports.campaigns()]
        write_rows(found, _form_of(args), _CAMPAIGN_KEYS, lambda each: list(each.values()),
                   partial(_campaign_lines, context))  # fmt: skip
        if _form_of(args) == "text":
            say(context.zone_note() if found else "No campaign yet: smsbox schedule FILE.csv")
        return 0
    messages = database.reports.course(name)
    if args.csv:
        write_rows(messages, "csv", Course._fields, tuple, str)
        return 0
    values = _fill_campaign(database.reports.campaigns(name)[0], forecast)
    values |= _count_course(context, messages)
    if args.json:
        say_json(values)
    elif args.html:
        _write_page(
            args.html, _page_of_report(context, values, messages, database.reports.texts(name))
        )
        if args.html != "-":
            say(f"Wrote {args.html}.")
    else:
        show_line(f"{'campaign':<16} {printable(values['name'])}")
        for label, value in _list_numbers(context, values):
            say(f"{label:<16} {value}")
        if values["paused_because"]:
            show_line(f"{'paused':<16} {printable(values['paused_because'])}")
        say(context.zone_note())
    return 0


def _fill_campaign(record: Any, forecast: Forecast) -> dict[str, Any]:
    """Return a campaign's counts and times; what waits goes when the forecast says."""
    values = {key: record[key] for key in _CAMPAIGN_KEYS}
    for key in ("created_at", "first", "last", "next", "ends"):
        values[key] = read_stored_time(values[key]) if values[key] else None
    if values["name"] in forecast.ends:
        values["next"] = max(values["next"], min(filter(None, forecast.times.values())))
        values["ends"] = forecast.ends[values["name"]] if forecast.is_whole else values["ends"]
    return values


def _campaign_lines(context: Context, each: Mapping[str, Any]) -> str:
    held = f" ({each['held']:,} held)" if each["held"] else ""
    lines = [
        f"{printable(each['name'])}: {each['sent']:,} sent,"
        f" {each['scheduled']:,} scheduled{held}, {each['failed']:,} failed,"
        f" {each['cancelled']:,} cancelled"
    ]
    if each["created_at"]:
        lines.append(f"  created  {context.stamp(each['created_at'])}")
    for label, begin, end in (("sent", "first", "last"), ("to go", "next", "ends")):
        if each[begin]:
            lines.append(f"  {label:<8} {context.stamp(each[begin])} to {context.stamp(each[end])}")
    why = printable(each["paused_because"] or "")
    lines += [f"  paused   {why}"] if why else []
    return "\n".join(lines)


def _count_course(context: Context, messages: Sequence[Course]) -> dict[str, Any]:
    """Count what has become of the messages; sent ones are those delivered and undelivered too."""
    states, cost = Counter(each.state for each in messages), context.config.cost
    segments = sum(each.segments for each in messages)
    return {
        "still_to_go": states["scheduled"],
        **{key: states[key] for key in
           ("delivered", "undelivered", "failed", "unconfirmed", "cancelled", "held")},
        "replied": len({each.phone_number for each in messages if each.replied_at}),
        "opted_out": len({each.phone_number for each in messages if each.opted_out_at}),
        "segments": segments,
        "cost": round(segments * cost.price_per_segment, 2) if cost.price_per_segment else None,
        "currency": cost.currency,
    }  # fmt: skip


def _list_numbers(context: Context, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the numbers of a report or a plan, those that there are, as (name, value)."""
    counts = (
        "planned", "sent", "delivered", "undelivered", "failed", "unconfirmed", "cancelled",
        "still to go", "held", "replied", "opted out", "days", "segments",
    )  # fmt: skip
    found = [(name, values.get(name.replace(" ", "_"))) for name in counts]
    numbers = [(name, f"{value:,}") for name, value in found if value is not None]
    if values["cost"] is not None:
        numbers.append(("cost", f"{values['cost']:,.2f} {values['currency']}".strip()))
    done = " sent" if "sent" in values else ""
    times = {"first": f"first{done}", "last": f"last{done}", "next": "next to go",
             "ends": "last to go"}  # fmt: skip
    return numbers + [
        (name, context.stamp(values[key])) for key, name in times.items() if values.get(key)
    ]


def cmd_export(context: Context) -> int:
    """Write everything into a new folder: a CSV a table, as a spreadsheet likes it."""
    folder, database = Path(context.args.folder), context.read()
    _check_campaign(database, context.args.campaign)
    try:
        make_folder(folder)
        if any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty: name a new folder")
    except OSError as error:
        raise StoreError(f"{folder} can't be a folder: {error.strerror}") from error
    count = 0
    with database.one_look():
        for table in EXPORTED_TABLES:
            with create_csv(str(folder / f"{table}.csv")) as out:
                rows = _show_progress(database.reports.export(table, context.args.campaign), table)
                keys = [f"{each} (UTC)" if _is_time(each) else each for each in next(rows)]
                count += write_rows(rows, "csv", keys, tuple, str, out)
    say(f"Wrote {plural(count, 'row')} to {folder}.")
    return 0


def _show_progress(rows: Iterable[_T], what: str) -> Iterator[_T]:
    """Pass rows on; on a terminal a line tells of long work."""
    for count, row in enumerate(rows):
        if count and count % 10_000 == 0:
            _draw_progress(f"{what}: {count:,} rows")
        yield row
    _draw_progress("")


def _draw_progress(words: str) -> None:
    """Draw one line over, where there is a terminal; "" takes it away."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)


# --- schedule: a CSV becomes a plan, the plan is shown, and what was shown is stored

_LONG_PLAN = timedelta(days=60)  # of a longer one it is warned
_KNOWN_FOR = timedelta(days=30)  # a text sent in any campaign is not sent again within it
_SHOWN_FOR = timedelta(minutes=15)  # a plan that was shown counts from the YES so long


class QueueView(NamedTuple):
    """What of the database a plan depends on."""

    waiting: frozenset[MessageId] = frozenset()  # what can go without a person
    times: Sequence[datetime] = ()  # when it really will, in order
    known: frozenset[tuple[str, str, str]] = frozenset()  # campaign, number, text
    opted_out: Numbers = Numbers()
    doubtful: Numbers = Numbers()  # whose reply waits for a person
    written_to: frozenset[str] = frozenset()  # who knows the sender
    spent: tuple[tuple[datetime, Share], ...] = ()  # of the quotas, by what is sent and waits
    running: frozenset[str] = frozenset()  # campaigns
    recent: frozenset[str] = frozenset()  # those of the last seven days

    def is_busy(self, first: datetime, last: datetime) -> bool:
        """True if a message goes within a span."""
        place = bisect_left(self.times, first)
        return place < len(self.times) and self.times[place] <= last


class Plan(NamedTuple):
    """A plan as it is shown, written as JSON and stored: one value for all three."""

    campaign: str
    seed: int
    start: datetime
    until: datetime | None
    timezone: str
    columns: Mapping[str, str]  # field -> header
    messages: Sequence[ScheduledMessage]
    reading: Reading
    left_out: Sequence[Skipped]
    limits: Mapping[str, list[date]]  # quotas that are met -> the days
    queue: QueueView

    @property
    def segments(self) -> int:
        """Count the segments of all texts."""
        return sum(each.message.segments for each in self.messages)

    @property
    def ends(self) -> tuple[datetime, datetime] | None:
        """Return the first and the last time; None if nobody is planned."""
        times = [each.scheduled_for for each in self.messages]
        return (times[0], times[-1]) if times else None


def cmd_schedule(context: Context) -> int:
    """Read a CSV, check it, plan it, show the plan, ask for YES, store it."""
    args = context.args
    _refuse_odd_options(args)
    start = _parse_coming(context, "start")
    _parse_coming(context, "until")
    if args.rejects and Path(args.rejects).exists():
        raise UsageError(f"{args.rejects} exists and is not overwritten: name another file")
    if args.html and not args.dry_run:
        raise UsageError("--html shows a plan that is not stored: add --dry-run")
    _check_page_file(args.html)
    seed = args.seed
    if seed is None:
        import random

        seed = random.SystemRandom().randrange(1_000_000)
    reading = _read_file(context)
    if args.try_number:
        return _try_row(context, reading)
    _write_rejects(args, reading)
    if reading.problems and not args.skip_invalid:
        if args.json:
            nothing = replace(reading, messages=[])
            print_plan_json(make_plan(context, nothing, start, seed, QueueView()))
        elif args.dry_run and args.template and not args.html and reading.messages:
            # A shop's list, where some can never be written to: all that is to be decided at once.
            _settle_plan(context, replace(reading, problems=[]), start, seed)
        _print_problems(reading.problems)
        raise CampaignError(
            f"{plural(len(reading.rejected), 'row')} of {args.file} can't be taken and nothing was"
            " scheduled: fix them, or leave them out with --skip-invalid"
        )
    if not reading.messages and not reading.skipped:
        _print_problems(reading.problems)
        raise CampaignError(f"every row of {args.file} was rejected: fix them")
    return _settle_plan(context, reading, start, seed)


def _settle_plan(context: Context, reading: Reading, start: datetime | None, seed: int) -> int:
    """Show the plan, ask for YES, store it; shown anew if the queue changes meanwhile."""
    args = context.args
    tell = complain if args.json or args.html == "-" else say  # stdout is the plan's
    while True:
        plan = make_plan(context, reading, start, seed, _look_at_queue(context, reading))
        _refuse_late_end(context, plan)
        if args.html != "-":
            print_plan_json(plan) if args.json else print_plan(context, plan)
        if args.html:
            _write_page(args.html, _page_of_plan(context, plan))
        if not plan.messages:
            tell(f"Nothing to schedule: {_explain_nothing(plan)}.")
            return 0
        if args.dry_run:
            if start and start < context.now:
                complain(f"Warning: --start {args.start} lies in the past: name a later time.")
            return 0
        if not ask_yes(f"{plural(len(plan.messages), 'message')}.", args.yes, args.file == "-"):
            return 1
        if stored := _store_plan(context, plan, start):
            _report_stored(context, stored, tell)
            return 0
        if args.yes or args.json:
            raise StoreError("the queue has changed meanwhile: run the command again")
        complain("The queue has changed meanwhile. This is the plan now:")


def _refuse_odd_options(args: argparse.Namespace) -> None:
    for name in ("until", "again", "limit", "json", "rejects", "html") if args.try_number else ():
        if getattr(args, name):
            raise UsageError(f"--{name} has no meaning with --try: leave one of them out")
    if (args.row or args.anyway) and not args.try_number:
        raise UsageError("--row and --anyway are of --try: add --try NUMBER")


def _parse_coming(context: Context, name: str) -> datetime | None:
    """Read an option that names a time to come; a dry run may start in the past."""
    at = context.parse_time(f"--{name}", getattr(context.args, name))
    if at and at < context.now:
        words = f"--{name} {getattr(context.args, name)} lies in the past"
        if not context.args.dry_run or name == "until":
            raise UsageError(f"{words}: name a later time")
    return at


# --- what the file says


def _read_bytes(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return read_file(name)
    except FileNotFoundError as error:
        where = Path(name).absolute().parent
        raise CampaignError(
            f"{name} can't be read, it is not in {where}: copy it there, or correct its name"
        ) from error
    except OSError as error:
        raise CampaignError(f"{name} can't be read: {error.strerror}") from error


def _open_text(data: bytes, name: str) -> TextIO:
    """Return a file's lines, its line ends untouched; CampaignError where it is no text."""
    try:
        encoding = detect_encoding(data)
    except CampaignError as error:
        raise CampaignError(f"{name}: {error}") from error
    if legacy := {"cp1252": "Windows-1252", "mac-roman": "Mac Roman"}.get(encoding):
        complain(
            f"WARNING: {name} is not UTF-8. It is read as {legacy}: look at the accents and"
            " quotes below, or save it as CSV UTF-8."
        )
    return TextIOWrapper(BytesIO(data), encoding=encoding, newline="")


def _read_file(context: Context) -> Reading:
    args, template = context.args, None
    if args.template:
        template = _open_text(_read_bytes(args.template), args.template).read().rstrip("\r\n")

    @cache
    def _check_never(prefix: str, zone: str) -> str:
        hours = find_hours(f"{prefix}0000000", zone, False, context.now, context.config)
        if hours.shut and hours.until is None:
            raise ValueError(hours.shut)
        return ""

    order = ReadingOrder(
        default_campaign=_name_campaign(args.file),
        campaign=args.campaign,
        template=template,
        columns=dict(pair.split("=", 1) for pair in args.map),
        only=[tuple(pair.split("=", 1)) for pair in args.only],
        max_segments=context.config.pacing.max_segments_per_day,
        check_reachable=lambda number, zone: _check_never(number[:5], zone),
        simplify=args.simplify,
    )
    return read_campaign(_open_text(_read_bytes(args.file), args.file), order)


def _name_campaign(file: str) -> str:
    return "stdin" if file == "-" else Path(file).stem


def describe_problems(problems: Iterable[Problem]) -> Iterator[str]:
    """Describe problems by kind (same column, same words but for what they quote), the most first:
    their first rows, and one of them as an example."""
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for each in problems:
        words = re.sub(r'"[^"]*"|\d+', "", each.problem)
        kinds.setdefault((each.column, words), []).append(each)
    for found in sorted(kinds.values(), key=len, reverse=True):
        first, rows = found[0], _list_rows([each.row for each in found])
        count = f"{len(found):,} rows: " if len(found) > 1 else ""
        value = f" {fit(first.value, 30).strip()!r}" if first.value else ""
        yield f'{count}{rows}, "{first.column}"{value}: {first.problem}'


def _print_problems(problems: Iterable[Problem]) -> None:
    for words in describe_problems(problems):
        complain(words)


def _list_rows(rows: Sequence[int], most: int = 5) -> str:
    shown = ", ".join(map(str, rows[:most])) + (", ..." if len(rows) > most else "")
    return f"row{'s' if len(rows) > 1 else ''} {shown}"


def _write_rejects(args: argparse.Namespace, reading: Reading) -> None:
    """Write the rows that can't be taken or are left out as a CSV, each with its reasons.

    Taken again it is the same campaign: who said no has still said it, and nobody gets it twice.
    """
    listed = sorted([*reading.rejected, *reading.left_out])
    if not (args.rejects and listed):
        return
    reasons = {each.row: [each.reason] for each in reading.skipped}
    for problem in reading.problems:
        reasons.setdefault(problem.row, []).append(f"{problem.column}: {problem.problem}")
    width = len(reading.header)
    names = (
        [args.campaign or _name_campaign(args.file)]
        if "campaign_name" not in reading.columns
        else []
    )
    rows = (
        [*cells, *[""] * (width - len(cells)), *names, row, "; ".join(reasons[row])]
        for row, cells in listed
    )
    if not args.dry_run:
        keys = [*map(spreadsheet_cell, reading.header), *["campaign_name" for _ in names]]
        with create_csv(args.rejects) as out:
            write_rows(rows, "csv", [*keys, "row", "reason"], list, str, out)
    would_be = "would be " if args.dry_run else ""
    complain(f"{plural(len(listed), 'row')} {would_be}written to {args.rejects}")


# --- the plan is made


def _look_at_queue(context: Context, reading: Reading) -> QueueView:
    """Read the queue; where there is no database, none is made for the sake of looking."""
    if not context.has_database():
        return QueueView()
    database = context.read() if context.args.dry_run else context.write()
    return _view_queue(context, database, reading)


def _view_queue(context: Context, database: Database, reading: Reading) -> QueueView:
    queue, campaigns = database.queue, {message.campaign_name for message in reading.messages}
    waiting = queue.waiting()
    expected = project_queue(database, context.now, context.config, waiting)
    spent: list[tuple[datetime, Share]] = []
    if context.config.pacing.is_limited:
        spent += list_spent(database, context.now)
        spent += [
            (at, count_share(row.phone_number, row.message_content))
            for row in waiting
            if (at := expected.get(row.id))
        ]
    return QueueView(
        frozenset(row_id for row_id, at in expected.items() if at),
        sorted(at for at in expected.values() if at),
        queue.known_texts(sorted(campaigns), context.now - _KNOWN_FOR),
        Numbers(database.opt_outs.numbers()),
        Numbers(database.inbox.doubtful_senders()),
        queue.written_to(),
        tuple(spent),
        queue.running(),
        queue.recent(context.now - timedelta(days=7)),
    )


def make_plan(
    context: Context, reading: Reading, start: datetime | None, seed: int, queue: QueueView
) -> Plan:
    """Plan the messages that are new: behind the queue, or from --start on."""
    args, config = context.args, context.config
    kept, left_out = choose_new(reading.messages, queue.known, queue.opted_out, again=args.again)
    if not args.again:
        _refuse_overlap(context, kept, queue)
    kept = kept[: args.limit]
    now = context.now.replace(microsecond=0)
    now += timedelta(seconds=1 if context.now.microsecond else 0)
    after = queue.times[-1] if start is None and queue.times else None
    after = after if after and after > now else None
    begin = start or after or now
    planned, limits = _place_all(config, kept, begin, after, seed, queue)
    if start is not None and planned:
        _refuse_busy_time(context, planned, queue)
    names = dict.fromkeys(message.campaign_name for message in reading.messages)
    return Plan(
        ", ".join(names) or args.campaign or "", seed, begin, _parse_coming(context, "until"),
        config.business_hours.timezone.key,
        {name: reading.header[place] for name, place in reading.columns.items()}, planned, reading,
        sorted([*reading.skipped, *left_out]), limits, queue,
    )  # fmt: skip


def _place_all(
    config: Config, messages: Sequence[Message], begin: datetime, after: datetime | None,
    seed: int, queue: QueueView,
) -> tuple[list[ScheduledMessage], dict[str, list[date]]]:  # fmt: skip
    """Place messages behind what is spent of the quotas; also return the quotas that are met."""
    import random

    budgets = Budgets(config.pacing, config.business_hours.timezone)
    for at, share in queue.spent:
        budgets.spend(at, share)
    planned = plan(
        messages, begin, random.Random(seed), config.pacing, config.business_hours, after,
        config.recipient_hours, budgets,
    )  # fmt: skip
    return planned, {name: [*days] for name, days in budgets.met.items()}


def _refuse_overlap(context: Context, kept: list[Message], queue: QueueView) -> None:
    """Refuse a file that looks like another campaign, one that runs or was sent just now."""
    name, count, total = find_overlap(kept, queue.known, queue.running | queue.recent)
    if name:
        import shlex

        those = f"{count} of the {plural(total, 'recipient')} of {context.args.file} are those of"
        when = "of the last seven days: "
        if name in queue.running:
            cancel = f"smsbox cancel --campaign {shlex.quote(name)}"
            when = f"which still runs: {cancel} takes back what is left of it; "
        raise CampaignError(
            f'{those} campaign "{printable(name)}", {when}to write to them in both, add --again'
        )


def _refuse_late_end(context: Context, plan: Plan) -> None:
    """Refuse a plan that ends after --until: how many fit, and what would make them fit."""
    if plan.until is None or plan.ends is None or plan.ends[1] <= plan.until:
        return
    until, messages = plan.until, [each.message for each in plan.messages]
    if until <= plan.start:
        raise UsageError(
            f"--until {context.args.until} is no later than the start: name a later time"
        )
    after = plan.start if context.args.start is None and plan.queue.times else None

    def count(config: Config) -> int:
        placed, _ = _place_all(config, messages, plan.start, after, plan.seed, plan.queue)
        return sum(each.scheduled_for <= until for each in placed)

    fits = sum(each.scheduled_for <= until for each in plan.messages)
    fewer = f", take fewer with --limit {fits} --seed {plan.seed}" if fits else ""
    raise UsageError(
        f"the plan ends {context.stamp(plan.ends[1])}, later than --until {context.args.until}:"
        f" {fits:,} of {plural(len(messages), 'message')} {'fits' if fits == 1 else 'fit'}; name a"
        f" later time{fewer}, or {describe_remedies(context.config, count, fits, len(messages))}"
    )


def find_remedies(config: Config) -> dict[str, Config]:
    """Return the settings that leave more room in a week, each in words; the pace is none."""
    hours, pace = config.business_hours, config.pacing
    found: dict[str, Config] = {}
    if len(hours.days) < 7:
        found["days with all seven days"] = replace(
            config, business_hours=replace(hours, days=frozenset(range(7)))
        )
    if hours.opens > 480 or hours.closes < 1260:
        wider = replace(hours, opens=min(hours.opens, 480), closes=max(hours.closes, 1260))
        words = f'opens = "{show_clock(wider.opens)}" and closes = "{show_clock(wider.closes)}"'
        found[words] = replace(config, business_hours=wider)
    for name in ("max_messages_per_day", "max_segments_per_day", "max_recipients_per_month"):
        if getattr(pace, name):
            found[f"no {name}"] = replace(
                config, pacing=replace(pace, **cast("dict[str, Any]", {name: 0}))
            )
    if config.recipient_hours.strict:
        theirs = replace(config.recipient_hours, strict=False)
        found["strict = false"] = replace(config, recipient_hours=theirs)
    return found


def describe_remedies(config: Config, count: Callable[[Config], int], fits: int, total: int) -> str:
    """Return how many fit with each setting that helps; count tells it of a config."""
    counts = {words: count(each) for words, each in find_remedies(config).items()}
    helps = [f"{words} ({n:,} fit)" for words, n in counts.items() if n > fits]
    if not helps:
        return "no setting makes more of them fit"
    most = max(counts.values())
    return f"change a setting: {', '.join(helps)}{'' if most >= total else '; none fits all'}"


def _refuse_busy_time(
    context: Context, planned: Sequence[ScheduledMessage], queue: QueueView
) -> None:
    hours = context.config.business_hours
    margin = timedelta(minutes=context.config.pacing.interval_minutes[0])
    first, last = planned[0].scheduled_for, planned[-1].scheduled_for
    if queue.is_busy(first - margin, last + margin):
        # From here on nothing of the queue is in the way, seconds left out of --start included.
        free = queue.times[-1] + margin + timedelta(minutes=1)
        free = next_open(free.replace(second=0), hours)
        # In the hour that autumn repeats a --start means the first one: then step over it.
        typed = f"{context.local(free):%Y-%m-%d %H:%M}"
        free += free - parse_local_time(typed, hours.timezone, context.now)
        raise StoreError(
            f"the SIM is busy then with messages that are scheduled: it is free from"
            f' --start "{context.local(free):%Y-%m-%d %H:%M}" on, or leave --start out'
        )


# --- the plan is stored


def _store_plan(
    context: Context, plan: Plan, start: datetime | None
) -> Sequence[ScheduledMessage] | None:
    """Store what was shown; None if it does not fit the queue or the time any more.

    Where now or the end of the queue has come past its first time before the YES, by a quarter of
    an hour at most and on the same last day, the same gaps count from there.
    """
    database = context.write()
    fresh = replace(context, now=Waiting().now())
    first, last = cast("tuple[datetime, datetime]", plan.ends)
    with database.transaction():
        queue = _view_queue(fresh, database, plan.reading)
        again = make_plan(fresh, plan.reading, start, plan.seed, queue)
        if not queue.waiting <= plan.queue.waiting or again.left_out != plan.left_out:
            return None
        planned = plan.messages
        behind = fresh.now if start or not queue.times else max(fresh.now, queue.times[-1])
        if first < behind:
            if start is not None:
                raise UsageError("--start has passed meanwhile: name a later time")
            planned = again.messages
            ends = planned[-1].scheduled_for
            is_late = behind - first > _SHOWN_FOR or len(planned) != len(plan.messages)
            if is_late or context.local(ends).date() != context.local(last).date():
                return None
        if plan.until and planned[-1].scheduled_for > plan.until:
            return None
        database.queue.add_campaign(planned, plan.seed, fresh.now, find_actor(), plan.until)
    return planned


def _report_stored(
    context: Context, stored: Sequence[ScheduledMessage], tell: Callable[[str], None]
) -> None:
    import shlex

    first, last = (context.local(each.scheduled_for) for each in (stored[0], stored[-1]))
    tell(
        f"Scheduled {plural(len(stored), 'message')}: first {show_time(first)},"
        f" last {show_time(last)} ({first:%Z})."
    )
    name = min(each.message.campaign_name for each in stored)
    tell(f"To take it back: smsbox cancel --campaign {shlex.quote(name)}")
    if not context.is_served():
        tell("smsbox is not running, nothing is sent until it does: sudo systemctl start smsbox")


# --- the plan is shown


def print_plan_json(plan: Plan) -> None:
    """Print the plan as one JSON object, message by message: it may be long."""
    first, last = plan.ends or (None, None)
    head = {"campaign": plan.campaign, "seed": plan.seed, "start": plan.start,
            "timezone": plan.timezone, "columns": plan.columns}  # fmt: skip
    tail = {
        "rejected": [{"row": each.row, "column": each.column, "problem": each.problem}
                     for each in plan.reading.problems],
        "left_out": [each._asdict() for each in plan.left_out],
        "segments": plan.segments, "first": first, "last": last,
        "duration_hours": round((last - first).total_seconds() / 3600, 2) if last and first else 0,
        "until": plan.until,
        "quotas_met": {name: list(map(str, met)) for name, met in plan.limits.items()},
        "not_taken": plan.reading.not_taken,
        "consent": [plan.reading.header[place] for place in plan.reading.consent],
        "warnings": plan.reading.notes,
    }  # fmt: skip
    write, encode = sys.stdout.write, json.JSONEncoder().encode
    write(encode(_with_json_times(head))[:-1] + ', "messages": [')
    for place, each in enumerate(plan.messages):
        message = each.message
        values = {
            "row": message.row,
            "campaign_message_id": message.campaign_message_id,
            "phone_number": message.phone_number,
            "customer_name": message.customer_name,
            "scheduled_for": to_json_time(each.scheduled_for),
            "gap_s": each.gap_s,
            "skip_s": each.skip_s,
            "bubbles": message.bubbles,
            "segments": message.segments,
            "encoding": message.encoding.value,
            "timezone": name_zones(recipient_zones(message.phone_number, message.timezone)),
        }
        write(("" if place == 0 else ",") + "\n" + encode(values))
    write("], " + encode(_with_json_times(tail))[1:] + "\n")


def print_plan(context: Context, plan: Plan) -> None:
    """Print the plan in the guide's form: banner, a line a message, then what matters in a screen.

    What has to be seen stands last: on a small terminal the rows have scrolled away by then.
    """
    _print_banner(context, plan)
    _print_messages(context, plan)
    if plan.messages:
        say("-" * find_width())
        _print_texts([each.message for each in plan.messages])
    for reason, rows in group_left_out(plan.left_out).items():
        say_wrapped(f"Left out:  {plural(len(rows), 'row')}, {reason}: {_list_rows(rows)}")
    for words in describe_problems(plan.reading.problems):
        say_wrapped(f"Rejected:  {words}")
    if plan.messages:
        _print_warnings(context, plan)
        _print_totals(context, plan)
    if context.args.dry_run and plan.messages:
        _print_storing_command(context, plan)


def group_left_out(left_out: Iterable[Skipped]) -> dict[str, list[int]]:
    """Return the rows that are left out by reason, the most first."""
    found: dict[str, list[int]] = {}
    for each in left_out:
        kind = re.sub(r" row \d+", " another row", each.reason)
        found.setdefault(kind, []).append(each.row)
    return dict(sorted(found.items(), key=lambda kind: -len(kind[1])))


def _print_banner(context: Context, plan: Plan) -> None:
    config, rule = context.config, "=" * find_width()
    pace, hours, theirs = config.pacing, config.business_hours, config.recipient_hours
    there = f"{show_clock(theirs.opens)} to {show_clock(theirs.closes)}"
    if theirs.strict:
        there = "Monday to Friday, 10:00 to 17:00"
    names = Counter(each.message.campaign_name for each in plan.messages)
    low, high = (f"{chance * 100:g}" for chance in pace.skip_chance)
    reading = plan.reading
    say(rule)
    for label, value in (
        ("Campaign", ", ".join(f"{name} ({count})" for name, count in names.items())),
        ("Columns", ", ".join(" = ".join(each) for each in _name_columns(context, reading))),
        ("Not used", ", ".join(reading.unused)),
        ("Not taken", "; ".join(f"{plural(n, 'row')} with {why}"
                                for why, n in reading.not_taken.most_common(5))
                      + ("; ..." if len(reading.not_taken) > 5 else "")),
        ("Start", f"{context.local(plan.start):%m/%d/%Y %I:%M:%S %p %Z}"),
        ("Until", f"{context.local(plan.until):%m/%d/%Y %I:%M %p %Z}: what is not sent by then is"
                  " cancelled" if plan.until else ""),
        ("Intervals", f"{show_span(pace.interval_minutes)} minutes"),
        ("Skips", f"{low}-{high} % chance of an extra {show_span(pace.skip_minutes)} minutes"),
        ("Hours", f"{show_clock(hours.opens)} to {show_clock(hours.closes)} {hours.timezone}"
                  f" (there it is {show_time(context.local(context.now))} now)"),
        ("Recipient", f"{there} in every zone where they may be" if theirs.enabled else ""),
        ("Dry run", "yes: nothing is stored or sent" if context.args.dry_run else "no"),
        ("Seed", str(plan.seed)),
    ):  # fmt: skip
        if value:
            say_wrapped(f"{label + ':':<11}{value}")
    say(rule)


def _name_columns(context: Context, reading: Reading) -> Iterator[tuple[str, str]]:
    """Return each field's column as a spreadsheet has it, and those as likely: F "Mobile"."""
    short = {"phone_number": "phone", "customer_name": "name", "message_content": "text"}

    def show(place: int) -> str:
        return f'{column_letter(place)} "{reading.header[place]}"'

    columns = dict(reading.columns)
    last = columns.pop("last_name", None)
    for field_name, place in columns.items():
        if field_name != "message_content" or not context.args.template:
            both = f" + {show(last)}" if field_name == "customer_name" and last is not None else ""
            others = ", ".join(map(show, reading.passed_over.get(field_name, ())))
            instead = f" (not {others})" if others else ""
            yield short.get(field_name, field_name), f"{show(place)}{both}{instead}"
    if context.args.template:
        yield "text", "template"
    told = " and ".join(map(show, reading.consent))
    yield "consent", told or "no column tells who agreed to texts"


def _print_messages(context: Context, plan: Plan) -> None:
    planned, total = plan.messages, len(plan.messages)
    place_width = len(f"[{total}/{total}]")
    number_width = max((len(each.message.phone_number) for each in planned), default=0)
    room = max(5, find_width() - 42 - place_width - number_width)
    name_width = min(room, max((len(each.message.customer_name) for each in planned), default=0))
    name_width = (
        room if any(not each.message.customer_name.isascii() for each in planned) else name_width
    )
    for place, each in enumerate(planned, 1):
        message = each.message
        if each.skip_s and not each.opens_day:
            say(f"[SKIP] Adding extra {round(each.skip_s / 60)} min delay")
        wait = "opens" if each.opens_day else f"+{round((each.gap_s + each.skip_s) / 60)}m"
        show_line(
            f"{fit(f'[{place}/{total}]', place_width)} {fit(message.customer_name, name_width)}"
            f" | {message.phone_number:<{number_width}}"
            f" | {show_time(context.local(each.scheduled_for))} | {wait:<5}"
            f" | {plural(message.bubbles, 'bubble')}"
        )


def _print_totals(context: Context, plan: Plan) -> None:
    planned = plan.messages
    first, last = (context.local(each.scheduled_for) for each in (planned[0], planned[-1]))
    days = Counter(f"{context.local(each.scheduled_for):%a %m/%d}" for each in planned)
    lasts = (last - first).total_seconds()
    say(f"Duration:  {show_wait(lasts)}: from {show_time(first)} to {show_time(last)} ({first:%Z})")
    each_day = [f"{day}: {count}" for day, count in days.items()]
    each_day = each_day if len(each_day) <= 7 else [*each_day[:3], "...", *each_day[-3:]]
    say_wrapped(
        f"Messages:  {len(planned):,} on {plural(len(days), 'day')} ({', '.join(each_day)})"
    )
    cost = context.config.cost
    price = f", {plan.segments * cost.price_per_segment:,.2f} {cost.currency}"
    other = _count_segments(planned, simple=not context.args.simplify)
    hint = f" ({other:,} with{'out' if context.args.simplify else ''} --simplify)"
    hint = hint if context.args.simplify or other != plan.segments else ""
    say(f"Segments:  {plan.segments:,}{price if cost.price_per_segment else ''}{hint};"
        " a segment is what the network counts and bills")  # fmt: skip
    for name, met in plan.limits.items():
        on = ", ".join(f"{day:%a %m/%d}" for day in met)
        say_wrapped(f"Quota:     {name} = {getattr(context.config.pacing, name)} is met on {on}")


def _count_segments(planned: Sequence[ScheduledMessage], simple: bool) -> int:
    """Count the segments that the texts take with or without --simplify."""
    count = 0
    for each in planned:
        text = each.message.written or each.message.message_content
        text = simplify_text(text) if simple else text
        same = text == each.message.message_content
        count += each.message.segments if same else count_share("", text).segments
    return count


def _explain_nothing(plan: Plan) -> str:
    """Return why nobody is planned, and what then."""
    import shlex

    grouped = group_left_out(plan.left_out).items()
    words = "; ".join(f"{plural(len(rows), 'row')}: {reason}" for reason, rows in grouped)
    written_to = {(campaign, number) for campaign, number, _ in plan.queue.known}
    if any((m.campaign_name, m.phone_number) in written_to for m in plan.reading.messages):
        name, other = shlex.quote(plan.campaign), shlex.quote(f"{plan.campaign} 2")
        if plan.campaign in plan.queue.running:
            words += f"; smsbox cancel --campaign {name} takes back what still waits"
        words += f"; to write to them once more, give it a name of its own: --campaign {other}"
    return words or "no row is left"


def _choose_texts(messages: Sequence[Message]) -> list[tuple[str, Message]]:
    """Return two texts that are shown: the first, and the longest or one that needs UCS-2."""
    if not messages:
        return []
    chosen = [("First text", messages[0])]
    chosen.append(("Longest text", max(messages, key=lambda m: len(m.message_content))))
    chosen += [("First UCS-2 text", m) for m in messages if m.encoding is Encoding.UCS2][:1]
    seen: dict[str, tuple[str, Message]] = {}
    for label, message in chosen:
        seen.setdefault(message.message_content, (label, message))
    return [*seen.values()][:2]


def _print_texts(messages: Sequence[Message]) -> None:
    for label, message in _choose_texts(messages):
        who = fit(message.customer_name, 30).strip()
        show_line(f"{label} (row {message.row}, {who}, {plural(message.segments, 'segment')}):")
        _print_bubbles(message.message_content)


def _print_bubbles(text: str) -> None:
    """Print a text as it is read, wrapped at words, a mark before each bubble."""
    import textwrap

    for bubble in split_bubbles(text):
        lines = [
            part
            for line in bubble.split("\n")
            for part in textwrap.wrap(printable(line), find_width() - 4, break_on_hyphens=False)
            or [""]
        ]
        show_line(
            "\n".join(f"  {'>' if place == 0 else ' '} {line}" for place, line in enumerate(lines))
        )


def _print_warnings(context: Context, plan: Plan) -> None:
    """Warn of what the operator may not have meant."""
    messages = [each.message for each in plan.messages]
    _print_ucs2(messages)
    if waits := [each.row for each in messages if each.phone_number in plan.queue.doubtful]:
        whose = f"a reply of {plural(len(waits), 'recipient')} may mean stop"
        say_wrapped(f"Warning:   {whose} and waits for you (smsbox inbox); they get nothing until"
                    f" then: {_list_rows(waits)}")  # fmt: skip
    for note in plan.reading.notes:
        say_wrapped(f"Warning:   {note}.")
    for words, rows in _find_bare_first_texts(context, plan).items():
        say_wrapped(f"Warning:   {words} in {plural(len(rows), 'first message')} to a number:"
                    f" {_list_rows(rows)}")  # fmt: skip
    zones = [recipient_zones(each.phone_number, each.timezone) for each in messages]
    if context.config.recipient_hours.enabled:
        _print_moved(plan.messages)
    if context.config.recipient_hours.enabled and not all(zones):
        say_wrapped(
            f"Warning:   the zone of {plural(zones.count(()), 'number')} is not known: only your"
            " own hours hold for them. Give their zones in a column timezone, like Europe/Berlin."
        )
    if context.args.again:
        same = {(each[1], each[2]) for each in plan.queue.known}
        repeats = sum((each.phone_number, each.message_content) in same for each in messages)
        if repeats:
            words = f"{plural(repeats, 'row')} repeat a text that is scheduled or was sent"
            say_wrapped(f"Warning:   {words} to the same number, as --again says.")
    last = plan.messages[-1].scheduled_for
    if last - plan.start > _LONG_PLAN:
        say_wrapped(f"Warning:   the plan runs until {context.local(last):%m/%d/%Y}, longer than 60"
                    " days: is that meant?")  # fmt: skip


def _print_moved(planned: Sequence[ScheduledMessage]) -> None:
    """Tell who was passed over for the hours where they live."""
    latest, moved = 0, []
    for each in planned:
        message = each.message
        if message.row < latest:
            zones = recipient_zones(message.phone_number, message.timezone)
            local = (f"{show_time(each.scheduled_for.astimezone(z))} {z.key}" for z in zones)
            moved.append(f"row {message.row}, {', '.join(local)}")
        latest = max(latest, message.row)
    if moved:
        last = f"; the last {moved[-1]}" if len(moved) > 1 else ""
        say_wrapped(
            f"Moved:     {plural(len(moved), 'message')} behind later rows, into the recipient's"
            f" hours: the first {moved[0]}{last}"
        )


def _find_bare_first_texts(context: Context, plan: Plan) -> dict[str, list[int]]:
    """Find first messages to a number that name no sender or no way to stop: words -> rows."""
    name, known = context.config.replies.sender_name, set(plan.queue.written_to)
    found: dict[str, list[int]] = {}
    for each in plan.messages:
        message, text = each.message, each.message.message_content
        if message.phone_number in known:
            continue
        known.add(message.phone_number)
        if name and simplify_reply(name) not in simplify_reply(text):
            found.setdefault(f'the sender "{name}" is not named', []).append(message.row)
        if not names_way_to_stop(text):
            found.setdefault("no way to stop is named", []).append(message.row)
    return found


def _print_ucs2(messages: Sequence[Message]) -> None:
    """Tell which characters force UCS-2, and in which rows."""
    rows: dict[str, list[int]] = {}
    for message in messages:
        if message.encoding is Encoding.UCS2:
            for char in find_ucs2_characters("".join(split_bubbles(message.message_content))):
                rows.setdefault(char, []).append(message.row)
    if not rows:
        return
    count = len({row for each in rows.values() for row in each})
    verb = "needs" if count == 1 else "need"
    shown = sorted(rows.items(), key=lambda each: -len(each[1]))
    named = "; ".join(
        f"{_name_character(char)} in {_list_rows(where)}" for char, where in shown[:6]
    )
    more = f"; and {len(shown) - 6} other characters" if len(shown) > 6 else ""
    say_wrapped(f"UCS-2:     {plural(count, 'text')} {verb} it, 70 characters a segment in place of"
                f" 160, for {named}{more}")  # fmt: skip


def _name_character(char: str) -> str:
    simple = GSM_REPLACEMENTS.get(char)
    remedy = f" (write {'a space' if simple == ' ' else simple} instead)" if simple else ""
    shown = char if char.isprintable() and not char.isspace() else "?"
    return f"{shown} U+{ord(char):04X}{remedy}"


def _print_storing_command(context: Context, plan: Plan) -> None:
    import shlex

    args = context.args
    keeps_start = args.start is not None and plan.start >= context.now
    words = []
    for name in ("config", "database"):
        if getattr(args, name):
            words += [f"--{name}", getattr(args, name)]
    words += ["schedule", args.file]
    for name, at in (("start", plan.start if keeps_start else None), ("until", plan.until)):
        words += [f"--{name}", f"{context.local(at):%Y-%m-%d %H:%M}"] if at else []
    for name in ("campaign", "template", "limit", "rejects"):
        if getattr(args, name) is not None:
            words += [f"--{name}", str(getattr(args, name))]
    for name in ("map", "only"):
        for pair in getattr(args, name):
            words += [f"--{name}", pair]
    words += ["--skip-invalid"] if plan.reading.rejected else []
    words += [f"--{name}" for name in ("again", "simplify") if getattr(args, name)]
    words += ["--seed", str(plan.seed)]
    gaps = "" if keeps_start else " (the same gaps then count from the moment of YES)"
    say_wrapped(f"To schedule {'exactly ' if keeps_start else ''}this{gaps}:")
    show_line(f"  {find_program()} {shlex.join(words)}")


# --- the operator's word: which rows a command means, and what it does to them


def parse_number(said: str) -> PhoneNumber:
    """Read a phone number that was typed; UsageError for what is none."""
    try:
        return parse_phone_number(said)
    except ValueError as error:
        raise UsageError(f'"{said}": {error}') from error


def _parse_name(name: str) -> RowFilter:
    if name.isascii() and name.isdigit() and len(name) < 10:
        return RowFilter(ids=(int(name),))
    try:
        return RowFilter(number=parse_phone_number(name))
    except ValueError as error:
        raise UsageError(f'"{name}" is no ID and no phone number: {error}') from error


def _find_named(database: Database, name: str) -> list[StoredRow]:
    wanted = _parse_name(name)
    found = database.queue.rows(wanted)
    if not found:
        which = f"to {wanted.number}" if wanted.number else name
        raise UsageError(f"there is no message {which}: smsbox list shows them")
    return found


def _check_campaign(database: Database, name: str | None) -> None:
    names = database.reports.campaign_names()
    if name and name not in names:
        known = ", ".join(names) or "none yet"
        raise UsageError(f'there is no campaign "{name}": the campaigns are {known}')


class Verb(NamedTuple):
    """What a command does to the rows that it names."""

    states: tuple[str, ...]  # of rows to which it can be done
    question: str
    change: Callable[[Context, Database, list[StoredRow], list[str]], str]  # what was done
    by_name: tuple[str, ...] = ()  # states that --campaign and --all pass over


def _change_rows(context: Context, verb: Verb) -> int:
    """Find the rows that are meant, ask, change them; say what was done and what was refused."""
    database = context.change()
    rows, refused = _find_rows(context, database, verb)
    if rows and not _confirm_many(context, rows, verb.question):
        return 1
    done = verb.change(context, database, rows, refused)
    say(done)
    for sentence in refused:
        complain(f"{sentence}.")
    return 1 if refused else 0


def _find_rows(
    context: Context, database: Database, verb: Verb
) -> tuple[list[StoredRow], list[str]]:
    """Return the rows named by ID, number, --campaign or --all to which it can be done.

    And a sentence for each name of which there is none.
    """
    args, states = context.args, verb.states
    if getattr(args, "all", False) or args.campaign:
        if args.ids:
            raise UsageError("give IDs or --campaign, not both")
        _check_campaign(database, args.campaign)
        states = tuple(state for state in states if state not in verb.by_name)
        named = [database.queue.rows(RowFilter(campaign=args.campaign))]
    elif args.ids:
        named = [_find_named(database, name) for name in args.ids]
    else:
        raise UsageError("say which: an ID, a phone number, or --campaign NAME")
    rows: dict[MessageId, StoredRow] = {}
    refused: list[str] = []
    for found in named:
        fitting = {row.id: row for row in found if _state_of(row) in states}
        rows.update(fitting)
        if not fitting and len(found) == 1:
            refused.append(f"Message {found[0].id} is {_state_of(found[0])}, not {verb.states[0]}")
        elif not fitting:
            counts = Counter(map(_state_of, found))
            told = ", ".join(f"{count:,} {each}" for each, count in counts.items())
            which = f"None of {plural(len(found), 'message')} is {verb.states[0]}: {told}"
            refused.append(which if found else "There is no message")
    return list(rows.values()), refused


def _confirm_many(context: Context, rows: Sequence[StoredRow], what: str) -> bool:
    """Show many rows and ask; few that were named one by one need no question."""
    args = context.args
    named = bool(args.ids) and len(rows) <= len(args.ids)
    if named or len(rows) < 2:
        return True
    if args.ids:
        for row in rows:
            show_line(_row_line(context, row))
    return ask_yes(f"{what} {plural(len(rows), 'message')}.", args.yes)


def _cancel(context: Context, database: Database, rows: list[StoredRow], refused: list[str]) -> str:
    """Cancel what is scheduled; what has failed is settled, its status and its reason stay."""
    failed = [row.id for row in rows if row.status is RowStatus.FAILED]
    waiting = [row.id for row in rows if row.status is not RowStatus.FAILED]
    with database.transaction():
        settled = database.queue.settle(failed, context.now, find_actor())
        done = database.queue.cancel(waiting, context.now, find_actor())
    refused += [
        f"Message {row_id} is being sent right now and can't be cancelled: try again in a moment"
        for row_id in waiting
        if row_id not in done
    ]
    words = f"Cancelled {plural(len(done), 'message')}."
    if failed:
        settled_words = (
            f"{plural(settled, 'failed message')} settled: status no longer counts them."
        )
        words = settled_words if not waiting else f"{words} {settled_words}"
    return words


def _reschedule(
    context: Context, database: Database, rows: list[StoredRow], refused: list[str]
) -> str:
    """Move rows by a span, or so that the first of them goes at a time."""
    if not rows:
        return "Nothing was moved."
    first = min(row.scheduled_for for row in rows)
    shift = _parse_shift(context, first)
    if first + shift < context.now - timedelta(minutes=1):
        raise UsageError("that lies in the past: name a later time")
    if (max(row.scheduled_for for row in rows) + shift).year > 2099:
        raise UsageError("that lies beyond the year 2099: name a nearer time")
    rows = _refuse_late(context, rows, lambda row: row.scheduled_for + shift, refused)
    moves = [(row.id, row.scheduled_for + shift) for row in rows]
    with database.transaction():
        moved = database.queue.reschedule_many(moves, context.now, find_actor())
    refused += [
        f"Message {row.id} is not scheduled any more" for row in rows if row.id not in moved
    ]
    if not moved:
        return "Nothing was moved."
    at = first + shift
    year = "" if context.local(at).year - context.now.year in (0, 1) else f" {at.year}"
    done = f"Moved {plural(len(moved), 'message')}; the first is due {context.stamp(at)}{year}."
    row = min(rows, key=lambda row: row.scheduled_for)
    hours = find_hours(row.phone_number, row.timezone, row.anyway, at, context.config)
    return done + (f"\nThat is {hours.shut}: it will go at the next opening." if hours.shut else "")


def _refuse_late(
    context: Context, rows: Iterable[StoredRow], moved_to: Callable[[StoredRow], datetime],
    refused: list[str],
) -> list[StoredRow]:  # fmt: skip
    """Return the rows that may still go at their new times; say of the others that they may not."""
    kept = []
    for row in rows:
        if row.until is None or moved_to(row) <= row.until:
            kept.append(row)
        else:
            end = context.stamp(row.until)
            refused.append(f"Message {row.id} is too late then: it may be sent until {end}")
    return kept


def _parse_shift(context: Context, first: datetime) -> timedelta:
    args = context.args
    if args.by:
        match = re.fullmatch(r"([+-]?)(\d{1,5})\s*(s|m|min|h|d)", args.by.strip())
        if not match:
            raise UsageError(f"--by {args.by} is no span: write +30m, +2h or +1d")
        unit = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}[match[3]]
        return timedelta(seconds=int(match[2]) * unit * (-1 if match[1] == "-" else 1))
    at = context.parse_time("--at", args.at)
    if at is None:
        raise UsageError("say where to: --by +30m, or --at TIME")
    return at - first


def _retry(context: Context, database: Database, rows: list[StoredRow], refused: list[str]) -> str:
    """Set failed rows to scheduled, and cancelled ones that were named by their ID."""
    args, kept = context.args, []
    for row in _refuse_late(context, rows, lambda row: context.now, refused):
        if row.said_stop_at:
            refused.append(f"Message {row.id} goes to {row.phone_number}, who said stop")
        elif row.status is RowStatus.CANCELLED and str(row.id) not in args.ids:
            refused.append(f"Message {row.id} was cancelled: name it by its ID")
        elif row.status is RowStatus.CANCELLED and database.queue.has_other(row):
            refused.append(f"Message {row.id} was cancelled, and another message of its campaign"
                           f" goes or went to {row.phone_number}")  # fmt: skip
        else:
            kept.append(row.id)
    done = database.queue.retry(kept, args.even_if_it_may_repeat, context.now, find_actor())
    refused += [
        f"Message {row_id} may have been sent: add {RETRY_ANYWAY} to send it all the same"
        for row_id in kept
        if row_id not in done
    ]
    return f"{plural(len(done), 'message')} will be tried again."


def _release(
    context: Context, database: Database, rows: list[StoredRow], refused: list[str]
) -> str:
    """Let held rows go, at once where their time has passed; a number that was named, or the
    number of a row that was, is done with its replies: they are shown."""
    args, now, actor = context.args, context.now, find_actor()
    waiting = [row for row in rows if row.doubtful_at]  # one that is too late by then is cancelled
    rows = [row for row in rows if not row.doubtful_at]
    rows = _refuse_late(context, rows, lambda row: max(row.scheduled_for, now), refused) + waiting
    shut = {row.phone_number for row in rows if row.doubtful_at} if not args.campaign else set()
    replies = [text for each in sorted(shut) for text in _find_waiting_replies(database, each)]
    with database.transaction():
        settled = sum(
            settle_replies(database, number, context.now, find_actor()) for number in shut
        )
        done = database.queue.release([row.id for row in rows if row.held_because], now, actor)
    for text in replies:
        show_line(_reply_line(context, text))
    freed = sum(bool(row.doubtful_at and row.phone_number in shut) for row in rows)
    words = f"Released {plural(max(done, freed), 'message')}"
    replies_settled = f"{settled} repl{'y' if settled == 1 else 'ies'} settled"
    return f"{words}; {replies_settled}." if settled else f"{words}."


def _settle_alone(context: Context, name: str) -> bool:
    """Be done with the replies of a number that nothing waits for; False: there are none."""
    number, database = normalize_number(name), context.change()
    replies = _find_waiting_replies(database, number) if is_phone_number(number) else []
    rows = database.queue.rows(RowFilter(number=number, status=RowStatus.SCHEDULED.value))
    if not replies or rows:
        return False
    with database.transaction():
        settled = settle_replies(database, number, context.now, find_actor())
    for text in replies:
        show_line(_reply_line(context, text))
    say(f"{settled} repl{'y' if settled == 1 else 'ies'} settled.")
    return True


def _find_waiting_replies(database: Database, number: str) -> list[dict[str, Any]]:
    """Return the replies of a number that wait for a person."""
    return [text for text in read_texts(database, unread=False, sender=number) if is_doubtful(text)]


def cmd_cancel(context: Context) -> int:
    """Cancel rows that are not sent yet, and be done with failed ones; the records stay."""
    states = ("scheduled", "held", "failed")
    by_name = ("failed",) if context.args.all else ()
    return _change_rows(context, Verb(states, "Cancel", _cancel, by_name))


def cmd_reschedule(context: Context) -> int:
    """Move rows."""
    if not context.args.by and not context.args.at:
        raise UsageError("say where to: --by +30m, or --at TIME")
    return _change_rows(context, Verb(("scheduled", "held"), "Move", _reschedule))


def cmd_retry(context: Context) -> int:
    """Set failed rows to scheduled; unconfirmed ones only on the operator's word."""
    return _change_rows(context, Verb(("failed", "cancelled"), "Retry", _retry, ("cancelled",)))


def cmd_release(context: Context) -> int:
    """Let held rows go, and be done with the replies of who is named."""
    args = context.args
    rest = [name for name in args.ids if not _settle_alone(context, name)]
    if args.ids and not rest:
        return 0
    args.ids = rest
    return _change_rows(context, Verb(("held",), "Release", _release))


def cmd_edit(context: Context) -> int:
    """Put another text into one message that is not begun."""
    text = _check_text(context.args.text)
    database = context.change()
    found = _find_named(database, context.args.id)
    rows = [row for row in found if row.status is RowStatus.SCHEDULED] or found
    if len(rows) > 1:
        for row in rows:
            show_line(_row_line(context, row))
        which = f"{plural(len(rows), 'message')} go to {context.args.id}"
        raise UsageError(f"{which}: name one by its ID")
    (row,) = rows
    _find_quota(context, database, row.phone_number, text)
    with database.transaction():
        done = database.queue.set_texts([(row.id, text)], context.now, find_actor())
    if not done:
        state = "being sent" if row.status is RowStatus.SCHEDULED else row.status.value
        raise StoreError(f"message {row.id} is {state}: its text can't be changed any more")
    was, is_now = (count_share("", each).segments for each in (row.message_content, text))
    who = printable(row.phone_number)
    say(f"Message {row.id} to {who}, {was} -> {plural(is_now, 'segment')}.\nWas:")
    _print_bubbles(row.message_content)
    say("Now:")
    _print_bubbles(text)
    if row.held_because:
        say(f"It is held still: {row.held_because}")
    return 0


def _check_text(said: str) -> str:
    """Return a text that the operator typed as it is stored; UsageError where it can't be sent."""
    text = unify_line_breaks(said).strip()
    if not text:
        raise UsageError("the text is empty: write what is to be sent")
    try:
        check_text(text)
    except ValueError as error:
        raise UsageError(f"the text: {error}") from error
    longest = max(len(segment_text(bubble).units) for bubble in split_bubbles(text))
    if longest > MAX_SEGMENTS:
        raise UsageError(
            f"the text: a bubble needs {longest} segments, {MAX_SEGMENTS} is the most:"
            f" put a {BUBBLE_MARK} into it"
        )
    return text


def _find_quota(context: Context, database: Database, number: str, text: str) -> Gate:
    """Return the gate of the budgets for a text; UsageError where it never opens."""
    budgets = partial(find_budgets, database, context.now, context.config)
    quota = find_quota(number, text, budgets, context.now, context.config)
    if quota.shut and quota.until is None:
        raise UsageError(f"the text: {quota.shut}")
    return quota


def cmd_pause(context: Context) -> int:
    """Pause the box or one campaign; it lasts over reboots, and until --until if that is given."""
    args, actor = context.args, find_actor()
    until = context.parse_time("--until", args.until, needs_hour=False)
    if until and until <= context.now:
        raise UsageError(f"--until {args.until} has passed: name a time to come")
    database = context.write()
    shown = f" until {context.stamp(until)}" if until else ""
    because, by = f"paused by {actor}", PausedBy.OPERATOR
    with database.transaction():
        _check_campaign(database, args.campaign)
        if own_reason := database.state.paused_by_box(args.campaign or ""):
            if until:
                raise StoreError(
                    f"it is paused for a reason of its own ({own_reason}): see to that"
                )
            because, by = own_reason, PausedBy.BOX
        database.state.pause(args.campaign or "", because, by, context.now, until)
        if not args.campaign:
            database.state.set(paused_now="1" if args.now else "")
        database.state.add_event("paused", f"{args.campaign or ''}{shown}", context.now, actor)
    waiting = len(database.queue.rows(RowFilter(status="scheduled", campaign=args.campaign)))
    goes_on = "it goes on by itself" if until else f"{_resume_of(args.campaign)} goes on"
    last = _tell_last_sent(context, database)
    say_wrapped(f"Paused{shown}. {last}; {waiting:,} wait: {goes_on}.")
    return 0


def _resume_of(campaign: str | None) -> str:
    """Return the command that ends a pause."""
    import shlex

    return f"smsbox resume --campaign {shlex.quote(campaign)}" if campaign else "smsbox resume"


def _tell_last_sent(context: Context, database: Database) -> str:
    last = database.reports.last_bubble()
    if last is None:
        return "Nothing was sent yet"
    name, at, place, total = last
    return f"Last sent: {name}, {context.stamp(at)}, bubble {place} of {total}"


def cmd_resume(context: Context) -> int:
    """Go on after a pause; no time is changed: what is late goes first, each at its own gap."""
    database = context.change()
    args, actor = context.args, find_actor()
    with database.transaction():
        _check_campaign(database, args.campaign)
        resume(database, args.campaign or "", context.now, actor)
        if args.clock_is_right:
            for key in ("trusted_boot", "clock_word"):
                database.state.set_key(key, read_boot_id())
            database.state.add_event("clock is right", "", context.now, actor)
    paused = database.state.paused_campaigns()
    sent, left = (
        sum(
            row.campaign_name not in paused or status == "sent"
            for row in database.queue.rows(RowFilter(status=status, campaign=args.campaign))
        )
        for status in ("sent", "scheduled")
    )
    say(f"Resumed: {plural(sent, 'message')} sent so far, {left:,} will be.")
    if args.clock_is_right:
        say("The clock is taken as right until the Pi starts anew.")
    if told := _tell_finishes(context, database):
        say(told)
    for name in paused:
        say(printable(f"Still paused: {name}; {_resume_of(name)} goes on."))
    return 0


def _tell_finishes(context: Context, database: Database) -> str:
    """Return how many messages have become late, and when each campaign is done now."""
    late_after = timedelta(minutes=context.config.service.late_after_minutes)
    late = sum(context.now - row.scheduled_for > late_after for row in database.queue.waiting())
    if not late:
        return ""
    forecast = read_forecast(context, database)
    ends = sorted(forecast.ends.items()) if forecast.is_whole else []
    words = [f"{name_campaign(name)} is now done about {context.stamp(at)}" for name, at in ends]
    first = f"{plural(late, 'late message')} {'goes' if late == 1 else 'go'} first"
    return f"{'; '.join([first, *words])}."


# --- one message now: send, and schedule --try


def cmd_send(context: Context) -> int:
    """Send one message now, through the daemon."""
    args, text = context.args, context.args.text
    if text == "-":
        text = _open_text(_read_bytes("-"), "stdin").read()
    return _send_now(context, args.number, _check_text(text))


def _try_row(context: Context, reading: Reading) -> int:
    """Send one row of a file to the operator's own phone; no campaign is stored."""
    args = context.args
    found = [message for message in reading.messages if args.row in (None, message.row)]
    rows = [each.row for each in reading.messages] + [each.row for each in reading.problems]
    last = max(rows, default=0)
    if args.row and args.row > last:
        raise CampaignError(f"{args.file} has no row {args.row}: its last one is row {last}")
    if not found:
        _print_problems(each for each in reading.problems if args.row in (None, each.row))
        which = f"row {args.row}" if args.row else "any row"
        raise CampaignError(f"{args.file}: can't send {which}: fix it, or name another --row")
    _print_texts(found[:1])
    _print_ucs2(found[:1])
    if args.dry_run:
        return 0
    return _send_now(context, args.try_number, found[0].message_content, campaign=TEST_CAMPAIGN)


def _send_now(context: Context, said: str, text: str, campaign: str = "") -> int:
    """Store one message that waits for no pace, and wait until it is sent: 0 only then."""
    args, number = context.args, parse_number(said)
    hours = find_hours(number, "", args.anyway, context.now, context.config)
    if hours.shut:
        helps = not args.anyway
        helps &= not find_hours(number, "", True, context.now, context.config).shut
        words = ", or add --anyway" if helps else ""
        raise StoreError(f"it is {_tell_gate(context, hours)}: wait{words}")
    database = context.write()
    quota = _find_quota(context, database, number, text)
    if quota.shut:
        raise StoreError(f"{_tell_gate(context, quota)}: send it then, or raise that setting")
    if stopped_at := database.opt_outs.at(number):
        raise StoreError(f"{number} said stop on {context.show(stopped_at)}: nothing is sent")
    if not _settle_before(context, database, number):
        return 1
    row_id = database.queue.add_row(number, text, args.anyway, context.now, find_actor(), campaign)
    row = _await_end(context, database, row_id) if context.is_served() else None
    return _tell_outcome(context, database, row_id, row)


def _settle_before(context: Context, database: Database, number: str) -> bool:
    """Show a reply of theirs that waits, and ask; in a script --anyway is the word for it."""
    replies = _find_waiting_replies(database, number)
    if not replies:
        return True
    for text in replies:
        complain(_reply_line(context, text))
    if not context.args.anyway and not sys.stdin.isatty():
        raise StoreError(f"a reply of {number} waits for you: read it, then add --anyway")
    if not ask_yes("Send all the same, and settle the reply?", context.args.anyway):
        return False
    with database.transaction():
        settle_replies(database, number, context.now, find_actor())
    return True


def _await_end(context: Context, database: Database, row_id: MessageId) -> StoredRow | None:
    """Watch one row until it is done, two minutes at most; None: it still waits."""
    clock = Waiting()
    clock.catch_signals()
    end = clock.monotonic() + 120
    while clock.monotonic() < end:
        row = database.queue.row(row_id)
        if row is None or row.status is not RowStatus.SCHEDULED:
            return row
        clock.until(clock.monotonic() + 0.5)
    return None


def _tell_outcome(
    context: Context, database: Database, row_id: MessageId, row: StoredRow | None
) -> int:
    """Tell what became of a message that was to go now; its exit status: 0 only if it is sent."""
    if getattr(context.args, "json", False):
        found = row or database.queue.row(row_id)
        say_json(_row_values(found, {}) if found else {"id": row_id, "status": None})
    if row and row.status is RowStatus.SENT:
        words, status = f"Message {row_id} is sent.", 0
    elif row:
        words = f"Message {row_id} is {row.status.value}: {row.error_message}".rstrip(": ") + "."
        status = SmsboxError.exit_status
    elif context.is_served():
        words = f"Message {row_id} still waits: smsbox why {row_id} says why."
        status = StoreError.exit_status
    else:
        words = (
            f"Message {row_id} waits: smsbox is not running; it goes if that starts within the"
            " hour. sudo systemctl start smsbox"
        )
        status = StoreError.exit_status
    if status or getattr(context.args, "json", False):
        complain(words)
    else:
        say(words)
    return status


# --- pages: made of values alone, what a boss signs or reads on Monday


_KINDS = {  # kind -> its words, and its color; --line: a number only, not in a day's bar
    "delivered": ("delivered", "--green"),
    "sent": ("sent, no report yet", "--teal"),
    "scheduled": ("still to go", "--sky"),
    "planned": ("planned", "--blue"),
    "held": ("held", "--violet"),
    "unconfirmed": ("may have been sent", "--amber"),
    "failed": ("failed or undelivered", "--red"),
    "cancelled": ("cancelled", "--gray"),
    "replied": ("replied", "--line"),
    "opted_out": ("opted out", "--line"),
}
_PAGE_START = "<!DOCTYPE html><!-- smsbox -->"
# Bars are borders because browsers print borders, but no backgrounds.
_PAGE_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--quiet:#5b6470;--line:#d5dae0;
--bubble:#e6e9ed;--green:#14784a;--teal:#2f9c95;--sky:#6f8fc4;--blue:#2a5fc4;--violet:#7b3dbd;
--amber:#b36200;--red:#c81e1e;--gray:#7b848f}
@media screen and (prefers-color-scheme:dark){:root{--paper:#14171b;--ink:#eceff3;
--quiet:#a6afba;--line:#39414b;--bubble:#2b3139;--green:#4fc98d;--teal:#2f9c95;--sky:#5576b5;
--blue:#7fb0ff;--violet:#c79bff;--amber:#f2ae49;--red:#ff7d75;--gray:#8a94a0}}
*{box-sizing:border-box}
body{margin:0 auto;padding:16px 12px;max-width:960px;background:var(--paper);color:var(--ink);
font:16px/1.45 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6em;line-height:1.2;margin:0}
h2{font-size:1.2em;margin:28px 0 8px;break-after:avoid}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(9em,1fr));gap:8px;margin:16px 0}
dl div{border:1px solid var(--line);border-radius:8px;padding:6px 10px}
dt,figcaption,thead,footer{color:var(--quiet);font-size:.875em}.zero{color:var(--quiet)}
dd,tfoot,.group{margin:0;font-weight:600}
.texts{display:flex;flex-wrap:wrap;gap:16px 32px}figure{margin:0;width:340px;max-width:100%}
.bubble{width:fit-content;max-width:300px;margin:6px 0;padding:8px 12px;white-space:pre-wrap;
background:var(--bubble);border:1px solid var(--line);border-radius:4px 16px 16px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}.wide{width:100%}
th,td{padding:5px 12px 5px 0;border-bottom:1px solid var(--line);text-align:left;
vertical-align:top;font-weight:inherit}
thead tr>*{vertical-align:bottom;border-bottom:4px solid var(--color,var(--line))}
.number{padding:5px 0 5px 8px;text-align:right;overflow-wrap:normal}
.day{width:6em;white-space:nowrap}.name{min-width:8em}
.bar{width:60%;min-width:80px;padding-top:9px}
.bar div{display:flex;gap:1px}.bar i{min-width:3px;border-top:14px solid var(--color)}
.group{padding-top:14px;break-after:avoid}tr,dl div,.bubble{break-inside:avoid}
tfoot{display:table-row-group}footer{margin-top:28px}
@media screen and (max-width:839px){.wide thead,.zero{position:absolute;width:1px;height:1px;
overflow:hidden;clip-path:inset(50%)}
.wide tr{display:flex;flex-wrap:wrap;gap:2px 14px;padding:6px 0;border-bottom:1px solid var(--line)}
.wide td,.wide th{padding:0;border:0}.wide .number{border-bottom:3px solid var(--color)}
.day,.bar{width:100%;font-weight:600}.wide .number::after{content:" " attr(data-words)}}
@media print{:root{color-scheme:light;--ink:#000;--quiet:#000;--line:#888;--bubble:#fff}
body{padding:0;max-width:none;font-size:13px}}
"""


class Page(NamedTuple):
    """What a page shows, in the order of the page."""

    title: str
    words: str  # how it stands, in a sentence or two
    facts: Sequence[tuple[str, str]]  # (name, value)
    texts: Sequence[tuple[str, Sequence[str]]]  # (label, bubbles)
    left_out: Sequence[tuple[str, int]]  # (reason, number of rows)
    days: Sequence[tuple[str, Mapping[str, int]]]  # (day, kind -> number of messages)
    failed: Sequence[tuple[str, str, str, str]]  # (time, name, number, reason)
    zone: str  # like "America/Los_Angeles (PST)"


def render_page(page: Page) -> str:
    """Return one self-contained page in ASCII: no script, nothing that is fetched."""
    title = _html(page.title)
    facts = (f"<dt>{_html(name)}</dt><dd>{_html(value)}</dd>" for name, value in page.facts)
    cards = "".join(f"<div>{fact}</div>" for fact in facts)
    text = (
        f'{_PAGE_START}<html lang="en"><head><meta charset="utf-8"><meta name="viewport"'
        ' content="width=device-width,initial-scale=1"><meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none';style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_PAGE_STYLE}</style></head><body><main>"
        f"<h1>{title}</h1><p>{_html(page.words)}</p><dl>{cards}</dl>"
        f"{_render_texts(page.texts)}{_render_left_out(page.left_out)}"
        f"{_render_days(page.days)}{_render_failed(page.failed)}"
        f"</main><footer>All times are those of {_html(page.zone)}.</footer></body></html>\n"
    )
    return text.encode("ascii", "xmlcharrefreplace").decode()


def _html(text: str) -> str:
    """Return text from outside as HTML that shows it and does nothing else."""
    import html

    return html.escape(printable(text))


def _render_texts(texts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return the texts as bubbles, the way the customer's phone shows them; "" if none."""
    figures = ""
    for label, bubbles in texts:
        shown = ("\n".join(map(_html, bubble.split("\n"))) for bubble in bubbles)
        drawn = "".join(f'<p class="bubble" dir="auto">{bubble}</p>' for bubble in shown)
        figures += f"<figure><figcaption>{_html(label)}</figcaption>{drawn}</figure>"
    return f'<h2>What the customer gets</h2><div class="texts">{figures}</div>' if texts else ""


def _render_left_out(left_out: Sequence[tuple[str, int]]) -> str:
    """Return the table of who is left out and why; "" if nobody is."""
    rows = "".join(
        f'<tr><th scope="row">{_html(reason)}</th><td class="number">{count:,}</td></tr>'
        for reason, count in left_out
    )
    total = sum(count for _, count in left_out)
    return f"<h2>Left out, and why: {total:,}</h2><table>{rows}</table>" if rows else ""


def _render_days(days: Sequence[tuple[str, Mapping[str, int]]]) -> str:
    """Return the table by day, with a column for each kind that there is."""
    if not days:
        return "<h2>Day by day</h2><p>No message yet.</p>"
    totals = {kind: sum(counts.get(kind, 0) for _, counts in days) for kind in _KINDS}
    kinds = [kind for kind in _KINDS if totals[kind]]
    heads = "".join(
        f'<th scope="col" class="number" style="--color:var({color})">{words}</th>'
        for words, color in map(_KINDS.__getitem__, kinds)
    )
    busiest = max(_count_bar(counts) for _, counts in days)
    rows = "".join(_render_day(day, counts, kinds, busiest) for day, counts in days)
    return (
        '<h2>Day by day</h2><table class="wide"><thead><tr><th scope="col">Day</th><td></td>'
        f"{heads}</tr></thead><tbody>{rows}</tbody>"
        f"<tfoot>{_render_day('All', totals, kinds, 0)}</tfoot></table>"
    )


def _count_bar(counts: Mapping[str, int]) -> int:
    """Return how many messages the bar of a day stands for."""
    return sum(counts.get(kind, 0) for kind, (_, color) in _KINDS.items() if color != "--line")


def _render_day(day: str, counts: Mapping[str, int], kinds: Sequence[str], busiest: int) -> str:
    """Return a row: the day, its bar next to the busiest day's (none if that is 0), its numbers."""
    parts = numbers = ""
    for kind in kinds:
        (words, color), count = _KINDS[kind], counts.get(kind, 0)
        style = f"--color:var({color})"
        if count and color != "--line":
            parts += f'<i style="flex:{count};{style}"></i>'
        form = "number" if count else "number zero"
        numbers += f'<td class="{form}" style="{style}" data-words="{words}">{count:,}</td>'
    width = 100 * _count_bar(counts) / busiest if busiest else 0
    bar = f'<div style="width:{width:.1f}%">{parts}</div>' if width else ""
    name = f'<th scope="row" class="day">{_html(day)}</th>'
    return f'<tr>{name}<td class="bar">{bar}</td>{numbers}</tr>'


def _render_failed(failed: Sequence[tuple[str, str, str, str]]) -> str:
    """Return the failures, the most frequent reason first; "" if there is none."""
    by_reason: dict[str, list[str]] = {}
    for at, name, number, why in failed:
        cells = "".join(f'<td class="name">{_html(cell)}</td>' for cell in (at, name, number))
        by_reason.setdefault(why, []).append(f"<tr>{cells}</tr>")
    bodies = "".join(
        f'<tbody><tr><th scope="rowgroup" colspan="3" class="group">{_html(why)}: {len(rows):,}'
        f"</th></tr>{''.join(rows)}</tbody>"
        for why, rows in sorted(by_reason.items(), key=lambda item: -len(item[1]))
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Time", "Recipient", "Number"))
    table = f'<table class="wide"><thead><tr>{heads}</tr></thead>{bodies}</table>'
    return f"<h2>Failed, and why: {len(failed):,}</h2>{table}" if failed else ""


def _check_page_file(name: str | None) -> os.stat_result | None:
    """Only an earlier page of ours, or an empty file, is overwritten; return what it is, if it is
    there."""
    if name in ("-", None):
        return None
    path = Path(name)
    try:
        if not path.is_symlink() and (path.is_file() or not path.exists()):
            with open(name, "rb", opener=door) as file:
                if file.read(len(_PAGE_START)) in (_PAGE_START.encode(), b""):
                    return os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{name} can't be read: {error.strerror}") from error
    raise UsageError(
        f"{name} exists, is no page of smsbox and is not overwritten: name another file"
    )


def _write_page(name: str, page: Page) -> None:
    """Write a page, whole or not at all; an earlier one keeps its rights."""
    text = render_page(page)
    if name == "-":
        sys.stdout.write(text)
        return
    with create_file(name, over=True, like=_check_page_file(name)) as file:
        file.write(text.encode())


def _page_of_report(
    context: Context, values: Mapping[str, Any], messages: Sequence[Course], texts: Sequence[str]
) -> Page:
    """Make a report's page of what the database says."""
    days: dict[date, Counter[str]] = {}
    failed = []
    for each in messages:
        kind = {"undelivered": "failed"}.get(each.state, each.state)
        at = each.settled_at or each.scheduled_for
        for name, when in (
            (kind, at),
            ("replied", each.replied_at),
            ("opted_out", each.opted_out_at),
        ):
            if when:
                days.setdefault(context.local(when).date(), Counter())[name] += 1
        if kind in ("failed", "unconfirmed"):
            failed.append((context.stamp(at), each.customer_name, each.phone_number, each.reason))
    words = "It is done: nothing is still to go."
    if values["scheduled"]:
        words = f"{values['scheduled']:,} of {plural(values['planned'], 'message')} still to go"
        words += f", {values['held']:,} of them held." if values["held"] else "."
    if values["paused_because"]:
        words += f" Paused: {values['paused_because']}."
    return Page(
        title=f"Campaign {values['name']}",
        words=f"{words} As of {context.local(context.now):%m/%d/%Y %I:%M %p %Z}.",
        facts=_list_numbers(context, values),
        texts=[("A text of it", split_bubbles(text)) for text in texts],
        left_out=[],
        days=[(f"{day:%a %m/%d}", counts) for day, counts in sorted(days.items())],
        failed=failed,
        zone=context.zone_name(),
    )


def _page_of_plan(context: Context, plan: Plan) -> Page:
    """Make a plan's page: what will be sent to how many people, when, and who is left out."""
    first, last = plan.ends or (None, None)
    days = Counter(context.local(each.scheduled_for).date() for each in plan.messages)
    cost = context.config.cost.price_per_segment
    values = {
        "planned": len(plan.messages), "days": len(days), "segments": plan.segments,
        "cost": plan.segments * cost if cost else None, "currency": context.config.cost.currency,
        "first": first, "last": last,
    }  # fmt: skip
    grouped = group_left_out(plan.left_out).items()
    reasons = Counter({reason: len(rows) for reason, rows in grouped})
    reasons += Counter({f"not taken: {why}": n for why, n in plan.reading.not_taken.items()})
    bad = len(plan.reading.rejected)
    reasons += Counter({"rejected: the row can't be taken": bad} if bad else {})
    until = f" What is not sent by {context.stamp(plan.until)} is cancelled." if plan.until else ""
    return Page(
        title=f"Plan of {plan.campaign}",
        words=f"A dry run: nothing is stored or sent.{until}",
        facts=_list_numbers(context, values),
        texts=[
            (f"{label}, to {message.customer_name}, {plural(message.segments, 'segment')}",
             split_bubbles(message.message_content))
            for label, message in _choose_texts([each.message for each in plan.messages])
        ],
        left_out=reasons.most_common(),
        days=[(f"{day:%a %m/%d}", {"planned": count}) for day, count in sorted(days.items())],
        failed=[],
        zone=context.zone_name(),
    )  # fmt: skip


# --- copies


def cmd_backup(context: Context) -> int:
    """Make an online copy of the database, whole and verified."""
    import shutil

    args, to_stdout = context.args, context.args.file == "-"
    if not context.has_database():
        raise StoreError(f"there is no database at {context.database_path} to be copied")
    if to_stdout and sys.stdout.isatty():
        raise UsageError("a terminal can't take a database: smsbox backup - > FILE")
    with nullcontext(sys.stdout.buffer) if to_stdout else create_file(args.file) as sink:
        database = context.change()
        with copied_database(database, context.now, lambda: _draw_progress("copying ...")) as copy:
            _draw_progress("")
            size = os.fstat(copy.fileno()).st_size
            shutil.copyfileobj(copy, sink)
            sink.flush()
    counts = database.reports.count_by_status()
    rows = sum(counts[status.value] for status in RowStatus)
    tell = complain if to_stdout else say
    tell(f"Copied {plural(rows, 'message')}, {size:,} bytes, to {args.file}.")
    return 0


@contextmanager
def create_file(
    name: str, *, over: bool = False, like: os.stat_result | None = None
) -> Iterator[BufferedWriter]:
    """Yield a file that a person has named, and say in words why it can't be made; see
    whole_file(). Only its owner may read it: it holds people's numbers."""
    try:
        with whole_file(Path(name), over=over, like=like) as file:
            yield file
    except FileExistsError as error:
        raise UsageError(f"{name} exists and is not overwritten: name another file") from error
    except BrokenPipeError:
        raise
    except OSError as error:
        is_name = isinstance(error, (FileNotFoundError, NotADirectoryError, PermissionError))
        kind = UsageError if is_name else StoreError
        raise kind(f"{name} can't be written: {error.strerror}") from error


@contextmanager
def create_csv(name: str) -> Iterator[TextIO]:
    """Yield a new CSV that a person has named, as a spreadsheet likes it."""
    with create_file(name) as file:
        out = TextIOWrapper(file, "utf-8-sig", newline="")
        yield out
        out.flush()
        out.detach()


def _take_box(context: Context) -> int | None:
    """Keep the daemon from starting while this command lasts; None if it runs."""
    return take_lock(lock_path(context.database_path))


def cmd_restore(context: Context) -> int:
    """Put a copy in the database's place; what may have been sent since it was made is held."""
    name = context.args.file
    with _open_copy(name) as source:
        context.take_folder()
        if _take_box(context) is None:
            raise StoreError("smsbox is running: sudo systemctl stop smsbox, then restore")
        with verified_copy(source, name) as near:
            return _restore(context, near)


def _open_copy(name: str) -> BufferedReader:
    log = Path(name + "-wal")
    with suppress(OSError):
        if log.exists() and log.stat().st_size:
            raise UsageError(
                f"{name} is not whole, its last changes are in {log}: restore what smsbox backup"
                " made"
            )
    try:
        return open(name, "rb", opener=door)
    except OSError as error:
        raise StoreError(f"{name} can't be read: {error.strerror}") from error


def _restore(context: Context, temporary: Path) -> int:
    path = context.database_path
    copy = Database.create_or_open(str(temporary))
    present, is_sound = _open_present(context)
    try:
        restoring = Restoring(copy, present)
        made_at = restoring.copied_at()
        if made_at and from_database_time(made_at) > context.now:
            raise StoreError(
                f"the clock says {to_database_time(context.now)} UTC, the copy was made at"
                f" {made_at}: set the clock first"
            )
        clock = context.config.clock
        sure = not clock.require_trust or bool(find_time_evidence(clock.sources))
        counts = copy.reports.count_by_status()
        with copy.transaction():
            restoring.prepare(context.now, find_actor(), sure)
        _explain_restore(counts, restoring, made_at)
        if not ask_yes(f"It takes the place of {path}.", context.args.yes):
            return 1
        copy.truncate_log()
    finally:
        copy.close()
        if present is not None:
            present.close()
    if present is not None and is_sound:
        whole = context.write()
        whole.truncate_log()
        whole.close()
    aside = put_in_place(temporary, path, context.now)
    kept = f" The database of before is kept as {aside}." if aside else ""
    say(f"Restored.{kept}")
    return 0


def _open_present(context: Context) -> tuple[Database | None, bool]:
    """Open the database that is to be replaced, and tell whether all of it can be read."""
    present = None
    if not context.has_database():
        return None, True
    try:
        present = Database.open_to_read(str(context.database_path), of_any_version=True)
        present.require_schema()
        present.verify()
    except StoreError:
        return present, False
    return present, True


def _explain_restore(counts: Mapping[str, int], restoring: Restoring, made_at: str) -> None:
    say(f"The copy was made at {made_at or 'an unknown time'} UTC: {counts['scheduled']:,}"
        f" scheduled, {counts['sent']:,} sent, {counts['failed']:,} failed,"
        f" {counts['cancelled']:,} cancelled.")  # fmt: skip
    if restoring.held:
        say(f"{plural(restoring.held, 'message')} may have been sent since and will be held:"
            " smsbox list --held, then release or cancel.")  # fmt: skip
    if restoring.opted_out:
        stay = "stays" if restoring.opted_out == 1 else "stay"
        say(f"{plural(restoring.opted_out, 'opt-out')} of the present database {stay}.")
    say_wrapped("If another box still has this queue, it would write to the same people: there,"
                " sudo systemctl disable --now smsbox.")  # fmt: skip


def cmd_forget(context: Context) -> int:
    """Blank names and texts of a person, or of all that is long done; counts and opt-outs stay."""
    args = context.args
    if bool(args.number) == bool(args.older_than):
        raise UsageError("say whom: a phone number, or --older-than 2y")
    return _forget_person(context) if args.number else _forget_old(context)


def _forget_person(context: Context) -> int:
    number, database = parse_number(context.args.number), context.change()
    count = len(database.queue.rows(RowFilter(number=number)))
    if not count and not any(_read_person(database, number).values()):
        raise UsageError(f"nothing is known of {number}: smsbox list shows who is known")
    question = f"{number}, {plural(count, 'message')}: this can't be undone."
    if not ask_yes(question, context.args.yes):
        return 1
    with database.transaction():
        if database.sending.is_under_way(number):
            raise StoreError(f"a message to {number} is under way: try again when it is done")
        forget(database, number, context.now, find_actor())
    database.truncate_log()
    say(f"{number} is forgotten; copies made before keep it until they are replaced.")
    return 0


def _forget_old(context: Context) -> int:
    than, database = context.now - context.args.older_than, context.change()
    counts = count_older(database, than)
    what = (
        f"{plural(counts['scheduled_messages'], 'message')},"
        f" {plural(counts['inbound'], 'incoming text')} of before"
        f" {context.local(than):%m/%d/%Y %I:%M %p}"
    )
    if not any(counts.values()):
        say(f"Nothing to blank: {what}.")
        return 0
    question = f"{what}: their names and texts go, and this can't be undone."
    if not ask_yes(question, context.args.yes):
        return 1
    with database.transaction():
        purge(database, than, context.now, find_actor())
    database.truncate_log()
    say("Blanked; numbers, counts and opt-outs stay. Copies made before keep the texts until they"
        " are replaced.")  # fmt: skip
    return 0


def run_as_module() -> None:
    """Start again as an imported module, in the same process.

    Of a file that runs as a script Python keeps the syntax tree, some 13 MB, to the very end.
    """
    script = Path(__file__).absolute()
    if __name__ != "__main__" or not script.stem.isidentifier():
        return
    start = f"import sys; sys.path.insert(0, {str(script.parent)!r}); import {script.stem} as main;"
    flags = ["-I"] if sys.flags.isolated else []
    flags += ["-S"] if sys.flags.no_site else []
    words = [*flags, "-c", start + " sys.exit(main.main())", *sys.argv[1:]]
    os.execv(sys.executable, [sys.executable, *words])


def cmd_run(context: Context) -> int:
    """Be the daemon."""
    import random

    run_as_module()
    start_journal(os.environ, context.args.verbose)
    waiting_for_lock = Waiting()
    waiting_for_lock.catch_signals()
    database = context.write()
    for _ in range(10):  # a status command may hold the lock for a moment, looking at it
        lock = take_lock(lock_path(context.database_path))
        if lock is not None:
            break
        waiting_for_lock.until(waiting_for_lock.monotonic() + 0.1)
    else:
        who = read_lock_holder(lock_path(context.database_path))
        raise StoreError(
            f"another smsbox{f' (pid {who})' if who else ''} already serves"
            f" {context.database_path}: stop that one first"
        )
    lamps = open_gpio_lamps(context.config.lamps)
    notifier = SystemdNotifier(os.environ)
    clock = Waiting(lamps, notifier)
    clock.catch_signals()
    sources = context.config.clock.sources
    status, config = (
        StatusFile(status_path(context.database_path)),
        find_config(context.args.config),
    )
    read = {"config": str(config.absolute()), "config_changed_at": read_change_time(config)}
    around = Surroundings(
        clock, open_port, notifier, lamps, lambda words: status.write({**words, **read}),
        lambda: find_time_evidence(sources), lambda pin: press_power_key(pin, clock),
    )  # fmt: skip
    give_memory_back()
    try:
        why = Service(context.config, database, around, random.Random()).run(context.args.drain)
        if why:
            raise StoreError(f"not all was sent: {why}")
    except StopRequested:
        logging.info("smsbox stops")
    finally:
        database.close()
    return 0


def open_port(name: str, baud: int) -> Port:
    """Open the modem's port, or start the simulated modem."""
    if name == "sim:":
        return SocketPort("sim:", open_simulated_port())
    try:
        return SerialPort(name, baud)
    except ModuleNotFoundError as error:
        raise PortLost("pyserial is missing: run install.sh again, which brings it") from error


# --- the demo

_DEMO_CSV = """phone_number,customer_name,message_content
(213) 555-2301,Ana Ortiz,Hi Ana! Your order is ready. Reply STOP to end. [BUBBLE] Pick it up until \
8 PM: 12 Oak Street.
213-555-2302,Ben Cole,Hi Ben! The shoes you asked for are in. [BUBBLE] Shall we keep them for you? \
Reply STOP to end.
1 213 555 2303,Chloé Martin,Bonjour Chloé ! Votre commande est prête 🎉 STOP pour arrêter.
+12135552304,Dan Wu,"Hi Dan! Your repair is done. It took a new battery, a new strap and a good \
cleaning, so it should run for years. The invoice is in the box, the guarantee too. Reply STOP to \
end. [BUBBLE] See you!"
213.555.2305,Eve Stone,Hi Eve! We open at 9 and are glad to see you. Reply STOP to end.
"""


class TerminalLamps:
    """Lamps drawn as three seconds of their pattern, whenever that changes."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, state: LampState) -> None:
        """Draw the lamps if they say something new."""
        ready, fault = _READY_PATTERNS[state.ready], _FAULT_PATTERNS[state.fault]
        sending = "#" if state.sending else "."
        drawn = f"ready {ready:20.20}  sending {sending}  fault {fault:.20}"
        line = "  lamps   " + drawn.replace(".", "·").replace("#", "●")
        if line != self._shown:
            self._shown = line
            say(line)

    def drive(self, monotonic: float) -> float | None:
        """Nothing blinks on paper."""
        return None


def cmd_demo(context: Context) -> int:
    """Play the whole way in a minute: CSV, plan, scheduler, driver, simulated modem."""
    import random
    import tempfile

    config = parse_config({"modem": {"port": "sim:"}, "clock": {"require_trust": False}})
    evening = datetime(2026, 3, 6, 19, 42, tzinfo=config.business_hours.timezone)
    clock = FastClock(Waiting(), evening.astimezone(UTC), lambda wait_s, at: (
        min(wait_s / 80, 4.0) if is_open(at, config.business_hours) else 0.004))  # fmt: skip
    say("An example campaign, from its CSV to the phones; the clock runs fast.\n")
    say(_DEMO_CSV)
    reading = read_campaign(_DEMO_CSV.splitlines(True), ReadingOrder("demo"))
    rng = random.Random(context.args.seed)
    with tempfile.TemporaryDirectory(prefix="smsbox-demo-") as folder:
        path = Path(folder) / "smsbox.db"
        play = Context(
            parse_arguments(["schedule", "demo.csv"]), config, path, clock.now()
        )  # fmt: skip
        shown = make_plan(play, reading, None, context.args.seed, QueueView())
        print_plan(play, shown)
        database = Database.create_or_open(str(path))
        with database.transaction():
            database.queue.add_campaign(shown.messages, shown.seed, clock.now(), "demo")
        say("\nIt is Friday evening, 18 minutes before closing. On the other side:")

        def arrive(tpdu: Tpdu) -> None:
            at = play.local(clock.now())
            part = (
                f" ({tpdu.concatenation[2]}/{tpdu.concatenation[1]})" if tpdu.concatenation else ""
            )
            print(f"{at:%a %I:%M %p}  {tpdu.number}{part}  {tpdu.text}", flush=True)

        around = Surroundings(
            clock, lambda name, baud: SocketPort("sim:", open_simulated_port(arrive)),
            SystemdNotifier({}), TerminalLamps(), lambda status: None, lambda: "",
        )  # fmt: skip
        logging.disable(logging.INFO)
        Service(config, database, around, rng).run(drain=True)
        counts = database.reports.count_by_status()
        database.close()
    say(f"\nSent: {counts['sent']} of {len(shown.messages)} messages. Your own, without a modem:")
    say("  smsbox schedule FILE.csv --dry-run")
    return 0 if counts["sent"] == len(shown.messages) else 1


if __name__ == "__main__":
    sys.exit(main())
