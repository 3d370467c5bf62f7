"""The store on Firestore: the contract, against the real emulator."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest

from tests.contracts.store import StoreContract
from tests.contracts.world import CLAIMED, EPOCH, Fresh, queued
from tests.firestore.stores import a_store
from wad.core.message import MessageStatus
from wad.core.outbox import Claim, Unknown
from wad.store import Store
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.decode import get
from wad.store.firestore.documents.outbox import entry_of, entry_path
from wad.store.firestore.sync.change_log import KeyKind
from wad.store.firestore.sync.replica import Replica, open_replica

_NUMBERS = itertools.count()


class TestFirestoreStore(StoreContract):
    """The contract; each store has a database of its own."""

    @pytest.fixture
    def fresh(self, access: FirestoreAccess, tmp_path: Path) -> Fresh:
        """An empty database, and an empty replica."""

        @asynccontextmanager
        async def one() -> AsyncIterator[Store]:
            number = next(_NUMBERS)
            project = f"{access.project}-{number}"
            directory = tmp_path / str(number)
            directory.mkdir()
            async with a_store(
                FirestoreAccess(project=project, emulator=access.emulator), directory
            ) as store:
                yield store
                await store.wait_pushed()

        return one


async def test_a_late_report_of_a_queued_entry_does_not_revert_its_claim(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """The listener reported it before it was claimed: taken as new it would be sent a second time."""
    async with a_store(access, tmp_path) as store:
        await store.fence(EPOCH)
        await store.enqueue(queued())
        early = await store.ask(lambda client: get(client, entry_path(queued().id), timeout=20))
        claim = msgspec.structs.replace(CLAIMED, claim=Claim(store.instance, EPOCH))
        await store.settle(queued().id, claim, epoch=EPOCH)
        entry = entry_of(queued().id, early.fields)
        assert not await store.merge_entry(entry, early.fields)
        found = await store.entry(queued().id)
        assert found is not None
        assert found.state is MessageStatus.SENDING
        await store.settle(queued().id, Unknown("", "unknown"), epoch=EPOCH)
        await store.push_as(EPOCH)
        await store.wait_pushed()
        assert not await store.merge_entry(entry, early.fields)
        found = await store.entry(queued().id)
        assert found is not None
        assert found.state is MessageStatus.UNCERTAIN


async def test_the_turn_of_an_entry_is_not_pushed(tmp_path: Path) -> None:
    """Otherwise the upgrade that adds turns would push old copies of the entries over newer ones."""
    path = tmp_path / "wad.db"
    replica = Replica(path, *open_replica(path))
    try:
        await replica.enqueue(queued())
        await replica.done(await replica.waiting(100, KeyKind), {})
    finally:
        await replica.close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TRIGGER tell_outbox_update")
        db.execute(
            "CREATE TRIGGER tell_outbox_update AFTER UPDATE ON outbox BEGIN"
            " INSERT INTO dirty (kind, key, since_ms) VALUES ('entry', NEW.id, 0); END"
        )
        db.execute("DELETE FROM dirty")
        db.execute("UPDATE outbox SET thread = ''")  # as it was before there were turns
        db.execute("DELETE FROM dirty")
    replica = Replica(path, *open_replica(path))
    try:
        assert await replica.waiting(100, KeyKind) == []
        await replica.fence(EPOCH)
        await replica.settle(queued().id, CLAIMED, epoch=EPOCH)
        kinds = [one.dirty.kind for one in await replica.waiting(100, KeyKind)]
        assert KeyKind.ENTRY in kinds
    finally:
        await replica.close()
