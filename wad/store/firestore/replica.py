"""The working copy on this machine: the embedded store, which also notes what Firestore has to be told.

It answers every question, so that looking costs nothing and needs no network.  What others told is put in as the same
facts from which it was made there; facts may come in any order and twice (`store.port`), so two copies that have the
same facts are the same.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from wad.core.change import Change, PutAmendment, PutChat, PutMark
from wad.core.outbox import Entry
from wad.database import open_database, open_reader
from wad.store.firestore import capture
from wad.store.firestore.capture import Kind
from wad.store.firestore.documents import Told, document_of
from wad.store.migrations import STEPS
from wad.store.port import AccountStatus
from wad.store.sqlite import SqliteStore
from wad.store.sqlite_messages import insert_entry
from wad.store.sqlite_outbox import load_entry, settle_entry
from wad.store.sqlite_rows import pack, thread_of


class _Amendment(msgspec.Struct, frozen=True, tag="amendment"):
    account: str
    change: PutAmendment


class _Chat(msgspec.Struct, frozen=True, tag="chat"):
    account: str
    change: PutChat


class _Mark(msgspec.Struct, frozen=True, tag="mark"):
    account: str
    change: PutMark


_Wrapped = _Amendment | _Chat | _Mark
_unpack: Final = msgspec.msgpack.Decoder(_Wrapped).decode


def fact_of(payload: bytes) -> tuple[str, Change]:
    """Account and change in the payload of a fact.  Raises msgspec.ValidationError, msgspec.DecodeError."""
    wrapped = _unpack(payload)
    return wrapped.account, wrapped.change


def _wrapped(account: str, change: PutAmendment | PutChat | PutMark) -> bytes:
    match change:
        case PutAmendment():
            return pack(_Amendment(account, change))
        case PutChat():
            return pack(_Chat(account, change))
        case PutMark():
            return pack(_Mark(account, change))


class Replica(SqliteStore):
    """The embedded store with a list of what is to be told."""

    @staticmethod
    def open_replica(path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        """The two connections that the constructor wants.  A store of its own until now is to be told whole."""
        writing = open_database(path, STEPS)
        try:
            fresh = not writing.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'dirty'"
            ).fetchone()
            capture.install(writing)
            if fresh:
                capture.everything(writing)
            return writing, open_reader(path)
        except BaseException:
            writing.close()
            raise

    # --- what is to be told -----------------------------------------------------------------------

    def _note(self, db: sqlite3.Connection, account: str, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, PutAmendment | PutChat) or (
                isinstance(change, PutMark) and not _has_message(db, account, change.wa_id)
            ):
                payload = _wrapped(account, change)
                capture.put(db, Kind.FACT, f"{account}__{_digest(payload).hex()}", payload)

    async def mark_read(self, thread: str) -> None:
        """All that is there was read, here and for the next holder."""
        await super().mark_read(thread)
        await self._write(lambda db: _note_reading(db, thread_of(db, thread)))

    async def waiting(self, after: int, limit: int, kinds: tuple[Kind, ...]) -> list[Told]:
        """What waits longest, as documents; those whose digest says that they are there already, too."""

        def work(db: sqlite3.Connection) -> list[Told]:
            keys = capture.waiting(db, after, limit, kinds)
            return [document_of(db, dirty) for dirty in keys]

        return await self._read(work)

    async def backlog(self) -> tuple[int, int | None]:
        """How many documents wait to be told, and since when (ms since 1970) the oldest does."""
        return await self._read(capture.backlog)

    async def done(self, told: Iterable[Told]) -> None:
        """These were written; a key that was noted again meanwhile stays."""
        found = list(told)

        def work(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM dirty WHERE seq = ?", [(one.dirty.seq,) for one in found])
            _remember(db, [(one.path, one.digest) for one in found if one.path])

        await self._write(work)

    async def refuse(self, told: Told, why: str) -> None:
        """Firestore does not take this document: it is put aside and named."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM dirty WHERE seq = ?", (told.dirty.seq,))
            db.execute("INSERT OR REPLACE INTO refused VALUES (?,?)", (told.path, why))

        await self._write(work)

    async def refused(self) -> list[tuple[str, str]]:
        """Documents that Firestore did not take, and why."""
        query = "SELECT path, why FROM refused ORDER BY path"
        return await self._read(lambda db: db.execute(query).fetchall())

    # --- what others told -------------------------------------------------------------------------

    async def remember(self, digests: Iterable[tuple[str, bytes | None]]) -> None:
        """These documents lie there as this says."""
        found = list(digests)
        await self._write(lambda db: _remember(db, found))

    async def put_entry(self, entry: Entry) -> bool:
        """An entry as it lies in Firestore; whether it was news.  What we have to tell of it ourselves is newer."""

        def work(db: sqlite3.Connection) -> bool:
            known = load_entry(db, entry.id)
            if known == entry or _is_dirty(db, entry.id):
                return False
            if known is None:
                insert_entry(db, entry)
            settle_entry(db, entry)
            return True

        return await self._write(work)

    async def replace_accounts(self, statuses: Sequence[AccountStatus]) -> None:
        """What all machines have published."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM accounts")
            db.executemany(
                "INSERT INTO accounts VALUES (?,?)", [(one.account, pack(one)) for one in statuses]
            )

        await self._write(work)

    async def synced(self, collection: str) -> str:
        """Up to which update time a collection was read; empty for never."""
        query = "SELECT until FROM synced WHERE collection = ?"
        row = await self._read(lambda db: db.execute(query, (collection,)).fetchone())
        return str(row[0]) if row else ""

    async def set_synced(self, collection: str, until: str) -> None:
        """It was read so far."""
        await self._write(
            lambda db: db.execute("INSERT OR REPLACE INTO synced VALUES (?,?)", (collection, until))
        )


def _remember(db: sqlite3.Connection, digests: Iterable[tuple[str, bytes | None]]) -> None:
    for path, digest in digests:
        if digest is None:
            db.execute("DELETE FROM told WHERE path = ?", (path,))
        else:
            db.execute("INSERT OR REPLACE INTO told VALUES (?,?)", (path, digest))


def _has_message(db: sqlite3.Connection, account: str, wa_id: str) -> bool:
    query = "SELECT 1 FROM messages WHERE account = ? AND wa_id = ? AND wa_id != '' AND from_me"
    return db.execute(query, (account, wa_id)).fetchone() is not None


def _is_dirty(db: sqlite3.Connection, ident: str) -> bool:
    query = "SELECT 1 FROM dirty WHERE kind = 'entry' AND key = ?"
    return db.execute(query, (ident,)).fetchone() is not None


def _note_reading(db: sqlite3.Connection, thread: str) -> None:
    row = db.execute(
        "SELECT account, chat, read_ms FROM threads WHERE id = ?", (thread,)
    ).fetchone()
    if row is not None and row[2]:
        account, chat, read_ms = row
        payload = _wrapped(account, PutChat(thread, chat, read_ms=read_ms))
        capture.put(db, Kind.FACT, f"{account}__{_digest(thread.encode()).hex()}", payload)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
