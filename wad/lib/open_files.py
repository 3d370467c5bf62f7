"""Open files: how many this process may have, and that some are kept for its doors.

A process that has used up its handles takes no connection, so nobody can ask it what is wrong.  Whatever comes with the
number of accounts (inboxes, workers) asks here first, and leaves the last ones alone.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import Final

KEPT: Final = 6  # for the doors, the lease and the store's own files


def take_all() -> None:
    """Raise the limit of this process as far as it may; the usual 1,024 are enough for a hundred accounts only."""
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
    """How many more this process may open.  Raises OSError where it may open none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208, the listing's own among them
    return soft - used


def check_left(wanted: int) -> None:
    """Raise OSError (EMFILE) unless so many may be opened, and those that are kept."""
    if left() < wanted + KEPT:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
