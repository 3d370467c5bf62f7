"""Looking at an installation from outside, and mending what is found: audits, the doctor, repair, verification.

The rules are pure functions over rows; what reads a store is behind the ports `rows.Rows` and
`rows.Repairs`, and named in `open_rows` and `open_repairs`.
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
    """What reads the store of this kind; `store` says how Firestore is reached.  Raises what opening raises.

    With Firestore it is Firestore itself, with all that other programs have left there, and not this machine's copy.
    """
    if kind == "firestore":
        if store is None:
            raise BadConfig("how Firestore is reached cannot be read", hint="wad config check")
        from wad.audit.firestore.rows import FirestoreRows

        return FirestoreRows.open(store)
    from wad.audit.sqlite.rows import SqliteRows

    return SqliteRows.open(state_dir / "wad.db")


def open_repairs(
    kind: str, state_dir: Path, store: StoreSettings, lease: str, clock: Clock
) -> Repairs:
    """What mends the store of this kind; `lease` is the path of the lease's document.  Raises what opening raises."""
    if kind == "firestore":
        from wad.audit.firestore.repair import FirestoreRepairs

        return FirestoreRepairs.open(store, lease, state_dir, clock)
    from wad.audit.sqlite.repair import SqliteRepairs

    return SqliteRepairs(state_dir / "wad.db", clock)
