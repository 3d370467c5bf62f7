"""The order in which the entries of an account are sent: chats take turns, and each keeps its own order.

Each queued entry has a `turn`.  The entry with the smallest turn is sent next; of equal turns, the one that was queued
first.  An entry's turn is one more than that of the entry before it in its chat, but not less than the turn that was
served last.  So ten thousand entries for one chat delay another chat by one entry, chats with one entry each are served
in the order of queueing, and a chat that is added to all the time does not overtake those that wait.  (Start-time fair
queueing, where each entry has the same cost.)  The turn that was served last is stored in `meta`.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache

import msgspec

from wad.core.jid import Jid, ThreadId
from wad.core.outbox import Entry, readdressed
from wad.store.sqlite.rows import is_lid, pack, resolve_thread, unpack_entry

log = logging.getLogger(__name__)


def insert_queued(db: sqlite3.Connection, entry: Entry, packed: bytes) -> None:
    """Insert a new entry at the end of its chat's queue."""
    thread = resolve_thread(db, entry.thread)
    turn = _next_turn(db, entry.account, thread)
    db.execute(
        "INSERT INTO outbox (id, account, state, created_ms, wa_id, entry, thread, turn) VALUES (?,?,?,?,?,?,?,?)",
        (entry.id, entry.account, entry.state, entry.created_ms, entry.wa_id, packed, thread, turn),
    )


def _next_turn(db: sqlite3.Connection, account: str, thread: str) -> int:
    query = "SELECT max(turn) FROM outbox WHERE account = ? AND thread = ?"
    (last,) = db.execute(query, (account, thread)).fetchone()
    return max(_last_turn(db, account), -1 if last is None else last) + (last is not None)


def _last_turn(db: sqlite3.Connection, account: str) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (_key(account),)).fetchone()
    return int(row[0]) if row else 0


def _key(account: str) -> str:
    return f"turn {account}"


def record_claim(db: sqlite3.Connection, entry: Entry) -> None:
    """Record the turn of a claimed entry as served."""
    db.execute(
        "INSERT INTO meta SELECT ?, turn FROM outbox WHERE id = ?"
        " ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
        (_key(entry.account), entry.id),
    )


def requeue(db: sqlite3.Connection, entry: Entry) -> None:
    """Queue an entry again, at the end of its chat's queue: ten thousand retried entries must not delay new ones."""
    thread = resolve_thread(db, entry.thread)
    turn = _next_turn(db, entry.account, thread)
    db.execute("UPDATE outbox SET thread = ?, turn = ? WHERE id = ?", (thread, turn, entry.id))


def next_entry(db: sqlite3.Connection, account: str, but: Collection[str]) -> Entry | None:
    """The queued entry with the smallest turn, of a chat that is not among `but`."""
    without = json.dumps([resolve_thread(db, thread) for thread in but])
    rows = db.execute(
        "SELECT id, entry FROM outbox WHERE account = ? AND state = 'queued'"
        " AND thread NOT IN (SELECT value FROM json_each(?)) ORDER BY turn, number",
        (account, without),
    )
    return next(readable(rows), None)


def readable(rows: Iterable[tuple[str, bytes]]) -> Iterator[Entry]:
    """The entries in these rows (id, entry); an entry that cannot be decoded is skipped, and logged once."""
    for ident, packed in rows:
        try:
            yield unpack_entry(packed)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            _log_unreadable(ident, str(error))


@lru_cache(256)  # each entry once
def _log_unreadable(ident: str, why: str) -> None:
    log.error("entry %s of the outbox cannot be read and is skipped: %s", ident, why)


def merge_chats(db: sqlite3.Connection, account: str, old: str, new: str) -> None:
    """Move the entries of a chat to another chat of the same person; they keep their turns.

    Those that may be sent from now on, or once more, get the new chat's address: the number may be somebody else's now.
    A LID stays the address of its person.
    """
    if not is_lid(old):
        _address_again(db, account, old, ThreadId.parse(new).jid)
    db.execute(
        "UPDATE outbox SET thread = ? WHERE account = ? AND thread = ?",
        (new, account, old),
    )


def _address_again(db: sqlite3.Connection, account: str, thread: str, to: Jid) -> None:
    query = (
        "SELECT id, entry FROM outbox WHERE account = ? AND thread = ?"
        " AND state IN ('queued', 'sending', 'uncertain', 'failed')"
    )
    for entry in list(readable(db.execute(query, (account, thread)).fetchall())):
        packed = pack(readdressed(entry, to))
        db.execute("UPDATE outbox SET entry = ? WHERE id = ?", (packed, entry.id))


def add_missing_chats(db: sqlite3.Connection) -> None:
    """Fill in the chats of entries that an older wad queued, which had no turns."""
    query = "SELECT number, entry FROM outbox WHERE state = 'queued' AND thread = ''"
    for number, packed in db.execute(query).fetchall():
        for entry in readable([(str(number), packed)]):
            thread = resolve_thread(db, entry.thread)
            db.execute("UPDATE outbox SET thread = ? WHERE number = ?", (thread, number))
