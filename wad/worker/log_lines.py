"""The library's log as the gate reads it: which lines mean that events will come, and which that WhatsApp is told.

The library logs a stanza when it comes in, before it is looked at, and one that goes out in the goroutine that writes
it, just before it does.  Attributes are sorted (whatsmeow binary/xml.go): before an id stands nothing that a sender
writes.

What events are about has a name here: `message(id)`; `receipt_of(id)` with the id of the first message that it means;
`announced(id)` of a message that announces a part of the history, and HISTORY for that part once it was downloaded.
The first letter tells them apart, since ids are chosen by strangers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple


class Coming(NamedTuple):
    """A stanza came in, and so many events about `name` will follow; `anew`: they alone count from here on."""

    name: str
    events: int
    anew: bool


class Skipped(NamedTuple):
    """A part of a message that was handed over before, and will not be again."""

    name: str


class Leaving(NamedTuple):
    """WhatsApp is about to be told that these arrived; without names it is told of something whose events have none."""

    names: tuple[str, ...]


class HistoryComing(NamedTuple):
    """A part of the history was downloaded, and its event will follow."""


class HistoryFailed(NamedTuple):
    """A part of the history could not be downloaded; `gone`: nor will it ever be."""

    gone: bool


class Unsaved(NamedTuple):
    """The session could not be saved over a message, which is about to be acknowledged."""


Meaning = Coming | Skipped | Leaving | HistoryComing | HistoryFailed | Unsaved

HISTORY: Final = "h"
_ANNOUNCED: Final = "a"

_RECEIPTS: Final = frozenset({"", "inactive", "sender", "peer_msg", "hist_sync"})
"""Receipts of delivery (whatsmeow receipt.go, sendMessageReceipt; message.go, SendProtocolMessageReceipt).  Not meant:
`read`, `played` and their like, which we ask for; `retry`, which asks for a message that could not be decrypted."""

_MARKS: Final = {"": 1, "read": 4, "read-self": 5, "played": 6, "inactive": 9}
"""Receipts that say something about a message of ours, or that we read one elsewhere, and what neonize calls each
(Neonize.proto, Receipt.ReceiptType).  The acknowledgement of any other is not held: of `retry` it comes only after the
answer, and a kind that the library cannot hand over would come again for ever (docs/internals/library.md#events)."""

AWAITED: Final = frozenset(_MARKS.values())
"""The types of a neonize Receipt whose acknowledgement waits for it."""

_ID: Final = re.compile(r' id="([^"]*)"')
_TYPE: Final = re.compile(r' type="([^"]*)"')
_CLASS: Final = re.compile(r' class="([^"]*)"')
_OF_MEMBERS: Final = '<participants key="'
"""What several members of a group did with a message: one event each (whatsmeow receipt.go, handleGroupedReceipt)."""

_IGNORED: Final = re.compile(r"Ignoring message (\S+) from ")
"""A part that was decrypted before and is handed over no more (whatsmeow message.go, decryptMessages)."""

_FAILED: Final = "Error decrypting message "
_DISK: Final = re.compile(r"\b(?:database|disk)\b")
_DISK_SAYS: Final = frozenset({"disk I/O error", "unable to open database file"})
"""A message whose ratchet step could not be saved (whatsmeow message.go, decryptMessages; the words are SQLite's).

The library takes it for one that it cannot read: right after this line it acknowledges it and asks for another copy.
The session on the disk has not moved on, so the same bytes can be read later, if only they are not acknowledged now.
SQLite's words come last, or before the system's: what stands further ahead may be a stranger's, as an id is.
"""


_HISTORY_HERE: Final = "Received history sync ("
_NO_HISTORY: Final = re.compile(r"Failed to download history sync: (.*)", re.DOTALL)
_GONE: Final = re.compile(
    r"status code 4\d\d|hash|hmac|length|unmarshal|decompress|nothing downloadable"
)
"""Of a file that is no longer there, or is not what was announced; anything else is the network's trouble
(whatsmeow download.go, errors.go)."""


def message(ident: str) -> str:
    """The name of a message."""
    return f"m{ident}"


def receipt_of(ident: str) -> str:
    """The name of the receipts that mean this message."""
    return f"r{ident}"


def announced(ident: str) -> str:
    """The name of a message that announces a part of the history."""
    return _ANNOUNCED + ident


def announcement(name: str) -> str:
    """The id of such a message, or an empty text for another name."""
    return name[1:] if name.startswith(_ANNOUNCED) else ""


def meaning(logger: str, text: str) -> Sequence[Meaning]:
    """What one line of the library's log means."""
    match logger:
        case "Client/Recv":
            return _incoming(text)
        case "Client/Send":
            return _outgoing(text)
        case "Client":
            if ignored := _IGNORED.match(text):
                return (Skipped(message(ignored[1])),)
            if text.startswith(_FAILED) and _is_unsaved(text):
                return (Unsaved(),)
            if text.startswith(_HISTORY_HERE):
                return (HistoryComing(),)
            if failed := _NO_HISTORY.match(text):
                return (HistoryFailed(_GONE.search(failed[1]) is not None),)
    return ()


def _is_unsaved(text: str) -> bool:
    _, *parts = text.rsplit(": ", 2)
    if not parts or ":" in parts[-1]:
        return False
    return _DISK.search(parts[-1]) is not None or (len(parts) == 2 and parts[0] in _DISK_SAYS)


def _incoming(text: str) -> Sequence[Meaning]:
    if text.startswith("<message "):
        if ident := _ID.search(text):
            # Several parts: a sender's first message in a group has two, keys and text.
            return (Coming(message(ident[1]), max(1, text.count("<enc ")), anew=True),)
    elif text.startswith("<receipt "):
        head = text.partition(">")[0]
        if _word(_TYPE, head) not in _MARKS:
            return ()
        if members := _members(text):
            return [Coming(receipt_of(key), users, False) for key, users in members]
        if ident := _ID.search(head):
            return (Coming(receipt_of(ident[1]), 1, anew=False),)
    return ()


def _members(text: str) -> list[tuple[str, int]]:
    """Of each list of members that is whole, the message's id and how many they are; in one pass."""
    found = []
    for part in text.split(_OF_MEMBERS)[1:]:
        key, _, rest = part.partition('">')
        users, end, _ = rest.partition("</participants>")
        if end:
            found.append((key, users.count("<user ")))
    return found


def _outgoing(text: str) -> Sequence[Meaning]:
    if text.startswith("<receipt "):
        if _word(_TYPE, text.partition(">")[0]) in _RECEIPTS:
            return (Leaving(tuple(map(message, _ID.findall(text)))),)
    elif text.startswith("<ack "):
        ident, kind = _word(_ID, text), _word(_TYPE, text)
        match _word(_CLASS, text):
            case "receipt" if kind in _MARKS:
                return (Leaving((receipt_of(ident),)),)
            case "message" if '@newsletter"' in text:
                # The acknowledgement of any other message says that it could not be read, and is sent by the
                # goroutine that hands events over.
                return (Leaving((message(ident),)),)
            case "call":
                return (Leaving(()),)
            case "notification" if (
                kind == "w:gp2"
            ):  # of a group; the only kind of which anything is kept
                return (Leaving(()),)
    return ()


def _word(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""
