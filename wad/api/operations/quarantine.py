"""What was set aside because it could not be handled, and what becomes of it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.core.quarantine import Quarantined

Ident = Annotated[
    str, Meta(min_length=1, max_length=200, description="the item's id, or how it begins")
]


class Items(Params, frozen=True):
    """Which items."""

    account: Annotated[
        str, Meta(description="only those of this account (its id, name or number)")
    ] = ""
    limit: Annotated[int, Meta(ge=1, le=1000, description="at most so many")] = 100


class QuarantineView(Params, frozen=True):
    """One item."""

    item: Ident


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """An item, and what can be said of it without its content."""

    item: Quarantined
    detail: str


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """An item that was handled again, and what became of it."""

    item: Quarantined
    result: str


@operation("quarantine.list", access=Access.READ, command="quarantine list")
async def items(context: Context, request: Items) -> list[Quarantined]:
    """List what was set aside because it could not be handled, the newest first.

    Rows of a spool and documents or outbox entries in Firestore that cannot be read, documents that Firestore refuses,
    copies of damaged files. Everything else goes on without them.
    """
    account = context.accounts.find(request.account).id if request.account else ""
    return (await context.quarantine.items(account))[: request.limit]


@operation("quarantine.show", access=Access.READ, command="quarantine show")
async def show(context: Context, request: QuarantineView) -> Shown:
    """Show one item: where it is, what is wrong with it, and its fields' types; no message's content."""
    item, detail = await context.quarantine.show(request.item)
    return Shown(item=item, detail=detail)


@operation("quarantine.retry", access=Access.OPERATE, command="quarantine retry")
async def retry(context: Context, request: QuarantineView) -> Retried:
    """Handle one item again, as it is now: after its document was mended, or wad was upgraded.

    What still cannot be handled stays in quarantine, and the error says why.
    """
    item, result = await context.quarantine.retry(request.item)
    return Retried(item=item, result=result)


@operation(
    "quarantine.drop",
    access=Access.ADMIN,
    command="quarantine drop",
    confirm="A row of a spool and the copy of a damaged file are deleted from this machine.",
)
async def drop(context: Context, request: QuarantineView) -> Quarantined:
    """Forget one item for good; a document in Firestore stays there as it is.

    Such a document is not looked at again until somebody writes it; delete it there if you want to.
    """
    return await context.quarantine.drop(request.item)
