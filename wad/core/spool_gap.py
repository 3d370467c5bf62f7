"""Whether a spool is the file that was read before, so that no row is skipped and none is lost without a word.

Pure.  A spool numbers its rows from one and never uses a number twice; its generation is drawn when the file is made.
The store keeps the generation and the number of the last row that it recorded.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Position(NamedTuple):
    """A row of a spool's file; an empty generation stands for no file in particular."""

    generation: str
    seq: int


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Rows may be missing: `why`, in words, and since when, ms since 1970."""

    why: str
    since_ms: int


def gap(recorded: Position | None, found: Position) -> str:
    """Why rows may be missing between what was recorded and the spool that was found; empty where none are.

    `found` is the spool's newest row that was ever written.  Nothing was expected where nothing was recorded.
    """
    if recorded is None or not recorded.generation:
        return ""
    if recorded.generation != found.generation:
        return f"it is another file than the one of which {recorded.seq} rows were recorded"
    if found.seq < recorded.seq:
        return f"it is an older copy: it ends at row {found.seq}, and {recorded.seq} rows were recorded"
    return ""
