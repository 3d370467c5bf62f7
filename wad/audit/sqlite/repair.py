"""Mending the embedded store: what bugs of other programs, or of ours, left in it.

A dry run does everything in a transaction and rolls it back, so that it tells exactly what the repair would do.  The
daemon may run meanwhile; it waits with its writes until the transaction ends.  Nothing is thrown away: duplicates are
marked, what lies under two addresses of one person is brought together as the store itself does it, and the undo file
has every row as it was.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from wad.audit.reports import RepairReport, RepairVerdict, Undone
from wad.audit.rows import Range
from wad.audit.sqlite import undo
from wad.audit.sqlite.rows import check_there, check_version
from wad.audit.sqlite.steps import Mended, mend
from wad.core.errors import Denied, StateUnwritable
from wad.lib.clock import Clock
from wad.lib.sqlite_file import BUSY_S, transaction, translated
from wad.store.sqlite.threads import recount


class _RollBack(Exception):
    """Ends a dry run's transaction."""


class SqliteRepairs:
    """`wad.audit.rows.Repairs` of wad.db."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file = file
        self._clock = clock

    def repair(self, wanted: Range, undo_file: Path | None) -> RepairReport:
        """As `repair` below."""
        return repair(self._file, wanted, self._clock.wall_ms(), undo_file)

    def take_back(self, undo_file: Path) -> Undone:
        """As `take_back` below."""
        return take_back(self._file, undo_file)

    def close(self) -> None:
        """Nothing is open between two calls."""


def repair(file: Path, wanted: Range, now_ms: int, undo_file: Path | None) -> RepairReport:
    """Repair and keep what was changed in `undo_file`; without one only tell what would be done.

    Raises NotFound, Denied, Conflict (the undo file is there already), Unavailable, Damaged, StateUnwritable.
    """
    with _opened(file) as db:
        recorder = undo.Recorder(db)
        try:
            with translated(file), transaction(db), recorder.recording():
                mended = mend(db, file, wanted, now_ms)
                changes = recorder.changes()
                _keep(undo_file, changes, file)
        except _RollBack:
            return _report(mended, wanted, len(changes), None, RepairVerdict.TO_REPAIR)
    return _report(mended, wanted, len(changes), undo_file, RepairVerdict.REPAIRED)


def take_back(file: Path, undo_file: Path) -> Undone:
    """Put back what a repair changed, and derive the threads again.  Raises as `repair`, and BadInput."""
    changes = undo.read(undo_file, undo.decode_all)
    with _opened(file) as db, translated(file), transaction(db):
        threads = undo.restore(db, changes)
        for thread in sorted(threads):
            recount(db, thread)
    return Undone(ok=True, rows=len(changes), threads=len(threads))


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    check_there(file)
    if not os.access(file, os.W_OK):
        raise Denied(f"you may not write {file}", hint="run it as root, or as the daemon's user")
    with translated(file):
        db = sqlite3.connect(
            f"file:{quote(str(file))}?mode=rw", uri=True, timeout=BUSY_S, isolation_level=None
        )
    with closing(db):
        with translated(file):
            db.execute("PRAGMA synchronous=FULL")
            check_version(db, file)
        yield db


def _keep(undo_file: Path | None, changes: list[undo.Change], store: Path) -> None:
    """Raises _RollBack where there is no file to keep them in."""
    if undo_file is None:
        raise _RollBack
    if changes:
        make_directory(undo_file.parent, store)
        undo.write(undo_file, changes)
        give_like(undo_file, store)


def give_like(file: Path, like: Path) -> None:
    """In the state's own directories the undo file, too, is for the daemon's user: root may be who repairs."""
    owner = like.stat()
    if os.geteuid() == 0 and file.parent.stat().st_uid == owner.st_uid:
        os.chown(file, owner.st_uid, owner.st_gid)


def make_directory(directory: Path, like: Path) -> None:
    """For the undo file; whose the store is, that is whose it is."""
    if directory.exists():
        return
    owner = like.stat()
    try:
        directory.mkdir(mode=0o700)
        os.chown(directory, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise StateUnwritable(f"cannot make {directory}: {error.strerror}") from error


def _report(
    mended: Mended, wanted: Range, rows: int, undo_file: Path | None, verdict: RepairVerdict
) -> RepairReport:
    return RepairReport(
        ok=True,
        verdict=verdict if rows else RepairVerdict.CLEAN,
        store="sqlite",
        dry_run=verdict is RepairVerdict.TO_REPAIR,
        rows_changed=rows,
        undo_file=str(undo_file) if rows and undo_file else None,
        window_hours=wanted.window_hours,
        limit=wanted.limit,
        **mended.fields(),
    )
