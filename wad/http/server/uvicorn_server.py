"""Runs an ASGI application on uvicorn, with limits for clients.

uvicorn accepts connections and runs the application; `connection.py` is between it and the socket.  The process handles
signals, logging and exit codes; uvicorn does not touch them.
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
"""The paths that are served when all slots are in use."""

_ACCEPTED: Final = 0.01  # seconds in which accepted sockets become connections
_KERNEL: Final = 32 << 10
"""The kernel's buffer of a connection in bytes, for each direction; the kernel allocates twice that."""


class _UvicornServer(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        slots: Slots,
        stopping: asyncio.Event,
        started: Callable[[], object],
        lines: Sequence[tuple[Limited, logging.Logger]],
    ) -> None:
        super().__init__(config)
        self._slots = slots
        self._stopping = stopping
        self._started = started
        self._lines = lines

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: the process handles signals."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """The same as uvicorn's, and call `started`."""
        await super().startup(sockets)
        self._started()

    async def on_tick(self, counter: int) -> bool:
        """The same as uvicorn's, ten times a second, and check the deadlines of connections."""
        self._slots.sweep()
        for held, logger in self._lines:
            held.report(logger)
        if self._slots.crowd_left():
            memory.give_back()
        self.should_exit = self._stopping.is_set()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The same as uvicorn's, but connected clients may send a request first; then all connections are closed.

        Later clients wait in the socket's queue for the next process, if systemd holds the socket.
        """
        self._slots.stop()
        await asyncio.sleep(_ACCEPTED)
        for server in self.servers:
            server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._slots.limits.drain):
                await self._slots.empty.wait()
        await super().shutdown(sockets)
        self._slots.end()


async def serve(
    application: Application,
    sockets: Sequence[socket.socket],
    *,
    stopping: asyncio.Event,
    limits: HttpLimits | None = None,
    probes: frozenset[bytes] = PROBES,
    started: Callable[[Slots], object] = lambda _: None,
) -> None:
    """Serve these sockets until `stopping` is set and the running requests are answered.

    `started` is called when connections are accepted, with the slots, which count connections and requests.
    Closes the sockets.
    """
    loop = asyncio.get_running_loop()
    slots = Slots(limits or HttpLimits(), probes, loop.time, loop.call_soon)
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
            _config(application, slots),
            slots,
            stopping,
            lambda: started(slots),
            ((refusals, connection.log), (errors, log), (faults, failures)),
        )
        try:
            await server.serve(list(sockets))
        finally:
            for listener in getattr(server, "servers", ()):
                listener.close()
            slots.end()


def _config(application: Application, slots: Slots) -> uvicorn.Config:
    return uvicorn.Config(
        cast("Any", _with_error_response(application)),
        http=cast("Any", functools.partial(HttpConnection, slots=slots)),
        loop="none",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=cast("int", slots.limits.finish),
    )


def _with_error_response(application: Application) -> Application:
    """Wrap the application: if it fails before it responds, send an error response in the apps' format."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)
            if message.get("more_body"):  # uvicorn does not wait while the client reads everything
                await asyncio.sleep(0)

        try:
            await application(scope, receive, note)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:  # by uvicorn when it ends; this task is not awaited
            if not begun:
                await _refuse(
                    send,
                    RefusedRequest(503, "unavailable", "the server is stopping", retry_after=1),
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
    return RefusedRequest(500, "internal", "internal error")


async def _refuse(send: Send, refusal: RefusedRequest) -> None:
    """Send an error as the last response of the connection."""
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
