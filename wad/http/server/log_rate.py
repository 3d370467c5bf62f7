"""Log lines that strangers cause: a few a second, and then how many there were more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from wad.core.rate import Rate

_BURST: Final = 10
_PER_SECOND: Final = 0.5
_SUMMARY: Final = "%d similar lines were suppressed"


class Limited(logging.Filter):
    """Lets a few records through; the next one after others were held back says how many."""

    def __init__(
        self, now: Callable[[], float], burst: float = _BURST, per_second: float = _PER_SECOND
    ) -> None:
        super().__init__()
        self._now = now
        self._rate = Rate(burst, per_second, now())
        self.suppressed = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if record.msg is _SUMMARY:
            return True
        if not self._rate.take(self._now()):
            self.suppressed += 1
            return False
        if self.suppressed:
            record.msg, record.args = f"{record.getMessage()} ({_SUMMARY % self._taken()})", None
        return True

    def say(self, logger: logging.Logger) -> None:
        """Log how many were held back, if any and if the rate allows it."""
        if self.suppressed and self._rate.take(self._now()):
            logger.warning(_SUMMARY, self._taken())

    def _taken(self) -> int:
        count, self.suppressed = self.suppressed, 0
        return count


@contextmanager
def limited(logger: logging.Logger, now: Callable[[], float]) -> Iterator[Limited]:
    """Limit what is logged under this very name, while the block runs."""
    held = Limited(now)
    logger.addFilter(held)
    try:
        yield held
    finally:
        logger.removeFilter(held)
