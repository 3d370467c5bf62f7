"""What the daemon reports about itself to systemd and to probes, with a whole daemon."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.daemons import a_daemon
from tests.support.http_client import ask


async def test_the_status_line_is_true_from_the_start(tmp_path: Path) -> None:
    """An active instance is never reported as passive, and READY follows its first line."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        lines = [line for line in daemon.notified if line.startswith(b"STATUS=")]
        assert lines[-1] == b"STATUS=active, 0 of 0 accounts connected, backlog 0"
        assert not [line for line in lines if b"passive" in line]


async def test_health_names_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    """Before accounts have to wait; the service is not degraded yet."""
    free_mb = shutil.disk_usage(tmp_path).free / 1e6
    least = {"WAD_STATE_MIN_FREE_MB": str(int(free_mb / 2))}
    async with a_daemon(tmp_path / "wad", least, engine="simulator") as daemon:
        found = await daemon.call("status")
        texts = [each["text"] for each in found["problems"] if each["code"] == "space_low"]
        assert "MB are free on the disk of" in texts[0]
        health = (await ask(daemon.port, "/health")).document
        assert "space_low" in [each["code"] for each in health["problems"]]
