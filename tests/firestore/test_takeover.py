"""Two real daemons and the emulator: exactly one is active, and the other takes over."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.firestore.daemons import Machine, a_machine, workers_of
from tests.firestore.leases import a_record
from tests.firestore.proxy import Weather
from tests.firestore.stores import LEASE, Console
from tests.whatsapp import WhatsApp
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Client, Firestore

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def a(tmp_path: Path, access: FirestoreAccess) -> AsyncIterator[Machine]:
    """The active machine."""
    async with a_machine(tmp_path, access, "a") as machine:
        await machine.daemon.start()
        await machine.until_mode("active")
        yield machine


@pytest.fixture
async def b(tmp_path: Path, access: FirestoreAccess, a: Machine) -> AsyncIterator[Machine]:
    """The standby."""
    async with a_machine(tmp_path, access, "b") as machine:
        await machine.daemon.start()
        await machine.until_holder("a")
        yield machine


async def test_one_is_active_and_the_other_names_it(a: Machine, b: Machine) -> None:
    """The standby names the holder, and refuses operations that only the holder may do."""
    shown = await b.lease()
    assert (shown["mode"], shown["holder"], shown["location"]) == (
        "passive", "a", f"Firestore document {LEASE}",
    )  # fmt: skip
    refused = await b.daemon.wadctl("account", "add", "Shop")
    assert refused.returncode == 8
    assert "a is active" in refused.stderr


async def test_a_stop_hands_over(a: Machine, b: Machine) -> None:
    """The lease is released after the workers are down and before the exit."""
    assert await a.daemon.end(signal.SIGINT) == 0
    shown = await b.until_mode("active")
    assert (shown["epoch"], shown["acquire_reason"]) == (2, "epoch 1 was released")
    _, oldest = await b.daemon.call("lease.history")
    assert (oldest["holder"], oldest["end_reason"]) == ("a", "stopped")


async def test_a_crash_hands_over_after_the_ttl(a: Machine, b: Machine) -> None:
    """Only the missing renewals show it."""
    await a.crash()
    shown = await b.until_mode("active")
    assert shown["epoch"] == 2
    assert shown["acquire_reason"].startswith("a has not renewed epoch 1 for ")


async def test_a_restart_on_the_same_machine_does_not_wait(a: Machine) -> None:
    """The state directory proves that the predecessor is dead."""
    await a.crash()
    await a.daemon.start()
    shown = await a.until_mode("active")
    assert (shown["epoch"], shown["acquire_reason"]) == (
        2,
        "a is dead: its lock on this machine is free",
    )


async def test_a_frozen_holder_finds_out(a: Machine, b: Machine) -> None:
    """SIGSTOP beyond its ttl, another takes over, SIGCONT: it is not active again before the other releases."""
    a.signal(signal.SIGSTOP)
    await b.until_mode("active")
    a.signal(signal.SIGCONT)
    await a.until_holder("b")
    assert (await a.lease())["mode"] == "passive"
    assert (await b.lease())["mode"] == "active"
    assert await b.daemon.end(signal.SIGINT) == 0
    assert (await a.until_mode("active"))["epoch"] == 3


async def test_a_frozen_holder_writes_nothing_exclusive(
    tmp_path: Path, access: FirestoreAccess
) -> None:
    """SIGSTOP beyond its ttl with an account's status still to be pushed; after SIGCONT the new holder's status
    stays."""
    on_firestore = {"WAD_STORE_KIND": "firestore"}
    console = Console(access)
    async with (
        a_machine(tmp_path, access, "a", environ=on_firestore) as a,
        a_machine(tmp_path, access, "b", environ=on_firestore) as b,
    ):
        await a.daemon.start()
        await a.until_mode("active")
        shown = await a.daemon.call("accounts.add", name="shop", phone="+15550000001")
        path = f"accounts/{shown['id']}"
        async with asyncio.timeout(30):
            while await console.get(path) is None:
                await asyncio.sleep(0.02)
        await b.daemon.start()
        await b.until_holder("a")
        a.signal(signal.SIGSTOP)
        await b.until_mode("active")
        before = await console.there(path)
        a.signal(signal.SIGCONT)
        await a.until_holder("b")
        assert await console.there(path) == before
        assert await a.daemon.end() == 0
        assert await console.there(path) == before
    console.close()


async def test_a_frozen_holder_writes_nothing(
    a: Machine, b: Machine, access: FirestoreAccess
) -> None:
    """It continues in the middle of its work, and only documents of the active machine change."""
    await a.daemon.call("accounts.add", name="shop")
    await a.daemon.call("accounts.pair", account="shop")
    shown = await a.daemon.wait_state("shop", "connected")
    firestore = Firestore(access, "test", 1)
    try:
        while not (await everything(firestore)).keys() & {f"{LEASE}/sessions/{shown['id']}"}:
            pass
        a.signal(signal.SIGSTOP)
        await b.until_mode("active")
        orders = [
            asyncio.create_task(a.daemon.call("accounts.remove", account="shop")),
            asyncio.create_task(a.daemon.call("lease.release")),
        ]
        before = await everything(firestore)
        a.signal(signal.SIGCONT)
        await asyncio.wait(orders)
        await a.until_holder("b")
        after = await everything(firestore)
        assert before == after
        assert before[f"{LEASE}/history/000000000001"]["ended_ms"] == 0
    finally:
        firestore.close()


async def everything(firestore: Firestore) -> dict[str, dict[str, Any]]:
    """Every document of the lease except the one that the holder renews."""

    def work(client: Client) -> dict[str, dict[str, Any]]:
        return {
            f"{LEASE}/{below.id}/{found.id}": found.to_dict() or {}
            for below in client.document(LEASE).collections(retry=None, timeout=10)
            for found in below.get(retry=None, timeout=10)
        }

    return await firestore.call(work)


async def test_an_operator_takes_it_by_force_and_gives_it_back(a: Machine, b: Machine) -> None:
    """The machine that lost it shows so; the history has the operator's order."""
    await b.daemon.call("lease.take", force=True, reason="a is on fire")
    shown = await b.until_mode("active")
    assert (
        shown["acquire_reason"] == "taken from a by force, by order of an operator (a is on fire)"
    )
    await a.until_mode("passive")
    await b.daemon.call("lease.release", seconds=600)
    assert (await a.until_mode("active"))["epoch"] == 3


