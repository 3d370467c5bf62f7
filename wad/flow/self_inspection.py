"""Periodic checks of this process and its machine, for faults that no loop would notice.

Write-ahead logs that a reader prevents from being checkpointed, open files, the clock, and how long the event loop was
blocked.  Faults stay in `problems` until a later check finds them resolved.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from wad.core.errors import WadError
from wad.core.problem import Problem
from wad.lib import open_files
from wad.lib.clock import Clock
from wad.lib.file_locks import LockHolder, readers
from wad.lib.loops import Loop
from wad.lib.sqlite_file import LOG_BOUND, log_of, log_size, write_back

log = logging.getLogger(__name__)

_EVERY: Final = 10.0  # seconds between two checks
_TURN: Final = 0.5  # seconds between two measurements of the event loop
_LATE: Final = 0.1  # seconds; a shorter delay is not counted as lag
_SLOW: Final = 5.0  # seconds of lag that are reported
_LATELY: Final = 60.0  # seconds for which a lag is reported
_SHORT: Final = 0.8  # of the limit of open files
_JUMP_MS: Final = 60_000  # a smaller jump or drift of the clock is not reported
_JUMPED: Final = 600.0  # seconds for which a jump is reported
_TWICE: Final = 0.3  # seconds between two checks for a reader: a short read blocks nothing


class Database(NamedTuple):
    """A file to check; `account` is empty for the store."""

    account: str
    path: Path


class Inspection:
    """The checks.  `databases` returns the current files; the public fields are results of the last check."""

    def __init__(
        self,
        clock: Clock,
        databases: Callable[[], Iterable[Database]],
        *,
        bound: int = LOG_BOUND,
        every: float = _EVERY,
    ) -> None:
        self._clock = clock
        self._databases = databases
        self._bound = bound
        self._every = every
        self._found: list[Problem] = []
        self._lags: deque[tuple[float, float]] = deque()  # when, and seconds
        self._offset_ms = self._offset()
        self._jump: tuple[float, int] | None = None  # when, and by how many ms
        self._store: tuple[int, int] | None = (
            None  # device and inode of the store's file, which is open
        )
        self.logs: dict[Database, int] = {}
        """Bytes of each write-ahead log."""
        self.files: tuple[int, int] | None = None
        """Open files, and their limit."""

    @property
    def problems(self) -> list[Problem]:
        """The current problems."""
        found = list(self._found)
        now = self._clock.monotonic()
        if (lag := self.lag) >= _SLOW:
            text = f"the daemon's event loop did not run for {lag:.1f} s within the last minute"
            found.append(Problem(code="event_loop_slow", text=text, figures=(lag,)))
        if self._jump is not None and now - self._jump[0] <= _JUMPED:
            at, by_ms = self._jump
            how = "forward" if by_ms > 0 else "back"
            seconds = abs(by_ms) / 1000
            since_ms = self._clock.wall_ms() - round((now - at) * 1000)
            text = f"the clock was set {how} by {seconds:.0f} s"
            problem = Problem(code="clock_jumped", text=text, figures=(seconds,), since_ms=since_ms)
            found.append(problem)
        return found

    @property
    def lag(self) -> float:
        """The longest time in seconds for which the event loop was blocked within the last minute."""
        now = self._clock.monotonic()
        while self._lags and now - self._lags[0][0] > _LATELY:
            self._lags.popleft()
        return max((lag for _, lag in self._lags), default=0.0)

    # --- the loops ------------------------------------------------------------------------------

    async def watch(self, loop: Loop) -> None:
        """Run the checks forever."""
        while True:
            databases = list(self._databases())
            await asyncio.to_thread(self.check, databases)
            loop.progress()
            await asyncio.sleep(self._every)

    async def measure(self, loop: Loop) -> None:
        """Measure the delay of the event loop and jumps of the clock, forever."""
        while True:
            wanted = self._clock.monotonic() + _TURN
            await asyncio.sleep(_TURN)
            self.note_turn(wanted)
            loop.progress()

    def note_turn(self, wanted: float) -> None:
        """Record a turn of the event loop, which was due at the time `wanted`."""
        now = self._clock.monotonic()
        if now - wanted > _LATE:
            self._lags.append((now, now - wanted))
        offset = self._offset()
        if abs(by_ms := offset - self._offset_ms) > _JUMP_MS:
            self._jump = (now, by_ms)
            log.warning("the clock was set by %d s", by_ms / 1000)
        self._offset_ms = offset

    def _offset(self) -> int:
        return self._clock.wall_ms() - round(self._clock.monotonic() * 1000)

    # --- one check --------------------------------------------------------------------------------

    def check(self, databases: Iterable[Database]) -> None:
        """Check everything; on a thread, as it may take a while."""
        logs: dict[Database, int] = {}
        found = list(self._files())
        for database in databases:
            logs[database] = log_size(database.path)
            if not database.account and (problem := self._replaced(database.path)) is not None:
                found.append(problem)
            if logs[database] > self._bound and (problem := self._grown(database)) is not None:
                found.append(problem)
            logs[database] = log_size(database.path)
        known = {problem.key for problem in self._found}
        for problem in found:
            if problem.key not in known:
                fields = {"account": problem.account} if problem.account else {}
                log.error("%s", problem.text, extra=fields)
        for key in known - {problem.key for problem in found}:
            log.info("resolved: %s", key[0])
        self.logs, self._found = logs, found

    def _files(self) -> Iterator[Problem]:
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            used = most - open_files.left()
        except OSError:
            used = most  # not even the list of open files can be read
        self.files = (used, most)
        if used >= most * _SHORT:
            text = f"{used} of {most} file descriptors are used"
            yield Problem(code="files_short", text=text, figures=(used, most))

    def _replaced(self, store: Path) -> Problem | None:
        """Whether the store's file is still the one that was opened; the readers of spools check those."""
        try:
            found = store.stat()
        except FileNotFoundError:
            how = "was removed"
        except OSError:
            return None  # it cannot be seen now
        else:
            place = (found.st_dev, found.st_ino)
            self._store = self._store or place
            if place == self._store and found.st_size:
                return None
            how = "was replaced" if found.st_size else "was emptied"
        text = f"{store} {how} while wad runs: what is stored now is lost at the next start"
        return Problem(code="store_replaced", text=text)

    def _grown(self, database: Database) -> Problem | None:
        """The reason why this log is not checkpointed; None if it could be."""
        path, why = database.path, ""
        try:
            if write_back(path):
                log.info("%s was written back", log_of(path))
                return None
        except WadError as error:
            why = str(error)
        size = log_size(path)
        text = f"{log_of(path)} has grown to {size / 1e6:.0f} MB: {why or _who(path)}"
        return Problem(
            code="log_grown",
            text=text,
            account=database.account,
            subject=path.name,
            figures=(size / 1e6,),
        )


def _who(path: Path) -> str:
    """The programs that read it, both now and a little later."""
    found = readers(path)
    time.sleep(_TWICE)
    found &= readers(path)
    if not found:
        return f"a program that is not visible to the daemon reads it (as root: fuser -v {path})"
    return f"{_and(found)} reads it and prevents it from being written back"


def _and(found: set[LockHolder]) -> str:
    return " and ".join(map(str, sorted(found)))
