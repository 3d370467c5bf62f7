"""A trial of docs/migration.md: its literal commands, with the real Baileys as a service of the machine."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from tests import baileys
from tests.lab.pages import blocks
from tests.lab.trial import trial
from tests.lab.world import TRUST, World
from tests.whatsapp import Account, Peer

_PAGE: Final = "docs/migration.md"
_ACCOUNT: Final = "account_prod_0123"
_SESSIONS: Final = "/srv/backend/sessions"
_UNIT: Final = "node-backend"
_NUMBER: Final = "15550000003"
_ASKS: Final = ("import-baileys /srv", "account remove")
"""Commands that ask on a terminal, which does not exist here."""
_TIMEOUT: Final = 60.0


def fetch() -> Path:
    """Baileys' packages, while there is a network."""
    return baileys.packages()


@trial(spoils=True)
async def migration(world: World) -> None:
    """Step by step from the Node backend to wad, the way back, and forward again: no code, nothing lost."""
    await world.connected()
    account = world.server.add_account(_NUMBER, name="Office")
    node = _Backend(world)
    await node.install(account, world.peer)
    names = {"/path/to/sessions": _SESSIONS, "BACKEND": _UNIT}
    port, look, delete, stop, move, see = blocks("Step by step", _PAGE, **names)
    await _do(world, port)
    await world.container.run("curl --silent --fail http://127.0.0.1:8081/health")
    shown = await _do(world, look)
    assert "nothing was changed" in shown, shown
    await _do(world, delete)
    await _do(world, stop)
    await world.peer.send_text(account, "while nobody was there")
    await _do(world, move)
    await _connected(world)
    shown = await _until(world, see, "while nobody was there")
    assert "connected" in shown, shown
    await world.container.run(f"wadctl send {_ACCOUNT} +{world.peer.pn.user} 'from wad' --wait 30")
    await world.peer.received(account, text="from wad")

    back, forward = blocks("The way back", _PAGE, **names)
    await _do(world, back)
    await node.until("open")
    await world.peer.send_text(account, "to Baileys again")
    await node.until("message", text="to Baileys again")
    await node.send(str(world.peer.pn), "from Baileys again")
    await world.peer.received(account, text="from Baileys again")
    assert "qr" not in {event["event"] for event in node.since}, node.since

    await _do(world, forward)
    await _connected(world)
    await world.peer.send_text(account, "to wad again")
    await _until(world, see, "to wad again")


async def _do(world: World, lines: list[str]) -> str:
    """The lines of one block, in one shell, as an operator pastes them."""
    given = [f"{line} --yes" if any(word in line for word in _ASKS) else line for line in lines]
    return await world.container.run("set -e\n" + "\n".join(given), timeout=120)


async def _connected(world: World) -> None:
    await world.wad.wait_account(
        _ACCOUNT, lambda shown: shown["state"] == "connected" and not shown["qr"], "the account"
    )


async def _until(world: World, lines: list[str], text: str) -> str:
    """The output of the commands, once it contains this."""
    async with asyncio.timeout(_TIMEOUT):
        while text not in (shown := await _do(world, lines)):
            await asyncio.sleep(0.2)
    return shown


class _Backend:
    """The Node backend of the machine: a unit, its sessions, and its output, a line of JSON for each event."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen = 0
        self.since: list[dict[str, Any]] = []
        """Its output since its last start."""

    async def install(self, account: Account, peer: Peer) -> None:
        """Install it, start it, pair it, and let it send a message."""
        await asyncio.to_thread(self._copy)
        await self._world.write("/etc/systemd/system/node-backend.service", self._unit())
        container = self._world.container
        await container.run(
            f"mkdir -p -m 700 {_SESSIONS} && mkfifo /opt/backend/orders && chmod 755 /opt/backend/run"
            f" && systemctl daemon-reload && systemctl enable --now {_UNIT}"
        )
        await account.phone.scan((await self.until("qr"))["code"])
        await self.until("open")
        await peer.send_text(account, "first")
        await self.until("message", text="first")
        await self.send(str(peer.pn), "answer")
        await peer.received(account, text="answer")
        self.since.clear()

    def _copy(self) -> None:
        """Node with its shared libraries, since the container has none of it, and Baileys."""
        place = self._world.container.path("/opt/backend")
        (place / "lib").mkdir(parents=True)
        node = Path(shutil.which("node") or "node").resolve()
        shutil.copy(node, place / "node")
        listed = subprocess.run(["ldd", str(node)], check=True, capture_output=True, text=True)
        for word in listed.stdout.split():
            if word.startswith("/"):
                shutil.copy(word, place / "lib")
        shutil.copytree(baileys.packages(), place / "packages", symlinks=True)
        shutil.copy(Path(baileys.__file__).parent / "peer.mjs", place)
        command = [
            *("/opt/backend/lib/ld-linux-x86-64.so.2", "--library-path", "/opt/backend/lib"),
            *("/opt/backend/node", "/opt/backend/peer.mjs", "/opt/backend/packages"),
            *(f"{_SESSIONS}/{_ACCOUNT}", self._world.server.environment()["HTTPS_PROXY"]),
            self._world.server.root_key.hex(),
        ]
        # Open both ways: otherwise it would end when a writer ends.
        (place / "run").write_text(f"#!/bin/sh\nexec {' '.join(command)} <>/opt/backend/orders\n")

    def _unit(self) -> str:
        return (
            "[Service]\nExecStart=/opt/backend/run\n"
            f"Environment=NODE_EXTRA_CA_CERTS={TRUST}/ca.pem\n"
            "StandardOutput=append:/opt/backend/events\nStandardError=journal\n"
            "[Install]\nWantedBy=multi-user.target\n"
        )

    async def until(self, event: str, **fields: str) -> dict[str, Any]:
        """The next event of this name and with these fields; earlier ones are skipped."""
        async with asyncio.timeout(_TIMEOUT):
            while True:
                while (found := self._next()) is not None:
                    self.since.append(found)
                    if found["event"] == event and fields.items() <= found.items():
                        return found
                await asyncio.sleep(0.1)

    def _next(self) -> dict[str, Any] | None:
        place = self._world.container.path("/opt/backend/events")
        whole = place.read_text().rpartition("\n")[0].splitlines() if place.exists() else []
        if self._seen == len(whole):
            return None
        self._seen += 1
        found: dict[str, Any] = json.loads(whole[self._seen - 1])
        return found

    async def send(self, to: str, text: str) -> None:
        """Let it send a message."""
        line = json.dumps({"to": to, "text": text}).encode() + b"\n"
        fd = os.open(self._world.container.path("/opt/backend/orders"), os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)
        await self.until("sent")
