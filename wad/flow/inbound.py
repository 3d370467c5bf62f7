"""The road in: one account's spool, read after its cursor, planned, recorded in batches.

It runs outside the reign: what was received is a fact, and losing the lease loses none of it.  A batch and its cursor
are recorded together, so a crash anywhere repeats at most a batch, and repeating changes nothing.  When the store
fails, the spool keeps what waits, and the error stands in status until it works again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

from wad.clock import Clock
from wad.core import event as words
from wad.core.change import Change, PutAlias, PutChat, PutMark, PutMessage
from wad.core.errors import Damaged
from wad.core.message import Message
from wad.core.plan import plan
from wad.flow.bus import Bus
from wad.loops import Loop
from wad.spool import Row, Spool
from wad.store import Store
from wad.store.port import Cursor

log = logging.getLogger(__name__)

_TURN: Final = 5.0  # seconds after which it looks even if nobody woke it
_PRUNE_EVERY: Final = 3600.0
_PRUNED: Final = 2000  # rows deleted in one transaction, so that the worker never waits long
_DAY_MS: Final = 86_400_000


@dataclass(slots=True)
class HistoryCount:
    """What the phone's history brought since the start; the last two are of its latest chunk, None before the first."""

    recorded: int = 0
    known: int = 0
    last_ms: int | None = None
    last_messages: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The phone told of its history what it was asked for: of these threads, so many new messages of each.

    Without threads it says that there is nothing more.
    """

    threads: frozenset[str]
    new: Counter[str]


class Inbound:
    """Spool to store for one account.  Its public fields are what status shows."""

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
        on_answer: Callable[[Answer], None],
        on_damaged: Callable[[Damaged], None],
    ) -> None:
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
        self._spool: Spool | None = None
        self._cursor = Cursor("", 0)
        self._seen = 0
        self._aliases: dict[str, str] | None = None
        self._news = asyncio.Event()
        self._pruned_at = clock.monotonic()
        self._loop: Loop | None = None
        self.backlog = 0
        self.oldest_ms: int | None = None
        self.recorded = 0
        self.duplicates = 0
        self.untranslated = 0
        self.skipped = 0
        self.receipts = 0
        self.history = HistoryCount()
        self.lost: int | None = None
        self.last_message_ms: int | None = None
        self.last_event_ms: int | None = None

    def wake(self) -> None:
        """The spool has news."""
        self._news.set()

    async def run(self, loop: Loop) -> None:
        """Record for ever; returns only by cancellation."""
        self._loop = loop
        while True:
            self._news.clear()
            loop.turn()
            try:
                while await self._record_batch():
                    loop.progress()
                await self._prune()
            except Damaged as error:
                self.close()
                self._on_damaged(error)
                raise
            loop.progress()
            with suppress(TimeoutError):
                async with asyncio.timeout(_TURN):
                    await self._news.wait()

    @property
    def error(self) -> str:
        """Why what has arrived cannot be recorded now; empty while it can."""
        return self._loop.failure if self._loop is not None else ""

    def close(self) -> None:
        """Let go of the spool's file; it is opened again when there is something to read."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    async def _record_batch(self) -> bool:
        """Record the next rows; whether there may be more."""
        spool = await self._opened()
        rows = await asyncio.to_thread(spool.after, self._cursor.seq, self._batch)
        if rows:
            await self._record(spool, rows)
        left = await asyncio.to_thread(spool.backlog, self._cursor.seq)
        self.backlog, self.oldest_ms = left.rows, left.oldest_ms
        return bool(rows)

    async def _opened(self) -> Spool:
        if self._spool is None:
            self._spool = await self._open()
            known = await self._store.cursor(self._account)
            # Another generation is another file: its rows are numbered anew, and all of them are to be read.
            same = known is not None and known.generation == self._spool.generation
            self._cursor = known if same and known else Cursor(self._spool.generation, 0)
            self.untranslated = await asyncio.to_thread(self._spool.untranslated)
        if self._aliases is None:
            self._aliases = await self._store.aliases(self._account)
            self.lost = (await self._store.totals(self._account)).lost
            for thread in await self._store.threads(self._account, limit=1):
                self.saw_message(thread.last_ms)
        return self._spool

    async def _open(self) -> Spool:
        opening = asyncio.create_task(asyncio.to_thread(self._open_spool))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: what it opens after all has to be closed by somebody.
            await asyncio.wait([opening])
            if opening.exception() is None:
                opening.result().close()
            raise

    async def _record(self, spool: Spool, rows: list[Row]) -> None:
        # On a thread: one row may be a chunk of history with thousands of messages.
        planned = await asyncio.to_thread(self._plan, rows)
        cursor = Cursor(spool.generation, rows[-1].seq)
        done = await self._store.record(self._account, planned.changes, cursor)
        self._cursor = cursor
        self.recorded += len(done.new)
        self.duplicates += done.known
        self.untranslated += sum(row.event is None for row in rows)
        self.skipped += planned.skipped
        self.receipts += planned.receipts
        self.last_event_ms = rows[-1].received_ms
        self._count_history(planned, done.new)
        for message in done.new:
            self.saw_message(message.at_ms)
            self._tell(
                f"{'sent' if message.from_me else 'received'} a {message.content.kind}", message
            )
        for message in done.changed:
            self._tell(f"a {message.content.kind} changed", message)
        self._on_recorded(list(done.new))
        if planned.asked:
            new = Counter(m.thread for m in done.new if m.id in planned.history)
            self._on_answer(Answer(frozenset(planned.threads), new))
        self.lost = (self.lost or 0) + done.lost

    def saw_message(self, at_ms: int) -> None:
        """There is a message of this time."""
        if at_ms > (self.last_message_ms or 0):
            self.last_message_ms = at_ms

    def _count_history(self, planned: _Planned, new: tuple[Message, ...]) -> None:
        if planned.chunk is None:
            return
        recorded = sum(message.id in planned.history for message in new)
        self.history.recorded += recorded
        self.history.known += len(planned.history) - recorded
        self.history.last_ms = self._clock.wall_ms()
        self.history.last_messages = planned.chunk

    def _plan(self, rows: list[Row]) -> _Planned:
        assert self._aliases is not None
        planned = _Planned()
        for row in rows:
            if row.event is None:
                continue
            event = self._event(row)
            self._seen = _seen_after(self._seen, row)
            changes = plan(self._account, event, self._aliases, self._seen)
            for change in changes:
                if isinstance(change, PutAlias):
                    self._aliases[change.lid] = change.pn
            planned.take(event, changes)
        return planned

    def _tell(self, text: str, message: Message) -> None:
        self._bus.publish(
            "message",
            text,
            account=self._account,
            id=message.id,
            thread=message.thread,
            wa_id=message.wa_id,
        )

    @staticmethod
    def _event(row: Row) -> words.Event:
        assert row.event is not None
        try:
            return words.decode(row.event)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise Damaged(f"row {row.seq} of the spool cannot be read: {error}") from error

    async def _prune(self) -> None:
        now = self._clock.monotonic()
        if self._spool is None or now - self._pruned_at < _PRUNE_EVERY:
            return
        self._pruned_at = now
        before = self._clock.wall_ms() - int(self._retention_days * _DAY_MS)
        while (
            await asyncio.to_thread(self._spool.prune, self._cursor.seq, before, _PRUNED) == _PRUNED
        ):
            if self._loop is not None:
                self._loop.turn()


