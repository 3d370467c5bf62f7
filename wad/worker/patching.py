"""Changing numbers in the loaded library, in builds that are known byte by byte.

Two things that whatsmeow can do have no switch in neonize (receipt_gate.py, peer.py).  Each is had by making an
instruction
of the loaded code read another field: the kernel writes to a private copy of the page, the file stays what it is.
docs/upstream.md says how the places of a new build are found.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from wad.core.errors import EngineFailure


class NotThisBuild(Exception):
    """The library cannot be changed, and is as it was; the message says why."""


@dataclass(frozen=True)
class PatchSite:
    """An instruction in a build, as it is, and as it is to be."""

    sha256: str
    address: int
    before: bytes
    after: bytes


class Memory(Protocol):
    """The code of the process."""

    def read(self, address: int, size: int) -> bytes:
        """What is there."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Replace what is there, all of it or, when it raises OSError, any part of it."""
        ...


class OwnMemory:
    """This process.  The kernel writes to a private copy of the page; no page becomes writable for the process."""

    def read(self, address: int, size: int) -> bytes:
        """What is there; the process dies where nothing is mapped."""
        return ctypes.string_at(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Replace it.  Raises OSError."""
        with open("/proc/self/mem", "r+b", buffering=0) as memory:  # noqa: PTH123
            while data:
                memory.seek(address)
                written = memory.write(data)
                address, data = address + written, data[written:]


def change(file: Path, places: Iterable[PatchSite]) -> list[int]:
    """Change the loaded library at those places that are of its build, before it connects; their addresses.

    All of them or none.  Raises NotThisBuild: nothing is changed.  Raises EngineFailure: what was changed could not be
    undone, and this process must end.
    """
    try:
        with file.open("rb") as library:
            digest = hashlib.file_digest(library, "sha256").hexdigest()
        found = [place for place in places if place.sha256 == digest]
        if not found:
            raise NotThisBuild(
                f"{file.name} is a build that is not known (sha256 {digest[:16]}...)"
            )
        base = _base(file)
    except OSError as error:
        raise NotThisBuild(f"{file.name} cannot be examined: {error}") from error
    found = [replace(place, address=base + place.address) for place in found]
    apply(found, OwnMemory())
    return [place.address for place in found]


def apply(places: Sequence[PatchSite], memory: Memory) -> None:
    """Change the memory at all of these addresses, or at none.  Raises as `change`."""
    if any(memory.read(place.address, len(place.before)) != place.before for place in places):
        raise NotThisBuild("the library in memory is not what it is on the disk")
    try:
        _write(memory, [(place.address, place.after) for place in places])
    except OSError as error:
        _undo(memory, places)
        raise NotThisBuild(f"this system does not let it be changed in memory: {error}") from error


def _write(memory: Memory, changes: Iterable[tuple[int, bytes]]) -> None:
    """Write all, and look whether it is there.  Raises OSError."""
    for address, data in changes:
        memory.write(address, data)
        if memory.read(address, len(data)) != data:
            raise OSError(f"the change at {address:#x} was not taken")


def _undo(memory: Memory, places: Iterable[PatchSite]) -> None:
    """Make all places what they were, also one that was changed in part.  Raises EngineFailure."""
    why = ""
    for place in places:
        if memory.read(place.address, len(place.before)) == place.before:
            continue
        try:
            memory.write(place.address, place.before)
        except OSError as error:
            why = str(error)
        if memory.read(place.address, len(place.before)) != place.before:
            raise EngineFailure(
                f"the library was changed in memory in part, and that cannot be undone: {why}"
            )


def _base(file: Path) -> int:
    """Where a shared object is loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split(None, 5)
        if path == [str(file)] and int(offset, 16) == 0:
            return int(span.partition("-")[0], 16)
    raise NotThisBuild(f"{file.name} is not loaded")
