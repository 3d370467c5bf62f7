"""How long the answer to a wrong token is held back: who guesses waits, who has a valid token never does.

A valid token is looked up first and answered at once, whatever others do and from whatever address; this rule hears of
wrong ones only.  They are counted by address and in total, and forgotten with time.  Few cost nothing: an app whose
token was replaced must learn so.  Places in which an answer is held are few, so that guessing takes no memory; without
one the answer is "too many", at once, on a connection that is then closed.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final


@dataclass(frozen=True, slots=True)
class GuessLimits:
    """`free`: so many wrong tokens cost nothing; `forgotten`: so many are forgotten a minute, of at most `most`."""

    free: int
    forgotten: int
    most: int
    places: int


ADDRESS: Final = GuessLimits(free=10, forgotten=10, most=60, places=16)
TOTAL: Final = GuessLimits(free=200, forgotten=200, most=1200, places=64)
LONGEST: Final = 1.5  # seconds; less than a stopping daemon leaves its running requests
_FIRST: Final = 0.05  # seconds; doubled with each further wrong token
_KNOWN: Final = 4096  # addresses
_REPORT: Final = 60.0  # seconds between two reports


class _Level:
    """Wrong tokens that are not forgotten yet."""

    __slots__ = ("at", "held", "number")

    def __init__(self) -> None:
        self.number = 0.0
        self.at = 0.0
        self.held = 0

    def add(self, patience: GuessLimits, now: float) -> float:
        """One more; seconds that it waits."""
        left = self.number - (now - self.at) * patience.forgotten / 60
        self.number, self.at = min(max(left, 0.0) + 1, patience.most), now
        over = self.number - patience.free
        return 0.0 if over <= 0 else min(LONGEST, _FIRST * 2.0 ** min(over, 20))


class Guesses:
    """Wrong tokens, by address and in total.  `now` gives seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._addresses: OrderedDict[str, _Level] = OrderedDict()
        self._total = _Level()
        self._unreported: Counter[str] = Counter()
        self._reported = -_REPORT

    @property
    def held(self) -> int:
        """Answers that are held back now."""
        return self._total.held

    @property
    def known(self) -> int:
        """Addresses that are remembered."""
        return len(self._addresses)

    def wrong(self, address: str) -> float | None:
        """Count a wrong token; seconds to hold its answer, None where there is no place to hold it.

        After more than 0 seconds call `answered`.
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
        if one.held >= ADDRESS.places or self._total.held >= TOTAL.places:
            return None
        one.held += 1
        self._total.held += 1
        return pause

    def answered(self, address: str) -> None:
        """The answer that was held has left."""
        self._total.held -= 1
        if (one := self._addresses.get(network(address))) is not None:
            one.held -= 1

    def report(self) -> str | None:
        """What to tell an operator, at most once a minute and only while answers are held back."""
        now = self._now()
        if not self._unreported or now - self._reported < _REPORT:
            return None
        number, (worst, most) = self._unreported.total(), self._unreported.most_common(1)[0]
        self._reported = now
        self._unreported.clear()
        return f"{number} wrong tokens were answered late, {most} of them from {worst}"

    def _forget(self) -> None:
        while len(self._addresses) > _KNOWN:
            # The one that has been quiet longest, and whose answers are not held.
            quiet = next((name for name, one in self._addresses.items() if one.held == 0), None)
            if quiet is None:
                return  # at most as many as there are places
            del self._addresses[quiet]


def network(address: str) -> str:
    """What is counted together: an IPv4 address, the 64 bits of an IPv6 network that one customer has."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return "an unknown address"
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return str(found)
