"""What a worker writes to its standard output: line by line, but no more of it than anybody would read.

A library that goes wild must not fill the journal, nor keep the daemon busy: beyond a rate lines are counted, not
handed on, and the pipe is read slowly, so that whoever floods it waits.  The head of a crash report and the last lines
are kept in any case.
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

_TAIL: Final = 20  # lines of its last words that are kept
_LONGEST: Final = 4096  # bytes of a line that are kept
_CHUNK: Final = 16 << 10
_BURST: Final = 2000  # lines: the stacks of a crashed Go program are about as many
_PER_SECOND: Final = 50.0
_SLOWLY: Final = 256 << 10  # bytes a second that are read of a flood
_RECENT: Final = 60.0  # seconds for which a flood is shown, and between two lines about it
_CRASH: Final = re.compile(rb"^(?:panic: |fatal error: |SIG[A-Z]+: )", re.MULTILINE)
"""How the report of a Go runtime that gives up begins; hundreds of lines follow, each thread's stack among them."""


class WorkerOutput:
    """The output of one worker; `account` is for the log."""

    def __init__(self, on_line: Callable[[str], None], clock: Clock, account: str = "") -> None:
        self._on_line = on_line
        self._clock = clock
        self._account = account
        self._rate = Rate(_BURST, _PER_SECOND, clock.monotonic())
        self._partial = b""
        self._cut = False  # the rest of a line that was too long is to be dropped
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.crash: list[str] = []
        """The head of Go's report."""
        self.dropped = 0
        """Lines that were not handed on."""
        self.cut_off = 0
        """Bytes of lines that were too long."""
        self._dropped_at: float | None = None
        self._told_at: float | None = None

    @property
    def dropped_output(self) -> str:
        """How much was dropped because there was too much of it; empty when nothing was in the last minute."""
        if self._dropped_at is None or self._clock.monotonic() - self._dropped_at > _RECENT:
            return ""
        cut = f" and {self.cut_off >> 10} kB of long lines" if self.cut_off else ""
        return f"the worker floods its output: {self.dropped} lines{cut} were dropped"

    async def read(self, pipe: IO[bytes]) -> None:
        """Until whoever writes has closed it."""
        reader = asyncio.StreamReader(limit=_CHUNK)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while data := await reader.read(_CHUNK):
                dropped = self.dropped + self.cut_off
                self.feed(data)
                flooded = self.dropped + self.cut_off > dropped
                await asyncio.sleep(len(data) / _SLOWLY if flooded else 0)
            self.end()
        finally:
            transport.close()

    def feed(self, data: bytes) -> None:
        """Bytes that came."""
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
        """Nothing more comes."""
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
        """Bytes of a line whose beginning was handed on."""
        if size:
            self.cut_off += size
            self._dropped_at = self._clock.monotonic()
            self._tell(self._dropped_at)

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
        self._tell(now)

    def _tell(self, now: float) -> None:
        """Once a minute."""
        if self._told_at is None or now - self._told_at > _RECENT:
            self._told_at = now
            log.warning("%s", self.dropped_output, extra={"account": self._account})


def _text(line: bytes) -> str:
    return line[:_LONGEST].decode(errors="replace").rstrip()
