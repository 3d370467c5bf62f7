"""The state machine of an outbox entry, a message that we send.

    queued -> sending -> sent -> delivered -> read -> played
       ^         |-----> failed       (refused, by us or by WhatsApp: not retried automatically)
       |---------|                    (it certainly did not leave: queued again, which does not count as an attempt)
                 |-----> uncertain    (it may have left: not retried automatically; a receipt or an echo resolves it)

The crash rule.  The library chooses WhatsApp's message id, so each attempt carries its own random `secret`, saved
before the call; the library writes id and secret into the session's database before a byte leaves
(docs/internals/library.md#ids-and-secrets).  After a crash: without such a row the message never left, and is queued
again; with a row it may have left under that id, and is uncertain.  Only the session that was sending has that row: if
the account was paired again since, the message is uncertain, too.  If the worker died twice while it was sending a
message that never left, the message fails: it would crash the account again and again.  Only deaths of the worker
during that message count, not the daemon's own.
A receipt under an entry's own WhatsApp id resolves `failed`, too: if an operator cancelled an uncertain message that
did arrive, the status must not suggest to send it again.
Not guaranteed: that a `failed` message was not delivered, if WhatsApp's refusal itself was wrong.
"""

from __future__ import annotations

import hashlib
from typing import Final, assert_never

import msgspec

from wad.core.change import PutAmendment
from wad.core.errors import Conflict
from wad.core.event import MessageKind, ReceiptMark
from wad.core.jid import Jid, ThreadId
from wad.core.message import Message, MessageStatus, further, status_of
from wad.core.outgoing import Amendment, Outgoing, in_chat, same, summary


class Claim(msgspec.Struct, frozen=True):
    """The instance that is sending an entry, and its epoch of the lease.

    `session`: which of the account's sessions it uses (`engine.port.Identity`), empty if unknown.
    """

    holder: str
    epoch: int
    session: str = ""

    def is_alike(self, other: Claim | None) -> bool:
        """Whether both claims are of the same instance in the same epoch."""
        return other is not None and (self.holder, self.epoch) == (other.holder, other.epoch)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One message to send.  Times are ms since 1970; `attempts` counts calls to WhatsApp, not waiting.

    `deaths`: how often the worker died while it was sending this message, before the message left.
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
    asked: str = ""
    """The recipient as the caller named it, if that is another address of the same person."""

    @property
    def text(self) -> str:
        """The text, for display."""
        return summary(self.content).text

    @property
    def kind(self) -> MessageKind:
        """The kind of the message."""
        return summary(self.content).kind

    @property
    def amends(self) -> bool:
        """Whether it changes another message, and is not a message of its own in the thread."""
        return isinstance(self.content, Amendment)


class Claimed(msgspec.Struct, frozen=True):
    """An instance is about to send it, with a secret for this attempt only (empty: the entry's own)."""

    claim: Claim
    secret: bytes = b""


class Sent(msgspec.Struct, frozen=True):
    """WhatsApp's server accepted it, under this id; `lid` is the recipient's LID, empty if unknown or a group."""

    wa_id: str
    at_ms: int
    lid: str = ""


class NotSent(msgspec.Struct, frozen=True):
    """It certainly did not leave.

    `unrelated`: the cause is not the message (a full disk, no connection), so that this does not count against it.
    `died`: the worker died while it was sending the message, without a request to stop.
    """

    why: str
    unrelated: bool = False
    died: bool = False


class Refused(msgspec.Struct, frozen=True):
    """It is refused for good in this form."""

    code: str
    why: str


class Unknown(msgspec.Struct, frozen=True):
    """It may have left, as `wa_id` if that is known."""

    wa_id: str
    why: str


class Marked(msgspec.Struct, frozen=True):
    """A receipt: evidence that it arrived."""

    mark: ReceiptMark


class Retry(msgspec.Struct, frozen=True):
    """An operator or a client orders to send it (again)."""


class Cancel(msgspec.Struct, frozen=True):
    """An operator or a client cancels it."""


MAX_DEATHS: Final = 2
"""Deaths of the worker during one message after which the message fails."""


def given_up(entry: Entry, result: NotSent) -> Refused | None:
    """The refusal of a message during which the worker died too often; None if it may be tried again."""
    if not result.died or entry.deaths + 1 < MAX_DEATHS:
        return None
    why = f"the worker died {entry.deaths + 1} times while it was sending this, and it never left: {result.why}"
    return Refused("kills_the_worker", why)


LEFT: Final = frozenset(
    {MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ, MessageStatus.PLAYED}
)
"""States of messages that WhatsApp certainly received."""

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
"""The states in which each outcome is possible.  These are all the rules; the rest below is bookkeeping."""


def advance(entry: Entry, outcome: Outcome) -> Entry:
    """The entry after `outcome`.  Raises Conflict if the table above does not allow it; nothing changes then."""
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
        case Sent(wa_id, at_ms, _):
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
        case Cancel() if entry.state is _S.FAILED:
            return entry  # it is not sent again, and the reason of its failure stays
        case Cancel():
            why = "cancelled"
            if entry.state is _S.UNCERTAIN:
                why = f"cancelled; it may have been sent: {entry.error}".removesuffix(": ")
            return change(entry, state=_S.FAILED, error=why, error_code="cancelled")
        case _:
            assert_never(outcome)


def entry_id(account: str, client_id: str) -> str:
    """The id of the entry and of its message's document: the same client id twice is one message."""
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
    """The entry's change of another message; None until it has certainly left, and for a message of its own.

    It is ordered by the time that was sent to its recipients.
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


def readdressed(entry: Entry, to: Jid) -> Entry:
    """The entry for another address of the same person, in the thread of that address."""
    return msgspec.structs.replace(
        entry,
        to=str(to),
        thread=str(ThreadId.make(entry.account, to)),
        content=in_chat(entry.content, entry.to, str(to)),
        asked=entry.asked or entry.to,
    )


def same_message(entry: Entry, to: Jid, content: Outgoing) -> None:
    """Refuse a client id that was used for a different message.  Raises Conflict."""
    if str(to) not in (entry.to, entry.asked) or not same(entry.content, content):
        raise Conflict(
            f"the client message id {entry.client_id!r} was used for a different message",
            hint="use a new id for each message; the same id means the same message",
        )
