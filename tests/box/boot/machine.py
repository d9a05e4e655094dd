"""A machine for the boot test: a Debian root folder, booted by systemd-nspawn with a real PID 1.

What is real: systemd, its units, notifications, watchdog, users, groups, sandbox, journal, apt.
What is not: devices by class (DeviceAllow), GPIO, udev's hot-plug, memory limits. A power cut is
the death of every process at once; what the host's page cache holds survives it.

The process that uses this runs in mount and PID namespaces of its own (tests/box/boot/run), so that
no machine outlives it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rig.pty_modem import wait_until

DIALOUT = 20  # Debian's fixed number of the group that owns serial ports
PORT = "/dev/ttyUSB0"
MARK = "/etc/tmpfiles.d/time-is-known.conf"
BOOTS_WITHIN_S = 60.0
STOPS_WITHIN_S = 60.0
_REBOOT = 133  # systemd-nspawn's exit status when the machine wants to be started anew
_ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "TERM=dumb"
)  # fmt: skip

# As little as Raspberry Pi OS Lite has anyway; what smsbox needs beyond is for install.sh to find.
_PACKAGES = "systemd systemd-sysv dbus udev python3 procps tzdata sudo passwd ca-certificates"
_RECIPE = (
    "--variant=apt",
    f"--include={_PACKAGES.replace(' ', ',')}",
    "--skip=cleanup/apt/lists",
    '--aptopt=Acquire::Languages "none"',
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale")),
    '--customize-hook=echo box >"$1/etc/hostname"',
    '--customize-hook=echo 127.0.1.1 box >>"$1/etc/hosts"',
    # The user of a fresh Raspberry Pi: sudo without a password.
    '--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash --groups sudo pi',
    '--customize-hook=echo "pi ALL=(ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/pi"',
)


class Image(NamedTuple):
    """A fresh system, and the folder in which its packages are kept from one run to the next."""

    root: Path
    archives: Path
    built_in_s: float  # 0: it was there


def find_mirror() -> tuple[str, list[str]]:
    """Give the Debian mirror of this machine's own apt, and the options by which it is reached."""
    fields = "$(RELEASE) $(COMPONENT) $(REPO_URI)"
    targets = _ask("apt-get", "indextargets", "--format", fields, "Identifier: Packages")
    suites = {platform.freedesktop_os_release()["VERSION_CODENAME"], "stable", "oldstable"}
    for target in targets.splitlines():
        suite, component, mirror = target.split(" ", 2)
        if suite in suites and component == "main":
            break
    else:
        raise AssertionError(
            f"apt knows no Debian mirror for {suites}; see /etc/apt/sources.list.d"
        )
    options = _ask("apt-config", "dump").splitlines()
    kept = ("Acquire::http", "Acquire::Check", "Acquire::Retries")
    return mirror, [line for line in options if line.startswith(kept) and '""' not in line]


def build_image(release: str, cache: Path) -> Image:
    """Build the release's image, or take the one that the same recipe has made."""
    key = hashlib.sha256("\n".join(_RECIPE).encode()).hexdigest()[:12]
    folder = cache / f"{release}-{key}"
    image = Image(folder / "root", folder / "archives", 0.0)
    (image.archives / "partial").mkdir(parents=True, exist_ok=True)
    if image.root.exists():
        return image
    for old in cache.glob(f"{release}-*"):
        if old != folder:
            shutil.rmtree(old)
    mirror, options = find_mirror()
    began = time.monotonic()
    unfinished = folder / "root.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    subprocess.run(
        [
            "mmdebstrap", "--quiet", *_RECIPE, *(f"--aptopt={line}" for line in options),
            release, str(unfinished), mirror,
        ],
        stdin=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    unfinished.rename(image.root)
    return image._replace(built_in_s=time.monotonic() - began)


def copy_root(root: Path, to: Path) -> Path:
    """Give a copy of a root folder below `to`: a layer over it, else one file by file."""
    copy, upper, work = (to / name for name in ("root", "upper", "work"))
    for folder in (copy, upper, work):
        folder.mkdir(parents=True)
    options = f"lowerdir={root},upperdir={upper},workdir={work}"
    layer = ["mount", "-t", "overlay", "-o", options, "overlay", str(copy)]
    if subprocess.run(layer, capture_output=True).returncode:  # folders in a container, say
        copy.rmdir()
        subprocess.run(["cp", "-a", "--reflink=auto", str(root), str(copy)], check=True)
    return copy


