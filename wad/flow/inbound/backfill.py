"""Asking an account's phone for what came before: one run at a time for each account, thread by thread.

A run lives in memory and in the reign.  A crash leaves nothing behind that would forbid the next one; what it has
brought by then is stored, since the phone's answers come down the same road as everything else.  What came of a run is
written on the account's card when it ends.
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
"""Threads in a row without an answer after which the phone counts as away."""
_PLACEHOLDERS: Final = 100
"""Messages that are asked for again at one time."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds.  `answer`: what the phone may take for one thread; `apart`: between two threads."""

    answer: float = 60.0
    apart: float = 2.0


@dataclass(frozen=True, slots=True)
class BackfillOptions:
    """How much is asked for: of so many threads, those with the newest messages first, so many messages each."""

    threads: int = 50
    messages: int = 50


class Run:
    """One run.  `done` grows thread by thread; `total` is None until it is known how many there are."""

    def __init__(self, account: Account, store: Store, wish: BackfillOptions, pace: Pace) -> None:
        self._account = account
        self._store = store
        self._wish = wish
        self._pace = pace
        self._answers: asyncio.Queue[HistoryAnswer] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self.done = BackfillResult(at_ms=account.clock.wall_ms())
        self.total: int | None = None
        self.last: ThreadResult | None = None
        self.failure: WadError | None = None
        self.over = False

    async def follow(self) -> AsyncIterator[Run]:
        """Itself whenever it got on, and once more at its end."""
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
        """Ask for every thread; whatever ends it, what came of it is kept."""
        self._account.on_answer = self._answers.put_nowait
        try:
            await self._ask_all()
        except asyncio.CancelledError:
            self.failure = Unavailable("wad stopped, or another instance acts now")
            raise
        except WadError as error:
            self.failure = error
        except Exception as error:
            self._account.loops.fault("backfill", error, account=self._account.id)
            self.failure = WadError(f"{type(error).__name__}, see the log")
        finally:
            await self._end()

    async def _ask_all(self) -> None:
        found = await self._store.threads(self._account.id, limit=self._wish.threads)
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
                raise TimedOut(
                    "the phone does not answer; is it switched on, and has it a network?"
                )

    async def _ask(self, thread: Thread) -> ThreadResult:
        """Raises NotConnected, NotSupported; what goes wrong with one thread only is in its result."""
        message = await self._store.oldest(thread.id)
        oldest = phone_key(message) if message is not None else None
        if oldest is None:
            return ThreadResult(thread=thread.id, error="there is no message to begin from")
        worker = asking(self._account)
        while not self._answers.empty():
            self._answers.get_nowait()  # too late
        try:
            await worker.ask_history(oldest, self._wish.messages)
            return ThreadResult(thread=thread.id, messages=await self._answer(thread.id))
        except NotSupported:
            raise
        except TimeoutError:
            return ThreadResult(thread=thread.id, error=_NO_ANSWER)
        except WadError as error:
            return ThreadResult(thread=thread.id, error=str(error))

    async def _answer(self, thread: str) -> int:
        """How many new messages the phone told of the thread.  Raises TimeoutError."""
        async with asyncio.timeout(self._pace.answer):
            while True:
                answer = await self._answers.get()
                if thread in answer.threads or not answer.threads:
                    return answer.new[thread]

    async def _note(self, result: ThreadResult) -> None:
        self.done, self.last = self.done.plus(result), result
        async with self._changed:
            self._changed.notify_all()

    async def _end(self) -> None:
        self._account.on_answer = lambda answer: None
        self.over = True
        if self.failure is not None:
            self.done = self.done.ended(str(self.failure))
        try:
            await self._account.filled(self.done)
        except WadError as error:
            about = {"account": self._account.id}
            log.warning("cannot write down what a backfill brought: %s", error, extra=about)
        async with self._changed:
            self._changed.notify_all()


_NO_ANSWER: Final = "the phone did not answer in time"


def asking(account: Account) -> Worker:
    """The worker of an account whose phone can be asked.  Raises NotConnected, NotSupported."""
    worker = account.worker
    if worker is None or account.status.state is not State.CONNECTED:
        raise NotConnected(
            f"account {account.id} is {account.status.state}: only a connected one can ask its phone",
            hint=f"wadctl account show {account.id}",
        )
    if worker.phone_requests_unsupported:
        raise NotSupported(
            f"this installation cannot ask a phone for anything: {worker.phone_requests_unsupported}"
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
        """While the lease is held: phones can be asked.  On the way out every run has ended."""
        try:
            yield
        finally:
            await asyncio.sleep(
                0
            )  # a task that is cancelled before its first step ends nothing of its own
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def running(self, account: Account) -> Run | None:
        """The account's run, while there is one."""
        return self._runs.get(account.id)

    def begin(self, account: Account, wish: BackfillOptions) -> Run:
        """Begin a run; where one is under way it is that.  Raises NotConnected, NotSupported."""
        if (run := self.running(account)) is not None:
            return run
        asking(account)
        run = self._runs[account.id] = Run(account, self._store, wish, self._pace)
        task = account.loops.once("backfill", self._run(account, run), account=account.id)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return run

    async def _run(self, account: Account, run: Run) -> None:
        self._bus.publish("account", "asks its phone for the history", account=account.id)
        try:
            await run.run()
        finally:
            del self._runs[account.id]
            done = run.done
            text = f"asked for {done.threads} threads: {done.messages} new messages, {done.errors} errors"
            text = f"{text}; {done.error}" if done.error else text
            self._bus.publish("account", text, account=account.id)

    async def ask_again(self, account: Account) -> list[KnownMessage]:
        """Ask the phone for messages of which only their place is known; which.

        Those that it has replace their placeholders as they come.  Raises NotConnected, NotSupported, EngineFailure,
        TimedOut.
        """
        worker = asking(account)
        found = await self._store.placeholders(account.id, limit=_PLACEHOLDERS)
        wanted = [one for one in map(phone_key, found) if one is not None]
        if wanted:
            await worker.ask_messages(wanted)
        return wanted
