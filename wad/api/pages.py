"""Pages of lists: as many items as were asked for, and as fit into one reply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

PAGE_BYTES: Final = 2 << 20
"""Of the items of one page; a reply of the socket may have twice as much (wad.core.wire.MAX_FRAME)."""

T = TypeVar("T")


def fitting(items: Iterable[T], size: int = PAGE_BYTES) -> list[T]:
    """The first items, up to so many encoded bytes; one in any case."""
    found: list[T] = []
    for item in items:
        size -= len(msgspec.msgpack.encode(item))
        if found and size < 0:
            break
        found.append(item)
    return found
