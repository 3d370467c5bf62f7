"""The removal of an account: its directory is renamed, and nothing of it is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from wad.flow.accounts.account import Account
from wad.flow.accounts.account_loops import AccountLoops
from wad.flow.accounts.publishing import Publishing
from wad.flow.accounts.surroundings import Surroundings
from wad.lib.clock import stamp
from wad.state.account_dir import AccountDirs


class Removal:
    """Removes accounts.

    `on_gone` ends what other parts of the daemon do with an account; `on_removed` is called when its directory was
    renamed; `join` lets an account that stays take part in the present leadership term.
    """

    def __init__(
        self,
        account_dirs: AccountDirs,
        around: Surroundings,
        loops: AccountLoops,
        publishing: Publishing,
        changing: asyncio.Lock,
        *,
        on_gone: Callable[[Account], Awaitable[None]],
        on_removed: Callable[[Account], None],
        join: Callable[[Account], Awaitable[None]],
    ) -> None:
        self._account_dirs = account_dirs
        self._around = around
        self._loops = loops
        self._publishing = publishing
        self._changing = changing
        self._on_gone = on_gone
        self._on_removed = on_removed
        self._join = join

    async def remove(self, account: Account) -> Path:
        """Stop an account and rename its directory; returns the new path.

        Raises Conflict (it is being removed), StateUnwritable; then it is unchanged.
        """
        account.begin_removal()
        # The caller may be cancelled: half of it would be neither an account nor a removed one.
        removing = asyncio.create_task(self._remove(account), name=f"remove {account.id}")
        return await asyncio.shield(removing)

    async def _remove(self, account: Account) -> Path:
        try:
            await account.step_down("it is being removed")
            await self._on_gone(account)
            await self._loops.end(account)
            await account.settle()
            async with self._changing:
                now = stamp(self._around.clock)
                path = await asyncio.to_thread(self._account_dirs.remove, account.id, now)
                self._on_removed(account)
        except BaseException:
            await self._stay(account)
            raise
        await self._publishing.removed(account)
        self._around.bus.publish("account", "removed", account=account.id)
        return path

    async def _stay(self, account: Account) -> None:
        """Continue after a removal that failed."""
        account.cancel_removal()
        self._loops.start(account)
        await self._join(account)
