"""`wadctl verify` on a real installation with the real library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.audit.damage import copy_message, ids
from tests.daemons import Daemon, a_daemon
from tests.test_system import a_system

pytestmark = pytest.mark.timeout(240)


async def test_two_restarts_are_verified(tmp_path: Path) -> None:
    """A message goes out, two restarts keep the account and everything in the store."""
    async with a_system(tmp_path) as system:
        await system.pair()
        await system.receive("one", "two")
        done = await system.daemon.wadctl("verify", "--to", "+15550000012", "--json", timeout=200)
        report = json.loads(done.stdout)
        assert (done.returncode, report["verdict"]) == (0, True), done
        assert (report["restarts"], report["accounts"], report["connected"]) == (2, 1, 1)
        assert report["quickWrite"]["sent"] is True
        assert report["after"]["activeDocs"] == report["before"]["activeDocs"] + 1
        assert len(await system.daemon.messages("shop")) == 3


async def test_duplicates_are_no_success(tmp_path: Path) -> None:
    """They were there before, but nobody may rely on that store."""
    async with a_system(tmp_path) as system:
        await system.pair()
        await system.receive("one")
        file = system.daemon.state / "wad.db"
        copy_message(file, ids(file)[0], "twin")
        done = await system.daemon.wadctl("verify", "--restarts", "0", timeout=60)
    assert done.returncode == 2
    assert "duplicates present" in done.stdout


async def test_nobody_connected(tmp_path: Path) -> None:
    """An account that is not paired cannot be verified, nor write."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        await daemon.call("accounts.add", name="shop")
        done = await daemon.wadctl(
            "verify", "--restarts", "1", "--to", "+15550000012", "--json", timeout=100
        )
    report = json.loads(done.stdout)
    assert (done.returncode, report["notReadyReason"]) == (2, "not_connected")
    assert (report["restartVerified"], report["quickWrite"]["error"]) == (True, "no_account")


async def test_without_a_daemon_or_a_store(tmp_path: Path) -> None:
    """The step that failed is named."""
    daemon = Daemon(tmp_path, engine="simulator")
    done = await daemon.wadctl("verify", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]) == (2, "audit_failed_before")
    await daemon.start()
    await daemon.end()
    done = await daemon.wadctl("verify", "--restarts", "0", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]) == (2, "status_failed")
    assert "no daemon answers" in done.stderr
