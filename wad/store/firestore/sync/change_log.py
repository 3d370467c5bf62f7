"""What the replica has to tell: a list of keys, kept by triggers in the transaction of each change.

A key names what is to be looked at again, not what changed: whoever tells reads the rows as they are then.  A key that
is noted again keeps its place in the list, so that what changes all the time does not wait for ever.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from wad.store.firestore.sync import quarantine_rows


class KeyKind(StrEnum):
    """What a key names."""

    MESSAGE = "message"  # THREAD/ID
    THREAD = "thread"
    ENTRY = "entry"
    ACCOUNT = "account"
    ALIAS = "alias"  # ACCOUNT LID
    FACT = "fact"  # its digest; `payload` is the account and the change
    WA_ID = "wa_id"  # THREAD/ID of a message whose document id does not follow from its WhatsApp id
    DEDUPE = "dedupe"  # the same
    CONTACT = "contact"  # the id of a person's thread


FACTS: Final = (KeyKind.MESSAGE, KeyKind.ALIAS, KeyKind.FACT, KeyKind.WA_ID, KeyKind.DEDUPE)
"""What may be told by whoever knows it."""
EXCLUSIVE: Final = (KeyKind.THREAD, KeyKind.ENTRY, KeyKind.ACCOUNT, KeyKind.CONTACT)
"""What only the holder of the lease may tell."""


class Dirty(NamedTuple):
    """One key.  `since_ms`: since when it waits; `version` grows when it is noted again."""

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
}

_COLUMNS: Final = {"outbox": ("id", "account", "state", "created_ms", "wa_id", "entry")}
"""Those that show in a document, where some do not: an entry's turn is this machine's own."""


class _RowKind(NamedTuple):
    """A kind that some of the rows of a table have, and that changes with some of their columns."""

    table: str
    kind: KeyKind
    key: str
    where: str
    columns: tuple[str, ...]


_MESSAGE_KEY: Final = _KEYS["messages", KeyKind.MESSAGE]
_OTHER_ID: Final = "{row}.wa_id != '' AND {row}.id != substr({row}.stable_key, 1, 24)"
_PLACE: Final = ("id", "thread", "wa_id")
_NAMED: Final = (
    "{row}.saved_name || {row}.push_name != ''"
    " AND ({row}.chat LIKE '%@s.whatsapp.net' OR {row}.chat LIKE '%@lid')"
)
_PARTS: Final = (
    _RowKind("messages", KeyKind.WA_ID, _MESSAGE_KEY, _OTHER_ID, _PLACE),
    _RowKind("messages", KeyKind.DEDUPE, _MESSAGE_KEY, _OTHER_ID, _PLACE),
    _RowKind("threads", KeyKind.CONTACT, "{row}.id", _NAMED, ("saved_name", "push_name")),
)


def _triggers() -> str:
    made = []
    for (table, kind), key in _KEYS.items():
        for event, rows in (("INSERT", ["NEW"]), ("UPDATE", ["OLD", "NEW"]), ("DELETE", ["OLD"])):
            puts = "; ".join(_PUT.format(kind=kind, key=key.format(row=row)) for row in rows)
            name = f"tell_{table}_{event.lower()}"
            if event == "UPDATE" and table in _COLUMNS:
                made.append(f"DROP TRIGGER IF EXISTS {name};")  # an older one is of all columns
                event += f" OF {', '.join(_COLUMNS[table])}"
            made.append(
                f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON {table} BEGIN {puts}; END;"
            )
    for part in _PARTS:
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
    """Make tables and triggers, where they are not there.  What a store of its own has had until now is noted whole."""
    fresh = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'dirty'").fetchone() is None
    db.executescript(
        f"BEGIN IMMEDIATE; {_TABLES}{quarantine_rows.TABLE}{_triggers()}{_everything() if fresh else ''} COMMIT;"
    )


def _everything() -> str:
    whole = [_RowKind(table, kind, key, "true", ()) for (table, kind), key in _KEYS.items()]
    return "".join(
        f"INSERT INTO dirty (kind, key, since_ms) SELECT '{part.kind}', {part.key.format(row='t')}, {_NOW}"
        f" FROM {part.table} AS t WHERE {part.where.format(row='t')} {_AGAIN};"
        for part in (*whole, *_PARTS)
    )


def put(db: sqlite3.Connection, kind: KeyKind, key: str, payload: bytes | None = None) -> None:
    """Look at this again."""
    db.execute(
        f"INSERT INTO dirty (kind, key, since_ms, payload) VALUES (?,?,{_NOW},?) {_AGAIN}, payload = excluded.payload",
        (kind, key, payload),
    )


def waits(db: sqlite3.Connection, kind: KeyKind, key: str) -> bool:
    """Whether this is still to be told."""
    query = "SELECT 1 FROM dirty WHERE kind = ? AND key = ?"
    return db.execute(query, (kind, key)).fetchone() is not None


def drop(db: sqlite3.Connection, kind: KeyKind, key: str) -> None:
    """Somebody else has told it."""
    db.execute("DELETE FROM dirty WHERE kind = ? AND key = ?", (kind, key))


def waiting(
    db: sqlite3.Connection, limit: int, kinds: Iterable[KeyKind], after: int = 0
) -> Iterator[Dirty]:
    """The keys that wait longest, behind the number `after`, read one by one: facts are as large as their payloads."""
    chosen = tuple(kinds)
    rows = db.execute(
        "SELECT seq, kind, key, since_ms, version, payload FROM dirty"
        f" WHERE kind IN ({','.join('?' * len(chosen))}) AND seq > ? ORDER BY seq LIMIT ?",
        (*chosen, after, limit),
    )
    return (Dirty(seq, KeyKind(kind), *rest) for seq, kind, *rest in rows)


def done(db: sqlite3.Connection, told: Iterable[Dirty]) -> None:
    """These were told; one that was noted again meanwhile stays."""
    db.executemany(
        "DELETE FROM dirty WHERE seq = ? AND version = ?", [(one.seq, one.version) for one in told]
    )


def backlog(db: sqlite3.Connection, kinds: Iterable[KeyKind]) -> tuple[int, int | None]:
    """How many keys of these kinds wait, and since when the oldest does (ms since 1970)."""
    chosen = tuple(kinds)
    where = f"WHERE kind IN ({','.join('?' * len(chosen))})"
    count = db.execute(f"SELECT count(*) FROM dirty {where}", chosen).fetchone()[0]
    oldest = db.execute(f"SELECT since_ms FROM dirty {where} ORDER BY seq LIMIT 1", chosen)
    return int(count), next((since_ms for (since_ms,) in oldest), None)
