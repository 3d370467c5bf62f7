"""Waiting for a condition, in a test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

TIMEOUT = 30.0  # seconds until a test that waits for something gives up


async def until(
    condition: Callable[[], object], what: str = "the condition", timeout: float = TIMEOUT
) -> None:
    """Wait until a condition holds; a test that waits in vain says for what."""
    try:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited {timeout:g} s in vain for {what}") from None


def until_threads(condition: Callable[[], object]) -> None:
    """Wait until other threads make a condition true."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"waited {TIMEOUT:g} s in vain"
        time.sleep(0.001)
