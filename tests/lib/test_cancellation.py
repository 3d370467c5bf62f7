"""Work that runs to its end although its caller is cancelled."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from wad.lib.cancellation import uncancellable


async def test_the_result_is_returned() -> None:
    """Without a cancellation it is an await."""

    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await uncancellable(work()) == 7


async def test_a_cancelled_caller_ends_after_the_work() -> None:
    """However often it is cancelled: a lock that it holds is not released before."""
    begun, go, lock, done = asyncio.Event(), asyncio.Event(), asyncio.Lock(), []

    async def work() -> None:
        begun.set()
        await go.wait()
        assert lock.locked()
        done.append(True)

    async def caller() -> None:
        async with lock:
            await uncancellable(work())

    task = asyncio.create_task(caller())
    await begun.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]
    assert not lock.locked()


async def test_an_error_of_the_work_is_raised() -> None:
    """To a caller that was not cancelled."""

    async def work() -> None:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        await uncancellable(work())


async def test_a_cancelled_caller_that_handles_errors_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error of the work does not hide the cancellation; it is logged."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go.wait()
        raise ValueError("a fault")

    async def caller() -> None:
        with suppress(ValueError):
            await uncancellable(work())

    task = asyncio.create_task(caller())
    await begun.wait()
    task.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "a fault" in caplog.text
