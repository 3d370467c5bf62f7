"""Outbox entries as documents, both ways: ours, and those that the apps' functions write (reference-backend.md 7).

Pure.  The apps know the states queued, processing, sent and failed; `uncertain` is ours.  An entry of ours carries
itself in the map `wad`; an entry without one was written by a function.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from wad.core.errors import BadInput
from wad.core.jid import Jid, ThreadId, account_id
from wad.core.message import MessageStatus, further
from wad.core.outbox import LEFT, Entry
from wad.core.outgoing import Text
from wad.store.fields import Fields, moment

CLAIM_MS: Final = 60_000  # for so long the reference's worker claims an entry (7)

_S: Final = MessageStatus
_STATUS: Final = {
    _S.QUEUED: "queued",
    _S.SENDING: "processing",
    _S.UNCERTAIN: "uncertain",
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
    """The document of an entry; `payload`, which a function may have filled with more, is left as it is."""
    sent = entry.state in LEFT
    return {
        "requestId": entry.id,
        "accountId": entry.account,
        "threadId": entry.thread,
        "toJid": entry.to,
        "body": entry.text,
        "status": _STATUS[entry.state],
        "statusDetail": entry.state.value,
        "attemptCount": entry.attempts,
        "createdAt": moment(entry.created_ms),
        "clientMessageId": entry.client_id,
        "providerMessageId": entry.wa_id or None,
        "sentAt": moment(entry.sent_ms) if entry.sent_ms else None,
        "success": sent,
        "lastError": entry.error or None,
        "claimedBy": entry.claim.holder if entry.claim else None,
        "claimEpoch": entry.claim.epoch if entry.claim else None,
        **({} if entry.claim else {"claimedAt": None, "leaseUntil": None}),
        "wad": {"entry": _pack(entry)},
    }


def new_entry_fields(entry: Entry) -> Fields:
    """The document of an entry that is queued now."""
    queued = {"payload": {"text": entry.text}, "nextAttemptAt": moment(entry.created_ms)}
    return {**entry_fields(entry), **queued}


def claimed_fields(entry: Entry, now_ms: int) -> Fields:
    """The document of an entry that is claimed at `now_ms`; it ends with its epoch."""
    claim = {"claimedAt": moment(now_ms), "leaseUntil": moment(now_ms + CLAIM_MS)}
    return {**entry_fields(entry), **claim}


def is_ours(document: Mapping[str, Any]) -> bool:
    """Whether wad wrote this entry, or has taken it."""
    ours = document.get("wad")
    return isinstance(ours, Mapping) and isinstance(ours.get("entry"), bytes)


def entry_of(ident: str, document: Mapping[str, Any], created_ms: int = 0) -> Entry:
    """The entry in a document; `created_ms`: when the document was, where it does not say.

    Raises BadInput for one that cannot be sent, saying why.
    """
    if not is_ours(document):
        return _of_function(ident, document, created_ms)
    try:
        return _unpack(document["wad"]["entry"])
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise BadInput(f"its map `wad` cannot be read: {error}") from error


def _of_function(ident: str, document: Mapping[str, Any], created_ms: int) -> Entry:
    account = account_id(_text(document, "accountId"))
    to = Jid.parse(_text(document, "toJid")).bare()
    created = document.get("createdAt")
    entry = Entry(
        id=ident,
        account=account,
        thread=str(ThreadId.make(account, to)),
        to=str(to),
        content=Text(_words(document)),
        client_id=str(document.get("clientMessageId") or ident),
        secret=b"",
        created_ms=round(created.timestamp() * 1000)
        if isinstance(created, datetime)
        else created_ms,
    )
    if document.get("status") == "queued":
        return entry
    # A worker of the reference claimed it and ended (7, "No reaper"): it may have been sent.
    why = "another program claimed it, and never said what became of it"
    return msgspec.structs.replace(
        entry, state=_S.UNCERTAIN, attempts=1, error_code="uncertain", error=why
    )


def _words(document: Mapping[str, Any]) -> str:
    payload = document.get("payload")
    if isinstance(payload, Mapping) and (other := set(payload) - {"text"}):
        raise BadInput(
            f"its payload has {', '.join(sorted(map(str, other)))}: only text can be sent"
        )
    words = document.get("body") or (payload.get("text") if isinstance(payload, Mapping) else None)
    if not isinstance(words, str) or not words:
        raise BadInput("it has no text (body, or payload.text)")
    return words


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise BadInput(f"its {name} is no text")
    return value


def reconciled(known: Entry, found: Entry, *, untold: bool) -> Entry:
    """Which of two copies of an entry counts, ours or the one in Firestore.

    What left counts before what did not, and further before less far; else ours while it is `untold`, since only the
    holder of the lease changes entries, and theirs otherwise.
    """
    if (known.state in LEFT) != (found.state in LEFT):
        return known if known.state in LEFT else found
    if known.state in LEFT and known.state is not found.state:
        return known if further(known.state, found.state) is known.state else found
    return known if untold else found
