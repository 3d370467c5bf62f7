"""The quarantine's table in the replica: it survives a restart and is bounded.

A document is quarantined by its path and in the version that was read: the same version is not handled again, a newer
one is.  An item that was dropped or exceeded the bound leaves its path and version, so that it does not return by
itself.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Collection, Iterable
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from wad.core.quarantine import ItemKind, Quarantined

log = logging.getLogger(__name__)

MAX_ITEMS: Final = 1000
MAX_VERSIONS: Final = 20_000  # items of which only path and version are left, for each: dropped ones, and unlisted ones
MAX_BYTES: Final = 64 << 20  # of facts that Firestore refuses, which are stored nowhere else
MORE: Final = "doc-more"
"""The id of the one item that stands for all unlisted items."""
_MAX_REASON: Final = 300  # characters
_MAX_PATH: Final = 1500

TABLE: Final = """
CREATE TABLE IF NOT EXISTS aside (
    path TEXT PRIMARY KEY, id TEXT NOT NULL, entry INTEGER NOT NULL, account TEXT NOT NULL, reason TEXT NOT NULL,
    size INTEGER NOT NULL, since_ms INTEGER NOT NULL, version TEXT NOT NULL, origin TEXT NOT NULL,
    kind TEXT NOT NULL, key TEXT NOT NULL, payload BLOB, dropped INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""
_NOW: Final = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
_COLUMNS: Final = "path, account, reason, size, version, origin, kind, key, payload"


_FORGET: Final = "dropped = ?, payload = NULL, reason = ''"
_OLDEST: Final = (
    "SELECT path FROM aside WHERE dropped = ? ORDER BY since_ms DESC, path LIMIT -1 OFFSET ?"
)
_EMPTIED: Final = "(its content is no longer kept) "
_AGAIN: Final = ", ".join(
    f"{name} = excluded.{name}" for name in _COLUMNS.split(", ") if name not in ("path", "account")
)


class _ItemState(IntEnum):
    """The values of the column `dropped`."""

    LISTED = 0
    DROPPED = 1  # by an operator
    UNLISTED = 2  # there were too many


class FailedAction(StrEnum):
    """The action that failed."""

    READ = "read"
    """Another program's document, or another machine's, could not be read."""
    WRITE = "write"
    """Firestore refuses a document of ours, or it cannot be built."""


class QuarantinedDocument(NamedTuple):
    """One document.  `kind`, `key` and `payload`: the change log's entry of it, if the document is ours."""

    path: str
    account: str
    reason: str
    size: int = 0
    version: str = ""
    origin: FailedAction = FailedAction.READ
    kind: str = ""
    key: str = ""
    payload: bytes | None = None


def put(db: sqlite3.Connection, items: Iterable[QuarantinedDocument]) -> None:
    """Add these items.  Of the oldest beyond MAX_ITEMS only path and version are kept, and they are counted."""
    wanted = list(items)
    if not wanted:
        return
    for item in wanted:
        path, reason = item.path[:_MAX_PATH], item.reason[:_MAX_REASON]
        values = (*item._replace(path=path, reason=reason), ident_of(path), _is_entry(path))
        db.execute(
            f"INSERT INTO aside ({_COLUMNS}, id, entry, since_ms) VALUES (?,?,?,?,?,?,?,?,?,?,?,{_NOW})"
            f" ON CONFLICT (path) DO UPDATE SET {_AGAIN}, dropped = 0",
            values,
        )
        log.warning("%s was put into quarantine: %s", path, reason)
    unlisted = db.execute(
        f"UPDATE aside SET {_FORGET} WHERE path IN ({_OLDEST}) RETURNING path",
        (_ItemState.UNLISTED, _ItemState.LISTED, MAX_ITEMS),
    ).fetchall()
    _bound_bytes(db)
    for (path,) in unlisted:
        log.error("%s is no longer listed in quarantine: %d newer items are", path, MAX_ITEMS)
    for state in (_ItemState.DROPPED, _ItemState.UNLISTED):
        db.execute(f"DELETE FROM aside WHERE path IN ({_OLDEST})", (state, MAX_VERSIONS))


def _bound_bytes(db: sqlite3.Connection) -> None:
    query = "SELECT coalesce(sum(length(payload)), 0) FROM aside"
    while db.execute(query).fetchone()[0] > MAX_BYTES:
        (path,) = db.execute(
            "UPDATE aside SET payload = NULL, reason = ? || reason WHERE path ="
            " (SELECT path FROM aside WHERE payload IS NOT NULL ORDER BY since_ms LIMIT 1) RETURNING path",
            (_EMPTIED,),
        ).fetchone()
        log.error("the content of %s is no longer kept: too much is in quarantine", path)


class QuarantineCounts(NamedTuple):
    """The number of listed items, of these the number that Firestore refuses, and the number of unlisted items."""

    listed: int
    refused: int
    unlisted: int


def counts(db: sqlite3.Connection) -> QuarantineCounts:
    """Count the items."""
    query = "SELECT count(*), coalesce(sum(origin = 'write'), 0) FROM aside WHERE dropped = ?"
    listed, refused = db.execute(query, (_ItemState.LISTED,)).fetchone()
    unlisted, _ = db.execute(query, (_ItemState.UNLISTED,)).fetchone()
    return QuarantineCounts(listed, refused, unlisted)


def known(db: sqlite3.Connection, versions: Iterable[tuple[str, str]]) -> set[str]:
    """The paths that are quarantined, or were dropped, in exactly the given version."""
    query = "SELECT 1 FROM aside WHERE path = ? AND version = ?"
    return {path for path, version in versions if db.execute(query, (path, version)).fetchone()}


def items(db: sqlite3.Connection) -> list[Quarantined]:
    """All items, in any order."""
    query = "SELECT id, entry, account, path, reason, since_ms, size FROM aside WHERE NOT dropped"
    found = [
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
    if number := counts(db).unlisted:
        least = "at least " if number >= MAX_VERSIONS else ""
        name = f"{least}{number} documents or entries that were put into quarantine before these"
        why = f"only the newest {MAX_ITEMS} are listed; the log has named each"
        more = Quarantined(id=MORE, kind=ItemKind.DOCUMENT, name=name, reason=why, since_ms=0)
        found.append(more)
    return found


def find(db: sqlite3.Connection, ident: str) -> QuarantinedDocument | None:
    """The item with this id; None if it does not exist."""
    query = f"SELECT {_COLUMNS} FROM aside WHERE id = ? AND NOT dropped"
    row = db.execute(query, (ident,)).fetchone()
    return None if row is None else QuarantinedDocument(*row)._replace(origin=FailedAction(row[5]))


def remove(db: sqlite3.Connection, paths: Collection[str]) -> None:
    """Remove these items: their documents could be handled."""
    db.executemany("DELETE FROM aside WHERE path = ?", [(path,) for path in paths])


def drop(db: sqlite3.Connection, path: str) -> None:
    """Delete an item but keep its version."""
    db.execute(f"UPDATE aside SET {_FORGET} WHERE path = ?", (_ItemState.DROPPED, path))


def drop_more(db: sqlite3.Connection) -> None:
    """Delete the unlisted items but keep their versions."""
    states = (_ItemState.DROPPED, _ItemState.UNLISTED)
    db.execute("UPDATE aside SET dropped = ? WHERE dropped = ?", states)


def release_more(db: sqlite3.Connection) -> None:
    """Let the unlisted items be handled again when they are read next."""
    db.execute("DELETE FROM aside WHERE dropped = ?", (_ItemState.UNLISTED,))


def ident_of(path: str) -> str:
    """A short id for a path."""
    digest = hashlib.blake2b(path.encode(errors="surrogatepass"), digest_size=5).hexdigest()
    return f"doc-{digest}"


def _is_entry(path: str) -> bool:
    return path.startswith("outbox/")
