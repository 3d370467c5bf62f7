"""Publishing what this machine's accounts are: their status documents, and the locations of their sessions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from wad.core.errors import WadError
from wad.flow.accounts.account import Account
from wad.flow.accounts.session_locations import SessionLocations
from wad.lib.loops import Loop
from wad.store import Store

log = logging.getLogger(__name__)


class Publishing:
    """Publishes during a leadership term.  `accounts` returns the current accounts."""

    def __init__(
        self,
        store: Store,
        locations: SessionLocations,
        accounts: Callable[[], Sequence[Account]],
        due: asyncio.Event,
        epoch: Callable[[], int | None],
    ) -> None:
        """`due` is set when something is to be published; `epoch` returns None outside of a leadership term."""
        self._store = store
        self._locations = locations
        self._accounts = accounts
        self._due = due
        self._removed: dict[str, Account] = {}
        self._epoch = epoch

    async def run(self, loop: Loop, epoch: int) -> None:
        """Publish forever.  One account's error does not stop the others; the first one is raised afterwards."""
        while True:
            self._due.clear()
            failed: Exception | None = None
            for account in self._accounts():
                try:
                    await account.publish(epoch)
                    await self._locations.update(account)
                except Exception as error:
                    failed = failed or error
            await self._delete_removed(epoch)
            if failed is not None:
                raise failed
            loop.progress()
            await self._due.wait()

    async def removed(self, account: Account) -> None:
        """Delete the published status of a removed account, now or in the next leadership term."""
        self._removed[account.id] = account
        epoch = self._epoch()
        if epoch is None:
            return
        try:
            await self._delete_removed(epoch)
        except WadError as error:
            log.warning(
                "the published status of a removed account cannot be deleted yet: %s",
                error,
                extra={"account": account.id},
            )
            self._due.set()  # `run` tries again

    async def _delete_removed(self, epoch: int) -> None:
        present = {account.id for account in self._accounts()}
        for ident, account in list(self._removed.items()):
            if ident not in present:
                await self._store.forget_account(ident, epoch=epoch)
                if self._locations.is_here(account.location):
                    await self._locations.unregister(account)
            self._removed.pop(ident, None)
