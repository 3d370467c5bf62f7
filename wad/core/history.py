"""History backfill: which messages an account's phone can be asked for, and the result."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from wad.core.content import MessageKind
from wad.core.jid import Jid, JidKind
from wad.core.message import Message

_DETAILED_THREADS: Final = 10
"""Threads whose results are stored one by one (docs/internals/replaced-backend.md#documents)."""
_NOT_ON_PHONE: Final = frozenset({MessageKind.CALL})
"""Kinds whose id does not name a message on the phone."""


class KnownMessage(msgspec.Struct, frozen=True):
    """The key of a message on the phone.  `sender` is None for our own, and in a chat with one person."""

    chat: Jid
    wa_id: str
    from_me: bool
    at_ms: int
    sender: Jid | None = None

    def to_wire(self) -> list[Any]:
        """The key as a list, for a frame."""
        sender = "" if self.sender is None else str(self.sender)
        return [str(self.chat), self.wa_id, self.from_me, self.at_ms, sender]

    @staticmethod
    def from_wire(shape: list[Any]) -> KnownMessage:
        """The inverse of to_wire()."""
        chat, wa_id, from_me, at_ms, sender = shape
        return KnownMessage(
            Jid.parse(chat), wa_id, from_me, at_ms, Jid.parse(sender) if sender else None
        )


def has_history(chat: Jid) -> bool:
    """Whether the phone can send history of this chat: not of statuses, broadcasts and channels."""
    return chat.is_person or chat.kind is JidKind.GROUP


def phone_key(message: Message) -> KnownMessage | None:
    """The message's key on the phone; None if the phone has no such message."""
    chat = Jid.parse(message.chat)
    if not message.wa_id or message.content.kind in _NOT_ON_PHONE or not has_history(chat):
        return None
    sender = Jid.parse(message.sender) if message.sender and not chat.is_person else None
    return KnownMessage(chat, message.wa_id, message.from_me, message.at_ms, sender)


class ThreadResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one thread's backfill: the number of new messages, or why none arrived."""

    thread: str
    messages: int = 0
    error: str = ""


class BackfillResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a backfill run: the numbers of threads, new messages and errors.

    `results`: those of the first threads.  `error`: why the run ended early, if it did.
    """

    at_ms: int
    threads: int = 0
    messages: int = 0
    errors: int = 0
    results: tuple[ThreadResult, ...] = ()
    error: str = ""

    def plus(self, result: ThreadResult) -> BackfillResult:
        """The result with one more thread."""
        return msgspec.structs.replace(
            self,
            threads=self.threads + 1,
            messages=self.messages + result.messages,
            errors=self.errors + bool(result.error),
            results=(*self.results, result)[:_DETAILED_THREADS],
        )

    def ended(self, error: str) -> BackfillResult:
        """The result of a run that ended with this error, which is counted; an empty text: it was complete."""
        if not error:
            return self
        return msgspec.structs.replace(self, errors=self.errors + 1, error=error)
