"""Requests to the daemon: waiting, repeating, and the error when the daemon does not answer."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from wad.core import wire
from wad.core.errors import (
    BadInput,
    Conflict,
    LegacyRefusal,
    Stopping,
    TimedOut,
    Unavailable,
    WadError,
)
from wad.http import daemon_client
from wad.http.daemon_client import DaemonLink
from wad.lib.clock import SystemClock

Answer = Callable[["Peer", wire.Request], Awaitable[None]]


class Peer:
    """The daemon's end of one connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer

    async def say(self, frame: wire.Frame) -> None:
        self.writer.write(wire.encode(frame))
        await self.writer.drain()


class FakeDaemon:
    """Answers on a socket, with the function of a test."""

    def __init__(
        self, path: Path, answer: Answer, *, hello: wire.Frame | None = wire.HELLO
    ) -> None:
        self.path = path
        self.answer = answer
        self.hello = hello
        self.asked: list[str] = []
        self.connections = 0
        self.open: set[asyncio.StreamWriter] = set()

    async def attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        peer, decoder = Peer(writer), wire.Decoder()
        if self.hello is not None:
            await peer.say(self.hello)
        try:
            while data := await reader.read(1 << 16):
                for frame in decoder.feed(data):
                    if isinstance(frame, wire.Request):
                        self.asked.append(frame.method)
                        await self.answer(peer, frame)
        except ConnectionError:
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self.attend, str(self.path))
        try:
            yield
        finally:
            server.close()
            for writer in self.open:
                writer.close()
            self.path.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timeouts of fractions of a second."""
    monkeypatch.setattr(daemon_client, "SILENCE", 0.2)
    monkeypatch.setattr(daemon_client, "STOPPING", 5.0)
    monkeypatch.setattr(daemon_client, "REFUSED", 5.0)
    monkeypatch.setattr(daemon_client, "_POLL_S", 0.02)


@asynccontextmanager
async def a_link(path: Path) -> AsyncIterator[DaemonLink]:
    """A link to the daemon at `path`."""

    async def connect() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await asyncio.get_running_loop().sock_connect(sock, str(path))
        except BaseException:
            sock.close()
            raise
        return sock

    link = DaemonLink(connect, SystemClock())
    try:
        yield link
    finally:
        await link.close()


async def echo(peer: Peer, request: wire.Request) -> None:
    """Answer with the name of the operation."""
    await peer.say(wire.Response(request.id, None, request.method))


async def silence(peer: Peer, request: wire.Request) -> None:
    """Do not answer."""


async def hang_up(peer: Peer, request: wire.Request) -> None:
    """Close the connection."""
    peer.writer.close()


async def refused(link: DaemonLink, *, repeatable: bool = True) -> WadError:
    """The error of a request."""
    with pytest.raises(WadError) as caught:
        await link.call("x", {}, repeatable=repeatable)
    return caught.value


async def test_many_requests_share_a_connection(tmp_path: Path) -> None:
    """Each gets its own answer."""
    fake = FakeDaemon(tmp_path / "s", echo)
    async with fake.running(), a_link(fake.path) as link:
        names = [f"m{number}" for number in range(100)]
        found = await asyncio.gather(*(link.call(name, {}, repeatable=True) for name in names))
    assert (found, fake.connections) == (names, 1)


async def test_the_daemon_is_connected_at_the_first_request(tmp_path: Path) -> None:
    """A connection makes systemd start the daemon."""
    fake = FakeDaemon(tmp_path / "s", echo)
    async with fake.running(), a_link(fake.path):
        await asyncio.sleep(0)
    assert fake.connections == 0


async def test_a_daemon_that_does_not_listen(tmp_path: Path) -> None:
    """503 with the time of the last answer: null without one."""
    async with a_link(tmp_path / "s") as link:
        error = await refused(link)
    assert isinstance(error, LegacyRefusal)
    assert (error.http_status, error.code) == (503, "daemon_unreachable")
    assert error.details["since"] is None


async def test_a_daemon_that_cannot_start_is_unavailable_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It announced its stop, and systemd closed its socket: 503 at once; after its start requests are answered."""

    async def stop(peer: Peer, request: wire.Request) -> None:
        await peer.say(wire.Notice("stopping", []))
        await peer.say(wire.Response(request.id, Stopping("stopping"), None))
        peer.writer.close()

    monkeypatch.setattr(daemon_client, "STOPPING", 3600.0)
    monkeypatch.setattr(daemon_client, "REFUSED", 0.1)
    fake = FakeDaemon(tmp_path / "s", stop)
    async with a_link(fake.path) as link:
        async with fake.running():
            waiting = [asyncio.create_task(refused(link)) for _ in range(3)]
            while not fake.asked:
                await asyncio.sleep(0.01)
        errors = await asyncio.wait_for(asyncio.gather(*waiting, refused(link)), 20)
        assert {error.code for error in errors} == {"daemon_unreachable"}
        fake.answer = echo
        async with fake.running():
            assert await link.call("x", {}, repeatable=True) == "x"


