"""Patching the loaded library: all sites or none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.errors import EngineFailure
from wad.worker import phone_requests
from wad.worker.patching import NotThisBuild, PatchSite, apply_patches

PATCH_SITES = [
    PatchSite("", 10, b"aaaaaaaa", b"AAAAAAAA"),
    PatchSite("", 30, b"bbbb", b"BBBB"),
    PatchSite("", 50, b"ccccccccc", b"CCCCCCCCC"),
]
AS_IT_WAS = b"." * 10 + b"aaaaaaaa" + b"." * 12 + b"bbbb" + b"." * 16 + b"ccccccccc" + b"." * 5


class Fragile:
    """Bytes in which the writes with these numbers fail, after this many bytes, loudly or in silence."""

    def __init__(self, failing: set[int], after: int = 0, *, silent: bool = False) -> None:
        self.data = bytearray(AS_IT_WAS)
        self.failing, self.after, self.silent = failing, after, silent
        self.writes = 0

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.data[address : address + size])

    def write(self, address: int, data: bytes) -> None:
        failing = self.writes in self.failing
        self.writes += 1
        taken = data[: self.after] if failing else data
        self.data[address : address + len(taken)] = taken
        if failing and not self.silent:
            raise OSError(12, "Cannot allocate memory")


def test_every_place_is_changed() -> None:
    """When nothing fails."""
    memory = Fragile(set())
    apply_patches(PATCH_SITES, memory)
    assert all(memory.read(one.address, len(one.after)) == one.after for one in PATCH_SITES)


@given(failing=st.sets(st.integers(0, 6)), after=st.integers(0, 9), silent=st.booleans())
def test_a_change_is_whole_or_undone_or_ends_the_worker(
    failing: set[int], after: int, *, silent: bool
) -> None:
    """Whichever writes fail, whole or in part, with an error or without one."""
    memory = Fragile(failing, after, silent=silent)
    try:
        apply_patches(PATCH_SITES, memory)
    except NotThisBuild:
        assert memory.data == AS_IT_WAS
    except EngineFailure:
        assert memory.data != AS_IT_WAS
    else:
        assert all(memory.read(one.address, len(one.after)) == one.after for one in PATCH_SITES)


def test_unknown_memory_is_left_alone() -> None:
    """One site of three differs: nothing is written."""
    memory = Fragile(set())
    memory.data[30] = 0
    with pytest.raises(NotThisBuild, match="differs from the file on the disk"):
        apply_patches(PATCH_SITES, memory)
    assert memory.writes == 0


_SCRIPT = """
import ctypes, sys
from wad.worker import patching, phone_requests
from wad.worker.c_interface import Functions, shared_object

class Memory(patching.OwnMemory):
    writes = 0
    def write(self, address, data):
        Memory.writes += 1
        if Memory.writes in {failing}:
            raise OSError(12, "Cannot allocate memory")
        super().write(address, data)

patching.OwnMemory = Memory
file = shared_object()
Functions(file)
try:
    print(len(phone_requests.enable_peer_messages(file)))
except (patching.NotThisBuild, patching.EngineFailure) as error:
    print(type(error).__name__)
base = patching._base(file)
import hashlib
digest = hashlib.sha256(file.read_bytes()).hexdigest()
for place in phone_requests.PATCH_SITES:
    if place.sha256 == digest:
        now = ctypes.string_at(base + place.address, len(place.before))
        print("changed" if now == place.after else "before" if now == place.before else "neither")
"""


@pytest.mark.parametrize(
    ("failing", "result"),
    [
        (set(), ["4", *["changed"] * 4]),
        ({3}, ["NotThisBuild", *["before"] * 4]),
        ({1}, ["NotThisBuild", *["before"] * 4]),
        ({3, 4}, ["EngineFailure", "changed", "changed", "before", "before"]),
    ],
)
def test_the_real_library_is_patched_as_a_whole(failing: set[int], result: list[str]) -> None:
    """In a separate process, since the library stays loaded."""
    script = _SCRIPT.replace("{failing}", repr(failing))
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(phone_requests.__file__).parents[2],
    )
    assert done.stdout.split() == result
