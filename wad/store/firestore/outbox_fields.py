"""Outbox entries as documents, both ways: ours, and those that the apps' functions write (reference-backend.md 7).

Pure.  The apps know the states queued, processing, sent and failed.  An entry of ours carries itself in the map `wad`;
an entry without one was written by a function, and waits to be sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from wad.core.errors import BadInput
from wad.core.jid import Jid, ThreadId, account_id
from wad.core.message import MessageStatus
from wad.core.outbox import Entry, check_text
from wad.store.firestore.fields import Fields, moment

_S: Final = MessageStatus
_STATUS: Final = {
    _S.QUEUED: "queued",
    _S.SENDING: "processing",
    _S.UNCERTAIN: "processing",
    _S.FAILED: "failed",
    _S.SENT: "sent",
    _S.DELIVERED: "sent",
    _S.READ: "sent",
    _S.PLAYED: "sent",
}
_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(Entry).decode


def entry_path(ident: str) -> str:
    """Where an entry lies."""
    return f"outbox/{ident}"


def entry_fields(entry: Entry) -> Fields:
    """The document of an entry."""
    return {
        "requestId": entry.id,
        "accountId": entry.account,
        "threadId": entry.thread,
        "toJid": entry.to,
        "body": entry.text,
        "payload": {"text": entry.text},
        "status": _STATUS[entry.state],
        "attemptCount": entry.attempts,
        "createdAt": moment(entry.created_ms),
        "clientMessageId": entry.client_id,
        "providerMessageId": entry.wa_id or None,
        "sentAt": moment(entry.sent_ms) if entry.sent_ms else None,
        "success": _STATUS[entry.state] == "sent",
        "lastError": entry.error or None,
        "claimedBy": entry.claim.holder if entry.claim else None,
        "wad": {"entry": _pack(entry), "state": str(entry.state)},
    }


def entry_of(ident: str, document: Mapping[str, Any]) -> Entry:
    """The entry in a document.  Raises BadInput for one that cannot be sent, saying why."""
    ours = document.get("wad")
    if isinstance(ours, Mapping) and isinstance(ours.get("entry"), bytes):
        try:
            return _unpack(ours["entry"])
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise BadInput(f"its map `wad` cannot be read: {error}") from error
    return _of_function(ident, document)


def _of_function(ident: str, document: Mapping[str, Any]) -> Entry:
    account = account_id(_text(document, "accountId"))
    to = Jid.parse(_text(document, "toJid")).bare()
    payload = document.get("payload")
    words = document.get("body") or (payload.get("text") if isinstance(payload, Mapping) else None)
    if not isinstance(words, str):
        raise BadInput("it has no text (body, or payload.text)")
    created = document.get("createdAt")
    return Entry(
        id=ident,
        account=account,
        thread=str(ThreadId.make(account, to)),
        to=str(to),
        text=check_text(words),
        client_id=str(document.get("clientMessageId") or ident),
        secret=b"",
        created_ms=round(created.timestamp() * 1000) if isinstance(created, datetime) else 0,
    )


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise BadInput(f"its {name} is no text")
    return value
