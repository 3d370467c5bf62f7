"""Common parts of the translators: reading protobuf fields, addresses, times, and the one error.

WhatsApp's protobufs are proto2: a `string` may contain any bytes, and for invalid UTF-8 Python's protobuf returns
`bytes`.  So no translator reads a string field directly; it uses one of these readers, as a test checks:

- `shown`: display text, which is repaired;
- `ident`, `exact`: an id, an address, a path, a protocol keyword, which are never repaired;
- `unmended`: bytes that are only compared in memory;
- `jid`, `jid_or_none`, `address`, `addresses`: an address.

neonize's JIDs and times: Neonize.proto; times are in seconds in some events and in milliseconds in others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from wad.core.errors import BadJid
from wad.core.jid import Jid
from wad.core.text import is_ident, repaired
from wad.core.untrusted import LATEST_MS

_FIRST_MS: Final = 100_000_000_000  # 1973 in milliseconds, the year 5138 in seconds


class Untranslatable(Exception):
    """This event cannot be translated; the message says why."""


# --- string fields --------------------------------------------------------------------------------


def raw_text(part: Any, field: str) -> Any:
    """A string field as the library returned it, `str` or `bytes`; an empty text if there is no such field.

    Only for the readers below.
    """
    return getattr(part, field, "")


def shown(part: Any, field: str) -> str:
    """Display text: invalid bytes become U+FFFD.  A missing field is empty."""
    found = raw_text(part, field)
    if type(found) is str and "\0" not in found:
        return found
    return repaired(found)


def exact(part: Any, field: str) -> str:
    """A name that may be missing (an id, a path, a protocol keyword); an invalid one counts as missing."""
    found = raw_text(part, field)
    return found if type(found) is str and found.isprintable() else ""


def unmended(part: Any, field: str) -> str:
    """A string field whose invalid bytes are kept as lone surrogates: for comparing, never for storing."""
    found = raw_text(part, field)
    return found if type(found) is str else found.decode(errors="surrogateescape")


def ident(part: Any, field: str, what: str) -> str:
    """A required id.  Raises Untranslatable, also for an id that cannot be read exactly."""
    found = raw_text(part, field)
    if not found:
        raise Untranslatable(f"{what} without an id")
    if not is_ident(found):
        raise Untranslatable(f"{what} with an invalid id")
    return str(found)


def ident_or_none(part: Any, field: str) -> str:
    """An id that may be missing; empty for one that cannot be read exactly."""
    found = raw_text(part, field)
    return str(found) if is_ident(found) else ""


def unmended_all(part: Any, field: str) -> list[str]:
    """`unmended` for a repeated field."""
    return [
        one if type(one) is str else one.decode(errors="surrogateescape")
        for one in raw_text(part, field)
    ]


def idents(part: Any, field: str) -> Iterator[str]:
    """The ids of a repeated field that can be read exactly."""
    return (found for found in raw_text(part, field) if is_ident(found))


# --- addresses ------------------------------------------------------------------------------------


def jid(value: Any, what: str) -> Jid:
    """A required address in the library's form.  Raises Untranslatable."""
    try:
        found = _jid(value)
    except BadJid as error:
        raise Untranslatable(f"an invalid {what}: {error}") from error
    if found is None:
        raise Untranslatable(f"no {what}")
    return found


def jid_or_none(value: Any) -> Jid | None:
    """An optional address; an invalid one counts as missing."""
    try:
        return _jid(value)
    except BadJid:
        return None


def address(part: Any, field: str) -> Jid | None:
    """An address in an optional string field; None if it is invalid."""
    return _parsed(raw_text(part, field))


def addresses(part: Any, field: str) -> Iterator[Jid]:
    """The valid addresses in a repeated string field."""
    return filter(None, map(_parsed, raw_text(part, field)))


def _parsed(text: Any) -> Jid | None:
    try:
        return Jid.parse(text) if text else None
    except BadJid:
        return None


def _jid(value: Any) -> Jid | None:
    user, server = raw_text(value, "User"), raw_text(value, "Server")
    if value.IsEmpty or not user:
        return None
    if type(user) is not str or type(server) is not str:
        raise BadJid("it is not UTF-8")
    device = f":{value.Device}" if value.Device else ""
    return Jid.parse(f"{user}{device}@{server}")


# --- times ----------------------------------------------------------------------------------------


def milliseconds(timestamp: int) -> int:
    """A WhatsApp time in milliseconds since 1970.  Raises Untranslatable for an invalid time."""
    found = timestamp if timestamp > _FIRST_MS else timestamp * 1000
    if not 0 <= found < LATEST_MS:
        raise Untranslatable(f"{timestamp} is not a valid time")
    return found


def milliseconds_or_0(timestamp: int) -> int:
    """The same for an optional time; 0 if it is missing or invalid."""
    try:
        return milliseconds(timestamp)
    except Untranslatable:
        return 0
