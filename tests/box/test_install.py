"""install.sh: the package that it builds, and how it hands it to apt.

tests/box/boot does it all for real; here stand-ins for the system's commands show what is asked.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import smsbox
from rig.neighbors import lay_journal
from rig.paths import ROOT

INSTALLER = ROOT / "install.sh"
SOURCES = ("install.sh", "smsbox.py", "smsbox.service", "config.example.toml", "README.md")
VERSION_1 = ROOT / "tests/box/version1"

needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="this is no Debian")


def run(*command: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
        **more,
    )


# --- its form ---------------------------------------------------------------------------------


def test_shellcheck_finds_nothing_in_the_installer() -> None:
    assert shutil.which("shellcheck"), "shellcheck is missing: apt-get install shellcheck"
    finished = run("shellcheck", INSTALLER)
    assert finished.returncode == 0, finished.stdout


def test_installer_is_short_and_does_nothing_before_it_is_read_to_the_end() -> None:
    lines = INSTALLER.read_text().splitlines()
    assert os.access(INSTALLER, os.X_OK)
    assert lines[0] == "#!/bin/sh"
    assert "set -eu" in lines
    assert lines[-1] == 'main "$@"'
    assert len(lines) <= 220
    assert [line for line in lines if len(line) > 100] == []


def test_boot_files_and_packages_of_others_are_left_alone() -> None:
    text = INSTALLER.read_text()
    for word in ("cmdline.txt", "/config.txt", "raspi-config", "pip ", "apt-get upgrade"):
        assert word not in text
    assert "--no-remove" in text


def test_help_names_every_option() -> None:
    finished = run("sh", INSTALLER, "--help")
    assert finished.returncode == 0
    words = re.findall(r"^ {12}(--[a-z-]+)\)", INSTALLER.read_text(), re.MULTILINE)
    assert len(words) == 7
    assert [word for word in words if word not in (*finished.stdout.split(), "--help")] == [
        *[word for word in words if f"[{word}]" in finished.stdout]
    ]


# --- the package ------------------------------------------------------------------------------

FILES = {
    "etc/smsbox/config.toml": "-rw-r-----",
    "usr/bin/smsbox": "-rwxr-xr-x",
    "usr/lib/smsbox/smsbox.py": "-rw-r--r--",
    "usr/lib/systemd/system/smsbox.service": "-rw-r--r--",
    "usr/lib/sysusers.d/smsbox.conf": "-rw-r--r--",
    "usr/lib/udev/rules.d/70-smsbox-modem.rules": "-rw-r--r--",
    "usr/share/bash-completion/completions/smsbox": "-rw-r--r--",
    "usr/share/doc/smsbox/README.md": "-rw-r--r--",
    "usr/share/doc/smsbox/changelog.gz": "-rw-r--r--",
    "usr/share/doc/smsbox/config.example.toml": "-rw-r--r--",
    "usr/share/man/man1/smsbox.1.gz": "-rw-r--r--",
}
# What lintian says, and why it stays.
LINTIAN = {
    "E: smsbox: no-copyright-file": "the licence is the owner's to choose",
    "W: smsbox: non-standard-file-perm 0640 != 0644 [etc/smsbox/config.toml]": "it may hold a PIN",
}


def lay_sources(folder: Path) -> Path:
    folder.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    return folder


def build(source: Path, into: Path, umask: int = 0o022) -> Path:
    into.mkdir(exist_ok=True)
    finished = run("sh", source / "install.sh", "--build", cwd=into, umask=umask)
    assert finished.returncode == 0, finished.stdout
    [package] = into.glob("smsbox_*_all.deb")
    return package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    return build(lay_sources(folder / "source"), folder / "built")


@pytest.fixture(scope="module")
def unpacked(package: Path) -> Path:
    folder = package.parent / "unpacked"
    assert run("dpkg-deb", "--raw-extract", package, folder).returncode == 0
    return folder


def list_modes(package: Path) -> dict[str, str]:
    """The files of a package -> their modes; everything belongs to root."""
    modes = {}
    for line in run("dpkg-deb", "--contents", package).stdout.splitlines():
        mode, owner, *_, path = line.split()
        assert owner == "root/root"
        modes[path.removeprefix("./") or "/"] = mode
    return modes


@needs_dpkg
def test_package_holds_these_files_and_no_other(package: Path) -> None:
    modes = list_modes(package)
    assert {path: mode for path, mode in modes.items() if not path.endswith("/")} == FILES
    assert {mode for path, mode in modes.items() if path.endswith("/")} == {"drwxr-xr-x"}


@needs_dpkg
@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_modes_are_right_whatever_the_umask_is(tmp_path: Path, package: Path, umask: int) -> None:
    again = build(lay_sources(tmp_path / "source"), tmp_path / "built", umask)
    assert list_modes(again) == list_modes(package)


@needs_dpkg
def test_package_tells_apt_its_version_and_what_it_needs(package: Path) -> None:
    assert package.name == f"smsbox_{smsbox.VERSION}_all.deb"
    fields = run("dpkg-deb", "--field", package).stdout
    assert f"Version: {smsbox.VERSION}\n" in fields
    [needs] = re.findall("^Depends: (.*)$", fields, re.MULTILINE)
    assert {"python3 (>= 3.10)", "python3-serial", "tzdata"} <= set(needs.split(", "))
    assert "Conflicts" not in fields  # apt would take the other one away


@needs_dpkg
def test_files_come_from_the_folder_and_the_program(unpacked: Path) -> None:
    def read(path: str) -> bytes:
        return (unpacked / path).read_bytes()

    example = (ROOT / "config.example.toml").read_bytes()
    assert read("etc/smsbox/config.toml") == example
    assert read("usr/share/doc/smsbox/config.example.toml") == example
    assert read("DEBIAN/conffiles") == b"/etc/smsbox/config.toml\n"
    assert read("usr/lib/smsbox/smsbox.py") == (ROOT / "smsbox.py").read_bytes()
    assert read("usr/lib/systemd/system/smsbox.service") == (ROOT / "smsbox.service").read_bytes()
    rendered = {
        "usr/lib/udev/rules.d/70-smsbox-modem.rules": smsbox.render_udev_rule(),
        "usr/share/bash-completion/completions/smsbox": smsbox.render_completion(),
    }
    for path, text in rendered.items():
        assert read(path).decode() == text
    assert gzip.decompress(read("usr/share/man/man1/smsbox.1.gz")).decode() == smsbox.render_man()
    assert f"smsbox ({smsbox.VERSION})" in gzip.decompress(
        read("usr/share/doc/smsbox/changelog.gz")
    ).decode()  # fmt: skip


@needs_dpkg
def test_user_has_no_home_and_no_group_that_a_system_may_lack(unpacked: Path) -> None:
    users = (unpacked / "usr/lib/sysusers.d/smsbox.conf").read_text().splitlines()
    assert users == ["u smsbox - - /nonexistent", "m smsbox dialout"]
    assert "! getent group gpio" in (unpacked / "DEBIAN/postinst").read_text()


@needs_dpkg
@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_shellcheck_finds_nothing_in_the_packages_scripts(unpacked: Path, name: str) -> None:
    finished = run("shellcheck", unpacked / "DEBIAN" / name)
    assert finished.returncode == 0, finished.stdout


@needs_dpkg
def test_lintian_misses_only_the_licence(package: Path) -> None:
    if not shutil.which("lintian"):
        pytest.skip("lintian is missing: apt-get install lintian")
    said = run("lintian", "--allow-root", package).stdout
    assert [line for line in said.splitlines() if line not in LINTIAN] == []


@needs_dpkg
def test_launcher_runs_the_program_and_hands_on_its_exit_status(unpacked: Path) -> None:
    text = (unpacked / "usr/bin/smsbox").read_text()
    assert text.startswith("#!/usr/bin/python3 -I\n")
    launcher = unpacked / "launcher"
    launcher.write_text(text.replace('"/usr/lib/smsbox"', f'"{unpacked}/usr/lib/smsbox"'))
    assert run(sys.executable, "-I", launcher, "--version").stdout == f"smsbox {smsbox.VERSION}\n"
    assert run(sys.executable, "-I", launcher, "frobnicate").returncode == 2


@needs_dpkg
def test_package_is_written_through_no_link(tmp_path: Path, package: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("as it was")
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / package.name).symlink_to(theirs)
    built = build(lay_sources(tmp_path / "source"), tmp_path / "built")
    assert (theirs.read_text(), built.is_symlink()) == ("as it was", False)
    assert built.stat().st_mode & 0o777 == 0o644
    assert list_modes(built) == list_modes(package)
    built.unlink()
    source = tmp_path / "source" / "install.sh"
    assert "./usr/bin/smsbox" in run("sh", source, "--build", "--dry-run", cwd=built.parent).stdout
    assert list(built.parent.iterdir()) == []


@needs_dpkg
def test_damaged_program_and_missing_sources_make_no_package(tmp_path: Path) -> None:
    source = lay_sources(tmp_path / "source")
    (source / "smsbox.service").unlink()
    finished = run("sh", source / "install.sh", "--build", cwd=tmp_path)
    assert finished.returncode
    assert "smsbox.service" in finished.stdout
    (source / "smsbox.py").write_text("def main(:\n")
    finished = run("sh", source / "install.sh", "--build", cwd=tmp_path)
    assert finished.returncode == 1
    assert "is damaged" in finished.stdout
    assert "Traceback" not in finished.stdout
    assert list(tmp_path.glob("*.deb")) == []


# --- man page, rule, drop-in ------------------------------------------------------------------


def test_man_page_names_every_command_and_is_clean_roff(tmp_path: Path) -> None:
    page = tmp_path / "smsbox.1"
    page.write_text(smsbox.render_man())
    for name in smsbox.COMMANDS:
        assert f".SS {name}\n" in page.read_text()
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is missing: apt-get install mandoc")
    assert run("mandoc", "-T", "lint", page).stdout == ""


def read_rules() -> list[dict[str, str]]:
    """The rules for modems: each key with what it is matched against or set to."""
    lines = [line for line in smsbox.render_udev_rule().splitlines() if "idVendor" in line]
    return [dict(re.findall(r'([A-Z_a-z{}]+)(?:=|==|\+=)"([^"]*)"', line)) for line in lines]


def test_udev_rule_names_the_at_port_of_each_modem_that_the_program_knows() -> None:
    named = {
        (rule["ATTRS{idVendor}"], rule["ATTRS{idProduct}"]): rule["ENV{ID_USB_INTERFACE_NUM}"]
        for rule in read_rules()
        if rule.get("SYMLINK") == "smsbox-modem" and rule["SUBSYSTEM"] == "tty"
    }
    known = smsbox._USB_AT_INTERFACE
    assert named == {(vendor, product or "*"): port for (vendor, product), port in known.items()}


def test_udev_rule_keeps_modem_manager_off_these_modems_only() -> None:
    rules = read_rules()
    devices = [rule for rule in rules if "ENV{ID_MM_DEVICE_IGNORE}" in rule]
    ports = [rule for rule in rules if "ENV{ID_MM_PORT_IGNORE}" in rule]
    assert len(devices) == len(ports) == len(smsbox._USB_AT_INTERFACE)
    assert all(rule["ENV{DEVTYPE}"] == "usb_device" for rule in devices)
    assert {(rule["OWNER"], rule["MODE"]) for rule in ports} == {("smsbox", "0600")}
    for rule in rules:
        vendor = rule.get("ATTR{idVendor}") or rule["ATTRS{idVendor}"]
        product = rule.get("ATTR{idProduct}") or rule["ATTRS{idProduct}"]
        assert (vendor, None if product == "*" else product) in smsbox._USB_AT_INTERFACE


def test_drop_in_opens_the_folders_of_the_settings_and_no_other() -> None:
    def write_paths(**service: str) -> list[str]:
        told = smsbox.render_drop_in(smsbox.parse_config({"service": service}))
        comment, section, *lines = told.splitlines()
        assert comment.startswith("#")
        assert section == "[Service]"
        return lines

    box = {"database": "/var/lib/smsbox/smsbox.db"}
    assert write_paths(**box) == []
    assert write_paths(**box, backup_dir="/mnt/a 50% stick") == [
        'ReadWritePaths="-/mnt/a 50%% stick"'
    ]
    assert write_paths(database='/srv/"sms"/box.db') == [r'ReadWritePaths="-/srv/\"sms\""']


@pytest.mark.parametrize(("send_timeout_s", "stop_s"), [(120, None), (121, "242"), (600, "960")])
def test_stop_waits_for_a_segment_s_result_whatever_the_settings_let_it_take(
    send_timeout_s: int, stop_s: str | None
) -> None:
    config = smsbox.parse_config({"modem": {"send_timeout_seconds": send_timeout_s}})
    told = re.search(r"(?m)^TimeoutStopSec=(.*)$", smsbox.render_drop_in(config))
    assert (told and told[1]) == stop_s


def test_check_tells_that_the_unit_does_not_know_the_settings(tmp_path: Path) -> None:
    config = smsbox.parse_config({"service": {"backup_dir": "/mnt/stick"}})
    drop_in = tmp_path / "install.conf"
    assert list(smsbox._tell_unit(config, drop_in)) == []  # it is not installed
    drop_in.write_text(smsbox.render_drop_in(config))
    assert list(smsbox._tell_unit(config, drop_in)) == []
    drop_in.write_text(smsbox.render_drop_in(smsbox.parse_config({})))
    [fact] = smsbox._tell_unit(config, drop_in)
    assert (fact.level, "install.sh" in fact.words) == ("warning", True)


# --- what is asked of the system --------------------------------------------------------------

FOLDERS = ("usr/local", "etc", "run", "var/lib", "var/backups")

# Makes the stage the machine's own folders, for one command.
ENTER = """\
for each in {folders}; do
    mount --bind "$STAGE/$each" "/$each"
