"""Merging the addresses of one person when it becomes known that they are one person's.

That happens when the number of a LID becomes known, when a person changes the number, and when WhatsApp names a person
by another number than the one that it was asked for.  Everything that is stored under the other address moves to the
present number: the thread's messages and the facts about the chat, the sender of messages in groups, edits and
reactions.  Documents keep their ids.  A message that is stored under both addresses becomes one.  From then on the old
thread's id leads to the new thread (`resolve_thread`).

When another person gets the number, what its former owner wrote moves to their LID, and the thread begins anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from wad.core.addresses import Verdict, verdict
from wad.core.change import PutAlias, PutNumber
from wad.core.jid import Jid, ThreadId
from wad.core.message import Message, merged
from wad.store.sqlite.addresses import pop_hidden_names
from wad.store.sqlite.amendments import amended_targets, apply_amendments, move_amendments
from wad.store.sqlite.messages import rewrite
from wad.store.sqlite.numbers import (
    ask_again,
    confirm_number,
    number_of,
    owner_of,
    rename_person,
    set_number,
    set_other,
)
from wad.store.sqlite.outbox import move_marks
from wad.store.sqlite.queue import merge_chats
from wad.store.sqlite.rows import SHOWN, MessageRecord, is_lid, resolve, row_by_number
from wad.store.sqlite.threads import delete_message, move_facts, recount, update_last_message


def put_alias(db: sqlite3.Connection, account: str, change: PutAlias) -> None:
    """Record that a LID has a phone number, and move what is stored to the address where it belongs now."""
    lid, pn = change.lid, change.pn
    number, owner = number_of(db, account, lid), owner_of(db, account, pn, but=lid)
    match verdict(change, number, owner):
        case Verdict.KNOWN:
            assert number is not None
            confirm_number(db, account, change, number)
        case Verdict.CURRENT:
            set_number(db, account, change)
            if owner is not None:  # what they wrote with this number is not the new owner's
                rename_person(db, account, pn, owner.address)
                ask_again(db, account, owner.address)
                merge_addresses(db, account, pn, owner.address)
            merge_addresses(db, account, lid, pn)
            if number is not None:
                _put_former(db, account, change, number.address)
        case Verdict.OTHER:
            put_number(db, account, PutNumber(pn, lid, change.at_ms, asked=False))
        case Verdict.NOT_THEIRS:
            pass


def put_number(db: sqlite3.Connection, account: str, change: PutNumber) -> None:
    """Record another number of a person, and move what is stored under it to their present address."""
    owner = owner_of(db, account, change.number)
    if owner is not None or change.number == resolve(db, account, change.person):
        return  # it is somebody's present number
    if not set_other(db, account, change):
        return
    # No person is named by a spelling that is not WhatsApp's: only a thread, to which we have written, may be under it.
    thread = ThreadId.make(account, Jid.parse(change.number))
    if not change.asked or _exists(db, str(thread)):
        merge_addresses(db, account, change.number, resolve(db, account, change.number))


def _put_former(db: sqlite3.Connection, account: str, change: PutAlias, former: str) -> None:
    """The person had this number until now."""
    rename_person(db, account, former, change.lid)
    ask_again(db, account, change.lid)
    if owner_of(db, account, former) is None:
        put_number(db, account, PutNumber(former, change.lid, change.at_ms, asked=False))


def merge_addresses(db: sqlite3.Connection, account: str, old: str, new: str) -> None:
    """Move everything that is stored under one address of a person to another."""
    before = str(ThreadId.make(account, Jid.parse(old)))
    after = str(ThreadId.make(account, Jid.parse(new)))
    targets = amended_targets(db, account, old, before)
    _merge_threads(db, account, before, after, new)
    merge_chats(db, account, before, after)
    _merge_senders(db, account, old, new, after)
    move_amendments(db, account, old, new, (before, after))
    move_marks(db, account, before, after)
    _show_number(db, account, old)
    for target in sorted(targets):
        apply_amendments(db, account, target)


def _show_number(db: sqlite3.Connection, account: str, lid: str) -> None:
    """Derive again what shows the messages that mention or quote a LID: previews, and documents of a change log."""
    for number in pop_hidden_names(db, account, lid):
        db.execute("UPDATE messages SET seen = seen WHERE number = ?", (number,))
        if (row := row_by_number(db, number)) is not None:
            update_last_message(db, row.original.thread)


def _exists(db: sqlite3.Connection, thread: str) -> bool:
    return db.execute("SELECT 1 FROM threads WHERE id = ?", (thread,)).fetchone() is not None


def _merge_threads(db: sqlite3.Connection, account: str, old: str, new: str, chat: str) -> None:
    if not _exists(db, old):
        return
    merge_duplicates(db, "m.thread = ?1", "o.thread = ?2", (old, new))
    db.execute("UPDATE messages SET thread = ?, chat = ? WHERE thread = ?", (new, chat, old))
    move_facts(db, old, account, new)
    recount(db, new)


def _merge_senders(db: sqlite3.Connection, account: str, old: str, new: str, thread: str) -> None:
    """Name the sender by the other address: in all messages of a LID, in groups and in the person's thread else."""
    which = "m.account = ?1 AND m.sender = ?2 AND m.sender LIKE '%lid'"
    values: tuple[str, ...] = (account, old, new)
    if not is_lid(old):  # there is no index of senders by number, which are rarely needed
        which = (
            "m.sender = ?2 AND m.thread IN (SELECT ?4 UNION ALL SELECT id FROM threads WHERE account = ?1"
            " AND chat NOT LIKE '%lid' AND chat NOT LIKE '%@s.whatsapp.net')"
        )
        values = (*values, thread)
    merge_duplicates(db, which, "o.thread = m.thread AND o.sender = ?3", values)
    db.execute(f"UPDATE messages AS m SET sender = ?3 WHERE {which}", values)


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
