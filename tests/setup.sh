#!/bin/sh
# Set up a machine for tests and demo: the system's libraries (through sudo when not root), and a virtual environment.
# It does nothing when that was done before, with the same Python, at the same place, from the same lists.
#   tests/setup.sh VENV
set -eu

venv=$1
python=${PYTHON:-python3}
ready=$venv/.ready

say() { echo "setup: $*"; }

version=$("$python" -c 'import sys; print(*sys.version_info[:3], sep="."); sys.exit(sys.version_info < (3, 11))' 2>/dev/null) || {
    say "Python 3.11 or newer is needed; '$python' is not. Name one: make PYTHON=python3.12 ..." >&2
    exit 1
}
made_of=$(echo "$version $(pwd)" | cat - setup.cfg pyproject.toml requirements.txt "$0" | cksum)
[ "$(cat "$ready" 2>/dev/null)" != "$made_of" ] || exit 0

set --
# The library for WhatsApp needs libmagic when it is loaded; Debian 13 and Ubuntu 24.04 call the package
# libmagic1t64, which provides the old name.
"$python" -c 'import ctypes; ctypes.CDLL("libmagic.so.1")' 2>/dev/null || set -- "$@" libmagic1
"$python" -c 'import venv, ensurepip' 2>/dev/null || set -- "$@" python3-venv
packaging/tools.sh "$@"

# Made anew if it is incomplete, was made elsewhere, or by a Python that has been removed.
rm -f "$ready"
made_by=$(cat "$venv/pyvenv.cfg" 2>/dev/null || true)
case $made_by in
*"version = $version"*" $(pwd)/$venv"*) "$venv/bin/python" -m pip --version >/dev/null 2>&1 || made_by= ;;
*) made_by= ;;
esac
[ -n "$made_by" ] || {
    say "creating the virtual environment $venv"
    "$python" -m venv --clear "$venv"
}
say "installing the Python packages of requirements.txt into $venv (this takes minutes)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
echo "$made_of" >"$ready"
say "ready"
