"""Asking the daemon: what is waited for, what is asked again, and what is said when nobody answers."""

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
    """Answers on a socket as a test likes."""

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
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are shorter here."""
    monkeypatch.setattr(daemon_client, "SILENCE", 0.2)
    monkeypatch.setattr(daemon_client, "STOPPING", 5.0)
    monkeypatch.setattr(daemon_client, "REFUSED", 5.0)
    monkeypatch.setattr(daemon_client, "_POLL_S", 0.02)


@asynccontextmanager
async def a_link(path: Path) -> AsyncIterator[DaemonLink]:
    """A way to the daemon at `path`."""

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
    """Say what was asked."""
    await peer.say(wire.Response(request.id, None, request.method))


async def silence(peer: Peer, request: wire.Request) -> None:
    """Say nothing."""


async def hang_up(peer: Peer, request: wire.Request) -> None:
    """Go away."""
    peer.writer.close()


async def refused(link: DaemonLink, *, repeatable: bool = True) -> WadError:
    """What a question ends with."""
    with pytest.raises(WadError) as caught:
        await link.call("x", {}, repeatable=repeatable)
    return caught.value


async def test_many_questions_share_a_connection(tmp_path: Path) -> None:
    """Each gets its own answer."""
    fake = FakeDaemon(tmp_path / "s", echo)
    async with fake.running(), a_link(fake.path) as link:
        names = [f"m{number}" for number in range(100)]
        found = await asyncio.gather(*(link.call(name, {}, repeatable=True) for name in names))
    assert (found, fake.connections) == (names, 1)


async def test_nobody_is_asked_before_somebody_asks_us(tmp_path: Path) -> None:
    """systemd starts the daemon for who connects."""
    fake = FakeDaemon(tmp_path / "s", echo)
    async with fake.running(), a_link(fake.path):
        await asyncio.sleep(0)
    assert fake.connections == 0


async def test_nobody_listens(tmp_path: Path) -> None:
    """503, and since when: null where it never answered."""
    async with a_link(tmp_path / "s") as link:
        error = await refused(link)
    assert isinstance(error, LegacyRefusal)
    assert (error.http_status, error.code) == (503, "daemon_unreachable")
    assert error.details["since"] is None


async def test_nobody_waits_for_a_daemon_that_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It announced its stop, and systemd closed its socket: 503 at once; when it is back the next one is answered."""

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


async def test_it_says_since_when(tmp_path: Path) -> None:
    """The time of the last answer."""
    fake = FakeDaemon(tmp_path / "s", echo)
    async with a_link(fake.path) as link, fake.running():
        await link.call("x", {}, repeatable=True)
        fake.answer = silence
        error = await refused(link)
    assert isinstance(error, LegacyRefusal)
    assert str(error.details["since"]).startswith("20")


@pytest.mark.parametrize("hello", [None, wire.HELLO])
async def test_a_silent_daemon_is_not_waited_for(tmp_path: Path, hello: wire.Frame | None) -> None:
    """Connected without an answer: before its HELLO, or afterwards; all who wait hear so at once, not one by one."""
    fake = FakeDaemon(tmp_path / "s", silence, hello=hello)
    async with fake.running(), a_link(fake.path) as link:
        errors = await asyncio.wait_for(asyncio.gather(*(refused(link) for _ in range(50))), 10)
    assert {error.code for error in errors} == {"daemon_unreachable"}
    assert fake.connections == 1


async def test_who_works_long_is_waited_for(tmp_path: Path) -> None:
    """As long as it answers others meanwhile."""

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


async def test_what_reads_is_asked_again(tmp_path: Path) -> None:
    """Of the next daemon, when the connection ends."""
    fake = FakeDaemon(tmp_path / "s", hang_up)

    async def second(peer: Peer, request: wire.Request) -> None:
        fake.answer = echo
        await hang_up(peer, request)

    fake.answer = second
    async with fake.running(), a_link(fake.path) as link:
        assert await link.call("x", {}, repeatable=True) == "x"
    assert fake.asked == ["x", "x"]


async def test_what_changes_something_is_asked_once(tmp_path: Path) -> None:
    """It may have happened."""
    fake = FakeDaemon(tmp_path / "s", hang_up)
    async with fake.running(), a_link(fake.path) as link:
        error = await refused(link, repeatable=False)
    assert isinstance(error, TimedOut)
    assert fake.asked == ["x"]


async def test_what_was_not_begun_is_asked_again(tmp_path: Path) -> None:
    """A daemon that stops says so; its successor is waited for, longer than a silent one."""

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


async def test_another_version_is_said(tmp_path: Path) -> None:
    """A daemon of another package."""
    fake = FakeDaemon(tmp_path / "s", echo, hello=wire.Notice("hello", [wire.PROTOCOL + 1]))
    async with fake.running(), a_link(fake.path) as link:
        error = await refused(link)
    assert error.http_status == 503


@pytest.mark.parametrize("params", [{"x": 2**64}, {"x": [0] * 20_000}, {"x": "y" * (5 << 20)}])
async def test_what_the_daemon_would_not_take_is_not_sent(tmp_path: Path, params: object) -> None:
    """It would hang up on everybody."""
    fake = FakeDaemon(tmp_path / "s", echo)
    async with fake.running(), a_link(fake.path) as link:
        with pytest.raises(BadInput):
            await link.call("x", params, repeatable=True)
        assert await link.call("x", {}, repeatable=True) == "x"
    assert fake.connections == 1


async def test_a_refused_sign_of_life_is_one(tmp_path: Path) -> None:
    """Whatever a daemon answers to a ping, it lives; who waits for something else goes on waiting."""

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


async def test_what_was_begun_is_not_asked_again_when_the_daemon_stops(tmp_path: Path) -> None:
    """A daemon that stops refuses a ping, and still answers what it has begun."""

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


async def test_a_daemon_that_takes_nothing_is_sent_nothing_more(tmp_path: Path) -> None:
    """A stopped process, say: what strangers send meanwhile is not kept for it."""
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
        # 8 MB of requests, once in the buffer and once with who waits, and what a growing buffer takes besides; without
        # the bound it is 200 MB.
        assert now < 36 << 20, f"{now >> 20} MB"


async def test_an_error_is_an_answer_too(tmp_path: Path) -> None:
    """Where all that is asked is refused, the daemon has answered nevertheless."""

    async def refuse(peer: Peer, request: wire.Request) -> None:
        await peer.say(wire.Response(request.id, Conflict("no"), None))

    fake = FakeDaemon(tmp_path / "s", refuse)
    async with fake.running(), a_link(fake.path) as link:
        await refused(link)
        assert link.answered_ms is not None
