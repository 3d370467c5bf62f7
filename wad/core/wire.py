"""The frames between two processes of wad, without I/O: four bytes of length (big-endian), then MessagePack.

    [0, id, method, params]    request
    [1, id, error, result]     response; error is nil or {code, message, hint}
    [2, method, params]        notice, without a response
    [3, id, item]              one item of a streamed reply; a response ends the stream

The shapes are those of MessagePack-RPC.  Both the control socket and a worker's socketpair carry them.  The length
is first, so that a frame that is too large is refused before any of it is stored.  On the control socket each side
begins with HELLO, which carries the version of this protocol: a wadctl and a daemon of different packages either work
together or report the mismatch.

The values of a frame are counted before it is decoded (`FrameLimits`): a byte of MessagePack may become 72 bytes of
Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import msgpack

from wad.core.decoding import decoding
from wad.core.errors import BadInput, InvalidData, TooLong, WadError

MAX_FRAME: Final = 4 << 20
"""Bytes of one frame, without its length."""
MAX_METHOD: Final = 100
"""Characters of a method's name."""
MAX_ERROR_TEXT: Final = 2000
"""Characters of a worker's reason, and of an error's text."""
FRAMES_PER_CALL: Final = 3
"""The largest number of small frames in one system call: few, so that both processes can work in parallel."""
PROTOCOL: Final = 1
"""The version; a change that an older peer would misread increments it."""
_LENGTH: Final = 4
_MAX_ID: Final = 2**63 - 1
_REQUEST: Final = b"\x94\x00"
"""How a request begins: a list of four, the first of which is 0."""


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """The limits of one frame: bytes, values (lists, maps, keys and everything in them), and nested lists."""

    size: int = MAX_FRAME
    values: int = 10_000
    depth: int = 32


REQUEST: Final = FrameLimits()
"""For a server: the limits of a client's or a worker's frame.  At most 0.8 MB of Python beside the texts themselves."""
UNTRUSTED: Final = FrameLimits(size=512 << 10)
"""For the server of an HTTP process, whose callers' bodies and heads are smaller."""
REPLY: Final = FrameLimits(values=1_000_000)
"""For a client of the daemon, whose responses are as long as the requested data."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request; its response carries the same id."""

    id: int
    method: str
    params: Any


@dataclass(frozen=True, slots=True)
class Response:
    """A response: an error, or a result.  Id 0 concerns the connection itself."""

    id: int
    error: WadError | None
    result: Any


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice, which has no response."""

    method: str
    params: Any


@dataclass(frozen=True, slots=True)
class StreamItem:
    """One item of a streamed reply."""

    id: int
    item: Any


Frame = Request | Response | Notice | StreamItem


def encode(frame: Frame) -> bytes:
    """The bytes of one frame."""
    match frame:
        case Request(ident, method, params):
            shape: list[Any] = [0, ident, method, params]
        case Response(ident, error, result):
            shape = [1, ident, error.to_wire() if error else None, result]
        case Notice(method, params):
            shape = [2, method, params]
        case StreamItem(ident, item):
            shape = [3, ident, item]
    data: bytes = msgpack.packb(shape)
    return len(data).to_bytes(_LENGTH, "big") + data


class EncodedCall:
    """A request with untrusted parameters: checked and encoded once, then sent with an id of each connection."""

    __slots__ = ("_rest", "method")

    def __init__(self, method: str, params: object) -> None:
        """Raises BadInput if the peer would refuse it: it would close the connection, which many callers share."""
        try:
            data = encode(Request(_MAX_ID, method, params))[_LENGTH:]
            _check(data, UNTRUSTED)
        except (OverflowError, ValueError, TypeError, RecursionError, InvalidData) as error:
            raise BadInput(f"invalid request: {error}") from error
        if len(data) > UNTRUSTED.size:
            raise TooLong(f"a request may have at most {UNTRUSTED.size} bytes")
        self.method = method
        self._rest = data[len(_REQUEST) + len(msgpack.packb(_MAX_ID)) :]

    def frame(self, ident: int) -> bytes:
        """The bytes of the request with this id."""
        data: bytes = _REQUEST + msgpack.packb(ident) + self._rest
        return len(data).to_bytes(_LENGTH, "big") + data


HELLO: Final = Notice("hello", [PROTOCOL])
"""The first frame of either side on the control socket."""


def check_hello(frame: Frame) -> None:
    """Raise BadInput unless this is a HELLO with our version."""
    match frame:
        case Notice("hello", [version, *_]) if type(version) is int:
            if version != PROTOCOL:
                raise BadInput(
                    f"the peer uses version {version} of the protocol, this process {PROTOCOL}",
                    hint="wad and wadctl belong to one package: restart the daemon after an upgrade",
                )
        case _:
            raise BadInput("the peer did not send its version of the protocol")


class Decoder:
    """A decoder from received bytes to frames.  Raises InvalidData for an invalid or too large frame.

    After an error it is unusable: the beginning of the next frame is unknown.
    """

    def __init__(self, limits: FrameLimits = REQUEST, *, counted: bool = True) -> None:
        """`counted`: whether values are counted; False for a trusted sender."""
        self._buffer = bytearray()
        self._limits = limits
        self._counted = counted

    @property
    def waiting(self) -> int:
        """Bytes of an incomplete frame in the buffer."""
        return len(self._buffer)

    @property
    def wanted(self) -> int:
        """Bytes of the whole frame that is incomplete, its length included; 0 if not known yet."""
        if len(self._buffer) < _LENGTH:
            return 0
        return _LENGTH + int.from_bytes(self._buffer[:_LENGTH], "big")

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now."""
        self._buffer += data
        while (end := self.wanted) > 0:
            if end - _LENGTH > self._limits.size:
                raise InvalidData(
                    f"not a frame, or one of {end - _LENGTH} bytes; the limit is {self._limits.size}"
                )
            if len(self._buffer) < end:
                return
            body = bytes(memoryview(self._buffer)[_LENGTH:end])
            del self._buffer[:end]  # copies nothing: a bytearray only moves its start
            yield _frame(_unpacked(body, self._limits if self._counted else None))


