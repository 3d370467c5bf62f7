"""Routes for what wad does not do: the apps ask for it, and get a true answer (reference-backend.md 1.3)."""

from __future__ import annotations

from typing import Final

import msgspec

from wad.api.operation import Access
from wad.api.reference import status_word
from wad.api.rest.accounts import account_of
from wad.api.rest.exchange import Answer, HttpError, document
from wad.api.rest.limits import Limit
from wad.api.rest.routing import Call, Route
from wad.core.connection import State


class AutoReply(msgspec.Struct):
    """Whether to answer by itself, and how."""

    enabled: bool
    prompt: str | None = None


async def _auto_reply(call: Call) -> Answer:
    account_of(call)
    return document(200, {"success": True, "enabled": False, "prompt": None})


async def _set_auto_reply(call: Call) -> Answer:
    account_of(call)
    wanted = await call.request.content(AutoReply)
    if wanted.enabled:
        raise HttpError(501, "not_supported", "wad answers nobody by itself")
    return document(200, {"success": True, "enabled": False, "prompt": None})


async def backfill(call: Call) -> Answer:
    """Refused: the phone gives its history when it is paired, and wad asks for no more."""
    account = account_of(call)
    if account.status.state is not State.CONNECTED:
        raise HttpError(
            409,
            "invalid_state",
            f"the account is {account.status.state}",
            more={"currentStatus": status_word(account.status)},
        )
    raise HttpError(
        501,
        "not_supported",
        "wad keeps the history that the phone gives when it is paired, and cannot ask for more",
    )


ROUTES: Final = (
    Route("GET", "/api/whatsapp/auto-reply-settings/{account}", "accounts.show", _auto_reply),
    Route(
        "POST", "/api/whatsapp/auto-reply-settings/{account}", "accounts.start", _set_auto_reply,
        limit=Limit.ACCOUNTS, body=AutoReply,
    ),
    Route(
        "POST", "/api/whatsapp/backfill/{account}", "accounts.restart", backfill,
        limit=Limit.ACCOUNTS,
    ),
    Route(
        "POST", "/api/whatsapp/repair-sync/{account}", "accounts.restart", backfill,
        least=Access.ADMIN, limit=Limit.ACCOUNTS,
    ),
)  # fmt: skip
