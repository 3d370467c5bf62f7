"""The daemon's HTTP rate with many accounts."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.daemon import an_empty_handler, load
from tests.bench.measure import Figure, measure
from tests.support.daemons import a_daemon

_ACCOUNTS = 50
_GOAL = 1200  # a second; the reference did 163 (/health) and 234 (dashboard) without any account


@measure("health_rate50", "dashboard_rate50")
async def rates50() -> Sequence[Figure]:
    """`/health` and the dashboard with 50 accounts, in turn with an empty handler of the same library."""
    paths = {"health_rate50": "/health", "dashboard_rate50": "/api/status/dashboard"}
    rates: dict[str, list[float]] = {name: [] for name in (*paths, "peer")}
    with tempfile.TemporaryDirectory() as directory:
        async with (
            a_daemon(Path(directory), engine="simulator") as daemon,
            an_empty_handler() as empty,
        ):
            for number in range(_ACCOUNTS):
                phone = f"+1555{number:07d}"
                await daemon.call("accounts.add", name=f"account {number}", phone=phone)
                await daemon.call("accounts.pair", account=phone)
            for number in range(_ACCOUNTS):
                await daemon.wait_state(f"account {number}", "connected")
            urls = {name: f"http://127.0.0.1:{daemon.port}{path}" for name, path in paths.items()}
            for _ in range(3):
                for name, url in (urls | {"peer": empty}).items():
                    rates[name].append((await asyncio.to_thread(load, url)).rate)
    peer = statistics.median(rates["peer"])
    return [
        Figure(
            name, statistics.median(rates[name]), "1/s", _GOAL,
            "an empty handler (Starlette on uvicorn, httptools)", peer, at_least=True,
        )
        for name in paths
    ]  # fmt: skip
