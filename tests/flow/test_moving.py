"""A session is moved to another machine in one sealed file, and runs on one machine only."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from tests.flow.machines import FakeRegistry, machine
from tests.support.small_world import World, a_world
from tests.support.waiting import TIMEOUT, until
from wad.api.views.session import SESSION_PIECE
from wad.core.errors import BadInput, Conflict, TimedOut, Unavailable
from wad.flow.accounts.account import Account
from wad.flow.accounts.moving import Moving
from wad.state.account_dir import AccountDir

SECRET = "correct horse battery"


async def exported(world: World, account: Account) -> bytes:
    """Stop it, and export its session."""
    await account.stop()
    moving = Moving(world.accounts, os.urandom)
    sealed = await moving.export(account, SECRET)
    await moving.finish_export(account)
    return sealed


async def imported(world: World, sealed: bytes, secret: str = SECRET) -> Account:
    """Upload it in two pieces, and import it."""
    moving = Moving(world.accounts, os.urandom)
    half = len(sealed) // 2
    upload, whole = moving.add_piece("", len(sealed), 0, sealed[:half])
    assert not whole
    upload, whole = moving.add_piece(upload, len(sealed), half, sealed[half:])
    assert whole
    return await moving.import_session(upload, secret)


async def test_it_moves(tmp_path: Path, known: FakeRegistry) -> None:
    """It runs where it was imported, and the old machine shows where it is."""
    async with machine(tmp_path, known, "a") as a:
        account = await a.connected()
        await until(lambda: known.locations, "that it is known")
        sealed = await exported(a, account)
        assert account.status.state == "elsewhere"
        assert account.status.reason.startswith("its session was exported on 20")
        assert len(list(account.account_dir.path.glob("session.db.exported-*"))) == 1
    async with machine(tmp_path, known, "b") as b:
        there = await imported(b, sealed)
        await until(lambda: there.status.state == "connected", "connected")
        assert (there.id, there.card.name) == (account.id, "shop")
        assert known.locations[there.id].instance == "b"
    async with machine(tmp_path, known, "a") as a:
        (account,) = a.accounts.all()
        assert account.status.state == "elsewhere"
        assert account.status.reason.startswith("its session is on b")


async def test_the_other_machine_may_return(tmp_path: Path, known: FakeRegistry) -> None:
    """Imported where it was exported, it runs there again."""
    async with machine(tmp_path, known, "a") as a:
        account = await a.connected()
        sealed = await exported(a, account)
        assert await imported(a, sealed) is account
        await until(lambda: account.status.state == "connected", "connected")
        assert account.card.exported_ms == 0


async def test_a_running_session_is_not_exported(tmp_path: Path) -> None:
    """Stop it first."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        with pytest.raises(Conflict, match="its session is in use") as caught:
            await Moving(world.accounts, os.urandom).export(account, SECRET)
        assert caught.value.hint == f"wadctl account stop {account.id}"


async def test_a_session_that_ran_since_its_export_is_not_removed(tmp_path: Path) -> None:
    """The file contains keys that have advanced since."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.stop()
        moving = Moving(world.accounts, os.urandom)
        await moving.export(account, SECRET)
        account.account_dir.session_db.write_bytes(b"moved on")
        with pytest.raises(Conflict, match="has changed since"):
            await moving.finish_export(account)
        assert account.account_dir.session_db.exists()


async def test_without_a_session_there_is_nothing_to_export(tmp_path: Path) -> None:
    """It was never paired."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.accounts.add("shop")
        with pytest.raises(Conflict, match="has no session here"):
            await Moving(world.accounts, os.urandom).export(account, SECRET)


async def test_a_session_is_not_written_over_another(tmp_path: Path) -> None:
    """Neither while it runs nor when it is stopped."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.stop()
        sealed = await Moving(world.accounts, os.urandom).export(account, SECRET)
        with pytest.raises(Conflict, match="has a session here already"):
            await imported(world, sealed)
        await account.start()
        await until(lambda: account.status.state == "connected", "connected")
        with pytest.raises(Conflict, match="in use"):
            await imported(world, sealed)


async def test_a_wrong_secret_changes_nothing(tmp_path: Path) -> None:
    """No account appears."""
    async with a_world(tmp_path / "a") as world, world.leading():
        sealed = await exported(world, await world.connected())
    async with a_world(tmp_path / "b") as world, world.leading():
        with pytest.raises(BadInput, match="secret"):
            await imported(world, sealed, "another one entirely")
        assert not world.accounts.all()


async def test_session_locations_are_unavailable(tmp_path: Path, known: FakeRegistry) -> None:
    """The session is here, and does not run before the others can know; starting the account tries again."""
    async with machine(tmp_path, known, "a") as a:
        account = await a.connected()
        await until(lambda: known.locations, "that it is known")
        sealed = await exported(a, account)
    async with machine(tmp_path, known, "b") as b:
        known.away = True
        with pytest.raises(Unavailable):
            await imported(b, sealed)
        (there,) = b.accounts.all()
        assert there.status.state == "elsewhere"
        known.away = False
        await b.accounts.start(there)
        await until(lambda: there.status.state == "connected", "connected")


async def test_pieces_out_of_order_are_refused(tmp_path: Path) -> None:
    """Of another upload, out of order, too many, too large."""
    async with a_world(tmp_path) as world:
        moving = Moving(world.accounts, os.urandom)
        upload, _ = moving.add_piece("", 10, 0, b"12345")
        for ident, offset, data in (("x", 5, b"1"), (upload, 4, b"1"), (upload, 5, b"123456")):
            with pytest.raises(BadInput, match="do not continue the file"):
                moving.add_piece(ident, 10, offset, data)
        with pytest.raises(BadInput, match="not complete"):
            await moving.import_session(upload, SECRET)
        with pytest.raises(BadInput, match="at most"):
            moving.add_piece("", 1 << 40, 0, b"x" * SESSION_PIECE)


async def test_a_session_that_was_not_exported_is_not_removed(tmp_path: Path) -> None:
    """Not even by an order before there is a session."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.accounts.add("shop")
        moving = Moving(world.accounts, lambda size: bytes(size))
        with pytest.raises(Conflict, match="was not exported"):
            await moving.finish_export(account)


async def test_an_import_that_outlives_the_term_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers have ended by then, and the lease is released; the next term starts it."""
    begun, go = threading.Event(), threading.Event()
    async with a_world(tmp_path) as world:
        async with world.leading():
            account = await world.connected()
            sealed = await exported(world, account)
            put = world.engine.put_session

            def slowly(account_dir: AccountDir, session: bytes) -> None:
                begun.set()
                go.wait(TIMEOUT)
                put(account_dir, session)

            monkeypatch.setattr(world.engine, "put_session", slowly)
            importing = asyncio.create_task(imported(world, sealed))
            await asyncio.to_thread(begun.wait, TIMEOUT)
        seen = len(world.bus.history)
        go.set()
        with pytest.raises(TimedOut, match="the lease is gone"):
            await importing
        assert [event.text for event in [*world.bus.history][seen:] if event.kind == "state"] == []
        assert account.status.state == "passive"
        async with world.leading():
            await until(lambda: account.status.state == "connected", "connected")
