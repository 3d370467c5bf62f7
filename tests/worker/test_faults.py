"""No part of a worker dies alone: whatever nobody handles ends the process, says so, and leaves its traceback."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from tests.support.small_world import PATIENT
from wad.core import wire
from wad.engine.port import FAULT
from wad.engine.process import Process

WORKER = """
import socket, sys, threading
from concurrent.futures import ThreadPoolExecutor
from ctypes import CFUNCTYPE
from wad.lib.clock import SystemClock
from wad.engine import link as links, receipts
from wad.worker.faults import Faults
from wad.worker.link import Link, Permission

def fail(*_):
    raise KeyError("x")

link = Link(socket.socket(fileno=int(sys.argv[1])))
faults = Faults(link.last_word)
faults.install()
{act}
threading.Event().wait()
"""


@pytest.mark.parametrize(
    ("act", "who"),
    [
        ("link.notice = fail; link.spooled(1)", "thread announce"),
        ("links.time.sleep = fail; Permission(1e12, SystemClock()).watch()", "thread permission"),
        ("receipts.time.sleep = fail; gate = receipts.Gate(fail); gate._news.set()", "thread receipts"),
        ("threading.Thread(target=fail, name='rest').start()", "thread rest"),
        ("ThreadPoolExecutor(1).submit(faults.guarded('an answer', fail))", "an answer"),
        ("CFUNCTYPE(None)(fail)()", "a callback of the library"),
        ("link._lock.acquire(); threading.Thread(target=fail, name='rest').start()", ""),
    ],
)  # fmt: skip
async def test_whatever_fails_in_a_worker_ends_it(act: str, who: str) -> None:
    """Its last word names the part, if it can be said; its traceback is in what it wrote."""
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-c", WORKER.replace("{act}", act), str(theirs.fileno())]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    process = Process.start(argv, environ, theirs, lambda line: None)
    with ours:
        async with asyncio.timeout(PATIENT):
            assert await process.ended == FAULT
            await process.drained()
        frames = wire.Decoder().feed(ours.recv(1 << 16))
    words = [frame.params[0] for frame in frames if isinstance(frame, wire.Notice)]
    assert words == ([f"{who} of the worker failed: KeyError"] if who else [])
    assert "KeyError: 'x'" in process.last_words()
