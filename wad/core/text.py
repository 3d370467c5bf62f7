"""Repair of untrusted text.

Text for display is repaired: every byte that is not UTF-8, every surrogate and every NUL becomes U+FFFD, so that
SQLite, MessagePack, JSON and Firestore accept it.  Identifiers (an id, an address, a key) are never repaired, since two
of them could become equal: they are read exactly, or they are invalid.
"""

from __future__ import annotations

import re
from typing import Final

IDENT_LIMIT: Final = 256
"""Characters of a WhatsApp id; real ones have up to 64."""

_UNFIT: Final = re.compile("[\0\ud800-\udfff]")


def repaired(text: str | bytes) -> str:
    """Repair a text for display: whatever cannot be stored or shown as text becomes U+FFFD."""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    return _UNFIT.sub("\ufffd", text)


def is_ident(name: object) -> bool:
    """Whether this can be a WhatsApp id: a printable text that is not too long."""
    return isinstance(name, str) and 0 < len(name) <= IDENT_LIMIT and name.isprintable()


def cut(text: str, limit: int) -> str:
    """The text, cut to `limit` characters, of which the last is an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"
