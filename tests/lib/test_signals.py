"""No signal ends the daemon by the kernel's default, in no phase; what should stop it stops it in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.daemons import TIMEOUT, Daemon, a_daemon
from wad.lib.signals import RELOAD, UNUSED


def caught(pid: int) -> int:
    """The signals for which a process has handlers, as bits."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return int(next(line.split()[1] for line in lines if line.startswith("SigCgt:")), 16)


async def begun(daemon: Daemon) -> subprocess.Popen[bytes]:
    """A process that has just set its handlers, long before it is ready."""
    with daemon.log.open("ab") as log:
        process = subprocess.Popen(
            daemon.command,
            env=daemon.environ,
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parent.parent.parent,
        )
    async with asyncio.timeout(TIMEOUT):
        while not caught(process.pid) >> (UNUSED[-1] - 1) & 1:
            await asyncio.sleep(0)
    return process


def is_free(daemon: Daemon) -> bool:
    """Whether the lease is free."""
    file = daemon.state / "lease.json"
    return not file.exists() or json.loads(file.read_text())["holder"] == ""


def test_every_signal_that_would_end_it_is_among_them() -> None:
    """All signals of the kernel, the real-time ones included."""
    for name in (
        "SIGUSR1",
        "SIGUSR2",
        "SIGALRM",
        "SIGVTALRM",
        "SIGPROF",
        "SIGIO",
        "SIGPWR",
        "SIGRTMIN",
        "SIGRTMAX",
    ):
        assert getattr(signal, name) in UNUSED


async def test_a_signal_that_means_nothing_is_said_and_ignored(tmp_path: Path) -> None:
    """Each is logged once; the daemon continues, and stops gracefully."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        assert daemon.process is not None
        pid = daemon.process.pid
        for _ in range(2):
            for number in UNUSED:
                os.kill(pid, number)
        async with asyncio.timeout(TIMEOUT):
            while daemon.log.read_text().count("wad does not use it") < len(UNUSED):
                await asyncio.sleep(0.02)
        assert (await daemon.call("status"))["health"] == "healthy"
        assert daemon.log.read_text().count("ignored signal SIGUSR1") == 1
        assert await daemon.end() == 0
        assert is_free(daemon)


async def test_no_phase_is_without_its_handlers(tmp_path: Path) -> None:
    """From the first moment to the last, of a start and of a stop."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        await daemon.end()
        process = await begun(daemon)
        try:
            stopping = False
            async with asyncio.timeout(TIMEOUT):
                while process.poll() is None:
                    for number in (RELOAD, signal.SIGUSR1, signal.SIGALRM):
                        process.send_signal(number)
                    if (
                        not stopping
                        and "is ready" in daemon.log.read_text().rpartition("stopping")[2]
                    ):
                        process.send_signal(signal.SIGTERM)
                        stopping = True
                    await asyncio.sleep(0.001)
            assert process.returncode == 0, daemon.log.read_text()
            assert is_free(daemon)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_order_to_stop_before_it_is_ready_is_not_forgotten(
    tmp_path: Path, number: signal.Signals
) -> None:
    """It ends in order, with nothing held."""
    daemon = Daemon(tmp_path, engine="simulator")
    process = await begun(daemon)
    try:
        process.send_signal(number)
        assert await asyncio.to_thread(process.wait, TIMEOUT) == 0, daemon.log.read_text()
        assert is_free(daemon)
    finally:
        process.kill()
