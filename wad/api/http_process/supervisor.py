"""The HTTP process as a child of the daemon where systemd does not start it: served, supervised, and stopped first.

It sends heartbeats, as it sends watchdog pings to systemd elsewhere.  A process without heartbeats is replaced.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from wad.api.http_process.child import HttpChild, start_http
from wad.core.errors import Unavailable, WadError

if TYPE_CHECKING:
    from wad.api.control.server import Take
    from wad.api.http_process.calls import HttpProcesses
    from wad.lib.loops import Loop, Loops

log = logging.getLogger(__name__)

_START_TIMEOUT: Final = 30.0
_STOP_TIMEOUT: Final = 5.0
_CHECK: Final = 2.0  # heartbeats between two checks
_SILENT: Final = 3
"""Consecutive checks without a heartbeat after which a process is replaced.

Checks are counted, not time: a daemon that was stopped itself finds that time's heartbeats at its next check.
"""


class HttpProcess:
    """The supervisor of the HTTP process."""

    def __init__(self, child: HttpChild) -> None:
        self._options = child.options
        self._child: HttpChild | None = child

    @asynccontextmanager
    async def served(
        self, take: Take, processes: HttpProcesses, loops: Loops
    ) -> AsyncIterator[None]:
        """Serve the process, and start a new one when it ends, while the block runs.

        Raises its error when it cannot start: Conflict (the port is in use), BadConfig (the address).
        """
        assert self._child is not None
        await self._attach(self._child, take, processes)

        async def watch(loop: Loop) -> None:
            while True:
                if self._child is None:
                    self._child = start_http(self._options)
                    await self._attach(self._child, take, processes)
                    log.warning("another HTTP process was started")
                loop.progress()
                try:
                    await self._until_it_ends(self._child, processes, loop)
                finally:
                    if self._child.process.poll() is not None:
                        self._child = None

        watching = loops.start("HTTP process", watch, cap=30)
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait((watching,))
            await self.end()

    async def _until_it_ends(self, child: HttpChild, processes: HttpProcesses, loop: Loop) -> None:
        """Wait until the process ends, and kill it if it hangs.  Raises Unavailable with the reason."""
        process, silent = child.process, 0
        ended = asyncio.create_task(_exit(process))
        try:
            beats = processes.heartbeats(process.pid)
            while not (await asyncio.wait((ended,), timeout=_CHECK * child.options.heartbeat))[0]:
                before, beats = beats, processes.heartbeats(process.pid)
                if beats != before:
                    silent = 0
                    loop.progress()
                    continue
                silent += 1
                hung = f"the HTTP process hangs: no heartbeat for {silent * _CHECK * child.options.heartbeat:g} s"
                if silent >= _SILENT:
                    process.kill()
                    await ended
                    raise Unavailable(f"{hung}; another one is started")
                await loop.failed(Unavailable(hung), pause=0)
            raise _ended(ended.result())
        finally:
            ended.cancel()

    async def _attach(self, child: HttpChild, take: Take, processes: HttpProcesses) -> None:
        """Serve the process, and wait for its introduction.  Raises WadError."""
        process = child.process
        processes.failure = None
        while child.ends:
            await take(child.ends.pop(0))
        ended = asyncio.create_task(_exit(process))
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                while process.pid not in {one.pid for one in processes.all}:
                    processes.changed.clear()
                    changed = asyncio.create_task(processes.changed.wait())
                    await asyncio.wait((ended, changed), return_when=asyncio.FIRST_COMPLETED)
                    changed.cancel()
                    if (failure := processes.failure) is not None:
                        raise failure
                    if ended.done():
                        raise _ended(ended.result())
        except TimeoutError:
            process.kill()
            raise Unavailable("the HTTP process did not report that it listens") from None
        finally:
            ended.cancel()

    async def end(self) -> None:
        """Stop the process after its running requests."""
        if (child := self._child) is None or child.process.poll() is not None:
            return
        child.hang_up()
        child.process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await _exit(child.process)
        except TimeoutError:
            child.process.kill()
            await _exit(child.process)


async def _exit(process: subprocess.Popen[bytes]) -> int:
    """Wait for the process and return its exit code."""
    if (code := process.poll()) is not None:
        return code
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    handle = os.pidfd_open(process.pid)
    loop.add_reader(handle, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return process.wait()


def _ended(code: int) -> WadError:
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return Unavailable(f"the HTTP process ended {how}; another one is started")
