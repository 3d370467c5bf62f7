"""The start queue, and the threads on which workers are started."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.waiting import until
from wad.flow.accounts.start_queue import StartQueue, Turn
from wad.lib.threads import ThreadPool


def nothing() -> None:
    """Not used."""


async def test_a_few_start_at_once_in_order_of_arrival() -> None:
    """A freed turn goes to the longest-waiting account."""
    turns, started = StartQueue(2), list[int]()
    waiting = [turns.wait(lambda number=number: started.append(number)) for number in range(5)]  # type: ignore[misc]
    assert started == [0, 1]
    waiting[1].release()
    waiting[0].release()
    waiting[0].release()  # a second call frees nothing
    assert started == [0, 1, 2, 3]
    assert turns.waiting == 1


async def test_a_cancelled_turn_is_skipped() -> None:
    """An account that was stopped while it waited."""
    turns = StartQueue(1)
    first, second, third = (turns.wait(nothing) for _ in range(3))
    second.release()
    first.release()
    assert (second.is_granted, third.is_granted) == (False, True)


async def test_pairing_is_served_first() -> None:
    """An account in its pairing window is served before all that only reconnect."""
    turns = StartQueue(1)
    running, again = turns.wait(nothing), turns.wait(nothing)
    person = turns.wait(nothing, first=True)
    running.release()
    assert (person.is_granted, again.is_granted) == (True, False)


async def test_a_start_without_a_report_loses_its_turn() -> None:
    """A worker that hangs while it loads delays others only briefly."""
    turns = StartQueue(1, hold=0.01)
    turns.wait(nothing)
    next_one = turns.wait(nothing)
    await until(lambda: next_one.is_granted, "the turn")


@given(st.lists(st.integers(0, 30), max_size=80), st.integers(1, 5))
def test_no_waiting_turn_is_lost(acts: list[int], width: int) -> None:
    """In any order: never more than the width, and none waits while a turn is free."""

    async def go() -> None:
        turns, all_of_them = StartQueue(width, hold=3600), list[Turn]()
        gone: set[int] = set()
        for act in acts:
            if act < 15 or not all_of_them:
                all_of_them.append(turns.wait(nothing, first=act % 5 == 0))
            else:
                index = act % len(all_of_them)
                all_of_them[index].release()
                gone.add(index)
            present = [turn for n, turn in enumerate(all_of_them) if n not in gone]
            starting = sum(turn.is_granted for turn in present)
            assert starting == min(width, len(present))
            assert turns.waiting == len(present) - starting
        for turn in all_of_them:
            turn.release()

    asyncio.run(go())


# --- threads ----------------------------------------------------------------------------------------


async def test_work_runs_on_a_thread_and_its_error_reaches_the_caller() -> None:
    """The result, the error, and the name of the thread."""
    threads = ThreadPool("test", 1)
    assert await threads.run(lambda: threading.current_thread().name) == "test 0"
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    assert await threads.run(pow, 2, 10) == 1024


async def test_work_cancelled_before_its_turn_is_not_run() -> None:
    """Work that has not begun never will."""
    threads, may_end, done = ThreadPool("test", 1), threading.Event(), list[int]()
    busy = asyncio.create_task(threads.run(may_end.wait))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(threads.run(done.append, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    may_end.set()
    await busy
    await threads.run(time.monotonic)
    assert done == []


async def test_work_without_a_caller_is_done() -> None:
    """Its error does not end the thread."""
    threads, done = ThreadPool("test", 1), list[int]()
    threads.post(lambda: 1 // 0)
    threads.post(done.append, 1)
    await until(lambda: done, "the second")
