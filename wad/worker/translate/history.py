"""Translation of a history chunk: one event of the library, many events of wad.

Field names: WAWebProtobufsHistorySync and WAWebProtobufsWeb.  An untranslatable item is counted and stored, and does
not delay the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from wad.core.content import Call, CallOutcome, Content, MessageKind, Vote
from wad.core.errors import InvalidData
from wad.core.event import (
    AliasReceived,
    ChatReceived,
    HistoryReceived,
    MessageReceived,
    ReceiptMark,
    ReceiptReceived,
    SingleEvent,
    read_back,
)
from wad.core.jid import STATUS, Jid, JidKind
from wad.worker.translate.base import (
    Untranslatable,
    address,
    ident,
    ident_or_none,
    milliseconds_or_0,
    shown,
)
from wad.worker.translate.content import content_of, reaction_text, unreadable, unwrap

log = logging.getLogger("wad.inbox")

_MARKS: Final = {
    3: ReceiptMark.DELIVERED,
    4: ReceiptMark.READ,
    5: ReceiptMark.PLAYED,
}  # WebMessageInfo.Status
_ON_DEMAND: Final = 6  # HistorySync.HistorySyncType
_REVOKED, _CIPHERTEXT = 1, 2  # WebMessageInfo.StubType


class UntranslatedItem(NamedTuple):
    """An untranslatable item: the reason, its WhatsApp id (empty if it has none), and how to store it.

    `put` copies it, with what is needed to read it again, into an empty HistorySync.
    """

    reason: str
    wa_id: str
    put: Callable[[Any], None]


OpenSealed = Callable[[Any, Jid, "Jid | None", "Jid | None"], Content | None]
"""Opens a sealed change, given its waE2E.Message, the chat, the chat's other address, and the sender (None: we)."""


def _sealed(_message: Any, _chat: Jid, _alt: Jid | None, _sender: Jid | None) -> Content | None:
    return None


def history(event: Any) -> HistoryReceived | None:
    """Translate a neonize HistorySync; None for a chunk without stored data (settings, stickers).

    The answer to a request of ours is returned even if it is empty: the phone has nothing more.
    """
    return history_and_refused(event)[0]


def history_and_refused(
    event: Any, open_sealed: OpenSealed = _sealed
) -> tuple[HistoryReceived | None, list[UntranslatedItem]]:
    """The same, and the untranslatable items; a message among them is returned as `unknown` if possible."""
    translated: list[SingleEvent] = []
    refused: list[UntranslatedItem] = []
    for item in _items(event.Data, open_sealed):
        if isinstance(item, UntranslatedItem):
            refused.append(item)
        else:
            translated.append(item)
    asked = event.Data.syncType == _ON_DEMAND
    if not translated and not refused and not asked:
        return None, refused
    return HistoryReceived(tuple(translated), len(refused), asked), refused


def _items(data: Any, open_sealed: OpenSealed) -> Iterator[SingleEvent | UntranslatedItem]:
    """Everything in a chunk: the aliases first, so that each message finds its thread."""
    for pair in data.phoneNumberToLidMappings:
        yield from _alias(address(pair, "lidJID"), address(pair, "pnJID"))
    for conversation in data.conversations:
        yield from _conversation(conversation, open_sealed)
    for item in data.statusV3Messages:
        put = partial(_copy, "statusV3Messages", item)
        found = _message(item, STATUS, None, open_sealed)
        yield from _one_by_one(found, item, STATUS, put)
    for name in data.pushnames:
        chat, push_name = address(name, "ID"), shown(name, "pushname")
        if chat is not None and push_name:
            yield ChatReceived(chat.bare(), push_name=push_name)


def _copy(field: str, item: Any, data: Any) -> None:
    getattr(data, field).add().CopyFrom(item)


def _one_by_one(
    items: Iterator[SingleEvent], item: Any, chat: Jid, put: Callable[[Any], None]
) -> Iterator[SingleEvent | UntranslatedItem]:
    """The events of one message of the history, up to the first that fails; each can be read back from the spool."""
    count = 0
    try:
        for found in items:
            read_back(found)
            yield found
            count += 1
    except (Untranslatable, InvalidData) as error:
        reason = str(error)
    except Exception as error:  # any error affects only this item
        reason = f"{type(error).__name__}: {error}"
        log.exception("cannot translate a message of the history")
    else:
        return
    if not count and (instead := _placeholder(item, chat, reason)) is not None:
        yield instead
    yield UntranslatedItem(reason, ident_or_none(item.key, "ID"), put)