# --- counting -----------------------------------------------------------------------------------

_NUMBERS: Final = (4, 8, 1, 2, 4, 8, 1, 2, 4, 8)  # bytes of 0xca ... 0xd3
_EXTENSIONS: Final = frozenset((*range(0xC7, 0xCA), *range(0xD4, 0xD9)))


def _scalar(head: int) -> int:
    """Bytes of a value with this first byte; 0 if more bytes decide."""
    if head < 0x80 or head >= 0xE0 or head in (0xC0, 0xC2, 0xC3):
        return 1
    if 0xA0 <= head < 0xC0:
        return 1 + head - 0xA0
    return 1 + _NUMBERS[head - 0xCA] if 0xCA <= head < 0xD4 else 0


_SCALARS: Final = tuple(map(_scalar, range(256)))
_TEXTS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Texts and bytes whose length follows, and the number of bytes of that length."""
_LISTS: Final = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Lists and maps whose length follows: the bytes of that length, and the values per element."""


def _check(body: bytes, limits: FrameLimits) -> None:
    """Raise InvalidData if a body exceeds the limits, which also bound the work; nothing is built."""
    at, found, pending = 0, 0, 1
    outer: list[int] = []
    while True:
        while not pending:
            if not outer:
                return  # the decoder refuses anything that follows
            pending = outer.pop()
        if at >= len(body):
            raise InvalidData("a frame is cut short")
        head = body[at]
        pending -= 1
        found += 1
        if step := _SCALARS[head]:
            at += step
        elif (width := _TEXTS.get(head)) is not None:
            at += 1 + width + int.from_bytes(body[at + 1 : at + 1 + width], "big")
        else:
            at, inside = _opened(body, at, head)
            if inside > limits.values - found:
                raise InvalidData(f"a frame has more than {limits.values} values")
            if len(outer) >= limits.depth:
                raise InvalidData(f"a frame is nested deeper than {limits.depth} levels")
            outer.append(pending)
            pending = inside
        if found > limits.values:
            raise InvalidData(f"a frame has more than {limits.values} values")


def _opened(body: bytes, at: int, head: int) -> tuple[int, int]:
    """The offset of the first value in a list or a map, and the number of its values."""
    if 0x80 <= head < 0x90:
        return at + 1, 2 * (head - 0x80)
    if 0x90 <= head < 0xA0:
        return at + 1, head - 0x90
    if head in _LISTS:
        width, each = _LISTS[head]
        return at + 1 + width, each * int.from_bytes(body[at + 1 : at + 1 + width], "big")
    raise InvalidData(
        "a frame contains a MessagePack extension" if head in _EXTENSIONS else "not MessagePack"
    )


def _unpacked(body: bytes, limits: FrameLimits | None) -> object:
    with decoding("a frame"):
        if limits is not None:
            _check(body, limits)
        return msgpack.unpackb(body, strict_map_key=True)


# --- shapes -------------------------------------------------------------------------------------


def _frame(shape: object) -> Frame:
    match shape:
        case [0, ident, str(method), params] if _is_id(ident) and 0 < len(method) <= MAX_METHOD:
            return Request(ident, method, params)
        case [1, ident, None, result] if _is_id(ident, least=0):
            return Response(ident, None, result)
        case [1, ident, dict(error), _] if _is_id(ident, least=0):
            return Response(ident, _error(error), None)
        case [2, str(method), params] if 0 < len(method) <= MAX_METHOD:
            return Notice(method, params)
        case [3, ident, item] if _is_id(ident):
            return StreamItem(ident, item)
    raise InvalidData("not a frame: unknown shape")


def _is_id(value: object, least: int = 1) -> TypeGuard[int]:
    return type(value) is int and least <= value <= _MAX_ID  # True is an int to Python


def _error(wire: dict[Any, Any]) -> WadError:
    texts = {name: wire.get(name, "") for name in ("code", "message", "hint")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise InvalidData("not a frame: an error without texts")
    more = {name: wire[name] for name in ("status", "details") if name in wire}
    return WadError.from_wire(
        {**{name: text[:MAX_ERROR_TEXT] for name, text in texts.items()}, **more}
    )
