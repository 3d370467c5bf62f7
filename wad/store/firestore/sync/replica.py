"""The working copy on this machine: the embedded store, which also notes what Firestore has to be told.

It answers every question, so that looking costs nothing and needs no network.  What others told is put in as the same
facts from which it was made there; facts may come in any order and twice (`store.port`), so two copies that have the
same facts are the same.
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
from wad.core.message import MessageStatus
from wad.core.outbox import Claim, Entry
from wad.core.quarantine import Quarantined
from wad.core.untrusted import map_, text
from wad.core.untrusted import packed as packed_in
from wad.lib.sqlite_file import open_connection, open_reader, translated
from wad.store.app_documents import message_path
from wad.store.firestore.client.database import version_of
from wad.store.firestore.client.decode import Snapshot
from wad.store.firestore.client.document_ids import is_key
from wad.store.firestore.documents.build import DocumentWrite, document_of
from wad.store.firestore.documents.decode import DocumentFacts, Published, Queued
from wad.store.firestore.documents.decode import Told as OfOthers
from wad.store.firestore.documents.facts import Fact, packed
from wad.store.firestore.documents.legacy import message_of
from wad.store.firestore.documents.outbox import reconciled
from wad.store.firestore.sync import change_log, quarantine_rows
from wad.store.firestore.sync.change_log import Dirty, KeyKind
from wad.store.firestore.sync.legacy import (
    LegacyLocation,
    Look,
    Wanted,
    take_over,
    threads_of,
    wanted_of,
)
from wad.store.firestore.sync.quarantine_rows import FailedAction, QuarantinedDocument
from wad.store.port import AccountStatus, Recorded
from wad.store.sqlite.keys import ReadingConnection, WritingConnection, row_of, rows_of
from wad.store.sqlite.messages import insert_entry
from wad.store.sqlite.outbox import load_entry, settle_entry
from wad.store.sqlite.rows import pack, thread_of, told_message
from wad.store.sqlite.schema import STEPS
from wad.store.sqlite.store import SqliteStore, known_epoch

log = logging.getLogger(__name__)

Documents = Mapping[tuple[KeyKind, str], Mapping[str, Any]]
"""Documents as they lie in Firestore, by what they are of."""

WAITING_BYTES: Final = 16 << 20
"""What is read at once of what waits: who sends much that is large must not fill the memory."""
_LOOKED: Final = (
    "INSERT INTO looked (thread, last_ms, until_ms) VALUES (?,?,?) ON CONFLICT (thread) DO UPDATE SET"
    " last_ms = max(last_ms, excluded.last_ms), until_ms = max(until_ms, excluded.until_ms), stale = 0"
)
_READ_UNTIL: Final = "SELECT account, chat, read_ms FROM threads WHERE id = ? AND read_ms > 0"


def open_replica(path: Path) -> tuple[WritingConnection, sqlite3.Connection]:
    """The two connections that the constructor wants.  Raises as `SqliteStore.open`."""
    writing = open_connection(path, STEPS, WritingConnection)
    try:
        with translated(path):
            change_log.install(writing)
        return writing, open_reader(path, ReadingConnection)
    except BaseException:
        writing.close()
        raise


class Replica(SqliteStore):
    """The embedded store with a list of what is to be told."""

    instance = ""
    """The name of this instance, by which it claims entries."""
    machine = ""
    """The id of this machine, by which it marks documents."""
    aside = 0
    """Documents in quarantine, as last counted."""
    refused = 0
    """Of these, those of ours that Firestore does not take."""
    unlisted = 0
    """Documents that were in quarantine and are not listed any more, as there were too many."""

    # --- what is to be told -----------------------------------------------------------------------

    def _put(self, db: sqlite3.Connection, account: str, changes: Sequence[Change]) -> Recorded:
        """Note those that show in no document whole, too: amendments, facts about chats, receipts that came early."""
        recorded = super()._put(db, account, changes)
        for change in changes:
            match change:
                case PutAmendment() | PutChat():
                    _put_fact(db, account, change)
                case PutMark() if not _has_message(db, account, change.wa_id):
                    _put_fact(db, account, change)
        return recorded

    async def mark_read(self, thread: str) -> None:
        """All that is there was read, here and for the next holder."""
        await super().mark_read(thread)
        await self._write(lambda db: _note_reading(db, thread_of(db, thread)))

    async def waiting(
        self, limit: int, kinds: Iterable[KeyKind], *, after: int = 0, size: int = WAITING_BYTES
    ) -> list[DocumentWrite]:
        """What waits longest, behind the number `after`, as documents: at least one, and of about `size` bytes."""

        def work(db: sqlite3.Connection) -> list[DocumentWrite]:
            found: list[DocumentWrite] = []
            left = size
            for dirty in change_log.waiting(db, limit, kinds, after):
                one = document_of(db, dirty)
                left -= one.size
                if found and left < 0:
                    break
                found.append(one)
            return found

        return await self._read(work)

    async def backlog(self, kinds: Iterable[KeyKind]) -> tuple[int, int | None]:
        """How many documents of these kinds wait to be told, and since when (ms since 1970) the oldest does."""
        return await self._read(lambda db: change_log.backlog(db, kinds))

    async def done(self, told: Iterable[DocumentWrite], refused: Mapping[int, str]) -> None:
        """These were told, but for those that Firestore refuses (number: why); what was noted again meanwhile stays."""
        found = list(told)

        def work(db: sqlite3.Connection) -> None:
            change_log.done(db, [one.dirty for one in found])
            if self.aside or self.unlisted:
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
        if refused or self.aside or self.unlisted:
            await self.count_aside()

    # --- what was set aside -----------------------------------------------------------------------

    async def count_aside(self) -> None:
        """Count what was set aside."""
        self.aside, self.refused, self.unlisted = await self._read(quarantine_rows.counts)

    async def known_aside(self, found: Iterable[Snapshot]) -> set[str]:
        """The paths of those that were set aside, or dropped, in just this version."""
        versions = [(one.path, version_of(one.update_time)) for one in found]
        return await self._read(lambda db: quarantine_rows.known(db, versions))

    async def set_aside(self, items: Sequence[QuarantinedDocument]) -> None:
        """Put these into quarantine."""
        if items:
            await self._write(lambda db: quarantine_rows.put(db, items))
            await self.count_aside()

    async def release(self, paths: Collection[str]) -> None:
        """These could be handled after all."""
        if (self.aside or self.unlisted) and paths:
            await self._write(lambda db: quarantine_rows.remove(db, paths))
            await self.count_aside()

    async def drop_aside(self, path: str) -> None:
        """Forget an item, but for its version."""
        await self._write(lambda db: quarantine_rows.drop(db, path))
        await self.count_aside()

    async def drop_unlisted(self) -> None:
        """Forget those that are not listed any more."""
        await self._write(quarantine_rows.drop_more)
        await self.count_aside()

    async def release_unlisted(self) -> None:
        """Let those that are not listed any more be handled again."""
        await self._write(quarantine_rows.release_more)
        await self.count_aside()

    async def aside_items(self) -> list[Quarantined]:
        """All that is in quarantine."""
        return await self._read(quarantine_rows.items)

    async def aside_item(self, ident: str) -> QuarantinedDocument | None:
        """One item."""
        return await self._read(lambda db: quarantine_rows.find(db, ident))

    async def write_again(self, item: QuarantinedDocument) -> None:
        """Let a document of ours wait to be told again."""

        def work(db: sqlite3.Connection) -> None:
            change_log.put(db, KeyKind(item.kind), item.key, item.payload)
            quarantine_rows.remove(db, [item.path])

        await self._write(work)
        await self.count_aside()

    # --- what the backend before us has written ---------------------------------------------------

    async def not_looked_at(self, told: Iterable[DocumentWrite]) -> list[str]:
        """The threads of these whose documents have to be looked at before anything is told of them."""
        found = list(told)
        return await self._read(lambda db: threads_of(db, found))

    async def set_looks(self, looks: Mapping[str, Look]) -> None:
        """What was seen there."""
        values = [(thread, *look) for thread, look in looks.items()]
        await self._write(lambda db: db.executemany(_LOOKED, values))

    async def look_again(self) -> None:
        """Another program may have held the lease meanwhile."""
        await self._write(lambda db: db.execute("UPDATE looked SET stale = 1"))

    async def wanted(self, told: Sequence[DocumentWrite]) -> list[Wanted]:
        """What of this may lie in that backend's documents already."""
        return await self._read(lambda db: wanted_of(db, told))

    async def adopt(self, found: Iterable[LegacyLocation]) -> bool:
        """These messages lie there; whether anything is to be told otherwise by that."""

        def work(db: sqlite3.Connection) -> bool:
            changed = [self._adopt(db, one) for one in found]
            return any(changed)

        news = await self._write(work)
        await self.count_aside()
        return news

    def _adopt(self, db: sqlite3.Connection, found: LegacyLocation) -> bool:
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
        if row_of(db, found.ident) is not None:
            # Two accounts in one group: that backend gave WhatsApp's id to the documents of both.
            log.warning(
                "message %s of the backend before wad is left: another message here has its id",
                found.ident,
            )
            return False
        self._put(db, message.account, [PutMessage(message)])
        return True

    # --- what others told -------------------------------------------------------------------------

    async def take_told(self, told: Sequence[OfOthers]) -> list[tuple[Snapshot, Exception]]:
        """Record what others told; those that cannot be recorded, and why.

        One transaction, as long as all can be: what is derived alike here must not be told again meanwhile.
        """
        if not told:
            return []
        try:
            await self._write(lambda db: self._take(db, told))
        except WadError:
            raise  # the disk refuses
        except Exception as error:
            if len(told) == 1:
                log.exception("%s cannot be recorded", told[0].snapshot.path)
                return [(told[0].snapshot, error)]
            half = len(told) // 2
            return [*await self.take_told(told[:half]), *await self.take_told(told[half:])]
        await self.release([one.snapshot.path for one in told])
        return []

    def _take(self, db: sqlite3.Connection, told: Sequence[OfOthers]) -> None:
        facts: dict[str, list[Change]] = {}
        documents: dict[tuple[KeyKind, str], Mapping[str, Any]] = {}
        for one in told:
            match one:
                case DocumentFacts():
                    documents[one.kind, one.key] = one.snapshot.fields
                    facts.setdefault(one.account, []).extend(one.changes)
                case Queued():
                    self._take_entry(db, one.entry, one.snapshot.fields, sure=False)
                case Published():
                    _take_account(db, one.account, one.status)
                case _:
                    assert_never(one)
        for account, changes in facts.items():
            self._put(db, account, changes)
        _compare(db, documents)

    async def compare(self, documents: Documents) -> None:
        """These documents lie in Firestore."""
        await self._write(lambda db: _compare(db, documents))

    async def take_entry(
        self, entry: Entry, document: Mapping[str, Any], *, sure: bool = False
    ) -> bool:
        """An entry as it lies in Firestore; whether it was news.  `sure`: whatever we have still to tell of it."""
        return await self._write(lambda db: self._take_entry(db, entry, document, sure=sure))

    def _take_entry(
        self, db: sqlite3.Connection, entry: Entry, document: Mapping[str, Any], *, sure: bool
    ) -> bool:
        writer = text(document, "wadBy")
        if writer and writer != self.machine:
            entry = claimed_elsewhere(entry, self.instance, writer)
        claim = Claim(self.instance, known_epoch(db))
        return _take_entry(db, entry, document, sure=sure, claim=claim)

    async def identity(self, name: str) -> str:
        """What is remembered of who this machine is; empty for nothing."""
        query = "SELECT value FROM identity WHERE name = ?"
        row = await self._read(lambda db: db.execute(query, (name,)).fetchone())
        return str(row[0]) if row else ""

    async def set_identity(self, values: Mapping[str, str]) -> None:
        """Remember it."""
        await self._write(lambda db: _set_identity(db, values))

    async def take_identity(self, old: str, instance: str, values: Mapping[str, str]) -> None:
        """Be another machine than `old` from now on: what was claimed until now may be another's claim."""

        def work(db: sqlite3.Connection) -> None:
            _set_identity(db, values)
            query = "SELECT id FROM outbox WHERE state = ?"
            for (ident,) in db.execute(query, (MessageStatus.SENDING,)).fetchall():
                entry = load_entry(db, ident)
                if entry is not None:
                    settle_entry(db, claimed_elsewhere(entry, instance, old))

        await self._write(work)

    async def synced(self, source: str) -> str:
        """Up to which moment a source was read; empty for never."""
        query = "SELECT until FROM synced WHERE source = ?"
        row = await self._read(lambda db: db.execute(query, (source,)).fetchone())
        return str(row[0]) if row else ""

    async def synced_all(self, ending: str) -> dict[str, str]:
        """The same of every source whose name ends so."""
        query = "SELECT source, until FROM synced WHERE substr(source, -?) = ?"
        return dict(
            await self._read(lambda db: db.execute(query, (len(ending), ending)).fetchall())
        )

    async def set_synced(self, source: str, until: str) -> None:
        """It was read so far."""
        await self._write(
            lambda db: db.execute("INSERT OR REPLACE INTO synced VALUES (?,?)", (source, until))
        )


