"""An HTTP process that was taken over, on the socket where the daemon answers it: what it may take of the daemon."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.fake_daemon import FakeDaemon
from wad.api import dispatch
from wad.api.control import connection
from wad.api.control.server import HTTP_CLIENTS, serve_http_calls
from wad.api.http_process.calls import HttpCalls
from wad.core import wire

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def a_socket(path: Path) -> AsyncIterator[FakeDaemon]:
    """A daemon that answers HTTP processes at this path."""
    daemon = FakeDaemon()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1024)
    listener.setblocking(False)
    calls = HttpCalls(daemon, daemon.http_processes)
    async with serve_http_calls(daemon, calls, listener=listener):
        yield daemon


async def connect(path: Path) -> Client:
    """One connection, greeted."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(wire.encode(wire.HELLO))
    return reader, writer


def request(ident: int, method: str = "probe.healthz") -> bytes:
    """A public operation."""
    return wire.encode(wire.Request(ident, method, [{}, []]))


async def answers(reader: asyncio.StreamReader, count: int) -> list[wire.Response]:
    """This number of connections."""
    decoder, found = wire.Decoder(wire.REPLY), list[wire.Response]()
    async with asyncio.timeout(30):
        while len(found) < count:
            data = await reader.read(1 << 16)
            assert data, f"hung up after {len(found)} answers"
            found += [each for each in decoder.feed(data) if isinstance(each, wire.Response)]
    return found


async def test_a_client_that_reads_no_answers_is_not_read(tmp_path: Path) -> None:
    """Each answer that waits has a task: there are never more of them than the client may have requests."""
    async with a_socket(tmp_path / "s"):
        reader, writer = await connect(tmp_path / "s")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        sent, before = 0, len(asyncio.all_tasks())
        try:
            while sent < 100_000:
                writer.write(b"".join(request(sent + number + 1) for number in range(1000)))
                async with asyncio.timeout(2):
                    await writer.drain()
                sent += 1000
        except TimeoutError:
            pass
        assert len(asyncio.all_tasks()) - before < 2 * 512 + 50
        assert sent < 100_000
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await answers(reader, sent)) >= sent  # and when it takes them, it gets them all
        writer.close()


async def test_too_many_large_answers_end_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many callers share it: one more page than there is room for is refused, and all the others are answered."""
    monkeypatch.setattr(
        connection, "_MAX_UNREAD", 1 << 40
    )  # all are begun before the first is taken

    async def large(*_: object) -> str:
        await asyncio.sleep(0)
        return "x" * (3 << 20)

    async with a_socket(tmp_path / "s"):
        reader, writer = await connect(tmp_path / "s")
        with monkeypatch.context() as patched:
            patched.setattr(dispatch, "call", large)
            writer.write(b"".join(request(number + 1) for number in range(30)))
            found = await answers(reader, 30)
        refused = [each.error for each in found if each.error is not None]
        assert refused
        assert {error.code for error in refused} == {"unavailable"}
        assert len(refused) < 30
        writer.write(request(31))
        assert (await answers(reader, 1))[0].error is None
        writer.close()


async def test_few_connections_are_let_in(tmp_path: Path) -> None:
    """An idle one is disconnected for another, so that thousands of them exclude no client."""
    async with a_socket(tmp_path / "s"):
        held = [await connect(tmp_path / "s") for _ in range(20 * HTTP_CLIENTS)]
        reader, writer = await connect(tmp_path / "s")
        writer.write(request(1))
        found = await answers(reader, 1)
        assert (found[0].id, found[0].error) == (1, None)
        for _, each in (*held, (reader, writer)):
            each.close()


async def test_a_request_that_is_too_large_is_refused_before_it_is_kept(tmp_path: Path) -> None:
    """What an HTTP process has to ask is small."""
    async with a_socket(tmp_path / "s"):
        reader, writer = await connect(tmp_path / "s")
        writer.write((wire.UNTRUSTED.size + 1).to_bytes(4, "big"))
        found = await answers(reader, 1)
        assert found[0].id == 0
        assert found[0].error is not None
        assert found[0].error.code == "invalid_data"
        writer.close()
