"""The client of the daemon's Unix socket: concurrent requests, retries, and errors when the daemon does not answer.

A connection is opened with a request and never by itself, since systemd would start the daemon for it.  After a daemon
has announced its stop, requests wait for its successor.  A silent daemon is `unreachable`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from wad.api.legacy.vocabulary import iso_or_null
from wad.core import wire
from wad.core.errors import InvalidData, LegacyRefusal, Stopping, TimedOut, WadError
from wad.http.sharing import SingleFlight
from wad.lib.clock import Clock

log = logging.getLogger(__name__)

SILENCE: Final = 2.0
"""Seconds without a frame after which a daemon counts as unreachable."""
STOPPING: Final = 10.0
"""Seconds for which requests wait for the successor of a stopping daemon."""
REFUSED: Final = 1.0
"""Seconds for which requests wait while no process listens: systemd holds the socket of a daemon that will start, and
closes that of one that cannot start."""
_RETRY_S: Final = 0.05  # between two attempts to connect
_START_TIMEOUT: Final = 60.0  # seconds in which a daemon must start
_POLL_S: Final = 0.5  # between two checks whether to continue waiting
_CHUNK: Final = 256 << 10
_MAX_UNSENT: Final = 8 << 20  # bytes of unsent requests, beyond which no more are sent
_PING: Final = wire.EncodedCall("probe.healthz", [{}, []])

Connect = Callable[[], Awaitable[socket.socket]]
"""Returns a connected socket.  Raises OSError when no process listens."""
Introduce = Callable[["DaemonConnection"], Awaitable[None]]
"""Introduces this process on a new connection."""


class _Lost(Exception):
    """The connection ended before the reply; whether the daemon began the request is unknown."""


class _Full(Exception):
    """The daemon does not read requests; this one was not sent."""


class DaemonConnection:
    """An open connection to the daemon."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        clock: Clock,
        lost: Callable[[], object] | None,
    ) -> None:
        self._lost = lost
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._ids = itertools.count(1)
        self._unsent: list[bytes] = []
        self._gathered = 0  # bytes of the unsent frames
        self._waiting: dict[int, asyncio.Future[wire.Response]] = {}
        self._shared: dict[str, SingleFlight[wire.Response]] = {}
        self.last_frame_at = clock.monotonic()
        self.stopping = False
        self.open = True
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        writer.write(wire.encode(wire.HELLO))
        self._task = asyncio.create_task(self._read(), name="replies of the daemon")

    async def ask(self, method: str, params: object, within: float | None) -> Any:
        """The result of a request.  Raises WadError and what `exchange` raises."""
        response = await self.exchange(wire.EncodedCall(method, params), within)
        if response.error is not None:
            raise response.error
        return response.result

    async def share(self, call: wire.EncodedCall, within: float | None) -> wire.Response:
        """The reply of a shared call; see `SingleFlight`.

        `within` must be the same for each use of a method.  Raises what `exchange` raises.
        """
        found = self._shared.get(call.method)
        if found is None:
            found = SingleFlight(lambda: self.exchange(call, within), within, self._clock)
            self._shared[call.method] = found
        return await found.answer()

    async def exchange(self, call: wire.EncodedCall, within: float | None) -> wire.Response:
        """Send a request and return its response, which may be an error.

        `within`: the timeout in seconds; None for no limit while the daemon answers pings.  Raises _Full; _Lost when
        the connection ends or has ended; TimeoutError when the daemon is silent.
        """
        if not self.open:
            raise _Lost
        ident = next(self._ids)
        data = call.frame(ident)
        if self._writer.transport.get_write_buffer_size() + self._gathered > _MAX_UNSENT:
            raise _Full
        answer: asyncio.Future[wire.Response] = asyncio.get_running_loop().create_future()
        self._waiting[ident] = answer
        try:
            self._write(data)
            return await self._answer(answer, within)
        finally:
            if self._waiting.pop(ident, None) is not None and self.open:
                self._write(wire.encode(wire.Notice("cancel", [ident])))

    def _write(self, data: bytes) -> None:
        """Send a frame, combined with others of this iteration of the event loop, since a system call is expensive.

        Only a few are combined, so that the daemon can begin with the first ones.
        """
        self._unsent.append(data)
        self._gathered += len(data)
        if len(self._unsent) >= wire.FRAMES_PER_CALL:
            self._flush()
        elif len(self._unsent) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self._unsent and self.open:
            self._writer.write(b"".join(self._unsent))
        self._unsent.clear()
        self._gathered = 0

    async def _answer(
        self, answer: asyncio.Future[wire.Response], within: float | None
    ) -> wire.Response:
        if within is not None:
            late = asyncio.get_running_loop().call_later(within, _give_up, answer)
            try:
                return await answer
            finally:
                late.cancel()
        while True:
            done, _ = await asyncio.wait((answer,), timeout=SILENCE)
            if done:
                return answer.result()
            if self._clock.monotonic() - self.last_frame_at >= SILENCE:
                # A request may wait long for a phone, but the daemon answers a ping at once, if only with an
                # error: a daemon that stops or has too many requests still completes those that it has begun.
                try:
                    await self.exchange(_PING, SILENCE)
                except _Full:
                    raise TimeoutError from None

    async def _read(self) -> None:
        decoder = wire.Decoder(wire.REPLY, counted=False)
        try:
            while data := await self._reader.read(_CHUNK):
                self.last_frame_at = self._clock.monotonic()
                for frame in decoder.feed(data):
                    self._take(frame)
        except (ConnectionError, InvalidData, WadError) as error:
            log.warning("the connection to the daemon ended: %s", error)
        finally:
            self._end()

    def _take(self, frame: wire.Frame) -> None:
        """Handle a frame.  Raises WadError when the other side is not wad or refuses the connection."""
        match frame:
            case wire.Response(0, error, _):
                raise error or InvalidData("the daemon closed the connection")
            case wire.Response(ident):
                answer = self._waiting.pop(ident, None)
                if answer is not None and not answer.done():
                    answer.set_result(frame)
            case wire.Notice("stopping"):
                self.stopping = True
            case wire.Notice("hello"):
                wire.check_hello(frame)
                if not self.greeted.done():
                    self.greeted.set_result(None)

    def _end(self) -> None:
        self.open = False
        if self._lost is not None:
            self._lost()
        self._writer.close()
        waiting, self._waiting = self._waiting, {}
        futures: list[asyncio.Future[Any]] = [self.greeted, *waiting.values()]
        for future in futures:
            if not future.done():
                future.set_exception(_Lost())
                future.exception()  # marks it as retrieved, since no waiter may be left

    def when_ended(self, call: Callable[[DaemonConnection], object]) -> None:
        """Call `call` with the connection when it has ended."""
        self._task.add_done_callback(lambda _: call(self))

    async def close(self) -> None:
        """Close the connection."""
        self._task.cancel()
        await asyncio.wait((self._task,))


