"""The lab in a separate process: each system has a separate network, and two can be tried at the same time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Final

_LONGEST: Final = 1 << 24  # bytes of a line: a failed trial's line contains a traceback


async def apart(arguments: Sequence[str], say: Callable[[str], None]) -> tuple[list[str], int]:
    """Run the lab with these arguments; its lines of figures, and its exit code.  Other lines are printed."""
    lab = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.lab", *arguments),
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
        code = await lab.wait()  # Ctrl-C reaches it, too: it ends its container in its own order
    return figures, code
