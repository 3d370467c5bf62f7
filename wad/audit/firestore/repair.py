"""The repair of Firestore's documents that bugs of the legacy backend have damaged.

Nothing is deleted: duplicates, receipts without a message and moved messages are marked.  Every commit is guarded by
the fence of the epoch that was the newest when reading began, as all exclusive writes are, and each document is written
only if it is unchanged since it was read.  The old values are in the undo file before anything is written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wad.audit.duplicates import Question
from wad.audit.firestore.decode import (
    DocumentLocation,
    chat_of,
    is_managed,
    is_marked,
    is_orphan_receipt,
)
from wad.audit.firestore.plan import (
    Conversation,
    Document,
    DocumentEdit,
    MessageDocument,
    PlanInputs,
    Unit,
    plan,
    take_receipt,
)
from wad.audit.firestore.rows import PAGE, TIMEOUT, aliases_of, pages
from wad.audit.firestore.undo import decode_all, is_plain, restoring, undo_record
from wad.audit.firestore.writing import Writer
from wad.audit.keys import parse, short_hash
from wad.audit.reports import RepairReport, RepairVerdict, Undone
from wad.audit.rows import Aliases, Range
from wad.audit.sqlite import undo
from wad.audit.sqlite.repair import chown_like, make_directory
from wad.audit.sqlite.rules import right_thread
from wad.audit.sqlite.steps import ALL, RepairCounts
from wad.config.settings import StoreSettings
from wad.core.jid import Jid
from wad.lib.clock import Clock
from wad.store.app_documents import redirect_fields, thread_path
from wad.store.firestore.client.access import access_of
from wad.store.firestore.client.database import Client, Firestore
from wad.store.firestore.client.decode import get, get_all

_AT_ONCE: Final = 300  # documents of one read by name


class FirestoreRepairs:
    """`wad.audit.rows.Repairs` of a database.

    `lease`: the path of the lease's document.  `state_dir`: its owner becomes the owner of a new directory for undo
    files.
    """

    def __init__(self, firestore: Firestore, lease: str, state_dir: Path, clock: Clock) -> None:
        self._firestore = firestore
        self._writer = Writer(firestore, lease)
        self._state_dir = state_dir
        self._clock = clock

    @staticmethod
    def open(
        settings: StoreSettings, lease: str, state_dir: Path, clock: Clock
    ) -> FirestoreRepairs:
        """Open the database of the settings, without network access yet.  Raises BadConfig."""
        firestore = Firestore(access_of(settings), "repair", 1)
        return FirestoreRepairs(firestore, lease, state_dir, clock)

    def close(self) -> None:
        """Close the connection."""
        self._firestore.close()

    def repair(self, wanted: Range, undo_file: Path | None) -> RepairReport:
        """Repair.  Raises Unavailable, BadConfig, StateUnwritable; Fenced if another machine has become active;
        Conflict if the legacy backend runs, or the undo file exists already.
        """
        epoch = self._writer.begin() if undo_file is not None else 0
        counts, now_ms = RepairCounts(), self._clock.wall_ms()
        units = self._firestore.now(lambda client: _planned(client, wanted, now_ms, counts))
        if undo_file is None or not units:
            return _report(counts, wanted, units, RepairVerdict.TO_REPAIR, sum(map(len, units)))
        make_directory(undo_file.parent, self._state_dir)
        undo.write(undo_file, [undo_record(edit) for unit in units for edit in unit])
        chown_like(undo_file, self._state_dir)
        written = self._writer.write(units, epoch)
        return _report(counts, wanted, units, RepairVerdict.REPAIRED, written, undo_file)

    def revert(self, undo_file: Path) -> Undone:
        """Revert the repair's changes, and no later ones.  Raises as `repair`, and BadInput."""
        changes = undo.read(undo_file, decode_all)
        epoch = self._writer.begin()
        units = self._firestore.now(lambda client: [*restoring(client, changes)])
        rows = self._writer.write(units, epoch)
        threads = sum(edit.document.path.count("/") == 1 for unit in units for edit in unit)
        return Undone(ok=True, rows=rows, threads=threads)


def _report(
    counts: RepairCounts,
    wanted: Range,
    units: Sequence[Unit],
    verdict: RepairVerdict,
    written: int,
    undo_file: Path | None = None,
) -> RepairReport:
    return RepairReport(
        ok=True,
        verdict=verdict if units else RepairVerdict.CLEAN,
        store="firestore",
        dry_run=undo_file is None,
        rows_changed=written,
        changed_meanwhile=sum(map(len, units)) - written,
        undo_file=None if undo_file is None else str(undo_file),
        window_hours=wanted.window_hours,
        limit=wanted.limit,
        **counts.fields(),
    )


# --- reading ----------------------------------------------------------------------------------------


@dataclass
class _Found:
    """The threads of one conversation, and its messages in threads without a valid address."""

    threads: dict[str, Document] = field(default_factory=dict)
    strays: list[MessageDocument] = field(default_factory=list)


