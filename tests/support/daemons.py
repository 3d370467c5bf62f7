"""A real wad daemon in a process of its own, for whole-system tests, the demo and the bench.

It is started as a user starts it, without anything for tests, and called through its own interfaces.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from wad.core import wire

TIMEOUT = 30.0
_KEPT = ("PATH", "HOME", "LANG", "TERM", "VIRTUAL_ENV")


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Daemon:
    """One installation: a directory, and at most one running process on it."""

    def __init__(
        self, directory: Path, environ: Mapping[str, str] | None = None, *, engine: str = "neonize"
    ) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.socket = self.state / "control.sock"
        self.port = free_port()
        self.log = directory / "wad.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.command = [sys.executable, "-m", "wad", "run"]
        self.current_directory = Path(__file__).parent.parent.parent
        self.passed: tuple[int, ...] = ()
        self.notified: list[bytes] = []
        """What it reported to systemd while it started."""
        self.environ = {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "WAD_STATE_DIR": str(self.state),
            "WAD_ENGINE_KIND": engine,
            "PORT": str(self.port),
            "INSTANCE_ID": "test",
            **(environ or {}),
        }
        directory.mkdir(parents=True, exist_ok=True)

    async def start(self) -> float:
        """Start it and wait until it says READY; how many seconds that took."""
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.setblocking(False)
        path = self.directory / f"notify-{time.monotonic_ns()}"
        notify.bind(str(path))
        begun = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                pass_fds=self.passed,
                env={**self.environ, "NOTIFY_SOCKET": str(path)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.current_directory,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(TIMEOUT):
                self.notified = []
                while b"READY=1" not in self.notified:
                    self.notified.append(await asyncio.get_running_loop().sock_recv(notify, 4096))
        except TimeoutError:
            raise AssertionError(f"wad is not ready:\n{self.log.read_text()}") from None
        finally:
            notify.close()
            path.unlink()
        return time.monotonic() - begun

    async def end(self, how: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and wait until it is gone; its exit code."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(how)
        return await asyncio.to_thread(process.wait, TIMEOUT)

    async def call(self, method: str, **params: Any) -> Any:
        """Ask one operation over the control socket."""
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        try:
            request = wire.Request(1, method, params)
            writer.write(wire.encode(wire.HELLO) + wire.encode(request))
            decoder = wire.Decoder(wire.REPLY)
            while data := await reader.read(1 << 16):
                for frame in decoder.feed(data):
                    if frame == wire.HELLO:
                        continue
                    assert isinstance(frame, wire.Response)
                    if frame.error is not None:
                        raise frame.error
                    return frame.result
            raise AssertionError("the daemon hung up")
        finally:
            writer.close()

    async def account(self, ref: str) -> dict[str, Any]:
        """One account as the daemon shows it."""
        found: dict[str, Any] = await self.call("accounts.show", account=ref)
        return found

    async def wait_account(
        self, ref: str, condition: Callable[[dict[str, Any]], object], what: str
    ) -> dict[str, Any]:
        """Wait until a condition holds for an account."""
        shown: dict[str, Any] = {}
        try:
            async with asyncio.timeout(TIMEOUT):
                while True:
                    shown = await self.account(ref)
                    if condition(shown):
                        return shown
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"waited {TIMEOUT:g} s in vain for {what}: {shown}") from None

    async def wait_state(self, ref: str, state: str) -> dict[str, Any]:
        """Wait until an account is in a state."""
        return await self.wait_account(ref, lambda shown: shown["state"] == state, state)

    async def qr(self, ref: str) -> str:
        """Ask for a QR code and wait for it."""
        await self.call("accounts.pair", account=ref)
        shown = await self.wait_account(ref, lambda shown: shown["qr"], "a QR code")
        return str(shown["qr"])

    async def messages(self, account: str) -> list[dict[str, Any]]:
        """Every stored message of an account, oldest first."""
        found: list[dict[str, Any]] = []
        for thread in (await self.call("threads.list", account=account, limit=1000))["threads"]:
            after = ""
            while True:
                page = await self.call(
                    "messages.list", account=account, chat=thread["chat"], limit=1000, before=after
                )
                found += page["messages"]
                after = page["next"]
                if not after:
                    break
        found.reverse()
        return sorted(found, key=lambda message: int(message["at_ms"]))

    async def wadctl(
        self, *arguments: str, timeout: float = TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        """Run the real command."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "wadctl", *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=Path(__file__).parent.parent.parent,
            check=False,
        )

    async def doctor(self, *arguments: str, code: int | None = None) -> dict[str, Any]:
        """The findings of the doctor, by id; `code`: the exit code that it must have."""
        done = await self.wadctl("doctor", "--json", *arguments, timeout=120)
        assert code in (None, done.returncode), done
        return {check["id"]: check for check in json.loads(done.stdout)["checks"]}

    async def wadctl_json(self, *arguments: str) -> Any:
        """The JSON that the real command prints; it must succeed."""
        done = await self.wadctl(*arguments, "--json")
        assert done.returncode == 0, done
        return json.loads(done.stdout)


@asynccontextmanager
async def a_daemon(
    directory: Path, environ: Mapping[str, str] | None = None, *, engine: str = "neonize"
) -> AsyncIterator[Daemon]:
    """A running daemon; killed at the end if it still runs."""
    daemon = Daemon(directory, environ, engine=engine)
    await daemon.start()
    try:
        yield daemon
    finally:
        if daemon.process is not None:
            daemon.process.kill()
            await asyncio.to_thread(daemon.process.wait)
