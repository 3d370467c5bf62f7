"""Stores on the emulator, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.contracts.world import ANN_THREAD, EPOCH
from tests.support.waiting import until
from wad.lib.clock import Clock, SystemClock
from wad.lib.loops import Loops
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Client, Firestore
from wad.store.firestore.store import FirestoreStore

LEASE: Final = "wa_metrics/longrun/locks/wa_connection"

MESSAGES: Final = f"threads/{ANN_THREAD}/messages"
"""The messages of Ann's thread."""

Document = dict[str, Any]


@asynccontextmanager
async def a_store(
    access: FirestoreAccess,
    directory: Path,
    who: str = "here",
    *,
    clock: Clock | None = None,
    quota: int = 1_000_000,
) -> AsyncIterator[FirestoreStore]:
    """The store of the machine `who`; its replica is in a file of that name."""
    store = await FirestoreStore.open_at(
        directory / f"{who}.db",
        Firestore(access, "store", 5),
        lease=LEASE,
        instance=who,
        machine=who,
        clock=clock or SystemClock(),
        quota=quota,
        loops=Loops(clock or SystemClock()),
    )
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def leading(
    access: FirestoreAccess,
    directory: Path,
    who: str = "here",
    epoch: int = EPOCH,
    queued: list[str] | None = None,
) -> AsyncIterator[FirestoreStore]:
    """The store of a machine that holds the lease.  `queued` gets the accounts for which entries are queued."""
    accounts = [] if queued is None else queued
    async with a_store(access, directory, who) as store, store.lead(epoch, accounts.append):
        await until(lambda: store._pusher.epoch == epoch, "the first push")
        yield store


class Console:
    """Access to Firestore without wad."""

    def __init__(self, access: FirestoreAccess) -> None:
        self._firestore = Firestore(access, "console", 1)

    async def get(self, path: str) -> Document | None:
        """One document; None if it does not exist."""

        def work(client: Client) -> Document | None:
            found: Document | None = client.document(path).get(retry=None, timeout=30).to_dict()
            return found

        return await self._firestore.call(work)

    async def there(self, path: str) -> Document:
        """One document, which must exist."""
        found = await self.get(path)
        assert found is not None, path
        return found

    async def all(self, collection: str) -> dict[str, Document]:
        """A collection, by document id."""

        def work(client: Client) -> dict[str, Document]:
            found = client.collection(collection).get(retry=None, timeout=30)
            return {snapshot.id: snapshot.to_dict() or {} for snapshot in found}

        return await self._firestore.call(work)

    async def group(self, name: str) -> dict[str, Document]:
        """A collection group, by path."""

        def work(client: Client) -> dict[str, Document]:
            found = client.collection_group(name).get(retry=None, timeout=30)
            return {snapshot.reference.path: snapshot.to_dict() or {} for snapshot in found}

        return await self._firestore.call(work)

    async def set(self, path: str, document: Document) -> None:
        """Write one document whole."""
        await self._firestore.call(
            lambda client: client.document(path).set(document, retry=None, timeout=30)
        )

    async def delete(self, path: str) -> None:
        """Delete one document."""
        await self._firestore.call(
            lambda client: client.document(path).delete(retry=None, timeout=30)
        )

    def close(self) -> None:
        """Close the connection."""
        self._firestore.close()
