"""install.sh: what is laid down where, and whole runs of it in a root of their own."""

from __future__ import annotations

import os
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
COPY = "backups/smsbox-before-upgrade.db"
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
    del longest["handle_database"]  # a Python script
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
    for word in (
        "cmdline.txt",
        "config.txt",
        "break-system",
        "apt-get upgrade",
        "apt-get autoremove",
    ):
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


def read_rules(box: Box) -> list[dict[str, str]]:
    """The rules for modems: each key with what it is matched against or set to."""
    box.install()
    lines = [line for line in (box.stage / RULE).read_text().splitlines() if "idVendor" in line]
    return [dict(re.findall(r'([A-Z_a-z{}]+)(?:=|==|\+=)"([^"]*)"', line)) for line in lines]


def test_udev_rule_names_the_at_port_of_each_modem_that_the_program_knows(box: Box) -> None:
    named = {
        (rule["ATTRS{idVendor}"], rule["ATTRS{idProduct}"]): rule["ENV{ID_USB_INTERFACE_NUM}"]
        for rule in read_rules(box)
        if rule.get("SYMLINK") == "smsbox-modem" and rule["SUBSYSTEM"] == "tty"
    }
    known = smsbox._USB_AT_INTERFACE
    assert named == {(vendor, product or "*"): port for (vendor, product), port in known.items()}


def test_udev_rule_keeps_modem_manager_off_these_modems_only(box: Box) -> None:
    rules = read_rules(box)
    devices = [rule for rule in rules if "ENV{ID_MM_DEVICE_IGNORE}" in rule]
    ports = [rule for rule in rules if "ENV{ID_MM_PORT_IGNORE}" in rule]
    assert len(devices) == len(ports) == len(smsbox._USB_AT_INTERFACE)
    assert all(rule["ENV{DEVTYPE}"] == "usb_device" for rule in devices)
    for rule in rules:
        vendor = rule.get("ATTR{idVendor}") or rule["ATTRS{idVendor}"]
        product = rule.get("ATTR{idProduct}") or rule["ATTRS{idProduct}"]
        assert (vendor, None if product == "*" else product) in smsbox._USB_AT_INTERFACE


# --- whole runs, in a root of their own --------------------------------------------------------

# Enough of systemd to install on: what runs is a file, and starting runs the test's own hook.
SYSTEMCTL = """
case "$*" in
    "is-active --quiet smsbox.service") [ -e /run/active ] ;;
    is-active*) [ -e "/run/running/${3%.service}" ] ;;
    show*NRestarts*) cat /run/restarts ;;
    stop* | disable*--now*) rm -f /run/active ;;
    restart* | start*)
        rm -f /run/active
        if [ -e /run/hook ]; then sh -eu /run/hook || exit 1; fi
        : >/run/active
        ;;
esac
"""
MOUNTS = """
root="$1"
shift
mount -t overlay -o "lowerdir=/usr,upperdir=$root/usr,workdir=$root.usr" overlay "$root/usr"
mount -t overlay -o "lowerdir=/etc,upperdir=$root/etc,workdir=$root.etc" overlay "$root/etc"
mount --rbind /dev "$root/dev"
exec chroot "$root" "$@"
"""
BASH_LINE = """
source "$0"
COMP_WORDS=(smsbox sched)
COMP_CWORD=1
_smsbox
echo "${COMPREPLY[@]}"
"""
MODULES = "usr/lib/python3/dist-packages"
SEND_ONE = """
python3 -I -c '
import sqlite3
database = sqlite3.connect("/var/lib/smsbox/smsbox.db", isolation_level=None)
database.execute("INSERT INTO inbound (received_at, sender, body, tpdu, request)"
    " VALUES (datetime(), \\"+12135552301\\", \\"stop\\", \\"\\", \\"stop\\")")
'
"""


