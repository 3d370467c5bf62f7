"""The contents of messages: a waE2E.Message by field number for every kind that a person can send.

See docs/internals/whatsapp-protocol.md#contents.  The numbers are those of the protobuf classes that the library ships
(WAWebProtobufsE2E).  Kinds with a file are made by
attachments.py, polls and votes by polls.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from tests.whatsapp import pb
from tests.whatsapp.wire import Jid

_REVOKE, _EPHEMERAL_SETTING, _EDIT = 0, 3, 14  # ProtocolMessage.Type
_CONTEXT_INFO, _SECRET = 35, 3  # messageContextInfo.messageSecret
_POLL_FIELDS = frozenset(
    (49, 60, 64, 50)
)  # pollCreationMessage and its versions, pollUpdateMessage
_TEXTS = {6: 1, 3: 3, 9: 7, 7: 20}  # field -> that of the text in it
# Content about another message has no secret of its own: protocol, reaction, vote, edit.
_WITHOUT_SECRET = frozenset((12, 46, 50, 51, 56, 58, 63, 71, 76, 82, 31, 2))
UNKNOWN_FIELD = 500  # of no kind that the library supports


@dataclass(frozen=True)
class Target:
    """The target message of another one: its id, its sender, and the chat from the reader's side."""

    ident: str
    sender: Jid
    chat: Jid
    from_me: bool  # whether the sender of the new message wrote it
    in_group: bool = False

    def key(self) -> pb.Message:
        """The waCommon.MessageKey."""
        return {
            1: str(self.chat),
            2: int(self.from_me),
            3: self.ident,
            4: str(self.sender) if self.in_group else None,
        }


@dataclass(frozen=True)
class StanzaKind:
    """The stanza's information about the content, which the server itself cannot read.

    `hidden`: nobody misses it who cannot decrypt it (whatsmeow send.go, getDecryptFail; Baileys messages-send.ts).
    """

    type: str = "text"
    mediatype: str | None = None
    edit: int | None = None
    hidden: bool = False


PLAIN = StanzaKind()
_WRAPPERS = frozenset((37, 40, 53, 55, 59))  # view-once, ephemeral, captioned
_MEDIATYPES = {
    3: "image", 4: "vcard", 5: "location", 7: "document", 8: "audio", 9: "video", 13: "contact_array",
    18: "livelocation", 26: "sticker",
}  # fmt: skip


def stanza_kind(content: pb.Message) -> StanzaKind:
    """The kind of a message."""
    for field in content:
        if field in _MEDIATYPES:
            return StanzaKind("media", _MEDIATYPES[field])
        if field in _WRAPPERS:
            return stanza_kind(content[field][1])
    if 46 in content:
        return StanzaKind("reaction", hidden=True)
    if not _POLL_FIELDS.isdisjoint(content):
        return StanzaKind("poll", hidden=50 in content)
    if 58 in content or 82 in content:
        return StanzaKind(edit=1, hidden=True)
    if 63 in content:
        return StanzaKind(edit=2, hidden=True)
    match content:
        case {12: {2: 14}}:
            return StanzaKind(edit=1, hidden=True)
        case {12: {2: 0}}:
            return StanzaKind(edit=7, hidden=True)  # by its sender; 8 is by an admin
    return PLAIN


def text_of(content: bytes) -> str:
    """The text of an encoded message: conversation (1), extendedTextMessage (6) text (1), or a file's caption."""
    fields = pb.decode(content)
    if 1 in fields:
        return pb.data(fields, 1).decode(errors="surrogateescape")
    for wrapper in _WRAPPERS.intersection(fields):
        return text_of(pb.data(pb.decode(pb.data(fields, wrapper)), 1))
    for field, part in _TEXTS.items():
        if field in fields:
            inner = pb.decode(pb.data(fields, field))
            return pb.data(inner, part).decode(errors="surrogateescape") if part in inner else ""
    return ""


def text(text: str) -> pb.Message:
    """A plain text."""
    return {1: text}


