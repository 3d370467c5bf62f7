"""Conversion and validation of one value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from wad.config.declaration import Setting
from wad.config.wording import quoted


class InvalidValue(Exception):
    """A value is invalid; the text completes the sentence "KEY ..."."""


_BOOLEANS: Final = {
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
    """Convert the text of a variable or credential into the type that TOML would have.  Raises Wrong."""
    if row.kind is bool:
        if text.lower() not in _BOOLEANS:
            raise _must(row, TYPES[bool], text)
        return _BOOLEANS[text.lower()]
    if row.kind is int or row.kind is float:
        pattern = r"[+-]?[0-9]{1,18}" + (r"(\.[0-9]{1,18})?" if row.kind is float else "")
        if not re.fullmatch(pattern, text.strip()):
            raise _must(row, TYPES[row.kind], text)
        return int(text.strip()) if row.kind is int else float(text.strip())
    return text


def converted(row: Setting, raw: object) -> object:
    """Convert a TOML value into the setting's type, and check it.  Raises Wrong."""
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
        if not -1e18 < raw < 1e18:  # False for NaN, too; a larger integer may not even convert
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


def _must(row: Setting, text: str, raw: object) -> InvalidValue:
    return InvalidValue(f"must be {text}" + ("" if row.secret else f", not {quoted(raw)}"))
