"""Asking the daemon over its Unix socket: requests by their ids, and what to do when it does not answer.

A connection is opened when somebody asks, never by itself: systemd starts the daemon for who connects.  A daemon that
announced its stop is waited for, as its successor comes in a moment.  One that says nothing is `unreachable`.
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
"""Seconds without a sign of life after which a daemon counts as unreachable."""
STOPPING: Final = 10.0
"""Seconds for which a daemon that announced its stop is waited for."""
REFUSED: Final = 1.0
"""Seconds for which anybody is waited for while nobody listens: systemd holds the socket of a daemon that will come,
and closes that of one that cannot start."""
_AGAIN: Final = 0.05  # seconds between two tries to connect
_OPENING: Final = 60.0  # seconds for which a daemon may start
_LOOK: Final = 0.5  # seconds between two looks at whether to go on waiting
_CHUNK: Final = 256 << 10
_UNTAKEN: Final = (
    8 << 20
)  # bytes of requests that a daemon leaves in our memory; then it gets no more of them
_PING: Final = wire.Call("probe.healthz", [{}, []])

Connect = Callable[[], Awaitable[socket.socket]]
"""A connected socket.  Raises OSError where nobody listens."""
Introduce = Callable[["DaemonConnection"], Awaitable[None]]
"""What is asked first on each new connection."""


class _Lost(Exception):
    """The connection ended, and with it the answer; whether the daemon had begun is not known."""


class _Full(Exception):
    """The daemon takes nothing of what it is sent; this was not sent."""


class DaemonConnection:
    """One open connection."""

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
        self._gathered = 0  # bytes of them
        self._waiting: dict[int, asyncio.Future[wire.Response]] = {}
        self._shared: dict[str, SingleFlight[wire.Response]] = {}
        self.heard = clock.monotonic()
        self.stopping = False
        self.open = True
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        writer.write(wire.encode(wire.HELLO))
        self._task = asyncio.create_task(self._read(), name="answers of the daemon")

    async def ask(self, method: str, params: object, within: float | None) -> Any:
        """The result.  Raises WadError, and what `exchange` raises."""
        response = await self.exchange(wire.Call(method, params), within)
        if response.error is not None:
            raise response.error
        return response.result

    async def share(self, call: wire.Call, within: float | None) -> wire.Response:
        """The answer to a question that is the same for everybody; who asks meanwhile gets the next answer.

        `within` is the same each time that this is asked.  Raises what `exchange` raises.
        """
        found = self._shared.get(call.method)
        if found is None:
            found = SingleFlight(lambda: self.exchange(call, within), within, self._clock)
            self._shared[call.method] = found
        return await found.answer()

    async def exchange(self, call: wire.Call, within: float | None) -> wire.Response:
        """The answer, which may be an error.

        `within`: seconds for it; None for any number, as long as the daemon gives signs of life.  Raises _Full; _Lost
        when the connection ends, or has ended; TimeoutError when the daemon is silent.
        """
        if not self.open:
            raise _Lost
        ident = next(self._ids)
        data = call.frame(ident)
        if self._writer.transport.get_write_buffer_size() + self._gathered > _UNTAKEN:
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
        """Send, together with what others ask in this turn of the loop: a system call costs as much as a question.

        A few at a time, that the daemon has something to do meanwhile.
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
            if self._clock.monotonic() - self.heard >= SILENCE:
                # Somebody may well wait long for a phone; the daemon itself answers a ping at once, be it with an
                # error: also one that stops, or has too many requests, goes on with those that it has begun.
                try:
                    await self.exchange(_PING, SILENCE)
                except _Full:
                    raise TimeoutError from None

    async def _read(self) -> None:
        decoder = wire.Decoder(wire.REPLY, counted=False)
        try:
            while data := await self._reader.read(_CHUNK):
                self.heard = self._clock.monotonic()
                for frame in decoder.feed(data):
                    self._take(frame)
        except (ConnectionError, InvalidData, WadError) as error:
            log.warning("the connection to the daemon ended: %s", error)
        finally:
            self._end()

    def _take(self, frame: wire.Frame) -> None:
        """Raises WadError where the other side is no daemon of ours, or sends us away."""
        match frame:
            case wire.Response(0, error, _):
                raise error or InvalidData("the daemon hung up")
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
                future.exception()  # who waits sees it; nobody may be left to

    def when_ended(self, call: Callable[[DaemonConnection], object]) -> None:
        """Call this with the connection once it has ended."""
        self._task.add_done_callback(lambda _: call(self))

    async def close(self) -> None:
        """Hang up."""
        self._task.cancel()
        await asyncio.wait((self._task,))


