"""Replacement of workers that cannot read a replaced system file, one account after the other.

A machine that changes networks writes a new list of name servers; a confined worker may read only the old file.
Connected workers could go on until they lose their connection, which a change of networks often causes anyway.
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

_EVERY: Final = 10.0  # seconds between two checks
_TIMEOUT: Final = 15.0  # seconds for one account to reconnect before the next is restarted
_STEP: Final = 0.2  # seconds between checks of whether it has


class Renewal:
    """The checks.  `accounts` returns the current accounts."""

    def __init__(self, accounts: Callable[[], Iterable[Account]], *, every: float = _EVERY) -> None:
        self._accounts = accounts
        self._every = every

    async def run(self, loop: Loop) -> None:
        """Check forever."""
        while True:
            for account in list(self._accounts()):
                if _needs_it(account):
                    await self._renew(account, loop)
            loop.progress()
            await asyncio.sleep(self._every)

    async def _renew(self, account: Account, loop: Loop) -> None:
        log.info(
            "name servers or hosts have changed: replacing the worker",
            extra={"account": account.id},
        )
        before = account.worker
        try:
            account.restart()
        except Conflict:  # it has stopped
            return
        until = account.clock.monotonic() + _TIMEOUT
        while account.clock.monotonic() < until:
            loop.turn()
            await asyncio.sleep(_STEP)
            fresh = account.worker not in (None, before)
            if fresh and account.status.state is State.CONNECTED:
                return


def _needs_it(account: Account) -> bool:
    """Not during pairing: a worker that shows a code has a connection."""
    worker = account.worker
    return worker is not None and worker.is_outdated and account.status.pair_until is None
