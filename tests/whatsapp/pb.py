"""Just enough protobuf for the server: a message is a dict from field number to value."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

Message = Mapping[
    int, Any
]  # int, float (a double), bytes, str, a nested Message, a list of these, or None (left out)
Fields = Mapping[int, int | bytes]

_FIXED = {1: 8, 5: 4}  # wire type -> size


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(message: Message) -> bytes:
    """Encode a message; nested mappings become embedded messages."""
    out = bytearray()
    for field, given in message.items():
        for value in given if isinstance(given, list) else (given,):
            if value is None:
                continue
            if isinstance(value, int):
                out += _varint(field << 3)
                out += _varint(value)
                continue
            if isinstance(value, float):
                out += _varint(field << 3 | 1)
                out += struct.pack("<d", value)
                continue
            if isinstance(value, Mapping):
                content = encode(value)
            else:
                # Any bytes, as in the stanzas (wire.as_bytes).
                content = (
                    value.encode(errors="surrogateescape") if isinstance(value, str) else value
                )
            out += _varint(field << 3 | 2)
            out += _varint(len(content))
            out += content
    return bytes(out)


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Every (field number, value) in order.  Raises ValueError for invalid protobuf."""
    at, end = 0, len(message)

    def varint() -> int:
        nonlocal at
        result = shift = 0
        while at < end:
            byte = message[at]
            at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result
            shift += 7
        raise ValueError("a protobuf message ends inside of a number")

    while at < end:
        key = varint()
        wire_type = key & 7
        if wire_type == 0:
            yield key >> 3, varint()
            continue
        if wire_type not in (1, 2, 5):
            raise ValueError(f"field {key >> 3} has the unknown wire type {wire_type}")
        size = _FIXED.get(wire_type) or varint()
        if size > end - at:
            raise ValueError(f"a protobuf message ends inside of field {key >> 3}")
        yield key >> 3, message[at : at + size]
        at += size


def decode(message: bytes) -> dict[int, int | bytes]:
    """Decode to a dict; the last value of a repeated field is kept."""
    return dict(fields(message))


def data(message: Fields, field: int) -> bytes:
    """A required bytes, string or message field.  Raises ValueError."""
    match message.get(field):
        case bytes(value):
            return value
    raise ValueError(f"field {field} is missing, or a number")


def number(message: Fields, field: int) -> int:
    """A varint field, 0 if absent.  Raises ValueError."""
    match message.get(field, 0):
        case int(value):
            return value
    raise ValueError(f"field {field} is not a number")
