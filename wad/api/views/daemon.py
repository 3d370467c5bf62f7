"""The views of the running process and of an event in replies."""

from __future__ import annotations

from typing import Any

import msgspec


class VersionReply(msgspec.Struct, frozen=True):
    """The version and the process of the running daemon."""

    version: str
    instance: str
    boot_id: str
    pid: int


class Restarting(msgspec.Struct, frozen=True):
    """The process that is about to end."""

    boot_id: str
    pid: int


class EventView(msgspec.Struct, frozen=True):
    """One event.  `kind`: state, message, outbox, account or daemon."""

    at_ms: int
    kind: str
    account: str
    text: str
    detail: dict[str, Any]
