"""Claims that nobody will settle: for accounts of which nothing lies here, or which were put away meanwhile.

What is claimed for an account of this machine is judged by that account's sender.  The rest may
have been sent, and only the machine that claimed it could tell; when it has not come back for a while, a person has to
decide, and the entry says `uncertain`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from wad.core.message import MessageStatus
from wad.core.outbox import Entry, Unknown
from wad.lib.clock import Clock
from wad.store import Store

PATIENCE: Final = 600.0  # seconds that another machine has to come back
_LIMIT: Final = 1000  # entries in one look


class Reaper:
    """Looks when it is told to; `is_here` says whether an account is this machine's."""

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

    async def look(self) -> None:
        """Settle what has been stranded for long enough.  Raises the first error, once all were looked at."""
        now = self._clock.monotonic()
        sending = await self._store.entries(None, states=[MessageStatus.SENDING], limit=_LIMIT)
        stranded = {entry.id: entry for entry in sending if not self._is_here(entry.account)}
        self._since = {ident: self._since.get(ident, now) for ident in stranded}
        failed: Exception | None = None
        for ident, since in self._since.items():
            if now - since >= PATIENCE:
                claim = stranded[ident].claim
                holder = claim.holder if claim else "another machine"
                why = f"{holder} claimed it, and has not said since what became of it"
                try:
                    await self._settle(ident, Unknown("", why))
                except Exception as error:
                    failed = failed or error
        if failed is not None:
            raise failed
