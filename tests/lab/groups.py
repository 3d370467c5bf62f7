"""A control group for a container: systemd-nspawn alone puts every container of this machine into the same one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

_TIMEOUT: Final = 30.0


@asynccontextmanager
async def a_group(name: str) -> AsyncIterator[Path]:
    """A group of version 2 below our own; at the end its processes are killed, and it is removed.

    Raises LookupError if no hierarchy of version 2 is mounted.
    """
    own = Path("/proc/self/cgroup").read_text().splitlines()
    ours = next(line[3:] for line in own if line.startswith("0::"))
    group = Path(f"{_mounted()}{ours}", f"{name}-{os.getpid()}")
    group.mkdir()
    try:
        yield group
    finally:
        (group / "cgroup.kill").write_text("1")
        async with asyncio.timeout(_TIMEOUT):
            while "populated 1" in (group / "cgroup.events").read_text():
                await asyncio.sleep(0.05)
        for directory, _, _ in os.walk(group, topdown=False):
            Path(directory).rmdir()


def _mounted() -> str:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return before.split()[4]
    raise LookupError("no control groups of version 2 are mounted")
