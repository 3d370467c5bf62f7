"""A rate limiter: a token bucket that is full at first and fills evenly."""

from __future__ import annotations


class Rate:
    """A token bucket: `burst` at once, `per_second` in the long run.  `now`: seconds of a monotonic clock."""

    def __init__(self, burst: float, per_second: float, now: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token at `now`; False if there is none."""
        filled = (now - self._at) * self._per_second
        self._left, self._at = min(self._burst, self._left + max(0.0, filled)), now
        if self._left < 1:
            return False
        self._left -= 1
        return True
