"""The working copy on this machine: the embedded store with a change log for the push to Firestore.

It serves every read, so that reads are cheap and need no network.  Documents of other machines are recorded as the same
facts from which they were built there; facts may arrive in any order and repeatedly (`store.port`), so two copies with
the same facts are equal.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, assert_never

import msgspec

from wad.core.change import Change, PutAmendment, PutChat, PutMark, PutMessage
from wad.core.errors import BadInput, WadError
from wad.core.message import Message, MessageStatus
from wad.core.outbox import Claim, Entry
from wad.core.quarantine import Quarantined
from wad.core.untrusted import map_, text
from wad.core.untrusted import packed as packed_in
from wad.lib.sqlite_file import Progress, open_database, open_reader, savepoint, translated
from wad.store.app_documents import message_path
from wad.store.firestore.client.database import version_of
from wad.store.firestore.client.decode import Snapshot
from wad.store.firestore.client.document_ids import is_key
from wad.store.firestore.documents.build import DocumentWrite, document_of
from wad.store.firestore.documents.decode import DocumentFacts, Published, Queued, RemoteDocument
from wad.store.firestore.documents.facts import Fact, packed
from wad.store.firestore.documents.legacy import message_of
from wad.store.firestore.documents.outbox import reconciled
from wad.store.firestore.sync import change_log, quarantine_rows
from wad.store.firestore.sync.change_log import EXCLUSIVE, LAST, Dirty, KeyKind
from wad.store.firestore.sync.legacy import (
    LegacyLocation,
    ThreadCheck,
    Wanted,
    take_over,
    unchecked_threads_of,
    wanted_messages,
)
from wad.store.firestore.sync.quarantine_rows import FailedAction, QuarantinedDocument
from wad.store.port import AccountStatus, Recorded
from wad.store.sqlite.messages import insert_entry
from wad.store.sqlite.outbox import load_entry, settle_entry
from wad.store.sqlite.rows import HAS_WA_ID, pack, resolve_thread, row_by_id
from wad.store.sqlite.schema import STEPS
from wad.store.sqlite.store import SqliteStore, newest_epoch

log = logging.getLogger(__name__)

Documents = Mapping[tuple[KeyKind, str], Mapping[str, Any]]
"""Documents as they are in Firestore, by their kind and key."""

WAITING_BYTES: Final = 16 << 20
"""The limit of one read of waiting documents, so that many large documents do not fill the memory."""
_LOOKED: Final = (
    "INSERT INTO looked (thread, last_ms, until_ms) VALUES (?,?,?) ON CONFLICT (thread) DO UPDATE SET"
    " last_ms = max(last_ms, excluded.last_ms), until_ms = max(until_ms, excluded.until_ms), stale = 0"
)
_READ_UNTIL: Final = "SELECT account, chat, read_ms FROM threads WHERE id = ? AND read_ms > 0"


def open_replica(
    path: Path, progress: Progress | None = None
) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Open the two connections for the constructor.  Raises as `SqliteStore.open`."""
    writing = open_database(path, STEPS, progress)
    try:
        with translated(path):
            change_log.install(writing)
        return writing, open_reader(path)
    except BaseException:
        writing.close()
        raise


