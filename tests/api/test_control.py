"""The control socket over real sockets: many requests, cancelling, slow and broken clients, the end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.fake_daemon import FakeAccount, FakeDaemon
from tests.support.waiting import until
from wad.api.control import connection as conversation
from wad.api.control import server
from wad.api.control.peercred import HasOptions, Peer, is_worker
from wad.api.control.request_handler import MAX_REQUESTS
from wad.api.control.server import serve_control
from wad.core.errors import (
    BadInput,
    Conflict,
    Denied,
    TimedOut,
    TooLong,
    Unavailable,
    WadError,
)
from wad.core.wire import (
    HELLO,
    MAX_FRAME,
    Decoder,
    Frame,
    Notice,
    Request,
    Response,
    StreamItem,
    check_hello,
    encode,
)
from wadctl.client import Client

pytestmark = pytest.mark.usefixtures("acc_1")

GROUP = "no-such-group"


class Caller:
    """A client in frames; it sends HELLO and expects one, unless it is `rude`."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, rude: bool = False
    ) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = Decoder()
        self._frames: list[Frame] = []
        self._greeted = False
        if not rude:
            self.send(HELLO)

    def send(self, *frames: Frame) -> None:
        """Send these frames."""
        self.writer.write(b"".join(map(encode, frames)))

    def ask(self, ident: int, method: str, **params: Any) -> None:
        """Send a request."""
        self.send(Request(ident, method, params))

    async def receive(self) -> Frame | None:
        """The next frame; None at the end."""
        while not self._frames:
            try:
                data = await self.reader.read(1 << 16)
            except ConnectionError:
                return None
            if not data:
                return None
            self._frames.extend(self._decoder.feed(data))
            if not self._greeted and self._frames:
                check_hello(self._frames.pop(0))
                self._greeted = True
        return self._frames.pop(0)

    async def response(self) -> Response:
        """The next frame, which is a response."""
        frame = await self.receive()
        assert isinstance(frame, Response), frame
        return frame

    async def error(self) -> WadError:
        """The next frame, which is an error."""
        error = (await self.response()).error
        assert error is not None
        return error

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Held:
    """A handler that waits and records how it ended."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.go = asyncio.Event()
        self.end = ""

    async def run(self, *_: object, **__: object) -> Any:
        """Wait for `go`."""
        self.began.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.end = "cancelled"
            raise
        self.end = "done"
        return []


@pytest.fixture
async def served(daemon: FakeDaemon, path: Path) -> AsyncIterator[Path]:
    """The path of the daemon's open control socket."""
    async with serve_control(daemon, path, GROUP):
        yield path


@asynccontextmanager
async def client(path: Path, limit: int = 1 << 16, *, rude: bool = False) -> AsyncIterator[Caller]:
    """A connection."""
    caller = Caller(*await asyncio.open_unix_connection(path, limit=limit), rude=rude)
    try:
        yield caller
    finally:
        await caller.close()


def reading(daemon: FakeDaemon) -> Held:
    """Make `threads.list`, which may be cut off, wait."""
    held = Held()
    daemon.store.threads = held.run
    return held


def changing(daemon: FakeDaemon) -> Held:
    """Make `accounts.stop`, which may not be cut off, wait."""
    held = Held()
    account: FakeAccount = daemon.accounts.find("acc-1")
    account.stop = held.run  # type: ignore[method-assign]
    return held


# --- asking ---------------------------------------------------------------------------------------


async def test_a_request_is_answered(served: Path) -> None:
    """The response carries the id of the request."""
    async with client(served) as peer:
        peer.ask(41, "version")
        response = await peer.response()
    assert (response.id, response.result["boot_id"]) == (41, "b00t")


async def test_an_error_is_answered(served: Path) -> None:
    """An error is returned with its class and hint, and the connection stays open."""
    async with client(served) as peer:
        peer.ask(1, "accounts.show", account="zz")
        assert (await peer.error()).hint == "wadctl account list"
        peer.ask(2, "version")
        assert (await peer.response()).error is None


async def test_an_unknown_operation_is_answered(served: Path) -> None:
    """An unknown operation gets an error as its answer."""
    async with client(served) as peer:
        peer.ask(1, "nope")
        assert (await peer.error()).code == "unknown_operation"


async def test_requests_run_side_by_side(daemon: FakeDaemon, served: Path) -> None:
    """A slow request does not hold up the next one on the same connection."""
    held = reading(daemon)
    async with client(served) as peer:
        peer.ask(1, "threads.list")
        await held.began.wait()
        peer.ask(2, "version")
        assert (await peer.response()).id == 2
        held.go.set()
        assert (await peer.response()).id == 1


