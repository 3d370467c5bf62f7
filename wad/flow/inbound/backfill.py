"""History backfill: requests for old messages from an account's phone, one run at a time per account, thread by thread.

A run exists only in memory and within the leadership term.  A crash leaves nothing behind that would prevent the next
one; the messages received by then are stored, since the phone's answers use the same pipeline as everything else.  The
result of a run is written to the account's card when it ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from wad.core.connection import State
from wad.core.errors import NotConnected, NotSupported, TimedOut, Unavailable, WadError
from wad.core.history import BackfillResult, KnownMessage, ThreadResult, has_history, phone_key
from wad.core.jid import Jid
from wad.core.message import Thread
from wad.engine.port import Worker
from wad.flow.accounts.account import Account
from wad.flow.event_bus import Bus
from wad.flow.inbound.pipeline import HistoryAnswer
from wad.store import Store

log = logging.getLogger(__name__)

_UNANSWERED: Final = 2
"""Threads in a row without an answer after which the phone counts as unreachable."""
_PLACEHOLDERS: Final = 100
"""Messages that are requested again at one time."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds.  `answer`: the timeout for one thread; `apart`: between two threads."""

    answer: float = 60.0
    apart: float = 2.0


@dataclass(frozen=True, slots=True)
class BackfillOptions:
    """The extent of a run: the number of threads, the most recent ones first, and of messages for each."""

    threads: int = 50
    messages: int = 50


class Run:
    """One run.  `done` grows thread by thread; `total` is None until the number of threads is known."""

    def __init__(
        self, account: Account, store: Store, options: BackfillOptions, pace: Pace
    ) -> None:
        self._account = account
        self._store = store
        self._options = options
        self._pace = pace
        self._answers: asyncio.Queue[HistoryAnswer] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self.done = BackfillResult(at_ms=account.clock.wall_ms())
        self.total: int | None = None
        self.last: ThreadResult | None = None
        self.failure: WadError | None = None
        self.over = False

    async def follow(self) -> AsyncIterator[Run]:
        """Yield the run after each thread, and once more at its end."""
        seen = -1
        while not self.over:
            if self.done.threads != seen:
                seen = self.done.threads
                yield self
            async with self._changed:
                while not self.over and self.done.threads == seen:
                    await self._changed.wait()
        yield self

    async def run(self) -> None:
        """Request every thread; however it ends, the result is stored."""
        self._account.on_answer = self._answers.put_nowait
        try:
            await self._ask_all()
        except asyncio.CancelledError:
            self.failure = Unavailable("wad stopped, or another instance is active now")
            raise
        except WadError as error:
            self.failure = error
        except Exception as error:
            self._account.loops.fault("backfill", error, account=self._account.id)
            self.failure = WadError(f"{type(error).__name__}, see the log")
        finally:
            await self._end()

    async def _ask_all(self) -> None:
        found = await self._store.threads(self._account.id, limit=self._options.threads)
        threads = [thread for thread in found if has_history(Jid.parse(thread.chat))]
        self.total = len(threads)
        unanswered = 0
        for number, thread in enumerate(threads):
            if number:
                await asyncio.sleep(self._pace.apart)
            result = await self._ask(thread)
            await self._note(result)
            unanswered = unanswered + 1 if result.error == _NO_ANSWER else 0
            if unanswered >= _UNANSWERED:
                raise TimedOut("the phone does not answer; check that it is switched on and online")

    async def _ask(self, thread: Thread) -> ThreadResult:
        """Request one thread.  Raises NotConnected, NotSupported; other errors are in its result."""
        message = await self._store.oldest(thread.id)
        oldest = phone_key(message) if message is not None else None
        if oldest is None:
            return ThreadResult(thread=thread.id, error="the thread has no message to start from")
        worker = worker_for_requests(self._account)
        while not self._answers.empty():
            self._answers.get_nowait()  # too late
        try:
            await worker.ask_history(oldest, self._options.messages)
            return await self._answer(thread.id)
        except NotSupported:
            raise
        except TimeoutError:
            return ThreadResult(thread=thread.id, error=_NO_ANSWER)
        except WadError as error:
            return ThreadResult(thread=thread.id, error=str(error))

    async def _answer(self, asked: str) -> ThreadResult:
        """The number of new messages that the phone sent of the thread.  Raises TimeoutError.

        The answer may make another address of the person known, to which the thread then moves.
        """
        async with asyncio.timeout(self._pace.answer):
            while True:
                answer = await self._answers.get()
                thread = await self._store.thread(asked)
                ident = asked if thread is None else thread.id
                if not answer.threads or not answer.threads.isdisjoint((asked, ident)):
                    return ThreadResult(thread=ident, messages=answer.new[ident])

    async def _note(self, result: ThreadResult) -> None:
        self.done, self.last = self.done.plus(result), result
        async with self._changed:
            self._changed.notify_all()

    async def _end(self) -> None:
        self._account.on_answer = lambda answer: None
        if self.failure is not None:
            self.done = self.done.ended(str(self.failure))
        try:
            await self._account.set_backfill_result(self.done)
        except WadError as error:
            about = {"account": self._account.id}
            log.warning("cannot store the result of a backfill: %s", error, extra=about)
        self.over = True
        async with self._changed:
            self._changed.notify_all()


