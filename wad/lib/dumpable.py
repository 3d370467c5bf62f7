"""Protection of this process's memory, environment and open files from other processes of the same user."""

from __future__ import annotations

import ctypes
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def make_undumpable() -> None:
    """Make this process not dumpable: only root can read its internals in /proc, and it leaves no core dump.

    Its own /proc/self/mem is closed as well, unless it is root.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
