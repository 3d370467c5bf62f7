"""The HTTP process's application before a daemon, real or fake, in one event loop: for tests of what is answered."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from wad.api.control.server import serve_http_calls
from wad.api.http_process.calls import HttpCalls
from wad.api.operations.http import PublicSettings
from wad.http.app import DaemonLinks, Site
from wad.http.daemon_client import Connect, DaemonConnection, DaemonLink
from wad.http.server.listening import bind
from wad.http.server.uvicorn_server import serve
from wad.lib.clock import SystemClock


def _over(sock: socket.socket) -> Connect:
    async def connect() -> socket.socket:
        return sock

    return connect


@asynccontextmanager
async def serve_http(
    daemon: Any, host: str, port: int, sock: socket.socket | None = None
) -> AsyncIterator[int]:
    """Answer HTTP for a daemon; the port, while the block runs."""
    calls = HttpCalls(daemon, daemon.http_processes)
    stopping, up = asyncio.Event(), asyncio.Event()
    async with serve_http_calls(daemon, calls) as take:

        async def introduce(connection: DaemonConnection) -> None:
            words = {"pid": os.getpid(), "listening": []}
            found = await connection.ask("http.settings", [words, []], None)
            site.allow(msgspec.convert(found, PublicSettings).cors_origins)

        links, ends = [], []
        for number in range(2):
            ours, theirs = socket.socketpair()
            for each in (ours, theirs):
                each.setblocking(False)
            await take(ours)
            ends.append(theirs)
            links.append(DaemonLink(_over(theirs), SystemClock(), introduce if number else None))

        site = Site(DaemonLinks(*links), SystemClock())
        for link in links:  # the daemon hangs up on one that says nothing
            await link.call("http.settings", [{}, []], repeatable=True)
        listener = sock or await bind(host, port)
        bound = listener.getsockname()[1]
        serving = asyncio.create_task(
            serve(site, [listener], stopping=stopping, started=lambda _: up.set())
        )
        started = asyncio.create_task(up.wait())
        await asyncio.wait((serving, started), return_when=asyncio.FIRST_COMPLETED)
        try:
            if serving.done():
                serving.result()
            yield bound
        finally:
            started.cancel()
            stopping.set()
            await serving
            for link in links:
                await link.close()
            for end in ends:
                end.close()
