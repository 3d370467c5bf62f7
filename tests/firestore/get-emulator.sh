#!/bin/sh
# Install Google's Firestore emulator and the Java that it needs, where they are missing (through sudo when not root).
# Debian does not have it: Google's package repository is added to this machine's sources where none of them has it.
#   tests/firestore/get-emulator.sh PYTHON
set -eu

python=$1
package=google-cloud-cli-firestore-emulator
key=/usr/share/keyrings/cloud.google.asc
list=/etc/apt/sources.list.d/google-cloud-sdk.list

packaging/tools.sh java:default-jre-headless
"$python" -m tests.missing emulator && exit 0
if ! apt-cache show "$package" >/dev/null 2>&1; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "setup: adding Google's package repository to this machine's sources: $list"
    fetched=$(mktemp)
    trap 'rm -f "$fetched"' EXIT
    "$python" -c 'import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())' \
        https://packages.cloud.google.com/apt/doc/apt-key.gpg >"$fetched" 2>/dev/null || {
        echo "setup: https://packages.cloud.google.com cannot be reached; WAD_FIRESTORE_EMULATOR may name the start script of an emulator that you have" >&2
        exit 1
    }
    $sudo install -m 644 "$fetched" "$key"
    echo "deb [signed-by=$key] https://packages.cloud.google.com/apt cloud-sdk main" | $sudo tee "$list" >/dev/null
fi
packaging/tools.sh "$package"
"$python" -m tests.missing emulator
