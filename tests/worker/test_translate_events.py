"""The translation of a message's envelope, receipts, calls and groups; every test builds the real protobuf."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.library_events import (
    GROUP,
    LID,
    PN,
    SECONDS,
    a_jid,
    an_event,
    an_info,
    chat_from,
    message_of,
    received,
)
from tests.support.protobufs import Message, pb
from tests.support.random_protobufs import protobufs
from wad.core.content import Call, CallOutcome, MessageKind
from wad.core.event import ChatReceived, ReceiptMark, decode, encode
from wad.core.jid import Jid
from wad.core.untrusted import LATEST_MS
from wad.worker.translate.events import TRANSLATORS, Untranslatable, message, receipt

NOON = SECONDS * 1000


def test_source_and_time() -> None:
    """Both addresses of the sender, the name, the time in milliseconds."""
    found = received(an_event(Message(conversation="hi")))
    assert (str(found.chat), str(found.sender), str(found.sender_alt)) == (LID, LID, PN)
    assert (found.push_name, found.at_ms, found.id) == ("Bob", NOON, "3EB0")


def test_our_own_phones_message_has_the_recipient_as_chat() -> None:
    """The chat's other address is the recipient's."""
    event = an_event(Message(conversation="hi"), sender="900000000000001:0@lid", from_me=True)
    found = received(event)
    assert found.from_me
    assert str(found.chat_alt) == PN


def test_a_broadcast_is_a_message_of_its_sender() -> None:
    """Its receivers see it in the chat with the sender; the status is a separate chat."""
    found = received(an_event(Message(conversation="hi"), chat="1234@broadcast"))
    assert (str(found.chat), str(found.chat_alt)) == (LID, PN)
    status = received(an_event(Message(conversation="hi"), chat="status@broadcast"))
    assert (str(status.chat), status.chat_alt) == ("status@broadcast", None)


def test_a_newsletters_message() -> None:
    """The channel is chat and sender."""
    channel = "120363000000000009@newsletter"
    found = received(an_event(Message(conversation="hi"), chat=channel, sender=channel))
    assert (str(found.chat), str(found.sender)) == (channel, channel)


def test_a_new_expiration_is_stored_with_the_chat() -> None:
    """Since when, and after how many seconds; 0 turns it off."""
    body = Message(protocolMessage={"type": 3, "ephemeralExpiration": 86400})
    found = message(an_event(Message(ephemeralMessage={"message": body})))
    assert found == ChatReceived(Jid.parse(LID), Jid.parse(PN), expires_s=86400, expires_ms=NOON)


@pytest.mark.parametrize("server", ["nowhere", ""])
def test_an_address_that_cannot_be_read_is_untranslatable(server: str) -> None:
    """The caller keeps the raw event."""
    event = an_event(Message(conversation="hi"))
    event.Info.MessageSource.Chat.Server = server
    with pytest.raises(Untranslatable, match="no"):
        message(event)


def test_another_address_that_cannot_be_read_is_missing() -> None:
    """The message is more important than its time."""
    event = an_event(Message(conversation="hi"))
    event.Info.MessageSource.SenderAlt.Server = "nowhere"
    assert received(event).sender_alt is None


INVALID_TIMES = [-1, 2**62, 40_000_000_000, LATEST_MS, 1_700_000_000_000_000]
"""Negative, beyond every number, in the year 3237, in the year 3000, in microseconds."""


@pytest.mark.parametrize("timestamp", INVALID_TIMES)
def test_a_message_with_an_invalid_time_has_none(timestamp: int) -> None:
    """No store could hold it, or no other machine would read it; the message's content is more important."""
    event = an_event(Message(conversation="hi"))
    event.Info.Timestamp = timestamp
    assert received(event).at_ms == 0


# --- undecryptable ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unavailable", "why"), [(False, "was asked to send it again"), (True, "on the phone")]
)
def test_an_undecryptable_message_is_a_placeholder(unavailable: bool, why: str) -> None:
    """It is shown where the message will be, with the reason."""
    event = pb.UndecryptableMessage(Info=an_info(), IsUnavailable=unavailable, DecryptFailMode=1)
    found = message_of("UndecryptableMessage", event)
    assert (found.id, str(found.sender_alt), found.at_ms) == ("3EB0", PN, NOON)
    assert found.content.kind is MessageKind.UNDECRYPTABLE
    assert why in found.content.detail


