"""The published status of an account: a document in the store, for programs on other machines."""

from __future__ import annotations

import msgspec

from wad.flow.accounts.account_state import AccountState
from wad.flow.accounts.card_keeper import CardKeeper
from wad.flow.accounts.surroundings import Surroundings
from wad.store.port import AccountStatus


class StatusPublisher:
    """Writes the status document of one account."""

    def __init__(
        self, account: str, around: Surroundings, keeper: CardKeeper, state: AccountState
    ) -> None:
        self._account = account
        self._around = around
        self._keeper = keeper
        self._state = state
        self._published: AccountStatus | None = None

    async def publish(self, epoch: int) -> None:
        """Write the document if it has changed."""
        card, status, clock = self._keeper.card, self._state.status, self._around.clock
        wanted = AccountStatus(
            account=self._account,
            name=card.name,
            state=status.state,
            reason=status.reason,
            since_ms=clock.wall_ms() - int((clock.monotonic() - status.since) * 1000),
            jid=card.jid,
            lid=card.lid,
            phone=card.phone,
            instance=self._around.instance,
            auto_reply=card.auto_reply,
            backfill=card.backfill,
            created_ms=card.created_ms,
            connected_ms=self._state.connected_ms,
        )
        if self._published is None or _but_since(wanted) != _but_since(self._published):
            await self._around.store.put_account(wanted, epoch=epoch)
            self._published = wanted


def _but_since(status: AccountStatus) -> AccountStatus:
    return msgspec.structs.replace(status, since_ms=0)
