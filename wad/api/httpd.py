"""The HTTP shim: a raw ASGI application under uvicorn, in the daemon's own loop.

Routes are rows of tables in `wad.api.rest`.  No answer is cached, and every error becomes JSON in one place.
uvicorn leaves signals, log handlers and exit codes alone here: they are the daemon's.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import uvicorn

from wad.api.context import Context
from wad.api.dispatch import internal_error
from wad.api.httpproto import OneWriteProtocol
from wad.api.rest.exchange import Receive, Request, Scope
from wad.api.rest.site import Site
from wad.core.errors import BadConfig, Conflict, WadError

log = logging.getLogger(__name__)

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_GRACE: Final = 2  # seconds in which running requests may finish
_LAST: Final = 0.3  # seconds in which a client that just connected may ask, at the end
_LOOK: Final = 0.01
_NO_STORE: Final = (b"cache-control", b"no-store")


# --- the application --------------------------------------------------------------------------


class Application:
    """What uvicorn calls for each request."""

    def __init__(self, context: Context) -> None:
        self._site = Site(context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        answer, shared = await self._site.answer(request)
        headers = [
            (b"content-type", answer.content_type),
            _NO_STORE,
            (b"content-length", b"%d" % len(answer.body)),
            *answer.headers,
            *shared,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if request.method == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})


# --- the server ---------------------------------------------------------------------------------


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the daemon's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but who is connected already and has not asked yet gets an answer, too.

        Later ones wait in the queue of the socket for the next process, where systemd holds it.
        """
        for server in self.servers:
            server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST):
                await asyncio.sleep(_LOOK)  # what was accepted becomes a connection
                while not all(map(_has_asked, self.server_state.connections)):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK)
        await super().shutdown(sockets)


def _has_asked(connection: object) -> bool:
    return not isinstance(connection, OneWriteProtocol) or connection.has_asked


@asynccontextmanager
async def serve_http(
    context: Context,
    host: str,
    port: int,
    sock: socket.socket | None = None,
) -> AsyncIterator[int]:
    """Answer on `host` and `port` (0: any free one), or on `sock`; the bound port, while the block runs.

    Raises Conflict when the port is in use, BadConfig when it cannot be had.
    """
    sock = sock or await _bind(host, port)
    host, bound, *_ = sock.getsockname()
    async with _running(_server(Application(context)), sock, context):
        log.info("answering on http://%s:%d", f"[{host}]" if ":" in host else host, bound)
        yield bound


def _server(application: Application) -> _Server:
    return _Server(
        uvicorn.Config(
            application,
            loop="none",
            http=OneWriteProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )
    )


@asynccontextmanager
async def _running(server: _Server, sock: socket.socket, context: Context) -> AsyncIterator[None]:
    serving = asyncio.create_task(server.serve(sockets=[sock]), name="http")
    up = asyncio.create_task(server.up.wait(), name="http is up")
    try:
        await asyncio.wait((serving, up), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        serving.add_done_callback(lambda task: _ended(task, server, context))
        yield
    finally:
        up.cancel()
        server.should_exit = True
        await asyncio.wait((serving, up))
        sock.close()


def _ended(serving: asyncio.Task[None], server: _Server, context: Context) -> None:
    """Say it when uvicorn ends before it was told to: /health will be missed."""
    if not serving.cancelled() and isinstance(error := serving.exception(), Exception):
        internal_error(context, "the HTTP server", error)
    elif not server.should_exit:
        log.error("the HTTP server ended by itself")


async def _bind(host: str, port: int) -> socket.socket:
    """A bound socket.  Raises Conflict, BadConfig."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return _bind_first(found)
    except OSError as error:
        raise _unbound(host, port, error) from error


def _bind_first(found: list[Any]) -> socket.socket:
    """The first address that this machine has; `localhost` may name ::1 where there is no IPv6."""
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            return sock
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRNOTAVAIL:
                raise
    raise OSError(errno.EADDRNOTAVAIL, "this machine has no such address")


def _unbound(host: str, port: int, error: OSError) -> WadError:
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"port {port} on {host} is in use",
            hint=f"`ss -ltnp sport = :{port}` shows by whom; set http.port to another, or http.enabled to false",
        )
    if error.errno == errno.EACCES:
        return BadConfig(
            f"port {port} on {host} is not for this user: {error.strerror}",
            hint="set http.port to 1024 or more, or let systemd open it (wad-http.socket)",
        )
    return BadConfig(
        f"cannot answer HTTP on {host} port {port}: {error.strerror}",
        hint="set http.address to an address of this machine",
    )
