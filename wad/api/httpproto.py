"""uvicorn's HTTP protocol with three changes: one write for each answer, a limit on connections, limits on a head.

uvicorn writes the head and the body of an answer apart, which is a system call more; for documents as small as ours
that is a fifth of the time.  It takes a head of any length, which is memory for whoever asks, and waits for it for
ever, which is a place among the connections.  And it refuses one connection too many in plain text, where the apps
read JSON.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_encode: Final = msgspec.json.Encoder().encode
_LARGEST_HEAD: Final = 64 << 10
PATIENCE: Final = 30.0  # seconds that a client may take to send a head
MAX_CONNECTIONS: Final = 500
"""Well below the 1024 files that a process may have open by default: the accounts need theirs."""


class OneWriteProtocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's, but it writes through `_Together`."""
        super().connection_made(transport)
        self._together = _Together(transport)
        self.transport = cast("asyncio.Transport", self._together)
        self._head_bytes: int | None = 0
        self._patience: asyncio.TimerHandle | None = None
        self._await_head()
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(
                "503 Service Unavailable",
                "unavailable",
                f"{MAX_CONNECTIONS} clients are connected already",
                "retry-after: 1\r\n",
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(PATIENCE, self._together.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

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
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head has ended."""
        self._head_bytes = None
        self._stop_waiting()
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
        self._refuse("400 Bad Request", "bad_input", msg)

    def _refuse(self, status: str, code: str, message: str, more: str = "") -> None:
        """The last answer on this connection."""
        body = _encode({"success": False, "error": code, "message": message})
        head = (
            f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n{more}"
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
