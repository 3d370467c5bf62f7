"""SQLite databases that somebody else may write, a worker that was taken over for one: nothing in them runs, all ends.

Opening a database runs what its schema says: a view in the place of a table, a trigger, a virtual table, an expression
in a column or an index.  And a query over plain tables may not end.  So whoever reads such a file puts a `Guard` on the
connection first.  What remains: a reader shares SQLite's index of the log (`-shm`) with whoever else has the file open.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

MANY: Final = 200  # tables and indexes that are looked at
LARGEST_LOG: Final = 1 << 30
"""Bytes of a write-ahead log.  SQLite writes one back at 4 MB; what a reader lets grow is told at 48 MB."""
LARGEST_VALUE: Final = 128 << 20  # bytes of one text or blob
_OPENING: Final = 1.0
"""Seconds of processor time for parsing a schema; the library's takes a thousandth of that."""
_STEP: Final = 20_000  # of SQLite's machine, between two looks at the time


class Declared(NamedTuple):
    """A row of sqlite_schema; nothing is known of the types."""

    kind: object
    name: object
    page: object
    sql: object


Refusal = Callable[[Iterable[Declared]], str | None]
"""What in a schema may not be there, in a few words; None where all of it may."""


def check_log(database: Path) -> None:
    """Raise sqlite3.DatabaseError where its log is larger than any that is left alone: opening it would read it all."""
    log = database.with_name(f"{database.name}-wal")
    try:
        size = log.stat().st_size
    except OSError:
        return  # there is none, or opening the database says why
    if size > LARGEST_LOG:
        raise sqlite3.DatabaseError(f"{log.name} has {size >> 20} MB")


class Guard:
    """What one connection may take: seconds of processor time, and seconds, for each thing that is asked of it.

    Processor time, since a busy machine or a slow disk is nobody's fault; the other is far longer.
    """

    def __init__(self, cpu_s: float = 5.0, wall_s: float = 120.0) -> None:
        self._cpu_s = cpu_s
        self._wall_s = wall_s
        self.spent = False
        """Whether a query was ended."""
        self.begin()

    def begin(self, cpu_s: float | None = None) -> None:
        """Something else is asked, by this thread."""
        self.spent = False
        self._cpu_until = time.thread_time() + (self._cpu_s if cpu_s is None else cpu_s)
        self._until = time.monotonic() + self._wall_s

    def watch(self, db: sqlite3.Connection) -> None:
        """From now on every query of this connection ends, and runs nothing that stands in the schema.

        Raises sqlite3.Error, also for a schema so large that it is none.
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
        """Called by SQLite; other than 0 ends the query."""
        self.spent = time.thread_time() > self._cpu_until or time.monotonic() > self._until
        return int(self.spent)


def _only_what_was_asked(
    _action: int, _one: str | None, _two: str | None, _schema: str | None, inside: Any
) -> int:
    """`inside` names the view or trigger on whose behalf something would be done, also when it came in later."""
    return sqlite3.SQLITE_OK if inside is None else sqlite3.SQLITE_DENY


def schema_of(db: sqlite3.Connection) -> list[Declared]:
    """All that a database declares, a little more than is looked at."""
    query = "SELECT type, name, rootpage, sql FROM sqlite_master LIMIT ?"
    return [Declared(*row) for row in db.execute(query, (MANY + 1,))]


def computed(declared: Iterable[Declared]) -> str | None:
    """What is neither a table nor an index, in a few words; None where there is nothing of that kind."""
    for one in declared:
        if one.kind not in ("table", "index") or not one.page:
            return f"a {shown(one.kind)} {shown(one.name)}"
    return None


def shown(value: object) -> str:
    """A name out of a schema, for people."""
    return ascii(value)[:80].strip("'")
