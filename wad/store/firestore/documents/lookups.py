"""Lookup documents of the replaced backend.  Pure.

See docs/internals/replaced-backend.md#documents.  No app reads them.  They are written so that the replaced backend can
take over again: it must not send a request twice or store a message twice that has another id than its own rules give
it, and it cannot ask WhatsApp for names again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from wad.core.identity import stable_key
from wad.core.jid import Jid
from wad.core.message import Message
from wad.core.outbox import Entry
from wad.store.app_documents import Fields, moment, phone_of

_KEPT: Final = timedelta(days=30)


def request_path(key: str) -> str:
    """The path of the document that records the use of a client's key."""
    return f"send_requests/{key}"


def request_fields(entry: Entry) -> Fields:
    """The document that records the use of this entry's key.  Written once: a backend that finds it sends nothing."""
    return {
        "status": "queued",
        "accountId": entry.account,
        "threadId": entry.thread,
        "to": entry.to,
        "createdAt": moment(entry.created_ms),
        "requestId": entry.id,
    }


def wa_id_path(message: Message) -> str:
    """The path of the document that maps a WhatsApp id to a message's document."""
    return f"message_ids/{message.account}__{message.wa_id}"


def wa_id_fields(message: Message) -> Fields:
    """The document that maps a WhatsApp id; fields that are unknown here stay as the legacy backend wrote them."""
    fields = {
        "accountId": message.account,
        "threadId": message.thread,
        "docId": message.id,
        "waMessageId": message.wa_id,
        "requestId": message.id if message.client_id else None,
        "clientMessageId": message.client_id or None,
        "expiresAt": moment(message.at_ms) + _KEPT,
    }
    return {name: value for name, value in fields.items() if value is not None}


def dedupe_path(message: Message) -> str:
    """The path at which the replaced backend checks for a duplicate before it stores a message."""
    key = message.stable_key or _stable_key(message)
    return f"threads/{message.thread}/dedupe/{key}"


def dedupe_fields(message: Message) -> Fields:
    """The document that names the message's document."""
    return {"canonicalMessageId": message.id, "createdAt": moment(message.at_ms)}


def _stable_key(message: Message) -> str:
    """The stable key as the replaced backend derives it from an echo.

    In a group it may add our own address; then the WhatsApp id finds the message.
    """
    return stable_key(
        message.account, Jid.parse(message.chat), message.wa_id, message.from_me, None
    )


def contact_path(account: str, jid: str) -> str:
    """The path of a contact's document."""
    return f"contacts/{account}__{jid}"


def contact_fields(account: str, jid: str, saved: str, push_name: str) -> Fields:
    """The document of a contact: the name `saved` on the phone, and the contact's own push name."""
    return {
        "accountId": account,
        "jid": jid,
        "name": saved or None,
        "notify": push_name or None,
        "phoneE164": phone_of(Jid.parse(jid)),
    }
