"""The documents that were set aside, in the replica: they survive a restart, and there are never too many of them.

A document is set aside by its path and in the version that was read: the same version is not handled again, a newer one
is.  What was dropped leaves its path and version, so that it does not come back by itself.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from wad.core.quarantine import ItemKind, Quarantined

log = logging.getLogger(__name__)

MOST: Final = 1000  # items, and as many that were dropped
MOST_BYTES: Final = 64 << 20  # of facts that Firestore refuses, which are kept nowhere else
_REASON: Final = 300  # characters
_NAME: Final = 1500

TABLE: Final = """
CREATE TABLE IF NOT EXISTS aside (
    path TEXT PRIMARY KEY, id TEXT NOT NULL, entry INTEGER NOT NULL, account TEXT NOT NULL, reason TEXT NOT NULL,
    size INTEGER NOT NULL, since_ms INTEGER NOT NULL, version TEXT NOT NULL, origin TEXT NOT NULL,
    kind TEXT NOT NULL, key TEXT NOT NULL, payload BLOB, dropped INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""
_NOW: Final = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
_COLUMNS: Final = "path, account, reason, size, version, origin, kind, key, payload"


_AGAIN: Final = ", ".join(
    f"{name} = excluded.{name}" for name in _COLUMNS.split(", ") if name not in ("path", "account")
)


class Origin(StrEnum):
    """What could not be done."""

    READ = "read"
    """Another program's document, or another machine's, could not be read."""
    WRITE = "write"
    """Firestore does not take a document of ours, or it cannot be made."""


class Aside(NamedTuple):
    """One document.  `kind`, `key` and `payload` name what it is made from, where it is ours."""

    path: str
    account: str
    reason: str
    size: int = 0
    version: str = ""
    origin: Origin = Origin.READ
    kind: str = ""
    key: str = ""
    payload: bytes | None = None


def put(db: sqlite3.Connection, items: Iterable[Aside]) -> None:
    """Set these aside; the oldest go where there are too many."""
    for item in items:
        path, reason = item.path[:_NAME], item.reason[:_REASON]
        values = (*item._replace(path=path, reason=reason), ident_of(path), _is_entry(path))
        db.execute(
            f"INSERT INTO aside ({_COLUMNS}, id, entry, since_ms) VALUES (?,?,?,?,?,?,?,?,?,?,?,{_NOW})"
            f" ON CONFLICT (path) DO UPDATE SET {_AGAIN}, dropped = 0",
            values,
        )
        log.warning("%s was set aside: %s", path, reason)
    for dropped in (0, 1):
        db.execute(
            "DELETE FROM aside WHERE path IN (SELECT path FROM aside WHERE dropped = ?"
            " ORDER BY since_ms DESC, path LIMIT -1 OFFSET ?)",
            (dropped, MOST),
        )
    kept = db.execute("SELECT coalesce(sum(length(payload)), 0) FROM aside").fetchone()[0]
    if kept > MOST_BYTES:
        db.execute(
            "UPDATE aside SET payload = NULL WHERE path ="
            " (SELECT path FROM aside WHERE payload IS NOT NULL ORDER BY since_ms LIMIT 1)"
        )


def counts(db: sqlite3.Connection) -> tuple[int, int]:
    """How many there are, and of these how many that Firestore does not take."""
    query = "SELECT count(*), coalesce(sum(origin = 'write'), 0) FROM aside WHERE NOT dropped"
    whole, refused = db.execute(query).fetchone()
    return int(whole), int(refused)


def known(db: sqlite3.Connection, versions: Iterable[tuple[str, str]]) -> set[str]:
    """Which of these (path, version) were set aside, or dropped, just so."""
    query = "SELECT 1 FROM aside WHERE path = ? AND version = ?"
    return {path for path, version in versions if db.execute(query, (path, version)).fetchone()}


def items(db: sqlite3.Connection) -> list[Quarantined]:
    """All, in any order."""
    query = "SELECT id, entry, account, path, reason, since_ms, size FROM aside WHERE NOT dropped"
    return [
        Quarantined(
            id=ident,
            kind=ItemKind.ENTRY if entry else ItemKind.DOCUMENT,
            account=account,
            name=path,
            reason=reason,
            since_ms=since_ms,
            size=size,
        )
        for ident, entry, account, path, reason, since_ms, size in db.execute(query)
    ]


def find(db: sqlite3.Connection, ident: str) -> Aside | None:
    """The item of this id."""
    query = f"SELECT {_COLUMNS} FROM aside WHERE id = ? AND NOT dropped"
    row = db.execute(query, (ident,)).fetchone()
    return None if row is None else Aside(*row)._replace(origin=Origin(row[5]))


def remove(db: sqlite3.Connection, paths: Collection[str]) -> None:
    """These could be handled after all."""
    db.executemany("DELETE FROM aside WHERE path = ?", [(path,) for path in paths])


def drop(db: sqlite3.Connection, path: str) -> None:
    """Forget it, but for its version."""
    db.execute("UPDATE aside SET dropped = 1, payload = NULL WHERE path = ?", (path,))


def ident_of(path: str) -> str:
    """A short name for a path."""
    digest = hashlib.blake2b(path.encode(errors="surrogatepass"), digest_size=5).hexdigest()
    return f"doc-{digest}"


def _is_entry(path: str) -> bool:
    return path.startswith("outbox/")
