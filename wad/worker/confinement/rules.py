"""The confinement of a worker: the rules, and the order in which the kernel gets them.

A worker runs a library that parses data of strangers, under the daemon's own user.  So before the library is loaded
it drops all rights except those to its account's directory, to files that are sent, to the library and the system files
that it needs, and to the network.  Landlock restricts files, seccomp restricts system calls: signals, access to other
processes, programs, processes, Unix sockets, and changing a file by its name, which Landlock does not cover
(chmod everywhere, truncate on Linux 6.1).  docs/architecture.md says why these two, and what they cost.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import wad
from wad.core.errors import EngineFailure
from wad.engine import resolver_files
from wad.engine.port import Confinement
from wad.worker.confinement import landlock, seccomp
from wad.worker.confinement.landlock import PathRule, Right
from wad.worker.confinement.seccomp import Has, Is, IsNull

_READ: Final = Right.READ_FILE | Right.READ_DIR
_OWN: Final = _READ | Right.WRITE_FILE | Right.REMOVE_FILE | Right.MAKE_REG | Right.TRUNCATE
"""For the account's directory: no links, pipes, sockets or directories are made in it, no program in it is run."""

_NAMED: Final = (
    *resolver_files.PATHS, "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols", "/etc/localtime",
    "/etc/timezone", "/etc/mime.types", "/etc/ssl/openssl.cnf",
)  # fmt: skip
"""Files that are allowed one by one: the same directories contain wad.toml and the secrets of others."""

_SYSTEM: Final = (
    *resolver_files.DIRECTORIES, "/lib", "/lib32", "/lib64", "/etc/ssl/certs", "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted", "/etc/ca-certificates", "/dev/urandom", "/dev/random",
    "/sys/kernel/mm/transparent_hugepage", "/sys/devices/system/cpu",
)  # fmt: skip

_HTTPS, _DNS = 443, 53
_SCHEMES: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_PROXIES: Final = (
    "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy",
)  # fmt: skip

_INTERNET: Final = (2, 10)  # AF_INET, AF_INET6
_PROTOCOLS: Final = (0, 6, 17)  # the default, TCP, UDP: rules for ports cover no others
_FAST_OPEN: Final = 0x20000000  # MSG_FASTOPEN: connects without a check of the port
_CLONE_THREAD: Final = 0x10000
_SIGNALS_OF_FILES: Final = (8, 10, 15)  # fcntl: F_SETOWN, F_SETSIG, F_SETOWN_EX
_OWNERS_OF_FILES: Final = (0x8901, 0x8902)  # ioctl: FIOSETOWN, SIOCSPGRP
_OF_ITS_DEATH: Final = (1, 0x59616D61)  # prctl: PR_SET_PDEATHSIG, PR_SET_PTRACER

