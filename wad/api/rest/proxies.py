"""The paths of the reference's Functions proxies (reference-backend.md 1.4), so that the apps need no Functions.

They are the same routes under other names, with the account in the query.  Who may ask is decided by the same token and
role as everywhere; the proxies' own codes are not needed, since nothing stands between.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from wad.api import dispatch
from wad.api.operation import Access
from wad.api.rest import accounts, conversations, settings
from wad.api.rest.accounts import account_of
from wad.api.rest.exchange import Answer, HttpError, document
from wad.api.rest.limits import Limit
from wad.api.rest.routing import Call, Handler, Route
from wad.api.rest.sending import same_thread


class ProxySend(msgspec.Struct, rename="camel"):
    """A text to send, as the apps give it to their proxy."""

    thread_id: str
    account_id: str
    to_jid: str
    text: str
    client_message_id: str


def _in_query(handler: Handler) -> Handler:
    """The handler of a path with an account in it, for one that has it in the query."""

    async def ask(call: Call) -> Answer:
        account = call.request.query.get("accountId", "")
        if not account:
            raise HttpError(400, "invalid_request", "accountId is missing")
        return await handler(call.with_params(account=account))

    return ask


async def _send(call: Call) -> Answer:
    """The request's id is the reference's, so that both sides of a move to wad agree on what was sent."""
    wanted = await call.request.content(ProxySend)
    account = account_of(call.with_params(account=wanted.account_id))
    if not wanted.client_message_id:
        raise HttpError(400, "invalid_request", "clientMessageId is missing")
    to = same_thread(account.id, wanted.thread_id, wanted.to_jid)
    who = call.caller.uid or call.caller.name
    key = f"{wanted.thread_id}|{who}|{wanted.client_message_id}"
    ident = hashlib.sha256(key.encode()).hexdigest()
    params = {"account": account.id, "to": to, "text": wanted.text, "client_id": ident}
    reply = await dispatch.call(call.context, "messages.send", params, call.access)
    duplicate = msgspec.convert(reply, _Duplicate).duplicate
    content = {
        "success": True,
        "requestId": ident,
        "duplicate": duplicate,
        "message": "Message is queued already" if duplicate else "Message queued",
    }
    return document(200, content)


class _Duplicate(msgspec.Struct):
    duplicate: bool


async def _who_am_i(call: Call) -> Answer:
    caller = call.caller
    content = {
        "success": True,
        "uid": caller.uid or None,
        "email": caller.email or None,
        "name": caller.name,
        "isSuperAdmin": call.access >= Access.ADMIN,
        "isEmployee": call.access >= Access.OPERATE,
    }
    return document(200, content)


_ACCOUNT: Final = ("accountId",)
_PAGE: Final = ("accountId", "limit", "after")

ROUTES: Final = (
    Route(
        "GET", "/whatsappProxyGetAccounts", "accounts.list", accounts.list_,
        least=Access.ADMIN, headerless=True,
    ),
    Route(
        "GET", "/whatsappProxyGetAccountsStaff", "accounts.list", accounts.list_without_codes,
        least=Access.OPERATE,
    ),
    Route(
        "GET", "/whatsappProxyGetInbox", "messages.list", _in_query(conversations.inbox),
        least=Access.OPERATE, query=_PAGE,
    ),
    Route(
        "GET", "/whatsappProxyGetThreads", "threads.list", _in_query(conversations.threads),
        least=Access.OPERATE, query=_PAGE,
    ),
    Route(
        "GET", "/whatsappProxyGetMessages", "messages.list", conversations.messages_by_query,
        least=Access.OPERATE, query=("accountId", "threadId", "limit", "after"),
    ),
    Route(
        "POST", "/whatsappProxyAddAccount", "accounts.add", accounts.add,
        least=Access.ADMIN, limit=Limit.ACCOUNTS, body=accounts.NewAccount,
    ),
    Route(
        "POST", "/whatsappProxyRegenerateQr", "accounts.pair", _in_query(accounts.regenerate),
        least=Access.ADMIN, limit=Limit.QR, query=_ACCOUNT, headerless=True,
    ),
    *(
        Route(
            method, "/whatsappProxyDeleteAccount", "accounts.remove", _in_query(accounts.delete),
            limit=Limit.ACCOUNTS, query=_ACCOUNT,
        )
        for method in ("POST", "DELETE")
    ),
    Route(
        "POST", "/whatsappProxyBackfillAccount", "accounts.backfill", _in_query(settings.backfill),
        limit=Limit.ACCOUNTS, query=_ACCOUNT,
    ),
    Route(
        "POST", "/whatsappProxySend", "messages.send", _send, limit=Limit.SEND, body=ProxySend
    ),
    Route("GET", "/whatsappWhoAmI", "version", _who_am_i),
)  # fmt: skip
