"""Typed access to fields of untrusted documents: a field of the wrong type counts as absent.  Nothing here raises."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

Fields = Mapping[str, Any]

LATEST_MS: Final = 32_503_680_000_000
"""The year 3000: a later time is an error, and would be last in every list for ever."""
LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999: the last date in Python and RFC 3339."""
SECONDS_UP_TO: Final = 100_000_000_000
"""A number below this is in seconds, above it in milliseconds: the year 5138 in the one, 1973 in the other."""
_INTEGERS: Final = 1 << 63
_MAPS: Final = (("_seconds", "_nanoseconds"), ("seconds", "nanoseconds"), ("seconds", "nanos"))
_DIGITS: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_LONGEST_TIME: Final = 64  # characters


def text(fields: Fields, *names: str) -> str:
    """The first of these fields that is a text and not empty; an empty text if there is none."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def map_(fields: Fields, name: str) -> Fields:
    """A map; an empty one if the field is not a map."""
    value = fields.get(name)
    return value if isinstance(value, Mapping) else {}


def packed(fields: Fields, name: str) -> bytes | None:
    """Bytes; None if the field is not bytes."""
    value = fields.get(name)
    return value if isinstance(value, bytes) else None


def flag(fields: Fields, name: str) -> bool:
    """Whether the field is exactly true; a truthy value is not enough."""
    return fields.get(name) is True


def integer(
    fields: Fields, name: str, *, low: int = -_INTEGERS, high: int = _INTEGERS - 1
) -> int | None:
    """A whole number from `low` to `high`, of either of Firestore's number types; else None."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value) if low <= value <= high else None


def time_ms(value: object) -> int | None:
    """A time of any type in ms since 1970; None if it is invalid, or outside of 1970 to 3000.

    A number is in seconds, milliseconds, microseconds or nanoseconds, according to its size.
    """
    match value:
        case bool():
            return None
        case datetime():
            return _in_range(_ms_of_datetime(value))
        case int() | float():
            return _in_range(_ms_of_number(value))
        case str():
            return _in_range(_ms_of_text(value.strip())) if len(value) <= _LONGEST_TIME else None
        case Mapping():
            return _in_range(_ms_of_map(value))
    return None


def _in_range(ms: int | None) -> int | None:
    return ms if ms is not None and 0 < ms < LATEST_MS else None


def _ms_of_datetime(moment: datetime) -> int | None:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    try:
        return round(aware.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return None


def _ms_of_number(number: float) -> int | None:
    if not math.isfinite(number) or number <= 0:
        return None
    if number < SECONDS_UP_TO:
        return int(number * 1000)
    for unit in (1, 1_000, 1_000_000):
        if number < LATEST_MS * unit:
            return int(number // unit)
    return None


def _ms_of_text(written: str) -> int | None:
    if _DIGITS.fullmatch(written):
        return _ms_of_number(int(written))
    try:
        return _ms_of_datetime(datetime.fromisoformat(written)) if "-" in written else None
    except ValueError:
        return None


def _ms_of_map(value: Mapping[Any, Any]) -> int | None:
    for seconds, rest in _MAPS:
        whole, part = value.get(seconds), value.get(rest, 0)
        if type(whole) is int and type(part) is int:
            return whole * 1000 + part // 1_000_000
    return None
