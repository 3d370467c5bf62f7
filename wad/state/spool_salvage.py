"""The recovery of a damaged spool: it copies the rows that are still readable and not in the store yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from wad.core.errors import InvalidData, Unavailable
from wad.core.event import decode
from wad.lib.foreign_sqlite import Guard, check_log, first_computed, schema_of
from wad.state.spool import Salvaged, Spool

_STRIDE: Final = 1024  # rows per query
_AT_ONCE: Final = 16 << 20  # bytes that are held in memory at once
_GUESS: Final = 1_000_000  # rows to search for if even their number is unreadable
_CPU_S, _WALL_S = 60.0, 600.0  # seconds for a whole file
_MOST_KEPT: Final = 1_000_000
_TRIES: Final = 200_000  # reads after which the rest of a file counts as unreadable; a few seconds
_COLUMNS: Final = "seq, received_ms, kind, wa_id, raw, event, reason"

_Row = tuple[Any, ...]
_Batch = tuple[int, list[_Row]]
"""The number of the last row that was read, and the usable rows."""
_PASSING: Final = (
    "SQLITE_CANTOPEN", "SQLITE_NOMEM", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_FULL",
    "SQLITE_READONLY", "SQLITE_IOERR_NOMEM",
)  # fmt: skip
"""Errors that say nothing about the file, for example a lack of file descriptors or memory."""


def salvage(damaged: Path, into: Spool, recorded: Callable[[str], int]) -> Salvaged:
    """Copy the rows of a damaged spool that are readable and not recorded yet.

    `recorded(generation)` returns the number up to which the rows of this file were recorded; of those, only
    quarantined rows are copied.  Best effort: unreadable rows stay in the damaged file.  Rows get new numbers, in the
    old order.  A row with a damaged translation becomes an untranslated one.

    After an error the next call continues where this one stopped, in whatever process: `into` stores the progress.
    Raises the errors of `into`, and Unavailable if the damaged file cannot be opened now.
    """
    done = Salvaged()
    with suppress(InvalidData):
        done = into.salvaged(damaged.name)
    try:
        check_log(damaged)
        old = sqlite3.connect(f"file:{quote(str(damaged))}?mode=ro", uri=True)
    except sqlite3.Error as error:
        if damaged.exists():
            raise Unavailable(f"cannot open {damaged}: {error}") from error
        return Salvaged(complete=False)
    with closing(old):
        try:
            Guard(_CPU_S, _WALL_S).watch(old)  # for all reads together
            if first_computed(schema_of(old)):
                return Salvaged(complete=False)
        except sqlite3.Error:
            pass  # too damaged even to check the schema; the readable rows are copied nevertheless
        old.text_factory = lambda data: data.decode(errors="replace")
        reading = _SalvageReader(old, done.complete)
        generation = reading.generation()
        after = 0 if generation is None else recorded(generation)
        kept = reading.kept(after, behind=done.seq)
        for seq, rows in chain(kept, reading.after(max(after, done.seq))):
            done = Salvaged(done.rows + len(rows), reading.complete, seq)
            into.append_salvaged(rows, damaged.name, done)
        return Salvaged(done.rows, reading.complete, done.seq)


class _SalvageReader:
    """A reader of a damaged file; `complete` until a part of it could not be read."""

    def __init__(self, old: sqlite3.Connection, complete: bool) -> None:
        self._old = old
        self.complete = complete

    def generation(self) -> str | None:
        """The generation of the file; None if it cannot be read."""
        rows = self._all("SELECT value FROM meta WHERE key = 'generation'")
        if rows and isinstance(rows[0][0], str):
            return rows[0][0]
        self.complete = False
        return None

    def kept(self, up_to: int, behind: int) -> Iterator[_Batch]:
        """The quarantined rows after `behind`, up to this row, one at a time."""
        query = f"SELECT seq FROM events WHERE event IS NULL AND seq <= ? LIMIT {_MOST_KEPT}"
        numbers = {*self._all(query, up_to)}
        if self._all("SELECT 1 FROM sqlite_schema WHERE name = 'set_aside'"):
            query = f"SELECT seq FROM set_aside WHERE seq <= ? LIMIT {_MOST_KEPT}"
            numbers.update(self._all(query, up_to))
        for (number,) in sorted(numbers):
            if number > behind:
                row = self._all(f"SELECT {_COLUMNS} FROM events WHERE seq = ?", number)
                yield number, self._whole(row)

    def _all(self, query: str, *values: int) -> list[_Row]:
        try:
            return self._old.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._miss(error)
            return []

    def _miss(self, error: sqlite3.Error) -> None:
        """Note that something is unreadable.  Raises Unavailable if the cause may be temporary."""
        if (getattr(error, "sqlite_errorname", "") or "").startswith(_PASSING):
            raise Unavailable(f"the damaged spool cannot be read now: {error}") from error
        self.complete = False

    def after(self, seq: int) -> Iterator[_Batch]:
        """Every later readable row, in order; an unreadable range is halved until the bad rows are isolated."""
        query = f"SELECT {_COLUMNS} FROM events WHERE seq > ? AND seq <= ? ORDER BY seq"
        last = self._last(seq)
        stretches = [(low, min(low + _STRIDE, last)) for low in range(seq, last, _STRIDE)]
        stretches.reverse()  # the next one is at the end
        tries = 0
        while stretches and tries < _TRIES:
            low, high = stretches.pop()
            tries += 1
            rows: list[_Row] = []
            size = 0
            try:
                for row in self._old.execute(query, (low, high)):
                    rows.append(row)
                    low, size = row[0], size + _size(row)
                    if size > _AT_ONCE:
                        yield low, self._whole(rows)
                        rows, size = [], 0
            except sqlite3.Error as error:
                if high - low > 1:
                    middle = (low + high) // 2
                    stretches += [(middle, high), (low, middle)]
                else:
                    self._miss(error)
            if rows:
                yield low, self._whole(rows)
        if stretches:
            self.complete = False

    def _last(self, seq: int) -> int:
        """The number up to which rows may exist."""
        complete = self.complete
        for query in (
            "SELECT seq FROM sqlite_sequence WHERE name = 'events'",
            "SELECT max(seq) FROM events",
        ):
            rows = self._all(query)
            if rows and isinstance(rows[0][0], int | None):
                self.complete = complete
                return rows[0][0] or seq
        self.complete = False
        try:
            self._old.execute("SELECT 1 FROM events LIMIT 0")
        except sqlite3.Error as error:
            self._miss(error)
            return seq  # not even the table is readable
        return seq + _GUESS

    def _whole(self, rows: list[_Row]) -> list[_Row]:
        whole = [row[1:] for row in rows if _is_whole(row[1:])]
        found = [_mended(row) for row in whole]
        self.complete &= len(whole) == len(rows) and found == whole
        return found


def _size(row: _Row) -> int:
    return sum(len(value) for value in row if isinstance(value, bytes))


def _is_whole(row: _Row) -> bool:
    kinds = ((int,), (str,), (str,), (bytes,), (bytes, type(None)), (str,))
    return all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=True))


def _mended(row: _Row) -> _Row:
    *start, event, reason = row
    if event is not None:
        try:
            decode(event)
        except InvalidData as error:
            return (*start, None, f"its translation was damaged: {error}")
    return (*start, event, reason)
