"""The embedded store: one SQLite file, for an installation on one machine.

One thread writes, another reads (write-ahead log), so that looking never waits for storing.  Every commit is synced
(`synchronous=FULL`): the cursor moves in the same transaction as the messages, and the spool may prune what lies before it.

Receipts are matched by account and WhatsApp id alone: the same person's receipt may come from the number or from the hidden
id, and WhatsApp's ids are random.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from wad.core.errors import Conflict, Fenced, NotFound, StateUnwritable
from wad.core.event import Content, Mark
from wad.core.jid import Jid, JidKind
from wad.core.message import (
    Change,
    Message,
    MessageStatus,
    PutAlias,
    PutMark,
    PutMessage,
    Thread,
    further,
    preview,
    status_of,
)
from wad.core.outbox import Entry, Marked, Outcome, Sent, advance, message_of, same_message
from wad.spool import translate_errors
from wad.store.migrations import migrate
from wad.store.port import AccountStatus, Cursor, Enqueued, Page, Recorded, Totals

T = TypeVar("T")

_MESSAGE_COLUMNS: Final = (
    "id, account, thread, chat, sender, from_me, at_ms, wa_id, status, push_name, client_id, "
    "stable_key, fingerprint, content"
)
_PUT_MESSAGE: Final = (
    f"INSERT OR IGNORE INTO messages ({_MESSAGE_COLUMNS}) VALUES ({','.join('?' * 14)})"
)
_LATER: Final = "(excluded.last_ms, excluded.last_id) > (threads.last_ms, threads.last_id)"
_PUT_THREAD: Final = f"""
INSERT INTO threads (id, account, chat, name, name_ms, last_ms, last_id, last_text, last_from_me, unread, messages)
VALUES (?,?,?,?,?,?,?,?,?,?,1)
ON CONFLICT (id) DO UPDATE SET
    name = CASE WHEN (excluded.name_ms, excluded.name) > (threads.name_ms, threads.name)
           THEN excluded.name ELSE threads.name END,
    name_ms = max(excluded.name_ms, threads.name_ms),
    last_text = CASE WHEN {_LATER} THEN excluded.last_text ELSE threads.last_text END,
    last_from_me = CASE WHEN {_LATER} THEN excluded.last_from_me ELSE threads.last_from_me END,
    last_id = CASE WHEN {_LATER} THEN excluded.last_id ELSE threads.last_id END,
    last_ms = max(excluded.last_ms, threads.last_ms),
    unread = threads.unread + excluded.unread,
    messages = threads.messages + 1