done
exec "$@"
"""
UNSHARE = ("unshare", "--map-root-user", "--mount")

# apt notes the version that it was given; versions in `refused` it refuses.
APT_GET = """\
echo "apt-get $*" >>"{calls}"
for word in "$@"; do :; done
case "$*" in
    *update*) exit ;;
    *--simulate*) echo "Inst $word" && exit ;;
esac
[ ! -e "{state}/apt fails" ] || {{ echo "E: no network" && exit 100; }}
case "$*" in *--no-install-recommends*) ;;
    *) [ ! -e "{state}/no recommends" ] || exit 100 ;; esac
case "$word" in *.deb) dpkg-deb -f "$word" Version >"{state}/version" ;; esac
"""
# A start succeeds, unless the version that is in fails, or restarts by itself.
SYSTEMCTL = """\
echo "systemctl $*" >>"{calls}"
[ ! -e "{state}/version" ] || version=$(cat "{state}/version")
case "$1 $*" in
    start*) [ "$version" != 99.0.0 ] || [ ! -e "{state}/fails" ] || {{ . "{state}/fails"; exit 1; }}
        touch "{state}/active" ;;
    stop*) rm -f "{state}/active" ;;
    is-active*) [ -e "{state}/active" ] ;;
    is-enabled*) [ ! -e "{state}/disabled" ] ;;
    cat*) [ -n "${{version:-}}" ] || [ -e /etc/systemd/system/smsbox.service ] ;;
    show*) [ "$version" = 99.0.0 ] && cat "{state}/restarts" 2>/dev/null || echo 0 ;;
