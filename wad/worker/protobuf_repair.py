"""Partial parsing of a protobuf that cannot be parsed as a whole: one that is nested too deeply, or damaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wad.lib.protobuf_wire import field, fields
from wad.worker.protobuf import DecodeError


def envelope(kind: Any, raw: bytes, keep: int) -> Any:
    """A message parsed without its nested messages, except the field `keep`.  Raises DecodeError."""
    known = kind.DESCRIPTOR.fields_by_number
    try:
        pieces = [
            raw[one.start : one.end]
            for one in fields(raw)
            if one.number == keep
            or ((found := known.get(one.number)) is not None and found.message_type is None)
        ]
    except ValueError as error:
        raise DecodeError(str(error)) from error
    return kind.FromString(b"".join(pieces))


def without_damaged(kind: Any, raw: bytes, depth: int) -> tuple[Any, int]:
    """A message parsed without the elements of repeated fields that cannot be parsed, and the number of these.

    Elements are looked for in nested fields, up to `depth` levels.  Raises DecodeError if something other than such
    an element prevents parsing.
    """
    try:
        rest, dropped = _trimmed(
            kind.DESCRIPTOR, raw, depth, kind.FromString, lambda inside: inside
        )
    except ValueError as error:
        raise DecodeError(str(error)) from error
    return kind.FromString(rest), dropped


def _trimmed(
    kind: Any,
    raw: bytes,
    depth: int,
    parse: Callable[[bytes], Any],
    around: Callable[[bytes], bytes],
) -> tuple[bytes, int]:
    """`around` puts bytes at their position in the whole, since a depth limit counts from the outermost message."""
    pieces: list[bytes] = []
    dropped = 0
    for number, start, inside, end in fields(raw):
        found = kind.fields_by_number.get(number)
        piece = raw[start:end]
        if found is not None and found.message_type is not None and inside is not None:
            nested = _nested(around, number)
            try:
                parse(around(piece))
            except DecodeError:
                try:
                    if depth == 0:
                        raise
                    inner = raw[inside:end]
                    part, less = _trimmed(found.message_type, inner, depth - 1, parse, nested)
                    piece, dropped = field(number, part), dropped + less
                except (DecodeError, ValueError):
                    if not found.is_repeated:
                        raise
                    dropped += 1
                    continue
        pieces.append(piece)
    rest = b"".join(pieces)
    parse(around(rest))
    return rest, dropped


def _nested(around: Callable[[bytes], bytes], number: int) -> Callable[[bytes], bytes]:
    return lambda inside: around(field(number, inside))
