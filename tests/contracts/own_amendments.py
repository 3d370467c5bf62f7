"""The contract of our own amendments: outbox entries that are not messages of their own."""

from __future__ import annotations

import msgspec
import pytest

from tests.contracts.world import (
    ACC,
    ANN,
    EPOCH,
    NOON,
    OneStore,
    S,
    amending,
    arrival,
    edit,
    mark,
    one_message,
    one_thread,
    queued,
    reaction,
    sending,
    sent,
    wa_id,
)
from wad.core.event import MessageKind, ReceiptMark
from wad.core.outbox import Refused, Retry, Sent, Unknown
from wad.core.outgoing import OwnReaction, Revoke, Target, TextEdit
from wad.store.port import Store

THEIRS = Target(wa_id(1), str(ANN))
OURS = Target("O1", str(ANN), from_me=True)


class OwnAmendmentContract(OneStore):
    """Reactions, edits and revokes that we send."""

    async def test_an_amendment_is_not_a_message_of_its_own(self, store: Store) -> None:
        """It is in the outbox, and in a thread only in its message."""
        await store.record(ACC, arrival(1))
        done = await store.enqueue(amending(OwnReaction(THEIRS, "👍")))
        assert (done.entry.state, done.duplicate) == (S.QUEUED, False)
        await sent(store, amending(OwnReaction(THEIRS, "👍")), "R1")
        message = await one_message(store)
        assert [(one.text, one.from_me) for one in message.reactions] == [("👍", True)]
        assert (await one_thread(store)).last_text == "text 1"
        totals = await store.totals(ACC)
        assert (totals.messages, {s: n for s, n in totals.outbox.items() if n}) == (1, {S.SENT: 1})

    async def test_the_newest_reaction_of_ours_counts(self, store: Store) -> None:
        """By the time of the request; an empty one removes it."""
        await store.record(ACC, [*arrival(1), reaction(1, "👎")])
        for number, emoji in enumerate(("👍", "🎉")):
            await sent(store, amending(OwnReaction(THEIRS, emoji), f"k{number}"), f"R{number}")
        # Both were asked for in the same millisecond: WhatsApp's ids decide, as everywhere.
        signs = {(one.text, one.from_me) for one in (await one_message(store)).reactions}
        assert signs == {("👎", False), ("🎉", True)}

    async def test_an_edit_of_ours_shows_once_it_is_sent(self, store: Store) -> None:
        """Not while it waits; in the message and in the preview of its thread."""
        await sent(store, queued(), "O1")
        entry = amending(TextEdit(OURS, "better"))
        await sending(store, entry)
        assert (await one_message(store)).content.text == "hello"
        await store.settle(entry.id, Sent("E1", NOON + 9000), epoch=EPOCH)
        message = await one_message(store)
        assert (message.content.kind, message.content.text) == (MessageKind.TEXT, "better")
        assert (message.status, message.wa_id, message.edited_ms) == (S.SENT, "O1", NOON)
        assert (await one_thread(store)).last_text == "better"

    async def test_an_edit_that_failed_changes_nothing(self, store: Store) -> None:
        """Nor does one whose result is unknown, until evidence shows that it arrived."""
        await sent(store, queued(), "O1")
        entry = amending(TextEdit(OURS, "better"))
        await sending(store, entry)
        await store.settle(entry.id, Refused("no", "never"), epoch=EPOCH)
        await store.settle(entry.id, Retry(), epoch=EPOCH)
        await sending(store, entry)
        await store.settle(entry.id, Unknown(wa_id(5), "crash"), epoch=EPOCH)
        assert (await one_message(store)).content.text == "hello"
        await store.record(ACC, [mark(5, ReceiptMark.DELIVERED)])
        assert (await one_message(store)).content.text == "better"

    async def test_a_receipt_finds_an_amendment(self, store: Store) -> None:
        """Before or after its WhatsApp id is known."""
        entry = amending(OwnReaction(THEIRS, "👍"))
        await sending(store, entry)
        await store.settle(entry.id, Unknown(wa_id(5), "crash"), epoch=EPOCH)
        await store.record(ACC, [mark(5, ReceiptMark.DELIVERED), mark(6, ReceiptMark.READ)])
        settled = await store.entry(entry.id)
        assert settled is not None
        assert settled.state is S.DELIVERED
        assert (
            await sent(store, amending(OwnReaction(THEIRS, ""), "k3"), wa_id(6))
        ).state is S.READ

    @pytest.mark.parametrize("first", [True, False])
    async def test_its_echo_is_evidence_and_counts_once(self, store: Store, first: bool) -> None:
        """Whether it arrives before or after the entry is uncertain."""
        await store.record(ACC, arrival(1, from_me=True))
        entry = amending(TextEdit(Target(wa_id(1), str(ANN), from_me=True), "new"))
        echo = msgspec.structs.replace(edit(1, "new", from_me=True), wa_id="E1")
        await sending(store, entry)
        if first:
            await store.record(ACC, [echo])
        await store.settle(entry.id, Unknown("E1", "crash"), epoch=EPOCH)
        if not first:
            await store.record(ACC, [echo])
        settled = await store.entry(entry.id)
        assert settled is not None
        assert settled.state is S.SENT
        message = await one_message(store)
        assert (message.content.text, len(message.earlier)) == ("new", 1)

    async def test_a_message_that_we_deleted_stays_deleted(self, store: Store) -> None:
        """Its text is gone; a later edit does not restore it."""
        await sent(store, queued(), "O1")
        await sent(store, amending(Revoke(OURS), "k2"), "R1")
        await sent(store, amending(TextEdit(OURS, "again"), "k3"), "E1")
        message = await one_message(store)
        assert (message.content.kind, message.content.text) == (MessageKind.REVOKE, "")

    async def test_a_message_is_found_by_its_id(self, store: Store) -> None:
        """A received one in its current state, one of the outbox, and an unknown one."""
        await store.record(ACC, [*arrival(1), edit(1, "new")])
        message = await one_message(store)
        assert await store.message(message.id) == message
        assert await store.message("nothing") is None
