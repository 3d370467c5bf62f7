"""Composition of outgoing messages: a content to the library's protobuf (waE2E.Message).  Pure: it fills its argument.

Layouts are those of whatsmeow: send.go BuildMessageKey, BuildReaction, BuildEdit, BuildRevoke, BuildPollCreation, and
its documentation of media; a document with a caption is wrapped as the apps do it.  Field names: WAWebProtobufsE2E.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, assert_never

import msgspec
from msgspec import Meta

from wad.core.decoding import decoding
from wad.core.jid import Jid, JidKind
from wad.core.outgoing import (
    Attachment,
    AttachmentKind,
    ContactCard,
    NewPoll,
    Outgoing,
    OwnReaction,
    Revoke,
    SharedLocation,
    StatusText,
    Target,
    Text,
    TextEdit,
    quoted,
    vcard,
)

_REVOKE, _EDIT = 0, 14  # waE2E.ProtocolMessage.Type
_WHITE, _GREEN = 0xFFFFFFFF, 0xFF128C7E  # ARGB: the text of a status and its background


_Link = Annotated[str, Meta(max_length=4000)]
_Key = Annotated[bytes, Meta(max_length=1000)]


class Upload(msgspec.Struct, frozen=True, array_like=True):
    """The address of an encrypted file at WhatsApp, and its keys (docs/internals/whatsapp-protocol.md#media)."""

    url: _Link
    direct_path: _Link
    media_key: _Key
    enc_sha256: _Key
    sha256: _Key
    size: Annotated[int, Meta(ge=0, le=2**53)]
    at_ms: Annotated[int, Meta(ge=0, le=2**53)]

    def to_wire(self) -> list[Any]:
        """As a list, for a frame."""
        shape: list[Any] = msgspec.to_builtins(self, builtin_types=(bytes,))
        return shape

    @staticmethod
    def from_wire(shape: object) -> Upload:
        """The inverse of to_wire().  Raises InvalidData."""
        with decoding("the answer to 'upload'"):
            return msgspec.convert(shape, Upload)


MEDIA_TYPE: Final = {
    AttachmentKind.IMAGE: 0,
    AttachmentKind.STICKER: 0,
    AttachmentKind.VIDEO: 1,
    AttachmentKind.AUDIO: 2,
    AttachmentKind.VOICE: 2,
    AttachmentKind.DOCUMENT: 3,
}
"""The library's number for the keys and the path of a file (neonize utils/enum.py, MediaType)."""


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """The data of a message beside its content.

    `secret` identifies the attempt; `me` is our own number's JID, `lid` our LID; `asked_ms` the time that recipients
    see for a change; `upload` is the address of an attachment's file.
    """

    secret: bytes
    me: str
    asked_ms: int
    upload: Upload | None = None
    lid: str = ""

    def to_wire(self) -> list[Any]:
        """As lists, for a frame."""
        shape: list[Any] = msgspec.to_builtins(self, builtin_types=(bytes,))
        return shape

    @staticmethod
    def from_wire(shape: list[Any]) -> Envelope:
        """The inverse of to_wire().  Raises InvalidData."""
        with decoding("an envelope"):
            return msgspec.convert(shape, Envelope)


def compose(message: Any, content: Outgoing, envelope: Envelope) -> None:
    """Fill an empty waE2E.Message; the content names people as they are addressed (wad/worker/addressing.py)."""
    _fill(message, content, envelope)
    message.messageContextInfo.messageSecret = envelope.secret


def _fill(message: Any, content: Outgoing, envelope: Envelope) -> None:
    match content:
        case Text():
            _text(message, content)
        case Attachment():
            _attachment(message, content, envelope)
        case SharedLocation():
            part = message.locationMessage
            part.degreesLatitude, part.degreesLongitude = content.latitude, content.longitude
            _put(part, name=content.name, address=content.address)
            _quote(part, content.reply_to)
        case ContactCard():
            part = message.contactMessage
            _put(part, displayName=content.name, vcard=vcard(content))
            _quote(part, content.reply_to)
        case NewPoll():
            part = message.pollCreationMessage
            part.name, part.selectableOptionsCount = content.question, content.selectable
            for option in content.options:
                part.options.add(optionName=option)
            _quote(part, content.reply_to)
        case StatusText():
            part = message.extendedTextMessage
            part.text, part.textArgb, part.backgroundArgb = content.text, _WHITE, _GREEN
        case OwnReaction():
            part = message.reactionMessage
            _key(part.key, content.target)
            part.text, part.senderTimestampMS = content.emoji, envelope.asked_ms
        case TextEdit():
            part = message.editedMessage.message.protocolMessage
            _key(part.key, content.target)
            part.type, part.timestampMS = _EDIT, envelope.asked_ms
            part.editedMessage.conversation = content.text
        case Revoke():
            part = message.protocolMessage
            _key(part.key, content.target)
            part.type = _REVOKE
        case _:
            assert_never(content)


def _text(message: Any, content: Text) -> None:
    if content.reply_to is None and not content.mentions:
        message.conversation = content.text
        return
    part = message.extendedTextMessage
    part.text = content.text
    part.contextInfo.mentionedJID.extend(content.mentions)
    _quote(part, content.reply_to)


def _attachment(message: Any, content: Attachment, envelope: Envelope) -> None:
    match content.kind:
        case AttachmentKind.IMAGE:
            part = message.imageMessage
            _put(part, caption=content.caption, width=content.width, height=content.height)
        case AttachmentKind.VIDEO:
            part = message.videoMessage
            _put(part, caption=content.caption, width=content.width, height=content.height)
            _put(part, seconds=content.seconds)
        case AttachmentKind.AUDIO | AttachmentKind.VOICE:
            part = message.audioMessage
            part.PTT = content.kind is AttachmentKind.VOICE
            _put(part, seconds=content.seconds)
        case AttachmentKind.DOCUMENT:
            wrapped = message.documentWithCaptionMessage.message if content.caption else message
            part = wrapped.documentMessage
            _put(part, caption=content.caption, fileName=content.filename, title=content.filename)
        case AttachmentKind.STICKER:
            part = message.stickerMessage
            _put(part, width=content.width, height=content.height)
        case _:
            assert_never(content.kind)
    assert envelope.upload is not None  # the worker uploads before it composes
    _file(part, content, envelope.upload)
    _quote(part, content.reply_to)


def _file(part: Any, content: Attachment, upload: Upload) -> None:
    part.URL, part.directPath, part.mimetype = upload.url, upload.direct_path, content.mimetype
    part.mediaKey, part.mediaKeyTimestamp = upload.media_key, upload.at_ms // 1000
    part.fileEncSHA256, part.fileSHA256 = upload.enc_sha256, upload.sha256
    part.fileLength = upload.size


def _put(part: Any, **values: str | int) -> None:
    """Set the non-empty fields: an empty field that is set differs from a missing one."""
    for name, value in values.items():
        if value:
            setattr(part, name, value)


def _key(key: Any, target: Target) -> None:
    """The identity of a message; in a one-to-one chat its sender is implied."""
    key.fromMe, key.ID, key.remoteJID = target.from_me, target.wa_id, target.chat
    if not target.from_me and target.sender and not Jid.parse(target.chat).is_person:
        key.participant = target.sender


def _quote(part: Any, target: Target | None) -> None:
    """The quoted text of a reply, for an app that does not have the original message."""
    if target is None:
        return
    info = part.contextInfo
    info.stanzaID, info.participant = target.wa_id, target.sender
    info.quotedMessage.conversation = quoted(target)
    if Jid.parse(target.chat).kind is JidKind.STATUS:
        info.remoteJID = target.chat
