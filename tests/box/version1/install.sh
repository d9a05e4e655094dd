#!/bin/sh
# Installs, upgrades and uninstalls smsbox. The same command does all of it again without harm.
#
# It lays files below /usr/local, /etc and /var/lib, and starts a systemd service. It never edits
# the boot files, never removes a package, and never changes a configuration that is there.

set -eu

program="smsbox"
service="smsbox.service"
# Of the system, not of the PATH: apt's modules belong to this one.
system_python="/usr/bin/python3"

usage() {
    cat <<'USAGE'
Usage: sudo sh install.sh [OPTION]...

Installs smsbox on this machine, or upgrades it: configuration and data are kept. An upgrade copies
the database first; a new version that does not come up is taken back.

  --dry-run     print every action, do nothing (needs no root)
  --no-start    install, but do not start the service now (it starts at the next boot)
  --uninstall   remove program, service and udev rule; keep configuration and data
  --purge       remove configuration, data and user too; asks for YES
  --yes         answer that question (for scripts)
  --help        show this help

With DESTDIR=FOLDER in the environment the files are only laid below FOLDER: no packages, no
user, no service, no root needed.
USAGE
}

# --- words -----------------------------------------------------------------------------------

say() {
    printf '%s\n' "$*"
}

warn() {
    printf 'install.sh: warning: %s\n' "$*" >&2
}

die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

# Does one action, or only prints it.
run() {
    if [ "$dry_run" = yes ]; then
        say "would run: $*"
    else
        "$@"
    fi
}

# lay MODE FILE SOURCE: puts a copy of SOURCE there. The name changes hands in one step, so that a
# power cut leaves the old file or the new one; an equal file stays as it is.
lay() {
    if cmp -s "$3" "$2"; then
        [ "$dry_run" = yes ] || chmod "$1" "$2"
        return
    fi
    changed="yes"
    if [ "$dry_run" = yes ]; then
        say "would write: $2 (mode $1)"
        return
    fi
    mkdir -p "$(dirname "$2")"
    cat "$3" >"$2.new"
    chmod "$1" "$2.new"
    mv -f "$2.new" "$2"
}

# lay_text MODE FILE COMMAND...: lays what the command prints; nothing printed means no such file.
lay_text() {
    mode="$1"
    file="$2"
    shift 2
    "$@" >"$work/text"
    if [ -s "$work/text" ]; then
        lay "$mode" "$file" "$work/text"
    elif [ -e "$file" ]; then
        changed="yes"
        run rm -f "$file"
    fi
}

have() { command -v "$1" >/dev/null 2>&1; }
now() { date '+%Y-%m-%d %H:%M'; }
is_staging() { [ -n "$root" ]; }
is_group() { getent group "$1" >/dev/null 2>&1; }

# False in a chroot or a container without systemd as its first process.
is_systemd_running() { have systemctl && [ -d /run/systemd/system ]; }

is_active() { is_systemd_running && systemctl is-active --quiet "$1"; }

# No file of ours is from tomorrow.
is_clock_wrong() {
    clock_is_wrong="the clock of this machine is wrong (it says $(now)): set it with"
    clock_is_wrong="$clock_is_wrong sudo date -s 'YYYY-MM-DD HH:MM'"
    [ -n "$(find "$here/smsbox.py" -newermt '1 day')" ]
}

is_pi() { have raspi-config || grep -aqs 'Raspberry Pi' /proc/device-tree/model; }

# --- checks ----------------------------------------------------------------------------------

check_root() {
    if is_staging || [ "$dry_run" = yes ] || [ "$(id -u)" -eq 0 ]; then
        return
    fi
    die "this needs root; run: sudo sh $0${arguments:+ $arguments}"
}

check_sources() {
    for name in smsbox.py smsbox.service config.example.toml; do
        [ -r "$here/$name" ] || die "$here/$name is missing; run install.sh from the smsbox folder."
    done
}

