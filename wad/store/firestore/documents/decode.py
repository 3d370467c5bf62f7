"""Decoding documents of other machines into facts, entries and account statuses.  Pure.

Every program that may write to Firestore may have changed them: a packed value must belong to its document, name a
valid account and thread, and have times in range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from wad.core.change import (
    Change,
    PutAlias,
    PutAmendment,
    PutChat,
    PutMark,
    PutMessage,
    PutNumber,
)
from wad.core.decoding import decoding
from wad.core.errors import BadInput, InvalidData
from wad.core.jid import Jid, JidKind, ThreadId, account_id
from wad.core.message import Message
from wad.core.outbox import Entry
from wad.core.untrusted import LATEST_MS, map_, packed, text, time_ms
from wad.store.firestore.client.decode import Snapshot
from wad.store.firestore.client.document_ids import is_key
from wad.store.firestore.documents.facts import Fact, fact_of
from wad.store.firestore.documents.outbox import entry_of
from wad.store.firestore.sync.change_log import KeyKind
from wad.store.port import AccountStatus

Fields = Mapping[str, Any]

_UINT32: Final = 1 << 32
_message: Final = msgspec.msgpack.Decoder(Message).decode
_status: Final = msgspec.msgpack.Decoder(AccountStatus).decode


@dataclass(frozen=True, slots=True)
class DocumentFacts:
    """Facts of one account; `kind` and `key` name the document."""

    snapshot: Snapshot
    kind: KeyKind
    key: str
    account: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Queued:
    """An outbox entry."""

    snapshot: Snapshot
    entry: Entry


@dataclass(frozen=True, slots=True)
class Published:
    """A published account status; None once it was withdrawn."""

    snapshot: Snapshot
    account: str
    status: AccountStatus | None


RemoteDocument = DocumentFacts | Queued | Published


def read_document(snapshot: Snapshot) -> RemoteDocument:
    """Decode a document.  Raises BadInput if its content is invalid."""
    with decoding(f"document {snapshot.path}"):
        match snapshot.path.split("/"):
            case ["outbox", ident]:
                return Queued(snapshot, entry_of(ident, snapshot.fields, created_ms(snapshot)))
            case ["accounts", account]:
                return _published(snapshot, account)
            case ["jid_aliases", _]:
                return _alias(snapshot)
            case ["wad_facts", ident]:
                return _fact(snapshot, ident)
            case ["threads", thread, "messages", ident]:
                return _of_message(snapshot, thread, ident)
    raise InvalidData(f"document {snapshot.path} is not of a kind that wad reads")


def created_ms(snapshot: Snapshot) -> int:
    """When a document was created, ms since 1970."""
    return time_ms(snapshot.create_time) or 0


def _published(snapshot: Snapshot, account: str) -> Published:
    ours = map_(snapshot.fields, "wad")
    if "status" not in ours:
        raise BadInput("it has no status written by wad")
    written = packed(ours, "status")
    if written is None:
        return Published(snapshot, account_id(account), None)
    status = _status(written)
    if status.account != account_id(account):
        raise BadInput("its status belongs to another account")
    return Published(snapshot, account, status)


def _alias(snapshot: Snapshot) -> DocumentFacts:
    account = account_id(text(snapshot.fields, "accountId"))
    address = Jid.parse(text(snapshot.fields, "rawJid"))
    ours = map_(snapshot.fields, "wad")
    at_ms = ours.get("atMs", 0)
    if type(at_ms) is not int or not 0 <= at_ms < LATEST_MS:
        raise BadInput("its time is out of range")
    if snapshot.id != f"{account}__{address}":
        raise BadInput("its address is not the one in its document id")
    change: PutAlias | PutNumber
    if address.kind is JidKind.PN and "person" in ours:
        kind, person = KeyKind.NUMBER, Jid.parse(text(ours, "person"))
        valid = person.is_person and person != address
        change = PutNumber(str(address), str(person), at_ms, asked=ours.get("asked") is True)
    else:
        kind, pn = KeyKind.ALIAS, Jid.parse(text(snapshot.fields, "canonicalJid"))
        valid = (address.kind, pn.kind) == (JidKind.LID, JidKind.PN)
        change = PutAlias(str(address), str(pn), at_ms)
    if not valid:
        raise BadInput("it does not map a LID, or another number of a person, to a phone number")
    return DocumentFacts(snapshot, kind, f"{account} {address}", account, (change,))


def _fact(snapshot: Snapshot, ident: str) -> DocumentFacts:
    payload = packed(snapshot.fields, "payload")
    if payload is None:
        raise BadInput("it has no payload")
    account, change = fact_of(payload)
    if ident.partition("__")[0] != account_id(account):
        raise BadInput("its account is not the one in its document id")
    if ThreadId.parse(change.thread).account != account:
        raise BadInput("its thread belongs to another account")
    if not _is_in_range(change):
        raise BadInput("a time or a number in it is out of range")
    return DocumentFacts(snapshot, KeyKind.FACT, ident, account, (change,))


def _is_in_range(change: Fact) -> bool:
    """Whether the times and numbers of a fact are possible: one far in the future would win over every later fact."""
    times: tuple[int, ...]
    numbers: tuple[int, ...] = ()
    match change:
        case PutChat():
            times = (change.name_ms, change.read_ms, change.unread_ms, change.expires_ms)
            numbers = (change.unread, change.expires_s)
        case PutAmendment():
            times = (change.at_ms, change.content.told_ms)
            numbers = (change.content.expires_s,)
        case PutMark():
            times = (change.at_ms,)
    return all(0 <= ms < LATEST_MS for ms in times) and all(0 <= each < _UINT32 for each in numbers)


def _of_message(snapshot: Snapshot, thread: str, ident: str) -> DocumentFacts:
    account = ThreadId.parse(thread).account
    key = f"{thread}/{ident}"
    ours = map_(snapshot.fields, "wad")
    if "told" not in ours:
        raise BadInput("it was not written by wad")
    written = packed(ours, "told")
    if written is None:
        return DocumentFacts(
            snapshot, KeyKind.MESSAGE, key, account, ()
        )  # it is recorded from its outbox entry
    message = _message(written)
    if (message.id, message.account, message.thread) != (ident, account, thread):
        raise BadInput("its packed message is not the one in its document id")
    if not (
        is_key(ident) and abs(message.at_ms) < LATEST_MS and abs(message.seen) < LATEST_MS * 1000
    ):
        raise BadInput("its time or its id is out of range")
    Jid.parse(message.chat)
    return DocumentFacts(snapshot, KeyKind.MESSAGE, key, account, (PutMessage(message),))
