"""Opening of wad's SQLite files, and the translation of SQLite's errors.

Every file is private (mode 0600), in write-ahead-log mode, so that one process reads while another writes, and checked
when it is opened: `quick_check` reads the whole file, about 2 ms a megabyte, so it is run on files of up to
`CHECKED_UP_TO` bytes; damage in a larger file is found when the damaged page is read, and raises the same error.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from wad.core.errors import Damaged, InvalidData, Unavailable, WadError
from wad.lib.files import unwritable
from wad.lib.foreign_sqlite import Guard, SchemaObject, check_log, first_computed, schema_of, shown

log = logging.getLogger(__name__)

Step = str | Callable[[sqlite3.Connection], None]
"""One step of a schema: an SQL script, or a function; it runs inside a transaction."""
Progress = Callable[[float], bool]
"""A callback for long migrations: called about once a second, on the thread that opens the database, with the seconds
since the migration began.  Returns whether to continue; if not, the step is rolled back and Unavailable is raised."""

CHECKED_UP_TO: Final = 64 << 20  # bytes
LOG_LIMIT: Final = 16 << 20  # bytes that a write-ahead log keeps after a burst
LOG_BOUND: Final = 48 << 20
"""Bytes above which a write-ahead log is too large; wad itself never lets it grow so far."""
_PAGE: Final = 4096  # bytes
BUSY_S: Final = 10.0  # seconds to wait for another process's lock
_LOOK_AFTER: Final = 100_000  # instructions of SQLite's virtual machine, some milliseconds
_REPORT_EVERY: Final = 1.0  # seconds
_LOG_EVERY: Final = 10.0

_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_CORRUPTFS")
_REFUSED: Final = ("SQLITE_TOOBIG", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_RANGE")
_UNWRITABLE: Final = (
    "SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM", "SQLITE_AUTH",
)  # fmt: skip


def translate_errors(error: sqlite3.Error, path: Path) -> WadError:
    """Translate an error of SQLite; InvalidData: the error concerns a value, not the file."""
    code = getattr(error, "sqlite_errorname", "") or ""
    if code.startswith(_DAMAGED):
        return Damaged(f"{path} is damaged: {error}")
    if code.startswith(_UNWRITABLE):
        return unwritable(path, str(error))
    if code.startswith(_REFUSED) or isinstance(error, sqlite3.DataError):
        return InvalidData(f"{path.name} cannot store this value: {error}")
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError) and "bind" in str(
        error
    ):
        return InvalidData(f"{path.name} cannot store a value of this type: {error}")
    return Unavailable(f"{path}: {error}")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate SQLite's errors into ours, and errors of values that SQLite cannot store into InvalidData."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate_errors(error, path) from error
    except (OverflowError, UnicodeEncodeError) as error:
        raise InvalidData(f"{path.name} cannot store this value: {error}") from error


@contextmanager
def transaction(db: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """A transaction: commit at the end of the block, roll back on an error.

    IMMEDIATE waits for the write lock first, so that no statement in the block can fail on a lock; DEFERRED is for
    reading.
    """
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk makes SQLite roll back by itself
            db.execute("ROLLBACK")
        raise


@contextmanager
def savepoint(db: sqlite3.Connection) -> Iterator[None]:
    """Roll back the block alone if it raises; the transaction around it goes on.  Savepoints can be nested."""
    db.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        if db.in_transaction:  # a full disk makes SQLite roll back by itself
            db.execute("ROLLBACK TO part")
            db.execute("RELEASE part")
        raise
    db.execute("RELEASE part")


def open_untrusted(path: Path, steps: Sequence[str], guard: Guard) -> sqlite3.Connection:
    """Open an untrusted file, which another process writes, like `open_database`.

    Raises Damaged also if the schema differs from that of the steps.
    """
    db = _open(path, steps, guard, None)
    try:
        with translated(path):
            refuse(path, schema_difference(steps, schema_of(db)))
    except BaseException:
        db.close()
        raise
    return db


def open_database(
    path: Path, steps: Sequence[Step], progress: Progress | None = None
) -> sqlite3.Connection:
    """Open or create a database, check it, and migrate its schema.

    The file's `user_version` is the number of `steps` that it has.  Every commit is synced to the disk
    (`synchronous=FULL`: without it a power cut may undo commits that we have confirmed).
    Raises Damaged, StateUnwritable, and Unavailable for a file of a newer wad, or if `progress` stopped the migration.
    """
    return _open(path, steps, None, progress)


def _open(
    path: Path, steps: Sequence[Step], guard: Guard | None, progress: Progress | None
) -> sqlite3.Connection:
    try:
        _create(path)
    except OSError as error:
        raise unwritable(path, error) from error
    with translated(path):
        if guard is not None:
            _check_log(path)
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            if guard is not None:
                guard.watch(db)
                refuse(path, first_computed(schema_of(db)))
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute(f"PRAGMA journal_size_limit={LOG_LIMIT}")
            _check(db, path)
            with _reported(db, path, None if guard is not None else progress or _never_stop):
                _migrate(db, path, steps)
        except BaseException:
            db.close()
            raise
    return db


def _check_log(path: Path) -> None:
    try:
        check_log(path)
    except sqlite3.DatabaseError as error:
        raise Damaged(f"{path} is damaged: {error}") from error


def refuse(path: Path, found: str | None) -> None:
    """Raise Damaged if a forbidden object was found in a schema."""
    if found:
        raise Damaged(f"{path} is damaged: it contains {found}, which wad does not create")


def schema_difference(steps: Sequence[str], declared: Iterable[SchemaObject]) -> str | None:
    """The first difference of a schema from that of these steps, in a few words; None if there is none."""
    known = _made_by(tuple(steps))
    found = {}
    for one in declared:
        if one.sql is not None or not str(one.name).startswith("sqlite_autoindex_"):
            found[one.name] = (one.kind, _plain(one.sql))
    for name, made in found.items():
        if known.get(name) != made:
            return f"a {shown(made[0])} {shown(name)}"
    missing = known.keys() - found.keys()
    return f"no {min(map(shown, missing))}" if missing else None


@cache
def _made_by(steps: tuple[str, ...]) -> dict[object, tuple[object, str]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for step in steps:
            db.executescript(step)
        return {
            one.name: (one.kind, _plain(one.sql)) for one in schema_of(db) if one.sql is not None
        }


def _plain(sql: object) -> str:
    """A declaration on one line without comments, which may have changed since a file was created."""
    return " ".join(re.sub(r"--[^\n]*", " ", str(sql)).split())


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a second, read-only connection to an open database.  Raises the errors of `open_database`."""
    with translated(path):
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA query_only=ON")
    return db


