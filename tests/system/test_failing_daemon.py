"""A real daemon with a fault of its own in any of its loops: it reports the fault, does the rest, and stops in time."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import TIMEOUT, a_daemon
from wad.core.errors import TimedOut

pytestmark = pytest.mark.timeout(180)

PATCHED = """
import functools, importlib, pathlib, sys
sys.argv = ["wad", "run"]
module, _, name = sys.argv_fault.partition(":")
owner, _, method = name.partition(".")
owner = getattr(importlib.import_module(module), owner)
original = getattr(owner, method)

@functools.wraps(original)
def faulty(*given, **text):
    if pathlib.Path(sys.flag).exists():
        raise ZeroDivisionError("a fault of ours")
    return original(*given, **text)

setattr(owner, method, faulty)
from wad.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("fault", "loop"),
    [
        ("wad.flow.inbound.pipeline:Inbound._prune", "inbound"),
        ("wad.flow.accounts.account_task:AccountTask._pause", "account"),
        ("wad.flow.accounts.account:Account.publish", "publishing"),
        ("wad.flow.leadership.lease_writer:LeaseWriter.write", "leader"),
        ("wad.daemon:Daemon.check_space", "space"),
        ("wad.daemon:Daemon.summary", "pulse"),
        ("wad.flow.self_inspection:Inspection.check", "inspection"),
        ("wad.engine.simulator:SimulatedWorker.stop", "account"),
    ],
)
async def test_a_loop_that_always_fails_is_reported_and_delays_no_stop(
    tmp_path: Path, fault: str, loop: str
) -> None:
    """Status and health say degraded and which loop it is; the fault over, they say healthy; SIGINT ends it."""
    flag = tmp_path / "fault"
    code = f"import sys; sys.argv_fault = {fault!r}; sys.flag = {str(flag)!r}\n{PATCHED}"
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        await daemon.end(signal.SIGINT)
        daemon.command = [sys.executable, "-c", code]
        await daemon.start()
        account = (await daemon.call("accounts.add", name="shop"))["id"]
        await daemon.call("accounts.pair", account=account)
        await daemon.wait_state(account, "connected")

        async def until(ill: bool) -> dict[str, Any]:
            async with asyncio.timeout(TIMEOUT):
                while True:
                    status: dict[str, Any] = await daemon.call("status")
                    if (loop in {p["text"].split()[0] for p in status["problems"]}) is ill:
                        return status
                    await asyncio.sleep(0.1)

        flag.touch()
        if fault.endswith("stop"):
            with pytest.raises(TimedOut, match="did not end within"):
                await daemon.call("accounts.stop", account=account)
        else:
            await daemon.call("accounts.stop", account=account)
        status = (
            await until(ill=True)
            if loop not in ("account", "inbound")
            else await daemon.call("status")
        )
        faults = {each["name"]: each["internal_errors"] for each in status["loops"]}
        if loop != "inbound":
            assert faults[loop] >= 1
            assert "ZeroDivisionError" in daemon.log.read_text()
        if loop not in ("account", "inbound"):
            assert status["health"] == "degraded"
            with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}/health") as answer:
                assert json.load(answer)["status"] == "degraded"
            flag.unlink()
            await until(ill=False)
            flag.touch()
        assert await daemon.end(signal.SIGINT) == 0
        if loop != "leader":
            assert json.loads((daemon.state / "lease.json").read_text())["holder"] == ""


async def test_a_state_directory_that_is_moved_away_is_said_in_a_sentence(tmp_path: Path) -> None:
    """An error of the operator: no traceback, no internal error; after it is moved back, all is well."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        away = tmp_path / "elsewhere"
        daemon.state.rename(away)
        async with asyncio.timeout(TIMEOUT):
            while "cannot determine the free space" not in daemon.log.read_text():
                await asyncio.sleep(0.05)
        away.rename(daemon.state)
        async with asyncio.timeout(TIMEOUT):
            while "space works again" not in daemon.log.read_text():
                await asyncio.sleep(0.05)
        status = await daemon.call("status")
        assert {each["name"]: each["internal_errors"] for each in status["loops"]}.get(
            "space", 0
        ) == 0
        assert "Traceback" not in daemon.log.read_text()
