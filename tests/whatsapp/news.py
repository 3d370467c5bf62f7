"""Waiting for a condition, with a notification after each change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class News:
    """`notify` after each change; `until` waits for a condition over the changed state."""

    def __init__(self, errors: Sequence[BaseException]) -> None:
        self._errors = errors
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Report a change."""
        self._event.set()
        self._event = asyncio.Event()

    async def until(
        self,
        look: Callable[[], T | None],
        timeout: float,
        what: str,
        seen: Callable[[], object] = lambda: "nothing",
    ) -> T:
        """The result of `look`, once it is true.  Raises TimeoutError with the last state.

        `look` is called after every change, so it must be fast.
        """
        try:
            async with asyncio.timeout(timeout):
                while not (found := look()):
                    await self._event.wait()
                return found
        except TimeoutError:
            wrong = f"; errors in the server: {list(self._errors)}" if self._errors else ""
            raise TimeoutError(f"no {what} in {timeout:g} s; seen: {seen()}{wrong}") from None
