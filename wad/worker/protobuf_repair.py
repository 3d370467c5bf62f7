"""What can be read of a protobuf that cannot be parsed as a whole: one that is nested too deeply, or damaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wad.lib.protobuf_wire import field, fields
from wad.worker.protobuf import DecodeError


def envelope(kind: Any, raw: bytes, keep: int) -> Any:
    """A message parsed without those that lie in it, but for the field `keep`.  Raises DecodeError."""
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
    """A message parsed without those elements of repeated fields that cannot be parsed, and how many these are.

    Elements are looked for in fields of fields, `depth` deep.  Raises DecodeError where it is not for such an element
    that the message cannot be parsed.
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
    """`around` puts bytes where these lie in the whole, since a limit on depth counts from there."""
    pieces: list[bytes] = []
    dropped = 0
    for number, start, inside, end in fields(raw):
        found = kind.fields_by_number.get(number)
        piece = raw[start:end]
        if found is not None and found.message_type is not None and inside is not None:
            placed = _placing(around, number)
            try:
                parse(around(piece))
            except DecodeError:
                try:
                    if depth == 0:
                        raise
                    inner = raw[inside:end]
                    part, less = _trimmed(found.message_type, inner, depth - 1, parse, placed)
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


def _placing(around: Callable[[bytes], bytes], number: int) -> Callable[[bytes], bytes]:
    return lambda inside: around(field(number, inside))
