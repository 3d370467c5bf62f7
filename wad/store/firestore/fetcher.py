"""Fetches what other machines have told since we looked last, and puts it into the replica as facts.

Every document that wad writes carries `wadBy`, the machine that wrote it last, and `wadSyncedAt`, the server's time of
that commit.  What a machine wrote behind the time up to which it was read is news; the last moment is read again, since
many documents share one.  What we wrote ourselves is never read, unless the replica is new.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from wad.core.change import Change, PutAlias, PutMessage
from wad.core.errors import BadInput
from wad.core.message import Message
from wad.store.firestore.capture import Kind
from wad.store.firestore.client import (
    Client,
    FieldFilter,
    Firestore,
    Query,
    Snapshot,
    moment_of,
    version_of,
)
from wad.store.firestore.commit import commit
from wad.store.firestore.facts import fact_of
from wad.store.firestore.outbox_fields import entry_of
from wad.store.firestore.replica import Replica
from wad.store.firestore.teller import introduction
from wad.store.port import AccountStatus

log = logging.getLogger(__name__)

PAGE: Final = 300  # documents
COLLECTIONS: Final = ("jid_aliases", "wad_facts", "outbox", "messages", "accounts")
"""Aliases first: what follows is then spelled by number at once.  All but messages lie at the top."""
_TIMEOUT: Final = 20.0  # seconds for one page
_message: Final = msgspec.msgpack.Decoder(Message).decode
_status: Final = msgspec.msgpack.Decoder(AccountStatus).decode


class Fetcher:
    """From Firestore into the replica.  `machines`: the collection in which each machine has a document."""

    def __init__(self, firestore: Firestore, replica: Replica, machines: str, who: str) -> None:
        self._firestore = firestore
        self._replica = replica
        self._machines = machines
        self._who = who
        self._introduced = False

    async def fetch(self) -> int:
        """Everything that is new; how many documents were read.  Raises Unavailable."""
        count = 0
        for machine in await self._others():
            for collection in COLLECTIONS:
                count += await self._fetch(machine, collection)
        if not await self._replica.synced(self._who):
            await self._replica.set_synced(self._who, "known")
        return count

    async def _others(self) -> list[str]:
        """The machines whose documents may be news: all others, and this one if its replica is new."""
        found = await self._firestore.call(self._meet)
        self._introduced = True
        whole = not await self._replica.synced(self._who)
        return [machine for machine in found if whole or machine != self._who]

    def _meet(self, client: Client) -> list[str]:
        """The machines that have told anything; we are one of them from now on."""
        found = client.collection(self._machines).get(retry=None, timeout=_TIMEOUT)
        if not self._introduced:
            commit(client, [introduction(client, self._machines, self._who)], _TIMEOUT)
        return [snapshot.id for snapshot in found]

    async def _fetch(self, machine: str, collection: str) -> int:
        source = f"{machine} {collection}"
        since = await self._replica.synced(source)
        last: Snapshot | None = None
        count = 0
        while found := await self._firestore.call(page(machine, collection, since, last)):
            await self._take(collection, found)
            last = found[-1]
            count += len(found)
            until = version_of((last.to_dict() or {})["wadSyncedAt"])
            await self._replica.set_synced(source, until)
            if len(found) < PAGE:
                break
        return count

    async def _take(self, collection: str, found: Sequence[Snapshot]) -> None:
        facts: dict[str, list[Change]] = {}
        documents: dict[tuple[Kind, str], Mapping[str, Any]] = {}
        for snapshot in found:
            document = snapshot.to_dict() or {}
            try:
                match collection:
                    case "outbox":
                        await self._replica.take_entry(entry_of(snapshot.id, document), document)
                    case "accounts":
                        await self._take_account(snapshot.id, document)
                    case _:
                        key, changes = _READERS[collection](snapshot, document)
                        documents[key] = document
                        for account, change in changes:
                            facts.setdefault(account, []).append(change)
            except (BadInput, msgspec.MsgspecError, KeyError, TypeError) as error:
                log.warning("%s cannot be read: %s", snapshot.reference.path, error)
        await self._replica.take_facts(facts, documents)

    async def _take_account(self, account: str, document: Mapping[str, Any]) -> None:
        packed = document["wad"]["status"]
        await self._replica.take_account(account, None if packed is None else _status(packed))


def page(
    machine: str, collection: str, since: str, last: Snapshot | None
) -> Callable[[Client], list[Snapshot]]:
    """Reads the next documents that a machine wrote."""

    def work(client: Client) -> list[Snapshot]:
        return list(
            query(client, machine, collection, since, last).get(retry=None, timeout=_TIMEOUT)
        )

    return work


def query(
    client: Client, machine: str, collection: str, since: str = "", last: Snapshot | None = None
) -> Query:
    """What a machine wrote at `since` or later, behind the document `last`."""
    everywhere = collection == "messages"
    base = client.collection_group if everywhere else client.collection
    found: Query = base(collection).where(filter=FieldFilter("wadBy", "==", machine))
    if since:
        found = found.where(filter=FieldFilter("wadSyncedAt", ">=", moment_of(since)))
    found = found.order_by("wadSyncedAt")
    if last is not None:
        found = found.start_after(last)
    return found.limit(PAGE)


_Told = tuple[tuple[Kind, str], list[tuple[str, Change]]]


def _alias(snapshot: Snapshot, document: Mapping[str, Any]) -> _Told:
    account, lid = document["accountId"], document["rawJid"]
    return (Kind.ALIAS, f"{account} {lid}"), [(account, PutAlias(lid, document["canonicalJid"]))]


def _fact(snapshot: Snapshot, document: Mapping[str, Any]) -> _Told:
    return (Kind.FACT, snapshot.id), [fact_of(document["payload"])]


def _told(snapshot: Snapshot, document: Mapping[str, Any]) -> _Told:
    thread = snapshot.reference.parent.parent
    key = (Kind.MESSAGE, f"{thread.id}/{snapshot.id}")
    told = document["wad"]["told"]
    if told is None:
        return key, []  # its entry of the outbox tells it
    message = _message(told)
    return key, [(message.account, PutMessage(message))]


_READERS: Final = {"jid_aliases": _alias, "wad_facts": _fact, "messages": _told}
