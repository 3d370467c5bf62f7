"""The task of an account, which alone starts and ends its workers and replaces its damaged files."""

from __future__ import annotations

import asyncio

from wad.core import connection
from wad.flow.accounts.account_files import AccountFiles
from wad.flow.accounts.account_state import AccountState
from wad.flow.accounts.account_worker import AccountWorker
from wad.flow.accounts.card_keeper import CardKeeper
from wad.flow.accounts.worker_slot import WorkerSlot
from wad.lib.clock import Clock
from wad.lib.loops import Loop


class AccountTask:
    """The task of one account; it runs again whenever `changed` is set."""

    def __init__(
        self,
        clock: Clock,
        changed: asyncio.Event,
        keeper: CardKeeper,
        state: AccountState,
        slot: WorkerSlot,
        files: AccountFiles,
        worker: AccountWorker,
    ) -> None:
        self._clock = clock
        self._changed = changed
        self._keeper = keeper
        self._state = state
        self._slot = slot
        self._files = files
        self._worker = worker
        self._loop: Loop | None = None

    async def run(self, loop: Loop) -> None:
        """Start and end the worker as the status requires, forever."""
        self._loop = loop
        await self._files.quarantine.list_copies()
        await self._files.carry_over()
        while True:
            self._changed.clear()
            now = self._clock.monotonic()
            retry_at = self._files.carry_over_retry_at
            if retry_at is not None and now >= retry_at:
                await self._files.carry_over()
            if self._keeper.retry_at is not None and now >= self._keeper.retry_at:
                self._keeper.hurry()
            await self._align()
            loop.progress()
            await self._pause()

    async def _align(self) -> None:
        if self._files.damage is not None and self._slot.worker is None:
            await self._files.replace_damaged()
        elif not self._state.status.worker:
            await self._worker.end()
        elif self._slot.worker is None:
            await self._worker.start()

    async def _pause(self) -> None:
        status = self._state.status
        # The worker's time is counted from its start, not from the request.
        until = None if self._slot.worker is None else status.worker_until
        wanted = (
            status.retry_at, until, status.pair_until, status.settles_at, self._files.carry_over_retry_at,
            self._keeper.retry_at,
        )  # fmt: skip
        times = [at for at in wanted if at is not None]
        left = None if not times else max(0.0, min(times) - self._clock.monotonic())
        try:
            async with asyncio.timeout(left):
                await self._changed.wait()
        except TimeoutError:
            self._state.handle(connection.Due())

    async def wait_until_stopped(self) -> None:
        """Wait until no worker runs.  The task may be in back-off: it retries now.  Raises TimedOut."""
        if self._loop is not None:
            self._loop.retry_now()
        await self._worker.wait_until_ended()
