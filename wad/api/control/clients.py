"""Who may stay on the control socket when it is crowded, and how much all of them together may hold in memory.

Rules alone: a place is given up by whoever uses it least, and no user takes the places or the memory of another.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wad.core.errors import Unavailable, WadError

_SLOW_HELLO: Final = 1.0  # seconds after which who has not said HELLO gives way to others


@dataclass(eq=False)
class ControlClient:
    """A connection.  Times are seconds on the clock of `Clients`."""

    uid: int
    came: float
    leave: Callable[[WadError], None]
    """Hang up, with this error."""
    greeted: bool = False
    requests: int = 0
    """In flight."""
    idle_since: float = 0.0


class Clients:
    """The places.  A client that finds none makes another go that uses its own least; `now` gives seconds."""

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self._most = most
        self._now = now
        self._inside: set[ControlClient] = set()

    def __len__(self) -> int:
        return len(self._inside)

    def enter(self, uid: int, leave: Callable[[WadError], None]) -> ControlClient | None:
        """A place; None where all are in use by clients that have as good a right to theirs."""
        if len(self._inside) >= self._most:
            loser = self._loser(uid)
            if loser is None:
                return None
            self._inside.discard(loser)
            loser.leave(
                Unavailable("hung up: all connections are in use, and this one did nothing")
            )
        client = ControlClient(uid, self._now(), leave, idle_since=self._now())
        self._inside.add(client)
        return client

    def left(self, client: ControlClient) -> None:
        """Its place is free, if it still had it."""
        self._inside.discard(client)

    def begin(self, client: ControlClient) -> None:
        """A request of it begins."""
        client.requests += 1

    def done(self, client: ControlClient) -> None:
        """A request of it has ended."""
        client.requests -= 1
        client.idle_since = self._now()

    def _loser(self, newcomer: int) -> ControlClient | None:
        """Who makes room: of the user with most places, who has not said HELLO, then who is idle, each the longest.

        Someone of a user with fewer places may also take the youngest place of that user that is in use.
        """
        counts = Counter(client.uid for client in self._inside)
        most = max(counts.values())
        heavy = [client for client in self._inside if counts[client.uid] == most]
        before = self._now() - _SLOW_HELLO
        silent = [client for client in heavy if not client.greeted and client.came <= before]
        if silent:
            return min(silent, key=lambda client: client.came)
        idle = [client for client in heavy if client.greeted and not client.requests]
        if idle:
            return min(idle, key=lambda client: client.idle_since)
        if counts[newcomer] + 1 < most:
            return max(heavy, key=lambda client: client.came)
        return None


@dataclass
class _Waiting:
    owner: int
    size: int
    admitted: asyncio.Future[None]


@dataclass
class Budget:
    """Bytes that large frames of all clients may take at once.  One owner has half of them at most."""

    total: int
    _used: Counter[int] = field(default_factory=Counter)
    _queue: deque[_Waiting] = field(default_factory=deque)

    @property
    def used(self) -> int:
        """Bytes in use."""
        return self._used.total()

    async def take(self, owner: int, size: int) -> None:
        """Wait until there is room; who came first is first, unless its owner has too much."""
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
        """So much is free again."""
        self._used[owner] -= size
        if not self._used[owner]:
            del self._used[owner]
        self._admit()

    def _fits(self, owner: int, size: int) -> bool:
        return self.used + size <= self.total and self._used[owner] + size <= self.total // 2

    def _admit(self) -> None:
        for waiting in list(self._queue):
            if waiting.admitted.done():
                continue  # it gives up, and takes itself out
            if self._fits(waiting.owner, waiting.size):
                self._queue.remove(waiting)
                self._used[waiting.owner] += waiting.size
                waiting.admitted.set_result(None)


class UnsentAnswers:
    """Answers that clients have not taken.  Beyond a limit whoever lets most of them wait is hung up on."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Callable[[], None], int] = {}

    @property
    def total(self) -> int:
        """Bytes that wait."""
        return sum(self._waiting.values())

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more may wait without anybody being hung up on."""
        return self.total + size <= self._most

    def add(self, hang_up: Callable[[], None], size: int) -> None:
        """So many bytes more (or fewer) wait for the client that `hang_up` ends."""
        left = self._waiting.get(hang_up, 0) + size
        if left > 0:
            self._waiting[hang_up] = left
        else:
            self._waiting.pop(hang_up, None)
        while self._waiting and self.total > self._most:
            worst = max(self._waiting, key=self._waiting.__getitem__)
            del self._waiting[worst]
            worst()

    def forget(self, hang_up: Callable[[], None]) -> None:
        """Nothing waits for it any more."""
        self._waiting.pop(hang_up, None)
