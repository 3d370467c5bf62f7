"""The HTTP shim: a raw ASGI application under uvicorn, in the daemon's own loop, for probes.

Routes are rows of one table.  Every answer is JSON, is never cached, and every error becomes an answer in one place.
uvicorn leaves signals, log handlers and exit codes alone here: they are the daemon's.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import msgspec
import uvicorn

from wad.api import health
from wad.api.context import Context
from wad.api.dispatch import internal_error
from wad.api.health import Document
from wad.api.httpproto import OneWriteProtocol
from wad.core.errors import BadConfig, Conflict, NotFound, WadError

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answer = tuple[int, Document]
Route = Callable[[Context, Scope], Answer]

_CONCURRENT: Final = 1000  # connections; beyond it uvicorn answers 503
_GRACE: Final = 2  # seconds in which running requests may finish
_LAST: Final = 0.3  # seconds in which a client that just connected may ask, at the end
_LOOK: Final = 0.01
_REQUEST_ID: Final = 128  # characters of an X-Request-Id that come back
_NOT_IN_AN_ID: Final = re.compile(rb"[^A-Za-z0-9._:/+=-]+")

_encode: Final = msgspec.json.Encoder().encode
_HEADERS: Final = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
_ALLOW: Final = (b"allow", b"GET, HEAD")


# --- the routes -----------------------------------------------------------------------------


def _health(context: Context, scope: Scope) -> Answer:
    document = health.health(context, _request_id(scope))
    return 200 if document["ok"] else 503, document


def _healthz(context: Context, scope: Scope) -> Answer:
    return 200, health.healthz(context)


def _ready(context: Context, scope: Scope) -> Answer:
    return 200, health.ready(context)


ROUTES: Final[Mapping[str, Route]] = {
    "/health": _health,
    "/healthz": _healthz,
    "/ready": _ready,
}
"""All of them are for GET and HEAD."""


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return _NOT_IN_AN_ID.sub(b"", value)[:_REQUEST_ID].decode()
    return ""


# --- the application --------------------------------------------------------------------------


class Application:
    """What uvicorn calls for each request."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; its body, if it has one, is not read."""
        method = scope["method"]
        status, document = self._answer(scope, method)
        body = _encode(document)
        headers = [*_HEADERS, (b"content-length", b"%d" % len(body))]
        if status == 405:
            headers.append(_ALLOW)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})

    def _answer(self, scope: Scope, method: str) -> Answer:
        path = scope["path"]
        route = ROUTES.get(path)
        if route is None:
            return _refusal(NotFound("there is nothing at this path"))
        if method not in ("GET", "HEAD"):
            return 405, _failure("method_not_allowed", "only GET and HEAD are answered here")
        try:
            return route(self._context, scope)
        except WadError as error:
            return _refusal(error)
        except Exception as error:
            return _refusal(internal_error(self._context, path, error))


def _refusal(error: WadError) -> Answer:
    return error.http_status, _failure(error.code, str(error), error.hint)


def _failure(code: str, message: str, hint: str = "") -> Document:
    failure = {"success": False, "error": code, "message": message}
    return failure | {"hint": hint} if hint else failure


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
    context: Context, host: str, port: int, sock: socket.socket | None = None
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
            limit_concurrency=_CONCURRENT,
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
