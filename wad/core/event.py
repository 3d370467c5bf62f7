"""Events from WhatsApp: frozen values that are stored in the spool and cross the sockets.

An engine translates its library's objects into these; no protobuf leaves the engine.
Times are integers, milliseconds since 1970 as WhatsApp's server gave them.
"""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import Final

import msgspec

from wad.core.content import Content as Content
from wad.core.content import MediaContent as MediaContent
from wad.core.content import MessageKind as MessageKind
from wad.core.decoding import decoding
from wad.core.errors import InvalidData
from wad.core.jid import Jid


class ReceiptMark(StrEnum):
    """What a receipt reports about a message."""

    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"


class MessageReceived(msgspec.Struct, frozen=True, tag="message", omit_defaults=True):
    """A message arrived, or the account's own phone sent one (`from_me`).

    `chat` and `sender` are as the server wrote them, either number or LID; `chat_alt` and `sender_alt` are the other
    address of the same party if the server gave it (docs/internals/whatsapp-protocol.md#receiving).  `sender` is None
    for our own message if its source (history) does not give the address that sent it.
    """

    id: str
    chat: Jid
    sender: Jid | None
    at_ms: int
    content: Content
    from_me: bool = False
    chat_alt: Jid | None = None
    sender_alt: Jid | None = None
    push_name: str = ""


class ReceiptReceived(msgspec.Struct, frozen=True, tag="receipt", omit_defaults=True):
    """A party received, read or played messages that we (or our phone) sent; `from_me`: our phone did with theirs."""

    ids: tuple[str, ...]
    chat: Jid
    sender: Jid
    mark: ReceiptMark
    at_ms: int
    from_me: bool = False
    chat_alt: Jid | None = None
    sender_alt: Jid | None = None


class ChatReceived(msgspec.Struct, frozen=True, tag="chat", omit_defaults=True):
    """An update of a chat; an empty field, or 0, means that nothing was reported.

    `name` is a group's subject or the phone's name for a contact, `push_name` the name that a person chose, both as of
    `name_ms`.  All messages up to `read_ms` were read on the phone; of those up to `unread_ms`, all but the newest
    `unread`.  Since `expires_ms`, new messages disappear after `expires_s` seconds (0: they stay).
    """

    chat: Jid
    chat_alt: Jid | None = None
    name: str = ""
    push_name: str = ""
    name_ms: int = 0
    read_ms: int = 0
    unread: int = 0
    unread_ms: int = 0
    expires_s: int = 0
    expires_ms: int = 0


class AliasReceived(msgspec.Struct, frozen=True, tag="alias"):
    """A LID and a number belong to one person."""

    lid: Jid
    pn: Jid


SingleEvent = MessageReceived | ReceiptReceived | ChatReceived | AliasReceived


class HistoryReceived(msgspec.Struct, frozen=True, tag="history", omit_defaults=True):
    """A history chunk: many events, aliases first, the messages of each chat oldest first.

    `skipped`: the number of items that could not be translated; `asked`: it answers a request of ours.
    """

    events: tuple[SingleEvent, ...]
    skipped: int = 0
    asked: bool = False


Event = SingleEvent | HistoryReceived


class _Chunk(msgspec.Struct, frozen=True, tag="history"):
    """A HistoryReceived whose events are still encoded."""

    events: tuple[msgspec.Raw, ...]
    skipped: int = 0
    asked: bool = False


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Event)
_single_decoder: Final = msgspec.msgpack.Decoder(SingleEvent)
_chunk_decoder: Final = msgspec.msgpack.Decoder(_Chunk)


def encode(event: Event) -> bytes:
    """The form in which an event is stored in the spool."""
    return _encoder.encode(event)


def decode(data: bytes) -> Event:
    """The inverse of encode().  Raises InvalidData for anything else."""
    with decoding("an event"):
        event: Event = _decoder.decode(data)
    return event


def read_back(event: Event) -> bytes:
    """encode(), checked: decode() must return the same event.  Raises InvalidData if it does not."""
    try:
        data = _encoder.encode(event)
        again: Event = _decoder.decode(data)
    except Exception:
        # Entered on failure only: this runs for each message, and entering decoding() costs as much as the rest.
        with decoding("an event"):
            raise
    if again != event:
        raise InvalidData("the encoded event does not decode to the same event")
    return data


def decode_leniently(data: bytes) -> tuple[Event, int]:
    """decode(), but a history chunk is returned without its invalid events, with the number of these.

    Raises InvalidData if nothing can be decoded.
    """
    try:
        return decode(data), 0
    except InvalidData:
        with decoding("an event"):
            chunk = _chunk_decoder.decode(data)
        events: list[SingleEvent] = []
        for one in chunk.events:
            with suppress(InvalidData), decoding("an event"):
                events.append(_single_decoder.decode(one))
        if not events:
            raise
        return HistoryReceived(tuple(events), chunk.skipped, chunk.asked), len(chunk.events) - len(
            events
        )
