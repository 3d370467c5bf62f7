"""The content of a message: its kind, and everything that a reader or a later download needs.

The fields are derived from waE2E.Message.  Fields that a kind does not have are omitted, so that a plain text stays
small in the spool and in the store.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

THUMBNAIL_LIMIT: Final = 64 << 10  # bytes; a larger one is omitted
VCARD_LIMIT: Final = 64 << 10  # characters; a longer one is cut
LONGEST_PIN: Final = 366 * 86_400  # seconds; a longer pin is shortened


class MessageKind(StrEnum):
    """The kind of a message; an `unknown` one is stored and shown as such.

    `undecryptable` and `lost` are placeholders for a message, and are replaced if the message arrives later.  A
    `media_update` is a better copy of another message's file.  A `notice` is shown nowhere and counts nowhere: only its
    id is stored, and its bytes for as long as the spool keeps them.
    """

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
    CALL = "call"
    PIN = "pin"
    KEEP = "keep"
    MEDIA_UPDATE = "media_update"
    NOTICE = "notice"
    UNDECRYPTABLE = "undecryptable"
    LOST = "lost"
    UNKNOWN = "unknown"


PLACEHOLDERS: Final = frozenset({MessageKind.UNDECRYPTABLE, MessageKind.LOST})
AMENDING: Final = frozenset(
    {
        MessageKind.EDIT, MessageKind.REVOKE, MessageKind.REACTION, MessageKind.POLL_VOTE, MessageKind.PIN,
        MessageKind.KEEP, MessageKind.MEDIA_UPDATE,
    }
)  # fmt: skip
"""Kinds that change another message and are not messages themselves."""


class MediaContent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attachment as announced; its bytes are downloaded elsewhere, with `direct_path`, `key` and the two hashes.

    `size` in bytes, `seconds` of audio or video, `width` and `height` in pixels; `sha256` is the hash of the file,
    `enc_sha256` that of the encrypted file on WhatsApp's server.  `voice`: recorded in the chat (WhatsApp's ptt).
    `url` and `storage_path`: where another program has stored the bytes, if one has.
    """

    mimetype: str = ""
    filename: str = ""
    size: int = 0
    seconds: int = 0
    width: int = 0
    height: int = 0
    pages: int = 0
    voice: bool = False
    animated: bool = False
    direct_path: str = ""
    key: bytes = b""
    sha256: bytes = b""
    enc_sha256: bytes = b""
    key_ms: int = 0
    thumbnail: bytes = b""
    url: str = ""
    storage_path: str = ""


class Quote(msgspec.Struct, frozen=True, omit_defaults=True):
    """The quoted message in a reply: its author, and one line of it.

    `chat` is set if the quoted message is in another chat (a private reply, or a reply to a status).
    """

    by: str = ""
    text: str = ""
    chat: str = ""


class LinkPreview(msgspec.Struct, frozen=True, omit_defaults=True):
    """A link in a text, with the preview that the sender generated."""

    url: str
    title: str = ""
    description: str = ""


class Location(msgspec.Struct, frozen=True, omit_defaults=True):
    """A location; degrees, metres.  `live`: the sender keeps sending updates of it."""

    latitude: float
    longitude: float
    name: str = ""
    address: str = ""
    url: str = ""
    accuracy_m: int = 0
    live: bool = False


class Contact(msgspec.Struct, frozen=True, omit_defaults=True):
    """One contact card."""

    name: str
    vcard: str = ""


class Poll(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question; `selectable` options may be chosen (0: any number)."""

    question: str
    options: tuple[str, ...] = ()
    selectable: int = 0


class Vote(msgspec.Struct, frozen=True, omit_defaults=True):
    """A vote in a poll: SHA-256 of the names of the selected options, none if the vote was withdrawn.

    A vote that could not be decrypted has its encrypted `payload` and `iv` instead.
    """

    payload: bytes = b""
    iv: bytes = b""
    options: tuple[bytes, ...] = ()


class CallOutcome(StrEnum):
    """The outcome of a call; `offered` until its end is known."""

    OFFERED = "offered"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    MISSED = "missed"
    ENDED = "ended"


class Call(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call; `seconds`: its duration, if known."""

    outcome: CallOutcome
    video: bool = False
    group: bool = False
    seconds: int = 0


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of a message.

    `text` is the text or the caption.  `target` is the WhatsApp id of the message that a reply or an amendment (see
    AMENDING) points to; `told_ms` is the time that the sender gave an amendment, which orders those of one sender;
    `target_by`: the author of the target as an amendment in a group names it, empty if it does not;
    `by_admin`: a revoke of another person's message; `active`: whether a pin or keep is set or withdrawn.  `expires_s`:
    seconds after which the message disappears from the phones, or a pin ends.  `mentions` are JIDs.  `detail`: what was
    not understood (for `unknown`), the reason for a placeholder, or what a notice is.
    """

    kind: MessageKind
    text: str = ""
    media: MediaContent | None = None
    target: str = ""
    view_once: bool = False
    ephemeral: bool = False
    detail: str = ""
    expires_s: int = 0
    forwarded: bool = False
    mentions: tuple[str, ...] = ()
    quote: Quote | None = None
    link: LinkPreview | None = None
    location: Location | None = None
    contacts: tuple[Contact, ...] = ()
    poll: Poll | None = None
    vote: Vote | None = None
    call: Call | None = None
    told_ms: int = 0
    target_by: str = ""
    by_admin: bool = False
    active: bool = False
