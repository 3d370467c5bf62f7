"""The control socket, to which `wadctl` speaks in the frames of `core.wire`: who is let in, and how it all ends.

The kernel says who a client is.  Both sides begin with HELLO; Response 0 is about the connection itself: refused, not
understood, or one too many.  Nothing grows without limit: a frame that comes in, requests in flight, connections, what
all clients send at once, and what waits to be read by slow ones (`clients`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from wad.api.clients import Backlog, Budget, Client, Clients
from wad.api.context import Context
from wad.api.conversation import Conversation, Crowd, Line, Tasks
from wad.api.listening import BACKLOG, listening
from wad.api.operation import Access
from wad.api.peer import HasOptions, Peer, access_of, is_worker, peer_of
from wad.core.errors import Denied, Unavailable, WadError
from wad.core.wire import HELLO, Response, encode

log = logging.getLogger(__name__)

MAX_CLIENTS: Final = 256
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
    door = _Door(context, group, identify)
    if sock is not None:
        async with door.open_on(sock, grace):
            log.info("answering on %s, which systemd holds", path)
            yield
        return
    with listening(path, group) as made:
        async with door.open_on(made, grace):
            log.info("answering on %s", path)
            yield


class _Door:
    """Lets clients in, and knows those who are in."""

    def __init__(
        self, context: Context, group: str, identify: Callable[[HasOptions], Peer]
    ) -> None:
        self._context = context
        self._group = group
        self._identify = identify
        self._tasks = Tasks(context)
        now = asyncio.get_running_loop().time
        self._crowd = Crowd(Clients(MAX_CLIENTS, now), Budget(_LARGE), Backlog(_UNREAD))
        self._lobby = Clients(MAX_CLIENTS, now)  # who waits for a place
        # Of its own: a directory service that is slow must not hold up what else the daemon does in threads.
        self._names = ThreadPoolExecutor(2, "peers")
        self._conversations: set[Conversation] = set()
        self._closing = False

    @asynccontextmanager
    async def open_on(self, sock: socket.socket, grace: float) -> AsyncIterator[None]:
        """Let clients in while the block runs."""
        # Not start_unix_server: from Python 3.13 on it deletes the file of a socket that may be systemd's, not ours.
        server = await asyncio.start_server(self._enter, sock=sock, limit=_BUFFER, backlog=BACKLOG)
        try:
            yield
        finally:
            server.close()
            await self._close(grace)

    def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.start(self._attend(reader, writer), "a client of the control socket")

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(writer, self._crowd.backlog)
        try:
            await line.send(encode(HELLO))
            peer = self._peer(writer.get_extra_info("socket"))
            client = await self._place(peer.uid, line)
            try:
                access = await self._access(peer)
                await self._converse(
                    Conversation(self._context, reader, line, access, self._crowd, client)
                )
            finally:
                self._crowd.clients.left(client)
        except WadError as refusal:
            await line.send(encode(Response(0, refusal, None)))
        finally:
            await line.close()

    async def _converse(self, conversation: Conversation) -> None:
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

    async def _place(self, uid: int, line: Line) -> Client:
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

    async def _access(self, peer: Peer) -> Access:
        """What this client may do.  Raises Denied for a worker, which is of the daemon's user and no administrator."""
        if peer.uid == os.getuid() and is_worker(peer.pid, self._workers()):
            raise Denied("a worker has no business here")
        if peer.uid in (0, os.getuid()):
            return Access.ADMIN  # nobody need be asked
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._names, access_of, peer, os.getuid(), self._group)

    def _workers(self) -> set[int]:
        """Their processes."""
        workers = [account.worker for account in self._context.accounts.all()]
        return {worker.pid for worker in workers if worker is not None and worker.pid is not None}

    async def _close(self, grace: float) -> None:
        self._closing = True
        inside = list(self._conversations)
        for conversation in inside:
            conversation.refuse(_stopping())
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await asyncio.gather(*(conversation.finish() for conversation in inside))
        await asyncio.gather(*(conversation.cut_off(_stopping()) for conversation in inside))
        await self._tasks.cancel()
        self._names.shutdown(wait=False, cancel_futures=True)


def _crowded() -> Unavailable:
    return Unavailable(
        f"all {MAX_CLIENTS} connections are in use", hint="try again in a moment; see who: ss -xp"
    )


def _stopping() -> Unavailable:
    return Unavailable("the daemon is stopping", hint="try again in a moment")
