"""The accounts' tasks: workers follow what `core.connection` says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.world import PATIENT, a_world, until
from wad.core import connection
from wad.core.connection import State
from wad.core.errors import (
    BadInput,
    BadPhone,
    Conflict,
    EngineFailure,
    Unavailable,
    UnknownAccount,
    WadError,
)
from wad.core.jid import Jid
from wad.engine.simulator import SimulatedWorker
from wad.store.port import AccountStatus

BOB = Jid.parse("15550000002@s.whatsapp.net")


async def test_an_added_account_waits_to_be_paired(tmp_path: Path) -> None:
    """A new account shows no QR code until somebody asks for one."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.accounts.add("shop")
        assert account.status.state == "awaiting_scan"
        assert account.status.qr == ""
        assert account.worker is None


async def test_pairing_shows_a_code_and_connects(tmp_path: Path) -> None:
    """The code is there while the window is open, and gone once the phone scanned it."""
    async with a_world(tmp_path, auto_pair=False) as world, world.leading():
        account = await world.accounts.add("shop")
        account.pair()
        await until(lambda: account.status.qr, "a QR code")
        world.worker(account).scan()
        assert account.status.state == "connected"
        assert account.status.qr == ""
        assert account.card.jid.startswith("15550009999")


async def test_a_paired_account_cannot_be_paired_again(tmp_path: Path) -> None:
    """Pairing would throw the session away, so it is refused."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        with pytest.raises(Conflict, match="paired already"):
            account.pair()


async def test_a_crashed_worker_is_replaced(tmp_path: Path) -> None:
    """A crash is `reconnecting`, and a fresh worker connects without a QR code."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).crash("boom")
        await until(lambda: account.restarts == 1, "another worker")
        await until(lambda: account.status.state == "connected", "connected again")
        assert "reconnecting: boom" in [happening.text for happening in world.bus.past]


async def test_stop_stays_stopped_in_the_next_process(tmp_path: Path) -> None:
    """What the operator stopped does not come back by itself; start brings it back without a QR code."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.stop()
        assert account.worker is None
        ident = account.id
    async with a_world(tmp_path, boot="boot2") as world, world.leading():
        account = world.accounts.find(ident)
        assert account.status.state == "stopped"
        await account.start()
        await until(lambda: account.status.state == "connected", "connected")


async def test_a_restarted_account_gets_a_fresh_worker(tmp_path: Path) -> None:
    """Restart ends the worker and starts another at once."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        before = account.worker
        account.restart()
        await until(lambda: account.worker not in (None, before), "another worker")
        await until(lambda: account.status.state == "connected", "connected")
        assert account.status.attempts == 0


async def test_losing_the_lease_ends_every_worker(tmp_path: Path) -> None:
    """Outside the reign no worker lives, and accounts are passive."""
    async with a_world(tmp_path) as world:
        async with world.leading():
            account = await world.connected()
        assert account.worker is None
        assert account.status.state == "passive"


async def test_replaced_is_not_fought(tmp_path: Path) -> None:
    """When another client takes the session, the account stops until the operator starts it."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        account.tell(connection.Replaced())
        await until(lambda: account.worker is None, "no worker")
        assert account.status.state == "replaced"
        await account.start()
        await until(lambda: account.status.state == "connected", "connected")


async def test_logout_forgets_the_device_and_keeps_the_messages(tmp_path: Path) -> None:
    """After a logout the account asks for a new pairing; its threads are still there."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).receive(BOB, "hello")
        await until(lambda: account.inbound.recorded == 1, "the message")
        await account.log_out()
        assert account.status.state == "logged_out"
        with pytest.raises(Conflict, match="logged out"):
            await account.start()
        assert len(await world.store.threads(account.id, limit=5)) == 1
        account.pair()
        await until(lambda: account.status.state == "connected", "connected")


async def test_remove_renames_and_restore_brings_the_session_back(tmp_path: Path) -> None:
    """A removed account comes back connected, without a QR code."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        path = await world.accounts.remove(account.id)
        assert (path / "session.db").exists()
        with pytest.raises(UnknownAccount):
            world.accounts.find(account.id)
        again = await world.accounts.restore(account.id)
        await until(lambda: again.status.state == "connected", "connected")


async def test_an_account_is_found_by_id_name_and_number(tmp_path: Path) -> None:
    """Operators may name an account as they like."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.accounts.add("shop", phone="+1 555 000 0001")
        for ref in (account.id, "shop", "+15550000001", "1 (555) 000-0001"):
            assert world.accounts.find(ref) is account
        with pytest.raises(UnknownAccount, match="nobody"):
            world.accounts.find("nobody")


