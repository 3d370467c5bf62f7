"""Machines for the trials, each in the state with which its trial begins, whatever was tried before it.

Every machine is booted from read-only layers; the one with the package installed is made once.  A machine is used again
only after a trial that leaves everything unchanged, which is checked: see `unchanged`.
"""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Final

from tests.lab.container import a_layer, a_memory, booted
from tests.lab.figures import Figure
from tests.lab.trial import Begins, Trial
from tests.lab.unchanged import forget, look
from tests.lab.world import INSTALL, NUMBER, OPERATOR, Installed, Packages, World
from tests.whatsapp import WhatsApp

_ROOM: Final = "8g"  # of memory, for all layers; unused space takes none


class Machines:
    """The machines of one system, one at a time.  Leave it with `close`."""

    def __init__(self, system: str, tree: Path, packages: Packages, work: Path) -> None:
        self.system = system
        self.figures: list[Figure] = []
        self._tree = tree
        self._packages = packages
        self._work = work
        self._kept = ExitStack()
        self._memory = self._kept.enter_context(a_memory(work / "layers", _ROOM))
        self._installed: Path | None = None
        self._number = 0
        self._machine: AsyncExitStack | None = None
        self._world: World | None = None
        self._state = Begins.BARE
        self._before = ""

    async def begin(self, trial: Trial) -> World:
        """A machine for a trial."""
        world = self._world
        if world is not None and self._state is Begins.INSTALLED and trial.begins is Begins.PAIRED:
            await pair(world)
            self._state = Begins.PAIRED
        if world is None or self._state is not trial.begins:
            world = await self._fresh(trial.begins)
        await forget(world)
        self._before = "" if trial.spoils else await look(world)
        return world

    async def end(self, trial: Trial, *, good: bool) -> None:
        """After a trial.  Raises AssertionError if it changed the machine without declaring it."""
        if trial.spoils or not good:
            await self._discard()
            return
        assert self._world is not None
        if trial.begins is Begins.PAIRED:
            await self._world.connected()
        after = await look(self._world)
        if after != self._before:
            before = self._before
            await self._discard()
            gone = sorted({*before.splitlines()} - {*after.splitlines()})
            new = sorted({*after.splitlines()} - {*before.splitlines()})
            raise AssertionError(f"it changed the machine; gone: {gone}, new: {new}")

    async def traces(self) -> str:
        """The output that helps to find out why a trial failed."""
        return "no machine" if self._world is None else await self._world.traces()

    async def close(self) -> None:
        """End the machine, remove all layers."""
        try:
            await self._discard()
        finally:
            self._kept.close()

    async def _discard(self) -> None:
        machine, self._machine, self._world = self._machine, None, None
        if machine is not None:
            await machine.aclose()

    async def _fresh(self, state: Begins) -> World:
        await self._discard()
        if state > Begins.BARE and self._installed is None:
            self._installed = await self._install()
        installed = [self._installed] if self._installed and state > Begins.BARE else []
        world = await self._boot(*installed, self._tree)
        if state is Begins.BARE:
            await _prepare(world)
        if state is Begins.PAIRED:
            await pair(world)
        self._state = state
        return world

    async def _boot(self, *lower: Path) -> World:
        self._number += 1
        memory, work = self._memory / str(self._number), self._work / str(self._number)
        memory.mkdir()
        work.mkdir()
        async with AsyncExitStack() as stack:
            stack.callback(shutil.rmtree, memory)
            layer = stack.enter_context(a_layer(memory, *lower))
            server = await stack.enter_async_context(WhatsApp())
            container = await stack.enter_async_context(booted(layer.root, work / "console.log"))
            installed = Installed(container, work / "client")
            self._world = World(work, container, server, installed, self._packages, self.figures)
            self._machine = stack.pop_all()
        return self._world

    async def _install(self) -> Path:
        """The layer of a machine on which the package was installed, and which was switched off."""
        memory = self._memory / "installed"
        memory.mkdir()
        with a_layer(memory, self._tree) as layer:
            async with booted(layer.root, self._work / "installed.log") as container:
                client = Installed(container, self._work / "installed")
                world = World(
                    self._work, container, WhatsApp(), client, self._packages, self.figures
                )
                await _prepare(world)
                await container.run(f"{INSTALL} /root/wad.deb", timeout=300)
                await container.run(f"adduser {OPERATOR} wad")
                await container.stop()
        return layer.upper


async def _prepare(world: World) -> None:
    """An operator, and the package at the paths that the documentation and the trials use."""
    await world.container.run(f"useradd --create-home --shell /bin/bash {OPERATOR}")
    await world.write("/etc/sudoers.d/operator", f"{OPERATOR} ALL=(ALL) NOPASSWD: ALL\n")
    await world.copy_in(world.deb, f"/home/{OPERATOR}/{world.deb.name}")
    await world.container.run(f"ln /home/{OPERATOR}/{world.deb.name} /root/wad.deb")


async def pair(world: World) -> None:
    """The account that the trials use, connected, with a message."""
    await world.trust()
    await world.container.run("systemctl restart wad")
    world.at_whatsapp()
    await world.wad.call("accounts.add", name="shop", phone=f"+{NUMBER}")
    await world.shop.phone.scan(await world.wad.qr("shop"))
    await world.wad.wait_state("shop", "connected")  # until then the code is still shown
    await world.peer.send_text(world.shop, "the first message")
    await world.nothing_lost()
