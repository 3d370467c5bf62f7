"""What whoever writes replies for an account is told to do.  wad keeps it, and writes no replies itself."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from wad.core.errors import BadInput, TooLong

LIMIT: Final = 32 << 10
"""Bytes of all of it, as JSON: it lies in the account's document, of which Firestore takes 1 MiB."""

MORE: Final = ("logic", "restrictions", "pricing", "faq", "extraction")
"""What later apps say besides (docs/internals/replaced-backend.md#routes); kept as it came, whatever it is."""


class AutoReply(msgspec.Struct, frozen=True, kw_only=True):
    """Whether to answer by itself, and how.  `more`: what of MORE was said."""

    enabled: bool = False
    prompt: str | None = None
    more: dict[str, Any] = {}


def check(wanted: AutoReply) -> AutoReply:
    """The same.  Raises TooLong, BadInput (a text that is none)."""
    try:
        size = len(msgspec.json.encode(wanted))
    except UnicodeEncodeError as error:
        raise BadInput("a text holds half a character") from error
    if size > LIMIT:
        raise TooLong(f"settings for replies may have {LIMIT} bytes; these have {size}")
    return wanted
