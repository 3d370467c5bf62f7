"""A container with real systemd: read-only trees under a layer in memory, booted by systemd-nspawn."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.groups import a_group

TIMEOUT: Final = 90.0
_LANDLOCK: Final = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")
_CLEAN: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}


class Failed(AssertionError):
    """A command in the container ended with an unexpected exit code."""


class Container:
    """A system that was booted; `root` is its tree as visible from outside."""

    def __init__(self, root: Path, log: Path, group: Path) -> None:
        self.root = root
        self.log = log
        self._group = group
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0

    async def boot(self) -> float:
        """Start it and wait until systemd has started everything; returns the seconds."""
        begun = time.monotonic()
        with self.log.open("ab") as log:
            self._nspawn = subprocess.Popen(
                [
                    *("sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(self._group)),
                    *("systemd-nspawn", "--quiet", f"--directory={self.root}", "--boot"),
                    *("--register=no", "--keep-unit", "--console=read-only", "--machine=wad-lab"),
                    *("--link-journal=no", "--resolv-conf=off", "--timezone=off"),
                    "--capability=CAP_NET_ADMIN",  # else systemd 257 continues without PrivateNetwork=
                    # Its own filter of system calls does not include Landlock before version 256.
                    f"--system-call-filter={' '.join(_LANDLOCK)}",
                ],
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        await self._until_up()
        return time.monotonic() - begun

    async def _until_up(self, not_leader: int = 0) -> None:
        assert self._nspawn is not None
        async with asyncio.timeout(TIMEOUT):
            while True:
                if self._nspawn.poll() is not None:
                    raise AssertionError(f"the container ended:\n{self.log.read_text()[-4000:]}")
                found = _children(self._nspawn.pid)
                if found and found[0] != not_leader:
                    self._leader = found[0]
                    state = (await self.try_run("systemctl is-system-running")).stdout.strip()
                    if state in ("running", "degraded"):
                        return
                await asyncio.sleep(0.1)

    async def reboot(self) -> float:
        """Reboot from inside, as an administrator does; seconds until everything is started again.

        Where /run is not a tmpfs, systemd-nspawn ends instead of booting again; then it is started again.
        """
        assert self._nspawn is not None
        before, begun = self._leader, time.monotonic()
        await self.try_run("systemctl reboot")
        while _children(self._nspawn.pid) == [before]:
            await asyncio.sleep(0.05)
        if not _children(self._nspawn.pid):
            await asyncio.to_thread(self._nspawn.wait, TIMEOUT)
        if self._nspawn.poll() is None:
            await self._until_up(before)
        else:
            await self.boot()
        return time.monotonic() - begun

    async def stop(self) -> None:
        """Power it off; remaining processes are killed."""
        if self._nspawn is not None:
            os.kill(self._leader or self._nspawn.pid, signal.SIGRTMIN + 4)  # systemd: power off
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._nspawn.wait, 30)
        await self.kill()

    async def kill(self) -> None:
        """End it at once, like a power failure."""
        if self._nspawn is None:
            return
        nspawn, self._nspawn = self._nspawn, None
        if nspawn.poll() is None:
            for child in _children(nspawn.pid):
                os.kill(child, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(nspawn.wait, 5)  # it removes its mounts
            nspawn.kill()
        await asyncio.to_thread(nspawn.wait)

    # --- in it ------------------------------------------------------------------------------------

    async def try_run(
        self, command: str, *, user: str = "", timeout: float = TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line in it, as root or as a user who just logged in, whatever its exit code."""
        shell = ["/bin/sh", "-c", command]
        if user:
            login = [f"HOME=/home/{user}", f"USER={user}"]
            shell = ["/bin/sh", "-c", f"cd && {command}"]
            shell = ["/usr/sbin/runuser", "-u", user, "--", "/usr/bin/env", *login, *shell]
        return await asyncio.to_thread(
            subprocess.run,
            ["nsenter", "--target", str(self._leader), "--all", "--", *shell],
            env=_CLEAN,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )

    async def run(self, command: str, *, user: str = "", timeout: float = TIMEOUT) -> str:
        """Run a shell line in it; returns its output.  Raises Failed when it fails."""
        done = await self.try_run(command, user=user, timeout=timeout)
        if done.returncode != 0:
            raise Failed(f"{command!r} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    async def property(self, unit: str, name: str) -> str:
        """One property of a unit."""
        command = shlex.join(["systemctl", "show", "--value", f"--property={name}", unit])
        return (await self.run(command)).strip()

    async def until(self, command: str, what: str, timeout: float = TIMEOUT) -> float:
        """Wait until a shell line succeeds; returns the seconds."""
        begun = time.monotonic()
        while (done := await self.try_run(command)).returncode != 0:
            if time.monotonic() - begun > timeout:
                raise Failed(f"waited {timeout:g} s in vain for {what}: {done.stdout}{done.stderr}")
            await asyncio.sleep(0.05)
        return time.monotonic() - begun

    def path(self, inside: str) -> Path:
        """A path in the container, as seen from outside while it runs."""
        return Path(f"/proc/{self._leader}/root{inside}")


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(word) for word in text.split()]


@dataclass(frozen=True, slots=True)
class Layer:
    """A tree as a machine has it: `root`, mounted; its changes are in `upper`."""

    root: Path
    upper: Path


@contextmanager
def a_memory(place: Path, size: str) -> Iterator[Path]:
    """A directory in memory, for layers; removed at the end."""
    place.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "wad-lab", str(place))
    try:
        yield place
    finally:
        _run("umount", "-l", str(place))
        place.rmdir()


@contextmanager
def a_layer(memory: Path, *lower: Path) -> Iterator[Layer]:
    """A new layer over other ones, the topmost first, which are read-only.

    `memory` is the layer's own directory; its changes stay there.
    """
    layer = Layer(memory / "root", memory / "upper")
    work = memory / "work"
    for directory in (layer.root, layer.upper, work):
        directory.mkdir(mode=0o755)
    lowers = ":".join(str(path) for path in lower)
    options = f"lowerdir={lowers},upperdir={layer.upper},workdir={work}"
    _run("mount", "-t", "overlay", "-o", options, "wad-lab", str(layer.root))
    try:
        yield layer
    finally:
        _run("umount", "-l", str(layer.root))


@asynccontextmanager
async def booted(root: Path, log: Path) -> AsyncIterator[Container]:
    """A container on a tree; killed at the end if it still runs."""
    # No mirror is reachable: only the machine's own packages exist, as behind a firewall.
    (root / "etc" / "apt" / "sources.list").unlink(missing_ok=True)
    async with a_group("wad-lab") as group:
        container = Container(root, log, group)
        try:
            await container.boot()
            yield container
        finally:
            await container.kill()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
