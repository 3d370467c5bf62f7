"""What the documents of one conversation should say.  Pure: documents in, edits out.

A conversation is all threads of an account that mean one party: under its number, its hidden id, an old spelling, or an
object's text.  Nothing is deleted: what goes to another thread is copied there, and the first copy is marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from wad.audit.duplicates import grouped, largest, windowed
from wad.audit.firestore.decode import (
    DocumentLocation,
    is_kept_up,
    is_marked,
    is_receipt_alone,
    message_row,
    redirect_of,
    time_of,
)
from wad.audit.firestore.rules import (
    BEFORE,
    is_summary_right,
    right_status,
    right_times,
    says_something,
    summary,
    with_receipt,
)
from wad.audit.keys import KeyMode, is_hidden
from wad.audit.rows import Aliases, MessageRow, ReadRows, Scope
from wad.audit.sqlite.steps import SAMPLE, Mended
from wad.core.jid import Jid
from wad.core.message import PREVIEW_LENGTH, Thread
from wad.core.untrusted import Fields, text
from wad.store.app_documents import moment, redirect_fields, thread_fields

RECEIPT: Final = "receipt_without_message"
MOVED: Final = "moved"
DUPLICATE: Final = "duplicate"


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it was read; `version` None: there is none at this path."""

    path: str
    fields: Fields
    version: datetime | None


@dataclass(frozen=True, slots=True)
class DocumentEdit:
    """What is to be written to one document.  `fields` None: it goes; `gone`: fields that go."""

    document: Document
    fields: Mapping[str, Any] | None
    gone: tuple[str, ...] = ()


Unit = tuple[DocumentEdit, ...]
"""Edits that are of use only together."""


@dataclass(slots=True, eq=False)
class MessageDocument:
    """A message's document, what it should say, and where it belongs."""

    place: DocumentLocation
    document: Document
    right: dict[str, Any] = field(default_factory=dict)

    @property
    def after(self) -> Fields:
        """As it will be."""
        return {**self.document.fields, **self.right}

    @property
    def row(self) -> MessageRow:
        """As an audit reads it, once it is mended."""
        return message_row(self.place, self.after)


@dataclass(frozen=True, slots=True)
class Conversation:
    """`thread` is where it belongs; `threads` are the documents of all its threads, by id."""

    account: str
    chat: Jid
    thread: str
    threads: Mapping[str, Document]
    messages: Sequence[MessageDocument]


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """The moment, the aliases, and which duplicates to look for."""

    now_ms: int
    aliases: Aliases
    since_ms: int
    limit: int


def plan(conversation: Conversation, terms: PlanInputs, mended: Mended) -> list[Unit]:
    """All edits of a conversation; counts them in `mended`."""
    ours = [each for each in conversation.messages if not is_marked(each.document.fields)]
    mended.duplicates_already_marked += len(conversation.messages) - len(ours)
    receipts = [each for each in ours if is_receipt_alone(each.document.fields)]
    real = [each for each in ours if not is_receipt_alone(each.document.fields)]
    for each in real:
        _mend(each, mended)
    for each in receipts:
        take_receipt(each, real, terms, mended)
    moves = _Moves(conversation, terms, mended)
    units = moves.plan(real)
    changed = [each for each in ours if each.right and each not in moves.moved]
    units += [(DocumentEdit(each.document, each.right),) for each in changed]
    shown = [each for each in real if not is_marked(each.after)] + moves.copies
    return [*units, *_threads(conversation, shown, mended)]


def _mend(message: MessageDocument, mended: Mended) -> None:
    fields = message.document.fields
    if is_kept_up(fields):
        return
    times = right_times(fields)
    if times is None:
        mended.left += 1
    elif times:
        message.right |= times
        mended.times_rewritten += 1
    status = right_status(fields)
    if status is not None:
        message.right |= {"status": status.value, BEFORE: fields["status"]}
        mended.statuses_corrected += 1


def _mark(message: MessageDocument, original: str | None, why: str, terms: PlanInputs) -> None:
    """Soft: readers pass over it, and it stays."""
    message.right |= {
        "isDuplicate": True,
        "duplicateOf": original,
        "duplicateMarkedAt": moment(terms.now_ms),
        "duplicateReason": why,
    }


def take_receipt(
    receipt: MessageDocument, real: Iterable[MessageDocument], terms: PlanInputs, mended: Mended
) -> None:
    """Its status goes to the message that has this WhatsApp id; then the document is passed over."""
    found = [each for each in real if each.row.wa_id == receipt.place.id]
    mended.receipts_marked += 1
    _mark(receipt, found[0].place.id if found else None, RECEIPT, terms)
    for each in found:
        status = with_receipt(each.after, receipt.document.fields)
        if status is not None and not is_kept_up(each.document.fields):
            mended.statuses_corrected += "status" not in each.right
            each.right |= {BEFORE: each.document.fields.get("status"), "status": status.value}


