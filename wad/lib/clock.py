"""The clocks of the machine, as one value that is passed in.

BOOTTIME advances while the machine sleeps; a lease and a worker's permission must not outlive a suspended laptop.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The interface of a clock."""

    def monotonic(self) -> float:
        """Seconds on CLOCK_BOOTTIME: never set, advances in suspend."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970, for display."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def monotonic(self) -> float:
        """Seconds since boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000


def stamp(clock: Clock) -> str:
    """The time in sortable form, for a file name."""
    return datetime.fromtimestamp(clock.wall_ms() / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