@dataclass(slots=True)
class _Planned:
    """The changes of some rows.

    `skipped` items of history had no words of ours, `history` are the ids of its messages, `chunk` the number of those
    in the last chunk.  `asked`: some of it answers a question of ours, about these `threads`.
    """

    changes: list[Change] = field(default_factory=list)
    skipped: int = 0
    receipts: int = 0
    history: set[str] = field(default_factory=set)
    chunk: int | None = None
    asked: bool = False
    threads: set[str] = field(default_factory=set)

    def take(self, event: words.Event, changes: list[Change]) -> None:
        """What one event asks for."""
        self.changes += changes
        self.receipts += sum(isinstance(change, PutMark) for change in changes)
        if isinstance(event, words.HistoryReceived):
            told = [change.message.id for change in changes if isinstance(change, PutMessage)]
            self.skipped += event.skipped
            self.history.update(told)
            self.chunk = len(told)
            if event.asked:
                self.asked = True
                self.threads.update(_threads(changes))


def _threads(changes: list[Change]) -> Iterator[str]:
    """The threads that these changes are about."""
    for change in changes:
        match change:
            case PutMessage(message):
                yield message.thread
            case PutChat():
                yield change.thread


def _seen_after(previous: int, row: Row) -> int:
    """Microseconds since 1970 at which a row was received, later than the row before, as it was.

    The row's number tells rows of one millisecond apart, also for another process that goes on in the middle of one.
    Where its last three digits begin anew, or the clock was set back, the row before decides.
    """
    return max(previous + 1, row.received_ms * 1000 + row.seq % 1000)
