"""The supervisor of the daemon's long-lived loops: it restarts each loop after an error, and reports its health.

A loop is a coroutine that should run until it is cancelled.  `Loops.keep` runs it: an unexpected error is logged once
with its traceback, counted, and the loop starts again after a growing pause.  Meanwhile the loop is `failing`, and
health, status and metrics show why.  A loop calls `turn()` when it begins an iteration and `progress()` when one has
succeeded; a loop that iterates for a minute without progress, or fails again and again, is `stuck`, and a loop that
exceeds the time between iterations that it has declared is `hung`.

`Loops.once` runs work that ends by itself, and `Loops.install` handles uncaught errors: of callbacks, of tasks without
an awaiter and of threads.  These are `recent` for some minutes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from wad.core.errors import WadError
from wad.lib.clock import Clock

log = logging.getLogger(__name__)

_FIRST: Final = 0.5  # seconds of pause after the first error
_DOUBLINGS: Final = 16  # after which the pause reaches any sensible cap
_STABLE: Final = 60.0  # seconds without an error after which the pauses start from the first again
_STUCK: Final = 60.0  # seconds without progress after which an iterating loop is stuck
_AGAIN: Final = (
    5  # failures without a stable minute in between that make a loop stuck, even if others succeed
)
_LONGEST: Final = 300  # characters of an error that are shown
_RECENT: Final = 300.0  # seconds for which an error outside of loops is shown
_REMEMBERED: Final = 100  # such errors

Sleep = Callable[[float], Coroutine[Any, Any, None]]
Body = Callable[["Loop"], Coroutine[Any, Any, None]]


class Loop:
    """One loop: its state, and the methods with which its body reports."""

    def __init__(
        self,
        name: str,
        account: str,
        clock: Clock,
        sleep: Sleep,
        cap: float,
        within: float | None,
        count: Count,
    ) -> None:
        self.name = name
        self.account = account
        self.last_failure = ""
        """Why an iteration last failed; empty if none ever did."""
        self.failing_since: float | None = None
        """When the present failure began, on the clock's monotonic time; None while the loop is healthy."""
        self.last_turn = clock.monotonic()
        self.ending = False
        """Whether it was cancelled: then it does not start again after an error."""
        self._clock = clock
        self._sleep = sleep
        self._cap = cap
        self._within = within
        self._count = count
        self._errors, self._faults = count.errors, count.faults
        self._failures = 0  # in a row; they determine the pause
        self._resumed_at: float | None = None  # after the pause of the last failure
        self._turned_at: float | None = None  # the first iteration without progress
        self._logged = ""
        self._resting: asyncio.Future[None] | None = None

    @property
    def errors(self) -> int:
        """Failed iterations since the loop began, expected errors included."""
        return self._count.errors - self._errors

    @property
    def faults(self) -> int:
        """Unexpected errors among these."""
        return self._count.faults - self._faults

    @property
    def failure(self) -> str:
        """Why the last iteration failed; empty after a success, or a minute without a failure."""
        if self.failing_since is None or self._is_over():
            return ""
        return self.last_failure

    def _is_over(self) -> bool:
        """Whether a loop that does not report progress has run for long since its last failure."""
        return self.last_turn == self._resumed_at and self._since_failure() > _STABLE

    def turn(self) -> None:
        """Report the beginning of an iteration: the loop is alive."""
        self.last_turn = self._clock.monotonic()
        if self._turned_at is None:
            self._turned_at = self.last_turn

    def progress(self) -> None:
        """Report a successful iteration, which ends an earlier failure."""
        self.turn()
        if self.failing_since is not None:
            log.info("%s works again", self.name, extra=self._fields())
        self.failing_since, self._logged, self._turned_at = None, "", None

    async def failed(self, error: Exception, pause: float | None = None) -> None:
        """Handle a failed iteration: log it once, count it, and sleep, longer with each failure in a row.

        `pause`: seconds, if the kind of the error determines them.  If the loop was cancelled already, this raises
        CancelledError, so that the loop ends.
        """
        if self._since_failure() > _STABLE:
            self._failures = 0
        self._failures = min(self._failures + 1, _DOUBLINGS)
        expected = isinstance(error, WadError)
        self._count.errors += 1
        self._count.faults += not expected
        self.last_failure = shown(error)
        if self.failing_since is None:
            self.failing_since = self._clock.monotonic()
        if self.last_failure != self._logged:
            self._logged = self.last_failure
            log.log(
                logging.WARNING if expected else logging.ERROR,
                "%s failed: %s",
                self.name,
                self.last_failure,
                exc_info=None if expected else error,
                extra=self._fields(),
            )
        self.turn()
        if self.ending:
            raise asyncio.CancelledError from error
        await self._rest(self._pause() if pause is None else pause)
        self.turn()
        self._resumed_at = self.last_turn

    async def _rest(self, seconds: float) -> None:
        """Sleep until the time is over, or `retry_now` is called."""
        self._resting = asyncio.ensure_future(self._sleep(seconds))
        try:
            await asyncio.wait([self._resting])
        finally:
            self._resting.cancel()
            self._resting = None

    def retry_now(self) -> None:
        """End the pause after a failure, since a caller waits for the loop."""
        if self._resting is not None:
            self._resting.cancel()

    def _pause(self) -> float:
        return min(self._cap, _FIRST * 2.0 ** (self._failures - 1)) if self._failures else 0.0

    def _since_failure(self) -> float:
        """Seconds since the pause after the last failure ended; infinite if there was no failure."""
        if self._resting is not None:
            return 0.0
        if self._resumed_at is None:
            return math.inf
        return self._clock.monotonic() - self._resumed_at

    def hung_for(self) -> float | None:
        """Seconds since the last iteration, if they exceed the declared time; else None."""
        if self._within is None or self._resting is not None:
            return None
        silent = self._clock.monotonic() - self.last_turn
        return silent if silent > self._within else None

    def stuck_for(self) -> float | None:
        """Seconds without progress, if it has iterated in vain for too long or too often; else None."""
        now = self._clock.monotonic()
        if self.failing_since is None and self._failures >= _AGAIN:
            since = self._since_failure()
            return since if since <= _STABLE else None
        if self._turned_at is None or self._is_over() or self.last_turn - self._turned_at <= _STUCK:
            return None
        return now - self._turned_at

    def _fields(self) -> dict[str, str]:
        return {"account": self.account} if self.account else {}


