"""A reader of protobuf fields without classes: for messages that are too large, too deep or damaged.

The daemon, which never imports the library's classes, reads some protobufs this way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

_VARINT: Final = 10  # bytes of the longest number
_LENGTH: Final = 2  # the wire type of fields with a length


class Field(NamedTuple):
    """One field: its number, and the offsets of its tag (`start`), of its content (`inside`) and of its end.

    `inside` is None for a number, which contains no other fields.
    """

    number: int
    start: int
    inside: int | None
    end: int


def fields(part: bytes | memoryview) -> Iterator[Field]:
    """The fields of a message, in order.  Raises ValueError if the bytes are not a message."""
    at, size = 0, len(part)
    while at < size:
        start = at
        key, at = _number(part, at)
        inside = None
        match key & 7:
            case 0:
                _, at = _number(part, at)
            case 1:
                at += 8
            case 2:
                length, inside = _number(part, at)
                at = inside + length
            case 5:
                at += 4
            case kind:
                raise ValueError(f"a field of wire type {kind}")
        if at > size:
            raise ValueError("a field that ends after its message")
        yield Field(key >> 3, start, inside, at)


def _number(part: bytes | memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(part[at : at + _VARINT]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, at + shift + 1
    raise ValueError("a number without an end")


def field(number: int, inside: bytes) -> bytes:
    """Encode a field with a length."""
    return _varint(number << 3 | _LENGTH) + _varint(len(inside)) + inside


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
