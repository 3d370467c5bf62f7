"""The worker of an account: its start in the start queue, its reports, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from wad.core import connection
from wad.core.connection import State
from wad.core.errors import TimedOut, WadError
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
from wad.flow.accounts.account_state import AccountState
from wad.flow.accounts.start_queue import Turn
from wad.flow.accounts.surroundings import Surroundings
from wad.flow.accounts.worker_slot import WorkerSlot
from wad.lib.loops import shown
from wad.state.account_dir import AccountDir

_MARGIN: Final = 3.0
"""Seconds in addition to a worker's timeout or permission, within which its end must have been detected."""


class AccountWorker:
    """Starts and ends the worker of one account.  Only the account's task calls `start` and `end`.

    `wake` wakes that task.
    """

    def __init__(
        self,
        account_dir: AccountDir,
        around: Surroundings,
        state: AccountState,
        slot: WorkerSlot,
        files: AccountFiles,
        *,
        wake: Callable[[], None],
        on_identity: Callable[[Identity], None],
    ) -> None:
        self._account_dir = account_dir
        self._around = around
        self._state = state
        self._slot = slot
        self._files = files
        self._wake = wake
        self._on_identity = on_identity
        self._turn: Turn | None = None
        self._code_requested: tuple[Worker, str] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        state.on_changed = self._on_state

    def _on_state(self) -> None:
        self._settle_idle()
        if self._state.status.qr or self._state.status.state is State.CONNECTED:
            self._release_turn()
        self._request_code()
        self._wake()

    def _request_code(self) -> None:
        """Request a code of eight characters, where one is wanted and can be requested now."""
        status, worker = self._state.status, self._slot.worker
        if worker is None or not status.needs_pairing_code:
            return
        request = (worker, status.pairing_phone)
        if self._code_requested == request:
            return
        self._code_requested = request
        self._around.loops.once(
            "pairing code", self._request_code_of(*request), account=self._account_dir.id
        )

    async def _request_code_of(self, worker: Worker, phone: str) -> None:
        outcome: connection.Input
        try:
            outcome = connection.PairingCode(phone, await worker.pairing_code(phone))
        except WadError as error:
            outcome = connection.PairingCodeRefused(phone, str(error))
        finally:
            if self._code_requested == (worker, phone):
                self._code_requested = None
        if self._slot.worker is worker:
            self._state.handle(outcome)

    def _settle_idle(self) -> None:
        if self._slot.is_empty and not self._state.status.worker:
            self._idle.set()
        else:
            self._idle.clear()

    def _release_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.release()

    # --- its start ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the worker if it has a turn in the start queue; else wait in the queue."""
        if self._turn is None:
            # An operator waits for a code; all others only reconnect.
            first = self._state.status.pair_until is not None
            self._turn = self._around.start_queue.wait(self._wake, first=first)
        if self._turn.is_granted:
            await self._launch()

    async def _launch(self) -> None:
        permit = self._around.permit()
        if permit <= 0:
            self._release_turn()
            self._state.handle(connection.StepDown())
            return
        if refusal := self._around.refusal():
            self._release_turn()
            self._state.handle(connection.Ended(refusal))
            return
        self._slot.is_starting = True
        self._settle_idle()
        try:
            if not await self._files.is_spool_ready():
                return
            launching = self._around.engine.launch(self._account_dir, self._report, permit)
            self._launched(await launching)
        except WadError as error:
            self._state.handle(connection.Ended(str(error)))
        except Exception as error:
            # After any error the account retries like after any end, and callers that wait for its stop must not hang.
            self._state.handle(connection.Ended(f"cannot start a worker: {shown(error)}"))
            raise
        finally:
            self._slot.is_starting = False
            if self._slot.worker is None:
                self._release_turn()
            self._settle_idle()

    def _launched(self, worker: Worker) -> None:
        self._slot.fill(worker, self._around.clock.wall_ms())
        worker.ended.add_done_callback(self._ended)
        self._state.handle(connection.Launched())

    # --- its end ------------------------------------------------------------------------------------

    def _ended(self, why: asyncio.Future[str]) -> None:
        self._slot.clear()
        try:
            self._release_turn()
            self._files.inbound.wake()
            if self._files.damage is None:
                self._state.handle(connection.Ended(why.result()))
        finally:
            self._settle_idle()
            self._wake()

    async def end(self) -> None:
        """End the worker, or leave the start queue."""
        self._release_turn()
        worker = self._slot.worker
        if worker is None:
            return
        passive = self._state.status.state is State.PASSIVE
        left = self._around.permit() if passive else float("inf")
        try:
            await worker.stop(min(self._around.options.stop_timeout, left))
        except Exception:
            await worker.stop(0)  # after any error it must not continue to act
            raise

    def permit(self, until: float) -> None:
        """The lease was renewed: permit the worker to act until then."""
        if self._slot.worker is not None and self._state.status.worker:
            self._slot.worker.permit(until)

    async def wait_until_ended(self) -> None:
        """Wait until no worker runs, and none is to run.

        A worker that cannot be ended gets no further permission to act, and ends itself.  Raises TimedOut if even that
        was not detected.
        """
        timeout = max(self._around.permit(), self._around.options.stop_timeout) + _MARGIN
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            raise TimedOut(
                f"the worker of account {self._account_dir.id} did not end within {timeout:.0f} s",
                hint="check the log; `wadctl restart` certainly ends it",
            ) from None

    # --- its reports --------------------------------------------------------------------------------

    def _report(self, report: Report) -> None:
        match report:
            case Spooled():
                self._files.inbound.wake()
            case LibraryLoaded():
                self._release_turn()
            case Identity():
                self._slot.session = report.session
                self._on_identity(report)
            case StorageBlocked(why):
                self._slot.block_storage(why)
            case FileDamaged():
                self._files.damage = report
            case _:
                self._state.handle(report)
