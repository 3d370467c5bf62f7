"""The contract of the send queue's order."""

from __future__ import annotations

from collections.abc import Sequence

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
    OneStore,
    queued,
)
from wad.core.change import PutAlias
from wad.core.jid import Jid, ThreadId
from wad.core.outbox import Refused, Retry
from wad.store.port import Store


class QueueContract(OneStore):
    """Chats take turns."""

    async def leave(self, store: Store, *, but: Sequence[str] = (), most: int = 1000) -> list[str]:
        """The keys of the sent entries, in order."""
        order: list[str] = []
        while len(order) < most:
            entry = await store.next_entry(ACC, but=but)
            if entry is None:
                break
            order.append(entry.client_id)
            await store.settle(entry.id, CLAIMED, epoch=EPOCH)
        return order

    async def test_chats_take_turns(self, store: Store) -> None:
        """Many entries of one chat delay another's by one; each chat keeps its own order."""
        for number in range(20):
            await store.enqueue(queued(f"a{number}"))
        assert await self.leave(store, most=3) == ["a0", "a1", "a2"]
        for number in range(3):
            await store.enqueue(queued(f"b{number}", to=BOB))
        await store.enqueue(queued("g0", to=GROUP))
        assert await self.leave(store, most=8) == ["b0", "g0", "a3", "b1", "a4", "b2", "a5", "a6"]

    async def test_chats_with_one_each_leave_in_the_order_of_enqueuing(self, store: Store) -> None:
        """Whatever their ids."""
        persons = [Jid.of_phone(f"+4070000{number:04}") for number in (7, 3, 9, 1, 5)]
        for number, person in enumerate(persons):
            await store.enqueue(queued(f"k{number}", to=person))
        assert await self.leave(store) == ["k0", "k1", "k2", "k3", "k4"]

    async def test_continued_adding_does_not_overtake(self, store: Store) -> None:
        """A chat that queues one entry after the other does not delay earlier entries of another."""
        for number in range(4):
            await store.enqueue(queued(f"a{number}"))
        order = []
        for number in range(8):
            await store.enqueue(queued(f"b{number}", to=BOB))
            order += await self.leave(store, most=1)
        assert [key for key in order if key.startswith("a")] == ["a0", "a1", "a2", "a3"]
        assert sorted(order) == ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"]

    async def test_a_chat_can_be_skipped(self, store: Store) -> None:
        """Its entries keep their positions meanwhile."""
        for key, to in (("a0", ANN), ("b0", BOB), ("a1", ANN), ("g0", GROUP)):
            await store.enqueue(queued(key, to=to))
        threads = [ANN_THREAD, str(ThreadId.make(ACC, GROUP))]
        assert await self.leave(store, but=threads) == ["b0"]
        assert await self.leave(store) == ["a0", "g0", "a1"]

    async def test_a_chat_is_skipped_under_each_of_its_addresses(self, store: Store) -> None:
        """Entries for a LID wait like those for its number, once that is known."""
        await store.enqueue(queued("l0", to=ANN_LID))
        await store.enqueue(queued("a0"))
        await store.record(ACC, [PutAlias(str(ANN_LID), str(ANN))])
        await store.enqueue(queued("l1", to=ANN_LID))
        for but in ([ANN_THREAD], [ANN_LID_THREAD]):
            assert await store.next_entry(ACC, but=but) is None
        assert await self.leave(store) == ["l0", "a0", "l1"]

    async def test_retried_entries_do_not_delay_others(self, store: Store) -> None:
        """However many are retried at once."""
        for number in range(5):
            await store.enqueue(queued(f"a{number}"))
            await store.settle(queued(f"a{number}").id, CLAIMED, epoch=EPOCH)
            await store.settle(queued(f"a{number}").id, Refused("no", "never"), epoch=EPOCH)
        await store.enqueue(queued("b0", to=BOB))
        for number in range(5):
            await store.settle(queued(f"a{number}").id, Retry(), epoch=EPOCH)
        await store.enqueue(queued("b1", to=BOB))
        order = await self.leave(store)
        assert [key for key in order if key.startswith("a")] == ["a0", "a1", "a2", "a3", "a4"]
        assert order.index("b1") <= 3

    async def test_the_oldest_waiting_entry_is_known(self, store: Store) -> None:
        """By its time of queuing; None if none waits."""
        assert (await store.totals(ACC)).oldest_queued_ms is None
        await store.enqueue(queued("a0", created_ms=NOON))
        await store.enqueue(queued("b0", to=BOB, created_ms=NOON + 5))
        assert (await store.totals(ACC)).oldest_queued_ms == NOON
        await self.leave(store, most=1)
        assert (await store.totals(ACC)).oldest_queued_ms == NOON + 5
