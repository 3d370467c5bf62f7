"""The rows of the outbox, and the evidence that advances them: receipts and echoes.

A message of the outbox is identified by account and WhatsApp id alone: only our own devices send its echo, which may
name the chat by either address.  A receipt counts for messages of its own chat only, by any address of it, since anyone
may send a receipt with the id of a message to somebody else.

An echo that arrives before `settle` has stored the WhatsApp id is stored like any message; `settle` then deletes it,
since the outbox's own document is the same message.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from wad.core.change import PutAmendment, PutMark
from wad.core.errors import Conflict
from wad.core.event import ReceiptMark
from wad.core.message import Message, MessageStatus, further, status_of
from wad.core.outbox import Entry, Marked, Sent, advance, amendment_of, message_of
from wad.store.sqlite.amendments import apply_amendments, put_amendment
from wad.store.sqlite.rows import (
    HAS_WA_ID,
    is_lid,
    pack,
    resolve,
    resolve_thread,
    row_by_id,
    unpack_entry,
)
from wad.store.sqlite.threads import delete_message, update_last_message

# --- entries --------------------------------------------------------------------------------------


def load_entry(db: sqlite3.Connection, ident: str) -> Entry | None:
    """The entry with this id."""
    row = db.execute("SELECT entry FROM outbox WHERE id = ?", (ident,)).fetchone()
    return unpack_entry(row[0]) if row else None


def _entries_of(db: sqlite3.Connection, account: str, wa_id: str) -> list[Entry]:
    """The entries with this WhatsApp id."""
    query = "SELECT entry FROM outbox WHERE account = ? AND wa_id = ? AND wa_id != ''"
    return [unpack_entry(row) for (row,) in db.execute(query, (account, wa_id)).fetchall()]


def settle_entry(db: sqlite3.Connection, entry: Entry) -> Entry:
    """Store an entry that has advanced; apply the echo and the receipts that are stored for its WhatsApp id."""
    if entry.wa_id:
        marks = _marks_of(db, entry.account, entry.wa_id, _chat_of(db, entry))
        entry = _with_marks(_with_echo(db, entry), marks)
    _write_entry(db, entry)
    if entry.wa_id:
        apply_amendments(db, entry.account, entry.wa_id)
    return entry


def _write_entry(db: sqlite3.Connection, entry: Entry) -> None:
    """Write an entry, and the status, WhatsApp id and time of its message, or its amendment of another message."""
    db.execute(
        "UPDATE outbox SET state = ?, wa_id = ?, entry = ? WHERE id = ?",
        (entry.state, entry.wa_id, pack(entry), entry.id),
    )
    if entry.amends:
        _amend(db, entry)
        return
    message, row = message_of(entry), row_by_id(db, entry.id)
    if row is None:
        return
    db.execute(
        "UPDATE messages SET status = ?, wa_id = ?, at_ms = ? WHERE number = ?",
        (message.status, message.wa_id, message.at_ms, row.number),
    )
    if row.original.at_ms != message.at_ms:
        update_last_message(db, row.original.thread)


def _amend(db: sqlite3.Connection, entry: Entry) -> None:
    """Apply an edit, revoke or reaction of ours once it was certainly sent, unless its echo was applied already."""
    amendment = amendment_of(entry)
    if amendment is not None and not _amendment_times(db, entry):
        put_amendment(db, entry.account, amendment)


# --- receipts -------------------------------------------------------------------------------------


def put_mark(db: sqlite3.Connection, account: str, change: PutMark) -> None:
    """Store a receipt, and apply it if its message is stored; of repeated receipts the earliest time is kept."""
    thread, by = resolve_thread(db, change.thread), resolve(db, account, change.by)
    db.execute(
        "INSERT INTO marks (account, wa_id, thread, party, mark, at_ms) VALUES (?,?,?,?,?,?)"
        " ON CONFLICT DO UPDATE SET at_ms = min(at_ms, excluded.at_ms)",
        (account, change.wa_id, thread, by, change.mark, change.at_ms),
    )
    apply_marks(db, account, change.wa_id)


def apply_marks(db: sqlite3.Connection, account: str, wa_id: str) -> None:
    """Apply the stored receipts to the message and its entry."""
    # Writing an entry also writes its message; an entry that amends another message has none.
    for entry in _entries_of(db, account, wa_id):
        if marks := _marks_of(db, account, wa_id, _chat_of(db, entry)):
            _write_entry(db, _with_marks(entry, marks))
    query = (
        f"SELECT number, thread, status FROM messages WHERE {HAS_WA_ID} AND from_me"
        " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = messages.id)"
    )
    for number, thread, status in db.execute(query, (account, wa_id)).fetchall():
        after = MessageStatus(status)
        for mark in _marks_of(db, account, wa_id, thread):
            after = further(after, status_of(mark))
        if after is not MessageStatus(status):
            db.execute("UPDATE messages SET status = ? WHERE number = ?", (after, number))


def _chat_of(db: sqlite3.Connection, entry: Entry) -> str:
    """The thread of the person to whom it was sent: the number in the entry may be somebody else's by now."""
    row = db.execute("SELECT thread FROM outbox WHERE id = ?", (entry.id,)).fetchone()
    return str(row[0]) if row and row[0] else entry.thread


