"""Limits for the clients of a socket: the number of connections and the memory of all of them together.

Pure rules.  When all slots are in use, the least active connection is closed, and no user can take the slots or the
memory of another.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wad.core.errors import Unavailable, WadError

_SLOW_HELLO: Final = 1.0  # seconds without HELLO after which a connection may be closed for another


@dataclass(eq=False)
class ControlClient:
    """A client's connection.  Times are seconds on the clock of `Clients`."""

    uid: int
    connected_at: float
    disconnect: Callable[[WadError], None]
    """Closes the connection with this error."""
    greeted: bool = False
    requests: int = 0
    """The number of requests in flight."""
    idle_since: float = 0.0


class Clients:
    """The connection slots of a socket.  When all are in use, the least active client is disconnected.

    `now` returns seconds.
    """

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self._limit = limit
        self._now = now
        self._connected: set[ControlClient] = set()

    def __len__(self) -> int:
        return len(self._connected)

    def enter(self, uid: int, disconnect: Callable[[WadError], None]) -> ControlClient | None:
        """Take a slot; None when all are in use and no client may be disconnected for this one."""
        if len(self._connected) >= self._limit:
            evicted = self._evictable(uid)
            if evicted is None:
                return None
            self._connected.discard(evicted)
            evicted.disconnect(
                Unavailable("disconnected: all connections are in use and this one was idle")
            )
        client = ControlClient(uid, self._now(), disconnect, idle_since=self._now())
        self._connected.add(client)
        return client

    def left(self, client: ControlClient) -> None:
        """Free the client's slot, if it still has one."""
        self._connected.discard(client)

    def begin(self, client: ControlClient) -> None:
        """Count a request that begins."""
        client.requests += 1

    def done(self, client: ControlClient) -> None:
        """Count a request that has ended."""
        client.requests -= 1
        client.idle_since = self._now()

    def _evictable(self, newcomer: int) -> ControlClient | None:
        """The client to disconnect, of the user with most slots: the longest without HELLO, else the longest idle.

        A user with fewer slots may also take the newest busy slot of that user.
        """
        counts = Counter(client.uid for client in self._connected)
        most = max(counts.values())
        heavy = [client for client in self._connected if counts[client.uid] == most]
        before = self._now() - _SLOW_HELLO
        silent = [
            client for client in heavy if not client.greeted and client.connected_at <= before
        ]
        if silent:
            return min(silent, key=lambda client: client.connected_at)
        idle = [client for client in heavy if client.greeted and not client.requests]
        if idle:
            return min(idle, key=lambda client: client.idle_since)
        if counts[newcomer] + 1 < most:
            return max(heavy, key=lambda client: client.connected_at)
        return None


@dataclass
class _Waiting:
    owner: int
    size: int
    admitted: asyncio.Future[None]


@dataclass
class Budget:
    """The bytes that large frames of all clients may take at once.  One owner may have at most half of them."""

    total: int
    _used: Counter[int] = field(default_factory=Counter)
    _queue: deque[_Waiting] = field(default_factory=deque)

    @property
    def used(self) -> int:
        """The number of bytes in use."""
        return self._used.total()

    async def take(self, owner: int, size: int) -> None:
        """Wait until `size` bytes are free.  First come, first served, except for owners that have too much."""
        waiting = _Waiting(owner, size, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._admit()
        try:
            await waiting.admitted
        except asyncio.CancelledError:
            if waiting.admitted.done() and not waiting.admitted.cancelled():
                self.give(owner, size)
            else:
                self._queue.remove(waiting)
                self._admit()
            raise

    def give(self, owner: int, size: int) -> None:
        """Give `size` bytes back."""
        self._used[owner] -= size
        if not self._used[owner]:
            del self._used[owner]
        self._admit()

    def _fits(self, owner: int, size: int) -> bool:
        return self.used + size <= self.total and self._used[owner] + size <= self.total // 2

    def _admit(self) -> None:
        for waiting in list(self._queue):
            if waiting.admitted.done():
                continue  # cancelled: it removes itself
            if self._fits(waiting.owner, waiting.size):
                self._queue.remove(waiting)
                self._used[waiting.owner] += waiting.size
                waiting.admitted.set_result(None)


class UnreadReplies:
    """The replies that clients have not read.  Beyond a limit, the client with most unread bytes is disconnected."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[Callable[[], None], int] = {}

    @property
    def total(self) -> int:
        """The number of unread bytes."""
        return sum(self._waiting.values())

    def has_room(self, size: int) -> bool:
        """Whether `size` more bytes fit without disconnecting a client."""
        return self.total + size <= self._limit

    def add(self, hang_up: Callable[[], None], size: int) -> None:
        """Add `size` unread bytes (or subtract them) for the client that `hang_up` disconnects."""
        left = self._waiting.get(hang_up, 0) + size
        if left > 0:
            self._waiting[hang_up] = left
        else:
            self._waiting.pop(hang_up, None)
        while self._waiting and self.total > self._limit:
            worst = max(self._waiting, key=self._waiting.__getitem__)
            del self._waiting[worst]
            worst()

    def forget(self, hang_up: Callable[[], None]) -> None:
        """Remove the client."""
        self._waiting.pop(hang_up, None)
