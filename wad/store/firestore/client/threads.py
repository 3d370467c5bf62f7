"""Threads for blocking calls that cannot keep the process from exiting.

`ThreadPoolExecutor` joins its threads when the interpreter exits, so one call that hangs in the network blocks the
exit; these are daemon threads, which are not joined.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from wad.core.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

_Job = Callable[[], None]


class DaemonThreads:
    """A pool of `count` daemon threads, started on first use."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._started = 0
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread; return or raise its result.  It runs to its end even if the caller is cancelled."""
        if self._closed:
            raise Unavailable(f"{self._name} is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(how: Callable[[], None]) -> None:
            if not future.done():
                how()

        def job() -> None:
            try:
                result = work()
            except BaseException as error:
                failure = error
                deliver(lambda: future.set_exception(failure))
            else:
                deliver(lambda: future.set_result(result))

        def deliver(how: Callable[[], None]) -> None:
            with suppress(RuntimeError):  # the loop is closed: there is no caller any more
                loop.call_soon_threadsafe(settle, how)

        self._put(job)
        return await future

    def later(self, work: _Job) -> None:
        """Run `work` in a thread without waiting for it; a failure is logged."""
        self._put(work)

    def _put(self, job: _Job) -> None:
        self._jobs.put(job)
        while self._started < self._count:
            self._started += 1
            name = f"{self._name}-{self._started}"
            threading.Thread(target=self._turn, name=name, daemon=True).start()

    def _turn(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                log.exception("a thread of %s failed", self._name)

    def close(self) -> None:
        """Accept no more work; running calls go on.  Idempotent."""
        self._closed = True
        for _ in range(self._count):
            self._jobs.put(None)
