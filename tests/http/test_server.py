"""The HTTP server as a whole: its start, its stop, and the libraries below it."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import httptools
import pytest
from uvicorn.protocols.http import flow_control, httptools_impl
from uvicorn.server import Server

from tests.support.http_server import Served, a_server, answers
from tests.support.waiting import TIMEOUT, until
from wad.core.errors import BadConfig, Conflict
from wad.http.server import listening
from wad.http.server.limits import HttpLimits
from wad.http.server.listening import bind
from wad.http.server.slots import Slots

GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """With the usual limits."""
    async with a_server() as server:
        yield server


# --- start ----------------------------------------------------------------------------------------


async def test_two_sockets() -> None:
    """Each is answered."""
    sockets = [await bind("127.0.0.1", 0), await bind("127.0.0.1", 0)]
    ports = [sock.getsockname()[1] for sock in sockets]
    async with a_server(sockets=sockets) as served:
        for served.port in ports:
            assert await served.probe() == 200


async def test_signal_handlers_are_not_changed(served: Served) -> None:
    """The process's own handlers stay installed."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    async with a_server() as other:
        await other.probe()
        assert [signal.getsignal(number) for number in numbers] == before


async def test_a_port_in_use(served: Served) -> None:
    """The error names the port and what to do."""
    with pytest.raises(Conflict, match=f"port {served.port} on 127.0.0.1 is in use") as caught:
        await bind("127.0.0.1", served.port)
    assert "http.port" in caught.value.hint


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host"])
async def test_an_address_of_another_machine(host: str) -> None:
    """The error names the address and its setting."""
    with pytest.raises(BadConfig, match=host) as caught:
        await bind(host, 0)
    assert "http.address" in caught.value.hint


async def test_a_port_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    """A low port needs a capability, and the error names it."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(listening, "_bind_first", refuse)
    with pytest.raises(BadConfig, match="port 80 on") as caught:
        await bind("127.0.0.1", 80)
    assert "1024" in caught.value.hint


async def test_a_fault_of_the_server_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets the error, and all clients are disconnected."""

    def fail(_: object) -> None:
        raise ZeroDivisionError

    server = a_server()
    served = await server.__aenter__()
    reader, writer = await served.connect()
    await until(lambda: served.slots.taken == 1)
    monkeypatch.setattr(Slots, "sweep", fail)
    with suppress(ConnectionError):
        async with asyncio.timeout(TIMEOUT):
            assert await reader.read() == b""
    writer.close()
    with pytest.raises(ZeroDivisionError):
        await server.__aexit__(None, None, None)


# --- stop -----------------------------------------------------------------------------------------


async def test_a_connected_client_without_a_request_gets_an_answer(served: Served) -> None:
    """Also when its request arrives after the stop was requested."""
    reader, writer = await served.connect()
    await until(lambda: served.slots.taken == 1)
    served.stopping.set()
    await until(lambda: served.slots.stopping)
    writer.write(GET)
    async with asyncio.timeout(TIMEOUT):
        (found,) = answers(await reader.read())
        await served.ended
    assert (found.status, found.headers["connection"]) == (200, "close")
    writer.close()


async def test_a_kept_connection_may_send_one_more_request(served: Served) -> None:
    """A probe every second does not hit a closed connection."""
    reader, writer = await served.connect()
    writer.write(GET)
    await reader.readuntil(b"}")
    served.stopping.set()
    await until(lambda: served.slots.stopping)
    writer.write(GET)
    async with asyncio.timeout(TIMEOUT):
        (found,) = answers(await reader.read())
    assert (found.status, found.headers["connection"]) == (200, "close")
    writer.close()


async def test_a_request_that_is_being_answered_is_finished(served: Served) -> None:
    """With its answer."""
    reader, writer = await served.connect()
    writer.write(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    await served.app.waiting.wait()
    served.stopping.set()
    await until(lambda: served.slots.stopping)
    served.app.go_on.set()
    async with asyncio.timeout(TIMEOUT):
        (found,) = answers(await reader.read())
    assert (found.body, found.headers["connection"]) == (b"went on", "close")
    writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GET,
        b"GET /heal",
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
        b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n",
        b"garbage\r\n\r\n",
    ],
)
async def test_no_client_delays_the_end(data: bytes) -> None:
    """Silent, slow and endless clients are cut off."""
    async with a_server(HttpLimits(drain=0.05, finish=0.05)) as served:
        _, writer = await served.connect(receive=2048)
        writer.write(data)
        await until(lambda: served.slots.counters.connections == 1)
        served.stopping.set()
        async with asyncio.timeout(TIMEOUT):
            await served.ended
        assert served.slots.clients == ()
        writer.close()


