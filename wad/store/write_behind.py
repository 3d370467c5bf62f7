"""Writing in the background: who has a new value goes on at once, however long the disk takes.

Of several values that come during one write only the latest is written.  What a write fails of is raised to whoever
brings the next value, until a write succeeds; a write that hangs is no failure.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from wad.lib.clock import Clock
from wad.lib.threads import ThreadPool

T = TypeVar("T")


class WriteBehind(Generic[T]):
    """One value, written by `write` on `threads`, of which there is one: so other work there comes after a write."""

    def __init__(self, threads: ThreadPool, write: Callable[[T], None], clock: Clock) -> None:
        self._threads = threads
        self._write = write
        self._clock = clock
        self._lock = threading.Lock()
        self._due: list[T] = []  # the value that waits to be written, if any
        self._asked = False  # whether the thread will look for it
        self._failure: Exception | None = None
        self._forgotten = 0  # how often
        self._behind_since: float | None = None

    @property
    def behind_for(self) -> float:
        """Seconds for which no write has ended, while one was wanted."""
        since = self._behind_since
        return 0.0 if since is None else self._clock.monotonic() - since

    def put(self, value: T) -> None:
        """Have it written.  Raises what the last write that ended failed of; the value is written all the same."""
        with self._lock:
            self._due = [value]
            if self._behind_since is None:
                self._behind_since = self._clock.monotonic()
            asked, self._asked = self._asked, True
            failure = self._failure
        if not asked:
            self._threads.post(self._work)
        if failure is not None:
            raise failure.with_traceback(None)

    def forget(self) -> None:
        """Write nothing that has not begun; what follows on the thread has the last word."""
        with self._lock:
            self._due, self._failure, self._behind_since = [], None, None
            self._forgotten += 1

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._due:
                    self._asked = False
                    return
                (value,), self._due = self._due, []
                forgotten = self._forgotten
            failure: Exception | None = None
            try:
                self._write(value)
            except Exception as error:  # it is for whoever brings the next value
                failure = error
            with self._lock:
                if forgotten == self._forgotten:
                    self._failure = failure
                self._behind_since = self._clock.monotonic() if self._due else None
