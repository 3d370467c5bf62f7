"""Listening to a document, and to what a query finds: what is told, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tests.firestore.proxy import Proxy, Weather, a_proxy
from wad.core.errors import Unavailable
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Client, Firestore, Snapshot

PLACE = "places/here"


class Heard:
    """What was told, on the loop's thread."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[list[Snapshot]] = asyncio.Queue()
        self.lost = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def tell(self, found: list[Snapshot]) -> None:
        """What a query finds now, other than before."""
        self._soon(lambda: self.told.put_nowait(found))

    def tell_one(self, found: Snapshot) -> None:
        """A state of the document."""
        self.tell([found])

    def lose(self) -> None:
        """It ended by itself."""
        self._soon(self.lost.set)

    def _soon(self, act: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the test is over, and its loop
            self._loop.call_soon_threadsafe(act)

    async def next(self) -> dict[str, dict[str, Any] | None]:
        """The next news: documents by their ids; None for one that is not there."""
        async with asyncio.timeout(30):
            return {
                found.id: dict(found.fields) if found.exists else None
                for found in await self.told.get()
            }

    async def until_lost(self) -> None:
        """Wait for the end."""
        async with asyncio.timeout(30):
            await self.lost.wait()


@pytest.fixture
async def heard() -> Heard:
    """Nothing yet."""
    return Heard()


@asynccontextmanager
async def a_firestore(access: FirestoreAccess) -> AsyncIterator[Firestore]:
    """A connection of its own."""
    firestore = Firestore(access, "test", 1)
    try:
        yield firestore
    finally:
        firestore.close()


@asynccontextmanager
async def a_listener(
    access: FirestoreAccess, heard: Heard
) -> AsyncIterator[tuple[Firestore, Proxy]]:
    """One that listens to the place, through a proxy."""
    with a_proxy(int(access.emulator.rpartition(":")[2])) as proxy:
        through = FirestoreAccess(project=access.project, emulator=proxy.address)
        async with a_firestore(through) as firestore:
            await firestore.call(lambda client: firestore.watch(PLACE, heard.tell_one, heard.lose))
            assert await heard.next() == {"here": None}
            yield firestore, proxy


async def test_each_state_of_a_document_is_told(access: FirestoreAccess, heard: Heard) -> None:
    """Also that it is not there, at the start and later."""
    async with a_listener(access, heard), a_firestore(access) as writer:
        await writer.call(lambda client: client.document(PLACE).set({"n": 1}))
        assert await heard.next() == {"here": {"n": 1}}
        await writer.call(lambda client: client.document(PLACE).set({"n": 2}))
        assert await heard.next() == {"here": {"n": 2}}
        await writer.call(lambda client: client.document(PLACE).delete())
        assert await heard.next() == {"here": None}


async def test_what_a_query_finds_is_told(access: FirestoreAccess, heard: Heard) -> None:
    """All of it first; then what is new, other, or does not belong to it any more."""
    async with a_firestore(access) as firestore:

        def put(ident: str, n: int) -> Any:
            return firestore.call(lambda client: client.document(f"places/{ident}").set({"n": n}))

        def listen(client: Client) -> Any:
            query = client.collection("places").order_by("n").start_at({"n": 5})
            return firestore.watch_query(query, heard.tell, heard.lose)

        for ident, n in (("a", 5), ("b", 6), ("c", 4)):
            await put(ident, n)
        end = await firestore.call(listen)
        assert await heard.next() == {"a": {"n": 5}, "b": {"n": 6}}
        await put("c", 7)
        assert await heard.next() == {"c": {"n": 7}}
        await put("a", 1)
        assert await heard.next() == {"a": None}
        end()


async def test_a_query_that_finds_nothing_says_so(access: FirestoreAccess, heard: Heard) -> None:
    """Once, so that who listens knows that it listens."""
    async with a_firestore(access) as firestore:
        await firestore.call(
            lambda client: firestore.watch_query(
                client.collection("places").limit(9), heard.tell, heard.lose
            )
        )
        assert await heard.next() == {}


async def test_whoever_ends_it_is_not_told_of_the_end(
    access: FirestoreAccess, heard: Heard
) -> None:
    """And nothing more of the document."""
    async with a_firestore(access) as firestore:
        end = await firestore.call(
            lambda client: firestore.watch(PLACE, heard.tell_one, heard.lose)
        )
        await heard.next()
        end()
        await firestore.call(lambda client: client.document(PLACE).set({"n": 1}))
        other = Heard()
        await firestore.call(lambda client: firestore.watch(PLACE, other.tell_one, other.lose))
        assert await other.next() == {"here": {"n": 1}}
    await other.until_lost()
    assert heard.told.empty()
    assert not heard.lost.is_set()


async def test_a_server_that_refuses_ends_it_once_and_for_all(
    access: FirestoreAccess, heard: Heard
) -> None:
    """The library's own went on asking for ever, without a pause, where nobody could end it."""
    async with a_listener(access, heard) as (_, proxy):
        proxy.weather = Weather.REFUSED
        await heard.until_lost()


async def test_a_connection_that_is_replaced_ends_it(access: FirestoreAccess, heard: Heard) -> None:
    """Nobody serves it any more: a call found that out."""
    async with a_listener(access, heard) as (firestore, proxy):
        proxy.weather = Weather.SWALLOWED
        with pytest.raises(Unavailable):
            await firestore.call(lambda client: client.document(PLACE).get(retry=None, timeout=0.2))
        await heard.until_lost()


async def test_a_listener_that_fails_has_ended(
    access: FirestoreAccess, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours is logged, and whoever listens hears that there will be no more."""

    def fail(found: Snapshot) -> None:
        raise ZeroDivisionError

    async with a_firestore(access) as firestore:
        await firestore.call(lambda client: firestore.watch(PLACE, fail, heard.lose))
        await heard.until_lost()
    assert "listening failed" in caplog.text
