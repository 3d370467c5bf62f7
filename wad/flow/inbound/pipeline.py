"""The inbound pipeline: one account's spool, read after its cursor, planned, recorded in batches.

It runs outside the leadership term: received messages are facts, and losing the lease loses none of them.  A batch and
its cursor are recorded together, so a crash repeats at most a batch, and a repetition changes nothing.  While the store
fails, the rows stay in the spool, and status shows the error.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeVar

import msgspec

from wad.core.addresses import Addresses
from wad.core.change import Change, PutAlias
from wad.core.errors import BadInput, Damaged, WadError
from wad.core.jid import Jid
from wad.core.message import Message, arrival_text, noun
from wad.core.spool_gap import Position, gap
from wad.core.untrusted import LATEST_MS
from wad.flow.event_bus import Bus
from wad.flow.inbound.planning import ITEM_FAULTS, Planned, planned, reason_of
from wad.lib.clock import Clock
from wad.lib.loops import Loop
from wad.lib.threads import ThreadPool, cores
from wad.state.spool import QuarantinedRow, Spool, SpoolBacklog, SpoolRow
from wad.store import Store
from wad.store.port import Cursor, Recorded

log = logging.getLogger(__name__)

T = TypeVar("T")

_TURN: Final = 30.0  # seconds after which it checks even without a wake-up
_PRUNE_EVERY: Final = 3600.0
_PRUNED: Final = 2000  # rows deleted in one transaction, so that the worker never waits long
_DAY_MS: Final = 86_400_000
_NOTHING: Final = Recorded((), 0)


@cache
def _files() -> ThreadPool:
    """The threads that read the spools of all accounts: opening hundreds at a start blocks nothing else."""
    return ThreadPool("inbound", cores())


async def _close(spool: Spool) -> None:
    """Close a spool; on a thread, since the last close checkpoints the whole log, which the worker wrote.

    A caller that is cancelled meanwhile does not wait, and it is closed all the same.
    """
    closing = asyncio.ensure_future(_files().run(spool.close))
    await asyncio.shield(closing)


@dataclass(slots=True)
class HistoryCount:
    """Counts of the phone's history since the start; the last two are of its latest chunk, None before the first."""

    recorded: int = 0
    known: int = 0
    last_ms: int | None = None
    last_messages: int | None = None


@dataclass(frozen=True, slots=True)
class HistoryAnswer:
    """The phone's answer to a history request: its threads, and the number of new messages for each.

    Without threads: there is nothing more.
    """

    threads: frozenset[str]
    new: Counter[str]


