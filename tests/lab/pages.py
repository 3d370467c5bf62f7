"""The commands of the documentation, as they stand there: what a newcomer types is what the lab runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_TOP: Final = Path(__file__).parent.parent.parent
_BLOCK: Final = re.compile(r"^ *```sh\n(.+?)^ *```$", re.M | re.S)


def commands(heading: str, page: str = "README.md") -> list[str]:
    """The lines of the first block of commands below a heading of a page, without their comments."""
    return commands_in((_TOP / page).read_text("utf-8"), heading)


def blocks(heading: str, page: str, **names: str) -> list[list[str]]:
    """The lines of every block of commands below a heading; what stands there for a name is what it is here."""
    text = (_TOP / page).read_text("utf-8")
    for example, name in names.items():
        text = text.replace(example, name)
    section = _section(text, heading)
    return [_lines(block) for block in _BLOCK.findall(section)]


def commands_in(text: str, heading: str) -> list[str]:
    """The same of a page's text.  Raises LookupError where there are none."""
    block = _BLOCK.search(_section(text, heading))
    if block is None:
        raise LookupError(f"there are no commands below {heading!r}")
    return _lines(block[1])


def _section(text: str, heading: str) -> str:
    section = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##+ |\Z)", text, re.M | re.S)
    return section[1] if section else ""


def _lines(block: str) -> list[str]:
    lines = (re.sub(r"(^|\s+)# .*$", "", line).strip() for line in block.splitlines())
    return [line for line in lines if line]
