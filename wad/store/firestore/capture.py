"""What the replica has to tell: a list of keys, kept by triggers in the transaction of each change.

A key names what is to be looked at again, not what changed: whoever tells reads the rows as they are then.  A key that
is noted again keeps its place in the list, so that what changes all the time does not wait for ever.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """What a key names."""

    MESSAGE = "message"  # THREAD/ID
    THREAD = "thread"
    ENTRY = "entry"
    ACCOUNT = "account"
    ALIAS = "alias"  # ACCOUNT LID
    FACT = "fact"  # its digest; `payload` is the account and the change


FACTS: Final = (Kind.MESSAGE, Kind.ALIAS, Kind.FACT)
"""What may be told by whoever knows it."""
EXCLUSIVE: Final = (Kind.THREAD, Kind.ENTRY, Kind.ACCOUNT)
"""What only the holder of the lease may tell."""


class Dirty(NamedTuple):
    """One key.  `since_ms`: since when it waits; `version` grows when it is noted again."""

    seq: int
    kind: Kind
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
CREATE TABLE IF NOT EXISTS refused (path TEXT PRIMARY KEY, why TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS synced (source TEXT PRIMARY KEY, until TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS floors (thread TEXT PRIMARY KEY, last_ms INTEGER NOT NULL) WITHOUT ROWID;
"""
_AGAIN: Final = "ON CONFLICT (kind, key) DO UPDATE SET version = version + 1"
_PUT: Final = (
    f"INSERT INTO dirty (kind, key, since_ms) VALUES ('{{kind}}', {{key}}, {_NOW}) {_AGAIN}"
)
_KEYS: Final = {
    ("messages", Kind.MESSAGE): "{row}.thread || '/' || {row}.id",
    ("threads", Kind.THREAD): "{row}.id",
    ("outbox", Kind.ENTRY): "{row}.id",
    ("accounts", Kind.ACCOUNT): "{row}.account",
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
    """Make tables and triggers, where they are not there.  What a store of its own has had until now is noted whole."""
    fresh = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'dirty'").fetchone() is None
    db.executescript(
        f"BEGIN IMMEDIATE; {_TABLES}{_triggers()}{_everything() if fresh else ''} COMMIT;"
    )


def _everything() -> str:
    return "".join(
        f"INSERT INTO dirty (kind, key, since_ms) SELECT '{kind}', {key.format(row='t')}, {_NOW}"
        f" FROM {table} AS t WHERE true {_AGAIN};"
        for (table, kind), key in _KEYS.items()
    )


def put(db: sqlite3.Connection, kind: Kind, key: str, payload: bytes | None = None) -> None:
    """Look at this again."""
    db.execute(
        f"INSERT INTO dirty (kind, key, since_ms, payload) VALUES (?,?,{_NOW},?) {_AGAIN}, payload = excluded.payload",
        (kind, key, payload),
    )


def waits(db: sqlite3.Connection, kind: Kind, key: str) -> bool:
    """Whether this is still to be told."""
    query = "SELECT 1 FROM dirty WHERE kind = ? AND key = ?"
    return db.execute(query, (kind, key)).fetchone() is not None


def drop(db: sqlite3.Connection, kind: Kind, key: str) -> None:
    """Somebody else has told it."""
    db.execute("DELETE FROM dirty WHERE kind = ? AND key = ?", (kind, key))


def waiting(db: sqlite3.Connection, limit: int, kinds: Iterable[Kind]) -> Iterator[Dirty]:
    """The keys that wait longest, read one by one: facts are as large as their payloads."""
    chosen = tuple(kinds)
    rows = db.execute(
        "SELECT seq, kind, key, since_ms, version, payload FROM dirty"
        f" WHERE kind IN ({','.join('?' * len(chosen))}) ORDER BY seq LIMIT ?",
        (*chosen, limit),
    )
    return (Dirty(seq, Kind(kind), *rest) for seq, kind, *rest in rows)


def done(db: sqlite3.Connection, told: Iterable[Dirty]) -> None:
    """These were told; one that was noted again meanwhile stays."""
    db.executemany(
        "DELETE FROM dirty WHERE seq = ? AND version = ?", [(one.seq, one.version) for one in told]
    )


def backlog(db: sqlite3.Connection, kinds: Iterable[Kind]) -> tuple[int, int | None]:
    """How many keys of these kinds wait, and since when the oldest does (ms since 1970)."""
    chosen = tuple(kinds)
    where = f"WHERE kind IN ({','.join('?' * len(chosen))})"
    count = db.execute(f"SELECT count(*) FROM dirty {where}", chosen).fetchone()[0]
    oldest = db.execute(f"SELECT since_ms FROM dirty {where} ORDER BY seq LIMIT 1", chosen)
    return int(count), next((since_ms for (since_ms,) in oldest), None)
