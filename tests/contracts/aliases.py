"""The contract of aliases: a LID and a phone number are one person, in any order."""

from __future__ import annotations

from itertools import permutations

import pytest

from tests.contracts.world import (
    ACC,
    ANN,
    ANN_LID,
    ANN_LID_THREAD,
    ANN_THREAD,
    BOB,
    EPOCH,
    GROUP,
    NOON,
    OTHER,
    OneStore,
    amending,
    amendment,
    arrival,
    edit,
    mark,
    one_message,
    one_thread,
    queued,
    reaction,
    sending,
    sent,
    text,
    wa_id,
)
from wad.core.addresses import Addresses
from wad.core.change import Change, PutAlias, PutChat, PutNumber
from wad.core.content import Quote
from wad.core.event import Content, MessageKind, ReceiptMark
from wad.core.jid import Jid, ThreadId
from wad.core.message import MessageStatus
from wad.core.outbox import NotSent, Outcome, Refused, Unknown
from wad.core.outgoing import OwnReaction, target_of
from wad.store.port import Recipient, Store

ALIAS = PutAlias(str(ANN_LID), str(ANN))
GROUP_THREAD = str(ThreadId.make(ACC, GROUP))


class AliasContract(OneStore):
    """One person, two addresses."""

    async def test_a_group_message_is_one_however_its_sender_is_spelled(self, store: Store) -> None:
        """Read again after the sender's number became known, it is a duplicate."""
        await store.record(ACC, arrival(1, GROUP, sender=ANN_LID))
        await store.record(ACC, [ALIAS])
        done = await store.record(ACC, arrival(1, GROUP, sender=ANN))
        assert (done.new, done.known) == ((), 1)
        assert (await one_message(store, GROUP_THREAD)).sender == str(ANN)

    async def test_two_members_may_use_one_id(self, store: Store) -> None:
        """In a group the sender distinguishes messages."""
        done = await store.record(
            ACC, [*arrival(1, GROUP, sender=ANN), *arrival(1, GROUP, sender=BOB)]
        )
        assert len(done.new) == 2

    async def test_mentions_and_quotes_get_the_number(self, store: Store) -> None:
        """Before and after it is known; a mention is also in the text, where only it is replaced."""
        lid, user = str(ANN_LID), ANN_LID.user
        content = Content(
            MessageKind.TEXT,
            f"@{user}, @{user}0 and @{BOB.user}",
            mentions=(lid, str(BOB)),
            quote=Quote(by=lid, text=f"@{user}"),
        )
        await store.record(ACC, arrival(1, GROUP, sender=BOB, content=content))
        assert (await one_message(store, GROUP_THREAD)).content == content
        await store.record(ACC, [ALIAS])
        found = await one_message(store, GROUP_THREAD)
        assert found.content.mentions == (str(ANN), str(BOB))
        assert found.content.text == f"@{ANN.user}, @{user}0 and @{BOB.user}"
        assert found.content.quote == Quote(by=str(ANN), text=f"@{user}")
        assert await store.message(found.id) == found
        await store.record(ACC, arrival(2, GROUP, sender=BOB, content=content))
        found, _ = await store.messages(GROUP_THREAD, limit=9)
        assert found.content.text == f"@{ANN.user}, @{user}0 and @{BOB.user}"

    async def test_previews_and_events_name_the_number(self, store: Store) -> None:
        """A preview is derived again when the number is known; new and changed messages and old versions have it."""
        lid, user = str(ANN_LID), ANN_LID.user
        mention = Content(MessageKind.TEXT, f"hello @{user}", mentions=(lid,))
        await store.record(ACC, arrival(1, GROUP, sender=BOB, content=mention))
        assert (await one_thread(store, GROUP_THREAD)).last_text == f"hello @{user}"
        await store.record(ACC, [ALIAS])
        assert (await one_thread(store, GROUP_THREAD)).last_text == f"hello @{ANN.user}"
        done = await store.record(ACC, arrival(2, GROUP, sender=BOB, content=mention))
        assert [one.content.text for one in done.new] == [f"hello @{ANN.user}"]
        assert (await one_thread(store, GROUP_THREAD)).last_text == f"hello @{ANN.user}"
        new = Content(MessageKind.EDIT, f"bye @{user}", mentions=(lid,))
        change = amendment(2, new, thread=GROUP_THREAD, by=BOB)
        (changed,) = (await store.record(ACC, [change])).changed
        assert changed.content.text == f"bye @{ANN.user}"
        assert [one.content.text for one in changed.earlier] == [f"hello @{ANN.user}"]
        assert (await one_thread(store, GROUP_THREAD)).last_text == f"bye @{ANN.user}"

    async def test_a_chat_is_one_however_it_is_spelled(self, store: Store) -> None:
        """Read again after the chat's number became known, a message is not stored a second time."""
        await store.record(ACC, arrival(1, ANN_LID))
        await store.record(ACC, [ALIAS])
        done = await store.record(
            ACC, [*arrival(1, ANN_LID), *arrival(1, ANN_LID, aliases=Addresses([ALIAS]))]
        )
        assert (done.new, done.known) == ((), 2)
        assert (await one_message(store)).thread == ANN_THREAD

    async def test_two_people_may_use_one_id(self, store: Store) -> None:
        """A LID without a known number is another person."""
        done = await store.record(ACC, [*arrival(1, ANN), *arrival(1, ANN_LID)])
        assert len(done.new) == 2

    async def test_the_latest_alias_wins(self, store: Store) -> None:
        """Every alias of an account, none of another's."""
        lid, other = str(ANN_LID), "444@lid"
        old, new = PutAlias(lid, str(BOB), NOON), PutAlias(lid, str(ANN), NOON + 1)
        next_owner = PutAlias(other, str(BOB), NOON + 2)
        await store.record(ACC, [old, new, old])
        await store.record(ACC, [next_owner, old])
        assert await store.aliases(ACC) == [new, next_owner]
        assert await store.aliases(OTHER) == []

    async def test_an_alias_merges_the_lids_thread_into_the_numbers(self, store: Store) -> None:
        """Messages, counts, last message and name are those of both; documents keep their ids."""
        before = await store.record(
            ACC,
            [
                *arrival(1, ANN, push_name="Old Ann"),
                *arrival(2, ANN_LID),
                *arrival(3, ANN_LID, push_name="Ann"),
            ],
        )
        await store.record(ACC, [ALIAS, ALIAS])
        assert [t.id for t in await store.threads(ACC, limit=9)] == [ANN_THREAD]
        thread = await one_thread(store)
        assert (thread.messages, thread.unread, thread.name) == (3, 3, "Ann")
        assert (thread.last_text, thread.last_ms) == ("text 3", NOON + 3000)
        found = await store.messages(ANN_THREAD, limit=9)
        assert {m.id for m in found} == {m.id for m in before.new}
        assert {(m.thread, m.chat, m.sender) for m in found} == {(ANN_THREAD, str(ANN), str(ANN))}
        totals = await store.totals(ACC)
        assert (totals.threads, totals.messages) == (1, 3)

    async def test_a_lids_thread_becomes_the_numbers_without_one(self, store: Store) -> None:
        """The alias creates the number's thread."""
        await store.record(ACC, [*arrival(1, ANN_LID, push_name="Ann"), ALIAS])
        thread = await one_thread(store)
        assert (thread.id, thread.chat, thread.name) == (ANN_THREAD, str(ANN), "Ann")

    async def test_an_alias_alone_creates_no_thread(self, store: Store) -> None:
        """No message exists yet."""
        await store.record(ACC, [ALIAS])
        assert await store.threads(ACC, limit=9) == []
        assert await store.thread(ANN_LID_THREAD) is None

    async def test_the_old_threads_id_means_the_new_one(self, store: Store) -> None:
        """A reader that kept it still finds the thread, and can mark it as read."""
        await store.record(ACC, [*arrival(1, ANN_LID), ALIAS])
        assert await store.thread(ANN_LID_THREAD) == await one_thread(store)
        assert await store.messages(ANN_LID_THREAD, limit=9) == [await one_message(store)]
        await store.mark_read(ANN_LID_THREAD)
        assert (await one_thread(store)).unread == 0

    async def test_later_messages_of_the_lid_join_the_number(self, store: Store) -> None:
        """Although they were planned before the alias was known."""
        await store.record(ACC, [ALIAS, *arrival(1, ANN_LID), *arrival(2, GROUP, sender=ANN_LID)])
        assert (await one_message(store)).sender == str(ANN)
        assert (await one_message(store, GROUP_THREAD)).sender == str(ANN)

    @pytest.mark.parametrize("alias_first", [True, False])
    @pytest.mark.parametrize("chat", [(ANN, ANN), (GROUP, GROUP)])
    async def test_one_message_under_both_addresses_is_one(
        self, store: Store, chat: object, alias_first: bool
    ) -> None:
        """Received by number and by LID; it is counted once, and its reactions are kept."""
        in_group = chat == (GROUP, GROUP)
        copies: list[Change] = [
            *arrival(1, GROUP if in_group else ANN, sender=ANN, push_name="Ann"),
            *arrival(1, GROUP if in_group else ANN_LID, sender=ANN_LID),
        ]
        where = GROUP_THREAD if in_group else ANN_LID_THREAD
        attached = [reaction(1, "+", by=ANN_LID, thread=where)]
        await store.record(
            ACC, [ALIAS, *copies, *attached] if alias_first else [*copies, *attached, ALIAS]
        )
        message = await one_message(store, GROUP_THREAD if in_group else ANN_THREAD)
        assert (message.sender, message.push_name) == (str(ANN), "Ann")
        assert [(r.by, r.text) for r in message.reactions] == [(str(ANN), "+")]
        (thread,) = await store.threads(ACC, limit=9)
        assert (thread.messages, thread.unread) == (1, 1)

    async def test_a_placeholder_under_the_other_address_is_replaced(self, store: Store) -> None:
        """Merged by the alias, the message itself stays."""
        lost = Content(MessageKind.UNDECRYPTABLE)
        await store.record(ACC, [*arrival(1, ANN, content=lost), *arrival(1, ANN_LID), ALIAS])
        assert (await one_message(store)).content == text("text 1")

    @pytest.mark.parametrize("alias_first", [True, False])
    async def test_an_author_may_edit_under_either_address(
        self, store: Store, alias_first: bool
    ) -> None:
        """Whether the alias is known before or after."""
        changes: list[Change] = [
            *arrival(1, GROUP, sender=ANN_LID),
            edit(1, "new", by=ANN, thread=GROUP_THREAD),
        ]
        await store.record(ACC, [ALIAS, *changes] if alias_first else [*changes, ALIAS])
        assert (await one_message(store, GROUP_THREAD)).content.text == "new"

    async def test_an_outbox_message_moves_with_its_thread(self, store: Store) -> None:
        """Queued for the LID, it is in the number's thread once that is known."""
        await store.enqueue(queued(to=ANN_LID))
        await store.record(ACC, [ALIAS])
        assert (await one_message(store)).client_id == "k1"
        await store.enqueue(queued("k2", to=ANN_LID))
        assert (await one_thread(store)).messages == 2

    async def test_messages_read_under_one_address_are_read(self, store: Store) -> None:
        """Unread is counted again, from the later read position of both."""
        await store.record(ACC, [*arrival(1, ANN), *arrival(2, ANN_LID), *arrival(3, ANN)])
        await store.record(ACC, [PutChat(ANN_LID_THREAD, str(ANN_LID), read_ms=NOON + 2000), ALIAS])
        assert (await one_thread(store)).unread == 1

    @pytest.mark.parametrize("hidden", ["placeholder", "amendment"])
    async def test_a_placeholder_is_deleted_under_either_address(
        self, store: Store, hidden: str
    ) -> None:
        """Its amendment may be under the other one."""
        attached = reaction(1, "+", thread=ANN_LID_THREAD if hidden == "amendment" else ANN_THREAD)
        number = int(attached.wa_id, 16) - int(wa_id(0), 16)
        chat = ANN_LID if hidden == "placeholder" else ANN
        holder = arrival(number, chat, content=Content(MessageKind.UNDECRYPTABLE))
        await store.record(ACC, [*arrival(1), *holder, attached, ALIAS])
        assert [r.text for r in (await one_message(store)).reactions] == ["+"]
        assert (await one_thread(store)).messages == 1


