"""An account whose session is on another machine shows that, and never asks for a QR code because of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.flow.machines import FakeRegistry, machine
from tests.support.small_world import a_world
from tests.support.waiting import until
from wad.api.context import Context
from wad.api.legacy.accounts import readable_account
from wad.api.operations.messages import ListThreads, Messages, messages, threads
from wad.api.views.account import account_views
from wad.core.addresses import Addresses
from wad.core.content import Content, MessageKind
from wad.core.errors import Conflict, UnknownAccount
from wad.core.event import MessageReceived
from wad.core.jid import Jid
from wad.core.plan import plan
from wad.flow.accounts.account import Account
from wad.store.port import AccountStatus


async def paired_on_a(directory: Path, known: FakeRegistry) -> None:
    """Machine `a` pairs an account, and stops."""
    async with machine(directory, known, "a") as a:
        account = await a.connected()
        await until(lambda: known.locations, "that it is known")
        assert known.locations[account.id].instance == "a"


async def test_another_machine_shows_its_location(tmp_path: Path, known: FakeRegistry) -> None:
    """It shows the account, with the instance and since when; an order for it gets the same answer."""
    await paired_on_a(tmp_path, known)
    async with machine(tmp_path, known, "b") as b:
        (view,) = account_views(b.accounts, 0)
        assert (view.id, view.name, view.state) == ("acc-15550000001", "shop", "elsewhere")
        assert view.reason.startswith("its session is on a, since 20")
        for ref in ("acc-15550000001", "shop", "+15550000001"):
            with pytest.raises(Conflict, match="elsewhere: its session is on a"):
                b.accounts.find(ref)
        with pytest.raises(UnknownAccount):
            b.accounts.find("15550000002")


async def test_its_messages_are_read_on_every_machine(tmp_path: Path, known: FakeRegistry) -> None:
    """By id, name or number, over the socket and over HTTP: they are stored here, too."""
    await paired_on_a(tmp_path, known)
    async with machine(tmp_path, known, "b") as b:
        ident, bob = "acc-15550000001", Jid.parse("15550000002@s.whatsapp.net")
        arrived = MessageReceived("A1", bob, bob, 1000, Content(MessageKind.TEXT, "hi"))
        await b.store.record(ident, plan(ident, arrived, Addresses(), 1))
        status = AccountStatus(
            account=ident,
            name="shop",
            phone="+15550000001",
            state="connected",
            reason="",
            since_ms=1,
        )
        await b.store.put_account(status, epoch=await b.store.epoch())
        context = cast(Context, SimpleNamespace(accounts=b.accounts, store=b.store))
        for ref in (ident, "shop", "+15550000001"):
            (thread,) = (await threads(context, ListThreads(account=ref))).threads
            assert thread.account == ident
            page = await messages(context, Messages(account=ref, chat="+15550000002"))
            assert [message.text for message in page.messages] == ["hi"]
        assert (await readable_account(context, ident)).name == "shop"
        for ref in ("acc-1", "Shops", "15550000003"):
            with pytest.raises(UnknownAccount):
                await threads(context, ListThreads(account=ref))


async def test_an_account_of_that_id_waits_without_a_code(
    tmp_path: Path, known: FakeRegistry
) -> None:
    """It was added on both: a machine without the session does not ask for a scan."""
    await paired_on_a(tmp_path, known)
    async with machine(tmp_path, known, "b") as b:
        account = await b.accounts.add("shop", phone="+15550000001")
        assert account.status.state == "elsewhere"
        assert not account.status.qr
        assert account.worker is None
        with pytest.raises(Conflict, match="elsewhere"):
            account.restart()
        assert len(account_views(b.accounts, 0)) == 1


async def test_a_copy_of_a_session_does_not_run(tmp_path: Path, known: FakeRegistry) -> None:
    """Two copies diverge, and each makes the other useless; an operator may confirm that this one is valid."""
    await paired_on_a(tmp_path, known)
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "sessions").rename(tmp_path / "b" / "sessions")
    async with machine(tmp_path, known, "b") as b:
        (account,) = b.accounts.all()
        assert account.status.state == "elsewhere"
        await b.accounts.start(account)
        await until(lambda: account.status.state == "connected", "connected")
        assert known.locations[account.id].instance == "b"


async def test_a_device_of_its_own_runs(tmp_path: Path, known: FakeRegistry) -> None:
    """Both machines were paired with the same phone: the other's session does not matter."""
    await paired_on_a(tmp_path, known)
    async with machine(tmp_path, known, "b") as b:
        account = await b.accounts.add("shop", phone="+15550000001")
        await account.pair()
        await until(lambda: account.status.state == "connected", "connected")
        await until(lambda: known.locations[account.id].instance == "b", "that it is known")


async def test_it_can_return_to_its_own_machine(tmp_path: Path, known: FakeRegistry) -> None:
    """The machine that has it continues with it, without a code."""
    await paired_on_a(tmp_path, known)
    async with machine(tmp_path, known, "b"):
        pass
    async with machine(tmp_path, known, "a") as a:
        (account,) = a.accounts.all()
        await until(lambda: account.status.state == "connected", "connected")


async def test_a_logged_out_account_has_no_session_location(
    tmp_path: Path, known: FakeRegistry
) -> None:
    """Another machine may pair it again."""
    async with machine(tmp_path, known, "a") as a:
        account = await a.connected()
        await until(lambda: known.locations, "that it is known")
        await account.log_out()
        await until(lambda: not known.locations, "that it is forgotten")


async def test_a_restored_account_has_its_session_location_again(
    tmp_path: Path, known: FakeRegistry
) -> None:
    """Removing it deletes its location; restoring it writes it again."""
    async with machine(tmp_path, known, "a") as a:
        ident = (await a.connected()).id
        await until(lambda: known.locations, "that it is known")
        await a.accounts.remove(ident)
        assert not known.locations
        await a.accounts.restore(ident)
        await until(lambda: known.locations, "that it is known")


async def test_an_untranslated_item_is_translated_later(
    tmp_path: Path, known: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account runs meanwhile."""
    async with machine(tmp_path, known, "a") as a:
        known.away = True
        account: Account = await a.connected()
        known.away = False
        await until(lambda: account.id in known.locations, "that it is known")


async def test_a_term_begins_once_session_locations_can_be_read(
    tmp_path: Path, known: FakeRegistry
) -> None:
    """No machine acts without knowing where its sessions are; it reports why, and continues automatically."""
    known.away = True
    async with a_world(tmp_path, registry=known) as world:
        task = asyncio.create_task(world.leader.run(world.lead))
        await until(
            lambda: "failed: Firestore does not answer" in world.leader.reason, "the reason"
        )
        assert not world.leader.active
        known.away = False
        await until(lambda: world.leader.active, "the leadership")
        task.cancel()
        await asyncio.wait([task])
