"""Settings for whoever writes replies by itself.  wad keeps them and writes no replies."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.operations.accounts import Named, Ref
from wad.core.auto_reply import AutoReply, check


class SetReplies(Params, frozen=True):
    """What is to be kept."""

    account: Ref
    enabled: Annotated[bool, Meta(description="whether to answer by itself")]
    prompt: Annotated[str, Meta(description="how")] = ""


class Replies(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept."""

    account: str
    enabled: bool
    prompt: str | None


@operation("accounts.auto_reply", access=Access.READ, command="account auto-reply")
async def show(context: Context, request: Named) -> Replies:
    """Show an account's settings for automatic replies; wad itself writes none.

    Until somebody sets them here, those count that another program has written down.
    """
    account = context.accounts.find(request.account)
    kept = account.card.auto_reply or await context.store.auto_reply(account.id)
    return _replies(account.id, kept or AutoReply())


@operation(
    "accounts.set_auto_reply",
    access=Access.OPERATE,
    command="account set-auto-reply",
    leader_only=True,
)
async def set_(context: Context, request: SetReplies) -> Replies:
    """Keep an account's settings for automatic replies, for a program that writes them.

    wad itself writes none.
    """
    account = context.accounts.find(request.account)
    before = account.card.auto_reply or AutoReply()
    wanted = check(
        AutoReply(enabled=request.enabled, prompt=request.prompt or None, more=before.more)
    )
    account.answer_by_itself(wanted)
    return _replies(account.id, wanted)


def _replies(account: str, kept: AutoReply) -> Replies:
    return Replies(account=account, enabled=kept.enabled, prompt=kept.prompt)
