"""A worker's output: lines are passed on, a flood is counted and cut."""

from __future__ import annotations

import asyncio
import socket
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_daemon import FakeClock
from wad.engine.output import WorkerOutput
from wad.engine.process import Process


def output(lines: list[str]) -> tuple[WorkerOutput, FakeClock]:
    """An output whose lines go there."""
    clock = FakeClock()
    return WorkerOutput(lines.append, clock, "acc-1"), clock


_texts = st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=20)


@given(st.lists(_texts, max_size=20), st.lists(st.integers(0, 300), max_size=5))
def test_lines_survive_any_split(texts: list[str], cuts: list[int]) -> None:
    """However the bytes are cut."""
    lines: list[str] = []
    taken, _ = output(lines)
    data = "".join(f"{text}\n" for text in texts).encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for low, high in pairwise(edges):
        taken.feed(data[low:high])
    taken.end()
    assert lines == [text.rstrip() for text in texts]
    assert taken.dropped_output == ""


def test_a_flood_is_counted_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the rate nothing is passed on; the account has a warning for a minute."""
    lines: list[str] = []
    taken, clock = output(lines)
    for _ in range(100):
        taken.feed(b"y\n" * 1000)
    assert len(lines) == 2000
    assert taken.dropped == 98_000
    assert taken.dropped_output == "the worker floods its output: 98000 lines were dropped"
    assert len(caplog.records) == 1
    clock.now += 61
    assert taken.dropped_output == ""
    taken.feed(b"quiet again\n")
    assert lines[-1] == "quiet again"
    assert len(caplog.records) == 1


def test_a_crash_within_a_flood_is_kept() -> None:
    """The head of the report and the last lines, although none of them is passed on."""
    lines: list[str] = []
    taken, _ = output(lines)
    taken.feed(b"y\n" * 10_000)
    taken.feed(b"y\n" * 100 + b"panic: oh no\n" + b"a stack\n" * 5)
    taken.feed(b"more\n" * 50)
    assert "panic: oh no" not in lines
    assert taken.crash[:2] == ["panic: oh no", "a stack"]
    assert len(taken.crash) == 20
    assert list(taken.tail) == ["more"] * 20


def test_a_line_without_end_is_cut() -> None:
    """Its beginning is kept, the rest dropped, and the next line is whole."""
    lines: list[str] = []
    taken, _ = output(lines)
    for _ in range(100):
        taken.feed(b"x" * 1000)
    taken.feed(b"x\nnext\n")
    assert [len(line) for line in lines] == [4096, 4]
    assert lines[1] == "next"
    assert taken.cut_off == 95_001
    assert "92 kB of long lines" in taken.dropped_output


@pytest.mark.parametrize("output", ["b'y\\n' * 30_000", "b'y' * 30_000"], ids=["lines", "one line"])
async def test_a_worker_that_only_writes_blocks_nothing(output: str) -> None:
    """The loop runs during a flood, and the process can be ended."""
    lines: list[str] = []
    ours, theirs = socket.socketpair()
    process = Process.start(
        [sys.executable, "-c", f"import os\nwhile True: os.write(1, {output})"],
        {},
        theirs,
        lines.append,
    )
    async with asyncio.timeout(60):
        while not process.output.dropped_output:
            await asyncio.sleep(0.01)
    assert len(lines) < 10_000
    process.kill()
    await asyncio.wait_for(process.ended, 60)
    await process.drained(5)
    ours.close()
