"""The queue of accounts whose worker waits to start: a few start at once, the longest-waiting first.

Starting a worker means loading an interpreter and a library of 40 MB, a fifth of a second of a core.  Hundreds at once
would slow down each other, and everything else on the machine, hundreds of times.  So a worker takes a turn, and
releases it as soon as the expensive part is over: it has loaded, or ended, or sent no report for some seconds.  What
follows (dialling, logging in, waiting for a network) costs little, and needs no turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

_HOLD: Final = 10.0  # seconds after which a start without a report loses its turn


class Turn:
    """A place in the queue.  `is_granted`: the worker may start, until the turn is released."""

    def __init__(self, queue: StartQueue, on_granted: Callable[[], None]) -> None:
        self._queue = queue
        self._on_granted = on_granted
        self._timer: asyncio.TimerHandle | None = None
        self.is_granted = False

    def grant(self, hold: float) -> None:
        """Let it start; without a release its turn ends after `hold` seconds."""
        self.is_granted = True
        self._timer = asyncio.get_running_loop().call_later(hold, self.release)
        self._on_granted()

    def release(self) -> None:
        """Release the turn, or leave the queue.  Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._queue.end(self)


class StartQueue:
    """At most `width` workers start at once."""

    def __init__(self, width: int, hold: float = _HOLD) -> None:
        self._width = width
        self._hold = hold
        self._waiting: deque[Turn] = deque()
        self._starting: set[Turn] = set()

    @property
    def waiting(self) -> int:
        """The number of waiting accounts."""
        return len(self._waiting)

    def wait(self, on_granted: Callable[[], None], *, first: bool = False) -> Turn:
        """Enter the queue; `on_granted` is called when the turn is granted, at once if one is free.

        `first`: an operator waits for it, so it is granted before all that only reconnect.
        """
        turn = Turn(self, on_granted)
        if first:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        self._grant_next()
        return turn

    def end(self, turn: Turn) -> None:
        """End a turn, and grant the next one."""
        if turn in self._starting:
            self._starting.remove(turn)
        elif not turn.is_granted and turn in self._waiting:
            self._waiting.remove(turn)
        self._grant_next()

    def _grant_next(self) -> None:
        while self._waiting and len(self._starting) < self._width:
            turn = self._waiting.popleft()
            self._starting.add(turn)
            turn.grant(self._hold)
