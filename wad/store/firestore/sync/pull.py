"""Fetches what other machines have told since we looked last, and puts it into the replica as facts.

Every document that wad writes carries `wadBy`, the machine that wrote it last, and `wadSyncedAt`, the server's time of
that commit.  What a machine wrote behind the time up to which it was read is news; the last moment is read again, since
many documents share one.  What we wrote ourselves is never read, unless the replica is new.

Anybody who may write to Firestore may have changed such a document.  One that cannot be read, or says something that
cannot be true, is set aside by its path, and what lies behind it is read.
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
from wad.store.firestore.documents.decode import Told, read_document
from wad.store.firestore.sync.machines import Machines
from wad.store.firestore.sync.quarantine_rows import QuarantinedDocument
from wad.store.firestore.sync.replica import Replica

log = logging.getLogger(__name__)

PAGE: Final = 300  # documents
COLLECTIONS: Final = ("jid_aliases", "wad_facts", "outbox", "messages", "accounts")
"""Aliases first: what follows is then spelled by number at once.  All but messages lie at the top."""
_TIMEOUT: Final = 20.0  # seconds for one page
_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)


_ENDED: Final = " to its end"


def _ended(machine: str) -> str:
    """The source of what a retired machine has written, all of it."""
    return machine + _ENDED


class Puller:
    """From Firestore into the replica."""

    def __init__(self, firestore: Firestore, replica: Replica, machines: Machines) -> None:
        self._firestore = firestore
        self._replica = replica
        self._machines = machines

    async def fetch(self) -> int:
        """Everything that is new; how many documents were read.  Raises Unavailable, once the rest was read."""
        count = 0
        failed: WadError | None = None
        for machine in await self._others():
            whole = True
            for collection in COLLECTIONS:
                try:
                    count += await self._fetch(machine, collection)
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
        """The machines whose documents may be news: all others, and this one if its replica is new.

        Of those that are retired only the ones that were not read to their ends.
        """
        found = await self._machines.meet()
        whole = not await self._replica.synced(self._machines.id)
        others = [machine for machine in found if whole or machine != self._machines.id]
        read = await self._replica.synced_all(_ENDED)
        return others + [
            machine
            for machine in self._machines.retired
            if machine not in found and read.get(_ended(machine)) != self._end_of(machine)
        ]

    def _end_of(self, machine: str) -> str:
        """When a retired machine was seen last: should it come back, and go again, it is another end."""
        return str(self._machines.retired[machine].seen_ms)

    async def _fetch(self, machine: str, collection: str) -> int:
        source = f"{machine} {collection}"
        since = await self._replica.synced(source)
        last: Snapshot | None = None
        count = 0
        while found := await self._firestore.call(page(machine, collection, since, last)):
            await self._take(found)
            last = found[-1]
            count += len(found)
            # A time that is still to come was written by somebody else: nothing would ever be news again.
            past = [one for one in found if one.fields["wadSyncedAt"] <= one.read_time]
            if past:
                until = version_of(past[-1].fields["wadSyncedAt"])
                await self._replica.set_synced(source, until)
            if len(found) < PAGE or not past:
                break
        return count

    async def _take(self, found: Sequence[Snapshot]) -> None:
        aside: list[QuarantinedDocument] = []
        told: list[Told] = []
        known = await self._replica.known_aside(found)
        for snapshot in found:
            if snapshot.path in known:
                continue
            try:
                told.append(read_document(snapshot))
            except BadInput as error:
                aside.append(aside_of(snapshot, error))
        aside += [
            aside_of(snapshot, error) for snapshot, error in await self._replica.take_told(told)
        ]
        await self._replica.set_aside(aside)


def aside_of(snapshot: Snapshot, error: Exception) -> QuarantinedDocument:
    """What is set aside of a document that cannot be read."""
    named = (
        str(error) if isinstance(error, WadError) else f"an internal error: {type(error).__name__}"
    )
    account = snapshot.fields.get("accountId")
    return QuarantinedDocument(
        path=snapshot.path,
        account=account[:100] if isinstance(account, str) else "",
        reason=named,
        size=snapshot.size,
        version=version_of(snapshot.update_time),
    )


def page(
    machine: str, collection: str, since: str, last: Snapshot | None
) -> Callable[[Client], list[Snapshot]]:
    """Reads the next documents that a machine wrote."""

    def work(client: Client) -> list[Snapshot]:
        return find(query(client, machine, collection, since, last), timeout=_TIMEOUT)

    return work


def query(
    client: Client, machine: str, collection: str, since: str = "", last: Snapshot | None = None
) -> Query:
    """What a machine wrote at `since` or later, behind the document `last`; nothing whose time is none."""
    everywhere = collection == "messages"
    base = client.collection_group if everywhere else client.collection
    found: Query = base(collection).where(filter=FieldFilter("wadBy", "==", machine))
    low = moment_of(since) if since else _FIRST
    found = found.where(filter=FieldFilter("wadSyncedAt", ">=", low)).order_by("wadSyncedAt")
    if last is not None:
        found = after(found, last)
    return found.limit(PAGE)
