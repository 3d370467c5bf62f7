"""The storage ports.  Only `open_store` and `open_shared` name the adapters behind them."""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wad.config import Config
from wad.core.errors import Conflict
from wad.core.problem import Problem
from wad.lib.clock import Clock
from wad.lib.loops import Loops
from wad.state.account_dir import state_lock
from wad.store.lease import FileLease, LeaseRecord
from wad.store.port import Copying, LegacyImport
from wad.store.port import Store as Store
from wad.store.session_registry import LocalSessionRegistry, SessionRegistry

if TYPE_CHECKING:
    from wad.lib.sqlite_file import Progress
    from wad.store.firestore.store import FirestoreStore

STORE_FILE: Final = "wad.db"
_THREADS: Final = (
    5  # for calls to Firestore: three batches, a read, and a call that a caller waits for
)


async def open_store(
    config: Config, clock: Clock, loops: Loops, progress: Progress | None = None
) -> Store:
    """Open the configured store.  Imports the adapter's library only now and does not use the network.

    `progress` is called, on another thread, while the file of an older version is migrated.
    Raises Damaged, StateUnwritable, Unavailable, BadConfig.
    """
    if config.store.kind == "sqlite":
        from wad.store.sqlite.store import SqliteStore

        return await SqliteStore.open(config.state.dir / STORE_FILE, progress)
    return await _open_firestore(config, clock, loops, progress)


async def _open_firestore(
    config: Config, clock: Clock, loops: Loops, progress: Progress | None = None
) -> FirestoreStore:
    from wad.store.firestore.client.access import access_of
    from wad.store.firestore.client.database import Firestore
    from wad.store.firestore.store import FirestoreStore

    return await FirestoreStore.open_at(
        config.state.dir / STORE_FILE,
        Firestore(access_of(config.store), "store", _THREADS),
        lease=config.lease.document,
        instance=config.instance.id,
        host=platform.node(),
        clock=clock,
        quota=config.store.firestore_backlog,
        loops=loops,
        progress=progress,
    )


async def copy_to_firestore(config: Config, clock: Clock) -> AsyncIterator[Copying]:
    """Copy the embedded store that is in use to Firestore and yield the progress.

    Raises Conflict (another instance is active there, or there is nothing to copy), Unavailable, BadConfig.
    """
    if config.store.kind != "sqlite":
        raise Conflict(
            "this installation uses Firestore already",
            hint="`wadctl status` shows how many documents wait",
        )
    from wad.store.firestore.copy import copy

    store = await _open_firestore(config, clock, Loops(clock))
    try:
        async for done in copy(store, config.lease.document):
            yield done
    finally:
        await store.close()


async def import_legacy_documents(
    store: Store, accounts: Sequence[str], *, dry_run: bool
) -> AsyncIterator[LegacyImport]:
    """Import what other programs have stored in Firestore and yield the progress; `dry_run`: only count it.

    Raises Conflict for a store that is only on this machine, Unavailable.
    """
    if store.kind != "firestore":
        raise Conflict("this installation has no Firestore, so there is nothing to import")
    from wad.store.firestore.store import FirestoreStore
    from wad.store.firestore.sync.legacy_import import import_legacy

    assert isinstance(store, FirestoreStore)
    async for done in import_legacy(store, accounts, dry_run=dry_run):
        yield done


@dataclass(frozen=True, slots=True)
class Shared:
    """What the machines of an installation share besides the store."""

    lease: LeaseRecord
    session_registry: SessionRegistry
    problems: Callable[[], Sequence[Problem]] = lambda: ()
    """The problems of this storage now; no I/O."""


@asynccontextmanager
async def open_shared(config: Config, nonce: str, clock: Clock) -> AsyncIterator[Shared]:
    """Open what the machines share; the caller holds the state directory's lock.  No I/O yet.  Raises BadConfig."""
    if config.lease.kind == "file":
        lease = FileLease(config.state.dir / "lease.json", nonce, clock)
        yield Shared(lease, LocalSessionRegistry(), lease.problems)
        return
    from wad.store.firestore.client.access import access_of
    from wad.store.firestore.client.database import Firestore
    from wad.store.firestore.lease.record import FirestoreLease
    from wad.store.firestore.lease.session_registry import FirestoreSessionRegistry
    from wad.store.predecessor import Predecessor

    terms = config.lease
    # Two attempts must fit between the time when a renewal is due and the end of the lease's validity.
    timeout = min(terms.renew_every, (terms.ttl - terms.margin - terms.renew_every) / 2)
    firestore = Firestore(access_of(config.store), "lease", 2)
    predecessor = Predecessor(state_lock(config.state.dir))
    try:
        yield Shared(
            FirestoreLease(
                firestore, terms.document, clock, timeout=timeout, predecessor=predecessor
            ),
            FirestoreSessionRegistry(firestore, terms.document, timeout=timeout),
        )
    finally:
        firestore.close()
