"""Threads of one purpose each, so that no kind of work waits in the queue of another.

asyncio's own pool is shared by all who ask: three hundred inboxes that are opened would hold up whoever comes after
them.  These threads are there from the start, hence taking one cannot fail later, and live as long as the process: the
kernel ends a worker when the *thread* that started it ends (PR_SET_PDEATHSIG).
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
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


class ThreadPool:
    """`width` threads that do what is asked of them, in the order in which it was asked."""

    def __init__(self, name: str, width: int) -> None:
        self._asked: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        for number in range(width):
            # Daemon threads: nothing that hangs in one holds up the end of the process.
            threading.Thread(target=self._work, name=f"{name} {number}", daemon=True).start()

    async def run(self, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """What `work` gives, or its error.

        A thread cannot be cancelled: who is cancelled while he waits does not hear what came of it, unless `work` has
        not begun, and then it never will.
        """
        done: Future[T] = Future()
        self._asked.put((done, lambda: work(*args, **options)))
        return await asyncio.wrap_future(done)

    def post(self, work: Callable[P, object], *args: P.args, **options: P.kwargs) -> None:
        """Do it, whoever hears of it; `work` logs its own errors."""
        self._asked.put((Future(), lambda: work(*args, **options)))

    def _work(self) -> None:
        while True:
            done, work = self._asked.get()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(work())
            except BaseException as error:  # it is the asker's
                done.set_exception(error)
            del done, work
