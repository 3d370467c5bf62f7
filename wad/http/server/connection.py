"""One connection: uvicorn's HTTP protocol with limits on bytes and time.

uvicorn parses, runs the application and writes responses.  Its parser gets one request at a time: a complete and valid
head, then exactly the bytes of its body; the next request waits until this one is answered.  So pipelined requests take
no memory, and each step has a deadline, which uvicorn does not have.
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
    """The application runs or has answered already, and the body is incomplete."""
    ANSWER = enum.auto()
    """The request is complete; the next one waits."""
    LINGER = enum.auto()
    """The last response is written; further data is dropped."""


class HttpConnection(HttpToolsProtocol, asyncio.BufferedProtocol):
    """A client connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        slots: Slots,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.since = NEVER
        self._slots = slots
        self._limits = slots.limits
        self._now = slots.now
        self._phase = _Phase.HEAD
        self._held = b""  # received bytes that the parser has not got
        self._known = 0  # how many of them were checked
        self._body: Body | None = None
        self._complete = False  # whether the parser saw the end of the request
        self._keep_alive = False  # whether the client requests it
        self._reserve = False
        self._half_closed = False
        self._begun = NEVER  # when the head of this request began
        self._read_before = NEVER
        self._write_before = NEVER
        self._received = 0  # bytes of the body since the deadline was set
        self._unsent_at = 0  # unsent bytes when the write deadline was set
        self._unsent = 0  # unsent bytes at the last check
        self._written = 0  # written bytes when the deadline for the application was set
        self._stopped = False  # the application does not consume the body
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None

    # --- called by the event loop ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The same as uvicorn's, and take a slot."""
        self._socket = transport
        # Even one unread byte is noticed, and a streaming application waits for it.
        transport.set_write_buffer_limits(high=0)
        self._out = Outgoing(transport, self.loop, self._stop_reading, self._end)
        super().connection_made(cast("asyncio.Transport", self._out))
        if not self._slots.enter(self):
            transport.abort()
            return
        self._reserve = self._slots.is_reserve(self)
        self.since = self._begun = self._now()
        timeout = self._limits.short_head if self._reserve else self._limits.head
        self._read_before = self.since + timeout

    def connection_lost(self, exc: Exception | None) -> None:
        """The same as uvicorn's."""
        self._slots.left(self)
        self._read_before = self._write_before = NEVER
        self._held = b""
        self._out.ended = True
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The shared buffer of all connections, since each copies its bytes at once."""
        return self._slots.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Handle received bytes."""
        if self._phase is _Phase.LINGER:
            self._linger_left -= nbytes
            if self._linger_left < 0:
                self._socket.abort()
            return
        data = bytes(self._slots.buffer[:nbytes])
        if self._held:
            self._held += data
        else:
            self._held = data
            if self._phase is _Phase.HEAD and self._begun == NEVER:
                self._begun = self._now()
                self._read_before = self._begun + self._limits.head
        self._advance()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has closed its side; it may still wait for the response to a complete request."""
        if self._phase is not _Phase.ANSWER:
            return False
        self._half_closed = True
        self._set_answer_deadline()
        return True

    def pause_writing(self) -> None:
        """The client does not read its response."""
        super().pause_writing()
        self._set_write_deadline()
        if self._phase is _Phase.ANSWER:
            self.since = self._now()
        self._slots.stalled(self)

    def resume_writing(self) -> None:
        """The client has read all of it."""
        super().resume_writing()
        self._write_before = NEVER
        self._slots.flows(self)
        if self._phase is _Phase.ANSWER:
            self.since = NEVER
            if self.cycle.response_complete:
                self._next_request()

    # --- requests ---------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Pass received bytes to the parser as far as the phase allows."""
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
        """Pass a complete head to the parser; False while it is incomplete.  Raises RefusedRequest."""
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
        if self._reserve and not heads.is_probe(head, self._slots.probes):
            raise busy(self._limits.connections)
        self._feed_head(head)
        self._slots.counters.requests += 1
        self._keep_alive = self.cycle.keep_alive and not self._reserve
        if self._body is None:
            self._request_complete()
        else:
            self._phase = _Phase.BODY
            self._set_body_deadline()
        self._decide_keep_alive()
        return True

    def _feed_head(self, head: bytes) -> None:
        """Pass a head to the parser.  Raises RefusedRequest."""
        self._complete, self._body = False, None
        self._feed(head)
        if self._complete is not (self._body is None):
            raise self._disagreement()

    def on_headers_complete(self) -> None:
        """The same as uvicorn's, after the body's length is known.  Raises RefusedRequest, through the parser."""
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
        """Pass bytes of the body to the parser.  Raises RefusedRequest."""
        assert self._body is not None
        before = len(self._held)
        piece, self._held = self._body.take(self._held)
        count = before - len(self._held)
        self._received += count
        self.since = min(self.since + count / self._limits.rate, self._now())
        self._feed(piece)
        if self._complete is not self._body.done:
            raise self._disagreement()
        if self._complete:
            self._request_complete()
        self._decide_keep_alive()

    def on_message_complete(self) -> None:
        """The same as uvicorn's."""
        self._complete = True
        super().on_message_complete()

    def _feed(self, data: bytes) -> None:
        """Pass bytes to the parser.  Raises RefusedRequest."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, RefusedRequest):
                raise error.__context__ from None
            raise invalid("the request is not valid HTTP/1.1") from error
        except httptools.HttpParserUpgrade:
            raise self._disagreement() from None

    def _disagreement(self) -> RefusedRequest:
        """The error when two parsers find different ends of a request, which would allow request smuggling."""
        self._slots.counters.disagreements += 1
        log.error(
            "httptools and wad.http disagree about the end of a request; the connection was closed"
        )
        return invalid("the end of the request is ambiguous")

    def _request_complete(self) -> None:
        self._read_before = self._begun = NEVER
        if self._half_closed:
            self._set_answer_deadline()
        if self.cycle.response_complete and not self.flow.write_paused:
            self._await_request()
        else:
            self._phase = _Phase.ANSWER
            self.since = NEVER

    def _next_request(self) -> None:
        """Go on after a response that the client has read."""
        self._await_request()
        if self._held:
            self._slots.wait(self)
        elif self._half_closed:
            self._out.close()

    def go_on(self) -> None:
        """Begin the next pipelined request."""
        if self._out.is_closing() or self._phase is not _Phase.HEAD:
            return
        self._advance()
        if self._half_closed and self._phase is _Phase.HEAD:
            self._out.close()

    def _await_request(self) -> None:
        """Wait for the next request, whose beginning may have arrived already."""
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

    # --- responses --------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Instead of uvicorn's, which starts pipelined requests and a timer: this class does both."""
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
        """Decide whether the connection is kept after the response: not if much of the body is unread."""
        if self.cycle.response_started:
            return
        settled = self._complete or (
            self._body is not None and self._body.short and not self.cycle.waiting_for_100_continue
        )
        self.cycle.keep_alive = self._keep_alive and settled and not self._slots.stopping

    def stop(self) -> None:
        """Begin the shutdown: a running request is the last one; without one, one more is served."""
        if self.cycle is not None:
            self._decide_keep_alive()

    def shutdown(self) -> None:
        """The same as uvicorn's: the server has ended."""
        self._keep_alive = False
        super().shutdown()

    def _end(self) -> None:
        """Close after the last response, but first read a little more, since a reset would discard the response."""
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
        """Send an error as the last response, unless its request is answered already."""
        self._slots.counters.refused += 1
        log.info("%d: %s", refusal.status, refusal)
        if self._cut_off():
            self._out.write(refusal.response)
        self._phase = _Phase.BODY  # more data may arrive
        self._out.close()

    def _cut_off(self) -> bool:
        """Signal the application that the client is gone; return whether the request can still be answered."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return self._phase is _Phase.HEAD
        cycle.disconnected = True
        cycle.message_event.set()
        return not cycle.response_started

    def send_400_response(self, msg: str) -> None:
        """The same as uvicorn's, in the apps' error format."""
        self._refuse(invalid(msg))

    # --- deadlines and closing ------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """The unsent bytes of responses."""
        return self._out.unsent

    def check(self, now: float) -> None:
        """Close the connection if a deadline has passed."""
        if self._write_before != NEVER:
            unsent = self._out.unsent
            if self._phase is _Phase.ANSWER:
                self.since = min(self.since + (self._unsent - unsent) / self._limits.rate, now)
            self._unsent = unsent
            if now >= self._write_before:
                if self._unsent_at - unsent < self._limits.write * self._limits.rate:
                    self._slots.counters.timed_out += 1
                    self._socket.abort()
                    return
                self._set_write_deadline()
        if now >= self._read_before:
            self._late(now)

    def _late(self, now: float) -> None:
        in_body = self._phase is _Phase.BODY and not self.cycle.response_complete
        fair = self._received >= self._limits.body * self._limits.rate
        if in_body and fair and now < self._begun + self._limits.request:
            self._set_body_deadline()
            return
        if self._half_closed and (
            self._out.written > self._written or self.cycle.response_complete
        ):  # an unread response has a deadline of its own
            self._set_answer_deadline()
            return
        self._slots.counters.timed_out += 1
        if self._phase is _Phase.HEAD and not self._held:
            self._out.close()
        elif self._phase is _Phase.HEAD:
            self._refuse(late("the head of the request did not arrive in time"))
        elif in_body and not self.cycle.response_started:
            self._refuse(late("the body of the request did not arrive in time"))
        else:
            self._socket.abort()

    def give_way(self) -> None:
        """Close at once: another connection needs the slot."""
        if self._held or self._phase is _Phase.BODY:
            refusal = busy(self._limits.connections)
            if self._cut_off():
                self._out.write(refusal.response)
        self._out.flush()
        if self._out.unsent:
            self._socket.abort()
        self._socket.close()

    def abort(self) -> None:
        """Close at once, without sending anything."""
        self._socket.abort()

    def _set_write_deadline(self) -> None:
        """Set the deadline for reading a part of the response."""
        self._unsent = self._unsent_at = self._out.unsent
        self._write_before = self._now() + self._limits.write

    def _set_body_deadline(self) -> None:
        """Set the deadline for a part of the body."""
        if self.cycle.response_complete:
            return
        self.since, self._received = self._now(), 0
        if self._stopped:
            self._read_before = NEVER
        else:
            before = self._begun + self._limits.request
            self._read_before = min(self.since + self._limits.body, before)

    def _set_answer_deadline(self) -> None:
        """Set the deadline for the application, since the client may be gone."""
        self._written = self._out.written
        self._read_before = self._now() + self._limits.half_closed

    def _stop_reading(self, stop: bool) -> None:
        """Stop or resume reading; while stopped, the client has no deadline."""
        self._stopped = stop
        if self._phase is _Phase.BODY:
            self._set_body_deadline()
        self._regulate()

    def _regulate(self) -> None:
        """Pause reading while the next request is buffered or the application does not consume the body."""
        held = bool(self._held) and self._phase is _Phase.ANSWER
        pause = self._phase is not _Phase.LINGER and (self._stopped or held)
        if pause is not self._paused and not self._half_closed:
            self._paused = pause
            if pause:
                self._socket.pause_reading()
            else:
                self._socket.resume_reading()
