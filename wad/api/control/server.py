"""The Unix socket servers of the daemon, with the frames of `core.wire`: accepting clients and shutting down.

On the control socket, which `wadctl` uses, a client's access follows from its peer credentials.  On the socket of the
HTTP process a client has no rights of its own (`http_process.calls`).

Both sides begin with HELLO; Response 0 is about the connection itself: refused, invalid, or too many.
Everything is bounded: the size of a frame, the requests in flight, the connections, what all clients send at once, and
the unread replies (`clients`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from wad.api.context import Context
from wad.api.control.clients import Budget, Clients, ControlClient, UnreadReplies
from wad.api.control.connection import ClientConnection, ClientLimits
from wad.api.control.frame_writer import FrameWriter
from wad.api.control.peercred import HasOptions, Peer, access_of, is_worker, peer_of
from wad.api.control.request_handler import RequestHandler, SocketRequestHandler
from wad.api.control.tasks import Tasks
from wad.api.control.unix_socket import BACKLOG, listening
from wad.api.http_process.calls import HttpCalls, HttpRequestHandler
from wad.api.operation import Access
from wad.core.errors import Denied, Stopping, Unavailable, WadError
from wad.core.wire import HELLO, UNTRUSTED, Response, encode

log = logging.getLogger(__name__)

Take = Callable[[socket.socket], Awaitable[None]]
"""Serves the client at the other end of a connected socket."""

MAX_CLIENTS: Final = 256
HTTP_CLIENTS: Final = 8
"""The connections of HTTP processes; each has two, and during a replacement there are two processes."""
_HTTP_AT_ONCE: Final = (
    10  # frames of one connection: even eight busy connections disconnect time for others
)
_HTTP_LARGE: Final = 4 << 20  # bytes that large frames of HTTP processes take at once
_LARGE: Final = 64 << 20  # bytes that large frames of all clients take at once
_UNREAD: Final = 64 << 20  # unread bytes of replies to all clients
_BUFFER: Final = 64 << 10  # bytes that asyncio reads ahead on a connection
_TRIES: Final = 25  # attempts to get a slot before a client is refused
_RETRY_S: Final = 0.2  # between the attempts


@asynccontextmanager
async def serve_control(
    context: Context,
    path: Path,
    group: str,
    *,
    sock: socket.socket | None = None,
    grace: float = 2.0,
    identify: Callable[[HasOptions], Peer] = peer_of,
) -> AsyncIterator[None]:
    """Serve the socket at `path` (or `sock`, which listens already) while the block runs.

    On exit new requests are refused, streams end, and other requests may finish for `grace` seconds.
    Raises AnotherDaemon, Conflict, BadConfig, StateUnwritable when it cannot begin.
    """
    server = _SocketServer(context, _ControlPolicy(context, group), identify)
    with ExitStack() as stack:
        if sock is None:
            sock = stack.enter_context(listening(path, group))
            log.info("listening on %s", path)
        else:
            log.info("listening on %s, which systemd holds", path)
        async with server.open_on(sock, grace):
            yield


@asynccontextmanager
async def serve_http_calls(
    context: Context,
    calls: HttpCalls,
    *,
    listener: socket.socket | None = None,
    grace: float = 2.0,
) -> AsyncIterator[Take]:
    """Serve HTTP processes: those that connect to `listener`, and those whose connections are passed to `Take`."""
    server = _SocketServer(context, _HttpPolicy(calls), peer_of)
    async with server.open_on(listener, grace):
        yield server.take


class _Policy(Protocol):
    """The rules for the clients of one socket: their limits and rights."""

    def limits(self) -> ClientLimits:
        """The limits that all clients share."""
        ...

    async def handler(self, peer: Peer) -> RequestHandler:
        """The handler of this client's requests."""
        ...

    def close(self) -> None:
        """Release resources; no more clients will connect."""
        ...


class _ControlPolicy:
    """The control socket: access by the peer's user and groups."""

    def __init__(self, context: Context, group: str) -> None:
        self._context = context
        self._group = group
        # A pool of its own: a slow directory service must not block the daemon's other threads.
        self._names = ThreadPoolExecutor(2, "peers")

    def limits(self) -> ClientLimits:
        """The limits that all clients share."""
        now = asyncio.get_running_loop().time
        return ClientLimits(Clients(MAX_CLIENTS, now), Budget(_LARGE), UnreadReplies(_UNREAD))

    async def handler(self, peer: Peer) -> RequestHandler:
        """The handler of this client's requests.  Raises Denied for a worker, which runs as the daemon's user."""
        if peer.uid == os.getuid() and is_worker(peer.pid, self._workers()):
            raise Denied("a worker may not use the control socket")
        if peer.uid in (0, os.getuid()):
            access = Access.ADMIN  # without a query of the user database
        else:
            loop = asyncio.get_running_loop()
            access = await loop.run_in_executor(
                self._names, access_of, peer, os.getuid(), self._group
            )
        return SocketRequestHandler(self._context, access)

    def _workers(self) -> set[int]:
        """The process ids of the workers."""
        workers = [account.worker for account in self._context.accounts.all()]
        return {worker.pid for worker in workers if worker is not None and worker.pid is not None}

    def close(self) -> None:
        """Stop the threads."""
        self._names.shutdown(wait=False, cancel_futures=True)


