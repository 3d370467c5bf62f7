"""The ports to what is kept; the adapters behind them are named only in `open_store` and `open_shared`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from wad.clock import Clock
from wad.config import Config
from wad.home import state_lock
from wad.store.lease import FileLease, LeaseRecord
from wad.store.places import OneMachine, Places
from wad.store.port import Store as Store


async def open_store(kind: str, state_dir: Path) -> Store:
    """Open the store of this kind; the adapter's library is imported only now."""
    if kind == "sqlite":
        from wad.store.sqlite import SqliteStore

        return await SqliteStore.open(state_dir / "wad.db")
    raise ValueError(f"no store is named {kind!r}")


@dataclass(frozen=True, slots=True)
class Shared:
    """What the machines of an installation share beside the store."""

    lease: LeaseRecord
    places: Places


@asynccontextmanager
async def open_shared(config: Config, nonce: str, clock: Clock) -> AsyncIterator[Shared]:
    """For who has the state directory's lock; reaches for nothing yet.  Raises BadConfig."""
    if config.lease.kind == "file":
        yield Shared(FileLease(config.state.dir / "lease.json", nonce), OneMachine())
        return
    from wad.store.firestore.access import access_of
    from wad.store.firestore.client import Firestore
    from wad.store.firestore.lease import FirestoreLease
    from wad.store.firestore.places import FirestorePlaces
    from wad.store.predecessor import Predecessor

    terms = config.lease
    # Two attempts must fit between the moment a renewal is due and the end of the right to act.
    timeout = min(terms.renew_every, (terms.ttl - terms.margin - terms.renew_every) / 2)
    firestore = Firestore(access_of(config.store), "lease", 2)
    predecessor = Predecessor(state_lock(config.state.dir))
    try:
        yield Shared(
            FirestoreLease(
                firestore, terms.document, clock, timeout=timeout, predecessor=predecessor
            ),
            FirestorePlaces(firestore, terms.document, timeout=timeout),
        )
    finally:
        firestore.close()
