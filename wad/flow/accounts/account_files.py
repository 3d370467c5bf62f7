"""The spool of an account, and the quarantine of its damaged files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wad.core import connection
from wad.core.errors import Damaged, Unavailable, WadError
from wad.core.message import Message
from wad.core.spool_gap import Gap
from wad.engine.port import FileDamaged
from wad.flow.accounts.account_quarantine import AccountQuarantine
from wad.flow.accounts.account_session import AccountSession
from wad.flow.accounts.account_state import AccountState
from wad.flow.accounts.card_keeper import CardKeeper
from wad.flow.accounts.notices import Notices
from wad.flow.accounts.surroundings import Surroundings
from wad.flow.accounts.worker_slot import WorkerSlot
from wad.flow.inbound.pipeline import HistoryAnswer, Inbound
from wad.lib import open_files
from wad.lib.clock import stamp
from wad.state import spool_replacement
from wad.state.account_dir import AccountDir
from wad.state.spool import Spool
from wad.store.port import Cursor

log = logging.getLogger(__name__)

_CARRY_OVER_RETRY = 30.0  # seconds
_SPOOL_HANDLES: Final = (
    8  # the database, its log, the log's index; and some for the worker, which needs them too
)


class AccountFiles:
    """The inbound pipeline of one account, its quarantine, and the replacement of damaged files.

    `wake` wakes the account's task, which calls `replace_damaged` when no worker runs.
    """

    def __init__(
        self,
        account_dir: AccountDir,
        around: Surroundings,
        keeper: CardKeeper,
        session: AccountSession,
        state: AccountState,
        slot: WorkerSlot,
        notices: Notices,
        *,
        wake: Callable[[], None],
        on_recorded: Callable[[list[Message]], None],
        on_answer: Callable[[HistoryAnswer], None],
    ) -> None:
        self._account_dir = account_dir
        self._clock = around.clock
        self._keeper = keeper
        self._session = session
        self._state = state
        self._slot = slot
        self._notices = notices
        self._wake = wake
        self.damage: FileDamaged | None = None
        """The damaged file that is to be replaced; None if there is none."""
        self.carry_over_retry_at: float | None = None
        """When rows of damaged spools are to be carried over again, on the monotonic clock; None: not at all."""
        self.unsaved = ""
        """Why rows of a damaged spool cannot be carried over now; empty if there are none."""
        self.inbound = Inbound(
            account_dir.id,
            self._open_spool,
            around.store,
            around.bus,
            around.clock,
            batch=around.options.batch,
            retention_days=around.options.retention_days,
            on_recorded=on_recorded,
            on_answer=on_answer,
            on_damaged=self.spool_damaged,
            on_replaced=self._spool_replaced,
            on_gap=self._note_gap,
        )
        self.quarantine = AccountQuarantine(account_dir, around.engine, self.inbound, keeper)

    # --- the spool --------------------------------------------------------------------------------

    def _open_spool(self) -> Spool:
        try:
            open_files.check_left(_SPOOL_HANDLES)
        except OSError as error:
            raise Unavailable(
                "too many files are open; each account needs about ten (LimitNOFILE=, ulimit -n)"
            ) from error
        return Spool.open(self._account_dir.spool_db)

    async def is_spool_ready(self) -> bool:
        """Open the spool before a worker writes to it; False if it is damaged.  Raises StateUnwritable, Unavailable."""
        try:
            await self.inbound.ready()
        except Damaged as error:
            self.spool_damaged(error)
            return False
        return True

    def _spool_replaced(self) -> bool:
        """Whether a worker may still write to the old file; then it is replaced, and the next one uses the new file."""
        if self._slot.is_empty:
            return False
        if self._slot.worker is not None and self._state.status.worker:
            self._notices.warn("its spool.db was removed or replaced while it ran")
            self._state.restart()
        return True

    async def _note_gap(self, why: str) -> None:
        """Report missing rows of the spool until an operator drops the report.  Raises StateUnwritable."""
        log.error("spool.db: %s", why, extra={"account": self._account_dir.id})
        await self._keeper.change(gap=Gap(why=why, since_ms=self._clock.wall_ms()))

    # --- damaged files ----------------------------------------------------------------------------

    def spool_damaged(self, error: Damaged) -> None:
        """Have the damaged spool replaced, as soon as the worker that runs has ended."""
        self.damage = FileDamaged(self._account_dir.spool_db.name, str(error))
        if self._slot.worker is not None and self._state.status.worker:
            self._state.restart()
        self._wake()

    def session_damaged(self, error: Damaged) -> None:
        """Have the damaged session replaced; no worker runs."""
        self.damage = FileDamaged(self._account_dir.session_db.name, str(error))
        self._wake()

    async def replace_damaged(self) -> None:
        """Quarantine a damaged file by renaming it; a new spool gets the readable rows of the old one."""
        damaged, self.damage = self.damage, None
        assert damaged is not None
        is_session = damaged.name == self._account_dir.session_db.name
        try:
            old = await (self._quarantine_session() if is_session else self._quarantine_spool())
        except WadError as error:
            self._notices.warn(f"cannot set {damaged.name} aside: {error}")
            self._state.handle(connection.Ended(damaged.why))
            return
        await self.quarantine.list_copies()
        self._notices.warn(f"{damaged.why}; it was set aside as {old.name}", copy=old.name)
        if is_session:
            self._state.handle(connection.Begin(paired=True))
            self._state.handle(
                connection.Broken(
                    f"the session was damaged and set aside as {old.name}; restore that file from a backup,"
                    " or pair again"
                )
            )
            return
        await self.carry_over()
        self.inbound.wake()
        self._state.handle(connection.Ended(damaged.why))

    async def _quarantine_session(self) -> Path:
        async with self._session.lock:
            return await self._session.set_aside()

    async def _quarantine_spool(self) -> Path:
        return await self.inbound.exchange(self._exchange_spool)

    async def _exchange_spool(self, known: Cursor | None) -> Path:
        due = (
            spool_replacement.RecordedUpTo()
            if known is None
            else spool_replacement.RecordedUpTo(known.generation, known.seq)
        )
        return await asyncio.to_thread(
            spool_replacement.set_aside, self._account_dir, stamp(self._clock), due
        )

    async def carry_over(self) -> None:
        """Copy the readable rows of damaged spools into the spool; after an error it is retried later."""
        self.carry_over_retry_at = None
        try:
            for copy in await asyncio.to_thread(spool_replacement.pending, self._account_dir):
                saved = await asyncio.to_thread(
                    spool_replacement.carry_over, self._account_dir, copy
                )
                whole = "" if saved.complete else "; others could not be read"
                text = (
                    f"{saved.rows} rows of {copy.name} that were not recorded yet were saved{whole}"
                )
                await self.quarantine.list_copies()
                self._notices.warn(text, copy=copy.name)
                self.inbound.wake()
            self.unsaved = ""
        except WadError as error:
            if str(error) != self.unsaved:
                fields = {"account": self._account_dir.id}
                log.error("rows of a damaged spool could not be saved yet: %s", error, extra=fields)  # noqa: TRY400
            self.unsaved = str(error)
            self.carry_over_retry_at = self._clock.monotonic() + _CARRY_OVER_RETRY
