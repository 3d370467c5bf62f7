"""A failed start: whether it is retried, and the status line that `systemctl status` shows.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from wad.core.errors import BadConfig, BadInput

FINAL: Final = frozenset({BadInput.exit_code, BadConfig.exit_code})
"""Exit codes of errors that a retry does not fix (RestartPreventExitStatus= of the units)."""
LASTED: Final = 60.0
"""Seconds after which a process counts as started: if it fails later, failures in a row are counted from zero."""
_LONGEST: Final = 30.0  # seconds
_LONGEST_REASON: Final = 1500  # characters; systemd takes 4096 bytes
_FINAL: Final = "does not start: "
_AGAIN: Final = "cannot start: "
_PAUSE: Final = re.compile(r" \(next try in (\d+) s\)$")


@dataclass(frozen=True, slots=True)
class StartFailure:
    """Why wad does not run.  `pause`: seconds until the next try; None: there is none."""

    reason: str
    pause: int | None

    def __str__(self) -> str:
        """The status line."""
        reason = " ".join(self.reason.split())[:_LONGEST_REASON]
        if self.pause is None:
            return f"{_FINAL}{reason}"
        return f"{_AGAIN}{reason} (next try in {self.pause} s)"


def failure(reason: str, exit_code: int, failures: int) -> StartFailure:
    """How a failed start is handled; `failures`: the number of failures in a row before it."""
    return StartFailure(reason, None if exit_code in FINAL else pause_after(failures))


def pause_after(failures: int) -> int:
    """Seconds to wait before the next try: none after the first failure, then twice as long each time."""
    return round(min(_LONGEST, 2.0 ** min(failures - 1, 16))) if failures > 0 else 0


def parse(announced: str) -> StartFailure | None:
    """Parse a status line; None if it does not report a failure."""
    if announced.startswith(_FINAL):
        return StartFailure(announced.removeprefix(_FINAL), None)
    if announced.startswith(_AGAIN) and (found := _PAUSE.search(announced)):
        return StartFailure(announced[len(_AGAIN) : found.start()], int(found[1]))
    return None
