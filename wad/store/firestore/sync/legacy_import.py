"""The import of legacy documents: the replica records the history that other programs have stored in Firestore.

Requests from apps are answered from the replica, so what is only in Firestore is not shown.  It is read once, thread by
thread, when an operator asks for it, and not page by page with each request: a page would cost a read of Firestore for
each document, would wait for the network, and could not be sorted, since those programs wrote times as Timestamps and
as texts, which Firestore sorts apart.

Nothing is written but the summaries of threads: the documents of the messages stay as they are.  Threads that only wad
has written are not read.  An import that is repeated changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from wad.core.change import PutChat
from wad.core.errors import BadInput
from wad.core.jid import Jid, ThreadId
from wad.core.message import Message
from wad.core.untrusted import integer, map_, text
from wad.store.app_documents import thread_path
from wad.store.firestore.client.database import Client, FieldFilter, Snapshot
from wad.store.firestore.client.decode import after, find
from wad.store.firestore.documents.legacy import is_legacy, message_of, wa_ids
from wad.store.firestore.sync.legacy import check_of
from wad.store.port import LegacyImport

log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE: Final = 300  # documents
_TIMEOUT: Final = 20.0  # seconds for one page
_NAMES: Final = ("displayName", "name", "pushName")


class ImportingStore(Protocol):
    """What the import needs of the store."""

    async def ask(self, work: Callable[[Client], T]) -> T:
        """Run `work` with Firestore's client, on a thread."""
        ...

    async def import_messages(
        self, account: str, chat: PutChat | None, messages: Sequence[Message]
    ) -> int:
        """Record what is not recorded yet; return the number of new messages."""
        ...


class LegacyThread(NamedTuple):
    """A thread's document that another program has written to, and the number of its messages."""

    snapshot: Snapshot
    messages: int


async def import_legacy(
    store: ImportingStore, accounts: Sequence[str], *, dry_run: bool
) -> AsyncIterator[LegacyImport]:
    """Import the legacy documents of these accounts and yield the progress; the first step has the cost.

    `dry_run`: only count.  Raises Unavailable; what was recorded stays.
    """
    progress = LegacyImport()
    threads: list[tuple[str, LegacyThread]] = []
    for account in accounts:
        found = await store.ask(lambda client, account=account: _threads(client, account))  # type: ignore[misc]
        threads += [(account, one) for one in found]
        progress = msgspec.structs.replace(
            progress,
            threads=len(threads),
            messages=sum(one.messages for _, one in threads),
        )
    yield progress
    if dry_run:
        return
    for account, thread in threads:
        chat = _chat(thread.snapshot)
        last: Snapshot | None = None
        while True:
            at = last
            page = await store.ask(lambda client: _page(client, thread.snapshot.id, at))  # noqa: B023
            read = (_message(thread.snapshot.id, one) for one in page)
            messages = [one for one in read if one is not None]
            new = await store.import_messages(account, chat, messages)
            chat = None
            progress = msgspec.structs.replace(
                progress,
                read=progress.read + len(page),
                imported=progress.imported + new,
                known=progress.known + len(messages) - new,
                skipped=progress.skipped + len(page) - len(messages),
            )
            yield progress
            if len(page) < PAGE:
                break
            last = page[-1]


def _threads(client: Client, account: str) -> list[LegacyThread]:
    """The account's threads that another program has written to."""
    query = client.collection("threads").where(filter=FieldFilter("accountId", "==", account))
    found: list[Snapshot] = []
    last: Snapshot | None = None
    while True:
        page = find((query if last is None else after(query, last)).limit(PAGE), timeout=_TIMEOUT)
        found += [one for one in page if check_of(one).until_ms]
        if len(page) < PAGE:
            break
        last = page[-1]
    return [LegacyThread(one, _count(client, one.id)) for one in found]


def _count(client: Client, thread: str) -> int:
    query: Any = client.collection(f"{thread_path(thread)}/messages")
    ((result,),) = query.count().get(retry=None, timeout=_TIMEOUT)
    return int(result.value)


def _page(client: Client, thread: str, last: Snapshot | None) -> list[Snapshot]:
    query = client.collection(f"{thread_path(thread)}/messages").order_by("__name__")
    part = query if last is None else after(query, last)
    return find(part.limit(PAGE), timeout=_TIMEOUT)


# --- documents ------------------------------------------------------------------------------------


def _message(thread: str, snapshot: Snapshot) -> Message | None:
    """The message of a legacy document; None for wad's own, a marked duplicate, and one that is no message."""
    document = snapshot.fields
    if not is_legacy(snapshot.id, document) or document.get("isDuplicate") is True:
        return None
    if not text(document, "direction"):  # a receipt of a message that is not there
        return None
    ids = wa_ids(document) | {text(document, "waMessageIdRaw")} - {""}
    try:
        return message_of(_thread_of(thread, document), snapshot.id, min(ids, default=""), document)
    except BadInput as error:
        log.warning("legacy message %s is not imported: %s", snapshot.id, error)
        return None


def _thread_of(thread: str, document: Mapping[str, Any]) -> str:
    """The id of the document's thread; where that is invalid, that of the address in the message's key."""
    try:
        return str(ThreadId.parse(thread))
    except BadInput:
        account = thread.partition("__")[0]
        return str(ThreadId.make(account, Jid.parse(text(map_(document, "key"), "remoteJid"))))


def _chat(snapshot: Snapshot) -> PutChat | None:
    """The thread's name, and its number of unread messages: a program that kept none had read all of them."""
    try:
        thread = ThreadId.parse(snapshot.id)
    except BadInput:
        return None
    document = snapshot.fields
    last_ms = check_of(snapshot).last_ms
    name = next(filter(None, (text(document, name) for name in _NAMES)), "")
    if name.lstrip("+").isdigit() or not thread.jid.is_person:
        name = ""
    return PutChat(
        str(thread),
        str(thread.jid),
        push_name=name,
        name_ms=last_ms if name else 0,
        unread=integer(document, "unreadCount", low=0) or 0,
        unread_ms=last_ms,
    )
