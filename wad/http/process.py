"""The life cycle of the HTTP process: its listening sockets, its connections to the daemon, its state for systemd.

systemd passes the listening socket; otherwise the process binds one itself.  It connects to the daemon at a path, or
uses connected sockets if the daemon started it; in that case it ends with the daemon.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from wad import __version__
from wad.api.operations.http import PublicSettings
from wad.core.decoding import decoding
from wad.core.errors import InvalidData, WadError
from wad.http.app import DaemonLinks, Site
from wad.http.daemon_client import Connect, DaemonConnection, DaemonLink
from wad.http.server.listening import bind
from wad.http.server.uvicorn_server import serve
from wad.lib.clock import Clock
from wad.lib.files import read_file
from wad.systemd.activation import HTTP, Start
from wad.systemd.notify import Notifier, watchdog_interval

log = logging.getLogger(__name__)

SOCKET: Final = Path("/run/wad/http.sock")
"""The daemon's socket for HTTP processes under systemd."""
_BACKLOG: Final = 1024  # clients that wait to be accepted
_PUBLIC: Final = 64 << 10  # bytes of the daemon's public settings
_PULSE: Final = 5.0  # seconds between two watchdog pings, unless systemd requires more of them
_REPORT_TIMEOUT: Final = 2.0  # seconds to report to the daemon why this process ends


@dataclass(frozen=True)
class Options:
    """The options of the process.

    `connected`: sockets that are connected to the daemon, empty to connect to `path`; `listening`: open listening
    sockets in addition to systemd's; without any, the process listens on `address` and `port`.  `heartbeat`: seconds
    between two heartbeats to the daemon that started it.
    """

    path: Path = SOCKET
    connected: Sequence[socket.socket] = ()
    listening: Sequence[socket.socket] = ()
    address: str = "127.0.0.1"
    port: int = 8080
    heartbeat: float = 5.0


async def run(options: Options, start: Start, notifier: Notifier, clock: Clock) -> None:
    """Serve until a signal, or the end of the daemon that started it.  Raises WadError when it cannot start."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    process = _Process(options, clock, stopping)
    try:
        sockets = await process.sockets(start)
        await process.introduce()
    except WadError as error:
        await process.fail(error)
        raise
    pulses = [asyncio.create_task(_pulse(notifier), name="pulse")]
    if options.connected:
        pulses.append(asyncio.create_task(process.send_heartbeats(), name="heartbeats"))
    try:
        await serve(
            process.site, sockets, stopping=stopping, started=lambda _: _ready(process, notifier)
        )
    finally:
        notifier.stopping()
        for task in pulses:
            task.cancel()
        await process.close()


def _ready(process: _Process, notifier: Notifier) -> None:
    log.info("listening on %s", ", ".join(process.listening))
    notifier.ready()


async def _pulse(notifier: Notifier) -> None:
    """Send watchdog pings, which show that the event loop runs."""
    every = min(_PULSE, watchdog_interval(os.environ) or _PULSE)
    while True:
        notifier.watchdog()
        await asyncio.sleep(every)


class _Process:
    """The site, its connections to the daemon and its listening sockets."""

    def __init__(self, options: Options, clock: Clock, stopping: asyncio.Event) -> None:
        self._options = options
        self.listening: list[str] = []
        lost = stopping.set if options.connected else None
        connectors = [_at(options.path)] * 2
        if options.connected:
            connectors = [_over(sock) for sock in options.connected]
        probes, calls = connectors
        self._daemon = DaemonLinks(
            # Some installations only use probes; a failed start is also reported to the daemon on this connection.
            DaemonLink(probes, clock, None if options.connected else self._introduce, lost=lost),
            DaemonLink(calls, clock, self._introduce, lost=lost),
        )
        self.site = Site(self._daemon, clock)
        if not options.connected:
            self.site.allow(_published(options.path.with_name("http.json")))

    async def sockets(self, start: Start) -> list[socket.socket]:
        """The listening sockets.  Raises Conflict, BadConfig."""
        options = self._options
        found = [*start.sockets(HTTP), *options.listening]
        if not found:
            found.append(await bind(options.address, options.port))
            # Before the address is announced: connections are queued from now on and not refused.
            found[0].listen(_BACKLOG)
        self.listening = [_name(sock) for sock in found]
        return found

    async def introduce(self) -> None:
        """Introduce this process to the daemon that started it and waits for it; otherwise connect on demand.

        On both connections: the daemon closes a silent one, and these cannot be replaced.
        """
        if self._options.connected:
            for link in (self._daemon.calls, self._daemon.probes):
                await link.call("http.settings", [self._introduction(), []], repeatable=True)

    async def send_heartbeats(self) -> None:
        """Introduce this process repeatedly: the daemon that started it replaces a process that does not.

        This task runs only while the event loop does.  One connection is enough: the other may be full of requests.
        """
        every = self._options.heartbeat
        while True:
            await asyncio.sleep(every)
            for link in (self._daemon.probes, self._daemon.calls):
                params = [self._introduction(), []]
                try:
                    await link.call("http.settings", params, repeatable=True, within=every)
                except WadError as error:
                    log.debug("the daemon did not accept a heartbeat: %s", error)

    def _introduction(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "version": __version__, "listening": self.listening}

    async def _introduce(self, connection: DaemonConnection) -> None:
        """Begin a connection: introduce this process and get the daemon's settings."""
        found = await connection.ask("http.settings", [self._introduction(), []], None)
        with decoding("the daemon's settings"):
            settings = msgspec.convert(found, PublicSettings)
        self.site.allow(settings.cors_origins)

    async def fail(self, error: WadError) -> None:
        """Report the error to the daemon that started this process."""
        if self._options.connected:
            with suppress(WadError, TimeoutError):
                async with asyncio.timeout(_REPORT_TIMEOUT):
                    await self._daemon.probes.call(
                        "http.failed", [error.to_wire(), []], repeatable=False
                    )
        await self.close()

    async def close(self) -> None:
        """Close the connections to the daemon."""
        await self._daemon.probes.close()
        await self._daemon.calls.close()


def _published(path: Path) -> str:
    """The origins that the daemon published, for use while it does not answer; empty if it published none."""
    try:
        with decoding(str(path)):
            return msgspec.json.decode(read_file(path, _PUBLIC), type=PublicSettings).cors_origins
    except FileNotFoundError:
        return ""
    except (OSError, InvalidData) as error:
        log.warning("the daemon's public settings cannot be read: %s", error)
        return ""


def _at(path: Path) -> Connect:
    async def connect() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await asyncio.get_running_loop().sock_connect(sock, os.fspath(path))
        except BaseException:
            sock.close()
            raise
        return sock

    return connect


def _over(sock: socket.socket) -> Connect:
    """A connector for the one connection that the daemon opened."""
    unused = [sock]

    async def connect() -> socket.socket:
        if not unused:
            raise ConnectionError("the daemon that started this process has ended")
        return unused.pop()

    return connect


def _name(sock: socket.socket) -> str:
    host, port, *_ = sock.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
