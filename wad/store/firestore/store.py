"""The store on Firestore: a working copy on this machine, and what keeps it and Firestore alike.

Everything is recorded in the replica and told behind its back, so that neither receiving nor looking waits for the
network.  Two things are asked of Firestore first, since only there it shows whether another machine was faster: a new
entry of the outbox is created, and a claim is a compare-and-set behind the fence.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from wad.core.auto_reply import AutoReply
from wad.core.change import Change
from wad.core.errors import BadInput, Conflict, Fenced, InvalidData, NotFound, TooLong, WadError
from wad.core.jid import Jid
from wad.core.message import MessageStatus
from wad.core.outbox import Claimed, Entry, Outcome, advance, message_of, same_message
from wad.core.problem import Problem
from wad.core.untrusted import text
from wad.lib.clock import Clock
from wad.lib.loops import Loop, Loops
from wad.store.app_documents import (
    Fields,
    account_path,
    auto_reply_of,
    message_fields,
    message_path,
)
from wad.store.firestore.client.commit import commit, if_there, if_unchanged, upsert
from wad.store.firestore.client.database import Client, Firestore, Snapshot, pause_after
from wad.store.firestore.client.decode import get
from wad.store.firestore.client.document_ids import is_key
from wad.store.firestore.documents.decode import created_ms
from wad.store.firestore.documents.lookups import request_fields, request_path
from wad.store.firestore.documents.outbox import (
    claimed_fields,
    entry_of,
    entry_path,
    is_ours,
    new_entry_fields,
)
from wad.store.firestore.lease.fence import Fence
from wad.store.firestore.staff import StaffProfiles
from wad.store.firestore.sync.change_log import KeyKind
from wad.store.firestore.sync.idempotency_keys import use_of
from wad.store.firestore.sync.machines import EVERY, Machines, sentence
from wad.store.firestore.sync.outbox_listener import OutboxListener
from wad.store.firestore.sync.pull import Puller
from wad.store.firestore.sync.push import STAMPS, Pusher, fencing, late_path, machines_path
from wad.store.firestore.sync.quarantine import DocumentQuarantine
from wad.store.firestore.sync.quarantine_rows import QuarantinedDocument
from wad.store.firestore.sync.replica import Replica, claimed_elsewhere, open_replica
from wad.store.port import AccountStatus, Cursor, Enqueued, Recorded, SyncStatus
from wad.store.sqlite.keys import WritingConnection

log = logging.getLogger(__name__)

T = TypeVar("T")

_TIMEOUT: Final = 5.0  # seconds for a call that somebody waits for
_WHY: Final = 500  # characters of a reason
_CATCH_UP: Final = (
    3.0  # seconds of a new reign that may pass with fetching; the rest is fetched meanwhile
)
_FETCH_EVERY: Final = (
    3600.0  # seconds between two looks at what others told, whatever watching says
)
_FAREWELL: Final = 0.3  # seconds at the end of a reign for what is still to be told


class FirestoreStore(Replica):
    """`wad.store.port.Store` for several machines.  `quota`: documents that may wait to be told."""

    kind = "firestore"

    def __init__(
        self,
        path: Path,
        connections: tuple[WritingConnection, sqlite3.Connection],
        firestore: Firestore,
        lease: str,
        instance: str,
        host: str,
        clock: Clock,
        quota: int,
        loops: Loops,
    ) -> None:
        super().__init__(path, *connections)
        self._firestore = firestore
        self._fence = Fence(lease)
        self._late = late_path(lease)
        self.instance = instance
        self._clock = clock
        self._quota = quota
        self._loops = loops
        self._machines = Machines(firestore, self, machines_path(lease), instance, host)
        self._teller = Pusher(
            firestore, self, self._fence, lease, self._machines, self._ensure_fence
        )
        self._fetcher = Puller(firestore, self, self._machines)
        self._fetching = asyncio.Lock()
        self._look = asyncio.Event()
        self._unfetched = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._on_queued: Callable[[str], None] | None = None
        self._quarantine = DocumentQuarantine(
            firestore, self, self._write_aside_again, self._tell_of_entry
        )

    @staticmethod
    async def open_at(
        path: Path,
        firestore: Firestore,
        *,
        lease: str,
        instance: str,
        clock: Clock,
        quota: int,
        loops: Loops,
        host: str = "",
        machine: str = "",
    ) -> FirestoreStore:
        """Open the replica; Firestore need not be within reach.  `machine`: the id of a new one, drawn if not given.

        Raises as `SqliteStore.open`.
        """
        connections = await asyncio.to_thread(open_replica, path)
        store = FirestoreStore(
            path, connections, firestore, lease, instance, host, clock, quota, loops
        )
        await store.count_aside()
        await store._machines.open(machine)
        store.machine = store._machines.id
        store._tasks = [
            asyncio.create_task(
                loops.keep("upload to Firestore", store._teller.run), name="upload"
            ),
            asyncio.create_task(loops.keep("other machines", store._keep_meeting), name="machines"),
        ]
        return store

    async def close(self) -> None:
        """Stop telling and close the file; what was not told waits in it.  Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._firestore.close()
        await super().close()

    @property
    def sync_status(self) -> SyncStatus:
        """What waits for Firestore."""
        teller = self._teller
        return SyncStatus(
            waiting=teller.waiting,
            oldest_ms=teller.oldest_ms,
            refused=self.refused,
            quota=self._quota,
            error=teller.error or self._unfetched,
        )

    @property
    def quarantine(self) -> DocumentQuarantine:
        """What of Firestore's documents could not be handled."""
        return self._quarantine

    @property
    def staff(self) -> StaffProfiles:
        """Who works here, by the apps' own documents."""
        return StaffProfiles(self._firestore)

    @property
    def written(self) -> int:
        """Documents that were told since it was opened."""
        return self._teller.written

    @property
    def all_told(self) -> bool:
        """Whether nothing is left that may be told now."""
        return self._teller.idle

    async def tell_as(self, epoch: int) -> None:
        """Tell what is exclusive, too, without a reign; refused by the server once another epoch has begun."""
        self._teller.epoch = epoch
        await self._teller.count()
        self._teller.wake()

    async def ask(self, work: Callable[[Client], T]) -> T:
        """A call of one's own, as `Firestore.call`."""
        return await self._firestore.call(work)

    async def told(self) -> None:
        """Return once everything that may be told now is told."""
        await self._teller.told()

    async def fetch(self) -> int:
        """Look at what others told; how many documents were read.  Raises Unavailable."""
        async with self._fetching:
            try:
                return await self._fetcher.fetch()
            finally:
                self.machine = self._machines.id

    async def _keep_meeting(self, loop: Loop) -> None:
        """Say from time to time that this machine is there, and look for others of the same name."""
        failures, said = 0, False
        while True:
            loop.turn()
            try:
                await self._machines.meet()
                self.machine = self._machines.id
                if not said:
                    # Who acts looks now, and finds a machine with its own name or id.
                    await self._firestore.call(self._touch_late)
                    said = True
            except WadError as error:
                failures += 1
                await loop.failed(error, pause_after(error, failures - 1))
                continue
            failures = 0
            loop.progress()
            await asyncio.sleep(EVERY)

    def _touch_late(self, client: Client) -> None:
        commit(client, [upsert(client, self._late, {"by": self.machine}, ("at",))], _TIMEOUT)

    def problems(self) -> list[Problem]:
        """Other machines with this one's name, a copied state directory, and what is in quarantine."""
        twins = self._machines.twins
        found = [
            Problem(code="same_name", text=sentence(self.instance, one), subject=one.id)
            for one in twins
        ]
        if self._machines.copied:
            words = "this state directory was copied: this machine has taken a new id, and reads everything again"
            found.append(Problem(code="notice", text=words, subject="copied"))
        if unread := self.aside - self.refused + self.unlisted:
            words = f"{unread} documents or outbox entries in Firestore are set aside: wadctl quarantine list"
            if self.unlisted:
                words += f"; {self.unlisted} of them are not listed any more"
            found.append(
                Problem(code="quarantine", text=words, subject="firestore", figures=(unread,))
            )
        return found

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

    def _upload_once_known(self) -> None:
        """Upload what the intake took; before the first download is done, its document may say more than we know."""
        if self._teller.epoch is not None:
            self._teller.wake()

    @asynccontextmanager
    async def lead(self, epoch: int, on_queued: Callable[[str], None]) -> AsyncIterator[None]:
        """Fence, learn what the holder before knew, take in what others queue; and tell what is exclusive."""
        await self.fence(epoch)
        await self.look_again()
        intake = OutboxListener(
            self._firestore,
            self,
            self._fence,
            self._late,
            on_queued=on_queued,
            on_late=self._look.set,
            refence=self._ensure_fence,
            on_change=self._upload_once_known,
        )
        tasks = [
            asyncio.create_task(intake.run(self._loops, epoch), name="intake"),
            asyncio.create_task(
                self._loops.keep(
                    "download from Firestore", lambda loop: self._keep_fetching(loop, epoch)
                ),
                name="download",
            ),
        ]
        self._on_queued = on_queued
        try:
            yield
        finally:
            self._on_queued = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._unfetched = ""
            await self._say_farewell()

    async def _say_farewell(self) -> None:
        """Tell how everything was left, if that is quickly done; then no longer what is exclusive."""
        try:
            async with asyncio.timeout(_FAREWELL):
                await self._teller.told()
        except TimeoutError:
            log.info("the reign ends with %d documents to tell", self._teller.waiting)
        self._teller.epoch = None

    async def fence(self, epoch: int) -> None:
        """Refuse older epochs, here and on the server."""
        await self._ensure_fence(epoch)
        await super().fence(epoch)

    async def _ensure_fence(self, epoch: int) -> None:
        """See to it that the server takes writes of this epoch and of no older one.  Raises Fenced, Unavailable."""
        await self._firestore.call(lambda client: self._fence.ensure(client, epoch))

    async def _write_aside_again(self, item: QuarantinedDocument) -> None:
        await self.write_again(item)
        self._teller.wake()

    def _tell_of_entry(self, account: str) -> None:
        self._teller.wake()
        if self._on_queued is not None:
            self._on_queued(account)

    async def _keep_fetching(self, loop: Loop, epoch: int) -> None:
        """What is exclusive is told once all that others told is known: else a thread would go back."""
        failures, first = 0, True
        while True:
            loop.turn()
            self._look.clear()
            try:
                await self.fetch()
            except WadError as error:
                self._unfetched = f"cannot fetch what others told: {error}"
                failures += 1
                await loop.failed(error, pause_after(error, failures - 1))
                continue
            failures, self._unfetched = 0, ""
            loop.progress()
            if first:
                first, self._teller.epoch = False, epoch
            self._teller.wake()
            try:
                async with asyncio.timeout(_FETCH_EVERY):
                    await self._look.wait()
            except TimeoutError:
                pass

    # --- the outbox -----------------------------------------------------------------------------------

    async def enqueue(self, entry: Entry) -> Enqueued:
        """Created in Firestore, where only one of many can, then in the replica."""
        if (known := await self.entry(entry.id)) is None:
            try:
                other = await self._firestore.call(lambda client: self._create(client, entry))
                if other is not None:
                    known = await self._fetch_entry(other)
            except Conflict:
                known = await self._fetch_entry(entry.id)
                if known is None:
                    raise
            except InvalidData:
                raise
            except BadInput as error:
                raise TooLong(
                    f"Firestore does not take this message: {error}", hint="send it in parts"
                ) from error
        if known is not None:
            same_message(known, Jid.parse(entry.to), entry.content)
            return Enqueued(known, duplicate=True)
        # Our own watch may have brought it here meanwhile: it is new all the same.
        done = await super().enqueue(entry)
        await self.compare(self._as_created(entry))
        self._teller.wake()
        return Enqueued(done.entry, duplicate=False)

    def _create(self, client: Client, entry: Entry) -> str | None:
        """A new entry and its message; the id of the entry that a function made with this key, if one did.

        Raises Conflict where the key was used, here or by the backend before us.
        """
        used = use_of(client, entry)
        if used.entry is not None:
            return used.entry
        writes = []
        if not used.request and is_key(entry.client_id):
            # From now on a backend that goes on after us sends nothing under this key.
            request = {**request_fields(entry), "wadBy": self.machine}
            write = upsert(client, request_path(entry.client_id), request, ("updatedAt",))
            writes.append(if_there(write, there=False))
        for (kind, key), document in self._as_created(entry).items():
            path = entry_path(key) if kind is KeyKind.ENTRY else message_path(*key.split("/"))
            write = upsert(client, path, {**document, "wadBy": self.machine}, STAMPS)
            writes.append(if_there(write, there=False) if kind is KeyKind.ENTRY else write)
        commit(client, writes, _TIMEOUT)
        return None

    @staticmethod
    def _as_created(entry: Entry) -> dict[tuple[KeyKind, str], Fields]:
        """The documents of a new entry."""
        created = {(KeyKind.ENTRY, entry.id): new_entry_fields(entry)}
        if not entry.amends:
            message = message_of(entry)
            shown = {**message_fields(message), "wad": {"told": None}}
            created[KeyKind.MESSAGE, f"{message.thread}/{message.id}"] = shown
        return created

    async def take_entry(
        self, entry: Entry, document: Mapping[str, Any], *, sure: bool = False
    ) -> bool:
        """As the replica does; the message of an entry that we have just created was created with it."""
        ours = entry.attempts == 0 and text(document, "wadBy") == self.machine
        created = ours and await self.entry(entry.id) is None
        news = await super().take_entry(entry, document, sure=sure)
        if created:
            # Our watch was faster than we: the message need not be told once more.
            documents = self._as_created(entry).items()
            await self.compare({key: one for key, one in documents if key[0] is KeyKind.MESSAGE})
        return news

    async def _fetch_entry(self, ident: str) -> Entry | None:
        """An entry that another machine, or a function, has put there."""

        found = await self._firestore.call(
            lambda client: get(client, entry_path(ident), timeout=_TIMEOUT)
        )
        if not found.exists:
            return None
        await self.take_entry(entry_of(ident, found.fields, created_ms(found)), found.fields)
        return await self.entry(ident)

    async def settle(self, ident: str, outcome: Outcome, *, epoch: int) -> Entry:
        """A claim is won in Firestore; what became of it is recorded here and told."""
        if not isinstance(outcome, Claimed):
            settled = await super().settle(ident, outcome, epoch=epoch)
        else:
            # The teller must not write what the entry was before over the claim.
            async with self._teller.exclusively:
                claimed = await self._claim(ident, outcome, epoch)
                settled = await super().settle(ident, outcome, epoch=epoch)
                await self.compare({(KeyKind.ENTRY, ident): claimed})
        self._teller.wake()
        return settled

    async def _claim(self, ident: str, claim: Claimed, epoch: int) -> Fields:
        """The document as it was claimed.  Raises NotFound, Conflict, Fenced, Unavailable."""
        if epoch < (newest := await self.epoch()):
            raise Fenced(f"epoch {epoch} is over, epoch {newest} has begun")
        entry = await self.entry(ident)
        if entry is None:
            raise NotFound(f"there is no message {ident}", hint="wadctl outbox lists them")
        after = advance(entry, claim)
        fields = claimed_fields(after, self._clock.wall_ms())

        def work(client: Client) -> Entry | None:
            return self._win(client, after, fields, epoch)

        try:
            found = await self._firestore.call(work)
        except NotFound:
            # The fence of this epoch is not there: it is over, or has not begun.
            await self.fence(epoch)
            found = await self._firestore.call(work)
        except BadInput as error:
            # Its document has no room for what a claim adds: it can never be sent, and holds up those behind it.
            found = await self._give_up(entry, error, epoch)
        if found is not None:
            await self.take_entry(found, {}, sure=True)
            raise Conflict(f"message {ident} is {found.state} in Firestore")
        return fields

    async def _give_up(self, entry: Entry, refusal: BadInput, epoch: int) -> Entry:
        """Say in its document that it has failed, as far as there is room; the entry as it is now."""
        why = f"Firestore does not take it: {refusal}"[:_WHY]
        for fields in ({"status": "failed", "lastError": why}, {"status": "failed"}):
            try:
                await self._firestore.call(partial(self._mark, entry, fields, epoch))
                break
            except BadInput as error:
                log.warning("message %s cannot be marked as failed: %s", entry.id, error)
        return msgspec.structs.replace(
            entry, state=MessageStatus.FAILED, error=why, error_code=TooLong.code
        )

    def _mark(self, entry: Entry, fields: Fields, epoch: int, client: Client) -> None:
        write = if_there(upsert(client, entry_path(entry.id), fields), there=True)
        commit(client, [fencing(client, self._fence, epoch, entry.account), write], _TIMEOUT)

    def _win(self, client: Client, entry: Entry, fields: Fields, epoch: int) -> Entry | None:
        """Compare and set; the entry as it lies there if it is not ours to claim."""
        found = get(client, entry_path(entry.id), timeout=_TIMEOUT)
        write = upsert(client, entry_path(entry.id), {**fields, "wadBy": self.machine}, STAMPS)
        if not found.exists:
            if_there(write, there=False)
        else:
            theirs = self._taken(found, entry)
            if theirs is not None:
                return theirs
            if_unchanged(write, found.update_time)
        commit(client, [fencing(client, self._fence, epoch, entry.account), write], _TIMEOUT)
        return None

    def _taken(self, found: Snapshot, entry: Entry) -> Entry | None:
        """What lies there, if somebody else has claimed, sent or given up the entry."""
        document = found.fields
        if document.get("status") == "queued":
            return None
        try:
            theirs = entry_of(entry.id, document, created_ms(found))
        except BadInput as error:
            why = f"another program has changed it: {error}"[:_WHY]
            return msgspec.structs.replace(
                entry, state=MessageStatus.UNCERTAIN, error=why, error_code="uncertain"
            )
        if not is_ours(document):
            return theirs
        ours = text(document, "wadBy") == self.machine
        mine = ours and theirs.claim is not None and theirs.claim.holder == self.instance
        # Our own claim that did not reach the replica: nothing was sent under it.  What failed may be tried again.
        open_to_us = mine or theirs.state in (MessageStatus.FAILED, MessageStatus.UNCERTAIN)
        if open_to_us or theirs.attempts < entry.attempts:
            return None
        return theirs if ours else claimed_elsewhere(theirs, self.instance, text(document, "wadBy"))

    # --- accounts -------------------------------------------------------------------------------------

    async def put_account(self, status: AccountStatus, *, epoch: int) -> None:
        """Into the replica; told afterwards."""
        await super().put_account(status, epoch=epoch)
        self._teller.wake()

    async def auto_reply(self, account: str) -> AutoReply | None:
        """What the account's document says; the backend before us, or an app, may have written it."""

        def work(client: Client) -> Fields:
            return dict(get(client, account_path(account), timeout=_TIMEOUT).fields)

        return auto_reply_of(await self._firestore.call(work))

    async def forget_account(self, account: str, *, epoch: int) -> None:
        """Out of the replica; told afterwards."""
        await super().forget_account(account, epoch=epoch)
        self._teller.wake()
