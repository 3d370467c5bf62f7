"""Helpers of the store's contract: addresses, messages, and reading a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

from wad.core.addresses import Addresses
from wad.core.change import Change, PutAmendment, PutMark
from wad.core.content import Vote
from wad.core.event import Content, MessageKind, MessageReceived, ReceiptMark
from wad.core.jid import Jid, ThreadId
from wad.core.message import Message, MessageStatus, Thread
from wad.core.outbox import Claim, Claimed, Entry, Sent, entry_id
from wad.core.outgoing import OwnReaction, Revoke, Text, TextEdit
from wad.core.plan import plan
from wad.store.port import AccountStatus, Store

Fresh = Callable[[], AbstractAsyncContextManager[Store]]

ACC, OTHER = "one", "two"
ANN = Jid.parse("40700000001@s.whatsapp.net")
ANN_LID = Jid.parse("111222333@lid")
BOB = Jid.parse("40700000002@s.whatsapp.net")
GROUP = Jid.parse("123456-789@g.us")
ME = Jid.parse("40700000009@s.whatsapp.net")
ANN_THREAD = str(ThreadId.make(ACC, ANN))
ANN_LID_THREAD = str(ThreadId.make(ACC, ANN_LID))
NOON = 1_769_000_000_000
EPOCH = 3
CLAIMED = Claimed(Claim("here", EPOCH), b"s" * 32)
S = MessageStatus


def text(body: str) -> Content:
    """The content of a text message."""
    return Content(MessageKind.TEXT, body)


def arrival(
    number: int,
    chat: Jid = ANN,
    *,
    account: str = ACC,
    from_me: bool = False,
    sender: Jid | None = None,
    at_ms: int = 0,
    content: Content | None = None,
    push_name: str = "",
    aliases: Addresses | None = None,
    seen: int = 0,
) -> list[Change]:
    """The changes of one message, as `plan` creates them: number `number` of its chat, `number` seconds after noon."""
    event = MessageReceived(
        id=f"3EB0{number:08X}",
        chat=chat,
        sender=sender or (ME if from_me else chat),
        at_ms=at_ms or NOON + number * 1000,
        content=content or text(f"text {number}"),
        from_me=from_me,
        push_name=push_name,
    )
    return plan(account, event, aliases or Addresses(), seen)


def wa_id(number: int) -> str:
    """The WhatsApp id of `arrival(number)`."""
    return f"3EB0{number:08X}"


def mark(number: int, what: ReceiptMark, *, thread: str = ANN_THREAD, by: Jid = ANN) -> PutMark:
    """A receipt for `arrival(number)`."""
    return PutMark(thread, wa_id(number), what, str(by), NOON + number * 1000)


def amendment(
    number: int,
    content: Content,
    *,
    thread: str = ANN_THREAD,
    account: str = ACC,
    by: Jid = ANN,
    from_me: bool = False,
    at_s: int = 5,
) -> PutAmendment:
    """An amendment by `by` of `arrival(number)`, `at_s` seconds after noon."""
    if account != ACC:
        thread = str(ThreadId.make(account, ANN))
    # An id of its own for every one, in the form of `wa_id`.
    own = wa_id(100_000 + 1000 * number + 10 * at_s + list(MessageKind).index(content.kind) % 10)
    at_ms = NOON + at_s * 1000
    return PutAmendment(
        thread, wa_id(number), own, "" if from_me else str(by), from_me, at_ms, content
    )


def edit(number: int, body: str, **who: Any) -> PutAmendment:
    """A new text."""
    return amendment(number, Content(MessageKind.EDIT, body), **who)


def revoke(number: int, *, by_admin: bool = False, **who: Any) -> PutAmendment:
    """Deleted for everyone."""
    return amendment(number, Content(MessageKind.REVOKE, by_admin=by_admin), **who)


def reaction(number: int, sign: str, **who: Any) -> PutAmendment:
    """An emoji, or its removal."""
    return amendment(number, Content(MessageKind.REACTION, sign), **who)


def vote(number: int, payload: bytes = b"secret", **who: Any) -> PutAmendment:
    """A vote, encrypted."""
    return amendment(number, Content(MessageKind.POLL_VOTE, vote=Vote(payload, b"iv")), **who)


def queued(
    key: str = "k1",
    body: str = "hello",
    *,
    account: str = ACC,
    to: Jid = ANN,
    created_ms: int = NOON,
) -> Entry:
    """A new entry for the outbox."""
    return Entry(
        id=entry_id(account, key),
        account=account,
        thread=str(ThreadId.make(account, to)),
        to=str(to),
        content=Text(body),
        client_id=key,
        secret=b"",
        created_ms=created_ms,
    )


def amending(content: OwnReaction | TextEdit | Revoke, key: str = "k2") -> Entry:
    """A new outbox entry that amends a message."""
    return msgspec.structs.replace(queued(key), content=content)


def a_status(account: str = ACC, state: str = "connected") -> AccountStatus:
    """A published status."""
    return AccountStatus(account=account, name=account, state=state, reason="why", since_ms=NOON)


async def one_thread(store: Store, thread: str = ANN_THREAD) -> Thread:
    """A thread that must exist."""
    found = await store.thread(thread)
    assert found is not None
    return found


async def one_message(store: Store, thread: str = ANN_THREAD) -> Message:
    """The only message of a thread."""
    found = await store.messages(thread, limit=10)
    assert len(found) == 1
    return found[0]


async def sending(store: Store, entry: Entry) -> Entry:
    """An entry that is being sent."""
    await store.enqueue(entry)
    return await store.settle(entry.id, CLAIMED, epoch=EPOCH)


async def sent(store: Store, entry: Entry, ident: str) -> Entry:
    """An entry that WhatsApp accepted, under an id."""
    await sending(store, entry)
    return await store.settle(entry.id, Sent(ident, NOON + 5000), epoch=EPOCH)


async def contents(store: Store) -> dict[Thread, list[Message]]:
    """Everything that a reader can see."""
    return {
        thread: await store.messages(thread.id, limit=1000)
        for thread in await store.threads(None, limit=1000)
    }


class OneStore:
    """A part of the contract; an adapter's test gives `fresh`, a function that creates an empty store."""

    @pytest.fixture
    async def store(self, fresh: Fresh) -> AsyncIterator[Store]:
        """One empty store."""
        async with fresh() as store:
            yield store
