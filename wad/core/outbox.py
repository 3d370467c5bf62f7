"""The life of a message that we send.

    queued -> sending -> sent -> delivered -> read -> played
       ^         |-----> failed       (refused: by us, or by WhatsApp; will not be tried again by itself)
       |---------|                    (it certainly did not leave: waits its turn again, which costs nothing)
                 |-----> uncertain    (it may have left: never sent again by itself; a receipt or an echo settles it)

The crash rule.  The library chooses WhatsApp's message id, so each attempt carries its own random `secret`, saved
before the call; the library writes id and secret into the session's database before a byte leaves
(docs/internals/library.md#ids-and-secrets).
After a crash: no such row, it never left, so it is queued again; a row, it may have left under that id, so it is
uncertain.  Only the session that was sending can tell: where the account was paired anew since, it is uncertain, too.
A message over which the worker died twice without a trace of it is given up as failed: it would take the
account down again and again.  Only deaths of the worker while it had this message count, not the daemon's own.
Evidence under an entry's own WhatsApp id settles `failed`, too: who cancelled an uncertain message must
not be told to send it again when it did arrive.
What is not guaranteed: that a `failed` message was not delivered where WhatsApp's refusal itself was wrong.
"""

from __future__ import annotations

import hashlib
from typing import Final, assert_never

import msgspec

from wad.core.change import PutAmendment
from wad.core.errors import Conflict
from wad.core.event import MessageKind, ReceiptMark
from wad.core.jid import Jid
from wad.core.message import Message, MessageStatus, further, status_of
from wad.core.outgoing import Amendment, Outgoing, same, summary


