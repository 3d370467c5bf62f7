"""Claims that nobody will settle: of an epoch that is over, for accounts whose session lies on another machine.

What this machine claimed, or what it can judge by the traces of its own session, is judged by outbound.  The rest may
have been sent, and only the machine that claimed it could tell; when it has not come back for a while, a person has to
decide, and the entry says `uncertain`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from wad.clock import Clock
from wad.core.message import MessageStatus
from wad.core.outbox import Entry, Unknown
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

    async def look(self, epoch: int) -> None:
        """Settle what has been stranded for long enough.  Raises WadError."""
        now = self._clock.monotonic()
        sending = await self._store.entries(None, states=[MessageStatus.SENDING], limit=_LIMIT)
        stranded = {
            entry.id: entry
            for entry in sending
            if is_over(entry, epoch) and not self._is_here(entry.account)
        }
        self._since = {ident: self._since.get(ident, now) for ident in stranded}
        for ident, since in self._since.items():
            if now - since >= PATIENCE:
                claim = stranded[ident].claim
                holder = claim.holder if claim else "another machine"
                why = f"{holder} claimed it, and has not said since what became of it"
                await self._settle(ident, Unknown("", why))


def is_over(entry: Entry, epoch: int) -> bool:
    """Whether an entry's claim is of an epoch before this one."""
    return entry.claim is not None and entry.claim.epoch < epoch
