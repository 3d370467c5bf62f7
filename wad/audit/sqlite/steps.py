"""The repair steps of wad.db, in order: each prepares the next.  They run in a transaction of the caller.

times      a time that is not in milliseconds is converted
addresses  the content of a LID whose number is known moves to the number
threads    a message in a wrong thread moves to that of its chat; a thread without a row gets one
duplicates of several documents of one message all but one are marked
statuses   a message of ours gets the status of the outbox, or of its receipts
summaries  counts, last message and unread of a thread are derived again where they are wrong
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

import msgspec

from wad.audit.duplicates import Question, grouped, largest, windowed
from wad.audit.keys import KeyMode, short_hash
from wad.audit.reports import DuplicateGroup
from wad.audit.rows import Aliases, Range, Scope
from wad.audit.sqlite.rows import SqliteRows
from wad.audit.sqlite.rules import right_chat, right_status, right_thread
from wad.audit.stamps import stamp_of
from wad.core.message import MessageStatus
from wad.core.untrusted import SECONDS_UP_TO
from wad.store.sqlite.aliases import merge_addresses, merge_duplicates
from wad.store.sqlite.threads import move_facts, recount_if_wrong

SAMPLE: Final = 5  # groups in a report, as in the reference
ALL: Final = 1 << 40  # more than any number of rows


class RepairCounts(msgspec.Struct):
    """The counts of a repair.  `left`: wrong rows that cannot be corrected.

    `receipts_marked`: receipts without a message; only Firestore can have them.
    """

    thread_id_hash: str | None = None
    scanned_messages: int = 0
    groups_with_duplicates: int = 0
    duplicates_to_mark: int = 0
    duplicates_already_marked: int = 0
    last_message_at_ms_candidate: int | None = None
    threads_updated: int = 0
    sample_groups: tuple[DuplicateGroup, ...] = ()
    times_rewritten: int = 0
    addresses_joined: int = 0
    messages_moved: int = 0
    statuses_corrected: int = 0
    receipts_marked: int = 0
    left: int = 0

    def fields(self) -> dict[str, Any]:
        """The counts by name."""
        return msgspec.structs.asdict(self)


def repair_rows(db: sqlite3.Connection, file: Path, wanted: Range, now_ms: int) -> RepairCounts:
    """Run all steps."""
    counts, rows = RepairCounts(), SqliteRows(file, db)
    aliases = rows.aliases()
    _times(db, wanted, counts)
    _rows_for_threads(db)
    _addresses(db, wanted, aliases, counts)
    _threads(db, wanted, aliases, counts)
    _duplicates(db, rows, wanted, now_ms, counts)
    _statuses(db, wanted, counts)
    _summaries(db, wanted, counts)
    if wanted.thread:
        counts.thread_id_hash = short_hash(wanted.thread)
        query = "SELECT last_ms FROM threads WHERE id = ?"
        row = db.execute(query, (wanted.thread,)).fetchone()
        counts.last_message_at_ms_candidate = row[0] if row else None
    return counts


def _in_range(wanted: Range, thread: str = "thread", prefix: str = "") -> tuple[str, list[str]]:
    terms = {f"{prefix}account": wanted.account, f"{prefix}{thread}": wanted.thread}
    given = {name: value for name, value in terms.items() if value}
    return " AND ".join([f"{name} = ?" for name in given] or ["1"]), list(given.values())


# --- times, addresses, threads ----------------------------------------------------------------------


def _times(db: sqlite3.Connection, wanted: Range, counts: RepairCounts) -> None:
    where, values = _in_range(wanted)
    query = (
        "SELECT number, at_ms FROM messages"
        f" WHERE {where} AND (typeof(at_ms) != 'integer' OR (at_ms > 0 AND at_ms < {SECONDS_UP_TO}))"
    )
    for number, at in db.execute(query, values).fetchall():
        ms = stamp_of(at).ms
        if ms is None:
            counts.left += 1
            continue
        db.execute("UPDATE messages SET at_ms = ? WHERE number = ?", (ms, number))
        counts.times_rewritten += 1


def _rows_for_threads(db: sqlite3.Connection) -> None:
    db.execute(
        "INSERT OR IGNORE INTO threads (id, account, chat) SELECT thread, account, min(chat) FROM messages"
        " WHERE thread NOT IN (SELECT id FROM threads) GROUP BY thread, account"
    )


def _addresses(
    db: sqlite3.Connection, wanted: Range, aliases: Aliases, counts: RepairCounts
) -> None:
    for (account, lid), pn in sorted(aliases.items()):
        old, new = f"{account}__{lid}", f"{account}__{pn}"
        if wanted.account not in ("", account) or wanted.thread not in ("", old, new):
            continue
        if _has_content(db, account, lid, old):
            merge_addresses(db, account, lid, pn)
            counts.addresses_joined += 1


def _has_content(db: sqlite3.Connection, account: str, lid: str, thread: str) -> bool:
    return bool(
        db.execute(
            "SELECT EXISTS (SELECT 1 FROM threads WHERE id = ?3)"
            " OR EXISTS (SELECT 1 FROM messages WHERE account = ?1 AND sender = ?2 AND sender LIKE '%lid')"
            " OR EXISTS (SELECT 1 FROM amendments WHERE account = ?1 AND party = ?2 AND party LIKE '%lid')"
            " OR EXISTS (SELECT 1 FROM amendments WHERE thread = ?3 AND thread LIKE '%lid')",
            (account, lid, thread),
        ).fetchone()[0]
    )


def _threads(db: sqlite3.Connection, wanted: Range, aliases: Aliases, counts: RepairCounts) -> None:
    where, values = _in_range(wanted)
    places = db.execute(
        f"SELECT DISTINCT account, thread, chat FROM messages WHERE {where}", values
    ).fetchall()
    for account, thread, chat in places:
        jid = right_chat(account, "", chat, "", from_me=True, aliases=aliases)
        if jid is not None and right_thread(account, jid) == thread and str(jid) == chat:
            continue
        _move(db, account, thread, chat, aliases, counts)
    _rows_for_threads(db)


def _move(
    db: sqlite3.Connection,
    account: str,
    thread: str,
    chat: str,
    aliases: Aliases,
    counts: RepairCounts,
) -> None:
    """Move the messages of a wrong thread, by sender: without another address, the sender's is used."""
    targets = set()
    same = "account = ? AND thread = ? AND chat = ?"
    writers = db.execute(
        f"SELECT DISTINCT sender, from_me FROM messages WHERE {same}", (account, thread, chat)
    ).fetchall()
    for sender, from_me in writers:
        jid = right_chat(account, thread, chat, sender, from_me=bool(from_me), aliases=aliases)
        target = None if jid is None else right_thread(account, jid)
        moved = (account, thread, chat, sender, from_me)
        if jid is None or target is None:
            query = f"SELECT count(*) FROM messages WHERE {same} AND sender = ? AND from_me = ?"
            counts.left += db.execute(query, moved).fetchone()[0]
            continue
        if target != thread:
            # A message that is in the right thread already is merged with the moved one.
            writer = "" if from_me or jid.is_person else " AND o.sender = m.sender"
            counts.messages_moved += merge_duplicates(
                db,
                "m.account = ?1 AND m.thread = ?2 AND m.chat = ?3 AND m.sender = ?4 AND m.from_me = ?5",
                f"o.thread = ?6{writer}",
                (*moved, target),
            )
        done = db.execute(
            f"UPDATE messages SET thread = ?, chat = ? WHERE {same} AND sender = ? AND from_me = ?",
            (target, str(jid), *moved),
        )
        db.execute("UPDATE threads SET chat = ?1 WHERE id = ?2 AND chat != ?1", (str(jid), target))
        counts.messages_moved += done.rowcount
        targets.add(target)
    empty = not db.execute("SELECT 1 FROM messages WHERE thread = ? LIMIT 1", (thread,)).fetchone()
    if empty and len(targets) == 1 and thread not in targets:
        move_facts(db, thread, account, targets.pop())


