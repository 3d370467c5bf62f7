"""From a key of the replica to the document that Firestore should have."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from typing import Any, Final, assert_never

import msgspec

from wad.store.firestore.capture import Dirty, Kind
from wad.store.firestore.fields import (
    Fields,
    message_fields,
    message_path,
    redirect_fields,
    thread_fields,
    thread_path,
)
from wad.store.firestore.outbox_fields import entry_fields, entry_path
from wad.store.sqlite_outbox import load_entry
from wad.store.sqlite_rows import (
    MESSAGE_COLUMNS,
    THREAD_COLUMNS,
    message_from,
    pack,
    party,
    thread_from,
    thread_of,
    told_from,
)

LARGEST: Final = 1_000_000  # bytes; Firestore takes 1 MiB, counted a little otherwise than here
_KEPT: Final = 200_000  # characters of a text that was too long


@dataclass(frozen=True, slots=True)
class Told:
    """A document to write.  `fields` None: it should not be there; `path` empty: nothing is to be done.

    `there`: Firestore has it like this already.  `exclusive`: only the holder of the lease may write it.
    """

    dirty: Dirty
    path: str
    fields: Fields | None
    digest: bytes | None
    size: int
    there: bool
    exclusive: bool


def document_of(db: sqlite3.Connection, dirty: Dirty) -> Told:
    """What the rows say now."""
    path, fields = _document(db, dirty)
    exclusive = dirty.kind in (Kind.THREAD, Kind.ENTRY)
    data = b"" if fields is None else msgspec.msgpack.encode(fields)
    if fields is not None and len(data) > LARGEST:
        fields = _cut(fields)
        data = msgspec.msgpack.encode(fields)
    digest = None if fields is None else hashlib.blake2b(data, digest_size=16).digest()
    row = db.execute("SELECT digest FROM told WHERE path = ?", (path,)).fetchone()
    there = not path or (row[0] if row else None) == digest
    return Told(dirty, path, fields, digest, len(data), there, exclusive)


def _document(db: sqlite3.Connection, dirty: Dirty) -> tuple[str, Fields | None]:
    match dirty.kind:
        case Kind.MESSAGE:
            return _message(db, dirty.key)
        case Kind.THREAD:
            return _thread(db, dirty.key)
        case Kind.ENTRY:
            entry = load_entry(db, dirty.key)
            return entry_path(dirty.key), None if entry is None else entry_fields(entry)
        case Kind.ALIAS:
            return _alias(db, dirty.key)
        case Kind.FACT:
            account = dirty.key.partition("__")[0]
            return fact_path(dirty.key), {"accountId": account, "payload": dirty.payload}
        case _:
            assert_never(dirty.kind)


def fact_path(key: str) -> str:
    """Where a fact lies that shows in no document."""
    return f"wad_facts/{key}"


def _message(db: sqlite3.Connection, key: str) -> tuple[str, Fields | None]:
    thread, _, ident = key.rpartition("/")
    path = message_path(thread, ident)
    query = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE id = ? AND thread = ?"
    row = db.execute(query, (ident, thread)).fetchone()
    if row is None:
        return path, None
    message = message_from(row)
    fields = message_fields(message)
    # What was sent by the outbox is known from its entry.
    fields["wad"] = {} if message.client_id else {"told": pack(told_from(row))}
    fields["wad"]["state"] = str(message.status)
    return path, fields


def _thread(db: sqlite3.Connection, ident: str) -> tuple[str, Fields | None]:
    query = f"SELECT {THREAD_COLUMNS} FROM threads WHERE id = ?"
    row = db.execute(query, (ident,)).fetchone()
    if row is not None:
        thread = thread_from(row)
        return (thread_path(ident), thread_fields(thread)) if thread.messages else ("", None)
    now = thread_of(db, ident)
    return thread_path(ident), redirect_fields(now) if now != ident else None


def _alias(db: sqlite3.Connection, key: str) -> tuple[str, Fields | None]:
    account, _, lid = key.partition(" ")
    fields: dict[str, Any] = {
        "accountId": account,
        "rawJid": lid,
        "canonicalJid": party(db, account, lid),
        "source": "wad",
    }
    return f"jid_aliases/{account}__{lid}", fields


def _cut(fields: Fields) -> Fields:
    """A document that Firestore would not take, without what makes it large; the whole text stays in the replica."""
    body = fields.get("body")
    small = {**fields, "truncated": True, "wad": {"state": fields.get("wad", {}).get("state", "")}}
    if isinstance(body, str):
        small["body"] = body[:_KEPT]
    for name in ("reactions", "media"):
        if len(msgspec.msgpack.encode(small.get(name))) > LARGEST // 4:
            small[name] = None
    return small
