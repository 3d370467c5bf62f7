"""What uvicorn's protocol takes for its transport: answers go out through it, and reading stops and goes on.

uvicorn writes the head of an answer and its body apart, which is a system call more; for documents as small as a
probe's that is a fifth of the time.  What is written in one turn of the loop leaves together here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

_AT_ONCE: Final = 16 << 10  # bytes that do not wait for more


class Outgoing:
    """The way out of one connection.  It calls `pause(True)` to have reading stopped, `end()` when all was written."""

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
        """Bytes, since the connection began."""

    def write(self, data: bytes) -> None:
        """Send it, with whatever else is written in this turn of the loop."""
        if not data or self.ended:
            return
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(data)
        self._size += len(data)
        if self._size > _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Send what was written."""
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self.written += self._size
            self._size = 0
            if not self._transport.is_closing():
                self._transport.write(data)

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the kernel has not taken."""
        return self._size + self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Hang up after what was written."""
        if not self.ended:
            self.flush()
            self.ended = True
            self._end()

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self.ended or self._transport.is_closing()

    def pause_reading(self) -> None:
        """The application does not take the body as fast as it comes."""
        self._pause(True)

    def resume_reading(self) -> None:
        """It has taken it."""
        self._pause(False)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the transport's."""
        return self._transport.get_extra_info(name, default)
