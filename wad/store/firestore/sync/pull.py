"""The pull: documents that other machines pushed since the last pull are recorded in the replica as facts.

Every document that wad writes has `wadBy`, the machine that wrote it last, and `wadSyncedAt`, the server's time of that
commit.  Documents of a machine after the time of its last pull are new; those of exactly that time are read again,
since many documents share one time.  Our own documents are never read, unless the replica is new.

Every program that may write to Firestore may have changed such a document.  A document that cannot be read, or whose
content is impossible, is quarantined by its path, and the next ones are read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from wad.core.errors import BadInput, WadError
from wad.store.firestore.client.database import (
    Client,
    FieldFilter,
    Firestore,
    Query,
    Snapshot,
    is_about_the_request,
    moment_of,
    version_of,
)
from wad.store.firestore.client.decode import after, find
from wad.store.firestore.documents.decode import RemoteDocument, read_document
from wad.store.firestore.sync.machines import Machines
from wad.store.firestore.sync.quarantine_rows import QuarantinedDocument
from wad.store.firestore.sync.replica import Replica

log = logging.getLogger(__name__)

PAGE: Final = 300  # documents
COLLECTIONS: Final = ("jid_aliases", "wad_facts", "outbox", "messages", "accounts")
"""Aliases first: the rest is then recorded under the number at once.  All but messages are top-level collections."""
_TIMEOUT: Final = 20.0  # seconds for one page
_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)


_ENDED: Final = " to its end"


def _ended(machine: str) -> str:
    """The source name of a retired machine that was pulled completely."""
    return machine + _ENDED


class Puller:
    """Pulls from Firestore into the replica."""

    def __init__(self, firestore: Firestore, replica: Replica, machines: Machines) -> None:
        self._firestore = firestore
        self._replica = replica
        self._machines = machines

    async def pull(self) -> int:
        """Pull everything that is new; return the number of documents read.

        Raises Unavailable; for an error of one query, after the others were read.
        """
        count = 0
        failed: WadError | None = None
        for machine in await self._others():
            whole = True
            for collection in COLLECTIONS:
                try:
                    count += await self._pull(machine, collection)
                except WadError as error:
                    if not is_about_the_request(error):
                        raise
                    failed, whole = error, False
            if whole and machine in self._machines.retired:
                await self._replica.set_synced(_ended(machine), self._end_of(machine))
        if failed is not None:
            raise failed
        if not await self._replica.synced(self._machines.id):
            await self._replica.set_synced(self._machines.id, "known")
        return count

    async def _others(self) -> list[str]:
        """The machines whose documents may be new: all others, and this one if its replica is new.

        Of retired machines only those that were not pulled completely.
        """
        found = await self._machines.register()
        whole = not await self._replica.synced(self._machines.id)
        others = [machine for machine in found if whole or machine != self._machines.id]
        read = await self._replica.synced_all(_ENDED)
        return others + [
            machine
            for machine in self._machines.retired
            if machine not in found and read.get(_ended(machine)) != self._end_of(machine)
        ]

    def _end_of(self, machine: str) -> str:
        """When a retired machine was last seen: it differs if the machine comes back and is retired again."""
        return str(self._machines.retired[machine].seen_ms)

    async def _pull(self, machine: str, collection: str) -> int:
        source = f"{machine} {collection}"
        since = await self._replica.synced(source)
        last: Snapshot | None = None
        count = 0
        while found := await self._firestore.call(page(machine, collection, since, last)):
            await self._record(found)
            last = found[-1]
            count += len(found)
            # A time in the future was written by another program: after it, nothing would ever be new.
            read_until = [one for one in found if one.fields["wadSyncedAt"] <= one.read_time]
            if read_until:
                until = version_of(read_until[-1].fields["wadSyncedAt"])
                await self._replica.set_synced(source, until)
            if len(found) < PAGE or not read_until:
                break
        return count

    async def _record(self, found: Sequence[Snapshot]) -> None:
        unreadable: list[QuarantinedDocument] = []
        documents: list[RemoteDocument] = []
        known = await self._replica.known_quarantined(found)
        for snapshot in found:
            if snapshot.path in known:
                continue
            try:
                documents.append(read_document(snapshot))
            except BadInput as error:
                unreadable.append(quarantined_document(snapshot, error))
        unreadable += [
            quarantined_document(snapshot, error)
            for snapshot, error in await self._replica.record_remote(documents)
        ]
        await self._replica.add_quarantined(unreadable)


def quarantined_document(snapshot: Snapshot, error: Exception) -> QuarantinedDocument:
    """The quarantine item of a document that cannot be read."""
    reason = (
        str(error) if isinstance(error, WadError) else f"an internal error: {type(error).__name__}"
    )
    account = snapshot.fields.get("accountId")
    return QuarantinedDocument(
        path=snapshot.path,
        account=account[:100] if isinstance(account, str) else "",
        reason=reason,
        size=snapshot.size,
        version=version_of(snapshot.update_time),
    )


def page(
    machine: str, collection: str, since: str, last: Snapshot | None
) -> Callable[[Client], list[Snapshot]]:
    """A call that reads the next documents that a machine wrote."""

    def work(client: Client) -> list[Snapshot]:
        return find(query(client, machine, collection, since, last), timeout=_TIMEOUT)

    return work


def query(
    client: Client, machine: str, collection: str, since: str = "", last: Snapshot | None = None
) -> Query:
    """The query for documents that a machine wrote at `since` or later, after the document `last`."""
    everywhere = collection == "messages"
    base = client.collection_group if everywhere else client.collection
    found: Query = base(collection).where(filter=FieldFilter("wadBy", "==", machine))
    low = moment_of(since) if since else _FIRST
    found = found.where(filter=FieldFilter("wadSyncedAt", ">=", low)).order_by("wadSyncedAt")
    if last is not None:
        found = after(found, last)
    return found.limit(PAGE)
