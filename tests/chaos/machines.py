"""`make chaos LEASE=1`: real daemons that share one Firestore, with faults; never two that may act.

Three machines, each with a proxy before the emulator.  A machine's daemon is frozen, killed or stopped and started
again, its network drops requests or answers, or refuses, an operator releases the lease; at random moments, drawn
from a seed.  Then all faults end: exactly one must act.  The histories of all are compared with one another
(`history.judge`), and during a run workers may never be alive on two machines at once.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from tests.chaos.history import judge, leaderships
from tests.firestore.daemons import Machine, a_machine, workers_of
from tests.firestore.proxy import Weather
from tests.whatsapp import WhatsApp
from wad.core.errors import WadError
from wad.store.firestore.client.access import FirestoreAccess

_TERMS: Final = {
    "WAD_LEASE_TTL": "3",
    "WAD_LEASE_RENEW_EVERY": "0.5",
    "WAD_LEASE_MARGIN": "1",
    "WAD_LOG_LEVEL": "debug",
}
_LONGEST: Final = 6.0  # seconds of one fault: twice the ttl
_GLANCE: Final = 0.02  # seconds between two checks of the workers
_HEALED: Final = 60.0  # seconds in which one must act again


class Trouble(StrEnum):
    """A fault of a machine, for a while."""

    FREEZE = "freeze"  # SIGSTOP of its daemon; its workers go on, as long as they are permitted to
    CRASH = "crash"  # everything that runs on it is killed
    STOP = "stop"  # SIGINT
    SWALLOW = "swallow"  # its network drops everything
    DEAF = "deaf"  # its requests arrive, the answers do not
    REFUSE = "refuse"  # its connections are cut
    RELEASE = "release"  # an operator releases the lease, if it has it


_WEATHER: Final = {
    Trouble.SWALLOW: Weather.SWALLOWED,
    Trouble.DEAF: Weather.DEAF,
    Trouble.REFUSE: Weather.REFUSED,
}


@dataclass(frozen=True)
class Strike:
    """`pause` seconds after the previous fault, a machine has a fault for `seconds`."""

    machine: int
    trouble: Trouble
    pause: float
    seconds: float


def draw(seed: int, *, machines: int = 3, strikes: int = 15) -> list[Strike]:
    """The faults of a run.  Equal seeds draw equal runs."""
    chance = random.Random(seed)
    return [
        Strike(
            chance.randrange(machines),
            chance.choice(tuple(Trouble)),
            chance.uniform(0, 3),
            chance.uniform(0.1, _LONGEST),
        )
        for _ in range(strikes)
    ]


@dataclass
class Outcome:
    """The result of a run; `findings` empty: nothing is wrong."""

    seed: int
    troubles: Counter[str]
    epochs: int = 0
    glances: int = 0
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    directory: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Its line."""
        return {
            "seed": self.seed, "ok": not self.findings, "troubles": dict(self.troubles), "epochs": self.epochs,
            "glances": self.glances, "findings": self.findings, "seconds": round(self.seconds, 1),
            "directory": self.directory,
        }  # fmt: skip


