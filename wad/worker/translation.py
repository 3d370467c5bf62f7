"""Translation of the library's bytes to rows of the spool: a wad event, or the reason why there is none.

Whatever the input, nothing is raised and nothing is dropped:

- Every written event has been read back once (encode, decode, compare), so that the daemon can read every row.
- An untranslatable event is stored raw, with a reason.  If it is a message whose id, chat and sender can be read, an
  `unknown` is shown in its place, and is replaced by the message once a later version can read it.
- A history chunk is translated item by item.  Untranslatable items are stored raw, each as a chunk of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from wad.core.content import Content
from wad.core.errors import BadJid, InvalidData
from wad.core.event import Event, MessageKind, MessageReceived, ReceiptReceived, read_back
from wad.core.jid import Jid, JidKind
from wad.core.text import cut, is_ident, repaired
from wad.state.spool import HEARD, Arrival
from wad.worker.library import event_class, parse
from wad.worker.log_lines import (
    HELD_RECEIPT_TYPES,
    HISTORY,
    announcement_key,
    message_key,
    receipt_key,
)
from wad.worker.message_secrets import MessageSecrets
from wad.worker.protobuf import DecodeError
from wad.worker.protobuf_repair import envelope, without_damaged
from wad.worker.sealed_messages import SealedBy, opened, opened_message, sealed_target
from wad.worker.translate.base import unmended, unmended_all
from wad.worker.translate.events import TRANSLATORS, Untranslatable, placeholder
from wad.worker.translate.history import UntranslatedItem, history_and_refused
from wad.worker.votes import with_decrypted_vote

log = logging.getLogger("wad.inbox")

STORED_EVENTS: Final = frozenset(TRANSLATORS)
"""The events that are stored in the spool."""

_HISTORY: Final = "HistorySync"
_ENVELOPED: Final = frozenset({"Message", "UndecryptableMessage"})
_INFO: Final = 1  # the number of their field `Info` (Neonize.proto)
_ITEM_DEPTH: Final = 2  # Data.conversations.messages
_REASON: Final = 300  # characters


def _unknown(_party: Jid) -> Jid | None:
    return None


class OpeningKeys(NamedTuple):
    """What opens sealed votes and changes, and names people.

    `read_vote(raw)` returns what a Message event votes for, or raises EngineFailure (wad/worker/votes.py).
    `other_address(lid)` returns the number of a LID, if the library knows it.
    """

    read_vote: Callable[[bytes], tuple[bytes, ...]]
    secrets: MessageSecrets
    other_address: Callable[[Jid], Jid | None] = _unknown


class Translated(NamedTuple):
    """The key of an event, as wad/worker/log_lines.py defines it, and the rows to store."""

    key: str
    rows: tuple[Arrival, ...]


def translated(name: str, raw: bytes, keys: OpeningKeys, received_ms: int) -> Translated:
    """The rows for an event of the library, whatever its bytes are."""
    if name == _HISTORY:
        return Translated(HISTORY, _history_rows(raw, keys, received_ms))
    try:
        found, reason = _parsed(name, raw)
        key, wa_id = _event_key(name, found)
    except Exception as error:  # any error: the raw event is stored
        return Translated(
            "", (_untranslated(name, raw, "", _error_text(name, error), received_ms),)
        )
    if not reason:
        try:
            event = TRANSLATORS[name](found)
            if name == "Message":
                keys.secrets.add_event(found)
                event = _opened(event, raw, found, keys)
            event = _with_numbers(event, keys)
            rows = _event_rows(name, raw, wa_id, event, received_ms, found)
        except (Untranslatable, InvalidData) as error:
            reason = str(error)
        except Exception as error:  # any error: the raw event is stored and counted
            reason = _error_text(name, error)
        else:
            return Translated(key, rows)
    return Translated(key, _refused_rows(name, raw, wa_id, reason, received_ms, found))


def _opened(event: Event | None, raw: bytes, found: Any, keys: OpeningKeys) -> Event | None:
    """The event; a sealed vote or change is replaced by its content, if it can be opened."""
    if not isinstance(event, MessageReceived):
        return event
    if event.content.kind is MessageKind.NOTICE:
        content = opened(found, keys.secrets)
        return event if content is None else replace(event, content=content)
    return with_decrypted_vote(event, lambda: keys.read_vote(raw))


def _with_numbers(event: Event | None, keys: OpeningKeys) -> Event | None:
    """The event; a message or receipt that names a person by LID only also has the number, if it is known.

    Receipts never have it, and are matched with messages by their chat.
    """
    if not isinstance(event, MessageReceived | ReceiptReceived):
        return event
    if event.sender_alt is None and event.sender is not None and _is_lid(event.sender):
        event = replace(event, sender_alt=keys.other_address(event.sender))
    if event.chat_alt is None and _is_lid(event.chat):
        same = event.sender is not None and event.chat.party() == event.sender.party()
        alt = event.sender_alt if same else keys.other_address(event.chat)
        event = replace(event, chat_alt=alt)
    return event


def _is_lid(jid: Jid) -> bool:
    return jid.kind is JidKind.LID


def _parsed(name: str, raw: bytes) -> tuple[Any, str]:
    """The event; or, with the reason, the envelope that identifies a message.  Raises DecodeError."""
    try:
        return parse(name, raw), ""
    except DecodeError as error:
        if name not in _ENVELOPED:
            raise
        return envelope(event_class(name), raw, _INFO), _error_text(name, error)


def _event_key(name: str, found: Any) -> tuple[str, str]:
    """The key of the event, and its WhatsApp id, which is empty if invalid."""
    if name == "Message":
        ident = unmended(found.Info, "ID")
        wa_id = ident if is_ident(ident) else ""
        if _announces_history(found):
            return announcement_key(ident), wa_id
        return message_key(ident), wa_id
    if (
        name == "Receipt"
        and found.Type in HELD_RECEIPT_TYPES
        and (ids := unmended_all(found, "MessageIDs"))
    ):
        return receipt_key(ids[0]), ""
    return "", ""


def _announces_history(found: Any) -> bool:
    """Whether it is our phone's announcement that a history chunk can be downloaded."""
    ours = found.Info.MessageSource.IsFromMe
    return bool(ours and found.Message.protocolMessage.HasField("historySyncNotification"))


