"""The network side: one loopback port that is a CONNECT proxy, a TLS server, a WebSocket server and a media host.

The client is made to reach web.whatsapp.com:443 through a proxy; CONNECT is answered by starting TLS on the
same socket (docs/internals/whatsapp-protocol.md#reaching-the-test-server).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.whatsapp.media import MediaHost, Request

log = logging.getLogger(__name__)

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10
_LIMIT = 1 << 22


class WebSocket:
    """The server's end: messages in, messages out (RFC 6455; no extensions: the client's offer of them is ignored)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> bytes:
        """The next payload; WhatsApp's framing is inside.  Raises ConnectionError if the client has disconnected."""
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
        masked = await self._reader.readexactly(4 + size)
        pad = (masked[:4] * (size // 4 + 1))[:size]
        number = int.from_bytes(masked[4:], "big") ^ int.from_bytes(pad, "big")
        return first & 0x0F, number.to_bytes(size, "big")

    def send(self, data: bytes) -> None:
        """Send one binary message.  Raises ConnectionError if the client has disconnected."""
        self._send(_BINARY, data)

    def _send(self, kind: int, data: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionError("the connection is closed")
        size = len(data)
        if size < 126:
            head = bytes((0x80 | kind, size))
        elif size < 1 << 16:
            head = bytes((0x80 | kind, 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | kind, 127)) + size.to_bytes(8, "big")
        self._writer.write(head + data)

    def abort(self) -> None:
        """Cut the TCP connection without a close frame."""
        self._writer.transport.abort()


class Front:
    """The listening port.  `refusing`: CONNECT is not answered, as if the network were down.

    `stalling`: neither a WebSocket upgrade nor a file is answered, until it is off; `stalled` counts the waiting ones.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        media: MediaHost,
        on_websocket: Callable[[WebSocket], Awaitable[None]],
        on_error: Callable[[BaseException], None],
        on_change: Callable[[], None],
    ) -> None:
        self._tls = tls
        self._media = media
        self._on_websocket = on_websocket
        self._on_error = on_error
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._on_change = on_change
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.refusing = False
        self.stalled = 0
        self.port = 0

    @property
    def stalling(self) -> bool:
        """Whether upgrades and files are left unanswered."""
        return not self._flowing.is_set()

    @stalling.setter
    def stalling(self, value: bool) -> None:
        if value:
            self._flowing.clear()
        else:
            self._flowing.set()

    @property
    def proxy_url(self) -> str:
        """The value of HTTPS_PROXY."""
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[None]:
        """Listen; at the end every connection is cut."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=_LIMIT)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            ending = dict(self._serving)
            for task, writer in ending.items():
                writer.transport.abort()
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        try:
            request = await self._request(reader)
            if request.method == "CONNECT" and not self.refusing:
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await writer.start_tls(self._tls)
                await self._speak_http(reader, writer)
        except ssl.SSLError as error:
            log.warning("a client does not take our certificate (SSL_CERT_FILE): %s", error)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client is gone
        except Exception as error:
            self._on_error(error)
        finally:
            del self._serving[task]
            writer.transport.abort()

    async def _speak_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await self._request(reader)
            await self._stall()
            if request.headers.get("upgrade", "").lower() == "websocket":
                writer.write(_upgraded(request))
                await self._on_websocket(WebSocket(reader, writer))
                return
            status, body = self._media.answer(request)
            head = f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()

    async def _stall(self) -> None:
        if not self.stalling:
            return
        self.stalled += 1
        self._on_change()
        try:
            await self._flowing.wait()
        finally:
            self.stalled -= 1

    async def _request(self, reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if "transfer-encoding" in headers:
            raise ValueError(f"{first}: a body without a length is not understood here")
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Request(method, target.partition("?")[0].partition("&")[0], headers, body)


def _upgraded(request: Request) -> bytes:
    key = request.headers["sec-websocket-key"].encode()
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
