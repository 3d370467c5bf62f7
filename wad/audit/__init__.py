"""Looking at an installation from outside, and mending what is found: audits, the doctor, repair, verification.

The rules are pure functions over rows; what reads a store is behind the port `rows.Rows`, and named in `open_rows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from wad.audit.rows import Rows


def open_rows(kind: str, state_dir: Path) -> Rows:
    """What reads the store of this kind.  Raises what opening raises.

    With Firestore it is the working copy on this machine, a file of the same schema: what wad told there, and not what
    other programs wrote past it.
    """
    from wad.audit.sqlite import SqliteRows

    return SqliteRows.open(state_dir / "wad.db", kind)
