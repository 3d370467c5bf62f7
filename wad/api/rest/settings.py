"""Routes of an account's history and of its settings for replies (reference-backend.md 1.3)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from wad.api import dispatch
from wad.api.operation import Access
from wad.api.reference import Document, status_word
from wad.api.rest.accounts import account_of
from wad.api.rest.exchange import Answer, HttpError, document
from wad.api.rest.limits import Limit
from wad.api.rest.routing import Call, Route
from wad.core.autoreply import MORE, AutoReply, check
from wad.core.errors import NotConnected

# --- replies --------------------------------------------------------------------------------------


class AutoReplyWish(msgspec.Struct):
    """Whether to answer by itself, and how; the rest as later apps have it, whatever they put into it."""

    enabled: bool
    prompt: str | None = None
    logic: Any = None
    restrictions: Any = None
    pricing: Any = None
    faq: Any = None
    extraction: Any = None


async def _auto_reply(call: Call) -> Answer:
    """The apps take the prompt for a text, also where there is none."""
    kept = await _kept(call)
    return document(200, {**_shown(kept), "prompt": kept.prompt or ""})


async def _kept(call: Call) -> AutoReply:
    """What is kept of the account: set here, published by another machine, or written by another program before.

    Raises HttpError 404, Unavailable.
    """
    store, ident = call.context.store, call.params["account"]
    try:
        kept = account_of(call).card.auto_reply
    except HttpError:
        published = {status.account: status for status in await store.accounts()}
        if ident not in published:
            raise
        kept = published[ident].auto_reply
    return kept or await store.auto_reply(ident) or AutoReply()


async def _set_auto_reply(call: Call) -> Answer:
    account = account_of(call)
    wish = await call.request.content(AutoReplyWish)
    more = {name: value for name in MORE if (value := getattr(wish, name)) is not None}
    wanted = check(AutoReply(enabled=wish.enabled, prompt=wish.prompt, more=more))
    account.answer_by_itself(wanted)
    return document(200, _shown(wanted))


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


async def backfill(call: Call) -> Answer:
    """Begin to ask the phone for older messages; the answer does not wait for them."""
    from wad.flow.backfill import Wish

    account = account_of(call)
    running = call.context.backfills.running(account) is not None
    try:
        call.context.backfills.begin(account, Wish())
    except NotConnected as error:
        raise _not_connected(call, error) from error
    message = "Backfill is under way already" if running else "Backfill started"
    content = {"success": True, "message": message, "accountId": account.id, "running": True}
    return document(200, content)


async def _repair(call: Call) -> Answer:
    """Ask for what is missing, and count anew."""
    account = account_of(call)
    try:
        result = await dispatch.call(
            call.context, "accounts.repair", {"account": account.id}, call.access
        )
    except NotConnected as error:
        raise _not_connected(call, error) from error
    return document(200, {"success": True, "accountId": account.id, "result": result})


def _not_connected(call: Call, error: NotConnected) -> HttpError:
    status = account_of(call).status
    more = {"currentStatus": status_word(status), "accountId": call.params["account"]}
    return HttpError(409, "invalid_state", str(error), more=more)


ROUTES: Final = (
    Route("GET", "/api/whatsapp/auto-reply-settings/{account}", "accounts.auto_reply", _auto_reply),
    Route(
        "POST", "/api/whatsapp/auto-reply-settings/{account}", "accounts.set_auto_reply", _set_auto_reply,
        limit=Limit.ACCOUNTS, body=AutoReplyWish,
    ),
    Route(
        "POST", "/api/whatsapp/backfill/{account}", "accounts.backfill", backfill,
        limit=Limit.ACCOUNTS,
    ),
    Route(
        "POST", "/api/whatsapp/repair-sync/{account}", "accounts.repair", _repair,
        least=Access.ADMIN, limit=Limit.ACCOUNTS,
    ),
)  # fmt: skip
