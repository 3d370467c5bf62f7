"""Who may use the control socket: the kernel's word and the group's members; others look."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket

import pytest

from wad.api.operation import Access
from wad.api.peer import Peer, access_of, peer_of

OWNER = 4242
GROUP = grp.getgrgid(os.getgid())
NOBODYS = 60_000
"""A user and group id that the test machine gives to nobody."""


def peer(uid: int = NOBODYS, gid: int = NOBODYS, *groups: int) -> Peer:
    """A process of these ids."""
    return Peer(1, uid, gid, frozenset(groups))


def test_the_kernel_names_the_other_end() -> None:
    """Process, user and groups are our own where we connect to ourselves."""
    one, other = socket.socketpair()
    with one, other:
        found = peer_of(one)
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert found.groups == frozenset(os.getgroups())


class ManyGroups:
    """A socket whose peer is in more groups than fit."""

    def __init__(self, number: int) -> None:
        self.number = number

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """ucred, then an error."""
        if optname == socket.SO_PEERCRED:
            return bytes(buflen)
        raise OSError(self.number, os.strerror(self.number))


def test_too_many_groups_are_none() -> None:
    """A peer with more groups than the kernel can tell is judged by the group's own list."""
    assert peer_of(ManyGroups(errno.ERANGE)).groups == frozenset()


def test_a_kernel_that_does_not_tell_is_an_error() -> None:
    """Nothing is assumed of a peer that is not known."""
    with pytest.raises(OSError, match="supported"):
        peer_of(ManyGroups(errno.EOPNOTSUPP))


@pytest.mark.parametrize("uid", [0, OWNER])
def test_root_and_the_daemons_user_may_all(uid: int) -> None:
    """They need no group."""
    assert access_of(peer(uid), OWNER, "no-such-group") is Access.ADMIN


def test_a_primary_member_may_all() -> None:
    """The group as the process's own."""
    assert access_of(peer(NOBODYS, GROUP.gr_gid), OWNER, GROUP.gr_name) is Access.ADMIN


def test_a_supplementary_member_may_all() -> None:
    """The group as one of several."""
    found = access_of(peer(NOBODYS, NOBODYS, 1, GROUP.gr_gid), OWNER, GROUP.gr_name)
    assert found is Access.ADMIN


def test_a_listed_member_may_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group's own list counts before the next login."""
    name = pwd.getpwall()[-1].pw_name
    listed = grp.struct_group((GROUP.gr_name, "x", NOBODYS + 1, [name]))
    monkeypatch.setattr(grp, "getgrnam", lambda _: listed)
    assert access_of(peer(pwd.getpwnam(name).pw_uid), -1, GROUP.gr_name) is Access.ADMIN


def test_a_stranger_may_look() -> None:
    """Also one whose id the system does not know."""
    assert access_of(peer(), OWNER, GROUP.gr_name) is Access.READ


def test_a_group_that_does_not_exist_has_no_members() -> None:
    """Then root and the daemon's user alone change things."""
    assert access_of(peer(), OWNER, "no-such-group") is Access.READ
