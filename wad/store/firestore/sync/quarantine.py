"""The quarantine of Firestore's documents: an operator lists, retries or drops its items."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from wad.core.errors import BadInput, NotFound
from wad.core.quarantine import Quarantined
from wad.core.untrusted import text
from wad.store.firestore.client.commit import commit, if_unchanged, upsert
from wad.store.firestore.client.database import Client, Firestore, Snapshot
from wad.store.firestore.client.decode import GeoPoint, Reference, Unreadable, get
from wad.store.firestore.documents.decode import Queued, read_document
from wad.store.firestore.sync.change_log import KeyKind
from wad.store.firestore.sync.pull import quarantined_document
from wad.store.firestore.sync.quarantine_rows import MORE, FailedAction, QuarantinedDocument
from wad.store.firestore.sync.replica import Replica

_TIMEOUT: Final = 5.0  # seconds; a caller waits
_MAX_FIELDS: Final = 100  # of a document that are shown
_MAX_NAME: Final = 60  # characters of a field's name
_DELETED: Final = "its document was deleted: nothing is left to do"


class DocumentQuarantine:
    """`wad.core.quarantine.Source` for Firestore.  `push_again` logs a document of ours for another push.

    `on_entry` is called with the account of an outbox entry that could be read after all.
    """

    def __init__(
        self,
        firestore: Firestore,
        replica: Replica,
        push_again: Callable[[QuarantinedDocument], Awaitable[None]],
        on_entry: Callable[[str], None],
    ) -> None:
        self._firestore = firestore
        self._replica = replica
        self._push_again = push_again
        self._on_entry = on_entry

    @property
    def count(self) -> int:
        """The number of items."""
        return self._replica.quarantined + self._replica.unlisted

    async def items(self) -> Sequence[Quarantined]:
        """All items."""
        return await self._replica.quarantined_items()

    async def show(self, ident: str) -> str:
        """Describe the document as it is in Firestore now: the names, types and lengths of its fields."""
        if ident == MORE:
            return "the log has named each; `retry` lets them be read again, once there is room in quarantine"
        item = await self._find(ident)
        if item.origin is FailedAction.WRITE:
            return f"wad's own {item.kind} {item.key}, which Firestore does not accept; it is complete on this machine"
        found = await self._get(item.path)
        if not found.exists:
            return _DELETED
        lines = [f"{_shown(name)}: {type_of(value)}" for name, value in found.fields.items()]
        left = len(lines) - _MAX_FIELDS
        more = [f"and {left} more fields"] if left > 0 else []
        return "\n".join([f"written at {found.update_time.rfc3339()}", *lines[:_MAX_FIELDS], *more])

    async def retry(self, ident: str) -> str:
        """Read the document again as it is in Firestore now; or push it again."""
        if ident == MORE:
            await self._replica.release_unlisted()
            return "they are handled again when they are read next, at the latest when this machine takes the lease"
        item = await self._find(ident)
        if item.origin is FailedAction.WRITE:
            if item.kind == KeyKind.FACT and item.payload is None:
                raise BadInput("its content is no longer kept: too much was in quarantine")
            if not item.kind:
                raise BadInput(f"{item.path} is pushed again once it changes on this machine")
            await self._push_again(item)
            return "it waits to be pushed to Firestore again"
        found = await self._get(item.path)
        if not found.exists:
            await self._replica.release_quarantined([item.path])
            return _DELETED
        return await self._read(found)

    async def _read(self, found: Snapshot) -> str:
        if found.path.startswith("threads/") and not found.fields.get("wadBy"):
            # A legacy message is searched when an event refers to it.
            await self._replica.release_quarantined([found.path])
            return "it is read when an event refers to its message"
        try:
            document = read_document(_queued_again(found))
        except BadInput as error:
            await self._replica.add_quarantined([quarantined_document(found, error)])
            raise
        if isinstance(document, Queued) and text(found.fields, "status") == "failed":
            await self._queue_again(found)
            return "the entry is queued again"
        for _, fault in await self._replica.record_remote([document]):
            await self._replica.add_quarantined([quarantined_document(found, fault)])
            raise BadInput(f"it cannot be recorded: {type(fault).__name__}") from fault
        if not isinstance(document, Queued):
            return "it was read"
        self._on_entry(document.entry.account)
        return f"the entry is {document.entry.state}"

    async def _queue_again(self, found: Snapshot) -> None:
        """Queue an entry that was rejected since it could not be read; the holder of the lease takes it like a new
        one."""
        fields = {"status": "queued", "lastError": None}

        def work(client: Client) -> None:
            write = if_unchanged(upsert(client, found.path, fields), found.update_time)
            commit(client, [write], _TIMEOUT)

        await self._firestore.call(work)
        await self._replica.release_quarantined([found.path])

    async def drop(self, ident: str) -> None:
        """Delete the item; its document stays, and is read again once it has been written again."""
        if ident == MORE:
            await self._replica.drop_unlisted()
            return
        await self._replica.drop_quarantined((await self._find(ident)).path)

    async def _find(self, ident: str) -> QuarantinedDocument:
        item = await self._replica.quarantined_item(ident)
        if item is None:
            raise NotFound(f"item {ident} not found in quarantine")
        return item

    async def _get(self, path: str) -> Snapshot:
        return await self._firestore.call(lambda client: get(client, path, timeout=_TIMEOUT))


def _queued_again(found: Snapshot) -> Snapshot:
    """The document with status `queued`, if it is an entry that we rejected since we could not read it."""
    if not found.path.startswith("outbox/") or text(found.fields, "status") != "failed":
        return found
    return replace(found, fields={**found.fields, "status": "queued"})


def type_of(value: Any) -> str:
    """The type of a value in Firestore's terms, and its length; nothing of its content."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "double" if value == value and abs(value) != float("inf") else str(value)
        case datetime():
            return f"timestamp of the year {value.year}"
        case str():
            return f"string, {len(value)} characters"
        case bytes():
            return f"bytes, {len(value)}"
        case Reference():
            return "reference"
        case GeoPoint():
            return "geopoint"
        case Mapping():
            return f"map of {len(value)} fields"
        case list():
            return f"array of {len(value)}"
        case Unreadable():
            return f"{value.type} that cannot be read"
    return "unknown"


def _shown(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}..."
