"""Service, the modem as it has it: found again, healed in steps, refused and paused by class."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

import smsbox
from rig.people import ANA, BEN, CHLOE
from rig.played import PlayedBox, at

DAN = "+12135552316"


def heard(box: PlayedBox, command: bytes) -> int:
    return sum(line.startswith(command) for line in box.far.heard)


def paused(box: PlayedBox) -> str:
    return box.database.state.get("paused_because")


# --- another SIM, another modem


def test_another_sim_with_rows_waiting_pauses_and_shows_the_last_digits_of_both(
    box: PlayedBox,
) -> None:
    box.insert(ANA, "one")
    box.insert(BEN, "two", in_s=600)
    box.serve(60)
    assert box.texts() == ["one"]
    box.far.answers[b"AT+CCID\r"] = b"\r\n+CCID: 8901260000000004242\r\n\r\nOK\r\n"
    box.serve(1200)
    assert box.texts() == ["one"]
    assert "...4242" in paused(box)
    assert "...0017" in paused(box)
    box.database.state.set_key("paused_because", "")
    box.serve(1200)
    assert box.texts() == ["one", "two"]


def test_another_sim_in_an_empty_box_is_taken_as_it_is(box: PlayedBox) -> None:
    box.serve(30)
    box.far.answers[b"AT+CCID\r"] = b"\r\n+CCID: 8901260000000004242\r\n\r\nOK\r\n"
    box.serve(30)
    assert paused(box) == ""
    assert box.database.state.get("iccid") == "8901260000000004242"


def test_pin_is_given_once_over_restarts_after_a_refusal(box: PlayedBox) -> None:
    box.tables["modem"] = {"sim_pin": "1111"}
    box.far.answers[b"AT+CPIN?\r"] = b"\r\n+CPIN: SIM PIN\r\n\r\nOK\r\n"
    box.far.answers[b'AT+CPIN="1111"\r'] = b"\r\n+CME ERROR: 16\r\n"
    for _ in range(3):
        box.serve(120)
    assert heard(box, b"AT+CPIN=") == 1
    assert box.published[-1]["fault"] == smsbox.Fault.SIM.value
    box.tables["modem"] = {"sim_pin": "2222"}
    box.far.answers[b'AT+CPIN="2222"\r'] = b"\r\n+CME ERROR: 16\r\n"
    box.serve(120)
    assert heard(box, b"AT+CPIN=") == 2  # another PIN is another word


def test_pin_whose_answer_was_lost_with_the_daemon_is_not_given_again(box: PlayedBox) -> None:
    class Cut(BaseException):
        pass

    def cut() -> bytes:
        raise Cut

    box.tables["modem"] = {"sim_pin": "1111"}
    box.far.answers[b"AT+CPIN?\r"] = b"\r\n+CPIN: SIM PIN\r\n\r\nOK\r\n"
    box.far.tellers[b'AT+CPIN="1111"\r'] = cut
    with pytest.raises(Cut):
        box.serve(120)
    box.serve(120)
    assert heard(box, b"AT+CPIN=") == 1
    assert box.published[-1]["fault"] == smsbox.Fault.SIM.value


# --- refusals by class


@pytest.mark.parametrize("code", [8, 10, 29, 50, 69, 193, 330])
def test_refusal_of_the_account_pauses_at_once_and_resume_tries_its_row_first(
    box: PlayedBox, code: int
) -> None:
    first = box.insert(ANA, "one")
    box.insert(BEN, "two", in_s=300)
    box.far.script.append(f"\r\n+CMS ERROR: {code}\r\n".encode())
    box.serve(1200)
    assert box.texts() == []
    assert box.row(first)[0] == "scheduled"
    assert f"CMS {code} " in paused(box)
    assert box.wall.shown[-1].fault is smsbox.Fault.ACCOUNT
    for key in ("paused_because", "account_refused"):
        box.database.state.set_key(key, "")
    box.serve(1200)
    assert box.texts() == ["one", "two"]


def test_lte_that_may_not_carry_sms_is_named(box: PlayedBox) -> None:
    box.insert(ANA, "one")
    box.far.script.append(b"\r\n+CMS ERROR: 69\r\n")
    box.serve(60)
    assert "Simulated may not carry SMS over LTE" in paused(box)


def test_same_refusal_of_three_recipients_pauses_and_the_third_stays_scheduled(
    box: PlayedBox,
) -> None:
    numbers = (ANA, BEN, CHLOE, DAN)
    rows = [box.insert(number, "Hi", in_s=300 * n) for n, number in enumerate(numbers)]
    box.far.script.extend([b"\r\n+CMS ERROR: 28\r\n"] * 3)
    box.serve(2000)
    assert [box.row(row)[0] for row in rows] == ["failed", "failed", "scheduled", "scheduled"]
    assert box.row(rows[0])[1] == "CMS 28 unidentified subscriber"
    assert "3 recipients in a row" in paused(box)


def test_refusals_of_two_kinds_or_with_a_success_between_do_not_pause(box: PlayedBox) -> None:
    for n, number in enumerate((ANA, BEN, CHLOE, DAN)):
        box.insert(number, "Hi", in_s=300 * n)
    box.far.script.extend(
        [b"\r\n+CMS ERROR: 1\r\n", b"\r\n+CMS ERROR: 304\r\n", None, b"\r\n+CMS ERROR: 1\r\n"]
    )
    box.serve(2000)
    assert paused(box) == ""
    assert len(box.texts()) == 1


def test_passing_refusal_is_tried_again_after_the_waits_and_keeps_the_pace(box: PlayedBox) -> None:
    first = box.insert(ANA, "one")
    for n, number in enumerate((BEN, CHLOE, DAN), 1):
        box.insert(number, f"later {n}", in_s=300 * n)
    box.far.script.extend([b"\r\n+CMS ERROR: 41\r\n"] * 2)
    box.serve(6000)
    assert box.row(first)[0] == "sent"
    times = [time for time, _, _ in box.far.arrived]
    assert len(times) == 4
    # 240 s is the least interval; a retry comes in whole seconds.
    assert all((b - a).total_seconds() >= 239 for a, b in pairwise(times))


def test_passing_refusal_for_ever_ends_with_number_and_words(box: PlayedBox) -> None:
    row = box.insert(ANA, "one")
    box.far.script.extend([b"\r\n+CMS ERROR: 42\r\n"] * 4)
    box.serve(3000)
    assert box.row(row) == ("failed", "CMS 42 congestion")
    assert heard(box, b"AT+CMGS") == 4


def test_network_that_is_out_of_order_burns_no_attempt(box: PlayedBox) -> None:
    row = box.insert(ANA, "one")
    box.far.script.extend([b"\r\n+CMS ERROR: 38\r\n"] * 8)
    box.serve(1200)
    assert box.row(row, "status, attempts") == ("sent", 0)


# --- healing


def test_modem_that_blames_itself_three_times_is_reset_and_the_text_goes(box: PlayedBox) -> None:
    box.insert(ANA, "one")
    box.far.script.extend([b"\r\n+CMS ERROR: 500\r\n"] * 3)
    box.serve(3000)
    assert box.texts() == ["one"]
    assert heard(box, b"AT+CFUN=4") == 1
    assert box.published[-1]["resets"] == 1


def test_missing_network_resets_the_radio_and_then_the_modem_with_growing_waits(
    box: PlayedBox,
) -> None:
    for name in (b"CREG", b"CEREG", b"CGREG"):
        box.far.answers[b"AT+" + name + b"?\r"] = b"\r\n+" + name + b": 0,2\r\n\r\nOK\r\n"
    box.serve(500)
    assert heard(box, b"AT+CFUN=4") == 0
    box.serve(900)
    assert (heard(box, b"AT+CFUN=4"), heard(box, b"AT+CRESET")) == (1, 0)
    box.serve(3 * 3600)
    assert 1 <= heard(box, b"AT+CRESET") <= 4
    assert box.published[-1]["fault"] == smsbox.Fault.NO_NETWORK.value


def test_port_that_comes_back_after_an_hour_is_sent_through_within_ten_seconds(
    box: PlayedBox,
) -> None:
    box.insert(ANA, "one", in_s=20)
    box.insert(BEN, "two", in_s=4200)
    box.after(30, lambda: setattr(box.far, "gone", True))
    box.after(4205, lambda: setattr(box.far, "gone", False))
    box.serve(9000)
    assert box.texts() == ["one", "two"]
    assert box.far.arrived[1][0] <= at(10) + timedelta(seconds=4215)


@pytest.mark.parametrize(
    "words", [b"+CPIN: NOT INSERTED", b"+CPIN: NOT READY", b"+SIMCARD: NOT AVAILABLE"]
)
def test_sim_that_is_taken_out_is_noticed_and_back_again(box: PlayedBox, words: bytes) -> None:
    def out() -> None:
        box.far.answers[b"AT+CPIN?\r"] = b"\r\n+CME ERROR: 10\r\n"
        box.far.said += b"\r\n" + words + b"\r\n"

    box.insert(ANA, "one", in_s=200)
    box.after(60, out)
    box.after(150, lambda: box.far.answers.pop(b"AT+CPIN?\r"))
    box.serve(140)
    assert box.published[-1]["fault"] == smsbox.Fault.SIM.value
    box.serve(300)
    assert box.texts() == ["one"]


def test_low_voltage_is_told_once_and_stands_in_the_status(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(5):
        box.after(60 + n, lambda: setattr(box.far, "said", b"\r\nUNDER-VOLTAGE WARNNING\r\n"))
    box.serve(300)
    assert sum("supply voltage" in line for line in caplog.messages) == 1
    assert "supply voltage" in str(box.published[-1]["warnings"])


def test_weak_signal_is_told_once_and_forgotten_when_it_is_better(
    box: PlayedBox, caplog: pytest.LogCaptureFixture
) -> None:
    box.insert(ANA, "one", in_s=3000)
    box.far.answers[b"AT+CSQ\r"] = b"\r\n+CSQ: 2,99\r\n\r\nOK\r\n"
    box.serve(600)
    assert sum("signal is weak" in line for line in caplog.messages) == 1
    box.far.answers.pop(b"AT+CSQ\r")
    box.serve(200)
    assert box.published[-1]["warnings"] == []


def test_forgotten_notices_are_asked_for_again(box: PlayedBox) -> None:
    box.insert(ANA, "one", in_s=3000)
    box.serve(30)
    asked = heard(box, b"AT+CNMI=")
    box.after(30, lambda: box.far.answers.update(
        {b"AT+CNMI?\r": b"\r\n+CNMI: 2,0,0,0,0\r\n\r\nOK\r\n"}
    ))  # fmt: skip
    box.serve(200)
    assert heard(box, b"AT+CNMI=") > asked + 1


def test_million_random_bytes_between_two_commands_leave_the_modem_able_to_send(
    box: PlayedBox,
) -> None:
    noise = random.Random(5).randbytes(1_000_000)

    def make_noise() -> None:
        box.far.said += noise

    box.insert(ANA, "one", in_s=60)
    box.insert(BEN, "two", in_s=360)
    box.after(30, make_noise)
    box.after(330, make_noise)
    box.serve(1200)
    assert box.texts() == ["one", "two"]


# --- the search for the port, and the power key


class Uart:
    """A HAT that answers at one baud rate, once its key was pressed often enough."""

    def __init__(self, box: PlayedBox, baud: int, presses: int) -> None:
        self.box, self.baud, self.presses = box, baud, presses
        self.opened: list[int] = []
        self.pressed: list[float] = []

    def open(self, name: str, baud: int) -> smsbox.Port:
        self.opened.append(baud)
        answers = baud == self.baud and len(self.pressed) >= self.presses
        return self.box.far if answers else Silent(self.box)

    def press(self, pin: int) -> None:
        assert pin == 4
        self.pressed.append(self.box.play.monotonic())


class Silent:
    name = "silent"

    def __init__(self, box: PlayedBox) -> None:
        self._box = box

    def fileno(self) -> int:
        return self._box.far.fileno()

    def read(self) -> bytes:
        return b""

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass


def search(box: PlayedBox, uart: Uart, port: str, for_s: float) -> smsbox.Link:
    settings = smsbox.parse_config({"modem": {"port": port, "power_key_gpio": 4}}).modem
    around = smsbox.Surroundings(
        box.play, uart.open, box.manager, None, box.published.append, lambda: "", uart.press
    )
    link = smsbox.Link(settings, around, box.database)
    box.play.end_s = float("inf")
    end = box.play.monotonic() + for_s
    while box.play.monotonic() < end and not link.is_ready():
        link.tend(busy=True)
        box.play.until(max(link.wake_at, box.play.monotonic() + 0.1))
    return link


@pytest.fixture
def uart_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], str]:
    """A path that counts as a UART of the Pi."""
    real = Path("/dev/ttyS0")
    if not real.exists():
        pytest.skip("this machine has no UART whose name could be used")
    return lambda: str(real)


def test_uart_is_searched_at_all_baud_rates_before_the_key_is_pressed(
    box: PlayedBox, uart_port: Callable[[], str]
) -> None:
    uart = Uart(box, baud=9600, presses=1)
    search(box, uart, uart_port(), 600)
    assert len(uart.pressed) == 1
    first_round = uart.opened[: len(smsbox.BAUD_RATES)]
    assert sorted(first_round) == sorted(smsbox.BAUD_RATES)
    assert uart.opened[-1] == 9600


def test_power_key_is_pressed_once_a_minute_at_the_most(
    box: PlayedBox, uart_port: Callable[[], str]
) -> None:
    uart = Uart(box, baud=9600, presses=99)
    search(box, uart, uart_port(), 3600)
    assert len(uart.pressed) >= 3
    assert all(b - a >= 60 for a, b in pairwise(uart.pressed))


def test_usb_modem_gets_no_other_baud_rate_and_no_key(box: PlayedBox, tmp_path: Path) -> None:
    port = tmp_path / "ttyUSB2"
    port.touch()
    uart = Uart(box, baud=9600, presses=0)
    search(box, uart, str(port), 600)
    assert set(uart.opened) == {115200}
    assert uart.pressed == []


def test_unknown_adapter_beside_a_uart_that_is_silent_is_named_with_its_line(
    box: PlayedBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Pi's own UART is always there: a modem behind an FTDI or CH340 is found out as well."""
    monkeypatch.setattr(smsbox, "find_port", lambda wanted: "/dev/ttyS0")
    monkeypatch.setattr(smsbox, "is_uart", lambda name: name == "/dev/ttyS0")
    monkeypatch.setattr(smsbox, "_find_adapters", lambda sys_tty: ([], ["/dev/ttyUSB0"]))
    uart = Uart(box, baud=9600, presses=99)
    words = search(box, uart, "auto", 60).words
    assert "(/dev/ttyS0); /dev/ttyUSB0 is there and not known: if it is the modem, put" in words
    assert "/dev/ttyUSB0" not in search(box, uart, "/dev/ttyS0", 60).words  # it was named


