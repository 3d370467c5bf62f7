"""A child process with a socketpair to it, and the certainty of its death."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from wad.clock import SystemClock
from wad.core.errors import EngineFailure
from wad.engine.output import Output

_ASKED: Final = frozenset({signal.SIGKILL, signal.SIGTERM})


class Process:
    """A child that was exec'ed (never forked: Go's threads do not survive that, engine.md 3).

    `ended` is done, with the exit status, when the kernel says that it is gone.  Its output goes line by line to
    `on_line`, as `Output` says; `account` is for the log.
    """

    def __init__(
        self, popen: subprocess.Popen[bytes], on_line: Callable[[str], None], account: str = ""
    ) -> None:
        self._popen = popen
        self.pid = popen.pid
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._pidfd = os.pidfd_open(popen.pid)
        loop.add_reader(self._pidfd, self._reap)
        assert popen.stdout is not None
        self.output = Output(on_line, SystemClock(), account)
        self._reading = loop.create_task(
            self.output.read(popen.stdout), name=f"output of {popen.pid}"
        )

    @staticmethod
    def start(
        argv: Sequence[str],
        environ: Mapping[str, str],
        child_end: socket.socket,
        on_line: Callable[[str], None],
        account: str = "",
    ) -> Process:
        """Start it; `child_end` stays open in the child only.  Raises EngineFailure."""
        try:
            popen = subprocess.Popen(
                argv,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[child_end.fileno()],
                # Ctrl-C in a terminal is for the daemon, which ends its workers in its own order.
                start_new_session=True,
            )
        except OSError as error:
            raise EngineFailure(f"cannot start a worker: {error}") from error
        finally:
            child_end.close()
        return Process(popen, on_line, account)

    def terminate(self) -> None:
        """SIGTERM: it may end in its own order."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; `ended` follows."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self.ended.done():
            self._popen.send_signal(number)

    def _reap(self) -> None:
        status = self._popen.poll()
        if status is None:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.ended.set_result(status)

    async def drained(self, timeout: float | None = None) -> None:
        """Until its whole output was read, or for `timeout` seconds: a child of its own may hold the pipe open."""
        await asyncio.wait([self._reading], timeout=timeout)
        self._reading.cancel()

    def reason(self) -> str:
        """How it ended, in one sentence; ask once `ended` is done and the output is drained."""
        status = self.ended.result()
        if status < 0:
            how = f"the worker was killed by {signal.Signals(-status).name}"
        else:
            how = f"the worker ended with code {status}"
        return f"{how} ({self.output.crash[0]})" if self.output.crash else how

    def last_words(self) -> Sequence[str]:
        """What it wrote when it crashed: the head of Go's report, else the end of its output; ask as for `reason`.

        Empty when it ended by itself or was asked to.  Go ends a crashed process by SIGABRT, or by the SIGQUIT with
        which it asks its other threads for their stacks: inside of Python nothing handles that.
        """
        if self.output.crash:
            return self.output.crash
        status = self.ended.result()
        return () if status >= 0 or -status in _ASKED else tuple(self.output.tail)
