"""The cost of the lease: documents read and written, counted between the daemon's client and the emulator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.firestore.counting import Bill, a_counter
from tests.firestore.leases import a_record, take, wanted
from tests.firestore.stores import LEASE
from tests.support.waiting import until
from wad.core import lease
from wad.core.session_location import SessionLocation
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Firestore
from wad.store.firestore.lease.fence import SHARDS
from wad.store.firestore.lease.session_registry import FirestoreSessionRegistry


@pytest.fixture
def counted(access: FirestoreAccess) -> Iterator[tuple[FirestoreAccess, Bill]]:
    """The database, through the counter."""
    with a_counter(int(access.emulator.rpartition(":")[2])) as (address, bill):
        yield FirestoreAccess(project=access.project, emulator=address), bill


async def test_the_cost_of_the_lease(counted: tuple[FirestoreAccess, Bill]) -> None:
    """A check is two reads, a renewal one write; an acquire moves the fence, a release ends the history entry."""
    access, bill = counted
    async with a_record(access) as record:
        version = await take(record, "one", 1)
        assert (bill.reads, bill.writes) == (2, 3 + SHARDS)
        bill.clear()
        version = await record.write(wanted("one", 1, renewed_ms=1), version)
        assert (bill.reads, bill.writes) == (0, 1)
        bill.clear()
        await record.read()
        assert (bill.reads, bill.writes) == (2, 0)
        bill.clear()
        await record.write(lease.released(wanted("one", 1), 2), version)
        assert (bill.reads, bill.writes) == (0, 2)
        bill.clear()
        await take(record, "two", 2)
        assert (bill.reads, bill.writes) == (2, 3 + 2 * SHARDS)


async def test_the_cost_of_an_exclusive_write(counted: tuple[FirestoreAccess, Bill]) -> None:
    """The fence adds one write and no read."""
    access, bill = counted
    async with a_record(access) as record:
        await take(record, "one", 1)
    firestore = Firestore(access, "test", 1)
    places = FirestoreSessionRegistry(firestore, LEASE, timeout=5)
    bill.clear()
    await places.put(SessionLocation(account="acc-1", instance="a", since_ms=7), epoch=1)
    assert (bill.reads, bill.writes) == (0, 2)
    firestore.close()


async def test_the_cost_of_standing_by(counted: tuple[FirestoreAccess, Bill]) -> None:
    """A standby is notified of each renewal: one read, and no other call."""
    access, bill = counted
    async with a_record(access) as holder, a_record(access) as standby:
        version = await take(holder, "one", 1)
        await standby.read()
        bill.clear()
        waiting = asyncio.create_task(standby.changed(30))
        await until(lambda: bill.reads == 1, "listening")
        for number in (2, 3, 4):
            version = await holder.write(wanted("one", 1, renewed_ms=number), version)
            await until(lambda: bill.reads == bill.writes + 1, "the news")
        assert (bill.writes, dict(bill.calls)) == (3, {"Listen": 1, "Commit": 3})
        await holder.write(lease.released(wanted("one", 1), 5), version)
        await waiting
