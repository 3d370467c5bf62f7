"""The kernel's Landlock: a process drops its own rights to files, ports and signals, for itself and its children.

A kernel's ABI, a number, tells what it can restrict; each adds to the previous one (include/uapi/linux/landlock.h):

    1  files, by what is done with them       4  binding and connecting TCP ports      6  abstract sockets, signals
    2  moving between directories             5  ioctl on devices                      7 and later: nothing for us
    3  truncating

A rule names an inode, not a path: a file that is replaced by a rename is another one.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Collection, Iterable
from enum import IntFlag
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls; the same numbers on every architecture
_VERSION: Final = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH, _PORT = 1, 2  # kinds of rules
_CONNECT_TCP: Final = 1 << 1
_TCP: Final = 0b11  # includes binding: no rule ever allows it
_SCOPES: Final = 0b11  # abstract sockets and signals, to processes outside
_PR_SET_NO_NEW_PRIVS: Final = 38


class Right(IntFlag):
    """An operation on a file or below a directory (LANDLOCK_ACCESS_FS_*)."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_OF_A_FILE: Final = (
    Right.EXECUTE | Right.WRITE_FILE | Right.READ_FILE | Right.TRUNCATE | Right.IOCTL_DEV
)
"""The kernel accepts no others in a rule for a path that is not a directory."""


class PathRule(NamedTuple):
    """The rights to a path, and to everything below it."""

    path: Path
    rights: Right


def abi() -> int:
    """The kernel's ABI; 0: it has no Landlock, it is switched off, or a filter of system calls forbids it."""
    try:
        return _call(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    except OSError:
        return 0


def handled(level: int) -> Right:
    """The file rights that a kernel of this ABI can restrict."""
    found = Right((1 << 13) - 1)
    for since, right in ((2, Right.REFER), (3, Right.TRUNCATE), (5, Right.IOCTL_DEV)):
        if level >= since:
            found |= right
    return found


def restrict(rules: Iterable[PathRule], ports: Collection[int], level: int) -> None:
    """Drop all rights except these, for this thread and its children, permanently.

    `level`: the ABI, at most `abi()` and at least 1.  `ports`: TCP ports that may be connected to.  A rule for a path
    that is missing or invisible is left out.  Raises OSError; then no right was dropped.
    """
    ruleset = _create(level)
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & handled(level))
        if level >= 4:
            for port in sorted(ports):
                _call(_ADD, ruleset, _PORT, struct.pack("=QQ", _CONNECT_TCP, port), 0)
        give_up_privileges()
        _call(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def give_up_privileges() -> None:
    """Ensure that no started program gets more rights than this process has.  Raises OSError."""
    if _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _error()


def _create(level: int) -> int:
    words = [int(handled(level))]
    if level >= 4:
        words.append(_TCP)
    if level >= 6:
        words.append(_SCOPES)
    attributes = struct.pack(f"={len(words)}Q", *words)
    return _call(_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))


def _allow(ruleset: int, path: Path, rights: Right) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_A_FILE
        if rights:
            _call(_ADD, ruleset, _PATH, struct.pack("=Qi", int(rights), fd), 0)
    finally:
        os.close(fd)


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _call(number: int, *arguments: object) -> int:
    found = int(_libc().syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        raise _error()
    return found


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
