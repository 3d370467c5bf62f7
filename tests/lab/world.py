"""The environment of the lab's trials: a container with wad, and a test server outside it on the same loopback."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.lab.container import Container
from tests.lab.figures import Figure
from tests.support.daemons import Daemon
from tests.whatsapp import Account, Peer, WhatsApp

LIBRARY: Final = "/usr/lib/wad/common/neonize/neonize-linux-amd64.so"
INSTALL: Final = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet"
TRUST: Final = "/opt/whatsapp"
OPERATOR: Final = "op"
"""A user of the machine, member of the group wad from the installation on."""
NUMBER: Final = "15550000001"
PEER: Final = "15550000002"
"""The numbers that the README uses."""


_EDITOR: Final = """\
#!/bin/sh
for file; do
    [ ! -f "$file" ] || sed -i '/^### Anything between here/r /opt/lines' "$file"
done
"""


class Installed(Daemon):
    """wad in the container, through its own socket."""

    def __init__(self, container: Container, directory: Path) -> None:
        super().__init__(directory)
        self.container = container

    async def call(self, method: str, **params: Any) -> Any:
        """Call one operation, like root in the container."""
        self.socket = self.container.path("/run/wad/control.sock")
        return await super().call(method, **params)


@dataclass(frozen=True, slots=True)
class Packages:
    """The installed packages: the package, the same with a higher version, and one in which the daemon served HTTP."""

    deb: Path
    newer: Path
    before: Path | None = None


@dataclass
class World:
    """Everything that a trial may use: one machine, and its test server.

    `work` is a temporary directory outside the container.
    """

    work: Path
    container: Container
    server: WhatsApp
    wad: Installed
    packages: Packages
    figures: list[Figure] = field(default_factory=list)
    account: Account | None = None
    bob: Peer | None = None

    def measured(self, measure: str, value: float, unit: str, goal: float) -> None:
        """Record a figure."""
        self.figures.append(Figure(measure, value, unit, goal))

    @property
    def deb(self) -> Path:
        """The package under test."""
        return self.packages.deb

    @property
    def newer(self) -> Path:
        """One to upgrade to."""
        return self.packages.newer

    @property
    def shop(self) -> Account:
        """The account at WhatsApp."""
        assert self.account is not None
        return self.account

    @property
    def peer(self) -> Peer:
        """A contact of the account."""
        assert self.bob is not None
        return self.bob

    def at_whatsapp(self) -> None:
        """The persons on this test server: the account's phone, and a contact."""
        self.account = self.server.add_account(NUMBER, name="shop")
        self.bob = self.server.add_peer(PEER, name="Bob")

    async def restart(self) -> None:
        """Restart like an administrator; connected again."""
        await self.container.run("systemctl restart wad")
        await self.connected()

    async def connected(self) -> float:
        """Wait until the account is connected, without a code to scan; returns the seconds."""
        begun = time.monotonic()
        while True:
            try:
                shown = await self.wad.account("shop")
            except (OSError, AssertionError) as error:
                shown = {"state": f"no daemon answers: {error!r}"}
            if shown["state"] == "connected":
                return time.monotonic() - begun
            assert not shown.get("qr"), shown
            assert time.monotonic() - begun < 60, shown
            await asyncio.sleep(0.05)

    async def nothing_lost(self) -> None:
        """Everything that was sent to the account is stored once."""
        await self.server.ledger.settled(self.shop, timeout=60)
        wanted = {entry.ident for entry in self.server.ledger.sent_to(self.shop)}
        begun = time.monotonic()
        while True:
            stored = Counter(m["wa_id"] for m in await self.wad.messages("shop"))
            if not wanted - set(stored):
                break
            assert time.monotonic() - begun < 60, f"{len(wanted - set(stored))} are missing"
            await asyncio.sleep(0.1)
        assert max(stored.values()) == 1, "a message is stored twice"
        assert not self.server.errors, self.server.errors

    async def copy_in(self, path: Path, to: str) -> None:
        """Put a file into the container."""
        target = self.container.path(to)
        await asyncio.to_thread(shutil.copyfile, path, target)

    async def write(self, to: str, text: str) -> None:
        """Write a file in the container, as its administrator."""
        target = self.container.path(to)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    async def drop_in(self, name: str, *lines: str) -> None:
        """`systemctl edit wad`."""
        await self.write(
            f"/etc/systemd/system/wad.service.d/{name}.conf", "\n".join(["[Service]", *lines, ""])
        )
        await self.container.run("systemctl daemon-reload")

    async def edit(self, command: str, *lines: str) -> None:
        """`systemctl edit UNIT`, at a terminal, with an editor that writes these lines at the marked position."""
        await self.write("/opt/lines", "\n".join([*lines, ""]))
        await self.write("/opt/editor", _EDITOR)
        await self.container.run("chmod +x /opt/editor")
        quoted = shlex.quote(f"env SYSTEMD_EDITOR=/opt/editor {command}")
        await self.container.run(f"script --quiet --return --command {quoted} /dev/null")
        await self.container.run("rm /opt/lines /opt/editor")

    async def no_drop_in(self, name: str) -> None:
        """Undo it."""
        self.container.path(f"/etc/systemd/system/wad.service.d/{name}.conf").unlink()
        await self.container.run("systemctl daemon-reload")

    async def trust(self) -> None:
        """Make the workers use the test server as WhatsApp: three variables in a drop-in, and the files they name."""
        environ = self.server.environment()
        site = Path(environ["PYTHONPATH"].partition(":")[0])
        for source in sorted(site.glob("*.*")):
            text = source.read_text()
            if source.suffix == ".json":
                text = json.dumps(json.loads(text) | {"library": LIBRARY})
            await self.write(f"{TRUST}/site/{source.name}", text)
        await self.write(f"{TRUST}/ca.pem", Path(environ["SSL_CERT_FILE"]).read_text())
        await self.container.run(f"chmod -R a+rX {TRUST}")
        await self.drop_in(
            "whatsapp",
            f"Environment=HTTPS_PROXY={environ['HTTPS_PROXY']}",
            f"Environment=SSL_CERT_FILE={TRUST}/ca.pem PYTHONPATH={TRUST}/site",
        )

    async def pid(self) -> int:
        """The daemon's process, as numbered in the container."""
        return int(await self.container.property("wad", "MainPID"))

    async def log(self, more: str = "") -> str:
        """The journal of wad."""
        return await self.container.run(f"journalctl --unit=wad --output=cat --no-pager {more}")

    async def traces(self) -> str:
        """The output that helps to find out why a trial failed."""
        units = "wad.service wad.socket wad-http-rpc.socket wad-http.socket wad-http.service"
        shown = await self.container.try_run(
            f"systemctl status --no-pager --full --lines=0 {units}; ls -la /run/wad /var/lib/wad"
        )
        return f"{shown.stdout}{shown.stderr}\n{await self.log('--lines=60 --unit=wad-http')}"
