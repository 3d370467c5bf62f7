"""Outgoing contents: one closed union, WhatsApp's rules for each, and the content that is stored and shown.

Pure.  A content names the message that it answers, changes or reacts to with a `Target`, taken from the store when it
is queued, so that no look-up is needed when it is sent.  Reactions, edits and revokes (`Amendment`) are not messages of
their own: they change their target.
The source of each limit is beside it; limits that only WhatsApp's apps enforce are checked here, too, since the
recipient's app would silently ignore such a message.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, assert_never

import msgspec

from wad.core.content import Contact, Content, Location, MediaContent, MessageKind, Poll, Quote
from wad.core.decoding import decoding
from wad.core.errors import BadInput, Conflict, NotSupported, TooLong
from wad.core.jid import GROUP_SERVER, LID_SERVER, PN_SERVER, Jid, JidKind, phone_digits
from wad.core.message import TEXT_LIMIT, Message

EDIT_WINDOW_S: Final = 20 * 60
"""Seconds in which a message may be edited: whatsmeow send.go, EditWindow (the apps offer it for 15 minutes)."""
REVOKE_WINDOW_S: Final = 60 * 3600
"""Seconds in which a message may be deleted for everybody: "a little over two days", WhatsApp in August 2022; the apps
offer it for 60 hours.  The library has no such limit; the recipient's app ignores a later revoke."""
MENTIONS_LIMIT: Final = 256
NAME_LIMIT: Final = 200  # characters of a location's or a contact's name: our limit
ADDRESS_LIMIT: Final = 1000  # characters: our limit
QUESTION_LIMIT: Final = 255  # characters of a poll's question in the apps
OPTION_LIMIT: Final = 100  # characters of each answer in the apps
OPTIONS_LIMIT: Final = 12  # answers in the apps
EMOJI_LIMIT: Final = 20  # code points: the longest families and flags have 14
QUOTE_LIMIT: Final = 1000  # characters of a quoted text that are sent again

_MB: Final = 1 << 20
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MIMETYPE: Final = re.compile(
    r"[a-z0-9][a-z0-9!#$&^_.+-]{0,99}/[a-z0-9][a-z0-9!#$&^_.+-]{0,99}(?:; ?[ -~]{1,100})?",
    re.IGNORECASE,
)


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stored message that a reply, reaction, edit or revoke points to.

    `sender` is a JID, empty for our own message; `at_ms` is WhatsApp's time of it; a reply shows `text`.
    """

    wa_id: str
    chat: str
    from_me: bool = False
    sender: str = ""
    kind: MessageKind = MessageKind.TEXT
    text: str = ""
    at_ms: int = 0


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
SIZE_LIMITS: Final = {
    AttachmentKind.IMAGE: 16 * _MB,
    AttachmentKind.VIDEO: 16 * _MB,
    AttachmentKind.AUDIO: 16 * _MB,
    AttachmentKind.VOICE: 16 * _MB,
    AttachmentKind.DOCUMENT: 64 * _MB,
    AttachmentKind.STICKER: 1 * _MB,
}
"""Bytes of one file.  The apps accept 16 MiB of media; a document is held in memory several times while it is sent
(docs/internals/library.md#calls-and-panics), hence our own limit."""
PIECE_LIMIT: Final = 1 << 20
"""Bytes of one chunk of a file that is sent to the daemon: well below the limit of a frame."""
_CAPTIONED: Final = frozenset({AttachmentKind.IMAGE, AttachmentKind.VIDEO, AttachmentKind.DOCUMENT})


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
    Text | Attachment | SharedLocation | ContactCard | NewPoll | OwnReaction | TextEdit | Revoke
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
    )


def mentioned(text: str) -> str:
    """The JID of a person to mention, given as a number or a JID.  Raises BadInput."""
    jid = Jid.parse(text).bare() if "@" in text else Jid.of_phone(text)
    if not jid.is_person:
        raise BadInput(f"{text!r} cannot be mentioned", hint="mention a person, not a group")
    return str(jid)


# --- the rules ------------------------------------------------------------------------------------


def check(content: Outgoing, to: Jid, now_ms: int) -> None:
    """Check that WhatsApp accepts this for `to` now.  Raises BadInput, TooLong, Conflict, NotSupported."""
    check_recipient(to)
    match content:
        case Text():
            _check_text(content.text)
            _check_mentions(content)
        case Attachment():
            _check_attachment(content)
        case SharedLocation():
            _check_location(content)
        case ContactCard():
            _check_name(content.name, "the contact's name")
            phone_digits(content.phone)
        case NewPoll():
            _check_poll(content)
        case OwnReaction():
            _check_emoji(content.emoji)
        case TextEdit():
            _check_text(content.text)
            _check_edit(content.target, now_ms)
        case Revoke():
            _check_revoke(content.target, now_ms)
        case _:
            assert_never(content)
    _check_chat(content, to)


