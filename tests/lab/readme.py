"""The commands of the README, as they stand there: what a newcomer types is what the lab runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_README: Final = Path(__file__).parent.parent.parent / "README.md"
_BLOCK: Final = re.compile(r"^```sh\n(.+?)^```$", re.M | re.S)


def commands(heading: str, text: str | None = None) -> list[str]:
    """The lines of the first block of commands below a heading of second order, without their comments."""
    whole = _README.read_text("utf-8") if text is None else text
    _, found, section = whole.partition(f"\n## {heading}\n")
    block = _BLOCK.search(section.partition("\n## ")[0]) if found else None
    if block is None:
        raise LookupError(f"the README has no commands below {heading!r}")
    lines = (re.sub(r"(^|\s+)# .*$", "", line).strip() for line in block[1].splitlines())
    return [line for line in lines if line]
