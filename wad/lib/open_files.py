"""File descriptors: the limit of this process, and a reserve for its listeners.

A process without free descriptors cannot accept connections, so an operator cannot query what is wrong.  Everything
that grows with the number of accounts (spools, workers) checks here first, and leaves the reserve alone.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import Final

RESERVED: Final = 6  # for the listeners, the lease and the store's own files


def raise_limit() -> None:
    """Raise the soft limit of this process to the hard limit; the usual 1,024 suffice for a hundred accounts only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (
            OSError,
            ValueError,
        ):  # a filter of system calls, or a hard limit above the kernel's
            return


def left() -> int:
    """The number of files that this process may still open.  Raises OSError if it may open none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208, one is the listing's own
    return soft - used


def check_left(wanted: int) -> None:
    """Raise OSError (EMFILE) unless this number may be opened beside the reserve."""
    if left() < wanted + RESERVED:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
