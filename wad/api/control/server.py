"""The Unix sockets on which the daemon answers in the frames of `core.wire`: who is let in, and how it all ends.

On the control socket, to which `wadctl` speaks, the kernel says who a client is and so what it may do.  On the socket
of the HTTP process nobody has rights by being who they are (`http_calls`).

Both sides begin with HELLO; Response 0 is about the connection itself: refused, not understood, or one too many.
Nothing grows without limit: a frame that comes in, requests in flight, connections, what all clients send at once, and
what waits to be read by slow ones (`clients`).
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
from wad.api.control.clients import Budget, Clients, ControlClient, UnsentAnswers
from wad.api.control.connection import (
    ClientConnection,
    ClientLimits,
    FrameWriter,
    RequestHandler,
    SocketRequestHandler,
    Tasks,
)
from wad.api.control.peercred import HasOptions, Peer, access_of, is_worker, peer_of
from wad.api.control.unix_socket import BACKLOG, listening
from wad.api.http_process.calls import HttpCalls, HttpRequestHandler
from wad.api.operation import Access
from wad.core.errors import Denied, Stopping, Unavailable, WadError
from wad.core.wire import FOREIGN, HELLO, Response, encode

log = logging.getLogger(__name__)

Take = Callable[[socket.socket], Awaitable[None]]
"""Answer who is at the other end of a connected socket."""

MAX_CLIENTS: Final = 256
HTTP_CLIENTS: Final = 8
"""Connections of HTTP processes; each has two, and when it is replaced there are two processes."""
_HTTP_AT_ONCE: Final = (
    10  # frames of one of them: eight that ask as fast as they can leave others their turn
)
_HTTP_LARGE: Final = 4 << 20  # bytes that their large frames take at once
_LARGE: Final = 64 << 20  # bytes that large frames of all clients take at once
_UNREAD: Final = 64 << 20  # bytes of answers that wait for all clients
_BUFFER: Final = 64 << 10  # bytes that asyncio reads ahead on a connection
_TRIES: Final = 25  # looks for a place until a client is refused
_AGAIN: Final = 0.2  # seconds between them


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
    """Answer on the socket at `path` (or on `sock`, which listens already) while the block runs.

    On leaving nothing new is taken; streams end, other requests may finish for `grace` seconds.
    Raises AnotherDaemon, Conflict, BadConfig, StateUnwritable when it cannot begin.
    """
    server = _SocketServer(context, _ByPeer(context, group), identify)
    with ExitStack() as made:
        if sock is None:
            sock = made.enter_context(listening(path, group))
            log.info("answering on %s", path)
        else:
            log.info("answering on %s, which systemd holds", path)
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
    """Answer HTTP processes: those that connect to `listener`, and those whose connections are taken."""
    server = _SocketServer(context, _Anybody(calls), peer_of)
    async with server.open_on(listener, grace):
        yield server.take


class _Policy(Protocol):
    """What clients of one socket may do, and take."""

    def crowd(self) -> ClientLimits:
        """What all of them share."""
        ...

    async def asker(self, peer: Peer) -> RequestHandler:
        """Asks for this client."""
        ...

    def close(self) -> None:
        """Nobody comes any more."""
        ...


class _ByPeer:
    """The control socket: by the user and groups that the kernel names."""

    def __init__(self, context: Context, group: str) -> None:
        self._context = context
        self._group = group
        # Of its own: a directory service that is slow must not hold up what else the daemon does in threads.
        self._names = ThreadPoolExecutor(2, "peers")

    def crowd(self) -> ClientLimits:
        """What all clients share."""
        now = asyncio.get_running_loop().time
        return ClientLimits(Clients(MAX_CLIENTS, now), Budget(_LARGE), UnsentAnswers(_UNREAD))

    async def asker(self, peer: Peer) -> RequestHandler:
        """Asks for this client.  Raises Denied for a worker, which is of the daemon's user and no administrator."""
        if peer.uid == os.getuid() and is_worker(peer.pid, self._workers()):
            raise Denied("a worker has no business here")
        if peer.uid in (0, os.getuid()):
            access = Access.ADMIN  # nobody need be asked
        else:
            loop = asyncio.get_running_loop()
            access = await loop.run_in_executor(
                self._names, access_of, peer, os.getuid(), self._group
            )
        return SocketRequestHandler(self._context, access)

    def _workers(self) -> set[int]:
        """Their processes."""
        workers = [account.worker for account in self._context.accounts.all()]
        return {worker.pid for worker in workers if worker is not None and worker.pid is not None}

    def close(self) -> None:
        """Nobody comes any more."""
        self._names.shutdown(wait=False, cancel_futures=True)


