"""Work that a cancelled caller must not leave half done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


async def uncancellable(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end, even if the caller is cancelled meanwhile, however often; then raise CancelledError.

    A lock that the caller holds stays held until then, which matters for work on a thread: nothing can cancel that.
    A cancelled caller gets CancelledError even if the work failed, since it may handle the error and continue; the
    error is logged.
    """
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if not cancelled:
        return task.result()
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("work of a cancelled caller failed: %s", error, exc_info=error)
    raise asyncio.CancelledError from error
