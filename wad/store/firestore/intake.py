"""Takes in what the apps' functions put into the outbox: watched, not polled (reference-backend.md 7).

While we reign, a listener on the queued entries hands each new one to the replica, where it waits its turn like one of
ours.  A listener may die silently, so it is made anew from time to time; on an idle outbox that reads one document.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from wad.core.errors import BadInput, NotFound, WadError
from wad.core.jid import ThreadId
from wad.core.outbox import Entry
from wad.store.fields import message_path
from wad.store.firestore.client import Client, FieldFilter, Firestore, Query, Snapshot, pause_after
from wad.store.firestore.commit import commit, if_there, upsert
from wad.store.firestore.fence import Fence
from wad.store.firestore.outbox_fields import entry_of, entry_path, is_ours
from wad.store.firestore.replica import Replica
from wad.store.firestore.teller import STAMPS, fencing

log = logging.getLogger(__name__)

AGAIN: Final = 300.0  # seconds after which the listener is made anew
_TIMEOUT: Final = 5.0  # seconds for one call
_PAGE: Final = 300  # documents


class Intake:
    """Runs while an epoch lasts.  `on_queued` is called with the account of each entry that is news.

    `late`: a document that other machines touch when they have told facts late; `on_late` is then called.
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
        again: float = AGAIN,
    ) -> None:
        self._firestore = firestore
        self._replica = replica
        self._fence = fence
        self._late = late
        self._on_queued = on_queued
        self._on_late = on_late
        self._again = again
        self._heard: datetime | None = None
        self._loop = asyncio.get_running_loop()
        self._lost = asyncio.Event()
        self._arrived: asyncio.Queue[list[Snapshot]] = asyncio.Queue()

    async def run(self, epoch: int) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_all(epoch), name="outbox intake")
            failures = 0
            while True:
                try:
                    await self._watch()
                    failures = 0
                except WadError as error:
                    log.warning("cannot watch the outbox: %s", error)
                    await asyncio.sleep(pause_after(error, failures))
                    failures += 1

    async def _watch(self) -> None:
        """Watch for a while, or until watching ends by itself."""
        await self._take_stranded()
        self._lost.clear()
        unwatch = await self._firestore.call(self._listen)
        try:
            async with asyncio.timeout(self._again):
                await self._lost.wait()
                await asyncio.sleep(pause_after(Exception(), 0))
        except TimeoutError:
            pass
        finally:
            for end in unwatch:
                self._firestore.later(end)

    def _listen(self, client: Client) -> list[Callable[[], None]]:
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

    async def _take_all(self, epoch: int) -> None:
        while True:
            await self._take(await self._arrived.get(), epoch)

    async def _take(self, found: Sequence[Snapshot], epoch: int) -> None:
        for snapshot in sorted((one for one in found if one.exists), key=_created):
            failures = 0
            while True:
                try:
                    await self._take_one(snapshot, epoch)
                    break
                except NotFound as error:
                    # It was taken away meanwhile; or the epoch is over, and this ends with it.
                    log.info("entry %s of the outbox is gone: %s", snapshot.id, error)
                    break
                except WadError as error:
                    log.warning("cannot take entry %s of the outbox: %s", snapshot.id, error)
                    await asyncio.sleep(pause_after(error, failures))
                    failures += 1

    async def _take_one(self, snapshot: Snapshot, epoch: int) -> None:
        document = snapshot.to_dict() or {}
        try:
            entry = entry_of(snapshot.id, document, _created(snapshot))
        except BadInput as error:
            log.warning("entry %s of the outbox cannot be sent: %s", snapshot.id, error)
            why = str(error)
            await self._firestore.call(
                lambda client: self._turn_down(client, snapshot.id, document, why, epoch)
            )
            return
        if await self._replica.take_entry(entry, document):
            self._on_queued(entry.account)

    def _turn_down(
        self, client: Client, ident: str, document: dict[str, Any], why: str, epoch: int
    ) -> None:
        """Say why, where the app looks: in the entry, and in the message that the function shows for it."""
        path = entry_path(ident)
        failed = {"status": "failed", "success": False, "lastError": why}
        writes = [
            fencing(client, self._fence, epoch, ident),
            if_there(upsert(client, path, failed, STAMPS), there=True),
        ]
        thread = _shown_in(document)
        if thread is not None:
            shown = message_path(thread, ident)
            if client.document(shown).get(["status"], retry=None, timeout=_TIMEOUT).exists:
                writes.append(upsert(client, shown, {"status": "failed"}, STAMPS))
        commit(client, writes, _TIMEOUT)

    async def _take_stranded(self) -> None:
        """What a worker of the backend before us claimed, and never settled."""

        def work(client: Client) -> list[Snapshot]:
            found = stranded(client).get(retry=None, timeout=_TIMEOUT)
            return [one for one in found if _is_stranded(one)]

        for snapshot in await self._firestore.call(work):
            document = snapshot.to_dict() or {}
            try:
                entry: Entry = entry_of(snapshot.id, document, _created(snapshot))
            except BadInput as error:
                log.warning("entry %s of the outbox cannot be read: %s", snapshot.id, error)
                continue
            await self._replica.take_entry(entry, document)


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
    document = snapshot.to_dict() or {}
    until = document.get("leaseUntil")
    return not is_ours(document) and not (until is not None and until > snapshot.read_time)


def _created(snapshot: Snapshot) -> int:
    """When the entry was queued, ms since 1970; else when its document was."""
    created = (snapshot.to_dict() or {}).get("createdAt")
    moment = created if isinstance(created, datetime) else snapshot.create_time
    return round(moment.timestamp() * 1000)


def _shown_in(document: dict[str, Any]) -> str | None:
    """The thread in which the function shows its message; None where that is no thread's id."""
    try:
        return str(ThreadId.parse(str(document.get("threadId"))))
    except BadInput:
        return None