def claimed_elsewhere(entry: Entry, instance: str, machine: str) -> Entry:
    """An entry that `machine` has claimed: the claim does not pass for ours where its instance bears our name."""
    claim = entry.claim
    if claim is None or claim.holder != instance:
        return entry
    holder = f"{claim.holder} ({machine})"
    return msgspec.structs.replace(entry, claim=msgspec.structs.replace(claim, holder=holder))


def _set_identity(db: sqlite3.Connection, values: Mapping[str, str]) -> None:
    db.executemany("INSERT OR REPLACE INTO identity VALUES (?,?)", values.items())


def _unmade(told: DocumentWrite) -> str:
    """What a document is called that could not be made."""
    return f"{told.dirty.kind} {told.dirty.key}"


def _refused(told: DocumentWrite, why: str) -> QuarantinedDocument:
    dirty = told.dirty
    account = re.split("__| |/", dirty.key, maxsplit=1)[0]
    if dirty.kind is KeyKind.ENTRY:
        account = str((told.fields or {}).get("accountId", ""))
    return QuarantinedDocument(
        path=told.path or _unmade(told),
        account=account,
        reason=why,
        size=told.size,
        origin=FailedAction.WRITE,
        kind=dirty.kind,
        key=dirty.key,
        payload=dirty.payload,
    )


