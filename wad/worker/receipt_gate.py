"""Receipts after the commit: WhatsApp receives a receipt for a message only once its event is in the spool.

By default the library sends the receipt when the event enters its own queue, so that a killed process loses up to
102 messages (docs/internals/library.md#events).  Its C interface offers no way to wait; two measures together do:

- **The gate.**  The library logs each stanza, in the goroutine that sends it, just before the frame is written, and
  the log callback is synchronous.  Receipts have their own goroutine, and so have the acknowledgements of stanzas that
  are handed over without a receipt, so blocking in the callback delays that one and nothing else.
- **Kept plaintexts.**  A receipt that was not sent makes the server send the message again, but the library cannot
  decrypt the same bytes twice.  It has a buffer for exactly this (whatsmeow's EnableDecryptedEventBuffer: the
  plaintext is stored in the transaction that advances the ratchet), but neonize has no switch for it.
  `keep_plaintexts` makes its one test read another field, EnableAutoReconnect, which neonize always sets.

The first is of no use without the second, so an unknown build gets neither (`receipts: early`).
When the library offers both itself (docs/upstream.md), this file can be deleted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from enum import Enum, auto
from pathlib import Path
from typing import Final, assert_never

from wad.worker.log_lines import (
    HISTORY,
    Acknowledging,
    EventsExpected,
    HistoryDownloaded,
    HistoryFailed,
    PartSkipped,
    SessionUnsaved,
    announced_id,
    message_key,
    parse_line,
)
from wad.worker.patching import PatchSite, patch_library

log = logging.getLogger("wad.receipts")

# --- kept plaintexts ------------------------------------------------------------------------------

PATCH_SITES: Final = (
    # neonize 0.5.2, amd64: cmp byte ptr [rcx+0xa9], 0
    PatchSite(
        "56b0636515068e8f8383e5448b6cfd2516ea923fa6c68ce4a2e516da96ec405d",
        0x6C5D7D,
        bytes.fromhex("80b9a900000000"),
        bytes.fromhex("80b97c00000000"),
    ),
    # neonize 0.5.2, arm64: ldrb w2, [x1, #0xa9].  Found by disassembly; never seen to run.
    PatchSite(
        "25ea97e7c7933396a655e00a716f79da9095500cfb1cac053cb3addd82bd453c",
        0x64EC68,
        bytes.fromhex("22a44239"),
        bytes.fromhex("22f04139"),
    ),
)
"""Where `(*Client).bufferedDecrypt` tests the switch: Client+0xa9, before; Client+0x7c, after."""


def keep_plaintexts(file: Path) -> int:
    """Enable the buffer in the loaded library, before it connects; returns the address that was patched.

    Raises NotThisBuild: nothing was patched.  Raises EngineFailure: the process must end.
    """
    return patch_library(file, PATCH_SITES)[0]


# --- the gate -------------------------------------------------------------------------------------

_LIBRARY_QUEUE: Final = 102
"""The number of events that can be handed over after a receipt was requested and that were queued before it: the
library's queue of 100, one on its way in and one on its way out (docs/internals/library.md#events)."""

_MAX_PROCESSED: Final = 1024  # ten times the number of events that can be in progress
_MAX_EXPECTED: Final = 4096
"""Keys of expected events: a stanza is logged before it waits in a queue of 2048 (docs/internals/library.md#events).
The limit is higher than that of processed events, so that a dropped key delays a receipt and never releases one."""

_SLICE: Final = 0.25  # seconds
_QUIET_SLICES: Final = 8  # slices without any event after which none is expected any more


class _ChunkResult(Enum):
    """The result of downloading a history chunk."""

    COMING = auto()  # downloaded; its event is not stored yet
    DONE = auto()  # stored, or no longer available
    FAILED = auto()


class _Waiter:
    """A held receipt or acknowledgement, which blocks a thread of the library."""

    __slots__ = ("lock", "names", "slices", "until")

    def __init__(self, names: set[str], until: int) -> None:
        self.names = names
        self.until = until
        self.slices = 0
        self.lock = threading.Lock()
        self.lock.acquire()


