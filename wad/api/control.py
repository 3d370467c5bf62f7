"""The control socket, to which `wadctl` speaks in the frames of `core.wire`: who is let in, and how it all ends.

The kernel says who a client is.  Both sides begin with HELLO; Response 0 is about the connection itself: refused, not
understood, or one too many.  Nothing grows without limit: a frame that comes in, requests in flight,
connections, and what waits to be read by a slow client.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from wad.api.context import Context
from wad.api.conversation import Conversation, Line, Tasks
from wad.api.listening import listening
from wad.api.operation import Access
from wad.api.peer import HasOptions, Peer, access_of, peer_of
from wad.core.errors import Denied, Unavailable, WadError
from wad.core.wire import HELLO, Response, encode

log = logging.getLogger(__name__)

MAX_CLIENTS: Final = 256
_BUFFER: Final = 64 << 10  # bytes that asyncio reads ahead on a connection


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
        self._clients = Tasks(context)
        self._conversations: set[Conversation] = set()
        self._closing = False

    @asynccontextmanager
    async def open_on(self, sock: socket.socket, grace: float) -> AsyncIterator[None]:
        """Let clients in while the block runs."""
        # Not start_unix_server: from Python 3.13 on it deletes the file of a socket that may be systemd's, not ours.
        server = await asyncio.start_server(self._enter, sock=sock, limit=_BUFFER)
        try:
            yield
        finally:
            server.close()
            await self._close(grace)

    def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.start(self._attend(reader, writer), "a client of the control socket")

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(writer)
        try:
            await line.send(encode(HELLO))
            access = await self._admit(writer.get_extra_info("socket"))
            await self._converse(Conversation(self._context, reader, line, access))
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

    async def _admit(self, connection: HasOptions) -> Access:
        """What this client may do.  Raises Denied, Unavailable."""
        if self._closing:
            raise _stopping()
        if len(self._clients) > MAX_CLIENTS:
            raise Unavailable(f"{MAX_CLIENTS} clients are connected already")
        try:
            peer = self._identify(connection)
        except OSError as error:
            raise Denied(f"the kernel does not say who asks: {error}") from error
        return await asyncio.to_thread(access_of, peer, os.getuid(), self._group)

    async def _close(self, grace: float) -> None:
        self._closing = True
        inside = list(self._conversations)
        for conversation in inside:
            conversation.refuse(_stopping())
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await asyncio.gather(*(conversation.finish() for conversation in inside))
        await asyncio.gather(*(conversation.cut_off(_stopping()) for conversation in inside))
        await self._clients.cancel()


def _stopping() -> Unavailable:
    return Unavailable("the daemon is stopping", hint="try again in a moment")
