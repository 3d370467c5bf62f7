"""A message's identity, and what an event changes in the store.

Rule 1: one message is one document, whoever tells of it and however often.  Its id is made from what all tellers
agree on (account, canonical chat, WhatsApp's id, direction, sender in groups), never from a clock or a random number.
Rule 2: `plan` is total and pure: the same event gives the same changes, and applying changes twice, or in another
order, ends in the same store.
Rule 3: a person's thread is named by the phone number where it is known, else by the hidden id.

The formulas are those of reference-backend.md 5.4, so that ids agree with what the reference wrote; the hashes are
kept whole there, where the reference cut them to 32 bits and made messages collide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import assert_never

import msgspec

from wad.core.event import Content, Event, Mark, MessageKind, MessageReceived, ReceiptReceived
from wad.core.jid import Jid, JidKind, ThreadId

PREVIEW_LENGTH = 100  # characters of a thread's preview (reference-backend.md 6)
TEXT_LIMIT = 65_536  # characters WhatsApp takes in one text


class MessageStatus(StrEnum):
    """How far a message has come; `queued` to `uncertain` are for our own only."""

    QUEUED = "queued"
    SENDING = "sending"
    UNCERTAIN = "uncertain"
    FAILED = "failed"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"


_RANK = {status: rank for rank, status in enumerate(MessageStatus)}
_OF_MARK = {
    Mark.DELIVERED: MessageStatus.DELIVERED,
    Mark.READ: MessageStatus.READ,
    Mark.PLAYED: MessageStatus.READ,
}


def further(one: MessageStatus, other: MessageStatus) -> MessageStatus:
    """The status that is further on: receipts arrive in any order and never take a message back."""
    return max(one, other, key=_RANK.__getitem__)


def status_of(mark: Mark) -> MessageStatus:
    """What a receipt makes of a message."""
    return _OF_MARK[mark]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One stored message.  `at_ms` is WhatsApp's time (our own until it was sent).

    WhatsApp tells whole seconds; `seen` (microseconds since 1970, when we first saw it) orders what shares one.
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


class Thread(msgspec.Struct, frozen=True, kw_only=True):
    """One stored conversation.  `last_ms` and the preview belong to its newest message, whenever it was stored."""

    id: str
    account: str
    chat: str
    name: str = ""
    last_ms: int = 0
    last_text: str = ""
    last_from_me: bool = False
    unread: int = 0
    messages: int = 0


class PutMessage(msgspec.Struct, frozen=True):
    """Store this message unless it is known, and move its thread forward."""

    message: Message


class PutMark(msgspec.Struct, frozen=True):
    """Remember what `by` did with a message that we sent; creates no message, and may come before it."""

    thread: str
    wa_id: str
    mark: Mark
    by: str
    at_ms: int


class PutAlias(msgspec.Struct, frozen=True):
    """A hidden id and a phone number are one person."""

    lid: str
    pn: str


Change = PutMessage | PutMark | PutAlias
Aliases = Mapping[str, str]
"""Bare LID -> bare PN, both as text, of one account."""


# --- identity -----------------------------------------------------------------------------


def _sha1(text: str) -> str:
    # Not for security: the document ids of the reference are SHA-1, and must stay the same.
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def stable_key(account: str, chat: Jid, wa_id: str, from_me: bool, participant: Jid | None) -> str:
    """The 40 hex digits that name a message for ever; `participant` is the sender in a group."""
    return _sha1(f"{account}|{chat}|{wa_id}|{int(from_me)}|{participant or ''}")


def document_id(key: str) -> str:
    """The document's id from its stable key: 24 hex digits, as the reference made them."""
    return key[:24]


def fingerprint(chat: Jid, from_me: bool, sender: Jid | None, at_ms: int, content: Content) -> str:
    """40 hex digits of what the message says and when: equal for copies that lost their id."""
    direction = "outbound" if from_me else "inbound"
    text = _sha1(" ".join(content.text.split()))[:8]
    return _sha1(f"{chat}|{direction}|{sender or ''}|{at_ms}|{content.kind}|{text}")


def preview(content: Content) -> str:
    """The line that a list of threads shows."""
    if content.text:
        return content.text[:PREVIEW_LENGTH]
    return "" if content.kind is MessageKind.TEXT else f"[{content.kind}]"


def canonical(jid: Jid, alt: Jid | None, aliases: Aliases) -> Jid:
    """Who this is, by number if that is known from the event itself or from before."""
    bare = jid.bare()
    if bare.kind is not JidKind.LID:
        return bare
    if alt is not None and alt.kind is JidKind.PN:
        return alt.bare()
    known = aliases.get(str(bare))
    return Jid.parse(known) if known else bare


# --- what an event changes ------------------------------------------------------------------


def plan(account: str, event: Event, aliases: Aliases, seen: int = 0) -> list[Change]:
    """The changes that an event asks of the store."""
    match event:
        case MessageReceived():
            return _message(account, event, aliases, seen)
        case ReceiptReceived():
            return _receipt(account, event, aliases)
        case _:
            assert_never(event)


def _message(account: str, event: MessageReceived, aliases: Aliases, seen: int) -> list[Change]:
    changes: list[Change] = [
        *_aliases((event.chat, event.chat_alt), (event.sender, event.sender_alt))
    ]
    # A one-to-one chat is its other party: where the server named only the sender's number, that is the chat's too.
    chat_alt = event.chat_alt
    if chat_alt is None and event.chat.bare() == event.sender.bare():
        chat_alt = event.sender_alt
    chat = canonical(event.chat, chat_alt, aliases)
    sender = canonical(event.sender, event.sender_alt, aliases)
    participant = None if chat.is_person else sender
    key = stable_key(account, chat, event.id, event.from_me, participant)
    changes.append(
        PutMessage(
            Message(
                id=document_id(key),
                account=account,
                thread=str(ThreadId.make(account, chat)),
                chat=str(chat),
                sender=str(sender),
                from_me=event.from_me,
                at_ms=event.at_ms,
                content=event.content,
                status=MessageStatus.SENT if event.from_me else MessageStatus.DELIVERED,
                seen=seen,
                wa_id=event.id,
                push_name=event.push_name,
                stable_key=key,
                fingerprint=fingerprint(
                    chat, event.from_me, participant, event.at_ms, event.content
                ),
            )
        )
    )
    return changes


def _receipt(account: str, event: ReceiptReceived, aliases: Aliases) -> list[Change]:
    # Our own phone's receipts say what we read of others, not what others did with ours.
    if event.from_me:
        return []
    thread = str(ThreadId.make(account, canonical(event.chat, None, aliases)))
    by = str(canonical(event.sender, None, aliases))
    return [PutMark(thread, wa_id, event.mark, by, event.at_ms) for wa_id in event.ids]


def _aliases(*pairs: tuple[Jid, Jid | None]) -> list[PutAlias]:
    # Not a set: the same event gives the same list, in every process.
    found: dict[PutAlias, None] = {}
    for one, other in pairs:
        if other is not None:
            kinds = {one.kind: one.bare(), other.kind: other.bare()}
            if JidKind.LID in kinds and JidKind.PN in kinds:
                found[PutAlias(str(kinds[JidKind.LID]), str(kinds[JidKind.PN]))] = None
    return list(found)
