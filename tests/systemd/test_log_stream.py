"""Logging never blocks: the log's stream may hang, fill up or close."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from wad.systemd.log_stream import LogStream

TIMEOUT = 30.0


class Slow(io.StringIO):
    """A stream that hangs until it is released; `begun` once a write has started."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.may = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.begun.set()
        self.may.wait()
        return super().write(text)


@pytest.fixture
def slow() -> Iterator[Slow]:
    """A slow stream that is released at the end."""
    stream = Slow()
    yield stream
    stream.may.set()


def test_lines_come_in_their_order() -> None:
    """All lines, from every thread."""
    behind = io.StringIO()
    stream = LogStream(behind)
    lines = [f"line {number}\n" for number in range(1000)]
    for line in lines:
        stream.write(line)
    assert stream.drain(TIMEOUT)
    assert behind.getvalue() == "".join(lines)


def test_a_stream_that_hangs_is_not_waited_for(slow: Slow) -> None:
    """The buffer is bounded; dropped lines are counted, and reported where they are missing."""
    stream = LogStream(slow, most=100)
    stream.write("first\n")
    assert slow.begun.wait(TIMEOUT)
    for number in range(100):
        stream.write(f"{number:09}\n")
    assert not stream.drain(0)
    slow.may.set()
    assert stream.drain(TIMEOUT)
    stream.write("last\n")
    assert stream.drain(TIMEOUT)
    kept = "".join(f"{number:09}\n" for number in range(10))
    reported = "wad.log: 90 records were dropped: the log's output was too slow\n"
    assert slow.getvalue() == f"first\n{kept}{reported}last\n"


def test_an_unread_pipe_is_not_waited_for() -> None:
    """Through logging, with more than any pipe holds."""
    ours, theirs = os.pipe()
    with open(theirs, "w", encoding="utf-8") as pipe, open(ours, encoding="utf-8") as reader:
        stream = LogStream(pipe)
        handler = logging.StreamHandler(stream)
        for number in range(2000):
            handler.handle(logging.makeLogRecord({"msg": f"{number} {'x' * 1000}"}))
        for number in range(2000):
            assert reader.readline().startswith(f"{number} x")
        assert stream.drain(TIMEOUT)


class Gone(io.StringIO):
    """A stream without a reader."""

    tries = 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise BrokenPipeError


def test_a_stream_that_is_gone_ends_nothing() -> None:
    """Lines that it refuses are lost; the next lines are tried."""
    gone = Gone()
    stream = LogStream(gone)
    for _ in range(3):
        stream.write("not read\n")
        assert stream.drain(TIMEOUT)
    assert gone.tries == 3


def test_a_process_that_ends_has_written_its_last_lines() -> None:
    """Also those of an uncaught error."""
    script = """
import sys
from wad.systemd.log import install
from wad.systemd.log_stream import LogStream
install('info', {}, LogStream(sys.stderr))
raise ValueError('the end')
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ended by an uncaught error" in done.stderr
    assert "ValueError: the end" in done.stderr
