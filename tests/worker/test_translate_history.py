"""A history chunk: all its items, in a useful order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.library_events import GROUP, LID, PN, SECONDS, history_of
from tests.support.protobufs import HistorySync
from tests.support.random_protobufs import protobufs
from wad.core.content import Call, CallOutcome, Content, MessageKind, Vote
from wad.core.event import (
    AliasReceived,
    ChatReceived,
    HistoryReceived,
    MessageReceived,
    ReceiptMark,
    ReceiptReceived,
    decode,
    encode,
)
from wad.core.jid import Jid

NOON = SECONDS * 1000
BOB, BOB_LID = Jid.parse(PN), Jid.parse(LID)


def one(number: int, *, from_me: bool = False, text: str = "", **more: Any) -> dict[str, Any]:
    """A message of history, `number` seconds after noon."""
    web = {
        "key": {"ID": f"ID{number}", "fromMe": from_me}, "messageTimestamp": SECONDS + number,
        "message": {"conversation": text or f"text {number}"}, "pushName": "" if from_me else "Bob",
    } | more  # fmt: skip
    return {"message": {name: value for name, value in web.items() if value is not None}}


def chunk(*conversations: dict[str, Any], **more: Any) -> Any:
    """A history chunk."""
    return HistorySync(syncType=0, conversations=conversations, **more)


def messages_of(found: HistoryReceived) -> list[MessageReceived]:
    """The messages of a chunk."""
    return [event for event in found.events if isinstance(event, MessageReceived)]


def chat_of(found: HistoryReceived) -> ChatReceived:
    """The data of a chunk about its only chat."""
    (chat,) = [event for event in found.events if isinstance(event, ChatReceived)]
    return chat


def test_messages_are_oldest_first() -> None:
    """The phone sends the newest first; within one second its own order counts."""
    same = [one(3, text=text) | {"msgOrderID": order} for text, order in (("b", 2), ("a", 1))]
    found = history_of(chunk({"ID": PN, "messages": [one(9), *same, one(1)]}))
    assert [m.content.text for m in messages_of(found)] == ["text 1", "a", "b", "text 9"]
    unordered = history_of(chunk({"ID": PN, "messages": [one(3, text="b"), one(3, text="a")]}))
    assert [m.content.text for m in messages_of(unordered)] == ["a", "b"]


def test_a_message_of_history_is_a_message() -> None:
    """Chat, its other address, sender, time, direction and name."""
    theirs, ours = messages_of(
        history_of(chunk({"ID": LID, "pnJID": PN, "messages": [one(2, from_me=True), one(1)]}))
    )
    assert (theirs.chat, theirs.chat_alt, theirs.sender, theirs.push_name) == (
        BOB_LID, BOB, BOB_LID, "Bob",
    )  # fmt: skip
    assert (theirs.at_ms, theirs.id, theirs.from_me) == (NOON + 1000, "ID1", False)
    assert (ours.sender, ours.from_me, ours.chat_alt) == (None, True, BOB)


def test_a_groups_message_has_its_member() -> None:
    """In the key or beside it; without one the item is counted, and does not delay others."""
    item = one(1, participant=LID)
    in_key = one(2)
    in_key["message"]["key"]["participant"] = PN
    found = history_of(chunk({"ID": GROUP, "messages": [in_key, item, one(3)]}))
    assert [m.sender for m in messages_of(found)] == [BOB_LID, BOB]
    assert found.skipped == 1


def test_the_chat_itself() -> None:
    """Its name with the time of its last message, and its expiration."""
    found = history_of(
        chunk(
            {
                "ID": GROUP, "name": "Friends", "conversationTimestamp": SECONDS + 9,
                "ephemeralExpiration": 60, "ephemeralSettingTimestamp": SECONDS,
            }
        )
    )  # fmt: skip
    assert chat_of(found) == ChatReceived(
        Jid.parse(GROUP),
        name="Friends",
        name_ms=NOON + 9000,
        expires_s=60,
        expires_ms=NOON,
    )


@pytest.mark.parametrize("unread", [0, 2])
def test_unread_messages_on_the_phone(unread: int) -> None:
    """A number, with the time of the chat's last message, which may be in another chunk."""
    chat = {"ID": PN, "unreadCount": unread, "lastMsgTimestamp": SECONDS + 9, "messages": [one(4)]}
    chat_event = chat_of(history_of(chunk(chat)))
    assert (chat_event.unread, chat_event.unread_ms) == (unread, NOON + 9000)


def test_a_chunk_without_a_number_is_about_what_was_read() -> None:
    """With the time of its own newest message, so that one with a number counts more."""
    chat = {"ID": PN, "lastMsgTimestamp": SECONDS + 9, "messages": [one(4), one(3)]}
    chat_event = chat_of(history_of(chunk(chat)))
    assert (chat_event.unread, chat_event.unread_ms) == (0, NOON + 4000)


