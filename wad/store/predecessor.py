"""The proof that the last holder on this machine is dead, so that its successor need not wait for the ttl.

One process at a time has the state directory's lock (`home.StateLock`).  Whoever acquires writes its nonce beside that
lock; the next process that has the lock finds it, and knows that the process of this nonce is gone.  A copy of the
directory proves nothing: the note names the running kernel and the lock's own place on the disk, and is void elsewhere.
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
    """What the state directory tells of the holder before; to be used with its lock held.

    `lock`: the lock's file.  `kernel`: the running kernel's name, read from /proc if not given.
    """

    def __init__(self, lock: Path, kernel: str = "") -> None:
        self._note = lock.with_name(_NOTE)
        self._lock = lock
        self._kernel = kernel
        self.nonce = self._read()
        """The nonce of a process that is dead; empty where nothing is proven."""

    def remember(self, nonce: str) -> None:
        """Note whose process acquires now.  Where that fails, the next one waits for the ttl."""
        try:
            write_file(self._note, f"{nonce} {self._place()}\n".encode())
        except (StateUnwritable, OSError) as error:
            log.warning("cannot note who acquires, so a restart waits for the ttl: %s", error)

    def _read(self) -> str:
        try:
            with decoding(str(self._note)):
                text = read_file(self._note, _LARGEST).decode()
                nonce, place = text.rstrip("\n").split(" ", 1)
            return nonce if place == self._place() else ""
        except (OSError, InvalidData):
            return ""

    def _place(self) -> str:
        stat = self._lock.stat()
        kernel = self._kernel or _KERNEL.read_text().strip()
        return f"{kernel} {stat.st_dev}:{stat.st_ino}"
