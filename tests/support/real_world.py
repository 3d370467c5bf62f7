"""A small world with the real library: the protocol server, real workers, and the flow around them in this process.

As `tests.support.small_world`, with WhatsApp instead of a simulator; cheaper than a daemon, and nothing hides what its
objects hold.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.processes import gone
from tests.support.spools import locked, spooled
from tests.support.waiting import until
from tests.whatsapp import Account as WhatsAppAccount
from tests.whatsapp import Peer, WhatsApp
from wad.core.connection import RetryDelays, State
from wad.core.message import Message
from wad.engine import open_engine
from wad.engine.port import EngineOptions
from wad.flow.accounts.account import Account
from wad.flow.accounts.accounts import Accounts
from wad.flow.accounts.surroundings import AccountOptions, Surroundings
from wad.flow.event_bus import Bus
from wad.flow.outbound.queue import Outbound
from wad.lib.clock import SystemClock
from wad.lib.loops import Loops
from wad.state.account_dir import AccountDirs
from wad.store import Store
from wad.store.sqlite.store import SqliteStore

QUICK = RetryDelays(base=0.05, cap=0.2)
"""Short pauses between two workers, and all the time that one may take."""

STEADY = replace(QUICK, stable=0.0)
"""Every login is a success at once: however many connections are lost in a row, the library reconnects by itself."""


@dataclass
class Line:
    """One account on both ends, and a contact."""

    wad: Account
    whatsapp: WhatsAppAccount
    bob: Peer
    store: Store

    async def until(self, state: State, what: str = "") -> None:
        """Wait until wad sees the account in a state."""
        await until(lambda: self.wad.status.state is state, what or f"{state}")

    async def connected(self, after: int) -> None:
        """Wait until it is connected, and has logged in more than `after` times."""
        await until(
            lambda: self.whatsapp.logins > after and self.wad.status.state is State.CONNECTED,
            "another login",
        )

    async def pair(self) -> None:
        """Ask for a code and scan it."""
        await self.wad.pair()
        await self.code()
        await self.whatsapp.phone.scan(self.wad.status.qr)
        await self.until(State.CONNECTED)

    async def code(self) -> str:
        """Wait for a QR code."""
        await until(lambda: self.wad.status.qr, "a QR code")
        return self.wad.status.qr

    async def restart(self) -> None:
        """Restart it, and wait until the worker that runs now has ended; the next one may run by then."""
        worker = self.wad.worker
        assert worker is not None
        self.wad.restart()
        async with asyncio.timeout(30):
            await asyncio.shield(worker.ended)

    @property
    def pid(self) -> int:
        """Its worker's process."""
        assert self.wad.worker is not None
        assert self.wad.worker.pid is not None
        return self.wad.worker.pid

    def spooled(self, kind: str = "message") -> Counter[str]:
        """How often each message is in the spool."""
        return spooled(self.wad.account_dir.spool_db, kind)

    def spool_locked(self) -> AbstractContextManager[None]:
        """Nothing can be stored while the block runs."""
        return locked(self.wad.account_dir.spool_db)

    async def another_worker(self, pid: int) -> None:
        """Wait until the worker with this process id has ended and another one runs."""
        await until(lambda: self.wad.worker is not None and self.pid != pid, "another worker")
        assert gone(pid)

    async def messages(self) -> list[Message]:
        """What is stored, oldest first."""
        found: list[Message] = []
        for thread in await self.store.threads(self.wad.id, limit=100):
            found += await self.store.messages(thread.id, limit=1000)
        return sorted(found, key=lambda message: (message.at_ms, message.seen))

    async def stored(self, idents: list[str]) -> Counter[str]:
        """Wait until these messages are in the store; how often each message is."""
        async with asyncio.timeout(30):
            while True:
                found = Counter(message.wa_id for message in await self.messages())
                if set(idents) <= set(found):
                    return found
                await asyncio.sleep(0.02)


@dataclass
class RealWorld:
    """The live objects."""

    server: WhatsApp
    store: Store
    bus: Bus
    accounts: Accounts
    outbound: Outbound

    async def line(self, *, paired: bool = True) -> Line:
        """An account, paired by default, and a Bob of its own."""
        number = len(self.server.accounts) + 1
        whatsapp = self.server.add_account(f"1555000{number:04}", name="Shop")
        bob = self.server.add_peer(f"1555001{number:04}", name="Bob")
        account = await self.accounts.add(f"shop{number}", phone=f"+{whatsapp.pn.user}")
        line = Line(account, whatsapp, bob, self.store)
        if paired:
            await line.pair()
        return line

    @asynccontextmanager
    async def lead(self, epoch: int = 1) -> AsyncIterator[None]:
        """With the lease held."""
        await self.store.fence(epoch)
        async with self.accounts.lead(epoch), self.outbound.lead(epoch):
            yield


@asynccontextmanager
async def a_real_world(
    directory: Path,
    *,
    delays: RetryDelays = QUICK,
    stop_timeout: float = 6.0,
    probe_every: float = 10.0,
    probe_timeout: float = 20.0,
    pings: float | None = None,
    proxy: str = "",
    python_path: Path | None = None,
) -> AsyncIterator[RealWorld]:
    """Everything up, the lease not held; at the end the server must have no errors."""
    clock, bus = SystemClock(), Bus(SystemClock())
    sessions, media = directory / "sessions", directory / "media"
    sessions.mkdir(parents=True, exist_ok=True)
    media.mkdir()
    options = EngineOptions(
        media, proxy=proxy, probe_every=probe_every, probe_timeout=probe_timeout
    )
    store = await SqliteStore.open(directory / "wad.db")
    async with WhatsApp(pings=pings) as server:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in server.environment().items():
                patch.setenv(name, value)
            if python_path is not None:
                patch.setenv("PYTHONPATH", str(python_path), prepend=os.pathsep)
            numbers = itertools.count(1)
            around = Surroundings(
                open_engine("neonize", options), store, bus, clock, Loops(clock),
                AccountOptions(delays, stop_timeout=stop_timeout),
                lambda: 3600.0, "me",
            )  # fmt: skip
            accounts = Accounts(AccountDirs(sessions), around, lambda: f"{next(numbers):08x}")
            outbound = Outbound(
                store, accounts, bus, clock, around.loops, "me", os.urandom, lambda: 3600.0
            )
            async with accounts.running():
                yield RealWorld(server, store, bus, accounts, outbound)
        assert server.errors == []
    await store.close()
