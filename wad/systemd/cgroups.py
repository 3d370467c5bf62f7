"""Control groups: each worker in one of its own, so that no account can take all memory from the rest.

Under systemd the unit says Delegate=, and the group of the unit is ours to divide (cgroups version 2: a group has
either processes or groups below it, so the daemon moves into one, too).  Everywhere else there is nothing to divide,
and workers run as they are.

    wad.service/daemon, wad.service/worker-ACCOUNT
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_MOUNT: Final = Path("/sys/fs/cgroup")
_UNIFIED: Final = ("", "unified")  # alone, or beside version 1
_CONTROLLERS: Final = ("cpu", "memory", "pids")
_TASKS: Final = 512  # threads of one worker; the library has about 20
_DAEMON_WEIGHT, _WORKER_WEIGHT = 10_000, 10
"""Shares of the CPU where there is not enough for all: three hundred busy workers leave the daemon three quarters."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What a worker is held to: bytes of memory, tasks; None for no limit.  `why`: where one is missing."""

    memory: int | None = None
    tasks: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Undivided:
    """There is no group of ours to divide: workers run without limits."""

    why: str

    @property
    def limits(self) -> WorkerLimits:
        """None, and why."""
        return WorkerLimits(why=self.why)


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups below one that is ours.  `memory` is in bytes, 0 for no limit.

    `controllers`: what the kernel counts in them; what belongs to version 1 of control groups is not among it.
    """

    base: Path
    memory: int
    controllers: frozenset[str] = frozenset(_CONTROLLERS)

    @property
    def weighs(self) -> bool:
        """Whether workers give way to the daemon where there is not enough CPU for all."""
        return "cpu" in self.controllers

    @property
    def limits(self) -> WorkerLimits:
        """What a worker that is put into its group is held to."""
        wanted = {"pids", *(["memory"] if self.memory else [])}
        missing = " and ".join(sorted(wanted - self.controllers))
        return WorkerLimits(
            memory=self.memory if self.memory and "memory" in self.controllers else None,
            tasks=_TASKS if "pids" in self.controllers else None,
            why=f"this machine gives version 2 of control groups no controller of {missing}"
            if missing
            else "",
        )

    def take(self, account: str, pid: int) -> None:
        """Put an account's worker into its group; where the kernel refuses, the worker goes on without."""
        group = self.base / f"worker-{account}"
        try:
            group.mkdir(exist_ok=True)
            for name, value in self._limits().items():
                if (group / name).exists():  # only the controllers that this machine has
                    _write(group / name, value)
            _write(group / "cgroup.procs", str(pid))
        except OSError as error:
            log.warning("a worker has no control group: %s", error, extra={"account": account})

    def drop(self, account: str) -> None:
        """Take an account's group away once its worker is gone."""
        try:
            (self.base / f"worker-{account}").rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            log.debug("a control group stays: %s", error, extra={"account": account})

    def starved(self, account: str) -> float:
        """Seconds for which an account's worker could have run and waited for a processor so far.

        0 where the kernel does not count that (PSI).
        """
        try:
            line = (self.base / f"worker-{account}" / "cpu.pressure").read_text().splitlines()[0]
            return int(line.rpartition("total=")[2]) / 1e6
        except (OSError, IndexError, ValueError):
            return 0.0

    def _limits(self) -> dict[str, str]:
        memory = (
            {"memory.high": str(self.memory * 3 // 4), "memory.max": str(self.memory)}
            if self.memory
            else {}
        )
        return {
            "pids.max": str(_TASKS),
            "memory.oom.group": "1",
            "cpu.weight": str(_WORKER_WEIGHT),
            **memory,
        }


def divide(
    memory_mb: int, own: Path = Path("/proc/self/cgroup"), mount: Path = _MOUNT
) -> Groups | Undivided:
    """Make the group that this process is in ours to divide, where it is."""
    base = _group_of(own.read_text(), mount)
    if base is None:
        return Undivided("this process is in no group of version 2 of control groups")
    if not os.access(base / "cgroup.procs", os.W_OK):
        return Undivided("the unit delegates no control group (Delegate=)")
    try:
        daemon = base / "daemon"
        daemon.mkdir(exist_ok=True)
        _write(daemon / "cgroup.procs", str(os.getpid()))
        offered = {*(base / "cgroup.controllers").read_text().split()}
        for name in _CONTROLLERS:
            if name in offered:
                _write(base / "cgroup.subtree_control", f"+{name}")
        if (daemon / "cpu.weight").exists():
            _write(daemon / "cpu.weight", str(_DAEMON_WEIGHT))
    except OSError as error:
        log.warning("workers run without control groups of their own: %s", error)
        return Undivided(f"its control group cannot be divided: {error}")
    return Groups(base, memory_mb << 20, frozenset(offered))


def _group_of(text: str, mount: Path) -> Path | None:
    """The directory of a process's group, from its /proc/PID/cgroup."""
    name = next((line[3:] for line in text.splitlines() if line.startswith("0::/")), "")
    if name in ("", "/") or ".." in name:
        return None
    places = (mount / beside / name.lstrip("/") for beside in _UNIFIED)
    return next((place for place in places if (place / "cgroup.procs").exists()), None)


def _write(path: Path, value: str) -> None:
    with path.open("w") as file:
        file.write(value)
