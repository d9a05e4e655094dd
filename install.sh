#!/bin/sh
# Installs, upgrades and uninstalls smsbox. The same command does all of it again without harm.
#
# It lays files below /usr/local, /etc and /var/lib, and starts a systemd service. It never edits
# the boot files, never removes a package, and never changes a configuration that is there.

set -eu

program="smsbox"
service="smsbox.service"
# Of the system, not of the PATH: the launcher runs with this one, and apt's modules belong to it.
python="/usr/bin/python3"

usage() {
    cat <<'USAGE'
Usage: sudo sh install.sh [OPTION]...

Installs smsbox on this machine, or upgrades it: configuration and data are kept.

  --dry-run     print every action, do nothing (needs no root)
  --no-start    install, but do not start the service now (it starts at the next boot)
  --uninstall   remove program, service and udev rule; keep configuration and data
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

# put MODE FILE: writes standard input to FILE. The name changes hands in one step, so that a power
# cut leaves the old file or the new one; an equal file stays as it is.
put() {
    if [ "$dry_run" = yes ]; then
        say "would write: $2 (mode $1)"
        cat >/dev/null
        return
    fi
    cat >"$2.new"
    chmod "$1" "$2.new"
    if cmp -s "$2.new" "$2"; then
        rm -f "$2.new"
        chmod "$1" "$2"
    else
        mv -f "$2.new" "$2"
    fi
}

have() {
    command -v "$1" >/dev/null 2>&1
}

now() {
    date '+%Y-%m-%d %H:%M'
}

is_staging() {
    [ -n "$root" ]
}

is_group() {
    getent group "$1" >/dev/null 2>&1
}

# False in a chroot or a container without systemd as its first process.
is_systemd_running() {
    have systemctl && [ -d /run/systemd/system ]
}

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
    if is_staging && [ ! -x "$python" ]; then
        python="python3"
    fi
    have "$python" || die "Python is missing; run: sudo apt-get install python3"
    "$python" -I -c "import sys; sys.exit(sys.version_info < (3, 10))" ||
        die "smsbox needs Python 3.10 or newer and this is $("$python" --version); upgrade to" \
            "Raspberry Pi OS 12 (bookworm) or newer."
    "$python" -I -c "import sys; compile(open(sys.argv[1], 'rb').read(), 'smsbox.py', 'exec')" \
        "$here/smsbox.py" 2>/dev/null || die "$here/smsbox.py is damaged; fetch smsbox again."
}

# A foreign program of the same name is reported or left alone, never overwritten.
check_other_smsbox() {
    for other in "$root/usr/sbin/smsbox" "$root/usr/local/sbin/smsbox"; do
        if [ -e "$other" ]; then
            warn "$other, Kannel's command of the same name, stays; ours is $launcher_path."
        fi
    done
    if [ -e "$launcher" ] && ! grep -q "$library_path" "$launcher"; then
        die "$launcher is another program; move it away, then run this again."
    fi
}

# --- packages --------------------------------------------------------------------------------

has_module() {
    # Looks without importing: lgpio makes files where it is imported.
    "$python" -I -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)"
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
}

# Debian has no python3-lgpio, the archive of Raspberry Pi OS has.
find_lgpio_package() {
    has_module lgpio && return
    if apt-cache show python3-lgpio >/dev/null 2>&1; then
        wanted="$wanted python3-lgpio"
    else
        say "The archive has no python3-lgpio: without it the lamps stay dark, the rest works."
    fi
}

refresh_package_lists() {
    if [ "$dry_run" = yes ]; then
        say "would run: apt-get update"
        return
    fi
    say "Refreshing the package lists."
    status=0
    answer=$(LC_ALL=C apt-get update 2>&1) || status=$?
    # A box without network wakes up in the past, and signatures are from the future then.
    case "$answer" in
        *"not valid yet"* | *"Not live until"* | *"not yet activated"*)
            die "the clock of this machine is wrong: it says $(now); set it with" \
                "sudo date -s 'YYYY-MM-DD HH:MM', then run this again."
            ;;
    esac
    if [ "$status" -ne 0 ]; then
        warn "the package lists could not be refreshed; going on with those at hand."
    fi
}

# get_packages NAME...: a fresh Pi is often busy with its own updates, so wait for apt's lock.
get_packages() {
    run env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 \
        -o Dpkg::Use-Pty=0 install -y -qq --no-install-recommends "$@"
}

# Asks the network for nothing when everything is there.
install_packages() {
    find_missing_packages
    if ! have apt-get; then
        if [ -n "$needed" ]; then
            die "this system has no apt; install what these Debian packages hold, then run this" \
                "again:$needed"
        fi
        return
    fi
    if [ -n "$needed$wanted" ]; then
        refresh_package_lists
    fi
    find_lgpio_package
    if [ -n "$needed" ]; then
        say "Installing packages:$needed"
        # shellcheck disable=SC2086  # a list of words
        get_packages $needed ||
            die "the packages could not be installed; check the network and the clock (it says" \
                "$(now)), then run this again."
    fi
    if [ -n "$wanted" ]; then
        say "Installing packages for the lamps:$wanted"
        # shellcheck disable=SC2086  # a list of words
        get_packages $wanted ||
            warn "the packages for the lamps could not be installed: the lamps stay dark."
    fi
}

