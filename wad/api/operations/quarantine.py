"""Operations on the quarantine: list, show, retry and drop items that could not be handled."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.views.quarantine import ItemView, Retried, Shown
from wad.core.quarantine import Quarantined

Ident = Annotated[
    str, Meta(min_length=1, max_length=200, description="the item's id or the beginning of it")
]


class Items(Params, frozen=True):
    """Which items to list."""

    account: Annotated[str, Meta(description="only this account (id, name or number)")] = ""
    limit: Annotated[int, Meta(ge=1, le=1000, description="how many at most")] = 100


class QuarantineItem(Params, frozen=True):
    """Which item."""

    item: Ident


@operation("quarantine.list", access=Access.READ, command="quarantine list")
async def items(context: Context, request: Items) -> list[ItemView]:
    """List items that could not be handled, the newest first.

    These are unreadable rows of a spool, unreadable documents and outbox entries in Firestore, documents that Firestore
    refused, and copies of damaged files. All other items are handled as usual.
    """
    account = context.accounts.find(request.account).id if request.account else ""
    found = await context.quarantine.items(account)
    return [_view(item) for item in found[: request.limit]]


@operation("quarantine.show", access=Access.READ, command="quarantine show")
async def show(context: Context, request: QuarantineItem) -> Shown:
    """Show one item: its location, the error, and the types of its fields.

    Message contents are not shown.
    """
    item, detail = await context.quarantine.show(request.item)
    return Shown(item=_view(item), detail=detail)


@operation("quarantine.retry", access=Access.OPERATE, command="quarantine retry")
async def retry(context: Context, request: QuarantineItem) -> Retried:
    """Handle one item again, for example after its document was corrected or wad was upgraded.

    An item that still cannot be handled stays in quarantine, and the error shows why.
    """
    item, result = await context.quarantine.retry(request.item)
    return Retried(item=_view(item), result=result)


@operation(
    "quarantine.drop",
    access=Access.ADMIN,
    command="quarantine drop",
    confirm="A row of a spool and the copy of a damaged file are deleted from this machine.",
)
async def drop(context: Context, request: QuarantineItem) -> ItemView:
    """Drop one item for good; a document in Firestore stays unchanged.

    Such a document is ignored until it is written again; delete it in Firestore if you want to.
    """
    return _view(await context.quarantine.drop(request.item))


def _view(item: Quarantined) -> ItemView:
    return ItemView(**msgspec.structs.asdict(item))
