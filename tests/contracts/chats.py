"""The contract of what is told of a chat itself: names, what was read, after which time messages disappear."""

from __future__ import annotations

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
from wad.core.change import PutChat
from wad.core.jid import ThreadId
from wad.store.port import Store


def chat(
    name: str = "", *, push_name: str = "", name_s: int = 0, read_s: int | None = None
) -> PutChat:
    """Something about the chat with Ann; times in seconds after noon."""
    read_ms = 0 if read_s is None else NOON + read_s * 1000
    return PutChat(
        ANN_THREAD,
        str(ANN),
        name=name,
        push_name=push_name,
        name_ms=NOON + name_s * 1000,
        read_ms=read_ms,
    )


class ChatContract(OneStore):
    """Names, reading, expiration."""

    # --- names ----------------------------------------------------------------------------------------

    async def test_what_is_told_of_a_chat_makes_no_thread(self, store: Store) -> None:
        """A contact is no conversation; the reference showed all of them, as of now."""
        await store.record(ACC, [chat("Ann", read_s=5)])
        assert await contents(store) == {}
        assert await store.thread(ANN_THREAD) is None
        assert (await store.totals(ACC)).threads == 0

    @pytest.mark.parametrize("chat_first", [True, False])
    async def test_the_phones_name_counts_more_than_the_push_name(
        self, store: Store, chat_first: bool
    ) -> None:
        """Whichever came first, and however new the push name is."""
        named, wrote = [chat("Ann Smith")], arrival(9, push_name="annie")
        await store.record(ACC, [*named, *wrote] if chat_first else [*wrote, *named])
        assert (await one_thread(store)).name == "Ann Smith"

    @pytest.mark.parametrize("order", [(1, 2), (2, 1)])
    async def test_the_newest_name_counts(self, store: Store, order: Sequence[int]) -> None:
        """A later history may bring an older one."""
        names = {1: chat("Old", name_s=1), 2: chat("New", name_s=2)}
        await store.record(ACC, [*arrival(1), *(names[number] for number in order), chat("")])
        assert (await one_thread(store)).name == "New"

    async def test_a_push_name_without_a_time_is_better_than_none(self, store: Store) -> None:
        """History tells what people call themselves; what they wrote since counts more."""
        await store.record(ACC, [*arrival(1), PutChat(ANN_THREAD, str(ANN), push_name="zoe")])
        assert (await one_thread(store)).name == "zoe"
        await store.record(ACC, arrival(2, push_name="Ann"))
        assert (await one_thread(store)).name == "Ann"

    async def test_a_group_has_its_subject(self, store: Store) -> None:
        """Its members' names don't count."""
        thread = str(ThreadId.make(ACC, GROUP))
        await store.record(ACC, arrival(1, GROUP, sender=ANN, push_name="Ann"))
        await store.record(ACC, [PutChat(thread, str(GROUP), name="Friends", name_ms=NOON)])
        assert (await one_thread(store, thread)).name == "Friends"

    @pytest.mark.parametrize("order", [(1, 2), (2, 1)])
    async def test_the_newest_expiration_counts(self, store: Store, order: Sequence[int]) -> None:
        """0 turns it off again."""
        told = {
            1: PutChat(ANN_THREAD, str(ANN), expires_s=86400, expires_ms=NOON),
            2: PutChat(ANN_THREAD, str(ANN), expires_s=0, expires_ms=NOON + 5),
        }
        await store.record(ACC, [*arrival(1), told[1]])
        assert (await one_thread(store)).expires_s == 86400
        await store.record(ACC, [told[number] for number in order])
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

    async def test_reading_an_unknown_thread_makes_none(self, store: Store) -> None:
        """`mark_read` never creates a thread."""
        await store.mark_read(ANN_THREAD)
        assert await store.thread(ANN_THREAD) is None

    @pytest.mark.parametrize("read_first", [True, False])
    async def test_what_the_phone_read_is_read(self, store: Store, read_first: bool) -> None:
        """All up to that time, also what comes later; nothing behind it."""
        read, wrote = [chat(read_s=2)], [*arrival(1), *arrival(2), *arrival(3)]
        await store.record(ACC, [*read, *wrote] if read_first else [*wrote, *read])
        assert (await one_thread(store)).unread == 1
        await store.record(ACC, [chat(read_s=1)])
        assert (await one_thread(store)).unread == 1

    @pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
    async def test_who_writes_on_the_phone_has_read(
        self, store: Store, order: Sequence[int]
    ) -> None:
        """Only what came behind our own message is unread."""
        for number in order:
            await store.record(ACC, arrival(number, from_me=number == 2))
        assert (await one_thread(store)).unread == 1

    async def test_a_queued_message_reads_nothing(self, store: Store) -> None:
        """A program that answers has not shown the message to anybody."""
        await store.record(ACC, arrival(1))
        await store.enqueue(queued(created_ms=NOON + 9000))
        assert (await one_thread(store)).unread == 1
