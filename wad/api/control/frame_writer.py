"""Sending frames to a client of a socket, in order and with bounded memory."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from wad.api.control.clients import UnreadReplies
from wad.core.wire import FRAMES_PER_CALL

log = logging.getLogger(__name__)

CLOSE_TIMEOUT: Final = 1.0
"""Seconds in which a client must read its last frames and a handler must end."""
_TOGETHER: Final = 64 << 10  # bytes of small frames that are sent together
_HIGH_WATER: Final = 256 << 10  # bytes that may wait for a slow client before senders wait, too


class FrameWriter:
    """Sends whole frames in order, and waits while the client does not read."""

    def __init__(self, writer: asyncio.StreamWriter, backlog: UnreadReplies) -> None:
        self._writer = writer
        self._backlog = backlog
        self._abort = (
            writer.transport.abort
        )  # one object, which identifies the client in the backlog
        self._lock = asyncio.Lock()
        self.waiting = 0
        """The bytes of frames that wait to be sent."""
        self._frames: list[bytes] = []
        self._gathered = 0
        writer.transport.set_write_buffer_limits(high=_HIGH_WATER)

    async def send(self, frame: bytes) -> bool:
        """Send a frame after the earlier ones; False when the client is gone."""
        if self._writer.is_closing():
            return False
        if self._gather(frame):
            return True
        self._backlog.add(self._abort, len(frame))
        self.waiting += len(frame)
        try:
            async with self._lock:
                if self._writer.is_closing():
                    return False
                self._writer.write(frame)
                try:
                    await self._writer.drain()
                except ConnectionError:
                    return False
            return True
        finally:
            self.waiting -= len(frame)
            if not self._writer.is_closing():
                self._backlog.add(self._abort, -len(frame))

    def _gather(self, frame: bytes) -> bool:
        """Collect small frames of one iteration of the event loop, while nothing waits; False: send it directly."""
        transport = self._writer.transport
        size = self._gathered + len(frame)
        if size > _TOGETHER or self._lock.locked() or transport.get_write_buffer_size():
            self._flush()
            return False
        self._frames.append(frame)
        self._gathered = size
        if len(self._frames) >= FRAMES_PER_CALL:
            self._flush()
        elif len(self._frames) == 1:
            asyncio.get_running_loop().call_soon(self._flush)
        return True

    def _flush(self) -> None:
        if self._frames and not self._writer.is_closing():
            self._writer.write(b"".join(self._frames))
        self._frames.clear()
        self._gathered = 0

    async def taken(self) -> None:
        """Wait until the frames that wait now are sent, or the client is gone."""
        async with self._lock:
            pass

    def has_room(self, size: int) -> bool:
        """Whether `size` more bytes may wait without disconnecting a client."""
        return self._backlog.has_room(size)

    @property
    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._writer.is_closing()

    def note(self, frame: bytes) -> None:
        """Send a small frame without waiting."""
        if not self._writer.is_closing():
            self._flush()
            self._writer.write(frame)

    def hang_up(self, frame: bytes) -> None:
        """Send a last frame and close; the connection is aborted after a moment."""
        if not self._writer.is_closing():
            self._flush()
            self._writer.write(frame)
            self._writer.close()
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._abort)

    async def close(self) -> None:
        """Send the rest, for a moment, and close."""
        try:
            self._flush()
            self._writer.close()
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._writer.wait_closed()
        except (TimeoutError, ConnectionError) as error:
            log.debug("a client did not read its last frames: %r", error)
        finally:
            self._writer.transport.abort()
            self._backlog.forget(self._abort)
