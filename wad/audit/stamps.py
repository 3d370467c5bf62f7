"""The time of a stored document, whatever its type.

The reference wrote its field `tsClient` as a Timestamp, an ISO text or a number
(docs/internals/replaced-backend.md#what-its-audits-proved): a query that sorts by it puts every text above every
Timestamp, and a window that includes unknown times proves nothing.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from wad.core.untrusted import time_ms


class Stamp(msgspec.Struct, frozen=True):
    """A stored time.  `type`: the type of the value; `ms`: since 1970, None if it is not a time."""

    type: str
    ms: int | None


def stamp_of(value: object) -> Stamp:
    """Decode a stored value as a time."""
    return Stamp(_type_of(value), time_ms(value))


def _type_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case datetime():
            return "timestamp"
        case int():
            return "integer"
        case float():
            return "double"
        case str():
            return "string"
        case dict():
            return "map"
        case bytes():
            return "bytes"
    return "other"
