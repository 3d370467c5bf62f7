"""Processes around a daemon with many accounts: a test server, and a client that requests /healthz."""

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
_IDLE = """
import asyncio
BODY = b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}'
async def answer(reader, writer):
    while await reader.read(4096):
        writer.write(BODY)
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
_PROBE = """
import socket, sys, time
ask = b"GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"
ports, every = [int(result) for result in sys.argv[2:]], float(sys.argv[1])
socks, due = {}, time.monotonic()
while True:
    for port in ports:
        begun = time.monotonic()
        try:
            sock = socks.pop(port, None) or socket.create_connection(("127.0.0.1", port), 30)
            sock.sendall(ask)
            result = "ok" if b" 200 " in sock.recv(4096)[:20] else "bad"
            if result == "ok":
                socks[port] = sock
        except OSError as error:
            result = type(error).__name__
        print(port, f"{time.monotonic() - begun:.6f}", result, flush=True)
    due = max(due + every, time.monotonic())
    time.sleep(max(0.0, due - time.monotonic()))
"""


class Server:
    """The test server of `python -m tests.whatsapp`, in a separate process; `ask` sends it a console command."""

    def __init__(self, process: Process, environ: dict[str, str]) -> None:
        self._process = process
        self._turn = asyncio.Lock()
        self.environ = environ
        self.pid = process.pid

    async def ask(self, *words: str) -> Any:
        """Its answer.  Raises ValueError with its error text."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = " ".join(f"'{result}'" for result in words)
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
    """The times of /healthz, in ms; `failed`: the other results, one word each."""

    times_ms: tuple[float, ...]
    failed: tuple[str, ...]

    @property
    def worst_ms(self) -> float:
        """The longest."""
        return max(self.times_ms, default=float("inf"))

    @property
    def p99_ms(self) -> float:
        """The 99th percentile."""
        ordered = sorted(self.times_ms)
        return ordered[int(len(ordered) * 0.99)] if ordered else float("inf")

    def __str__(self) -> str:
        text = f"worst {self.worst_ms:.0f} ms, p99 {self.p99_ms:.1f} ms of {len(self.times_ms)}"
        return f"{text}, failed {list(self.failed)}" if self.failed else text


class Probe:
    """Requests a port's /healthz 20 times a second, alternating with a server that does nothing; a separate process.

    The idle server's time is the machine's: on a busy machine a process waits for the CPU.
    """

    def __init__(self, port: int, directory: Path) -> None:
        self._port = port
        self._file = directory / "probe"
        self._processes: list[Process] = []
        self._idle = ""

    async def start(self) -> None:
        """Start the requests."""
        idle = await asyncio.create_subprocess_exec(sys.executable, "-c", _IDLE, stdout=PIPE)
        assert idle.stdout is not None
        self._idle = (await idle.stdout.readline()).decode().strip()
        with self._file.open("wb") as file:
            probe = await asyncio.create_subprocess_exec(
                sys.executable, "-S", "-c", _PROBE, "0.05", str(self._port), self._idle, stdout=file
            )
        self._processes = [probe, idle]

    async def end(self) -> tuple[Answers, Answers]:
        """Stop; returns the times of the daemon, and of the idle server."""
        for process in self._processes:
            process.kill()
            await process.wait()
        lines = [line.split() for line in self._file.read_text().splitlines()]
        whole = [line for line in lines if len(line) == 3]
        return _answers(whole, str(self._port)), _answers(whole, self._idle)


def _answers(lines: list[list[str]], of: str) -> Answers:
    times = tuple(
        float(took) * 1000 for port, took, result in lines if (port, result) == (of, "ok")
    )
    return Answers(
        times, tuple(result for port, _, result in lines if port == of and result != "ok")
    )


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]