class _Anybody:
    """The socket of the HTTP process."""

    def __init__(self, calls: HttpCalls) -> None:
        self._calls = calls

    def crowd(self) -> ClientLimits:
        """What all clients share: less than on the control socket, as who was taken over needs little else."""
        now = asyncio.get_running_loop().time
        return ClientLimits(
            Clients(HTTP_CLIENTS, now),
            Budget(2 * _HTTP_LARGE),  # one user has half of it
            UnsentAnswers(_UNREAD),
            frame=FOREIGN,
            at_once=_HTTP_AT_ONCE,
        )

    async def asker(self, peer: Peer) -> RequestHandler:
        """Asks for this client, who has no rights of its own."""
        return HttpRequestHandler(self._calls)

    def close(self) -> None:
        """Nothing is kept."""


class _SocketServer:
    """Lets clients in, and knows those who are in."""

    def __init__(
        self, context: Context, policy: _Policy, identify: Callable[[HasOptions], Peer]
    ) -> None:
        self._context = context
        self._policy = policy
        self._identify = identify
        self._tasks = Tasks(context)
        self._crowd = policy.crowd()
        self._lobby = policy.crowd().clients  # who waits for a place
        self._conversations: set[ClientConnection] = set()
        self._closing = False

    @asynccontextmanager
    async def open_on(self, sock: socket.socket | None, grace: float) -> AsyncIterator[None]:
        """Let clients in while the block runs."""
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
        """Let in who is at the other end already."""
        self._enter(*await asyncio.open_connection(sock=connection, limit=_BUFFER))

    def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.start(self._attend(reader, writer), "a client of a socket")

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = FrameWriter(writer, self._crowd.backlog)
        try:
            await line.send(encode(HELLO))
            peer = self._peer(writer.get_extra_info("socket"))
            client = await self._place(peer.uid, line)
            try:
                asker = await self._policy.asker(peer)
                await self._converse(
                    ClientConnection(self._context, reader, line, asker, self._crowd, client)
                )
            finally:
                self._crowd.clients.left(client)
        except WadError as refusal:
            await line.send(encode(Response(0, refusal, None)))
        finally:
            await line.close()

    async def _converse(self, conversation: ClientConnection) -> None:
        self._conversations.add(conversation)
        try:
            await conversation.run()
        finally:
            self._conversations.discard(conversation)

    def _peer(self, connection: HasOptions) -> Peer:
        """Raises Denied, Unavailable."""
        if self._closing:
            raise _stopping()
        try:
            return self._identify(connection)
        except OSError as error:
            raise Denied(f"the kernel does not say who asks: {error}") from error

    async def _place(self, uid: int, line: FrameWriter) -> ControlClient:
        """A place for one more, who may wait for it a little.  Raises Unavailable."""

        def leave(why: WadError) -> None:
            line.hang_up(encode(Response(0, why, None)))

        waiting = self._lobby.enter(uid, leave)
        if waiting is None:
            raise _crowded()
        try:
            for _ in range(_TRIES):
                if line.is_closing:
                    break
                if (client := self._crowd.clients.enter(uid, leave)) is not None:
                    return client
                await asyncio.sleep(_AGAIN)
        finally:
            self._lobby.left(waiting)
        raise _crowded()

    async def _close(self, grace: float) -> None:
        self._closing = True
        inside = list(self._conversations)
        for conversation in inside:
            conversation.refuse(_stopping())
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await asyncio.gather(*(conversation.finish() for conversation in inside))
        late = Unavailable("the daemon is stopping, and had begun this")
        await asyncio.gather(*(conversation.cut_off(late) for conversation in inside))
        await self._tasks.cancel()
        self._policy.close()


def _crowded() -> Unavailable:
    return Unavailable("all connections are in use", hint="try again in a moment; see who: ss -xp")


def _stopping() -> Stopping:
    return Stopping("the daemon is stopping", hint="try again in a moment")
