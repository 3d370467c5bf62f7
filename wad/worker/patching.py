"""Patching instructions of the loaded library, in builds that are known byte by byte.

Two features of whatsmeow have no switch in neonize (receipt_gate.py, phone_requests.py).  Each is enabled by making an
instruction of the loaded code read another field: the kernel writes to a private copy of the page, the file stays
unchanged.  docs/upstream.md says how to find the patch sites of a new build.
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
    """The library cannot be patched, and is unchanged; the message says why."""


@dataclass(frozen=True)
class PatchSite:
    """An instruction in a build, before and after the patch."""

    sha256: str
    address: int
    before: bytes
    after: bytes


class Memory(Protocol):
    """The memory of the process."""

    def read(self, address: int, size: int) -> bytes:
        """The bytes at an address."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Replace the bytes at an address: all of them or, when it raises OSError, any part of them."""
        ...


class OwnMemory:
    """The memory of this process.  The kernel writes to a private copy of a page; no page becomes writable."""

    def read(self, address: int, size: int) -> bytes:
        """The bytes at an address; the process dies if nothing is mapped there."""
        return ctypes.string_at(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Replace the bytes.  Raises OSError."""
        with open("/proc/self/mem", "r+b", buffering=0) as memory:  # noqa: PTH123
            while data:
                memory.seek(address)
                written = memory.write(data)
                address, data = address + written, data[written:]


def patch_library(file: Path, sites: Iterable[PatchSite]) -> list[int]:
    """Patch the loaded library at the sites that belong to its build, before it connects; returns their addresses.

    All of them or none.  Raises NotThisBuild: nothing is patched.  Raises EngineFailure: a patch could not be undone,
    and this process must end.
    """
    try:
        with file.open("rb") as library:
            digest = hashlib.file_digest(library, "sha256").hexdigest()
        found = [site for site in sites if site.sha256 == digest]
        if not found:
            raise NotThisBuild(f"{file.name} is an unknown build (sha256 {digest[:16]}...)")
        base = _base(file)
    except OSError as error:
        raise NotThisBuild(f"{file.name} cannot be examined: {error}") from error
    found = [replace(site, address=base + site.address) for site in found]
    apply_patches(found, OwnMemory())
    return [site.address for site in found]


def apply_patches(sites: Sequence[PatchSite], memory: Memory) -> None:
    """Patch the memory at all of these addresses, or at none.  Raises like `patch_library`."""
    if any(memory.read(site.address, len(site.before)) != site.before for site in sites):
        raise NotThisBuild("the library in memory differs from the file on the disk")
    try:
        _write(memory, [(site.address, site.after) for site in sites])
    except OSError as error:
        _undo(memory, sites)
        raise NotThisBuild(f"this system does not allow patching in memory: {error}") from error


def _write(memory: Memory, changes: Iterable[tuple[int, bytes]]) -> None:
    """Write all changes and verify them.  Raises OSError."""
    for address, data in changes:
        memory.write(address, data)
        if memory.read(address, len(data)) != data:
            raise OSError(f"the change at {address:#x} had no effect")


def _undo(memory: Memory, sites: Iterable[PatchSite]) -> None:
    """Restore all sites, also one that was patched in part.  Raises EngineFailure."""
    why = ""
    for site in sites:
        if memory.read(site.address, len(site.before)) == site.before:
            continue
        try:
            memory.write(site.address, site.before)
        except OSError as error:
            why = str(error)
        if memory.read(site.address, len(site.before)) != site.before:
            raise EngineFailure(
                f"the library was patched in memory in part, and that cannot be undone: {why}"
            )


def _base(file: Path) -> int:
    """The address at which a shared object is loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split(None, 5)
        if path == [str(file)] and int(offset, 16) == 0:
            return int(span.partition("-")[0], 16)
    raise NotThisBuild(f"{file.name} is not loaded")
