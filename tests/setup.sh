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

set --
# The library that speaks to WhatsApp needs libmagic when it is loaded; Debian 13 and Ubuntu 24.04 call the package
# libmagic1t64, which provides the old name.
"$python" -c 'import ctypes; ctypes.CDLL("libmagic.so.1")' 2>/dev/null || set -- "$@" libmagic1
"$python" -c 'import venv, ensurepip' 2>/dev/null || set -- "$@" python3-venv
if [ -n "${CI:-}" ]; then # elsewhere the tests that need them are skipped where they are not
    set -- "$@" java:default-jre-headless
    [ -n "${WAD_FIRESTORE_EMULATOR:-}" ] ||
        set -- "$@" /usr/lib/google-cloud-sdk/platform/cloud-firestore-emulator:google-cloud-cli-firestore-emulator
fi
packaging/tools.sh "$@"

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
say "installing the Python packages of requirements.txt into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
say "ready"
