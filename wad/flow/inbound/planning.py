"""What rows of the spool ask of the store, item by item, so that one that cannot be planned costs no other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from wad.core.change import Change, PutAlias, PutChat, PutMark, PutMessage
from wad.core.errors import BadInput, InvalidData
from wad.core.event import Event, HistoryReceived, decode_leniently
from wad.core.masking import masked
from wad.core.plan import parts, plan
from wad.core.text import cut, repaired
from wad.state.spool import Row

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
"""What an item itself can raise where it is decoded, planned or stored.  Anything else is the matter of the store, of
the disk or of the process, and is tried again."""

_REASON: Final = 300  # characters


def reason_of(error: Exception) -> str:
    """Why an item was set aside, for an operator: without numbers of people, and short."""
    words = str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
    return cut(masked(repaired(words)), _REASON)


@dataclass(slots=True)
class Planned:
    """One row: the changes that each of its items asks for.

    `refused`: why items cannot be recorded; `skipped` ones had no words of ours.  `event` is None where the row has no
    translation, or one that cannot be decoded.  `noted` is the reason that was written down.
    """

    row: Row
    event: Event | None = None
    items: list[list[Change]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    skipped: int = 0
    noted: str = ""

    @property
    def changes(self) -> Iterator[Change]:
        """What all its items ask for."""
        return (change for item in self.items for change in item)

    @property
    def receipts(self) -> int:
        """How many marks it puts."""
        return sum(isinstance(change, PutMark) for change in self.changes)

    @property
    def history(self) -> set[str] | None:
        """The ids of the messages in a chunk of history; None for any other row."""
        if not isinstance(self.event, HistoryReceived):
            return None
        return {change.message.id for change in self.changes if isinstance(change, PutMessage)}

    @property
    def asked(self) -> bool:
        """Whether it answers a question of ours."""
        return isinstance(self.event, HistoryReceived) and self.event.asked

    @property
    def threads(self) -> set[str]:
        """The threads that its messages and facts are about."""
        return {*_threads(self.changes)}

    @property
    def reason(self) -> str:
        """Why it is set aside; empty where all of it can be recorded."""
        if not self.refused:
            return ""
        if not self.items:
            return self.refused[0]
        return (
            f"{len(self.refused)} of {len(self.refused) + len(self.items)} items: {self.refused[0]}"
        )


def planned(account: str, row: Row, aliases: dict[str, str], seen: int) -> Planned:
    """What a row asks for; `aliases` learns what it tells.  Never raises for what the row holds."""
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
    for part, at in parts(event, seen):
        try:
            changes = plan(account, part, aliases, at)
        except ITEM_FAULTS as error:
            found.refused.append(reason_of(error))
            continue
        for change in changes:
            if isinstance(change, PutAlias):
                aliases[change.lid] = change.pn
        found.items.append(changes)
    return found


def _threads(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        match change:
            case PutMessage(message):
                yield message.thread
            case PutChat():
                yield change.thread
