"""The real Baileys in a process of its own: the backend that wad replaces, in small, or another user's client.

    async with a_backend(server, directory) as backend:
        await backend.pair(account)
        await backend.send("15550000002@s.whatsapp.net", "hello")

Its packages come from the npm registry, as package-lock.json pins them, once per machine,
into the user's cache.
Baileys names its libsignal by a git address; the registry's package takes that directory (`overrides` in package.json).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.whatsapp import Account, WhatsApp

_HERE = Path(__file__).parent
_MANIFEST = ("package.json", "package-lock.json")
_TIMEOUT = 30.0
_INSTALLING = 300.0


@cache
def packages() -> Path:
    """The directory of the packages; installed when they are missing.  Raises CalledProcessError, FileNotFoundError."""
    manifest = b"".join((_HERE / name).read_bytes() for name in _MANIFEST)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wad-tests"
    directory = caches / f"baileys-{hashlib.sha256(manifest).hexdigest()[:12]}"
    if directory.exists():
        return directory
    caches.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=caches, prefix="installing-") as name:
        fresh = Path(name) / "packages"
        fresh.mkdir()
        for file in _MANIFEST:
            shutil.copy(_HERE / file, fresh)
        # No scripts: one of them would fetch what the registry does not have.
        subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund"],
            cwd=fresh, check=True, timeout=_INSTALLING, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            fresh.rename(directory)
        except OSError:
            if not directory.exists():  # else another run of the tests was faster
                raise
    return directory


class Backend:
    """A running process.  `reported` has all its events."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self.reported: list[dict[str, Any]] = []
        self._untaken: list[dict[str, Any]] = []
        self._log = log

    async def next(self, event: str, **fields: Any) -> dict[str, Any]:
        """The first event of this name with these fields that was not taken yet; others stay."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                while True:
                    for one in self._untaken:
                        if one["event"] == event and fields.items() <= one.items():
                            self._untaken.remove(one)
                            return one
                    if not await self._read():
                        break
        except TimeoutError:
            pass
        log = self._log.read_text(errors="replace")[-3000:]
        raise AssertionError(
            f"Baileys did not report {event!r} {fields}, but {self.reported}; its log ends: {log}"
        )

    async def _read(self) -> bool:
        assert self.process.stdout is not None
        if not (line := await self.process.stdout.readline()):
            return False
        found = json.loads(line)
        self.reported.append(found)
        assert found["event"] != "failed", found
        self._untaken.append(found)
        return True

    async def pair(self, account: Account) -> None:
        """Show a QR code, let the account's phone scan it, and wait until it is connected."""
        await account.phone.scan((await self.next("qr"))["code"])
        await self.next("open")

    async def received(self, text: str) -> dict[str, Any]:
        """Wait for a message of this text."""
        return await self.next("message", text=text)

    async def send(self, to: str, text: str, *, quoted: str = "") -> str:
        """Write to a JID, in reply to the message with the id `quoted`; the message's id."""
        return await self.send_content(to, {"text": text}, quoted=quoted)

    async def send_content(self, to: str, content: dict[str, Any], *, quoted: str = "") -> str:
        """Send any content, as peer.mjs describes it; the message's id."""
        assert self.process.stdin is not None
        order = {"to": to, "content": content, "quoted": quoted}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        return str((await self.next("sent"))["id"])

    async def stop(self) -> None:
        """Stop it, as a service is stopped: what it has to write is written."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        await asyncio.wait_for(self.process.wait(), _TIMEOUT)


@asynccontextmanager
async def a_backend(server: WhatsApp, directory: Path) -> AsyncIterator[Backend]:
    """A process on a session directory, which it makes; killed at the end if it still runs."""
    root = await asyncio.to_thread(packages)
    environ = server.environment()
    log = directory.with_suffix(".log")
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            "node", str(_HERE / "peer.mjs"), str(root), str(directory), environ["HTTPS_PROXY"],
            server.root_key.hex(),
            env={**os.environ, "NODE_EXTRA_CA_CERTS": environ["SSL_CERT_FILE"]},
            stdin=PIPE, stdout=PIPE, stderr=errors,
        )  # fmt: skip
    try:
        yield Backend(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
