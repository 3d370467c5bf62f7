"""The durable inbox: one SQLite file per account; the worker appends, the daemon reads and prunes.

A row is on the disk when `append` returns: `synchronous=FULL` syncs the write-ahead log at every commit, so that
neither `kill -9` nor a power cut takes back what WhatsApp may already have been told that we have.  Rows keep the
library's bytes beside our translation; what could not be translated is kept until an operator decides, and counted.
Two processes use the file at once; either may die at any instant.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from wad.core.errors import Damaged, StateUnwritable, Unavailable, WadError

_VERSION: Final = 1
_CHECKED_UP_TO: Final = 64 << 20  # bytes; quick_check takes about 2 ms a megabyte

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused, so that a cursor stays true after pruning
    received_ms INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    wa_id       TEXT NOT NULL,
    raw         BLOB NOT NULL,
    event       BLOB,
    reason      TEXT NOT NULL
);
CREATE INDEX untranslated ON events (seq) WHERE event IS NULL;
"""


class Row(msgspec.Struct, frozen=True):
    """One received event.  `event` is None where there is no translation; `reason` says why."""

    seq: int
    received_ms: int
    kind: str
    wa_id: str
    raw: bytes
    event: bytes | None
    reason: str


class Backlog(msgspec.Struct, frozen=True):
    """What waits to be recorded."""

    rows: int
    oldest_ms: int | None


def translate_errors(error: sqlite3.Error, path: Path) -> WadError:
    """What an error of SQLite means for whoever uses the file."""
    text = str(error)
    code = getattr(error, "sqlite_errorname", "") or ""
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return Damaged(f"{path} is damaged: {text}")
    if code.startswith(
        ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM")
    ):
        return StateUnwritable(
            f"cannot write {path}: {text}", hint=f"df -h {path.parent}; ls -ld {path.parent}"
        )
    return Unavailable(f"{path}: {text}")


class Spool:
    """An open spool.  Safe to use from several threads."""

    def __init__(self, path: Path, db: sqlite3.Connection, generation: str) -> None:
        self._path = path
        self._db = db
        self._lock = threading.Lock()
        self.generation = generation

    @staticmethod
    def open(path: Path, draw: Callable[[], str] = lambda: secrets.token_hex(8)) -> Spool:
        """Open or make a spool.  Raises Damaged, StateUnwritable, Unavailable."""
        try:
            path.touch(mode=0o600)
            db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        except OSError as error:
            raise StateUnwritable(f"cannot write {path}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise translate_errors(error, path) from error
        try:
            return Spool(path, db, _prepare(path, db, draw))
        except sqlite3.Error as error:
            db.close()
            raise translate_errors(error, path) from error
        except WadError:
            db.close()
            raise

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise translate_errors(error, self._path) from error

    def append(
        self,
        *,
        received_ms: int,
        kind: str,
        wa_id: str,
        raw: bytes,
        event: bytes | None,
        reason: str = "",
    ) -> int:
        """Store one event; its number.  On the disk when this returns."""
        with self._using() as db:
            cursor = db.execute(
                "INSERT INTO events (received_ms, kind, wa_id, raw, event, reason) VALUES (?,?,?,?,?,?)",
                (received_ms, kind, wa_id, raw, event, reason),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def after(self, seq: int, limit: int) -> list[Row]:
        """The next rows after `seq`, without their raw bytes."""
        return self._rows("x''", "seq > ?", seq, limit)

    def untranslated_rows(self, limit: int, after: int = 0) -> list[Row]:
        """Rows without a translation, whole."""
        return self._rows("raw", "event IS NULL AND seq > ?", after, limit)

    def _rows(self, raw: str, where: str, seq: int, limit: int) -> list[Row]:
        columns = f"seq, received_ms, kind, wa_id, {raw}, event, reason"
        query = f"SELECT {columns} FROM events WHERE {where} ORDER BY seq LIMIT ?"
        with self._using() as db:
            return [Row(*row) for row in db.execute(query, (seq, limit))]

    def last_seq(self) -> int:
        """The newest row's number, 0 when there never was one."""
        with self._using() as db:
            row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
            return int(row[0]) if row else 0

    def backlog(self, after_seq: int) -> Backlog:
        """How many rows wait after a cursor, and since when the oldest does."""
        with self._using() as db:
            rows, oldest = db.execute(
                "SELECT count(*), min(received_ms) FROM events WHERE seq > ?", (after_seq,)
            ).fetchone()
            return Backlog(rows, oldest)

    def untranslated(self) -> int:
        """How many rows have no translation."""
        with self._using() as db:
            return int(db.execute("SELECT count(*) FROM events WHERE event IS NULL").fetchone()[0])

    def prune(self, up_to_seq: int, before_ms: int, limit: int) -> int:
        """Delete recorded rows (up to the cursor) received before a time; never untranslated ones."""
        with self._using() as db:
            return db.execute(
                "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE seq <= ? AND received_ms < ?"
                " AND event IS NOT NULL ORDER BY seq LIMIT ?)",
                (up_to_seq, before_ms, limit),
            ).rowcount

    def size_bytes(self) -> int:
        """The file's size, its write-ahead log included."""
        wal = self._path.with_name(self._path.name + "-wal")
        return sum(path.stat().st_size for path in (self._path, wal) if path.exists())

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()


def _prepare(path: Path, db: sqlite3.Connection, draw: Callable[[], str]) -> str:
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    if path.stat().st_size <= _CHECKED_UP_TO:
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise Damaged(f"{path} is damaged: {verdict}")
    # Two processes may open a new file at once: the version is read again under the write lock.
    db.execute("BEGIN IMMEDIATE")
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise Damaged(
                f"{path} was written by a newer wad (version {version}, known: {_VERSION})"
            )
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    db.execute(statement)
            db.execute("INSERT INTO meta VALUES ('generation', ?)", (draw(),))
            db.execute(f"PRAGMA user_version={_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return str(db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()[0])


def salvage(damaged: Path, into: Spool, after_seq: int) -> int:
    """Copy the rows that can still be read out of a damaged spool; how many.  Best effort, never raises for damage."""
    saved = 0
    try:
        old = sqlite3.connect(f"file:{damaged}?mode=ro", uri=True)
    except sqlite3.Error:
        return 0
    try:
        query = "SELECT received_ms, kind, wa_id, raw, event, reason FROM events WHERE seq > ? ORDER BY seq"
        for received_ms, kind, wa_id, raw, event, reason in old.execute(query, (after_seq,)):
            into.append(
                received_ms=received_ms, kind=kind, wa_id=wa_id, raw=raw, event=event, reason=reason
            )
            saved += 1
    except sqlite3.DatabaseError:
        return saved  # what lies behind the damage stays in the file that was set aside
    finally:
        old.close()
    return saved