"""
_THREAD_COLUMNS: Final = (
    "id, account, chat, name, last_ms, last_text, last_from_me, unread, messages"
)
_pack: Final = msgspec.msgpack.Encoder().encode
_content: Final = msgspec.msgpack.Decoder(Content).decode
_entry: Final = msgspec.msgpack.Decoder(Entry).decode
_status: Final = msgspec.msgpack.Decoder(AccountStatus).decode


class SqliteStore:
    """`wad.store.port.Store` in one file."""

    kind = "sqlite"

    def __init__(
        self, path: Path, writing: sqlite3.Connection, reading: sqlite3.Connection
    ) -> None:
        self._path = path
        self._writing = writing
        self._reading = reading
        self._writer = ThreadPoolExecutor(1, "store-write")
        self._reader = ThreadPoolExecutor(1, "store-read")

    @staticmethod
    async def open(path: Path) -> SqliteStore:
        """Open or make the database.  Raises Damaged, StateUnwritable, Unavailable."""
        return await asyncio.to_thread(SqliteStore._open, path)

    @staticmethod
    def _open(path: Path) -> SqliteStore:
        try:
            path.touch(mode=0o600)
            writing = _connect(path)
            reading = _connect(path)
            reading.execute("PRAGMA query_only=ON")
        except OSError as error:
            raise StateUnwritable(f"cannot write {path}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise translate_errors(error, path) from error
        return SqliteStore(path, writing, reading)

    async def close(self) -> None:
        """Finish what runs, then close the file."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.shutdown()
        self._reader.shutdown()
        self._reading.close()
        self._writing.close()

    # --- threads of execution -------------------------------------------------------------------

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._reader, self._guarded, work, self._reading
        )

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._committed, work)

    def _guarded(self, work: Callable[[sqlite3.Connection], T], db: sqlite3.Connection) -> T:
        try:
            return work(db)
        except sqlite3.Error as error:
            raise translate_errors(error, self._path) from error

    def _committed(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def transaction(db: sqlite3.Connection) -> T:
            db.execute("BEGIN IMMEDIATE")
            try:
                result = work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return result

        return self._guarded(transaction, self._writing)

    # --- received facts -----------------------------------------------------------------------------

    async def record(
        self, account: str, changes: Sequence[Change], cursor: Cursor | None = None
    ) -> Recorded:
        """Apply changes, move the cursor: one transaction."""

        def work(db: sqlite3.Connection) -> Recorded:
            new: list[Message] = []
            known = 0
            for change in changes:
                match change:
                    case PutMessage(message):
                        stored = _put_message(db, message)
                        known += stored is None
                        if stored is not None:
                            new.append(stored)
                    case PutMark():
                        _put_mark(db, account, change)
                    case PutAlias(lid, pn):
                        db.execute(
                            "INSERT OR REPLACE INTO aliases VALUES (?,?,?)", (account, lid, pn)
                        )
            if cursor is not None:
                db.execute(
                    "INSERT OR REPLACE INTO cursors VALUES (?,?,?)",
                    (account, cursor.generation, cursor.seq),
                )
            return Recorded(tuple(new), known)

        return await self._write(work)

    async def cursor(self, account: str) -> Cursor | None:
        """How far this account's spool was recorded."""
        query = "SELECT generation, seq FROM cursors WHERE account = ?"
        row = await self._read(lambda db: db.execute(query, (account,)).fetchone())
        return Cursor(*row) if row else None

    async def aliases(self, account: str) -> dict[str, str]:
        """Every known LID -> PN of an account."""
        query = "SELECT lid, pn FROM aliases WHERE account = ?"
        return dict(await self._read(lambda db: db.execute(query, (account,)).fetchall()))

    # --- reading ------------------------------------------------------------------------------------

    async def thread(self, thread: str) -> Thread | None:
        """One thread."""
        query = f"SELECT {_THREAD_COLUMNS} FROM threads WHERE id = ?"
        row = await self._read(lambda db: db.execute(query, (thread,)).fetchone())
        return _thread(row) if row else None

    async def threads(
        self, account: str | None, *, limit: int, before: Page | None = None
    ) -> list[Thread]:
        """Threads, newest first."""
        where, values = _where({"account": account}, "last_ms", before)
        query = (
            f"SELECT {_THREAD_COLUMNS} FROM threads {where} ORDER BY last_ms DESC, id DESC LIMIT ?"
        )
        rows = await self._read(lambda db: db.execute(query, (*values, limit)).fetchall())
        return [_thread(row) for row in rows]

    async def messages(
        self, thread: str, *, limit: int, before: Page | None = None
    ) -> list[Message]:
        """A thread's messages, newest first."""
        where, values = _where({"thread": thread}, "at_ms", before)
        query = (
            f"SELECT {_MESSAGE_COLUMNS} FROM messages {where} ORDER BY at_ms DESC, id DESC LIMIT ?"
        )
        rows = await self._read(lambda db: db.execute(query, (*values, limit)).fetchall())
        return [_message(row) for row in rows]

    async def has_messages(self, account: str, wa_ids: Collection[str]) -> set[str]:
        """Which of these WhatsApp ids are stored."""
        query = "SELECT 1 FROM messages WHERE account = ? AND wa_id = ?"

        def work(db: sqlite3.Connection) -> set[str]:
            return {ident for ident in wa_ids if db.execute(query, (account, ident)).fetchone()}

        return await self._read(work)

    async def totals(self, account: str) -> Totals:
        """Counts of one account."""

        def work(db: sqlite3.Connection) -> Totals:
            threads, messages = db.execute(
                "SELECT count(*), coalesce(sum(messages), 0) FROM threads WHERE account = ?",
                (account,),
            ).fetchone()
            states = db.execute(
                "SELECT state, count(*) FROM outbox WHERE account = ? GROUP BY state", (account,)
            )
            return Totals(
                threads, messages, {MessageStatus(state): count for state, count in states}
            )

        return await self._read(work)

    async def mark_read(self, thread: str) -> None:
        """Set a thread's unread count to zero."""
        await self._write(
            lambda db: db.execute("UPDATE threads SET unread = 0 WHERE id = ?", (thread,))
        )

    # --- exclusive writes -----------------------------------------------------------------------------

    async def epoch(self) -> int:
        """The newest epoch that was ever fenced."""
        return await self._read(_known_epoch)

    async def fence(self, epoch: int) -> None:
        """Refuse older epochs from now on."""

        def work(db: sqlite3.Connection) -> None:
            _check_epoch(db, epoch)
            db.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (epoch,))

        await self._write(work)

    async def put_account(self, status: AccountStatus, *, epoch: int) -> None:
        """Publish an account's status."""

        def work(db: sqlite3.Connection) -> None:
            _check_epoch(db, epoch)
            db.execute(
                "INSERT OR REPLACE INTO accounts VALUES (?,?)", (status.account, _pack(status))
            )

        await self._write(work)

    async def accounts(self) -> list[AccountStatus]:
        """The published status of every account."""
        query = "SELECT status FROM accounts ORDER BY account"
        return [
            _status(row[0]) for row in await self._read(lambda db: db.execute(query).fetchall())
        ]

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
            row = db.execute("SELECT entry FROM outbox WHERE id = ?", (entry.id,)).fetchone()
            if row is not None:
                known = _entry(row[0])
                same_message(known, Jid.parse(entry.to), entry.text)
                return Enqueued(known, duplicate=True)
            db.execute(
                "INSERT INTO outbox (id, account, state, created_ms, wa_id, entry) VALUES (?,?,?,?,?,?)",
                (entry.id, entry.account, entry.state, entry.created_ms, entry.wa_id, _pack(entry)),
            )
            _put_message(db, message_of(entry))
            return Enqueued(entry, duplicate=False)

        return await self._write(work)

    async def next_entry(self, account: str) -> Entry | None:
        """The oldest queued entry."""
        query = "SELECT entry FROM outbox WHERE account = ? AND state = 'queued' ORDER BY number LIMIT 1"
        row = await self._read(lambda db: db.execute(query, (account,)).fetchone())
        return _entry(row[0]) if row else None

    async def entry(self, ident: str) -> Entry | None:
        """One outbox entry."""
        query = "SELECT entry FROM outbox WHERE id = ?"
        row = await self._read(lambda db: db.execute(query, (ident,)).fetchone())
        return _entry(row[0]) if row else None

    async def entries(
        self,
        account: str | None,
        *,
        states: Collection[MessageStatus] = (),
        limit: int = 100,
        before: Page | None = None,
    ) -> list[Entry]:
        """Outbox entries, newest first."""
        where, values = _where({"account": account}, "created_ms", before)
        if states:
            where += (" AND " if where else "WHERE ") + f"state IN ({','.join('?' * len(states))})"
            values += [str(state) for state in states]
        query = f"SELECT entry FROM outbox {where} ORDER BY created_ms DESC, id DESC LIMIT ?"
        rows = await self._read(lambda db: db.execute(query, (*values, limit)).fetchall())
        return [_entry(row[0]) for row in rows]

    async def settle(self, ident: str, outcome: Outcome, *, epoch: int) -> Entry:
        """Move an entry on, and its message with it."""

        def work(db: sqlite3.Connection) -> Entry:
            _check_epoch(db, epoch)
            row = db.execute("SELECT entry FROM outbox WHERE id = ?", (ident,)).fetchone()
            if row is None:
                raise NotFound(f"there is no message {ident}", hint="wadctl outbox lists them")
            return _put_entry(db, advance(_entry(row[0]), outcome))

        return await self._write(work)


