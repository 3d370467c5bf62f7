"""A child process and the proof of its end."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

import pytest

from wad.engine.process import Process


def start(code: str, lines: list[str]) -> tuple[Process, socket.socket]:
    """A Python child; its end of the socketpair is file descriptor `int(sys.argv[1])`."""
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-c", code, str(theirs.fileno())]
    return Process.start(argv, {"PATH": "/usr/bin:/bin"}, theirs, lines.append), ours


async def test_its_output_and_its_end() -> None:
    """Lines as they arrive, and how it ended."""
    lines: list[str] = []
    process, ours = start("print('one'); print('two'); raise SystemExit(3)", lines)
    assert await asyncio.wait_for(process.ended, 20) == 3
    await process.drained()
    assert process.reason() == "the worker ended with code 3"
    assert lines == ["one", "two"]
    ours.close()


async def test_killed() -> None:
    """It has ended when `ended` is done, and the signal is named."""
    process, ours = start("import time; time.sleep(60)", [])
    process.kill()
    assert await asyncio.wait_for(process.ended, 20) == -signal.SIGKILL
    process.kill()  # a second call is not an error
    await process.drained()
    assert process.reason() == "the worker was killed by SIGKILL"
    ours.close()


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGQUIT])
async def test_a_panic_is_in_the_reason(number: signal.Signals) -> None:
    """The head of the library's report is kept, however long it is, and whichever signal follows."""
    code = (
        "import os; print('hello'); print('panic: oh no'); print('a stack\\n' * 300, flush=True); "
    )
    process, ours = start(f"{code}os.kill(os.getpid(), {int(number)})", [])
    await asyncio.wait_for(process.ended, 30)
    await process.drained()
    assert process.reason() == f"the worker was killed by {number.name} (panic: oh no)"
    assert process.crash_report()[:2] == ["panic: oh no", "a stack"]
    ours.close()


@pytest.mark.parametrize(
    ("end", "lines"),
    [
        ("raise SystemExit(3)", []),
        ("os.kill(os.getpid(), 9)", []),
        ("os.kill(os.getpid(), 15)", []),
        ("os.kill(os.getpid(), 3)", ["hello"]),
    ],
)
async def test_the_crash_report(end: str, lines: list[str]) -> None:
    """Without a report it is the end of the output; a process that ended normally has none."""
    process, ours = start(f"import os; print('hello', flush=True); {end}", [])
    await asyncio.wait_for(process.ended, 30)
    await process.drained()
    assert list(process.crash_report()) == lines
    ours.close()


async def test_a_line_without_an_end_is_bounded() -> None:
    """Megabytes without a newline are harmless."""
    lines: list[str] = []
    process, ours = start("print('x' * 3_000_000); print('after')", lines)
    await asyncio.wait_for(process.ended, 30)
    await process.drained()
    assert lines[-1] == "after"
    assert all(len(line) <= 1 << 17 for line in lines)
    ours.close()


async def test_the_socket_reaches_the_child_alone() -> None:
    """When the child has ended, our end is closed."""
    code = "import socket, sys; socket.socket(fileno=int(sys.argv[1])).sendall(b'hello')"
    process, ours = start(code, [])
    reader, writer = await asyncio.open_connection(sock=ours)
    assert await asyncio.wait_for(reader.read(), 20) == b"hello"
    await process.ended
    await process.drained()
    writer.close()
