"""A rate limit for log lines that clients can cause, with a count of the suppressed ones."""

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
    """Passes a few records; the next one after suppressed records includes their number."""

    def __init__(
        self, now: Callable[[], float], burst: float = _BURST, per_second: float = _PER_SECOND
    ) -> None:
        super().__init__()
        self._now = now
        self._rate = Rate(burst, per_second, now())
        self.suppressed = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the record."""
        if record.msg is _SUMMARY:
            return True
        if not self._rate.take(self._now()):
            self.suppressed += 1
            return False
        if self.suppressed:
            record.msg, record.args = f"{record.getMessage()} ({_SUMMARY % self._taken()})", None
        return True

    def report(self, logger: logging.Logger) -> None:
        """Log the number of suppressed records, if any and if the rate allows it."""
        if self.suppressed and self._rate.take(self._now()):
            logger.warning(_SUMMARY, self._taken())

    def _taken(self) -> int:
        count, self.suppressed = self.suppressed, 0
        return count


@contextmanager
def limited(logger: logging.Logger, now: Callable[[], float]) -> Iterator[Limited]:
    """Limit the records of this logger while the block runs."""
    held = Limited(now)
    logger.addFilter(held)
    try:
        yield held
    finally:
        logger.removeFilter(held)
