"""The push from the replica to Firestore: in batches, in the order of the change log, retried until it succeeds.

Every machine pushes received facts; only the holder of the lease pushes exclusive documents (threads, entries,
accounts), in batches guarded by the fence.  While Firestore is unreachable everything waits on the disk.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from wad.core.errors import Fenced, NotFound, Unavailable, WadError
from wad.lib.loops import Loop
from wad.store.firestore.client.commit import Write, commit, if_there, removal, upsert
from wad.store.firestore.client.database import (
    Client,
    Firestore,
    is_about_the_request,
    is_fault_of_firestore,
    pause_after,
)
from wad.store.firestore.documents.build import LARGEST, DocumentWrite, cut
from wad.store.firestore.lease.fence import Fence
from wad.store.firestore.sync.change_log import EXCLUSIVE, FACTS, KeyKind
from wad.store.firestore.sync.legacy import LegacyLocation, Wanted, check_threads, find
from wad.store.firestore.sync.machines import Machines
from wad.store.firestore.sync.replica import Replica

log = logging.getLogger(__name__)

BATCH: Final = 499
"""Documents of a commit: Firestore takes 500 (docs/internals/firestore.md#limits), and the fence is one."""
BATCH_BYTES: Final = 8 << 20  # Firestore takes 10 MiB
AT_ONCE: Final = 3  # batches under way
_ROUNDS: Final = 2  # batches of facts of each of these before exclusive documents are pushed
STAMPS: Final = ("updatedAt", "syncedAt", "wadSyncedAt")
TIMEOUT: Final = 20.0  # seconds for one batch
_MAX_FIRESTORE_FAULTS: Final = (
    5  # turns in a row after which an internal error of Firestore is attributed to the document
)


@dataclass
class _Facts:
    """The read position of one turn: `read` facts up to the change log's number `after`."""

    after: int = 0
    read: int = 0
    over: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pusher:
    """The push loop.  Its public fields are shown in the status.

    `refence` creates the fence of our epoch again if Firestore has lost it; it raises Fenced if the epoch is over.
    `epoch`: the epoch that we hold; None while we are passive.
    """

    def __init__(
        self,
        firestore: Firestore,
        replica: Replica,
        fence: Fence,
        lease: str,
        machines: Machines,
        refence: Callable[[int], Awaitable[None]],
    ) -> None:
        self._firestore = firestore
        self._replica = replica
        self._fence = fence
        self._refence = refence
        self._late = late_path(lease)
        self._machines = machines
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self.exclusive_lock = asyncio.Lock()
        """Held from reading exclusive rows until they are pushed, and by other writers of such documents."""
        self.epoch: int | None = None
        self.error = ""
        self.waiting = 0
        self.oldest_ms: int | None = None
        self.written = 0
        self._failures = 0  # turns in a row

    def wake(self) -> None:
        """Start a turn: there are changes to push."""
        self._idle.clear()
        self._news.set()

    @property
    def idle(self) -> bool:
        """Whether everything that may be pushed is pushed."""
        return self._idle.is_set()

    async def wait_pushed(self) -> None:
        """Return once everything that may be pushed now is pushed."""
        self.wake()
        await self._idle.wait()

    async def run(self, loop: Loop) -> None:
        """Push until cancelled."""
        while True:
            loop.turn()
            self._news.clear()
            try:
                await self.count()
                while await self._turn():
                    self._succeeded(loop)
                    await self.count()
                self._succeeded(loop)
                await self.count()
            except Exception as error:  # any error that ended the loop would end the push
                expected = isinstance(error, WadError)
                self.error = (
                    str(error) if expected else f"an internal error: {type(error).__name__}"
                )
                self._failures += 1
                await loop.failed(error, pause_after(error, self._failures - 1))
            else:
                if not self._news.is_set():
                    self._idle.set()
                await self._news.wait()

    def _succeeded(self, loop: Loop) -> None:
        self._failures, self.error = 0, ""
        loop.progress()

    async def count(self) -> None:
        """Read the size of the backlog."""
        self.waiting, self.oldest_ms = await self._replica.backlog(self._kinds())

    def _kinds(self) -> tuple[KeyKind, ...]:
        """The kinds that we may push; while we are passive, exclusive documents are not part of our backlog."""
        return FACTS if self.epoch is None else tuple(KeyKind)

    # --- one turn -----------------------------------------------------------------------------------

    async def _turn(self) -> bool:
        """Push the next batches; return whether there were any."""
        epoch = self.epoch
        # Facts first, so that a thread never names a message that is not in Firestore.
        facts = await self._push_facts()
        if epoch is None:
            if facts:
                await self._firestore.call(self._touch)
            return facts
        upto, threads = await self._replica.exclusive_keys(BATCH * AT_ONCE)
        if not upto:
            return facts
        await self._check_threads(threads)
        async with self.exclusive_lock:
            # Read only now: what was claimed before is no longer queued.  Threads that came later are not checked yet.
            found = await self._replica.waiting(BATCH * AT_ONCE, EXCLUSIVE, upto=upto)
            await self._settle_unmade(found)
            await self._push_all([one for one in found if one.path], epoch)
        return True

    async def _push_facts(self) -> bool:
        """Push facts; return whether there were any.  The next batch is read while others are in flight."""
        facts = _Facts()
        outcomes = await asyncio.gather(
            *(self._push_batches(facts) for _ in range(AT_ONCE)), return_exceptions=True
        )
        _raise(outcomes)
        return facts.read > 0

    async def _push_batches(self, facts: _Facts) -> None:
        try:
            while not facts.over and (batch := await self._next(facts)):
                await self._push([one for one in batch if one.path], None)
        except BaseException:
            facts.over = True
            raise

    async def _next(self, facts: _Facts) -> list[DocumentWrite]:
        """The next batch; empty once there were enough of them, so that exclusive documents are pushed, too."""
        async with facts.lock:
            while not facts.over and facts.read < BATCH * AT_ONCE * _ROUNDS:
                found = await self._replica.waiting(BATCH, FACTS, after=facts.after)
                await self._check_threads(await self._replica.unchecked_threads(found))
                if await self._take_over(found):
                    continue  # now the documents are different
                await self._settle_unmade(found)
                if not found:
                    facts.over = True
                    break
                facts.after = found[-1].dirty.seq
                facts.read += len(found)
                return found
        return []

    async def _settle_unmade(self, found: Sequence[DocumentWrite]) -> None:
        """Remove changes that need no document from the log, and quarantine those whose document cannot be built."""
        unmade = [one for one in found if not one.path]
        if unmade:
            faults = {one.dirty.seq: one.fault for one in unmade if one.fault}
            await self._replica.done(unmade, faults)

    async def _push_all(self, documents: Sequence[DocumentWrite], epoch: int | None) -> None:
        size = BATCH if epoch is not None else BATCH + 1
        batches = [documents[start : start + size] for start in range(0, len(documents), size)]
        outcomes = await asyncio.gather(
            *(self._push(batch, epoch) for batch in batches), return_exceptions=True
        )
        _raise(outcomes)

    async def _push(self, documents: Sequence[DocumentWrite], epoch: int | None) -> None:
        try:
            refused = await self._firestore.call(
                lambda client: self._commit(client, documents, epoch)
            )
        except NotFound as error:
            await self._ensure_fence(epoch, error)
            raise Unavailable(f"the fence of epoch {epoch} did not exist: {error}") from error
        await self._replica.done(documents, refused)
        self.written += len(documents)

    async def _ensure_fence(self, epoch: int | None, error: NotFound) -> None:
        """Handle a missing fence: another machine holds the lease, and pushes exclusive documents; or Firestore was
        emptied.

        Raises Unavailable.
        """
        try:
            if epoch is not None:
                await self._refence(epoch)
        except Fenced as over:
            if self.epoch == epoch:
                self.epoch = None
            raise Unavailable(f"epoch {epoch} is over: {error}") from over

    # --- in a thread ----------------------------------------------------------------------------------

    def _touch(self, client: Client) -> None:
        writes = [
            self._machines.registration(client),
            upsert(client, self._late, {"by": self._machines.id}, ("at",)),
        ]
        commit(client, writes, TIMEOUT)

    def _commit(
        self, client: Client, documents: Sequence[DocumentWrite], epoch: int | None
    ) -> dict[int, str]:
        """Write these documents; return why Firestore refuses some, by number."""
        refused: dict[int, str] = {}
        writes: list[tuple[DocumentWrite, Write]] = []
        for one in documents:
            try:
                writes.append((one, self._write(client, one)))
            except (ValueError, TypeError) as error:
                # Protobuf cannot encode it: an integer of more than 64 bits, a lone surrogate.
                refused[one.dirty.seq] = f"it cannot be encoded: {error}"
        for part in parts(writes):
            refused |= self._commit_part(client, part, epoch)
        return refused

    def _commit_part(
        self, client: Client, part: Sequence[tuple[DocumentWrite, Write]], epoch: int | None
    ) -> dict[int, str]:
        """Write all of them; after a refusal, all but the refused document."""
        writes = [write for _, write in part]
        if epoch is not None:
            writes.insert(0, fencing(client, self._fence, epoch, part[0][0].path))
        try:
            commit(client, writes, TIMEOUT)
        except WadError as error:
            if not self._is_refusal(error):
                raise
            if len(part) == 1:
                return self._commit_cut(client, part[0][0], epoch, error)
            half = len(part) // 2
            return {
                **self._commit_part(client, part[:half], epoch),
                **self._commit_part(client, part[half:], epoch),
            }
        return {}

    def _is_refusal(self, error: WadError) -> bool:
        """Whether the error is about a document and not about Firestore: then the others are written without it."""
        if is_about_the_request(error):
            return True
        return is_fault_of_firestore(error) and self._failures >= _MAX_FIRESTORE_FAULTS

    def _commit_cut(
        self, client: Client, document: DocumentWrite, epoch: int | None, refusal: WadError
    ) -> dict[int, str]:
        """Write the document without its large fields, if it has any."""
        small = cut(document.fields) if document.fields is not None else None
        if small is None or small == {**(document.fields or {}), "truncated": True}:
            return {document.dirty.seq: str(refusal)}
        writes = [upsert(client, document.path, {**small, "wadBy": self._machines.id}, STAMPS)]
        if epoch is not None:
            writes.insert(0, fencing(client, self._fence, epoch, document.path))
        try:
            commit(client, writes, TIMEOUT)
        except WadError as error:
            if not self._is_refusal(error):
                raise
            return {document.dirty.seq: str(error)}
        log.warning("%s is too large for Firestore and was truncated", document.path)
        return {}

    def _write(self, client: Client, document: DocumentWrite) -> Write:
        """The write of one document; fields of other programs stay as they are."""
        if document.fields is None:
            return removal(client, document.path)
        write = upsert(
            client, document.path, {**document.fields, "wadBy": self._machines.id}, STAMPS
        )
        if write.ByteSize() <= LARGEST:
            return write
        log.warning("%s is too large for Firestore and was truncated", document.path)
        return upsert(
            client, document.path, {**cut(document.fields), "wadBy": self._machines.id}, STAMPS
        )

    # --- legacy documents ----------------------------------------------------------------------------------

    async def _check_threads(self, threads: Sequence[str]) -> None:
        """Read each thread's document once per epoch, before the thread or its messages are pushed."""
        if threads:
            found = await self._firestore.call(lambda client: check_threads(client, threads))
            await self._replica.set_thread_checks(found)

    async def _take_over(self, facts: Sequence[DocumentWrite]) -> bool:
        """Take over the legacy documents of these messages; return whether there were any."""
        by_thread: dict[str, list[Wanted]] = {}
        for one in await self._replica.wanted(facts):
            by_thread.setdefault(one.thread, []).append(one)
        found = await asyncio.gather(*(self._find(wanted) for wanted in by_thread.values()))
        return bool(found) and await self._replica.take_over_legacy(
            itertools.chain.from_iterable(found)
        )

    async def _find(self, wanted: Sequence[Wanted]) -> list[LegacyLocation]:
        return await self._firestore.call(lambda client: find(client, wanted))


def _raise(outcomes: Iterable[object]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


def late_path(lease: str) -> str:
    """The path of the document that a passive machine touches after a push, so that the holder pulls."""
    return f"{lease}/wad/late"


def machines_path(lease: str) -> str:
    """The collection with a document for each machine that pushes."""
    return f"{lease}/machines"


def fencing(client: Client, fence: Fence, epoch: int, key: str) -> Write:
    """The write that makes the whole commit fail with NotFound unless this epoch is the newest."""
    path = fence.path(epoch, key)
    return if_there(upsert(client, path, {"account": key}), there=True)


def parts(
    writes: Iterable[tuple[DocumentWrite, Write]],
) -> Iterator[list[tuple[DocumentWrite, Write]]]:
    """Split the writes into commits of the size that Firestore accepts."""
    part: list[tuple[DocumentWrite, Write]] = []
    size = 0
    for document, write in writes:
        own = write.ByteSize()
        if part and size + own > BATCH_BYTES:
            yield part
            part, size = [], 0
        part.append((document, write))
        size += own
    if part:
        yield part
