"""The unique indexes of messages, and what becomes of rows of an older file that would violate them.

Each index says once more, to SQLite, what `messages` decides before it inserts a row, so that a bug there makes
an error instead of a duplicate.  A row that is marked as a duplicate (`duplicate_of`) stays in its table, shows nowhere
and violates nothing: its number is a part of both keys.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import PurePath
from typing import Final, NamedTuple

from wad.store.sqlite.threads import recount

log = logging.getLogger(__name__)

_COUNT: Final = "marked_by_upgrade"
"""The key in `meta` of the number of rows that the upgrade marked, until the store takes it to report it."""
_NAMED: Final = 1000  # rows that the log names

_MARKED: Final = "CASE duplicate_of WHEN '' THEN 0 ELSE number END"
_WRITER: Final = "CASE WHEN from_me OR thread LIKE '%@s.whatsapp.net' OR thread LIKE '%lid' THEN '' ELSE sender END"
"""Who wrote it, where that tells two messages of a thread apart: among several people."""

_REMOVE_KEYS: Final = (
    "DROP TABLE keys_recent",
    "DROP TABLE keys_old",
    "DELETE FROM meta WHERE key = 'packed'",
)
_NOW: Final = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


class Unique(NamedTuple):
    """An index; `what` is unique by it in words, `key` in columns, among the rows of `where`."""

    name: str
    what: str
    key: str
    where: str = "1"

    @property
    def create(self) -> str:
        """The statement that makes it."""
        where = "" if self.where == "1" else f" WHERE {self.where}"
        return f"CREATE UNIQUE INDEX {self.name} ON messages ({self.key}, {_MARKED}){where}"


BY_ID: Final = Unique("messages_by_id", "document id", "id, account")
"""Two accounts that are in one group may share the id of a document of the backend before wad."""
BY_WA_ID: Final = Unique(
    "messages_by_wa_id", "WhatsApp id", f"wa_id, thread, from_me, {_WRITER}", "wa_id != ''"
)
"""A thread is of one account; `wa_id` comes first, since it is what is looked for."""


def add_unique_indexes(db: sqlite3.Connection) -> None:
    """Replace wad's own index by two of SQLite's; mark as duplicates what an older wad has stored twice.

    Of several rows the outbox's own stays, else one that could be read, else the first.  Sorting takes temporary files
    and not memory; the whole is one transaction of the caller's.
    """
    file = PurePath(next(row[2] for row in db.execute("PRAGMA database_list") if row[1] == "main"))
    (rows,) = db.execute("SELECT count(*) FROM messages").fetchone()
    begun = time.monotonic()
    if rows:
        log.info("%s: %d messages get unique indexes; their own index goes", file.name, rows)
    for statement in _REMOVE_KEYS:
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
                "%s: the index %s is made, %.1f s", file.name, index.name, time.monotonic() - begun
            )
    if repeated:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?,?)", (_COUNT, repeated))


def take_marked(db: sqlite3.Connection) -> int:
    """How many rows the upgrade has marked, the first time that somebody asks; inside a transaction."""
    row = db.execute("DELETE FROM meta WHERE key = ? RETURNING value", (_COUNT,)).fetchone()
    return int(row[0]) if row else 0


def _mark_duplicates(db: sqlite3.Connection, index: Unique) -> int:
    """Mark all rows but one of those that are alike in the index's key; how many were marked."""
    db.execute("CREATE TEMP TABLE repeated (number INTEGER PRIMARY KEY, stays TEXT NOT NULL)")
    found = db.execute(
        "INSERT INTO temp.repeated SELECT number, stays FROM ("
        " SELECT number, row_number() OVER alike AS place, first_value(id) OVER alike AS stays FROM messages"
        f" WHERE duplicate_of = '' AND {index.where} WINDOW alike AS (PARTITION BY {index.key}"
        " ORDER BY client_id = '', kind IN ('lost', 'undecryptable'), number)) WHERE place > 1"
    ).rowcount
    for row in db.execute(
        "SELECT m.id, m.number, m.account, m.thread, m.wa_id, r.stays FROM temp.repeated AS r"
        f" JOIN messages AS m USING (number) ORDER BY number LIMIT {_NAMED}"
    ):
        log.warning(
            "message %s (row %d, account %s, thread %s, WhatsApp id %s) is stored twice: it is marked as a duplicate"
            f" of %s, which has the same {index.what}",
            *row,
        )
    if found > _NAMED:
        log.warning(
            "and %d more; `wadctl audit messages` counts all that are marked", found - _NAMED
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