class ReceiptGate:
    """Holds receipts and acknowledgements until their events are processed.

    Processed means: committed, or found to contain nothing to store.  Held are receipts, and the acknowledgements of
    stanzas without a receipt: receipts of others, newsletters' messages, calls, group changes
    (wad/worker/log_lines.py).

    `on_log_line` gets the library's log; the inbox calls `handed_over` when an event arrives and `processed` when it is
    on the disk, in the same order.  A receipt is released by whichever comes first:

    1. As many events with its key as were expected are processed.
    2. All events that were in the library's queue when the receipt was requested, and so all of its own, are processed:
       the rule for stanzas with fewer events than expected, or with events that have no key.
    3. No event was handed over or waits to be stored for two seconds.  The library's queue is then empty; this is the
       last resort for stanzas without any event.  For a message or a receipt that is unexpected, and is logged.

    A message that announces a history chunk is different: its receipts wait for that chunk, which the library
    downloads after it has handed the message over, in the order of the announcements.  If the download fails they keep
    waiting, and at the next login WhatsApp announces it again; if it is no longer available they are released.

    So a disk that refuses holds receipts for as long as it does, and nothing else holds a receipt forever.

    `on_unsaved` is called when the library could not save its session while handling a message, before it acknowledges
    that message: the callback must end the process.
    """

    def __init__(self, on_unsaved: Callable[[], None]) -> None:
        self._on_unsaved = on_unsaved
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._expected: OrderedDict[str, int] = OrderedDict()  # events by key, where not one
        self._processed: OrderedDict[str, int] = OrderedDict()  # events by key
        self._waiting: OrderedDict[_Waiter, None] = OrderedDict()  # in the order of `until`
        self._by_name: dict[str, list[_Waiter]] = {}
        self._announced: deque[str] = deque()  # messages whose history chunk is pending
        self._chunks: deque[_ChunkResult] = deque()  # in the same order, not matched yet
        self._until_history: set[str] = set()  # messages to which only the first rule applies
        self._handed_over = 0
        self._done = 0
        threading.Thread(target=self._watch, name="receipts", daemon=True).start()

    # --- the library's log ----------------------------------------------------------------------

    def on_log_line(self, logger: str, text: str) -> None:
        """One line of the library's log.  Returns when the stanza that it describes may be sent."""
        for found in parse_line(logger, text):
            match found:
                case EventsExpected():
                    self._expect(found)
                case PartSkipped(name):
                    with self._lock:
                        _add(self._processed, name, 1, _MAX_PROCESSED)
                case Acknowledging(names):
                    self._hold(names)
                case HistoryDownloaded():
                    self._on_chunk(_ChunkResult.COMING)
                case HistoryFailed(gone):
                    if gone:
                        log.warning("a history chunk is no longer available")
                    self._on_chunk(_ChunkResult.DONE if gone else _ChunkResult.FAILED)
                case SessionUnsaved():
                    self._on_unsaved()
                case _:
                    assert_never(found)

    def _expect(self, expected: EventsExpected) -> None:
        with self._lock:
            if not expected.restart:
                _add(self._expected, expected.name, expected.events, _MAX_EXPECTED)
                return
            self._forget(expected.name)
            if expected.events > 1:
                _add(self._expected, expected.name, expected.events, _MAX_EXPECTED)

    def _on_chunk(self, how: _ChunkResult) -> None:
        with self._lock:
            self._chunks.append(how)
            self._match_chunks()

    def _hold(self, names: Iterable[str]) -> None:
        with self._lock:
            left = {name for name in names if not self._complete(name)}
            if names and not left:
                return
            waiter = _Waiter(left, self._handed_over + _LIBRARY_QUEUE)
            if self._until_history.isdisjoint(left):
                self._waiting[waiter] = None
            for name in left:
                self._by_name.setdefault(name, []).append(waiter)
            self._wake.set()
        waiter.lock.acquire()

    # --- the results of events ----------------------------------------------------------------------

    def handed_over(self) -> None:
        """An event of any kind was handed over."""
        with self._lock:
            self._handed_over += 1

    def processed(self, names: Iterable[str]) -> None:
        """The next events, in order, are processed; an empty text stands for an event without a key."""
        with self._lock:
            for name in names:
                self._done += 1
                if name == HISTORY:
                    self._chunk_stored()
                elif ident := announced_id(name):
                    self._chunk_announced(message_key(ident))
                elif name:
                    self._stored(name)
            while self._waiting and (first := next(iter(self._waiting))).until <= self._done:
                self._release_incomplete(first)

    def _chunk_announced(self, name: str) -> None:
        self._announced.append(name)
        self._until_history.add(name)
        for waiter in self._by_name.get(name, ()):
            self._waiting.pop(waiter, None)
        self._match_chunks()

    def _chunk_stored(self) -> None:
        if _ChunkResult.COMING in self._chunks:
            self._chunks[self._chunks.index(_ChunkResult.COMING)] = _ChunkResult.DONE
        self._match_chunks()

    def _match_chunks(self) -> None:
        # The library logs the result of a chunk at once; its event and its announcement may still wait for the disk.
        while self._announced and self._chunks and self._chunks[0] is not _ChunkResult.COMING:
            name = self._announced.popleft()
            if self._chunks.popleft() is _ChunkResult.DONE:
                self._until_history.discard(name)
                self._stored(name)

    def _stored(self, name: str) -> None:
        _add(self._processed, name, 1, _MAX_PROCESSED)
        if name not in self._by_name or not self._complete(name):
            return
        for waiter in self._by_name.pop(name):
            waiter.names.discard(name)
            if not waiter.names:
                self._release(waiter)

    def _release(self, waiter: _Waiter) -> None:
        self._waiting.pop(waiter, None)
        for name in waiter.names:
            self._by_name[name].remove(waiter)
            if not self._by_name[name]:
                del self._by_name[name]
        waiter.lock.release()

    def _release_incomplete(self, waiter: _Waiter) -> None:
        """Release a receipt with missing events: the next one with the same key does not wait for them too."""
        for name in waiter.names:
            self._forget(name)
        self._release(waiter)

    def _forget(self, name: str) -> None:
        self._expected.pop(name, None)
        self._processed.pop(name, None)

    def _complete(self, name: str) -> bool:
        return self._processed.get(name, 0) >= self._expected.get(name, 1)

    def _watch(self) -> None:
        """Release receipts for which no event arrives.

        Slices are counted, not time: a process that was suspended for a while has not waited.
        """
        seen = (0, 0)
        while True:
            self._wake.wait()
            time.sleep(_SLICE)
            with self._lock:
                now = (self._handed_over, self._done)
                still = now == seen and self._handed_over == self._done
                seen = now
                for waiter in self._waiting:
                    waiter.slices = waiter.slices + 1 if still else 0
                gone = [waiter for waiter in self._waiting if waiter.slices >= _QUIET_SLICES]
                if incomplete := sum(bool(waiter.names) for waiter in gone):
                    log.warning("%d receipts sent for messages without an event", incomplete)
                for waiter in gone:
                    self._release_incomplete(waiter)
                if not self._waiting:
                    self._wake.clear()


def _add(numbers: OrderedDict[str, int], name: str, number: int, limit: int) -> None:
    numbers[name] = numbers.get(name, 0) + number
    numbers.move_to_end(name)
    if len(numbers) > limit:
        numbers.popitem(last=False)
