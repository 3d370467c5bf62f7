"""The library's protobufs in our own words.  Pure: it only reads the objects that it is given.

`message` and `receipt` return the event, or None where there is nothing to keep (key distribution, app-state and
history notices, receipts about what our own phone read).  What they cannot put into words raises Untranslatable,
and the caller keeps the raw bytes.  Field names: WAWebProtobufsE2E (waE2E.Message) and neonize's Neonize.proto.
"""

from __future__ import annotations

from typing import Any, Final

from wad.core.errors import BadJid
from wad.core.event import (
    Content,
    Mark,
    Media,
    MessageKind,
    MessageReceived,
    ReceiptReceived,
)
from wad.core.jid import Jid


class Untranslatable(Exception):
    """This event has no words of ours; the message says why."""


_MEDIA: Final = {
    "imageMessage": MessageKind.IMAGE,
    "videoMessage": MessageKind.VIDEO,
    "ptvMessage": MessageKind.VIDEO,
    "audioMessage": MessageKind.AUDIO,
    "documentMessage": MessageKind.DOCUMENT,
    "stickerMessage": MessageKind.STICKER,
}
_WRAPPERS: Final = (
    "deviceSentMessage", "ephemeralMessage", "viewOnceMessage", "viewOnceMessageV2", "viewOnceMessageV2Extension",
    "documentWithCaptionMessage", "editedMessage",
)  # fmt: skip
_POLLS: Final = ("pollCreationMessage", "pollCreationMessageV2", "pollCreationMessageV3")
_SILENT: Final = frozenset({"senderKeyDistributionMessage", "messageContextInfo"})
_REVOKE, _EDIT = 0, 14  # waE2E.ProtocolMessage.Type
_MARKS: Final = {
    "DELIVERED": Mark.DELIVERED,
    # Delivered to a device whose user is away; the library says so unless presence is sent.
    "INACTIVE": Mark.DELIVERED,
    "READ": Mark.READ,
    "PLAYED": Mark.PLAYED,
}


def message(event: Any) -> MessageReceived | None:
    """Translate a neonize MessageEv."""
    content = _content(event.Message)
    if content is None:
        return None
    info, source = event.Info, event.Info.MessageSource
    if not info.ID:
        raise Untranslatable("a message without an id")
    # Our own phone's message: the chat is the recipient, and so is its other address.
    chat_alt = _jid_or_none(source.RecipientAlt) if source.IsFromMe else None
    return MessageReceived(
        id=info.ID,
        chat=_jid(source.Chat, "chat"),
        sender=_jid(source.Sender, "sender"),
        at_ms=_milliseconds(info.Timestamp),
        content=content,
        from_me=source.IsFromMe,
        chat_alt=chat_alt,
        sender_alt=_jid_or_none(source.SenderAlt),
        push_name=info.Pushname,
    )


def receipt(event: Any) -> ReceiptReceived | None:
    """Translate a neonize ReceiptEv."""
    field = event.DESCRIPTOR.fields_by_name["Type"]
    word = field.enum_type.values_by_number[event.Type].name
    source = event.MessageSource
    if word not in _MARKS or source.IsFromMe or not event.MessageIDs:
        return None
    return ReceiptReceived(
        ids=tuple(event.MessageIDs),
        chat=_jid(source.Chat, "chat"),
        sender=_jid(source.Sender, "sender"),
        mark=_MARKS[word],
        at_ms=_milliseconds(event.Timestamp),
    )


def _content(body: Any, depth: int = 0) -> Content | None:
    present = [field.name for field, _ in body.ListFields() if field.name not in _SILENT]
    if not present:
        return None
    for wrapper in _WRAPPERS:
        if wrapper in present and depth < 5:
            return _content(getattr(body, wrapper).message, depth + 1)
    if "protocolMessage" in present:
        return _protocol(body.protocolMessage)
    return _plain(body, present)


def _plain(body: Any, present: list[str]) -> Content:
    name = present[0]
    part = getattr(body, name)
    if name == "conversation":
        return Content(MessageKind.TEXT, part)
    target = part.contextInfo.stanzaID if hasattr(part, "contextInfo") else ""
    if name == "extendedTextMessage":
        return Content(MessageKind.TEXT, part.text, target=target)
    if name in _MEDIA:
        return _media(_MEDIA[name], part, target)
    if name in ("locationMessage", "liveLocationMessage"):
        return Content(MessageKind.LOCATION, _location(part), target=target)
    if name == "contactMessage":
        return Content(MessageKind.CONTACT, part.displayName, target=target)
    if name == "contactsArrayMessage":
        names = ", ".join(contact.displayName for contact in part.contacts)
        return Content(MessageKind.CONTACT, names, target=target)
    if name in _POLLS:
        options = "\n".join(f"- {option.optionName}" for option in part.options)
        return Content(MessageKind.POLL, f"{part.name}\n{options}", target=target)
    if name == "pollUpdateMessage":
        return Content(MessageKind.POLL_VOTE, target=part.pollCreationMessageKey.ID)
    if name == "reactionMessage":
        return Content(MessageKind.REACTION, part.text, target=part.key.ID)
    return Content(MessageKind.UNKNOWN, detail=", ".join(present))


def _media(kind: MessageKind, part: Any, target: str) -> Content:
    def value(name: str) -> Any:
        return getattr(part, name) if name in part.DESCRIPTOR.fields_by_name else ""

    media = Media(
        mimetype=part.mimetype,
        filename=value("fileName"),
        size=part.fileLength,
        seconds=value("seconds") or 0,
    )
    return Content(kind, value("caption"), media=media, target=target)


def _location(part: Any) -> str:
    names = [getattr(part, name, "") for name in ("name", "address", "caption")]
    place = f"{part.degreesLatitude:.6f},{part.degreesLongitude:.6f}"
    return ", ".join([*filter(None, names), place])


def _protocol(part: Any) -> Content | None:
    if part.type == _REVOKE:
        return Content(MessageKind.REVOKE, target=part.key.ID)
    if part.type == _EDIT:
        inner = _content(part.editedMessage, 1)
        return Content(MessageKind.EDIT, inner.text if inner else "", target=part.key.ID)
    return None  # history, app state, keys: the library's own business


def _jid(jid: Any, what: str) -> Jid:
    found = _jid_or_none(jid)
    if found is None:
        raise Untranslatable(f"no {what}")
    return found


def _jid_or_none(jid: Any) -> Jid | None:
    if jid.IsEmpty or not jid.User:
        return None
    try:
        return Jid.parse(
            f"{jid.User}:{jid.Device}@{jid.Server}" if jid.Device else f"{jid.User}@{jid.Server}"
        )
    except BadJid as error:
        raise Untranslatable(str(error)) from error


def _milliseconds(timestamp: int) -> int:
    # neonize hands out seconds in some events and milliseconds in others; no message is older than 1973 in ms.
    return timestamp if timestamp > 100_000_000_000 else timestamp * 1000
