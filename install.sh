#!/bin/sh
# Installs, upgrades and removes smsbox, as a Debian package that it builds from this folder and
# hands to apt. It never edits the boot files, and never removes another package.
#   sudo sh install.sh [--no-start]      install or upgrade; settings and data stay
#   sudo sh install.sh --uninstall       remove the program; settings and data stay
#   sudo sh install.sh --purge [--yes]   remove settings, data and user too; asks for YES
#   sh install.sh --dry-run              (with any of these) say what would be done, do nothing
#   sh install.sh --build                only make smsbox_VERSION_all.deb here, for other boxes
set -eu

kept="/var/backups/smsbox.deb" # the package of before: the way back
mark="/var/backups/smsbox.upgrading" # where it stays, the unit tells that an upgrade was cut off
was="/var/backups/smsbox.before-upgrade.db" # root's, where no member can lay a link
library_1="/usr/local/lib/smsbox" # version 1 was no package
unit_1="/etc/systemd/system/smsbox.service"
say() { printf '%s\n' "$@"; }
die() { say "install.sh: $*" >&2 && exit 1; }
# program CODE: runs a line of Python beside the program of this folder.
program() { python3 -I -c "import sys; sys.path.insert(0, '$work'); import smsbox; $1"; }
render() { program "sys.stdout.write(smsbox.render_$1())"; }
# lay MODE FILE: what comes on stdin becomes a file of the package.
lay() { command install -D -m "$1" /dev/stdin "$work/tree$2"; }

build() {
    cp "$here/smsbox.py" "$work"
    program "" 2>/dev/null || die "$here/smsbox.py is damaged, or this Python is older than 3.10."
    lay 0644 /usr/lib/smsbox/smsbox.py <"$here/smsbox.py"
    lay 0644 /usr/lib/systemd/system/smsbox.service <"$here/smsbox.service"
    lay 0640 /etc/smsbox/config.toml <"$here/config.example.toml"
    lay 0644 /usr/share/doc/smsbox/config.example.toml <"$here/config.example.toml"
    lay 0644 /usr/share/doc/smsbox/README.md <"$here/README.md"
    say "smsbox ($version) stable; urgency=medium" "" "  * README.md tells of this version." "" \
        " -- smsbox <smsbox@example.org>  $(LC_ALL=C date -uR -r "$here/smsbox.py")" |
        gzip -9n | lay 0644 /usr/share/doc/smsbox/changelog.gz
    render man | gzip -9n | lay 0644 /usr/share/man/man1/smsbox.1.gz
    render completion | lay 0644 /usr/share/bash-completion/completions/smsbox
    render udev_rule | lay 0644 /usr/lib/udev/rules.d/70-smsbox-modem.rules
    say "u smsbox - - /nonexistent" "m smsbox dialout" | lay 0644 /usr/lib/sysusers.d/smsbox.conf
    say '#!/usr/bin/python3 -I' 'import sys' 'sys.path.insert(0, "/usr/lib/smsbox")' \
        'import smsbox' 'sys.exit(smsbox.main())' | lay 0755 /usr/bin/smsbox
    say /etc/smsbox/config.toml | lay 0644 /DEBIAN/conffiles
    lay 0644 /DEBIAN/control <<CONTROL
Package: smsbox
Version: $version
Architecture: all
Section: comm
Priority: optional
Maintainer: smsbox <smsbox@example.org>
Depends: python3 (>= 3.10), python3-serial, python3 (>= 3.11) | python3-tomli, systemd, tzdata
Recommends: python3-gpiozero, python3-lgpio, systemd-timesyncd | time-daemon
Description: SMS campaigns at the pace of a person
 Writes to the people of an opt-in list one at a time, minutes apart, over days.
CONTROL
    lay 0755 /DEBIAN/postinst <<'POSTINST'
#!/bin/sh
set -e
systemd-sysusers smsbox.conf
# Plain Debian has no group gpio, and shall get none.
! getent group gpio >/dev/null || systemd-sysusers --inline "m smsbox gpio"
[ ! -e /etc/smsbox/config.toml ] || chgrp smsbox /etc/smsbox/config.toml
install -d -o smsbox -g smsbox -m 2770 /var/lib/smsbox
python3 -I -m compileall -q --invalidation-mode checked-hash /usr/lib/smsbox
conf=/etc/systemd/system/smsbox.service.d
mkdir -p $conf
python3 -I -c 'import sys; sys.path.insert(0, "/usr/lib/smsbox"); import smsbox
sys.stdout.write(smsbox.render_drop_in(smsbox.load_config(None)))' >$conf/install.new &&
    mv $conf/install.new $conf/install.conf || echo "$conf/install.conf stays as it is"
! deb-systemd-helper --quiet was-enabled smsbox.service ||
    deb-systemd-helper enable smsbox.service >/dev/null
! udevadm control --reload 2>/dev/null || udevadm trigger -s usb -s tty || true
[ -d /run/systemd/system ] || exit 0
systemctl --system daemon-reload
[ "$SMSBOX_START" = no ] || deb-systemd-invoke start smsbox.service || true
POSTINST
    lay 0755 /DEBIAN/prerm <<'PRERM'
#!/bin/sh
set -e
# It is asked to stop and waited for: a text that is being sent is finished first.
[ ! -d /run/systemd/system ] || deb-systemd-invoke stop smsbox.service
rm -rf /usr/lib/smsbox/__pycache__
PRERM
    lay 0755 /DEBIAN/postrm <<'POSTRM'
#!/bin/sh
set -e
[ ! -d /run/systemd/system ] || systemctl --system daemon-reload
[ "$1" = purge ] || exit 0
chmod 0700 /var/lib/smsbox 2>/dev/null || true # no member makes files in it meanwhile
rm -rf /etc/smsbox /var/lib/smsbox /etc/systemd/system/smsbox.service.d /var/backups/smsbox.*
deb-systemd-helper purge smsbox.service >/dev/null
{ userdel smsbox; groupdel smsbox; } 2>/dev/null || true # a group that has members, too
POSTRM
    dpkg-deb --root-owner-group --build "$work/tree" "$package" >/dev/null
    [ "$way$dry" != build ] || mv -fT "$package" "${package##*/}" # a link of others' is replaced
}

