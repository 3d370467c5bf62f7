"""The proof that the last holder on this machine is dead, so that its successor need not wait for the ttl.

One process at a time has the state directory's lock (`account_dir.StateLock`).  A process that acquires the lease
writes its nonce beside that lock; the next process with the lock reads it, so the process of this nonce must be dead.
A copy of the directory proves nothing: the note names the running kernel and the lock's device and inode, and is
ignored elsewhere.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from wad.core.decoding import decoding
from wad.core.errors import InvalidData, StateUnwritable
from wad.lib.files import read_file, write_file

log = logging.getLogger(__name__)

_NOTE: Final = "lease-nonce"
_LARGEST: Final = 4096  # bytes of it
_KERNEL: Final = Path("/proc/sys/kernel/random/boot_id")


class Predecessor:
    """The previous holder, as noted in the state directory; to be used with the directory's lock held.

    `lock`: the lock's file.  `kernel`: the running kernel's boot id, read from /proc if not given.
    """

    def __init__(self, lock: Path, kernel: str = "") -> None:
        self._note = lock.with_name(_NOTE)
        self._lock = lock
        self._kernel = kernel
        self.nonce = self._read()
        """The nonce of a process that is proven dead; empty if there is no proof."""

    def remember(self, nonce: str) -> None:
        """Write the nonce of the process that acquires now.  If that fails, the next process waits for the ttl."""
        try:
            write_file(self._note, f"{nonce} {self._location()}\n".encode())
        except (StateUnwritable, OSError) as error:
            log.warning(
                "cannot write the holder's nonce, so a restart waits for the ttl: %s", error
            )

    def _read(self) -> str:
        try:
            with decoding(str(self._note)):
                text = read_file(self._note, _LARGEST).decode()
                nonce, location = text.rstrip("\n").split(" ", 1)
            return nonce if location == self._location() else ""
        except (OSError, InvalidData):
            return ""

    def _location(self) -> str:
        stat = self._lock.stat()
        kernel = self._kernel or _KERNEL.read_text().strip()
        return f"{kernel} {stat.st_dev}:{stat.st_ino}"
