"""The contract of facts about chats: names, read positions, disappearing messages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from tests.contracts.world import (
    ACC,
    ANN,
    ANN_THREAD,
    GROUP,
    NOON,
    OneStore,
    arrival,
    contents,
    one_thread,
    queued,
)
from wad.core.change import Change, PutChat
from wad.core.jid import ThreadId
from wad.store.port import Store


def chat(
    name: str = "",
    *,
    push_name: str = "",
    name_s: int = 0,
    read_s: int | None = None,
    unread: int = 0,
    unread_s: int | None = None,
) -> PutChat:
    """A fact about the chat with Ann; times in seconds after noon."""
    read_ms = 0 if read_s is None else NOON + read_s * 1000
    unread_ms = 0 if unread_s is None else NOON + unread_s * 1000
    return PutChat(
        ANN_THREAD,
        str(ANN),
        name=name,
        push_name=push_name,
        name_ms=NOON + name_s * 1000,
        read_ms=read_ms,
        unread=unread,
        unread_ms=unread_ms,
    )


class ChatContract(OneStore):
    """Names, reading, expiration."""

    # --- names ----------------------------------------------------------------------------------------

    async def test_facts_of_a_chat_create_no_thread(self, store: Store) -> None:
        """A contact is not a thread; the replaced backend showed all of them with the current time."""
        await store.record(ACC, [chat("Ann", read_s=5)])
        assert await contents(store) == {}
        assert await store.thread(ANN_THREAD) is None
        assert (await store.totals(ACC)).threads == 0

    @pytest.mark.parametrize("chat_first", [True, False])
    async def test_the_phones_name_overrides_the_push_name(
        self, store: Store, chat_first: bool
    ) -> None:
        """In any order, however new the push name is."""
        named, wrote = [chat("Ann Smith")], arrival(9, push_name="annie")
        await store.record(ACC, [*named, *wrote] if chat_first else [*wrote, *named])
        assert (await one_thread(store)).name == "Ann Smith"

    @pytest.mark.parametrize("order", [(1, 2), (2, 1)])
    async def test_the_newest_name_counts(self, store: Store, order: Sequence[int]) -> None:
        """A later history may contain an older one."""
        names = {1: chat("Old", name_s=1), 2: chat("New", name_s=2)}
        await store.record(ACC, [*arrival(1), *(names[number] for number in order), chat("")])
        assert (await one_thread(store)).name == "New"

    async def test_a_push_name_without_a_time_is_better_than_none(self, store: Store) -> None:
        """The history has push names; that of a later message overrides it."""
        await store.record(ACC, [*arrival(1), PutChat(ANN_THREAD, str(ANN), push_name="zoe")])
        assert (await one_thread(store)).name == "zoe"
        await store.record(ACC, arrival(2, push_name="Ann"))
        assert (await one_thread(store)).name == "Ann"

    async def test_a_group_has_its_subject(self, store: Store) -> None:
        """Its members' names do not count."""
        thread = str(ThreadId.make(ACC, GROUP))
        await store.record(ACC, arrival(1, GROUP, sender=ANN, push_name="Ann"))
        await store.record(ACC, [PutChat(thread, str(GROUP), name="Friends", name_ms=NOON)])
        assert (await one_thread(store, thread)).name == "Friends"

    @pytest.mark.parametrize("order", [(1, 2), (2, 1)])
    async def test_the_newest_expiration_counts(self, store: Store, order: Sequence[int]) -> None:
        """0 turns it off again."""
        changes = {
            1: PutChat(ANN_THREAD, str(ANN), expires_s=86400, expires_ms=NOON),
            2: PutChat(ANN_THREAD, str(ANN), expires_s=0, expires_ms=NOON + 5),
        }
        await store.record(ACC, [*arrival(1), changes[1]])
        assert (await one_thread(store)).expires_s == 86400
        await store.record(ACC, [changes[number] for number in order])
        assert (await one_thread(store)).expires_s == 0

    # --- reading --------------------------------------------------------------------------------------

    async def test_reading_sets_unread_to_zero(self, store: Store) -> None:
        """`mark_read` is idempotent, and later messages are unread again."""
        await store.record(ACC, arrival(1))
        await store.mark_read(ANN_THREAD)
        await store.mark_read(ANN_THREAD)
        assert (await one_thread(store)).unread == 0
        await store.record(ACC, [*arrival(1), *arrival(2)])
        assert (await one_thread(store)).unread == 1

    async def test_reading_an_unknown_thread_creates_none(self, store: Store) -> None:
        """`mark_read` never creates a thread."""
        await store.mark_read(ANN_THREAD)
        assert await store.thread(ANN_THREAD) is None

    @pytest.mark.parametrize("read_first", [True, False])
    async def test_messages_read_on_the_phone_are_read(
        self, store: Store, read_first: bool
    ) -> None:
        """All up to that time, also later arrivals; none after it."""
        read, wrote = [chat(read_s=2)], [*arrival(1), *arrival(2), *arrival(3)]
        await store.record(ACC, [*read, *wrote] if read_first else [*wrote, *read])
        assert (await one_thread(store)).unread == 1
        await store.record(ACC, [chat(read_s=1)])
        assert (await one_thread(store)).unread == 1

    @pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
    async def test_writing_on_the_phone_marks_as_read(
        self, store: Store, order: Sequence[int]
    ) -> None:
        """Only messages after our own one are unread."""
        for number in order:
            await store.record(ACC, arrival(number, from_me=number == 2))
        assert (await one_thread(store)).unread == 1

    async def test_a_queued_message_reads_nothing(self, store: Store) -> None:
        """A program that answers has not shown the message to a person."""
        await store.record(ACC, arrival(1))
        await store.enqueue(queued(created_ms=NOON + 9000))
        assert (await one_thread(store)).unread == 1

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    async def test_the_history_has_the_number_of_unread(
        self, store: Store, order: Sequence[int]
    ) -> None:
        """Of the messages up to that time at most this number, of later ones all; chunks may arrive in any order."""
        changes: list[list[Change]] = [
            [chat(unread=2, unread_s=4)],
            [*arrival(1), *arrival(2), *arrival(3), *arrival(4)],
            arrival(5),
        ]
        for number in order:
            await store.record(ACC, changes[number])
        assert (await one_thread(store)).unread == 3
        await store.record(ACC, [chat(read_s=3)])
        assert (await one_thread(store)).unread == 2

    @pytest.mark.parametrize("order", [(1, 2), (2, 1)])
    async def test_the_newest_number_of_unread_counts(
        self, store: Store, order: Sequence[int]
    ) -> None:
        """Of two with the same time the smaller: no message arrived since, so some were read."""
        changes = {1: chat(unread=3, unread_s=5), 2: chat(unread=1, unread_s=5)}
        await store.record(ACC, [change for number in range(1, 5) for change in arrival(number)])
        await store.record(ACC, [changes[number] for number in order])
        await store.record(ACC, [chat(unread=4, unread_s=2)])
        assert (await one_thread(store)).unread == 1

    async def test_reading_overrides_the_history(self, store: Store) -> None:
        """After `mark_read` no stored message is unread."""
        await store.record(ACC, [*arrival(1), *arrival(2), chat(unread=1, unread_s=1)])
        assert (await one_thread(store)).unread == 2
        await store.mark_read(ANN_THREAD)
        assert (await one_thread(store)).unread == 0