by_apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" >"$work/apt" 2>&1
}
put_in() { by_apt install --no-remove --allow-downgrades --reinstall "$@"; }

# at_database copy|compare|put_back: root opens the copy, then becomes the database's owner.
at_database() {
    program "from signal import *; signal(SIGINT, SIG_DFL); alarm(300); base = smsbox.Database
path, rows = smsbox.find_database(None, smsbox.load_config(None)), ' UNION ALL SELECT 1 FROM '.join(
    'segments,reports,inbound,inbound_parts,events WHERE actor <> \"daemon\"'.split(','))
def count(file): return file.count('(SELECT 1 FROM ' + rows + ')')
before = '$1' == 'copy' or base.open_to_read('$was', of_any_version=True)
smsbox.become_owner(path.parent) # no view of a member's is run by root
if '$1' == 'compare': sys.exit(count(before) != count(base.open_bare(str(path))))
if '$1' == 'put_back': before.copy_into(base.open_bare(str(path)), int)
elif path.exists():
    with smsbox.scratch_database() as made:
        base.open_bare(str(path)).copy_into(copy := base.open_bare(str(made)), int)
        sys.stdout.buffer.write((copy.close(), made.read_bytes())[1])" 2>/dev/null
}

stays_up() {
    begun="" && systemctl daemon-reload && systemctl start smsbox && sleep 10 &&
        systemctl is-active -q smsbox && [ "$(systemctl show --value -p NRestarts smsbox)" = 0 ] &&
        rm -f $mark
}

go_back() {
    journalctl -u smsbox -n 5 -o cat --no-pager || true
    [ -e $kept ] || [ -d $library_1 ] || die "version $version fails: see journalctl -u smsbox"
    systemctl stop smsbox || true
    if at_database compare; then # nothing was sent, came in or was changed by it
        at_database put_back || die "version $version did not stay up; try smsbox restore $was"
    elif [ -d $library_1 ]; then
        systemctl disable -q smsbox
        die "version $version did not stay up, and something was sent or came in since: smsbox" \
            "stays stopped until you say sudo systemctl enable --now smsbox (copy of before: $was)"
    fi
    if [ -d $library_1 ]; then
        mv $library_1/smsbox /usr/local/bin/ 2>/dev/null || true
        mv $library_1/smsbox.service $unit_1
        dpkg --remove smsbox >/dev/null
    else
        put_in $kept || die "apt can't put the version of before back: $(tail -n 5 "$work/apt")"
    fi
    stays_up || die "neither version $version stays up nor that of before: see journalctl -u smsbox"
    die "version $version did not stay up; $(smsbox --version) runs again."
}

