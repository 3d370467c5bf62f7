"""Shares one call among all requests that wait for its reply (single flight).

A request never gets the reply of a call that began before the request arrived, since the reply could be older than the
request.  So one call is running, and requests that arrive meanwhile wait for the next call, which all of them share.
Errors are shared as replies are.  Each request has its own deadline, counted from its arrival.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from wad.lib.clock import Clock

W = TypeVar("W")
T = TypeVar("T")


class FlightRule(Generic[W]):
    """Tracks which waiters share which call.  Pure: times are seconds, given by the caller.

    A call is first `due` and then, from `begin` on, running: waiters that arrive in between share it as well.
    """

    def __init__(self, within: float | None) -> None:
        """`within`: seconds for which a waiter waits; None for no limit."""
        self._within = within
        self._busy = False  # a call is due or running
        self._running: dict[W, float] = {}  # waiters of the running call, and since when they wait
        self._next: dict[W, float] = {}

    def arrive(self, waiter: W, now: float) -> bool:
        """Add a waiter; return whether a call is due now."""
        self._next[waiter] = now
        due, self._busy = not self._busy, True
        return due

    def begin(self) -> bool:
        """The call begins; False if no waiters are left.  `end` must follow in both cases."""
        self._running, self._next = self._next, {}
        return bool(self._running)

    def end(self) -> tuple[list[W], bool]:
        """The call has ended in any way: return the waiters that share its result, and whether another call is due."""
        waiters = list(self._running)
        self._running = {}
        self._busy = bool(self._next)
        return waiters, self._busy

    def leave(self, waiter: W) -> bool:
        """Remove a waiter; return whether it was the last one of the running call."""
        self._next.pop(waiter, None)
        return self._running.pop(waiter, None) is not None and not self._running

    def late(self, now: float) -> tuple[list[W], bool]:
        """Remove and return the waiters past their deadline, and whether the running call has no waiters left."""
        if self._within is None:
            return [], False
        before = now - self._within
        found = [
            waiter
            for waiting in (self._running, self._next)
            for waiter, since in waiting.items()
            if since <= before
        ]
        left = [self.leave(waiter) for waiter in found]
        return found, any(left)

    @property
    def deadline(self) -> float | None:
        """The time of the next deadline; None without one."""
        if self._within is None:
            return None
        first = next(iter((self._running or self._next).values()), None)
        return None if first is None else first + self._within


class SingleFlight(Generic[T]):
    """One call that all waiting requests share."""

    def __init__(
        self, ask: Callable[[], Coroutine[Any, Any, T]], within: float | None, clock: Clock
    ) -> None:
        """`within`: seconds for which each request waits; None for no limit."""
        self._ask = ask
        self._clock = clock
        self._rule = FlightRule[asyncio.Future[T]](within)
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[T] | None = None

    async def answer(self) -> T:
        """The reply of a call that begins from now on.  Raises the call's errors, TimeoutError."""
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
        self._task = asyncio.create_task(self._round(), name="a shared call")
        self._task.add_done_callback(self._ended)

    async def _round(self) -> T:
        # A task's first step is in the next iteration of the event loop: waiters of this iteration share the call.
        if not self._rule.begin():
            raise asyncio.CancelledError  # no waiters are left
        return await self._ask()

    def _ended(self, task: asyncio.Task[T]) -> None:
        waiters, due = self._rule.end()
        if due:
            self._start()
        error = None if task.cancelled() else task.exception()
        for waiter in waiters:
            if waiter.done():
                continue  # it was cancelled and has not run yet
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
        """Set one timer for all: the first waiter has the first deadline."""
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