async def test_an_id_is_used_once_at_a_time(daemon: FakeDaemon, served: Path) -> None:
    """A second request of the same id is refused while the first runs."""
    held = reading(daemon)
    async with client(served) as peer:
        peer.ask(1, "threads.list")
        await held.began.wait()
        peer.ask(1, "version")
        assert isinstance(await peer.error(), BadInput)


async def test_requests_in_flight_are_bounded(daemon: FakeDaemon, served: Path) -> None:
    """One too many is refused; those before are not harmed."""
    held = reading(daemon)
    async with client(served) as peer:
        for ident in range(1, MAX_REQUESTS + 2):
            peer.ask(ident, "threads.list")
        refused = await peer.response()
        assert isinstance(refused.error, Unavailable)
        held.go.set()
        answered = {(await peer.response()).id for _ in range(MAX_REQUESTS)}
    assert answered | {refused.id} == set(range(1, MAX_REQUESTS + 2))


async def test_a_reply_that_does_not_fit_a_frame(daemon: FakeDaemon, served: Path) -> None:
    """A reply over the client's limit is replaced by an error with the reason."""
    daemon.warnings.append("x" * MAX_FRAME)
    async with client(served) as peer:
        peer.ask(1, "status")
        assert isinstance(await peer.error(), TooLong)


async def test_a_reply_that_cannot_be_encoded(daemon: FakeDaemon, served: Path) -> None:
    """A fault in a reply is an internal error, not silence."""
    daemon.started_ms = 2**70
    async with client(served) as peer:
        peer.ask(1, "status")
        assert (await peer.error()).code == "internal"
    assert daemon.internal_errors == 1


# --- streams ----------------------------------------------------------------------------------------


async def test_a_stream_sends_items_then_a_response(daemon: FakeDaemon, served: Path) -> None:
    """A streamed reply is items and an empty response."""
    daemon.bus.publish("state", "one")
    daemon.bus.publish("state", "two")
    async with client(served) as peer:
        peer.ask(5, "events")
        frames = [await peer.receive() for _ in range(3)]
    assert [frame.item["text"] for frame in frames if isinstance(frame, StreamItem)] == [
        "one",
        "two",
    ]
    assert frames[2] == Response(5, None, None)


async def test_a_stream_follows(daemon: FakeDaemon, served: Path) -> None:
    """A later event is sent when it happens."""
    async with client(served) as peer:
        peer.ask(5, "events", follow=True)
        await until(lambda: daemon.bus.followers)
        daemon.bus.publish("state", "later")
        frame = await peer.receive()
    assert isinstance(frame, StreamItem)
    assert frame.item["text"] == "later"


async def test_cancelling_a_stream(daemon: FakeDaemon, served: Path) -> None:
    """A cancelled stream ends with a response, and its handler is gone."""
    async with client(served) as peer:
        peer.ask(5, "events", follow=True)
        await until(lambda: daemon.bus.followers)
        peer.send(Notice("cancel", [5]))
        assert isinstance(await peer.error(), TimedOut)
        assert daemon.bus.followers == 0


async def test_going_away_ends_a_stream(daemon: FakeDaemon, served: Path) -> None:
    """The handler of a client that has gone does not stay."""
    async with client(served) as peer:
        peer.ask(5, "events", follow=True)
        await until(lambda: daemon.bus.followers)
    await until(lambda: not daemon.bus.followers)


async def test_a_slow_reader_holds_up_its_own_stream_only(daemon: FakeDaemon, served: Path) -> None:
    """What waits for a client that does not read is bounded, and others are served."""
    taken = 0

    async def endless() -> AsyncIterator[Any]:
        nonlocal taken
        daemon.bus.publish("state", "x" * 10_000)
        while True:
            taken += 1
            yield daemon.bus.history[0]

    @asynccontextmanager
    async def follow(**_: object) -> AsyncIterator[AsyncIterator[Any]]:
        yield endless()

    daemon.bus.follow = follow
    async with client(served, limit=1000) as slow, client(served) as other:
        slow.ask(1, "events", follow=True)
        before = -1
        while before != taken:  # until it stands still
            before = taken
            await asyncio.sleep(0.05)
        other.ask(1, "version")
        assert (await other.response()).error is None
        assert taken * 10_000 < 8 << 20


# --- cancelling -------------------------------------------------------------------------------------


