"""The library's protobufs in our words; every test builds the real protobuf."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protobufs import Message, pb
from wad.core.event import Mark, MessageKind
from wad.core.jid import Jid
from wad.engine.translate import Untranslatable, message, receipt


def a_jid(text: str) -> Any:
    """The library's form of an address."""
    jid = Jid.parse(text)
    return pb.JID(
        User=jid.user, Server=jid.server, Device=jid.device, RawAgent=0, Integrator=0, IsEmpty=False
    )


EMPTY = pb.JID(User="", Server="", Device=0, RawAgent=0, Integrator=0, IsEmpty=True)
PN, LID, GROUP = "15550000002@s.whatsapp.net", "900000000000002@lid", "120363000000000001@g.us"


def an_event(body: Message, *, chat: str = LID, sender: str = LID, from_me: bool = False) -> Any:
    """A MessageEv as the library makes it."""
    source = pb.MessageSource(
        Chat=a_jid(chat),
        Sender=a_jid(sender),
        IsFromMe=from_me,
        IsGroup=chat == GROUP,
        AddressingMode=1,
        SenderAlt=a_jid(PN) if not from_me else EMPTY,
        RecipientAlt=a_jid(PN) if from_me else EMPTY,
        BroadcastListOwner=EMPTY,
    )
    info = pb.MessageInfo(
        MessageSource=source, ID="3EB0", ServerID=0, Type="text", Pushname="Bob", Timestamp=1_769_000_000,
        Category="", Multicast=False, MediaType="", Edit="",
    )  # fmt: skip
    return pb.Message(Info=info, Message=body)


def kinds() -> list[tuple[Message, MessageKind, str]]:
    """One message of each kind, and the text that is shown of it."""
    key = {"key": {"ID": "TARGET"}}
    return [
        (Message(conversation="hi"), MessageKind.TEXT, "hi"),
        (Message(extendedTextMessage={"text": "hi"}), MessageKind.TEXT, "hi"),
        (Message(imageMessage={"caption": "see"}), MessageKind.IMAGE, "see"),
        (Message(videoMessage={"caption": "see"}), MessageKind.VIDEO, "see"),
        (Message(audioMessage={"seconds": 4}), MessageKind.AUDIO, ""),
        (Message(documentMessage={"fileName": "a.pdf"}), MessageKind.DOCUMENT, ""),
        (Message(stickerMessage={"mimetype": "image/webp"}), MessageKind.STICKER, ""),
        (
            Message(locationMessage={"degreesLatitude": 1, "degreesLongitude": 2, "name": "Here"}),
            MessageKind.LOCATION,
            "Here, 1.000000,2.000000",
        ),
        (Message(contactMessage={"displayName": "Eve"}), MessageKind.CONTACT, "Eve"),
        (
            Message(pollCreationMessageV3={"name": "Tea?", "options": [{"optionName": "yes"}]}),
            MessageKind.POLL,
            "Tea?\n- yes",
        ),
        (Message(reactionMessage={**key, "text": "+"}), MessageKind.REACTION, "+"),
        (Message(protocolMessage={**key, "type": 0}), MessageKind.REVOKE, ""),
        (
            Message(protocolMessage={**key, "type": 14, "editedMessage": {"conversation": "new"}}),
            MessageKind.EDIT,
            "new",
        ),
        (Message(listMessage={"title": "?"}), MessageKind.UNKNOWN, ""),
        (Message(ephemeralMessage={"message": {"conversation": "hi"}}), MessageKind.TEXT, "hi"),
        (Message(viewOnceMessageV2={"message": {"imageMessage": {}}}), MessageKind.IMAGE, ""),
    ]


@pytest.mark.parametrize(("body", "kind", "text"), kinds())
def test_every_kind(body: Message, kind: MessageKind, text: str) -> None:
    """Each kind is known, and what a person can read of it is its text."""
    found = message(an_event(body))
    assert found is not None
    assert (found.content.kind, found.content.text) == (kind, text)


def test_source_and_time() -> None:
    """Both addresses of the sender, the name, the time in milliseconds."""
    found = message(an_event(Message(conversation="hi")))
    assert found is not None
    assert (str(found.chat), str(found.sender), str(found.sender_alt)) == (LID, LID, PN)
    assert (found.push_name, found.at_ms, found.id) == ("Bob", 1_769_000_000_000, "3EB0")


def test_our_own_phones_message_has_the_recipient_as_chat() -> None:
    """The chat's other address is the recipient's."""
    found = message(
        an_event(Message(conversation="hi"), sender="900000000000001:0@lid", from_me=True)
    )
    assert found is not None
    assert found.from_me
    assert str(found.chat_alt) == PN


@pytest.mark.parametrize(
    "body",
    [
        Message(),
        Message(senderKeyDistributionMessage={"groupID": GROUP}),
        Message(protocolMessage={"type": 5}),
        Message(protocolMessage={"type": 6}),
    ],
)
def test_what_carries_nothing_is_no_message(body: Message) -> None:
    """Key distribution and notices of the library's own business make no document."""
    assert message(an_event(body)) is None


def test_an_unknown_kind_names_what_it_is() -> None:
    """It is kept and shown, never an empty text."""
    found = message(an_event(Message(listMessage={"title": "?"})))
    assert found is not None
    assert found.content.detail == "listMessage"


def test_an_address_that_cannot_be_read_is_untranslatable() -> None:
    """The caller keeps the raw event."""
    event = an_event(Message(conversation="hi"))
    event.Info.MessageSource.Chat.Server = "nowhere"
    with pytest.raises(Untranslatable, match="nowhere"):
        message(event)


RECEIPTS = pb.Receipt.DESCRIPTOR.fields_by_name["Type"].enum_type.values_by_name


@pytest.mark.parametrize(
    ("word", "mark"),
    [
        ("DELIVERED", Mark.DELIVERED),
        ("INACTIVE", Mark.DELIVERED),
        ("READ", Mark.READ),
        ("PLAYED", Mark.PLAYED),
        ("READ_SELF", None),
        ("SENDER", None),
        ("RETRY", None),
        ("SERVER_ERROR", None),
    ],
)
def test_receipts(word: str, mark: Mark | None) -> None:
    """Only what another party did with our message is a mark."""
    source = an_event(Message()).Info.MessageSource
    event = pb.Receipt(
        MessageSource=source, MessageIDs=["A", "B"], Timestamp=5, Type=RECEIPTS[word].number
    )
    found = receipt(event)
    assert (found.mark if found else None) == mark
    if found:
        assert found.ids == ("A", "B")


FIELDS = [field.name for field in Message.DESCRIPTOR.fields if field.message_type is not None]


@given(st.sampled_from(FIELDS), st.binary(max_size=40))
def test_any_protobuf_gives_a_message_nothing_or_untranslatable(name: str, junk: bytes) -> None:
    """Whatever the library hands over: never another exception."""
    body = Message()
    part = getattr(body, name)
    part.SetInParent() if not hasattr(part, "add") else part.add()
    try:
        body.MergeFromString(junk)
    except Exception:  # not even a protobuf: the worker keeps it raw before this is reached
        return
    with suppress(Untranslatable):
        message(an_event(body))