check_python() {
    # A folder can be filled on a machine that keeps its Python elsewhere.
    if is_staging && [ ! -x "$system_python" ]; then
        python="python3"
    fi
    have "$python" || die "Python is missing; run: sudo apt-get install python3"
    "$python" -I -c "import sys; sys.exit(sys.version_info < (3, 10))" ||
        die "smsbox needs Python 3.10 or newer and this is $("$python" --version); upgrade to" \
            "Raspberry Pi OS 12 (bookworm) or newer."
    # Compiled once, since it is asked several things before it is laid down.
    "$python" -I -c "import py_compile, sys; py_compile.compile(*sys.argv[1:], doraise=True)" \
        "$here/smsbox.py" "$new_program" 2>/dev/null ||
        die "$here/smsbox.py is damaged; fetch smsbox again."
}

# A foreign program of the same name is reported or left alone, never overwritten.
check_other_smsbox() {
    for other in "$root/usr/sbin/smsbox" "$root/usr/local/sbin/smsbox"; do
        if [ -e "$other" ]; then
            warn "$other, Kannel's command of the same name, stays; ours is $launcher_path."
        fi
    done
    if is_foreign_launcher; then
        die "$launcher is another program; move it away, then run this again."
    fi
}

is_foreign_launcher() { [ -e "$launcher" ] && ! grep -q "$library_path" "$launcher"; }

# Before anything is touched: settings that the new version refuses would leave a silent box.
check_config() {
    if is_staging || [ ! -r "$config" ] || ! { has_module tomllib || has_module tomli; }; then
        return
    fi
    status=0
    answer=$("$python" -I "$new_program" --config "$config" check --config 2>&1) || status=$?
    if [ "$status" -eq 78 ]; then
        die "the settings do not suit this version, so nothing was installed. ${answer#smsbox: }"
    fi
}

# --- packages --------------------------------------------------------------------------------

has_module() {
    # Looks without importing: lgpio makes files where it is imported.
    "$python" -I -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)"
}

has_lamps() {
    grep -Eqs '^[[:blank:]]*(ready|sending|fault|power_key_gpio)[[:blank:]]*=' "$config"
}

# Sets `needed`, without which the service cannot run, and `wanted`, which only the lamps need.
find_missing_packages() {
    needed=""
    wanted=""
    has_module serial || needed="$needed python3-serial"
    has_module tomllib || has_module tomli || needed="$needed python3-tomli"
    [ -d /usr/share/zoneinfo ] || needed="$needed tzdata"
    have useradd || needed="$needed passwd"
    has_module gpiozero || wanted="$wanted python3-gpiozero"
    # Debian has no python3-lgpio, the archive of Raspberry Pi OS has.
    if ! has_module lgpio && apt-cache show python3-lgpio >/dev/null 2>&1; then
        wanted="$wanted python3-lgpio"
    fi
}

# A box without network wakes up in the past, where apt refuses signatures from the future.
refresh_package_lists() {
    if [ "$dry_run" = yes ]; then
        say "would run: apt-get update"
        return
    fi
    say "Refreshing the package lists."
    answer="not valid yet"
    if ! is_clock_wrong; then
        answer=$(LC_ALL=C apt-get update 2>&1) || answer="failed: $answer"
    fi
    case "$answer" in
        *"not valid yet"* | *"Not live until"* | *"not yet valid"* | *"not yet activated"*)
            [ -z "$needed" ] || die "$clock_is_wrong, then run this again."
            ;;
        failed:*) warn "the package lists could not be refreshed; going on with those at hand." ;;
    esac
}

# get_packages NAME...: a fresh Pi is often busy with its own updates, so wait for apt's lock.
get_packages() {
    [ "$#" -gt 0 ] || return 0
    say "Installing packages: $*"
    set -- env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 \
        -o Dpkg::Use-Pty=0 install -y -qq --no-install-recommends "$@"
    if [ "$dry_run" = yes ]; then
        run "$@"
    elif ! "$@" >"$work/apt" 2>&1; then
        tail -n 5 "$work/apt" >&2
        return 1
    fi
}

# Asks the network for nothing when everything is there.
install_packages() {
    find_missing_packages
    if have apt-get; then
        if [ -n "$needed$wanted" ]; then
            refresh_package_lists
            find_missing_packages
        fi
        # shellcheck disable=SC2086  # lists of words
        {
            get_packages $needed || warn "apt could not install$needed (the clock says $(now))."
            get_packages $wanted || warn "apt could not install$wanted, for the lamps."
        }
    fi
    [ "$dry_run" = yes ] || install_modules
}

