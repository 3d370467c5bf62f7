"""The histories of when machines might act: read from the logs of real daemons, and checked.  Pure.

Each daemon logs, with its CLOCK_BOOTTIME, until when it may act after each renewal, and when it stopped acting.
All of them run on one machine here, so that they share one clock.  A process that was killed acts no more from then on.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_MAY: Final = re.compile(r"epoch (\d+): may act from ([\d.]+) until ([\d.]+)")
_NO_MORE: Final = re.compile(r"epoch (\d+): stopped acting at ([\d.]+)")


@dataclass(frozen=True, order=True)
class Leadership:
    """One epoch of one machine: it might act from `begin` to `end`."""

    epoch: int
    machine: str
    begin: float
    end: float


def leaderships(machine: str, log: Iterable[str], deaths: Sequence[float]) -> list[Leadership]:
    """The history from one machine's log; `deaths`: when its processes were killed."""
    begins: dict[int, float] = {}
    ends: dict[int, float] = {}
    last: dict[int, float] = {}
    for line in log:
        if found := _MAY.search(line):
            epoch, begin, end = int(found[1]), float(found[2]), float(found[3])
            begins.setdefault(epoch, begin)
            last[epoch] = begin
            ends[epoch] = end
        elif found := _NO_MORE.search(line):
            epoch = int(found[1])
            ends[epoch] = min(ends[epoch], float(found[2]))
    return [
        Leadership(
            epoch, machine, begin, min([ends[epoch], *(at for at in deaths if at >= last[epoch])])
        )
        for epoch, begin in begins.items()
    ]


def judge(histories: Mapping[str, Sequence[Leadership]]) -> list[str]:
    """The errors: an epoch of two machines, or two that might act at the same time."""
    found = sorted(lead for history in histories.values() for lead in history)
    wrong = []
    for one, next_ in itertools.pairwise(found):
        if one.epoch == next_.epoch:
            wrong.append(f"epoch {one.epoch} is of {one.machine} and {next_.machine}")
    for one, other in itertools.combinations(sorted(found, key=lambda lead: lead.begin), 2):
        if other.begin < one.end:
            wrong.append(
                f"{one.machine} (epoch {one.epoch}) might act until {one.end:.3f}, "
                f"{other.machine} (epoch {other.epoch}) from {other.begin:.3f}"
            )
    return wrong
