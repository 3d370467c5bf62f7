"""The contract of order: any mix of events, in any order and with any repetition, ends in the same store."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contracts.world import (
    ACC,
    ANN,
    ANN_LID,
    ANN_LID_THREAD,
    BOB,
    EPOCH,
    GROUP,
    ME,
    NOON,
    Fresh,
    OneStore,
    S,
    arrival,
    contents,
    mark,
    one_message,
    one_thread,
    queued,
    sending,
    wa_id,
)
from wad.core.addresses import Addresses
from wad.core.change import Change, PutAlias
from wad.core.content import AMENDING, Content, MessageKind, Vote
from wad.core.event import (
    AliasReceived,
    ChatReceived,
    Event,
    MessageReceived,
    ReceiptMark,
    ReceiptReceived,
)
from wad.core.jid import Jid
from wad.core.message import Message
from wad.core.outbox import Outcome, Sent, Unknown
from wad.core.plan import plan
from wad.store.port import Store

_ALIAS = AliasReceived(ANN_LID, ANN)
_AMENDMENT_IDS = (90, 91)  # of amendments; a placeholder may stand for one of them


def _spellings(jid: Jid) -> st.SearchStrategy[tuple[Jid, Jid | None]]:
    """The spellings of a person in an event: Ann by number, by LID, or by one with the other beside it."""
    if jid != ANN:
        return st.just((jid, None))
    return st.sampled_from([(ANN, None), (ANN_LID, None), (ANN_LID, ANN), (ANN, ANN_LID)])


@st.composite
def _messages(draw: st.DrawFn) -> Event:
    """One version of one of few messages.

    All versions of a message have the same time, content and sender: the contract assumes that.
    """
    number = draw(st.sampled_from([1, 2, 3, *_AMENDMENT_IDS]))
    where, who, place = draw(
        st.sampled_from(
            [(ANN, ANN, 0), (ANN, ME, 1), (GROUP, ANN, 2), (GROUP, BOB, 3), (GROUP, ME, 4)]
        )
    )
    chat, chat_alt = draw(_spellings(where))
    sender, sender_alt = draw(_spellings(who))
    if where == who:  # a chat of two has the same spelling as its sender
        sender, sender_alt, chat_alt = chat, chat_alt, None
    kind = MessageKind.LOST
    if number not in _AMENDMENT_IDS:
        kind = draw(
            st.sampled_from([MessageKind.TEXT, MessageKind.LOST, MessageKind.UNDECRYPTABLE])
        )
    return MessageReceived(
        id=wa_id(number),
        chat=chat,
        sender=sender,
        at_ms=NOON + number * 10 + place,
        content=Content(kind, f"text {number}" if kind is MessageKind.TEXT else ""),
        from_me=who == ME,
        chat_alt=chat_alt,
        sender_alt=sender_alt,
        push_name=draw(st.sampled_from(["", f"Ann {number}"])),
    )


@st.composite
def _amendments(draw: st.DrawFn) -> Event:
    """An amendment of one of the messages."""
    chat, chat_alt = draw(_spellings(draw(st.sampled_from([ANN, GROUP]))))
    sender, sender_alt = draw(_spellings(draw(st.sampled_from([ANN, ME, BOB]))))
    kind = draw(st.sampled_from([*sorted(AMENDING), MessageKind.NOTICE]))
    content = Content(
        kind,
        draw(st.sampled_from(["", "a", "b"])),
        target=wa_id(draw(st.integers(1, 3))),
        told_ms=NOON + draw(st.integers(1, 2)),
        by_admin=draw(st.booleans()),
        vote=Vote(draw(st.sampled_from([b"", b"p"])), b"iv"),
    )
    return MessageReceived(
        id=wa_id(draw(st.sampled_from(_AMENDMENT_IDS))),
        chat=chat,
        sender=sender,
        at_ms=NOON,
        content=content,
        from_me=sender == ME,
        chat_alt=chat_alt,
        sender_alt=sender_alt,
    )


@st.composite
def _receipts(draw: st.DrawFn) -> Event:
    """A receipt for one of the messages."""
    (chat, chat_alt), from_me = draw(_spellings(ANN)), draw(st.booleans())
    return ReceiptReceived(
        ids=(wa_id(draw(st.integers(1, 3))),),
        chat=chat,
        sender=ME if from_me else chat,
        mark=draw(st.sampled_from(list(ReceiptMark))),
        at_ms=NOON + draw(st.integers(5, 35)),
        from_me=from_me,
        chat_alt=chat_alt,
    )


@st.composite
def _chats(draw: st.DrawFn) -> Event:
    """A fact about a chat."""
    chat, alt = draw(_spellings(draw(st.sampled_from([ANN, GROUP]))))
    return ChatReceived(
        chat,
        alt,
        name=draw(st.sampled_from(["", "Name", "Other"])),
        push_name=draw(st.sampled_from(["", "annie"])),
        name_ms=draw(st.integers(0, 2)),
        read_ms=draw(st.sampled_from([0, NOON + 15, NOON + 25])),
        unread=draw(st.integers(0, 2)),
        unread_ms=draw(st.sampled_from([0, NOON + 20, NOON + 900])),
        expires_s=draw(st.sampled_from([0, 60])),
        expires_ms=draw(st.integers(0, 2)),
    )


EVENTS = st.lists(
    st.tuples(_messages() | _amendments() | _receipts() | _chats(), st.integers(1, 9)),
    min_size=1,
    max_size=10,
)
"""Events, and when each of them was seen."""


async def _seen(store: Store) -> object:
    """What a reader sees, without document ids, which depend on the first version."""
    return (
        {
            thread: [_nameless(message) for message in found]
            for thread, found in (await contents(store)).items()
        },
        await store.totals(ACC),
    )


def _nameless(message: Message) -> Message:
    return msgspec.structs.replace(message, id="", stable_key="", fingerprint="")


async def _record(store: Store, events: Sequence[tuple[Event, int]], *, knowing: bool) -> None:
    """Record as inbound does, with the aliases known so far; or with those known from the beginning."""
    addresses = Addresses()
    for event, seen in events:
        changes: list[Change] = plan(ACC, event, addresses, seen)
        if knowing:
            for change in changes:
                if isinstance(change, PutAlias):
                    addresses.put(change)
        await store.record(ACC, changes)


# `fresh` makes a new store for each example, and every adapter's test class runs the same function.
_BY_DESIGN = (HealthCheck.function_scoped_fixture, HealthCheck.differing_executors)


class OrderContract(OneStore):
    """Order and repetition."""

    @settings(max_examples=60, deadline=None, suppress_health_check=_BY_DESIGN)
    @given(events=EVENTS, data=st.data())
    async def test_any_order_and_repetition_ends_in_the_same_store(
        self, fresh: Fresh, events: list[tuple[Event, int]], data: st.DataObject
    ) -> None:
        """With all aliases known from the beginning, or learned at any time, and with everything repeated."""
        again = data.draw(st.lists(st.sampled_from(events), max_size=4), label="again")
        shuffled = data.draw(st.permutations([*events, *again, (_ALIAS, 0)]), label="order")
        async with fresh() as one:
            await _record(one, [(_ALIAS, 0), *events, *again], knowing=True)
            expected = await _seen(one)
        async with fresh() as other:
            await _record(other, shuffled, knowing=data.draw(st.booleans(), label="knowing"))
            found = await _seen(other)
        assert found == expected

    @settings(max_examples=30, deadline=None, suppress_health_check=_BY_DESIGN)
    @given(
        order=st.permutations(["settle", "echo", "delivered", "read", "alias"]),
        outcome=st.sampled_from([Sent(wa_id(1), NOON + 1000), Unknown(wa_id(1), "crash")]),
        chat=st.sampled_from([ANN, ANN_LID]),
    )
    async def test_evidence_in_any_order_ends_in_the_same_store(
        self, fresh: Fresh, order: Sequence[str], outcome: Outcome, chat: Jid
    ) -> None:
        """Settling, echo and receipts of one message may arrive in any order."""
        evidence: dict[str, list[Change]] = {
            "echo": arrival(1, chat, from_me=True),
            "delivered": [mark(1, ReceiptMark.DELIVERED)],
            "read": [mark(1, ReceiptMark.READ, thread=ANN_LID_THREAD)],
            "alias": [PutAlias(str(ANN_LID), str(ANN))],
        }
        async with fresh() as store:
            await sending(store, queued())
            for step in order:
                if step == "settle":
                    await store.settle(queued().id, outcome, epoch=EPOCH)
                else:
                    await store.record(ACC, evidence[step])
            entry = await store.entry(queued().id)
            assert entry is not None
            assert (entry.state, entry.wa_id, entry.error) == (S.READ, wa_id(1), "")
            assert (await one_message(store)).status is S.READ
            assert len(await store.threads(None, limit=9)) == 1
            assert (await one_thread(store)).messages == 1
