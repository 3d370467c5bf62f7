"""How much happened lately: times of the last five minutes, for a number that can be read without looking it up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

_SPAN: Final = 300.0  # seconds
_MOST: Final = 100_000  # times that are kept: more than an account can send in the span


class Recent:
    """Counts what is noted.  `now` gives seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._times: deque[float] = deque(maxlen=_MOST)

    def note(self) -> None:
        """It happened once more."""
        self._times.append(self._now())

    @property
    def count(self) -> int:
        """How often in the last five minutes."""
        oldest = self._now() - _SPAN
        while self._times and self._times[0] < oldest:
            self._times.popleft()
        return len(self._times)
