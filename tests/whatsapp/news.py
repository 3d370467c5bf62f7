"""Waiting for something to become true, told by whoever changes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class News:
    """`tell` after each change; `until` waits for a condition over what changed."""

    def __init__(self, errors: Sequence[BaseException]) -> None:
        self._errors = errors
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Something changed."""
        self._event.set()
        self._event = asyncio.Event()

    async def until(
        self,
        look: Callable[[], T | None],
        timeout: float,
        what: str,
        seen: Callable[[], object] = lambda: "nothing",
    ) -> T:
        """What `look` finds, once it finds something true.  Raises TimeoutError saying what was seen instead.

        `look` is called after every change, so it must not go through everything.
        """
        try:
            async with asyncio.timeout(timeout):
                while not (found := look()):
                    await self._event.wait()
                return found
        except TimeoutError:
            wrong = f"; errors in the server: {list(self._errors)}" if self._errors else ""
            raise TimeoutError(f"no {what} in {timeout:g} s; seen: {seen()}{wrong}") from None
