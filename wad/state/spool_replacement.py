"""A damaged spool makes way for a new one, and what it still holds is carried over, however often that has to be tried.

Before it is renamed a note beside the copy says what is due: up to which row the store had recorded it.  The note goes
when the copy was gone through; until then every account's task tries again, also that of the next process.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from wad.core.decoding import decoding
from wad.core.errors import InvalidData
from wad.lib.files import read_file, sync_directory, unwritable, write_file
from wad.state.account_dir import AccountDir
from wad.state.damaged_copies import NOTE, is_copy, mark_saved
from wad.state.spool import Salvaged, Spool
from wad.state.spool_salvage import salvage

_LARGEST: Final = 4096  # bytes of a note
_NOTES: Final = 1000  # that are looked at
_AT_ONCE: Final = 10


class RecordedUpTo(msgspec.Struct, frozen=True):
    """Up to which row of which spool's file the store had recorded it; an empty `generation`: none of it is known."""

    generation: str = ""
    seq: int = 0


def set_aside(home: AccountDir, stamp: str, recorded: RecordedUpTo) -> Path:
    """Rename an account's damaged spool, which nobody may have open; where it lies now.  Raises StateUnwritable."""
    aside = home.aside_path(home.spool_db, stamp)
    write_file(_note(aside), msgspec.json.encode(recorded))
    return home.set_aside(home.spool_db, stamp)


def pending(home: AccountDir) -> list[Path]:
    """The copies that are still to be gone through, the oldest first, and few at once.  Raises StateUnwritable.

    Each costs up to a minute, and a worker can lay such notes beside whatever it likes.
    """
    try:
        with os.scandir(home.path) as entries:
            notes = (one.name for one in entries if one.name.endswith(NOTE))
            names = (note.removesuffix(NOTE) for note in notes)
            spools = (name for name in names if is_copy(name) and name.startswith("spool."))
            found = [home.path / name for name in islice(spools, _NOTES)]
    except OSError as error:
        raise unwritable(home.path, error) from error
    return sorted(copy for copy in found if copy.is_file())[:_AT_ONCE]


def carry_over(home: AccountDir, copy: Path) -> Salvaged:
    """Copy what it still holds into the account's spool.  Raises StateUnwritable, Unavailable, Damaged."""
    due = _due(copy)

    def recorded(generation: str) -> int:
        return due.seq if due.generation == generation else 0

    with closing(Spool.open(home.spool_db)) as into:
        saved = salvage(copy, into, recorded)
    if saved.complete:
        mark_saved(copy)
    try:
        _note(copy).unlink(missing_ok=True)
        sync_directory(home.path)
    except OSError as error:
        raise unwritable(copy, error) from error
    return saved


def _due(copy: Path) -> RecordedUpTo:
    """What the note says; one that is damaged says nothing, and all is carried over: the store knows what it has."""
    note = _note(copy)
    try:
        with suppress(InvalidData), decoding(str(note)):
            return msgspec.json.decode(read_file(note, _LARGEST), type=RecordedUpTo)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise unwritable(note, error) from error
    return RecordedUpTo()


def _note(copy: Path) -> Path:
    return copy.with_name(copy.name + NOTE)