NEW = Jid.parse("40700000003@s.whatsapp.net")
NEW_THREAD = str(ThreadId.make(ACC, NEW))
EVE_LID = Jid.parse("444555666@lid")


def dated(lid: Jid, pn: Jid, at_s: int) -> PutAlias:
    """An alias that was reported this number of seconds after noon."""
    return PutAlias(str(lid), str(pn), NOON + at_s * 1000)


class NumberContract(OneStore):
    """A person has one number at a time, and a number one person."""

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    async def test_a_changed_number_moves_everything(
        self, store: Store, order: tuple[int, ...]
    ) -> None:
        """In any order of the reports; an edit with the new number is applied to a message of before."""
        reports = [dated(ANN_LID, ANN, 1), dated(ANN_LID, NEW, 9), dated(ANN_LID, ANN, 3)]
        before = [*arrival(1, ANN), *arrival(2, GROUP, sender=ANN)]
        edits: list[Change] = [
            edit(1, "new", by=NEW, thread=NEW_THREAD),
            edit(2, "new", by=NEW, thread=GROUP_THREAD),
        ]
        await store.record(ACC, [*before, *edits, *(reports[n] for n in order)])
        await store.record(ACC, [*arrival(3, NEW), *arrival(4, ANN)])
        found = await store.threads(ACC, limit=9)
        assert {thread.id for thread in found} == {NEW_THREAD, GROUP_THREAD}
        here = await store.messages(NEW_THREAD, limit=9)
        assert [(m.content.text, m.sender, m.chat) for m in here] == [
            (text, str(NEW), str(NEW)) for text in ("text 4", "text 3", "new")
        ]
        in_group = await one_message(store, GROUP_THREAD)
        assert (in_group.content.text, in_group.sender) == ("new", str(NEW))
        assert await store.messages(ANN_THREAD, limit=9) == here

    async def test_what_is_queued_follows_the_person(self, store: Store) -> None:
        """The number may be somebody else's by the time it is sent."""
        await store.record(ACC, [dated(ANN_LID, ANN, 1), *arrival(1, ANN)])
        target = target_of(await one_message(store))
        await store.enqueue(queued())
        await store.enqueue(amending(OwnReaction(target, "+")))
        await store.record(ACC, [dated(ANN_LID, NEW, 2)])
        found = await store.entries(ACC)
        assert {(e.to, e.thread, e.asked) for e in found} == {(str(NEW), NEW_THREAD, str(ANN))}
        (content,) = [e.content for e in found if isinstance(e.content, OwnReaction)]
        assert content.target.chat == str(NEW)
        here = await store.messages(NEW_THREAD, limit=9)
        assert {m.client_id for m in here} == {"k1", ""}

    async def test_what_may_be_sent_again_follows_the_person(self, store: Store) -> None:
        """An attempt that is under way may fail, and an operator may retry what failed or is uncertain."""
        await store.record(ACC, [dated(ANN_LID, ANN, 1)])
        outcomes: dict[str, Outcome] = {
            "failed": Refused("x", "no"),
            "uncertain": Unknown("", "gone"),
            "queued": NotSent("gone"),
        }
        for key, outcome in outcomes.items():
            await sending(store, queued(key))
            if key != "queued":
                await store.settle(queued(key).id, outcome, epoch=EPOCH)
        await store.record(ACC, [dated(ANN_LID, NEW, 2)])
        await store.settle(queued("queued").id, outcomes["queued"], epoch=EPOCH)
        found = {e.client_id: (e.state, e.to, e.thread) for e in await store.entries(ACC)}
        assert found == {key: (key, str(NEW), NEW_THREAD) for key in outcomes}

    async def test_receipts_of_the_former_owner_count(self, store: Store) -> None:
        """The message was sent to them, whoever has the number now."""
        await store.record(ACC, [dated(ANN_LID, ANN, 1)])
        await sent(store, queued(), wa_id(1))
        await store.record(ACC, [dated(EVE_LID, ANN, 5)])
        await store.record(ACC, [mark(1, ReceiptMark.READ, thread=ANN_LID_THREAD, by=ANN_LID)])
        (entry,) = await store.entries(ACC)
        assert entry.state is MessageStatus.READ
        await store.record(ACC, [mark(1, ReceiptMark.PLAYED, by=ANN)])
        (entry,) = await store.entries(ACC)
        assert entry.state is MessageStatus.READ

    async def test_the_next_owner_is_another_person(self, store: Store) -> None:
        """What was written before moves to the former owner's LID, and on to the next number."""
        before = [*arrival(1, ANN), *arrival(2, GROUP, sender=ANN)]
        await store.record(ACC, [dated(ANN_LID, ANN, 1), *before])
        await store.record(ACC, [dated(EVE_LID, ANN, 5), *arrival(3, ANN)])
        assert (await one_message(store)).content.text == "text 3"
        assert (await one_message(store, ANN_LID_THREAD)).content.text == "text 1"
        assert (await one_message(store, GROUP_THREAD)).sender == str(ANN_LID)
        await store.record(ACC, [dated(ANN_LID, ANN, 4)])  # it is late
        assert (await one_message(store, ANN_LID_THREAD)).content.text == "text 1"
        await store.record(ACC, [dated(ANN_LID, NEW, 7)])
        assert (await one_message(store, NEW_THREAD)).content.text == "text 1"
        assert (await one_message(store, GROUP_THREAD)).sender == str(NEW)
        assert (await one_message(store)).content.text == "text 3"

    @pytest.mark.parametrize("spelling_first", [True, False])
    async def test_a_spelling_is_the_same_person(self, store: Store, spelling_first: bool) -> None:
        """Two threads become one, and the id of the other leads to it."""
        put = PutNumber(str(NEW), str(ANN_LID), NOON, asked=True)
        changes: list[Change] = [*arrival(1, NEW, from_me=True), *arrival(2, ANN), ALIAS]
        await store.record(ACC, [put, *changes] if spelling_first else [*changes, put])
        assert [t.id for t in await store.threads(ACC, limit=9)] == [ANN_THREAD]
        assert await store.thread(NEW_THREAD) == await one_thread(store)
        assert await store.recipient(ACC, NEW) == Recipient(ANN, known=True)

    async def test_whom_a_number_belongs_to(self, store: Store) -> None:
        """Known are LIDs, their numbers, groups, and who has written; not a number that somebody had before."""
        assert await store.recipient(ACC, ANN) == Recipient(ANN, known=False)
        await store.record(ACC, arrival(1, ANN, from_me=True))
        assert await store.recipient(ACC, ANN) == Recipient(ANN, known=False)
        assert await store.recipient(ACC, GROUP) == Recipient(GROUP, known=True)
        assert await store.recipient(ACC, ANN_LID) == Recipient(ANN_LID, known=True)
        await store.record(ACC, [dated(ANN_LID, ANN, 1), *arrival(2, BOB)])
        assert await store.recipient(ACC, ANN) == Recipient(ANN, known=True)
        assert await store.recipient(ACC, ANN_LID) == Recipient(ANN, known=True)
        assert await store.recipient(ACC, BOB) == Recipient(BOB, known=True)
        await store.record(ACC, [dated(ANN_LID, NEW, 2)])
        assert await store.recipient(ACC, ANN) == Recipient(ANN, known=False)

    async def test_a_spelling_is_asked_for_again_after_a_change(self, store: Store) -> None:
        """Another person may have it now."""
        put = PutNumber("40700000004@s.whatsapp.net", str(ANN_LID), NOON, asked=True)
        await store.record(ACC, [dated(ANN_LID, ANN, 1), put, dated(ANN_LID, NEW, 2)])
        spelling = Jid.parse(put.number)
        assert await store.recipient(ACC, spelling) == Recipient(spelling, known=False)

    async def test_a_present_number_is_not_another_spelling(self, store: Store) -> None:
        """A report about another person does not take it away."""
        await store.record(ACC, [dated(ANN_LID, ANN, 1), *arrival(1, ANN)])
        await store.record(ACC, [PutNumber(str(ANN), str(EVE_LID), NOON, asked=True)])
        assert (await one_message(store)).chat == str(ANN)

    async def test_an_entry_of_another_program_is_for_the_person(self, store: Store) -> None:
        """It names the number in the spelling that was asked for."""
        await store.record(ACC, [PutNumber(str(NEW), str(ANN), NOON, asked=True)])
        entry = (await store.enqueue(queued(to=NEW))).entry
        stored = await store.entry(entry.id)
        assert stored is not None
        assert (stored.to, stored.asked) == (str(ANN), str(NEW))
