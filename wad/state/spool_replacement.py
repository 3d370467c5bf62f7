"""The replacement of a damaged spool by a new one, and the recovery of its rows, which is retried until it succeeds.

Before the spool is renamed, a note beside the copy stores up to which row the store has recorded it.  The note is
deleted when the recovery is complete; until then the account's task retries, also after a restart of the daemon.
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
    """The generation of a spool, and the last row that the store has recorded; an empty `generation`: unknown."""

    generation: str = ""
    seq: int = 0


def set_aside(account_dir: AccountDir, stamp: str, recorded: RecordedUpTo) -> Path:
    """Rename an account's damaged spool, which no process may have open; return its path.  Raises StateUnwritable."""
    aside = account_dir.aside_path(account_dir.spool_db, stamp)
    write_file(_note(aside), msgspec.json.encode(recorded))
    return account_dir.set_aside(account_dir.spool_db, stamp)


def pending(account_dir: AccountDir) -> list[Path]:
    """The copies that are not recovered yet, the oldest first, and few at once.  Raises StateUnwritable.

    Each takes up to a minute, and a compromised worker can write such notes beside any file.
    """
    try:
        with os.scandir(account_dir.path) as entries:
            notes = (one.name for one in entries if one.name.endswith(NOTE))
            names = (note.removesuffix(NOTE) for note in notes)
            spools = (name for name in names if is_copy(name) and name.startswith("spool."))
            found = [account_dir.path / name for name in islice(spools, _NOTES)]
    except OSError as error:
        raise unwritable(account_dir.path, error) from error
    return sorted(copy for copy in found if copy.is_file())[:_AT_ONCE]


def carry_over(account_dir: AccountDir, copy: Path) -> Salvaged:
    """Copy the readable rows of a copy into the account's spool.  Raises StateUnwritable, Unavailable, Damaged."""
    due = _due(copy)

    def recorded(generation: str) -> int:
        return due.seq if due.generation == generation else 0

    with closing(Spool.open(account_dir.spool_db)) as into:
        saved = salvage(copy, into, recorded)
    if saved.complete:
        mark_saved(copy)
    try:
        _note(copy).unlink(missing_ok=True)
        sync_directory(account_dir.path)
    except OSError as error:
        raise unwritable(copy, error) from error
    return saved


def _due(copy: Path) -> RecordedUpTo:
    """Read the note; without a valid note all rows are copied, since the store ignores duplicates."""
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
