"""Library to spool: every event that carries a fact, translated where possible, committed in the order it came.

The library's handler hands an event in; a thread of its own writes.  While WhatsApp hears of a message only after the
commit, the handler may return at once (`patient`).  Then commits of a burst begin 10 ms apart, and each takes with it
whatever has been handed in meanwhile; the first after a pause is made at once.  A commit costs ten times the CPU of a
row, and it is the library that needs the CPU.  Every commit is synced.  Where WhatsApp hears of a message before, the
handler waits for its commit, since to return is to make room in a queue whose messages count as delivered.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from wad.core.errors import StateUnwritable, Unavailable
from wad.lib.clock import Clock
from wad.state.spool import Arrival, Spool
from wad.worker.translation import KEPT, translated

__all__ = ["KEPT", "Inbox"]

_MOST: Final = (
    64  # events that may wait for the disk; each may hold a thread of the library with its receipt
)
_APART: Final = 0.01  # seconds between the beginnings of two commits
_DISK_RETRY: Final = 0.5  # seconds between tries while the disk refuses


class _Item(NamedTuple):
    """Something to be done in its turn.  `name` says what the event was about, as wad/worker/log_lines.py names it."""

    name: str
    arrivals: tuple[Arrival, ...]
    action: Callable[[], None] | None = None


class Inbox:
    """What has arrived and is to be stored.

    `read_vote(raw)` tells what a Message event votes for, or raises EngineFailure (wad/worker/votes.py).
    All callbacks run on the writing thread: `on_stored(seq)` when there are new rows, `on_done(names)` with what each
    event that is dealt with was about, in order, `on_held(why)` while the disk refuses and with an empty text when it
    does no more, `on_failed(error)` for anything else, after which nothing more is written.  `pause(seconds)` is how
    the writing thread lets a burst gather.
    """

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        *,
        read_vote: Callable[[bytes], tuple[bytes, ...]],
        patient: bool,
        on_stored: Callable[[int], None],
        on_done: Callable[[list[str]], None],
        on_held: Callable[[str], None],
        on_failed: Callable[[BaseException], None],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._read_vote = read_vote
        self._patient = patient
        self._on_stored = on_stored
        self._on_done = on_done
        self._on_held = on_held
        self._on_failed = on_failed
        self._pause = pause
        self._queue: deque[_Item] = deque()
        self._busy = 0  # items that were taken from the queue and are not done
        self._changed = threading.Condition()
        self.last_event = clock.monotonic()
        threading.Thread(target=self._work, name="inbox", daemon=True).start()

    # --- what arrives, on the library's thread ----------------------------------------------------

    def take(self, name: str, raw: bytes) -> None:
        """An event that is kept.  Waits while too many wait, or until it is stored."""
        self._put(_Item(*translated(name, raw, self._read_vote, self._clock.wall_ms())))
        if not self._patient:
            self.settle()

    def then(self, action: Callable[[], None]) -> None:
        """An event that is not kept: do this once everything that came before is stored, on the writing thread."""
        self._put(_Item("", (), action))

    def _put(self, item: _Item) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._queue) < _MOST)
            self._queue.append(item)
            self.last_event = self._clock.monotonic()
            self._changed.notify_all()

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until everything is dealt with, `timeout` seconds at most; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, timeout)

    # --- what is written, on a thread of its own --------------------------------------------------

    def _work(self) -> None:
        try:
            while True:
                batch = self._next()
                begun = self._clock.monotonic()
                self._finish(batch)
                if self._patient:
                    self._pause(max(0.0, begun + _APART - self._clock.monotonic()))
        except BaseException as error:  # the process cannot go on: whoever made it ends it
            self._on_failed(error)

    def _next(self) -> list[_Item]:
        """All that waits, up to the first thing that has something to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue)
            batch: list[_Item] = []
            while self._queue and not (batch and batch[-1].action):
                batch.append(self._queue.popleft())
            self._busy = len(batch)
            self._changed.notify_all()
            return batch

    def _finish(self, batch: list[_Item]) -> None:
        arrivals = [arrival for item in batch for arrival in item.arrivals]
        if arrivals:
            self._on_stored(self._store(arrivals))
        if action := batch[-1].action:
            action()
        self._on_done([item.name for item in batch])
        with self._changed:
            self._busy = 0
            self._changed.notify_all()

    def _store(self, arrivals: list[Arrival]) -> int:
        """Store, however long the disk refuses; the newest row."""
        held = ""
        while True:
            try:
                newest = self._spool.take(arrivals)
            except (StateUnwritable, Unavailable) as error:
                if str(error) != held:
                    held = str(error)
                    self._on_held(f"what arrives cannot be stored and waits: {held}")
                time.sleep(_DISK_RETRY)
                continue
            if held:
                self._on_held("")
            return newest
