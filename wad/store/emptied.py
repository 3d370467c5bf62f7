"""Detection of a store file that is empty although accounts exist: it was emptied, lost or moved away.

wad goes on, since the spools still hold the latest messages, but reports the problem until the operator deletes a note
that is written beside the file.
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
from wad.lib.sqlite_file import has_lost_its_database, log_of

_SIGNS: Final = ("meta", "cursors", "messages", "outbox", "accounts", "identity")
"""Tables; in every store that was opened before, at least one of them has a row."""


def watch_beginning(store: Path, accounts: int, clock: Clock) -> None:
    """Write the note if the store is about to start empty; call this before the store is opened.

    A write-ahead log without its database, which SQLite would delete, is set aside.  Raises StateUnwritable.
    """
    if not accounts or not _is_unused(store):
        return
    if has_lost_its_database(store):
        set_aside(log_of(store), stamp(clock))
    if not os.path.lexists(note_of(store)):
        day = datetime.fromtimestamp(clock.wall_ms() / 1000, UTC)
        text = (
            f"When wad started on {day:%Y-%m-%d %H:%M:%S} UTC, {store} was empty or missing,"
            f" and {accounts} accounts existed.\n"
            "Its content is missing: messages older than those in the spools, the outbox, read positions.\n"
            "Stop wad and restore the file from a backup, or delete this note to end the warning.\n"
        )
        write_file(note_of(store), text.encode())


def note_of(store: Path) -> Path:
    """The path of the note."""
    return store.with_name(f"{store.name}.began-anew")


def beginning(store: Path) -> Problem | None:
    """The problem to report while the note exists; None without it.  Raises StateUnwritable if it cannot be checked."""
    note = note_of(store)
    try:
        since_ms = round(note.lstat().st_mtime * 1000)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unwritable(note, error) from error
    text = (
        f"{store} was empty or missing when wad started although accounts existed: its content is missing."
        f" Restore it from a backup, or delete {note}"
    )
    return Problem(code="store_anew", text=text, since_ms=since_ms)


def _is_unused(store: Path) -> bool:
    """Whether nothing was ever stored in this file; False if it cannot be read (opening it reports the error)."""
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
    """The size in bytes; None if it cannot be determined."""
    try:
        return file.stat().st_size
    except OSError:
        return None
