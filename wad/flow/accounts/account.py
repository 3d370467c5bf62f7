"""One account: the orders of operators and of the leader, carried out by the account's parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from wad.core import connection
from wad.core.auto_reply import AutoReply
from wad.core.connection import State, Status
from wad.core.errors import Conflict
from wad.core.history import BackfillResult
from wad.core.message import Message
from wad.core.problem import Problem
from wad.core.session_location import SessionLocation
from wad.engine.port import Worker
from wad.flow.accounts.account_files import AccountFiles
from wad.flow.accounts.account_identity import AccountIdentity
from wad.flow.accounts.account_pairing import AccountPairing
from wad.flow.accounts.account_problems import AccountProblems
from wad.flow.accounts.account_session import AccountSession
from wad.flow.accounts.account_start import AccountStart
from wad.flow.accounts.account_state import AccountState
from wad.flow.accounts.account_task import AccountTask
from wad.flow.accounts.account_worker import AccountWorker
from wad.flow.accounts.card_keeper import CardKeeper
from wad.flow.accounts.notices import Notices
from wad.flow.accounts.status_publisher import StatusPublisher
from wad.flow.accounts.surroundings import Surroundings
from wad.flow.accounts.worker_slot import WorkerSlot
from wad.flow.inbound.pipeline import HistoryAnswer
from wad.flow.inbound.recent import Recent
from wad.lib.cancellation import uncancellable
from wad.lib.loops import Loop
from wad.state.account_dir import AccountDir
from wad.state.card import AccountCard, ReadCard


class Account:
    """One account: its parts, and the orders for it."""

    def __init__(
        self,
        account_dir: AccountDir,
        card: ReadCard,
        around: Surroundings,
        unpublished: asyncio.Event,
        owner_of: Callable[[str], str],
    ) -> None:
        """`unpublished` is set when the status is to be published; `owner_of`: as in AccountIdentity."""
        self.id = account_dir.id
        self.account_dir = account_dir
        self.clock, self.loops = around.clock, around.loops
        self._unpublished = unpublished
        self.sent = 0
        self.refused = 0
        self.sent_lately = Recent(around.clock.monotonic)
        self.refused_lately = Recent(around.clock.monotonic)
        self.unsent = ""
        """Why nothing can be sent now; empty if messages can be sent."""
        self.on_connected: Callable[[], None] = lambda: None
        self.on_recorded: Callable[[list[Message]], None] = lambda messages: None
        self.on_answer: Callable[[HistoryAnswer], None] = lambda answer: None
        changed = asyncio.Event()
        wake = changed.set
        self.keeper = CardKeeper(account_dir, card, around.threads, around.loops, around.clock)
        self.keeper.on_failure = wake
        self.session = AccountSession(account_dir, around.engine, around.threads, around.clock)
        self._notices = Notices(self.id, around.bus)
        self._slot = WorkerSlot(self.id)
        self._state = AccountState(
            self.id, self.keeper, around, unpublished=unpublished, on_connected=lambda: self.on_connected()
        )  # fmt: skip
        self.files = AccountFiles(
            account_dir, around, self.keeper, self.session, self._state, self._slot, self._notices, wake=wake,
            on_recorded=lambda messages: self.on_recorded(messages), on_answer=lambda answer: self.on_answer(answer),
        )  # fmt: skip
        self.inbound, self.quarantine = self.files.inbound, self.files.quarantine
        identity = AccountIdentity(
            self.keeper, self._notices, owner_of=owner_of, on_changed=unpublished.set,
            on_addresses=self.inbound.note_own_addresses,
        )  # fmt: skip
        self._worker = AccountWorker(
            account_dir, around, self._state, self._slot, self.files, wake=wake, on_identity=identity.reported
        )  # fmt: skip
        self._task = AccountTask(
            around.clock, changed, self.keeper, self._state, self._slot, self.files, self._worker
        )
        self._problems = AccountProblems(
            self.id, self.keeper, self._notices, self._state, self._slot, self.files, lambda: self.unsent
        )  # fmt: skip
        self._start = AccountStart(around, self.keeper, self.session, self._state, self.files)
        self._pairing = AccountPairing(
            self.id, around, self.keeper, self.session, self._state, self._slot
        )
        self._publisher = StatusPublisher(self.id, around, self.keeper, self._state)

    # --- what others see ----------------------------------------------------------------------------

    @property
    def card(self) -> AccountCard:
        """The account's identity, and whether it should run, as of now."""
        return self.keeper.card

    @property
    def status(self) -> Status:
        """The state of its connection."""
        return self._state.status

    @property
    def logins(self) -> int:
        """The number of logins since the start of the daemon."""
        return self._state.logins

    @property
    def qr_ms(self) -> int | None:
        """When the present QR code was shown; None if there is none."""
        return self._state.qr_ms

    @property
    def left_ms(self) -> int | None:
        """When the last connection ended; None before the first one has ended."""
        return self._state.left_ms

    @property
    def worker(self) -> Worker | None:
        """Its worker, if one runs."""
        return self._slot.worker

    @property
    def worker_started_ms(self) -> int:
        """When its latest worker was started; 0 before the first."""
        return self._slot.started_ms

    @property
    def restarts(self) -> int:
        """How often its worker was started again."""
        return self._slot.restarts

    @property
    def session_mark(self) -> str:
        """The fingerprint of its worker's session; empty until it is logged in."""
        return self._slot.session

    @property
    def problems(self) -> list[Problem]:
        """Its current problems, in addition to its state."""
        return self._problems.current()

    @property
    def warnings(self) -> list[str]:
        """The texts of the problems."""
        return [problem.text for problem in self.problems]

    async def publish(self, epoch: int) -> None:
        """Write the status document if it has changed."""
        await self._publisher.publish(epoch)

    @property
    def location(self) -> SessionLocation | None:
        """The registered location of its session; None if none is known."""
        return self._start.location

    @location.setter
    def location(self, location: SessionLocation | None) -> None:
        self._start.location = location

    # --- its task -----------------------------------------------------------------------------------

    async def run(self, loop: Loop) -> None:
        """Start and end the worker as the status requires, forever."""
        await self._task.run(loop)

    def handle(self, event: connection.Input) -> None:
        """Handle one input of the state machine.  Raises Conflict if it refuses an order."""
        self._state.handle(event)

    def permit(self, until: float) -> None:
        """The lease was renewed: permit the worker to act until then."""
        self._worker.permit(until)

    def restart(self) -> None:
        """Replace the worker.  Raises Conflict if none runs."""
        self._state.restart()

    async def begin(self) -> None:
        """Run after the lease was acquired, unless an operator stopped it or only an operator can start it.

        Raises Conflict if it is being removed.
        """
        await self._start.begin()

    async def step_down(self, why: str = connection.NO_LEASE) -> None:
        """Stop for the loss of the lease or the removal of the account: returns when the worker is certainly dead."""
        self._state.handle(connection.StepDown(why))
        await self._task.wait_until_stopped()

    # --- its removal --------------------------------------------------------------------------------

    @property
    def is_being_removed(self) -> bool:
        """Whether nothing may start it any more."""
        return self._state.is_being_removed

    def begin_removal(self) -> None:
        """Start its removal: from now on nothing may start it.  Raises Conflict if it is being removed already."""
        self.check_not_removed()
        self._state.is_being_removed = True

    def cancel_removal(self) -> None:
        """Continue after a removal that failed."""
        self._state.is_being_removed = False

    def check_not_removed(self) -> None:
        """Raise Conflict if it is being removed."""
        self._state.check_not_removed()

    async def settle(self) -> None:
        """Wait until its session is not replaced any more, and its card is written or refused.

        Its directory may be renamed then, if it is being removed.
        """
        async with self.session.lock:
            await self.keeper.settle()

    # --- orders of an operator ----------------------------------------------------------------------

    async def start(self) -> None:
        """Run again after stopped, replaced or failed.  Raises Conflict, Damaged."""
        self.check_not_removed()
        if self.keeper.is_logged_out:
            raise Conflict(
                f"account {self.id} is logged out", hint=f"wadctl account pair {self.id}"
            )
        if not self.card.enabled or self.card.ended is not None:
            await self.keeper.change(enabled=True, ended=None)
        await self.begin()

    async def stop(self) -> None:
        """Stop, also after a restart of wad.  Returns when the worker has ended."""
        await self.keeper.enable(False)
        self._state.handle(connection.Stop())
        await self._task.wait_until_stopped()

    async def log_out(self) -> None:
        """Remove this device from the account at WhatsApp.  Raises Conflict, EngineFailure."""
        if self.worker is None or self.status.state is not State.CONNECTED:
            raise Conflict(
                f"account {self.id} is {self.status.state}: only a connected account can log out",
                hint="remove the device on the phone (Linked devices), or wadctl account remove",
            )
        await self.worker.log_out()
        self._state.handle(connection.LoggedOut("logged out by the operator"))
        await self._task.wait_until_stopped()

    async def ended(self) -> None:
        """Wait until nothing runs any more with a session that WhatsApp has ended.

        Its worker reports that before it has ended itself, and until then the library may still have the keys open.
        """
        if self.status.state is State.LOGGED_OUT:
            await self._task.wait_until_stopped()

    async def pair(self, phone: str = "") -> None:
        """Open the pairing window, or extend it; with `phone` (digits) a code for that phone is requested.

        Raises Conflict if it is paired.
        """
        await self._pairing.pair(phone)

    async def check_unpaired(self) -> None:
        """Raise Conflict if there is a session already, or a running worker that may create one."""
        await self._pairing.check_unpaired()

    async def take_session(self, file: Path) -> None:
        """Run with this session from now on; its file is moved to the account.  Raises as above, StateUnwritable.

        Completely or not at all, even if the caller is cancelled.
        """
        await uncancellable(self._take_session(file))

    async def _take_session(self, file: Path) -> None:
        await self._pairing.take_session(file)
        await self.begin()

    # --- changes of its card ------------------------------------------------------------------------

    async def set_auto_reply(self, wanted: AutoReply) -> None:
        """Store the settings of automatic replies, which other programs use.  Raises StateUnwritable."""
        await self.keeper.change(auto_reply=wanted)
        self._unpublished.set()

    async def set_backfill_result(self, done: BackfillResult) -> None:
        """Store the result of a history backfill.  Raises StateUnwritable."""
        await self.keeper.change(backfill=done)
        self._unpublished.set()
