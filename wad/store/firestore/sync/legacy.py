"""Legacy documents: a message that the legacy backend has stored is taken over, so that it is not stored twice.

A thread's document shows whether, and until when, another program wrote there (`ThreadCheck`).  Messages older than
that, and unknown messages that a receipt or an amendment refers to, are searched by WhatsApp id, whatever their
document ids are.  Nothing is searched in threads that only wad has written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from wad.core.change import PutAmendment, PutMark
from wad.core.untrusted import map_, time_ms
from wad.store.app_documents import thread_path
from wad.store.firestore.client.database import Client, FieldFilter, Query, Snapshot
from wad.store.firestore.client.decode import find as read
from wad.store.firestore.client.decode import get_all
from wad.store.firestore.documents.build import DocumentWrite
from wad.store.firestore.documents.facts import fact_of
from wad.store.firestore.documents.legacy import (
    ID_FIELDS,
    is_from_us,
    is_legacy,
    merged_into,
    wa_ids,
)
from wad.store.firestore.sync.change_log import KeyKind
from wad.store.sqlite.messages import rewrite
from wad.store.sqlite.rows import HAS_WA_ID, resolve_thread, row_by_id

TIMEOUT: Final = 20.0  # seconds for one call
_AT_ONCE: Final = 30  # values that Firestore takes in one filter
_CLOCK_SKEW_MS: Final = 300_000  # between WhatsApp's clock and Firestore's


class ThreadCheck(NamedTuple):
    """What a thread's document shows of another program, ms since 1970; 0 for never.

    `last_ms`: the time of its last message; `until_ms`: until when it may have written there.
    """

    last_ms: int
    until_ms: int


class Wanted(NamedTuple):
    """A message that may be in a legacy document.  `message`: our id of it, empty if it is not stored here."""

    thread: str
    wa_id: str
    message: str
    from_us: bool | None


class LegacyLocation(NamedTuple):
    """The legacy document of a message."""

    wanted: Wanted
    ident: str
    document: Mapping[str, Any]


# --- threads --------------------------------------------------------------------------------------


def check_threads(client: Client, threads: Iterable[str]) -> dict[str, ThreadCheck]:
    """Read from these threads' documents what other programs wrote."""
    names = ("lastMessageAt", "lastMessageAtMs", "updatedAt", "wadBy", "wadSyncedAt", "wad")
    paths = [thread_path(thread) for thread in threads]
    found = get_all(client, paths, *names, timeout=TIMEOUT)
    return {snapshot.id: check_of(snapshot) for snapshot in found}


def check_of(snapshot: Snapshot) -> ThreadCheck:
    """What a thread's document shows of other programs."""
    document = snapshot.fields
    if not snapshot.exists:
        return ThreadCheck(0, 0)
    known = map_(map_(document, "wad"), "foreign")
    last_ms, until_ms = time_ms(known.get("lastMs")) or 0, time_ms(known.get("untilMs")) or 0
    if document.get("wadBy") and document.get("updatedAt") == document.get("wadSyncedAt"):
        return ThreadCheck(last_ms, until_ms)
    return ThreadCheck(max(last_ms, _last_ms(document)), time_ms(snapshot.read_time) or 0)


def _last_ms(document: Mapping[str, Any]) -> int:
    return time_ms(document.get("lastMessageAtMs")) or time_ms(document.get("lastMessageAt")) or 0


def unchecked_threads_of(db: sqlite3.Connection, documents: Iterable[DocumentWrite]) -> list[str]:
    """The threads of these documents that were not checked for other programs yet."""
    known = "SELECT 1 FROM looked WHERE thread = ? AND NOT stale"
    threads = dict.fromkeys(thread for one in documents if (thread := _thread(db, one)))
    return [thread for thread in threads if not db.execute(known, (thread,)).fetchone()]


def _thread(db: sqlite3.Connection, document: DocumentWrite) -> str:
    match document.dirty.kind:
        case KeyKind.THREAD:
            return document.dirty.key
        case KeyKind.MESSAGE if document.fields is not None:
            return document.dirty.key.rpartition("/")[0]
        case KeyKind.FACT if (target := _target_of(db, document)) is not None:
            return target.thread
    return ""


# --- messages -------------------------------------------------------------------------------------


