"""The background tasks of a socket server."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from wad.api import dispatch
from wad.api.context import Context


class Tasks:
    """Background tasks; failures are logged and counted."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Start a task."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            dispatch.internal_error(self._context, task.get_name(), error)

    async def one_ended(self) -> None:
        """Wait until one of the running tasks has ended."""
        if self._running:
            await asyncio.wait(set(self._running), return_when=asyncio.FIRST_COMPLETED)

    async def wait(self, timeout: float | None = None) -> None:
        """Wait until all running tasks have ended, or for `timeout` seconds."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=timeout)

    async def cancel(self, timeout: float | None = None) -> None:
        """Cancel all tasks."""
        for task in self._running:
            task.cancel()
        await self.wait(timeout)
