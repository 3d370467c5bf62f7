"""The changes to the store that an event causes.

`plan` is total and pure: the same event gives the same changes, and applying changes twice, or in another order, leads
to the same store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, assert_never

import msgspec

from wad.core.addresses import Addresses
from wad.core.change import Change, PutAlias, PutAmendment, PutChat, PutMark, PutMessage
from wad.core.content import AMENDING, Content, MessageKind
from wad.core.event import (
    AliasReceived,
    ChatReceived,
    Event,
    HistoryReceived,
    MessageReceived,
    ReceiptMark,
    ReceiptReceived,
    SingleEvent,
)
from wad.core.identity import document_id, fingerprint, stable_key
from wad.core.jid import Jid, JidKind, ThreadId
from wad.core.message import Message, MessageStatus

_SHARED: Final = frozenset({MessageKind.PIN, MessageKind.KEEP})
"""Amendments of which the newest of all senders counts."""


def plan(
    account: str,
    event: Event,
    addresses: Addresses,
    seen: int = 0,
    reported_ms: int | None = None,
) -> list[Change]:
    """The changes to the store that an event causes; `seen` is its arrival, in microseconds since 1970.

    `reported_ms`: when the pairs of LIDs and numbers in it were true; at its arrival, if None.
    """
    reported_ms = seen // 1000 if reported_ms is None else reported_ms
    match event:
        case MessageReceived():
            return _message(account, event, addresses, seen, reported_ms)
        case ReceiptReceived():
            return _receipt(account, event, addresses, reported_ms)
        case ChatReceived():
            return _chat(account, event, addresses, reported_ms)
        case AliasReceived(lid, pn):
            return [*_aliases(reported_ms, (lid, pn))]
        case HistoryReceived():
            return _history(account, event, addresses, seen)
        case _:
            assert_never(event)


class EventPart(NamedTuple):
    """One event, and the times with which it is planned."""

    event: SingleEvent
    seen: int
    reported_ms: int


def parts(event: Event, seen: int) -> Iterator[EventPart]:
    """The items of a history chunk, or the event itself, each with its time of arrival for ordering.

    The phone's history has numbers of any time: such a pair never replaces a number that is known.
    """
    if not isinstance(event, HistoryReceived):
        yield EventPart(event, seen, seen // 1000)
        return
    first = seen - len(event.events)
    for number, item in enumerate(event.events):
        yield EventPart(item, first + number, 0)


def _history(account: str, event: HistoryReceived, addresses: Addresses, seen: int) -> list[Change]:
    """The changes of a history chunk's events in order, all of them before later events."""
    known = addresses.copy()
    changes: list[Change] = []
    for part in parts(event, seen):
        for change in plan(account, part.event, known, part.seen, part.reported_ms):
            if isinstance(change, PutAlias):
                known.put(change)
            changes.append(change)
    return changes


def _message(
    account: str, event: MessageReceived, addresses: Addresses, seen: int, reported_ms: int
) -> list[Change]:
    sender = event.sender
    # A one-to-one chat is its other party: if the server gave only the sender's number, it is the chat's, too.
    chat_alt = event.chat_alt
    if chat_alt is None and sender is not None and event.chat.party() == sender.party():
        chat_alt = event.sender_alt
    chat = addresses.canonical(event.chat, chat_alt, reported_ms)
    by = None if sender is None else addresses.canonical(sender, event.sender_alt, reported_ms)
    alias_changes = _aliases(reported_ms, (event.chat, event.chat_alt), (sender, event.sender_alt))
    if event.content.kind in AMENDING and event.content.target:
        return [*alias_changes, _amendment(account, event, chat, by)]
    if event.content.kind is MessageKind.NOTICE:
        return [*alias_changes, _notice(account, event, chat, by)]
    participant = None if chat.is_person else by
    key = stable_key(account, chat, event.id, event.from_me, participant)
    message = Message(
        id=document_id(key),
        account=account,
        thread=str(ThreadId.make(account, chat)),
        chat=str(chat),
        sender=str(by or ""),
        from_me=event.from_me,
        at_ms=event.at_ms,
        content=event.content,
        status=MessageStatus.SENT if event.from_me else MessageStatus.DELIVERED,
        seen=seen,
        wa_id=event.id,
        push_name=event.push_name,
        stable_key=key,
        fingerprint=fingerprint(chat, event.from_me, participant, event.at_ms, event.content),
        lid_chat=_lid(event.chat),
        lid_sender="" if chat.is_person else _lid(sender),
    )
    return [*alias_changes, PutMessage(message)]


