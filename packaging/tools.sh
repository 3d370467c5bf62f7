#!/bin/sh
# Install what a target of the Makefile needs from Debian and what is not there yet (through sudo when not root).
#   packaging/tools.sh COMMAND:PACKAGE|FILE:PACKAGE|PACKAGE ...     PACKAGE alone: there, if a command has its name
set -eu

missing=
for tool in "$@"; do
    command -v "${tool%%:*}" >/dev/null 2>&1 || [ -e "${tool%%:*}" ] || missing="$missing ${tool#*:}"
done
[ -n "$missing" ] || exit 0

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "setup: installing$missing with ${sudo:+sudo }apt-get"
$sudo apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
