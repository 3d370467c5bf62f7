"""What signals mean to the daemon: stop, read the configuration again, or nothing; none ends it by default.

Handlers are set before anything else is done and stay to the end of the process, so that a signal means the same in
every phase.  Left alone are those that report a fault (SIGSEGV), ask for a core dump (SIGQUIT, SIGABRT) or end nothing.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Final, Protocol

if (
    TYPE_CHECKING
):  # a command that only looks at the configuration, and a worker, need no event loop
    from asyncio import AbstractEventLoop

log = logging.getLogger(__name__)

STOPPED: Final = (
    130  # the exit code after the second signal, or the third: as a shell has it for SIGINT
)

STOP: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU)
RELOAD: Final = signal.SIGHUP
_LEFT_ALONE: Final = frozenset(
    {
        # Nobody can handle them.
        signal.SIGKILL, signal.SIGSTOP,
        # They report a fault, or ask for a core dump.
        signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP, signal.SIGABRT,
        signal.SIGQUIT,
        # Their default ends nothing, or Python handles them.
        signal.SIGCHLD, signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH, signal.SIGURG,
        signal.SIGPIPE, signal.SIGXFSZ,
    }
)  # fmt: skip
MEANINGLESS: Final = tuple(sorted(signal.valid_signals() - _LEFT_ALONE - {*STOP, RELOAD}))
"""Those that would end a process that does not handle them, and mean nothing here: SIGUSR1, SIGALRM and so on."""


class Orders(Protocol):
    """Who is told."""

    def stop(self) -> None:
        """End in order, or sooner where that was said before."""
        ...

    def reload(self) -> None:
        """Read the configuration again."""
        ...


class Signals:
    """Set once, on the main thread, before the event loop runs."""

    def __init__(self) -> None:
        self._loop: AbstractEventLoop | None = None
        self._orders: Orders | None = None
        self._stop = False
        self._said: set[int] = set()
        for number in STOP:
            signal.signal(number, self._on_stop)
        signal.signal(RELOAD, self._on_reload)
        for number in MEANINGLESS:
            signal.signal(number, self._on_meaningless)

    def obey(self, orders: Orders) -> None:
        """From now on these orders are given, on the running event loop; what was said before is not forgotten."""
        from asyncio import get_running_loop

        self._loop, self._orders = get_running_loop(), orders
        if self._stop:
            orders.stop()

    @staticmethod
    def leave() -> None:
        """All is done: Python takes its handlers away before it ends, or the same process runs its program anew.

        Until then, and until that sets its own, what would not stop it is ignored.
        """
        for number in (RELOAD, *MEANINGLESS):
            signal.signal(number, signal.SIG_IGN)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        if self._orders is not None:
            self._soon(self._orders.stop)
        elif self._stop:
            os._exit(STOPPED)
        else:
            self._stop = True

    def _on_reload(self, number: int, _frame: FrameType | None) -> None:
        # Before there is anybody to be told, the configuration was only just read.
        if self._orders is not None:
            self._soon(self._orders.reload)

    def _on_meaningless(self, number: int, _frame: FrameType | None) -> None:
        if number not in self._said:
            self._said.add(number)
            self._soon(
                lambda: log.warning("%s means nothing to wad, and is ignored", _name(number))
            )

    def _soon(self, act: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and the process is about to
                self._loop.call_soon_threadsafe(act)


def ignore_what_is_the_daemons() -> None:
    """In a worker: whoever signals all processes of the service means the daemon, which ends its workers in order."""
    for number in (signal.SIGINT, RELOAD, *MEANINGLESS):
        signal.signal(number, signal.SIG_IGN)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time signals have none
        return f"signal {number}"
