"""A control socket with a fake daemon behind it, in a thread, so that a blocking wadctl can ask it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import Result

from tests.support.fake_daemon import FakeDaemon
from tests.support.wadctl_command import wadctl, wadctl_json
from wad.api.control.server import serve_control
from wad.core.connection import State

ROOT = Path(__file__).parent.parent.parent


class Served:
    """A daemon that answers; `do` runs something in its loop."""

    def __init__(self, socket: Path) -> None:
        self.daemon = FakeDaemon()
        self.socket = socket
        self.loop = asyncio.new_event_loop()
        self._stop: asyncio.Event | None = None

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until `stop`."""
        self._stop = asyncio.Event()
        async with serve_control(self.daemon, self.socket, "no-such-group", grace=0.1):
            ready()
            await self._stop.wait()

    def do(self, act: Callable[[FakeDaemon], Any]) -> Any:
        """The result of `act`, run in the daemon's loop."""

        async def in_loop() -> Any:
            return act(self.daemon)

        return asyncio.run_coroutine_threadsafe(in_loop(), self.loop).result(30)

    def stop(self) -> None:
        """End it."""
        if self._stop is not None:
            self.loop.call_soon_threadsafe(self._stop.set)


@contextmanager
def served(socket: Path) -> Iterator[Served]:
    """A daemon that answers on `socket` while the block runs."""
    world, ready = Served(socket), threading.Event()

    def body() -> None:
        with asyncio.Runner(loop_factory=lambda: world.loop) as runner:
            runner.run(world.run(ready.set))

    thread = threading.Thread(target=body)
    thread.start()
    try:
        assert ready.wait(30)
        yield world
    finally:
        world.stop()
        thread.join(30)


def environment(socket: Path, **more: str) -> dict[str, str]:
    """What a wadctl process needs to know."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {
        "WAD_SOCKET": str(socket), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "TERM": "xterm",
    } | more  # fmt: skip


COMMAND = [sys.executable, "-m", "wadctl"]


class Terminal:
    """A wadctl process on a terminal of its own."""

    def __init__(self, *arguments: str, columns: int, lines: int, env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns=columns, lines=lines)
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, env=env,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def read_until(self, text: str) -> str:
        """All output so far, once it contains this text."""
        while text not in self.seen and (more := self._read()):
            self.seen += more
        assert text in self.seen, self.seen
        return self.seen

    def resize(self, *, columns: int, lines: int) -> None:
        """Change the size of the terminal."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C once it waits for an answer."""
        while self._state() != "S":
            time.sleep(0.01)
        self.process.send_signal(signal.SIGINT)

    def _state(self) -> str:
        """The state of the process, as in proc(5)."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2][:1]

    def wait(self) -> int:
        """The exit code, after all output was read."""
        while more := self._read():
            self.seen += more
        return self.process.wait(30)

    def _read(self) -> str:
        try:
            return os.read(self._master, 1 << 16).decode(errors="replace")
        except OSError:  # the other end of the terminal is closed
            return ""

    def close(self) -> None:
        """Give the terminal back."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


# --- what several files of tests ask for ----------------------------------------------------------------


@contextmanager
def two_accounts(socket: Path) -> Iterator[Served]:
    """A daemon with one account that is connected, and one that is not any more."""
    with served(socket) as world:
        world.do(lambda d: d.accounts.have("acc-1", "Shop").become(State.CONNECTED, "logged in"))
        world.do(lambda d: d.accounts.have("acc-2", "Depot").become(State.LOGGED_OUT, "removed"))
        yield world


def run(world: Served, *arguments: str, stdin: str = "") -> Result:
    """wadctl in this process, in a pipe."""
    return wadctl({"WAD_SOCKET": str(world.socket)}, *arguments, stdin=stdin)


def ask(world: Served, *arguments: str) -> Any:
    """The JSON document of a command that succeeds."""
    return wadctl_json({"WAD_SOCKET": str(world.socket)}, *arguments)


@contextmanager
def terminals(world: Served) -> Iterator[Callable[..., Terminal]]:
    """What starts wadctl on terminals of its own; they are given back at the end."""
    opened: list[Terminal] = []

    def start(*arguments: str, columns: int = 120, lines: int = 60, **env: str) -> Terminal:
        made = Terminal(
            *arguments, columns=columns, lines=lines, env=environment(world.socket, **env)
        )
        opened.append(made)
        return made

    try:
        yield start
    finally:
        for one in opened:
            one.close()
