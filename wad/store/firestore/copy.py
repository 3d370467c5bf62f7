"""Fills Firestore from the embedded store, while that goes on being used.

The list of what is to be told is made once and kept in `wad.db`, so that a copy goes on where the last one ended, and
repeating it tells only what has changed since.  When the installation is then moved (store.kind = "firestore"), the
same file becomes the replica, and what is left of the list is all that is still to be told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from wad.core.errors import Conflict, Unavailable
from wad.core.lease import Record
from wad.store.firestore.client.database import Client
from wad.store.firestore.client.decode import get
from wad.store.firestore.lease.document import record_of
from wad.store.firestore.lease.fence import Fence
from wad.store.firestore.store import FirestoreStore
from wad.store.port import Copying

_TIMEOUT: Final = 5.0  # seconds for one call
_LOOK: Final = 0.2  # seconds between two looks at how far it is
_PATIENCE: Final = 30.0  # seconds for which nothing may get there


async def copy(store: FirestoreStore, lease: str) -> AsyncIterator[Copying]:
    """Tell everything; how far it is, again and again.

    `store`: over the file that is in use, without a reign.  `lease`: the document of the lease.
    Raises Conflict while somebody else acts on this Firestore, Unavailable when it gets nowhere: what was told stays
    told.
    """
    await _refuse_a_holder(store, lease)
    await store.fetch()
    await store.tell_as(await _epoch(store, Fence(lease)))
    stuck_at = -1
    since = asyncio.get_running_loop().time()
    while True:
        sync = store.sync_status
        yield Copying(pushed=store.written, waiting=sync.waiting, refused=sync.refused)
        if store.all_told:
            return
        now = asyncio.get_running_loop().time()
        if sync.waiting != stuck_at or not sync.error:
            stuck_at, since = sync.waiting, now
        elif now - since > _PATIENCE:
            raise Unavailable(
                f"the copy gets nowhere: {sync.error}",
                hint="what was told stays told; run it again, and it goes on from there",
            )
        await asyncio.sleep(_LOOK)


async def _refuse_a_holder(store: FirestoreStore, lease: str) -> None:
    def work(client: Client) -> Record | None:
        found = get(client, lease, timeout=_TIMEOUT)
        if not found.exists:
            return None
        age = (found.read_time - found.update_time).total_seconds()
        server_ms = round(found.read_time.timestamp() * 1000)
        record = record_of(found.fields, age, server_ms, 0)
        return record if record.holder and age < record.ttl else None

    record = await store.ask(work)
    if record is not None:
        raise Conflict(
            f"{record.holder} holds the lease of this Firestore: what it writes and what is copied would mix",
            hint="stop that daemon first",
        )


async def _epoch(store: FirestoreStore, fence: Fence) -> int:
    """The newest epoch of this Firestore; the first, if nobody has ever held its lease."""

    def work(client: Client) -> int:
        seen = fence.read(client)
        if not seen.epoch:
            fence.ensure(client, 1)
        return seen.epoch or 1

    return await store.ask(work)
