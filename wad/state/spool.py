"""The durable inbox: one SQLite file per account; the worker appends, the daemon reads and prunes.

A row is on the disk when `append` or `take` returns: `synchronous=FULL` (set where the file is opened,
wad/lib/sqlite_file.py)
syncs the write-ahead log at every commit, so that neither `kill -9` nor a power cut takes back what WhatsApp has been
told that we have.  With `NORMAL` a power cut would: it syncs only at checkpoints.  Rows keep the library's bytes beside
our translation; what could not be translated is kept until an operator decides, and counted.
Two processes use the file at once; either may die at any instant.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from wad.core.decoding import decoding
from wad.core.errors import Damaged, InvalidData, StateUnwritable, Unavailable
from wad.core.spool_gap import Position
from wad.lib.files import unwritable
from wad.lib.foreign_sqlite import Guard, schema_of
from wad.lib.sqlite_file import (
    has_lost_its_database,
    open_untrusted,
    refuse,
    schema_difference,
    transaction,
    translated,
)

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
CREATE INDEX waiting ON events (seq, received_ms); -- counts a backlog without reading its messages
CREATE INDEX by_wa_id ON events (wa_id) WHERE wa_id != '';
"""
_HEARD: Final = """
CREATE TABLE heard ( -- messages that carried nothing to keep
    wa_id TEXT PRIMARY KEY,
    seq   INTEGER NOT NULL -- the newest row when it came
) WITHOUT ROWID;
"""
_NAMES: Final = """
CREATE TABLE names ( -- of contacts, as they were told last
    address TEXT PRIMARY KEY,
    name    TEXT NOT NULL
) WITHOUT ROWID;
"""
_SET_ASIDE: Final = """
CREATE TABLE set_aside ( -- rows that the daemon could not record
    seq      INTEGER PRIMARY KEY,
    since_ms INTEGER NOT NULL,
    reason   TEXT NOT NULL
);
"""
_STEPS: Final = (_SCHEMA, _HEARD, _NAMES, _SET_ASIDE)
_AT_ONCE: Final = 16 << 20  # bytes of translations that are read at once
_KEPT: Final = "event IS NULL OR seq IN (SELECT seq FROM set_aside)"
"""Rows that are in no thread, or not whole: an operator decides about them, and they are never pruned."""
_INSERT: Final = (
    "INSERT INTO events (received_ms, kind, wa_id, raw, event, reason) VALUES (?,?,?,?,?,?)"
)


_WORD: Final = "substr(CAST({0} AS TEXT), 1, 400)"
_REASON: Final = "substr(CAST({0} AS TEXT), 1, 4000)"
_LARGEST_EVENT: Final = (
    32 << 20
)  # bytes; one that is larger counts as damaged, since decoding makes it twenty times as large
_EVENT: Final = (
    f"CASE WHEN typeof(event) = 'blob' AND length(event) > {_LARGEST_EVENT} THEN x''"
    " ELSE CAST(event AS BLOB) END"
)
_COLUMNS: Final = (
    f"seq, received_ms, {_WORD.format('kind')}, {_WORD.format('wa_id')}, {{raw}},"
    f" {_EVENT}, {_REASON.format('reason')}"
)
_LIGHT: Final = _COLUMNS.format(raw="x''")
_WHOLE: Final = _COLUMNS.format(raw="CAST(raw AS BLOB)")
"""Of a Row.  SQLite keeps whatever a damaged page says that a column holds, a number in the place of bytes, say; and
the worker, which may have been taken over, writes what it likes."""
_MOST_NAMES: Final = 200_000
_LONGEST_GENERATION: Final = 100  # characters


HEARD: Final = "heard"
"""The kind of an event that carried nothing to keep."""


class Row(msgspec.Struct, frozen=True):
    """One received event.  `event` is None where there is no translation; `reason` says why."""

    seq: int
    received_ms: int
    kind: str
    wa_id: str
    raw: bytes
    event: bytes | None
    reason: str


