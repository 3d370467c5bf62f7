"""The transport for uvicorn's protocol: combines writes, and pauses and resumes reading.

uvicorn writes the head and the body of a response separately, which costs one more system call; for small documents,
such as a probe's, that is a fifth of the time.  Writes of one iteration of the event loop are combined here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

_AT_ONCE: Final = 16 << 10  # bytes that are sent without waiting for more


class Outgoing:
    """The sending half of a connection.  Calls `pause(True)` to stop reading and `end()` when all is written."""

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        pause: Callable[[bool], None],
        end: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._pause = pause
        self._end = end
        self._waiting: list[bytes] = []
        self._size = 0
        self.ended = False
        self.written = 0
        """The bytes written since the connection began."""

    def write(self, data: bytes) -> None:
        """Send data, combined with other writes of this iteration of the event loop."""
        if not data or self.ended:
            return
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(data)
        self._size += len(data)
        if self._size > _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Send the collected data."""
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self.written += self._size
            self._size = 0
            if not self._transport.is_closing():
                self._transport.write(data)

    @property
    def unsent(self) -> int:
        """The written bytes that the kernel has not accepted yet."""
        return self._size + self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Close after the written data is sent."""
        if not self.ended:
            self.flush()
            self.ended = True
            self._end()

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self.ended or self._transport.is_closing()

    def pause_reading(self) -> None:
        """Stop reading: the application does not consume the body as fast as it arrives."""
        self._pause(True)

    def resume_reading(self) -> None:
        """Read again: the application has consumed the body."""
        self._pause(False)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The same as the underlying transport's."""
        return self._transport.get_extra_info(name, default)
