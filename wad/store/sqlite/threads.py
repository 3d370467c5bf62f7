"""The rows of threads: facts about a chat, and the summary that is derived from its messages.

Facts are maxima (the newest name, the last read position), so that order and repetition do not matter.  The summary is
the newest message, the number of messages, and the number of unread ones.  Unread are the inbound messages after the
last read position (at_ms, seen): all that are `newer` than the time of the phone's own unread count, and at most that
count of the `older` ones.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from wad.core.change import PutChat
from wad.core.jid import Jid
from wad.core.message import Message, preview
from wad.store.sqlite.addresses import content_with_numbers
from wad.store.sqlite.rows import SHOWN, THREAD_COLUMNS, present_content

_NEWER: Final = (
    "(excluded.last_ms, excluded.last_seen, excluded.last_id)"
    " > (threads.last_ms, threads.last_seen, threads.last_id)"
)
_UNREAD: Final = (
    "NOT excluded.last_from_me"
    " AND (excluded.last_ms, excluded.last_seen) > (threads.read_ms, threads.read_seen)"
)
_PUSH: Final = """
    push_name = CASE WHEN (excluded.push_ms, excluded.push_name) > (threads.push_ms, threads.push_name)
                THEN excluded.push_name ELSE threads.push_name END,
    push_ms = max(excluded.push_ms, threads.push_ms)
"""
_ADD: Final = f"""
INSERT INTO threads
    (id, account, chat, push_name, push_ms, last_ms, last_seen, last_id, last_text, last_from_me, newer, messages)
VALUES (?,?,?,?,?,?,?,?,?,?,?,1)
ON CONFLICT (id) DO UPDATE SET {_PUSH},
    last_text = CASE WHEN {_NEWER} THEN excluded.last_text ELSE threads.last_text END,
    last_from_me = CASE WHEN {_NEWER} THEN excluded.last_from_me ELSE threads.last_from_me END,
    last_id = CASE WHEN {_NEWER} THEN excluded.last_id ELSE threads.last_id END,
    last_seen = CASE WHEN {_NEWER} THEN excluded.last_seen ELSE threads.last_seen END,
    last_ms = max(excluded.last_ms, threads.last_ms),
    newer = threads.newer + ({_UNREAD} AND excluded.last_ms > threads.told_ms),
    older = threads.older + ({_UNREAD} AND excluded.last_ms <= threads.told_ms),
    messages = threads.messages + 1
"""
_FACTS: Final = f"""
INSERT INTO threads
    (id, account, chat, saved_name, saved_ms, push_name, push_ms, read_ms, read_seen,
    told_unread, told_ms, expires_s, expires_ms)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT (id) DO UPDATE SET {_PUSH},
    saved_name = CASE WHEN (excluded.saved_ms, excluded.saved_name) > (threads.saved_ms, threads.saved_name)
                 THEN excluded.saved_name ELSE threads.saved_name END,
    saved_ms = max(excluded.saved_ms, threads.saved_ms),
    read_seen = CASE WHEN (excluded.read_ms, excluded.read_seen) > (threads.read_ms, threads.read_seen)
                THEN excluded.read_seen ELSE threads.read_seen END,
    read_ms = max(excluded.read_ms, threads.read_ms),
    told_unread = CASE WHEN (excluded.told_ms, -excluded.told_unread) > (threads.told_ms, -threads.told_unread)
                  THEN excluded.told_unread ELSE threads.told_unread END,
    told_ms = max(excluded.told_ms, threads.told_ms),
    expires_s = CASE WHEN (excluded.expires_ms, excluded.expires_s) > (threads.expires_ms, threads.expires_s)
                THEN excluded.expires_s ELSE threads.expires_s END,
    expires_ms = max(excluded.expires_ms, threads.expires_ms)
