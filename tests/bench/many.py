"""Many real accounts on one machine: a restart, a network that returns for all at once, and a soak.

The accounts are added once and paired once; the larger numbers keep those that exist.  `ACCOUNTS=10,60` takes
other numbers, `SOAK=600` lets the largest rest and then receive, 600 seconds each.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.bench.growth import cpu_s
from tests.bench.measure import Figure, measure
from tests.bench.world import Answers, Probe, Server, a_server_process, load
from tests.support.daemons import Daemon

_COUNTS: Final = (10, 100, 300)
_AT_ONCE: Final = 4  # accounts that are paired at the same time
_TIMEOUT: Final = 600.0
_RATE: Final = 200.0  # texts a second
_OUTAGE: Final = 20.0  # seconds
_TTL: Final = {"WAD_LEASE_TTL": "15", "WAD_LEASE_RENEW_EVERY": "5", "WAD_LEASE_MARGIN": "3"}


def say(text: str) -> None:
    """Progress output, as a run takes half an hour."""
    import sys

    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@dataclass
class World:
    """A daemon with accounts, and their WhatsApp server."""

    server: Server
    daemon: Daemon
    probe: Probe
    accounts: int = 0
    seen: list[str] = field(default_factory=list)

    async def grow(self, to: int) -> None:
        """Add accounts and pair them, a few at a time."""
        numbers = iter(range(self.accounts, to))

        async def add() -> None:
            for number in numbers:
                phone, name = f"1555{number:07}", f"s{number}"
                await self.server.ask("account", phone, name)
                await self.daemon.call("accounts.add", name=name, phone=f"+{phone}")
                while True:
                    try:
                        await self.server.ask("scan", name, await self.daemon.qr(name))
                        break
                    except (ValueError, AssertionError):
                        # On a busy machine a code takes long, or its worker may have been replaced meanwhile.
                        await asyncio.sleep(1)

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(add())
        self.accounts = to
        await self.until_connected()

    async def states(self) -> dict[str, int]:
        """The number of accounts in each state."""
        found: dict[str, int] = {}
        for account in await self.daemon.call("accounts.list"):
            found[account["state"]] = found.get(account["state"], 0) + 1
        return found

    async def until_connected(self) -> None:
        """Wait until every account is connected, at WhatsApp and in the daemon."""
        states: dict[str, int] = {}
        try:
            async with asyncio.timeout(_TIMEOUT):
                while (await self.server.ask("online"))["online"] < self.accounts:
                    await asyncio.sleep(0.2)
                while (states := await self.states()) != {"connected": self.accounts}:
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(
                f"not all of {self.accounts} are connected: {states or await self.states()}"
            ) from None

    async def epoch(self) -> Any:
        """The epoch of the held lease."""
        return (await self.daemon.call("status"))["lease"]["epoch"]

    async def messages(self) -> int:
        """The number of stored messages."""
        return sum(one["inbound"]["recorded"] for one in await self.daemon.call("accounts.list"))

    async def restarts(self) -> int:
        """The number of replaced workers since the daemon began."""
        accounts = await self.daemon.call("accounts.list")
        return sum(one["worker"]["restarts"] for one in accounts if one["worker"])


@asynccontextmanager
async def _world() -> AsyncIterator[World]:
    directory = Path(tempfile.mkdtemp(prefix="wad-many-"))
    async with a_server_process() as server:
        daemon = Daemon(directory, {**server.environ, **_TTL})
        world = World(server, daemon, Probe(daemon.port, directory))
        await daemon.start()
        try:
            yield world
        except BaseException:
            say(f"failed; the daemon's directory stays: {directory}")
            raise
        else:
            shutil.rmtree(directory)
        finally:
            if daemon.process is not None:
                daemon.process.kill()
                await asyncio.to_thread(daemon.process.wait)


@dataclass(frozen=True)
class Run:
    """The cost of one trial: wall-clock seconds, CPU seconds of the daemon and of WhatsApp, and delays meanwhile."""

    accounts: int
    seconds: float
    daemon_s: float
    server_s: float
    answers: Answers
    idle: Answers
    epochs: int
    restarts: int
    load: float
    stop_s: float = 0.0

    def __str__(self) -> str:
        stop = f", stopped in {self.stop_s:.1f} s" if self.stop_s else ""
        return (
            f"{self.accounts}: {self.seconds:.1f} s (daemon {self.daemon_s:.1f}, server {self.server_s:.1f} CPU s;"
            f" /healthz {self.answers}, an idle server {self.idle}; {self.epochs} lost leases,"
            f" {self.restarts} restarts, load {self.load:.1f}{stop})"
        )


async def _restart(world: World) -> Run:
    """Stop the daemon, start it, and wait until all are connected again."""
    daemon, begun = world.daemon, time.monotonic()
    await daemon.end()
    stopped = time.monotonic() - begun
    served = cpu_s(world.server.pid)
    begun = time.monotonic()
    await daemon.start()
    epoch = await world.epoch()
    await world.probe.start()
    await world.until_connected()
    took = time.monotonic() - begun
    return await _run(world, took, epoch, 0.0, served, stop_s=stopped)


async def _run(
    world: World, took: float, epoch: int, before: float, served: float, *, stop_s: float = 0.0
) -> Run:
    assert world.daemon.process is not None
    run = Run(
        world.accounts,
        took,
        cpu_s(world.daemon.process.pid) - before,
        cpu_s(world.server.pid) - served,
        *await world.probe.end(),
        await world.epoch() - epoch,
        await world.restarts(),
        load(),
        stop_s,
    )
    say(str(run))
    return run


async def _outage(world: World) -> Run:
    """The network fails for all at once, and returns for all at once."""
    assert world.daemon.process is not None
    epoch, before = await world.epoch(), cpu_s(world.daemon.process.pid)
    served = cpu_s(world.server.pid)
    await world.probe.start()
    await world.server.ask("network", "down")
    await world.server.ask("cut")
    await asyncio.sleep(_OUTAGE)
    await world.server.ask("network", "up")
    begun = time.monotonic()
    await world.until_connected()
    return await _run(world, time.monotonic() - begun, epoch, before, served)


@measure(
    "restart_accounts",
    "restart_accounts_healthz",
    "restart_accounts_leases",
    "restart_accounts_stop",
    "reconnect_accounts",
)
async def restart_accounts() -> Sequence[Figure]:
    """From the start of the daemon until 10, 100 and 300 accounts are connected; what one more takes stays the same.

    Then the network fails for 20 s: how long after its return all are connected.  Meanwhile `/healthz` is requested 20
    times a second, by a separate process.
    """
    counts = (
        tuple(int(word) for word in os.environ.get("ACCOUNTS", "").split(",") if word) or _COUNTS
    )
    soak = float(os.environ.get("SOAK", "0"))
    runs: list[Run] = []
    async with _world() as world:
        for count in counts:
            await world.grow(count)
            say(f"{count} accounts are paired")
            runs.append(await _restart(world))
        back = await _outage(world)
        figures = await _soak(world, soak) if soak else []
        stopping = time.monotonic()
        await world.daemon.end()
        stop_s = time.monotonic() - stopping
    note = "; ".join(str(run) for run in runs)
    first, last = (run.seconds / run.accounts for run in (runs[0], runs[-1]))
    worst = max(run.answers.worst_ms for run in (*runs, back))
    idle = max(run.idle.worst_ms for run in (*runs, back))
    return [
        Figure("restart_accounts", last, "s/account", None, note, first),
        Figure("restart_accounts_healthz", worst, "ms", 100, "an idle server asked in turn", idle),
        Figure("restart_accounts_leases", sum(run.epochs for run in (*runs, back)), "", 0, "leases lost", 1.0),
        Figure("restart_accounts_stop", stop_s, "s", 12.0, f"{world.accounts} accounts are stopped", 1.0),
        Figure("reconnect_accounts", back.seconds, "s", None, f"after an outage of 20 s: {back}", 1.0),
        *figures,
    ]  # fmt: skip


async def _soak(world: World, seconds: float) -> list[Figure]:
    """Rest for `seconds`, then receive texts for as long, sent to all accounts in turn; every one is stored."""
    resting = await _while(world, asyncio.sleep(seconds))
    await world.server.ask("peer", "15559990000", "Bob")
    first = await world.messages()

    async def receive() -> None:
        await world.server.ask("traffic", "Bob", str(_RATE), str(seconds))
        await asyncio.sleep(seconds)
        await world.server.ask("sent")

    receiving = await _while(world, receive())
    sent = await world.server.ask("sent")
    begun = time.monotonic()
    async with asyncio.timeout(_TIMEOUT):
        while await world.server.ask("unreceipted"):
            await asyncio.sleep(0.5)
        while (stored := await world.messages() - first) < sent:
            await asyncio.sleep(0.5)
    behind = time.monotonic() - begun
    say(f"resting {resting}")
    say(f"receiving {receiving}; {sent} sent, {stored} stored, {behind:.1f} s after the last")
    return [
        Figure("soak_resting_cpu", resting.daemon_s / seconds, "cores", None, str(resting), 1.0),
        Figure("soak_receiving_cpu", receiving.daemon_s / seconds, "cores", None, str(receiving), 1.0),
        Figure("soak_healthz", max(resting.answers.worst_ms, receiving.answers.worst_ms), "ms", 100,
               "an idle server asked in turn", max(resting.idle.worst_ms, receiving.idle.worst_ms)),
        Figure("soak_missing", sent - stored, "messages", 0, f"{sent} were sent", 1.0),
        Figure("soak_leases", resting.epochs + receiving.epochs, "", 0, "leases lost", 1.0),
        Figure("soak_behind", behind, "s", None, "until the last of them was stored", 1.0),
    ]  # fmt: skip


async def _while(world: World, doing: Coroutine[Any, Any, None]) -> Run:
    """The state meanwhile."""
    assert world.daemon.process is not None
    epoch, before = await world.epoch(), cpu_s(world.daemon.process.pid)
    served, begun = cpu_s(world.server.pid), time.monotonic()
    await world.probe.start()
    await doing
    return await _run(world, time.monotonic() - begun, epoch, before, served)
