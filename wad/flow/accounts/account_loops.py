"""The loops of each account: its task, and its inbound pipeline."""

from __future__ import annotations

import asyncio
from typing import Final

from wad.flow.accounts.account import Account
from wad.lib.loops import Loops

_TURNS: Final = 60.0  # seconds within which an inbox must be checked again


class AccountLoops:
    """Starts and ends the loops of accounts."""

    def __init__(self, loops: Loops) -> None:
        self._loops = loops
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}

    def start(self, account: Account) -> None:
        """Start the loops of an account, unless they run."""
        if account.id not in self._tasks:
            start, ident = self._loops.start, account.id
            self._tasks[ident] = [
                start("account", account.run, account=ident, cap=30),
                start("inbound", account.inbound.run, account=ident, cap=30, within=_TURNS),
            ]

    async def end(self, account: Account) -> None:
        """End the loops of an account, and close its spool."""
        await _end(self._tasks.pop(account.id))
        await account.inbound.close()

    async def end_all(self) -> None:
        """End every loop."""
        await _end([task for tasks in self._tasks.values() for task in tasks])


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
