"""The embedded store: the contract, and what is SQLite's own (migrations, damage, full disks, kill -9)."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from tests.config.loaded import defaults
from tests.contracts.store import StoreContract
from tests.contracts.world import (
    ACC,
    ANN,
    ANN_THREAD,
    BOB,
    CLAIMED,
    EPOCH,
    NOON,
    Fresh,
    arrival,
    contents,
    queued,
    sending,
    wa_id,
)
from tests.store.opened import opened
from tests.support.damage import DAMAGES, damage
from tests.support.disks import no_more_than
from wad.core.change import Change, PutMark
from wad.core.errors import Damaged, InvalidData, StateUnwritable, Unavailable
from wad.core.outbox import Sent
from wad.lib.clock import SystemClock
from wad.lib.loops import Loops
from wad.store import Store, open_store
from wad.store.port import Cursor
from wad.store.sqlite.schema import STEPS
from wad.store.sqlite.store import SqliteStore


class TestSqliteStore(StoreContract):
    """The contract."""

    @pytest.fixture
    def fresh(self, tmp_path: Path) -> Fresh:
        """Each store in a file of its own."""
        numbers = itertools.count()
        return lambda: opened(tmp_path / f"{next(numbers)}.db")


def files(path: Path) -> list[Path]:
    """The database and its journal files."""
    return sorted(path.parent.glob(f"{path.name}*"))


async def test_the_configured_kind_is_sqlite(tmp_path: Path) -> None:
    """`open_store` knows it by name."""
    config = defaults(STATE_DIRECTORY=str(tmp_path)).config
    store = await open_store(config, SystemClock(), Loops(SystemClock()))
    assert store.kind == "sqlite"
    assert (tmp_path / "wad.db").exists()
    await store.close()


async def test_written_rows_are_there_after_opening_again(tmp_path: Path) -> None:
    """Messages, receipts, entries, epoch and cursor outlive the process."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, arrival(1), Cursor("g", 4))
        await store.enqueue(queued())
        await store.fence(EPOCH)
        before = await contents(store)
    async with opened(path) as store:
        assert await contents(store) == before
        assert await store.cursor(ACC) == Cursor("g", 4)
        assert await store.next_entry(ACC) == queued()
        assert await store.epoch() == EPOCH


