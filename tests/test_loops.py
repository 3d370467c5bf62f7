"""The supervisor of long-lived loops."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.fake_daemon import FakeClock
from wad.core.errors import Unavailable
from wad.loops import Loop, Loops


class Naps:
    """A clock whose sleeps take no time, and which pauses were made."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.made: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Let the clock go on."""
        self.made.append(seconds)
        self.clock.now += seconds
        await asyncio.sleep(0)


async def test_an_unexpected_error_is_logged_once_and_the_loop_begins_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With growing pauses, one traceback, and a count."""
    naps, tries = Naps(), 0
    loops = Loops(naps.clock, naps.sleep)

    async def body(loop: Loop) -> None:
        nonlocal tries
        tries += 1
        if tries <= 9:
            raise KeyError("x")
        assert loop.failure == "an internal error: KeyError"
        assert loops.failing == [loop]
        loop.progress()
        assert not loops.failing

    await loops.keep("a loop", body, account="acc-1", cap=30)
    assert naps.made == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert loops.errors == loops.faults == 9
    failures = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(failures) == 1
    assert failures[0].exc_info is not None
    assert not loops.running


async def test_an_expected_error_has_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Its sentence is the reason; each new sentence is logged."""
    naps, tries = Naps(), 0
    loops = Loops(naps.clock, naps.sleep)

    async def body(loop: Loop) -> None:
        nonlocal tries
        while (tries := tries + 1) <= 4:
            await loop.failed(Unavailable("no network" if tries <= 2 else "no answer"))
            assert loop.failure == ("no network" if tries <= 2 else "no answer")

    await loops.keep("a loop", body)
    assert [one.exc_info for one in caplog.records] == [None, None]
    assert (loops.errors, loops.faults) == (4, 0)


async def test_pauses_begin_anew_only_after_a_stable_minute() -> None:
    """A loop that succeeds for a moment between two failures does not spin."""
    naps = Naps()
    loops = Loops(naps.clock, naps.sleep)

    async def body(loop: Loop) -> None:
        for stable in (0, 1, 59, 61, 1):
            loop.progress()
            naps.clock.now += stable
            await loop.failed(Unavailable("x"))

    await loops.keep("a loop", body)
    assert naps.made == [0.5, 1, 2, 0.5, 1]


async def test_a_loop_that_promised_to_turn_and_does_not_is_hung() -> None:
    """Time since its last turn decides; a pause after an error does not count as silence."""
    naps = Naps()
    loops = Loops(naps.clock, naps.sleep)

    async def body(loop: Loop) -> None:
        naps.clock.now += 10
        assert not loops.hung
        naps.clock.now += 1
        assert loops.hung == [loop]
        assert loop.hung_for() == 11
        loop.turn()
        assert not loops.hung
        for _ in range(9):
            await loop.failed(Unavailable("x"))
            assert not loops.hung

    await loops.keep("a loop", body, within=10)


async def test_cancelling_ends_a_loop_also_in_its_pause() -> None:
    """Nothing is left behind, and it is not an error."""
    loops = Loops(FakeClock())
    paused = asyncio.Event()

    async def body(loop: Loop) -> None:
        paused.set()
        raise OSError("no more files")

    task = asyncio.create_task(loops.keep("a loop", body))
    await paused.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not loops.running
    assert loops.faults == 1


async def test_the_error_of_a_task_group_is_named_by_its_first_cause() -> None:
    """Not as an ExceptionGroup."""
    naps, first = Naps(), True
    loops = Loops(naps.clock, naps.sleep)

    async def fail() -> None:
        raise ZeroDivisionError

    async def body(loop: Loop) -> None:
        nonlocal first
        if first:
            first = False
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
        assert loop.failure == "an internal error: ZeroDivisionError"

    await loops.keep("a loop", body)
