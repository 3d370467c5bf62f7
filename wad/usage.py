"""What a process uses, as the kernel counts it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICK: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Resident memory in bytes, and processor time in seconds since it started."""

    memory: int
    cpu_s: float


def usage_of(pid: int, proc: Path = Path("/proc")) -> Usage | None:
    """What a process uses now; None when it is gone.  It reads the kernel's memory, no disk."""
    try:
        pages = int((proc / str(pid) / "statm").read_bytes().split()[1])
        # Behind the name, which may hold blanks and parentheses (proc(5)).
        fields = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except (OSError, IndexError, ValueError):
        return None
    return Usage(pages * _PAGE, (int(fields[11]) + int(fields[12])) / _TICK)