async def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask, the log included."""
    before = os.umask(0)
    try:
        async with opened(tmp_path / "wad.db") as store:
            await store.record(ACC, arrival(1))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("wad.db", "wad.db-wal", "wad.db-shm"), 0o600)


async def test_closing_is_idempotent_and_folds_the_log(tmp_path: Path) -> None:
    """One file stays, and later calls raise an error."""
    store = await SqliteStore.open(tmp_path / "wad.db")
    await store.record(ACC, arrival(1))
    await store.close()
    await store.close()
    assert files(tmp_path / "wad.db") == [tmp_path / "wad.db"]
    with pytest.raises(Unavailable, match="closed"):
        await store.totals(ACC)


async def test_a_failing_batch_leaves_nothing(tmp_path: Path) -> None:
    """Changes and cursor are one transaction."""
    async with opened(tmp_path / "wad.db") as store:
        changes: list[Change] = [*arrival(1), PutMark("", wa_id(1), None, "", 0)]  # type: ignore[arg-type]
        with pytest.raises(InvalidData):
            await store.record(ACC, changes, Cursor("g", 1))
        assert await contents(store) == {}
        assert await store.cursor(ACC) is None
        await store.record(ACC, arrival(1), Cursor("g", 1))


# --- what a repair marked ---------------------------------------------------------------------------


async def test_a_marked_duplicate_shows_and_counts_nowhere(tmp_path: Path) -> None:
    """Neither before nor after its removal: here our own document replaces its echo, which was marked."""
    async with opened(tmp_path / "wad.db") as store:
        await sending(store, queued())
        await store.record(ACC, arrival(1, from_me=True))
        with closing(sqlite3.connect(tmp_path / "wad.db", isolation_level=None)) as db:
            db.execute("UPDATE messages SET duplicate_of = ? WHERE client_id = ''", (queued().id,))
            db.execute("UPDATE threads SET messages = 1")
        assert [message.id for message in await store.messages(ANN_THREAD, limit=9)] == [
            queued().id
        ]
        await store.settle(queued().id, Sent(wa_id(1), NOON + 1000), epoch=EPOCH)
        assert (await store.totals(ACC)).messages == 1
        assert len(await store.messages(ANN_THREAD, limit=9)) == 1


# --- versions -------------------------------------------------------------------------------------


def version(path: Path) -> int:
    """How many steps a database has taken."""
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


async def test_a_new_database_has_taken_every_step(tmp_path: Path) -> None:
    """The version is the number of migrations."""
    async with opened(tmp_path / "wad.db"):
        pass
    assert version(tmp_path / "wad.db") == len(STEPS)


async def test_an_old_database_takes_the_missing_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step is added; what was stored before stays."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, arrival(1))
        before = await contents(store)
    more = (*STEPS, "CREATE TABLE novelty (a); INSERT INTO novelty VALUES ('; not an end');")
    monkeypatch.setattr("wad.store.sqlite.store.STEPS", more)
    async with opened(path) as store:
        assert await contents(store) == before
    assert version(path) == len(STEPS) + 1


async def test_a_failing_step_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step is taken whole or not at all, and the old program can go on."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, arrival(1))
    broken = (*STEPS, "CREATE TABLE novelty (a); CREATE TABLE meta (a);")
    with monkeypatch.context() as patched:
        patched.setattr("wad.store.sqlite.store.STEPS", broken)
        with pytest.raises(Unavailable):
            await SqliteStore.open(path)
    assert version(path) == len(STEPS)
    async with opened(path) as store:
        assert (await store.totals(ACC)).messages == 1


async def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    """It is not damaged, so it is not set aside: the error names both versions and the solution."""
    path = tmp_path / "wad.db"
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version={len(STEPS) + 1}")
    with pytest.raises(Unavailable, match="newer wad") as refused:
        await SqliteStore.open(path)
    assert "install that version" in refused.value.hint
    assert version(path) == len(STEPS) + 1


# --- damage ---------------------------------------------------------------------------------------


async def a_full_database(path: Path) -> None:
    """A database of some hundred pages."""
    async with opened(path) as store:
        for number in range(0, 2000, 500):
            changes = [change for n in range(500) for change in arrival(number + n)]
            await store.record(ACC, changes)


@pytest.mark.parametrize("what", DAMAGES)
async def test_a_damaged_database_is_found_when_it_is_opened(tmp_path: Path, what: str) -> None:
    """Overwritten or cut off anywhere: it is not read as if it were whole."""
    path = tmp_path / "wad.db"
    await a_full_database(path)
    damage(path, what)
    with pytest.raises(Damaged, match=r"wad\.db is damaged"):
        await SqliteStore.open(path)


async def test_damage_that_shows_later_is_the_same_error(tmp_path: Path) -> None:
    """A page that is damaged while the database is open."""
    path = tmp_path / "wad.db"
    await a_full_database(path)
    async with opened(path) as store:
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(os.urandom(path.stat().st_size - 8192))
        with pytest.raises(Damaged):
            await store.messages(ANN_THREAD, limit=2000)


# --- the disk -------------------------------------------------------------------------------------


async def fill(store: Store) -> None:
    """Record batches of 20 until something breaks."""
    for number in itertools.count(1):
        changes = [c for n in range(20) for c in arrival(number * 100 + n)]
        await store.record(ACC, changes, Cursor("g", number))


async def test_a_full_disk_stops_writing_and_loses_nothing(tmp_path: Path) -> None:
    """Recorded rows stay readable meanwhile; when there is room again, writes succeed."""
    async with opened(tmp_path / "wad.db") as store:
        await store.record(ACC, arrival(0), Cursor("g", 0))
        with no_more_than(400_000), pytest.raises(StateUnwritable) as refused:
            await fill(store)
        assert "df -h" in refused.value.hint
        cursor = await store.cursor(ACC)
        assert cursor is not None
        assert (await store.totals(ACC)).messages == 20 * cursor.seq + 1
        await store.record(ACC, arrival(1_000_000), Cursor("g", cursor.seq + 1))
        assert (await store.totals(ACC)).messages == 20 * cursor.seq + 2


async def test_a_database_at_its_limit_is_a_full_disk(tmp_path: Path) -> None:
    """SQLITE_FULL has the same error text."""
    async with opened(tmp_path / "wad.db") as store:
        store._writing.execute("PRAGMA max_page_count=60")
        with pytest.raises(StateUnwritable, match="full"):
            await fill(store)


@pytest.mark.parametrize("path", ["nowhere/wad.db", "."])
async def test_a_path_that_cannot_be_a_file_is_unwritable(tmp_path: Path, path: str) -> None:
    """A directory that is missing, or a directory in the file's place."""
    with pytest.raises(StateUnwritable):
        await SqliteStore.open(tmp_path / path)


