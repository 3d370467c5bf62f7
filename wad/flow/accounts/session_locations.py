"""The registered locations of sessions, during a leadership term."""

from __future__ import annotations

from wad.core.connection import State
from wad.core.errors import TimedOut
from wad.core.session_location import SessionLocation
from wad.flow.accounts.account import Account
from wad.flow.accounts.surroundings import Surroundings


class SessionLocations:
    """The known locations; empty outside of a leadership term."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._epoch: int | None = None
        self._known: dict[str, SessionLocation] = {}

    async def begin(self, epoch: int) -> None:
        """Read all locations at the beginning of a term.  Raises Unavailable."""
        self._known = await self._around.locations.all()
        self._epoch = epoch

    def end(self) -> None:
        """End the term: nothing is registered any more."""
        self._epoch, self._known = None, {}

    def of(self, ident: str) -> SessionLocation | None:
        """The location of this account's session; None if none is known."""
        return self._known.get(ident)

    def all(self) -> list[SessionLocation]:
        """Every known location, by the id of its account."""
        return [self._known[ident] for ident in sorted(self._known)]

    async def register(self, account: Account) -> None:
        """Register that the account's session is here.

        Raises Fenced, Unavailable, TimedOut (the lease is gone).
        """
        if self._epoch is None:
            raise TimedOut("the lease is gone")
        card = account.card
        location = SessionLocation(
            account=account.id,
            instance=self._around.instance,
            since_ms=self._around.clock.wall_ms(),
            jid=card.jid,
            name=card.name,
            phone=card.phone,
        )
        await self._around.locations.put(location, epoch=self._epoch)
        if self._epoch is None:  # the workers have ended, and none may start any more
            raise TimedOut("the lease is gone")
        account.location = self._known[account.id] = location

    async def update(self, account: Account) -> None:
        """Register the session of a connected account, and unregister that of a logged-out one."""
        location, card = account.location, account.card
        ours = self.is_here(location)
        match account.status.state:
            case State.CONNECTED if location is None or not (ours and location.jid == card.jid):
                await self.register(account)
            case State.LOGGED_OUT if ours:
                await self.unregister(account)

    async def unregister(self, account: Account) -> None:
        """Delete the location of the account's session."""
        if self._epoch is not None and self._known.pop(account.id, None) is not None:
            account.location = None
            await self._around.locations.forget(account.id, epoch=self._epoch)

    def is_here(self, location: SessionLocation | None) -> bool:
        """Whether this is a location on this machine."""
        return location is not None and location.instance == self._around.instance
