"""One item that could not be handled and was set aside by name, so that the rest goes on; and who keeps such items."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec


class ItemKind(StrEnum):
    """What an item is."""

    EVENT = "event"
    """A row of an account's spool: something that WhatsApp sent."""
    DOCUMENT = "document"
    """A document in Firestore that cannot be read, or that Firestore does not take."""
    ENTRY = "entry"
    """An entry of the outbox that cannot be read or handled."""
    FILE = "file"
    """The copy of a damaged file."""


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """An item in quarantine.  `id` names it for a person's order; it never holds a message's content."""

    id: str
    kind: ItemKind
    account: str = ""
    """The account that it belongs to; empty where none can be read."""
    name: str
    """What it is called where it is stored: a document's path, a row's number and WhatsApp id, a file's name."""
    reason: str
    since_ms: int
    """When it was set aside, ms since 1970; 0 where that is unknown."""
    size: int = 0
    """Bytes."""


class Source(Protocol):
    """Who sets items aside and keeps them: the store, an account.  Each source bounds their number and size.

    `items`, `show`, `retry` and `drop` may raise Unavailable and StateUnwritable beside what they say.
    """

    @property
    def count(self) -> int:
        """How many items there are; known without I/O, since health asks."""
        ...

    async def items(self) -> Sequence[Quarantined]:
        """All of them, in any order."""
        ...

    async def show(self, ident: str) -> str:
        """What an operator needs to mend it: its fields and their types, never a message's content.

        Raises NotFound.
        """
        ...

    async def retry(self, ident: str) -> str:
        """Handle it again as it is now; what became of it, in one sentence.

        Raises NotFound, and what is still wrong with it as BadInput: it stays in quarantine then.
        """
        ...

    async def drop(self, ident: str) -> None:
        """Forget it for good.  What another program wrote stays where that program has put it.  Raises NotFound."""
        ...