async def test_cancelling_a_read(daemon: FakeDaemon, served: Path) -> None:
    """A cancelled request is answered once, with an error."""
    held = reading(daemon)
    async with client(served) as peer:
        peer.ask(3, "threads.list")
        await held.began.wait()
        peer.send(Notice("cancel", [3]))
        assert (await peer.response()).id == 3
    assert held.end == "cancelled"


async def test_cancelling_before_it_began(daemon: FakeDaemon, served: Path) -> None:
    """A request and its cancelling in one breath give one answer."""
    held = reading(daemon)
    async with client(served) as peer:
        peer.send(Request(3, "threads.list", {}), Notice("cancel", [3]))
        assert isinstance(await peer.error(), TimedOut)
        peer.ask(4, "version")
        assert (await peer.response()).id == 4
    assert not held.began.is_set()


async def test_a_change_is_not_cancelled(daemon: FakeDaemon, served: Path) -> None:
    """Half a change would be worse: it continues and is answered."""
    held = changing(daemon)
    async with client(served) as peer:
        peer.ask(3, "accounts.stop", account="acc-1")
        await held.began.wait()
        peer.send(Notice("cancel", [3]))
        peer.ask(4, "version")
        assert (await peer.response()).id == 4
        held.go.set()
        assert (await peer.response()).error is None
    assert held.end == "done"


async def test_going_away_cancels_reads(daemon: FakeDaemon, served: Path) -> None:
    """The client does not wait for the answer any more."""
    held = reading(daemon)
    async with client(served) as peer:
        peer.ask(3, "threads.list")
        await held.began.wait()
    await until(lambda: held.end)
    assert held.end == "cancelled"


async def test_going_away_lets_changes_finish(daemon: FakeDaemon, served: Path) -> None:
    """A change whose client has gone runs to its end."""
    held = changing(daemon)
    async with client(served) as peer:
        peer.ask(3, "accounts.stop", account="acc-1")
        await held.began.wait()
    async with client(served) as other:  # by its answers the server has seen that the first is gone
        for ident in range(1, 10):
            other.ask(ident, "version")
            await other.response()
    held.go.set()
    await until(lambda: held.end)
    assert held.end == "done"


async def test_cancelling_what_is_not_there(served: Path) -> None:
    """A late or meaningless notice is ignored."""
    async with client(served) as peer:
        peer.send(Notice("cancel", [9]), Notice("cancel", "?"), Notice("odd", None))
        peer.ask(1, "version")
        assert (await peer.response()).error is None


# --- broken clients -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\1\xc1",
        b"\0\0\0\0",
        encode(Response(1, None, None)),
        encode(StreamItem(1, None)),
    ],
)
async def test_garbage_gets_an_error_and_ends_the_connection(served: Path, garbage: bytes) -> None:
    """Anything but a request gets one error for the connection, and the connection is closed."""
    async with client(served) as peer:
        peer.writer.write(garbage)
        response = await peer.response()
        assert response.id == 0
        assert isinstance(response.error, BadInput)
        assert await peer.receive() is None


async def test_an_oversize_frame_is_refused(served: Path) -> None:
    """A frame larger than the limit is refused before it fills the memory."""
    async with client(served) as peer:
        peer.writer.write(struct.pack(">I", MAX_FRAME + 1))
        response = await peer.response()
    assert response.id == 0
    assert isinstance(response.error, BadInput)


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (Notice("hello", [99]), "version 99"),
        (Notice("hello", ["x"]), "did not send its version"),
        (Request(1, "version", {}), "did not send its version"),
    ],
)
async def test_another_protocol_is_refused(served: Path, first: Frame, says: str) -> None:
    """A client with another version, or without one, gets an error before anything is done."""
    async with client(served, rude=True) as peer:
        peer.send(first)
        response = await peer.response()
        assert (response.id, type(response.error)) == (0, BadInput)
        assert says in str(response.error)
        assert await peer.receive() is None


async def test_half_a_frame(daemon: FakeDaemon, served: Path) -> None:
    """A client that ends in the middle of a frame does no harm."""
    async with client(served) as peer:
        peer.writer.write(encode(Request(1, "version", {}))[:-1])
    async with client(served) as peer:
        peer.ask(1, "version")
        assert (await peer.response()).error is None
    assert daemon.internal_errors == 0


async def test_a_client_that_resets(daemon: FakeDaemon, served: Path) -> None:
    """A client that is gone before its answer does no harm."""
    for _ in range(20):
        _, writer = await asyncio.open_unix_connection(served)
        writer.write(encode(HELLO) + encode(Request(1, "status", {})) * 5)
        writer.transport.abort()
    async with client(served) as peer:
        peer.ask(1, "version")
        assert (await peer.response()).error is None
    assert daemon.internal_errors == 0