@dataclass(slots=True)
class Count:
    """The numbers of failed iterations and of unexpected errors since the start of the process."""

    errors: int = 0
    faults: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """An unexpected error outside of any loop.  `at`: on the clock's monotonic time."""

    name: str
    account: str
    text: str
    at: float


class Loops:
    """All running loops, and the recent errors outside of them."""

    def __init__(self, clock: Clock, sleep: Sleep = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._running: list[Loop] = []
        self._jobs: set[asyncio.Task[None]] = set()
        self._recent: deque[Fault] = deque(maxlen=_REMEMBERED)
        self.counts: dict[tuple[str, str], Count] = {}
        """By name and account, since the start of the process."""

    async def keep(
        self,
        name: str,
        body: Body,
        *,
        account: str = "",
        cap: float = 60.0,
        within: float | None = None,
    ) -> None:
        """Run `body` until it returns or is cancelled, and start it again after each error.

        `cap`: the longest pause in seconds.  `within`: the seconds within which it must call `turn()` again.
        """
        count = self._counted(name, account)
        loop = Loop(name, account, self._clock, self._sleep, cap, within, count)
        self._running.append(loop)
        try:
            while not await self._tried(loop, body):
                pass
        finally:
            self._running.remove(loop)

    @staticmethod
    async def _tried(loop: Loop, body: Body) -> bool:
        """Run the body once; True if it has returned, False if it failed and the pause is over.

        It runs in a task of its own, since nothing else shows reliably what was cancelled: something that the body
        awaits, or the loop (in Python 3.11 a failed TaskGroup leaves a wrong `Task.cancelling`).
        """
        attempt = asyncio.ensure_future(body(loop))
        while not attempt.done():
            try:
                await asyncio.wait([attempt])
            except asyncio.CancelledError:
                loop.ending = True
                attempt.cancel()
        if attempt.cancelled() and not loop.ending:
            # Something that it awaited was cancelled: without this the loop would end silently.
            await loop.failed(_Interrupted("something that it awaited was cancelled"))
            return False
        error = None if attempt.cancelled() else attempt.exception()
        if isinstance(error, Exception):  # the loop must survive every error
            await loop.failed(error)
            return False
        if error is not None:
            raise error
        if loop.ending:
            raise asyncio.CancelledError
        return True

    def start(
        self,
        name: str,
        body: Body,
        *,
        account: str = "",
        cap: float = 60.0,
        within: float | None = None,
    ) -> asyncio.Task[None]:
        """Run `keep` as a task, which the caller has to cancel."""
        kept = self.keep(name, body, account=account, cap=cap, within=within)
        return asyncio.create_task(kept, name=f"{name} {account}".rstrip())

    def once(
        self, name: str, work: Coroutine[Any, Any, None], *, account: str = ""
    ) -> asyncio.Task[None]:
        """Run work that ends by itself as a task; an unexpected error is logged, counted and shown for some minutes."""
        task = asyncio.create_task(
            self._guarded(name, work, account), name=f"{name} {account}".rstrip()
        )
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        return task

    async def _guarded(self, name: str, work: Coroutine[Any, Any, None], account: str) -> None:
        try:
            await work
        except Exception as error:
            self.fault(name, error, account=account)

    # --- errors outside of loops ----------------------------------------------------------------

    def fault(self, name: str, error: BaseException, *, account: str = "") -> None:
        """Log an unhandled error with its traceback, and count it."""
        fields = {"account": account} if account else {}
        log.error("%s failed: %s", name, shown(error), exc_info=error, extra=fields)
        self.note(name, error, account=account)

    def note(self, name: str, error: BaseException, *, account: str = "") -> None:
        """Count an unexpected error that is logged already."""
        count = self._counted(name, account)
        count.errors += 1
        count.faults += 1
        self._recent.append(Fault(name, account, shown(error), self._clock.monotonic()))

    def install(self) -> None:
        """Handle uncaught errors of callbacks and of tasks without an awaiter on this event loop, and of threads."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unhandled)

        def of_thread(args: threading.ExceptHookArgs) -> None:
            error = args.exc_value or RuntimeError("a thread failed")
            name = args.thread.name if args.thread is not None else "a thread"
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: self.fault(f"thread {_kind(name)}", error))

        threading.excepthook = of_thread

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        message, error = context["message"], context.get("exception")
        if isinstance(error, WadError):
            log.warning("%s: %s", message, error)
            return
        self.fault("event loop", error or RuntimeError(message))

    # --- for health, status and metrics ------------------------------------------------------------

    @property
    def running(self) -> tuple[Loop, ...]:
        """Every loop, in the order of starting."""
        return tuple(self._running)

    @property
    def failing(self) -> list[Loop]:
        """Loops whose last iteration failed."""
        return [loop for loop in self._running if loop.failure]

    @property
    def stuck(self) -> list[Loop]:
        """Loops that iterate without progress."""
        return [loop for loop in self._running if loop.stuck_for() is not None]

    @property
    def hung(self) -> list[Loop]:
        """Loops that have not iterated within the time that they declared."""
        return [loop for loop in self._running if loop.hung_for() is not None]

    @property
    def recent(self) -> list[Fault]:
        """The recent unexpected errors outside of loops, the oldest first."""
        now = self._clock.monotonic()
        return [fault for fault in self._recent if now - fault.at <= _RECENT]

    @property
    def errors(self) -> int:
        """Failed iterations of all loops since the start."""
        return sum(count.errors for count in self.counts.values())

    @property
    def faults(self) -> int:
        """Unexpected errors since the start."""
        return sum(count.faults for count in self.counts.values())

    def _counted(self, name: str, account: str) -> Count:
        return self.counts.setdefault((name, account), Count())


class _Interrupted(Exception):
    """Something that a loop awaited was cancelled from elsewhere."""


def shown(error: BaseException) -> str:
    """An error in one sentence; for an unexpected one only its type, since its text may contain private data."""
    if isinstance(error, WadError):
        return str(error)[:_LONGEST]
    return f"an internal error: {_named(error)}"


def _named(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return _named(error.exceptions[0])
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__} ({error.strerror})"
    return type(error).__name__.lstrip("_")


def _kind(thread: str) -> str:
    """The name of a thread without its number: one label for each kind of thread."""
    return thread.rstrip("0123456789-_ ") or thread
