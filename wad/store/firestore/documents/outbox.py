"""Outbox entries as documents, in both directions: ours, and those that the apps' functions write.  Pure.

See docs/internals/replaced-backend.md#outbox.  The apps know the states queued, processing, sent and failed;
`uncertain` is ours.  An entry of ours is packed in the map `wad`; an entry without it was written by a function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from wad.core.decoding import decoding
from wad.core.errors import BadInput, Conflict, InvalidData, NotSupported
from wad.core.jid import Jid, ThreadId, account_id
from wad.core.message import MessageStatus, further
from wad.core.outbox import LEFT, Claim, Entry
from wad.core.outgoing import Text
from wad.core.outgoing_rules import check
from wad.core.untrusted import LATEST_MS, map_, packed, text, time_ms
from wad.store.app_documents import Fields, moment
from wad.store.firestore.client.document_ids import is_key

CLAIM_MS: Final = 60_000  # the length of a claim by the replaced backend's worker

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
_ERROR: Final = 500  # characters of another program's error
_NAME: Final = 40  # characters of a field's name
_NAMES: Final = 5
_MOST_ATTEMPTS: Final = 1 << 31
_CLAIMED_ELSEWHERE: Final = "another program claimed it and never reported the result"
_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(Entry).decode


def entry_path(ident: str) -> str:
    """The path of an entry's document."""
    return f"outbox/{ident}"


def entry_fields(entry: Entry) -> Fields:
    """The document of an entry, without `payload`, in which a function may have stored more."""
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
    """Whether wad has written or claimed this entry."""
    return packed(map_(document, "wad"), "entry") is not None


def entry_of(ident: str, document: Mapping[str, Any], created_ms: int = 0) -> Entry:
    """Decode the entry of a document.  `created_ms`: the document's creation, the latest time of queuing.

    Raises BadInput with the reason if it cannot be sent; InvalidData if its fields are invalid.
    """
    if not is_key(ident):
        raise InvalidData("its id is too long")
    written = packed(map_(document, "wad"), "entry")
    if written is None:
        return _of_function(ident, document, created_ms)
    with decoding("its map wad"):
        entry = _unpack(written)
        _check_agreement(entry, ident, document)
    entry = _as_shown(entry, document)
    if entry.state is _S.QUEUED:
        _check_sendable(entry)
    return entry


def _check_agreement(entry: Entry, ident: str, document: Mapping[str, Any]) -> None:
    """Check that the packed entry belongs to this document and names a valid account and thread.  Raises BadInput."""
    if entry.id != ident:
        raise BadInput("its packed entry is not the one in its document id")
    if ThreadId.parse(entry.thread).account != account_id(entry.account):
        raise BadInput("its thread belongs to another account")
    Jid.parse(entry.to)
    expected = {"accountId": entry.account, "threadId": entry.thread, "toJid": entry.to}
    for name, value in expected.items():
        if document.get(name, value) != value:
            raise BadInput(f"its packed {name} differs from its field {name}")
    if not (abs(entry.created_ms) < LATEST_MS and abs(entry.sent_ms) < LATEST_MS):
        raise BadInput("its time is out of range")
    if not all(0 <= number < _MOST_ATTEMPTS for number in (entry.attempts, entry.deaths)):
        raise BadInput("its number of attempts is out of range")


def _check_sendable(entry: Entry) -> None:
    """Check the content and the recipient as they were checked when wad queued it.  Raises BadInput for every fault."""
    try:
        check(entry.content, Jid.parse(entry.to), entry.created_ms)
    except (Conflict, NotSupported) as error:
        raise BadInput(str(error), hint=error.hint) from error


def _as_shown(entry: Entry, document: Mapping[str, Any]) -> Entry:
    """The entry with the status that another program has written: it changes the document's status, not the packed
    entry.

    An entry that another program has claimed is not sent, and a sent entry is never queued again.
    """
    shown = text(document, "status")
    if entry.state not in (_S.QUEUED, _S.SENDING) or shown in ("", _STATUS[entry.state], "queued"):
        return entry
    change, error = msgspec.structs.replace, text(document, "lastError")[:_ERROR]
    match shown:
        case "sent":
            wa_id = text(document, "providerMessageId")
            sent_ms = time_ms(document.get("sentAt")) or entry.created_ms
            return change(entry, state=_S.SENT, claim=None, wa_id=wa_id, sent_ms=sent_ms)
        case "failed":
            why = error or "another program marked it as failed"
            return change(entry, state=_S.FAILED, claim=None, error=why, error_code="failed")
    return change(
        entry, state=_S.UNCERTAIN, claim=None, error=_CLAIMED_ELSEWHERE, error_code="uncertain"
    )


def _of_function(ident: str, document: Mapping[str, Any], created_ms: int) -> Entry:
    account = account_id(_text(document, "accountId"))
    to = Jid.parse(_text(document, "toJid")).bare()
    created = time_ms(document.get("createdAt")) or created_ms
    client_id = text(document, "clientMessageId")
    entry = Entry(
        id=ident,
        account=account,
        thread=str(ThreadId.make(account, to)),
        to=str(to),
        content=Text(_body(document)),
        client_id=client_id if is_key(client_id) else ident,
        secret=b"",
        created_ms=min(created, created_ms or created),
    )
    _check_sendable(entry)
    if document.get("status") == "queued":
        return entry
    # A worker of the replaced backend claimed it and died: it may have been sent.
    return msgspec.structs.replace(
        entry, state=_S.UNCERTAIN, attempts=1, error_code="uncertain", error=_CLAIMED_ELSEWHERE
    )


def _body(document: Mapping[str, Any]) -> str:
    payload = map_(document, "payload")
    if other := set(payload) - {"text"}:
        names = ", ".join(sorted(name[:_NAME] for name in list(other)[:_NAMES]))
        raise BadInput(f"its payload has {names}: only text can be sent")
    body = text(document, "body") or text(payload, "text")
    if not body:
        raise BadInput("it has no text (body, or payload.text)")
    return body


def _text(document: Mapping[str, Any], name: str) -> str:
    value = text(document, name)
    if not value:
        raise InvalidData(f"its {name} is missing or not a text")
    return value


def reconciled(known: Entry, found: Entry, *, unpushed: bool, claim: Claim | None = None) -> Entry:
    """Choose between two copies of an entry, ours and the one in Firestore.

    A sent entry wins over an unsent one, and a later status over an earlier one; else ours while it is `unpushed`,
    since only the holder of the lease changes entries, and Firestore's otherwise, unless it was read before ours was
    claimed. `claim`: the claim that we make now; only we revert it.
    """
    if found.state is _S.QUEUED and _is_older_copy(known, found, claim):
        return known
    if (known.state in LEFT) != (found.state in LEFT):
        return known if known.state in LEFT else found
    if known.state in LEFT and known.state is not found.state:
        return known if further(known.state, found.state) is known.state else found
    return known if unpushed else found


def _is_older_copy(known: Entry, found: Entry, claim: Claim | None) -> bool:
    """Whether a queued copy is older than ours: the listener and the pull report late, a restored backup even later.

    A failed or uncertain entry keeps its number of attempts when it is queued again.
    """
    if known.state is _S.SENDING:
        return known.claim is not None and known.claim.is_alike(claim)
    return known.state in (_S.FAILED, _S.UNCERTAIN) and found.attempts < known.attempts
