"""HTTP on the whole system: the real daemon, the real library, the protocol server."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.daemons import Daemon
from tests.support.http_client import ask
from tests.system.systems import a_system

pytestmark = pytest.mark.timeout(180)

BOARD = Path(__file__).parent.parent.parent / "docs" / "grafana.json"


async def test_probes_follow_an_account(tmp_path: Path) -> None:
    """Pairing, messages in and out, and a logout show in the dashboard, the metrics and the others at once."""
    async with a_system(tmp_path, ADMIN_TOKEN="s3cret-of-the-live-tests") as system:
        port = system.daemon.port
        shown = await system.pair()
        await system.receive("one", "two")
        await system.daemon.call(
            "messages.send", account="shop", to="+15550000012", text="hi", wait=30
        )
        stored = await system.daemon.messages("shop")

        document = (await ask(port, "/api/status/dashboard")).document
        (row,) = document["accounts"]
        assert (row["status"], row["hasDiskSession"], row["isStale"]) == ("connected", True, False)
        assert (row["accountId"], row["phone"]) == ("acc-1555****01", "+155****01")
        assert row["dedupe"]["wrote"] == 2
        newest = max(message["at_ms"] for message in stored)
        assert row["lastMessageAt"][:19] == _second(newest)
        assert row["leaseUntil"] > document["timestamp"]
        assert document["summary"] == {
            "connected": 1, "connecting": 0, "disconnected": 0, "needs_qr": 0, "total": 1,
        }  # fmt: skip

        metrics = (await ask(port, "/metrics", token="s3cret-of-the-live-tests")).body.decode()
        label = f'{{account="{shown["id"]}"}}'
        assert f"wad_account_messages_recorded_total{label} 2.0\n" in metrics
        assert f"wad_account_messages_sent_total{label} 1.0\n" in metrics
        assert f"wad_account_receipts_after_store{label} 1.0\n" in metrics
        assert f"wad_account_worker_resident_bytes{label} " in metrics
        for panel in json.loads(BOARD.read_text())["panels"]:
            for target in panel["targets"]:
                for name in re.findall(r"\bwad_[a-z_]+", target["expr"]):
                    assert re.search(rf"(?m)^{name}[{{ ]", metrics), (panel["title"], name)

        assert (await ask(port, "/readyz")).status == 200
        diag = (await ask(port, "/diag")).document
        assert [one["accountId"] for one in diag["latestRealtime"]] == ["acc-1555****01"]

        await system.account.log_out()
        # That it was logged out is known before its worker has ended, and until then the worker has its lease.
        await system.daemon.wait_account(
            "shop",
            lambda shown: shown["state"] == "logged_out" and shown["worker"] is None,
            "the end of its worker",
        )
        (row,) = (await ask(port, "/api/status/dashboard")).document["accounts"]
        assert (row["status"], row["needs_qr"], row["leaseUntil"]) == ("logged_out", True, None)
        assert row["lastSeen"] is not None


async def test_a_burst_is_answered(tmp_path: Path) -> None:
    """Thirty at once of each probe, with an account at work: all of them 200, none limited."""
    async with a_system(tmp_path) as system:
        await system.pair()
        for path in ("/health", "/ready", "/readyz", "/healthz", "/diag", "/api/status/dashboard"):
            replies = await asyncio.gather(*(ask(system.daemon.port, path) for _ in range(30)))
            assert [reply.status for reply in replies] == [200] * 30


_AS_SYSTEMD = """
import os, sys
os.dup2(int(os.environ["FD"]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
os.execv(sys.executable, [sys.executable, "-m", "wad", "run"])
"""


async def test_a_burst_during_a_restart_is_answered(tmp_path: Path) -> None:
    """With a socket that systemd holds, as here the test does: thirty ask while it ends and starts, none is refused."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        daemon = Daemon(tmp_path, {"FD": str(listener.fileno())}, engine="simulator")
        daemon.command = [sys.executable, "-c", _AS_SYSTEMD]
        daemon.passed = (listener.fileno(),)
        port = listener.getsockname()[1]
        await daemon.start()
        before = (await daemon.call("version"))["boot_id"]
        ending = asyncio.create_task(daemon.end())
        asking = [asyncio.create_task(ask(port, "/health")) for _ in range(15)]
        assert await ending == 0
        asking += [asyncio.create_task(ask(port, "/health")) for _ in range(15)]
        await daemon.start()
        replies = await asyncio.gather(*asking)
        assert (await daemon.call("version"))["boot_id"] != before
        assert await daemon.end() == 0
    assert [reply.status for reply in replies] == [200] * 30


async def test_the_newest_message_is_known_after_a_restart(tmp_path: Path) -> None:
    """It is read from the store at the start."""
    async with a_system(tmp_path) as system:
        await system.pair()
        await system.receive("one")
        await system.daemon.end()
        await system.daemon.start()
        await system.daemon.wait_state("shop", "connected")
        (row,) = (await ask(system.daemon.port, "/api/status/dashboard")).document["accounts"]
        assert row["lastMessageAt"] is not None


def _second(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}"
