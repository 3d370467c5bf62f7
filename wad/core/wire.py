"""Frames between two processes of wad, without I/O: the shapes of MessagePack-RPC.

    [0, id, method, params]    request
    [1, id, error, result]     response; error is nil or {code, message, hint}
    [2, method, params]        notice, nobody answers
    [3, id, item]              one item of a streamed reply; a response ends the stream

Both the control socket and a worker's socketpair carry them.  The size of a frame is bounded on the reading side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from wad.core.errors import BadInput, WadError

MAX_FRAME: Final = 4 << 20


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
    return data


class Decoder:
    """Turns received bytes into frames.  Raises BadInput for anything that is no frame, or too large."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._unpacker = msgpack.Unpacker(max_buffer_size=max_frame, strict_map_key=True)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now."""
        try:
            self._unpacker.feed(data)
            for shape in self._unpacker:
                yield _frame(shape)
        except BadInput:
            raise
        except Exception as error:  # msgpack raises ValueError, BufferFull and a family of its own
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
