"""Returns memory to the system after many clients were connected.

glibc keeps freed memory, and more of it the larger the freed blocks are: after 500 clients that did not read 1 MB each,
130 MB stayed allocated.  Other C libraries neither have these calls nor need them.
"""

from __future__ import annotations

import ctypes
from typing import Final

_MMAP_THRESHOLD: Final = -3  # mallopt(3)
_LARGE: Final = 64 << 10


def keep_large_blocks_apart() -> None:
    """Make glibc return blocks of 64 kB and more to the system when they are freed, in the whole process."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, _LARGE)


def give_back() -> None:
    """Return free memory to the system now."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
