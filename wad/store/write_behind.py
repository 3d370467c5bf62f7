"""Writing in the background: the caller goes on at once, however long the disk takes.

Of several values that arrive during one write only the latest is written.  The error of a failed write is raised to the
caller with the next value, until a write succeeds; a write that hangs is not an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from wad.lib.clock import Clock
from wad.lib.threads import ThreadPool

T = TypeVar("T")


class WriteBehind(Generic[T]):
    """One value, written by `write` on the single thread of `threads`, so that other work there runs after the
    write."""

    def __init__(self, threads: ThreadPool, write: Callable[[T], None], clock: Clock) -> None:
        self._threads = threads
        self._write = write
        self._clock = clock
        self._lock = threading.Lock()
        self._due: list[T] = []  # the value that waits to be written, if any
        self._scheduled = False  # whether the thread will write it
        self._failure: Exception | None = None
        self._forgotten = 0  # number of calls of `forget`
        self._behind_since: float | None = None

    @property
    def behind_for(self) -> float:
        """Seconds since which a value waits and no write has ended."""
        since = self._behind_since
        return 0.0 if since is None else self._clock.monotonic() - since

    def put(self, value: T) -> None:
        """Schedule a write of this value.

        Raises the error of the last write that ended; the value is written all the same.
        """
        with self._lock:
            self._due = [value]
            if self._behind_since is None:
                self._behind_since = self._clock.monotonic()
            scheduled, self._scheduled = self._scheduled, True
            failure = self._failure
        if not scheduled:
            self._threads.post(self._work)
        if failure is not None:
            raise failure.with_traceback(None)

    def forget(self) -> None:
        """Drop the value whose write has not begun; work that follows on the thread is the last to write."""
        with self._lock:
            self._due, self._failure, self._behind_since = [], None, None
            self._forgotten += 1

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._due:
                    self._scheduled = False
                    return
                (value,), self._due = self._due, []
                forgotten = self._forgotten
            failure: Exception | None = None
            try:
                self._write(value)
            except Exception as error:  # raised to the caller with the next value
                failure = error
            with self._lock:
                if forgotten == self._forgotten:
                    self._failure = failure
                self._behind_since = self._clock.monotonic() if self._due else None