# What apt does not give comes into a private virtual environment.
install_modules() {
    find_missing_packages
    case "$needed" in
        *passwd* | *tzdata*)
            die "these Debian packages are missing:$needed; check the network, then run this again."
            ;;
    esac
    modules=""
    has_module serial || modules="$modules pyserial==3.5"
    has_module tomllib || has_module tomli || modules="$modules tomli==2.2.1"
    if [ -n "$modules" ]; then
        # shellcheck disable=SC2086  # a list of words
        get_modules $modules ||
            die "Python's modules can't be had, by apt or by pip:$modules; check the network and" \
                "the clock (it says $(now)), then run this again."
    fi
    if has_lamps && ! { has_module gpiozero && has_module lgpio; }; then
        # No version of gpiozero before this one finds the pins of a Pi 5 on every kernel.
        get_modules gpiozero==2.0.1.post3 lgpio==0.2.2.0 ||
            warn "gpiozero and lgpio can't be had, by apt or by pip: the lamps stay dark."
    fi
}

# get_modules NAME==VERSION...: what apt has given is seen from inside, too.
get_modules() {
    say "Installing into $venv: $*"
    if [ ! -x "$venv/bin/python" ]; then
        "$system_python" -I -c 'import ensurepip, venv' 2>/dev/null || get_packages python3-venv
        rm -rf "$venv"
        mkdir -p "$library"
        "$system_python" -I -m venv --system-site-packages "$venv" || return 1
    fi
    if "$venv/bin/python" -I -m pip --quiet --disable-pip-version-check --retries 1 \
        install --only-binary :all: "$@" >"$work/modules" 2>&1; then
        python="$venv/bin/python"
        return
    fi
    tail -n 3 "$work/modules" >&2
    # An environment in which nothing came to be is not what the launcher should name.
    if [ "$python" = "$system_python" ]; then
        rm -rf "$venv"
    fi
    return 1
}

# The environment of an earlier run; one of another Python (a new release) is made anew.
find_environment() {
    if is_staging || [ ! -d "$venv" ]; then
        return
    fi
    if "$venv/bin/python" -I -c "import pip, serial, sys; sys.exit(sys.prefix == sys.base_prefix)" \
        2>/dev/null; then
        python="$venv/bin/python"
    else
        run rm -rf "$venv"
    fi
}

# --- user and groups -------------------------------------------------------------------------

create_user() {
    for group in smsbox dialout; do
        is_group "$group" || run groupadd --system "$group"
    done
    if ! id smsbox >/dev/null 2>&1; then
        say "Creating the system user smsbox."
        run useradd --system --gid smsbox --home-dir "$state_path" --no-create-home \
            --shell /usr/sbin/nologin smsbox
    fi
    join_group dialout
    ! is_group gpio || join_group gpio
}

join_group() {
    case " $(id -nG smsbox 2>/dev/null || true) " in
        *" $1 "*) ;;
        *) run usermod -a -G "$1" smsbox ;;
    esac
}

# --- texts of files --------------------------------------------------------------------------

print_launcher() {
    interpreter="$python"
    ! is_staging || interpreter="$system_python"
    cat <<LAUNCHER
#!$interpreter -I
import sys

sys.path.insert(0, "$library_path")
import smsbox

sys.exit(smsbox.main())
LAUNCHER
}

# The modems that smsbox knows by their USB identity, and the interface that takes AT commands.
list_modems() {
    cat <<'MODEMS'
1e0e 9001 02 SimCom SIM7600, SIM7100, SIM7000
1e0e 9205 02 SimCom SIM7070, SIM7080
1e0e 9206 02 SimCom SIM7070, SIM7080
1e0e 9011 04 SimCom A7600, A7670
2c7c *    02 Quectel EC25, EG25, EG91, BG96
19d2 0108 03 ZTE
19d2 0117 02 ZTE MF190
1546 1010 06 u-blox TOBY-L4
1546 1102 00 u-blox SARA-U2
1546 1107 00 u-blox TOBY-R2
1546 110a 00 u-blox LARA-R2
1bc7 0021 00 Telit HE910, UE910
1bc7 1003 00 Telit UC864
1bc7 1201 04 Telit LE910
1199 *    03 Sierra MC7304, MC7455
MODEMS
}

