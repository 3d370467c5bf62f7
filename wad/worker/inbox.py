"""The inbox of a worker: each event that carries a fact is translated if possible and committed in order of arrival.

The library's handler hands an event over; a separate thread writes.  While WhatsApp receives receipts only after the
commit, the handler may return at once (`batch`).  Then commits of a burst start 10 ms apart, and each includes what
was handed over meanwhile; the first after a pause is made at once.  A commit costs ten times the CPU of a row, and the
library needs the CPU.  Every commit is synced.  Where receipts are sent earlier, the handler waits for its commit:
returning frees a slot in a queue whose messages count as delivered.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from wad.core.errors import StateUnwritable, Unavailable
from wad.core.text import cut, repaired
from wad.lib.clock import Clock
from wad.state.spool import Arrival, Spool
from wad.worker.translation import STORED_EVENTS, OpeningKeys, translated

__all__ = ["STORED_EVENTS", "Inbox"]

_MAX_PENDING: Final = 64
"""Events that may wait for the disk; each may block a thread of the library that sends its receipt."""
_COMMIT_INTERVAL: Final = 0.01  # seconds between the starts of two commits
_REASON: Final = 300  # characters
_DISK_RETRY: Final = 0.5  # seconds between attempts while the disk refuses


class _Item(NamedTuple):
    """One queued event or action.  `name`: the key of the event (wad/worker/log_lines.py)."""

    name: str
    arrivals: tuple[Arrival, ...]
    action: Callable[[], None] | None = None


class Inbox:
    """The queue of events that have arrived and are to be stored.

    `keys` opens sealed votes and changes.  All callbacks run on the writing thread: `on_stored(seq)` when there are new
    rows, `on_done(names)` with the key of each processed event, in order, `on_held(why)` while the disk refuses and
    with an empty text when it no longer does, `on_failed(error)` for any other error, after which nothing more is
    written.  `pause(seconds)` delays the writing thread, so that a burst is committed together.
    """

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        *,
        keys: OpeningKeys,
        batch: bool,
        on_stored: Callable[[int], None],
        on_done: Callable[[list[str]], None],
        on_held: Callable[[str], None],
        on_failed: Callable[[BaseException], None],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._keys = keys
        self._batch = batch
        self._on_stored = on_stored
        self._on_done = on_done
        self._on_held = on_held
        self._on_failed = on_failed
        self._pause = pause
        self._queue: deque[_Item] = deque()
        self._busy = 0  # items taken from the queue and not yet processed
        self._changed = threading.Condition()
        self.last_event = clock.monotonic()
        threading.Thread(target=self._work, name="inbox", daemon=True).start()

    # --- events that arrive, on the library's thread ------------------------------------------------

    def take(self, name: str, raw: bytes) -> None:
        """Store an event.  Waits while the queue is full, or until the event is stored."""
        self._put(_Item(*translated(name, raw, self._keys, self._clock.wall_ms())))
        if not self._batch:
            self.drain()

    def take_dropped(self, why: str) -> None:
        """Store that the library dropped a message: there are no bytes of it, only the reason."""
        reason = cut(repaired(f"the library could not read a message: {why}"), _REASON)
        row = Arrival(self._clock.wall_ms(), "message", "", b"", None, reason)
        self._put(_Item("", (row,)))

    def run_after(self, action: Callable[[], None]) -> None:
        """For an event that is not stored: run `action` on the writing thread once all earlier events are stored."""
        self._put(_Item("", (), action))

    def _put(self, item: _Item) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._queue) < _MAX_PENDING)
            self._queue.append(item)
            self.last_event = self._clock.monotonic()
            self._changed.notify_all()

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until everything is processed, `timeout` seconds at most; returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, timeout)

    # --- writing, on a separate thread --------------------------------------------------------------

    def _work(self) -> None:
        try:
            while True:
                batch = self._next()
                begun = self._clock.monotonic()
                self._finish(batch)
                if self._batch:
                    self._pause(max(0.0, begun + _COMMIT_INTERVAL - self._clock.monotonic()))
        except BaseException as error:  # the process cannot go on: the callback ends it
            self._on_failed(error)

    def _next(self) -> list[_Item]:
        """All queued items, up to the first one with an action."""
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
        """Store, retrying for as long as the disk refuses; returns the newest row."""
        held = ""
        while True:
            try:
                newest = self._spool.take(arrivals)
            except (StateUnwritable, Unavailable) as error:
                if str(error) != held:
                    held = str(error)
                    self._on_held(f"events that arrive cannot be stored and wait: {held}")
                time.sleep(_DISK_RETRY)
                continue
            if held:
                self._on_held("")
            return newest
