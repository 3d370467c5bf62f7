"""Files by which a machine finds others' addresses, and which it replaces while it runs.

Who changes networks (a DHCP client, a VPN) writes a new /etc/resolv.conf and renames it into place.  A confined worker
has a right to the file that was there when it started, and to no other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

PATHS: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")
DIRECTORIES: Final = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/usr")
"""To what lies in these a worker has a right whoever replaces it."""

Signature = tuple[tuple[str, int, int], ...]
"""Of each file: where it really lies, and which one it is."""


def signature(paths: Sequence[str] = PATHS, directories: Sequence[str] = DIRECTORIES) -> Signature:
    """The same as long as a worker that was started before may read what is there now; a few microseconds."""
    return tuple(_of(path, directories) for path in paths)


def _of(path: str, directories: Sequence[str]) -> tuple[str, int, int]:
    real = os.path.realpath(path)
    if any(real.startswith(f"{directory}/") for directory in directories):
        return real, 0, 0
    try:
        found = os.stat(real)  # noqa: PTH116
    except OSError:
        return real, 0, 0
    return real, found.st_dev, found.st_ino
