"""The session registry in Firestore."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.firestore.leases import a_record, take
from tests.firestore.stores import LEASE
from wad.core.errors import Fenced
from wad.core.session_location import SessionLocation
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Firestore
from wad.store.firestore.lease.session_registry import FirestoreSessionRegistry

SHOP = SessionLocation(
    account="acc-1", instance="a", since_ms=7, jid="1:2@s.whatsapp.net", name="Shop"
)


@pytest.fixture
async def firestore(access: FirestoreAccess) -> AsyncIterator[Firestore]:
    """A connection; epoch 1 has begun."""
    async with a_record(access) as record:
        await take(record, "a", 1)
    firestore = Firestore(access, "test", 2)
    yield firestore
    firestore.close()


@pytest.fixture
def registry(firestore: Firestore) -> FirestoreSessionRegistry:
    """An empty registry."""
    return FirestoreSessionRegistry(firestore, LEASE, timeout=5)


async def test_a_location_is_found_until_it_is_forgotten(
    registry: FirestoreSessionRegistry,
) -> None:
    """The latest write wins, and each may be repeated."""
    assert await registry.all() == {}
    await registry.put(SHOP, epoch=1)
    await registry.put(SHOP, epoch=1)
    assert await registry.all() == {"acc-1": SHOP}
    await registry.forget("acc-1", epoch=1)
    await registry.forget("acc-1", epoch=1)
    assert await registry.all() == {}


async def test_an_old_epoch_writes_no_location(
    access: FirestoreAccess, registry: FirestoreSessionRegistry
) -> None:
    """The server refuses its writes."""
    await registry.put(SHOP, epoch=1)
    async with a_record(access) as record:
        await take(record, "b", 2)
    with pytest.raises(Fenced):
        await registry.put(SHOP, epoch=1)
    with pytest.raises(Fenced):
        await registry.forget("acc-1", epoch=1)
    assert await registry.all() == {"acc-1": SHOP}


async def test_an_unreadable_location_is_left_out(
    firestore: Firestore, registry: FirestoreSessionRegistry
) -> None:
    """One damaged document keeps no account from running."""
    await registry.put(SHOP, epoch=1)
    await firestore.call(lambda client: client.document(f"{LEASE}/sessions/acc-2").set({"n": 1}))
    assert await registry.all() == {"acc-1": SHOP}
