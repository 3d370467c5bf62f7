"""What a process uses, as the kernel counts it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICK: Final = os.sysconf("SC_CLK_TCK")
_LONGEST: Final = 4096  # bytes of either file


@dataclass(frozen=True, slots=True)
class Usage:
    """Resident memory in bytes, and processor time in seconds since it started."""

    memory: int
    cpu_s: float


class Meter:
    """Of one process, from when it starts: opened later, its files may be closed to us (`wad.lib.dumpable`).

    It takes two handles, and never tells of another process that has got the same number since.
    """

    def __init__(self, pid: int, proc: Path = Path("/proc")) -> None:
        self._files: list[int] = []
        with suppress(OSError):
            for name in ("statm", "stat"):
                self._files.append(os.open(proc / str(pid) / name, os.O_RDONLY | os.O_CLOEXEC))

    def usage(self) -> Usage | None:
        """What it uses now; None when that cannot be known, or it is gone.  It reads the kernel's memory, no disk."""
        try:
            statm, stat = (os.pread(file, _LONGEST, 0) for file in self._files)
            pages = int(statm.split()[1])
            # Behind the name, which may hold blanks and parentheses (proc(5)).
            fields = stat.rpartition(b")")[2].split()
            return Usage(pages * _PAGE, (int(fields[11]) + int(fields[12])) / _TICK)
        except (OSError, IndexError, ValueError):
            return None

    def close(self) -> None:
        """Let go of it.  Idempotent."""
        while self._files:
            os.close(self._files.pop())


def starved_of(pid: int, proc: Path = Path("/proc")) -> float:
    """Seconds for which the threads of a process, all together, could have run and waited for a processor so far.

    0 where it is gone, or the kernel does not count.  It reads the kernel's memory, no disk.
    """
    waited_ns = 0
    try:
        for task in os.scandir(proc / str(pid) / "task"):
            with suppress(OSError, IndexError, ValueError):  # a thread that has ended meanwhile
                waited_ns += int(Path(task.path, "schedstat").read_bytes().split()[1])
    except OSError:
        return 0.0
    return waited_ns / 1e9
