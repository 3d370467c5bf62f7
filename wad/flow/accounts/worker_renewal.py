"""Workers that may not read what the machine has put in the place of an old file are started anew, one after the other.

A machine that changes networks writes a new list of name servers; a confined worker has a right to the old file only.
Those that are connected go on until their connection is lost, which the change of networks often brings about anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from wad.core.connection import State
from wad.core.errors import Conflict
from wad.flow.accounts.account import Account
from wad.lib.loops import Loop

log = logging.getLogger(__name__)

_EVERY: Final = 10.0  # seconds between two looks
_PATIENCE: Final = 15.0  # seconds in which one may come back before the next has its turn
_STEP: Final = 0.2  # seconds between looks at whether it has


class Renewal:
    """`accounts` tells which there are now."""

    def __init__(self, accounts: Callable[[], Iterable[Account]], *, every: float = _EVERY) -> None:
        self._accounts = accounts
        self._every = every

    async def run(self, loop: Loop) -> None:
        """Look for ever."""
        while True:
            for account in list(self._accounts()):
                if _needs_it(account):
                    await self._renew(account, loop)
            loop.progress()
            await asyncio.sleep(self._every)

    async def _renew(self, account: Account, loop: Loop) -> None:
        log.info(
            "name servers or hosts have changed: a fresh worker", extra={"account": account.id}
        )
        before = account.worker
        try:
            account.restart()
        except Conflict:  # it does not run any more
            return
        until = account.clock.monotonic() + _PATIENCE
        while account.clock.monotonic() < until:
            loop.turn()
            await asyncio.sleep(_STEP)
            fresh = account.worker not in (None, before)
            if fresh and account.status.state is State.CONNECTED:
                return


def _needs_it(account: Account) -> bool:
    """Not while somebody scans a code: who pairs has a connection."""
    worker = account.worker
    return worker is not None and worker.is_outdated and account.status.pair_until is None
