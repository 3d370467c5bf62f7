"""The session file of an account is replaced off the event loop, by one order at a time."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.flow.test_importing import HERE, brought
from tests.support.small_world import World, a_world
from tests.support.waiting import TIMEOUT, until
from wad.core import connection
from wad.core.errors import Conflict
from wad.flow.accounts.account import Account
from wad.flow.accounts.moving import Moving
from wad.state.account_dir import AccountDir, AccountDirs

SECRET = "correct horse battery"


def threads_of(monkeypatch: pytest.MonkeyPatch, owner: type, *names: str) -> dict[str, set[bool]]:
    """For each of these methods that is called: whether that was on the thread of the event loop."""
    found: dict[str, set[bool]] = {}

    def noting(name: str) -> Callable[..., Any]:
        work = getattr(owner, name)

        def noted(*args: Any, **options: Any) -> Any:
            found.setdefault(name, set()).add(threading.current_thread() is threading.main_thread())
            return work(*args, **options)

        return noted

    for name in names:
        monkeypatch.setattr(owner, name, noting(name))
    return found


async def exported(world: World, account: Account) -> bytes:
    """Stop it, and export its session."""
    await account.stop()
    moving = Moving(world.accounts, os.urandom)
    sealed = await moving.export(account, SECRET)
    await moving.finish_export(account)
    return sealed


async def test_an_export_moves_the_file_on_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk delays nothing else."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        found = threads_of(monkeypatch, AccountDir, "set_aside")
        await exported(world, account)
        assert found == {"set_aside": {False}}


async def test_an_import_moves_the_file_that_is_in_the_way_on_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has tables but no session."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        sealed = await exported(world, account)
        account.account_dir.session_db.write_bytes(b"tables")
        found = threads_of(monkeypatch, AccountDir, "set_aside", "write_session")
        moving = Moving(world.accounts, os.urandom)
        upload, _ = moving.add_piece("", len(sealed), 0, sealed)
        with monkeypatch.context() as patched:
            patched.setattr(world.engine, "is_paired", lambda account_dir: False)
            await moving.import_session(upload, SECRET)
        assert found == {"set_aside": {False}, "write_session": {False}}
        assert list(account.account_dir.path.glob("session.db.unpaired-*"))


async def test_pairing_after_a_logout_moves_the_file_on_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WhatsApp has dropped its keys; it is renamed."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.log_out()
        account.account_dir.session_db.write_bytes(b"dropped keys")
        found = threads_of(monkeypatch, AccountDir, "set_aside")
        await account.pair()
        await until(lambda: account.status.state == "connected", "connected")
        assert found == {"set_aside": {False}}
        (aside,) = account.account_dir.path.glob("session.db.logged-out-*")
        assert aside.read_bytes() == b"dropped keys"


@pytest.mark.parametrize("existing", [True, False])
async def test_the_import_of_another_programs_session_uses_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    """Into an account that exists, or a new one."""
    async with a_world(tmp_path) as world, world.leading():
        if existing:
            await world.accounts.add("Front", ident="account_prod_1")
        names = ("make_incoming", "settle", "drop_incoming")
        dirs = threads_of(monkeypatch, AccountDirs, *names)
        files = threads_of(monkeypatch, AccountDir, "take_session")
        imports, upload = brought(world)
        await imports.run(upload, HERE)
        assert set().union(*dirs.values(), *files.values()) == {False}
        assert set(dirs) >= {"make_incoming", "drop_incoming"}
        assert set(files) == ({"take_session"} if existing else set())


class SlowMove:
    """A method of AccountDir that waits in its thread until `go` is set; `log` shows the order of calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.log: list[str] = []
        work = getattr(AccountDir, name)

        def slowly(*args: Any) -> Any:
            self.begun.set()
            assert self.go.wait(TIMEOUT)
            found = work(*args)
            self.log.append("moved")
            return found

        monkeypatch.setattr(AccountDir, name, slowly)


@asynccontextmanager
async def an_export(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Account, SlowMove, asyncio.Task[Any]]]:
    """A stopped account whose session was exported, and whose file is just being moved."""
    account = await world.connected()
    await account.stop()
    moving = Moving(world.accounts, os.urandom)
    await moving.export(account, SECRET)
    move = SlowMove(monkeypatch, "set_aside")
    finishing = asyncio.create_task(moving.finish_export(account))
    await asyncio.to_thread(move.begun.wait, TIMEOUT)
    yield account, move, finishing


