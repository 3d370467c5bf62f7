"""Other processes of the same user may not look into this one: its memory, its environment, its open files."""

from __future__ import annotations

import ctypes
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def close_to_others() -> None:
    """From now on /proc shows this process's insides to root alone, and there is no core dump of it.

    Its own /proc/self/mem is closed as well, unless it is root.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
