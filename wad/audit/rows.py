"""The rows that an audit reads, and the ports to read and repair a store.

An adapter only reads: the rules decide which rows count and judge them.
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
    """The rows to read, from `since_ms` on, at most `limit`, newest first; an empty text means all."""

    account: str
    thread: str
    since_ms: int
    limit: int


class Range(NamedTuple):
    """The rows to repair; an empty text means all.  Duplicates only within the window and the limit; None for all."""

    account: str = ""
    thread: str = ""
    window_hours: float | None = None
    limit: int | None = None


class MessageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One stored message.  `text` is compared and never shown; `marked`: it is marked as a duplicate already.

    `managed`: the daemon itself updates this document.
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
    managed: bool = False


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
    """The rows that were read, and counts of the others.

    `types`: the number of rows in the scope for each type of time.  `rows`: all that may be in the window, newest
    first, one more than the limit if there are more; and all whose time is not a whole number. `older`, `timeless`:
    rows that the store left out, since they are before the window or have no time. `unreadable`: rows whose content
    cannot be read.  `redirected`: threads that only redirect to another one. `mode`: `desc`, or `asc_fallback` where an
    index is missing; `index_link` is the page that creates it.
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
    """A store, open for reading.  Any method may raise Unavailable and Damaged."""

    @property
    def kind(self) -> str:
        """The configured name of the store."""
        ...

    @property
    def mode(self) -> str:
        """The order of the last query: `desc`, or `asc_fallback` if an index was missing."""
        ...

    def aliases(self) -> Aliases:
        """Every LID whose phone number is known."""
        ...

    def messages(self, scope: Scope) -> ReadRows[MessageRow]:
        """Messages of the scope."""
        ...

    def threads(self, scope: Scope) -> ReadRows[ThreadRow]:
        """Threads of the scope."""
        ...

    def close(self) -> None:
        """Close the store.  Idempotent."""
        ...


class Repairs(Protocol):
    """A store, open for repair.  Any method may raise Unavailable, Damaged, Denied, Conflict and StateUnwritable."""

    def repair(self, wanted: Range, undo_file: Path | None) -> RepairReport:
        """Repair, and write the old values to `undo_file`; without it only report what would be done."""
        ...

    def revert(self, undo_file: Path) -> Undone:
        """Revert the repair that wrote this file.  Also raises BadInput."""
        ...

    def close(self) -> None:
        """Close the store.  Idempotent."""
        ...
