"""A damaged spool makes way for a new one, and what it still holds is carried over, however often that has to be tried.

Before it is renamed a note beside the copy says what is due: up to which row the store had recorded it.  The note goes
when the copy was gone through; until then every account's task tries again, also that of the next process.
"""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import msgspec

from wad.core.decoding import decoding
from wad.core.errors import InvalidData
from wad.lib.files import read_file, sync_directory, unwritable, write_file
from wad.state.account_dir import AccountDir
from wad.state.damaged_copies import NOTE, mark_saved
from wad.state.spool import Salvaged, Spool
from wad.state.spool_salvage import salvage

_LARGEST: Final = 4096  # bytes of a note


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
    """The copies that are still to be gone through, the oldest first.  Raises StateUnwritable."""
    try:
        notes = sorted(path for path in home.path.iterdir() if path.name.endswith(NOTE))
    except OSError as error:
        raise unwritable(home.path, error) from error
    found = [note.with_name(note.name.removesuffix(NOTE)) for note in notes]
    return [copy for copy in found if copy.exists()]


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