# Sorts after 60-serial.rules, which finds the interface number, and before 80-mm-candidate.rules,
# with which ModemManager picks its modems.
print_udev_rule() {
    cat <<'RULE'
# Part of smsbox; replaced at an upgrade. Rules of your own: /etc/udev/rules.d/71-smsbox-local.rules
# /dev/smsbox-modem is the port that takes AT commands, whatever its ttyUSB number is.
# ModemManager runs as root and opens every port it takes for a modem. It leaves these alone, and
# keeps all others: those of Huawei too, which are the Internet's as often as ours.
ACTION=="remove", GOTO="smsbox_end"
RULE
    list_modems | while read -r vendor product interface name; do
        say ""
        say "# $name"
        device="ATTR{idVendor}==\"$vendor\", ATTR{idProduct}==\"$product\""
        port="SUBSYSTEM==\"tty\", SUBSYSTEMS==\"usb\""
        port="$port, ATTRS{idVendor}==\"$vendor\", ATTRS{idProduct}==\"$product\""
        say "SUBSYSTEM==\"usb\", ENV{DEVTYPE}==\"usb_device\", $device," \
            "ENV{ID_MM_DEVICE_IGNORE}=\"1\""
        say "$port, ENV{ID_MM_PORT_IGNORE}=\"1\""
        say "$port, ENV{ID_USB_INTERFACE_NUM}==\"$interface\", SYMLINK+=\"smsbox-modem\""
    done
    say ""
    say 'LABEL="smsbox_end"'
}

# What the unit has to know of this machine and its settings; nothing where they are the usual ones.
print_drop_in() {
    print_directives >"$work/directives"
    if [ -s "$work/directives" ]; then
        say "# Written by install.sh from groups and settings; run it again after a change of them."
        say "[Service]"
        cat "$work/directives"
    fi
}

print_directives() {
    # A unit that names a missing group does not start (216/GROUP).
    ! is_group gpio || say "SupplementaryGroups=gpio"
    # The minus sign: a stick that is not plugged in does not stop the service.
    list_folders_elsewhere | sed 's/%/%%/g; s/["\\]/\\&/g; s/.*/ReadWritePaths="-&"/'
    # The unit's own time is enough for the default of 120 s, and half as long of listening on.
    read_setting modem send_timeout_seconds |
        awk '$1 > 120 { printf "TimeoutStopSec=%d\n", $1 * 1.5 + 61 }'
}

# print_completion PROGRAM: a bad config does not stop it.
print_completion() {
    "$python" -I "$1" --config /dev/null completion 2>/dev/null || true
}

# --- settings --------------------------------------------------------------------------------

# read_setting SECTION KEY: its value in the config; nothing where it has none.
read_setting() {
    "$python" -I -c '
import importlib, sys
toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
with open(sys.argv[1], "rb") as file:
    print(toml.load(file).get(sys.argv[2], {}).get(sys.argv[3], ""))
' "$config" "$1" "$2" 2>/dev/null || true
}

find_database() {
    named=$(read_setting service database)
    say "${named:-$state_path/smsbox.db}"
}

# Where the settings let it write, beside its own folder.
list_folders_elsewhere() {
    for folder in "$(read_setting service backup_dir)" "$(dirname "$(find_database)")"; do
        case "$folder" in
            "" | "$state_path" | "$state_path"/*) ;;
            /*) say "$folder" ;;
        esac
    done
}

# "[section] key" of each setting, also of those behind a comment sign.
list_settings() {
    awk '
        /^[ \t]*\[/ { section = $1 }
        { sub(/^[# \t]+/, "") }
        /^[a-z_]+[ \t]*=/ { sub(/[ \t]*=.*/, ""); print section, $0 }
    '
}

# New: not in the settings, and not yet known to the version before. Asked before that is replaced.
find_new_settings() {
    new_settings=""
    if [ -r "$config" ] && [ -e "$library/smsbox.py" ]; then
        cat "$config" "$example" 2>/dev/null | list_settings >"$work/known"
        new_settings=$(list_settings <"$here/config.example.toml" | grep -vxF -f "$work/known") ||
            true
    fi
}

