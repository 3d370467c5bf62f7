"""One account: the orders of operators and of the leader, its problems, and its published status."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from wad import __version__
from wad.core import connection, end_state
from wad.core.auto_reply import AutoReply
from wad.core.connection import State
from wad.core.errors import (
    Conflict,
    Damaged,
    WadError,
)
from wad.core.history import BackfillResult
from wad.core.problem import Problem
from wad.core.session_location import elsewhere_reason, is_elsewhere, to_minute
from wad.engine.port import (
    FileDamaged,
    Receipts,
)
from wad.flow.accounts.account_task import AccountTask
from wad.state.card import AccountCard
from wad.store.port import AccountStatus

log = logging.getLogger(__name__)


class Account(AccountTask):
    """One account: the orders for it, its problems, and its published status."""

    def begin_removal(self) -> None:
        """Start its removal: from now on nothing may start it.  Raises Conflict if it is being removed already."""
        self._check_not_removed()
        self.is_being_removed = True

    def cancel_removal(self) -> None:
        """Continue after a removal that failed."""
        self.is_being_removed = False

    def _check_not_removed(self) -> None:
        if self.is_being_removed:
            raise Conflict(f"account {self.id} is being removed")

    async def is_paired(self) -> bool:
        """Whether there is a session on the disk.  Raises Damaged, EngineFailure, Unavailable.

        On a thread: the worker writes that file, and at the beginning of a term this account is one of many.
        """
        return await self._around.threads.run(self._around.engine.is_paired, self._account_dir)

    async def begin(self) -> None:
        """Run after the lease was acquired, unless an operator stopped it or only an operator can start it.

        Raises Conflict if it is being removed.
        """
        self._check_not_removed()
        await self.keeper.read()
        if not self.card.enabled:
            self.handle(connection.Stop(self._stopped_at(), self.card.stopped_why))
            return
        paired: bool | WadError | OSError
        try:
            paired = await self.is_paired()
        except (WadError, OSError) as error:
            paired = error
        if self.is_being_removed or not self.card.enabled:
            return  # an operator was faster than the disk
        if isinstance(paired, bool):
            self._begin(paired)
        else:
            self._cannot_begin(paired)

    def _begin(self, paired: bool) -> None:
        rest = end_state.lasting_state(
            self.card.ended,
            paired=paired,
            was_paired=bool(self.card.jid),
            now=self.clock.monotonic(),
            wall_ms=self.clock.wall_ms(),
            version=__version__,
        )
        if rest is not None and rest.state is State.REPLACED and self._has_begun:
            rest = (
                None  # the lease was acquired again: its previous holder no longer uses the session
            )
        self._has_begun = True
        self.handle(connection.Begin(paired, self._elsewhere(paired), rest))

    def _stopped_at(self) -> float | None:
        """When it was stopped, on the monotonic clock; None if unknown."""
        ago_ms = self.clock.wall_ms() - self.card.stopped_ms
        known = self.card.stopped_ms and ago_ms >= 0
        return self.clock.monotonic() - ago_ms / 1000 if known else None

    @property
    def _is_logged_out(self) -> bool:
        """Whether it was logged out and not paired since; also while it is stopped."""
        ended = self.card.ended
        return ended is not None and ended.state == State.LOGGED_OUT

    def _cannot_begin(self, error: WadError | OSError) -> None:
        """Handle a session that cannot be read: it is damaged, or the machine is short of a resource."""
        if isinstance(error, Damaged):
            self._damaged = FileDamaged(self._account_dir.session_db.name, str(error))
            self._changed.set()
            return
        self._begin(bool(self.card.jid))
        self.handle(connection.Ended(str(error)))

    def _elsewhere(self, paired: bool) -> str:
        """Why it must not run here; empty if it may."""
        location, card = self.location, self.card
        if location and is_elsewhere(location, self._around.instance, card.jid if paired else None):
            return elsewhere_reason(location)
        if card.exported_ms and not paired:
            return f"its session was exported on {to_minute(card.exported_ms)}"
        return ""

    async def ended(self) -> None:
        """Wait until nothing runs any more with a session that WhatsApp has ended.

        Its worker reports that before it has ended itself, and until then the library may still have the keys open.
        """
        if self.status.state is State.LOGGED_OUT:
            await self._wait_until_stopped()

    async def pair(self) -> None:
        """Open the pairing window, or extend it.  Raises Conflict if it is paired."""
        paired = await self.is_paired()
        self._check_not_removed()
        if paired and self._is_logged_out and self.worker is None:
            # WhatsApp has dropped these keys, but nothing of an account is ever deleted.
            self._account_dir.set_aside(self._account_dir.session_db, self._stamp(), "logged-out")
            paired = False
        if not paired and self.card.jid:
            # The next pairing creates a new device.
            await self.keeper.change(jid="", lid="", ended=None)
        until = self.clock.monotonic() + self._around.options.pairing_window
        self.handle(connection.Pair(until, paired))
        await self._enable(True)

    async def check_unpaired(self) -> None:
        """Raise Conflict if there is a session already, or a running worker that may create one."""
        paired = await self.is_paired()
        self._check_not_removed()
        if paired:
            raise Conflict(
                f"account {self.id} has a session already ({self.status.state})",
                hint="use another --id for another account, or remove this one (restorable): wadctl account remove",
            )
        if self.worker is not None or self.status.worker:
            raise Conflict(
                f"account {self.id} is being paired",
                hint=f"stop it first: wadctl account stop {self.id}",
            )

    async def take_session(self, file: Path) -> None:
        """Run with this session from now on; its file is moved to the account.  Raises as above, StateUnwritable."""
        await self.check_unpaired()
        self._account_dir.take_session(file, self._stamp())
        await self.keeper.change(enabled=True, ended=None)
        await self.begin()

    async def start(self) -> None:
        """Run again after stopped, replaced or failed.  Raises Conflict, Damaged."""
        self._check_not_removed()
        if self._is_logged_out:
            raise Conflict(
                f"account {self.id} is logged out", hint=f"wadctl account pair {self.id}"
            )
        if not self.card.enabled or self.card.ended is not None:
            await self.keeper.change(enabled=True, ended=None)
        await self.begin()

    async def stop(self) -> None:
        """Stop, also after a restart of wad.  Returns when the worker has ended."""
        await self._enable(False)
        self.handle(connection.Stop())
        await self._wait_until_stopped()

    async def log_out(self) -> None:
        """Remove this device from the account at WhatsApp.  Raises Conflict, EngineFailure."""
        if self.worker is None or self.status.state is not State.CONNECTED:
            raise Conflict(
                f"account {self.id} is {self.status.state}: only a connected account can log out",
                hint="remove the device on the phone (Linked devices), or wadctl account remove",
            )
        await self.worker.log_out()
        self.handle(connection.LoggedOut("logged out by the operator"))
        await self._wait_until_stopped()

    async def step_down(self, why: str = connection.NO_LEASE) -> None:
        """Stop for the loss of the lease or the removal of the account: returns when the worker is certainly dead."""
        self.handle(connection.StepDown(why))
        await self._wait_until_stopped()

    async def _enable(self, enabled: bool) -> None:
        now_ms = self.clock.wall_ms()
        if self.card.enabled != enabled:
            await self.keeper.change(enabled=enabled, stopped_ms=0 if enabled else now_ms)
        elif self.card.stopped_why:  # now an operator has confirmed it
            await self.keeper.change(stopped_ms=now_ms, stopped_why="")

    async def rename(self, name: str) -> None:
        """Change its name.  Raises StateUnwritable."""
        await self.keeper.change(name=name)

    async def set_auto_reply(self, wanted: AutoReply) -> None:
        """Store the settings of automatic replies, which other programs use.  Raises StateUnwritable."""
        await self.keeper.change(auto_reply=wanted)
        self._unpublished.set()

    async def set_backfill_result(self, done: BackfillResult) -> None:
        """Store the result of a history backfill.  Raises StateUnwritable."""
        await self.keeper.change(backfill=done)
        self._unpublished.set()

    async def exported(self) -> None:
        """Record that its session was exported and is not here any more."""
        await self.keeper.change(exported_ms=self.clock.wall_ms(), enabled=True, ended=None)
        if self.status.state is not State.PASSIVE:
            await self.begin()

    async def imported(self, card: AccountCard) -> None:
        """Record the import of a session that was exported with `card`.  Raises StateUnwritable."""
        await self.keeper.change(
            jid=card.jid, lid=card.lid, push_name=card.push_name, phone=card.phone, enabled=True, exported_ms=0,
            auto_reply=card.auto_reply, backfill=card.backfill, ended=None,
        )  # fmt: skip

    # --- what others see --------------------------------------------------------------------------

    @property
    def problems(self) -> list[Problem]:
        """Its current problems, in addition to its state."""
        notes = [text for text, copy in self._notes if not copy or self.quarantine.has_copy(copy)]
        found = [self._problem("notice", text, subject=text) for text in notes]
        if self.card.stopped_why and self.status.state is State.STOPPED:
            found.append(self._problem("stopped_unsure", f"it is stopped: {self.card.stopped_why}"))
        if self.storage_blocked:
            found.append(self._problem("held", self.storage_blocked))
        if self.unsent:
            found.append(self._problem("unsent", self.unsent))
        if self._unsaved:
            text = f"rows of a damaged spool could not be saved yet: {self._unsaved}"
            found.append(self._problem("unsaved", text))
        if self.keeper.failure:
            found.append(self._problem("card_unwritten", self.keeper.failure))
        found += self.quarantine.problems
        if self.worker is not None and self.worker.receipts is Receipts.EARLY:
            text = "receipts are early: a worker that is killed may lose the newest messages"
            found.append(self._problem("receipts_early", text))
        confinement = self.worker.confinement if self.worker is not None else None
        if confinement is not None and confinement.missing:
            found.append(self._problem("confined_in_part", confinement.missing))
        if self.worker is not None and self.worker.dropped_output:
            found.append(self._problem("output_flood", self.worker.dropped_output))
        return found

    def _problem(self, code: str, text: str, *, subject: str = "") -> Problem:
        return Problem(code=code, text=text, account=self.id, subject=subject)

    @property
    def warnings(self) -> list[str]:
        """The texts of the problems."""
        return [problem.text for problem in self.problems]

    async def publish(self, epoch: int) -> None:
        """Write the status document if it has changed."""
        status = AccountStatus(
            account=self.id,
            name=self.card.name,
            state=self.status.state,
            reason=self.status.reason,
            since_ms=self.clock.wall_ms()
            - int((self.clock.monotonic() - self.status.since) * 1000),
            jid=self.card.jid,
            lid=self.card.lid,
            phone=self.card.phone,
            instance=self._around.instance,
            auto_reply=self.card.auto_reply,
            backfill=self.card.backfill,
        )
        if self._published is None or _but_since(status) != _but_since(self._published):
            await self._around.store.put_account(status, epoch=epoch)
            self._published = status


def _but_since(status: AccountStatus) -> AccountStatus:
    return msgspec.structs.replace(status, since_ms=0)
