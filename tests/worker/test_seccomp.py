"""The filter of system calls, run by a small interpreter: for every machine that it supports."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.worker.confinement import rules, seccomp
from wad.worker.confinement.seccomp import NUMBERS

PID = 4711
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOWED, KILLED = "allowed", "killed"


def run(code: bytes, machine: int, number: int, arguments: tuple[int, ...] = ()) -> str | int:
    """The filter's result for a call: allowed, killed, or an error's number."""
    words = [each & (1 << 64) - 1 for each in (*arguments, *[0] * 6)[:6]]
    data = struct.pack("=IIQ6Q", number, machine, 0, *words)
    steps = list(struct.iter_unpack("=HBBI", code))
    at, held = 0, 0
    while True:
        what, if_true, if_false, value = steps[at]
        at += 1
        match what:
            case 0x20:
                (held,) = struct.unpack_from("=I", data, value)
            case 0x15:
                at += if_true if held == value else if_false
            case 0x35:
                at += if_true if held >= value else if_false
            case 0x45:
                at += if_true if held & value else if_false
            case 0x06:
                if value == 0x7FFF0000:
                    return ALLOWED
                return value & 0xFFFF if value >> 16 == 0x0005 else KILLED
            case _:
                raise AssertionError(what)


def said(machine: str, call: str, *arguments: int, network: bool = True) -> str | int | None:
    """The result of the worker's filter; None if the machine has no such call."""
    number = NUMBERS[call][list(MACHINES).index(machine)]
    if number is None:
        return None
    code = seccomp.program(rules.calls(PID, network=network), machine)
    return run(code, MACHINES[machine], number, arguments)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("kill", (PID, 9), ALLOWED),
        ("kill", (PID + 1, 9), errno.EPERM),
        ("kill", (-PID, 9), errno.EPERM),
        ("kill", (0, 9), errno.EPERM),
        ("kill", (-1, 9), errno.EPERM),
        ("tgkill", (PID, 5, 9), ALLOWED),
        ("tgkill", (1, 1, 9), errno.EPERM),
        ("socket", (2, 1, 0), ALLOWED),
        ("socket", (10, 0x80001, 6), ALLOWED),
        ("socket", (2, 2, 17), ALLOWED),
        ("socket", (2, 1, 262), errno.EAFNOSUPPORT),
        ("socket", (1, 1, 0), errno.EAFNOSUPPORT),
        ("socket", (16, 3, 0), errno.EAFNOSUPPORT),
        ("sendto", (3, 0, 1, 0x4000, 0, 0), ALLOWED),
        ("sendto", (3, 0, 1, 0x20004000, 0, 0), errno.EOPNOTSUPP),
        ("sendmsg", (3, 0, 0x20000000), errno.EOPNOTSUPP),
        ("clone", (0x3D0F00,), ALLOWED),
        ("clone", (0x1200011,), errno.EPERM),
        ("clone3", (), errno.ENOSYS),
        ("fcntl", (3, 3), ALLOWED),
        ("fcntl", (3, 8), errno.EPERM),
        ("fcntl", (3, 10), errno.EPERM),
        ("fcntl", (3, 15), errno.EPERM),
        ("ioctl", (3, 0x5401), ALLOWED),
        ("ioctl", (3, 0x8901), errno.EPERM),
        ("ioctl", (3, 0x8902), errno.EPERM),
        ("utimensat", (3, 0, 0), ALLOWED),
        ("utimensat", (3, 1 << 32, 0), errno.EPERM),
        ("utimensat", (3, 0x1000, 0), errno.EPERM),
        ("prlimit64", (0, 7), ALLOWED),
        ("prlimit64", (PID + 1, 7), errno.EPERM),
        ("prctl", (15,), ALLOWED),
        ("prctl", (1, 0), errno.EPERM),
        ("ptrace", (0x4206, 1), errno.EPERM),
        ("truncate", (), errno.EPERM),
    ],
)
def test_the_filter_of_a_worker(
    machine: str, call: str, arguments: tuple[int, ...], expected: str | int
) -> None:
    """The call and its arguments decide."""
    assert said(machine, call, *arguments) == expected


def test_a_process_without_network_has_no_sockets() -> None:
    """Not even ordinary files."""
    assert said("x86_64", "socket", 2, 1, 0, network=False) == errno.EAFNOSUPPORT


def test_calls_of_another_machine_kill() -> None:
    """Their numbers have another meaning; those of x32 are unknown."""
    code = seccomp.program(rules.calls(PID, network=True), "x86_64")
    assert run(code, 0x40000003, 37) == KILLED
    assert run(code, MACHINES["x86_64"], 0x40000000 | 62, (1,)) == errno.ENOSYS


def test_an_unknown_machine_has_no_filter() -> None:
    """It is reported, and the worker runs."""
    with pytest.raises(NotImplementedError):
        seccomp.program([], "riscv64")


@pytest.mark.parametrize("machine", MACHINES)
def test_every_number_is_of_one_call(machine: str) -> None:
    """Each known one is refused, in full or in part."""
    column = list(MACHINES).index(machine)
    numbers = [each[column] for each in NUMBERS.values() if each[column] is not None]
    assert len(set(numbers)) == len(numbers)
    assert {rule.call for rule in rules.calls(PID, network=True)} == NUMBERS.keys()


@given(st.integers(0, 500), st.tuples(*[st.integers(0, 2**64 - 1)] * 6))
def test_calls_without_a_rule_are_allowed(number: int, arguments: tuple[int, ...]) -> None:
    """With any arguments, on both machines; and the filter always terminates."""
    for column, (name, machine) in enumerate(MACHINES.items()):
        code = seccomp.program(rules.calls(PID, network=True), name)
        known = {each[column] for each in NUMBERS.values()}
        answer = run(code, machine, number, arguments)
        assert answer == ALLOWED or number in known
        assert len(code) // 8 < 4096  # the kernel's limit
