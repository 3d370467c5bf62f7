"""`wadctl store copy`: from the embedded store to Firestore, while it is in use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contracts.world import ACC, ANN, ANN_THREAD, BOB, arrival, contents, queued, sent
from tests.firestore.daemons import a_machine
from tests.firestore.proxy import Weather
from tests.firestore.stores import LEASE, Console, a_store, leading
from wad.core.errors import Conflict, Unavailable
from wad.core.lease import Record
from wad.store.firestore import copy as copying
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.lease.document import document_of
from wad.store.sqlite.store import SqliteStore


async def filled(path: Path, messages: int = 30) -> SqliteStore:
    """An embedded store with something in it."""
    store = await SqliteStore.open(path)
    changes = [change for number in range(messages) for change in arrival(number, push_name="Ann")]
    await store.record(ACC, changes)
    await sent(store, queued(), "W1")
    return store


async def test_everything_is_copied_and_then_moved(access: FirestoreAccess, tmp_path: Path) -> None:
    """Including what is stored meanwhile; after the move only new documents are pushed."""
    embedded = await filled(tmp_path / "here.db")
    async with a_store(access, tmp_path) as store:
        steps = [step async for step in copying.copy(store, LEASE)]
        await embedded.record(ACC, arrival(1, BOB))
        steps += [step async for step in copying.copy(store, LEASE)]
    before = await contents(embedded)
    await embedded.close()
    assert steps[-1].waiting == 0
    console = Console(access)
    assert list(await console.all("message_ids")) == [f"{ACC}__W1"]
    assert list(await console.all("contacts")) == [f"{ACC}__{ANN}"]
    console.close()
    async with leading(access, tmp_path, epoch=2) as store:
        assert await contents(store) == before
        await store.wait_pushed()
    (tmp_path / "other").mkdir()
    async with leading(access, tmp_path / "other", "there", epoch=3) as store:
        assert await contents(store) == before
        assert await store.entry(queued().id) is not None


async def test_a_copy_continues_where_it_ended(
    access: FirestoreAccess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pushed documents are not pushed again, except for the batch in flight at the interruption."""
    monkeypatch.setattr("wad.store.firestore.sync.push.BATCH", 10)
    monkeypatch.setattr("wad.store.firestore.sync.push.AT_ONCE", 1)
    embedded = await filled(tmp_path / "here.db", 100)
    console = Console(access)
    async with a_store(access, tmp_path) as store:
        async for step in copying.copy(store, LEASE):
            if step.waiting < 90:
                break
    there = await console.all(f"threads/{ANN_THREAD}/messages")
    async with a_store(access, tmp_path) as store:
        async for _ in copying.copy(store, LEASE):
            pass
    after = await console.all(f"threads/{ANN_THREAD}/messages")
    assert len(after) == 101
    again = [ident for ident, old in there.items() if after[ident]["updatedAt"] != old["updatedAt"]]
    assert len(again) <= 10 < len(there)
    console.close()
    await embedded.close()


async def test_a_copy_needs_a_free_lease(access: FirestoreAccess, tmp_path: Path) -> None:
    """A copy is refused while an instance holds the lease, and nothing is written."""
    console = Console(access)
    embedded = await filled(tmp_path / "here.db")
    record = Record(holder="b", nonce="n", epoch=4, ttl=15)
    await console.set(LEASE, document_of(record, 2_000_000_000_000))
    async with a_store(access, tmp_path) as store:
        with pytest.raises(Conflict, match="b holds the lease"):
            [step async for step in copying.copy(store, LEASE)]
    assert await console.all("threads") == {}
    console.close()
    await embedded.close()


async def test_the_command(access: FirestoreAccess, tmp_path: Path) -> None:
    """A daemon on SQLite fills Firestore; the next one runs on Firestore with all of it."""
    environ = {"WAD_LEASE_KIND": "file"}
    async with a_machine(tmp_path, access, "a", environ=environ) as machine:
        await machine.daemon.start()
        await machine.daemon.call("accounts.add", name="shop", phone="+15550000001")
        done = await machine.daemon.wadctl("store", "copy", "--json")
        assert done.returncode == 0, done.stderr
        last = json.loads(done.stdout.splitlines()[-1])
        assert last["waiting"] == 0
        assert last["pushed"] > 0
        again = await machine.daemon.wadctl("store", "copy", "--to", "firestore")
        assert again.stdout == "copied 0 documents\n"
        machine.proxy.weather = Weather.REFUSED
        refused = await machine.daemon.wadctl("store", "copy")
        assert refused.returncode == Unavailable.exit_code
        machine.proxy.weather = Weather.CLEAR
        await machine.daemon.end()
        machine.daemon.environ |= {"WAD_STORE_KIND": "firestore", "WAD_LEASE_KIND": "firestore"}
        await machine.daemon.start()
        await machine.until_mode("active")
        shown = await machine.daemon.call("status")
        assert (shown["store"], len(shown["accounts"])) == ("firestore", 1)
        moved = await machine.daemon.wadctl("store", "copy")
        assert moved.returncode == Conflict.exit_code