class Arrival(msgspec.Struct, frozen=True):
    """An event on its way into the spool.  One of the kind HEARD carried nothing to keep, and leaves its id."""

    received_ms: int
    kind: str
    wa_id: str
    raw: bytes = b""
    event: bytes | None = None
    reason: str = ""


class UnrecordedCounts(NamedTuple):
    """Rows without a translation, and rows with one that could not be recorded."""

    untranslated: int
    set_aside: int


class ComparedUpTo(msgspec.Struct, frozen=True):
    """How far the library's list of messages was compared with the spool: row of the list, row of the spool."""

    listed: int
    seq: int


class Salvaged(msgspec.Struct, frozen=True):
    """What was copied out of a damaged spool, up to its row `seq`: so many rows.

    `complete`: whether these are all that a store does not have yet.
    """

    rows: int = 0
    complete: bool = True
    seq: int = 0


class QuarantinedRow(msgspec.Struct, frozen=True):
    """A row that was not recorded, without what it holds; `reason` says why, `size` is in bytes."""

    seq: int
    received_ms: int
    kind: str
    wa_id: str
    reason: str
    size: int


class SpoolBacklog(msgspec.Struct, frozen=True):
    """What waits to be recorded; `oldest_ms` is None when nothing does."""

    rows: int
    oldest_ms: int | None


