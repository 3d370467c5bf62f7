"""What WhatsApp tells us, in our own words: frozen values that cross the spool and the sockets.

An engine translates its library's objects into these; nothing above the engine sees a protobuf.
Times are integers, milliseconds since 1970 as WhatsApp's server gave them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from wad.core.errors import BadJid
from wad.core.jid import Jid


class MessageKind(StrEnum):
    """What a message is; `unknown` is kept and shown as such."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"
    STICKER = "sticker"
    LOCATION = "location"
    CONTACT = "contact"
    POLL = "poll"
    POLL_VOTE = "poll_vote"
    REACTION = "reaction"
    EDIT = "edit"
    REVOKE = "revoke"
    UNDECRYPTABLE = "undecryptable"
    LOST = "lost"
    UNKNOWN = "unknown"


class Mark(StrEnum):
    """What a receipt says of a message."""

    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"


class Media(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attachment as announced; its bytes are fetched elsewhere.  `size` in bytes, `seconds` of sound."""

    mimetype: str = ""
    filename: str = ""
    size: int = 0
    seconds: int = 0


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """The inside of a message.

    `text` is the text or the caption.  `target` is the WhatsApp id of the message that a reply, reaction,
    edit, revoke or vote points to.  `detail` names what was not understood (for `unknown`).
    """

    kind: MessageKind
    text: str = ""
    media: Media | None = None
    target: str = ""
    view_once: bool = False
    ephemeral: bool = False
    detail: str = ""


class MessageReceived(msgspec.Struct, frozen=True, tag="message", omit_defaults=True):
    """A message arrived, or the account's own phone sent one (`from_me`).

    `chat` and `sender` are as the server wrote them, either number or hidden id; `chat_alt` and `sender_alt` are
    the other address of the same party where the server gave it (whatsapp-protocol.md 5.6).
    """

    id: str
    chat: Jid
    sender: Jid
    at_ms: int
    content: Content
    from_me: bool = False
    chat_alt: Jid | None = None
    sender_alt: Jid | None = None
    push_name: str = ""


class ReceiptReceived(msgspec.Struct, frozen=True, tag="receipt", omit_defaults=True):
    """A party got, read or played messages that we (or our phone) sent."""

    ids: tuple[str, ...]
    chat: Jid
    sender: Jid
    mark: Mark
    at_ms: int
    from_me: bool = False


Event = MessageReceived | ReceiptReceived

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Event)


def encode(event: Event) -> bytes:
    """The form in which an event lies in the spool."""
    return _encoder.encode(event)


def decode(data: bytes) -> Event:
    """The inverse of encode().  Raises msgspec.DecodeError for anything else."""
    try:
        event: Event = _decoder.decode(data)
    except (UnicodeDecodeError, BadJid) as error:
        raise msgspec.DecodeError(str(error)) from error
    return event
