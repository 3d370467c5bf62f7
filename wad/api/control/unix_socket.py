"""Creates a listening Unix socket atomically.

It is bound under a temporary name, gets its mode and group, begins to listen, and is then renamed into place: as soon
as the file exists, clients can connect, and the stale file of a dead daemon is replaced in one step.
"""

from __future__ import annotations

import errno
import grp
import logging
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from wad.core.errors import AnotherDaemon, BadConfig, Conflict, StateUnwritable

log = logging.getLogger(__name__)

BACKLOG: Final = 1024  # clients that wait to be accepted
_LONGEST: Final = 107  # bytes of a path in sockaddr_un


@contextmanager
def listening(path: Path, group: str) -> Iterator[socket.socket]:
    """A socket that listens at `path`, for its owner and `group`; its file is removed when the block ends.

    Raises AnotherDaemon, Conflict (the path is another kind of file), BadConfig, StateUnwritable.
    """
    if len(os.fsencode(path)) > _LONGEST:
        raise BadConfig(
            f"the path of the control socket is longer than {_LONGEST} bytes: {path}",
            hint="set control.socket to a shorter one",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        try:
            ours = _create(sock, path, group)
        except OSError as error:
            raise StateUnwritable(
                f"cannot create the control socket {path}: {error.strerror}",
                hint="set control.socket to a path in a directory that the daemon's user may write",
            ) from error
        try:
            yield sock
        finally:
            _remove(path, ours)


def _create(sock: socket.socket, path: Path, group: str) -> tuple[int, int]:
    """Bind, prepare and rename the socket; return the device and inode of its file."""
    _make_directory(path.parent)
    _refuse_taken(path)
    temporary = _temporary(path)
    temporary.unlink(missing_ok=True)
    sock.bind(os.fspath(temporary))
    try:
        _give_to_group(temporary, group)
        temporary.chmod(0o660)
        sock.listen(BACKLOG)
        found = temporary.lstat()
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return found.st_dev, found.st_ino


def _temporary(path: Path) -> Path:
    """A temporary name of the same length, so that the limit of the path is the same."""
    return path.with_name(path.name[:-1] + ("#" if path.name.endswith("~") else "~"))


def _make_directory(directory: Path) -> None:
    if not directory.exists():
        directory.mkdir()
        directory.chmod(0o755)  # whatever the umask is: the group's members must reach the socket


def _refuse_taken(path: Path) -> None:
    """Raise AnotherDaemon when a process listens at `path`, Conflict when it is not a socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"{path} exists and is not a socket", hint=f"check it: ls -l {path}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        answer = probe.connect_ex(os.fspath(path))
    # EAGAIN: its queue is full, so a process listens; any other error means that none does.
    if answer in (0, errno.EAGAIN):
        raise AnotherDaemon(
            f"another daemon listens on {path}",
            hint="wadctl status shows it; two daemons need two values of control.socket",
        )


def _give_to_group(path: Path, group: str) -> None:
    try:
        wanted = grp.getgrnam(group).gr_gid
        # Under systemd with Group= it has that group already, and the unit's system call filter refuses chown.
        if path.stat().st_gid != wanted:
            os.chown(path, -1, wanted)
    except KeyError:
        log.warning(
            "group %r does not exist: only root and the daemon's user can use wadctl, until addgroup --system %s",
            group,
            group,
        )
    except PermissionError:
        log.warning(
            "the control socket cannot be given to group %r; add the daemon's user to it, or start wad"
            " by systemd with Group=%s",
            group,
            group,
        )


def _remove(path: Path, ours: tuple[int, int]) -> None:
    """Remove the socket's file unless another daemon has replaced it."""
    try:
        found = path.lstat()
        if (found.st_dev, found.st_ino) == ours:
            path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("cannot remove the control socket %s: %s", path, error.strerror)
