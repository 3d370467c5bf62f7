"""One account: its task brings the worker into line with what `core.connection` says, and tells it what happened.

Everything that changes an account goes through `Account.tell`: one step of the state machine, one line in the journal
and on the bus, and a wake-up for the account's task, which alone starts and ends workers.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from wad import __version__
from wad.core import connection, end_state
from wad.core.auto_reply import AutoReply
from wad.core.connection import RetryDelays, State, Status, step
from wad.core.errors import (
    Conflict,
    Damaged,
    TimedOut,
    Unavailable,
    WadError,
)
from wad.core.history import BackfillResult
from wad.core.jid import Jid
from wad.core.masking import masked
from wad.core.message import Message
from wad.core.problem import Problem
from wad.core.session_location import SessionLocation, elsewhere_reason, is_elsewhere, to_minute
from wad.core.spool_gap import Gap
from wad.engine import Engine
from wad.engine.port import (
    FileDamaged,
    Identity,
    LibraryLoaded,
    Receipts,
    Report,
    Spooled,
    StorageBlocked,
    Worker,
)
from wad.flow.accounts.account_quarantine import AccountQuarantine
from wad.flow.accounts.card_keeper import CardKeeper
from wad.flow.accounts.start_queue import StartQueue, Turn
from wad.flow.event_bus import Bus
from wad.flow.inbound.pipeline import HistoryAnswer, Inbound
from wad.flow.inbound.recent import Recent
from wad.lib import open_files
from wad.lib.clock import Clock, stamp
from wad.lib.loops import Loop, Loops, shown
from wad.lib.threads import ThreadPool, cores
from wad.state import spool_replacement
from wad.state.account_dir import AccountDir
from wad.state.card import AccountCard, ReadCard
from wad.state.spool import Spool
from wad.store import Store
from wad.store.port import AccountStatus, Cursor
from wad.store.session_registry import LocalSessionRegistry, SessionRegistry

log = logging.getLogger(__name__)

_PATIENCE = (
    3.0  # seconds, beside those that a worker may take or act, until its end must have been seen
)
_NOTES = 20  # sentences that are kept for an operator
_CARRY_OVER_AGAIN = 30.0  # seconds
_SPOOL_HANDLES = 8  # the database, its log, the index of that; and room for the worker, without which it is no use


@dataclass(frozen=True, slots=True)
class AccountOptions:
    """Times in seconds, sizes in rows."""

    patience: RetryDelays
    pairing_window: float = 600.0
    stop_timeout: float = 6.0
    batch: int = 500
    retention_days: float = 14.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every account shares."""

    engine: Engine
    store: Store
    bus: Bus
    clock: Clock
    loops: Loops
    options: AccountOptions
    permit: Callable[[], float]
    """Seconds for which a worker may act from now; 0 when the lease is not held."""
    instance: str
    refusal: Callable[[], str] = lambda: ""
    """Why no worker may run on this machine now (the disk is nearly full); empty when they may."""
    places: SessionRegistry = field(default_factory=LocalSessionRegistry)
    """Which instance has which session."""
    turns: StartQueue = field(default_factory=lambda: StartQueue(cores()))
    """Whose worker starts next."""
    threads: ThreadPool = field(default_factory=lambda: ThreadPool("account", cores()))
    """Where the small files of accounts are read: their workers write these, and none must hold up all others."""


