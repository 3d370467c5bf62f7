"""The store on the Firestore emulator: its push rate, and its requests while nothing happens."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench.measure import Figure, measure
from tests.bench.takeover import a_database
from tests.contracts.world import ACC, arrival
from tests.firestore.stores import a_store
from wad.core.change import Change
from wad.core.jid import Jid
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.commit import Write, commit, upsert
from wad.store.firestore.client.database import Client, Firestore
from wad.store.firestore.documents.build import DocumentWrite
from wad.store.firestore.sync.change_log import FACTS
from wad.store.firestore.sync.push import BATCH, STAMPS
from wad.store.firestore.sync.replica import Replica, open_replica

_MESSAGES: Final = 2_000
_TURNS: Final = 9
_CHATS: Final = 20


async def _raw(access: FirestoreAccess, writes: Sequence[DocumentWrite]) -> float:
    """Documents a second that the emulator accepts of the same documents, prepared before, one batch after another."""
    firestore = Firestore(access, "raw", 1)

    def work(client: Client) -> float:
        batches: list[list[Write]] = []
        for start in range(0, len(writes), BATCH):
            part = writes[start : start + BATCH]
            batches.append([upsert(client, one.path, one.fields or {}, STAMPS) for one in part])
        begun = time.monotonic()
        for batch in batches:
            commit(client, batch, 60)
        return len(writes) / (time.monotonic() - begun)

    try:
        return await firestore.call(work)
    finally:
        firestore.close()


def _changes(count: int) -> list[Change]:
    """Messages, spread over chats."""
    chats = [Jid.parse(f"4070000{number:04d}@s.whatsapp.net") for number in range(_CHATS)]
    return [change for number in range(count) for change in arrival(number, chats[number % _CHATS])]


async def _backlog(path: Path) -> list[DocumentWrite]:
    """A replica with a sync backlog."""
    replica = Replica(path, *open_replica(path))
    try:
        changes = _changes(_MESSAGES)
        for start in range(0, len(changes), 500):
            await replica.record(ACC, changes[start : start + 500])
        return await replica.waiting(len(changes), FACTS)
    finally:
        await replica.close()


async def _ours(access: FirestoreAccess, directory: Path, count: int) -> float:
    """Documents a second that a replica pushes."""
    begun = time.monotonic()
    async with a_store(access, directory, "here") as store:
        await store.wait_pushed()
        return count / (time.monotonic() - begun)


@measure("firestore_batch")
async def firestore_batch() -> Sequence[Figure]:
    """The push rate of a backlog, alternating with bare batches of the same documents: the emulator varies."""
    ours: list[float] = []
    raw: list[float] = []
    async with a_database() as access:
        for number in range(-1, _TURNS):
            databases = [
                FirestoreAccess(project=f"demo-{name}-{number}", emulator=access.emulator)
                for name in ("raw", "ours")
            ]
            with tempfile.TemporaryDirectory() as directory:
                writes = await _backlog(Path(directory, "here.db"))
                bare = await _raw(databases[0], writes)
                full = await _ours(databases[1], Path(directory), len(writes))
            if number >= 0:  # the first of them warm up Java
                raw.append(bare)
                ours.append(full)
    peer = statistics.median(raw)
    compared = "the same documents in bare batches, one after another"
    value = statistics.median(ours)
    return [
        Figure("firestore_batch", value, "documents/s", 0.8 * peer, compared, peer, at_least=True)
    ]
