"""Merging the two addresses of one person when the phone number of a LID becomes known.

Everything that is stored under the LID moves to the number: the thread's messages and the facts about the chat, the
sender of messages in groups, edits and reactions.  Documents keep their ids.  A message that is stored under both
addresses becomes one.  From then on the alias redirects the old thread's id to the new thread (`resolve_thread`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from wad.core.change import PutAlias
from wad.core.jid import Jid, ThreadId
from wad.core.message import Message, merged
from wad.store.sqlite.addresses import pop_hidden_names
from wad.store.sqlite.amendments import amended_targets, apply_amendments, move_amendments
from wad.store.sqlite.messages import rewrite
from wad.store.sqlite.outbox import move_marks
from wad.store.sqlite.queue import merge_chats
from wad.store.sqlite.rows import SHOWN, MessageRecord, row_by_number
from wad.store.sqlite.threads import delete_message, move_facts, recount, update_last_message


def put_alias(db: sqlite3.Connection, account: str, change: PutAlias) -> None:
    """Record that a LID and a phone number belong to one person; of contradictory aliases the latest applies."""
    lid, pn = change.lid, change.pn
    known = db.execute(
        "SELECT pn FROM aliases WHERE account = ? AND lid = ?", (account, lid)
    ).fetchone()
    if known == (pn,):
        return
    db.execute("INSERT OR REPLACE INTO aliases VALUES (?,?,?)", (account, lid, pn))
    merge_addresses(db, account, lid, pn)


def merge_addresses(db: sqlite3.Connection, account: str, lid: str, pn: str) -> None:
    """Move everything that is stored under a LID to its phone number."""
    old = str(ThreadId.make(account, Jid.parse(lid)))
    new = str(ThreadId.make(account, Jid.parse(pn)))
    targets = amended_targets(db, account, lid, old)
    _merge_threads(db, account, old, new, pn)
    merge_chats(db, account, old, new)
    _merge_senders(db, account, lid, pn)
    move_amendments(db, account, lid, pn, (old, new))
    move_marks(db, account, old, new)
    _show_number(db, account, lid)
    for target in sorted(targets):
        apply_amendments(db, account, target)


def _show_number(db: sqlite3.Connection, account: str, lid: str) -> None:
    """Derive again what shows the messages that mention or quote a LID: previews, and documents of a change log."""
    for number in pop_hidden_names(db, account, lid):
        db.execute("UPDATE messages SET seen = seen WHERE number = ?", (number,))
        if (row := row_by_number(db, number)) is not None:
            update_last_message(db, row.original.thread)


def _merge_threads(db: sqlite3.Connection, account: str, old: str, new: str, pn: str) -> None:
    if db.execute("SELECT 1 FROM threads WHERE id = ?", (old,)).fetchone() is None:
        return
    merge_duplicates(db, "m.thread = ?1", "o.thread = ?2", (old, new))
    db.execute("UPDATE messages SET thread = ?, chat = ? WHERE thread = ?", (new, pn, old))
    move_facts(db, old, account, new)
    recount(db, new)


def _merge_senders(db: sqlite3.Connection, account: str, lid: str, pn: str) -> None:
    merge_duplicates(
        db,
        "m.account = ?1 AND m.sender = ?2 AND m.sender LIKE '%lid'",
        "o.thread = m.thread AND o.sender = ?3",
        (account, lid, pn),
    )
    db.execute(
        "UPDATE messages SET sender = ? WHERE account = ? AND sender = ? AND sender LIKE '%lid'",
        (pn, account, lid),
    )


def merge_duplicates(
    db: sqlite3.Connection, which: str, other: str, values: Sequence[object]
) -> int:
    """Merge each row `m` with the rows `o` that have the same WhatsApp id and direction; return the number of rows `m`.

    `which` is the condition for `m`, `other` the further condition for `o`; both are SQL of the caller.  Rows that are
    marked as duplicates are not shown, and are merged with nothing: a message must not disappear into one of them.
    """
    pairs = db.execute(
        "SELECT m.number, o.number FROM messages AS m JOIN messages AS o ON o.wa_id = m.wa_id"
        f" AND o.from_me = m.from_me AND o.number != m.number AND o.{SHOWN} AND {other}"
        f" WHERE {which} AND m.{SHOWN} AND m.wa_id != '' AND o.wa_id != '' ORDER BY m.number, o.number",
        values,
    ).fetchall()
    merged_into: dict[int, int] = {}  # by the number of the deleted row
    rows: dict[int, Message] = {}
    for pair in pairs:
        one, another = (_following(merged_into, number) for number in pair)
        if one != another:
            stays, deleted = _merge(db, one, another)
            merged_into[deleted.number] = stays.number
            rows |= {row.number: row.original for row in (stays, deleted)}
    ids = {rows[number].id: rows[_following(merged_into, number)].id for number in merged_into}
    _move_marks(db, {row.thread for row in rows.values()}, ids)
    return len({one for one, _ in pairs})


def _following(merged_into: dict[int, int], number: int) -> int:
    while number in merged_into:
        number = merged_into[number]
    return number


def _merge(db: sqlite3.Connection, one: int, other: int) -> tuple[MessageRecord, MessageRecord]:
    """Merge two rows; return the one that stays (the outbox's own document, else `other`) and the deleted one."""
    first, second = row_by_number(db, one), row_by_number(db, other)
    assert first is not None
    assert second is not None
    stays, deleted = (first, second) if first.original.client_id else (second, first)
    delete_message(db, deleted.number, deleted.original.thread)
    if not stays.original.client_id:
        rewrite(db, stays.number, merged(stays.original, deleted.original))
    return stays, deleted


def _move_marks(db: sqlite3.Connection, threads: set[str], ids: dict[str, str]) -> None:
    """Let the marked duplicates of deleted documents name the documents that stay."""
    query = "SELECT number, duplicate_of FROM messages WHERE thread = ? AND duplicate_of != ''"
    for thread in sorted(threads):
        for number, ident in db.execute(query, (thread,)).fetchall():
            if ident in ids:
                db.execute(
                    "UPDATE messages SET duplicate_of = ? WHERE number = ?", (ids[ident], number)
                )