class _Moves:
    """Which document of each message stays, and where it goes."""

    def __init__(self, conversation: Conversation, terms: PlanInputs, mended: Mended) -> None:
        self._conversation = conversation
        self._terms = terms
        self._mended = mended
        places = [each.place for each in conversation.messages]
        self._there = {place.id for place in places if place.thread == conversation.thread}
        self.moved: list[MessageDocument] = []
        self.copies: list[MessageDocument] = []

    def plan(self, messages: Sequence[MessageDocument]) -> list[Unit]:
        """The moves; duplicates are marked on the way."""
        rows = {each.row.id: each for each in messages}
        inside = self._inside([each.row for each in messages])
        self._mended.scanned_messages += len(messages)
        groups = grouped((each.row for each in messages), self._terms.aliases, KeyMode.STABLE)
        double = {
            key: group
            for key, group in groups.items()
            if sum(row.id in inside for row in group) > 1
        }
        if len(self._mended.sample_groups) < SAMPLE:
            found = (*self._mended.sample_groups, *largest(double))
            self._mended.sample_groups = found[:SAMPLE]
        units: list[Unit] = []
        for key, group in groups.items():
            first, *others = sorted(group, key=self._to_keep)
            for other in others if key in double else ():
                self._double(rows[other.id], rows[first.id], inside)
            self._mended.groups_with_duplicates += key in double
            for row in group:
                message = rows[row.id]
                if not is_marked(message.after) and row.thread != self._conversation.thread:
                    units += self._move(message)
        return units

    def _to_keep(self, row: MessageRow) -> tuple[bool, bool]:
        """Before what `grouped` goes by: what the daemon keeps up, then what lies where it belongs."""
        return not row.kept_up, row.thread != self._conversation.thread

    def _inside(self, rows: Sequence[MessageRow]) -> set[str]:
        scope = Scope("", "", self._terms.since_ms, self._terms.limit)
        found, _, _ = windowed(ReadRows(rows=tuple(rows), types={}), scope)
        return {row.id for row in found}

    def _double(self, other: MessageDocument, first: MessageDocument, inside: set[str]) -> None:
        if other.row.id not in inside:
            return
        if is_kept_up(other.document.fields):
            self._mended.left += 1
            return
        _mark(other, first.place.id, DUPLICATE, self._terms)
        self._mended.duplicates_to_mark += 1

    def _move(self, message: MessageDocument) -> list[Unit]:
        """A copy where it belongs, and a mark on the first; the daemon moves its own documents itself."""
        if is_kept_up(message.document.fields):
            return []
        if message.place.id in self._there:
            self._mended.left += 1
            return []
        target = self._conversation.thread
        place = DocumentLocation(target, message.place.id)
        chat = str(self._conversation.chat)
        fields = {
            **message.after,
            "accountId": self._conversation.account,
            "threadId": target,
            "canonicalThreadId": target,
            "clientJid": chat,
            "movedFrom": message.place.thread,
        }
        self._there.add(place.id)
        self._mended.messages_moved += 1
        copy = MessageDocument(place, Document(place.path, {}, None), fields)
        message.right = {"movedTo": target}
        _mark(message, message.place.id, MOVED, self._terms)
        self.moved.append(message)
        self.copies.append(copy)
        return [
            (DocumentEdit(copy.document, fields), DocumentEdit(message.document, message.right))
        ]


# --- the conversation's own documents -------------------------------------------------------------------


def _threads(
    conversation: Conversation, messages: Sequence[MessageDocument], mended: Mended
) -> list[Unit]:
    units: list[Unit] = []
    for ident, document in conversation.threads.items():
        if ident == conversation.thread or document.version is None:
            continue
        if redirect_of(ident, document.fields) == conversation.thread:
            continue
        if is_kept_up(document.fields):
            mended.left += 1
        else:
            mended.addresses_joined += is_hidden(ident.partition("__")[2])
            mended.threads_updated += 1
            units.append((DocumentEdit(document, redirect_fields(conversation.thread)),))
    document = conversation.threads[conversation.thread]
    fields = _summary(conversation, document, messages)
    if fields:
        mended.threads_updated += 1
        units.append((DocumentEdit(document, fields),))
    return units


def _summary(
    conversation: Conversation, document: Document, messages: Sequence[MessageDocument]
) -> Mapping[str, Any]:
    """The fields that are wrong, or all of a document that is missing; the daemon keeps up its own."""
    shown = [each for each in messages if says_something(each.after)]
    dated = [(ms, each) for each in shown if (ms := time_of(each.after, "tsClient").ms) is not None]
    if not dated or is_kept_up(document.fields):
        return {}
    newest_ms, newest = max(dated, key=lambda found: (found[0], found[1].place.id))
    if document.version is not None and is_summary_right(document.fields, newest_ms):
        return {}
    right = summary(newest.after, newest_ms)
    if document.version is not None:
        return right
    names = (text(each.fields, "displayName", "name") for each in conversation.threads.values())
    thread = Thread(
        id=conversation.thread,
        account=conversation.account,
        chat=str(conversation.chat),
        name=next(filter(None, names), ""),
        last_ms=newest_ms,
        last_text=str(right["lastMessageText"])[:PREVIEW_LENGTH],
        messages=len(messages),
    )
    return {**thread_fields(thread), **right}
