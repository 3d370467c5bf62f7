"""The lease's record: the port, and the adapter for one machine (a file).

One machine needs no server's clock: the daemon that holds the state directory's lock (`home.StateLock`) has proven that
every other holder written in this file is dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec

from wad.core.errors import Conflict, StateUnwritable
from wad.core.lease import Record, Seen, Tenure, begun, ended
from wad.files import write_file

_KEPT: Final = 200  # holders that the history of one machine remembers


class LeaseRecord(Protocol):
    """One record with compare-and-set, and the history of who held it."""

    @property
    def where(self) -> str:
        """Where the record lies, for people."""
        ...

    async def read(self) -> Seen | None:
        """The record as it is now; None when there never was one.  Raises Unavailable."""
        ...

    async def write(self, record: Record, expected: str | None) -> str:
        """Replace the version `expected` (None: there is none); the new version.  Atomic.

        A record with a new epoch begins an entry of the history, one without a holder ends it.  Raises Conflict when
        somebody else wrote since, Unavailable when it is not known whether it was written.
        """
        ...

    async def history(self, limit: int) -> list[Tenure]:
        """The latest holders, in any order.  Raises Unavailable."""
        ...

    async def changed(self, timeout: float) -> None:
        """Return when another may hold it, or after `timeout` seconds without a sign of its holder."""
        ...


class FileLease:
    """The record in a file of the state directory, for the one daemon that holds the directory's lock."""

    def __init__(self, path: Path, nonce: str) -> None:
        self._path = path
        self._history = path.with_name(f"{path.stem}-history.jsonl")
        self._nonce = nonce

    @property
    def where(self) -> str:
        """The file."""
        return str(self._path)

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
        write_file(self._path, msgspec.json.format(msgspec.json.encode(record)) + b"\n")
        if not record.holder or seen is None or seen.record.epoch != record.epoch:
            tenures = remembered(await self.history(_KEPT), record)
            write_file(
                self._history, b"".join(msgspec.json.encode(tenure) + b"\n" for tenure in tenures)
            )
        return _version(record)

    async def history(self, limit: int) -> list[Tenure]:
        """The latest holders; a line that cannot be read is left out."""
        try:
            lines = self._history.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StateUnwritable(f"cannot read {self._history}: {error.strerror}") from error
        found = []
        for line in lines[-limit:]:
            with suppress(msgspec.MsgspecError):
                found.append(msgspec.json.decode(line, type=Tenure))
        return found

    async def changed(self, timeout: float) -> None:
        """Nobody else writes here: wait."""
        await asyncio.sleep(timeout)


def remembered(tenures: Sequence[Tenure], record: Record) -> list[Tenure]:
    """The history after `record` was written, the latest at the end."""
    if record.holder:
        return [*tenures[1 - _KEPT :], begun(record)]
    return [
        *(tenure for tenure in tenures if tenure.epoch != record.epoch),
        *(ended(tenure, record) for tenure in tenures if tenure.epoch == record.epoch),
    ]


def _version(record: Record) -> str:
    return f"{record.epoch}:{record.nonce}:{record.renewed_ms}"
