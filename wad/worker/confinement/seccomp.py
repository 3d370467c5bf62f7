"""A filter of system calls: a seccomp program, made of rules that name calls and arguments.

Numbers: the kernel's tables for each machine.  On other machines there is no filter.  Arguments are compared by their
lower half, which is all that the kernel reads of an int.  A refused call fails with an error and does not kill: a
library that tries something else instead goes on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wad.worker.confinement.landlock import give_up_privileges

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data
_X32: Final = 0x40000000  # call numbers of another ABI of the same processor
_MACHINES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


@dataclass(frozen=True, slots=True)
class Is:
    """The argument has one of these values."""

    argument: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Has:
    """The argument has one of these bits."""

    argument: int
    bits: int


@dataclass(frozen=True, slots=True)
class IsNull:
    """The argument is a null pointer."""

    argument: int


@dataclass(frozen=True, slots=True)
class CallRule:
    """A call that fails with an error.

    `allowed_if`: it does not fail if all of these hold.  `refused_if`: it fails only if one of these holds.  Not both.
    """

    call: str
    error: int = errno.EPERM
    allowed_if: tuple[Is | Has | IsNull, ...] = ()
    refused_if: tuple[Is | Has, ...] = ()


NUMBERS: Final[dict[str, tuple[int | None, int | None]]] = {
    "add_key": (248, 217), "acct": (163, 89), "bpf": (321, 280), "chmod": (90, None),
    "chown": (92, None), "chroot": (161, 51), "clone": (56, 220), "clone3": (435, 435), "execve": (59, 221),
    "execveat": (322, 281), "fanotify_init": (300, 262), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "fchownat": (260, 54), "fcntl": (72, 25), "file_setattr": (469, 469), "fork": (57, None), "fsopen": (430, 430),
    "futimesat": (261, None), "get_robust_list": (274, 100), "inotify_init": (253, None), "inotify_init1": (294, 26),
    "io_setup": (206, 0), "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "io_uring_setup": (425, 425),
    "ioctl": (16, 29), "ioprio_set": (251, 30), "kcmp": (312, 272), "keyctl": (250, 219), "kill": (62, 129),
    "lchown": (94, None), "listen": (50, 201), "lremovexattr": (198, 15), "lsetxattr": (189, 6),
    "migrate_pages": (256, 238),
    "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429), "move_pages": (279, 239),
    "mq_open": (240, 180), "msgget": (68, 186), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "open_tree": (428, 428), "perf_event_open": (298, 241), "pidfd_getfd": (438, 438), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pivot_root": (155, 41), "prctl": (157, 167), "prlimit64": (302, 261),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "ptrace": (101, 117), "quotactl": (179, 60), "removexattr": (197, 14),
    "removexattrat": (466, 466), "request_key": (249, 218), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "sched_setaffinity": (203, 122), "sched_setattr": (314, 274),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "semget": (64, 190), "sendmmsg": (307, 269),
    "sendmsg": (46, 211), "sendto": (44, 206), "setns": (308, 268), "setpriority": (141, 140), "setxattr": (188, 5),
    "setxattrat": (463, 463), "shmat": (30, 196), "shmget": (29, 194), "socket": (41, 198), "socketpair": (53, 199),
    "tgkill": (234, 131), "tkill": (200, 130), "truncate": (76, 45), "umount2": (166, 39), "unshare": (272, 97),
    "userfaultfd": (323, 282), "utime": (132, None), "utimensat": (280, 88), "utimes": (235, None), "vfork": (58, None),
}  # fmt: skip
"""x86_64, aarch64; None if a machine has no such call."""


def program(rules: Iterable[CallRule], machine: str) -> bytes:
    """The filter: every call without a rule is allowed.  Raises NotImplementedError for an unknown machine."""
    if machine not in _MACHINES:
        raise NotImplementedError(f"no filter of system calls exists for {machine}")
    column = list(_MACHINES).index(machine)
    code = [
        _step(_LOAD, _MACHINE_AT), _step(_EQUAL, _MACHINES[machine], 1, 0), _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER_AT),
    ]  # fmt: skip
    if machine == "x86_64":
        code += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _ERRNO | errno.ENOSYS)]
    for rule in rules:
        number = NUMBERS[rule.call][column]
        if number is not None:
            body = _body(rule)
            code += [_step(_EQUAL, number, 0, len(body)), *body]
    return b"".join([*code, _step(_RETURN, _ALLOW)])


def install(code: bytes) -> None:
    """Install the filter for this thread and its children, permanently.  Raises OSError."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(code, len(code))
    given = Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    give_up_privileges()
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(given), 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _body(rule: CallRule) -> list[bytes]:
    """The steps for a call with this rule; they always return."""
    refuse, allow = _step(_RETURN, _ERRNO | rule.error), _step(_RETURN, _ALLOW)
    if rule.refused_if:
        return [*(step for test in rule.refused_if for step in _refused_if(test, refuse)), allow]
    if not rule.allowed_if:
        return [refuse]
    code = [allow]
    for test in reversed(rule.allowed_if):
        code = [*_continue_if(test, len(code)), *code]
    return [*code, refuse]


def _continue_if(test: Is | Has | IsNull, rest: int) -> list[bytes]:
    """Continue if it holds, else jump over the `rest` to the refusal."""
    match test:
        case Is(argument, values):
            # Each value jumps to the end of the list; the last one that differs jumps over the rest.
            last = len(values) - 1
            compared = [
                _step(_EQUAL, value, last - number, 0 if number < last else rest)
                for number, value in enumerate(values)
            ]
            return [_load(argument), *compared]
        case Has(argument, bits):
            return [_load(argument), _step(_ANY_BIT, bits, 0, rest)]
        case IsNull(argument):
            return [
                _load(argument), _step(_EQUAL, 0, 0, rest + 2),
                _load(argument, upper=True), _step(_EQUAL, 0, 0, rest),
            ]  # fmt: skip


def _refused_if(test: Is | Has, refuse: bytes) -> list[bytes]:
    match test:
        case Is(argument, values):
            code = [_load(argument)]
            for value in values:
                code += [_step(_EQUAL, value, 0, 1), refuse]
            return code
        case Has(argument, bits):
            return [_load(argument), _step(_ANY_BIT, bits, 0, 1), refuse]


def _load(argument: int, *, upper: bool = False) -> bytes:
    return _step(_LOAD, _ARGUMENTS_AT + 8 * argument + 4 * upper)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value & 0xFFFFFFFF)