_NEVER: Final = (
    # access to other processes
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp", "get_robust_list",
    "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "perf_event_open", "migrate_pages", "move_pages",
    # signals, and CPU priorities, of other processes
    "tkill", "rt_sigqueueinfo", "setpriority", "ioprio_set", "sched_setaffinity", "sched_setattr", "sched_setparam",
    "sched_setscheduler",
    # programs and processes
    "execve", "execveat", "fork", "vfork", "unshare", "setns", "chroot", "pivot_root",
    # files by their name, which Landlock does not cover
    "truncate", "chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "setxattr", "lsetxattr", "setxattrat",
    "removexattr", "lremovexattr", "removexattrat", "file_setattr", "utime", "utimes", "futimesat",
    "name_to_handle_at", "open_by_handle_at", "inotify_init", "inotify_init1", "fanotify_init", "mount", "umount2",
    "mount_setattr", "move_mount", "open_tree", "fsopen", "quotactl", "acct",
    # what bypasses all of this, and what is shared with other processes
    "io_uring_setup", "io_uring_enter", "io_uring_register", "io_setup", "bpf", "userfaultfd", "keyctl", "add_key",
    "request_key", "shmget", "shmat", "msgget", "semget", "mq_open", "socketpair", "listen",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Needs:
    """The rights that a process needs.

    `account_dir`: the account's directory, None for none.  `media`: files to send, None for none.  `code`: the
    directories of Python and the library.  `environ`: the process's own; it may connect to the proxies in it.
    """

    account_dir: Path | None
    media: Path | None
    code: Sequence[Path]
    environ: Mapping[str, str]
    network: bool = True


def confine(needs: Needs, most: int = sys.maxsize) -> Confinement:
    """Drop all rights that this process does not need, permanently; the result says what the kernel does not support.

    `most`: the newest Landlock ABI to use.  Raises EngineFailure if there are threads already: they would keep their
    rights.
    """
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208
        raise EngineFailure("there must be no other threads when the worker is confined")
    pid, why = os.getpid(), []
    level = min(landlock.abi(), most)
    path_rules = list(rules(needs, pid))
    if not level:
        why.append("the kernel does not support Landlock, or a container forbids it")
    else:
        try:
            _hold(pid)
            landlock.restrict(path_rules, ports(needs.environ) if needs.network else (), level)
        except OSError as error:
            level = 0
            why.append(f"Landlock: {error.strerror}")
    filtered = True
    try:
        seccomp.install(seccomp.program(calls(pid, network=needs.network), platform.machine()))
    except (OSError, NotImplementedError) as error:
        filtered = False
        why.append(f"seccomp: {error}")
    return Confinement(level, filtered, tuple(why), exposed(path_rules, needs))


_held: list[int] = []


def _hold(pid: int) -> None:
    """Keep our own directory in /proc open, which a rule names: short of memory, the kernel drops and remakes it."""
    _held.extend(os.open(f"/proc/{pid}{part}", os.O_PATH | os.O_CLOEXEC) for part in ("", "/mem"))


# --- files ----------------------------------------------------------------------------------------


def rules(needs: Needs, pid: int) -> Iterator[PathRule]:
    """The rights to files."""
    for system in (*_SYSTEM, *_NAMED):
        yield PathRule(Path(system), _READ)
    for path in (*needs.code, *_certificates(needs.environ)):
        yield PathRule(path, _READ)
    yield PathRule(Path("/dev/null"), Right.READ_FILE | Right.WRITE_FILE)
    yield PathRule(Path(f"/proc/{pid}"), _READ)
    # For patching the loaded library (patching.py); closed to other processes by PR_SET_DUMPABLE.
    yield PathRule(Path(f"/proc/{pid}/mem"), Right.READ_FILE | Right.WRITE_FILE)
    if needs.media is not None:
        yield PathRule(needs.media, Right.READ_FILE)  # named by hash, and not listable
    if needs.account_dir is not None:
        yield PathRule(needs.account_dir, _OWN)


def _certificates(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where certificates are looked for in addition to the system's directories."""
    if file := environ.get("SSL_CERT_FILE"):
        yield Path(file)
    for directory in environ.get("SSL_CERT_DIR", "").split(os.pathsep):
        if directory:
            yield Path(directory)


def exposed(path_rules: Sequence[PathRule], needs: Needs) -> str:
    """A listable directory that contains other accounts' directories; empty if there is none."""
    if needs.account_dir is None:
        return ""
    accounts = Path(os.path.realpath(needs.account_dir)).parent
    for path, rights in path_rules:
        directory = Path(os.path.realpath(path))
        if Right.READ_DIR in rights and accounts.is_relative_to(directory):
            return str(directory)
    return ""


def code_paths(environ: Mapping[str, str]) -> list[Path]:
    """The directories of Python, wad, the library and their dependencies."""
    spec = importlib.util.find_spec("neonize")
    library = map(Path, (spec and spec.submodule_search_locations) or ())
    named = environ.get("PYTHONPATH", "").split(os.pathsep)
    # Not sys.path: it contains the daemon's working directory, which under systemd is the root directory.
    return [
        Path(sys.prefix), Path(sys.base_prefix), Path(wad.__file__).parent, *library,
        *(Path(each) for each in named if os.path.isabs(each)),  # noqa: PTH117
    ]  # fmt: skip


# --- the network ------------------------------------------------------------------------------------


def ports(environ: Mapping[str, str]) -> set[int]:
    """The TCP ports of WhatsApp, of the name servers, and of the proxies in the environment."""
    found = {_HTTPS, _DNS}
    for name in _PROXIES:
        if value := environ.get(name, ""):
            try:
                parts = urlsplit(value if "://" in value else f"http://{value}")
                found.add(parts.port or _SCHEMES.get(parts.scheme, 80))
            except ValueError:
                continue  # the library cannot use it either
    return found


# --- system calls -----------------------------------------------------------------------------------


def calls(pid: int, *, network: bool) -> Iterator[seccomp.CallRule]:
    """The restricted system calls of the process."""
    for call in ("kill", "tgkill", "rt_tgsigqueueinfo"):
        yield seccomp.CallRule(call, allowed_if=(Is(0, (pid,)),))
    # No AF_UNIX: at the control socket, the service manager's and others a worker would count as the daemon's user.
    internet = (Is(0, _INTERNET), Is(2, _PROTOCOLS)) if network else ()
    yield seccomp.CallRule("socket", errno.EAFNOSUPPORT, allowed_if=internet)
    for call, flags in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
        yield seccomp.CallRule(call, errno.EOPNOTSUPP, refused_if=(Has(flags, _FAST_OPEN),))
    # Threads, but no processes.  clone3 has its flags behind a pointer; its callers fall back to clone.
    yield seccomp.CallRule("clone", allowed_if=(Has(0, _CLONE_THREAD),))
    yield seccomp.CallRule("clone3", errno.ENOSYS)
    # A file can be made to send any signal to any process when it becomes ready.
    yield seccomp.CallRule("fcntl", refused_if=(Is(1, _SIGNALS_OF_FILES),))
    yield seccomp.CallRule("ioctl", refused_if=(Is(1, _OWNERS_OF_FILES),))
    yield seccomp.CallRule("utimensat", allowed_if=(IsNull(1),))  # then it is about an open file
    yield seccomp.CallRule("prlimit64", allowed_if=(Is(0, (0,)),))  # its own limits
    # It dies with the daemon, and no process may trace it.
    yield seccomp.CallRule("prctl", refused_if=(Is(0, _OF_ITS_DEATH),))
    # Last, since the kernel caches that all other calls are allowed whatever their arguments.
    for call in _NEVER:
        yield seccomp.CallRule(call)
