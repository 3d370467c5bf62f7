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
from wad.store.sqlite_amendments import amended_targets, apply_amendments, move_amendments
from wad.store.sqlite_messages import rewrite
from wad.store.sqlite_rows import told_message
from wad.store.sqlite_threads import move_facts, recount, remove_from_thread


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
    _join_senders(db, account, lid, pn)
    move_amendments(db, account, lid, pn, (old, new))
    for target in sorted(targets):
        apply_amendments(db, account, target)


def _join_threads(db: sqlite3.Connection, account: str, old: str, new: str, pn: str) -> None:
    if db.execute("SELECT 1 FROM threads WHERE id = ?", (old,)).fetchone() is None:
        return
    twins = db.execute(
        "SELECT a.id, b.id FROM messages AS a JOIN messages AS b"
        " ON b.account = a.account AND b.wa_id = a.wa_id AND b.from_me = a.from_me"
        " WHERE a.thread = ? AND a.wa_id != '' AND b.wa_id != '' AND b.thread = ?",
        (old, new),
    ).fetchall()
    for one, other in twins:
        _make_one(db, one, other)
    db.execute("UPDATE messages SET thread = ?, chat = ? WHERE thread = ?", (new, pn, old))
    move_facts(db, old, account, new)
    recount(db, new)


def _join_senders(db: sqlite3.Connection, account: str, lid: str, pn: str) -> None:
    twins = db.execute(
        "SELECT a.id, b.id FROM messages AS a JOIN messages AS b"
        " ON b.account = a.account AND b.wa_id = a.wa_id AND b.from_me = a.from_me AND b.thread = a.thread"
        " WHERE a.account = ? AND a.sender = ? AND a.sender LIKE '%lid' AND a.wa_id != '' AND b.wa_id != ''"
        " AND b.sender = ?",
        (account, lid, pn),
    ).fetchall()
    for one, other in twins:
        _make_one(db, one, other)
    db.execute(
        "UPDATE messages SET sender = ? WHERE account = ? AND sender = ? AND sender LIKE '%lid'",
        (pn, account, lid),
    )


def _make_one(db: sqlite3.Connection, one: str, other: str) -> None:
    """Two documents are one message: the outbox's own stays, else the one by number (`other`)."""
    first, second = told_message(db, one), told_message(db, other)
    goes, stays = (second, first) if first.client_id else (first, second)
    remove_from_thread(db, goes.id, goes.thread)
    if not stays.client_id:
        rewrite(db, merged(stays, goes))
