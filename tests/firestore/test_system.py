"""The whole system on Firestore: the real daemon, the real library, the protocol server, the emulator."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.firestore.daemons import Machine, a_machine
from tests.firestore.proxy import Weather
from tests.firestore.stores import Console
from tests.firestore.test_fields import of_a_function
from tests.whatsapp import Account, Peer, WhatsApp
from wad.core.errors import Passive, Unavailable
from wad.store.firestore.client.access import FirestoreAccess

pytestmark = pytest.mark.timeout(180)


@dataclass
class Site:
    """An account on a machine whose store is Firestore, and its contact."""

    machine: Machine
    account: Account
    bob: Peer
    console: Console
    ident: str

    @property
    def thread(self) -> str:
        """Bob's thread."""
        return f"{self.ident}__15550000012@s.whatsapp.net"

    async def messages(self) -> list[dict[str, Any]]:
        """Bob's messages in Firestore, sorted as a reader sorts them."""
        found = await self.console.all(f"threads/{self.thread}/messages")
        return sorted(found.values(), key=lambda message: (message["tsSort"], message["arrivedUs"]))

    async def until_pushed(self, idents: list[str]) -> None:
        """Wait until these messages are in Firestore."""
        async with asyncio.timeout(60):
            while not set(idents) <= {m["waMessageId"] for m in await self.messages()}:
                await asyncio.sleep(0.05)

    async def until_fields(self, path: str, **fields: Any) -> None:
        """Wait until a document has these fields: exclusive documents are pushed after messages, and only by the
        holder."""
        found: dict[str, Any] = {}
        async with asyncio.timeout(60):
            while {name: found.get(name) for name in fields} != fields:
                await asyncio.sleep(0.05)
                found = await self.console.get(path) or {}


@asynccontextmanager
async def a_site(access: FirestoreAccess, directory: Path) -> AsyncIterator[Site]:
    """Paired and connected."""
    console = Console(access)
    async with WhatsApp() as server:
        account = server.add_account("15550000001", name="Shop")
        bob = server.add_peer("15550000012", name="Bob")
        environ = {**server.environment(), "WAD_STORE_KIND": "firestore"}
        async with a_machine(directory, access, "a", engine="neonize", environ=environ) as machine:
            await machine.daemon.start()
            await machine.until_mode("active")
            await machine.daemon.call("accounts.add", name="shop", phone="+15550000001")
            await account.phone.scan(await machine.daemon.qr("shop"))
            shown = await machine.daemon.wait_state("shop", "connected")
            yield Site(machine, account, bob, console, shown["id"])
    console.close()


