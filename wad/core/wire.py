"""Frames between two processes of wad, without I/O: four bytes of length (big-endian), then MessagePack.

    [0, id, method, params]    request
    [1, id, error, result]     response; error is nil or {code, message, hint}
    [2, method, params]        notice, nobody answers
    [3, id, item]              one item of a streamed reply; a response ends the stream

The shapes are those of MessagePack-RPC.  Both the control socket and a worker's socketpair carry them.  The length
comes first, so that what is too large is refused before any of it is kept.  On the control socket each side begins
with HELLO, which carries the version of this protocol: a wadctl and a daemon of different packages understand each
other, or say that they do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from wad.core.errors import BadInput, WadError

MAX_FRAME: Final = 4 << 20
"""Bytes of one frame, without its length."""
PROTOCOL: Final = 1
"""The version; a change that an older side would misread makes it greater."""
_LENGTH: Final = 4


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks; the answer must carry the same id."""

    id: int
    method: str
    params: Any


@dataclass(frozen=True, slots=True)
class Response:
    """The answer: an error, or a result."""

    id: int
    error: WadError | None
    result: Any


@dataclass(frozen=True, slots=True)
class Notice:
    """Something happened."""

    method: str
    params: Any


@dataclass(frozen=True, slots=True)
class Item:
    """A part of a streamed reply."""

    id: int
    item: Any


Frame = Request | Response | Notice | Item


def encode(frame: Frame) -> bytes:
    """The bytes of one frame."""
    match frame:
        case Request(ident, method, params):
            shape: list[Any] = [0, ident, method, params]
        case Response(ident, error, result):
            shape = [1, ident, error.to_wire() if error else None, result]
        case Notice(method, params):
            shape = [2, method, params]
        case Item(ident, item):
            shape = [3, ident, item]
    data: bytes = msgpack.packb(shape)
    return len(data).to_bytes(_LENGTH, "big") + data


HELLO: Final = Notice("hello", [PROTOCOL])
"""The first frame of either side on the control socket."""


def check_hello(frame: Frame) -> None:
    """Raise BadInput unless this is the HELLO of a side that speaks our version."""
    match frame:
        case Notice("hello", [int(version), *_]):
            if version != PROTOCOL:
                raise BadInput(
                    f"the other side speaks version {version} of the protocol, this one {PROTOCOL}",
                    hint="wad and wadctl belong to one package: restart the daemon after an upgrade",
                )
        case _:
            raise BadInput("the other side does not say which version of the protocol it speaks")


class Decoder:
    """Turns received bytes into frames.  Raises BadInput for anything that is no frame, or too large."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._max_frame = max_frame

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH:
            length = int.from_bytes(self._buffer[:_LENGTH], "big")
            if length > self._max_frame:
                raise BadInput(
                    f"not a frame, or one of {length} bytes; {self._max_frame} are taken"
                )
            end = _LENGTH + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH:end])
            del self._buffer[:end]
            yield _frame(_unpacked(body))


def _unpacked(body: bytes) -> object:
    try:
        return msgpack.unpackb(body, strict_map_key=True)
    except Exception as error:  # msgpack raises ValueError and a family of its own
        raise BadInput(f"not a frame: {type(error).__name__}: {error}") from error


def _frame(shape: object) -> Frame:
    match shape:
        case [0, int(ident), str(method), params]:
            return Request(ident, method, params)
        case [1, int(ident), None, result]:
            return Response(ident, None, result)
        case [1, int(ident), error, _]:
            return Response(ident, WadError.from_wire(error), None)
        case [2, str(method), params]:
            return Notice(method, params)
        case [3, int(ident), item]:
            return Item(ident, item)
    raise BadInput("not a frame: none of the known shapes")