def test_aliases_are_first() -> None:
    """So that each message finds its thread."""
    mapping = {"pnJID": PN, "lidJID": LID}
    found = history_of(
        chunk(
            {"ID": LID, "messages": [one(1)]},
            phoneNumberToLidMappings=[mapping, {"pnJID": "nonsense", "lidJID": LID}],
            pushnames=[{"ID": PN, "pushname": "Bobby"}, {"ID": "", "pushname": "X"}],
        )
    )
    assert found.events[0] == AliasReceived(BOB_LID, BOB)
    assert found.events[-1] == ChatReceived(BOB, push_name="Bobby")


@pytest.mark.parametrize(
    ("status", "mark"),
    [
        (0, None),
        (1, None),
        (2, None),
        (3, ReceiptMark.DELIVERED),
        (4, ReceiptMark.READ),
        (5, ReceiptMark.PLAYED),
    ],
)
def test_the_status_of_our_messages(status: int, mark: ReceiptMark | None) -> None:
    """2 is sent, 3 delivered, 4 read, 5 played; it is ignored for messages of others."""
    items = [one(1, from_me=True, status=status), one(2, status=status)]
    found = history_of(chunk({"ID": PN, "messages": items}))
    receipts = [event for event in found.events if isinstance(event, ReceiptReceived)]
    assert [(r.ids, r.mark) for r in receipts] == ([(("ID1",), mark)] if mark else [])


def test_reactions_and_votes_follow_their_message() -> None:
    """Each with its own id, time and author."""
    ms = NOON + 5000
    item = one(
        1,
        reactions=[
            {"key": {"ID": "R", "fromMe": False}, "text": "+", "senderTimestampMS": ms},
            {"key": {"ID": "M", "fromMe": True}, "text": "-", "senderTimestampMS": ms},
        ],
        pollUpdates=[
            {
                "pollUpdateMessageKey": {"ID": "V"}, "vote": {"selectedOptions": [b"yes"]}, "senderTimestampMS": ms,
            }
        ],
    )  # fmt: skip
    _, theirs, ours, vote = messages_of(history_of(chunk({"ID": PN, "messages": [item]})))
    assert (theirs.id, theirs.sender, theirs.content.target) == ("R", BOB, "ID1")
    assert (theirs.content.kind, theirs.content.text, theirs.content.told_ms) == (
        MessageKind.REACTION, "+", ms,
    )  # fmt: skip
    assert (ours.from_me, ours.sender) == (True, None)
    assert vote.content.vote == Vote(options=(b"yes",))


def test_a_message_that_was_edited() -> None:
    """The message has its edited text, and the edit is an edit."""
    edit = {"key": {"ID": "ID1"}, "type": 14, "editedMessage": {"conversation": "new"}}
    item = one(1, message={"editedMessage": {"message": {"protocolMessage": edit}}})
    message, change = messages_of(history_of(chunk({"ID": PN, "messages": [item]})))
    assert (message.content.kind, message.content.text) == (MessageKind.TEXT, "new")
    assert (change.content.kind, change.content.target) == (MessageKind.EDIT, "ID1")


@pytest.mark.parametrize(
    ("stub", "kind"),
    [
        ("REVOKE", MessageKind.REVOKE),
        ("CIPHERTEXT", MessageKind.UNDECRYPTABLE),
        ("CALL_MISSED_VIDEO", MessageKind.CALL),
    ],
)
def test_an_entry_that_no_longer_exists(stub: str, kind: MessageKind) -> None:
    """Deleted, not decrypted, a call."""
    item = one(1, message=None, messageStubType=stub)
    (message,) = messages_of(history_of(chunk({"ID": PN, "messages": [item]})))
    assert message.content.kind is kind
    if kind is MessageKind.CALL:
        assert message.content.call == Call(CallOutcome.MISSED, video=True)
    if kind is MessageKind.REVOKE:
        assert message.content.target == "ID1"


def test_group_notices_are_not_messages() -> None:
    """Neither does a status without a message."""
    items = [one(1, message=None, messageStubType="GROUP_CREATE"), one(2, message=None)]
    assert messages_of(history_of(chunk({"ID": PN, "messages": items}))) == []


def test_statuses_are_a_separate_chat() -> None:
    """Each has its author."""
    status = one(1, participant=PN)["message"]
    (message,) = messages_of(history_of(chunk(statusV3Messages=[status])))
    assert (str(message.chat), message.sender) == ("status@broadcast", BOB)


def test_untranslatable_items_delay_nothing() -> None:
    """It is counted, and shown if its chat and sender are known."""
    bad = one(2, message={"reactionMessage": {"text": "!"}})
    found = history_of(
        chunk({"ID": "nonsense", "messages": [one(1)]}, {"ID": PN, "messages": [bad, one(3)]})
    )
    unreadable, shown = messages_of(found)
    assert (shown.id, unreadable.id) == ("ID3", "ID2")
    assert unreadable.content == Content(MessageKind.UNKNOWN, detail="a reaction without a target")
    assert found.skipped == 2


@settings(max_examples=60)
@given(st.lists(protobufs(HistorySync, always=("conversations",), depth=6), min_size=1, max_size=2))
def test_any_history_can_be_translated_and_stored(chunks: list[Any]) -> None:
    """Whatever the phone sends."""
    for data in chunks:
        found = history_of(data)
        assert decode(encode(found)) == found