def extended_text(
    text: str,
    *,
    quoting: Target | None = None,
    quoted: pb.Message | None = None,
    mentions: Sequence[Jid] = (),
    link: str = "",
    title: str = "",
) -> pb.Message:
    """A text that quotes a message, mentions persons, or shows a preview of a link."""
    context: pb.Message = {
        1: quoting.ident if quoting else None,
        2: str(quoting.sender) if quoting else None,
        3: quoted,
        15: [str(jid) for jid in mentions],
    }
    return {6: {1: text, 2: link or None, 6: title or None, 17: context}}


def contact(name: str, number: str) -> pb.Message:
    """A contact as a vCard."""
    return {4: _contact(name, number)}


def contacts(*persons: tuple[str, str]) -> pb.Message:
    """Several contacts, by name and number."""
    return {13: {1: f"{len(persons)} contacts", 2: [_contact(*person) for person in persons]}}


def _contact(name: str, number: str) -> pb.Message:
    digits = number.lstrip("+")
    vcard = f"BEGIN:VCARD\nVERSION:3.0\nFN:{name}\nTEL;type=CELL;waid={digits}:+{digits}\nEND:VCARD"
    return {1: name, 16: vcard}


def location(latitude: float, longitude: float, name: str = "", address: str = "") -> pb.Message:
    """A location."""
    return {5: {1: latitude, 2: longitude, 3: name or None, 4: address or None}}


def live_location(
    latitude: float, longitude: float, caption: str = "", sequence: int = 1
) -> pb.Message:
    """A live location; each update is another message."""
    return {18: {1: latitude, 2: longitude, 6: caption or None, 7: sequence}}


def reaction(target: Target, emoji: str, at: int) -> pb.Message:
    """A reaction; an empty emoji removes it.  `at` in seconds."""
    return {46: {1: target.key(), 2: emoji, 4: at * 1000}}


def edit(target: Target, content: pb.Message, at: int, *, wrapped: bool = False) -> pb.Message:
    """New content for an own message: bare, or wrapped as an editedMessage."""
    change = {12: {1: target.key(), 2: _EDIT, 14: content, 15: at * 1000}}
    return {58: {1: change}} if wrapped else change


def revoke(target: Target) -> pb.Message:
    """A message is deleted for everyone."""
    return {12: {1: target.key(), 2: _REVOKE}}


def view_once(content: pb.Message, *, version: int = 2) -> pb.Message:
    """View-once content; version 1, 2, or 3 (the extension for voice messages)."""
    return {{1: 37, 2: 55, 3: 59}[version]: {1: content}}


def ephemeral(content: pb.Message) -> pb.Message:
    """Content of a chat with disappearing messages."""
    return {40: {1: content}}


def with_caption(document: pb.Message) -> pb.Message:
    """A document with a caption, as ordinary clients wrap it."""
    return {53: {1: document}}


def disappearing(seconds: int) -> pb.Message:
    """From now on the chat's messages disappear after this number of seconds; 0: they stay."""
    return {12: {2: _EPHEMERAL_SETTING, 4: seconds}}


def unknown() -> pb.Message:
    """A kind that the library does not support yet."""
    return {UNKNOWN_FIELD: {1: "from the future"}}


# --- secrets ----------------------------------------------------------------------------------


def with_secret(content: pb.Message) -> pb.Message:
    """The same with messageContextInfo.messageSecret, as ordinary clients send it."""
    if _CONTEXT_INFO in content or not _WITHOUT_SECRET.isdisjoint(content):
        return content
    return {**content, _CONTEXT_INFO: {_SECRET: os.urandom(32)}}


def secret_of(content: bytes) -> bytes:
    """The messageSecret of an encoded message, empty without one."""
    fields = pb.decode(content)
    if _CONTEXT_INFO not in fields:
        return b""
    info = pb.decode(pb.data(fields, _CONTEXT_INFO))
    return pb.data(info, _SECRET) if _SECRET in info else b""
