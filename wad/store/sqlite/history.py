"""Queries for history requests to the phone, and the recount of threads.  They run in a transaction of the store."""

from __future__ import annotations

import sqlite3

from wad.core.content import MessageKind
from wad.core.message import Message
from wad.store.sqlite.rows import MESSAGE_COLUMNS, PLACEHOLDER, SHOWN, message_from, resolve_thread
from wad.store.sqlite.threads import recount_if_wrong


def oldest(db: sqlite3.Connection, thread: str) -> Message | None:
    """The oldest message of a thread that the phone can find by its WhatsApp id."""
    row = db.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE thread = ? AND wa_id != '' AND kind != ?"
        " ORDER BY at_ms, seen, id LIMIT 1",
        (resolve_thread(db, thread), MessageKind.CALL),
    ).fetchone()
    return message_from(row) if row else None


def placeholders(db: sqlite3.Connection, account: str, limit: int) -> list[Message]:
    """The newest placeholders that are shown."""
    rows = db.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE account = ? AND wa_id != '' AND {PLACEHOLDER} AND {SHOWN}"
        " ORDER BY at_ms DESC, seen DESC, id DESC LIMIT ?",
        (account, limit),
    )
    return [message_from(row) for row in rows]


def recount(db: sqlite3.Connection, account: str) -> int:
    """Derive the summaries of an account's threads again; return in how many something was wrong."""
    threads = db.execute("SELECT id FROM threads WHERE account = ?", (account,)).fetchall()
    return sum(recount_if_wrong(db, thread) for (thread,) in threads)
