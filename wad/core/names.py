"""Rules for account names.  Pure.

A name is shown in tables, pages, log lines and commands, beside the names of other accounts.  So it is one line of
visible text: no character moves a cursor, changes the writing direction or is invisible, and a command line does not
take the name for an option.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from wad.core.errors import BadInput

LONGEST: Final = 100  # characters
_MARKS: Final = 4  # combining marks in a row: more would cover the lines above and below
_JOINER: Final = "\u200d"
_KINDS: Final = {
    "Cc": "a control character",
    "Cf": "an invisible character",
    "Cn": "an unassigned character",
    "Co": "a private-use character",
    "Cs": "half of a surrogate pair",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
    "Zs": "a blank other than the ordinary space",
}
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Invisible letters and symbols."""


def check_name(name: str) -> str:
    """Check a name and return its composed form (NFC).  Raises BadInput with the reason."""
    if len(name) > LONGEST:
        raise BadInput(f"a name has at most {LONGEST} characters, not {len(name)}")
    try:
        name = unicodedata.normalize("NFC", name)
    except UnicodeError as error:
        raise _invalid(name, "contains half of a surrogate pair") from error
    if len(name) > LONGEST:
        raise BadInput(f"a name has at most {LONGEST} characters, not {len(name)}")
    if not name.strip():
        raise BadInput("a name has at least one character")
    for at in range(len(name)):
        if (why := _why_invalid(name, at)) is not None:
            raise _invalid(name, f"contains {why}")
    if name != name.strip():
        raise _invalid(name, "begins or ends with a blank")
    if name.startswith("-"):
        raise _invalid(name, "begins with a dash, like an option")
    return name


def shown_name(name: str) -> str:
    """A stored name for display: characters that `check_name` refuses are escaped, as in `\\u202e`, and it is cut."""
    try:
        return check_name(name)
    except BadInput:
        pass
    name = _composed(name)  # composing may lengthen a text: some characters are composed as two
    parts: list[str] = []
    size = 0
    for at, char in enumerate(name):
        part = char if _why_invalid(name, at) is None else escaped(char)
        if size + len(part) > LONGEST - 1:
            parts.append("\u2026")
            break
        parts.append(part)
        size += len(part)
    text = "".join(parts).strip()
    return f"\\{text}" if text.startswith("-") else text or "\\"


def _composed(name: str) -> str:
    try:
        return unicodedata.normalize("NFC", name)
    except UnicodeError:
        return name


def escaped(text: str) -> str:
    """Each character in ASCII, as a Python string would write it."""
    return text.encode("unicode_escape").decode("ascii")


def _why_invalid(name: str, at: int) -> str | None:
    """Why the character at this position is not allowed; None if it is."""
    char = name[at]
    if char == " " or (char.isascii() and char.isprintable()):
        return None
    if char in _BLANK:
        return "an invisible character"
    kind = unicodedata.category(char)
    if char == _JOINER and _joins(name, at):
        return None
    if kind in _KINDS:
        return _KINDS[kind]
    if kind[0] == "M" and _is_piled(name, at):
        return (
            "a combining mark without a letter"
            if at == 0
            else f"more than {_MARKS} combining marks on one letter"
        )
    return None


def _is_piled(name: str, at: int) -> bool:
    """Whether only combining marks precede this one, or too many."""
    before = name[max(at - _MARKS, 0) : at]
    return all(unicodedata.category(char)[0] == "M" for char in before)


def _joins(name: str, at: int) -> bool:
    """Whether a joiner combines two symbols, as in the emoji of a family."""
    if not 0 < at < len(name) - 1:
        return False
    return all(
        unicodedata.category(char) in ("So", "Sk", "Mn") for char in (name[at - 1], name[at + 1])
    )


def _invalid(name: str, why: str) -> BadInput:
    shown = ascii(name if len(name) <= 40 else name[:40] + "...")
    return BadInput(
        f"the name {shown} {why}", hint="choose a name of visible letters, for example Shop"
    )
