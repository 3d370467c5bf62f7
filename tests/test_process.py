"""A child process and the certainty of its death."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

from wad.engine.process import Process


def start(code: str, lines: list[str]) -> tuple[Process, socket.socket]:
    """A Python child; its end of the socketpair is file descriptor `int(sys.argv[1])`."""
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-c", code, str(theirs.fileno())]
    return Process.start(argv, {"PATH": "/usr/bin:/bin"}, theirs, lines.append), ours


async def test_its_output_and_its_end() -> None:
    """Lines as they come, and how it ended."""
    lines: list[str] = []
    process, ours = start("print('one'); print('two'); raise SystemExit(3)", lines)
    assert await asyncio.wait_for(process.ended, 20) == 3
    await process.drained()
    assert process.reason() == "the worker ended with code 3"
    assert lines == ["one", "two"]
    ours.close()


async def test_killed() -> None:
    """It is gone when `ended` says so, and the signal is named."""
    process, ours = start("import time; time.sleep(60)", [])
    process.kill()
    assert await asyncio.wait_for(process.ended, 20) == -signal.SIGKILL
    process.kill()  # once more is no error
    await process.drained()
    assert process.reason() == "the worker was killed by SIGKILL"
    ours.close()


async def test_a_panic_is_in_the_reason() -> None:
    """The library's last words are kept."""
    process, ours = start("print('panic: oh no', flush=True); import os; os.abort()", [])
    await asyncio.wait_for(process.ended, 20)
    await process.drained()
    assert process.reason() == "the worker was killed by SIGABRT (panic: oh no)"
    ours.close()


async def test_a_line_without_an_end_is_bounded() -> None:
    """Megabytes without a newline do no harm."""
    lines: list[str] = []
    process, ours = start("print('x' * 3_000_000); print('after')", lines)
    await asyncio.wait_for(process.ended, 20)
    await process.drained()
    assert lines[-1] == "after"
    assert all(len(line) <= 1 << 17 for line in lines)
    ours.close()


async def test_the_socket_reaches_the_child_alone() -> None:
    """When the child is gone, our end sees the end."""
    code = "import socket, sys; socket.socket(fileno=int(sys.argv[1])).sendall(b'hello')"
    process, ours = start(code, [])
    reader, writer = await asyncio.open_connection(sock=ours)
    assert await asyncio.wait_for(reader.read(), 20) == b"hello"
    await process.ended
    await process.drained()
    writer.close()
