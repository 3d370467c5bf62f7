"""The accounts' tasks: workers follow what `core.connection` says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_world import World, a_world
from tests.support.waiting import TIMEOUT, until
from wad.core import connection
from wad.core.connection import State
from wad.core.errors import (
    BadInput,
    BadPhone,
    Conflict,
    EngineFailure,
    NotFound,
    StateUnwritable,
    Unavailable,
    UnknownAccount,
    WadError,
)
from wad.core.jid import Jid
from wad.core.outgoing import Text
from wad.engine.simulator import SimulatedWorker
from wad.flow.accounts.account import Account
from wad.state.account_dir import AccountCard, AccountDir, AccountDirs
from wad.store.port import AccountStatus

BOB = Jid.parse("15550000002@s.whatsapp.net")


async def test_an_added_account_waits_to_be_paired(tmp_path: Path) -> None:
    """A new account shows no QR code until one is requested."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.accounts.add("shop")
        assert account.status.state == "awaiting_scan"
        assert account.status.qr == ""
        assert account.worker is None


async def test_pairing_shows_a_code_and_connects(tmp_path: Path) -> None:
    """The code is there while the window is open, and gone once the phone scanned it."""
    async with a_world(tmp_path, auto_pair=False) as world, world.leading():
        account = await world.accounts.add("shop")
        await account.pair()
        await until(lambda: account.status.qr, "a QR code")
        world.worker(account).scan()
        assert account.status.state == "connected"
        assert account.status.qr == ""
        assert account.card.jid.startswith("15550009999")


async def test_a_misspelled_account(tmp_path: Path) -> None:
    """Any case is fine; otherwise the hint is the nearest name, or the names that there are."""
    async with a_world(tmp_path) as world:
        account = await world.accounts.add("Front desk")
        assert world.accounts.find("FRONT DESK") is account
        with pytest.raises(UnknownAccount) as found:
            world.accounts.find("front dsk")
        assert found.value.hint == "did you mean 'Front desk'?"
        with pytest.raises(UnknownAccount) as found:
            world.accounts.find("warehouse")
        assert found.value.hint == "accounts here: Front desk"


async def test_a_code_to_type_is_requested_once_a_qr_code_is_shown(tmp_path: Path) -> None:
    """Also for a window that is open already; the simulated phone scans instead."""
    async with a_world(tmp_path, auto_pair=False) as world, world.leading():
        account = await world.accounts.add("shop")
        await account.pair()
        await until(lambda: account.status.qr, "a QR code")
        await account.pair("15550000001")
        await until(lambda: account.status.pairing_code, "a code")
        assert account.status.pairing_code == "SIMU-1ATE"
        world.worker(account).scan()
        assert account.status.pairing_code == ""


async def test_a_code_to_type_that_is_refused(tmp_path: Path) -> None:
    """The reason is in the status, and the next request asks again."""
    async with a_world(tmp_path, auto_pair=False) as world, world.leading():
        account = await world.accounts.add("shop")
        await account.pair()
        await until(lambda: account.status.qr, "a QR code")
        world.worker(account).code_refusal = "rate-overlimit"
        await account.pair("15550000001")
        await until(lambda: "rate-overlimit" in account.status.reason, "the refusal")
        world.worker(account).code_refusal = ""
        await account.pair("15550000001")
        await until(lambda: account.status.pairing_code, "a code")


async def test_a_paired_account_cannot_be_paired_again(tmp_path: Path) -> None:
    """Pairing would throw the session away, so it is refused."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        with pytest.raises(Conflict, match="already paired"):
            await account.pair()


async def test_a_crashed_worker_is_replaced(tmp_path: Path) -> None:
    """A crash is `reconnecting`, and a fresh worker connects without a QR code."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).crash("boom")
        await until(lambda: account.restarts == 1, "another worker")
        await until(lambda: account.status.state == "connected", "connected again")
        assert "reconnecting: boom" in [happening.text for happening in world.bus.history]


async def test_stop_stays_stopped_in_the_next_process(tmp_path: Path) -> None:
    """An account that the operator stopped stays stopped; start connects it without a QR code."""
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


@pytest.mark.parametrize("order", ["stop", "leave"])
async def test_an_order_while_it_begins_is_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """When leadership begins a thread reads the disk; an operator's order in the meantime is newer."""
    begun, go = threading.Event(), threading.Event()
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.step_down()

        def slowly(account_dir: AccountDir) -> bool:
            begun.set()
            return go.wait(TIMEOUT)

        monkeypatch.setattr(world.engine, "is_paired", slowly)
        beginning = asyncio.create_task(account.begin())
        await asyncio.to_thread(begun.wait, TIMEOUT)
        if order == "stop":
            await account.stop()
        else:
            account.begin_removal()
        go.set()
        await beginning
        assert account.status.state == ("stopped" if order == "stop" else "passive")
        assert not account.status.worker


