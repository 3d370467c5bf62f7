"""One client connection of the control socket; its requests run concurrently.

The first frame is HELLO.  Each request gets one Response with its id; a streamed reply sends StreamItems first.
Notice("cancel", [id]) cancels a request, and so does disconnecting.  Only cancellable operations are cancelled
(`Operation.cancellable`): one that changes something completes, and its reply is dropped if the client is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from wad.api import dispatch
from wad.api.context import Context
from wad.api.control.clients import Budget, Clients, ControlClient, UnreadReplies
from wad.api.control.frame_writer import CLOSE_TIMEOUT, FrameWriter
from wad.api.control.request_handler import RequestHandler
from wad.api.control.tasks import Tasks
from wad.api.operation import Operation, find
from wad.core.errors import BadInput, TimedOut, TooLong, Unavailable, WadError
from wad.core.wire import (
    MAX_FRAME,
    REQUEST,
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

HELLO_TIMEOUT: Final = 5.0
"""Seconds in which a client must send HELLO."""
FRAME_TIMEOUT: Final = 10.0
"""Seconds from a frame's first byte to its last."""
SMALL: Final = 64 << 10
"""Bytes; larger frames wait for room in the budget that all clients share."""
_CHUNK: Final = 64 << 10
_MAX_UNREAD: Final = (
    1 << 20
)  # unread bytes of replies of one client; beyond it, no more of its requests are read


class _InFlight:
    """A request that is being handled."""

    def __init__(self, request: Request, operation: Operation, size: int) -> None:
        self.request = request
        self.operation = operation
        self.size = size  # bytes taken from the budget
        self.task: asyncio.Task[None] | None = None
        self.cut_short: WadError | None = None
        self.over = False
        self._began = False

    def begin(self) -> None:
        """Raise the error if the request was ended before its first step."""
        self._began = True
        if self.cut_short is not None:
            raise self.cut_short

    def cut(self, why: WadError) -> None:
        """End the request; `why` becomes its reply."""
        self.cut_short = self.cut_short or why
        if self._began and self.task is not None:
            self.task.cancel()


@dataclass
class ClientLimits:
    """The limits that all clients of a socket share."""

    clients: Clients
    budget: Budget
    backlog: UnreadReplies
    frame: FrameLimits = REQUEST
    """The limits of one request."""
    at_once: int = 50
    """The number of frames of one client that are handled before other clients' frames."""


