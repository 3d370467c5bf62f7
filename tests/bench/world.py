"""Processes around a daemon with many accounts: WhatsApp in one of its own, and somebody who asks /healthz."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CLONE = Path(__file__).parent.parent.parent
_PROBE = """
import socket, sys, time
port, every = int(sys.argv[1]), float(sys.argv[2])
ask = b"GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"
sock, due = None, time.monotonic()
while True:
    begun = time.monotonic()
    try:
        if sock is None:
            sock = socket.create_connection(("127.0.0.1", port), 30)
        sock.sendall(ask)
        word = "ok" if b" 200 " in sock.recv(4096)[:20] else "bad"
        if word == "bad":
            sock = None
    except OSError as error:
        sock, word = None, type(error).__name__
    now = time.monotonic()
    print(f"{begun:.6f} {now - begun:.6f} {word}", flush=True)
    due = max(due + every, now)
    time.sleep(max(0.0, due - time.monotonic()))
"""


class Server:
    """The WhatsApp of `python -m tests.whatsapp`, in a process of its own; `ask` gives it a command of its console."""

    def __init__(self, process: Process, environ: dict[str, str]) -> None:
        self._process = process
        self._turn = asyncio.Lock()
        self.environ = environ
        self.pid = process.pid

    async def ask(self, *words: str) -> Any:
        """Its answer.  Raises ValueError with its words."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = " ".join(f"'{word}'" for word in words)
        async with self._turn:
            self._process.stdin.write(line.encode() + b"\n")
            answer = json.loads(await self._process.stdout.readline())
        if isinstance(answer, dict) and "error" in answer:
            raise ValueError(answer["error"])
        return answer


@asynccontextmanager
async def a_server_process() -> AsyncIterator[Server]:
    """Running until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.whatsapp", "--json",
        stdin=PIPE, stdout=PIPE, limit=1 << 24, cwd=_CLONE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield Server(process, json.loads(await process.stdout.readline()))
    finally:
        process.kill()
        await process.wait()


@dataclass(frozen=True)
class Answers:
    """How long /healthz took, in ms; `failed`: what came instead of an answer, one word each."""

    times_ms: tuple[float, ...]
    failed: tuple[str, ...]

    @property
    def worst_ms(self) -> float:
        """The longest."""
        return max(self.times_ms, default=float("inf"))

    @property
    def p99_ms(self) -> float:
        """What 99 of 100 took at most."""
        ordered = sorted(self.times_ms)
        return ordered[int(len(ordered) * 0.99)] if ordered else float("inf")

    def __str__(self) -> str:
        text = f"worst {self.worst_ms:.0f} ms, p99 {self.p99_ms:.1f} ms of {len(self.times_ms)}"
        return f"{text}, failed {list(self.failed)}" if self.failed else text


class Probe:
    """Asks a port's /healthz 20 times a second, from a process of its own."""

    def __init__(self, port: int, directory: Path) -> None:
        self._port = port
        self._file = directory / "probe"
        self._process: Process | None = None

    async def start(self) -> None:
        """Ask from now on."""
        with self._file.open("wb") as file:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-S", "-c", _PROBE, str(self._port), "0.05", stdout=file
            )

    async def end(self) -> Answers:
        """Ask no more; what was answered."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        lines = [line.split() for line in self._file.read_text().splitlines()]
        whole = [line for line in lines if len(line) == 3]
        times = tuple(float(took) * 1000 for _, took, word in whole if word == "ok")
        return Answers(times, tuple(word for _, _, word in whole if word != "ok"))


def load() -> float:
    """How many processes wanted the CPU in the last minute."""
    return os.getloadavg()[0]
