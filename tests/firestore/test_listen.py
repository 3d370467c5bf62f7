"""Listening to a document and to a query: the reported changes, and the end of a stream."""

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

PATH = "places/here"


class Reported:
    """The reported changes, on the loop's thread."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[list[Snapshot]] = asyncio.Queue()
        self.lost = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def on_changes(self, found: list[Snapshot]) -> None:
        """Report the changes of a query."""
        self._soon(lambda: self.changes.put_nowait(found))

    def on_document(self, found: Snapshot) -> None:
        """Report a state of the document."""
        self.on_changes([found])

    def on_end(self) -> None:
        """Report the end of the stream."""
        self._soon(self.lost.set)

    def _soon(self, act: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the test is over, and its loop
            self._loop.call_soon_threadsafe(act)

    async def next(self) -> dict[str, dict[str, Any] | None]:
        """The next report: documents by their ids; None for a deleted one."""
        async with asyncio.timeout(30):
            return {
                found.id: dict(found.fields) if found.exists else None
                for found in await self.changes.get()
            }

    async def until_ended(self) -> None:
        """Wait for the end."""
        async with asyncio.timeout(30):
            await self.lost.wait()


@pytest.fixture
async def reported() -> Reported:
    """No reports yet."""
    return Reported()


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
    access: FirestoreAccess, reported: Reported
) -> AsyncIterator[tuple[Firestore, Proxy]]:
    """A listener to the path, through a proxy."""
    with a_proxy(int(access.emulator.rpartition(":")[2])) as proxy:
        through = FirestoreAccess(project=access.project, emulator=proxy.address)
        async with a_firestore(through) as firestore:
            await firestore.call(
                lambda client: firestore.watch(PATH, reported.on_document, reported.on_end)
            )
            assert await reported.next() == {"here": None}
            yield firestore, proxy


async def test_each_state_of_a_document_is_reported(
    access: FirestoreAccess, reported: Reported
) -> None:
    """Also that it does not exist, at the start and later."""
    async with a_listener(access, reported), a_firestore(access) as writer:
        await writer.call(lambda client: client.document(PATH).set({"n": 1}))
        assert await reported.next() == {"here": {"n": 1}}
        await writer.call(lambda client: client.document(PATH).set({"n": 2}))
        assert await reported.next() == {"here": {"n": 2}}
        await writer.call(lambda client: client.document(PATH).delete())
        assert await reported.next() == {"here": None}


async def test_the_documents_of_a_query_are_reported(
    access: FirestoreAccess, reported: Reported
) -> None:
    """All of them first; then those that are new, changed or no longer match."""
    async with a_firestore(access) as firestore:

        def put(ident: str, n: int) -> Any:
            return firestore.call(lambda client: client.document(f"places/{ident}").set({"n": n}))

        def listen(client: Client) -> Any:
            query = client.collection("places").order_by("n").start_at({"n": 5})
            return firestore.watch_query(query, reported.on_changes, reported.on_end)

        for ident, n in (("a", 5), ("b", 6), ("c", 4)):
            await put(ident, n)
        end = await firestore.call(listen)
        assert await reported.next() == {"a": {"n": 5}, "b": {"n": 6}}
        await put("c", 7)
        assert await reported.next() == {"c": {"n": 7}}
        await put("a", 1)
        assert await reported.next() == {"a": None}
        end()


async def test_an_empty_query_is_reported(access: FirestoreAccess, reported: Reported) -> None:
    """Once, so that the caller knows that it listens."""
    async with a_firestore(access) as firestore:
        await firestore.call(
            lambda client: firestore.watch_query(
                client.collection("places").limit(9), reported.on_changes, reported.on_end
            )
        )
        assert await reported.next() == {}


async def test_closing_a_stream_reports_nothing(
    access: FirestoreAccess, reported: Reported
) -> None:
    """Neither its end nor further changes."""
    async with a_firestore(access) as firestore:
        end = await firestore.call(
            lambda client: firestore.watch(PATH, reported.on_document, reported.on_end)
        )
        await reported.next()
        end()
        await firestore.call(lambda client: client.document(PATH).set({"n": 1}))
        other = Reported()
        await firestore.call(lambda client: firestore.watch(PATH, other.on_document, other.on_end))
        assert await other.next() == {"here": {"n": 1}}
    await other.until_ended()
    assert reported.changes.empty()
    assert not reported.lost.is_set()


async def test_a_refusal_ends_the_stream(access: FirestoreAccess, reported: Reported) -> None:
    """The library's own `Watch` retried for ever, without a pause, and could not be ended."""
    async with a_listener(access, reported) as (_, proxy):
        proxy.weather = Weather.REFUSED
        await reported.until_ended()


async def test_replacing_the_connection_ends_the_stream(
    access: FirestoreAccess, reported: Reported
) -> None:
    """A call has detected that the connection is dead."""
    async with a_listener(access, reported) as (firestore, proxy):
        proxy.weather = Weather.SWALLOWED
        with pytest.raises(Unavailable):
            await firestore.call(lambda client: client.document(PATH).get(retry=None, timeout=0.2))
        await reported.until_ended()


async def test_an_error_ends_the_stream(
    access: FirestoreAccess, reported: Reported, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours is logged, and the end is reported."""

    def fail(found: Snapshot) -> None:
        raise ZeroDivisionError

    async with a_firestore(access) as firestore:
        await firestore.call(lambda client: firestore.watch(PATH, fail, reported.on_end))
        await reported.until_ended()
    assert "listening failed" in caplog.text