# --- user and groups -------------------------------------------------------------------------

create_user() {
    if ! id smsbox >/dev/null 2>&1; then
        say "Creating the system user smsbox."
        if is_group smsbox; then
            own_group="--gid smsbox"
        else
            own_group="--user-group"
        fi
        # shellcheck disable=SC2086  # a list of words
        run useradd --system $own_group --home-dir "$state_path" --no-create-home \
            --shell /usr/sbin/nologin smsbox
    fi
    is_group dialout || run groupadd --system dialout
    join_group dialout
    if is_group gpio; then
        join_group gpio
    fi
}

join_group() {
    case " $(id -nG smsbox 2>/dev/null || true) " in
        *" $1 "*) ;;
        *) run usermod -a -G "$1" smsbox ;;
    esac
}

# --- files -----------------------------------------------------------------------------------

print_launcher() {
    cat <<'LAUNCHER'
#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/usr/local/lib/smsbox")
import smsbox

sys.exit(smsbox.main())
LAUNCHER
}

# Sorts after 60-serial.rules, which finds the interface number, and before 80-mm-candidate.rules,
# with which ModemManager picks its modems.
print_udev_rule() {
    cat <<'RULE'
# Part of smsbox; replaced at an upgrade. Rules of your own: /etc/udev/rules.d/71-smsbox-local.rules
ACTION=="remove", GOTO="smsbox_end"

# /dev/smsbox-modem is the port that takes AT commands, whatever its ttyUSB number is.
# SIMCom SIM7100, SIM7500, SIM7600
SUBSYSTEM=="tty", SUBSYSTEMS=="usb", ATTRS{idVendor}=="1e0e", ATTRS{idProduct}=="9001", \
  ENV{ID_USB_INTERFACE_NUM}=="02", SYMLINK+="smsbox-modem"
# SIMCom A7600, A7602, A7670, A7672, SIM7670
SUBSYSTEM=="tty", SUBSYSTEMS=="usb", ATTRS{idVendor}=="1e0e", ATTRS{idProduct}=="9011", \
  ENV{ID_USB_INTERFACE_NUM}=="04", SYMLINK+="smsbox-modem"
# Quectel EC21, EC25, EG25, EG9x
SUBSYSTEM=="tty", SUBSYSTEMS=="usb", ATTRS{idVendor}=="2c7c", \
  ENV{ID_USB_INTERFACE_NUM}=="02", SYMLINK+="smsbox-modem"

# ModemManager runs as root and opens every port it takes for a modem. It leaves these alone, and
# keeps all others.
SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", ATTR{idVendor}=="1e0e|2c7c", \
  ENV{ID_MM_DEVICE_IGNORE}="1"
SUBSYSTEM=="tty", SUBSYSTEMS=="usb", ATTRS{idVendor}=="1e0e|2c7c", ENV{ID_MM_PORT_IGNORE}="1"

LABEL="smsbox_end"
RULE
}

print_gpio_drop_in() {
    cat <<'DROPIN'
# Written by install.sh, because this system has the group gpio (lamps, power key of a HAT).
[Service]
SupplementaryGroups=gpio
DROPIN
}

install_program() {
    run install -d -m 0755 "$library"
    put 0644 "$library/smsbox.py" <"$here/smsbox.py"
    if is_staging; then
        run "$python" -I -m compileall -q -s "$root" -p / "$library"
    else
        run "$python" -I -m compileall -q "$library"
    fi
    run mkdir -p "$(dirname "$launcher")"
    print_launcher | put 0755 "$launcher"
}

install_config() {
    run install -d -m 0755 "$(dirname "$config")"
    if [ -e "$config" ] || [ -L "$config" ]; then
        say "Keeping the settings in $config."
    else
        put 0640 "$config" <"$here/config.example.toml"
    fi
    # The file may hold the PIN of the SIM.
    run chmod 0640 "$config"
    is_staging || run chown root:smsbox "$config"
}

install_state() {
    if is_staging; then
        run install -d -m 2770 "$state"
    else
        run install -d -m 2770 -o smsbox -g smsbox "$state"
    fi
}

install_udev_rule() {
    run mkdir -p "$(dirname "$udev_rule")"
    print_udev_rule | put 0644 "$udev_rule"
}

