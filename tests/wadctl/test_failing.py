"""How wadctl ends when something is wrong: exit codes, sentences, no tracebacks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.wadctl_world import COMMAND, Served, environment, run
from wad.core.errors import BadInput, DaemonDown, Denied, WadError
from wad.core.wire import HELLO, Response, encode
from wadctl.__main__ import root
from wadctl.client import Client


@pytest.mark.parametrize("kind", WadError.by_code.values(), ids=WadError.by_code)
def test_an_error_has_its_exit_code(world: Served, kind: type[WadError]) -> None:
    """The code of the error's class, and its sentence and hint on stderr."""

    def fail(ref: str) -> None:
        raise kind("it is so", hint="do this")

    world.do(lambda d: setattr(d.accounts, "find", fail))
    result = run(world, "account", "show", "x")
    assert result.exit_code == kind.exit_code
    assert result.stderr == "wadctl: it is so\nhint: do this\n"
    assert result.stdout == ""


def test_an_error_as_json(world: Served) -> None:
    """One document on stdout, with the code that never changes."""
    result = run(world, "account", "show", "zz", "--json")
    assert json.loads(result.stdout) == {
        "ok": False,
        "error": {
            "code": "unknown_account",
            "message": "there is no account 'zz'",
            "hint": "wadctl account list",
        },
    }


def test_no_daemon(tmp_path: Path) -> None:
    """Exit 3, and where to look."""
    result = CliRunner().invoke(root, ["--socket", str(tmp_path / "none"), "status"])
    assert result.exit_code == 3
    assert "systemctl status wad" in result.stderr


def test_version_needs_no_daemon(tmp_path: Path) -> None:
    """It says its own, and why it does not know the other."""
    result = CliRunner().invoke(root, ["--socket", str(tmp_path / "none"), "version", "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["client"], document["daemon"]) == ("0.1.0", None)
    assert "no daemon answers" in document["error"]


def test_a_dead_socket(tmp_path: Path) -> None:
    """A socket file without a listener counts as no daemon."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    assert CliRunner().invoke(root, ["--socket", str(tmp_path / "s"), "status"]).exit_code == 3


def test_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 7, and how to get it."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    result = CliRunner().invoke(root, ["status"], env={"USER": "ann"})
    assert result.exit_code == 7
    assert "adduser ann wad" in result.stderr


class Late(Client):
    """Asks only after the daemon, here `listener`, has sent `last_frames` and hung up."""

    def __init__(self, listener: socket.socket, last_frames: bytes) -> None:
        super().__init__(listener.getsockname())
        self._listener, self._last_frames = listener, last_frames

    def _connect(self) -> socket.socket:
        sock = super()._connect()
        other, _ = self._listener.accept()
        with other:
            other.sendall(self._last_frames)
        return sock


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A listening socket without a daemon."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        yield sock


def test_a_daemon_that_does_not_answer(listener: socket.socket) -> None:
    """Exit 8 after --timeout; it says that it may have been done."""
    arguments = ["--socket", listener.getsockname(), "--timeout", "0.1", "account", "list"]
    result = CliRunner().invoke(root, arguments)
    assert result.exit_code == 8
    assert "may or may not" in result.stderr


def test_a_refusal_before_the_question(listener: socket.socket) -> None:
    """A daemon that refuses and hangs up at once is still understood."""
    refusal = encode(HELLO) + encode(Response(0, Denied("not you"), None))
    with Late(listener, refusal) as client, pytest.raises(Denied, match="not you"):
        client.call("status")


def test_a_daemon_that_hangs_up(listener: socket.socket) -> None:
    """One that ends before it answers is down, and what was asked may have been done."""
    with Late(listener, b"") as client, pytest.raises(DaemonDown, match="may or may not"):
        client.call("accounts.stop", {"account": "acc-1"})


def test_a_daemon_with_another_protocol(listener: socket.socket) -> None:
    """Invalid frames are an error, not a traceback."""
    with Late(listener, b"HTTP/1.1 200 OK") as client, pytest.raises(BadInput):
        client.call("status")


def test_an_unknown_command_is_a_usage_error(world: Served) -> None:
    """Click's own exit code."""
    assert run(world, "fly").exit_code == 2


def test_the_socket_option_wins(world: Served, tmp_path: Path) -> None:
    """Over the environment."""
    env = {"WAD_SOCKET": str(tmp_path / "none")}
    arguments = ["--socket", str(world.socket), "account", "list"]
    assert CliRunner().invoke(root, arguments, env=env).exit_code == 0


def test_a_closed_pipe_is_quiet(world: Served) -> None:
    """`wadctl ... | head -1` ends without a traceback."""
    world.do(lambda d: d.bus.publish("state", "connected"))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        env = environment(world.socket)
        done = subprocess.run([*COMMAND, "events"], env=env, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
