"""A counter of recent events: the number within the last five minutes, available without I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

_SPAN: Final = 300.0  # seconds
_MAX_TIMES: Final = 100_000  # more than an account can send in the span


class Recent:
    """Counts events.  `now` returns seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._times: deque[float] = deque(maxlen=_MAX_TIMES)

    def note(self) -> None:
        """Count one event."""
        self._times.append(self._now())

    @property
    def count(self) -> int:
        """The number within the last five minutes."""
        oldest = self._now() - _SPAN
        while self._times and self._times[0] < oldest:
            self._times.popleft()
        return len(self._times)