async def test_received_and_sent_messages_are_in_firestore(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """The account, the thread, the messages; an entry that a function queued is sent and delivered."""
    async with a_site(access, tmp_path) as site:
        ident = await site.bob.send_text(site.account, "one")
        await site.until_pushed([ident])
        entry = of_a_function(
            accountId=site.ident,
            threadId=site.thread,
            toJid="15550000012@s.whatsapp.net",
            createdAt=datetime.now(UTC),
        )
        await site.console.set("outbox/r1", entry)
        got = await site.bob.received(site.account, text="hello")
        await site.bob.send_receipt(site.account, got.ident, kind="read")
        async with asyncio.timeout(30):
            while (await site.messages())[-1]["status"] != "read":
                await asyncio.sleep(0.05)
        first, last = await site.messages()
        assert (first["body"], first["status"]) == ("one", "delivered")
        assert (last["body"], last["waMessageId"]) == ("hello", got.ident)
        await site.until_fields("outbox/r1", status="sent")
        await site.until_fields(f"threads/{site.thread}", lastMessageText="hello")
        await site.until_fields(f"accounts/{site.ident}", status="connected", qrCode=None)
        status = await site.machine.daemon.call("status")
        assert (status["store"], status["sync"]["refused"]) == ("firestore", 0)


@pytest.mark.parametrize("weather", [Weather.REFUSED, Weather.SWALLOWED])
async def test_an_outage_loses_and_duplicates_nothing(
    access: FirestoreAccess, tmp_path: Path, weather: Weather
) -> None:
    """Longer than the lease, under load: the account stops, starts again by itself, and everything is there in
    order."""
    async with a_site(access, tmp_path) as site:
        idents: list[str] = []

        async def write(count: int) -> None:
            for _ in range(count):
                idents.append(await site.bob.send_text(site.account, f"text {len(idents)}"))
                await asyncio.sleep(0.01)

        await write(20)
        site.machine.proxy.weather = weather
        await write(50)
        await site.machine.until_mode("passive")
        await write(100)
        health = (await site.machine.daemon.call("status"))["lease"]
        assert health["mode"] == "passive"
        site.machine.proxy.weather = Weather.CLEAR
        await write(20)
        await site.until_pushed(idents)
        found = await site.messages()
        assert Counter(m["waMessageId"] for m in found) == Counter(idents)
        assert [m["body"] for m in found] == [f"text {number}" for number in range(len(idents))]
        thread = {"messageCount": len(idents), "lastMessageText": found[-1]["body"]}
        await site.until_fields(f"threads/{site.thread}", **thread)


async def test_sends_and_receipts_during_an_outage_are_done_once(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """Sends and receipts are under way when Firestore fails, and arrive during the outage, which outlasts the lease.

    A function queues by itself; a client that gets `unavailable` sends again with the same key.
    """
    async with a_site(access, tmp_path) as site:
        daemon, queue = site.machine.daemon, itertools.count()

        async def a_function_queues(count: int) -> None:
            for number in itertools.islice(queue, count):
                entry = of_a_function(
                    requestId=f"r{number}", clientMessageId=f"c{number}", accountId=site.ident, threadId=site.thread,
                    toJid="15550000012@s.whatsapp.net", body=f"function {number}",
                    payload={"text": f"function {number}"}, createdAt=datetime.now(UTC),
                )  # fmt: skip
                await site.console.set(f"outbox/r{number}", entry)

        async def a_client_sends(number: int) -> None:
            while True:
                with suppress(Unavailable, Passive):
                    await daemon.call(
                        "messages.send",
                        account="shop",
                        to="+15550000012",
                        text=f"client {number}",
                        client_id=f"k{number}",
                    )
                    return
                await asyncio.sleep(0.2)

        async def bob_reads(texts: list[str]) -> None:
            for text in texts:
                # What arrives while Firestore is unreachable is sent in the next leadership.
                got = await site.bob.received(site.account, text=text, timeout=120)
                await site.bob.send_receipt(site.account, got.ident, kind="read")

        async def until_entries(collection: str, status: str) -> None:
            """Wait for the entries, which are pushed after messages."""
            states: list[str] = []
            while states != [status] * len(wanted):
                await asyncio.sleep(0.05)
                found = (await site.console.all(collection)).values()
                states = [document["status"] for document in found]

        wanted = [f"function {n}" for n in range(15)] + [f"client {n}" for n in range(6)]
        await a_function_queues(5)
        await asyncio.gather(*(a_client_sends(number) for number in range(3)))
        async with asyncio.TaskGroup() as group:
            group.create_task(bob_reads(wanted))
            site.machine.proxy.weather = Weather.SWALLOWED
            await a_function_queues(5)
            clients = [group.create_task(a_client_sends(number)) for number in range(3, 6)]
            await site.machine.until_mode("passive")
            await a_function_queues(5)
            assert not any(client.done() for client in clients)
            site.machine.proxy.weather = Weather.CLEAR
        async with asyncio.timeout(60):
            await until_entries(f"threads/{site.thread}/messages", "read")
            await until_entries("outbox", "sent")
        assert Counter(message.text for message in site.bob.inbox) == Counter(wanted)
        queued = [m.text for m in site.bob.inbox if m.text.startswith("function")]
        assert queued == wanted[:15]
        assert Counter(m["body"] for m in await site.messages()) == Counter(wanted)
