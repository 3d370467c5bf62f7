"""The rows of messages.  Which document a received message means is decided here, in one place (`_known`):

- The one with its document id (among those with its WhatsApp id, from which that is made).
- Else a document with the same account, WhatsApp id and direction in the same thread and, where several people write
  in it, by the same sender.  Thread and sender are spelled by number wherever the number is known, so a message that is
  read again, after the other address of its chat or sender became known, is not stored twice.
- A message of our outbox is known by account and WhatsApp id alone (outbox.py).
- Of several, the one that is shown: a row that is marked as a duplicate counts only where there is no other.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from wad.core.content import PLACEHOLDERS
from wad.core.jid import Jid, ThreadId
from wad.core.message import Message, merged
from wad.core.outbox import Entry, message_of
from wad.store.sqlite.amendments import apply_amendments, is_amendment
from wad.store.sqlite.outbox import apply_marks, load_entry, take_echo
from wad.store.sqlite.queue import insert_queued
from wad.store.sqlite.rows import (
    MESSAGE_COLUMNS,
    MessageRecord,
    is_hidden,
    message_row,
    pack,
    party,
    row_at,
    row_of,
    rows_with,
    thread_of,
)
from wad.store.sqlite.threads import note_facts, recount_unread, refresh_last, show_in_thread

_INSERT: Final = f"INSERT INTO messages ({MESSAGE_COLUMNS}) VALUES ({','.join('?' * 17)})"


def put_message(db: sqlite3.Connection, told: Message) -> Message | None:
    """Store a message that is new, and show it in its thread; None when it is known.

    A known placeholder for what could not be read gives way to the message itself, which counts as new for whoever
    listens but not as another message of its thread.
    """
    message = _by_number(db, told)
    known = _known(db, message)
    if known is not None:
        return _told_again(db, known, message)
    if message.content.kind in PLACEHOLDERS and is_amendment(db, message):
        note_facts(db, message)
        return None
    number = db.execute(_INSERT, message_row(message)).lastrowid or 0
    show_in_thread(db, message)
    if message.from_me:
        note_facts(db, message)
        if message.wa_id:
            apply_marks(db, message.account, message.wa_id)
    changed = apply_amendments(db, message.account, message.wa_id)
    if message.from_me or changed:
        return _shown(db, number)
    return message


def insert_entry(db: sqlite3.Connection, entry: Entry) -> None:
    """A new entry, at the end of its chat's queue, and its message, if it is one."""
    insert_queued(db, entry, pack(entry))
    if not entry.amends:
        put_message(db, message_of(entry))


def _by_number(db: sqlite3.Connection, message: Message) -> Message:
    """The message with thread and sender spelled by number, where that is known."""
    if not is_hidden(message.thread) and not is_hidden(message.sender):
        return message
    thread = thread_of(db, message.thread)
    return msgspec.structs.replace(
        message,
        thread=thread,
        chat=str(ThreadId.parse(thread).jid),
        sender=party(db, message.account, message.sender),
    )


def _known(db: sqlite3.Connection, message: Message) -> MessageRecord | None:
    """The row of the document that shows this message already."""
    if not message.wa_id:
        return row_of(db, message.id)
    # A document with this id is among them: the id is made from the WhatsApp id (core/identity.py).
    rows = [
        row
        for row in rows_with(db, message.account, message.wa_id)
        if row.first.id == message.id or _shows(row.first, message)
    ]
    return min(rows, key=lambda row: (row.marked, row.first.id != message.id), default=None)


def _shows(known: Message, message: Message) -> bool:
    """Whether two messages of one WhatsApp id are one."""
    if known.from_me is not message.from_me:
        return False
    return bool(known.client_id) or (
        known.thread == message.thread and _same_sender(message, known.sender)
    )


def _same_sender(message: Message, sender: str) -> bool:
    return message.from_me or message.sender == sender or Jid.parse(message.chat).is_person


def _told_again(db: sqlite3.Connection, known: MessageRecord, message: Message) -> Message | None:
    """A message that is there already: it may say more now."""
    before = known.first
    if message.from_me and (entry := load_entry(db, before.id)) is not None:
        if entry.wa_id == message.wa_id:
            take_echo(db, entry, message.at_ms)
        return None
    after = merged(before, message)
    note_facts(db, msgspec.structs.replace(message, thread=before.thread, chat=before.chat))
    if after == before:
        return None
    rewrite(db, known.number, after)
    return _shown(db, known.number) if after.content != before.content else None


def _shown(db: sqlite3.Connection, number: int) -> Message | None:
    row = row_at(db, number)
    return None if row is None else row.shown


def rewrite(db: sqlite3.Connection, number: int, message: Message) -> None:
    """Replace what was told of the message in this row, and derive again what hangs on it."""
    db.execute(
        "UPDATE messages SET sender = ?, at_ms = ?, seen = ?, status = ?, push_name = ?, fingerprint = ?, kind = ?,"
        " content = ?, amended = NULL WHERE number = ?",
        (
            message.sender, message.at_ms, message.seen, message.status, message.push_name, message.fingerprint,
            message.content.kind, pack(message.content), number,
        ),
    )  # fmt: skip
    apply_amendments(db, message.account, message.wa_id)
    refresh_last(db, message.thread)
    if not message.from_me:
        recount_unread(db, message.thread)
