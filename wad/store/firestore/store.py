"""The Firestore store: a working copy on this machine that is synced with Firestore.

Everything is recorded in the replica first and pushed in the background, so that neither receiving nor reading waits
for the network.  Two operations use Firestore first, since only Firestore can decide between machines: a new outbox
entry is created there, and a claim is a compare-and-set behind the fence.
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
from wad.lib.sqlite_file import Progress
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
from wad.store.firestore.sync.machines import EVERY, Machines, duplicate_text
from wad.store.firestore.sync.outbox_listener import OutboxListener
from wad.store.firestore.sync.pull import Puller
from wad.store.firestore.sync.push import STAMPS, Pusher, fencing, late_path, machines_path
from wad.store.firestore.sync.quarantine import DocumentQuarantine
from wad.store.firestore.sync.quarantine_rows import QuarantinedDocument
from wad.store.firestore.sync.replica import Replica, claimed_elsewhere, open_replica
from wad.store.port import AccountStatus, Cursor, Enqueued, Recorded, SyncStatus

log = logging.getLogger(__name__)

T = TypeVar("T")

_TIMEOUT: Final = 5.0  # seconds for a call that a caller waits for
_MAX_REASON: Final = 500  # characters
_PULL_EVERY: Final = 3600.0  # seconds between two pulls, even if the listener reports nothing
_LAST_PUSH_TIMEOUT: Final = 0.3  # seconds to push the rest at the end of leadership


class FirestoreStore(Replica):
    """`wad.store.port.Store` for several machines.  `quota`: the number of documents that may wait for the push."""

    kind = "firestore"

    def __init__(
        self,
        path: Path,
        connections: tuple[sqlite3.Connection, sqlite3.Connection],
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
        self._pusher = Pusher(
            firestore, self, self._fence, lease, self._machines, self._ensure_fence
        )
        self._puller = Puller(firestore, self, self._machines)
        self._pull_lock = asyncio.Lock()
        self._pull_now = asyncio.Event()
        self._pull_error = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._on_queued: Callable[[str], None] | None = None
        self._quarantine = DocumentQuarantine(firestore, self, self._push_again, self._entry_read)

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
        progress: Progress | None = None,
    ) -> FirestoreStore:
        """Open the replica; Firestore need not be reachable.  `machine`: the id of a new machine, random if empty.

        Raises as `SqliteStore.open`.
        """
        connections = await asyncio.to_thread(open_replica, path, progress)
        store = FirestoreStore(
            path, connections, firestore, lease, instance, host, clock, quota, loops
        )
        await store.count_quarantined()
        await store._machines.open(machine)
        store.machine = store._machines.id
        store._tasks = [
            asyncio.create_task(loops.keep("push to Firestore", store._pusher.run), name="push"),
            asyncio.create_task(
                loops.keep("other machines", store._keep_registered), name="machines"
            ),
        ]
        return store

    async def close(self) -> None:
        """Stop the sync and close the file, which keeps what is not pushed yet.  Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._firestore.close()
        await super().close()

    @property
    def sync_status(self) -> SyncStatus:
        """The state of the sync."""
        pusher = self._pusher
        return SyncStatus(
            waiting=pusher.waiting,
            oldest_ms=pusher.oldest_ms,
            refused=self.refused,
            quota=self._quota,
            error=pusher.error or self._pull_error,
        )

    @property
    def quarantine(self) -> DocumentQuarantine:
        """The documents in Firestore that could not be handled."""
        return self._quarantine

    @property
    def staff(self) -> StaffProfiles:
        """The employees, read from the apps' own documents."""
        return StaffProfiles(self._firestore)

    @property
    def written(self) -> int:
        """The number of documents that were pushed since the store was opened."""
        return self._pusher.written

    @property
    def all_pushed(self) -> bool:
        """Whether everything that may be pushed now is pushed."""
        return self._pusher.idle

    async def push_as(self, epoch: int) -> None:
        """Push exclusive documents, too, without holding the lease; the server refuses them once another epoch has
        begun."""
        self._pusher.epoch = epoch
        await self._pusher.count()
        self._pusher.wake()

    async def ask(self, work: Callable[[Client], T]) -> T:
        """Run `work` as `Firestore.call` does."""
        return await self._firestore.call(work)

    async def wait_pushed(self) -> None:
        """Return once everything that may be pushed now is pushed."""
        await self._pusher.wait_pushed()

    async def pull(self) -> int:
        """Pull what other machines pushed; return the number of documents read.  Raises Unavailable."""
        async with self._pull_lock:
            try:
                return await self._puller.pull()
            finally:
                self.machine = self._machines.id

    async def _keep_registered(self, loop: Loop) -> None:
        """Renew this machine's registration periodically, and look for other machines of the same name."""
        failures, announced = 0, False
        while True:
            loop.turn()
            try:
                await self._machines.register()
                self.machine = self._machines.id
                if not announced:
                    # The active machine pulls now, and finds a machine with its own name or id.
                    await self._firestore.call(self._touch_late)
                    announced = True
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
        """The replica's; other machines of the same name, a copied state directory, documents in quarantine."""
        found = [*super().problems()]
        found += [
            Problem(code="same_name", text=duplicate_text(self.instance, one), subject=one.id)
            for one in self._machines.duplicates
        ]
        if self._machines.copied:
            message = "this state directory was copied: this machine has taken a new id, and reads everything again"
            found.append(Problem(code="notice", text=message, subject="copied"))
        if unread := self.quarantined - self.refused + self.unlisted:
            message = f"{unread} documents or outbox entries in Firestore are in quarantine: wadctl quarantine list"
            if self.unlisted:
                message += f"; {self.unlisted} of them are no longer listed"
            found.append(
                Problem(code="quarantine", text=message, subject="firestore", figures=(unread,))
            )
        return found

    # --- received facts -----------------------------------------------------------------------------

    async def record(
        self, account: str, changes: Sequence[Change], cursor: Cursor | None = None
    ) -> Recorded:
        """Record in the replica; pushed afterwards."""
        done = await super().record(account, changes, cursor)
        self._pusher.wake()
        return done

    async def mark_read(self, thread: str) -> None:
        """Record in the replica; pushed afterwards."""
        await super().mark_read(thread)
        self._pusher.wake()

    # --- leadership -----------------------------------------------------------------------------------

    def _push_after_first_pull(self) -> None:
        """Push what the listener recorded.  Not before the first pull is done: its document may be newer than ours."""
        if self._pusher.epoch is not None:
            self._pusher.wake()

    @asynccontextmanager
    async def lead(self, epoch: int, on_queued: Callable[[str], None]) -> AsyncIterator[None]:
        """Act as the holder: fence the epoch, pull what the previous holder pushed, listen to the outbox, push
        exclusive documents."""
        await self.fence(epoch)
        await self.recheck_threads()
        listener = OutboxListener(
            self._firestore,
            self,
            self._fence,
            self._late,
            on_queued=on_queued,
            on_late=self._pull_now.set,
            refence=self._ensure_fence,
            on_change=self._push_after_first_pull,
        )
        tasks = [
            asyncio.create_task(listener.run(self._loops, epoch), name="outbox"),
            asyncio.create_task(
                self._loops.keep(
                    "pull from Firestore", lambda loop: self._keep_pulling(loop, epoch)
                ),
                name="pull",
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
            self._pull_error = ""
            await self._push_last()

    async def _push_last(self) -> None:
        """Push what waits if that is quick; then stop pushing exclusive documents."""
        try:
            async with asyncio.timeout(_LAST_PUSH_TIMEOUT):
                await self._pusher.wait_pushed()
        except TimeoutError:
            log.info("leadership ends while %d documents wait for Firestore", self._pusher.waiting)
        self._pusher.epoch = None

    async def fence(self, epoch: int) -> None:
        """Refuse writes of older epochs, here and on the server."""
        await self._ensure_fence(epoch)
        await super().fence(epoch)

    async def _ensure_fence(self, epoch: int) -> None:
        """Make the server accept writes of this epoch and refuse older ones.  Raises Fenced, Unavailable."""
        await self._firestore.call(lambda client: self._fence.ensure(client, epoch))

    async def _push_again(self, item: QuarantinedDocument) -> None:
        await self.push_again(item)
        self._pusher.wake()

    def _entry_read(self, account: str) -> None:
        self._pusher.wake()
        if self._on_queued is not None:
            self._on_queued(account)

    async def _keep_pulling(self, loop: Loop, epoch: int) -> None:
        """Pull periodically.

        Exclusive documents are pushed after the first pull; before it, a thread could go backwards.
        """
        failures, first = 0, True
        while True:
            loop.turn()
            self._pull_now.clear()
            try:
                await self.pull()
            except WadError as error:
                self._pull_error = f"cannot pull from Firestore: {error}"
                failures += 1
                await loop.failed(error, pause_after(error, failures - 1))
                continue
            failures, self._pull_error = 0, ""
            loop.progress()
            if first:
                first, self._pusher.epoch = False, epoch
            self._pusher.wake()
            try:
                async with asyncio.timeout(_PULL_EVERY):
                    await self._pull_now.wait()
            except TimeoutError:
                pass

    # --- the outbox -----------------------------------------------------------------------------------

    async def enqueue(self, entry: Entry) -> Enqueued:
        """Create the entry in Firestore, where only one machine can succeed, then in the replica."""
        if (known := await self.entry(entry.id)) is None:
            try:
                other = await self._firestore.call(lambda client: self._create(client, entry))
                if other is not None:
                    known = await self._pull_entry(other)
            except Conflict:
                known = await self._pull_entry(entry.id)
                if known is None:
                    raise
            except InvalidData:
                raise
            except BadInput as error:
                raise TooLong(
                    f"Firestore does not accept this message: {error}", hint="send it in parts"
                ) from error
        if known is not None:
            same_message(known, Jid.parse(entry.to), entry.content)
            return Enqueued(known, duplicate=True)
        # Our own listener may have recorded it meanwhile: it is new all the same.
        done = await super().enqueue(entry)
        await self.compare(self._as_created(entry))
        self._pusher.wake()
        return Enqueued(done.entry, duplicate=False)

    def _create(self, client: Client, entry: Entry) -> str | None:
        """Create a new entry and its message; or return the id of the entry that a function created with this key.

        Raises Conflict if the key was used, here or by the legacy backend.
        """
        used = use_of(client, entry)
        if used.entry is not None:
            return used.entry
        writes = []
        if not used.request and is_key(entry.client_id):
            # From now on a legacy backend that takes over from us sends nothing under this key.
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

    async def merge_entry(
        self, entry: Entry, document: Mapping[str, Any], *, sure: bool = False
    ) -> bool:
        """Merge as the replica does.  The message of an entry that we have just created was created with it."""
        ours = entry.attempts == 0 and text(document, "wadBy") == self.machine
        created = ours and await self.entry(entry.id) is None
        news = await super().merge_entry(entry, document, sure=sure)
        if created:
            # Our listener was faster than `enqueue`: the message need not be pushed again.
            documents = self._as_created(entry).items()
            await self.compare({key: one for key, one in documents if key[0] is KeyKind.MESSAGE})
        return news

    async def _pull_entry(self, ident: str) -> Entry | None:
        """An entry that another machine, or a function, has created in Firestore."""

        found = await self._firestore.call(
            lambda client: get(client, entry_path(ident), timeout=_TIMEOUT)
        )
        if not found.exists:
            return None
        await self.merge_entry(entry_of(ident, found.fields, created_ms(found)), found.fields)
        return await self.entry(ident)

    async def settle(self, ident: str, outcome: Outcome, *, epoch: int) -> Entry:
        """A claim is decided in Firestore; its result is recorded here and pushed."""
        if not isinstance(outcome, Claimed):
            settled = await super().settle(ident, outcome, epoch=epoch)
        else:
            # The pusher must not overwrite the claim with the entry's older state.
            async with self._pusher.exclusive_lock:
                claimed = await self._claim(ident, outcome, epoch)
                settled = await super().settle(ident, outcome, epoch=epoch)
                await self.compare({(KeyKind.ENTRY, ident): claimed})
        self._pusher.wake()
        return settled

    async def _claim(self, ident: str, claim: Claimed, epoch: int) -> Fields:
        """Claim the entry in Firestore; return its document.  Raises NotFound, Conflict, Fenced, Unavailable."""
        if epoch < (newest := await self.epoch()):
            raise Fenced(f"epoch {epoch} is over, epoch {newest} has begun")
        entry = await self.entry(ident)
        if entry is None:
            raise NotFound(f"message {ident} not found", hint="wadctl outbox lists them")
        after = advance(entry, claim)
        fields = claimed_fields(after, self._clock.wall_ms())

        def work(client: Client) -> Entry | None:
            return self._win(client, after, fields, epoch)

        try:
            found = await self._firestore.call(work)
        except NotFound:
            # The fence of this epoch does not exist: the epoch is over, or has not begun.
            await self.fence(epoch)
            found = await self._firestore.call(work)
        except BadInput as error:
            # Its document has no room for the claim's fields: it can never be sent, and would block the entries behind
            # it.
            found = await self._give_up(entry, error, epoch)
        if found is not None:
            await self.merge_entry(found, {}, sure=True)
            raise Conflict(f"message {ident} is {found.state} in Firestore")
        return fields

    async def _give_up(self, entry: Entry, refusal: BadInput, epoch: int) -> Entry:
        """Mark the entry's document as failed, as far as there is room; return the entry as it is now."""
        why = f"Firestore does not accept it: {refusal}"[:_MAX_REASON]
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
        """Compare and set; return Firestore's entry if we cannot claim it."""
        found = get(client, entry_path(entry.id), timeout=_TIMEOUT)
        write = upsert(client, entry_path(entry.id), {**fields, "wadBy": self.machine}, STAMPS)
        if not found.exists:
            if_there(write, there=False)
        else:
            theirs = self._claimed_by_other(found, entry)
            if theirs is not None:
                return theirs
            if_unchanged(write, found.update_time)
        commit(client, [fencing(client, self._fence, epoch, entry.account), write], _TIMEOUT)
        return None

    def _claimed_by_other(self, found: Snapshot, entry: Entry) -> Entry | None:
        """Firestore's entry, if another program has claimed, sent or given up the entry."""
        document = found.fields
        if document.get("status") == "queued":
            return None
        try:
            theirs = entry_of(entry.id, document, created_ms(found))
        except BadInput as error:
            why = f"another program has changed it: {error}"[:_MAX_REASON]
            return msgspec.structs.replace(
                entry, state=MessageStatus.UNCERTAIN, error=why, error_code="uncertain"
            )
        if not is_ours(document):
            return theirs
        ours = text(document, "wadBy") == self.machine
        mine = ours and theirs.claim is not None and theirs.claim.holder == self.instance
        # Our own claim that did not reach the replica: nothing was sent under it.  A failed entry may be tried again.
        open_to_us = mine or theirs.state in (MessageStatus.FAILED, MessageStatus.UNCERTAIN)
        if open_to_us or theirs.attempts < entry.attempts:
            return None
        return theirs if ours else claimed_elsewhere(theirs, self.instance, text(document, "wadBy"))

    # --- accounts -------------------------------------------------------------------------------------

    async def put_account(self, status: AccountStatus, *, epoch: int) -> None:
        """Record in the replica; pushed afterwards."""
        await super().put_account(status, epoch=epoch)
        self._pusher.wake()

    async def auto_reply(self, account: str) -> AutoReply | None:
        """The settings in the account's document; the legacy backend, or an app, may have written them."""

        def work(client: Client) -> Fields:
            return dict(get(client, account_path(account), timeout=_TIMEOUT).fields)

        return auto_reply_of(await self._firestore.call(work))

    async def forget_account(self, account: str, *, epoch: int) -> None:
        """Delete from the replica; pushed afterwards."""
        await super().forget_account(account, epoch=epoch)
        self._pusher.wake()
