"""Receipts after the commit: WhatsApp is told that a message arrived only once its event is in the spool.

Out of the box the library sends the receipt when the event enters its own queue, so that a killed process loses up to
102 messages (docs/internals/library.md#events).  Its C interface offers no way to wait; two things together make one:

- **The gate.**  The library logs each stanza, in the goroutine that sends it, just before the frame is written, and
  the log callback is synchronous.  Receipts have a goroutine of their own, as have the acknowledgements of what is
  handed over and not receipted, so blocking in the callback holds back that one and nothing else.
- **Kept plaintexts.**  A receipt that never left makes the server send the message again, but the library cannot
  decrypt the same bytes twice.  It has a buffer for exactly this (whatsmeow's EnableDecryptedEventBuffer: the
  plaintext is stored in the transaction that moves the ratchet on), which neonize has no switch for.
  `keep_plaintexts` makes its one test read another field, EnableAutoReconnect, which neonize always sets.

Without the second the first saves nothing, so a build that is not known here gets neither (`receipts: early`).
When the library offers both itself (docs/upstream.md), this file goes.
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
    Coming,
    HistoryComing,
    HistoryFailed,
    Leaving,
    Skipped,
    Unsaved,
    announcement,
    meaning,
    message,
)
from wad.worker.patching import PatchSite, change

log = logging.getLogger("wad.receipts")

# --- kept plaintexts ------------------------------------------------------------------------------

PLACES: Final = (
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
    """Turn the buffer on in the loaded library, before it connects; the address that was changed.

    Raises NotThisBuild: nothing was changed.  Raises EngineFailure: the process must end.
    """
    return change(file, PLACES)[0]


# --- the gate -------------------------------------------------------------------------------------

_AHEAD: Final = 102
"""How many events can be handed over after a receipt was asked for that lay before it: the library's queue of 100,
one on its way in and one on its way out (docs/internals/library.md#events)."""

_REMEMBERED: Final = 1024  # of what was dealt with: ten times what can be on its way
_EXPECTED: Final = 4096
"""Names of which events are to come: a stanza is logged before it waits its turn in a queue of 2048
(docs/internals/library.md#events).  More than are remembered of the other, so that what is forgotten makes a receipt
wait, and does not let one go."""

_SLICE: Final = 0.25  # seconds
_PATIENCE: Final = 8  # slices without any event after which none is to come


class _HistoryPart(Enum):
    """What became of a part of the history."""

    COMING = auto()  # downloaded; its event is not stored yet
    DONE = auto()  # stored, or no longer to be had
    FAILED = auto()


class _Waiter:
    """A receipt or an acknowledgement that is held, and the library's thread with it."""

    __slots__ = ("lock", "names", "slices", "until")

    def __init__(self, names: set[str], until: int) -> None:
        self.names = names
        self.until = until
        self.slices = 0
        self.lock = threading.Lock()
        self.lock.acquire()


class ReceiptGate:
    """Holds back what tells WhatsApp that something arrived, until its events are dealt with.

    That is: committed, or found to carry nothing to keep.  Held are receipts, and the acknowledgements of what is not
    receipted: receipts of others, newsletters' messages, calls, changes of groups (wad/worker/log_lines.py).

    `note` is the library's log; whoever stores calls `taken` when an event is handed over and `dealt_with` when
    it is on the disk, in the same order.  What lets a receipt go, whichever comes first:

    1. As many events of its name as were to come were dealt with.
    2. All events that lay in the library's queue when it asked, and so all of its own, were dealt with: the rule
       for what brings fewer events than it seemed, or events without a name.
    3. No event was handed over or waits to be stored for two seconds.  The library's queue is then empty; this is the
       last resort for what brings no event at all.  For a message or a receipt that is strange, and is logged.

    A message that announces a part of the history is another matter: its receipts wait for that part, which the library
    downloads after it has handed the message over, in the order of the announcements.  If the download fails they wait
    on, and with the next login WhatsApp announces it anew; if there is nothing to be had any more they go.

    So a disk that refuses holds receipts for as long as it does, and nothing else holds one for ever.

    `on_unsaved` is called when the library could not save its session over a message, before it acknowledges it:
    whoever is called must end the process.
    """

    def __init__(self, on_unsaved: Callable[[], None]) -> None:
        self._on_unsaved = on_unsaved
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._coming: OrderedDict[str, int] = (
            OrderedDict()
        )  # events, where it is not known to be one
        self._dealt: OrderedDict[str, int] = OrderedDict()  # events
        self._waiting: OrderedDict[_Waiter, None] = OrderedDict()  # in the order of `until`
        self._by_name: dict[str, list[_Waiter]] = {}
        self._announced: deque[str] = deque()  # messages whose part of the history is on its way
        self._parts: deque[_HistoryPart] = deque()  # in the same order, not matched with those yet
        self._long: set[str] = set()  # messages for which only the first rule holds
        self._taken = 0
        self._done = 0
        threading.Thread(target=self._watch, name="receipts", daemon=True).start()

    # --- what the library logs ------------------------------------------------------------------

    def note(self, logger: str, text: str) -> None:
        """One line of the library's log.  Returns when what it is about may happen."""
        for found in meaning(logger, text):
            match found:
                case Coming():
                    self._expect(found)
                case Skipped(name):
                    with self._lock:
                        _add(self._dealt, name, 1, _REMEMBERED)
                case Leaving(names):
                    self._hold(names)
                case HistoryComing():
                    self._part_ended(_HistoryPart.COMING)
                case HistoryFailed(gone):
                    if gone:
                        log.warning("a part of the history is no longer to be had")
                    self._part_ended(_HistoryPart.DONE if gone else _HistoryPart.FAILED)
                case Unsaved():
                    self._on_unsaved()
                case _:
                    assert_never(found)

    def _expect(self, coming: Coming) -> None:
        with self._lock:
            if not coming.anew:
                _add(self._coming, coming.name, coming.events, _EXPECTED)
                return
            self._forget(coming.name)
            if coming.events > 1:
                _add(self._coming, coming.name, coming.events, _EXPECTED)

    def _part_ended(self, how: _HistoryPart) -> None:
        with self._lock:
            self._parts.append(how)
            self._match_parts()

    def _hold(self, names: Iterable[str]) -> None:
        with self._lock:
            left = {name for name in names if not self._complete(name)}
            if names and not left:
                return
            waiter = _Waiter(left, self._taken + _AHEAD)
            if self._long.isdisjoint(left):
                self._waiting[waiter] = None
            for name in left:
                self._by_name.setdefault(name, []).append(waiter)
            self._news.set()
        waiter.lock.acquire()

    # --- what becomes of its events ---------------------------------------------------------------

    def taken(self) -> None:
        """An event of any kind was handed over."""
        with self._lock:
            self._taken += 1

    def dealt_with(self, names: Iterable[str]) -> None:
        """The next events, in order, are dealt with; an empty text stands for one that has no name."""
        with self._lock:
            for name in names:
                self._done += 1
                if name == HISTORY:
                    self._part_stored()
                elif ident := announcement(name):
                    self._part_announced(message(ident))
                elif name:
                    self._stored(name)
            while self._waiting and (first := next(iter(self._waiting))).until <= self._done:
                self._give_up(first)

    def _part_announced(self, name: str) -> None:
        self._announced.append(name)
        self._long.add(name)
        for waiter in self._by_name.get(name, ()):
            self._waiting.pop(waiter, None)
        self._match_parts()

    def _part_stored(self) -> None:
        if _HistoryPart.COMING in self._parts:
            self._parts[self._parts.index(_HistoryPart.COMING)] = _HistoryPart.DONE
        self._match_parts()

    def _match_parts(self) -> None:
        # The library tells at once what became of a part; its event, and what announced it, may wait for the disk.
        while self._announced and self._parts and self._parts[0] is not _HistoryPart.COMING:
            name = self._announced.popleft()
            if self._parts.popleft() is _HistoryPart.DONE:
                self._long.discard(name)
                self._stored(name)

    def _stored(self, name: str) -> None:
        _add(self._dealt, name, 1, _REMEMBERED)
        if name not in self._by_name or not self._complete(name):
            return
        for waiter in self._by_name.pop(name):
            waiter.names.discard(name)
            if not waiter.names:
                self._let_go(waiter)

    def _let_go(self, waiter: _Waiter) -> None:
        self._waiting.pop(waiter, None)
        for name in waiter.names:
            self._by_name[name].remove(waiter)
            if not self._by_name[name]:
                del self._by_name[name]
        waiter.lock.release()

    def _give_up(self, waiter: _Waiter) -> None:
        """Let go what did not get all its events: the next of the same name does not wait for them too."""
        for name in waiter.names:
            self._forget(name)
        self._let_go(waiter)

    def _forget(self, name: str) -> None:
        self._coming.pop(name, None)
        self._dealt.pop(name, None)

    def _complete(self, name: str) -> bool:
        return self._dealt.get(name, 0) >= self._coming.get(name, 1)

    def _watch(self) -> None:
        """Let receipts go for which no event comes.

        Slices are counted, not time: a process that was stopped for a while has not waited.
        """
        seen = (0, 0)
        while True:
            self._news.wait()
            time.sleep(_SLICE)
            with self._lock:
                now = (self._taken, self._done)
                still = now == seen and self._taken == self._done
                seen = now
                for waiter in self._waiting:
                    waiter.slices = waiter.slices + 1 if still else 0
                gone = [waiter for waiter in self._waiting if waiter.slices >= _PATIENCE]
                if strange := sum(bool(waiter.names) for waiter in gone):
                    log.warning("%d receipts sent for messages of which no event came", strange)
                for waiter in gone:
                    self._give_up(waiter)
                if not self._waiting:
                    self._news.clear()


def _add(numbers: OrderedDict[str, int], name: str, number: int, most: int) -> None:
    numbers[name] = numbers.get(name, 0) + number
    numbers.move_to_end(name)
    if len(numbers) > most:
        numbers.popitem(last=False)
