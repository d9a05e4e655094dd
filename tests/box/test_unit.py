"""smsbox.service: what must never get lost in it, and what systemd thinks of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rig.paths import ROOT

UNIT = ROOT / "smsbox.service"


def read_directives() -> dict[str, list[str]]:
    """Directive -> its values, in order; comments and sections are left out."""
    directives: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            name, value = line.split("=", 1)
            directives.setdefault(name, []).append(value)
    return directives


def test_unit_opens_a_modem_that_is_found_after_the_service_started() -> None:
    directives = read_directives()
    assert directives["DevicePolicy"] == ["closed"]
    allowed = {value.removesuffix(" rw") for value in directives["DeviceAllow"]}
    assert allowed == {
        *("char-ttyUSB", "char-188", "char-ttyACM", "char-166"),
        *("char-ttyAMA", "char-ttyS", "char-gpiochip"),
    }
    for order in ("Wants", "After"):
        assert "modprobe@usbserial.service" in directives[order][0]
        assert "modprobe@cdc_acm.service" in directives[order][0]
    assert "PrivateDevices" not in directives


def test_unit_lets_a_stop_wait_for_the_segment_under_way() -> None:
    directives = read_directives()
    # 120 s for the result, 60 s of listening on.
    assert int(directives["TimeoutStopSec"][0]) > 180
    assert directives["KillMode"] == ["mixed"]


def test_unit_names_no_group_that_a_system_may_lack() -> None:
    assert read_directives()["SupplementaryGroups"] == ["dialout"]


def test_unit_has_no_network_and_may_read_but_not_set_the_clock() -> None:
    directives = read_directives()
    assert directives["PrivateNetwork"] == ["yes"]
    assert directives["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert directives["CapabilityBoundingSet"] == [""]
    assert "ProtectClock" not in directives
    assert directives["SystemCallFilter"][-1] == "adjtimex clock_adjtime clock_adjtime64"


def test_unit_never_gives_up_but_on_a_bad_config() -> None:
    directives = read_directives()
    assert directives["Type"] == ["notify"]
    assert directives["Restart"] == ["always"]
    assert directives["StartLimitIntervalSec"] == ["0"]
    assert directives["RestartPreventExitStatus"] == ["78"]
    assert directives["WatchdogSec"] == ["180"]


def test_unit_waits_neither_for_the_internet_nor_for_a_modem() -> None:
    directives = read_directives()
    for name in ("After", "Wants"):
        for word in ("time-sync.target", "network-online.target", "dev-", "systemd-udev-settle"):
            assert word not in directives[name][0]
    assert not {"Requires", "BindsTo", "Requisite"} & set(directives)


def test_unit_shares_its_folders_with_the_command_line() -> None:
    directives = read_directives()
    assert directives["ExecStart"] == ["/usr/bin/smsbox run"]
    assert directives["User"] == directives["Group"] == ["smsbox"]
    assert directives["StateDirectory"] == ["smsbox"]
    assert directives["StateDirectoryMode"] == ["2770"]
    assert directives["UMask"] == ["0007"]
    assert directives["RuntimeDirectory"] == ["smsbox"]
    assert directives["RuntimeDirectoryMode"] == ["0755"]


def test_unit_lets_gpio_work() -> None:
    directives = read_directives()
    assert directives["WorkingDirectory"] == ["/run/smsbox"]
    assert "LG_WD=/run/smsbox" in directives["Environment"][0]
    assert directives["ProcSubset"] == ["all"]


def test_unit_brings_the_pin_from_a_file_and_starts_without_one() -> None:
    directives = read_directives()
    [(name, source)] = [value.split(":") for value in directives["LoadCredential"]]
    [(stand_in, value)] = [value.split(":") for value in directives["SetCredential"]]
    assert source == "/etc/smsbox/sim.pin"
    assert name == stand_in == "sim_pin"
    # systemd takes no empty one; an empty line is no PIN.
    assert value == r"\n"


# --- what systemd thinks of it


@pytest.fixture
def analyze(tmp_path: Path) -> Callable[..., str]:
    if not shutil.which("systemd-analyze"):
        pytest.skip("this machine has no systemd")
    # The launcher is not on this machine, so another program stands in for it.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/smsbox run", "/bin/true"))

    def analyze(*words: str) -> str:
        done = subprocess.run(
            ["systemd-analyze", *words, str(unit)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout if "--json=short" in words else done.stdout + done.stderr

    return analyze


def test_systemd_understands_every_line_of_the_unit(analyze: Callable[..., str]) -> None:
    assert UNIT.name not in analyze("verify", "--man=no")  # the page is not on this machine


def test_systemd_finds_the_unit_well_shut(analyze: Callable[..., str]) -> None:
    said = analyze("security", "--offline=true", "--threshold=12", "--no-pager")
    [score] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert float(score) <= 1.0


def test_each_thing_that_systemd_would_rather_see_shut_has_a_comment(
    analyze: Callable[..., str],
) -> None:
    facts = json.loads(analyze("security", "--offline=true", "--json=short"))
    open_ones = {fact["name"] for fact in facts if fact["exposure"]}
    assert len(open_ones) > 5
    comments = "".join(line for line in UNIT.read_text().splitlines() if line.startswith("#"))
    words = {word for name in open_ones for word in re.findall(r"[@\w]+", name)}
    assert {word for word in words if word not in comments} == set()
