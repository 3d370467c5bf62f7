"""Receipts after the commit: WhatsApp is told that a message arrived only once its event is in the spool.

Out of the box the library sends the receipt when the event enters its own queue, so that a killed process loses up to
102 messages (engine.md 4).  Its C interface offers no way to wait; two things together make one:

- **The gate.**  The library logs each stanza, in the goroutine that sends it, just before the frame is written, and
  the log callback is synchronous.  Receipts have a goroutine of their own, so blocking in the callback holds back
  that receipt and nothing else.
- **Kept plaintexts.**  A receipt that never left makes the server send the message again, but the library cannot
  decrypt the same bytes twice.  It has a buffer for exactly this (whatsmeow's EnableDecryptedEventBuffer: the
  plaintext is stored in the transaction that moves the ratchet on), which neonize has no switch for.
  `keep_plaintexts` makes its one test read another field, EnableAutoReconnect, which neonize always sets.

Without the second the first saves nothing, so a build that is not known here gets neither (`receipts: early`).
When the library offers both itself (docs/upstream.md), this file goes.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

log = logging.getLogger("wad.receipts")

# --- kept plaintexts ------------------------------------------------------------------------------


class NotThisBuild(Exception):
    """The plaintexts cannot be kept in this library; the message says why."""


@dataclass(frozen=True)
class Place:
    """Where a build tests the switch, in `(*Client).bufferedDecrypt`: Client+0xa9, before; Client+0x7c, after."""

    sha256: str
    address: int
    before: bytes
    after: bytes


PLACES: Final = (
    # neonize 0.5.2, amd64: cmp byte ptr [rcx+0xa9], 0
    Place(
        "56b0636515068e8f8383e5448b6cfd2516ea923fa6c68ce4a2e516da96ec405d",
        0x6C5D7D,
        bytes.fromhex("80b9a900000000"),
        bytes.fromhex("80b97c00000000"),
    ),
    # neonize 0.5.2, arm64: ldrb w2, [x1, #0xa9].  Found by disassembly; never seen to run.
    Place(
        "25ea97e7c7933396a655e00a716f79da9095500cfb1cac053cb3addd82bd453c",
        0x64EC68,
        bytes.fromhex("22a44239"),
        bytes.fromhex("22f04139"),
    ),
)


def keep_plaintexts(file: Path) -> None:
    """Turn the buffer on in the loaded library, before it connects.  Raises NotThisBuild; then nothing was changed."""
    with file.open("rb") as library:
        digest = hashlib.file_digest(library, "sha256").hexdigest()
    place = next((place for place in PLACES if place.sha256 == digest), None)
    if place is None:
        raise NotThisBuild(f"{file.name} is a build that is not known (sha256 {digest[:16]}...)")
    address = _base(file) + place.address
    if ctypes.string_at(address, len(place.before)) != place.before:
        raise NotThisBuild(f"{file.name} in memory is not what it is on the disk")
    try:
        # The kernel writes to a private copy of the page; no page becomes writable for the process.
        with open("/proc/self/mem", "r+b", buffering=0) as memory:  # noqa: PTH123
            memory.seek(address)
            memory.write(place.after)
    except OSError as error:
        raise NotThisBuild(f"this system does not let it be changed in memory: {error}") from error
    if ctypes.string_at(address, len(place.after)) != place.after:
        raise NotThisBuild("the change in memory did not take")


def _base(file: Path) -> int:
    """Where a shared object is loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split(None, 5)
        if path == [str(file)] and int(offset, 16) == 0:
            return int(span.partition("-")[0], 16)
    raise NotThisBuild(f"{file.name} is not loaded")


# --- the gate -------------------------------------------------------------------------------------

_AHEAD: Final = 102
"""How many events can be handed over after a receipt was asked for that lay before it: the library's queue of 100,
one on its way in and one on its way out (engine.md 4)."""

_HELD: Final = frozenset({"", "inactive", "sender", "peer_msg"})
"""Receipts of delivery (whatsmeow receipt.go, sendMessageReceipt; message.go, SendProtocolMessageReceipt).  Not held:
`read`, `played` and their like, which we ask for; `retry`, which asks for a message that could not be decrypted;
`hist_sync`, which comes before the history is even downloaded."""

_ID: Final = re.compile(r' id="([^"]*)"')
_TYPE: Final = re.compile(r' type="([^"]*)"')
_IGNORED: Final = re.compile(r"Ignoring message (\S+) from ")
"""A part that was decrypted before and is handed over no more (whatsmeow message.go, decryptMessages)."""

_REMEMBERED: Final = 4096  # messages
_SLICE: Final = 0.25  # seconds
_PATIENCE: Final = 8  # slices without any event after which none is to come


