"""What an audit reads: rows of a store, whatever the store, and the port that reads them.

An adapter reads and judges nothing: which rows count, and what they prove, is decided by the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from wad.audit.reports import RepairReport, Undone
from wad.audit.stamps import Stamp

Aliases = Mapping[tuple[str, str], str]
"""(account, bare LID) -> bare PN, both as text."""


class Scope(msgspec.Struct, frozen=True):
    """Which rows: an empty text means all; those from `since_ms` on, and at most `limit`, newest first."""

    account: str
    thread: str
    since_ms: int
    limit: int


class Range(NamedTuple):
    """What to repair: an empty text means all; duplicates only within the window and the limit, None for all."""

    account: str = ""
    thread: str = ""
    window_hours: float | None = None
    limit: int | None = None


class MessageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One stored message.  `text` is compared, and never shown; `marked`: it was marked as a duplicate before.

    `kept_up`: the daemon itself goes on writing this document.
    """

    id: str
    account: str
    thread: str
    chat: str
    stamp: Stamp
    sender: str = ""
    from_me: bool = False
    kind: str = "text"
    text: str = ""
    wa_id: str = ""
    client_id: str = ""
    stable_key: str = ""
    fingerprint: str = ""
    seen: int = 0
    marked: bool = False
    kept_up: bool = False


class ThreadRow(msgspec.Struct, frozen=True, kw_only=True):
    """One stored conversation; `stamp` is the time of its last message."""

    id: str
    account: str
    chat: str
    stamp: Stamp
    name: str = ""
    messages: int = 0


R = TypeVar("R", MessageRow, ThreadRow)


class ReadRows(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """What was read, and what the store counted besides.

    `types`: how the time of every row in the scope is written, by number of rows.  `rows`: newest first all that may
    lie in the window, one more than the limit where there are more; those whose time is no whole number come all.
    `older`, `timeless`: rows that the store left out, since they lie before the window or have no time at all.
    `unreadable`: rows whose content cannot be read.  `redirected`: threads that only name another one.
    `mode`: `desc`, or `asc_fallback` where an index is missing; `index_link` is the page that creates it.
    """

    rows: tuple[R, ...]
    types: Mapping[str, int]
    older: int = 0
    timeless: int = 0
    unreadable: int = 0
    redirected: int = 0
    mode: str = "desc"
    index_link: str | None = None


class Rows(Protocol):
    """One store, open for reading.  Any verb may raise Unavailable and Damaged."""

    @property
    def kind(self) -> str:
        """The configured name of the store."""
        ...

    @property
    def mode(self) -> str:
        """How the last query went about it: `desc`, or `asc_fallback` after an index was missing."""
        ...

    def aliases(self) -> Aliases:
        """Every hidden id whose number is known."""
        ...

    def messages(self, scope: Scope) -> ReadRows[MessageRow]:
        """Messages of the scope."""
        ...

    def threads(self, scope: Scope) -> ReadRows[ThreadRow]:
        """Threads of the scope."""
        ...

    def close(self) -> None:
        """Let go of it.  Idempotent."""
        ...


class Repairs(Protocol):
    """One store, open for repair.  Any verb may raise Unavailable, Damaged, Denied, Conflict and StateUnwritable."""

    def repair(self, wanted: Range, undo_file: Path | None) -> RepairReport:
        """Repair, and keep what was before in `undo_file`; without one only tell what would be done."""
        ...

    def take_back(self, undo_file: Path) -> Undone:
        """Put back what the repair that wrote this file changed.  Raises BadInput, too."""
        ...

    def close(self) -> None:
        """Let go of it.  Idempotent."""
        ...
