"""A blocking client of the control socket.

One connection, one request at a time; a stream needs a client of its own.  Every failure is a WadError with a hint: no
daemon, no permission, no reply in time.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from wad.core.errors import BadInput, DaemonDown, Denied, TimedOut, WadError
from wad.core.wire import (
    HELLO,
    REPLY,
    Decoder,
    Frame,
    Request,
    Response,
    StreamItem,
    check_hello,
    encode,
)
from wadctl.replies import decoded

T = TypeVar("T")

_CHUNK: Final = 64 << 10
_RETRY_S: Final = 0.05  # seconds between attempts to connect
_DOWN_CHECKS: Final = (
    1.0,
    3.0,
)  # seconds without a byte before the first check of why the daemon is down, and before each later one


class Client:
    """A client of the daemon's socket at `path`; connects with the first request.  `timeout` is in seconds.

    `why_down` is called while no reply arrives: the error that it returns is raised at once.
    """

    def __init__(
        self,
        path: str,
        timeout: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        why_down: Callable[[str], WadError | None] = lambda _: None,
    ) -> None:
        self.path = path
        self._timeout = timeout
        self._clock = clock
        self._why_down = why_down
        self._socket: socket.socket | None = None
        self._decoder = Decoder(REPLY)
        self._frames: list[Frame] = []
        self._greeted = False
        self._last_id = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the daemon cancels the requests that can be cancelled."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def call(self, method: str, params: dict[str, Any] | None = None, *, wait: float = 0) -> Any:
        """Send a request and return the reply, which may take `wait` seconds longer than usual.  Raises WadError."""
        ident = self._send(method, params)
        deadline = self._clock() + self._timeout + wait
        while True:
            frame = self._receive(deadline)
            if frame is None:
                self.close()
                raise TimedOut(
                    f"the daemon did not reply to `{method}` within {self._timeout + wait:g} s",
                    hint="the request may or may not have been done; wadctl --timeout SECONDS waits longer",
                )
            if isinstance(frame, Response) and frame.id == ident:
                return _result(frame)

    def fetch(
        self, kind: type[T], method: str, params: dict[str, Any] | None = None, *, wait: float = 0
    ) -> T:
        """Send a request, as `call` does, and return the reply as the type that its operation declares."""
        return decoded(kind, self.call(method, params, wait=wait))

    def stream(self, method: str, params: dict[str, Any] | None = None) -> Stream:
        """Send a request whose reply is streamed.  The client can send nothing else until it is closed."""
        return Stream(self, self._send(method, params))

    def next_of(self, ident: int, deadline: float | None) -> StreamItem | Response | None:
        """The next frame of a request; None when the deadline passes first."""
        while True:
            frame = self._receive(deadline)
            if frame is None or (isinstance(frame, StreamItem | Response) and frame.id == ident):
                return frame

    def deadline(self, seconds: float | None) -> float | None:
        """The time `seconds` from now on the client's clock; None for no deadline."""
        return None if seconds is None else self._clock() + seconds

    # --- bytes ----------------------------------------------------------------------------------

    def _send(self, method: str, params: dict[str, Any] | None) -> int:
        data = b""
        if self._socket is None:
            self._socket = self._connect()
            self._decoder, self._frames, self._greeted = Decoder(REPLY), [], False
            data = encode(HELLO)
        self._last_id += 1
        try:
            self._socket.settimeout(self._timeout)
            self._socket.sendall(data + encode(Request(self._last_id, method, params or {})))
        except TimeoutError as error:
            raise TimedOut("the daemon does not read requests") from error
        except ConnectionError:
            pass  # refused: the frame with the reason can still be read
        return self._last_id

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self._timeout)
            self._reach(sock)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise self._unreachable(error) from error
            raise
        return sock

    def _unreachable(self, error: OSError) -> WadError:
        denied = isinstance(error, PermissionError)
        known = None if denied else self._why_down(self.path)
        return known or _unreachable(self.path, error)

    def _reach(self, sock: socket.socket) -> None:
        """Connect.  While the daemon's accept queue is full, Linux refuses at once: retry until the timeout."""
        deadline = self._clock() + self._timeout
        while True:
            try:
                sock.connect(self.path)
            except BlockingIOError:
                if self._clock() > deadline:
                    raise
                time.sleep(_RETRY_S)
            else:
                return

    def _receive(self, deadline: float | None) -> Frame | None:
        """The next frame; None when the deadline passes.  Raises the daemon's error about the connection itself."""
        while not self._frames:
            data = self._read(deadline)
            if data is None:
                return None
            self._frames.extend(self._decoder.feed(data))
            if not self._greeted and self._frames:
                check_hello(self._frames.pop(0))
                self._greeted = True
        frame = self._frames.pop(0)
        if isinstance(frame, Response) and frame.id == 0 and frame.error is not None:
            self.close()
            raise frame.error
        return frame

    def _read(self, deadline: float | None) -> bytes | None:
        if self._socket is None:
            raise DaemonDown("not connected")
        first, later = _DOWN_CHECKS
        while True:
            left = None if deadline is None else deadline - self._clock()
            if left is not None and left <= 0:
                return None
            # After HELLO the daemon is known to run, however long the reply takes.
            timeout = left if self._greeted else min(first, first if left is None else left)
            try:
                self._socket.settimeout(timeout)
                data = self._socket.recv(_CHUNK)
            except TimeoutError:
                self._raise_why_down()
                first = later
                continue
            except ConnectionError:
                data = b""
            break
        if not data:
            self._raise_why_down()
            self.close()
            raise DaemonDown(
                "the daemon ended before it answered; what was asked may or may not have been done",
                hint="systemctl status wad, journalctl -u wad",
            )
        return data

    def _raise_why_down(self) -> None:
        """Raise why the daemon is down, where it has not sent HELLO and the reason is known."""
        if not self._greeted and (known := self._why_down(self.path)) is not None:
            self.close()
            raise known


class Stream:
    """The items of a streamed reply."""

    def __init__(self, client: Client, ident: int) -> None:
        self._client = client
        self._ident = ident
        self.ended = False

    def __iter__(self) -> Iterator[Any]:
        while (item := self.next(None)) is not None:
            yield item

    def next(self, seconds: float | None) -> Any:
        """The next item; None at the end (`ended`), or when none arrived within `seconds`.  Raises WadError."""
        if self.ended:
            return None
        frame = self._client.next_of(self._ident, self._client.deadline(seconds))
        match frame:
            case StreamItem(_, item):
                return item
            case Response():
                self.ended = True
                return _result(frame)
        return None


def _result(response: Response) -> Any:
    if response.error is not None:
        raise response.error
    return response.result


def _unreachable(path: str, error: OSError) -> WadError:
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            return DaemonDown(
                f"no daemon answers on {path}",
                hint="systemctl status wad, journalctl -u wad; another socket: --socket, WAD_SOCKET or WAD_STATE_DIR",
            )
        case PermissionError():
            return Denied(
                f"permission denied: {path}",
                hint=f"adduser {os.environ.get('USER', '$USER')} wad, then log in again; or use sudo",
            )
        case TimeoutError() | BlockingIOError():
            return TimedOut(f"the daemon on {path} accepts no connection", hint="journalctl -u wad")
    return BadInput(f"cannot connect to {path}: {error.strerror or error}")
