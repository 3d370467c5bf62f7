"""The literal commands of the documentation: the lab runs what a newcomer types."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_TOP: Final = Path(__file__).parent.parent.parent
_BLOCK: Final = re.compile(r"^ *```sh\n(.+?)^ *```$", re.M | re.S)
_INDENTED: Final = re.compile(r"^ {4}(\S.*)$", re.M)
_ROW: Final = re.compile(r"^\| (.+?) \| (.+?) \|$", re.M)
_CODE: Final = re.compile(r"`([^`]+)`")


def commands(heading: str, page: str = "README.md") -> list[str]:
    """The lines of the first block of commands below a heading of a page, without their comments."""
    return commands_in((_TOP / page).read_text("utf-8"), heading)


def blocks(heading: str, page: str, **names: str) -> list[list[str]]:
    """The lines of every block of commands below a heading; placeholders are replaced by the values used here."""
    text = (_TOP / page).read_text("utf-8")
    for example, name in names.items():
        text = text.replace(example, name)
    return [
        _without_comments(block.splitlines()) for block in _BLOCK.findall(_section(text, heading))
    ]


def commands_in(text: str, heading: str) -> list[str]:
    """The same of a page's text.  Raises LookupError if there are none."""
    block = _BLOCK.search(_section(text, heading))
    if block is None:
        raise LookupError(f"there are no commands below {heading!r}")
    return _without_comments(block[1].splitlines())


def indented(heading: str, page: str) -> list[str]:
    """The indented commands below a heading of a page, without their comments."""
    return indented_in((_TOP / page).read_text("utf-8"), heading)


def indented_in(text: str, heading: str) -> list[str]:
    """The same of a page's text.  Raises LookupError if there are none."""
    found = _without_comments(_INDENTED.findall(_section(text, heading)))
    if not found:
        raise LookupError(f"there are no commands below {heading!r}")
    return found


def table(head: str, page: str) -> dict[str, list[str]]:
    """The code in the second column of the table with this first head, by the first column."""
    return table_in((_TOP / page).read_text("utf-8"), head)


def table_in(text: str, head: str) -> dict[str, list[str]]:
    """The same of a page's text.  Raises LookupError if there is none."""
    found = re.search(rf"^\| {re.escape(head)} \|.*\n((?:\|.*\n)+)", text, re.M)
    if found is None:
        raise LookupError(f"no table has the head {head!r}")
    return {first: _CODE.findall(second) for first, second in _ROW.findall(found[1])}


def _section(text: str, heading: str) -> str:
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##+ |\Z)", text, re.M | re.S)
    return found[1] if found else ""


def _without_comments(lines: Iterable[str]) -> list[str]:
    bare = (re.sub(r"(^|\s+)# .*$", "", line).strip() for line in lines)
    return [line for line in bare if line]
