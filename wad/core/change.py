"""Changes to the store that an event causes: they may be applied in any order, and more than once."""

from __future__ import annotations

import msgspec

from wad.core.content import Content
from wad.core.event import ReceiptMark
from wad.core.message import Message


class PutMessage(msgspec.Struct, frozen=True):
    """Store this message unless it is stored already, and update its thread."""

    message: Message


class PutAmendment(msgspec.Struct, frozen=True):
    """An edit, revoke, reaction or vote (`content`) of the message `target`; it may arrive before its target.

    `wa_id` is its own id.  `by` is empty for our own (`from_me`).  `at_ms` orders the amendments of one sender.
    """

    thread: str
    target: str
    wa_id: str
    by: str
    from_me: bool
    at_ms: int
    content: Content


class PutMark(msgspec.Struct, frozen=True):
    """Record a receipt of `by` for a message that we sent; creates no message, and may arrive before it."""

    thread: str
    wa_id: str
    mark: ReceiptMark
    by: str
    at_ms: int


class PutChat(msgspec.Struct, frozen=True):
    """Update a chat, as in `event.ChatReceived`; creates no thread, and may arrive before its first message."""

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
    """A LID and a phone number belong to one person, as was reported at `at_ms` (0: unknown)."""

    lid: str
    pn: str
    at_ms: int = 0


class PutNumber(msgspec.Struct, frozen=True):
    """Another number of a person, who is named by a LID or by their number.

    `asked`: WhatsApp named this person when it was asked for the number, so that messages to the number are theirs: it
    is another spelling.  Otherwise they had the number before, and somebody else may have it now.
    """

    number: str
    person: str
    at_ms: int
    asked: bool


Change = PutMessage | PutAmendment | PutMark | PutChat | PutAlias | PutNumber
