"""One person, two addresses: what happens when a hidden id turns out to be a number.

Everything that lies under the hidden id comes under the number: the thread's messages and what was told of the chat,
the sender of messages in groups, edits and reactions.  Documents keep their ids.  A message that is there under both
addresses becomes one.  After that the alias itself redirects whoever asks for the old thread (`thread_of`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from wad.core.change import PutAlias
from wad.core.jid import Jid, ThreadId
from wad.core.message import merged
from wad.store.sqlite.amendments import amended_targets, apply_amendments, move_amendments
from wad.store.sqlite.messages import rewrite
from wad.store.sqlite.queue import join_chats
from wad.store.sqlite.rows import row_at
from wad.store.sqlite.threads import move_facts, recount, remove_from_thread


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
    merge_twins(db, "m.thread = ?1", "o.thread = ?2", (old, new))
    db.execute("UPDATE messages SET thread = ?, chat = ? WHERE thread = ?", (new, pn, old))
    move_facts(db, old, account, new)
    recount(db, new)


def _join_senders(db: sqlite3.Connection, account: str, lid: str, pn: str) -> None:
    merge_twins(
        db,
        "m.account = ?1 AND m.sender = ?2 AND m.sender LIKE '%lid'",
        "o.thread = m.thread AND o.sender = ?3",
        (account, lid, pn),
    )
    db.execute(
        "UPDATE messages SET sender = ? WHERE account = ? AND sender = ? AND sender LIKE '%lid'",
        (pn, account, lid),
    )


def merge_twins(db: sqlite3.Connection, which: str, twin: str, values: Sequence[object]) -> int:
    """Make one message of each two that are: a row `m`, and a row `o` of the same WhatsApp id and direction.

    How many rows `m` there were.

    `which` is the condition for `m`, `twin` what else is asked of `o`; both are SQL of the caller's own.
    """
    pairs = db.execute(
        "SELECT m.number, o.number FROM messages AS m JOIN messages AS o ON o.wa_id = m.wa_id"
        f" AND o.from_me = m.from_me AND o.number != m.number AND {twin}"
        f" WHERE {which} AND m.wa_id != '' AND o.wa_id != ''"
        " ORDER BY m.number, o.duplicate_of != '', o.number",
        values,
    ).fetchall()
    for one, other in pairs:
        _make_one(db, one, other)
    return len({one for one, _ in pairs})


def _make_one(db: sqlite3.Connection, one: int, other: int) -> None:
    """Two documents are one message: the outbox's own stays, else `other`."""
    first, second = row_at(db, one), row_at(db, other)
    if first is None or second is None:
        return  # it was made one with a third
    if first.first.client_id:
        remove_from_thread(db, other, second.first.thread)
        return
    remove_from_thread(db, one, first.first.thread)
    if not second.first.client_id:
        rewrite(db, other, merged(second.first, first.first))
