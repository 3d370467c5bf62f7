"""An account's history and its settings for replies, in the form of the replaced backend.

See docs/internals/replaced-backend.md#routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wad.api.legacy.accounts import account_of, ask
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
    """The apps take the prompt for a text, also where there is none."""
    kept = await _kept(context, ident)
    return {**_shown(kept), "prompt": kept.prompt or ""}


async def _kept(context: Context, ident: str) -> AutoReply:
    """What is kept of the account: set here, published by another machine, or written by another program before.

    Raises Refusal 404, Unavailable.
    """
    store = context.store
    try:
        kept = account_of(context, ident).card.auto_reply
    except LegacyRefusal:
        published = {status.account: status for status in await store.accounts()}
        if ident not in published:
            raise
        kept = published[ident].auto_reply
    return kept or await store.auto_reply(ident) or AutoReply()


def set_auto_reply(account: Account, wish: SetAutoReply) -> Document:
    """Keep other settings.  Raises BadInput."""
    more = {name: value for name in MORE if (value := getattr(wish, name)) is not None}
    wanted = check(AutoReply(enabled=wish.enabled, prompt=wish.prompt, more=more))
    account.answer_by_itself(wanted)
    return _shown(wanted)


def _shown(kept: AutoReply) -> Document:
    """As the apps read it; wad says besides that it answers nobody."""
    return {
        "success": True,
        "enabled": kept.enabled,
        "prompt": kept.prompt,
        **kept.more,
        "writesReplies": False,
        "note": "wad keeps these settings for a program that writes replies; it writes none itself",
    }


# --- history --------------------------------------------------------------------------------------


def backfill(context: Context, account: Account) -> Document:
    """Begin to ask the phone for older messages; the answer does not wait for them.  Raises Refusal 409."""
    from wad.flow.inbound.backfill import BackfillOptions

    running = context.backfills.running(account) is not None
    try:
        context.backfills.begin(account, BackfillOptions())
    except NotConnected as error:
        raise _not_connected(account, error) from error
    message = "Backfill is under way already" if running else "Backfill started"
    return {"success": True, "message": message, "accountId": account.id, "running": True}


async def repair(context: Context, caller: Caller, account: Account) -> Document:
    """Ask for what is missing, and count anew.  Raises Refusal 409."""
    try:
        result = await ask(context, caller, "accounts.repair", account=account.id)
    except NotConnected as error:
        raise _not_connected(account, error) from error
    return {"success": True, "accountId": account.id, "result": result}


def _not_connected(account: Account, error: NotConnected) -> LegacyRefusal:
    more = {"currentStatus": status_word(account.status), "accountId": account.id}
    return LegacyRefusal(409, "invalid_state", str(error), more)
