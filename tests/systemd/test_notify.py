"""Notifications to systemd, over a real socket."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wad.systemd.notify import Notifier, watchdog_interval


class Systemd:
    """The service manager's end of the notification socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(10)

    def received(self) -> bytes:
        return self.socket.recv(4096)


@pytest.fixture(params=["a path", "an abstract name"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    """A socket of either kind that systemd may hand out."""
    path = request.param == "a path"
    manager = Systemd(str(tmp_path / "notify") if path else f"@wad-test-{os.getpid()}")
    yield manager
    manager.socket.close()


@pytest.fixture
def notifier(systemd: Systemd) -> Iterator[Notifier]:
    """A notifier connected to it."""
    notifier = Notifier({"NOTIFY_SOCKET": systemd.address})
    yield notifier
    notifier.close()


def test_ready_is_said(systemd: Systemd, notifier: Notifier) -> None:
    """READY=1 lets the units that wait for us start."""
    notifier.ready()
    assert systemd.received() == b"READY=1"


def test_watchdog_is_fed(systemd: Systemd, notifier: Notifier) -> None:
    """WATCHDOG=1 is the sign of life."""
    notifier.watchdog()
    assert systemd.received() == b"WATCHDOG=1"


def test_stopping_is_said(systemd: Systemd, notifier: Notifier) -> None:
    """STOPPING=1 marks an intended end."""
    notifier.stopping()
    assert systemd.received() == b"STOPPING=1"


def test_more_time_is_asked_for_in_microseconds(systemd: Systemd, notifier: Notifier) -> None:
    """EXTEND_TIMEOUT_USEC moves the deadline of a slow start or stop."""
    notifier.extend_timeout(5_000_000)
    assert systemd.received() == b"EXTEND_TIMEOUT_USEC=5000000"


def test_status_is_sent_as_utf8(systemd: Systemd, notifier: Notifier) -> None:
    """Names that are not Latin arrive as they are."""
    notifier.status("2 conturi, ştefan ✓")
    assert systemd.received().decode() == "STATUS=2 conturi, ştefan ✓"


def test_status_cannot_forge_another_message(systemd: Systemd, notifier: Notifier) -> None:
    """A line end inside of the text does not begin a new assignment."""
    notifier.status("fine\nMAINPID=1")
    assert systemd.received() == b"STATUS=fine MAINPID=1"


def test_notify_socket_is_not_left_for_children(systemd: Systemd) -> None:
    """Only the main process notifies systemd."""
    environ = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1"}
    Notifier(environ).close()
    assert environ == {"WATCHDOG_USEC": "1"}


def test_a_child_sees_no_notify_socket(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real environment is cleaned as well."""
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
    Notifier(os.environ).close()
    script = "import os; print(os.environ.get('NOTIFY_SOCKET'))"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert child.stdout == b"None\n"


def test_another_environment_leaves_the_real_one_alone(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the mapping that was passed loses the variable."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/elsewhere")
    Notifier({"NOTIFY_SOCKET": systemd.address}).close()
    assert os.environ["NOTIFY_SOCKET"] == "/elsewhere"


def test_outside_systemd_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    """Without the variable every call is silent."""
    notifier = Notifier({})
    notifier.ready()
    notifier.status("x")
    notifier.close()
    assert caplog.records == []


def test_a_socket_out_of_reach_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong address does not keep the daemon from starting, and is not hidden."""
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")}).ready()
    assert "is unreachable" in caplog.text


def test_a_message_that_is_lost_is_logged(
    systemd: Systemd, notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    """If systemd closes its end, the caller continues and the loss is logged."""
    systemd.socket.close()
    notifier.watchdog()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "cannot send WATCHDOG=1 to systemd" in caplog.text


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval_is_half_of_what_is_allowed_to_us(
    environ: dict[str, str], seconds: float | None
) -> None:
    """Half of WATCHDOG_USEC in seconds, if it is meant for this process."""
    assert watchdog_interval(environ, pid=7) == seconds
