"""A few threads for blocking calls, none of which can keep the process from ending.

`ThreadPoolExecutor` joins its threads when the interpreter ends, so that one call that hangs in the network holds up
the whole exit; these are daemon threads, and nobody waits for them.
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
    """`count` threads, started when first needed."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._started = 0
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, done in a thread.  It runs to its end even if nobody waits any more."""
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
                tell(lambda: future.set_exception(failure))
            else:
                tell(lambda: future.set_result(result))

        def tell(how: Callable[[], None]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, how)

        self._put(job)
        return await future

    def later(self, work: _Job) -> None:
        """Do it, without anybody waiting; a failure is logged."""
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
        """Take nothing more; what runs is left to itself.  Idempotent."""
        self._closed = True
        for _ in range(self._count):
            self._jobs.put(None)
