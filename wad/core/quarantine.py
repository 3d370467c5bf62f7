"""One item that could not be handled and was set aside by name, so that the rest goes on."""

from __future__ import annotations

from enum import StrEnum

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
