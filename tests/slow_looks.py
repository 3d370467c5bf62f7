"""A plugin for pytest: a test that waits for a condition checks it only every half second, as on a busy machine.

    make test PYTEST_ARGS="-p tests.slow_looks tests/library/test_pairing.py"

A test that waits for a state which passes by itself then waits in vain, each time: it has to wait for an event or a
counter that stays.  A test that paces what it does by short sleeps takes longer, and may take too long.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

_LOOK: Final = 0.1
"""Seconds: a shorter sleep is a check in a loop."""
_SLOW: Final = 0.5
_TESTS: Final = str(Path(__file__).parent)
_SERVER: Final = str(Path(__file__).parent / "whatsapp")

_sleep: Final = asyncio.sleep


async def _slowly(delay: float, result: Any = None) -> Any:
    caller = sys._getframe(1).f_code.co_filename
    looks = caller.startswith(_TESTS) and not caller.startswith(_SERVER)
    return await _sleep(_SLOW if looks and 0 < delay <= _LOOK else delay, result)


asyncio.sleep = _slowly
