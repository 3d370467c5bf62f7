"""Untrusted SQLite databases, for example of a compromised worker: no code in them runs, and every query ends.

Opening a database runs code in its schema: a view instead of a table, a trigger, a virtual table, an expression in a
column or an index.  And a query over plain tables may be endless.  So every reader of such a file puts a `Guard` on its
connection first.  Not covered: a reader shares SQLite's index of the log (`-shm`) with every process that has the file
open.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

MAX_OBJECTS: Final = 200  # tables and indexes that are checked
LARGEST_LOG: Final = 1 << 30
"""Bytes of a write-ahead log.  SQLite writes one back at 4 MB; a log that a reader lets grow is reported at 48 MB."""
LARGEST_VALUE: Final = 128 << 20  # bytes of one text or blob
_OPENING: Final = 1.0
"""Seconds of processor time for parsing a schema; the library's takes a thousandth of that."""
_STEP: Final = 20_000  # instructions of SQLite's machine between two checks of the time


class SchemaObject(NamedTuple):
    """A row of sqlite_schema; the types are untrusted."""

    kind: object
    name: object
    page: object
    sql: object


Refusal = Callable[[Iterable[SchemaObject]], str | None]
"""A rule that names a forbidden object of a schema, in a few words; None if there is none."""


def check_log(database: Path) -> None:
    """Raise sqlite3.DatabaseError if the log is larger than a normal one: opening the database would read all of it."""
    log = database.with_name(f"{database.name}-wal")
    try:
        size = log.stat().st_size
    except OSError:
        return  # there is none, or opening the database reports the error
    if size > LARGEST_LOG:
        raise sqlite3.DatabaseError(f"{log.name} has {size >> 20} MB")


class Guard:
    """The limits of one connection: seconds of processor time, and of elapsed time, for each query.

    Processor time is the stricter limit, since a busy machine or a slow disk must not end a query.
    """

    def __init__(self, cpu_s: float = 5.0, wall_s: float = 120.0) -> None:
        self._cpu_s = cpu_s
        self._wall_s = wall_s
        self.spent = False
        """Whether a query was ended."""
        self.begin()

    def begin(self, cpu_s: float | None = None) -> None:
        """Reset the limits for the next query, which this thread runs."""
        self.spent = False
        self._cpu_until = time.thread_time() + (self._cpu_s if cpu_s is None else cpu_s)
        self._until = time.monotonic() + self._wall_s

    def watch(self, db: sqlite3.Connection) -> None:
        """Limit every query of this connection, and refuse code in the schema.

        Raises sqlite3.Error, also for a schema that is too large.
        """
        self.begin(_OPENING)
        db.set_progress_handler(self._look, _STEP)
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
        db.execute("PRAGMA trusted_schema = OFF")
        defensive = getattr(sqlite3, "SQLITE_DBCONFIG_DEFENSIVE", None)  # from Python 3.12 on
        if defensive is not None:
            db.setconfig(defensive, True)  # type: ignore[attr-defined,unused-ignore]
        db.set_authorizer(_only_what_was_asked)
        db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()  # the schema is parsed now
        self.begin()

    def _look(self) -> int:
        """SQLite's progress handler; a result other than 0 ends the query."""
        self.spent = time.thread_time() > self._cpu_until or time.monotonic() > self._until
        return int(self.spent)


def _only_what_was_asked(
    _action: int, _one: str | None, _two: str | None, _schema: str | None, inside: Any
) -> int:
    """SQLite's authorizer; `inside` names the view or trigger that would run, also one that was created later."""
    return sqlite3.SQLITE_OK if inside is None else sqlite3.SQLITE_DENY


def schema_of(db: sqlite3.Connection) -> list[SchemaObject]:
    """The objects of a database, up to one more than are checked."""
    query = "SELECT type, name, rootpage, sql FROM sqlite_master LIMIT ?"
    return [SchemaObject(*row) for row in db.execute(query, (MAX_OBJECTS + 1,))]


def first_computed(declared: Iterable[SchemaObject]) -> str | None:
    """The first object that is neither a table nor an index, in a few words; None if there is none."""
    for one in declared:
        if one.kind not in ("table", "index") or not one.page:
            return f"a {shown(one.kind)} {shown(one.name)}"
    return None


def shown(value: object) -> str:
    """A name from a schema, for display."""
    return ascii(value)[:80].strip("'")
