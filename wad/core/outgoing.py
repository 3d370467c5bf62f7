"""Outgoing contents: one closed union, and the content that is stored and shown for each.

Pure.  A content names the message that it answers, changes or reacts to with a `Target`, taken from the store when it
is queued, so that no look-up is needed when it is sent.  Reactions, edits and revokes (`Amendment`) are not messages of
their own: they change their target.  `core.outgoing_rules` has WhatsApp's rules.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, assert_never

import msgspec

from wad.core.content import Contact, Content, Location, MediaContent, MessageKind, Poll, Quote
from wad.core.decoding import decoding
from wad.core.errors import BadInput, BadPhone, Conflict
from wad.core.jid import Jid, phone_digits
from wad.core.message import Message

QUOTE_LIMIT: Final = 1000  # characters of a quoted text that are sent again


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stored message that a reply, reaction, edit or revoke points to.

    `sender` is a JID, empty for our own message; `at_ms` is WhatsApp's time of it; a reply shows `text`.  `lid_chat`,
    `lid_sender`: see `Message`.
    """

    wa_id: str
    chat: str
    from_me: bool = False
    sender: str = ""
    kind: MessageKind = MessageKind.TEXT
    text: str = ""
    at_ms: int = 0
    lid_chat: str = ""
    lid_sender: str = ""


class GroupRole(StrEnum):
    """An account's role in a group, as far as sending is concerned."""

    MEMBER = "member"
    """It may write."""
    NOT_IN = "not_in"
    """The group does not exist, or the account is not in it."""
    READER = "reader"
    """Only admins may write, and the account is not an admin."""


class AttachmentKind(StrEnum):
    """How the apps show a file."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    VOICE = "voice"
    DOCUMENT = "document"
    STICKER = "sticker"


_KIND: Final = {
    AttachmentKind.IMAGE: MessageKind.IMAGE,
    AttachmentKind.VIDEO: MessageKind.VIDEO,
    AttachmentKind.AUDIO: MessageKind.AUDIO,
    AttachmentKind.VOICE: MessageKind.AUDIO,
    AttachmentKind.DOCUMENT: MessageKind.DOCUMENT,
    AttachmentKind.STICKER: MessageKind.STICKER,
}
PIECE_LIMIT: Final = 1 << 20
"""Bytes of one chunk of a file that is sent to the daemon: well below the limit of a frame."""


class Text(msgspec.Struct, frozen=True, omit_defaults=True, tag="text"):
    """A text message.  `mentions` are JIDs of persons; each appears in the text as @USER."""

    text: str
    reply_to: Target | None = None
    mentions: tuple[str, ...] = ()


class Attachment(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="attachment"):
    """A file that is stored in the media directory under its hash (hexadecimal); wad never parses it.

    `size` in bytes; `seconds` of audio or video, `width` and `height` in pixels if the caller gives them.
    """

    kind: AttachmentKind
    sha256: str
    size: int
    mimetype: str
    caption: str = ""
    filename: str = ""
    seconds: int = 0
    width: int = 0
    height: int = 0
    reply_to: Target | None = None


class SharedLocation(msgspec.Struct, frozen=True, omit_defaults=True, tag="location"):
    """A location, in degrees."""

    latitude: float
    longitude: float
    name: str = ""
    address: str = ""
    reply_to: Target | None = None


class ContactCard(msgspec.Struct, frozen=True, omit_defaults=True, tag="contact"):
    """A contact card: a name and an international number."""

    name: str
    phone: str
    reply_to: Target | None = None


class NewPoll(msgspec.Struct, frozen=True, omit_defaults=True, tag="poll"):
    """A question; `selectable` options may be chosen (0: any number)."""

    question: str
    options: tuple[str, ...]
    selectable: int = 1
    reply_to: Target | None = None


class StatusText(msgspec.Struct, frozen=True, omit_defaults=True, tag="status_text"):
    """A text for the account's status, which its contacts see for 24 hours."""

    text: str


class OwnReaction(msgspec.Struct, frozen=True, omit_defaults=True, tag="reaction"):
    """Our reaction to a message; an empty emoji removes it."""

    target: Target
    emoji: str


class TextEdit(msgspec.Struct, frozen=True, omit_defaults=True, tag="edit"):
    """A new text for a text message of ours."""

    target: Target
    text: str


class Revoke(msgspec.Struct, frozen=True, omit_defaults=True, tag="revoke"):
    """The deletion of a message of ours for everybody."""

    target: Target


Amendment = OwnReaction | TextEdit | Revoke
Outgoing = (
    Text
    | Attachment
    | SharedLocation
    | ContactCard
    | NewPoll
    | StatusText
    | OwnReaction
    | TextEdit
    | Revoke
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Outgoing)


def encode(content: Outgoing) -> bytes:
    """Encode a content for a worker."""
    return _encoder.encode(content)


def decode(data: bytes) -> Outgoing:
    """The inverse of encode().  Raises InvalidData."""
    with decoding("a content"):
        content: Outgoing = _decoder.decode(data)
    return content