def _placeholder(item: Any, chat: Jid, reason: str) -> MessageReceived | None:
    """The placeholder for a message that cannot be read; None if its id or sender is invalid."""
    try:
        return MessageReceived(
            id=ident(item.key, "ID", "a message"),
            chat=chat,
            sender=_sender(item, chat),
            at_ms=milliseconds_or_0(item.messageTimestamp),
            content=unreadable(reason),
            from_me=item.key.fromMe,
        )
    except Untranslatable:
        return None


def _alias(lid: Jid | None, pn: Jid | None) -> Iterator[AliasReceived]:
    if lid is not None and pn is not None and (lid.kind, pn.kind) == (JidKind.LID, JidKind.PN):
        yield AliasReceived(lid.bare(), pn.bare())


def _conversation(
    conversation: Any, open_sealed: OpenSealed
) -> Iterator[SingleEvent | UntranslatedItem]:
    chat = address(conversation, "ID")
    if chat is None:
        yield UntranslatedItem("an invalid chat", "", partial(_copy, "conversations", conversation))
        return
    alt = address(conversation, "lidJID" if chat.kind is JidKind.PN else "pnJID")
    # The phone sends the newest first; within one second its own order applies.
    oldest_first = list(conversation.messages)[::-1]
    oldest_first.sort(key=lambda item: (item.message.messageTimestamp, item.msgOrderID))
    head = _ConversationHead(conversation)
    items = [
        found
        for item in oldest_first
        for found in _one_by_one(
            _message(item.message, chat, alt, open_sealed),
            item.message,
            chat,
            partial(head.put, item),
        )
    ]
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


class _ConversationHead:
    """A conversation without its messages, copied once for all the messages that are put into it."""

    def __init__(self, conversation: Any) -> None:
        self._conversation = conversation
        self._copy: Any = None

    def put(self, item: Any, data: Any) -> None:
        """Put a conversation with this message alone into a HistorySync."""
        if self._copy is None:
            self._copy = type(self._conversation)()
            self._copy.CopyFrom(self._conversation)
            self._copy.ClearField("messages")
        found = data.conversations.add()
        found.CopyFrom(self._copy)
        found.messages.add().CopyFrom(item)


def _last_ms(conversation: Any) -> int:
    last = max(conversation.lastMsgTimestamp, conversation.conversationTimestamp)
    return milliseconds_or_0(last)


def _unread_ms(conversation: Any, items: list[SingleEvent | UntranslatedItem]) -> int:
    """The time at which the phone's number of unread messages was valid.

    It is sent with the chat, of which a chunk may contain only some messages; a chunk without it is about messages
    that were read, and is overridden by one that has it.
    """
    newest = max((item.at_ms for item in items if isinstance(item, MessageReceived)), default=0)
    if not conversation.HasField("unreadCount"):
        return newest
    return max(newest, _last_ms(conversation))


# --- messages -------------------------------------------------------------------------------------


def _message(
    item: Any, chat: Jid, alt: Jid | None, open_sealed: OpenSealed
) -> Iterator[SingleEvent]:
    """One WebMessageInfo with its status, reactions and votes.  Raises Untranslatable."""
    key = item.key
    found = _content(item)
    if found is None:
        return
    sender = _sender(item, chat)
    if found.kind is MessageKind.NOTICE:
        found = open_sealed(item.message, chat, alt, sender) or found
    message = MessageReceived(
        id=ident(key, "ID", "a message"),
        chat=chat,
        sender=sender,
        at_ms=milliseconds_or_0(item.messageTimestamp),
        content=found,
        from_me=key.fromMe,
        chat_alt=alt,
        sender_alt=alt if sender is not None and sender.bare() == chat.bare() else None,
        push_name=shown(item, "pushName"),
    )
    if found.kind is MessageKind.EDIT and found.target == message.id:
        # The phone stores the message in its last edited form.
        yield msgspec.structs.replace(message, content=_as_message(item, found))
    yield message
    if key.fromMe and item.status in _MARKS:
        yield ReceiptReceived(
            (message.id,), chat, chat, _MARKS[item.status], message.at_ms, chat_alt=alt
        )
    yield from _amendments(item, message.id, chat, alt)


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
    return None  # the group was created, somebody joined: not a message


def _as_message(item: Any, edit: Content) -> Content:
    inner = content_of(unwrap(unwrap(item.message).body.protocolMessage.editedMessage))
    return inner if inner is not None else Content(MessageKind.TEXT, edit.text)


def _amendments(item: Any, target: str, chat: Jid, alt: Jid | None) -> Iterator[SingleEvent]:
    """Reactions and votes of others, which the phone stores with the message."""
    for reaction in item.reactions:
        at_ms = milliseconds_or_0(reaction.senderTimestampMS)
        content = Content(
            MessageKind.REACTION, reaction_text(reaction), target=target, told_ms=at_ms
        )
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
            return  # unknown sender; its next change names it
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