class _Waiter:
    """A receipt that is held, and the library's thread with it."""

    __slots__ = ("ids", "lock", "slices", "until")

    def __init__(self, ids: set[str], until: int) -> None:
        self.ids = ids
        self.until = until
        self.slices = 0
        self.lock = threading.Lock()
        self.lock.acquire()


class Gate:
    """Holds each receipt until its message's events are dealt with: committed, or found to carry nothing to keep.

    `note` is the library's log; whoever stores calls `taken` when an event is handed over and `dealt_with` when
    it is on the disk, in the same order.  What lets a receipt go, whichever comes first:

    1. As many events of its message as the stanza has encrypted parts were dealt with.  (The first message of a
       sender in a group has two: keys, and text.)
    2. All events that lay in the library's queue when it asked, and so all of its message, were dealt with: the rule
       for messages of which fewer events come than they have parts.
    3. No event was handed over or waits to be stored for two seconds.  The library's queue is then empty; this is the
       last resort for a message of which no event comes at all, and is logged.

    So a disk that refuses holds receipts for as long as it does, and nothing else holds one for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._parts: OrderedDict[str, int] = OrderedDict()  # of messages with other than one
        self._dealt: OrderedDict[str, int] = OrderedDict()  # events of a message
        self._waiting: OrderedDict[_Waiter, None] = OrderedDict()  # in the order of `until`
        self._by_id: dict[str, list[_Waiter]] = {}
        self._taken = 0
        self._done = 0
        threading.Thread(target=self._watch, name="receipts", daemon=True).start()

    # --- what the library logs ------------------------------------------------------------------

    def note(self, logger: str, text: str) -> None:
        """One line of the library's log.  Returns when what it is about may happen."""
        if logger == "Client/Send" and text.startswith("<receipt "):
            kind = _TYPE.search(text)
            if (kind[1] if kind else "") in _HELD:
                self._hold(set(_ID.findall(text)))
        elif logger == "Client/Recv" and text.startswith("<message "):
            # Attributes are sorted: before the id stands nothing that a sender writes.
            if ident := _ID.search(text):
                self._expect(ident[1], text.count("<enc "))
        elif logger == "Client" and (ignored := _IGNORED.match(text)):
            self._ignored(ignored[1])

    def _expect(self, ident: str, parts: int) -> None:
        """A message comes in: from here on its events are counted."""
        with self._lock:
            self._dealt.pop(ident, None)
            self._parts.pop(ident, None)
            if parts > 1:
                _remember(self._parts, ident, parts)

    def _ignored(self, ident: str) -> None:
        """A part of a message of which no event comes."""
        with self._lock:
            _remember(self._dealt, ident, self._dealt.get(ident, 0) + 1)

    def _hold(self, ids: set[str]) -> None:
        with self._lock:
            ids = {ident for ident in ids if not self._complete(ident)}
            if not ids:
                return
            waiter = _Waiter(ids, self._taken + _AHEAD)
            self._waiting[waiter] = None
            for ident in ids:
                self._by_id.setdefault(ident, []).append(waiter)
            self._news.set()
        waiter.lock.acquire()

    # --- what becomes of its events ---------------------------------------------------------------

    def taken(self) -> None:
        """An event of any kind was handed over."""
        with self._lock:
            self._taken += 1

    def dealt_with(self, idents: Iterable[str]) -> None:
        """The next events, in order, are dealt with; an empty text stands for one that is no message's."""
        with self._lock:
            for ident in idents:
                self._done += 1
                if ident:
                    _remember(self._dealt, ident, self._dealt.get(ident, 0) + 1)
                    self._stored(ident)
            while self._waiting and (first := next(iter(self._waiting))).until <= self._done:
                self._let_go(first)

    def _stored(self, ident: str) -> None:
        if ident not in self._by_id or not self._complete(ident):
            return
        for waiter in self._by_id.pop(ident):
            waiter.ids.discard(ident)
            if not waiter.ids:
                self._let_go(waiter)

    def _let_go(self, waiter: _Waiter) -> None:
        del self._waiting[waiter]
        for ident in waiter.ids:
            self._by_id[ident].remove(waiter)
            if not self._by_id[ident]:
                del self._by_id[ident]
        waiter.lock.release()

    def _complete(self, ident: str) -> bool:
        return self._dealt.get(ident, 0) >= self._parts.get(ident, 1)

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
                for waiter in gone:
                    self._let_go(waiter)
                if gone:
                    log.warning("%d receipts sent for messages of which no event came", len(gone))
                if not self._waiting:
                    self._news.clear()


def _remember(numbers: OrderedDict[str, int], ident: str, number: int) -> None:
    numbers[ident] = number
    numbers.move_to_end(ident)
    if len(numbers) > _REMEMBERED:
        numbers.popitem(last=False)
