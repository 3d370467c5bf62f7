"""Back-off of chats whose next message could not be sent, and the limit of attempts for a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wad.core.outbox import Entry
from wad.lib.clock import Clock

MAX_REFUSALS: Final = 5
"""Refusals after which a message has failed."""
_MAX_PAUSE: Final = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class _Wait:
    entry: str
    count: int
    until: float


class Refusals:
    """Refusals of a connected library, by chat.  `first`: seconds of the first pause, which doubles each time.

    All messages of a chat wait: its order is kept, and other chats go on.
    """

    def __init__(self, clock: Clock, first: float) -> None:
        self._clock = clock
        self._first = first
        self._waits: dict[str, _Wait] = {}

    def note(self, entry: Entry) -> bool:
        """Count a refusal of this message; returns whether the limit is reached, which resets the count."""
        known = self._waits.get(entry.thread)
        count = known.count + 1 if known is not None and known.entry == entry.id else 1
        if count >= MAX_REFUSALS:
            self.forget(entry)
            return True
        pause = min(_MAX_PAUSE, self._first * 2.0 ** (count - 1))
        self._waits[entry.thread] = _Wait(entry.id, count, self._clock.monotonic() + pause)
        return False

    def forget(self, entry: Entry) -> None:
        """Let its chat go on."""
        self._waits.pop(entry.thread, None)

    @property
    def waiting(self) -> set[str]:
        """The thread ids of the chats that wait now."""
        now = self._clock.monotonic()
        return {thread for thread, wait in self._waits.items() if wait.until > now}

    def due(self, after: float) -> float | None:
        """The time of the first retry among chats that still waited at `after` (monotonic); None if none did.

        It may have passed: a caller that checked at `after` has not seen that this chat may go on.
        """
        return min(
            (wait.until for wait in self._waits.values() if wait.until > after), default=None
        )
