"""The cost of the store: documents read and written, counted between its client and the emulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.contracts.world import ACC, CLAIMED, EPOCH, NOON, arrival, queued
from tests.firestore.counting import Bill, a_counter
from tests.firestore.stores import a_store
from tests.support.waiting import until
from wad.core.outbox import Sent
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.store import FirestoreStore


@asynccontextmanager
async def counted(
    access: FirestoreAccess, directory: Path
) -> AsyncIterator[tuple[FirestoreStore, Bill]]:
    """A store that holds the lease, listens and has nothing to push; and the counts from then on."""
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
    """Return once a new machine and a new epoch have made all their calls: no call for a second."""
    before: object = None
    while (now := (dict(bill.calls), bill.reads, bill.writes)) != before:
        before = now
        await asyncio.sleep(1.0)


async def test_an_idle_store_makes_no_call(access: FirestoreAccess, tmp_path: Path) -> None:
    """While it listens, however often its data is read here."""
    async with counted(access, tmp_path) as (store, bill):
        for _ in range(50):
            await store.threads(None, limit=10)
            await store.next_entry(ACC)
            await store.wait_pushed()
            await asyncio.sleep(0)
        assert (bill.calls, bill.reads, bill.writes) == ({}, 0, 0)


async def test_the_cost_of_a_message(access: FirestoreAccess, tmp_path: Path) -> None:
    """A write for it, one for its thread and one for the fence; the thread's document is read only once."""
    async with counted(access, tmp_path) as (store, bill):
        for number, reads in ((1, 1), (2, 0)):
            bill.clear()
            await store.record(ACC, arrival(number))
            await store.wait_pushed()
            assert (bill.reads, bill.writes) == (reads, 3)


async def test_the_cost_of_sending(access: FirestoreAccess, tmp_path: Path) -> None:
    """From queued to sent: a check of two keys, a claim that reads first, and the push of the result."""
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
