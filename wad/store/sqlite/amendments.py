"""Edits, revokes, reactions and votes: stored as received, and applied once target and amendment are both stored.

An amendment that a later one replaces is stored as well: a placeholder with its WhatsApp id is not a message.

Amendments are found by account and the target's WhatsApp id.  They apply to the documents of their own thread whose
author is the one that they name.  `core.amendments` applies them.
"""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Final

from wad.core.amendments import amended
from wad.core.change import PutAmendment
from wad.core.content import PLACEHOLDERS
from wad.core.message import Message
from wad.store.sqlite.addresses import note_hidden_names
from wad.store.sqlite.rows import (
    HAS_WA_ID,
    is_lid,
    own_addresses,
    pack,
    packed_amended,
    resolve,
    resolve_thread,
    rows_by_wa_id,
    unpack_content,
)
from wad.store.sqlite.threads import delete_message, update_last_message

_INSERT: Final = (
    "INSERT OR IGNORE INTO amendments"
    " (account, target, thread, kind, wa_id, party, from_me, at_ms, content, digest)"
    " VALUES (?,?,?,?,?,?,?,?,?,?)"
)
_LIMIT: Final = 100
"""The number of amendments of one kind, of one message by one person, that are stored: the newest."""
_DELETE_OLDEST: Final = (
    "DELETE FROM amendments WHERE number IN (SELECT number FROM amendments"
    " WHERE account = ? AND target = ? AND kind = ? AND party = ? AND from_me = ?"
    " ORDER BY at_ms DESC, wa_id DESC, digest DESC LIMIT -1 OFFSET ?)"
)
_KINDS: Final = ",".join("?" * len(PLACEHOLDERS))


def put_amendment(db: sqlite3.Connection, account: str, change: PutAmendment) -> list[Message]:
    """Store an amendment; return the shown messages that it changed."""
    thread, by = resolve_thread(db, change.thread), resolve(db, account, change.by)
    content = pack(change.content)
    digest = hashlib.sha256(content).hexdigest()[:16]
    kind = change.content.kind
    values = (account, change.target, thread, kind, change.wa_id, by, change.from_me, change.at_ms)
    if not db.execute(_INSERT, (*values, content, digest)).rowcount:
        return []
    _delete_oldest(db, account, change.target, kind, by, change.from_me)
    _delete_placeholder(db, account, thread, change)
    return apply_amendments(db, account, change.target)


def _delete_oldest(
    db: sqlite3.Connection, account: str, target: str, kind: str, by: str, from_me: bool
) -> None:
    """Delete the oldest amendments over the limit, so that nobody fills the store by amending one message."""
    db.execute(_DELETE_OLDEST, (account, target, kind, by, from_me, _LIMIT))


def _delete_placeholder(
    db: sqlite3.Connection, account: str, thread: str, change: PutAmendment
) -> None:
    """Delete the placeholder of this amendment, which could not be decrypted at first."""
    query = f"SELECT number FROM messages WHERE {HAS_WA_ID} AND thread = ? AND from_me = ? AND kind IN ({_KINDS})"
    values = (account, change.wa_id, thread, change.from_me, *PLACEHOLDERS)
    for (number,) in db.execute(query, values).fetchall():
        delete_message(db, number, thread)


def _delete_placeholders(db: sqlite3.Connection, thread: str) -> None:
    """Delete the placeholders of a thread's amendments, after two threads were merged."""
    rows = db.execute(
        "SELECT DISTINCT m.number FROM messages AS m JOIN amendments AS a ON a.account = m.account"
        " AND a.wa_id = m.wa_id AND a.wa_id != '' AND a.thread = m.thread AND a.from_me = m.from_me"
        f" WHERE m.thread = ? AND m.kind IN ({_KINDS})",
        (thread, *PLACEHOLDERS),
    ).fetchall()
    for (number,) in rows:
        delete_message(db, number, thread)


def is_amendment(db: sqlite3.Connection, message: Message) -> bool:
    """Whether an amendment with the WhatsApp id of this placeholder is stored."""
    query = "SELECT 1 FROM amendments WHERE account = ? AND wa_id = ? AND wa_id != '' AND thread = ? AND from_me = ?"
    values = (message.account, message.wa_id, message.thread, message.from_me)
    return db.execute(query, values).fetchone() is not None


def apply_amendments(db: sqlite3.Connection, account: str, target: str) -> list[Message]:
    """Apply the stored amendments to the messages with this WhatsApp id; return the shown messages that changed."""
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
    for row in rows_by_wa_id(db, account, target):
        original, before = row.original, row.present
        applicable = [a for a in found if _is_about(db, a, original)]
        after = amended(original, applicable)
        if after == before:
            continue
        db.execute(
            "UPDATE messages SET amended = ? WHERE number = ?",
            (packed_amended(original, after), row.number),
        )
        note_hidden_names(db, row.number, after)
        if row.is_duplicate:
            continue  # it is not shown
        if after.content != before.content:
            update_last_message(db, after.thread)
        changed.append(after)
    return changed


def _is_about(db: sqlite3.Connection, amendment: PutAmendment, original: Message) -> bool:
    """Whether an amendment of this message's id is meant for it: by its chat, and by the author that it names.

    Anyone may write a message with the id of another one, in another chat or in the same group.
    """
    if amendment.thread != resolve_thread(db, original.thread):
        return False
    named = amendment.content.target_by
    if not named:
        return True
    named = resolve(db, original.account, named)
    authors = {resolve(db, original.account, one) for one in _authors(db, original) if one}
    # A LID whose number is not known can be compared with a LID only, and a number with a number.
    return named in authors or not any(is_lid(one) is is_lid(named) for one in authors)


def _authors(db: sqlite3.Connection, original: Message) -> set[str]:
    """The known addresses of a message's author."""
    found = {original.sender, original.lid_sender}
    return found | own_addresses(db, original.account) if original.from_me else found


def amended_targets(db: sqlite3.Connection, account: str, address: str, thread: str) -> set[str]:
    """The targets whose amendments may apply differently after two addresses of a person are merged.

    Indexes exist for LIDs only: a number changes rarely.
    """
    party, place, sender = (
        f" AND {column} LIKE '%lid'" if is_lid(address) else ""
        for column in ("party", "thread", "m.sender")
    )
    query = f"""
        SELECT target FROM amendments WHERE account = ?1 AND party = ?2{party}
        UNION SELECT target FROM amendments WHERE thread = ?3{place}
        UNION SELECT a.target FROM messages AS m JOIN amendments AS a ON a.account = m.account AND a.target = m.wa_id
            WHERE m.thread = ?3
        UNION SELECT a.target FROM amendments AS a JOIN messages AS m ON a.account = m.account AND a.target = m.wa_id
            WHERE m.account = ?1 AND m.sender = ?2{sender}
    """
    return {target for (target,) in db.execute(query, (account, address, thread))}


def move_amendments(
    db: sqlite3.Connection, account: str, old: str, new: str, threads: tuple[str, str]
) -> None:
    """Move the amendments by an address, and those in its thread, to another; the messages have moved before."""
    before, after = threads
    party, place = (
        f" AND {column} LIKE '%lid'" if is_lid(old) else "" for column in ("party", "thread")
    )
    # The same amendment may be stored under both addresses already.
    db.execute(
        f"UPDATE OR REPLACE amendments SET party = ? WHERE account = ? AND party = ?{party}",
        (new, account, old),
    )
    db.execute(
        f"UPDATE OR REPLACE amendments SET thread = ? WHERE thread = ?{place}", (after, before)
    )
    _delete_placeholders(db, after)
