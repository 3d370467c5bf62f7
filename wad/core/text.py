"""Text that others wrote: what may be mended, and what may not.

Text that a person reads is made readable: every byte that is no UTF-8, every surrogate and every NUL becomes U+FFFD, so
that SQLite, MessagePack, JSON and Firestore take it.  What names something (an id, an address, a key) is never mended,
since two names could become one: it is read exactly, or it is invalid.
"""

from __future__ import annotations

import re
from typing import Final

IDENT_LIMIT: Final = 256
"""Characters of an id of WhatsApp; real ones have up to 64."""

_UNFIT: Final = re.compile("[\0\ud800-\udfff]")


def mended(text: str | bytes) -> str:
    """Text for a person to read: what cannot be stored or shown as text becomes U+FFFD."""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    return _UNFIT.sub("\ufffd", text)


def is_ident(name: object) -> bool:
    """Whether this can be an id of WhatsApp: printable characters only, and not too many of them."""
    return isinstance(name, str) and 0 < len(name) <= IDENT_LIMIT and name.isprintable()


def cut(text: str, limit: int) -> str:
    """The text, or the beginning of a longer one with an ellipsis as its last character."""
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"
