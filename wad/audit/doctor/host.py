"""Facts about the machine: mounts, owners, listeners.  Reads /proc and directories without judging."""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from wad.audit.doctor.facts import Directory, Listener, Mount

_LISTENING: Final = "0A"  # TCP_LISTEN of the kernel's include/net/tcp_states.h
_MAX_PATHS: Final = 20_000  # paths below a directory that are checked
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


# --- mounts ---------------------------------------------------------------------------------------


class _Mounted(NamedTuple):
    at: str
    kind: str
    read_only: bool


def mounts_of(paths: Iterable[Path], table: Path = Path("/proc/self/mountinfo")) -> list[Mount]:
    """The file system under each path, or under its nearest parent that exists."""
    mounted = list(parse_mounts(table.read_text("utf-8", "surrogateescape")))
    found = []
    for path in paths:
        real = path.resolve()
        # Not Path.exists(), which raises without access.
        there = next(each for each in (real, *real.parents) if os.path.exists(each))  # noqa: PTH110
        # Of two mounts on one path the later one is visible.
        best = max(
            (each for each in mounted if there.is_relative_to(each.at)),
            key=lambda each: len(each.at),
        )
        disk = os.statvfs(there)
        free = disk.f_bavail * disk.f_frsize // 1_000_000
        found.append(Mount(str(real), best.at, best.kind, best.read_only, free))
    return found


def parse_mounts(text: str) -> Iterator[_Mounted]:
    """The mounts of /proc/self/mountinfo (proc(5)), the latest first."""
    for line in reversed(text.splitlines()):
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) < 6 or not rest:
            continue
        options = {*fields[5].split(","), *(rest[2].split(",") if len(rest) > 2 else ())}
        at = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
        yield _Mounted(at, rest[0], "ro" in options)


# --- owners ---------------------------------------------------------------------------------------


def owner_of(pid: int) -> int | None:
    """The user that a process runs as."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


def user_id(name: str) -> int | None:
    """A user's id; None if the user does not exist."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def user_name(uid: int | None) -> str:
    """A user's name, or the id if it has no name; empty for None."""
    if uid is None:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def directory(path: Path, uid: int | None) -> Directory:
    """Check a directory and everything below: paths that the user does not own, and paths that others may read.

    Others may read nothing if they may not enter the directory.
    """
    try:
        top = path.stat()
    except PermissionError:
        return Directory(str(path), exists=True, hidden=True)
    except OSError:
        return Directory(str(path), exists=False)
    foreign, exposed = [], []
    entered = bool(top.st_mode & 0o077)
    for each in islice(_all_below(path), _MAX_PATHS):
        try:
            found = each.lstat()
        except FileNotFoundError:
            continue  # deleted meanwhile
        if uid is not None and found.st_uid != uid:
            foreign.append(str(each))
        if entered and found.st_mode & 0o077 and not stat.S_ISLNK(found.st_mode):
            exposed.append(str(each))
    return Directory(
        str(path), True, user_name(top.st_uid), stat.S_IMODE(top.st_mode), tuple(foreign), tuple(exposed)
    )  # fmt: skip


def _all_below(path: Path) -> Iterator[Path]:
    yield path
    for where, directories, files in os.walk(path):
        for name in sorted([*directories, *files]):
            yield Path(where, name)


# --- listeners ------------------------------------------------------------------------------------


def http_processes(proc: Path = Path("/proc")) -> list[int]:
    """The HTTP processes of wad, by their command lines."""
    found = []
    for each in proc.iterdir():
        if each.name.isdecimal():
            arguments = _read(each / "cmdline").split("\0")
            if ["-m", "wad.http"] in (arguments[1:3], arguments[2:4]):
                found.append(int(each.name))
    return found


def listeners(first: Collection[int], proc: Path = Path("/proc")) -> list[Listener]:
    """The listening TCP sockets; the processes `first` are checked before all others."""
    sockets = {
        inode: (address, port)
        for name in ("tcp", "tcp6")
        for inode, address, port in parse_sockets(_read(proc / "net" / name))
    }
    pids = sorted(int(each.name) for each in proc.iterdir() if each.name.isdecimal())
    pids.sort(key=lambda pid: pid not in first)
    owners: dict[str, int] = {}
    for pid in pids:
        for inode in _inodes(proc / str(pid) / "fd") & sockets.keys():
            owners.setdefault(inode, pid)
    return [
        Listener(port, address, owners.get(inode), _command(proc, owners.get(inode)))
        for inode, (address, port) in sockets.items()
    ]


def parse_sockets(text: str) -> Iterator[tuple[str, str, int]]:
    """Inode, address and port of each listening socket in /proc/net/tcp or tcp6 (proc(5))."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENING:
            address, _, port = fields[1].partition(":")
            yield fields[9], _address(address), int(port, 16)


def _address(text: str) -> str:
    """Parse an address, whose 32-bit words the kernel prints in the machine's own byte order."""
    raw = bytes.fromhex(text)
    words = [raw[at : at + 4][::-1] for at in range(0, len(raw), 4)]
    return str(ipaddress.ip_address(b"".join(words)))


def _inodes(directory: Path) -> set[str]:
    """The sockets that a process has open; none without access, or if it has ended."""
    found = set()
    try:
        for each in directory.iterdir():
            target = str(each.readlink())
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        return found
    return found


def _command(proc: Path, pid: int | None) -> str:
    return "" if pid is None else _read(proc / str(pid) / "comm").strip()


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
