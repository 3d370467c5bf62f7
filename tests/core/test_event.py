"""Events in the spool can be decoded again, and damaged ones are recognised."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.content import Call, CallOutcome, Contact, Location, Poll, Quote, Vote
from wad.core.errors import InvalidData
from wad.core.event import (
    AliasReceived,
    ChatReceived,
    Content,
    Event,
    HistoryReceived,
    MediaContent,
    MessageKind,
    MessageReceived,
    ReceiptMark,
    ReceiptReceived,
    decode,
    encode,
    read_back,
)
from wad.core.jid import Jid

JIDS = st.sampled_from(
    ["40700000001:3@s.whatsapp.net", "111@lid", "1-2@g.us", "status@broadcast", "5@newsletter"]
).map(Jid.parse)
TIMES = st.integers(0, 2**62)
CONTENTS = st.builds(
    Content,
    st.sampled_from(list(MessageKind)),
    st.text(),
    st.none()
    | st.builds(MediaContent, st.text(), st.text(), st.integers(0, 2**60), st.integers(0, 9999)),
    st.text(),
    st.booleans(),
    st.booleans(),
    st.text(),
    mentions=st.lists(st.text()).map(tuple),
    quote=st.none() | st.builds(Quote, st.text(), st.text(), st.text()),
    location=st.none() | st.builds(Location, st.floats(-90, 90), st.floats(-180, 180), st.text()),
    contacts=st.lists(st.builds(Contact, st.text(), st.text())).map(tuple),
    poll=st.none() | st.builds(Poll, st.text(), st.lists(st.text()).map(tuple), st.integers(0, 9)),
    vote=st.none() | st.builds(Vote, st.binary(), st.binary(), st.lists(st.binary()).map(tuple)),
    call=st.none() | st.builds(Call, st.sampled_from(list(CallOutcome)), st.booleans()),
)
MESSAGES = st.builds(
    MessageReceived,
    id=st.text(),
    chat=JIDS,
    sender=st.none() | JIDS,
    at_ms=TIMES,
    content=CONTENTS,
    from_me=st.booleans(),
    chat_alt=st.none() | JIDS,
    sender_alt=st.none() | JIDS,
    push_name=st.text(),
)
RECEIPTS = st.builds(
    ReceiptReceived,
    st.lists(st.text()).map(tuple),
    JIDS,
    JIDS,
    st.sampled_from(list(ReceiptMark)),
    TIMES,
    st.booleans(),
)
CHATS = st.builds(
    ChatReceived,
    JIDS,
    st.none() | JIDS,
    name=st.text(),
    push_name=st.text(),
    name_ms=TIMES,
    read_ms=TIMES,
    expires_s=st.integers(0, 2**32),
    expires_ms=TIMES,
)
ALIASES = st.builds(AliasReceived, JIDS, JIDS)
IN_HISTORY = MESSAGES | RECEIPTS | CHATS | ALIASES
EVENTS: st.SearchStrategy[Event] = IN_HISTORY | st.builds(
    HistoryReceived, st.lists(IN_HISTORY, max_size=4).map(tuple), st.integers(0, 9)
)


@given(EVENTS)
def test_an_event_is_decoded_as_it_was(event: Event) -> None:
    """decode(encode(e)) == e."""
    assert decode(encode(event)) == event


@given(EVENTS)
def test_an_event_that_is_read_back_is_encoded_as_usual(event: Event) -> None:
    assert read_back(event) == encode(event)


@given(EVENTS)
def test_encoding_is_deterministic(event: Event) -> None:
    """The same event, the same bytes."""
    assert encode(event) == encode(decode(encode(event)))


@given(st.binary())
def test_any_bytes_are_an_event_or_damaged(data: bytes) -> None:
    """One type of error, whatever is wrong, so that the reader of a spool can continue."""
    try:
        event = decode(data)
    except InvalidData:
        return
    assert isinstance(event, Event)


@given(MESSAGES, st.data())
def test_a_flipped_byte_is_an_event_or_damaged(event: Event, data: st.DataObject) -> None:
    """Also inside a text or an address."""
    damaged = bytearray(encode(event))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(damaged))
    except InvalidData:
        return
    if isinstance(found, MessageReceived):
        assert found.chat.kind is not None


def test_an_address_with_an_unknown_server_is_damaged() -> None:
    """It would raise an error in every reader of the address."""
    event = MessageReceived(
        "ID", Jid("1", "lid"), Jid("1", "lid"), 1, Content(MessageKind.TEXT, "x")
    )
    data = encode(event).replace(b"\xa3lid", b"\xa3lie", 1)
    with pytest.raises(InvalidData, match="lie"):
        decode(data)


def test_a_field_that_is_not_known_yet_is_ignored() -> None:
    """A newer worker's event can be read by an older daemon during an upgrade."""
    shape = msgspec.msgpack.decode(
        encode(MessageReceived("I", Jid("1", "lid"), Jid("1", "lid"), 1, Content(MessageKind.TEXT)))
    )
    shape["novelty"] = True
    assert isinstance(decode(msgspec.msgpack.encode(shape)), MessageReceived)


def test_an_event_is_small() -> None:
    """Empty fields take no space."""
    ann = Jid.parse("40700000001@s.whatsapp.net")
    data = encode(MessageReceived("I" * 20, ann, ann, 1, Content(MessageKind.TEXT, "hello")))
    assert b"push_name" not in data
    assert b"view_once" not in data
