"""Auto-reply settings and backfills, in the replaced backend's format (docs/internals/replaced-backend.md#routes)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wad.api.legacy.accounts import account_of, call_as
from wad.api.legacy.vocabulary import Document, status_word
from wad.core.auto_reply import MORE, AutoReply, check
from wad.core.errors import LegacyRefusal, NotConnected

if TYPE_CHECKING:
    from wad.api.caller import Caller
    from wad.api.context import Context
    from wad.api.operations.legacy import SetAutoReply
    from wad.flow.accounts.account import Account

# --- replies --------------------------------------------------------------------------------------


async def auto_reply(context: Context, ident: str) -> Document:
    """An account's settings; the apps expect the prompt to be a text even if it is not set."""
    stored = await _stored(context, ident)
    return {**_document(stored), "prompt": stored.prompt or ""}


async def _stored(context: Context, ident: str) -> AutoReply:
    """The account's settings: set here, published by another machine, or stored by another program.

    Raises LegacyRefusal 404, Unavailable.
    """
    store = context.store
    try:
        stored = account_of(context, ident).card.auto_reply
    except LegacyRefusal:
        published = {status.account: status for status in await store.accounts()}
        if ident not in published:
            raise
        stored = published[ident].auto_reply
    return stored or await store.auto_reply(ident) or AutoReply()


async def set_auto_reply(account: Account, request: SetAutoReply) -> Document:
    """Store new settings.  Raises BadInput."""
    more = {name: value for name in MORE if (value := getattr(request, name)) is not None}
    wanted = check(AutoReply(enabled=request.enabled, prompt=request.prompt, more=more))
    await account.set_auto_reply(wanted)
    return _document(wanted)


def _document(stored: AutoReply) -> Document:
    """The settings in the apps' format, with a note that wad sends no replies."""
    return {
        "success": True,
        "enabled": stored.enabled,
        "prompt": stored.prompt,
        **stored.more,
        "writesReplies": False,
        "note": "wad stores these settings for a program that writes replies; wad itself sends none",
    }


# --- history --------------------------------------------------------------------------------------


def backfill(context: Context, account: Account) -> Document:
    """Start a backfill; the reply does not wait for it.  Raises LegacyRefusal 409."""
    from wad.flow.inbound.backfill import BackfillOptions

    running = context.backfills.running(account) is not None
    try:
        context.backfills.begin(account, BackfillOptions())
    except NotConnected as error:
        raise _not_connected(account, error) from error
    message = "Backfill is already running" if running else "Backfill started"
    return {"success": True, "message": message, "accountId": account.id, "running": True}


async def repair(context: Context, caller: Caller, account: Account) -> Document:
    """Request missing messages and recount the threads.  Raises LegacyRefusal 409."""
    try:
        result = await call_as(context, caller, "accounts.repair", account=account.id)
    except NotConnected as error:
        raise _not_connected(account, error) from error
    return {"success": True, "accountId": account.id, "result": result}


def _not_connected(account: Account, error: NotConnected) -> LegacyRefusal:
    more = {"currentStatus": status_word(account.status), "accountId": account.id}
    return LegacyRefusal(409, "invalid_state", str(error), more)
