"""The check: what is wrong is named in one line with its mend, with the daemon and without."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import smsbox
from rig.paths import PROGRAM
from rig.process import LiveBox
from rig.pty_modem import Fault, PtyModem, wait_until


@pytest.fixture(scope="module")
def modem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PtyModem]:
    with PtyModem(tmp_path_factory.mktemp("modem")) as made:
        yield made


@pytest.fixture
def box(tmp_path: Path, modem: PtyModem) -> Iterator[LiveBox]:
    modem.begin_anew()
    made = LiveBox(tmp_path, modem)
    yield made
    for daemon in made.daemons:
        daemon.kill()


def check(box: LiveBox, *words: str, status: int) -> dict[str, list[str]]:
    """Give the lines of the check: name -> level and words."""
    done = box.call("check", *words, "--json", status=status)
    lines: dict[str, list[str]] = {}
    for fact in json.loads(done.stdout):
        lines.setdefault(fact["name"], []).append(f"{fact['level']}: {fact['words']}")
    return lines


def test_check_names_modem_sim_network_and_signal_without_the_daemon(box: LiveBox) -> None:
    lines = check(box, status=1)
    assert lines["modem"] == ["ok: SIMULATED SIM7600, IMEI ...0017"]
    assert lines["SIM"] == ["ok: ICCID ...0017"]
    assert lines["network"] == ["ok: Simulated LTE at home"]
    assert lines["signal"] == ["ok: -71 dBm"]
    assert lines["centre"] == ["ok: +12063130004"]
    (service,) = lines["service"]
    assert service.startswith("warning: ")
    assert "not running: " in service
    assert service.endswith(f"python3 {PROGRAM} run")


def test_check_tells_the_same_while_the_daemon_has_the_modem(box: LiveBox) -> None:
    box.start()
    status = box.database.with_name("box.db.status.json")
    wait_until(lambda: status.exists() and json.loads(status.read_text())["modem"] == "ready")
    heard = len(box.modem.heard())
    lines = check(box, status=0)
    assert lines["modem"][-1] == "ok: SIMULATED SIM7600, IMEI ...0017"
    assert lines["network"] == ["ok: Simulated LTE at home"]
    assert lines["service"][0].startswith("ok: running")
    assert lines["clock"] == ["ok: not watched: require_trust is false"]
    assert len(box.modem.heard()) == heard
    for words in (("--at",), ("--ussd", "*100#")):
        refused = box.call("check", *words, status=75)
        assert "has the modem: end it with Ctrl-C, then check again" in refused.stderr


def test_check_of_a_modem_that_is_not_there(box: LiveBox) -> None:
    box.settle(modem={"port": str(box.folder / "ttyNONE")})
    lines = check(box, status=2)
    assert lines["modem"] == [
        f"fault: {box.folder}/ttyNONE is not there: is the modem plugged in and powered?"
    ]


def test_check_of_a_busy_port_says_how_to_find_its_holder(box: LiveBox) -> None:
    holder = os.open(box.modem.path, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lines = check(box, status=2)
    finally:
        os.close(holder)
    port = box.modem.path
    assert (
        f"{port} is in use by another program: sudo fuser -v {port} names it" in lines["modem"][0]
    )


@contextmanager
def program(name: str, folder: Path, *files: int) -> Iterator[int]:
    """A real process of that name with some files open; its number."""
    shutil.copy("/bin/sleep", folder / name)
    running = subprocess.Popen([folder / name, "60"], pass_fds=files)
    try:
        yield running.pid
    finally:
        running.kill()
        running.wait()


@pytest.mark.parametrize("name", ["brltty", "ModemManager"])
def test_program_that_takes_modems_is_named_while_it_runs(box: LiveBox, name: str) -> None:
    assert "others" not in check(box, status=1)
    with program(name, box.folder):
        (line,) = check(box, status=1)["others"]
    assert line.startswith(f"warning: {name} is running; it takes ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_card_that_turned_read_only_is_a_fault(box: LiveBox) -> None:
    card = box.folder / "card"
    card.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", card], check=False)
    if mounted.returncode:
        pytest.skip("this machine mounts nothing")
    try:
        box.database = card / "box.db"
        smsbox.Database.create_or_open(str(box.database)).close()
        assert check(box, status=1)["disk"][0].startswith(("ok: ", "warning: "))
        subprocess.run(["mount", "-o", "remount,ro", card], check=True)
        assert check(box, status=2)["disk"] == [
            "fault: read-only: the card may be worn out, copy it and use a new one"
        ]
    finally:
        subprocess.run(["umount", card], check=True)


@pytest.mark.parametrize(
    ("line", "says", "named", "mend"),
    [
        (r"AT\+CPIN\?", b"\r\n+CPIN: SIM PUK\r\n\r\nOK\r\n", "PUK", "unlock it in a phone"),
        (r"AT\+CPIN\?", b"\r\n+CPIN: SIM PIN\r\n\r\nOK\r\n", "PIN", "sim_pin"),
        (r"AT\+C\w*REG\?", b"\r\n+CREG: 0,3\r\n\r\nOK\r\n", "denies", "ask its operator"),
        (r"AT\+C\w*REG\?", b"\r\n+CREG: 0,2\r\n\r\nOK\r\n", "not registered", "antenna"),
        (r"AT\+CSCA\?", b'\r\n+CSCA: "",129\r\n\r\nOK\r\n', "service centre", "smsc"),
    ],
)
def test_check_names_what_a_modem_lacks_with_its_mend(
    box: LiveBox, line: str, says: bytes, named: str, mend: str
) -> None:
    box.modem.misbehave(Fault(line, times=0, says=says))
    (words,) = check(box, status=2)["modem"]
    assert words.startswith("fault: ")
    assert named in words
    assert mend in words


def test_check_of_the_config_alone_touches_nothing(box: LiveBox) -> None:
    heard = len(box.modem.heard())
    assert list(check(box, "--config", status=0)) == ["config"]
    box.config.write_text("[modem]\nprot = 1\n")
    assert "did you mean port" in box.call("check", "--config", status=78).stderr
    assert len(box.modem.heard()) == heard
    assert not box.database.exists()


def test_dialogue_is_shown_and_hides_pin_and_texts(box: LiveBox) -> None:
    box.modem.begin_anew(pin="9876", deaf_to_ate0=True)
    box.settle(modem={"sim_pin": "9876", "port": str(box.modem.path)})
    box.call("list")
    smsbox.Database.create_or_open(str(box.database)).close()
    shown = box.call("check", "--at", status=1).stdout
    assert "AT> AT+CGMI" in shown
    assert 'AT+CPIN="****"' in shown
    assert "9876" not in shown


def test_balance_is_asked_of_the_network(box: LiveBox) -> None:
    lines = check(box, "--ussd", "*100#", status=1)
    assert lines["balance"] == ["ok: Your balance is 12.50 USD"]
    assert "write digits" in box.call("check", "--ussd", 'x";+CMGD=1', status=2).stderr


# --- the parts that this machine does not have


def test_ucs2_balance_is_read() -> None:
    assert smsbox.read_ussd("00320020006500750072", "72") == "2 eur"
    assert smsbox.read_ussd("2 eur", "15") == "2 eur"
    assert smsbox.read_ussd("odd", "72") == "odd"


@pytest.mark.parametrize(
    ("word", "seen"), [("0\n", False), ("50005\n", True), ("0x50000\n", True), ("80008\n", False)]
)
def test_low_voltage_mark_of_the_pi_is_read(tmp_path: Path, word: str, seen: bool) -> None:
    mark = tmp_path / "get_throttled"
    mark.write_text(word)
    assert smsbox.read_undervoltage(mark) is seen
    assert smsbox.read_undervoltage(tmp_path / "none") is None


def test_programs_that_take_ports_are_read_from_proc(tmp_path: Path) -> None:
    device = tmp_path / "ttyS0"
    for pid, command in (
        ("41", "ModemManager --filter"), ("42", "bash"), ("43", "agetty - tty1 linux"),
    ):  # fmt: skip
        folder = tmp_path / pid
        folder.mkdir()
        (folder / "comm").write_text(command.split()[0] + "\n")
        (folder / "cmdline").write_text(command.replace(" ", "\0") + "\0")
    assert smsbox.find_takers(str(device), tmp_path) == ["ModemManager"]
    (tmp_path / "43" / "cmdline").write_text("agetty\0-L\0ttyS0\0")
    assert smsbox.find_takers(str(device), tmp_path) == ["ModemManager", "agetty"]


def test_process_of_a_stranger_neither_ends_nor_burdens_the_look_at_them(tmp_path: Path) -> None:
    for pid, name in (("41", b"\xff\xfe\n"), ("42", b"agetty\n")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "comm").write_bytes(name)
        (tmp_path / pid / "cmdline").write_bytes(b"agetty\0ttyS0\0")
    with open(tmp_path / "42" / "cmdline", "r+b") as endless:
        endless.truncate(2**40)
    assert smsbox.find_takers(str(tmp_path / "ttyS0"), tmp_path) == ["agetty"]


def test_modem_manager_is_no_taker_where_udev_keeps_it_off(tmp_path: Path) -> None:
    folder = tmp_path / "41"
    folder.mkdir()
    (folder / "comm").write_text("ModemManager\n")
    (folder / "cmdline").write_text("ModemManager\0")
    device = os.stat("/dev/null").st_rdev
    mark = tmp_path / f"c{os.major(device)}:{os.minor(device)}"
    assert smsbox.find_takers("/dev/null", tmp_path, tmp_path) == ["ModemManager"]
    mark.write_text("I:1\nE:ID_MM_PORT_IGNORE=1\n")
    assert smsbox.find_takers("/dev/null", tmp_path, tmp_path) == []


@pytest.mark.parametrize(
    ("words", "is_told"),
    [("console=serial0,115200 console=tty1", True), ("console=tty1 root=/dev/mmcblk0p2", False)],
)
def test_console_of_the_kernel_on_a_uart_is_read(tmp_path: Path, words: str, is_told: bool) -> None:
    cmdline = tmp_path / "cmdline"
    cmdline.write_text(words + "\n")
    assert smsbox.has_console(cmdline) is is_told
    assert not smsbox.has_console(tmp_path / "none")


def test_zone_of_the_machine_is_told_only_where_it_is_another_one(tmp_path: Path) -> None:
    zones = tmp_path / "zoneinfo"
    (zones / "Asia").mkdir(parents=True)
    for name in ("UTC", "Asia/Tokyo", "Asia/Seoul", "Japan"):
        (zones / name).write_text(name if name != "Japan" else "Asia/Tokyo")
    local = tmp_path / "localtime"
    for machine, unlike in (
        ("Asia/Tokyo", ""), ("Japan", ""), ("UTC", ""), ("Asia/Seoul", "Asia/Seoul"),
    ):  # fmt: skip
        local.unlink(missing_ok=True)
        local.symlink_to(zones / machine)
        assert smsbox.find_unlike_zone("Asia/Tokyo", local, zones) == unlike
    assert smsbox.find_unlike_zone("Asia/Tokyo", tmp_path / "none", zones) == ""


def test_settings_that_a_config_does_not_mention_are_named() -> None:
    example = smsbox.render_example_config()
    assert smsbox.find_missing_settings(example) == []
    older = re.sub(r"(?m)^(# power_key_gpio|late_after_minutes) = .*\n", "", example)
    missing = ["[modem] power_key_gpio", "[service] late_after_minutes"]
    assert smsbox.find_missing_settings(older) == missing
    [told] = smsbox._tell_settings(older)
    assert told.level == "ok"
    assert ", ".join(missing) in told.words
    [told] = smsbox._tell_settings("[modem]\nport = 'sim:'\n")
    assert told.words.startswith("45 are not in the config")
    assert list(smsbox._tell_settings(example)) == []


@pytest.mark.parametrize("running", [[], ["systemd-timesyn"], ["bash", "chronyd"], ["ntpd"]])
def test_clock_that_nobody_sets_is_told(
    monkeypatch: pytest.MonkeyPatch, running: list[str]
) -> None:
    monkeypatch.setattr(smsbox, "read_processes", lambda: [(name, []) for name in running])
    monkeypatch.setattr(smsbox, "find_time_evidence", lambda sources: "")
    monkeypatch.setattr(smsbox, "find_unlike_zone", lambda zone: "")
    told = [fact.words for fact in smsbox._tell_time(smsbox.parse_config({}))]
    words = "nobody sets it: sudo timedatectl set-ntp true, or first sudo apt install"
    assert told == ([] if running else [f"{words} systemd-timesyncd"])
    for clock in ({"sources": ["ntp", "rtc"]}, {"require_trust": False}):
        assert list(smsbox._tell_time(smsbox.parse_config({"clock": clock}))) == []


def test_another_program_of_this_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, kannels, link = (tmp_path / name for name in ("ours", "sbin", "bin"))
    for folder in (kannels, link):
        folder.mkdir()
    monkeypatch.setattr(smsbox, "INSTALLED", ours)
    (kannels / "smsbox").touch()
    folders = [str(kannels), str(link)]
    assert smsbox.find_namesakes(folders) == []  # ours is not installed
    ours.touch()
    (link / "smsbox").symlink_to(ours)
    assert smsbox.find_namesakes(folders) == [kannels / "smsbox"]


def test_lasting_name_of_a_port_is_its_path_link(tmp_path: Path) -> None:
    device = tmp_path / "ttyUSB2"
    device.touch()
    links = tmp_path / "by-path"
    links.mkdir()
    (links / "usb-0:1.2-port0").symlink_to(device)
    assert smsbox.name_lastingly(str(device), links) == str(links / "usb-0:1.2-port0")
    assert smsbox.name_lastingly("/dev/ttyUSB9", links) == "/dev/ttyUSB9"


# --- lamps


def lamps(box: LiveBox, status: int = 0, factory: str = "mock", **pins: object) -> Any:
    box.settle()
    lines = [f"{name} = {pin}" for name, pin in pins.items()]
    box.config.write_text(box.config.read_text() + "\n".join(["[lamps]", *lines, ""]))
    os.environ["GPIOZERO_PIN_FACTORY"] = factory
    try:
        return box.call("check", "--lamps", "0.02", status=status)
    finally:
        del os.environ["GPIOZERO_PIN_FACTORY"]


def test_every_pattern_of_every_lamp_is_played_with_its_name(box: LiveBox) -> None:
    told = lamps(box, ready=17, sending=27, fault=22).stdout.splitlines()
    assert [line[:16].split() for line in told] == (
        [["ready", "pin", "17"]] * 4 + [["sending", "pin", "27"]] + [["fault", "pin", "22"]] * 8
    )
    assert told[0].endswith("starting")
    assert told[-1].endswith("something awaits a person")
    only_ready = lamps(box, ready=17).stdout.splitlines()
    assert len(only_ready) == 5
    assert only_ready[-1] == "ready    pin 17  a segment is with the modem"


def test_lamps_that_can_not_be_played_are_a_sentence(box: LiveBox) -> None:
    assert "no lamps are configured" in lamps(box, status=2).stderr
    wrong = lamps(box, status=75, ready=17, fault=17).stderr
    assert wrong.startswith("smsbox: [lamps] fault = 17: the pin can't be used (")
    assert "the pin can't be used" in lamps(box, status=75, factory="none-such", ready=17).stderr
    box.start()
    wait_until(box.database.with_name("box.db.status.json").exists)
    assert "has the lamps: end it with Ctrl-C" in lamps(box, status=75, ready=17).stderr


def test_status_tells_that_the_config_is_newer_than_what_the_daemon_runs_by(box: LiveBox) -> None:
    box.settle()
    box.start()
    published = box.database.with_name("box.db.status.json")
    wait_until(lambda: published.exists() and json.loads(published.read_text())["modem"] == "ready")
    assert '"config"' not in box.call("status", "--json").stdout
    os.utime(box.config, (1, 1))
    told = box.call("status", status=1).stdout
    changed = (
        f"{box.config} has changed since smsbox read it: end it with Ctrl-C and start it again"
    )
    assert f"warning  config     {changed}\n" in told
    box.config.unlink()
    assert "config  " not in box.call("--config", os.devnull, "status").stdout
