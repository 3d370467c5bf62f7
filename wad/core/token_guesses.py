"""The delay of responses to wrong tokens: guessing is slow, a valid token is never delayed.

A valid token is looked up first and answered at once, whatever others do and from whatever address; this rule applies
to wrong ones only.  They are counted by address and in total, and forgotten with time.  The first ones are free: an app
whose token was replaced must learn so at once.  The number of delayed responses is bounded, so that guessing takes no
memory; beyond it the response is "too many", at once, and the connection is closed.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final


@dataclass(frozen=True, slots=True)
class GuessLimits:
    """Limits for wrong tokens: `free` without a delay, `forgotten` per minute, `most` counted, `slots` delayed."""

    free: int
    forgotten: int
    most: int
    slots: int


ADDRESS: Final = GuessLimits(free=10, forgotten=10, most=60, slots=16)
TOTAL: Final = GuessLimits(free=200, forgotten=200, most=1200, slots=64)
LONGEST: Final = 1.5  # seconds; less than a stopping daemon grants its running requests
_FIRST: Final = 0.05  # seconds; doubled with each further wrong token
_KNOWN: Final = 4096  # addresses
_REPORT: Final = 60.0  # seconds between two reports


class _Level:
    """A counter of wrong tokens, which decreases with time."""

    __slots__ = ("at", "held", "number")

    def __init__(self) -> None:
        self.number = 0.0
        self.at = 0.0
        self.held = 0

    def add(self, limits: GuessLimits, now: float) -> float:
        """Count one more wrong token; the delay of its response in seconds."""
        left = self.number - (now - self.at) * limits.forgotten / 60
        self.number, self.at = min(max(left, 0.0) + 1, limits.most), now
        over = self.number - limits.free
        return 0.0 if over <= 0 else min(LONGEST, _FIRST * 2.0 ** min(over, 20))


class Guesses:
    """The wrong tokens, by address and in total.  `now` returns seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._addresses: OrderedDict[str, _Level] = OrderedDict()
        self._total = _Level()
        self._unreported: Counter[str] = Counter()
        self._reported = -_REPORT

    @property
    def held(self) -> int:
        """The number of responses that are delayed now."""
        return self._total.held

    @property
    def known(self) -> int:
        """The number of addresses that are remembered."""
        return len(self._addresses)

    def wrong(self, address: str) -> float | None:
        """Count a wrong token; return the delay of its response in seconds, None if too many are delayed already.

        After a delay of more than 0 seconds call `answered`.
        """
        name, now = network(address), self._now()
        one = self._addresses.setdefault(name, _Level())
        self._addresses.move_to_end(name)
        pause = max(one.add(ADDRESS, now), self._total.add(TOTAL, now))
        self._forget()
        if pause == 0:
            return 0.0
        if len(self._unreported) < _KNOWN or name in self._unreported:
            self._unreported[name] += 1
        if one.held >= ADDRESS.slots or self._total.held >= TOTAL.slots:
            return None
        one.held += 1
        self._total.held += 1
        return pause

    def answered(self, address: str) -> None:
        """A delayed response was sent."""
        self._total.held -= 1
        if (one := self._addresses.get(network(address))) is not None:
            one.held -= 1

    def report(self) -> str | None:
        """A log message for the operator, at most once a minute and only while responses are delayed."""
        now = self._now()
        if not self._unreported or now - self._reported < _REPORT:
            return None
        number, (worst, most) = self._unreported.total(), self._unreported.most_common(1)[0]
        self._reported = now
        self._unreported.clear()
        return f"responses to {number} wrong tokens were delayed, {most} of them from {worst}"

    def _forget(self) -> None:
        while len(self._addresses) > _KNOWN:
            # The one without a wrong token for the longest time, and without a delayed response.
            quiet = next((name for name, one in self._addresses.items() if one.held == 0), None)
            if quiet is None:
                return  # no more than there are slots
            del self._addresses[quiet]


def network(address: str) -> str:
    """The unit of counting: an IPv4 address, or the 64-bit IPv6 network of one customer."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return "an unknown address"
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return str(found)
