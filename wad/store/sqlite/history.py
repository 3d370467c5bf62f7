"""What a phone can be asked for, read from the rows of wad.db; these run inside a transaction of the store's."""

from __future__ import annotations

import sqlite3

from wad.core.content import MessageKind
from wad.core.message import Message
from wad.store.sqlite.rows import MESSAGE_COLUMNS, PLACEHOLDER, message_from, thread_of
from wad.store.sqlite.threads import recount_where_wrong


def oldest(db: sqlite3.Connection, thread: str) -> Message | None:
    """The oldest message of a thread that the phone knows by an id."""
    row = db.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE thread = ? AND wa_id != '' AND kind != ?"
        " ORDER BY at_ms, seen, id LIMIT 1",
        (thread_of(db, thread), MessageKind.CALL),
    ).fetchone()
    return message_from(row) if row else None


def placeholders(db: sqlite3.Connection, account: str, limit: int) -> list[Message]:
    """The newest messages of which only their place is known."""
    rows = db.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE account = ? AND wa_id != '' AND {PLACEHOLDER}"
        " ORDER BY at_ms DESC, seen DESC, id DESC LIMIT ?",
        (account, limit),
    )
    return [message_from(row) for row in rows]


def recount(db: sqlite3.Connection, account: str) -> int:
    """Derive the threads of an account anew; in how many something was wrong."""
    threads = db.execute("SELECT id FROM threads WHERE account = ?", (account,)).fetchall()
    return sum(recount_where_wrong(db, thread) for (thread,) in threads)
