"""A daemon on a wad.db of an older version: it starts, reports the upgrade, and is not ended meanwhile."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import cast

from tests.audit.damage import filled
from tests.contracts.world import arrival
from tests.store.test_unique_indexes import copy_row, make_older
from tests.support.daemons import a_daemon
from wad.daemon import _upgrade_progress
from wad.lib.signals import Signals
from wad.systemd.notify import Notifier


async def test_a_daemon_starts_on_an_older_file(tmp_path: Path) -> None:
    """What was stored twice shows once, is named in the log, and is a notice."""
    file = await filled(tmp_path / "state", arrival(1), arrival(2))
    make_older(file)
    copy_row(file, 1)
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        status = await daemon.call("status")
        assert any("stored twice" in problem["text"] for problem in status["problems"])
        log = daemon.log.read_text()
    assert "is stored twice and was marked as a duplicate" in log


class Stop:
    """Of `Signals` what is asked for."""

    stopped = False


def test_systemd_waits_while_a_file_is_upgraded(tmp_path: Path) -> None:
    """The time for the start is extended again and again, and STATUS= has the reason."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        signals = Stop()
        report = _upgrade_progress(notifier, cast(Signals, signals))
        assert report(12.4)
        assert systemd.recv(4096) == b"EXTEND_TIMEOUT_USEC=120000000"
        assert systemd.recv(4096) == b"STATUS=the store's file is being upgraded: 12 s so far"
        signals.stopped = True
        assert not report(13.4)
        notifier.close()