async def test_the_error_has_the_time_of_the_last_answer(tmp_path: Path) -> None:
    """In milliseconds since 1970."""
    fake = FakeDaemon(tmp_path / "s", echo)
    async with a_link(fake.path) as link, fake.running():
        await link.call("x", {}, repeatable=True)
        fake.answer = silence
        error = await refused(link)
    assert isinstance(error, LegacyRefusal)
    assert str(error.details["since"]).startswith("20")


@pytest.mark.parametrize("hello", [None, wire.HELLO])
async def test_a_silent_daemon_is_unavailable(tmp_path: Path, hello: wire.Frame | None) -> None:
    """Connected without an answer: before its HELLO, or afterwards; all waiting requests fail at once."""
    fake = FakeDaemon(tmp_path / "s", silence, hello=hello)
    async with fake.running(), a_link(fake.path) as link:
        errors = await asyncio.wait_for(asyncio.gather(*(refused(link) for _ in range(50))), 10)
    assert {error.code for error in errors} == {"daemon_unreachable"}
    assert fake.connections == 1


async def test_a_long_request_is_waited_for(tmp_path: Path) -> None:
    """As long as the daemon answers others meanwhile."""

    async def late(peer: Peer, request: wire.Request) -> None:
        if request.method == "probe.healthz":
            await echo(peer, request)
        else:
            asyncio.get_running_loop().call_later(
                1.0, lambda: peer.writer.write(wire.encode(wire.Response(request.id, None, "done")))
            )

    fake = FakeDaemon(tmp_path / "s", late)
    async with fake.running(), a_link(fake.path) as link:
        assert await link.call("x", {}, repeatable=False) == "done"
    assert "probe.healthz" in fake.asked


async def test_a_read_is_repeated(tmp_path: Path) -> None:
    """At the next daemon, when the connection ends."""
    fake = FakeDaemon(tmp_path / "s", hang_up)

    async def second(peer: Peer, request: wire.Request) -> None:
        fake.answer = echo
        await hang_up(peer, request)

    fake.answer = second
    async with fake.running(), a_link(fake.path) as link:
        assert await link.call("x", {}, repeatable=True) == "x"
    assert fake.asked == ["x", "x"]


async def test_a_change_is_not_repeated(tmp_path: Path) -> None:
    """It may have been done."""
    fake = FakeDaemon(tmp_path / "s", hang_up)
    async with fake.running(), a_link(fake.path) as link:
        error = await refused(link, repeatable=False)
    assert isinstance(error, TimedOut)
    assert fake.asked == ["x"]


async def test_a_request_that_was_not_begun_is_repeated(tmp_path: Path) -> None:
    """A daemon that stops announces it; its successor is waited for, longer than a silent daemon."""

    async def stops(peer: Peer, request: wire.Request) -> None:
        await peer.say(wire.Notice("stopping", []))
        await peer.say(wire.Response(request.id, Stopping("the daemon is stopping"), None))

    fake = FakeDaemon(tmp_path / "s", stops)
    async with a_link(fake.path) as link:
        async with fake.running():
            asking = asyncio.create_task(link.call("x", {}, repeatable=False))
            while not fake.asked:
                await asyncio.sleep(0.01)
        await asyncio.sleep(3 * daemon_client.SILENCE)
        fake.answer = echo
        async with fake.running():
            assert await asking == "x"


