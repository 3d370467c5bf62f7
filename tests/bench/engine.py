"""The worker: its memory, and its rate of receiving, compared with a plain client of the same library."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.measure import Figure, measure, pss_mb
from tests.whatsapp import Account, Peer, WhatsApp
from wad.core import connection
from wad.engine.port import EngineOptions, Report
from wad.engine.process import lower_priority
from wad.engine.workers import NeonizeEngine
from wad.state.account_dir import AccountDir
from wad.worker.c_interface import dsn

_PLAIN = """
import sys
from neonize.client import NewClient
from neonize.events import ConnectedEv, MessageEv

client = NewClient(sys.argv[1], uuid="plain")
client.event.qr(lambda _client, code: print("qr", code.decode(), flush=True))
client.event(ConnectedEv)(lambda _client, _event: print("connected", flush=True))
client.event(MessageEv)(lambda _client, _event: None)
client.connect()
"""
_PEER = "neonize's own client with an empty handler, same DSN"
QUIET = 12.0  # seconds after which a worker is at rest
_MESSAGES = 1500
_ROUNDS = 5


@dataclass(frozen=True)
class Running:
    """A connected process, and its account."""

    pid: int
    account: Account


@asynccontextmanager
async def a_server() -> AsyncIterator[WhatsApp]:
    """A test server that child processes of this one use as WhatsApp."""
    before = dict(os.environ)
    async with WhatsApp() as server:
        os.environ.update(server.environment())
        try:
            yield server
        finally:
            os.environ.clear()
            os.environ.update(before)


@asynccontextmanager
async def a_worker(directory: Path, account: Account) -> AsyncIterator[Running]:
    """A worker without a daemon, paired and connected."""
    reports: asyncio.Queue[Report] = asyncio.Queue()
    account_dir = AccountDir(directory / f"acc-{account.pn.user}")
    account_dir.path.mkdir(parents=True)
    engine = NeonizeEngine(EngineOptions(media=directory / "media"))
    worker = await engine.launch(account_dir, reports.put_nowait, 3600.0)
    try:
        scanned = False
        async with asyncio.timeout(30):
            while not isinstance(report := await reports.get(), connection.Connected):
                if isinstance(report, connection.QrShown) and not scanned:
                    await account.phone.scan(report.code)
                    scanned = True
        assert worker.pid is not None
        yield Running(worker.pid, account)
    finally:
        await worker.stop(6)


@asynccontextmanager
async def a_plain_client(
    directory: Path, account: Account, *, synced: bool = True
) -> AsyncIterator[Running]:
    """The library with its own Python, paired and connected; with wad's DSN, or one that syncs nothing."""
    database = dsn(directory / f"plain-{account.pn.user}.db")
    if not synced:
        database = database.replace("_synchronous=FULL", "_synchronous=OFF")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PLAIN, database,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, limit=1 << 20,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        lower_priority(
            process.pid, 1
        )  # as a worker does: on a busy machine it is that which is measured, else
        scanned = False
        async with asyncio.timeout(30):
            async for line in process.stdout:
                word, _, code = line.decode().strip().partition(" ")
                if word == "qr" and not scanned:
                    await account.phone.scan(code)
                    scanned = True
                if word == "connected":
                    break
        reading = asyncio.create_task(process.stdout.read())
        yield Running(process.pid, account)
        reading.cancel()
    finally:
        process.kill()
        await process.wait()


async def _warm(server: WhatsApp, bob: Peer, running: Running) -> None:
    """A message each way of the first exchange of keys."""
    await bob.send_text(running.account, "hello")
    await server.ledger.settled(running.account, 30)


@measure("worker_pss")
async def worker_pss() -> Sequence[Figure]:
    """One connected account, alone on the machine: nothing is shared with another worker."""
    async with a_server() as server:
        bob = server.add_peer("15550000012")
        with tempfile.TemporaryDirectory() as name:
            found = []
            for number, run in enumerate((a_worker, a_plain_client)):
                account = server.add_account(f"1555000010{number}")
                async with run(Path(name), account) as running:
                    await _warm(server, bob, running)
                    await asyncio.sleep(QUIET)
                    found.append(pss_mb(running.pid))
    return [Figure("worker_pss", found[0], "MB", 38, _PEER, found[1])]


@measure("workers10_pss")
async def workers10_pss() -> Sequence[Figure]:
    """Ten connected accounts together, compared with ten times one plain client among three."""
    async with a_server() as server, AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bob = server.add_peer("15550000012")
        ours = []
        async with AsyncExitStack() as workers:
            for number in range(10):
                account = server.add_account(f"155500002{number:02}")
                ours.append(await workers.enter_async_context(a_worker(directory, account)))
                await _warm(server, bob, ours[-1])
            await asyncio.sleep(QUIET)
            together = sum(pss_mb(running.pid) for running in ours)
        plain = []
        for number in range(3):
            (own := directory / str(number)).mkdir()
            account = server.add_account(f"155500003{number:02}")
            plain.append(await stack.enter_async_context(a_plain_client(own, account)))
            await _warm(server, bob, plain[-1])
        await asyncio.sleep(QUIET)
        peer = 10 * statistics.mean(pss_mb(running.pid) for running in plain)
    return [Figure("workers10_pss", together, "MB", 300, _PEER, peer)]


@dataclass
class _Rates:
    """A client's receiving, in several rounds: messages a second, and how busy the test's server was (1: one core)."""

    running: Running
    rates: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)

    async def round(self, server: WhatsApp, bob: Peer) -> None:
        """One burst, until WhatsApp has a receipt for each message."""
        begun, busy = time.perf_counter(), time.process_time()
        for number in range(_MESSAGES):
            await bob.send_text(self.running.account, f"text {number}")
        await server.ledger.settled(self.running.account, 120)
        took = time.perf_counter() - begun
        self.rates.append(_MESSAGES / took)
        self.server.append((time.process_time() - busy) / took)

    @property
    def rate(self) -> float:
        """The usual one."""
        return statistics.median(self.rates)


@measure("inbound_rate")
async def inbound_rate() -> Sequence[Figure]:
    """Encrypted messages in one burst, each committed to the spool, alternating with a client that stores nothing.

    `limit` says what limits the plain client: its rate with a database that is not synced shows what the DSN costs
    on this disk, and the server of the test runs in one thread of this process, which can be busy to 1.
    """
    async with a_server() as server:
        bob = server.add_peer("15550000012")
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            accounts = [server.add_account(f"1555000040{n}") for n in range(3)]
            async with (
                a_worker(directory, accounts[0]) as worker,
                a_plain_client(directory, accounts[1]) as plain,
                a_plain_client(directory, accounts[2], synced=False) as unsynced,
            ):
                ours, peer, free = (_Rates(running) for running in (worker, plain, unsynced))
                for running in (worker, plain, unsynced):
                    await _warm(server, bob, running)
                for _ in range(_ROUNDS):
                    for one in (ours, peer, free):
                        await one.round(server, bob)
    limit = (
        f"{peer.rate:.0f}/s with the DSN, {free.rate:.0f}/s with synchronous=OFF; the test's server was busy"
        f" {statistics.median(peer.server):.2f} and {statistics.median(free.server):.2f} of a core"
    )
    return [
        Figure(
            "inbound_rate", ours.rate, "1/s", None, _PEER, peer.rate, least_ratio=0.8, limit=limit
        )
    ]
