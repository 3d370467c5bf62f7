"""The time before: what an account's phone is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.operations.accounts import Named, Ref

if TYPE_CHECKING:
    from wad.flow.inbound.backfill import Run


class BackfillRequest(Params, frozen=True):
    """Whose phone is asked, and for how much."""

    account: Ref
    threads: Annotated[int, Meta(ge=1, le=500, description="of how many conversations")] = 50
    messages: Annotated[int, Meta(ge=1, le=200, description="how many messages of each")] = 50


class BackfillProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is: of `total` conversations (null before they are counted) so many were asked for.

    `messages` are those that were not known; `errors` are conversations of which nothing came, and what ended it early.
    `thread` was the last, and `error` is what went wrong with it, or ended the run.
    """

    account: str
    total: int | None
    threads: int
    messages: int
    errors: int
    over: bool
    thread: str
    error: str


class HistoryRepaired(msgspec.Struct, frozen=True, kw_only=True):
    """What was mended.  `asked`: messages that could not be read or were lost, for which the phone was asked again.

    `recounted`: conversations whose last message or counts were wrong.
    """

    account: str
    asked: int
    recounted: int


@operation("accounts.backfill", access=Access.OPERATE, command="account backfill", leader_only=True)
async def backfill(context: Context, request: BackfillRequest) -> AsyncIterator[BackfillProgress]:
    """Ask an account's phone for older messages, conversation by conversation.

    Those with the newest messages come first. The phone must be switched on. The run goes on when nobody looks on;
    asked again meanwhile, this shows the run that is under way.
    """
    from wad.flow.inbound.backfill import BackfillOptions

    account = context.accounts.find(request.account)
    run = context.backfills.begin(account, BackfillOptions(request.threads, request.messages))
    async for now in run.follow():
        yield _progress(account.id, now)
    if run.failure is not None:
        raise run.failure


def _progress(account: str, run: Run) -> BackfillProgress:
    done, last = run.done, run.last
    return BackfillProgress(
        account=account,
        total=run.total,
        threads=done.threads,
        messages=done.messages,
        errors=done.errors,
        over=run.over,
        thread="" if last is None else last.thread,
        error=done.error or ("" if last is None else last.error),
    )


@operation("accounts.repair", access=Access.ADMIN, command="account repair", leader_only=True)
async def repair(context: Context, request: Named) -> HistoryRepaired:
    """Ask the phone again for messages that were lost or could not be read, and recount the conversations.

    What the phone has takes the place of its placeholder when it comes, which may take a minute.
    """
    account = context.accounts.find(request.account)
    asked = await context.backfills.ask_again(account)
    recounted = await context.store.recount(account.id)
    return HistoryRepaired(account=account.id, asked=len(asked), recounted=recounted)
