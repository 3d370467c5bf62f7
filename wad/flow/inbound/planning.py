"""Planning of spool rows: the changes for the store, item by item, so that an invalid item affects no other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from wad.core.addresses import Addresses
from wad.core.change import Change, PutAlias, PutChat, PutMark, PutMessage
from wad.core.errors import BadInput, InvalidData
from wad.core.event import Event, HistoryReceived, decode_leniently
from wad.core.masking import masked
from wad.core.plan import parts, plan
from wad.core.text import cut, repaired
from wad.state.spool import SpoolRow

ITEM_FAULTS: Final = (
    BadInput,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RecursionError,
)
"""Errors that an item itself can cause when it is decoded, planned or stored.  Any other error is the store's, the
disk's or the process's, and is retried."""

_REASON: Final = 300  # characters


def reason_of(error: Exception) -> str:
    """Why an item was quarantined, for an operator: without phone numbers, and short."""
    text = str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
    return cut(masked(repaired(text)), _REASON)


@dataclass(slots=True)
class Planned:
    """One row, with the changes for each of its items.

    `refused`: why items cannot be recorded; `skipped`: untranslated items.  `event` is None if the row has
    no translation, or one that cannot be decoded.  `noted` is the reason that was stored.
    """

    row: SpoolRow
    event: Event | None = None
    items: list[list[Change]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    skipped: int = 0
    noted: str = ""

    @property
    def changes(self) -> Iterator[Change]:
        """The changes for all its items."""
        return (change for item in self.items for change in item)

    @property
    def receipts(self) -> int:
        """The number of its receipts."""
        return sum(isinstance(change, PutMark) for change in self.changes)

    @property
    def history(self) -> set[str] | None:
        """The ids of the messages in a history chunk; None for any other row."""
        if not isinstance(self.event, HistoryReceived):
            return None
        return {change.message.id for change in self.changes if isinstance(change, PutMessage)}

    @property
    def asked(self) -> bool:
        """Whether it answers a request of ours."""
        return isinstance(self.event, HistoryReceived) and self.event.asked

    @property
    def threads(self) -> set[str]:
        """The threads of its messages and chat changes."""
        return {*_threads(self.changes)}

    @property
    def reason(self) -> str:
        """Why it is quarantined; empty if all of it can be recorded."""
        if not self.refused:
            return ""
        if not self.items:
            return self.refused[0]
        return (
            f"{len(self.refused)} of {len(self.refused) + len(self.items)} items: {self.refused[0]}"
        )


def planned(account: str, row: SpoolRow, addresses: Addresses, seen: int) -> Planned:
    """Plan a row; adds its aliases to `addresses`.  Never raises because of the row's content."""
    found = Planned(row)
    if row.event is None:
        return found
    try:
        if not isinstance(row.event, bytes) or not isinstance(row.received_ms, int):
            raise InvalidData("its columns are damaged")
        event, missing = decode_leniently(row.event)
    except ITEM_FAULTS as error:
        found.refused.append(reason_of(error))
        return found
    found.event = event
    found.refused += ["it cannot be decoded"] * missing
    found.skipped = event.skipped if isinstance(event, HistoryReceived) else 0
    for part in parts(event, seen):
        try:
            changes = plan(account, part.event, addresses, part.seen, part.reported_ms)
        except ITEM_FAULTS as error:
            found.refused.append(reason_of(error))
            continue
        for change in changes:
            if isinstance(change, PutAlias):
                addresses.put(change)
        found.items.append(changes)
    return found


def _threads(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        match change:
            case PutMessage(message):
                yield message.thread
            case PutChat():
                yield change.thread
