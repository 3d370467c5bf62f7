"""`restart`: a daemon is asked to restart, and is believed to have done so only when another process answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from wad.core.errors import DaemonDown, TimedOut, Unavailable, WadError
from wadctl.session import Session

_LOOK: Final = 0.2  # seconds between looks
_ANSWER: Final = 5.0  # seconds that a daemon which is starting may take to answer one look


@dataclass
class Restart:
    """How far it went; `step` is what failures name."""

    step: str = "look"
    before: str | None = None
    after: str | None = None
    accounts_before: int | None = None
    accounts_after: int | None = None

    def facts(self) -> dict[str, Any]:
        """As --json shows them."""
        return {
            "service": "wad",
            "before": self.before,
            "after": self.after,
            "accountsBefore": self.accounts_before,
            "accountsAfter": self.accounts_after,
        }


def restart_daemon(session: Session, timeout: float) -> None:
    """Restart, wait until the next process answers and knows every account, and say so.  Raises Exit by WadError."""
    restart = Restart()
    try:
        _run(session, restart, timeout)
    except WadError as error:
        error.step = restart  # type: ignore[attr-defined]
        raise
