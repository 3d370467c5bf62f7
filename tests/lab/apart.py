"""The lab in a process of its own: each system has a network of its own, and two can be tried at once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Final

_LONGEST: Final = 1 << 24  # bytes of a line: a failed trial's has a traceback in it


async def apart(words: Sequence[str], say: Callable[[str], None]) -> tuple[list[str], int]:
    """Run the lab with these words; the lines of its figures, and its exit code.  Other lines are said as they come."""
    lab = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.lab", *words),
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST,
    )
    assert lab.stdout is not None
    figures = []
    try:
        async for line in lab.stdout:
            text = line.decode().rstrip("\n")
            if text.startswith('{"measure"'):
                figures.append(text)
            else:
                say(text)
    finally:
        code = await lab.wait()  # Ctrl-C is for it, too: it ends its container in its own order
    return figures, code
