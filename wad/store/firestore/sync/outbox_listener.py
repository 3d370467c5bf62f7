"""The listener for outbox entries that the apps' functions create in Firestore: a stream, no polling.

See docs/internals/replaced-backend.md#outbox.  While we hold the lease, each new queued entry is recorded in the
replica, where it waits like our own entries.  A listener may end without an error
(docs/internals/firestore.md#listeners), so it is opened again periodically; on an idle outbox that reads one document.

An entry that cannot be sent is rejected in its own document, where the app reads the status.  An entry that is invalid,
or cannot be rejected, is quarantined as well; the entries after it go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Final

from wad.core.errors import (
    BadInput,
    Conflict,
    Fenced,
    InvalidData,
    NotFound,
    StateUnwritable,
    Unavailable,
    WadError,
)
from wad.core.jid import ThreadId
from wad.core.untrusted import Fields, text, time_ms
from wad.lib.loops import Loop, Loops
from wad.store.app_documents import message_path
from wad.store.firestore.client.commit import Write, commit, if_there, if_unchanged, upsert
from wad.store.firestore.client.database import (
    Client,
    FieldFilter,
    Firestore,
    Query,
    Snapshot,
    pause_after,
)
from wad.store.firestore.client.decode import after, find, get
from wad.store.firestore.documents.decode import Queued, created_ms
from wad.store.firestore.documents.outbox import entry_of, entry_path, is_ours
from wad.store.firestore.lease.fence import Fence
from wad.store.firestore.sync.pull import quarantined_document
from wad.store.firestore.sync.push import STAMPS, fencing
from wad.store.firestore.sync.replica import Replica

log = logging.getLogger(__name__)

RELISTEN_EVERY: Final = 300.0  # seconds after which the listener is opened again
_TIMEOUT: Final = 5.0  # seconds for one call
_PAGE: Final = 300  # documents
_PAGES: Final = 10  # pages of claims that are read at once
_TRIES: Final = 3  # to reject an entry; the next listener reports it again
_LONGEST_CLAIM_MS: Final = 3_600_000  # after which a claim that was not renewed has expired
_STABLE: Final = 60.0  # seconds of listening after which the count of failures starts again
_MAX_REASON: Final = 500  # characters of the reason in the entry's own document


class OutboxListener:
    """The listener of one epoch.  `on_queued` is called with the account of each new entry.

    `late`: the document that other machines touch when they have pushed facts; `on_late` is then called.
    `on_change` is called when a recorded entry may have to be pushed.
    `refence` creates the fence of the epoch again if Firestore has lost it; it raises Fenced if the epoch is over.
    """

    def __init__(
        self,
        firestore: Firestore,
        replica: Replica,
        fence: Fence,
        late: str,
        *,
        on_queued: Callable[[str], None],
        on_late: Callable[[], None],
        refence: Callable[[int], Awaitable[None]],
        on_change: Callable[[], None],
        again: float = RELISTEN_EVERY,
    ) -> None:
        self._firestore = firestore
        self._replica = replica
        self._fence = fence
        self._late = late
        self._on_queued = on_queued
        self._on_late = on_late
        self._refence = refence
        self._on_change = on_change
        self._again = again
        self._late_seen: datetime | None = None
        self._last_claim: Snapshot | None = None
        self._loop = asyncio.get_running_loop()
        self._lost = asyncio.Event()
        self._arrived: asyncio.Queue[list[Snapshot]] = asyncio.Queue()

    async def run(self, loops: Loops, epoch: int) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(
                loops.keep("outbox processing", lambda loop: self._process_all(loop, epoch))
            )
            group.create_task(loops.keep("outbox listener", self._listen))

    # --- listening --------------------------------------------------------------------------------

    async def _listen(self, loop: Loop) -> None:
        failures = 0
        while True:
            loop.turn()
            try:
                await self._take_abandoned()
                began = self._loop.time()
                if not await self._watch(loop) or self._loop.time() - began > _STABLE:
                    failures = 0
                else:
                    # A server that is down ends each attempt at once.
                    await asyncio.sleep(pause_after(Exception(), failures))
                    failures += 1
            except WadError as error:
                failures += 1
                await loop.failed(error, pause_after(error, failures - 1))

    async def _watch(self, loop: Loop) -> bool:
        """Listen for a while; return whether the stream ended by itself."""
        self._lost.clear()
        unwatch = await self._firestore.call(self._open_streams)
        loop.progress()
        try:
            async with asyncio.timeout(self._again):
                await self._lost.wait()
                return True
        except TimeoutError:
            return False
        finally:
            for end in unwatch:
                self._firestore.later(end)

    def _open_streams(self, client: Client) -> list[Callable[[], None]]:
        return [
            self._firestore.watch_query(
                queued(client),
                self._on_loop(self._arrived.put_nowait),
                self._on_loop(self._lost.set),
            ),
            self._firestore.watch(
                self._late, self._on_loop(self._late_changed), self._on_loop(self._lost.set)
            ),
        ]

    def _on_loop(self, act: Callable[..., object]) -> Callable[..., None]:
        """A callback that runs `act` on the event loop, called from a thread of the library."""
        loop = self._loop

        def schedule(*values: object) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(act, *values)

        return schedule

    def _late_changed(self, late: Snapshot) -> None:
        """Another machine has pushed something; a listener that is opened again repeats what was reported before."""
        if late.exists and late.update_time != self._late_seen:
            self._late_seen = late.update_time
            self._on_late()

    # --- recording --------------------------------------------------------------------------------

    async def _process_all(self, loop: Loop, epoch: int) -> None:
        while True:
            found = await self._arrived.get()
            loop.turn()
            await self._process([one for one in found if one.exists], loop, epoch)
            loop.progress()

    async def _process(self, found: Sequence[Snapshot], loop: Loop, epoch: int) -> None:
        """Record entries in the order of queuing.  An entry that fails for its own reason does not block the others."""
        for snapshot in sorted(found, key=_queued_ms):
            failures = 0
            while True:
                try:
                    await self._process_one(snapshot, loop, epoch)
                except (Unavailable, StateUnwritable) as error:
                    # Firestore or our own disk: the next entries would fail as well.
                    failures += 1
                    await loop.failed(error, pause_after(error, failures - 1))
                    continue
                except Exception as error:  # a fault caused by this entry
                    log.exception("outbox entry %s cannot be recorded", snapshot.id)
                    await self._replica.add_quarantined([quarantined_document(snapshot, error)])
                loop.progress()
                break

    async def _process_one(self, snapshot: Snapshot, loop: Loop, epoch: int) -> None:
        try:
            entry = entry_of(snapshot.id, snapshot.fields, created_ms(snapshot))
        except BadInput as error:
            await self._refuse(snapshot, error, loop, epoch)
            return
        new = await self._replica.merge_entry(entry, snapshot.fields)
        await self._replica.release_quarantined([snapshot.path])
        self._on_change()
        if new:
            self._on_queued(entry.account)

    # --- rejecting --------------------------------------------------------------------------------

    async def _refuse(self, snapshot: Snapshot, error: BadInput, loop: Loop, epoch: int) -> None:
        """Reject the entry in its own document; quarantine it if it is invalid or cannot be rejected."""
        log.warning("outbox entry %s cannot be sent: %s", snapshot.id, error)
        known = await self._replica.known_quarantined([snapshot])
        if isinstance(error, InvalidData) and not known:
            await self._replica.add_quarantined([quarantined_document(snapshot, error)])
        failures = 0
        while True:
            try:
                await self._reject(snapshot, str(error)[:_MAX_REASON], epoch)
                return
            except Conflict:
                # It was written since, or we wrote it and the answer was lost; the listener reports what still waits.
                log.info("outbox entry %s has changed meanwhile", snapshot.id)
                return
            except NotFound:
                # The entry or the fence is gone; without the fence the epoch is over, unless Firestore was emptied.
                if failures:
                    return
                failures += 1
                try:
                    await self._refence(epoch)
                except Fenced:
                    return
            except WadError as refusal:
                failures += 1
                if isinstance(refusal, BadInput) or failures >= _TRIES:
                    if not known:
                        why = BadInput(f"{error}; and its document cannot be marked: {refusal}")
                        await self._replica.add_quarantined([quarantined_document(snapshot, why)])
                    return
                await loop.failed(refusal, pause_after(refusal, failures - 1))

    async def _reject(self, snapshot: Snapshot, why: str, epoch: int) -> None:
        """Write the reason where the app reads it: into the entry, and into the message that the function shows for it.

        Raises BadInput if Firestore accepts none of it, since the document would be too large; Conflict if the document
        has changed since it was read.
        """
        for writes in _refusals(snapshot, why):
            try:
                await self._firestore.call(partial(self._commit, writes, snapshot.id, epoch))
                return
            except BadInput as error:
                refusal = error
        raise refusal

    def _commit(
        self, writes: Callable[[Client], list[Write]], ident: str, epoch: int, client: Client
    ) -> None:
        fenced = [fencing(client, self._fence, epoch, ident), *writes(client)]
        commit(client, fenced, _TIMEOUT)

    async def _take_abandoned(self) -> None:
        """Record entries that a worker of the legacy backend claimed and never settled.

        Claims that stay must not hide the others: the next turn continues after the last one that was read.
        """
        for _ in range(_PAGES):
            page = await self._firestore.call(partial(_claims, self._last_claim))
            self._last_claim = page[-1] if len(page) == _PAGE else None
            await self._record_abandoned([one for one in page if _is_abandoned(one)])
            if self._last_claim is None:
                return

    async def _record_abandoned(self, found: Sequence[Snapshot]) -> None:
        known = await self._replica.known_quarantined(found)
        for snapshot in found:
            if snapshot.path in known:
                continue
            try:
                entry = entry_of(snapshot.id, snapshot.fields, created_ms(snapshot))
            except BadInput as error:
                # It is not known whether it was sent, so it is not rejected.
                await self._replica.add_quarantined([quarantined_document(snapshot, error)])
                continue
            failed = await self._replica.record_remote([Queued(snapshot, entry)])
            await self._replica.add_quarantined([quarantined_document(*one) for one in failed])
            self._on_change()


def _refusals(snapshot: Snapshot, why: str) -> Iterator[Callable[[Client], list[Write]]]:
    """The possible writes, the largest first: a document may have little room left."""
    path, version = entry_path(snapshot.id), snapshot.update_time
    failed = {"status": "failed", "success": False, "lastError": why}

    def whole(client: Client) -> list[Write]:
        writes = [if_unchanged(upsert(client, path, failed, STAMPS), version)]
        thread = _shown_in(snapshot.fields)
        if thread is not None:
            shown = message_path(thread, snapshot.id)
            if get(client, shown, "status", timeout=_TIMEOUT).exists:
                write = upsert(client, shown, {"status": "failed"}, STAMPS)
                writes.append(if_there(write, there=True))
        return writes

    yield whole
    yield lambda client: [if_unchanged(upsert(client, path, failed), version)]
    yield lambda client: [if_unchanged(upsert(client, path, {"status": "failed"}), version)]


def queued(client: Client) -> Query:
    """The query for entries that wait to be sent."""
    found: Query = client.collection("outbox").where(filter=FieldFilter("status", "==", "queued"))
    return found


def abandoned(client: Client) -> Query:
    """The query for entries that are being sent."""
    found: Query = client.collection("outbox").where(
        filter=FieldFilter("status", "==", "processing")
    )
    return found.limit(_PAGE)


def _claims(last: Snapshot | None, client: Client) -> list[Snapshot]:
    """The next page of these entries, after `last`."""
    query = abandoned(client)
    return find(query if last is None else after(query, last), timeout=_TIMEOUT)


def _is_abandoned(snapshot: Snapshot) -> bool:
    """Whether another program's claim has expired, by the server's clock."""
    if is_ours(snapshot.fields):
        return False
    until, now = snapshot.fields.get("leaseUntil"), time_ms(snapshot.read_time) or 0
    claimed_until = time_ms(until) or 0
    # A claim that was not renewed expires, whatever `leaseUntil` says.
    longest = (time_ms(snapshot.update_time) or 0) + _LONGEST_CLAIM_MS
    return min(claimed_until, longest) <= now


def _queued_ms(snapshot: Snapshot) -> int:
    """When the entry was queued, ms since 1970: its own time, but not later than its document's creation."""
    created = created_ms(snapshot)
    return min(time_ms(snapshot.fields.get("createdAt")) or created, created)


def _shown_in(document: Fields) -> str | None:
    """The thread in which the function shows its message; None if that is not a valid thread id."""
    try:
        return str(ThreadId.parse(text(document, "threadId")))
    except BadInput:
        return None
