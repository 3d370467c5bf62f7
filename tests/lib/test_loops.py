"""The supervisor of long-lived loops."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import pytest

from tests.support.fake_daemon import FakeClock
from tests.support.waiting import TIMEOUT, until
from wad.core.errors import Unavailable
from wad.lib.clock import SystemClock
from wad.lib.loops import Loop, Loops


class Naps:
    """A clock whose sleeps take no time, and a list of the pauses."""

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


async def test_a_loop_outlives_the_cancelling_of_what_it_waits_for() -> None:
    """Cancelling something that it awaits does not end it; cancelling the loop does."""
    naps, tries = Naps(), 0
    loops = Loops(naps.clock, naps.sleep)

    async def body(loop: Loop) -> None:
        nonlocal tries
        if (tries := tries + 1) == 1:
            waited = asyncio.get_running_loop().create_future()
            waited.cancel()
            await waited
        assert loop.failing_since is not None

    await loops.keep("a loop", body)
    assert (tries, loops.faults) == (2, 1)


async def test_a_caller_that_waits_for_a_loop_shortens_its_pause() -> None:
    """It tries again at once."""
    loops, tries = Loops(SystemClock()), 0

    async def body(loop: Loop) -> None:
        nonlocal tries
        if (tries := tries + 1) == 1:
            asyncio.get_running_loop().call_soon(loop.retry_now)
            await loop.failed(Unavailable("x"), pause=3600)

    async with asyncio.timeout(TIMEOUT):
        await loops.keep("a loop", body)
    assert tries == 1


async def test_a_loop_that_pauses_is_not_hung() -> None:
    """However long the pause is."""
    naps = Naps()
    loops = Loops(naps.clock, naps.sleep)

    async def body(loop: Loop) -> None:
        if loop.last_failure:
            return
        failing = asyncio.ensure_future(loop.failed(Unavailable("x")))
        await asyncio.sleep(0)
        naps.clock.now += 3600
        assert loop.hung_for() is None
        await failing

    await loops.keep("a loop", body, within=10)


async def test_a_loop_that_turns_without_progress_is_stuck() -> None:
    """After a minute, also if it raises nothing; progress ends it."""
    naps = Naps()
    loops = Loops(naps.clock, naps.sleep)

    async def body(loop: Loop) -> None:
        for _ in range(61):
            assert not loops.stuck
            loop.turn()
            naps.clock.now += 1
        loop.turn()
        assert loops.stuck == [loop]
        loop.progress()
        assert not loops.stuck
        naps.clock.now += 3600
        assert not loops.stuck  # it waits for something to do

    await loops.keep("a loop", body)


async def test_a_loop_that_fails_again_and_again_is_stuck_whatever_else_succeeds() -> None:
    """Until a minute passes without a failure."""
    naps = Naps()
    loops = Loops(naps.clock, naps.sleep)

    async def body(loop: Loop) -> None:
        for failures in range(1, 7):
            await loop.failed(Unavailable("the same item"))
            loop.progress()
            assert not loops.failing
            assert bool(loops.stuck) is (failures >= 5)
        naps.clock.now += 61
        assert not loops.stuck

    await loops.keep("a loop", body)


async def test_a_loop_without_reports_recovers_after_a_minute() -> None:
    """What failed once is not shown for ever."""
    naps, first = Naps(), True
    loops = Loops(naps.clock, naps.sleep)

    async def body(loop: Loop) -> None:
        nonlocal first
        if first:
            first = False
            raise KeyError
        assert loops.failing == [loop]
        naps.clock.now += 61
        assert not loops.failing

    await loops.keep("a loop", body)


async def test_failures_are_counted_by_name_and_account() -> None:
    """Also those of loops that have ended."""
    naps = Naps()
    loops = Loops(naps.clock, naps.sleep)

    async def body(loop: Loop) -> None:
        await loop.failed(Unavailable("x"))

    await loops.keep("a loop", body, account="acc-1")
    await loops.keep("a loop", body, account="acc-1")
    await loops.keep("a loop", body)
    assert {key: count.errors for key, count in loops.counts.items()} == {
        ("a loop", "acc-1"): 2,
        ("a loop", ""): 1,
    }


async def test_an_error_of_work_that_ends_by_itself_is_recent_for_five_minutes() -> None:
    """It is counted, without an awaiter."""
    clock = FakeClock()
    loops = Loops(clock)

    async def work() -> None:
        raise KeyError

    await loops.once("a job", work(), account="acc-1")
    (fault,) = loops.recent
    assert (fault.name, fault.account, fault.text) == (
        "a job",
        "acc-1",
        "an internal error: KeyError",
    )
    clock.now += 301
    assert (loops.recent, loops.faults) == ([], 1)


async def test_errors_that_end_in_no_hands_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors of callbacks, of tasks without an awaiter, and of threads."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    loops = Loops(FakeClock())
    loops.install()
    running = asyncio.get_running_loop()

    def fail() -> None:
        raise KeyError

    async def forgotten() -> None:
        raise ZeroDivisionError

    running.call_soon(fail)
    asyncio.create_task(forgotten())  # noqa: RUF006
    threading.Thread(target=fail, name="reader-1").start()
    await until(lambda: gc.collect() >= 0 and loops.faults == 3, "three faults")
    assert {fault.name for fault in loops.recent} == {"event loop", "thread reader"}
    assert sum(one.exc_info is not None for one in caplog.records) == 3


@pytest.mark.parametrize("kind", [KeyError, Unavailable])
async def test_a_loop_that_fails_while_it_ends_is_removed(kind: type[Exception]) -> None:
    """Also a loop that catches every error: an error during cancellation does not keep it alive."""
    loops, begun = Loops(SystemClock()), asyncio.Event()

    async def body(loop: Loop) -> None:
        while True:
            try:
                try:
                    begun.set()
                    await asyncio.Event().wait()
                finally:
                    raise kind("x")
            except Exception as error:
                await loop.failed(error)

    task = loops.start("a loop", body)
    await begun.wait()
    task.cancel()
    async with asyncio.timeout(TIMEOUT):
        await asyncio.wait([task])
    assert task.cancelled()
    assert loops.errors == 1
