"""The type of a measure, and common tools."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the bench.

    `goal` is an upper limit of the value, or with `at_least` a lower one; `least_ratio` a lower limit of the ratio,
    in addition or, where `goal` is None, instead.  `limit` says what limits the peer.
    """

    measure: str
    value: float
    unit: str
    goal: float | None
    peer: str
    peer_value: float
    at_least: bool = False
    least_ratio: float | None = None
    limit: str = ""

    @property
    def ratio(self) -> float:
        """The value over the peer's."""
        return self.value / self.peer_value

    @property
    def met(self) -> bool:
        """Whether all goals are met."""
        if self.least_ratio is not None and self.ratio < self.least_ratio:
            return False
        if self.goal is None:
            return True
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def as_json(self) -> dict[str, Any]:
        """The printed form; `goal_of` says whether the goal is one of the value or of the ratio."""
        goal, of = (self.goal, "value") if self.goal is not None else (self.least_ratio, "ratio")
        return {
            "measure": self.measure, "value": round(self.value, 4), "unit": self.unit, "goal": goal, "goal_of": of,
            "peer": self.peer, "peer_value": round(self.peer_value, 4), "ratio": round(self.ratio, 3),
            "met": self.met,
        } | ({"limit": self.limit} if self.limit else {})  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """A function that returns one or more figures, and their names."""

    names: tuple[str, ...]
    run: Callable[[], Coroutine[Any, Any, Sequence[Figure]]]


def measure(
    *names: str,
) -> Callable[[Callable[[], Coroutine[Any, Any, Sequence[Figure]]]], Measure]:
    """Declare a measure."""
    return lambda function: Measure(names, function)


def wall(argv: Sequence[str], runs: int = 15, **options: Any) -> float:
    """The median time of a whole process in seconds, after one run that does not count."""
    times = []
    for _ in range(runs + 1):
        begun = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, **options)
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def rss_mb(pid: int) -> float:
    """The resident memory of a process in MB (1e6 bytes)."""
    text = Path(f"/proc/{pid}/status").read_text()
    kb = next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS:"))
    return int(kb) * 1024 / 1e6


def pss_mb(pid: int) -> float:
    """The proportional share of memory of a process, in MB (1e6 bytes)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kb = next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:"))
    return int(kb) * 1024 / 1e6


def python(code: str) -> list[str]:
    """A Python process that runs `code`."""
    return [sys.executable, "-c", code]
