"""The embedded store: one SQLite file, for an installation on one machine.

One thread writes, another reads (write-ahead log), so that a read never waits for a write.  Every commit is synced
(`synchronous=FULL`): the cursor moves in the same transaction as the messages, and the spool may delete the rows before
it; a claim must be on the disk before the message is sent.  A batch costs one sync, so this is cheap.
The other modules of this package change the rows; their functions run inside a transaction of the store.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final, TypeVar, assert_never

import msgspec

from wad.core.auto_reply import AutoReply
from wad.core.change import (
    Change,
    PutAlias,
    PutAmendment,
    PutChat,
    PutMark,
    PutMessage,
    PutNumber,
)
from wad.core.errors import Fenced, NotFound, Unavailable
from wad.core.jid import Jid
from wad.core.message import Message, MessageStatus, Thread
from wad.core.outbox import Claimed, Entry, Outcome, Retry, advance, same_message
from wad.core.problem import Problem
from wad.core.quarantine import Source
from wad.lib.sqlite_file import (
    Progress,
    open_database,
    open_reader,
    transaction,
    translated,
)
from wad.store.port import (
    PAGE_BYTES,
    AccountStatus,
    Cursor,
    Enqueued,
    PagePosition,
    Recipient,
    Recorded,
    Staff,
    SyncStatus,
    Totals,
)
from wad.store.sqlite import history
from wad.store.sqlite.addresses import with_numbers
from wad.store.sqlite.aliases import put_alias, put_number
from wad.store.sqlite.messages import insert_entry, put_message
from wad.store.sqlite.numbers import recipient
from wad.store.sqlite.outbox import load_entry, put_mark, receive_amendment, settle_entry
from wad.store.sqlite.queue import add_missing_chats, next_entry, readable, record_claim, requeue
from wad.store.sqlite.rows import (
    MESSAGE_COLUMNS,
    PLACEHOLDER,
    SHOWN,
    THREAD_COLUMNS,
    message_from,
    pack,
    resolve_thread,
    row_by_id,
    thread_from,
)
from wad.store.sqlite.schema import STEPS
from wad.store.sqlite.threads import mark_read, put_chat
from wad.store.sqlite.unique_indexes import pop_marked_count

T = TypeVar("T")

_unpack_status: Final = msgspec.msgpack.Decoder(AccountStatus).decode


_CHECKPOINT_PAGES: Final = 3000
"""Pages in the write-ahead log after which they are written to the file, 12 MB.  SQLite's default of 1000 is reached
after ten batches of messages, and most pages change again in the next ten."""

_MARK_AS_USED: Final = (
    "INSERT OR IGNORE INTO meta"
    " VALUES ('begun_ms', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))"
)
"""Distinguishes a store without content from one that was emptied (emptied.py)."""


class SqliteStore:
    """The adapter of `wad.store.port.Store` for one SQLite file."""

    kind = "sqlite"

    def __init__(
        self, path: Path, writing: sqlite3.Connection, reading: sqlite3.Connection
    ) -> None:
        self._path = path
        with translated(path):
            writing.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            with transaction(writing):
                writing.execute(_MARK_AS_USED)
                add_missing_chats(writing)
                self._marked = pop_marked_count(writing)
        self._writing = writing
        self._reading = reading
        self._writer = ThreadPoolExecutor(1, "store-write")
        self._reader = ThreadPoolExecutor(1, "store-read")
        self._closed = False

    @staticmethod
    async def open(path: Path, progress: Progress | None = None) -> SqliteStore:
        """Open or create the database; `progress` is called while the file of an older wad is upgraded.

        Raises Damaged, StateUnwritable, Unavailable (a newer wad wrote it, or `progress` stopped the upgrade).
        """
        return await asyncio.to_thread(SqliteStore._open, path, progress)

    @staticmethod
    def _open(path: Path, progress: Progress | None) -> SqliteStore:
        writing = open_database(path, STEPS, progress)
        try:
            return SqliteStore(path, writing, open_reader(path))
        except BaseException:
            writing.close()
            raise

    async def close(self) -> None:
        """Finish running work, then close the file.  Idempotent."""
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.shutdown()
        self._reader.shutdown()
        self._reading.close()
        self._writing.close()  # the last connection to close writes the log into the file

    @property
    def sync_status(self) -> SyncStatus | None:
        """None: everything is stored on this machine."""
        return None

    @property
    def staff(self) -> Staff | None:
        """None: no app has a list of employees here."""
        return None

    def problems(self) -> Sequence[Problem]:
        """The number of duplicates that the upgrade of the file has marked."""
        if not self._marked:
            return ()
        text = (
            f"{self._marked} messages in {self._path} had been stored twice: the log names those that are now marked as"
            " duplicates, `wadctl audit messages` counts them"
        )
        return (Problem(code="notice", text=text, subject="stored_twice"),)

    @property
    def quarantine(self) -> Source | None:
        """None: no other program writes here."""
        return None

    # --- threads of execution -------------------------------------------------------------------

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run(self._reader, self._snapshot, work)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run(self._writer, self._commit, work)

    async def _run(
        self,
        executor: ThreadPoolExecutor,
        how: Callable[[Callable[[sqlite3.Connection], T]], T],
        work: Callable[[sqlite3.Connection], T],
    ) -> T:
        if self._closed:
            raise Unavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(executor, how, work)

    def _snapshot(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read in one transaction, so that several queries see the same state."""
        with translated(self._path), transaction(self._reading, "DEFERRED"):
            return work(self._reading)

    def _commit(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with translated(self._path), transaction(self._writing):
            return work(self._writing)

    # --- received facts -----------------------------------------------------------------------------

    async def record(
        self, account: str, changes: Sequence[Change], cursor: Cursor | None = None
    ) -> Recorded:
        """Apply changes and move the cursor in one transaction."""

        def work(db: sqlite3.Connection) -> Recorded:
            recorded = self._put(db, account, changes)
            if cursor is not None:
                db.execute(
                    "INSERT OR REPLACE INTO cursors VALUES (?,?,?)",
                    (account, cursor.generation, cursor.seq),
                )
            return recorded

        return await self._write(work)

    def _put(self, db: sqlite3.Connection, account: str, changes: Sequence[Change]) -> Recorded:
        """Apply changes, inside a transaction."""
        return _apply(db, account, changes)

    async def cursor(self, account: str) -> Cursor | None:
        """The position up to which this account's spool is recorded."""
        query = "SELECT generation, seq FROM cursors WHERE account = ?"
        row = await self._read(lambda db: db.execute(query, (account,)).fetchone())
        return Cursor(*row) if row else None

    async def aliases(self, account: str) -> list[PutAlias]:
        """Every LID of an account whose number is known."""
        query = "SELECT lid, pn, at_ms FROM aliases WHERE account = ?"
        rows = await self._read(lambda db: db.execute(query, (account,)).fetchall())
        return [PutAlias(*row) for row in rows]

    async def recipient(self, account: str, to: Jid) -> Recipient:
        """The address to which a message to `to` is sent."""
        found, known = await self._read(lambda db: recipient(db, account, str(to)))
        return Recipient(Jid.parse(found), known)

    # --- reading ------------------------------------------------------------------------------------

    async def thread(self, thread: str) -> Thread | None:
        """One thread."""
        query = f"SELECT {THREAD_COLUMNS} FROM threads WHERE id = ? AND messages > 0"
        row = await self._read(
            lambda db: db.execute(query, (resolve_thread(db, thread),)).fetchone()
        )
        return thread_from(row) if row else None

    async def threads(
        self, account: str | None, *, limit: int, before: PagePosition | None = None
    ) -> list[Thread]:
        """Threads, newest first."""
        where, values = _where({"account": account}, "last_ms", before)
        shown = f"{where} AND messages > 0" if where else "WHERE messages > 0"
        query = (
            f"SELECT {THREAD_COLUMNS} FROM threads {shown} ORDER BY last_ms DESC, id DESC LIMIT ?"
        )
        rows = await self._read(lambda db: db.execute(query, (*values, limit)).fetchall())
        return [thread_from(row) for row in rows]

    async def messages(
        self, thread: str, *, limit: int, before: PagePosition | None = None
    ) -> list[Message]:
        """A thread's messages, newest first."""
        where = f"WHERE thread = ? AND {SHOWN}"
        values: list[Any] = []
        if before is not None:
            where += " AND (at_ms, seen, id) < (?, ?, ?)"
            values = [before.at_ms, before.seen, before.id]
        query = (
            f"SELECT {MESSAGE_COLUMNS} FROM messages {where}"
            " ORDER BY at_ms DESC, seen DESC, id DESC LIMIT ?"
        )

        def work(db: sqlite3.Connection) -> list[Message]:
            found: list[Message] = []
            size = 0
            with closing(db.execute(query, (resolve_thread(db, thread), *values, limit))) as rows:
                for row in rows:
                    size += sum(len(value) for value in row if isinstance(value, bytes | str))
                    if found and size > PAGE_BYTES:
                        break
                    found.append(message_from(row))
            return [with_numbers(db, message) for message in found]

        return await self._read(work)

    async def message(self, ident: str) -> Message | None:
        """One message."""

        def work(db: sqlite3.Connection) -> Message | None:
            row = row_by_id(db, ident)
            return None if row is None else with_numbers(db, row.present)

        return await self._read(work)

    async def message_ids(self, beginning: str, *, limit: int) -> list[str]:
        """Ids of messages that begin with this text."""
        return await self._read(lambda db: _ids(db, "messages", beginning, limit))

    async def oldest(self, thread: str) -> Message | None:
        """The oldest message of a thread that the phone can find by its WhatsApp id."""
        return await self._read(lambda db: history.oldest(db, thread))

    async def placeholders(self, account: str, *, limit: int) -> list[Message]:
        """The newest messages without content."""
        return await self._read(lambda db: history.placeholders(db, account, limit))

    async def recount(self, account: str) -> int:
        """Derive the summaries of the account's threads again."""
        return await self._write(lambda db: history.recount(db, account))

    async def totals(self, account: str) -> Totals:
        """Counts of one account."""

        def work(db: sqlite3.Connection) -> Totals:
            threads, messages = db.execute(
                "SELECT count(*), coalesce(sum(messages), 0) FROM threads"
                " WHERE account = ? AND messages > 0",
                (account,),
            ).fetchone()
            states = db.execute(
                "SELECT state, count(*) FROM outbox WHERE account = ? GROUP BY state", (account,)
            )
            oldest = db.execute(
                "SELECT created_ms FROM outbox WHERE account = ? AND state = 'queued' ORDER BY number LIMIT 1",
                (account,),
            ).fetchone()
            return Totals(
                threads,
                messages,
                {MessageStatus(state): count for state, count in states},
                _count_lost(db, account),
                oldest[0] if oldest else None,
            )

        return await self._read(work)

    async def mark_read(self, thread: str) -> None:
        """Set a thread's unread count to zero."""
        await self._write(lambda db: mark_read(db, resolve_thread(db, thread)))

    # --- exclusive writes -----------------------------------------------------------------------------

    async def epoch(self) -> int:
        """The newest epoch that was ever fenced."""
        return await self._read(newest_epoch)

    async def fence(self, epoch: int) -> None:
        """Refuse older epochs from now on.  Raises Fenced."""

        def work(db: sqlite3.Connection) -> None:
            _check_epoch(db, epoch)
            db.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (epoch,))

        await self._write(work)

    @asynccontextmanager
    async def lead(self, epoch: int, on_queued: Callable[[str], None]) -> AsyncIterator[None]:
        """Fence the epoch; no other program queues entries here."""
        await self.fence(epoch)
        yield

    async def put_account(self, status: AccountStatus, *, epoch: int) -> None:
        """Publish an account's status."""

        def work(db: sqlite3.Connection) -> None:
            _check_epoch(db, epoch)
            db.execute(
                "INSERT OR REPLACE INTO accounts VALUES (?,?)", (status.account, pack(status))
            )

        await self._write(work)

    async def accounts(self) -> list[AccountStatus]:
        """The published status of every account."""
        query = "SELECT status FROM accounts ORDER BY account"
        return [
            _unpack_status(row[0])
            for row in await self._read(lambda db: db.execute(query).fetchall())
        ]

    async def auto_reply(self, account: str) -> AutoReply | None:
        """None: no other program writes here."""
        return None

    async def forget_account(self, account: str, *, epoch: int) -> None:
        """Withdraw an account's published status."""

        def work(db: sqlite3.Connection) -> None:
            _check_epoch(db, epoch)
            db.execute("DELETE FROM accounts WHERE account = ?", (account,))

        await self._write(work)

    # --- outbox -----------------------------------------------------------------------------------------

    async def enqueue(self, entry: Entry) -> Enqueued:
        """Queue a message and show it in its thread."""

        def work(db: sqlite3.Connection) -> Enqueued:
            known = load_entry(db, entry.id)
            if known is not None:
                same_message(known, Jid.parse(entry.to), entry.content)
                return Enqueued(known, duplicate=True)
            insert_entry(db, entry)
            return Enqueued(entry, duplicate=False)

        return await self._write(work)

    async def next_entry(self, account: str, *, but: Collection[str] = ()) -> Entry | None:
        """The next queued entry to send."""
        return await self._read(lambda db: next_entry(db, account, but))

    async def entry(self, ident: str) -> Entry | None:
        """One outbox entry."""
        return await self._read(lambda db: load_entry(db, ident))

    async def entry_ids(self, beginning: str, *, limit: int) -> list[str]:
        """Ids of outbox entries that begin with this text."""
        return await self._read(lambda db: _ids(db, "outbox", beginning, limit))

    async def entries(
        self,
        account: str | None,
        *,
        states: Collection[MessageStatus] = (),
        limit: int = 100,
        before: PagePosition | None = None,
    ) -> list[Entry]:
        """Outbox entries, newest first."""
        where, values = _where({"account": account}, "created_ms", before)
        if states:
            where += (" AND " if where else "WHERE ") + f"state IN ({','.join('?' * len(states))})"
            values += [str(state) for state in states]
        query = f"SELECT id, entry FROM outbox {where} ORDER BY created_ms DESC, id DESC LIMIT ?"
        return await self._read(
            lambda db: list(readable(db.execute(query, (*values, limit)).fetchall()))
        )

    async def settle(self, ident: str, outcome: Outcome, *, epoch: int) -> Entry:
        """Apply an outcome to an entry and its message."""

        def work(db: sqlite3.Connection) -> Entry:
            _check_epoch(db, epoch)
            entry = load_entry(db, ident)
            if entry is None:
                raise NotFound(f"there is no message {ident}", hint="wadctl outbox lists them")
            after = advance(entry, outcome)
            match outcome:
                case Claimed():
                    record_claim(db, entry)
                case Retry():
                    requeue(db, entry)
            return settle_entry(db, after)

        return await self._write(work)


