"""Writes the lease's record, and frees it at the end by whatever write it became ours.

A write whose caller was cancelled, or whose answer was lost, may have been done all the same.  So a write runs to its
end whoever waits for it, and whoever frees the record waits for the write under way, or reads what is there.
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

_AGAIN: Final = 0.2  # seconds after the record could not be read or written


class LeaseWriter:
    """How one process reads and writes the record, one write at a time."""

    def __init__(self, record: LeaseRecord, nonce: str, clock: Clock) -> None:
        self._record = record
        self._nonce = nonce
        self._clock = clock
        self._under_way: asyncio.Task[str] | None = None
        self._ours: tuple[Record, str] | None = None
        self._unsure = (
            False  # whether the record may be ours by a write whose answer we did not get
        )

    async def write(self, record: Record, expected: str | None) -> str:
        """Replace the version `expected`; the new one.  Goes on if the caller is cancelled.

        Raises Conflict, Unavailable.
        """
        self._under_way = asyncio.create_task(self._write(record, expected), name="lease write")
        self._under_way.add_done_callback(_heard)
        return await asyncio.shield(self._under_way)

    async def _write(self, record: Record, expected: str | None) -> str:
        self._unsure = True
        version = await self._record.write(record, expected)
        self._ours, self._unsure = (record, version), False
        return version

    async def read(self) -> Seen | None:
        """The record as it is now.  Raises Unavailable."""
        write = self._under_way
        settled = write is None or write.done()
        seen = await self._record.read()
        if settled and write is self._under_way:
            self._ours, self._unsure = lease.own(seen, self._nonce), False
        return seen

    async def free(self, reason: str, timeout: float) -> bool:
        """Free the record if it is ours, once nobody acts any more; whether it is certainly not ours now.

        Takes `timeout` seconds at the most.  Raises StateUnwritable.
        """
        end = self._clock.monotonic() + timeout
        if self._under_way is not None:
            # The rest is for a look at what is there, should the answer not come.
            await asyncio.wait([self._under_way], timeout=timeout / 2)
        while self._ours is not None or self._unsure:
            if (left := end - self._clock.monotonic()) <= 0:
                return False
            with suppress(Unavailable, Conflict, TimeoutError):
                async with asyncio.timeout(left):
                    await self._try_to_free(reason)
                continue
            await asyncio.sleep(min(_AGAIN, max(0.0, end - self._clock.monotonic())))
        return True

    async def _try_to_free(self, reason: str) -> None:
        ours = self._ours
        if self._unsure:
            ours = lease.own(await self.read(), self._nonce)
            if ours is None:
                if self._unsure and self._under_way is not None:
                    await asyncio.wait([self._under_way])  # it may still make the record ours
                return
        assert ours is not None
        self._unsure = True  # should this be refused or not answered, the next attempt reads first
        await self._record.write(self._freed(ours[0], reason), ours[1])
        # A write that is still under way names a version that is gone.
        self._ours, self._unsure = None, False

    def _freed(self, record: Record, reason: str) -> Record:
        return lease.released(record, self._clock.wall_ms(), reason)


def _heard(write: asyncio.Task[str]) -> None:
    """Nobody may wait for it any more; what it failed of was an answer all the same."""
    if not write.cancelled():
        write.exception()
