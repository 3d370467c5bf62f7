"""Building documents: from a key of the change log and the replica's rows to the document that Firestore should
have."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from typing import Any, Final, assert_never

import msgspec

from wad.core.content import Content
from wad.core.message import Message
from wad.store.app_documents import (
    Fields,
    above_floor,
    account_fields,
    account_path,
    gone_account_fields,
    message_fields,
    message_path,
    redirect_fields,
    thread_fields,
    thread_path,
)
from wad.store.firestore.client.document_ids import is_key
from wad.store.firestore.documents.legacy import is_taken_over
from wad.store.firestore.documents.lookups import (
    contact_fields,
    contact_path,
    dedupe_fields,
    dedupe_path,
    wa_id_fields,
    wa_id_path,
)
from wad.store.firestore.documents.outbox import entry_fields, entry_path
from wad.store.firestore.sync.change_log import Dirty, KeyKind
from wad.store.port import AccountStatus
from wad.store.sqlite.addresses import with_numbers
from wad.store.sqlite.numbers import number_of, other_number
from wad.store.sqlite.outbox import load_entry
from wad.store.sqlite.rows import (
    THREAD_COLUMNS,
    MessageRecord,
    pack,
    resolve,
    resolve_thread,
    row_by_id,
    thread_from,
)

LARGEST: Final = 1_000_000
"""Bytes; Firestore's limit is 1 MiB (docs/internals/firestore.md#limits), counted slightly differently."""
log = logging.getLogger(__name__)

_MAX_TEXT: Final = 50_000  # characters that are left of a text that was too long
_unpack_status: Final = msgspec.msgpack.Decoder(AccountStatus).decode


@dataclass(frozen=True, slots=True)
class DocumentWrite:
    """A document to write.  `fields` None: delete it; `path` empty: there is nothing to do.

    `fault`: why it cannot be built from the rows.
    """

    dirty: Dirty
    path: str
    fields: Fields | None
    fault: str = ""

    @property
    def size(self) -> int:
        """Its approximate size in bytes: the texts, and the packed values of the map `wad`."""
        fields = self.fields or {}
        values = (*fields.values(), *(fields.get("wad") or {}).values())
        return sum(len(value) for value in values if isinstance(value, str | bytes))


def document_of(db: sqlite3.Connection, dirty: Dirty) -> DocumentWrite:
    """Build the document from the rows as they are now."""
    try:
        path, fields = _document(db, dirty)
    except sqlite3.Error:
        raise
    except (
        Exception
    ) as error:  # a row that comes from another program's document must not block the others
        log.exception("the document of %s %s cannot be built", dirty.kind, dirty.key)
        return DocumentWrite(dirty, "", None, fault=f"an internal error: {type(error).__name__}")
    return DocumentWrite(dirty, path, fields)


def _document(db: sqlite3.Connection, dirty: Dirty) -> tuple[str, Fields | None]:
    match dirty.kind:
        case KeyKind.MESSAGE:
            return _message(db, dirty.key)
        case KeyKind.THREAD:
            return _thread(db, dirty.key)
        case KeyKind.ENTRY:
            entry = load_entry(db, dirty.key)
            return entry_path(dirty.key), None if entry is None else entry_fields(entry)
        case KeyKind.ACCOUNT:
            return account_path(dirty.key), _account(db, dirty.key)
        case KeyKind.ALIAS:
            return _alias(db, dirty.key)
        case KeyKind.NUMBER:
            return _number(db, dirty.key)
        case KeyKind.FACT:
            account = dirty.key.partition("__")[0]
            return fact_path(dirty.key), {"accountId": account, "payload": dirty.payload}
        case KeyKind.WA_ID | KeyKind.DEDUPE:
            return _lookup(db, dirty)
        case KeyKind.CONTACT:
            return _contact(db, dirty.key)
        case _:
            assert_never(dirty.kind)


def fact_path(key: str) -> str:
    """The path of a fact that no other document holds."""
    return f"wad_facts/{key}"


def _row(db: sqlite3.Connection, key: str) -> MessageRecord | None:
    """The row of the message with this key, THREAD/ID."""
    thread, _, ident = key.rpartition("/")
    row = row_by_id(db, ident, thread.partition("__")[0])
    return row if row is not None and row.original.thread == thread else None


