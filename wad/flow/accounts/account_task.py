"""The task of an account, which alone starts and ends its workers."""

from __future__ import annotations

import asyncio
import logging

from wad.core import connection
from wad.core.connection import State
from wad.core.errors import (
    Damaged,
    TimedOut,
    WadError,
)
from wad.core.jid import Jid
from wad.engine.port import (
    FileDamaged,
    Identity,
    LibraryLoaded,
    Report,
    Spooled,
    StorageBlocked,
    Worker,
)
from wad.flow.accounts.account_files import AccountFiles
from wad.lib.loops import Loop, shown

log = logging.getLogger(__name__)

_MARGIN = 3.0
"""Seconds in addition to a worker's timeout or permission, within which its end must have been detected."""


class AccountTask(AccountFiles):
    """An account with its worker."""

    async def run(self, loop: Loop) -> None:
        """Start and end the worker as the status requires, forever."""
        self._loop = loop
        await self.quarantine.list_copies()
        await self._carry_over()
        while True:
            self._changed.clear()
            now = self.clock.monotonic()
            if self._carry_over_retry_at is not None and now >= self._carry_over_retry_at:
                await self._carry_over()
            if self.keeper.retry_at is not None and now >= self.keeper.retry_at:
                self.keeper.hurry()
            await self._align()
            loop.progress()
            await self._pause()

    async def _align(self) -> None:
        if self._damaged is not None and self.worker is None:
            await self._replace_damaged()
        elif self.status.worker and self.worker is None:
            if self._turn is None:
                # An operator waits for a code; all others only reconnect.
                first = self.status.pair_until is not None
                self._turn = self._around.start_queue.wait(self._changed.set, first=first)
            if self._turn.is_granted:
                await self._launch()
        elif not self.status.worker:
            self._release_turn()
            if self.worker is not None:
                await self._halt(self.worker)

    async def _pause(self) -> None:
        status = self.status
        # The worker's time is counted from its start, not from the request.
        until = None if self.worker is None else status.worker_until
        wanted = (
            status.retry_at, until, status.pair_until, status.settles_at, self._carry_over_retry_at,
            self.keeper.retry_at,
        )  # fmt: skip
        times = [at for at in wanted if at is not None]
        left = None if not times else max(0.0, min(times) - self.clock.monotonic())
        try:
            async with asyncio.timeout(left):
                await self._changed.wait()
        except TimeoutError:
            self.handle(connection.Due())

    async def _launch(self) -> None:
        permit = self._around.permit()
        if permit <= 0:
            self._release_turn()
            self.handle(connection.StepDown())
            return
        if refusal := self._around.refusal():
            self._release_turn()
            self.handle(connection.Ended(refusal))
            return
        self._launching = True
        self._settle_idle()
        try:
            if not await self._is_spool_ready():
                return
            self._launched(await self._around.engine.launch(self._account_dir, self._report, permit))
        except WadError as error:
            self.handle(connection.Ended(str(error)))
        except Exception as error:
            # After any error the account retries like after any end, and callers that wait for its stop must not hang.
            self.handle(connection.Ended(f"cannot start a worker: {shown(error)}"))
            raise
        finally:
            self._launching = False
            if self.worker is None:
                self._release_turn()
            self._settle_idle()

    async def _is_spool_ready(self) -> bool:
        """Open the spool before a worker writes to it; False if it is damaged.  Raises StateUnwritable, Unavailable."""
        try:
            await self.inbound.ready()
        except Damaged as error:
            self._spool_damaged(error)
            return False
        return True

    def _launched(self, worker: Worker) -> None:
        if self.worker_started_ms:
            self.restarts += 1
        self.worker, self.session = worker, ""
        self.worker_started_ms = self.clock.wall_ms()
        worker.ended.add_done_callback(self._ended)
        self.handle(connection.Launched())

    def _ended(self, why: asyncio.Future[str]) -> None:
        self.worker = None
        try:
            self._release_turn()
            self._set_blocked("")
            self.inbound.wake()
            if self._damaged is None:
                self.handle(connection.Ended(why.result()))
        finally:
            self._settle_idle()
            self._changed.set()

    async def _halt(self, worker: Worker) -> None:
        left = self._around.permit() if self.status.state is State.PASSIVE else float("inf")
        try:
            await worker.stop(min(self._around.options.stop_timeout, left))
        except Exception:
            await worker.stop(0)  # after any error it must not continue to act
            raise

    def permit(self, until: float) -> None:
        """The lease was renewed: permit the worker to act until then."""
        if self.worker is not None and self.status.worker:
            self.worker.permit(until)

    async def _wait_until_stopped(self) -> None:
        """Wait until no worker runs.  The account's task, which ends it, may be in back-off: it retries now.

        A worker that cannot be ended gets no further permission to act, and ends itself.  Raises TimedOut if even that
        was not detected.
        """
        if self._loop is not None:
            self._loop.retry_now()
        timeout = max(self._around.permit(), self._around.options.stop_timeout) + _MARGIN
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            raise TimedOut(
                f"the worker of account {self.id} did not end within {timeout:.0f} s",
                hint="check the log; `wadctl restart` certainly ends it",
            ) from None

    # --- the worker's reports -----------------------------------------------------------------------

    def _report(self, report: Report) -> None:
        match report:
            case Spooled():
                self.inbound.wake()
            case LibraryLoaded():
                self._release_turn()
            case Identity(jid, lid, push_name, session):
                self.session = session
                self._identified(jid, lid, push_name)
            case StorageBlocked(why):
                self._set_blocked(why)
            case FileDamaged():
                self._damaged = report
            case _:
                self.handle(report)

    def _identified(self, jid: str, lid: str, push_name: str) -> None:
        known = (self.card.jid, self.card.lid, self.card.push_name)
        if jid and known != (jid, lid, push_name):
            phone = f"+{Jid.parse(jid).user}"
            if other := self.owner_of(phone):
                # A compromised worker may report any number: two accounts must not have the same one.
                self.warn(f"reports the phone number {phone}, which belongs to account {other}")
                phone = self.card.phone
            elif self.card.phone and self.card.phone != phone:
                self.warn(f"was added for {self.card.phone} but is paired with {phone}")
            self.keeper.note(jid=jid, lid=lid, push_name=push_name, phone=phone, exported_ms=0)
            self._unpublished.set()
