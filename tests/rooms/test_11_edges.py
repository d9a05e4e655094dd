"""Edges: waiting, the service manager, the lamps, the journal, the status file, the lock."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import smsbox
from rig.paths import ROOT
from smsbox import Fault, LampState, PatternLamps, Ready, Waiting

UTC = timezone.utc


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    """A wait point that hears signals; the test run's own handling of them comes back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    made = Waiting()
    made.catch_signals()
    yield made
    signal.set_wakeup_fd(-1)
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture
def ports() -> Iterator[tuple[smsbox.SocketPort, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield smsbox.SocketPort("test", near), far


def signal_soon(number: int, after_s: float = 0.05) -> None:
    threading.Timer(after_s, os.kill, (os.getpid(), number)).start()


def taken_s(begun: float) -> float:
    return time.monotonic() - begun


# --- waiting


def test_wait_ends_at_its_deadline() -> None:
    begun = time.monotonic()
    assert not Waiting().until(begun + 0.1)
    assert 0.1 <= taken_s(begun) < 0.3


@pytest.mark.parametrize("ago_s", [0, 1, 1e6])
def test_wait_for_a_time_gone_by_ends_at_once(ago_s: float) -> None:
    begun = time.monotonic()
    assert not Waiting().until(begun - ago_s)
    assert taken_s(begun) < 0.1


def test_wait_ends_when_the_port_has_bytes(ports: tuple[smsbox.SocketPort, socket.socket]) -> None:
    port, far = ports
    begun = time.monotonic()
    threading.Timer(0.05, far.send, (b"RING",)).start()
    assert Waiting().until(begun + 10, port)
    assert 0.04 < taken_s(begun) < 1
    assert Waiting().until(begun - 1, port)  # there they are, deadline or not
    assert port.read() == b"RING"
    assert port.read() == b""
    assert not Waiting().until(time.monotonic() + 0.05, port)


def test_wait_ends_when_the_port_is_gone(ports: tuple[smsbox.SocketPort, socket.socket]) -> None:
    port, far = ports
    far.close()
    assert Waiting().until(time.monotonic() + 10, port)
    with pytest.raises(smsbox.PortLost):
        port.read()


def test_clock_tells_aware_utc_time() -> None:
    now = Waiting().now()
    assert now.utcoffset() == timedelta(0)
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_an_interruptible_wait_with_stop_requested(
    waiting: Waiting, number: int
) -> None:
    signal_soon(number)
    begun = time.monotonic()
    with pytest.raises(smsbox.StopRequested):
        waiting.until(begun + 10)
    assert taken_s(begun) < 1


def test_signal_between_two_waits_is_not_lost(waiting: Waiting) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    begun = time.monotonic()
    with pytest.raises(smsbox.StopRequested):
        waiting.until(begun + 10)
    assert taken_s(begun) < 1
    with pytest.raises(smsbox.StopRequested):
        waiting.until(begun - 1)


def test_signal_does_not_end_a_wait_that_must_not_be_interrupted(
    waiting: Waiting, ports: tuple[smsbox.SocketPort, socket.socket]
) -> None:
    port, far = ports
    signal_soon(signal.SIGTERM)
    begun = time.monotonic()
    assert not waiting.until(begun + 0.2, port, interruptible=False)
    assert taken_s(begun) >= 0.2
    far.send(b"OK")
    assert waiting.until(time.monotonic() + 10, port, interruptible=False)
    with pytest.raises(smsbox.StopRequested):
        waiting.until(time.monotonic() + 10, port)


def test_waiting_after_a_signal_costs_no_processor_time(waiting: Waiting) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    begun = time.process_time()
    assert not waiting.until(time.monotonic() + 0.3, interruptible=False)
    assert time.process_time() - begun < 0.1


def test_stop_is_nothing_that_a_broad_except_swallows() -> None:
    assert issubclass(smsbox.StopRequested, BaseException)
    assert not issubclass(smsbox.StopRequested, Exception)


# --- the fast clock


def test_fast_clock_skips_the_rest_of_an_interruptible_wait() -> None:
    start = datetime(2026, 3, 7, 3, 42, tzinfo=UTC)
    clock = smsbox.FastClock(Waiting(), start, lambda wait_s, now: 0.05)
    begun = time.monotonic()
    assert clock.now() - start < timedelta(seconds=1)
    deadline = clock.monotonic() + 3600
    assert not clock.until(deadline)
    assert 0.05 <= taken_s(begun) < 0.5
    assert 0 <= clock.monotonic() - deadline < 0.5
    assert timedelta(hours=1) <= clock.now() - start < timedelta(hours=1, seconds=1)


def test_fast_clock_tells_how_long_and_when_the_wait_is() -> None:
    start = datetime(2026, 3, 7, 3, 42, tzinfo=UTC)
    asked: list[tuple[float, datetime]] = []

    def shorten(wait_s: float, now: datetime) -> float:
        asked.append((wait_s, now))
        return 0.0

    clock = smsbox.FastClock(Waiting(), start, shorten)
    clock.until(clock.monotonic() + 60)
    ((wait_s, now),) = asked
    assert 59 < wait_s <= 60
    assert now - start < timedelta(seconds=1)


def test_fast_clock_leaves_a_conversation_its_real_time() -> None:
    clock = smsbox.FastClock(Waiting(), datetime.now(UTC), lambda wait_s, now: 0.0)
    clock.until(clock.monotonic() + 1000)
    begun = time.monotonic()
    assert not clock.until(clock.monotonic() + 0.1, interruptible=False)
    assert 0.1 <= taken_s(begun) < 0.4


def test_fast_clock_skips_nothing_when_the_port_speaks(
    ports: tuple[smsbox.SocketPort, socket.socket],
) -> None:
    port, far = ports
    far.send(b"RING")
    clock = smsbox.FastClock(Waiting(), datetime.now(UTC), lambda wait_s, now: 1.0)
    before = clock.monotonic()
    assert clock.until(before + 3600, port)
    assert clock.monotonic() - before < 1


# --- the service manager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.setblocking(False)
        yield end, str(tmp_path / "notify")


def heard(end: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(end.recv(4096).decode())
        except BlockingIOError:
            return found


def test_service_manager_hears_what_is_told(manager: tuple[socket.socket, str]) -> None:
    end, address = manager
    notifier = smsbox.SystemdNotifier({"NOTIFY_SOCKET": address})
    for message in ("READY=1", "STATUS=well and idle", "STOPPING=1"):
        notifier.notify(message)
    notifier.pet()
    assert heard(end) == ["READY=1", "STATUS=well and idle", "STOPPING=1", "WATCHDOG=1"]
    assert notifier.pet_every_s is None


def test_service_manager_on_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(f"\0smsbox-test-{os.getpid()}")
        end.settimeout(5)
        smsbox.SystemdNotifier({"NOTIFY_SOCKET": f"@smsbox-test-{os.getpid()}"}).notify("READY=1")
        assert end.recv(100) == b"READY=1"


def test_without_a_service_manager_nothing_is_told(tmp_path: Path) -> None:
    smsbox.SystemdNotifier({}).notify("READY=1")
    smsbox.SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).notify("READY=1")
    assert smsbox.SystemdNotifier({"WATCHDOG_USEC": "30000000"}).pet_every_s is None


def test_watchdog_is_petted_while_waiting(manager: tuple[socket.socket, str]) -> None:
    end, address = manager
    notifier = smsbox.SystemdNotifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"})
    assert notifier.pet_every_s is not None
    assert notifier.pet_every_s <= 0.15  # the manager wants it twice in its time
    waiting = Waiting(notifier=notifier)
    assert not waiting.until(time.monotonic() + 0.55)
    pets = heard(end)
    assert set(pets) == {"WATCHDOG=1"}
    assert 4 <= len(pets) <= 7


def test_watchdog_is_not_petted_by_a_loop_whose_deadline_has_passed(
    manager: tuple[socket.socket, str], ports: tuple[smsbox.SocketPort, socket.socket]
) -> None:
    end, address = manager
    port, far = ports
    notifier = smsbox.SystemdNotifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000"})
    waiting = Waiting(notifier=notifier)
    deadline = time.monotonic()
    stuck_until = deadline + 0.1
    while time.monotonic() < stuck_until:  # a conversation that bytes keep alive for ever
        far.send(b"x")
        assert waiting.until(deadline, port, interruptible=False)
        port.read()
        waiting.until(deadline)
    assert heard(end) == []


# --- the lamps


LATENCY_S = 0.0002  # nobody wakes on the very instant


class Wall:
    """Lamps on a wall, with the time at which each was switched."""

    def __init__(self, *names: str) -> None:
        self.lit = dict.fromkeys(names, False)
        self.lamps = PatternLamps(frozenset(names), self.switch)

    def switch(self, name: str, lit: bool) -> None:
        self.lit[name] = lit

    def watch(self, name: str, state: LampState, from_s: float, to_s: float) -> list[list[float]]:
        """Give the flashes [begin, end] of a lamp, waking only when the lamps ask for it."""
        self.lamps.show(state)
        flashes: list[list[float]] = []
        at = from_s
        while at < to_s:
            again = self.lamps.drive(at + LATENCY_S)
            if self.lit[name] and (not flashes or flashes[-1][1] != at):
                flashes.append([at, at])
            following = to_s if again is None else again
            assert following > at
            if self.lit[name]:
                flashes[-1][1] = min(following, to_s)
            at = following
        return flashes


def lengths(flashes: list[list[float]]) -> list[float]:
    return [round(end - begin, 3) for begin, end in flashes]


CYCLES_FROM = 1000 * 6.0  # both a cycle and every second cycle begin here


@pytest.mark.parametrize(("ready", "blips"), [(Ready.IDLE, 1), (Ready.UNDER_WAY, 2)])
def test_green_lamp_blips_once_when_idle_and_twice_under_way(ready: Ready, blips: int) -> None:
    for cycle in range(3):
        begin = CYCLES_FROM + 3 * cycle
        flashes = Wall("ready").watch("ready", LampState(ready), begin, begin + 3)
        assert len(flashes) == blips
        assert all(0.03 <= each <= 0.15 for each in lengths(flashes))


def test_green_lamp_blips_every_second_cycle_when_resting() -> None:
    flashes = Wall("ready").watch("ready", LampState(Ready.RESTING), CYCLES_FROM, CYCLES_FROM + 12)
    assert len(flashes) == 2
    assert flashes[1][0] - flashes[0][0] == pytest.approx(6)
    assert all(0.03 <= each <= 0.15 for each in lengths(flashes))


def test_green_lamp_blinks_evenly_when_starting() -> None:
    flashes = Wall("ready").watch("ready", LampState(Ready.STARTING), CYCLES_FROM, CYCLES_FROM + 3)
    assert len(flashes) >= 2
    assert sum(lengths(flashes)) == pytest.approx(1.5)
    assert len(set(lengths(flashes))) == 1


@pytest.mark.parametrize(
    ("fault", "count"),
    [(Fault.NONE, 0), (Fault.DISK, 5), (Fault.NO_MODEM, 2), (Fault.SIM, 3), (Fault.NO_NETWORK, 4)],
)
def test_red_lamp_flashes_the_number_of_the_fault_in_each_cycle(fault: Fault, count: int) -> None:
    for cycle in range(3):
        begin = CYCLES_FROM + 3 * cycle
        flashes = Wall("fault").watch("fault", LampState(Ready.IDLE, fault), begin, begin + 3)
        assert len(flashes) == count
        assert len(set(lengths(flashes))) <= 1
        assert all(later[0] - earlier[1] >= 0.15 for earlier, later in pairwise(flashes))
        assert not flashes or begin + 3 - flashes[-1][1] >= 0.5  # a rest, so that one can count


def test_red_lamp_is_solid_when_the_account_refuses() -> None:
    state = LampState(Ready.IDLE, Fault.ACCOUNT)
    flashes = Wall("fault").watch("fault", state, CYCLES_FROM, CYCLES_FROM + 12)
    assert lengths(flashes) == [12]


def test_red_lamp_is_long_for_the_clock_and_short_for_a_person() -> None:
    clock, person = (
        Wall("fault").watch("fault", LampState(Ready.IDLE, fault), CYCLES_FROM, CYCLES_FROM + 3)
        for fault in (Fault.CLOCK, Fault.ATTENTION)
    )
    assert len(clock) == len(person) == 1
    assert lengths(person)[0] <= 0.15
    assert lengths(clock)[0] >= 0.5


@pytest.mark.parametrize("ready", list(Ready))
@pytest.mark.parametrize("fault", list(Fault))
def test_waking_at_the_told_times_misses_no_edge(ready: Ready, fault: Fault) -> None:
    state = LampState(ready, fault)
    told, sampled = Wall("ready", "fault"), Wall("ready", "fault")
    told.lamps.show(state)
    sampled.lamps.show(state)
    again: float | None = 1234.5
    for step in range(1, 700):
        at = 1234.5 + step / 100
        while again is not None and again <= at:
            again = told.lamps.drive(again + LATENCY_S)
        sampled.lamps.drive(at + LATENCY_S)
        assert told.lit == sampled.lit


@pytest.mark.parametrize("at", [0.0, 1e-9, 2.9999999, 3.0, 86_399.999999, 12_345_678.9])
def test_lamp_changes_at_the_told_time_and_not_before(at: float) -> None:
    wall = Wall("ready")
    wall.lamps.show(LampState(Ready.UNDER_WAY))
    for _ in range(50):
        following = wall.lamps.drive(at)
        assert following is not None
        assert at < following <= at + 3.0
        before = wall.lit["ready"]
        wall.lamps.drive((at + following) / 2)
        assert wall.lit["ready"] is before
        wall.lamps.drive(following)
        assert wall.lit["ready"] is not before
        at = following


def test_sending_lamp_is_lit_at_once_while_a_segment_is_with_the_modem() -> None:
    wall = Wall("ready", "sending", "fault")
    wall.lamps.show(LampState(Ready.UNDER_WAY, Fault.NONE, sending=True))
    assert wall.lit == {"ready": False, "sending": True, "fault": False}
    wall.lamps.drive(CYCLES_FROM + 1.5)
    assert wall.lit["sending"]
    wall.lamps.show(LampState(Ready.UNDER_WAY, Fault.NONE))
    assert not wall.lit["sending"]


def test_without_a_sending_lamp_the_green_one_is_lit() -> None:
    wall = Wall("ready")
    state = LampState(Ready.UNDER_WAY, Fault.NONE, sending=True)
    wall.lamps.show(state)
    assert wall.lit["ready"]
    assert lengths(wall.watch("ready", state, CYCLES_FROM, CYCLES_FROM + 6)) == [6]
    assert len(wall.watch("ready", LampState(Ready.IDLE), CYCLES_FROM + 6, CYCLES_FROM + 9)) == 1


def test_waiting_drives_the_lamps_without_a_thread() -> None:
    changes: list[tuple[float, bool]] = []
    lamps = PatternLamps(
        frozenset({"ready"}), lambda name, lit: changes.append((time.monotonic(), lit))
    )
    lamps.show(LampState(Ready.STARTING))
    threads = threading.active_count()
    Waiting(lamps).until(time.monotonic() + 1.2)
    assert threading.active_count() == threads
    assert 3 <= len(changes) <= 4  # the wait begins anywhere in the pattern
    assert all(0.4 < after[0] - before[0] < 0.6 for before, after in pairwise(changes[1:]))


def find_lamps(**differing: Any) -> tuple[Ready, Fault]:
    well: dict[str, Any] = {
        "link_fault": Fault.NONE, "link_ready": True, "has_room": True, "account_refused": False,
        "trusted": True,
        "awaits_person": False, "resting": False, "under_way": False,
    }  # fmt: skip
    return smsbox.find_lamps(**{**well, **differing})


def test_lamps_say_the_first_thing_that_holds() -> None:
    assert find_lamps() == (Ready.IDLE, Fault.NONE)
    assert find_lamps(under_way=True)[0] is Ready.UNDER_WAY
    assert find_lamps(under_way=True, resting=True)[0] is Ready.RESTING
    assert find_lamps(link_ready=False, under_way=True)[0] is Ready.STARTING
    assert find_lamps(awaits_person=True)[1] is Fault.ATTENTION
    assert find_lamps(awaits_person=True, trusted=False)[1] is Fault.CLOCK
    assert find_lamps(trusted=False, account_refused=True)[1] is Fault.ACCOUNT
    for fault in (Fault.NO_MODEM, Fault.SIM, Fault.NO_NETWORK):
        assert find_lamps(account_refused=True, link_fault=fault)[1] is fault


# --- the pins


@pytest.fixture
def board() -> Iterator[Any]:
    """gpiozero's own board in software."""
    gpiozero = importlib.import_module("gpiozero")
    mock = importlib.import_module("gpiozero.pins.mock")
    kept = gpiozero.Device.pin_factory
    factory = mock.MockFactory()
    gpiozero.Device.pin_factory = factory
    yield factory
    factory.reset()
    gpiozero.Device.pin_factory = kept


def lamp_settings(**pins: object) -> smsbox.LampSettings:
    return smsbox.parse_config({"lamps": pins}).lamps


def test_lamps_are_pins(board: Any) -> None:
    lamps = smsbox.open_gpio_lamps(lamp_settings(ready=17, sending=27, fault=22))
    assert lamps is not None
    lamps.show(LampState(Ready.IDLE, Fault.ACCOUNT, sending=True))
    lamps.drive(CYCLES_FROM)
    assert [bool(board.pin(pin).state) for pin in (17, 27, 22)] == [True, True, True]
    lamps.show(LampState(Ready.IDLE))
    lamps.drive(CYCLES_FROM + 1)
    assert [bool(board.pin(pin).state) for pin in (17, 27, 22)] == [False, False, False]


def test_lamps_that_light_when_the_pin_is_low_are_understood(board: Any) -> None:
    lamps = smsbox.open_gpio_lamps(lamp_settings(fault=22, active_high=False))
    assert lamps is not None
    lamps.show(LampState(Ready.IDLE, Fault.ACCOUNT))
    lamps.drive(CYCLES_FROM)
    assert not board.pin(22).state
    lamps.show(LampState(Ready.IDLE))
    lamps.drive(CYCLES_FROM)
    assert board.pin(22).state


def test_pattern_reaches_the_pin(board: Any) -> None:
    lamps = smsbox.open_gpio_lamps(lamp_settings(fault=22))
    assert lamps is not None
    lamps.show(LampState(Ready.IDLE, Fault.SIM))
    pin = board.pin(22)
    pin.clear_states()
    at = CYCLES_FROM
    while at < CYCLES_FROM + 3:
        at = lamps.drive(at + LATENCY_S) or CYCLES_FROM + 3
    assert sum(each.state for each in pin.states[1:]) == 3


def test_absent_hardware_is_one_line_and_no_lamps(
    board: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpiozero = importlib.import_module("gpiozero")
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "nothing-of-the-kind")
    caplog.set_level(logging.DEBUG)
    assert smsbox.open_gpio_lamps(lamp_settings(ready=17, fault=22)) is None
    assert [(each.levelname, "lamps" in each.getMessage()) for each in caplog.records] == [
        ("INFO", True)
    ]
    assert "\n" not in caplog.records[0].getMessage()


def test_pin_that_is_taken_leaves_a_box_without_lamps(
    board: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert smsbox.open_gpio_lamps(lamp_settings(ready=17, fault=17)) is None
    assert [each.levelname for each in caplog.records] == ["INFO"]


class LayingPin:
    """A pin as lgpio has it: the first one moves to a folder and lays a pipe there by name."""

    places: list[tuple[str | None, Path, int]]

    def __init__(self, pin: int, **_: object) -> None:
        os.chdir(os.environ.get("LG_WD", "."))
        Path(".lgd-nfy0").touch()
        factory, here = os.environ.get("GPIOZERO_PIN_FACTORY"), Path.cwd()
        self.places.append((factory, here, here.stat().st_mode & 0o777))

    def __enter__(self) -> LayingPin:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def on(self) -> None:
        pass

    off = on


@pytest.mark.parametrize("is_by_unit", [True, False])
def test_pin_library_lays_nothing_where_others_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: Waiting, is_by_unit: bool
) -> None:
    monkeypatch.setattr(LayingPin, "places", [], raising=False)
    library = SimpleNamespace(LED=LayingPin, OutputDevice=LayingPin)
    monkeypatch.setitem(sys.modules, "gpiozero", cast(Any, library))
    monkeypatch.setattr(waiting, "until", lambda *_, **__: None)
    for name in ("LG_WD", "GPIOZERO_PIN_FACTORY"):
        monkeypatch.setenv(name, "")  # put back at the end
        monkeypatch.delenv(name)
    theirs, units = tmp_path / "theirs", tmp_path / "units"
    theirs.mkdir(mode=0o777)
    units.mkdir(mode=0o755)
    monkeypatch.chdir(theirs)
    if is_by_unit:
        monkeypatch.setenv("LG_WD", str(units))
    assert smsbox.take_gpio_lamps(lamp_settings(ready=17, fault=22))
    smsbox.press_power_key(4, waiting)
    assert [factory for factory, _, _ in LayingPin.places] == ["lgpio"] * 3
    assert list(theirs.iterdir()) == []
    if is_by_unit:
        assert {place for _, place, _ in LayingPin.places} == {units}
    else:
        assert {mode for _, _, mode in LayingPin.places} == {0o700}
        assert not any(place.exists() for _, place, _ in LayingPin.places)
        assert Path.cwd() == theirs


@pytest.mark.parametrize(
    ("pins", "lines"), [({}, 0), ({"ready": 17, "sending": 27, "fault": 22}, 1)]
)
def test_bare_interpreter_needs_no_pin_library(pins: dict[str, int], lines: int) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import smsbox;"
        "smsbox.start_journal({}, True);"
        f"lamps = smsbox.open_gpio_lamps(smsbox.parse_config({{'lamps': {pins!r}}}).lamps);"
        "assert lamps is None and 'gpiozero' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == lines


# --- the journal


def format_record(level: int, message: str, *given: object, failed: bool = False) -> str:
    trace = None
    if failed:
        try:
            raise ValueError("no\x1b[2J <0>such\nthing")
        except ValueError:
            trace = sys.exc_info()
    record = logging.LogRecord("root", level, "", 0, message, given, trace)
    return smsbox.JournalFormatter(True).format(record)


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, "<7>"), (logging.INFO, "<6>"), (logging.WARNING, "<4>"),
     (logging.ERROR, "<3>")],
)  # fmt: skip
def test_priority_stands_in_front_under_the_journal(level: int, priority: str) -> None:
    line = format_record(level, "sent message=%d", 41)
    assert line == f"{priority}sent message=41"