def _message(db: sqlite3.Connection, key: str) -> tuple[str, Fields | None]:
    thread, _, ident = key.rpartition("/")
    path = message_path(thread, ident)
    row = _row(db, key)
    if row is None:
        return path, None
    message = with_numbers(db, row.present)
    # A message of the outbox is recorded from its entry.
    received = None if message.client_id else pack(row.original)
    fields = {**message_fields(message), "wad": {"told": received}}
    if is_taken_over(message):
        # Fields of which the legacy backend knew more stay.
        fields = {name: value for name, value in fields.items() if value is not None}
    return path, fields


def _lookup(db: sqlite3.Connection, dirty: Dirty) -> tuple[str, Fields | None]:
    row = _row(db, dirty.key)
    if row is None or not is_key(row.original.wa_id):
        return "", None
    message = row.original
    if dirty.kind is KeyKind.WA_ID:
        return wa_id_path(message), wa_id_fields(message)
    return dedupe_path(message), dedupe_fields(message)


def _contact(db: sqlite3.Connection, thread: str) -> tuple[str, Fields | None]:
    query = "SELECT account, chat, saved_name, push_name FROM threads WHERE id = ?"
    row = db.execute(query, (thread,)).fetchone()
    if row is None:
        return "", None
    account, chat, saved, push_name = row
    return contact_path(account, chat), contact_fields(account, chat, saved, push_name)


def _thread(db: sqlite3.Connection, ident: str) -> tuple[str, Fields | None]:
    query = f"SELECT {THREAD_COLUMNS} FROM threads WHERE id = ?"
    row = db.execute(query, (ident,)).fetchone()
    if row is None:
        now = resolve_thread(db, ident)
        return (thread_path(ident), redirect_fields(now)) if now != ident else ("", None)
    thread = thread_from(row)
    if not thread.messages:
        return "", None
    fields = thread_fields(thread)
    looked = db.execute(
        "SELECT last_ms, until_ms FROM looked WHERE thread = ?", (ident,)
    ).fetchone()
    if looked is not None and looked[1]:
        last_ms, until_ms = looked
        fields = above_floor(fields, last_ms) if last_ms else fields
        fields["wad"] = {"foreign": {"lastMs": last_ms, "untilMs": until_ms}}
    return thread_path(ident), fields


def _account(db: sqlite3.Connection, account: str) -> Fields:
    row = db.execute("SELECT status FROM accounts WHERE account = ?", (account,)).fetchone()
    if row is None:
        return gone_account_fields(account)
    return {**account_fields(_unpack_status(row[0])), "wad": {"status": row[0]}}


def _alias(db: sqlite3.Connection, key: str) -> tuple[str, Fields | None]:
    account, _, lid = key.partition(" ")
    found = number_of(db, account, lid)
    if found is None:  # another person has the number now
        return alias_path(account, lid), None
    return alias_path(account, lid), _alias_fields(db, account, lid, {"atMs": found.at_ms})


def _number(db: sqlite3.Connection, key: str) -> tuple[str, Fields | None]:
    account, _, number = key.partition(" ")
    found = other_number(db, account, number)
    if found is None:
        return alias_path(account, number), None
    ours = {"person": found.person, "atMs": found.at_ms, "asked": found.asked}
    return alias_path(account, number), _alias_fields(db, account, number, ours)


def alias_path(account: str, address: str) -> str:
    """The path of the document that maps another address of a person to the present number."""
    return f"jid_aliases/{account}__{address}"


def _alias_fields(
    db: sqlite3.Connection, account: str, address: str, ours: dict[str, Any]
) -> Fields:
    return {
        "accountId": account,
        "rawJid": address,
        "canonicalJid": resolve(db, account, address),
        "source": "wad",
        "wad": ours,
    }


def cut(fields: Fields) -> Fields:
    """Truncate a document that is too large for Firestore; the replica keeps all of it."""
    small = {**fields, "truncated": True}
    body = fields.get("body")
    if isinstance(body, str):
        small["body"] = body[:_MAX_TEXT]
    for name in ("reactions", "media", "wad"):
        if name in small and len(msgspec.msgpack.encode(small[name])) > LARGEST // 8:
            small[name] = None
    ours = fields.get("wad")
    if small.get("wad") is None and isinstance(ours, dict) and isinstance(ours.get("told"), bytes):
        small["wad"] = {"told": _short(ours["told"])}
    return small


def _short(packed: bytes) -> bytes:
    """Truncate the text of a packed message; other machines need the rest of it."""
    message = msgspec.msgpack.decode(packed, type=Message)
    content = Content(message.content.kind, message.content.text[:_MAX_TEXT], detail="cut")
    return pack(msgspec.structs.replace(message, content=content))
