"""Messages and threads as they are stored, and the status of a message."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from wad.core.content import PLACEHOLDERS, Call, CallOutcome, Content, MessageKind
from wad.core.event import ReceiptMark
from wad.core.jid import PN_SERVER

PREVIEW_LENGTH = 100
"""Characters of a thread's preview (docs/internals/replaced-backend.md#received-messages)."""
TEXT_LIMIT = 65_536  # characters that WhatsApp accepts in one text


class MessageStatus(StrEnum):
    """The status of a message; `queued` to `uncertain` apply to our own only."""

    QUEUED = "queued"
    SENDING = "sending"
    UNCERTAIN = "uncertain"
    FAILED = "failed"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"


_S = MessageStatus
_RANK = {status: rank for rank, status in enumerate(MessageStatus)}
_OF_MARK = {
    ReceiptMark.DELIVERED: _S.DELIVERED,
    ReceiptMark.READ: _S.READ,
    ReceiptMark.PLAYED: _S.PLAYED,
}
_CODES = {
    _S.FAILED: 0, _S.QUEUED: 1, _S.SENDING: 1, _S.UNCERTAIN: 1, _S.SENT: 2, _S.DELIVERED: 3, _S.READ: 4, _S.PLAYED: 5,
}  # fmt: skip


def further(one: MessageStatus, other: MessageStatus) -> MessageStatus:
    """The later of two statuses: receipts arrive in any order and never move a message back."""
    return max(one, other, key=_RANK.__getitem__)


def status_of(mark: ReceiptMark) -> MessageStatus:
    """The status that a receipt gives a message."""
    return _OF_MARK[mark]


def status_code(status: MessageStatus) -> int:
    """WhatsApp's code for a status: 0 error, 1 pending, 2 sent, 3 delivered, 4 read, 5 played.

    WAWebProtobufsWeb.WebMessageInfo.Status; the replaced backend read it one too low
    (docs/internals/replaced-backend.md#received-messages).
    """
    return _CODES[status]


class Reaction(msgspec.Struct, frozen=True):
    """A reaction to a message; `by` is empty for our own (`from_me`)."""

    by: str
    text: str
    at_ms: int
    from_me: bool = False


