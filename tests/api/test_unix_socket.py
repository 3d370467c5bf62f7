"""The file of the control socket: made whole, replaced only when stale, removed again."""

from __future__ import annotations

import grp
import logging
import os
import socket
import stat
from pathlib import Path

import pytest

from wad.api.control.unix_socket import listening
from wad.core.errors import AnotherDaemon, BadConfig, Conflict, StateUnwritable

GROUP = grp.getgrgid(os.getgid()).gr_name


def connect(path: Path) -> int:
    """The error number of a connect, 0 for none."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path))


def test_it_answers_where_it_should(path: Path) -> None:
    """A client can connect as soon as the file exists."""
    with listening(path, GROUP):
        assert connect(path) == 0


def test_mode_and_group(path: Path) -> None:
    """Owner and group may use it, others not."""
    with listening(path, GROUP):
        found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_gid == os.getgid()


def test_nothing_is_left(path: Path) -> None:
    """Neither the file nor a half-made one stays."""
    with listening(path, GROUP):
        assert os.listdir(path.parent) == [path.name]
    assert os.listdir(path.parent) == []


def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    """One directory, which others may pass through."""
    with listening(tmp_path / "run" / "wad.sock", GROUP):
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755


def test_a_stale_file_is_replaced(path: Path) -> None:
    """The socket file of a killed daemon is replaced."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listening(path, GROUP):
        assert connect(path) == 0


def test_a_living_daemon_is_respected(path: Path) -> None:
    """A second daemon ends with an error, and the first still answers."""
    with listening(path, GROUP):
        with pytest.raises(AnotherDaemon), listening(path, GROUP):
            pass
        assert connect(path) == 0


def test_a_full_queue_is_a_living_daemon(path: Path) -> None:
    """A daemon too busy to accept is not taken for dead."""
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(AnotherDaemon), listening(path, GROUP):
            pass


def test_another_kind_of_file_is_left_alone(path: Path) -> None:
    """A file that is not a socket is not replaced."""
    path.write_text("mine")
    with pytest.raises(Conflict, match="is not a socket"), listening(path, GROUP):
        pass
    assert path.read_text() == "mine"


def test_a_successors_file_stays(path: Path) -> None:
    """A daemon that ends late does not take its successor's socket away."""
    with listening(path, GROUP):
        path.unlink()
        path.write_text("the next one's")
    assert path.exists()


def test_a_name_that_ends_like_a_temporary_one(tmp_path: Path) -> None:
    """The temporary name never is the name itself."""
    with listening(tmp_path / "s~", GROUP):
        assert connect(tmp_path / "s~") == 0


def test_a_path_too_long(tmp_path: Path) -> None:
    """A path over the limit of Unix sockets is a configuration error."""
    with pytest.raises(BadConfig, match="107"), listening(tmp_path / ("x" * 120), GROUP):
        pass


def test_the_longest_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path of exactly 107 bytes works."""
    monkeypatch.chdir(tmp_path)
    path = Path("x" * 107)
    with listening(path, GROUP):
        assert connect(path) == 0


def test_an_invalid_location(tmp_path: Path) -> None:
    """The error names the directory that cannot be created."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StateUnwritable, match="file/wad"),
        listening(tmp_path / "file" / "wad.sock", GROUP),
    ):
        pass


def test_a_missing_group_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without the group it works for root and the daemon, and the log has the remedy."""
    with caplog.at_level(logging.WARNING), listening(path, "no-such-group"):
        assert connect(path) == 0
    assert "addgroup --system no-such-group" in caplog.text


def test_a_group_that_may_not_be_given(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the group cannot be set, the log has the remedy."""

    def refuse(*_: object) -> None:
        raise PermissionError

    other = next(each.gr_name for each in grp.getgrall() if each.gr_gid != os.getegid())
    monkeypatch.setattr(os, "chown", refuse)
    with caplog.at_level(logging.WARNING), listening(path, other):
        assert connect(path) == 0
    assert f"Group={other}" in caplog.text


def test_a_group_that_it_has_already(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the file has the group by itself, the system is not asked to change it: a unit's filter refuses that."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    with caplog.at_level(logging.WARNING), listening(path, GROUP):
        assert connect(path) == 0
    assert caplog.text == ""
