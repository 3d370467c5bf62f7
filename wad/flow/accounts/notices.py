"""Warnings about an account for an operator."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from wad.core.masking import masked
from wad.flow.event_bus import Bus

log = logging.getLogger(__name__)

_LIMIT: Final = 20  # warnings that are stored


class Notices:
    """The warnings about one account, shown until the daemon restarts, or until the copy of a file is removed."""

    def __init__(self, account: str, bus: Bus) -> None:
        self._account = account
        self._bus = bus
        self._notes: list[tuple[str, str]] = []  # with the name of the copy, if it is about one

    def warn(self, text: str, *, copy: str = "") -> None:
        """Show a warning; `copy`: the name of the copy of a file that it is about."""
        if (text, copy) in self._notes:
            return
        log.warning("%s", masked(text), extra={"account": self._account})
        self._notes = [*self._notes[1 - _LIMIT :], (text, copy)]
        self._bus.publish("account", text, account=self._account)

    def current(self, has_copy: Callable[[str], bool]) -> list[str]:
        """The texts, the oldest first; `has_copy`: whether a copy with this name exists."""
        return [text for text, copy in self._notes if not copy or has_copy(copy)]
