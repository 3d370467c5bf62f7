"""An ASGI application on uvicorn, with bounds on what strangers may take.

uvicorn runs the application and accepts connections; `connection.py` stands between it and the socket.  Signals, log
handlers and exit codes belong to the process, and uvicorn leaves them alone here.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import uvicorn
from starlette.requests import ClientDisconnect

from wad.http.server import connection, memory
from wad.http.server.connection import HttpConnection
from wad.http.server.head import RefusedRequest
from wad.http.server.limits import HttpLimits
from wad.http.server.log_rate import Limited, limited
from wad.http.server.slots import Slots

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)

PROBES: Final = frozenset(
    {b"/health", b"/healthz", b"/ready", b"/readyz", b"/live", b"/livez", b"/startupz"}
)
"""Paths that are answered when all places are taken."""

_ACCEPTED: Final = 0.01  # seconds in which what the kernel has accepted becomes a connection
_KERNEL: Final = 32 << 10
"""Bytes of a connection's data in the kernel, for each direction; it takes twice that."""


class _UvicornServer(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        places: Slots,
        stopping: asyncio.Event,
        started: Callable[[], object],
        lines: Sequence[tuple[Limited, logging.Logger]],
    ) -> None:
        super().__init__(config)
        self._places = places
        self._stopping = stopping
        self._started = started
        self._lines = lines

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and say so."""
        await super().startup(sockets)
        self._started()

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn's, ten times a second; and whoever takes too long is ended."""
        self._places.sweep()
        for held, logger in self._lines:
            held.say(logger)
        if self._places.crowd_left():
            memory.give_back()
        self.should_exit = self._stopping.is_set()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but who is connected and has not asked yet gets an answer, too; then nobody stays.

        Later ones wait in the queue of the socket for the next process, where systemd holds it.
        """
        self._places.stop()
        await asyncio.sleep(_ACCEPTED)
        for server in self.servers:
            server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._places.limits.drain):
                await self._places.empty.wait()
        await super().shutdown(sockets)
        self._places.end()


async def serve(
    application: Application,
    sockets: Sequence[socket.socket],
    *,
    stopping: asyncio.Event,
    limits: HttpLimits | None = None,
    probes: frozenset[bytes] = PROBES,
    started: Callable[[Slots], object] = lambda _: None,
) -> None:
    """Answer on these sockets until `stopping` is set and the running requests are answered.

    `started` is called when connections are accepted; the places that it is given count what becomes of clients.
    Closes the sockets.
    """
    loop = asyncio.get_running_loop()
    places = Slots(limits or HttpLimits(), probes, loop.time, loop.call_soon)
    for sock in sockets:  # what it accepts inherits this
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL)
    memory.keep_large_blocks_apart()
    failures = logging.getLogger("uvicorn.error")
    with (
        limited(connection.log, loop.time) as refusals,
        limited(log, loop.time) as errors,
        limited(failures, loop.time) as faults,
    ):
        server = _UvicornServer(
            _config(application, places),
            places,
            stopping,
            lambda: started(places),
            ((refusals, connection.log), (errors, log), (faults, failures)),
        )
        try:
            await server.serve(list(sockets))
        finally:
            for listener in getattr(server, "servers", ()):
                listener.close()
            places.end()


def _config(application: Application, places: Slots) -> uvicorn.Config:
    return uvicorn.Config(
        cast("Any", _answering(application)),
        http=cast("Any", functools.partial(HttpConnection, places=places)),
        loop="none",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=cast("int", places.limits.finish),
    )


def _answering(application: Application) -> Application:
    """The application; where it fails without an answer there is one, in the form in which the apps read errors."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)
            if message.get("more_body"):  # uvicorn does not wait where the client takes everything
                await asyncio.sleep(0)

        try:
            await application(scope, receive, note)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:  # by uvicorn, when it ends: nobody waits for this task
            if not begun:
                await _refuse(
                    send, RefusedRequest(503, "unavailable", "the server stops", retry_after=1)
                )
        except Exception:
            if begun:
                raise
            log.exception("the application failed")
            await _refuse(send, _fault())
        else:
            if not begun:
                await _refuse(send, _fault())

    return answer


def _fault() -> RefusedRequest:
    return RefusedRequest(500, "internal", "the request failed by a fault of the server")


async def _refuse(send: Send, refusal: RefusedRequest) -> None:
    """The last answer on its connection."""
    await send(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"cache-control", b"no-store"),
                (b"content-length", b"%d" % len(refusal.body)),
                (b"connection", b"close"),
            ],
        }
    )
    await send({"type": "http.response.body", "body": refusal.body})
