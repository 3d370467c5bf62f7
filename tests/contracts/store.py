"""The contract of every store: the docstrings of `wad.store.port`, sentence by sentence.

An adapter's test module subclasses `StoreContract` and gives the fixture `fresh`: a function that returns an async
context manager of an empty store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.contracts.aliases import AliasContract, NumberContract
from tests.contracts.amendments import AmendmentContract
from tests.contracts.chats import ChatContract
from tests.contracts.history import HistoryContract
from tests.contracts.order import OrderContract
from tests.contracts.own_amendments import OwnAmendmentContract
from tests.contracts.queue import QueueContract
from tests.contracts.world import (
    ACC,
    ANN,
    ANN_LID,
    ANN_LID_THREAD,
    ANN_THREAD,
    BOB,
    CLAIMED,
    EPOCH,
    GROUP,
    NOON,
    OTHER,
    S,
    a_status,
    arrival,
    contents,
    mark,
    one_message,
    one_thread,
    queued,
    sending,
    text,
    wa_id,
)
from wad.core.addresses import Addresses
from wad.core.change import PutAlias, PutMessage
from wad.core.content import Call, CallOutcome, Contact, LinkPreview, Location, Poll, Quote
from wad.core.errors import Conflict, Fenced, NotFound
from wad.core.event import Content, MediaContent, MessageKind, MessageReceived, ReceiptMark
from wad.core.jid import Jid, ThreadId
from wad.core.message import Message, MessageStatus, Thread
from wad.core.outbox import Cancel, Entry, NotSent, Outcome, Refused, Retry, Sent, Unknown
from wad.core.plan import plan
from wad.store.port import Cursor, PagePosition, Store


class StoreContract(
    AmendmentContract,
    ChatContract,
    OrderContract,
    OwnAmendmentContract,
    HistoryContract,
    AliasContract,
    NumberContract,
    QueueContract,
):
    """The suite.  Every test gets an empty store."""

    # --- record: messages -----------------------------------------------------------------------

    async def test_a_message_is_stored_completely(self, store: Store) -> None:
        """Every field that was written is read."""
        content = Content(
            MessageKind.IMAGE, "look", media=MediaContent("image/png", "a.png", 77, key=b"k", thumbnail=b"t"),
            target="T",
            ephemeral=True, mentions=("1@lid",), quote=Quote("2@lid", "before"), link=LinkPreview("http://a"),
            location=Location(1.5, -2.5, "Here"), contacts=(Contact("Eve", "BEGIN"),), poll=Poll("?", ("a", "b"), 1),
        )  # fmt: skip
        changes = arrival(1, content=content, push_name="Ann")
        done = await store.record(ACC, changes)
        (put,) = [change for change in changes if isinstance(change, PutMessage)]
        assert await one_message(store) == put.message
        assert done.new == (put.message,)
        assert done.known == 0

    async def test_a_message_shows_in_its_thread(self, store: Store) -> None:
        """The thread has its newest message."""
        await store.record(ACC, arrival(1, push_name="Ann"))
        assert await one_thread(store) == Thread(
            id=ANN_THREAD,
            account=ACC,
            chat=str(ANN),
            name="Ann",
            last_ms=NOON + 1000,
            last_text="text 1",
            last_from_me=False,
            last_sender="Ann",
            unread=1,
            messages=1,
        )

    async def test_the_same_message_again_changes_nothing(self, store: Store) -> None:
        """A repeated message is a duplicate, and not counted again."""
        await store.record(ACC, arrival(1))
        before = await contents(store)
        done = await store.record(ACC, [*arrival(1), *arrival(1)])
        assert (done.new, done.known) == ((), 2)
        assert await contents(store) == before

    @pytest.mark.parametrize("times", [(NOON + 1000, 0), (0, NOON + 1000)])
    async def test_a_copy_without_a_time_moves_no_message(
        self, store: Store, times: Sequence[int]
    ) -> None:
        """In either order it is the newest message, and unread."""
        await store.record(ACC, arrival(0))
        for at_ms in times:
            event = MessageReceived(wa_id(1), ANN, ANN, at_ms, Content(MessageKind.TEXT, "again"))
            await store.record(ACC, plan(ACC, event, Addresses()))
        found = await store.messages(ANN_THREAD, limit=10)
        assert [message.at_ms for message in found] == [NOON + 1000, NOON]
        thread = await one_thread(store)
        assert (thread.last_ms, thread.last_text) == (NOON + 1000, "again")
        assert (thread.messages, thread.unread) == (2, 2)

    async def test_a_repetition_within_a_batch_is_known(self, store: Store) -> None:
        """Changes are applied in order, also within one batch."""
        done = await store.record(ACC, [*arrival(1), *arrival(1), *arrival(2)])
        assert (len(done.new), done.known) == (2, 1)

    @pytest.mark.parametrize("numbers", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
    async def test_the_newest_message_is_the_last_of_its_thread(
        self, store: Store, numbers: Sequence[int]
    ) -> None:
        """Also if the history arrives newest first."""
        for number in numbers:
            await store.record(ACC, arrival(number, from_me=number == 3))
        thread = await one_thread(store)
        assert (thread.last_ms, thread.last_text) == (NOON + 3000, "text 3")
        assert thread.last_from_me
        assert thread.messages == 3

    @pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
    async def test_messages_of_one_moment_are_ordered_by_id(
        self, store: Store, numbers: Sequence[int]
    ) -> None:
        """Of two messages of the same millisecond the greater id is the last, in any order of arrival."""
        changes = {number: arrival(number, at_ms=NOON) for number in numbers}
        for number in numbers:
            await store.record(ACC, changes[number])
        first, second = await store.messages(ANN_THREAD, limit=10)
        assert first.id > second.id
        assert (await one_thread(store)).last_text == first.content.text

    @pytest.mark.parametrize("numbers", [(1, 2, 3), (3, 1, 2)])
    async def test_messages_of_one_second_stay_in_the_order_they_were_seen(
        self, store: Store, numbers: Sequence[int]
    ) -> None:
        """WhatsApp's times have whole seconds: `seen` decides before the id, in the list and in the thread."""
        for number in numbers:
            await store.record(ACC, arrival(number, at_ms=NOON, seen=number))
        texts = [m.content.text for m in await store.messages(ANN_THREAD, limit=9)]
        assert texts == ["text 3", "text 2", "text 1"]
        assert (await one_thread(store)).last_text == "text 3"

    async def test_a_message_without_text_has_a_preview(self, store: Store) -> None:
        """The list of threads shows its kind."""
        await store.record(ACC, arrival(1, content=Content(MessageKind.AUDIO)))
        assert (await one_thread(store)).last_text == "[audio]"

    @pytest.mark.parametrize("numbers", [(1, 2, 3), (3, 2, 1), (2, 1, 3)])
    async def test_a_thread_is_named_by_the_newest_push_name(
        self, store: Store, numbers: Sequence[int]
    ) -> None:
        """An older name, and a message without one, do not replace it."""
        names = {1: "Old Ann", 2: "Ann", 3: ""}
        for number in numbers:
            await store.record(ACC, arrival(number, push_name=names[number]))
        assert (await one_thread(store)).name == "Ann"

    async def test_our_own_name_names_no_thread(self, store: Store) -> None:
        """Only the other party's push name counts."""
        await store.record(ACC, arrival(1, from_me=True, push_name="Me"))
        assert (await one_thread(store)).name == ""

    async def test_a_member_does_not_name_a_group(self, store: Store) -> None:
        """A group's thread has no push name."""
        await store.record(ACC, arrival(1, GROUP, sender=ANN, push_name="Ann"))
        assert (await one_thread(store, str(ThreadId.make(ACC, GROUP)))).name == ""

    async def test_direction_thread_and_account_distinguish_messages(self, store: Store) -> None:
        """The same WhatsApp id may occur in both directions, in two threads, and in two accounts."""
        done = await store.record(
            ACC, [*arrival(1), *arrival(1, from_me=True), *arrival(1, BOB), *arrival(1, GROUP)]
        )
        other = await store.record(OTHER, arrival(1, account=OTHER))
        assert (len(done.new), len(other.new)) == (4, 1)

    # --- record: placeholders -----------------------------------------------------------------------

    async def test_a_placeholder_is_replaced_by_the_message(self, store: Store) -> None:
        """An undecryptable message is shown once it is decrypted, and counted once."""
        lost = Content(MessageKind.UNDECRYPTABLE, detail="lost in a crash")
        await store.record(ACC, arrival(1, content=lost))
        done = await store.record(ACC, arrival(1, push_name="Ann"))
        assert [message.content.text for message in done.new] == ["text 1"]
        assert (await one_message(store)).content == text("text 1")
        thread = await one_thread(store)
        assert (thread.messages, thread.unread) == (1, 1)
        assert (thread.last_text, thread.name) == ("text 1", "Ann")

    async def test_lost_messages_are_counted(self, store: Store) -> None:
        """Until they arrive after all; separately for each account."""
        lost = Content(MessageKind.LOST, detail="lost in a crash")
        assert (await store.totals(ACC)).lost == 0
        done = await store.record(
            ACC, [*arrival(1, content=lost), *arrival(2, content=lost), *arrival(3)]
        )
        assert done.lost == 2
        await store.record(OTHER, arrival(4, account=OTHER, content=lost))
        assert (await store.totals(ACC)).lost == 2
        done = await store.record(ACC, [*arrival(1), *arrival(1, content=lost)])
        assert done.lost == -1
        assert (await store.totals(ACC)).lost == 1

    async def test_a_call_ends(self, store: Store) -> None:
        """It is stored at its beginning, once, with its result, in any order of arrival."""
        offered = Content(MessageKind.CALL, call=Call(CallOutcome.OFFERED))
        missed = Content(MessageKind.CALL, call=Call(CallOutcome.MISSED))
        begins, ends = arrival(1, content=offered), arrival(1, content=missed, at_ms=NOON + 90_000)
        for changes in (ends, begins, ends):
            await store.record(ACC, changes)
        message = await one_message(store)
        assert (message.content, message.at_ms) == (missed, NOON + 1000)
        thread = await one_thread(store)
        assert (thread.last_text, thread.last_ms, thread.messages) == (
            "[call: missed]",
            NOON + 1000,
            1,
        )

    async def test_a_placeholder_replaces_nothing(self, store: Store) -> None:
        """A readable message stays, whatever arrives later."""
        await store.record(ACC, arrival(1))
        done = await store.record(ACC, arrival(1, content=Content(MessageKind.UNDECRYPTABLE)))
        assert (done.new, done.known) == ((), 1)
        assert (await one_message(store)).content == text("text 1")

    # --- record: cursors ------------------------------------------------------------------------------

    async def test_a_new_store_has_no_cursor(self, store: Store) -> None:
        """A spool that was never read has none."""
        assert await store.cursor(ACC) is None

    async def test_the_cursor_moves_with_the_changes(self, store: Store) -> None:
        """Each account has its own; a batch without changes moves it as well."""
        await store.record(ACC, arrival(1), Cursor("g", 5))
        await store.record(OTHER, [], Cursor("h", 7))
        assert await store.cursor(ACC) == Cursor("g", 5)
        assert await store.cursor(OTHER) == Cursor("h", 7)

    async def test_a_new_spool_replaces_the_cursor(self, store: Store) -> None:
        """Another generation replaces the cursor although its numbers are smaller."""
        await store.record(ACC, [], Cursor("old", 900))
        await store.record(ACC, [], Cursor("new", 2))
        assert await store.cursor(ACC) == Cursor("new", 2)

    async def test_changes_without_a_cursor_leave_it(self, store: Store) -> None:
        """Only the reader of the spool moves its cursor."""
        await store.record(ACC, [], Cursor("g", 5))
        await store.record(ACC, arrival(1))
        assert await store.cursor(ACC) == Cursor("g", 5)

    # --- record: receipts -----------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("what", "status"),
        [
            (ReceiptMark.DELIVERED, S.DELIVERED),
            (ReceiptMark.READ, S.READ),
            (ReceiptMark.PLAYED, S.PLAYED),
        ],
    )
    async def test_a_receipt_advances_a_message(
        self, store: Store, what: ReceiptMark, status: MessageStatus
    ) -> None:
        """Delivered, read and played."""
        await store.record(ACC, [*arrival(1, from_me=True), mark(1, what)])
        assert (await one_message(store)).status is status

    async def test_a_receipt_may_come_before_its_message(self, store: Store) -> None:
        """It is stored, creates nothing, and is applied when the message arrives."""
        await store.record(ACC, [mark(1, ReceiptMark.READ)])
        assert await contents(store) == {}
        assert (await store.totals(ACC)).messages == 0
        await store.record(ACC, arrival(1, from_me=True))
        assert (await one_message(store)).status is S.READ

    async def test_a_receipt_reverts_nothing(self, store: Store) -> None:
        """`delivered` after `read` changes nothing."""
        await store.record(ACC, [*arrival(1, from_me=True), mark(1, ReceiptMark.READ)])
        await store.record(ACC, [mark(1, ReceiptMark.DELIVERED)])
        assert (await one_message(store)).status is S.READ

    async def test_a_receipt_finds_its_message_under_either_address(self, store: Store) -> None:
        """The receipt may name the chat by LID although the thread is named by number."""
        await store.record(ACC, arrival(1, from_me=True))
        await store.record(ACC, [mark(1, ReceiptMark.DELIVERED, thread=ANN_LID_THREAD, by=ANN_LID)])
        assert (await one_message(store)).status is S.SENT  # perhaps somebody else's
        await store.record(ACC, [PutAlias(str(ANN_LID), str(ANN))])
        assert (await one_message(store)).status is S.DELIVERED
        await store.record(ACC, [mark(1, ReceiptMark.READ, thread=ANN_LID_THREAD, by=ANN_LID)])
        assert (await one_message(store)).status is S.READ

    async def test_a_receipt_of_another_chat_changes_nothing(self, store: Store) -> None:
        """Anyone may send a receipt with the id of a message to somebody else, also before the message is stored."""
        others = [
            mark(n, ReceiptMark.READ, thread=str(ThreadId.make(ACC, BOB)), by=BOB) for n in (1, 2)
        ]
        await store.record(ACC, [others[0], *arrival(1, from_me=True)])
        await sending(store, queued())
        await store.settle(queued().id, Sent(wa_id(2), NOON), epoch=EPOCH)
        await store.record(ACC, [others[1]])
        found = {m.wa_id: m.status for m in await store.messages(ANN_THREAD, limit=9)}
        assert found == {wa_id(1): S.SENT, wa_id(2): S.SENT}

    async def test_a_receipt_applies_to_our_messages_only(self, store: Store) -> None:
        """An inbound message with the same id, and another account's, are not changed."""
        await store.record(ACC, [*arrival(1), *arrival(2, from_me=True)])
        await store.record(OTHER, arrival(1, account=OTHER, from_me=True))
        await store.record(ACC, [mark(1, ReceiptMark.READ)])
        found = {m.wa_id: m.status for m in await store.messages(ANN_THREAD, limit=9)}
        assert found == {wa_id(1): S.DELIVERED, wa_id(2): S.SENT}
        elsewhere = await one_message(store, str(ThreadId.make(OTHER, ANN)))
        assert elsewhere.status is S.SENT

    # --- reading --------------------------------------------------------------------------------------

    async def test_an_unknown_thread_is_none(self, store: Store) -> None:
        """A thread exists from its first message on."""
        assert await store.thread(ANN_THREAD) is None
        assert await store.messages(ANN_THREAD, limit=5) == []

    async def test_threads_come_newest_first(self, store: Store) -> None:
        """Of one account, or of all."""
        await store.record(
            ACC, [*arrival(2, ANN), *arrival(9, BOB), *arrival(4, GROUP, sender=ANN)]
        )
        await store.record(OTHER, arrival(5, ANN, account=OTHER))
        mine = [(t.account, t.chat) for t in await store.threads(ACC, limit=9)]
        assert mine == [(ACC, str(BOB)), (ACC, str(GROUP)), (ACC, str(ANN))]
        every = [t.last_ms for t in await store.threads(None, limit=9)]
        assert every == [NOON + 9000, NOON + 5000, NOON + 4000, NOON + 2000]

    @pytest.mark.parametrize("account", [ACC, None])
    async def test_pages_of_threads_join_without_gap(
        self, store: Store, account: str | None
    ) -> None:
        """Each page starts strictly after the one before, also among threads of one time."""
        for number in range(11):
            chat = Jid.parse(f"4070000{number:04}@s.whatsapp.net")
            await store.record(ACC, arrival(number, chat, at_ms=NOON + number // 4))
        whole = await store.threads(account, limit=100)
        pages: list[Thread] = []
        while page := await store.threads(
            account,
            limit=3,
            before=PagePosition(pages[-1].last_ms, pages[-1].id) if pages else None,
        ):
            assert len(page) <= 3
            pages += page
        assert len(pages) == 11
        assert pages == whole

    async def test_pages_of_messages_join_without_gap(self, store: Store) -> None:
        """Newest first, strictly before the page's position, also among messages of one time."""
        for number in range(23):
            changes = arrival(number, at_ms=NOON + number // 8, seen=number // 3)
            await store.record(ACC, changes)
        await store.record(ACC, arrival(99, BOB))
        whole = await store.messages(ANN_THREAD, limit=100)
        assert [(m.at_ms, m.seen, m.id) for m in whole] == sorted(
            ((m.at_ms, m.seen, m.id) for m in whole), reverse=True
        )
        pages: list[Message] = []
        while page := await store.messages(
            ANN_THREAD,
            limit=4,
            before=PagePosition(pages[-1].at_ms, pages[-1].id, pages[-1].seen) if pages else None,
        ):
            assert len(page) <= 4
            pages += page
        assert len(pages) == 23
        assert pages == whole

    async def test_totals_count_one_account(self, store: Store) -> None:
        """Threads, messages, and the outbox by state."""
        await store.record(ACC, [*arrival(1), *arrival(2), *arrival(3, BOB)])
        await store.record(OTHER, arrival(1, account=OTHER))
        await store.enqueue(queued("a"))
        await store.enqueue(queued("b"))
        await sending(store, queued("c"))
        totals = await store.totals(ACC)
        assert (totals.threads, totals.messages) == (2, 6)
        assert {state: n for state, n in totals.outbox.items() if n} == {S.QUEUED: 2, S.SENDING: 1}

    async def test_totals_of_an_empty_account_are_zero(self, store: Store) -> None:
        """Nothing is stored, so nothing is counted."""
        totals = await store.totals(ACC)
        assert (totals.threads, totals.messages, sum(totals.outbox.values())) == (0, 0, 0)

    # --- exclusive writes -----------------------------------------------------------------------------

    async def test_the_newest_epoch_is_remembered(self, store: Store) -> None:
        """0 at first; the same epoch may be fenced again, an older one is refused."""
        assert await store.epoch() == 0
        await store.fence(EPOCH)
        await store.fence(EPOCH)
        with pytest.raises(Fenced):
            await store.fence(EPOCH - 1)
        assert await store.epoch() == EPOCH

    async def test_an_old_epoch_settles_nothing(self, store: Store) -> None:
        """A holder whose lease is over changes no entry."""
        await store.enqueue(queued())
        await store.fence(EPOCH + 1)
        with pytest.raises(Fenced):
            await store.settle(queued().id, CLAIMED, epoch=EPOCH)
        assert await store.entry(queued().id) == queued()

    async def test_an_old_epoch_publishes_nothing(self, store: Store) -> None:
        """It neither changes nor withdraws an account's status."""
        await store.put_account(a_status(), epoch=EPOCH)
        await store.fence(EPOCH + 1)
        with pytest.raises(Fenced):
            await store.put_account(a_status(state="stopped"), epoch=EPOCH)
        with pytest.raises(Fenced):
            await store.forget_account(ACC, epoch=EPOCH)
        assert await store.accounts() == [a_status()]

    async def test_an_account_has_one_status(self, store: Store) -> None:
        """The latest; publishing it again changes nothing."""
        for state in ("connecting", "connected", "connected"):
            await store.put_account(a_status(state=state), epoch=EPOCH)
        await store.put_account(a_status(OTHER), epoch=EPOCH)
        found = sorted(await store.accounts(), key=lambda status: status.account)
        assert found == [a_status(), a_status(OTHER)]

    async def test_a_forgotten_account_keeps_its_messages(self, store: Store) -> None:
        """Forgetting is idempotent, and deletes only the status."""
        await store.record(ACC, arrival(1))
        await store.put_account(a_status(), epoch=EPOCH)
        await store.forget_account(ACC, epoch=EPOCH)
        await store.forget_account(ACC, epoch=EPOCH)
        assert await store.accounts() == []
        assert (await store.totals(ACC)).messages == 1

    # --- outbox: queueing -------------------------------------------------------------------------------

    async def test_a_queued_message_shows_in_its_thread(self, store: Store) -> None:
        """Its document's id is the entry's, its status is queued."""
        done = await store.enqueue(queued())
        assert (done.entry, done.duplicate) == (queued(), False)
        message = await one_message(store)
        assert (message.id, message.status, message.from_me) == (queued().id, S.QUEUED, True)
        assert (message.content, message.client_id) == (text("hello"), "k1")
        thread = await one_thread(store)
        assert (thread.last_text, thread.last_from_me, thread.unread) == ("hello", True, 0)

    async def test_the_same_key_is_the_same_message(self, store: Store) -> None:
        """The stored entry is returned, and nothing is queued."""
        sent = await sending(store, queued())
        done = await store.enqueue(queued(created_ms=NOON + 5))
        assert (done.entry, done.duplicate) == (sent, True)
        assert (await store.totals(ACC)).messages == 1

    @pytest.mark.parametrize("other", [queued(body="bye"), queued(to=BOB)])
    async def test_a_key_cannot_be_used_twice(self, store: Store, other: Entry) -> None:
        """For another text or another recipient it is a conflict, and nothing is queued."""
        await store.enqueue(queued())
        with pytest.raises(Conflict):
            await store.enqueue(other)
        assert (await store.totals(ACC)).messages == 1

    async def test_one_of_many_at_once_is_new(self, store: Store) -> None:
        """The same key, queued ten times at once, is one message."""
        done = await asyncio.gather(*(store.enqueue(queued()) for _ in range(10)))
        assert [one.duplicate for one in done].count(False) == 1
        assert (await one_message(store)).id == queued().id

    async def test_messages_are_sent_in_the_order_of_enqueuing(self, store: Store) -> None:
        """Whatever their times and ids; each account has its own queue."""
        for number, key in enumerate("cab"):
            await store.enqueue(queued(key, created_ms=NOON - number))
        await store.enqueue(queued("z", account=OTHER))
        order = []
        while (entry := await store.next_entry(ACC)) is not None:
            order.append(entry.client_id)
            await store.settle(entry.id, CLAIMED, epoch=EPOCH)
        assert order == ["c", "a", "b"]

    async def test_an_unsent_entry_keeps_its_position(self, store: Store) -> None:
        """After `NotSent` it is the oldest queued entry again."""
        await store.enqueue(queued("a"))
        await store.enqueue(queued("b"))
        await store.settle(queued("a").id, CLAIMED, epoch=EPOCH)
        await store.settle(queued("a").id, NotSent("offline"), epoch=EPOCH)
        entry = await store.next_entry(ACC)
        assert entry is not None
        assert (entry.client_id, entry.attempts) == ("a", 0)

    async def test_an_empty_queue_has_no_next(self, store: Store) -> None:
        """None, and no entry of an unknown id either."""
        assert await store.next_entry(ACC) is None
        assert await store.entry("nothing") is None

    async def test_entries_come_newest_first(self, store: Store) -> None:
        """By created_ms and id; of one account or all; in all states or some."""
        for number in range(6):
            await store.enqueue(queued(f"k{number}", created_ms=NOON + number // 2))
        await store.enqueue(queued("z", account=OTHER, created_ms=NOON + 9))
        await store.settle(queued("k3").id, CLAIMED, epoch=EPOCH)
        every = await store.entries(None)
        assert [(e.created_ms, e.id) for e in every] == sorted(
            ((e.created_ms, e.id) for e in every), reverse=True
        )
        assert len(every) == 7
        assert [e for e in every if e.account == ACC] == await store.entries(ACC)
        assert [e.client_id for e in await store.entries(ACC, states=[S.SENDING])] == ["k3"]
        assert len(await store.entries(None, states=[S.SENDING, S.QUEUED], limit=4)) == 4
        assert await store.entries(ACC, states=[S.FAILED]) == []

    @pytest.mark.parametrize("states", [(), (S.QUEUED,)])
    async def test_pages_of_entries_join_without_gap(
        self, store: Store, states: Sequence[MessageStatus]
    ) -> None:
        """Each page continues strictly after the one before."""
        for number in range(7):
            await store.enqueue(queued(f"k{number}", created_ms=NOON + number // 3))
        pages: list[Entry] = []
        while page := await store.entries(
            ACC,
            states=states,
            limit=2,
            before=PagePosition(pages[-1].created_ms, pages[-1].id) if pages else None,
        ):
            pages += page
        assert len(pages) == 7
        assert pages == await store.entries(ACC)

    # --- outbox: settling -------------------------------------------------------------------------------

    async def test_settling_needs_an_entry(self, store: Store) -> None:
        """An unknown entry is not found."""
        with pytest.raises(NotFound):
            await store.settle("nothing", CLAIMED, epoch=EPOCH)

    async def test_forbidden_transitions_are_refused(self, store: Store) -> None:
        """A transition that `outbox.advance` forbids is a conflict, and nothing changes."""
        await store.enqueue(queued())
        with pytest.raises(Conflict):
            await store.settle(queued().id, Sent(wa_id(1), NOON), epoch=EPOCH)
        assert await store.entry(queued().id) == queued()
        assert (await one_message(store)).status is S.QUEUED

    async def test_a_claim_is_stored(self, store: Store) -> None:
        """Holder, epoch and the attempt's secret are stored before anything is sent."""
        entry = await sending(store, queued())
        assert entry == await store.entry(entry.id)
        assert (entry.claim, entry.secret, entry.attempts) == (CLAIMED.claim, CLAIMED.secret, 1)
        assert (await one_message(store)).status is S.SENDING

    @pytest.mark.parametrize(
        ("outcome", "status"),
        [
            (Sent(wa_id(1), NOON), S.SENT),
            (NotSent("offline"), S.QUEUED),
            (Refused("no", "never"), S.FAILED),
            (Unknown(wa_id(1), "crash"), S.UNCERTAIN),
        ],
    )
    async def test_the_message_follows_its_entry(
        self, store: Store, outcome: Outcome, status: MessageStatus
    ) -> None:
        """Entry and message have one status."""
        await sending(store, queued())
        entry = await store.settle(queued().id, outcome, epoch=EPOCH)
        assert entry == await store.entry(entry.id)
        assert entry.state is status
        message = await one_message(store)
        assert (message.status, message.wa_id) == (status, entry.wa_id)

    async def test_a_sent_message_has_whatsapps_id_and_time(self, store: Store) -> None:
        """Its position in the thread is by WhatsApp's time, before or after messages that arrived meanwhile."""
        await sending(store, queued("early", "early"))
        await sending(store, queued("late", "late", created_ms=NOON + 1))
        await store.record(ACC, arrival(5))
        await store.settle(queued("late").id, Sent(wa_id(1), NOON + 9000), epoch=EPOCH)
        await store.settle(queued("early").id, Sent(wa_id(2), NOON - 9000), epoch=EPOCH)
        found = await store.messages(ANN_THREAD, limit=9)
        assert [m.content.text for m in found] == ["late", "text 5", "early"]
        thread = await one_thread(store)
        assert (thread.last_text, thread.last_ms, thread.last_from_me) == (
            "late",
            NOON + 9000,
            True,
        )
        assert {m.wa_id for m in found} >= {wa_id(1), wa_id(2)}

    async def test_a_message_moved_back_is_not_the_last_any_more(self, store: Store) -> None:
        """If WhatsApp's clock is behind ours, another message may be the newest after all."""
        await store.record(ACC, arrival(5))
        await sending(store, queued(created_ms=NOON + 9000))
        assert (await one_thread(store)).last_text == "hello"
        await store.settle(queued().id, Sent(wa_id(1), NOON), epoch=EPOCH)
        thread = await one_thread(store)
        assert (thread.last_text, thread.last_ms) == ("text 5", NOON + 5000)

    async def test_a_receipt_advances_entry_and_message(self, store: Store) -> None:
        """Delivered, then read."""
        await sending(store, queued())
        await store.settle(queued().id, Sent(wa_id(1), NOON), epoch=EPOCH)
        await store.record(ACC, [mark(1, ReceiptMark.DELIVERED)])
        entry = await store.entry(queued().id)
        assert entry is not None
        assert entry.state is S.DELIVERED
        await store.record(ACC, [mark(1, ReceiptMark.READ)])
        assert (await one_message(store)).status is S.READ

    async def test_a_receipt_may_come_before_settling(self, store: Store) -> None:
        """It is applied as soon as the entry has its WhatsApp id."""
        await sending(store, queued())
        await store.record(ACC, [mark(1, ReceiptMark.DELIVERED)])
        entry = await store.settle(queued().id, Sent(wa_id(1), NOON), epoch=EPOCH)
        assert entry.state is S.DELIVERED
        assert (await one_message(store)).status is S.DELIVERED

    async def test_a_receipt_settles_an_uncertain_entry(self, store: Store) -> None:
        """Whether it arrives before or after the crash was detected."""
        for key, number, early in (("a", 1, True), ("b", 2, False)):
            await sending(store, queued(key))
            if early:
                await store.record(ACC, [mark(number, ReceiptMark.READ)])
            await store.settle(queued(key).id, Unknown(wa_id(number), "crash"), epoch=EPOCH)
            if not early:
                await store.record(ACC, [mark(number, ReceiptMark.READ)])
            entry = await store.entry(queued(key).id)
            assert entry is not None
            assert (entry.state, entry.error) == (S.READ, "")

    # --- outbox: echoes ---------------------------------------------------------------------------------

    async def test_the_echo_of_a_sent_message_is_known(self, store: Store) -> None:
        """It creates no second document, and changes no position."""
        await sending(store, queued())
        await store.settle(queued().id, Sent(wa_id(1), NOON), epoch=EPOCH)
        before = await contents(store)
        done = await store.record(ACC, arrival(1, from_me=True, at_ms=NOON + 7))
        assert (done.new, done.known) == ((), 1)
        assert await contents(store) == before

    @pytest.mark.parametrize("chat", [ANN, ANN_LID])
    async def test_an_echo_settles_an_uncertain_entry(self, store: Store, chat: Jid) -> None:
        """Whatever the echo's spelling of the chat, the message was sent, at the echo's time."""
        await sending(store, queued())
        await store.settle(queued().id, Unknown(wa_id(1), "crash"), epoch=EPOCH)
        done = await store.record(ACC, arrival(1, chat, from_me=True))
        assert (done.new, done.known) == ((), 1)
        entry = await store.entry(queued().id)
        assert entry is not None
        assert (entry.state, entry.sent_ms, entry.error) == (S.SENT, NOON + 1000, "")
        assert (await one_message(store)).status is S.SENT

    @pytest.mark.parametrize("chat", [ANN, ANN_LID])
    @pytest.mark.parametrize("outcome", [Sent(wa_id(1), NOON + 1000), Unknown(wa_id(1), "crash")])
    async def test_an_echo_may_come_before_settling(
        self, store: Store, chat: Jid, outcome: Outcome
    ) -> None:
        """Its document is deleted when the entry's own document turns out to be the same message."""
        await sending(store, queued())
        await store.record(ACC, [*arrival(1, chat, from_me=True), mark(1, ReceiptMark.DELIVERED)])
        entry = await store.settle(queued().id, outcome, epoch=EPOCH)
        assert (entry.state, entry.sent_ms) == (S.DELIVERED, NOON + 1000)
        assert [list(messages) for messages in (await contents(store)).values()] == [
            [await one_message(store)]
        ]
        thread = await one_thread(store)
        assert (thread.messages, thread.last_ms, thread.last_text) == (1, NOON + 1000, "hello")
        done = await store.record(ACC, arrival(1, chat, from_me=True))
        assert (done.new, done.known) == ((), 1)

    async def test_evidence_settles_a_cancelled_entry(self, store: Store) -> None:
        """An uncertain message that an operator cancelled was sent after all."""
        await sending(store, queued())
        await store.settle(queued().id, Unknown(wa_id(1), "crash"), epoch=EPOCH)
        await store.settle(queued().id, Cancel(), epoch=EPOCH)
        await store.record(ACC, [mark(1, ReceiptMark.DELIVERED)])
        assert (await one_message(store)).status is S.DELIVERED

    async def test_a_message_sent_twice_shows_twice(self, store: Store) -> None:
        """An operator sends an uncertain message again, and then the first one's echo arrives: both are stored."""
        await sending(store, queued())
        await store.settle(queued().id, Unknown(wa_id(1), "crash"), epoch=EPOCH)
        await store.settle(queued().id, Retry(), epoch=EPOCH)
        done = await store.record(ACC, [*arrival(1, from_me=True), mark(1, ReceiptMark.READ)])
        assert len(done.new) == 1
        assert (await store.entry(queued().id)) is not None
        statuses = {m.id: m.status for m in await store.messages(ANN_THREAD, limit=9)}
        assert statuses == {queued().id: S.QUEUED, done.new[0].id: S.READ}
