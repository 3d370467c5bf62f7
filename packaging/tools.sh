#!/bin/sh
# Install what a target of the Makefile needs from Debian and what is not there yet (through sudo when not root).
#   packaging/tools.sh COMMAND:PACKAGE|FILE:PACKAGE|PACKAGE ...     PACKAGE alone: there, if a command has its name
set -eu

PATH="$PATH:/usr/sbin:/sbin" # where an ordinary user does not look, and some of the commands lie
missing=
for tool in "$@"; do
    command -v "${tool%%:*}" >/dev/null 2>&1 || [ -e "${tool%%:*}" ] || missing="$missing ${tool#*:}"
done
[ -n "$missing" ] || exit 0

die() {
    echo "setup: $* Not there yet:$missing" >&2
    exit 1
}
command -v apt-get >/dev/null 2>&1 || die "these packages have Debian's names, and there is no apt-get: install what your system calls them."
sudo=
if [ "$(id -u)" != 0 ]; then
    sudo=sudo
    command -v sudo >/dev/null 2>&1 || die "there is no sudo: run 'apt-get install$missing' as root first."
    sudo -n true 2>/dev/null || (: </dev/tty) 2>/dev/null ||
        die "sudo asks for a password, and there is no terminal to ask on: run 'sudo apt-get install$missing' first."
fi

# sudo passes no environment on, hence env.  Another apt-get may be running, as it does on a machine that just booted.
apt="$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120"
echo "setup: installing$missing with ${sudo:+sudo }apt-get"
$apt update || die "the package lists cannot be fetched; the lines above say why."
# shellcheck disable=SC2086
$apt install -y --no-install-recommends $missing >/dev/null || die "apt-get failed; the lines above say why."
