"""What the tests against the emulator are given."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Final

import pytest

from tests.firestore.emulator import an_emulator, find
from wad.store.firestore.access import Access
from wad.store.firestore.client import Client, Firestore, Snapshot

_PROJECTS: Final = itertools.count(1)


@pytest.fixture(scope="session")
def emulator() -> Iterator[int]:
    """The port of an emulator that all tests share; skipped where there is none."""
    script, why = find()
    if script is None:
        pytest.skip(why)
    with an_emulator(script) as port:
        asyncio.run(_warm_up(Access(project="demo-warm", emulator=f"127.0.0.1:{port}")))
        yield port


async def _warm_up(access: Access) -> None:
    """Each kind of call once: the first of its kind takes Java seconds, and deadlines in tests are short."""
    firestore = Firestore(access, "warm-up", 1)

    def work(client: Client) -> None:
        document = client.document("warm/up")
        batch = client.batch()
        batch.set(document, {"n": 1})
        batch.commit(retry=None, timeout=60)
        list(client.get_all([document], retry=None, timeout=60))
        client.collection("warm").order_by("n").limit(1).get(retry=None, timeout=60)

    await firestore.call(work)
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell(snapshot: Snapshot) -> None:
        loop.call_soon_threadsafe(seen.set)

    unwatch = await firestore.call(lambda client: firestore.watch("warm/up", tell, lambda: None))
    await seen.wait()
    unwatch()
    firestore.close()


@pytest.fixture
def access(emulator: int) -> Access:
    """An empty database of the test's own."""
    return Access(project=f"demo-{next(_PROJECTS)}", emulator=f"127.0.0.1:{emulator}")
