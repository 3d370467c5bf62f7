"""Checks and repairs of an installation from outside the daemon: audits, doctor, repair, verification.

The rules are pure functions over rows; the stores are behind the ports `rows.Rows` and `rows.Repairs`, whose adapters
are named in `open_rows` and `open_repairs`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wad.core.errors import BadConfig

if TYPE_CHECKING:
    from pathlib import Path

    from wad.audit.rows import Repairs, Rows
    from wad.config.settings import StoreSettings
    from wad.lib.clock import Clock


def open_rows(kind: str, state_dir: Path, store: StoreSettings | None = None) -> Rows:
    """Open the store of this kind for reading; `store`: the access to Firestore.  Raises what opening raises.

    For Firestore it reads Firestore itself, with the documents of all programs, and not this machine's working copy.
    """
    if kind == "firestore":
        if store is None:
            raise BadConfig("the Firestore settings cannot be read", hint="wad config check")
        from wad.audit.firestore.rows import FirestoreRows

        return FirestoreRows.open(store)
    from wad.audit.sqlite.rows import SqliteRows

    return SqliteRows.open(state_dir / "wad.db")


def open_repairs(
    kind: str, state_dir: Path, store: StoreSettings, lease: str, clock: Clock
) -> Repairs:
    """Open the store of this kind for repair; `lease`: the path of the lease's document.

    Raises what opening raises.
    """
    if kind == "firestore":
        from wad.audit.firestore.repair import FirestoreRepairs

        return FirestoreRepairs.open(store, lease, state_dir, clock)
    from wad.audit.sqlite.repair import SqliteRepairs

    return SqliteRepairs(state_dir / "wad.db", clock)
