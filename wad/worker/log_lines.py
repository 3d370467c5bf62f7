"""Parsing the library's log for the receipt gate: which lines announce events, and which announce an acknowledgement.

The library logs an incoming stanza before it handles it, and an outgoing one in the goroutine that writes it, just
before it does.  Attributes are sorted (whatsmeow binary/xml.go): no text of the sender stands before an id.

The subject of an event has a key here: `message_key(id)`; `receipt_key(id)` with the id of the first message that a
receipt names; `announcement_key(id)` of a message that announces a history chunk, and HISTORY for that chunk once it
was downloaded.  The first letter tells the kinds apart, since strangers choose the ids.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple


class EventsExpected(NamedTuple):
    """A stanza arrived, and `events` events with the key `name` will follow; `restart`: the count starts again."""

    name: str
    events: int
    restart: bool


class PartSkipped(NamedTuple):
    """A part of a message that was handed over before, and will not be handed over again."""

    name: str


class Acknowledging(NamedTuple):
    """Receipts for these keys are about to be sent; without keys: an acknowledgement of events without a key."""

    names: tuple[str, ...]


class HistoryDownloaded(NamedTuple):
    """A history chunk was downloaded, and its event will follow."""


class HistoryFailed(NamedTuple):
    """A history chunk could not be downloaded; `gone`: it is no longer available."""

    gone: bool


class SessionUnsaved(NamedTuple):
    """The session could not be saved while handling a message, which is about to be acknowledged."""


GateSignal = (
    EventsExpected
    | PartSkipped
    | Acknowledging
    | HistoryDownloaded
    | HistoryFailed
    | SessionUnsaved
)

_DROPPED: Final = (
    "Failed to parse message: ",  # an attribute of the stanza is missing or invalid
    "Error unmarshaling decrypted message from ",  # what the sender encrypted is not a protobuf
    "Error unmarshaling plaintext message from ",
    "Failed to decode armadillo message from ",
    "Unhandled encrypted message (",  # an unknown type of encryption
)
"""Messages that the library cannot read: it acknowledges them and hands nothing over (whatsmeow message.go)."""

HISTORY: Final = "h"
_ANNOUNCEMENT: Final = "a"

_RECEIPTS: Final = frozenset({"", "inactive", "sender", "peer_msg", "hist_sync"})
"""Delivery receipts (whatsmeow receipt.go, sendMessageReceipt; message.go, SendProtocolMessageReceipt).  Not included:
`read`, `played` and the like, which the daemon requests; `retry`, which requests an undecryptable message again."""

_MARKS: Final = {"": 1, "read": 4, "read-self": 5, "played": 6, "inactive": 9}
"""Receipts for a message of this account, or for one that was read on another device, with neonize's numbers
(Neonize.proto, Receipt.ReceiptType).  The acknowledgement of any other is not held: for `retry` it follows only after
the answer, and a kind that the library cannot hand over would be sent again forever
(docs/internals/library.md#events)."""

HELD_RECEIPT_TYPES: Final = frozenset(_MARKS.values())
"""The types of a neonize Receipt whose acknowledgement waits for it."""

_ID: Final = re.compile(r' id="([^"]*)"')
_TYPE: Final = re.compile(r' type="([^"]*)"')
_CLASS: Final = re.compile(r' class="([^"]*)"')
_OF_MEMBERS: Final = '<participants key="'
"""What several members of a group did with a message: one event each (whatsmeow receipt.go, handleGroupedReceipt)."""

_IGNORED: Final = re.compile(r"Ignoring message (\S+) from ")
"""A part that was decrypted before and is not handed over again (whatsmeow message.go, decryptMessages)."""

_FAILED: Final = "Error decrypting message "
_DISK: Final = re.compile(r"\b(?:database|disk)\b")
_DISK_SAYS: Final = frozenset({"disk I/O error", "unable to open database file"})
"""A message whose ratchet step could not be saved (whatsmeow message.go, decryptMessages; the text is SQLite's).

The library treats it as undecryptable: right after this line it acknowledges it and requests another copy.
The session on the disk has not advanced, so the same bytes can be decrypted later, if they are not acknowledged now.
SQLite's text comes last, or before the system's: text further ahead may be a stranger's, as an id is.
"""


_HISTORY_HERE: Final = "Received history sync ("
_NO_HISTORY: Final = re.compile(r"Failed to download history sync: (.*)", re.DOTALL)
_GONE: Final = re.compile(
    r"status code 4\d\d|hash|hmac|length|unmarshal|decompress|nothing downloadable"
)
"""For a file that no longer exists, or is not the announced one; any other error is a network failure
(whatsmeow download.go, errors.go)."""


def message_key(ident: str) -> str:
    """The key of a message."""
    return f"m{ident}"


def receipt_key(ident: str) -> str:
    """The key of the receipts for this message."""
    return f"r{ident}"


def announcement_key(ident: str) -> str:
    """The key of a message that announces a history chunk."""
    return _ANNOUNCEMENT + ident


def announced_id(name: str) -> str:
    """The message id in an announcement key, or an empty text for another key."""
    return name[1:] if name.startswith(_ANNOUNCEMENT) else ""


def parse_line(logger: str, text: str) -> Sequence[GateSignal]:
    """The signals in one line of the library's log."""
    match logger:
        case "Client/Recv":
            return _incoming(text)
        case "Client/Send":
            return _outgoing(text)
        case "Client":
            if ignored := _IGNORED.match(text):
                return (PartSkipped(message_key(ignored[1])),)
            if text.startswith(_FAILED) and _is_unsaved(text):
                return (SessionUnsaved(),)
            if text.startswith(_HISTORY_HERE):
                return (HistoryDownloaded(),)
            if failed := _NO_HISTORY.match(text):
                return (HistoryFailed(_GONE.search(failed[1]) is not None),)
    return ()


def dropped_message(logger: str, text: str) -> str:
    """Why the library drops a message, if this line reports that; else an empty text."""
    if logger != "Client" or not text.startswith(_DROPPED):
        return ""
    return text.partition(": ")[2] or "an unknown kind of message"


def _is_unsaved(text: str) -> bool:
    _, *parts = text.rsplit(": ", 2)
    if not parts or ":" in parts[-1]:
        return False
    return _DISK.search(parts[-1]) is not None or (len(parts) == 2 and parts[0] in _DISK_SAYS)


def _incoming(text: str) -> Sequence[GateSignal]:
    if text.startswith("<message "):
        if ident := _ID.search(text):
            # Several parts: a sender's first message in a group has two, keys and text.
            return (
                EventsExpected(message_key(ident[1]), max(1, text.count("<enc ")), restart=True),
            )
    elif text.startswith("<receipt "):
        head = text.partition(">")[0]
        if _attribute(_TYPE, head) not in _MARKS:
            return ()
        if members := _members(text):
            return [EventsExpected(receipt_key(key), users, False) for key, users in members]
        if ident := _ID.search(head):
            return (EventsExpected(receipt_key(ident[1]), 1, restart=False),)
    return ()


def _members(text: str) -> list[tuple[str, int]]:
    """For each complete list of members: the message's id and the number of members; in one pass."""
    found = []
    for part in text.split(_OF_MEMBERS)[1:]:
        key, _, rest = part.partition('">')
        users, end, _ = rest.partition("</participants>")
        if end:
            found.append((key, users.count("<user ")))
    return found


def _outgoing(text: str) -> Sequence[GateSignal]:
    if text.startswith("<receipt "):
        if _attribute(_TYPE, text.partition(">")[0]) in _RECEIPTS:
            return (Acknowledging(tuple(map(message_key, _ID.findall(text)))),)
    elif text.startswith("<ack "):
        ident, kind = _attribute(_ID, text), _attribute(_TYPE, text)
        match _attribute(_CLASS, text):
            case "receipt" if kind in _MARKS:
                return (Acknowledging((receipt_key(ident),)),)
            case "message" if '@newsletter"' in text:
                # The acknowledgement of any other message reports that it could not be decrypted, and is sent by the
                # goroutine that hands events over.
                return (Acknowledging((message_key(ident),)),)
            case "call":
                return (Acknowledging(()),)
            case "notification" if kind == "w:gp2":  # of a group; no other kind is stored
                return (Acknowledging(()),)
    return ()


def _attribute(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""
