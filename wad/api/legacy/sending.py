"""Sending in the format of the replaced backend (docs/internals/replaced-backend.md#routes), through the outbox.

The client id (`clientMessageId`, else the request id) makes repeated requests one message.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from wad.api.legacy.accounts import account_of, call_as
from wad.api.legacy.vocabulary import Document
from wad.core.connection import State
from wad.core.errors import BadInput, LegacyRefusal
from wad.core.jid import ThreadId, recipient
from wad.core.message import MessageStatus
from wad.core.outbox import LEFT

if TYPE_CHECKING:
    from wad.api.caller import Caller
    from wad.api.context import Context
    from wad.api.operations.legacy import LegacySend, ProxySend
    from wad.flow.accounts.account import Account

_WAIT: Final = 10.0  # seconds to wait until a connected account has sent the message


async def send(context: Context, request: LegacySend, caller: Caller) -> Document:
    """Send a text and return its result.  Raises LegacyRefusal."""
    account = account_of(context, request.account_id)
    reply = await call_as(
        context,
        caller,
        "messages.send",
        account=account.id,
        to=_to(account, request),
        text=request.message,
        client_id=request.client_message_id or request.request_id,
        wait=_WAIT if account.status.state is State.CONNECTED else 0,
    )
    return {**_outcome(msgspec.convert(reply, _Reply)), "requestId": caller.request_id}


async def proxy_send(context: Context, request: ProxySend, caller: Caller) -> Document:
    """Queue a text under the id that the replaced proxy would use, so that a migration sends nothing twice.

    Raises LegacyRefusal.
    """
    account = account_of(context, request.account_id)
    if not request.client_message_id:
        raise LegacyRefusal(400, "invalid_request", "clientMessageId is missing")
    to = _same_thread(account.id, request.thread_id, request.to_jid)
    who = caller.uid or caller.name
    key = f"{request.thread_id}|{who}|{request.client_message_id}"
    ident = hashlib.sha256(key.encode()).hexdigest()
    reply = await call_as(
        context,
        caller,
        "messages.send",
        account=account.id,
        to=to,
        text=request.text,
        client_id=ident,
    )
    duplicate = msgspec.convert(reply, _Duplicate).duplicate
    return {
        "success": True,
        "requestId": ident,
        "duplicate": duplicate,
        "message": "Message is queued already" if duplicate else "Message queued",
    }


class _Duplicate(msgspec.Struct):
    duplicate: bool


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


def _to(account: Account, wanted: LegacySend) -> str:
    """The recipient.  Raises LegacyRefusal 400 without one."""
    if wanted.thread_id:
        return _same_thread(account.id, wanted.thread_id, wanted.to)
    if not wanted.to:
        raise LegacyRefusal(400, "invalid_request", "to is missing")
    return wanted.to


def _same_thread(account: str, thread: str, to: str) -> str:
    """The other party of a thread, which must be the account's thread, and with `to` if that is given.

    Raises LegacyRefusal 400, 403.
    """
    try:
        parsed = ThreadId.parse(thread)
    except BadInput as error:
        raise LegacyRefusal(400, "invalid_request", str(error)) from error
    if parsed.account != account:
        raise LegacyRefusal(403, "account_mismatch", "the thread belongs to another account")
    if to and recipient(to) != parsed.jid:
        raise LegacyRefusal(400, "invalid_request", "the thread belongs to another recipient")
    return str(parsed.jid)


def _outcome(sent: _Reply) -> Document:
    """The reply for a sent or queued message.  Raises LegacyRefusal 422 or 502 for a failed one."""
    entry = sent.message
    left = entry.state in LEFT
    if entry.state is MessageStatus.FAILED:
        more: Document = {
            "messageId": entry.id,
            "waMessageId": entry.wa_id or None,
            "clientMessageId": entry.client_id,
        }
        status = 422 if entry.error_code == "not_on_whatsapp" else 502
        raise LegacyRefusal(status, entry.error_code or "engine_failure", entry.error, more)
    content: Document = {"success": True}
    if sent.duplicate:
        content |= {"duplicate": True, "queued": not left}
    elif not left:
        content["queued"] = True
    return content | {
        "messageId": entry.id,
        "waMessageId": entry.wa_id or None,
        "status": "sent" if left else str(entry.state),
        "clientMessageId": entry.client_id,
    }
