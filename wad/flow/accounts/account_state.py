"""The state of an account, driven by `core.connection`.

All changes use `handle`: one step of the state machine, one line in the journal and on the bus, and a wake-up for the
account's task.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from wad import __version__
from wad.core import connection, end_state
from wad.core.connection import State, Status, step
from wad.core.masking import masked
from wad.core.message import Message
from wad.core.session_location import SessionLocation
from wad.engine.port import (
    Worker,
)
from wad.flow.accounts.card_keeper import CardKeeper
from wad.flow.accounts.start_queue import Turn
from wad.flow.accounts.surroundings import Surroundings
from wad.flow.inbound.pipeline import HistoryAnswer
from wad.flow.inbound.recent import Recent
from wad.lib.clock import stamp
from wad.lib.loops import Loop
from wad.state.account_dir import AccountDir
from wad.state.card import AccountCard, ReadCard
from wad.store.port import AccountStatus

log = logging.getLogger(__name__)

_NOTES = 20  # notices that are kept for an operator


class AccountState:
    """The state of an account, its card, and notices for an operator."""

    def __init__(
        self, account_dir: AccountDir, card: ReadCard, around: Surroundings, unpublished: asyncio.Event
    ) -> None:
        self._account_dir = account_dir
        self._unpublished = unpublished
        self._around = around
        self.id = account_dir.id
        self.clock = around.clock
        self.loops = around.loops
        self.keeper = CardKeeper(account_dir, card, around.threads, around.loops, around.clock)
        """The keeper of its card."""
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
        self.is_being_removed = False
        self._has_begun = False
        self.storage_blocked = ""
        self.unsent = ""  # why nothing can be sent now
        self.location: SessionLocation | None = None
        self.session = ""
        """The fingerprint of its worker's session; empty until it is logged in."""
        self.qr_ms: int | None = None
        self.left_ms: int | None = (
            None  # when the last connection ended, unless it is connected now
        )
        self._notes: list[tuple[str, str]] = []  # with the name of the copy, if it is about one
        self.on_connected: Callable[[], None] = lambda: None
        self.on_recorded: Callable[[list[Message]], None] = lambda messages: None
        self.on_answer: Callable[[HistoryAnswer], None] = lambda answer: None
        self.owner_of: Callable[[str], str] = lambda phone: ""
        """The other account with this phone number; empty for none."""
        self._changed = asyncio.Event()
        self._launching = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop: Loop | None = None
        self._turn: Turn | None = None
        self._published: AccountStatus | None = None

    @property
    def account_dir(self) -> AccountDir:
        """Its directory."""
        return self._account_dir

    @property
    def card(self) -> AccountCard:
        """The account's identity, and whether it should run, as of now."""
        return self.keeper.card

    def handle(self, event: connection.Input) -> None:
        """Handle one input of the state machine.  Raises Conflict if it refuses an order."""
        before, now = self.status, self.clock.monotonic()
        chance = random.random()
        self.status = step(before, event, now, chance, self._around.options.retry_delays)
        if self.status == before:
            return
        self._store_end_state(now)
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
            self._release_turn()
        if self.status.state is State.CONNECTED is not before.state:
            self.logins += 1
            self.on_connected()
        elif before.state is State.CONNECTED is not self.status.state:
            self.left_ms = self.clock.wall_ms()

    def _store_end_state(self, now: float) -> None:
        """Store the end state, or its end: a restart of wad does not change it."""
        wall_ms = self.clock.wall_ms()
        ended = end_state.to_store(self.card.ended, self.status, now, wall_ms, __version__)
        if ended != self.card.ended:
            self.keeper.note(ended=ended)

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
        self._unpublished.set()

    def _release_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.release()

    def _settle_idle(self) -> None:
        if self.worker is None and not self.status.worker and not self._launching:
            self._idle.set()
        else:
            self._idle.clear()

    def _set_blocked(self, why: str) -> None:
        if why and why != self.storage_blocked:
            log.error("%s", why, extra={"account": self.id})
        self.storage_blocked = why

    def warn(self, text: str, *, copy: str = "") -> None:
        """Show a warning until the daemon restarts, or until this copy of a file is removed."""
        if (text, copy) in self._notes:
            return
        log.warning("%s", masked(text), extra={"account": self.id})
        self._notes = [*self._notes[1 - _NOTES :], (text, copy)]
        self._around.bus.publish("account", text, account=self.id)

    def restart(self) -> None:
        """Replace the worker.  Raises Conflict if none runs."""
        self.handle(connection.Restart())

    def _stamp(self) -> str:
        return stamp(self.clock)
