"""Peer credentials of a Unix socket, as the kernel reports them, and the access that they give."""

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
"""The names that `wad.systemd.cgroups` gives; such groups exist only below the unit's own."""
_LARGEST: Final = 1024  # bytes that Python's getsockopt takes: 256 groups


class HasOptions(Protocol):
    """A socket, or asyncio's wrapper of one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """The same as socket.socket.getsockopt."""
        ...


@dataclass(frozen=True, slots=True)
class Peer:
    """A process at the time when it connected.  `groups` are its supplementary groups."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()


def peer_of(connection: HasOptions) -> Peer:
    """The process at the other end of a connection.  Raises OSError."""
    ucred = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(ucred)
    return Peer(pid, uid, gid, _groups(connection))


def _groups(connection: HasOptions) -> frozenset[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _LARGEST)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        return frozenset()  # more than 256: membership is read from the group database
    return frozenset(struct.unpack(f"={len(raw) // 4}I", raw))


def access_of(peer: Peer, owner: int, group: str) -> Access:
    """The access level of a peer; `owner` is the daemon's uid.

    Root, the daemon's user and the members of `group` have full access; other users may read, if the socket's mode lets
    them connect.  It may query the user database, and so a directory service: do not call it in the event loop.
    """
    if peer.uid in (0, owner) or _is_member(peer, group):
        return Access.ADMIN
    return Access.READ


def is_worker(pid: int, workers: Collection[int], proc: Path = Path("/proc")) -> bool:
    """Whether a process is a worker, was started by one, or is in a worker's control group.

    A confined worker cannot connect at all: this check is for a kernel or a container that does not filter its system
    calls.  A process that has ended counts as a worker, since nothing is known of it, and needs no reply.  Pid 0 is a
    process in another container, which a worker cannot be.  A parent that is not visible belongs to another user
    (ProtectProc=invisible), and so do its own parents.
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
        # The fields after the name, which may hold blanks and parentheses (proc(5)).
        pid = int(stat.rpartition(")")[2].split()[1])
    return True


def _is_member(peer: Peer, group: str) -> bool:
    """Whether the peer is a member; /etc/group counts, too, so that `adduser` works without a new login."""
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
