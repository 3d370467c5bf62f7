"""The settings of an account's automatic replies.  wad stores them for the apps and sends no replies itself."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from wad.core.errors import BadInput, TooLong

LIMIT: Final = 32 << 10
"""Bytes of the settings as JSON: they are part of the account's document, and Firestore allows 1 MiB for it."""

MORE: Final = ("logic", "restrictions", "pricing", "faq", "extraction")
"""Further fields of later apps (docs/internals/replaced-backend.md#routes); stored unchanged, whatever they contain."""


class AutoReply(msgspec.Struct, frozen=True, kw_only=True):
    """Whether to reply automatically, and how.  `more`: the fields of MORE that are set."""

    enabled: bool = False
    prompt: str | None = None
    more: dict[str, Any] = {}


def check(wanted: AutoReply) -> AutoReply:
    """Return the settings unchanged.  Raises TooLong, BadInput (a text with a surrogate)."""
    try:
        size = len(msgspec.json.encode(wanted))
    except UnicodeEncodeError as error:
        raise BadInput(
            "a text contains half of a surrogate pair", hint="send valid Unicode text"
        ) from error
    if size > LIMIT:
        raise TooLong(
            f"reply settings may have {LIMIT} bytes; these have {size}", hint="shorten the texts"
        )
    return wanted
