"""The present readers of a SQLite database, from the kernel's file locks.

A reader of a database with a write-ahead log holds a read lock on one of some bytes of the `-shm` file (SQLite's
walformat.html, 2.3), for as long as its transaction lasts.  `/proc/locks` lists the holders of all users; if a unit
hides it (ProcSubset=pid), the `fdinfo` of the processes that we may inspect has the same lines.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_READ_MARKS: Final = range(123, 128)  # bytes of the -shm file
_MOST: Final = 20  # holders


class LockHolder(NamedTuple):
    """A process that holds a lock; `command` is its name, empty if unknown."""

    pid: int
    command: str

    def __str__(self) -> str:
        """The process, for display."""
        if self.pid == os.getpid():
            return f"wad itself (pid {self.pid})"
        return f"{self.command or 'a process'} (pid {self.pid})"


def readers(database: Path, proc: Path = Path("/proc")) -> set[LockHolder]:
    """The processes that read the database at this moment, as far as they are visible."""
    try:
        # Some file systems (btrfs, overlay) report the device differently.
        inode = database.with_name(f"{database.name}-shm").stat().st_ino
    except OSError:
        return set()
    try:
        locks = (proc / "locks").read_text(errors="replace")
    except OSError:
        pids = set(_by_files(proc, inode))
    else:
        pids = set(_pids(locks, inode))
    return {LockHolder(pid, _command(proc, pid)) for pid in sorted(pids)[:_MOST]}


def _pids(locks: str, inode: int) -> Iterator[int]:
    """Parse lines like `1: POSIX  ADVISORY  READ 4711 08:01:1234 124 124`; in fdinfo they begin with `lock:`."""
    for line in locks.splitlines():
        words = line.removeprefix("lock:").split()
        if len(words) < 8 or words[1] != "POSIX" or words[3] != "READ":
            continue
        try:
            found, pid, first = int(words[5].rpartition(":")[2]), int(words[4]), int(words[6])
        except ValueError:
            continue
        if found == inode and first in _READ_MARKS and pid > 0:
            yield pid


def _by_files(proc: Path, inode: int) -> Iterator[int]:
    for process in proc.iterdir():
        if process.name.isdecimal():
            try:
                for handle in (process / "fd").iterdir():
                    yield from _of_file(process, handle, inode)
            except OSError:  # another user's, or ended
                continue


def _of_file(process: Path, handle: Path, inode: int) -> Iterator[int]:
    try:
        if handle.stat().st_ino == inode:
            info = (process / "fdinfo" / handle.name).read_text(errors="replace")
            yield from _pids(info, inode)
    except OSError:  # closed meanwhile
        return


def _command(proc: Path, pid: int) -> str:
    try:
        name = (proc / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""
    return name if name.isprintable() else ascii(name)
