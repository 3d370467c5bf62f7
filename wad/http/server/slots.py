"""The connection slots of the HTTP server: their number, a reserve for probes, and the memory of unread responses.

Pure rules.  When all slots are in use, the connection that is longest without a complete request, or does not read its
response, is closed.  A client that sends a body or reads at a fair rate counts as connected later.
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
_READ: Final = 32 << 10  # bytes per read from a connection
_PIPELINED: Final = 8  # pipelined requests per iteration of the event loop
_CROWD: Final = 50  # clients, after which memory is returned to the system
_NEW: Final = 1.0  # seconds in which a new connection keeps its slot, so that a burst does not displace itself


class SlotHolder(Protocol):
    """A connection that holds a slot."""

    since: float
    """Since when it holds its slot without a complete request; NEVER: a request is being answered."""

    @property
    def unsent(self) -> int:
        """The unsent bytes of its response."""
        ...

    def go_on(self) -> None:
        """Begin the next pipelined request."""
        ...

    def check(self, now: float) -> None:
        """Close the connection if a deadline has passed."""
        ...

    def give_way(self) -> None:
        """Close at once: another connection needs the slot."""
        ...

    def stop(self) -> None:
        """Close after the next response."""
        ...

    def abort(self) -> None:
        """Close at once, without sending anything."""
        ...


@dataclass
class Counters:
    """Counts of connections and requests since the start."""

    connections: int = 0
    requests: int = 0
    refused: int = 0
    """Requests that the application did not get."""
    displaced: int = 0
    """Connections that were closed to free a slot or memory for others."""
    timed_out: int = 0
    disagreements: int = 0
    """Requests for which uvicorn's parser found another end: none, unless a library changed."""


class Slots:
    """The slots of one server.  `now` returns monotonic seconds, `soon` schedules a call on the event loop."""

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
        """The read buffer that all connections share; each copies its bytes at once."""
        self.empty = asyncio.Event()
        """Set while no client is connected."""
        self.empty.set()
        self._peak = (
            0  # most clients at once since the last call of crowd_left() that returned True
        )
        self._taken: set[SlotHolder] = set()
        self._reserve: set[SlotHolder] = set()
        self._unsent: set[SlotHolder] = set()
        self._waiting: deque[SlotHolder] = deque()

    @property
    def taken(self) -> int:
        """The number of slots in use, without the reserve."""
        return len(self._taken)

    @property
    def clients(self) -> tuple[SlotHolder, ...]:
        """The connected clients, those in the reserve last."""
        return (*self._taken, *self._reserve)

    @property
    def unsent(self) -> int:
        """The unsent bytes of all responses."""
        return sum(client.unsent for client in self._unsent)

    def enter(self, client: SlotHolder) -> bool:
        """Take a slot, perhaps in the reserve; False when there is none."""
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
        self._peak = max(self._peak, len(self._taken) + len(self._reserve))
        return True

    def is_reserve(self, client: SlotHolder) -> bool:
        """Whether the client has a reserve slot."""
        return client in self._reserve

    def left(self, client: SlotHolder) -> None:
        """Free the client's slot, if it still has one."""
        self._taken.discard(client)
        self._reserve.discard(client)
        self._unsent.discard(client)
        if not self._taken and not self._reserve:
            self.empty.set()

    def wait(self, client: SlotHolder) -> None:
        """Queue a pipelined request: a few are begun at a time, first come, first served.

        Clients that do not pipeline are served in between.
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
        """Note a client that reads slowly.  Beyond the limit, the client with most unsent bytes is closed."""
        self._unsent.add(client)
        while self._unsent and self.unsent > self.limits.unsent_bytes:
            worst = max(self._unsent, key=lambda each: each.unsent)
            self.counters.displaced += 1
            self.left(worst)
            worst.abort()

    def flows(self, client: SlotHolder) -> None:
        """The client has read everything."""
        self._unsent.discard(client)

    def sweep(self) -> None:
        """Check the deadlines of all connections."""
        now = self.now()
        for client in self.clients:
            client.check(now)

    def crowd_left(self) -> bool:
        """Whether many clients were connected and most have left; True once per such peak."""
        if self._peak < _CROWD or len(self._taken) + len(self._reserve) > self._peak // 4:
            return False
        self._peak = 0
        return True

    def stop(self) -> None:
        """Begin the shutdown: running and arriving requests are the last ones."""
        self.stopping = True
        for client in self.clients:
            client.stop()

    def end(self) -> None:
        """Close all connections."""
        for client in self.clients:
            self.left(client)
            client.abort()

    def _make_room(self, among: set[SlotHolder], before: float) -> None:
        """Close the connection that holds its slot longest, if it has held it since `before`."""
        oldest = min(among, key=lambda client: client.since, default=None)
        if oldest is not None and oldest.since <= before:
            self.counters.displaced += 1
            self.left(oldest)
            oldest.give_way()