def _error_text(name: str, error: Exception) -> str:
    if isinstance(error, DecodeError):
        log.warning("a %s cannot be parsed", name)
        return f"cannot be parsed: {error}"
    log.error("cannot translate a %s", name, exc_info=error)
    return f"{type(error).__name__}: {error}"


def _event_rows(
    name: str, raw: bytes, wa_id: str, event: Event | None, received_ms: int, found: Any
) -> tuple[Arrival, ...]:
    if event is None:
        heard = name == "Message" and wa_id and not found.Info.MessageSource.IsFromMe
        return (Arrival(0, HEARD, wa_id),) if heard else ()
    data = read_back(_dated(event, received_ms))
    return (Arrival(received_ms, name.lower(), wa_id, raw, data),)


def _dated(event: Event, received_ms: int) -> Event:
    """The event; a message or a receipt without a time gets the current one: no id depends on a time.

    So the message is visible, and a receipt of our own phone covers what was read.
    """
    if isinstance(event, MessageReceived | ReceiptReceived) and event.at_ms == 0:
        return replace(event, at_ms=received_ms)
    return event


def _refused_rows(
    name: str, raw: bytes, wa_id: str, reason: str, received_ms: int, found: Any
) -> tuple[Arrival, ...]:
    row = _untranslated(name, raw, wa_id, reason, received_ms)
    if name not in _ENVELOPED:
        return (row,)
    try:
        shown = placeholder(found, row.reason)
        event = None if shown is None else read_back(_dated(shown, received_ms))
    except Exception as error:  # the raw event is stored in any case
        _error_text(name, error)
        event = None
    return (
        (row,) if event is None else (row, Arrival(received_ms, "placeholder", wa_id, b"", event))
    )


def _untranslated(name: str, raw: bytes, wa_id: str, reason: str, received_ms: int) -> Arrival:
    return Arrival(received_ms, name.lower(), wa_id, raw, None, cut(repaired(reason), _REASON))


# --- history --------------------------------------------------------------------------------------


def _history_rows(raw: bytes, keys: OpeningKeys, received_ms: int) -> tuple[Arrival, ...]:
    kind = event_class(_HISTORY)
    rows: list[Arrival] = []
    try:
        try:
            found = kind.FromString(raw)
        except DecodeError as error:
            found, damaged = without_damaged(kind, raw, _ITEM_DEPTH)
            reason = f"{damaged} items cannot be parsed: {error}"
            rows.append(_untranslated(_HISTORY, raw, "", reason, received_ms))
            raw = found.SerializePartialToString()
        keys.secrets.add_history(found, _sealed_targets(found))
        event, refused = history_and_refused(found, partial(_opened_in_history, keys))
        rows += [_item(kind, one, received_ms) for one in refused]
        if event is not None:
            rows.append(Arrival(received_ms, _HISTORY.lower(), "", raw, read_back(event)))
        return tuple(rows)
    except Exception as error:  # any error: the whole chunk is stored and counted
        return (_untranslated(_HISTORY, raw, "", _error_text(_HISTORY, error), received_ms),)


def _sealed_targets(found: Any) -> set[str]:
    """The ids of the messages that sealed changes in a history chunk change."""
    items = (item.message for chat in found.Data.conversations for item in chat.messages)
    targets = {sealed_target(item.message) for item in items if item.HasField("message")}
    return targets - {""}


def _opened_in_history(
    keys: OpeningKeys, message: Any, chat: Jid, alt: Jid | None, sender: Jid | None
) -> Content | None:
    """A sealed change in a history chunk; it is opened by the same rules as one that arrives."""
    senders: tuple[Jid | None, ...] = _valid(keys.secrets.own)
    if sender is not None:
        senders = (sender, alt if sender == chat and alt else keys.other_address(sender))
    by = SealedBy((chat, alt), senders)
    return opened_message(message, by, keys.secrets) if senders else None


def _valid(addresses: Iterable[str]) -> tuple[Jid, ...]:
    """Those of these addresses that are valid: they are from the session's file."""
    found = []
    for one in addresses:
        with suppress(BadJid):
            found.append(Jid.parse(one))
    return tuple(found)


def _item(kind: Any, one: UntranslatedItem, received_ms: int) -> Arrival:
    """A refused item, as a history chunk that contains nothing else."""
    chunk = kind()
    one.put(chunk.Data)
    raw = chunk.SerializePartialToString()
    return _untranslated(_HISTORY, raw, one.wa_id, one.reason, received_ms)
