"""Where the log's lines go, behind the back of whoever logs.

A file on a disk that hangs, a pipe that nobody reads, a journal's stream that is full: whoever logs, the event loop
before all, must not wait for them.  A thread writes; what it cannot write in time is counted and dropped.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from contextlib import suppress
from typing import Final, TextIO

_MOST: Final = 4 << 20
"""Characters that wait at most: some ten thousand lines."""
_PARTING: Final = 1.0
"""Seconds that what waits may take when the process ends."""


class LogStream:
    """A stream in front of `stream`; each `write` is one or more whole lines."""

    def __init__(self, stream: TextIO, most: int = _MOST) -> None:
        self._stream = stream
        self._most = most
        self._waiting: deque[str] = deque()
        self._size = 0
        self._dropped = 0
        self._busy = False
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="log", daemon=True).start()
        atexit.register(self.drain, _PARTING)

    def write(self, lines: str) -> int:
        """Have them written; never waits."""
        with self._changed:
            if self._size + len(lines) > self._most:
                self._dropped += 1
            else:
                self._waiting.append(lines)
                self._size += len(lines)
                self._changed.notify_all()
        return len(lines)

    def flush(self) -> None:
        """Nothing: each write is flushed when its turn comes."""

    def fileno(self) -> int:
        """The one of the stream behind."""
        return self._stream.fileno()

    def drain(self, timeout: float) -> bool:
        """Wait until all was written, so many seconds at most; whether it was."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                lines = "".join(self._waiting)
                if self._dropped:
                    lines += f"wad.log: {self._dropped} records were dropped: what they go to was too slow\n"
                self._waiting.clear()
                self._size, self._dropped, self._busy = 0, 0, True
            with suppress(OSError, ValueError):  # it is gone: there is nowhere left to say so
                self._stream.write(lines)
                self._stream.flush()
            with self._changed:
                self._busy = False
                self._changed.notify_all()
