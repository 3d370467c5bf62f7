"""What an event asks of the store: facts that may be put in any order, and again."""

from __future__ import annotations

import msgspec

from wad.core.content import Content
from wad.core.event import ReceiptMark
from wad.core.message import Message


class PutMessage(msgspec.Struct, frozen=True):
    """Store this message unless it is known, and move its thread forward."""

    message: Message


class PutAmendment(msgspec.Struct, frozen=True):
    """An edit, revoke, reaction or vote (`content`) for the message `target` of a thread; it may come before it.

    `wa_id` is its own id.  `by` is empty when we did it (`from_me`).  `at_ms` orders those of one sender.
    """

    thread: str
    target: str
    wa_id: str
    by: str
    from_me: bool
    at_ms: int
    content: Content


class PutMark(msgspec.Struct, frozen=True):
    """Remember what `by` did with a message that we sent; creates no message, and may come before it."""

    thread: str
    wa_id: str
    mark: ReceiptMark
    by: str
    at_ms: int


class PutChat(msgspec.Struct, frozen=True):
    """Something about a chat, as in `event.ChatReceived`; creates no thread, and may come before its first message."""

    thread: str
    chat: str
    name: str = ""
    push_name: str = ""
    name_ms: int = 0
    read_ms: int = 0
    unread: int = 0
    unread_ms: int = 0
    expires_s: int = 0
    expires_ms: int = 0


class PutAlias(msgspec.Struct, frozen=True):
    """A hidden id and a phone number are one person."""

    lid: str
    pn: str


Change = PutMessage | PutAmendment | PutMark | PutChat | PutAlias
