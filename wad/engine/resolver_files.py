"""The resolver's files, which a machine may replace while it runs.

A DHCP client or a VPN writes a new /etc/resolv.conf and renames it.  A confined worker has the right to read the file
that existed when it started, and no other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

PATHS: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")
DIRECTORIES: Final = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/usr")
"""A worker may read every file in these, also one that is replaced."""

Signature = tuple[tuple[str, int, int], ...]
"""For each file: its real path, and its device and inode."""


def signature(paths: Sequence[str] = PATHS, directories: Sequence[str] = DIRECTORIES) -> Signature:
    """A value that stays the same while a worker that was started before may read the current files; microseconds."""
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
