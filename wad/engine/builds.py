"""Changing numbers in the loaded library, in builds that are known byte by byte.

Two things that whatsmeow can do have no switch in neonize (receipts.py, peer.py).  Each is had by making an instruction
of the loaded code read another field: the kernel writes to a private copy of the page, the file stays what it is.
docs/upstream.md says how the places of a new build are found.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class NotThisBuild(Exception):
    """The library cannot be changed; the message says why."""


@dataclass(frozen=True)
class Place:
    """An instruction in a build, as it is, and as it is to be."""

    sha256: str
    address: int
    before: bytes
    after: bytes


def change(file: Path, places: Iterable[Place]) -> list[int]:
    """Change the loaded library at those places that are of its build, before it connects; their addresses.

    Raises NotThisBuild: nothing was changed, unless the system itself fails between two places.
    """
    with file.open("rb") as library:
        digest = hashlib.file_digest(library, "sha256").hexdigest()
    found = [place for place in places if place.sha256 == digest]
    if not found:
        raise NotThisBuild(f"{file.name} is a build that is not known (sha256 {digest[:16]}...)")
    base = _base(file)
    for place in found:
        if ctypes.string_at(base + place.address, len(place.before)) != place.before:
            raise NotThisBuild(f"{file.name} in memory is not what it is on the disk")
    try:
        # The kernel writes to a private copy of the page; no page becomes writable for the process.
        with open("/proc/self/mem", "r+b", buffering=0) as memory:  # noqa: PTH123
            for place in found:
                memory.seek(base + place.address)
                memory.write(place.after)
    except OSError as error:
        raise NotThisBuild(f"this system does not let it be changed in memory: {error}") from error
    for place in found:
        if ctypes.string_at(base + place.address, len(place.after)) != place.after:
            raise NotThisBuild("the change in memory did not take")
    return [base + place.address for place in found]


def _base(file: Path) -> int:
    """Where a shared object is loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split(None, 5)
        if path == [str(file)] and int(offset, 16) == 0:
            return int(span.partition("-")[0], 16)
    raise NotThisBuild(f"{file.name} is not loaded")