# --- access ---------------------------------------------------------------------------------------------


def stranger(connection: HasOptions) -> Peer:
    """An unknown process."""
    return Peer(1, 60_000, 60_000)


async def test_a_stranger_may_look_and_no_more(daemon: FakeDaemon, path: Path) -> None:
    """A user whom the socket's mode admits may read; a change is refused, with the group that may do it."""
    async with serve_control(daemon, path, GROUP, identify=stranger), client(path) as peer:
        peer.ask(1, "accounts.list")
        assert (await peer.response()).error is None
        peer.ask(2, "accounts.stop", account="acc-1")
        error = await peer.error()
    assert isinstance(error, Denied)
    assert "control.group" in error.hint
    assert daemon.accounts.find("acc-1").orders == []


async def test_an_unknown_peer_is_refused(daemon: FakeDaemon, path: Path) -> None:
    """Where the kernel does not name the peer's user, the connection is refused."""

    def silent(connection: HasOptions) -> Peer:
        raise OSError("not supported")

    async with serve_control(daemon, path, GROUP, identify=silent), client(path) as peer:
        assert isinstance(await peer.error(), Denied)


async def test_a_worker_is_not_an_administrator(daemon: FakeDaemon, path: Path) -> None:
    """It is of the daemon's own user: what it is counts before that."""
    daemon.accounts.find("acc-1").worker = SimpleNamespace(pid=os.getpid())
    async with serve_control(daemon, path, GROUP), client(path) as peer:
        assert isinstance(await peer.error(), Denied)
    daemon.accounts.find("acc-1").worker = None
    async with serve_control(daemon, path, GROUP), client(path) as peer:
        peer.ask(1, "accounts.stop", account="acc-1")
        assert (await peer.response()).error is None


def a_process(
    proc: Path, pid: int, parent: int, group: str = "/system.slice/wad.service/daemon"
) -> None:
    """As the kernel shows one, whose name tries to be a field."""
    (proc / str(pid)).mkdir(exist_ok=True)
    (proc / str(pid) / "cgroup").write_text(f"4:memory:/x\n0::{group}\n")
    (proc / str(pid) / "stat").write_text(f"{pid} (a) S 7 (b) S {parent} 1 1 0\n")


def test_processes_that_count_as_workers(tmp_path: Path) -> None:
    """A worker, its children, the processes of its control group, and a process that ends before it is checked."""
    for pid, parent in ((10, 1), (20, 10), (30, 20), (31, 30), (40, 10)):
        a_process(tmp_path, pid, parent)
    a_process(tmp_path, 50, 1, "/system.slice/wad.service/worker-acc-1")
    a_process(tmp_path, 60, 1, "/user.slice/worker-acc-1/shell")
    a_process(
        tmp_path, 80, 79
    )  # a login's shell, whose parent is of another user and cannot be seen
    found = {
        pid: is_worker(pid, {20}, tmp_path) for pid in (0, 1, 10, 20, 30, 31, 40, 50, 60, 70, 80)
    }
    assert found == {
        0: False, 1: False, 10: False, 20: True, 30: True, 31: True, 40: False, 50: True, 60: False, 70: True,
        80: False,
    }  # fmt: skip


def test_a_circle_of_parents_ends(tmp_path: Path) -> None:
    """Process ids are reused during the check."""
    a_process(tmp_path, 10, 20)
    a_process(tmp_path, 20, 10)
    assert is_worker(10, set(), tmp_path)


