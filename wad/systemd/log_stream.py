"""A buffered log stream: a thread writes the lines, so that logging never blocks.

A file on a hanging disk, a pipe without a reader, a full journal stream: the caller, above all the event loop, must not
wait for them.  Lines that the thread cannot write in time are counted and dropped.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from contextlib import suppress
from typing import Final, TextIO

_MOST: Final = 4 << 20
"""The largest buffer in characters: some ten thousand lines."""
_LAST_WRITE: Final = 1.0
"""Seconds in which the buffer is written at the end of the process."""


class LogStream:
    """A buffer in front of `stream`; each `write` is one or more whole lines."""

    def __init__(self, stream: TextIO, most: int = _MOST) -> None:
        self._stream = stream
        self._most = most
        self._waiting: deque[str] = deque()
        self._size = 0
        self._dropped = 0
        self._busy = False
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="log", daemon=True).start()
        atexit.register(self.drain, _LAST_WRITE)

    def write(self, lines: str) -> int:
        """Queue the lines for writing; never waits."""
        with self._changed:
            if self._size + len(lines) > self._most:
                self._dropped += 1
            else:
                self._waiting.append(lines)
                self._size += len(lines)
                self._changed.notify_all()
        return len(lines)

    def flush(self) -> None:
        """Do nothing: the thread flushes each write."""

    def fileno(self) -> int:
        """The file descriptor of the stream behind it."""
        return self._stream.fileno()

    def drain(self, timeout: float) -> bool:
        """Wait until everything is written, at most `timeout` seconds; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                lines = "".join(self._waiting)
                if self._dropped:
                    lines += f"wad.log: {self._dropped} records were dropped: the log's output was too slow\n"
                self._waiting.clear()
                self._size, self._dropped, self._busy = 0, 0, True
            with suppress(
                OSError, ValueError
            ):  # the stream is closed: none is left to report it on
                self._stream.write(lines)
                self._stream.flush()
            with self._changed:
                self._busy = False
                self._changed.notify_all()
