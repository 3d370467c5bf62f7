"""What the counter at the proxy counts, and how much the store asks for while nothing happens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.world import ACC, EPOCH, arrival
from tests.firestore.proxy import Proxy, a_proxy
from tests.firestore.stores import a_store
from tests.firestore.traffic import Traffic
from tests.world import until
from wad.store.firestore.access import Access
from wad.store.firestore.client import Client, FieldFilter, Firestore
from wad.store.firestore.commit import commit, upsert


@pytest.fixture
def proxy(access: Access) -> Iterator[Proxy]:
    """Between the client and the emulator."""
    with a_proxy(int(access.emulator.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
def traffic(proxy: Proxy) -> Traffic:
    """What passes it."""
    proxy.tap = traffic = Traffic()
    return traffic


async def test_documents_are_counted_as_they_are_billed(
    access: Access, proxy: Proxy, traffic: Traffic
) -> None:
    """Reads by method, at least one for a query; each write of a commit."""
    firestore = Firestore(Access(project=access.project, emulator=proxy.address), "test", 1)

    def work(client: Client) -> None:
        commit(client, [upsert(client, f"c/{number}", {"n": number}) for number in range(7)], 30)
        client.document("c/1").get(retry=None, timeout=30)
        client.document("c/nothing").get(retry=None, timeout=30)
        client.collection("c").get(retry=None, timeout=30)
        none = client.collection("c").where(filter=FieldFilter("n", "==", 99))
        none.get(retry=None, timeout=30)

    for _ in range(3):  # the later ones name their methods by an index into what was said before
        await firestore.call(work)
    assert traffic.writes == 21
    assert traffic.reads == {"BatchGetDocuments": 6, "RunQuery": 3 * (1 + 7 + 1)}
    assert traffic.calls == {"Commit": 3, "BatchGetDocuments": 6, "RunQuery": 6}
    firestore.close()


async def test_an_idle_store_asks_for_nothing(
    access: Access, tmp_path: Path, proxy: Proxy, traffic: Traffic
) -> None:
    """It reigns, listens and waits: once that stands, no call is made."""
    through = Access(project=access.project, emulator=proxy.address)
    async with a_store(through, tmp_path) as store, store.reign(EPOCH, lambda account: None):
        await store.record(ACC, arrival(1))
        await until(lambda: store._teller.epoch == EPOCH)
        await store.told()
        await until(lambda: traffic.calls["Listen"] == 2)
        for _ in range(3):
            await store.told()
        traffic.reset()
        for _ in range(50):
            await store.threads(None, limit=10)
            await store.next_entry(ACC)
            await store.told()
            await asyncio.sleep(0)
        assert (traffic.calls, traffic.writes) == ({}, 0)


async def test_a_message_costs_two_writes(
    access: Access, tmp_path: Path, proxy: Proxy, traffic: Traffic
) -> None:
    """Its document and its thread's, and the fence; nothing is read but the thread, once for ever."""
    through = Access(project=access.project, emulator=proxy.address)
    async with a_store(through, tmp_path) as store, store.reign(EPOCH, lambda account: None):
        await until(lambda: store._teller.epoch == EPOCH and traffic.calls["Listen"] == 2)
        await store.told()
        for number, reads in ((1, {"BatchGetDocuments": 1}), (2, {})):
            traffic.reset()
            await store.record(ACC, arrival(number))
            await store.told()
            assert (traffic.writes, traffic.reads) == (3, reads)
