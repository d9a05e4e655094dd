"""The appliance on a machine that boots: systemd as PID 1, a modem, an operator, and the bad days.

Run by tests/box/boot/run. Each scenario gets a machine of its own, a copy of the one on which
install.sh has run, and looks at it from outside: at what the modem took, at systemd, the journal,
the files. No machine but the one that installs has any network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import pytest

from box.boot.appliance import NEWER, Appliance, Installed, Saw, lay_sources
from box.boot.machine import MARK
from rig.pty_modem import TEXT, Fault, wait_until

# --- installed, and a good day


def test_fresh_system_becomes_the_appliance_in_one_command(
    installed: Installed, saw: Saw, note: Saw
) -> None:
    assert installed.state == "active"
    assert "What to do next" in installed.said
    assert installed.megabytes < 40
    note(f"$ install.sh --dry-run\n{installed.dry_run}\n$ sudo install.sh\n{installed.said}")
    new = installed.packages
    saw(f"install.sh took {installed.took_s:.1f} s and {installed.megabytes:.1f} MB")
    saw(f"{len(new)} new packages: {', '.join(new)}")
    saw(f"the fresh system boots in {installed.booted_s:.1f} s")
    if installed.image_s:
        saw(f"its image was built in {installed.image_s:.1f} s")


def test_operator_without_sudo_schedules_a_campaign_and_it_arrives(
    box: Appliance, saw: Saw, note: Saw
) -> None:
    rows = box.schedule(6)
    box.await_texts(rows)
    wait_until(lambda: box.count_rows() == {"sent": 6})
    assert box.journal("--priority=warning") == ""
    note(f"$ journalctl -u smsbox\n{box.journal()}")
    saw("6 of 6 arrived in order; journalctl -p warning is empty")


def test_operator_lists_and_cancels_and_is_the_one_named_behind_sudo_too(
    box: Appliance, saw: Saw
) -> None:
    box.schedule(3, "--start", "2099-06-01 10:00")
    assert "boot 2 of 3" in box.smsbox("list", "--json")
    box.smsbox("cancel", "1")
    box.run("sudo", "smsbox", "cancel", "2", user="pi")
    actors = box.sql("SELECT event, actor FROM events WHERE scheduled_message_id < 3 ORDER BY id")
    assert [each for each in actors if each[0] == "cancelled"] == [("cancelled", "pi")] * 2
    assert box.count_rows() == {"cancelled": 2, "scheduled": 1}
    saw(f"the audit names: {', '.join(f'{event} by {actor}' for event, actor in actors)}")


def test_pin_comes_from_systemd_and_is_shown_nowhere(off_box: Appliance, saw: Saw) -> None:
    box = off_box
    box.modem.begin_anew(pin="4711")
    box.power_on()
    wait_until(lambda: "PIN" in str(box.status().get("modem")), 20, 0.1)
    box.write("/etc/smsbox/sim.pin", "4711\n")
    (box.root / "etc/smsbox/sim.pin").chmod(0o600)
    box.run("systemctl", "restart", "smsbox")
    box.await_ready()
    assert "4711" not in box.journal()
    rows = box.schedule(2)
    box.await_texts(rows)
    saw("/etc/smsbox/sim.pin unlocks the SIM by LoadCredential; the journal does not hold the PIN")


def test_installing_again_without_a_network_asks_for_nothing(box: Appliance, saw: Saw) -> None:
    rows = box.schedule(6)
    files = "find /etc /usr/lib/smsbox -newer /home/pi/mark -type f"
    box.sh("touch /home/pi/mark")
    box.install()
    changed = {*box.sh(files).split()} - {"/etc/systemd/system/smsbox.service.d/install.conf"}
    kept = {each for each in changed if "smsbox" not in each or each.startswith("/etc/smsbox")}
    assert "/etc/smsbox/config.toml" not in kept
    box.await_texts(rows)
    saw("no package was asked for, the settings stay; 6 of 6 arrived in order")


def test_who_is_not_in_the_group_gets_one_sentence(box: Appliance, saw: Saw) -> None:
    said = box.smsbox("status", user="visitor", status=78)
    assert len(said.splitlines()) == 1
    assert "join the group smsbox" in said
    saw(said.strip())


# --- power


def test_reboot_amid_a_campaign_goes_on_by_itself(box: Appliance, saw: Saw) -> None:
    rows = box.schedule(10)
    box.await_count(3)
    booted_s = box.reboot()
    before = len(box.texts())
    assert before < 10
    box.await_texts(rows)
    saw(f"{before} of 10 before the reboot ({booted_s:.1f} s), all 10 once and in order after it")


def test_power_cut_amid_a_campaign_goes_on_without_a_duplicate(box: Appliance, saw: Saw) -> None:
    rows = box.schedule(12)
    for count in (2, 5, 8):
        box.await_count(count)
        box.cut_power()
        box.power_on()
    box.await_texts(rows)
    wait_until(lambda: "scheduled" not in box.count_rows())
    saw(f"3 cuts, 12 of 12 arrived once and in order; rows: {box.count_rows()}")


def test_text_that_the_modem_held_at_a_power_cut_is_never_sent_again(
    box: Appliance, saw: Saw
) -> None:
    box.modem.misbehave(Fault(TEXT, skip=2, says=b""))
    rows = box.schedule(5)
    box.await_count(3)
    box.cut_power()
    box.power_on()
    box.await_texts(rows)
    [(number, words)] = box.sql(
        "SELECT phone_number, error_message FROM scheduled_messages WHERE status = 'failed'"
    )
    assert number == rows[2][0]
    assert "may have been sent" in words
    saw(f"5 of 5 arrived once; the third says: {words}")


def test_without_a_known_time_the_service_runs_and_sends_nothing(
    off_box: Appliance, saw: Saw
) -> None:
    box = off_box
    (box.root / MARK.lstrip("/")).unlink()
    box.power_on()
    box.await_ready()
    rows = box.schedule(2)
    box.stays([], 3)
    clock = box.status()["clock"]
    assert clock.startswith("not trusted")
    saw(f"nothing was sent in 3 s; status: {clock}")
    [said] = [line for line in box.journal().splitlines() if "clock" in line]
    assert said.startswith("the clock is not trusted yet")
    saw(f"journal: {said}")
    box.sh("mkdir -p /run/systemd/timesync; touch /run/systemd/timesync/synchronized")
    box.await_texts(rows)
    saw("both arrived once the time was known")


# --- the service manager


def test_process_that_hangs_is_killed_and_started_again(box: Appliance, saw: Saw) -> None:
    box.drop_in("WatchdogSec=3\nRestartSec=1")
    box.await_ready()
    rows = box.schedule(8)
    box.await_count(2)
    stopped = box.show("MainPID")
    box.run("kill", "-STOP", stopped)
    wait_until(lambda: box.show("MainPID") not in (stopped, "0"), 20, 0.1)
    box.let_go_of_port()
    box.await_texts(rows)
    assert box.show("NRestarts") == "1"
    assert "watchdog" in box.journal().lower()
    saw("systemd's watchdog restarted it once; 8 of 8 arrived once and in order")


def test_stop_while_the_modem_holds_a_text_waits_for_its_result(box: Appliance, saw: Saw) -> None:
    box.modem.misbehave(Fault(TEXT, skip=1, delay_s=3))
    rows = box.schedule(4)
    box.await_count(2)
    box.run("systemctl", "stop", "smsbox")
    assert box.show("Result") == "success"
    assert box.texts() == rows[:2]
    assert box.count_rows() == {"sent": 2, "scheduled": 2}
    box.run("systemctl", "start", "smsbox")
    box.await_texts(rows)
    wait_until(lambda: box.count_rows() == {"sent": 4})
    saw("the stop waited for the modem's word; 4 of 4 arrived once, none unconfirmed")


def test_broken_config_ends_the_service_with_the_sentence_and_no_restart(
    box: Appliance, saw: Saw
) -> None:
    box.drop_in("RestartSec=100ms")
    box.settle(pacing={"intervall_minutes": [4, 7]})
    box.run("systemctl", "restart", "smsbox", status=1)
    box.stays([], 1)  # ten restarts would fit in
    assert box.show("ActiveState") == "failed"
    assert box.show("ExecMainStatus") == "78"
    assert box.show("NRestarts") == "0"
    said = [line for line in box.journal().splitlines() if "intervall_minutes" in line]
    assert len(said) == 1
    assert "Traceback" not in box.journal()
    box.settle()
    box.run("systemctl", "start", "smsbox")
    box.await_ready()
    saw(f"status 78, no restart; journal: {said[0]}")


def test_status_says_that_the_config_is_newer_than_the_daemon(box: Appliance, saw: Saw) -> None:
    def warned() -> list[str]:
        return [each["words"] for each in box.status()["facts"] if each["name"] == "config"]

    assert warned() == []
    box.settle(pacing={"first_after_seconds": 1})
    [said] = warned()
    box.run("systemctl", "restart", "smsbox")
    box.await_ready()
    assert warned() == []
    saw(said)


# --- upgrade and roll-back

# What bad versions do when they are the daemon.
ENDS_AT_ONCE = """
    sys.exit(1)
