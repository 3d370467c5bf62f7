"""Detects that a spool is not the file that was read before, so that no row is skipped and a loss is reported.

Pure.  A spool numbers its rows from one and never uses a number twice; its generation is drawn when the file is
created.  The store keeps the generation and the number of the last row that it recorded.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Position(NamedTuple):
    """A row of a spool's file; an empty generation means any file."""

    generation: str
    seq: int


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Rows may be missing: `why` is a sentence, `since_ms` is in ms since 1970."""

    why: str
    since_ms: int


def gap(recorded: Position | None, found: Position) -> str:
    """Return why rows may be missing between the recorded position and the spool; empty if none are.

    `found` is the newest row that was ever written to the spool.  If nothing was recorded, nothing is missing.
    """
    if recorded is None or not recorded.generation:
        return ""
    if recorded.generation != found.generation:
        return f"it is not the file of which {recorded.seq} rows were recorded"
    if found.seq < recorded.seq:
        return f"it is an older copy: it ends at row {found.seq}, and {recorded.seq} rows were recorded"
    return ""
