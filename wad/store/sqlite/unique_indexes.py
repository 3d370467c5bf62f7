"""The unique indexes of messages, and the upgrade that marks rows of an older file that would violate them.

Each index enforces in SQLite what `messages` decides before it inserts a row, so that a bug there causes an error
instead of a duplicate.  A row that is marked as a duplicate (`duplicate_of`) stays in the table and is not shown.  It
violates neither index: its number is a part of both keys.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Mapping
from pathlib import PurePath
from typing import Final, NamedTuple

from wad.store.sqlite.threads import recount

log = logging.getLogger(__name__)

_COUNT_KEY: Final = "marked_by_upgrade"
"""The key in `meta` for the number of rows that the upgrade marked; the store removes it when it reports the number."""
_LOGGED_ROWS: Final = 1000  # rows that are logged one by one

_MARKED: Final = "CASE duplicate_of WHEN '' THEN 0 ELSE number END"
_WRITER: Final = "CASE WHEN from_me OR thread LIKE '%@s.whatsapp.net' OR thread LIKE '%lid' THEN '' ELSE sender END"
"""The sender, where a thread has several: in groups.  Elsewhere it does not distinguish two messages."""

_DROP_KEY_TABLES: Final = (
    "DROP TABLE keys_recent",
    "DROP TABLE keys_old",
    "DELETE FROM meta WHERE key = 'packed'",
)
_NOW: Final = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


class Unique(NamedTuple):
    """An index: `what` is the name of its key in messages, `key` its columns, `where` the rows that it covers."""

    name: str
    what: str
    key: str
    where: str = "1"

    @property
    def create(self) -> str:
        """The statement that creates it."""
        where = "" if self.where == "1" else f" WHERE {self.where}"
        return f"CREATE UNIQUE INDEX {self.name} ON messages ({self.key}, {_MARKED}){where}"


BY_ID: Final = Unique("messages_by_id", "document id", "id, account")
"""Two accounts in one group may share the id of a document of the replaced backend."""
BY_WA_ID: Final = Unique(
    "messages_by_wa_id", "WhatsApp id", f"wa_id, thread, from_me, {_WRITER}", "wa_id != ''"
)
"""A thread belongs to one account; `wa_id` comes first, since look-ups start with it."""


def conflicting(db: sqlite3.Connection, row: Mapping[str, object]) -> list[int]:
    """The numbers of the rows beside which the indexes do not allow this row, given by its columns."""
    given = ", ".join(f":{name} AS {name}" for name in row)
    found = set[int]()
    for index in (BY_ID, BY_WA_ID):
        key = f"{index.key}, {_MARKED}"
        query = f"SELECT number FROM messages WHERE {index.where} AND ({key}) = (SELECT {key} FROM (SELECT {given}))"
        found |= {number for (number,) in db.execute(query, row)}
    return sorted(found)


def add_unique_indexes(db: sqlite3.Connection) -> None:
    """Replace the key tables of an older wad by two unique indexes, and mark rows that it stored twice as duplicates.

    Of several rows a sent one stays unmarked, else one that could be decrypted, else the first.  SQLite sorts in
    temporary files, not in memory.  The caller runs all of it in one transaction.
    """
    file = PurePath(next(row[2] for row in db.execute("PRAGMA database_list") if row[1] == "main"))
    (rows,) = db.execute("SELECT count(*) FROM messages").fetchone()
    begun = time.monotonic()
    if rows:
        log.info("%s: creating unique indexes for %d messages", file.name, rows)
    for statement in _DROP_KEY_TABLES:
        db.execute(statement)
    repeated = 0
    for index in (BY_ID, BY_WA_ID):
        try:
            db.execute(index.create)
        except sqlite3.IntegrityError:
            repeated += _mark_duplicates(db, index)
            db.execute(index.create)
        if rows:
            log.info(
                "%s: the index %s was created, %.1f s",
                file.name,
                index.name,
                time.monotonic() - begun,
            )
    if repeated:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?,?)", (_COUNT_KEY, repeated))


def pop_marked_count(db: sqlite3.Connection) -> int:
    """Return the number of rows that the upgrade marked, and 0 at each later call; inside a transaction."""
    row = db.execute("DELETE FROM meta WHERE key = ? RETURNING value", (_COUNT_KEY,)).fetchone()
    return int(row[0]) if row else 0


def _mark_duplicates(db: sqlite3.Connection, index: Unique) -> int:
    """Mark all rows but one of those with the same key of this index; return the number of marked rows."""
    db.execute("CREATE TEMP TABLE repeated (number INTEGER PRIMARY KEY, stays TEXT NOT NULL)")
    found = db.execute(
        "INSERT INTO temp.repeated SELECT number, stays FROM ("
        " SELECT number, row_number() OVER alike AS position, first_value(id) OVER alike AS stays FROM messages"
        f" WHERE duplicate_of = '' AND {index.where} WINDOW alike AS (PARTITION BY {index.key}"
        " ORDER BY client_id = '', kind IN ('lost', 'undecryptable'), number)) WHERE position > 1"
    ).rowcount
    for row in db.execute(
        "SELECT m.id, m.number, m.account, m.thread, m.wa_id, r.stays FROM temp.repeated AS r"
        f" JOIN messages AS m USING (number) ORDER BY number LIMIT {_LOGGED_ROWS}"
    ):
        log.warning(
            "message %s (row %d, account %s, thread %s, WhatsApp id %s) is stored twice and was marked as a duplicate"
            f" of %s, which has the same {index.what}",
            *row,
        )
    if found > _LOGGED_ROWS:
        log.warning(
            "and %d more; `wadctl audit messages` counts all that are marked", found - _LOGGED_ROWS
        )
    threads = db.execute(
        "SELECT DISTINCT thread FROM messages WHERE number IN (SELECT number FROM temp.repeated)"
    ).fetchall()
    db.execute(
        "UPDATE messages SET duplicate_of = (SELECT stays FROM temp.repeated AS r WHERE r.number = messages.number),"
        f" duplicate_ms = {_NOW} WHERE number IN (SELECT number FROM temp.repeated)"
    )
    db.execute("DROP TABLE temp.repeated")
    for (thread,) in threads:
        recount(db, thread)
    return found