"""
ENDS_SOON = """
    import threading
    threading.Timer(6, lambda: os._exit(1)).start()
"""
# It sends as ever, and never tells systemd that it is ready.
NEVER_READY = """
    SystemdNotifier.notify = lambda self, words: None
"""


def test_upgrade_amid_a_campaign_keeps_config_and_data_and_goes_on(
    box: Appliance, saw: Saw
) -> None:
    rows = box.schedule(8)
    box.await_count(2)
    copies, settings = box.copies(), (box.root / "etc/smsbox/config.toml").read_text()
    box.lay_newer()
    said = box.install()
    box.await_ready()
    assert box.status()["version"] == NEWER
    assert len(box.copies() - copies) == 1
    assert (box.root / "etc/smsbox/config.toml").read_text() == settings
    assert [line for line in said.splitlines() if "warning" in line and "clock" not in line] == []
    box.await_texts(rows)
    wait_until(lambda: box.count_rows() == {"sent": 8})
    saw(f"version {NEWER} runs; copy: {', '.join(box.copies() - copies)}")
    saw("8 of 8 arrived once and in order")


@pytest.mark.parametrize(
    ("does", "watched_s"),
    [
        pytest.param(ENDS_AT_ONCE, 2, id="at_once"),
        pytest.param(ENDS_SOON, 10, id="soon", marks=pytest.mark.long),
    ],
)
def test_version_that_does_not_stay_up_is_rolled_back(
    box: Appliance, saw: Saw, does: str, watched_s: int
) -> None:
    version = box.status()["version"]
    box.hurry(watched_s)
    rows = box.schedule(6)
    box.await_count(2)
    box.lay_newer(does)
    said = box.install(status=1)
    box.let_go_of_port()
    box.await_ready()
    assert box.status()["version"] == version
    box.await_texts(rows)
    wait_until(lambda: box.count_rows() == {"sent": 6})
    saw(f"{version} runs again; 6 of 6 arrived once and in order")
    saw(said.strip().splitlines()[-1])


@pytest.mark.long
def test_version_that_sent_before_it_failed_is_rolled_back_too(box: Appliance, saw: Saw) -> None:
    version = box.status()["version"]
    rows = box.schedule(30)
    box.drop_in("TimeoutStartSec=5")
    box.await_count(2)
    before = len(box.texts())
    box.lay_newer(NEVER_READY)
    box.install(status=1)
    assert len(box.texts()) > before
    box.await_ready()
    assert box.status()["version"] == version
    box.await_texts(rows)
    saw("30 of 30 arrived once and in order, some by the version that failed")


COPY = "var/backups/smsbox.before-upgrade.db"
LIBRARY_1 = "usr/local/lib/smsbox"
UPGRADE: dict[str, Callable[[Appliance], bool]] = {
    "while it is copied": lambda box: (box.root / COPY).exists(),
    "while it is unpacked": lambda box: box.has_dpkg_said("status half-installed smsbox:all"),
    "unpacked": lambda box: box.has_dpkg_said(f"status unpacked smsbox:all {NEWER}"),
    "while it is set up": lambda box: box.has_dpkg_said(
        f"status half-configured smsbox:all {NEWER}"
    ),
    "set up": lambda box: box.has_dpkg_said(f"status installed smsbox:all {NEWER}"),
    "while it is watched": lambda box: box.status().get("version") == NEWER,
}
TAKE_OVER: dict[str, Callable[[Appliance], bool]] = {
    **UPGRADE,
    "the old unit gone": lambda box: (box.root / LIBRARY_1 / "smsbox.service").exists(),
    "while the old files go": lambda box: (
        not (box.root / "etc/udev/rules.d/70-smsbox-modem.rules").exists()
    ),
}


def all_of(moments: Iterable[str]) -> list[object]:
    """Return all moments, which --long tries; the cut amid a bad upgrade is tried always."""
    return [
        pytest.param(moment, id=moment.replace(" ", "_"), marks=pytest.mark.long)
        for moment in moments
    ]


def cut_and_go_on(box: Appliance, saw: Saw, happens: Callable[[Appliance], bool]) -> None:
    """Cut the power at a moment of an upgrade; the box goes on, and install.sh ends the work."""
    rows = box.schedule(16)
    box.await_count(2)
    before = box.cut_power_amid_install(lambda: happens(box))
    assert before < 16
    box.power_on()
    box.await_ready()
    version = box.status()["version"]
    box.await_texts(rows)
    box.install()
    box.await_ready()
    assert box.status()["version"] == NEWER
    box.stays(rows)
    assert box.run("dpkg", "--audit") == ""
    assert not (box.root / LIBRARY_1).exists()
    saw(f"{before} of 16 before the cut; it boots with {version}, and all 16 have arrived")
    saw(f"once install.sh has run again it is {NEWER}")


@pytest.mark.parametrize("moment", all_of(UPGRADE))
def test_power_cut_amid_an_upgrade_leaves_one_of_the_two_versions(
    box: Appliance, saw: Saw, moment: str
) -> None:
    box.lay_newer()
    (box.root / COPY).unlink(missing_ok=True)
    cut_and_go_on(box, saw, UPGRADE[moment])


def test_power_cut_amid_an_upgrade_to_a_bad_version_is_told_and_install_sh_goes_back(
    box: Appliance, saw: Saw
) -> None:
    version = box.status()["version"]
    box.hurry(2)
    rows = box.schedule(6)
    box.await_count(2)
    box.lay_newer(ENDS_AT_ONCE)
    box.cut_power_amid_install(lambda: box.has_dpkg_said(f"status installed smsbox:all {NEWER}"))
    box.power_on()
    wait_until(lambda: "An upgrade was cut off" in box.journal(), 30, 0.1)
    [told, *_] = [line for line in box.journal().splitlines() if "upgrade was cut off" in line]
    box.install(status=1)
    box.let_go_of_port()
    box.await_ready()
    assert box.status()["version"] == version
    box.await_texts(rows)
    saw(f"journal: {told}")
    saw(f"once install.sh has run again {version} runs; 6 of 6 arrived once and in order")


# --- version 1 is taken over

LEFT_BY_1 = (
    *("usr/local/lib/smsbox", "usr/local/bin/smsbox", "etc/systemd/system/smsbox.service"),
    *("usr/local/share/bash-completion/completions/smsbox",),
    "etc/udev/rules.d/70-smsbox-modem.rules",
)


def test_version_1_is_taken_over_amid_a_campaign(old_box: Appliance, saw: Saw) -> None:
    box = old_box
    assert all((box.root / path).exists() for path in LEFT_BY_1)
    settings = (box.root / "etc/smsbox/config.toml").read_text()
    box.smsbox("optout", "add", "+12135552399")
    rows = box.schedule(6)
    box.await_count(2)
    box.lay_newer()
    box.install()
    box.await_ready()
    assert box.status()["version"] == NEWER
    assert [path for path in LEFT_BY_1 if (box.root / path).exists()] == []
    assert (box.root / "etc/smsbox/config.toml").read_text() == settings
    assert "+12135552399" in box.smsbox("optout", "list")
    box.await_texts(rows)
    box.reboot()
    box.await_ready()
    saw("settings, database and operators stay, its files are gone; 6 of 6 arrived once")


@pytest.mark.long
def test_version_1_runs_again_on_its_copy_when_version_2_does_not_stay_up(
    old_box: Appliance, saw: Saw
) -> None:
    box = old_box
    rows = box.schedule(6)
    box.await_count(2)
    box.lay_newer("    context.write().close()\n    sys.exit(1)\n")
    said = box.install(status=1)
    box.await_ready()
    assert box.status()["version"] == "1.0.0"
    assert all((box.root / path).exists() for path in LEFT_BY_1)
    assert not (box.root / "usr/bin/smsbox").exists()
    box.await_texts(rows)
    box.reboot()
    box.await_ready()
    saw(said.strip().splitlines()[-1])
    saw("6 of 6 arrived once and in order, and it boots")


@pytest.mark.long
def test_version_1_stays_stopped_when_version_2_sent_before_it_failed(
    old_box: Appliance, saw: Saw
) -> None:
    box = old_box
    rows = box.schedule(30)
    box.drop_in("TimeoutStartSec=5")
    box.await_count(2)
    before = len(box.texts())
    box.lay_newer(NEVER_READY)
    said = box.install(status=1)
    assert box.show("ActiveState") in ("inactive", "failed")
    after = len(box.texts())
    assert after > before
    box.reboot()
    box.stays(rows[:after])
    saw(said.strip().splitlines()[-1])
    saw(f"{after - before} texts went out before it failed; it stays stopped, at a boot too")
    lay_sources(box)
    box.run("systemctl", "enable", "smsbox")
    box.install()
    box.await_texts(rows)
    saw("30 of 30 arrived once and in order, once a good version 2 was there")


@pytest.mark.parametrize("moment", all_of(TAKE_OVER))
def test_power_cut_amid_the_take_over_leaves_one_of_the_two_versions(
    old_box: Appliance, saw: Saw, moment: str
) -> None:
    old_box.lay_newer()
    cut_and_go_on(old_box, saw, TAKE_OVER[moment])


# --- and away


def test_uninstalled_box_keeps_config_and_data_and_installed_again_it_goes_on(
    box: Appliance, saw: Saw
) -> None:
    rows = box.schedule(8)
    box.await_count(2)
    said = box.install("--uninstall")
    assert box.show("LoadState") == "not-found"
    for path in ("usr/lib/smsbox", "usr/bin/smsbox"):
        assert not (box.root / path).exists()
    for path in ("etc/smsbox/config.toml", "var/lib/smsbox/smsbox.db"):
        assert (box.root / path).exists()
    went = box.texts()
    assert went == rows[: len(went)]
    box.stays(went)
    box.install()
    box.await_texts(rows)
    saw(said.strip().splitlines()[-1])
    saw(f"{len(went)} of 8 before, 8 of 8 once it was installed again, each once and in order")


def test_purge_asks_and_then_leaves_nothing(box: Appliance, saw: Saw) -> None:
    left = ("etc/smsbox", "var/lib/smsbox", "usr/lib/smsbox", "usr/bin/smsbox")
    assert "nothing was removed" in box.purge("no")
    assert all((box.root / path).exists() for path in left)
    assert box.is_active()
    said = box.purge("YES")
    assert not any((box.root / path).exists() for path in left)
    assert box.show("LoadState") == "not-found"
    box.run("id", "smsbox", status=1)
    saw(said.strip().splitlines()[-1])


# --- the sandbox


PROBE = """
import errno, json, os, socket, time
def name(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
print("probe", json.dumps({
    "internet socket": name(lambda: socket.socket(socket.AF_INET)),
    "write /etc": name(lambda: open("/etc/smsbox/probe", "w")),
    "list /home": name(lambda: os.listdir("/home/pi")),
    "set the clock": name(lambda: time.clock_settime(time.CLOCK_REALTIME, time.time())),
    "write its state": name(lambda: open("/var/lib/smsbox/probe", "w")),
    "interfaces": [line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line],
}), flush=True)
"""


def test_sandbox_holds_on_the_running_system(box: Appliance, saw: Saw) -> None:
    box.write("/usr/local/lib/probe.py", PROBE)
    box.drop_in("ExecStartPre=/usr/bin/python3 /usr/local/lib/probe.py")
    [said] = [line for line in box.journal().splitlines() if line.startswith("probe")]
    assert '"internet socket": "EAFNOSUPPORT"' in said
    assert '"write /etc": "EROFS"' in said
    assert '"list /home": "EACCES"' in said
    assert '"set the clock": "EPERM"' in said
    assert '"write its state": "done"' in said
    assert '"interfaces": ["lo"]' in said
    saw(said)
    # The machine has only lo too, so see that the service's network is another one.
    of_process, of_machine = (
        box.run("readlink", f"/proc/{pid}/ns/net") for pid in (box.show("MainPID"), "1")
    )
    assert of_process != of_machine


def test_systemd_understands_the_unit_and_finds_it_well_shut(
    box: Appliance, saw: Saw, note: Saw
) -> None:
    said = box.run(
        "systemd-analyze", "verify", "--man=no", "/usr/lib/systemd/system/smsbox.service"
    )
    assert "smsbox" not in said
    score = box.run("systemd-analyze", "security", "--no-pager", "--threshold=12", "smsbox.service")
    lines = [line.rstrip() for line in score.splitlines()]
    costs = [re.sub(" {2,}", "  ", line) for line in lines if line.startswith("✗")]
    note("\n".join(costs))
    saw(lines[-1].lstrip("→ "))
