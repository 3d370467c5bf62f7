"""Random protobufs, made from the descriptors: whatever a library could hand over.

Required fields are there, as the library cannot hand over an event without; of the others some.  Texts are often what
a parser waits for (addresses, empty), and often anything; the library's addresses are mostly in order, so that what
stands behind them is reached.
"""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st

_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_TEXTS = st.sampled_from(
    [
        "",
        "A",
        "15550000002@s.whatsapp.net",
        "9@lid",
        "1-2@g.us",
        "status@broadcast",
        "s.whatsapp.net",
        "lid",
        "@",
    ]
) | st.text(max_size=8)
_NOON = 1_769_000_000
_JID = {
    "User": st.sampled_from(["15550000002", "9", "1-2", "status", "15550000002", "", "no user"]),
    "Server": st.sampled_from(
        ["s.whatsapp.net", "lid", "g.us", "broadcast", "newsletter", "lid", "nowhere", ""]
    ),
    "Device": st.sampled_from([0, 0, 3, 2**32 - 1]),
    "IsEmpty": st.sampled_from([False, False, False, True]),
}  # fields of neonize.JID


@st.composite
def protobufs(
    draw: st.DrawFn,
    kind: Any,
    *,
    always: tuple[str, ...] = (),
    others: bool = True,
    depth: int = 5,
) -> Any:
    """An object of this class; `always`: optional fields that are always there, `others`: besides them some more."""
    found = kind()
    _fill(draw, found, always, depth, others=others)
    return found


def _fill(
    draw: st.DrawFn, found: Any, always: tuple[str, ...], depth: int, *, others: bool = True
) -> None:
    fields = list(found.DESCRIPTOR.fields)
    optional = [field.name for field in fields if not field.is_required]
    some = (
        draw(st.lists(st.sampled_from(optional), max_size=8))
        if optional and others and depth > 0
        else []
    )
    for field in fields:
        if field.is_required or field.name in some or field.name in always:
            _set(draw, found, field, depth - 1)


def _set(draw: st.DrawFn, found: Any, field: Any, depth: int) -> None:
    is_message = field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
    if field.is_repeated and is_message and not field.message_type.GetOptions().map_entry:
        for _ in range(draw(st.integers(1, 2))):
            _fill(draw, getattr(found, field.name).add(), (), depth)
    elif is_message and not field.is_repeated:
        part = getattr(found, field.name)
        part.SetInParent()
        _fill(draw, part, (), depth)
    elif field.is_repeated and not is_message:
        getattr(found, field.name).append(draw(_value(field)))
    elif not is_message:
        setattr(found, field.name, draw(_value(field)))


def _value(field: Any) -> st.SearchStrategy[Any]:
    if field.containing_type.full_name == "neonize.JID" and field.name in _JID:
        return _JID[field.name]
    if field.cpp_type in _BITS:
        low, high = _BITS[field.cpp_type]
        return st.sampled_from([0, 1, _NOON]) | st.integers(low, high)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_ENUM:
            return st.sampled_from([value.number for value in field.enum_type.values])
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return st.sampled_from([0.5, math.nan, math.inf]) | st.floats(width=32)
    return st.binary(max_size=8) if field.type == FieldDescriptor.TYPE_BYTES else _TEXTS