def _give_up(answer: asyncio.Future[wire.Response]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


class DaemonLink:
    """The way to the daemon: at most one connection at a time, opened when it is needed."""

    def __init__(
        self,
        connect: Connect,
        clock: Clock,
        introduce: Introduce | None = None,
        lost: Callable[[], object] | None = None,
    ) -> None:
        """`introduce` begins each connection; `lost` is called when one ends."""
        self._lost = lost
        self._connect = connect
        self._clock = clock
        self._introduce = introduce
        self._connection: DaemonConnection | None = None
        self._open_ones: set[DaemonConnection] = (
            set()
        )  # also those to daemons that stop, and still answer
        self._opening: asyncio.Task[DaemonConnection] | None = None
        self._stopped: float | None = None  # when the last daemon announced its stop
        self._refused: float | None = None  # since when nobody listens
        self.answered_ms: int | None = None
        """When the daemon last answered, ms since 1970; None if it never did."""

    async def call(
        self, method: str, params: object, *, repeatable: bool, within: float | None = None
    ) -> Any:
        """As `ask`, with these parameters.  Raises BadInput too, for what the daemon would not take."""
        return await self.ask(wire.Call(method, params), repeatable=repeatable, within=within)

    async def ask(self, call: wire.Call, *, repeatable: bool, within: float | None = None) -> Any:
        """The result of a request.

        What is `repeatable` is asked again when the connection ends.  Raises WadError: also Refusal 503
        `daemon_unreachable`, and TimedOut where the daemon went away after it may have begun.
        """
        return await self._result(lambda link: link.exchange(call, within), repeatable)

    async def share(self, call: wire.Call, *, within: float | None = None) -> Any:
        """The result of a question that is the same for everybody, asked once for all who wait for it.

        It is asked after this was called.  Deadlines, and how long a stopping daemon is waited for, are those of each
        who waits.  Raises WadError as `ask` does.
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
                        "the daemon does not answer; what was asked may or may not happen"
                    ) from error
                if isinstance(error, TimeoutError) or self._nobody() or not self._may_wait(begun):
                    raise self.unreachable() from error
                await asyncio.sleep(_AGAIN)
            except _Lost as error:
                if connection is not None and not repeatable:
                    raise TimedOut(
                        "the daemon went away; what was asked may or may not have happened"
                    ) from error
                if not self._may_wait(begun):
                    raise self.unreachable() from error
                await asyncio.sleep(_AGAIN)
            else:
                self.answered_ms = clock.wall_ms()
                if response.error is None:
                    return response.result
                refusal = response.error.with_traceback(None)  # others may be raising it, too
                if not isinstance(refusal, Stopping):
                    raise refusal
                self._note_stop()
                if not self._may_wait(begun):
                    raise refusal
                await asyncio.sleep(_AGAIN)

    def unreachable(self) -> LegacyRefusal:
        """Nobody answers, and since when."""
        since = iso_or_null(self.answered_ms)
        return LegacyRefusal(
            503,
            "daemon_unreachable",
            "the daemon does not answer" + (f" since {since}" if since else ""),
            {"since": since, "retryAfterSeconds": 1},
        )

    def _may_wait(self, begun: float) -> bool:
        """Whether who asked at `begun` waits for another daemon: long for one that announced its stop."""
        now = self._clock.monotonic()
        announced = self._stopped is not None and now - self._stopped < STOPPING
        return now - begun < (STOPPING if announced else SILENCE)

    def _nobody(self) -> bool:
        """Whether nobody has listened for so long that nobody will."""
        return self._refused is not None and self._clock.monotonic() - self._refused >= REFUSED

    def _note_stop(self) -> None:
        if self._stopped is None:
            self._stopped = self._clock.monotonic()
        if self._connection is not None and self._connection.stopping:
            self._connection = None  # the next one is another daemon's

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
            # Who waited for it may have given up when it fails.
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        opening = self._opening
        while not opening.done():
            if not self._may_wait(begun):
                raise TimeoutError  # it goes on, for who asks later
            await asyncio.wait((opening,), timeout=_LOOK)
        return opening.result()

    async def _open(self) -> DaemonConnection:
        """systemd may hold the socket of a daemon that starts: we are connected, and hear HELLO later."""
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
            async with asyncio.timeout(_OPENING):
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
        """Hang up."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait((self._opening,))
        self._connection = None
        for connection in list(self._open_ones):
            await connection.close()
