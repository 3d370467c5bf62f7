"""What happens, as it happens, for whoever looks on.  Nothing is decided by it, and a slow reader holds up nobody."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from wad.core.brief import LINE
from wad.core.text import cut
from wad.lib.clock import Clock

_REMEMBERED: Final = 1000
_WAITING: Final = 1000


@dataclass(frozen=True, slots=True)
class BusEvent:
    """One thing that happened.  `kind`: state, message, outbox, account or daemon; never a message's text."""

    at_ms: int
    kind: str
    account: str
    text: str
    detail: dict[str, Any] = field(default_factory=dict)


class _Reader:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[BusEvent] = asyncio.Queue(_WAITING)
        self.missed = 0


class Bus:
    """Remembers the latest happenings and hands new ones to every follower."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._past: deque[BusEvent] = deque(maxlen=_REMEMBERED)
        self._readers: set[_Reader] = set()

    def publish(self, kind: str, text: str, *, account: str = "", **detail: Any) -> None:
        """Tell everybody who looks on."""
        detail = {
            name: cut(value, LINE) if isinstance(value, str) else value
            for name, value in detail.items()
        }
        happening = BusEvent(self._clock.wall_ms(), kind, account, cut(text, LINE), detail)
        self._past.append(happening)
        for reader in self._readers:
            try:
                reader.queue.put_nowait(happening)
            except asyncio.QueueFull:
                reader.missed += 1

    @property
    def past(self) -> list[BusEvent]:
        """What is remembered, the oldest first."""
        return list(self._past)

    @asynccontextmanager
    async def follow(
        self, *, last: int = 0, live: bool = True
    ) -> AsyncIterator[AsyncIterator[BusEvent]]:
        """The `last` happenings, and with `live` all that follow; a slow reader is told how many it missed."""
        reader = _Reader()
        past = self.past[-last:] if last else []
        self._readers.add(reader)
        try:
            yield self._read(reader, past, live)
        finally:
            self._readers.discard(reader)

    async def _read(
        self, reader: _Reader, past: list[BusEvent], live: bool
    ) -> AsyncIterator[BusEvent]:
        for happening in past:
            yield happening
        while live:
            if reader.missed and reader.queue.empty():
                text, reader.missed = f"{reader.missed} events were missed", 0
                yield BusEvent(self._clock.wall_ms(), "daemon", "", text)
            yield await reader.queue.get()
