"""The cost of lease and store while nothing happens, and the recovery time after a crash.

Documents are counted between the daemons and the emulator.  The peers of the costs are what the backend that wad
replaces asks for its own lease (docs/internals/replaced-backend.md#lease): the holder renews every 30 s, which reads
and writes once, and reads it every 30 s; a standby reads it every 15 s.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from tests.bench.measure import Figure, measure
from tests.bench.takeover import a_database
from tests.firestore.counting import a_counter
from tests.firestore.daemons import Machine, a_machine
from tests.whatsapp import WhatsApp
from wad.store.firestore.client.access import FirestoreAccess

_WINDOW: Final = 330.0  # seconds: each listener is renewed once in them
_HOUR: Final = 3600.0
_DEFAULTS: Final = {"WAD_LEASE_TTL": "15", "WAD_LEASE_RENEW_EVERY": "5", "WAD_LEASE_MARGIN": "3"}
_SHARED: Final = {"WAD_STORE_KIND": "firestore", **_DEFAULTS}
_ACCOUNTS: Final = 10
_ROUNDS: Final = 3


@measure("firestore_idle_reads", "firestore_idle_writes")
async def idle() -> Sequence[Figure]:
    """Documents an hour that an active and a standing daemon read and write together for lease, store and outbox."""
    async with AsyncExitStack() as stack:
        access = await stack.enter_async_context(a_database())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = int(access.emulator.rpartition(":")[2])
        address, bill = stack.enter_context(a_counter(port))
        counted = FirestoreAccess(project=access.project, emulator=address)
        for name, mode in (("a", "active"), ("b", "passive")):
            machine = await stack.enter_async_context(
                a_machine(directory, counted, name, environ=_SHARED)
            )
            await machine.daemon.start()
            await machine.until_mode(mode)
        await asyncio.sleep(20)  # the standby listens
        bill.clear()
        await asyncio.sleep(_WINDOW)
        reads, writes = (count * _HOUR / _WINDOW for count in (bill.reads, bill.writes))
    compared = "the backend before, its lease alone (its outbox: 7200 queries)"
    return [
        Figure("firestore_idle_reads", reads, "documents/h", 1200, compared, 480),
        Figure("firestore_idle_writes", writes, "documents/h", 760, compared, 120),
    ]


@asynccontextmanager
async def _shop(
    directory: Path, access: FirestoreAccess, server: WhatsApp, kind: str
) -> AsyncIterator[Machine]:
    """A machine with connected accounts, its lease of this kind."""
    environ: Mapping[str, str] = {**server.environment(), **_DEFAULTS, "WAD_LEASE_KIND": kind}
    async with a_machine(directory, access, kind, engine="neonize", environ=environ) as machine:
        await machine.daemon.start()
        await machine.until_mode("active")
        for number in range(_ACCOUNTS):
            phone = f"1555{'1' if kind == 'file' else '0'}{number:06}"
            account = server.add_account(phone, name=f"shop {number}")
            await machine.daemon.call("accounts.add", name=f"s{number}", phone=f"+{phone}")
            await account.phone.scan(await machine.daemon.qr(f"s{number}"))
            await machine.daemon.wait_state(f"s{number}", "connected")
        yield machine


async def _restart(machine: Machine) -> float:
    """Seconds from the start of the daemon to all accounts connected, after everything was killed."""
    await machine.crash()
    begun = time.monotonic()
    await machine.daemon.start()
    while True:
        accounts = await machine.daemon.call("accounts.list")
        if all(account["state"] == "connected" for account in accounts):
            return time.monotonic() - begun
        await asyncio.sleep(0.02)


@measure("restart_same_host")
async def restart_same_host() -> Sequence[Figure]:
    """Ten accounts after a crash: the lease is taken over at once, since the state directory proves the death."""
    async with a_database() as access, WhatsApp() as server:
        with tempfile.TemporaryDirectory() as directory:
            found = []
            for kind in ("firestore", "file"):
                async with _shop(Path(directory), access, server, kind) as machine:
                    found.append(max([await _restart(machine) for _ in range(_ROUNDS)]))
    ours, peer = found
    return [Figure("restart_same_host", ours, "s", 3.0, "the same with lease.kind = file", peer)]
