"""The HTTP process as a child of the daemon, where systemd starts none: started, watched, and stopped before it.

It gets two connected sockets and no secret: nothing of the daemon's environment but what a program needs to run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wad.core.errors import Unavailable, WadError

if TYPE_CHECKING:
    from wad.api.control import Take
    from wad.api.http_calls import HttpProcesses
    from wad.loops import Loop, Loops

log = logging.getLogger(__name__)

_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV")
_BEGIN_WITHIN: Final = 30.0
_STOP_WITHIN: Final = 5.0


@dataclass(frozen=True)
class Wish:
    """Where it listens: on sockets that listen already, else on an address and a port (0: any free one)."""

    address: str
    port: int
    sockets: Sequence[socket.socket] = ()
    level: str = "info"


@asynccontextmanager
async def spawned(wish: Wish) -> AsyncIterator[HttpChild]:
    """Start it, and stop it when the block ends.  It comes up while the daemon does; then it is `served`."""
    child = HttpChild(wish)
    await child.spawn()
    try:
        yield child
    finally:
        await child.end()


class HttpChild:
    """At most one process."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._process: asyncio.subprocess.Process | None = None
        self._ends: list[socket.socket] = []

    @asynccontextmanager
    async def served(
        self, take: Take, processes: HttpProcesses, loops: Loops
    ) -> AsyncIterator[None]:
        """Answer it, and start another one when it ends, while the block runs.

        Raises what it says when it cannot begin: Conflict (the port is in use), BadConfig (the address).
        """
        await self._attach(take, processes)

        async def watch(loop: Loop) -> None:
            while True:
                if self._process is None:
                    await self.spawn()
                    await self._attach(take, processes)
                    log.warning("another HTTP process was started")
                loop.progress()
                process, self._process = self._process, None
                assert process is not None
                try:
                    code = await process.wait()
                except asyncio.CancelledError:
                    self._process = process
                    raise
                raise _ended(code)

        watching = loops.start("HTTP process", watch, cap=30)
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait((watching,))
            await self.end()

    async def spawn(self) -> None:
        """Start it.  Raises Unavailable."""
        pairs = [socket.socketpair() for _ in range(2)]
        passed = [theirs.fileno() for _, theirs in pairs]
        listening = [sock.fileno() for sock in self._wish.sockets]
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "wad.http",
                f"--connected={','.join(map(str, passed))}",
                f"--listen={','.join(map(str, listening))}",
                f"--address={self._wish.address}",
                f"--port={self._wish.port}",
                f"--log-level={self._wish.level}",
                pass_fds=(*passed, *listening),
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            for ours, _ in pairs:
                ours.close()
            raise Unavailable(f"the HTTP process cannot be started: {error.strerror}") from error
        finally:
            for _, theirs in pairs:
                theirs.close()
        for ours, _ in pairs:
            ours.setblocking(False)
        self._ends = [ours for ours, _ in pairs]

    async def _attach(self, take: Take, processes: HttpProcesses) -> None:
        """Answer it, and wait until it says where it listens.  Raises WadError."""
        process = self._process
        assert process is not None
        processes.failure = None
        while self._ends:
            await take(self._ends.pop(0))
        ended = asyncio.create_task(process.wait())
        try:
            async with asyncio.timeout(_BEGIN_WITHIN):
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
            raise Unavailable("the HTTP process does not say that it listens") from None
        finally:
            ended.cancel()

    async def end(self) -> None:
        """Let it answer what it has begun, and stop it."""
        while self._ends:
            self._ends.pop().close()
        if (process := self._process) is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(_STOP_WITHIN):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _ended(code: int) -> WadError:
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return Unavailable(f"the HTTP process ended {how}; another one is started")
