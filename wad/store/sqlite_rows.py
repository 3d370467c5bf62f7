"""What a change does to the rows of wad.db: every function runs inside a transaction of the caller.

Which document a received fact means is decided here, in one place (`_known`, `_ours`):

- Its document id, if that is stored.
- Else a document with the same account, WhatsApp id and direction in the same thread.  A thread may be spelled by
  number or by hidden id: two spellings that an alias joins are one thread.  So a message that is read again, after the
  other address of its chat or sender became known, is not stored twice.
- A message of our outbox is known by account and WhatsApp id alone, as is the message that a receipt means: its echo
  and its receipts may spell the chat either way, and ids of messages that we send are random.  Marks therefore lie
  under (account, WhatsApp id), without the thread.

An echo that comes before `settle` told us the WhatsApp id is stored like any message; `settle` then takes it away
again, since the outbox's own document shows the same message.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from wad.core.errors import Conflict
from wad.core.event import Content, Mark, MessageKind
from wad.core.jid import Jid, JidKind, ThreadId
from wad.core.message import (
    Message,
    MessageStatus,
    PutAlias,
    PutMark,
    Thread,
    further,
    preview,
    status_of,
)
from wad.core.outbox import (
    Entry,
    Marked,
    OwnChange,
    Sent,
    advance,
    change_of,
    message_of,
)

MESSAGE_COLUMNS: Final = (
    "id, account, thread, chat, sender, from_me, at_ms, seen, wa_id, status, push_name, client_id, "
    "stable_key, fingerprint, content"
)
THREAD_COLUMNS: Final = (
    "id, account, chat, name, last_ms, last_text, last_from_me, unread, messages"
)

_INSERT_MESSAGE: Final = f"INSERT INTO messages ({MESSAGE_COLUMNS}) VALUES ({','.join('?' * 15)})"
_LATER: Final = (
    "(excluded.last_ms, excluded.last_seen, excluded.last_id)"
    " > (threads.last_ms, threads.last_seen, threads.last_id)"
)
_PUT_THREAD: Final = f"""
INSERT INTO threads
    (id, account, chat, name, name_ms, last_ms, last_seen, last_id, last_text, last_from_me, unread, messages)
VALUES (?,?,?,?,?,?,?,?,?,?,?,1)
ON CONFLICT (id) DO UPDATE SET
    name = CASE WHEN (excluded.name_ms, excluded.name) > (threads.name_ms, threads.name)
           THEN excluded.name ELSE threads.name END,
    name_ms = max(excluded.name_ms, threads.name_ms),
    last_text = CASE WHEN {_LATER} THEN excluded.last_text ELSE threads.last_text END,
    last_from_me = CASE WHEN {_LATER} THEN excluded.last_from_me ELSE threads.last_from_me END,
    last_id = CASE WHEN {_LATER} THEN excluded.last_id ELSE threads.last_id END,
    last_seen = CASE WHEN {_LATER} THEN excluded.last_seen ELSE threads.last_seen END,
    last_ms = max(excluded.last_ms, threads.last_ms),
    unread = threads.unread + excluded.unread,
    messages = threads.messages + 1
