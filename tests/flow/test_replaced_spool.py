"""A spool that was cut, removed or replaced: reported until an operator has seen it, and no later row is skipped."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.small_world import World, a_world
from tests.support.waiting import until
from wad.api.views.problems import problems_of
from wad.core.errors import Conflict, Unavailable
from wad.core.jid import Jid
from wad.core.spool_gap import Position, gap
from wad.flow.accounts.account import Account
from wad.flow.inbound import pipeline
from wad.state.spool import Spool
from wad.store.port import Cursor
from wad.store.sqlite.store import SqliteStore

BOB = Jid.parse("15550000002@s.whatsapp.net")
PARTS = ("", "-wal", "-shm")


def codes(account: Account) -> list[str]:
    """The codes of its current problems."""
    return [problem.code for problem in problems_of(account)]


@asynccontextmanager
async def running(directory: Path, boot: str) -> AsyncIterator[tuple[World, Account]]:
    """A world with one account that is connected."""
    async with a_world(directory, boot=boot) as world, world.leading():
        account = world.accounts.get("acc-15550000001") or await world.connected()
        await until(lambda: account.status.state == "connected", "connected")
        yield world, account


async def receive(world: World, account: Account, *names: str) -> None:
    """Messages with these ids arrive, and are recorded."""
    wanted = account.inbound.recorded + len(names)
    for name in names:
        world.worker(account).receive(BOB, name, wa_id=name)
    await until(lambda: account.inbound.recorded == wanted, "all are recorded")


async def stored(world: World, account: Account) -> list[str]:
    """The ids of all its messages in the store, sorted."""
    found = []
    for thread in await world.store.threads(account.id, limit=10):
        found += [one.wa_id for one in await world.store.messages(thread.id, limit=500)]
    return sorted(found)


def remove(spool: Path) -> None:
    """Delete a spool, with its journal files."""
    for part in PARTS:
        spool.with_name(spool.name + part).unlink(missing_ok=True)


def cut(spool: Path) -> None:
    """To nothing, as a power cut leaves a file."""
    remove(spool)
    spool.touch()


def exchange(spool: Path) -> None:
    """Another account's."""
    remove(spool)
    with closing(Spool.open(spool)) as other:
        for number in range(50):
            other.append(received_ms=1, kind="x", wa_id=f"O{number}", raw=b"", event=None)


# --- the rule ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "found", "is_gap"),
    [
        (None, ("a", 0), False),
        (None, ("a", 9), False),
        (("", 0), ("a", 9), False),
        (("a", 5), ("a", 5), False),
        (("a", 5), ("a", 6), False),
        (("a", 5), ("a", 4), True),
        (("a", 5), ("b", 5), True),
        (("a", 5), ("b", 9), True),
        (("a", 0), ("b", 0), True),
    ],
)
def test_when_rows_may_be_missing(
    recorded: tuple[str, int] | None, found: tuple[str, int], is_gap: bool
) -> None:
    """Where another file, or an older one, has replaced the one that was recorded."""
    known = None if recorded is None else Position(*recorded)
    assert bool(gap(known, Position(*found))) is is_gap


# --- while wad does not run ---------------------------------------------------------------------------


