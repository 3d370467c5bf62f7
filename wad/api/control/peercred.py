"""Who is on the other end of a Unix socket, and what they may do: the kernel says so, nobody can pretend."""

from __future__ import annotations

import errno
import grp
import pwd
import re
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from wad.api.operation import Access

_UCRED: Final = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_SO_PEERGROUPS: Final = 59  # Linux 4.13; the socket module has no name for it
_GENERATIONS: Final = 100
_WORKER_GROUP: Final = re.compile(r"/worker-[^/\n]+$", re.MULTILINE)
"""As `wad.systemd.cgroups` names them; only in the unit's own tree does one of that name exist."""
_LARGEST: Final = 1024  # bytes that Python's getsockopt takes: 256 groups


class HasOptions(Protocol):
    """A socket, or asyncio's view of one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """As socket.socket.getsockopt."""
        ...


@dataclass(frozen=True, slots=True)
class Peer:
    """A process, as it was when it connected.  `groups` are its supplementary ones."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()


def peer_of(connection: HasOptions) -> Peer:
    """The process on the other end.  Raises OSError."""
    ucred = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(ucred)
    return Peer(pid, uid, gid, _groups(connection))


def _groups(connection: HasOptions) -> frozenset[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _LARGEST)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        return frozenset()  # more than 256: the group's own list of members decides
    return frozenset(struct.unpack(f"={len(raw) // 4}I", raw))


def access_of(peer: Peer, owner: int, group: str) -> Access:
    """What a peer may do; `owner` is the daemon's uid.

    Root, that user and the members of `group` may do everything; others may look, if the socket's mode let them in.
    May ask the system's user database (and so a directory service): not for the event loop.
    """
    if peer.uid in (0, owner) or _is_member(peer, group):
        return Access.ADMIN
    return Access.READ


def is_worker(pid: int, workers: Collection[int], proc: Path = Path("/proc")) -> bool:
    """Whether a process is a worker, was started by one, or lies in a worker's control group.

    A confined worker cannot come here at all: this is for a kernel or a container that does not filter its system
    calls.  Who is gone already counts as one, as nobody can tell any more; it needs no answer.  Pid 0 is a process that
    cannot be seen from here, in another container: no worker can hide like that.  A parent that cannot be seen is of
    another user (ProtectProc=invisible), and so are its own.
    """
    for generation in range(_GENERATIONS):
        if pid in workers:
            return True
        if pid <= 1:
            return False
        try:
            if _WORKER_GROUP.search((proc / str(pid) / "cgroup").read_text(errors="replace")):
                return True
            stat = (proc / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return not generation
        # Behind the name, which may hold blanks and parentheses (proc(5)).
        pid = int(stat.rpartition(")")[2].split()[1])
    return True


def _is_member(peer: Peer, group: str) -> bool:
    """Also by /etc/group alone: `adduser` helps at once, without a new login."""
    try:
        entry = grp.getgrnam(group)
    except KeyError:
        return False
    if entry.gr_gid == peer.gid or entry.gr_gid in peer.groups:
        return True
    try:
        return pwd.getpwuid(peer.uid).pw_name in entry.gr_mem
    except KeyError:
        return False
