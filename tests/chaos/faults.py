"""Each kind of fault, applied to a running system, and undone."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from contextlib import suppress
from typing import assert_never

from tests.chaos.scenario import Fault, Kind
from tests.chaos.system import System
from tests.support.disks import fill

_DEAD = 10.0  # seconds until a killed process has ended, at most


class Troublemaker:
    """Applies faults to one system.  Those that stop the daemon or fill its disk wait for each other."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._daemon = asyncio.Lock()
        self._network = asyncio.Lock()

    async def do(self, fault: Fault) -> None:
        """One fault, from its beginning until the system works again."""
        match fault.kind:
            case Kind.WORKER:
                await self._kill_worker(fault.account)
            case Kind.STOP_WORKER:
                await self._stop_worker(fault.account, fault.seconds)
            case Kind.NETWORK:
                async with self._network:
                    await self._cut_network(fault.seconds)
            case Kind.DAEMON:
                async with self._daemon:
                    await self._kill_daemon()
            case Kind.BOTH:
                async with self._daemon:
                    await self._kill_both()
            case Kind.RESTART:
                async with self._daemon:
                    await self._restart()
            case Kind.STOP_DAEMON:
                async with self._daemon:
                    await self._stop_daemon(fault.seconds)
            case Kind.DISK:
                async with self._daemon:
                    await self._fill_disk(fault.seconds)
            case _:
                assert_never(fault.kind)

    # --- kill -9 ----------------------------------------------------------------------------------
    # The receipts count that the server holds once the process is dead: it can send no more of them.

    async def _kill_worker(self, number: int) -> None:
        await _kill([await self._system.worker_pid(number)])
        self._system.promise()

    async def _kill_daemon(self) -> None:
        await self._system.daemon.end(signal.SIGKILL)
        self._system.promise()
        await self._system.daemon.start()

    async def _kill_both(self) -> None:
        shown = await self._system.insist("accounts.list")
        await _kill([one["worker"]["pid"] for one in shown if one["worker"] is not None])
        await self._kill_daemon()

    async def _restart(self) -> None:
        code = await self._system.daemon.end(signal.SIGINT)
        self._system.promise()
        if code != 0:
            raise RuntimeError(f"wad ended with code {code} after SIGINT")
        await self._system.daemon.start()

    # --- for a while ------------------------------------------------------------------------------

    async def _stop_worker(self, number: int, seconds: float) -> None:
        # A handle, not a pid: wad may replace the worker, and the pid may be reused.
        try:
            worker = os.pidfd_open(await self._system.worker_pid(number))
        except ProcessLookupError:  # another fault was faster
            return
        try:
            if _signal(worker, signal.SIGSTOP):
                await asyncio.sleep(seconds)
                _signal(worker, signal.SIGCONT)
        finally:
            os.close(worker)

    async def _stop_daemon(self, seconds: float) -> None:
        process = self._system.daemon.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    async def _cut_network(self, seconds: float) -> None:
        server = self._system.server
        server.refusing = True
        try:
            for account in self._system.accounts:
                await server.drop(account)
            await asyncio.sleep(seconds)
        finally:
            server.refusing = False

    async def _fill_disk(self, seconds: float) -> None:
        assert self._system.disk is not None
        filler = self._system.disk / "filler"
        try:
            await asyncio.to_thread(fill, filler)
            await asyncio.sleep(seconds)
        finally:
            filler.unlink()


async def _kill(pids: list[int]) -> None:
    """SIGKILL, all at once; returns when they are dead."""
    handles = []
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                handles.append(os.pidfd_open(pid))
                signal.pidfd_send_signal(handles[-1], signal.SIGKILL)
        for handle in handles:
            await asyncio.to_thread(select.select, [handle], [], [], _DEAD)
    finally:
        for handle in handles:
            os.close(handle)


def _signal(handle: int, number: signal.Signals) -> bool:
    """Whether the process was there to take it."""
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    return True
