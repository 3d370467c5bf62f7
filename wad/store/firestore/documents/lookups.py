"""Documents by which a backend of the kind that wad replaces finds something again.

See docs/internals/replaced-backend.md#documents.  Pure.  No app reads them.  They are written for the way back: who
goes on after wad must not send a request again, nor store a message again that lies under another id than its own rules
give it, and it can't ask WhatsApp for names twice.
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
    """Where it is written down that a client's key was used."""
    return f"send_requests/{key}"


def request_fields(entry: Entry) -> Fields:
    """That this entry has its key.  Written once: whoever finds it sends nothing, whatever became of the message."""
    return {
        "status": "queued",
        "accountId": entry.account,
        "threadId": entry.thread,
        "to": entry.to,
        "createdAt": moment(entry.created_ms),
        "requestId": entry.id,
    }


def wa_id_path(message: Message) -> str:
    """Where the document of a message is found by its WhatsApp id."""
    return f"message_ids/{message.account}__{message.wa_id}"


def wa_id_fields(message: Message) -> Fields:
    """Which document a WhatsApp id means; what is not known here stays as the backend before us wrote it."""
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
    """Where the reference looks, before it stores a message, whether it is there."""
    key = message.stable_key or _stable_key(message)
    return f"threads/{message.thread}/dedupe/{key}"


def dedupe_fields(message: Message) -> Fields:
    """Which document shows the message."""
    return {"canonicalMessageId": message.id, "createdAt": moment(message.at_ms)}


def _stable_key(message: Message) -> str:
    """As the reference makes it of an echo.  In a group it may add our own address; then the WhatsApp id finds it."""
    return stable_key(
        message.account, Jid.parse(message.chat), message.wa_id, message.from_me, None
    )


def contact_path(account: str, jid: str) -> str:
    """Where a name lies."""
    return f"contacts/{account}__{jid}"


def contact_fields(account: str, jid: str, saved: str, told: str) -> Fields:
    """A person's names: `saved` on the phone, and `told` by themselves."""
    return {
        "accountId": account,
        "jid": jid,
        "name": saved or None,
        "notify": told or None,
        "phoneE164": phone_of(Jid.parse(jid)),
    }
