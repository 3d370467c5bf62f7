"""The spool of an account, and the quarantine of its damaged files."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from wad.core import connection
from wad.core.errors import (
    Damaged,
    Unavailable,
    WadError,
)
from wad.core.spool_gap import Gap
from wad.engine.port import (
    FileDamaged,
)
from wad.flow.accounts.account_quarantine import AccountQuarantine
from wad.flow.accounts.account_state import AccountState
from wad.flow.accounts.surroundings import Surroundings
from wad.flow.inbound.pipeline import Inbound
from wad.lib import open_files
from wad.state import spool_replacement
from wad.state.account_dir import AccountDir
from wad.state.card import ReadCard
from wad.state.spool import Spool
from wad.store.port import Cursor

log = logging.getLogger(__name__)

_CARRY_OVER_RETRY = 30.0  # seconds
_SPOOL_HANDLES = (
    8  # the database, its log, the log's index; and some for the worker, which needs them too
)


class AccountFiles(AccountState):
    """An account with its inbound pipeline, and what happens to damaged files."""

    def __init__(
        self, account_dir: AccountDir, card: ReadCard, around: Surroundings, unpublished: asyncio.Event
    ) -> None:
        super().__init__(account_dir, card, around, unpublished)
        self._carry_over_retry_at: float | None = None
        self._unsaved = ""  # why rows of a damaged spool cannot be carried over now
        self._damaged: FileDamaged | None = None
        self.inbound = Inbound(
            account_dir.id,
            self._open_spool,
            around.store,
            around.bus,
            around.clock,
            batch=around.options.batch,
            retention_days=around.options.retention_days,
            on_recorded=lambda messages: self.on_recorded(messages),
            on_answer=lambda answer: self.on_answer(answer),
            on_damaged=self._spool_damaged,
            on_replaced=self._spool_replaced,
            on_gap=self._note_gap,
        )

        self.quarantine = AccountQuarantine(account_dir, around.engine, self.inbound, self.keeper)

    def _open_spool(self) -> Spool:
        try:
            open_files.check_left(_SPOOL_HANDLES)
        except OSError as error:
            raise Unavailable(
                "too many files are open; each account needs about ten (LimitNOFILE=, ulimit -n)"
            ) from error
        return Spool.open(self._account_dir.spool_db)

    def _spool_damaged(self, error: Damaged) -> None:
        self._damaged = FileDamaged(self._account_dir.spool_db.name, str(error))
        if self.worker is not None and self.status.worker:
            self.restart()
        self._changed.set()

    def _spool_replaced(self) -> bool:
        """Whether a worker may still write to the old file; then it is replaced, and the next one uses the new file."""
        if self.worker is None and not self._launching:
            return False
        if self.worker is not None and self.status.worker:
            self.warn("its spool.db was removed or replaced while it ran")
            self.restart()
        return True

    async def _note_gap(self, why: str) -> None:
        """Report missing rows of the spool until an operator drops the report.  Raises StateUnwritable."""
        log.error("spool.db: %s", why, extra={"account": self.id})
        await self.keeper.change(gap=Gap(why=why, since_ms=self.clock.wall_ms()))

    async def _replace_damaged(self) -> None:
        """Quarantine a damaged file by renaming it; a new spool gets the readable rows of the old one."""
        damaged, self._damaged = self._damaged, None
        assert damaged is not None
        is_session = damaged.name == self._account_dir.session_db.name
        try:
            old = await (self._quarantine_session() if is_session else self._quarantine_spool())
        except WadError as error:
            self.warn(f"cannot set {damaged.name} aside: {error}")
            self.handle(connection.Ended(damaged.why))
            return
        await self.quarantine.list_copies()
        self.warn(f"{damaged.why}; it was set aside as {old.name}", copy=old.name)
        if is_session:
            self.handle(connection.Begin(paired=True))
            self.handle(
                connection.Broken(
                    f"the session was damaged and set aside as {old.name}; restore that file from a backup,"
                    " or pair again"
                )
            )
            return
        await self._carry_over()
        self.inbound.wake()
        self.handle(connection.Ended(damaged.why))

    async def _quarantine_session(self) -> Path:
        return await asyncio.to_thread(self._account_dir.set_aside, self._account_dir.session_db, self._stamp())

    async def _quarantine_spool(self) -> Path:
        return await self.inbound.exchange(self._exchange_spool)

    async def _exchange_spool(self, known: Cursor | None) -> Path:
        due = (
            spool_replacement.RecordedUpTo()
            if known is None
            else spool_replacement.RecordedUpTo(known.generation, known.seq)
        )
        return await asyncio.to_thread(spool_replacement.set_aside, self._account_dir, self._stamp(), due)

    async def _carry_over(self) -> None:
        """Copy the readable rows of damaged spools into the spool; after an error it is retried later."""
        self._carry_over_retry_at = None
        try:
            for copy in await asyncio.to_thread(spool_replacement.pending, self._account_dir):
                saved = await asyncio.to_thread(spool_replacement.carry_over, self._account_dir, copy)
                whole = "" if saved.complete else "; others could not be read"
                text = (
                    f"{saved.rows} rows of {copy.name} that were not recorded yet were saved{whole}"
                )
                await self.quarantine.list_copies()
                self.warn(text, copy=copy.name)
                self.inbound.wake()
            self._unsaved = ""
        except WadError as error:
            if str(error) != self._unsaved:
                fields = {"account": self.id}
                log.error("rows of a damaged spool could not be saved yet: %s", error, extra=fields)  # noqa: TRY400
            self._unsaved = str(error)
            self._carry_over_retry_at = self.clock.monotonic() + _CARRY_OVER_RETRY
