"""Which texts can be the id of a document."""

from __future__ import annotations

import re
from typing import Final

_ID: Final = re.compile(r"(?!\.\.?$)(?!__.*__$)[^/]{1,500}", re.DOTALL)
_BYTES: Final = 1500


def is_key(text: str) -> bool:
    """Whether a document can have this id (and `text` is not the path of another one)."""
    try:
        return _ID.fullmatch(text) is not None and len(text.encode()) <= _BYTES
    except UnicodeEncodeError:
        return False