# --- files -----------------------------------------------------------------------------------

install_files() {
    run install -d -m 0755 "$library"
    lay 0644 "$library/smsbox.py" "$here/smsbox.py"
    compile_program
    lay 0644 "$example" "$here/config.example.toml"
    lay_text 0755 "$launcher" print_launcher
    lay_text 0644 "$completion" print_completion "$new_program"
    lay_text 0644 "$udev_rule" print_udev_rule
    lay 0644 "$unit" "$here/smsbox.service"
    if ! is_staging; then
        lay_text 0644 "$drop_in" print_drop_in
    fi
}

compile_program() {
    if is_staging; then
        run "$python" -I -m compileall -q -s "$root" -p / "$library/smsbox.py"
    else
        run "$python" -I -m compileall -q "$library/smsbox.py"
    fi
}

# give OWNER MODE FILE
give() {
    is_staging || run chown "$1" "$3"
    run chmod "$2" "$3"
}

install_folders() {
    run install -d -m 0755 "$(dirname "$config")"
    if [ -e "$config" ] || [ -L "$config" ]; then
        say "Keeping the settings in $config."
    else
        lay 0640 "$config" "$here/config.example.toml"
    fi
    # Either may hold the PIN of the SIM.
    give root:smsbox 0640 "$config"
    [ ! -e "$sim_pin" ] || give root:root 0600 "$sim_pin"
    # The setgid bit: what SQLite makes beside the database belongs to group smsbox.
    run mkdir -p "$state"
    give smsbox:smsbox 2770 "$state"
}

# --- service and udev ------------------------------------------------------------------------

# Only the daemon knows whether a segment is with the modem, so it is asked to stop and waited for.
stop_service() {
    if [ ! -e "$unit" ] || ! is_systemd_running; then
        return
    fi
    say "Stopping smsbox; a text that is being sent is finished first (up to four minutes)."
    case "$(systemctl is-active "$service")" in
        inactive | failed) ;;
        *) stopped="yes" ;;
    esac
    run systemctl stop "$service"
}

start_service() {
    if ! have systemctl; then
        warn "this system has no systemd; start '$launcher_path run' as user smsbox yourself."
        return
    fi
    if ! is_systemd_running; then
        run systemctl enable -q "$service"
        say "systemd is not running here: smsbox starts at the next boot."
        return
    fi
    run systemctl daemon-reload
    run systemctl enable -q "$service"
    if [ "$start" = no ]; then
        stopped="no"
        say "smsbox starts at the next boot, or with: sudo systemctl start smsbox"
    elif [ "$changed" = no ] && is_active "$service"; then
        say "smsbox is running, and nothing has changed for it."
    else
        say "Starting smsbox."
        come_up
    fi
}

come_up() {
    stopped="no"
    if run systemctl restart "$service" && stays_up; then
        return
    fi
    say "smsbox did not come up. It said:"
    journalctl --unit="$service" --lines=5 --output=cat --no-pager 2>/dev/null || true
    if [ "$upgrade" = yes ]; then
        roll_back
    fi
    die "smsbox is installed but did not start; it says why in: journalctl -u smsbox -n 20"
}

# READY has come; a version that dies soon after it has not come up either.
stays_up() {
    if [ "$upgrade" = no ] || [ "$dry_run" = yes ]; then
        return
    fi
    sleep 5
    is_active "$service" && [ "$(systemctl show --value -p NRestarts "$service")" = 0 ]
}

# A modem that is plugged in already gets its name without being pulled out.
reload_udev() {
    if ! have udevadm || [ ! -e /run/udev/control ]; then
        return
    fi
    run udevadm control --reload || warn "udev did not reload its rules; a reboot does it."
    run udevadm trigger --subsystem-match=usb --subsystem-match=tty ||
        warn "udev did not apply the new rule; a reboot does it."
}

# --- upgrade and roll-back -------------------------------------------------------------------

find_changes() {
    print_launcher >"$work/launcher"
    if ! cmp -s "$here/smsbox.py" "$library/smsbox.py" || ! cmp -s "$here/smsbox.service" "$unit" ||
        ! cmp -s "$work/launcher" "$launcher"; then
        changed="yes"
    fi
    [ "$changed" = no ] || [ ! -e "$library/smsbox.py" ] || upgrade="yes"
}

