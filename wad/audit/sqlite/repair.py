"""The repair of the embedded store, which bugs of other programs, or of ours, have damaged.

A dry run does everything in a transaction and rolls it back, so that it reports exactly what the repair would do.  The
daemon may run; its writes wait until the transaction ends.  Nothing is deleted: duplicates are marked, threads of two
addresses of one person are merged as the store itself does it, and the undo file has every row as it was.
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
from wad.audit.sqlite.restore import restore
from wad.audit.sqlite.rows import check_readable, check_version
from wad.audit.sqlite.steps import RepairCounts, repair_rows
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

    def revert(self, undo_file: Path) -> Undone:
        """As `revert` below."""
        return revert(self._file, undo_file)

    def close(self) -> None:
        """Do nothing: no connection is open between two calls."""


def repair(file: Path, wanted: Range, now_ms: int, undo_file: Path | None) -> RepairReport:
    """Repair, and write the old rows to `undo_file`; without it only report what would be done.

    Raises NotFound, Denied, Conflict (the undo file exists already), Unavailable, Damaged, StateUnwritable.
    """
    with _opened(file) as db:
        recorder = undo.Recorder(db)
        try:
            with translated(file), transaction(db), recorder.recording():
                counts = repair_rows(db, file, wanted, now_ms)
                changes = recorder.changes()
                _write_undo(undo_file, changes, file)
        except _RollBack:
            return _report(counts, wanted, len(changes), None, RepairVerdict.TO_REPAIR)
    return _report(counts, wanted, len(changes), undo_file, RepairVerdict.REPAIRED)


def revert(file: Path, undo_file: Path) -> Undone:
    """Revert a repair, and derive the threads again.  Raises as `repair`, and BadInput."""
    changes = undo.read(undo_file, undo.decode_all)
    with _opened(file) as db, translated(file), transaction(db):
        threads = restore(db, changes)
        for thread in sorted(threads):
            recount(db, thread)
    return Undone(ok=True, rows=len(changes), threads=len(threads))


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    check_readable(file)
    if not os.access(file, os.W_OK):
        raise Denied(
            f"no permission to write {file}", hint="run it as root, or as the daemon's user"
        )
    with translated(file):
        db = sqlite3.connect(
            f"file:{quote(str(file))}?mode=rw", uri=True, timeout=BUSY_S, isolation_level=None
        )
    with closing(db):
        with translated(file):
            db.execute("PRAGMA synchronous=FULL")
            check_version(db, file)
        yield db


def _write_undo(undo_file: Path | None, changes: list[undo.Change], store: Path) -> None:
    """Write the undo file; raise _RollBack for a dry run, which has none."""
    if undo_file is None:
        raise _RollBack
    if changes:
        make_directory(undo_file.parent, store)
        undo.write(undo_file, changes)
        chown_like(undo_file, store)


def chown_like(file: Path, like: Path) -> None:
    """Give the undo file to the daemon's user if it is in the state directory: root may run the repair."""
    owner = like.stat()
    if os.geteuid() == 0 and file.parent.stat().st_uid == owner.st_uid:
        os.chown(file, owner.st_uid, owner.st_gid)


def make_directory(directory: Path, like: Path) -> None:
    """Create the directory of the undo file, with the owner of the store."""
    if directory.exists():
        return
    owner = like.stat()
    try:
        directory.mkdir(mode=0o700)
        os.chown(directory, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise StateUnwritable(f"cannot create {directory}: {error.strerror}") from error


def _report(
    counts: RepairCounts, wanted: Range, rows: int, undo_file: Path | None, verdict: RepairVerdict
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
        **counts.fields(),
    )
