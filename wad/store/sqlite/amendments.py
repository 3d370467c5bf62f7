"""Edits, revokes, reactions and votes: kept as told, and applied whenever target and amendment are both there.

Those that a later one replaces are kept as well: a placeholder with their WhatsApp id is no message.

They are found by account and the target's WhatsApp id; they mean the documents of their own thread, and the document
of our outbox with that id, which may be spelled the other way.  What they make of a message is `core.amend`.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Final

from wad.core.amendments import amended
from wad.core.change import PutAmendment
from wad.core.content import PLACEHOLDERS
from wad.core.message import Message
from wad.store.sqlite.rows import (
    HAS_WA_ID,
    pack,
    packed_amended,
    party,
    rows_with,
    thread_of,
    unpack_content,
)
from wad.store.sqlite.threads import refresh_last, remove_from_thread

_INSERT: Final = (
    "INSERT OR IGNORE INTO amendments"
    " (account, target, thread, kind, wa_id, party, from_me, at_ms, content, digest)"
    " VALUES (?,?,?,?,?,?,?,?,?,?)"
)
_KEPT: Final = 100
"""Edits, reactions, votes or revokes of one message by one person that are kept, the newest."""
_DROP: Final = (
    "DELETE FROM amendments WHERE number IN (SELECT number FROM amendments"
    " WHERE account = ? AND target = ? AND kind = ? AND party = ? AND from_me = ?"
    " ORDER BY at_ms DESC, wa_id DESC, digest DESC LIMIT -1 OFFSET ?)"
)
_KINDS: Final = ",".join("?" * len(PLACEHOLDERS))


def put_amendment(db: sqlite3.Connection, account: str, change: PutAmendment) -> list[Message]:
    """Keep an amendment; the messages that it changed."""
    thread, by = thread_of(db, change.thread), party(db, account, change.by)
    content = pack(change.content)
    digest = hashlib.sha256(content).hexdigest()[:16]
    kind = change.content.kind
    told = (account, change.target, thread, kind, change.wa_id, by, change.from_me, change.at_ms)
    if not db.execute(_INSERT, (*told, content, digest)).rowcount:
        return []
    _drop_oldest(db, account, change.target, kind, by, change.from_me)
    _remove_placeholder(db, account, thread, change)
    return apply_amendments(db, account, change.target)


def _drop_oldest(
    db: sqlite3.Connection, account: str, target: str, kind: str, by: str, from_me: bool
) -> None:
    """Of what one person did with one message the newest count; who goes on without end must not fill the store."""
    db.execute(_DROP, (account, target, kind, by, from_me, _KEPT))


def _remove_placeholder(
    db: sqlite3.Connection, account: str, thread: str, change: PutAmendment
) -> None:
    """What could not be read at first was this amendment, and no message."""
    query = f"SELECT number FROM messages WHERE {HAS_WA_ID} AND thread = ? AND from_me = ? AND kind IN ({_KINDS})"
    values = (account, change.wa_id, thread, change.from_me, *PLACEHOLDERS)
    for (number,) in db.execute(query, values).fetchall():
        remove_from_thread(db, number, thread)


def _remove_placeholders(db: sqlite3.Connection, thread: str) -> None:
    """The same for a whole thread, after two became one."""
    rows = db.execute(
        "SELECT DISTINCT m.number FROM messages AS m JOIN amendments AS a ON a.account = m.account"
        " AND a.wa_id = m.wa_id AND a.wa_id != '' AND a.thread = m.thread AND a.from_me = m.from_me"
        f" WHERE m.thread = ? AND m.kind IN ({_KINDS})",
        (thread, *PLACEHOLDERS),
    ).fetchall()
    for (number,) in rows:
        remove_from_thread(db, number, thread)


def is_amendment(db: sqlite3.Connection, message: Message) -> bool:
    """Whether the message of a placeholder is known as an amendment."""
    query = "SELECT 1 FROM amendments WHERE account = ? AND wa_id = ? AND wa_id != '' AND thread = ? AND from_me = ?"
    values = (message.account, message.wa_id, message.thread, message.from_me)
    return db.execute(query, values).fetchone() is not None


def apply_amendments(db: sqlite3.Connection, account: str, target: str) -> list[Message]:
    """Derive what amendments make of the messages with this WhatsApp id; those that are other than before."""
    if not target:
        return []
    rows = db.execute(
        "SELECT thread, wa_id, party, from_me, at_ms, content FROM amendments WHERE account = ? AND target = ?",
        (account, target),
    ).fetchall()
    if not rows:
        return []
    found = [
        PutAmendment(thread, target, wa_id, by, bool(from_me), at_ms, unpack_content(content))
        for thread, wa_id, by, from_me, at_ms, content in rows
    ]
    changed = []
    for row in rows_with(db, account, target):
        first, before = row.first, row.shown
        after = amended(first, [a for a in found if first.client_id or a.thread == first.thread])
        if after != before:
            _write(db, row.number, after, words=after.content != before.content)
            changed.append(after)
    return changed


def _write(db: sqlite3.Connection, number: int, message: Message, *, words: bool) -> None:
    db.execute(
        "UPDATE messages SET amended = ? WHERE number = ?", (packed_amended(message), number)
    )
    if words:
        refresh_last(db, message.thread)


def amended_targets(db: sqlite3.Connection, account: str, lid: str, thread: str) -> set[str]:
    """The targets whose amendments may count otherwise once a hidden id has its number, and two threads are one."""
    query = """
        SELECT target FROM amendments WHERE account = ?1 AND party = ?2 AND party LIKE '%lid'
        UNION SELECT target FROM amendments WHERE thread = ?3 AND thread LIKE '%lid'
        UNION SELECT a.target FROM messages AS m JOIN amendments AS a ON a.account = m.account AND a.target = m.wa_id
            WHERE m.thread = ?3
        UNION SELECT a.target FROM messages AS m JOIN amendments AS a ON a.account = m.account AND a.target = m.wa_id
            WHERE m.account = ?1 AND m.sender = ?2 AND m.sender LIKE '%lid'
    """
    return {target for (target,) in db.execute(query, (account, lid, thread))}


def move_amendments(
    db: sqlite3.Connection, account: str, lid: str, pn: str, threads: tuple[str, str]
) -> None:
    """Amendments by a hidden id, and in its thread, are the number's; the messages have moved before."""
    old, new = threads
    # The same amendment may be stored under both addresses already.
    db.execute(
        "UPDATE OR REPLACE amendments SET party = ? WHERE account = ? AND party = ? AND party LIKE '%lid'",
        (pn, account, lid),
    )
    db.execute(
        "UPDATE OR REPLACE amendments SET thread = ? WHERE thread = ? AND thread LIKE '%lid'",
        (new, old),
    )
    _remove_placeholders(db, new)
