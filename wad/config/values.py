"""One value: from text, of the right type, and as its setting wants it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from wad.config.declaration import Setting
from wad.config.wording import quoted


class Wrong(Exception):
    """A value cannot be used; the text completes the sentence "KEY ..."."""


_WORDS: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
TYPES: Final = {
    str: "a text",
    Path: "an absolute path",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def from_text(row: Setting, text: str) -> object:
    """What TOML would have given for the text of a variable or credential.  Raises Wrong."""
    if row.kind is bool:
        if text.lower() not in _WORDS:
            raise _must(row, TYPES[bool], text)
        return _WORDS[text.lower()]
    if row.kind is int or row.kind is float:
        pattern = r"[+-]?[0-9]{1,18}" + (r"(\.[0-9]{1,18})?" if row.kind is float else "")
        if not re.fullmatch(pattern, text.strip()):
            raise _must(row, TYPES[row.kind], text)
        return int(text.strip()) if row.kind is int else float(text.strip())
    return text


def usable(row: Setting, raw: object) -> object:
    """The value that TOML gave, in the setting's type and as its check wants it.  Raises Wrong."""
    value = _typed(row, raw)
    check = row.check
    if check is None or check.holds(value):
        return value
    raise _must(row, check.text, value)


def _typed(row: Setting, raw: object) -> object:
    if row.kind is bool and isinstance(raw, bool):
        return raw
    if row.kind is int and isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if row.kind is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        if not -1e18 < raw < 1e18:  # nor is NaN; a larger integer may not even convert
            raise _must(row, TYPES[float], raw)
        return float(raw)
    if row.kind is str and isinstance(raw, str):
        if not row.secret and not raw.isprintable():
            raise _must(row, "printable, on one line", raw)
        return raw
    if row.kind is Path and isinstance(raw, str | Path) and str(raw).startswith("/"):
        if not str(raw).isprintable():
            raise _must(row, "printable, on one line", raw)
        return Path(raw)
    raise _must(row, TYPES[row.kind], raw)


def _must(row: Setting, text: str, raw: object) -> Wrong:
    return Wrong(f"must be {text}" + ("" if row.secret else f", not {quoted(raw)}"))
