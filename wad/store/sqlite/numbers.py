"""The numbers of persons: the present one of each LID (table `aliases`), and their other ones (table `numbers`).

What a report means is decided by `core.addresses.verdict`; aliases.py moves what is stored accordingly.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from wad.core.addresses import Known
from wad.core.change import PutAlias, PutNumber
from wad.store.sqlite.rows import is_lid, is_pn, resolve

_FRESH_MS: Final = 86_400_000
"""The time of a repeated report is stored once a day: each message of a person is one."""
_OLDEST: Final = 200  # messages of a thread in which one of the other party is looked for


def number_of(db: sqlite3.Connection, account: str, lid: str) -> Known | None:
    """The present number of a LID."""
    query = "SELECT pn, at_ms FROM aliases WHERE account = ? AND lid = ?"
    row = db.execute(query, (account, lid)).fetchone()
    return None if row is None else Known(*row)


def owner_of(db: sqlite3.Connection, account: str, pn: str, but: str = "") -> Known | None:
    """The LID, other than `but`, whose present number this is."""
    query = "SELECT lid, at_ms FROM aliases WHERE account = ? AND pn = ? AND lid != ? ORDER BY at_ms DESC, lid LIMIT 1"
    row = db.execute(query, (account, pn, but)).fetchone()
    return None if row is None else Known(*row)


def set_number(db: sqlite3.Connection, account: str, alias: PutAlias) -> None:
    """Store the present number of a LID; it is not another person's any more."""
    values = (account, alias.pn)
    db.execute("DELETE FROM aliases WHERE account = ? AND pn = ?", values)
    db.execute("DELETE FROM numbers WHERE account = ? AND number = ?", values)
    db.execute(
        "INSERT INTO aliases (account, lid, pn, at_ms) VALUES (?,?,?,?)"
        " ON CONFLICT (account, lid) DO UPDATE SET pn = excluded.pn, at_ms = excluded.at_ms",
        (account, alias.lid, alias.pn, alias.at_ms),
    )


def confirm_number(db: sqlite3.Connection, account: str, alias: PutAlias, known: Known) -> None:
    """Store the time of a repeated report."""
    if alias.at_ms - known.at_ms >= _FRESH_MS:
        query = "UPDATE aliases SET at_ms = ? WHERE account = ? AND lid = ?"
        db.execute(query, (alias.at_ms, account, alias.lid))


def set_other(db: sqlite3.Connection, account: str, change: PutNumber) -> bool:
    """Store another number of a person; whether that is news."""
    query = "SELECT at_ms, asked, person FROM numbers WHERE account = ? AND number = ?"
    known = db.execute(query, (account, change.number)).fetchone()
    if known is not None and known >= (change.at_ms, change.asked, change.person):
        return False
    db.execute(
        "INSERT OR REPLACE INTO numbers (account, number, person, at_ms, asked) VALUES (?,?,?,?,?)",
        (account, change.number, change.person, change.at_ms, change.asked),
    )
    return True


def other_number(db: sqlite3.Connection, account: str, number: str) -> PutNumber | None:
    """The person whose other number this is."""
    query = "SELECT number, person, at_ms, asked FROM numbers WHERE account = ? AND number = ?"
    row = db.execute(query, (account, number)).fetchone()
    return None if row is None else PutNumber(row[0], row[1], row[2], bool(row[3]))


def rename_person(db: sqlite3.Connection, account: str, number: str, lid: str) -> None:
    """Let the other numbers of a person who was named by a number name their LID: the number changes its owner."""
    query = "UPDATE numbers SET person = ? WHERE account = ? AND person = ?"
    db.execute(query, (lid, account, number))


def ask_again(db: sqlite3.Connection, account: str, lid: str) -> None:
    """WhatsApp is asked again before the next message to one of the person's other numbers: another may have it now."""
    query = "UPDATE numbers SET asked = 0 WHERE account = ? AND person = ? AND asked"
    db.execute(query, (account, lid))


def recipient(db: sqlite3.Connection, account: str, jid: str) -> tuple[str, bool]:
    """The address to which a message to `jid` is sent, and whether that is certain without asking WhatsApp."""
    if is_lid(jid):
        return resolve(db, account, jid), True
    if not is_pn(jid):
        return jid, True
    query = "SELECT asked FROM numbers WHERE account = ? AND number = ?"
    other = db.execute(query, (account, jid)).fetchone()
    if other is not None:
        return (resolve(db, account, jid), True) if other[0] else (jid, False)
    known = owner_of(db, account, jid) is not None or _has_written(db, f"{account}__{jid}")
    return jid, known


def _has_written(db: sqlite3.Connection, thread: str) -> bool:
    """Whether there is a message of the other party among the oldest of this thread."""
    query = (
        "SELECT 1 FROM (SELECT from_me FROM messages WHERE thread = ? ORDER BY at_ms, seen LIMIT ?)"
        " WHERE NOT from_me LIMIT 1"
    )
    return db.execute(query, (thread, _OLDEST)).fetchone() is not None
