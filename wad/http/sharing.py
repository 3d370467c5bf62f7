"""Sharing one question among all who wait for its answer (single flight).

A request never gets an answer to a question that was asked before the request came: the answer could be older than it.
So there is one question under way, and who comes meanwhile waits for the next one, which all of them share.  A failure
is shared as an answer is.  Each request has a deadline of its own, counted from when it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from wad.lib.clock import Clock

W = TypeVar("W")
T = TypeVar("T")


class FlightRule(Generic[W]):
    """Who waits for which asking of one question.  A rule alone: times are seconds, given by the caller.

    The question is first `due` and then, from `begin` on, asked: who comes in between shares it as well.
    """

    def __init__(self, within: float | None) -> None:
        """`within`: seconds for which anybody waits; None for any number."""
        self._within = within
        self._busy = False  # the question is due, or asked
        self._asked: dict[W, float] = {}  # who waits for the question under way, and since when
        self._next: dict[W, float] = {}

    def arrive(self, waiter: W, now: float) -> bool:
        """Somebody wants an answer; whether the question is due now."""
        self._next[waiter] = now
        due, self._busy = not self._busy, True
        return due

    def begin(self) -> bool:
        """The question is asked; False where nobody wants an answer any more.  `end` must follow in both cases."""
        self._asked, self._next = self._next, {}
        return bool(self._asked)

    def end(self) -> tuple[list[W], bool]:
        """The question was answered, failed or was abandoned: who shares that, and whether it is due again."""
        waiters = list(self._asked)
        self._asked = {}
        self._busy = bool(self._next)
        return waiters, self._busy

    def leave(self, waiter: W) -> bool:
        """Somebody gives up; whether nobody waits for the question under way any more."""
        self._next.pop(waiter, None)
        return self._asked.pop(waiter, None) is not None and not self._asked

    def late(self, now: float) -> tuple[list[W], bool]:
        """Who has waited for too long, and is forgotten; whether nobody waits for the question under way any more."""
        if self._within is None:
            return [], False
        before = now - self._within
        found = [
            waiter
            for waiting in (self._asked, self._next)
            for waiter, since in waiting.items()
            if since <= before
        ]
        left = [self.leave(waiter) for waiter in found]
        return found, any(left)

    @property
    def deadline(self) -> float | None:
        """When somebody has waited for too long; None while nobody can."""
        if self._within is None:
            return None
        first = next(iter((self._asked or self._next).values()), None)
        return None if first is None else first + self._within


class SingleFlight(Generic[T]):
    """One question, asked for all who wait."""

    def __init__(
        self, ask: Callable[[], Coroutine[Any, Any, T]], within: float | None, clock: Clock
    ) -> None:
        """`within`: seconds for which each request waits; None for any number."""
        self._ask = ask
        self._clock = clock
        self._rule = FlightRule[asyncio.Future[T]](within)
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[T] | None = None

    async def answer(self) -> T:
        """An answer to the question, asked from now on.  Raises what asking raises, TimeoutError."""
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._rule.arrive(waiter, self._clock.monotonic()):
            self._start()
        if self._timer is None:
            self._watch()
        try:
            return await waiter
        except asyncio.CancelledError:
            if self._rule.leave(waiter):
                self._abandon()
            raise

    def _start(self) -> None:
        self._task = asyncio.create_task(self._round(), name="a shared question")
        self._task.add_done_callback(self._ended)

    async def _round(self) -> T:
        # A task's first step is in the next turn of the loop: who came in this one is among those who are answered.
        if not self._rule.begin():
            raise asyncio.CancelledError  # nobody wants an answer any more
        return await self._ask()

    def _ended(self, task: asyncio.Task[T]) -> None:
        waiters, due = self._rule.end()
        if due:
            self._start()
        error = None if task.cancelled() else task.exception()
        for waiter in waiters:
            if waiter.done():
                continue  # it was cancelled, and has not run yet
            if task.cancelled():
                waiter.cancel()
            elif error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(task.result())

    def _abandon(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # --- deadlines ------------------------------------------------------------------------------

    def _watch(self) -> None:
        """One timer for all: the first to come is the first to have waited too long."""
        self._timer = None
        if (deadline := self._rule.deadline) is not None:
            pause = max(0.0, deadline - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(pause, self._expire)

    def _expire(self) -> None:
        late, abandoned = self._rule.late(self._clock.monotonic())
        for waiter in late:
            if not waiter.done():
                waiter.set_exception(TimeoutError())
        if abandoned:
            self._abandon()
        self._watch()
