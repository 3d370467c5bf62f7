"""The attempts of a compromised worker.  Nothing here imports wad, or needs more than Python itself.

Each attempt raises OSError where the kernel refuses it, and undoes what it did where it does not.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

_X86 = os.uname().machine == "x86_64"
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_MSG_FASTOPEN, _IPPROTO_MPTCP = 0x20000000, 262


class Targets(NamedTuple):
    """The targets.  `account_dir` is its own account directory; `victim` is an unused file of the daemon's.

    `daemon` and `sibling` are processes, `group` a control group of another worker (or empty), `ports` may and may not
    be connected to.
    """

    account_dir: str
    other: str
    state: str
    media: str
    victim: str
    daemon: int
    sibling: int
    control: str
    notify: str
    group: str
    allowed_port: int
    refused_port: int


Attempt = Callable[[Targets], object]


def _call(on_x86: int, elsewhere: int, *arguments: object) -> int:
    values = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    found = int(_libc.syscall(ctypes.c_long(on_x86 if _X86 else elsewhere), *values))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def _open(path: str, flags: int = os.O_RDONLY) -> None:
    os.close(os.open(path, flags | os.O_NONBLOCK))


def _read_memory(pid: int) -> None:
    buffer = ctypes.create_string_buffer(8)
    ours = struct.pack("QQ", ctypes.addressof(buffer), 8)
    theirs = struct.pack(
        "QQ", ctypes.addressof(buffer), 8
    )  # mapped there or not, EFAULT says that it was looked at
    try:
        _call(310, 270, pid, ours, 1, theirs, 1, 0)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise


def _write_memory(pid: int) -> None:
    buffer = ctypes.create_string_buffer(8)
    part = struct.pack("QQ", ctypes.addressof(buffer), 0)
    _call(311, 271, pid, part, 1, part, 1, 0)


def _trace(pid: int) -> None:
    _call(101, 117, 0x4206, pid, None, None)  # PTRACE_SEIZE; over when this process ends


def _signal_by_file(pid: int) -> None:
    """A pipe that becomes ready sends its owner any configured signal."""
    read, write = os.pipe()
    try:
        fcntl.fcntl(read, fcntl.F_SETOWN, pid)
    finally:
        os.close(read)
        os.close(write)


def _signal_by_file_of(pid: int) -> None:
    read, write = os.pipe()
    try:
        fcntl.fcntl(read, 15, struct.pack("ii", 1, pid))  # F_SETOWN_EX
    finally:
        os.close(read)
        os.close(write)


def _signal_by_socket(pid: int) -> None:
    with socket.socket() as sock:
        fcntl.ioctl(sock, 0x8901, struct.pack("i", pid))  # FIOSETOWN


def _queue(pid: int) -> None:
    _call(129, 138, pid, 0, struct.pack("iii116x", 0, 0, -1))


def _signal_by_handle(pid: int) -> None:
    handle = _call(434, 434, pid, 0)
    try:
        _call(424, 424, handle, 0, None, 0)
    finally:
        os.close(handle)


def _unix(path: str, kind: int = socket.SOCK_STREAM) -> None:
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.connect(path)


def _by_pair(path: str) -> None:
    """A pair of sockets without a name can be connected to one that has."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.connect(path)


def _tcp(port: int, protocol: int = 0, flags: int | None = None) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as sock:
        sock.settimeout(5)
        if flags is None:
            sock.connect(("127.0.0.1", port))
        else:
            sock.settimeout(None)
            sock.sendto(b"x", flags, ("127.0.0.1", port))


def _listen(_: Targets) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()


def _link(source: str, place: str, make: Callable[[str, str], None]) -> None:
    make(source, place)
    os.unlink(place)


def _move_in(targets: Targets) -> None:
    place = f"{targets.account_dir}/moved"
    os.rename(targets.victim, place)
    os.rename(place, targets.victim)


def _unlink(targets: Targets) -> None:
    os.unlink(targets.victim)
    Path(targets.victim).write_text("victim")


def _swap(targets: Targets) -> None:
    """RENAME_EXCHANGE of a file of its own with one of the daemon's."""
    own = f"{targets.account_dir}/own"
    Path(own).write_text("x")
    _call(316, 276, -100, own.encode(), -100, targets.victim.encode(), 2)
    _call(316, 276, -100, own.encode(), -100, targets.victim.encode(), 2)


def _card(targets: Targets) -> str:
    """The card of the account whose worker this is, as the daemon reads it."""
    account_dir = Path(targets.account_dir)
    return str(account_dir.parent / ".cards" / f"{account_dir.name}.json")


def _put(targets: Targets, place: str) -> None:
    own = f"{targets.account_dir}/put"
    kept = f"{targets.account_dir}/kept"
    Path(own).write_text("x")
    try:
        os.rename(place, kept)
        os.rename(own, place)
        os.rename(kept, place)
    finally:
        Path(own).unlink(missing_ok=True)


def _delete(place: str) -> None:
    data = Path(place).read_bytes()
    os.unlink(place)
    Path(place).write_bytes(data)