async def test_a_locked_database_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process writes for longer than the timeout: nothing was done, and a retry succeeds."""
    monkeypatch.setattr("wad.lib.sqlite_file.BUSY_S", 0.05)
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked"):
                await store.record(ACC, arrival(1))
            assert await store.threads(None, limit=5) == []
        await store.record(ACC, arrival(1))


async def test_reading_does_not_wait_for_writing(tmp_path: Path) -> None:
    """While a transaction is open, a reader sees what was there before it."""
    async with opened(tmp_path / "wad.db") as store:
        await store.record(ACC, arrival(1))
        store._writing.execute("BEGIN IMMEDIATE")
        store._writing.execute("DELETE FROM messages")
        assert len(await store.messages(ANN_THREAD, limit=5)) == 1
        store._writing.execute("ROLLBACK")


# --- kill -9 --------------------------------------------------------------------------------------

_WRITER = """
import asyncio, sys
from pathlib import Path
from tests.config.loaded import defaults
from tests.contracts.store import ACC, arrival, queued, CLAIMED, EPOCH
from wad.store.port import Cursor
from wad.store.sqlite.store import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    found = await store.cursor(ACC)
    batch = found.seq if found else 0
    while True:
        batch += 1
        changes = [change for n in range(10) for change in arrival(batch * 10 + n)]
        await store.record(ACC, changes, Cursor("g", batch))
        entry = queued(f"k{batch}")
        await store.enqueue(entry)
        await store.settle(entry.id, CLAIMED, epoch=EPOCH)
        print(batch, flush=True)

asyncio.run(main())
"""


async def test_acknowledged_changes_survive_kill_9(tmp_path: Path) -> None:
    """Ten times in a row: every acknowledged batch and claim is there, and no part of a batch."""
    path, acknowledged = tmp_path / "wad.db", 0
    for round_ in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(3 + round_ * 5):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            acknowledged = max(
                [acknowledged, *(int(line) for line in child.stdout.read().splitlines())]
            )
        async with opened(path) as store:
            cursor = await store.cursor(ACC)
            assert cursor is not None
            assert cursor.seq >= acknowledged
            totals = await store.totals(ACC)
            assert totals.messages == 10 * cursor.seq + sum(totals.outbox.values())
            claimed = await store.entry(queued(f"k{acknowledged}").id)
            assert claimed is not None
            assert claimed.claim == CLAIMED.claim


async def test_an_entry_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    """The others are listed, and leave."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.enqueue(queued("k1"))
        await store.enqueue(queued("k2"))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE outbox SET entry = x'c1ff' WHERE id = ?", (queued("k1").id,))
    async with opened(path) as store:
        entry = await store.next_entry(ACC)
        assert entry == queued("k2")
        assert await store.entries(ACC) == [entry]


async def test_older_queued_entries_keep_their_order(tmp_path: Path) -> None:
    """They are sent before entries that were queued for their chat since."""
    path = tmp_path / "wad.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(f"{STEPS[0]} PRAGMA user_version = 1;")
        for key, to in (("a0", ANN), ("b0", BOB), ("a1", ANN)):
            entry = queued(key, to=to)
            db.execute(
                "INSERT INTO outbox (id, account, state, created_ms, wa_id, entry) VALUES (?,?,?,?,?,?)",
                (entry.id, ACC, "queued", entry.created_ms, "", msgspec.msgpack.encode(entry)),
            )
    async with opened(path) as store:
        await store.enqueue(queued("a2"))
        order = []
        while (found := await store.next_entry(ACC)) is not None:
            order.append(found.client_id)
            await store.settle(found.id, CLAIMED, epoch=EPOCH)
        assert order == ["a0", "b0", "a1", "a2"]
        assert await store.next_entry(ACC, but=[ANN_THREAD]) is None