@pytest.mark.parametrize(
    "end", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
)
def test_text_from_outside_can_not_forge_a_line(end: str) -> None:
    line = format_record(logging.INFO, "refused: %s", f"a{end}<0>sent message=42")
    assert len(line.splitlines()) == 1
    assert line.startswith("<6>refused: a")


def test_lines_of_a_traceback_keep_its_priority() -> None:
    lines = format_record(logging.ERROR, "an error of smsbox itself", failed=True).split("\n")
    assert len(lines) >= 4
    assert all(line.startswith("<3>") for line in lines)


def test_terminal_gets_the_time_and_no_priority() -> None:
    record = logging.LogRecord("root", logging.INFO, "", 0, "smsbox starts", (), None)
    line = smsbox.JournalFormatter(False).format(record)
    assert line.endswith(" smsbox starts")
    assert line[2] == line[5] == ":"


def test_start_journal_writes_debug_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    handlers, level = logging.root.handlers, logging.root.level
    try:
        smsbox.start_journal({"JOURNAL_STREAM": "9:1"}, debug=False)
        logging.debug("the dialogue")
        logging.info("a fact")
        smsbox.start_journal({"JOURNAL_STREAM": "9:1"}, debug=True)
        logging.debug("the dialogue")
    finally:
        logging.root.handlers = handlers
        logging.root.setLevel(level)
    assert capsys.readouterr().out.splitlines() == ["<6>a fact", "<7>the dialogue"]