class Replica(SqliteStore):
    """The embedded store with a change log."""

    instance = ""
    """The name of this instance; it is the holder in claims of entries."""
    machine = ""
    """The id of this machine; it is written into documents (`wadBy`)."""
    quarantined = 0
    """The number of documents in quarantine, as last counted."""
    refused = 0
    """The number of these that are ours and that Firestore refuses."""
    unlisted = 0
    """The number of documents that are no longer listed in quarantine, since there were too many."""

    # --- the change log ---------------------------------------------------------------------------

    def _put(self, db: sqlite3.Connection, account: str, changes: Sequence[Change]) -> Recorded:
        """Record the changes, and log facts that no document holds in full: amendments, chats, early receipts."""
        recorded = super()._put(db, account, changes)
        for change in changes:
            match change:
                case PutAmendment() | PutChat():
                    _put_fact(db, account, change)
                case PutMark() if not _has_message(db, account, change):
                    _put_fact(db, account, change)
        return recorded

    async def mark_read(self, thread: str) -> None:
        """Mark all stored messages as read, here and for the next holder."""
        await super().mark_read(thread)
        await self._write(lambda db: _note_reading(db, resolve_thread(db, thread)))

    async def waiting(
        self,
        limit: int,
        kinds: Iterable[KeyKind],
        *,
        after: int = 0,
        upto: int = LAST,
        size: int = WAITING_BYTES,
    ) -> list[DocumentWrite]:
        """The documents that wait longest, with numbers after `after` and up to `upto`.

        At least one, and about `size` bytes in all.
        """

        def work(db: sqlite3.Connection) -> list[DocumentWrite]:
            found: list[DocumentWrite] = []
            left = size
            for dirty in change_log.waiting(db, limit, kinds, after, upto):
                one = document_of(db, dirty)
                left -= one.size
                if found and left < 0:
                    break
                found.append(one)
            return found

        return await self._read(work)

    async def backlog(self, kinds: Iterable[KeyKind]) -> tuple[int, int | None]:
        """The number of documents of these kinds that wait for the push, and since when the oldest waits (ms since
        1970)."""
        return await self._read(lambda db: change_log.backlog(db, kinds))

    async def done(self, pushed: Iterable[DocumentWrite], refused: Mapping[int, str]) -> None:
        """Remove pushed documents from the log, and quarantine those that Firestore refuses (number: reason).

        Documents that were logged again meanwhile stay.
        """
        found = list(pushed)

        def work(db: sqlite3.Connection) -> None:
            change_log.done(db, [one.dirty for one in found])
            if self.quarantined or self.unlisted:
                quarantine_rows.remove(
                    db, [name for one in found for name in (one.path, _unmade(one))]
                )
            quarantine_rows.put(
                db,
                [
                    _refused(one, refused[one.dirty.seq])
                    for one in found
                    if one.dirty.seq in refused
                ],
            )

        await self._write(work)
        if refused or self.quarantined or self.unlisted:
            await self.count_quarantined()

    # --- quarantine -------------------------------------------------------------------------------

    async def count_quarantined(self) -> None:
        """Update the counts of the quarantine."""
        self.quarantined, self.refused, self.unlisted = await self._read(quarantine_rows.counts)

    async def known_quarantined(self, found: Iterable[Snapshot]) -> set[str]:
        """The paths of documents that are quarantined, or were dropped, in exactly this version."""
        versions = [(one.path, version_of(one.update_time)) for one in found]
        return await self._read(lambda db: quarantine_rows.known(db, versions))

    async def add_quarantined(self, items: Sequence[QuarantinedDocument]) -> None:
        """Put these documents into quarantine."""
        if items:
            await self._write(lambda db: quarantine_rows.put(db, items))
            await self.count_quarantined()

    async def release_quarantined(self, paths: Collection[str]) -> None:
        """Remove these documents from quarantine: they could be handled."""
        if (self.quarantined or self.unlisted) and paths:
            await self._write(lambda db: quarantine_rows.remove(db, paths))
            await self.count_quarantined()

    async def drop_quarantined(self, path: str) -> None:
        """Delete an item but keep its version."""
        await self._write(lambda db: quarantine_rows.drop(db, path))
        await self.count_quarantined()

    async def drop_unlisted(self) -> None:
        """Delete the items that are no longer listed."""
        await self._write(quarantine_rows.drop_more)
        await self.count_quarantined()

    async def release_unlisted(self) -> None:
        """Let the items that are no longer listed be handled again."""
        await self._write(quarantine_rows.release_more)
        await self.count_quarantined()

    async def quarantined_items(self) -> list[Quarantined]:
        """All items in quarantine."""
        return await self._read(quarantine_rows.items)

    async def quarantined_item(self, ident: str) -> QuarantinedDocument | None:
        """One item; None if it does not exist."""
        return await self._read(lambda db: quarantine_rows.find(db, ident))

    async def push_again(self, item: QuarantinedDocument) -> None:
        """Log a document of ours for another push."""

        def work(db: sqlite3.Connection) -> None:
            change_log.put(db, KeyKind(item.kind), item.key, item.payload)
            quarantine_rows.remove(db, [item.path])

        await self._write(work)
        await self.count_quarantined()

    # --- legacy documents -------------------------------------------------------------------------

    async def unchecked_threads(self, documents: Iterable[DocumentWrite]) -> list[str]:
        """The threads whose documents must be read before these documents are pushed."""
        found = list(documents)
        return await self._read(lambda db: unchecked_threads_of(db, found))

    async def exclusive_keys(self, limit: int) -> tuple[int, list[str]]:
        """Read the exclusive keys that wait longest.

        Returns the number of the last of them, 0 for none, and the threads whose documents must be read before.
        """
        query = "SELECT 1 FROM looked WHERE thread = ? AND NOT stale"

        def work(db: sqlite3.Connection) -> tuple[int, list[str]]:
            found = list(change_log.waiting(db, limit, EXCLUSIVE))
            threads = [one.key for one in found if one.kind is KeyKind.THREAD]
            unchecked = [one for one in threads if not db.execute(query, (one,)).fetchone()]
            return (found[-1].seq if found else 0), unchecked

        return await self._read(work)

    async def set_thread_checks(self, checks: Mapping[str, ThreadCheck]) -> None:
        """Store what was read of these threads."""
        values = [(thread, *check) for thread, check in checks.items()]
        await self._write(lambda db: db.executemany(_LOOKED, values))

    async def recheck_threads(self) -> None:
        """Read every thread's document again: another program may have held the lease meanwhile."""
        await self._write(lambda db: db.execute("UPDATE looked SET stale = 1"))

    async def wanted(self, documents: Sequence[DocumentWrite]) -> list[Wanted]:
        """The messages of these documents that may be in legacy documents."""
        return await self._read(lambda db: wanted_messages(db, documents))

    async def take_over_legacy(self, found: Iterable[LegacyLocation]) -> bool:
        """Take over the documents of these messages; return whether that changes a document."""

        def work(db: sqlite3.Connection) -> bool:
            changed = [self._take_over_alone(db, one) for one in found]
            return any(changed)

        news = await self._write(work)
        await self.count_quarantined()
        return news

    def _take_over_alone(self, db: sqlite3.Connection, found: LegacyLocation) -> bool:
        """Quarantine a document that cannot be stored, so that it does not hold up the others."""
        try:
            with savepoint(db):
                return self._take_over_legacy(db, found)
        except sqlite3.IntegrityError as error:
            thread = found.wanted.thread
            path, account = message_path(thread, found.ident), thread.partition("__")[0]
            quarantine_rows.put(db, [QuarantinedDocument(path, account, str(error))])
            return False

    def _take_over_legacy(self, db: sqlite3.Connection, found: LegacyLocation) -> bool:
        wanted = found.wanted
        if wanted.message:
            return take_over(db, found)
        try:
            message = message_of(wanted.thread, found.ident, wanted.wa_id, found.document)
        except BadInput as error:
            path = message_path(wanted.thread, found.ident)
            quarantine_rows.put(
                db, [QuarantinedDocument(path, wanted.thread.partition("__")[0], str(error))]
            )
            return False
        if row_by_id(db, found.ident) is not None:
            # Two accounts in one group: that backend gave WhatsApp's id to the documents of both.
            log.warning(
                "legacy message %s is not taken over: another message here has its id",
                found.ident,
            )
            return False
        self._put(db, message.account, [PutMessage(message)])
        return True

    async def import_messages(
        self, account: str, chat: PutChat | None, messages: Sequence[Message]
    ) -> int:
        """Record legacy messages that are not recorded yet; return their number.

        Their documents are not pushed: they are in Firestore as they are.  `chat` is recorded with the first new one.
        """

        def work(db: sqlite3.Connection) -> int:
            new = [one for one in messages if row_by_id(db, one.id, account) is None]
            if chat is not None and new:
                self._put(db, account, [chat])
            return sum(self._import(db, account, one) for one in new)

        return await self._write(work)

    def _import(self, db: sqlite3.Connection, account: str, message: Message) -> bool:
        """Record one legacy message; return whether it is new."""
        try:
            with savepoint(db):
                if not self._put(db, account, [PutMessage(message)]).new:
                    return False
        except sqlite3.IntegrityError as error:
            log.warning("legacy message %s is not imported: %s", message.id, error)
            return False
        row = row_by_id(db, message.id, account)
        if row is not None and row.original.thread == message.thread:
            for kind in (KeyKind.MESSAGE, KeyKind.WA_ID, KeyKind.DEDUPE):
                change_log.drop(db, kind, f"{message.thread}/{message.id}")
        return True

    # --- documents of other machines --------------------------------------------------------------

    async def record_remote(
        self, documents: Sequence[RemoteDocument]
    ) -> list[tuple[Snapshot, Exception]]:
        """Record documents of other machines; return those that cannot be recorded, and why.

        One transaction if all can be recorded: documents that are equal here must not be pushed in between.
        """
        if not documents:
            return []
        try:
            await self._write(lambda db: self._record_remote(db, documents))
        except Exception as error:
            if isinstance(error, WadError) and not isinstance(error, BadInput):
                raise  # the disk fails
            if len(documents) == 1:
                log.exception("%s cannot be recorded", documents[0].snapshot.path)
                return [(documents[0].snapshot, error)]
            half = len(documents) // 2
            return [
                *await self.record_remote(documents[:half]),
                *await self.record_remote(documents[half:]),
            ]
        await self.release_quarantined([one.snapshot.path for one in documents])
        return []

    def _record_remote(self, db: sqlite3.Connection, documents: Sequence[RemoteDocument]) -> None:
        facts: dict[str, list[Change]] = {}
        fields: dict[tuple[KeyKind, str], Mapping[str, Any]] = {}
        for one in documents:
            match one:
                case DocumentFacts():
                    fields[one.kind, one.key] = one.snapshot.fields
                    facts.setdefault(one.account, []).extend(one.changes)
                case Queued():
                    self._merge_entry(db, one.entry, one.snapshot.fields, sure=False)
                case Published():
                    _record_account(db, one.account, one.status)
                case _:
                    assert_never(one)
        for account, changes in facts.items():
            self._put(db, account, changes)
        _compare(db, fields)

    async def compare(self, documents: Documents) -> None:
        """Compare ours with these documents of Firestore; log those that differ."""
        await self._write(lambda db: _compare(db, documents))

    async def merge_entry(
        self, entry: Entry, document: Mapping[str, Any], *, sure: bool = False
    ) -> bool:
        """Merge an entry as it is in Firestore; return whether ours changed.

        `sure`: Firestore's entry wins even if ours waits for the push.
        """
        return await self._write(lambda db: self._merge_entry(db, entry, document, sure=sure))

    def _merge_entry(
        self, db: sqlite3.Connection, entry: Entry, document: Mapping[str, Any], *, sure: bool
    ) -> bool:
        writer = text(document, "wadBy")
        if writer and writer != self.machine:
            entry = claimed_elsewhere(entry, self.instance, writer)
        claim = Claim(self.instance, newest_epoch(db))
        return _merge_entry(db, entry, document, sure=sure, claim=claim)

    async def identity(self, name: str) -> str:
        """A stored value of this machine's identity; empty if there is none."""
        query = "SELECT value FROM identity WHERE name = ?"
        row = await self._read(lambda db: db.execute(query, (name,)).fetchone())
        return str(row[0]) if row else ""

    async def set_identity(self, values: Mapping[str, str]) -> None:
        """Store these values of this machine's identity."""
        await self._write(lambda db: _set_identity(db, values))

    async def take_identity(self, old: str, instance: str, values: Mapping[str, str]) -> None:
        """Become another machine than `old`: claims made until now may be those of another machine."""

        def work(db: sqlite3.Connection) -> None:
            _set_identity(db, values)
            query = "SELECT id FROM outbox WHERE state = ?"
            for (ident,) in db.execute(query, (MessageStatus.SENDING,)).fetchall():
                entry = load_entry(db, ident)
                if entry is not None:
                    settle_entry(db, claimed_elsewhere(entry, instance, old))

        await self._write(work)

    async def synced(self, source: str) -> str:
        """The time up to which a source was pulled; empty if never."""
        query = "SELECT until FROM synced WHERE source = ?"
        row = await self._read(lambda db: db.execute(query, (source,)).fetchone())
        return str(row[0]) if row else ""

    async def synced_all(self, ending: str) -> dict[str, str]:
        """The same for every source whose name ends with `ending`."""
        query = "SELECT source, until FROM synced WHERE substr(source, -?) = ?"
        return dict(
            await self._read(lambda db: db.execute(query, (len(ending), ending)).fetchall())
        )

    async def set_synced(self, source: str, until: str) -> None:
        """Store the time up to which a source was pulled."""
        await self._write(
            lambda db: db.execute("INSERT OR REPLACE INTO synced VALUES (?,?)", (source, until))
        )


