"""The lease's record: the port, and the adapter for one machine (a file).

One machine needs no server's clock: the daemon that holds the state directory's lock (`home.StateLock`) has proven that
every other holder written in this file is dead.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Protocol

import msgspec

from wad.core.errors import Conflict, StateUnwritable
from wad.core.lease import Record, Seen


class LeaseRecord(Protocol):
    """One record with compare-and-set."""

    async def read(self) -> Seen | None:
        """The record as it is now; None when there never was one.  Raises Unavailable."""
        ...

    async def write(self, record: Record, expected: str | None) -> str:
        """Replace the version `expected` (None: there is none); the new version.  Atomic.

        Raises Conflict when somebody else wrote since, Unavailable when it is not known whether it was written.
        """
        ...

    async def changed(self, timeout: float) -> None:
        """Return when the record may have changed, or after `timeout` seconds."""
        ...


class FileLease:
    """The record in a file of the state directory, for the one daemon that holds the directory's lock."""

    def __init__(self, path: Path, nonce: str) -> None:
        self._path = path
        self._nonce = nonce

    async def read(self) -> Seen | None:
        """The record; a holder that is not this process is dead, since we hold the directory's lock."""
        try:
            record = msgspec.json.decode(self._path.read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except (msgspec.ValidationError, msgspec.DecodeError):
            # Only the epoch would be worth keeping, and the store remembers the newest that it saw.
            return None
        except OSError as error:
            raise StateUnwritable(f"cannot read {self._path}: {error.strerror}") from error
        return Seen(record, 0.0, _version(record), dead=record.nonce != self._nonce)

    async def write(self, record: Record, expected: str | None) -> str:
        """Replace the file by rename."""
        seen = await self.read()
        if (seen.version if seen is not None else None) != expected:
            raise Conflict("the lease file was changed by another process")
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
            os.replace(temporary, self._path)  # noqa: PTH105, atomic by contract
        except OSError as error:
            raise StateUnwritable(
                f"cannot write {self._path}: {error.strerror}", hint=f"df -h {self._path.parent}"
            ) from error
        return _version(record)

    async def changed(self, timeout: float) -> None:
        """Nobody else writes here: wait."""
        await asyncio.sleep(timeout)


def _version(record: Record) -> str:
    return f"{record.epoch}:{record.nonce}:{record.renewed_ms}"