# --- the status file


def test_status_file_is_written_only_when_something_changes(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    status = smsbox.StatusFile(path)
    status.write({"modem": "ready", "next_id": 4})
    first = path.stat()
    for _ in range(3):
        status.write({"next_id": 4, "modem": "ready"})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    status.write({"modem": "ready", "next_id": 5})
    assert path.stat().st_ino != first.st_ino  # replaced in one step, never half written
    assert smsbox.read_status_file(path) == {"modem": "ready", "next_id": 5}
    assert [each.name for each in tmp_path.iterdir()] == ["status.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_status_that_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "run" / "status.json"
    status = smsbox.StatusFile(path)
    status.write({"modem": "ready"})
    path.parent.mkdir()
    status.write({"modem": "ready"})
    assert smsbox.read_status_file(path) == {"modem": "ready"}


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff\xfe", b"null"])
def test_status_file_that_says_nothing_is_empty(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "status.json"
    if content is not None:
        path.write_bytes(content)
    assert smsbox.read_status_file(path) == {}


# --- the lock


def test_lock_is_held_by_one_and_seen_by_all(tmp_path: Path) -> None:
    path = tmp_path / "box.db.lock"
    assert not smsbox.is_locked(path)
    assert not path.exists()
    lock = smsbox.take_lock(path)
    assert lock is not None
    assert not os.get_inheritable(lock)
    assert smsbox.is_locked(path)
    assert smsbox.take_lock(path) is None
    assert smsbox.is_locked(path)
    os.close(lock)
    assert not smsbox.is_locked(path)
    again = smsbox.take_lock(path)
    assert again is not None
    os.close(again)


def test_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "box.db.lock"
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import smsbox; from pathlib import Path;"
        f"assert smsbox.take_lock(Path({str(path)!r})); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert smsbox.is_locked(path)
        assert smsbox.take_lock(path) is None
        holder.kill()
    assert not smsbox.is_locked(path)


def test_lock_that_can_not_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(smsbox.StoreError, match=r"box\.lock"):
        smsbox.take_lock(tmp_path / "absent" / "box.lock")


def test_holder_of_a_lock_is_read_of_a_file_however_long(tmp_path: Path) -> None:
    path = tmp_path / "box.db.lock"
    path.write_text("4711".ljust(20))
    os.truncate(path, 2**40)
    assert smsbox.read_lock_holder(path) == "4711"


# --- files


def test_file_that_grows_beyond_all_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    growing = "/proc/cpuinfo"  # which is said to be empty, as one that grows later
    assert smsbox.read_file(growing)
    monkeypatch.setattr(smsbox, "_LARGEST", 10)
    with pytest.raises(OSError, match=growing):
        smsbox.read_file(growing)


# --- the clock's trust


def test_nobody_vouches_for_the_clock_unasked() -> None:
    assert smsbox.find_time_evidence([]) == ""