def claimed_elsewhere(entry: Entry, instance: str, machine: str) -> Entry:
    """An entry claimed by `machine`, with its claim marked so that it is not taken for ours if the instance names are
    equal."""
    claim = entry.claim
    if claim is None or claim.holder != instance:
        return entry
    holder = f"{claim.holder} ({machine})"
    return msgspec.structs.replace(entry, claim=msgspec.structs.replace(claim, holder=holder))


def _set_identity(db: sqlite3.Connection, values: Mapping[str, str]) -> None:
    db.executemany("INSERT OR REPLACE INTO identity VALUES (?,?)", values.items())


def _unmade(document: DocumentWrite) -> str:
    """The name of a document that could not be built."""
    return f"{document.dirty.kind} {document.dirty.key}"


def _refused(document: DocumentWrite, why: str) -> QuarantinedDocument:
    dirty = document.dirty
    account = re.split("__| |/", dirty.key, maxsplit=1)[0]
    if dirty.kind is KeyKind.ENTRY:
        account = str((document.fields or {}).get("accountId", ""))
    return QuarantinedDocument(
        path=document.path or _unmade(document),
        account=account,
        reason=why,
        size=document.size,
        origin=FailedAction.WRITE,
        kind=dirty.kind,
        key=dirty.key,
        payload=dirty.payload,
    )