install() {
    build
    answer=$(program "sys.exit(smsbox.main(['check', '--config']))" 2>&1) || [ $? -ne 78 ] ||
        die "the settings do not suit this version, so nothing was installed. ${answer#smsbox: }"
    [ -d /run/systemd/system ] || start=""
    ! systemctl cat smsbox >/dev/null 2>&1 || systemctl is-enabled -q smsbox || start=""
    [ ! -d $library_1 ] || [ -n "$start" ] ||
        die "version 1 is taken over only where smsbox may start: sudo systemctl enable smsbox"
    say "Installing version $version. smsbox stops behind the text under way (up to 4 minutes)."
    begun="$start" # from here on, however this ends, it is started again
    systemctl stop smsbox 2>/dev/null || true
    [ -e $library_1/smsbox.service ] || (umask 77 && at_database copy >$was~ && mv $was~ $was) ||
        die "the database can't be copied, so nothing was installed."
    dpkg --force-confdef --force-confold --configure -a >/dev/null 2>&1 || true # after a power cut
    [ -z "$start" ] || : >$mark
    dpkg-query -W python3-serial >/dev/null 2>&1 || by_apt update || true
    put_in "$package" || put_in --no-install-recommends "$package" ||
        die "apt can't install it; is the clock wrong ($(date '+%F %H:%M')), first sudo date -s" \
            "'YYYY-MM-DD HH:MM'. apt said: $(tail -n 5 "$work/apt")"
    # Version 1's unit hid the package's: until here a power cut leaves version 1.
    [ ! -d $library_1 ] || [ ! -e $unit_1 ] || mv $unit_1 /usr/local/bin/smsbox $library_1/
    sync
    [ -z "$start" ] || stays_up || go_back
    cp "$package" $kept.new && mv $kept.new $kept
    [ ! -d $library_1 ] || rm -rf /etc/udev/rules.d/70-smsbox-modem.rules /usr/local/bin/smsbox \
        /usr/local/share/bash-completion/completions/smsbox $library_1 # last: it is the mark
    smsbox check || true
    say "" "smsbox is installed. What to do next:" \
        "  to use it without sudo    sudo usermod -aG smsbox ${SUDO_USER:-YOUR-USER}" \
        "  to test it by your phone  smsbox send +12135552301 \"Hello from the box\"" \
        "  to look at a campaign     smsbox schedule people.csv --dry-run"
}

remove() {
    [ "$verb$yes" != purge ] ||
        say "This removes smsbox, its settings and data. Who said stop is forgotten, too; to keep" \
            "that: smsbox optout list --csv > stopped.csv. Remove all of it? Type YES:"
    [ "$verb$yes" != purge ] || [ "$(head -n 1)" = YES ] || die "nothing was removed (or --yes)."
    by_apt "$verb" smsbox || die "apt can't do it: $(tail -n 5 "$work/apt")"
    [ "$verb" = purge ] || say "Kept: the settings in /etc/smsbox, the data in /var/lib/smsbox."
}

simulate() {
    say "Nothing is changed. smsbox would be stopped behind the text under way; then:"
    case "$way" in remove) package="smsbox" ;; *) build && dpkg-deb -c "$package" | grep ^- ;; esac
    apt-get --simulate "$verb" "$package" || say "apt would first be asked for its newest lists."
}

main() {
    here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
    way="install" verb="install" start="yes" yes="" dry="" begun=""
    for word in "$@"; do
        case "$word" in
            --no-start) start="" ;;
            --yes) yes="yes" ;;
            --dry-run) dry="simulate" ;;
            --build) way="build" ;;
            --uninstall) way="remove" verb="remove" ;;
            --purge) way="remove" verb="purge" ;;
            --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit ;;
            *) say "install.sh: no option is $word; see sh install.sh --help" >&2 && exit 2 ;;
        esac
    done
    [ -n "$dry" ] || [ "$way" = build ] || [ "$(id -u)" = 0 ] || die "run: sudo sh install.sh $*"
    umask 022 && work=$(mktemp -d) && chmod 755 "$work" # apt reads the package as a user of its own
    trap 'rm -rf "$work"; [ -z "$begun" ] || systemctl start --no-block smsbox' EXIT
    trap 'exit 130' HUP INT TERM PIPE
    version=$(sed -n 's/^VERSION = "\(.*\)".*/\1/p' "$here/smsbox.py")
    package="$work/smsbox_${version}_all.deb"
    export SMSBOX_START=no # postinst starts it only when dpkg is used by hand: here it is watched
    "${dry:-$way}"
}

main "$@"