def discard_root(copy: Path) -> None:
    """Throw a copy away."""
    if copy.is_mount():
        subprocess.run(["umount", str(copy)], check=True)
    shutil.rmtree(copy.parent)


def _find_hierarchy() -> dict[str, str]:
    """Give the machine the unified control groups wherever the host has them, as a Pi has."""
    is_there = " cgroup2 " in Path("/proc/self/mounts").read_text()
    return {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"} if is_there else {}


def _ask(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


class Machine:
    """One machine, off at first. Its modem lives on the host and keeps its own truth."""

    def __init__(self, root: Path, port: Path | None = None) -> None:
        self.root = root
        self.console = root.parent / "console"
        self._port = port
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._pid = 0  # of its PID 1, as the host counts

    # --- power

    def power_on(self, *, packages: Path | None = None) -> float:
        """Boot; the seconds that it took. With a folder for packages it has the host's network."""
        began = time.monotonic()
        command = [
            "systemd-nspawn", "--quiet", "--directory", str(self.root), "--boot",
            "--machine=box", "--register=no", "--keep-unit", "--console=pipe", "--timezone=off",
            # The host's own time service is none of the machine's business.
            "--system-call-filter=~adjtimex clock_adjtime",
        ]  # fmt: skip
        if packages is None:
            command += ["--private-network", "--resolv-conf=off"]
        else:
            command += ["--resolv-conf=copy-host", f"--bind={packages}:/var/cache/apt/archives"]
        if self._port is not None:
            device = self._port.resolve()
            os.chown(device, 0, DIALOUT)
            device.chmod(0o660)
            command.append(f"--bind={device}:{PORT}")
        with self.console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                env={**os.environ, **_find_hierarchy()},
            )  # fmt: skip
        wait_until(self._is_booted, BOOTS_WITHIN_S)
        return time.monotonic() - began

    def _is_booted(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, f"it does not boot: {self.console.read_text()}"
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            return False
        self._pid = int(children[0])
        state = self._enter("systemctl", "is-system-running", "--wait").stdout.strip()
        return state in ("running", "degraded")

    def reboot(self) -> float:
        """Reboot by its own command; the seconds until it is up again."""
        assert self._nspawn is not None
        self.run("systemctl", "reboot")
        assert self._nspawn.wait(STOPS_WITHIN_S) == _REBOOT
        return self.power_on()

    def cut_power(self) -> None:
        """Kill every process of it at once."""
        assert self._nspawn is not None
        os.kill(self._pid, signal.SIGKILL)
        self._nspawn.wait(STOPS_WITHIN_S)
        self._nspawn = None

    def shut_down(self) -> None:
        """Switch it off by its own command."""
        assert self._nspawn is not None
        self.run("systemctl", "poweroff")
        self._nspawn.wait(STOPS_WITHIN_S)
        self._nspawn = None

    def is_on(self) -> bool:
        return self._nspawn is not None and self._nspawn.poll() is None

    # --- commands

    def run(
        self, *command: str, user: str = "root", status: int | None = 0, stdin: str = ""
    ) -> str:
        """Run a command in it as a user, with the groups that a login gives; what it says."""
        done = self._enter("runuser", "-u", user, "--", *command, stdin=stdin)
        said = done.stdout + done.stderr
        assert status is None or done.returncode == status, (
            f"{' '.join(command)} ended with {done.returncode}: {said}"
        )
        return said

    def sh(self, script: str, user: str = "root") -> str:
        """Run a line of shell in it."""
        return self.run("sh", "-euc", script, user=user)

    def packages(self) -> set[str]:
        """Give the names of its packages."""
        return set(self.run("dpkg-query", "--show", "--showformat", "${Package}\\n").split())

    def write(self, path: str, text: str) -> None:
        """Write a file as root."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def hurry(self, seconds: float) -> None:
        """Let install.sh watch a new version for that long in place of ten seconds."""
        self.write("/usr/local/bin/sleep", f"#!/bin/sh\nexec /usr/bin/sleep {seconds}\n")
        (self.root / "usr/local/bin/sleep").chmod(0o755)

    def _enter(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        words: Sequence[str] = (
            "nsenter", "--target", str(self._pid), "--all", "env", "-i", *_ENVIRONMENT, *command
        )  # fmt: skip
        return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=300)