async def test_a_restarted_account_gets_a_new_worker(tmp_path: Path) -> None:
    """Restart ends the worker and starts another at once."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        before = account.worker
        account.restart()
        await until(lambda: account.worker not in (None, before), "another worker")
        await until(lambda: account.status.state == "connected", "connected")
        assert account.status.attempts == 0


async def test_losing_the_lease_ends_every_worker(tmp_path: Path) -> None:
    """Without the lease no worker runs, and accounts are passive."""
    async with a_world(tmp_path) as world:
        async with world.leading():
            account = await world.connected()
        assert account.worker is None
        assert account.status.state == "passive"


async def test_replaced_is_not_fought(tmp_path: Path) -> None:
    """When another client takes the session, the account stops until the operator starts it."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        account.handle(connection.Replaced())
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
        await account.pair()
        await until(lambda: account.status.state == "connected", "connected")


async def test_remove_renames_and_restore_brings_the_session_back(tmp_path: Path) -> None:
    """A restored account is connected, without a QR code."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        path = await world.accounts.remove(account.id)
        assert (path / "session.db").exists()
        with pytest.raises(UnknownAccount):
            world.accounts.find(account.id)
        again = await world.accounts.restore(account.id)
        await until(lambda: again.status.state == "connected", "connected")


@pytest.mark.parametrize("ref", ["shop-1", "Shop", "+1 555 000 0001"])
async def test_a_removed_account_is_restored_by_any_of_its_names(tmp_path: Path, ref: str) -> None:
    """Its id, name or whole number; of several removals the latest."""
    async with a_world(tmp_path) as world, world.leading():
        for _ in range(2):
            await world.accounts.add("Shop", phone="+15550000001", ident="shop-1")
            await world.accounts.remove("shop-1")
        await world.accounts.add("Other", ident="other")
        await world.accounts.remove("other")
        assert (await world.accounts.restore(ref)).id == "shop-1"
        with pytest.raises(Conflict, match="already"):
            await world.accounts.restore(ref)


async def test_a_name_that_two_removed_accounts_had_restores_neither(tmp_path: Path) -> None:
    """The error names both; the id of one of them does, also where it is the other's name."""
    async with a_world(tmp_path) as world, world.leading():
        for ident, name in (("one", "Shop"), ("two", "Shop"), ("three", "one")):
            await world.accounts.add(name, ident=ident)
            await world.accounts.remove(ident)
        with pytest.raises(Conflict, match="the name of one and the name of two"):
            await world.accounts.restore("Shop")
        assert (await world.accounts.restore("one")).card.name == "Shop"
        with pytest.raises(NotFound) as missing:
            await world.accounts.restore("depot")
        assert missing.value.hint == "removed accounts: three, two"


async def test_an_account_is_found_by_id_name_and_number(tmp_path: Path) -> None:
    """Operators may name an account as they like."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.accounts.add("shop", phone="+1 555 000 0001")
        for ref in (account.id, "shop", "+15550000001", "1 (555) 000-0001"):
            assert world.accounts.find(ref) is account
        with pytest.raises(UnknownAccount, match="nobody"):
            world.accounts.find("nobody")


@pytest.mark.parametrize("ref", ["old_15550000001_copy", "acc-1555000000", "SHO", "5550000001"])
async def test_a_directory_that_only_looks_like_an_account_is_ignored(
    tmp_path: Path, ref: str
) -> None:
    """Nothing happens to an account that was not named."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.accounts.add("shop", phone="+15550000001")
        with pytest.raises(UnknownAccount):
            world.accounts.find(ref)
        with pytest.raises(UnknownAccount):
            await world.accounts.remove(ref)
        assert world.accounts.all() == [account]


