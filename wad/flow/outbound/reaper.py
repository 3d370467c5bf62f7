"""Settles stranded claims: those of accounts that are not on this machine, or were removed meanwhile.

The sender of an account settles the claims of this machine's accounts.  The other entries may have been sent, and only
the machine that claimed them knows; when it has not returned for a while, an operator has to decide, and the entry
becomes `uncertain`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from wad.core.message import MessageStatus
from wad.core.outbox import Entry, Unknown
from wad.lib.clock import Clock
from wad.store import Store

GRACE: Final = 600.0  # seconds that another machine has to return
_LIMIT: Final = 1000  # entries per run


class Reaper:
    """Runs on request; `is_here` tells whether an account is on this machine."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        is_here: Callable[[str], bool],
        settle: Callable[[str, Unknown], Awaitable[Entry]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._is_here = is_here
        self._settle = settle
        self._since: dict[str, float] = {}

    async def run(self) -> None:
        """Settle entries that have been stranded for long enough.  Raises the first error, after trying all."""
        now = self._clock.monotonic()
        sending = await self._store.entries(None, states=[MessageStatus.SENDING], limit=_LIMIT)
        stranded = {entry.id: entry for entry in sending if not self._is_here(entry.account)}
        self._since = {ident: self._since.get(ident, now) for ident in stranded}
        failed: Exception | None = None
        for ident, since in self._since.items():
            if now - since >= GRACE:
                claim = stranded[ident].claim
                holder = claim.holder if claim else "another machine"
                why = f"{holder} claimed it, and has not reported a result since"
                try:
                    await self._settle(ident, Unknown("", why))
                except Exception as error:
                    failed = failed or error
        if failed is not None:
            raise failed
