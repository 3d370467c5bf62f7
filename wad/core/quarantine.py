"""Quarantined items, and the interface of their sources: an item that cannot be handled does not stop the rest."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec


class ItemKind(StrEnum):
    """The kind of an item."""

    EVENT = "event"
    """A row of an account's spool: an event from WhatsApp."""
    DOCUMENT = "document"
    """A Firestore document that cannot be read, or that Firestore refuses."""
    ENTRY = "entry"
    """An entry of the outbox that cannot be read or handled."""
    FILE = "file"
    """The copy of a damaged file."""
    GAP = "gap"
    """Nothing that is kept, but that something may be missing."""


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """An item in quarantine.  `id` is its name in an operator's command; it never contains a message's content."""

    id: str
    kind: ItemKind
    account: str = ""
    """The account that it belongs to; empty if unknown."""
    name: str
    """Its name in its store: a document's path, a row's number and WhatsApp id, a file's name."""
    reason: str
    since_ms: int
    """When it was quarantined, ms since 1970; 0 if unknown."""
    size: int = 0
    """Bytes."""


class Source(Protocol):
    """A source of quarantined items: the store, an account.  Each source bounds their number and size.

    `items`, `show`, `retry` and `drop` may raise Unavailable and StateUnwritable beside the errors that they name.
    """

    @property
    def count(self) -> int:
        """The number of items; needs no I/O, since health checks read it."""
        ...

    async def items(self) -> Sequence[Quarantined]:
        """All items, in any order."""
        ...

    async def show(self, ident: str) -> str:
        """What an operator needs to repair it: its fields and their types, never a message's content.

        Raises NotFound.
        """
        ...

    async def retry(self, ident: str) -> str:
        """Handle it again in its present form; return the result in one sentence.

        Raises NotFound, and BadInput if it is still invalid: then it stays in quarantine.
        """
        ...

    async def drop(self, ident: str) -> None:
        """Delete it for good.  Data of another program stays where that program wrote it.  Raises NotFound."""
        ...