def _marks_of(db: sqlite3.Connection, account: str, wa_id: str, thread: str) -> list[ReceiptMark]:
    """The receipts of this chat for a message."""
    query = "SELECT DISTINCT mark FROM marks WHERE account = ? AND wa_id = ? AND thread IN ('', ?)"
    values = (account, wa_id, resolve_thread(db, thread))
    return [ReceiptMark(mark) for (mark,) in db.execute(query, values)]


def move_marks(db: sqlite3.Connection, account: str, old: str, new: str) -> None:
    """Move the receipts of a thread to another of the same person, and apply them."""
    hidden = " AND thread LIKE '%lid'" if is_lid(old) else ""  # as in the index
    query = f"SELECT DISTINCT wa_id FROM marks WHERE thread = ?{hidden}"
    moved = [wa_id for (wa_id,) in db.execute(query, (old,)).fetchall()]
    db.execute(f"UPDATE OR REPLACE marks SET thread = ? WHERE thread = ?{hidden}", (new, old))
    for wa_id in moved:
        apply_marks(db, account, wa_id)


def _with_marks(entry: Entry, marks: Iterable[ReceiptMark]) -> Entry:
    for mark in marks:
        entry = _with_evidence(entry, Marked(mark))
    return entry


# --- echoes ---------------------------------------------------------------------------------------


def receive_amendment(db: sqlite3.Connection, account: str, change: PutAmendment) -> list[Message]:
    """Store a received amendment, which may be the echo of one of ours; return the shown messages that it changed."""
    changed = put_amendment(db, account, change)
    if change.from_me:
        for entry in _entries_of(db, account, change.wa_id):
            apply_echo(db, entry, change.at_ms)
    return changed


def apply_echo(db: sqlite3.Connection, entry: Entry, at_ms: int) -> None:
    """Advance an entry by its echo, which is evidence that the message was sent."""
    after = _with_evidence(entry, Sent(entry.wa_id, at_ms))
    if after != entry:
        settle_entry(db, after)


def _with_echo(db: sqlite3.Connection, entry: Entry) -> Entry:
    """The entry after its echo, if that arrived before the entry had its WhatsApp id; deletes the echo's own document.

    It is deleted before the entry's document gets the same WhatsApp id: one message is one document.
    """
    query = f"SELECT number, thread, at_ms FROM messages WHERE {HAS_WA_ID} AND from_me AND id != ?"
    echoes = db.execute(query, (entry.account, entry.wa_id, entry.id)).fetchall()
    for number, thread, _ in echoes:
        delete_message(db, number, thread)
    times = [at_ms for _, _, at_ms in echoes]
    if entry.amends:
        times += _amendment_times(db, entry)
    return _with_evidence(entry, Sent(entry.wa_id, min(times))) if times else entry


def _amendment_times(db: sqlite3.Connection, entry: Entry) -> list[int]:
    """The times of the amendments that have this entry's WhatsApp id."""
    query = (
        "SELECT at_ms FROM amendments WHERE account = ? AND wa_id = ? AND wa_id != '' AND from_me"
    )
    return [at_ms for (at_ms,) in db.execute(query, (entry.account, entry.wa_id))]


def _with_evidence(entry: Entry, evidence: Sent | Marked) -> Entry:
    """The entry after evidence; unchanged if the evidence adds nothing."""
    try:
        return advance(entry, evidence)
    except Conflict:
        return entry