def _give_up(answer: asyncio.Future[wire.Response]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


class DaemonLink:
    """A link to the daemon with at most one current connection, opened on demand."""

    def __init__(
        self,
        connect: Connect,
        clock: Clock,
        introduce: Introduce | None = None,
        lost: Callable[[], object] | None = None,
    ) -> None:
        """`introduce` is called first on each connection, `lost` when one ends."""
        self._lost = lost
        self._connect = connect
        self._clock = clock
        self._introduce = introduce
        self._connection: DaemonConnection | None = None
        self._open_ones: set[DaemonConnection] = (
            set()
        )  # including those to stopping daemons, which still reply
        self._opening: asyncio.Task[DaemonConnection] | None = None
        self._stopped: float | None = None  # when the last daemon announced its stop
        self._refused: float | None = None  # since when no process listens
        self.answered_ms: int | None = None
        """The time of the daemon's last reply in ms since 1970; None without one."""

    async def call(
        self, method: str, params: object, *, repeatable: bool, within: float | None = None
    ) -> Any:
        """The same as `ask`, with a method and parameters.  Raises BadInput, too, for invalid parameters."""
        return await self.ask(
            wire.EncodedCall(method, params), repeatable=repeatable, within=within
        )

    async def ask(
        self, call: wire.EncodedCall, *, repeatable: bool, within: float | None = None
    ) -> Any:
        """The result of a request.

        A `repeatable` request is retried when the connection ends.  Raises WadError, including LegacyRefusal 503
        `daemon_unreachable`, and TimedOut when the connection ended after the daemon may have begun the request.
        """
        return await self._result(lambda link: link.exchange(call, within), repeatable)

    async def share(self, call: wire.EncodedCall, *, within: float | None = None) -> Any:
        """The result of a shared call, which begins after this method was called.

        Each waiter has its own deadlines, also for a stopping daemon.  Raises WadError as `ask` does.
        """
        return await self._result(lambda link: link.share(call, within), repeatable=True)

    async def _result(
        self, exchange: Callable[[DaemonConnection], Awaitable[wire.Response]], repeatable: bool
    ) -> Any:
        clock = self._clock
        begun = clock.monotonic()
        while True:
            connection = None
            try:
                connection = await self._connected(begun)
                response = await exchange(connection)
            except _Full as error:
                raise self.unreachable() from error
            except (OSError, TimeoutError) as error:
                if connection is not None and not repeatable:
                    raise TimedOut(
                        "the daemon does not answer; the request may or may not be executed"
                    ) from error
                if (
                    isinstance(error, TimeoutError)
                    or self._nothing_listens()
                    or not self._may_wait(begun)
                ):
                    raise self.unreachable() from error
                await asyncio.sleep(_RETRY_S)
            except _Lost as error:
                if connection is not None and not repeatable:
                    raise TimedOut(
                        "the connection to the daemon ended; the request may or may not have been executed"
                    ) from error
                if not self._may_wait(begun):
                    raise self.unreachable() from error
                await asyncio.sleep(_RETRY_S)
            else:
                self.answered_ms = clock.wall_ms()
                if response.error is None:
                    return response.result
                refusal = response.error.with_traceback(
                    None
                )  # shared: other waiters may raise it, too
                if not isinstance(refusal, Stopping):
                    raise refusal
                self._note_stop()
                if not self._may_wait(begun):
                    raise refusal
                await asyncio.sleep(_RETRY_S)

    def unreachable(self) -> LegacyRefusal:
        """The error for a daemon that does not answer, with the time of its last reply."""
        since = iso_or_null(self.answered_ms)
        return LegacyRefusal(
            503,
            "daemon_unreachable",
            "the daemon does not answer" + (f" since {since}" if since else ""),
            {"since": since, "retryAfterSeconds": 1},
        )

    def _may_wait(self, begun: float) -> bool:
        """Whether a request from `begun` still waits for a daemon; longer if the last one announced its stop."""
        now = self._clock.monotonic()
        announced = self._stopped is not None and now - self._stopped < STOPPING
        return now - begun < (STOPPING if announced else SILENCE)

    def _nothing_listens(self) -> bool:
        """Whether no process has listened for so long that none is expected."""
        return self._refused is not None and self._clock.monotonic() - self._refused >= REFUSED

    def _note_stop(self) -> None:
        if self._stopped is None:
            self._stopped = self._clock.monotonic()
        if self._connection is not None and self._connection.stopping:
            self._connection = None  # the next connection is to another daemon

    async def _connected(self, begun: float) -> DaemonConnection:
        """An open connection.  Raises OSError, TimeoutError, _Lost, WadError."""
        if (found := self._connection) is not None:
            if found.open and not found.stopping:
                return found
            if found.stopping:
                self._note_stop()
            self._connection = None
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open(), name="connecting to the daemon")
            # Its waiters may have given up when it fails.
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        opening = self._opening
        while not opening.done():
            if not self._may_wait(begun):
                raise TimeoutError  # connecting continues, for later requests
            await asyncio.wait((opening,), timeout=_POLL_S)
        return opening.result()

    async def _open(self) -> DaemonConnection:
        """Open a connection.  systemd may hold the socket of a starting daemon, which then sends HELLO later."""
        try:
            sock = await self._connect()
        except OSError:
            if self._refused is None:
                self._refused = self._clock.monotonic()
            raise
        self._refused = None
        reader, writer = await asyncio.open_connection(sock=sock, limit=_CHUNK)
        connection = DaemonConnection(reader, writer, self._clock, self._lost)
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                await connection.greeted
                if self._introduce is not None:
                    await self._introduce(connection)
        except BaseException:
            await connection.close()
            raise
        self._connection, self._stopped = connection, None
        self._open_ones.add(connection)
        connection.when_ended(self._open_ones.discard)
        return connection

    async def close(self) -> None:
        """Close the connection."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait((self._opening,))
        self._connection = None
        for connection in list(self._open_ones):
            await connection.close()
