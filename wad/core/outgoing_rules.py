"""WhatsApp's rules for outgoing contents: recipients, lengths, sizes, and how long a message may be changed.

Pure.  The source of each limit is beside it; limits that only WhatsApp's apps enforce are checked here, too, since the
recipient's app would silently ignore such a message.
"""

from __future__ import annotations

import re
from typing import Final, assert_never
from unicodedata import category

from wad.core.content import MessageKind
from wad.core.errors import BadInput, Conflict, NotSupported, TooLong
from wad.core.jid import GROUP_SERVER, LID_SERVER, PN_SERVER, Jid, JidKind, phone_digits
from wad.core.message import TEXT_LIMIT
from wad.core.outgoing import (
    Amendment,
    Attachment,
    AttachmentKind,
    ContactCard,
    GroupRole,
    NewPoll,
    Outgoing,
    OwnReaction,
    Revoke,
    SharedLocation,
    StatusText,
    Target,
    Text,
    TextEdit,
    target_in,
)

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

_MB: Final = 1 << 20
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MIMETYPE: Final = re.compile(
    r"[a-z0-9][a-z0-9!#$&^_.+-]{0,99}/[a-z0-9][a-z0-9!#$&^_.+-]{0,99}(?:; ?[ -~]{1,100})?",
    re.IGNORECASE,
)
_VOICE: Final = re.compile(r"audio/ogg(; ?codecs=opus)?", re.IGNORECASE)
_CONVERT: Final = (
    "convert it: ffmpeg -i FILE -ac 1 -c:a libopus voice.ogg; or send it with --kind audio"
)
_NOT_IN_NAMES: Final = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, lone surrogates, separators of lines and paragraphs."""
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
_CAPTIONED: Final = frozenset({AttachmentKind.IMAGE, AttachmentKind.VIDEO, AttachmentKind.DOCUMENT})


def check(content: Outgoing, to: Jid, now_ms: int) -> None:
    """Check that WhatsApp accepts this for `to` now.  Raises BadInput, TooLong, Conflict, NotSupported."""
    if to.kind is not JidKind.STATUS or not isinstance(content, StatusText | Revoke):
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
        case StatusText():
            _check_text(content.text)
            if to.kind is not JidKind.STATUS:
                raise BadInput(f"a status is posted to status@broadcast, not to {to}")
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
    JidKind.STATUS: (
        "all contacts (status@broadcast)",
        "answer a status: send AUTHOR --reply-to ID; post one: post-status",
    ),
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
    if content.kind is AttachmentKind.VOICE and not _VOICE.fullmatch(content.mimetype):
        raise BadInput(
            f"a voice note must be Opus in Ogg (audio/ogg), not {content.mimetype}", hint=_CONVERT
        )
    if content.kind is AttachmentKind.STICKER and content.mimetype != "image/webp":
        raise BadInput(f"a sticker must be image/webp, not {content.mimetype}")
    if content.caption and content.kind not in _CAPTIONED:
        raise BadInput(f"WhatsApp shows no caption with a file of kind {content.kind}")
    _check_length(content.caption, TEXT_LIMIT, "the caption")
    _check_length(content.filename, NAME_LIMIT, "the file's name")
    if not is_file_name(content.filename):
        raise BadInput(
            f"invalid file name: {content.filename!r}", hint="no slash, and no control character"
        )
    if min(content.seconds, content.width, content.height) < 0:
        raise BadInput("seconds, width and height must not be negative")
    if max(content.seconds, content.width, content.height) >= 1 << 31:
        raise BadInput("seconds, width and height must be less than 2147483648")


def is_file_name(name: str) -> bool:
    """Whether the apps can show this as a file's name: any text without path separators and control characters.

    Joiners of emoji, direction marks and special blanks are ordinary parts of names.
    """
    return not any(char in "/\\" or category(char) in _NOT_IN_NAMES for char in name)


def check_voice(head: bytes) -> None:
    """Check the first 64 bytes of a voice note.  Raises BadInput: phones could not play it.

    An Ogg stream begins with a page of one Opus header (RFC 3533 section 6, RFC 7845 section 5.1).
    """
    if not (head.startswith(b"OggS") and b"OpusHead" in head):
        raise BadInput(
            "the file is not Opus in Ogg: phones cannot play it as a voice note", hint=_CONVERT
        )


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
    if target is None:
        return
    chat = Jid.parse(target.chat)
    if chat.kind is JidKind.STATUS and not isinstance(content, Amendment):
        _check_author(target, to)
    elif chat != to:
        raise BadInput(
            f"message {target.wa_id} is in the chat {target.chat}, not in {to}",
            hint="send a reply, reaction, edit or deletion to the chat of its message",
        )


def _check_author(status: Target, to: Jid) -> None:
    if str(to) not in (status.sender, status.lid_sender):
        author = status.sender or "this account"
        raise BadInput(
            f"status {status.wa_id} is by {author}, not by {to}",
            hint="an answer to a status is sent to its author",
        )
