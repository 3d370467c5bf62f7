"""What each account is in the groups that it writes to, asked of WhatsApp before a message is queued.

So that who writes to a group that was left is told at once, and nothing waits that can never be sent.  Where WhatsApp
cannot be asked, the message is queued all the same, and refused when its turn comes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from wad.core.connection import State
from wad.core.errors import WadError
from wad.core.jid import Jid, JidKind
from wad.core.outgoing import GroupRole, check_standing
from wad.flow.accounts.account import Account
from wad.lib.clock import Clock

log = logging.getLogger(__name__)

_PATIENCE: Final = 3.0  # seconds that whoever queues a message waits for the answer
_MEMBER_S: Final = 600.0  # seconds for which it is believed that an account may write
_OTHER_S: Final = 20.0  # the same, that it may not: it may have been added since
_MOST: Final = 10_000  # groups that are remembered


class GroupRoles:
    """The answers, for a while."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[GroupRole, float]] = {}

    async def check(self, account: Account, to: Jid) -> None:
        """Raise Conflict where the account may certainly not write to this group."""
        if to.kind is JidKind.GROUP and (standing := await self._standing(account, to)) is not None:
            check_standing(standing, to)

    def forget(self, account: str, to: str) -> None:
        """WhatsApp has refused a message to it: ask again."""
        self._known.pop((account, to), None)

    async def _standing(self, account: Account, group: Jid) -> GroupRole | None:
        """None where nobody can say now."""
        key, now = (account.id, str(group)), self._clock.monotonic()
        known = self._known.get(key)
        if known is not None and now < known[1]:
            return known[0]
        worker = account.worker
        if worker is None or account.status.state is not State.CONNECTED:
            return None
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await worker.standing(group)
        except (WadError, TimeoutError) as error:
            why = str(error) or "no answer in time"
            log.info("cannot ask about a group: %s", why, extra={"account": account.id})
            return None
        if len(self._known) >= _MOST:
            self._known.clear()
        lasts = _MEMBER_S if found is GroupRole.MEMBER else _OTHER_S
        self._known[key] = (found, now + lasts)
        return found
