"""Decoding Firestore's documents, of any program, as rows of an audit.  Pure.

See docs/internals/replaced-backend.md#documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from wad.audit.keys import parse
from wad.audit.rows import MessageRow, ThreadRow
from wad.audit.stamps import Stamp, stamp_of
from wad.core.errors import BadPhone
from wad.core.jid import Jid
from wad.core.untrusted import Fields, flag, integer, map_, text

ABSENT: Final = Stamp("absent", None)
_WA_IDS: Final = ("waMessageId", "providerMessageId", "waMessageIdRaw")
_ADDRESSES: Final = (
    "rawJid",
    "clientJidRaw",
    "resolvedJid",
    "canonicalJid",
    "remoteJid",
)
_SEEN: Final = ("ingestedAt", "createdAt")
_CONTENT_FIELDS: Final = ("tsClient", "body", "direction", "messageType", "media")


class DocumentLocation(NamedTuple):
    """The location of a message's document."""

    thread: str
    id: str

    @property
    def path(self) -> str:
        """The full path."""
        return f"threads/{self.thread}/messages/{self.id}"


def location_of(path: str) -> DocumentLocation | None:
    """The location of a path; None for a message in another collection of that name."""
    match path.split("/"):
        case ["threads", thread, "messages", ident]:
            return DocumentLocation(thread, ident)
    return None


def message_row(location: DocumentLocation, fields: Fields) -> MessageRow:
    """The row of a message's document; `id` is its path, as one id may be in several threads."""
    account = text(fields, "accountId") or location.thread.partition("__")[0]
    key = key_of(fields)
    sender = text(fields, "senderJid", "senderId") or text(key, "participant")
    return MessageRow(
        id=location.path,
        account=account,
        thread=location.thread,
        chat=chat_of(location.thread, fields),
        stamp=time_of(fields, "tsClient"),
        sender=sender,
        from_me=is_ours(fields),
        kind=text(fields, "messageType") or "unknown",
        text=text(fields, "body"),
        wa_id=text(fields, *_WA_IDS) or text(key, "id"),
        client_id=text(fields, "clientMessageId"),
        stable_key=text(fields, "stableKeyHash"),
        fingerprint=text(fields, "fingerprintHash"),
        seen=_seen(fields),
        marked=is_marked(fields),
        managed=is_managed(fields),
    )


def thread_row(ident: str, fields: Fields) -> ThreadRow | None:
    """The row of a thread's document; None if it only redirects to another."""
    if redirect_of(ident, fields):
        return None
    return ThreadRow(
        id=ident,
        account=text(fields, "accountId") or ident.partition("__")[0],
        chat=_thread_chat(ident, fields),
        stamp=time_of(fields, "lastMessageAt"),
        name=text(fields, "displayName", "name", "groupSubject"),
        messages=1,
    )


def redirect_of(ident: str, fields: Fields) -> str:
    """The thread that this one redirects to; empty if none."""
    to = text(fields, "redirectTo")
    return to if to != ident else ""


def time_of(fields: Fields, name: str) -> Stamp:
    """The time in a field, which may be absent."""
    return stamp_of(fields[name]) if name in fields else ABSENT


def is_managed(fields: Fields) -> bool:
    """Whether the daemon updates this document."""
    return bool(fields.get("wadBy"))


def is_marked(fields: Fields) -> bool:
    """Whether it is marked as a duplicate."""
    return flag(fields, "isDuplicate")


def is_ours(fields: Fields) -> bool:
    """Whether the account sent the message."""
    return fields.get("direction") == "outbound" or flag(key_of(fields), "fromMe")


def is_orphan_receipt(fields: Fields) -> bool:
    """Whether it is a receipt without a message: the reference wrote status updates under an id of their own (6)."""
    return "status" in fields and not any(fields.get(name) for name in _CONTENT_FIELDS)


def chat_of(thread: str, fields: Fields) -> str:
    """The address of the conversation, from the first field that has one.

    The reference stored an object as `clientJid`, and its text in the thread's id (5.2); an invalid address stays so.
    """
    found = next((jid for jid in _addresses_in(thread, fields) if parse(jid) is not None), None)
    return found or thread.partition("__")[2]


def _addresses_in(thread: str, fields: Fields) -> Iterator[str]:
    yield text(fields, "clientJid")
    yield thread.partition("__")[2]
    yield text(key_of(fields), "remoteJid")
    for name in _ADDRESSES:
        yield text(fields, name)
    yield text(fields, "canonicalThreadId").partition("__")[2]
    if isinstance(whole := fields.get("clientJid"), Mapping):
        for name in ("canonicalJid", "jid", *_ADDRESSES):
            yield text(whole, name)
    yield _address_of(text(fields, "normalizedPhone", "phoneE164", "phone"))
    if not is_ours(fields) and not fields.get("isGroup"):
        yield text(fields, "senderJid", "senderId")


def _thread_chat(ident: str, fields: Fields) -> str:
    """The chat of a thread, from no other fields: an audit looks for threads with an invalid address."""
    chat = text(fields, "clientJid")
    return chat if parse(chat) is not None else ident.partition("__")[2]


def _address_of(phone: str) -> str:
    try:
        return str(Jid.of_phone(phone)) if phone else ""
    except BadPhone:
        return ""


def key_of(fields: Fields) -> Fields:
    """WhatsApp's message key, as Baileys stores it."""
    return map_(fields, "key")


def _seen(fields: Fields) -> int:
    arrived = integer(fields, "arrivedUs", low=0)
    if arrived is not None:
        return arrived
    ms = next((ms for name in _SEEN if (ms := time_of(fields, name).ms) is not None), 0)
    return ms * 1000
