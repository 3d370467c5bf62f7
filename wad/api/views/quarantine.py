"""The views of quarantined items in replies."""

from __future__ import annotations

from typing import Annotated

import msgspec

from wad.api.views.values import values
from wad.core.quarantine import ItemKind


class ItemView(msgspec.Struct, frozen=True, kw_only=True):
    """An item in quarantine.  `kind`: event, document, entry, file or gap.

    `account` is empty if unknown, `since_ms` is 0 if unknown; `size` is in bytes.
    """

    id: str
    kind: Annotated[str, values(ItemKind)]
    account: str
    name: str
    reason: str
    since_ms: int
    size: int


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """An item with details, without message contents."""

    item: ItemView
    detail: str


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """A retried item with the result."""

    item: ItemView
    result: str
