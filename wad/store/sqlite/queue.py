"""The order in which the entries of an account leave: chats take turns, and each keeps its own order.

Each queued entry has a `turn`, and the smallest leaves next; of two alike the one that was queued first.  An entry's
turn is one more than that of the entry before it in its chat, but not less than the turn that was served last.  So ten
thousand entries for one chat hold up another chat's by one, chats with one entry each are served in the order of
queueing, and who adds to a chat all the time does not overtake those that wait.  (Start-time fair queueing, each entry
having the same cost.)  The turn that was served last lies in `meta`.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache

import msgspec

from wad.core.outbox import Entry
from wad.store.sqlite.rows import thread_of, unpack_entry

log = logging.getLogger(__name__)


def insert_queued(db: sqlite3.Connection, entry: Entry, packed: bytes) -> None:
    """A new entry, at the end of its chat's queue."""
    thread = thread_of(db, entry.thread)
    turn = _next_turn(db, entry.account, thread)
    db.execute(
        "INSERT INTO outbox (id, account, state, created_ms, wa_id, entry, thread, turn) VALUES (?,?,?,?,?,?,?,?)",
        (entry.id, entry.account, entry.state, entry.created_ms, entry.wa_id, packed, thread, turn),
    )


def _next_turn(db: sqlite3.Connection, account: str, thread: str) -> int:
    query = "SELECT max(turn) FROM outbox WHERE account = ? AND thread = ?"
    (last,) = db.execute(query, (account, thread)).fetchone()
    return max(_served(db, account), -1 if last is None else last) + (last is not None)


def _served(db: sqlite3.Connection, account: str) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (_key(account),)).fetchone()
    return int(row[0]) if row else 0


def _key(account: str) -> str:
    return f"turn {account}"


def note_claimed(db: sqlite3.Connection, entry: Entry) -> None:
    """Its turn has come."""
    db.execute(
        "INSERT INTO meta SELECT ?, turn FROM outbox WHERE id = ?"
        " ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
        (_key(entry.account), entry.id),
    )


def queue_again(db: sqlite3.Connection, entry: Entry) -> None:
    """A person wants it sent again: it waits behind what its chat has in the queue, or ten thousand would go first."""
    thread = thread_of(db, entry.thread)
    turn = _next_turn(db, entry.account, thread)
    db.execute("UPDATE outbox SET thread = ?, turn = ? WHERE id = ?", (thread, turn, entry.id))


def next_entry(db: sqlite3.Connection, account: str, but: Collection[str]) -> Entry | None:
    """The queued entry whose turn it is, of a chat that is not among `but`."""
    without = json.dumps([thread_of(db, thread) for thread in but])
    rows = db.execute(
        "SELECT id, entry FROM outbox WHERE account = ? AND state = 'queued'"
        " AND thread NOT IN (SELECT value FROM json_each(?)) ORDER BY turn, number",
        (account, without),
    )
    return next(readable(rows), None)


def readable(rows: Iterable[tuple[str, bytes]]) -> Iterator[Entry]:
    """The entries of these rows (id, entry); what cannot be read is passed over, and said once."""
    for ident, packed in rows:
        try:
            yield unpack_entry(packed)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            _say_unreadable(ident, str(error))


@lru_cache(256)  # once each
def _say_unreadable(ident: str, why: str) -> None:
    log.error("entry %s of the outbox cannot be read, and is passed over: %s", ident, why)


def join_chats(db: sqlite3.Connection, account: str, old: str, new: str) -> None:
    """A hidden id is a number: what waits for the one waits for the other, in the order of its turns."""
    db.execute(
        "UPDATE outbox SET thread = ? WHERE account = ? AND thread = ? AND state = 'queued'",
        (new, account, old),
    )


def name_chats(db: sqlite3.Connection) -> None:
    """Give those that wait since before there were turns their chats."""
    query = "SELECT number, entry FROM outbox WHERE state = 'queued' AND thread = ''"
    for number, packed in db.execute(query).fetchall():
        for entry in readable([(str(number), packed)]):
            thread = thread_of(db, entry.thread)
            db.execute("UPDATE outbox SET thread = ? WHERE number = ?", (thread, number))