async def test_the_port_is_free_afterwards(served: Served) -> None:
    """The next process can bind it at once."""
    await served.probe()
    served.stopping.set()
    await served.ended
    (await bind("127.0.0.1", served.port)).close()


async def test_restarts_under_probes_cost_none_of_them() -> None:
    """Where another process holds the socket open, as systemd does."""
    with await bind("127.0.0.1", 0) as held:
        held.listen()
        statuses: list[int] = []
        done = asyncio.Event()

        async def probe(keep: bool) -> None:
            """As a health check does: on one connection, or on a new one each time."""
            reader = writer = None
            while not done.is_set():
                if writer is None:
                    reader, writer = await asyncio.open_connection(*held.getsockname())
                assert reader is not None
                writer.write(GET if keep else GET[:-2] + b"Connection: close\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len(b'{"ok":true}'))
                statuses.append(int(head.split()[1]))
                if b"connection: close" in head:
                    writer.close()
                    writer = None
                with suppress(TimeoutError):
                    await asyncio.wait_for(done.wait(), 0.05)
            if writer is not None:
                writer.close()

        async with asyncio.timeout(TIMEOUT * 2), asyncio.TaskGroup() as group:
            for keep in (False, True):
                group.create_task(probe(keep))
            for _ in range(3):
                before = len(statuses)
                async with a_server(sockets=[held.dup()]):
                    await until(lambda before=before: len(statuses) > before + 10)  # type: ignore[misc]
            async with a_server(sockets=[held.dup()]):
                done.set()
        assert set(statuses) == {200}


# --- libraries ------------------------------------------------------------------------------------

_READ = {
    "uvicorn's protocol": "1d4e1c579df41684",
    "uvicorn's flow control": "d39d16560df512f3",
    "uvicorn's server": "06e799f7c58f8be6",
    "httptools' parser": "90dbe98223947b85",
}
"""Hashes of the source that `connection.py` was written for or last compared with."""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", _READ)
def test_the_libraries_below_have_not_changed(name: str) -> None:
    """`connection.py` and `server.py` override parts of it: read what changed, run the tests, note the new hash."""
    parser = Path(httptools.__file__).with_name("parser") / "parser.pyx"
    found = {
        "uvicorn's protocol": lambda: inspect.getsource(httptools_impl),
        "uvicorn's flow control": lambda: inspect.getsource(flow_control),
        "uvicorn's server": lambda: inspect.getsource(Server),
        "httptools' parser": lambda: parser.read_text("utf-8") + version("httptools"),
    }
    assert _hash(found[name]()) == _READ[name], f"{name} has changed"


class _Seen:
    """Collects the events of the parser itself."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.parser = httptools.HttpRequestParser(self)

    def on_headers_complete(self) -> None:
        self.events.append("head")

    def on_body(self, body: bytes) -> None:
        self.events.append(body.decode())

    def on_message_complete(self) -> None:
        self.events.append("end")


def seen(*pieces: bytes) -> list[str]:
    """Its events, `error` the last where it raises one."""
    parser = _Seen()
    try:
        for piece in pieces:
            parser.parser.feed_data(piece)
    except httptools.HttpParserError:
        parser.events.append("error")
    return parser.events


def test_the_parser_finds_the_same_ends() -> None:
    """The head with its empty line, a body with its last byte, chunks with the line after them."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\n%s\r\n"
    assert seen(head % b"") == ["head", "end"]
    assert seen(head % b"Content-Length: 2\r\n") == ["head"]
    assert seen(head % b"Content-Length: 2\r\n", b"a") == ["head", "a"]
    assert seen(head % b"Content-Length: 2\r\n", b"a", b"b") == ["head", "a", "b", "end"]
    chunks = (head % b"Transfer-Encoding: chunked\r\n", b"2;x\r\n", b"ab\r\n", b"0\r\n")
    assert seen(*chunks) == ["head", "ab"]
    assert seen(*chunks, b"\r\n") == ["head", "ab", "end"]


async def test_an_application_gets_the_known_interface(served: Served) -> None:
    """A change of the transport that asyncio gives, or of the way in which uvicorn is asked, is seen here."""
    reader, writer = await served.connect()
    writer.write(GET)
    await reader.readuntil(b"}")
    (connection,) = served.slots.clients
    for name in ("cycle", "flow", "parser", "transport", "connections", "pipeline"):
        assert hasattr(connection, name)
    for name in ("disconnected", "message_event", "response_started", "response_complete", "body"):
        assert hasattr(connection.cycle, name)  # type: ignore[attr-defined]
    assert isinstance(writer.get_extra_info("socket").family, socket.AddressFamily)
    writer.close()
