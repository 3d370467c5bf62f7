"""Attacks of strangers without a token: on memory, connection slots, time and the log."""

from __future__ import annotations

import asyncio
import gc
import logging
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest

from tests.support.http_server import Served, a_server, answers
from tests.support.waiting import TIMEOUT, until
from wad.http.server import connection
from wad.http.server.limits import HttpLimits

HOST = b"Host: a\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
LARGE = b"GET /large?size=100000 HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b" HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextmanager
def grows_by_at_most(most: int) -> Iterator[Callable[[], None]]:
    """Python's own memory, checked when the given function is called and at the end."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()

    def check() -> None:
        now, _ = tracemalloc.get_traced_memory()
        assert now - before < most, f"{(now - before) >> 10} kB"

    try:
        yield check
        check()
    finally:
        tracemalloc.stop()


@asynccontextmanager
async def clients(served: Served, count: int, receive: int = 0) -> AsyncIterator[list[Client]]:
    """This number of connections."""
    held = [await served.connect(receive) for _ in range(count)]
    try:
        yield held
    finally:
        for _, writer in held:
            writer.close()


async def pour(served: Served, begin: bytes, piece: bytes, total: int) -> int:
    """Send pieces until the server hangs up, or this number of bytes was sent; the number that it accepted."""
    _, writer = await served.connect()
    sent = 0
    with suppress(ConnectionError):
        writer.write(begin)
        while sent < total:
            writer.write(piece)
            async with asyncio.timeout(TIMEOUT):
                await writer.drain()
            sent += len(piece)
    writer.close()
    return sent


# --- memory ---------------------------------------------------------------------------------------

KB64 = b"a" * (64 << 10)


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"POST /refuse" + CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
        (b"POST /echo" + CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
        (b"POST /echo" + CHUNKED + b"0\r\nX: ", KB64),
        (b"POST /echo" + CHUNKED + b"5;", KB64),
        (b"POST /echo" + CHUNKED, b"1;" + b"x" * 900 + b"\r\na\r\n"),
        (b"POST /echo" + CHUNKED + b"0", b"0" * 10_000),
        (b"POST /refuse" + CHUNKED, b"4000\r\n" + b"a" * 0x4000 + b"\r\n"),
        (b"POST /refuse HTTP/1.1\r\n" + HOST + b"Content-Length: 100000000\r\n\r\n", KB64),
        (b"GET /healthz HTTP/1.1\r\n", b"a: b\r\n" * 10_000),
        (b"GET /healthz HTTP/1.1\r\nX: ", KB64),
        (b"GET /", KB64),
        (b"", KB64),
        (b"", b"\0" * 1000),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", KB64),
        (GET + b"X", KB64),
    ],
)
async def test_endless_data_is_cut_off(begin: bytes, piece: bytes) -> None:
    """Heads, lines, trailers, bodies that are not read, and data after the last answer."""
    async with a_server() as served:
        with grows_by_at_most(2 << 20):
            assert await pour(served, begin, piece, 64 << 20) < 16 << 20
        assert await served.probe() == 200


async def test_endless_empty_lines() -> None:
    """They are not a request, and have the deadline of one."""
    async with a_server(HttpLimits(head=0.2)) as served:
        with grows_by_at_most(1 << 20):
            reader, writer = await served.connect()
            with suppress(ConnectionError):
                async with asyncio.timeout(TIMEOUT):
                    while not reader.at_eof():
                        writer.write(b"\r\n" * 1000)
                        await writer.drain()
                        await asyncio.sleep(0.01)
            writer.close()


@pytest.mark.parametrize("request_", [GET, LARGE, LARGE.replace(b"GET", b"HEAD")])
async def test_pipelines_with_unread_answers_take_no_memory(request_: bytes) -> None:
    """Of many requests in one piece only the first is parsed."""
    async with a_server() as served, clients(served, 12, receive=2048) as held:
        with grows_by_at_most(5 << 20) as check:
            for _, writer in held:
                writer.transport.set_write_buffer_limits(high=0)
                writer.write(request_ * (100_000 // len(request_)))
            for _ in range(5):
                assert await served.probe() == 200
                check()
        assert served.slots.unsent < 12 * 120_000


async def test_unread_answers_are_bounded_together() -> None:
    """The client with the most unread bytes is cut off."""
    async with (
        a_server(HttpLimits(unsent_bytes=3 << 20)) as served,
        clients(served, 20, receive=2048) as held,
    ):
        for _, writer in held:
            writer.write(b"GET /large?size=1000000 HTTP/1.1\r\n" + HOST + b"\r\n")
        await until(lambda: served.slots.counters.displaced >= 10)
        assert served.slots.unsent <= 3 << 20
        assert await served.probe() == 200


# --- slots ----------------------------------------------------------------------------------------

CROWD = HttpLimits(connections=20, reserve=4)


async def everyone(held: list[Client], data: bytes, then: bytes = b"") -> None:
    """All send the first data, and the other data once they have read something."""
    for _, writer in held:
        writer.write(data)
    for reader, writer in held:
        if then:
            async with asyncio.timeout(TIMEOUT):
                await reader.read(65536)
            writer.write(then)
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("data", "then"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", b"x"),
        (b"POST /refuse" + CHUNKED, b"1"),
        (GET, b"G"),
        (GET, b"\r\n"),
        (GET, b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: "),
        (b"", b""),
        (b"G", b""),
        (b"\r", b""),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx", b""),
        (b"POST /echo" + CHUNKED + b"5\r\nab", b""),
        (b"POST /upload" + CHUNKED + b"5\r\nab", b""),
        (LARGE * 100, b""),
        (b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n", b""),
        (b"garbage\r\n\r\n", b""),
    ],
)
async def test_no_client_keeps_all_slots(data: bytes, then: bytes) -> None:
    """Another client is answered, whatever it requests, long before a deadline."""
    async with a_server(CROWD) as served, clients(served, 24, receive=2048) as held:
        await everyone(held, data, then)
        async with asyncio.timeout(TIMEOUT):
            while (
                await served.ask(
                    b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
                )
            )[0].status != 200:
                await asyncio.sleep(0.05)


async def test_a_client_that_is_being_answered_keeps_its_slot() -> None:
    """Others get 503 with Retry-After, and probes are answered."""
    async with a_server(CROWD) as served:
        async with clients(served, 20) as held:
            await everyone(held, b"GET /wait HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            await until(lambda: served.slots.taken == 20)
            assert await served.probe() == 200
            (busy,) = await served.ask(LARGE)
            assert (busy.status, busy.headers["retry-after"]) == (503, "1")
            assert busy.document["error"] == "unavailable"
            (long,) = await served.ask(GET[:-2] + b"X: " + b"a" * 5000)
            assert long.status == 503
            served.app.go_on.set()
            for reader, _ in held:
                async with asyncio.timeout(TIMEOUT):
                    assert answers(await reader.read())[0].status == 200
        await until(lambda: served.slots.taken == 0)
        assert served.slots.counters.displaced == 0


async def test_silence_in_the_reserve_is_short() -> None:
    """A client there sends a request at once or is disconnected."""
    async with (
        a_server(HttpLimits(connections=1, reserve=2, short_head=0.1)) as served,
        clients(served, 1) as held,
    ):
        await everyone(held, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        await served.app.waiting.wait()
        assert await served.exchange() == b""
        assert await served.probe() == 200


async def test_many_clients_in_the_reserve() -> None:
    """The reserve is full; a probe is still answered."""
    async with a_server(CROWD) as served:
        async with clients(served, 20) as held:
            await everyone(held, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: served.slots.taken == 20)
            async with clients(served, 30):
                assert await served.probe() == 200
        assert len(served.slots.clients) <= 24


# --- the log --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /fail HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
    ],
)
async def test_a_flood_does_not_fill_the_log(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A hundred of them cause a few lines."""
    with caplog.at_level(logging.DEBUG):
        async with a_server() as served:
            for _ in range(100):
                await served.exchange(data, eof=True)
    ours = [record for record in caplog.records if record.name.startswith(("wad", "uvicorn"))]
    assert len(ours) < 40


async def test_a_flood_of_refusals_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The number of suppressed lines is logged."""
    with caplog.at_level(logging.INFO):
        async with a_server() as served:
            for _ in range(30):
                await served.exchange(b"garbage\r\n\r\n")
            assert served.slots.counters.refused == 30
            await until(lambda: any("suppressed" in message for message in caplog.messages))
    assert connection.log.filters == []
