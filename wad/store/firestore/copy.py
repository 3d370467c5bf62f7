"""The copy of the embedded store to Firestore, while the embedded store stays in use.

The change log is created once and kept in `wad.db`, so that a copy continues where the last one ended, and repeating it
pushes only what has changed since.  When the installation is then moved (store.kind = "firestore"), the same file
becomes the replica, and the rest of the change log is all that is still to be pushed.
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
_REPORT_EVERY: Final = 0.2  # seconds between two reports of the progress
_STALLED_AFTER: Final = (
    30.0  # seconds without progress, while there are errors, after which the copy fails
)


async def copy(store: FirestoreStore, lease: str) -> AsyncIterator[Copying]:
    """Push everything and yield the progress.

    `store`: opened on the file that is in use, without leadership.  `lease`: the path of the lease's document.
    Raises Conflict while another instance is active on this Firestore, Unavailable if there is no progress: documents
    that were pushed stay pushed.
    """
    await _check_no_holder(store, lease)
    await store.pull()
    await store.push_as(await _epoch(store, Fence(lease)))
    stuck_at = -1
    since = asyncio.get_running_loop().time()
    while True:
        sync = store.sync_status
        yield Copying(pushed=store.written, waiting=sync.waiting, refused=sync.refused)
        if store.all_pushed:
            return
        now = asyncio.get_running_loop().time()
        if sync.waiting != stuck_at or not sync.error:
            stuck_at, since = sync.waiting, now
        elif now - since > _STALLED_AFTER:
            raise Unavailable(
                f"the copy makes no progress: {sync.error}",
                hint="run it again: it continues where it stopped",
            )
        await asyncio.sleep(_REPORT_EVERY)


async def _check_no_holder(store: FirestoreStore, lease: str) -> None:
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
            f"{record.holder} holds the lease of this Firestore: its writes and the copy would mix",
            hint="stop that daemon first",
        )


async def _epoch(store: FirestoreStore, fence: Fence) -> int:
    """The newest epoch of this Firestore; 1 if its lease was never held."""

    def work(client: Client) -> int:
        seen = fence.read(client)
        if not seen.epoch:
            fence.ensure(client, 1)
        return seen.epoch or 1

    return await store.ask(work)