prepare_upgrade() {
    stop_service
    if [ "$upgrade" = yes ]; then
        with_kept_files keep_file
        kept="yes"
    fi
    copy_database
}

with_kept_files() {
    for file in "$library/smsbox.py" "$example" "$launcher" "$udev_rule" "$unit" "$drop_in"; do
        "$1" "$file" "$library/$(basename "$file").old"
    done
}

# Beside the program, not in a temporary folder: an upgrade can be taken back by hand, too.
keep_file() {
    if [ -e "$1" ]; then
        run cp -p "$1" "$2"
    elif [ -e "$2" ]; then
        run rm -f "$2"
    fi
}

put_back_file() {
    if [ -e "$2" ]; then
        cp -p "$2" "$1.new"
        mv -f "$1.new" "$1"
    else
        rm -f "$1"
    fi
}

put_back_old_version() {
    with_kept_files put_back_file
    compile_program || true
    lay_text 0644 "$completion" print_completion "$library/smsbox.py"
    sync || true
    systemctl daemon-reload
}

# handle_database copy|compare|put-back DATABASE COPY: as its owner, since what root makes beside a
# database its owner can't use.
handle_database() {
    runuser -u smsbox -- "$system_python" -I -c '
import os, sqlite3, sys

COUNTED = ("segments", "reports", "inbound", "inbound_parts", "opt_outs", "scheduled_messages",
           "events WHERE actor <> ?")

def connect(path):
    return sqlite3.connect(path, timeout=30)

def count(path):
    """What was sent and received, and what people did; [] when there is nothing yet."""
    if not os.path.exists(path):
        return []
    selects = ", ".join(f"(SELECT COUNT(*) FROM {each})" for each in COUNTED)
    counts = list(connect(path).execute(f"SELECT {selects}", ("daemon",)).fetchone())
    return counts if any(counts) else []

def remove(path):
    for name in (path, path + "-wal", path + "-shm"):
        if os.path.exists(name):
            os.unlink(name)

os.chdir("/")
os.umask(0o007)
verb, database, copy = sys.argv[1:]
try:
    if verb == "compare":
        sys.exit(count(database) != count(copy))
    elif verb == "put-back" and os.path.exists(copy):
        connect(copy).backup(connect(database))
    elif verb == "put-back":
        remove(database)
    else:
        remove(copy)  # an earlier one is no way back from here
        if os.path.exists(database):
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            connect(database).execute("VACUUM INTO ?", (copy,))
            os.chmod(copy, 0o660)
except (OSError, sqlite3.Error) as error:
    sys.exit(f"{database}: {error}")
' "$@"
}

copy_database() {
    database=$(find_database)
    [ -d "$state" ] || return 0
    if [ "$dry_run" = yes ]; then
        say "would copy: $database to $copy"
        return
    fi
    say "Copying the database to $copy."
    handle_database copy "$database" "$copy" ||
        die "the database can't be copied, so nothing was installed; make room or mend it."
}

# The copy is put back only as long as nothing gets lost with it: a text that went out since would
# go out a second time, and a reply be forgotten.
roll_back() {
    newer=$(version_of "$library/smsbox.py")
    systemctl stop "$service" || true
    put_back_old_version
    older=$(version_of "$library/smsbox.py")
    if ! handle_database compare "$database" "$copy"; then
        systemctl disable -q "$service"
        die "version $newer did not come up, and something was sent, received or changed before" \
            "it failed: smsbox is stopped and stays so. Version $older is laid back; with the" \
            "database as it is now it goes on once you say: sudo systemctl enable --now smsbox" \
            "(the database from before: $copy)"
    fi
    handle_database put-back "$database" "$copy" ||
        die "the copy can't be put back: smsbox is stopped; try: sudo smsbox restore $copy"
    systemctl start "$service" ||
        die "version $newer did not come up, nor does $older: see journalctl -u smsbox -n 20"
    die "version $newer did not come up; version $older runs again, on the database from before."
}

version_of() { sed -n 's/^VERSION = "\(.*\)".*/\1/p' "$1"; }

