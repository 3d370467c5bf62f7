"""The contract of history requests: the oldest message, placeholders, recounting."""

from __future__ import annotations

from tests.contracts.world import (
    ACC,
    ANN,
    ANN_LID,
    ANN_LID_THREAD,
    ANN_THREAD,
    BOB,
    OTHER,
    OneStore,
    arrival,
    contents,
    queued,
    text,
    wa_id,
)
from wad.core.change import PutAlias
from wad.core.content import Call, CallOutcome
from wad.core.event import Content, MessageKind
from wad.store.port import Store


class HistoryContract(OneStore):
    """The oldest message, placeholders, recounting."""

    async def test_the_oldest_message_that_the_phone_has(self, store: Store) -> None:
        """Not a call, which is not a message there, and not an unsent one."""
        assert await store.oldest(ANN_THREAD) is None
        missed = Content(MessageKind.CALL, call=Call(CallOutcome.MISSED))
        await store.enqueue(queued())
        await store.record(ACC, arrival(1, content=missed))
        assert await store.oldest(ANN_THREAD) is None
        for number in (3, 2, 4):
            await store.record(ACC, arrival(number))
        found = await store.oldest(ANN_THREAD)
        assert found is not None
        assert found.wa_id == wa_id(2)

    async def test_the_oldest_of_a_lid_is_that_of_its_number(self, store: Store) -> None:
        """As for every read of a thread."""
        await store.record(ACC, arrival(2))
        await store.record(ACC, [PutAlias(str(ANN_LID), str(ANN)), *arrival(1)])
        found = await store.oldest(ANN_LID_THREAD)
        assert found is not None
        assert found.wa_id == wa_id(1)

    async def test_placeholders(self, store: Store) -> None:
        """Lost or undecryptable messages, newest first, of this account, until the message itself is stored."""
        lost = Content(MessageKind.LOST)
        unread = Content(MessageKind.UNDECRYPTABLE, detail="why")
        await store.record(
            ACC, [*arrival(1, content=lost), *arrival(2), *arrival(3, content=unread)]
        )
        await store.record(OTHER, arrival(4, account=OTHER, content=lost))
        found = await store.placeholders(ACC, limit=10)
        assert [message.wa_id for message in found] == [wa_id(3), wa_id(1)]
        assert len(await store.placeholders(ACC, limit=1)) == 1
        await store.record(ACC, arrival(3, content=text("there")))
        assert [m.wa_id for m in await store.placeholders(ACC, limit=10)] == [wa_id(1)]

    async def test_recounting_changes_nothing_that_is_right(self, store: Store) -> None:
        """Nothing is wrong, and nothing is written."""
        await store.record(ACC, [*arrival(1), *arrival(2, BOB), *arrival(3, from_me=True)])
        before = await contents(store)
        assert await store.recount(ACC) == 0
        assert await contents(store) == before
