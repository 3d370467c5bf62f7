"""Writing the lease record, and releasing it at the end, whichever write made it ours.

A write whose caller was cancelled, or whose answer was lost, may have happened.  So a write runs to its end even
without a caller, and the release waits for the pending write, or reads the current record.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from wad.core import lease
from wad.core.errors import Conflict, Unavailable
from wad.core.lease import Record, Seen
from wad.lib.clock import Clock
from wad.store.lease import LeaseRecord

_RETRY: Final = 0.2  # seconds after the record could not be read or written


class LeaseWriter:
    """Reads and writes the record for one process, one write at a time."""

    def __init__(self, record: LeaseRecord, nonce: str, clock: Clock) -> None:
        self._record = record
        self._nonce = nonce
        self._clock = clock
        self._pending: asyncio.Task[str] | None = None
        self._ours: tuple[Record, str] | None = None
        self._unsure = False  # whether the record may be ours by a write without an answer

    async def write(self, record: Record, expected: str | None) -> str:
        """Replace the version `expected`; returns the new one.  Continues if the caller is cancelled.

        Raises Conflict, Unavailable.
        """
        self._pending = asyncio.create_task(self._write(record, expected), name="lease write")
        self._pending.add_done_callback(_retrieve_error)
        return await asyncio.shield(self._pending)

    async def _write(self, record: Record, expected: str | None) -> str:
        self._unsure = True
        version = await self._record.write(record, expected)
        self._ours, self._unsure = (record, version), False
        return version

    async def read(self) -> Seen | None:
        """The current record.  Raises Unavailable."""
        write = self._pending
        settled = write is None or write.done()
        seen = await self._record.read()
        if settled and write is self._pending:
            self._ours, self._unsure = lease.own_record(seen, self._nonce), False
        return seen

    async def free(self, reason: str, timeout: float) -> bool:
        """Release the record if it is ours, once nothing acts any more; returns whether it is certainly not ours now.

        Takes at most `timeout` seconds.  Raises StateUnwritable.
        """
        end = self._clock.monotonic() + timeout
        if self._pending is not None:
            # The rest of the time is for a read, in case there is no answer.
            await asyncio.wait([self._pending], timeout=timeout / 2)
        while self._ours is not None or self._unsure:
            if (left := end - self._clock.monotonic()) <= 0:
                return False
            with suppress(Unavailable, Conflict, TimeoutError):
                async with asyncio.timeout(left):
                    await self._try_to_free(reason)
                continue
            await asyncio.sleep(min(_RETRY, max(0.0, end - self._clock.monotonic())))
        return True

    async def _try_to_free(self, reason: str) -> None:
        ours = self._ours
        if self._unsure:
            ours = lease.own_record(await self.read(), self._nonce)
            if ours is None:
                if self._unsure and self._pending is not None:
                    await asyncio.wait([self._pending])  # it may still make the record ours
                return
        assert ours is not None
        self._unsure = True  # if this is refused or not answered, the next attempt reads first
        await self._record.write(self._freed(ours[0], reason), ours[1])
        # A write that is still pending names an outdated version.
        self._ours, self._unsure = None, False

    def _freed(self, record: Record, reason: str) -> Record:
        return lease.released(record, self._clock.wall_ms(), reason)


def _retrieve_error(write: asyncio.Task[str]) -> None:
    """Retrieve the error of a write that may have no caller any more, so that asyncio does not report it."""
    if not write.cancelled():
        write.exception()
