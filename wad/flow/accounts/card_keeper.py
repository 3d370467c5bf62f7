"""The card of an account while the daemon runs: its current content, and its file, written off the event loop.

One version is written after the other.  An operator's change takes effect once it is written, or is refused; an event
takes effect at once, and is written as soon as the disk accepts it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from wad.core.connection import State
from wad.core.errors import StateUnwritable, WadError
from wad.lib.clock import Clock
from wad.lib.loops import Loops
from wad.lib.threads import ThreadPool
from wad.state.account_dir import AccountDir
from wad.state.card import AccountCard, ReadCard

log = logging.getLogger(__name__)

RETRY: Final = 30.0  # seconds until a card that the disk refused is written again


class CardKeeper:
    """The card of one account.  Not for use from several threads."""

    def __init__(
        self,
        account_dir: AccountDir,
        found: ReadCard,
        threads: ThreadPool,
        loops: Loops,
        clock: Clock,
    ) -> None:
        self._account_dir = account_dir
        self._threads = threads
        self._loops = loops
        self._clock = clock
        self.card, _, self.unread = found
        self._written = self.card
        self._noted: dict[str, Any] = {}  # changes by events that are not written yet
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.failure = ""
        """Why changes by events cannot be written now; empty if they are written."""
        self.retry_at: float | None = None
        """The time of the next attempt, on the monotonic clock."""
        self.on_failure: Callable[[], None] = lambda: None

    async def read(self) -> None:
        """Read a card that could not be read before."""
        if self.unread:
            async with self._writing:
                await self._read()

    async def change(self, **changes: Any) -> None:
        """Write these fields, all of them or none.  Raises StateUnwritable; then the card is as it was."""
        # The caller may be cancelled: a thread cannot be stopped, and the next version must follow this one.
        await asyncio.shield(asyncio.ensure_future(self._change(changes)))

    async def _change(self, changes: dict[str, Any]) -> None:
        async with self._writing:
            await self._check_read()
            await self._write(_with(self.card, changes))
            self.card = _with(self.card, changes)  # an event may have changed it meanwhile

    async def enable(self, enabled: bool) -> None:
        """Record an operator's order to run or to stop.  Raises StateUnwritable."""
        now_ms = self._clock.wall_ms()
        if self.card.enabled != enabled:
            await self.change(enabled=enabled, stopped_ms=0 if enabled else now_ms)
        elif self.card.stopped_why:  # now an operator has confirmed it
            await self.change(stopped_ms=now_ms, stopped_why="")

    @property
    def is_logged_out(self) -> bool:
        """Whether the account was logged out and not paired since; also while it is stopped."""
        ended = self.card.ended
        return ended is not None and ended.state == State.LOGGED_OUT

    def note(self, **changes: Any) -> None:
        """Change these fields after an event; they are written soon."""
        self.card = _with(self.card, changes)
        self._noted |= changes
        self.hurry()

    def hurry(self) -> None:
        """Write pending changes now."""
        self.retry_at = None
        if self.card != self._written and (self._task is None or self._task.done()):
            self._task = self._loops.once("card", self._keep(), account=self._account_dir.id)

    async def settle(self) -> None:
        """Wait until changes by events are written, or the disk has refused them."""
        self.hurry()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _keep(self) -> None:
        try:
            while self.card != self._written:
                async with self._writing:
                    await self._check_read()
                    await self._write(self.card)
        except Exception as error:
            if str(error) != self.failure:
                fields = {"account": self._account_dir.id}
                log.error("cannot write the account's card: %s", error, extra=fields)  # noqa: TRY400
            self.failure = str(error)
            self.retry_at = self._clock.monotonic() + RETRY
            self.on_failure()
            if not isinstance(error, WadError):
                raise

    async def _write(self, card: AccountCard) -> None:
        await self._threads.run(self._account_dir.write_card, card)
        self._written = card
        self.failure = ""  # all that was refused before is in this card, too
        self._noted = {
            name: value for name, value in self._noted.items() if getattr(card, name) != value
        }

    async def _read(self) -> None:
        card, _, self.unread = await self._threads.run(self._account_dir.mended_card)
        if not self.unread:
            self._written = card
            card = _with(card, self._noted)
            if card == self._written:
                self.failure = ""  # what could not be written down is what the card says
        self.card = card

    async def _check_read(self) -> None:
        """Never overwrite a card that could not be read.  Raises StateUnwritable."""
        if self.unread:
            await self._read()
        if self.unread:
            raise StateUnwritable(f"cannot read the card of {self._account_dir.id}: {self.unread}")


def _with(card: AccountCard, changes: dict[str, Any]) -> AccountCard:
    if changes.get("enabled"):
        changes = {"stopped_ms": 0, "stopped_why": "", **changes}
    return msgspec.structs.replace(card, **changes)
