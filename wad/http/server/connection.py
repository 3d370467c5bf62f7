"""One connection: uvicorn's HTTP protocol behind a counter of bytes and a clock.

uvicorn parses, runs the application and writes answers.  What reaches its parser is one request at a time: a head that
is complete and valid, then the bytes of its body and no more; the next request waits until this one is answered.  So
requests that come together take no memory, and each step has a deadline, which uvicorn has not.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from wad.http.server import head as heads
from wad.http.server.body import Body, Chunked, FixedLength
from wad.http.server.head import RefusedRequest, busy, check_begun, check_head, invalid, late
from wad.http.server.slots import NEVER, Slots
from wad.http.server.transport import Outgoing

log = logging.getLogger(__name__)


class _Phase(enum.Enum):
    HEAD = enum.auto()
    """Between requests, or in a head."""
    BODY = enum.auto()
    """The application runs, or has answered already, and the body is not complete."""
    ANSWER = enum.auto()
    """The request is complete; the next one waits."""
    LINGER = enum.auto()
    """The last answer was written; what still comes is dropped."""


class HttpConnection(HttpToolsProtocol, asyncio.BufferedProtocol):
    """One client."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        places: Slots,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.since = NEVER
        self._places = places
        self._limits = places.limits
        self._now = places.now
        self._phase = _Phase.HEAD
        self._held = b""  # bytes that came and that no parser has seen
        self._known = 0  # how many of them were looked at
        self._body: Body | None = None
        self._complete = False  # whether the parser saw the end of the request
        self._keep_alive = False  # whether the client wants it
        self._reserve = False
        self._half_closed = False
        self._begun = NEVER  # when the head of this request began
        self._read_before = NEVER
        self._write_before = NEVER
        self._came = 0  # bytes of the body, of those that have to come by then
        self._unsent_at = 0  # bytes that were unsent when the client was given time
        self._unsent = 0  # and when we looked last
        self._written = 0  # bytes of answers, before those that have to be written by then
        self._stopped = False  # the application does not take the body
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None

    # --- what the event loop calls --------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's, and a place is taken."""
        self._socket = transport
        # One byte that the client does not take is noticed, and an application that streams waits for it.
        transport.set_write_buffer_limits(high=0)
        self._out = Outgoing(transport, self.loop, self._stop_reading, self._end)
        super().connection_made(cast("asyncio.Transport", self._out))
        if not self._places.enter(self):
            transport.abort()
            return
        self._reserve = self._places.is_reserve(self)
        self.since = self._begun = self._now()
        patience = self._limits.short_head if self._reserve else self._limits.head
        self._read_before = self.since + patience

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        self._places.left(self)
        self._read_before = self._write_before = NEVER
        self._held = b""
        self._out.ended = True
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: the buffer of all connections, as each takes them out at once."""
        return self._places.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        if self._phase is _Phase.LINGER:
            self._linger_left -= nbytes
            if self._linger_left < 0:
                self._socket.abort()
            return
        data = bytes(self._places.buffer[:nbytes])
        if self._held:
            self._held += data
        else:
            self._held = data
            if self._phase is _Phase.HEAD and self._begun == NEVER:
                self._begun = self._now()
                self._read_before = self._begun + self._limits.head
        self._advance()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has closed its side: it may still wait for the answer to a request that is complete."""
        if self._phase is not _Phase.ANSWER:
            return False
        self._half_closed = True
        self._expect_answer()
        return True

    def pause_writing(self) -> None:
        """The client does not take its answer."""
        super().pause_writing()
        self._expect_taking()
        if self._phase is _Phase.ANSWER:
            self.since = self._now()
        self._places.stalled(self)

    def resume_writing(self) -> None:
        """It has taken all of it."""
        super().resume_writing()
        self._write_before = NEVER
        self._places.flows(self)
        if self._phase is _Phase.ANSWER:
            self.since = NEVER
            if self.cycle.response_complete:
                self._next_request()

    # --- what came ------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Give the parser what it may have."""
        try:
            while self._held and self._phase is not _Phase.LINGER:
                if self._phase is _Phase.HEAD:
                    if not self._take_head():
                        break
                elif self._phase is _Phase.BODY:
                    self._take_body()
                else:
                    break
        except RefusedRequest as refusal:
            self._refuse(refusal)
            return
        self._regulate()

    def _take_head(self) -> bool:
        """Whether a head was complete.  Raises Refusal."""
        if self._held.startswith(b"\r"):
            self._held, self._known = heads.without_empty_lines(self._held), 0
            if not self._held:
                return False
        end = self._held.find(heads.END, max(0, self._known - 3))
        if end < 0:
            check_begun(self._held, self._known, self._limits)
            self._known = len(self._held)
            if self._reserve and self._known > self._limits.short_head_bytes:
                raise busy(self._limits.connections)
            return False
        end += len(heads.END)
        head, self._held, self._known = self._held[:end], self._held[end:], 0
        head = check_head(head, self._limits)
        if self._reserve and not heads.is_probe(head, self._places.probes):
            raise busy(self._limits.connections)
        self._feed_head(head)
        self._places.counters.requests += 1
        self._keep_alive = self.cycle.keep_alive and not self._reserve
        if self._body is None:
            self._request_complete()
        else:
            self._phase = _Phase.BODY
            self._expect_body()
        self._decide_keep_alive()
        return True

    def _feed_head(self, head: bytes) -> None:
        """Raises Refusal."""
        self._complete, self._body = False, None
        self._feed(head)
        if self._complete is not (self._body is None):
            raise self._disagreement()

    def on_headers_complete(self) -> None:
        """As uvicorn's, when the head says clearly where the request ends.  Raises Refusal, through the parser."""
        version = self.parser.get_http_version()
        length = heads.body_length(self.headers, version, self._limits)
        if length is None:
            self._body = Chunked(self._limits)
        elif length:
            self._body = FixedLength(length, self._limits)
        if version == "1.0":
            self.expect_100_continue = False
        super().on_headers_complete()

    def _take_body(self) -> None:
        """Raises Refusal."""
        assert self._body is not None
        before = len(self._held)
        piece, self._held = self._body.take(self._held)
        came = before - len(self._held)
        self._came += came
        self.since = min(self.since + came / self._limits.rate, self._now())
        self._feed(piece)
        if self._complete is not self._body.done:
            raise self._disagreement()
        if self._complete:
            self._request_complete()
        self._decide_keep_alive()

    def on_message_complete(self) -> None:
        """As uvicorn's."""
        self._complete = True
        super().on_message_complete()

    def _feed(self, data: bytes) -> None:
        """Raises Refusal."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, RefusedRequest):
                raise error.__context__ from None
            raise invalid("the request is not valid HTTP/1.1") from error
        except httptools.HttpParserUpgrade:
            raise self._disagreement() from None

    def _disagreement(self) -> RefusedRequest:
        """Where two parsers see the end of a request at two places, one of them can be led past the other."""
        self._places.counters.disagreements += 1
        log.error(
            "httptools and wad.http do not agree where a request ends; the connection was closed"
        )
        return invalid("it is not clear where the request ends")

    def _request_complete(self) -> None:
        self._read_before = self._begun = NEVER
        if self._half_closed:
            self._expect_answer()
        if self.cycle.response_complete and not self.flow.write_paused:
            self._await_request()
        else:
            self._phase = _Phase.ANSWER
            self.since = NEVER

    def _next_request(self) -> None:
        """This one is answered, and the client has taken the answer."""
        self._await_request()
        if self._held:
            self._places.wait(self)
        elif self._half_closed:
            self._out.close()

    def go_on(self) -> None:
        """Begin the next request, which came with the one before it."""
        if self._out.is_closing() or self._phase is not _Phase.HEAD:
            return
        self._advance()
        if self._half_closed and self._phase is _Phase.HEAD:
            self._out.close()

    def _await_request(self) -> None:
        """The next one, or its beginning that is here already."""
        self._phase = _Phase.HEAD
        self._known = 0
        self._body = None
        now = self._now()
        self.since = now
        if self._held:
            self._begun = now
            self._read_before = now + self._limits.head
        else:
            self._begun = NEVER
            self._read_before = now + self._limits.idle

    # --- what goes ------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Instead of uvicorn's, which starts what waits in its pipeline, and a timer: both are ours."""
        self.server_state.total_requests += 1
        if self._out.is_closing():
            return
        self._out.flush()
        self.flow.resume_reading()
        if self._phase is _Phase.BODY:
            self._read_before = self._now() + self._limits.rest
        elif not self.flow.write_paused:
            self._next_request()

    def _decide_keep_alive(self) -> None:
        """Whether the connection stays after the answer: not if much of the body would have to be read for it."""
        if self.cycle.response_started:
            return
        settled = self._complete or (
            self._body is not None and self._body.short and not self.cycle.waiting_for_100_continue
        )
        self.cycle.keep_alive = self._keep_alive and settled and not self._places.stopping

    def stop(self) -> None:
        """The server ends: a running request is the last one, and there is time for one more where none runs."""
        if self.cycle is not None:
            self._decide_keep_alive()

    def shutdown(self) -> None:
        """As uvicorn's: the server has ended."""
        self._keep_alive = False
        super().shutdown()

    def _end(self) -> None:
        """After the last answer: read a little of what the client still sends, or a reset takes the answer away."""
        self._read_before = NEVER
        more = self._phase is _Phase.BODY or self._held
        if not more or self._half_closed or self._socket.is_closing():
            self._socket.close()
            return
        self._phase = _Phase.LINGER
        self._held = b""
        self._linger_left = self._limits.linger_bytes
        self.since = min(self.since, self._now())
        self._socket.write_eof()
        self._timer = self.loop.call_later(self._limits.linger, self._socket.abort)
        self._regulate()

    def _refuse(self, refusal: RefusedRequest) -> None:
        """The last answer on this connection, unless the request that it is about has one."""
        self._places.counters.refused += 1
        log.info("%d: %s", refusal.status, refusal)
        if self._cut_off():
            self._out.write(refusal.response)
        self._phase = _Phase.BODY  # something is still to come
        self._out.close()

    def _cut_off(self) -> bool:
        """Tell the application that its client has gone; whether this request can still be answered."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return self._phase is _Phase.HEAD
        cycle.disconnected = True
        cycle.message_event.set()
        return not cycle.response_started

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's, in the form in which the apps read an error."""
        self._refuse(invalid(msg))

    # --- time, and room for others --------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes of an answer that wait for the client."""
        return self._out.unsent

    def check(self, now: float) -> None:
        """End what lasts too long."""
        if self._write_before != NEVER:
            unsent = self._out.unsent
            if self._phase is _Phase.ANSWER:
                self.since = min(self.since + (self._unsent - unsent) / self._limits.rate, now)
            self._unsent = unsent
            if now >= self._write_before:
                if self._unsent_at - unsent < self._limits.write * self._limits.rate:
                    self._places.counters.timed_out += 1
                    self._socket.abort()
                    return
                self._expect_taking()
        if now >= self._read_before:
            self._late(now)

    def _late(self, now: float) -> None:
        in_body = self._phase is _Phase.BODY and not self.cycle.response_complete
        fair = self._came >= self._limits.body * self._limits.rate
        if in_body and fair and now < self._begun + self._limits.request:
            self._expect_body()
            return
        if self._half_closed and (
            self._out.written > self._written or self.cycle.response_complete
        ):  # an answer that is not taken has a deadline of its own
            self._expect_answer()
            return
        self._places.counters.timed_out += 1
        if self._phase is _Phase.HEAD and not self._held:
            self._out.close()
        elif self._phase is _Phase.HEAD:
            self._refuse(late("the head of the request did not come in time"))
        elif in_body and not self.cycle.response_started:
            self._refuse(late("the body of the request did not come in time"))
        else:
            self._socket.abort()

    def give_way(self) -> None:
        """End at once: others need the place."""
        if self._held or self._phase is _Phase.BODY:
            refusal = busy(self._limits.connections)
            if self._cut_off():
                self._out.write(refusal.response)
        self._out.flush()
        if self._out.unsent:
            self._socket.abort()
        self._socket.close()

    def abort(self) -> None:
        """End at once, without another byte."""
        self._socket.abort()

    def _expect_taking(self) -> None:
        """From now on a part of the answer has to be taken."""
        self._unsent = self._unsent_at = self._out.unsent
        self._write_before = self._now() + self._limits.write

    def _expect_body(self) -> None:
        """From now on a part of the body has to come."""
        if self.cycle.response_complete:
            return
        self.since, self._came = self._now(), 0
        if self._stopped:
            self._read_before = NEVER
        else:
            before = self._begun + self._limits.request
            self._read_before = min(self.since + self._limits.body, before)

    def _expect_answer(self) -> None:
        """From now on the application has to answer, as the client may have gone."""
        self._written = self._out.written
        self._read_before = self._now() + self._limits.half_closed

    def _stop_reading(self, stop: bool) -> None:
        """The application does not take the body, or does again: meanwhile the client is not waited for."""
        self._stopped = stop
        if self._phase is _Phase.BODY:
            self._expect_body()
        self._regulate()

    def _regulate(self) -> None:
        """Read on, or not: what is held is the next request's, and more of it need not come."""
        held = bool(self._held) and self._phase is _Phase.ANSWER
        pause = self._phase is not _Phase.LINGER and (self._stopped or held)
        if pause is not self._paused and not self._half_closed:
            self._paused = pause
            if pause:
                self._socket.pause_reading()
            else:
                self._socket.resume_reading()