_FORMS: Final = {
    JidKind.PN: re.compile(r"[1-9][0-9]{4,14}"),
    JidKind.LID: re.compile(r"[1-9][0-9]{0,19}"),
    JidKind.GROUP: re.compile(r"[0-9]{5,30}(-[0-9]{1,20})?"),
}
"""The valid user parts of addresses that messages can be sent to."""
_NOT_TO: Final = {
    JidKind.STATUS: ("a status (status@broadcast)", "reply to its author instead"),
    JidKind.BROADCAST: ("a broadcast list", "write to each person"),
    JidKind.NEWSLETTER: ("a channel", "post in the app"),
}


def check_recipient(to: Jid) -> None:
    """Check that messages can be sent to this address.  Raises BadInput, NotSupported."""
    if to.kind in _NOT_TO:
        what, hint = _NOT_TO[to.kind]
        raise NotSupported(f"wad does not send to {what}: {to}", hint=hint)
    if to.kind not in _FORMS or to.server not in (PN_SERVER, LID_SERVER, GROUP_SERVER):
        hint = "write to the number of the person or business" if to.is_person else ""
        raise NotSupported(f"wad does not send to addresses at {to.server}: {to}", hint=hint)
    if not _FORMS[to.kind].fullmatch(to.user):
        raise BadInput(f"{to} is not a valid address to send to", hint="+15550000001, or a JID")


def check_group_role(standing: GroupRole, group: Jid) -> None:
    """Check that an account with this role in a group may write there.  Raises Conflict."""
    if standing is GroupRole.NOT_IN:
        raise Conflict(
            f"this account is not in the group {group}, or the group does not exist",
            hint="a member of the group has to add the account",
        )
    if standing is GroupRole.READER:
        raise Conflict(
            f"only admins may write in the group {group}, and this account is not an admin",
            hint="an admin can make it an admin, or let all members write",
        )


def _check_text(text: str) -> None:
    if not text.strip():
        raise BadInput("the text is empty")
    _check_length(text, TEXT_LIMIT, "the text", "send it in parts, or as a document")


def _check_length(text: str, limit: int, what: str, hint: str = "") -> None:
    if len(text) > limit:
        raise TooLong(f"{what} has {len(text)} characters, the limit is {limit}", hint=hint)


def _check_name(name: str, what: str) -> None:
    if not name.strip():
        raise BadInput(f"{what} is empty")
    _check_length(name, NAME_LIMIT, what)


def _check_mentions(content: Text) -> None:
    if len(content.mentions) > MENTIONS_LIMIT:
        raise TooLong(f"a text may have {MENTIONS_LIMIT} mentions, not {len(content.mentions)}")
    for mention in content.mentions:
        jid = Jid.parse(mention)
        if not jid.is_person:
            raise BadInput(f"{mention!r} cannot be mentioned", hint="mention a person, not a group")
        if f"@{jid.user}" not in content.text:
            raise BadInput(
                f"the text does not contain the mention @{jid.user}",
                hint=f"write @{jid.user} where the name should appear",
            )


def _check_attachment(content: Attachment) -> None:
    if not _SHA256.fullmatch(content.sha256):
        raise BadInput(f"{content.sha256!r} is not a SHA-256 (64 hexadecimal digits)")
    if not _MIMETYPE.fullmatch(content.mimetype):
        raise BadInput(f"invalid media type: {content.mimetype!r}", hint="for example image/jpeg")
    check_size(content.kind, content.size)
    if content.kind is AttachmentKind.STICKER and content.mimetype != "image/webp":
        raise BadInput(f"a sticker must be image/webp, not {content.mimetype}")
    if content.caption and content.kind not in _CAPTIONED:
        raise BadInput(f"WhatsApp shows no caption with a file of kind {content.kind}")
    _check_length(content.caption, TEXT_LIMIT, "the caption")
    _check_length(content.filename, NAME_LIMIT, "the file's name")
    if "/" in content.filename or not content.filename.isprintable():
        raise BadInput(
            f"invalid file name: {content.filename!r}", hint="printable, without a slash"
        )
    if min(content.seconds, content.width, content.height) < 0:
        raise BadInput("seconds, width and height must not be negative")
    if max(content.seconds, content.width, content.height) >= 1 << 31:
        raise BadInput("seconds, width and height must be less than 2147483648")


