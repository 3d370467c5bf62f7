"""Whose worker starts next: a few at once, in the order of who has waited longest.

To start a worker is to load an interpreter and a library of 40 MB, a fifth of a second of a core.  Hundreds at once
make each of them, and everything else on the machine, hundreds of times as slow.  So a worker takes a place, and
leaves it as soon as the dear part is over: it has loaded, or ended, or was not heard of for some seconds.  What it does
then (dial, log in, wait for a network that is away) costs little, and takes no place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

_HOLD: Final = 10.0  # seconds after which a start that says nothing gives way


class Turn:
    """One wish to start.  `has_come`: it may, until it has left."""

    def __init__(self, turns: StartQueue, on_come: Callable[[], None]) -> None:
        self._turns = turns
        self._on_come = on_come
        self._timer: asyncio.TimerHandle | None = None
        self.has_come = False

    def come(self, hold: float) -> None:
        """It may start; should nobody say that it has, its place is free after `hold` seconds."""
        self.has_come = True
        self._timer = asyncio.get_running_loop().call_later(hold, self.leave)
        self._on_come()

    def leave(self) -> None:
        """It has started, or does not want to any more.  Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._turns.left(self)


class StartQueue:
    """`width` places."""

    def __init__(self, width: int, hold: float = _HOLD) -> None:
        self._width = width
        self._hold = hold
        self._waiting: deque[Turn] = deque()
        self._starting: set[Turn] = set()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def wait(self, on_come: Callable[[], None], *, first: bool = False) -> Turn:
        """Queue up; `on_come` is called when the turn has come, at once if a place is free.

        `first`: a person waits for it, so it comes before those that only start again.
        """
        turn = Turn(self, on_come)
        if first:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        self._go_on()
        return turn

    def left(self, turn: Turn) -> None:
        """This one needs no place any more."""
        if turn in self._starting:
            self._starting.remove(turn)
        elif not turn.has_come and turn in self._waiting:
            self._waiting.remove(turn)
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and len(self._starting) < self._width:
            turn = self._waiting.popleft()
            self._starting.add(turn)
            turn.come(self._hold)