def _make(path: str, make: Callable[[str], None], undo: Callable[[str], None]) -> None:
    make(path)
    undo(path)


def _device(path: str) -> None:
    os.mknod(path, 0o600 | 0o010000)


def _named_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)


def _run(_: Targets) -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)


def _fork(_: Targets) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _execute_memory(_: Targets) -> None:
    """A program that is in no directory."""
    handle = os.memfd_create("x")
    try:
        os.write(handle, b"#!/bin/true\n")
        # An invalid address: the permission is checked first.
        _call(322, 281, handle, b"", ctypes.c_void_p(1), None, 0x1000)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise
    finally:
        os.close(handle)


def _outlive(_: Targets) -> None:
    """It dies with the daemon, and that must not change."""
    if _libc.prctl(1, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _file_attributes(targets: Targets) -> None:
    os.setxattr(targets.victim, "user.wad", b"x")
    os.removexattr(targets.victim, "user.wad")


def _watch(path: str) -> None:
    """Names of files that others send would be reported as they are created."""
    handle = _call(294, 26, 0)
    try:
        _call(254, 27, handle, path.encode(), 0x100)
    finally:
        os.close(handle)


def _lower_limit(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_NOFILE)


ON_A_PROCESS: dict[str, Callable[[int], object]] = {
    "signal": lambda pid: os.kill(pid, 0),
    "signal a thread of": lambda pid: _call(234, 131, pid, pid, 0),
    "queue a signal for": lambda pid: _queue(pid),
    "signal by a handle": _signal_by_handle,
    "signal by a pipe's owner": _signal_by_file,
    "signal by a pipe's owner (extended)": _signal_by_file_of,
    "signal by a socket's owner": _signal_by_socket,
    "trace": _trace,
    "read the memory of": _read_memory,
    "write the memory of": _write_memory,
    "open /proc/PID/mem of": lambda pid: _open(f"/proc/{pid}/mem", os.O_RDWR),
    "open /proc/PID/maps of": lambda pid: _open(f"/proc/{pid}/maps"),
    "read the environment of": lambda pid: Path(f"/proc/{pid}/environ").read_bytes(),
    "read the command line of": lambda pid: Path(f"/proc/{pid}/cmdline").read_bytes(),
    "list the files of": lambda pid: os.listdir(f"/proc/{pid}/fd"),
    "take a file of": lambda pid: _call(438, 438, _call(434, 434, pid, 0), 0, 0),
    "read the limits of": _lower_limit,
    "make nicer": lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "pin": lambda pid: os.sched_setaffinity(pid, os.sched_getaffinity(0)),
    "give up to the memory killer": lambda pid: _open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY),
}  # fmt: skip


def _on(target: str, attempt: Callable[[int], object], targets: Targets) -> None:
    attempt(getattr(targets, target))