esac
"""
# As much of smsbox as install.sh asks for; it notes by whom a database is asked what.
STAND_IN = """\
import sqlite3
import sys
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

VERSION = "{version}"
STATE_FOLDER = Path("/var/lib/smsbox")
spec = spec_from_file_location("program", "{program}")
program = sys.modules["program"] = module_from_spec(spec)
spec.loader.exec_module(program)
Database, scratch_database = program.Database, program.scratch_database
who = "root"


class Noting(sqlite3.Connection):
    def execute(self, sql, *given):
        with open("{state}/asked", "a") as file:
            print(who, sql, file=file)
        return super().execute(sql, *given)


sqlite3.connect = partial(sqlite3.connect, factory=Noting)


def main(words):
    {main}


def load_config(path):
    return None


def find_database(path, config):
    return STATE_FOLDER / "smsbox.db"


def become_owner(folder):
    global who
    who = "owner"


def render_man():
    return ""


render_completion = render_udev_rule = render_man
"""


@pytest.fixture(scope="module")
def namespaces() -> None:
    """Skips where this machine gives out none in which folders can be exchanged."""
    if not shutil.which("unshare") or not shutil.which("dpkg-deb"):
        pytest.skip("this machine has no unshare, or no dpkg-deb")
    tried = run(*UNSHARE, "mount", "--bind", ROOT, ROOT)
    if tried.returncode:
        pytest.skip(tried.stdout)


class Machine:
    """A machine with systemd, seen by install.sh in place of this one, and harmless commands."""

    def __init__(self, folder: Path) -> None:
        self.source, self.stage, self.state = (
            folder / name for name in ("source", "stage", "state")
        )
        self.commands, self.calls_file = folder / "commands", folder / "calls"
        lay_sources(self.source)
        for made in (self.commands, self.state, *(self.stage / name for name in FOLDERS)):
            made.mkdir(parents=True)
        (self.stage / "run/systemd/system").mkdir(parents=True)
        # Debian finds its awk by way of /etc.
        (self.stage / "etc/alternatives").mkdir()
        (self.stage / "etc/alternatives/awk").symlink_to(Path("/usr/bin/awk").resolve())
        shutil.copy("/etc/passwd", self.stage / "etc")
        for name, body in {"apt-get": APT_GET, "systemctl": SYSTEMCTL}.items():
            self.add_command(name, body.format(calls=self.calls_file, state=self.state))
        for name in ("dpkg", "sync", "sleep"):
            self.add_command(name, f'echo "{name} $*" >>"{self.calls_file}"')
        self.add_command("dpkg-query", "exit 0")
        self.add_command("journalctl", "echo the journal of smsbox")
        self.add_command("smsbox", f'echo "smsbox $(cat "{self.state}/version")"')

    def add_command(self, name: str, body: str) -> None:
        """Puts a shell script before the machine's own command of that name."""
        command = self.commands / name
        command.write_text(f"#!/bin/sh\n{body}\n")
        command.chmod(0o755)

    def lay(self, version: str, main: str = "return 0") -> None:
        """Lays a version into the source folder."""
        program = ROOT / "smsbox.py"
        text = STAND_IN.format(version=version, main=main, program=program, state=self.state)
        (self.source / "smsbox.py").write_text(text)

    def enter(self, *arguments: str, typed: str = "") -> tuple[int, str]:
        """Runs install.sh with the stage in place of the machine's folders."""
        self.calls_file.unlink(missing_ok=True)
        enter = ENTER.format(folders=" ".join(FOLDERS))
        environment = {**os.environ, "STAGE": str(self.stage)}
        environment |= {"PATH": f"{self.commands}:{os.environ['PATH']}", "SUDO_USER": "pi"}
        command = (*UNSHARE, "sh", "-ec", enter, "sh", "sh", "install.sh", *arguments)
        finished = run(*command, cwd=self.source, env=environment, input=typed)
        return finished.returncode, finished.stdout

    def install(self, *arguments: str) -> str:
        status, said = self.enter(*arguments)
        assert status == 0, said
        return said

    def calls(self, name: str = "") -> list[str]:
        """What was asked of the system; asking whether a service runs changes nothing."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        harmless = ("systemctl is-", "systemctl cat", "systemctl show", "sync", "sleep")
        return [line for line in lines if line.startswith(name) and not line.startswith(harmless)]

    def version(self) -> str:
        return (self.state / "version").read_text().strip()

    def is_active(self) -> bool:
        return (self.state / "active").exists()

    def fail(self, does: str = "") -> None:
        """Version 99.0.0 does this and does not come up."""
        (self.state / "fails").write_text(does + "\n")

    @property
    def database(self) -> Path:
        return self.stage / "var/lib/smsbox/smsbox.db"

    @property
    def copy(self) -> Path:
        return self.stage / "var/backups/smsbox.before-upgrade.db"

    @property
    def kept(self) -> Path:
        return self.stage / "var/backups/smsbox.deb"


@pytest.fixture
def machine(tmp_path: Path, namespaces: None) -> Machine:
    made = Machine(tmp_path)
    made.lay("2.0.0")
    return made


@pytest.fixture
def running(machine: Machine) -> Machine:
    """A machine on which version 2.0.0 runs; in its folder lies version 99.0.0."""
    machine.database.parent.mkdir()
    smsbox.Database.create_or_open(str(machine.database)).close()
    machine.install()
    machine.lay("99.0.0")
    return machine


def ask(database: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(database)
    try:
        with connection:
            return connection.execute(statement).fetchall()
    finally:
        connection.close()


def test_fresh_machine_runs_the_service_at_the_end(machine: Machine) -> None:
    said = machine.install()
    assert machine.is_active()
    assert "What to do next" in said
    assert "usermod -aG smsbox pi" in said
    [handed] = machine.calls("apt-get")
    assert "--force-confdef" in handed
    assert "--force-confold" in handed
    assert " install --no-remove " in handed
    assert machine.calls("systemctl")[-2:] == ["systemctl daemon-reload", "systemctl start smsbox"]
    assert run("dpkg-deb", "-f", machine.kept, "Version").stdout == "2.0.0\n"


def test_upgrade_stops_copies_and_starts(running: Machine) -> None:
    ask(running.database, "INSERT INTO state VALUES ('kept', 'yes')")
    running.install()
    assert running.version() == "99.0.0"
    assert running.is_active()
    order = [call.split()[:2] for call in running.calls() if "daemon-reload" not in call]
    assert order[0] == ["systemctl", "stop"]
    assert order[-1] == ["systemctl", "start"]
    assert ask(running.copy, "SELECT value FROM state WHERE key = 'kept'") == [("yes",)]
    assert run("dpkg-deb", "-f", running.kept, "Version").stdout == "99.0.0\n"


@pytest.mark.parametrize("how", ["fails", "restarts"])
def test_version_that_does_not_stay_up_goes_back_to_the_package_of_before(
    running: Machine, how: str
) -> None:
    (running.state / how).write_text("1\n" if how == "restarts" else "\n")
    status, said = running.enter()
    assert status == 1
    assert "the journal of smsbox" in said
    assert "version 99.0.0 did not stay up; smsbox 2.0.0 runs again." in said
    assert running.is_active()
    assert running.version() == "2.0.0"
    assert "/var/backups/smsbox.deb" in running.calls("apt-get")[-1]
    assert run("dpkg-deb", "-f", running.kept, "Version").stdout == "2.0.0\n"


def test_first_version_that_does_not_stay_up_is_told(machine: Machine) -> None:
    machine.lay("99.0.0")
    machine.fail()
    status, said = machine.enter()
    assert status == 1
    assert "version 99.0.0 fails: see journalctl -u smsbox" in said
    assert not machine.kept.exists()


def test_database_that_can_not_be_copied_stops_the_upgrade(running: Machine) -> None:
    running.database.write_text("no database at all, but a text that is long enough" * 100)
    status, said = running.enter()
    assert status == 1
    assert "the database can't be copied, so nothing was installed" in said
    assert "Traceback" not in said
    assert running.calls("apt-get") == []
    assert running.is_active()


def test_settings_that_the_new_version_refuses_stop_nothing(running: Machine) -> None:
    running.lay("99.0.0", 'print("smsbox: no such setting"); return 78')
    status, said = running.enter()
    assert status == 1
    assert "nothing was installed. no such setting" in said
    assert running.calls() == []
    assert running.is_active()


def test_upgrade_that_apt_can_not_do_runs_the_old_version_again(running: Machine) -> None:
    (running.state / "apt fails").touch()
    status, said = running.enter()
    assert status == 1
    assert "E: no network" in said
    assert "sudo date -s" in said
    assert running.version() == "2.0.0"
    assert running.is_active()


def test_nothing_is_asked_of_the_network_when_everything_is_there(running: Machine) -> None:
    running.install()
    assert [call for call in running.calls("apt-get") if "update" in call] == []
    running.add_command("dpkg-query", "exit 1")
    running.install()
    assert running.calls("apt-get")[0].endswith(" update")


def test_box_without_a_network_does_without_what_is_only_recommended(machine: Machine) -> None:
    (machine.state / "no recommends").touch()
    machine.install()
    assert "--no-install-recommends" in machine.calls("apt-get")[-1]
    assert machine.is_active()


def test_upgrade_that_shall_not_start_is_left_stopped(running: Machine) -> None:
    running.install("--no-start")
    assert not running.is_active()
    assert running.version() == "99.0.0"


def test_box_that_was_switched_off_for_good_stays_off(running: Machine) -> None:
    (running.state / "disabled").touch()
    (running.state / "active").unlink()
    running.install()
    assert not running.is_active()
    assert running.calls("systemctl start") == []


def test_dry_run_needs_no_root_and_changes_nothing(running: Machine) -> None:
    running.add_command("id", "echo 1000")
    for words in (("--dry-run",), ("--dry-run", "--purge", "--yes"), ("--uninstall", "--dry-run")):
        said = running.install(*words)
        assert all("--simulate" in call for call in running.calls())
        assert ("./usr/bin/smsbox" in said) == ("Inst smsbox" not in said)
    assert running.is_active()


def test_without_root_the_exact_sudo_line_is_given(running: Machine) -> None:
    running.add_command("id", "echo 1000")
    status, said = running.enter("--no-start")
    assert status == 1
    assert "sudo sh install.sh --no-start" in said
    assert running.calls() == []


def test_unknown_option_is_a_usage_error_and_changes_nothing(running: Machine) -> None:
    status, said = running.enter("--frobnicate")
    assert status == 2
    assert "--frobnicate" in said
    assert running.calls() == []


def test_purge_asks_and_takes_only_yes(running: Machine) -> None:
    for answer in ("y\n", "\n", ""):
        status, said = running.enter("--purge", typed=answer)
        assert status == 1
        assert "nothing was removed" in said
        assert running.calls() == []
    assert running.enter("--purge", typed="YES\n")[0] == 0
    assert running.calls("apt-get")[-1].endswith(" purge smsbox")
    assert running.enter("--purge", "--yes")[0] == 0
    assert "Type YES" not in running.install("--uninstall")
    assert running.calls("apt-get")[-1].endswith(" remove smsbox")


# --- version 1 is taken over


@pytest.fixture
def old(machine: Machine, tmp_path: Path) -> Machine:
    """A machine on which version 1 was installed by its own install.sh, with its own database."""
    folder = tmp_path / "version1"
    shutil.copytree(VERSION_1, folder)
    program = lzma.decompress((folder / "smsbox.py.xz").read_bytes())
    (folder / "smsbox.py").write_bytes(program)
    laid = run("sh", folder / "install.sh", env={**os.environ, "DESTDIR": str(machine.stage)})
    assert laid.returncode == 0, laid.stdout
    command = ("--database", machine.database, "optout", "add", "+12135552301")
    assert run(sys.executable, "-I", folder / "smsbox.py", *command).returncode == 0
    drop_in = machine.stage / "etc/systemd/system/smsbox.service.d/install.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\n")
    (machine.state / "active").touch()
    machine.lay("99.0.0")
    return machine


LEFT_BY_1 = (
    *("usr/local/lib/smsbox", "usr/local/bin/smsbox", "etc/systemd/system/smsbox.service"),
    *("usr/local/share/bash-completion/completions/smsbox",),
    "etc/udev/rules.d/70-smsbox-modem.rules",
)


def left_by_1(machine: Machine) -> list[str]:
    return [path for path in LEFT_BY_1 if (machine.stage / path).exists()]


def test_version_1_goes_once_version_2_stays_up(old: Machine) -> None:
    assert left_by_1(old) == list(LEFT_BY_1)
    settings = (old.stage / "etc/smsbox/config.toml").read_text()
    old.install()
    assert old.is_active()
    assert left_by_1(old) == []
    assert (old.stage / "etc/smsbox/config.toml").read_text() == settings
    assert ask(old.database, "SELECT phone_number FROM opt_outs") == [("+12135552301",)]


WRITES = (
    'python3 -c \'import sqlite3\nsqlite3.connect("/var/lib/smsbox/smsbox.db",'
    ' isolation_level=None).execute("{}")\''
)


def test_version_1_runs_again_on_its_copy_when_version_2_does_not_stay_up(old: Machine) -> None:
    old.fail(WRITES.format("CREATE TABLE ruin (x)") + f'; echo 1.0.0 >"{old.state}/version"')
    status, said = old.enter()
    assert status == 1
    assert "version 99.0.0 did not stay up; " in said
    assert left_by_1(old) == list(LEFT_BY_1)
    assert old.is_active()
    assert "dpkg --remove smsbox" in old.calls("dpkg")
    assert ask(old.database, "SELECT name FROM sqlite_schema WHERE name = 'ruin'") == []
    assert len(ask(old.database, "SELECT * FROM opt_outs")) == 1


def test_what_a_member_has_laid_into_the_database_is_not_run_by_root(old: Machine) -> None:
    old.fail()
    assert old.enter()[0] == 1
    asked = (old.state / "asked").read_text().splitlines()
    counted = [line for line in asked if "FROM segments" in line]
    assert [line.split()[0] for line in counted] == ["owner", "owner"]


@pytest.mark.parametrize("suffix", ["-journal", "-wal"])
def test_pipe_beside_the_database_stops_the_upgrade(running: Machine, suffix: str) -> None:
    os.mkfifo(f"{running.database}{suffix}")
    status, said = running.enter()
    assert status == 1
    assert "the database can't be copied, so nothing was installed" in said
    assert running.is_active()


def test_journal_that_names_another_file_stops_the_upgrade(running: Machine) -> None:
    target = running.state / "target"
    target.touch()
    lay_journal(running.database, str(target))
    assert running.enter()[0] == 1
    assert target.exists()


@pytest.mark.parametrize(
    "happened",
    [
        "INSERT INTO inbound (received_at, sender, body, tpdu, request)"
        " VALUES (1, 2, 3, 4, 5)",
        "INSERT INTO opt_outs (phone_number) VALUES (char(43) || 12065550100)",
    ],
    ids=["a text came in", "a person acted"],
)  # fmt: skip
def test_version_1_stays_stopped_when_something_happened_since(old: Machine, happened: str) -> None:
    old.fail(WRITES.format(happened))
    status, said = old.enter()
    assert status == 1
    assert "something was sent or came in since" in said
    assert "sudo systemctl enable --now smsbox" in said
    assert not old.is_active()
    assert old.calls("systemctl")[-1] == "systemctl disable -q smsbox"
    assert (old.stage / "usr/local/lib/smsbox/smsbox.py").exists()


def test_version_1_is_left_alone_where_smsbox_may_not_start(old: Machine) -> None:
    status, said = old.enter("--no-start")
    assert status == 1
    assert "version 1 is taken over only where smsbox may start" in said
    assert old.calls() == []
    assert left_by_1(old) == list(LEFT_BY_1)


def test_take_over_that_was_cut_off_keeps_the_copy_of_version_1(old: Machine) -> None:
    old.fail()
    (old.stage / "usr/local/lib/smsbox/smsbox.service").write_text("moved by the first try\n")
    (old.stage / "etc/systemd/system/smsbox.service").unlink()
    shutil.copy(old.database, old.copy)
    ask(old.database, "CREATE TABLE ruin (x)")
    assert old.enter()[0] == 1
    assert ask(old.database, "SELECT name FROM sqlite_schema WHERE name = 'ruin'") == []
