"""The spool: a SQLite file per account for received events; the worker appends, the daemon reads and prunes.

A row is on the disk when `append` or `take` returns: `synchronous=FULL` (set by wad/lib/sqlite_file.py) syncs the
write-ahead log at every commit, so that neither `kill -9` nor a power cut loses an event whose receipt WhatsApp has.
With `NORMAL` a power cut would: it syncs at checkpoints only.  Rows keep the library's bytes beside our translation;
untranslated rows are counted, and stay until an operator decides.
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
    seq         INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused, so that a cursor stays valid after pruning
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
CREATE TABLE heard ( -- messages without storable content
    wa_id TEXT PRIMARY KEY,
    seq   INTEGER NOT NULL -- the newest row at its arrival
) WITHOUT ROWID;
"""
_NAMES: Final = """
CREATE TABLE names ( -- of contacts, as reported last
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
_AT_ONCE: Final = 16 << 20  # bytes of translations per read
_KEPT: Final = "event IS NULL OR seq IN (SELECT seq FROM set_aside)"
"""Rows that are not recorded, or not completely: an operator decides about them, and they are never pruned."""
_INSERT: Final = (
    "INSERT INTO events (received_ms, kind, wa_id, raw, event, reason) VALUES (?,?,?,?,?,?)"
)


_WORD: Final = "substr(CAST({0} AS TEXT), 1, 400)"
_REASON: Final = "substr(CAST({0} AS TEXT), 1, 4000)"
_LARGEST_EVENT: Final = 32 << 20
"""Bytes; a larger event counts as damaged, since decoding makes it twenty times as large."""
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
"""The columns of a Row, with their types enforced: a damaged page may contain a number instead of bytes, for example,
and a compromised worker may write anything."""
_MOST_NAMES: Final = 200_000
_LONGEST_GENERATION: Final = 100  # characters


HEARD: Final = "heard"
"""The kind of an event without storable content."""


class SpoolRow(msgspec.Struct, frozen=True):
    """One received event.  `event` is None without a translation, with the `reason`."""

    seq: int
    received_ms: int
    kind: str
    wa_id: str
    raw: bytes
    event: bytes | None
    reason: str


class Arrival(msgspec.Struct, frozen=True):
    """An event to append.  Of the kind HEARD, which has no storable content, only the id is stored."""

    received_ms: int
    kind: str
    wa_id: str
    raw: bytes = b""
    event: bytes | None = None
    reason: str = ""


class UnrecordedCounts(NamedTuple):
    """The numbers of rows without a translation, and of translated rows that could not be recorded."""

    untranslated: int
    set_aside: int


class ComparedUpTo(msgspec.Struct, frozen=True):
    """The progress of the comparison with the library's list of messages: row of the list, row of the spool."""

    listed: int
    seq: int


class Salvaged(msgspec.Struct, frozen=True):
    """The result of a recovery: the number of rows that were copied from a damaged spool, up to its row `seq`.

    `complete`: whether these are all rows that the store does not have yet.
    """

    rows: int = 0
    complete: bool = True
    seq: int = 0


class QuarantinedRow(msgspec.Struct, frozen=True):
    """A row that was not recorded, without its contents; `reason`: why, `size` in bytes."""

    seq: int
    received_ms: int
    kind: str
    wa_id: str
    reason: str
    size: int


class SpoolBacklog(msgspec.Struct, frozen=True):
    """The rows that wait to be recorded; `oldest_ms` is None if there are none."""

    rows: int
    oldest_ms: int | None