class Claim(msgspec.Struct, frozen=True):
    """Who is sending an entry: an instance in an epoch of the lease.

    `session`: with which of the account's sessions (`engine.port.Identity`), empty where that is not known.
    """

    holder: str
    epoch: int
    session: str = ""

    def is_alike(self, other: Claim | None) -> bool:
        """Whether the same instance made both in the same epoch."""
        return other is not None and (self.holder, self.epoch) == (other.holder, other.epoch)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One message to send.  Times are ms since 1970; `attempts` counts calls to WhatsApp, not waiting.

    `deaths`: how often the worker died while it was sending this, and it had not left.
    """

    id: str
    account: str
    thread: str
    to: str
    content: Outgoing
    client_id: str
    secret: bytes
    created_ms: int
    state: MessageStatus = MessageStatus.QUEUED
    attempts: int = 0
    claim: Claim | None = None
    wa_id: str = ""
    sent_ms: int = 0
    error_code: str = ""
    error: str = ""
    deaths: int = 0

    @property
    def text(self) -> str:
        """What a person reads of it."""
        return summary(self.content).text

    @property
    def kind(self) -> MessageKind:
        """What it is."""
        return summary(self.content).kind

    @property
    def amends(self) -> bool:
        """Whether it changes another message, and so is none of its own in the thread."""
        return isinstance(self.content, Amendment)


class Claimed(msgspec.Struct, frozen=True):
    """Somebody is about to send it, under a secret of this attempt alone (empty: the entry's own)."""

    claim: Claim
    secret: bytes = b""


class Sent(msgspec.Struct, frozen=True):
    """WhatsApp's server has it, under this id."""

    wa_id: str
    at_ms: int


class NotSent(msgspec.Struct, frozen=True):
    """It certainly did not leave.

    `innocent`: the message had no part in it (a full disk, no connection), so that no patience with it is used up.
    `died`: the worker died over it, and nobody had told it to.
    """

    why: str
    innocent: bool = False
    died: bool = False


class Refused(msgspec.Struct, frozen=True):
    """It will never be sent like this."""

    code: str
    why: str


class Unknown(msgspec.Struct, frozen=True):
    """It may have left, as `wa_id` where that is known."""

    wa_id: str
    why: str


class Marked(msgspec.Struct, frozen=True):
    """Evidence that it arrived: a receipt."""

    mark: ReceiptMark


class Retry(msgspec.Struct, frozen=True):
    """A person decided to send it (again)."""


class Cancel(msgspec.Struct, frozen=True):
    """A person decided not to send it."""


DEATHS: Final = 2
"""Deaths of the worker over a message after which it is given up."""


def given_up(entry: Entry, result: NotSent) -> Refused | None:
    """The end of a message that is being sent and has now killed the worker once too often; None while it has not."""
    if not result.died or entry.deaths + 1 < DEATHS:
        return None
    why = (
        f"WhatsApp's library died over it {entry.deaths + 1} times, and it never left: {result.why}"
    )
    return Refused("kills_the_worker", why)


LEFT: Final = frozenset(
    {MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ, MessageStatus.PLAYED}
)
"""States of what surely reached WhatsApp."""

Outcome = Claimed | Sent | NotSent | Refused | Unknown | Marked | Retry | Cancel

_S = MessageStatus
_FROM: dict[type[Outcome], frozenset[MessageStatus]] = {
    Claimed: frozenset({_S.QUEUED}),
    Sent: frozenset({_S.SENDING, _S.UNCERTAIN, _S.FAILED}),
    NotSent: frozenset({_S.SENDING}),
    Refused: frozenset({_S.QUEUED, _S.SENDING}),
    Unknown: frozenset({_S.SENDING}),
    Marked: frozenset(
        {_S.SENDING, _S.UNCERTAIN, _S.FAILED, _S.SENT, _S.DELIVERED, _S.READ, _S.PLAYED}
    ),
    Retry: frozenset({_S.FAILED, _S.UNCERTAIN}),
    Cancel: frozenset({_S.QUEUED, _S.FAILED, _S.UNCERTAIN}),
}
"""From which states an outcome is possible: the whole law, the rest below is bookkeeping."""


def advance(entry: Entry, outcome: Outcome) -> Entry:
    """The entry after `outcome`.  Raises Conflict where the table above forbids it; nothing changes then."""
    if entry.state not in _FROM[type(outcome)]:
        raise Conflict(
            f"message {entry.id} is {entry.state}: {type(outcome).__name__.lower()} is not possible"
        )
    change = msgspec.structs.replace
    match outcome:
        case Claimed(claim, secret):
            return change(
                entry,
                state=_S.SENDING,
                claim=claim,
                secret=secret or entry.secret,
                attempts=entry.attempts + 1,
                error="",
                error_code="",
            )
        case Sent(wa_id, at_ms):
            return change(
                entry,
                state=_S.SENT,
                claim=None,
                wa_id=wa_id,
                sent_ms=at_ms,
                error="",
                error_code="",
            )
        case NotSent(why, _, died):
            return change(
                entry,
                state=_S.QUEUED,
                claim=None,
                attempts=entry.attempts - 1,
                error=why,
                error_code="not_sent",
                deaths=entry.deaths + died,
            )
        case Refused(code, why):
            return change(entry, state=_S.FAILED, claim=None, error=why, error_code=code)
        case Unknown(wa_id, why):
            return change(
                entry,
                state=_S.UNCERTAIN,
                claim=None,
                wa_id=wa_id,
                error=why,
                error_code="uncertain",
            )
        case Marked(mark):
            return change(
                entry,
                state=further(entry.state, status_of(mark)),
                claim=None,
                error="",
                error_code="",
            )
        case Retry():
            return change(entry, state=_S.QUEUED, wa_id="", error="", error_code="", deaths=0)
        case Cancel():
            return change(entry, state=_S.FAILED, error="cancelled", error_code="cancelled")
        case _:
            assert_never(outcome)


def entry_id(account: str, client_id: str) -> str:
    """The id of the entry, and of its message's document: the same key twice is one message."""
    return hashlib.sha256(f"{account}|{client_id}".encode()).hexdigest()[:40]


def message_of(entry: Entry) -> Message:
    """The stored message that shows this entry in its thread."""
    return Message(
        id=entry.id,
        account=entry.account,
        thread=entry.thread,
        chat=entry.to,
        sender="",
        from_me=True,
        at_ms=entry.sent_ms or entry.created_ms,
        seen=entry.created_ms * 1000,
        content=summary(entry.content),
        status=entry.state,
        wa_id=entry.wa_id,
        client_id=entry.client_id,
    )


def amendment_of(entry: Entry) -> PutAmendment | None:
    """What an entry did to another message; None while it has not surely left, and for a message of its own.

    It is ordered by the time that its recipients were told.
    """
    if not isinstance(entry.content, Amendment) or entry.state not in LEFT:
        return None
    content = msgspec.structs.replace(summary(entry.content), told_ms=entry.created_ms)
    return PutAmendment(
        thread=entry.thread,
        target=content.target,
        wa_id=entry.wa_id,
        by="",
        from_me=True,
        at_ms=entry.created_ms,
        content=content,
    )


def same_message(entry: Entry, to: Jid, content: Outgoing) -> None:
    """Refuse a key that was used for something else.  Raises Conflict."""
    if entry.to != str(to) or not same(entry.content, content):
        raise Conflict(
            f"client message id {entry.client_id!r} was used for another message",
            hint="give every message its own id; the same id means the same message",
        )
