"""The change log of the replica: the keys of the documents to push, written by triggers in the transaction of each
change.

A key names a document, not a change: the push reads the rows as they are then.  A key that is logged again keeps its
position, so that a row that changes all the time is not postponed for ever.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from wad.store.firestore.sync import quarantine_rows


class KeyKind(StrEnum):
    """The kind of document that a key names."""

    MESSAGE = "message"  # THREAD/ID
    THREAD = "thread"
    ENTRY = "entry"
    ACCOUNT = "account"
    ALIAS = "alias"  # ACCOUNT LID
    NUMBER = "number"  # ACCOUNT NUMBER
    FACT = "fact"  # its digest; `payload` is the account and the change
    WA_ID = "wa_id"  # THREAD/ID of a message whose document id does not follow from its WhatsApp id
    DEDUPE = "dedupe"  # THREAD/ID of the same messages
    CONTACT = "contact"  # the id of a person's thread


FACTS: Final = (
    KeyKind.MESSAGE,
    KeyKind.ALIAS,
    KeyKind.NUMBER,
    KeyKind.FACT,
    KeyKind.WA_ID,
    KeyKind.DEDUPE,
)
"""Kinds that every machine may push."""
EXCLUSIVE: Final = (KeyKind.THREAD, KeyKind.ENTRY, KeyKind.ACCOUNT, KeyKind.CONTACT)
"""Kinds that only the holder of the lease may push."""


LAST: Final = (1 << 63) - 1
"""A number that is greater than that of every key."""


class Dirty(NamedTuple):
    """One key in the log.  `since_ms`: since when it waits; `version` grows when it is logged again."""

    seq: int
    kind: KeyKind
    key: str
    since_ms: int
    version: int
    payload: bytes | None


_NOW: Final = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS dirty (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, key TEXT NOT NULL, since_ms INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 0, payload BLOB, UNIQUE (kind, key)
);
CREATE TABLE IF NOT EXISTS identity (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS synced (source TEXT PRIMARY KEY, until TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS looked (
    thread TEXT PRIMARY KEY, last_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, stale INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""
_AGAIN: Final = "ON CONFLICT (kind, key) DO UPDATE SET version = version + 1"
_PUT: Final = (
    f"INSERT INTO dirty (kind, key, since_ms) VALUES ('{{kind}}', {{key}}, {_NOW}) {_AGAIN}"
)
_KEYS: Final = {
    ("messages", KeyKind.MESSAGE): "{row}.thread || '/' || {row}.id",
    ("threads", KeyKind.THREAD): "{row}.id",
    ("outbox", KeyKind.ENTRY): "{row}.id",
    ("accounts", KeyKind.ACCOUNT): "{row}.account",
    ("aliases", KeyKind.ALIAS): "{row}.account || ' ' || {row}.lid",
    ("numbers", KeyKind.NUMBER): "{row}.account || ' ' || {row}.number",
}

_COLUMNS: Final = {
    "outbox": ("id", "account", "state", "created_ms", "wa_id", "entry"),
    "aliases": ("account", "lid", "pn"),
}
"""The columns that are in a document, or change it: an entry's turn is local to this machine, and that an alias was
reported again is no news."""


class _RowKind(NamedTuple):
    """A kind of document that only some rows of a table have, and that changes with some of their columns only."""

    table: str
    kind: KeyKind
    key: str
    where: str
    columns: tuple[str, ...]


_MESSAGE_KEY: Final = _KEYS["messages", KeyKind.MESSAGE]
_HAS_OWN_ID: Final = "{row}.wa_id != '' AND {row}.id != substr({row}.stable_key, 1, 24)"
_ID_COLUMNS: Final = ("id", "thread", "wa_id")
_HAS_NAME: Final = (
    "{row}.saved_name || {row}.push_name != ''"
    " AND ({row}.chat LIKE '%@s.whatsapp.net' OR {row}.chat LIKE '%@lid')"
)
_ROW_KINDS: Final = (
    _RowKind("messages", KeyKind.WA_ID, _MESSAGE_KEY, _HAS_OWN_ID, _ID_COLUMNS),
    _RowKind("messages", KeyKind.DEDUPE, _MESSAGE_KEY, _HAS_OWN_ID, _ID_COLUMNS),
    _RowKind("threads", KeyKind.CONTACT, "{row}.id", _HAS_NAME, ("saved_name", "push_name")),
)


def _triggers() -> str:
    made = []
    for (table, kind), key in _KEYS.items():
        for event, rows in (("INSERT", ["NEW"]), ("UPDATE", ["OLD", "NEW"]), ("DELETE", ["OLD"])):
            puts = "; ".join(_PUT.format(kind=kind, key=key.format(row=row)) for row in rows)
            name = f"tell_{table}_{event.lower()}"
            if event == "UPDATE" and table in _COLUMNS:
                made.append(
                    f"DROP TRIGGER IF EXISTS {name};"
                )  # an older trigger covers all columns
                event += f" OF {', '.join(_COLUMNS[table])}"
            made.append(
                f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON {table} BEGIN {puts}; END;"
            )
    for part in _ROW_KINDS:
        put = _PUT.format(kind=part.kind, key=part.key.format(row="NEW"))
        where = part.where.format(row="NEW")
        changed = " OR ".join(f"NEW.{name} != OLD.{name}" for name in part.columns)
        for event, when in (("INSERT", where), ("UPDATE", f"{where} AND ({changed})")):
            made.append(
                f"CREATE TRIGGER IF NOT EXISTS tell_{part.kind}_{event.lower()} AFTER {event} ON {part.table}"
                f" WHEN {when} BEGIN {put}; END;"
            )
    return "\n".join(made)


def install(db: sqlite3.Connection) -> None:
    """Create missing tables and triggers.  In a store that had no change log, everything stored so far is logged."""
    fresh = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'dirty'").fetchone() is None
    db.executescript(
        f"BEGIN IMMEDIATE; {_TABLES}{quarantine_rows.TABLE}{_triggers()}{_everything() if fresh else ''} COMMIT;"
    )


def _everything() -> str:
    whole = [_RowKind(table, kind, key, "true", ()) for (table, kind), key in _KEYS.items()]
    return "".join(
        f"INSERT INTO dirty (kind, key, since_ms) SELECT '{part.kind}', {part.key.format(row='t')}, {_NOW}"
        f" FROM {part.table} AS t WHERE {part.where.format(row='t')} {_AGAIN};"
        for part in (*whole, *_ROW_KINDS)
    )


def put(db: sqlite3.Connection, kind: KeyKind, key: str, payload: bytes | None = None) -> None:
    """Log this key."""
    db.execute(
        f"INSERT INTO dirty (kind, key, since_ms, payload) VALUES (?,?,{_NOW},?) {_AGAIN}, payload = excluded.payload",
        (kind, key, payload),
    )


def waits(db: sqlite3.Connection, kind: KeyKind, key: str) -> bool:
    """Whether this key waits for the push."""
    query = "SELECT 1 FROM dirty WHERE kind = ? AND key = ?"
    return db.execute(query, (kind, key)).fetchone() is not None


def drop(db: sqlite3.Connection, kind: KeyKind, key: str) -> None:
    """Remove a key: its document in Firestore is up to date."""
    db.execute("DELETE FROM dirty WHERE kind = ? AND key = ?", (kind, key))


def waiting(
    db: sqlite3.Connection,
    limit: int,
    kinds: Iterable[KeyKind],
    after: int = 0,
    upto: int = LAST,
) -> Iterator[Dirty]:
    """The keys that wait longest, with numbers after `after` and up to `upto`.

    They are read one by one since payloads of facts may be large.
    """
    chosen = tuple(kinds)
    rows = db.execute(
        "SELECT seq, kind, key, since_ms, version, payload FROM dirty"
        f" WHERE kind IN ({','.join('?' * len(chosen))}) AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        (*chosen, after, upto, limit),
    )
    return (Dirty(seq, KeyKind(kind), *rest) for seq, kind, *rest in rows)


def done(db: sqlite3.Connection, pushed: Iterable[Dirty]) -> None:
    """Remove pushed keys; a key that was logged again meanwhile stays."""
    db.executemany(
        "DELETE FROM dirty WHERE seq = ? AND version = ?",
        [(one.seq, one.version) for one in pushed],
    )


def backlog(db: sqlite3.Connection, kinds: Iterable[KeyKind]) -> tuple[int, int | None]:
    """The number of keys of these kinds, and since when the oldest waits (ms since 1970)."""
    chosen = tuple(kinds)
    where = f"WHERE kind IN ({','.join('?' * len(chosen))})"
    count = db.execute(f"SELECT count(*) FROM dirty {where}", chosen).fetchone()[0]
    oldest = db.execute(f"SELECT since_ms FROM dirty {where} ORDER BY seq LIMIT 1", chosen)
    return int(count), next((since_ms for (since_ms,) in oldest), None)
