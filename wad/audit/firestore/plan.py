"""The repair plan of one conversation: documents in, edits out.  Pure.

A conversation is all threads of an account with one party: under its number, its LID, an old spelling, or an object's
text.  Nothing is deleted: a message that belongs to another thread is copied there, and the original is marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from wad.audit.duplicates import grouped, largest, windowed
from wad.audit.firestore.decode import (
    DocumentLocation,
    is_managed,
    is_marked,
    is_orphan_receipt,
    message_row,
    redirect_of,
    time_of,
)
from wad.audit.firestore.rules import (
    BEFORE,
    has_content,
    is_summary_right,
    right_status,
    right_times,
    summary,
    with_receipt,
)
from wad.audit.keys import KeyMode, is_hidden
from wad.audit.rows import Aliases, MessageRow, ReadRows, Scope
from wad.audit.sqlite.steps import SAMPLE, RepairCounts
from wad.core.jid import Jid
from wad.core.message import PREVIEW_LENGTH, Thread
from wad.core.untrusted import Fields, text
from wad.store.app_documents import moment, redirect_fields, thread_fields

RECEIPT: Final = "receipt_without_message"
MOVED: Final = "moved"
DUPLICATE: Final = "duplicate"


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it was read; `version` None: it does not exist."""

    path: str
    fields: Fields
    version: datetime | None


@dataclass(frozen=True, slots=True)
class DocumentEdit:
    """An edit of one document.  `fields` None: delete it; `gone`: fields to delete."""

    document: Document
    fields: Mapping[str, Any] | None
    gone: tuple[str, ...] = ()


Unit = tuple[DocumentEdit, ...]
"""Edits that must be written together."""


@dataclass(slots=True, eq=False)
class MessageDocument:
    """A message's document, its corrected fields, and its location."""

    location: DocumentLocation
    document: Document
    right: dict[str, Any] = field(default_factory=dict)

    @property
    def after(self) -> Fields:
        """The fields after the edit."""
        return {**self.document.fields, **self.right}

    @property
    def row(self) -> MessageRow:
        """The row after the edit."""
        return message_row(self.location, self.after)


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation.  `thread`: its correct thread; `threads`: the documents of all its threads, by id."""

    account: str
    chat: Jid
    thread: str
    threads: Mapping[str, Document]
    messages: Sequence[MessageDocument]


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """The time, the aliases, and the scope of duplicates."""

    now_ms: int
    aliases: Aliases
    since_ms: int
    limit: int


def plan(conversation: Conversation, inputs: PlanInputs, counts: RepairCounts) -> list[Unit]:
    """Plan all edits of a conversation; count them in `counts`."""
    ours = [each for each in conversation.messages if not is_marked(each.document.fields)]
    counts.duplicates_already_marked += len(conversation.messages) - len(ours)
    receipts = [each for each in ours if is_orphan_receipt(each.document.fields)]
    real = [each for each in ours if not is_orphan_receipt(each.document.fields)]
    for each in real:
        _correct(each, counts)
    for each in receipts:
        take_receipt(each, real, inputs, counts)
    moves = _Moves(conversation, inputs, counts)
    units = moves.plan(real)
    changed = [each for each in ours if each.right and each not in moves.moved]
    units += [(DocumentEdit(each.document, each.right),) for each in changed]
    shown = [each for each in real if not is_marked(each.after)] + moves.copies
    return [*units, *_threads(conversation, shown, counts)]


def _correct(message: MessageDocument, counts: RepairCounts) -> None:
    fields = message.document.fields
    if is_managed(fields):
        return
    times = right_times(fields)
    if times is None:
        counts.left += 1
    elif times:
        message.right |= times
        counts.times_rewritten += 1
    status = right_status(fields)
    if status is not None:
        message.right |= {"status": status.value, BEFORE: fields["status"]}
        counts.statuses_corrected += 1


def _mark(message: MessageDocument, original: str | None, why: str, inputs: PlanInputs) -> None:
    """Mark it as a duplicate: readers skip it, and it is not deleted."""
    message.right |= {
        "isDuplicate": True,
        "duplicateOf": original,
        "duplicateMarkedAt": moment(inputs.now_ms),
        "duplicateReason": why,
    }


def take_receipt(
    receipt: MessageDocument,
    real: Iterable[MessageDocument],
    inputs: PlanInputs,
    counts: RepairCounts,
) -> None:
    """Copy its status to the message with this WhatsApp id; then mark the receipt's document."""
    found = [each for each in real if each.row.wa_id == receipt.location.id]
    counts.receipts_marked += 1
    _mark(receipt, found[0].location.id if found else None, RECEIPT, inputs)
    for each in found:
        status = with_receipt(each.after, receipt.document.fields)
        if status is not None and not is_managed(each.document.fields):
            counts.statuses_corrected += "status" not in each.right
            each.right |= {BEFORE: each.document.fields.get("status"), "status": status.value}


