"""The lease record in Firestore, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.firestore.stores import LEASE
from wad.core.lease import LeaseTerms, Record
from wad.flow.event_bus import Bus
from wad.flow.leadership.leader import Leader
from wad.lib.clock import SystemClock
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Firestore
from wad.store.firestore.lease.record import FirestoreLease

TERMS = LeaseTerms(ttl=5.0, renew_every=0.5, margin=1.0)


@asynccontextmanager
async def a_record(
    access: FirestoreAccess, *, timeout: float = 2.0
) -> AsyncIterator[FirestoreLease]:
    """A connection of its own to the lease."""
    record = FirestoreLease(Firestore(access, "lease", 2), LEASE, SystemClock(), timeout=timeout)
    try:
        yield record
    finally:
        record.close()


@asynccontextmanager
async def a_leader(access: FirestoreAccess, name: str) -> AsyncIterator[Leader]:
    """A leader with a connection of its own."""
    async with a_record(access, timeout=1.0) as record:
        clock = SystemClock()
        yield Leader(
            record, name, name, TERMS, clock, Bus(clock), floor=0, on_renewed=lambda seconds: None
        )


def wanted(holder: str, epoch: int, **fields: Any) -> Record:
    """A record to write."""
    return Record(holder=holder, nonce=holder, epoch=epoch, ttl=15, **fields)


async def take(record: FirestoreLease, holder: str, epoch: int) -> str:
    """Acquire the lease."""
    seen = await record.read()
    assert seen is not None
    return await record.write(wanted(holder, epoch), seen.version)
