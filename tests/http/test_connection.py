"""One connection of the HTTP server: its answers, their order, and its end."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.support.http_server import Served, a_server, answers
from tests.support.waiting import TIMEOUT, until
from wad.http.server.connection import HttpConnection
from wad.http.server.limits import HttpLimits

HOST = b"Host: a\r\n"
CLOSE = b"Connection: close\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET /healthz HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"

QUICK = HttpLimits(
    idle=0.1, head=0.1, body=0.1, write=0.1, rest=0.1, linger=0.1, half_closed=0.1, short_head=0.1
)
"""Short deadlines."""


def post(path: bytes, body: bytes, headers: bytes = b"") -> bytes:
    """A request with a counted body."""
    head = b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n%s\r\n"
    return head % (path, HOST, len(body), headers) + body


def chunked(path: bytes, *parts: bytes, headers: bytes = b"") -> bytes:
    """A request in chunks, without the last."""
    head = b"POST %s HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n%s\r\n" % (path, HOST, headers)
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """With the usual limits."""
    async with a_server() as server:
        yield server
        assert server.slots.counters.disagreements == 0


@pytest.fixture
async def quick() -> AsyncIterator[Served]:
    """With short deadlines."""
    async with a_server(QUICK) as server:
        yield server


# --- requests -------------------------------------------------------------------------------------


async def test_requests_that_arrive_together_are_answered_in_order(served: Served) -> None:
    """One after the other, with bodies of both kinds between them."""
    found = await served.ask(
        GET + post(b"/echo", b"abc") + chunked(b"/echo", b"de", b"fgh") + b"0\r\n\r\n" + GET + LAST
    )
    assert [each.status for each in found] == [200] * 5
    assert [each.document.get("size") for each in found] == [None, 3, 5, None, None]


async def test_a_thousand_requests_together_are_answered(served: Served) -> None:
    """A client that reads the answers may send any number of requests."""
    found = await served.ask(GET * 1000 + LAST)
    assert [each.status for each in found] == [200] * 1001


async def test_a_request_in_single_bytes(served: Served) -> None:
    """It is answered like a request in one piece."""
    data = b"\r\n\r\n" + post(b"/echo", b"hello", CLOSE)
    (found,) = await served.ask(*(data[at : at + 1] for at in range(len(data))))
    assert found.document["sha256"] == hashlib.sha256(b"hello").hexdigest()


async def test_trailers_are_not_headers(served: Served) -> None:
    """They are read and dropped, and the next request is found after them."""
    trailers = b"0\r\nAuthorization: Bearer x\r\nHost: evil\r\n\r\n"
    found = await served.ask(chunked(b"/echo", b"abc") + trailers + LAST)
    assert [each.status for each in found] == [200, 200]
    assert all(name != b"authorization" for name, _ in served.app.headers)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n" + CLOSE + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: a\n\n",
        b"GET /healthz\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"NONSENSE /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://evil HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        post(b"/echo", b"hello", b"Content-Length: 6\r\n"),
        post(b"/echo", b"0\r\n\r\n", b"Transfer-Encoding: chunked\r\n"),
        chunked(b"/echo") + b"g\r\n",
        chunked(b"/echo") + b"5\r\nhelloXX0\r\n\r\n",
        chunked(b"/echo") + b"5\nhello\r\n0\r\n\r\n",
    ],
)
async def test_invalid_http_is_400(served: Served, head: bytes) -> None:
    """In JSON, at once, and nothing after it is read as a request."""
    found = await served.ask(head + LAST)
    assert [each.status for each in found] == [400]
    assert found[0].document["success"] is False
    assert found[0].document["error"] == "bad_input"
    assert found[0].headers["connection"] == "close"
    assert served.app.requests == []
    assert await served.probe() == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000, 431),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 3000 + b"\r\n", 431),
        (b"GET /" + b"a" * 65_500 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n", 413),
        (chunked(b"/echo") + b"fffffffffff\r\n", 413),
    ],
)
async def test_a_request_that_is_too_large(served: Served, head: bytes, status: int) -> None:
    """Refused as soon as it is known, in JSON."""
    (found,) = await served.ask(head)
    assert found.status == status
    assert found.document["success"] is False


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c", b"TLS/1.0"])
async def test_no_upgrade_to_another_protocol(served: Served, protocol: bytes) -> None:
    """The request is answered as if it had not offered another protocol, and so is the next one."""
    more = (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nSec-WebSocket-Key: x\r\n" % protocol
    )
    found = await served.ask(post(b"/echo", b"abc", more) + LAST)
    assert [each.status for each in found] == [200, 200]
    assert found[0].document["size"] == 3


async def test_a_failure_of_the_application_is_500(served: Served) -> None:
    """In JSON, and the server continues."""
    (found,) = await served.ask(b"GET /fail HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
    assert found.status == 500
    assert await served.probe() == 200


# --- Expect ---------------------------------------------------------------------------------------

EXPECT = b"Expect: 100-continue\r\n"


async def test_continue_is_sent_at_once(served: Served) -> None:
    """Before a byte of the body has arrived, and once."""
    reader, writer = await served.connect()
    data = post(b"/echo", b"abc", EXPECT + CLOSE)
    writer.write(data[:-3])
    async with asyncio.timeout(TIMEOUT):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(data[-3:])
        (found,) = answers(await reader.read())
    assert found.document["size"] == 3
    writer.close()


async def test_continue_is_sent_once(served: Served) -> None:
    """However often it is requested, and whichever reader continues."""
    found = await served.exchange(post(b"/echo", b"a" * 100_000, EXPECT + EXPECT + CLOSE))
    assert found.count(b"HTTP/1.1 100") == 1
    assert found.count(b"HTTP/1.1 200") == 1


async def test_a_refused_request_gets_no_continue(served: Served) -> None:
    """A client that is refused before the body gets one answer, without a wait for the body."""
    (found,) = await served.ask(post(b"/refuse", b"abc", EXPECT)[:-3])
    assert (found.status, found.headers["connection"]) == (401, "close")


async def test_http_1_0_gets_no_continue(served: Served) -> None:
    """It gets only its answer."""
    data = post(b"/echo", b"abc", EXPECT).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert (await served.exchange(data)).startswith(b"HTTP/1.1 200")


# --- the rest of a request ------------------------------------------------------------------------


async def test_a_small_rest_is_read(served: Served) -> None:
    """An answer before the end of the body does not end the connection."""
    reader, writer = await served.connect()
    data = post(b"/refuse", b"abc")
    async with asyncio.timeout(TIMEOUT):
        writer.write(data[:-2])
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 401")
        assert b"connection: close" not in head
        writer.write(data[-2:] + LAST)
        assert b"HTTP/1.1 200" in await reader.read()
    writer.close()


@pytest.mark.parametrize("data", [post(b"/refuse", b"a" * (1 << 20)), chunked(b"/refuse", b"abc")])
async def test_a_large_rest_is_not_read(served: Served, data: bytes) -> None:
    """The answer announces the end of the connection, and it ends."""
    found = await served.ask(data[: 1 << 16])
    assert [each.status for each in found] == [401]
    assert found[0].headers["connection"] == "close"


async def test_a_client_that_continues_to_send_gets_the_answer(served: Served) -> None:
    """A reset would lose it for a client that sends before it reads."""
    reader, writer = await served.connect()
    writer.write(post(b"/refuse", b"a" * (200 << 10)))
    async with asyncio.timeout(TIMEOUT):
        assert (await reader.read()).startswith(b"HTTP/1.1 401")
    writer.close()


async def test_it_is_not_read_for_long() -> None:
    """Up to a number of bytes, and then no more."""
    async with a_server(HttpLimits(linger=TIMEOUT * 10)) as served:
        _, writer = await served.connect()
        writer.write(chunked(b"/refuse"))
        piece = b"1000\r\n" + b"a" * 0x1000 + b"\r\n"
        sent = 0
        with suppress(ConnectionError):
            async with asyncio.timeout(TIMEOUT):
                while sent < 64 << 20:
                    writer.write(piece)
                    await writer.drain()
                    sent += len(piece)
        assert sent < 16 << 20
        writer.close()


async def test_a_client_that_closes_its_side_gets_its_answers(served: Served) -> None:
    """All of them, as a pipe through netcat does."""
    served.app.go_on.set()
    wait = b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n"
    found = await served.ask(wait + GET + wait + GET[:-2], eof=True)
    assert [each.status for each in found] == [200, 200, 200]


async def test_the_application_learns_that_a_client_has_gone(quick: Served) -> None:
    """Although a closed side may be only half of a connection."""
    _, writer = await quick.connect()
    writer.write(b"GET /patient HTTP/1.1\r\n" + HOST + b"\r\n")
    async with asyncio.timeout(TIMEOUT):
        await quick.app.waiting.wait()
        writer.close()
        await quick.app.gone.wait()


# --- deadlines ------------------------------------------------------------------------------------


async def test_a_client_without_a_request_is_disconnected(quick: Served) -> None:
    """The connection ends without an answer."""
    assert await quick.exchange() == b""
    assert (await quick.ask(GET))[0].status == 200


@pytest.mark.parametrize("before", [b"", GET])
async def test_a_head_that_does_not_end_is_408(quick: Served, before: bytes) -> None:
    """The first, and a later one of the same connection."""
    found = await quick.ask(before + b"GET /healthz HTTP/1.1\r\nHost")
    assert found[-1].status == 408
    assert found[-1].document["error"] == "timed_out"


@pytest.mark.parametrize("data", [post(b"/echo", b"abc")[:-1], chunked(b"/echo", b"abc")])
async def test_a_body_that_does_not_end_is_408(quick: Served, data: bytes) -> None:
    """The application gets a disconnect."""
    (found,) = await quick.ask(data)
    assert found.status == 408


async def test_a_body_that_arrives_too_slowly_is_408() -> None:
    """Single bytes do not keep a slot."""
    async with a_server(HttpLimits(body=0.2, rate=1000)) as served:
        reader, writer = await served.connect()
        writer.write(post(b"/echo", b"a" * 1000)[:-1000])
        answer = asyncio.create_task(reader.read())
        async with asyncio.timeout(TIMEOUT):
            while not answer.done():
                writer.write(b"a")
                await asyncio.sleep(0.01)
        assert answers(answer.result())[0].status == 408
        writer.close()


async def test_a_large_body_that_arrives_steadily_is_read() -> None:
    """Each part of it extends the deadline."""
    async with a_server(HttpLimits(body=0.3, rate=10)) as served:
        served.app.go_on.set()
        data = post(b"/echo", b"a" * 40, CLOSE)
        reader, writer = await served.connect()
        writer.write(data[:-40])
        for _ in range(8):
            writer.write(b"a" * 5)
            await asyncio.sleep(0.1)
        async with asyncio.timeout(TIMEOUT):
            assert answers(await reader.read())[0].document["size"] == 40
        writer.close()


async def test_a_whole_request_has_a_deadline() -> None:
    """However quickly its body arrives."""
    async with a_server(HttpLimits(request=0.3, rate=1)) as served:
        reader, writer = await served.connect()
        writer.write(chunked(b"/echo"))
        answer = asyncio.create_task(reader.read())
        async with asyncio.timeout(TIMEOUT):
            while not answer.done():
                writer.write(b"4\r\naaaa\r\n")
                await asyncio.sleep(0.01)
        assert answers(answer.result())[0].status == 408
        writer.close()


async def test_the_rest_of_an_answered_request_has_a_deadline(quick: Served) -> None:
    """The connection ends."""
    found = await quick.ask(post(b"/refuse", b"abc")[:-1])
    assert [each.status for each in found] == [401]


async def test_a_client_that_does_not_read_its_answer_is_disconnected(quick: Served) -> None:
    """It keeps neither a slot nor memory."""
    _, writer = await quick.connect(receive=4096)
    writer.write(b"GET /large?size=8000000 HTTP/1.1\r\n" + HOST + b"\r\n")
    await until(lambda: quick.slots.unsent > 1 << 20)
    await until(lambda: quick.slots.taken == 0)
    assert quick.slots.unsent == 0
    writer.close()


async def test_a_slow_reader_gets_the_whole_answer() -> None:
    """Each part that is read extends the deadline."""
    async with a_server(HttpLimits(write=0.2, rate=1 << 10)) as served:
        reader, writer = await served.connect(receive=4096)
        writer.write(b"GET /large?size=4000000 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
        data = b""
        async with asyncio.timeout(TIMEOUT):
            while part := await reader.read(1 << 18):
                data += part
                await asyncio.sleep(0.01)
        assert answers(data)[0].body == b"x" * 4_000_000
        writer.close()


async def test_a_slow_application_has_no_deadline(quick: Served) -> None:
    """The application decides how long an answer takes."""
    reader, writer = await quick.connect()
    writer.write(b"GET /wait HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
    await quick.app.waiting.wait()
    assert await quick.exchange() == b""  # longer than every deadline
    quick.app.go_on.set()
    async with asyncio.timeout(TIMEOUT):
        assert answers(await reader.read())[0].body == b"went on"
    writer.close()


# --- streams --------------------------------------------------------------------------------------


async def test_an_answer_is_made_as_it_is_read(served: Served) -> None:
    """An application that streams waits for its client."""
    reader, writer = await served.connect(receive=4096)
    writer.write(b"GET /endless HTTP/1.1\r\n" + HOST + b"\r\n")
    await until(lambda: served.slots.unsent > 0)
    for _ in range(10):
        assert await served.probe() == 200
    made = served.app.made
    assert made < 256  # 4 MB
    async with asyncio.timeout(TIMEOUT):
        while served.app.made <= made:
            await reader.read(1 << 16)
    writer.close()
    await until(lambda: served.slots.taken == 0)


async def test_a_body_is_read_as_it_is_used(served: Served) -> None:
    """A client that uploads waits for the application."""
    reader, writer = await served.connect()
    writer.transport.set_write_buffer_limits(high=0)
    body = b"a" * (8 << 20)
    writer.write(post(b"/upload", body, CLOSE))
    await served.app.waiting.wait()
    (connection,) = served.slots.clients
    assert isinstance(connection, HttpConnection)
    await until(lambda: connection.flow.read_paused)
    assert len(connection.cycle.body) < 256 << 10
    assert await served.probe() == 200
    served.app.go_on.set()
    async with asyncio.timeout(TIMEOUT):
        assert answers(await reader.read())[0].document["size"] == len(body)
    writer.close()


async def test_a_large_answer_does_not_delay_a_small_one(served: Served) -> None:
    """Others are answered while it is sent."""
    reader, writer = await served.connect(receive=4096)
    writer.write(b"GET /large?size=15000000 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
    await until(lambda: served.slots.unsent > 1 << 20)
    assert await served.probe() == 200
    async with asyncio.timeout(TIMEOUT):
        assert len(answers(await reader.read())[0].body) == 15_000_000
    writer.close()
