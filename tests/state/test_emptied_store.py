"""A store that was emptied beside older accounts is named until an operator has seen it."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import Daemon, a_daemon
from wad.lib.clock import SystemClock
from wad.lib.sqlite_file import log_of, run_step
from wad.store.emptied import beginning, note_of, watch_beginning
from wad.store.sqlite.schema import STEPS
from wad.store.sqlite.store import SqliteStore

EMPTIED: dict[str, Callable[[Path], object]] = {
    "missing": lambda file: file.unlink(missing_ok=True),
    "no bytes": lambda file: file.write_bytes(b""),
    "no tables": lambda file: _emptied(file, []),
    "no rows": lambda file: _emptied(file, STEPS),
}


def _emptied(file: Path, steps: Any) -> None:
    """A sound database in which nothing is."""
    for part in (file, log_of(file), file.with_name(file.name + "-shm")):
        part.unlink(missing_ok=True)
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        for step in steps:
            run_step(db, step)
        db.execute(f"PRAGMA user_version={len(steps)}")
        db.execute("VACUUM")


@pytest.mark.parametrize("how", EMPTIED)
def test_an_empty_store_with_accounts_is_reported(tmp_path: Path, how: str) -> None:
    """Whatever emptied it; the first start of all has no accounts."""
    store = tmp_path / "wad.db"
    EMPTIED[how](store)
    watch_beginning(store, 0, SystemClock())
    assert beginning(store) is None
    watch_beginning(store, 2, SystemClock())
    problem = beginning(store)
    assert problem is not None
    assert problem.code == "store_anew"
    note_of(store).unlink()
    assert beginning(store) is None


async def test_a_store_in_use_is_not(tmp_path: Path) -> None:
    """Also one in which nothing was stored yet: a machine that only stood by."""
    store = tmp_path / "wad.db"
    await (await SqliteStore.open(store)).close()
    watch_beginning(store, 2, SystemClock())
    assert beginning(store) is None


@pytest.mark.parametrize("row", ["cursors VALUES ('acc', 'g', 1)", "meta VALUES ('epoch', 1)"])
def test_a_store_of_an_earlier_version_is_not(tmp_path: Path, row: str) -> None:
    """It has no note of its first start; its contents show that it was in use."""
    store = tmp_path / "wad.db"
    _emptied(store, STEPS)
    with closing(sqlite3.connect(store)) as db, db:
        db.execute(f"INSERT INTO {row}")
    watch_beginning(store, 2, SystemClock())
    assert beginning(store) is None


def test_an_unreadable_store_is_not_an_empty_one(tmp_path: Path) -> None:
    """Opening it reports the error."""
    store = tmp_path / "wad.db"
    store.write_bytes(b"no database at all" * 100)
    watch_beginning(store, 2, SystemClock())
    assert beginning(store) is None


def test_a_log_without_its_database_is_kept(tmp_path: Path) -> None:
    """SQLite would delete it, and all that was not written back yet."""
    store = tmp_path / "wad.db"
    store.write_bytes(b"")
    log_of(store).write_bytes(b"committed")
    watch_beginning(store, 2, SystemClock())
    (kept,) = tmp_path.glob("wad.db-wal.damaged-*")
    assert kept.read_bytes() == b"committed"


async def codes(daemon: Daemon) -> list[str]:
    return [each["code"] for each in (await daemon.call("status"))["problems"]]


async def test_status_and_health_say_so_until_the_note_is_deleted(tmp_path: Path) -> None:
    """Over restarts; and what the spools still hold is recorded."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        account = (await daemon.call("accounts.add", name="shop"))["id"]
        await daemon.call("accounts.pair", account=account)
        await daemon.wait_state(account, "connected")
        assert "store_anew" not in await codes(daemon)
        await daemon.end()
        (daemon.state / "wad.db").write_bytes(b"")
        for _ in range(2):
            await daemon.start()
            assert "store_anew" in await codes(daemon)
            with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}/health") as answer:
                health = json.load(answer)
            assert health["status"] == "degraded"
            assert "store_anew" in [each["code"] for each in health["problems"]]
            await daemon.end()
        note_of(daemon.state / "wad.db").unlink()
        await daemon.start()
        assert "store_anew" not in await codes(daemon)
