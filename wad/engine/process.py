"""A child process with a socketpair to it, and the certainty of its death."""

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
from wad.lib.procfs import Meter, Usage

_NICE: Final = 19
"""As nice as can be: of 300 workers that dial at once, five steps left the daemon two hundredths of a core (seen)."""
_WEIGHT: Final = 4
_TRIES: Final = 30
_APART: Final = 0.1  # seconds
_ASKED: Final = frozenset({signal.SIGKILL, signal.SIGTERM})


@dataclass(frozen=True, slots=True)
class Child:
    """A process that was started, the handle by which the kernel tells of its end, and what it uses."""

    popen: subprocess.Popen[bytes]
    pidfd: int
    meter: Meter

    def give_up(self) -> None:
        """Kill it and wait for its end: nobody will watch it."""
        os.close(self.pidfd)
        self.meter.close()
        _reap(self.popen)


def spawn(
    argv: Sequence[str],
    environ: Mapping[str, str],
    child_end: socket.socket,
    place: Callable[[int], None] = lambda pid: None,
) -> Child:
    """Start a process; `child_end` stays open in the child only, `place(pid)` is called before anything else happens.

    It blocks until the child runs its program, on a busy machine for a while: it is for a thread, and for one that
    lives as long as the child may (wad/lib/threads.py).  Raises EngineFailure; then nothing is left of it.
    """
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
        raise cannot_start(error) from error
    finally:
        child_end.close()
    meter = Meter(popen.pid)
    try:
        place(popen.pid)
        return Child(popen, os.pidfd_open(popen.pid), meter)
    except BaseException as error:
        meter.close()
        _reap(popen)
        if isinstance(error, OSError):
            raise cannot_start(error) from error
        raise


def give_way(pid: int, together: int) -> None:
    """Let a process, of a session of its own, run after the daemon where there is not enough CPU.

    The kernel weighs whole sessions against each other first (autogroup), and then the processes of one by `nice`.  In
    one session with its workers the daemon would pay for what they take: it was seen to wait for a second.
    `together`: how many such processes there are.  Raises OSError.
    """
    os.setpriority(os.PRIO_PROCESS, pid, _NICE)
    try:
        weight = os.open(f"/proc/{pid}/autogroup", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # this kernel weighs no sessions
    try:
        for _ in range(_TRIES):
            try:
                os.write(weight, str(session_nice(together)).encode())
            except BlockingIOError:  # it takes one of these in a tenth of a second, but of root
                time.sleep(_APART)
            else:
                return
    finally:
        os.close(weight)


def session_nice(together: int) -> int:
    """The niceness of each of so many sessions, so that all together weigh about as much as four at 0.

    The daemon, which is one at 0, then has a share of each core however many they are, and a few workers are no slower
    than what else runs on the machine.  A step is a factor of 1.25 (sched(7)).
    """
    return min(_NICE, math.ceil(math.log(max(1.0, together / _WEIGHT), 1.25)))


def cannot_start(error: OSError | RuntimeError) -> EngineFailure:
    """The one account's reason, in words that say what to do."""
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
    """A child that was exec'ed (never forked: Go's threads do not survive that, docs/internals/library.md#loading).

    `ended` is done, with the exit status, when the kernel says that it is gone.  Its output goes line by line to
    `on_line`, as `WorkerOutput` says; `account` is for the log.  Raises EngineFailure where the kernel gives no more
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
        """Start it here and now; `child_end` stays open in the child only.  Raises EngineFailure."""
        return Process(spawn(argv, environ, child_end), on_line, account)

    @property
    def usage(self) -> Usage | None:
        """What it uses now."""
        return self._meter.usage()

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
        self._meter.close()
        self.ended.set_result(status)

    async def drained(self, timeout: float | None = None) -> None:
        """Until its whole output was read, or for `timeout` seconds: a child of its own may hold the pipe open."""
        await asyncio.wait([self._reading], timeout=timeout)
        self._reading.cancel()

    async def _read(self) -> None:
        assert self._popen.stdout is not None
        try:
            await self.output.read(self._popen.stdout)
        except OSError as error:  # a pipe that nobody empties would stop it one day
            self.output.crash.append(str(cannot_start(error)))
            self._popen.stdout.close()
            self.kill()

    def reason(self) -> str:
        """How it ended, in one sentence; ask once `ended` is done and the output is drained."""
        status = self.ended.result()
        how = f"was killed by {_name(-status)}" if status < 0 else f"ended with code {status}"
        return f"the worker {how}" + (f" ({self.output.crash[0]})" if self.output.crash else "")

    def last_words(self) -> Sequence[str]:
        """What it wrote when it crashed: the head of Go's report, else the end of its output (Python's traceback).

        Ask as for `reason`.

        Empty when it ended by itself or was asked to.  Go ends a crashed process by SIGABRT, or by the SIGQUIT with
        which it asks its other threads for their stacks: inside of Python nothing handles that.
        """
        if self.output.crash:
            return self.output.crash
        status = self.ended.result()
        by_itself = status >= 0 and status != FAULT
        return () if by_itself or -status in _ASKED else tuple(self.output.tail)