# --- inside a transaction ---------------------------------------------------------------------------------


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        migrate(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _known_epoch(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    return int(row[0]) if row else 0


def _check_epoch(db: sqlite3.Connection, epoch: int) -> None:
    known = _known_epoch(db)
    if epoch < known:
        raise Fenced(f"epoch {epoch} is over, epoch {known} has begun")


def _put_message(db: sqlite3.Connection, message: Message) -> Message | None:
    """Insert a message that is new, and show it in its thread; None when it is known."""
    if message.from_me and message.wa_id and _is_echo(db, message):
        return None
    row = (
        message.id, message.account, message.thread, message.chat, message.sender, message.from_me, message.at_ms,
        message.wa_id, message.status, message.push_name, message.client_id, message.stable_key,
        message.fingerprint, _pack(message.content),
    )  # fmt: skip
    if db.execute(_PUT_MESSAGE, row).rowcount == 0:
        return None
    _show_in_thread(db, message)
    if message.from_me and message.wa_id:
        _apply_marks(db, message.account, message.wa_id)
    return message


def _is_echo(db: sqlite3.Connection, message: Message) -> bool:
    """Whether this is a message of our outbox; seeing it is evidence that it was sent."""
    row = db.execute(
        "SELECT entry FROM outbox WHERE account = ? AND wa_id = ? AND wa_id != ''",
        (message.account, message.wa_id),
    ).fetchone()
    if row is None:
        return False
    entry = _entry(row[0])
    if entry.state in (MessageStatus.SENDING, MessageStatus.UNCERTAIN):
        _put_entry(db, advance(entry, Sent(message.wa_id, message.at_ms)))
    return True


def _show_in_thread(db: sqlite3.Connection, message: Message) -> None:
    private = Jid.parse(message.chat).kind in (JidKind.PN, JidKind.LID)
    name = message.push_name if private and not message.from_me else ""
    db.execute(
        _PUT_THREAD,
        (
            message.thread, message.account, message.chat, name, message.at_ms if name else 0, message.at_ms,
            message.id, preview(message.content), message.from_me, not message.from_me,
        ),
    )  # fmt: skip


def _put_mark(db: sqlite3.Connection, account: str, change: PutMark) -> None:
    db.execute(
        "INSERT OR IGNORE INTO marks VALUES (?,?,?,?,?)",
        (account, change.wa_id, change.by, change.mark, change.at_ms),
    )
    _apply_marks(db, account, change.wa_id)


def _apply_marks(db: sqlite3.Connection, account: str, wa_id: str) -> None:
    """Let what receipts said count for the message and its entry, whichever came first."""
    marks = db.execute(
        "SELECT DISTINCT mark FROM marks WHERE account = ? AND wa_id = ?", (account, wa_id)
    ).fetchall()
    for (word,) in marks:
        mark = Mark(word)
        row = db.execute(
            "SELECT entry FROM outbox WHERE account = ? AND wa_id = ? AND wa_id != ''",
            (account, wa_id),
        ).fetchone()
        if row is not None:
            _try_mark(db, _entry(row[0]), mark)
            continue
        rows = db.execute(
            "SELECT id, status FROM messages WHERE account = ? AND wa_id = ? AND from_me",
            (account, wa_id),
        ).fetchall()
        for ident, status in rows:
            after = further(MessageStatus(status), status_of(mark))
            db.execute("UPDATE messages SET status = ? WHERE id = ?", (after, ident))


def _try_mark(db: sqlite3.Connection, entry: Entry, mark: Mark) -> None:
    try:
        moved = advance(entry, Marked(mark))
    except Conflict:
        return  # queued again or given up by a person since; the receipt is kept in `marks`
    if moved != entry:
        _write_entry(db, moved)


def _put_entry(db: sqlite3.Connection, entry: Entry) -> Entry:
    _write_entry(db, entry)
    if entry.wa_id:
        _apply_marks(db, entry.account, entry.wa_id)
        row = db.execute("SELECT entry FROM outbox WHERE id = ?", (entry.id,)).fetchone()
        return _entry(row[0])
    return entry


def _write_entry(db: sqlite3.Connection, entry: Entry) -> None:
    message = message_of(entry)
    db.execute(
        "UPDATE outbox SET state = ?, wa_id = ?, entry = ? WHERE id = ?",
        (entry.state, entry.wa_id, _pack(entry), entry.id),
    )
    db.execute(
        "UPDATE messages SET status = ?, wa_id = ?, at_ms = ? WHERE id = ?",
        (message.status, message.wa_id, message.at_ms, message.id),
    )
    db.execute(
        "UPDATE threads SET last_ms = max(last_ms, ?) WHERE id = ? AND last_id = ?",
        (message.at_ms, message.thread, message.id),
    )


# --- rows and words -----------------------------------------------------------------------------------------


def _where(equal: dict[str, str | None], column: str, before: Page | None) -> tuple[str, list[Any]]:
    terms = [f"{name} = ?" for name, value in equal.items() if value is not None]
    values: list[Any] = [value for value in equal.values() if value is not None]
    if before is not None:
        terms.append(f"({column}, id) < (?, ?)")
        values += [before.at_ms, before.id]
    return (f"WHERE {' AND '.join(terms)}" if terms else ""), values


def _message(row: tuple[Any, ...]) -> Message:
    names = _MESSAGE_COLUMNS.split(", ")
    found = dict(zip(names, row, strict=True))
    return Message(
        **{
            **found,
            "from_me": bool(found["from_me"]),
            "status": MessageStatus(found["status"]),
            "content": _content(found["content"]),
        }
    )


def _thread(row: tuple[Any, ...]) -> Thread:
    found = dict(zip(_THREAD_COLUMNS.split(", "), row, strict=True))
    return Thread(**{**found, "last_from_me": bool(found["last_from_me"])})
