"""The standard output of a worker: line by line, up to a limited rate.

A faulty library must neither fill the journal nor keep the daemon busy: beyond the rate lines are counted and dropped,
and the pipe is read slowly, which blocks the writer.  The head of a crash report and the last lines are always kept.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable
from typing import IO, Final

from wad.core.rate import Rate
from wad.lib.clock import Clock

log = logging.getLogger(__name__)

_TAIL: Final = 20  # last lines that are kept
_LONGEST: Final = 4096  # bytes of a line that are kept
_CHUNK: Final = 16 << 10
_BURST: Final = 2000  # lines: the stacks of a crashed Go program are about as many
_PER_SECOND: Final = 50.0
_SLOW: Final = 256 << 10  # bytes per second that are read of a flood
_RECENT: Final = 60.0  # seconds for which a flood is reported, and between two lines about it
_CRASH: Final = re.compile(rb"^(?:panic: |fatal error: |SIG[A-Z]+: )", re.MULTILINE)
"""The beginning of a Go runtime's crash report; hundreds of lines follow, including each thread's stack."""


class WorkerOutput:
    """The output of one worker; `account` is for the log."""

    def __init__(self, on_line: Callable[[str], None], clock: Clock, account: str = "") -> None:
        self._on_line = on_line
        self._clock = clock
        self._account = account
        self._rate = Rate(_BURST, _PER_SECOND, clock.monotonic())
        self._partial = b""
        self._cut = False  # whether to drop the rest of a line that was too long
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.crash: list[str] = []
        """The head of Go's report."""
        self.dropped = 0
        """Lines that were dropped."""
        self.cut_off = 0
        """Bytes of lines that were too long."""
        self._dropped_at: float | None = None
        self._reported_at: float | None = None

    @property
    def dropped_output(self) -> str:
        """How much was dropped because of the rate; empty if nothing was within the last minute."""
        if self._dropped_at is None or self._clock.monotonic() - self._dropped_at > _RECENT:
            return ""
        cut = f" and {self.cut_off >> 10} kB of long lines" if self.cut_off else ""
        return f"the worker floods its output: {self.dropped} lines{cut} were dropped"

    async def read(self, pipe: IO[bytes]) -> None:
        """Read until the writer has closed it."""
        reader = asyncio.StreamReader(limit=_CHUNK)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while data := await reader.read(_CHUNK):
                dropped = self.dropped + self.cut_off
                self.feed(data)
                flooded = self.dropped + self.cut_off > dropped
                await asyncio.sleep(len(data) / _SLOW if flooded else 0)
            self.end()
        finally:
            transport.close()

    def feed(self, data: bytes) -> None:
        """Process received bytes."""
        *lines, rest = data.split(b"\n")
        if lines:
            if self._cut:
                self._lose(len(lines.pop(0)))
            else:
                lines[0] = self._partial + lines[0]
            self._partial, self._cut = b"", False
        if self._cut:
            self._lose(len(rest))
        else:
            self._partial += rest
            if len(self._partial) > _LONGEST:
                lines.append(self._partial)
                self._partial, self._cut = b"", True
        self._take(lines)

    def end(self) -> None:
        """Process the end of the output."""
        if self._partial:
            self._take([self._partial])
            self._partial = b""

    def _take(self, lines: list[bytes]) -> None:
        now = self._clock.monotonic()
        for number, line in enumerate(lines):
            if not self._rate.take(now):
                self._drop(lines[number:], now)
                return
            text = _text(line)
            self._remember(text, starts=_CRASH.match(line) is not None)
            self._on_line(text)

    def _remember(self, text: str, *, starts: bool) -> None:
        self.tail.append(text)
        if len(self.crash) < _TAIL and (self.crash or starts):
            self.crash.append(text)

    def _lose(self, size: int) -> None:
        """Count bytes of a line whose beginning was passed on."""
        if size:
            self.cut_off += size
            self._dropped_at = self._clock.monotonic()
            self._report(self._dropped_at)

    def _drop(self, lines: list[bytes], now: float) -> None:
        self.dropped += len(lines)
        self._dropped_at = now
        if not self.crash:
            whole = b"\n".join(lines)
            if found := _CRASH.search(whole):
                self.crash += map(
                    _text, whole[found.start() :][: _TAIL * _LONGEST].split(b"\n")[:_TAIL]
                )
        elif len(self.crash) < _TAIL:
            self.crash += map(_text, lines[: _TAIL - len(self.crash)])
        self.tail.extend(map(_text, lines[-_TAIL:]))
        self._report(now)

    def _report(self, now: float) -> None:
        """Log it, once a minute."""
        if self._reported_at is None or now - self._reported_at > _RECENT:
            self._reported_at = now
            log.warning("%s", self.dropped_output, extra={"account": self._account})


def _text(line: bytes) -> str:
    return line[:_LONGEST].decode(errors="replace").rstrip()
