"""One line of the lab, in the form of the bench's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value; `goal` is an upper limit.  `system`: on which; empty if it is the same on all."""

    measure: str
    value: float
    unit: str
    goal: float
    system: str = ""

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.value <= self.goal

    @property
    def decides(self) -> bool:
        """Whether a missed goal fails the lab.  A time depends on other load of the machine: it is only shown."""
        return self.unit != "s"

    def as_json(self) -> dict[str, Any]:
        """The printed form; nothing is measured for comparison."""
        return {
            "measure": self.measure, "value": round(self.value, 3), "unit": self.unit, "goal": self.goal,
            "peer": None, "peer_value": None, "ratio": None, "met": self.met,
            "system": self.system or None,
        }  # fmt: skip