"""
_FACT_COLUMNS: Final = (
    "saved_name, saved_ms, push_name, push_ms, read_ms, read_seen, told_unread, told_ms, "
    "expires_s, expires_ms"
)
_LAST_SEEN: Final = 1 << 62  # greater than any `seen`: all messages of that time are read


def add_to_thread(db: sqlite3.Connection, message: Message) -> None:
    """Add a new message to the summary of its thread, which is created if it does not exist."""
    name, unread = _push_name(message), not message.from_me and message.at_ms > 0
    db.execute(
        _ADD,
        (
            message.thread, message.account, message.chat, name, message.at_ms if name else 0, message.at_ms,
            message.seen, message.id, _preview(db, message), message.from_me, unread,
        ),
    )  # fmt: skip


def _preview(db: sqlite3.Connection, message: Message) -> str:
    return preview(content_with_numbers(db, message.account, message.content))


def record_facts(db: sqlite3.Connection, message: Message) -> None:
    """Record the facts about a chat that follow from a received message: the other party's name, and the read position.

    A message that was written on the phone marks everything before it as read; a message of the outbox does not.
    """
    name = _push_name(message)
    reads = message.from_me and not message.client_id
    if name or reads:
        _put_facts(
            db, message.thread, message.account, message.chat,
            "", 0, name, message.at_ms if name else 0,
            message.at_ms if reads else 0, message.seen if reads else 0, 0, 0, 0, 0,
        )  # fmt: skip
    if reads:
        recount_unread(db, message.thread)


def _push_name(message: Message) -> str:
    if message.from_me or not message.push_name or not Jid.parse(message.chat).is_person:
        return ""
    return message.push_name


def put_chat(db: sqlite3.Connection, account: str, thread: str, change: PutChat) -> None:
    """Record facts about a chat; the newest of each applies.  They alone do not make a thread visible."""
    name_ms = change.name_ms
    _put_facts(
        db, thread, account, thread.removeprefix(f"{account}__"),
        change.name, name_ms if change.name else 0, change.push_name, name_ms if change.push_name else 0,
        change.read_ms, _LAST_SEEN if change.read_ms else 0, change.unread, change.unread_ms,
        change.expires_s, change.expires_ms,
    )  # fmt: skip
    if change.read_ms or change.unread_ms:
        recount_unread(db, thread)


def _put_facts(
    db: sqlite3.Connection, thread: str, account: str, chat: str, *facts: str | int
) -> None:
    db.execute(_FACTS, (thread, account, chat, *facts))


def mark_read(db: sqlite3.Connection, thread: str) -> None:
    """Mark all stored messages of the thread as read."""
    db.execute(
        "UPDATE threads SET newer = 0, older = 0, (read_ms, read_seen) = (SELECT max(last_ms, read_ms),"
        " CASE WHEN (last_ms, last_seen) > (read_ms, read_seen) THEN last_seen ELSE read_seen END)"
        " WHERE id = ?",
        (thread,),
    )


def recount_unread(db: sqlite3.Connection, thread: str) -> None:
    """Count the inbound messages after the last read position."""
    db.execute(
        "UPDATE threads SET (newer, older) ="
        " (SELECT coalesce(sum(m.at_ms > threads.told_ms), 0), coalesce(sum(m.at_ms <= threads.told_ms), 0)"
        f" FROM messages AS m WHERE m.thread = threads.id AND NOT m.from_me AND m.{SHOWN}"
        " AND (m.at_ms, m.seen) > (threads.read_ms, threads.read_seen)) WHERE id = ?",
        (thread,),
    )


def update_last_message(db: sqlite3.Connection, thread: str) -> None:
    """Find the thread's newest message again, after a message was changed or deleted."""
    row = db.execute(
        f"SELECT at_ms, seen, id, from_me, account, content, amended FROM messages WHERE thread = ? AND {SHOWN}"
        " ORDER BY at_ms DESC, seen DESC, id DESC LIMIT 1",
        (thread,),
    ).fetchone()
    at_ms, seen, ident, from_me, text = 0, 0, "", False, ""
    if row is not None:
        at_ms, seen, ident, from_me, account, content, amended = row
        text = preview(content_with_numbers(db, account, present_content(content, amended)))
    db.execute(
        "UPDATE threads SET last_ms = ?, last_seen = ?, last_id = ?, last_from_me = ?, last_text = ? WHERE id = ?",
        (at_ms, seen, ident, from_me, text, thread),
    )


def delete_message(db: sqlite3.Connection, number: int, thread: str) -> None:
    """Delete the document in this row, and update the summary of its thread."""
    db.execute(
        "UPDATE threads SET messages = messages - 1 WHERE id = ?1"
        f" AND EXISTS (SELECT 1 FROM messages WHERE number = ?2 AND {SHOWN})",
        (thread, number),
    )
    db.execute("DELETE FROM messages WHERE number = ?", (number,))
    update_last_message(db, thread)
    recount_unread(db, thread)


def recount(db: sqlite3.Connection, thread: str) -> None:
    """Derive the whole summary again, after messages were moved."""
    db.execute(
        f"UPDATE threads SET messages = (SELECT count(*) FROM messages WHERE thread = ?1 AND {SHOWN}) WHERE id = ?1",
        (thread,),
    )
    update_last_message(db, thread)
    recount_unread(db, thread)


def recount_if_wrong(db: sqlite3.Connection, thread: str) -> bool:
    """Derive the summary again; write the row only if it was wrong, since triggers log each write.  Return whether."""
    shown = f"SELECT {THREAD_COLUMNS}, last_seen, last_id FROM threads WHERE id = ?"
    db.execute("SAVEPOINT summary")
    before = db.execute(shown, (thread,)).fetchone()
    recount(db, thread)
    wrong = bool(db.execute(shown, (thread,)).fetchone() != before)
    if not wrong:
        db.execute("ROLLBACK TO summary")
    db.execute("RELEASE summary")
    return wrong


def move_facts(db: sqlite3.Connection, old: str, account: str, new: str) -> None:
    """Move the facts about a chat from its old thread id to the new one; the old row is deleted."""
    row = db.execute(f"SELECT {_FACT_COLUMNS} FROM threads WHERE id = ?", (old,)).fetchone()
    if row is not None:
        _put_facts(db, new, account, new.removeprefix(f"{account}__"), *row)
        db.execute("DELETE FROM threads WHERE id = ?", (old,))
