"""What the store costs: documents read and written, counted between its client and the emulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.contracts.world import ACC, CLAIMED, EPOCH, NOON, arrival, queued
from tests.firestore.counting import Bill, a_counter
from tests.firestore.stores import a_store
from tests.support.small_world import until
from wad.core.outbox import Sent
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.store import FirestoreStore


@asynccontextmanager
async def counted(
    access: FirestoreAccess, directory: Path
) -> AsyncIterator[tuple[FirestoreStore, Bill]]:
    """A store that reigns, listens and has nothing to tell; what it asks from then on."""
    port = int(access.emulator.rpartition(":")[2])
    with a_counter(port) as (address, bill):
        through = FirestoreAccess(project=access.project, emulator=address)
        async with a_store(through, directory) as store, store.lead(EPOCH, lambda account: None):
            await until(lambda: store._pusher.epoch == EPOCH)
            await store.wait_pushed()
            await quiet(bill)
            bill.clear()
            yield store, bill


async def quiet(bill: Bill) -> None:
    """Return once all that a new machine and a new reign ask for has been asked: for a second nothing is."""
    before: object = None
    while (now := (dict(bill.calls), bill.reads, bill.writes)) != before:
        before = now
        await asyncio.sleep(1.0)


async def test_an_idle_store_asks_for_nothing(access: FirestoreAccess, tmp_path: Path) -> None:
    """Once it listens, no call is made, however often somebody looks at what is here."""
    async with counted(access, tmp_path) as (store, bill):
        for _ in range(50):
            await store.threads(None, limit=10)
            await store.next_entry(ACC)
            await store.wait_pushed()
            await asyncio.sleep(0)
        assert (bill.calls, bill.reads, bill.writes) == ({}, 0, 0)


async def test_what_a_message_costs(access: FirestoreAccess, tmp_path: Path) -> None:
    """A write for it, one for its thread and one for the fence; the thread is read once for ever."""
    async with counted(access, tmp_path) as (store, bill):
        for number, reads in ((1, 1), (2, 0)):
            bill.clear()
            await store.record(ACC, arrival(number))
            await store.wait_pushed()
            assert (bill.reads, bill.writes) == (reads, 3)


async def test_what_sending_costs(access: FirestoreAccess, tmp_path: Path) -> None:
    """From queued to sent: a look at two keys, a claim that looks first, and what is told of it."""
    async with counted(access, tmp_path) as (store, bill):
        await store.record(ACC, arrival(1))
        await store.wait_pushed()
        bill.clear()
        await store.enqueue(queued())
        await store.settle(queued().id, CLAIMED, epoch=EPOCH)
        await store.settle(queued().id, Sent("W1", NOON), epoch=EPOCH)
        await store.wait_pushed()
        assert bill.writes <= 13  # one more on a busy machine, where two of them go in turn
        assert bill.reads <= 4
