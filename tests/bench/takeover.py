"""Two machines that share one Firestore emulator: the take-over time, the cost of standby, and the memory.

The peers are what the network and the emulator allow in the same run.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.bench.measure import Figure, measure, rss_mb
from tests.firestore.daemons import Machine, a_machine
from tests.firestore.emulator import an_emulator, find, warm_up
from tests.support.daemons import Daemon
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Client, Firestore

_ROUNDS: Final = 5
_TTL: Final = 4.0
_TERMS: Final = {
    "WAD_LEASE_TTL": str(_TTL),
    "WAD_LEASE_RENEW_EVERY": "1",
    "WAD_LEASE_MARGIN": "1",
}


@asynccontextmanager
async def a_database() -> AsyncIterator[FirestoreAccess]:
    """An empty one, in a separate emulator."""
    with an_emulator(find()) as port:
        access = FirestoreAccess(project="demo-bench", emulator=f"127.0.0.1:{port}")
        await warm_up(access)
        yield access


async def _round_trip(access: FirestoreAccess) -> float:
    """Seconds for one write, the median of many: the minimum of any take-over."""
    firestore = Firestore(access, "bench", 1)

    def work(client: Client) -> float:
        times = []
        for number in range(50):
            begun = time.monotonic()
            client.document("bench/one").set({"n": number}, retry=None, timeout=10)
            times.append(time.monotonic() - begun)
        return statistics.median(times)

    try:
        return await firestore.call(work)
    finally:
        firestore.close()


async def _until_active(machine: Machine) -> float:
    """The time at which it became active, by this machine's clock."""
    while (await machine.lease())["mode"] != "active":
        await asyncio.sleep(0.005)
    return time.monotonic()


async def _end(daemon: Daemon, how: signal.Signals) -> None:
    await daemon.end(how)


async def _alternate(access: FirestoreAccess, directory: Path, how: signal.Signals) -> list[float]:
    """Seconds from the signal to the other's leadership, a and b alternating."""
    times = []
    async with (
        a_machine(directory, access, "a", environ=_TERMS) as one,
        a_machine(directory, access, "b", environ=_TERMS) as two,
    ):
        await one.daemon.start()
        await one.until_mode("active")
        for _ in range(_ROUNDS):
            await two.daemon.start()
            await two.until_holder(one.name)
            begun = time.monotonic()
            ending = asyncio.create_task(
                one.crash() if how is signal.SIGKILL else _end(one.daemon, how)
            )
            times.append(await _until_active(two) - begun)
            await ending
            one, two = two, one
    return times


@measure("takeover_stop", "takeover_crash")
async def takeover() -> Sequence[Figure]:
    """The time without an active machine after a stop, and after everything on a machine was killed."""
    async with a_database() as access:
        peer = await _round_trip(access)
        with tempfile.TemporaryDirectory() as directory:
            stop = await _alternate(access, Path(directory, "stop"), signal.SIGINT)
            crash = await _alternate(access, Path(directory, "crash"), signal.SIGKILL)
    compared = "one write to the emulator"
    return [
        Figure("takeover_stop", max(stop), "s", 1.0, compared, peer),
        Figure("takeover_crash", max(crash), "s", _TTL + 1, "the ttl", _TTL),
    ]


@measure("rss_firestore")
async def rss_firestore() -> Sequence[Figure]:
    """Resident memory with lease and store in Firestore, active, compared with both on its disk."""
    async with a_database() as access:
        with tempfile.TemporaryDirectory() as directory:
            found = []
            for store, lease in (("firestore", "firestore"), ("sqlite", "file")):
                environ = {"WAD_STORE_KIND": store, "WAD_LEASE_KIND": lease}
                async with a_machine(Path(directory), access, store, environ=environ) as machine:
                    await machine.daemon.start()
                    await machine.until_mode("active")
                    assert machine.daemon.process is not None
                    found.append(rss_mb(machine.daemon.process.pid))
    ours, peer = found
    return [Figure("rss_firestore", ours, "MB", 80.0, "the same on sqlite", peer)]
