"""Chats whose next message could not be sent: how long each waits, and when the patience with a message ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wad.core.outbox import Entry
from wad.lib.clock import Clock

PATIENCE: Final = 5
"""Refusals after which a message has failed."""
_LONGEST: Final = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class _Wait:
    entry: str
    count: int
    until: float


class Refusals:
    """What a connected library refuses, by chat.  `first`: seconds of the first pause, which doubles each time.

    A chat waits with all that it has: its order is kept, and others go on.
    """

    def __init__(self, clock: Clock, first: float) -> None:
        self._clock = clock
        self._first = first
        self._waits: dict[str, _Wait] = {}

    def note(self, entry: Entry) -> bool:
        """A refusal of this message; whether it was one too many.  Then it is forgotten."""
        known = self._waits.get(entry.thread)
        count = known.count + 1 if known is not None and known.entry == entry.id else 1
        if count >= PATIENCE:
            self.forget(entry)
            return True
        pause = min(_LONGEST, self._first * 2.0 ** (count - 1))
        self._waits[entry.thread] = _Wait(entry.id, count, self._clock.monotonic() + pause)
        return False

    def forget(self, entry: Entry) -> None:
        """Its chat may go on."""
        self._waits.pop(entry.thread, None)

    @property
    def waiting(self) -> set[str]:
        """The chats (threads' ids) that wait now."""
        now = self._clock.monotonic()
        return {thread for thread, wait in self._waits.items() if wait.until > now}

    def due(self, after: float) -> float | None:
        """When the first chat may try again that still waited at `after` (monotonic); None where none did.

        It may be past: who looked at `after` has not seen that this chat may go on.
        """
        return min(
            (wait.until for wait in self._waits.values() if wait.until > after), default=None
        )