def _take_entry(
    db: sqlite3.Connection, entry: Entry, document: Mapping[str, Any], *, sure: bool, claim: Claim
) -> bool:
    known = load_entry(db, entry.id)
    after = entry
    if known is None:
        insert_entry(db, msgspec.structs.replace(entry, wa_id=""))
    else:
        untold = not sure and change_log.waits(db, KeyKind.ENTRY, entry.id)
        after = reconciled(known, entry, untold=untold, claim=claim)
    if after != known:
        settle_entry(db, after)
        _leave_lookups(db, entry.id)
    _note_stray(db, entry, document)
    _compare(db, {(KeyKind.ENTRY, entry.id): document})
    return after != known


def _take_account(db: sqlite3.Connection, account: str, status: AccountStatus | None) -> None:
    """What another machine has published."""
    if status is None:
        db.execute("DELETE FROM accounts WHERE account = ?", (account,))
    else:
        db.execute("INSERT OR REPLACE INTO accounts VALUES (?,?)", (account, pack(status)))
    change_log.drop(db, KeyKind.ACCOUNT, account)


def _compare(db: sqlite3.Connection, documents: Documents) -> None:
    """What is derived here as it lies there need not be told; what is not, must."""
    for (kind, key), found in documents.items():
        told = document_of(db, Dirty(0, kind, key, 0, 0, packed_in(found, "payload")))
        if told.fields is not None and _alike(told.fields, found):
            change_log.drop(db, kind, key)
        elif (
            kind is KeyKind.MESSAGE
            and told.fields is None
            and not packed_in(map_(found, "wad"), "told")
        ):
            # A message of the outbox whose entry is not known here.
            continue
        elif kind is not KeyKind.FACT:
            change_log.put(db, kind, key)