"""
_NAME_THREAD: Final = """
UPDATE threads SET name = ?1, name_ms = ?2 WHERE id = ?3 AND (?2, ?1) > (name_ms, name)
"""
pack: Final = msgspec.msgpack.Encoder().encode
_content: Final = msgspec.msgpack.Decoder(Content).decode
unpack_entry: Final = msgspec.msgpack.Decoder(Entry).decode

# --- messages -------------------------------------------------------------------------------------


def put_message(db: sqlite3.Connection, message: Message) -> Message | None:
    """Store a message that is new, and show it in its thread; None when it is known.

    A known placeholder for what could not be read (`undecryptable`) gives way to the message itself, which counts as
    new for whoever listens but not as another message of its thread.
    """
    known = _known(db, message)
    if known is not None:
        if message.from_me and (entry := load_entry(db, known)) is not None:
            if entry.wa_id == message.wa_id:
                _take_echo(db, entry, message.at_ms)
            return None
        return message if _replace_placeholder(db, known, message) else None
    db.execute(_INSERT_MESSAGE, _message_row(message))
    _show_in_thread(db, message)
    if message.from_me and message.wa_id:
        _apply_marks(db, message.account, message.wa_id)
    return message


def _known(db: sqlite3.Connection, message: Message) -> str | None:
    """The id of the document that shows this message already."""
    if db.execute("SELECT 1 FROM messages WHERE id = ?", (message.id,)).fetchone():
        return message.id
    if not message.wa_id:
        return None
    rows = db.execute(
        "SELECT id, thread, client_id FROM messages WHERE account = ? AND wa_id = ? AND wa_id != '' AND from_me = ?",
        (message.account, message.wa_id, message.from_me),
    ).fetchall()
    for ident, thread, client_id in rows:
        if client_id or thread == message.thread or _same_thread(db, thread, message.thread):
            return str(ident)
    return None


def _same_thread(db: sqlite3.Connection, one: str, other: str) -> bool:
    return _by_number(db, ThreadId.parse(one)) == _by_number(db, ThreadId.parse(other))


def _by_number(db: sqlite3.Connection, thread: ThreadId) -> ThreadId:
    if thread.jid.kind is not JidKind.LID:
        return thread
    row = db.execute(
        "SELECT pn FROM aliases WHERE account = ? AND lid = ?", (thread.account, str(thread.jid))
    ).fetchone()
    return ThreadId(thread.account, Jid.parse(row[0])) if row else thread


def _replace_placeholder(db: sqlite3.Connection, known: str, message: Message) -> bool:
    row = db.execute(
        "SELECT thread, status, content FROM messages WHERE id = ?", (known,)
    ).fetchone()
    thread, status, content = row
    if message.content.kind is MessageKind.UNDECRYPTABLE:
        return False
    if _content(content).kind is not MessageKind.UNDECRYPTABLE:
        return False
    db.execute(
        "UPDATE messages SET sender = ?, at_ms = ?, status = ?, push_name = ?, fingerprint = ?, content = ?"
        " WHERE id = ?",
        (
            message.sender, message.at_ms, further(MessageStatus(status), message.status), message.push_name,
            message.fingerprint, pack(message.content), known,
        ),
    )  # fmt: skip
    if name := _thread_name(message):
        db.execute(_NAME_THREAD, (name, message.at_ms, thread))
    _refresh_thread(db, thread)
    return True


def _message_row(message: Message) -> tuple[Any, ...]:
    return (
        message.id, message.account, message.thread, message.chat, message.sender, message.from_me, message.at_ms,
        message.seen, message.wa_id, message.status, message.push_name, message.client_id, message.stable_key,
        message.fingerprint, pack(message.content),
    )  # fmt: skip


def message_from(row: tuple[Any, ...]) -> Message:
    """The message in a row of MESSAGE_COLUMNS."""
    (
        ident, account, thread, chat, sender, from_me, at_ms, seen,
        wa_id, status, push_name, client_id, stable_key, fingerprint, content,
    ) = row  # fmt: skip
    return Message(
        id=ident, account=account, thread=thread, chat=chat, sender=sender, from_me=bool(from_me), at_ms=at_ms,
        seen=seen, content=_content(content), status=MessageStatus(status), wa_id=wa_id, push_name=push_name,
        client_id=client_id, stable_key=stable_key, fingerprint=fingerprint,
    )  # fmt: skip


# --- threads --------------------------------------------------------------------------------------


def _show_in_thread(db: sqlite3.Connection, message: Message) -> None:
    name = _thread_name(message)
    db.execute(
        _PUT_THREAD,
        (
            message.thread, message.account, message.chat, name, message.at_ms if name else 0, message.at_ms,
            message.seen, message.id, preview(message.content), message.from_me, not message.from_me,
        ),
    )  # fmt: skip


def _thread_name(message: Message) -> str:
    if message.from_me or not message.push_name or not Jid.parse(message.chat).is_person:
        return ""
    return message.push_name


def _refresh_thread(db: sqlite3.Connection, thread: str) -> None:
    """Find the thread's newest message again, after one changed its time or went."""
    row = db.execute(
        "SELECT at_ms, seen, id, from_me, content FROM messages WHERE thread = ?"
        " ORDER BY at_ms DESC, seen DESC, id DESC LIMIT 1",
        (thread,),
    ).fetchone()
    if row is None:
        db.execute("DELETE FROM threads WHERE id = ?", (thread,))
        return
    at_ms, seen, ident, from_me, content = row
    db.execute(
        "UPDATE threads SET last_ms = ?, last_seen = ?, last_id = ?, last_from_me = ?, last_text = ? WHERE id = ?",
        (at_ms, seen, ident, from_me, preview(_content(content)), thread),
    )


