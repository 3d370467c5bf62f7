"""The ports to what is kept, and the adapters behind them; adapters are named only in `open_store` and `open_lease`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from wad.clock import Clock
from wad.config import Config
from wad.home import state_lock
from wad.store.lease import FileLease, LeaseRecord
from wad.store.port import Store as Store

_THREADS: Final = (
    5  # for the store's calls to Firestore: three batches, reading, and somebody who waits
)


async def open_store(config: Config, clock: Clock) -> Store:
    """Open the configured store; the adapter's library is imported only now, and the network not reached for.

    Raises Damaged, StateUnwritable, Unavailable, BadConfig.
    """
    path = config.state.dir / "wad.db"
    if config.store.kind == "sqlite":
        from wad.store.sqlite import SqliteStore

        return await SqliteStore.open(path)
    from wad.store.firestore.access import access_of
    from wad.store.firestore.client import Firestore
    from wad.store.firestore.store import FirestoreStore

    return await FirestoreStore.open_at(
        path,
        Firestore(access_of(config.store), "store", _THREADS),
        lease=config.lease.document,
        who=config.instance.id,
        clock=clock,
        quota=config.store.firestore_backlog,
    )


@asynccontextmanager
async def open_lease(config: Config, nonce: str, clock: Clock) -> AsyncIterator[LeaseRecord]:
    """The lease's record, for who has the state directory's lock; reaches for nothing yet.  Raises BadConfig."""
    if config.lease.kind == "file":
        yield FileLease(config.state.dir / "lease.json", nonce)
        return
    from wad.store.firestore.access import access_of
    from wad.store.firestore.client import Firestore
    from wad.store.firestore.lease import FirestoreLease
    from wad.store.predecessor import Predecessor

    terms = config.lease
    # Two attempts must fit between the moment a renewal is due and the end of the right to act.
    timeout = min(terms.renew_every, (terms.ttl - terms.margin - terms.renew_every) / 2)
    firestore = Firestore(access_of(config.store), "lease", 2)
    predecessor = Predecessor(state_lock(config.state.dir))
    try:
        yield FirestoreLease(
            firestore, terms.document, clock, timeout=timeout, predecessor=predecessor
        )
    finally:
        firestore.close()
