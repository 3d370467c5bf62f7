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
from wad.core.errors import Conflict
from wad.core.masking import masked
from wad.flow.accounts.card_keeper import CardKeeper
from wad.flow.accounts.surroundings import Surroundings

log = logging.getLogger(__name__)


class AccountState:
    """The state of one account.  `on_connected` is called after each login."""

    def __init__(
        self,
        account: str,
        keeper: CardKeeper,
        around: Surroundings,
        *,
        unpublished: asyncio.Event,
        on_connected: Callable[[], None],
    ) -> None:
        self._account = account
        self._keeper = keeper
        self._around = around
        self._clock = around.clock
        self._unpublished = unpublished
        self._on_connected = on_connected
        self.on_changed: Callable[[], None] = lambda: None
        """Called after each change."""
        self.status = Status(since=around.clock.monotonic())
        self.is_being_removed = False
        self.logins = 0
        self.connected_ms = 0
        """When the last connection began, ms since 1970; 0 before the first one."""
        self.qr_ms: int | None = None
        self.left_ms: int | None = None
        """When the last connection ended; None before the first one has ended."""

    def handle(self, event: connection.Input) -> None:
        """Handle one input of the state machine.  Raises Conflict if it refuses an order."""
        before, now = self.status, self._clock.monotonic()
        chance = random.random()
        self.status = step(before, event, now, chance, self._around.options.retry_delays)
        if self.status == before:
            return
        self._store_end_state(now)
        self.on_changed()
        if self.status.qr != before.qr:
            self.qr_ms = self._clock.wall_ms() if self.status.qr else None
        if (before.state, before.reason, before.qr) != (
            self.status.state,
            self.status.reason,
            self.status.qr,
        ):
            self._announce(before)
        if self.status.state is State.CONNECTED is not before.state:
            self.logins += 1
            self.connected_ms = self._clock.wall_ms()
            self._on_connected()
        elif before.state is State.CONNECTED is not self.status.state:
            self.left_ms = self._clock.wall_ms()

    def restart(self) -> None:
        """Replace the worker.  Raises Conflict if none runs."""
        self.handle(connection.Restart())

    def check_not_removed(self) -> None:
        """Raise Conflict if the account is being removed: nothing may start it."""
        if self.is_being_removed:
            raise Conflict(f"account {self._account} is being removed")

    def _store_end_state(self, now: float) -> None:
        """Store the end state, or its end: a restart of wad does not change it."""
        known, wall_ms = self._keeper.card.ended, self._clock.wall_ms()
        ended = end_state.to_store(known, self.status, now, wall_ms, __version__)
        if ended != known:
            self._keeper.note(ended=ended)

    def _announce(self, before: Status) -> None:
        after = self.status
        self._around.bus.publish(
            "state", f"{after.state}: {after.reason}", account=self._account,
            state=str(after.state), before=str(before.state), qr=after.qr,
        )  # fmt: skip
        if after.state is not before.state:
            level = logging.INFO if after.state in connection.WORKING else logging.WARNING
            log.log(
                level, "%s -> %s: %s", before.state, after.state, masked(after.reason),
                extra={"account": self._account},
            )  # fmt: skip
        self._unpublished.set()