def thread_from(row: tuple[Any, ...]) -> Thread:
    """The thread in a row of THREAD_COLUMNS."""
    ident, account, chat, name, last_ms, last_text, last_from_me, unread, messages = row
    return Thread(
        id=ident, account=account, chat=chat, name=name, last_ms=last_ms, last_text=last_text,
        last_from_me=bool(last_from_me), unread=unread, messages=messages,
    )  # fmt: skip


# --- receipts and aliases -------------------------------------------------------------------------


def put_mark(db: sqlite3.Connection, account: str, change: PutMark) -> None:
    """Keep what a receipt said, and let it count if its message is there; the earliest time of each mark stays."""
    db.execute(
        "INSERT INTO marks (account, wa_id, party, mark, at_ms) VALUES (?,?,?,?,?)"
        " ON CONFLICT DO UPDATE SET at_ms = min(at_ms, excluded.at_ms)",
        (account, change.wa_id, change.by, change.mark, change.at_ms),
    )
    _apply_marks(db, account, change.wa_id)


def put_alias(db: sqlite3.Connection, account: str, change: PutAlias) -> None:
    """A hidden id and a number are one person; the latest word counts."""
    db.execute("INSERT OR REPLACE INTO aliases VALUES (?,?,?)", (account, change.lid, change.pn))


def _apply_marks(db: sqlite3.Connection, account: str, wa_id: str) -> None:
    """Let what receipts said count for the message and its entry, whichever came first."""
    words = db.execute(
        "SELECT DISTINCT mark FROM marks WHERE account = ? AND wa_id = ?", (account, wa_id)
    )
    marks = [Mark(word) for (word,) in words]
    if not marks:
        return
    for ident, status in list(_ours(db, account, wa_id)):
        if (entry := load_entry(db, ident)) is not None:
            for mark in marks:
                entry = _believe(entry, Marked(mark))
            write_entry(db, entry)
            continue
        after = MessageStatus(status)
        for mark in marks:
            after = further(after, status_of(mark))
        db.execute("UPDATE messages SET status = ? WHERE id = ?", (after, ident))


def _ours(db: sqlite3.Connection, account: str, wa_id: str) -> Iterator[tuple[str, str]]:
    """Id and status of what we sent under a WhatsApp id, be it a message or an amendment of one."""
    yield from db.execute(
        "SELECT id, status FROM messages WHERE account = ?1 AND wa_id = ?2 AND wa_id != '' AND from_me"
        " UNION SELECT id, state FROM outbox WHERE account = ?1 AND wa_id = ?2 AND wa_id != ''",
        (account, wa_id),
    )


# --- the outbox -----------------------------------------------------------------------------------


def load_entry(db: sqlite3.Connection, ident: str) -> Entry | None:
    """One entry."""
    row = db.execute("SELECT entry FROM outbox WHERE id = ?", (ident,)).fetchone()
    return unpack_entry(row[0]) if row else None


