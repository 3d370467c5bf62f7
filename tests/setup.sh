#!/bin/sh
# Set up a machine for tests and demo: the system's libraries (through sudo when not root), and a virtual environment.
#   tests/setup.sh VENV
set -eu

venv=$1
python=${PYTHON:-python3}

say() { echo "setup: $*"; }

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "Python 3.11 or newer is needed; '$python' is not. Name one: make PYTHON=python3.12 ..." >&2
    exit 1
fi

missing=
# The library that speaks to WhatsApp needs libmagic when it is loaded; Debian 13 and Ubuntu 24.04 call the package
# libmagic1t64, which provides the old name.
ldconfig -p 2>/dev/null | grep -q 'libmagic\.so\.1' || missing="$missing libmagic1"
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
if [ -n "${CI:-}" ]; then # elsewhere the tests that need them are skipped where they are not
    command -v java >/dev/null 2>&1 || missing="$missing default-jre-headless"
    [ -n "${WAD_FIRESTORE_EMULATOR:-}" ] || [ -d /usr/lib/google-cloud-sdk/platform/cloud-firestore-emulator ] ||
        missing="$missing google-cloud-cli-firestore-emulator"
fi
for package in ${WAD_SETUP_PACKAGES:-}; do # bench wants a load generator
    command -v "$package" >/dev/null 2>&1 || missing="$missing $package"
done

if [ -n "$missing" ]; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    say "installing$missing with ${sudo:+sudo }apt-get"
    $sudo apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
say "installing the Python packages of requirements.txt into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
say "ready"
