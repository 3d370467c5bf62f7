"""Tells Firestore what the replica has: in batches, in the order of happening, again until it is there.

Received facts are told by whoever has them; what is exclusive (threads, entries) only while the lease is held, in
batches that the fence guards.  While Firestore is away everything waits on the disk, and is told in order afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Final

from wad.core.errors import BadInput, NotFound, Unavailable, WadError
from wad.store.firestore.capture import Kind
from wad.store.firestore.client import SERVER_TIMESTAMP, Batch, Client, Firestore
from wad.store.firestore.documents import Told
from wad.store.firestore.fence import Fence
from wad.store.firestore.replica import Replica

log = logging.getLogger(__name__)

BATCH: Final = 400  # documents; Firestore takes 500 writes, a server timestamp may count as one more in some regions
BATCH_BYTES: Final = 8 << 20  # Firestore takes 10 MiB
_TAKEN: Final = 1200  # keys looked at in one turn: three batches at once
_TIMEOUT: Final = 20.0  # seconds for one batch
_RETRY: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds
_FACTS: Final = (Kind.MESSAGE, Kind.ALIAS, Kind.FACT)


class Teller:
    """One loop.  `epoch`: of our reign, None while we are passive.  `late`: a document that is touched when a passive
    machine has told something, so that the holder fetches it."""

    def __init__(self, firestore: Firestore, replica: Replica, fence: Fence, late: str) -> None:
        self._firestore = firestore
        self._replica = replica
        self._fence = fence
        self._late = late
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self.epoch: int | None = None
        self.error = ""
        self.waiting = 0
        self.oldest_ms: int | None = None

    def wake(self) -> None:
        """There is something to tell."""
        self._idle.clear()
        self._news.set()

    async def told(self) -> None:
        """Return once everything that may be told now is told."""
        self.wake()
        await self._idle.wait()

    async def run(self) -> None:
        """For ever."""
        failures = 0
        while True:
            self._news.clear()
            try:
                while await self._turn():
                    failures = 0
                self.error = ""
                await self._count()
                if not self._news.is_set():
                    self._idle.set()
                await self._news.wait()
                continue
            except WadError as error:
                if not self.error:
                    log.warning("cannot tell Firestore: %s", error)
                self.error = str(error)
            except Exception as error:
                log.exception("telling Firestore failed")
                self.error = f"{type(error).__name__}: {error}"
            await self._count()
            pause = _RETRY[min(failures, len(_RETRY) - 1)]
            failures += 1
            await asyncio.sleep(pause)

    async def _count(self) -> None:
        try:
            self.waiting, self.oldest_ms = await self._replica.backlog()
        except WadError as error:
            log.warning("cannot count what waits for Firestore: %s", error)

    async def _turn(self) -> bool:
        """Tell the next of what waits; whether there was anything."""
        epoch = self.epoch
        kinds = _FACTS if epoch is None else tuple(Kind)
        found = await self._replica.waiting(0, _TAKEN, kinds)
        if not found:
            return False
        await self._replica.done([one for one in found if one.there])
        news = [one for one in found if not one.there]
        facts = [one for one in news if not one.exclusive]
        await asyncio.gather(*(self._tell(batch, None) for batch in batches(facts)))
        if epoch is None:
            if facts:
                await self._firestore.call(self._touch)
            return True
        for batch in batches([one for one in news if one.exclusive]):
            await self._tell(batch, epoch)
        return True

    def _touch(self, client: Client) -> None:
        client.document(self._late).set({"at": SERVER_TIMESTAMP}, retry=None, timeout=_TIMEOUT)

    async def _tell(self, told: Sequence[Told], epoch: int | None) -> None:
        try:
            await self._firestore.call(lambda client: self._commit(client, told, epoch))
        except BadInput as error:
            await self._apart(told, epoch, error)
            return
        except NotFound as error:
            # The fence is gone: another has begun.  What is exclusive is its to tell.
            if self.epoch == epoch:
                self.epoch = None
            raise Unavailable(f"epoch {epoch} is over: {error}") from error
        await self._replica.done(told)

    async def _apart(self, told: Sequence[Told], epoch: int | None, error: BadInput) -> None:
        """Firestore refuses a batch for one document in it: find that one, and let the others pass."""
        if len(told) == 1:
            log.error("Firestore does not take %s: %s", told[0].path, error)
            await self._replica.refuse(told[0], str(error))
            return
        half = len(told) // 2
        await self._tell(told[:half], epoch)
        await self._tell(told[half:], epoch)

    def _commit(self, client: Client, told: Sequence[Told], epoch: int | None) -> None:
        batch = client.batch()
        if epoch is not None:
            self._fence.check(client, batch, epoch, told[0].path)
        for one in told:
            write(client, batch, one)
        batch.commit(retry=None, timeout=_TIMEOUT)


def write(client: Client, batch: Batch, told: Told) -> None:
    """Add a document to a batch.  Fields of others stay as they are."""
    reference = client.document(told.path)
    if told.fields is None:
        batch.delete(reference)
        return
    ours = {**told.fields.get("wad", {}), "digest": told.digest}
    fields = {
        **told.fields,
        "wad": ours,
        "updatedAt": SERVER_TIMESTAMP,
        "wadSyncedAt": SERVER_TIMESTAMP,
    }
    batch.set(reference, fields, merge=True)


def batches(told: Sequence[Told]) -> Iterator[list[Told]]:
    """Parts that Firestore takes at once."""
    batch: list[Told] = []
    size = 0
    for one in told:
        if batch and (len(batch) >= BATCH or size + one.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size
    if batch:
        yield batch