class Machines:
    """The machines of a run, and their faults."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self._machines = machines
        self._busy = [asyncio.Lock() for _ in machines]
        self._deaths: dict[str, list[float]] = {machine.name: [] for machine in machines}
        self.glances = 0
        self.findings: list[str] = []

    async def strike(self, strike: Strike) -> None:
        """One fault from its beginning to its end; a machine has one at a time."""
        machine = self._machines[strike.machine]
        async with self._busy[strike.machine]:
            match strike.trouble:
                case Trouble.FREEZE:
                    await self._freeze(machine, strike.seconds)
                case Trouble.CRASH:
                    await machine.crash()
                    self._deaths[machine.name].append(time.clock_gettime(time.CLOCK_BOOTTIME))
                    await asyncio.sleep(strike.seconds / 3)
                    await machine.daemon.start()
                case Trouble.STOP:
                    await machine.daemon.end(signal.SIGINT)
                    await asyncio.sleep(strike.seconds / 3)
                    await machine.daemon.start()
                case Trouble.RELEASE:
                    with suppress(WadError):
                        await machine.daemon.call("lease.release", seconds=strike.seconds)
                case weather:
                    machine.proxy.weather = _WEATHER[weather]
                    await asyncio.sleep(strike.seconds)
                    machine.proxy.weather = Weather.CLEAR

    async def _freeze(self, machine: Machine, seconds: float) -> None:
        process = machine.daemon.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    async def watch(self) -> None:
        """Check for workers that are alive on two machines, until cancelled."""
        while True:
            self.glances += 1
            working = [machine.name for machine in self._machines if _works(machine)]
            if len(working) > 1:
                self.findings.append(f"workers were alive on {' and '.join(working)} at once")
            await asyncio.sleep(_GLANCE)

    async def healed(self) -> None:
        """All is well: exactly one acts, and the others know the holder.  Raises TimeoutError."""
        async with asyncio.timeout(_HEALED):
            while True:
                shown = [await machine.lease() for machine in self._machines]
                active = [one["instance"] for one in shown if one["mode"] == "active"]
                if len(active) == 1 and all(one["holder"] == active[0] for one in shown):
                    return
                await asyncio.sleep(0.1)

    def judged(self) -> int:
        """Compare the histories with one another; returns the number of epochs."""
        histories = {
            machine.name: leaderships(
                machine.name,
                machine.daemon.log.read_text(errors="replace").splitlines(),
                self._deaths[machine.name],
            )
            for machine in self._machines
        }
        self.findings += judge(histories)
        return sum(map(len, histories.values()))


def _works(machine: Machine) -> bool:
    """Whether a worker of it is alive."""
    process = machine.daemon.process
    return process is not None and any(_alive(pid) for pid in workers_of(process.pid))


def _alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(") ")[2][:1] not in "ZX"


async def run(
    seed: int, strikes: Sequence[Strike], access: FirestoreAccess, parent: Path
) -> Outcome:
    """Run and check it; the directory of a failed run is kept."""
    begun = time.monotonic()
    outcome = Outcome(seed, Counter(str(strike.trouble) for strike in strikes))
    directory = Path(tempfile.mkdtemp(prefix=f"lease-{seed}-", dir=parent))
    count = max(strike.machine for strike in strikes) + 1
    try:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(WhatsApp())
            started = [
                await stack.enter_async_context(
                    a_machine(
                        directory, access, f"m{number}", engine="neonize",
                        environ={**_TERMS, **server.environment()},
                    )
                )
                for number in range(count)
            ]  # fmt: skip
            await _pair(started, server)
            machines = Machines(started)
            await _disturb(machines, strikes)
            await machines.healed()
            for machine in started:
                await machine.daemon.end(signal.SIGINT)
            outcome.epochs, outcome.glances = machines.judged(), machines.glances
            outcome.findings = machines.findings
    except (
        Exception
    ) as error:  # a run that cannot go on is a failed run, and the others still count
        outcome.findings.append(repr(error))
    outcome.seconds = time.monotonic() - begun
    if outcome.findings:
        outcome.directory = str(directory)
    else:
        await asyncio.to_thread(shutil.rmtree, directory)
    return outcome


async def _pair(machines: Sequence[Machine], server: WhatsApp) -> None:
    """Each machine has a separate account, so that it has a worker while it acts."""
    for number, machine in enumerate(machines):
        phone = f"1555000{number:04}"
        account = server.add_account(phone, name=machine.name)
        await machine.daemon.start()
        await machine.until_mode("active")
        await machine.daemon.call("accounts.add", name=machine.name, phone=f"+{phone}")
        await account.phone.scan(await machine.daemon.qr(machine.name))
        await machine.daemon.wait_state(machine.name, "connected")
        await machine.daemon.end(signal.SIGINT)
    for machine in machines:
        await machine.daemon.start()


async def _disturb(machines: Machines, strikes: Sequence[Strike]) -> None:
    watching = asyncio.create_task(machines.watch())
    try:
        async with asyncio.TaskGroup() as group:
            for strike in strikes:
                await asyncio.sleep(strike.pause)
                group.create_task(machines.strike(strike))
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
