"""Who may be connected: a number of places, a reserve for probes, and the memory of answers that nobody takes.

Rules alone.  A place is for asking: when all are taken it is given up by whoever is longest without a complete request,
or does not take an answer.  Whoever works on a body, or reads, at a fair rate counts as having come later.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from wad.http.server.limits import HttpLimits

NEVER: Final = math.inf
_READ: Final = 32 << 10  # bytes at a time from a connection
_PIPELINED: Final = 8  # requests in a turn of the loop that came with another one
_CROWD: Final = 50  # clients whose memory is worth to be given back
_NEW: Final = 1.0  # seconds in which a new connection keeps its place: a burst of clients does not push itself out


class SlotHolder(Protocol):
    """A connection."""

    since: float
    """Since when it keeps its place without a complete request; NEVER: it has one, and it is being answered."""

    @property
    def unsent(self) -> int:
        """Bytes of its answer that wait for it."""
        ...

    def go_on(self) -> None:
        """Begin the next request, which came with the one before it."""
        ...

    def check(self, now: float) -> None:
        """End what lasts too long."""
        ...

    def give_way(self) -> None:
        """End at once: others need the place."""
        ...

    def stop(self) -> None:
        """End after the next answer."""
        ...

    def abort(self) -> None:
        """End at once, without another byte."""
        ...


@dataclass
class Counters:
    """What became of clients since the start."""

    connections: int = 0
    requests: int = 0
    refused: int = 0
    """Requests that were not given to the application."""
    displaced: int = 0
    """Connections that were closed because others needed the place, or the memory."""
    timed_out: int = 0
    disagreements: int = 0
    """Requests whose end the parser below saw elsewhere than we: none, unless a library changed."""


class Slots:
    """The places of one server.  `now` gives seconds that never go back, `soon` calls in the next turn of the loop."""

    def __init__(
        self,
        limits: HttpLimits,
        probes: frozenset[bytes],
        now: Callable[[], float],
        soon: Callable[[Callable[[], object]], object],
    ) -> None:
        self.limits = limits
        self.probes = probes
        self.now = now
        self._soon = soon
        self.counters = Counters()
        self.stopping = False
        self.buffer = memoryview(bytearray(_READ))
        """All connections read into it, one after the other; each keeps what it needs."""
        self.empty = asyncio.Event()
        """Nobody is connected."""
        self.empty.set()
        self._most = 0  # clients at once, since there were few
        self._taken: set[SlotHolder] = set()
        self._reserve: set[SlotHolder] = set()
        self._unsent: set[SlotHolder] = set()
        self._waiting: deque[SlotHolder] = deque()

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return len(self._taken)

    @property
    def clients(self) -> tuple[SlotHolder, ...]:
        """Who is connected, those in the reserve last."""
        return (*self._taken, *self._reserve)

    @property
    def unsent(self) -> int:
        """Bytes of answers that wait for their clients."""
        return sum(client.unsent for client in self._unsent)

    def enter(self, client: SlotHolder) -> bool:
        """Whether there is a place for it, perhaps in the reserve."""
        self.counters.connections += 1
        if len(self._taken) >= self.limits.connections:
            self._make_room(self._taken, self.now() - _NEW)
        if len(self._taken) < self.limits.connections:
            self._taken.add(client)
        else:
            if len(self._reserve) >= self.limits.reserve:
                self._make_room(self._reserve, self.now())
            if len(self._reserve) >= self.limits.reserve:
                self.counters.displaced += 1
                return False
            self._reserve.add(client)
        self.empty.clear()
        self._most = max(self._most, len(self._taken) + len(self._reserve))
        return True

    def is_reserve(self, client: SlotHolder) -> bool:
        """Whether it came when all places were taken."""
        return client in self._reserve

    def left(self, client: SlotHolder) -> None:
        """Its place is free, if it still had it."""
        self._taken.discard(client)
        self._reserve.discard(client)
        self._unsent.discard(client)
        if not self._taken and not self._reserve:
            self.empty.set()

    def wait(self, client: SlotHolder) -> None:
        """Its next request came with the one before it: a few of those at a time, first come, first served.

        Whoever sends one after the other is answered in between, however many are sent together.
        """
        self._waiting.append(client)
        if len(self._waiting) == 1:
            self._soon(self._go_on)

    def _go_on(self) -> None:
        for _ in range(min(_PIPELINED, len(self._waiting))):
            self._waiting.popleft().go_on()
        if self._waiting:
            self._soon(self._go_on)

    def stalled(self, client: SlotHolder) -> None:
        """It does not take its answer as fast as it comes.  Whoever has most of them waiting goes, beyond the limit."""
        self._unsent.add(client)
        while self._unsent and self.unsent > self.limits.unsent_bytes:
            worst = max(self._unsent, key=lambda each: each.unsent)
            self.counters.displaced += 1
            self.left(worst)
            worst.abort()

    def flows(self, client: SlotHolder) -> None:
        """It has taken everything."""
        self._unsent.discard(client)

    def sweep(self) -> None:
        """Let each end what lasts too long."""
        now = self.now()
        for client in self.clients:
            client.check(now)

    def crowd_left(self) -> bool:
        """Whether there was a crowd, and most of it has gone; it is said once."""
        if self._most < _CROWD or len(self._taken) + len(self._reserve) > self._most // 4:
            return False
        self._most = 0
        return True

    def stop(self) -> None:
        """Requests that are running, or come now, are the last ones."""
        self.stopping = True
        for client in self.clients:
            client.stop()

    def end(self) -> None:
        """Nobody stays."""
        for client in self.clients:
            self.left(client)
            client.abort()

    def _make_room(self, among: set[SlotHolder], before: float) -> None:
        """Close whoever keeps a place longest, of those that came to keep it before that time."""
        loser = min(among, key=lambda client: client.since, default=None)
        if loser is not None and loser.since <= before:
            self.counters.displaced += 1
            self.left(loser)
            loser.give_way()
