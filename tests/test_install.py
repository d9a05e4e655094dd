"""install.sh: what is laid down where, by hand-made folders and by whole runs in a root of its own."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
INSTALLER = TOP / "install.sh"
UNIT = TOP / "smsbox.service"

STAND_IN = """\
import sys

VERSION = "1.0"


def main():
    if "completion" in sys.argv:
        print("complete -W 'schedule run' smsbox")
        return 0
    print("stand-in", *sys.argv[1:])
    return 3


if __name__ == "__main__":
    sys.exit(main())
"""

PROGRAM = "usr/local/lib/smsbox/smsbox.py"
LAUNCHER = "usr/local/bin/smsbox"
CONFIG = "etc/smsbox/config.toml"
EXAMPLE = "usr/local/lib/smsbox/config.example.toml"
COMPLETION = "usr/local/share/bash-completion/completions/smsbox"
RULE = "etc/udev/rules.d/70-smsbox-modem.rules"
INSTALLED_UNIT = "etc/systemd/system/smsbox.service"

# Commands that change a machine. In these tests they only write down that they were called.
CHANGING = (
    *("apt-get", "groupadd", "useradd", "usermod", "userdel"),
    *("chown", "raspi-config", "sync", "systemctl", "udevadm"),
)


class Box:
    """A copy of the sources with a stand-in for the program, a stage, and harmless commands."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        self.stage = folder / "stage"
        self.calls_file = folder / "calls"
        self.commands = folder / "commands"
        self.source.mkdir()
        self.commands.mkdir()
        shutil.copy(INSTALLER, self.source)
        shutil.copy(UNIT, self.source)
        (self.source / "smsbox.py").write_text(STAND_IN)
        (self.source / "config.example.toml").write_text("# every setting is optional\n")
        for name in CHANGING:
            self.add_command(name, f'echo "{name} $*" >>"{self.calls_file}"')

    def add_command(self, name: str, body: str) -> None:
        """Puts a shell script before the machine's own command of that name."""
        command = self.commands / name
        command.write_text(f"#!/bin/sh\n{body}\n")
        command.chmod(0o755)

    def run(self, *arguments: str, staging: bool, umask: int = 0o022) -> tuple[int, str]:
        """Exit status and everything said."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("DESTDIR", "PYTHONPATH", "SUDO_USER")
        }
        environment["PATH"] = f"{self.commands}:{environment['PATH']}"
        if staging:
            environment["DESTDIR"] = str(self.stage)
        finished = subprocess.run(
            ["sh", "install.sh", *arguments],
            cwd=self.source,
            env=environment,
            umask=umask,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return finished.returncode, finished.stdout

    def install(self) -> str:
        """Lays the files below the stage."""
        status, said = self.run(staging=True)
        assert status == 0, said
        return said

    def changes(self) -> list[str]:
        """The changing commands that were called; asking whether a service runs is none."""
        if not self.calls_file.exists():
            return []
        calls = self.calls_file.read_text().splitlines()
        return [call for call in calls if not call.startswith("systemctl is-active")]

    def mode(self, path: str) -> int:
        return stat.S_IMODE((self.stage / path).stat().st_mode)

    def files(self) -> dict[str, tuple[int, int, bytes]]:
        """Path below the stage -> mode, time of the last change, content."""
        return {
            str(path.relative_to(self.stage)): (
                path.stat().st_mode,
                path.stat().st_mtime_ns,
                path.read_bytes(),
            )
            for path in self.stage.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


# --- install.sh: its form ---------------------------------------------------------------------


def test_shellcheck_finds_nothing_in_the_installer() -> None:
    assert shutil.which("shellcheck"), "shellcheck is missing: apt-get install shellcheck"
    finished = subprocess.run(
        ["shellcheck", str(INSTALLER)], stdout=subprocess.PIPE, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout


def test_installer_is_executable_and_does_nothing_before_it_is_read_to_the_end() -> None:
    lines = INSTALLER.read_text().splitlines()
    assert os.access(INSTALLER, os.X_OK)
    assert lines[0] == "#!/bin/sh"
    assert "set -eu" in lines
    assert lines[-1] == 'main "$@"'


def test_lines_of_installer_and_unit_keep_to_a_hundred_columns() -> None:
    for file in (INSTALLER, UNIT):
        assert [line for line in file.read_text().splitlines() if len(line) > 100] == []


def test_functions_of_the_installer_are_short() -> None:
    bodies = re.findall(r"(?ms)^(\w+)\(\) \{\n(.*?)^\}", INSTALLER.read_text())
    longest = {name: len(body.splitlines()) for name, body in bodies if "cat <<" not in body}
    # These two hold a Python script and the names of all that is laid down.
    del longest["handle_database"], longest["main"]
    assert max(longest.values()) <= 40, max(longest, key=lambda name: longest[name])


def test_help_names_every_option(box: Box) -> None:
    status, said = box.run("--help", staging=False)
    assert status == 0
    for word in ("--dry-run", "--no-start", "--uninstall", "--purge", "--help", "DESTDIR"):
        assert word in said
    assert box.changes() == []


def test_unknown_option_is_a_usage_error_and_changes_nothing(box: Box) -> None:
    status, said = box.run("--frobnicate", staging=True)
    assert status == 2
    assert "--frobnicate" in said
    assert not box.stage.exists()


def test_without_root_the_exact_sudo_line_is_given(box: Box) -> None:
    box.add_command("id", "echo 1000")
    status, said = box.run("--no-start", staging=False)
    assert status == 1
    assert "sudo sh install.sh --no-start" in said
    assert box.changes() == []


def test_boot_files_and_the_systems_own_modules_are_left_alone() -> None:
    text = INSTALLER.read_text()
    for word in ("cmdline.txt", "config.txt", "break-system", "apt-get upgrade", "apt-get autoremove"):
        assert word not in text
    for line in text.splitlines():
        if "apt-get remove" in line:
            assert line.strip().startswith('"sudo apt-get remove'), line  # told, not done
        if "raspi-config" in line:
            assert line.strip().startswith(("say ", "if have raspi-config")), line
        if "-m pip" in line:
            assert '"$venv/bin/python"' in line, line


def test_packages_come_without_recommended_ones() -> None:
    text = INSTALLER.read_text().replace("\\\n", " ")
    installs = re.findall(r"^.*apt-get -o .*\binstall\b.*$", text, re.MULTILINE)
    assert installs
    assert all("--no-install-recommends" in line for line in installs)


def test_pinned_versions_are_those_that_the_program_asks_for() -> None:
    pinned = dict(re.findall(r"\b(\w+)==([0-9][0-9.a-z]*)", INSTALLER.read_text()))
    asked = dict(re.findall(r'^# +"(\w+)>=([0-9.]+)', (TOP / "smsbox.py").read_text(), re.M))
    assert set(pinned) == set(asked)
    for name, version in pinned.items():
        least, given = (
            [int(part) for part in re.findall(r"\d+", text)] for text in (asked[name], version)
        )
        assert given >= least, name


# --- install.sh: dry run ----------------------------------------------------------------------


def test_dry_run_of_staging_creates_nothing(box: Box) -> None:
    status, said = box.run("--dry-run", staging=True)
    assert status == 0, said
    assert not box.stage.exists()
    for path in (PROGRAM, LAUNCHER, CONFIG, RULE, INSTALLED_UNIT):
        assert str(box.stage / path) in said


def test_dry_run_on_the_machine_needs_no_root_and_calls_nothing_that_changes_it(box: Box) -> None:
    box.add_command("id", '[ "$1" != -u ] || [ $# -gt 1 ] || echo 1000')
    targets = [Path("/", path) for path in (PROGRAM, LAUNCHER, CONFIG, RULE, INSTALLED_UNIT)]
    before = [target.exists() for target in targets]
    status, said = box.run("--dry-run", staging=False)
    assert status == 0, said
    assert [target.exists() for target in targets] == before
    assert box.changes() == []
    for target in targets:
        assert str(target) in said
    assert "would run: usermod -a -G dialout smsbox" in said
    assert "would run: install -d -m 2770 -o smsbox -g smsbox /var/lib/smsbox" in said
    assert "compileall -q /usr/local/lib/smsbox" in said


def test_dry_run_of_uninstalling_removes_nothing(box: Box) -> None:
    box.install()
    before = box.files()
    status, said = box.run("--dry-run", "--uninstall", staging=True)
    assert status == 0, said
    assert "would run: rm" in said
    assert box.files() == before


# --- install.sh: staging ----------------------------------------------------------------------


def test_staging_lays_down_every_file_and_no_other(box: Box) -> None:
    box.install()
    files = set(box.files())
    compiled = {path for path in files if path.endswith(".pyc")}
    assert len(compiled) == 1
    laid = {PROGRAM, LAUNCHER, CONFIG, EXAMPLE, COMPLETION, RULE, INSTALLED_UNIT}
    assert files - compiled == laid


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_modes_are_right_whatever_the_umask_is(box: Box, umask: int) -> None:
    status, said = box.run(staging=True, umask=umask)
    assert status == 0, said
    assert box.mode(PROGRAM) == 0o644
    assert box.mode(LAUNCHER) == 0o755
    assert box.mode("etc/smsbox") == 0o755
    assert box.mode(CONFIG) == 0o640
    assert box.mode("var/lib/smsbox") == 0o2770
    assert box.mode(EXAMPLE) == box.mode(COMPLETION) == 0o644
    assert box.mode(RULE) == 0o644
    assert box.mode(INSTALLED_UNIT) == 0o644
    assert box.mode("usr/local/lib/smsbox") == 0o755
    assert box.mode("usr/local/lib/smsbox/__pycache__") == 0o755


def test_staging_touches_neither_packages_nor_users_nor_the_service(box: Box) -> None:
    box.install()
    assert box.changes() == []


def test_installing_twice_is_installing_once(box: Box) -> None:
    box.install()
    before = box.files()
    box.install()
    assert box.files() == before


def test_upgrade_replaces_the_program_and_keeps_an_edited_config(box: Box) -> None:
    box.install()
    edited = "[pacing]\ninterval_minutes = [5, 6]\n"
    (box.stage / CONFIG).write_text(edited)
    (box.source / "smsbox.py").write_text(STAND_IN + "# newer\n")
    box.install()
    assert (box.stage / CONFIG).read_text() == edited
    assert (box.stage / PROGRAM).read_text().endswith("# newer\n")


def test_missing_source_is_named(box: Box) -> None:
    (box.source / "smsbox.service").unlink()
    status, said = box.run(staging=True)
    assert status == 1
    assert "smsbox.service is missing" in said
    assert not box.stage.exists()


def test_damaged_program_is_refused_before_anything_is_laid_down(box: Box) -> None:
    (box.source / "smsbox.py").write_text("def main(:\n")
    status, said = box.run(staging=True)
    assert status == 1
    assert "is damaged" in said
    assert "Traceback" not in said
    assert not box.stage.exists()


def test_kannels_smsbox_is_noticed_and_left_alone(box: Box) -> None:
    other = box.stage / "usr/sbin/smsbox"
    other.parent.mkdir(parents=True)
    other.write_text("kannel")
    assert "Kannel" in box.install()
    assert other.read_text() == "kannel"


def test_another_program_in_the_launchers_place_is_not_overwritten(box: Box) -> None:
    launcher = box.stage / LAUNCHER
    launcher.parent.mkdir(parents=True)
    launcher.write_text("another program")
    status, said = box.run(staging=True)
    assert status == 1
    assert "another program" in said
    assert launcher.read_text() == "another program"


def test_uninstalling_keeps_config_and_data_and_can_be_repeated(box: Box) -> None:
    box.install()
    database = box.stage / "var/lib/smsbox/smsbox.db"
    database.write_text("data")
    for _ in range(2):
        status, said = box.run("--uninstall", staging=True)
        assert status == 0, said
        assert set(box.files()) == {CONFIG, "var/lib/smsbox/smsbox.db"}


# --- the launcher -----------------------------------------------------------------------------


def test_launcher_runs_the_installed_program_and_hands_on_its_exit_status(box: Box) -> None:
    box.install()
    text = (box.stage / LAUNCHER).read_text()
    assert text.startswith("#!/usr/bin/python3 -I\n")
    assert '"/usr/local/lib/smsbox"' in text
    launcher = box.stage / "launcher"
    launcher.write_text(text.replace("/usr/local/lib/smsbox", f"{box.stage}/usr/local/lib/smsbox"))
    finished = subprocess.run(
        [sys.executable, "-I", str(launcher), "--help"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert finished.stdout == "stand-in --help\n"
    assert finished.returncode == 3


# --- the udev rule ----------------------------------------------------------------------------


def test_udev_rule_names_the_at_port_of_each_modem_family(box: Box) -> None:
    box.install()
    rule = (box.stage / RULE).read_text().replace("\\\n", " ")
    links = [line for line in rule.splitlines() if 'SYMLINK+="smsbox-modem"' in line]
    ports = [re.findall(r'(?:idVendor|idProduct|INTERFACE_NUM)\}=="(\w+)"', line) for line in links]
    assert ports == [["1e0e", "9001", "02"], ["1e0e", "9011", "04"], ["2c7c", "02"]]


def test_udev_rule_keeps_modem_manager_off_our_modems_only(box: Box) -> None:
    box.install()
    rule = (box.stage / RULE).read_text().replace("\\\n", " ")
    ignoring = [line for line in rule.splitlines() if "ID_MM_" in line]
    assert any("ID_MM_DEVICE_IGNORE" in line for line in ignoring)
    assert any("ID_MM_PORT_IGNORE" in line for line in ignoring)
    assert all('=="1e0e|2c7c"' in line for line in ignoring)
