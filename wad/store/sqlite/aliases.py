"""One person, two addresses: what happens when a hidden id turns out to be a number.

Everything that lies under the hidden id comes under the number: the thread's messages and what was told of the chat,
the sender of messages in groups, edits and reactions.  Documents keep their ids.  A message that is there under both
addresses becomes one.  After that the alias itself redirects whoever asks for the old thread (`thread_of`).
"""

from __future__ import annotations

import sqlite3

from wad.core.change import PutAlias
from wad.core.jid import Jid, ThreadId
from wad.core.message import merged
from wad.store.sqlite.amendments import amended_targets, apply_amendments, move_amendments
from wad.store.sqlite.keys import rows_of
from wad.store.sqlite.messages import rewrite
from wad.store.sqlite.queue import join_chats
from wad.store.sqlite.rows import told_message
from wad.store.sqlite.threads import move_facts, recount, remove_from_thread

_Row = tuple[int, str, bool, str]
"""A row's number, its WhatsApp id and direction, and a thread."""


def put_alias(db: sqlite3.Connection, account: str, change: PutAlias) -> None:
    """A hidden id and a number are one person; the latest word counts."""
    lid, pn = change.lid, change.pn
    known = db.execute(
        "SELECT pn FROM aliases WHERE account = ? AND lid = ?", (account, lid)
    ).fetchone()
    if known == (pn,):
        return
    db.execute("INSERT OR REPLACE INTO aliases VALUES (?,?,?)", (account, lid, pn))
    join_addresses(db, account, lid, pn)


def join_addresses(db: sqlite3.Connection, account: str, lid: str, pn: str) -> None:
    """Bring everything that lies under a hidden id under its number."""
    old = str(ThreadId.make(account, Jid.parse(lid)))
    new = str(ThreadId.make(account, Jid.parse(pn)))
    targets = amended_targets(db, account, lid, old)
    _join_threads(db, account, old, new, pn)
    join_chats(db, account, old, new)
    _join_senders(db, account, lid, pn)
    move_amendments(db, account, lid, pn, (old, new))
    for target in sorted(targets):
        apply_amendments(db, account, target)


def _join_threads(db: sqlite3.Connection, account: str, old: str, new: str, pn: str) -> None:
    if db.execute("SELECT 1 FROM threads WHERE id = ?", (old,)).fetchone() is None:
        return
    rows = db.execute(
        "SELECT number, wa_id, from_me, ? FROM messages WHERE thread = ?", (new, old)
    ).fetchall()
    for one, other in _twins(db, account, rows, None):
        _make_one(db, one, other)
    db.execute("UPDATE messages SET thread = ?, chat = ? WHERE thread = ?", (new, pn, old))
    move_facts(db, old, account, new)
    recount(db, new)


def _join_senders(db: sqlite3.Connection, account: str, lid: str, pn: str) -> None:
    rows = db.execute(
        "SELECT number, wa_id, from_me, thread FROM messages"
        " WHERE account = ? AND sender = ? AND sender LIKE '%lid'",
        (account, lid),
    ).fetchall()
    for one, other in _twins(db, account, rows, pn):
        _make_one(db, one, other)
    db.execute(
        "UPDATE messages SET sender = ? WHERE account = ? AND sender = ? AND sender LIKE '%lid'",
        (pn, account, lid),
    )


def _twins(
    db: sqlite3.Connection, account: str, rows: list[_Row], sender: str | None
) -> list[tuple[int, int]]:
    """Each row with the one that says the same: in the thread that is given and, unless None, by this sender."""
    query = (
        "SELECT 1 FROM messages WHERE number = ?1 AND from_me = ?2 AND thread = ?3"
        " AND (?4 IS NULL OR sender = ?4)"
    )
    return [
        (number, other)
        for number, wa_id, from_me, thread in rows
        for other in rows_of(db, account, wa_id)
        if db.execute(query, (other, from_me, thread, sender)).fetchone()
    ]


def _make_one(db: sqlite3.Connection, one: int, other: int) -> None:
    """Two documents are one message: the outbox's own stays, else the one by number (`other`)."""
    first, second = told_message(db, one), told_message(db, other)
    if first.client_id:
        remove_from_thread(db, other, second.thread)
        return
    remove_from_thread(db, one, first.thread)
    if not second.client_id:
        rewrite(db, other, merged(second, first))
