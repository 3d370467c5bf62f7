"""Sending over HTTP (reference-backend.md 1.3): into the outbox, and the answer once its fate is known.

The caller's own id (`clientMessageId`, else the request's) makes asking twice one message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from wad.api import dispatch
from wad.api.reference import Document
from wad.api.rest.accounts import account_of
from wad.api.rest.exchange import Answer, HttpError, document
from wad.api.rest.limits import Limit
from wad.api.rest.routing import Call, Route
from wad.core.connection import State
from wad.core.errors import BadInput
from wad.core.jid import ThreadId, recipient
from wad.core.message import MessageStatus
from wad.core.outbox import LEFT

if TYPE_CHECKING:
    from wad.flow.account import Account

_WAIT: Final = 10.0  # seconds for which a connected account may take to send


class Send(msgspec.Struct, rename="camel"):
    """A text to send; `to` is a number or an address."""

    account_id: str
    message: str
    to: str = ""
    thread_id: str = ""
    client_message_id: str = ""


async def _send(call: Call) -> Answer:
    wanted = await call.request.content(Send)
    account = account_of(call.with_params(account=wanted.account_id))
    params = {
        "account": account.id,
        "to": _to(account, wanted),
        "text": wanted.message,
        "client_id": wanted.client_message_id or call.request.ident,
        "wait": _WAIT if account.status.state is State.CONNECTED else 0,
    }
    reply = await dispatch.call(call.context, "messages.send", params, call.access)
    sent = msgspec.convert(reply, _Reply)
    return document(200, _outcome(sent))


class _Entry(msgspec.Struct):
    id: str
    client_id: str
    state: MessageStatus
    wa_id: str
    error_code: str
    error: str


class _Reply(msgspec.Struct):
    message: _Entry
    duplicate: bool


def _to(account: Account, wanted: Send) -> str:
    """Whom it goes to.  Raises HttpError 400 where nobody is named."""
    if wanted.thread_id:
        return same_thread(account.id, wanted.thread_id, wanted.to)
    if not wanted.to:
        raise HttpError(400, "invalid_request", "to is missing")
    return wanted.to


def same_thread(account: str, thread: str, to: str) -> str:
    """The other party of a thread, which must be the account's, and that of `to` if it is given.

    Raises HttpError 400, 403.
    """
    try:
        parsed = ThreadId.parse(thread)
    except BadInput as error:
        raise HttpError(400, "invalid_request", str(error)) from error
    if parsed.account != account:
        raise HttpError(403, "account_mismatch", "the thread belongs to another account")
    if to and recipient(to) != parsed.jid:
        raise HttpError(400, "invalid_request", "the thread is not that of the recipient")
    return str(parsed.jid)


def _outcome(sent: _Reply) -> Document:
    """Raises HttpError 502 when it will never be sent."""
    entry = sent.message
    left = entry.state in LEFT
    if entry.state is MessageStatus.FAILED:
        more: Document = {"messageId": entry.id, "clientMessageId": entry.client_id}
        status = 422 if entry.error_code == "not_on_whatsapp" else 502
        raise HttpError(status, entry.error_code or "engine_failure", entry.error, more=more)
    content: Document = {"success": True}
    if sent.duplicate:
        content |= {"duplicate": True, "queued": not left}
    elif not left:
        content["queued"] = True
    return content | {
        "messageId": entry.wa_id or entry.id,
        "status": "sent" if left else str(entry.state),
        "clientMessageId": entry.client_id,
    }


ROUTES: Final = (
    Route(
        "POST", "/api/whatsapp/send-message", "messages.send", _send, limit=Limit.SEND, body=Send
    ),
)
