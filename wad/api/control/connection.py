"""One client of the control socket: frames in, frames out, its requests side by side.

Its first frame is HELLO.  A request is answered by one Response with its id; a streamed reply sends Items first.
Notice("cancel", [id]) cancels a request; so does going away.  Cancelled is only what may be (`Operation.cancellable`):
what changes something runs to its end, and its reply is dropped when nobody is left to take it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from wad.api import dispatch
from wad.api.context import Context
from wad.api.control.clients import Budget, Clients, ControlClient, UnsentAnswers
from wad.api.operation import Access, Operation, find
from wad.core.errors import BadInput, TimedOut, TooLong, Unavailable, WadError
from wad.core.wire import (
    MAX_FRAME,
    REQUEST,
    TOGETHER,
    Decoder,
    Frame,
    FrameLimits,
    Notice,
    Request,
    Response,
    StreamItem,
    check_hello,
    encode,
)

log = logging.getLogger(__name__)

MAX_REQUESTS: Final = 64
"""In flight on one connection."""
HELLO_WITHIN: Final = 5.0
"""Seconds in which a client says HELLO."""
FRAME_WITHIN: Final = 10.0
"""Seconds from a frame's first byte to its last."""
SMALL: Final = 64 << 10
"""Bytes of a frame for which every client has room; larger ones wait for room in the budget of all."""
_CHUNK: Final = 64 << 10
_HIGH_WATER: Final = 256 << 10  # bytes that may wait for a slow client before senders wait too
_UNSENT: Final = (
    1 << 20
)  # bytes of answers that wait for a client; then it is asked to take them first
_FAREWELL: Final = 1.0  # seconds in which a client may take its last frames, or a handler end


class Tasks:
    """Tasks that nobody awaits one by one; one that fails is logged and counted."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Run it from now on."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            dispatch.internal_error(self._context, task.get_name(), error)

    async def one_ended(self) -> None:
        """Until one of those that run now has ended."""
        if self._running:
            await asyncio.wait(set(self._running), return_when=asyncio.FIRST_COMPLETED)

    async def wait(self, timeout: float | None = None) -> None:
        """Until all that run now have ended, or for `timeout` seconds."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=timeout)

    async def cancel(self, timeout: float | None = None) -> None:
        """End them all."""
        for task in self._running:
            task.cancel()
        await self.wait(timeout)


class FrameWriter:
    """The sending half: whole frames, one after the other, never more in memory than the client takes."""

    def __init__(self, writer: asyncio.StreamWriter, backlog: UnsentAnswers) -> None:
        self._writer = writer
        self._backlog = backlog
        self._abort = writer.transport.abort  # one object: the backlog knows the client by it
        self._one_at_a_time = asyncio.Lock()
        self.waiting = 0
        """Bytes of frames that wait for the client."""
        self._frames: list[bytes] = []
        self._gathered = 0
        writer.transport.set_write_buffer_limits(high=_HIGH_WATER)

    async def send(self, frame: bytes) -> bool:
        """Send once the client has taken what came before; False when it is gone."""
        if self._writer.is_closing():
            return False
        if self._gather(frame):
            return True
        self._backlog.add(self._abort, len(frame))
        self.waiting += len(frame)
        try:
            async with self._one_at_a_time:
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
        """Send a small frame together with others of this turn of the loop, while the client takes all it gets."""
        transport = self._writer.transport
        size = self._gathered + len(frame)
        if size > SMALL or self._one_at_a_time.locked() or transport.get_write_buffer_size():
            self._flush()
            return False
        self._frames.append(frame)
        self._gathered = size
        if len(self._frames) >= TOGETHER:
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
        """Until the client has taken what waits for it now, or is gone."""
        async with self._one_at_a_time:
            pass

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more may wait, or somebody would be hung up on."""
        return self._backlog.has_room(size)

    @property
    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._writer.is_closing()

    def note(self, frame: bytes) -> None:
        """Send a few bytes that nobody waits for."""
        if not self._writer.is_closing():
            self._flush()
            self._writer.write(frame)

    def hang_up(self, frame: bytes) -> None:
        """Send this last; who does not take it soon does not get it."""
        if not self._writer.is_closing():
            self._flush()
            self._writer.write(frame)
            self._writer.close()
            asyncio.get_running_loop().call_later(_FAREWELL, self._abort)

    async def close(self) -> None:
        """Hand over what was sent, for a moment, and hang up."""
        try:
            self._flush()
            self._writer.close()
            async with asyncio.timeout(_FAREWELL):
                await self._writer.wait_closed()
        except (TimeoutError, ConnectionError) as error:
            log.debug("a client did not take its last frames: %r", error)
        finally:
            self._writer.transport.abort()
            self._backlog.forget(self._abort)


class _InFlight:
    """A request that is being answered."""

    def __init__(self, request: Request, operation: Operation, size: int) -> None:
        self.request = request
        self.operation = operation
        self.size = size  # of the budget
        self.task: asyncio.Task[None] | None = None
        self.cut_short: WadError | None = None
        self.over = False
        self._began = False

    def begin(self) -> None:
        """Raises what it was cut short with before its first step."""
        self._began = True
        if self.cut_short is not None:
            raise self.cut_short

    def cut(self, why: WadError) -> None:
        """End it; `why` becomes its answer."""
        self.cut_short = self.cut_short or why
        if self._began and self.task is not None:
            self.task.cancel()


@dataclass
class ClientLimits:
    """What all clients of the socket share."""

    clients: Clients
    budget: Budget
    backlog: UnsentAnswers
    frame: FrameLimits = REQUEST
    """What one request may hold."""
    at_once: int = 50
    """Frames of one client that are handled before others have their turn."""


class RequestHandler(Protocol):
    """Asks the operations for a client, as the one that the client is."""

    most: int
    """Requests in flight on one connection."""
    farewell: bytes
    """A frame that the client gets when the daemon begins to stop; empty for none."""
    shared: bool
    """Whether the client asks for many others: they must not lose the connection by one's large answers."""

    async def call(self, name: str, params: object) -> object:
        """The reply.  Raises WadError, and nothing else."""
        ...

    def stream(self, name: str, params: object) -> AsyncGenerator[object, None]:
        """The replies of an operation that streams them.  Raises WadError, and nothing else."""
        ...

    def ended(self) -> None:
        """The client is gone."""
        ...