# --- duplicates -------------------------------------------------------------------------------------


def _duplicates(
    db: sqlite3.Connection, rows: SqliteRows, wanted: Range, now_ms: int, counts: RepairCounts
) -> None:
    since_ms = 1
    if wanted.window_hours is not None:
        since_ms = Question(now_ms, wanted.window_hours).scope.since_ms
    where, values = _in_range(wanted)
    aliases = rows.aliases()
    query = f"SELECT DISTINCT account, thread FROM messages WHERE {where} ORDER BY 1, 2"
    for account, thread in db.execute(query, values).fetchall():
        scope = Scope(account, thread, since_ms, wanted.limit or ALL)
        inside, _, _ = windowed(rows.messages(scope), scope)
        counts.scanned_messages += len(inside)
        counts.duplicates_already_marked += sum(row.marked for row in inside)
        groups = grouped([row for row in inside if not row.marked], aliases, KeyMode.STABLE)
        for first, *others in groups.values():
            for row in others:
                db.execute(
                    "UPDATE messages SET duplicate_of = ?, duplicate_ms = ?"
                    " WHERE thread = ? AND at_ms = ? AND id = ? AND duplicate_of = ''",
                    (first.id, now_ms, thread, row.stamp.ms, row.id),
                )
            counts.duplicates_to_mark += len(others)
            counts.groups_with_duplicates += bool(others)
        if len(counts.sample_groups) < SAMPLE:
            counts.sample_groups = (*counts.sample_groups, *largest(groups))[:SAMPLE]


# --- statuses and summaries -------------------------------------------------------------------------


def _statuses(db: sqlite3.Connection, wanted: Range, counts: RepairCounts) -> None:
    where, values = _in_range(wanted, prefix="m.")
    right: dict[int, str] = {}  # by the row's number
    queued = (
        "SELECT m.number, o.state FROM messages AS m JOIN outbox AS o ON o.id = m.id"
        f" WHERE {where} AND m.status != o.state"
    )
    right |= dict(db.execute(queued, values).fetchall())
    others = (
        "SELECT m.number, m.status, (SELECT group_concat(mark) FROM (SELECT DISTINCT mark FROM marks AS k"
        " WHERE k.account = m.account AND k.wa_id = m.wa_id AND m.wa_id != '' AND k.thread IN ('', m.thread)))"
        f" FROM messages AS m WHERE {where} AND m.from_me AND m.id NOT IN (SELECT id FROM outbox)"
    )
    for number, status, marks in db.execute(others, values).fetchall():
        if status != (correct := right_status((marks or "").split(",") if marks else ())):
            right[number] = correct
    known = ",".join(f"'{status}'" for status in MessageStatus)
    inbound = f"SELECT m.number FROM messages AS m WHERE {where} AND NOT m.from_me AND m.status NOT IN ({known})"
    right |= {row: MessageStatus.DELIVERED for (row,) in db.execute(inbound, values).fetchall()}
    for number, status in right.items():
        db.execute("UPDATE messages SET status = ? WHERE number = ?", (str(status), number))
    counts.statuses_corrected = len(right)


def _summaries(db: sqlite3.Connection, wanted: Range, counts: RepairCounts) -> None:
    where, values = _in_range(wanted, "id")
    threads = db.execute(f"SELECT id FROM threads WHERE {where}", values).fetchall()
    counts.threads_updated += sum(recount_if_wrong(db, thread) for (thread,) in threads)
