"""Just enough protobuf for the server: a message is a dict from field number to value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Value = int | bytes | str
Message = Mapping[int, Any]  # Value, a list of Values, a nested Message, or None (left out)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(message: Message) -> bytes:
    """Encode a message; nested mappings become embedded messages."""
    out = b""
    for field, given in message.items():
        for value in given if isinstance(given, list) else [given]:
            if value is None:
                continue
            if isinstance(value, int):
                out += _varint(field << 3) + _varint(value)
                continue
            if isinstance(value, Mapping):
                data = encode(value)
            else:
                data = value.encode() if isinstance(value, str) else bytes(value)
            out += _varint(field << 3 | 2) + _varint(len(data)) + data
    return out


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Every (field number, value) in order."""
    at = 0

    def varint() -> int:
        nonlocal at
        result = shift = 0
        while True:
            byte = message[at]
            at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result
            shift += 7

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or varint()
            yield key >> 3, message[at : at + size]
            at += size


def decode(message: bytes) -> dict[int, int | bytes]:
    """Decode to a dict; of a repeated field the last value is kept."""
    return dict(fields(message))


def data(message: Mapping[int, int | bytes], field: int) -> bytes:
    """A bytes, string or message field that must be there."""
    value = message[field]
    if not isinstance(value, bytes):
        raise TypeError(f"field {field} is not length-delimited")
    return value


def number(message: Mapping[int, int | bytes], field: int) -> int:
    """A varint field, 0 if absent."""
    value = message.get(field, 0)
    if not isinstance(value, int):
        raise TypeError(f"field {field} is not a varint")
    return value
