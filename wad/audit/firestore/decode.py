"""A document of Firestore as a row of an audit, whichever program wrote it.  Pure.

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
_SAYS_SOMETHING: Final = ("tsClient", "body", "direction", "messageType", "media")


class DocumentLocation(NamedTuple):
    """Where a message's document lies."""

    thread: str
    id: str

    @property
    def path(self) -> str:
        """The whole path."""
        return f"threads/{self.thread}/messages/{self.id}"


def place_of(path: str) -> DocumentLocation | None:
    """Where a path lies; None for a message of some other collection of that name."""
    match path.split("/"):
        case ["threads", thread, "messages", ident]:
            return DocumentLocation(thread, ident)
    return None


def message_row(place: DocumentLocation, fields: Fields) -> MessageRow:
    """What the document says; `id` is its path, as one id may lie in several threads."""
    account = text(fields, "accountId") or place.thread.partition("__")[0]
    key = key_of(fields)
    sender = text(fields, "senderJid", "senderId") or text(key, "participant")
    return MessageRow(
        id=place.path,
        account=account,
        thread=place.thread,
        chat=chat_of(place.thread, fields),
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
        kept_up=is_kept_up(fields),
    )


def thread_row(ident: str, fields: Fields) -> ThreadRow | None:
    """What the document of a conversation says; None for one that only names another."""
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
    """The thread that this one points to; empty for none."""
    to = text(fields, "redirectTo")
    return to if to != ident else ""


def time_of(fields: Fields, name: str) -> Stamp:
    """The time in a field, which may not be there."""
    return stamp_of(fields[name]) if name in fields else ABSENT


def is_kept_up(fields: Fields) -> bool:
    """Whether the daemon writes this document again whenever it has news of it."""
    return bool(fields.get("wadBy"))


def is_marked(fields: Fields) -> bool:
    """Whether it was marked as a duplicate before."""
    return flag(fields, "isDuplicate")


def is_ours(fields: Fields) -> bool:
    """Whether the account wrote the message."""
    return fields.get("direction") == "outbound" or flag(key_of(fields), "fromMe")


def is_receipt_alone(fields: Fields) -> bool:
    """What a status update made where no message was: the reference wrote receipts under an id of its own (6)."""
    return "status" in fields and not any(fields.get(name) for name in _SAYS_SOMETHING)


def chat_of(thread: str, fields: Fields) -> str:
    """The address of the conversation, from wherever it is told.

    The reference stored an object as `clientJid`, and its text in the thread's id (5.2); what is no address stays so.
    """
    found = next((jid for jid in _told(thread, fields) if parse(jid) is not None), None)
    return found or thread.partition("__")[2]


def _told(thread: str, fields: Fields) -> Iterator[str]:
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
    """Not by other fields: a thread whose own address is none is what an audit looks for."""
    chat = text(fields, "clientJid")
    return chat if parse(chat) is not None else ident.partition("__")[2]


def _address_of(phone: str) -> str:
    try:
        return str(Jid.of_phone(phone)) if phone else ""
    except BadPhone:
        return ""


def key_of(fields: Fields) -> Fields:
    """WhatsApp's own key, as Baileys hands it over."""
    return map_(fields, "key")


def _seen(fields: Fields) -> int:
    arrived = integer(fields, "arrivedUs", low=0)
    if arrived is not None:
        return arrived
    ms = next((ms for name in _SEEN if (ms := time_of(fields, name).ms) is not None), 0)
    return ms * 1000
