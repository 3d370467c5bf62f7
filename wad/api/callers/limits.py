"""Rate limits for one caller's changes.  By token, not by address, since many users share an address behind a proxy.

Each caller has a token bucket per limit: it holds one minute's requests and refills evenly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from wad.api.operation import Limit
from wad.core.errors import LegacyRefusal

if TYPE_CHECKING:
    from wad.config.settings import HttpSettings


class CallerLimits:
    """The buckets of all callers.  `now` returns seconds."""

    def __init__(self, rates: Mapping[Limit, int], now: Callable[[], float]) -> None:
        self._rates = rates
        self._now = now
        self._buckets: dict[tuple[str, Limit], tuple[float, float]] = {}

    @property
    def size(self) -> int:
        """The number of buckets that are not full."""
        return len(self._buckets)

    def take(self, caller: str, limit: Limit) -> None:
        """Count one request.  Raises LegacyRefusal 429 when the limit is exceeded."""
        rate = self._rates[limit]
        if rate == 0:
            return
        now = self._now()
        if len(self._buckets) > 1000:
            self._forget_full(now)
        left = self._left(caller, limit, now)
        if left < 1:
            raise _too_many(limit, rate, math.ceil((1 - left) * 60 / rate))
        self._buckets[caller, limit] = left - 1, now

    def _left(self, caller: str, limit: Limit, now: float) -> float:
        rate = self._rates[limit]
        left, at = self._buckets.get((caller, limit), (rate, now))
        return min(rate, left + (now - at) * rate / 60)

    def _forget_full(self, now: float) -> None:
        for caller, limit in list(self._buckets):
            if self._left(caller, limit, now) >= self._rates[limit]:
                del self._buckets[caller, limit]


def rates_of(settings: HttpSettings) -> dict[Limit, int]:
    """The requests per minute for each limit; 0 is unlimited."""
    return {
        Limit.SEND: settings.rate_send,
        Limit.ACCOUNTS: settings.rate_accounts,
        Limit.QR: settings.rate_qr,
    }


def _too_many(limit: Limit, rate: int, wait: int) -> LegacyRefusal:
    return LegacyRefusal(
        429,
        "rate_limited",
        f"more than {rate} {limit} in a minute; try again in {wait} s",
        {"retryAfterSeconds": wait},
    )