def wanted_messages(db: sqlite3.Connection, documents: Sequence[DocumentWrite]) -> list[Wanted]:
    """The messages of these documents that may be in legacy documents."""
    until = {
        thread: until_ms
        for thread in dict.fromkeys(_thread(db, one) for one in documents)
        if (until_ms := _until(db, thread))
    }
    if not until:
        return []
    found = [_wanted(db, one, until) for one in documents if _thread(db, one) in until]
    return [one for one in found if one is not None]


def _until(db: sqlite3.Connection, thread: str) -> int:
    row = db.execute("SELECT until_ms FROM looked WHERE thread = ?", (thread,)).fetchone()
    return int(row[0]) if row else 0


def _wanted(
    db: sqlite3.Connection, document: DocumentWrite, until: Mapping[str, int]
) -> Wanted | None:
    if document.dirty.kind is KeyKind.FACT:
        target = _target_of(db, document)
        return target if target is not None and not _is_known(db, target) else None
    thread, _, ident = document.dirty.key.rpartition("/")
    row = row_by_id(db, ident)
    if row is None:
        return None
    ours = row.original
    if ours.at_ms >= until[thread] + _CLOCK_SKEW_MS or not ours.wa_id or ours.client_id:
        return None
    return Wanted(thread, ours.wa_id, ident, ours.from_me)


def _target_of(db: sqlite3.Connection, document: DocumentWrite) -> Wanted | None:
    """The target message of a receipt or an amendment."""
    assert document.dirty.payload is not None  # a fact has one
    match fact_of(document.dirty.payload)[1]:
        case PutMark(thread=thread, wa_id=wa_id):
            return Wanted(resolve_thread(db, thread), wa_id, "", True)
        case PutAmendment(thread=thread, target=wa_id):
            return Wanted(resolve_thread(db, thread), wa_id, "", None)
    return None


def _is_known(db: sqlite3.Connection, wanted: Wanted) -> bool:
    query = f"SELECT 1 FROM messages WHERE {HAS_WA_ID} LIMIT 1"
    values = wanted.thread.partition("__")[0], wanted.wa_id
    return db.execute(query, values).fetchone() is not None


def find(client: Client, wanted: Sequence[Wanted]) -> list[LegacyLocation]:
    """Find the legacy documents of these messages, which are all of one thread."""
    by_id = {one.wa_id: one for one in wanted}
    ids = list(by_id)
    candidates: dict[str, dict[str, Mapping[str, Any]]] = {}
    for start in range(0, len(ids), _AT_ONCE):
        for name in ID_FIELDS:
            asked = having(client, wanted[0].thread, name, ids[start : start + _AT_ONCE])
            for snapshot in read(asked, timeout=TIMEOUT):
                document = snapshot.fields
                for wa_id in wa_ids(document) & by_id.keys():
                    if _shows(snapshot.id, document, by_id[wa_id]):
                        candidates.setdefault(wa_id, {})[snapshot.id] = document
    return [_chosen(by_id[wa_id], documents) for wa_id, documents in candidates.items()]


def having(client: Client, thread: str, name: str, values: Sequence[str]) -> Query:
    """The query for messages of a thread whose field `name` has one of these values."""
    found: Query = client.collection(f"{thread_path(thread)}/messages").where(
        filter=FieldFilter(name, "in", values)
    )
    return found


def _shows(ident: str, document: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether this document is to be taken over.

    One that is marked as a duplicate is not: another document remains.
    """
    return (
        is_legacy(ident, document)
        and document.get("isDuplicate") is not True
        and wanted.from_us in (None, is_from_us(document))
    )


def _chosen(wanted: Wanted, documents: Mapping[str, Mapping[str, Any]]) -> LegacyLocation:
    """Of several documents, the one that an app expects under its own id; all instances choose the same."""
    ident = min(documents, key=lambda one: (not documents[one].get("clientMessageId"), one))
    return LegacyLocation(wanted, ident, documents[ident])


def take_over(db: sqlite3.Connection, found: LegacyLocation) -> bool:
    """Move our message to the legacy document's id; return whether it changed."""
    row, there = row_by_id(db, found.wanted.message), row_by_id(db, found.ident)
    if row is None or (there is not None and there.number != row.number):
        return False
    after = merged_into(row.original, found.ident, found.document)
    if after == row.original:
        return False
    db.execute("UPDATE messages SET id = ? WHERE number = ?", (after.id, row.number))
    rewrite(db, row.number, after)
    return True