def _lid(jid: Jid | None) -> str:
    """The LID of this address; empty if it is another kind of address."""
    return str(jid.party()) if jid is not None and jid.kind is JidKind.LID else ""


def _amendment(account: str, event: MessageReceived, chat: Jid, by: Jid | None) -> PutAmendment:
    return PutAmendment(
        thread=str(ThreadId.make(account, chat)),
        target=event.content.target,
        wa_id=event.id,
        by="" if event.from_me else str(by or ""),
        from_me=event.from_me,
        at_ms=_time_of_amendment(event),
        content=event.content,
    )


def _time_of_amendment(event: MessageReceived) -> int:
    """The time that the sender gave; of a pin or keep, nothing after the server's second.

    The newest pin of all senders counts: one that is dated in the future would win over all later ones.
    """
    told_ms, at_ms = event.content.told_ms, event.at_ms
    if event.content.kind in _SHARED and told_ms and at_ms:
        return min(told_ms, at_ms + 999)
    return told_ms or at_ms


def _notice(account: str, event: MessageReceived, chat: Jid, by: Jid | None) -> PutAmendment:
    """An amendment without effect: the id is stored, so that a placeholder with it is not shown as a message."""
    return msgspec.structs.replace(
        _amendment(account, event, chat, by),
        target=event.id,
        at_ms=event.at_ms,
        content=Content(MessageKind.NOTICE),
    )


def _receipt(
    account: str, event: ReceiptReceived, addresses: Addresses, reported_ms: int
) -> list[Change]:
    alias_changes = _aliases(
        reported_ms, (event.chat, event.chat_alt), (event.sender, event.sender_alt)
    )
    chat_alt = event.chat_alt
    if chat_alt is None and event.chat.party() == event.sender.party():
        chat_alt = event.sender_alt
    chat = addresses.canonical(event.chat, chat_alt, reported_ms)
    thread = str(ThreadId.make(account, chat))
    if event.from_me:
        # Our phone read messages of the chat.
        read = event.mark in (ReceiptMark.READ, ReceiptMark.PLAYED)
        return (
            [*alias_changes, PutChat(thread, str(chat), read_ms=event.at_ms)]
            if read
            else [*alias_changes]
        )
    by = str(addresses.canonical(event.sender, event.sender_alt, reported_ms))
    return [
        *alias_changes,
        *(PutMark(thread, wa_id, event.mark, by, event.at_ms) for wa_id in event.ids),
    ]


def _chat(
    account: str, event: ChatReceived, addresses: Addresses, reported_ms: int
) -> list[Change]:
    chat = addresses.canonical(event.chat, event.chat_alt, reported_ms)
    change = PutChat(
        thread=str(ThreadId.make(account, chat)),
        chat=str(chat),
        name=event.name,
        push_name=event.push_name,
        name_ms=event.name_ms,
        read_ms=event.read_ms,
        unread=event.unread,
        unread_ms=event.unread_ms,
        expires_s=event.expires_s,
        expires_ms=event.expires_ms,
    )
    return [*_aliases(reported_ms, (event.chat, event.chat_alt)), change]


def _aliases(reported_ms: int, *pairs: tuple[Jid | None, Jid | None]) -> list[PutAlias]:
    """The pairs of a LID and a number, as reported at this time."""
    # Not a set: the same event gives the same list, in every process.
    found: dict[PutAlias, None] = {}
    for one, other in pairs:
        if one is not None and other is not None:
            kinds = {one.kind: one.party(), other.kind: other.party()}
            if JidKind.LID in kinds and JidKind.PN in kinds:
                lid, pn = str(kinds[JidKind.LID]), str(kinds[JidKind.PN])
                found[PutAlias(lid, pn, reported_ms)] = None
    return list(found)
