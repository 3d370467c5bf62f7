"""What a process uses, as /proc says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wad.usage import Meter, Usage

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


def test_this_process() -> None:
    """The kernel's own files are understood."""
    meter = Meter(os.getpid())
    usage = meter.usage()
    meter.close()
    assert usage is not None
    assert usage.memory > 1 << 20