class ClientConnection:
    """A client's connection: reads its requests and sends the replies."""

    def __init__(
        self,
        context: Context,
        reader: asyncio.StreamReader,
        writer: FrameWriter,
        handler: RequestHandler,
        limits: ClientLimits,
        client: ControlClient,
    ) -> None:
        self._context = context
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._limits = limits
        self._client = client
        self._taken = 0  # bytes taken from the budget for the frame that is being read
        self._tasks = Tasks(context)
        self._in_flight: dict[int, _InFlight] = {}
        self._refusal: WadError | None = None

    # --- requests -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until the client has disconnected and its uncancellable requests have ended.  Raises BadInput."""
        try:
            try:
                await self._read_frames()
            finally:
                self._cut(TimedOut("the client disconnected"), only_cancellable=True)
            await self._tasks.wait()
        finally:
            self._handler.ended()
            await self._tasks.cancel(CLOSE_TIMEOUT)

    async def _read_frames(self) -> None:
        decoder, now = Decoder(self._limits.frame), asyncio.get_running_loop().time
        due: float | None = now() + HELLO_TIMEOUT
        try:
            async with asyncio.timeout_at(due) as timeout:
                while data := await self._receive(decoder):
                    timeout.reschedule(None)
                    if await self._take_all(decoder.feed(data)):
                        self._give_back()
                        due = None
                    if decoder.waiting and due is None:
                        due = now() + FRAME_TIMEOUT
                    timeout.reschedule(due)
        except TimeoutError:
            what = "a frame was incomplete" if self._client.greeted else "no HELLO arrived"
            within = FRAME_TIMEOUT if self._client.greeted else HELLO_TIMEOUT
            raise BadInput(f"{what} after {within:g} s") from None
        finally:
            self._give_back()

    async def _take_all(self, frames: Iterator[Frame]) -> int:
        """Handle the frames and return their number."""
        number = 0
        for number, frame in enumerate(frames, 1):
            if self._client.greeted:
                await self._take(frame)
            else:
                check_hello(frame)
                self._client.greeted = True
            if number % self._limits.at_once == 0:
                await asyncio.sleep(0)
        return number

    async def _receive(self, decoder: Decoder) -> bytes:
        if decoder.wanted > SMALL and not self._taken:
            if not self._client.greeted:
                raise BadInput("a HELLO frame with the protocol version must be sent first")
            await self._limits.budget.take(self._client.uid, decoder.wanted)
            self._taken = decoder.wanted
        try:
            return await self._reader.read(_CHUNK)
        except ConnectionError:
            return b""

    def _give_back(self) -> None:
        """Give back the frame's bytes of the budget, unless its request has taken them over."""
        if self._taken:
            self._limits.budget.give(self._client.uid, self._taken)
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
                raise BadInput("a client may send only requests and notices")

    async def _begin(self, request: Request) -> None:
        # No requests are read from a client that does not read replies: each unread reply has a task and its bytes.
        while self._writer.waiting > _MAX_UNREAD:
            await self._writer.taken()
        while len(self._tasks) >= 2 * self._handler.max_requests:
            await self._tasks.one_ended()
        try:
            self._check_room(request)
            flight = _InFlight(request, find(request.method), self._taken)
        except WadError as refusal:
            await self._writer.send(encode(Response(request.id, refusal, None)))
            return
        self._in_flight[request.id] = flight
        self._taken = 0  # the request gives them back
        self._limits.clients.begin(self._client)
        flight.task = self._tasks.start(self._answer(flight), f"request {flight.operation.name}")
        flight.task.add_done_callback(lambda _: self._ended(flight))  # also when it never began

    def _check_room(self, request: Request) -> None:
        if self._refusal is not None:
            raise self._refusal
        if request.id in self._in_flight:
            raise BadInput(f"request {request.id} is in flight already")
        if len(self._in_flight) >= self._handler.max_requests:
            raise Unavailable(
                f"{self._handler.max_requests} requests are in flight on this connection already"
            )

    # --- cancelling -------------------------------------------------------------------------------

    def _cancel(self, ident: int) -> None:
        flight = self._in_flight.get(ident)
        if flight is not None and flight.operation.cancellable:
            flight.cut(TimedOut("cancelled"))

    def _cut(self, why: WadError, *, only_cancellable: bool = False) -> None:
        for flight in list(self._in_flight.values()):
            if flight.operation.cancellable or not only_cancellable:
                flight.cut(why)

    def refuse(self, why: WadError) -> None:
        """Refuse further requests and end the streams, which would not end by themselves."""
        self._refusal = why
        if self._handler.stopping:
            self._writer.note(self._handler.stopping)
        for flight in list(self._in_flight.values()):
            if flight.operation.streaming:
                flight.cut(why)

    async def finish(self) -> None:
        """Wait for the requests in flight."""
        await self._tasks.wait()

    async def cut_off(self, why: WadError) -> None:
        """End every request with this error."""
        self._cut(why)
        await self._tasks.wait(CLOSE_TIMEOUT)

    # --- replies ----------------------------------------------------------------------------------

    async def _answer(self, flight: _InFlight) -> None:
        try:
            response = await self._response(flight)
        finally:
            self._ended(flight)
        if (
            self._handler.shared
            and len(response) > SMALL
            and not self._writer.has_room(len(response))
        ):
            crowded = Unavailable("too many large replies at once", hint="try again in a moment")
            response = encode(Response(flight.request.id, crowded, None))
        await self._writer.send(response)

    def _ended(self, flight: _InFlight) -> None:
        """The request is no longer in flight; only its reply may still wait."""
        if flight.over:
            return
        flight.over = True
        del self._in_flight[flight.request.id]
        self._limits.clients.done(self._client)
        if flight.size:
            self._limits.budget.give(self._client.uid, flight.size)

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
            return await self._handler.call(name, params)
        async with aclosing(self._handler.stream(name, params)) as items:
            async for item in items:
                frame = self._encoded(flight, StreamItem(flight.request.id, item))
                if not await self._writer.send(frame):
                    break
        return None

    def _encoded(self, flight: _InFlight, frame: Frame) -> bytes:
        """Encode a reply.  Raises TooLong, since the client would refuse the frame and lose the connection."""
        with dispatch.guarded(self._context, flight.operation.name):
            data = encode(frame)
        if len(data) > MAX_FRAME:
            raise TooLong(
                f"the reply of {flight.operation.name} has {len(data)} bytes; the limit is {MAX_FRAME}",
                hint="request fewer items at once (limit)",
            )
        return data