@pytest.mark.parametrize("unavailable", [False, True])
def test_an_undecryptable_change_is_not_shown(unavailable: bool) -> None:
    """The sender marked it as hidden: no message will ever be in its place."""
    event = pb.UndecryptableMessage(Info=an_info(), IsUnavailable=unavailable, DecryptFailMode=2)
    found = message_of("UndecryptableMessage", event)
    assert (found.id, found.content.kind) == ("3EB0", MessageKind.NOTICE)


# --- receipts ---------------------------------------------------------------------------------------

RECEIPTS = pb.Receipt.DESCRIPTOR.fields_by_name["Type"].enum_type.values_by_name


def a_receipt(word: str, **around: Any) -> Any:
    """A Receipt of two messages."""
    return pb.Receipt(
        MessageSource=an_info(**around).MessageSource,
        MessageIDs=["A", "B"],
        Timestamp=SECONDS,
        Type=RECEIPTS[word].number,
    )


@pytest.mark.parametrize(
    ("word", "mark", "from_me"),
    [
        ("DELIVERED", ReceiptMark.DELIVERED, False),
        ("INACTIVE", ReceiptMark.DELIVERED, False),
        ("READ", ReceiptMark.READ, False),
        ("PLAYED", ReceiptMark.PLAYED, False),
        ("READ_SELF", ReceiptMark.READ, True),
        ("PLAYED_SELF", ReceiptMark.PLAYED, True),
    ],
)
def test_receipts(word: str, mark: ReceiptMark, from_me: bool) -> None:
    """What another party did with our messages, or our own phone with theirs."""
    found = receipt(a_receipt(word))
    assert found is not None
    assert (found.mark, found.from_me, found.ids) == (mark, from_me, ("A", "B"))
    assert (str(found.chat), str(found.chat_alt), found.at_ms) == (LID, PN, NOON)


@pytest.mark.parametrize("word", ["SENDER", "RETRY", "SERVER_ERROR", "PEER_MSG", "HISTORY_SYNC"])
def test_receipts_of_the_librarys_own_business(word: str) -> None:
    """They do not concern a message."""
    assert receipt(a_receipt(word)) is None


@pytest.mark.parametrize("timestamp", INVALID_TIMES)
def test_a_receipt_with_an_invalid_time_still_counts(timestamp: int) -> None:
    """Like one without a time."""
    event = a_receipt("READ")
    event.Timestamp = timestamp
    found = receipt(event)
    assert found is not None
    assert (found.mark, found.ids, found.at_ms) == (ReceiptMark.READ, ("A", "B"), 0)


def test_our_own_phones_receipts() -> None:
    """Its read receipts are reported, its delivery receipts are not."""
    read = receipt(a_receipt("READ", from_me=True))
    assert read is not None
    assert (read.from_me, str(read.chat_alt)) == (True, PN)
    assert receipt(a_receipt("DELIVERED", from_me=True)) is None


# --- calls ------------------------------------------------------------------------------------------


def a_call(alt: bool = True) -> Any:
    """The caller and the time."""
    meta = pb.BasicCallMeta(
        timestamp=SECONDS,
        callCreator=a_jid(LID),
        callCreatorAlt=a_jid(PN if alt else LID),
        callID="CALL",
    )
    getattr(meta, "from").CopyFrom(a_jid(LID))
    return meta


def a_node(*tags: str) -> Any:
    """The stanza that the event was made of."""
    nodes = [pb.Node(Tag=tag, Nil=False) for tag in tags]
    return pb.Node(Tag="offer", Nodes=nodes, Nil=False)


@pytest.mark.parametrize(("tags", "video"), [(("audio",), False), (("audio", "video"), True)])
def test_an_incoming_call(tags: tuple[str, ...], video: bool) -> None:
    """A message of the caller's chat, of the call's id."""
    remote = pb.CallRemoteMeta(remotePlatform="", remoteVersion="")
    event = pb.CallOffer(basicCallMeta=a_call(), callRemoteMeta=remote, data=a_node(*tags))
    found = message_of("CallOffer", event)
    assert (found.id, str(found.chat), str(found.sender_alt), found.at_ms) == (
        "CALL",
        LID,
        PN,
        NOON,
    )
    assert found.content.call == Call(CallOutcome.OFFERED, video)


