"""The daemon's long-lived loops, and what keeps each of them alive.

A loop is a coroutine that should run until it is cancelled.  `Loops.keep` runs it: an unexpected error is logged once
with its traceback, counted, and the loop begins again after a pause that grows.  While that lasts, the loop is
`failing`, and health, status and metrics show why.  A loop says `turn()` when it begins a turn and `progress()` when a
turn has succeeded; one that turns for a minute without progress, or fails again and again, is `stuck`, and one that
promised to turn within some seconds and did not is `hung`.

Work that ends by itself is run by `Loops.once`, and `Loops.install` takes what nobody catches: errors of callbacks, of
forgotten tasks and of threads.  These are `recent` for some minutes.
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
_DOUBLINGS: Final = 16  # after which the pause is at its cap for any cap that makes sense
_STABLE: Final = 60.0  # seconds without an error after which the pauses begin anew
_STUCK: Final = 60.0  # seconds without progress after which a loop that turns is stuck
_AGAIN: Final = 5  # failures without a stable minute between them that make a loop stuck, whatever else succeeds
_LONGEST: Final = 300  # characters of an error that are shown
_RECENT: Final = 300.0  # seconds for which an error outside of loops is shown
_REMEMBERED: Final = 100  # such errors

Sleep = Callable[[float], Coroutine[Any, Any, None]]
Body = Callable[["Loop"], Coroutine[Any, Any, None]]


class Loop:
    """One loop, as others see it, and as it reports on itself."""

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
        """Why a turn failed last; empty while none ever did."""
        self.failing_since: float | None = None
        """When what lasts now began, on the clock's monotonic time; None while the loop is well."""
        self.last_turn = clock.monotonic()
        self.leaving = False
        """Whether it was cancelled: then an error is no reason to begin again."""
        self._clock = clock
        self._sleep = sleep
        self._cap = cap
        self._within = within
        self._count = count
        self._errors, self._faults = count.errors, count.faults
        self._failures = 0  # in a row: what the pause depends on
        self._resumed_at: float | None = None  # after the pause of the last failure
        self._turned_at: float | None = None  # the first turn without progress
        self._logged = ""
        self._resting: asyncio.Future[None] | None = None

    @property
    def errors(self) -> int:
        """Failed turns since it began, expected errors included."""
        return self._count.errors - self._errors

    @property
    def faults(self) -> int:
        """Of these, the unexpected ones."""
        return self._count.faults - self._faults

    @property
    def failure(self) -> str:
        """Why the last turn failed; empty once a turn has succeeded, or none has failed for a minute."""
        if self.failing_since is None or self._is_over():
            return ""
        return self.last_failure

    def _is_over(self) -> bool:
        """Whether the loop has run for long since its last failure, and is one that does not say how it goes."""
        return self.last_turn == self._resumed_at and self._since_failure() > _STABLE

    def turn(self) -> None:
        """A turn begins: the loop is alive."""
        self.last_turn = self._clock.monotonic()
        if self._turned_at is None:
            self._turned_at = self.last_turn

    def progress(self) -> None:
        """A turn has succeeded; what failed before is over."""
        self.turn()
        if self.failing_since is not None:
            log.info("%s works again", self.name, extra=self._fields())
        self.failing_since, self._logged, self._turned_at = None, "", None

    async def failed(self, error: Exception, pause: float | None = None) -> None:
        """A turn failed: log it once, count it, and sleep before the next; longer with each failure in a row.

        `pause`: seconds, where the kind of the error says for how long.  A loop that failed on its way out, when it was
        cancelled, goes on its way: this raises CancelledError.
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
        if self.leaving:
            raise asyncio.CancelledError from error
        await self._rest(self._pause() if pause is None else pause)
        self.turn()
        self._resumed_at = self.last_turn

    async def _rest(self, seconds: float) -> None:
        """Sleep, unless somebody is in a hurry."""
        self._resting = asyncio.ensure_future(self._sleep(seconds))
        try:
            await asyncio.wait([self._resting])
        finally:
            self._resting.cancel()
            self._resting = None

    def hurry(self) -> None:
        """Let it try again now, where it pauses after a failure: somebody waits for it."""
        if self._resting is not None:
            self._resting.cancel()

    def _pause(self) -> float:
        return min(self._cap, _FIRST * 2.0 ** (self._failures - 1)) if self._failures else 0.0

    def _since_failure(self) -> float:
        """Seconds since the pause after the last failure was over; without end where there was none."""
        if self._resting is not None:
            return 0.0
        if self._resumed_at is None:
            return math.inf
        return self._clock.monotonic() - self._resumed_at

    def hung_for(self) -> float | None:
        """Seconds since the last turn, where that is longer than the loop promised; else None."""
        if self._within is None or self._resting is not None:
            return None
        silent = self._clock.monotonic() - self.last_turn
        return silent if silent > self._within else None

    def stuck_for(self) -> float | None:
        """Seconds without progress, where it turns all the same for too long or too often; else None."""
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
    """Failed turns since the start of the process, and those of them that were unexpected."""

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
    """All loops that run now, and what went wrong beside them."""

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
        """Run `body` until it returns or is cancelled, and begin it again after each error.

        `cap`: seconds of the longest pause.  `within`: seconds in which it promises to say `turn()`.
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
        """Whether the body has returned; else it failed, and the pause is over.

        It runs in a task of its own, as nothing else tells for sure who is cancelled: what the body waits for, or the
        loop (a TaskGroup that fails leaves `Task.cancelling` wrong behind in Python 3.11).
        """
        attempt = asyncio.ensure_future(body(loop))
        while not attempt.done():
            try:
                await asyncio.wait([attempt])
            except asyncio.CancelledError:
                loop.leaving = True
                attempt.cancel()
        if attempt.cancelled() and not loop.leaving:
            # What it waited for was cancelled: its end would be a silent one.
            await loop.failed(_Interrupted("what it waited for was cancelled"))
            return False
        error = None if attempt.cancelled() else attempt.exception()
        if isinstance(error, Exception):  # whatever it is, the loop must outlive it
            await loop.failed(error)
            return False
        if error is not None:
            raise error
        if loop.leaving:
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
        """`keep` as a task, which whoever starts it cancels."""
        kept = self.keep(name, body, account=account, cap=cap, within=within)
        return asyncio.create_task(kept, name=f"{name} {account}".rstrip())

    def once(
        self, name: str, work: Coroutine[Any, Any, None], *, account: str = ""
    ) -> asyncio.Task[None]:
        """Work that ends by itself, as a task; an unexpected error of it is logged, counted and shown for a while."""
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
        """Log an error that nothing handles, with its traceback, and count it."""
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
        """Take the errors that end in no hands: of callbacks and forgotten tasks of this event loop, and of threads."""
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

    # --- what others see --------------------------------------------------------------------------

    @property
    def running(self) -> tuple[Loop, ...]:
        """Every loop, in the order of their beginnings."""
        return tuple(self._running)

    @property
    def failing(self) -> list[Loop]:
        """Those whose last turn failed."""
        return [loop for loop in self._running if loop.failure]

    @property
    def stuck(self) -> list[Loop]:
        """Those that turn and get nowhere."""
        return [loop for loop in self._running if loop.stuck_for() is not None]

    @property
    def hung(self) -> list[Loop]:
        """Those that have not turned for longer than they promised."""
        return [loop for loop in self._running if loop.hung_for() is not None]

    @property
    def recent(self) -> list[Fault]:
        """The unexpected errors outside of loops that are not long ago, the oldest first."""
        now = self._clock.monotonic()
        return [fault for fault in self._recent if now - fault.at <= _RECENT]

    @property
    def errors(self) -> int:
        """Failed turns of all loops since the start."""
        return sum(count.errors for count in self.counts.values())

    @property
    def faults(self) -> int:
        """Unexpected errors since the start."""
        return sum(count.faults for count in self.counts.values())

    def _counted(self, name: str, account: str) -> Count:
        return self.counts.setdefault((name, account), Count())


class _Interrupted(Exception):
    """Something that a loop waited for was cancelled by somebody else."""


def shown(error: BaseException) -> str:
    """An error in one sentence; of an unexpected one only its kind, since its text may hold anything."""
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
    """The name of a thread without its number: one kind is one label."""
    return thread.rstrip("0123456789-_ ") or thread
