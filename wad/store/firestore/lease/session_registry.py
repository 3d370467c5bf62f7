"""The session registry in Firestore: documents below the lease's document; every write is fenced by the epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from wad.core.decoding import decoding
from wad.core.errors import BadInput, InvalidData, NotFound
from wad.core.session_location import SessionLocation
from wad.store.firestore.client.database import Batch, Client, Firestore
from wad.store.firestore.client.decode import Snapshot, find
from wad.store.firestore.lease.fence import Fence

log = logging.getLogger(__name__)

_MAX_SESSIONS: Final = 5000


class FirestoreSessionRegistry:
    """`wad.store.session_registry.SessionRegistry` in Firestore.

    `lease`: the path of the lease's document.  `timeout`: seconds for one call.
    """

    def __init__(self, firestore: Firestore, lease: str, *, timeout: float) -> None:
        self._firestore = firestore
        self._collection = f"{lease}/sessions"
        self._fence = Fence(lease)
        self._timeout = timeout

    async def all(self) -> dict[str, SessionLocation]:
        """Read all documents; one that cannot be read is left out, and its account runs where its session is."""

        def work(client: Client) -> list[Snapshot]:
            return find(
                client.collection(self._collection).limit(_MAX_SESSIONS), timeout=self._timeout
            )

        locations = {}
        for snapshot in await self._firestore.call(work):
            try:
                locations[snapshot.id] = _location_of(snapshot)
            except InvalidData as error:
                log.warning("cannot read the session location of %s: %s", snapshot.id, error)
        return locations

    async def put(self, location: SessionLocation, *, epoch: int) -> None:
        """Write the document."""
        document = msgspec.to_builtins(location)
        await self._write(
            location.account,
            epoch,
            lambda client, batch: batch.set(
                client.document(self._path(location.account)), document
            ),
        )

    async def forget(self, account: str, *, epoch: int) -> None:
        """Delete the document."""
        await self._write(
            account, epoch, lambda client, batch: batch.delete(client.document(self._path(account)))
        )

    def _path(self, account: str) -> str:
        return f"{self._collection}/{account}"

    async def _write(self, account: str, epoch: int, add: Callable[[Client, Batch], None]) -> None:
        def work(client: Client) -> None:
            batch = client.batch()
            self._fence.check(client, batch, epoch, account)
            add(client, batch)
            batch.commit(retry=None, timeout=self._timeout)

        try:
            await self._firestore.call(work)
        except NotFound:
            # Another epoch has begun, or Firestore was emptied under this one.
            await self._firestore.call(lambda client: self._fence.ensure(client, epoch))
            await self._firestore.call(work)


def _location_of(snapshot: Snapshot) -> SessionLocation:
    with decoding(f"document {snapshot.path}"):
        location = msgspec.convert(snapshot.fields, SessionLocation)
        if location.account != snapshot.id:
            raise BadInput("its account is not the one in its document id")
        return location
