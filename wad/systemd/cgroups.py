"""Control groups: one for each worker, so that no account can take all memory from the others.

With Delegate= in the unit we may divide the unit's group (cgroups version 2: a group has either processes or groups
below it, so the daemon moves into a group of its own, too).  Without it workers run without groups and limits.

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
"""CPU weights, which apply under contention: three hundred busy workers leave the daemon three quarters."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """The limits of a worker: bytes of memory, tasks; None: no limit.  `why`: why a limit is missing."""

    memory: int | None = None
    tasks: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class NoGroups:
    """The control group cannot be divided: workers run without limits."""

    why: str

    @property
    def limits(self) -> WorkerLimits:
        """No limits, with the reason."""
        return WorkerLimits(why=self.why)


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups below the unit's group.  `memory` is in bytes, 0 for no limit.

    `controllers`: the available controllers; those of version 1 of control groups are not among them.
    """

    base: Path
    memory: int
    controllers: frozenset[str] = frozenset(_CONTROLLERS)

    @property
    def weighs(self) -> bool:
        """Whether workers yield the CPU to the daemon under contention."""
        return "cpu" in self.controllers

    @property
    def limits(self) -> WorkerLimits:
        """The limits of a worker in its group."""
        wanted = {"pids", *(["memory"] if self.memory else [])}
        missing = " and ".join(sorted(wanted - self.controllers))
        return WorkerLimits(
            memory=self.memory if self.memory and "memory" in self.controllers else None,
            tasks=_TASKS if "pids" in self.controllers else None,
            why=f"version 2 of control groups has no {missing} controller on this machine"
            if missing
            else "",
        )

    def take(self, account: str, pid: int) -> None:
        """Move an account's worker into its group; if the kernel refuses, the worker runs without one."""
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
        """Remove an account's group after its worker has ended."""
        try:
            (self.base / f"worker-{account}").rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            log.debug("cannot remove a control group: %s", error, extra={"account": account})

    def starved(self, account: str) -> float:
        """Seconds for which an account's worker was runnable and waited for a processor so far.

        0 if the kernel does not count this (PSI).
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
) -> Groups | NoGroups:
    """Divide the control group of this process, if it is delegated to us."""
    base = _group_of(own.read_text(), mount)
    if base is None:
        return NoGroups("this process is not in a control group of version 2")
    if not os.access(base / "cgroup.procs", os.W_OK):
        return NoGroups("the unit delegates no control group (Delegate=)")
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
        log.warning("workers run without control groups: %s", error)
        return NoGroups(f"the control group cannot be divided: {error}")
    return Groups(base, memory_mb << 20, frozenset(offered))


def _group_of(text: str, mount: Path) -> Path | None:
    """The directory of a process's group, from its /proc/PID/cgroup."""
    name = next((line[3:] for line in text.splitlines() if line.startswith("0::/")), "")
    if name in ("", "/") or ".." in name:
        return None
    paths = (mount / beside / name.lstrip("/") for beside in _UNIFIED)
    return next((path for path in paths if (path / "cgroup.procs").exists()), None)


def _write(path: Path, value: str) -> None:
    with path.open("w") as file:
        file.write(value)