_NO_ANSWER: Final = "the phone did not answer in time"


def worker_for_requests(account: Account) -> Worker:
    """The worker of an account that can send requests to its phone.  Raises NotConnected, NotSupported."""
    worker = account.worker
    if worker is None or account.status.state is not State.CONNECTED:
        raise NotConnected(
            f"account {account.id} is {account.status.state}: only a connected account can send requests to its phone",
            hint=f"wadctl account show {account.id}",
        )
    if worker.phone_requests_unsupported:
        raise NotSupported(
            f"requests to the phone are not supported: {worker.phone_requests_unsupported}"
        )
    return worker


class Backfills:
    """The runs of this instance."""

    def __init__(self, store: Store, bus: Bus, pace: Pace) -> None:
        self._store = store
        self._bus = bus
        self._pace = pace
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lead(self) -> AsyncIterator[None]:
        """While the lease is held: runs are possible.  On exit every run has ended."""
        try:
            yield
        finally:
            # A task that is cancelled before its first step would skip its own cleanup.
            await asyncio.sleep(0)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def running(self, account: Account) -> Run | None:
        """The account's current run."""
        return self._runs.get(account.id)

    def begin(self, account: Account, options: BackfillOptions) -> Run:
        """Start a run, or return the current one.  Raises NotConnected, NotSupported."""
        if (run := self.running(account)) is not None:
            return run
        worker_for_requests(account)
        run = self._runs[account.id] = Run(account, self._store, options, self._pace)
        task = account.loops.once("backfill", self._run(account, run), account=account.id)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return run

    async def _run(self, account: Account, run: Run) -> None:
        self._bus.publish("account", "history backfill started", account=account.id)
        try:
            await run.run()
        finally:
            del self._runs[account.id]
            done = run.done
            text = f"history backfill of {done.threads} threads: {done.messages} new messages, {done.errors} errors"
            text = f"{text}; {done.error}" if done.error else text
            self._bus.publish("account", text, account=account.id)

    async def ask_again(self, account: Account) -> list[KnownMessage]:
        """Request messages from the phone that have only placeholders; returns the requested messages.

        Messages that the phone has replace their placeholders on arrival.  Raises NotConnected, NotSupported,
        EngineFailure, TimedOut.
        """
        worker = worker_for_requests(account)
        found = await self._store.placeholders(account.id, limit=_PLACEHOLDERS)
        wanted = [one for one in map(phone_key, found) if one is not None]
        if wanted:
            await worker.ask_messages(wanted)
        return wanted
