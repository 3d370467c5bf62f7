"""Memory and processor time of a process, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wad.lib.procfs import Meter, Usage, open_meter, starved_of

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with one process, whose name tries to be a field."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "statm").write_text("900 30 20 1 0 100 0\n")
    fields = " ".join(["S", *["0"] * 10, str(3 * TICK), str(TICK), *["0"] * 30])
    (tmp_path / "7" / "stat").write_text(f"7 (a) 1 (b c) {fields}\n")
    return tmp_path


def test_resident_memory_and_processor_time(proc: Path) -> None:
    """Pages and ticks become bytes and seconds, in user and kernel mode together."""
    assert Meter(7, proc).usage() == Usage(30 * PAGE, 4.0)


def test_a_process_that_is_gone(proc: Path) -> None:
    """Unknown, not zero."""
    assert Meter(8, proc).usage() is None


def test_a_process_that_is_hidden_at_first(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a child of the daemon is until a moment after it was started: the meter is opened once it can be."""
    (proc / "7").rename(proc / "hidden")
    delays: list[float] = []

    def sleep(seconds: float) -> None:
        delays.append(seconds)
        if len(delays) == 3:
            (proc / "hidden").rename(proc / "7")

    monkeypatch.setattr("wad.lib.procfs.time.sleep", sleep)
    assert open_meter(7, proc).usage() == Usage(30 * PAGE, 4.0)
    assert len(delays) == 3


def test_a_process_that_stays_hidden(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening ends, and the usage is unknown."""
    monkeypatch.setattr("wad.lib.procfs.time.sleep", lambda _: None)
    assert open_meter(8, proc).usage() is None


def test_this_process() -> None:
    """The kernel's own files are understood."""
    meter = Meter(os.getpid())
    usage = meter.usage()
    meter.close()
    assert usage is not None
    assert usage.memory > 1 << 20


def test_how_long_a_process_waited_for_a_processor(proc: Path) -> None:
    """All threads together; a thread that ends meanwhile is left out, and an ended process gives 0."""
    for thread, text in (("7", "5 1500000000 9\n"), ("8", "5 500000000 9\n"), ("9", "")):
        (proc / "7" / "task" / thread).mkdir(parents=True)
        (proc / "7" / "task" / thread / "schedstat").write_text(text)
    assert starved_of(7, proc) == 2.0
    assert starved_of(8, proc) == 0.0
    assert starved_of(os.getpid()) >= 0.0
