"""Tells Firestore what the replica has: in batches, in the order of happening, again until it is there.

Received facts are told by whoever has them; what is exclusive (threads, entries, accounts) only while the lease is
held, in batches that the fence guards.  While Firestore is away everything waits on the disk.
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
from wad.store.firestore.sync.legacy import LegacyLocation, Wanted, find, look_at
from wad.store.firestore.sync.machines import Machines
from wad.store.firestore.sync.replica import Replica

log = logging.getLogger(__name__)

BATCH: Final = 499
"""Documents of a commit: Firestore takes 500 (docs/internals/firestore.md#limits), and the fence is one."""
BATCH_BYTES: Final = 8 << 20  # Firestore takes 10 MiB
AT_ONCE: Final = 3  # batches under way
_ROUNDS: Final = (
    2  # batches of facts that each of these tells before what is exclusive has its turn
)
STAMPS: Final = ("updatedAt", "syncedAt", "wadSyncedAt")
TIMEOUT: Final = 20.0  # seconds for one batch
_PATIENCE: Final = (
    5  # turns after which a fault of Firestore's is taken for the fault of a document
)


@dataclass
class _Facts:
    """How far the facts of one turn are read: up to the number `after`, `read` of them."""

    after: int = 0
    read: int = 0
    over: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pusher:
    """One loop.  Its public fields are what status shows.

    `refence` makes the fence of our epoch anew where Firestore has lost it; it raises Fenced when the epoch is over.
    `epoch`: of our reign, None while we are passive.
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
        self.exclusively = asyncio.Lock()
        """Held from reading exclusive rows until they are told, and by whoever writes such documents otherwise."""
        self.epoch: int | None = None
        self.error = ""
        self.waiting = 0
        self.oldest_ms: int | None = None
        self.written = 0
        self._failures = 0  # turns in a row

    def wake(self) -> None:
        """There is something to tell."""
        self._idle.clear()
        self._news.set()

    @property
    def idle(self) -> bool:
        """Whether everything that may be told is told."""
        return self._idle.is_set()

    async def told(self) -> None:
        """Return once everything that may be told now is told."""
        self.wake()
        await self._idle.wait()

    async def run(self, loop: Loop) -> None:
        """For ever."""
        while True:
            loop.turn()
            self._news.clear()
            try:
                await self.count()
                while await self._turn():
                    self._went(loop)
                    await self.count()
                self._went(loop)
                await self.count()
            except Exception as error:  # whatever it is, nothing more would be told
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

    def _went(self, loop: Loop) -> None:
        self._failures, self.error = 0, ""
        loop.progress()

    async def count(self) -> None:
        """Look at how much waits."""
        self.waiting, self.oldest_ms = await self._replica.backlog(self._kinds())

    def _kinds(self) -> tuple[KeyKind, ...]:
        """What we may tell; what only the holder may is no backlog of ours while we are passive."""
        return FACTS if self.epoch is None else tuple(KeyKind)

    # --- one turn -----------------------------------------------------------------------------------

    async def _turn(self) -> bool:
        """Tell the next of what waits; whether there was anything."""
        epoch = self.epoch
        # Facts first: a conversation names no message that is not there.
        facts = await self._tell_facts()
        if epoch is None:
            if facts:
                await self._firestore.call(self._touch)
            return facts
        found = await self._replica.waiting(BATCH * AT_ONCE, EXCLUSIVE)
        if not found:
            return facts
        await self._settle_unmade(found)
        await self._look(found)
        async with self.exclusively:
            # Read again: what was claimed meanwhile is no longer queued.
            found = await self._replica.waiting(BATCH * AT_ONCE, EXCLUSIVE)
            await self._tell_all([one for one in found if one.path], epoch)
        return True

    async def _tell_facts(self) -> bool:
        """Tell what anybody may; whether there was anything.  The next batch is read while others are under way."""
        facts = _Facts()
        outcomes = await asyncio.gather(
            *(self._tell_some(facts) for _ in range(AT_ONCE)), return_exceptions=True
        )
        _raise(outcomes)
        return facts.read > 0

    async def _tell_some(self, facts: _Facts) -> None:
        try:
            while not facts.over and (batch := await self._next(facts)):
                await self._tell([one for one in batch if one.path], None)
        except BaseException:
            facts.over = True
            raise

    async def _next(self, facts: _Facts) -> list[DocumentWrite]:
        """The next batch; none when there were enough of them, so that what is exclusive has its turn."""
        async with facts.lock:
            while not facts.over and facts.read < BATCH * AT_ONCE * _ROUNDS:
                found = await self._replica.waiting(BATCH, FACTS, after=facts.after)
                await self._look(found)
                if await self._adopt(found):
                    continue  # and is to be told otherwise
                await self._settle_unmade(found)
                if not found:
                    facts.over = True
                    break
                facts.after = found[-1].dirty.seq
                facts.read += len(found)
                return found
        return []

    async def _settle_unmade(self, found: Sequence[DocumentWrite]) -> None:
        """Be done with what needs no document, and set aside what none can be made of."""
        unmade = [one for one in found if not one.path]
        await self._replica.done(unmade, {one.dirty.seq: one.fault for one in unmade if one.fault})

    async def _tell_all(self, told: Sequence[DocumentWrite], epoch: int | None) -> None:
        size = BATCH if epoch is not None else BATCH + 1
        batches = [told[start : start + size] for start in range(0, len(told), size)]
        outcomes = await asyncio.gather(
            *(self._tell(batch, epoch) for batch in batches), return_exceptions=True
        )
        _raise(outcomes)

    async def _tell(self, told: Sequence[DocumentWrite], epoch: int | None) -> None:
        try:
            refused = await self._firestore.call(lambda client: self._commit(client, told, epoch))
        except NotFound as error:
            await self._ensure_fence(epoch, error)
            raise Unavailable(f"the fence of epoch {epoch} was not there: {error}") from error
        await self._replica.done(told, refused)
        self.written += len(told)

    async def _ensure_fence(self, epoch: int | None, error: NotFound) -> None:
        """The fence is gone: another reigns, and what is exclusive is its to tell; or Firestore was emptied under us.

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
            self._machines.introduction(client),
            upsert(client, self._late, {"by": self._machines.id}, ("at",)),
        ]
        commit(client, writes, TIMEOUT)

    def _commit(
        self, client: Client, told: Sequence[DocumentWrite], epoch: int | None
    ) -> dict[int, str]:
        """Write these documents; what Firestore does not take, by number."""
        refused: dict[int, str] = {}
        writes: list[tuple[DocumentWrite, Write]] = []
        for one in told:
            try:
                writes.append((one, self._write(client, one)))
            except (ValueError, TypeError) as error:
                # What the wire cannot carry: a number of more than 64 bits, half a character.
                refused[one.dirty.seq] = f"it cannot be encoded: {error}"
        for part in parts(writes):
            refused |= self._commit_part(client, part, epoch)
        return refused

    def _commit_part(
        self, client: Client, part: Sequence[tuple[DocumentWrite, Write]], epoch: int | None
    ) -> dict[int, str]:
        """All of it, or after a refusal all but the document that is refused."""
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
        """Whether it is about a document, and not about Firestore: then the others are written without it."""
        if is_about_the_request(error):
            return True
        return is_fault_of_firestore(error) and self._failures >= _PATIENCE

    def _commit_cut(
        self, client: Client, told: DocumentWrite, epoch: int | None, refusal: WadError
    ) -> dict[int, str]:
        """Without what makes it large, where anything does."""
        small = cut(told.fields) if told.fields is not None else None
        if small is None or small == {**(told.fields or {}), "truncated": True}:
            return {told.dirty.seq: str(refusal)}
        writes = [upsert(client, told.path, {**small, "wadBy": self._machines.id}, STAMPS)]
        if epoch is not None:
            writes.insert(0, fencing(client, self._fence, epoch, told.path))
        try:
            commit(client, writes, TIMEOUT)
        except WadError as error:
            if not self._is_refusal(error):
                raise
            return {told.dirty.seq: str(error)}
        log.warning("%s is too large for Firestore, and was cut", told.path)
        return {}

    def _write(self, client: Client, told: DocumentWrite) -> Write:
        """Fields of others stay as they are."""
        if told.fields is None:
            return removal(client, told.path)
        write = upsert(client, told.path, {**told.fields, "wadBy": self._machines.id}, STAMPS)
        if write.ByteSize() <= LARGEST:
            return write
        log.warning("%s is too large for Firestore, and was cut", told.path)
        return upsert(client, told.path, {**cut(told.fields), "wadBy": self._machines.id}, STAMPS)

    # --- what the backend before us wrote ----------------------------------------------------------------

    async def _look(self, told: Sequence[DocumentWrite]) -> None:
        """Look once in a reign at each conversation's document, before anything is told of it."""
        threads = await self._replica.not_looked_at(told)
        if threads:
            found = await self._firestore.call(lambda client: look_at(client, threads))
            await self._replica.set_looks(found)

    async def _adopt(self, facts: Sequence[DocumentWrite]) -> bool:
        """Go on with the documents that show these messages already; whether there were any."""
        by_thread: dict[str, list[Wanted]] = {}
        for one in await self._replica.wanted(facts):
            by_thread.setdefault(one.thread, []).append(one)
        found = await asyncio.gather(*(self._find(wanted) for wanted in by_thread.values()))
        return bool(found) and await self._replica.adopt(itertools.chain.from_iterable(found))

    async def _find(self, wanted: Sequence[Wanted]) -> list[LegacyLocation]:
        return await self._firestore.call(lambda client: find(client, wanted))


def _raise(outcomes: Iterable[object]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


def late_path(lease: str) -> str:
    """A document that a passive machine touches when it has told something, so that the holder fetches it."""
    return f"{lease}/wad/late"


def machines_path(lease: str) -> str:
    """The collection in which each machine that told anything has a document."""
    return f"{lease}/machines"


def fencing(client: Client, fence: Fence, epoch: int, key: str) -> Write:
    """What refuses a commit, whole and with NotFound, unless this epoch is the newest."""
    path = fence.path(epoch, key)
    return if_there(upsert(client, path, {"account": key}), there=True)


def parts(
    writes: Iterable[tuple[DocumentWrite, Write]],
) -> Iterator[list[tuple[DocumentWrite, Write]]]:
    """What Firestore takes at once, by size."""
    part: list[tuple[DocumentWrite, Write]] = []
    size = 0
    for told, write in writes:
        own = write.ByteSize()
        if part and size + own > BATCH_BYTES:
            yield part
            part, size = [], 0
        part.append((told, write))
        size += own
    if part:
        yield part
