"""A WhatsApp, one account on it, a peer and wad, all real."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.daemons import Daemon, a_daemon
from tests.whatsapp import Account, Peer, WhatsApp


@dataclass
class System:
    """A WhatsApp, one account on it, a contact, and wad."""

    server: WhatsApp
    account: Account
    bob: Peer
    daemon: Daemon

    async def pair(self, name: str = "shop") -> dict[str, Any]:
        """Add the account and scan its code."""
        await self.daemon.call("accounts.add", name=name, phone=f"+{self.account.pn.user}")
        await self.account.phone.scan(await self.daemon.qr(name))
        return await self.daemon.wait_state(name, "connected")

    async def receive(self, *texts: str) -> list[str]:
        """Let Bob write, until wad has stored it."""
        idents = [await self.bob.send_text(self.account, text) for text in texts]
        await self.stored(idents)
        return idents

    async def stored(self, idents: list[str]) -> None:
        """Until these messages are in the store."""
        async with asyncio.timeout(30):
            while not set(idents) <= {m["wa_id"] for m in await self.daemon.messages("shop")}:
                await asyncio.sleep(0.05)

    async def counts(self) -> Counter[str]:
        """How often each WhatsApp id is stored."""
        return Counter(m["wa_id"] for m in await self.daemon.messages("shop"))


@asynccontextmanager
async def a_system(directory: Path, **environ: str) -> AsyncIterator[System]:
    """Everything up, nothing paired; `environ` for the daemon."""
    async with WhatsApp() as server:
        account = server.add_account("15550000001", name="Shop")
        bob = server.add_peer("15550000012", name="Bob")
        async with a_daemon(directory, server.environment() | environ) as daemon:
            yield System(server, account, bob, daemon)
        assert server.errors == []