# An upgrade that breaks off (disk full, lost connection) must not leave a silent box.
clean_up() {
    if [ "$stopped" = yes ] && [ "$dry_run" = no ]; then
        if [ "$kept" = yes ]; then
            put_back_old_version
        fi
        systemctl start --no-block "$service"
        warn "the upgrade broke off and smsbox runs again as it was; run this once more."
    fi
    rm -rf "$work"
}

# --- what an operator should know ------------------------------------------------------------

notice_clock() {
    ! is_clock_wrong || warn "$clock_is_wrong; nothing is sent before."
    case "$(read_setting clock sources)" in
        "" | *ntp*) ;;
        *) return ;;
    esac
    is_systemd_running || return 0
    for name in systemd-timesyncd chrony ntpsec ntp openntpd; do
        if systemctl is-active --quiet "$name.service"; then
            return
        fi
    done
    warn "no time service is running, and nothing is sent before the time is known to be right;" \
        "run: sudo apt-get install systemd-timesyncd"
}

notice_zone() {
    zone=$(read_setting business_hours timezone)
    zone="${zone:-America/Los_Angeles}"
    if [ -e /etc/localtime ] && ! cmp -s "/usr/share/zoneinfo/$zone" /etc/localtime; then
        system_zone=$(readlink -f /etc/localtime)
        warn "this system's time zone is ${system_zone#*/zoneinfo/}, the business hours are those" \
            "of $zone; if that is not meant, change timezone in $config, or run:" \
            "sudo timedatectl set-timezone $zone"
    fi
}

notice_others() {
    if is_active ModemManager.service; then
        warn "ModemManager is running: unplug and replug the modem once so that it lets go of it." \
            "It may keep other modems."
    fi
    if have brltty || is_active brltty.service; then
        warn "brltty takes USB serial adapters for Braille displays; unless you have one, run:" \
            "sudo apt-get remove brltty"
    fi
}

# Boot files are the owner's: the lines are told, never run.
notice_uart() {
    is_pi || return 0
    if grep -Eqs 'console=(serial|ttyAMA|ttyS)[0-9]' /proc/cmdline; then
        warn "a console is on the serial pins: a modem HAT there can't be used before it is gone."
    fi
    if have raspi-config; then
        say "Only for a modem HAT on the serial pins (not for USB), run this and reboot:"
        say "  sudo raspi-config nonint do_serial_hw 0"
        say "  sudo raspi-config nonint do_serial_cons 1"
    fi
}

notice_new_settings() {
    if [ -n "$new_settings" ]; then
        say "New settings, all optional (their meaning: $example):" \
            "$(say "$new_settings" | paste -s -d , | sed 's/,/, /g')"
    fi
}

say_what_next() {
    say ""
    say "smsbox is installed. What to do next:"
    say "  how it is now          smsbox status"
    say "  what it is doing       journalctl -u smsbox -f"
    say "  the settings           sudo nano $config, then: sudo systemctl restart smsbox"
    say "  modem, SIM and clock   smsbox check"
    say "  look at a campaign     smsbox schedule people.csv --dry-run"
    say "  store it for sending   smsbox schedule people.csv"
    operator="${SUDO_USER:-}"
    case " $(id -nG "$operator" 2>/dev/null || true) " in
        *" smsbox "*) ;;
        *)
            say "These need sudo, until you run this and log in again:"
            say "  sudo usermod -a -G smsbox,dialout ${operator:-YOUR-USER}"
            ;;
    esac
}

# --- the ways --------------------------------------------------------------------------------

install_all() {
    check_sources
    find_environment
    check_python
    check_other_smsbox
    find_new_settings
    if ! is_staging; then
        install_packages
        check_config
        create_user
        find_changes
        if [ "$changed" = yes ]; then
            prepare_upgrade
        fi
    fi
    install_folders
    install_files
    if is_staging; then
        say "The files of smsbox are below $root."
        return
    fi
    # Out of the caches and onto the card: a power cut may follow at once.
    run sync
    reload_udev
    start_service
    notice_clock
    notice_zone
    notice_others
    notice_new_settings
    if [ "$dry_run" = no ]; then
        say_what_next
    fi
    notice_uart
}