async def test_bad_names_and_numbers_are_refused(tmp_path: Path) -> None:
    """Nothing is made of a bad request."""
    async with a_world(tmp_path) as world, world.leading():
        await world.accounts.add("shop", phone="+15550000001")
        with pytest.raises(Conflict):
            await world.accounts.add("shop")
        with pytest.raises(Conflict):
            await world.accounts.add("other", phone="15550000001")
        with pytest.raises(BadPhone):
            await world.accounts.add("other", phone="12")
        with pytest.raises(BadInput):
            await world.accounts.add("other", ident="../etc")
        assert len(world.accounts.all()) == 1


async def test_a_damaged_spool_is_set_aside_and_the_account_goes_on(tmp_path: Path) -> None:
    """The damaged file is renamed, a new spool begins, an operator sees it, and nothing else stops."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.stop()
        account.inbound.close()
        account.home.spool_db.write_bytes(b"this is no database" * 300)
        for suffix in ("-wal", "-shm"):
            account.home.spool_db.with_name(f"spool.db{suffix}").unlink(missing_ok=True)
        await account.start()
        account.inbound.wake()
        await until(lambda: account.status.state == "connected", "connected")
        world.worker(account).receive(BOB, "hello")
        await until(lambda: account.inbound.recorded == 1, "the message")
        assert list(account.home.path.glob("spool.db.damaged-*"))
        assert any("set aside" in warning for warning in account.warnings)


async def test_published_status_follows_the_state(tmp_path: Path) -> None:
    """What the store publishes of an account is its state."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()

        for _ in range(500):
            published = await world.store.accounts()
            if [status.state for status in published] == ["connected"]:
                break
            await asyncio.sleep(0.01)
        assert [(s.account, s.state) for s in published] == [(account.id, "connected")]


@pytest.mark.parametrize("error", [Unavailable("away"), ValueError("a fault of ours")])
async def test_a_status_that_could_not_be_published_is_published_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever went wrong."""
    failed = asyncio.Event()

    async def fail(status: AccountStatus, *, epoch: int) -> None:
        failed.set()
        raise error

    async with a_world(tmp_path) as world, world.leading():
        with monkeypatch.context() as patched:
            patched.setattr(world.store, "put_account", fail)
            account = await world.connected()
            await failed.wait()
        async with asyncio.timeout(10):
            while not await world.store.accounts():
                await asyncio.sleep(0.01)
        (published,) = await world.store.accounts()
        assert published.account == account.id


async def test_paired_again_as_soon_as_it_is_logged_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker says that the session is over before it has ended; who pairs again at once waits for that end."""
    go = asyncio.Event()
    stop = SimulatedWorker.stop

    async def slowly(self: SimulatedWorker, timeout: float) -> None:
        await go.wait()
        await stop(self, timeout)

    monkeypatch.setattr(SimulatedWorker, "stop", slowly)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        account.tell(connection.LoggedOut("by the phone"))
        asyncio.get_running_loop().call_later(0.05, go.set)
        await account.ended()
        account.pair()
        await until(lambda: account.status.state == "connected", "another pairing")


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), RuntimeError("x"), EngineFailure("y")]
)
async def test_an_account_whose_worker_cannot_be_started_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever it fails with it tries again, says why, and neither a stop nor the reign's end hangs."""
    tries = 0

    async def fail(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise error

    async with a_world(tmp_path) as world:
        async with world.leading():
            stopped, kept = await world.connected(), await world.connected("b", "+15550000002")
            monkeypatch.setattr(world.engine, "launch", fail)
            stopped.restart()
            kept.restart()
            await until(lambda: tries > 4, "some tries")
            assert stopped.status.state is State.RECONNECTING
            assert ("internal" in stopped.status.reason) is not isinstance(error, WadError)
            async with asyncio.timeout(PATIENT):
                await stopped.stop()
        async with asyncio.timeout(PATIENT):
            await kept.step_down()
        monkeypatch.undo()
        async with world.leading():
            await until(lambda: kept.status.state is State.CONNECTED, "connected again")
            await stopped.start()
            await until(lambda: stopped.status.state is State.CONNECTED, "connected again")


async def test_a_worker_that_cannot_be_stopped_gently_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while it is asked to end does not let it act on."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        worker = world.worker(account)
        end = worker.stop

        async def stop(timeout: float) -> None:
            if timeout > 0:
                raise ValueError
            await end(timeout)

        monkeypatch.setattr(worker, "stop", stop)
        async with asyncio.timeout(PATIENT):
            await account.stop()
        assert account.worker is None