def _merge_entry(
    db: sqlite3.Connection, entry: Entry, document: Mapping[str, Any], *, sure: bool, claim: Claim
) -> bool:
    known = load_entry(db, entry.id)
    after = entry
    if known is None:
        insert_entry(db, msgspec.structs.replace(entry, wa_id=""))
    else:
        unpushed = not sure and change_log.waits(db, KeyKind.ENTRY, entry.id)
        after = reconciled(known, entry, unpushed=unpushed, claim=claim)
    if after != known:
        settle_entry(db, after)
        _leave_lookups(db, entry.id)
    _note_stray(db, entry, document)
    _compare(db, {(KeyKind.ENTRY, entry.id): document})
    return after != known


def _record_account(db: sqlite3.Connection, account: str, status: AccountStatus | None) -> None:
    """Record an account's status that another machine has published."""
    if status is None:
        db.execute("DELETE FROM accounts WHERE account = ?", (account,))
    else:
        db.execute("INSERT OR REPLACE INTO accounts VALUES (?,?)", (account, pack(status)))
    change_log.drop(db, KeyKind.ACCOUNT, account)


def _compare(db: sqlite3.Connection, documents: Documents) -> None:
    """Remove documents that are equal in Firestore from the log, and log those that differ."""
    for (kind, key), found in documents.items():
        ours = document_of(db, Dirty(0, kind, key, 0, 0, packed_in(found, "payload")))
        if ours.fields is not None and _is_same(ours.fields, found):
            change_log.drop(db, kind, key)
        elif (
            kind is KeyKind.MESSAGE
            and ours.fields is None
            and not packed_in(map_(found, "wad"), "told")
        ):
            # A message of the outbox whose entry is not stored here.
            continue
        elif kind is not KeyKind.FACT:
            change_log.put(db, kind, key)