async def test_unreachable_at_the_start(tmp_path: Path, access: FirestoreAccess) -> None:
    """READY and passive with the reason; active as soon as it can be."""
    async with a_machine(tmp_path, access, "a") as machine:
        machine.proxy.weather = Weather.REFUSED
        await machine.daemon.start()
        shown = await machine.lease()
        assert shown["mode"] == "passive"
        assert shown["reason"].startswith("cannot read the lease: Firestore is unreachable")
        machine.proxy.weather = Weather.CLEAR
        await machine.until_mode("active")


@pytest.mark.parametrize("weather", [Weather.SWALLOWED, Weather.REFUSED])
async def test_it_exits_without_a_network(a: Machine, weather: Weather) -> None:
    """A dead network keeps no process from exiting."""
    a.proxy.weather = weather
    assert await a.daemon.end(signal.SIGINT) == 0


@pytest.mark.parametrize("weather", [Weather.SWALLOWED, Weather.DEAF, Weather.REFUSED])
async def test_workers_are_dead_before_the_lease_ends(
    tmp_path: Path, access: FirestoreAccess, weather: Weather
) -> None:
    """Cut off, the real worker of a connected account is gone while the record on the server is still valid."""
    async with WhatsApp() as server, a_record(access) as record:
        account = server.add_account("15550000001", name="Shop")
        async with a_machine(
            tmp_path, access, "a", engine="neonize", environ=server.environment()
        ) as machine:
            await machine.daemon.start()
            await machine.until_mode("active")
            await machine.daemon.call("accounts.add", name="shop", phone="+15550000001")
            await account.phone.scan(await machine.daemon.qr("shop"))
            await machine.daemon.wait_state("shop", "connected")
            assert machine.daemon.process is not None
            daemon = machine.daemon.process.pid
            assert workers_of(daemon)
            machine.proxy.weather = weather
            async with asyncio.timeout(30):
                while workers_of(daemon):
                    await asyncio.sleep(0.01)
            seen = await record.read()
            assert seen is not None
            assert seen.age < seen.record.ttl
            machine.proxy.weather = Weather.CLEAR
            # A passive instance shows the last known state of the account, which may be connected.
            await machine.until_mode("active")
            await machine.daemon.wait_state("shop", "connected")
            assert (await machine.lease())["epoch"] == 2