class Inbound:
    """The pipeline of one account.  Its public fields are shown in status."""

    def __init__(
        self,
        account: str,
        open_spool: Callable[[], Spool],
        store: Store,
        bus: Bus,
        clock: Clock,
        *,
        batch: int,
        retention_days: float,
        on_recorded: Callable[[list[Message]], None],
        on_answer: Callable[[HistoryAnswer], None],
        on_damaged: Callable[[Damaged], None],
        on_replaced: Callable[[], bool],
        on_gap: Callable[[str], Awaitable[None]],
    ) -> None:
        """`on_replaced()`: the spool's file was moved or replaced; whether a worker may still write to the old one.

        `on_gap(why)`: rows may be missing; the spool is read once this is stored.
        """
        self._account = account
        self._open_spool = open_spool
        self._store = store
        self._bus = bus
        self._clock = clock
        self._batch = batch
        self._retention_days = retention_days
        self._on_recorded = on_recorded
        self._on_answer = on_answer
        self._on_damaged = on_damaged
        self._on_replaced = on_replaced
        self._on_gap = on_gap
        self._expects_another = False  # since the previous file was set aside
        self._replaced = False
        """Whether another file was at the path of the open one, at the last check."""
        self._recording = asyncio.Lock()
        """Held while rows are read, and while the file is exchanged."""
        self._spool: Spool | None = None
        self._opening = asyncio.Lock()
        self._closed = 0  # how often it was closed
        self._cursor = Cursor("", 0)
        self._seen = 0
        self._addresses: Addresses | None = None
        self._learned: deque[PutAlias] = deque()
        """Aliases that were recorded by others, for the next plan."""
        self._news = asyncio.Event()
        self._pruned_at = clock.monotonic()
        self._loop: Loop | None = None
        self._noted = (0, "")
        self._own: PutAlias | None = None
        """Both addresses of the account, until they are recorded."""
        self._begun: tuple[tuple[int, int] | None, Recorded] = (None, _NOTHING)
        """The row that was recorded in parts, and the part of the result that was not reported yet."""
        self.backlog = 0
        self.oldest_ms: int | None = None
        self.recorded = 0
        self.duplicates = 0
        self.untranslated = 0
        self.set_aside = 0
        self.skipped = 0
        self.receipts = 0
        self.history = HistoryCount()
        self.lost: int | None = None
        self.last_message_ms: int | None = None
        self.last_event_ms: int | None = None

    def wake(self) -> None:
        """Call it when the spool has new rows."""
        self._news.set()

    def note_own_addresses(self, lid: Jid, pn: Jid) -> None:
        """Call it when the account's own addresses are known: others mention and quote it by LID."""
        self._own = PutAlias(str(lid), str(pn), self._clock.wall_ms())
        self._news.set()

    def note_recorded(self, alias: PutAlias) -> None:
        """Call it when an alias was recorded that did not arrive through the spool."""
        self._learned.append(alias)

    async def run(self, loop: Loop) -> None:
        """Record forever; returns only by cancellation."""
        self._loop = loop
        while True:
            self._news.clear()
            loop.turn()
            try:
                while await self._record_next():
                    loop.progress()
                await self._prune()
                await self._check_replaced()
            except Damaged as error:
                await self.close()
                self._on_damaged(error)
                raise
            loop.progress()
            with suppress(TimeoutError):
                async with asyncio.timeout(_TURN):
                    await self._news.wait()

    @property
    def error(self) -> str:
        """Why received rows cannot be recorded now; empty while they can."""
        return self._loop.failure if self._loop is not None else ""

    async def close(self) -> None:
        """Close the spool's file; it is opened again when there is something to read."""
        self._closed += 1
        self._replaced = False
        spool, self._spool = self._spool, None
        if spool is not None:
            await _close(spool)

    # --- the identity of the file ---------------------------------------------------------------------

    async def ready(self) -> None:
        """Open the spool, and check that it is the one that was read before; while no worker runs.

        A worker that started earlier could write rows with numbers that count as recorded.
        Raises Damaged, StateUnwritable, Unavailable.
        """
        if self._spool is not None and not await self._is_replaced():
            return  # a slow store delays no worker
        async with self._recording:
            if await self._is_replaced():
                await self._drain_replaced()
            await self._opened()

    async def exchange(self, work: Callable[[Cursor | None], Awaitable[T]]) -> T:
        """Let `work` replace the spool's file; its argument is the cursor of the old one.

        The new file is read from its first row, and no rows are missed.
        """
        async with self._recording, self._opening:
            await self.close()
            known = await self._store.cursor(self._account)
            self._expects_another = True
            with suppress(WadError):  # then a crash before the next file is open counts as a gap
                await forget_spool(self._store, self._account)
            return await work(known)

    async def _is_replaced(self) -> bool:
        return self._spool is not None and await _files().run(self._spool.is_replaced)

    async def _check_replaced(self) -> None:
        if self._replaced and not self._on_replaced():
            async with self._recording:
                if await self._is_replaced():
                    await self._drain_replaced()
            self._news.set()  # to read the new file

    async def _drain_replaced(self) -> None:
        """Record the remaining rows of a file that is no longer at its path, and close it."""
        while await self._record_batch():
            pass
        await self.close()

    async def _record_next(self) -> bool:
        async with self._recording:
            return await self._record_batch()

    async def _record_batch(self) -> bool:
        """Record the next rows; returns whether there are more."""
        spool = await self._opened()
        found, waiting, self._replaced = await _files().run(self._next, spool)
        self.backlog, self.oldest_ms = waiting.rows, waiting.oldest_ms
        await self._record_own_addresses()
        if not found:
            return False
        await self._put(spool, found)
        self.backlog -= len(found)
        if not self.backlog:
            self.oldest_ms = None
        return self.backlog > 0

    async def _record_own_addresses(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            try:
                await self._store.record(self._account, [own])
            except BaseException:
                self._own = self._own or own
                raise
            self.note_recorded(own)

    def _next(self, spool: Spool) -> tuple[list[Planned], SpoolBacklog, bool]:
        """The next rows, the backlog including them, and whether the file was replaced.

        On a thread, and in one call: there are hundreds of inboxes, and a row may be a history chunk with thousands
        of messages.
        """
        rows = spool.after(self._cursor.seq, self._batch)
        waiting = spool.backlog(self._cursor.seq) if rows else SpoolBacklog(0, None)
        return self._plan(rows), waiting, spool.is_replaced()

    async def _opened(self) -> Spool:
        # An operator may list quarantined rows while the loop opens it.
        async with self._opening:
            spool = self._spool
            while spool is None:
                closed = self._closed
                spool = await self._open()
                try:
                    cursor = await self._begin(spool, closed)
                except BaseException:
                    await _close(spool)
                    raise
                if cursor is None or closed != self._closed:  # the file was set aside meanwhile
                    await _close(spool)
                    spool = None
                    continue
                self._cursor, self._spool = cursor, spool
                await self.recount()
            if self._addresses is None:
                self._addresses = Addresses(await self._store.aliases(self._account))
                self.lost = (await self._store.totals(self._account)).lost
                for thread in await self._store.threads(self._account, limit=1):
                    self.update_newest(thread.last_ms)
            return spool

    async def _begin(self, spool: Spool, closed: int) -> Cursor | None:
        """The start cursor of a newly opened spool; the store then has this file's generation.

        None if it was set aside since `closed` was counted.
        """
        known = await self._store.cursor(self._account)
        found = await _files().run(spool.position)
        recorded = None if known is None else Position(known.generation, known.seq)
        why = "" if self._expects_another else gap(recorded, found)
        if closed != self._closed:
            return None
        if not why and known is not None and known.generation == found.generation:
            self._expects_another = False
            return known
        if why:
            await self._on_gap(why)
            # If it is an older copy, new rows get numbers that count as recorded.  All rows are read again, under a
            # new generation: known messages change nothing.
            await _files().run(spool.begin_generation)
        cursor = Cursor(spool.generation, 0)
        await self._store.record(self._account, (), cursor)
        self._expects_another = False
        return cursor

    async def _open(self) -> Spool:
        opening = asyncio.create_task(_files().run(self._open_spool))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: a file that it opens after all has to be closed.
            await asyncio.wait([opening])
            if opening.exception() is None:
                await _close(opening.result())
            raise

    async def _put(self, spool: Spool, found: list[Planned]) -> None:
        """Record rows and move the cursor.  Refused rows are halved until the one invalid item is isolated."""
        cursor = Cursor(spool.generation, found[-1].row.seq)
        await self._quarantine(spool, found)
        try:
            done = await self._store.record(self._account, _changes(found), cursor)
        except ITEM_FAULTS:
            if len(found) > 1:
                middle = len(found) // 2
                await self._put(spool, found[:middle])
                await self._put(spool, found[middle:])
                return
            if not found[0].items:
                raise  # it has no changes: the fault is the store's own
            log.exception("cannot record a row completely", extra={"account": self._account})
            await self._put_items(found[0])
            done = _NOTHING
            await self._quarantine(spool, found)
            await self._store.record(self._account, (), cursor)
        if (
            spool is self._spool
        ):  # else it was closed meanwhile, and the next one has its own cursor
            self._cursor = cursor
        if any(one.row.event is None for one in found):
            await self.recount()
        self._count(found, done)

    async def _put_items(self, one: Planned) -> None:
        """Record the valid items of a row; the others are refused.  `_count` reports the recorded ones.

        Also if the store fails half-way: when the row is retried these messages are known, and would not be reported as
        new.
        """
        waiting, one.items = [one.items], []
        done = _NOTHING
        try:
            while waiting:
                items = waiting.pop()
                changes = [change for item in items for change in item]
                try:
                    more = await self._store.record(self._account, changes)
                except ITEM_FAULTS as error:
                    if len(items) == 1:
                        one.refused.append(reason_of(error))
                    else:
                        middle = len(items) // 2
                        waiting += [items[middle:], items[:middle]]
                    continue
                one.items += items
                done = _sum(done, more)
        finally:
            row, unreported = self._begun
            same = row == self._identity(one)
            self._begun = self._identity(one), _again(unreported, done) if same else done

    def _identity(self, one: Planned) -> tuple[int, int]:
        """The identity of a row: its file and number."""
        return self._closed, one.row.seq

    async def _quarantine(self, spool: Spool, found: list[Planned]) -> None:
        """Quarantine the rows that are not recorded completely, before the cursor moves past them."""
        for one in found:
            if (reason := one.reason) == one.noted:
                continue
            one.noted = reason
            if self._noted != (one.row.seq, reason):  # unless it is only a retry
                self._noted = (one.row.seq, reason)
                extra = {"account": self._account}
                log.error(
                    "row %d of the spool is quarantined: %s", one.row.seq, reason, extra=extra
                )
            now = self._clock.wall_ms()
            await _files().run(spool.set_aside, one.row.seq, reason, now)
            await self.recount()

    async def recount(self) -> None:
        """Count the quarantined rows."""
        if self._spool is not None:
            self.untranslated, self.set_aside = await _files().run(self._spool.counts)

    def _count(self, found: list[Planned], done: Recorded) -> None:
        """Count and report the result of recorded rows."""
        row, unreported = self._begun
        if row in [self._identity(one) for one in found]:
            self._begun, done = (None, _NOTHING), _again(unreported, done)
        self.recorded += len(done.new)
        self.duplicates += done.known
        self.skipped += sum(one.skipped for one in found)
        self.receipts += sum(one.receipts for one in found)
        if (received_ms := _received(found[-1].row)) is not None:
            self.last_event_ms = received_ms
        self._count_history(found, done.new)
        for message in done.new:
            self.update_newest(message.at_ms)
            self._publish(arrival_text(message), message)
        for message in done.changed:
            self._publish(f"{noun(message.content.kind)} changed", message)
        self._on_recorded(list(done.new))
        if answers := [one for one in found if one.asked]:
            ids = {ident for one in found for ident in one.history or ()}
            new = Counter(message.thread for message in done.new if message.id in ids)
            self._on_answer(
                HistoryAnswer(frozenset().union(*(one.threads for one in answers)), new)
            )
        self.lost = (self.lost or 0) + done.lost

    # --- quarantined rows ---------------------------------------------------------------------------

    async def quarantined(self, limit: int) -> list[QuarantinedRow]:
        """The newest quarantined rows."""
        spool = await self._opened()
        return await _files().run(spool.kept, limit)

    async def row(self, seq: int) -> SpoolRow | None:
        """One complete row."""
        spool = await self._opened()
        return await _files().run(spool.row, seq)

    async def record_again(self, row: SpoolRow, event: bytes) -> int:
        """Record a quarantined row as this event; returns the number of new messages.  Raises BadInput."""
        spool = await self._opened()
        again = msgspec.structs.replace(row, event=event)
        (found,) = await _files().run(self._plan, [again])
        await self._put_items(found)
        before = self.recorded
        self._count([found], _NOTHING)
        if reason := found.reason:
            raise BadInput(reason)
        await _files().run(spool.recorded, row.seq, event)
        await self.recount()
        return self.recorded - before

    async def drop(self, seq: int) -> bool:
        """Delete a quarantined row permanently; returns whether it was found."""
        spool = await self._opened()
        found = await _files().run(spool.drop, seq)
        await self.recount()
        return found

    def update_newest(self, at_ms: int) -> None:
        """Update the time of the newest message."""
        if at_ms > (self.last_message_ms or 0):
            self.last_message_ms = at_ms

    def _count_history(self, found: list[Planned], new: tuple[Message, ...]) -> None:
        chunks = [ids for one in found if (ids := one.history) is not None]
        if not chunks:
            return
        idents = set().union(*chunks)
        recorded = sum(message.id in idents for message in new)
        self.history.recorded += recorded
        self.history.known += len(idents) - recorded
        self.history.last_ms = self._clock.wall_ms()
        self.history.last_messages = len(chunks[-1])

    def _plan(self, rows: list[SpoolRow]) -> list[Planned]:
        assert self._addresses is not None
        while self._learned:
            self._addresses.put(self._learned.popleft())
        found = []
        for row in rows:
            self._seen = _seen_after(self._seen, row)
            found.append(planned(self._account, row, self._addresses, self._seen))
        return found

    def _publish(self, text: str, message: Message) -> None:
        self._bus.publish(
            "message",
            text,
            account=self._account,
            id=message.id,
            thread=message.thread,
            wa_id=message.wa_id,
        )

    async def _prune(self) -> None:
        now = self._clock.monotonic()
        if self._spool is None or now - self._pruned_at < _PRUNE_EVERY:
            return
        self._pruned_at = now
        before = self._clock.wall_ms() - int(self._retention_days * _DAY_MS)
        while await _files().run(self._spool.prune, self._cursor.seq, before, _PRUNED) == _PRUNED:
            if self._loop is not None:
                self._loop.turn()


async def forget_spool(store: Store, account: str) -> None:
    """Reset the cursor of an account: its spool is read from the first row."""
    if await store.cursor(account) is not None:
        await store.record(account, (), Cursor("", 0))


def _again(before: Recorded, done: Recorded) -> Recorded:
    """The total result of a retried row; messages that were new before are known now."""
    known = max(0, done.known - len(before.new))
    return _sum(before, msgspec.structs.replace(done, known=known))


def _sum(one: Recorded, more: Recorded) -> Recorded:
    return Recorded(
        one.new + more.new, one.known + more.known, one.changed + more.changed, one.lost + more.lost
    )


def _changes(found: list[Planned]) -> list[Change]:
    return [change for one in found for change in one.changes]


def _seen_after(previous: int, row: SpoolRow) -> int:
    """The time at which a row was received, in microseconds since 1970, and later than the previous row's.

    The row's number distinguishes rows of one millisecond, also for another process that continues in the middle of
    one.  If its last three digits start again, or the clock was set back, the previous row decides.
    """
    return max(previous + 1, (_received(row) or 0) * 1000 + row.seq % 1000)


def _received(row: SpoolRow) -> int | None:
    """When it was received; None if that is impossible, so that it does not affect later rows."""
    received_ms = row.received_ms
    return received_ms if isinstance(received_ms, int) and 0 < received_ms < LATEST_MS else None
