"""Legacy documents: messages that the replaced backend has stored.  Pure.

See docs/internals/replaced-backend.md#message-ids.  That backend used four schemes of document ids (WhatsApp id, a
hash, a request id, a client id), so its messages are found by their fields.  A time may be a Timestamp, a text or a
number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from wad.core.content import Content, MediaContent, MessageKind
from wad.core.errors import BadInput
from wad.core.identity import fingerprint, stable_key
from wad.core.jid import Jid, ThreadId
from wad.core.message import Message, MessageStatus, further
from wad.core.untrusted import integer, map_, text, time_ms

Document = Mapping[str, Any]

ID_FIELDS: Final = ("key.id", "waMessageId", "providerMessageId")
"""The fields of a document that hold the WhatsApp id of its message."""
_S: Final = MessageStatus
_STATUS: Final = {"sent": _S.SENT, "delivered": _S.DELIVERED, "read": _S.READ}
_KINDS: Final = {
    kind.value: kind
    for kind in (
        MessageKind.TEXT, MessageKind.IMAGE, MessageKind.VIDEO, MessageKind.AUDIO, MessageKind.DOCUMENT,
        MessageKind.STICKER,
    )
}  # fmt: skip


def wa_ids(document: Document) -> set[str]:
    """The WhatsApp ids of a document's message."""
    ids = [text(map_(document, "key"), "id"), *(text(document, name) for name in ID_FIELDS[1:])]
    return {ident for ident in ids if ident}


def is_from_us(document: Document) -> bool:
    """Whether we sent it."""
    return document.get("direction") == "outbound"


def is_taken_over(message: Message) -> bool:
    """Whether a message is in a legacy document: its id is neither derived from it nor an id of our outbox."""
    return not message.client_id and message.id != message.stable_key[:24]


def is_legacy(ident: str, document: Document) -> bool:
    """Whether another program created this document, even if wad has taken it over."""
    if not document.get("wadBy"):
        return True
    stable = text(document, "stableKeyHash")
    return bool(stable) and ident != stable[:24]


def merged_into(message: Message, ident: str, document: Document) -> Message:
    """Our message with the legacy document's id: its status never goes back, and the location of its file is kept."""
    content = message.content
    if content.media is not None:
        url, path = _file(map_(document, "media"))
        media = msgspec.structs.replace(content.media, url=url, storage_path=path)
        content = msgspec.structs.replace(content, media=media)
    status = message.status
    if message.from_me:
        status = further(status, _STATUS.get(text(document, "status"), status))
    return msgspec.structs.replace(message, id=ident, content=content, status=status)


def message_of(thread: str, ident: str, wa_id: str, document: Document) -> Message:
    """The message of a legacy document.  Raises BadInput if the document has too little of it."""
    parsed = ThreadId.parse(thread)
    chat, from_me = parsed.jid, is_from_us(document)
    sender = None if from_me else _sender(document, chat)
    participant = None if chat.is_person else sender
    content = _content(document)
    at_ms = _at_ms(document)
    return Message(
        id=ident,
        account=parsed.account,
        thread=thread,
        chat=str(chat),
        sender=str(sender or ""),
        from_me=from_me,
        at_ms=at_ms,
        seen=at_ms * 1000,
        content=content,
        status=_STATUS.get(text(document, "status"), _S.SENT if from_me else _S.DELIVERED),
        wa_id=wa_id,
        push_name="" if from_me else text(document, "senderName"),
        # Without a WhatsApp id all messages of the chat would have the same key.
        stable_key=stable_key(parsed.account, chat, wa_id, from_me, participant) if wa_id else "",
        fingerprint=fingerprint(chat, from_me, participant, at_ms, content),
    )


def _sender(document: Document, chat: Jid) -> Jid | None:
    if chat.is_person:
        return chat
    sender = text(document, "senderJid") or text(map_(document, "key"), "participant")
    return Jid.parse(sender).bare() if sender else None


def _content(document: Document) -> Content:
    kind = _KINDS.get(text(document, "messageType"), MessageKind.UNKNOWN)
    if not isinstance(document.get("media"), Mapping):
        return Content(kind, text(document, "body"))
    media = map_(document, "media")
    size, (url, path) = integer(media, "sizeBytes", low=0), _file(media)
    found = MediaContent(
        mimetype=text(media, "mimetype", "mimeType"),
        filename=text(media, "filename", "fileName"),
        size=size or 0,
        url=url,
        storage_path=path,
    )
    return Content(kind, text(document, "body") or text(media, "caption"), media=found)


def _file(media: Document) -> tuple[str, str]:
    """Where that backend has stored the file: URL, and path in its storage."""
    return text(media, "url"), text(media, "storagePath")


def _at_ms(document: Document) -> int:
    """The time of the message, by WhatsApp's clock."""
    times = [document.get(name) for name in ("tsClient", "tsClientMs", "createdAtMs", "createdAt")]
    for value in (*times, map_(document, "key").get("timestamp")):
        if (found := time_ms(value)) is not None:
            return found
    raise BadInput("it has no time")
