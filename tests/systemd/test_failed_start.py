"""What a process that systemd started does when it cannot go on: the reason, the sockets, the pause."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from wad.core.errors import BadConfig, StartFailed, StateUnwritable
from wad.systemd.activation import CONTROL, HTTP, Start
from wad.systemd.failed_start import (
    FailedStarts,
    Supervisor,
    announce,
    announced,
    runtime_directory,
)
from wad.systemd.notify import Notifier
from wadctl.client import Client

MISTAKE = BadConfig("/etc/wad/wad.toml:12: http.port must be a whole number")
FULL = StateUnwritable("/var/lib/wad: no space left on device")


class Systemd:
    """A model of systemd: it receives notifications, and holds one socket of each kind as a socket unit does."""

    def __init__(self, directory: Path) -> None:
        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notifications.bind(str(directory / "notify"))
        self.notifications.setblocking(False)
        self.path = directory / "control.sock"
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.control.bind(str(self.path))
        self.control.listen()
        self.http = socket.create_server(("127.0.0.1", 0))
        self.held = [self.control, self.http]
        self.passed = [sock.dup() for sock in self.held]
        for sock in self.passed:
            sock.setblocking(False)
        self.supervisor = Supervisor(
            Start("an invocation", {CONTROL: self.passed[:1], HTTP: self.passed[1:]}),
            Notifier({"NOTIFY_SOCKET": str(directory / "notify")}),
        )

    def messages(self) -> list[str]:
        """The notifications so far."""
        found = []
        while select.select([self.notifications], [], [], 0)[0]:
            found.append(self.notifications.recv(4096).decode())
        return found

    def hung_up(self) -> list[bool]:
        """Of each socket whether systemd, which polls it, finds it shut down."""
        poll = select.poll()
        for sock in self.held:
            poll.register(sock, select.POLLIN)
        found = dict(poll.poll(0))
        return [bool(found.get(sock.fileno(), 0) & select.POLLHUP) for sock in self.held]

    def close(self) -> None:
        """Close all."""
        self.supervisor.notifier.close()
        for sock in (*self.held, *self.passed, self.notifications):
            sock.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """It started us."""
    made = Systemd(tmp_path)
    yield made
    made.close()


def fail(
    systemd: Systemd, error: Exception, starts: FailedStarts, lasted: float = 0
) -> list[float]:
    """End with this error; the pauses, in seconds."""
    slept: list[float] = []
    announce(error, systemd.supervisor, starts, lasted=lasted, sleep=slept.append)
    return slept


# --- mistakes -------------------------------------------------------------------------------------


def test_a_mistake_shuts_every_socket_down(systemd: Systemd, tmp_path: Path) -> None:
    """systemd then fails their units, and a connection does not start wad again."""
    assert systemd.hung_up() == [False, False]
    assert fail(systemd, MISTAKE, FailedStarts(tmp_path)) == []
    assert systemd.hung_up() == [True, True]
    assert systemd.messages() == [f"STATUS=does not start: {MISTAKE}"]
    address = systemd.http.getsockname()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_clients_of_the_control_socket_get_the_reason(systemd: Systemd, tmp_path: Path) -> None:
    """As an answer, so that it needs neither systemctl nor the journal."""
    waiting = [Client(str(systemd.path), 20) for _ in range(3)]
    streams = [client.stream("status") for client in waiting]
    fail(systemd, MISTAKE, FailedStarts(tmp_path))
    for stream in streams:
        with pytest.raises(StartFailed, match=r"wad does not start: /etc/wad/wad\.toml:12: ") as e:
            stream.next(20)
        assert "systemctl restart wad" in e.value.hint
    for client in waiting:
        client.close()


# --- what can heal --------------------------------------------------------------------------------


def test_a_temporary_error_keeps_the_sockets_and_backs_off(
    systemd: Systemd, tmp_path: Path
) -> None:
    """From one process to the next; the first failure is tried again at once."""
    pauses, messages = [], []
    for _ in range(5):
        pauses.append(sum(fail(systemd, FULL, FailedStarts(tmp_path))))
        messages += systemd.messages()
    assert pauses == [0, 1, 2, 4, 8]
    assert systemd.hung_up() == [False, False]
    assert f"STATUS=cannot start: {FULL} (next try in 8 s)" in messages
    assert messages.count("WATCHDOG=1") == 5  # 1, 1, 1, and two for the eight seconds
    assert "EXTEND_TIMEOUT_USEC=18000000" in messages


def test_a_process_that_lasted_begins_to_count_anew(systemd: Systemd, tmp_path: Path) -> None:
    """After a stable minute, as it is with accounts."""
    for _ in range(4):
        fail(systemd, FULL, FailedStarts(tmp_path))
    assert fail(systemd, FULL, FailedStarts(tmp_path), lasted=60) == []
    assert fail(systemd, FULL, FailedStarts(tmp_path)) == [1]


@pytest.mark.parametrize("content", [b"", b"seven", b"-3", b"9" * 100, b"\xff\xfe", b"1e9"])
def test_a_count_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    """Whatever process wrote it."""
    (tmp_path / "failed-starts").write_bytes(content)
    assert FailedStarts(tmp_path).count(lasted=False) in (0, int("9" * 20))


def test_a_count_of_another_day_is_none(tmp_path: Path) -> None:
    """Nothing has failed since."""
    FailedStarts(tmp_path).count(lasted=False)
    assert FailedStarts(tmp_path).count(lasted=False) == 1
    os.utime(tmp_path / "failed-starts", (1, 1))
    assert FailedStarts(tmp_path).count(lasted=False) == 0


def test_without_a_runtime_directory_nothing_is_counted(systemd: Systemd) -> None:
    """A drop-in may remove RuntimeDirectory=; systemd's own pause remains."""
    starts = FailedStarts(runtime_directory({}))
    assert [fail(systemd, FULL, starts) for _ in range(3)] == [[], [], []]


def test_a_stop_ends_the_pause(systemd: Systemd, tmp_path: Path) -> None:
    """With exit code 0, since systemd ordered it."""
    fail(systemd, FULL, FailedStarts(tmp_path))

    def stopped(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        announce(FULL, systemd.supervisor, FailedStarts(tmp_path), lasted=0, sleep=stopped)
    assert end.value.code == 0


def test_of_several_errors_at_once_the_first_is_named(systemd: Systemd, tmp_path: Path) -> None:
    """A group of tasks fails as one."""
    fail(systemd, ExceptionGroup("tasks", [FULL, ValueError("x")]), FailedStarts(tmp_path))
    assert systemd.messages() == [f"STATUS=cannot start: {FULL} (next try in 0 s)"]


# --- by hand --------------------------------------------------------------------------------------


def test_started_by_hand_it_just_ends(tmp_path: Path) -> None:
    """The error is printed and raised, without a pause."""
    complained: list[Exception] = []
    environ = {"RUNTIME_DIRECTORY": str(tmp_path)}
    with pytest.raises(BadConfig), announced(environ, os.getpid(), complained.append):
        raise MISTAKE
    assert complained == [MISTAKE]
    assert not [*tmp_path.iterdir()]
