"""The settings for automatic replies.  wad stores them for other programs and sends no replies itself."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.operations.accounts import Named, Ref
from wad.core.auto_reply import AutoReply, check


class SetReplies(Params, frozen=True):
    """The settings to store."""

    account: Ref
    enabled: Annotated[bool, Meta(description="whether to reply automatically")]
    prompt: Annotated[str, Meta(description="the prompt for the program that writes replies")] = ""


class Replies(msgspec.Struct, frozen=True, kw_only=True):
    """The stored settings."""

    account: str
    enabled: bool
    prompt: str | None


@operation("accounts.auto_reply", access=Access.READ, command="account auto-reply")
async def show(context: Context, request: Named) -> Replies:
    """Show an account's settings for automatic replies.

    wad itself sends no replies. Until the settings are set here, those that another program stored apply.
    """
    account = context.accounts.find(request.account)
    stored = account.card.auto_reply or await context.store.auto_reply(account.id)
    return _replies(account.id, stored or AutoReply())


@operation(
    "accounts.set_auto_reply",
    access=Access.OPERATE,
    command="account set-auto-reply",
    leader_only=True,
)
async def set_(context: Context, request: SetReplies) -> Replies:
    """Set an account's settings for automatic replies.

    They are for another program that writes replies; wad itself sends none.
    """
    account = context.accounts.find(request.account)
    before = account.card.auto_reply or AutoReply()
    wanted = check(
        AutoReply(enabled=request.enabled, prompt=request.prompt or None, more=before.more)
    )
    await account.set_auto_reply(wanted)
    return _replies(account.id, wanted)


def _replies(account: str, stored: AutoReply) -> Replies:
    return Replies(account=account, enabled=stored.enabled, prompt=stored.prompt)
