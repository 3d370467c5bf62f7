"""The daemon's signal handlers: a signal stops it, reloads the configuration, or is ignored.

The handlers are set before anything else and stay until the end of the process, so that a signal has the same effect in
every phase.  Signals keep their default if they report a fault (SIGSEGV), request a core dump (SIGQUIT, SIGABRT) or do
not end a process.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    # Not imported at run time: commands that only read the configuration, and workers, need no event loop.
    from asyncio import AbstractEventLoop

log = logging.getLogger(__name__)

STOPPED: Final = 130
"""The exit code after a second or a third signal, as shells use it for SIGINT."""

STOP: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU)
RELOAD: Final = signal.SIGHUP
_WITH_DEFAULT: Final = frozenset(
    {
        # They cannot be handled.
        signal.SIGKILL, signal.SIGSTOP,
        # They report a fault, or request a core dump.
        signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP, signal.SIGABRT,
        signal.SIGQUIT,
        # Their default does not end a process, or Python handles them.
        signal.SIGCHLD, signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH, signal.SIGURG,
        signal.SIGPIPE, signal.SIGXFSZ,
    }
)  # fmt: skip
UNUSED: Final = tuple(sorted(signal.valid_signals() - _WITH_DEFAULT - {*STOP, RELOAD}))
"""Signals that would end a process without a handler, and have no use here: SIGUSR1, SIGALRM and so on."""


class SignalReceiver(Protocol):
    """The receiver of signals."""

    def stop(self) -> None:
        """Stop gracefully; faster on each further call."""
        ...

    def reload(self) -> None:
        """Read the configuration again."""
        ...


class Signals:
    """The signal handlers of the process, set once on the main thread before the event loop runs."""

    def __init__(self) -> None:
        self._loop: AbstractEventLoop | None = None
        self._receiver: SignalReceiver | None = None
        self._stop = False
        self._logged: set[int] = set()
        for number in STOP:
            signal.signal(number, self._on_stop)
        signal.signal(RELOAD, self._on_reload)
        for number in UNUSED:
            signal.signal(number, self._on_unused)

    @property
    def stopped(self) -> bool:
        """Whether a stop was ordered before there was a receiver."""
        return self._stop

    def deliver_to(self, receiver: SignalReceiver) -> None:
        """Deliver signals to `receiver` on the running event loop from now on; an earlier stop is delivered at once."""
        from asyncio import get_running_loop

        self._loop, self._receiver = get_running_loop(), receiver
        if self._stop:
            receiver.stop()

    @staticmethod
    def ignore_rest() -> None:
        """Ignore all signals but those that stop, at the end of the program.

        Python removes its handlers before the process ends, or the process executes the program again; until that
        program sets its handlers, no other signal may end it.
        """
        for number in (RELOAD, *UNUSED):
            signal.signal(number, signal.SIG_IGN)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        if self._receiver is not None:
            self._soon(self._receiver.stop)
        elif self._stop:
            os._exit(STOPPED)
        else:
            self._stop = True

    def _on_reload(self, number: int, _frame: FrameType | None) -> None:
        # Without a receiver the daemon is starting, and has just read the configuration.
        if self._receiver is not None:
            self._soon(self._receiver.reload)

    def _on_unused(self, number: int, _frame: FrameType | None) -> None:
        if number not in self._logged:
            self._logged.add(number)
            self._soon(lambda: log.warning("ignored signal %s: wad does not use it", _name(number)))

    def _soon(self, act: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and the process ends soon
                self._loop.call_soon_threadsafe(act)


def ignore_daemon_signals() -> None:
    """Ignore the daemon's signals in a worker: the daemon stops its workers itself, gracefully."""
    for number in (signal.SIGINT, RELOAD, *UNUSED):
        signal.signal(number, signal.SIG_IGN)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # the real-time signals have none
        return f"signal {number}"