async def test_a_fault_while_accepting_is_counted(
    daemon: FakeDaemon, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection's task that fails is logged and counted, and the next is served."""

    def broken(connection: HasOptions) -> Peer:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        async with serve_control(daemon, path, GROUP, identify=broken), client(path) as peer:
            assert await peer.receive() is None
    assert "ZeroDivisionError" in caplog.text
    assert daemon.internal_errors == 1


# --- crowds -------------------------------------------------------------------------------------------


async def test_a_client_without_a_slot_gets_an_error(
    daemon: FakeDaemon, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections in use are not given away; the others continue."""
    monkeypatch.setattr(server, "MAX_CLIENTS", 1)
    monkeypatch.setattr(server, "_TRIES", 2)
    async with serve_control(daemon, path, GROUP), client(path) as first:
        first.ask(1, "events", follow=True)
        await until(lambda: daemon.bus.followers)
        async with client(path) as second:
            assert isinstance(await second.error(), Unavailable)
        first.ask(2, "version")
        assert (await first.response()).error is None


@pytest.mark.parametrize("rude", [False, True])
async def test_idle_connections_exclude_no_client(
    daemon: FakeDaemon, path: Path, monkeypatch: pytest.MonkeyPatch, rude: bool
) -> None:
    """An idle client, with or without a HELLO, is disconnected for one that sends requests."""
    monkeypatch.setattr(server, "MAX_CLIENTS", 5)
    async with serve_control(daemon, path, GROUP), AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(client(path, rude=rude)) for _ in range(9)]
        async with client(path) as asking:
            asking.ask(1, "version")
            assert (await asking.response()).error is None
        assert "was idle" in str(await idle[0].error())
        assert await idle[0].receive() is None


async def test_a_client_without_a_hello_is_disconnected(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a timeout, with an error."""
    monkeypatch.setattr(conversation, "HELLO_TIMEOUT", 0.1)
    async with client(served, rude=True) as silent:
        assert "no HELLO" in str(await silent.error())
        assert await silent.receive() is None


async def test_a_client_with_an_unfinished_frame_is_disconnected(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slowly bytes arrive; a client that is idle between two frames stays."""
    monkeypatch.setattr(conversation, "FRAME_TIMEOUT", 0.3)
    async with client(served) as idle, client(served) as slow:
        idle.ask(1, "version")
        await idle.response()
        slow.writer.write(b"\0\0\0")
        assert "incomplete" in str(await slow.error())
        assert await slow.receive() is None
        idle.ask(2, "version")
        assert (await idle.response()).error is None


async def test_a_large_frame_needs_a_hello(served: Path) -> None:
    """A client sends HELLO before the server accepts megabytes from it."""
    async with client(served, rude=True) as peer:
        peer.writer.write(struct.pack(">I", MAX_FRAME) + b"x" * 100)
        assert isinstance(await peer.error(), BadInput)
        assert await peer.receive() is None


async def test_unfinished_large_frames_are_bounded_together(
    daemon: FakeDaemon, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most stay in the kernel's queues; a small request is answered meanwhile, and the room is freed again."""
    monkeypatch.setattr(conversation, "FRAME_TIMEOUT", 2.0)
    half = struct.pack(">I", MAX_FRAME) + b"x" * (MAX_FRAME - 1)
    async with serve_control(daemon, path, GROUP), AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(client(path)) for _ in range(30)]
        tracemalloc.start()
        for peer in peers:
            peer.writer.write(half)
        async with client(path) as small:
            small.ask(1, "version")
            assert (await small.response()).error is None
        for peer in peers:
            while await peer.receive() is not None:
                pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # What this test's own side has not sent yet is traced, too.
        assert peak < 30 * len(half) + (77 << 20)
        async with client(path) as late:
            late.ask(1, "version", padding=b"x" * (1 << 20))
            assert (await late.response()).id == 1


async def test_unread_answers_are_bounded_together(
    daemon: FakeDaemon, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client with the most unread answers is disconnected; the others get theirs."""
    monkeypatch.setattr(server, "_UNREAD", 8 << 20)
    daemon.warnings.append("x" * (1 << 20))
    async with serve_control(daemon, path, GROUP), client(path, limit=1000) as greedy:
        for ident in range(1, 40):
            greedy.ask(ident, "status")
        await greedy.writer.drain()
        async with client(path) as other:
            other.ask(1, "status")
            assert (await other.response()).error is None
        received = 0
        while (frame := await greedy.receive()) is not None:
            received += isinstance(frame, Response)
        assert received < 39


async def test_a_flood_of_notices_delays_no_other_client(daemon: FakeDaemon, path: Path) -> None:
    """Frames are handled a few at a time, those of other clients in between."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with serve_control(daemon, path, GROUP), client(path) as flooding:
        flooding.ask(1, "version")
        await flooding.response()
        counting = asyncio.create_task(count())
        flooding.writer.write(encode(Notice("x", [])) * 5000)
        flooding.ask(2, "version")
        before = turns
        await flooding.response()
        counting.cancel()
        assert turns - before > 50


async def test_two_hundred_clients_at_once_are_all_served(daemon: FakeDaemon, path: Path) -> None:
    """They arrive in one moment, as if a script starts them."""

    def ask() -> str:
        with Client(str(path), 60) as asking:
            return str(asking.call("version")["version"])

    async with serve_control(daemon, path, GROUP):
        with ThreadPoolExecutor(200) as pool:
            loop = asyncio.get_running_loop()
            answers = await asyncio.gather(*(loop.run_in_executor(pool, ask) for _ in range(200)))
    assert len(answers) == 200


# --- beginning and end ------------------------------------------------------------------------------------


async def test_a_socket_that_listens_already(daemon: FakeDaemon, path: Path) -> None:
    """A socket handed over by systemd is used as it is, and its file stays."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(path))
        sock.listen()
        async with serve_control(daemon, path, GROUP, sock=sock), client(path) as peer:
            peer.ask(1, "version")
            assert (await peer.response()).error is None
    assert path.exists()


async def test_it_cannot_begin(daemon: FakeDaemon, path: Path) -> None:
    """An obstacle is an error at the start."""
    path.write_text("")
    with pytest.raises(Conflict):
        async with serve_control(daemon, path, GROUP):
            pass


async def test_the_end_closes_idle_connections(daemon: FakeDaemon, path: Path) -> None:
    """A client that asks nothing does not hold up the end, and the socket is gone."""
    async with serve_control(daemon, path, GROUP):
        peer = Caller(*await asyncio.open_unix_connection(path))
        peer.ask(1, "version")
        await peer.response()
    assert await peer.receive() is None
    assert not path.exists()
    await peer.close()


async def test_the_end_lets_requests_finish(daemon: FakeDaemon, path: Path) -> None:
    """Running requests are answered before the socket is closed."""
    held = changing(daemon)
    async with serve_control(daemon, path, GROUP, grace=60):
        peer = Caller(*await asyncio.open_unix_connection(path))
        peer.ask(1, "accounts.stop", account="acc-1")
        await held.began.wait()
        asyncio.get_running_loop().call_later(0.05, held.go.set)
    assert (await peer.response()).error is None
    await peer.close()


async def test_the_end_cuts_off_what_lasts_too_long(daemon: FakeDaemon, path: Path) -> None:
    """After the grace period a request is ended, and its answer has the reason."""
    held = changing(daemon)
    async with serve_control(daemon, path, GROUP, grace=0.01):
        peer = Caller(*await asyncio.open_unix_connection(path))
        peer.ask(1, "accounts.stop", account="acc-1")
        await held.began.wait()
    assert "stopping" in str(await peer.error())
    assert held.end == "cancelled"
    await peer.close()


async def test_the_end_ends_streams(daemon: FakeDaemon, path: Path) -> None:
    """A stream has no end of its own, so it does not use up the grace."""
    async with serve_control(daemon, path, GROUP, grace=60):
        peer = Caller(*await asyncio.open_unix_connection(path))
        peer.ask(1, "events", follow=True)
        await until(lambda: daemon.bus.followers)
    assert isinstance(await peer.error(), Unavailable)
    await peer.close()


async def test_nothing_new_is_taken_at_the_end(daemon: FakeDaemon, path: Path) -> None:
    """A request that arrives while others finish is refused."""
    held = changing(daemon)

    async def late() -> WadError:
        await until(lambda: not path.exists() or held.began.is_set())
        await asyncio.sleep(0.05)
        peer.ask(2, "version")
        error = await peer.error()
        held.go.set()
        return error

    async with serve_control(daemon, path, GROUP, grace=60):
        peer = Caller(*await asyncio.open_unix_connection(path))
        peer.ask(1, "accounts.stop", account="acc-1")
        await held.began.wait()
        refused = asyncio.create_task(late())
    assert "stopping" in str(await refused)
    await peer.close()


async def test_a_reader_that_never_reads_does_not_hold_up_the_end(
    daemon: FakeDaemon, path: Path
) -> None:
    """What it did not take in the last moment is dropped, and no task is left behind."""
    daemon.warnings.append("x" * (1 << 20))
    async with serve_control(daemon, path, GROUP, grace=0.01):
        _, writer = await asyncio.open_unix_connection(path, limit=1000)
        asked: list[Frame] = [HELLO, *(Request(i, "status", {}) for i in range(1, 20))]
        writer.write(b"".join(map(encode, asked)))
        await asyncio.sleep(0.1)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    writer.transport.abort()


async def test_an_error_in_the_block_passes(daemon: FakeDaemon, path: Path) -> None:
    """The block's own error is raised unchanged, after a clean end."""
    with pytest.raises(ZeroDivisionError):
        async with serve_control(daemon, path, GROUP):
            raise ZeroDivisionError
    assert not path.exists()