async def test_errors_of_the_daemon_are_errors(tmp_path: Path) -> None:
    """With their class."""

    async def refuse(peer: Peer, request: wire.Request) -> None:
        await peer.say(wire.Response(request.id, Conflict("no"), None))

    fake = FakeDaemon(tmp_path / "s", refuse)
    async with fake.running(), a_link(fake.path) as link:
        assert isinstance(await refused(link), Conflict)


async def test_another_protocol_version_is_reported(tmp_path: Path) -> None:
    """A daemon of another package."""
    fake = FakeDaemon(tmp_path / "s", echo, hello=wire.Notice("hello", [wire.PROTOCOL + 1]))
    async with fake.running(), a_link(fake.path) as link:
        error = await refused(link)
    assert error.http_status == 503


@pytest.mark.parametrize("params", [{"x": 2**64}, {"x": [0] * 20_000}, {"x": "y" * (5 << 20)}])
async def test_a_request_that_the_daemon_would_refuse_is_not_sent(
    tmp_path: Path, params: object
) -> None:
    """It would close the connection that all requests share."""
    fake = FakeDaemon(tmp_path / "s", echo)
    async with fake.running(), a_link(fake.path) as link:
        with pytest.raises(BadInput):
            await link.call("x", params, repeatable=True)
        assert await link.call("x", {}, repeatable=True) == "x"
    assert fake.connections == 1


async def test_a_refused_ping_is_a_sign_of_life(tmp_path: Path) -> None:
    """A daemon that answers a ping in any way runs; other requests continue to wait."""

    async def busy(peer: Peer, request: wire.Request) -> None:
        if request.method == "probe.healthz":
            await peer.say(wire.Response(request.id, Unavailable("too many requests"), None))
        else:
            asyncio.get_running_loop().call_later(
                1.0, lambda: peer.writer.write(wire.encode(wire.Response(request.id, None, "done")))
            )

    fake = FakeDaemon(tmp_path / "s", busy)
    async with fake.running(), a_link(fake.path) as link:
        assert await link.call("x", {}, repeatable=False) == "done"


async def test_a_begun_request_is_not_repeated_when_the_daemon_stops(tmp_path: Path) -> None:
    """A daemon that stops refuses a ping, and still answers the requests that it has begun."""

    async def stops(peer: Peer, request: wire.Request) -> None:
        if request.method == "probe.healthz":
            await peer.say(wire.Response(request.id, Stopping("the daemon is stopping"), None))
            return
        await peer.say(wire.Notice("stopping", []))
        asyncio.get_running_loop().call_later(
            1.0, lambda: peer.writer.write(wire.encode(wire.Response(request.id, None, "done")))
        )

    fake = FakeDaemon(tmp_path / "s", stops)
    async with fake.running(), a_link(fake.path) as link:
        assert await link.call("x", {}, repeatable=False) == "done"
    assert fake.asked.count("x") == 1


async def test_a_daemon_that_reads_nothing_gets_no_more_requests(tmp_path: Path) -> None:
    """A frozen process, for example: requests of strangers are not kept for it meanwhile."""
    taken = asyncio.Event()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.encode(wire.HELLO))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await taken.wait()
        writer.close()

    server = await asyncio.start_unix_server(attend, str(tmp_path / "s"))
    async with a_link(tmp_path / "s") as link:
        body = {"x": "y" * 100_000}
        tracemalloc.start()
        try:
            for _ in range(20):
                asked = [link.call("x", body, repeatable=True) for _ in range(50)]
                errors = await asyncio.gather(*asked, return_exceptions=True)
                assert {getattr(error, "code", error) for error in errors} == {"daemon_unreachable"}
            now, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            taken.set()
            server.close()
        # 8 MB of requests, in the buffer and with the callers, and what a growing buffer takes besides; without
        # the bound it is 200 MB.
        assert now < 36 << 20, f"{now >> 20} MB"


async def test_an_error_is_an_answer_too(tmp_path: Path) -> None:
    """A daemon that refuses every request has answered nevertheless."""

    async def refuse(peer: Peer, request: wire.Request) -> None:
        await peer.say(wire.Response(request.id, Conflict("no"), None))

    fake = FakeDaemon(tmp_path / "s", refuse)
    async with fake.running(), a_link(fake.path) as link:
        await refused(link)
        assert link.answered_ms is not None