remove_program() {
    if ! is_staging && [ -e "$unit" ]; then
        stop_service
        stopped="no"
        ! have systemctl || run systemctl disable -q "$service"
    fi
    if is_foreign_launcher; then
        warn "$launcher is another program, it stays."
    else
        run rm -f "$launcher"
    fi
    run rm -rf "$library"
    run rm -f "$udev_rule" "$unit" "$drop_in" "$completion"
    if [ -d "$unit.d" ]; then
        run rmdir "$unit.d" 2>/dev/null || say "Keeping your own drop-ins in $unit.d."
    fi
    if ! is_staging; then
        ! is_systemd_running || run systemctl daemon-reload
        reload_udev
    fi
}

uninstall_all() {
    remove_program
    say "Kept: the settings in $config, the data in $state, and the user smsbox."
}

purge_all() {
    say "This removes smsbox, its settings in $(dirname "$config"), its database and the copies in"
    say "$state, and the user smsbox. Who said stop is forgotten, too; to keep that list:"
    say "  sudo smsbox optout export stopped.csv"
    ask_for_yes
    elsewhere=$(list_folders_elsewhere)
    run rm -rf "$unit.d"
    remove_program
    run rm -rf "$(dirname "$config")" "$state"
    if ! is_staging && id smsbox >/dev/null 2>&1; then
        run userdel smsbox
        # userdel leaves a group that has other members.
        ! is_group smsbox || run groupdel smsbox
    fi
    say "smsbox is gone, and its data with it.${elsewhere:+ What it wrote elsewhere is kept:}"
    [ -z "$elsewhere" ] || say "$elsewhere"
}

ask_for_yes() {
    if [ "$dry_run" = yes ] || [ "$yes" = yes ]; then
        return
    fi
    [ -t 0 ] || die "--purge asks on a terminal, and this is none; a script says --purge --yes."
    printf 'Remove all of it? Type YES: '
    read -r answer || answer=""
    [ "$answer" = YES ] || die "nothing was removed."
}

parse_arguments() {
    dry_run="no"
    start="yes"
    way="install"
    yes="no"
    arguments="$*"
    for argument in "$@"; do
        case "$argument" in
            --dry-run) dry_run="yes" ;;
            --no-start) start="no" ;;
            --uninstall) way="uninstall" ;;
            --purge) way="purge" ;;
            --yes) yes="yes" ;;
            --help | -h)
                usage
                exit 0
                ;;
            *)
                say "install.sh: unknown option $argument; see: sh install.sh --help" >&2
                exit 2
                ;;
        esac
    done
}

find_paths() {
    # The folder of this script, and the folder that everything goes below ("" is the machine).
    here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
    root="${DESTDIR:-}"
    root="${root%/}"
    case "$root" in
        "" | /*) ;;
        *) root="$(pwd)/$root" ;;
    esac

    # What the installed files call each other by, and where they are laid.
    library_path="/usr/local/lib/$program"
    launcher_path="/usr/local/bin/$program"
    state_path="/var/lib/$program"
    library="$root$library_path"
    example="$library/config.example.toml"
    venv="$library/venv"
    launcher="$root$launcher_path"
    completion="$root/usr/local/share/bash-completion/completions/$program"
    state="$root$state_path"
    copy="$state/backups/smsbox-before-upgrade.db"
    config="$root/etc/$program/config.toml"
    sim_pin="$root/etc/$program/sim.pin"
    udev_rule="$root/etc/udev/rules.d/70-$program-modem.rules"
    unit="$root/etc/systemd/system/$service"
    drop_in="$unit.d/install.conf"
}

main() {
    parse_arguments "$@"
    find_paths
    python="$system_python"
    stopped="no" # the service, by us
    changed="no" # what the service runs by
    upgrade="no" # there is a version to go back to
    kept="no"    # it lies beside the new one
    # A root shell made by plain `su` does not find useradd.
    PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
    umask 022
    check_root
    work=$(mktemp -d)
    new_program="$work/smsbox.pyc"
    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 141' PIPE
    trap 'exit 143' TERM
    if [ "$dry_run" = yes ]; then
        say "Dry run: this is what would be done; nothing is changed."
    fi
    "${way}_all"
}

main "$@"
