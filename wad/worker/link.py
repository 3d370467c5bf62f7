"""The connection of a worker to its daemon: the socketpair, and the permission to act."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from wad.core import wire
from wad.lib.clock import Clock

_REPORT_INTERVAL: Final = 0.02  # seconds; new rows within it are reported together
_LOCK_WAIT: Final = 1.0  # seconds to wait for a thread that sends, before the process ends


class DaemonSocket:
    """The worker's end of the socketpair to the daemon.  Any thread may send."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._lock = threading.Lock()
        self._newest = 0
        self._unreported = threading.Event()
        threading.Thread(target=self._report, name="announce", daemon=True).start()

    def send(self, frame: wire.Frame) -> None:
        """Write one frame."""
        with self._lock:
            self._socket.sendall(wire.encode(frame))

    def notice(self, method: str, *params: Any) -> None:
        """Send a notice to the daemon; long texts are cut."""
        self.send(
            wire.Notice(method, [_cut(each) if isinstance(each, str) else each for each in params])
        )

    def send_final_notice(self, why: str) -> None:
        """Report why the process ends, if that is possible at once: another thread that sends may hang."""
        if not self._lock.acquire(timeout=_LOCK_WAIT):
            return
        with suppress(OSError):  # the daemon is gone, or does not read
            self._socket.send(wire.encode(wire.Notice("ending", [_cut(why)])), socket.MSG_DONTWAIT)

    def report_spooled(self, seq: int) -> None:
        """Report that there are new rows; never waits, so that a slow daemon cannot delay incoming events."""
        self._newest = seq
        self._unreported.set()

    def _report(self) -> None:
        while True:
            self._unreported.wait()
            self._unreported.clear()
            self.notice("spooled", self._newest)
            time.sleep(_REPORT_INTERVAL)


def _cut(text: str) -> str:
    """The text within the daemon's limit, without characters that UTF-8 cannot encode."""
    return text[: wire.MAX_ERROR_TEXT].encode(errors="replace").decode()


class Permission:
    """The permission to act, as a time on CLOCK_BOOTTIME; the process ends when it runs out.

    It is a time and not a duration, since the daemon shares the clock: however late a busy machine starts this process,
    or lets it read a renewal of the lease, it ends when the daemon's does.  It is checked from `watch` on: a
    process that is loading does not act, and on a busy machine loading takes longer than a lease.
    """

    def __init__(self, until: float, clock: Clock) -> None:
        self._clock = clock
        self._until = until

    def watch(self, read_pending: Callable[[], None] = lambda: None) -> None:
        """End the process when the permission runs out, from now on, and at once if it has.

        `read_pending` reads the daemon's frames: on a machine that is busy for longer than the permission lasts, a
        renewal may be unread when this thread runs.
        """
        if self._until <= self._clock.monotonic():
            self._end()
        threading.Thread(
            target=self._watch, args=(read_pending,), name="permission", daemon=True
        ).start()

    def extend(self, until: float) -> None:
        """Extend the permission after a renewal of the lease; never shortens it."""
        self._until = max(self._until, until)

    def _watch(self, read_pending: Callable[[], None]) -> None:
        while True:
            while (left := self._until - self._clock.monotonic()) > 0:
                time.sleep(min(left, 1.0))
            read_pending()
            if self._until <= self._clock.monotonic():
                self._end()

    @staticmethod
    def _end() -> None:
        print("the permission to act ran out", file=sys.stderr, flush=True)
        os._exit(4)
