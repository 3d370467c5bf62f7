"""The checks of the daemon itself: grown logs and their readers, open files, the clock, the event loop."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.fake_daemon import FakeClock, FakeDaemon
from tests.support.waiting import until
from wad.api.views.health import health
from wad.flow import self_inspection as module
from wad.flow.self_inspection import Database, Inspection
from wad.lib import open_files
from wad.lib.clock import SystemClock
from wad.lib.file_locks import LockHolder, readers
from wad.lib.loops import Loops
from wad.lib.sqlite_file import log_size, open_database

BOUND = 1 << 20
STEPS = ("CREATE TABLE t (x BLOB)",)
READ = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN")
db.execute("SELECT count(*) FROM t").fetchone()
print("reads", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of ours."""
    return tmp_path / "wad.db"


@contextmanager
def a_reader(path: Path) -> Iterator[int]:
    """Another program with an open transaction; its pid."""
    argv = [sys.executable, "-c", READ, str(path)]
    reader = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert reader.stdin is not None
    assert reader.stdout is not None
    try:
        assert reader.stdout.readline() == b"reads\n"
        yield reader.pid
    finally:
        reader.stdin.close()
        reader.stdout.close()
        reader.wait()


def grow(db: sqlite3.Connection) -> None:
    """Twice the bound."""
    for _ in range(2 * BOUND // 4000):
        db.execute("INSERT INTO t VALUES (zeroblob(4000))")


@pytest.mark.parametrize("account", ["", "acc-15550000001"])
def test_a_log_that_a_reader_holds_is_named_with_the_reader(path: Path, account: str) -> None:
    """File, size and process; once the reader has ended the log is checkpointed and shortened, and the problem ends."""
    inspection = Inspection(FakeClock(), list, bound=BOUND)
    databases = [Database(account, path)]
    with closing(open_database(path, STEPS)) as db:
        with a_reader(path) as pid:
            grow(db)
            inspection.check(databases)
            (problem,) = inspection.problems
            assert (problem.code, problem.account) == ("log_grown", account)
            megabytes = f"{log_size(path) / 1e6:.0f} MB"
            assert f"{path}-wal has grown to {megabytes}" in problem.text
            assert f"(pid {pid})" in problem.text
            assert inspection.logs == {databases[0]: log_size(path)}
            public = problem.kind.sentence([problem])
            assert public == f"the write-ahead log of a database has grown to {megabytes}"
        inspection.check(databases)
        assert inspection.problems == []
        assert log_size(path) == 0
        assert db.execute("SELECT count(*) FROM t").fetchone() == (2 * BOUND // 4000,)


def test_an_unused_log_is_written_back(path: Path) -> None:
    """Silently, whichever program forgot to."""
    inspection = Inspection(FakeClock(), list, bound=BOUND)
    with closing(open_database(path, STEPS)) as db:
        db.execute("PRAGMA wal_autocheckpoint=0")
        grow(db)
        assert log_size(path) > BOUND
        inspection.check([Database("", path)])
        assert (inspection.problems, log_size(path)) == ([], 0)


def test_a_log_of_a_file_that_is_not_a_database_is_named(path: Path) -> None:
    """It does not end the check."""
    path.write_bytes(b"no database at all" * 1000)
    path.with_name("wad.db-wal").write_bytes(b"x" * (BOUND + 1))
    inspection = Inspection(FakeClock(), list, bound=BOUND)
    inspection.check([Database("", path), Database("a", path.with_name("none.db"))])
    assert [problem.code for problem in inspection.problems] == ["log_grown"]


def test_readers_are_found_by_their_open_files_where_the_locks_are_hidden(
    path: Path, tmp_path: Path
) -> None:
    """As under `ProcSubset=pid`; nothing is known of invisible processes."""
    with closing(open_database(path, STEPS)) as db:
        db.execute("INSERT INTO t VALUES (1)")
        with a_reader(path) as pid:
            proc = tmp_path / "proc"
            proc.mkdir()
            for one in (pid, os.getpid()):
                (proc / str(one)).symlink_to(f"/proc/{one}")
            (proc / "1").mkdir()
            expected = {LockHolder(pid, Path(f"/proc/{pid}/comm").read_text().strip())}
            assert readers(path, proc) == readers(path) == expected
        assert readers(path) == set()
    assert readers(tmp_path / "none.db") == set()


def test_locks_that_cannot_be_read_are_skipped(path: Path, tmp_path: Path) -> None:
    """Lines of another format, processes of another namespace."""
    with closing(open_database(path, STEPS)) as db:
        db.execute("INSERT INTO t VALUES (1)")
        inode = Path(f"{path}-shm").stat().st_ino
        proc = tmp_path / "proc"
        proc.mkdir()
        lines = [
            "", "1:", "1: POSIX  ADVISORY  READ x 08:01:1 124 124", f"2: POSIX ADVISORY READ 0 08:01:{inode} 124 124",
            f"3: POSIX ADVISORY WRITE 7 08:01:{inode} 124 124", f"4: FLOCK ADVISORY READ 8 08:01:{inode} 0 EOF",
            f"5: POSIX ADVISORY READ 9 08:01:{inode} 128 128", f"6: -> POSIX ADVISORY READ 9 08:01:{inode} 124 124",
            f"7: POSIX  ADVISORY  READ 4711 08:01:{inode} 124 124",
        ]  # fmt: skip
        (proc / "locks").write_text("\n".join(lines))
        assert readers(path, proc) == {LockHolder(4711, "")}


@pytest.mark.parametrize("left", [0, 3, None])
def test_open_files_that_are_nearly_used_up_are_a_problem(
    monkeypatch: pytest.MonkeyPatch, left: int | None
) -> None:
    """Also if none is left for the check itself."""

    def count() -> int:
        if left is None:
            raise OSError(errno.EMFILE, "Too many open files")
        return left

    inspection = Inspection(FakeClock(), list)
    monkeypatch.setattr(open_files, "left", count)
    inspection.check([])
    (problem,) = inspection.problems
    assert problem.code == "files_short"
    assert "file descriptors are used" in problem.text
    monkeypatch.undo()
    inspection.check([])
    assert inspection.problems == []


@pytest.mark.parametrize("by", [3_600_000, -3_600_000])
def test_a_clock_jump_is_reported_for_ten_minutes(by: int) -> None:
    """A small drift is normal."""
    clock = FakeClock()
    inspection = Inspection(clock, list)
    clock.wall += 30_000
    inspection.note_turn(clock.now)
    assert inspection.problems == []
    clock.wall += by
    inspection.note_turn(clock.now)
    (problem,) = inspection.problems
    assert problem.code == "clock_jumped"
    assert f"{'forward' if by > 0 else 'back'} by 3600 s" in problem.text
    clock.now += 601
    assert inspection.problems == []


def test_a_blocked_event_loop_is_reported_for_a_minute() -> None:
    """The longest of its pauses."""
    clock = FakeClock()
    inspection = Inspection(clock, list)
    for late in (0.05, 1.0, 7.0):
        wanted = clock.now
        clock.now += late
        clock.wall += round(late * 1000)
        inspection.note_turn(wanted)
    assert inspection.lag == 7.0
    assert [problem.code for problem in inspection.problems] == ["event_loop_slow"]
    clock.now += 61
    assert (inspection.lag, inspection.problems) == (0.0, [])


async def test_problems_are_in_health_until_they_are_resolved(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checked repeatedly; a check that fails is repeated."""
    clock, tries = SystemClock(), 0
    loops = Loops(clock)

    def databases() -> list[Database]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise KeyError("x")
        return [Database("", path)]

    monkeypatch.setattr(module, "_TWICE", 0.0)
    daemon = FakeDaemon()
    daemon.inspection = inspection = Inspection(clock, databases, bound=BOUND, every=0.01)
    with closing(open_database(path, STEPS)) as db:
        task = loops.start("inspection", inspection.watch)
        with a_reader(path):
            grow(db)
            await until(lambda: inspection.problems, "the problem")
            daemon.findings = inspection.problems
            assert health(daemon)["status"] == "degraded"
        await until(lambda: not inspection.problems, "its end")
        task.cancel()
        await asyncio.wait([task])
    assert loops.faults == 1
