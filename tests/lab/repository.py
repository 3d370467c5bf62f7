"""Trials: a signed repository on a web server, from which wad is installed and upgraded."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from wadpack.repository import Repository

from tests.lab.pages import commands
from tests.lab.trial import Begins, trial
from tests.lab.world import World
from tests.support.daemons import free_port

_KEY: Final = "lab@example.org"


@trial(Begins.BARE, spoils=True)
async def from_repository(world: World) -> None:
    """A machine that trusts the repository's key installs wad by name, and upgrades to the next version."""
    container, port = world.container, free_port()
    with_key = world.work / "gnupg"
    _make_key(with_key)
    try:
        url = f"http://127.0.0.1:{port}"
        repository = Repository(world.work / "apt", url, _KEY, with_key)
        await asyncio.to_thread(repository.publish, [world.deb])
        async with _served(repository.directory, port):
            found = commands("A repository of one's own", "docs/operations.md")
            lines = " && ".join(found).replace("https://example.org/apt", url)
            await container.run(lines, timeout=300)
            before = await container.property("wad", "InvocationID")
            assert await container.property("wad", "ActiveState") == "active"
            await asyncio.to_thread(repository.publish, [world.newer])
            await container.run("apt-get update && apt-get upgrade --yes --quiet", timeout=300)
        version = await container.run("dpkg-query -W -f '${Version}' wad")
        assert version.endswith("+next"), version
        assert await container.property("wad", "InvocationID") != before
    finally:
        subprocess.run(["gpgconf", "--homedir", with_key, "--kill", "all"], check=True)


def _make_key(home: Path) -> None:
    home.mkdir(mode=0o700)
    subprocess.run(
        [
            *("gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""),
            *("--quick-generate-key", _KEY, "ed25519", "sign", "never"),
        ],
        check=True,
        capture_output=True,
    )


@asynccontextmanager
async def _served(directory: Path, port: int) -> AsyncIterator[None]:
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield
    finally:
        server.kill()
        server.wait()
