"""A small world for the flow's tests: SQLite, the simulator, and everything that the daemon would build."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import TIMEOUT, until
from wad.core.connection import RetryDelays
from wad.core.lease import LeaseTerms
from wad.engine.simulator import SimulatedWorker, SimulatorEngine
from wad.flow.accounts.account import Account
from wad.flow.accounts.accounts import Accounts
from wad.flow.accounts.surroundings import AccountOptions, Surroundings
from wad.flow.event_bus import Bus
from wad.flow.inbound.backfill import Backfills, Pace
from wad.flow.leadership.leader import Leader
from wad.flow.outbound.queue import Outbound
from wad.lib.clock import SystemClock
from wad.lib.loops import Loops
from wad.state.account_dir import AccountDirs
from wad.state.outgoing_files import OutgoingFiles
from wad.store import Store
from wad.store.lease import FileLease
from wad.store.session_registry import LocalSessionRegistry, SessionRegistry
from wad.store.sqlite.store import SqliteStore


async def no_gap(why: str) -> None:
    """Called where a spool is not the one that was read before; in these tests it is."""
    raise AssertionError(why)


class ShiftedClock(SystemClock):
    """The machine's clocks, and a wall clock that a test puts forward."""

    ahead_ms = 0

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return super().wall_ms() + self.ahead_ms


@dataclass
class World:
    """The live objects."""

    engine: SimulatorEngine
    store: Store
    bus: Bus
    account_dirs: AccountDirs
    accounts: Accounts
    outbound: Outbound
    backfills: Backfills
    leader: Leader
    media: OutgoingFiles
    clock: ShiftedClock
    loops: Loops
    is_leading: bool = False
    internal_errors: int = 0

    def worker(self, account: Account) -> SimulatedWorker:
        """The running simulated worker of an account."""
        return self.engine.workers[account.id]

    @asynccontextmanager
    async def lead(self, epoch: int) -> AsyncIterator[None]:
        """Begin and end a leadership, as the daemon does."""
        await self.store.fence(epoch)
        async with (
            self.accounts.lead(epoch),
            self.outbound.lead(epoch),
            self.backfills.lead(),
        ):
            self.is_leading = True
            try:
                yield
            finally:
                self.is_leading = False

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[None]:
        """With the lease held."""
        task = asyncio.create_task(self.leader.run(self.lead))
        try:
            await until(lambda: self.is_leading, "the leadership")
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def connected(self, name: str = "shop", phone: str = "+15550000001") -> Account:
        """A new account that is paired and connected."""
        account = await self.accounts.add(name, phone=phone)
        await account.pair()
        await until(lambda: account.status.state == "connected", "connected")
        return account


@asynccontextmanager
async def a_world(
    directory: Path,
    *,
    auto_pair: bool = True,
    delays: RetryDelays | None = None,
    boot: str = "boot1",
    instance: str = "me",
    registry: SessionRegistry | None = None,
) -> AsyncIterator[World]:
    """Everything built and running, the lease not yet held."""
    clock = ShiftedClock()
    loops = Loops(clock)
    sessions = directory / "sessions"
    sessions.mkdir(parents=True, exist_ok=True)
    store = await SqliteStore.open(directory / "wad.db")
    engine = SimulatorEngine(auto_pair=auto_pair, clock=clock)
    bus = Bus(clock)
    leader: list[Leader] = []

    def permit() -> float:
        return leader[0].valid_for() or 0.0

    options = AccountOptions(delays or RetryDelays(base=0.01, cap=0.05), stop_timeout=1)
    around = Surroundings(
        engine,
        store,
        bus,
        clock,
        loops,
        options,
        permit,
        instance,
        locations=registry or LocalSessionRegistry(),
    )
    account_dirs = AccountDirs(sessions)
    numbers = itertools.count(1)
    accounts = Accounts(account_dirs, around, lambda: f"{next(numbers):08x}")
    draws = itertools.count(1)
    outbound = Outbound(
        store,
        accounts,
        bus,
        clock,
        loops,
        "me",
        lambda size: next(draws).to_bytes(size, "big"),
        permit,
    )
    media = OutgoingFiles(directory / "media", clock, lambda: f"upload{next(numbers)}")
    await media.open()
    leader.append(
        Leader(
            FileLease(directory / "lease.json", boot),
            "me",
            boot,
            LeaseTerms(),
            clock,
            bus,
            floor=await store.epoch(),
            on_renewed=accounts.permit,
            loops=loops,
        )
    )
    try:
        async with accounts.running():
            backfills = Backfills(store, bus, Pace(answer=TIMEOUT, apart=0.0))
            yield World(
                engine,
                store,
                bus,
                account_dirs,
                accounts,
                outbound,
                backfills,
                leader[0],
                media,
                clock,
                loops,
            )
    finally:
        await store.close()