def _alike(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    return all(theirs.get(name) == value for name, value in ours.items())


def _put_fact(db: sqlite3.Connection, account: str, fact: Fact) -> None:
    payload = packed(account, fact)
    change_log.put(db, KeyKind.FACT, f"{account}__{_digest(payload)}", payload)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _has_message(db: sqlite3.Connection, account: str, wa_id: str) -> bool:
    query = "SELECT 1 FROM messages WHERE number = ? AND from_me"
    return any(db.execute(query, (row,)).fetchone() for row in rows_of(db, account, wa_id))


def _note_reading(db: sqlite3.Connection, thread: str) -> None:
    row = db.execute(_READ_UNTIL, (thread,)).fetchone()
    if row is not None:
        account, chat, read_ms = row
        _put_fact(db, account, PutChat(thread, chat, read_ms=read_ms))


def _leave_lookups(db: sqlite3.Connection, ident: str) -> None:
    """Whoever sent a message tells where it is found."""
    row = row_of(db, ident)
    if row is not None:
        for kind in (KeyKind.WA_ID, KeyKind.DEDUPE):
            change_log.drop(db, kind, f"{told_message(db, row).thread}/{ident}")


def _note_stray(db: sqlite3.Connection, entry: Entry, document: Mapping[str, Any]) -> None:
    """A function shows its entry in the thread that it was told; if the message is in another, that document goes."""
    thread, number = text(document, "threadId"), row_of(db, entry.id)
    if number is None or not is_key(thread):
        return
    if told_message(db, number).thread != thread:
        change_log.put(db, KeyKind.MESSAGE, f"{thread}/{entry.id}")