def test_an_incoming_group_call() -> None:
    """Another event reports it."""
    event = pb.CallOfferNotice(basicCallMeta=a_call(), media="video", type="group", data=a_node())
    assert message_of("CallOfferNotice", event).content.call == Call(
        CallOutcome.OFFERED, True, True
    )


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("timeout", CallOutcome.MISSED),
        ("accepted_elsewhere", CallOutcome.ACCEPTED),
        ("rejected_elsewhere", CallOutcome.REJECTED),
        ("", CallOutcome.ENDED),
    ],
)
def test_a_call_is_over(reason: str, outcome: CallOutcome) -> None:
    """The same message, with the outcome."""
    event = pb.CallTerminate(basicCallMeta=a_call(), reason=reason, data=a_node())
    found = message_of("CallTerminate", event)
    assert found.id == "CALL"
    assert found.content.call == Call(outcome)


# --- groups -----------------------------------------------------------------------------------------


def a_group_event(**changes: Any) -> Any:
    """Something about a group."""
    return pb.GroupInfoEvent(
        JID=a_jid(GROUP), Notify="", Timestamp=SECONDS, PrevParticipantsVersionID="", ParticipantVersionID="",
        JoinReason="", **changes,
    )  # fmt: skip


def test_a_groups_new_subject() -> None:
    """Its name, with the current time."""
    name = pb.GroupName(Name="Friends", NameSetAt=1, NameSetBy=a_jid(LID))
    found = chat_from("GroupInfoEvent", a_group_event(Name=name))
    assert found == ChatReceived(Jid.parse(GROUP), name="Friends", name_ms=NOON)


def test_a_groups_new_expiration() -> None:
    """As in a chat of two."""
    timer = pb.GroupEphemeral(IsEphemeral=True, DisappearingTimer=60)
    found = chat_from("GroupInfoEvent", a_group_event(Ephemeral=timer))
    assert (found.expires_s, found.expires_ms) == (60, NOON)


def test_group_membership_is_not_stored() -> None:
    """Nothing of it is stored."""
    assert TRANSLATORS["GroupInfoEvent"](a_group_event(Join=[a_jid(LID)])) is None


# --- anything ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TRANSLATORS))
@settings(max_examples=60)
@given(data=st.data())
def test_any_protobuf_gives_events_nothing_or_untranslatable(
    name: str, data: st.DataObject
) -> None:
    """Whatever the library hands over: no other exception, and the result can be stored."""
    always = ("Message", "Data")
    event = data.draw(protobufs(getattr(pb, name), always=always))
    try:
        found = TRANSLATORS[name](event)
    except Untranslatable:
        return
    if found is not None:
        assert decode(encode(found)) == found


FIELDS = [field.name for field in Message.DESCRIPTOR.fields]
READ = (
    "extendedTextMessage", "imageMessage", "stickerMessage", "documentMessage", "locationMessage",
    "liveLocationMessage", "contactsArrayMessage", "pollCreationMessage", "pollUpdateMessage", "reactionMessage",
    "protocolMessage", "callLogMesssage", "commentMessage", "ephemeralMessage", "editedMessage", "listMessage",
    "templateMessage",
)  # fmt: skip
"""Fields with a translated inside: they are drawn more often."""


@settings(max_examples=400)
@given(st.sampled_from(READ) | st.sampled_from(FIELDS), st.data())
def test_any_message_gives_one_nothing_or_untranslatable(name: str, data: st.DataObject) -> None:
    """The envelope around a random inside is valid, so that all of it is read."""
    # Mostly alone: with another field it might not be read.
    body = data.draw(
        protobufs(Message, always=(name,), others=data.draw(st.integers(0, 4)) == 0, depth=4)
    )
    try:
        found = message(an_event(body))
    except Untranslatable:
        return
    if found is not None:
        assert decode(encode(found)) == found
