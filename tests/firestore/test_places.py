"""Which instance has which session, in Firestore."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.firestore.test_lease import PATH, a_record, take
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
def places(firestore: Firestore) -> FirestoreSessionRegistry:
    """Nothing is known yet."""
    return FirestoreSessionRegistry(firestore, PATH, timeout=5)


async def test_what_was_put_is_found_until_it_is_forgotten(
    places: FirestoreSessionRegistry,
) -> None:
    """The newest word counts, and each may be said twice."""
    assert await places.all() == {}
    await places.put(SHOP, epoch=1)
    await places.put(SHOP, epoch=1)
    assert await places.all() == {"acc-1": SHOP}
    await places.forget("acc-1", epoch=1)
    await places.forget("acc-1", epoch=1)
    assert await places.all() == {}


async def test_an_old_epoch_owns_nothing(
    access: FirestoreAccess, places: FirestoreSessionRegistry
) -> None:
    """Its word is refused by the server."""
    await places.put(SHOP, epoch=1)
    async with a_record(access) as record:
        await take(record, "b", 2)
    with pytest.raises(Fenced):
        await places.put(SHOP, epoch=1)
    with pytest.raises(Fenced):
        await places.forget("acc-1", epoch=1)
    assert await places.all() == {"acc-1": SHOP}


async def test_what_cannot_be_read_is_left_out(
    firestore: Firestore, places: FirestoreSessionRegistry
) -> None:
    """One damaged document keeps nobody from running."""
    await places.put(SHOP, epoch=1)
    await firestore.call(lambda client: client.document(f"{PATH}/sessions/acc-2").set({"n": 1}))
    assert await places.all() == {"acc-1": SHOP}
