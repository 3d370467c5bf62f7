"""Looking at an installation from outside, and mending what is found: audits, the doctor, repair, verification.

The rules are pure functions over rows; what reads a store is behind the port `rows.Rows`, and named in `open_rows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wad.core.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from wad.audit.rows import Rows


def open_rows(kind: str, state_dir: Path) -> Rows:
    """What reads the store of this kind.  Raises BadInput (no audit reads it) and what opening raises."""
    if kind == "sqlite":
        from wad.audit.sqlite import SqliteRows

        return SqliteRows.open(state_dir / "wad.db")
    raise BadInput(f"the audits of this version do not read a store of the kind {kind}")
