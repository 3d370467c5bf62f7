"""Takes in what the apps' functions put into the outbox: watched, not polled.

See docs/internals/replaced-backend.md#outbox.  While we reign, a listener on the queued entries hands each new one to
the replica, where it waits its turn like one of ours.  A listener may end without an error
(docs/internals/firestore.md#listeners), so it is made anew from time to time; on an idle outbox that reads one
document.

An entry that cannot be sent is turned down in its own document, where the app looks.  One that makes no sense, or
cannot be turned down, is set aside as well; those behind it go on.
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
from wad.store.firestore.client.decode import find, get
from wad.store.firestore.documents.decode import Queued, created_ms
from wad.store.firestore.documents.outbox import entry_of, entry_path, is_ours
from wad.store.firestore.lease.fence import Fence
from wad.store.firestore.sync.pull import aside_of
from wad.store.firestore.sync.push import STAMPS, fencing
from wad.store.firestore.sync.replica import Replica

log = logging.getLogger(__name__)

AGAIN: Final = 300.0  # seconds after which the listener is made anew
_TIMEOUT: Final = 5.0  # seconds for one call
_PAGE: Final = 300  # documents
_TRIES: Final = 3  # to turn an entry down; it comes again with the next listener
_LONGEST_CLAIM_MS: Final = 3_600_000  # after which a claim is over that was not renewed
_STABLE: Final = 60.0  # seconds of watching after which an end by itself is the first again
_WHY: Final = 500  # characters of the reason in the entry's own document


class OutboxListener:
    """Runs while an epoch lasts.  `on_queued` is called with the account of each entry that is news.

    `late`: a document that other machines touch when they have told facts late; `on_late` is then called.
    `on_change` is called when there is something to tell of what was taken.
    `refence` makes the fence of the epoch anew where Firestore has lost it; raises Fenced when the epoch is over.
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
        again: float = AGAIN,
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
        self._heard: datetime | None = None
        self._loop = asyncio.get_running_loop()
        self._lost = asyncio.Event()
        self._arrived: asyncio.Queue[list[Snapshot]] = asyncio.Queue()

    async def run(self, loops: Loops, epoch: int) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(loops.keep("outbox intake", lambda loop: self._take_all(loop, epoch)))
            group.create_task(loops.keep("outbox listener", self._listen))

    # --- listening --------------------------------------------------------------------------------

    async def _listen(self, loop: Loop) -> None:
        failures = 0
        while True:
            loop.turn()
            try:
                await self._take_stranded()
                began = self._loop.time()
                if not await self._watch(loop) or self._loop.time() - began > _STABLE:
                    failures = 0
                else:
                    # A server that is down ends each attempt in no time.
                    await asyncio.sleep(pause_after(Exception(), failures))
                    failures += 1
            except WadError as error:
                failures += 1
                await loop.failed(error, pause_after(error, failures - 1))

    async def _watch(self, loop: Loop) -> bool:
        """Watch for a while; whether watching ended by itself."""
        self._lost.clear()
        unwatch = await self._firestore.call(self._begin)
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

    def _begin(self, client: Client) -> list[Callable[[], None]]:
        return [
            self._firestore.watch_query(
                queued(client), self._soon(self._arrived.put_nowait), self._soon(self._lost.set)
            ),
            self._firestore.watch(self._late, self._soon(self._hear), self._soon(self._lost.set)),
        ]

    def _soon(self, act: Callable[..., object]) -> Callable[..., None]:
        """From a thread of the library's to the loop."""
        loop = self._loop

        def tell(*values: object) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(act, *values)

        return tell

    def _hear(self, late: Snapshot) -> None:
        """Another machine has told something; a listener that is made anew repeats what was heard before."""
        if late.exists and late.update_time != self._heard:
            self._heard = late.update_time
            self._on_late()

    # --- taking -----------------------------------------------------------------------------------

    async def _take_all(self, loop: Loop, epoch: int) -> None:
        while True:
            found = await self._arrived.get()
            loop.turn()
            await self._take([one for one in found if one.exists], loop, epoch)
            loop.progress()

    async def _take(self, found: Sequence[Snapshot], loop: Loop, epoch: int) -> None:
        """In the order of queuing.  What fails for a reason of its own holds up nothing else."""
        for snapshot in sorted(found, key=_queued_ms):
            failures = 0
            while True:
                try:
                    await self._take_one(snapshot, loop, epoch)
                except (Unavailable, StateUnwritable) as error:
                    # Firestore or our own disk: whatever comes behind would fail alike.
                    failures += 1
                    await loop.failed(error, pause_after(error, failures - 1))
                    continue
                except Exception as error:  # a fault that this entry led to
                    log.exception("entry %s of the outbox cannot be taken", snapshot.id)
                    await self._replica.set_aside([aside_of(snapshot, error)])
                loop.progress()
                break

    async def _take_one(self, snapshot: Snapshot, loop: Loop, epoch: int) -> None:
        try:
            entry = entry_of(snapshot.id, snapshot.fields, created_ms(snapshot))
        except BadInput as error:
            await self._refuse(snapshot, error, loop, epoch)
            return
        news = await self._replica.take_entry(entry, snapshot.fields)
        await self._replica.release([snapshot.path])
        self._on_change()
        if news:
            self._on_queued(entry.account)

    # --- refusing ---------------------------------------------------------------------------------

    async def _refuse(self, snapshot: Snapshot, error: BadInput, loop: Loop, epoch: int) -> None:
        """Say so in the entry's own document; set it aside where it makes no sense, or cannot be told so."""
        log.warning("entry %s of the outbox cannot be sent: %s", snapshot.id, error)
        known = await self._replica.known_aside([snapshot])
        if isinstance(error, InvalidData) and not known:
            await self._replica.set_aside([aside_of(snapshot, error)])
        failures = 0
        while True:
            try:
                await self._turn_down(snapshot, str(error)[:_WHY], epoch)
                return
            except Conflict:
                # Somebody has written it since, or we have and the answer was lost; what waits is told by the listener.
                log.info("entry %s of the outbox is another one by now", snapshot.id)
                return
            except NotFound:
                # It is gone; or the fence is, and with it the epoch, unless Firestore was emptied.
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
                        await self._replica.set_aside([aside_of(snapshot, why)])
                    return
                await loop.failed(refusal, pause_after(refusal, failures - 1))

    async def _turn_down(self, snapshot: Snapshot, why: str, epoch: int) -> None:
        """Say why, where the app looks: in the entry, and in the message that the function shows for it.

        Raises BadInput where Firestore takes none of it, since the document would be too large; Conflict where it is
        not the document any more that was read.
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

    async def _take_stranded(self) -> None:
        """What a worker of the backend before us claimed, and never settled."""

        def work(client: Client) -> list[Snapshot]:
            return [one for one in find(stranded(client), timeout=_TIMEOUT) if _is_stranded(one)]

        found = await self._firestore.call(work)
        known = await self._replica.known_aside(found)
        for snapshot in found:
            if snapshot.path in known:
                continue
            try:
                entry = entry_of(snapshot.id, snapshot.fields, created_ms(snapshot))
            except BadInput as error:
                # Whether it was sent nobody knows: it is not turned down.
                await self._replica.set_aside([aside_of(snapshot, error)])
                continue
            failed = await self._replica.take_told([Queued(snapshot, entry)])
            await self._replica.set_aside([aside_of(*one) for one in failed])
            self._on_change()


def _refusals(snapshot: Snapshot, why: str) -> Iterator[Callable[[Client], list[Write]]]:
    """What to write, the fullest first: a document may have no room left for more than another word."""
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
    """The entries that wait to be sent."""
    found: Query = client.collection("outbox").where(filter=FieldFilter("status", "==", "queued"))
    return found


def stranded(client: Client) -> Query:
    """The entries that somebody is sending."""
    found: Query = client.collection("outbox").where(
        filter=FieldFilter("status", "==", "processing")
    )
    return found.limit(_PAGE)


def _is_stranded(snapshot: Snapshot) -> bool:
    """Whether another program's claim has run out, by the server's clock."""
    if is_ours(snapshot.fields):
        return False
    until, now = snapshot.fields.get("leaseUntil"), time_ms(snapshot.read_time) or 0
    claimed_until = time_ms(until) or 0
    # No claim lasts for longer than it takes to be renewed, whatever was written down.
    longest = (time_ms(snapshot.update_time) or 0) + _LONGEST_CLAIM_MS
    return min(claimed_until, longest) <= now


def _queued_ms(snapshot: Snapshot) -> int:
    """When the entry was queued, ms since 1970: as it says, and not after its document was made."""
    created = created_ms(snapshot)
    return min(time_ms(snapshot.fields.get("createdAt")) or created, created)


def _shown_in(document: Fields) -> str | None:
    """The thread in which the function shows its message; None where that is no thread's id."""
    try:
        return str(ThreadId.parse(text(document, "threadId")))
    except BadInput:
        return None
