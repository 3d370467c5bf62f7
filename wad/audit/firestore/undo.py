"""The undo records of a repair in Firestore.

The undo file is on the disk before anything is written.  It holds fields of messages, texts included: mode 0600.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from wad.audit.firestore.plan import Document, DocumentEdit, Unit
from wad.audit.firestore.rows import TIMEOUT
from wad.store.firestore.client.database import Client
from wad.store.firestore.client.decode import get_all

_AT_ONCE: Final = 300  # documents of one read
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


class UndoRecord(msgspec.Struct, frozen=True):
    """The changed fields of one document, before (None: it did not exist) and after."""

    path: str
    before: dict[str, Any] | None
    after: dict[str, Any]


decode_all: Final = msgspec.msgpack.Decoder(list[UndoRecord]).decode


def undo_record(edit: DocumentEdit) -> UndoRecord:
    """The undo record of an edit."""
    known: dict[str, Any] | None = None
    fields = edit.fields or {}
    if edit.document.version is not None:
        before = edit.document.fields
        known = {name: _plain(before[name]) for name in fields if name in before}
    return UndoRecord(
        edit.document.path, known, {name: _plain(value) for name, value in fields.items()}
    )


def is_plain(edit: DocumentEdit) -> bool:
    """Whether an edit can be written and recorded: no references, no geopoints, names without dots."""
    before = edit.document.fields
    fields = edit.fields or {}
    values = [*fields.values(), *(before[name] for name in fields if name in before)]
    return all(map(_NAME.fullmatch, fields)) and all(map(_is_plain, values))


def _is_plain(value: object) -> bool:
    match value:
        case None | bool() | int() | float() | str() | bytes() | datetime():
            return True
        case Mapping():
            return all(map(_is_plain, value.values()))
        case list() | tuple():
            return all(map(_is_plain, value))
    return False


def _plain(value: Any) -> Any:
    """The value without the library's own types; Firestore stores microseconds."""
    match value:
        case datetime():
            return datetime(
                value.year,
                value.month,
                value.day,
                value.hour,
                value.minute,
                value.second,
                value.microsecond,
                UTC,
            )
        case Mapping():
            return {name: _plain(each) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
    return value


def restoring(client: Client, changes: Sequence[UndoRecord]) -> Iterator[Unit]:
    """The edits that revert these changes, and no later ones."""
    for start in range(0, len(changes), _AT_ONCE):
        part = changes[start : start + _AT_ONCE]
        paths = [change.path for change in part]
        found = {
            snapshot.path: Document(snapshot.path, snapshot.fields, snapshot.version)
            for snapshot in get_all(client, paths, timeout=TIMEOUT)
        }
        for change in part:
            edit = _restored(change, found[change.path])
            if edit is not None:
                yield (edit,)


def _restored(change: UndoRecord, now: Document) -> DocumentEdit | None:
    """The edit that reverts one document; None if nothing of the repair is left in it."""
    if now.version is None:
        return None
    same = [name for name, value in change.after.items() if now.fields.get(name) == value]
    if change.before is None:
        # A copy that another program has changed since is a message of its own.
        return (
            DocumentEdit(now, None) if len(same) == len(change.after) == len(now.fields) else None
        )
    back = {name: change.before[name] for name in same if name in change.before}
    gone = tuple(name for name in same if name not in change.before)
    return DocumentEdit(now, back, gone) if same else None
