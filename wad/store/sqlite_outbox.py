"""The rows of the outbox, and the evidence that moves them on: receipts and echoes.

A message of our outbox is known by account and WhatsApp id alone, as is the message that a receipt means: its echo and
its receipts may spell the chat either way, and ids of messages that we send are random.  Marks therefore lie under
(account, WhatsApp id), without the thread.

An echo that comes before `settle` told us the WhatsApp id is stored like any message; `settle` then takes it away
again, since the outbox's own document shows the same message.
"""

from __future__ import annotations

import sqlite3

from wad.core.change import PutMark
from wad.core.errors import Conflict
from wad.core.event import Mark
from wad.core.message import MessageStatus, further, status_of
from wad.core.outbox import Entry, Marked, Sent, advance, message_of
from wad.store.sqlite_amendments import apply_amendments
from wad.store.sqlite_rows import pack, party, unpack_entry
from wad.store.sqlite_threads import refresh_last, remove_from_thread

# --- entries --------------------------------------------------------------------------------------


def load_entry(db: sqlite3.Connection, ident: str) -> Entry | None:
    """One entry."""
    row = db.execute("SELECT entry FROM outbox WHERE id = ?", (ident,)).fetchone()
    return unpack_entry(row[0]) if row else None


def settle_entry(db: sqlite3.Connection, entry: Entry) -> Entry:
    """Write an entry that has moved on, with what is known already of the WhatsApp id that it may have got by that."""
    _write_entry(db, entry)
    if not entry.wa_id:
        return entry
    _absorb_echo(db, entry)
    apply_marks(db, entry.account, entry.wa_id)
    apply_amendments(db, entry.account, entry.wa_id)
    return load_entry(db, entry.id) or entry


def _write_entry(db: sqlite3.Connection, entry: Entry) -> None:
    """Write an entry, and its message's status, WhatsApp id and time."""
    message = message_of(entry)
    db.execute(
        "UPDATE outbox SET state = ?, entry = ? WHERE id = ?", (entry.state, pack(entry), entry.id)
    )
    before = db.execute("SELECT at_ms, thread FROM messages WHERE id = ?", (entry.id,)).fetchone()
    db.execute(
        "UPDATE messages SET status = ?, wa_id = ?, at_ms = ? WHERE id = ?",
        (message.status, message.wa_id, message.at_ms, message.id),
    )
    if before is not None and before[0] != message.at_ms:
        refresh_last(db, before[1])


# --- receipts -------------------------------------------------------------------------------------


def put_mark(db: sqlite3.Connection, account: str, change: PutMark) -> None:
    """Keep what a receipt said, and let it count if its message is there; the earliest time of each mark stays."""
    db.execute(
        "INSERT INTO marks (account, wa_id, party, mark, at_ms) VALUES (?,?,?,?,?)"
        " ON CONFLICT DO UPDATE SET at_ms = min(at_ms, excluded.at_ms)",
        (account, change.wa_id, party(db, account, change.by), change.mark, change.at_ms),
    )
    apply_marks(db, account, change.wa_id)


def apply_marks(db: sqlite3.Connection, account: str, wa_id: str) -> None:
    """Let what receipts said count for the message and its entry, whichever came first."""
    words = db.execute(
        "SELECT DISTINCT mark FROM marks WHERE account = ? AND wa_id = ?", (account, wa_id)
    )
    marks = [Mark(word) for (word,) in words]
    if not marks:
        return
    ours = db.execute(
        "SELECT id, status FROM messages WHERE account = ? AND wa_id = ? AND wa_id != '' AND from_me",
        (account, wa_id),
    ).fetchall()
    for ident, status in ours:
        if (entry := load_entry(db, ident)) is not None:
            for mark in marks:
                entry = _believe(entry, Marked(mark))
            _write_entry(db, entry)
            continue
        after = MessageStatus(status)
        for mark in marks:
            after = further(after, status_of(mark))
        db.execute("UPDATE messages SET status = ? WHERE id = ?", (after, ident))


# --- echoes ---------------------------------------------------------------------------------------


def take_echo(db: sqlite3.Connection, entry: Entry, at_ms: int) -> None:
    """An echo is evidence that the message was sent."""
    after = _believe(entry, Sent(entry.wa_id, at_ms))
    if after != entry:
        settle_entry(db, after)


def _absorb_echo(db: sqlite3.Connection, entry: Entry) -> None:
    """Take away the document that an echo made before the entry had its WhatsApp id: one message, one document."""
    rows = db.execute(
        "SELECT id, thread, at_ms FROM messages"
        " WHERE account = ? AND wa_id = ? AND wa_id != '' AND from_me AND id != ?",
        (entry.account, entry.wa_id, entry.id),
    ).fetchall()
    for ident, thread, _ in rows:
        remove_from_thread(db, ident, thread)
    if rows:
        take_echo(db, entry, min(at_ms for _, _, at_ms in rows))


def _believe(entry: Entry, evidence: Sent | Marked) -> Entry:
    """The entry after evidence; unchanged where it says nothing new."""
    try:
        return advance(entry, evidence)
    except Conflict:
        return entry
