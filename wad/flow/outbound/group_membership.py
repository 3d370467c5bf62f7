"""The role of each account in the groups that it writes to, requested from WhatsApp before a message is queued.

So a message to a group that was left is refused at once, and nothing waits that can never be sent.  If WhatsApp cannot
be asked, the message is queued, and refused when it is sent.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from wad.core.connection import State
from wad.core.errors import WadError
from wad.core.jid import Jid, JidKind
from wad.core.outgoing import GroupRole
from wad.core.outgoing_rules import check_group_role
from wad.flow.accounts.account import Account
from wad.lib.clock import Clock

log = logging.getLogger(__name__)

_TIMEOUT: Final = 3.0  # seconds that the queueing of a message waits for the answer
_MEMBER_S: Final = 600.0  # seconds for which the answer "may write" is cached
_OTHER_S: Final = 20.0  # the same for "may not": the account may have been added since
_MAX_CACHED: Final = 10_000  # groups


class GroupRoles:
    """A cache of group roles."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[GroupRole, float]] = {}

    async def check(self, account: Account, to: Jid) -> None:
        """Raise Conflict if the account certainly may not write to this group."""
        if (
            to.kind is JidKind.GROUP
            and (group_role := await self._group_role(account, to)) is not None
        ):
            check_group_role(group_role, to)

    def forget(self, account: str, to: str) -> None:
        """Drop the cached role after WhatsApp has refused a message to the group."""
        self._known.pop((account, to), None)

    async def _group_role(self, account: Account, group: Jid) -> GroupRole | None:
        """None if it cannot be determined now."""
        key, now = (account.id, str(group)), self._clock.monotonic()
        known = self._known.get(key)
        if known is not None and now < known[1]:
            return known[0]
        worker = account.worker
        if worker is None or account.status.state is not State.CONNECTED:
            return None
        try:
            async with asyncio.timeout(_TIMEOUT):
                found = await worker.group_role(group)
        except (WadError, TimeoutError) as error:
            why = str(error) or "no answer in time"
            log.info("cannot request a group role: %s", why, extra={"account": account.id})
            return None
        if len(self._known) >= _MAX_CACHED:
            self._known.clear()
        lasts = _MEMBER_S if found is GroupRole.MEMBER else _OTHER_S
        self._known[key] = (found, now + lasts)
        return found