ATTEMPTS: dict[str, Attempt] = {
    # --- files of others
    "read another account's session": lambda t: _open(f"{t.other}/session.db"),
    "write another account's session": lambda t: _open(f"{t.other}/session.db", os.O_RDWR),
    "read another account's card": lambda t: _open(f"{t.other}/account.json"),
    "list another account's directory": lambda t: os.listdir(t.other),
    "make a file in another account's directory": lambda t: _make(
        f"{t.other}/x", lambda path: _open(path, os.O_CREAT | os.O_WRONLY), os.unlink
    ),
    "list the accounts": lambda t: os.listdir(str(Path(t.other).parent)),
    "read another account over our own directory": lambda t: _open(
        f"{t.account_dir}/../{Path(t.other).name}/session.db"
    ),
    "read another account over /proc": lambda t: _open(f"/proc/self/root{t.other}/session.db"),
    "read our own card": lambda t: _open(_card(t)),
    "write our own card": lambda t: _open(_card(t), os.O_RDWR),
    "list the cards": lambda t: os.listdir(Path(_card(t)).parent),
    "put a file in the place of our own card": lambda t: _put(t, _card(t)),
    "delete our own card": lambda t: _delete(_card(t)),
    "read wad.db": lambda t: _open(f"{t.state}/wad.db"),
    "write wad.db": lambda t: _open(f"{t.state}/wad.db", os.O_RDWR),
    "list the state directory": lambda t: os.listdir(t.state),
    "list the files to send": lambda t: os.listdir(t.media),
    "make a file to send": lambda t: _make(
        f"{t.media}/x", lambda path: _open(path, os.O_CREAT | os.O_WRONLY), os.unlink
    ),
    "watch the files to send": lambda t: _watch(t.media),
    "read /etc/passwd": lambda t: _open("/etc/passwd"),
    "read /etc/wad": lambda t: os.listdir("/etc"),
    "make a file in /tmp": lambda t: _make(
        f"/tmp/.wad-hostile-{os.getpid()}", lambda path: _open(path, os.O_CREAT | os.O_WRONLY), os.unlink
    ),
    # --- files by their name
    "truncate by name": lambda t: os.truncate(t.victim, 1),
    "open and truncate": lambda t: _open(t.victim, os.O_WRONLY | os.O_TRUNC),
    "chmod": lambda t: os.chmod(t.victim, 0o644),
    "chown": lambda t: os.chown(t.victim, os.getuid(), os.getgid()),
    "set times": lambda t: os.utime(t.victim, (1, 1)),
    "set attributes": _file_attributes,
    "unlink": _unlink,
    "rename into our own directory": _move_in,
    "exchange with a file of our own": _swap,
    # --- our own directory
    "make a symbolic link": lambda t: _link(t.victim, f"{t.account_dir}/l", os.symlink),
    "make a hard link": lambda t: _link(t.victim, f"{t.account_dir}/h", os.link),
    "make a directory": lambda t: _make(f"{t.account_dir}/d", os.mkdir, os.rmdir),
    "make a pipe": lambda t: _make(f"{t.account_dir}/p", os.mkfifo, os.unlink),
    "make a named socket": lambda t: _make(f"{t.account_dir}/s", _named_socket, os.unlink),
    "make our own files public": lambda t: os.chmod(t.account_dir, 0o777),
    # --- other processes
    **{
        f"{what} the {target}": partial(_on, target, attempt)
        for target in ("daemon", "sibling")
        for what, attempt in ON_A_PROCESS.items()
    },
    "signal the own group": lambda t: os.kill(0, 0),
    "signal all processes": lambda t: os.kill(-1, 0),
    "kill a sibling's control group": lambda t: _open(f"{t.group}/cgroup.kill", os.O_WRONLY),
    "freeze a sibling's control group": lambda t: _open(f"{t.group}/cgroup.freeze", os.O_WRONLY),
    "outlive the daemon": _outlive,
    # --- programs, processes, namespaces
    "run a program": _run,
    "run a program from memory": _execute_memory,
    "fork": _fork,
    "io_uring": lambda t: _call(425, 425, 1, ctypes.create_string_buffer(120)),
    "userfaultfd": lambda t: _call(323, 282, 1),
    "the kernel's keys": lambda t: _call(250, 219, 0, -3, 0),
    "shared memory": lambda t: _call(29, 194, 0, 4096, 0o1600),
    # --- sockets
    "connect to the control socket": lambda t: _unix(t.control),
    "connect to the control socket by a pair": lambda t: _by_pair(t.control),
    "notify the service manager": lambda t: _unix(t.notify, socket.SOCK_DGRAM),
    "notify the service manager by a pair": lambda t: _by_pair(t.notify),
    "netlink": lambda t: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "raw sockets": lambda t: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
    "listen": _listen,
    "connect to another port": lambda t: _tcp(t.refused_port),
    "connect to another port at once with data": lambda t: _tcp(t.refused_port, flags=_MSG_FASTOPEN),
    "connect to another port by another protocol": lambda t: _tcp(t.refused_port, _IPPROTO_MPTCP),
    # last, since the process is in another namespace from then on
    "new namespaces": lambda t: _call(272, 97, 0x10000000),
}  # fmt: skip

NEEDED: dict[str, Attempt] = {
    "make, rename and delete files of our own": lambda t: _renamed(t.account_dir),
    "lengthen and shorten files of our own": lambda t: _resized(f"{t.account_dir}/t"),
    "read a file to send": lambda t: _open(f"{t.media}/{'0' * 64}"),
    "read /usr": lambda t: os.listdir("/usr"),
    "read certificates": lambda t: os.listdir("/etc/ssl/certs"),
    "read name servers": lambda t: _open("/etc/resolv.conf"),
    "read our own maps": lambda t: Path("/proc/self/smaps").read_bytes(),
    "threads": lambda t: _in_a_thread(),
    "signal ourselves": lambda t: os.kill(os.getpid(), 0),
    "connect": lambda t: _tcp(t.allowed_port),
    "datagrams": lambda t: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "limits of our own": lambda t: resource.getrlimit(resource.RLIMIT_NOFILE),
}
"""What a worker has to be able to do."""


def _renamed(account_dir: str) -> None:
    Path(f"{account_dir}/t").write_text("x")
    os.rename(f"{account_dir}/t", f"{account_dir}/t2")
    os.unlink(f"{account_dir}/t2")


def _resized(path: str) -> None:
    with open(path, "w+b") as file:
        file.truncate(100)
        file.truncate(0)
    os.unlink(path)


def _in_a_thread() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


def tried(targets: Targets, attempts: dict[str, Attempt]) -> dict[str, str]:
    """The result of each: empty if it succeeded, else the kernel's error."""
    found = {}
    for name, attempt in attempts.items():
        try:
            attempt(targets)
        except OSError as error:
            found[name] = errno.errorcode.get(error.errno or 0, str(error))
        else:
            found[name] = ""
    return found


def main(given: dict[str, Any]) -> None:
    """Try everything, and print it as JSON."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    targets = Targets(**given)
    print(json.dumps([tried(targets, ATTEMPTS), tried(targets, NEEDED)]), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
