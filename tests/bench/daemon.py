"""The daemon at rest: its start time, memory, and answer rate."""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Figure, measure, pss_mb, python, wall
from tests.support.daemons import a_daemon, free_port

_IMPORTS = "import asyncio, uvicorn, httptools, starlette.applications"
_EMPTY = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def empty(request):
    return Response(b"{}", media_type="application/json")

uvicorn.run(Starlette(routes=[Route("/health", empty)]), port=int(sys.argv[1]), http="httptools", loop="asyncio",
            lifespan="off", access_log=False, log_level="error", server_header=False)
"""


@measure("start_to_ready")
async def start_to_ready() -> Sequence[Figure]:
    """From exec to READY=1, without accounts, compared with a Python that only imports the HTTP server's libraries."""
    times = []
    with tempfile.TemporaryDirectory() as directory:
        for number in range(8):
            async with a_daemon(Path(directory) / str(number)) as daemon:
                await daemon.end()
            async with a_daemon(Path(directory) / str(number)) as daemon:
                await daemon.end()
                times.append(await daemon.start())
                await daemon.end()
    peer = wall(python(_IMPORTS))
    return [Figure("start_to_ready", statistics.median(times[1:]), "s", 0.25, _IMPORTS, peer)]


@measure("pss_idle")
async def pss_idle() -> Sequence[Figure]:
    """Memory of the daemon and its HTTP process without accounts, compared with a Python with only the libraries."""
    with tempfile.TemporaryDirectory() as directory:
        async with a_daemon(Path(directory)) as daemon:
            (http,) = (await daemon.call("status"))["http"]
            await asyncio.to_thread(load, f"http://127.0.0.1:{daemon.port}/health")
            assert daemon.process is not None
            ours = pss_mb(daemon.process.pid) + pss_mb(http["pid"])
    idle = subprocess.Popen(python(f"{_IMPORTS}; input()"), stdin=subprocess.PIPE)
    await asyncio.sleep(1)
    peer = pss_mb(idle.pid)
    idle.communicate(b"\n")
    return [Figure("pss_idle", ours, "MB", 55, _IMPORTS, peer)]


@dataclass(frozen=True)
class Load:
    """The load generator's measurements."""

    rate: float
    p99_ms: float


def load(url: str) -> Load:
    """Ten connections for four seconds."""
    done = subprocess.run(
        ["wrk", "-t1", "-c10", "-d4s", "--latency", url],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "Non-2xx" not in done.stdout, done.stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    assert rate is not None
    assert p99 is not None
    return Load(float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1, "s": 1000}[p99[2]])


@asynccontextmanager
async def running(script: str) -> AsyncIterator[str]:
    """A server in a separate process, which gets a port; yields the address of its handler."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", script, str(port)])
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}/health"
    finally:
        process.kill()
        process.wait()


def an_empty_handler() -> AbstractAsyncContextManager[str]:
    """The same library with a handler that does nothing."""
    return running(_EMPTY)


@measure("health_rate", "health_p99")
async def health() -> Sequence[Figure]:
    """`GET /health` over ten kept connections, alternating with an empty handler of the same library."""
    ours, peers = [], []
    with tempfile.TemporaryDirectory() as directory:
        async with a_daemon(Path(directory)) as daemon, an_empty_handler() as empty:
            url = f"http://127.0.0.1:{daemon.port}/health"
            for _ in range(3):
                ours.append(await asyncio.to_thread(load, url))
                peers.append(await asyncio.to_thread(load, empty))
    rate, peer_rate = (statistics.median(one.rate for one in these) for these in (ours, peers))
    p99, peer_p99 = (statistics.median(one.p99_ms for one in these) for these in (ours, peers))
    peer = "an empty handler (Starlette on uvicorn, httptools)"
    return [
        Figure("health_rate", rate, "1/s", 5_000, peer, peer_rate, at_least=True, least_ratio=0.5),
        Figure("health_p99", p99, "ms", 15, peer, peer_p99),
    ]


@measure("wadctl_status")
async def wadctl_status() -> Sequence[Figure]:
    """`wadctl status` as a whole process, compared with a Python that does nothing."""
    with tempfile.TemporaryDirectory() as directory:
        async with a_daemon(Path(directory)) as daemon:
            command = [str(Path(sys.executable).with_name("wadctl")), "status"]
            ours = await asyncio.to_thread(wall, command, env=daemon.environ)
            peer = await asyncio.to_thread(wall, python("pass"))
    return [Figure("wadctl_status", ours * 1000, "ms", 150, "python -c pass", peer * 1000)]
