"""The quarantine of what lies in Firestore: shown, handled again, or forgotten, by an operator's order."""

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
from wad.store.firestore.sync.pull import aside_of
from wad.store.firestore.sync.quarantine_rows import MORE, FailedAction, QuarantinedDocument
from wad.store.firestore.sync.replica import Replica

_TIMEOUT: Final = 5.0  # seconds; somebody waits
_FIELDS: Final = 100  # of a document that are shown
_NAME: Final = 60  # characters of a field's name
_GONE: Final = "its document is gone: nothing is left to be done"


class DocumentQuarantine:
    """`wad.core.quarantine.Source`.  `write_again` lets a document of ours wait to be told once more.

    `on_entry` is called with an entry of the outbox that could be read after all.
    """

    def __init__(
        self,
        firestore: Firestore,
        replica: Replica,
        write_again: Callable[[QuarantinedDocument], Awaitable[None]],
        on_entry: Callable[[str], None],
    ) -> None:
        self._firestore = firestore
        self._replica = replica
        self._write_again = write_again
        self._on_entry = on_entry

    @property
    def count(self) -> int:
        """How many items there are."""
        return self._replica.aside + self._replica.unlisted

    async def items(self) -> Sequence[Quarantined]:
        """All of them."""
        return await self._replica.aside_items()

    async def show(self, ident: str) -> str:
        """The document as it is in Firestore now: its fields' names and types, and how long they are."""
        if ident == MORE:
            return "each was named in the log; `retry` lets them be read again, once others have made room"
        item = await self._find(ident)
        if item.origin is FailedAction.WRITE:
            return (
                f"wad's own {item.kind} {item.key}, which Firestore does not take; here it is whole"
            )
        found = await self._get(item.path)
        if not found.exists:
            return _GONE
        lines = [f"{_shown(name)}: {type_of(value)}" for name, value in found.fields.items()]
        left = len(lines) - _FIELDS
        more = [f"and {left} more fields"] if left > 0 else []
        return "\n".join([f"written at {found.update_time.rfc3339()}", *lines[:_FIELDS], *more])

    async def retry(self, ident: str) -> str:
        """Read it again, as it is in Firestore now; or write it again."""
        if ident == MORE:
            await self._replica.release_unlisted()
            return (
                "they are handled again when they are read next, at the latest with the next reign"
            )
        item = await self._find(ident)
        if item.origin is FailedAction.WRITE:
            if item.kind == KeyKind.FACT and item.payload is None:
                raise BadInput("what it held is not kept any more: too much was in quarantine")
            if not item.kind:
                raise BadInput(f"{item.path} is written again once anything of it changes here")
            await self._write_again(item)
            return "it waits to be written to Firestore again"
        found = await self._get(item.path)
        if not found.exists:
            await self._replica.release([item.path])
            return _GONE
        return await self._read(found)

    async def _read(self, found: Snapshot) -> str:
        if found.path.startswith("threads/") and not found.fields.get("wadBy"):
            # A message of the backend before us is looked for when something happens to it.
            await self._replica.release([found.path])
            return "it is read when something happens to its message"
        try:
            told = read_document(_queued_again(found))
        except BadInput as error:
            await self._replica.set_aside([aside_of(found, error)])
            raise
        if isinstance(told, Queued) and text(found.fields, "status") == "failed":
            await self._queue_again(found)
            return "the entry is queued again"
        for _, fault in await self._replica.take_told([told]):
            await self._replica.set_aside([aside_of(found, fault)])
            raise BadInput(f"it cannot be recorded: {type(fault).__name__}") from fault
        if not isinstance(told, Queued):
            return "it was read"
        self._on_entry(told.entry.account)
        return f"the entry is {told.entry.state}"

    async def _queue_again(self, found: Snapshot) -> None:
        """Where it was turned down since it could not be read: then the holder of the lease takes it like a new one."""
        fields = {"status": "queued", "lastError": None}

        def work(client: Client) -> None:
            write = if_unchanged(upsert(client, found.path, fields), found.update_time)
            commit(client, [write], _TIMEOUT)

        await self._firestore.call(work)
        await self._replica.release([found.path])

    async def drop(self, ident: str) -> None:
        """Forget it; its document stays, and is looked at again once somebody has written it anew."""
        if ident == MORE:
            await self._replica.drop_unlisted()
            return
        await self._replica.drop_aside((await self._find(ident)).path)

    async def _find(self, ident: str) -> QuarantinedDocument:
        item = await self._replica.aside_item(ident)
        if item is None:
            raise NotFound(f"there is no item {ident} in quarantine")
        return item

    async def _get(self, path: str) -> Snapshot:
        return await self._firestore.call(lambda client: get(client, path, timeout=_TIMEOUT))


def _queued_again(found: Snapshot) -> Snapshot:
    """An entry that we turned down since we could not read it is to be sent, if it can be read now."""
    if not found.path.startswith("outbox/") or text(found.fields, "status") != "failed":
        return found
    return replace(found, fields={**found.fields, "status": "queued"})


def type_of(value: Any) -> str:
    """What a value is and how long, in Firestore's words; nothing of what it says."""
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
    return name if len(name) <= _NAME else f"{name[:_NAME]}..."