@pytest.mark.parametrize("change", [remove, cut, exchange])
async def test_another_file_is_reported_and_read_from_its_first_row(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Its rows have numbers that count as recorded, were they those of the old file."""
    async with running(tmp_path, "one") as (world, account):
        await receive(world, account, "A", "B", "C")
    change(account.account_dir.spool_db)
    async with running(tmp_path, "two") as (world, account):
        assert "inbox_gap" in codes(account)
        await receive(world, account, "D", "E")
        assert await stored(world, account) == ["A", "B", "C", "D", "E"]


async def test_an_older_copy_is_reported_and_no_row_of_it_is_skipped_or_doubled(
    tmp_path: Path,
) -> None:
    """What the worker writes into it gets numbers that the store has recorded already."""
    kept = tmp_path / "kept.db"
    async with running(tmp_path, "one") as (world, account):
        await receive(world, account, "A", "B")
    shutil.copy(account.account_dir.spool_db, kept)
    async with running(tmp_path, "two") as (world, account):
        await receive(world, account, "C", "D", "E")
        assert "inbox_gap" not in codes(account)
    remove(account.account_dir.spool_db)
    shutil.copy(kept, account.account_dir.spool_db)
    async with running(tmp_path, "three") as (world, account):
        (problem,) = [one for one in problems_of(account) if one.code == "inbox_gap"]
        assert "ends at row 2, and 5 rows were recorded" in problem.text
        await receive(world, account, "F", "G", "H", "I")
        assert await stored(world, account) == [*"ABCDEFGHI"]


async def test_it_is_reported_until_an_operator_has_seen_it(tmp_path: Path) -> None:
    """Also after restarts; it is in quarantine, and the operator drops it there."""
    async with running(tmp_path, "one") as (world, account):
        await receive(world, account, "A")
    cut(account.account_dir.spool_db)
    for boot in ("two", "three"):
        async with running(tmp_path, boot) as (world, account):
            assert "inbox_gap" in codes(account)
    async with running(tmp_path, "four") as (world, account):
        (item,) = await account.quarantine.items()
        assert (item.id, account.quarantine.count) == (f"{account.id}/gap", 1)
        assert "it is not the file" in await account.quarantine.show(item.id)
        await account.quarantine.drop(item.id)
        assert (codes(account), account.quarantine.count) == ([], 0)
    async with running(tmp_path, "five") as (world, account):
        assert codes(account) == []


async def test_an_empty_spool_with_a_log_is_set_aside_with_it(tmp_path: Path) -> None:
    """SQLite would delete the log, in which the newest rows are."""
    async with running(tmp_path, "one") as (world, account):
        await receive(world, account, "A")
        log = account.account_dir.spool_db.with_name("spool.db-wal")
        data = log.read_bytes()
        assert data
    cut(account.account_dir.spool_db)
    log.write_bytes(data)
    async with running(tmp_path, "two") as (world, account):
        (aside,) = [
            one for one in account.quarantine.copies if one.path.name.startswith("spool.db")
        ]
        assert aside.path.with_name(f"{aside.path.name}-wal").read_bytes() == data
        assert "set_aside" in codes(account)
        await receive(world, account, "B")
        assert await stored(world, account) == ["A", "B"]


async def test_a_file_that_wad_sets_aside_itself_is_not_a_gap(tmp_path: Path) -> None:
    """The damaged copy is reported as such."""
    async with running(tmp_path, "one") as (world, account):
        await receive(world, account, "A")
    remove(account.account_dir.spool_db)
    account.account_dir.spool_db.write_bytes(b"not a database" * 300)
    for boot in ("two", "three"):
        async with running(tmp_path, boot) as (world, account):
            await until(lambda: "set_aside" in codes(account), "the copy is reported")
            await until(lambda: account.inbound.error == "", "the new one is read")
            assert "inbox_gap" not in codes(account)


async def test_a_file_that_stayed_after_all_is_watched_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exchange that changed nothing excuses no later gap."""

    async def refuse(*_: object) -> None:
        raise Unavailable("the store is away")

    async def leave(_: Cursor | None) -> None:
        pass

    async with running(tmp_path, "one") as (world, account):
        await receive(world, account, "A")
        with monkeypatch.context() as patched:
            patched.setattr(pipeline, "forget_spool", refuse)
            await account.inbound.exchange(leave)
        await receive(world, account, "B")
        assert codes(account) == []
        remove(account.account_dir.spool_db)
        account.restart()
        await until(lambda: "inbox_gap" in codes(account), "the gap is reported")


async def test_another_account_of_the_same_id_misses_nothing(tmp_path: Path) -> None:
    """The spool of the removed account was removed with it."""
    async with running(tmp_path, "one") as (world, account):
        await receive(world, account, "A")
        await world.accounts.remove(account.id)
    async with running(tmp_path, "two") as (world, account):
        assert codes(account) == []
        await receive(world, account, "B")
        assert await stored(world, account) == ["A", "B"]


async def test_a_restored_account_misses_nothing(tmp_path: Path) -> None:
    """The store has read the spool of another account with its id since; no gap is reported, and no row is skipped."""
    async with running(tmp_path, "one") as (world, account):
        await receive(world, account, "A")
        await world.accounts.remove(account.id)
        later = await world.connected()
        assert later.id == account.id
        await receive(world, later, "B", "C", "D")
        shutil.rmtree(await world.accounts.remove(later.id))
        restored = await world.accounts.restore(account.id)
        await until(lambda: restored.status.state == "connected", "connected")
        await receive(world, restored, "E")
        assert codes(restored) == []
        assert await stored(world, restored) == ["A", "B", "C", "D", "E"]


async def test_a_refused_creation_leaves_the_cursor_of_the_account(tmp_path: Path) -> None:
    """Whether it is created or restored: the account that has this id reads its spool on."""
    async with running(tmp_path, "one") as (world, account):
        await world.accounts.remove(account.id)
        account = await world.connected()
        await receive(world, account, "A", "B")
        before = await world.store.cursor(account.id)
        assert before is not None
        with pytest.raises(Conflict, match="already exists"):
            await world.accounts.add("other", ident=account.id)
        with pytest.raises(Conflict, match="already exists"):
            await world.accounts.restore(account.id)
        assert await world.store.cursor(account.id) == before


# --- while it runs --------------------------------------------------------------------------------------


def replace(spool: Path) -> None:
    """Replace a spool by a rename, as a restore does."""
    new = spool.with_name("new.db")
    Spool.open(new).close()
    remove(spool)
    new.replace(spool)


@pytest.mark.parametrize("change", [remove, replace])
async def test_a_spool_that_is_removed_under_a_worker_loses_no_row(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """The worker writes to a file without a name: its rows are recorded, and the worker is replaced."""
    async with running(tmp_path, "one") as (world, account):
        await receive(world, account, "A")
        change(account.account_dir.spool_db)
        before = world.worker(account)
        before.receive(BOB, "B", wa_id="B")
        await until(lambda: "inbox_gap" in codes(account), "it is reported")
        await until(lambda: account.status.state == "connected", "connected")
        assert world.worker(account) is not before
        await receive(world, account, "C")
        assert await stored(world, account) == ["A", "B", "C"]
    async with running(tmp_path, "two") as (world, account):
        await receive(world, account, "D")
        assert await stored(world, account) == ["A", "B", "C", "D"]


async def test_a_spool_that_is_emptied_under_a_worker_is_reported(tmp_path: Path) -> None:
    """Earlier and later messages are recorded."""
    async with running(tmp_path, "one") as (world, account):
        await receive(world, account, "A")
        with account.account_dir.spool_db.open("r+b") as file:
            file.truncate(0)
        account.inbound.wake()
        await until(
            lambda: {"inbox_gap", "set_aside"} & {*codes(account)},
            "it is reported as one or the other",
        )
        await until(lambda: account.status.state == "connected", "connected")
        await until(lambda: account.inbound.error == "", "the spool is read")
        await receive(world, account, "B")
        assert await stored(world, account) == ["A", "B"]


async def test_a_stopped_accounts_spool_is_reported_when_it_is_removed(tmp_path: Path) -> None:
    """No worker runs: only the daemon has it open."""
    async with running(tmp_path, "one") as (world, account):
        await receive(world, account, "A")
        await account.stop()
        remove(account.account_dir.spool_db)
        account.inbound.wake()
        await until(lambda: "inbox_gap" in codes(account), "it is reported")


# --- any of these, in any order -------------------------------------------------------------------------

_STEPS = st.lists(st.sampled_from(["receive", "keep", "bring back", "cut", "remove"]), max_size=6)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=_STEPS)
def test_later_messages_are_recorded_once_after_any_damage(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    """Each step is between two runs; lost messages are reported."""
    asyncio.run(_try(tmp_path_factory.mktemp("world"), steps))


async def _try(directory: Path, steps: list[str]) -> None:
    kept, expected, is_touched = directory / "kept.db", 0, False
    for number, step in enumerate([*steps, "receive"]):
        async with running(directory, f"boot{number}") as (world, account):
            assert ("inbox_gap" in codes(account)) is is_touched
            if step == "receive":
                await receive(world, account, f"M{expected:03}", f"M{expected + 1:03}")
                expected += 2
            assert len(await stored(world, account)) == expected
            spool = account.account_dir.spool_db
        before = spool.read_bytes()
        match step:
            case "keep":
                shutil.copy(spool, kept)
            case "bring back" if kept.exists():
                shutil.copy(kept, spool)
            case "cut":
                cut(spool)
            case "remove":
                remove(spool)
        # A copy as new as the file itself misses nothing: what it is depends on what came after it.
        if step in ("cut", "remove"):
            is_touched = True
        elif spool.read_bytes() != before:
            with closing(Spool.open(spool)) as now:
                is_touched = is_touched or await _is_gap(directory, account.id, now)


async def _is_gap(directory: Path, account: str, spool: Spool) -> bool:
    store = await SqliteStore.open(directory / "wad.db")
    try:
        known = await store.cursor(account)
    finally:
        await store.close()
    assert known is not None
    return bool(gap(Position(known.generation, known.seq), spool.position()))
