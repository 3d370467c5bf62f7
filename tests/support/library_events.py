"""The library's events for tests, as it makes them."""

from __future__ import annotations

from typing import Any

from tests.support.protobufs import Message, pb
from wad.core.content import Content
from wad.core.event import ChatReceived, HistoryReceived, MessageReceived
from wad.core.jid import Jid
from wad.worker.translate.events import TRANSLATORS, message

PN, LID, GROUP = "15550000002@s.whatsapp.net", "900000000000002@lid", "120363000000000001@g.us"
SECONDS = 1_769_000_000
EMPTY = pb.JID(User="", Server="", Device=0, RawAgent=0, Integrator=0, IsEmpty=True)


def a_jid(text: str) -> Any:
    """The library's form of an address."""
    jid = Jid.parse(text)
    return pb.JID(
        User=jid.user, Server=jid.server, Device=jid.device, RawAgent=0, Integrator=0, IsEmpty=False
    )


def an_info(*, chat: str = LID, sender: str = LID, from_me: bool = False, edit: str = "") -> Any:
    """The metadata of a message."""
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
    return pb.MessageInfo(
        MessageSource=source, ID="3EB0", ServerID=0, Type="text", Pushname="Bob", Timestamp=SECONDS,
        Category="", Multicast=False, MediaType="", Edit=edit,
    )  # fmt: skip


def an_event(body: Message, **around: Any) -> Any:
    """A Message event."""
    return pb.Message(
        Info=an_info(**around), Message=body, IsEphemeral=False, IsViewOnce=False, IsViewOnceV2=False,
        IsViewOnceV2Extension=False, IsDocumentWithCaption=False, IsLottieSticker=False, IsEdit=False,
        UnavailableRequestID="", RetryCount=0,
    )  # fmt: skip


def received(event: Any) -> MessageReceived:
    """The message that a Message event is."""
    found = message(event)
    assert isinstance(found, MessageReceived)
    return found


def content(body: Message, **around: Any) -> Content:
    """The inside of a message that has one."""
    return received(an_event(body, **around)).content


def message_of(name: str, event: Any) -> MessageReceived:
    """The message that another event is translated to."""
    found = TRANSLATORS[name](event)
    assert isinstance(found, MessageReceived)
    return found


def chat_from(name: str, event: Any) -> ChatReceived:
    """The chat that an event is translated to."""
    found = TRANSLATORS[name](event)
    assert isinstance(found, ChatReceived)
    return found


def history_of(data: Any) -> HistoryReceived:
    """The translation of a history chunk."""
    found = TRANSLATORS["HistorySync"](pb.HistorySync(Data=data))
    assert isinstance(found, HistoryReceived)
    return found
