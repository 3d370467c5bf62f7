"""Memory and processor time of a process, from /proc."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICK: Final = os.sysconf("SC_CLK_TCK")
_LONGEST: Final = 4096  # bytes of either file
_RETRY_DELAY: Final = 0.005  # seconds


@dataclass(frozen=True, slots=True)
class Usage:
    """Resident memory in bytes, and processor time in seconds since it started."""

    memory: int
    cpu_s: float


class Meter:
    """A meter of one process, opened when the process starts: later its files may be closed to us (`wad.lib.dumpable`).

    It takes two file descriptors, and never reports another process that was given the same pid later.
    """

    def __init__(self, pid: int, proc: Path = Path("/proc")) -> None:
        self._files: list[int] = []
        with suppress(OSError):
            for name in ("statm", "stat"):
                self._files.append(os.open(proc / str(pid) / name, os.O_RDONLY | os.O_CLOEXEC))

    @property
    def is_open(self) -> bool:
        """Whether it can report anything."""
        return len(self._files) == 2

    def usage(self) -> Usage | None:
        """The present usage; None if it is unknown, or the process has ended.  It reads kernel memory, not the disk."""
        try:
            statm, stat = (os.pread(file, _LONGEST, 0) for file in self._files)
            pages = int(statm.split()[1])
            # After the name, which may contain blanks and parentheses (proc(5)).
            fields = stat.rpartition(b")")[2].split()
            return Usage(pages * _PAGE, (int(fields[11]) + int(fields[12])) / _TICK)
        except (OSError, IndexError, ValueError):
            return None

    def close(self) -> None:
        """Close the files.  Idempotent."""
        while self._files:
            os.close(self._files.pop())


def open_meter(pid: int, proc: Path = Path("/proc"), *, attempts: int = 40) -> Meter:
    """Open a meter of a process that was just started.

    It blocks for `attempts` times 5 ms at most: where /proc hides processes (ProtectProc=invisible), a child of an
    undumpable process is hidden until a moment after its program was loaded.
    """
    meter = Meter(pid, proc)
    for _ in range(attempts):
        if meter.is_open:
            break
        meter.close()
        time.sleep(_RETRY_DELAY)
        meter = Meter(pid, proc)
    return meter


def starved_of(pid: int, proc: Path = Path("/proc")) -> float:
    """Seconds for which the runnable threads of a process, all together, have waited for a processor so far.

    0 if the process has ended, or the kernel does not count this.  It reads kernel memory, not the disk.
    """
    waited_ns = 0
    try:
        for task in os.scandir(proc / str(pid) / "task"):
            with suppress(OSError, IndexError, ValueError):  # a thread that has ended meanwhile
                waited_ns += int(Path(task.path, "schedstat").read_bytes().split()[1])
    except OSError:
        return 0.0
    return waited_ns / 1e9