def check_size(kind: AttachmentKind, size: int) -> None:
    """Check that a file of this kind and size (bytes) may be sent.  Raises BadInput, TooLong."""
    if size <= 0:
        raise BadInput("the file is empty")
    limit = SIZE_LIMITS[kind]
    if size > limit:
        raise TooLong(
            f"the file has {size} bytes, a file of kind {kind} may have {limit}",
            hint=""
            if kind is AttachmentKind.DOCUMENT
            else "send it as a document, which may be larger",
        )


def _check_location(content: SharedLocation) -> None:
    # Written so that NaN is refused, too.
    if not -90 <= content.latitude <= 90:
        raise BadInput(f"a latitude must be between -90 and 90 degrees, not {content.latitude:g}")
    if not -180 <= content.longitude <= 180:
        raise BadInput(
            f"a longitude must be between -180 and 180 degrees, not {content.longitude:g}"
        )
    _check_length(content.name, NAME_LIMIT, "the location's name")
    _check_length(content.address, ADDRESS_LIMIT, "the address")


def _check_poll(content: NewPoll) -> None:
    if not content.question.strip():
        raise BadInput("the poll has no question")
    _check_length(content.question, QUESTION_LIMIT, "the question")
    count = len(content.options)
    if not 2 <= count <= OPTIONS_LIMIT:
        raise BadInput(f"a poll must have 2 to {OPTIONS_LIMIT} options, not {count}")
    if len({option.strip() for option in content.options}) != count:
        raise BadInput("a poll's options must differ from each other")
    for option in content.options:
        if not option.strip():
            raise BadInput("an option of the poll is empty")
        _check_length(option, OPTION_LIMIT, "an option")
    if not 0 <= content.selectable <= count:
        raise BadInput(
            f"{content.selectable} of {count} options cannot be chosen",
            hint="0: any number of them",
        )


def _check_emoji(emoji: str) -> None:
    if not emoji:
        return
    if len(emoji) > EMOJI_LIMIT or emoji.isascii() or any(map(str.isspace, emoji)):
        raise BadInput(f"{emoji!r} is not one emoji", hint="an empty text removes a reaction")


def _check_edit(target: Target, now_ms: int) -> None:
    if not target.from_me:
        raise BadInput("only a message that this account wrote can be edited")
    if target.kind is not MessageKind.TEXT:
        raise BadInput(f"only a text can be edited, but this message is of kind {target.kind}")
    _check_age(target, now_ms, EDIT_WINDOW_S, "edited within 20 minutes")


def _check_revoke(target: Target, now_ms: int) -> None:
    if not target.from_me:
        raise BadInput("only a message that this account wrote can be deleted for everybody")
    if target.kind is MessageKind.REVOKE:
        raise Conflict("the message is already deleted")
    _check_age(target, now_ms, REVOKE_WINDOW_S, "deleted for everybody within 60 hours")


def _check_age(target: Target, now_ms: int, window_s: int, what: str) -> None:
    minutes = (now_ms - target.at_ms) // 60_000
    if now_ms - target.at_ms > window_s * 1000:
        raise Conflict(
            f"a message can be {what}, but this one is {minutes} minutes old",
            hint="the recipients' apps would ignore the change; send a new message instead",
        )


def _check_chat(content: Outgoing, to: Jid) -> None:
    target = target_in(content)
    if target is not None and Jid.parse(target.chat) != to:
        raise BadInput(
            f"message {target.wa_id} is in the chat {target.chat}, not in {to}",
            hint="send a reply, reaction, edit or deletion to the chat of its message",
        )


def target_in(content: Outgoing) -> Target | None:
    """The message that a content points to."""
    match content:
        case OwnReaction() | TextEdit() | Revoke():
            return content.target
        case Text() | Attachment() | SharedLocation() | ContactCard() | NewPoll():
            return content.reply_to
        case _:
            assert_never(content)


def same(one: Outgoing, other: Outgoing) -> bool:
    """Whether two contents are the same; the stored data of their target may have changed in between."""
    return _bare(one) == _bare(other)


def _bare(content: Outgoing) -> Outgoing:
    target = target_in(content)
    if target is None:
        return content
    named = Target(target.wa_id, "")
    match content:
        case OwnReaction() | TextEdit() | Revoke():
            return msgspec.structs.replace(content, target=named)
        case _:
            return msgspec.structs.replace(content, reply_to=named)


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
    digits = phone_digits(card.phone)
    name = card.name.translate(_ESCAPED)
    return (
        f"BEGIN:VCARD\nVERSION:3.0\nN:;{name};;;\nFN:{name}\n"
        f"TEL;type=CELL;type=VOICE;waid={digits}:+{digits}\nEND:VCARD"
    )


_ESCAPED: Final = str.maketrans({"\\": "\\\\", ";": "\\;", ",": "\\,", "\n": "\\n", "\r": None})
