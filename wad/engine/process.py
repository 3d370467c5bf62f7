"""A child process with a socketpair, and proof of its end."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wad.core.errors import EngineFailure
from wad.engine.output import WorkerOutput
from wad.engine.port import FAULT
from wad.lib.clock import SystemClock
from wad.lib.procfs import Meter, Usage, open_meter

_NICE: Final = 19
"""The maximum: of 300 workers that dial at once, five steps left the daemon two hundredths of a core (seen)."""
_WEIGHT: Final = 4
_ATTEMPTS: Final = 30
_RETRY_DELAY: Final = 0.1  # seconds
_REQUESTED: Final = frozenset({signal.SIGKILL, signal.SIGTERM})


@dataclass(frozen=True, slots=True)
class Child:
    """A started process, the handle by which the kernel reports its end, and the meter of what it uses."""

    popen: subprocess.Popen[bytes]
    pidfd: int
    meter: Meter

    def give_up(self) -> None:
        """Kill it and wait for its end, when nothing will watch it."""
        os.close(self.pidfd)
        self.meter.close()
        _reap(self.popen)


def spawn(
    argv: Sequence[str],
    environ: Mapping[str, str],
    child_end: socket.socket,
    on_pid: Callable[[int], None] = lambda pid: None,
) -> Child:
    """Start a process; `child_end` stays open in the child only, `on_pid(pid)` is called before anything else happens.

    It blocks until the child runs its program, on a busy machine for a while: call it on a thread, and on one that
    lives as long as the child may (wad/lib/threads.py).  Raises EngineFailure; then nothing is left of the child.
    """
    try:
        popen = subprocess.Popen(
            argv,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[child_end.fileno()],
            # Ctrl-C in a terminal is for the daemon, which stops its workers in its own order.
            start_new_session=True,
        )
    except OSError as error:
        raise cannot_start(error) from error
    finally:
        child_end.close()
    meter = open_meter(popen.pid)
    try:
        on_pid(popen.pid)
        return Child(popen, os.pidfd_open(popen.pid), meter)
    except BaseException as error:
        meter.close()
        _reap(popen)
        if isinstance(error, OSError):
            raise cannot_start(error) from error
        raise


def lower_priority(pid: int, together: int) -> None:
    """Give a process, which has its own session, less CPU than the daemon gets where there is not enough.

    The kernel first weighs whole sessions against each other (autogroup), then the processes of one by `nice`.  In one
    session with its workers the daemon would pay for what they use: it was seen to wait for a second.
    `together`: the number of such processes.  Raises OSError.
    """
    os.setpriority(os.PRIO_PROCESS, pid, _NICE)
    try:
        weight = os.open(f"/proc/{pid}/autogroup", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # this kernel does not weigh sessions
    try:
        for _ in range(_ATTEMPTS):
            try:
                os.write(weight, str(session_nice(together)).encode())
            except BlockingIOError:  # one write per tenth of a second, except for root
                time.sleep(_RETRY_DELAY)
            else:
                return
    finally:
        os.close(weight)


def session_nice(together: int) -> int:
    """The niceness of each of `together` sessions, so that all of them weigh about as much as four at 0.

    The daemon, which is one session at 0, then has a share of each core however many they are, and a few workers are no
    slower than other programs on the machine.  A step is a factor of 1.25 (sched(7)).
    """
    return min(_NICE, math.ceil(math.log(max(1.0, together / _WEIGHT), 1.25)))


def cannot_start(error: OSError | RuntimeError) -> EngineFailure:
    """The reason for this account, with the limits to raise."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EMFILE, errno.ENFILE):
        what = "too many files are open; each account needs about ten (LimitNOFILE=, ulimit -n)"
    elif number in (errno.EAGAIN, errno.ENOMEM) or isinstance(error, RuntimeError):
        what = f"{error}; each account needs about 20 threads and 40 MB (TasksMax=, MemoryMax=, ulimit -u)"
    else:
        what = str(error)
    return EngineFailure(f"cannot start a worker: {what}")


def _reap(popen: subprocess.Popen[bytes]) -> None:
    popen.kill()
    popen.wait()
    if popen.stdout is not None:
        popen.stdout.close()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time signals have none
        return f"signal {number}"


class Process:
    """A child started by exec (never only forked: Go's threads do not survive that, docs/internals/library.md#loading).

    `ended` is done, with the exit status, when the kernel reports its end.  Its output is passed line by line to
    `on_line`, as `WorkerOutput` describes; `account` is for the log.  Raises EngineFailure if the kernel has no more
    handles; then the child is gone.
    """

    def __init__(self, child: Child, on_line: Callable[[str], None], account: str = "") -> None:
        self._popen = child.popen
        self._pidfd = child.pidfd
        self._meter = child.meter
        self.pid = child.popen.pid
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = loop.create_future()
        try:
            loop.add_reader(self._pidfd, self._reap)
        except OSError as error:
            child.give_up()
            raise cannot_start(error) from error
        self.output = WorkerOutput(on_line, SystemClock(), account)
        self._reading = loop.create_task(self._read(), name=f"output of {self.pid}")

    @staticmethod
    def start(
        argv: Sequence[str],
        environ: Mapping[str, str],
        child_end: socket.socket,
        on_line: Callable[[str], None],
        account: str = "",
    ) -> Process:
        """Start it on this thread; `child_end` stays open in the child only.  Raises EngineFailure."""
        return Process(spawn(argv, environ, child_end), on_line, account)

    @property
    def usage(self) -> Usage | None:
        """What it uses now."""
        return self._meter.usage()

    def terminate(self) -> None:
        """SIGTERM: it may stop gracefully."""
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
        self._meter.close()
        self.ended.set_result(status)

    async def drained(self, timeout: float | None = None) -> None:
        """Wait until its whole output is read, `timeout` seconds at most: a child of its own may hold the pipe open."""
        await asyncio.wait([self._reading], timeout=timeout)
        self._reading.cancel()

    async def _read(self) -> None:
        assert self._popen.stdout is not None
        try:
            await self.output.read(self._popen.stdout)
        except OSError as error:  # a pipe that is not emptied would block it eventually
            self.output.crash.append(str(cannot_start(error)))
            self._popen.stdout.close()
            self.kill()

    def reason(self) -> str:
        """How it ended, in one sentence; call it once `ended` is done and the output is drained."""
        status = self.ended.result()
        how = f"was killed by {_name(-status)}" if status < 0 else f"ended with code {status}"
        return f"the worker {how}" + (f" ({self.output.crash[0]})" if self.output.crash else "")

    def crash_report(self) -> Sequence[str]:
        """Its output about a crash: the head of Go's report, else the end of its output (Python's traceback).

        Call it like `reason`.  Empty if it ended by itself or on request.  Go ends a crashed process by SIGABRT, or by
        the SIGQUIT with which it asks its other threads for their stacks: inside Python nothing handles that.
        """
        if self.output.crash:
            return self.output.crash
        status = self.ended.result()
        by_itself = status >= 0 and status != FAULT
        return () if by_itself or -status in _REQUESTED else tuple(self.output.tail)
