"""A store that begins with nothing beside accounts that are older: its file was emptied, lost or moved away.

wad goes on, since the spools still hold what came lately, but says so until an operator has seen it: a note lies beside
the file until somebody deletes it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from wad.core.problem import Problem
from wad.lib.clock import Clock, stamp
from wad.lib.files import set_aside, unwritable, write_file
from wad.lib.sqlite_file import log_of, log_size

_SIGNS: Final = ("meta", "cursors", "messages", "outbox", "accounts", "identity")
"""Tables of which at least one has a row in every store that was opened before."""


def watch_beginning(store: Path, accounts: int, clock: Clock) -> None:
    """Leave a note where the store is about to begin anew; to be called before it is opened.

    A log without its database, which SQLite would delete, is set aside.  Raises StateUnwritable.
    """
    if not accounts or not _is_unused(store):
        return
    if _size(store) == 0 and log_size(store):
        set_aside(log_of(store), stamp(clock))
    if not os.path.lexists(note_of(store)):
        day = datetime.fromtimestamp(clock.wall_ms() / 1000, UTC)
        words = (
            f"When wad started on {day:%Y-%m-%d %H:%M:%S} UTC, {store} was empty or missing,"
            f" and {accounts} accounts were there.\n"
            "What it held is not here: messages older than those in the spools, the outbox, what was read.\n"
            "Stop wad and restore the file from a backup; or delete this note, and wad says no more of it.\n"
        )
        write_file(note_of(store), words.encode())


def note_of(store: Path) -> Path:
    """The note."""
    return store.with_name(f"{store.name}.began-anew")


def beginning(store: Path) -> Problem | None:
    """What to say while the note lies there.  Raises StateUnwritable where that cannot be seen."""
    note = note_of(store)
    try:
        since_ms = round(note.lstat().st_mtime * 1000)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unwritable(note, error) from error
    text = (
        f"{store} was empty or missing when wad started, beside accounts that are older: what it held is not here."
        f" Restore it from a backup, or delete {note}"
    )
    return Problem(code="store_anew", text=text, since_ms=since_ms)


def _is_unused(store: Path) -> bool:
    """Whether nothing was ever stored in this file; one that cannot be read is the matter of whoever opens it."""
    if not os.path.lexists(store) or _size(store) == 0:
        return True
    with suppress(sqlite3.Error), closing(_opened(store)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
        signs = [table for table in _SIGNS if table in tables]
        return not any(db.execute(f"SELECT 1 FROM {sign} LIMIT 1").fetchone() for sign in signs)
    return False


def _opened(store: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(store))}?mode=ro", uri=True)


def _size(file: Path) -> int | None:
    """Bytes; None where that cannot be seen."""
    try:
        return file.stat().st_size
    except OSError:
        return None