async def test_an_ambiguous_reference_is_a_conflict(tmp_path: Path) -> None:
    """Such accounts may be on the disk; the id still identifies one of them."""
    async with a_world(tmp_path) as world:
        world.account_dirs.create(AccountCard(id="one", name="shop", phone="+15550000001"))
        world.account_dirs.create(AccountCard(id="two", name="one"))
        world.account_dirs.create(AccountCard(id="three", name="third", phone="+15550000001"))
        for ident in ("one", "two", "three"):
            found = partial(world.account_dirs.get, ident)
            await world.accounts.creation.make(ident, found, "added")
        with pytest.raises(Conflict, match="'one' is ambiguous: the id of one and the name of two"):
            world.accounts.find("one")
        with pytest.raises(Conflict, match="number of one and the number of three"):
            world.accounts.find("+1 555 000 0001")
        assert world.accounts.by_id("one").card.name == "shop"
        assert world.accounts.find("shop").id == "one"
        with pytest.raises(UnknownAccount):
            world.accounts.by_id("shop")


@pytest.mark.parametrize(
    "wanted",
    [
        {"name": "shop"},
        {"name": "acc-15550000001"},
        {"name": "+1 555 000 0001"},
        {"name": "15550000001"},
        {"name": "other", "ident": "shop"},
        {"name": "other", "ident": "15550000001"},
        {"name": "other", "ident": "acc-15550000001"},
        {"name": "other", "phone": "0015550000001"},
    ],
)
async def test_an_ambiguous_name_is_refused(tmp_path: Path, wanted: dict[str, str]) -> None:
    """Whether it is another's id, name or number; a new name as well."""
    async with a_world(tmp_path) as world, world.leading():
        await world.accounts.add("shop", phone="+15550000001")
        with pytest.raises(Conflict):
            await world.accounts.add(**wanted)
        other = await world.accounts.add("third")
        if wanted.keys() == {"name"}:
            with pytest.raises(Conflict):
                await world.accounts.rename(other.id, wanted["name"])
        assert len(world.accounts.all()) == 2


@pytest.mark.parametrize(
    "wanted",
    [
        {"name": "one", "phone": "+15550000001"},
        {"name": "one", "ident": "same"},
        {"name": "same"},
    ],
)
async def test_two_concurrent_adds_create_one_account(
    tmp_path: Path, wanted: dict[str, str]
) -> None:
    """By number, id or name; the other call gets a Conflict, and leaves nothing."""
    async with a_world(tmp_path) as world, world.leading():
        second = wanted if wanted["name"] == "same" else {**wanted, "name": "two"}
        done = await asyncio.gather(
            world.accounts.add(**wanted), world.accounts.add(**second), return_exceptions=True
        )
        (account,) = world.accounts.all()
        assert done[0] is account
        assert isinstance(done[1], Conflict)
        assert [account_dir.id for account_dir in world.account_dirs.all()] == [account.id]
        assert {path.name for path in world.account_dirs.root.iterdir()} == {account.id, ".cards"}


async def test_an_account_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the same order works once there is room."""

    def full(account_dir: AccountDir, card: AccountCard) -> None:
        raise StateUnwritable("no space left on device")

    async with a_world(tmp_path) as world, world.leading():
        with monkeypatch.context() as patched:
            patched.setattr(AccountDir, "write_card", full)
            with pytest.raises(StateUnwritable):
                await world.accounts.add("shop", ident="shop-1")
        assert world.accounts.all() == []
        assert list(world.account_dirs.root.iterdir()) == []
        assert (await world.accounts.add("shop", ident="shop-1")).id == "shop-1"


@pytest.mark.parametrize("fault", ["rename", "sender", "worker"])
async def test_an_account_that_cannot_be_removed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """It runs on, sends and receives; the removal can be tried again."""

    def refuse(account_dirs: AccountDirs, ident: str, stamp: str) -> Path:
        raise StateUnwritable("read-only file system")

    async def fail(*_: object) -> None:
        raise ValueError("a fault of ours")

    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        with monkeypatch.context() as patched:
            match fault:
                case "rename":
                    patched.setattr(AccountDirs, "remove", refuse)
                case "sender":
                    patched.setattr(world.accounts, "on_gone", fail)
                case _:
                    patched.setattr(Account, "step_down", fail)
            with pytest.raises((StateUnwritable, ValueError)):
                await world.accounts.remove(account.id)
        assert world.accounts.all() == [account]
        await until(lambda: account.status.state == "connected", "connected")
        world.worker(account).receive(BOB, "hello")
        await until(lambda: account.inbound.recorded == 1, "the message")
        queued = await world.outbound.enqueue(account.id, BOB, Text("hello"))
        assert (await world.outbound.settled(queued.entry.id, timeout=TIMEOUT)).wa_id
        await world.accounts.remove(account.id)
        assert world.accounts.all() == []
        assert not account.account_dir.path.exists()


@asynccontextmanager
async def a_removal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Account, asyncio.Event, asyncio.Task[Any]]]:
    """An account whose worker has ended and which is not removed before the event is set."""
    gate = asyncio.Event()

    async def wait(_account: Account) -> None:
        await gate.wait()

    account = await world.connected()
    monkeypatch.setattr(world.accounts, "on_gone", wait)
    removing = asyncio.create_task(world.accounts.remove(account.id))
    await until(lambda: account.worker is None, "its worker's end")
    yield account, gate, removing


async def test_an_account_that_is_being_removed_takes_no_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing starts a worker in a directory that is about to be renamed; a second removal is refused."""
    async with (
        a_world(tmp_path) as world,
        world.leading(),
        a_removal(world, monkeypatch) as removal,
    ):
        account, gate, removing = removal
        with pytest.raises(Conflict, match="being removed"):
            await account.pair()
        with pytest.raises(Conflict, match="being removed"):
            await account.start()
        with pytest.raises(Conflict, match="being removed"):
            await world.accounts.remove(account.id)
        with pytest.raises(Conflict):
            await world.accounts.add("other", phone=account.card.phone)
        gate.set()
        await removing
        assert world.accounts.all() == []
        await world.accounts.add("other", phone=account.card.phone)


