"""An account's card is written off the event loop, one version after the other, and a failed write is reported."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from tests.support.small_world import ShiftedClock, World, a_world
from tests.support.waiting import TIMEOUT, until
from wad.api.views.problems import problems_of
from wad.core.errors import StateUnwritable
from wad.flow.accounts.account import Account
from wad.flow.accounts.card_keeper import RETRY, CardKeeper
from wad.lib.loops import Loops
from wad.lib.threads import ThreadPool
from wad.state.account_dir import AccountDir, AccountDirs
from wad.state.card import AccountCard

CARD = AccountCard(id="acc-1", name="Shop", created_ms=5)


@pytest.fixture
def account_dir(tmp_path: Path) -> AccountDir:
    """An account's."""
    return AccountDirs(tmp_path).create(CARD)


def keeper_of(account_dir: AccountDir, clock: ShiftedClock | None = None) -> CardKeeper:
    """As the daemon has one, on two threads."""
    clock = clock or ShiftedClock()
    return CardKeeper(
        account_dir, account_dir.mended_card(), ThreadPool("cards", 2), Loops(clock), clock
    )


class Disk:
    """A slow disk; `written` has the cards that it was given, each with the thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: list[tuple[AccountCard, threading.Thread]] = []
        self.open = threading.Event()
        self.full = False
        write = AccountDir.write_card

        def slowly(account_dir: AccountDir, card: AccountCard) -> None:
            self.written.append((card, threading.current_thread()))
            assert self.open.wait(TIMEOUT)
            if self.full:
                raise StateUnwritable("cannot write the card: No space left on device")
            write(account_dir, card)

        monkeypatch.setattr(AccountDir, "write_card", slowly)


async def test_events_do_not_wait_for_the_disk(
    account_dir: AccountDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts at once, another thread writes it, and the last of several is what is left."""
    keeper, disk = keeper_of(account_dir), Disk(monkeypatch)
    for number in range(5):
        keeper.note(push_name=f"name {number}")
        assert keeper.card.push_name == f"name {number}"
        await asyncio.sleep(0)
    disk.open.set()
    await keeper.settle()
    assert account_dir.card().push_name == "name 4"
    assert threading.main_thread() not in [thread for _, thread in disk.written]
    assert len(disk.written) <= 2


async def test_an_order_and_what_happens_meanwhile_are_both_kept(
    account_dir: AccountDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One version after the other: none is written over by one that was made before it."""
    keeper, disk = keeper_of(account_dir), Disk(monkeypatch)
    keeper.note(push_name="before")
    order = asyncio.create_task(keeper.change(name="Renamed"))
    await until(lambda: disk.written, "a write has begun")
    keeper.note(lid="1@lid")
    assert keeper.card.name == "Shop"
    disk.open.set()
    await order
    await keeper.settle()
    assert account_dir.card() == keeper.card
    assert (keeper.card.name, keeper.card.push_name, keeper.card.lid) == (
        "Renamed",
        "before",
        "1@lid",
    )


async def test_an_order_whose_asker_went_is_done(
    account_dir: AccountDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread cannot be stopped, and the next version waits for it."""
    keeper, disk = keeper_of(account_dir), Disk(monkeypatch)
    order = asyncio.create_task(keeper.change(name="Renamed"))
    await until(lambda: disk.written, "the write has begun")
    order.cancel()
    await asyncio.wait([order])
    later = asyncio.create_task(keeper.change(lid="1@lid"))
    await asyncio.sleep(0)
    assert len(disk.written) == 1
    disk.open.set()
    await later
    assert (account_dir.card().name, account_dir.card().lid) == ("Renamed", "1@lid")


async def test_an_order_that_the_disk_refuses_changes_nothing(
    account_dir: AccountDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets the reason; what had happened stays."""
    keeper, disk = keeper_of(account_dir), Disk(monkeypatch)
    disk.open.set()
    disk.full = True
    with pytest.raises(StateUnwritable):
        await keeper.change(name="Renamed")
    assert keeper.card == account_dir.card() == CARD


async def test_a_failed_write_is_reported_and_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status names it while it lasts."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.keeper.settle()
        disk = Disk(monkeypatch)
        disk.open.set()
        disk.full = True
        account.keeper.note(push_name="new")
        await until(lambda: account.keeper.failure, "the disk refuses it")
        assert "card_unwritten" in [one.code for one in problems_of(account)]
        assert account.keeper.retry_at is not None
        assert account.keeper.retry_at <= account.clock.monotonic() + RETRY
        disk.full = False
        account.keeper.hurry()
        await until(lambda: not account.keeper.failure, "it is written")
        assert "card_unwritten" not in [one.code for one in problems_of(account)]
        assert account.account_dir.card().push_name == "new"


async def test_a_failure_ends_with_the_next_card_that_is_written(
    account_dir: AccountDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator's change writes what was refused before, too: nothing is left to retry."""
    keeper, disk = keeper_of(account_dir), Disk(monkeypatch)
    disk.open.set()
    disk.full = True
    keeper.note(push_name="new")
    await keeper.settle()
    assert keeper.failure
    disk.full = False
    await keeper.change(name="Renamed")
    await keeper.settle()
    assert (account_dir.card().name, account_dir.card().push_name) == ("Renamed", "new")
    assert not keeper.failure


async def on_a_slow_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[Account, Disk]:
    """A connected account; nothing more is written before the disk is open."""
    disk = Disk(monkeypatch)
    disk.open.set()
    account = await world.connected()
    await account.keeper.settle()
    disk.open.clear()
    return account, disk


async def test_events_are_written_before_an_account_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory is renamed only then."""
    async with a_world(tmp_path) as world, world.leading():
        account, disk = await on_a_slow_disk(world, monkeypatch)
        settle = account.keeper.settle

        async def settle_at_last() -> None:
            disk.open.set()
            await settle()

        monkeypatch.setattr(account.keeper, "settle", settle_at_last)
        account.keeper.note(push_name="last")
        removed = await world.accounts.remove(account.id)
        assert any(b"last" in card.read_bytes() for card in removed.rglob("*.json"))


async def test_events_are_written_before_the_daemon_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk does not lose the end state of an account."""
    async with a_world(tmp_path) as world, world.leading():
        account, disk = await on_a_slow_disk(world, monkeypatch)
        account.keeper.note(push_name="last")
        asyncio.get_running_loop().call_later(0.2, disk.open.set)
    assert account.account_dir.card().push_name == "last"
