"""Ids that are given by their beginning, as wadctl's tables show them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from wad.core.errors import Conflict

if TYPE_CHECKING:
    from wad.core.message import Message
    from wad.core.outbox import Entry
    from wad.store import Store

_LEAST: Final = 4  # characters
_NAMED: Final = 5  # ids that an error names


async def find_message(store: Store, given: str) -> Message | None:
    """The message with this id, or the only one whose id begins so.  Raises Conflict if there are several."""
    found = await store.message(given)
    if found is not None:
        return found
    ident = await _whole(given, lambda: store.message_ids(given, limit=_NAMED))
    return None if ident is None else await store.message(ident)


async def find_entry(store: Store, given: str) -> Entry | None:
    """The outbox entry with this id, or the only one whose id begins so.  Raises Conflict if there are several."""
    found = await store.entry(given)
    if found is not None:
        return found
    ident = await _whole(given, lambda: store.entry_ids(given, limit=_NAMED))
    return None if ident is None else await store.entry(ident)


async def _whole(given: str, find: Callable[[], Awaitable[list[str]]]) -> str | None:
    if len(given) < _LEAST:
        return None
    idents = await find()
    if len(idents) > 1:
        raise Conflict(
            f"several ids begin with {given!r}", hint=f"give more of one of: {', '.join(idents)}"
        )
    return idents[0] if idents else None
