"""Random protobufs as they arrive over the wire, made from the descriptors: anything that a library could hand over.

They are bytes, not objects, since objects refuse what the wire carries: a `string` of any bytes, a required field that
is missing, one that occurs twice, numbers that are in no enum, unknown fields.  Texts are often what a parser waits
for (addresses, empty), and often anything; the library's addresses are mostly in order, so that what stands behind them
is reached.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import assume
from hypothesis import strategies as st

_VARINTS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
    FieldDescriptor.CPPTYPE_BOOL,
    FieldDescriptor.CPPTYPE_ENUM,
}
_FIXED = {
    FieldDescriptor.TYPE_FIXED32: (5, "<I"),
    FieldDescriptor.TYPE_SFIXED32: (5, "<i"),
    FieldDescriptor.TYPE_FIXED64: (1, "<Q"),
    FieldDescriptor.TYPE_SFIXED64: (1, "<q"),
    FieldDescriptor.TYPE_FLOAT: (5, "<f"),
    FieldDescriptor.TYPE_DOUBLE: (1, "<d"),
}
NO_TEXTS = [
    b"caf\xc3",
    b"\xff",
    b"a\0b",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae<",
    b"\x1b[2J",
    b"\xc0\x80",
]
"""What a `string` may hold and a person cannot read: cut, NUL, a surrogate, direction marks, escapes, overlong."""
_TEXTS = (
    st.sampled_from(
        [
            b"", b"A", b"15550000002@s.whatsapp.net", b"9@lid", b"1-2@g.us", b"status@broadcast", b"s.whatsapp.net",
            b"lid", b"@", b"15550000002:3@s.whatsapp.net", "9@lıd".encode(), "\u212a@lid".encode(), b"x" * 300,
        ]
    )
    | st.sampled_from(NO_TEXTS)
    | st.text(max_size=8).map(str.encode)
    | st.binary(max_size=8)
)  # fmt: skip
_NOON = 1_769_000_000
_NUMBERS = st.sampled_from(
    [0, 1, 2, 3, _NOON, _NOON * 1000, 253_402_300_799, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1]
) | st.integers(0, 2**64 - 1)
_JID: dict[str, st.SearchStrategy[Any]] = {
    "User": st.sampled_from([b"15550000002", b"9", b"1-2", b"status", b"15550000002", b"9", b""])
    | st.sampled_from(NO_TEXTS),
    "Server": st.sampled_from(
        [
            b"s.whatsapp.net",
            b"lid",
            b"g.us",
            b"broadcast",
            b"newsletter",
            b"lid",
            b"lid",
            b"nowhere",
        ]
    )
    | st.sampled_from([b"", b"\xff"]),
    "Device": st.sampled_from([0, 0, 0, 3, 2**32 - 1]),
    "IsEmpty": st.sampled_from([0, 0, 0, 0, 1]),
}  # fields of neonize.JID


@st.composite
def wire_bytes(
    draw: st.DrawFn,
    kind: Any,
    *,
    always: tuple[str, ...] = (),
    others: bool = True,
    depth: int = 5,
) -> bytes:
    """Bytes of this class; `always`: optional fields that are always there, `others`: besides them some more."""
    return _message(draw, kind.DESCRIPTOR, always, depth, others=others)


@st.composite
def protobufs(draw: st.DrawFn, /, kind: Any, **options: Any) -> Any:
    """An object that was parsed from such bytes; the options are those of `wire_bytes`."""
    try:
        return kind.FromString(draw(wire_bytes(kind, **options)))
    except DecodeError:
        assume(False)


def nested(inside: bytes, path: tuple[int, ...], times: int) -> bytes:
    """Bytes put as often into fields of these numbers, one in the other: wrappers of a message."""
    for _ in range(times):
        for number in reversed(path):
            inside = field(number, inside)
    return inside


def field(number: int, value: int | bytes) -> bytes:
    """One field: a varint, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _message(
    draw: st.DrawFn, descriptor: Any, always: tuple[str, ...], depth: int, *, others: bool = True
) -> bytes:
    fields = list(descriptor.fields)
    optional = [one.name for one in fields if not one.is_required]
    some = (
        draw(st.lists(st.sampled_from(optional), max_size=8))
        if optional and others and depth > 0
        else []
    )
    found = b""
    for one in fields:
        if one.name in always or one.name in some or (one.is_required and draw(_MOSTLY)):
            for _ in range(1 if one.name in always else draw(_TIMES)):
                found += _field(draw, one, depth - 1)
    if draw(_SELDOM):
        found += field(9999, draw(st.binary(max_size=3)))
    return found


_MOSTLY = st.integers(0, 19).map(bool)
_SELDOM = st.integers(0, 19).map(lambda number: number == 7)
_TIMES = st.sampled_from([1, 1, 1, 1, 2])


def _field(draw: st.DrawFn, one: Any, depth: int) -> bytes:
    if one.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return field(one.number, _message(draw, one.message_type, (), depth))
    if one.type in _FIXED:
        wire_type, shape = _FIXED[one.type]
        if shape in ("<f", "<d"):
            value: Any = draw(st.sampled_from([0.5, math.nan, math.inf, -91.0, 1e30]))
        else:
            value = draw(st.integers(0, 127))
        return _varint(one.number << 3 | wire_type) + struct.pack(shape, value)
    return field(one.number, draw(_value(one)))


def _value(one: Any) -> st.SearchStrategy[Any]:
    if one.containing_type.full_name == "neonize.JID" and one.name in _JID:
        return _JID[one.name]
    if one.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.integers(0, 1)
    if one.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        known = st.sampled_from([value.number & (2**64 - 1) for value in one.enum_type.values])
        return known | known | known | st.just(4321)
    if one.cpp_type in _VARINTS:
        return _NUMBERS
    return st.binary(max_size=8) if one.type == FieldDescriptor.TYPE_BYTES else _TEXTS