class Spool:
    """An open spool.  Safe to use from several threads.

    Every method may raise Damaged, StateUnwritable (the disk refuses; nothing was half done) and Unavailable.
    """

    def __init__(self, path: Path, db: sqlite3.Connection, generation: str, guard: Guard) -> None:
        self._path = path
        self._db = db
        self._guard = guard
        self._version = _schema_version(db)
        self._lock = threading.Lock()
        self._file = _file_at(path)
        self.generation = generation
        """Made once for each file; a cursor of another generation says nothing about this file."""

    @staticmethod
    def open(path: Path, draw: Callable[[], str] = lambda: secrets.token_hex(8)) -> Spool:
        """Open or make a spool; `draw` names a new one's generation.

        Raises Damaged, StateUnwritable, and Unavailable for a file that a newer wad wrote.
        """
        if has_lost_its_database(path):
            # SQLite would delete the log, in which the newest rows are.
            raise Damaged(f"{path} is damaged: it is empty, and its log is not")
        guard = Guard()
        db = open_untrusted(path, _STEPS, guard)
        db.text_factory = _text
        try:
            with translated(path):
                db.execute("INSERT OR IGNORE INTO meta VALUES ('generation', ?)", (draw(),))
                row = db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
            return Spool(path, db, _checked_generation(path, row), guard)
        except BaseException:
            db.close()
            raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """What no value of a row may keep from being read is damaged."""
        try:
            with self._using() as db:
                yield db
        except InvalidData as error:
            raise Damaged(f"{self._path} is damaged: {error}") from error

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._guard.begin()
            try:
                with translated(self._path):
                    self._check_schema()
                    yield self._db
            except (Unavailable, InvalidData) as error:
                if not self._guard.spent:
                    raise
                raise Damaged(f"{self._path} is damaged: reading it does not end") from error

    def _check_schema(self) -> None:
        """Whether somebody has put something else in the place of the tables since.  Raises Damaged."""
        version = _schema_version(self._db)
        if version != self._version:
            refuse(self._path, schema_difference(_STEPS, schema_of(self._db)))
            self._version = version

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
        """Store one event; its number, greater than every number before.  On the disk when this returns."""
        with self._using() as db:
            cursor = db.execute(_INSERT, (received_ms, kind, wa_id, raw, event, reason))
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def append_salvaged(
        self,
        rows: Iterable[tuple[int, str, str, bytes, bytes | None, str]],
        source: str,
        after: Salvaged,
    ) -> None:
        """Store rows (the fields of `append`, in order) of a damaged spool `source`, all or none of them.

        In the same transaction it is noted how far that one was gone through.
        """
        with self._using() as db, transaction(db):
            db.executemany(_INSERT, rows)
            value = msgspec.json.encode(after).decode()
            db.execute("INSERT OR REPLACE INTO meta VALUES (?,?)", (_salvage_key(source), value))

    def salvaged(self, source: str) -> Salvaged:
        """How far a damaged spool was gone through.  Raises as every method, and InvalidData."""
        query = "SELECT value FROM meta WHERE key = ?"
        with self._using() as db:
            row = db.execute(query, (_salvage_key(source),)).fetchone()
        if row is None:
            return Salvaged()
        with decoding("how far a damaged spool was gone through"):
            return msgspec.json.decode(row[0], type=Salvaged)

    def take(self, arrivals: Iterable[Arrival]) -> int:
        """Store what has arrived, in one transaction; the newest row's number.

        A message that WhatsApp sends again, since it had no receipt, is not stored again: one with the same id and
        kind and the same translation (so the same chat, sender and content) or the same bytes.  The disk is asked once
        for all of them: that is what makes a burst as fast as the disk allows.
        """
        with self._using() as db, transaction(db):
            for one in arrivals:
                if one.kind == HEARD:
                    heard = (one.wa_id, _last_number(db))
                    db.execute("INSERT OR REPLACE INTO heard VALUES (?,?)", heard)
                elif not one.wa_id or not _is_known(db, one):
                    db.execute(_INSERT, _fields(one))
            return _last_number(db)

    def after(self, seq: int, limit: int, size: int = _AT_ONCE) -> list[Row]:
        """The next rows after `seq`, without their raw bytes: who records needs only the translation.

        No more than fit into `size` bytes, but at least one.
        """
        query = f"SELECT {_LIGHT} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        found: list[Row] = []
        with self._reading() as db, closing(db.execute(query, (seq, limit))) as rows:
            for row in rows:
                found.append(Row(*row))
                size -= len(row[5] or b"")
                if size <= 0:
                    break
        return found

    def row(self, seq: int) -> Row | None:
        """One row, whole."""
        query = f"SELECT {_WHOLE} FROM events WHERE seq = ?"
        with self._reading() as db:
            row = db.execute(query, (seq,)).fetchone()
            return None if row is None else Row(*row)

    # --- rows that were not recorded ----------------------------------------------------------------

    def set_aside(self, seq: int, reason: str, now_ms: int) -> None:
        """Remember that this row could not be recorded, and why.  It stays until an operator decides."""
        with self._using() as db:
            db.execute("INSERT OR REPLACE INTO set_aside VALUES (?,?,?)", (seq, now_ms, reason))

    def kept(self, limit: int) -> list[QuarantinedRow]:
        """The newest rows that have no translation or were set aside."""
        query = (
            f"SELECT e.seq, CAST(e.received_ms AS INTEGER), {_WORD.format('e.kind')}, {_WORD.format('e.wa_id')},"
            f" {_REASON.format('coalesce(a.reason, e.reason)')},"
            " length(e.raw) + coalesce(length(e.event), 0)"
            " FROM events AS e LEFT JOIN set_aside AS a ON a.seq = e.seq"
            " WHERE e.seq IN (SELECT seq FROM events WHERE event IS NULL UNION SELECT seq FROM set_aside)"
            " ORDER BY e.seq DESC LIMIT ?"
        )
        with self._reading() as db:
            return [QuarantinedRow(*row) for row in db.execute(query, (limit,))]

    def counts(self) -> UnrecordedCounts:
        """How many rows have no translation, and how many have one and were set aside."""
        with self._using() as db:
            untranslated = db.execute("SELECT count(*) FROM events WHERE event IS NULL").fetchone()
            aside = db.execute(
                "SELECT count(*) FROM set_aside JOIN events USING (seq) WHERE event IS NOT NULL"
            ).fetchone()
            return UnrecordedCounts(int(untranslated[0]), int(aside[0]))

    def recorded(self, seq: int, event: bytes) -> None:
        """A row that was kept is recorded now, as this event: it is pruned like any other."""
        with self._using() as db, transaction(db):
            db.execute("UPDATE events SET event = ?, reason = '' WHERE seq = ?", (event, seq))
            db.execute("DELETE FROM set_aside WHERE seq = ?", (seq,))

    def drop(self, seq: int) -> bool:
        """Delete a row that was kept, for good; whether it was there."""
        with self._using() as db, transaction(db):
            found = db.execute(f"DELETE FROM events WHERE seq = ? AND ({_KEPT})", (seq,)).rowcount
            db.execute("DELETE FROM set_aside WHERE seq = ?", (seq,))
            return found > 0

    def untranslated_rows(self, limit: int, after: int = 0) -> list[Row]:
        """Rows without a translation, whole."""
        query = f"SELECT {_WHOLE} FROM events WHERE event IS NULL AND seq > ? ORDER BY seq LIMIT ?"
        with self._reading() as db:
            return [Row(*row) for row in db.execute(query, (after, limit))]

    # --- which file it is -----------------------------------------------------------------------------

    def position(self) -> Position:
        """Its generation, and the newest row's number."""
        return Position(self.generation, self.last_seq())

    def is_replaced(self) -> bool:
        """Whether its file was removed, emptied or replaced since: whoever opens it next gets another one."""
        try:
            return _file_at(self._path) != self._file
        except StateUnwritable:
            return False  # it cannot be seen now

    def begin_generation(self, draw: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        """From now on it counts as a file of which nothing was recorded yet."""
        generation = draw()
        with self._using() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", (generation,))
        self.generation = generation

    def last_seq(self) -> int:
        """The newest row's number, 0 when there never was one; pruning does not take it back."""
        with self._using() as db:
            return _last_number(db)

    def backlog(self, after_seq: int) -> SpoolBacklog:
        """How many rows wait after a cursor, and since when the oldest does."""
        query = "SELECT count(*), min(received_ms) FROM events INDEXED BY waiting WHERE seq > ?"
        with self._using() as db:
            rows, oldest_ms = db.execute(query, (after_seq,)).fetchone()
            return SpoolBacklog(rows, oldest_ms if isinstance(oldest_ms, int) else None)

    def has_ids(self, ids: Collection[str]) -> set[str]:
        """Which of these WhatsApp ids are among the rows, or belonged to messages that carried nothing to keep."""
        query = (
            "SELECT 1 FROM events WHERE wa_id = ?1 AND wa_id != ''"
            " UNION ALL SELECT 1 FROM heard WHERE wa_id = ?1"
        )
        with self._using() as db:
            return {ident for ident in ids if db.execute(query, (ident,)).fetchone()}

    # --- the comparison with the library's own list (wad/engine/lost_messages.py) --------------------------

    def mark(self) -> ComparedUpTo | None:
        """Up to where the comparison was made; None: never, or it cannot be read."""
        with self._using() as db:
            row = db.execute("SELECT value FROM meta WHERE key = 'compared'").fetchone()
        if row is None:
            return None
        try:
            with decoding("the mark in the spool"):
                return msgspec.json.decode(row[0], type=ComparedUpTo)
        except InvalidData:
            return None

    def compared(self, mark: ComparedUpTo, lost: Iterable[Arrival] = ()) -> int:
        """Remember how far the comparison got, together with the messages that it found missing; the newest row.

        What carried nothing to keep and came before the mark is of no more use, and goes.
        """
        with self._using() as db, transaction(db):
            db.executemany(_INSERT, [_fields(one) for one in lost])
            value = msgspec.json.encode(mark).decode()
            db.execute("INSERT OR REPLACE INTO meta VALUES ('compared', ?)", (value,))
            db.execute("DELETE FROM heard WHERE seq < ?", (mark.seq,))
            return _last_number(db)

    def pruned_after(self, seq: int) -> bool:
        """Whether rows that came after this one are gone: numbers have no gaps before pruning makes them."""
        with self._using() as db:
            (rows,) = db.execute("SELECT count(*) FROM events WHERE seq > ?", (seq,)).fetchone()
            return int(rows) < _last_number(db) - seq

    def raw_after(self, seq: int, kind: str) -> Iterator[bytes]:
        """The library's bytes of all rows of a kind after `seq`, one at a time: they may be large."""
        query = "SELECT seq, CAST(raw AS BLOB) FROM events WHERE seq > ? AND kind = ? ORDER BY seq LIMIT 1"
        while True:
            with self._reading() as db:
                row = db.execute(query, (seq, kind)).fetchone()
            if row is None:
                return
            seq, raw = row
            yield raw

    # --- the phone's address book (wad/engine/contacts.py) -----------------------------------------

    def tell_names(self, names: Mapping[str, str], events: Mapping[str, Arrival]) -> int | None:
        """Append the events of those names, by address, that were not told last; the newest row, None without any."""
        with self._using() as db, transaction(db):
            query = f"SELECT {_WORD.format('address')}, {_REASON.format('name')} FROM names LIMIT ?"
            told = dict(db.execute(query, (_MOST_NAMES,)))
            new = [address for address in events if told.get(address) != names[address]]
            if not new:
                return None
            db.executemany(_INSERT, [_fields(events[address]) for address in new])
            rows = [(address, names[address]) for address in new]
            db.executemany("INSERT OR REPLACE INTO names VALUES (?,?)", rows)
            return _last_number(db)

    def prune(self, up_to_seq: int, before_ms: int, limit: int) -> int:
        """Delete recorded rows (up to the cursor) received before a time; never those that were kept.  How many."""
        with self._using() as db:
            return db.execute(
                "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE seq <= ? AND received_ms < ?"
                f" AND NOT ({_KEPT}) ORDER BY seq LIMIT ?)",
                (up_to_seq, before_ms, limit),
            ).rowcount

    def size_bytes(self) -> int:
        """The file's size, its write-ahead log included."""
        wal = self._path.with_name(self._path.name + "-wal")
        return sum(path.stat().st_size for path in (self._path, wal) if path.exists())

    def close(self) -> None:
        """Let go of the file.  Idempotent."""
        with self._lock:
            self._db.close()


def _file_at(path: Path) -> tuple[int, int] | None:
    """Which file has this name, by device and inode; None where there is none, or an empty one."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unwritable(path, error) from error
    return (found.st_dev, found.st_ino) if found.st_size else None


def _checked_generation(path: Path, row: tuple[object] | None) -> str:
    if row is None or not isinstance(row[0], str) or len(row[0]) > _LONGEST_GENERATION:
        raise Damaged(f"{path} is damaged: it has no generation")
    return row[0]


def _schema_version(db: sqlite3.Connection) -> int:
    """It changes with each change of what the database declares."""
    return int(db.execute("PRAGMA schema_version").fetchone()[0])


def _salvage_key(source: str) -> str:
    return f"salvaged {source}"


def _text(data: bytes) -> str:
    """A column as text, whatever a damaged page holds: it must not keep the other rows from being read."""
    return data.decode(errors="replace")


def _is_known(db: sqlite3.Connection, one: Arrival) -> bool:
    query = (
        "SELECT 1 FROM events INDEXED BY by_wa_id WHERE wa_id = ? AND wa_id != ''"
        " AND kind = ? AND (event = ? OR raw = ?)"
    )
    return db.execute(query, (one.wa_id, one.kind, one.event, one.raw)).fetchone() is not None


def _fields(one: Arrival) -> tuple[int, str, str, bytes, bytes | None, str]:
    return one.received_ms, one.kind, one.wa_id, one.raw, one.event, one.reason


def _last_number(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    if row is not None and not isinstance(row[0], int):
        raise Damaged("the spool is damaged: its last number is none")
    return row[0] if row else 0
