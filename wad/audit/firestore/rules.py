"""Rules that correct one legacy document.  Pure.

They do not apply to documents that the daemon manages, which follow its own store.
"""

from __future__ import annotations

from typing import Any, Final

from wad.audit.firestore.decode import is_ours, key_of, time_of
from wad.audit.stamps import stamp_of
from wad.core.message import MessageStatus, further
from wad.core.untrusted import Fields
from wad.store.app_documents import moment

BEFORE: Final = "statusBeforeRepair"
"""The field with the status before the correction, so that it is corrected once."""
_WHOLE_NUMBERS: Final = ("tsClientMs", "createdAtMs")
_OTHER_TIMES: Final = ("tsClientMs", "createdAtMs", "createdAt", "tsServer", "ingestedAt")
_S: Final = MessageStatus
_ONE_TOO_FAR: Final = {_S.DELIVERED: _S.SENT, _S.READ: _S.DELIVERED}
_EVIDENCE: Final = (
    (_S.DELIVERED, ("deliveredAt", "deliveredTimestamp")),
    (_S.READ, ("readAt", "readTimestamp")),
)


def right_times(fields: Fields) -> dict[str, Any] | None:
    """The fields to write for a time that is not a Timestamp; None if the time is not known.

    Firestore sorts every text above every Timestamp (docs/internals/firestore.md#sort-order), and the apps ask for the
    newest by `tsClient`; milliseconds they take as whole numbers only
    (docs/internals/replaced-backend.md#what-readers-rely-on).
    """
    stamp = time_of(fields, "tsClient")
    ms = stamp.ms if stamp.ms is not None else _other_time(fields)
    if ms is None:
        return None
    right: dict[str, Any] = {} if stamp.type == "timestamp" else {"tsClient": moment(ms)}
    for name in _WHOLE_NUMBERS:
        if fields.get(name) is not None and type(fields[name]) is not int:
            right[name] = stamp_of(fields[name]).ms or ms
    return right


def _other_time(fields: Fields) -> int | None:
    times = [stamp_of(fields.get(name)).ms for name in _OTHER_TIMES]
    times.append(stamp_of(key_of(fields).get("timestamp")).ms)
    return next((ms for ms in times if ms is not None), None)


def right_status(fields: Fields) -> MessageStatus | None:
    """The correct status of a message of the account; None if the document's is correct or unknown.

    The reference read WhatsApp's numbers one too low: sent shown as delivered, delivered as read (6, receipts).  A time
    of delivery or reading comes from a receipt and is trusted.
    """
    if not is_ours(fields) or BEFORE in fields:
        return None
    return one_back(fields)


def one_back(fields: Fields) -> MessageStatus | None:
    """The correct status of a status update; None if it needs no correction."""
    try:
        shown = MessageStatus(str(fields.get("status")))
    except ValueError:
        return None
    right = _ONE_TOO_FAR.get(shown)
    if right is None:
        return None
    for status, names in _EVIDENCE:
        if any(fields.get(name) is not None for name in names):
            right = further(right, status)
    return None if right is shown else right


def with_receipt(fields: Fields, receipt: Fields) -> MessageStatus | None:
    """The status of a message whose receipt is in a separate document; None if the receipt adds nothing."""
    shown = _status(fields.get("status"))
    received = one_back(receipt) or _status(receipt.get("status"))
    if shown is None or received is None or further(shown, received) is shown:
        return None
    return received


def _status(value: object) -> MessageStatus | None:
    try:
        return MessageStatus(str(value))
    except ValueError:
        return None


def has_content(fields: Fields) -> bool:
    """Whether it has content for a preview: the reference wrote empty documents for messages that it could not read."""
    return bool(fields.get("body") or fields.get("media")) or fields.get("messageType") not in (
        None,
        "unknown",
    )


def preview(fields: Fields) -> str:
    """The preview of a message in a list of threads."""
    body = fields.get("body")
    return body if isinstance(body, str) and body else f"[{fields.get('messageType')}]"


def is_summary_right(thread: Fields, newest_ms: int) -> bool:
    """Whether a thread's document has its newest message, with the types that the apps read."""
    return (
        time_of(thread, "lastMessageAt").type == "timestamp"
        and time_of(thread, "lastMessageAt").ms == newest_ms
        and type(thread.get("lastMessageAtMs")) is int
        and thread["lastMessageAtMs"] == newest_ms
    )


def summary(newest: Fields, newest_ms: int) -> dict[str, Any]:
    """The fields of a thread's document about its newest message."""
    text = preview(newest)
    return {
        "lastMessageAt": moment(newest_ms),
        "lastMessageAtMs": newest_ms,
        "lastMessageText": text,
        "lastMessagePreview": text[:100],
        "lastMessageDirection": "outbound" if is_ours(newest) else "inbound",
    }
