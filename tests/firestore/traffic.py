"""What a client asks of Firestore, counted in the bytes that pass the tests' proxy: documents read and written.

As Google bills them: each document that is found or missed, at least one for a query or a listener; each write of a
commit.  Only as much of HTTP/2 and HPACK is read as gRPC's client uses.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from google.cloud.firestore_v1.types import (
    CommitRequest,
    ListenResponse,
    RunQueryResponse,
)

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _CONTINUATION = 0, 1, 9
_PADDED, _PRIORITY = 0x8, 0x20
_PATH: Final = b":path"
_STATIC: Final = 61  # entries of HPACK's static table; 4 and 5 are paths
_SIZE: Final = 4096  # octets of the dynamic table, before anything is forgotten


@dataclass
class _Headers:
    """The headers of one direction; a table of what was said before."""

    table: list[tuple[bytes, bytes]] = field(default_factory=list)

    def path(self, block: bytes) -> str:
        """The path in a block of headers; empty where there is none."""
        found, at = b"", 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 7)
                name, value = self._entry(index)
            elif first & 0xE0 == 0x20:
                _, at = _integer(block, at, 5)
                continue
            else:
                keep = bool(first & 0x40)
                index, at = _integer(block, at, 6 if keep else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                if keep:
                    self.table.insert(0, (name, value))
                    assert sum(32 + len(n) + len(v) for n, v in self.table) < _SIZE
            if name == _PATH:
                found = value
        return found.decode()

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if index > _STATIC:
            return self.table[index - _STATIC - 1]
        return (_PATH if index in (4, 5) else b"?", b"")


def _integer(data: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value = data[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        value += (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    coded = bool(data[at] & 0x80)
    length, at = _integer(data, at, 7)
    # gRPC's client codes nothing of what we look for.
    return (b"?" if coded else data[at : at + length]), at + length


@dataclass
class _Way:
    """One direction of one connection."""

    left: bytes = b""
    headers: _Headers = field(default_factory=_Headers)
    begun: bool = False
    messages: dict[int, bytes] = field(default_factory=dict)

    def frames(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and content of each frame that is whole."""
        self.left += data
        if not self.begun and self.left.startswith(_PREFACE):
            self.left = self.left[len(_PREFACE) :]
        self.begun = True
        while len(self.left) >= 9:
            length = int.from_bytes(self.left[:3], "big")
            if len(self.left) < 9 + length:
                return
            kind, flags = self.left[3], self.left[4]
            stream = int.from_bytes(self.left[5:9], "big") & 0x7FFFFFFF
            content, self.left = self.left[9 : 9 + length], self.left[9 + length :]
            yield kind, flags, stream, content

    def whole(self, stream: int, data: bytes) -> Iterator[bytes]:
        """The messages of gRPC that are whole now."""
        waiting = self.messages.get(stream, b"") + data
        while len(waiting) >= 5:
            length = int.from_bytes(waiting[1:5], "big")
            if len(waiting) < 5 + length:
                break
            yield waiting[5 : 5 + length]
            waiting = waiting[5 + length :]
        self.messages[stream] = waiting


class Traffic:
    """Counts; a proxy gives it every piece that passes."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()
        self.writes = 0
        self._ways: dict[tuple[int, bool], _Way] = {}
        self._paths: dict[tuple[int, int], str] = {}
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self.calls.clear()
            self.reads.clear()
            self.writes = 0

    def __call__(self, connection: int, answers: bool, data: bytes) -> None:
        """A piece of one connection, from the client or to it."""
        with self._lock:
            way = self._ways.setdefault((connection, answers), _Way())
            for kind, flags, stream, content in way.frames(data):
                assert kind != _CONTINUATION
                if kind == _HEADERS and not answers:
                    self._begin(connection, stream, way.headers.path(_unpadded(flags, content)))
                elif kind == _DATA:
                    method = self._paths.get((connection, stream), "")
                    for message in way.whole(stream, _unpadded(flags, content)):
                        self._count(method, answers, message)

    def _begin(self, connection: int, stream: int, path: str) -> None:
        method = path.rpartition("/")[2]
        if not method:
            return
        self._paths[connection, stream] = method
        self.calls[method] += 1
        if method in ("RunQuery", "Listen"):
            self.reads[method] += 1

    def _count(self, method: str, answers: bool, message: bytes) -> None:
        if method == "Commit" and not answers:
            self.writes += len(_parsed(CommitRequest, message).writes)
        elif method == "BatchGetDocuments" and answers:
            self.reads[method] += 1
        elif method == "RunQuery" and answers:
            self.reads[method] += "document" in _parsed(RunQueryResponse, message)
        elif method == "Listen" and answers:
            self.reads[method] += "document_change" in _parsed(ListenResponse, message)


def _parsed(kind: Any, message: bytes) -> Any:
    return kind.deserialize(message)


def _unpadded(flags: int, content: bytes) -> bytes:
    if flags & _PADDED:
        content = content[1 : len(content) - content[0]]
    return content[5:] if flags & _PRIORITY else content
