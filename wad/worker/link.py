"""What ties a worker to its daemon: the socketpair, and the permission to act."""

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

_AT_ONCE: Final = 0.02  # seconds whose news are told together
_LAST_S: Final = 1.0  # seconds to wait for whoever sends, before the end


class DaemonSocket:
    """The daemon's end of the socketpair.  Any thread may send."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._lock = threading.Lock()
        self._spooled = 0
        self._news = threading.Event()
        threading.Thread(target=self._announce, name="announce", daemon=True).start()

    def send(self, frame: wire.Frame) -> None:
        """Write one frame."""
        with self._lock:
            self._socket.sendall(wire.encode(frame))

    def notice(self, method: str, *params: Any) -> None:
        """Tell the daemon something; long words are cut."""
        self.send(
            wire.Notice(method, [_cut(each) if isinstance(each, str) else each for each in params])
        )

    def last_word(self, why: str) -> None:
        """Say why the process ends, if that can be said at once: whoever else sends may hang."""
        if not self._lock.acquire(timeout=_LAST_S):
            return
        with suppress(OSError):  # the daemon is gone, or does not read
            self._socket.send(wire.encode(wire.Notice("ending", [_cut(why)])), socket.MSG_DONTWAIT)

    def spooled(self, seq: int) -> None:
        """Say that there are new rows; never waits, so that a slow daemon cannot hold up what arrives."""
        self._spooled = seq
        self._news.set()

    def _announce(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            self.notice("spooled", self._spooled)
            time.sleep(_AT_ONCE)


def _cut(words: str) -> str:
    """As many as the daemon takes, without what UTF-8 cannot hold."""
    return words[: wire.MAX_WORDS].encode(errors="replace").decode()


class Permission:
    """The right to act, as a time on CLOCK_BOOTTIME; the process ends when it runs out.

    It is a time and no duration, since the daemon shares the clock: however late a busy machine starts this process, or
    lets it read that the lease was renewed, the right ends when the daemon's does.  It is looked at from `watch` on: a
    process that loads does not act, and on a busy machine that takes longer than a lease.
    """

    def __init__(self, until: float, clock: Clock) -> None:
        self._clock = clock
        self._until = until

    def watch(self, catch_up: Callable[[], None] = lambda: None) -> None:
        """End the process when the right has run out, from now on, and at once if it has.

        `catch_up` takes in what the daemon has said: on a machine that is busy for longer than the right lasts, a
        renewal may lie unread when this thread has its turn.
        """
        if self._until <= self._clock.monotonic():
            self._end()
        threading.Thread(
            target=self._watch, args=(catch_up,), name="permission", daemon=True
        ).start()

    def extend(self, until: float) -> None:
        """The lease was renewed; never shortens."""
        self._until = max(self._until, until)

    def _watch(self, catch_up: Callable[[], None]) -> None:
        while True:
            while (left := self._until - self._clock.monotonic()) > 0:
                time.sleep(min(left, 1.0))
            catch_up()
            if self._until <= self._clock.monotonic():
                self._end()

    @staticmethod
    def _end() -> None:
        print("the permission to act ran out", file=sys.stderr, flush=True)
        os._exit(4)
