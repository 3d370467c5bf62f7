"""Pages of lists: at most the requested number of items, and no more than fit into one reply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

PAGE_BYTES: Final = 2 << 20
"""The bytes of the items of one page; a frame may have twice as many (wad.core.wire.MAX_FRAME)."""

T = TypeVar("T")


def fitting(items: Iterable[T], size: int = PAGE_BYTES) -> list[T]:
    """The first items, with at most `size` encoded bytes together; at least one."""
    found: list[T] = []
    for item in items:
        size -= len(msgspec.msgpack.encode(item))
        if found and size < 0:
            break
        found.append(item)
    return found
