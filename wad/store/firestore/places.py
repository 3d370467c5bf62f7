"""Which instance has which session, in documents below the lease's; every write is fenced by the epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from wad.core.errors import Fenced, NotFound
from wad.core.place import Place
from wad.store.firestore.client import Batch, Client, Firestore
from wad.store.firestore.fence import Fence

log = logging.getLogger(__name__)


class FirestorePlaces:
    """`wad.store.places.Places`.  `lease`: the path of the lease's document; `timeout`: seconds for one call."""

    def __init__(self, firestore: Firestore, lease: str, *, timeout: float) -> None:
        self._firestore = firestore
        self._collection = f"{lease}/sessions"
        self._fence = Fence(lease)
        self._timeout = timeout

    async def all(self) -> dict[str, Place]:
        """Every document; one that cannot be read is left out, and its account runs where its session is."""

        def work(client: Client) -> dict[str, object]:
            found = client.collection(self._collection).get(retry=None, timeout=self._timeout)
            return {snapshot.id: snapshot.to_dict() for snapshot in found}

        places = {}
        for ident, document in (await self._firestore.call(work)).items():
            try:
                places[ident] = msgspec.convert(document, Place)
            except msgspec.ValidationError as error:
                log.warning("cannot read where the session of %s lies: %s", ident, error)
        return places

    async def put(self, place: Place, *, epoch: int) -> None:
        """Write the document."""
        document = msgspec.to_builtins(place)
        await self._write(
            place.account,
            epoch,
            lambda client, batch: batch.set(client.document(self._path(place.account)), document),
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
        except NotFound as error:
            raise Fenced(f"epoch {epoch} is over") from error