# --- inside a transaction -------------------------------------------------------------------------


def _apply(db: sqlite3.Connection, account: str, changes: Sequence[Change]) -> Recorded:
    lost = _count_lost(db, account)
    new: list[Message] = []
    changed: dict[str, Message] = {}
    known = 0
    for change in changes:
        match change:
            case PutMessage(message):
                stored = put_message(db, message)
                known += stored is None
                if stored is not None:
                    new.append(stored)
            case PutAmendment():
                changed |= {found.id: found for found in receive_amendment(db, account, change)}
            case PutMark():
                put_mark(db, account, change)
            case PutChat():
                put_chat(db, account, resolve_thread(db, change.thread), change)
            case PutAlias():
                put_alias(db, account, change)
            case PutNumber():
                put_number(db, account, change)
            case _:
                assert_never(change)
    return Recorded(
        tuple(with_numbers(db, message) for message in new),
        known,
        tuple(with_numbers(db, message) for message in changed.values()),
        _count_lost(db, account) - lost,
    )


def _count_lost(db: sqlite3.Connection, account: str) -> int:
    query = f"SELECT count(*) FROM messages WHERE account = ? AND kind = 'lost' AND {PLACEHOLDER} AND {SHOWN}"
    return int(db.execute(query, (account,)).fetchone()[0])


def newest_epoch(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    return int(row[0]) if row else 0


def _check_epoch(db: sqlite3.Connection, epoch: int) -> None:
    known = newest_epoch(db)
    if epoch < known:
        raise Fenced(f"epoch {epoch} is over, epoch {known} has begun")


def _ids(db: sqlite3.Connection, table: str, beginning: str, limit: int) -> list[str]:
    """Different ids of a table with this beginning."""
    query = f"SELECT DISTINCT id FROM {table} WHERE id >= ?1 AND id < ?1 || char(1114111) ORDER BY id LIMIT ?2"
    return [ident for (ident,) in db.execute(query, (beginning, limit)).fetchall()]


def _where(
    equal: dict[str, str | None], column: str, before: PagePosition | None
) -> tuple[str, list[Any]]:
    terms = [f"{name} = ?" for name, value in equal.items() if value is not None]
    values: list[Any] = [value for value in equal.values() if value is not None]
    if before is not None:
        terms.append(f"({column}, id) < (?, ?)")
        values += [before.at_ms, before.id]
    return (f"WHERE {' AND '.join(terms)}" if terms else ""), values