def _planned(client: Client, wanted: Range, now_ms: int, counts: RepairCounts) -> list[Unit]:
    aliases = aliases_of(client)
    since_ms = 1
    if wanted.window_hours is not None:
        since_ms = Question(now_ms, wanted.window_hours).scope.since_ms
    inputs = PlanInputs(now_ms, aliases, since_ms, wanted.limit or ALL)
    found: defaultdict[tuple[str, Jid], _Found] = defaultdict(_Found)
    units: list[Unit] = []
    for ident, document in _threads(client, wanted, aliases):
        account, _, address = ident.partition("__")
        jid = parse(address)
        if jid is not None:
            found[account, _number(account, jid, aliases)].threads[ident] = document
        elif wanted.thread in ("", ident):
            units += _scatter(client, ident, document, found, inputs, counts)
    for (account, chat), each in found.items():
        units += _conversation(client, account, chat, each, inputs, counts)
    units = [unit for unit in units if all(map(is_plain, unit)) or _leave(counts)]
    if wanted.thread:
        counts.thread_id_hash = short_hash(wanted.thread)
        counts.last_message_at_ms_candidate = _candidate(client, wanted.thread, units)
    return units


def _leave(counts: RepairCounts) -> bool:
    counts.left += 1
    return False


def _number(account: str, jid: Jid, aliases: Aliases) -> Jid:
    number = aliases.get((account, str(jid)))
    return Jid.parse(number) if number else jid


def _threads(client: Client, wanted: Range, aliases: Aliases) -> Iterator[tuple[str, Document]]:
    """Every requested thread that has a document or messages."""
    listed = client.collection("threads").list_documents(PAGE, retry=None, timeout=TIMEOUT)
    names = [name for reference in listed if _is_wanted(name := reference.id, wanted, aliases)]
    for start in range(0, len(names), _AT_ONCE):
        part = [thread_path(name) for name in names[start : start + _AT_ONCE]]
        for snapshot in get_all(client, part, timeout=TIMEOUT):
            yield snapshot.id, Document(snapshot.path, snapshot.fields, snapshot.version)


def _is_wanted(thread: str, wanted: Range, aliases: Aliases) -> bool:
    """Whether a thread is requested: a requested thread includes all threads of its conversation."""
    account, _, address = thread.partition("__")
    if wanted.account not in ("", account):
        return False
    if not wanted.thread:
        return True
    asked_account, _, asked_address = wanted.thread.partition("__")
    jid, asked = parse(address), parse(asked_address)
    if jid is None or asked is None:
        return thread == wanted.thread
    return account == asked_account and _number(account, jid, aliases) == _number(
        account, asked, aliases
    )


def _messages(client: Client, thread: str) -> list[MessageDocument]:
    query = client.collection(f"{thread_path(thread)}/messages").order_by("__name__")
    return [
        MessageDocument(
            DocumentLocation(thread, snapshot.id),
            Document(snapshot.path, snapshot.fields, snapshot.version),
        )
        for snapshot in pages(query, PAGE)
    ]


def _scatter(
    client: Client,
    thread: str,
    document: Document,
    found: dict[tuple[str, Jid], _Found],
    inputs: PlanInputs,
    counts: RepairCounts,
) -> list[Unit]:
    """Assign the messages of a thread without a valid address to their conversations; plan the edits of the thread."""
    account = thread.partition("__")[0]
    targets: set[str | None] = set()
    units: list[Unit] = []
    for message in _messages(client, thread):
        jid = parse(chat_of(thread, message.document.fields))
        if jid is not None:
            chat = _number(account, jid, inputs.aliases)
            found[account, chat].strays.append(message)
            targets.add(right_thread(account, chat))
        elif is_marked(message.document.fields):
            continue
        elif is_orphan_receipt(message.document.fields):
            take_receipt(message, (), inputs, counts)
            units.append((DocumentEdit(message.document, message.right),))
        else:
            counts.left += 1
            targets.add(None)
    if document.version is None or is_managed(document.fields) or None in targets:
        return units
    if document.fields.get("hidden") is True:
        return units
    counts.threads_updated += 1
    target = next(iter(targets)) if len(targets) == 1 else None
    fields: Mapping[str, object] = {"hidden": True} if target is None else redirect_fields(target)
    return [*units, (DocumentEdit(document, fields),)]


def _conversation(
    client: Client, account: str, chat: Jid, found: _Found, inputs: PlanInputs, counts: RepairCounts
) -> Sequence[Unit]:
    messages = [message for thread in found.threads for message in _messages(client, thread)]
    messages += found.strays
    target = right_thread(account, chat)
    if target is None:
        counts.left += len(messages)
        return ()
    threads = dict(found.threads)
    if target not in threads:
        snapshot = get(client, thread_path(target), timeout=TIMEOUT)
        threads[target] = Document(snapshot.path, snapshot.fields, snapshot.version)
        messages += _messages(client, target)
    return plan(Conversation(account, chat, target, threads, messages), inputs, counts)


def _candidate(client: Client, thread: str, units: Iterable[Unit]) -> int | None:
    """The time of a thread's last message after the repair."""
    path = thread_path(thread)
    edits = (edit for unit in units for edit in unit if edit.document.path == path)
    times = ((edit.fields or {}).get("lastMessageAtMs") for edit in edits)
    found = next((ms for ms in times if isinstance(ms, int)), None)
    if found is None:
        document = get(client, path, timeout=TIMEOUT).fields
        found = document.get("lastMessageAtMs")
    return found if isinstance(found, int) else None
