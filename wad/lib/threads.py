"""Thread pools for one purpose each, so that no kind of work waits in the queue of another.

All callers share asyncio's own pool: opening three hundred spools would delay everything after them.  These threads are
started at once, so starting one cannot fail later, and live as long as the process: the kernel ends a worker when the
*thread* that started it ends (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


class ThreadPool:
    """A pool of `width` threads that run work in the order of the requests."""

    def __init__(self, name: str, width: int) -> None:
        self._asked: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        for number in range(width):
            # Daemon threads: a hanging one does not delay the end of the process.
            threading.Thread(target=self._work, name=f"{name} {number}", daemon=True).start()

    async def run(self, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Run `work` in a thread, and return its result or raise its error.

        A thread cannot be cancelled: if the caller is cancelled, work that has begun goes on without it, and work that
        has not begun never will.
        """
        done: Future[T] = Future()
        self._asked.put((done, lambda: work(*args, **options)))
        return await asyncio.wrap_future(done)

    def post(self, work: Callable[P, object], *args: P.args, **options: P.kwargs) -> None:
        """Run `work` without waiting for its result; it logs its own errors."""
        self._asked.put((Future(), lambda: work(*args, **options)))

    def _work(self) -> None:
        while True:
            done, work = self._asked.get()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(work())
            except BaseException as error:  # the caller gets it
                done.set_exception(error)
            del done, work
