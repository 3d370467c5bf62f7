"""Plain sentences for msgspec's errors about a request: the field by its name, the types in words.  Pure."""

from __future__ import annotations

import re
from typing import Final

_AT: Final = re.compile(r"^(?P<why>.*) - at `(?:key in )?\$(?P<path>[^`]*)`$", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `(?P<name>[^`]*)`$")
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(?P<name>[^`]*)`$")
_EXPECTED: Final = re.compile(
    r"^Expected `(?P<kind>[^`]*)`(?:, got `(?P<got>[^`]*)`)?(?P<rest>.*)$"
)
_KINDS: Final = {
    "str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "array": "a list",
    "object": "an object", "null": "nothing", "bytes": "bytes", "datetime": "a time",
}  # fmt: skip


def in_words(text: str) -> str:
    """The error text with the field's name first: `limit: expected a whole number, not a text`."""
    at = _AT.match(text)
    why, path = (at["why"], at["path"]) if at else (text, "")
    where = path.lstrip(".")
    if missing := _MISSING.match(why):
        return f"{_joined(where, missing['name'])} is missing"
    if unknown := _UNKNOWN.match(why):
        return f"{_joined(where, unknown['name'])} is not a known field"
    if expected := _EXPECTED.match(why):
        got = f", not {_words(expected['got'])}" if expected["got"] else ""
        why = f"expected {_words(expected['kind'])}{expected['rest']}{got}"
    return f"{where}: {why}" if where else why


def _joined(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _words(kinds: str) -> str:
    return " or ".join(_KINDS.get(kind.strip(), kind.strip()) for kind in kinds.split("|"))
