"""Values and names in messages: without passwords, cut to a length, and with a suggestion for an unknown name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_LONGEST: Final = 80  # characters


def plain(value: object) -> str:
    """A value for display, without the part before an `@` of a URL, which may be a password."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return re.sub(r"//[^@/]*@", "//***@", str(value))


def quoted(raw: object) -> str:
    """A value of any type, quoted for a message."""
    if isinstance(raw, dict | list):
        return "a table" if isinstance(raw, dict) else "a list"
    text = plain(raw)
    text = text if len(text) <= 80 else text[:77] + "..."
    return repr(text) if isinstance(raw, str | Path) else text


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` if a known name is similar enough; else an empty text."""
    import difflib  # only if there is an error: it is slow to import

    if len(name) > _LONGEST:
        return ""  # not a typing error, and the search takes the square of its length
    names = list(known)
    by_leaf = {each.rpartition(".")[2]: each for each in reversed(names)}
    near = difflib.get_close_matches(name, names, 1) or [
        by_leaf[leaf] for leaf in difflib.get_close_matches(name.rpartition(".")[2], by_leaf, 1)
    ]
    return f"; did you mean {near[0]}?" if near else ""
