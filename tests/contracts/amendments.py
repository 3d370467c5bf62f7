"""The contract of amendments: edits, revokes, reactions and votes find their message, in any order."""

from __future__ import annotations

import itertools

import pytest

from tests.contracts.world import (
    ACC,
    ANN,
    ANN_LID,
    ANN_THREAD,
    BOB,
    EPOCH,
    GROUP,
    NOON,
    OTHER,
    OneStore,
    amendment,
    arrival,
    contents,
    edit,
    one_message,
    one_thread,
    queued,
    reaction,
    revoke,
    sending,
    text,
    vote,
    wa_id,
)
from wad.core.addresses import Addresses
from wad.core.change import Change, PutAlias
from wad.core.content import PLACEHOLDERS
from wad.core.event import Content, MessageKind, MessageReceived
from wad.core.jid import ThreadId
from wad.core.message import MessageVersion
from wad.core.outbox import Sent
from wad.core.plan import plan
from wad.store.port import Store

GROUP_THREAD = str(ThreadId.make(ACC, GROUP))
PIN = Content(MessageKind.PIN, active=True, expires_s=86_400)
ORIGINAL = MessageVersion(text("text 1"), NOON + 1000)


class AmendmentContract(OneStore):
    """Amendments of stored and of later messages."""

    @pytest.mark.parametrize("first", [True, False])
    async def test_an_edit_changes_its_message(self, store: Store, first: bool) -> None:
        """In any order; the earlier text is kept, and the edit is not a message of its own."""
        wrote, changed = arrival(1), [edit(1, "new", at_s=5)]
        await store.record(ACC, changed if first else wrote)
        done = await store.record(ACC, wrote if first else changed)
        message = await one_message(store)
        assert (message.content.text, message.edited_ms) == ("new", NOON + 5000)
        assert message.earlier == (ORIGINAL,)
        assert message in (*done.new, *done.changed)
        thread = await one_thread(store)
        assert (thread.last_text, thread.messages, thread.unread) == ("new", 1, 1)
        assert thread.last_ms == NOON + 1000

    async def test_an_amendment_alone_shows_nothing(self, store: Store) -> None:
        """It creates no message and no thread."""
        done = await store.record(ACC, [edit(1, "new"), revoke(2), reaction(3, "+"), vote(4)])
        assert (done.new, done.changed) == ((), ())
        assert await contents(store) == {}
        assert (await store.totals(ACC)).messages == 0

    async def test_an_amendment_again_changes_nothing(self, store: Store) -> None:
        """It is reported as a change only once."""
        await store.record(ACC, [*arrival(1), edit(1, "new"), reaction(1, "+")])
        before = await contents(store)
        done = await store.record(ACC, [edit(1, "new"), reaction(1, "+")])
        assert done.changed == ()
        assert await contents(store) == before

    @pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
    async def test_of_edits_the_newest_counts_and_a_revoke_more(
        self, store: Store, order: tuple[int, ...]
    ) -> None:
        """In any order; every version is kept, the oldest first."""
        changes: list[list[Change]] = [
            arrival(1),
            [edit(1, "second", at_s=5)],
            [edit(1, "third", at_s=6)],
            [revoke(1, at_s=4)],
        ]
        for number in order:
            await store.record(ACC, changes[number])
        message = await one_message(store)
        assert message.content == Content(MessageKind.REVOKE)
        assert [version.content.text for version in message.earlier] == [
            "text 1",
            "second",
            "third",
        ]
        assert (message.revoked_ms, message.revoked_by) == (NOON + 4000, str(ANN))
        assert (await one_thread(store)).last_text == "[deleted]"

    async def test_a_caption_is_edited_and_the_picture_stays(self, store: Store) -> None:
        """The new text replaces the old one, and nothing else."""
        picture = Content(MessageKind.IMAGE, "old", forwarded=True)
        await store.record(ACC, [*arrival(1, content=picture), edit(1, "new")])
        assert (await one_message(store)).content == Content(
            MessageKind.IMAGE, "new", forwarded=True
        )

    async def test_an_amendment_is_of_its_own_chat(self, store: Store) -> None:
        """A message to Bob with an id that Ann saw: neither stored from our phone nor from the outbox it is hers."""
        elsewhere = str(ThreadId.make(ACC, BOB))
        await sending(store, queued())
        await store.settle(queued().id, Sent(wa_id(1), NOON), epoch=EPOCH)
        await store.record(ACC, arrival(2, from_me=True))
        before = await contents(store)
        await store.record(
            ACC,
            [
                change
                for n in (1, 2)
                for change in (
                    reaction(n, "+", thread=elsewhere, by=BOB),
                    vote(n, thread=elsewhere, by=BOB),
                    amendment(n, PIN, thread=elsewhere, by=BOB),
                    edit(n, "forged", thread=elsewhere, from_me=True),
                )
            ],
        )
        assert await contents(store) == before

    async def test_an_amendment_is_of_the_author_that_it_names(self, store: Store) -> None:
        """Ann and Bob wrote messages with one id in a group: each gets what names its author, by any address."""
        alias: list[Change] = [PutAlias(str(ANN_LID), str(ANN))]
        same = [
            plan(ACC, MessageReceived(wa_id(1), GROUP, who, NOON, text(str(who))), Addresses(), 1)
            for who in (ANN_LID, BOB)
        ]
        named = [
            amendment(
                1,
                Content(MessageKind.REACTION, f"for {who}", target_by=str(who)),
                thread=GROUP_THREAD,
                by=BOB,
                at_s=n,
            )
            for n, who in enumerate((ANN, ANN_LID, BOB), start=1)
        ]
        for changes in (alias, *same):
            await store.record(ACC, changes)
        for one in named:
            await store.record(ACC, [one])
        found = {
            message.sender: [reaction.text for reaction in message.reactions]
            for message in await store.messages(GROUP_THREAD, limit=9)
        }
        assert found == {str(ANN): [f"for {ANN_LID}"], str(BOB): [f"for {BOB}"]}

    async def test_only_the_author_edits_and_revokes(self, store: Store) -> None:
        """Not the other party, not another member, and not a party of another thread or account."""
        await store.record(ACC, [*arrival(1, GROUP, sender=ANN), *arrival(2, from_me=True)])
        await store.record(ACC, arrival(3))
        elsewhere = str(ThreadId.make(ACC, BOB))
        await store.record(
            ACC,
            [
                edit(1, "forged", by=BOB, thread=GROUP_THREAD),
                revoke(1, by=BOB, thread=GROUP_THREAD),
                edit(2, "forged"),
                revoke(2),
                edit(3, "forged", by=BOB, thread=elsewhere),
                revoke(3, from_me=True),
            ],
        )
        await store.record(OTHER, [edit(3, "forged", account=OTHER)])
        assert (await one_message(store, GROUP_THREAD)).content == text("text 1")
        found = [m.content for m in await store.messages(ANN_THREAD, limit=9)]
        assert found == [text("text 3"), text("text 2")]

    async def test_a_groups_admin_may_revoke(self, store: Store) -> None:
        """The admin is recorded; a chat of two persons has no admin."""
        await store.record(ACC, [*arrival(1, GROUP, sender=ANN), *arrival(2, from_me=True)])
        await store.record(
            ACC,
            [revoke(1, by=BOB, thread=GROUP_THREAD, by_admin=True), revoke(2, by_admin=True)],
        )
        message = await one_message(store, GROUP_THREAD)
        assert (message.content.kind, message.revoked_by) == (MessageKind.REVOKE, str(BOB))
        assert (await one_message(store)).content == text("text 2")

    async def test_we_edit_and_revoke_our_own(self, store: Store) -> None:
        """On the phone, also messages of our outbox."""
        await sending(store, queued())
        await store.settle(queued().id, Sent(wa_id(1), NOON), epoch=EPOCH)
        await store.record(ACC, [edit(1, "better", from_me=True)])
        assert (await one_message(store)).content.text == "better"
        await store.record(ACC, [revoke(1, from_me=True)])
        message = await one_message(store)
        assert (message.content.kind, message.revoked_by) == (MessageKind.REVOKE, "")

    async def test_a_reaction_may_come_before_settling(self, store: Store) -> None:
        """It counts as soon as the outbox's message has its WhatsApp id."""
        await sending(store, queued())
        await store.record(ACC, [reaction(1, "+")])
        await store.settle(queued().id, Sent(wa_id(1), NOON), epoch=EPOCH)
        assert [r.text for r in (await one_message(store)).reactions] == ["+"]

    @pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
    async def test_of_each_person_the_newest_reaction_counts(
        self, store: Store, order: tuple[int, ...]
    ) -> None:
        """An empty one removes it; the thread's preview stays."""
        changes: list[Change] = [
            reaction(1, "a", at_s=1),
            reaction(1, "b", at_s=2),
            reaction(1, "mine", at_s=1, from_me=True),
            reaction(1, "", at_s=2, from_me=True),
        ]
        await store.record(ACC, [*(changes[number] for number in order), *arrival(1)])
        assert [(r.by, r.text) for r in (await one_message(store)).reactions] == [(str(ANN), "b")]
        assert (await one_thread(store)).last_text == "text 1"

    async def test_a_vote_is_stored_encrypted(self, store: Store) -> None:
        """The newest of each person, with the id under which it arrived."""
        await store.record(ACC, [*arrival(1, content=Content(MessageKind.POLL, "Tea?")), vote(1)])
        await store.record(ACC, [vote(1, payload=b"newer", at_s=9)])
        (ballot,) = (await one_message(store)).votes
        assert (ballot.by, ballot.payload, ballot.at_ms) == (str(ANN), b"newer", NOON + 9000)
        assert ballot.wa_id

    @pytest.mark.parametrize("kind", sorted(PLACEHOLDERS))
    @pytest.mark.parametrize("placeholder_first", [True, False])
    async def test_a_placeholder_that_was_an_amendment_is_deleted(
        self, store: Store, kind: MessageKind, placeholder_first: bool
    ) -> None:
        """What could not be decrypted at first was not a message."""
        stuck = reaction(1, "+")
        number = int(stuck.wa_id, 16) - int(wa_id(0), 16)
        holder = arrival(number, content=Content(kind), push_name="Ann")
        await store.record(ACC, arrival(1))
        for changes in (holder, [stuck]) if placeholder_first else ([stuck], holder):
            await store.record(ACC, changes)
        assert [r.text for r in (await one_message(store)).reactions] == ["+"]
        thread = await one_thread(store)
        assert (thread.messages, thread.unread, thread.last_text) == (1, 1, "text 1")
        assert thread.name == "Ann"

    @pytest.mark.parametrize("placeholder_first", [True, False])
    async def test_a_placeholder_of_a_notice_is_deleted(
        self, store: Store, placeholder_first: bool
    ) -> None:
        """For example the header of an album, which could not be decrypted at first."""
        header = MessageReceived(wa_id(2), ANN, ANN, NOON, Content(MessageKind.NOTICE))
        holder = arrival(2, content=Content(MessageKind.UNDECRYPTABLE))
        found = plan(ACC, header, Addresses())
        await store.record(ACC, arrival(1))
        for changes in (holder, found) if placeholder_first else (found, holder):
            await store.record(ACC, changes)
        thread = await one_thread(store)
        assert (thread.messages, thread.unread, thread.last_text) == (1, 1, "text 1")

    async def test_a_placeholder_of_a_replaced_reaction_is_not_a_message(
        self, store: Store
    ) -> None:
        """A later reaction of the same person does not remove the record of the earlier one."""
        earlier, later = reaction(1, "a", at_s=5), reaction(1, "b", at_s=6)
        await store.record(ACC, [*arrival(1), earlier, later])
        number = int(earlier.wa_id.removeprefix("3EB0"), 16)
        await store.record(ACC, arrival(number, content=Content(MessageKind.LOST)))
        message = await one_message(store)
        assert [found.text for found in message.reactions] == ["b"]

    async def test_a_revoked_placeholder_keeps_the_later_message(self, store: Store) -> None:
        """The message that arrives after its revoke is kept as the earlier version."""
        await store.record(ACC, [*arrival(1, content=Content(MessageKind.LOST)), revoke(1)])
        await store.record(ACC, arrival(1))
        assert (await one_message(store)).earlier == (ORIGINAL,)
