"""The rows of messages.  `_find_stored` alone decides whether a received message is stored already, as

- the document with its document id (among those with its WhatsApp id, from which the document id is made);
- else a document with the same account, WhatsApp id and direction in the same thread and, in a group, by the same
  sender.  A LID is replaced by its number wherever that is known, in threads and senders, so a message that is received
  again after the other address of its chat or sender became known is not stored twice;
- a message of the outbox, which is identified by account and WhatsApp id alone (outbox.py).

Of several documents the shown one is meant; a row that is marked as a duplicate only if no other exists.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from wad.core.content import PLACEHOLDERS
from wad.core.jid import Jid, ThreadId
from wad.core.message import Message, merged
from wad.core.outbox import Entry, message_of, readdressed
from wad.store.sqlite.addresses import note_hidden_names
from wad.store.sqlite.amendments import apply_amendments, is_amendment
from wad.store.sqlite.numbers import recipient
from wad.store.sqlite.outbox import apply_echo, apply_marks, load_entry
from wad.store.sqlite.queue import insert_queued
from wad.store.sqlite.rows import (
    MESSAGE_COLUMNS,
    MessageRecord,
    is_lid,
    message_row,
    pack,
    resolve,
    resolve_thread,
    row_by_id,
    row_by_number,
    rows_by_wa_id,
)
from wad.store.sqlite.threads import (
    add_to_thread,
    record_facts,
    recount_unread,
    update_last_message,
)

_INSERT: Final = f"INSERT INTO messages ({MESSAGE_COLUMNS}) VALUES ({','.join('?' * 19)})"


def put_message(db: sqlite3.Connection, received: Message) -> Message | None:
    """Store a new message and show it in its thread; return it, or None if it was stored already.

    A stored placeholder is replaced by the message itself, which is returned as new but is counted once in its thread.
    """
    message = _with_pn(db, received)
    stored = _find_stored(db, message)
    if stored is not None:
        return _received_again(db, stored, message)
    if message.content.kind in PLACEHOLDERS and is_amendment(db, message):
        record_facts(db, message)
        return None
    number = db.execute(_INSERT, message_row(message)).lastrowid or 0
    note_hidden_names(db, number, message)
    add_to_thread(db, message)
    if message.from_me:
        record_facts(db, message)
        if message.wa_id:
            apply_marks(db, message.account, message.wa_id)
    changed = apply_amendments(db, message.account, message.wa_id)
    if message.from_me or changed:
        return _if_shown(db, number)
    return message


def insert_entry(db: sqlite3.Connection, entry: Entry) -> None:
    """Queue a new entry and store its message; an entry that amends another message has none.

    An entry of another program may name its recipient by another spelling of the number.
    """
    to, known = recipient(db, entry.account, entry.to)
    if known and to != entry.to and not is_lid(entry.to):
        entry = readdressed(entry, Jid.parse(to))
    insert_queued(db, entry, pack(entry))
    if not entry.amends:
        put_message(db, message_of(entry))


def _with_pn(db: sqlite3.Connection, message: Message) -> Message:
    """The message with the present numbers of its chat and sender, where these are known."""
    thread = resolve_thread(db, message.thread)
    sender = resolve(db, message.account, message.sender)
    if (thread, sender) == (message.thread, message.sender):
        return message
    chat = str(ThreadId.parse(thread).jid)
    return msgspec.structs.replace(message, thread=thread, chat=chat, sender=sender)


def _find_stored(db: sqlite3.Connection, message: Message) -> MessageRecord | None:
    """The row of the document that contains this message already."""
    if not message.wa_id:
        return row_by_id(db, message.id)
    # A document with this document id is among them, since the id is made from the WhatsApp id (core/identity.py).
    rows = [
        row
        for row in rows_by_wa_id(db, message.account, message.wa_id)
        if row.original.id == message.id or _is_same(row.original, message)
    ]
    return min(
        rows, key=lambda row: (row.is_duplicate, row.original.id != message.id), default=None
    )


def _is_same(stored: Message, message: Message) -> bool:
    """Whether two messages with the same WhatsApp id are the same message."""
    if stored.from_me is not message.from_me:
        return False
    return bool(stored.client_id) or (
        stored.thread == message.thread and _same_sender(message, stored.sender)
    )


def _same_sender(message: Message, sender: str) -> bool:
    return message.from_me or message.sender == sender or Jid.parse(message.chat).is_person


def _received_again(
    db: sqlite3.Connection, stored: MessageRecord, message: Message
) -> Message | None:
    """Add to a stored message what this version of it has more; return the message if its content changed."""
    before = stored.original
    if message.from_me and (entry := load_entry(db, before.id)) is not None:
        if entry.wa_id == message.wa_id:
            apply_echo(db, entry, message.at_ms)
        return None
    after = merged(before, message)
    record_facts(db, msgspec.structs.replace(message, thread=before.thread, chat=before.chat))
    if after == before:
        return None
    rewrite(db, stored.number, after)
    return _if_shown(db, stored.number) if after.content != before.content else None


def _if_shown(db: sqlite3.Connection, number: int) -> Message | None:
    """The present message in this row; None if it is marked as a duplicate."""
    row = row_by_number(db, number)
    return None if row is None or row.is_duplicate else row.present


def rewrite(db: sqlite3.Connection, number: int, message: Message) -> None:
    """Replace the received message in this row, and derive again what depends on it."""
    db.execute(
        "UPDATE messages SET sender = ?, at_ms = ?, seen = ?, status = ?, push_name = ?, fingerprint = ?, kind = ?,"
        " lid_chat = ?, lid_sender = ?, content = ?, amended = NULL WHERE number = ?",
        (
            message.sender, message.at_ms, message.seen, message.status, message.push_name, message.fingerprint,
            message.content.kind, message.lid_chat, message.lid_sender, pack(message.content), number,
        ),
    )  # fmt: skip
    note_hidden_names(db, number, message)
    apply_amendments(db, message.account, message.wa_id)
    update_last_message(db, message.thread)
    if not message.from_me:
        recount_unread(db, message.thread)
