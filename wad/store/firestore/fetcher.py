"""Fetches what other machines have told since we looked last, and puts it into the replica as facts.

Every document that wad writes carries `wadSyncedAt`, the server's time of its commit; what is behind the time up to
which a collection was read is news.  The last moment is read again, since many documents share one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from wad.core.change import Change, PutAlias, PutMessage
from wad.core.errors import WadError
from wad.core.message import Message
from wad.core.outbox import Entry
from wad.store.firestore.client import (
    Client,
    FieldFilter,
    Firestore,
    Query,
    Snapshot,
    moment_of,
    version_of,
)
from wad.store.firestore.outbox_fields import entry_of
from wad.store.firestore.replica import Replica, fact_of
from wad.store.port import AccountStatus

log = logging.getLogger(__name__)

PAGE: Final = 300  # documents
_TIMEOUT: Final = 20.0  # seconds for one page
_message: Final = msgspec.msgpack.Decoder(Message).decode
_status: Final = msgspec.msgpack.Decoder(AccountStatus).decode

# Aliases first: what follows is then spelled by number at once.
COLLECTIONS: Final = ("jid_aliases", "wad_facts", "outbox", "messages")


class Fetcher:
    """From Firestore into the replica."""

    def __init__(self, firestore: Firestore, replica: Replica) -> None:
        self._firestore = firestore
        self._replica = replica

    async def fetch(self) -> int:
        """Everything that is new; how many documents were read.  Raises Unavailable."""
        count = 0
        for collection in COLLECTIONS:
            count += await self._fetch(collection)
        await self._accounts()
        return count

    async def _fetch(self, collection: str) -> int:
        since = await self._replica.synced(collection)
        last: Snapshot | None = None
        count = 0
        while True:
            found = await self._firestore.call(_page(collection, since, last))
            if not found:
                return count
            await self._take(collection, found)
            last = found[-1]
            count += len(found)
            await self._replica.set_synced(
                collection, version_of((last.to_dict() or {})["wadSyncedAt"])
            )
            if len(found) < PAGE:
                return count

    async def _take(self, collection: str, found: Sequence[Snapshot]) -> None:
        changes: dict[str, list[Change]] = {}
        entries: list[Entry] = []
        digests: list[tuple[str, bytes | None]] = []
        for snapshot in found:
            document = snapshot.to_dict() or {}
            digests.append((snapshot.reference.path, _digest_of(document)))
            try:
                if collection == "outbox":
                    entries.append(entry_of(snapshot.id, document))
                else:
                    for account, change in _READERS[collection](document):
                        changes.setdefault(account, []).append(change)
            except (WadError, msgspec.MsgspecError, KeyError, TypeError) as error:
                log.warning("%s cannot be read: %s", snapshot.reference.path, error)
        # First: what is derived alike here is then not told again.
        await self._replica.remember(digests)
        for account, facts in changes.items():
            await self._replica.record(account, facts)
        for entry in entries:
            await self._replica.put_entry(entry)

    async def _accounts(self) -> None:
        def work(client: Client) -> list[Mapping[str, Any]]:
            found = client.collection("accounts").get(retry=None, timeout=_TIMEOUT)
            return [snapshot.to_dict() or {} for snapshot in found]

        documents = await self._firestore.call(work)
        packed = [document.get("wad", {}).get("status") for document in documents]
        await self._replica.replace_accounts([_status(one) for one in packed if one is not None])


def _page(collection: str, since: str, last: Snapshot | None) -> Any:
    def work(client: Client) -> list[Snapshot]:
        everywhere = collection == "messages"
        base = client.collection_group if everywhere else client.collection
        query: Query = base(collection).order_by("wadSyncedAt")
        if since:
            query = query.where(filter=FieldFilter("wadSyncedAt", ">=", moment_of(since)))
        if last is not None:
            query = query.start_after(last)
        return list(query.limit(PAGE).get(retry=None, timeout=_TIMEOUT))

    return work


def _digest_of(document: Mapping[str, Any]) -> bytes | None:
    digest = document.get("wad", {}).get("digest")
    return digest if isinstance(digest, bytes) else None


def _alias(document: Mapping[str, Any]) -> list[tuple[str, Change]]:
    return [(document["accountId"], PutAlias(document["rawJid"], document["canonicalJid"]))]


def _fact(document: Mapping[str, Any]) -> list[tuple[str, Change]]:
    return [fact_of(document["payload"])]


def _told(document: Mapping[str, Any]) -> list[tuple[str, Change]]:
    told = document["wad"].get("told")
    if told is None:
        return []
    message = _message(told)
    return [(message.account, PutMessage(message))]


_READERS: Final = {"jid_aliases": _alias, "wad_facts": _fact, "messages": _told}