# --- what only makes noise


def read_peak_mb(pid: int) -> float:
    told = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", told)[0]) / 1000


@pytest.mark.parametrize(
    "noise",
    [random.Random(3).randbytes(4096), b"x" * 4096, b'\r\n+CMTI: "SM",3\r\nOK\r\n' * 150],
    ids=["random", "one endless line", "notices"],
)
def test_device_that_babbles_at_full_speed_costs_little_and_a_stop_is_heard(
    tmp_path: Path, noise: bytes
) -> None:
    far, near = os.openpty()
    tty.setraw(near)
    os.set_blocking(far, False)
    config = tmp_path / "config.toml"
    config.write_text(
        f'[modem]\nport = "{os.ttyname(near)}"\n'
        f'[service]\ndatabase = "{tmp_path / "smsbox.db"}"\npoll_seconds = 0.5\n'
    )
    words = [sys.executable, smsbox.__file__, "--config", str(config), "run"]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as daemon:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            try:
                os.write(far, noise)
            except BlockingIOError:
                time.sleep(0.001)
        peak_mb = read_peak_mb(daemon.pid)
        daemon.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        while daemon.poll() is None and time.monotonic() < asked + 10:
            with suppress(BlockingIOError):
                os.write(far, noise)
            time.sleep(0.001)
        heard_s = time.monotonic() - asked
        daemon.kill()
    os.close(far)
    os.close(near)
    assert heard_s < 2.5  # 0.1 to 0.3 s where the machine has nothing else to do
    assert peak_mb < 64
