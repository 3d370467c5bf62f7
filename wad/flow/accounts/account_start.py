"""The start of an account: whether it may run here, from its card, its session and where the session is."""

from __future__ import annotations

from wad import __version__
from wad.core import connection, end_state
from wad.core.connection import State
from wad.core.errors import Damaged, WadError
from wad.core.session_location import SessionLocation, elsewhere_reason, is_elsewhere, to_minute
from wad.flow.accounts.account_files import AccountFiles
from wad.flow.accounts.account_session import AccountSession
from wad.flow.accounts.account_state import AccountState
from wad.flow.accounts.card_keeper import CardKeeper
from wad.flow.accounts.surroundings import Surroundings


class AccountStart:
    """Starts one account when the lease is held."""

    def __init__(
        self,
        around: Surroundings,
        keeper: CardKeeper,
        session: AccountSession,
        state: AccountState,
        files: AccountFiles,
    ) -> None:
        self._instance = around.instance
        self._clock = around.clock
        self._keeper = keeper
        self._session = session
        self._state = state
        self._files = files
        self._has_begun = False
        self.location: SessionLocation | None = None
        """The registered location of the session; None if none is known."""

    async def begin(self) -> None:
        """Run after the lease was acquired, unless an operator stopped it or only an operator can start it.

        Raises Conflict if it is being removed.
        """
        self._state.check_not_removed()
        await self._keeper.read()
        if not self._keeper.card.enabled:
            self._state.handle(connection.Stop(self._stopped_at(), self._keeper.card.stopped_why))
            return
        async with self._session.lock:
            paired: bool | WadError | OSError
            try:
                paired = await self._session.is_paired()
            except (WadError, OSError) as error:
                paired = error
            if self._state.is_being_removed or not self._keeper.card.enabled:
                return  # an operator was faster than the disk
            if isinstance(paired, bool):
                self._begin(paired)
            else:
                self._cannot_begin(paired)

    def _begin(self, paired: bool) -> None:
        card = self._keeper.card
        rest = end_state.lasting_state(
            card.ended,
            paired=paired,
            was_paired=bool(card.jid),
            now=self._clock.monotonic(),
            wall_ms=self._clock.wall_ms(),
            version=__version__,
        )
        if rest is not None and rest.state is State.REPLACED and self._has_begun:
            rest = (
                None  # the lease was acquired again: its previous holder no longer uses the session
            )
        self._has_begun = True
        self._state.handle(connection.Begin(paired, self._elsewhere(paired), rest))

    def _cannot_begin(self, error: WadError | OSError) -> None:
        """Handle a session that cannot be read: it is damaged, or the machine is short of a resource."""
        if isinstance(error, Damaged):
            self._files.session_damaged(error)
            return
        self._begin(bool(self._keeper.card.jid))
        self._state.handle(connection.Ended(str(error)))

    def _stopped_at(self) -> float | None:
        """When it was stopped, on the monotonic clock; None if unknown."""
        stopped_ms = self._keeper.card.stopped_ms
        ago_ms = self._clock.wall_ms() - stopped_ms
        known = stopped_ms and ago_ms >= 0
        return self._clock.monotonic() - ago_ms / 1000 if known else None

    def _elsewhere(self, paired: bool) -> str:
        """Why it must not run here; empty if it may."""
        location, card = self.location, self._keeper.card
        if location and is_elsewhere(location, self._instance, card.jid if paired else None):
            return elsewhere_reason(location)
        if card.exported_ms and not paired:
            return f"its session was exported on {to_minute(card.exported_ms)}"
        return ""