def target_of(message: Message) -> Target:
    """The target for a stored message.  Raises Conflict if WhatsApp has not accepted it (yet)."""
    if not message.wa_id:
        raise Conflict(
            f"message {message.id} has no WhatsApp id yet: it is {message.status}",
            hint="wait until it is sent, or cancel it: wadctl outbox cancel ID",
        )
    return Target(
        wa_id=message.wa_id,
        chat=message.chat,
        from_me=message.from_me,
        sender="" if message.from_me else message.sender,
        kind=message.content.kind,
        text=message.content.text[:QUOTE_LIMIT],
        at_ms=message.at_ms,
        lid_chat=message.lid_chat,
        lid_sender=message.lid_sender,
    )


def mentioned(text: str) -> str:
    """The JID of a person to mention, given as a number or a JID.  Raises BadInput."""
    jid = Jid.parse(text).bare() if "@" in text else Jid.of_phone(text)
    if not jid.is_person:
        raise BadInput(f"{text!r} cannot be mentioned", hint="mention a person, not a group")
    return str(jid)


def target_in(content: Outgoing) -> Target | None:
    """The message that a content points to."""
    match content:
        case OwnReaction() | TextEdit() | Revoke():
            return content.target
        case Text() | Attachment() | SharedLocation() | ContactCard() | NewPoll():
            return content.reply_to
        case StatusText():
            return None
        case _:
            assert_never(content)


def in_chat(content: Outgoing, old: str, new: str) -> Outgoing:
    """The content with the message that it points to in the chat `new`, if it was in the chat `old`."""
    target = target_in(content)
    if target is None or target.chat != old:
        return content
    moved = msgspec.structs.replace(target, chat=new)
    match content:
        case OwnReaction() | TextEdit() | Revoke():
            return msgspec.structs.replace(content, target=moved)
        case _:
            return msgspec.structs.replace(content, reply_to=moved)


def same(one: Outgoing, other: Outgoing) -> bool:
    """Whether two contents are the same; the stored data of their target may have changed in between."""
    return _bare(one) == _bare(other)


def _bare(content: Outgoing) -> Outgoing:
    target = target_in(content)
    if target is None:
        return content
    return with_target(content, Target(target.wa_id, ""))


def with_target(content: Outgoing, target: Target) -> Outgoing:
    """A content that points to a message, with other data of that message."""
    match content:
        case OwnReaction() | TextEdit() | Revoke():
            return msgspec.structs.replace(content, target=target)
        case Text() | Attachment() | SharedLocation() | ContactCard() | NewPoll():
            return msgspec.structs.replace(content, reply_to=target)
        case StatusText():
            return content
        case _:
            assert_never(content)


# --- the stored content ----------------------------------------------------------------------------


def summary(content: Outgoing) -> Content:
    """The stored form of a checked content, which its thread shows: the same as for a received message."""
    shown = _shown(content)
    target = target_in(content)
    if target is None:
        return shown
    quote = None
    if not isinstance(content, Amendment):
        quote = Quote(target.sender, quoted(target))
    return msgspec.structs.replace(shown, target=target.wa_id, quote=quote)


def _shown(content: Outgoing) -> Content:
    match content:
        case Text(text, _, mentions):
            return Content(MessageKind.TEXT, text, mentions=mentions)
        case Attachment():
            return Content(_KIND[content.kind], content.caption, media=_media(content))
        case SharedLocation(latitude, longitude, name, address):
            names = [name, address, f"{latitude:.6f},{longitude:.6f}"]
            location = Location(latitude, longitude, name, address)
            return Content(MessageKind.LOCATION, ", ".join(filter(None, names)), location=location)
        case ContactCard(name):
            contact = Contact(name, vcard(content))
            return Content(MessageKind.CONTACT, name, contacts=(contact,))
        case NewPoll(question, options, selectable):
            text = "\n".join([question, *(f"- {option}" for option in options)])
            poll = Poll(question, options, selectable)
            return Content(MessageKind.POLL, text, poll=poll)
        case StatusText(text):
            return Content(MessageKind.TEXT, text)
        case OwnReaction(_, emoji):
            return Content(MessageKind.REACTION, emoji)
        case TextEdit(_, text):
            return Content(MessageKind.EDIT, text)
        case Revoke():
            return Content(MessageKind.REVOKE)
        case _:
            assert_never(content)


def _media(content: Attachment) -> MediaContent:
    return MediaContent(
        mimetype=content.mimetype,
        filename=content.filename,
        size=content.size,
        seconds=content.seconds,
        width=content.width,
        height=content.height,
        voice=content.kind is AttachmentKind.VOICE,
        sha256=bytes.fromhex(content.sha256),
    )


def quoted(target: Target) -> str:
    """The line that a reply shows of the message that it answers."""
    return target.text or f"[{target.kind}]"


def vcard(card: ContactCard) -> str:
    """A contact card (RFC 2426) with the number in the apps' own field, so that the recipient can write to it."""
    try:
        digits = phone_digits(card.phone)
    except BadPhone:
        digits = re.sub(r"[^0-9]", "", card.phone)  # queued by an earlier wad, which accepted it
    name = card.name.translate(_ESCAPED)
    return (
        f"BEGIN:VCARD\nVERSION:3.0\nN:;{name};;;\nFN:{name}\n"
        f"TEL;type=CELL;type=VOICE;waid={digits}:+{digits}\nEND:VCARD"
    )


_ESCAPED: Final = str.maketrans({"\\": "\\\\", ";": "\\;", ",": "\\,", "\n": "\\n", "\r": None})
