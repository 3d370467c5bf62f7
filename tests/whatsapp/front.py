"""The network face: one loopback port that is a CONNECT proxy, a TLS server, a WebSocket server and a media host.

The client believes that it speaks to web.whatsapp.com:443 through a proxy; CONNECT is answered by starting TLS on the
same socket.  The media host's routes (GET, POST /mms/...) belong into `_serve_http`, beside the upgrade.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10


class WebSocket:
    """The server's end: messages in, messages out (RFC 6455; no fragments, no extensions: the client uses none)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> bytes:
        """The next message's payload.  Raises ConnectionError when the client is gone."""
        while True:
            try:
                kind, data = await self._frame()
            except asyncio.IncompleteReadError as error:
                raise ConnectionError("the client closed the connection") from error
            if kind == _CLOSE:
                raise ConnectionError("the client closed the WebSocket")
            if kind == _PING:
                self._send(_PONG, data)
            elif kind != _PONG:
                return data

    async def _frame(self) -> tuple[int, bytes]:
        first, second = await self._reader.readexactly(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
        mask = await self._reader.readexactly(4)
        masked = await self._reader.readexactly(size)
        pad = (mask * (size // 4 + 1))[:size]
        data = (int.from_bytes(masked, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
        return first & 0x0F, data

    def send(self, data: bytes) -> None:
        """Send one binary message.  Raises ConnectionError when the client is gone."""
        self._send(_BINARY, data)

    def _send(self, kind: int, data: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionError("the connection is closed")
        size = len(data)
        if size < 126:
            head = bytes([0x80 | kind, size])
        elif size < 1 << 16:
            head = bytes([0x80 | kind, 126]) + size.to_bytes(2, "big")
        else:
            head = bytes([0x80 | kind, 127]) + size.to_bytes(8, "big")
        self._writer.write(head + data)

    async def drain(self) -> None:
        """Wait until what was sent has left."""
        await self._writer.drain()

    def abort(self) -> None:
        """Cut the TCP connection without a goodbye."""
        self._writer.transport.abort()


class Front:
    """The listening port.  `refusing`: CONNECT is not answered, as if the network were down."""

    def __init__(
        self, tls: ssl.SSLContext, on_websocket: Callable[[WebSocket], Awaitable[None]]
    ) -> None:
        self._tls = tls
        self._on_websocket = on_websocket
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.refusing = False
        self.port = 0

    @property
    def proxy_url(self) -> str:
        """What HTTPS_PROXY must be."""
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[None]:
        """Listen; on the way out every connection is cut."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=1 << 22)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for writer in self._serving.values():
                writer.transport.abort()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        try:
            method, _, _ = await self._head(reader)
            if method == "CONNECT" and not self.refusing:
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await writer.drain()
                await writer.start_tls(self._tls)
                await self._serve_http(reader, writer)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # a client that went away or does not trust our certificate; it will say so itself
        finally:
            del self._serving[task]
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _head(self, reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]]:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.split("\r\n")
        method, path, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines if line)
        return method, path, {name.lower(): value.strip() for name, _, value in pairs}

    async def _serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, _, headers = await self._head(reader)
        if headers.get("upgrade", "").lower() != "websocket":
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        key = headers["sec-websocket-key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        await self._on_websocket(WebSocket(reader, writer))