class Ballot(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person's last vote in a poll, with the fields of `content.Vote`."""

    by: str
    at_ms: int
    wa_id: str
    from_me: bool = False
    payload: bytes = b""
    iv: bytes = b""
    options: tuple[bytes, ...] = ()


class MessageVersion(msgspec.Struct, frozen=True):
    """An earlier content of a message, valid from `at_ms` until an edit or a revoke."""

    content: Content
    at_ms: int


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One stored message.  `at_ms` is WhatsApp's time (our own until it is sent).

    WhatsApp's times are whole seconds; `seen` (microseconds since 1970, when we first received it) orders messages of
    the same second.  `content` is the present content; `earlier` has the versions before each edit or revoke, the
    oldest first.  `pinned_until_ms`: when the pin ends that is set now, 0 without one; `kept`: it stays although
    messages of its chat disappear.  `lid_chat` and, outside of a one-to-one chat, `lid_sender` are the LIDs under which
    it arrived, empty if it arrived under the number: what answers or changes it must name it so on the wire, while
    `chat` and `sender` name numbers where these are known.
    """

    id: str
    account: str
    thread: str
    chat: str
    sender: str
    from_me: bool
    at_ms: int
    content: Content
    status: MessageStatus
    seen: int = 0
    wa_id: str = ""
    push_name: str = ""
    client_id: str = ""
    stable_key: str = ""
    fingerprint: str = ""
    edited_ms: int = 0
    revoked_ms: int = 0
    revoked_by: str = ""
    reactions: tuple[Reaction, ...] = ()
    votes: tuple[Ballot, ...] = ()
    earlier: tuple[MessageVersion, ...] = ()
    pinned_until_ms: int = 0
    kept: bool = False
    lid_chat: str = ""
    lid_sender: str = ""


class Thread(msgspec.Struct, frozen=True, kw_only=True):
    """One stored thread.  `last_ms` and the preview belong to its newest message, whenever that was stored.

    `last_sender`: the push name of its sender; empty for our own.  `expires_s`: seconds after which new messages
    disappear from the phones; 0: never.
    """

    id: str
    account: str
    chat: str
    name: str = ""
    last_ms: int = 0
    last_text: str = ""
    last_from_me: bool = False
    last_sender: str = ""
    unread: int = 0
    messages: int = 0
    expires_s: int = 0


def preview(content: Content) -> str:
    """The preview line for a list of threads."""
    if content.text:
        return content.text[:PREVIEW_LENGTH]
    match content.kind:
        case MessageKind.TEXT:
            return ""
        case MessageKind.REVOKE:
            return "[deleted]"
        case MessageKind.UNKNOWN if content.detail:
            return f"[unknown: {content.detail}]"[:PREVIEW_LENGTH]
        case MessageKind.CALL if content.call:
            return f"[call: {content.call.outcome}]"
    return f"[{content.kind}]"


_NOUNS: Final = {
    MessageKind.TEXT: "a text",
    MessageKind.IMAGE: "an image",
    MessageKind.VIDEO: "a video",
    MessageKind.AUDIO: "an audio file",
    MessageKind.DOCUMENT: "a document",
    MessageKind.STICKER: "a sticker",
    MessageKind.LOCATION: "a location",
    MessageKind.CONTACT: "a contact",
    MessageKind.POLL: "a poll",
    MessageKind.CALL: "a call",
    MessageKind.REVOKE: "a deleted message",
    MessageKind.UNDECRYPTABLE: "a message that cannot be decrypted",
    MessageKind.LOST: "a message that was lost",
    MessageKind.UNKNOWN: "a message of an unknown kind",
}


def noun(kind: MessageKind) -> str:
    """A kind of message in words, with its article."""
    return _NOUNS.get(kind, "a change")


def arrival_text(message: Message) -> str:
    """What arrived, who wrote it, and where, in one line without its content."""
    what = noun(message.content.kind)
    if message.from_me:
        return f"sent {what} to {shown_party(message.chat)}"
    who = shown_party(message.sender) if message.sender else shown_party(message.chat)
    if message.push_name:
        who = f"{message.push_name} ({who})"
    where = "" if message.sender in ("", message.chat) else f" in {message.chat}"
    return f"received {what} from {who}{where}"


def shown_party(address: str) -> str:
    """An address for people: a number with its plus sign, anything else as it is."""
    user, _, server = address.partition("@")
    return f"+{user}" if server == PN_SERVER and user.isdecimal() else address


def merged(known: Message, again: Message) -> Message:
    """Merge two copies of one message, with the identity of the first.

    The more complete content wins: the message replaces a placeholder, a translated message replaces an unknown one
    (sent again, or translated again), the outcome of a call replaces its offer.  The earliest time counts: a message
    that could not be decrypted arrives again with a later time (seen against the test server), but belongs where it was
    written.  A copy without a time (0: the history has such messages) leaves the other's.  Order and repetition do not
    matter.
    """
    better, other = (
        (again, known) if _completeness(again) > _completeness(known) else (known, again)
    )
    return msgspec.structs.replace(
        known,
        content=_with_call_of(better.content, other.content),
        at_ms=min(filter(None, (known.at_ms, again.at_ms)), default=0),
        seen=min(known.seen, again.seen),
        sender=better.sender or other.sender,
        push_name=better.push_name or other.push_name,
        fingerprint=better.fingerprint,
        status=further(known.status, again.status),
        lid_chat=max(known.lid_chat, again.lid_chat),
        lid_sender=max(known.lid_sender, again.lid_sender),
    )


def _with_call_of(content: Content, other: Content) -> Content:
    """The content; if both copies are of a call, with what either knows: the end of a call does not repeat its kind."""
    if content.call is None or other.call is None:
        return content
    call = Call(
        content.call.outcome,
        content.call.video or other.call.video,
        content.call.group or other.call.group,
        max(content.call.seconds, other.call.seconds),
    )
    return msgspec.structs.replace(content, call=call)


_CALLS: Final = (
    CallOutcome.OFFERED, CallOutcome.ENDED, CallOutcome.ACCEPTED, CallOutcome.REJECTED, CallOutcome.MISSED,
)  # fmt: skip
"""Outcomes of a call; of two for one call the later in this list is the more exact."""


def _completeness(message: Message) -> int:
    """How complete a copy's content is."""
    content = message.content
    if content.kind in PLACEHOLDERS:
        return 0 if content.kind is MessageKind.LOST else 1
    if content.kind is MessageKind.UNKNOWN:
        return 2
    return 3 if content.call is None else 3 + _CALLS.index(content.call.outcome)
