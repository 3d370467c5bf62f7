"""`wadctl verify` on a real installation with the real library."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from tests.audit.damage import copy_message, ids
from tests.support.daemons import Daemon, a_daemon
from tests.system.systems import a_system

pytestmark = pytest.mark.timeout(240)


async def test_two_restarts_are_verified(tmp_path: Path) -> None:
    """A message is sent; two restarts keep the account and everything in the store."""
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


async def test_duplicates_are_a_failure(tmp_path: Path) -> None:
    """They were there before, but the store is not reliable."""
    async with a_system(tmp_path) as system:
        await system.pair()
        await system.receive("one")
        file = system.daemon.state / "wad.db"
        copy_message(file, ids(file)[0], "duplicate")
        done = await system.daemon.wadctl("verify", "--restarts", "0", timeout=60)
    assert done.returncode == 2
    assert "duplicates present" in done.stdout


async def test_without_a_connected_account(tmp_path: Path) -> None:
    """An account that is not paired cannot be verified, nor write."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        await daemon.call("accounts.add", name="shop")
        done = await daemon.wadctl(
            "verify", "--restarts", "1", "--to", "+15550000012", "--json", timeout=100
        )
    report = json.loads(done.stdout)
    assert (done.returncode, report["notReadyReason"]) == (2, "not_connected")
    assert (report["restartVerified"], report["quickWrite"]["error"]) == (True, "no_account")


async def test_the_variables_of_the_reference(tmp_path: Path) -> None:
    """Options for no restart, another restart command, and the recipient; unused options are reported."""
    async with a_system(tmp_path) as system:
        await system.pair()
        await system.receive("one")
        daemon = system.daemon
        daemon.environ |= {
            "RUN_RESTART": "false",
            "DEST_JID": "+15550000012",
            "RESTART_SSH": "op@host",
        }
        done = await daemon.wadctl("verify", "--json", timeout=60)
        report = json.loads(done.stdout)
        assert (done.returncode, report["verdict"], report["quickWrite"]["sent"]) == (0, True, True)
        assert (report["restartRequested"], report["restartPerformed"]) == (False, False)
        assert report["restartSkippedReason"] == "RUN_RESTART is false"
        assert "RESTART_SSH is ignored" in done.stderr

        ask = shlex.join([sys.executable, "-m", "wadctl", "restart"])
        command = f"echo x >>{shlex.quote(str(tmp_path))}/asked; exec {ask}"
        daemon.environ |= {"RUN_RESTART": "true", "RESTART_CMD": command, "DEST_JID": ""}
        done = await daemon.wadctl("verify", "--json", timeout=200)
        report = json.loads(done.stdout)
        assert (done.returncode, report["restarts"], report["quickWrite"]) == (0, 2, None)
        assert (tmp_path / "asked").read_text() == "x\nx\n"

        daemon.environ["RESTART_CMD"] = "echo first; echo no such unit >&2; exit 5"
        done = await daemon.wadctl("verify", "--json", "--restarts", "1", timeout=60)
        report = json.loads(done.stdout)
        assert (done.returncode, report["not_ready_reason"]) == (2, "restart_not_verified")
        assert report["restartError"] == "the restart command exited with 5: no such unit"


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
