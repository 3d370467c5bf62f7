"""uvicorn's HTTP protocol with two changes: one write for each answer, and a limit on the size of a request's head.

uvicorn writes the head and the body of an answer apart, which is a system call more; for documents as small as ours
that is a fifth of the time.  And it takes a head of any length, which is memory for whoever asks.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_encode: Final = msgspec.json.Encoder().encode
_LARGEST_HEAD: Final = 64 << 10


class OneWriteProtocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's, but it writes through `_Together`."""
        super().connection_made(transport)
        self._together = _Together(transport)
        self.transport = cast("asyncio.Transport", self._together)
        self._head_bytes: int | None = 0

    @property
    def has_asked(self) -> bool:
        """Whether the client of this connection has asked anything yet."""
        return self.cycle is not None

    def on_response_complete(self) -> None:
        """As uvicorn's; an answer without a body (HEAD) leaves now."""
        self._together.flush()
        super().on_response_complete()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head has ended."""
        self._head_bytes = None
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, but a head that never ends is refused."""
        inside = self._head_bytes is not None
        super().data_received(data)
        # What ended a head in this piece may have a body behind it, and what began one may have other requests before.
        if inside and self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _LARGEST_HEAD and not self.transport.is_closing():
                self.logger.warning("a request's head has more than %d bytes", _LARGEST_HEAD)
                self.send_400_response("the head of the request is too large")

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets JSON, as everybody does."""
        body = _encode({"success": False, "error": "bad_input", "message": msg})
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class _Together:
    """What uvicorn's protocol uses of a transport; it keeps the head of an answer until its body comes."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info

    def write(self, data: bytes) -> None:
        """Send it with the head that was kept, or keep it if it is a head."""
        if not self._head and data.endswith(b"\r\n\r\n"):
            self._head = data
            return
        self._transport.write(self._head + data)
        self._head = b""

    def flush(self) -> None:
        """Send a head that no body follows."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        """Send what was kept, and hang up."""
        self.flush()
        self._transport.close()