class _Moves:
    """Chooses the document to keep of each message, and moves it to its thread."""

    def __init__(
        self, conversation: Conversation, inputs: PlanInputs, counts: RepairCounts
    ) -> None:
        self._conversation = conversation
        self._terms = inputs
        self._counts = counts
        locations = [each.location for each in conversation.messages]
        self._there = {
            location.id for location in locations if location.thread == conversation.thread
        }
        self.moved: list[MessageDocument] = []
        self.copies: list[MessageDocument] = []

    def plan(self, messages: Sequence[MessageDocument]) -> list[Unit]:
        """Plan the moves, and mark duplicates."""
        rows = {each.row.id: each for each in messages}
        inside = self._inside([each.row for each in messages])
        self._counts.scanned_messages += len(messages)
        groups = grouped((each.row for each in messages), self._terms.aliases, KeyMode.STABLE)
        duplicates = {
            key: group
            for key, group in groups.items()
            if sum(row.id in inside for row in group) > 1
        }
        if len(self._counts.sample_groups) < SAMPLE:
            found = (*self._counts.sample_groups, *largest(duplicates))
            self._counts.sample_groups = found[:SAMPLE]
        units: list[Unit] = []
        for key, group in groups.items():
            first, *others = sorted(group, key=self._to_keep)
            for other in others if key in duplicates else ():
                self._mark_duplicate(rows[other.id], rows[first.id], inside)
            self._counts.groups_with_duplicates += key in duplicates
            for row in group:
                message = rows[row.id]
                if not is_marked(message.after) and row.thread != self._conversation.thread:
                    units += self._move(message)
        return units

    def _to_keep(self, row: MessageRow) -> tuple[bool, bool]:
        """The sort key before that of `grouped`: documents that the daemon manages, then those in the correct
        thread."""
        return not row.managed, row.thread != self._conversation.thread

    def _inside(self, rows: Sequence[MessageRow]) -> set[str]:
        scope = Scope("", "", self._terms.since_ms, self._terms.limit)
        found, _, _ = windowed(ReadRows(rows=tuple(rows), types={}), scope)
        return {row.id for row in found}

    def _mark_duplicate(
        self, other: MessageDocument, first: MessageDocument, inside: set[str]
    ) -> None:
        if other.row.id not in inside:
            return
        if is_managed(other.document.fields):
            self._counts.left += 1
            return
        _mark(other, first.location.id, DUPLICATE, self._terms)
        self._counts.duplicates_to_mark += 1

    def _move(self, message: MessageDocument) -> list[Unit]:
        """Copy the document to its correct thread and mark the original; the daemon moves its own documents itself."""
        if is_managed(message.document.fields):
            return []
        if message.location.id in self._there:
            self._counts.left += 1
            return []
        target = self._conversation.thread
        location = DocumentLocation(target, message.location.id)
        chat = str(self._conversation.chat)
        fields = {
            **message.after,
            "accountId": self._conversation.account,
            "threadId": target,
            "canonicalThreadId": target,
            "clientJid": chat,
            "movedFrom": message.location.thread,
        }
        self._there.add(location.id)
        self._counts.messages_moved += 1
        copy = MessageDocument(location, Document(location.path, {}, None), fields)
        message.right = {"movedTo": target}
        _mark(message, message.location.id, MOVED, self._terms)
        self.moved.append(message)
        self.copies.append(copy)
        return [
            (DocumentEdit(copy.document, fields), DocumentEdit(message.document, message.right))
        ]


# --- the conversation's own documents -------------------------------------------------------------------


def _threads(
    conversation: Conversation, messages: Sequence[MessageDocument], counts: RepairCounts
) -> list[Unit]:
    units: list[Unit] = []
    for ident, document in conversation.threads.items():
        if ident == conversation.thread or document.version is None:
            continue
        if redirect_of(ident, document.fields) == conversation.thread:
            continue
        if is_managed(document.fields):
            counts.left += 1
        else:
            counts.addresses_joined += is_hidden(ident.partition("__")[2])
            counts.threads_updated += 1
            units.append((DocumentEdit(document, redirect_fields(conversation.thread)),))
    document = conversation.threads[conversation.thread]
    fields = _summary(conversation, document, messages)
    if fields:
        counts.threads_updated += 1
        units.append((DocumentEdit(document, fields),))
    return units


def _summary(
    conversation: Conversation, document: Document, messages: Sequence[MessageDocument]
) -> Mapping[str, Any]:
    """The wrong fields, or all fields of a missing document; the daemon manages its own documents."""
    shown = [each for each in messages if has_content(each.after)]
    dated = [(ms, each) for each in shown if (ms := time_of(each.after, "tsClient").ms) is not None]
    if not dated or is_managed(document.fields):
        return {}
    newest_ms, newest = max(dated, key=lambda found: (found[0], found[1].location.id))
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