async def test_a_removal_continues_without_its_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller hung up: it is an account, or a removed one, and nothing in between."""
    async with (
        a_world(tmp_path) as world,
        world.leading(),
        a_removal(world, monkeypatch) as removal,
    ):
        account, gate, removing = removal
        removing.cancel()
        await asyncio.wait([removing])
        gate.set()
        await until(lambda: not world.accounts.all(), "its end")
        assert [one.id for one in world.account_dirs.removed()] == [account.id]


async def test_a_removed_account_whose_names_are_taken_stays_removed(tmp_path: Path) -> None:
    """Else one reference would mean two."""
    async with a_world(tmp_path) as world, world.leading():
        first = await world.accounts.add("shop", phone="+15550000001", ident="first")
        await world.accounts.remove(first.id)
        await world.accounts.add("shop", ident="second")
        with pytest.raises(Conflict, match="account second already has the name 'shop'"):
            await world.accounts.restore("first")
        assert [one.id for one in world.account_dirs.removed()] == ["first"]
        await world.accounts.rename("second", "other")
        assert (await world.accounts.restore("first")).card.phone == "+15550000001"


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


async def test_a_damaged_spool_is_quarantined_and_the_account_continues(tmp_path: Path) -> None:
    """The damaged file is renamed, a new spool begins, an operator sees it, and nothing else stops."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.stop()
        await account.inbound.close()
        account.account_dir.spool_db.write_bytes(b"not a database" * 300)
        for suffix in ("-wal", "-shm"):
            account.account_dir.spool_db.with_name(f"spool.db{suffix}").unlink(missing_ok=True)
        await account.start()
        account.inbound.wake()
        await until(lambda: account.status.state == "connected", "connected")
        world.worker(account).receive(BOB, "hello")
        await until(lambda: account.inbound.recorded == 1, "the message")
        assert list(account.account_dir.path.glob("spool.db.damaged-*"))
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
    """Whatever the error was."""
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
    """The worker reports the end of the session before it has ended; a pairing at once waits for that end."""
    go = asyncio.Event()
    stop = SimulatedWorker.stop

    async def slowly(self: SimulatedWorker, timeout: float) -> None:
        await go.wait()
        await stop(self, timeout)

    monkeypatch.setattr(SimulatedWorker, "stop", slowly)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        account.handle(connection.LoggedOut("by the phone"))
        asyncio.get_running_loop().call_later(0.05, go.set)
        await account.ended()
        await account.pair()
        await until(lambda: account.status.state == "connected", "another pairing")


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), RuntimeError("x"), EngineFailure("y")]
)
async def test_an_account_whose_worker_cannot_be_started_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever the error is, it is retried and reported, and neither a stop nor the end of the leadership hangs."""
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
            async with asyncio.timeout(TIMEOUT):
                await stopped.stop()
        async with asyncio.timeout(TIMEOUT):
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
        async with asyncio.timeout(TIMEOUT):
            await account.stop()
        assert account.worker is None


async def test_a_worker_that_floods_its_output_is_shown(tmp_path: Path) -> None:
    """As a problem of its account, as long as it does."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        assert account.problems == []
        world.worker(account).dropped_output = "the worker floods its output"
        assert [(each.code, each.account) for each in account.problems] == [
            ("output_flood", account.id)
        ]
