"""How often a connected library refused to send each message, and when the patience with one ends."""

from __future__ import annotations

from typing import Final

from wad.clock import Clock
from wad.core.outbox import NotSent

_PATIENCE: Final = 5


class Refusals:
    """What could not be sent and waits.  Refusals within `apart` seconds count once.

    The sender is woken by each new message, and tries the oldest: a cause that lasts would use up all patience within
    milliseconds.
    """

    def __init__(self, clock: Clock, apart: float) -> None:
        self._clock = clock
        self._apart = apart
        self._seen: dict[str, tuple[int, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._seen)

    def enough(self, ident: str, refusal: NotSent) -> bool:
        """Whether this one was one too many; those that say nothing against the message never are."""
        now = self._clock.monotonic()
        count, last = self._seen.get(ident, (0, float("-inf")))
        if not refusal.innocent and now - last >= self._apart:
            count, last = count + 1, now
        self._seen[ident] = (count, last)
        return count >= _PATIENCE

    def forget(self, ident: str) -> None:
        """It was settled."""
        self._seen.pop(ident, None)