install_unit() {
    run mkdir -p "$(dirname "$unit")"
    put 0644 "$unit" <"$here/smsbox.service"
    if is_staging; then
        return
    fi
    if is_group gpio; then
        run mkdir -p "$(dirname "$gpio_drop_in")"
        print_gpio_drop_in | put 0644 "$gpio_drop_in"
    elif [ -e "$gpio_drop_in" ]; then
        # A unit that names a missing group does not start.
        run rm -f "$gpio_drop_in"
    fi
}

# --- service and udev ------------------------------------------------------------------------

# Only the daemon knows whether a segment is with the modem, so it is asked to stop and waited for.
stop_service() {
    if [ ! -e "$unit" ] || ! is_systemd_running; then
        return
    fi
    say "Stopping smsbox; a text that is being sent is finished first (up to four minutes)."
    stopped="yes"
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
    if [ "$start" = no ]; then
        run systemctl enable -q "$service"
        stopped="no"
        say "smsbox starts at the next boot, or with: sudo systemctl start smsbox"
        return
    fi
    say "Starting smsbox."
    stopped="no"
    run systemctl enable -q --now "$service" ||
        die "smsbox is installed but did not start; it says why in: journalctl -u smsbox -n 20"
}

disable_service() {
    if is_systemd_running; then
        say "Stopping smsbox; a text that is being sent is finished first (up to four minutes)."
        run systemctl disable -q --now "$service"
    elif have systemctl; then
        run systemctl disable -q "$service"
    fi
}

# A modem that is plugged in already gets its name without being pulled out.
reload_udev() {
    if ! have udevadm || [ ! -e /run/udev/control ]; then
        return
    fi
    run udevadm control --reload || warn "udev did not reload its rules; a reboot does it."
    run udevadm trigger --subsystem-match=usb --subsystem-match=tty ||
        warn "udev did not apply the new rule; a reboot does it."
    if is_systemd_running && systemctl is-active --quiet ModemManager.service; then
        say "ModemManager is running: unplug and replug the modem once so that it lets go of it."
    fi
}

# An upgrade that breaks off (disk full, lost connection) must not leave a silent box. Each file is
# the old one or the new one, so the service can run.
start_again() {
    if [ "$stopped" = yes ] && [ "$dry_run" = no ]; then
        systemctl start --no-block "$service"
        warn "the upgrade broke off and smsbox runs again as it is; run this once more."
    fi
}

# --- the two ways ----------------------------------------------------------------------------

install_all() {
    check_sources
    check_python
    check_other_smsbox
    if ! is_staging; then
        install_packages
        create_user
        stop_service
    fi
    install_program
    install_config
    install_state
    install_udev_rule
    install_unit
    if is_staging; then
        say "The files of smsbox are below $root."
        return
    fi
    # Out of the caches and onto the card: a power cut may follow at once.
    run sync
    reload_udev
    start_service
    if [ "$dry_run" = no ]; then
        say_what_next
    fi
}

uninstall_all() {
    if ! is_staging && [ -e "$unit" ]; then
        disable_service
    fi
    if [ -e "$launcher" ] && ! grep -q "$library_path" "$launcher"; then
        warn "$launcher is another program, it stays."
    else
        run rm -f "$launcher"
    fi
    run rm -rf "$library"
    run rm -f "$udev_rule" "$unit" "$gpio_drop_in"
    if [ -d "$(dirname "$gpio_drop_in")" ]; then
        run rmdir "$(dirname "$gpio_drop_in")" 2>/dev/null ||
            say "Keeping your own drop-ins in $(dirname "$gpio_drop_in")."
    fi
    if is_staging; then
        return
    fi
    if is_systemd_running; then
        run systemctl daemon-reload
    fi
    reload_udev
    say "Kept: the settings in $config, the data in $state, and the user smsbox."
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
    if have raspi-config; then
        say "Only for a modem HAT on the serial pins (not for USB), run this and reboot:"
        say "  sudo raspi-config nonint do_serial_hw 0"
        say "  sudo raspi-config nonint do_serial_cons 1"
    fi
}

main() {
    dry_run="no"
    start="yes"
    way="install"
    stopped="no"
    arguments="$*"
    for argument in "$@"; do
        case "$argument" in
            --dry-run) dry_run="yes" ;;
            --no-start) start="no" ;;
            --uninstall) way="uninstall" ;;
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
    launcher="$root$launcher_path"
    state="$root$state_path"
    config="$root/etc/$program/config.toml"
    udev_rule="$root/etc/udev/rules.d/70-$program-modem.rules"
    unit="$root/etc/systemd/system/$service"
    gpio_drop_in="$unit.d/gpio.conf"

    # A root shell made by plain `su` does not find useradd.
    PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
    umask 022
    trap start_again EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 141' PIPE
    trap 'exit 143' TERM
    check_root
    if [ "$dry_run" = yes ]; then
        say "Dry run: this is what would be done; nothing is changed."
    fi
    if [ "$way" = uninstall ]; then
        uninstall_all
    else
        install_all
    fi
}

main "$@"
