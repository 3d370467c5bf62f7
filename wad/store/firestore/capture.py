"""What the replica has to tell: a list of keys, kept by triggers in the transaction of each change.

A key names what is to be looked at again, not what changed: whoever tells reads the row as it is then.  `told`
remembers a digest of each document as it was written last, so that nothing is written that is there already.
"""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """What a key names."""

    MESSAGE = "message"  # THREAD/ID
    THREAD = "thread"
    ENTRY = "entry"
    ALIAS = "alias"  # ACCOUNT LID
    FACT = "fact"  # its digest; `payload` is the account and the change


class Dirty(NamedTuple):
    """One key; `since_ms`: since when it waits."""

    seq: int
    kind: Kind
    key: str
    since_ms: int
    payload: bytes | None


_NOW: Final = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS dirty (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, key TEXT NOT NULL, since_ms INTEGER NOT NULL,
    payload BLOB, UNIQUE (kind, key)
);
CREATE TABLE IF NOT EXISTS told (path TEXT PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (path TEXT PRIMARY KEY, why TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS synced (collection TEXT PRIMARY KEY, until TEXT NOT NULL) WITHOUT ROWID;
"""
_PUT: Final = (
    f"INSERT OR REPLACE INTO dirty (kind, key, since_ms) VALUES ('{{kind}}', {{key}}, {_NOW})"
)
_KEYS: Final = {
    ("messages", Kind.MESSAGE): "{row}.thread || '/' || {row}.id",
    ("threads", Kind.THREAD): "{row}.id",
    ("outbox", Kind.ENTRY): "{row}.id",
    ("aliases", Kind.ALIAS): "{row}.account || ' ' || {row}.lid",
}


def _triggers() -> str:
    made = []
    for (table, kind), key in _KEYS.items():
        for event, rows in (("INSERT", ["NEW"]), ("UPDATE", ["OLD", "NEW"]), ("DELETE", ["OLD"])):
            puts = "; ".join(_PUT.format(kind=kind, key=key.format(row=row)) for row in rows)
            made.append(
                f"CREATE TRIGGER IF NOT EXISTS tell_{table}_{event.lower()} AFTER {event} ON {table}"
                f" BEGIN {puts}; END;"
            )
    return "\n".join(made)


def install(db: sqlite3.Connection) -> None:
    """Make tables and triggers, where they are not there.  Outside of a transaction."""
    db.executescript(_TABLES + _triggers())


def put(db: sqlite3.Connection, kind: Kind, key: str, payload: bytes | None = None) -> None:
    """Look at this again."""
    db.execute(
        f"INSERT OR REPLACE INTO dirty (kind, key, since_ms, payload) VALUES (?,?,{_NOW},?)",
        (kind, key, payload),
    )


def everything(db: sqlite3.Connection) -> None:
    """Look at all that is there: the database has been a store of its own until now."""
    for (table, kind), key in _KEYS.items():
        db.execute(
            f"INSERT OR IGNORE INTO dirty (kind, key, since_ms)"
            f" SELECT '{kind}', {key.format(row='t')}, {_NOW} FROM {table} AS t"
        )


def waiting(
    db: sqlite3.Connection, after: int, limit: int, kinds: tuple[Kind, ...] = tuple(Kind)
) -> list[Dirty]:
    """The keys behind `after` that wait longest."""
    rows = db.execute(
        f"SELECT seq, kind, key, since_ms, payload FROM dirty WHERE seq > ?"
        f" AND kind IN ({','.join('?' * len(kinds))}) ORDER BY seq LIMIT ?",
        (after, *kinds, limit),
    )
    return [Dirty(seq, Kind(kind), key, since, payload) for seq, kind, key, since, payload in rows]


def backlog(db: sqlite3.Connection) -> tuple[int, int | None]:
    """How many keys wait, and since when the oldest does (ms since 1970)."""
    count, oldest = db.execute("SELECT count(*), min(since_ms) FROM dirty").fetchone()
    return int(count), oldest
