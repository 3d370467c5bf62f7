"""The daemon's long-lived loops, and what keeps each of them alive.

A loop is a coroutine that should run until it is cancelled.  `Loops.keep` runs it: an unexpected error is logged once
with its traceback, counted, and the loop begins again after a pause that grows.  While that lasts, the loop is
`failing`, and health, status and metrics show why.  A loop says `turn()` when it begins a turn and `progress()` when a
turn has succeeded; one that promised to turn within some seconds and did not is `hung`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from wad.clock import Clock
from wad.core.errors import WadError

log = logging.getLogger(__name__)

_FIRST: Final = 0.5  # seconds of pause after the first error
_DOUBLINGS: Final = 16  # after which the pause is at its cap for any cap that makes sense
_STABLE: Final = 60.0  # seconds without an error after which the pauses begin anew
_LONGEST: Final = 300  # characters of an error that are shown

Sleep = Callable[[float], Awaitable[None]]


class Loop:
    """One loop, as others see it, and as it reports on itself."""

    def __init__(
        self, name: str, account: str, clock: Clock, sleep: Sleep, cap: float, within: float | None
    ) -> None:
        self.name = name
        self.account = account
        self.errors = 0
        """Failed turns since the start, expected errors included."""
        self.faults = 0
        """Of these, the unexpected ones."""
        self.failure = ""
        """Why the last turn failed; empty once a turn has succeeded."""
        self.failing_since: float | None = None
        """When that began, on the clock's monotonic time."""
        self.last_turn = clock.monotonic()
        self._clock = clock
        self._sleep = sleep
        self._cap = cap
        self._within = within
        self._failures = 0  # in a row: what the pause depends on
        self._failed_at: float | None = None
        self._logged = ""

    def turn(self) -> None:
        """A turn begins: the loop is alive."""
        self.last_turn = self._clock.monotonic()

    def progress(self) -> None:
        """A turn has succeeded; what failed before is over."""
        self.turn()
        if self.failure:
            log.info("%s works again", self.name, extra=self._fields())
        self.failure, self.failing_since, self._logged = "", None, ""

    async def failed(self, error: Exception, pause: float | None = None) -> None:
        """A turn failed: log it once, count it, and sleep before the next; longer with each failure in a row.

        `pause`: seconds, where the kind of the error says for how long.
        """
        now = self._clock.monotonic()
        if self._failed_at is not None and now - self._failed_at - self._pause() > _STABLE:
            self._failures = 0
        self._failures = min(self._failures + 1, _DOUBLINGS)
        self._failed_at = now
        self.errors += 1
        expected = isinstance(error, WadError)
        self.faults += not expected
        self.failure = str(error)[:_LONGEST] if expected else f"an internal error: {_named(error)}"
        if self.failing_since is None:
            self.failing_since = now
        if self.failure != self._logged:
            self._logged = self.failure
            log.log(
                logging.WARNING if expected else logging.ERROR,
                "%s failed: %s",
                self.name,
                self.failure,
                exc_info=None if expected else error,
                extra=self._fields(),
            )
        self.turn()
        await self._sleep(self._pause() if pause is None else pause)
        self.turn()

    def _pause(self) -> float:
        return min(self._cap, _FIRST * 2.0 ** (self._failures - 1)) if self._failures else 0.0

    def hung_for(self) -> float | None:
        """Seconds since the last turn, where that is longer than the loop promised; else None."""
        silent = self._clock.monotonic() - self.last_turn
        return silent if self._within is not None and silent > self._within else None

    def _fields(self) -> dict[str, str]:
        return {"account": self.account} if self.account else {}


class Loops:
    """All loops that run now."""

    def __init__(self, clock: Clock, sleep: Sleep = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._running: list[Loop] = []
        self._errors = self._faults = 0  # of loops that have ended

    async def keep(
        self,
        name: str,
        body: Callable[[Loop], Awaitable[None]],
        *,
        account: str = "",
        cap: float = 60.0,
        within: float | None = None,
    ) -> None:
        """Run `body` until it returns or is cancelled, and begin it again after each error.

        `cap`: seconds of the longest pause.  `within`: seconds in which it promises to say `turn()`.
        """
        loop = Loop(name, account, self._clock, self._sleep, cap, within)
        self._running.append(loop)
        try:
            while True:
                try:
                    await body(loop)
                    return
                except Exception as error:  # whatever it is, the loop must outlive it
                    await loop.failed(error)
        finally:
            self._running.remove(loop)
            self._errors += loop.errors
            self._faults += loop.faults

    @property
    def running(self) -> tuple[Loop, ...]:
        """Every loop, in the order of their beginnings."""
        return tuple(self._running)

    @property
    def failing(self) -> list[Loop]:
        """Those whose last turn failed."""
        return [loop for loop in self._running if loop.failure]

    @property
    def hung(self) -> list[Loop]:
        """Those that have not turned for longer than they promised."""
        return [loop for loop in self._running if loop.hung_for() is not None]

    @property
    def errors(self) -> int:
        """Failed turns of all loops since the start."""
        return self._errors + sum(loop.errors for loop in self._running)

    @property
    def faults(self) -> int:
        """Unexpected errors of all loops since the start."""
        return self._faults + sum(loop.faults for loop in self._running)


def _named(error: Exception) -> str:
    if isinstance(error, ExceptionGroup):
        return _named(error.exceptions[0])
    return type(error).__name__
