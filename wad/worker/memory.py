"""Releasing memory of an idle worker: a process per account is only affordable when each is small."""

from __future__ import annotations

import ctypes
import gc
import mmap
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

_RANGE: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (r-[x-])p [0-9a-f]+ \S+ [1-9]\d* +/")


def release(changed: Collection[int]) -> None:
    """Release memory that starting, logging in or a burst took.

    - Freed memory that the C library keeps is returned to the system.
    - Pages of files (code and constants, most of them used only when the Go library starts) leave the process; the
      system has them in its cache, and those that are needed again are loaded one by one.

    Only unchanged pages: a changed one would revert to its content on the disk.  Of read-only mappings that is
    everything, as /proc/self/smaps says, except the pages with the patched addresses `changed`, which are left alone
    (patching.patch_library).
    """
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    pages = sorted({address & -mmap.PAGESIZE for address in changed})
    for one in list(_mappings()):
        ours = [page for page in pages if one.start <= page < one.end]
        if one.anonymous == len(ours) * mmap.PAGESIZE:
            starts = [one.start, *(page + mmap.PAGESIZE for page in ours)]
            for start, end in zip(starts, [*ours, one.end], strict=True):
                if start < end:
                    libc.madvise(start, end - start, mmap.MADV_DONTNEED)


class _Mapping(NamedTuple):
    start: int
    end: int
    anonymous: int  # bytes that are no longer the file's


def _mappings() -> Iterator[_Mapping]:
    """The read-only mappings of files."""
    found: tuple[int, int] | None = None
    with Path("/proc/self/smaps").open() as lines:
        for line in lines:
            if match := _RANGE.match(line):
                found = int(match[1], 16), int(match[2], 16)
            elif found and line.startswith("Anonymous:"):
                yield _Mapping(*found, int(line.split()[1]) * 1024)
                found = None
