"""The ways in which an account gets a session: pairing, or the session of another program."""

from __future__ import annotations

from pathlib import Path

from wad.core import connection
from wad.core.errors import Conflict
from wad.flow.accounts.account_session import AccountSession
from wad.flow.accounts.account_state import AccountState
from wad.flow.accounts.card_keeper import CardKeeper
from wad.flow.accounts.surroundings import Surroundings
from wad.flow.accounts.worker_slot import WorkerSlot


class AccountPairing:
    """Gives one account a session."""

    def __init__(
        self,
        account: str,
        around: Surroundings,
        keeper: CardKeeper,
        session: AccountSession,
        state: AccountState,
        slot: WorkerSlot,
    ) -> None:
        self._account = account
        self._clock = around.clock
        self._window = around.options.pairing_window
        self._keeper = keeper
        self._session = session
        self._state = state
        self._slot = slot

    async def pair(self, phone: str = "") -> None:
        """Open the pairing window, or extend it.  Raises Conflict if it is paired.

        `phone`: digits of the number for which a code of eight characters is requested; empty: QR codes only.
        """
        async with self._session.lock:
            paired = await self._session.is_paired()
            self._state.check_not_removed()
            if paired and self._keeper.is_logged_out and self._slot.worker is None:
                # WhatsApp has dropped these keys, but nothing of an account is ever deleted.
                await self._session.set_aside("logged-out")
                self._state.check_not_removed()
                paired = False
            if not paired and self._keeper.card.jid:
                # The next pairing creates a new device.
                await self._keeper.change(jid="", lid="", ended=None)
            until = self._clock.monotonic() + self._window
            self._state.handle(connection.Pair(until, paired, phone))
            await self._keeper.enable(True)

    async def check_unpaired(self) -> None:
        """Raise Conflict if there is a session already, or a running worker that may create one."""
        paired = await self._session.is_paired()
        self._state.check_not_removed()
        if paired:
            raise Conflict(
                f"account {self._account} has a session already ({self._state.status.state})",
                hint="use another --id for another account, or remove this one (restorable): wadctl account remove",
            )
        status = self._state.status
        if not self._slot.is_empty or status.worker or status.retry_at is not None:
            raise Conflict(
                f"account {self._account} is being paired",
                hint=f"stop it first: wadctl account stop {self._account}",
            )

    async def take_session(self, file: Path) -> None:
        """Move a session file to the account, which should run from now on.  Raises as above, StateUnwritable.

        Not to be cancelled: a session is of no use with a card that says otherwise.
        """
        async with self._session.lock:
            await self.check_unpaired()
            await self._session.take(file)
            await self._keeper.change(enabled=True, ended=None)
