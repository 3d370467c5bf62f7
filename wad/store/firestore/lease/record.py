"""The lease record in Firestore, updated by compare-and-set on its update time; its age is measured by the server's
clock.

It never uses a read-write transaction: contending ones take seconds
(docs/internals/firestore.md#compare-and-set), and one that is cut off keeps its locks.  See also
docs/internals/firestore.md#the-servers-clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

from wad.core.errors import Conflict, InvalidData, NotFound, WadError
from wad.core.lease import Record, Seen, Tenure, begun, ended
from wad.lib.clock import Clock
from wad.store.firestore.client.database import (
    SERVER_TIMESTAMP,
    Client,
    DocumentReference,
    Firestore,
    Snapshot,
    moment_of,
    version_of,
)
from wad.store.firestore.client.decode import find, get_all
from wad.store.firestore.lease.document import (
    Document,
    State,
    document_of,
    record_of,
    state_of,
    tenure_document,
    tenure_of,
)
from wad.store.firestore.lease.fence import Begun, Fence, tenures
from wad.store.predecessor import Predecessor

log = logging.getLogger(__name__)

_READ_EVERY: Final = (
    30.0  # seconds after which the record is read even if the listener reports nothing
)
_UNWATCHED_READ_EVERY: Final = 1.0  # seconds between two reads without a listener


class FirestoreLease:
    """`wad.store.lease.LeaseRecord` in one document.

    `timeout`: seconds for one call.  `predecessor`: the proof about the last holder on this machine.
    It listens to the document while a caller waits in `changed`, until an acquire.
    """

    def __init__(
        self,
        firestore: Firestore,
        path: str,
        clock: Clock,
        *,
        timeout: float,
        predecessor: Predecessor | None = None,
    ) -> None:
        self._firestore = firestore
        self._path = path
        self._fence = Fence(path)
        self._clock = clock
        self._timeout = timeout
        self._predecessor = predecessor
        self._server_ms = 0
        self._server_at = 0.0
        self._epoch = 0
        self._reached = False
        self._begun = Begun()
        self._read: State | None = None
        self._news = asyncio.Event()
        self._latest: State | None = None
        self._unwatch: Callable[[], None] | None = None

    @property
    def where(self) -> str:
        """The name of the document, for people."""
        return f"Firestore document {self._path}"

    # --- reading --------------------------------------------------------------------------------

    async def read(self) -> Seen | None:
        """Read the record with its age by the server's clock.  Raises Unavailable."""
        sent_at = self._clock.monotonic()
        self._reached = False
        snapshot, self._begun = await self._firestore.call(self._get)
        self._reached, epoch = True, self._begun.epoch
        self._set_server_time(_ms(snapshot.read_time), sent_at)
        document = snapshot.fields if snapshot.exists else None
        self._read = state_of(document)
        if document is None:
            return Seen(Record(holder="", nonce="", epoch=epoch, ttl=0), 0.0, None)
        age = (snapshot.read_time - snapshot.update_time).total_seconds()
        record = record_of(document, age, _ms(snapshot.read_time), epoch)
        dead = self._predecessor is not None and record.nonce == self._predecessor.nonce != ""
        return Seen(record, age, version_of(snapshot.update_time), dead=dead)

    def _get(self, client: Client) -> tuple[Snapshot, Begun]:
        """Read the document and the newest epoch as of one time."""
        paths = (self._path, self._fence.pointer)
        record, pointer = get_all(client, paths, timeout=self._timeout)
        known = record_of(record.fields, 0.0, 0, 0).epoch
        return record, self._fence.begun(client, pointer, known, timeout=self._timeout)

    def _set_server_time(self, server_ms: int, sent_at: float) -> None:
        # Counted from before the call was sent, so that the derived time is never behind the server's clock.
        self._server_ms, self._server_at = server_ms, sent_at

    def _server_now(self) -> int:
        return self._server_ms + round((self._clock.monotonic() - self._server_at) * 1000)

    # --- writing --------------------------------------------------------------------------------

    async def write(self, record: Record, expected: str | None) -> str:
        """Compare and set the record; a new epoch moves the fence in the same commit."""
        document = document_of(record, self._server_now())
        if not record.holder:
            work = self._release(record, document, expected)
        elif record.epoch == self._epoch:
            work = self._renewal(document, expected)
        else:
            work = self._acquire(record, document, expected)
        try:
            version = await self._firestore.call(work)
        except NotFound as error:
            raise Conflict("the lease document was deleted") from error
        self._epoch = record.epoch if record.holder else 0
        if record.holder:
            self._stop_watching()
        return version

    def _renewal(self, document: Document, expected: str | None) -> Callable[[Client], str]:
        def work(client: Client) -> str:
            option = client.write_option(last_update_time=moment_of(expected or ""))
            written = client.document(self._path).update(
                {**document, "updatedAt": SERVER_TIMESTAMP},
                option=option,
                retry=None,
                timeout=self._timeout,
            )
            return version_of(written.update_time)

        return work

    def _acquire(
        self, record: Record, document: Document, expected: str | None
    ) -> Callable[[Client], str]:
        whole = {**document, "acquiredAt": SERVER_TIMESTAMP, "updatedAt": SERVER_TIMESTAMP}
        before = self._begun

        def work(client: Client) -> str:
            if self._predecessor is not None:
                self._predecessor.remember(record.nonce)
            if before.epoch >= record.epoch:
                raise Conflict(f"epoch {before.epoch} has begun")
            batch, reference = client.batch(), client.document(self._path)
            if expected is None:
                batch.create(reference, whole)
            else:
                option = client.write_option(last_update_time=moment_of(expected))
                batch.update(reference, whole, option=option)
            self._fence.begin(client, batch, before, record.epoch)
            batch.set(self._tenure(client, record.epoch), tenure_document(begun(record)))
            results = batch.commit(retry=None, timeout=self._timeout)
            return version_of(results[0].update_time)

        return work

    def _release(
        self, record: Record, document: Document, expected: str | None
    ) -> Callable[[Client], str]:
        def work(client: Client) -> str:
            batch, reference = client.batch(), client.document(self._path)
            option = client.write_option(last_update_time=moment_of(expected or ""))
            batch.update(reference, {**document, "updatedAt": SERVER_TIMESTAMP}, option=option)
            tenure = ended(
                Tenure(epoch=record.epoch, holder="", nonce="", began_ms=0, reason=""), record
            )
            end = {"ended_ms": tenure.ended_ms, "end": tenure.end}
            batch.set(self._tenure(client, record.epoch), end, merge=True)
            results = batch.commit(retry=None, timeout=self._timeout)
            return version_of(results[0].update_time)

        return work

    # --- the history ----------------------------------------------------------------------------

    def _tenure(self, client: Client, epoch: int) -> DocumentReference:
        return client.document(f"{self._path}/history/{epoch:012d}")

    async def history(self, limit: int) -> list[Tenure]:
        """The latest holders; invalid entries are left out."""

        def work(client: Client) -> list[Document]:
            query = tenures(client, f"{self._path}/history")
            return [one.fields for one in find(query.limit(limit), timeout=self._timeout)]

        found = []
        for document in await self._firestore.call(work):
            try:
                found.append(tenure_of(document))
            except InvalidData as error:
                log.warning("%s", error)
        return found

    # --- listening ------------------------------------------------------------------------------

    async def changed(self, timeout: float) -> None:
        """Return when the holder may have changed, or after `timeout` seconds without a renewal by the holder."""
        began = now = self._clock.monotonic()
        deadline = began + timeout
        while (left := min(deadline, began + max(timeout, _READ_EVERY)) - now) > 0:
            await self._watch()
            if self._unwatch is None:
                left = min(left, _UNWATCHED_READ_EVERY)
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                return
            self._news.clear()
            if self._unwatch is None or self._latest != self._read:
                return
            now = self._clock.monotonic()
            deadline = now + timeout

    async def _watch(self) -> None:
        if self._unwatch is not None or not self._reached:
            return
        loop = asyncio.get_running_loop()

        def changed(snapshot: Snapshot) -> None:
            with suppress(RuntimeError):  # the loop has ended
                found = snapshot.fields if snapshot.exists else None
                loop.call_soon_threadsafe(self._changed, state_of(found))

        def ended() -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._watch_ended)

        try:
            self._unwatch = await self._firestore.call(
                lambda client: self._firestore.watch(self._path, changed, ended)
            )
        except WadError as error:
            log.info("cannot listen to the lease document: %s", error)

    def _changed(self, state: State | None) -> None:
        self._latest = state
        self._news.set()

    def _watch_ended(self) -> None:
        # A waiting caller reads the record next, but not at once: a server that is down ends each attempt immediately.
        self._unwatch = None
        asyncio.get_running_loop().call_later(_UNWATCHED_READ_EVERY, self._news.set)

    def _stop_watching(self) -> None:
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            self._firestore.later(unwatch)
        self._news.clear()

    def close(self) -> None:
        """Close the connection.  Idempotent."""
        self._firestore.close()


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
