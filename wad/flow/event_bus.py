"""The event bus: events as they happen, for observers.  Nothing depends on it, and a slow reader delays nobody."""

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

_KEPT: Final = 1000  # past events
_PENDING: Final = 1000  # events that wait for a reader


@dataclass(frozen=True, slots=True)
class BusEvent:
    """One event.  `kind`: state, message, outbox, account or daemon; never contains a message's text."""

    at_ms: int
    kind: str
    account: str
    text: str
    detail: dict[str, Any] = field(default_factory=dict)


class _Reader:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[BusEvent] = asyncio.Queue(_PENDING)
        self.missed = 0


class Bus:
    """Keeps the latest events and delivers new ones to every reader."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._history: deque[BusEvent] = deque(maxlen=_KEPT)
        self._readers: set[_Reader] = set()

    def publish(self, kind: str, text: str, *, account: str = "", **detail: Any) -> None:
        """Deliver an event to all readers."""
        detail = {
            name: cut(value, LINE) if isinstance(value, str) else value
            for name, value in detail.items()
        }
        event = BusEvent(self._clock.wall_ms(), kind, account, cut(text, LINE), detail)
        self._history.append(event)
        for reader in self._readers:
            try:
                reader.queue.put_nowait(event)
            except asyncio.QueueFull:
                reader.missed += 1

    @property
    def history(self) -> list[BusEvent]:
        """The kept events, the oldest first."""
        return list(self._history)

    @asynccontextmanager
    async def follow(
        self, *, last: int = 0, live: bool = True
    ) -> AsyncIterator[AsyncIterator[BusEvent]]:
        """The `last` events, and with `live` all that follow; a slow reader gets the number of events it missed."""
        reader = _Reader()
        history = self.history[-last:] if last else []
        self._readers.add(reader)
        try:
            yield self._read(reader, history, live)
        finally:
            self._readers.discard(reader)

    async def _read(
        self, reader: _Reader, history: list[BusEvent], live: bool
    ) -> AsyncIterator[BusEvent]:
        for event in history:
            yield event
        while live:
            if reader.missed and reader.queue.empty():
                text, reader.missed = f"{reader.missed} events were missed", 0
                yield BusEvent(self._clock.wall_ms(), "daemon", "", text)
            yield await reader.queue.get()
