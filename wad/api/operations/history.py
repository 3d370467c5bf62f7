"""Operations on history: backfill and repair of messages with the help of the phone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.operations.accounts import Named, Ref
from wad.api.views.history import BackfillProgress, HistoryRepaired

if TYPE_CHECKING:
    from wad.flow.inbound.backfill import Run


class BackfillRequest(Params, frozen=True):
    """The account, and how much history to request."""

    account: Ref
    threads: Annotated[int, Meta(ge=1, le=500, description="how many conversations")] = 50
    messages: Annotated[
        int, Meta(ge=1, le=200, description="how many messages per conversation")
    ] = 50


@operation("accounts.backfill", access=Access.OPERATE, command="account backfill", leader_only=True)
async def backfill(context: Context, request: BackfillRequest) -> AsyncIterator[BackfillProgress]:
    """Request older messages from an account's phone, conversation by conversation.

    Conversations with the newest messages come first. The phone must be switched on. The run continues when this
    command is interrupted; calling it again shows the running backfill.

    Example: wadctl account backfill main --threads 20 --messages 100
    """
    from wad.flow.inbound.backfill import BackfillOptions

    account = context.accounts.find(request.account)
    run = context.backfills.begin(account, BackfillOptions(request.threads, request.messages))
    async for update in run.follow():
        yield _progress(account.id, update)
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
    """Request lost and unreadable messages from the phone again, and recount the conversations.

    A message replaces its placeholder when the phone sends it, which may take a minute.
    """
    account = context.accounts.find(request.account)
    asked = await context.backfills.ask_again(account)
    recounted = await context.store.recount(account.id)
    return HistoryRepaired(account=account.id, asked=len(asked), recounted=recounted)