def insert_entry(db: sqlite3.Connection, entry: Entry) -> None:
    """A new entry, at the end of the queue, and its message, if it is one."""
    db.execute(
        "INSERT INTO outbox (id, account, state, created_ms, wa_id, entry) VALUES (?,?,?,?,?,?)",
        (entry.id, entry.account, entry.state, entry.created_ms, entry.wa_id, pack(entry)),
    )
    if not entry.amends:
        put_message(db, message_of(entry))


def settle_entry(db: sqlite3.Connection, entry: Entry) -> Entry:
    """Write an entry that has moved on, with what is known already of the WhatsApp id that it may have got by that."""
    write_entry(db, entry)
    if not entry.wa_id:
        return entry
    _absorb_echo(db, entry)
    _apply_marks(db, entry.account, entry.wa_id)
    return load_entry(db, entry.id) or entry


def _absorb_echo(db: sqlite3.Connection, entry: Entry) -> None:
    """Take away the document that an echo made before the entry had its WhatsApp id: one message, one document."""
    rows = db.execute(
        "SELECT id, thread, at_ms FROM messages"
        " WHERE account = ? AND wa_id = ? AND wa_id != '' AND from_me AND id != ?",
        (entry.account, entry.wa_id, entry.id),
    ).fetchall()
    for ident, thread, _ in rows:
        db.execute("DELETE FROM messages WHERE id = ?", (ident,))
        db.execute("UPDATE threads SET messages = messages - 1 WHERE id = ?", (thread,))
        _refresh_thread(db, thread)
    if rows:
        _take_echo(db, entry, min(at_ms for _, _, at_ms in rows))


def _take_echo(db: sqlite3.Connection, entry: Entry, at_ms: int) -> None:
    """An echo is evidence that the message was sent."""
    after = _believe(entry, Sent(entry.wa_id, at_ms))
    if after != entry:
        settle_entry(db, after)


def _believe(entry: Entry, evidence: Sent | Marked) -> Entry:
    """The entry after evidence; unchanged where it says nothing new."""
    try:
        return advance(entry, evidence)
    except Conflict:
        return entry


def write_entry(db: sqlite3.Connection, entry: Entry) -> None:
    """Write an entry, and its message's status, WhatsApp id and time, or what it did to another message."""
    db.execute(
        "UPDATE outbox SET state = ?, wa_id = ?, entry = ? WHERE id = ?",
        (entry.state, entry.wa_id, pack(entry), entry.id),
    )
    if entry.amends:
        if change := change_of(entry):
            apply_own_change(db, entry.account, change)
        return
    message = message_of(entry)
    before = db.execute("SELECT at_ms FROM messages WHERE id = ?", (entry.id,)).fetchone()
    db.execute(
        "UPDATE messages SET status = ?, wa_id = ?, at_ms = ? WHERE id = ?",
        (message.status, message.wa_id, message.at_ms, message.id),
    )
    if before != (message.at_ms,):
        _refresh_thread(db, message.thread)


def apply_own_change(db: sqlite3.Connection, account: str, change: OwnChange) -> None:
    """Let an edit or a revoke of ours show in its message; may be repeated.  Reactions are not shown yet."""
    row = db.execute(
        "SELECT id, content FROM messages WHERE account = ? AND thread = ? AND wa_id = ? AND from_me",
        (account, change.thread, change.target),
    ).fetchone()
    if row is None:
        return
    ident, before = row[0], _content(row[1])
    match change.content.kind:
        case MessageKind.EDIT if before.kind is not MessageKind.REVOKE:
            after = msgspec.structs.replace(before, text=change.content.text)
        case MessageKind.REVOKE:
            after = Content(MessageKind.REVOKE)
        case _:
            return
    db.execute("UPDATE messages SET content = ? WHERE id = ?", (pack(after), ident))
    _refresh_thread(db, change.thread)
