"""The connection to a worker process: requests with their answers, notices, and bounds on what the worker may send."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from wad.core import wire
from wad.core.errors import (
    Damaged,
    EngineFailure,
    InvalidData,
    NotFound,
    NotSupported,
    StateUnwritable,
    TimedOut,
    Unavailable,
    WadError,
)
from wad.core.rate import Rate
from wad.engine import notices
from wad.engine.port import Spooled
from wad.lib.clock import SystemClock

_NOTICES: Final = (200, 10.0)
"""How many notices a worker may send at once, and per second: more are a fault."""
_FRAMES: Final = (5000, 200.0)
"""The same for all frames.  `spooled` arrives at most 50 times a second, answers as often as the daemon asks."""
_ERRORS: Final = frozenset(
    {EngineFailure, NotFound, Damaged, Unavailable, StateUnwritable, NotSupported}
)
"""The errors that a worker may answer; any other becomes an EngineFailure."""
_BATCH: Final = 50  # frames that are handled before other tasks run


class WorkerFrames:
    """The frames of one worker.  `on_notice` handles a notice; `spare` is a second handle of the socket."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_notice: Callable[[notices.Notice], Awaitable[None]],
        spare: socket.socket | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        # A second handle: asyncio closes its own when a write fails, and drops the data that was not read yet.
        self._socket = spare or writer.get_extra_info("socket").dup()
        self._on_notice = on_notice
        self._last_request = 0  # the id of the last request
        self._pending: dict[int, asyncio.Future[Any]] = {}
        now = SystemClock().monotonic()
        self._notices, self._frames = Rate(*_NOTICES, now), Rate(*_FRAMES, now)
        self.broken = False
        """Whether the worker broke the protocol: its later frames are ignored."""

    def close(self) -> None:
        """Close both handles."""
        self._writer.close()
        self._socket.close()

    def fail_pending(self) -> None:
        """End all requests, once the worker has ended."""
        for pending in self._pending.values():
            if not pending.done():
                pending.set_exception(EngineFailure("the worker is gone"))

    # --- from the daemon ------------------------------------------------------------------------

    def permit(self, until: float) -> None:
        """Send a permission to act, as a time of the shared clock."""
        self._writer.write(wire.encode(wire.Notice("until", [until])))

    async def call(self, method: str, *params: Any, timeout: float) -> Any:
        """The unchecked answer to a request.  Raises EngineFailure, TimedOut, and the worker's errors."""
        if self._writer.is_closing():
            raise EngineFailure("the worker is gone")
        self._last_request += 1
        ident = self._last_request
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending[ident] = future
        try:
            self._writer.write(wire.encode(wire.Request(ident, method, list(params))))
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise TimedOut(f"the worker did not answer {method} in {timeout:g} s") from None
        finally:
            self._pending.pop(ident, None)

    # --- from the worker ------------------------------------------------------------------------

    async def listen(self, ended: asyncio.Future[int]) -> None:
        """Handle frames until the worker closes the connection.  `ended`: its process.  Raises InvalidData."""
        decoder = wire.Decoder()
        try:
            while data := await self._reader.read(1 << 16):
                await self._handle_all(decoder, data)
        except ConnectionError:
            # It ended during a write to it.  Its last frames may say that it was replaced or logged out.
            await asyncio.shield(ended)
            await self._handle_all(decoder, self._unread())

    async def _handle_all(self, decoder: wire.Decoder, data: bytes) -> None:
        for number, frame in enumerate(decoder.feed(data), 1):
            if self.broken:
                return
            await self._handle(frame)
            if number % _BATCH == 0:
                await asyncio.sleep(0)

    def _unread(self) -> bytes:
        """The unread data in the socket of a worker that has ended."""
        found = b""
        with suppress(ConnectionError):
            while data := self._socket.recv(1 << 16):
                found += data
        return found

    async def _handle(self, frame: wire.Frame) -> None:
        if not self._frames.take(SystemClock().monotonic()):
            raise InvalidData(f"more than {_FRAMES[0]} frames at once")
        match frame:
            case wire.Response(ident, error, result):
                self._answered(ident, error, result)
            case wire.Notice(method, params):
                await self._notice(notices.notice(method, params))
            case _:
                raise InvalidData(f"a worker must not send a {type(frame).__name__.lower()}")

    def _answered(self, ident: int, error: WadError | None, result: object) -> None:
        if not 0 < ident <= self._last_request:
            raise InvalidData(f"an answer to request {ident}, which was never sent")
        pending = self._pending.pop(ident, None)
        if pending is None or pending.done():
            return  # the caller has given up meanwhile
        if error is None:
            pending.set_result(result)
        else:  # a worker cannot judge the lease, timeouts or permissions
            allowed = type(error) in _ERRORS
            pending.set_exception(error if allowed else EngineFailure(str(error)))

    async def _notice(self, notice: notices.Notice) -> None:
        if not isinstance(notice, Spooled) and not self._notices.take(SystemClock().monotonic()):
            raise InvalidData(f"more than {_NOTICES[0]} notices at once")
        await self._on_notice(notice)