class Spool:
    """An open spool.  Safe to use from several threads.

    Every method may raise Damaged, StateUnwritable (the disk refuses; the change is undone) and Unavailable.
    """

    def __init__(self, path: Path, db: sqlite3.Connection, generation: str, guard: Guard) -> None:
        self._path = path
        self._db = db
        self._guard = guard
        self._version = _schema_version(db)
        self._lock = threading.Lock()
        self._file = _file_at(path)
        self.generation = generation
        """A random id of the file; a cursor of another generation is not valid for this file."""

    @staticmethod
    def open(path: Path, draw: Callable[[], str] = lambda: secrets.token_hex(8)) -> Spool:
        """Open or create a spool; `draw` returns the generation of a new one.

        Raises Damaged, StateUnwritable, and Unavailable for a file of a newer wad.
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
        """Access for reading; a value that cannot be read raises Damaged."""
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
                raise Damaged(f"{self._path} is damaged: a query does not end") from error

    def _check_schema(self) -> None:
        """Check that the schema was not changed since the last check.  Raises Damaged."""
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
        """Store one event durably; return its number, which is greater than all earlier ones."""
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

        The same transaction stores the progress of that recovery.
        """
        with self._using() as db, transaction(db):
            db.executemany(_INSERT, rows)
            value = msgspec.json.encode(after).decode()
            db.execute("INSERT OR REPLACE INTO meta VALUES (?,?)", (_salvage_key(source), value))

    def salvaged(self, source: str) -> Salvaged:
        """The progress of the recovery of a damaged spool.  Raises also InvalidData."""
        query = "SELECT value FROM meta WHERE key = ?"
        with self._using() as db:
            row = db.execute(query, (_salvage_key(source),)).fetchone()
        if row is None:
            return Salvaged()
        with decoding("the progress of a spool's recovery"):
            return msgspec.json.decode(row[0], type=Salvaged)

    def take(self, arrivals: Iterable[Arrival]) -> int:
        """Store the arrivals in one transaction; return the newest row's number.

        A message that WhatsApp sends again, since it had no receipt, is not stored again: one with the same id and
        kind and the same translation (so the same chat, sender and content) or the same bytes.  All arrivals share one
        sync of the disk, so that a burst is as fast as the disk allows.
        """
        with self._using() as db, transaction(db):
            for one in arrivals:
                if one.kind == HEARD:
                    heard = (one.wa_id, _last_number(db))
                    db.execute("INSERT OR REPLACE INTO heard VALUES (?,?)", heard)
                elif not one.wa_id or not _is_known(db, one):
                    db.execute(_INSERT, _fields(one))
            return _last_number(db)

    def after(self, seq: int, limit: int, size: int = _AT_ONCE) -> list[SpoolRow]:
        """The next rows after `seq`, without their raw bytes, which recording does not need.

        At most `size` bytes of them, but at least one row.
        """
        query = f"SELECT {_LIGHT} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        found: list[SpoolRow] = []
        with self._reading() as db, closing(db.execute(query, (seq, limit))) as rows:
            for row in rows:
                found.append(SpoolRow(*row))
                size -= len(row[5] or b"")
                if size <= 0:
                    break
        return found

    def row(self, seq: int) -> SpoolRow | None:
        """One row with all its columns."""
        query = f"SELECT {_WHOLE} FROM events WHERE seq = ?"
        with self._reading() as db:
            row = db.execute(query, (seq,)).fetchone()
            return None if row is None else SpoolRow(*row)

    # --- rows that were not recorded ----------------------------------------------------------------

    def set_aside(self, seq: int, reason: str, now_ms: int) -> None:
        """Quarantine a row that could not be recorded, with the reason.  It stays until an operator decides."""
        with self._using() as db:
            db.execute("INSERT OR REPLACE INTO set_aside VALUES (?,?,?)", (seq, now_ms, reason))

    def kept(self, limit: int) -> list[QuarantinedRow]:
        """The newest rows in quarantine: untranslated, or set aside."""
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
        """The numbers of untranslated rows, and of translated rows that were set aside."""
        with self._using() as db:
            untranslated = db.execute("SELECT count(*) FROM events WHERE event IS NULL").fetchone()
            aside = db.execute(
                "SELECT count(*) FROM set_aside JOIN events USING (seq) WHERE event IS NOT NULL"
            ).fetchone()
            return UnrecordedCounts(int(untranslated[0]), int(aside[0]))

    def recorded(self, seq: int, event: bytes) -> None:
        """Release a quarantined row that was recorded as this event: it is pruned like any other."""
        with self._using() as db, transaction(db):
            db.execute("UPDATE events SET event = ?, reason = '' WHERE seq = ?", (event, seq))
            db.execute("DELETE FROM set_aside WHERE seq = ?", (seq,))

    def drop(self, seq: int) -> bool:
        """Delete a quarantined row for good; return whether it existed."""
        with self._using() as db, transaction(db):
            found = db.execute(f"DELETE FROM events WHERE seq = ? AND ({_KEPT})", (seq,)).rowcount
            db.execute("DELETE FROM set_aside WHERE seq = ?", (seq,))
            return found > 0

    def untranslated_rows(self, limit: int, after: int = 0) -> list[SpoolRow]:
        """Rows without a translation, with all their columns."""
        query = f"SELECT {_WHOLE} FROM events WHERE event IS NULL AND seq > ? ORDER BY seq LIMIT ?"
        with self._reading() as db:
            return [SpoolRow(*row) for row in db.execute(query, (after, limit))]

    # --- which file it is -----------------------------------------------------------------------------

    def position(self) -> Position:
        """Its generation, and the newest row's number."""
        return Position(self.generation, self.last_seq())

    def is_replaced(self) -> bool:
        """Whether its file was removed, emptied or replaced since: the next one to open it gets another file."""
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
        """The newest row's number, 0 if there never was a row; pruning does not lower it."""
        with self._using() as db:
            return _last_number(db)

    def backlog(self, after_seq: int) -> SpoolBacklog:
        """The number of rows after a cursor, and the arrival of the oldest."""
        query = "SELECT count(*), min(received_ms) FROM events INDEXED BY waiting WHERE seq > ?"
        with self._using() as db:
            rows, oldest_ms = db.execute(query, (after_seq,)).fetchone()
            return SpoolBacklog(rows, oldest_ms if isinstance(oldest_ms, int) else None)

    def has_ids(self, ids: Collection[str]) -> set[str]:
        """Which of these WhatsApp ids are in the rows, or belong to messages without storable content."""
        query = (
            "SELECT 1 FROM events WHERE wa_id = ?1 AND wa_id != ''"
            " UNION ALL SELECT 1 FROM heard WHERE wa_id = ?1"
        )
        with self._using() as db:
            return {ident for ident in ids if db.execute(query, (ident,)).fetchone()}

    # --- the comparison with the library's own list (wad/engine/lost_messages.py) --------------------------

    def mark(self) -> ComparedUpTo | None:
        """The progress of the comparison; None if there was none, or it cannot be read."""
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
        """Store the progress of the comparison and the messages that it found missing; return the newest row's number.

        Ids of messages without storable content from before the mark are deleted.
        """
        with self._using() as db, transaction(db):
            db.executemany(_INSERT, [_fields(one) for one in lost])
            value = msgspec.json.encode(mark).decode()
            db.execute("INSERT OR REPLACE INTO meta VALUES ('compared', ?)", (value,))
            db.execute("DELETE FROM heard WHERE seq < ?", (mark.seq,))
            return _last_number(db)

    def pruned_after(self, seq: int) -> bool:
        """Whether rows after this one were pruned: only pruning makes gaps in the numbers."""
        with self._using() as db:
            (rows,) = db.execute("SELECT count(*) FROM events WHERE seq > ?", (seq,)).fetchone()
            return int(rows) < _last_number(db) - seq

    def raw_after(self, seq: int, kind: str) -> Iterator[bytes]:
        """The library's bytes of all rows of a kind after `seq`, one at a time, since they may be large."""
        query = "SELECT seq, CAST(raw AS BLOB) FROM events WHERE seq > ? AND kind = ? ORDER BY seq LIMIT 1"
        while True:
            with self._reading() as db:
                row = db.execute(query, (seq, kind)).fetchone()
            if row is None:
                return
            seq, raw = row
            yield raw

    def raw_with_id(self, wa_id: str, kind: str) -> list[bytes]:
        """The library's bytes of the first few rows of a kind with this WhatsApp id."""
        query = "SELECT CAST(raw AS BLOB) FROM events WHERE wa_id = ? AND wa_id != '' AND kind = ? ORDER BY seq LIMIT 4"
        with self._reading() as db:
            return [raw for (raw,) in db.execute(query, (wa_id, kind))]

    # --- the phone's address book (wad/engine/contacts.py) -----------------------------------------

    def tell_names(self, names: Mapping[str, str], events: Mapping[str, Arrival]) -> int | None:
        """Append the events of changed names, by address; return the newest row's number, None if there are none."""
        with self._using() as db, transaction(db):
            query = f"SELECT {_WORD.format('address')}, {_REASON.format('name')} FROM names LIMIT ?"
            known = dict(db.execute(query, (_MOST_NAMES,)))
            new = [address for address in events if known.get(address) != names[address]]
            if not new:
                return None
            db.executemany(_INSERT, [_fields(events[address]) for address in new])
            rows = [(address, names[address]) for address in new]
            db.executemany("INSERT OR REPLACE INTO names VALUES (?,?)", rows)
            return _last_number(db)

    def prune(self, up_to_seq: int, before_ms: int, limit: int) -> int:
        """Delete recorded rows (up to the cursor) from before a time, but no quarantined ones; return their number."""
        with self._using() as db:
            return db.execute(
                "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE seq <= ? AND received_ms < ?"
                f" AND NOT ({_KEPT}) ORDER BY seq LIMIT ?)",
                (up_to_seq, before_ms, limit),
            ).rowcount

    def close(self) -> None:
        """Close the file.  Idempotent."""
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
    """SQLite's version of the schema, which changes with every change of it."""
    return int(db.execute("PRAGMA schema_version").fetchone()[0])


def _salvage_key(source: str) -> str:
    return f"salvaged {source}"


def _text(data: bytes) -> str:
    """Decode a column as text; damaged bytes must not make the other rows unreadable."""
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
        raise Damaged("the spool is damaged: its last number is not a number")
    return row[0] if row else 0