def _is_same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    return all(theirs.get(name) == value for name, value in ours.items())


def _put_fact(db: sqlite3.Connection, account: str, fact: Fact) -> None:
    payload = packed(account, fact)
    change_log.put(db, KeyKind.FACT, f"{account}__{_digest(payload)}", payload)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _has_message(db: sqlite3.Connection, account: str, mark: PutMark) -> bool:
    query = f"SELECT 1 FROM messages WHERE {HAS_WA_ID} AND from_me AND thread = ? LIMIT 1"
    values = (account, mark.wa_id, resolve_thread(db, mark.thread))
    return db.execute(query, values).fetchone() is not None


def _note_reading(db: sqlite3.Connection, thread: str) -> None:
    row = db.execute(_READ_UNTIL, (thread,)).fetchone()
    if row is not None:
        account, chat, read_ms = row
        _put_fact(db, account, PutChat(thread, chat, read_ms=read_ms))


def _leave_lookups(db: sqlite3.Connection, ident: str) -> None:
    """Leave the lookup documents of a sent message to the machine that sent it."""
    row = row_by_id(db, ident)
    if row is not None:
        for kind in (KeyKind.WA_ID, KeyKind.DEDUPE):
            change_log.drop(db, kind, f"{row.original.thread}/{ident}")


def _note_stray(db: sqlite3.Connection, entry: Entry, document: Mapping[str, Any]) -> None:
    """Log a function's message document for deletion if the message is in another thread than the function wrote it
    to."""
    thread, row = text(document, "threadId"), row_by_id(db, entry.id)
    if row is None or not is_key(thread):
        return
    if row.original.thread != thread:
        change_log.put(db, KeyKind.MESSAGE, f"{thread}/{entry.id}")
