"""The inside of a message: what it is, and all of it that a reader or a later download needs.

Field names are ours; what they are made from is waE2E.Message.  Everything that a kind does not have is left out, so
that a plain text stays small in the spool and in the store.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

THUMBNAIL_LIMIT: Final = 64 << 10  # bytes; a larger one is left out
VCARD_LIMIT: Final = 64 << 10  # characters; a longer one is cut


class MessageKind(StrEnum):
    """What a message is; `unknown` is kept and shown as such.

    `undecryptable` and `lost` are placeholders: they stand where a message was, and give way if it comes after all.
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
    UNDECRYPTABLE = "undecryptable"
    LOST = "lost"
    UNKNOWN = "unknown"


PLACEHOLDERS: Final = frozenset({MessageKind.UNDECRYPTABLE, MessageKind.LOST})
AMENDING: Final = frozenset(
    {MessageKind.EDIT, MessageKind.REVOKE, MessageKind.REACTION, MessageKind.POLL_VOTE}
)
"""Kinds that change another message, and are none of their own."""


class MediaContent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attachment as announced; its bytes are fetched elsewhere, with `direct_path`, `key` and the two hashes.

    `size` in bytes, `seconds` of sound or film, `width` and `height` in pixels; `sha256` is the file's, `enc_sha256`
    that of what lies on WhatsApp's server.  `voice`: recorded in the chat (WhatsApp's word is ptt).  `url` and
    `storage_path`: where another program has put the bytes, if one has.
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
    """What a reply shows of the message that it answers: who wrote it, and one line of it.

    `chat` is set where that message is in another chat (an answer in private, or to a status).
    """

    by: str = ""
    text: str = ""
    chat: str = ""


class LinkPreview(msgspec.Struct, frozen=True, omit_defaults=True):
    """The address in a text, with the preview that its sender made."""

    url: str
    title: str = ""
    description: str = ""


class Location(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place; degrees, metres.  `live`: its sender goes on telling where they are."""

    latitude: float
    longitude: float
    name: str = ""
    address: str = ""
    url: str = ""
    accuracy_m: int = 0
    live: bool = False


class Contact(msgspec.Struct, frozen=True, omit_defaults=True):
    """One visiting card."""

    name: str
    vcard: str = ""


class Poll(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question; `selectable` options may be chosen (0: any number)."""

    question: str
    options: tuple[str, ...] = ()
    selectable: int = 0


class Vote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was voted for: SHA-256 of the options' names, none when the vote was taken back.

    A vote that could not be opened has the `payload` and `iv` that it came with instead.
    """

    payload: bytes = b""
    iv: bytes = b""
    options: tuple[bytes, ...] = ()


class CallOutcome(StrEnum):
    """How a call went; `offered` until somebody says how it ended."""

    OFFERED = "offered"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    MISSED = "missed"
    ENDED = "ended"


class Call(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call; `seconds` it lasted, where that is told."""

    outcome: CallOutcome
    video: bool = False
    group: bool = False
    seconds: int = 0


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """The inside of a message.

    `text` is the text or the caption.  `target` is the WhatsApp id of the message that a reply, reaction,
    edit, revoke or vote points to; `told_ms` is the time that the sender of an edit, reaction or vote gave it, which
    orders theirs among themselves; `by_admin` is a revoke of somebody else's message.  `expires_s`: seconds after which
    it disappears from the phones.  `mentions` are JIDs.  `detail` says what was not understood (for `unknown`), or why
    a placeholder is one.
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
    by_admin: bool = False
