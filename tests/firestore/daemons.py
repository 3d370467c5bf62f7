"""Real daemons on (simulated) machines that share one Firestore: a directory each, and a proxy of its own between."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.firestore.proxy import Proxy, a_proxy
from tests.support.daemons import TIMEOUT, Daemon
from wad.store.firestore.client.access import FirestoreAccess

TERMS: Final = {
    "WAD_LEASE_TTL": "5",
    "WAD_LEASE_RENEW_EVERY": "1",
    "WAD_LEASE_MARGIN": "1",
    "WAD_ENGINE_STOP_TIMEOUT": "0.5",
}


@dataclass
class Machine:
    """One simulated machine."""

    name: str
    daemon: Daemon
    proxy: Proxy

    async def lease(self) -> dict[str, Any]:
        """The lease as this machine sees it."""
        found: dict[str, Any] = await self.daemon.call("lease.show")
        return found

    async def until_mode(self, mode: str) -> dict[str, Any]:
        """Wait until the machine is active, or passive."""
        shown: dict[str, Any] = {}
        try:
            async with asyncio.timeout(TIMEOUT):
                while (shown := await self.lease())["mode"] != mode:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{self.name} does not become {mode}: {shown}") from None
        return shown

    async def until_holder(self, holder: str | None) -> None:
        """Wait until the machine reports this holder of the lease; None: no holder."""
        async with asyncio.timeout(TIMEOUT):
            while (await self.lease())["holder"] != holder:
                await asyncio.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the daemon and its workers."""
        assert self.daemon.process is not None
        for pid in pids_of(self.daemon.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def crash(self) -> None:
        """Kill everything that runs on the machine at once."""
        assert self.daemon.process is not None
        process = self.daemon.process
        self.signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
        self.daemon.process = None


def pids_of(pid: int) -> list[int]:
    """A process and all of its descendants, started by any of its threads, the youngest last."""
    found = [pid]
    for parent in found:
        threads: list[Path] = []
        with suppress(OSError):  # the process has ended
            threads = list(Path(f"/proc/{parent}/task").iterdir())
        for thread in threads:
            with suppress(OSError):  # the thread has ended
                found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def workers_of(pid: int) -> list[int]:
    """The processes of a daemon that act for an account: all but the HTTP process.

    A child that was forked and has not loaded its program yet still has the daemon's command line; it does not act.
    """
    own = _command(pid)
    return [child for child in pids_of(pid)[1:] if _acts(_command(child), own)]


def _acts(command: bytes, of_the_daemon: bytes) -> bool:
    return command not in (b"", of_the_daemon) and b"wad.http" not in command.split(b"\0")


def _command(pid: int) -> bytes:
    """The command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@asynccontextmanager
async def a_machine(
    directory: Path,
    access: FirestoreAccess,
    name: str,
    *,
    engine: str = "simulator",
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Machine]:
    """A machine without running processes; those that run at the end are killed."""
    with a_proxy(int(access.emulator.rpartition(":")[2])) as proxy:
        settings = {
            **TERMS,
            "INSTANCE_ID": name,
            "WAD_LEASE_KIND": "firestore",
            "GOOGLE_CLOUD_PROJECT": access.project,
            "FIRESTORE_EMULATOR_HOST": proxy.address,
            **(environ or {}),
        }
        machine = Machine(name, Daemon(directory / name, settings, engine=engine), proxy)
        try:
            yield machine
        finally:
            if machine.daemon.process is not None:
                machine.signal(signal.SIGCONT)
                await machine.crash()
