"""Finds the end of a request body: after Content-Length bytes, or after the last chunk.

The bytes after it are the next request, which the parser gets only when this one is answered.  Lines between chunks are
bounded, and trailers are dropped, since the parser would add them to the headers of a running request.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from wad.http.server.head import invalid, long_body
from wad.http.server.limits import HttpLimits

_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,12})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n")
_LINE: Final = 1 << 10  # bytes of a chunk's line, and of all trailers together
_OVERHEAD: Final = 16 << 10  # bytes of lines beyond a normal share of the chunks and their data


class Body(Protocol):
    """A parser of one request body."""

    @property
    def done(self) -> bool:
        """Whether the body is complete."""
        ...

    @property
    def short(self) -> bool:
        """Whether the number of remaining bytes is known and small."""
        ...

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Split `data` into bytes of the body, for the parser, and the rest.  Raises RefusedRequest."""
        ...


class FixedLength:
    """A body with a Content-Length."""

    def __init__(self, length: int, limits: HttpLimits) -> None:
        self._left = length
        self._short = limits.rest_bytes

    @property
    def done(self) -> bool:
        """Whether the body is complete."""
        return not self._left

    @property
    def short(self) -> bool:
        """Whether few bytes remain."""
        return self._left <= self._short

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Split `data` after the last byte of the body."""
        left = self._left
        if len(data) <= left:
            self._left = left - len(data)
            return data, b""
        self._left = 0
        return data[:left], data[left:]


class Chunked:
    """A chunked body."""

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._line = b""  # the beginning of an incomplete line
        self._left = 0  # remaining bytes of this chunk, with its end of line
        self._total = 0
        self._overhead = 0
        self._trailers = -1  # bytes of trailers; below zero: before the last chunk
        self.done = False

    @property
    def short(self) -> bool:
        """Whether the body is complete: the number of remaining bytes is not known before."""
        return self.done

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Split `data` after the last line of the body; trailers are removed.  Raises RefusedRequest."""
        pieces: list[bytes] = []
        at = 0
        while at < len(data) and not self.done:
            if self._left:
                end = min(len(data), at + self._left)
                self._left -= end - at
                pieces.append(data[at:end])
                at = end
                continue
            end = data.find(b"\n", at) + 1 or len(data)
            self._line += data[at:end]
            at = end
            if len(self._line) > _LINE:
                raise invalid("a line between chunks is too long")
            if self._line.endswith(b"\n"):
                line, self._line = self._line, b""
                pieces.append(self._read(line))
        return b"".join(pieces), data[at:]

    def _read(self, line: bytes) -> bytes:
        """Check a line and return it for the parser, or nothing for a trailer."""
        if self._trailers >= 0:
            return self._trailer(line)
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise invalid("a chunk must begin with its size")
        size = int(found[1], 16)
        self._total += size
        if self._total > self._limits.body_bytes:
            raise long_body(self._limits)
        self._overhead = max(0, self._overhead + len(line) - 16 - 2 * size)
        if self._overhead > _OVERHEAD:
            raise invalid("the chunks have more extensions than data")
        if size:
            self._left = size + 2
        else:
            self._trailers = 0
        return line

    def _trailer(self, line: bytes) -> bytes:
        if line == b"\r\n":
            self.done = True
            return line
        self._trailers += len(line)
        if self._trailers > _LINE:
            raise invalid("the trailers of the body are too long")
        if not _TRAILER.fullmatch(line):
            raise invalid("a trailer of the body is invalid")
        return b""