class Account:
    """One account: its state, its worker while there is one, its inbound road."""

    def __init__(
        self, home: AccountDir, card: ReadCard, around: Surroundings, news: asyncio.Event
    ) -> None:
        self._home = home
        self._news = news
        self._around = around
        self.id = home.id
        self.clock = around.clock
        self.loops = around.loops
        self.keeper = CardKeeper(home, card, around.threads, around.loops, around.clock)
        """Of its card."""
        self.keeper.on_failure = lambda: self._changed.set()
        self.status = Status(since=around.clock.monotonic())
        self.worker: Worker | None = None
        self.worker_started_ms = 0
        self.restarts = 0
        self.logins = 0
        self.sent = 0
        self.refused = 0
        self.sent_lately = Recent(around.clock.monotonic)
        self.refused_lately = Recent(around.clock.monotonic)
        self.is_leaving = False
        self._has_begun = False
        self.held = ""
        self.unsent = ""  # why nothing can be sent now
        self.place: SessionLocation | None = None
        self.session = ""
        """Of its worker, as the engine calls it; empty until it is logged in."""
        self.qr_ms: int | None = None
        self.left_ms: int | None = None  # when it was connected last, unless it is now
        self._notes: list[
            tuple[str, str]
        ] = []  # with the copy that each is about, if it is about one
        self.on_connected: Callable[[], None] = lambda: None
        self.on_recorded: Callable[[list[Message]], None] = lambda messages: None
        self.on_answer: Callable[[HistoryAnswer], None] = lambda answer: None
        self.whose: Callable[[str], str] = lambda phone: ""
        """The other account that has this number; empty for none."""
        self._changed = asyncio.Event()
        self._launching = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop: Loop | None = None
        self._damaged: FileDamaged | None = None
        self._unsaved = ""  # why rows of a damaged spool could not be carried over yet
        self._carry_over_at: float | None = None
        self._turn: Turn | None = None
        self._published: AccountStatus | None = None
        self.inbound = Inbound(
            home.id,
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

        self.kept = AccountQuarantine(home, around.engine, self.inbound, self.keeper)

    @property
    def home(self) -> AccountDir:
        """Its directory."""
        return self._home

    @property
    def card(self) -> AccountCard:
        """Who it is, and whether it should run, as of now."""
        return self.keeper.card

    # --- orders -----------------------------------------------------------------------------

    def leave(self) -> None:
        """From now on nothing may start it: it is being put away.  Raises Conflict where it is already."""
        self._check_staying()
        self.is_leaving = True

    def stay(self) -> None:
        """It could not be put away."""
        self.is_leaving = False

    def _check_staying(self) -> None:
        if self.is_leaving:
            raise Conflict(f"account {self.id} is being removed")

    async def is_paired(self) -> bool:
        """Whether a session lies on the disk.  Raises Damaged, EngineFailure, Unavailable.

        On a thread: the worker writes that file, and at the beginning of a reign this account is one of many.
        """
        return await self._around.threads.run(self._around.engine.is_paired, self._home)

    async def begin(self) -> None:
        """The lease is ours: run, unless an operator stopped it or only an operator can start it.

        Raises Conflict where it is being removed.
        """
        self._check_staying()
        await self.keeper.read()
        if not self.card.enabled:
            self.tell(connection.Stop(self._stopped_at(), self.card.stopped_why))
            return
        paired: bool | WadError | OSError
        try:
            paired = await self.is_paired()
        except (WadError, OSError) as error:
            paired = error
        if self.is_leaving or not self.card.enabled:
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
            rest = None  # the lease was won anew: whoever had it had the session, and does not use it any more
        self._has_begun = True
        self.tell(connection.Begin(paired, self._elsewhere(paired), rest))

    def _stopped_at(self) -> float | None:
        """When it was stopped, on the monotonic clock; None where that is not known."""
        ago_ms = self.clock.wall_ms() - self.card.stopped_ms
        known = self.card.stopped_ms and ago_ms >= 0
        return self.clock.monotonic() - ago_ms / 1000 if known else None

    @property
    def _is_logged_out(self) -> bool:
        """Whether it was logged out and not paired since, also while it is stopped."""
        ended = self.card.ended
        return ended is not None and ended.state == State.LOGGED_OUT

    def _cannot_begin(self, error: WadError | OSError) -> None:
        """The session cannot be looked at: it is damaged, or the machine is short of something for now."""
        if isinstance(error, Damaged):
            self._damaged = FileDamaged(self._home.session_db.name, str(error))
            self._changed.set()
            return
        self._begin(bool(self.card.jid))
        self.tell(connection.Ended(str(error)))

    def _elsewhere(self, paired: bool) -> str:
        """Why it must not run here; empty where it may."""
        place, card = self.place, self.card
        if place and is_elsewhere(place, self._around.instance, card.jid if paired else None):
            return elsewhere_reason(place)
        if card.exported_ms and not paired:
            return f"its session was exported on {to_minute(card.exported_ms)}"
        return ""

    async def ended(self) -> None:
        """Return once nothing runs any more with a session that WhatsApp has ended.

        Its worker says so before it has ended itself, and until then the library may still hold the keys.
        """
        if self.status.state is State.LOGGED_OUT:
            await self._at_rest()

    async def pair(self) -> None:
        """Open the pairing window, or make it longer.  Raises Conflict when it is paired."""
        paired = await self.is_paired()
        self._check_staying()
        if paired and self._is_logged_out and self.worker is None:
            # WhatsApp has forgotten these keys, but nothing of an account is ever deleted.
            self._home.set_aside(self._home.session_db, self._stamp(), "logged-out")
            paired = False
        if not paired and self.card.jid:
            # Whoever scans the code is a device of its own.
            await self.keeper.change(jid="", lid="", ended=None)
        until = self.clock.monotonic() + self._around.options.pairing_window
        self.tell(connection.Pair(until, paired))
        await self._enable(True)

    async def check_unpaired(self) -> None:
        """Raise Conflict where a session lies here already, or a worker runs that may make one."""
        paired = await self.is_paired()
        self._check_staying()
        if paired:
            raise Conflict(
                f"account {self.id} has a session already ({self.status.state})",
                hint="another --id makes another account; wadctl account remove puts this one away",
            )
        if self.worker is not None or self.status.worker:
            raise Conflict(
                f"account {self.id} is being paired", hint=f"wadctl account stop {self.id} first"
            )

    async def take_session(self, file: Path) -> None:
        """Run with this session from now on; its file becomes the account's.  Raises as above, StateUnwritable."""
        await self.check_unpaired()
        self._home.take_session(file, self._stamp())
        await self.keeper.change(enabled=True, ended=None)
        await self.begin()

    async def start(self) -> None:
        """Run again after stopped, replaced or failed.  Raises Conflict, Damaged."""
        self._check_staying()
        if self._is_logged_out:
            raise Conflict(
                f"account {self.id} is logged out", hint=f"wadctl account pair {self.id}"
            )
        if not self.card.enabled or self.card.ended is not None:
            await self.keeper.change(enabled=True, ended=None)
        await self.begin()

    async def stop(self) -> None:
        """Stop and stay stopped.  Returns when the worker is gone."""
        await self._enable(False)
        self.tell(connection.Stop())
        await self._at_rest()

    def restart(self) -> None:
        """Take a fresh worker.  Raises Conflict when none runs."""
        self.tell(connection.Restart())

    async def log_out(self) -> None:
        """Make the phone forget this device.  Raises Conflict, EngineFailure."""
        if self.worker is None or self.status.state is not State.CONNECTED:
            raise Conflict(
                f"account {self.id} is {self.status.state}: only a connected account can log out",
                hint="remove the device on the phone (Linked devices), or wadctl account remove",
            )
        await self.worker.log_out()
        self.tell(connection.LoggedOut("logged out by the operator"))
        await self._at_rest()

    async def step_down(self, why: str = connection.NO_LEASE) -> None:
        """The lease goes, or the account: returns when the worker is dead for sure."""
        self.tell(connection.StepDown(why))
        await self._at_rest()

    async def _at_rest(self) -> None:
        """Return once no worker runs.  The account's task, which ends it, may be failing: it tries at once.

        A worker that cannot be ended gets no further permission to act, and ends itself.  Raises TimedOut when even
        that was not seen.
        """
        if self._loop is not None:
            self._loop.retry_now()
        patience = max(self._around.permit(), self._around.options.stop_timeout) + _PATIENCE
        try:
            async with asyncio.timeout(patience):
                await self._idle.wait()
        except TimeoutError:
            raise TimedOut(
                f"the worker of account {self.id} was not seen to end within {patience:.0f} s",
                hint="look at the log; `wadctl restart` ends it for sure",
            ) from None

    async def _enable(self, enabled: bool) -> None:
        now_ms = self.clock.wall_ms()
        if self.card.enabled != enabled:
            await self.keeper.change(enabled=enabled, stopped_ms=0 if enabled else now_ms)
        elif self.card.stopped_why:  # now it is an operator's word
            await self.keeper.change(stopped_ms=now_ms, stopped_why="")

    async def rename(self, name: str) -> None:
        """Give it another name for people.  Raises StateUnwritable."""
        await self.keeper.change(name=name)

    async def set_auto_reply(self, wanted: AutoReply) -> None:
        """Keep what whoever writes replies is to do.  Raises StateUnwritable."""
        await self.keeper.change(auto_reply=wanted)
        self._news.set()

    async def filled(self, done: BackfillResult) -> None:
        """The phone was asked for its history.  Raises StateUnwritable."""
        await self.keeper.change(backfill=done)
        self._news.set()

    async def exported(self) -> None:
        """Its session was given away: it is not here any more."""
        await self.keeper.change(exported_ms=self.clock.wall_ms(), enabled=True, ended=None)
        if self.status.state is not State.PASSIVE:
            await self.begin()

    async def imported(self, card: AccountCard) -> None:
        """The session that `card` was given away with lies here now.  Raises StateUnwritable."""
        await self.keeper.change(
            jid=card.jid, lid=card.lid, push_name=card.push_name, phone=card.phone, enabled=True, exported_ms=0,
            auto_reply=card.auto_reply, backfill=card.backfill, ended=None,
        )  # fmt: skip

    # --- what happens -------------------------------------------------------------------------

    def tell(self, event: connection.Input) -> None:
        """One step of the state machine.  Raises Conflict where it refuses an order."""
        before, now = self.status, self.clock.monotonic()
        chance = random.random()
        self.status = step(before, event, now, chance, self._around.options.patience)
        if self.status == before:
            return
        self._remember(now)
        self._settle_idle()
        self._changed.set()
        if self.status.qr != before.qr:
            self.qr_ms = self.clock.wall_ms() if self.status.qr else None
        if (before.state, before.reason, before.qr) != (
            self.status.state,
            self.status.reason,
            self.status.qr,
        ):
            self._announce(before)
        if self.status.qr or self.status.state is State.CONNECTED:
            self._leave_turn()
        if self.status.state is State.CONNECTED is not before.state:
            self.logins += 1
            self.on_connected()
        elif before.state is State.CONNECTED is not self.status.state:
            self.left_ms = self.clock.wall_ms()

    def _remember(self, now: float) -> None:
        """Write down how it came to rest, or that it goes on: after a restart it is the same."""
        wall_ms = self.clock.wall_ms()
        kept = end_state.to_store(self.card.ended, self.status, now, wall_ms, __version__)
        if kept != self.card.ended:
            self.keeper.note(ended=kept)

    def _announce(self, before: Status) -> None:
        after = self.status
        self._around.bus.publish(
            "state", f"{after.state}: {after.reason}", account=self.id,
            state=str(after.state), before=str(before.state), qr=after.qr,
        )  # fmt: skip
        if after.state is not before.state:
            level = logging.INFO if after.state in connection.WORKING else logging.WARNING
            log.log(
                level, "%s -> %s: %s", before.state, after.state, masked(after.reason),
                extra={"account": self.id},
            )  # fmt: skip
        self._news.set()

    def _report(self, report: Report) -> None:
        match report:
            case Spooled():
                self.inbound.wake()
            case LibraryLoaded():
                self._leave_turn()
            case Identity(jid, lid, push_name, session):
                self.session = session
                self._identified(jid, lid, push_name)
            case StorageBlocked(why):
                self._hold(why)
            case FileDamaged():
                self._damaged = report
            case _:
                self.tell(report)

    def _identified(self, jid: str, lid: str, push_name: str) -> None:
        known = (self.card.jid, self.card.lid, self.card.push_name)
        if jid and known != (jid, lid, push_name):
            phone = f"+{Jid.parse(jid).user}"
            if other := self.whose(phone):
                # Its worker says so, and may have been taken over: nobody is called by another's number.
                self.warn(f"says that its number is {phone}, which is account {other}")
                phone = self.card.phone
            elif self.card.phone and self.card.phone != phone:
                self.warn(f"was added for {self.card.phone} but is paired with {phone}")
            self.keeper.note(jid=jid, lid=lid, push_name=push_name, phone=phone, exported_ms=0)
            self._news.set()

    @property
    def problems(self) -> list[Problem]:
        """What an operator should see now, beside its state."""
        notes = [text for text, copy in self._notes if not copy or self.kept.has_copy(copy)]
        found = [self._problem("notice", text, subject=text) for text in notes]
        if self.card.stopped_why and self.status.state is State.STOPPED:
            found.append(self._problem("stopped_unsure", f"it is stopped: {self.card.stopped_why}"))
        if self.held:
            found.append(self._problem("held", self.held))
        if self.unsent:
            found.append(self._problem("unsent", self.unsent))
        if self._unsaved:
            text = f"what a damaged spool holds could not be saved yet: {self._unsaved}"
            found.append(self._problem("unsaved", text))
        if self.keeper.failure:
            found.append(self._problem("card_unwritten", self.keeper.failure))
        found += self.kept.problems
        if self.worker is not None and self.worker.receipts is Receipts.EARLY:
            text = "receipts are early: a worker that is killed may lose what just arrived"
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
        """The same as sentences."""
        return [problem.text for problem in self.problems]

    def _hold(self, why: str) -> None:
        if why and why != self.held:
            log.error("%s", why, extra={"account": self.id})
        self.held = why

    def warn(self, text: str, *, copy: str = "") -> None:
        """Something that an operator should see until the daemon restarts, or until this copy of a file is gone."""
        if (text, copy) in self._notes:
            return
        log.warning("%s", masked(text), extra={"account": self.id})
        self._notes = [*self._notes[1 - _NOTES :], (text, copy)]
        self._around.bus.publish("account", text, account=self.id)

    # --- the task ---------------------------------------------------------------------------------

    async def run(self, loop: Loop) -> None:
        """Keep worker and status in line, for ever."""
        self._loop = loop
        await self.kept.look()
        await self._carry_over()
        while True:
            self._changed.clear()
            now = self.clock.monotonic()
            if self._carry_over_at is not None and now >= self._carry_over_at:
                await self._carry_over()
            if self.keeper.again_at is not None and now >= self.keeper.again_at:
                self.keeper.hurry()
            await self._align()
            loop.progress()
            await self._pause()

    async def _align(self) -> None:
        if self._damaged is not None and self.worker is None:
            await self._mend()
        elif self.status.worker and self.worker is None:
            if self._turn is None:
                # A person waits for a code; all others start again by themselves.
                first = self.status.pair_until is not None
                self._turn = self._around.turns.wait(self._changed.set, first=first)
            if self._turn.has_come:
                await self._launch()
        elif not self.status.worker:
            self._leave_turn()
            if self.worker is not None:
                await self._halt(self.worker)

    def _leave_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.leave()

    async def _pause(self) -> None:
        status = self.status
        # The worker's time is counted from its start, not from when it was wanted.
        until = None if self.worker is None else status.worker_until
        wanted = (
            status.retry_at, until, status.pair_until, status.settles_at, self._carry_over_at, self.keeper.again_at,
        )  # fmt: skip
        times = [at for at in wanted if at is not None]
        left = None if not times else max(0.0, min(times) - self.clock.monotonic())
        try:
            async with asyncio.timeout(left):
                await self._changed.wait()
        except TimeoutError:
            self.tell(connection.Due())

    def _settle_idle(self) -> None:
        if self.worker is None and not self.status.worker and not self._launching:
            self._idle.set()
        else:
            self._idle.clear()

    async def _launch(self) -> None:
        permit = self._around.permit()
        if permit <= 0:
            self._leave_turn()
            self.tell(connection.StepDown())
            return
        if refusal := self._around.refusal():
            self._leave_turn()
            self.tell(connection.Ended(refusal))
            return
        self._launching = True
        self._settle_idle()
        try:
            if not await self._is_spool_ready():
                return
            self._begun(await self._around.engine.launch(self._home, self._report, permit))
        except WadError as error:
            self.tell(connection.Ended(str(error)))
        except Exception as error:
            # Whatever it is: the account tries again like after any end, and whoever waits for its rest must not hang.
            self.tell(connection.Ended(f"cannot start a worker: {shown(error)}"))
            raise
        finally:
            self._launching = False
            if self.worker is None:
                self._leave_turn()
            self._settle_idle()

    async def _is_spool_ready(self) -> bool:
        """Whether the spool is open here before a worker writes into it.  Raises StateUnwritable, Unavailable."""
        try:
            await self.inbound.ready()
        except Damaged as error:
            self._spool_damaged(error)
            return False
        return True

    def _begun(self, worker: Worker) -> None:
        if self.worker_started_ms:
            self.restarts += 1
        self.worker, self.session = worker, ""
        self.worker_started_ms = self.clock.wall_ms()
        worker.ended.add_done_callback(self._ended)
        self.tell(connection.Launched())

    def _ended(self, why: asyncio.Future[str]) -> None:
        self.worker = None
        try:
            self._leave_turn()
            self._hold("")
            self.inbound.wake()
            if self._damaged is None:
                self.tell(connection.Ended(why.result()))
        finally:
            self._settle_idle()
            self._changed.set()

    async def _halt(self, worker: Worker) -> None:
        left = self._around.permit() if self.status.state is State.PASSIVE else float("inf")
        try:
            await worker.stop(min(self._around.options.stop_timeout, left))
        except Exception:
            await worker.stop(0)  # whatever went wrong, it must not act on
            raise

    def permit(self, until: float) -> None:
        """The lease was renewed: the worker may go on until then."""
        if self.worker is not None and self.status.worker:
            self.worker.permit(until)

    def _open_spool(self) -> Spool:
        try:
            open_files.check_left(_SPOOL_HANDLES)
        except OSError as error:
            raise Unavailable(
                "too many files are open; each account needs about ten (LimitNOFILE=, ulimit -n)"
            ) from error
        return Spool.open(self._home.spool_db)

    # --- damaged files ------------------------------------------------------------------------------

    def _spool_damaged(self, error: Damaged) -> None:
        self._damaged = FileDamaged(self._home.spool_db.name, str(error))
        if self.worker is not None and self.status.worker:
            self.restart()
        self._changed.set()

    def _spool_replaced(self) -> bool:
        """Whether a worker may still write into the file that was; then it makes way, and its next one is ready."""
        if self.worker is None and not self._launching:
            return False
        if self.worker is not None and self.status.worker:
            self.warn("its spool.db was removed or replaced while it ran")
            self.restart()
        return True

    async def _note_gap(self, why: str) -> None:
        """Rows of the spool may be missing: that is told until an operator has seen it.  Raises StateUnwritable."""
        log.error("spool.db: %s", why, extra={"account": self.id})
        await self.keeper.change(gap=Gap(why=why, since_ms=self.clock.wall_ms()))

    async def _mend(self) -> None:
        """Set a damaged file aside by renaming; a spool begins anew with what could still be read."""
        damaged, self._damaged = self._damaged, None
        assert damaged is not None
        is_session = damaged.name == self._home.session_db.name
        try:
            aside = await (self._set_session_aside() if is_session else self._set_spool_aside())
        except WadError as error:
            self.warn(f"cannot set {damaged.name} aside: {error}")
            self.tell(connection.Ended(damaged.why))
            return
        await self.kept.look()
        self.warn(f"{damaged.why}; it was set aside as {aside.name}", copy=aside.name)
        if is_session:
            self.tell(connection.Begin(paired=True))
            self.tell(
                connection.Broken(
                    f"the session was damaged and set aside as {aside.name}; restore that file from a backup,"
                    " or pair again"
                )
            )
            return
        await self._carry_over()
        self.inbound.wake()
        self.tell(connection.Ended(damaged.why))

    async def _set_session_aside(self) -> Path:
        return await asyncio.to_thread(self._home.set_aside, self._home.session_db, self._stamp())

    async def _set_spool_aside(self) -> Path:
        return await self.inbound.exchange(self._exchange_spool)

    async def _exchange_spool(self, known: Cursor | None) -> Path:
        due = (
            spool_replacement.RecordedUpTo()
            if known is None
            else spool_replacement.RecordedUpTo(known.generation, known.seq)
        )
        return await asyncio.to_thread(spool_replacement.set_aside, self._home, self._stamp(), due)

    async def _carry_over(self) -> None:
        """Bring what copies of damaged spools still hold into the spool; what fails is tried again later."""
        self._carry_over_at = None
        try:
            for copy in await asyncio.to_thread(spool_replacement.pending, self._home):
                saved = await asyncio.to_thread(spool_replacement.carry_over, self._home, copy)
                whole = "" if saved.complete else "; others could not be read"
                text = (
                    f"of {copy.name} {saved.rows} rows that were not recorded yet were saved{whole}"
                )
                await self.kept.look()
                self.warn(text, copy=copy.name)
                self.inbound.wake()
            self._unsaved = ""
        except WadError as error:
            if str(error) != self._unsaved:
                fields = {"account": self.id}
                log.error("a damaged spool is not saved yet: %s", error, extra=fields)  # noqa: TRY400
            self._unsaved = str(error)
            self._carry_over_at = self.clock.monotonic() + _CARRY_OVER_AGAIN

    def _stamp(self) -> str:
        return stamp(self.clock)

    # --- publishing -----------------------------------------------------------------------------------

    async def publish(self, epoch: int) -> None:
        """Write the status document when it has changed."""
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
