"""What systemd hands over when it starts us: sockets, and the name of the start."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from wad.systemd.activation import invocation, passed_sockets, started


@pytest.fixture
def passed() -> Iterator[tuple[int, list[socket.socket]]]:
    """Two listening sockets at neighbouring numbers, as systemd passes them; the first number, and the sockets."""
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    first = 200
    for offset, sock in enumerate(made):
        os.dup2(sock.fileno(), first + offset, inheritable=True)
    yield first, made
    for sock in made:
        sock.close()


def closed(found: dict[str, list[socket.socket]]) -> None:
    """Close what was found."""
    for socks in found.values():
        for sock in socks:
            sock.close()


def test_sockets_come_by_name(passed: tuple[int, list[socket.socket]]) -> None:
    """Each has the FileDescriptorName= of its unit, and listens on systemd's address."""
    first, made = passed
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "control:http"}
    found = passed_sockets(environ, 7, first)
    bound = {name: [sock.getsockname() for sock in socks] for name, socks in found.items()}
    closed(found)
    assert bound == {"control": [made[0].getsockname()], "http": [made[1].getsockname()]}


def test_no_child_inherits_them(passed: tuple[int, list[socket.socket]]) -> None:
    """A worker that inherited the port would keep it after the daemon's end; none takes LISTEN_PID for its own."""
    first, _ = passed
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "control:http", "HOME": "/"}
    found = passed_sockets(environ, 7, first)
    inherited = [os.get_inheritable(first), os.get_inheritable(first + 1)]
    closed(found)
    assert inherited == [False, False]
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "8", "LISTEN_FDS": "1"},
        {"LISTEN_PID": "7", "LISTEN_FDS": "many"},
        {"LISTEN_PID": "7"},
    ],
    ids=["nothing", "another process", "no number", "no count"],
)
def test_sockets_for_another_process_are_ignored(environ: dict[str, str]) -> None:
    """A program started from a service's shell sees the variables of that service."""
    assert passed_sockets(environ, 7) == {}


def test_sockets_without_names_come_under_none(passed: tuple[int, list[socket.socket]]) -> None:
    """Without names no listener uses a socket."""
    first, _ = passed
    found = passed_sockets({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, 7, first)
    names = set(found)
    closed(found)
    assert names == {""}


def test_the_name_of_this_start() -> None:
    """systemd's invocation id, if it started this very process."""
    assert invocation({"INVOCATION_ID": "ab12", "SYSTEMD_EXEC_PID": "7"}, 7) == "ab12"


@pytest.mark.parametrize(
    "environ",
    [{}, {"INVOCATION_ID": "ab12"}, {"INVOCATION_ID": "ab12", "SYSTEMD_EXEC_PID": "8"}],
    ids=["no systemd", "an old systemd", "a shell of systemd's"],
)
def test_no_name_where_another_process_was_started(environ: dict[str, str]) -> None:
    """The id of a session's unit would stay the same through our restarts."""
    assert invocation(environ, 7) == ""


def test_a_start_without_systemd_has_no_sockets() -> None:
    """Then every interface opens its own socket."""
    start = started({}, 7)
    assert (start.invocation, start.sockets("http")) == ("", ())
