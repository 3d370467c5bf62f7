"""The store on Firestore: a working copy on this machine, and two loops that keep it and Firestore alike.

Received facts are recorded in the replica and told behind its back, so that receiving never waits for the network.
What is exclusive goes to Firestore first, fenced, and into the replica when Firestore has taken it.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from wad.core.change import Change
from wad.core.errors import Conflict, Fenced, NotFound, WadError
from wad.core.jid import Jid
from wad.core.outbox import Entry, Outcome, advance, message_of, same_message
from wad.store.firestore.client import (
    SERVER_TIMESTAMP,
    Batch,
    Client,
    FieldFilter,
    Firestore,
    Snapshot,
)
from wad.store.firestore.fence import Fence
from wad.store.firestore.fetcher import Fetcher
from wad.store.firestore.fields import (
    Fields,
    account_fields,
    account_path,
    message_fields,
    message_path,
)
from wad.store.firestore.outbox_fields import entry_fields, entry_of, entry_path
from wad.store.firestore.replica import Replica
from wad.store.firestore.teller import Teller
from wad.store.port import AccountStatus, Cursor, Enqueued, Recorded
from wad.store.sqlite_rows import pack

log = logging.getLogger(__name__)

_TIMEOUT: Final = 5.0  # seconds for an exclusive write
_CATCH_UP: Final = (
    3.0  # seconds of a new reign that may pass with fetching; the rest is fetched meanwhile
)
_LOOK: Final = 300.0  # seconds between two looks at what others told, whatever watching says
_STALE_S: Final = 30.0  # what has waited for longer is worth a word


class FirestoreStore(Replica):
    """`wad.store.port.Store` for several machines."""

    kind = "firestore"

    def __init__(
        self,
        path: Path,
        connections: tuple[sqlite3.Connection, sqlite3.Connection],
        firestore: Firestore,
        lease: str,
    ) -> None:
        super().__init__(path, *connections)
        self._firestore = firestore
        self._fence = Fence(lease)
        self._late = f"{lease}/wad/late"
        self._teller = Teller(firestore, self, self._fence, self._late)
        self._fetcher = Fetcher(firestore, self)
        self._fetching = asyncio.Lock()
        self._exclusive = asyncio.Lock()
        self._look = asyncio.Event()
        self._unwatch: list[Callable[[], None]] = []
        self._arrived: asyncio.Queue[Sequence[Snapshot]] = asyncio.Queue()
        self._on_queued: Callable[[str], None] = _ignore
        self._tasks: list[asyncio.Task[None]] = []

    @staticmethod
    async def open_at(path: Path, firestore: Firestore, lease: str) -> FirestoreStore:
        """Open the replica; Firestore need not be within reach.  Raises as `SqliteStore.open`."""
        connections = await asyncio.to_thread(Replica.open_replica, path)
        store = FirestoreStore(path, connections, firestore, lease)
        store._tasks = [
            asyncio.create_task(store._teller.run(), name="teller"),
            asyncio.create_task(store._fetch_for_ever(), name="fetcher"),
            asyncio.create_task(store._take_arrivals(), name="outbox"),
        ]
        store._teller.wake()
        return store

    async def close(self) -> None:
        """Stop the loops and close the file; what was not told waits in it.  Idempotent."""
        self.end_reign()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._firestore.close()
        await super().close()

    @property
    def warnings(self) -> list[str]:
        """What an operator should know."""
        if not self._teller.error:
            return []
        return [
            f"{self._teller.waiting} documents wait for Firestore: {self._teller.error}",
        ]

    async def told(self) -> None:
        """Return once everything that may be told now is told."""
        await self._teller.told()

    async def fetch(self) -> int:
        """Look at what others told.  Raises Unavailable."""
        async with self._fetching:
            return await self._fetcher.fetch()

    # --- received facts -----------------------------------------------------------------------------

    async def record(
        self, account: str, changes: Sequence[Change], cursor: Cursor | None = None
    ) -> Recorded:
        """Into the replica; told afterwards."""
        done = await super().record(account, changes, cursor)
        self._teller.wake()
        return done

    async def mark_read(self, thread: str) -> None:
        """Into the replica; told afterwards."""
        await super().mark_read(thread)
        self._teller.wake()

    # --- the reign ------------------------------------------------------------------------------------

    async def fence(self, epoch: int) -> None:
        """Refuse older epochs, here and on the server; then know what the holder before knew."""
        await self._firestore.call(lambda client: self._begin(client, epoch))
        await super().fence(epoch)
        try:
            async with asyncio.timeout(_CATCH_UP):
                await self.fetch()
        except TimeoutError:
            log.info("there is much to fetch: it goes on while the reign has begun")
        self._teller.epoch = epoch
        self._teller.wake()
        self._look.set()

    def _begin(self, client: Client, epoch: int) -> None:
        before = self._fence.read(client)
        if before > epoch:
            raise Fenced(f"epoch {epoch} is over, epoch {before} has begun")
        if before < epoch:
            batch = client.batch()
            self._fence.begin(client, batch, before, epoch)
            batch.commit(retry=None, timeout=_TIMEOUT)

    def end_reign(self) -> None:
        """The lease is gone, or about to be let go."""
        self._teller.epoch = None
        self._stop_watching()

    # --- exclusive writes -----------------------------------------------------------------------------

    async def _fenced(self, epoch: int, account: str, add: Callable[[Client, Batch], None]) -> None:
        """A fenced batch.  Raises Fenced, Unavailable."""

        def work(client: Client) -> None:
            batch = client.batch()
            self._fence.check(client, batch, epoch, account)
            add(client, batch)
            try:
                batch.commit(retry=None, timeout=_TIMEOUT)
            except Exception:
                newest = self._fence.read(client)
                if newest != epoch:
                    raise Fenced(f"epoch {epoch} is over, epoch {newest} has begun") from None
                raise

        await self._firestore.call(work)

    async def enqueue(self, entry: Entry) -> Enqueued:
        """Into Firestore, then into the replica."""
        known = await self.entry(entry.id)
        if known is None:
            try:
                await self._firestore.call(lambda client: _create(client, entry))
            except Conflict:
                known = await self._fetch_entry(entry.id)
        if known is not None:
            same_message(known, Jid.parse(entry.to), entry.text)
            return Enqueued(known, duplicate=True)
        done = await super().enqueue(entry)
        self._teller.wake()
        return done

    async def _fetch_entry(self, ident: str) -> Entry | None:
        """An entry that another machine, or a function, has put there."""

        def work(client: Client) -> Fields | None:
            found = client.document(entry_path(ident)).get(retry=None, timeout=_TIMEOUT)
            return found.to_dict()

        document = await self._firestore.call(work)
        if document is None:
            return None
        await self.put_entry(entry_of(ident, document))
        return await self.entry(ident)

    async def settle(self, ident: str, outcome: Outcome, *, epoch: int) -> Entry:
        """Fenced into Firestore, then into the replica."""
        async with self._exclusive:
            entry = await self.entry(ident)
            if entry is None:
                raise NotFound(f"there is no message {ident}", hint="wadctl outbox lists them")
            after = advance(entry, outcome)
            await self._fenced(
                epoch,
                entry.account,
                lambda client, batch: _set(client, batch, entry_path(ident), entry_fields(after)),
            )
            try:
                return await super().settle(ident, outcome, epoch=epoch)
            finally:
                # Whatever the replica made of it (an echo, a receipt) is what counts, and is told.
                await self.remember([(entry_path(ident), None)])
                self._teller.wake()

    async def put_account(self, status: AccountStatus, *, epoch: int) -> None:
        """Fenced into Firestore, then into the replica."""
        fields = {**account_fields(status), "wad": {"status": pack(status)}}
        await self._fenced(
            epoch,
            status.account,
            lambda client, batch: _set(client, batch, account_path(status.account), fields),
        )
        await super().put_account(status, epoch=epoch)

    async def forget_account(self, account: str, *, epoch: int) -> None:
        """Fenced out of Firestore, then out of the replica."""
        await self._fenced(
            epoch,
            account,
            lambda client, batch: batch.delete(client.document(account_path(account))),
        )
        await super().forget_account(account, epoch=epoch)

    # --- what others do -------------------------------------------------------------------------------

    def watch_outbox(self, on_queued: Callable[[str], None]) -> None:
        """Call this with an account's id when somebody else has queued a message of it."""
        self._on_queued = on_queued

    async def _fetch_for_ever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            try:
                await self.fetch()
                await self._watch()
            except WadError as error:
                log.warning("cannot fetch what others told: %s", error)
                await asyncio.sleep(_TIMEOUT)
                self._look.set()

    async def _watch(self) -> None:
        """While we reign: new entries of the outbox, and what a passive machine tells late."""
        if self._unwatch or self._teller.epoch is None:
            return
        loop = asyncio.get_running_loop()

        def soon(act: Callable[..., object], *values: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(act, *values)

        def work(client: Client) -> list[Callable[[], None]]:
            queued = client.collection("outbox").where(filter=FieldFilter("status", "==", "queued"))
            return [
                self._firestore.watch_query(
                    queued,
                    lambda found: soon(self._arrived.put_nowait, found),
                    lambda: soon(self._lose_watch),
                ),
                self._firestore.watch(
                    self._late,
                    lambda snapshot: soon(self._look.set),
                    lambda: soon(self._lose_watch),
                ),
            ]

        self._unwatch = await self._firestore.call(work)

    def _lose_watch(self) -> None:
        self._stop_watching()
        asyncio.get_running_loop().call_later(_TIMEOUT, self._look.set)

    def _stop_watching(self) -> None:
        unwatch, self._unwatch = self._unwatch, []
        for end in unwatch:
            self._firestore.later(end)

    async def _take_arrivals(self) -> None:
        while True:
            for snapshot in await self._arrived.get():
                document = snapshot.to_dict() or {}
                if not document.get("wad"):
                    await self._take(snapshot.id, document)

    async def _take(self, ident: str, document: Fields) -> None:
        """An entry that a function wrote."""
        try:
            entry = entry_of(ident, document)
        except WadError as error:
            await self._turn_down(ident, document, error)
            return
        try:
            if await self.put_entry(entry):
                self._teller.wake()
                self._on_queued(entry.account)
        except WadError as error:
            log.warning("cannot take entry %s of the outbox: %s", ident, error)

    async def _turn_down(self, ident: str, document: Fields, why: WadError) -> None:
        log.warning("entry %s of the outbox cannot be sent: %s", ident, why)
        epoch = self._teller.epoch
        if epoch is None:
            return
        failed = {"status": "failed", "lastError": str(why), "updatedAt": SERVER_TIMESTAMP}
        try:
            await self._fenced(
                epoch,
                ident,
                lambda client, batch: batch.update(client.document(entry_path(ident)), failed),
            )
        except WadError as error:
            log.warning("cannot say so: %s", error)


def _ignore(account: str) -> None:
    """Nobody waits for entries."""


def _create(client: Client, entry: Entry) -> None:
    """A new entry and its message.  Raises Conflict where it is there."""
    batch, message = client.batch(), message_of(entry)
    stamps = {"updatedAt": SERVER_TIMESTAMP, "wadSyncedAt": SERVER_TIMESTAMP}
    batch.create(client.document(entry_path(entry.id)), {**entry_fields(entry), **stamps})
    path = message_path(message.thread, message.id)
    batch.set(client.document(path), {**message_fields(message), **stamps}, merge=True)
    batch.commit(retry=None, timeout=_TIMEOUT)


def _set(client: Client, batch: Batch, path: str, fields: Fields) -> None:
    stamps = {"updatedAt": SERVER_TIMESTAMP, "wadSyncedAt": SERVER_TIMESTAMP}
    batch.set(client.document(path), {**fields, **stamps}, merge=True)