class _HttpPolicy:
    """The socket of the HTTP process: its clients have no rights of their own."""

    def __init__(self, calls: HttpCalls) -> None:
        self._calls = calls

    def limits(self) -> ClientLimits:
        """The limits that all clients share: lower than on the control socket, to limit a compromised process."""
        now = asyncio.get_running_loop().time
        return ClientLimits(
            Clients(HTTP_CLIENTS, now),
            Budget(2 * _HTTP_LARGE),  # one user gets half of it
            UnreadReplies(_UNREAD),
            frame=UNTRUSTED,
            at_once=_HTTP_AT_ONCE,
        )

    async def handler(self, peer: Peer) -> RequestHandler:
        """The handler of this client's calls."""
        return HttpRequestHandler(self._calls)

    def close(self) -> None:
        """Nothing to release."""


class _SocketServer:
    """Accepts clients on one socket and keeps track of their connections."""

    def __init__(
        self, context: Context, policy: _Policy, identify: Callable[[HasOptions], Peer]
    ) -> None:
        self._context = context
        self._policy = policy
        self._identify = identify
        self._tasks = Tasks(context)
        self._limits = policy.limits()
        self._waiting = policy.limits().clients  # those that wait for a slot
        self._connections: set[ClientConnection] = set()
        self._closing = False

    @asynccontextmanager
    async def open_on(self, sock: socket.socket | None, grace: float) -> AsyncIterator[None]:
        """Accept clients while the block runs."""
        server = None
        if sock is not None:
            # Not start_unix_server: from Python 3.13 on it deletes the file of a socket that may be systemd's.
            server = await asyncio.start_server(
                self._enter, sock=sock, limit=_BUFFER, backlog=BACKLOG
            )
        try:
            yield
        finally:
            if server is not None:
                server.close()
            await self._close(grace)

    async def take(self, connection: socket.socket) -> None:
        """Serve a connected client."""
        self._enter(*await asyncio.open_connection(sock=connection, limit=_BUFFER))

    def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.start(self._serve(reader, writer), "a client of a socket")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameWriter(writer, self._limits.backlog)
        try:
            await frames.send(encode(HELLO))
            peer = self._peer(writer.get_extra_info("socket"))
            client = await self._slot(peer.uid, frames)
            try:
                handler = await self._policy.handler(peer)
                await self._run(
                    ClientConnection(self._context, reader, frames, handler, self._limits, client)
                )
            finally:
                self._limits.clients.left(client)
        except WadError as refusal:
            await frames.send(encode(Response(0, refusal, None)))
        finally:
            await frames.close()

    async def _run(self, connection: ClientConnection) -> None:
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _peer(self, connection: HasOptions) -> Peer:
        """The client's process.  Raises Denied, Stopping."""
        if self._closing:
            raise _stopping()
        try:
            return self._identify(connection)
        except OSError as error:
            raise Denied(f"the peer's credentials cannot be read: {error}") from error

    async def _slot(self, uid: int, frames: FrameWriter) -> ControlClient:
        """A connection slot, after a short wait if necessary.  Raises Unavailable."""

        def disconnect(why: WadError) -> None:
            frames.hang_up(encode(Response(0, why, None)))

        waiting = self._waiting.enter(uid, disconnect)
        if waiting is None:
            raise _crowded()
        try:
            for _ in range(_TRIES):
                if frames.is_closing:
                    break
                if (client := self._limits.clients.enter(uid, disconnect)) is not None:
                    return client
                await asyncio.sleep(_RETRY_S)
        finally:
            self._waiting.left(waiting)
        raise _crowded()

    async def _close(self, grace: float) -> None:
        self._closing = True
        open_now = list(self._connections)
        for connection in open_now:
            connection.refuse(_stopping())
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await asyncio.gather(*(connection.finish() for connection in open_now))
        late = Unavailable("the daemon is stopping and did not complete the request")
        await asyncio.gather(*(connection.cut_off(late) for connection in open_now))
        await self._tasks.cancel()
        self._policy.close()


def _crowded() -> Unavailable:
    return Unavailable(
        "all connections are in use", hint="try again in a moment; `ss -xp` lists the clients"
    )


def _stopping() -> Stopping:
    return Stopping("the daemon is stopping", hint="try again in a moment")
