"""How a start that failed is judged, and how that is said in the line that `systemctl status` shows.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from wad.core.errors import BadConfig, BadInput

FINAL: Final = frozenset({BadInput.exit_code, BadConfig.exit_code})
"""Exit codes of mistakes that trying again does not mend (RestartPreventExitStatus= of the units)."""
LASTED: Final = 60.0
"""Seconds after which a process that fails was no failed start: failures in a row are counted anew."""
_LONGEST: Final = 30.0  # seconds
_LONGEST_REASON: Final = 1500  # characters; systemd takes 4096 bytes
_FINAL: Final = "does not start: "
_AGAIN: Final = "cannot start: "
_PAUSE: Final = re.compile(r" \(next try in (\d+) s\)$")


@dataclass(frozen=True, slots=True)
class StartFailure:
    """Why wad does not run.  `pause`: seconds until it tries again; None: it does not."""

    reason: str
    pause: int | None

    def __str__(self) -> str:
        """As it is announced, on one line."""
        reason = " ".join(self.reason.split())[:_LONGEST_REASON]
        if self.pause is None:
            return f"{_FINAL}{reason}"
        return f"{_AGAIN}{reason} (next try in {self.pause} s)"


def failure(reason: str, exit_code: int, failures: int) -> StartFailure:
    """What is to be done about a start that failed; `failures` were before it in a row."""
    return StartFailure(reason, None if exit_code in FINAL else pause_after(failures))


def pause_after(failures: int) -> int:
    """Seconds to wait before the next try: none after the first failure, then twice as long each time."""
    return round(min(_LONGEST, 2.0 ** min(failures - 1, 16))) if failures > 0 else 0


def parse(announced: str) -> StartFailure | None:
    """The failure that a line announces; None where it announces something else."""
    if announced.startswith(_FINAL):
        return StartFailure(announced.removeprefix(_FINAL), None)
    if announced.startswith(_AGAIN) and (found := _PAUSE.search(announced)):
        return StartFailure(announced[len(_AGAIN) : found.start()], int(found[1]))
    return None
