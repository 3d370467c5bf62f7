"""What the translators share: addresses, times, and the one error.

neonize's JIDs and times: Neonize.proto; times come in seconds in some events and in milliseconds in others.
"""

from __future__ import annotations

from typing import Any, Final

from wad.core.errors import BadJid
from wad.core.jid import Jid

_FIRST_MS: Final = 100_000_000_000  # 1973 in milliseconds, the year 5138 in seconds
_LAST_MS: Final = 100_000_000_000_000  # the year 5138


class Untranslatable(Exception):
    """This event has no words of ours; the message says why."""


def jid(value: Any, what: str) -> Jid:
    """The library's form of an address that must be there.  Raises Untranslatable."""
    try:
        found = _jid(value)
    except BadJid as error:
        raise Untranslatable(str(error)) from error
    if found is None:
        raise Untranslatable(f"no {what}")
    return found


def jid_or_none(value: Any) -> Jid | None:
    """An address that may be missing; one that cannot be read is as good as none."""
    try:
        return _jid(value)
    except BadJid:
        return None


def jid_text(text: str) -> Jid | None:
    """An address in a text that may be missing or anything."""
    try:
        return Jid.parse(text) if text else None
    except BadJid:
        return None


def _jid(value: Any) -> Jid | None:
    if value.IsEmpty or not value.User:
        return None
    device = f":{value.Device}" if value.Device else ""
    return Jid.parse(f"{value.User}{device}@{value.Server}")


def milliseconds(timestamp: int) -> int:
    """A time of WhatsApp in milliseconds since 1970.  Raises Untranslatable for what is no time."""
    found = timestamp if timestamp > _FIRST_MS else timestamp * 1000
    if not 0 <= found < _LAST_MS:
        raise Untranslatable(f"{timestamp} is no time")
    return found


def milliseconds_or_0(timestamp: int) -> int:
    """The same for a time that may be missing or anything."""
    try:
        return milliseconds(timestamp)
    except Untranslatable:
        return 0
