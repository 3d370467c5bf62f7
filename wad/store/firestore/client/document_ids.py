"""The rules for document ids."""

from __future__ import annotations

import re
from typing import Final

_ID: Final = re.compile(r"(?!\.\.?$)(?!__.*__$)[^/]{1,500}", re.DOTALL)
_BYTES: Final = 1500


def is_key(text: str) -> bool:
    """Whether this is a valid document id (and not the path of another document)."""
    try:
        return _ID.fullmatch(text) is not None and len(text.encode()) <= _BYTES
    except UnicodeEncodeError:
        return False