class SocketRequestHandler:
    """Asks for a client of the control socket, whose access the kernel's word gives."""

    most = MAX_REQUESTS
    farewell = b""
    shared = False

    def __init__(self, context: Context, access: Access) -> None:
        self._context = context
        self._access = access

    async def call(self, name: str, params: object) -> object:
        """The reply.  Raises WadError, and nothing else."""
        return await dispatch.call(self._context, name, params, self._access)

    def stream(self, name: str, params: object) -> AsyncGenerator[object, None]:
        """The replies of an operation that streams them.  Raises WadError, and nothing else."""
        return dispatch.stream(self._context, name, params, self._access)

    def ended(self) -> None:
        """Nothing is kept of it."""


class ClientConnection:
    """One client's requests and their answers."""

    def __init__(
        self,
        context: Context,
        reader: asyncio.StreamReader,
        line: FrameWriter,
        asker: RequestHandler,
        crowd: ClientLimits,
        client: ControlClient,
    ) -> None:
        self._context = context
        self._reader = reader
        self._line = line
        self._asker = asker
        self._crowd = crowd
        self._client = client
        self._taken = 0  # bytes of the budget for the frame that is being read
        self._tasks = Tasks(context)
        self._in_flight: dict[int, _InFlight] = {}
        self._refusal: WadError | None = None

    # --- what comes in --------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the client goes, and what must not be cut off has ended.  Raises BadInput for what is no frame."""
        try:
            try:
                await self._listen()
            finally:
                self._cut(TimedOut("the client went away"), only_cancellable=True)
            await self._tasks.wait()
        finally:
            self._asker.ended()
            await self._tasks.cancel(_FAREWELL)

    async def _listen(self) -> None:
        decoder, now = Decoder(self._crowd.frame), asyncio.get_running_loop().time
        due: float | None = now() + HELLO_WITHIN
        try:
            async with asyncio.timeout_at(due) as patience:
                while data := await self._receive(decoder):
                    patience.reschedule(None)
                    if await self._take_all(decoder.feed(data)):
                        self._give_back()
                        due = None
                    if decoder.waiting and due is None:
                        due = now() + FRAME_WITHIN
                    patience.reschedule(due)
        except TimeoutError:
            what = "a frame was not finished" if self._client.greeted else "no HELLO came"
            within = FRAME_WITHIN if self._client.greeted else HELLO_WITHIN
            raise BadInput(f"{what} within {within:g} s") from None
        finally:
            self._give_back()

    async def _take_all(self, frames: Iterator[Frame]) -> int:
        """Handle these; how many they were."""
        number = 0
        for number, frame in enumerate(frames, 1):
            if self._client.greeted:
                await self._take(frame)
            else:
                check_hello(frame)
                self._client.greeted = True
            if number % self._crowd.at_once == 0:
                await asyncio.sleep(0)
        return number

    async def _receive(self, decoder: Decoder) -> bytes:
        if decoder.wanted > SMALL and not self._taken:
            if not self._client.greeted:
                raise BadInput(
                    "the other side does not say which version of the protocol it speaks"
                )
            await self._crowd.budget.take(self._client.uid, decoder.wanted)
            self._taken = decoder.wanted
        try:
            return await self._reader.read(_CHUNK)
        except ConnectionError:
            return b""

    def _give_back(self) -> None:
        """What the frame that was read had of the budget; its request may have taken it over."""
        if self._taken:
            self._crowd.budget.give(self._client.uid, self._taken)
            self._taken = 0

    async def _take(self, frame: Frame) -> None:
        match frame:
            case Request():
                await self._begin(frame)
            case Notice("cancel", [int(ident)]):
                self._cancel(ident)
            case Notice(method, _):
                log.debug("a client notes %.40r, which means nothing here", method)
            case _:
                raise BadInput("a client sends requests and notices only")

    async def _begin(self, request: Request) -> None:
        # Whoever does not take answers is not listened to: each answer that waits has a task, and its bytes.
        while self._line.waiting > _UNSENT:
            await self._line.taken()
        while len(self._tasks) >= 2 * self._asker.most:
            await self._tasks.one_ended()
        try:
            self._check_room(request)
            flight = _InFlight(request, find(request.method), self._taken)
        except WadError as refusal:
            await self._line.send(encode(Response(request.id, refusal, None)))
            return
        self._in_flight[request.id] = flight
        self._taken = 0  # it is the request's now
        self._crowd.clients.begin(self._client)
        flight.task = self._tasks.start(self._answer(flight), f"request {flight.operation.name}")
        flight.task.add_done_callback(lambda _: self._over(flight))  # also one that never began

    def _check_room(self, request: Request) -> None:
        if self._refusal is not None:
            raise self._refusal
        if request.id in self._in_flight:
            raise BadInput(f"request {request.id} is in flight already")
        if len(self._in_flight) >= self._asker.most:
            raise Unavailable(
                f"{self._asker.most} requests are in flight on this connection already"
            )

    # --- what ends early --------------------------------------------------------------------------

    def _cancel(self, ident: int) -> None:
        flight = self._in_flight.get(ident)
        if flight is not None and flight.operation.cancellable:
            flight.cut(TimedOut("cancelled"))

    def _cut(self, why: WadError, *, only_cancellable: bool = False) -> None:
        for flight in list(self._in_flight.values()):
            if flight.operation.cancellable or not only_cancellable:
                flight.cut(why)

    def refuse(self, why: WadError) -> None:
        """Take no more requests, and end the streams, which would not end by themselves."""
        self._refusal = why
        if self._asker.farewell:
            self._line.note(self._asker.farewell)
        for flight in list(self._in_flight.values()):
            if flight.operation.streaming:
                flight.cut(why)

    async def finish(self) -> None:
        """Wait for the requests in flight."""
        await self._tasks.wait()

    async def cut_off(self, why: WadError) -> None:
        """End every request; its answer says why."""
        self._cut(why)
        await self._tasks.wait(_FAREWELL)

    # --- what goes out ------------------------------------------------------------------------------

    async def _answer(self, flight: _InFlight) -> None:
        try:
            response = await self._response(flight)
        finally:
            self._over(flight)
        if self._asker.shared and len(response) > SMALL and not self._line.has_room(len(response)):
            crowded = Unavailable("too many large answers at once", hint="try again in a moment")
            response = encode(Response(flight.request.id, crowded, None))
        await self._line.send(response)

    def _over(self, flight: _InFlight) -> None:
        """Nothing is in flight of it any more but its answer."""
        if flight.over:
            return
        flight.over = True
        del self._in_flight[flight.request.id]
        self._crowd.clients.done(self._client)
        if flight.size:
            self._crowd.budget.give(self._client.uid, flight.size)

    async def _response(self, flight: _InFlight) -> bytes:
        ident = flight.request.id
        try:
            flight.begin()
            result = await self._run(flight)
            return self._encoded(flight, Response(ident, None, result))
        except WadError as error:
            return encode(Response(ident, error, None))
        except asyncio.CancelledError:
            if flight.cut_short is None:
                raise
            return encode(Response(ident, flight.cut_short, None))

    async def _run(self, flight: _InFlight) -> object:
        name, params = flight.operation.name, flight.request.params
        if not flight.operation.streaming:
            return await self._asker.call(name, params)
        async with aclosing(self._asker.stream(name, params)) as items:
            async for item in items:
                frame = self._encoded(flight, StreamItem(flight.request.id, item))
                if not await self._line.send(frame):
                    break
        return None

    def _encoded(self, flight: _InFlight, frame: Frame) -> bytes:
        """The bytes of an answer.  Raises TooLong: the client would refuse it, and lose the connection."""
        with dispatch.guarded(self._context, flight.operation.name):
            data = encode(frame)
        if len(data) > MAX_FRAME:
            raise TooLong(
                f"the answer of {flight.operation.name} has {len(data)} bytes, a frame takes {MAX_FRAME}",
                hint="ask for less at once (limit)",
            )
        return data
