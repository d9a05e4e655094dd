"""install.sh and smsbox.service: what is laid down where, and what must never get lost in them."""

from __future__ import annotations

import os
import pty
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

import smsbox
from rig.paths import ROOT

INSTALLER = ROOT / "install.sh"
UNIT = ROOT / "smsbox.service"

STAND_IN = """\
import sys

VERSION = "1.0.0"


def main():
    print("stand-in", *sys.argv[1:])
    return 3


def render_completion():
    return "# completion of " + VERSION + "\\n"


if __name__ == "__main__":
    sys.exit(main() and 0)
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
    *("apt-get", "groupadd", "groupdel", "useradd", "usermod", "userdel"),
    *("chown", "raspi-config", "sync", "systemctl", "udevadm"),
)


class Rehearsal:
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

    def run(
        self, *arguments: str, staging: bool, umask: int = 0o022, terminal: str = ""
    ) -> tuple[int, str]:
        """Exit status and everything said; `terminal` is typed there."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("DESTDIR", "PYTHONPATH", "SUDO_USER")
        }
        environment["PATH"] = f"{self.commands}:{environment['PATH']}"
        if staging:
            environment["DESTDIR"] = str(self.stage)
        keyboard, typed = pty.openpty()
        os.write(keyboard, terminal.encode())
        finished = subprocess.run(
            ["sh", "install.sh", *arguments],
            cwd=self.source,
            env=environment,
            umask=umask,
            stdin=typed if terminal else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        os.close(keyboard)
        os.close(typed)
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
def box(tmp_path: Path) -> Rehearsal:
    return Rehearsal(tmp_path)


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
    longest = {name: len(body.splitlines()) for name, body in bodies}
    del longest["handle_database"]  # it holds a Python script
    assert max(longest.values()) <= 40, max(longest, key=lambda name: longest[name])


def test_pinned_versions_are_those_that_the_program_asks_for() -> None:
    pinned = dict(re.findall(r"\b(\w+)==([0-9][0-9.a-z]*)", INSTALLER.read_text()))
    asked = dict(
        re.findall(r'^# +"(\w+)>=([0-9.]+)', (ROOT / "smsbox.py").read_text(), re.MULTILINE)
    )
    assert set(pinned) == set(asked)
    for name, version in pinned.items():
        least, given = (
            [int(part) for part in re.findall(r"\d+", text)] for text in (asked[name], version)
        )
        assert given >= least, name


def test_help_names_every_option(box: Rehearsal) -> None:
    status, said = box.run("--help", staging=False)
    assert status == 0
    words = re.findall(r"^ {12}(--[a-z-]+)(?: \| -h)?\)", INSTALLER.read_text(), re.MULTILINE)
    assert len(words) == 6
    for word in (*words, "DESTDIR"):
        assert word in said
    assert box.changes() == []


def test_unknown_option_is_a_usage_error_and_changes_nothing(box: Rehearsal) -> None:
    status, said = box.run("--frobnicate", staging=True)
    assert status == 2
    assert "--frobnicate" in said
    assert not box.stage.exists()


def test_without_root_the_exact_sudo_line_is_given(box: Rehearsal) -> None:
    box.add_command("id", "echo 1000")
    status, said = box.run("--no-start", staging=False)
    assert status == 1
    assert "sudo sh install.sh --no-start" in said
    assert box.changes() == []


def test_boot_files_and_the_systems_own_python_are_left_alone() -> None:
    text = INSTALLER.read_text()
    for word in ("cmdline.txt", "/config.txt", "break-system-packages", "apt-get upgrade"):
        assert word not in text
    for line in text.splitlines():
        # What changes boot files or takes packages away is told, never done.
        if "raspi-config nonint" in line or "apt-get remove" in line:
            assert re.match(r' +(say )?"', line), line
        if " pip " in line or "pip install" in line:
            assert '"$venv/bin/python"' in line or "by pip" in line, line


def test_packages_come_without_recommended_ones() -> None:
    text = INSTALLER.read_text().replace("\\\n", " ")
    [install] = re.findall(r"^.*apt-get .*\binstall -y.*$", text, re.MULTILINE)
    assert "--no-install-recommends" in install


# --- install.sh: dry run ----------------------------------------------------------------------


def test_dry_run_of_staging_creates_nothing(box: Rehearsal) -> None:
    status, said = box.run("--dry-run", staging=True)
    assert status == 0, said
    assert not box.stage.exists()
    for path in (PROGRAM, LAUNCHER, CONFIG, RULE, INSTALLED_UNIT):
        assert str(box.stage / path) in said


def test_dry_run_on_the_machine_needs_no_root_and_calls_nothing_that_changes_it(
    box: Rehearsal,
) -> None:
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
    assert "would run: chown smsbox:smsbox /var/lib/smsbox" in said
    assert "would run: chmod 2770 /var/lib/smsbox" in said
    assert "compileall -q /usr/local/lib/smsbox" in said


def test_dry_run_of_uninstalling_removes_nothing(box: Rehearsal) -> None:
    box.install()
    before = box.files()
    status, said = box.run("--dry-run", "--uninstall", staging=True)
    assert status == 0, said
    assert "would run: rm" in said
    assert box.files() == before


# --- install.sh: staging ----------------------------------------------------------------------


def test_staging_lays_down_every_file_and_no_other(box: Rehearsal) -> None:
    box.install()
    files = set(box.files())
    compiled = {path for path in files if path.endswith(".pyc")}
    assert len(compiled) == 1
    assert files - compiled == {
        *(PROGRAM, EXAMPLE, LAUNCHER, COMPLETION),
        *(CONFIG, RULE, INSTALLED_UNIT),
    }
    assert (box.stage / COMPLETION).read_text() == "# completion of 1.0.0\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("smsbox st", "status"), ("smsbox list --cam", "--campaign"),
     ("smsbox --database a.db report --ht", "--html")],
)  # fmt: skip
def test_bash_completes_by_what_is_laid_down_of_the_real_program(
    box: Rehearsal, typed: str, offered: str
) -> None:
    shutil.copy(ROOT / "smsbox.py", box.source)
    box.install()
    words = typed.split()
    told = subprocess.run(
        ["bash", "--norc", "-c", f'. "$1"; shift; COMP_WORDS=("$@") COMP_CWORD={len(words) - 1};'
         ' _smsbox; echo "${COMPREPLY[*]}"', "-", str(box.stage / COMPLETION), *words],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.split() == offered.split(), told


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_modes_are_right_whatever_the_umask_is(box: Rehearsal, umask: int) -> None:
    status, said = box.run(staging=True, umask=umask)
    assert status == 0, said
    assert box.mode(PROGRAM) == 0o644
    assert box.mode(LAUNCHER) == 0o755
    assert box.mode("etc/smsbox") == 0o755
    assert box.mode(CONFIG) == 0o640
    assert box.mode("var/lib/smsbox") == 0o2770
    assert box.mode(RULE) == 0o644
    assert box.mode(INSTALLED_UNIT) == 0o644
    assert box.mode("usr/local/lib/smsbox") == 0o755
    assert box.mode("usr/local/lib/smsbox/__pycache__") == 0o755


def test_staging_touches_neither_packages_nor_users_nor_the_service(box: Rehearsal) -> None:
    box.install()
    assert box.changes() == []


def test_installing_twice_is_installing_once(box: Rehearsal) -> None:
    box.install()
    before = box.files()
    box.install()
    assert box.files() == before


def test_upgrade_replaces_the_program_and_keeps_an_edited_config(box: Rehearsal) -> None:
    box.install()
    edited = "[pacing]\ninterval_minutes = [5, 6]\n"
    (box.stage / CONFIG).write_text(edited)
    (box.source / "smsbox.py").write_text(STAND_IN + "# newer\n")
    box.install()
    assert (box.stage / CONFIG).read_text() == edited
    assert (box.stage / PROGRAM).read_text().endswith("# newer\n")


def test_missing_source_is_named(box: Rehearsal) -> None:
    (box.source / "smsbox.service").unlink()
    status, said = box.run(staging=True)
    assert status == 1
    assert "smsbox.service is missing" in said
    assert not box.stage.exists()


def test_damaged_program_is_refused_before_anything_is_laid_down(box: Rehearsal) -> None:
    (box.source / "smsbox.py").write_text("def main(:\n")
    status, said = box.run(staging=True)
    assert status == 1
    assert "is damaged" in said
    assert "Traceback" not in said
    assert not box.stage.exists()


def test_kannels_smsbox_is_noticed_and_left_alone(box: Rehearsal) -> None:
    other = box.stage / "usr/sbin/smsbox"
    other.parent.mkdir(parents=True)
    other.write_text("kannel")
    assert "Kannel" in box.install()
    assert other.read_text() == "kannel"


def test_another_program_in_the_launchers_place_is_not_overwritten(box: Rehearsal) -> None:
    launcher = box.stage / LAUNCHER
    launcher.parent.mkdir(parents=True)
    launcher.write_text("another program")
    status, said = box.run(staging=True)
    assert status == 1
    assert "another program" in said
    assert launcher.read_text() == "another program"


def test_uninstalling_keeps_config_and_data_and_can_be_repeated(box: Rehearsal) -> None:
    box.install()
    database = box.stage / "var/lib/smsbox/smsbox.db"
    database.write_text("data")
    for _ in range(2):
        status, said = box.run("--uninstall", staging=True)
        assert status == 0, said
        assert set(box.files()) == {CONFIG, "var/lib/smsbox/smsbox.db"}


# --- install.sh on a machine ------------------------------------------------------------------

FOLDERS = ("usr/local", "etc", "run", "var/lib", "usr/lib/python3/dist-packages")

# Makes the stage the machine's own folders, for one command.
ENTER = """\
for each in {folders}; do
    mount --bind "$STAGE/$each" "/$each"
done
mount --bind "$STAGE/cmdline" /proc/cmdline
exec "$@"
"""

# What systemd does, as far as install.sh can see it: a start is up when the program's `run` ends
# with success.
SYSTEMCTL = """\
echo "systemctl $*" >>"{calls}"
case "$1 $*" in
    start*smsbox* | restart*smsbox* | *--now*smsbox*)
        rm -f "{active}/smsbox.service"
        [ "$1" != disable ] || exit 0
        /usr/bin/python3 -I /usr/local/lib/smsbox/smsbox.py run && touch "{active}/smsbox.service"
        ;;
    stop*) rm -f "{active}/smsbox.service" ;;
    is-active*)
        for unit in "$@"; do :; done
        [ -e "{active}/$unit" ] && echo active || {{ echo inactive; exit 3; }}
        ;;
    show*) cat "{active}/restarts" 2>/dev/null || echo 0 ;;
esac
"""

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
smsbox:x:990:990::/var/lib/smsbox:/usr/sbin/nologin
"""
GROUP = "root:x:0:\ndialout:x:20:smsbox\nsmsbox:x:990:\n"


UNSHARE = ("unshare", "--map-root-user", "--mount")


@pytest.fixture(scope="module")
def namespaces() -> None:
    """Skips where this machine gives out none in which folders can be exchanged."""
    if not shutil.which("unshare"):
        pytest.skip("this machine has no unshare")
    command = [*UNSHARE, "mount", "--bind", str(ROOT), str(ROOT)]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(tried.stderr)


class Machine(Rehearsal):
    """A machine with the packages and an old version, seen by install.sh in place of this one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.environment = {
            "PATH": f"{self.commands}:{os.environ['PATH']}",
            "STAGE": str(self.stage),
        }
        self.active = folder / "active"
        self.active.mkdir()
        for name in FOLDERS:
            (self.stage / name).mkdir(parents=True)
        (self.stage / "cmdline").write_text("root=/dev/mmcblk0p2 quiet\n")
        (self.stage / "run/systemd/system").mkdir(parents=True)
        (self.stage / "etc/passwd").write_text(PASSWD)
        (self.stage / "etc/group").write_text(GROUP)
        self.set_zone("America/Los_Angeles")
        # Debian finds its awk by way of /etc.
        (self.stage / "etc/alternatives").mkdir()
        (self.stage / "etc/alternatives/awk").symlink_to(Path("/usr/bin/awk").resolve())
        for module in ("serial", "gpiozero", "lgpio"):
            self.module(module).write_text("")
        self.add_command("systemctl", SYSTEMCTL.format(calls=self.calls_file, active=self.active))
        self.add_command("runuser", 'shift 3; exec "$@"')
        self.add_command("sleep", ":")
        self.add_command("journalctl", "echo the journal of smsbox")
        self.add_command("apt-cache", "exit 1")
        (self.active / "systemd-timesyncd.service").touch()

    def set_zone(self, name: str) -> None:
        localtime = self.stage / "etc/localtime"
        localtime.unlink(missing_ok=True)
        localtime.symlink_to(f"/usr/share/zoneinfo/{name}")

    def module(self, name: str) -> Path:
        return self.stage / f"usr/lib/python3/dist-packages/{name}.py"

    def enter(self, *arguments: str) -> tuple[int, str]:
        """Runs install.sh with the stage in place of the machine's folders."""
        enter = ENTER.format(folders=" ".join(FOLDERS))
        finished = subprocess.run(
            [*UNSHARE, "sh", "-ec", enter, "sh", "sh", "install.sh", *arguments],
            cwd=self.source,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return finished.returncode, finished.stdout

    def install_here(self) -> str:
        status, said = self.enter()
        assert status == 0, said
        return said

    def lay_newer(self, does: str = "") -> None:
        """Lays version 2.0.0 into the source folder; what it does when it is the daemon."""
        text = STAND_IN.replace("1.0.0", "2.0.0")
        begin = 'if __name__ == "__main__":\n'
        daemon = f'    if sys.argv[-1:] == ["run"]:\n        {does or "pass"}\n'
        text = text.replace(begin, begin + daemon)
        (self.source / "smsbox.py").write_text(text)

    @property
    def database(self) -> Path:
        return self.stage / "var/lib/smsbox/smsbox.db"

    @property
    def copy(self) -> Path:
        return self.stage / "var/lib/smsbox/backups/smsbox-before-upgrade.db"

    def is_active(self) -> bool:
        return (self.active / "smsbox.service").exists()

    def version(self) -> str:
        [version] = re.findall(r'VERSION = "(.*)"', (self.stage / PROGRAM).read_text())
        return str(version)

    def forget_calls(self) -> None:
        self.calls_file.unlink()

    def systemctl_calls(self) -> list[str]:
        return [call for call in self.changes() if call.startswith("systemctl ")]


@pytest.fixture
def machine(tmp_path: Path, namespaces: None) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, namespaces: None) -> Path:
    """The stage of a machine with version 1.0.0 and a database of the real schema."""
    machine = Machine(tmp_path_factory.mktemp("installed"))
    machine.install_here()
    smsbox.Database.create_or_open(str(machine.database)).close()
    return machine.stage


@pytest.fixture
def running(machine: Machine, installed: Path) -> Machine:
    """That machine, on which the service runs."""
    shutil.rmtree(machine.stage)
    shutil.copytree(installed, machine.stage, symlinks=True)
    (machine.active / "smsbox.service").touch()
    return machine


def ask(database: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(database)
    try:
        with connection:
            return connection.execute(statement).fetchall()
    finally:
        connection.close()


def test_fresh_machine_runs_the_service_at_the_end(machine: Machine) -> None:
    said = machine.install_here()
    assert machine.is_active()
    assert machine.systemctl_calls() == [
        *("systemctl daemon-reload", "systemctl enable -q smsbox.service"),
        "systemctl restart smsbox.service",
    ]
    assert "What to do next" in said
    assert not list((machine.stage / "usr/local/lib/smsbox").glob("*.old"))


def test_installing_again_leaves_a_running_service_alone(running: Machine) -> None:
    said = running.install_here()
    calls = running.systemctl_calls()
    assert not [call for call in calls if re.search(r"stop|restart|--now", call)], calls
    assert "nothing has changed" in said
    assert not running.copy.exists()


def test_upgrade_stops_copies_and_starts_and_keeps_the_old_program(running: Machine) -> None:
    ask(running.database, "INSERT INTO state VALUES ('kept', 'yes')")
    running.lay_newer()
    status, said = running.enter()
    assert status == 0, said
    assert running.version() == "2.0.0"
    assert running.is_active()
    calls = running.systemctl_calls()
    assert calls.index("systemctl stop smsbox.service") < calls.index(
        "systemctl restart smsbox.service"
    )
    assert ask(running.copy, "SELECT value FROM state WHERE key = 'kept'") == [("yes",)]
    assert stat.S_IMODE(running.copy.stat().st_mode) == 0o660
    assert '"1.0.0"' in (running.stage / f"{PROGRAM}.old").read_text()


WRITES = (
    "__import__('sqlite3').connect('/var/lib/smsbox/smsbox.db', isolation_level=None)"
    '.execute("{}"); sys.exit(1)'
)


def test_version_that_does_not_come_up_is_taken_back_with_the_database(running: Machine) -> None:
    (running.source / "smsbox.service").write_text(UNIT.read_text() + "# newer\n")
    running.lay_newer(WRITES.format("CREATE TABLE ruin (x)"))
    status, said = running.enter()
    assert status == 1
    assert "version 2.0.0 did not come up; version 1.0.0 runs again" in said
    assert "the journal of smsbox" in said
    assert running.version() == "1.0.0"
    assert (running.stage / COMPLETION).read_text() == "# completion of 1.0.0\n"
    assert (running.stage / INSTALLED_UNIT).read_text() == UNIT.read_text()
    assert running.is_active()
    assert ask(running.copy, "SELECT name FROM sqlite_schema WHERE name = 'ruin'") == []
    assert ask(running.database, "SELECT name FROM sqlite_schema WHERE name = 'ruin'") == []


def test_version_that_dies_soon_after_it_was_ready_is_taken_back_too(running: Machine) -> None:
    running.lay_newer()
    (running.active / "restarts").write_text("1\n")
    status, said = running.enter()
    assert status == 1
    assert "version 1.0.0 runs again" in said
    assert running.version() == "1.0.0"


def test_database_that_can_not_be_copied_stops_the_upgrade(running: Machine) -> None:
    running.lay_newer()
    running.database.write_text("no database")
    status, said = running.enter()
    assert status == 1
    assert "the database can't be copied, so nothing was installed" in said
    assert "Traceback" not in said
    assert running.version() == "1.0.0"
    assert running.is_active()


def test_version_that_made_a_database_of_its_own_leaves_none_behind(running: Machine) -> None:
    running.database.rename(running.stage / "run/fresh.db")
    copies = "__import__('shutil').copy('/run/fresh.db', '/var/lib/smsbox/smsbox.db')"
    running.lay_newer(f"{copies}; sys.exit(1)")
    status, said = running.enter()
    assert status == 1
    assert "version 1.0.0 runs again" in said
    assert not list(running.database.parent.glob("smsbox.db*"))


def test_version_that_received_something_before_it_failed_stays_stopped(running: Machine) -> None:
    received = (
        "INSERT INTO opt_outs (phone_number, words, tier)"
        " VALUES ('+12065550100', 'STOP', 'keyword')"
    )
    running.lay_newer(WRITES.format(received))
    status, said = running.enter()
    assert status == 1
    assert "smsbox is stopped and stays so" in said
    assert "sudo systemctl enable --now smsbox" in said
    assert not running.is_active()
    assert running.systemctl_calls()[-1] == "systemctl disable -q smsbox.service"
    assert running.version() == "1.0.0"
    assert len(ask(running.database, "SELECT * FROM opt_outs")) == 1


def test_upgrade_that_breaks_off_runs_the_old_version_again(running: Machine) -> None:
    running.lay_newer()
    running.add_command("sync", '[ -e "$0.once" ] || { touch "$0.once"; exit 1; }')
    status, said = running.enter()
    assert status == 1
    assert "broke off" in said
    assert running.version() == "1.0.0"
    assert running.is_active()


def test_settings_that_the_new_version_refuses_stop_nothing(running: Machine) -> None:
    text = STAND_IN.replace("main() and 0", 'print("smsbox: no such setting") or 78')
    (running.source / "smsbox.py").write_text(text)
    status, said = running.enter()
    assert status == 1
    assert "nothing was installed. no such setting" in said
    assert running.systemctl_calls() == []
    assert running.version() == "1.0.0"
    assert running.is_active()


@pytest.mark.parametrize("arguments", [(), ("--purge", "--yes"), ("--uninstall",)])
def test_dry_run_tells_of_a_running_service_and_leaves_it_alone(
    running: Machine, arguments: tuple[str, ...]
) -> None:
    running.lay_newer()
    before = running.files()
    status, said = running.enter("--dry-run", *arguments)
    assert status == 0, said
    assert re.search(r"would run: systemctl stop smsbox.service", said)
    assert running.files() == before
    assert running.changes() == []
    assert running.is_active()


def test_upgrade_that_shall_not_start_is_left_stopped(running: Machine) -> None:
    running.lay_newer()
    status, said = running.enter("--no-start")
    assert status == 0, said
    assert "sudo systemctl start smsbox" in said
    assert not running.is_active()
    assert running.version() == "2.0.0"


def test_purge_from_a_script_leaves_nothing(running: Machine) -> None:
    (running.stage / "etc/systemd/system/smsbox.service.d").mkdir()
    (running.stage / "etc/systemd/system/smsbox.service.d/mine.conf").write_text("[Service]\n")
    status, said = running.enter("--purge", "--yes")
    assert status == 0, said
    left = [path for path in running.files() if "smsbox" in path]
    assert left == []
    assert not running.database.parent.exists()
    assert not running.is_active()
    assert "userdel smsbox" in running.changes()


def test_purge_asks_on_a_terminal_and_takes_only_yes(box: Rehearsal) -> None:
    box.install()
    before = box.files()
    for answer in ("y\n", "\n"):
        status, said = box.run("--purge", staging=True, terminal=answer)
        assert status == 1
        assert "nothing was removed" in said
        assert box.files() == before
    status, said = box.run("--purge", staging=True)
    assert status == 1
    assert "--purge --yes" in said
    assert box.files() == before
    status, said = box.run("--purge", staging=True, terminal="YES\n")
    assert status == 0, said
    assert box.files() == {}


def test_purge_keeps_and_names_what_lies_elsewhere(running: Machine) -> None:
    (running.stage / CONFIG).write_text('[service]\nbackup_dir = "/mnt/stick"\n')
    status, said = running.enter("--purge", "--yes")
    assert status == 0, said
    assert said.endswith("What it wrote elsewhere is kept:\n/mnt/stick\n")


def test_uninstalled_and_installed_again_it_has_its_data(running: Machine) -> None:
    ask(running.database, "INSERT INTO state VALUES ('kept', 'yes')")
    status, said = running.enter("--uninstall")
    assert status == 0, said
    assert not running.is_active()
    assert "systemctl disable -q smsbox.service" in running.systemctl_calls()
    assert not (running.stage / PROGRAM).parent.exists()
    running.install_here()
    assert running.is_active()
    assert ask(running.database, "SELECT value FROM state WHERE key = 'kept'") == [("yes",)]


def test_drop_in_tells_the_unit_of_groups_folders_and_a_longer_time_out(running: Machine) -> None:
    drop_in = running.stage / f"{INSTALLED_UNIT}.d/install.conf"
    assert not drop_in.exists()
    with (running.stage / "etc/group").open("a") as file:
        file.write("gpio:x:997:\n")
    (running.stage / CONFIG).write_text(
        '[modem]\nsend_timeout_seconds = 200\n[service]\nbackup_dir = "/mnt/a 50% stick"\n'
    )
    running.install_here()
    lines = drop_in.read_text().splitlines()
    assert lines[1:] == [
        *("[Service]", "SupplementaryGroups=gpio"),
        *('ReadWritePaths="-/mnt/a 50%% stick"', "TimeoutStopSec=361"),
    ]
    assert "usermod -a -G gpio smsbox" in running.changes()
    assert "systemctl restart smsbox.service" in running.systemctl_calls()
    (running.stage / "etc/group").write_text(GROUP)
    (running.stage / CONFIG).write_text("")
    running.install_here()
    assert not drop_in.exists()


def test_file_with_the_pin_is_roots_alone(running: Machine) -> None:
    pin = running.stage / "etc/smsbox/sim.pin"
    pin.write_text("1234\n")
    running.install_here()
    assert stat.S_IMODE(pin.stat().st_mode) == 0o600
    assert f"chown root:root /{pin.relative_to(running.stage)}" in running.changes()


def test_new_settings_are_told_in_one_line_and_once(running: Machine) -> None:
    (running.stage / CONFIG).write_text("[pacing]\ninterval_minutes = [5, 6]\n")
    (running.source / "config.example.toml").write_text(
        "[pacing]\ninterval_minutes = [4, 7]\n[modem]\n# power_key_gpio = 4\nbaud = 1\n"
    )
    [told] = [line for line in running.install_here().splitlines() if "New settings" in line]
    assert told.endswith(": [modem] power_key_gpio, [modem] baud")
    assert "New settings" not in running.install_here()


# --- what an operator should know


def test_machine_with_nothing_in_the_way_gets_no_warning(running: Machine) -> None:
    assert "warning" not in running.install_here()


def test_what_stands_in_the_way_is_told_with_its_mend(running: Machine) -> None:
    (running.stage / "cmdline").write_text("console=serial0,115200 root=/dev/mmcblk0p2\n")
    (running.active / "ModemManager.service").touch()
    (running.active / "systemd-timesyncd.service").unlink()
    running.set_zone("Asia/Tokyo")
    running.add_command("brltty", ":")
    warnings = [line for line in running.install_here().splitlines() if "warning" in line]
    for word, mend in (
        ("console", "serial pins"),
        ("ModemManager", "replug the modem"),
        ("brltty", "sudo apt-get remove brltty"),
        ("Asia/Tokyo", "sudo timedatectl set-timezone America/Los_Angeles"),
        ("no time service", "sudo apt-get install systemd-timesyncd"),
    ):
        assert len([line for line in warnings if word in line and mend in line]) == 1, warnings
    assert len(warnings) == 5


def test_time_service_is_not_asked_for_where_another_source_vouches(running: Machine) -> None:
    (running.active / "systemd-timesyncd.service").unlink()
    (running.stage / CONFIG).write_text('[clock]\nsources = ["rtc"]\n')
    assert "time service" not in running.install_here()


def test_lines_for_a_hat_on_the_serial_pins_are_told_and_not_run(running: Machine) -> None:
    said = running.install_here().splitlines()
    assert "  sudo raspi-config nonint do_serial_hw 0" in said
    assert "  sudo raspi-config nonint do_serial_cons 1" in said
    assert not [call for call in running.changes() if "raspi-config" in call]


def test_who_has_to_join_the_group_is_named(running: Machine) -> None:
    said = running.install_here().splitlines()
    assert "  sudo usermod -a -G smsbox,dialout YOUR-USER" in said


# --- packages


def apt_calls(machine: Machine) -> list[str]:
    return [call for call in machine.changes() if call.startswith("apt-get")]


def test_nothing_is_asked_of_the_network_when_everything_is_there(machine: Machine) -> None:
    machine.install_here()
    assert apt_calls(machine) == []


def test_only_missing_packages_are_asked_for_and_lgpio_where_the_archive_has_it(
    machine: Machine,
) -> None:
    for name in ("serial", "lgpio"):
        machine.module(name).unlink()
    installing = f'case "$*" in *install*) touch "{machine.module("serial")}" ;; esac'
    machine.add_command("apt-get", f'echo "apt-get $*" >>"{machine.calls_file}"; {installing}')
    machine.install_here()
    update, *installs = apt_calls(machine)
    assert update == "apt-get update"
    assert [call.split("--no-install-recommends ")[1] for call in installs] == ["python3-serial"]
    machine.forget_calls()
    machine.add_command("apt-cache", "exit 0")
    machine.install_here()
    assert apt_calls(machine)[-1].endswith("--no-install-recommends python3-lgpio")
    assert not any("tomli" in call for call in apt_calls(machine))


def test_clock_that_is_wrong_is_named_before_apt_is_asked(machine: Machine) -> None:
    machine.module("serial").unlink()
    tomorrow = time.time() + 2 * 86400
    os.utime(machine.source / "smsbox.py", (tomorrow, tomorrow))
    status, said = machine.enter()
    assert status == 1
    assert "the clock of this machine is wrong" in said
    assert "sudo date -s" in said
    assert machine.changes() == []


def test_clock_is_blamed_when_apt_refuses_signatures_from_the_future(machine: Machine) -> None:
    machine.module("serial").unlink()
    refusal = "E: Release file for main is not valid yet (invalid for another 9d)."
    machine.add_command("apt-get", f'echo "{refusal}"; exit 100')
    status, said = machine.enter()
    assert status == 1
    assert "the clock of this machine is wrong" in said
    assert "Release file" not in said


def test_offline_box_with_a_wrong_clock_is_installed_when_the_packages_are_there(
    machine: Machine,
) -> None:
    machine.module("gpiozero").unlink()
    tomorrow = time.time() + 2 * 86400
    os.utime(machine.source / "smsbox.py", (tomorrow, tomorrow))
    machine.add_command("apt-get", "exit 100")
    said = machine.install_here()
    assert "the clock of this machine is wrong" in said
    assert machine.is_active()


def write_wheel(folder: Path, name: str, version: str, module: str) -> None:
    """Writes the smallest wheel that pip takes."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}.py", "")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.mark.long  # pip takes its time
def test_what_apt_can_not_give_comes_pinned_into_an_environment_of_its_own(
    machine: Machine, tmp_path: Path
) -> None:
    machine.module("serial").unlink()
    machine.add_command("apt-get", "exit 100")
    write_wheel(tmp_path / "wheels", "pyserial", "3.5", "serial")
    machine.environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    said = machine.install_here()
    python = "/usr/local/lib/smsbox/venv/bin/python"
    assert "pyserial==3.5" in said
    assert (machine.stage / LAUNCHER).read_text().startswith(f"#!{python} -I\n")
    assert machine.is_active()
    # Again, without any network: it is found.
    machine.environment["PIP_FIND_LINKS"] = "/nowhere"
    assert "nothing has changed" in machine.install_here()
    assert (machine.stage / LAUNCHER).read_text().startswith(f"#!{python} -I\n")


def test_without_lamps_configured_no_environment_is_made_for_them(machine: Machine) -> None:
    machine.module("lgpio").unlink()
    machine.install_here()
    assert not (machine.stage / "usr/local/lib/smsbox/venv").exists()


@pytest.mark.long
def test_lamps_that_can_not_be_had_do_not_stop_the_rest(machine: Machine) -> None:
    machine.module("lgpio").unlink()
    machine.environment["PIP_NO_INDEX"] = "1"
    (machine.stage / CONFIG).parent.mkdir()
    (machine.stage / CONFIG).write_text("[lamps]\nready = 17\n")
    assert "the lamps stay dark" in machine.install_here()
    assert machine.is_active()
    assert (machine.stage / LAUNCHER).read_text().startswith("#!/usr/bin/python3 -I\n")


@pytest.mark.long
def test_modules_that_can_not_be_had_at_all_are_named(machine: Machine) -> None:
    machine.module("serial").unlink()
    machine.add_command("apt-get", "exit 100")
    machine.environment["PIP_NO_INDEX"] = "1"
    status, said = machine.enter()
    assert status == 1
    assert "by apt or by pip: pyserial==3.5" in said
    assert not (machine.stage / PROGRAM).exists()
    assert not (machine.stage / "usr/local/lib/smsbox/venv").exists()


# --- the launcher -----------------------------------------------------------------------------


def test_launcher_runs_the_installed_program_and_hands_on_its_exit_status(box: Rehearsal) -> None:
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


def read_rules(box: Rehearsal) -> list[dict[str, str]]:
    """The rules for modems: each key with what it is matched against or set to."""
    box.install()
    lines = [line for line in (box.stage / RULE).read_text().splitlines() if "idVendor" in line]
    return [dict(re.findall(r'([A-Z_a-z{}]+)(?:=|==|\+=)"([^"]*)"', line)) for line in lines]


def test_udev_rule_names_the_at_port_of_each_modem_that_the_program_knows(box: Rehearsal) -> None:
    named = {
        (rule["ATTRS{idVendor}"], rule["ATTRS{idProduct}"]): rule["ENV{ID_USB_INTERFACE_NUM}"]
        for rule in read_rules(box)
        if rule.get("SYMLINK") == "smsbox-modem" and rule["SUBSYSTEM"] == "tty"
    }
    known = smsbox._USB_AT_INTERFACE
    assert named == {(vendor, product or "*"): port for (vendor, product), port in known.items()}


def test_udev_rule_keeps_modem_manager_off_these_modems_only(box: Rehearsal) -> None:
    rules = read_rules(box)
    devices = [rule for rule in rules if "ENV{ID_MM_DEVICE_IGNORE}" in rule]
    ports = [rule for rule in rules if "ENV{ID_MM_PORT_IGNORE}" in rule]
    assert len(devices) == len(ports) == len(smsbox._USB_AT_INTERFACE)
    assert all(rule["ENV{DEVTYPE}"] == "usb_device" for rule in devices)
    for rule in rules:
        vendor = rule.get("ATTR{idVendor}") or rule["ATTRS{idVendor}"]
        product = rule.get("ATTR{idProduct}") or rule["ATTRS{idProduct}"]
        assert (vendor, None if product == "*" else product) in smsbox._USB_AT_INTERFACE
