"""What the scenarios share: the image, the system that install.sh made of it, a box, the log."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from box.boot.appliance import (
    SETTINGS,
    SOURCE,
    Appliance,
    Installed,
    Saw,
    lay_sources,
    lay_version_1,
    measure,
    render,
)
from box.boot.machine import MARK, Image, Machine, build_image, copy_root, discard_root
from rig.pty_modem import PtyModem

_SEEN = pytest.StashKey[list[str]]()
_NOTED = pytest.StashKey[list[str]]()
_BENEATH = "\n" + " " * 18


# --- the log: a line a scenario, with what was seen


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Saw:
    """Say what was seen; it stands behind the scenario's line."""
    seen: list[str] = request.node.stash.setdefault(_SEEN, [])
    return seen.append


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Saw:
    """Put a longer text into the log, for the one who reads it there."""
    noted: list[str] = request.node.stash.setdefault(_NOTED, [])
    return noted.append


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" or report.failed:
        words = item.name.removeprefix("test_").replace("_", " ")
        mark = {"passed": "ok", "failed": "FAILED"}.get(report.outcome, "KNOWN")
        line = f"{mark:6} {report.duration:5.1f} s   {words}"
        write_line(item.config, _BENEATH.join((line, *item.stash.get(_SEEN, []))))
        texts = [*item.stash.get(_NOTED, []), report.longreprtext]
        write_log("".join(textwrap.indent(f"{each.strip()}\n", " " * 18) for each in texts if each))
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """No dots: each scenario has its line."""
    return (report.outcome, "", report.outcome.upper()) if report.when == "call" else None


def write_line(config: pytest.Config, line: str) -> None:
    """Write to the terminal and to the log."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    reporter.ensure_newline()
    reporter.write_line(line)
    write_log(line + "\n")


def write_log(text: str) -> None:
    with open(os.environ["SMSBOX_BOOT_LOG"], "a", encoding="utf-8") as log:
        log.write(text)


# --- the image, and what install.sh makes of it


@pytest.fixture(scope="session")
def work() -> Path:
    """The folder of this run, on the file system of the images."""
    return Path(os.environ["SMSBOX_BOOT_WORK"])


@pytest.fixture(scope="session")
def image() -> Image:
    release = os.environ["SMSBOX_BOOT_RELEASE"]
    return build_image(release, Path(os.environ["SMSBOX_BOOT_CACHE"]))


@pytest.fixture(scope="session")
def installed(image: Image, work: Path) -> Installed:
    """Install on a fresh system, as a person does it, and switch that off."""
    machine = Machine(copy_root(image.root, work / "installed"))
    booted_s = machine.power_on(packages=image.archives)
    lay_sources(machine)
    dry_run = machine.run("sh", f"{SOURCE}/install.sh", "--dry-run", user="pi")
    before, size = machine.packages(), measure(machine)
    began = time.monotonic()
    said = machine.run("sudo", "sh", f"{SOURCE}/install.sh", user="pi")
    made = Installed(
        root=machine.root,
        dry_run=dry_run,
        said=said,
        image_s=image.built_in_s,
        took_s=time.monotonic() - began,
        booted_s=booted_s,
        state=machine.run("systemctl", "is-active", "smsbox", status=None).strip(),
        packages=sorted(machine.packages() - before),
        megabytes=measure(machine) - size,
    )
    settle_in(machine)
    return made


@pytest.fixture(scope="session")
def version_1(image: Image, work: Path) -> Path:
    """A system on which version 1 was installed, by its own install.sh; switched off."""
    machine = Machine(copy_root(image.root, work / "version1"))
    machine.power_on(packages=image.archives)
    lay_version_1(machine)
    machine.run("sudo", "sh", f"{SOURCE}/install.sh", user="pi")
    settle_in(machine)
    return machine.root


def settle_in(machine: Machine) -> None:
    """Make it the box of its operator, and switch it off."""
    machine.sh("usermod -a -G smsbox,dialout pi; useradd --create-home visitor")
    # The mark by which systemd-timesyncd vouches for the time: not every build machine reaches a
    # time server, and so [clock] keeps its defaults.
    machine.write(MARK, "f+ /run/systemd/timesync/synchronized\n")
    machine.write("/etc/smsbox/config.toml", render(SETTINGS))
    machine.hurry(2)
    machine.shut_down()


# --- a box


@pytest.fixture
def off_box(
    installed: Installed, work: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Appliance]:
    """A box that is installed and not yet switched on."""
    yield from make_box(installed.root, work, tmp_path, request)


@pytest.fixture
def old_box(
    version_1: Path, work: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Appliance]:
    """A box on which version 1 runs, with the folder of this one in its user's home."""
    for box in make_box(version_1, work, tmp_path, request):
        lay_sources(box)
        box.power_on()
        box.await_ready()
        yield box


def make_box(
    installed: Path, work: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Appliance]:
    """Make a box of a system, with a modem; it is off."""
    root = copy_root(installed, work / "box")
    failures = request.session.testsfailed
    with PtyModem(tmp_path) as modem:
        made = Appliance(root, modem)
        yield made
        if made.is_on():
            if request.session.testsfailed > failures:
                print(made.journal("--lines=60"))
            made.cut_power()
    discard_root(root)


@pytest.fixture
def box(off_box: Appliance) -> Appliance:
    """A box that runs."""
    off_box.power_on()
    off_box.await_ready()
    return off_box