class Root:
    """A root folder over this machine's own /usr and /etc, in which install.sh runs as root.

    Real are the shell, the users, the groups, the modes, Python, pip and the program; systemctl,
    apt-get and udevadm only write down that they were called. What a run changes stays.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "root"

    def fill(self) -> None:
        """Make it a machine with every package."""
        for name in ("usr", "etc", "dev", "proc", "src", "tmp", "root", "var/lib", "var/log"):
            (self.path / name).mkdir(parents=True)
        for name in ("root.usr", "root.etc"):
            (self.path.parent / name).mkdir()
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path("/", name).is_symlink():
                (self.path / name).symlink_to(f"usr/{name}")
        (self.path / "tmp").chmod(0o1777)
        for name in ("systemd/system", "udev", "running"):
            (self.path / "run" / name).mkdir(parents=True)
        self.write("run/udev/control", "")
        self.write("run/restarts", "0\n")
        for name in ("smsbox.py", "smsbox.service", "install.sh", "config.example.toml"):
            shutil.copy(TOP / name, self.path / "src")
        for name in ("apt-get", "apt-cache", "udevadm", "sync", "sleep", "journalctl"):
            self.add_command(name, "")
        self.add_command("apt-cache", "exit 1")
        self.add_command("systemctl", SYSTEMCTL)
        for module in ("serial", "gpiozero", "lgpio"):
            self.write(f"{MODULES}/{module}.py", "")

    def write(self, path: str, text: str) -> Path:
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def add_command(self, name: str, body: str) -> None:
        body = f'#!/bin/sh\necho "{name} $*" >>/calls\n{body}\n'
        self.write(f"usr/local/sbin/{name}", body).chmod(0o755)

    def lacks(self, *modules: str) -> None:
        """Take Python's modules away from the system."""
        for module in modules:
            (self.path / MODULES / f"{module}.py").unlink()
            if Path("/", MODULES, module).exists():
                pytest.skip(f"this machine has {module} installed")

    def lacks_pip(self) -> None:
        """Make it a system without the package python3-venv, which no apt brings."""
        self.add_command("apt-get", "exit 100")
        assert self.sh("sh", "-c", "rm -rf /usr/lib/python3.*/ensurepip")[0] == 0

    def sh(self, *command: str, stdin: str = "", **environment: str) -> tuple[int, str]:
        """Exit status of a command in it and everything said."""
        base = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8"}
        finished = subprocess.run(
            ["unshare", "--mount", "sh", "-euc", MOUNTS, "sh", str(self.path), *command],
            env={**base, **environment}, input=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        return finished.returncode, finished.stdout

    def run(self, *words: str, status: int = 0, stdin: str = "", **environment: str) -> str:
        """Run the installer; what it says."""
        self.write("calls", "")
        ended, said = self.sh("sh", "/src/install.sh", *words, stdin=stdin, **environment)
        assert ended == status, said
        return said

    def calls(self, name: str = "") -> list[str]:
        """What the last run called, but for questions."""
        calls = (self.path / "calls").read_text().splitlines()
        questions = ("systemctl is-", "systemctl show", "apt-cache", "sleep", "journalctl")
        return [each for each in calls if each.startswith(name) and not each.startswith(questions)]

    def is_running(self) -> bool:
        return (self.path / "run/active").exists()

    def config(self, text: str) -> None:
        self.write(CONFIG, text)

    def new_version(self, version: str = "99.0") -> None:
        program = self.path / "src/smsbox.py"
        text, changed = re.subn(
            r'(?m)^VERSION = ".*"', f'VERSION = "{version}"', program.read_text()
        )
        assert changed == 1
        program.write_text(text)

    def version(self) -> str:
        return self.sh("smsbox", "--version")[1].strip()

    def schedule(self) -> None:
        """Make a database, as the service does it at its first start."""
        self.write("tmp/x.csv", "phone_number,customer_name,message_content\n+12135552301,A,Hi\n")
        status, said = self.sh("smsbox", "schedule", "/tmp/x.csv", "--yes")
        assert status == 0, said

    def sql(self, statement: str, name: str = "smsbox.db") -> list[Any]:
        connection = sqlite3.connect(self.path / "var/lib/smsbox" / name)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def owner(self, path: str) -> tuple[str, int]:
        """User and group by name, and the mode."""
        status, said = self.sh("stat", "-c", "%U:%G %a", f"/{path}")
        assert status == 0, said
        names, mode = said.split()
        return names, int(mode, 8)


@pytest.fixture
def machine(tmp_path: Path) -> Root:
    """A machine with every package, on which smsbox was never installed."""
    root = Root(tmp_path)
    root.fill()
    status, said = root.sh("true")
    if status:
        pytest.skip(f"a root over this one can't be mounted here: {said.strip()}")
    return root


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a root with smsbox running, and a message scheduled."""
    folder = tmp_path_factory.mktemp("pattern")
    root = Root(folder)
    root.fill()
    status, said = root.sh("true")
    if status:
        pytest.skip(f"a root over this one can't be mounted here: {said.strip()}")
    root.run()
    root.schedule()
    return folder


@pytest.fixture
def installed(pattern: Path, tmp_path: Path) -> Root:
    """A machine with smsbox running, and a message scheduled."""
    subprocess.run(["cp", "-a", f"{pattern}/.", tmp_path], check=True)
    return Root(tmp_path)


def test_fresh_machine_gets_user_folders_program_and_a_running_service(machine: Root) -> None:
    said = machine.run()
    assert machine.owner("var/lib/smsbox") == ("smsbox:smsbox", 0o2770)
    assert machine.owner(CONFIG) == ("root:smsbox", 0o640)
    assert machine.owner(LAUNCHER) == ("root:root", 0o755)
    assert "dialout" in machine.sh("id", "-nG", "smsbox")[1].split()
    assert machine.version().startswith("smsbox ")
    assert machine.is_running()
    assert machine.calls("systemctl") == [
        "systemctl daemon-reload",
        "systemctl enable -q smsbox.service",
        "systemctl restart smsbox.service",
    ]
    assert machine.calls("apt-get") == []
    assert "What to do next" in said


def test_second_run_changes_nothing_and_lets_the_service_run_on(installed: Root) -> None:
    def files() -> dict[str, tuple[float, float]]:
        found = [
            path
            for folder in ("etc", "usr/local", "var")
            for path in (installed.path / folder).rglob("*")
            if path.is_file() and ".db" not in path.name
        ]
        return {str(path): (path.stat().st_mtime, path.stat().st_mode) for path in found}

    before = files()
    said = installed.run()
    assert files() == before
    assert "nothing has changed" in said
    assert not [call for call in installed.calls("systemctl") if "start" in call or "stop" in call]


def test_upgrade_stops_copies_and_starts(installed: Root) -> None:
    installed.new_version()
    said = installed.run()
    verbs = [call.split()[1] for call in installed.calls("systemctl")]
    assert verbs == ["stop", "daemon-reload", "enable", "restart"]
    assert installed.version() == "smsbox 99.0"
    copied = installed.sql("SELECT status FROM scheduled_messages", COPY)
    assert copied == [("scheduled",)]
    assert installed.owner(f"var/lib/smsbox/{COPY}") == ("smsbox:smsbox", 0o660)
    assert "Keeping the settings" in said


def test_version_that_fails_is_taken_back_with_the_database(installed: Root) -> None:
    before = installed.version()
    installed.new_version()
    changes = "UPDATE scheduled_messages SET attempts = 7"
    # The new version spoils the database and fails; the old one comes up.
    installed.write(
        "run/hook",
        f"""if smsbox --version | grep -q 99; then
            runuser -u smsbox -- python3 -I -c "
import sqlite3
with sqlite3.connect('/var/lib/smsbox/smsbox.db') as database: database.execute('{changes}')"
            exit 1
        fi""",
    )
    said = installed.run(status=1)
    assert f"version 99.0 did not come up; version {before.split()[1]} runs again" in said
    assert installed.version() == before
    assert installed.is_running()
    assert installed.sql("SELECT attempts FROM scheduled_messages") == [(0,)]
    assert installed.owner("var/lib/smsbox/smsbox.db") == ("smsbox:smsbox", 0o660)


def test_version_that_dies_soon_after_it_was_ready_is_taken_back_too(installed: Root) -> None:
    before = installed.version()
    installed.new_version()
    installed.write("run/restarts", "1\n")
    said = installed.run(status=1)
    assert "runs again" in said
    assert installed.version() == before


def test_what_came_in_before_it_failed_is_not_lost(installed: Root) -> None:
    before = installed.version()
    installed.new_version()
    installed.write("run/hook", f"if smsbox --version | grep -q 99; then {SEND_ONE} exit 1; fi")
    said = installed.run(status=1)
    assert "smsbox is stopped and stays so" in said
    assert not installed.is_running()
    assert "systemctl disable -q smsbox.service" in installed.calls()
    assert installed.sql("SELECT body FROM inbound") == [("stop",)]
    assert installed.version() == before


def test_settings_that_the_new_version_refuses_stop_it_before_anything_is_touched(
    installed: Root,
) -> None:
    installed.config("[pacing]\nintervall_minutes = [4, 7]\n")
    before = installed.version()
    installed.new_version()
    said = installed.run(status=1)
    assert "did you mean interval_minutes" in said
    assert installed.calls() == []
    assert installed.is_running()
    assert installed.version() == before


def test_upgrade_that_breaks_off_leaves_the_old_version_running(installed: Root) -> None:
    before = installed.version()
    installed.new_version()
    # All files are laid down, and then the card fails once.
    installed.add_command("sync", "[ -e /run/failed ] || { : >/run/failed; exit 1; }")
    said = installed.run(status=1)
    assert "the upgrade broke off" in said
    assert installed.is_running()
    assert installed.version() == before


def test_database_that_cannot_be_copied_stops_the_upgrade(installed: Root) -> None:
    before = installed.version()
    installed.new_version()
    installed.write("var/lib/smsbox/smsbox.db", "no database")
    said = installed.run(status=1)
    assert "the database can't be copied" in said
    assert "Traceback" not in said
    assert installed.is_running()
    assert installed.version() == before


def test_no_start_leaves_the_service_for_the_next_boot(machine: Root) -> None:
    said = machine.run("--no-start")
    assert not machine.is_running()
    assert "systemctl enable -q smsbox.service" in machine.calls()
    assert "at the next boot" in said


@pytest.mark.parametrize("answer", ["", "no\n", "yes\n"])
def test_purge_does_nothing_without_a_yes_in_capitals(installed: Root, answer: str) -> None:
    said = installed.run("--purge", status=1, stdin=answer)
    assert "Nothing was removed" in said
    assert installed.is_running()
    assert installed.calls() == []


def test_purge_removes_program_settings_data_and_user(installed: Root) -> None:
    installed.run("--purge", stdin="YES\n")
    assert not installed.is_running()
    for path in ("etc/smsbox", "var/lib/smsbox", "usr/local/lib/smsbox", LAUNCHER, COMPLETION):
        assert not (installed.path / path).exists(), path
    assert installed.sh("getent", "passwd", "smsbox")[0] == 2
    assert installed.sh("getent", "group", "smsbox")[0] == 2


def test_purge_keeps_and_names_what_lies_elsewhere(installed: Root) -> None:
    copies = installed.write("media/stick/smsbox-2026-11-25.db", "a copy")
    installed.config('[service]\nbackup_dir = "/media/stick"\n')
    said = installed.run("--purge", stdin="YES\n")
    assert said.rstrip().endswith("What it wrote elsewhere is kept:\n/media/stick")
    assert copies.exists()


def test_dry_run_of_an_upgrade_tells_it_and_touches_nothing(installed: Root) -> None:
    before = installed.version()
    installed.new_version()
    said = installed.run("--dry-run")
    for line in (
        "would run: systemctl stop smsbox.service",
        f"would copy: /var/lib/smsbox/smsbox.db to /var/lib/smsbox/{COPY}",
        "would write: /usr/local/lib/smsbox/smsbox.py (mode 0644)",
        "would run: systemctl restart smsbox.service",
    ):
        assert line in said.splitlines()
    assert installed.calls() == []
    assert installed.version() == before
    assert not (installed.path / "var/lib/smsbox/backups").exists()


def test_uninstalled_and_installed_again_it_has_its_data(installed: Root) -> None:
    installed.run("--uninstall")
    assert not (installed.path / "usr/local/lib/smsbox").exists()
    installed.run()
    assert installed.sql("SELECT status FROM scheduled_messages") == [("scheduled",)]
    assert installed.is_running()


# --- packages ---------------------------------------------------------------------------------


def test_missing_packages_come_by_apt(machine: Root) -> None:
    machine.lacks("serial", "gpiozero", "lgpio")
    machine.add_command("apt-cache", "exit 0")
    machine.add_command(
        "apt-get",
        f'case "$*" in *install*) cd /{MODULES}; touch serial.py gpiozero.py lgpio.py; esac',
    )
    machine.run()
    update, needed, wanted = machine.calls("apt-get")
    assert update == "apt-get update"
    assert needed.endswith("python3-serial")
    assert wanted.endswith("python3-gpiozero python3-lgpio")


def test_signature_from_the_future_means_a_wrong_clock(machine: Root) -> None:
    machine.lacks("serial")
    for words in (
        "E: Release file for x is not valid yet (invalid for another 5h 3min 2s).",
        "Verifying signature:            Not live until 2026-11-21T08:46:20Z",
        "The certificate chain uses not yet valid certificate.",
    ):
        machine.add_command("apt-get", f'echo "{words}" >&2; exit 100')
        said = machine.run(status=1)
        assert "the clock of this machine is wrong" in said
        assert words not in said
        assert not (machine.path / LAUNCHER).exists()


def test_what_apt_lacks_comes_into_a_private_environment(machine: Root) -> None:
    machine.lacks("serial")
    machine.add_command("apt-get", "exit 100")
    wheel = machine.path / "wheels/pyserial-3.5-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("serial/__init__.py", "")
        archive.writestr("pyserial-3.5.dist-info/METADATA", "Name: pyserial\nVersion: 3.5\n")
        archive.writestr("pyserial-3.5.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("pyserial-3.5.dist-info/RECORD", "")
    said = machine.run(PIP_NO_INDEX="1", PIP_FIND_LINKS="/wheels")
    python = "/usr/local/lib/smsbox/venv/bin/python"
    assert "pyserial==3.5" in said
    assert (machine.path / LAUNCHER).read_text().startswith(f"#!{python} -I\n")
    assert machine.sh(python, "-I", "-c", "import serial, gpiozero") == (0, "")
    assert machine.version().startswith("smsbox ")
    again = machine.run()
    assert "nothing has changed" in again
    assert machine.calls("apt-get") == []


def test_without_serial_by_apt_or_pip_nothing_is_installed(machine: Root) -> None:
    machine.lacks("serial")
    machine.lacks_pip()
    said = machine.run(status=1)
    assert "pyserial==3.5; check the network and the clock" in said
    assert not (machine.path / LAUNCHER).exists()


def test_lamps_that_cannot_be_had_do_not_stop_the_rest(machine: Root) -> None:
    machine.lacks("lgpio")
    machine.lacks_pip()
    machine.config("[lamps]\nready = 17\n")
    said = machine.run()
    assert "the lamps stay dark" in said
    assert machine.is_running()
    assert (machine.path / LAUNCHER).read_text().startswith("#!/usr/bin/python3 -I\n")


def test_without_lamps_configured_no_environment_is_made_for_them(machine: Root) -> None:
    machine.lacks("lgpio")
    said = machine.run()
    assert "which only lamps need" in said
    assert not (machine.path / "usr/local/lib/smsbox/venv").exists()


# --- what goes with the settings and the machine ------------------------------------------------


def test_group_gpio_is_named_to_the_unit_only_where_it_exists(machine: Root) -> None:
    drop_in = machine.path / "etc/systemd/system/smsbox.service.d/gpio.conf"
    machine.run()
    assert not drop_in.exists()
    machine.sh("groupadd", "--system", "gpio")
    machine.run()
    assert "SupplementaryGroups=gpio" in drop_in.read_text()
    assert "gpio" in machine.sh("id", "-nG", "smsbox")[1].split()
    assert "systemctl restart smsbox.service" in machine.calls()
    machine.sh("groupdel", "gpio")
    machine.run()
    assert not drop_in.exists()


def test_unit_may_write_where_the_settings_say_and_nowhere_else(machine: Root) -> None:
    drop_in = machine.path / "etc/systemd/system/smsbox.service.d/settings.conf"
    machine.config(
        '[service]\nbackup_dir = "/media/50% \\"stick\\""\ndatabase = "/srv/box/smsbox.db"\n'
        "[modem]\nsend_timeout_seconds = 200\n"
    )
    machine.run()
    assert drop_in.read_text().splitlines()[1:] == [
        "[Service]",
        r'ReadWritePaths="-/media/50%% \"stick\""',
        'ReadWritePaths="-/srv/box"',
        "TimeoutStopSec=361",
    ]
    machine.config('[service]\nbackup_dir = "/var/lib/smsbox/more"\n')
    machine.run()
    assert not drop_in.exists()


def test_file_with_the_pin_is_for_root_alone(machine: Root) -> None:
    machine.write("etc/smsbox/sim.pin", "4711\n").chmod(0o644)
    said = machine.run()
    assert machine.owner("etc/smsbox/sim.pin") == ("root:root", 0o600)
    assert "4711" not in said


def test_new_settings_are_told_once(machine: Root) -> None:
    machine.config("[pacing]\n# skip_chance = [0, 0]\n")
    assert "New settings" not in machine.run()
    example = machine.path / "src/config.example.toml"
    example.write_text(example.read_text() + "\n[extras]\nshine = 1  # how much\n")
    said = machine.run()
    assert re.findall(r"^  \[.*", said, re.MULTILINE) == ["  [extras] shine"]
    assert "New settings" not in machine.run()


def test_lines_for_a_modem_on_the_pins_are_told_on_a_pi_only_and_never_run(machine: Root) -> None:
    machine.add_command("raspi-config", "")
    assert "raspi-config" not in machine.run()
    machine.write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    machine.write("proc/cmdline", "console=serial0,115200 console=tty1 root=PARTUUID=1-02\n")
    said = machine.run()
    assert "sudo raspi-config nonint do_serial_hw 0" in said
    assert "sudo raspi-config nonint do_serial_cons 1" in said
    assert "a console is on the serial pins" in said
    assert machine.calls("raspi-config") == []


def test_what_stands_in_the_way_is_told(machine: Root) -> None:
    machine.add_command("brltty", "")
    machine.write("run/running/ModemManager", "")
    said = machine.run()
    assert "brltty takes USB serial adapters" in said
    assert "unplug and replug the modem" in said
    assert "no time service is running" in said
    machine.write("run/running/chrony", "")
    assert "no time service is running" not in machine.run()


def test_time_zone_unlike_the_settings_is_told(machine: Root) -> None:
    zone = machine.path / "etc/localtime"
    zone.symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    said = machine.run()
    assert "time zone is Europe/Berlin, the business hours are those of America/Los_Angeles" in said
    machine.config('[business_hours]\ntimezone = "Europe/Berlin"\n')
    assert "time zone is" not in machine.run()


def test_clock_that_is_behind_the_program_is_told(machine: Root) -> None:
    future = time.time() + 3 * 86400
    os.utime(machine.path / "src/smsbox.py", (future, future))
    assert "is it wrong?" in machine.run()


def test_bash_completes_the_commands(machine: Root) -> None:
    machine.run()
    said = subprocess.run(
        ["bash", "-ec", BASH_LINE, machine.path / COMPLETION], stdout=subprocess.PIPE, check=True
    )
    assert said.stdout == b"schedule\n"


def test_completion_is_the_programs_own_whatever_the_settings_are(machine: Root) -> None:
    machine.run()
    own = subprocess.run(
        [sys.executable, "-I", TOP / "smsbox.py", "--config", "/dev/null", "completion"],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    assert (machine.path / COMPLETION).read_bytes() == own.stdout