def log_of(path: Path) -> Path:
    """The write-ahead log of a database."""
    return path.with_name(f"{path.name}-wal")


def log_size(path: Path) -> int:
    """Bytes of a database's write-ahead log; 0 if there is none."""
    try:
        return log_of(path).stat().st_size
    except OSError:
        return 0


def has_lost_its_database(path: Path) -> bool:
    """Whether a log is beside an empty or missing database: SQLite deletes such a log when it opens the database."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return log_size(path) > 0
    except OSError:
        return False  # opening it reports the error
    return stat.S_ISREG(found.st_mode) and found.st_size == 0 and log_size(path) > 0


def pad(path: Path) -> None:
    """Give an empty database a page of zeros, so that SQLite reads its log, whose newer pages count.  Raises OSError.

    A log names its own page size and checks itself; what it holds of the database comes back, which is all of it
    until it was written back for the first time.  A file that is not empty, a link or a pipe is left as it is: another
    process may have put it there just now.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_size == 0:
            os.ftruncate(fd, _PAGE)
            os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


def write_back(path: Path) -> bool:
    """Write a log back into its database and truncate it, without waiting for readers; return whether it was complete.

    A reader of an old snapshot prevents it.  Raises Damaged, Unavailable, StateUnwritable.
    """
    _check_log(path)
    with translated(path), closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
        Guard().watch(db)  # some databases are untrusted
        # The checkpoint that does not block others (PASSIVE) is first, so that TRUNCATE has little to write.
        _, pages, written = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if written < pages:
            return False
        busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy


def _create(path: Path) -> None:
    # Never opened if it exists: closing a second descriptor would drop this process's locks on the file.
    if path.exists():
        return
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return  # another process created it just now


def _check(db: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size > CHECKED_UP_TO:
        return
    verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise Damaged(f"{path} is damaged: {verdict}")


def _never_stop(seconds: float) -> bool:
    return True


@contextmanager
def _reported(db: sqlite3.Connection, path: Path, progress: Progress | None) -> Iterator[None]:
    """Report in the log and to `progress` how long the migration in the block has taken so far."""
    if progress is None:  # a guard has the only handler that a connection can have
        yield
        return
    begun = time.monotonic()
    reported, logged = 0.0, 0.0

    def look() -> bool:
        """Whether to interrupt what runs."""
        nonlocal reported, logged
        seconds = time.monotonic() - begun
        if seconds < reported + _REPORT_EVERY:
            return False
        reported = seconds
        if seconds >= logged + _LOG_EVERY:
            logged = seconds
            log.info("%s is being migrated: %.0f s so far", path, seconds)
        return not progress(seconds)

    db.set_progress_handler(look, _LOOK_AFTER)
    try:
        yield
    finally:
        db.set_progress_handler(None, 0)


def _migrate(db: sqlite3.Connection, path: Path, steps: Sequence[Step]) -> None:
    before = int(db.execute("PRAGMA user_version").fetchone()[0])
    version = _take_step(db, steps)
    while version < len(steps):
        version = _take_step(db, steps)
    if version != before:
        # Into the file itself: the package reads the number there before it installs an older wad.
        db.execute("PRAGMA wal_checkpoint")
    if version > len(steps):
        # Not Damaged: such a file must not be set aside, since an upgrade makes it readable again.
        raise Unavailable(
            f"{path} was written by a newer wad (schema {version}, this version has {len(steps)})",
            hint="install that version of wad again, or restore the backup made before the upgrade",
        )


def _take_step(db: sqlite3.Connection, steps: Sequence[Step]) -> int:
    """Run the next step, if there is one, in one transaction; return the version after it.

    The version is read under the write lock: two processes may open a new file at once.
    """
    with transaction(db):
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version >= len(steps):
            return version
        run_step(db, steps[version])
        db.execute(f"PRAGMA user_version={version + 1}")
        return version + 1


def run_step(db: sqlite3.Connection, step: Step) -> None:
    """Run one step, inside a transaction of the caller's."""
    if callable(step):
        step(db)
        return
    for statement in _statements(step):
        db.execute(statement)


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit before it begins."""
    statement = ""
    for part in script.split(";"):
        statement += part
        if sqlite3.complete_statement(statement + ";"):  # no text, comment or trigger was cut
            if statement.strip():
                yield statement
            statement = ""
        else:
            statement += ";"
