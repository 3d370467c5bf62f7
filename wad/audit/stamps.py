"""The time of a stored document, whatever type it was written in.

The reference wrote its field `tsClient` as a Timestamp, an ISO text or a number (reference-backend.md 5.1 and 8): a
query that sorts by it puts every text above every Timestamp, and a window that lets the unknown pass proves nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import msgspec

SECONDS_UP_TO: Final = 100_000_000_000
"""A number below this counts seconds, above it milliseconds: 1973 in the one, the year 5138 in the other."""
_END: Final = 253_402_300_800_000
"""Milliseconds from which on no Timestamp can be written: the year 10000."""
_MAPS: Final = (("_seconds", "_nanoseconds"), ("seconds", "nanoseconds"), ("seconds", "nanos"))


class Stamp(msgspec.Struct, frozen=True):
    """`type` is how the time was written; `ms` since 1970, None where it cannot be told."""

    type: str
    ms: int | None


def stamp_of(value: object) -> Stamp:
    """The time that a stored value means."""
    match value:
        case None:
            return Stamp("null", None)
        case bool():
            return Stamp("boolean", None)
        case datetime():
            return Stamp("timestamp", _ms_of(value))
        case int():
            return Stamp("integer", _ms_of_number(value))
        case float():
            return Stamp("double", _ms_of_number(value))
        case str():
            return Stamp("string", _ms_of_text(value))
        case dict():
            return Stamp("map", _ms_of_map(value))
        case bytes():
            return Stamp("bytes", None)
    return Stamp("other", None)


def _ms_of(moment: datetime) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def _ms_of_number(number: float) -> int | None:
    if not 0 < number < _END:  # nor is NaN
        return None
    return int(number * 1000 if number < SECONDS_UP_TO else number)


def _ms_of_text(text: str) -> int | None:
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,16}", text):
        return _ms_of_number(int(text))
    try:
        return _ms_of(datetime.fromisoformat(text)) if "-" in text else None
    except (ValueError, OverflowError):
        return None


def _ms_of_map(value: dict[object, object]) -> int | None:
    for seconds, rest in _MAPS:
        whole, part = value.get(seconds), value.get(rest, 0)
        if isinstance(whole, int) and isinstance(part, int):
            ms = whole * 1000 + part // 1_000_000
            return ms if 0 < ms < _END else None
    return None