async def test_no_worker_starts_on_a_file_that_is_being_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order to start waits for the export, and then sees that the session is not here any more."""
    async with a_world(tmp_path) as world, world.leading(), an_export(world, monkeypatch) as export:
        account, move, finishing = export
        before = account.worker_started_ms
        is_paired = world.engine.is_paired

        def check(account_dir: AccountDir) -> bool:
            move.log.append("checked")
            return is_paired(account_dir)

        monkeypatch.setattr(world.engine, "is_paired", check)
        starting = asyncio.create_task(account.start())
        await until(lambda: account.card.enabled, "the order to start")
        move.go.set()
        await asyncio.gather(finishing, starting)
        assert move.log[:2] == ["moved", "checked"]
        assert account.status.state == "elsewhere"
        assert account.worker_started_ms == before


async def test_a_cancelled_import_into_an_account_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller disconnects while the file is moved: the account has the session, its card says so, and it runs."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.accounts.add("Front", ident="account_prod_1")
        await account.stop()
        move = SlowMove(monkeypatch, "take_session")
        imports, upload = brought(world)
        importing = asyncio.create_task(imports.run(upload, HERE))
        await asyncio.to_thread(move.begun.wait, TIMEOUT)
        importing.cancel()
        move.go.set()
        with pytest.raises(asyncio.CancelledError):
            await importing
        assert account.card.enabled
        assert account.account_dir.session_db.stat().st_size
        assert not (world.account_dirs.root / ".incoming").exists()
        await until(lambda: account.status.state == "connected", "connected")


async def test_a_cancelled_end_of_an_export_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller disconnects while the file is moved: the account shows that its session was exported."""
    async with a_world(tmp_path) as world, world.leading(), an_export(world, monkeypatch) as export:
        account, move, finishing = export
        finishing.cancel()
        move.go.set()
        with pytest.raises(asyncio.CancelledError):
            await finishing
        assert account.status.state == "elsewhere"


async def test_no_session_is_taken_between_two_workers_of_a_pairing(tmp_path: Path) -> None:
    """The next worker may start while the file is moved."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.accounts.add("Front", ident="account_prod_1")
        await account.pair()
        await until(lambda: account.worker is not None, "a worker")
        account.handle(connection.QrOver())
        await until(lambda: account.worker is None or account.status.worker, "its end")
        with pytest.raises(Conflict, match="is being paired"):
            await account.check_unpaired()


@pytest.mark.parametrize("order", ["create", "restore"])
async def test_a_cancelled_creation_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """Its caller disconnects while the directory is made: it is an account."""
    begun, go = threading.Event(), threading.Event()
    async with a_world(tmp_path) as world, world.leading():
        if order == "restore":
            await world.accounts.add("shop", ident="shop")
            await world.accounts.remove("shop")
        work = getattr(AccountDirs, order)

        def slowly(*args: Any) -> AccountDir:
            begun.set()
            assert go.wait(TIMEOUT)
            made: AccountDir = work(*args)
            return made

        monkeypatch.setattr(AccountDirs, order, slowly)
        make = (
            world.accounts.restore("shop")
            if order == "restore"
            else world.accounts.add("shop", ident="shop")
        )
        making = asyncio.create_task(make)
        await asyncio.to_thread(begun.wait, TIMEOUT)
        making.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await making
        assert [account.id for account in world.accounts.all()] == ["shop"]


async def test_a_removal_waits_for_a_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory is renamed afterwards, with the file that was set aside in it."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.stop()
        moving = Moving(world.accounts, os.urandom)
        await moving.export(account, SECRET)
        move = SlowMove(monkeypatch, "set_aside")
        remove = AccountDirs.remove

        def noted(*args: Any) -> Path:
            move.log.append("removed")
            return remove(*args)

        monkeypatch.setattr(AccountDirs, "remove", noted)
        finishing = asyncio.create_task(moving.finish_export(account))
        await asyncio.to_thread(move.begun.wait, TIMEOUT)
        removing = asyncio.create_task(world.accounts.remove(account.id))
        await until(
            lambda: all(loop.account != account.id for loop in world.loops.running),
            "the end of its loops, after which its directory is renamed",
        )
        move.go.set()
        path = await removing
        await asyncio.gather(finishing, return_exceptions=True)
        assert move.log == ["moved", "removed"]
        assert list(path.glob("session.db.exported-*"))
