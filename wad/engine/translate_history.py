"""A chunk of the phone's history: one event of the library, many of ours.

Field names: WAWebProtobufsHistorySync and WAWebProtobufsWeb.  What one item cannot be told of is counted, and does not
hold up the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from wad.core.content import Call, CallOutcome, Content, MessageKind, Vote
from wad.core.event import (
    AliasReceived,
    ChatReceived,
    HistoryReceived,
    Mark,
    MessageReceived,
    ReceiptReceived,
    Told,
)
from wad.core.jid import Jid, JidKind
from wad.engine.translate_base import (
    Untranslatable,
    address,
    ident,
    ident_or_none,
    milliseconds,
    milliseconds_or_0,
    shown,
)
from wad.engine.translate_content import content_of, unwrap

_MARKS: Final = {3: Mark.DELIVERED, 4: Mark.READ, 5: Mark.PLAYED}  # WebMessageInfo.Status
_ON_DEMAND: Final = 6  # HistorySync.HistorySyncType
_REVOKED, _CIPHERTEXT = 1, 2  # WebMessageInfo.StubType
_STATUS: Final = Jid("status", "broadcast")


def history(event: Any) -> HistoryReceived | None:
    """Translate a neonize HistorySync; None for a chunk without anything of ours (settings, stickers).

    The answer to a question of ours is told even when it is empty: the phone has nothing more.
    """
    told: list[Told] = []
    skipped = 0
    for item in _items(event.Data):
        if isinstance(item, Untranslatable):
            skipped += 1
        else:
            told.append(item)
    asked = event.Data.syncType == _ON_DEMAND
    if not told and not skipped and not asked:
        return None
    return HistoryReceived(tuple(told), skipped, asked)


def _items(data: Any) -> Iterator[Told | Untranslatable]:
    """Everything in a chunk: who is who first, so that each message finds its thread."""
    for pair in data.phoneNumberToLidMappings:
        yield from _alias(address(pair, "lidJID"), address(pair, "pnJID"))
    for conversation in data.conversations:
        yield from _conversation(conversation)
    for item in data.statusV3Messages:
        yield from _message(item, _STATUS, None)
    for name in data.pushnames:
        chat, push_name = address(name, "ID"), shown(name, "pushname")
        if chat is not None and push_name:
            yield ChatReceived(chat.bare(), push_name=push_name)


def _alias(lid: Jid | None, pn: Jid | None) -> Iterator[AliasReceived]:
    if lid is not None and pn is not None and (lid.kind, pn.kind) == (JidKind.LID, JidKind.PN):
        yield AliasReceived(lid.bare(), pn.bare())


def _conversation(conversation: Any) -> Iterator[Told | Untranslatable]:
    chat = address(conversation, "ID")
    if chat is None:
        yield from [Untranslatable("an invalid chat")] * (1 + len(conversation.messages))
        return
    alt = address(conversation, "lidJID" if chat.kind is JidKind.PN else "pnJID")
    # The phone tells the newest first; of one second its own order tells.
    oldest_first = list(conversation.messages)[::-1]
    oldest_first.sort(key=lambda item: (item.message.messageTimestamp, item.msgOrderID))
    items = [found for item in oldest_first for found in _message(item.message, chat, alt)]
    yield ChatReceived(
        chat,
        alt,
        name=shown(conversation, "name") or shown(conversation, "displayName"),
        name_ms=_last_ms(conversation),
        unread=conversation.unreadCount,
        unread_ms=_unread_ms(conversation, items),
        expires_s=conversation.ephemeralExpiration,
        expires_ms=milliseconds_or_0(conversation.ephemeralSettingTimestamp),
    )
    yield from items


def _last_ms(conversation: Any) -> int:
    last = max(conversation.lastMsgTimestamp, conversation.conversationTimestamp)
    return milliseconds_or_0(last)


def _unread_ms(conversation: Any, items: list[Told | Untranslatable]) -> int:
    """Up to when the phone's number of unread messages counts.

    It is told with the chat, of which a chunk may hold a part; a chunk without it is about messages that were read,
    and yields to one that has it.
    """
    newest = max((item.at_ms for item in items if isinstance(item, MessageReceived)), default=0)
    if not conversation.HasField("unreadCount"):
        return newest
    return max(newest, _last_ms(conversation))


# --- messages -------------------------------------------------------------------------------------


def _message(item: Any, chat: Jid, alt: Jid | None) -> Iterator[Told | Untranslatable]:
    """One WebMessageInfo with its status, reactions and votes."""
    key = item.key
    try:
        found = _content(item)
        if found is None:
            return
        sender = _sender(item, chat)
        told = MessageReceived(
            id=ident(key, "ID", "a message"),
            chat=chat,
            sender=sender,
            at_ms=milliseconds(item.messageTimestamp),
            content=found,
            from_me=key.fromMe,
            chat_alt=alt,
            sender_alt=alt if sender is not None and sender.bare() == chat.bare() else None,
            push_name=shown(item, "pushName"),
        )
    except Untranslatable as error:
        yield error
        return
    if found.kind is MessageKind.EDIT and found.target == told.id:
        # The phone keeps the message as it was edited last.
        yield msgspec.structs.replace(told, content=_as_message(item, found))
    yield told
    if key.fromMe and item.status in _MARKS:
        yield ReceiptReceived((told.id,), chat, chat, _MARKS[item.status], told.at_ms, chat_alt=alt)
    yield from _added(item, told.id, chat, alt)


def _sender(item: Any, chat: Jid) -> Jid | None:
    if item.key.fromMe:
        return None
    if chat.is_person or chat.kind is JidKind.NEWSLETTER:
        return chat
    sender = address(item.key, "participant") or address(item, "participant")
    if sender is None:
        raise Untranslatable("no sender")
    return sender


def _content(item: Any) -> Content | None:
    if item.HasField("message"):
        return content_of(unwrap(item.message))
    stub = item.messageStubType
    if stub == _REVOKED:
        at_ms = milliseconds_or_0(item.revokeMessageTimestamp)
        return Content(MessageKind.REVOKE, target=ident(item.key, "ID", "a message"), told_ms=at_ms)
    if stub == _CIPHERTEXT:
        return Content(MessageKind.UNDECRYPTABLE, detail="could not be decrypted by the phone")
    name = item.DESCRIPTOR.fields_by_name["messageStubType"].enum_type.values_by_number[stub].name
    if name.startswith("CALL_MISSED"):
        call = Call(CallOutcome.MISSED, video="VIDEO" in name, group="GROUP" in name)
        return Content(MessageKind.CALL, call=call)
    return None  # the group was made, somebody joined: no message


def _as_message(item: Any, edit: Content) -> Content:
    inner = content_of(unwrap(unwrap(item.message).body.protocolMessage.editedMessage))
    return inner if inner is not None else Content(MessageKind.TEXT, edit.text)


def _added(item: Any, target: str, chat: Jid, alt: Jid | None) -> Iterator[Told]:
    """What others did with a message, as the phone keeps it beside the message."""
    for reaction in item.reactions:
        at_ms = milliseconds_or_0(reaction.senderTimestampMS)
        content = Content(MessageKind.REACTION, shown(reaction, "text"), target=target, told_ms=at_ms)
        yield from _amendment(reaction.key, content, chat, alt)
    for update in item.pollUpdates:
        content = Content(
            MessageKind.POLL_VOTE,
            target=target,
            vote=Vote(options=tuple(update.vote.selectedOptions)),
            told_ms=milliseconds_or_0(update.senderTimestampMS),
        )
        yield from _amendment(update.pollUpdateMessageKey, content, chat, alt)


def _amendment(key: Any, content: Content, chat: Jid, alt: Jid | None) -> Iterator[MessageReceived]:
    sender = None
    if not key.fromMe:
        sender = chat if chat.is_person else address(key, "participant")
        if sender is None:
            return  # nobody's; whose it is will be told when it changes
    yield MessageReceived(
        id=ident_or_none(key, "ID"),
        chat=chat,
        sender=sender,
        at_ms=content.told_ms,
        content=content,
        from_me=key.fromMe,
        chat_alt=alt,
        sender_alt=alt if sender == chat else None,
    )
